/* Inside of a context. Only base/ looks into the struct; others use the calls. */
#ifndef HT_BASE_CONTEXT_H
#define HT_BASE_CONTEXT_H

#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

#include <halftone/context.h>

#include "base/cpu.h"

struct ht_pool;

struct ht_context {
    ht_context_options options; /* as given, defaults filled in */
    struct ht_pool *pool;
    ht_cpu cpu;
    atomic_int cancelled;
    atomic_size_t memory_used, memory_peak;
};

/* One line to the log callback, if any. From the calling thread only. */
void ht_log(const ht_context *ctx, ht_log_level level, const char *format, ...) HT_PRINTF(3, 4);

/* Progress to the callback, if any. From the calling thread only. */
void ht_report(const ht_context *ctx, const ht_progress *progress);

/* Monotonic seconds. */
double ht_seconds(void);

#endif
