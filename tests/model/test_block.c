/* Blocks run alone: the same bits as a pass of the decoder, for every family; what a watch sees; linears exchanged. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <halftone/model.h>

#include "model/block.h"
#include "support/check.h"

enum { TOKENS = 600, MOST_LAYERS = 16 }; /* more than one chunk */

static const char *const NAMES[] = {"llama", "llama-rope3", "llama-bias-tied", "mistral-window",
                                    "qwen2", "qwen3",       "qwen3-moe",       "mixtral",
                                    "olmoe", "phi3",        "gemma2",          "gpt-oss"};
enum { FAMILIES = sizeof NAMES / sizeof *NAMES };

struct states {
    float *row[MOST_LAYERS]; /* [TOKENS, hidden] after each block */
    size_t done[MOST_LAYERS];
};

static void keep_hidden(void *user, const char *what, size_t layer, const float *rows, size_t tokens, size_t width) {
    struct states *states = user;
    if (strcmp(what, "hidden") != 0)
        return;
    memcpy(states->row[layer] + states->done[layer] * width, rows, tokens * width * sizeof *rows);
    states->done[layer] += tokens;
}

struct sight {
    size_t rows[HT_SITE_COUNT], calls[HT_SITE_COUNT];
    size_t twice; /* experts mentioned without rows */
};

static ht_status look(void *user, const ht_site_rows *rows) {
    struct sight *sight = user;
    sight->rows[rows->site] += rows->rows;
    sight->calls[rows->site]++;
    sight->twice += rows->rows == 0;
    return HT_OK;
}

static ht_model *open_family(ht_context *ctx, size_t i) {
    char path[128];
    ht_model *model = NULL;
    snprintf(path, sizeof path, "tiny/%s", NAMES[i]);
    CHECK_OK(ht_model_open(ctx, check_data(path), &model));
    return model;
}

static void make_ids(const ht_model *model, int32_t *ids) {
    for (size_t i = 0; i < TOKENS; i++)
        ids[i] = (int32_t)((i * 2654435761u >> 7) % model->config.vocabulary);
}

/* Every block alone, watched with `spread`, against the pass. */
static void compare_blocks(ht_model *model, const struct states *want, const int32_t *ids, size_t spread) {
    size_t hidden = model->config.hidden, k = model->config.experts_per_token;
    float *x = malloc(TOKENS * hidden * sizeof *x);
    ht_sequence *sequence;
    REQUIRE_OK(ht_block_sequence(model, TOKENS, &sequence));
    REQUIRE_OK(ht_block_embed(model, ids, TOKENS, x));
    for (size_t l = 0; l < model->config.layers; l++) {
        struct sight sight = {{0}, {0}, 0};
        ht_watch watch = {.see = look, .user = &sight, .stop = HT_SITE_COUNT, .spread = spread};
        CHECK_OK(ht_block_run(sequence, l, x, TOKENS, &watch));
        CHECK_BYTES(x, want->row[l], TOKENS * hidden * sizeof *x);
        size_t each = !model->layer[l].sparse ? 1 : spread > k ? spread : k;
        CHECK_INT(sight.rows[HT_SITE_QKV], TOKENS);
        CHECK_INT(sight.rows[HT_SITE_O], TOKENS);
        CHECK_INT(sight.rows[HT_SITE_ROUTER], model->layer[l].sparse ? TOKENS : 0);
        CHECK_INT(sight.rows[HT_SITE_GATE_UP], TOKENS * each);
        CHECK_INT(sight.rows[HT_SITE_DOWN], TOKENS * each);
        CHECK_INT(sight.twice, 0);
    }
    ht_sequence_destroy(sequence);
    free(x);
}

static void compare_family(ht_model *model, const char *name) {
    int32_t ids[TOKENS];
    struct states states = {{NULL}, {0}};
    size_t hidden = model->config.hidden;
    int before = check_failures_of_test;
    make_ids(model, ids);
    REQUIRE(model->config.layers <= MOST_LAYERS);
    for (size_t l = 0; l < model->config.layers; l++)
        states.row[l] = malloc(TOKENS * hidden * sizeof(float));
    ht_sequence *sequence;
    REQUIRE_OK(ht_sequence_create(model, TOKENS, &sequence));
    model->tap = keep_hidden;
    model->tap_user = &states;
    CHECK_OK(ht_model_forward(model, sequence, ids, TOKENS, NULL, 0));
    model->tap = NULL;
    compare_blocks(model, &states, ids, 0);
    if (model->config.experts)
        compare_blocks(model, &states, ids, model->config.experts);
    ht_sequence_destroy(sequence);
    for (size_t l = 0; l < model->config.layers; l++)
        free(states.row[l]);
    if (check_failures_of_test != before)
        fprintf(stderr, "  of %s\n", name);
}

static void test_same_bits(void) {
    ht_context *ctx;
    REQUIRE_OK(ht_context_create(NULL, &ctx));
    size_t used = ht_context_memory_used(ctx);
    for (size_t i = 0; i < FAMILIES; i++) {
        ht_model *model = open_family(ctx, i);
        REQUIRE(model != NULL);
        compare_family(model, NAMES[i]);
        ht_model_close(model);
    }
    CHECK_INT(ht_context_memory_used(ctx), used);
    ht_context_destroy(ctx);
}

