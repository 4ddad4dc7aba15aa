/* cuBLASLt as a yardstick, loaded at run time: the library is neither linked nor needed. The few declarations used are
 * written out here from the library's public documentation (cuBLAS 13.0, cublasLt API).
 * SPDX-License-Identifier: BSD-3-Clause */
#include <dlfcn.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include "cuda_check.h"

enum {
    TYPE_F32 = 0,
    TYPE_BF16 = 14,
    TYPE_E4M3 = 28,
    COMPUTE_F32 = 68,
    DESC_TRANS_A = 3,
    DESC_TRANS_B = 4,
    DESC_SCALE_A = 17,
    DESC_SCALE_B = 18,
    DESC_FAST_ACCUMULATION = 25,
    DESC_MODE_A = 31,
    DESC_MODE_B = 32,
    SCALE_OUTER_VECTOR = 3,
    SCALE_VECTOR_128 = 4,
    SCALE_BLOCK_128 = 5,
    PREFERENCE_WORKSPACE = 1,
    WORKSPACE = 64 << 20
};

typedef struct heuristic {
    uint64_t algorithm[8];
    size_t workspace;
    int state;
    float waves;
    int reserved[4];
} heuristic;

static struct {
    int (*create)(void **handle);
    int (*desc_create)(void **desc, int compute, int scale);
    int (*desc_set)(void *desc, int attribute, const void *value, size_t bytes);
    int (*layout_create)(void **layout, int type, uint64_t rows, uint64_t cols, int64_t ld);
    int (*preference_create)(void **preference);
    int (*preference_set)(void *preference, int attribute, const void *value, size_t bytes);
    int (*heuristic)(void *handle, void *desc, void *a, void *b, void *c, void *d, void *preference, int wanted,
                     heuristic *results, int *found);
    int (*matmul)(void *handle, void *desc, const void *alpha, const void *a, void *a_layout, const void *b,
                  void *b_layout, const void *beta, const void *c, void *c_layout, void *d, void *d_layout,
                  const void *algorithm, void *workspace, size_t workspace_bytes, void *stream);
} lt;

struct cuda_vendor_gemm {
    void *desc, *a_layout, *b_layout, *d_layout, *workspace;
    const void *a, *b;
    void *d;
    heuristic best;
};

static void *handle;

static int load(void) {
    static int tried;
    if (tried)
        return handle != NULL;
    tried = 1;
    const char *name = getenv("HALFTONE_CUBLASLT");
    void *library = dlopen(name ? name : "libcublasLt.so.13", RTLD_NOW | RTLD_LOCAL);
    if (!library) {
        printf("no vendor yardstick: %s\n", dlerror());
        return 0;
    }
    static const struct {
        const char *symbol;
        void **slot;
    } symbols[] = {
        {"cublasLtCreate", (void **)&lt.create},
        {"cublasLtMatmulDescCreate", (void **)&lt.desc_create},
        {"cublasLtMatmulDescSetAttribute", (void **)&lt.desc_set},
        {"cublasLtMatrixLayoutCreate", (void **)&lt.layout_create},
        {"cublasLtMatmulPreferenceCreate", (void **)&lt.preference_create},
        {"cublasLtMatmulPreferenceSetAttribute", (void **)&lt.preference_set},
        {"cublasLtMatmulAlgoGetHeuristic", (void **)&lt.heuristic},
        {"cublasLtMatmul", (void **)&lt.matmul},
    };
    for (size_t i = 0; i < sizeof symbols / sizeof symbols[0]; i++)
        if (!(*symbols[i].slot = dlsym(library, symbols[i].symbol)))
            return 0;
    return lt.create(&handle) == 0;
}

static void set_scales(void *desc, cuda_vendor_mode mode, const float *scale_a, const float *scale_b) {
    int32_t kind_a = mode == CUDA_VENDOR_BLOCK ? SCALE_VECTOR_128 : SCALE_OUTER_VECTOR;
    int32_t kind_b = mode == CUDA_VENDOR_BLOCK ? SCALE_BLOCK_128 : SCALE_OUTER_VECTOR;
    int8_t fast = mode != CUDA_VENDOR_BLOCK;
    lt.desc_set(desc, DESC_FAST_ACCUMULATION, &fast, sizeof fast);
    /* the library's A is our b: it counts columns first */
    lt.desc_set(desc, DESC_SCALE_A, &scale_b, sizeof scale_b);
    lt.desc_set(desc, DESC_SCALE_B, &scale_a, sizeof scale_a);
    if (mode != CUDA_VENDOR_TENSOR) {
        lt.desc_set(desc, DESC_MODE_A, &kind_b, sizeof kind_b);
        lt.desc_set(desc, DESC_MODE_B, &kind_a, sizeof kind_a);
    }
}

cuda_vendor_gemm *cuda_vendor_gemm_new(size_t m, size_t n, size_t k, const void *a, const void *b, void *d,
                                       cuda_vendor_mode mode, const float *scale_a, const float *scale_b) {
    if (!load())
        return NULL;
    cuda_vendor_gemm *v = calloc(1, sizeof *v);
    int type = mode == CUDA_VENDOR_BF16 ? TYPE_BF16 : TYPE_E4M3, found = 0;
    int32_t transpose = 1, keep = 0;
    size_t workspace = WORKSPACE;
    void *preference;
    v->a = a;
    v->b = b;
    v->d = d;
    lt.desc_create(&v->desc, COMPUTE_F32, TYPE_F32);
    lt.desc_set(v->desc, DESC_TRANS_A, &transpose, sizeof transpose);
    lt.desc_set(v->desc, DESC_TRANS_B, &keep, sizeof keep);
    if (mode != CUDA_VENDOR_BF16)
        set_scales(v->desc, mode, scale_a, scale_b);
    lt.layout_create(&v->a_layout, type, k, n, (int64_t)k);
    lt.layout_create(&v->b_layout, type, k, m, (int64_t)k);
    lt.layout_create(&v->d_layout, TYPE_BF16, n, m, (int64_t)n);
    lt.preference_create(&preference);
    lt.preference_set(preference, PREFERENCE_WORKSPACE, &workspace, sizeof workspace);
    int status = lt.heuristic(handle, v->desc, v->a_layout, v->b_layout, v->d_layout, v->d_layout, preference, 1,
                              &v->best, &found);
    if (status != 0 || found == 0) {
        printf("no vendor yardstick: no algorithm for %zu x %zu x %zu (status %d)\n", m, n, k, status);
        free(v);
        return NULL;
    }
    v->workspace = cuda_new(WORKSPACE);
    return v;
}

ht_status cuda_vendor_gemm_run(void *vendor, int repeat) {
    cuda_vendor_gemm *v = vendor;
    static const float one = 1.0f, zero = 0.0f;
    (void)repeat;
    int status = lt.matmul(handle, v->desc, &one, v->b, v->a_layout, v->a, v->b_layout, &zero, v->d, v->d_layout, v->d,
                           v->d_layout, v->best.algorithm, v->workspace, WORKSPACE, NULL);
    return status == 0 ? HT_OK : HT_ERR_DEVICE;
}

void cuda_vendor_gemm_delete(cuda_vendor_gemm *v) {
    if (!v)
        return;
    cuda_delete(v->workspace);
    free(v);
}
