/* The thread pool: fork-join over an index range.
 *
 * Workers spin for some tens of microseconds on a generation counter, then sleep on a futex-backed condition
 * (pthread); the poster wakes them only when the sleeper count says so. Measured designs and figures:
 * cpu-kernels specification, section 8 (fork-join 0.2 us spinning against 45 us through a sleeping wake-up).
 *
 *   generation   even = idle, odd never seen: +1 per posted loop. Workers run the loop of the generation they saw.
 *   next         the next index; taken by fetch_add, so indices start in increasing order
 *   running      workers inside the current loop; the poster waits for it to reach zero
 *
 * A loop posted from inside a loop runs on its own thread: a thread-local says so.
 * SPDX-License-Identifier: BSD-3-Clause */
#include "base/pool.h"

#include <pthread.h>
#include <sched.h> /* sched_getaffinity */
#include <stdatomic.h>
#include <stdio.h>  /* fopen, fscanf */
#include <string.h> /* memcpy */

#include "base/context.h"
#include "base/memory.h"
#include "base/status.h"

enum { SPINS = 4000, SLOT = 64, MESSAGE = 1024 }; /* SLOT: a cache line, and what ht_allocate aligns to */

struct ht_pool {
    _Alignas(SLOT) atomic_uint generation;
    _Alignas(SLOT) atomic_size_t next;
    _Alignas(SLOT) atomic_uint running;
    _Alignas(SLOT) atomic_uint sleepers;
    atomic_int stopping;
    pthread_mutex_t mutex; /* for sleeping, and for the first failure */
    pthread_cond_t wake;
    size_t threads; /* the caller included */
    pthread_t *handle;
    struct worker {
        struct ht_pool *pool;
        size_t index;
    } * worker;
    /* the loop being run */
    size_t count;
    ht_work_fn *work;
    void *arg;
    /* failure of the lowest index; guarded by mutex */
    size_t failed_index;
    ht_status failed_status;
    char failed_message[MESSAGE];
};

static _Thread_local int inside_loop;
static _Thread_local size_t current_worker;

