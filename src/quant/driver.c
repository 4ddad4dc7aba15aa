/* Running a plan in bounded memory.
 *
 * Parameters are taken in order and cut into items of about `chunk` bytes; items are gathered into rounds of 64 MiB, a
 * round is one parallel loop. Between rounds, on the caller's thread: finished tensors are summed up and noted in the
 * journal, their mapped pages are let go, progress is told, cancellation is asked. Memory is therefore
 *
 *     threads x (planes of a slice + a decoded strip [+ a turned slice])  +  16 bytes per row of the tensors at work
 *
 * and grows with neither model nor tensor. Formats with one number per matrix get a pass over the matrix (or its fused
 * group) first. Nothing here depends on the thread count or the chunk: planes are row by row, sums are by row.
 * SPDX-License-Identifier: BSD-3-Clause */
#include "quant/driver.h"

#include <math.h> /* sqrt, NAN */

#include "base/context.h"
#include "base/pool.h"
#include "base/status.h"
#include "quant/calibrate/calibrate.h"
#include "quant/decode.h"

enum {
    CHUNK = 512 * 1024,
    SMALLEST_CHUNK = 16 * 1024,
    COPY = 4 * 1024 * 1024,
    ROUND_BYTES = 64 * 1024 * 1024,
    ROUND_ITEMS = 4096
};

/* Rates for estimates, bytes a second and thread; measured figures are in docs/quantize.md. */
static const double quantize_rate = 4e8, copy_rate = 1e9;

/* --- Size ------------------------------------------------------------------------------------------------- */

static size_t largest(size_t a, size_t b) {
    return a > b ? a : b;
}

/* Each worker's buffers for this chunk. */
static void size_buffers(const ht_plan *plan, size_t chunk, size_t *planes, size_t *input, size_t *decoded) {
    *planes = *input = *decoded = 0;
    for (size_t i = 0; i < plan->count; i++) {
        if (!plan->job[i].layout)
            continue;
        size_t p, x, d;
        ht_slice_buffers(&plan->job[i], chunk, &p, &x, &d);
        *planes = largest(*planes, p);
        *input = largest(*input, x);
        *decoded = largest(*decoded, d);
    }
}

static size_t tally_bytes(const ht_job *job) {
    return job->layout ? 2 * sizeof(double) * job->layout->batch * job->layout->rows : 0;
}

/* Tallies of the tensors that can be at work at once: those of a round and the one that sticks out of it. */
static size_t most_tally_bytes(const ht_plan *plan) {
    size_t most = 0, window = 0, first = 0;
    uint64_t bytes = 0;
    for (size_t i = 0; i < plan->count; i++) {
        window += tally_bytes(&plan->job[i]);
        bytes += plan->tensor[i].bytes_before;
        most = largest(most, window);
        while (first < i && bytes - plan->tensor[first].bytes_before > ROUND_BYTES) {
            bytes -= plan->tensor[first].bytes_before;
            window -= tally_bytes(&plan->job[first++]);
        }
    }
    return most;
}

static size_t fixed_bytes(const ht_plan *plan) {
    return plan->count * (sizeof(ht_tally) + sizeof(ht_range *)) + ROUND_ITEMS * (sizeof(ht_item) + sizeof(ht_range)) +
           most_tally_bytes(plan);
}

/* The largest chunk, from the usual one down, whose buffers fit the memory limit; at least the smallest. */
static size_t choose_chunk(const ht_plan *plan, const ht_quantize_options *options) {
    if (options->chunk_bytes)
        return options->chunk_bytes;
    ht_context *ctx = plan->ctx;
    size_t limit = ctx->options.memory_limit, chunk = CHUNK;
    if (!limit)
        return chunk;
    size_t used = ht_context_memory_used(ctx) + fixed_bytes(plan);
    size_t room = limit > used ? (limit - used) / ht_context_threads(ctx) : 0;
    for (; chunk > SMALLEST_CHUNK; chunk /= 2) {
        size_t planes, input, decoded;
        size_buffers(plan, chunk, &planes, &input, &decoded);
        if (planes + input + decoded <= room - room / 8)
            break;
    }
    return chunk;
}

void ht_run_estimate(ht_plan *plan, const ht_quantize_options *options) {
    size_t planes, input, decoded;
    size_buffers(plan, choose_chunk(plan, options), &planes, &input, &decoded);
    size_t threads = ht_context_threads(plan->ctx);
    plan->summary.peak_memory_bytes =
        ht_context_memory_used(plan->ctx) + fixed_bytes(plan) + threads * (planes + input + decoded + 3 * 128);
    double seconds = 0;
    for (size_t i = 0; i < plan->count; i++)
        seconds +=
            (double)plan->tensor[i].bytes_before / (plan->job[i].layout ? quantize_rate * (double)threads : copy_rate);
    plan->summary.seconds = seconds;
}

