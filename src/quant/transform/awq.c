/* AWQ: scales of inputs from their mean magnitude, the exponent chosen by what rounding then costs.
 *
 *     point i of g: r = i / g, s = max(m^r, 1e-4), m = mean |x| of the channel
 *     duo:          s = max(m^r / (v^(1-r) + 1e-4), 1e-4), v = mean over rows of |w| / max |w| of its group; point 0: 1
 *     both scaled by 1 / sqrt(max s * min s)
 *     loss(s) = sum over readers of tr((W - Q(W s) / s) H (W - Q(W s) / s)^T)
 *
 * or the error of the block's output over a few samples (parent.h; setting loss=block).
 * The first needs H = sum x x^T alone, no stored inputs. Point 0 of the grid is s = 1, so that the choice is never
 * worse than none by its own measure. Source: algorithms specification, section 2.2; Lin et al., 2023.
 * SPDX-License-Identifier: BSD-3-Clause */
#include "quant/transform/scaling.h"

#include <math.h>   /* fabsf, sqrt */
#include <string.h> /* memcpy */

#include "base/memory.h"
#include "base/status.h"
#include "quant/transform/power.h"

/* Buffers of the search: one reader at a time. */
typedef struct search {
    const ht_scaling_problem *problem;
    float *scaled, *decoded; /* [most rows, cols] */
    uint8_t *planes[HT_PLANE_COUNT];
    double *mean, *weight; /* [channels] */
    float *try;            /* [channels] */
} search;

void ht_awq_candidate(const double *mean, const double *weight, size_t channels, size_t point, size_t grid,
                      float *scale) {
    double r = (double)point / (double)grid, low = HUGE_VAL, high = 0;
    for (size_t c = 0; c < channels; c++) {
        double s = point == 0 ? 1 : ht_power(mean[c], r);
        if (weight && point)
            s /= ht_power(weight[c], 1 - r) + 1e-4;
        s = s > 1e-4 ? s : 1e-4;
        low = s < low ? s : low;
        high = s > high ? s : high;
        scale[c] = (float)s;
    }
    double middle = sqrt(low * high);
    for (size_t c = 0; c < channels && point; c++)
        scale[c] = (float)((double)scale[c] / middle);
}

/* --- Statistics ------------------------------------------------------------------------------------------------ */

static void means_of_inputs(const ht_scaling_problem *p, double *mean) {
    double tokens = p->input->tokens ? (double)p->input->tokens : 1;
    for (size_t j = 0; j < p->cols; j++)
        mean[ht_scaling_channel(p, j)] += p->input->abs_sum[j] / tokens * (double)p->channels / (double)p->cols;
}

/* Group of a row that shares a scale. */
static size_t group_of(const ht_scaling_reader *reader, size_t cols) {
    size_t group = reader->format ? reader->format->block_cols : 0;
    return group && group < cols ? group : cols;
}

static void means_of_weights(const ht_scaling_problem *p, double *mean) {
    double rows = 0;
    for (size_t i = 0; i < p->readers; i++) {
        const ht_scaling_reader *reader = &p->reader[i];
        size_t group = group_of(reader, p->cols);
        rows += (double)reader->rows;
        for (size_t r = 0; r < reader->rows; r++)
            for (size_t first = 0; first < p->cols; first += group) {
                const float *w = reader->weight + r * p->cols;
                size_t end = first + group < p->cols ? first + group : p->cols;
                float amax = 0;
                for (size_t j = first; j < end; j++)
                    amax = fabsf(w[j]) > amax ? fabsf(w[j]) : amax;
                for (size_t j = first; j < end && amax > 0; j++)
                    mean[ht_scaling_channel(p, j)] += (double)(fabsf(w[j]) / amax);
            }
    }
    for (size_t c = 0; c < p->channels; c++)
        mean[c] *= (double)p->channels / ((double)p->cols * rows);
}

/* --- Loss ------------------------------------------------------------------------------------------------------- */

