/* Safetensors headers: a valid file, and every malformation with the line that it gives. */
#include "io/safetensors.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <halftone/context.h>

#include "support/check.h"

static ht_context *ctx;

/* Parse header text followed by data_bytes bytes of data. length: what the length field says. */
static ht_status parse_with_length(const char *header, uint64_t length, size_t data_bytes, ht_arena *arena,
                                   ht_safetensors *out) {
    size_t bytes = 8 + strlen(header) + data_bytes;
    uint8_t *file = calloc(1, bytes); /* exactly the file, so that a sanitizer sees any step outside */
    for (int i = 0; i < 8; i++)
        file[i] = (uint8_t)(length >> (8 * i));
    memcpy(file + 8, header, strlen(header));
    ht_status status = ht_safetensors_parse(arena, "f.safetensors", file, bytes, out);
    free(file);
    return status;
}

static ht_status parse(const char *header, size_t data_bytes, ht_arena *arena, ht_safetensors *out) {
    return parse_with_length(header, strlen(header), data_bytes, arena, out);
}

static void valid(void) {
    ht_arena arena;
    ht_arena_init(&arena, ctx);
    ht_safetensors out;
    const char *header = "{\"__metadata__\":{\"format\":\"pt\",\"k\":\"\xc3\xa9\"},"
                         "\"b\":{\"dtype\":\"BF16\",\"shape\":[2,3],\"data_offsets\":[4,16]},"
                         "\"a\":{\"dtype\":\"F32\",\"shape\":[],\"data_offsets\":[0,4],\"extra\":1},"
                         "\"empty\":{\"dtype\":\"I64\",\"shape\":[0,7],\"data_offsets\":[4,4]},"
                         "\"four\":{\"dtype\":\"F4\",\"shape\":[2,3],\"data_offsets\":[16,19]}}    ";
    if (CHECK_OK(parse(header, 19, &arena, &out))) {
        CHECK_INT(out.count, 4);
        CHECK_TEXT(out.entries[0].name, "a");
        CHECK_INT(out.entries[0].rank, 0);
        CHECK_TEXT(out.entries[1].name, "empty");
        CHECK_TEXT(out.entries[2].name, "b");
        CHECK_INT(out.entries[2].dtype, HT_BF16);
        CHECK_INT(out.entries[2].shape[1], 3);
        CHECK_INT(out.entries[3].dtype, HT_F4_E2M1);
        CHECK_INT(out.metadata_count, 2);
        CHECK_INT(out.data_offset, 8 + strlen(header));
    }
    CHECK_OK(parse("{}", 0, &arena, &out));
    CHECK_INT(out.count, 0);
    ht_arena_release(&arena);
}

#define ONE(dtype, shape, offsets) "{\"t\":{\"dtype\":\"" dtype "\",\"shape\":" shape ",\"data_offsets\":" offsets "}}"

static const struct {
    const char *header;
    size_t data;
    const char *message;
} malformed[] = {
    {"[]", 0, "does not begin with {"},
    {"{", 0, "not valid JSON"},
    {"{}x", 0, "not valid JSON"},
    {"{\"t\":1}", 0, "tensor t: its entry is not an object"},
    {"{\"\xff\":{}}", 0, "not valid JSON"},
    {"{\"a\\u0000b\":{}}", 0, "not valid JSON"},
    {"{\"\":{\"dtype\":\"U8\",\"shape\":[0],\"data_offsets\":[0,0]}}", 0, "empty name"},
    {"{\"__metadata__\":[]}", 0, "__metadata__ is not an object"},
    {"{\"__metadata__\":{\"a\":1}}", 0, "__metadata__ key a"},
    {"{\"t\":{\"shape\":[1],\"data_offsets\":[0,1]}}", 1, "dtype is missing"},
    {"{\"t\":{\"dtype\":\"U8\",\"data_offsets\":[0,1]}}", 1, "shape is missing"},
    {"{\"t\":{\"dtype\":\"U8\",\"shape\":[1]}}", 1, "data_offsets [begin, end] is missing"},
    {ONE("U9", "[1]", "[0,1]"), 1, "unknown dtype \"U9\""},
    {ONE("i4", "[2]", "[0,1]"), 1, "unknown dtype \"i4\""},
    {ONE("U8", "[1,1,1,1,1,1,1,1,1]", "[0,1]"), 1, "more than 8 dimensions"},
    {ONE("U8", "[-1]", "[0,1]"), 1, "dimension 0 is not a whole number"},
    {ONE("U8", "[1.0]", "[0,1]"), 1, "dimension 0 is not a whole number"},
    {ONE("U8", "[99999999999999999999]", "[0,1]"), 1, "dimension 0 is not a whole number"},
    {ONE("F64", "[4294967296,4294967296]", "[0,1]"), 1, "more than 2^64 bits"},
    {ONE("U8", "[1]", "[0]"), 1, "data_offsets [begin, end] is missing"},
    {ONE("U8", "7", "[0,1]"), 1, "shape is not an array"},
    {ONE("U8", "[1],\"shape\":[1]", "[0,1]"), 1, "shape is given twice"},
    {ONE("U8", "[01]", "[0,1]"), 1, "dimension 0 is not a whole number"},
    {ONE("U8", "[1,]", "[0,1]"), 1, "dimension 1 is not a whole number"},
    {"{\"a\\ud800b\":{}}", 0, "malformed escape"},
    {"{\"a\\x\":{}}", 0, "malformed escape"},
    {"{\"a\nb\":{}}", 0, "control character"},
    {"{\"\xed\xa0\x80\":{}}", 0, "invalid UTF-8"},
    {"{\"\xc0\xaf\":{}}", 0, "invalid UTF-8"},
    {"{\"t\":{\"x\":[[{\"y\":1e}]]}}", 0, "malformed number"},
    {"{\"t\":{\"x\":nul}}", 0, "a value is expected"},
    {"{\"__metadata__\":{},\"__metadata__\":{}}", 0, "__metadata__ is given twice"},
    {ONE("U8", "[1]", "[0,1,2]"), 1, "data_offsets is not [begin, end]"},
    {ONE("U8", "[1]", "[1,0]"), 1, "run backwards"},
    {ONE("U8", "[1]", "[-1,0]"), 1, "run backwards"},
    {ONE("U8", "[2]", "[0,1]"), 1, "span 1 bytes, dtype and shape need 2"},
    {ONE("F4", "[3]", "[0,2]"), 2, "are not whole bytes"},
    {ONE("U8", "[4]", "[0,4]"), 3, "ends at data byte 4, the file holds 3"},
    {ONE("U8", "[4]", "[0,4]"), 5, "1 bytes after the last tensor"},
    {ONE("U8", "[3]", "[1,4]"), 4, "hole of 1 bytes between the header and tensor t"},
    {"{}", 1, "1 bytes after the last tensor"},
    {"{\"a\":{\"dtype\":\"U8\",\"shape\":[3],\"data_offsets\":[0,3]},\"b\":{\"dtype\":\"U8\",\"shape\":[2],"
     "\"data_offsets\":[2,4]}}",
     4, "tensor b begins at data byte 2, inside a that ends at 3"},
    {"{\"a\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]},\"b\":{\"dtype\":\"U8\",\"shape\":[2],"
     "\"data_offsets\":[2,4]}}",
     4, "hole of 1 bytes between a and tensor b"},
};

