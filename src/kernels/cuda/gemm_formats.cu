/* Products of operands in a format that the tensor cores do not read: decoded into scratch memory first, then one of
 * the fast products. The decoders run at the speed of memory, so for many rows they cost a few percent.
 *
 *   weight   w in any format of ht_cuda_decode, x bf16: w to bf16, bf16 product
 *   exact    MXFP8 on both sides to bf16, which holds every such value in range, bf16 product
 *   folded   MXFP8 on both sides to one power of two per 128 of k (a: of a row, b: of 128 rows), block product in fp8:
 *            nearly twice as fast, elements far below their block's largest lose bits
 *
 * Refuses: what the decoders and products refuse; scratch that is too small.
 * Source: training and attention specification, section 5.3.
 * SPDX-License-Identifier: BSD-3-Clause */
#include "kernels/cuda/cuda.h"
#include "kernels/cuda/runtime.h"

enum { LINE = 256 }; /* parts of scratch start on such */

static size_t round_up(size_t bytes) {
    return ht_ceil_div(bytes, LINE) * LINE;
}

static ht_status check_scratch(const char *what, const void *scratch, size_t have, size_t need) {
    if (!scratch || have < need || (uintptr_t)scratch % 16)
        return ht_fail(HT_ERR_ARGUMENT, "%s: needs %zu bytes of scratch on 16 bytes, not %zu", what, need, have);
    return HT_OK;
}

static ht_cuda_gemm_args plain(size_t m, size_t n, size_t k, const void *a, const void *b, void *d, ht_dtype out) {
    ht_cuda_gemm_args g = {};
    g.m = m, g.n = n, g.k = k;
    g.a = a, g.b = b, g.d = d;
    g.lda = g.ldb = k;
    g.ldd = n;
    g.in = HT_BF16;
    g.out = out;
    return g;
}

size_t ht_cuda_gemm_weight_scratch(size_t n, size_t k) {
    return round_up(n * k * 2);
}

ht_status ht_cuda_gemm_weight(const ht_cuda_gemm_weight_args *args, ht_stream *stream) {
    HT_TRY(check_scratch("cuda weight product", args->scratch, args->scratch_bytes,
                         ht_cuda_gemm_weight_scratch(args->n, args->k)));
    HT_TRY(ht_cuda_decode(args->format, &args->weight, args->n, args->k, args->scratch, HT_BF16, stream));
    ht_cuda_gemm_args g = plain(args->m, args->n, args->k, args->x, args->scratch, args->d, args->out);
    g.bias = args->bias;
    return ht_cuda_gemm(&g, stream);
}

size_t ht_cuda_gemm_mxfp8_scratch(size_t m, size_t n, size_t k, int folded) {
    if (!folded)
        return round_up(m * k * 2) + round_up(n * k * 2);
    size_t lds = ht_ceil_div(m, 4) * 4;
    return round_up(m * k) + round_up(n * k) + round_up(k / 128 * lds * 4) +
           round_up(k / 128 * ht_ceil_div(n, 128) * 4);
}

static ht_status exact(const ht_cuda_gemm_mxfp8_args *g, ht_stream *stream) {
    uint8_t *const a = (uint8_t *)g->scratch, *const b = a + round_up(g->m * g->k * 2);
    HT_TRY(ht_cuda_expand_mxfp8(g->a, g->a_scales, g->m, g->k, a, stream));
    HT_TRY(ht_cuda_expand_mxfp8(g->b, g->b_scales, g->n, g->k, b, stream));
    const ht_cuda_gemm_args product = plain(g->m, g->n, g->k, a, b, g->d, g->out);
    return ht_cuda_gemm(&product, stream);
}

static ht_status folded(const ht_cuda_gemm_mxfp8_args *g, ht_stream *stream) {
    size_t lds = ht_ceil_div(g->m, 4) * 4;
    uint8_t *const a = (uint8_t *)g->scratch, *const b = a + round_up(g->m * g->k);
    float *const a_scales = (float *)(b + round_up(g->n * g->k));
    float *const b_scales = (float *)((uint8_t *)a_scales + round_up(g->k / 128 * lds * 4));
    HT_TRY(ht_cuda_fold_mxfp8(g->a, g->a_scales, g->m, g->k, a, a_scales, lds, stream));
    HT_TRY(ht_cuda_fold_mxfp8(g->b, g->b_scales, g->n, g->k, b, b_scales, 0, stream));
    ht_cuda_gemm_block_args product = {};
    product.m = g->m, product.n = g->n, product.k = g->k;
    product.a = a, product.b = b, product.d = g->d;
    product.scale_a = a_scales, product.scale_b = b_scales;
    product.lds = lds;
    product.out = g->out;
    return ht_cuda_gemm_block(&product, stream);
}

ht_status ht_cuda_gemm_mxfp8(const ht_cuda_gemm_mxfp8_args *args, ht_stream *stream) {
    HT_TRY(check_scratch("cuda mxfp8 product", args->scratch, args->scratch_bytes,
                         ht_cuda_gemm_mxfp8_scratch(args->m, args->n, args->k, args->folded)));
    return args->folded ? folded(args, stream) : exact(args, stream);
}
