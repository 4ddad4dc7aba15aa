/* Scales of inputs: the worked vectors of SmoothQuant and AWQ, shared channels, the least loss, odd inputs.
 * SPDX-License-Identifier: BSD-3-Clause */
#include "quant/transform/scaling.h"

#include <math.h>
#include <string.h>

#include "base/random.h"
#include "support/check.h"

enum { COLS = 64, ROWS = 24, TOKENS = 300 };

/* Algorithms specification, T-SQ: ranges of inputs (8, 0.5), of weights (0.5, 2). */
static void test_smooth_vector(void) {
    ht_context *ctx;
    REQUIRE_OK(ht_context_create(NULL, &ctx));
    float abs_max[4] = {8, 0.5f, 0, 3}, scale[4];
    const float w[12] = {0.25f, -2, 1, 0, -0.5f, 1, 1, 0, 0, 0, 0, 0};
    const double alphas[] = {0.5, 0, 1};
    const double want[3][2] = {{4, 0.5}, {2, 0.5}, {8, 0.5}};
    for (int i = 0; i < 3; i++) {
        ht_moments moments = {.ctx = ctx, .what = HT_MOMENT_RANGE, .cols = 4, .tokens = 1, .abs_max = abs_max};
        ht_settings settings = ht_settings_default("smooth");
        settings.value[HT_SETTING_ALPHA] = alphas[i];
        ht_scaling_reader reader[2] = {{.weight = w, .rows = 1}, {.weight = w + 4, .rows = 2}};
        ht_scaling_problem problem = {.ctx = ctx,
                                      .settings = &settings,
                                      .reader = reader,
                                      .readers = 2,
                                      .cols = 4,
                                      .input = &moments,
                                      .channels = 4};
        CHECK_OK(ht_smooth_scales(&problem, scale));
        CHECK_NEAR(scale[0], want[i][0], 1e-6);
        CHECK_NEAR(scale[1], want[i][1], 1e-6);
        CHECK(scale[2] == 1); /* never anything but zero */
        CHECK(scale[3] == 1); /* nobody reads it */
    }
    ht_context_destroy(ctx);
}

/* Inputs that come from one channel get one scale, made of the largest of them. */
static void test_smooth_shared(void) {
    ht_context *ctx;
    REQUIRE_OK(ht_context_create(NULL, &ctx));
    float abs_max[4] = {1, 2, 16, 0.5f}, scale[2];
    const float w[4] = {0.25f, 2, 1, 0.125f};
    const size_t channel[4] = {0, 1, 0, 1};
    ht_moments moments = {.ctx = ctx, .what = HT_MOMENT_RANGE, .cols = 4, .tokens = 1, .abs_max = abs_max};
    ht_settings settings = ht_settings_default("smooth");
    ht_scaling_reader reader = {.weight = w, .rows = 1};
    ht_scaling_problem problem = {.ctx = ctx,
                                  .settings = &settings,
                                  .reader = &reader,
                                  .readers = 1,
                                  .cols = 4,
                                  .input = &moments,
                                  .channel = channel,
                                  .channels = 2};
    CHECK_OK(ht_smooth_scales(&problem, scale));
    CHECK_NEAR(scale[0], 4, 1e-6);
    CHECK_NEAR(scale[1], 1, 1e-6);
    ht_context_destroy(ctx);
}

/* Factors from statistics that rows run through, in batches of any size, are those of all rows at once, bit for bit,
 * for every alpha, any threads and instruction set. */