static void relax(void) {
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

static void keep_failure(ht_pool *pool, size_t index, ht_status status) {
    pthread_mutex_lock(&pool->mutex);
    if (pool->failed_status == HT_OK || index < pool->failed_index) {
        pool->failed_index = index;
        pool->failed_status = status;
        snprintf(pool->failed_message, MESSAGE, "%s", ht_error_message());
    }
    pthread_mutex_unlock(&pool->mutex);
    atomic_store(&pool->next, pool->count); /* start nothing new */
}

static void run_share(ht_pool *pool, size_t worker) {
    inside_loop = 1;
    current_worker = worker;
    for (;;) {
        size_t index = atomic_fetch_add(&pool->next, 1);
        if (index >= pool->count)
            break;
        ht_status status = pool->work(pool->arg, index, worker);
        if (status != HT_OK)
            keep_failure(pool, index, status);
    }
    inside_loop = 0;
    current_worker = 0;
}

/* Wait until the generation is no longer `seen`; returns the new one. */
static unsigned await_generation(ht_pool *pool, unsigned seen) {
    for (int spin = 0; spin < SPINS; spin++) {
        unsigned now = atomic_load(&pool->generation);
        if (now != seen)
            return now;
        relax();
    }
    pthread_mutex_lock(&pool->mutex);
    atomic_fetch_add(&pool->sleepers, 1); /* before looking again: the poster looks at it after posting */
    unsigned now;
    while ((now = atomic_load(&pool->generation)) == seen)
        pthread_cond_wait(&pool->wake, &pool->mutex);
    atomic_fetch_sub(&pool->sleepers, 1);
    pthread_mutex_unlock(&pool->mutex);
    return now;
}

static void *worker_main(void *argument) {
    struct worker *self = argument;
    ht_pool *pool = self->pool;
    unsigned seen = 0;
    for (;;) {
        seen = await_generation(pool, seen);
        if (atomic_load(&pool->stopping))
            return NULL;
        run_share(pool, self->index);
        atomic_fetch_sub(&pool->running, 1);
    }
}

static void post(ht_pool *pool) {
    atomic_fetch_add(&pool->generation, 1);
    if (atomic_load(&pool->sleepers)) {
        pthread_mutex_lock(&pool->mutex);
        pthread_cond_broadcast(&pool->wake);
        pthread_mutex_unlock(&pool->mutex);
    }
}

static ht_status run_serially(size_t count, ht_work_fn *work, void *arg, size_t worker) {
    for (size_t i = 0; i < count; i++)
        HT_TRY(work(arg, i, worker));
    return HT_OK;
}

/* --- a host's own parallel-for ---------------------------------------------------------------------------- */

struct hosted {
    ht_pool *pool;
    atomic_size_t worker;
};

static void hosted_task(void *argument, size_t share) {
    struct hosted *hosted = argument;
    (void)share;
    run_share(hosted->pool, atomic_fetch_add(&hosted->worker, 1));
}

static ht_status finish(ht_pool *pool) {
    if (pool->failed_status == HT_OK)
        return HT_OK;
    return ht_fail(pool->failed_status, "%s", pool->failed_message);
}

ht_status ht_parallel_for(ht_context *ctx, size_t count, ht_work_fn *work, void *arg) {
    ht_pool *pool = ctx->pool;
    if (count == 0)
        return HT_OK;
    if (inside_loop || count == 1 || pool->threads == 1)
        return run_serially(count, work, arg, current_worker); /* nested: this thread keeps its own scratch */
    pool->count = count;
    pool->work = work;
    pool->arg = arg;
    pool->failed_status = HT_OK;
    atomic_store(&pool->next, 0);
    if (ctx->options.parallel_for) {
        struct hosted hosted = {.pool = pool};
        ctx->options.parallel_for(ctx->options.parallel_for_user, pool->threads, hosted_task, &hosted);
        return finish(pool);
    }
    atomic_store(&pool->running, (unsigned)(pool->threads - 1));
    post(pool);
    run_share(pool, 0);
    for (int spin = 0; atomic_load(&pool->running); spin++)
        if (spin < SPINS)
            relax();
        else
            sched_yield(); /* a worker has lost its CPU to another program: give it ours */
    return finish(pool);
}

static void stop_workers(ht_pool *pool, size_t started) {
    atomic_store(&pool->stopping, 1);
    post(pool);
    for (size_t i = 0; i < started; i++)
        pthread_join(pool->handle[i], NULL);
}

static void release_pool(ht_context *ctx, ht_pool *pool) {
    pthread_cond_destroy(&pool->wake);
    pthread_mutex_destroy(&pool->mutex);
    ht_release(ctx, pool->worker);
    ht_release(ctx, pool->handle);
    ht_release(ctx, pool);
}

ht_status ht_pool_create(ht_context *ctx, size_t threads, ht_pool **out) {
    ht_pool *pool;
    *out = NULL;
    HT_TRY(ht_allocate(ctx, 1, sizeof *pool, "thread pool", &pool));
    pthread_mutex_init(&pool->mutex, NULL);
    pthread_cond_init(&pool->wake, NULL);
    pool->threads = threads;
    ht_status status = ht_allocate(ctx, threads, sizeof *pool->handle, "thread pool", &pool->handle);
    if (status == HT_OK)
        status = ht_allocate(ctx, threads, sizeof *pool->worker, "thread pool", &pool->worker);
    size_t started = 0;
    size_t wanted = ctx->options.parallel_for ? 0 : threads - 1;
    while (status == HT_OK && started < wanted) {
        pool->worker[started] = (struct worker){.pool = pool, .index = started + 1};
        int error = pthread_create(&pool->handle[started], NULL, worker_main, &pool->worker[started]);
        if (error)
            status = ht_fail(HT_ERR_MEMORY, "thread %zu of %zu cannot be started: %s", started + 1, threads,
                             strerror(error));
        else
            started++;
    }
    if (status != HT_OK) {
        stop_workers(pool, started);
        release_pool(ctx, pool);
        return status;
    }
    *out = pool;
    return HT_OK;
}

void ht_pool_destroy(ht_context *ctx, ht_pool *pool) {
    if (!pool)
        return;
    stop_workers(pool, ctx->options.parallel_for ? 0 : pool->threads - 1);
    release_pool(ctx, pool);
}

/* cgroup v2: "max 100000" or "200000 100000" (quota and period in microseconds). */
static size_t cgroup_cpus(void) {
    FILE *file = fopen("/sys/fs/cgroup/cpu.max", "re");
    if (!file)
        return 0;
    double quota = 0, period = 0;
    int fields = fscanf(file, "%lf %lf", &quota, &period);
    fclose(file);
    if (fields != 2 || quota <= 0 || period <= 0)
        return 0;
    size_t cpus = (size_t)(quota / period);
    return (double)cpus * period < quota ? cpus + 1 : cpus;
}

size_t ht_pool_default_threads(void) {
    cpu_set_t set;
    size_t cpus = 1;
    if (sched_getaffinity(0, sizeof set, &set) == 0 && CPU_COUNT(&set) > 0)
        cpus = (size_t)CPU_COUNT(&set);
    size_t quota = cgroup_cpus();
    return quota && quota < cpus ? quota : cpus;
}
