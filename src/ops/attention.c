/* ht_attention: check the request, choose a kernel, say why a faster one stood back.
 *
 * The kernels are rows, fastest first. A row that rounds to fp8 is tried only when the precision allows it; a row for
 * the other place (host or GPU) is no candidate. The first row that does not refuse runs; the reason of the first
 * refusal goes into the report.
 *
 * Refuses: shapes that do not fit, offsets that decrease, dtypes other than f32, bf16 and f16, a named kernel that
 * cannot do it. Source: training and attention specification, section 3.
 * SPDX-License-Identifier: BSD-3-Clause */
#include "ops/attention.h"

#include <math.h>   /* sqrt, isfinite, INFINITY */
#include <stdio.h>  /* snprintf */
#include <string.h> /* strcmp */

#include "base/memory.h"
#include "base/status.h"

static const ht_attention_kernel *const KERNELS[] = {&ht_attention_gpu_fp8, &ht_attention_gpu_16, &ht_attention_cpu,
                                                     &ht_attention_cpu_fp8, &ht_attention_reference};
enum { KERNEL_COUNT = sizeof KERNELS / sizeof *KERNELS, MOST = 1 << 30 };

const char *ht_attention_precision_name(ht_attention_precision precision) {
    static const char *const NAMES[] = {
#define HT_ATTENTION_PRECISION_TEXT(name, text) text,
        HT_ATTENTION_PRECISION_LIST(HT_ATTENTION_PRECISION_TEXT)
#undef HT_ATTENTION_PRECISION_TEXT
    };
    return (unsigned)precision < HT_ATTENTION_PRECISION_COUNT ? NAMES[precision] : NULL;
}

const char *ht_attention_kernel_name(size_t index) {
    return index < KERNEL_COUNT ? KERNELS[index]->name : NULL;
}

const char *ht_attention_kernel_summary(size_t index) {
    return index < KERNEL_COUNT ? KERNELS[index]->summary : NULL;
}

/* --- Sequences ---------------------------------------------------------------------------------------------- */

ht_attention_sequence ht_attention_sequence_at(const ht_attention_args *a, size_t b) {
    ht_attention_sequence s = {.batch = b, .q_rows = a->q_rows, .kv_batch = b, .kv_rows = a->kv_rows};
    if (a->q_offsets) {
        s.batch = 0;
        s.q_begin = (size_t)a->q_offsets[b];
        s.q_rows = (size_t)(a->q_offsets[b + 1] - a->q_offsets[b]);
    }
    if (a->kv_offsets) {
        s.kv_batch = 0;
        s.kv_begin = (size_t)a->kv_offsets[b];
        s.kv_rows = (size_t)(a->kv_offsets[b + 1] - a->kv_offsets[b]);
    }
    if (a->kv_lengths)
        s.kv_rows = (size_t)a->kv_lengths[b];
    if (a->pages.ids)
        s.pages = a->pages.ids + b * a->pages.per_sequence;
    return s;
}

size_t ht_attention_lse_at(const ht_attention_args *a, size_t b, size_t head, size_t row) {
    if (!a->q_offsets)
        return (b * a->heads + head) * a->q_rows + row;
    return head * (size_t)a->q_offsets[a->batch] + (size_t)a->q_offsets[b] + row;
}

void ht_attention_add_mask(const ht_attention_args *a, size_t b, size_t head, size_t row, size_t key, size_t count,
                           float *score) {
    const ht_attention_mask *mask = &a->mask;
    size_t at = b * mask->batch + head * mask->head + row * mask->row + key;
    const uint8_t *allowed = mask->data;
    const float *bias = mask->data;
    if (mask->kind == HT_MASK_BOOL)
        for (size_t j = 0; j < count; j++)
            score[j] = allowed[at + j] ? score[j] : -INFINITY;
    if (mask->kind == HT_MASK_ADDITIVE)
        for (size_t j = 0; j < count; j++)
            score[j] += bias[at + j];
}

/* --- Checks ------------------------------------------------------------------------------------------------- */

