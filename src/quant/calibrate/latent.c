/* Latents of a matrix over a grid (latent.h).
 *
 *     grid     ---|--------|--------|---        value q of the code, gaps below and above
 *     cell          |--------|                  what rounds to q: half a gap to each side
 *     latent        [  .--.  ]                  the float weight, moved into REACH gaps around q
 *
 * Gaps are found by rounding values that are farther and farther from q, so that any grid will do; where q is the last
 * value on one side, the gap of the other side is its step. Source: arXiv:2309.05516 (gradients on
 * roundings), from any rounding instead of the nearest and on any grid.
 * SPDX-License-Identifier: BSD-3-Clause */
#include "quant/calibrate/latent.h"

#include <math.h> /* fabsf, sqrt */

#include "base/memory.h"
#include "base/pool.h"
#include "base/status.h"

enum { PIECE = 256, STRIP = 8 };
enum { FIRST_PROBE = -17, LAST_PROBE = 7 }; /* powers of two of the scale */

static const float REACH = 0.3f;

typedef struct task {
    ht_latent *latent;
    const ht_planes *planes;
    const float *weight;
    float rate, keep, *gradient, *decoded;
    double *square; /* by row */
    float scale;    /* one over the root mean square */
} task;

typedef ht_status strip_fn(const task *t, size_t row);

static const ht_grid_cell *cell_at(const ht_latent *latent, size_t row, size_t column) {
    const ht_grid *grid = &latent->grid;
    size_t cells = grid->family->cells;
    return latent->cell + (row * latent->units + column / grid->unit) * cells + column % grid->unit / grid->width;
}

/* Columns from `column` on that have the same cell, at most PIECE. */
static size_t same_cell(const ht_grid *grid, size_t column) {
    size_t left = grid->width - column % grid->unit % grid->width, end = grid->cols - column;
    left = left < end ? left : end;
    return left < PIECE ? left : PIECE;
}

/* Distance of each value q to its neighbour above (side 1) or below (-1); 0: there is none. */
static void find_gaps(const ht_grid *grid, const ht_grid_cell *cell, const float *q, size_t n, float side, float *gap) {
    float probe[PIECE], found[PIECE];
    uint8_t codes[PIECE];
    size_t missing = n;
    for (size_t i = 0; i < n; i++)
        gap[i] = 0;
    for (int power = FIRST_PROBE; power <= LAST_PROBE && missing; power++) {
        float distance = side * ldexpf(fabsf(cell->scale), power);
        for (size_t i = 0; i < n; i++)
            probe[i] = q[i] + distance;
        ht_grid_round(grid, cell, probe, n, found, codes);
        for (size_t i = 0; i < n; i++)
            if (gap[i] == 0 && (found[i] - q[i]) * side > 0) {
                gap[i] = fabsf(found[i] - q[i]);
                missing--;
            }
    }
}

static void begin_piece(const ht_grid *grid, const ht_grid_cell *cell, const float *weight, const float *q, size_t n,
                        float *value, float *step) {
    float above[PIECE], below[PIECE];
    find_gaps(grid, cell, q, n, 1, above);
    find_gaps(grid, cell, q, n, -1, below);
    for (size_t i = 0; i < n; i++) {
        float high = q[i] + REACH * above[i], low = q[i] - REACH * below[i];
        value[i] = weight[i] > high ? high : weight[i];
        value[i] = value[i] < low ? low : value[i];
        step[i] = above[i] > 0 && below[i] > 0 ? 0.5f * (above[i] + below[i]) : above[i] + below[i];
    }
}

/* decoded holds what the planes decode to. */
static ht_status begin_row(const task *t, size_t row) {
    ht_latent *latent = t->latent;
    const ht_grid *grid = &latent->grid;
    for (size_t u = 0; u < latent->units; u++)
        ht_grid_load(grid, t->planes, row, u, latent->cell + (row * latent->units + u) * grid->family->cells);
    for (size_t c = 0, n; c < grid->cols; c += n) {
        size_t at = row * grid->cols + c;
        n = same_cell(grid, c);
        begin_piece(grid, cell_at(latent, row, c), t->weight + at, t->decoded + at, n, latent->value + at,
                    latent->step + at);
    }
    return HT_OK;
}

static ht_status square_row(const task *t, size_t row) {
    size_t cols = t->latent->grid.cols, first = row * cols;
    double sum = 0;
    for (size_t i = first; i < first + cols; i++) {
        double z = (double)t->gradient[i] * (double)t->latent->step[i];
        sum += z * z;
    }
    t->square[row] = sum;
    return HT_OK;
}

static ht_status step_row(const task *t, size_t row) {
    const ht_latent *latent = t->latent;
    const ht_grid *grid = &latent->grid;
    size_t first = row * grid->cols;
    uint8_t codes[PIECE];
    for (size_t i = first; t->gradient && i < first + grid->cols; i++) {
        float z = t->gradient[i] * latent->step[i] * t->scale;
        z = z > 1 ? 1 : z;
        z = z < -1 ? -1 : z;
        latent->value[i] -= t->rate * latent->step[i] * z;
        t->gradient[i] *= t->keep;
    }
    for (size_t c = 0, n; c < grid->cols; c += n) {
        n = same_cell(grid, c);
        ht_grid_round(grid, cell_at(latent, row, c), latent->value + first + c, n, t->decoded + first + c, codes);
    }
    return HT_OK;
}

