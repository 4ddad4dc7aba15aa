/* Gradients through a block: the pass against the run time's, derivatives against differences, for every family; and
 * the same bits for any number of threads. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <halftone/model.h>

#include "base/random.h"
#include "model/block_gradient.h"
#include "support/check.h"

enum { NOISES = 1000 };
enum { TOKENS = 150 }; /* more than one tile of attention, more than every window */

static const char *const NAMES[] = {"llama", "llama-rope3", "llama-bias-tied", "mistral-window",
                                    "qwen2", "qwen3",       "qwen3-moe",       "mixtral",
                                    "olmoe", "phi3",        "gemma2",          "gpt-oss"};
enum { FAMILIES = sizeof NAMES / sizeof *NAMES };

typedef struct bench {
    ht_context *ctx;
    ht_model *model;
    ht_dense_block block;
    ht_tape *tape;
    size_t values; /* of a text */
    float *x, *y, *aim, *gradient;
    float *memory;
} bench;

static int open_bench(bench *b, const char *name, size_t layer, size_t threads) {
    char path[128];
    ht_context_options options = {.threads = threads};
    snprintf(path, sizeof path, "tiny/%s", name);
    if (!CHECK_OK(ht_context_create(&options, &b->ctx)) ||
        !CHECK_OK(ht_model_open(b->ctx, check_data(path), &b->model)))
        return 0;
    b->values = TOKENS * b->model->config.hidden;
    b->memory = malloc(4 * b->values * sizeof(float));
    b->x = b->memory;
    b->y = b->x + b->values;
    b->aim = b->y + b->values;
    b->gradient = b->aim + b->values;
    for (size_t i = 0; i < b->values; i++) {
        b->x[i] = ht_random_normal(1, 1, i);
        b->aim[i] = ht_random_normal(1, 2, i);
    }
    return CHECK_OK(ht_dense_block_open(b->model, layer, &b->block)) &&
           CHECK_OK(ht_tape_create(b->model, TOKENS, &b->tape));
}

static void close_bench(bench *b) {
    ht_tape_destroy(b->tape);
    ht_dense_block_close(&b->block);
    ht_model_close(b->model);
    ht_context_destroy(b->ctx);
    free(b->memory);
}

/* sum of aim * block(x). */
static double loss(bench *b) {
    double sum = 0;
    CHECK_OK(ht_tape_forward(b->tape, &b->block, b->x, TOKENS, b->y));
    for (size_t i = 0; i < b->values; i++)
        sum += (double)b->aim[i] * (double)b->y[i];
    return sum;
}

static double size_of(const float *x, size_t n) {
    double sum = 0;
    for (size_t i = 0; i < n; i++)
        sum += (double)x[i] * (double)x[i];
    return sqrt(sum);
}

static double loss_beside(bench *b, float *values, const float *gradient, size_t n, double by) {
    float *old = malloc(n * sizeof *old);
    memcpy(old, values, n * sizeof *old);
    for (size_t i = 0; i < n; i++)
        values[i] += (float)(by * (double)gradient[i]);
    double found = loss(b);
    memcpy(values, old, n * sizeof *old);
    free(old);
    return found;
}

/* Along the gradient itself the loss changes by its squared length. An f32 pass resolves a change of some 1e-8 of
 * |aim| |y| = `noise`; the step makes one a thousand times that, or is small beside the values. Differences of fourth
 * order: the blocks of random weights are far from linear. */
static void compare_difference(bench *b, float *values, const float *gradient, size_t n, double noise,
                               const char *what) {
    double length = size_of(gradient, n);
    double step = 1e-3 * size_of(values, n) / length, least = NOISES * 1e-8 * noise / (length * length);
    step = step < least ? step : least;
    double near = loss_beside(b, values, gradient, n, step) - loss_beside(b, values, gradient, n, -step);
    double far = loss_beside(b, values, gradient, n, 2 * step) - loss_beside(b, values, gradient, n, -2 * step);
    double slope = (8 * near - far) / (12 * step);
    if (!CHECK_NEAR(slope, length * length, 0.01))
        fprintf(stderr, "  of %s, step %g\n", what, step);
}

