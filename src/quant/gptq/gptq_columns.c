/* GPTQ's walk over the columns: round one, let the ones after it make up for the error.
 *
 *     t_k = w_k + sum over j < k of e_j F_jk,    q_k = rounded t_k,    e_k = w_k - q_k        (gptq.h)
 *
 *     positions   | finished: e known        | block: group | group | ... | later: not touched yet
 *     t of block  =  w + e(finished) F         a dense product; then group by group, panel by panel (gptq_lanes.h)
 *
 * Rows are independent: strips of them are shared out over threads, and each walks its block alone, so the result does
 * not depend on threads. Where units of scales stay together in the order, a block holds whole units, each a group,
 * whose scales can be chosen from t when it is reached (at_group, searched); otherwise all scales are fixed before:
 * those of the rounding to nearest, or searched on the weights. Zeros: gptq_zeros.c.
 * Source: Frantar et al. 2022, arXiv:2210.17323, with the errors kept instead of the weights (left-looking).
 * SPDX-License-Identifier: BSD-3-Clause */
#include <string.h> /* memcpy */

#include "base/context.h"
#include "base/memory.h"
#include "base/pool.h"
#include "base/status.h"
#include "kernels/kernels.h"
#include "quant/gptq/gptq_state.h"

enum { GROUP = 4 * HT_LANE_PANEL, PACK = 64 }; /* columns of a group without scales to choose; positions of a task */

/* --- Scales before the walk ------------------------------------------------------------------------------------- */

/* Scales that can be chosen unit by unit. */
static int is_chosen(const ht_grid *grid) {
    return !grid->shared && grid->unit <= HT_GRID_UNIT && grid->cols % grid->unit == 0;
}

static int searches_before(const ht_gptq_walk *walk, size_t unit) {
    return walk->scales == HT_SCALES_SEARCHED && !unit && is_chosen(walk->grid);
}

/* The scales of a unit, searched on the weights. */
static void search_unit(const ht_gptq_state *s, size_t strip, size_t unit, ht_gptq_scratch *scratch) {
    const ht_gptq_walk *walk = s->walk;
    const ht_grid *grid = walk->grid;
    size_t rows = ht_gptq_rows(s, strip), count = grid->family->cells;
    float *x = scratch->errors;
    for (size_t r = 0; r < HT_LANES; r++) {
        const float *row = walk->weight + (strip * HT_LANES + (r < rows ? r : 0)) * grid->cols + unit * grid->unit;
        for (size_t c = 0; c < grid->unit; c++)
            x[c * HT_LANES + r] = row[c];
    }
    for (size_t r = 0; r < rows; r++)
        memcpy(scratch->start + r * count, ht_gptq_cells(s, strip * HT_LANES + r, unit),
               count * sizeof *scratch->start);
    const ht_grid_strip choice = {.grid = grid,
                                  .x = x,
                                  .weight = walk->diagonal + unit * grid->unit,
                                  .rows = rows,
                                  .cells = scratch->best,
                                  .step = count};
    ht_grid_choose_lanes(&choice, 1, scratch->start);
    for (size_t r = 0; r < rows; r++)
        memcpy(ht_gptq_cells(s, strip * HT_LANES + r, unit), scratch->best + r * count, count * sizeof *scratch->best);
}

/* As rounded to nearest, or searched on the weights. */
static ht_status prepare_strip(void *arg, size_t strip, size_t worker) {
    const ht_gptq_state *s = arg;
    const ht_gptq_walk *walk = s->walk;
    for (size_t r = 0; r < ht_gptq_rows(s, strip); r++)
        for (size_t u = 0; u < s->units; u++)
            ht_grid_load(walk->grid, walk->planes, strip * HT_LANES + r, u, ht_gptq_cells(s, strip * HT_LANES + r, u));
    for (size_t u = 0; searches_before(walk, s->unit) && u < s->units; u++)
        search_unit(s, strip, u, &s->scratch[worker]);
    return HT_OK;
}

/* --- Panels of F ------------------------------------------------------------------------------------------------ */

