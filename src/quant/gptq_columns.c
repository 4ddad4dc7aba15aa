/* GPTQ's walk over the columns: round one, let the ones after it make up for the error.
 *
 *     t_k = w_k + sum over j < k of e_j F_jk,    q_k = rounded t_k,    e_k = w_k - q_k        (gptq.h)
 *
 *     positions   | finished: e known        | block: t in scratch | later: not touched yet
 *     t of block  =  w + e(finished) F       one dense product, then column by column inside the block
 *
 * Rows are independent: they are shared out over threads, and each walks its block alone. Inside a block the sums are
 * plain f32 in the order of columns, so the result does not depend on threads. Where units of scales stay together in
 * the order, a block holds whole units and scales can be chosen from t when a unit is reached (at_group, searched);
 * otherwise all scales are fixed before: those of the rounding to nearest, or searched on the weights.
 * With a sparsity, columns become zero where that costs least, pivot_k t_k^2; they count as rounded to 0, so that what
 * follows makes up for them, too. Chosen for a run of columns when it is reached: neighbours of the pattern, a unit, a
 * block; or from the weights for the whole row, where the order tears neighbours apart.
 * Source: Frantar et al. 2022, arXiv:2210.17323, with the errors kept instead of the weights (left-looking); Frantar
 * and Alistarh 2023, arXiv:2301.00774 (SparseGPT).
 * SPDX-License-Identifier: BSD-3-Clause */
#include <math.h>   /* INFINITY */
#include <string.h> /* memcpy */

#include "base/memory.h"
#include "base/pool.h"
#include "base/status.h"
#include "ops/dense.h"
#include "quant/gptq.h"

enum { STRIP = 8, LEAST_RUN = 64, MOST_RUN = 8192 }; /* rows of a task; columns of which a share becomes zero */

typedef struct state {
    ht_gptq_walk *walk;
    size_t units, cells; /* of a row */
    ht_grid_cell *cell;  /* [rows, units * cells of a unit] */
    uint8_t *code;       /* [rows, cols] */
    uint8_t *pruned;     /* [rows, cols] columns that become zero; NULL: none do */
    size_t run;          /* positions for which that is chosen together; 0: before the walk */
    float *target;       /* [rows, block] */
    size_t block, first, end;
    int at_entry;         /* scales are chosen when their unit is reached */
    float *damped, *pull; /* of the sweeps: H' by position; e H' [rows, cols] */
    double mean;          /* of the diagonal of H */
} state;

static ht_grid_cell *cells_of(const state *s, size_t row, size_t unit) {
    return s->cell + row * s->cells + unit * s->walk->grid->family->cells;
}

static size_t strip_end(const ht_grid *grid, size_t index) {
    return (index + 1) * STRIP < grid->rows ? (index + 1) * STRIP : grid->rows;
}

/* --- Zeros ---------------------------------------------------------------------------------------------------- */

static int is_pruned(const state *s, size_t row, size_t column) {
    return s->pruned && s->pruned[row * s->walk->grid->cols + column];
}

/* The first of n columns that stand side by side in the file, whole groups of the pattern; SIZE_MAX: they do not. */
static size_t first_of_neighbours(const ht_gptq_walk *walk, size_t position, size_t n) {
    size_t low = SIZE_MAX, high = 0, group = walk->sparsity.group;
    for (size_t i = position; i < position + n; i++) {
        low = walk->order[i] < low ? walk->order[i] : low;
        high = walk->order[i] > high ? walk->order[i] : high;
    }
    return high - low + 1 == n && low % group == 0 && (n % group == 0 || high + 1 == walk->grid->cols) ? low : SIZE_MAX;
}

static int holds_groups(const ht_gptq_walk *walk, size_t run) {
    for (size_t at = 0; at < walk->grid->cols; at += run)
        if (first_of_neighbours(walk, at, walk->grid->cols - at < run ? walk->grid->cols - at : run) == SIZE_MAX)
            return 0;
    return 1;
}

/* Positions for which zeros are chosen together: as few as the pattern and the choice of scales allow. */
static size_t run_length(const state *s) {
    const ht_gptq_walk *walk = s->walk;
    const size_t tries[] = {s->at_entry ? walk->grid->unit : walk->sparsity.group, walk->grid->unit, s->block};
    if (!walk->sparsity.group)
        return s->block >= LEAST_RUN && s->block <= MOST_RUN ? s->block : 0;
    for (size_t i = 0; i < sizeof tries / sizeof *tries; i++)
        if (tries[i] <= MOST_RUN && s->block % tries[i] == 0 && holds_groups(walk, tries[i]))
            return tries[i];
    return 0;
}

