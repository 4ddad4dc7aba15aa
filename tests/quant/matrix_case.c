#include "quant/matrix_case.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/random.h"
#include "quant/gptq/gptq.h"
#include "support/check.h"

const char *const matrix_case_grids[MATRIX_CASE_GRIDS] = {
    "int1_g32",   "int2_g32_asym", "int3_g64",      "int4_g128", "int4_g32_asym", "int4_g128_words",
    "int5_g32",   "int6_row",      "int7_g64_asym", "int8_row",  "int4_tensor",   "fp8_tensor",
    "fp8_row",    "fp8_block",     "fp8_g128",      "mxfp8",     "mxfp8_e5m2",    "mxfp6_e2m3",
    "mxfp6_e3m2", "mxfp4",         "nvfp4",         "nvfp4_pts", "nf4",           "nf4_flat",
    "fp4",        "q4_0",          "q4_k",          "q5_k",      "q6_k",          "iq4_nl",
    "iq4_xs"};

float *matrix_case_text(size_t tokens, size_t cols, uint64_t seed) {
    float *x = malloc(tokens * cols * sizeof *x);
    for (size_t t = 0; t < tokens; t++) {
        float common = ht_random_normal(seed, 1, t), second = ht_random_normal(seed, 2, t);
        for (size_t c = 0; c < cols; c++) {
            float size = expf(0.8f * ht_random_normal(99, 3, c)); /* of the feature: the same for every text */
            x[t * cols + c] = size * (ht_random_normal(seed, 4, t * cols + c) + common * ht_random_normal(99, 5, c) +
                                      second * ht_random_normal(99, 6, c));
        }
    }
    return x;
}

void matrix_case_inputs(ht_moments *m, const float *x, const float *x_float, size_t tokens, size_t cols) {
    free(m->second);
    free(m->cross);
    m->cols = cols;
    m->tokens = tokens;
    m->what = HT_MOMENT_SECOND | (x_float ? HT_MOMENT_CROSS : 0);
    m->second = calloc(cols * cols, sizeof *m->second);
    m->cross = x_float ? calloc(cols * cols, sizeof *m->cross) : NULL;
    for (size_t i = 0; i < cols; i++)
        for (size_t j = x_float ? 0 : i; j < cols; j++) {
            double second = 0, cross = 0;
            for (size_t t = 0; t < tokens; t++) {
                second += (double)x[t * cols + i] * (double)x[t * cols + j];
                if (x_float)
                    cross += ((double)x_float[t * cols + i] - (double)x[t * cols + i]) * (double)x[t * cols + j];
            }
            m->second[i * cols + j] = j >= i ? (float)second : 0;
            if (x_float)
                m->cross[i * cols + j] = (float)cross;
        }
}

void matrix_case_create(matrix_case *c, const char *format, const char *method, size_t rows, size_t cols, size_t tokens,
                        size_t threads, uint64_t seed) {
    memset(c, 0, sizeof *c);
    ht_context_options options = ht_context_options_default();
    options.threads = threads;
    CHECK_OK(ht_context_create(&options, &c->ctx));
    CHECK_OK(ht_format_parse(format, &c->format));
    c->how = ht_row_options_default();
    c->settings = ht_settings_default(method);
    c->tokens = tokens;
    c->weight = malloc(rows * cols * sizeof *c->weight);
    for (size_t i = 0; i < rows * cols; i++)
        c->weight[i] = 0.05f * ht_random_normal(seed, 7, i);
    if (tokens) {
        float *x = matrix_case_text(tokens, cols, seed);
        matrix_case_inputs(&c->input, x, NULL, tokens, cols);
        free(x);
    }
    for (int p = 0; p < HT_PLANE_COUNT; p++) {
        size_t bytes = ht_format_plane_bytes(&c->format, (ht_plane)p, rows, cols);
        c->result.planes.plane[p] = bytes ? calloc(1, bytes) : NULL;
    }
    if (c->format.global != HT_DTYPE_NONE) {
        ht_range range = ht_range_empty();
        CHECK_OK(ht_range_add(&range, c->weight, HT_F32, rows * cols));
        *(float *)c->result.planes.plane[HT_PLANE_GLOBAL] = ht_format_global(&c->format, &c->how, &range);
    }
    c->result.decoded = malloc(rows * cols * sizeof(float));
    c->problem = (ht_matrix_problem){.ctx = c->ctx,
                                     .format = &c->format,
                                     .how = &c->how,
                                     .settings = &c->settings,
                                     .weight = c->weight,
                                     .rows = rows,
                                     .cols = cols,
                                     .input = tokens ? &c->input : NULL};
}

void matrix_case_destroy(matrix_case *c) {
    free(c->weight), free(c->result.decoded);
    free(c->input.second), free(c->input.cross), free(c->held_out.second), free(c->held_out.cross);
    for (int p = 0; p < HT_PLANE_COUNT; p++)
        free(c->result.planes.plane[p]);
    ht_context_destroy(c->ctx);
}

void matrix_case_stored(matrix_case *c, const golden *g) {
    const golden_tensor *h = golden_find(g, "H"), *w = golden_find(g, "W");
    if (!h || !w)
        return;
    size_t cols = h->shape[0];
    memcpy(c->weight, w->data, w->bytes);
    const float identity = 0;
    matrix_case_inputs(&c->input, &identity, NULL, 0, cols);
    c->input.tokens = 1;
    for (size_t i = 0; i < cols; i++)
        for (size_t j = i; j < cols; j++)
            c->input.second[i * cols + j] = ((const float *)h->data)[i * cols + j];
    c->problem.input = &c->input;
    if (c->format.global != HT_DTYPE_NONE) {
        ht_range range = ht_range_empty();
        CHECK_OK(ht_range_add(&range, c->weight, HT_F32, w->elements));
        *(float *)c->result.planes.plane[HT_PLANE_GLOBAL] = ht_format_global(&c->format, &c->how, &range);
    }
}

size_t matrix_case_different(const float *a, const float *b, size_t count, float tolerance) {
    size_t different = 0;
    for (size_t i = 0; i < count; i++)
        different += !(fabsf(a[i] - b[i]) <= tolerance);
    return different;
}

void matrix_case_gptq(matrix_case *c, int order, int scales) {
    c->settings.value[HT_SETTING_ORDER] = order;
    c->settings.value[HT_SETTING_SCALES] = scales;
    CHECK_OK(ht_gptq_matrix(&c->problem, &c->result));
}
