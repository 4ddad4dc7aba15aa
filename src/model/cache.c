/* The quantized cache: one record a row, one layer of f32 rows at a time.
 *
 *     records [keys, values][layers][kv_heads][capacity]      record: scale, zero point (f32 each), codes
 *
 * A pass quantizes its new rows and reads the layer's rows back as f32, the new ones too: a token sees the same keys
 * and values whether it came with the others or alone. Keys are stored after rotation. Every row has a scale of its
 * own, so that rows are independent of each other and of how passes split a text.
 *
 *     fp8   e4m3, amax / 448            int8  symmetric, amax / 127.5            int4  a zero point, (max - min) / 15
 *
 * Refuses: names that are not in the table, head sizes that the format cannot hold. Source: algorithms specification,
 * section 1.6 (scales of caches); formats specification, sections 6.2 and 6.6.
 * SPDX-License-Identifier: BSD-3-Clause */
#include "model/cache.h"

#include <string.h> /* memcpy */

#include "base/nearest.h"
#include "base/pool.h"
#include "base/status.h"

enum { HEAD = 2 * sizeof(float) };

static const struct {
    const char *name, *format;
} table[] = {{"f32", NULL}, {"fp8", "fp8_row"}, {"int8", "int8_row"}, {"int4", "int4_row_asym"}};

ht_status ht_model_set_cache(ht_model *model, const char *name) {
    for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
        if (!ht_word_equal(table[i].name, name))
            continue;
        ht_format format = {.family = HT_FAMILY_PLAIN};
        if (table[i].format) {
            HT_TRY(ht_format_parse(table[i].format, &format));
            HT_TRY(ht_format_check_shape(&format, 1, model->config.head_dim));
        }
        model->cache = format;
        model->cache_quantized = table[i].format != NULL;
        return HT_OK;
    }
    return ht_fail(HT_ERR_ARGUMENT, "key-value cache \"%.32s\" is unknown; allowed: f32, fp8, int8, int4", name);
}

size_t ht_cache_record(const ht_format *format, size_t head_dim) {
    size_t bytes = HEAD + ht_format_plane_bytes(format, HT_PLANE_CODES, 1, head_dim);
    return (bytes + sizeof(float) - 1) / sizeof(float) * sizeof(float);
}

static size_t row_of(const ht_sequence *s, size_t slot, size_t head) {
    return (slot * s->model->config.kv_heads + head) * s->capacity;
}

float *ht_cache_rows(const ht_sequence *s, int which, size_t slot, size_t head) {
    return (which ? s->v : s->k) + row_of(s, s->record ? 0 : slot, head) * s->model->config.head_dim;
}

typedef struct turning {
    ht_sequence *sequence;
    size_t slot, first, end;
} turning;

/* One head's keys or values. */
static ht_status turn_head(void *arg, size_t task, size_t worker) {
    const turning *t = arg;
    ht_sequence *s = t->sequence;
    size_t d = s->model->config.head_dim, head = task / 2;
    int which = (int)(task % 2);
    (void)worker;
    float *rows = ht_cache_rows(s, which, t->slot, head);
    uint8_t *record = s->records[which] + row_of(s, t->slot, head) * s->record;
    for (size_t i = 0; i < t->end; i++, rows += d, record += s->record) {
        ht_planes planes = {{record + HEAD, record, record + sizeof(float), NULL, NULL}};
        if (i >= t->first)
            HT_TRY(ht_format_quantize(&s->format, NULL, rows, HT_F32, 1, d, &planes));
        HT_TRY(ht_format_dequantize(&s->format, &planes, 1, d, rows));
    }
    return HT_OK;
}

ht_status ht_cache_turn(ht_sequence *sequence, size_t slot, size_t first, size_t count) {
    turning t = {.sequence = sequence, .slot = slot, .first = first, .end = first + count};
    if (!sequence->record)
        return HT_OK;
    return ht_parallel_for(sequence->model->ctx, 2 * sequence->model->config.kv_heads, turn_head, &t);
}

/* --- What attention reads ----------------------------------------------------------------------------------------- */

float *ht_cache_shown(const ht_sequence *s, int which, size_t slot, size_t head) {
    size_t d = s->model->config.head_dim;
    return s->rounder ? s->rounded[which] + head * s->capacity * d : ht_cache_rows(s, which, slot, head);
}

typedef struct rounding {
    const ht_sequence *sequence;
    size_t slot, keys;
    float *q;
    size_t rows, stride;
} rounding;

/* A key-value head and the queries that read it. */
static ht_status round_head(void *arg, size_t head, size_t worker) {
    const rounding *r = arg;
    const ht_sequence *s = r->sequence;
    const ht_decoder_config *c = &s->model->config;
    size_t d = c->head_dim, group = c->heads / c->kv_heads;
    (void)worker;
    ht_attention_head q = {r->q + head * group * d, r->rows, r->stride, group, d};
    ht_attention_head k = {ht_cache_shown(s, 0, r->slot, head), r->keys, d, 1, d};
    ht_attention_head v = {ht_cache_shown(s, 1, r->slot, head), r->keys, d, 1, d};
    memcpy(k.x, ht_cache_rows(s, 0, r->slot, head), r->keys * d * sizeof *k.x);
    memcpy(v.x, ht_cache_rows(s, 1, r->slot, head), r->keys * d * sizeof *v.x);
    ht_attention_round_qk(s->rounder, &q);
    ht_attention_round_qk(s->rounder, &k);
    ht_attention_round_v(s->rounder, &v);
    return HT_OK;
}

ht_status ht_cache_round(ht_sequence *sequence, size_t slot, size_t keys, float *q, size_t rows, size_t stride) {
    rounding r = {sequence, slot, keys, q, rows, stride};
    if (!sequence->rounder)
        return HT_OK;
    return ht_parallel_for(sequence->model->ctx, sequence->model->config.kv_heads, round_head, &r);
}