static ht_status store_row(const task *t, size_t row) {
    const ht_latent *latent = t->latent;
    const ht_grid *grid = &latent->grid;
    float values[PIECE];
    uint8_t *codes;
    HT_TRY(ht_allocate_raw(latent->ctx, grid->unit, 1, "codes of a unit", &codes));
    for (size_t u = 0; u < latent->units; u++) {
        size_t begin = u * grid->unit, end = begin + grid->unit < grid->cols ? begin + grid->unit : grid->cols;
        for (size_t c = begin, n; c < end; c += n) {
            n = same_cell(grid, c);
            ht_grid_round(grid, cell_at(latent, row, c), latent->value + row * grid->cols + c, n, values,
                          codes + (c - begin));
        }
        ht_grid_store(grid, t->planes, row, u, latent->cell + (row * latent->units + u) * grid->family->cells, codes);
    }
    ht_release(latent->ctx, codes);
    return HT_OK;
}

/* --- over rows --------------------------------------------------------------------------------------------------- */

typedef struct strips {
    const task *task;
    strip_fn *work;
} strips;

static ht_status run_strip(void *arg, size_t index, size_t worker) {
    const strips *s = arg;
    size_t rows = s->task->latent->grid.rows, end = (index + 1) * STRIP < rows ? (index + 1) * STRIP : rows;
    (void)worker;
    for (size_t row = index * STRIP; row < end; row++)
        HT_TRY(s->work(s->task, row));
    return HT_OK;
}

static ht_status for_rows(const task *t, strip_fn *work) {
    strips s = {t, work};
    return ht_parallel_for(t->latent->ctx, (t->latent->grid.rows + STRIP - 1) / STRIP, run_strip, &s);
}

/* --- contract ---------------------------------------------------------------------------------------------------- */

size_t ht_latent_bytes(size_t rows, size_t cols) {
    return rows * cols * (2 * sizeof(float)) + rows * ((cols + 15) / 16) * sizeof(ht_grid_cell);
}

static ht_status fill(ht_latent *latent, const ht_planes *planes, const float *weight, int hold_zeros) {
    size_t rows = latent->grid.rows, cols = latent->grid.cols;
    float *decoded;
    HT_TRY(ht_allocate_raw(latent->ctx, rows * cols, sizeof *decoded, "decoded weights of a matrix", &decoded));
    const task t = {.latent = latent, .planes = planes, .weight = weight, .decoded = decoded};
    ht_status status = ht_format_dequantize(&latent->grid.format, planes, rows, cols, decoded);
    if (status == HT_OK)
        status = for_rows(&t, begin_row);
    for (size_t i = 0; hold_zeros && status == HT_OK && i < rows * cols; i++)
        if (decoded[i] == 0)
            latent->value[i] = latent->step[i] = 0;
    ht_release(latent->ctx, decoded);
    return status;
}

ht_status ht_latent_create(ht_context *ctx, const ht_format *format, const ht_row_options *how, const ht_planes *planes,
                           const float *weight, size_t rows, size_t cols, int hold_zeros, ht_latent *out) {
    float global = format->global == HT_DTYPE_NONE ? 1 : *(const float *)planes->plane[HT_PLANE_GLOBAL];
    *out = (ht_latent){.ctx = ctx};
    HT_TRY(ht_grid_create(format, how, rows, cols, global, &out->grid));
    out->units = (cols + out->grid.unit - 1) / out->grid.unit;
    size_t cells = rows * out->units * out->grid.family->cells;
    ht_status status = ht_allocate(ctx, cells, sizeof *out->cell, "scales of a matrix", &out->cell);
    if (status == HT_OK)
        status = ht_allocate_raw(ctx, rows * cols, sizeof(float), "latents of a matrix", &out->value);
    if (status == HT_OK)
        status = ht_allocate_raw(ctx, rows * cols, sizeof(float), "steps of a matrix", &out->step);
    if (status == HT_OK)
        status = fill(out, planes, weight, hold_zeros);
    if (status != HT_OK)
        ht_latent_release(out);
    return status;
}

void ht_latent_release(ht_latent *latent) {
    if (!latent->ctx)
        return;
    ht_release(latent->ctx, latent->cell);
    ht_release(latent->ctx, latent->value);
    ht_release(latent->ctx, latent->step);
    *latent = (ht_latent){0};
}

ht_status ht_latent_step(ht_latent *latent, float rate, float keep, float *gradient, float *decoded) {
    size_t rows = latent->grid.rows;
    task t = {.latent = latent, .rate = rate, .keep = keep, .gradient = gradient, .decoded = decoded};
    double sum = 0;
    HT_TRY(ht_allocate(latent->ctx, rows, sizeof *t.square, "squares of rows", &t.square));
    ht_status status = gradient ? for_rows(&t, square_row) : HT_OK;
    for (size_t r = 0; r < rows; r++)
        sum += t.square[r];
    t.scale = sum > 0 && isfinite(sum) ? (float)(1 / sqrt(sum / (double)(rows * latent->grid.cols))) : 0;
    if (status == HT_OK)
        status = for_rows(&t, step_row);
    ht_release(latent->ctx, t.square);
    return status;
}

ht_status ht_latent_store(const ht_latent *latent, const ht_planes *planes) {
    const task t = {.latent = (ht_latent *)(uintptr_t)latent, .planes = planes};
    return for_rows(&t, store_row);
}