static void test_smooth_streams(void) {
    enum { MANY = 3000 };
    static const size_t BATCHES[] = {MANY, 1000, 128, 7, 1};
    static const double ALPHAS[] = {0, 0.25, 0.5, 0.75, 1};
    static float x[MANY * COLS], w[ROWS * COLS];
    float whole[COLS] = {0}, most = 0;
    for (size_t i = 0; i < MANY * COLS; i++) {
        x[i] = ht_random_normal(11, i / COLS, i % COLS) * (i % COLS == 9 ? 30 : i % COLS == 7 ? 0 : 1);
        whole[i % COLS] = fmaxf(whole[i % COLS], fabsf(x[i]));
    }
    for (size_t i = 0; i < ROWS * COLS; i++)
        w[i] = 0.02f * ht_random_normal(12, 1, i);
    for (size_t b = 0; b < sizeof BATCHES / sizeof *BATCHES; b++) {
        ht_context_options options = ht_context_options_default();
        ht_context *ctx;
        ht_moments *moments;
        options.threads = 1 + b % 3;
        options.cpu = b % 2 ? "baseline" : NULL;
        REQUIRE_OK(ht_context_create(&options, &ctx));
        REQUIRE_OK(ht_moments_create(ctx, COLS, HT_MOMENT_RANGE, &moments));
        for (size_t t = 0; t < MANY; t += BATCHES[b])
            CHECK_OK(ht_moments_add(moments, x + t * COLS, NULL, MANY - t < BATCHES[b] ? MANY - t : BATCHES[b], COLS));
        CHECK_OK(ht_moments_finish(moments));
        CHECK_BYTES(moments->abs_max, whole, sizeof whole);
        for (size_t a = 0; a < sizeof ALPHAS / sizeof *ALPHAS; a++) {
            ht_settings settings = ht_settings_default("smooth");
            settings.value[HT_SETTING_ALPHA] = ALPHAS[a];
            float streamed[COLS], full[COLS];
            ht_scaling_reader reader = {.weight = w, .rows = ROWS};
            ht_moments all = {.ctx = ctx, .what = HT_MOMENT_RANGE, .cols = COLS, .tokens = MANY, .abs_max = whole};
            ht_scaling_problem problem = {.ctx = ctx,
                                          .settings = &settings,
                                          .reader = &reader,
                                          .readers = 1,
                                          .cols = COLS,
                                          .input = moments,
                                          .channels = COLS};
            CHECK_OK(ht_smooth_scales(&problem, streamed));
            problem.input = &all;
            CHECK_OK(ht_smooth_scales(&problem, full));
            CHECK_BYTES(streamed, full, sizeof full);
            for (size_t j = 0; j < COLS; j++) {
                most = 0;
                for (size_t r = 0; r < ROWS; r++)
                    most = fmaxf(most, fabsf(w[r * COLS + j]));
                double eps = 1.1920928955078125e-7,
                       want = pow((double)whole[j] + eps, ALPHAS[a]) / pow((double)most + eps, 1 - ALPHAS[a]);
                CHECK_NEAR(full[j], j == 7 ? 1 : want, 1e-6);
            }
        }
        ht_moments_destroy(moments);
        ht_context_destroy(ctx);
    }
}

/* Statistics take the same memory whatever number of rows they have seen. */
static void test_memory_of_statistics(void) {
    static const unsigned WHAT[] = {HT_MOMENT_RANGE, HT_MOMENT_MEAN, HT_MOMENT_MEAN | HT_MOMENT_SECOND};
    float x[10 * COLS];
    for (size_t i = 0; i < 10 * COLS; i++)
        x[i] = ht_random_normal(13, 1, i);
    for (size_t k = 0; k < sizeof WHAT / sizeof *WHAT; k++) {
        ht_context *ctx;
        ht_moments *moments;
        REQUIRE_OK(ht_context_create(NULL, &ctx));
        REQUIRE_OK(ht_moments_create(ctx, COLS, WHAT[k], &moments));
        size_t used = 0, peak = 0;
        for (size_t t = 0; t < 2000; t++) {
            CHECK_OK(ht_moments_add(moments, x, NULL, 10, COLS));
            if (t == 50) /* after the first block of them */
                used = ht_context_memory_used(ctx), peak = ht_context_memory_peak(ctx);
        }
        CHECK_INT(ht_context_memory_used(ctx), used);
        CHECK_INT(ht_context_memory_peak(ctx), peak);
        CHECK_OK(ht_moments_finish(moments));
        CHECK_INT(moments->tokens, 20000);
        ht_moments_destroy(moments);
        ht_context_destroy(ctx);
    }
}

/* Algorithms specification, T-AWQ. */
static void test_awq_candidates(void) {
    const double mean[3] = {4, 1, 0.25};
    float scale[3];
    ht_awq_candidate(mean, NULL, 3, 0, 20, scale);
    for (int i = 0; i < 3; i++)
        CHECK(scale[i] == 1);
    ht_awq_candidate(mean, NULL, 3, 10, 20, scale);
    CHECK_NEAR(scale[0], 2, 1e-6);
    CHECK_NEAR(scale[1], 1, 1e-6);
    CHECK_NEAR(scale[2], 0.5, 1e-6);
    ht_awq_candidate(mean, NULL, 3, 19, 20, scale);
    CHECK_WITHIN(scale[0], 3.7321, 1e-4);
    CHECK_WITHIN(scale[1], 1, 1e-6);
    CHECK_WITHIN(scale[2], 0.2679, 1e-4);
    const double weight[3] = {1, 0.25, 1};
    ht_awq_candidate(mean, weight, 3, 0, 20, scale);
    CHECK(scale[0] == 1 && scale[1] == 1 && scale[2] == 1);
    ht_awq_candidate(mean, weight, 3, 10, 20, scale); /* 2, 2, 0.5 over their middle, 1 */
    CHECK_NEAR(scale[0], scale[1], 2e-4);
    CHECK_NEAR(scale[0] / scale[2], 4, 1e-6);
    const double none[2] = {0, 1}; /* an input that never fires */
    ht_awq_candidate(none, NULL, 2, 10, 20, scale);
    CHECK(scale[0] > 0 && isfinite(scale[1]));
}

/* --- The search ------------------------------------------------------------------------------------------------- */

