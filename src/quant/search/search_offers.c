/* What a search chooses among: candidates, a plan for each, and units of linears that are chosen together.
 *
 * The plan of "everything under this scheme" says what every linear would take in the profile and which cannot have it,
 * so that sizes and limits are those of `quantize` itself. Units:
 *
 *     q_proj k_proj v_proj   gate_proj up_proj     what readers run as one matrix (classify.h)
 *     all experts of a layer                       one kernel runs them all
 *     any other linear                             alone
 *
 * with mixed groups every linear alone, and of a layer's experts those of one name. Default candidates that a profile
 * or the method cannot have are left out; those that were asked for are refused.
 * SPDX-License-Identifier: BSD-3-Clause */
#include "quant/search/search.h"

#include <math.h>   /* NAN */
#include <stdint.h> /* SIZE_MAX */
#include <stdio.h>  /* snprintf */
#include <string.h>

#include "base/context.h"
#include "base/nearest.h"
#include "base/status.h"
#include "quant/recipe/presets.h"

enum { LONGEST_KEY = 1024, MOST_CANDIDATES = 64, MOST_SET = 32 };

/* Weights alone: what inputs lose is not what is measured. Of schemes with as many bits, those that lose least. */
static const struct {
    const char *profile; /* NULL: all others */
    const char *scheme[16];
} standard[] = {
    {"plain",
     {"int2-g32-asym", "int3-g64", "int3-g32-asym", "iq4_xs", "q4_k", "int4-g32-asym", "int5-g64-asym", "q5_k",
      "int6-g128", "q6_k", "int8-g128"}},
    {NULL,
     {"int3-g128", "int3-g32-asym", "int4-g128", "mxfp4-w", "nvfp4-w", "int4-g32-asym", "int5-g64-asym", "int6-g128",
      "mxfp6-e2m3-w", "int8-g128", "mxfp8-w", "fp8-w"}},
};

/* --- Candidates -------------------------------------------------------------------------------------------------- */

/* Does name=value mean something for the scheme under the chain? */
static int means(const char *word, const ht_chain *chain, const ht_scheme *scheme) {
    char name[64];
    const char *equal = strchr(word, '=');
    size_t length = equal ? (size_t)(equal - word) : sizeof name;
    if (length >= sizeof name)
        return 1; /* whoever reads it refuses it */
    memcpy(name, word, length);
    name[length] = '\0';
    if (ht_settings_knows(name)) {
        ht_settings settings = ht_settings_unset();
        return ht_settings_set(&settings, chain->name, name, equal + 1) == HT_OK ||
               ht_settings_set(&settings, NULL, name, equal + 1) != HT_OK; /* no value at all: refused with the rest */
    }
    ht_rule_options options = ht_rule_options_unset();
    return ht_rule_options_set(&options, name, equal + 1) == HT_OK && ht_rule_options_check(&options, scheme) == HT_OK;
}

static ht_status choose_set(ht_search *s, const ht_scheme *scheme, const char *const **out) {
    const char *const *set = s->options.set;
    const char **kept = ht_arena_alloc(&s->arena, (MOST_SET + 1) * sizeof *kept);
    ht_chain chain;
    size_t count = 0;
    if (!kept)
        return HT_ERR_MEMORY;
    const char *preset = ht_preset_word(s->options.method);
    HT_TRY(ht_chain_parse(preset ? ht_preset_find(preset, scheme)->method : s->options.method, &chain));
    for (size_t i = 0; set[i]; i++) {
        if (i == MOST_SET)
            return ht_fail(HT_ERR_ARGUMENT, "more than %d settings", MOST_SET);
        if (means(set[i], &chain, scheme))
            kept[count++] = set[i];
    }
    *out = kept;
    return HT_OK;
}

static ht_status plan_for(ht_search *s, const char *scheme, const char *const *set, ht_plan **out) {
    ht_quantize_options options = ht_quantize_options_default();
    options.scheme = scheme;
    options.method = s->options.method;
    options.set = set;
    options.profile = s->options.profile;
    return ht_plan_create(s->ctx, s->checkpoint, &options, out);
}

