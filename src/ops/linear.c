/* Linear layers on stored weights.
 *
 * A call is a list of jobs (q, k and v; gate and up of every expert); all their tiles form one parallel loop:
 *
 *     job 0            job 1        job 2
 *     [n0 n1 n2 n3 n4] [n0 n1 n2]   [n0 ... ]      task t -> job by its first task -> strip of outputs
 *
 * Work is split by outputs alone, each computed by one kernel call over the whole of k, so nothing depends on the
 * thread count. Inputs are quantized before the loop (inputs.c). Refuses: shapes that do not fit, dtypes other than f32
 * and bf16.
 * SPDX-License-Identifier: BSD-3-Clause */
#include "ops/linear.h"

#include "base/cpu.h"
#include "base/memory.h"
#include "base/pool.h"
#include "base/status.h"
#include "kernels/kernels.h"

enum { LOCAL_JOBS = 16 };

struct ht_linear {
    ht_context *ctx;
    ht_weight weight;
    int has_input;
    ht_format input;
    ht_scale_rule input_rule;
    const float *bias; /* [batch, rows] */
    ht_decode_fn *decode;
    ht_dot_fn *dot;
    void *owned; /* planes of ht_linear_create; may be NULL */
};

/* --- running jobs ----------------------------------------------------------------------------------------- */

struct job_plan {
    ht_matmul product;
    ht_matmul_fn *matmul;
    size_t step, first_task;
};

struct run {
    struct job_plan *plan;
    size_t jobs;
    char *scratch;
    size_t scratch_stride;
};

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
    size_t rows = plan->product.weight->rows, n0 = (task - plan->first_task) * plan->step;
    plan->matmul(&plan->product, n0, n0 + plan->step < rows ? n0 + plan->step : rows,
                 run->scratch + worker * run->scratch_stride);
    return HT_OK;
}

static int shares_input(const ht_linear_job *a, const ht_linear_job *b) {
    return a->x == b->x && a->m == b->m && a->x_stride == b->x_stride && a->linear->has_input && b->linear->has_input &&
           a->linear->weight.cols == b->linear->weight.cols && a->linear->input_rule == b->linear->input_rule &&
           ht_format_equal(&a->linear->input, &b->linear->input);
}

/* Quantized copies of the inputs that need it; plan.product.x then points at them. */
static ht_status quantize_job_inputs(const ht_linear_job *jobs, struct job_plan *plan, size_t count,
                                     ht_workspace *workspace) {
    size_t total = 0;
    for (size_t i = 0; i < count; i++)
        if (jobs[i].linear->has_input && !(i && shares_input(&jobs[i - 1], &jobs[i])))
            total += jobs[i].m * jobs[i].linear->weight.cols;
    if (total * sizeof(float) > workspace->input_bytes) {
        ht_release(workspace->ctx, workspace->inputs);
        workspace->inputs = NULL;
        workspace->input_bytes = 0;
        HT_TRY(ht_allocate_raw(workspace->ctx, total, sizeof(float), "quantized inputs", &workspace->inputs));
        workspace->input_bytes = total * sizeof(float);
    }
    float *next = workspace->inputs;
    for (size_t i = 0; i < count; i++) {
        const ht_linear *linear = jobs[i].linear;
        if (!linear->has_input)
            continue;
        if (i && shares_input(&jobs[i - 1], &jobs[i])) {
            plan[i].product.x = plan[i - 1].product.x;
        } else {
            HT_TRY(ht_quantize_inputs(workspace, &linear->input, linear->input_rule, jobs[i].x, jobs[i].m,
                                      linear->weight.cols, jobs[i].x_stride, next));
            plan[i].product.x = next;
            next += jobs[i].m * linear->weight.cols;
        }
        plan[i].product.x_stride = linear->weight.cols;
    }
    return HT_OK;
}

static void plan_job(const ht_linear_job *job, uint32_t flags, struct job_plan *plan) {
    const ht_linear *linear = job->linear;
    const ht_weight *weight = &linear->weight;
    plan->product = (ht_matmul){.weight = weight,
                                .index = job->index,
                                .bias = linear->bias ? linear->bias + job->index * weight->rows : NULL,
                                .x = job->x,
                                .m = job->m,
                                .x_stride = job->x_stride,
                                .y = job->y,
                                .y_stride = job->y_stride,
                                .decode = linear->decode,
                                .dot = linear->dot};
    plan->matmul = ht_kernel_choose(HT_OPERATION_MATMUL, flags, weight, job->m)->fn.matmul;
    plan->step = ht_matmul_step(weight, job->m);
}

ht_status ht_linear_run(const ht_linear_job *jobs, size_t count, ht_workspace *workspace) {
    ht_context *ctx = workspace->ctx;
    struct job_plan local[LOCAL_JOBS], *plan = local;
    if (count > LOCAL_JOBS)
        HT_TRY(ht_allocate_raw(ctx, count, sizeof *plan, "plan of the products", &plan));
    size_t tasks = 0, scratch = 0;
    for (size_t i = 0; i < count; i++) {
        const ht_weight *weight = &jobs[i].linear->weight;
        plan_job(&jobs[i], ht_cpu_flags(ctx), &plan[i]);
        plan[i].first_task = tasks;
        tasks += jobs[i].m ? (weight->rows + plan[i].step - 1) / plan[i].step : 0;
        size_t bytes = ht_matmul_scratch(weight, jobs[i].m);
        scratch = bytes > scratch ? bytes : scratch;
    }
    struct run run = {.plan = plan, .jobs = count};
    ht_status status = quantize_job_inputs(jobs, plan, count, workspace);
    if (status == HT_OK)
        status = ht_workspace_threads(workspace, scratch, &run.scratch, &run.scratch_stride);
    if (status == HT_OK)
        status = ht_parallel_for(ctx, tasks, run_tile, &run);
    if (plan != local)
        ht_release(ctx, plan);
    return status;
}