/* What the reader's weight becomes, scaled, rounded and scaled back, in `decoded`. */
static ht_status round_scaled(const search *s, const ht_scaling_reader *reader, const float *scale) {
    const ht_scaling_problem *p = s->problem;
    size_t values = reader->rows * p->cols;
    for (size_t i = 0; i < values; i++)
        s->scaled[i] = reader->weight[i] * scale[ht_scaling_channel(p, i % p->cols)];
    ht_matrix_result result = {.decoded = s->decoded};
    for (int plane = 0; plane < HT_PLANE_COUNT; plane++)
        result.planes.plane[plane] = s->planes[plane];
    ht_range range = ht_range_empty();
    HT_TRY(ht_range_add(&range, s->scaled, HT_F32, values));
    float global = ht_format_global(reader->format, reader->how, &range);
    if (reader->format->global != HT_DTYPE_NONE)
        memcpy(s->planes[HT_PLANE_GLOBAL], &global, sizeof global);
    ht_matrix_problem problem = {.ctx = p->ctx,
                                 .format = reader->format,
                                 .how = reader->how,
                                 .settings = p->settings,
                                 .weight = s->scaled,
                                 .rows = reader->rows,
                                 .cols = p->cols};
    HT_TRY(ht_matrix_round(&problem, NULL, &result));
    for (size_t i = 0; i < values; i++)
        s->decoded[i] /= scale[ht_scaling_channel(p, i % p->cols)];
    return HT_OK;
}

/* By the readers' own outputs, or by the output of the block that they are in. */
static ht_status loss_of(const search *s, const float *scale, double *loss) {
    const ht_scaling_problem *p = s->problem;
    *loss = 0;
    for (size_t i = 0; i < p->readers; i++) {
        const ht_scaling_reader *reader = &p->reader[i];
        if (!reader->format)
            continue;
        HT_TRY(round_scaled(s, reader, scale));
        const ht_matrix_problem own = {.ctx = p->ctx, .weight = reader->weight, .rows = reader->rows, .cols = p->cols};
        if (p->parent)
            ht_parent_set(p->parent, &p->linear[i], s->decoded);
        else
            *loss += ht_matrix_loss(&own, p->input, s->decoded);
    }
    return p->parent ? ht_parent_error(p->parent, loss) : HT_OK;
}

static ht_status choose(const search *s, float *scale) {
    const ht_scaling_problem *p = s->problem;
    size_t grid = (size_t)p->settings->value[HT_SETTING_GRID];
    double least = HUGE_VAL;
    for (size_t c = 0; c < p->channels; c++)
        scale[c] = 1;
    for (size_t point = 0; point < grid; point++) {
        double loss = 0;
        ht_awq_candidate(s->mean, s->weight, p->channels, point, grid, s->try);
        HT_TRY(loss_of(s, s->try, &loss));
        if (loss < least) { /* false for NaN: too few tokens to judge by */
            least = loss;
            memcpy(scale, s->try, p->channels * sizeof *scale);
        }
    }
    for (size_t i = 0; p->parent && i < p->readers; i++)
        ht_parent_set(p->parent, &p->linear[i], p->reader[i].weight);
    return HT_OK;
}

ht_status ht_awq_scales(const ht_scaling_problem *p, float *scale) {
    search s = {.problem = p};
    size_t most = 0, bytes[HT_PLANE_COUNT] = {0}, all = 0;
    for (size_t i = 0; i < p->readers; i++) {
        const ht_scaling_reader *reader = &p->reader[i];
        most = reader->rows > most ? reader->rows : most;
        for (int plane = 0; reader->format && plane < HT_PLANE_COUNT; plane++) {
            size_t need = ht_format_plane_bytes(reader->format, (ht_plane)plane, reader->rows, p->cols);
            need = (need + 63) / 64 * 64;
            bytes[plane] = need > bytes[plane] ? need : bytes[plane];
        }
    }
    for (int plane = 0; plane < HT_PLANE_COUNT; plane++)
        all += bytes[plane];
    uint8_t *planes = NULL;
    int duo = p->settings->value[HT_SETTING_DUO] != 0;
    ht_status status = ht_allocate(p->ctx, 3 * p->channels, sizeof *s.mean, "means of channels", &s.mean);
    if (status == HT_OK)
        status = ht_allocate_raw(p->ctx, 2 * most * p->cols, sizeof *s.scaled, "a scaled matrix", &s.scaled);
    if (status == HT_OK)
        status = ht_allocate_raw(p->ctx, all + 1, 1, "codes", &planes);
    if (status == HT_OK) {
        s.weight = duo ? s.mean + p->channels : NULL;
        s.try = (float *)(s.mean + 2 * p->channels);
        s.decoded = s.scaled + most * p->cols;
        for (int plane = 0; plane < HT_PLANE_COUNT; planes += bytes[plane++])
            s.planes[plane] = bytes[plane] ? planes : NULL;
        planes -= all;
        means_of_inputs(p, s.mean);
        if (duo)
            means_of_weights(p, s.weight);
        status = choose(&s, scale);
    }
    ht_release(p->ctx, planes);
    ht_release(p->ctx, s.scaled);
    ht_release(p->ctx, s.mean);
    return status;
}