/* Rows of F before the block: its columns side by side. */
static ht_status pack_finished(void *arg, size_t task, size_t worker) {
    const ht_gptq_state *s = arg;
    size_t cols = s->walk->grid->cols, length = s->end - s->first;
    (void)worker;
    for (size_t k = task * PACK; k < ht_gptq_least((task + 1) * PACK, s->first); k++)
        for (size_t p = 0; p < ht_panels(length); p++) {
            float *to = s->finished + (p * s->first + k) * HT_LANE_PANEL;
            size_t count = ht_gptq_least(HT_LANE_PANEL, length - p * HT_LANE_PANEL);
            memset(to, 0, HT_LANE_PANEL * sizeof *to);
            memcpy(to, s->walk->factor->feed + k * cols + s->first + p * HT_LANE_PANEL, count * sizeof *to);
        }
    return HT_OK;
}

/* The same of a group, for the positions of the block before its columns; zero where a row is not before the column. */
static void pack_group(const ht_gptq_state *s, size_t begin, size_t count, float *to) {
    size_t cols = s->walk->grid->cols;
    for (size_t p = 0; p < ht_panels(count); p++)
        for (size_t k = s->first; k < begin + count; k++)
            for (size_t i = 0; i < HT_LANE_PANEL; i++, to++) {
                size_t column = begin + p * HT_LANE_PANEL + i;
                *to = column > k && column < begin + count ? s->walk->factor->feed[k * cols + column] : 0;
            }
}

/* Columns of a group: those whose scales, or zeros, are chosen together. */
static size_t group_length(const ht_gptq_state *s) {
    return s->unit ? s->unit : s->run ? s->run : GROUP;
}

static void open_groups(ht_gptq_state *s) {
    const ht_gptq_walk *walk = s->walk;
    size_t length = group_length(s);
    float *panel = s->panel;
    s->groups = 0;
    for (size_t begin = s->first; begin < s->end; begin += length) {
        ht_lane_group *group = &s->group[s->groups++];
        *group = (ht_lane_group){.grid = walk->grid,
                                 .tile = s->tile,
                                 .spread = s->spread,
                                 .order = walk->order + begin,
                                 .pivot = walk->factor->pivot + begin,
                                 .panel = panel,
                                 .depth = begin - s->first,
                                 .count = ht_gptq_least(length, s->end - begin)};
        group->step = (group->depth + group->count) * HT_LANE_PANEL;
        pack_group(s, begin, group->count, panel);
        panel += ht_panels(group->count) * group->step;
    }
}

/* --- A strip through a block ------------------------------------------------------------------------------------ */

void ht_gptq_gather(const ht_gptq_state *s, size_t strip, size_t first, size_t count, float *weight) {
    const ht_gptq_walk *walk = s->walk;
    size_t cols = walk->grid->cols, rows = ht_gptq_rows(s, strip);
    const uint32_t *order = walk->order + first;
    if (rows < HT_LANES)
        memset(weight, 0, count * HT_LANES * sizeof *weight);
    for (size_t begin = 0, end; begin < count; begin = end) {
        end = ht_gptq_least(begin + HT_GPTQ_TURN, count);
        for (size_t r = 0; r < rows; r++) {
            const float *row = walk->weight + (strip * HT_LANES + r) * cols;
            for (size_t i = begin; i < end; i++)
                weight[i * HT_LANES + r] = row[order[i]];
        }
    }
}

