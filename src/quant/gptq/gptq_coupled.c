/* Coordinate descent over all codes where rows are not alone.
 *
 *     loss = tr(G e H e^T),   G: how the model minds errors of several outputs together (curvature.h)
 *
 * Column by column, all rows of a band in turn. With P = e H, the gradient in e_ri is (G P)_ri:
 *
 *     column i:   c = G P[:, i]                        n^2
 *     row r:      e_ri - c_r / (G_rr H_ii) rounded;  c += change H_ii G[:, r]
 *     then        P += changes of the column x H[i, :]
 *
 * so a sweep costs n^2 + n K a column however many codes change. A few tokens tell little of G: its off-diagonal is
 * weighted by tokens / (tokens + rows) beside the share that is asked for. Bands share nothing and go to threads.
 * Source: Tseng et al. 2025, arXiv:2505.22988 (the two-sided loss); the descent is ours.
 * SPDX-License-Identifier: BSD-3-Clause */
#include <math.h> /* fabsf */

#include "base/memory.h"
#include "base/pool.h"
#include "base/status.h"
#include "quant/gptq/gptq_state.h"

typedef struct bands {
    const ht_gptq_state *s;
    const float *damped;
    float *memory; /* [bands, each] */
    size_t each;
} bands;

typedef struct band {
    const ht_gptq_state *s;
    const float *damped; /* [cols, cols] H by position */
    size_t first, rows;  /* of the matrix */
    float *g;            /* [rows, rows] G, diagonal near 1 */
    float *c, *p, *change;
} band;

/* G whole, over the mean of its diagonal, pulled towards one. */
static void load(const band *b, const ht_moments *moments, double share) {
    size_t n = b->rows;
    double mean = 0;
    for (size_t r = 0; r < n; r++)
        mean += (double)moments->second[r * n + r] / (double)n;
    share *= (double)moments->tokens / (double)(moments->tokens + n);
    for (size_t r = 0; r < n; r++)
        for (size_t s = r; s < n; s++) {
            double value = mean > 0 ? share * (double)moments->second[r * n + s] / mean : 0;
            b->g[r * n + s] = b->g[s * n + r] = (float)(r == s ? value + 1 - share + 1e-3 : value);
        }
}

/* c = G P[:, i]. */
static void start_column(const band *b, size_t i) {
    size_t n = b->rows, cols = b->s->walk->grid->cols;
    for (size_t r = 0; r < n; r++) {
        b->p[r] = b->s->pull[(b->first + r) * cols + i];
        b->c[r] = 0;
    }
    for (size_t s = 0; s < n; s++) {
        const float *g = b->g + s * n;
        float p = b->p[s];
        for (size_t r = 0; r < n; r++)
            b->c[r] += p * g[r];
    }
}

/* Round one code anew; its change of error goes into c and change. */
static void choose(const band *b, size_t r, size_t i) {
    const ht_gptq_walk *walk = b->s->walk;
    const ht_grid *grid = walk->grid;
    size_t cols = grid->cols, row = b->first + r, column = walk->order[i];
    size_t strip = row / HT_LANES * ht_gptq_strip_values(b->s) + row % HT_LANES, at = strip + column * HT_LANES;
    float h = b->damped[i * cols + i], weight = walk->weight[row * cols + column];
    float *error = b->s->error + strip + i * HT_LANES;
    uint8_t code, *old = b->s->code + at;
    const ht_grid_cell *cell = ht_gptq_cells(b->s, row, column / grid->unit) + column % grid->unit / grid->width;
    float t = weight - *error + b->c[r] / (b->g[r * b->rows + r] * h), value;
    b->change[r] = 0;
    if (b->s->pruned && b->s->pruned[at])
        return;
    ht_grid_round(grid, cell, &t, 1, &value, &code);
    /* Only what lowers the loss, so that ties and rounding errors do not wander. */
    if (code == *old || !(fabsf(t - value) < fabsf(t - (weight - *error))))
        return;
    float change = weight - value - *error, step = change * h;
    *old = code;
    *error = weight - value;
    b->change[r] = change;
    b->s->loss[row] += (double)change * (2 * (double)b->p[r] + (double)change * (double)h);
    const float *g = b->g + r * b->rows;
    for (size_t s = 0; s < b->rows; s++)
        b->c[s] += step * g[s];
}

static size_t sweep(const band *b) {
    size_t cols = b->s->walk->grid->cols, changed = 0;
    for (size_t i = 0; i < cols; i++) {
        const float *h = b->damped + i * cols;
        start_column(b, i);
        for (size_t r = 0; r < b->rows; r++)
            choose(b, r, i);
        for (size_t r = 0; r < b->rows; r++) {
            float *pull = b->s->pull + (b->first + r) * cols, change = b->change[r];
            changed += change != 0;
            for (size_t j = 0; change != 0 && j < cols; j++)
                pull[j] += change * h[j];
        }
    }
    return changed;
}

static ht_status sweep_band(void *arg, size_t index, size_t worker) {
    const bands *all = arg;
    const ht_gptq_walk *walk = all->s->walk;
    float *memory = all->memory + index * all->each;
    size_t n = walk->outputs->band[index]->cols;
    band b = {.s = all->s,
              .damped = all->damped,
              .first = index * HT_CURVATURE_BAND,
              .rows = n,
              .g = memory,
              .c = memory + n * n,
              .p = memory + n * n + n,
              .change = memory + n * n + 2 * n};
    (void)worker;
    load(&b, walk->outputs->band[index], walk->fisher);
    for (size_t i = 0; i < walk->sweeps && sweep(&b); i++)
        HT_TRY(ht_context_check_cancelled(walk->ctx));
    return HT_OK;
}

size_t ht_gptq_coupled_bytes(size_t rows) {
    size_t n = rows < HT_CURVATURE_BAND ? rows : HT_CURVATURE_BAND, count = (rows + n - 1) / n;
    return count * (n * n + 3 * n) * sizeof(float);
}

ht_status ht_gptq_sweep_coupled(const ht_gptq_state *s, const float *damped) {
    const ht_output_curvature *outputs = s->walk->outputs;
    size_t n = outputs->band[0]->cols; /* the widest */
    bands all = {.s = s, .damped = damped, .each = n * n + 3 * n};
    HT_TRY(ht_allocate_raw(s->walk->ctx, outputs->bands * all.each, sizeof *all.memory, "curvature of outputs",
                           &all.memory));
    ht_status status = ht_parallel_for(s->walk->ctx, outputs->bands, sweep_band, &all);
    ht_release(s->walk->ctx, all.memory);
    return status;
}
