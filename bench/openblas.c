/* OpenBLAS as a yardstick, loaded at run time: neither linked nor needed. The two functions are those of the CBLAS
 * interface; Debian's serial build is asked for first, since products are compared thread by thread.
 * SPDX-License-Identifier: BSD-3-Clause */
#include "bench/openblas.h"

#include <dlfcn.h>
#include <stdlib.h>

enum { ROW_MAJOR = 101, NO_TRANSPOSE = 111, TRANSPOSE = 112, UPPER = 121 };

typedef void gemm_fn(int order, int trans_a, int trans_b, int m, int n, int k, float alpha, const float *a, int lda,
                     const float *b, int ldb, float beta, float *c, int ldc);
typedef void syrk_fn(int order, int upper, int trans, int n, int k, float alpha, const float *a, int lda, float beta,
                     float *c, int ldc);
typedef void threads_fn(int threads);

struct bench_openblas {
    void *library;
    gemm_fn *gemm;
    syrk_fn *syrk;
};

/* A function pointer out of dlsym, which gives an object pointer. */
static void find(void *library, const char *name, void *out) {
    *(void **)out = dlsym(library, name);
}

bench_openblas *bench_openblas_open(void) {
    static const char *const names[] = {"openblas-serial/libopenblas.so.0", "libopenblas.so.0", "libopenblas.so"};
    bench_openblas *blas = calloc(1, sizeof *blas);
    threads_fn *set_threads = NULL;
    for (size_t i = 0; blas && !blas->library && i < sizeof names / sizeof *names; i++)
        blas->library = dlopen(names[i], RTLD_NOW | RTLD_LOCAL);
    if (blas && blas->library) {
        find(blas->library, "cblas_sgemm", &blas->gemm);
        find(blas->library, "cblas_ssyrk", &blas->syrk);
        find(blas->library, "openblas_set_num_threads", &set_threads);
        if (set_threads)
            set_threads(1);
    }
    if (blas && (!blas->gemm || !blas->syrk)) {
        bench_openblas_close(blas);
        blas = NULL;
    }
    return blas;
}

void bench_openblas_close(bench_openblas *blas) {
    if (blas && blas->library)
        dlclose(blas->library);
    free(blas);
}

void bench_openblas_gemm(const bench_openblas *blas, size_t m, size_t n, size_t k, const float *a, const float *b,
                         float *c) {
    blas->gemm(ROW_MAJOR, NO_TRANSPOSE, NO_TRANSPOSE, (int)m, (int)n, (int)k, 1, a, (int)k, b, (int)n, 0, c, (int)n);
}

void bench_openblas_syrk(const bench_openblas *blas, size_t n, size_t k, const float *x, float *h) {
    blas->syrk(ROW_MAJOR, UPPER, TRANSPOSE, (int)n, (int)k, 1, x, (int)n, 1, h, (int)n);
}
