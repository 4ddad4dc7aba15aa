/* The public face of moments.h and matrix.h: one linear, without a model around it. Refuses methods that see no inputs.
 * SPDX-License-Identifier: BSD-3-Clause */
#include <halftone/observe.h>

#include <math.h>   /* NAN */
#include <string.h> /* memcpy, strchr */

#include "base/status.h"
#include "quant/method/methods.h"
#include "quant/calibrate/moments.h"

_Static_assert((int)HT_OBSERVE_RANGE == (int)HT_MOMENT_RANGE && (int)HT_OBSERVE_MEAN == (int)HT_MOMENT_MEAN &&
                   (int)HT_OBSERVE_SECOND == (int)HT_MOMENT_SECOND &&
                   (int)HT_OBSERVE_HISTOGRAM == (int)HT_MOMENT_HISTOGRAM &&
                   (int)HT_OBSERVE_COLUMNS == (int)HT_MOMENT_COLUMNS,
               "the same bits");

enum { KINDS = HT_OBSERVE_RANGE | HT_OBSERVE_MEAN | HT_OBSERVE_SECOND | HT_OBSERVE_HISTOGRAM | HT_OBSERVE_COLUMNS };

ht_status ht_observer_create(ht_context *ctx, size_t features, unsigned what, ht_observer **out) {
    *out = NULL;
    if (!what || what & ~(unsigned)KINDS)
        return ht_fail(HT_ERR_ARGUMENT, "observer: kinds %#x; allowed are bits of %#x", what, (unsigned)KINDS);
    return ht_moments_create(ctx, features, what, out);
}

void ht_observer_destroy(ht_observer *observer) {
    ht_moments_destroy(observer);
}

ht_status ht_observer_add(ht_observer *observer, const float *x, size_t rows, size_t stride) {
    return ht_moments_add(observer, x, NULL, rows, stride);
}

ht_status ht_observer_finish(ht_observer *observer) {
    return ht_moments_finish(observer);
}

ht_status ht_observer_merge(ht_observer *into, const ht_observer *from) {
    return ht_moments_merge(into, from);
}

ht_observation ht_observer_read(const ht_observer *m) {
    return (ht_observation){.features = m->cols,
                            .rows = m->tokens,
                            .not_finite = m->not_finite,
                            .abs_max = m->abs_max,
                            .min = m->min,
                            .max = m->max,
                            .abs_sum = m->abs_sum,
                            .square_sum = m->square_sum,
                            .second = m->second};
}

ht_status ht_observer_quantile(const ht_observer *m, long feature, int magnitudes, double share, double *value,
                               double *width) {
    const ht_histogram *h = feature == HT_OBSERVE_ALL ? m->histogram : m->columns;
    size_t line = feature == HT_OBSERVE_ALL ? 0 : (size_t)feature;
    if (!h)
        return ht_fail(HT_ERR_ARGUMENT, "observer: no histogram of %s is kept",
                       feature == HT_OBSERVE_ALL ? "all values" : "features");
    if (feature < HT_OBSERVE_ALL || line >= h->lines)
        return ht_fail(HT_ERR_ARGUMENT, "observer: feature %ld of %zu", feature, m->cols);
    if (m->waiting)
        return ht_fail(HT_ERR_ARGUMENT, "observer: rows wait to be added; finish it first");
    if (!(share >= 0 && share <= 1))
        return ht_fail(HT_ERR_ARGUMENT, "observer: a share of %g; allowed: 0 to 1", share);
    *value = magnitudes ? ht_histogram_magnitude(h, line, share) : ht_histogram_quantile(h, line, share);
    if (width)
        *width = ht_histogram_width(h, line);
    return HT_OK;
}

static ht_status read_settings(const char *method, const char *const *set, ht_settings *out) {
    ht_settings said = ht_settings_unset();
    for (size_t i = 0; set && set[i]; i++) {
        char name[64];
        const char *equals = strchr(set[i], '=');
        size_t length = equals ? (size_t)(equals - set[i]) : 0;
        if (!length || length >= sizeof name)
            return ht_fail(HT_ERR_ARGUMENT, "setting \"%.64s\" is not NAME=VALUE", set[i]);
        memcpy(name, set[i], length);
        name[length] = 0;
        HT_TRY(ht_settings_set(&said, method, name, equals + 1));
    }
    *out = ht_settings_resolve(&said, method);
    return HT_OK;
}

/* The format's number of the whole matrix. */
static ht_status set_global(const ht_matrix_problem *problem, const ht_planes *planes) {
    if (problem->format->global == HT_DTYPE_NONE)
        return HT_OK;
    ht_range range = ht_range_empty();
    HT_TRY(ht_range_add(&range, problem->weight, HT_F32, problem->rows * problem->cols));
    float global = ht_format_global(problem->format, problem->how, &range);
    memcpy(planes->plane[HT_PLANE_GLOBAL], &global, sizeof global);
    return HT_OK;
}

ht_status ht_quantize_observed(ht_context *ctx, const ht_format *format, const ht_row_options *options,
                               const char *method, const char *const *set, const float *weight, size_t rows,
                               size_t cols, const ht_observer *inputs, const ht_planes *planes, float *decoded,
                               ht_observed_result *out) {
    const ht_method *row;
    ht_settings settings;
    ht_row_options how = options ? *options : ht_row_options_default();
    HT_TRY(ht_method_find(method, &row));
    if (!row->matrix)
        return ht_fail(HT_ERR_ARGUMENT, "method %s looks at no inputs", row->item.name);
    HT_TRY(read_settings(row->item.name, set, &settings));
    HT_TRY(ht_format_check_shape(format, rows, cols));
    if (inputs && inputs->cols != cols)
        return ht_fail(HT_ERR_SHAPE, "inputs of %zu features, a matrix of %zu columns", inputs->cols, cols);
    unsigned needs = row->moments ? row->moments(&settings) : 0;
    if (inputs && needs & ~inputs->what)
        return ht_fail(HT_ERR_ARGUMENT, "method %s needs statistics %#x of the inputs, %#x are kept", row->item.name,
                       needs, inputs->what);
    ht_matrix_problem problem = {.ctx = ctx,
                                 .format = format,
                                 .how = &how,
                                 .settings = &settings,
                                 .weight = weight,
                                 .rows = rows,
                                 .cols = cols,
                                 .input = inputs};
    ht_matrix_result result = {.planes = *planes,
                               .decoded = decoded,
                               .loss = (double)NAN,
                               .rtn_loss = (double)NAN,
                               .held_out_loss = (double)NAN,
                               .held_out_rtn_loss = (double)NAN};
    HT_TRY(set_global(&problem, planes));
    HT_TRY(row->matrix(&problem, &result));
    if (out)
        *out = (ht_observed_result){.loss = result.loss,
                                    .rtn_loss = result.rtn_loss,
                                    .damping = result.damping,
                                    .dead_columns = result.dead_columns,
                                    .fallback = result.fallback};
    return HT_OK;
}
