/* The pool: every index once, failures of the lowest index win, nesting, cancellation, a host's own loop. */
#include "base/pool.h"

#include <stdatomic.h>

#include "base/context.h"
#include "base/status.h"
#include "support/check.h"

enum { COUNT = 10000 };
static atomic_int seen[COUNT];

static void clear_seen(void) {
    for (size_t i = 0; i < COUNT; i++)
        atomic_store(&seen[i], 0);
}

static atomic_int wrong_workers;

static ht_status mark(void *arg, size_t index, size_t worker) {
    atomic_fetch_add(&seen[index], 1);
    if (worker >= *(size_t *)arg)
        atomic_fetch_add(&wrong_workers, 1);
    return HT_OK;
}

static ht_context *context_with(size_t threads) {
    ht_context_options options = ht_context_options_default();
    options.threads = threads;
    ht_context *ctx = NULL;
    CHECK_OK(ht_context_create(&options, &ctx));
    return ctx;
}

static void each_index_once(void) {
    for (size_t threads = 1; threads <= 8; threads++) {
        ht_context *ctx = context_with(threads);
        REQUIRE(ctx);
        CHECK_INT(ht_context_threads(ctx), threads);
        for (int round = 0; round < 50; round++) {
            clear_seen();
            size_t count = round % 2 ? COUNT : (size_t)round;
            CHECK_OK(ht_parallel_for(ctx, count, mark, &threads));
            size_t wrong = 0;
            for (size_t i = 0; i < COUNT; i++)
                wrong += atomic_load(&seen[i]) != (i < count);
            CHECK_INT(wrong, 0);
        }
        CHECK_INT(atomic_load(&wrong_workers), 0);
        ht_context_destroy(ctx);
    }
}

static ht_status fail_from_7(void *arg, size_t index, size_t worker) {
    (void)arg;
    (void)worker;
    return index >= 7 ? ht_fail(HT_ERR_SHAPE, "index %zu failed", index) : HT_OK;
}

static void lowest_failure_wins(void) {
    ht_context *ctx = context_with(4);
    REQUIRE(ctx);
    for (int round = 0; round < 200; round++) {
        CHECK_FAILS(ht_parallel_for(ctx, 100, fail_from_7, NULL), HT_ERR_SHAPE);
        CHECK_TEXT(ht_error_message(), "index 7 failed");
    }
    ht_context_destroy(ctx);
}

struct nest {
    ht_context *ctx;
    atomic_size_t total;
};

static ht_status inner(void *arg, size_t index, size_t worker) {
    (void)worker;
    atomic_fetch_add(&((struct nest *)arg)->total, index);
    return HT_OK;
}

static ht_status outer(void *arg, size_t index, size_t worker) {
    (void)index;
    (void)worker;
    return ht_parallel_for(((struct nest *)arg)->ctx, 10, inner, arg);
}

static void nested_loops(void) {
    struct nest nest = {.ctx = context_with(3)};
    REQUIRE(nest.ctx);
    CHECK_OK(ht_parallel_for(nest.ctx, 20, outer, &nest));
    CHECK_INT(atomic_load(&nest.total), 20 * 45);
    ht_context_destroy(nest.ctx);
}

static void host_loop(void *user, size_t count, ht_task_fn *task, void *arg) {
    ++*(int *)user;
    for (size_t i = 0; i < count; i++)
        task(arg, i);
}

static void hosts_own_threads(void) {
    int calls = 0;
    ht_context_options options = {.threads = 4, .parallel_for = host_loop, .parallel_for_user = &calls};
    ht_context *ctx;
    REQUIRE_OK(ht_context_create(&options, &ctx));
    clear_seen();
    size_t threads = 4;
    CHECK_OK(ht_parallel_for(ctx, COUNT, mark, &threads));
    CHECK_INT(calls, 1);
    size_t wrong = 0;
    for (size_t i = 0; i < COUNT; i++)
        wrong += atomic_load(&seen[i]) != 1;
    CHECK_INT(wrong, 0);
    ht_context_destroy(ctx);
}

static void cancellation(void) {
    ht_context *ctx = context_with(2);
    REQUIRE(ctx);
    CHECK_OK(ht_context_check_cancelled(ctx));
    ht_context_cancel(ctx);
    CHECK_FAILS(ht_context_check_cancelled(ctx), HT_ERR_CANCELLED);
    ht_context_destroy(ctx);
}

int main(void) {
    RUN(each_index_once);
    RUN(lowest_failure_wins);
    RUN(nested_loops);
    RUN(hosts_own_threads);
    RUN(cancellation);
    return check_finish();
}
