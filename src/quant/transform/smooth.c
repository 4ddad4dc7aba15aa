/* SmoothQuant: half of the inputs' range moves into the weights.
 *
 *     s_j = (max |x_j| + eps)^alpha / (max over rows |w_rj| + eps)^(1 - alpha)
 *
 * over all readers of the input, and over all inputs that come from one channel. A channel that was never anything but
 * zero, or that nobody reads, keeps s = 1. Source: algorithms specification, section 2.1; Xiao et al., 2022.
 * SPDX-License-Identifier: BSD-3-Clause */
#include "quant/transform/scaling.h"

#include <math.h> /* fabsf */

#include "base/memory.h"
#include "base/status.h"
#include "quant/transform/power.h"

static const double eps = 1.1920928955078125e-7, least_scale = 1e-5, largest_scale = 1e5;

static void widen(double *max, double value) {
    if (value > *max)
        *max = value;
}

ht_status ht_smooth_scales(const ht_scaling_problem *problem, float *scale) {
    double alpha = problem->settings->value[HT_SETTING_ALPHA], *x, *w;
    HT_TRY(ht_allocate(problem->ctx, 2 * problem->channels, sizeof *x, "ranges of channels", &x));
    w = x + problem->channels;
    for (size_t j = 0; j < problem->cols; j++) {
        size_t c = ht_scaling_channel(problem, j);
        widen(&x[c], (double)problem->input->abs_max[j]);
        for (size_t i = 0; i < problem->readers; i++)
            for (size_t r = 0; r < problem->reader[i].rows; r++)
                widen(&w[c], (double)fabsf(problem->reader[i].weight[r * problem->cols + j]));
    }
    for (size_t c = 0; c < problem->channels; c++) {
        double s = ht_power(x[c] + eps, alpha) / ht_power(w[c] + eps, 1 - alpha);
        s = s < least_scale ? least_scale : s > largest_scale ? largest_scale : s;
        scale[c] = x[c] > 0 && w[c] > 0 ? (float)s : 1.0f;
    }
    ht_release(problem->ctx, x);
    return HT_OK;
}
