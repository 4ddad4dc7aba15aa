/* See attention_round.h. The transform of a row is undone by its transpose, so q . k stays what it was and the output
 * needs one more transform.
 * SPDX-License-Identifier: BSD-3-Clause */
#include "ops/attention_round.h"

#include <stdio.h>  /* snprintf */
#include <string.h> /* strlen */

#include "base/nearest.h"
#include "base/status.h"
#include "format/bits.h"
#include "format/element.h"
#include "format/lanes.h"

enum { CHUNK = 64 };

static const ht_attention_rounding roundings[] = {
    {.name = "f32"},
    {.name = "bf16", .dtype = HT_BF16},
    {.name = "fp8", .dtype = HT_F8_E4M3},
    {.name = "fp8-hadamard", .dtype = HT_F8_E4M3, .hadamard_qk = 1, .hadamard_v = 1},
    {.name = "fp8-hadamard-v", .dtype = HT_F8_E4M3, .hadamard_v = 1},
};
enum { ROUNDINGS = sizeof roundings / sizeof *roundings };

ht_status ht_attention_rounding_find(const char *name, const ht_attention_rounding **out) {
    char names[96] = "auto";
    *out = &roundings[0];
    if (ht_word_equal(name, "auto"))
        return HT_OK;
    for (size_t i = 0; i < ROUNDINGS; i++) {
        size_t used = strlen(names);
        *out = &roundings[i];
        if (ht_word_equal(name, roundings[i].name))
            return HT_OK;
        snprintf(names + used, sizeof names - used, ", %s", roundings[i].name);
    }
    return ht_fail(HT_ERR_ARGUMENT, "attention \"%.32s\" is unknown; allowed: %s", name, names);
}

const ht_attention_rounding *ht_attention_rounding_of(ht_attention_precision precision) {
    const char *name = ht_attention_precision_name(precision);
    for (size_t i = 1; i < ROUNDINGS; i++)
        if (name && strcmp(name, roundings[i].name) == 0)
            return &roundings[i];
    return &roundings[0];
}

ht_status ht_attention_rounder_init(const ht_attention_rounding *how, size_t head_dim, size_t value_dim,
                                    ht_attention_rounder *out) {
    out->how = how;
    if (how->hadamard_qk)
        HT_TRY(ht_hadamard_init(&out->qk, head_dim));
    return how->hadamard_v ? ht_hadamard_init(&out->v, value_dim) : HT_OK;
}

/* --- Rounding --------------------------------------------------------------------------------------------------- */

/* Largest magnitude, as bits. */
static uint32_t amax_of(const ht_attention_head *head) {
    uint32_t most = 0;
    for (size_t i = 0; i < head->rows; i++) {
        uint32_t amax = ht_lanes_amax(head->x + i * head->stride, head->heads * head->dim);
        most = amax > most ? amax : most;
    }
    return most;
}

static void round_values(ht_dtype dtype, float scale, float *x, size_t n) {
    uint8_t codes[CHUNK];
    for (size_t i = 0; i < n; i++)
        x[i] /= scale;
    ht_lanes_encode(dtype, x, n, codes);
    ht_lanes_decode(dtype, codes, n, x);
    for (size_t i = 0; i < n; i++)
        x[i] *= scale;
}

static void round_scaled(ht_dtype dtype, const ht_attention_head *head) {
    uint32_t amax = amax_of(head);
    float largest = ht_f32_from_bits(ht_element_find(dtype)->max_bits), scale = ht_f32_from_bits(amax) / largest;
    if (amax >= 0x7f800000u)
        scale = ht_f32_from_bits(0x7fc00000u);
    else if (scale == 0)
        scale = 1;
    for (size_t i = 0; i < head->rows; i++)
        for (size_t at = 0, n, width = head->heads * head->dim; at < width; at += n) {
            n = width - at < CHUNK ? width - at : CHUNK;
            round_values(dtype, scale, head->x + i * head->stride + at, n);
        }
}

static void round_plain(ht_dtype dtype, const ht_attention_head *head) {
    for (size_t i = 0; i < head->rows; i++)
        for (size_t at = 0; at < head->heads * head->dim; at++)
            head->x[i * head->stride + at] = ht_round_to(dtype, head->x[i * head->stride + at]);
}

static void transform_rows(const ht_hadamard *transform, const ht_attention_head *head, int transposed) {
    for (size_t i = 0; i < head->rows; i++)
        ht_hadamard_apply(transform, head->x + i * head->stride, head->heads, transposed);
}

void ht_attention_round(const ht_attention_rounder *rounder, const ht_hadamard *transform,
                        const ht_attention_head *head) {
    ht_dtype dtype = rounder->how->dtype;
    if (transform)
        transform_rows(transform, head, 0);
    if (dtype != HT_DTYPE_NONE)
        (ht_dtype_bits(dtype) > 8 ? round_plain : round_scaled)(dtype, head);
}

void ht_attention_restore(const ht_attention_rounder *rounder, const ht_attention_head *head) {
    if (rounder->how->hadamard_v)
        transform_rows(&rounder->v, head, 1);
}
