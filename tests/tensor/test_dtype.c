/* SPDX-License-Identifier: BSD-3-Clause */
#include <halftone/tensor.h>

#include "support/check.h"

static void test_names(void) {
    for (int i = 0; i < HT_DTYPE_COUNT; i++) {
        ht_dtype d = (ht_dtype)i;
        if (d == HT_DTYPE_NONE)
            continue;
        CHECK_INT(ht_dtype_find(ht_dtype_name(d)), d);
        if (ht_dtype_safetensors_name(d))
            CHECK_INT(ht_dtype_find(ht_dtype_safetensors_name(d)), d);
        CHECK(ht_dtype_bits(d) >= 1 && ht_dtype_bits(d) <= 64);
    }
    CHECK_INT(ht_dtype_find("BF16"), HT_BF16);
    CHECK_INT(ht_dtype_find("F8_E8M0"), HT_E8M0);
    CHECK_INT(ht_dtype_find("float"), HT_DTYPE_NONE);
    CHECK_INT(ht_dtype_find(NULL), HT_DTYPE_NONE);
    CHECK_TEXT(ht_dtype_name((ht_dtype)999), "none");
    CHECK_INT(ht_dtype_bits(HT_DTYPE_NONE), 0);
}

static void test_sizes(void) {
    ht_tensor t = ht_tensor_view(NULL, HT_F4_E2M1, 3, (const size_t[]){3, 5, 7});
    CHECK_INT(ht_tensor_elements(&t), 105);
    CHECK_INT(ht_tensor_bytes(&t), 53);
    t = ht_tensor_view_2d(NULL, HT_BF16, 4, 6);
    CHECK_INT(ht_tensor_bytes(&t), 48);
    CHECK_INT(t.rank, 2);
    t = ht_tensor_view(NULL, HT_F32, 0, NULL); /* a scalar */
    CHECK_INT(ht_tensor_bytes(&t), 4);
    t = ht_tensor_view_2d(NULL, HT_F32, SIZE_MAX / 2, 3);
    CHECK(ht_tensor_elements(&t) == SIZE_MAX && ht_tensor_bytes(&t) == SIZE_MAX);
    t = ht_tensor_view_2d(NULL, HT_F32, SIZE_MAX / 3, 1);
    CHECK(ht_tensor_bytes(&t) == SIZE_MAX);
    t = ht_tensor_view(NULL, HT_F32, 3, (const size_t[]){SIZE_MAX, SIZE_MAX, 0});
    CHECK_INT(ht_tensor_bytes(&t), 0);
    t = ht_tensor_view_2d(NULL, HT_I1, 3, 3);
    CHECK_INT(ht_tensor_bytes(&t), 2);
    t = ht_tensor_view_2d(NULL, HT_F4_E2M1, SIZE_MAX / 2, 2);
    CHECK(ht_tensor_bytes(&t) == SIZE_MAX / 4 * 2 + 1);
}

int main(void) {
    RUN(test_names);
    RUN(test_sizes);
    return check_finish();
}
