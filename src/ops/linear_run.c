/* Running linear layers: a call is a list of jobs (q, k and v; gate and up of every expert); all their tiles form one
 * parallel loop:
 *
 *     job 0            job 1        job 2
 *     [n0 n1 n2 n3 n4] [n0 n1 n2]   [n0 ... ]      task t -> job by its first task -> strip of outputs
 *
 * A few rows of input are bound by reading the weights: there every thread gets long ranges of outputs instead, two
 * shares each, so that it reads streams and prefetches what it will use itself.
 *
 * Work is split by outputs alone, each computed by one kernel call over the whole of k, so nothing depends on the
 * thread count. Inputs are made ready before the loop, each step a copy in the workspace:
 *
 *     x -> transformed (input_transform.h) -> int8 codes for packed weights, values again (inputs.c) for the others
 *
 * Jobs that follow each other and want the same of the same rows share them.
 * SPDX-License-Identifier: BSD-3-Clause */
#include "base/cpu.h"
#include "base/memory.h"
#include "base/pool.h"
#include "base/status.h"
#include "ops/linear_inside.h"

enum { FEW_ROWS = 8, SHARES_EACH = 2, LOCAL_JOBS = 16, ROWS_EACH = 4, ALIGN = 64 };

struct job_plan {
    const ht_linear *linear;
    ht_matmul product;
    ht_matmul_fn *matmul;
    ht_product packed; /* packed.panels NULL: product and matmul */
    ht_product_fn *packed_fn;
    ht_int8_rows rows;
    size_t m, step, first_task;
};

struct run {
    struct job_plan *plan;
    size_t jobs, shares;
    char *scratch;
    size_t scratch_stride;
};

static void run_outputs(const struct job_plan *plan, size_t n0, size_t n1, void *scratch) {
    if (plan->packed.panels)
        plan->packed_fn(&plan->packed, n0, n1, scratch);
    else
        plan->matmul(&plan->product, n0, n1, scratch);
}

/* A share of every job: outputs that follow each other, so that a thread reads one stream of each weight. */
static ht_status run_share(void *arg, size_t share, size_t worker) {
    const struct run *run = arg;
    void *scratch = run->scratch + worker * run->scratch_stride;
    for (size_t i = 0; i < run->jobs; i++) {
        const struct job_plan *plan = &run->plan[i];
        if (!plan->m)
            continue;
        size_t rows = plan->linear->weight.rows, pieces = (rows + plan->step - 1) / plan->step;
        size_t n = pieces * share / run->shares * plan->step, end = pieces * (share + 1) / run->shares * plan->step;
        end = end < rows ? end : rows;
        for (size_t next; n < end; n = next) {
            next = plan->packed.panels || end - n < plan->step ? end : n + plan->step;
            run_outputs(plan, n, next, scratch);
        }
    }
    return HT_OK;
}

static ht_status run_tile(void *arg, size_t task, size_t worker) {
    const struct run *run = arg;
    size_t low = 0, high = run->jobs; /* last job that begins at or before the task */
    while (high - low > 1) {
        size_t middle = low + (high - low) / 2;
        if (run->plan[middle].first_task <= task)
            low = middle;
        else
            high = middle;
    }
    const struct job_plan *plan = &run->plan[low];
    size_t rows = plan->linear->weight.rows, n0 = (task - plan->first_task) * plan->step;
    size_t n1 = n0 + plan->step < rows ? n0 + plan->step : rows;
    void *scratch = run->scratch + worker * run->scratch_stride;
    run_outputs(plan, n0, n1, scratch);
    return HT_OK;
}

/* --- inputs --------------------------------------------------------------------------------------------------- */

/* Is what a job reads in the end what the one before it reads? */
static int shares_input(const ht_linear_job *a, const ht_linear_job *b) {
    const ht_linear *p = a->linear, *q = b->linear;
    if (a->x != b->x || a->m != b->m || a->x_stride != b->x_stride || p->weight.cols != q->weight.cols ||
        !p->panels != !q->panels || !ht_transformer_equal(&p->transformer, a->index, &q->transformer, b->index))
        return 0;
    if (p->panels)
        return p->span == q->span;
    if (p->has_input != q->has_input)
        return 0;
    return !p->has_input || (p->input_rule == q->input_rule && p->input_scale >= q->input_scale &&
                             p->input_scale <= q->input_scale && ht_format_equal(&p->input, &q->input));
}

