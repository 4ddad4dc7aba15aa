/* The thread pool: fork-join loops over independent indices. See pool.c for the design. */
#ifndef HT_BASE_POOL_H
#define HT_BASE_POOL_H

#include <stddef.h>

#include <halftone/context.h>

/* One index of a parallel loop. worker < ht_context_threads(ctx) names the thread's scratch. */
typedef ht_status ht_work_fn(void *arg, size_t index, size_t worker);

/* work(arg, i, worker) for every i in [0, count), each exactly once, on the context's threads; returns when all are
 * done. Indices are handed out in increasing order. When calls fail, no new index is started and the failure of the
 * lowest failed index is returned, its message moved to the calling thread. A loop inside a loop runs on the thread
 * that met it. A failure to make progress is impossible: the caller works too. */
ht_status ht_parallel_for(ht_context *ctx, size_t count, ht_work_fn *work, void *arg);

typedef struct ht_pool ht_pool;
ht_status ht_pool_create(ht_context *ctx, size_t threads, ht_pool **out);
void ht_pool_destroy(ht_context *ctx, ht_pool *pool);
/* CPUs this process may use: affinity mask, capped by the cgroup quota (rounded up); at least 1. */
size_t ht_pool_default_threads(void);

#endif
