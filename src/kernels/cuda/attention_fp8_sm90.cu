/* Attention on Hopper for e4m3: the compiled shapes (attention_sm90.h has the kernel).
 *
 * A third warpgroup pays more than longer tiles of keys: with two, a warp's own chain of products and exponentials is
 * longer than what the other hides. The promoted shapes hold P v of one tile apart, 32 or 64 registers, and have two.
 * SPDX-License-Identifier: BSD-3-Clause */
#include "kernels/cuda/attention_launch.h"

template <int D, int BN, int GROUPS, int STAGES, int PROMOTE>
using shape = ht_attention_shape<HT_WGMMA_E4M3, D, BN, GROUPS, STAGES, PROMOTE, 0>;

const ht_attention_entry *ht_attention_find_fp8(size_t head_dim, int promote) {
    static const ht_attention_entry rows[] = {
        ht_attention_row<shape<128, 96, 3, 4, 0>>("fp8 attention, dim 128"),
        ht_attention_row<shape<64, 128, 3, 3, 0>>("fp8 attention, dim 64"),
        ht_attention_row<shape<128, 96, 2, 3, 1>>("fp8 attention, dim 128, promoted"),
        ht_attention_row<shape<64, 128, 2, 3, 1>>("fp8 attention, dim 64, promoted"),
    };
    for (const ht_attention_entry &e : rows)
        if (e.head_dim == head_dim && e.promote == (promote != 0))
            return &e;
    return NULL;
}