/* What it costs to drop what is left of a column; one that never had an input costs nothing. */
static float cost_of_zero(const ht_gptq_walk *walk, size_t position, float t) {
    return walk->diagonal[walk->order[position]] > 0 ? (float)(walk->factor->pivot[position] * (double)t * (double)t)
                                                     : 0;
}

/* Zeros among n positions, from their targets. */
static void prune_run(const state *s, size_t row, size_t position, size_t n, const float *target) {
    const ht_gptq_walk *walk = s->walk;
    float cost[MOST_RUN];
    uint8_t mark[MOST_RUN], *pruned = s->pruned + row * walk->grid->cols;
    size_t low = walk->sparsity.group ? first_of_neighbours(walk, position, n) : SIZE_MAX;
    for (size_t i = 0; i < n; i++)
        cost[low == SIZE_MAX ? i : walk->order[position + i] - low] = cost_of_zero(walk, position + i, target[i]);
    ht_prune_choose(&walk->sparsity, cost, n, mark);
    for (size_t i = 0; i < n; i++)
        pruned[walk->order[position + i]] = mark[low == SIZE_MAX ? i : walk->order[position + i] - low];
}

/* Zeros of whole rows, from the weights. */
static ht_status prune_rows(void *arg, size_t index, size_t worker) {
    const state *s = arg;
    const ht_gptq_walk *walk = s->walk;
    size_t cols = walk->grid->cols;
    float *cost;
    (void)worker;
    HT_TRY(ht_allocate_raw(walk->ctx, cols, sizeof *cost, "costs of zeros", &cost));
    for (size_t r = index * STRIP; r < strip_end(walk->grid, index); r++) {
        for (size_t i = 0; i < cols; i++)
            cost[walk->order[i]] = cost_of_zero(walk, i, walk->weight[r * cols + walk->order[i]]);
        ht_prune_choose(&walk->sparsity, cost, cols, s->pruned + r * cols);
    }
    ht_release(walk->ctx, cost);
    return HT_OK;
}

/* --- Scales ---------------------------------------------------------------------------------------------------- */

/* Scales before the walk: as rounded to nearest, or searched on the weights. */
static ht_status prepare_rows(void *arg, size_t index, size_t worker) {
    const state *s = arg;
    const ht_gptq_walk *walk = s->walk;
    const ht_grid *grid = walk->grid;
    int search = walk->scales == HT_SCALES_SEARCHED && !s->at_entry && !grid->shared && grid->unit <= HT_GRID_UNIT &&
                 grid->cols % grid->unit == 0;
    (void)worker;
    for (size_t r = index * STRIP; r < strip_end(grid, index); r++)
        for (size_t u = 0; u < s->units; u++) {
            ht_grid_cell own[HT_GRID_CELLS], *cells = cells_of(s, r, u);
            ht_grid_load(grid, walk->planes, r, u, cells);
            if (search) {
                memcpy(own, cells, grid->family->cells * sizeof *own);
                ht_grid_choose(grid, walk->weight + r * grid->cols + u * grid->unit, walk->diagonal + u * grid->unit, 1,
                               own, cells);
            }
        }
    return HT_OK;
}

/* What the columns of the unit at `position` would be if none of them were rounded: all that is left then makes up for
 * the finished columns in the best way. By column of the unit. */
static void unrounded(const state *s, size_t row, size_t position, const float *target, float *x) {
    const ht_gptq_walk *walk = s->walk;
    const ht_grid *grid = walk->grid;
    const float *weight = walk->weight + row * grid->cols;
    float t[HT_GRID_UNIT];
    memcpy(t, target, grid->unit * sizeof *t);
    for (size_t i = 0; i < grid->unit; i++) {
        const float *feed = walk->factor->feed + (position + i) * grid->cols + position;
        size_t column = walk->order[position + i];
        float value = is_pruned(s, row, column) ? 0 : t[i], e = weight[column] - value;
        for (size_t j = i + 1; j < grid->unit; j++)
            t[j] += e * feed[j];
        x[column % grid->unit] = value;
    }
}

