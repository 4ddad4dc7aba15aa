/* The table of methods. `rtn` rounds every value to the nearest code under scales that the format's rule gives, or,
 * with the option `scale_rule: mse`, under the scale of a small search that leaves the smaller squared error.
 * SPDX-License-Identifier: BSD-3-Clause */
#include "quant/method/methods.h"

#include "base/nearest.h"
#include "base/status.h"
#include "quant/calibrate/autoround.h"
#include "quant/gptq/gptq.h"
#include "quant/method/hqq.h"
#include "quant/method/imatrix.h"
#include "quant/method/prune.h"
#include "quant/recipe/presets.h"
#include "quant/transform/scaling.h"

static unsigned range_and_mean(const ht_settings *settings) {
    (void)settings;
    return HT_MOMENT_RANGE | HT_MOMENT_MEAN;
}

static unsigned mean_and_second(const ht_settings *settings) {
    (void)settings;
    return HT_MOMENT_MEAN | HT_MOMENT_SECOND;
}

static const ht_method methods[] = {
    {.item = {"rtn", "round to nearest; scales from each block's own values, or searched with scale_rule mse", ""},
     .stage = HT_STAGE_ROUND,
     .cast_rows = ht_cast_rows},
    {.item = {"hqq", "integers: zero points, or scales, that make a norm of the error small that forgives outliers",
              ""},
     .stage = HT_STAGE_ROUND,
     .accepts = ht_hqq_accepts,
     .quantize_rows = ht_hqq_rows},
    {.item = {"smooth", "SmoothQuant: part of the inputs' range moves into the weights, by their largest magnitudes",
              ""},
     .stage = HT_STAGE_SCALE,
     .needs_data = 1,
     .moments = range_and_mean,
     .scales = ht_smooth_scales},
    {.item = {"awq", "scales of inputs from their mean magnitudes, searched for the least output error", ""},
     .stage = HT_STAGE_SCALE,
     .needs_data = 1,
     .moments = mean_and_second,
     .scales = ht_awq_scales},
    {.item = {"sinq", "scales of inputs that even out columns against groups of rows; needs no text", ""},
     .stage = HT_STAGE_SCALE,
     .scales = ht_sinq_scales},
    {.item = {"rotate", "random Hadamard rotations of hidden rows and heads, folded into the weights", ""},
     .stage = HT_STAGE_ROTATE,
     .rotates = 1},
    {.item = {"hadamard", "blocks of every linear's inputs mixed by a Hadamard matrix, when the model runs", ""},
     .stage = HT_STAGE_INPUTS,
     .mixes = 1},
    {.item = {"imatrix", "scales searched for the least error, inputs weighted by their mean square; needs text", ""},
     .stage = HT_STAGE_ROUND,
     .needs_data = 1,
     .accepts = ht_imatrix_accepts,
     .matrix = ht_imatrix_matrix,
     .moments = ht_imatrix_moments},
    {.item = {"wanda", "pruning by magnitude and input, row by row; what is left is rounded; needs text", ""},
     .stage = HT_STAGE_ROUND,
     .needs_data = 1,
     .fits = ht_sparsity_accepts,
     .matrix = ht_wanda_matrix,
     .moments = ht_wanda_moments},
    {.item = {"gptq", "column by column, each rounding error made up for by the columns that follow; needs text", ""},
     .stage = HT_STAGE_ROUND,
     .needs_data = 1,
     .accepts = ht_gptq_accepts,
     .fits = ht_sparsity_accepts,
     .matrix = ht_gptq_matrix,
     .moments = ht_gptq_moments,
     .bytes = ht_gptq_bytes},
    {.item = {"autoround", "codes of a block learned together by its outputs, gptq+autoround for one; needs text", ""},
     .stage = HT_STAGE_REFINE,
     .needs_data = 1,
     .accepts = ht_autoround_accepts},
};

enum { METHODS = sizeof methods / sizeof *methods };

const ht_list_item *ht_method_list(size_t index) {
    return index < METHODS ? &methods[index].item : NULL;
}

size_t ht_method_matrix_bytes(const ht_method *method, const ht_format *format, const ht_settings *settings,
                              size_t rows, size_t cols, size_t threads) {
    return method->matrix && method->bytes ? method->bytes(format, settings, rows, cols, threads)
                                           : ht_matrix_loss_bytes(rows, cols);
}

ht_status ht_method_find(const char *name, const ht_method **out) {
    ht_nearest nearest = {.word = name};
    for (size_t i = 0; i < METHODS; i++) {
        if (ht_word_equal(methods[i].item.name, name)) {
            *out = &methods[i];
            return HT_OK;
        }
        ht_nearest_offer(&nearest, methods[i].item.name);
    }
    *out = NULL;
    ht_preset_info preset;
    for (size_t i = 0; ht_preset_list(i, &preset); i++)
        ht_nearest_offer(&nearest, preset.name);
    return ht_fail(HT_ERR_ARGUMENT,
                   "method \"%.64s\" is unknown; the nearest is %s (`halftone list methods` shows all)", name,
                   nearest.found);
}
