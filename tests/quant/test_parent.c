/* Scales judged by the block's output: the error is that of the block as the decoder runs it, the choice is no worse
 * than that by linears on this measure and never worse than none, threads change nothing.
 * SPDX-License-Identifier: BSD-3-Clause */
#include "quant/transform/parent.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/random.h"
#include "quant/decode.h"
#include "quant/transform/scaling.h"
#include "support/check.h"

enum { SAMPLES = 3, LENGTH = 24, MOST_READERS = 64 };

typedef struct bench {
    ht_context *ctx;
    ht_model *model;
    ht_sequence *sequence;
    ht_hidden *hidden;
    ht_arena arena;
    ht_site_map *site;
    size_t sites;
    ht_moments *moments;
    const ht_site_map *at; /* that rows are gathered of */
} bench;

static void open_bench(bench *b, const char *family, size_t threads) {
    char path[128];
    ht_context_options options = ht_context_options_default();
    *b = (bench){.ctx = NULL};
    options.threads = threads;
    snprintf(path, sizeof path, "tiny/%s", family);
    REQUIRE_OK(ht_context_create(&options, &b->ctx));
    REQUIRE_OK(ht_model_open(b->ctx, check_data(path), &b->model));
    REQUIRE_OK(ht_block_sequence(b->model, LENGTH, &b->sequence));
    REQUIRE_OK(ht_hidden_create(b->ctx, SAMPLES, LENGTH * b->model->config.hidden, SIZE_MAX, NULL, &b->hidden));
    for (size_t s = 0; s < SAMPLES; s++) {
        int32_t ids[LENGTH];
        float *x;
        for (size_t t = 0; t < LENGTH; t++)
            ids[t] = (int32_t)(ht_random_u32(5, s, t) % b->model->config.vocabulary);
        CHECK_OK(ht_hidden_load(b->hidden, s, &x));
        CHECK_OK(ht_block_embed(b->model, ids, LENGTH, x));
    }
    ht_arena_init(&b->arena, b->ctx);
    REQUIRE_OK(ht_layer_sites(b->model, 0, &b->arena, &b->site, &b->sites));
}

static void close_bench(bench *b) {
    ht_arena_release(&b->arena);
    ht_hidden_destroy(b->hidden);
    ht_sequence_destroy(b->sequence);
    ht_model_close(b->model);
    ht_context_destroy(b->ctx);
}

static ht_status see(void *user, const ht_site_rows *rows) {
    const bench *b = user;
    if (rows->site != b->at->site || rows->expert != b->at->expert)
        return HT_OK;
    return ht_moments_add(b->moments, rows->x, NULL, rows->rows, rows->cols);
}

static void gather(bench *b, const ht_site_map *site) {
    const ht_watch watch = {.see = see, .user = b, .stop = HT_SITE_COUNT};
    float *copy = malloc(LENGTH * b->model->config.hidden * sizeof *copy);
    b->at = site;
    REQUIRE_OK(ht_moments_create(b->ctx, site->cols, HT_MOMENT_MEAN | HT_MOMENT_SECOND, &b->moments));
    for (size_t s = 0; s < SAMPLES; s++) {
        float *x;
        CHECK_OK(ht_hidden_load(b->hidden, s, &x));
        memcpy(copy, x, LENGTH * b->model->config.hidden * sizeof *x);
        CHECK_OK(ht_block_run(b->sequence, 0, copy, LENGTH, &watch));
    }
    CHECK_OK(ht_moments_finish(b->moments));
    free(copy);
}

/* W as it is after scaling, rounding and scaling back. */
static void rounded(const ht_scaling_reader *reader, size_t cols, const size_t *channel, const float *scale,
                    float *out) {
    size_t bytes[2] = {ht_format_plane_bytes(reader->format, HT_PLANE_CODES, reader->rows, cols),
                       ht_format_plane_bytes(reader->format, HT_PLANE_SCALES, reader->rows, cols)};
    void *codes = malloc(bytes[0]), *scales = malloc(bytes[1]);
    ht_planes planes = {{codes, scales}};
    for (size_t i = 0; i < reader->rows * cols; i++)
        out[i] = reader->weight[i] * scale[channel ? channel[i % cols] : i % cols];
    CHECK_OK(ht_format_quantize(reader->format, NULL, out, HT_F32, reader->rows, cols, &planes));
    CHECK_OK(ht_format_dequantize(reader->format, &planes, reader->rows, cols, out));
    for (size_t i = 0; i < reader->rows * cols; i++)
        out[i] /= scale[channel ? channel[i % cols] : i % cols];
    free(codes);
    free(scales);
}

static double error_of(ht_parent *parent, const ht_scaling_problem *p, const float *scale) {
    double error = NAN;
    for (size_t i = 0; i < p->readers; i++) {
        float *w = malloc(p->reader[i].rows * p->cols * sizeof *w);
        rounded(&p->reader[i], p->cols, p->channel, scale, w);
        ht_parent_set(parent, &p->linear[i], w);
        free(w);
    }
    CHECK_OK(ht_parent_error(parent, &error));
    for (size_t i = 0; i < p->readers; i++)
        ht_parent_set(parent, &p->linear[i], p->reader[i].weight);
    return error;
}