/* What walking through the unit with these cells adds to the loss; stops above `most`. */
static double trial(const state *s, size_t row, size_t position, const float *target, const ht_grid_cell *cells,
                    double most) {
    const ht_gptq_walk *walk = s->walk;
    const ht_grid *grid = walk->grid;
    const float *weight = walk->weight + row * grid->cols;
    float t[HT_GRID_UNIT];
    double cost = 0;
    memcpy(t, target, grid->unit * sizeof *t);
    for (size_t i = 0; i < grid->unit && cost < most; i++) {
        const float *feed = walk->factor->feed + (position + i) * grid->cols + position;
        size_t column = walk->order[position + i];
        float aim = is_pruned(s, row, column) ? 0 : t[i], value;
        uint8_t code;
        ht_grid_round(grid, cells + column % grid->unit / grid->width, &aim, 1, &value, &code);
        double difference = (double)t[i] - (double)value;
        cost += walk->factor->pivot[position + i] * difference * difference;
        float e = weight[column] - value;
        for (size_t j = i + 1; j < grid->unit; j++)
            t[j] += e * feed[j];
    }
    return cost;
}

/* Scales in the neighbourhood of *cells, all cells of the unit moved by the same step: the best by trial. */
static void search_by_trial(const state *s, size_t row, size_t position, const float *target, ht_grid_cell *cells,
                            double least) {
    const ht_grid *grid = s->walk->grid;
    const ht_grid_family *family = grid->family;
    ht_grid_cell start[HT_GRID_CELLS], moved[HT_GRID_CELLS];
    memcpy(start, cells, family->cells * sizeof *start);
    for (int step = family->least; family->vary && step <= family->most; step++) {
        size_t c = 0;
        while (c < family->cells && family->vary(grid, &start[c], step, &moved[c]))
            c++;
        if (step == 0 || c < family->cells)
            continue;
        double cost = trial(s, row, position, target, moved, least);
        if (cost < least) {
            least = cost;
            memcpy(cells, moved, family->cells * sizeof *cells);
        }
    }
}

/* Scales of the unit that begins at this position. `searched` takes the better of the format's own rule and the search
 * weighted by the diagonal, and then its best neighbour, each by walking through the unit with it. */
static void choose_unit(const state *s, size_t row, size_t position, const float *target) {
    const ht_gptq_walk *walk = s->walk;
    const ht_grid *grid = walk->grid;
    float x[HT_GRID_UNIT];
    ht_grid_cell own[HT_GRID_CELLS], other[HT_GRID_CELLS];
    size_t unit = walk->order[position] / grid->unit;
    ht_grid_cell *cells = cells_of(s, row, unit);
    unrounded(s, row, position, target, x);
    memcpy(own, cells, grid->family->cells * sizeof *own);
    ht_grid_choose(grid, x, NULL, 0, own, cells);
    if (walk->scales != HT_SCALES_SEARCHED)
        return;
    ht_grid_choose(grid, x, walk->diagonal + unit * grid->unit, 1, own, other);
    double least = trial(s, row, position, target, cells, (double)INFINITY);
    double cost = trial(s, row, position, target, other, least);
    if (cost < least) {
        least = cost;
        memcpy(cells, other, grid->family->cells * sizeof *cells);
    }
    search_by_trial(s, row, position, target, cells, least);
}

/* --- The walk ------------------------------------------------------------------------------------------------- */

/* One row through the block. */
static void walk_row(const state *s, size_t row) {
    const ht_gptq_walk *walk = s->walk;
    const ht_grid *grid = walk->grid;
    size_t cols = grid->cols, length = s->end - s->first;
    const float *weight = walk->weight + row * cols;
    float *target = s->target + row * s->block, *error = walk->error + row * cols + s->first;
    for (size_t i = 0; i < length; i++) {
        size_t position = s->first + i, column = walk->order[position];
        if (s->pruned && s->run && i % s->run == 0)
            prune_run(s, row, position, length - i < s->run ? length - i : s->run, target + i);
        if (s->at_entry && position % grid->unit == 0)
            choose_unit(s, row, position, target + i);
        const ht_grid_cell *cell = cells_of(s, row, column / grid->unit) + column % grid->unit / grid->width;
        float aim = is_pruned(s, row, column) ? 0 : target[i], value;
        ht_grid_round(grid, cell, &aim, 1, &value, s->code + row * cols + column);
        float e = weight[column] - value;
        error[i] = e;
        const float *feed = walk->factor->feed + position * cols + s->first;
        for (size_t j = i + 1; j < length; j++)
            target[j] += e * feed[j];
    }
}

