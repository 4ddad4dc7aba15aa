/* Rounds of coordinate descent after GPTQ's walk: every code chosen anew with all others fixed.
 *
 *     t = q + (e H')_k / H'_kk,      q = the code's value, e = w - q       (the best value for column k if alone it
 * moved)
 *
 * e H' of all columns comes from the walk: with e F = t - q =: r of the walk, e H' = (r D) F^T, half a product. From
 * then on a change of a code changes it by a row of H'. Inside a block of columns that is done at once (gptq_lanes.h);
 * everywhere else after the block, and only for the codes that did change, which are few:
 *
 *     block:   strips of rows walk through it          -> per row: which columns changed, and by how much
 *     after:   tiles of columns, all rows of G += changes * rows of H'            (the rows of H' stay in the cache)
 *
 * Every step lowers the loss or does nothing. Same bits for any threads and instruction set: sums have one order.
 * Source: Behdin et al. 2023, arXiv:2309.01885 (QuantEase), in blocks.
 * SPDX-License-Identifier: BSD-3-Clause */
#include <math.h>   /* fabsf */
#include <string.h> /* memcpy */

#include "base/context.h"
#include "base/memory.h"
#include "base/pool.h"
#include "base/status.h"
#include "kernels/kernels.h"
#include "quant/gptq/gptq_state.h"

/* Columns of a block, of a tile; rows of a task, of a square. */
enum { SPAN = 32 * HT_LANE_PANEL, TILE = 256, ROWS = 64, EDGE = 64 };

typedef struct sweep {
    ht_gptq_state *s;
    ht_sparse_fn *add;
    size_t first, end; /* the block */
    size_t from;       /* columns that a change is told to */
    float *damped;     /* H' by position, whole: takes the place of the factor */
    float *panel;      /* of the block */
    float *value;      /* [rows, SPAN] changes */
    uint16_t *index;   /* [rows, SPAN] their columns in the block */
    size_t *count;     /* [rows] */
    float *room;       /* [threads, each] */
    size_t each;
} sweep;

/* --- e H' ------------------------------------------------------------------------------------------------------ */

/* Rows of F, from the block's first column on, side by side: 1 on the diagonal. */
static ht_status pack_rows(void *arg, size_t p, size_t worker) {
    const sweep *w = arg;
    size_t cols = w->s->walk->grid->cols, depth = cols - w->first, row = w->first + p * HT_LANE_PANEL;
    float *to = w->panel + p * depth * HT_LANE_PANEL;
    (void)worker;
    for (size_t i = 0; i < HT_LANE_PANEL; i++, row++) {
        const float *feed = w->s->walk->factor->feed + row * cols;
        for (size_t k = 0; k < depth; k++) {
            size_t column = w->first + k;
            to[k * HT_LANE_PANEL + i] = row >= w->end || column < row ? 0 : column == row ? 1 : feed[column];
        }
    }
    return HT_OK;
}

/* (r D) F^T of the block's columns, in the place of r D, which no later block needs. */
static ht_status pull_strip(void *arg, size_t strip, size_t worker) {
    const sweep *w = arg;
    const ht_gptq_state *s = w->s;
    size_t depth = s->walk->grid->cols - w->first, length = w->end - w->first;
    float *pull = s->pull + strip * ht_gptq_strip_values(s) + w->first * HT_LANES;
    float *sum = w->room + worker * w->each;
    const ht_lane_group group = {
        .tile = s->tile, .panel = w->panel, .step = depth * HT_LANE_PANEL, .depth = depth, .count = length};
    memset(sum, 0, ht_panels(length) * HT_LANE_PANEL * HT_LANES * sizeof *sum);
    ht_lane_feed(&group, pull, sum);
    memcpy(pull, sum, length * HT_LANES * sizeof *pull);
    return HT_OK;
}

/* From [cols, lanes] to [lanes, cols]. */
static ht_status turn_strip(void *arg, size_t strip, size_t worker) {
    const sweep *w = arg;
    size_t cols = w->s->walk->grid->cols;
    float *at = w->s->pull + strip * cols * HT_LANES, *room = w->room + worker * w->each;
    memcpy(room, at, cols * HT_LANES * sizeof *at);
    for (size_t c = 0; c < cols; c += 16)
        for (size_t r = 0; r < HT_LANES; r++)
            for (size_t i = c; i < ht_gptq_least(c + 16, cols); i++)
                at[r * cols + i] = room[i * HT_LANES + r];
    return HT_OK;
}

