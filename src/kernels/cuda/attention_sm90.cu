/* Attention on Hopper for bf16 and f16: the compiled shapes (attention_sm90.h has the kernel).
 * SPDX-License-Identifier: BSD-3-Clause */
#include "kernels/cuda/attention_launch.h"

template <int TYPE, int D, int BN, int GROUPS, int STAGES, int TURNS>
using shape = ht_attention_shape<TYPE, D, BN, GROUPS, STAGES, 0, TURNS>;

const ht_attention_entry *ht_attention_find_16(ht_dtype dtype, size_t head_dim) {
    static const ht_attention_entry rows[] = {
        ht_attention_row<shape<HT_WGMMA_BF16, 128, 128, 2, 2, 0>>("bf16 attention, dim 128"),
        ht_attention_row<shape<HT_WGMMA_BF16, 64, 96, 3, 3, 1>>("bf16 attention, dim 64"),
        ht_attention_row<shape<HT_WGMMA_F16, 128, 128, 2, 2, 0>>("f16 attention, dim 128"),
        ht_attention_row<shape<HT_WGMMA_F16, 64, 96, 3, 3, 1>>("f16 attention, dim 64"),
    };
    for (const ht_attention_entry &e : rows)
        if (e.dtype == dtype && e.head_dim == head_dim)
            return &e;
    return NULL;
}
