/* Derivatives of the row functions (kernels/rows.h): RMS norm and the gates.
 *
 *     norm  y = r w x, r = 1 / sqrt(mean(x^2) + epsilon):   dx = r (w dy - x r^2 mean(w dy x))
 *     gate  y = g s(z(g)) u, s the logistic function:       dg = (s + g s (1 - s) z') u dy,  du = g s dy
 *
 * exp(-|z|) comes from the softmax kernel, whose bits are the same on every instruction set: of values that are not
 * above its floor 0 it is that. Sums are f64 in one order.
 * SPDX-License-Identifier: BSD-3-Clause */
#include <math.h> /* sqrtf */

#include "model/tape.h"

enum { PIECE = 256 };

void ht_rmsnorm_back(const float *x, const float *weight, size_t n, float epsilon, const float *dy, int add,
                     float *dx) {
    double square = 0, product = 0;
    for (size_t i = 0; i < n; i++) {
        square += (double)x[i] * (double)x[i];
        product += (double)(weight[i] * dy[i]) * (double)x[i];
    }
    double r = 1 / sqrt(square / (double)n + (double)epsilon);
    float scale = (float)r, pull = (float)(r * r * r * product / (double)n);
    for (size_t i = 0; i < n; i++) {
        float d = scale * (weight[i] * dy[i]) - pull * x[i];
        dx[i] = add ? dx[i] + d : d;
    }
}

/* What the rules differ in: z and its derivative; g and u after clamping, and whether they still move. */
typedef struct piece {
    float g[PIECE], u[PIECE], z[PIECE], slope[PIECE], e[PIECE];
    float moves_g[PIECE], moves_u[PIECE];
} piece;

static void load_piece(const ht_gate_function *rule, const float *gate, const float *up, size_t step, size_t n,
                       piece *p) {
    const float root = 1.5957691216057308f; /* 2 sqrt(2 / pi) */
    for (size_t i = 0; i < n; i++) {
        float g = gate[i * step], u = up[i * step];
        p->moves_g[i] = p->moves_u[i] = 1;
        p->z[i] = g;
        p->slope[i] = 1;
        if (rule->rule == HT_GATE_GELU_TANH) {
            p->z[i] = root * (g + 0.044715f * g * g * g);
            p->slope[i] = root * (1 + 3 * 0.044715f * g * g);
        } else if (rule->rule == HT_GATE_CLAMPED) {
            p->moves_g[i] = g > rule->limit ? 0 : 1;
            p->moves_u[i] = u > rule->limit || u < -rule->limit ? 0 : 1;
            g = g > rule->limit ? rule->limit : g;
            u = u > rule->limit ? rule->limit : u;
            u = u < -rule->limit ? -rule->limit : u;
            u += 1;
            p->z[i] = rule->alpha * g;
            p->slope[i] = rule->alpha;
        }
        p->g[i] = g;
        p->u[i] = u;
        p->e[i] = p->z[i] < 0 ? p->z[i] : -p->z[i];
    }
}

void ht_gate_back(const ht_gate_function *rule, ht_softmax_fn *softmax, const float *gate, const float *up, size_t step,
                  size_t n, const float *dy, float *d_gate, float *d_up) {
    piece p;
    for (size_t at = 0; at < n; at += PIECE) {
        size_t count = n - at < PIECE ? n - at : PIECE;
        float top;
        load_piece(rule, gate + at * step, up + at * step, step, count, &p);
        softmax(p.e, count, 0, p.e, &top);
        for (size_t i = 0; i < count; i++) {
            float s = (p.z[i] < 0 ? p.e[i] : 1) / (1 + p.e[i]), d = dy[at + i];
            d_gate[(at + i) * step] = (s + p.g[i] * s * (1 - s) * p.slope[i]) * p.u[i] * d * p.moves_g[i];
            d_up[(at + i) * step] = p.g[i] * s * d * p.moves_u[i];
        }
    }
}
