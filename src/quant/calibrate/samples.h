/* Text as a calibrated run takes it: how much, how cut, and the ids. */
#ifndef HT_QUANT_CALIBRATE_SAMPLES_H
#define HT_QUANT_CALIBRATE_SAMPLES_H

#include <stddef.h>
#include <stdint.h>

#include <halftone/quant.h>

#include "base/memory.h"

enum { HT_SPREAD_ROUTED = 0, HT_SPREAD_ALL = 1 << 20 };

/* Options in force. */
typedef struct ht_calibration {
    const char *data; /* NULL: no text */
    size_t samples, length, held_out;
    ht_calibration_mode mode;
    size_t spread; /* further experts that a token's row is shown to; HT_SPREAD_ALL: all of them */
} ht_calibration;

/* What is said, by the call or else by the recipe, else the defaults. Fails with ARGUMENT: experts of an unknown kind,
 * a length below 2. */
ht_status ht_calibration_resolve(const ht_calibration_options *call, const ht_calibration_options *recipe,
                                 ht_calibration *out);
/* "sequential" and so on; the mode of that name, or HT_CALIBRATE_DEFAULT. */
const char *ht_calibration_mode_name(ht_calibration_mode mode);
ht_calibration_mode ht_calibration_mode_find(const char *name);
/* Text of the experts policy: "routed", "all", "top-k+2". */
void ht_calibration_experts_name(size_t spread, char name[32]);
/* Fails with ARGUMENT. */
ht_status ht_calibration_experts_parse(const char *text, size_t *spread);

/* One key of a recipe's `calibration:`; text lives as long as the options. Fails with ARGUMENT: unknown key or value.
 */
ht_status ht_calibration_set(ht_calibration_options *options, const char *name, const char *text);

typedef struct ht_samples {
    int32_t *ids; /* [count + held_out, length] */
    size_t count, held_out, length;
    uint64_t hash; /* of the ids */
} ht_samples;

/* Tokenize the text with the tokenizer in `model` and take its first windows; memory from the arena. A text with fewer
 * windows than asked gives what it has (samples first) with a warning. Fails with ARGUMENT (no text given; shorter than
 * one window), IO, and as the tokenizer does. */
ht_status ht_samples_read(const char *model, const ht_calibration *how, ht_arena *arena, ht_samples *out);

/* Can a model of this context and vocabulary read the samples? Else ARGUMENT, naming the model's path and the text. */
ht_status ht_samples_check(const ht_samples *samples, size_t context, size_t vocabulary, const char *model,
                           const char *data);

#endif