static ht_status add_candidate(ht_search *s, const char *name) {
    ht_candidate *c = &s->candidate[s->candidates];
    ht_scheme scheme;
    *c = (ht_candidate){.row = {.scheme = "keep"}};
    if (!ht_word_equal(name, "keep")) {
        HT_TRY(ht_scheme_parse(name, &scheme));
        c->row.scheme = ht_arena_string(&s->arena, scheme.name, strlen(scheme.name));
        if (!c->row.scheme)
            return HT_ERR_MEMORY;
    }
    for (size_t i = 0; i < s->candidates; i++)
        if (strcmp(s->candidate[i].row.scheme, c->row.scheme) == 0)
            return ht_fail(HT_ERR_ARGUMENT, "candidate %s is given twice", c->row.scheme);
    if (!ht_word_equal(name, "keep")) {
        HT_TRY(choose_set(s, &scheme, &c->set));
        HT_TRY(plan_for(s, c->row.scheme, c->set, &c->plan));
    }
    s->candidates++;
    return HT_OK;
}

static const char *const *standard_for(const char *profile) {
    size_t i = 0;
    while (standard[i].profile && !ht_word_equal(standard[i].profile, profile))
        i++;
    return standard[i].scheme;
}

/* Is it a candidate that another profile or method could have? */
static int can_be_left_out(ht_status status) {
    return status == HT_ERR_UNSUPPORTED || status == HT_ERR_SHAPE || status == HT_ERR_FORMAT ||
           status == HT_ERR_CORRUPT || status == HT_ERR_ARGUMENT;
}

/* A setting that means nothing anywhere is a mistake. */
static ht_status check_set(const ht_search *s) {
    for (size_t i = 0; s->options.set[i]; i++) {
        size_t used = 0;
        for (size_t c = 0; c < s->candidates; c++)
            for (size_t j = 0; s->candidate[c].set && s->candidate[c].set[j]; j++)
                used += s->candidate[c].set[j] == s->options.set[i];
        if (!used)
            return ht_fail(HT_ERR_ARGUMENT, "setting \"%.64s\" means nothing for method %s and any of the candidates",
                           s->options.set[i], s->options.method);
    }
    return HT_OK;
}

static ht_status add_candidates(ht_search *s) {
    static const char *const compact[] = {"scale_dtype=bf16", NULL};
    const char *const *given = s->options.candidates, *const *names = given ? given : standard_for(s->profile);
    int own_set = s->options.set != NULL;
    if (!own_set)
        s->options.set = compact;
    s->candidate = ht_arena_alloc(&s->arena, MOST_CANDIDATES * sizeof *s->candidate);
    if (!s->candidate)
        return HT_ERR_MEMORY;
    for (size_t i = 0; names[i]; i++) {
        if (s->candidates == MOST_CANDIDATES)
            return ht_fail(HT_ERR_ARGUMENT, "more than %d candidates", MOST_CANDIDATES);
        ht_status status = add_candidate(s, names[i]);
        if (!given && can_be_left_out(status)) {
            ht_log(s->ctx, HT_LOG_DEBUG, "candidate %s left out: %s", names[i], ht_error_message());
            continue;
        }
        if (status != HT_OK)
            return ht_fail_prefix(status, "candidate %s", names[i]);
    }
    if (!s->candidates)
        return add_candidate(s, names[0]); /* says what is in the way */
    return own_set ? check_set(s) : HT_OK;
}

/* --- Units ------------------------------------------------------------------------------------------------------- */

/* The last part of the module's name, before .weight. */
static void projection_of(const char *name, char *out, size_t size) {
    size_t length = strlen(name);
    if (length > 7 && strcmp(name + length - 7, ".weight") == 0)
        length -= 7;
    size_t begin = length;
    while (begin && name[begin - 1] != '.')
        begin--;
    snprintf(out, size, "%.*s", (int)(length - begin), name + begin);
}

static void key_of(const ht_search *s, const char *name, char key[LONGEST_KEY]) {
    char projection[LONGEST_KEY / 2];
    if (ht_experts_key(name, key, LONGEST_KEY)) {
        size_t used = strlen(key);
        projection_of(name, projection, sizeof projection);
        if (s->options.mixed_groups)
            snprintf(key + used, LONGEST_KEY - used, ".*.%s", projection);
    } else if (s->options.mixed_groups || !ht_fused_key(name, key, LONGEST_KEY)) {
        snprintf(key, LONGEST_KEY, "%s", name);
    }
}

static int can_have(const ht_search *s, size_t candidate, size_t parameter) {
    const ht_plan *plan = s->candidate[candidate].plan;
    return plan && plan->job[parameter].layout != NULL;
}

static ht_status add_to_unit(ht_search *s, size_t parameter) {
    const ht_parameter *p = ht_checkpoint_parameter(s->checkpoint, parameter);
    char key[LONGEST_KEY];
    size_t u = 0;
    key_of(s, p->name, key);
    while (u < s->units && strcmp(s->unit[u].row.name, key) != 0)
        u++;
    ht_unit *unit = &s->unit[u];
    if (u == s->units) {
        unit->row.name = ht_arena_string(&s->arena, key, strlen(key));
        if (!unit->row.name)
            return HT_ERR_MEMORY;
        s->units++;
    }
    unit->row.tensors++;
    unit->row.weights += (uint64_t)p->weight.batch * p->weight.rows * p->weight.cols;
    s->unit_of[parameter] = u;
    return HT_OK;
}

