/* Attention timings: 16384 tokens in all, heads x dim = 2048, on random data, beside the bf16 product 8192^3 in the
 * same rounds. Causal products count half.
 * SPDX-License-Identifier: BSD-3-Clause */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "cuda_check.h"
#include "kernels/cuda/attention.h"
#include "kernels/cuda/cuda.h"

enum { TOKENS = 16384, WIDTH = 2048, SIDE = 8192 };

typedef struct attention_job {
    ht_cuda_attention_args args;
    ht_cuda_attention_quantize_args quantize;
    int with_quantize;
} attention_job;

static void *memory_a, *memory_b, *memory_d;            /* of the yardstick */
static void *memory_q, *memory_k, *memory_v, *memory_o; /* TOKENS x up to 4 WIDTH */
static void *memory_8, *memory_lse, *memory_table;

static ht_status gemm_run(void *arg, int repeat) {
    (void)arg, (void)repeat;
    ht_cuda_gemm_args args = {.m = SIDE,
                              .n = SIDE,
                              .k = SIDE,
                              .a = memory_a,
                              .b = memory_b,
                              .d = memory_d,
                              .lda = SIDE,
                              .ldb = SIDE,
                              .ldd = SIDE,
                              .in = HT_BF16,
                              .out = HT_BF16};
    return ht_cuda_gemm(&args, NULL);
}

static ht_status attention_run(void *arg, int repeat) {
    attention_job *job = arg;
    (void)repeat;
    if (job->with_quantize)
        if (ht_cuda_attention_quantize(&job->quantize, NULL) != HT_OK)
            return HT_ERR_DEVICE;
    return job->args.out ? ht_cuda_attention(&job->args, NULL) : HT_OK;
}

static void set_up(void) {
    size_t wide = (size_t)TOKENS * WIDTH * 4;
    uint16_t *x = cuda_random_bf16(wide);
    memory_q = cuda_upload(x, wide * 2);
    memory_k = cuda_upload(x + 999, (wide / 4) * 2);
    memory_v = cuda_upload(x + 77777, (wide / 4) * 2);
    memory_o = cuda_new(wide * 2);
    memory_a = cuda_upload(x, (size_t)SIDE * SIDE * 2);
    memory_b = cuda_upload(x + 12345, (size_t)SIDE * SIDE * 2);
    memory_d = cuda_new((size_t)SIDE * SIDE * 2);
    memory_8 = cuda_new(wide * 2);
    memory_lse = cuda_new((size_t)TOKENS * 64 * 4);
    free(x);
    float *table = malloc((size_t)TOKENS * 128 * 4);
    for (size_t i = 0; i < (size_t)TOKENS * 128; i++)
        table[i] = (float)cos((double)i);
    memory_table = cuda_upload(table, (size_t)TOKENS * 128 * 4);
    free(table);
}

static void tear_down(void) {
    void *all[] = {memory_a, memory_b, memory_d, memory_q,   memory_k,
                   memory_v, memory_o, memory_8, memory_lse, memory_table};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        cuda_delete(all[i]);
}

static attention_job job_new(size_t s, size_t heads, size_t kv_heads, size_t d, int causal) {
    attention_job job = {.args = {.batch = TOKENS / s,
                                  .heads = heads,
                                  .kv_heads = kv_heads,
                                  .q_rows = s,
                                  .kv_rows = s,
                                  .head_dim = d,
                                  .dtype = HT_BF16,
                                  .out_dtype = HT_BF16,
                                  .q = {memory_q, s * heads * d, heads * d, d},
                                  .k = {memory_k, s * kv_heads * d, kv_heads * d, d},
                                  .v = {memory_v, s * kv_heads * d, kv_heads * d, d},
                                  .out = memory_o,
                                  .out_batch = s * heads * d,
                                  .out_row = heads * d,
                                  .out_head = d,
                                  .scale = (float)(1 / sqrt((double)d)),
                                  .causal = causal,
                                  .lse = memory_lse}};
    job.quantize = (ht_cuda_attention_quantize_args){.batch = job.args.batch,
                                                     .heads = heads,
                                                     .kv_heads = kv_heads,
                                                     .q_rows = s,
                                                     .kv_rows = s,
                                                     .head_dim = d,
                                                     .dtype = HT_BF16,
                                                     .q = job.args.q,
                                                     .k = job.args.k,
                                                     .v = job.args.v,
                                                     .cosine = memory_table,
                                                     .sine = memory_table,
                                                     .hadamard_qk = 1,
                                                     .hadamard_v = 1,
                                                     .quantized = memory_8};
    return job;
}

