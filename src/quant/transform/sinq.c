/* SINQ: columns scaled so that every one of them is spread as wide as the others, once rows have been, too.
 *
 *     u = 1 by group of a row, t = 1 by column;  repeat
 *         t_j *= d(column j) / least,  u_i *= d(group i) / least     d: deviation of the values w_ij / (u_i t_j)
 *                                                                    least: the smallest of all that is not 0
 *     kept: the t under which the largest deviation is the smallest multiple of the least
 *
 * Rows' factors are what the scales of groups are, so they are dropped; t is taken out of the columns and put into what
 * the inputs come from, one for all readers of an input. Deviations are of all readers together, columns of one channel
 * together. Looks at no text. A column of zeros, or all equal, keeps t = 1.
 * Source: algorithms specification, section 2.3; Mueller et al. 2025, arXiv:2509.22944.
 * SPDX-License-Identifier: BSD-3-Clause */
#include "quant/transform/scaling.h"

#include <math.h>   /* sqrt */
#include <string.h> /* memcpy */

#include "base/memory.h"
#include "base/status.h"

static const double LARGEST_SCALE = 1e5;

typedef struct spread {
    double count, sum, square;
} spread;

typedef struct sinkhorn {
    const ht_scaling_problem *problem;
    size_t groups;          /* of all rows of all readers */
    double *column, *group; /* 1 / t by channel, 1 / u */
    double *best;           /* of `column` */
    spread *of_column, *of_group;
} sinkhorn;

static size_t width_of(const ht_scaling_problem *p, const ht_scaling_reader *reader) {
    size_t width = reader->format ? reader->format->block_cols : 0;
    return width && width < p->cols ? width : p->cols;
}

static void add(spread *s, double value) {
    s->count += 1;
    s->sum += value;
    s->square += value * value;
}

/* Zero where all values are the same: nothing to even out. */
static double deviation(const spread *s) {
    double mean = s->count > 0 ? s->sum / s->count : 0;
    double variance = s->count > 0 ? s->square / s->count - mean * mean : 0;
    return variance > 1e-12 * mean * mean ? sqrt(variance) : 0;
}

/* Sums of the values as they are under the factors. */
static void measure(const sinkhorn *s) {
    const ht_scaling_problem *p = s->problem;
    size_t group = 0;
    memset(s->of_column, 0, p->channels * sizeof *s->of_column);
    memset(s->of_group, 0, s->groups * sizeof *s->of_group);
    for (size_t i = 0; i < p->readers; i++) {
        const ht_scaling_reader *reader = &p->reader[i];
        size_t width = width_of(p, reader);
        for (size_t r = 0; r < reader->rows; r++)
            for (size_t first = 0; first < p->cols; first += width, group++)
                for (size_t j = first; j < first + width && j < p->cols; j++) {
                    size_t c = ht_scaling_channel(p, j);
                    double value = (double)reader->weight[r * p->cols + j] * s->column[c] * s->group[group];
                    add(&s->of_column[c], value);
                    add(&s->of_group[group], value);
                }
    }
}

static void widen(const spread *list, size_t count, double *least, double *most) {
    for (size_t i = 0; i < count; i++) {
        double d = deviation(&list[i]);
        *least = d > 0 && d < *least ? d : *least;
        *most = d > *most ? d : *most;
    }
}

static void divide(double *factor, const spread *list, size_t count, double least) {
    for (size_t i = 0; i < count; i++) {
        double d = deviation(&list[i]);
        if (d > 0)
            factor[i] *= least / d;
    }
}

static void iterate(sinkhorn *s, size_t rounds) {
    const ht_scaling_problem *p = s->problem;
    double flattest = HUGE_VAL;
    for (size_t round = 0; round <= rounds; round++) {
        double least = HUGE_VAL, most = 0;
        measure(s);
        widen(s->of_column, p->channels, &least, &most);
        widen(s->of_group, s->groups, &least, &most);
        if (!(most > 0))
            return;
        if (most / least < flattest) {
            flattest = most / least;
            memcpy(s->best, s->column, p->channels * sizeof *s->best);
        }
        divide(s->column, s->of_column, p->channels, least);
        measure(s);
        divide(s->group, s->of_group, s->groups, least);
    }
}

/* Around 1, within limits that keep products finite. */
static void finish(const sinkhorn *s, float *scale) {
    size_t channels = s->problem->channels;
    double low = HUGE_VAL, high = 0;
    for (size_t c = 0; c < channels; c++) {
        low = s->best[c] < low ? s->best[c] : low;
        high = s->best[c] > high ? s->best[c] : high;
    }
    double middle = sqrt(low) * sqrt(high);
    for (size_t c = 0; c < channels; c++) {
        double value = s->best[c] / middle;
        value = value < 1 / LARGEST_SCALE ? 1 / LARGEST_SCALE : value > LARGEST_SCALE ? LARGEST_SCALE : value;
        scale[c] = (float)value;
    }
}

ht_status ht_sinq_scales(const ht_scaling_problem *p, float *scale) {
    sinkhorn s = {.problem = p};
    for (size_t i = 0; i < p->readers; i++)
        s.groups += p->reader[i].rows * ((p->cols + width_of(p, &p->reader[i]) - 1) / width_of(p, &p->reader[i]));
    for (size_t i = 0; i < p->readers; i++)
        for (size_t v = 0; v < p->reader[i].rows * p->cols; v++)
            if (!isfinite(p->reader[i].weight[v]))
                return ht_fail(HT_ERR_NUMERIC, "sinq: weight [%zu, %zu] of reader %zu is not finite", v / p->cols,
                               v % p->cols, i);
    HT_TRY(ht_allocate(p->ctx, 2 * p->channels + s.groups, sizeof *s.column, "factors of columns", &s.column));
    ht_status status =
        ht_allocate(p->ctx, p->channels + s.groups, sizeof *s.of_column, "deviations of columns", &s.of_column);
    if (status == HT_OK) {
        s.best = s.column + p->channels;
        s.group = s.best + p->channels;
        s.of_group = s.of_column + p->channels;
        for (size_t i = 0; i < 2 * p->channels + s.groups; i++)
            s.column[i] = 1;
        iterate(&s, (size_t)p->settings->value[HT_SETTING_ITERATIONS]);
        finish(&s, scale);
    }
    ht_release(p->ctx, s.of_column);
    ht_release(p->ctx, s.column);
    return status;
}