static ht_status find_pull(sweep *w) {
    const ht_gptq_state *s = w->s;
    size_t cols = s->walk->grid->cols;
    for (w->first = 0; w->first < cols; w->first = w->end) {
        w->end = ht_gptq_least(w->first + SPAN, cols);
        HT_TRY(ht_parallel_for(s->walk->ctx, ht_panels(w->end - w->first), pack_rows, w));
        HT_TRY(ht_parallel_for(s->walk->ctx, s->strips, pull_strip, w));
    }
    return ht_parallel_for(s->walk->ctx, s->strips, turn_strip, w);
}

/* --- H' ---------------------------------------------------------------------------------------------------------- */

/* The damped matrix that the factor was of, by position: the upper triangle of some rows. */
static ht_status damped_row(void *arg, size_t index, size_t worker) {
    const sweep *w = arg;
    const ht_gptq_walk *walk = w->s->walk;
    size_t cols = walk->grid->cols, from = walk->order[index];
    float *row = w->damped + index * cols;
    (void)worker;
    for (size_t j = index + 1; j < cols; j++) {
        size_t to = walk->order[j], low = from < to ? from : to, high = from < to ? to : from;
        row[j] = (float)((double)walk->second[low * cols + high] * (1 - walk->shrink));
    }
    double h = (double)walk->second[from * cols + from];
    row[index] = (float)((h > 0 ? h : walk->factor->mean) + walk->factor->damping * walk->factor->mean);
    return HT_OK;
}

/* The lower triangle from the upper, a square of EDGE rows at a time. */
static ht_status mirror_rows(void *arg, size_t task, size_t worker) {
    const sweep *w = arg;
    size_t cols = w->s->walk->grid->cols, begin = task * EDGE, end = ht_gptq_least(begin + EDGE, cols);
    (void)worker;
    for (size_t first = 0; first < end; first += EDGE)
        for (size_t i = begin; i < end; i++)
            for (size_t j = first; j < ht_gptq_least(first + EDGE, i); j++)
                w->damped[i * cols + j] = w->damped[j * cols + i];
    return HT_OK;
}

static ht_status find_damped(sweep *w) {
    const ht_gptq_walk *walk = w->s->walk;
    size_t cols = walk->grid->cols;
    HT_TRY(ht_parallel_for(walk->ctx, cols, damped_row, w));
    return ht_parallel_for(walk->ctx, (cols + EDGE - 1) / EDGE, mirror_rows, w);
}

/* --- A block ----------------------------------------------------------------------------------------------------- */

/* H' of the block: for each of its rows, a panel's columns. */
static ht_status pack_block(void *arg, size_t p, size_t worker) {
    const sweep *w = arg;
    size_t cols = w->s->walk->grid->cols, length = w->end - w->first, column = w->first + p * HT_LANE_PANEL;
    float *to = w->panel + p * length * HT_LANE_PANEL;
    (void)worker;
    for (size_t k = 0; k < length; k++, to += HT_LANE_PANEL) {
        size_t count = ht_gptq_least(HT_LANE_PANEL, w->end - column);
        memset(to, 0, HT_LANE_PANEL * sizeof *to);
        memcpy(to, w->damped + (w->first + k) * cols + column, count * sizeof *to);
    }
    return HT_OK;
}

/* One column of a strip: e and code where a better one is found; what changed, and by how much the loss. */
static void choose_again(const ht_grid *grid, const ht_grid_lanes *lanes, const float *restrict weight,
                         const float *restrict g, float h, const uint8_t *pruned, float *restrict e,
                         uint8_t *restrict code, float *restrict change, float *restrict loss) {
    float t[HT_LANES], value[HT_LANES], now[HT_LANES];
    uint8_t other[HT_LANES];
    int32_t better[HT_LANES];
    for (size_t i = 0; i < HT_LANES; i++) {
        now[i] = weight[i] - e[i];
        t[i] = now[i] + g[i] / h;
    }
    ht_grid_round_lanes(grid, lanes, t, value, other);
    /* Only what lowers the loss, so that ties and rounding errors do not wander. */
    for (size_t i = 0; i < HT_LANES; i++)
        better[i] = (fabsf(t[i] - value[i]) < fabsf(t[i] - now[i])) & (other[i] != code[i]);
    for (size_t i = 0; pruned && i < HT_LANES; i++)
        better[i] &= !pruned[i];
    for (size_t i = 0; i < HT_LANES; i++) {
        float error = better[i] ? weight[i] - value[i] : e[i];
        change[i] = error - e[i];
        loss[i] += change[i] * (2 * g[i] + change[i] * h);
        e[i] = error;
    }
    for (size_t i = 0; i < HT_LANES; i++)
        code[i] = better[i] ? other[i] : code[i];
}