static size_t aligned(size_t bytes) {
    return (bytes + ALIGN - 1) / ALIGN * ALIGN;
}

/* Bytes that the transformed input of a job takes, and the quantized one. */
static size_t transformed_bytes(const ht_linear_job *job) {
    const ht_linear *linear = job->linear;
    return ht_transformer_is(&linear->transformer) ? aligned(job->m * linear->weight.cols * sizeof(float)) : 0;
}

static size_t quantized_bytes(const ht_linear_job *job) {
    const ht_linear *linear = job->linear;
    if (linear->panels)
        return aligned(ht_int8_rows_bytes(linear->span, job->m, linear->weight.cols));
    return linear->has_input ? aligned(job->m * linear->weight.cols * sizeof(float)) : 0;
}

/* Rows that a job reads. */
struct job_rows {
    const float *x;
    size_t m, stride, cols;
};

struct quantizing {
    const struct job_rows *in;
    ht_quantize_rows_fn *fn;
    ht_int8_rows *rows;
};

static ht_status quantize_piece(void *arg, size_t task, size_t worker) {
    (void)worker;
    const struct quantizing *q = arg;
    size_t begin = task * ROWS_EACH, end = begin + ROWS_EACH < q->in->m ? begin + ROWS_EACH : q->in->m;
    q->fn(q->in->x, q->in->stride, q->in->cols, begin, end, q->rows);
    return HT_OK;
}

static ht_status quantize_int8(ht_context *ctx, const struct job_rows *in, void *memory, struct job_plan *plan) {
    plan->rows = ht_int8_rows_at(memory, plan->linear->span, in->m, in->cols);
    struct quantizing q = {
        in, ht_kernel_choose(HT_OPERATION_QUANTIZE_ROWS, ht_cpu_flags(ctx), NULL, 1)->fn.quantize_rows, &plan->rows};
    size_t pieces = (in->m + ROWS_EACH - 1) / ROWS_EACH;
    return pieces == 1 ? quantize_piece(&q, 0, 0) : ht_parallel_for(ctx, pieces, quantize_piece, &q);
}

/* The steps of one job, in memory of transformed_bytes + quantized_bytes. */
static ht_status prepare_input(const ht_linear_job *job, char *memory, ht_workspace *workspace, struct job_plan *plan) {
    const ht_linear *linear = job->linear;
    struct job_rows in = {job->x, job->m, job->x_stride, linear->weight.cols};
    if (ht_transformer_is(&linear->transformer)) {
        float *out = (float *)(void *)memory;
        HT_TRY(ht_transform_inputs(&linear->transformer, job->index, in.x, in.m, in.stride, out));
        in = (struct job_rows){out, in.m, in.cols, in.cols};
        memory += transformed_bytes(job);
    }
    if (linear->panels)
        return quantize_int8(workspace->ctx, &in, memory, plan);
    plan->product.x = in.x;
    plan->product.x_stride = in.stride;
    if (!linear->has_input)
        return HT_OK;
    plan->product.x = (float *)(void *)memory;
    plan->product.x_stride = in.cols;
    return ht_quantize_inputs_by(workspace, &linear->input, linear->input_rule, linear->input_scale, in.x, in.m,
                                 in.cols, in.stride, (float *)(void *)memory);
}

static ht_status reserve_inputs(ht_workspace *workspace, size_t total) {
    if (total <= workspace->input_bytes)
        return HT_OK;
    ht_release(workspace->ctx, workspace->inputs);
    workspace->inputs = NULL;
    workspace->input_bytes = 0;
    HT_TRY(ht_allocate_raw(workspace->ctx, total, 1, "prepared inputs", &workspace->inputs));
    workspace->input_bytes = total;
    return HT_OK;
}

