/* Quantizing a checkpoint: plan it, do it, prove it, compare.
 *
 * Smallest use:
 *     ht_quantize_options options = ht_quantize_options_default();
 *     options.scheme = "mxfp4";
 *     ht_quantize_checkpoint(ctx, "models/novel-7m", "out", &options, NULL);
 */
#ifndef HT_QUANT_H
#define HT_QUANT_H

#include <stddef.h>
#include <stdint.h>

#include <halftone/checkpoint.h>
#include <halftone/context.h>
#include <halftone/format.h>
#include <halftone/model.h>
#include <halftone/recipe.h>
#include <halftone/status.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Which inputs a linear's statistics are taken from (docs/calibration.md). */
typedef enum ht_calibration_mode {
    HT_CALIBRATE_DEFAULT, /* the recipe's, else sequential */
    HT_CALIBRATE_NON_SEQUENTIAL,
    HT_CALIBRATE_SEQUENTIAL,
    HT_CALIBRATE_TRUE_SEQUENTIAL
} ht_calibration_mode;

/* Text that methods choose by. 0 and NULL: as the recipe says, else the default. */
typedef struct ht_calibration_options {
    const char *data; /* file of UTF-8 text; NULL: none */
    size_t samples;   /* windows of the text, side by side from its beginning; default 128 */
    size_t length;    /* tokens of a window; default 512 */
    size_t held_out;  /* further windows to judge by; default 0 */
    ht_calibration_mode mode;
    const char *experts; /* statistics of experts: "routed" (default), "all", or "top-k+N": N experts more a token */
} ht_calibration_options;

typedef struct ht_quantize_options {
    const char *scheme; /* one of scheme, recipe_path, recipe_text must be given */
    const char *recipe_path;
    const char *recipe_text;  /* the YAML itself */
    const char *method;       /* NULL = "rtn" */
    const char *const *set;   /* with scheme only: options and settings, "name=value" each, NULL last; NULL = none */
    const char *profile;      /* NULL = the recipe's, else "compressed-tensors" */
    ht_scale_rule scale_rule; /* HT_SCALE_DEFAULT = the recipe's, else mse for MX */
    ht_dtype scale_dtype;     /* of INT and FLOAT8 scales as stored: HT_F32 (default) or HT_BF16 */
    ht_calibration_options calibration;
    ht_resume resume;     /* default HT_RESUME_AUTO */
    int strict;           /* a tensor that cannot get what was asked is POLICY instead of kept with a reason */
    int overwrite;        /* replace an existing output */
    uint64_t shard_bytes; /* 0 = 5 GB */
    size_t chunk_bytes;   /* input per work item; 0 = chosen. Never changes the result */
} ht_quantize_options;
HT_API ht_quantize_options ht_quantize_options_default(void);

/* One tensor of a plan, and what became of it. */
typedef struct ht_plan_tensor {
    const char *name;
    const char *asked;  /* scheme that the recipe asked for, "keep" or "" (no rule) */
    const char *got;    /* scheme, or the stored dtype when kept */
    const char *reason; /* "" when got what was asked; else why not */
    const char *method; /* "" when kept */
    uint64_t bytes_before, bytes_after;
    double error;         /* relative: |w - w'| / |w| (Frobenius); NaN until quantized, 0 when kept */
    const char *fallback; /* "" or what replaced the method, of the first matrix where something did */
    /* Calibrated tensors; of a batch summed over its matrices, NaN and 0 where nothing is known. */
    double loss, rtn_loss; /* output error per token: of the codes chosen, and of rounding to nearest */
    double damping;        /* largest that was used, relative to the mean of diag H */
    uint64_t tokens;       /* that the statistics of its inputs are made of */
    double sparsity;       /* share of zeros, where the method prunes; else 0 */
    double input_scale;    /* the one scale of its inputs, known once the text was seen; 0: none */
    size_t dead_columns, saturated, fallbacks; /* inputs always zero; scales at their end; matrices with a fallback */
} ht_plan_tensor;

typedef struct ht_plan ht_plan;

/* Apply the recipe to the checkpoint's headers. Reads no tensor data. Fails with ARGUMENT (a rule that matches
 * nothing, an unknown name), POLICY (strict). */
HT_API ht_status ht_plan_create(ht_context *ctx, const ht_checkpoint *checkpoint, const ht_quantize_options *options,
                                ht_plan **out);
HT_API void ht_plan_destroy(ht_plan *plan);
HT_API size_t ht_plan_count(const ht_plan *plan);
HT_API const ht_plan_tensor *ht_plan_at(const ht_plan *plan, size_t index);

