/* The CUDA attention kernels as plain C calls: device pointers, work is only enqueued. What attention means, and its
 * edges, is halftone/attention.h; design and measurements: docs/attention.md. A build without CUDA has the same calls,
 * and each answers UNSUPPORTED. */
#ifndef HT_KERNELS_CUDA_ATTENTION_H
#define HT_KERNELS_CUDA_ATTENTION_H

#include <stddef.h>
#include <stdint.h>

#include <halftone/status.h>
#include <halftone/tensor.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct ht_stream ht_stream; /* device/device.h */

/* Steps in elements, dim contiguous, all multiples of 16 bytes, the base too. */
typedef struct ht_cuda_attention_operand {
    const void *data;
    size_t batch, row, head;
} ht_cuda_attention_operand;

/* What the products run on. */
typedef struct ht_cuda_attention_args {
    size_t batch, heads, kv_heads, q_rows, kv_rows;
    size_t head_dim;                   /* of q, k, v and out: 64 or 128 */
    ht_dtype dtype;                    /* HT_BF16, HT_F16: of q, k and v. HT_F8_E4M3: as ht_cuda_attention_quantize */
    ht_dtype out_dtype;                /* HT_BF16 or HT_F16; of 16-bit inputs the same */
    ht_cuda_attention_operand q, k, v; /* of e4m3: not used */
    void *out;
    size_t out_batch, out_row, out_head;
    float scale; /* > 0 */
    int causal;
    size_t window;
    const float *sinks;
    const int32_t *q_offsets, *kv_offsets; /* [batch + 1]; q_total, kv_total: rows of the operands */
    size_t q_total, kv_total;
    float *lse;
    const void *quantized; /* e4m3: what ht_cuda_attention_quantize wrote */
    int hadamard_v;        /* e4m3: v was transformed, undo that on the output */
    int promote;           /* e4m3: add P V of every tile to f32 sums instead of one long chain in the tensor cores */
} ht_cuda_attention_args;

/* NULL when ht_cuda_attention can run it on the current device, else why not (static string). */
const char *ht_cuda_attention_refuses(const ht_cuda_attention_args *args);
ht_status ht_cuda_attention(const ht_cuda_attention_args *args, ht_stream *stream);

/* RoPE, Hadamard and quantization of q, k and v (16-bit) in one go: e4m3 codes with one scale amax / 448 per batch and
 * kv head for each of q (over the heads of the group), k and v. The buffer holds, each part 256-byte aligned,
 *   amax   [3, batch, kv_heads] f32   of q, k, v; 0 counts as 448
 *   q      [batch, heads, q_rows, dim]
 *   k      [batch, kv_heads, kv_rows, dim]
 *   v      [batch, kv_heads, dim, kv_rows rounded up to 16], keys 0 .. 15 of every 16 in the order
 *          0 1 8 9 2 3 10 11 4 5 12 13 6 7 14 15, which makes the scores' accumulators the next product's operand
 * RoPE (cosine NULL: none) turns the elements of every q and k head in pairs (c, c + dim / 2), or (2 c, 2 c + 1) when
 * interleaved, by tables of [kv_rows, dim / 2] f32; query row i stands at table row i + kv_rows - q_rows. The Hadamard
 * transform, divided by sqrt(dim), cancels in q k^T; the attention call undoes that of v on its output. A NaN or Inf in
 * q, k or v makes everything that this head computes NaN. */
typedef struct ht_cuda_attention_quantize_args {
    size_t batch, heads, kv_heads, q_rows, kv_rows, head_dim;
    ht_dtype dtype; /* HT_BF16 or HT_F16 */
    ht_cuda_attention_operand q, k, v;
    const float *cosine, *sine;
    int interleaved;
    int hadamard_qk, hadamard_v;
    void *quantized; /* ht_cuda_attention_quantized_bytes, 256-byte aligned */
} ht_cuda_attention_quantize_args;
size_t ht_cuda_attention_quantized_bytes(size_t batch, size_t heads, size_t kv_heads, size_t q_rows, size_t kv_rows,
                                         size_t head_dim);
ht_status ht_cuda_attention_quantize(const ht_cuda_attention_quantize_args *args, ht_stream *stream);

#ifdef __cplusplus
}
#endif
#endif
