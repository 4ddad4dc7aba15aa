/* Experts one by one and all in one tensor are the same problem: a model stored in both ways gets the same codes, and
 * so do the linears q, k and v stored in one.
 * SPDX-License-Identifier: BSD-3-Clause */
#include <halftone/model.h>
#include <halftone/quant.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "calibrated.h"
#include "support/check.h"

enum { TOKENS = 24, VOCABULARY = 320, NAME = 128, MOST = 64 };

static ht_context *ctx;

/* --- The same model with its experts in one ----------------------------------------------------------------------- */

/* f32 values of a parameter. */
static float *values_of(const ht_checkpoint *checkpoint, const char *name, size_t *rows, size_t *cols) {
    for (size_t i = 0; i < ht_checkpoint_parameter_count(checkpoint); i++) {
        const ht_parameter *p = ht_checkpoint_parameter(checkpoint, i);
        if (strcmp(p->name, name) != 0)
            continue;
        *rows = p->weight.rows;
        *cols = p->weight.cols;
        float *out = malloc(*rows * *cols * sizeof *out);
        CHECK_OK(ht_convert(ht_weight_planes(&p->weight, 0).plane[HT_PLANE_CODES], p->weight.format.element, out,
                            HT_F32, *rows * *cols));
        return out;
    }
    return NULL;
}

typedef struct tensors {
    char name[MOST][NAME];
    ht_tensor tensor[MOST];
    size_t count;
} tensors;

static void put(tensors *t, const char *name, float *data, unsigned rank, size_t a, size_t b, size_t c) {
    const size_t shape[3] = {a, b, c};
    CHECK(t->count < MOST);
    snprintf(t->name[t->count], NAME, "%s", name);
    t->tensor[t->count++] = ht_tensor_view(data, HT_F32, rank, shape);
}

/* parts of all experts of a layer, one after the other, as [experts, parts * rows, cols]. */
static void put_experts(tensors *t, const ht_checkpoint *from, size_t layer, const char *const *part, size_t parts,
                        const char *fused) {
    float *all = NULL;
    size_t rows = 0, cols = 0, experts = 0, used = 0;
    char name[NAME];
    for (;; experts++)
        for (size_t p = 0; p < parts; p++) {
            snprintf(name, sizeof name, "model.layers.%zu.mlp.experts.%zu.%s.weight", layer, experts, part[p]);
            float *one = values_of(from, name, &rows, &cols);
            if (!one) {
                CHECK(experts == 4);
                snprintf(name, sizeof name, "model.layers.%zu.mlp.experts.%s", layer, fused);
                put(t, name, all, 3, experts, parts * rows, cols);
                return;
            }
            all = realloc(all, (used + rows * cols) * sizeof *all);
            memcpy(all + used, one, rows * cols * sizeof *one);
            used += rows * cols;
            free(one);
        }
}

/* Both in f32: separate as they are, or fused. */
static const char *rewrite(const char *path, int fused) {
    static const char *const GATE_UP[] = {"gate_proj", "up_proj"}, *const DOWN[] = {"down_proj"};
    ht_checkpoint *from;
    const char *out = check_fresh(), *names[MOST];
    tensors *t = calloc(1, sizeof *t);
    char file[600], command[1400];
    CHECK_OK(ht_checkpoint_open(ctx, path, &from));
    for (size_t i = 0; i < ht_checkpoint_parameter_count(from); i++) {
        const ht_parameter *p = ht_checkpoint_parameter(from, i);
        size_t rows, cols;
        if (!fused || !strstr(p->name, ".experts."))
            put(t, p->name, values_of(from, p->name, &rows, &cols), p->rank, p->shape[0], p->rank > 1 ? p->shape[1] : 0,
                0);
    }
    for (size_t layer = 0; fused && layer < 2; layer++) {
        put_experts(t, from, layer, GATE_UP, 2, "gate_up_proj");
        put_experts(t, from, layer, DOWN, 1, "down_proj");
    }
    mkdir(out, 0777);
    snprintf(file, sizeof file, "%s/model.safetensors", out);
    for (size_t i = 0; i < t->count; i++)
        names[i] = t->name[i];
    CHECK_OK(ht_safetensors_save(ctx, file, names, t->tensor, t->count, NULL));
    snprintf(command, sizeof command, "cp '%s'/config.json '%s'/tokenizer.json '%s'", path, path, out);
    CHECK_INT(system(command), 0);
    for (size_t i = 0; i < t->count; i++)
        free(t->tensor[i].data);
    free(t);
    ht_checkpoint_close(from);
    return out;
}

