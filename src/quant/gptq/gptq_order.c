/* The order in which GPTQ takes columns: those that matter most first, while all others can still make up for them.
 * Source: algorithms specification, section 1.5 (desc_act, static groups, GAR: arXiv 2505.14638).
 * SPDX-License-Identifier: BSD-3-Clause */
#include "quant/gptq/gptq.h"

#include <stdlib.h> /* qsort */

#include "base/memory.h"
#include "base/status.h"

typedef struct key {
    float group, value; /* of the unit and of the column */
    uint32_t unit, column;
} key;

/* Decreasing; equal ones as they stand. */
static int compare(const void *left, const void *right) {
    const key *a = left, *b = right;
    if (a->group != b->group)
        return a->group > b->group ? -1 : 1;
    if (a->unit != b->unit)
        return a->unit < b->unit ? -1 : 1;
    if (a->value != b->value)
        return a->value > b->value ? -1 : 1;
    return a->column < b->column ? -1 : a->column > b->column;
}

ht_status ht_gptq_order(ht_context *ctx, int order, const float *second, size_t cols, size_t unit, uint32_t *out) {
    key *keys;
    for (size_t c = 0; c < cols; c++)
        out[c] = (uint32_t)c;
    if (order == HT_ORDER_NONE)
        return HT_OK;
    if (order != HT_ORDER_GAR)
        unit = cols;
    HT_TRY(ht_allocate(ctx, cols, sizeof *keys, "order of columns", &keys));
    for (size_t first = 0; first < cols; first += unit) {
        size_t end = first + unit < cols ? first + unit : cols;
        float most = 0;
        for (size_t c = first; c < end; c++)
            most = second[c * cols + c] > most ? second[c * cols + c] : most;
        if (end - first < unit) /* a tail stays last */
            most = -1;
        for (size_t c = first; c < end; c++)
            keys[c] = (key){most, second[c * cols + c], (uint32_t)(first / unit), (uint32_t)c};
    }
    qsort(keys, cols, sizeof *keys, compare);
    for (size_t c = 0; c < cols; c++)
        out[c] = keys[c].column;
    ht_release(ctx, keys);
    return HT_OK;
}
