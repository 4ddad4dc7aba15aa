/* The context: allocator, threads, CPU features, kernel tables, callbacks and seed of one user of the library.
 *
 * There is no global state: two contexts in two threads do not meet. One context may be used by one thread
 * at a time; the calls made with it run on its own thread pool. Results never depend on the thread count.
 */
#ifndef HT_CONTEXT_H
#define HT_CONTEXT_H

#include <stddef.h>
#include <stdint.h>

#include <halftone/status.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct ht_context ht_context;

/* Memory from the caller. alloc returns 64-byte aligned memory or NULL; release accepts NULL. */
typedef struct ht_allocator {
    void *(*alloc)(void *user, size_t bytes);
    void (*release)(void *user, void *memory);
    void *user;
} ht_allocator;

typedef enum ht_log_level { HT_LOG_ERROR, HT_LOG_WARN, HT_LOG_INFO, HT_LOG_DEBUG } ht_log_level;

/* One line without newline. Called from the thread that called the library, never from a worker. */
typedef void ht_log_fn(void *user, ht_log_level level, const char *line);

/* Where a long call stands. Strings live until the callback returns. */
typedef struct ht_progress {
    const char *stage; /* "quantize", "eval", ... */
    const char *item;  /* tensor, layer or window at work; may be NULL */
    const char *unit;  /* unit of done and total: "bytes", "tokens", "tensors" */
    uint64_t done;
    uint64_t total; /* 0 when unknown */
    double seconds; /* since the stage began */
} ht_progress;
typedef void ht_progress_fn(void *user, const ht_progress *progress);

/* Non-zero asks the running call to stop at the next safe point; it then returns HT_ERR_CANCELLED. */
typedef int ht_cancelled_fn(void *user);

/* task(arg, index) for every index in [0, count), in any order and on any threads; returns when all are done.
 * Give one of these to run the library's parallel loops on threads that the host owns. */
typedef void ht_task_fn(void *arg, size_t index);
typedef void ht_parallel_for_fn(void *user, size_t count, ht_task_fn *task, void *arg);

/* How products with quantized weights are computed (docs/kernels.md). */
typedef enum ht_compute {
    HT_COMPUTE_AUTO,  /* int8 x int8 where the scheme asks for int8 inputs, else exact */
    HT_COMPUTE_EXACT, /* decoded values in f32, in one order */
    HT_COMPUTE_FAST   /* also inputs that the scheme leaves alone become int8, a scale per 32 */
} ht_compute;

typedef struct ht_context_options {
    size_t threads; /* worker threads incl. the caller; 0 = CPUs this process may use (affinity, cgroup) */
    const char
        *cpu; /* cap on CPU features: "baseline" "avx2" "avx512" ... (docs/kernels.md); NULL = HALFTONE_CPU, else all */
    const char *device;     /* "cpu" (default when NULL) or "cuda" or "cuda:<index>" */
    uint64_t seed;          /* seed of every random choice; default 0 */
    size_t memory_limit;    /* bytes the library's own buffers may take; 0 = no limit. Mapped files do not count */
    ht_allocator allocator; /* all NULL = aligned malloc */
    ht_log_fn *log;
    ht_progress_fn *progress;
    ht_cancelled_fn *cancelled;
    void *callback_user;              /* passed to log, progress and cancelled */
    ht_parallel_for_fn *parallel_for; /* NULL = own pool */
    void *parallel_for_user;
    ht_compute compute; /* of linear layers made with this context; default AUTO */
} ht_context_options;

/* Defaults as commented above. */
HT_API ht_context_options ht_context_options_default(void);

/* Create a context. options may be NULL (defaults). *out is NULL on failure.
 * Fails with ARGUMENT (unknown cpu or device name), MEMORY, UNSUPPORTED (device absent from this build). */
HT_API ht_status ht_context_create(const ht_context_options *options, ht_context **out);

/* Stop the threads and free everything. Accepts NULL. Objects made with the context must be gone. */
HT_API void ht_context_destroy(ht_context *ctx);

/* Threads that parallel loops use, the caller included. */
HT_API size_t ht_context_threads(const ht_context *ctx);

HT_API uint64_t ht_context_seed(const ht_context *ctx);

/* Ask running calls to stop. Async-signal-safe: may be called from a signal handler or another thread. */
HT_API void ht_context_cancel(ht_context *ctx);

/* HT_OK, or HT_ERR_CANCELLED with a message when ht_context_cancel was called or the callback says so. */
HT_API ht_status ht_context_check_cancelled(ht_context *ctx);

/* What the CPU offers. Index from 0; NULL past the end. */
typedef struct ht_cpu_feature {
    const char *name;   /* "avx2" */
    int present;        /* the CPU and the operating system offer it */
    int enabled;        /* present and not masked away */
    const char *source; /* where the answer came from: "cpuid 7.0 ebx bit 5, xcr0 0xe7" */
} ht_cpu_feature;
HT_API const ht_cpu_feature *ht_context_cpu_feature(const ht_context *ctx, size_t index);
HT_API const char *ht_context_cpu_name(const ht_context *ctx);

/* Bytes that the library's buffers hold now, and at most since creation. Mapped files not counted. */
HT_API size_t ht_context_memory_used(const ht_context *ctx);
HT_API size_t ht_context_memory_peak(const ht_context *ctx);

#ifdef __cplusplus
}
#endif
#endif