/* Inputs as the products want them, and the plans pointed at them. */
static ht_status prepare_inputs(const ht_linear_job *jobs, struct job_plan *plan, size_t count,
                                ht_workspace *workspace) {
    size_t total = 0;
    for (size_t i = 0; i < count; i++)
        if (!(i && shares_input(&jobs[i - 1], &jobs[i])))
            total += transformed_bytes(&jobs[i]) + quantized_bytes(&jobs[i]);
    HT_TRY(reserve_inputs(workspace, total));
    char *next = workspace->inputs;
    for (size_t i = 0; i < count; i++) {
        if (i && shares_input(&jobs[i - 1], &jobs[i])) {
            plan[i].rows = plan[i - 1].rows;
            plan[i].product.x = plan[i - 1].product.x;
            plan[i].product.x_stride = plan[i - 1].product.x_stride;
        } else if (transformed_bytes(&jobs[i]) + quantized_bytes(&jobs[i])) {
            HT_TRY(prepare_input(&jobs[i], next, workspace, &plan[i]));
            next += transformed_bytes(&jobs[i]) + quantized_bytes(&jobs[i]);
        }
        plan[i].packed.x = &plan[i].rows;
    }
    return HT_OK;
}

/* --- the loop ------------------------------------------------------------------------------------------------- */

static size_t plan_job(const ht_linear_job *job, uint32_t flags, struct job_plan *plan) {
    const ht_linear *linear = job->linear;
    const ht_weight *weight = &linear->weight;
    const float *bias = linear->bias ? linear->bias + job->index * weight->rows : NULL;
    *plan = (struct job_plan){.linear = linear, .m = job->m};
    if (linear->panels) {
        const ht_packed *packed = &linear->packed;
        plan->packed = (ht_product){.weight = packed,
                                    .panels = linear->panels + job->index * packed->bytes,
                                    .bias = bias,
                                    .y = job->y,
                                    .y_stride = job->y_stride};
        plan->packed_fn = ht_kernel_choose_packed(HT_OPERATION_PRODUCT, flags, packed, job->m)->fn.product;
        plan->step = ht_product_step(packed, job->m);
        return ht_product_scratch(packed, job->m);
    }
    plan->product = (ht_matmul){.weight = weight,
                                .index = job->index,
                                .bias = bias,
                                .x = job->x,
                                .m = job->m,
                                .x_stride = job->x_stride,
                                .y = job->y,
                                .y_stride = job->y_stride,
                                .decode = linear->decode,
                                .dot = linear->dot};
    if (linear->in_bf16) {
        plan->matmul = ht_kernel_choose(HT_OPERATION_FLOATS, flags, weight, job->m)->fn.matmul;
        plan->step = ht_floats_step(weight, job->m);
        return ht_floats_scratch(weight, job->m);
    }
    plan->matmul = ht_kernel_choose(HT_OPERATION_MATMUL, flags, weight, job->m)->fn.matmul;
    plan->step = ht_matmul_step(weight, job->m);
    return ht_matmul_scratch(weight, job->m);
}

ht_status ht_linear_run(const ht_linear_job *jobs, size_t count, ht_workspace *workspace) {
    ht_context *ctx = workspace->ctx;
    struct job_plan local[LOCAL_JOBS], *plan = local;
    if (count > LOCAL_JOBS)
        HT_TRY(ht_allocate_raw(ctx, count, sizeof *plan, "plan of the products", &plan));
    size_t tasks = 0, scratch = 0, most_rows = 0;
    for (size_t i = 0; i < count; i++) {
        most_rows = jobs[i].m > most_rows ? jobs[i].m : most_rows;
        size_t bytes = plan_job(&jobs[i], ht_cpu_flags(ctx), &plan[i]);
        plan[i].first_task = tasks;
        tasks += jobs[i].m ? (jobs[i].linear->weight.rows + plan[i].step - 1) / plan[i].step : 0;
        scratch = bytes > scratch ? bytes : scratch;
    }
    struct run run = {.plan = plan, .jobs = count, .shares = ht_context_threads(ctx) * SHARES_EACH};
    ht_status status = prepare_inputs(jobs, plan, count, workspace);
    if (status == HT_OK)
        status = ht_workspace_threads(workspace, scratch, &run.scratch, &run.scratch_stride);
    if (status == HT_OK)
        status = most_rows <= FEW_ROWS ? ht_parallel_for(ctx, run.shares, run_share, &run)
                                       : ht_parallel_for(ctx, tasks, run_tile, &run);
    if (plan != local)
        ht_release(ctx, plan);
    return status;
}