static void compare_family(const char *name, size_t layer) {
    bench b = {0};
    char what[128];
    if (!open_bench(&b, name, layer, 2)) {
        close_bench(&b);
        return;
    }
    /* The pass is the run time's but for the order of sums. */
    ht_sequence *sequence;
    float *want = malloc(b.values * sizeof *want);
    memcpy(want, b.x, b.values * sizeof *want);
    REQUIRE_OK(ht_block_sequence(b.model, TOKENS, &sequence));
    CHECK_OK(ht_block_run(sequence, layer, want, TOKENS, NULL));
    ht_sequence_destroy(sequence);
    for (int site = 0; site < HT_SITE_COUNT; site++)
        for (size_t i = 0; i < b.block.experts[site] * b.block.parts[site]; i++) {
            ht_dense_linear *linear = &b.block.linear[site][i];
            linear->gradient = calloc(linear->rows * linear->cols, sizeof(float));
        }
    loss(&b);
    double noise = size_of(b.y, b.values) * size_of(b.aim, b.values);
    CHECK_F32_WITHIN(b.y, want, b.values, 2e-5 * size_of(want, b.values) / sqrt((double)b.values));
    memcpy(b.gradient, b.aim, b.values * sizeof *b.aim);
    CHECK_OK(ht_tape_backward(b.tape, &b.block, b.gradient));
    snprintf(what, sizeof what, "%s: inputs of block %zu", name, layer);
    compare_difference(&b, b.x, b.gradient, b.values, noise, what);
    for (int site = 0; site < HT_SITE_COUNT; site++)
        for (size_t i = 0; i < b.block.experts[site] * b.block.parts[site]; i++) {
            ht_dense_linear *linear = &b.block.linear[site][i];
            float *gradient = linear->gradient;
            snprintf(what, sizeof what, "%s: site %d, matrix %zu of block %zu", name, site, i, layer);
            if (size_of(gradient, linear->rows * linear->cols) > 0)
                compare_difference(&b, linear->weight, gradient, linear->rows * linear->cols, noise, what);
            else
                CHECK(b.block.experts[site] > 1); /* an expert that no token goes to */
            free(gradient);
        }
    free(want);
    close_bench(&b);
}

static void test_differences(void) {
    for (size_t i = 0; i < FAMILIES; i++)
        for (size_t layer = 0; layer < 2; layer++)
            compare_family(NAMES[i], layer);
}

/* Gradients of all matrices and of the inputs, as one list of bytes. */
static float *gather_gradients(const char *name, size_t threads, size_t *count) {
    bench b = {0};
    float *all = NULL;
    *count = 0;
    if (open_bench(&b, name, 1, threads)) {
        for (int site = 0; site < HT_SITE_COUNT; site++)
            for (size_t i = 0; i < b.block.experts[site] * b.block.parts[site]; i++)
                *count += b.block.linear[site][i].rows * b.block.linear[site][i].cols;
        all = calloc(*count + b.values, sizeof *all);
        float *next = all;
        for (int site = 0; site < HT_SITE_COUNT; site++)
            for (size_t i = 0; i < b.block.experts[site] * b.block.parts[site]; i++) {
                b.block.linear[site][i].gradient = next;
                next += b.block.linear[site][i].rows * b.block.linear[site][i].cols;
            }
        for (int twice = 0; twice < 2; twice++) { /* gradients are added up */
            loss(&b);
            memcpy(next, b.aim, b.values * sizeof *next);
            CHECK_OK(ht_tape_backward(b.tape, &b.block, next));
        }
        *count += b.values;
    }
    close_bench(&b);
    return all;
}

static void test_threads(void) {
    static const char *const some[] = {"llama", "gpt-oss", "qwen3-moe"};
    for (size_t i = 0; i < 3; i++) {
        size_t count, other;
        float *one = gather_gradients(some[i], 1, &count), *three = gather_gradients(some[i], 3, &other);
        CHECK_INT(count, other);
        if (one && three)
            CHECK_BYTES(one, three, count * sizeof *one);
        free(one);
        free(three);
    }
}

/* Linears with quantized inputs: the pass is the run time's again, and gradients are those of the quantized rows. */
static void test_quantized_inputs(void) {
    bench b = {0};
    if (!open_bench(&b, "llama", 0, 2)) {
        close_bench(&b);
        return;
    }
    ht_format format;
    REQUIRE_OK(ht_format_parse("mxfp8_e4m3", &format));
    ht_linear *exchanged[8], **place[8], *before[8];
    size_t count = 0;
    for (int site = 0; site < HT_SITE_COUNT; site++)
        for (size_t part = 0; part < b.block.parts[site]; part++, count++) {
            ht_block_linear at = ht_block_linear_at(b.model, 0, (ht_site)site, 0, part);
            ht_linear_options options = {.input = &format, .bias = ht_linear_bias(*at.place)};
            REQUIRE_OK(ht_linear_from_weight(b.ctx, ht_linear_weight(*at.place), &options, &exchanged[count]));
            place[count] = at.place;
            before[count] = *at.place;
            *at.place = exchanged[count];
        }
    float *want = malloc(b.values * sizeof *want), *plain = malloc(b.values * sizeof *plain);
    ht_sequence *sequence;
    loss(&b);
    memcpy(plain, b.y, b.values * sizeof *plain);
    CHECK_OK(ht_dense_block_read(&b.block));
    memcpy(want, b.x, b.values * sizeof *want);
    REQUIRE_OK(ht_block_sequence(b.model, TOKENS, &sequence));
    CHECK_OK(ht_block_run(sequence, 0, want, TOKENS, NULL));
    loss(&b);
    /* Quantizing turns differences of sums into steps of the format here and there: on the average it is the same. */
    double far = 0, moved = 0;
    for (size_t i = 0; i < b.values; i++) {
        far += fabs((double)(b.y[i] - want[i]));
        moved += fabs((double)(b.y[i] - plain[i]));
    }
    CHECK(far < moved / 20);
    memcpy(b.gradient, b.aim, b.values * sizeof *b.aim);
    CHECK_OK(ht_tape_backward(b.tape, &b.block, b.gradient));
    CHECK(size_of(b.gradient, b.values) > 0);
    for (size_t i = 0; i < count; i++) {
        *place[i] = before[i];
        ht_linear_destroy(exchanged[i]);
    }
    ht_sequence_destroy(sequence);
    free(want);
    free(plain);
    close_bench(&b);
}

