/* A plan from the inside: what the driver and the config need beside the public rows. */
#ifndef HT_QUANT_PLAN_H
#define HT_QUANT_PLAN_H

#include <stddef.h>

#include <halftone/quant.h>

#include "base/memory.h"
#include "base/text.h"
#include "io/profile.h"
#include "quant/classify.h"
#include "quant/recipe/recipe_rules.h"
#include "quant/calibrate/samples.h"
#include "quant/report/report.h"

/* One parameter of the run. */
typedef struct ht_job {
    const ht_parameter *parameter; /* of the checkpoint, while that is open */
    ht_class class;
    const ht_rule *rule;     /* NULL: no rule decides it */
    ht_rule_options options; /* of the command line, the rule and the recipe, in this order */
    ht_scheme scheme;        /* after the options */
    ht_row_options row;
    ht_settings settings;      /* of the rule's method, resolved */
    ht_input_transform inputs; /* what will be done to the inputs; no values yet while transforms are still to come */
    int has_input_scale;
    float input_scale; /* of schemes with a static one, for all inputs; 0: not known yet, or none */
    ht_layout *layout; /* NULL: kept */
    size_t first;      /* its output tensors are first .. first + count - 1 */
    size_t count;
    size_t shared; /* jobs of equal `shared` have one range (NVFP4 in fused groups); own index if alone */
} ht_job;

struct ht_plan {
    ht_context *ctx;
    ht_arena arena;
    ht_recipe *recipe;
    const ht_profile *profile;
    ht_plan_tensor *tensor;
    ht_job *job;
    size_t count;
    int staged; /* the checkpoint is what transforms have made */
    ht_output_tensor *output;
    size_t output_count;
    ht_plan_summary summary;
    ht_calibration calibration; /* options in force */
    ht_samples samples;         /* read before the run, when there is a text */
    ht_run_report report;       /* filled by the run */
};

/* Keep a job after all, for this reason (copied). */
ht_status ht_plan_refuse(ht_plan *plan, size_t index, const char *reason);

/* Groups of linears that readers run as one: fail with ARGUMENT when a group was asked for unequal treatment, keep all
 * of a group when some cannot be had, and let the members share a range where the format has a number per matrix. */
ht_status ht_plan_join_groups(ht_plan *plan);

/* What ht_profile_layout and ht_profile_config want to know. */
ht_profile_request ht_job_request(const ht_job *job);

/* Text of the output's config.json (quantize.c). */
ht_status ht_plan_config(const ht_plan *plan, const ht_checkpoint *checkpoint, const ht_quantize_options *options,
                         ht_text *out);
/* Bytes of all files of the output's directory (quantize.c): shards, index, config and what is copied beside them. */
ht_status ht_plan_output_bytes(const ht_plan *plan, const ht_checkpoint *checkpoint, const ht_quantize_options *options,
                               uint64_t *out);

#endif
