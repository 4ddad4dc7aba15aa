/* SPDX-License-Identifier: BSD-3-Clause */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "format/bits.h"
#include "format/nvfp4.h"
#include "support/check.h"
#include "support/golden.h"

enum { M = 128, N = 256 };

static void check_quantized(const golden *g, const char *side, const float *x, size_t rows, size_t cols) {
    const golden_tensor *amax = golden_findf(g, "%s.amax", side), *data = golden_findf(g, "%s.data", side);
    const golden_tensor *scale = golden_findf(g, "%s.block_scale", side);
    const golden_tensor *tiled = golden_findf(g, "%s.scale_blocked", side);
    if (!amax || !data || !scale || !tiled)
        return;
    static uint8_t codes[M * N / 2], scales[M * N / 16], out[M * N / 16];
    ht_format f = {0};
    CHECK_OK(ht_format_parse("nvfp4", &f));
    float global = ht_format_global(&f, NULL, &(ht_range){.amax = ((const float *)amax->data)[0]});
    ht_planes p = {{codes, scales, NULL, NULL, &global}};
    CHECK_OK(ht_format_quantize(&f, NULL, x, HT_F32, rows, cols, &p));
    CHECK_BYTES(scales, scale->data, scale->bytes);
    CHECK_BYTES(codes, data->data, data->bytes);
    ht_swizzle_scales(scales, rows, cols / 16, out);
    CHECK_BYTES(out, tiled->data, tiled->bytes);
}

static void test_golden_transform(void) {
    golden g = golden_open("formats/nvfp4_te_rht.safetensors");
    const golden_tensor *x = golden_find(&g, "x"), *sign = golden_find(&g, "sign"), *rht = golden_find(&g, "rht");
    REQUIRE(x && sign && rht);
    static float z[M * N];
    REQUIRE_OK(ht_nvfp4_hadamard(x->data, HT_BF16, M, N, sign->data, z));
    float *want = golden_f32(rht), *plain = golden_f32(x);
    size_t different = 0;
    for (size_t i = 0; i < M * N; i++) {
        different += z[i] != want[i]; /* order of a 16-term sum: at most one unit of bf16 */
        if (!CHECK(fabsf(z[i] - want[i]) <= fabsf(want[i]) * 0x1p-7f + 1e-6f))
            break;
    }
    CHECK(different < M * N / 100);
    check_quantized(&g, "col", want, N, M);
    check_quantized(&g, "row", plain, M, N);
    REQUIRE_OK(ht_nvfp4_hadamard(x->data, HT_BF16, M, N, NULL, z)); /* the recipe's own signs */
    CHECK_NEAR((double)z[0], (double)want[0], 0.01);
    free(want);
    free(plain);
    golden_close(&g);
}

static void test_example(void) {
    float x[16], z[16];
    const float want[16] = {-15.5f, -7.5f, 7.5f, -.5f, 7.5f, -.5f,  -15.5f, 8.5f,
                            8.5f,   16.5f, 1.5f, 1.5f, 1.5f, -2.5f, 10.5f,  -17.5f};
    for (int i = 0; i < 16; i++)
        x[i] = (float)(i + 1);
    REQUIRE_OK(ht_nvfp4_hadamard(x, HT_F32, 16, 1, NULL, z));
    CHECK_F32(z, want, 16);
    CHECK_FAILS(ht_nvfp4_hadamard(x, HT_F32, 15, 1, NULL, z), HT_ERR_SHAPE);
}

/* Values between neighbours land on either one, in proportion; values of the format stay. */
static void test_stochastic(void) {
    enum { COUNT = 40000 };
    static float x[COUNT];
    static uint8_t codes[COUNT], again[COUNT];
    static const float points[] = {0.1f, 0.625f, 1.25f, 2.75f, 3.25f, 5.5f, -2.25f, -0.4f};
    for (size_t p = 0; p < 8; p++) {
        for (size_t i = 0; i < COUNT; i++)
            x[i] = points[p];
        ht_nvfp4_encode_stochastic(x, COUNT, 7, p, 0, codes);
        double sum = 0, nearest = 0;
        for (size_t i = 0; i < COUNT; i++) {
            double value = (double)ht_element_decode(HT_F4_E2M1, codes[i]);
            sum += value;
            nearest = fmax(nearest, fabs(value - (double)points[p]));
        }
        CHECK_WITHIN(sum / COUNT, (double)points[p], 0.03);
        CHECK(nearest < 2);
        ht_nvfp4_encode_stochastic(x + 100, COUNT - 100, 7, p, 100, again + 100);
        CHECK_BYTES(again + 100, codes + 100, COUNT - 100); /* a draw belongs to its index */
    }
    const float exact[] = {0, -0.0f, 0.5f, 1, 1.5f, 2, 3, 4, 6, -6, 100, -INFINITY, NAN};
    const uint8_t want[] = {0, 8, 1, 2, 3, 4, 5, 6, 7, 15, 7, 15, 7};
    ht_nvfp4_encode_stochastic(exact, 13, 1, 1, 0, codes);
    CHECK_BYTES(codes, want, 13);
}

int main(void) {
    RUN(test_golden_transform);
    RUN(test_example);
    RUN(test_stochastic);
    return check_finish();
}
