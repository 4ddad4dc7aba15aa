/* Every quantized weight is decoded and looked at: scales, values, round trip, distance from the original.
 *
 *     scales       finite and not negative; no NaN codes among e8m0 and e4m3 scales
 *     values       no decoded value is NaN or Inf
 *     round-trip   MX: quantizing the decoded values again gives the same values
 *     sparsity     where the record says that weights were pruned: the zeros are there, in each group of a pattern
 *     error        |w - w'| <= c * A, where A is the largest |w| of those that share the scale; of methods that move
 *                  weights to make up for one another's errors (gptq): the whole within half of its norm; of
 *                  transformed weights (smooth+..., rotate+...): not asked, they are others than the original's.
 *                  Where inputs are transformed when the model runs, so is the original's weight before it is compared
 *
 * Other formats derive their scale from the largest value by a division that does not come back to the same number, so
 * the round trip is asked of MX alone. c by format, below; it covers every scale rule that only rounds. A searched
 * scale (scale_rule mse) may clip: c = 1 then for formats other than MX, whose search has two steps and stays inside.
 *
 * Work is cut into pieces of rows by shape alone and counted by piece, so reports do not depend on threads.
 * SPDX-License-Identifier: BSD-3-Clause */
#include "quant/verify/verify.h"

#include <math.h>   /* fabsf, isfinite, sqrt */
#include <stdint.h> /* SIZE_MAX */
#include <string.h> /* memcpy */

#include "base/pool.h"
#include "base/status.h"
#include "io/json.h"
#include "ops/cast.h"
#include "ops/input_transform.h"
#include "quant/decode.h"
#include "quant/method/prune.h"

/* Bound of the error over the largest value of the block.
 *
 *   e2m1: half of the widest gap, 4..6, is 1 where the block's largest is at least 4; saturating from below 8 to 6
 * loses as much: 1/4. Others alike: e4m3 448 < 512, e5m2 57344 < 65536, e2m3 7.5 < 8, e3m2 28 < 32. NVFP4's scale is
 * rounded to e4m3 (1/16 off at most) and adds to half of 4..6 over 6. Integers: half a step, or a whole one where a
 * zero point is rounded too. */
static const struct {
    ht_family family;
    ht_dtype element;
    double bound;
} bounds[] = {
    {HT_FAMILY_MX, HT_F4_E2M1, 1.0 / 4},     {HT_FAMILY_MX, HT_F8_E4M3, 1.0 / 8},
    {HT_FAMILY_MX, HT_F8_E5M2, 1.0 / 8},     {HT_FAMILY_MX, HT_F6_E2M3, 1.0 / 16},
    {HT_FAMILY_MX, HT_F6_E3M2, 1.0 / 8},     {HT_FAMILY_MX, HT_I8, 1.0 / 64},
    {HT_FAMILY_NVFP4, HT_F4_E2M1, 0.25},     {HT_FAMILY_FLOAT8, HT_F8_E4M3, 1.0 / 16},
    {HT_FAMILY_FLOAT8, HT_F8_E5M2, 1.0 / 8},
};

static double bound_of(const ht_format *format, int searched) {
    if ((searched && format->family != HT_FAMILY_MX) || format->family == HT_FAMILY_LUT)
        return 1;
    for (size_t i = 0; i < sizeof bounds / sizeof *bounds; i++)
        if (bounds[i].family == format->family && bounds[i].element == format->element)
            return bounds[i].bound;
    if (format->family != HT_FAMILY_INT)
        return 0.25; /* code books and GGUF blocks */
    unsigned bits = ht_dtype_bits(format->element);
    return format->zero == HT_DTYPE_NONE ? 2.0 / (double)(1u << bits) : 2.0 / ((double)(1u << bits) - 1);
}

static const double FARTHEST = 0.5; /* of a matrix whose weights moved, relative to its norm */

/* What a piece found. Indices are of values within the batch entry; SIZE_MAX = none. */
typedef struct piece_result {
    size_t not_finite, first_not_finite;
    size_t unstable, first_unstable;
    size_t beyond, first_beyond;
    size_t dense, first_dense, zeros; /* groups of a pattern with too few zeros; all zeros */
    float worst;
    double error, reference; /* sums of squares, where weights may have moved */
} piece_result;