static attention_job job_fp8(attention_job job) {
    job.args.dtype = HT_F8_E4M3;
    job.args.quantized = memory_8;
    return job;
}

/* bf16 and fp8 of one shape in one table. `which`: 1 bf16, 2 fp8, 3 both. */
static void shape(size_t s, size_t heads, size_t kv_heads, size_t d, int causal, int which) {
    attention_job bf16 = job_new(s, heads, kv_heads, d, causal), fp8 = job_fp8(bf16);
    cuda_contender contenders[3] = {{"bf16 product 8192^3", gemm_run, NULL, 2.0 * SIDE * SIDE * SIDE, 0}};
    char title[96];
    double flops = 4.0 * TOKENS * (double)s * (double)heads * (double)d / (causal ? 2 : 1);
    int count = 1;
    cuda_must(ht_cuda_attention_quantize(&bf16.quantize, NULL), "quantize");
    if (which & 1)
        contenders[count++] = (cuda_contender){"bf16", attention_run, &bf16, flops, 0};
    if (which & 2)
        contenders[count++] = (cuda_contender){"fp8", attention_run, &fp8, flops, 0};
    snprintf(title, sizeof title, "attention d%zu, S %zu, batch %d, heads %zu/%zu, %s", d, s, (int)(TOKENS / s), heads,
             kv_heads, causal ? "causal" : "full");
    cuda_measure(title, contenders, count, 9, 6);
}

/* The quantizer against a copy of its bytes, and the whole of RoPE, Hadamard, quantization and fp8 attention against
 * bf16 attention. */
static void fused(size_t s, size_t d, int causal) {
    size_t heads = WIDTH / d, elements = 3 * (size_t)TOKENS * WIDTH;
    attention_job plain = job_new(s, heads, heads, d, causal), quantize = plain, whole = job_fp8(plain);
    cuda_copy_job copy = {memory_o, memory_q, elements * 3 / 2};
    double flops = 4.0 * TOKENS * (double)s * WIDTH / (causal ? 2 : 1);
    quantize.args.out = NULL;
    quantize.with_quantize = whole.with_quantize = whole.args.hadamard_v = 1;
    cuda_contender alone[] = {{"copy", cuda_copy_run, &copy, 0, (double)elements * 3},
                              {"rope + hadamard + quantize", attention_run, &quantize, 0, (double)elements * 3}};
    cuda_contender both[] = {{"bf16 attention", attention_run, &plain, flops, 0},
                             {"rope + hadamard + quantize + fp8", attention_run, &whole, flops, 0}};
    char title[96];
    snprintf(title, sizeof title, "pre-processing, d%zu, S %zu, bytes read once and codes written", d, s);
    cuda_measure(title, alone, 2, 7, 6);
    snprintf(title, sizeof title, "fused fp8 against bf16, d%zu, S %zu, %s", d, s, causal ? "causal" : "full");
    cuda_measure(title, both, 2, 7, 3);
}

void cuda_bench_attention(void) {
    const char *only = getenv("CUDA_CHECK_SHAPE"); /* "bf16", "fp8": one shape, for a profiler */
    set_up();
    if (only) {
        shape(8192, 16, 16, 128, 0, only[0] == 'f' ? 2 : 1);
        tear_down();
        return;
    }
    for (size_t s = 4096; s <= 16384; s *= 2)
        for (int causal = 0; causal < 2; causal++) {
            shape(s, 16, 16, 128, causal, 3);
            shape(s, 32, 32, 64, causal, 3);
        }
    shape(8192, 64, 8, 128, 0, 3);
    shape(8192, 64, 8, 128, 1, 3);
    fused(8192, 128, 0);
    fused(16384, 128, 0);
    fused(16384, 128, 1);
    tear_down();
}