/* --- creating --------------------------------------------------------------------------------------------- */

static ht_status check_weight(const ht_weight *weight, const ht_linear_options *options) {
    if (!weight->batch || !weight->rows || !weight->cols)
        return ht_fail(HT_ERR_SHAPE, "linear: weight is %zu x [%zu, %zu], no dimension may be 0", weight->batch,
                       weight->rows, weight->cols);
    if (weight->transposed && weight->format.family != HT_FAMILY_PLAIN)
        return ht_fail(HT_ERR_FORMAT, "linear: only plain weights may be stored [inputs, outputs]");
    HT_TRY(ht_format_check_shape(&weight->format, weight->rows, weight->cols));
    if (options && options->input)
        HT_TRY(ht_format_check_shape(options->input, 1, weight->cols));
    return HT_OK;
}

ht_status ht_linear_from_weight(ht_context *ctx, const ht_weight *weight, const ht_linear_options *options,
                                ht_linear **out) {
    *out = NULL;
    HT_TRY(check_weight(weight, options));
    ht_linear *linear;
    HT_TRY(ht_allocate(ctx, 1, sizeof *linear, "linear layer", &linear));
    linear->ctx = ctx;
    linear->weight = *weight;
    if (options) {
        linear->has_input = options->input != NULL;
        if (options->input)
            linear->input = *options->input;
        linear->input_rule = options->input_rule;
        linear->bias = options->bias;
    }
    uint32_t flags = ht_cpu_flags(ctx);
    linear->decode = ht_kernel_choose(HT_OPERATION_DECODE, flags, weight, 1)->fn.decode;
    linear->dot = ht_kernel_choose(HT_OPERATION_DOT, flags, NULL, 1)->fn.dot;
    *out = linear;
    return HT_OK;
}

void ht_linear_destroy(ht_linear *linear) {
    if (!linear)
        return;
    ht_release(linear->ctx, linear->owned);
    ht_release(linear->ctx, linear);
}

void ht_linear_own(ht_linear *linear, void *memory) {
    linear->owned = memory;
}

const ht_weight *ht_linear_weight(const ht_linear *linear) {
    return &linear->weight;
}

size_t ht_linear_bytes(const ht_linear *linear) {
    return linear->weight.batch * ht_format_bytes(&linear->weight.format, linear->weight.rows, linear->weight.cols);
}

/* --- the public call -------------------------------------------------------------------------------------- */

static ht_status check_operand(const char *what, const ht_tensor *tensor, size_t rows, size_t cols) {
    if (tensor->rank != 2 || tensor->shape[0] != rows || tensor->shape[1] != cols)
        return ht_fail(HT_ERR_SHAPE, "linear: %s is [%zu, %zu] (rank %u), [%zu, %zu] is needed", what, tensor->shape[0],
                       tensor->rank > 1 ? tensor->shape[1] : 0, tensor->rank, rows, cols);
    if (tensor->dtype != HT_F32 && tensor->dtype != HT_BF16)
        return ht_fail(HT_ERR_UNSUPPORTED, "linear: %s is %s, f32 or bf16 is needed", what,
                       ht_dtype_name(tensor->dtype));
    return HT_OK;
}

ht_status ht_linear_forward_expert(ht_context *ctx, const ht_linear *linear, size_t index, const ht_tensor *x,
                                   ht_tensor *y) {
    const ht_weight *weight = &linear->weight;
    size_t m = x->rank ? x->shape[0] : 0;
    if (index >= weight->batch)
        return ht_fail(HT_ERR_ARGUMENT, "linear: expert %zu asked, there are %zu", index, weight->batch);
    HT_TRY(check_operand("x", x, m, weight->cols));
    HT_TRY(check_operand("y", y, m, weight->rows));
    float *wide_x = NULL, *wide_y = NULL;
    ht_workspace workspace;
    ht_workspace_init(&workspace, ctx);
    ht_status status = HT_OK;
    if (x->dtype == HT_BF16)
        status = ht_allocate_raw(ctx, m * weight->cols, sizeof(float), "linear input", &wide_x);
    if (status == HT_OK && wide_x)
        status = ht_convert(x->data, HT_BF16, wide_x, HT_F32, m * weight->cols);
    if (status == HT_OK && y->dtype == HT_BF16)
        status = ht_allocate_raw(ctx, m * weight->rows, sizeof(float), "linear output", &wide_y);
    ht_linear_job job = {.linear = linear,
                         .index = index,
                         .x = wide_x ? wide_x : x->data,
                         .m = m,
                         .x_stride = weight->cols,
                         .y = wide_y ? wide_y : y->data,
                         .y_stride = weight->rows};
    if (status == HT_OK)
        status = ht_linear_run(&job, 1, &workspace);
    if (status == HT_OK && wide_y)
        status = ht_convert(wide_y, HT_F32, y->data, HT_BF16, m * weight->rows);
    ht_workspace_release(&workspace);
    ht_release(ctx, wide_x);
    ht_release(ctx, wide_y);
    return status;
}

ht_status ht_linear_forward(ht_context *ctx, const ht_linear *linear, const ht_tensor *x, ht_tensor *y) {
    return ht_linear_forward_expert(ctx, linear, 0, x, y);
}