static ht_status gather_rows(void *arg, size_t index, size_t worker) {
    const state *s = arg;
    const ht_gptq_walk *walk = s->walk;
    (void)worker;
    for (size_t r = index * STRIP; r < strip_end(walk->grid, index); r++)
        for (size_t i = s->first; i < s->end; i++)
            s->target[r * s->block + i - s->first] = walk->weight[r * walk->grid->cols + walk->order[i]];
    return HT_OK;
}

static ht_status walk_rows(void *arg, size_t index, size_t worker) {
    const state *s = arg;
    (void)worker;
    for (size_t r = index * STRIP; r < strip_end(s->walk->grid, index); r++)
        walk_row(s, r);
    return HT_OK;
}

static ht_status store_rows(void *arg, size_t index, size_t worker) {
    const state *s = arg;
    const ht_grid *grid = s->walk->grid;
    (void)worker;
    for (size_t r = index * STRIP; r < strip_end(grid, index); r++)
        for (size_t u = 0; u < s->units; u++)
            ht_grid_store(grid, s->walk->planes, r, u, cells_of(s, r, u), s->code + r * grid->cols + u * grid->unit);
    return HT_OK;
}

/* --- Sweeps -------------------------------------------------------------------------------------------------- */

/* The damped matrix that the factor is of, whole, by position: rows are read one after the other. */
static ht_status damped_row(void *arg, size_t index, size_t worker) {
    const state *s = arg;
    const ht_gptq_walk *walk = s->walk;
    size_t cols = walk->grid->cols, from = walk->order[index];
    (void)worker;
    for (size_t j = 0; j < cols; j++) {
        size_t to = walk->order[j], low = from < to ? from : to, high = from < to ? to : from;
        double h = (double)walk->second[low * cols + high];
        if (from == to)
            h = (h > 0 ? h : s->mean) + walk->factor->damping * s->mean;
        else
            h *= 1 - walk->shrink;
        s->damped[index * cols + j] = (float)h;
    }
    return HT_OK;
}

/* One row: every code is chosen anew with all others fixed, t = w + (sum over the others of e H) / H_kk; a change goes
 * into g = e H at once. */
static void sweep_row(const state *s, size_t row) {
    const ht_gptq_walk *walk = s->walk;
    const ht_grid *grid = walk->grid;
    size_t cols = grid->cols;
    const float *weight = walk->weight + row * cols;
    float *error = walk->error + row * cols, *g = s->pull + row * cols;
    for (size_t i = 0; i < cols; i++) {
        size_t column = walk->order[i];
        const float *h = s->damped + i * cols;
        if (is_pruned(s, row, column))
            continue;
        float t = weight[column] + (g[i] - error[i] * h[i]) / h[i], value;
        uint8_t code, *old = &s->code[row * cols + column];
        const ht_grid_cell *cell = cells_of(s, row, column / grid->unit) + column % grid->unit / grid->width;
        ht_grid_round(grid, cell, &t, 1, &value, &code);
        float e = weight[column] - value, change = e - error[i];
        /* Only what lowers the loss, so that ties and rounding errors do not wander. */
        if (code == *old || !(fabsf(t - value) < fabsf(t - (weight[column] - error[i]))))
            continue;
        *old = code;
        error[i] = e;
        for (size_t j = 0; j < cols; j++)
            g[j] += change * h[j];
    }
}

static ht_status sweep_rows(void *arg, size_t index, size_t worker) {
    const state *s = arg;
    (void)worker;
    for (size_t r = index * STRIP; r < strip_end(s->walk->grid, index); r++)
        for (size_t i = 0; i < s->walk->sweeps; i++)
            sweep_row(s, r);
    return HT_OK;
}