static void refused(void) {
    for (size_t i = 0; i < sizeof malformed / sizeof malformed[0]; i++) {
        ht_arena arena;
        ht_arena_init(&arena, ctx);
        ht_safetensors out;
        CHECK_FAILS(parse(malformed[i].header, malformed[i].data, &arena, &out), HT_ERR_CORRUPT);
        CHECK_CONTAINS(ht_error_message(), malformed[i].message);
        CHECK_CONTAINS(ht_error_message(), "f.safetensors");
        ht_arena_release(&arena);
    }
}

static void lengths(void) {
    ht_arena arena;
    ht_arena_init(&arena, ctx);
    ht_safetensors out;
    uint8_t seven[7] = {0};
    CHECK_FAILS(ht_safetensors_parse(&arena, "f", seven, 7, &out), HT_ERR_CORRUPT);
    CHECK_FAILS(ht_safetensors_parse(&arena, "f", NULL, 0, &out), HT_ERR_CORRUPT);
    CHECK_FAILS(parse_with_length("{}", 3, 0, &arena, &out), HT_ERR_CORRUPT);
    CHECK_CONTAINS(ht_error_message(), "header of 3 bytes, the file holds 2");
    CHECK_FAILS(parse_with_length("{}", 100000001, 0, &arena, &out), HT_ERR_CORRUPT);
    CHECK_CONTAINS(ht_error_message(), "limit 100000000");
    CHECK_FAILS(parse_with_length("{}", UINT64_MAX, 0, &arena, &out), HT_ERR_CORRUPT);
    CHECK_FAILS(parse_with_length("{}", 0, 0, &arena, &out), HT_ERR_CORRUPT);
    ht_arena_release(&arena);
}

/* Every prefix of a valid header fails, none crashes. */
static void truncated(void) {
    const char *header = ONE("U8", "[4]", "[0,4]");
    for (size_t length = 0; length < strlen(header); length++) {
        ht_arena arena;
        ht_arena_init(&arena, ctx);
        ht_safetensors out;
        char cut[128];
        snprintf(cut, sizeof cut, "%.*s", (int)length, header);
        CHECK_FAILS(parse(cut, 0, &arena, &out), HT_ERR_CORRUPT);
        ht_arena_release(&arena);
    }
}

static void escapes(void) {
    ht_arena arena;
    ht_arena_init(&arena, ctx);
    ht_safetensors out;
    if (CHECK_OK(parse("{\"a\\u00e9\\\\\\\"\\ud83d\\ude00\\n\":{\"x\":[-1.5e+3,{\"y\":null},true,[]],\"dtype\":\"U8\","
                       "\"shape\":[ 0 ] , \"data_offsets\":[0,0]}}",
                       0, &arena, &out)))
        CHECK_TEXT(out.entries[0].name, "a\xc3\xa9\\\"\xf0\x9f\x98\x80\n");
    char deep[600] = "{\"t\":{\"x\":";
    memset(deep + strlen(deep), '[', 500);
    CHECK_FAILS(parse(deep, 0, &arena, &out), HT_ERR_CORRUPT);
    CHECK_CONTAINS(ht_error_message(), "nested too deep");
    ht_arena_release(&arena);
}

int main(void) {
    if (ht_context_create(NULL, &ctx) != HT_OK)
        return 1;
    RUN(valid);
    RUN(refused);
    RUN(lengths);
    RUN(truncated);
    RUN(escapes);
    ht_context_destroy(ctx);
    return check_finish();
}