static ht_status walk_strip(void *arg, size_t strip, size_t worker) {
    const ht_gptq_state *s = arg;
    const ht_gptq_walk *walk = s->walk;
    ht_gptq_scratch *scratch = &s->scratch[worker];
    size_t length = s->end - s->first, values = ht_gptq_strip_values(s);
    float *error = s->error + strip * values, *target = scratch->target;
    const ht_lane_group finished = {
        .tile = s->tile, .panel = s->finished, .step = s->first * HT_LANE_PANEL, .depth = s->first, .count = length};
    scratch->pruned = s->pruned ? s->pruned + strip * values : NULL;
    ht_gptq_gather(s, strip, s->first, length, scratch->weight);
    memcpy(target, scratch->weight, length * HT_LANES * sizeof *target);
    memset(target + length * HT_LANES, 0, HT_LANE_PANEL * HT_LANES * sizeof *target);
    ht_lane_feed(&finished, error, target);
    ht_lane_cells_begin(&scratch->cells, walk->grid, ht_gptq_cells(s, strip * HT_LANES, 0), s->cells,
                        ht_gptq_rows(s, strip), 0);
    for (size_t g = 0; g < s->groups; g++) {
        const ht_lane_group *group = &s->group[g];
        float cost[HT_LANES] = {0};
        size_t at = (s->first + group->depth) * HT_LANES;
        float *t = target + group->depth * HT_LANES, *w = scratch->weight + group->depth * HT_LANES;
        const ht_lane_walk out = {.pruned = scratch->pruned,
                                  .codes = s->code + strip * values,
                                  .rest = s->pull ? s->pull + strip * values + at : NULL,
                                  .cost = cost};
        ht_lane_feed(group, error + s->first * HT_LANES, t);
        if (s->pruned && s->run && group->depth % s->run == 0)
            ht_gptq_prune_run(s, strip, s->first + group->depth, ht_gptq_least(s->run, length - group->depth), t);
        if (s->unit)
            ht_gptq_choose_unit(s, strip, group, scratch, w, t);
        ht_lane_walk_group(group, &scratch->cells, w, t, error + at, &out);
        for (size_t l = 0; l < HT_LANES; l++)
            s->loss[strip * HT_LANES + l] += (double)cost[l];
    }
    return HT_OK;
}

static ht_status store_strip(void *arg, size_t strip, size_t worker) {
    const ht_gptq_state *s = arg;
    const ht_grid *grid = s->walk->grid;
    const uint8_t *code = s->code + strip * ht_gptq_strip_values(s);
    uint8_t *line = (uint8_t *)s->scratch[worker].row;
    for (size_t r = 0; r < ht_gptq_rows(s, strip); r++) {
        size_t row = strip * HT_LANES + r;
        for (size_t c = 0; c < grid->cols; c++)
            line[c] = code[c * HT_LANES + r];
        for (size_t u = 0; u < s->units; u++)
            ht_grid_store(grid, s->walk->planes, row, u, ht_gptq_cells(s, row, u), line + u * grid->unit);
    }
    return HT_OK;
}

/* --- The whole -------------------------------------------------------------------------------------------------- */

static ht_status walk_blocks(ht_gptq_state *s) {
    const ht_gptq_walk *walk = s->walk;
    size_t cols = walk->grid->cols;
    if (s->pruned && !s->run)
        HT_TRY(ht_parallel_for(walk->ctx, s->strips, ht_gptq_prune_rows, s));
    HT_TRY(ht_parallel_for(walk->ctx, s->strips, prepare_strip, s));
    for (s->first = 0; s->first < cols; s->first = s->end) {
        HT_TRY(ht_context_check_cancelled(walk->ctx));
        s->end = ht_gptq_least(s->first + s->block, cols);
        open_groups(s);
        HT_TRY(ht_parallel_for(walk->ctx, (s->first + PACK - 1) / PACK, pack_finished, s));
        HT_TRY(ht_parallel_for(walk->ctx, s->strips, walk_strip, s));
    }
    if (walk->sweeps)
        HT_TRY(ht_gptq_sweep(s));
    return ht_parallel_for(walk->ctx, s->strips, store_strip, s);
}

/* Whole units in a block (D2): the given length, or the next multiple of the unit. */
static size_t block_length(const ht_gptq_walk *walk, size_t unit) {
    size_t cols = walk->grid->cols, block = walk->block ? walk->block : 1;
    if (unit)
        block = (block + unit - 1) / unit * unit;
    return block < cols ? block : cols;
}

