/* Scale search by weighted least squares.
 *
 * Rounding with a trial scale gives codes; given the codes, the best scale (and minimum) is a linear problem with a
 * closed solution. So: walk over some trial scales around the one that just covers the range, solve each, keep the
 * best. The weights say how much an error on a value matters; the callers choose them (formats specification,
 * section 8.5). All sums are f32 in index order over values normalized to [1, 2), so they neither overflow nor depend
 * on anything else. SPDX-License-Identifier: BSD-3-Clause */
#include "format/gguf_fit.h"

#include <math.h>   /* fabsf, frexpf, ldexpf */
#include <string.h> /* memcpy */

int ht_fit_round(float v, int lo, int hi) {
    if (!(v > (float)lo))
        return lo;
    if (v >= (float)hi)
        return hi;
    float shifted = v + 0x1.8p23f; /* the sum's last bit is worth one: the addition rounds to nearest even */
    uint32_t bits;
    memcpy(&bits, &shifted, sizeof bits);
    return (int)(bits & 0x7fffff) - 0x400000;
}

int ht_fit_normalize(const float *x, int n, float *y) {
    float amax = 0;
    for (int i = 0; i < n; i++)
        amax = fabsf(x[i]) > amax ? fabsf(x[i]) : amax;
    int exponent = 0;
    if (amax > 0) {
        frexpf(amax, &exponent);
        exponent -= 1;
    }
    /* Two exact steps: 2^-exponent alone may be outside f32. */
    float half_way = ldexpf(1.0f, -exponent / 2), rest = ldexpf(1.0f, -exponent - (-exponent / 2));
    for (int i = 0; i < n; i++)
        y[i] = x[i] * half_way * rest;
    return exponent;
}

static float largest(const float *x, int n) {
    float best = x[0];
    for (int i = 1; i < n; i++)
        best = fabsf(x[i]) > fabsf(best) ? x[i] : best;
    return best;
}

float ht_fit_symmetric(const float *x, const float *weight, int n, int half) {
    float max = largest(x, n), best_scale = 0, best_gain = 0;
    if (max == 0)
        return 0;
    for (int step = -9; step <= 9; step++) {
        float inverse = -((float)half + 0.1f * (float)step) / max;
        float xq = 0, qq = 0;
        for (int i = 0; i < n; i++) {
            float q = (float)ht_fit_round(x[i] * inverse, -half, half - 1);
            xq += weight[i] * x[i] * q;
            qq += weight[i] * q * q;
        }
        /* With scale xq / qq the squared error drops from sum(w x^2) by xq^2 / qq. */
        if (qq > 0 && xq * xq > best_gain * qq) {
            best_gain = xq * xq / qq;
            best_scale = xq / qq;
        }
    }
    return best_scale;
}

typedef struct line { /* x ~ scale * q + offset */
    float scale, offset, error;
} line;

/* Best line through (code, x), offset <= 0, for the codes that a trial line gives; its error is that of those codes. */
static line solve(const float *x, const float *weight, int n, int top, float trial_inverse, float trial_offset) {
    float w1 = 0, wq = 0, wqq = 0, wx = 0, wxq = 0, wxx = 0;
    for (int i = 0; i < n; i++) {
        float q = (float)ht_fit_round((x[i] - trial_offset) * trial_inverse, 0, top), w = weight[i];
        w1 += w;
        wq += w * q;
        wqq += w * q * q;
        wx += w * x[i];
        wxq += w * x[i] * q;
        wxx += w * x[i] * x[i];
    }
    line l = {0, 0, INFINITY};
    float determinant = w1 * wqq - wq * wq;
    if (!(wqq > 0))
        return l; /* every code 0 */
    if (determinant > 1e-5f * w1 * wqq) {
        l.scale = (w1 * wxq - wx * wq) / determinant;
        l.offset = (wqq * wx - wq * wxq) / determinant;
    }
    if (l.offset > 0 || l.scale == 0) { /* also when all codes are equal and no line is determined */
        l.offset = 0;
        l.scale = wxq / wqq;
    }
    l.error = wxx + l.scale * l.scale * wqq + l.offset * l.offset * w1 - 2 * l.scale * wxq - 2 * l.offset * wx +
              2 * l.scale * l.offset * wq;
    return l;
}

float ht_fit_affine(const float *x, const float *weight, int n, int top, float *minus) {
    float min = x[0], max = x[0];
    for (int i = 1; i < n; i++) {
        min = x[i] < min ? x[i] : min;
        max = x[i] > max ? x[i] : max;
    }
    min = min > 0 ? 0 : min;
    *minus = -min;
    if (!(max > min))
        return 0;
    line best = {(max - min) / (float)top, min, INFINITY};
    for (int step = -1; step <= 20; step++) { /* -1: the plain range */
        float levels = step < 0 ? (float)top : (float)top - 1.0f + 0.1f * (float)step;
        line trial = solve(x, weight, n, top, levels / (max - min), min);
        if (trial.error < best.error && trial.scale > 0)
            best = trial;
    }
    *minus = -best.offset;
    return best.scale;
}

int ht_fit_nearest(const int8_t *table, float v) {
    int low = 0;
    for (int step = 8; step > 0; step /= 2) /* the last entry whose lower midpoint is below v */
        if (v > 0.5f * ((float)table[low + step - 1] + (float)table[low + step]))
            low += step;
    return low;
}

float ht_fit_table(const float *x, const float *weight, int n, const int8_t *table) {
    float max = largest(x, n), best_scale = 0, best_gain = 0;
    if (max == 0)
        return 0;
    for (int trial = 0; trial < 30; trial++) {
        /* The largest value near the lower end of the table, then near the upper one. */
        float end = (float)(trial < 15 ? table[0] : table[15]) + (float)(trial % 15 - 7);
        float inverse = end / max;
        float xq = 0, qq = 0;
        for (int i = 0; i < n; i++) {
            float q = (float)table[ht_fit_nearest(table, x[i] * inverse)];
            xq += weight[i] * x[i] * q;
            qq += weight[i] * q * q;
        }
        if (qq > 0 && xq * xq > best_gain * qq) {
            best_gain = xq * xq / qq;
            best_scale = xq / qq;
        }
    }
    return best_scale;
}
