/* What logits say: the next token, and how far two predictions lie apart. */
#ifndef HT_MODEL_SAMPLING_H
#define HT_MODEL_SAMPLING_H

#include <stddef.h>
#include <stdint.h>

#include <halftone/model.h>

/* One candidate of a draw: scratch for ht_sample. */
typedef struct ht_token_choice {
    float logit;
    int32_t id;
} ht_token_choice;

/* Largest logit; ties go to the lower id. -1 when any logit is NaN or all are -infinity; an +infinity counts as NaN. */
int32_t ht_argmax(const float *logits, size_t count);

/* temperature 0: ht_argmax. Else draw number `step` of the seed: logits / temperature, the top_k best kept, of those
 * the fewest whose probability reaches top_p, one drawn. scratch: count candidates. -1 as ht_argmax. */
int32_t ht_sample(const float *logits, size_t count, const ht_sampling *sampling, uint64_t step,
                  ht_token_choice *scratch);

/* Logits of a position, normalised: log p[i] = logit[i] - max - logsum. */
typedef struct ht_log_softmax {
    const float *logits; /* [count] */
    float max;
    double logsum; /* log of the sum of exp(logit - max) */
} ht_log_softmax;

/* KL divergence in nats of p from q, sum of q (log q - log p). weight [count]: exp(logit - max) of q; tokens whose
 * weight is below f32 add nothing. Summed in f64 in the order of tokens. */
double ht_divergence(const ht_log_softmax *p, const ht_log_softmax *q, const float *weight, size_t count);

#endif