static ht_status allocate_buffers(ht_run *run) {
    size_t threads = ht_context_threads(run->ctx);
    size_buffers(run->plan, run->chunk, &run->planes_bytes, &run->input_bytes, &run->decoded_bytes);
    run->scratch = ht_arena_alloc(&run->arena, threads * sizeof *run->scratch);
    run->tally = ht_arena_alloc(&run->arena, run->plan->count * sizeof *run->tally + 1);
    run->range = ht_arena_alloc(&run->arena, run->plan->count * sizeof *run->range + 1);
    run->item = ht_arena_alloc(&run->arena, ROUND_ITEMS * sizeof *run->item);
    run->found = ht_arena_alloc(&run->arena, ROUND_ITEMS * sizeof *run->found);
    if (!run->scratch || !run->tally || !run->range || !run->item || !run->found)
        return HT_ERR_MEMORY;
    for (size_t i = 0; i < threads; i++) {
        ht_run_scratch *scratch = &run->scratch[i];
        HT_TRY(ht_allocate_raw(run->ctx, run->planes_bytes, 1, "quantized rows", &scratch->planes));
        HT_TRY(ht_allocate_raw(run->ctx, run->input_bytes, 1, "turned rows", &scratch->input));
        HT_TRY(ht_allocate_raw(run->ctx, run->decoded_bytes, 1, "decoded rows", &scratch->decoded));
    }
    return HT_OK;
}

static void release_tally(ht_run *run, size_t job) {
    ht_release(run->ctx, run->tally[job].error);
    ht_release(run->ctx, run->tally[job].reference);
    run->tally[job].error = run->tally[job].reference = NULL;
}

static void release_buffers(ht_run *run) {
    for (size_t i = 0; run->scratch && i < ht_context_threads(run->ctx); i++) {
        ht_release(run->ctx, run->scratch[i].planes);
        ht_release(run->ctx, run->scratch[i].input);
        ht_release(run->ctx, run->scratch[i].decoded);
    }
    for (size_t i = 0; run->tally && i < run->plan->count; i++)
        release_tally(run, i);
    ht_arena_release(&run->arena);
}

/* --- Mapped pages ----------------------------------------------------------------------------------------- */

typedef void advise_fn(const ht_checkpoint *checkpoint, const ht_stored_tensor *stored, uint64_t begin, uint64_t bytes);

/* Advice for the round's input: one stretch of each job. Transposed matrices are read all over. */
static void advise_round(const ht_run *run, advise_fn *advice) {
    for (size_t i = 0, end; i < run->items; i = end) {
        const ht_item *first = &run->item[i];
        const ht_job *job = &run->plan->job[first->job];
        for (end = i + 1; end < run->items && run->item[end].job == first->job; end++)
            ;
        const ht_item *last = &run->item[end - 1];
        const ht_parameter *parameter = job->parameter;
        if (!job->layout) {
            for (size_t at = i; at < end; at++)
                advice(run->checkpoint, ht_checkpoint_tensor(run->checkpoint, parameter->stored[run->item[at].entry]),
                       run->item[at].begin, run->item[at].count);
            continue;
        }
        size_t row = parameter->weight.cols * (ht_dtype_bits(parameter->weight.format.element) / 8);
        size_t stride = parameter->weight.stride[HT_PLANE_CODES];
        uint64_t begin = first->entry * stride, stop = (last->entry + 1) * stride;
        if (!parameter->weight.transposed) {
            begin += first->begin * row;
            stop = last->entry * stride + (last->begin + last->count) * row;
        }
        advice(run->checkpoint, ht_checkpoint_tensor(run->checkpoint, parameter->stored[0]), begin, stop - begin);
    }
}

/* --- Ranges ----------------------------------------------------------------------------------------------- */

static ht_status range_work(void *arg, size_t index, size_t worker) {
    (void)worker;
    ht_run *run = arg;
    return ht_slice_range(run, &run->item[index], &run->found[index]);
}

static void widen(ht_range *range, const ht_range *by) {
    range->min = by->min < range->min ? by->min : range->min;
    range->max = by->max > range->max ? by->max : range->max;
    range->amax = by->amax > range->amax ? by->amax : range->amax;
    range->has_nan |= by->has_nan;
    range->has_inf |= by->has_inf;
}

