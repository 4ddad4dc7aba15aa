/* Hadamard transform of length n = 2^k K: butterflies for the power of two, a dense K x K sign matrix for the rest.
 *
 * The row is read as a [K, 2^k] matrix; butterflies run along its rows, then the sign matrix mixes them. The sign
 * matrices are built, not stored: K = q + 1,    q = 3 mod 4 prime: Paley's first construction      12 20 44 60 108 140
 *     K = 2(q + 1), q = 1 mod 4 prime: Paley's second construction     28 36
 *     K = 4 m: Williamson's array of four symmetric circulant blocks   52 156 172
 *     K = 40: twice the matrix of 20
 * K is fixed by the odd part of n (5: 40 when it fits, else 20). The matrices and their order are those of the
 * published "QuaRot" and "SpinQuant" rotations, so that rotated checkpoints agree. Refuses: every other length. Source:
 * the algorithms specification (rotations); Paley 1933; Williamson 1944; golden vectors in tests/data.
 * SPDX-License-Identifier: BSD-3-Clause */
#include "format/hadamard.h"

#include <math.h>   /* sqrt */
#include <string.h> /* memset */

#include "base/status.h"

typedef struct recipe recipe;
struct recipe {
    unsigned order;
    void (*build)(ht_hadamard *h, const recipe *r);
    unsigned prime;       /* Paley */
    const char *block[4]; /* Williamson: first rows of the circulant blocks A B C D */
};

/* legendre[a] = 1 when a is a square modulo the prime, -1 when not, 0 for 0. */
static void legendre(unsigned prime, int8_t *symbol) {
    memset(symbol, -1, prime);
    symbol[0] = 0;
    for (unsigned a = 1; a < prime; a++)
        symbol[a * a % prime] = 1;
}

/* 1 in the first column, -1 in the rest of the first row; inside: legendre(i - j), and 1 on the diagonal. */
static void paley_first(ht_hadamard *h, const recipe *r) {
    int8_t symbol[HT_HADAMARD_MAX_ORDER];
    unsigned q = r->prime;
    legendre(q, symbol);
    for (unsigned i = 0; i <= q; i++)
        for (unsigned j = 0; j <= q; j++)
            h->sign[i][j] = j == 0 || i == j ? 1 : i == 0 ? -1 : symbol[(i + q - j) % q];
}

/* With C the symmetric matrix [0 1; 1 legendre(i - j)]: [C + I, C - I; C - I, -C - I]. */
static void paley_second(ht_hadamard *h, const recipe *r) {
    int8_t symbol[HT_HADAMARD_MAX_ORDER];
    unsigned q = r->prime, half = q + 1;
    legendre(q, symbol);
    for (unsigned i = 0; i < half; i++) {
        for (unsigned j = 0; j < half; j++) {
            int c = i == j ? 0 : i == 0 || j == 0 ? 1 : symbol[(i + q - j) % q];
            h->sign[i][j] = (int8_t)(i == j ? 1 : c);
            h->sign[i][j + half] = h->sign[i + half][j] = (int8_t)(i == j ? -1 : c);
            h->sign[i + half][j + half] = (int8_t)(i == j ? -1 : -c);
        }
    }
}

/* [A B C D; -B A -D C; -C D A -B; -D -C B A], each block circulant: row i is the first row shifted right by i. */
static void williamson(ht_hadamard *h, const recipe *r) {
    static const struct {
        int8_t sign;
        uint8_t block;
    } array[4][4] = {{{1, 0}, {1, 1}, {1, 2}, {1, 3}},
                     {{-1, 1}, {1, 0}, {-1, 3}, {1, 2}},
                     {{-1, 2}, {1, 3}, {1, 0}, {-1, 1}},
                     {{-1, 3}, {-1, 2}, {1, 1}, {1, 0}}};
    unsigned m = r->order / 4;
    for (unsigned i = 0; i < r->order; i++) {
        for (unsigned j = 0; j < r->order; j++) {
            int positive = r->block[array[i / m][j / m].block][(j % m + m - i % m) % m] == '+';
            h->sign[i][j] = (int8_t)(array[i / m][j / m].sign * (positive ? 1 : -1));
        }
    }
}

/* [H H; H -H] of the first construction. */
static void doubled(ht_hadamard *h, const recipe *r) {
    unsigned half = r->order / 2;
    paley_first(h, r);
    for (unsigned i = 0; i < half; i++) {
        for (unsigned j = 0; j < half; j++) {
            h->sign[i][j + half] = h->sign[i + half][j] = h->sign[i][j];
            h->sign[i + half][j + half] = (int8_t)-h->sign[i][j];
        }
    }
}

