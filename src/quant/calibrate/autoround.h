/* AutoRound: codes of a whole block learned together (docs/methods.md), after a method has chosen them. */
#ifndef HT_QUANT_CALIBRATE_AUTOROUND_H
#define HT_QUANT_CALIBRATE_AUTOROUND_H

#include <stddef.h>

#include "quant/calibrate/calibrate.h"

/* Schemes whose weights have a grid; else UNSUPPORTED. */
ht_status ht_autoround_accepts(const ht_scheme *scheme);

/* Learn the codes of the block at work, whose matrices all have planes and whose quantized linears are in their places;
 * hidden holds the rows before it, hidden_float those that the float model has behind it. Planes, output and linears
 * are rewritten where that makes the error on held-out samples (without any: on the first samples) smaller. */
ht_status ht_autoround_block(ht_calibrator *c);
/* Is there a matrix in the block that wants it? Bytes that it takes then. */
int ht_autoround_wanted(const ht_calibrator *c);
size_t ht_autoround_bytes(const ht_calibrator *c);

#endif