typedef struct searched {
    ht_context *ctx;
    ht_moments *moments;
    float weight[ROWS * COLS];
    ht_format format;
    ht_row_options how;
} searched;

/* A few inputs are far larger than the others; one is always zero. */
static void prepare(searched *s, size_t threads, const char *format) {
    ht_context_options options = ht_context_options_default();
    options.threads = threads;
    float x[COLS];
    REQUIRE_OK(ht_context_create(&options, &s->ctx));
    REQUIRE_OK(ht_moments_create(s->ctx, COLS, HT_MOMENT_MEAN | HT_MOMENT_SECOND, &s->moments));
    for (size_t t = 0; t < TOKENS; t++) {
        for (size_t j = 0; j < COLS; j++)
            x[j] = ht_random_normal(3, t, j) * (j % 13 == 5 ? 20 : j == 7 ? 0 : 1);
        REQUIRE_OK(ht_moments_add(s->moments, x, NULL, 1, COLS));
    }
    REQUIRE_OK(ht_moments_finish(s->moments));
    for (size_t i = 0; i < ROWS * COLS; i++)
        s->weight[i] = 0.02f * ht_random_normal(5, 1, i);
    REQUIRE_OK(ht_format_parse(format, &s->format));
    s->how = ht_row_options_default();
}

static void release(searched *s) {
    ht_moments_destroy(s->moments);
    ht_context_destroy(s->ctx);
}

static void search(searched *s, int duo, float scale[COLS]) {
    ht_settings settings = ht_settings_default("awq");
    settings.value[HT_SETTING_DUO] = duo;
    ht_scaling_reader reader[3] = {
        {.weight = s->weight, .rows = ROWS / 2, .format = &s->format, .how = &s->how},
        {.weight = s->weight, .rows = 1, .format = NULL, .how = &s->how},
        {.weight = s->weight + ROWS / 2 * COLS, .rows = ROWS / 2, .format = &s->format, .how = &s->how}};
    ht_scaling_problem problem = {.ctx = s->ctx,
                                  .settings = &settings,
                                  .reader = reader,
                                  .readers = 3,
                                  .cols = COLS,
                                  .input = s->moments,
                                  .channels = COLS};
    CHECK_OK(ht_awq_scales(&problem, scale));
}

/* Output error of rounding W s and dividing by s, taken token by token. */
static double loss(const searched *s, const float scale[COLS]) {
    float scaled[COLS], decoded[COLS];
    uint8_t codes[COLS], scales[COLS * 4], zeros[COLS];
    float global = 1;
    ht_planes planes = {{codes, scales, zeros, NULL, &global}};
    double sum = 0;
    float error[COLS];
    for (size_t r = 0; r < ROWS; r++) {
        for (size_t j = 0; j < COLS; j++)
            scaled[j] = s->weight[r * COLS + j] * scale[j];
        CHECK_OK(ht_format_quantize(&s->format, &s->how, scaled, HT_F32, 1, COLS, &planes));
        CHECK_OK(ht_format_dequantize(&s->format, &planes, 1, COLS, decoded));
        for (size_t j = 0; j < COLS; j++)
            error[j] = s->weight[r * COLS + j] - decoded[j] / scale[j];
        for (size_t t = 0; t < TOKENS; t++) {
            double y = 0;
            for (size_t j = 0; j < COLS; j++)
                y += (double)(error[j] * ht_random_normal(3, t, j) * (j % 13 == 5 ? 20 : j == 7 ? 0 : 1));
            sum += y * y;
        }
    }
    return sum;
}

/* Large inputs get large scales, the output error falls well below that of no scales, and threads change nothing. */
static void test_awq_search(void) {
    static const char *const formats[] = {"int4_g32", "mxfp4", "int3_g64_asym"};
    float one[COLS], scale[COLS], again[COLS];
    for (size_t j = 0; j < COLS; j++)
        one[j] = 1;
    for (size_t f = 0; f < sizeof formats / sizeof *formats; f++) {
        searched s;
        prepare(&s, 1, formats[f]);
        search(&s, 0, scale);
        CHECK(scale[5] > scale[6]);
        CHECK(loss(&s, scale) < 0.7 * loss(&s, one));
        search(&s, 1, scale);
        CHECK(loss(&s, scale) < 0.7 * loss(&s, one));
        for (size_t j = 0; j < COLS; j++)
            CHECK(scale[j] > 0 && isfinite(scale[j]));
        release(&s);
        prepare(&s, 3, formats[f]);
        search(&s, 1, again);
        CHECK_BYTES(again, scale, sizeof scale);
        release(&s);
    }
}

int main(void) {
    RUN(test_smooth_vector);
    RUN(test_smooth_shared);
    RUN(test_smooth_streams);
    RUN(test_memory_of_statistics);
    RUN(test_awq_candidates);
    RUN(test_awq_search);
    return check_finish();
}
