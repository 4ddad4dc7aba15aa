/* Quality gates: read from a recipe, held or not, and what a broken one says.
 * SPDX-License-Identifier: BSD-3-Clause */
#include <halftone/quant.h>

#include <math.h>
#include <string.h>

#include "support/check.h"

static ht_context *ctx;

static ht_status gates_of(const char *gates, ht_gates *out) {
    char yaml[512] = "version: 1\npreset: mxfp4\ngates: ";
    strcat(yaml, gates);
    ht_recipe *recipe;
    ht_status status = ht_recipe_parse(ctx, yaml, strlen(yaml), &recipe);
    if (status == HT_OK) {
        *out = ht_recipe_gates(recipe);
        ht_recipe_close(recipe);
    }
    return status;
}

static void test_reading(void) {
    ht_gates gates = ht_gates_none();
    CHECK_INT(ht_gates_any(&gates), 0);
    REQUIRE_OK(gates_of("{max_perplexity_increase: 2.5, min_agreement: 0.9}\n", &gates));
    CHECK_INT(ht_gates_any(&gates), 1);
    CHECK(gates.limit[HT_GATE_INCREASE] == 2.5 && gates.limit[HT_GATE_AGREEMENT] == 0.9);
    CHECK(isnan(gates.limit[HT_GATE_KL]));
    CHECK_INT(ht_gates_need_base(&gates), 1);
    REQUIRE_OK(gates_of("{max_perplexity: 25}\n", &gates));
    CHECK_INT(ht_gates_need_base(&gates), 0);
    static const struct {
        const char *yaml, *says;
    } wrong[] = {
        {"[max_kl]\n", "recipe:3:8: gates must be a mapping"},
        {"{max_kkl: 1}\n", "recipe:3:9: gate \"max_kkl\" is unknown; the nearest is max_kl"},
        {"{max_kl: 5%}\n", "max_kl is \"5%\"; a number from 0"},
        {"{max_kl: nan}\n", "max_kl is \"nan\""},
        {"{min_agreement: 95}\n", "min_agreement is \"95\"; a number from 0 to 1"},
        {"{max_kl: 1, max_kl: 2}\n", "a second time"},
    };
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        CHECK_FAILS(gates_of(wrong[i].yaml, &gates), HT_ERR_CORRUPT);
        CHECK_CONTAINS(ht_error_message(), wrong[i].says);
    }
}

static void test_checking(void) {
    ht_evaluation e = {.perplexity = 21,
                       .base_perplexity = 20,
                       .nll_change = log(21.0 / 20),
                       .kl_mean = 0.04,
                       .kl_p99 = 0.5,
                       .top1_agreement = 0.93};
    ht_gates gates = ht_gates_none();
    CHECK_OK(ht_gates_check(&gates, &e));
    CHECK_NEAR(ht_gate_figure(HT_GATE_INCREASE, &e), 5, 1e-9);
    gates.limit[HT_GATE_KL] = 0.04; /* equal holds */
    gates.limit[HT_GATE_AGREEMENT] = 0.93;
    gates.limit[HT_GATE_INCREASE] = 5.1;
    gates.limit[HT_GATE_PERPLEXITY] = 21;
    gates.limit[HT_GATE_KL_P99] = 0.5;
    CHECK_OK(ht_gates_check(&gates, &e));
    gates.limit[HT_GATE_INCREASE] = 4.9;
    gates.limit[HT_GATE_AGREEMENT] = 0.94;
    CHECK_FAILS(ht_gates_check(&gates, &e), HT_ERR_POLICY);
    CHECK_TEXT(ht_error_message(), "quality gate: increase of perplexity 5 %, max_perplexity_increase is 4.9; top-1 "
                                   "agreement 0.93, min_agreement is 0.94");
    CHECK_INT(ht_status_exit(HT_ERR_POLICY), 4);
    e.kl_mean = (double)NAN; /* not known is not held */
    CHECK_INT(ht_gate_holds(&gates, HT_GATE_KL, &e), 0);
    CHECK_FAILS(ht_gates_check(&gates, &e), HT_ERR_POLICY);
    CHECK_CONTAINS(ht_error_message(), "mean KL divergence is not known without a base model");
    CHECK_TEXT(ht_gate_name(HT_GATE_KL_P99), "max_kl_p99");
}

int main(void) {
    if (ht_context_create(NULL, &ctx) != HT_OK)
        return 1;
    RUN(test_reading);
    RUN(test_checking);
    ht_context_destroy(ctx);
    return check_finish();
}
