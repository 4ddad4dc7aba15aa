/* Rounded operands of attention: q, k and v as they come back from a narrow type, and what type the probabilities take.
 *
 *     fp8            one scale for all rows of a key-value head (and one for the queries that read it), amax / 448
 *     fp8-hadamard   the same after an orthonormal Hadamard transform of every row, which spreads outliers
 *
 * This is how attention kernels with 8-bit products see their inputs; on the host it shows what they cost a model.
 * Source: training and attention specification, sections 3.2 to 3.4. */
#ifndef HT_OPS_ATTENTION_ROUND_H
#define HT_OPS_ATTENTION_ROUND_H

#include <stddef.h>

#include <halftone/attention.h>

#include "format/hadamard.h"

typedef struct ht_attention_rounding {
    const char *name;
    ht_dtype dtype; /* of q, k, v and the probabilities; HT_DTYPE_NONE: not rounded */
    int hadamard_qk, hadamard_v;
} ht_attention_rounding;

/* The row of that name, case ignored; "auto" is f32. Fails with ARGUMENT, naming the names. */
ht_status ht_attention_rounding_find(const char *name, const ht_attention_rounding **out);
/* The row of a precision; that of INPUT does not round. */
const ht_attention_rounding *ht_attention_rounding_of(ht_attention_precision precision);

typedef struct ht_attention_rounder {
    const ht_attention_rounding *how;
    ht_hadamard qk, v; /* where `how` wants them */
} ht_attention_rounder;

/* Fails with SHAPE: no Hadamard transform of this dim. */
ht_status ht_attention_rounder_init(const ht_attention_rounding *how, size_t head_dim, size_t value_dim,
                                    ht_attention_rounder *out);

/* Rows `stride` apart of `heads` heads side by side, dim values each, that share a scale. */
typedef struct ht_attention_head {
    float *x;
    size_t rows, stride, heads, dim;
} ht_attention_head;

/* Rows become what they are read back as; `transform` may be NULL. A NaN or Inf makes all of them NaN. */
void ht_attention_round(const ht_attention_rounder *rounder, const ht_hadamard *transform,
                        const ht_attention_head *head);
static inline void ht_attention_round_qk(const ht_attention_rounder *r, const ht_attention_head *head) {
    ht_attention_round(r, r->how->hadamard_qk ? &r->qk : NULL, head);
}
static inline void ht_attention_round_v(const ht_attention_rounder *r, const ht_attention_head *head) {
    ht_attention_round(r, r->how->hadamard_v ? &r->v : NULL, head);
}
/* Output rows lose the transform of v. */
void ht_attention_restore(const ht_attention_rounder *rounder, const ht_attention_head *head);

#endif
