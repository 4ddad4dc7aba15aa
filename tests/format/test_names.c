/* SPDX-License-Identifier: BSD-3-Clause */
#include <halftone/format.h>

#include <string.h>
#include <stdio.h>

#include "format/table.h"
#include "support/check.h"

static void test_every_row_reads_back(void) {
    for (size_t i = 0; ht_format_list(i); i++) {
        const ht_format_row *row = &ht_format_rows[i];
        char name[96];
        ht_format back;
        ht_format_name(&row->format, name, sizeof name);
        if (!strchr(row->info.name, '<'))
            CHECK_TEXT(name, row->info.name);
        REQUIRE_OK(ht_format_parse(name, &back));
        CHECK(ht_format_equal(&back, &row->format));
        CHECK(row->info.summary && strlen(row->info.summary) > 4);
    }
    CHECK(!ht_format_list(ht_format_row_count));
}

static void test_bits_per_value(void) {
    for (size_t i = 0; ht_format_list(i); i++) {
        const ht_format_row *row = &ht_format_rows[i];
        if (row->info.bits_per_value > 0)
            CHECK_NEAR(ht_format_bits_per_value(&row->format, 1 << 20, 1 << 20), row->info.bits_per_value, 1e-4);
        else
            CHECK(strchr(row->info.name, '<') != NULL);
    }
}

static void check_name(const char *typed, const char *canonical) {
    ht_format f;
    char name[96];
    if (!CHECK_OK(ht_format_parse(typed, &f)))
        return;
    CHECK_INT(ht_format_name(&f, name, sizeof name), strlen(canonical));
    CHECK_TEXT(name, canonical);
}

static void test_spellings(void) {
    check_name("MXFP4", "mxfp4");
    check_name("mxfp6-e3m2", "mxfp6_e3m2");
    check_name("mxfp6", "mxfp6_e2m3");
    check_name("MXFP8-E4M3", "mxfp8");
    check_name("mxfp6_e2m3_bytes", "mxfp6_e2m3_bytes");
    check_name("fp8-token", "fp8_row");
    check_name("fp8_g128", "fp8_g128");
    check_name("fp8_e5m2_g64", "fp8_e5m2_g64");
    check_name("int4_g128", "int4_g128");
    check_name("INT4-G32-ASYM", "int4_g32_asym");
    check_name("int4_g128_float0_low", "int4_g128_float0_low");
    check_name("int4_g128_asym_scale_bf16", "int4_g128_asym_scale_bf16");
    check_name("int4_g128_scale_bf16_asym", "int4_g128_asym_scale_bf16");
    check_name("int8_row", "int8_row");
    check_name("int8_token", "int8_row");
    check_name("int8_token_asym", "int8_row_asym");
    check_name("int3_token", "int3_row");
    check_name("int8_row_words", "int8_row_words");
    check_name("int8_g64", "int8_g64");
    check_name("uint4_g64_asym", "uint4_g64_asym");
    check_name("nvfp4_pts", "nvfp4_pts");
    for (int bits = 1; bits <= 8; bits++) {
        char typed[32];
        snprintf(typed, sizeof typed, "int%d_g256_asym", bits);
        check_name(typed, typed);
    }
}

static void test_fields(void) {
    ht_format f;
    REQUIRE_OK(ht_format_parse("int3_g64_asym", &f));
    CHECK(f.family == HT_FAMILY_INT && f.element == HT_I3 && f.zero == HT_I8 && f.block_cols == 64 &&
          f.packing == HT_PACK_WORDS);
    REQUIRE_OK(ht_format_parse("int8_row", &f));
    CHECK(f.element == HT_I8 && f.packing == HT_PACK_BYTES && f.block_rows == 1 && f.block_cols == 0);
    REQUIRE_OK(ht_format_parse("nvfp4", &f));
    CHECK(f.global == HT_F32 && f.global_rule == HT_GLOBAL_DIVIDES && f.block_cols == 16);
    REQUIRE_OK(ht_format_parse("nvfp4_single", &f));
    CHECK(f.global == HT_DTYPE_NONE);
}

static void test_unknown(void) {
    static const char *const bad[] = {"",
                                      "mxfp5",
                                      "int9_g128",
                                      "int0_g128",
                                      "int4_g8",
                                      "int4_g512",
                                      "int4_g33",
                                      "int4",
                                      "int4_g128_asymm",
                                      "mxfp4_asym",
                                      "mxfp4x",
                                      "int4_g",
                                      "int4_g99999999999999999999",
                                      "fp8_row_low"};
    ht_format f;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        CHECK_FAILS(ht_format_parse(bad[i], &f), HT_ERR_FORMAT);
    CHECK_FAILS(ht_format_parse(NULL, &f), HT_ERR_FORMAT);
    CHECK_FAILS(ht_format_parse("mxpf4", &f), HT_ERR_FORMAT);
    CHECK_CONTAINS(ht_error_message(), "mxfp4");
    char name[32];
    ht_format odd = {.family = HT_FAMILY_MX, .element = HT_F64};
    ht_format_name(&odd, name, sizeof name);
    CHECK_TEXT(name, "unnamed");
    CHECK_INT(ht_format_name(&odd, NULL, 0), 7);
}

int main(void) {
    RUN(test_every_row_reads_back);
    RUN(test_bits_per_value);
    RUN(test_spellings);
    RUN(test_fields);
    RUN(test_unknown);
    return check_finish();
}
