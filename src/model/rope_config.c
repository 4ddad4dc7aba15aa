/* The rotary part of config.json, in its spellings:
 *
 *   new   "rope_parameters": {"rope_type": "llama3", "rope_theta": 5e5, "factor": 8, ...}
 *   old   "rope_theta": 5e5, "rope_scaling": {"rope_type" or "type": "llama3", "factor": 8, ...}
 *
 * partial_rotary_factor and original_max_position_embeddings may stand inside or at the top. Refuses rope types that
 * are not implemented, and parameters that differ between layer types.
 * SPDX-License-Identifier: BSD-3-Clause */
#include "model/rope_config.h"

#include <string.h> /* strcmp */

#include "base/status.h"
#include "io/json.h"

static const struct {
    const char *name;
    ht_rope_kind kind;
} KINDS[] = {
    {"default", HT_ROPE_DEFAULT}, {"linear", HT_ROPE_LINEAR},     {"llama3", HT_ROPE_LLAMA3},
    {"yarn", HT_ROPE_YARN},       {"longrope", HT_ROPE_LONGROPE}, {"su", HT_ROPE_LONGROPE},
};

/* Value of `key` inside the rotary object, or else at the top. */
static ht_status number(const char *label, const json_t *inside, const json_t *top, const char *key, double fallback,
                        double *out) {
    const json_t *value = json_object_get(inside, key);
    return ht_config_real(label, value && !json_is_null(value) ? inside : top, key, fallback, out);
}

static ht_status read_kind(const char *label, const json_t *inside, ht_rope_kind *out) {
    const char *key = json_object_get(inside, "rope_type") ? "rope_type" : "type";
    const json_t *value = json_object_get(inside, key);
    *out = HT_ROPE_DEFAULT;
    if (!value || json_is_null(value))
        return HT_OK;
    for (size_t i = 0; json_is_string(value) && i < sizeof KINDS / sizeof *KINDS; i++)
        if (strcmp(json_string_value(value), KINDS[i].name) == 0) {
            *out = KINDS[i].kind;
            return HT_OK;
        }
    return ht_config_refuse(label, key, value);
}

static ht_status read_factors(const char *label, const json_t *inside, const char *key, size_t count, ht_arena *arena,
                              const double **out) {
    const json_t *list = json_object_get(inside, key), *entry;
    if (!json_is_array(list) || json_array_size(list) != count)
        return ht_config_malformed(label, key, list, "one number per rotated pair");
    double *factors = ht_arena_alloc(arena, count * sizeof *factors);
    if (!factors)
        return HT_ERR_MEMORY;
    size_t i;
    json_array_foreach(list, i, entry) {
        factors[i] = json_number_value(entry);
        if (!(factors[i] > 0) || !(factors[i] < 1e12))
            return ht_config_malformed(label, key, entry, "a list of positive numbers");
    }
    *out = factors;
    return HT_OK;
}

static ht_status read_stretch(const char *label, const json_t *inside, const json_t *top, ht_arena *arena,
                              ht_decoder_config *c) {
    ht_rope_config *rope = &c->rope;
    double context = c->context ? (double)c->context : 4096;
    HT_TRY(number(label, inside, top, "original_max_position_embeddings", context, &rope->original_context));
    double ratio = rope->kind == HT_ROPE_LONGROPE || rope->kind == HT_ROPE_YARN ? context / rope->original_context : 0;
    HT_TRY(ht_config_real(label, inside, "factor", ratio, &rope->factor));
    if (rope->factor == 0)
        return ht_config_malformed(label, "rope factor", NULL, "a positive number");
    if (rope->kind == HT_ROPE_LONGROPE && json_object_get(top, "original_max_position_embeddings"))
        rope->factor = ratio; /* stated context over trained context, whatever `factor` says */
    HT_TRY(ht_config_real(label, inside, "attention_factor", 0, &rope->attention_factor));
    HT_TRY(ht_config_real(label, inside, "low_freq_factor", 1, &rope->low_frequency));
    HT_TRY(ht_config_real(label, inside, "high_freq_factor", 4, &rope->high_frequency));
    if (rope->kind == HT_ROPE_LLAMA3 && rope->high_frequency <= rope->low_frequency)
        return ht_fail(HT_ERR_CORRUPT, "%s: high_freq_factor %g must exceed low_freq_factor %g", label,
                       rope->high_frequency, rope->low_frequency);
    HT_TRY(ht_config_real(label, inside, "beta_fast", 32, &rope->beta_fast));
    HT_TRY(ht_config_real(label, inside, "beta_slow", 1, &rope->beta_slow));
    HT_TRY(ht_config_real(label, inside, "mscale", 0, &rope->mscale));
    HT_TRY(ht_config_real(label, inside, "mscale_all_dim", 0, &rope->mscale_all));
    HT_TRY(ht_config_flag(label, inside, "truncate", 1, &rope->truncate));
    if (rope->kind != HT_ROPE_LONGROPE)
        return HT_OK;
    rope->factors = c->rotary / 2;
    HT_TRY(read_factors(label, inside, "short_factor", rope->factors, arena, &rope->short_factor));
    return read_factors(label, inside, "long_factor", rope->factors, arena, &rope->long_factor);
}

static const json_t *rotary_object(const json_t *config) {
    const json_t *inside = json_object_get(config, "rope_parameters");
    if (!json_is_object(inside))
        inside = json_object_get(config, "rope_scaling");
    return json_is_object(inside) ? inside : NULL;
}

ht_status ht_rope_config_read(const char *label, const json_t *config, ht_arena *arena, ht_decoder_config *c) {
    const json_t *inside = rotary_object(config);
    if (json_is_object(json_object_get(inside, "full_attention")) ||
        json_is_object(json_object_get(inside, "sliding_attention")))
        return ht_config_refuse(label, "rope_parameters", inside);
    ht_rope_config *rope = &c->rope;
    double theta = c->architecture->rope_theta > 0 ? c->architecture->rope_theta : 10000;
    HT_TRY(read_kind(label, inside, &rope->kind));
    HT_TRY(number(label, inside, config, "rope_theta", theta, &rope->theta));
    HT_TRY(number(label, inside, config, "partial_rotary_factor", 1, &rope->partial));
    c->rotary = (size_t)((double)c->head_dim * rope->partial);
    if (rope->theta <= 1 || rope->partial > 1 || c->rotary < 2 || c->rotary % 2)
        return ht_fail(HT_ERR_CORRUPT,
                       "%s: rope_theta %g with partial_rotary_factor %g of head_dim %zu: %zu rotated "
                       "values, an even number and a base above 1 are needed",
                       label, rope->theta, rope->partial, c->head_dim, c->rotary);
    return rope->kind == HT_ROPE_DEFAULT ? HT_OK : read_stretch(label, inside, config, arena, c);
}
