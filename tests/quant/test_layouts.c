/* Logits of quantized checkpoints, bit for bit: every tiny family, written under every kind of storage, against a float
 * checkpoint whose weights were quantized and decoded here, matrix by matrix, in the original's own layout and names.
 *
 *     original --quantize--> files --open--> logits      must equal
 *     original --ht_format_quantize, ht_format_dequantize on each matrix--> float files --open--> logits
 *
 * The two ways share no layout: a mixed-up expert, an interleave of gate and up undone wrongly, a scale plane of
 * another matrix or a transposition cannot pass.
 * SPDX-License-Identifier: BSD-3-Clause */
#include <halftone/model.h>
#include <halftone/quant.h>

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "quant/classify.h"
#include "support/check.h"

static ht_context *ctx;

static const char *const families[] = {"gpt-oss",        "phi3",       "mixtral", "qwen3-moe", "olmoe",
                                       "gemma2",         "llama",      "qwen2",   "qwen3",     "llama-bias-tied",
                                       "mistral-window", "llama-rope3"};
enum { FAMILIES = sizeof families / sizeof *families, TOKENS = 24, VOCABULARY = 320, KEY = 256 };

/* --- quantized and decoded in the original's layout --------------------------------------------------------------- */

/* Range of entry `entry` of every parameter that is fused with this one, itself included. */
static ht_range range_of(const ht_checkpoint *original, const ht_parameter *parameter, size_t entry) {
    ht_range range = ht_range_empty();
    char key[KEY], other_key[KEY];
    int fused = ht_fused_key(parameter->name, key, sizeof key);
    for (size_t i = 0; i < ht_checkpoint_parameter_count(original); i++) {
        const ht_parameter *other = ht_checkpoint_parameter(original, i);
        const ht_weight *w = &other->weight;
        int same = fused && other->rank >= 2 && ht_fused_key(other->name, other_key, sizeof other_key) &&
                   strcmp(key, other_key) == 0;
        if (other == parameter || same)
            CHECK_OK(ht_range_add(&range, ht_weight_planes(w, entry).plane[HT_PLANE_CODES], w->format.element,
                                  w->rows * w->cols));
    }
    return range;
}

/* x [rows, cols] to what the format keeps of it. */
static void through_format(const ht_format *format, const ht_range *range, float *x, size_t rows, size_t cols) {
    ht_planes planes = {{NULL}};
    ht_row_options options = ht_row_options_default();
    float global = ht_format_global(format, &options, range);
    for (int p = 0; p < HT_PLANE_COUNT; p++)
        if (ht_format_plane_bytes(format, (ht_plane)p, rows, cols))
            planes.plane[p] = calloc(1, ht_format_plane_bytes(format, (ht_plane)p, rows, cols));
    if (planes.plane[HT_PLANE_GLOBAL])
        memcpy(planes.plane[HT_PLANE_GLOBAL], &global, sizeof global);
    CHECK_OK(ht_format_quantize(format, &options, x, HT_F32, rows, cols, &planes));
    CHECK_OK(ht_format_dequantize(format, &planes, rows, cols, x));
    for (int p = 0; p < HT_PLANE_COUNT; p++)
        free(planes.plane[p]);
}

static void transpose(const float *x, size_t rows, size_t cols, float *out) {
    for (size_t r = 0; r < rows; r++)
        for (size_t c = 0; c < cols; c++)
            out[c * rows + r] = x[r * cols + c];
}

