/* Powers, the same bits everywhere: the C library's pow is compiled per instruction set. */
#ifndef HT_QUANT_TRANSFORM_POWER_H
#define HT_QUANT_TRANSFORM_POWER_H

/* base^exponent for base >= 0; relative error below 1e-14 * (1 + |exponent * log2 base|). 0^0 = 1, 0^positive = 0,
 * 0^negative = Inf; NaN for a negative or NaN base. Huge and tiny results saturate to Inf and 0. */
double ht_power(double base, double exponent);

#endif
