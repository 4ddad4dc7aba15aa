/* Scale search by weighted least squares.
 *
 * Rounding with a trial scale gives codes; given the codes, the best scale (and minimum) is a linear problem with a
 * closed solution. So: walk over some trial scales around the one that just covers the range, solve each, keep the
 * best. The weights say how much an error on a value matters; the callers choose them (formats specification,
 * section 8.5). All sums are f32 in index order over values normalized to [1, 2), so they neither overflow nor depend
 * on anything else.
 * SPDX-License-Identifier: BSD-3-Clause */
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

enum { LANES = 8, MOST = 32 }; /* partial sums; values of a sub-block at most, a multiple of LANES */

/* sum of a[i] * b[i]: eight partial sums, then in order. Vector code gives the same bits. */
static float dot(const float *a, const float *b, int n) {
    float part[LANES] = {0}, sum = 0;
    for (int i = 0; i < n; i += LANES)
        for (int lane = 0; lane < LANES; lane++)
            part[lane] += a[i + lane] * b[i + lane];
    for (int lane = 0; lane < LANES; lane++)
        sum += part[lane];
    return sum;
}

/* A sub-block with what does not depend on the trial. */
typedef struct problem {
    int n;
    const float *x;
    float weight[MOST], weighted[MOST]; /* w and w x */
    float w, wx, wxx;                   /* their sums, and that of w x^2 */
} problem;

static void prepare(problem *p, const float *x, const float *weight, int n) {
    const float one[MOST] = {1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1,
                             1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1};
    p->n = n;
    p->x = x;
    for (int i = 0; i < n; i++) {
        p->weight[i] = weight[i];
        p->weighted[i] = weight[i] * x[i];
    }
    p->w = dot(weight, one, n);
    p->wx = dot(p->weighted, one, n);
    p->wxx = dot(p->weighted, x, n);
}

/* Sums over codes: w q, w q^2, w x q. */
typedef struct sums {
    float q, qq, xq;
} sums;

static sums code_sums(const problem *p, const float *q) {
    float squares[MOST];
    for (int i = 0; i < p->n; i++)
        squares[i] = q[i] * q[i];
    return (sums){dot(p->weight, q, p->n), dot(p->weight, squares, p->n), dot(p->weighted, q, p->n)};
}

/* q = nearest integers (halves to even) of (x - offset) * inverse in [lo, hi]. */
static void round_all(const problem *p, float offset, float inverse, float lo, float hi, float *q) {
    for (int i = 0; i < p->n; i++) {
        float v = (p->x[i] - offset) * inverse;
        v = v > lo ? v : lo;
        v = v < hi ? v : hi;
        q[i] = (v + 0x1.8p23f) - 0x1.8p23f;
    }
}

/* A scale alone: x ~ scale * q. With scale xq / qq the squared error drops from sum(w x^2) by xq^2 / qq, the gain. */
typedef struct best_scale {
    float scale, gain;
} best_scale;

static void offer(best_scale *best, const problem *p, const float *q) {
    sums s = code_sums(p, q);
    if (s.qq > 0 && s.xq * s.xq > best->gain * s.qq) {
        best->gain = s.xq * s.xq / s.qq;
        best->scale = s.xq / s.qq;
    }
}

float ht_fit_symmetric(const float *x, const float *weight, int n, int half) {
    float max = largest(x, n), q[MOST];
    best_scale best = {0, 0};
    problem p;
    if (max == 0)
        return 0;
    prepare(&p, x, weight, n);
    for (int step = -9; step <= 9; step++) {
        float inverse = -((float)half + 0.1f * (float)step) / max;
        round_all(&p, 0, inverse, (float)-half, (float)(half - 1), q);
        offer(&best, &p, q);
    }
    return best.scale;
}

typedef struct line { /* x ~ scale * q + offset */
    float scale, offset, error;
} line;

/* Best line through (code, x), offset <= 0, for given codes; its error is that of those codes. */
static line solve(const problem *p, const float *q) {
    sums s = code_sums(p, q);
    line l = {0, 0, INFINITY};
    float determinant = p->w * s.qq - s.q * s.q;
    if (!(s.qq > 0))
        return l; /* every code 0 */
    if (determinant > 1e-5f * p->w * s.qq) {
        l.scale = (p->w * s.xq - p->wx * s.q) / determinant;
        l.offset = (s.qq * p->wx - s.q * s.xq) / determinant;
    }
    if (l.offset > 0 || l.scale == 0) { /* also when all codes are equal and no line is determined */
        l.offset = 0;
        l.scale = s.xq / s.qq;
    }
    l.error = p->wxx + l.scale * l.scale * s.qq + l.offset * l.offset * p->w - 2 * l.scale * s.xq -
              2 * l.offset * p->wx + 2 * l.scale * l.offset * s.q;
    return l;
}

float ht_fit_affine(const float *x, const float *weight, int n, int top, float *minus) {
    float min = x[0], max = x[0], q[MOST];
    problem p;
    for (int i = 1; i < n; i++) {
        min = x[i] < min ? x[i] : min;
        max = x[i] > max ? x[i] : max;
    }
    min = min > 0 ? 0 : min;
    *minus = -min;
    if (!(max > min))
        return 0;
    prepare(&p, x, weight, n);
    line best = {(max - min) / (float)top, min, INFINITY};
    for (int step = -1; step <= 20; step++) { /* -1: the plain range */
        float levels = step < 0 ? (float)top : (float)top - 1.0f + 0.1f * (float)step;
        round_all(&p, min, levels / (max - min), 0, (float)top, q);
        line trial = solve(&p, q);
        if (trial.error < best.error && trial.scale > 0)
            best = trial;
    }
    for (int round = 0; round < 4; round++) { /* codes for the line, a line for the codes, while it gets better */
        round_all(&p, best.offset, 1.0f / best.scale, 0, (float)top, q);
        line next = solve(&p, q);
        if (!(next.error < best.error) || !(next.scale > 0))
            break;
        best = next;
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

/* q = the table's nearest values of x * inverse: the first one, plus every step whose midpoint is passed. */
static void nearest_all(const problem *p, float inverse, const int8_t *table, float *q) {
    for (int i = 0; i < p->n; i++)
        q[i] = (float)table[0];
    for (int code = 1; code < 16; code++) {
        float middle = 0.5f * (float)(table[code - 1] + table[code]), rise = (float)(table[code] - table[code - 1]);
        for (int i = 0; i < p->n; i++)
            q[i] += p->x[i] * inverse > middle ? rise : 0;
    }
}

float ht_fit_table(const float *x, const float *weight, int n, const int8_t *table) {
    float max = largest(x, n), q[MOST];
    best_scale best = {0, 0};
    problem p;
    if (max == 0)
        return 0;
    prepare(&p, x, weight, n);
    for (int trial = 0; trial < 30; trial++) {
        /* The largest value near the lower end of the table, then near the upper one. */
        float end = (float)(trial < 15 ? table[0] : table[15]) + (float)(trial % 15 - 7);
        nearest_all(&p, end / max, table, q);
        offer(&best, &p, q);
    }
    return best.scale;
}
