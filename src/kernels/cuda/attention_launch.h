/* Between the attention kernels' files: the launch of one compiled shape. */
#ifndef HT_KERNELS_CUDA_ATTENTION_LAUNCH_H
#define HT_KERNELS_CUDA_ATTENTION_LAUNCH_H

#include <limits.h>

#include "kernels/cuda/attention.h"
#include "kernels/cuda/attention_kernel.h"
#include "kernels/cuda/runtime.h"

/* A shape of the tables in attention_sm90.cu and attention_fp8_sm90.cu. */
typedef struct ht_attention_entry {
    const char *name;
    const void *kernel;
    ht_dtype dtype;
    unsigned head_dim, bn, bm, chunk, v_chunk, threads;
    size_t shared;
    int promote;
} ht_attention_entry;

template <class S> static ht_attention_entry ht_attention_row(const char *name) {
    ht_attention_entry e = {};
    e.name = name;
    e.kernel = (const void *)ht_attention_kernel<S>;
    e.dtype = S::FP8 ? HT_F8_E4M3 : (int)S::TYPE == (int)HT_WGMMA_F16 ? HT_F16 : HT_BF16;
    e.head_dim = S::D;
    e.bn = S::BN;
    e.bm = S::BM;
    e.chunk = S::CHUNK;
    e.v_chunk = S::V_CHUNK;
    e.threads = S::THREADS;
    e.shared = S::SHARED;
    e.promote = S::PROMOTE;
    return e;
}

/* Parts of the buffer of ht_cuda_attention_quantize. */
typedef struct ht_attention_quantized {
    float *amax;
    uint8_t *q, *k, *v;
    size_t v_keys, bytes;
} ht_attention_quantized;
ht_attention_quantized ht_attention_quantized_at(void *memory, size_t batch, size_t heads, size_t kv_heads,
                                                 size_t q_rows, size_t kv_rows, size_t head_dim);

/* The compiled shape for a dtype and dim; NULL when there is none. */
const ht_attention_entry *ht_attention_find_16(ht_dtype dtype, size_t head_dim);
const ht_attention_entry *ht_attention_find_fp8(size_t head_dim, int promote);

#endif