static ht_status check_shape(const ht_attention_args *a) {
    if (a->kv_heads == 0 || a->heads % a->kv_heads || a->heads == 0)
        return ht_fail(HT_ERR_SHAPE, "attention: %zu heads over %zu key-value heads; give a multiple", a->heads,
                       a->kv_heads);
    if (a->head_dim == 0 || a->head_dim > 65536 || a->value_dim == 0 || a->value_dim > 65536)
        return ht_fail(HT_ERR_SHAPE, "attention: head dim %zu, value dim %zu; 1 to 65536", a->head_dim, a->value_dim);
    if (a->batch > MOST || a->heads > MOST || a->q_rows > MOST || a->kv_rows > MOST)
        return ht_fail(HT_ERR_SHAPE, "attention: batch %zu, heads %zu, %zu queries, %zu keys; the limit is 2^30",
                       a->batch, a->heads, a->q_rows, a->kv_rows);
    return HT_OK;
}

static ht_status check_values(const ht_attention_args *a) {
    if ((unsigned)a->precision >= HT_ATTENTION_PRECISION_COUNT)
        return ht_fail(HT_ERR_ARGUMENT, "attention: precision %d is not in the list", (int)a->precision);
    if ((a->dtype != HT_F32 && a->dtype != HT_BF16 && a->dtype != HT_F16) ||
        (a->out_dtype != HT_F32 && a->out_dtype != HT_BF16 && a->out_dtype != HT_F16))
        return ht_fail(HT_ERR_UNSUPPORTED, "attention: %s to %s; known are f32, bf16 and f16", ht_dtype_name(a->dtype),
                       ht_dtype_name(a->out_dtype));
    if (!isfinite(a->scale) || !isfinite(a->softcap) || a->softcap < 0)
        return ht_fail(HT_ERR_ARGUMENT, "attention: scale %g, soft cap %g; both finite, the cap not negative", a->scale,
                       a->softcap);
    if (a->fp8.sum_bits < 0 || a->fp8.sum_bits > 23 || a->fp8.promote % 32)
        return ht_fail(HT_ERR_ARGUMENT,
                       "attention: fp8 sums of %d bits promoted every %zu keys; 0 to 23 bits, a "
                       "multiple of 32 keys",
                       a->fp8.sum_bits, a->fp8.promote);
    if ((unsigned)a->mask.kind > HT_MASK_ADDITIVE || (a->mask.kind != HT_MASK_NONE && !a->mask.data))
        return ht_fail(HT_ERR_ARGUMENT, "attention: mask of kind %d without data or unknown", (int)a->mask.kind);
    if ((a->kv_offsets && (!a->q_offsets || a->kv_lengths || a->pages.ids)) ||
        (a->q_offsets && !a->kv_offsets && !a->kv_lengths && !a->pages.ids))
        return ht_fail(HT_ERR_ARGUMENT, "attention: offsets of queries and keys come together, or those of queries "
                                        "with kv_lengths or pages");
    if (a->batch && a->q_rows && (!a->q.data || !a->out.data || (a->kv_rows && (!a->k.data || !a->v.data))))
        return ht_fail(HT_ERR_ARGUMENT, "attention: q, k, v or out is NULL");
    return HT_OK;
}

static ht_status check_offsets(const int32_t *offsets, size_t batch, size_t longest, const char *of) {
    for (size_t b = 0; b <= batch; b++) {
        int32_t before = b ? offsets[b - 1] : 0;
        if (offsets[b] < before || (b == 0 && offsets[b] != 0))
            return ht_fail(HT_ERR_ARGUMENT, "attention: offset %zu of the %s is %d after %d; they start at 0 and grow",
                           b, of, (int)offsets[b], (int)before);
        if ((size_t)(offsets[b] - before) > longest)
            return ht_fail(HT_ERR_SHAPE, "attention: sequence %zu has %d %s, the longest is given as %zu", b - 1,
                           (int)(offsets[b] - before), of, longest);
    }
    return HT_OK;
}

static ht_status check_lengths(const ht_attention_args *a) {
    for (size_t b = 0; a->kv_lengths && b < a->batch; b++)
        if (a->kv_lengths[b] < 0 || (size_t)a->kv_lengths[b] > a->kv_rows)
            return ht_fail(HT_ERR_SHAPE, "attention: sequence %zu has %d keys; 0 to kv_rows, which is %zu", b,
                           (int)a->kv_lengths[b], a->kv_rows);
    return HT_OK;
}

