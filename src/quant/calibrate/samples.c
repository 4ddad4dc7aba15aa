/* Calibration text: tokenized once as a whole, cut into windows side by side from its beginning.
 *
 *     ids   | sample 0 | sample 1 | ... | sample N-1 | held out 0 | ... |  rest: not used
 *
 * So the choice depends on the text alone. Held-out windows follow the samples: other text of the same kind, which
 * methods may judge by but never fit.
 * SPDX-License-Identifier: BSD-3-Clause */
#include "quant/calibrate/samples.h"

#include <stdio.h>  /* snprintf */
#include <stdlib.h> /* strtoul */
#include <string.h>

#include <halftone/tokenizer.h>

#include <xxhash.h>

#include "base/context.h"
#include "base/file_map.h"
#include "base/status.h"

enum { SAMPLES = 128, LENGTH = 512, MOST_LENGTH = 1 << 20, MOST_SAMPLES = 1 << 30 };

static const char *const MODES[] = {[HT_CALIBRATE_DEFAULT] = "default",
                                    [HT_CALIBRATE_NON_SEQUENTIAL] = "non-sequential",
                                    [HT_CALIBRATE_SEQUENTIAL] = "sequential",
                                    [HT_CALIBRATE_TRUE_SEQUENTIAL] = "true-sequential"};

const char *ht_calibration_mode_name(ht_calibration_mode mode) {
    return MODES[mode];
}

ht_calibration_mode ht_calibration_mode_find(const char *name) {
    for (int mode = HT_CALIBRATE_NON_SEQUENTIAL; mode <= HT_CALIBRATE_TRUE_SEQUENTIAL; mode++)
        if (strcmp(MODES[mode], name) == 0)
            return (ht_calibration_mode)mode;
    return HT_CALIBRATE_DEFAULT;
}

void ht_calibration_experts_name(size_t spread, char name[32]) {
    if (spread == HT_SPREAD_ROUTED || spread == HT_SPREAD_ALL)
        snprintf(name, 32, "%s", spread ? "all" : "routed");
    else
        snprintf(name, 32, "top-k+%zu", spread);
}

ht_status ht_calibration_experts_parse(const char *text, size_t *spread) {
    char *end = NULL;
    unsigned long more = strncmp(text, "top-k+", 6) == 0 ? strtoul(text + 6, &end, 10) : 0;
    *spread = strcmp(text, "all") == 0 ? HT_SPREAD_ALL : HT_SPREAD_ROUTED;
    if (*spread == HT_SPREAD_ALL || strcmp(text, "routed") == 0)
        return HT_OK;
    if (!end || end == text + 6 || *end || text[6] < '0' || text[6] > '9' || more == 0 || more >= HT_SPREAD_ALL)
        return ht_fail(HT_ERR_ARGUMENT, "experts is \"%.64s\"; allowed: routed, all, top-k+N (N from 1)", text);
    *spread = more;
    return HT_OK;
}

static ht_status whole_number(const char *name, const char *text, size_t *out) {
    char *end;
    unsigned long long value = strtoull(text, &end, 10);
    if (*text < '0' || *text > '9' || *end || value < 1 || value > MOST_SAMPLES)
        return ht_fail(HT_ERR_ARGUMENT, "%s is \"%.64s\"; a whole number from 1 to %d is needed", name, text,
                       MOST_SAMPLES);
    *out = (size_t)value;
    return HT_OK;
}

ht_status ht_calibration_set(ht_calibration_options *options, const char *name, const char *text) {
    const struct {
        const char *name;
        size_t *number;
    } numbers[] = {{"samples", &options->samples}, {"length", &options->length}, {"held_out", &options->held_out}};
    size_t spread;
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++)
        if (strcmp(name, numbers[i].name) == 0)
            return whole_number(name, text, numbers[i].number);
    if (strcmp(name, "experts") == 0) {
        options->experts = text;
        return ht_calibration_experts_parse(text, &spread);
    }
    if (strcmp(name, "mode") != 0)
        return ht_fail(HT_ERR_ARGUMENT, "key \"%.64s\" is unknown; allowed: mode, samples, length, held_out, experts",
                       name);
    options->mode = ht_calibration_mode_find(text);
    if (!options->mode)
        return ht_fail(HT_ERR_ARGUMENT, "mode is \"%.64s\"; allowed: non-sequential, sequential, true-sequential",
                       text);
    return HT_OK;
}

