/* Attention on a GPU: the rows of the table over the CUDA kernels, the same in a build without CUDA (where they
 * refuse).
 *
 * fp8 quantizes q, k and v into the caller's workspace, transformed as the precision says, and runs on that. Above
 * 32768 keys its sums are promoted to f32 tile by tile, because the tensor cores keep about 14 bits in a chain.
 *
 * Refuses: masks, pages, rotation, scales per block, soft caps, a value dim of its own, f32; what ht_cuda_attention
 * refuses.
 * Source: training and attention specification, sections 3.2, 3.3 and 4.3.
 * SPDX-License-Identifier: BSD-3-Clause */
#include "ops/attention.h"

#include <stdio.h> /* snprintf */

#include "base/status.h"
#include "kernels/cuda/attention.h"

enum { PROMOTE_ABOVE = 32768 };

static ht_cuda_attention_operand operand(const ht_attention_operand *x) {
    return (ht_cuda_attention_operand){x->data, x->batch, x->row, x->head};
}

static ht_cuda_attention_args cuda_args(const ht_attention_args *a) {
    return (ht_cuda_attention_args){.batch = a->batch,
                                    .heads = a->heads,
                                    .kv_heads = a->kv_heads,
                                    .q_rows = a->q_rows,
                                    .kv_rows = a->kv_rows,
                                    .head_dim = a->head_dim,
                                    .dtype = a->dtype,
                                    .out_dtype = a->out_dtype,
                                    .q = operand(&a->q),
                                    .k = operand(&a->k),
                                    .v = operand(&a->v),
                                    .out = a->out.data,
                                    .out_batch = a->out.batch,
                                    .out_row = a->out.row,
                                    .out_head = a->out.head,
                                    .scale = (float)a->scale,
                                    .causal = a->causal,
                                    .window = a->window,
                                    .sinks = a->sinks,
                                    .q_offsets = a->q_offsets,
                                    .kv_offsets = a->kv_offsets,
                                    .q_total = a->q_total,
                                    .kv_total = a->kv_total,
                                    .lse = a->lse};
}

static ht_cuda_attention_args fp8_args(const ht_attention_args *a) {
    ht_cuda_attention_args c = cuda_args(a);
    c.dtype = HT_F8_E4M3;
    c.quantized = a->workspace;
    c.promote = a->kv_rows > PROMOTE_ABOVE || a->fp8.promote > 0;
    c.hadamard_v = a->precision != HT_ATTENTION_FP8;
    return c;
}

/* What neither kernel does. */
static const char *no_kernel(const ht_attention_args *a) {
    if (a->dtype == HT_F32 || a->out_dtype != a->dtype)
        return "it takes and gives bf16 or f16, the same";
    if (a->mask.kind != HT_MASK_NONE)
        return "it has no masks";
    if (a->pages.ids || a->kv_lengths)
        return "it has no pages and no lengths of keys";
    if (a->rope.dims)
        return "it does not rotate, q and k must come rotated";
    if (a->softcap > 0)
        return "it has no soft cap";
    if (a->value_dim != a->head_dim)
        return "the value dim must be the head dim";
    return NULL;
}

static int explain(const char *reason, size_t head_dim, char *why, size_t size) {
    if (reason)
        snprintf(why, size, "%s (head dim %zu)", reason, head_dim);
    return reason != NULL;
}

static int refuses_16(const ht_attention_args *a, char *why, size_t size) {
    ht_cuda_attention_args c = cuda_args(a);
    const char *reason = no_kernel(a);
    return explain(reason ? reason : ht_cuda_attention_refuses(&c), a->head_dim, why, size);
}

static int refuses_fp8(const ht_attention_args *a, char *why, size_t size) {
    ht_cuda_attention_args c = fp8_args(a);
    const char *reason = no_kernel(a);
    if (!reason && (a->fp8.block || a->fp8.sum_bits))
        reason = "it has one scale for all rows of a head, and the sums of the device";
    if (!reason && (a->q_rows == 0 || a->kv_rows == 0))
        reason = "there is nothing to quantize";
    return explain(reason ? reason : ht_cuda_attention_refuses(&c), a->head_dim, why, size);
}

static ht_status run_16(ht_context *ctx, const ht_attention_args *a) {
    ht_cuda_attention_args c = cuda_args(a);
    (void)ctx;
    return ht_cuda_attention(&c, a->stream);
}

static ht_status run_fp8(ht_context *ctx, const ht_attention_args *a) {
    ht_cuda_attention_args c = fp8_args(a);
    ht_cuda_attention_quantize_args q = {.batch = a->batch,
                                         .heads = a->heads,
                                         .kv_heads = a->kv_heads,
                                         .q_rows = a->q_rows,
                                         .kv_rows = a->kv_rows,
                                         .head_dim = a->head_dim,
                                         .dtype = a->dtype,
                                         .q = operand(&a->q),
                                         .k = operand(&a->k),
                                         .v = operand(&a->v),
                                         .hadamard_qk = a->precision == HT_ATTENTION_FP8_HADAMARD,
                                         .hadamard_v = a->precision != HT_ATTENTION_FP8,
                                         .quantized = a->workspace};
    (void)ctx;
    HT_TRY(ht_cuda_attention_quantize(&q, a->stream));
    return ht_cuda_attention(&c, a->stream);
}

static size_t fp8_workspace(const ht_attention_args *a) {
    return ht_cuda_attention_quantized_bytes(a->batch, a->heads, a->kv_heads, a->q_rows, a->kv_rows, a->head_dim);
}

const ht_attention_kernel ht_attention_gpu_fp8 = {.name = "fp8_sm90",
                                                  .summary = "Hopper; quantizes to e4m3, dims 64 and 128",
                                                  .on_gpu = 1,
                                                  .fp8 = 1,
                                                  .refuses = refuses_fp8,
                                                  .workspace = fp8_workspace,
                                                  .run = run_fp8};
const ht_attention_kernel ht_attention_gpu_16 = {.name = "bf16_sm90",
                                                 .summary = "Hopper; bf16 and f16, dims 64 and 128",
                                                 .on_gpu = 1,
                                                 .refuses = refuses_16,
                                                 .run = run_16};