typedef struct weight_check {
    ht_context *ctx;
    const ht_parameter *parameter, *original; /* original may be NULL */
    ht_transformer inputs;                    /* what the stored weight was changed for */
    size_t piece, pieces, values;
    int round_trip;
    int moved; /* by the method: no bound for each weight */
    double bound, farthest;
    ht_sparsity sparsity;
    float whole_amax; /* formats with one scale: of the original */
    float floor;      /* NVFP4: what the smallest block scale cannot represent */
    float *numbers;   /* by worker: decoded, original or decoded again */
    uint8_t *planes;  /* by worker */
    size_t planes_bytes;
    piece_result *result;
} weight_check;

static void look_at_values(piece_result *result, const float *x, size_t first, size_t count) {
    for (size_t i = 0; i < count; i++)
        if (!isfinite(x[i]) && !result->not_finite++)
            result->first_not_finite = first + i;
}

static void look_at_zeros(const weight_check *w, piece_result *result, const float *x, size_t first, size_t rows) {
    size_t cols = w->parameter->weight.cols, group = w->sparsity.group ? w->sparsity.group : cols;
    for (size_t at = 0, count; at < rows * cols; at += count) {
        size_t left = cols - at % cols, zeros = 0;
        count = left < group ? left : group;
        for (size_t i = at; i < at + count; i++)
            zeros += x[i] == 0;
        result->zeros += zeros;
        if (w->sparsity.group && zeros < count / 2 && !result->dense++)
            result->first_dense = first + at;
    }
}

static ht_status look_at_round_trip(const weight_check *w, piece_result *result, const float *x, float *again,
                                    uint8_t *memory, size_t first, size_t rows) {
    const ht_format *format = &w->parameter->weight.format;
    size_t cols = w->parameter->weight.cols;
    ht_planes planes = {{NULL}};
    for (int plane = 0; plane < HT_PLANE_COUNT; plane++) {
        size_t bytes = ht_format_plane_bytes(format, (ht_plane)plane, rows, cols);
        planes.plane[plane] = bytes ? memory : NULL;
        memory += (bytes + 63) / 64 * 64;
    }
    const ht_cast cast = {
        .format = format, .x = x, .x_dtype = HT_F32, .rows = rows, .cols = cols, .planes = &planes, .decoded = again};
    HT_TRY(ht_cast_rows(w->ctx, &cast));
    for (size_t i = 0; i < rows * cols; i++)
        if (isfinite(x[i]) && again[i] != x[i] && !result->unstable++)
            result->first_unstable = first + i;
    return HT_OK;
}

/* One block of the original that shares a scale: [rows, cols] at x, with y decoded. stride in values. */
static void look_at_block(const weight_check *w, piece_result *result, const float *x, const float *y, size_t rows,
                          size_t cols, size_t stride, size_t first) {
    float amax = w->whole_amax;
    for (size_t r = 0; r < rows && w->parameter->weight.format.block_rows; r++)
        for (size_t c = 0; c < cols; c++)
            amax = fabsf(x[r * stride + c]) > amax ? fabsf(x[r * stride + c]) : amax;
    float allowed = (float)(w->bound * (double)amax * 1.001) + w->floor + 1e-37f;
    for (size_t r = 0; r < rows; r++)
        for (size_t c = 0; c < cols; c++) {
            float error = fabsf(x[r * stride + c] - y[r * stride + c]);
            if (error <= allowed || !isfinite(x[r * stride + c]))
                continue;
            if (!result->beyond++) {
                result->first_beyond = first + r * stride + c;
                result->worst = error / amax;
            }
        }
}

static void look_at_error(const weight_check *w, piece_result *result, const float *x, const float *y, size_t first,
                          size_t rows) {
    const ht_format *format = &w->parameter->weight.format;
    size_t cols = w->parameter->weight.cols;
    size_t high = format->block_rows ? format->block_rows : rows, wide = format->block_cols ? format->block_cols : cols;
    for (size_t r = 0; r < rows; r += high)
        for (size_t c = 0; c < cols; c += wide)
            look_at_block(w, result, x + r * cols + c, y + r * cols + c, rows - r < high ? rows - r : high,
                          cols - c < wide ? cols - c : wide, cols, first + r * cols + c);
}

static void look_at_distance(piece_result *result, const float *x, const float *y, size_t count) {
    for (size_t i = 0; i < count; i++) {
        double a = (double)x[i], d = a - (double)y[i];
        if (!isfinite(d))
            continue;
        result->error += d * d;
        result->reference += a * a;
    }
}

