/* Quality gates: limits that an evaluation against the float model must hold.
 *
 * A row of the table says what a gate is called in a recipe, which figure it speaks about, and whether it is a most or
 * a least. A figure equal to its limit holds; one that is not known (no base model) does not.
 *
 * SPDX-License-Identifier: BSD-3-Clause */
#include <halftone/quant.h>

#include <math.h>   /* isnan, expm1 */
#include <stdio.h>  /* snprintf */
#include <stdlib.h> /* strtod */
#include <string.h> /* strcmp */

#include "base/nearest.h"
#include "base/status.h"
#include "quant/recipe/recipe_rules.h"

static double perplexity(const ht_evaluation *e) {
    return e->perplexity;
}
static double increase(const ht_evaluation *e) {
    return 100 * expm1(e->nll_change);
}
static double kl(const ht_evaluation *e) {
    return e->kl_mean;
}
static double kl_p99(const ht_evaluation *e) {
    return e->kl_p99;
}
static double agreement(const ht_evaluation *e) {
    return e->top1_agreement;
}

static const struct {
    const char *name, *what, *unit;
    int least; /* the limit is a least, not a most */
    double low, high;
    double (*figure)(const ht_evaluation *e);
} table[HT_GATE_COUNT] = {
    [HT_GATE_PERPLEXITY] = {"max_perplexity", "perplexity", "", 0, 1, 1e9, perplexity},
    [HT_GATE_INCREASE] = {"max_perplexity_increase", "increase of perplexity", " %", 0, -100, 1e9, increase},
    [HT_GATE_KL] = {"max_kl", "mean KL divergence", " nats", 0, 0, 1e9, kl},
    [HT_GATE_KL_P99] = {"max_kl_p99", "99th percentile of the KL divergence", " nats", 0, 0, 1e9, kl_p99},
    [HT_GATE_AGREEMENT] = {"min_agreement", "top-1 agreement", "", 1, 0, 1, agreement},
};

ht_gates ht_gates_none(void) {
    ht_gates gates;
    for (size_t i = 0; i < HT_GATE_COUNT; i++)
        gates.limit[i] = (double)NAN;
    return gates;
}

int ht_gates_any(const ht_gates *gates) {
    for (size_t i = 0; i < HT_GATE_COUNT; i++)
        if (!isnan(gates->limit[i]))
            return 1;
    return 0;
}

int ht_gates_need_base(const ht_gates *gates) {
    for (size_t i = 0; i < HT_GATE_COUNT; i++)
        if (!isnan(gates->limit[i]) && i != HT_GATE_PERPLEXITY)
            return 1;
    return 0;
}

const char *ht_gate_name(ht_gate gate) {
    return table[gate].name;
}

double ht_gate_figure(ht_gate gate, const ht_evaluation *evaluation) {
    return table[gate].figure(evaluation);
}

int ht_gate_holds(const ht_gates *gates, ht_gate gate, const ht_evaluation *evaluation) {
    double limit = gates->limit[gate], figure = table[gate].figure(evaluation);
    return isnan(limit) || (table[gate].least ? figure >= limit : figure <= limit);
}

ht_status ht_gates_set(ht_gates *gates, const char *name, const char *value) {
    ht_nearest nearest = {.word = name};
    for (size_t i = 0; i < HT_GATE_COUNT; i++) {
        ht_nearest_offer(&nearest, table[i].name);
        if (strcmp(table[i].name, name) != 0)
            continue;
        char *end;
        double limit = strtod(value, &end);
        if (end == value || *end || !(limit >= table[i].low && limit <= table[i].high))
            return ht_fail(HT_ERR_ARGUMENT, "%s is \"%.64s\"; a number from %g to %g is needed", name, value,
                           table[i].low, table[i].high);
        gates->limit[i] = limit;
        return HT_OK;
    }
    return ht_fail(HT_ERR_ARGUMENT, "gate \"%.64s\" is unknown; the nearest is %s", name, nearest.found);
}

ht_status ht_gates_check(const ht_gates *gates, const ht_evaluation *evaluation) {
    char broken[512] = "";
    size_t used = 0;
    for (size_t i = 0; i < HT_GATE_COUNT && used < sizeof broken; i++) {
        if (ht_gate_holds(gates, (ht_gate)i, evaluation))
            continue;
        double figure = table[i].figure(evaluation);
        used +=
            (size_t)(isnan(figure)
                         ? snprintf(broken + used, sizeof broken - used, "%s%s is not known without a base model",
                                    used ? "; " : "", table[i].what)
                         : snprintf(broken + used, sizeof broken - used, "%s%s %.6g%s, %s is %.6g", used ? "; " : "",
                                    table[i].what, figure, table[i].unit, table[i].name, gates->limit[i]));
    }
    return used ? ht_fail(HT_ERR_POLICY, "quality gate: %s", broken) : HT_OK;
}

ht_gates ht_recipe_gates(const ht_recipe *recipe) {
    return recipe->gates;
}
