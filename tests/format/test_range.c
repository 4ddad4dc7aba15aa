/* SPDX-License-Identifier: BSD-3-Clause */
#include <halftone/format.h>

#include <math.h>

#include "base/random.h"
#include "support/check.h"

static void test_values(void) {
    float x[1000];
    for (size_t n = 1; n <= 1000; n = n < 40 ? n + 1 : n * 2 - 7) {
        float min = INFINITY, max = -INFINITY;
        for (size_t i = 0; i < n; i++) {
            x[i] = ht_random_normal(n, 0, i);
            min = fminf(min, x[i]);
            max = fmaxf(max, x[i]);
        }
        ht_range r = ht_range_empty();
        REQUIRE_OK(ht_range_add(&r, x, HT_F32, n / 3));
        REQUIRE_OK(ht_range_add(&r, x + n / 3, HT_F32, n - n / 3));
        CHECK(r.min == min && r.max == max && r.amax == fmaxf(-min, max));
        CHECK(!r.has_nan && !r.has_inf);
    }
}

static void test_special(void) {
    const float x[5] = {1, NAN, -2, NAN, 0};
    ht_range r = ht_range_empty();
    REQUIRE_OK(ht_range_add(&r, x, HT_F32, 5));
    CHECK(r.min == -2 && r.max == 1 && r.amax == 2 && r.has_nan && !r.has_inf);
    const float inf = -INFINITY;
    REQUIRE_OK(ht_range_add(&r, &inf, HT_F32, 1));
    CHECK(r.min == -INFINITY && r.has_inf && r.amax == INFINITY);
    r = ht_range_empty();
    REQUIRE_OK(ht_range_add(&r, &x[1], HT_F32, 1)); /* nothing but NaN */
    CHECK(r.has_nan && r.amax == 0 && r.min > r.max);
    const float zeros[2][2] = {{0.0f, -0.0f}, {-0.0f, 0.0f}};
    for (int i = 0; i < 2; i++) {
        r = ht_range_empty();
        REQUIRE_OK(ht_range_add(&r, zeros[i], HT_F32, 2));
        CHECK(r.min == 0 && !signbit(r.min) && !signbit(r.max));
    }
    const uint16_t bf16[2] = {0x4049, 0xc000};
    r = ht_range_empty();
    REQUIRE_OK(ht_range_add(&r, bf16, HT_BF16, 2));
    CHECK(r.max == 3.140625f && r.min == -2);
    CHECK_FAILS(ht_range_add(&r, bf16, HT_I16, 2), HT_ERR_UNSUPPORTED);
}

int main(void) {
    RUN(test_values);
    RUN(test_special);
    return check_finish();
}
