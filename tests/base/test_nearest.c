/* Edit distance and the choice of the nearest word.
 * SPDX-License-Identifier: BSD-3-Clause */
#include "base/nearest.h"

#include <stdint.h>
#include <string.h>

#include "support/check.h"

static void test_distance(void) {
    CHECK_INT(ht_word_distance("", ""), 0);
    CHECK_INT(ht_word_distance("", "abc"), 3);
    CHECK_INT(ht_word_distance("abc", ""), 3);
    CHECK_INT(ht_word_distance("mxfp4", "mxfp4"), 0);
    CHECK_INT(ht_word_distance("MXFP4_W", "mxfp4-w"), 0);
    CHECK_INT(ht_word_distance("mxpf4", "mxfp4"), 1); /* neighbours swapped */
    CHECK_INT(ht_word_distance("mfp4", "mxfp4"), 1);
    CHECK_INT(ht_word_distance("kitten", "sitting"), 3);
    CHECK_INT(ht_word_distance("sitting", "kitten"), 3);
    char longer[80];
    memset(longer, 'a', sizeof longer - 1);
    longer[sizeof longer - 1] = '\0';
    CHECK(ht_word_distance(longer, "a") == SIZE_MAX);
}

static void test_nearest(void) {
    ht_nearest nearest = {.word = "scheme_rule"};
    ht_nearest_offer(&nearest, "method");
    CHECK_TEXT(nearest.found, "method");
    ht_nearest_offer(&nearest, "scale_rule");
    ht_nearest_offer(&nearest, "rules");
    CHECK_TEXT(nearest.found, "scale_rule");
}

static void test_equal(void) {
    CHECK(ht_word_equal("W4A16", "w4a16"));
    CHECK(ht_word_equal("FP8_DYNAMIC", "fp8-dynamic"));
    CHECK(!ht_word_equal("fp8", "fp8-w"));
    CHECK(!ht_word_equal("fp8-w", "fp8"));
    CHECK(ht_word_equal("", ""));
}

int main(void) {
    RUN(test_distance);
    RUN(test_nearest);
    RUN(test_equal);
    return check_finish();
}