static void list_changes(const sweep *w, size_t strip, const float *change) {
    size_t length = w->end - w->first, rows = ht_gptq_rows(w->s, strip), first = strip * HT_LANES;
    memset(w->count + first, 0, rows * sizeof *w->count);
    for (size_t begin = 0, end; begin < length; begin = end) {
        end = ht_gptq_least(begin + HT_GPTQ_TURN, length);
        for (size_t r = 0; r < rows; r++) {
            size_t count = w->count[first + r];
            float *value = w->value + (first + r) * SPAN;
            uint16_t *index = w->index + (first + r) * SPAN;
            for (size_t i = begin; i < end; i++) {
                value[count] = change[i * HT_LANES + r];
                index[count] = (uint16_t)i;
                count += change[i * HT_LANES + r] != 0;
            }
            w->count[first + r] = count;
        }
    }
}

/* e H' of the block, from rows to columns. */
static void gather_pull(const sweep *w, size_t strip, float *g) {
    size_t cols = w->s->walk->grid->cols, length = w->end - w->first;
    for (size_t begin = 0, end; begin < length; begin = end) {
        end = ht_gptq_least(begin + HT_GPTQ_TURN, length);
        for (size_t r = 0; r < HT_LANES; r++) {
            const float *row = w->s->pull + (strip * HT_LANES + r) * cols + w->first;
            for (size_t i = begin; i < end; i++)
                g[i * HT_LANES + r] = row[i];
        }
    }
}

static ht_status sweep_strip(void *arg, size_t strip, size_t worker) {
    const sweep *w = arg;
    const ht_gptq_state *s = w->s;
    const ht_gptq_walk *walk = s->walk;
    ht_lane_cells *cells = &s->scratch[worker].cells;
    size_t length = w->end - w->first, values = ht_gptq_strip_values(s);
    float *g = w->room + worker * w->each, *weight = g + (SPAN + HT_LANE_PANEL) * HT_LANES;
    float *change = weight + SPAN * HT_LANES, *error = s->error + strip * values + w->first * HT_LANES;
    float loss[HT_LANES] = {0};
    uint8_t *code = s->code + strip * values;
    const uint8_t *pruned = s->pruned ? s->pruned + strip * values : NULL;
    ht_gptq_gather(s, strip, w->first, length, weight);
    gather_pull(w, strip, g);
    ht_lane_cells_begin(cells, walk->grid, ht_gptq_cells(s, strip * HT_LANES, 0), s->cells, ht_gptq_rows(s, strip), 0);
    for (size_t first = 0; first < length; first += HT_LANE_PANEL) {
        const float *panel = w->panel + first * length;
        size_t end = ht_gptq_least(first + HT_LANE_PANEL, length);
        for (size_t k = 0; k < first; k += HT_DENSE_DEPTH)
            s->tile(panel + k * HT_LANE_PANEL, change + k * HT_LANES, ht_gptq_least(first - k, HT_DENSE_DEPTH),
                    g + first * HT_LANES, HT_LANES);
        for (size_t i = first; i < end; i++) {
            size_t column = walk->order[w->first + i];
            float *moved = change + i * HT_LANES;
            choose_again(walk->grid, ht_lane_cells_of(cells, column), weight + i * HT_LANES, g + i * HT_LANES,
                         panel[i * HT_LANE_PANEL + i - first], pruned ? pruned + column * HT_LANES : NULL,
                         error + i * HT_LANES, code + column * HT_LANES, moved, loss);
            s->spread(moved, panel + i * HT_LANE_PANEL + i + 1 - first, end - i - 1, g + (i + 1) * HT_LANES);
        }
    }
    for (size_t l = 0; l < HT_LANES; l++)
        s->loss[strip * HT_LANES + l] += (double)loss[l];
    list_changes(w, strip, change);
    return HT_OK;
}

