/* Quantizing a checkpoint from end to end: the bytes, their independence of threads and slices, stopping and going on,
 * bad input.
 * SPDX-License-Identifier: BSD-3-Clause */
#include <halftone/quant.h>

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "support/check.h"

static ht_context *ctx;
static const char *model(void) {
    return check_data("../../models/novel-7m");
}

/* A new path in the scratch directory. */
static const char *fresh(void) {
    static char path[8][512];
    static unsigned next;
    char *out = path[next % 8];
    snprintf(out, sizeof path[0], "%s/out%u", check_scratch(), next++);
    return out;
}

static const ht_plan_tensor *find(const ht_plan *plan, const char *name) {
    for (size_t i = 0; i < ht_plan_count(plan); i++)
        if (strcmp(ht_plan_at(plan, i)->name, name) == 0)
            return ht_plan_at(plan, i);
    return NULL;
}

static void test_mxfp4(void) {
    const char *out = fresh();
    ht_quantize_options options = ht_quantize_options_default();
    options.scheme = "mxfp4-w";
    ht_plan *plan;
    REQUIRE_OK(ht_quantize_checkpoint(ctx, model(), out, &options, &plan));
    ht_plan_summary summary = ht_plan_summarize(plan);
    CHECK_INT(summary.quantized, 56);
    CHECK_INT(summary.refused, 0);
    CHECK_NEAR(summary.bits_per_weight, 4.25, 1e-12);
    const ht_plan_tensor *q = find(plan, "model.layers.0.self_attn.q_proj.weight");
    REQUIRE(q != NULL);
    CHECK_TEXT(q->got, "mxfp4-w");
    CHECK(q->error > 0.08 && q->error < 0.15);
    const ht_plan_tensor *norm = find(plan, "model.norm.weight");
    CHECK_TEXT(norm->got, "bf16");
    CHECK(norm->error == 0 && *norm->reason);
    ht_checkpoint *checkpoint;
    if (CHECK_OK(ht_checkpoint_open(ctx, out, &checkpoint))) {
        const ht_parameter *p = ht_checkpoint_find_parameter(checkpoint, "model.layers.0.self_attn.q_proj.weight");
        CHECK(p && p->quantized && !p->has_input);
        ht_checkpoint_close(checkpoint);
    }
    ht_plan_destroy(plan);
}

int main(void) {
    if (ht_context_create(NULL, &ctx) != HT_OK)
        return 1;
    RUN(test_mxfp4);
    ht_context_destroy(ctx);
    return check_finish();
}