/* All values of a parameter in its own layout; format NULL: as they are. */
static float *values_of(const ht_checkpoint *original, const ht_parameter *parameter, const ht_format *format) {
    const ht_weight *w = &parameter->weight;
    size_t each = w->rows * w->cols;
    float *out = malloc((w->batch * each + 1) * sizeof *out), *turned = malloc((each + 1) * sizeof *turned);
    for (size_t e = 0; e < w->batch; e++) {
        float *x = out + e * each;
        CHECK_OK(
            ht_convert(ht_weight_planes(w, e).plane[HT_PLANE_CODES], w->format.element, x, HT_F32, w->rows * w->cols));
        ht_range range = format ? range_of(original, parameter, e) : ht_range_empty();
        if (format && w->transposed) {
            transpose(x, w->cols, w->rows, turned);
            through_format(format, &range, turned, w->rows, w->cols);
            transpose(turned, w->rows, w->cols, x);
        } else if (format) {
            through_format(format, &range, x, w->rows, w->cols);
        }
    }
    free(turned);
    return out;
}

static void copy_config(const ht_checkpoint *original, const char *directory) {
    char path[600];
    snprintf(path, sizeof path, "%s/config.json", directory);
    FILE *file = fopen(path, "w");
    REQUIRE(file != NULL);
    fputs(ht_checkpoint_config(original), file);
    fclose(file);
}

/* The float checkpoint: what the plan quantized goes through the scheme's format, the rest stays. */
static void write_decoded(const char *from, const ht_plan *plan, const ht_format *format, const char *directory) {
    ht_checkpoint *original;
    REQUIRE_OK(ht_checkpoint_open(ctx, from, &original));
    size_t count = ht_checkpoint_parameter_count(original), quantized = 0;
    const char **names = calloc(count, sizeof *names);
    ht_tensor *tensors = calloc(count, sizeof *tensors);
    CHECK_INT(ht_plan_count(plan), count);
    for (size_t i = 0; i < count; i++) {
        const ht_parameter *parameter = ht_checkpoint_parameter(original, i);
        int quantize = *ht_plan_at(plan, i)->method != '\0';
        CHECK_TEXT(ht_plan_at(plan, i)->name, parameter->name);
        names[i] = parameter->name;
        tensors[i] = ht_tensor_view(values_of(original, parameter, quantize ? format : NULL), HT_F32, parameter->rank,
                                    parameter->shape);
        quantized += (size_t)quantize;
    }
    CHECK(quantized >= 6);
    mkdir(directory, 0777);
    copy_config(original, directory);
    char path[600];
    snprintf(path, sizeof path, "%s/model.safetensors", directory);
    CHECK_OK(ht_safetensors_save(ctx, path, names, tensors, count, NULL));
    for (size_t i = 0; i < count; i++)
        free(tensors[i].data);
    free(tensors);
    free(names);
    ht_checkpoint_close(original);
}

/* --- logits ------------------------------------------------------------------------------------------------------- */

/* Of ids that a generator of constants gives: every family sees the same. */
static int logits_of(const char *path, float *out) {
    ht_model *model;
    if (!CHECK_OK(ht_model_open(ctx, path, &model)))
        return 0;
    int32_t ids[TOKENS];
    for (int i = 0; i < TOKENS; i++)
        ids[i] = (i * 97 + 31) % VOCABULARY;
    ht_sequence *sequence;
    int ok = CHECK_INT(ht_model_describe(model).vocabulary, VOCABULARY) &&
             CHECK_OK(ht_sequence_create(model, TOKENS, &sequence)) &&
             CHECK_OK(ht_model_forward(model, sequence, ids, TOKENS, out, TOKENS));
    if (ok)
        ht_sequence_destroy(sequence);
    ht_model_close(model);
    return ok;
}

/* Relative distance of two logit tables. */
static double distance(const float *a, const float *b) {
    double error = 0, norm = 0;
    for (size_t i = 0; i < TOKENS * VOCABULARY; i++) {
        double d = (double)a[i] - (double)b[i];
        error += d * d;
        norm += (double)b[i] * (double)b[i];
    }
    return sqrt(error / norm);
}

static ht_status quantize(const char *from, const char *scheme, const char *profile, const char *to, ht_plan **plan) {
    ht_quantize_options options = ht_quantize_options_default();
    options.scheme = scheme;
    options.profile = profile;
    options.overwrite = 1;
    return ht_quantize_checkpoint(ctx, from, to, &options, plan);
}