/* Room of the panels of all groups of a block, whatever their length will be. */
static size_t panel_values(const ht_gptq_state *s) {
    const size_t lengths[] = {s->unit ? s->unit : GROUP, s->unit ? s->unit : s->walk->grid->unit,
                              s->unit || !s->walk->sparsity.group ? GROUP : s->walk->sparsity.group};
    size_t most = 0;
    for (size_t i = 0; i < sizeof lengths / sizeof *lengths; i++) {
        size_t sum = 0;
        for (size_t begin = 0; begin < s->block; begin += lengths[i])
            sum += ht_panels(ht_gptq_least(lengths[i], s->block - begin)) * HT_LANE_PANEL *
                   ht_gptq_least(begin + lengths[i], s->block);
        most = sum > most ? sum : most;
    }
    size_t whole = ht_panels(s->block) * HT_LANE_PANEL * s->block;
    return most > whole ? most : whole;
}

/* Scratch of a thread, in one piece: targets twice, weights, errors, a row, cells three times. */
typedef struct layout {
    size_t target, weight, errors, row, cells, each;
} layout;

static layout layout_of(const ht_gptq_state *s) {
    const ht_grid *grid = s->walk->grid;
    size_t before = searches_before(s->walk, s->unit) ? grid->unit : 0;
    layout l = {.target = (s->block + HT_LANE_PANEL) * HT_LANES * sizeof(float),
                .weight = s->block * HT_LANES * sizeof(float),
                .errors = (before > s->block ? before : s->block) * HT_LANES * sizeof(float),
                .row = (grid->cols * sizeof(float) + 63) / 64 * 64,
                .cells = (HT_LANES * grid->family->cells * sizeof(ht_grid_cell) + 63) / 64 * 64};
    l.each = 2 * l.target + l.weight + l.errors + l.row + 3 * l.cells;
    return l;
}

static ht_status open_scratch(ht_gptq_state *s, char **memory) {
    size_t threads = ht_context_threads(s->walk->ctx);
    layout l = layout_of(s);
    HT_TRY(ht_allocate(s->walk->ctx, threads, sizeof *s->scratch, "scratch of a walk over columns", &s->scratch));
    HT_TRY(ht_allocate_raw(s->walk->ctx, threads, l.each, "scratch of a walk over columns", memory));
    for (size_t i = 0; i < threads; i++) {
        char *at = *memory + i * l.each, *row = at + 2 * l.target + l.weight + l.errors;
        ht_gptq_scratch *scratch = &s->scratch[i];
        scratch->target = (float *)(void *)at;
        scratch->tried = (float *)(void *)(at + l.target);
        scratch->weight = (float *)(void *)(at + 2 * l.target);
        scratch->errors = (float *)(void *)(at + 2 * l.target + l.weight);
        scratch->row = (float *)(void *)row;
        scratch->start = (ht_grid_cell *)(void *)(row + l.row);
        scratch->best = (ht_grid_cell *)(void *)(row + l.row + l.cells);
        scratch->moved = (ht_grid_cell *)(void *)(row + l.row + 2 * l.cells);
    }
    return HT_OK;
}

/* What a walk holds: pointers to it, how many values of what size. */
typedef struct array_row {
    void *pointer;
    size_t values, size;
} array_row;

enum { ARRAYS = 9 };

static void list_arrays(ht_gptq_state *s, array_row list[ARRAYS]) {
    const ht_gptq_walk *walk = s->walk;
    size_t values = s->strips * ht_gptq_strip_values(s);
    const array_row all[ARRAYS] = {
        {&s->cell, walk->grid->rows * s->cells, sizeof *s->cell},
        {&s->code, values, 1},
        {&s->pruned, walk->sparsity.share > 0 ? values : 0, 1},
        {&s->error, values, sizeof *s->error},
        {&s->pull, walk->sweeps ? values : 0, sizeof *s->pull},
        {&s->loss, s->strips * HT_LANES, sizeof *s->loss},
        {&s->finished, ht_panels(s->block) * HT_LANE_PANEL * walk->grid->cols, sizeof *s->finished},
        {&s->panel, panel_values(s), sizeof *s->panel},
        {&s->group, s->block + 1, sizeof *s->group},
    };
    memcpy(list, all, sizeof all);
}

