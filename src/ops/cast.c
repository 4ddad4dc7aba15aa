/* Casts: fill in options, choose the kernel, run it. What a kernel does not take goes to the reference, which is the
 * format layer and refuses what cannot be done.
 * SPDX-License-Identifier: BSD-3-Clause */
#include "ops/cast.h"

#include "base/cpu.h"
#include "kernels/kernels.h"

ht_status ht_cast_rows(const ht_context *ctx, const ht_cast *cast) {
    ht_row_options options = cast->options ? *cast->options : ht_row_options_default();
    if (options.arithmetic == HT_DTYPE_NONE)
        options.arithmetic = HT_F32;
    ht_cast filled = *cast;
    filled.options = &options;
    return ht_kernel_choose_cast(ht_cpu_flags(ctx), &filled)->fn.cast(&filled);
}

ht_tally_fn *ht_cast_tally(const ht_context *ctx) {
    return ht_kernel_choose(HT_OPERATION_TALLY, ht_cpu_flags(ctx), NULL, 1)->fn.tally;
}