/* Rows of a task, a tile of columns. */
static ht_status tell_tile(void *arg, size_t task, size_t worker) {
    const sweep *w = arg;
    size_t cols = w->s->walk->grid->cols, rows = w->s->walk->grid->rows, tasks = (rows + ROWS - 1) / ROWS;
    size_t column = w->from + task / tasks * TILE, begin = task % tasks * ROWS,
           width = ht_gptq_least(TILE, cols - column);
    (void)worker;
    for (size_t r = begin; r < ht_gptq_least(begin + ROWS, rows); r++)
        w->add(w->value + r * SPAN, w->index + r * SPAN, w->count[r], w->damped + w->first * cols + column, cols,
               w->s->pull + r * cols + column, width);
    return HT_OK;
}

static ht_status sweep_once(sweep *w, int last) {
    const ht_gptq_state *s = w->s;
    ht_context *ctx = s->walk->ctx;
    size_t cols = s->walk->grid->cols, rows = s->walk->grid->rows;
    for (w->first = 0; w->first < cols; w->first = w->end) {
        HT_TRY(ht_context_check_cancelled(ctx));
        w->end = ht_gptq_least(w->first + SPAN, cols);
        w->from = last ? w->end : 0;
        HT_TRY(ht_parallel_for(ctx, ht_panels(w->end - w->first), pack_block, w));
        HT_TRY(ht_parallel_for(ctx, s->strips, sweep_strip, w));
        HT_TRY(ht_parallel_for(ctx, (cols - w->from + TILE - 1) / TILE * ((rows + ROWS - 1) / ROWS), tell_tile, w));
    }
    return HT_OK;
}

static size_t block_values(size_t cols) {
    return (cols < SPAN ? ht_panels(cols) * HT_LANE_PANEL : SPAN) * cols;
}

static size_t room_values(size_t cols) {
    return (cols > 3 * SPAN + HT_LANE_PANEL ? cols : 3 * SPAN + HT_LANE_PANEL) * HT_LANES;
}

size_t ht_gptq_sweep_bytes(size_t rows, size_t cols, size_t threads) {
    const sweep *w = NULL;
    return block_values(cols) * sizeof *w->panel + rows * SPAN * (sizeof *w->value + sizeof *w->index) +
           rows * sizeof *w->count + threads * room_values(cols) * sizeof *w->room;
}

static ht_status open_sweep(sweep *w) {
    const ht_gptq_walk *walk = w->s->walk;
    size_t rows = walk->grid->rows, cols = walk->grid->cols, threads = ht_context_threads(walk->ctx);
    w->each = room_values(cols);
    HT_TRY(ht_allocate_raw(walk->ctx, block_values(cols), sizeof *w->panel, "panels of a Hessian", &w->panel));
    HT_TRY(ht_allocate_raw(walk->ctx, rows * SPAN, sizeof *w->value, "changes of codes", &w->value));
    HT_TRY(ht_allocate_raw(walk->ctx, rows * SPAN, sizeof *w->index, "changes of codes", &w->index));
    HT_TRY(ht_allocate_raw(walk->ctx, rows, sizeof *w->count, "changes of codes", &w->count));
    return ht_allocate_raw(walk->ctx, threads * w->each, sizeof *w->room, "strips of a matrix", &w->room);
}

ht_status ht_gptq_sweep(ht_gptq_state *s) {
    ht_context *ctx = s->walk->ctx;
    sweep w = {.s = s, .damped = s->walk->factor->feed};
    w.add = ht_kernel_choose(HT_OPERATION_SPARSE, ht_cpu_flags(ctx), NULL, 1)->fn.sparse;
    ht_status status = open_sweep(&w);
    if (status == HT_OK)
        status = find_pull(&w);
    if (status == HT_OK)
        status = find_damped(&w);
    int coupled = s->walk->outputs && s->walk->fisher > 0;
    if (coupled && status == HT_OK)
        status = ht_gptq_sweep_coupled(s, w.damped);
    for (size_t i = 0; !coupled && i < s->walk->sweeps && status == HT_OK; i++)
        status = sweep_once(&w, i + 1 == s->walk->sweeps);
    ht_release(ctx, w.panel);
    ht_release(ctx, w.value);
    ht_release(ctx, w.index);
    ht_release(ctx, w.count);
    ht_release(ctx, w.room);
    return status;
}
