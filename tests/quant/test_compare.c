/* Comparing checkpoints as numbers.
 * SPDX-License-Identifier: BSD-3-Clause */
#include <halftone/quant.h>

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "support/check.h"

static ht_context *ctx;

static const ht_tensor_difference *find(const ht_comparison *comparison, const char *name) {
    const ht_tensor_difference *row;
    for (size_t i = 0; (row = ht_comparison_at(comparison, i)); i++)
        if (strcmp(row->name, name) == 0)
            return row;
    return NULL;
}

static void save(const char *path, const char *const *names, const ht_tensor *tensors, size_t count) {
    CHECK_OK(ht_safetensors_save(ctx, path, names, tensors, count, NULL));
}

static void test_numbers(void) {
    char a[512], b[512];
    snprintf(a, sizeof a, "%s/a.safetensors", check_scratch());
    snprintf(b, sizeof b, "%s/b.safetensors", check_scratch());
    float x[6] = {1, 2, 3, 4, INFINITY, NAN}, y[6] = {1, 2, 3, 4.5f, INFINITY, NAN}, z[4] = {0};
    int32_t ids[2] = {1, 2}, other[2] = {1, 3};
    size_t six = 6, two = 2, square[2] = {2, 2}, row[2] = {1, 4};
    const char *names_a[] = {"close", "ids", "mine", "shape"}, *names_b[] = {"close", "ids", "shape", "yours"};
    ht_tensor in_a[] = {ht_tensor_view(x, HT_F32, 1, &six), ht_tensor_view(ids, HT_I32, 1, &two),
                        ht_tensor_view(z, HT_F32, 2, square), ht_tensor_view(z, HT_F32, 2, square)};
    ht_tensor in_b[] = {ht_tensor_view(y, HT_F32, 1, &six), ht_tensor_view(other, HT_I32, 1, &two),
                        ht_tensor_view(z, HT_F32, 2, row), ht_tensor_view(z, HT_F32, 2, square)};
    save(a, names_a, in_a, 4);
    save(b, names_b, in_b, 4);
    ht_comparison *comparison;
    REQUIRE_OK(ht_compare(ctx, a, b, &comparison));
    const ht_tensor_difference *close = find(comparison, "close");
    REQUIRE(close != NULL);
    CHECK_NEAR(close->max_abs, 0.5, 1e-12);
    CHECK_TEXT(find(comparison, "ids")->note, "not numbers, and their bytes differ");
    CHECK_TEXT(find(comparison, "mine")->note, "only in A");
    CHECK_TEXT(find(comparison, "yours")->note, "only in B");
    CHECK_TEXT(find(comparison, "shape")->note, "shapes differ");
    CHECK(ht_comparison_at(comparison, 5) == NULL);
    ht_comparison_destroy(comparison);
    REQUIRE_OK(ht_compare(ctx, a, a, &comparison));
    for (size_t i = 0; ht_comparison_at(comparison, i); i++) {
        CHECK(isinf(ht_comparison_at(comparison, i)->sqnr_db));
        CHECK(ht_comparison_at(comparison, i)->max_abs == 0);
    }
    ht_comparison_destroy(comparison);
    CHECK_FAILS(ht_compare(ctx, a, "/nonexistent", &comparison), HT_ERR_IO);
    CHECK(comparison == NULL);
}

/* The error that quantizing reports and the one that comparing finds are the same number. */
static void test_agrees(void) {
    static const char *const models[] = {"llama", "gpt-oss"};
    for (size_t m = 0; m < 2; m++) {
        char relative[64], out[512];
        snprintf(relative, sizeof relative, "tiny/%s", models[m]);
        snprintf(out, sizeof out, "%s/%s", check_scratch(), models[m]);
        ht_quantize_options options = ht_quantize_options_default();
        options.scheme = "mxfp4-w";
        ht_plan *plan;
        ht_comparison *comparison;
        REQUIRE_OK(ht_quantize_checkpoint(ctx, check_data(relative), out, &options, &plan));
        REQUIRE_OK(ht_compare(ctx, check_data(relative), out, &comparison));
        for (size_t i = 0; i < ht_plan_count(plan); i++) {
            const ht_plan_tensor *tensor = ht_plan_at(plan, i);
            const ht_tensor_difference *row = find(comparison, tensor->name);
            if (!CHECK(row != NULL) || !*tensor->method)
                continue;
            CHECK_TEXT(row->note, "");
            CHECK_NEAR(pow(10, -row->sqnr_db / 20), tensor->error, 1e-9);
        }
        ht_comparison_destroy(comparison);
        ht_plan_destroy(plan);
    }
}

int main(void) {
    if (ht_context_create(NULL, &ctx) != HT_OK)
        return 1;
    RUN(test_numbers);
    RUN(test_agrees);
    ht_context_destroy(ctx);
    return check_finish();
}