/* The original as the parameter would store it, were it not quantized. */
static ht_status read_original(const weight_check *w, size_t entry, size_t row, size_t rows, float *x) {
    HT_TRY(ht_read_restored_rows(w->ctx, w->original, entry, row, rows, x));
    ht_transform_weights(&w->inputs, entry, x, rows);
    return HT_OK;
}

static ht_status look(void *arg, size_t index, size_t worker) {
    weight_check *w = arg;
    const ht_weight *weight = &w->parameter->weight;
    size_t entry = index / w->pieces, row = index % w->pieces * w->piece;
    size_t rows = weight->rows - row < w->piece ? weight->rows - row : w->piece, first = row * weight->cols;
    float *y = w->numbers + 2 * worker * w->values, *x = y + w->values;
    piece_result result = {0};
    HT_TRY(ht_read_rows(w->ctx, w->parameter, entry, row, rows, y));
    look_at_values(&result, y, first, rows * weight->cols);
    if (w->sparsity.share > 0)
        look_at_zeros(w, &result, y, first, rows);
    if (w->round_trip)
        HT_TRY(look_at_round_trip(w, &result, y, x, w->planes + worker * w->planes_bytes, first, rows));
    if (w->original) {
        HT_TRY(read_original(w, entry, row, rows, x));
        if (w->moved)
            look_at_distance(&result, x, y, rows * weight->cols);
        else
            look_at_error(w, &result, x, y, first, rows);
    }
    w->result[index] = result;
    return HT_OK;
}

/* Largest magnitude of the original, for formats with one scale. */
static ht_status whole_amax(weight_check *w) {
    const ht_weight *weight = &w->parameter->weight;
    for (size_t i = 0; i < weight->batch * w->pieces; i++) {
        size_t row = i % w->pieces * w->piece, rows = weight->rows - row < w->piece ? weight->rows - row : w->piece;
        HT_TRY(read_original(w, i / w->pieces, row, rows, w->numbers));
        for (size_t j = 0; j < rows * weight->cols; j++)
            w->whole_amax = fabsf(w->numbers[j]) > w->whole_amax ? fabsf(w->numbers[j]) : w->whole_amax;
    }
    return HT_OK;
}

/* NVFP4 by the inference recipe: block scales below 2^-6 of the tensor's are clamped, smaller blocks lose to that. */
static float nvfp4_floor(const ht_weight *weight) {
    float global = 1;
    if (weight->format.family != HT_FAMILY_NVFP4)
        return 0;
    if (weight->plane[HT_PLANE_GLOBAL])
        memcpy(&global, weight->plane[HT_PLANE_GLOBAL], sizeof global);
    float unit = weight->format.global_rule == HT_GLOBAL_DIVIDES ? 1 / global : global;
    return isfinite(unit) ? 0.25f / 64 * unit : 0;
}

/* --- Scales ----------------------------------------------------------------------------------------------- */

/* Are the scales numbers by themselves? Not when they are codes under scales of their own. */
static int is_number(ht_dtype dtype) {
    return dtype == HT_E8M0 || dtype == HT_F8_E4M3 || dtype == HT_F16 || dtype == HT_BF16 || dtype == HT_F32;
}

static int good_scale(ht_family family, ht_dtype dtype, const uint8_t *at) {
    float value;
    uint16_t half;
    switch (ht_dtype_bits(dtype)) {
    case 32:
        memcpy(&value, at, sizeof value);
        break;
    case 16:
        memcpy(&half, at, sizeof half);
        value = ht_element_decode(dtype, half);
        break;
    default:
        value = ht_element_decode(dtype, *at);
    }
    return isfinite(value) && (value >= 0 || family == HT_FAMILY_LUT); /* entries of tables */
}

static void look_at_plane(ht_finding *finding, const ht_parameter *parameter, ht_plane plane, ht_dtype dtype) {
    const ht_weight *weight = &parameter->weight;
    size_t size = ht_dtype_bits(dtype) / 8,
           bytes = ht_format_plane_bytes(&weight->format, plane, weight->rows, weight->cols);
    for (size_t e = 0; e < weight->batch && weight->plane[plane] && is_number(dtype); e++) {
        const uint8_t *data = (const uint8_t *)weight->plane[plane] + e * weight->stride[plane];
        for (size_t at = 0; at + size <= bytes; at += size) {
            finding->looked++;
            if (!good_scale(weight->format.family, dtype, data + at))
                ht_find(finding, "%s: scale %zu of matrix %zu is negative, NaN or infinite", parameter->name, at / size,
                        e);
        }
    }
}

/* --- One parameter ---------------------------------------------------------------------------------------- */

