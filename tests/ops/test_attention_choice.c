/* Which kernel ht_attention chooses and what it says about the others; what it refuses. */
#include <math.h>
#include <stdlib.h>

#include <halftone/attention.h>

#include "attention_problem.h"
#include "support/check.h"

static ht_context *ctx;

static void test_choice(void) {
    struct problem p = problem_new(1, 1, 1, 2, 2, 8, 8);
    ht_attention_report report;
    CHECK_OK(ht_attention(ctx, &p.args, &report));
    CHECK_TEXT(report.kernel, "cpu_f32");
    CHECK_TEXT(report.reason, "");
    p.args.on_gpu = 1;
    CHECK_FAILS(ht_attention(ctx, &p.args, &report), HT_ERR_UNSUPPORTED);
    CHECK_CONTAINS(ht_error_message(), "bf16_sm90: it takes and gives bf16 or f16");
    p.args.on_gpu = 0;
    p.args.precision = HT_ATTENTION_FP8; /* a permission: the f32 kernel may run, and the report says why */
    CHECK_OK(ht_attention(ctx, &p.args, &report));
    CHECK_TEXT(report.kernel, "cpu_f32");
    CHECK_TEXT(report.reason, "fp8_sm90: the data is on the host");
    p.args.precision = HT_ATTENTION_INPUT;
    p.args.kernel = "fp8_sm90";
    CHECK_FAILS(ht_attention(ctx, &p.args, &report), HT_ERR_UNSUPPORTED);
    CHECK_CONTAINS(ht_error_message(), "fp8_sm90 cannot run this: the data is on the host");
    p.args.kernel = "fast";
    CHECK_FAILS(ht_attention(ctx, &p.args, &report), HT_ERR_ARGUMENT);
    CHECK_CONTAINS(ht_error_message(), "cpu_f32, cpu_fp8, reference_f64");
    size_t bytes = 1, count = 0;
    p.args.kernel = NULL;
    CHECK_OK(ht_attention_workspace(&p.args, &bytes));
    CHECK_INT(bytes, 0);
    while (ht_attention_kernel_name(count))
        CHECK(ht_attention_kernel_summary(count++)[0] != '\0');
    CHECK(count >= 2);
    CHECK_TEXT(ht_attention_precision_name(HT_ATTENTION_FP8_HADAMARD_V), "fp8-hadamard-v");
    CHECK(ht_attention_precision_name(HT_ATTENTION_PRECISION_COUNT) == NULL);
    problem_free(&p);
}

static void test_refusals(void) {
    struct problem p = problem_new(1, 3, 3, 2, 2, 8, 8);
    ht_attention_args bad = p.args;
    static const int32_t DOWN[2] = {0, -1}, LATE[2] = {1, 2}, LONG[2] = {0, 3}, FINE[2] = {0, 2};
    bad.kv_heads = 2;
    CHECK_FAILS(ht_attention(ctx, &bad, NULL), HT_ERR_SHAPE);
    CHECK_CONTAINS(ht_error_message(), "3 heads over 2");
    bad = p.args, bad.kv_heads = 0;
    CHECK_FAILS(ht_attention(ctx, &bad, NULL), HT_ERR_SHAPE);
    bad = p.args, bad.head_dim = 0;
    CHECK_FAILS(ht_attention(ctx, &bad, NULL), HT_ERR_SHAPE);
    bad = p.args, bad.kv_rows = SIZE_MAX;
    CHECK_FAILS(ht_attention(ctx, &bad, NULL), HT_ERR_SHAPE);
    bad = p.args, bad.dtype = HT_I8;
    CHECK_FAILS(ht_attention(ctx, &bad, NULL), HT_ERR_UNSUPPORTED);
    bad = p.args, bad.out_dtype = HT_F64;
    CHECK_FAILS(ht_attention(ctx, &bad, NULL), HT_ERR_UNSUPPORTED);
    bad = p.args, bad.scale = (double)NAN;
    CHECK_FAILS(ht_attention(ctx, &bad, NULL), HT_ERR_ARGUMENT);
    bad = p.args, bad.softcap = -1;
    CHECK_FAILS(ht_attention(ctx, &bad, NULL), HT_ERR_ARGUMENT);
    bad = p.args, bad.precision = HT_ATTENTION_PRECISION_COUNT;
    CHECK_FAILS(ht_attention(ctx, &bad, NULL), HT_ERR_ARGUMENT);
    bad = p.args, bad.mask.kind = HT_MASK_BOOL;
    CHECK_FAILS(ht_attention(ctx, &bad, NULL), HT_ERR_ARGUMENT);
    bad = p.args, bad.k.data = NULL;
    CHECK_FAILS(ht_attention(ctx, &bad, NULL), HT_ERR_ARGUMENT);
    bad = p.args, bad.q_offsets = FINE;
    CHECK_FAILS(ht_attention(ctx, &bad, NULL), HT_ERR_ARGUMENT);
    bad.kv_offsets = DOWN;
    CHECK_FAILS(ht_attention(ctx, &bad, NULL), HT_ERR_ARGUMENT);
    CHECK_CONTAINS(ht_error_message(), "offset 1 of the keys is -1");
    bad.kv_offsets = LATE;
    CHECK_FAILS(ht_attention(ctx, &bad, NULL), HT_ERR_ARGUMENT);
    bad.kv_offsets = LONG;
    CHECK_FAILS(ht_attention(ctx, &bad, NULL), HT_ERR_SHAPE);
    bad.kv_offsets = FINE;
    CHECK_OK(ht_attention(ctx, &bad, NULL));
    problem_free(&p);
}

int main(void) {
    if (ht_context_create(NULL, &ctx) != HT_OK)
        return 1;
    RUN(test_choice);
    RUN(test_refusals);
    ht_context_destroy(ctx);
    return check_finish();
}