static ht_status range_round(ht_run *run, ht_range *ranges) {
    HT_TRY(ht_context_check_cancelled(run->ctx));
    advise_round(run, ht_pages_will_need);
    HT_TRY(ht_parallel_for(run->ctx, run->items, range_work, run));
    for (size_t i = 0; i < run->items; i++)
        widen(&ranges[run->item[i].entry], &run->found[i]);
    advise_round(run, ht_pages_done_with);
    run->items = 0;
    run->round_bytes = 0;
    return HT_OK;
}

/* Append an item; 1 when the round is full. */
static int push(ht_run *run, ht_item item, uint64_t bytes) {
    run->item[run->items++] = item;
    run->round_bytes += bytes;
    return run->items == ROUND_ITEMS || run->round_bytes >= ROUND_BYTES;
}

static ht_status scan_job(ht_run *run, size_t index, ht_range *ranges) {
    const ht_job *job = &run->plan->job[index];
    const ht_layout *layout = job->layout;
    size_t row_bytes = layout->cols * (ht_dtype_bits(job->parameter->weight.format.element) / 8);
    size_t rows = run->chunk / row_bytes + 1;
    for (size_t entry = 0; entry < layout->batch; entry++)
        for (size_t row = 0; row < layout->rows; row += rows) {
            size_t n = layout->rows - row < rows ? layout->rows - row : rows;
            if (push(run, (ht_item){index, entry, row, n}, n * row_bytes))
                HT_TRY(range_round(run, ranges));
        }
    return run->items ? range_round(run, ranges) : HT_OK;
}

ht_status ht_run_find_range(ht_run *run, size_t index) {
    const ht_job *job = &run->plan->job[index];
    if (!ht_slice_needs_range(job) || run->range[job->shared])
        return HT_OK;
    ht_range *ranges = ht_arena_alloc(&run->arena, job->layout->batch * sizeof *ranges);
    if (!ranges)
        return HT_ERR_MEMORY;
    for (size_t i = 0; i < job->layout->batch; i++)
        ranges[i] = ht_range_empty();
    for (size_t i = job->shared; i < run->plan->count; i++)
        if (run->plan->job[i].layout && run->plan->job[i].shared == job->shared)
            HT_TRY(scan_job(run, i, ranges));
    run->range[job->shared] = ranges;
    return HT_OK;
}

/* --- Rounds ----------------------------------------------------------------------------------------------- */

ht_status ht_run_complete(ht_run *run, size_t index) {
    ht_job *job = &run->plan->job[index];
    ht_plan_tensor *tensor = &run->plan->tensor[index];
    ht_tally *tally = &run->tally[index];
    if (job->layout) {
        double error = 0, reference = 0;
        for (size_t i = 0; i < tally->rows; i++) {
            error += tally->error[i];
            reference += tally->reference[i];
        }
        tensor->error = error > 0 ? sqrt(error / reference) : error;
        size_t not_finite = tally->not_finite;
        if (not_finite) {
            tensor->reason = ht_arena_printf(&run->plan->arena, "%zu values are NaN or Inf (nan: keep)", not_finite);
            if (!tensor->reason)
                return HT_ERR_MEMORY;
        }
        release_tally(run, index);
        HT_TRY(ht_layout_finish(job->layout, run->writer, job->first));
        HT_TRY(ht_tally_log_add(run, index));
    }
    for (size_t i = 0; i < job->count; i++)
        HT_TRY(ht_checkpoint_writer_done(run->writer, job->first + i));
    return HT_OK;
}

static ht_status work(void *arg, size_t index, size_t worker) {
    ht_run *run = arg;
    const ht_item *item = &run->item[index];
    return run->plan->job[item->job].layout ? ht_slice_quantize(run, item, worker) : ht_slice_copy(run, item);
}

static void report(const ht_run *run, const char *name) {
    ht_report(run->ctx, &(ht_progress){.stage = "quantize",
                                       .item = name,
                                       .unit = "bytes",
                                       .done = run->done,
                                       .total = run->total,
                                       .seconds = ht_seconds() - run->started});
}

static ht_status flush(ht_run *run) {
    HT_TRY(ht_context_check_cancelled(run->ctx));
    if (!run->items)
        return HT_OK;
    advise_round(run, ht_pages_will_need);
    HT_TRY(ht_parallel_for(run->ctx, run->items, work, run));
    advise_round(run, ht_pages_done_with);
    for (size_t i = 0; i < run->items; i++) {
        size_t job = run->item[i].job;
        if (--run->tally[job].remaining == 0)
            HT_TRY(ht_run_complete(run, job));
    }
    run->done += run->round_bytes;
    report(run, run->plan->tensor[run->item[run->items - 1].job].name);
    run->items = 0;
    run->round_bytes = 0;
    return HT_OK;
}

