/* Latents over every grid: the first rounding gives the planes back, steps go where gradients say by neighbouring
 * values of the grid, and what is stored is what was rounded. */
#include "quant/calibrate/latent.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/random.h"
#include "support/check.h"

enum { ROWS = 24, COLS = 256, VALUES = ROWS * COLS };

static const char *const FORMATS[] = {"mxfp8",
                                      "mxfp6_e2m3",
                                      "mxfp4",
                                      "nvfp4",
                                      "fp8_row",
                                      "fp8_block",
                                      "int2_g32_asym",
                                      "int3_g64",
                                      "int4_g128",
                                      "int4_g32_asym",
                                      "int4_g32_float0",
                                      "int8_row",
                                      "int8_tensor",
                                      "nf4",
                                      "q4_0",
                                      "q4_k",
                                      "q5_k",
                                      "q6_k",
                                      "iq4_nl",
                                      "iq4_xs"};
enum { COUNT = sizeof FORMATS / sizeof *FORMATS };

typedef struct bench {
    ht_context *ctx;
    ht_format format;
    ht_row_options how;
    float *x, *decoded, *again, *gradient;
    ht_planes planes;
    size_t bytes[HT_PLANE_COUNT];
} bench;

static int open_bench(bench *b, const char *format, size_t threads) {
    ht_context_options options = {.threads = threads};
    *b = (bench){.how = ht_row_options_default()};
    b->x = malloc(4 * VALUES * sizeof(float));
    b->decoded = b->x + VALUES;
    b->again = b->decoded + VALUES;
    b->gradient = b->again + VALUES;
    for (size_t i = 0; i < VALUES; i++) {
        b->x[i] = 0.05f * ht_random_normal(3, 1, i);
        b->gradient[i] = ht_random_normal(3, 2, i);
    }
    memset(b->x + COLS, 0, 256 * sizeof *b->x); /* a row of zeros */
    if (!CHECK_OK(ht_context_create(&options, &b->ctx)) || !CHECK_OK(ht_format_parse(format, &b->format)))
        return 0;
    for (int p = 0; p < HT_PLANE_COUNT; p++) {
        b->bytes[p] = ht_format_plane_bytes(&b->format, (ht_plane)p, ROWS, COLS);
        b->planes.plane[p] = calloc(b->bytes[p] + 1, 1);
    }
    if (b->format.global != HT_DTYPE_NONE) {
        ht_range range = ht_range_empty();
        CHECK_OK(ht_range_add(&range, b->x, HT_F32, VALUES));
        *(float *)b->planes.plane[HT_PLANE_GLOBAL] = ht_format_global(&b->format, &b->how, &range);
    }
    return CHECK_OK(ht_format_quantize(&b->format, &b->how, b->x, HT_F32, ROWS, COLS, &b->planes)) &&
           CHECK_OK(ht_format_dequantize(&b->format, &b->planes, ROWS, COLS, b->decoded));
}

static void close_bench(bench *b) {
    for (int p = 0; p < HT_PLANE_COUNT; p++)
        free(b->planes.plane[p]);
    ht_context_destroy(b->ctx);
    free(b->x);
}

/* As numbers: the sign of a zero may be the weight's. */
static void check_same(float *got, float *want) {
    for (size_t i = 0; i < VALUES; i++) {
        got[i] += 0.0f;
        want[i] += 0.0f;
    }
    CHECK_F32(got, want, VALUES);
}

/* Weights that are far from what their codes say, as after a method that makes up for other errors. */
static void move_weights(bench *b) {
    for (size_t i = 0; i < VALUES; i++)
        b->x[i] += 0.03f * ht_random_normal(3, 3, i);
}

static void test_begin(void) {
    for (size_t f = 0; f < COUNT; f++)
        for (int moved = 0; moved < 2; moved++) {
            bench b;
            ht_latent latent = {0};
            if (open_bench(&b, FORMATS[f], 2)) {
                if (moved)
                    move_weights(&b);
                CHECK_OK(ht_latent_create(b.ctx, &b.format, &b.how, &b.planes, b.x, ROWS, COLS, 0, &latent));
                CHECK_OK(ht_latent_step(&latent, 1, 0, NULL, b.again));
                check_same(b.again, b.decoded);
                CHECK_OK(ht_latent_store(&latent, &b.planes));
                CHECK_OK(ht_format_dequantize(&b.format, &b.planes, ROWS, COLS, b.again));
                check_same(b.again, b.decoded);
                ht_latent_release(&latent);
            }
            close_bench(&b);
        }
}

