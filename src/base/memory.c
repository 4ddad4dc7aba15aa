/* Memory of a context. Every block carries a 64-byte header with its size, so that use can be counted and the
 * context's limit enforced without a table.
 *
 *     |<- 64 bytes: size ->|<- the caller's bytes, 64-byte aligned ->|
 *
 * SPDX-License-Identifier: BSD-3-Clause */
#include "base/memory.h"

#include <stdarg.h> /* va_list */
#include <stdint.h> /* SIZE_MAX */
#include <stdio.h>  /* vsnprintf */
#include <string.h> /* memset, memcpy */

#include "base/context.h"
#include "base/status.h"

enum { HEADER = 64, ARENA_BLOCK = 64 * 1024 };

static ht_status reserve(ht_context *ctx, size_t bytes, const char *what) {
    size_t limit = ctx->options.memory_limit;
    size_t used = atomic_fetch_add(&ctx->memory_used, bytes) + bytes;
    if (limit && used > limit) {
        atomic_fetch_sub(&ctx->memory_used, bytes);
        return ht_fail(HT_ERR_MEMORY,
                       "%s needs %zu bytes with %zu in use, memory limit is %zu: raise the limit or use fewer threads",
                       what, bytes, used - bytes, limit);
    }
    size_t peak = atomic_load(&ctx->memory_peak);
    while (used > peak && !atomic_compare_exchange_weak(&ctx->memory_peak, &peak, used))
        ;
    return HT_OK;
}

ht_status ht_allocate_raw(ht_context *ctx, size_t count, size_t size, const char *what, void *out) {
    void *memory = NULL;
    memcpy(out, &memory, sizeof memory); /* any object pointer, without aliasing trouble */
    if (size && count > (SIZE_MAX - 2 * HEADER) / size)
        return ht_fail(HT_ERR_MEMORY, "%s: %zu x %zu bytes do not fit in memory", what, count, size);
    size_t bytes = (count * size + HEADER + 63) / 64 * 64;
    HT_TRY(reserve(ctx, bytes, what));
    uint8_t *block = ctx->options.allocator.alloc(ctx->options.allocator.user, bytes);
    if (!block) {
        atomic_fetch_sub(&ctx->memory_used, bytes);
        return ht_fail(HT_ERR_MEMORY, "%s: the system has no %zu bytes left", what, bytes);
    }
    memcpy(block, &bytes, sizeof bytes);
    memory = block + HEADER;
    memcpy(out, &memory, sizeof memory);
    return HT_OK;
}

ht_status ht_allocate(ht_context *ctx, size_t count, size_t size, const char *what, void *out) {
    HT_TRY(ht_allocate_raw(ctx, count, size, what, out));
    void *memory;
    memcpy(&memory, out, sizeof memory);
    memset(memory, 0, count * size);
    return HT_OK;
}

void ht_release(ht_context *ctx, void *memory) {
    if (!memory)
        return;
    uint8_t *block = (uint8_t *)memory - HEADER;
    size_t bytes;
    memcpy(&bytes, block, sizeof bytes);
    atomic_fetch_sub(&ctx->memory_used, bytes);
    ctx->options.allocator.release(ctx->options.allocator.user, block);
}

struct ht_arena_block {
    struct ht_arena_block *next;
    size_t used, capacity;
};

void ht_arena_init(ht_arena *arena, ht_context *ctx) {
    arena->ctx = ctx;
    arena->block = NULL;
}

void *ht_arena_alloc(ht_arena *arena, size_t bytes) {
    struct ht_arena_block *block = arena->block;
    if (bytes > SIZE_MAX - 16) {
        ht_fail(HT_ERR_MEMORY, "arena: %zu bytes do not fit in memory", bytes);
        return NULL;
    }
    bytes = (bytes + 15) / 16 * 16;
    if (!block || block->capacity - block->used < bytes) {
        size_t capacity = bytes > ARENA_BLOCK ? bytes : ARENA_BLOCK;
        if (ht_allocate(arena->ctx, 1, HEADER + capacity, "arena", &block) != HT_OK)
            return NULL;
        block->capacity = capacity;
        block->next = arena->block;
        arena->block = block;
    }
    void *memory = (uint8_t *)block + HEADER + block->used;
    block->used += bytes;
    return memory;
}

char *ht_arena_string(ht_arena *arena, const char *text, size_t bytes) {
    char *copy = ht_arena_alloc(arena, bytes + 1);
    if (copy && bytes)
        memcpy(copy, text, bytes);
    return copy;
}

char *ht_arena_printf(ht_arena *arena, const char *format, ...) {
    va_list args;
    va_start(args, format);
    va_list again;
    va_copy(again, args);
    int length = vsnprintf(NULL, 0, format, args);
    va_end(args);
    char *copy = length < 0 ? NULL : ht_arena_alloc(arena, (size_t)length + 1);
    if (copy)
        vsnprintf(copy, (size_t)length + 1, format, again);
    va_end(again);
    return copy;
}

void ht_arena_release(ht_arena *arena) {
    while (arena->block) {
        struct ht_arena_block *next = arena->block->next;
        ht_release(arena->ctx, arena->block);
        arena->block = next;
    }
}