/* Linears whose inputs are scaled and mixed when the model runs: the pass is the run time's, differences agree. */
static void test_transformed_inputs(void) {
    bench b = {0};
    if (!open_bench(&b, "llama", 0, 2)) {
        close_bench(&b);
        return;
    }
    ht_linear *exchanged[8], **place[8], *before[8];
    float scale[512], *want = malloc(b.values * sizeof *want);
    size_t count = 0;
    for (size_t i = 0; i < 512; i++)
        scale[i] = 0.5f + ht_random_uniform(1, 3, i);
    for (int site = 0; site < HT_SITE_COUNT; site++)
        for (size_t part = 0; part < b.block.parts[site]; part++, count++) {
            ht_block_linear at = ht_block_linear_at(b.model, 0, (ht_site)site, 0, part);
            ht_weight weight = *ht_linear_weight(*at.place);
            weight.inputs = (ht_input_transform){.scale = scale, .block = 16};
            REQUIRE(weight.cols <= 512);
            REQUIRE_OK(ht_linear_from_weight(b.ctx, &weight, NULL, &exchanged[count]));
            place[count] = at.place;
            before[count] = *at.place;
            *at.place = exchanged[count];
        }
    CHECK_OK(ht_dense_block_read(&b.block));
    memcpy(want, b.x, b.values * sizeof *want);
    ht_sequence *sequence;
    REQUIRE_OK(ht_block_sequence(b.model, TOKENS, &sequence));
    CHECK_OK(ht_block_run(sequence, 0, want, TOKENS, NULL));
    ht_dense_linear *down = ht_dense_linear_at(&b.block, HT_SITE_DOWN, 0, 0);
    down->gradient = calloc(down->rows * down->cols, sizeof(float));
    loss(&b);
    double noise = size_of(b.y, b.values) * size_of(b.aim, b.values);
    CHECK_F32_WITHIN(b.y, want, b.values, 2e-5 * size_of(want, b.values) / sqrt((double)b.values));
    memcpy(b.gradient, b.aim, b.values * sizeof *b.aim);
    CHECK_OK(ht_tape_backward(b.tape, &b.block, b.gradient));
    compare_difference(&b, b.x, b.gradient, b.values, noise, "transformed inputs");
    compare_difference(&b, down->weight, down->gradient, down->rows * down->cols, noise, "a matrix behind them");
    free(down->gradient);
    for (size_t i = 0; i < count; i++) {
        *place[i] = before[i];
        ht_linear_destroy(exchanged[i]);
    }
    ht_sequence_destroy(sequence);
    free(want);
    close_bench(&b);
}

static void test_refusals(void) {
    bench b = {0};
    ht_dense_block other;
    if (open_bench(&b, "llama", 0, 1)) {
        float *x = calloc(b.values + b.model->config.hidden, sizeof *x);
        CHECK_FAILS(ht_tape_forward(b.tape, &b.block, x, TOKENS + 1, x), HT_ERR_SHAPE);
        CHECK_OK(ht_dense_block_open(b.model, 1, &other));
        CHECK_OK(ht_tape_forward(b.tape, &b.block, x, TOKENS, x));
        CHECK_FAILS(ht_tape_backward(b.tape, &other, x), HT_ERR_ARGUMENT);
        ht_dense_block_close(&other);
        free(x);
    }
    close_bench(&b);
}

int main(void) {
    RUN(test_differences);
    RUN(test_threads);
    RUN(test_quantized_inputs);
    RUN(test_transformed_inputs);
    RUN(test_refusals);
    return check_finish();
}