typedef struct ht_plan_summary {
    uint64_t bytes_before, bytes_after;
    double bits_per_weight;          /* stored bits over values of quantized tensors; 0 if none */
    size_t peak_memory_bytes;        /* estimate: buffers of the run, mapped files not counted */
    double seconds;                  /* estimate before, measured after */
    size_t quantized, kept, refused; /* tensors */
    double bytes_per_second;         /* input rate; 0 before */
    size_t transformed;              /* tensors whose inputs are transformed when the model runs */
    const char *readers;             /* other programs that do that; "" = none. NULL: transformed is 0 */
} ht_plan_summary;
HT_API ht_plan_summary ht_plan_summarize(const ht_plan *plan);

/* Quantize the checkpoint at input into directory output. The result is complete or absent: see checkpoint.h.
 * out_plan may be NULL; otherwise receives the plan with errors filled in (destroy it).
 * Same bytes for any thread count, chunk size, and for a run resumed after a kill.
 * Fails with CANCELLED when stopped (resumable) and as ht_plan_create and the writer do. */
HT_API ht_status ht_quantize_checkpoint(ht_context *ctx, const char *input, const char *output,
                                        const ht_quantize_options *options, ht_plan **out_plan);

/* --- Quality gates ------------------------------------------------------------------------------------------ */

/* Limits that an evaluation against the float model must hold (docs/evaluation.md). */
typedef enum ht_gate {
    HT_GATE_PERPLEXITY, /* max_perplexity: of the model itself */
    HT_GATE_INCREASE,   /* max_perplexity_increase: over the base model's, percent */
    HT_GATE_KL,         /* max_kl: mean over positions, nats */
    HT_GATE_KL_P99,     /* max_kl_p99 */
    HT_GATE_AGREEMENT,  /* min_agreement: top-1, 0 to 1 */
    HT_GATE_COUNT
} ht_gate;
typedef struct ht_gates {
    double limit[HT_GATE_COUNT]; /* NaN: none */
} ht_gates;

HT_API ht_gates ht_gates_none(void);
HT_API int ht_gates_any(const ht_gates *gates);
HT_API int ht_gates_need_base(const ht_gates *gates); /* one of them compares with the base model */
/* The gates of a recipe (`gates: {max_kl: 0.05}`). */
HT_API ht_gates ht_recipe_gates(const ht_recipe *recipe);
HT_API const char *ht_gate_name(ht_gate gate); /* in a recipe */
/* The figure that a gate speaks about, in its unit; NaN when it needs a base model and there was none. */
HT_API double ht_gate_figure(ht_gate gate, const ht_evaluation *evaluation);
/* 1 when there is no limit, or the figure holds it. */
HT_API int ht_gate_holds(const ht_gates *gates, ht_gate gate, const ht_evaluation *evaluation);
/* HT_OK when all hold; else POLICY, naming each that does not with figure and limit. */
HT_API ht_status ht_gates_check(const ht_gates *gates, const ht_evaluation *evaluation);

/* --- Proof ---------------------------------------------------------------------------------------------- */

typedef struct ht_check {
    const char *name; /* "shapes", "config", "fused-groups", "round-trip", ... */
    int ok;
    const char *detail; /* one line: what was looked at, or what is wrong and where */
} ht_check;
typedef struct ht_verification ht_verification;

/* Re-read a written checkpoint as a stranger would. against: the float original (may be NULL): names and shapes
 * must match and decoded values must lie within the format's bound. reader: NULL or "vllm", "transformers",
 * "llama.cpp": also that reader's rules. A failed check is a result, not an error. */
HT_API ht_status ht_verify(ht_context *ctx, const char *path, const char *against, const char *reader,
                           ht_verification **out);
HT_API int ht_verification_ok(const ht_verification *verification);
HT_API const ht_check *ht_verification_check(const ht_verification *verification, size_t index); /* NULL past end */
HT_API void ht_verification_destroy(ht_verification *verification);

typedef struct ht_tensor_difference {
    const char *name;
    double sqnr_db; /* 10 log10(sum a^2 / sum (a-b)^2); +inf when equal */
    double max_abs;
    const char *note; /* "" or "only in A", "shapes differ", ... */
} ht_tensor_difference;
typedef struct ht_comparison ht_comparison;
/* Compare two checkpoints parameter by parameter, decoded to f32. */
HT_API ht_status ht_compare(ht_context *ctx, const char *a, const char *b, ht_comparison **out);
HT_API const ht_tensor_difference *ht_comparison_at(const ht_comparison *comparison, size_t index);
HT_API void ht_comparison_destroy(ht_comparison *comparison);

#ifdef __cplusplus
}
#endif
#endif
