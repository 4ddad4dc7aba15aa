/* Schemes, methods and recipes: which tensors get which treatment.
 *
 * A recipe is YAML: ordered rules, the first that matches a tensor decides.
 *
 *     version: 1
 *     profile: compressed-tensors        # optional
 *     options: {scale_rule: mse}         # defaults for every rule
 *     calibration: {samples: 128}        # optional: how methods that need text take it
 *     rules:
 *       - match: "re:.*lm_head.*"        # exact name, glob (* ? [..]; * stays inside a name part, ** does not), or re:
 *         keep: true
 *       - match: ["**.q_proj.weight", "**.k_proj.weight"]
 *         scheme: mxfp8
 *       - match: linear                  # the words linear, embedding, expert, router, norm: classes by name and shape
 *         scheme: mxfp4
 *         method: rtn
 *         options: {scale_rule: even}
 *
 * A rule that matches nothing is an error; so is a fused group (q/k/v, gate/up) with unequal schemes unless
 * `allow_mixed_groups: true`.
 */
#ifndef HT_RECIPE_H
#define HT_RECIPE_H

#include <stddef.h>

#include <halftone/context.h>
#include <halftone/format.h>
#include <halftone/status.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Where the scale of quantized inputs comes from: each row, or once and for all from a calibration text. */
typedef enum ht_input_range {
    HT_INPUT_DYNAMIC, /* chosen for every row */
    HT_INPUT_ABS_MAX, /* static: the largest magnitude of the text */
    HT_INPUT_P999,    /* the magnitude that 99.9 % of the values do not exceed; 99.99 %; 99.999 % */
    HT_INPUT_P9999,
    HT_INPUT_P99999,
    HT_INPUT_MSE /* what leaves the least mean squared error */
} ht_input_range;

/* What a user asks for one linear layer. */
typedef struct ht_scheme {
    char name[32]; /* canonical */
    ht_format weight;
    int has_input;
    ht_format input; /* quantization of the activations */
    ht_scale_rule input_rule;
    ht_input_range input_range;
} ht_scheme;

/* Canonical names and aliases of design.md section 2 ("mxfp4", "W4A16", "int4-g32-asym"), case ignored.
 * Fails with ARGUMENT, naming the nearest. */
HT_API ht_status ht_scheme_parse(const char *name, ht_scheme *out);

typedef struct ht_list_item {
    const char *name;
    const char *summary;
    const char *aliases; /* "" if none */
} ht_list_item;
/* Tables behind `halftone list`; NULL past the end. Of a profile, aliases are the programs that read it, and the item
 * is valid until this thread's next call. */
HT_API const ht_list_item *ht_scheme_list(size_t index);
HT_API const ht_list_item *ht_method_list(size_t index);
HT_API const ht_list_item *ht_profile_list(size_t index);
HT_API const ht_list_item *ht_architecture_list(size_t index);

/* A setting of a method: an option of its rules in a recipe, `--set name=value` on the command line. */
typedef struct ht_setting_info {
    const char *name;
    const char *summary;
    char standard[32]; /* value when nothing is said */
    char allowed[96];  /* "none, static, gar" or "a number from 0 to 1" */
} ht_setting_info;
/* Settings of a method by its name; 0 past the last. */
HT_API int ht_setting_list(const char *method, size_t index, ht_setting_info *out);

/* What a preset ("best", "fast") stands for, for schemes of these names (globs, separated by spaces). */
typedef struct ht_preset_info {
    const char *name;
    const char *schemes;
    const char *method;      /* "smooth+gptq" */
    const char *set;         /* "gptaq=0.5 input_rule=even"; "" */
    const char *calibration; /* "held_out=16 mode=sequential"; "": the defaults */
} ht_preset_info;
/* Rows of the table of presets, the first that fits a scheme counts; 0 past the last. */
HT_API int ht_preset_list(size_t index, ht_preset_info *out);

typedef struct ht_recipe ht_recipe;

/* A recipe from a file, from text, or the built-in one for a scheme (all linears of the decoder blocks incl. experts;
 * embeddings, lm_head, router and norms kept). Fails with IO, CORRUPT (file, line, key and what is allowed), ARGUMENT.
 */
HT_API ht_status ht_recipe_open(ht_context *ctx, const char *path, ht_recipe **out);
HT_API ht_status ht_recipe_parse(ht_context *ctx, const char *yaml, size_t bytes, ht_recipe **out);
HT_API ht_status ht_recipe_for_scheme(ht_context *ctx, const char *scheme, const char *method, ht_recipe **out);
/* The same with options: set is NULL or names settings of the method and options of the scheme, "name=value" each, and
 * ends with NULL. Fails with ARGUMENT when one is unknown, out of its limits, or means nothing here. */
HT_API ht_status ht_recipe_for_settings(ht_context *ctx, const char *scheme, const char *method, const char *const *set,
                                        ht_recipe **out);
HT_API void ht_recipe_close(ht_recipe *recipe);

#ifdef __cplusplus
}
#endif
#endif
