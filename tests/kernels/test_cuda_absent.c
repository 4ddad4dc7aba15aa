/* A build without CUDA links the GPU kernels' calls, and each says why it does nothing. */
#include <string.h>

#include "kernels/cuda/attention.h"
#include "kernels/cuda/cuda.h"
#include "support/check.h"

static void test_calls_answer_unsupported(void) {
    char block[64] = {0};
    ht_cuda_gemm_args gemm = {.m = 1, .n = 1, .k = 1, .a = block, .b = block, .d = block, .in = HT_BF16, .out = HT_F32};
    ht_cuda_mxfp8_args cast = {.x = block, .rows = 1, .cols = 32, .rule = HT_SCALE_RCEIL};
    CHECK_FAILS(ht_cuda_gemm(&gemm, NULL), HT_ERR_UNSUPPORTED);
    CHECK_CONTAINS(ht_error_message(), "HT_CUDA=ON");
    CHECK_FAILS(ht_cuda_cast_mxfp8(&cast, NULL), HT_ERR_UNSUPPORTED);
    CHECK_FAILS(ht_cuda_gemv_pack(HT_GEMV_MXFP4, block, block, 16, 128, block, NULL), HT_ERR_UNSUPPORTED);
    CHECK_FAILS(ht_cuda_gemv(HT_GEMV_MXFP4, block, 16, 128, block, 1, block, NULL), HT_ERR_UNSUPPORTED);
    ht_cuda_gemm_block_args block_gemm = {.m = 1, .n = 1, .k = 128};
    CHECK_FAILS(ht_cuda_gemm_block(&block_gemm, NULL), HT_ERR_UNSUPPORTED);
    CHECK_FAILS(ht_cuda_cast_fp8_row(block, 1, 8, (uint8_t *)block, NULL, NULL), HT_ERR_UNSUPPORTED);
    CHECK_FAILS(ht_cuda_cast_fp8_block(block, 1, 128, (uint8_t *)block, NULL, 1, NULL), HT_ERR_UNSUPPORTED);
    CHECK_FAILS(ht_cuda_expand_mxfp8((uint8_t *)block, (uint8_t *)block, 1, 32, block, NULL), HT_ERR_UNSUPPORTED);
    ht_cuda_grouped_args grouped = {.groups = 1, .m = 1, .n = 8, .k = 16};
    CHECK_FAILS(ht_cuda_grouped(&grouped, NULL), HT_ERR_UNSUPPORTED);
    ht_format format;
    ht_planes planes = {{block, block}};
    CHECK_OK(ht_format_parse("mxfp4", &format));
    ht_cuda_cast_args to_format = {.format = &format, .x = block, .x_dtype = HT_BF16, .rows = 1, .cols = 32};
    CHECK_FAILS(ht_cuda_cast(&to_format, NULL), HT_ERR_UNSUPPORTED);
    CHECK_FAILS(ht_cuda_decode(&format, &planes, 1, 32, block, HT_BF16, NULL), HT_ERR_UNSUPPORTED);
    CHECK_FAILS(ht_cuda_amax(block, HT_BF16, 8, 0, (uint32_t *)(void *)block, NULL), HT_ERR_UNSUPPORTED);
    ht_cuda_gemm_weight_args weight = {.m = 1, .n = 8, .k = 32, .format = &format};
    CHECK_FAILS(ht_cuda_gemm_weight(&weight, NULL), HT_ERR_UNSUPPORTED);
    ht_cuda_gemm_mxfp8_args mxfp8 = {.m = 1, .n = 8, .k = 32};
    CHECK_FAILS(ht_cuda_gemm_mxfp8(&mxfp8, NULL), HT_ERR_UNSUPPORTED);
    CHECK_INT(ht_cuda_gemm_weight_scratch(8, 32), 0);
    CHECK_INT(ht_cuda_gemv_packed_bytes(HT_GEMV_MXFP4, 16, 128), 0);
}

static void test_attention_answers_unsupported(void) {
    ht_cuda_attention_args args = {.batch = 1, .heads = 1, .kv_heads = 1, .head_dim = 128, .dtype = HT_BF16};
    ht_cuda_attention_quantize_args quantize = {.batch = 1, .heads = 1, .kv_heads = 1, .head_dim = 128};
    CHECK_TEXT(ht_cuda_attention_refuses(&args), "this build has no CUDA");
    CHECK_FAILS(ht_cuda_attention(&args, NULL), HT_ERR_UNSUPPORTED);
    CHECK_FAILS(ht_cuda_attention_quantize(&quantize, NULL), HT_ERR_UNSUPPORTED);
    CHECK_INT(ht_cuda_attention_quantized_bytes(1, 1, 1, 1, 1, 128), 0);
}

static void test_kernels_have_names(void) {
    for (int i = 0; i < HT_GEMM_KERNEL_COUNT; i++)
        CHECK(ht_gemm_kernel_name((ht_gemm_kernel)i) != NULL);
    CHECK(ht_gemm_kernel_name(HT_GEMM_KERNEL_COUNT) == NULL);
}

int main(void) {
    RUN(test_calls_answer_unsupported);
    RUN(test_attention_answers_unsupported);
    RUN(test_kernels_have_names);
    return check_finish();
}
