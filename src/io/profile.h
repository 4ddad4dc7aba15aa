/* Profiles: how quantized parameters lie in a checkpoint, i.e. under which names, shapes and config entries.
 *
 * A profile is a row of the table in profiles.c. Writing goes in three steps:
 *
 *     ht_profile_layout(profile, &request, &arena, &layout);   // headers only: stored format and output tensors
 *     ... ht_checkpoint_writer_create(all tensors of all layouts) ...
 *     ht_layout_write(&layout, writer, first, e, row, rows, &planes);   // any row slices, any thread, any order
 *     ht_layout_finish(&layout, writer, first);                         // constants; then writer_done for each tensor
 *     ... ht_profile_config(...) -> text of config.json -> ht_checkpoint_writer_file ...
 *
 * Reading is part of ht_checkpoint_open: the row whose quant_method the config names folds stored tensors into
 * parameters. */
#ifndef HT_IO_PROFILE_H
#define HT_IO_PROFILE_H

#include <stddef.h>

#include <halftone/checkpoint.h>
#include <halftone/format.h>
#include <halftone/status.h>

#include "base/memory.h"
#include "base/text.h"

/* A parameter to store: what it is and what it shall become. */
typedef struct ht_profile_request {
    const char *name; /* as in the float model: "...q_proj.weight", or bare "...experts.gate_up_proj" */
    unsigned rank;    /* of the parameter: 2, or 3 (a batch of matrices) */
    size_t batch;     /* 1 when rank is 2 */
    size_t rows;      /* outputs (N) */
    size_t cols;      /* inputs (K) */
    ht_format weight; /* as the scheme says; the layout's format is what is stored */
    int has_input;    /* the scheme quantizes the input */
    ht_format input;
    ht_scale_rule input_rule;
    const float *static_scale; /* one for all inputs, its value is read when the layout is finished; NULL: dynamic */
    ht_input_transform inputs; /* what is done to the inputs; the weight was changed for it */
    int has_input_scale;       /* inputs.scale: it may be NULL until values are written */
    /* For the record in the config only. */
    const char *scheme;       /* canonical name; may be NULL */
    const char *method;       /* "rtn"; may be NULL */
    ht_scale_rule scale_rule; /* of the weights */
    char sparsity[16];        /* zeros among the weights: "2:4", "0.5"; "" none */
} ht_profile_request;

typedef enum ht_component_kind {
    HT_COMPONENT_PLANE,      /* the bytes of one plane */
    HT_COMPONENT_ZEROS_DOWN, /* zero points packed along dimension 0 into 32-bit words (pack-quantized) */
    HT_COMPONENT_CONSTANT,   /* bytes known beforehand: the logical shape, a default global scale */
    HT_COMPONENT_DATA        /* bytes that lie elsewhere: scales of inputs */
} ht_component_kind;

/* One output tensor of a parameter. */
typedef struct ht_component {
    ht_output_tensor tensor; /* the name lives in the arena */
    ht_component_kind kind;
    ht_plane plane;
    unsigned char constant[32];
    size_t constant_bytes;
    const void *data; /* DATA: borrowed */
    size_t data_bytes;
} ht_component;

enum { HT_MAX_COMPONENTS = 8 };

/* Where the planes of one parameter go. */
typedef struct ht_layout {
    ht_format format; /* to quantize with: the request's with this profile's packing, global rule and code width */
    size_t batch, rows, cols;
    size_t row_step; /* slices begin at multiples of it (and end there, or at the last row) */
    ht_component component[HT_MAX_COMPONENTS];
    size_t count;
} ht_layout;

typedef struct ht_profile ht_profile;
struct ht_fold;

/* Which transforms of inputs a profile can say. */
typedef enum ht_profile_transforms {
    HT_TRANSFORMS_NONE,
    HT_TRANSFORMS_WALSH, /* Hadamard blocks of powers of two */
    HT_TRANSFORMS_ALL
} ht_profile_transforms;

struct ht_profile {
    const char *name;
    const char *summary;
    const char *readers;      /* programs that load it: "vllm transformers"; "" = Halftone only */
    const char *quant_method; /* value in quantization_config that selects `read` */
    ht_profile_transforms transforms;
    const char *transform_readers; /* those of `readers` that apply them */
    /* The stored form of the request's format. Fails with UNSUPPORTED; the message is the reason shown in the plan.
     * NULL: the profile is read-only. */
    ht_status (*adapt)(const ht_profile_request *request, ht_format *stored);
    ht_status (*layout)(const ht_profile_request *request, ht_arena *arena, ht_layout *layout);
    /* quantization_config as JSON text. */
    ht_status (*config)(const ht_profile_request *requests, size_t count, const char *const *ignored,
                        size_t ignored_count, const char *record, ht_text *out);
    /* Fold stored tensors into parameters. NULL: write-only. */
    ht_status (*read)(struct ht_fold *fold);
};

/* Rows of the table; NULL past the end. */
const ht_profile *ht_profile_at(size_t index);
/* Fails with ARGUMENT, naming those that exist. */
ht_status ht_profile_find(const char *name, const ht_profile **out);

/* Stored format and output tensors of one parameter. Nothing is written. Fails with UNSUPPORTED (the message says why
 * this profile cannot store it), SHAPE, MEMORY. */
ht_status ht_profile_layout(const ht_profile *profile, const ht_profile_request *request, ht_arena *arena,
                            ht_layout *layout);

/* HT_OK when the profile can say what is done to the inputs; else UNSUPPORTED with the way out. */
ht_status ht_profile_check_inputs(const ht_profile *profile, const ht_profile_request *request);

/* Write rows [row, row + rows) of batch entry `index`. `planes` hold these rows alone (per-matrix planes whole); the
 * writer's tensors first, first + 1, ... are the layout's components. Per-matrix planes are written with row 0.
 * Thread-safe for disjoint slices. */
ht_status ht_layout_write(const ht_layout *layout, ht_checkpoint_writer *writer, size_t first, size_t index, size_t row,
                          size_t rows, const ht_planes *planes);
/* Write the constant components. */
ht_status ht_layout_finish(const ht_layout *layout, ht_checkpoint_writer *writer, size_t first);

/* The text of config.json: `source` (NULL = none) with quantization_config added or replaced, every other byte kept.
 *   requests  the quantized parameters, with `weight` as stored (layout.format)
 *   ignored   linears that stay float: names of parameters
 *   record    JSON object with the recipe and its choices, stored under quantization_config.halftone; NULL = none
 * Same input, same bytes. */
ht_status ht_profile_config(const ht_profile *profile, const char *source, const ht_profile_request *requests,
                            size_t count, const char *const *ignored, size_t ignored_count, const char *record,
                            ht_text *out);

#endif