/* Bytes of a parameter's planes under a candidate: shapes and the like, which some profiles store, are no part of its
 * bits. */
static uint64_t bytes_of(const ht_search *s, size_t candidate, size_t parameter) {
    const ht_plan *plan = s->candidate[candidate].plan;
    const ht_parameter *p = ht_checkpoint_parameter(s->checkpoint, parameter);
    uint64_t bytes = 0;
    if (!plan)
        return (uint64_t)p->weight.batch * ht_format_bytes(&p->weight.format, p->weight.rows, p->weight.cols);
    const ht_layout *layout = plan->job[parameter].layout;
    for (size_t i = 0; layout && i < layout->count; i++) {
        const ht_output_tensor *tensor = &layout->component[i].tensor;
        ht_tensor view = ht_tensor_view(NULL, tensor->dtype, tensor->rank, tensor->shape);
        bytes += layout->component[i].kind == HT_COMPONENT_CONSTANT ? 0 : ht_tensor_bytes(&view);
    }
    return bytes;
}

/* Parameters of a unit, and what it takes under every candidate. */
static ht_status price_unit(ht_search *s, size_t u, size_t count) {
    ht_unit *unit = &s->unit[u];
    unit->parameter = ht_arena_alloc(&s->arena, unit->row.tensors * sizeof *unit->parameter);
    unit->measure = ht_arena_alloc(&s->arena, s->candidates * sizeof *unit->measure);
    unit->error = ht_arena_alloc(&s->arena, s->candidates * sizeof *unit->error);
    if (!unit->parameter || !unit->measure || !unit->error)
        return HT_ERR_MEMORY;
    unit->row.measure = unit->measure;
    size_t members = 0;
    for (size_t i = 0; i < count; i++)
        if (s->unit_of[i] == u)
            unit->parameter[members++] = i;
    for (size_t c = 0; c < s->candidates; c++) {
        ht_search_measure *m = &unit->measure[c];
        for (size_t i = 0; i < members; i++) {
            m->bytes += bytes_of(s, c, unit->parameter[i]);
            if (s->candidate[c].plan && !can_have(s, c, unit->parameter[i]))
                m->error = (double)NAN;
        }
    }
    return HT_OK;
}

static ht_status find_units(ht_search *s) {
    size_t count = ht_checkpoint_parameter_count(s->checkpoint);
    s->unit = ht_arena_alloc(&s->arena, (count + 1) * sizeof *s->unit);
    s->unit_of = ht_arena_alloc(&s->arena, (count + 1) * sizeof *s->unit_of);
    if (!s->unit || !s->unit_of)
        return HT_ERR_MEMORY;
    for (size_t i = 0; i < count; i++) {
        s->unit_of[i] = SIZE_MAX;
        for (size_t c = 0; c < s->candidates && s->unit_of[i] == SIZE_MAX; c++)
            if (can_have(s, c, i))
                HT_TRY(add_to_unit(s, i));
    }
    for (size_t u = 0; u < s->units; u++)
        HT_TRY(price_unit(s, u, count));
    return HT_OK;
}

ht_status ht_search_offers(ht_search *s) {
    const ht_profile *profile;
    HT_TRY(ht_profile_find(s->options.profile, &profile));
    s->profile = profile->name;
    HT_TRY(add_candidates(s));
    size_t schemes = 0;
    for (size_t c = 0; c < s->candidates; c++)
        schemes += s->candidate[c].plan != NULL;
    if (!schemes)
        return ht_fail(HT_ERR_ARGUMENT, "keep is the only candidate; give a scheme, too");
    HT_TRY(find_units(s));
    /* A unit none of whose common candidates fits all its members stays as it is. */
    size_t kept = 0;
    for (size_t u = 0; u < s->units; u++) {
        size_t possible = 0;
        for (size_t c = 0; c < s->candidates; c++)
            possible += s->candidate[c].plan && !isnan(s->unit[u].measure[c].error);
        for (size_t i = 0; i < s->unit[u].row.tensors; i++)
            s->unit_of[s->unit[u].parameter[i]] = possible ? kept : SIZE_MAX;
        if (possible)
            s->unit[kept++] = s->unit[u];
    }
    s->units = kept;
    return HT_OK;
}
