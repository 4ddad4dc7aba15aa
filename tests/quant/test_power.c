/* Powers against the C library's, and at the edges.
 * SPDX-License-Identifier: BSD-3-Clause */
#include "quant/transform/power.h"

#include <math.h>

#include "support/check.h"

static void test_values(void) {
    for (int i = -60; i <= 60; i++)
        for (int j = -20; j <= 20; j++) {
            double base = ldexp(1 + 0.37 * (i & 1) + 0.11 * (i & 3), i), exponent = 0.173 * j;
            CHECK_NEAR(ht_power(base, exponent), pow(base, exponent), 1e-12);
        }
    CHECK(ht_power(7.25, 1) > 7.25 * (1 - 1e-14) && ht_power(7.25, 1) < 7.25 * (1 + 1e-14));
    CHECK_NEAR(ht_power(16, 0.5), 4, 1e-15);
}

static void test_edges(void) {
    CHECK(ht_power(0, 0.5) == 0);
    CHECK(isinf(ht_power(0, -0.3)));
    CHECK(ht_power(0, 0) == 1);
    CHECK(ht_power(1, 1e300) == 1);
    CHECK(isinf(ht_power(INFINITY, 2)));
    CHECK(ht_power(INFINITY, -2) == 0);
    CHECK(isnan(ht_power(-1, 2)));
    CHECK(isnan(ht_power(NAN, 2)));
    CHECK(isinf(ht_power(1e300, 2)));
    CHECK(ht_power(1e300, -2) == 0);
    CHECK_NEAR(ht_power(5e-324, 0.5), sqrt(5e-324), 1e-12);
}

int main(void) {
    RUN(test_values);
    RUN(test_edges);
    return check_finish();
}