static void logits_of(const char *path, float *out) {
    ht_model *model;
    ht_sequence *sequence;
    int32_t ids[TOKENS];
    for (int i = 0; i < TOKENS; i++)
        ids[i] = (i * 97 + 31) % VOCABULARY;
    REQUIRE_OK(ht_model_open(ctx, path, &model));
    REQUIRE_OK(ht_sequence_create(model, TOKENS, &sequence));
    CHECK_OK(ht_model_forward(model, sequence, ids, TOKENS, out, TOKENS));
    ht_sequence_destroy(sequence);
    ht_model_close(model);
}

/* --- Tests -------------------------------------------------------------------------------------------------------- */

static float separate[TOKENS * VOCABULARY], together[TOKENS * VOCABULARY];

/* Sum of tokens and losses over the matrices of experts, by layer and kind: the same in either storage. */
static double expert_losses(const ht_plan_tensor *rows, size_t count, uint64_t *tokens) {
    double loss = 0;
    *tokens = 0;
    for (size_t i = 0; i < count; i++)
        if (strstr(rows[i].name, ".experts.") && strstr(rows[i].name, "down_proj")) {
            loss += rows[i].loss;
            *tokens += rows[i].tokens;
        }
    return loss;
}

static void test_same_codes(void) {
    static const struct {
        const char *scheme, *method;
        ht_calibration_mode mode;
    } RUNS[] = {{"int4-g16", "gptq", HT_CALIBRATE_SEQUENTIAL},
                {"int3-g16-asym", "gptq", HT_CALIBRATE_TRUE_SEQUENTIAL},
                {"nvfp4-w", "gptq", HT_CALIBRATE_NON_SEQUENTIAL},
                {"int4-g16", "rtn", HT_CALIBRATE_NON_SEQUENTIAL}};
    const char *family = calibrated_family("qwen3-moe"), *apart = rewrite(family, 0), *fused = rewrite(family, 1);
    logits_of(apart, separate);
    logits_of(fused, together);
    CHECK_F32(together, separate, TOKENS * VOCABULARY); /* it is the same model */
    for (size_t r = 0; r < sizeof RUNS / sizeof *RUNS; r++) {
        calibrated run = calibrated_run(RUNS[r].scheme, RUNS[r].method, 6, 64);
        const char *a = check_fresh(), *b = check_fresh();
        ht_plan_tensor *rows_a, *rows_b;
        size_t count_a, count_b;
        uint64_t tokens_a, tokens_b;
        run.options.profile = "plain";
        run.options.calibration.mode = RUNS[r].mode;
        run.threads = 2;
        REQUIRE_OK(calibrated_quantize(&run, apart, a, &rows_a, &count_a));
        run.threads = 1;
        REQUIRE_OK(calibrated_quantize(&run, fused, b, &rows_b, &count_b));
        logits_of(a, separate);
        logits_of(b, together);
        if (!CHECK_F32(together, separate, TOKENS * VOCABULARY))
            fprintf(stderr, "  of %s, %s\n", RUNS[r].scheme, RUNS[r].method);
        double loss_a = expert_losses(rows_a, count_a, &tokens_a), loss_b = expert_losses(rows_b, count_b, &tokens_b);
        CHECK_INT(tokens_a, 2 * 2 * 6 * 64); /* two layers, two experts a token */
        CHECK_INT(tokens_b, tokens_a);
        CHECK_NEAR(loss_b, loss_a, 1e-9);
        CHECK(loss_a > 0);
        free(rows_a), free(rows_b);
        calibrated_remove(a), calibrated_remove(b);
    }
}

int main(void) {
    CHECK_OK(ht_context_create(NULL, &ctx));
    RUN(test_same_codes);
    ht_context_destroy(ctx);
    return check_finish();
}