static void test_steps(void) {
    for (size_t f = 0; f < COUNT; f++) {
        bench b;
        ht_latent latent = {0};
        size_t moved = 0, wrong = 0;
        if (open_bench(&b, FORMATS[f], 2)) {
            float *sign = malloc(VALUES * sizeof *sign);
            memcpy(sign, b.gradient, VALUES * sizeof *sign);
            CHECK_OK(ht_latent_create(b.ctx, &b.format, &b.how, &b.planes, b.x, ROWS, COLS, 0, &latent));
            CHECK_OK(ht_latent_step(&latent, 0.25f, 0.5f, b.gradient, b.again));
            for (size_t i = 0; i < VALUES; i++) {
                float change = b.again[i] - b.decoded[i];
                CHECK(b.gradient[i] == 0.5f * sign[i]);
                moved += change != 0;
                wrong += change * sign[i] > 0;
                CHECK(fabsf(change) <= 2.1f * latent.step[i]);
            }
            /* A quarter of a step takes about a quarter of latents that lie anywhere in their cells over its end. */
            CHECK(moved > VALUES / 20 && moved < VALUES / 2);
            CHECK_INT(wrong, 0);
            CHECK_OK(ht_latent_store(&latent, &b.planes));
            CHECK_OK(ht_format_dequantize(&b.format, &b.planes, ROWS, COLS, b.decoded));
            check_same(b.decoded, b.again);
            free(sign);
        }
        ht_latent_release(&latent);
        close_bench(&b);
    }
}

/* What pruning made zero stays so. */
static void test_zeros(void) {
    bench b;
    ht_latent latent = {0};
    size_t zeros = 0, moved = 0, lost = 0;
    if (open_bench(&b, "mxfp4", 2)) {
        CHECK_OK(ht_latent_create(b.ctx, &b.format, &b.how, &b.planes, b.x, ROWS, COLS, 1, &latent));
        CHECK_OK(ht_latent_step(&latent, 0.5f, 0, b.gradient, b.again));
        for (size_t i = 0; i < VALUES; i++) {
            zeros += b.decoded[i] == 0;
            lost += b.decoded[i] == 0 && b.again[i] != 0;
            moved += b.again[i] != b.decoded[i];
        }
        CHECK(zeros > 300);
        CHECK_INT(lost, 0);
        CHECK(moved > VALUES / 20);
    }
    ht_latent_release(&latent);
    close_bench(&b);
}

static void test_threads(void) {
    bench b, c;
    ht_latent one = {0}, three = {0};
    if (open_bench(&b, "nvfp4", 1) && open_bench(&c, "nvfp4", 3)) {
        CHECK_OK(ht_latent_create(b.ctx, &b.format, &b.how, &b.planes, b.x, ROWS, COLS, 0, &one));
        CHECK_OK(ht_latent_create(c.ctx, &c.format, &c.how, &c.planes, c.x, ROWS, COLS, 0, &three));
        CHECK_OK(ht_latent_step(&one, 0.3f, 0, b.gradient, b.again));
        CHECK_OK(ht_latent_step(&three, 0.3f, 0, c.gradient, c.again));
        CHECK_BYTES(b.again, c.again, VALUES * sizeof *b.again);
        CHECK_OK(ht_latent_store(&one, &b.planes));
        CHECK_OK(ht_latent_store(&three, &c.planes));
        CHECK_BYTES(b.planes.plane[0], c.planes.plane[0], b.bytes[0]);
    }
    ht_latent_release(&one);
    ht_latent_release(&three);
    close_bench(&b);
    close_bench(&c);
}

int main(void) {
    RUN(test_begin);
    RUN(test_steps);
    RUN(test_zeros);
    RUN(test_threads);
    return check_finish();
}
