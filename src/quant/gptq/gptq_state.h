/* What the files of the walk share. gptq_columns.c walks, gptq_scales.c chooses the scales of a unit on the way,
 * gptq_sweep.c goes over the codes again. Rows are cut into strips of HT_LANES; a last one is filled up. */
#ifndef HT_QUANT_GPTQ_GPTQ_STATE_H
#define HT_QUANT_GPTQ_GPTQ_STATE_H

#include "quant/gptq/gptq.h"
#include "quant/gptq/gptq_lanes.h"

/* Scratch of a thread. */
typedef struct ht_gptq_scratch {
    ht_lane_cells cells, trial;
    const uint8_t *pruned;              /* of the strip at work; NULL: none */
    float *target;                      /* [block + HT_LANE_PANEL, HT_LANES] */
    float *weight;                      /* [block, HT_LANES] */
    float *tried;                       /* [unit + HT_LANE_PANEL, HT_LANES] targets of a trial */
    float *errors;                      /* [block, HT_LANES] */
    float *row;                         /* [cols] */
    ht_grid_cell *start, *best, *moved; /* [HT_LANES, cells of a unit] */
} ht_gptq_scratch;

typedef struct ht_gptq_state {
    ht_gptq_walk *walk;
    ht_dense_fn *tile;
    ht_spread_fn *spread;
    size_t strips, units, cells;    /* of a row */
    ht_grid_cell *cell;             /* [rows, units * cells of a unit] */
    uint8_t *pruned;                /* likewise: columns that become zero; NULL: none do */
    size_t run;                     /* positions for which that is chosen together; 0: before the walk */
    uint8_t *code;                  /* [strips, cols, HT_LANES] by column */
    float *error;                   /* [strips, cols, HT_LANES] by position: w - q */
    float *pull;                    /* likewise: pivot (t - q), later e H by row; NULL without sweeps */
    double *loss;                   /* [strips * HT_LANES] of rows: e H' e^T, from the walk on */
    size_t block, first, end, unit; /* positions at work; columns whose scales are chosen on the way, else 0 */
    ht_lane_group *group;           /* of the block */
    size_t groups;
    float *finished;          /* panels of the block over all positions before it */
    float *panel;             /* panels of the groups */
    ht_gptq_scratch *scratch; /* by worker */
} ht_gptq_state;

static inline size_t ht_gptq_least(size_t a, size_t b) {
    return a < b ? a : b;
}

static inline size_t ht_gptq_rows(const ht_gptq_state *s, size_t strip) {
    return ht_gptq_least(s->walk->grid->rows - strip * HT_LANES, HT_LANES);
}

static inline ht_grid_cell *ht_gptq_cells(const ht_gptq_state *s, size_t row, size_t unit) {
    return s->cell + row * s->cells + unit * s->walk->grid->family->cells;
}

static inline size_t ht_gptq_strip_values(const ht_gptq_state *s) {
    return s->walk->grid->cols * HT_LANES;
}

/* Some positions of a strip's weights, a vector each: [count, HT_LANES], zeros in lanes beyond the rows. Columns of a
 * few lines at a time, so that both sides stay near. */
enum { HT_GPTQ_TURN = 16 };
void ht_gptq_gather(const ht_gptq_state *s, size_t strip, size_t first, size_t count, float *weight);

/* Cells of the unit that the group is, for the rows of a strip: target as ht_lane_walk_group takes it. */
void ht_gptq_choose_unit(const ht_gptq_state *s, size_t strip, const ht_lane_group *group, ht_gptq_scratch *scratch,
                         const float *weight, const float *target);

/* gptq_zeros.c. Positions for which zeros are chosen together: as few as the pattern and the choice of scales allow; 0:
 * whole rows, before the walk. Zeros among n positions, from the targets of a strip; of whole rows (a task), from the
 * weights. */
size_t ht_gptq_run_length(const ht_gptq_state *s);
void ht_gptq_prune_run(const ht_gptq_state *s, size_t strip, size_t position, size_t n, const float *target);
ht_status ht_gptq_prune_rows(void *state, size_t strip, size_t worker);

/* Rounds of coordinate descent. Fails with MEMORY, CANCELLED. */
ht_status ht_gptq_sweep(ht_gptq_state *s);
size_t ht_gptq_sweep_bytes(size_t rows, size_t cols, size_t threads); /* that it takes */
/* gptq_coupled.c: likewise over all codes at once, each changed where that lowers tr(G e H' e^T), G of walk->outputs.
 * damped: H' by position, whole; s->pull: e H' by row. Fails likewise. */
size_t ht_gptq_coupled_bytes(size_t rows);
ht_status ht_gptq_sweep_coupled(const ht_gptq_state *s, const float *damped);

#endif