typedef struct findings {
    ht_finding scales, values, round_trip, sparsity, error;
} findings;

static void place(char text[96], const ht_parameter *parameter, size_t entry, size_t index) {
    size_t cols = parameter->weight.cols;
    if (parameter->rank == 3)
        snprintf(text, 96, "[%zu, %zu, %zu]", entry, index / cols, index % cols);
    else
        snprintf(text, 96, "[%zu, %zu]", index / cols, index % cols);
}

/* Of a share, each run of at least 64 columns may lack a part of one. */
static void report_zeros(findings *f, const weight_check *w) {
    const ht_weight *weight = &w->parameter->weight;
    size_t zeros = 0, dense = 0, all = weight->batch * weight->rows * weight->cols;
    for (size_t i = 0; i < weight->batch * w->pieces; i++) {
        const piece_result *r = &w->result[i];
        char at[96];
        zeros += r->zeros;
        if (!r->dense || dense++)
            continue;
        place(at, w->parameter, i / w->pieces, r->first_dense);
        ht_find(&f->sparsity, "%s has too few zeros for %zu:%zu at %s", w->parameter->name, w->sparsity.group / 2,
                w->sparsity.group, at);
    }
    if (!w->sparsity.group && (double)zeros < (w->sparsity.share - 1.0 / 64) * (double)all)
        ht_find(&f->sparsity, "%s has %.3g of zeros, its group says %.3g", w->parameter->name,
                (double)zeros / (double)all, w->sparsity.share);
    f->sparsity.looked++;
}

static void report(findings *f, const weight_check *w) {
    const char *name = w->parameter->name;
    double error = 0, reference = 0;
    for (size_t i = 0; i < w->parameter->weight.batch * w->pieces; i++) {
        const piece_result *r = &w->result[i];
        char at[96];
        error += r->error;
        reference += r->reference;
        if (r->not_finite) {
            place(at, w->parameter, i / w->pieces, r->first_not_finite);
            ht_find(&f->values, "%s decodes to NaN or Inf at %s", name, at);
        }
        if (r->unstable) {
            place(at, w->parameter, i / w->pieces, r->first_unstable);
            ht_find(&f->round_trip, "%s changes when quantized again, first at %s", name, at);
        }
        if (r->beyond) {
            place(at, w->parameter, i / w->pieces, r->first_beyond);
            ht_find(&f->error, "%s at %s is off by %.3g of its block's largest value, more than the format's %.3g",
                    name, at, (double)r->worst, w->bound);
        }
    }
    if (error > w->farthest * w->farthest * reference)
        ht_find(&f->error, "%s is off by %.3g of its norm, more than %.3g", name, sqrt(error / reference), w->farthest);
    if (w->sparsity.share > 0)
        report_zeros(f, w);
    f->values.looked++;
    f->round_trip.looked += w->round_trip != 0;
    f->error.looked += w->original != NULL;
}

static ht_status allocate(ht_context *ctx, weight_check *w) {
    const ht_weight *weight = &w->parameter->weight;
    size_t threads = ht_context_threads(ctx);
    w->piece = ht_decode_piece(w->parameter, w->original);
    w->pieces = (weight->rows + w->piece - 1) / w->piece;
    w->values = w->piece * weight->cols;
    for (int plane = 0; plane < HT_PLANE_COUNT && w->round_trip; plane++)
        w->planes_bytes +=
            (ht_format_plane_bytes(&weight->format, (ht_plane)plane, w->piece, weight->cols) + 63) / 64 * 64;
    HT_TRY(ht_allocate(ctx, weight->batch * w->pieces, sizeof *w->result, "findings", &w->result));
    HT_TRY(ht_allocate_raw(ctx, 2 * threads * w->values, sizeof(float), "decoded rows", &w->numbers));
    return ht_allocate_raw(ctx, threads * w->planes_bytes, 1, "quantized rows", &w->planes);
}

static const ht_parameter *original_of(const ht_verify_run *v, const ht_parameter *parameter) {
    const ht_parameter *original = v->against ? ht_checkpoint_find_parameter(v->against, parameter->name) : NULL;
    return original && ht_decodable(original) && ht_same_matrix(original, parameter) ? original : NULL;
}