/* One site under both measures; how much better the block's is on its own. */
static double check_site(bench *b, ht_parent *parent, const ht_site_map *site, const ht_format *format, float *chosen) {
    ht_scaling_reader reader[MOST_READERS];
    ht_settings settings = ht_settings_default("awq");
    ht_row_options how = ht_row_options_default();
    float *by_layer = malloc(site->channels * sizeof *by_layer), *none = malloc(site->channels * sizeof *none);
    if (!CHECK(site->readers <= MOST_READERS))
        exit(1);
    gather(b, site);
    for (size_t i = 0; i < site->readers; i++) {
        const ht_parameter *p = ht_checkpoint_parameter(b->model->checkpoint, site->reader[i].parameter);
        float *w = ht_arena_alloc(&b->arena, p->weight.rows * site->cols * sizeof *w);
        CHECK_OK(ht_decode_rows(p, site->reader[i].entry, 0, p->weight.rows, w));
        reader[i] = (ht_scaling_reader){.weight = w, .rows = p->weight.rows, .format = format, .how = &how};
    }
    ht_scaling_problem problem = {.ctx = b->ctx,
                                  .settings = &settings,
                                  .reader = reader,
                                  .readers = site->readers,
                                  .cols = site->cols,
                                  .input = b->moments,
                                  .channel = site->channel,
                                  .channels = site->channels,
                                  .linear = site->reader};
    for (size_t c = 0; c < site->channels; c++)
        none[c] = 1;
    CHECK_OK(ht_awq_scales(&problem, by_layer));
    problem.parent = parent;
    CHECK_OK(ht_awq_scales(&problem, chosen));
    double unchanged = NAN, layer = error_of(parent, &problem, by_layer), block = error_of(parent, &problem, chosen);
    CHECK(block <= layer && block <= error_of(parent, &problem, none));
    CHECK_OK(ht_parent_error(parent, &unchanged));
    CHECK(unchanged == 0); /* the search puts the weights back */
    ht_moments_destroy(b->moments);
    free(by_layer);
    free(none);
    return layer - block;
}

static void test_choice(void) {
    static const char *const FAMILIES[] = {"llama", "qwen3-moe", "phi3"};
    ht_format format;
    double gained = 0;
    REQUIRE_OK(ht_format_parse("int3_g16", &format));
    for (size_t f = 0; f < 3; f++) {
        bench b[2];
        ht_parent *parent[2];
        for (size_t t = 0; t < 2; t++) {
            open_bench(&b[t], FAMILIES[f], 1 + 2 * t);
            REQUIRE_OK(ht_parent_open(b[t].model, 0, b[t].hidden, SAMPLES, LENGTH, &parent[t]));
        }
        for (size_t i = 0; i < b[0].sites && i < 4; i++) {
            const ht_site_map *site = &b[0].site[i];
            float *one = malloc(site->channels * sizeof *one), *three = malloc(site->channels * sizeof *three);
            if (site->site != HT_SITE_ROUTER) {
                gained += check_site(&b[0], parent[0], site, &format, one);
                check_site(&b[1], parent[1], &b[1].site[i], &format, three);
                CHECK_BYTES(one, three, site->channels * sizeof *one);
            }
            free(one);
            free(three);
        }
        for (size_t t = 0; t < 2; t++) {
            ht_parent_close(parent[t]);
            close_bench(&b[t]);
        }
    }
    CHECK(gained > 0); /* the measures do not always agree */
}

/* The error is what the decoder's own pass of the block gives, up to the order of sums. */
static void test_error(void) {
    bench b;
    ht_parent *parent;
    open_bench(&b, "llama", 1);
    size_t hidden = b.model->config.hidden, values = LENGTH * hidden;
    REQUIRE_OK(ht_parent_open(b.model, 0, b.hidden, SAMPLES, LENGTH, &parent));
    const ht_site_map *down = &b.site[3];
    const ht_parameter *p = ht_checkpoint_parameter(b.model->checkpoint, down->reader[0].parameter);
    float *w = malloc(p->weight.rows * p->weight.cols * sizeof *w), *x = malloc(2 * values * sizeof *x),
          *y = x + values;
    CHECK_OK(ht_decode_rows(p, 0, 0, p->weight.rows, w));
    for (size_t i = 0; i < p->weight.rows * p->weight.cols; i++)
        w[i] *= 1.5f;
    ht_parent_set(parent, &down->reader[0], w);
    double error = NAN, want = 0;
    CHECK_OK(ht_parent_error(parent, &error));
    ht_block_linear at = ht_block_linear_at(b.model, 0, HT_SITE_DOWN, 0, 0);
    ht_linear *before = *at.place, *changed;
    ht_weight weight = {.batch = 1, .rows = p->weight.rows, .cols = p->weight.cols};
    REQUIRE_OK(ht_format_parse("f32", &weight.format));
    weight.plane[HT_PLANE_CODES] = w;
    REQUIRE_OK(ht_linear_from_weight(b.ctx, &weight, NULL, &changed));
    for (size_t s = 0; s < SAMPLES; s++) {
        float *input;
        CHECK_OK(ht_hidden_load(b.hidden, s, &input));
        memcpy(x, input, values * sizeof *x);
        memcpy(y, input, values * sizeof *y);
        CHECK_OK(ht_block_run(b.sequence, 0, x, LENGTH, NULL));
        *at.place = changed;
        CHECK_OK(ht_block_run(b.sequence, 0, y, LENGTH, NULL));
        *at.place = before;
        for (size_t i = 0; i < values; i++)
            want += ((double)x[i] - (double)y[i]) * ((double)x[i] - (double)y[i]);
    }
    CHECK(want > 0);
    CHECK_NEAR(error, want / (SAMPLES * LENGTH), 1e-4);
    ht_linear_destroy(changed);
    free(w);
    free(x);
    ht_parent_close(parent);
    close_bench(&b);
}

int main(void) {
    RUN(test_choice);
    RUN(test_error);
    return check_finish();
}
