/* Parts of the attention checks.
 * SPDX-License-Identifier: BSD-3-Clause */
#ifndef HT_TESTS_CUDA_CHECK_ATTENTION_H
#define HT_TESTS_CUDA_CHECK_ATTENTION_H

#include <stddef.h>
#include <stdint.h>

uint16_t attention_f16(float x); /* nearest even */
float attention_f16_value(uint16_t bits);

/* q, k and v [batch, rows, heads, dim] bf16: run the quantizer with RoPE, compare everything it writes. */
typedef struct attention_quantizer_case {
    size_t batch, heads, kv_heads, q_rows, kv_rows, dim;
    int interleaved;
    const uint16_t *q, *k, *v;
} attention_quantizer_case;
void attention_quantizer_check(const attention_quantizer_case *c);

#endif
