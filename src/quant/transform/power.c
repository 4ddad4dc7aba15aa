/* Powers from additions, multiplications and divisions alone, in one order.
 *
 *     base = m 2^e, m in [1/sqrt 2, sqrt 2)     ln m = 2 (t + t^3/3 + t^5/5 + ...), t = (m - 1) / (m + 1), |t| < 0.172
 *     2^y  = 2^n e^(f ln 2), |f| <= 1/2         e^r by its Taylor series
 *
 * SPDX-License-Identifier: BSD-3-Clause */
#include "quant/transform/power.h"

#include <math.h> /* frexp, ldexp, rint: exact everywhere */

enum { LOG_TERMS = 12, EXP_TERMS = 16 };

static const double ln2 = 0.693147180559945309417232121458;

static double natural_log(double m) {
    double t = (m - 1) / (m + 1), square = t * t, sum = 0;
    for (int k = LOG_TERMS; k >= 0; k--)
        sum = sum * square + 1.0 / (2 * k + 1);
    return 2 * t * sum;
}

static double natural_exp(double r) {
    double sum = 1;
    for (int k = EXP_TERMS; k >= 1; k--)
        sum = 1 + sum * r / k;
    return sum;
}

double ht_power(double base, double exponent) {
    if (isnan(base) || isnan(exponent) || base < 0)
        return NAN;
    if (exponent == 0 || base == 1)
        return 1;
    if (base == 0 || isinf(base))
        return (base == 0) == (exponent > 0) ? 0 : INFINITY;
    int e;
    double m = frexp(base, &e);
    if (m < 0.70710678118654752) {
        m *= 2;
        e--;
    }
    double y = exponent * (natural_log(m) / ln2 + e), n = rint(y);
    if (n > 2000 || n < -2000)
        return n > 0 ? INFINITY : 0;
    return ldexp(natural_exp((y - n) * ln2), (int)n);
}
