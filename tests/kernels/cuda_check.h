/* The check and measurement program of the CUDA kernels: every kernel against a CPU reference written here, guard
 * bands around every output, then timings on random data beside yardsticks taken in the same loop.
 *
 *     cuda_check               check everything; exit 77 without a GPU
 *     cuda_check bench [name]  check, then measure the cases whose name contains `name` */
#ifndef HT_TESTS_CUDA_CHECK_H
#define HT_TESTS_CUDA_CHECK_H

#include <stddef.h>
#include <stdint.h>

#include "device/device.h"

extern ht_device *cuda_device; /* the GPU under test */

/* --- Data -------------------------------------------------------------------------------------------------------- */

uint64_t cuda_random(void);
float cuda_random_normal(void);
uint16_t cuda_bf16(float x); /* nearest even; NaN stays NaN */
float cuda_bf16_value(uint16_t bits);
uint8_t cuda_e4m3(float x); /* nearest even, saturating, NaN to 7f */
float cuda_e4m3_value(uint8_t code);

/* Host arrays of random normal numbers as bf16 or e4m3; long ones repeat with a prime period. free() them. */
uint16_t *cuda_random_bf16(size_t count);
uint8_t *cuda_random_e4m3(size_t count);
uint8_t *cuda_random_bytes(size_t count);

/* --- Device memory ----------------------------------------------------------------------------------------------- */

/* Exits the program with the message on failure: a test without memory has nothing to say. */
void *cuda_new(size_t bytes);
void *cuda_upload(const void *host, size_t bytes);
void cuda_delete(void *memory);
void cuda_download(void *host, const void *memory, size_t bytes);
void cuda_must(ht_status status, const char *what);

/* An output between guard bands; filled with a pattern, so that unwritten elements show. */
typedef struct cuda_guarded {
    void *at;
    size_t bytes;
} cuda_guarded;
cuda_guarded cuda_guarded_new(size_t bytes);
/* Contents (free() them); a failed check when a band was touched. Frees the device memory. */
void *cuda_guarded_take(cuda_guarded *guarded, const char *what);

/* --- Verdicts ---------------------------------------------------------------------------------------------------- */

void cuda_verdict(int ok, const char *format, ...) HT_PRINTF(2, 3);

/* --- Measurement ------------------------------------------------------------------------------------------------- */

typedef struct cuda_contender {
    const char *name;
    ht_status (*run)(void *arg, int repeat); /* enqueue once */
    void *arg;
    double flops, bytes; /* of one run; zero: not printed */
} cuda_contender;

/* Rounds of `repeats` runs each, contenders interleaved; prints median microseconds, rates, and the ratio of each
 * contender's speed (flops, else bytes, a second) to the first one's, round by round. */
void cuda_measure(const char *title, const cuda_contender *contenders, int count, int rounds, int repeats);

/* --- Yardsticks -------------------------------------------------------------------------------------------------- */

/* cuBLASLt from the shared library named by HALFTONE_CUBLASLT or found by the loader. NULL when there is none. */
typedef struct cuda_vendor_gemm cuda_vendor_gemm;
/* How the vendor's product is scaled; BLOCK: a per 1 x 128 ([k / 128, m]), b per 128 x 128 ([n / 128, k / 128]). */
typedef enum cuda_vendor_mode {
    CUDA_VENDOR_BF16,
    CUDA_VENDOR_TENSOR,
    CUDA_VENDOR_ROW,
    CUDA_VENDOR_BLOCK
} cuda_vendor_mode;
cuda_vendor_gemm *cuda_vendor_gemm_new(size_t m, size_t n, size_t k, const void *a, const void *b, void *d,
                                       cuda_vendor_mode mode, const float *scale_a, const float *scale_b);
ht_status cuda_vendor_gemm_run(void *vendor, int repeat);
void cuda_vendor_gemm_delete(cuda_vendor_gemm *vendor);

typedef struct cuda_copy_job {
    void *to;
    const void *from;
    size_t bytes;
} cuda_copy_job;
ht_status cuda_copy_run(void *job, int repeat);

/* --- Cases ------------------------------------------------------------------------------------------------------- */

void cuda_check_gemm(void);
void cuda_bench_gemm(void);
void cuda_check_fp8(void);
void cuda_bench_fp8(void);
void cuda_check_grouped(void);
void cuda_bench_grouped(void);
void cuda_check_cast(void);
void cuda_bench_cast(void);
void cuda_check_format(void);
void cuda_bench_format(void);
void cuda_check_formats_gemm(void);
void cuda_bench_formats_gemm(void);
void cuda_check_gemv(void);
void cuda_bench_gemv(void);
void cuda_check_attention(void);
void cuda_bench_attention(void);

#endif