static float got[TOKENS * VOCABULARY], want[TOKENS * VOCABULARY];

static void compare(const char *family, const char *scheme_name, const char *profile) {
    char from[512];
    snprintf(from, sizeof from, "tiny/%s", family);
    snprintf(from, sizeof from, "%s", check_data(from));
    const char *files = check_path("quantized"), *decoded = check_path("decoded");
    ht_scheme scheme;
    ht_plan *plan;
    REQUIRE_OK(ht_scheme_parse(scheme_name, &scheme));
    if (!CHECK_OK(quantize(from, scheme_name, profile, files, &plan))) {
        CHECK_TEXT(scheme_name, family);
        return;
    }
    write_decoded(from, plan, &scheme.weight, decoded);
    if (logits_of(files, got) && logits_of(decoded, want) && !CHECK_F32(got, want, TOKENS * VOCABULARY))
        fprintf(stderr, "  of %s as %s in %s\n", family, scheme_name, profile);
    ht_plan_destroy(plan);
}

static void test_compressed_tensors(void) {
    static const char *const schemes[] = {"mxfp4-w", "mxfp8-w",  "nvfp4-w",       "int8-w",
                                          "fp8-w",   "int4-g32", "int4-g32-asym", "int3-g16"};
    for (size_t f = 0; f < FAMILIES; f++)
        for (size_t s = 0; s < sizeof schemes / sizeof *schemes; s++)
            compare(families[f], schemes[s], "compressed-tensors");
}

static void test_plain(void) {
    static const char *const schemes[] = {"mxfp4-w", "mxfp6-e2m3-w", "nvfp4-w", "nf4", "int4-g32-float0"};
    for (size_t f = 0; f < FAMILIES; f++)
        for (size_t s = 0; s < sizeof schemes / sizeof *schemes; s++)
            compare(families[f], schemes[s], "plain");
}

/* --- inputs quantized as well --------------------------------------------------------------------------------------
 */

/* Largest relative change of the logits by quantizing the inputs too, over the weights alone; some third over
 * what was measured (experts change hands in the sparse families). */
static const struct with_inputs {
    const char *both, *weights;
    double most;
} with_inputs[] = {{"mxfp8", "mxfp8-w", 0.4}, {"mxfp4", "mxfp4-w", 1}, {"mxfp4-a8", "mxfp4-w", 0.4},
                   {"nvfp4", "nvfp4-w", 0.9}, {"int8", "int8-w", 0.1}, {"fp8", "fp8-w", 0.45}};

static void test_inputs(void) {
    for (size_t s = 0; s < sizeof with_inputs / sizeof *with_inputs; s++) {
        double worst = 0;
        for (size_t f = 0; f < FAMILIES; f++) {
            char from[512];
            snprintf(from, sizeof from, "tiny/%s", families[f]);
            snprintf(from, sizeof from, "%s", check_data(from));
            const char *both = check_path("both"), *weights = check_path("weights");
            REQUIRE_OK(quantize(from, with_inputs[s].both, NULL, both, NULL));
            REQUIRE_OK(quantize(from, with_inputs[s].weights, NULL, weights, NULL));
            REQUIRE(logits_of(both, got) && logits_of(weights, want));
            double d = distance(got, want);
            worst = d > worst ? d : worst;
            if (!CHECK(d > 0 && d < with_inputs[s].most))
                fprintf(stderr, "  of %s: %g\n", families[f], d);
        }
        printf("%-10s inputs move the logits by %.4f at most\n", with_inputs[s].both, worst);
    }
}

int main(void) {
    if (ht_context_create(NULL, &ctx) != HT_OK)
        return 1;
    RUN(test_compressed_tensors);
    RUN(test_plain);
    RUN(test_inputs);
    ht_context_destroy(ctx);
    return check_finish();
}
