/* Rotary positions: the frequency of each pair of a head, and the variants that stretch them beyond the trained
 * context.
 *
 *   default   theta^(-2i/d)                                                Su et al. 2021
 *   linear    divided by a factor                                          Chen et al. 2023, position interpolation
 *   llama3    slow ones divided, fast ones kept, a ramp between            Llama 3.1 model card
 *   yarn      as llama3 with the ramp over i; cosine and sine scaled       Peng et al. 2023, sections 3.2 to 3.4
 *   longrope  one divisor per pair, two lists: within the trained          Ding et al. 2024
 *             context, beyond
 *
 * LONGROPE chooses its list by the capacity of the sequence, once, so that every key of a sequence was rotated alike.
 * Frequencies are rounded to f32, and so are angles: that is what models were trained and published with.
 * SPDX-License-Identifier: BSD-3-Clause */
#include "model/rope.h"

#include <math.h> /* pow, log, cos, sin */

static const double PI = 3.14159265358979323846;

static double plain(const ht_rope_config *rope, size_t i, size_t rotary) {
    return pow(rope->theta, -2.0 * (double)i / (double)rotary);
}

static double llama3(const ht_rope_config *rope, double frequency) {
    double wavelength = 2 * PI / frequency;
    if (wavelength > rope->original_context / rope->low_frequency)
        return frequency / rope->factor;
    if (wavelength < rope->original_context / rope->high_frequency)
        return frequency;
    double smooth =
        (rope->original_context / wavelength - rope->low_frequency) / (rope->high_frequency - rope->low_frequency);
    return (1 - smooth) * frequency / rope->factor + smooth * frequency;
}

/* Index of the pair that turns `rotations` times over the trained context. */
static double yarn_bound(const ht_rope_config *rope, double rotations, size_t rotary) {
    return (double)rotary * log(rope->original_context / (rotations * 2 * PI)) / (2 * log(rope->theta));
}

static double yarn(const ht_rope_config *rope, double frequency, size_t i, size_t rotary) {
    double low = yarn_bound(rope, rope->beta_fast, rotary), high = yarn_bound(rope, rope->beta_slow, rotary);
    if (rope->truncate) {
        low = floor(low);
        high = ceil(high);
    }
    low = fmax(low, 0);
    high = fmin(high, (double)rotary - 1);
    if (low == high)
        high += 0.001;
    double ramp = fmin(fmax(((double)i - low) / (high - low), 0), 1);
    return frequency / rope->factor * ramp + frequency * (1 - ramp);
}

static double yarn_scale(double factor, double mscale) {
    return factor <= 1 ? 1 : 0.1 * mscale * log(factor) + 1;
}

static double amplitude(const ht_rope_config *rope) {
    if (rope->attention_factor > 0)
        return rope->attention_factor;
    if (rope->kind == HT_ROPE_YARN) {
        if (rope->mscale > 0 && rope->mscale_all > 0)
            return yarn_scale(rope->factor, rope->mscale) / yarn_scale(rope->factor, rope->mscale_all);
        return yarn_scale(rope->factor, 1);
    }
    if (rope->kind == HT_ROPE_LONGROPE && rope->factor > 1)
        return sqrt(1 + log(rope->factor) / log(rope->original_context));
    return 1;
}

float ht_rope_frequencies(const ht_rope_config *rope, size_t rotary, size_t capacity, float *frequency) {
    const double *divisor = (double)capacity > rope->original_context ? rope->long_factor : rope->short_factor;
    for (size_t i = 0; i < rotary / 2; i++) {
        double f = plain(rope, i, rotary);
        if (rope->kind == HT_ROPE_LINEAR)
            f /= rope->factor;
        else if (rope->kind == HT_ROPE_LLAMA3)
            f = llama3(rope, f);
        else if (rope->kind == HT_ROPE_YARN)
            f = yarn(rope, f, i, rotary);
        else if (rope->kind == HT_ROPE_LONGROPE)
            f /= divisor[i];
        frequency[i] = (float)f;
    }
    return (float)amplitude(rope);
}

void ht_rope_table(const float *frequency, size_t half, float factor, size_t first, size_t count, float *cosine,
                   float *sine) {
    for (size_t t = 0; t < count; t++)
        for (size_t i = 0; i < half; i++) {
            float angle = (float)(first + t) * frequency[i];
            cosine[t * half + i] = (float)cos((double)angle) * factor;
            sine[t * half + i] = (float)sin((double)angle) * factor;
        }
}