static ht_status open_state(ht_gptq_state *s, char **memory) {
    array_row list[ARRAYS];
    list_arrays(s, list);
    for (size_t i = 0; i < ARRAYS; i++)
        if (list[i].values)
            HT_TRY(ht_allocate(s->walk->ctx, list[i].values, list[i].size, "a walk over columns", list[i].pointer));
    return open_scratch(s, memory);
}

static ht_gptq_state state_of(ht_gptq_walk *walk) {
    const ht_grid *grid = walk->grid;
    ht_gptq_state s = {.walk = walk, .units = (grid->cols + grid->unit - 1) / grid->unit};
    s.strips = (grid->rows + HT_LANES - 1) / HT_LANES;
    s.cells = s.units * grid->family->cells;
    if (walk->scales != HT_SCALES_ORIGINAL && walk->together && is_chosen(grid))
        s.unit = grid->unit;
    s.block = block_length(walk, s.unit);
    return s;
}

/* e (H' - (1 - shrink) H) e^T, a diagonal matrix. */
static double extra_loss(const ht_gptq_state *s) {
    const ht_gptq_walk *walk = s->walk;
    size_t cols = walk->grid->cols;
    double sum = 0, mean = walk->factor->mean;
    for (size_t i = 0; i < cols; i++) {
        double h = (double)walk->second[walk->order[i] * (cols + 1)], squares = 0;
        for (size_t strip = 0; strip < s->strips; strip++) {
            const float *e = s->error + (strip * cols + i) * HT_LANES;
            float part[4] = {0};
            for (size_t l = 0; l < ht_gptq_rows(s, strip); l++)
                part[l % 4] += e[l] * e[l];
            squares += (double)(part[0] + part[2]) + (double)(part[1] + part[3]);
        }
        sum += squares * ((h > 0 ? walk->shrink * h : mean) + walk->factor->damping * mean);
    }
    return sum;
}

size_t ht_gptq_walk_bytes(ht_gptq_walk *walk, size_t threads) {
    ht_gptq_state s = state_of(walk);
    array_row list[ARRAYS];
    size_t sum = threads * (layout_of(&s).each + sizeof *s.scratch);
    list_arrays(&s, list);
    for (size_t i = 0; i < ARRAYS; i++)
        sum += list[i].values * list[i].size;
    if (walk->sweeps && walk->fisher > 0)
        sum += ht_gptq_coupled_bytes(walk->grid->rows);
    return sum + (walk->sweeps ? ht_gptq_sweep_bytes(walk->grid->rows, walk->grid->cols, threads) : 0);
}

ht_status ht_gptq_walk_columns(ht_gptq_walk *walk) {
    const ht_grid *grid = walk->grid;
    ht_gptq_state s = state_of(walk);
    array_row list[ARRAYS];
    char *memory = NULL;
    s.tile = ht_kernel_choose(HT_OPERATION_DENSE, ht_cpu_flags(walk->ctx), NULL, 1)->fn.dense;
    s.spread = ht_kernel_choose(HT_OPERATION_SPREAD, ht_cpu_flags(walk->ctx), NULL, 1)->fn.spread;
    s.run = walk->sparsity.share > 0 ? ht_gptq_run_length(&s) : 0;
    ht_status status = open_state(&s, &memory);
    if (status == HT_OK)
        status = walk_blocks(&s);
    walk->saturated = 0;
    for (size_t i = 0; status == HT_OK && i < grid->rows * s.cells; i++)
        walk->saturated += grid->format.family == HT_FAMILY_NVFP4 && s.cell[i].code[0] == 0x7e;
    walk->loss = 0;
    for (size_t r = 0; status == HT_OK && r < grid->rows; r++)
        walk->loss += s.loss[r];
    walk->extra = status == HT_OK ? extra_loss(&s) : 0;
    list_arrays(&s, list);
    for (size_t i = 0; i < ARRAYS; i++)
        ht_release(walk->ctx, *(void **)list[i].pointer);
    ht_release(walk->ctx, s.scratch);
    ht_release(walk->ctx, memory);
    return status;
}