ht_status ht_run_open_tally(ht_run *run, size_t index) {
    ht_tally *tally = &run->tally[index];
    tally->rows = run->plan->job[index].layout->batch * run->plan->job[index].layout->rows;
    HT_TRY(ht_allocate(run->ctx, tally->rows, sizeof(double), "errors by row", &tally->error));
    return ht_allocate(run->ctx, tally->rows, sizeof(double), "squares by row", &tally->reference);
}

static ht_status quantize_job(ht_run *run, size_t index) {
    const ht_job *job = &run->plan->job[index];
    const ht_layout *layout = job->layout;
    ht_tally *tally = &run->tally[index];
    if (ht_slice_needs_range(job) && !run->range[job->shared])
        HT_TRY(flush(run)); /* the range pass uses the round's items */
    HT_TRY(ht_run_find_range(run, index));
    size_t rows = ht_slice_rows(job, run->chunk), slices = (layout->rows + rows - 1) / rows;
    size_t row_bytes = layout->cols * (ht_dtype_bits(job->parameter->weight.format.element) / 8);
    tally->remaining = layout->batch * slices;
    HT_TRY(ht_run_open_tally(run, index));
    for (size_t entry = 0; entry < layout->batch; entry++)
        for (size_t row = 0; row < layout->rows; row += rows) {
            size_t n = layout->rows - row < rows ? layout->rows - row : rows;
            if (push(run, (ht_item){index, entry, row, n}, n * row_bytes))
                HT_TRY(flush(run));
        }
    return HT_OK;
}

static ht_status copy_job(ht_run *run, size_t index) {
    const ht_job *job = &run->plan->job[index];
    ht_tally *tally = &run->tally[index];
    for (size_t s = 0; s < job->parameter->stored_count; s++)
        tally->remaining += ht_checkpoint_tensor(run->checkpoint, job->parameter->stored[s])->bytes / COPY + 1;
    for (size_t s = 0; s < job->parameter->stored_count; s++) {
        uint64_t bytes = ht_checkpoint_tensor(run->checkpoint, job->parameter->stored[s])->bytes;
        for (uint64_t at = 0, n; at <= bytes; at += COPY) { /* an empty tensor, or the end, is an empty item */
            n = bytes - at < COPY ? bytes - at : COPY;
            if (push(run, (ht_item){index, s, at, n}, n))
                HT_TRY(flush(run));
        }
    }
    return HT_OK;
}

int ht_run_is_done(const ht_run *run, size_t index) {
    const ht_job *job = &run->plan->job[index];
    for (size_t i = 0; i < job->count; i++)
        if (!ht_checkpoint_writer_is_done(run->writer, job->first + i))
            return 0;
    return 1;
}

static ht_status run_all(ht_run *run) {
    size_t resumed = 0;
    for (size_t i = 0; i < run->plan->count; i++) {
        if (run->apart && run->apart[i])
            continue;
        if (ht_run_is_done(run, i)) {
            run->done += run->plan->tensor[i].bytes_before;
            run->skipped += run->plan->tensor[i].bytes_before;
            resumed++;
            continue;
        }
        HT_TRY(run->plan->job[i].layout ? quantize_job(run, i) : copy_job(run, i));
    }
    if (resumed)
        ht_log(run->ctx, HT_LOG_INFO, "resumed: %zu of %zu tensors were complete already", resumed, run->plan->count);
    return flush(run);
}

ht_status ht_run_plan(ht_context *ctx, const ht_checkpoint *checkpoint, ht_plan *plan,
                      const ht_quantize_options *options, ht_checkpoint_writer *writer) {
    ht_run run = {.ctx = ctx,
                  .checkpoint = checkpoint,
                  .plan = plan,
                  .writer = writer,
                  .chunk = choose_chunk(plan, options),
                  .total = plan->summary.bytes_before,
                  .started = ht_seconds(),
                  .errors = -1};
    ht_arena_init(&run.arena, ctx);
    ht_status status = allocate_buffers(&run);
    if (status == HT_OK)
        status = ht_tally_log_open(&run);
    ht_calibrator *calibrator = NULL;
    if (status == HT_OK && plan->samples.ids)
        status = ht_calibrate_open(&run, ht_checkpoint_path(checkpoint), &calibrator);
    if (status == HT_OK)
        status = run_all(&run);
    if (status == HT_OK && calibrator)
        status = ht_calibrate_run(calibrator);
    ht_calibrate_close(calibrator);
    ht_tally_log_close(&run);
    release_buffers(&run);
    plan->summary.seconds = ht_seconds() - run.started;
    plan->summary.bytes_per_second =
        plan->summary.seconds > 0 ? (double)(run.done - run.skipped) / plan->summary.seconds : 0;
    return status;
}