/* The record of the group that parameter `index` belongs to; NULL: no group is found. */
static const json_t *record_of(const ht_verify_run *v, size_t index, const char *name) {
    const char *group = NULL;
    json_t *value;
    int ignored;
    if (ht_verify_group(v, name, ht_verify_is_linear(v, index), &group, &value, &ignored) != HT_OK || !group)
        return NULL;
    const json_t *record = json_object_get(json_object_get(json_object_get(v->quant, "halftone"), "groups"), group);
    return record ? record : value; /* of the profile plain the group is the record */
}

/* Was the scale of parameter `index` searched? The record of its own group says so; where no group is found, any
 * record. */
static int scale_searched(const ht_verify_run *v, const json_t *record) {
    if (!v->searched || !record)
        return v->searched;
    const char *rule = ht_json_string(record, "scale_rule");
    return rule && strcmp(rule, "mse") == 0;
}

/* Methods that give every weight a code next to it; others may trade one's error for another's. Mixing inputs by blocks
 * (hadamard) changes nothing about that: the stored config says all about it. */
static int only_rounds(const char *method) {
    static const char *const ROUNDING[] = {"rtn", "hqq"}, first[] = "hadamard+";
    if (method && strncmp(method, first, sizeof first - 1) == 0)
        method += sizeof first - 1;
    for (size_t i = 0; i < sizeof ROUNDING / sizeof *ROUNDING; i++)
        if (!method || strcmp(method, ROUNDING[i]) == 0)
            return 1;
    return 0;
}

static ht_status check_parameter(ht_verify_run *v, findings *f, size_t index) {
    const ht_parameter *parameter = ht_checkpoint_parameter(v->checkpoint, index);
    const ht_format *format = &parameter->weight.format;
    const json_t *record = record_of(v, index, parameter->name);
    const char *method = record ? ht_json_string(record, "method") : NULL;
    weight_check w = {.ctx = v->ctx,
                      .parameter = parameter,
                      .original = ht_verify_edits(method) ? NULL : original_of(v, parameter),
                      .round_trip = format->family == HT_FAMILY_MX,
                      .moved = !only_rounds(method),
                      .farthest = FARTHEST,
                      .sparsity = ht_sparsity_named(record ? ht_json_string(record, "sparsity") : NULL),
                      .bound = bound_of(format, scale_searched(v, record)),
                      .floor = nvfp4_floor(&parameter->weight)};
    if (w.sparsity.share > 0)
        w.farthest = 1;
    look_at_plane(&f->scales, parameter, HT_PLANE_SCALES, format->scale);
    look_at_plane(&f->scales, parameter, HT_PLANE_GLOBAL, format->global);
    ht_status status = ht_transformer_init(&w.inputs, v->ctx, &parameter->weight.inputs, parameter->weight.cols);
    if (status == HT_OK)
        status = allocate(v->ctx, &w);
    if (status == HT_OK && w.original && format->block_rows == 0)
        status = whole_amax(&w);
    if (status == HT_OK)
        status = ht_parallel_for(v->ctx, parameter->weight.batch * w.pieces, look, &w);
    if (status == HT_OK)
        report(f, &w);
    ht_parameter_done_with(v->checkpoint, parameter);
    if (w.original)
        ht_parameter_done_with(v->against, w.original);
    ht_release(v->ctx, w.planes);
    ht_release(v->ctx, w.numbers);
    ht_release(v->ctx, w.result);
    ht_transformer_release(&w.inputs);
    return status;
}

ht_status ht_verify_weights(ht_verify_run *v) {
    findings f = {0};
    for (size_t i = 0; i < ht_checkpoint_parameter_count(v->checkpoint); i++) {
        const ht_parameter *parameter = ht_checkpoint_parameter(v->checkpoint, i);
        if (!parameter->quantized)
            continue;
        HT_TRY(ht_context_check_cancelled(v->ctx));
        HT_TRY(check_parameter(v, &f, i));
    }
    HT_TRY(ht_verify_add(v, "scales", &f.scales, "scales are finite and not negative"));
    HT_TRY(ht_verify_add(v, "values", &f.values, "quantized tensors decode to finite numbers"));
    if (f.round_trip.looked)
        HT_TRY(ht_verify_add(v, "round-trip", &f.round_trip, "MX tensors keep their values when quantized again"));
    if (f.sparsity.looked)
        HT_TRY(ht_verify_add(v, "sparsity", &f.sparsity, "pruned tensors have their zeros"));
    if (v->against)
        HT_TRY(ht_verify_add(v, "error", &f.error,
                             v->searched ? "tensors lie within their format's bound (scales searched)"
                                         : "tensors lie within their format's bound"));
    return HT_OK;
}
