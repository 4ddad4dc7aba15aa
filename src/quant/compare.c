/* Two checkpoints, parameter by parameter, as numbers.
 *
 * Both sides are decoded to f32, transforms of inputs undone, in pieces of rows, in parallel; each piece leaves its own
 * sums (f64) and the sums are added in order. What exists on one side only, has another shape or is no number gets a
 * note instead.
 * SPDX-License-Identifier: BSD-3-Clause */
#include <halftone/quant.h>

#include <math.h>   /* log10, fabs */
#include <string.h> /* strcmp, memcmp */

#include "base/memory.h"
#include "base/pool.h"
#include "base/status.h"
#include "quant/decode.h"

struct ht_comparison {
    ht_context *ctx;
    ht_arena arena;
    ht_tensor_difference *row;
    size_t count;
};

typedef struct piece_sum {
    double reference, error, largest;
} piece_sum;

typedef struct pair {
    ht_context *ctx;
    const ht_parameter *a, *b;
    size_t piece, pieces; /* rows of a piece, pieces of a batch entry */
    float *scratch;       /* by worker: two pieces */
    piece_sum *sum;       /* by piece */
} pair;

static ht_status compare_piece(void *arg, size_t index, size_t worker) {
    pair *p = arg;
    size_t cols = p->a->weight.cols, row = index % p->pieces * p->piece, entry = index / p->pieces;
    size_t rows = p->a->weight.rows - row < p->piece ? p->a->weight.rows - row : p->piece;
    float *x = p->scratch + 2 * worker * p->piece * cols, *y = x + p->piece * cols;
    HT_TRY(ht_read_restored_rows(p->ctx, p->a, entry, row, rows, x));
    HT_TRY(ht_read_restored_rows(p->ctx, p->b, entry, row, rows, y));
    piece_sum sum = {0};
    for (size_t i = 0; i < rows * cols; i++) {
        double a = (double)x[i], d = a - (double)y[i];
        if (x[i] == y[i] || (isnan(x[i]) && isnan(y[i]))) /* also two infinities */
            d = 0;
        sum.reference += a * a;
        sum.error += d * d;
        if (fabs(d) > sum.largest || isnan(d))
            sum.largest = fabs(d);
    }
    p->sum[index] = sum;
    return HT_OK;
}

static ht_status measure(ht_context *ctx, const ht_parameter *a, const ht_parameter *b, ht_tensor_difference *row) {
    pair p = {.ctx = ctx, .a = a, .b = b, .piece = ht_decode_piece(a, b)};
    p.pieces = (a->weight.rows + p.piece - 1) / p.piece;
    size_t count = p.pieces * a->weight.batch, values = p.piece * a->weight.cols;
    HT_TRY(ht_allocate(ctx, count, sizeof *p.sum, "sums by piece", &p.sum));
    ht_status status =
        ht_allocate_raw(ctx, 2 * ht_context_threads(ctx) * values, sizeof(float), "decoded rows", &p.scratch);
    if (status == HT_OK)
        status = ht_parallel_for(ctx, count, compare_piece, &p);
    piece_sum all = {0};
    for (size_t i = 0; i < count; i++) {
        all.reference += p.sum[i].reference;
        all.error += p.sum[i].error;
        if (p.sum[i].largest > all.largest || isnan(p.sum[i].largest))
            all.largest = p.sum[i].largest;
    }
    row->sqnr_db = all.error == 0 ? (double)INFINITY : 10 * log10(all.reference / all.error);
    row->max_abs = all.largest;
    ht_release(ctx, p.scratch);
    ht_release(ctx, p.sum);
    return status;
}

/* Integers and the like: equal bytes or not. */
static void compare_bytes(const ht_checkpoint *x, const ht_parameter *a, const ht_checkpoint *y, const ht_parameter *b,
                          ht_tensor_difference *row) {
    const ht_stored_tensor *s = ht_checkpoint_tensor(x, a->stored[0]), *t = ht_checkpoint_tensor(y, b->stored[0]);
    int equal = s->dtype == t->dtype && s->bytes == t->bytes && (!s->bytes || memcmp(s->data, t->data, s->bytes) == 0);
    row->sqnr_db = equal ? (double)INFINITY : (double)NAN;
    row->max_abs = equal ? 0 : (double)NAN;
    row->note = equal ? "" : "not numbers, and their bytes differ";
}

static ht_status compare_both(ht_context *ctx, const ht_checkpoint *x, const ht_parameter *a, const ht_checkpoint *y,
                              const ht_parameter *b, ht_tensor_difference *row) {
    if (!ht_same_matrix(a, b)) {
        row->note = "shapes differ";
        return HT_OK;
    }
    if (!ht_decodable(a) || !ht_decodable(b)) {
        compare_bytes(x, a, y, b, row);
        return HT_OK;
    }
    return measure(ctx, a, b, row);
}

/* Merge the two sorted lists. */
static ht_status compare_all(ht_comparison *comparison, const ht_checkpoint *x, const ht_checkpoint *y) {
    size_t n = ht_checkpoint_parameter_count(x), m = ht_checkpoint_parameter_count(y);
    comparison->row = ht_arena_alloc(&comparison->arena, (n + m) * sizeof *comparison->row + 1);
    if (!comparison->row)
        return HT_ERR_MEMORY;
    for (size_t i = 0, j = 0; i < n || j < m;) {
        HT_TRY(ht_context_check_cancelled(comparison->ctx));
        const ht_parameter *a = ht_checkpoint_parameter(x, i), *b = ht_checkpoint_parameter(y, j);
        int order = !a ? 1 : !b ? -1 : strcmp(a->name, b->name);
        const char *name = order <= 0 ? a->name : b->name;
        ht_tensor_difference *row = &comparison->row[comparison->count++];
        *row = (ht_tensor_difference){.name = ht_arena_string(&comparison->arena, name, strlen(name)),
                                      .sqnr_db = (double)NAN,
                                      .max_abs = (double)NAN,
                                      .note = order < 0   ? "only in A"
                                              : order > 0 ? "only in B"
                                                          : ""};
        if (!row->name)
            return HT_ERR_MEMORY;
        if (order == 0) {
            HT_TRY(compare_both(comparison->ctx, x, a, y, b, row));
            ht_parameter_done_with(x, a);
            ht_parameter_done_with(y, b);
        }
        i += order <= 0;
        j += order >= 0;
    }
    return HT_OK;
}

ht_status ht_compare(ht_context *ctx, const char *a, const char *b, ht_comparison **out) {
    *out = NULL;
    ht_checkpoint *x = NULL, *y = NULL;
    ht_comparison *comparison = NULL;
    ht_status status = ht_checkpoint_open(ctx, a, &x);
    if (status == HT_OK)
        status = ht_checkpoint_open(ctx, b, &y);
    if (status == HT_OK)
        status = ht_allocate(ctx, 1, sizeof *comparison, "comparison", &comparison);
    if (status == HT_OK) {
        comparison->ctx = ctx;
        ht_arena_init(&comparison->arena, ctx);
        status = compare_all(comparison, x, y);
    }
    ht_checkpoint_close(x);
    ht_checkpoint_close(y);
    if (status == HT_OK)
        *out = comparison;
    else
        ht_comparison_destroy(comparison);
    return status;
}

const ht_tensor_difference *ht_comparison_at(const ht_comparison *comparison, size_t index) {
    return index < comparison->count ? &comparison->row[index] : NULL;
}

void ht_comparison_destroy(ht_comparison *comparison) {
    if (!comparison)
        return;
    ht_context *ctx = comparison->ctx;
    ht_arena_release(&comparison->arena);
    ht_release(ctx, comparison);
}