static ht_status sweep(state *s) {
    const ht_gptq_walk *walk = s->walk;
    size_t cols = walk->grid->cols, rows = walk->grid->rows, alive = 0;
    double sum = 0;
    for (size_t c = 0; c < cols; c++) {
        double h = (double)walk->second[c * cols + c];
        alive += h > 0;
        sum += h > 0 ? h : 0;
    }
    s->mean = alive ? sum / (double)alive : 1;
    HT_TRY(ht_allocate_raw(walk->ctx, cols * cols, sizeof *s->damped, "Hessian by position", &s->damped));
    HT_TRY(ht_allocate(walk->ctx, rows * cols, sizeof *s->pull, "errors times Hessian", &s->pull));
    HT_TRY(ht_parallel_for(walk->ctx, cols, damped_row, s));
    const ht_dense_job job = {.m = rows,
                              .n = cols,
                              .k = cols,
                              .a = {walk->error, cols, 1},
                              .b = {s->damped, cols, 1},
                              .c = s->pull,
                              .c_stride = cols};
    HT_TRY(ht_dense_run(walk->ctx, &job));
    return ht_parallel_for(walk->ctx, (rows + STRIP - 1) / STRIP, sweep_rows, s);
}

static ht_status walk_blocks(state *s) {
    const ht_gptq_walk *walk = s->walk;
    size_t cols = walk->grid->cols, rows = walk->grid->rows, tasks = (rows + STRIP - 1) / STRIP;
    if (s->pruned && !s->run)
        HT_TRY(ht_parallel_for(walk->ctx, tasks, prune_rows, s));
    HT_TRY(ht_parallel_for(walk->ctx, tasks, prepare_rows, s));
    for (s->first = 0; s->first < cols; s->first = s->end) {
        HT_TRY(ht_context_check_cancelled(walk->ctx));
        s->end = s->first + s->block < cols ? s->first + s->block : cols;
        HT_TRY(ht_parallel_for(walk->ctx, tasks, gather_rows, s));
        const ht_dense_job finished = {.m = rows,
                                       .n = s->end - s->first,
                                       .k = s->first,
                                       .a = {walk->error, cols, 1},
                                       .b = {walk->factor->feed + s->first, 1, cols},
                                       .c = s->target,
                                       .c_stride = s->block};
        HT_TRY(ht_dense_run(walk->ctx, &finished));
        HT_TRY(ht_parallel_for(walk->ctx, tasks, walk_rows, s));
    }
    if (walk->sweeps)
        HT_TRY(sweep(s));
    return ht_parallel_for(walk->ctx, tasks, store_rows, s);
}

/* Whole units in a block (D2): the given length, or the next multiple of the unit. */
static size_t block_length(const ht_gptq_walk *walk, int whole_units) {
    size_t cols = walk->grid->cols, unit = walk->grid->unit, block = walk->block ? walk->block : 1;
    if (whole_units)
        block = (block + unit - 1) / unit * unit;
    return block < cols ? block : cols;
}

ht_status ht_gptq_walk_columns(ht_gptq_walk *walk) {
    const ht_grid *grid = walk->grid;
    state s = {.walk = walk, .units = (grid->cols + grid->unit - 1) / grid->unit};
    s.cells = s.units * grid->family->cells;
    s.at_entry = walk->scales != HT_SCALES_ORIGINAL && walk->together && !grid->shared && grid->unit <= HT_GRID_UNIT &&
                 grid->cols % grid->unit == 0;
    s.block = block_length(walk, s.at_entry);
    s.run = walk->sparsity.share > 0 ? run_length(&s) : 0;
    ht_status status = ht_allocate(walk->ctx, grid->rows * s.cells, sizeof *s.cell, "scales of a matrix", &s.cell);
    if (status == HT_OK)
        status = ht_allocate_raw(walk->ctx, grid->rows * grid->cols, 1, "codes of a matrix", &s.code);
    if (status == HT_OK && walk->sparsity.share > 0)
        status = ht_allocate_raw(walk->ctx, grid->rows * grid->cols, 1, "zeros of a matrix", &s.pruned);
    if (status == HT_OK)
        status = ht_allocate_raw(walk->ctx, grid->rows * s.block, sizeof *s.target, "a block of columns", &s.target);
    if (status == HT_OK)
        status = walk_blocks(&s);
    walk->saturated = 0;
    for (size_t i = 0; status == HT_OK && i < grid->rows * s.cells; i++)
        walk->saturated += grid->format.family == HT_FAMILY_NVFP4 && s.cell[i].code[0] == 0x7e;
    ht_release(walk->ctx, s.cell);
    ht_release(walk->ctx, s.code);
    ht_release(walk->ctx, s.pruned);
    ht_release(walk->ctx, s.target);
    ht_release(walk->ctx, s.damped);
    ht_release(walk->ctx, s.pull);
    return status;
}
