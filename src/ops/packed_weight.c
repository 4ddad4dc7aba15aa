/* Packing weights at load: who is packed, and the loop over panels.
 *
 *     compute      inputs the scheme wants    product
 *     exact        any                        decoded weight times f32 input
 *     auto         int8, a scale per token    packed weight times int8: the scheme's own numbers, summed exactly
 *                  others, or none            as exact
 *     fast         as auto, and none          packed weight times int8 with a scale per 32 inputs
 *
 * A weight without packed layout stays as it is stored. Packing reads the stored weight once; the panels take about as
 * much memory as the stored planes (kernels/packed.h). Refuses nothing of its own.
 * SPDX-License-Identifier: BSD-3-Clause */
#include "ops/packed_weight.h"

#include <stdatomic.h>

#include "base/context.h"
#include "base/memory.h"
#include "base/pool.h"
#include "base/status.h"

enum { PANELS_EACH = 8 };

/* Symmetric int8 by the default rule with a scale per row: what the integer kernels quantize to. */
static int is_int8_row(const ht_format *format) {
    return format->family == HT_FAMILY_INT && format->element == HT_I8 && format->zero == HT_DTYPE_NONE &&
           format->scale == HT_F32 && format->block_cols == 0 && format->global == HT_DTYPE_NONE;
}

static int refuse(const char **why, const char *reason) {
    *why = reason;
    return 0;
}

int ht_packed_wanted(const ht_context *ctx, const ht_weight *weight, const ht_format *input, ht_packed *packed,
                     ht_span *span, const char **why) {
    ht_compute compute = ctx->options.compute;
    if (compute == HT_COMPUTE_EXACT)
        return refuse(why, "compute is exact");
    if (input && !is_int8_row(input))
        return refuse(why, "its inputs are not int8 with a scale per token");
    if (!input && compute != HT_COMPUTE_FAST)
        return refuse(why, "its inputs stay floats unless compute is fast");
    *span = input ? HT_SPAN_ROW : HT_SPAN_32;
    if (!ht_packed_layout(weight, packed, why))
        return 0;
    return packed->is_integer ? 1 : refuse(why, "its values are no integers times a scale");
}

struct packing {
    const ht_packed *packed;
    const ht_weight *weight;
    uint8_t *out;
    char *scratch;
    size_t scratch_stride, pieces; /* pieces of one batch entry */
    atomic_int impossible;
};

static ht_status pack_piece(void *arg, size_t task, size_t worker) {
    struct packing *p = arg;
    size_t index = task / p->pieces, panel = task % p->pieces * PANELS_EACH;
    size_t end = panel + PANELS_EACH < p->packed->panels ? panel + PANELS_EACH : p->packed->panels;
    for (; panel < end; panel++)
        if (!ht_pack_panel(p->packed, p->weight, index, panel, p->scratch + worker * p->scratch_stride,
                           p->out + index * p->packed->bytes + panel * p->packed->panel_bytes))
            atomic_store(&p->impossible, 1);
    return HT_OK;
}

ht_status ht_pack_weight(ht_context *ctx, const ht_packed *packed, const ht_weight *weight, uint8_t **out) {
    size_t stride = (ht_pack_scratch(packed) + 127) / 128 * 128;
    struct packing p = {.packed = packed, .weight = weight, .scratch_stride = stride};
    p.pieces = (packed->panels + PANELS_EACH - 1) / PANELS_EACH;
    *out = NULL;
    HT_TRY(ht_allocate_raw(ctx, weight->batch, packed->bytes, "packed weight", &p.out));
    ht_status status = ht_allocate_raw(ctx, ht_context_threads(ctx), stride, "scratch of packing", &p.scratch);
    if (status == HT_OK)
        status = ht_parallel_for(ctx, weight->batch * p.pieces, pack_piece, &p);
    ht_release(ctx, p.scratch);
    if (status == HT_OK && !atomic_load(&p.impossible)) {
        *out = p.out;
        return HT_OK;
    }
    ht_release(ctx, p.out);
    return status;
}
