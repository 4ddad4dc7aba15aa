/* What NVFP4 training adds to the format: random Hadamard transform of gradient operands, stochastic rounding.
 *
 * The transform mixes 16 consecutive tokens so that outliers spread over a block: z = x diag(s) H / 4 with
 * H[i][j] = (-1)^popcount(i & j). Stochastic rounding keeps the expectation of a gradient: with lower neighbour a and
 * upper neighbour b, b is chosen when a 24-bit uniform number is below (|x| - a) / (b - a), which is exact in f32.
 * Refuses: rows that are no multiple of 16.
 * Source: formats specification, section 3.3.
 */
/* SPDX-License-Identifier: BSD-3-Clause */
#include "format/nvfp4.h"

#include "base/random.h"
#include "base/status.h"
#include "format/lanes.h"

enum { CHUNK = 16 };

static const int8_t recipe_sign[CHUNK] = {1, 1, 1, -1, 1, -1, -1, -1, -1, -1, -1, 1, -1, 1, -1, -1};

/* (-1)^popcount(i & j), i, j < 16. */
static float hadamard_sign(unsigned i, unsigned j) {
    unsigned both = i & j;
    both ^= both >> 2;
    both ^= both >> 1;
    return both & 1 ? -1.0f : 1.0f;
}

ht_status ht_nvfp4_hadamard(const void *x, ht_dtype x_dtype, size_t rows, size_t cols, const int8_t *sign, float *out) {
    if (rows % CHUNK)
        return ht_fail(HT_ERR_SHAPE, "nvfp4: the transform needs tokens in multiples of %d, got %zu", CHUNK, rows);
    const int8_t *s = sign ? sign : recipe_sign;
    for (size_t r = 0; r < rows; r += CHUNK)
        for (size_t c = 0; c < cols; c++) {
            float in[CHUNK];
            for (size_t i = 0; i < CHUNK; i++) {
                ht_lanes_load(x, x_dtype, (r + i) * cols + c, 1, &in[i]);
                in[i] *= (float)s[i] / 4; /* exact */
            }
            for (unsigned j = 0; j < CHUNK; j++) {
                float sum = 0;
                for (unsigned i = 0; i < CHUNK; i++)
                    sum += in[i] * hadamard_sign(i, j);
                out[c * rows + r + j] = ht_round_to(HT_BF16, sum);
            }
        }
    return HT_OK;
}

void ht_nvfp4_encode_stochastic(const float *x, size_t n, uint64_t seed, uint64_t stream, uint64_t first,
                                uint8_t *codes) {
    static const float values[8] = {0, 0.5f, 1, 1.5f, 2, 3, 4, 6};
    for (size_t i = 0; i < n; i++) {
        uint32_t u = ht_f32_bits(x[i]), code = 0;
        float a = ht_f32_from_bits(u & 0x7fffffffu);
        if (!(a < 6)) {
            code = 7;
        } else {
            while (a >= values[code + 1])
                code++;
            float position = (a - values[code]) / (values[code + 1] - values[code]);
            code += ht_random_uniform(seed, stream, first + i) < position;
        }
        codes[i] = (uint8_t)(a == a ? code | (u >> 31) << 3 : 7);
    }
}
