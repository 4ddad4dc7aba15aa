/* Creating and destroying a context, its callbacks and its cancellation flag.
 * SPDX-License-Identifier: BSD-3-Clause */
#include "base/context.h"

#include <stdarg.h> /* va_list */
#include <stdio.h>  /* vsnprintf */
#include <stdlib.h> /* aligned_alloc, getenv */
#include <string.h> /* strcmp */
#include <time.h>   /* clock_gettime */

#include "base/memory.h"
#include "base/pool.h"
#include "base/status.h"

enum { MOST_THREADS = 1024 };

static void *default_alloc(void *user, size_t bytes) {
    (void)user;
    return aligned_alloc(64, bytes); /* bytes is a multiple of 64: memory.c */
}

static void default_release(void *user, void *memory) {
    (void)user;
    free(memory);
}

ht_context_options ht_context_options_default(void) {
    return (ht_context_options){0};
}

static ht_status check_options(const ht_context_options *options) {
    const char *device = options->device;
    if (device && strcmp(device, "cpu") != 0) {
        if (strncmp(device, "cuda", 4) == 0 && (device[4] == '\0' || device[4] == ':'))
            return ht_fail(HT_ERR_UNSUPPORTED, "device \"%s\": this build has no CUDA backend", device);
        return ht_fail(HT_ERR_ARGUMENT, "device \"%s\" is unknown: use cpu, cuda or cuda:<index>", device);
    }
    if (options->threads > MOST_THREADS)
        return ht_fail(HT_ERR_ARGUMENT, "%zu threads asked, at most %d are possible", options->threads, MOST_THREADS);
    if (!options->allocator.alloc != !options->allocator.release)
        return ht_fail(HT_ERR_ARGUMENT, "an allocator needs both alloc and release");
    return HT_OK;
}

ht_status ht_context_create(const ht_context_options *options, ht_context **out) {
    *out = NULL;
    ht_context_options chosen = options ? *options : ht_context_options_default();
    HT_TRY(check_options(&chosen));
    if (!chosen.allocator.alloc) {
        chosen.allocator.alloc = default_alloc;
        chosen.allocator.release = default_release;
    }
    if (!chosen.threads)
        chosen.threads = ht_pool_default_threads();
    if (!chosen.cpu)
        chosen.cpu = getenv("HALFTONE_CPU");
    ht_context *ctx = chosen.allocator.alloc(chosen.allocator.user, (sizeof *ctx + 63) / 64 * 64);
    if (!ctx)
        return ht_fail(HT_ERR_MEMORY, "context: the system has no memory left");
    *ctx = (ht_context){.options = chosen};
    ht_status status = ht_cpu_detect(chosen.cpu, &ctx->cpu);
    if (status == HT_OK)
        status = ht_pool_create(ctx, chosen.threads, &ctx->pool);
    ctx->options.cpu = NULL; /* borrowed strings are not kept */
    ctx->options.device = NULL;
    if (status != HT_OK) {
        chosen.allocator.release(chosen.allocator.user, ctx);
        return status;
    }
    *out = ctx;
    return HT_OK;
}

void ht_context_destroy(ht_context *ctx) {
    if (!ctx)
        return;
    ht_pool_destroy(ctx, ctx->pool);
    ht_allocator allocator = ctx->options.allocator;
    allocator.release(allocator.user, ctx);
}

size_t ht_context_threads(const ht_context *ctx) {
    return ctx->options.threads;
}

uint64_t ht_context_seed(const ht_context *ctx) {
    return ctx->options.seed;
}

void ht_context_cancel(ht_context *ctx) {
    atomic_store(&ctx->cancelled, 1);
}

ht_status ht_context_check_cancelled(ht_context *ctx) {
    if (!atomic_load(&ctx->cancelled) && ctx->options.cancelled && ctx->options.cancelled(ctx->options.callback_user))
        atomic_store(&ctx->cancelled, 1);
    if (!atomic_load(&ctx->cancelled))
        return HT_OK;
    return ht_fail(HT_ERR_CANCELLED, "stopped on request");
}

const ht_cpu_feature *ht_context_cpu_feature(const ht_context *ctx, size_t index) {
    return index < HT_CPU_FEATURE_COUNT ? &ctx->cpu.feature[index] : NULL;
}

const char *ht_context_cpu_name(const ht_context *ctx) {
    return ctx->cpu.name;
}

uint32_t ht_cpu_flags(const ht_context *ctx) {
    return ctx->cpu.enabled;
}

size_t ht_context_memory_used(const ht_context *ctx) {
    return atomic_load(&ctx->memory_used);
}

size_t ht_context_memory_peak(const ht_context *ctx) {
    return atomic_load(&ctx->memory_peak);
}

void ht_log(const ht_context *ctx, ht_log_level level, const char *format, ...) {
    if (!ctx->options.log)
        return;
    char line[1024];
    va_list args;
    va_start(args, format);
    vsnprintf(line, sizeof line, format, args);
    va_end(args);
    ctx->options.log(ctx->options.callback_user, level, line);
}

void ht_report(const ht_context *ctx, const ht_progress *progress) {
    if (ctx->options.progress)
        ctx->options.progress(ctx->options.callback_user, progress);
}

double ht_seconds(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}