static void none(ht_hadamard *h, const recipe *r) {
    (void)r;
    h->sign[0][0] = 1;
}

/* In the order in which they are tried. */
static const recipe recipes[] = {
    {172,
     williamson,
     0,
     {"+---++--++++-+-+++-++--++-+++-+-++++--++---", "++-++++++----+-+--++-++-++--+-+----++++++-+",
      "+++-+-++--+-+-++++-+----+-++++-+-+--++-+-++", "++---++++-+--+--++--------++--+--+-++++---+"}},
    {156,
     williamson,
     0,
     {"+++--+-+-----+--++----++--+-----+-+--++", "++++---+--++----+-+--+-+----++--+---+++",
      "+++--++-+---+-+--+----+--+-+---+-++--++", "+---++-+-+-----+++-++-+++-----+-+-++---"}},
    {140, paley_first, 139, {0}},
    {108, paley_first, 107, {0}},
    {60, paley_first, 59, {0}},
    {52, williamson, 0, {"+-+--++++--+-", "+---++++++---", "++-+--++--+-+", "+----+--+----"}},
    {44, paley_first, 43, {0}},
    {36, paley_second, 17, {0}},
    {28, paley_second, 13, {0}},
    {40, doubled, 19, {0}},
    {20, paley_first, 19, {0}},
    {12, paley_first, 11, {0}},
    {1, none, 0, {0}},
};

static const recipe *find(size_t n) {
    for (size_t i = 0; i < sizeof recipes / sizeof *recipes; i++) {
        size_t rest = n / recipes[i].order;
        if (n % recipes[i].order == 0 && rest > 0 && (rest & (rest - 1)) == 0)
            return &recipes[i];
    }
    return NULL;
}

int ht_hadamard_exists(size_t n) {
    return find(n) != NULL;
}

/* The largest length below n and the smallest above, n not being one. */
static void neighbours(size_t n, size_t *below, size_t *above) {
    for (size_t i = 0; i < sizeof recipes / sizeof *recipes; i++) {
        size_t length = recipes[i].order;
        while (length < n && length <= SIZE_MAX / 2) {
            *below = length > *below ? length : *below;
            length *= 2;
        }
        if (length > n && length < *above)
            *above = length;
    }
}

ht_status ht_hadamard_init(ht_hadamard *h, size_t n) {
    const recipe *r = find(n);
    if (!r) {
        size_t below = 0, above = SIZE_MAX;
        neighbours(n, &below, &above);
        return ht_fail(HT_ERR_SHAPE, "no Hadamard transform of length %zu: the nearest are %zu and %zu", n, below,
                       above);
    }
    memset(h, 0, sizeof *h);
    h->n = n;
    h->order = r->order;
    r->build(h, r);
    return HT_OK;
}

static void butterflies(float *x, size_t n) {
    for (size_t half = 1; half < n; half *= 2) {
        for (size_t start = 0; start < n; start += 2 * half) {
            for (size_t i = start; i < start + half; i++) {
                float a = x[i], b = x[i + half];
                x[i] = a + b;
                x[i + half] = a - b;
            }
        }
    }
}

enum { TILE = 16 }; /* columns mixed at a time */

/* x [order, width] = T x (or its transpose), then times scale. */
static void mix(const ht_hadamard *h, float *x, size_t width, int transposed, double scale) {
    float tile[HT_HADAMARD_MAX_ORDER][TILE];
    for (size_t at = 0; at < width; at += TILE) {
        size_t count = width - at < TILE ? width - at : TILE;
        for (unsigned j = 0; j < h->order; j++)
            for (size_t c = 0; c < count; c++)
                tile[j][c] = x[j * width + at + c];
        for (unsigned i = 0; i < h->order; i++) {
            double sum[TILE] = {0};
            for (unsigned j = 0; j < h->order; j++) {
                double sign = transposed ? h->sign[j][i] : h->sign[i][j];
                for (size_t c = 0; c < count; c++)
                    sum[c] += sign * (double)tile[j][c];
            }
            for (size_t c = 0; c < count; c++)
                x[i * width + at + c] = (float)(sum[c] * scale);
        }
    }
}

void ht_hadamard_apply(const ht_hadamard *h, float *x, size_t rows, int transposed) {
    size_t width = h->n / h->order;
    double scale = 1.0 / sqrt((double)h->n);
    for (size_t r = 0; r < rows; r++, x += h->n) {
        for (unsigned j = 0; j < h->order; j++)
            butterflies(x + j * width, width);
        if (h->order > 1) {
            mix(h, x, width, transposed, scale);
        } else {
            for (size_t i = 0; i < h->n; i++)
                x[i] = (float)((double)x[i] * scale);
        }
    }
}
