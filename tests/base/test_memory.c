/* Aligned, zeroed, counted and limited memory; the arena. */
#include "base/memory.h"

#include <stdint.h>
#include <string.h>

#include "base/context.h"
#include "support/check.h"

static void counted_and_limited(void) {
    ht_context_options options = {.threads = 1, .memory_limit = 1 << 20};
    ht_context *ctx;
    REQUIRE_OK(ht_context_create(&options, &ctx));
    size_t before = ht_context_memory_used(ctx);
    uint8_t *p, *q = (uint8_t *)1;
    REQUIRE_OK(ht_allocate(ctx, 1000, 7, "test", &p));
    CHECK_INT((uintptr_t)p % 64, 0);
    for (size_t i = 0; i < 7000; i++)
        CHECK(p[i] == 0);
    CHECK(ht_context_memory_used(ctx) >= before + 7000);
    CHECK_FAILS(ht_allocate(ctx, 1 << 20, 1, "big block", &q), HT_ERR_MEMORY);
    CHECK(q == NULL);
    CHECK_CONTAINS(ht_error_message(), "big block needs");
    CHECK_CONTAINS(ht_error_message(), "memory limit is 1048576");
    CHECK_FAILS(ht_allocate(ctx, SIZE_MAX / 2, 4, "overflow", &q), HT_ERR_MEMORY);
    ht_release(ctx, p);
    ht_release(ctx, NULL);
    CHECK_INT(ht_context_memory_used(ctx), before);
    CHECK(ht_context_memory_peak(ctx) >= before + 7000);
    ht_context_destroy(ctx);
}

static void arena(void) {
    ht_context *ctx;
    REQUIRE_OK(ht_context_create(NULL, &ctx));
    size_t before = ht_context_memory_used(ctx);
    ht_arena arena;
    ht_arena_init(&arena, ctx);
    for (size_t i = 0; i < 5000; i++) {
        char *text = ht_arena_printf(&arena, "number %zu", i);
        REQUIRE(text);
        CHECK_INT((uintptr_t)text % 16, 0);
    }
    char *copy = ht_arena_string(&arena, "abcdef", 3);
    CHECK_TEXT(copy, "abc");
    uint8_t *large = ht_arena_alloc(&arena, 300000);
    REQUIRE(large);
    memset(large, 1, 300000);
    CHECK(ht_arena_alloc(&arena, SIZE_MAX) == NULL);
    ht_arena_release(&arena);
    CHECK_INT(ht_context_memory_used(ctx), before);
    ht_context_destroy(ctx);
}

int main(void) {
    RUN(counted_and_limited);
    RUN(arena);
    return check_finish();
}
