/* Quantized keys and values: logits near those of the f32 cache, in the order of the formats' precision; the same bits
 * however a text is split into passes and on any number of threads; less memory; names.
 * SPDX-License-Identifier: BSD-3-Clause */
#include "model/cache.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/random.h"
#include "support/check.h"

enum { LENGTH = 40 };

/* Logits of a fixed text whose passes take `step` tokens; to be freed. */
static float *logits_of(ht_model *model, size_t step) {
    size_t vocabulary = model->config.vocabulary;
    float *logits = malloc(LENGTH * vocabulary * sizeof *logits);
    int32_t ids[LENGTH];
    ht_sequence *sequence;
    for (int i = 0; i < LENGTH; i++)
        ids[i] = (int32_t)(ht_random_u32(4, 2, (uint64_t)i) % vocabulary);
    CHECK_OK(ht_sequence_create(model, LENGTH, &sequence));
    for (size_t at = 0; at < LENGTH; at += step) {
        size_t n = LENGTH - at < step ? LENGTH - at : step;
        CHECK_OK(ht_model_forward(model, sequence, ids + at, n, logits + at * vocabulary, n));
    }
    ht_sequence_destroy(sequence);
    return logits;
}

/* |a - b| / |a| */
static double distance(const float *a, const float *b, size_t count) {
    double error = 0, size = 0;
    for (size_t i = 0; i < count; i++) {
        error += ((double)a[i] - (double)b[i]) * ((double)a[i] - (double)b[i]);
        size += (double)a[i] * (double)a[i];
    }
    return sqrt(error / size);
}

static void test_near(void) {
    static const char *const models[] = {"tiny/llama", "tiny/qwen3-moe", "tiny/gpt-oss", "tiny/mistral-window"};
    static const struct {
        const char *name;
        double least, most;
    } formats[] = {{"f32", 0, 0}, {"int8", 1e-6, 0.04}, {"fp8", 1e-5, 0.2}, {"int4", 1e-4, 0.5}};
    for (size_t m = 0; m < sizeof models / sizeof *models; m++) {
        ht_context *ctx;
        ht_model *model;
        REQUIRE_OK(ht_context_create(NULL, &ctx));
        REQUIRE_OK(ht_model_open(ctx, check_data(models[m]), &model));
        size_t count = LENGTH * model->config.vocabulary;
        float *plain = logits_of(model, LENGTH);
        double before = -1;
        for (size_t f = 0; f < sizeof formats / sizeof *formats; f++) {
            CHECK_OK(ht_model_set_cache(model, formats[f].name));
            float *got = logits_of(model, LENGTH);
            double d = distance(plain, got, count);
            if (!CHECK(d >= formats[f].least && d <= formats[f].most))
                fprintf(stderr, "  %s of %s: %g\n", formats[f].name, models[m], d);
            CHECK(d > before);
            before = d;
            free(got);
        }
        free(plain);
        ht_model_close(model);
        ht_context_destroy(ctx);
    }
}

static void test_splits(void) {
    static const char *const names[] = {"fp8", "int8", "int4"};
    for (size_t f = 0; f < sizeof names / sizeof *names; f++) {
        float *first = NULL;
        size_t count = 0;
        for (size_t threads = 1; threads <= 3; threads++) {
            ht_context_options options = ht_context_options_default();
            ht_context *ctx;
            ht_model *model;
            options.threads = threads;
            REQUIRE_OK(ht_context_create(&options, &ctx));
            REQUIRE_OK(ht_model_open(ctx, check_data("tiny/llama"), &model));
            CHECK_OK(ht_model_set_cache(model, names[f]));
            count = LENGTH * model->config.vocabulary;
            for (size_t step = threads == 1 ? 1 : LENGTH; step <= LENGTH; step += 13) {
                float *got = logits_of(model, step);
                if (first)
                    CHECK_F32_WITHIN(got, first, count, 1e-6);
                else
                    first = got;
                if (got != first)
                    free(got);
            }
            ht_model_close(model);
            ht_context_destroy(ctx);
        }
        free(first);
    }
}

/* A layer's f32 rows, and 1.125, 1.125 and 0.625 bytes a value with heads of 64. */
static void test_memory(void) {
    static const struct {
        const char *format;
        size_t record;
    } rows[] = {{"fp8_row", 72}, {"int8_row", 72}, {"int4_row_asym", 40}};
    ht_context *ctx;
    ht_model *model;
    ht_sequence *sequence;
    for (size_t i = 0; i < 3; i++) {
        ht_format format;
        REQUIRE_OK(ht_format_parse(rows[i].format, &format));
        CHECK_INT(ht_cache_record(&format, 64), rows[i].record);
    }
    REQUIRE_OK(ht_context_create(NULL, &ctx));
    REQUIRE_OK(ht_model_open(ctx, check_data("tiny/llama"), &model));
    size_t before = ht_context_memory_used(ctx), used[2];
    for (int quantized = 0; quantized < 2; quantized++) {
        CHECK_OK(ht_model_set_cache(model, quantized ? "int4" : "f32"));
        REQUIRE_OK(ht_sequence_create(model, 1 << 14, &sequence));
        used[quantized] = ht_context_memory_used(ctx) - before;
        ht_sequence_destroy(sequence);
        CHECK_INT(ht_context_memory_used(ctx), before);
    }
    CHECK(used[1] < used[0]);
    CHECK_FAILS(ht_model_set_cache(model, "int5"), HT_ERR_ARGUMENT);
    CHECK_CONTAINS(ht_error_message(), "allowed: f32, fp8, int8, int4");
    ht_model_close(model);
    ht_context_destroy(ctx);
}

int main(void) {
    RUN(test_near);
    RUN(test_splits);
    RUN(test_memory);
    return check_finish();
}
