/* Choosing the next token from logits. */
#ifndef HT_MODEL_SAMPLING_H
#define HT_MODEL_SAMPLING_H

#include <stddef.h>
#include <stdint.h>

#include <halftone/model.h>

/* One candidate of a draw: scratch for ht_sample. */
typedef struct ht_candidate {
    float logit;
    int32_t id;
} ht_candidate;

/* Largest logit; ties go to the lower id. -1 when any logit is NaN or all are -infinity; an +infinity counts as NaN. */
int32_t ht_argmax(const float *logits, size_t count);

/* temperature 0: ht_argmax. Else draw number `step` of the seed: logits / temperature, the top_k best kept, of those
 * the fewest whose probability reaches top_p, one drawn. scratch: count candidates. -1 as ht_argmax. */
int32_t ht_sample(const float *logits, size_t count, const ht_sampling *sampling, uint64_t step, ht_candidate *scratch);

#endif
