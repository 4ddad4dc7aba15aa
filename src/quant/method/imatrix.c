/* Round to nearest under searched scales, errors weighted by the mean square of each input ("importance matrix").
 *
 *     for every unit of a row: the scales, among those that can be stored next to the format's own, that leave the
 *     least   sum over its columns of mean(x_j^2) (w_j - q_j)^2
 *
 * That is the output error if inputs were independent, from K numbers where GPTQ needs K^2. The format's own scales are
 * among the candidates, so no unit gets worse by this measure. Scales that belong to several rows, and rows of more
 * than HT_GRID_UNIT columns that share one, stay as rounding to nearest has them. Without statistics all inputs count
 * the same. Refuses: weights or statistics that are not finite, formats without a grid (grid.h). Source: algorithms
 * specification, sections 1.7 and 2.7.
 * SPDX-License-Identifier: BSD-3-Clause */
#include "quant/method/imatrix.h"

#include <math.h> /* isfinite */

#include "base/memory.h"
#include "base/pool.h"
#include "base/status.h"
#include "quant/grid/grid.h"

enum { STRIP = 16 };

typedef struct search {
    const ht_matrix_problem *problem;
    const ht_planes *planes;
    ht_grid grid;
    float *weight; /* [cols] importance; NULL: all the same */
} search;

static void search_unit(const search *s, size_t row, size_t unit) {
    const ht_grid *grid = &s->grid;
    size_t first = unit * grid->unit;
    const float *x = s->problem->weight + row * grid->cols + first;
    ht_grid_cell own[HT_GRID_CELLS], cells[HT_GRID_CELLS];
    float values[HT_GRID_UNIT];
    uint8_t codes[HT_GRID_UNIT];
    ht_grid_load(grid, s->planes, row, unit, own);
    ht_grid_choose(grid, x, s->weight ? s->weight + first : NULL, 1, own, cells);
    for (size_t c = 0; c * grid->width < grid->unit; c++) {
        size_t at = c * grid->width, n = grid->unit - at < grid->width ? grid->unit - at : grid->width;
        ht_grid_round(grid, &cells[c], x + at, n, values + at, codes + at);
    }
    ht_grid_store(grid, s->planes, row, unit, cells, codes);
}

static ht_status search_rows(void *arg, size_t index, size_t worker) {
    const search *s = arg;
    (void)worker;
    for (size_t row = index * STRIP; row < (index + 1) * STRIP && row < s->problem->rows; row++)
        for (size_t unit = 0; unit < s->grid.cols / s->grid.unit; unit++)
            search_unit(s, row, unit);
    return HT_OK;
}

static ht_status check_finite(const ht_matrix_problem *p) {
    for (size_t i = 0; i < p->rows * p->cols; i++)
        if (!isfinite(p->weight[i]))
            return ht_fail(HT_ERR_NUMERIC, "imatrix: weight [%zu, %zu] is not finite", i / p->cols, i % p->cols);
    return HT_OK;
}

static ht_status run(search *s, ht_matrix_result *result) {
    const ht_matrix_problem *p = s->problem;
    HT_TRY(ht_parallel_for(p->ctx, (p->rows + STRIP - 1) / STRIP, search_rows, s));
    HT_TRY(ht_format_dequantize(p->format, &result->planes, p->rows, p->cols, result->decoded));
    result->loss = ht_matrix_loss(p, p->input, result->decoded);
    result->held_out_loss = ht_matrix_loss(p, p->held_out, result->decoded);
    return HT_OK;
}

ht_status ht_imatrix_matrix(const ht_matrix_problem *problem, ht_matrix_result *result) {
    search s = {.problem = problem, .planes = &result->planes};
    HT_TRY(check_finite(problem));
    HT_TRY(ht_matrix_round(problem, NULL, result));
    float global = problem->format->global == HT_DTYPE_NONE ? 1 : *(const float *)result->planes.plane[HT_PLANE_GLOBAL];
    HT_TRY(ht_grid_create(problem->format, problem->how, problem->rows, problem->cols, global, &s.grid));
    if (s.grid.family->refit)
        return HT_OK; /* the tables are those of weighted columns already */
    if (s.grid.shared || s.grid.unit > HT_GRID_UNIT || s.grid.cols % s.grid.unit) {
        result->fallback = "rounded to nearest: its scales cannot be searched row by row";
        return HT_OK;
    }
    ht_status status = ht_matrix_importance(problem->ctx, problem->input, &s.weight);
    if (status == HT_OK)
        status = run(&s, result);
    ht_release(problem->ctx, s.weight);
    return status;
}

ht_status ht_imatrix_accepts(const ht_scheme *scheme) {
    return ht_grid_supports(&scheme->weight);
}

unsigned ht_imatrix_moments(const ht_settings *settings) {
    (void)settings;
    return HT_MOMENT_MEAN;
}