static ht_status check_page_table(const ht_attention_args *a) {
    const ht_attention_pages *pages = &a->pages;
    if (pages->rows == 0 || pages->rows > MOST || pages->count > MOST)
        return ht_fail(HT_ERR_SHAPE, "attention: %zu pages of %zu keys; 1 to 2^30", pages->count, pages->rows);
    if (pages->per_sequence < (a->kv_rows + pages->rows - 1) / pages->rows)
        return ht_fail(HT_ERR_SHAPE, "attention: %zu page ids a sequence for %zu keys in pages of %zu",
                       pages->per_sequence, a->kv_rows, pages->rows);
    return HT_OK;
}

/* The ids that keys need. */
static ht_status check_page_ids(const ht_attention_args *a) {
    for (size_t b = 0; b < a->batch; b++) {
        ht_attention_sequence s = ht_attention_sequence_at(a, b);
        for (size_t i = 0; i * a->pages.rows < s.kv_rows; i++)
            if (s.pages[i] < 0 || (size_t)s.pages[i] >= a->pages.count)
                return ht_fail(HT_ERR_ARGUMENT, "attention: page %zu of sequence %zu is %d; the pool has %zu", i, b,
                               (int)s.pages[i], a->pages.count);
    }
    return HT_OK;
}

/* Defaults filled in, everything checked that can be read from here. */
static ht_status complete(const ht_attention_args *args, ht_attention_args *a) {
    *a = *args;
    if (a->value_dim == 0)
        a->value_dim = a->head_dim;
    if (a->out_dtype == HT_DTYPE_NONE)
        a->out_dtype = a->dtype;
    HT_TRY(check_shape(a));
    if (a->scale == 0)
        a->scale = 1.0 / sqrt((double)a->head_dim);
    HT_TRY(check_values(a));
    if (a->pages.ids)
        HT_TRY(check_page_table(a));
    if (a->on_gpu)
        return HT_OK;
    if (a->q_offsets)
        HT_TRY(check_offsets(a->q_offsets, a->batch, a->q_rows, "queries"));
    if (a->kv_offsets)
        HT_TRY(check_offsets(a->kv_offsets, a->batch, a->kv_rows, "keys"));
    HT_TRY(check_lengths(a));
    HT_TRY(ht_attention_rope_check(a));
    return a->pages.ids ? check_page_ids(a) : HT_OK;
}

/* --- Choice ------------------------------------------------------------------------------------------------- */

static int refuses(const ht_attention_kernel *kernel, const ht_attention_args *a, int backward, char *why,
                   size_t size) {
    if (kernel->on_gpu != a->on_gpu) {
        snprintf(why, size, "the data is on the %s", a->on_gpu ? "GPU" : "host");
        return 1;
    }
    if (kernel->fp8 && a->precision == HT_ATTENTION_INPUT) {
        snprintf(why, size, "it rounds to fp8 and the precision asked for is input");
        return 1;
    }
    if (backward && !kernel->backward) {
        snprintf(why, size, "it has no backward pass");
        return 1;
    }
    return kernel->refuses && kernel->refuses(a, why, size);
}

static ht_status choose_named(const ht_attention_args *a, int backward, const ht_attention_kernel **out) {
    char names[160] = "", why[160];
    for (size_t i = 0; i < KERNEL_COUNT; i++) {
        size_t used = strlen(names);
        snprintf(names + used, sizeof names - used, "%s%s", i ? ", " : "", KERNELS[i]->name);
        if (strcmp(KERNELS[i]->name, a->kernel) != 0)
            continue;
        *out = KERNELS[i];
        if (refuses(KERNELS[i], a, backward, why, sizeof why))
            return ht_fail(HT_ERR_UNSUPPORTED, "attention: %s cannot run this: %s", a->kernel, why);
        return HT_OK;
    }
    return ht_fail(HT_ERR_ARGUMENT, "attention: no kernel is called %s; known are %s", a->kernel, names);
}

/* A refusal is worth a word when the row was a candidate: right place and an allowed precision, or fp8 asked for. */
static int worth_a_word(const ht_attention_kernel *kernel, const ht_attention_args *a) {
    return kernel->fp8 ? a->precision != HT_ATTENTION_INPUT : kernel->on_gpu == a->on_gpu;
}