static size_t first_said(size_t call, size_t recipe, size_t standard) {
    return call ? call : recipe ? recipe : standard;
}

ht_status ht_calibration_resolve(const ht_calibration_options *call, const ht_calibration_options *recipe,
                                 ht_calibration *out) {
    const char *experts = call->experts ? call->experts : recipe->experts;
    ht_calibration_mode mode = call->mode ? call->mode : recipe->mode;
    *out = (ht_calibration){.data = call->data,
                            .samples = first_said(call->samples, recipe->samples, SAMPLES),
                            .length = first_said(call->length, recipe->length, LENGTH),
                            .held_out = first_said(call->held_out, recipe->held_out, 0),
                            .mode = mode ? mode : HT_CALIBRATE_SEQUENTIAL};
    if (out->length < 2 || out->length > MOST_LENGTH)
        return ht_fail(HT_ERR_ARGUMENT, "calibration: samples of %zu tokens; 2 to %d are possible", out->length,
                       MOST_LENGTH);
    if (out->samples > MOST_SAMPLES || out->held_out > MOST_SAMPLES)
        return ht_fail(HT_ERR_ARGUMENT, "calibration: %zu samples", out->samples + out->held_out);
    return experts ? ht_calibration_experts_parse(experts, &out->spread) : HT_OK;
}

/* --- Reading ------------------------------------------------------------------------------------------------ */

static ht_status cut(const ht_calibration *how, const ht_encoding *text, ht_arena *arena, ht_samples *out) {
    size_t windows = text->count / how->length, wanted = how->samples + how->held_out;
    if (!windows)
        return ht_fail(HT_ERR_ARGUMENT,
                       "%s: the text has %zu tokens, a sample needs %zu: give more text or a smaller --length",
                       how->data, text->count, how->length);
    if (windows < wanted)
        ht_log(arena->ctx, HT_LOG_WARN, "%s: the text gives %zu samples of %zu tokens, %zu are asked", how->data,
               windows, how->length, wanted);
    out->count = windows < how->samples ? windows : how->samples;
    out->held_out = windows - out->count < how->held_out ? windows - out->count : how->held_out;
    out->length = how->length;
    size_t bytes = (out->count + out->held_out) * out->length * sizeof *out->ids;
    out->ids = ht_arena_alloc(arena, bytes);
    if (!out->ids)
        return HT_ERR_MEMORY;
    memcpy(out->ids, text->ids, bytes);
    out->hash = XXH64(out->ids, bytes, 0);
    return HT_OK;
}

ht_status ht_samples_read(const char *model, const ht_calibration *how, ht_arena *arena, ht_samples *out) {
    *out = (ht_samples){0};
    if (!how->data)
        return ht_fail(HT_ERR_ARGUMENT, "no calibration text: give --data FILE");
    ht_tokenizer *tokenizer;
    ht_file_map map;
    ht_encoding ids = {0};
    HT_TRY(ht_file_map_open(how->data, &map));
    ht_status status = ht_tokenizer_open(arena->ctx, model, &tokenizer);
    if (status == HT_OK) {
        status = ht_tokenizer_encode(tokenizer, map.data ? (const char *)map.data : "", map.bytes, 0, &ids);
        ht_tokenizer_close(tokenizer);
    }
    ht_file_map_close(&map);
    if (status == HT_OK)
        status = cut(how, &ids, arena, out);
    ht_encoding_release(&ids);
    return status;
}

ht_status ht_samples_check(const ht_samples *samples, size_t context, size_t vocabulary, const char *model,
                           const char *data) {
    if (samples->length > context)
        return ht_fail(HT_ERR_ARGUMENT,
                       "%s: samples of %zu tokens, the model's context is %zu: give a smaller --length", model,
                       samples->length, context);
    for (size_t i = 0; i < (samples->count + samples->held_out) * samples->length; i++)
        if (samples->ids[i] < 0 || (size_t)samples->ids[i] >= vocabulary)
            return ht_fail(HT_ERR_ARGUMENT, "%s: token %zu of the text has id %ld, the model's vocabulary has %zu",
                           data, i, (long)samples->ids[i], vocabulary);
    return HT_OK;
}