/* A watch that stops at a site has seen the sites before it and leaves the rows alone. */
static void test_stop(void) {
    ht_context *ctx;
    REQUIRE_OK(ht_context_create(NULL, &ctx));
    for (size_t i = 0; i < FAMILIES; i++) {
        ht_model *model = open_family(ctx, i);
        REQUIRE(model != NULL);
        int32_t ids[TOKENS];
        size_t values = 32 * model->config.hidden;
        float *x = malloc(values * sizeof *x), *copy = malloc(values * sizeof *x);
        make_ids(model, ids);
        ht_sequence *sequence;
        REQUIRE_OK(ht_block_sequence(model, 32, &sequence));
        REQUIRE_OK(ht_block_embed(model, ids, 32, x));
        memcpy(copy, x, values * sizeof *x);
        for (int stop = 0; stop < HT_SITE_COUNT; stop++) {
            struct sight sight = {{0}, {0}, 0};
            ht_watch watch = {.see = look, .user = &sight, .stop = (ht_site)stop};
            if (!ht_block_site(model, 0, (ht_site)stop))
                continue;
            CHECK_OK(ht_block_run(sequence, 0, x, 32, &watch));
            CHECK_BYTES(x, copy, values * sizeof *x);
            for (int site = 0; site < HT_SITE_COUNT; site++)
                CHECK((sight.rows[site] > 0) == (site <= stop && ht_block_site(model, 0, (ht_site)site) != NULL));
        }
        CHECK_FAILS(ht_block_run(sequence, 0, x, 33, NULL), HT_ERR_SHAPE);
        ht_sequence_destroy(sequence);
        free(x);
        free(copy);
        ht_model_close(model);
    }
    ht_context_destroy(ctx);
}

/* Every linear knows its parameter; another linear in its place is what runs. */
static void test_linears(void) {
    ht_context *ctx;
    REQUIRE_OK(ht_context_create(NULL, &ctx));
    for (size_t i = 0; i < FAMILIES; i++) {
        ht_model *model = open_family(ctx, i);
        REQUIRE(model != NULL);
        for (int s = 0; s < HT_SITE_COUNT; s++) {
            const ht_projection *projection = ht_block_site(model, 1, (ht_site)s);
            for (size_t e = 0; projection && e < ht_block_experts(model, 1, (ht_site)s); e++)
                for (size_t p = 0; p < projection->parts; p++) {
                    ht_block_linear linear = ht_block_linear_at(model, 1, (ht_site)s, e, p);
                    const ht_parameter *parameter = ht_checkpoint_parameter(model->checkpoint, linear.parameter);
                    const ht_weight *weight = ht_linear_weight(*linear.place);
                    CHECK_CONTAINS(parameter->name, "model.layers.1.");
                    CHECK(parameter->weight.plane[0] == weight->plane[0]);
                    CHECK(linear.entry < weight->batch);
                    CHECK_INT(weight->cols, projection->inputs);
                }
        }
        ht_model_close(model);
    }
    ht_context_destroy(ctx);
}

static void test_exchange(void) {
    ht_context *ctx;
    REQUIRE_OK(ht_context_create(NULL, &ctx));
    ht_model *model = open_family(ctx, 0);
    REQUIRE(model != NULL);
    int32_t ids[TOKENS];
    size_t values = 16 * model->config.hidden;
    float *x = malloc(values * sizeof *x), *y = malloc(values * sizeof *y);
    make_ids(model, ids);
    ht_sequence *sequence;
    REQUIRE_OK(ht_block_sequence(model, 16, &sequence));
    ht_block_linear down = ht_block_linear_at(model, 0, HT_SITE_DOWN, 0, 0);
    const ht_weight *weight = ht_linear_weight(*down.place);
    ht_weight zero = {.format = weight->format, .batch = 1, .rows = weight->rows, .cols = weight->cols};
    zero.plane[0] = calloc(weight->rows * weight->cols, sizeof(float));
    ht_linear *nothing, *old = *down.place;
    REQUIRE_OK(ht_linear_from_weight(ctx, &zero, NULL, &nothing));
    REQUIRE_OK(ht_block_embed(model, ids, 16, x));
    memcpy(y, x, values * sizeof *x);
    CHECK_OK(ht_block_run(sequence, 0, x, 16, NULL));
    *down.place = nothing;
    CHECK_OK(ht_block_run(sequence, 0, y, 16, NULL));
    CHECK(memcmp(x, y, values * sizeof *x) != 0);
    *down.place = old;
    REQUIRE_OK(ht_block_embed(model, ids, 16, y));
    CHECK_OK(ht_block_run(sequence, 0, y, 16, NULL));
    CHECK_BYTES(x, y, values * sizeof *x);
    ht_linear_destroy(nothing);
    free((void *)(uintptr_t)zero.plane[0]);
    free(x);
    free(y);
    ht_sequence_destroy(sequence);
    ht_model_close(model);
    ht_context_destroy(ctx);
}

int main(void) {
    RUN(test_same_bits);
    RUN(test_stop);
    RUN(test_linears);
    RUN(test_exchange);
    return check_finish();
}