static ht_status choose(const ht_attention_args *a, int backward, const ht_attention_kernel **out,
                        ht_attention_report *report) {
    char why[160];
    report->reason[0] = '\0';
    if (a->kernel)
        return choose_named(a, backward, out);
    for (size_t i = 0; i < KERNEL_COUNT; i++) {
        if (!refuses(KERNELS[i], a, backward, why, sizeof why)) {
            *out = KERNELS[i];
            return HT_OK;
        }
        if (!report->reason[0] && worth_a_word(KERNELS[i], a))
            snprintf(report->reason, sizeof report->reason, "%s: %s", KERNELS[i]->name, why);
    }
    return ht_fail(HT_ERR_UNSUPPORTED, "attention: no kernel can run this; %s",
                   report->reason[0] ? report->reason : "there is none for data on a GPU in this build");
}

ht_status ht_attention(ht_context *ctx, const ht_attention_args *args, ht_attention_report *report) {
    ht_attention_args a;
    ht_attention_report own;
    const ht_attention_kernel *kernel = NULL;
    if (!report)
        report = &own;
    *report = (ht_attention_report){.kernel = ""};
    HT_TRY(complete(args, &a));
    HT_TRY(choose(&a, 0, &kernel, report));
    report->kernel = kernel->name;
    if (a.batch == 0 || a.q_rows == 0)
        return HT_OK;
    size_t need = kernel->workspace ? kernel->workspace(&a) : 0;
    if (need > a.workspace_bytes || (need && !a.workspace))
        return ht_fail(HT_ERR_ARGUMENT, "attention: %s needs %zu bytes of workspace, got %zu", kernel->name, need,
                       a.workspace ? a.workspace_bytes : 0);
    if (a.on_gpu || !a.rope.dims)
        return kernel->run(ctx, &a);
    ht_attention_args rotated;
    void *memory;
    HT_TRY(ht_attention_rotate(ctx, &a, &rotated, &memory));
    ht_status status = kernel->run(ctx, &rotated);
    ht_release(ctx, memory);
    return status;
}

ht_status ht_attention_workspace(const ht_attention_args *args, size_t *bytes) {
    ht_attention_args a;
    ht_attention_report report;
    const ht_attention_kernel *kernel = NULL;
    *bytes = 0;
    HT_TRY(complete(args, &a));
    HT_TRY(choose(&a, 0, &kernel, &report));
    *bytes = kernel->workspace ? kernel->workspace(&a) : 0;
    return HT_OK;
}

/* --- The way back --------------------------------------------------------------------------------------------- */

static ht_status check_gradients(const ht_attention_args *a, const ht_attention_gradients *g) {
    if (g->dtype != HT_F32 && g->dtype != HT_BF16 && g->dtype != HT_F16)
        return ht_fail(HT_ERR_UNSUPPORTED, "attention: gradients in %s; known are f32, bf16 and f16",
                       ht_dtype_name(g->dtype));
    if (a->pages.ids)
        return ht_fail(HT_ERR_UNSUPPORTED, "attention: keys in pages have no gradient; give k and v as one array");
    if (a->batch && a->q_rows && (!a->lse || !g->d_out.data))
        return ht_fail(HT_ERR_ARGUMENT, "attention: the way back needs %s of the forward pass",
                       a->lse ? "d_out, the gradient of out" : "lse");
    return HT_OK;
}

ht_status ht_attention_backward(ht_context *ctx, const ht_attention_args *args, const ht_attention_gradients *gradients,
                                ht_attention_report *report) {
    ht_attention_args a;
    ht_attention_gradients g = *gradients;
    ht_attention_report own;
    const ht_attention_kernel *kernel = NULL;
    if (!report)
        report = &own;
    *report = (ht_attention_report){.kernel = ""};
    HT_TRY(complete(args, &a));
    if (g.dtype == HT_DTYPE_NONE)
        g.dtype = a.dtype;
    HT_TRY(check_gradients(&a, &g));
    a.precision = HT_ATTENTION_INPUT; /* what the forward pass was allowed */
    HT_TRY(choose(&a, 1, &kernel, report));
    report->kernel = kernel->name;
    return a.rope.dims ? ht_attention_rotated_backward(ctx, kernel, &a, &g) : kernel->backward(ctx, &a, &g);
}
