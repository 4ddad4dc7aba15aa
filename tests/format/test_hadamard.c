/* Hadamard transform: stored vectors and tables, orthogonality of every table, lengths. SPDX-License-Identifier:
 * BSD-3-Clause */
#include "format/hadamard.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/random.h"
#include "support/check.h"
#include "support/golden.h"

static const unsigned orders[] = {12, 20, 28, 36, 40, 44, 52, 60, 108, 140, 156, 172};
enum { ORDERS = sizeof orders / sizeof *orders };

static ht_hadamard h; /* 30 kB */

static void test_stored_transforms(void) {
    static const size_t lengths[] = {4, 64, 128, 96, 160, 112};
    golden g = golden_open("formats/hadamard.safetensors");
    for (size_t k = 0; k < sizeof lengths / sizeof *lengths; k++) {
        const golden_tensor *x = golden_findf(&g, "n%zu.x", lengths[k]);
        const golden_tensor *y = golden_findf(&g, "n%zu.y", lengths[k]);
        float got[3 * 160], most = 0;
        REQUIRE(x && y && x->bytes <= sizeof got);
        memcpy(got, x->data, x->bytes);
        REQUIRE_OK(ht_hadamard_init(&h, lengths[k]));
        ht_hadamard_apply(&h, got, golden_rows(x), 0);
        for (size_t i = 0; i < y->elements; i++)
            most = fmaxf(most, fabsf(((const float *)y->data)[i]));
        CHECK_F32_WITHIN(got, (const float *)y->data, y->elements, 1e-6 * (double)most);
        ht_hadamard_apply(&h, got, golden_rows(x), 1); /* and back */
        CHECK_F32_WITHIN(got, (const float *)x->data, x->elements, 2e-6 * (double)most);
    }
    golden_close(&g);
}

static void test_stored_tables(void) {
    golden g = golden_open("formats/hadamard.safetensors");
    for (size_t k = 0; k < ORDERS; k++) {
        const golden_tensor *table;
        char name[32];
        snprintf(name, sizeof name, "table.had%u", orders[k]);
        table = golden_maybe(&g, name);
        if (!table)
            table = golden_findf(&g, orders[k] == 40 ? "n160.had40" : "n112.had28");
        REQUIRE(table != NULL);
        REQUIRE_OK(ht_hadamard_init(&h, orders[k]));
        CHECK_INT(h.order, orders[k]);
        for (unsigned i = 0; i < orders[k]; i++)
            CHECK_BYTES(h.sign[i], (const int8_t *)table->data + i * orders[k], orders[k]);
    }
    golden_close(&g);
}

static void test_tables_are_orthogonal(void) {
    for (size_t k = 0; k < ORDERS; k++) {
        REQUIRE_OK(ht_hadamard_init(&h, orders[k]));
        for (unsigned a = 0; a < h.order; a++) {
            for (unsigned b = 0; b <= a; b++) {
                int dot = 0;
                for (unsigned j = 0; j < h.order; j++)
                    dot += h.sign[a][j] * h.sign[b][j];
                if (dot != (a == b ? (int)h.order : 0)) {
                    CHECK_INT(dot, a == b ? (int)h.order : 0);
                    return;
                }
            }
        }
    }
}

/* Length is kept, and the transform is linear in the sense of a known vector: the first unit vector. */
static void test_norm_and_unit_vector(void) {
    static const size_t lengths[] = {1, 2, 256, 4096, 12, 24, 40, 320, 344, 11008, 2752, 13824, 5120};
    static float x[13824];
    for (size_t k = 0; k < sizeof lengths / sizeof *lengths; k++) {
        size_t n = lengths[k];
        double before = 0, after = 0;
        REQUIRE_OK(ht_hadamard_init(&h, n));
        for (size_t i = 0; i < n; i++) {
            x[i] = ht_random_normal(3, 1, i);
            before += (double)x[i] * (double)x[i];
        }
        ht_hadamard_apply(&h, x, 1, 0);
        for (size_t i = 0; i < n; i++)
            after += (double)x[i] * (double)x[i];
        CHECK_NEAR(after, before, 1e-5);
        memset(x, 0, sizeof x);
        x[0] = 1;
        ht_hadamard_apply(&h, x, 1, 0);
        for (size_t i = 0; i < n; i++)
            CHECK_NEAR(fabsf(x[i]), 1 / sqrt((double)n), 1e-6);
    }
}

static void test_lengths(void) {
    CHECK(ht_hadamard_exists(1) && ht_hadamard_exists(4096) && ht_hadamard_exists(14336) && ht_hadamard_exists(344));
    CHECK(!ht_hadamard_exists(0) && !ht_hadamard_exists(6) && !ht_hadamard_exists(11) && !ht_hadamard_exists(68));
    CHECK_FAILS(ht_hadamard_init(&h, 50), HT_ERR_SHAPE);
    CHECK_CONTAINS(ht_error_message(), "50");
    CHECK_CONTAINS(ht_error_message(), "48 and 52");
    CHECK_FAILS(ht_hadamard_init(&h, 0), HT_ERR_SHAPE);
    CHECK_FAILS(ht_hadamard_init(&h, SIZE_MAX), HT_ERR_SHAPE);
    REQUIRE_OK(ht_hadamard_init(&h, 160));
    CHECK_INT(h.order, 40);
    REQUIRE_OK(ht_hadamard_init(&h, 20));
    CHECK_INT(h.order, 20);
}

int main(void) {
    RUN(test_stored_transforms);
    RUN(test_stored_tables);
    RUN(test_tables_are_orthogonal);
    RUN(test_norm_and_unit_vector);
    RUN(test_lengths);
    return check_finish();
}
