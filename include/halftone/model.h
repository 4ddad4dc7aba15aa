/* Models: load a decoder, run it, generate, evaluate. */
#ifndef HT_MODEL_H
#define HT_MODEL_H

#include <stddef.h>
#include <stdint.h>

#include <halftone/checkpoint.h>
#include <halftone/context.h>
#include <halftone/status.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct ht_model ht_model;

typedef struct ht_model_info {
    const char *architecture; /* row of `halftone list architectures` */
    size_t vocabulary, hidden, layers, heads, kv_heads, head_dim, experts, context;
    uint64_t parameters, weight_bytes;
} ht_model_info;

/* Load the model in directory `path`; weights stay mapped in their stored format.
 * Fails with UNSUPPORTED (architecture or config value unknown, named), CORRUPT (missing tensor, wrong shape). */
HT_API ht_status ht_model_open(ht_context *ctx, const char *path, ht_model **out);
HT_API void ht_model_close(ht_model *model);
HT_API ht_model_info ht_model_describe(const ht_model *model);

/* How sequences created from now on keep keys and values: "f32" (as they are), "fp8", "int8", "int4", with a scale for
 * every position and head. Attention computes in f32 on what is read back, so a token's result does not depend on how
 * passes split the text. Fails with ARGUMENT (unknown name), SHAPE (head size). */
HT_API ht_status ht_model_set_cache(ht_model *model, const char *name);

/* What attention rounds, in sequences created from now on: "f32" or "auto" (nothing), "bf16", "fp8", "fp8-hadamard",
 * "fp8-hadamard-v" (halftone/attention.h). On the host this shows what a narrow attention would cost the model; it is
 * no faster. fp8 takes one scale a key-value head over all keys there are, and one over the queries of a pass, so a
 * token's result depends on how passes split the text. Fails with ARGUMENT (unknown name), SHAPE (no Hadamard transform
 * of the head size). */
HT_API ht_status ht_model_set_attention(ht_model *model, const char *name);

/* What runs the attention of a layer. */
typedef struct ht_model_attention {
    const char *kernel;    /* row of the attention kernels: "cpu_f32" */
    const char *precision; /* what it rounds: "f32", "fp8-hadamard" */
    const char *reason;    /* why nothing faster runs; "" when nothing faster was asked for */
} ht_model_attention;
HT_API ht_model_attention ht_model_attention_at(const ht_model *model, size_t layer);

/* A sequence being extended: the key-value cache. */
typedef struct ht_sequence ht_sequence;
HT_API ht_status ht_sequence_create(ht_model *model, size_t capacity, ht_sequence **out);
HT_API void ht_sequence_destroy(ht_sequence *sequence);
HT_API void ht_sequence_reset(ht_sequence *sequence);
HT_API size_t ht_sequence_length(const ht_sequence *sequence);

/* Append count tokens; logits of the last `logit_rows` of them (<= count) to logits [logit_rows, vocabulary] f32, or
 * NULL. Same bits for any thread count. Fails with ARGUMENT (id outside vocabulary, named), SHAPE (past capacity). */
HT_API ht_status ht_model_forward(ht_model *model, ht_sequence *sequence, const int32_t *ids, size_t count,
                                  float *logits, size_t logit_rows);

typedef struct ht_sampling {
    float temperature; /* 0 = greedy */
    float top_p;       /* 1 = off */
    uint32_t top_k;    /* 0 = off */
    uint64_t seed;
} ht_sampling;
typedef struct ht_generate_options {
    size_t max_tokens;
    ht_sampling sampling;
    int ignore_eos; /* go on after an end-of-text token */
    /* Called with every new token; non-zero stops. May be NULL. */
    int (*on_token)(void *user, int32_t id);
    void *user;
} ht_generate_options;
typedef struct ht_generate_result {
    size_t count;
    double prefill_seconds, decode_seconds;
    size_t prefill_tokens;
} ht_generate_result;
/* Continue the prompt; ids_out has room for max_tokens. Ties go to the lower id. */
HT_API ht_status ht_model_generate(ht_model *model, const int32_t *prompt, size_t prompt_count,
                                   const ht_generate_options *options, int32_t *ids_out, ht_generate_result *result);

typedef struct ht_evaluate_options {
    size_t context;    /* window length; default 512 */
    size_t max_tokens; /* use only the first N ids; 0 = all */
    ht_model *against; /* NULL, or the base model: KL and top-1 agreement in the same pass */
} ht_evaluate_options;
/* Bins of the histogram of divergences: bin 0 below 1e-6 nats, then four a decade, the last from 10^1.5 up. */
enum { HT_KL_BINS = 32 };
HT_API double ht_kl_bin_begin(size_t bin); /* smallest divergence of the bin; 0 for bin 0 */

typedef struct ht_evaluation {
    double perplexity, nll, nll_stderr; /* natural log; stderr of the mean over windows */
    size_t tokens, windows;             /* predicted tokens, whole windows */
    double seconds, tokens_per_second;
    /* Against the base model; NaN and 0 without one. Both models see the same windows, so the error of the difference
     * is that of the windows' own differences, much smaller than the error of either. */
    double base_perplexity, base_nll, base_nll_stderr;
    double nll_change, nll_change_stderr;                      /* nll - base_nll: log of the ratio of perplexities */
    double kl_mean, kl_stderr;                                 /* nats; KL(base || model) of a position */
    double kl_median, kl_p90, kl_p95, kl_p99, kl_p999, kl_max; /* nearest rank */
    double top1_agreement, top1_stderr;
    uint64_t kl_histogram[HT_KL_BINS]; /* positions by divergence */
} ht_evaluation;
/* Figures of an evaluation under the names that JSON results have; NaN where there is none. Returns 0 past the end. */
typedef struct ht_figure {
    const char *name; /* "perplexity", "kl_p99" */
    double value;
} ht_figure;
HT_API int ht_evaluation_figure(const ht_evaluation *evaluation, size_t index, ht_figure *out);

/* Perplexity by the protocol of docs/evaluation.md: non-overlapping windows, last partial one dropped, positions
 * 1..context-1 of each. Fails with ARGUMENT when the text is shorter than one window. */
HT_API ht_status ht_model_evaluate(ht_model *model, const int32_t *ids, size_t count,
                                   const ht_evaluate_options *options, ht_evaluation *out);

#ifdef __cplusplus
}
#endif
#endif
