/* The functions and option tables that the table of commands (commands.c) names. */
#ifndef HT_CLI_COMMANDS_H
#define HT_CLI_COMMANDS_H

#include "cli/cli.h"

int cli_inspect(cli_call *call);
int cli_tokenize(cli_call *call);
int cli_logits(cli_call *call);
int cli_plan(cli_call *call);
int cli_quantize(cli_call *call);
int cli_verify(cli_call *call);
int cli_eval(cli_call *call);
int cli_run(cli_call *call);
int cli_search(cli_call *call);
int cli_compare(cli_call *call);
int cli_bench(cli_call *call);
int cli_doctor(cli_call *call);
int cli_list(cli_call *call);

extern const cli_options cli_inspect_options, cli_tokenize_options, cli_logits_options, cli_plan_options,
    cli_quantize_options, cli_verify_options, cli_eval_options, cli_run_options, cli_compare_options, cli_bench_options,
    cli_doctor_options, cli_search_options;

/* --- Shared by plan and quantize ---------------------------------------------------------------------------- */

typedef struct cli_quantize_values {
    const char *output;
    int dry_run, overwrite, resume;
    uint64_t shard_size, chunk_size;
    const char *eval, *report;
    uint64_t eval_context, eval_tokens;
    const char *data, *experts;
    uint64_t samples, length, held_out;
    int mode; /* of ht_calibration_mode */
    /* The rest is also plan's. */
    const char *scheme, *recipe, *method, *profile;
    cli_words set;
    int scale_rule, scale_dtype, strict, tensors;
} cli_quantize_values;

/* The library's options for these values. Prints and returns CLI_USAGE when neither or both of scheme and recipe are
 * given. */
int cli_quantize_choose(const cli_call *call, ht_quantize_options *out);
/* Print a plan before anything is computed. */
int cli_plan_print(const cli_call *call, const ht_plan *plan);
/* The keys that plan and quantize have in common. `measured`: per tensor also error, method and fallback. */
void cli_plan_json(struct json_t *out, const ht_plan *plan, int measured);

/* --- Shared by eval and run ----------------------------------------------------------------------------------- */

/* --attention NAME (NULL: not given), with a note of what runs in which layers. */
ht_status cli_attention_choose(const cli_call *call, ht_model *model, const char *name);
/* [{layer, kernel, precision, reason}] */
struct json_t *cli_attention_json(const ht_model *model);

/* --- Shared by eval and quantize ---------------------------------------------------------------------------- */

typedef struct cli_evaluation {
    const char *text; /* file; NULL: none asked for */
    uint64_t context, tokens;
    const char *cache;     /* ht_model_set_cache; NULL: f32 */
    const char *attention; /* ht_model_set_attention; NULL: auto */
    struct json_t *layers; /* what ran the attention of each */
    ht_gates gates;
    ht_encoding ids;
    const char *model, *base; /* as given; base NULL: none */
    ht_evaluation result;
} cli_evaluation;

/* Ids of the text, special tokens only where the tokenizer's post-processor adds them. */
int cli_evaluation_read(const cli_call *call, cli_evaluation *e, const char *tokenizer_path);
int cli_evaluation_run(const cli_call *call, cli_evaluation *e, const char *model_path, const char *base_path);
void cli_evaluation_print(const cli_call *call, const cli_evaluation *e);
void cli_evaluation_json(struct json_t *out, const cli_evaluation *e);
/* CLI_DONE, or CLI_POLICY after a line that names the gates that are broken. */
int cli_evaluation_gates(const cli_call *call, const cli_evaluation *e);
/* The report's page and its JSON, when `path` is one. plan NULL: about the evaluation alone. */
int cli_report(const cli_call *call, const char *path, const ht_plan *plan, const char *output, size_t peak,
               const cli_evaluation *e);
/* Would the report's path be writable? Asked before anything is computed. */
int cli_report_check(const cli_call *call, const char *path);
void cli_evaluation_release(cli_evaluation *e);

#endif
