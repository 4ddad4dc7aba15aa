/* Some two hundred small tokenizers, with every component, against ids and texts of the Hugging Face library.
 * The goldens and how they were made: script/oracles/tokenizer_cases.py. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <jansson.h>

#include "support/check.h"
#include "tokenizer/pipeline.h"

static ht_context *ctx;
static size_t memory_before; /* of the context itself */
static json_t *golden;

/* A tokenizer of a golden row: its model and the sections it names. */
static ht_tokenizer *build(const json_t *row) {
    const char *model = json_string_value(json_object_get(row, "model"));
    static const char *const sections[] = {"added_tokens", "normalizer", "pre_tokenizer", "post_processor", "decoder"};
    json_t *file = json_object();
    json_object_set_new(file, "version", json_string("1.0"));
    json_object_set(file, "model", json_object_get(json_object_get(golden, "models"), model));
    for (size_t i = 0; i < sizeof sections / sizeof sections[0]; i++)
        if (json_object_get(row, sections[i]))
            json_object_set(file, sections[i], json_object_get(row, sections[i]));
    char *text = json_dumps(file, 0);
    ht_tokenizer *tokenizer = NULL;
    if (!CHECK_OK(ht_tokenizer_parse(ctx, text, strlen(text), &tokenizer)))
        printf("  %s: %s\n", json_string_value(json_object_get(row, "name")), ht_error_message());
    free(text);
    json_decref(file);
    return tokenizer;
}

/* Text or {"hex": ...}; returns its bytes. */
static size_t read_text(const json_t *item, char *out, size_t room) {
    const char *hex = json_string_value(json_object_get(item, "hex"));
    size_t bytes = hex ? strlen(hex) / 2 : json_string_length(item);
    if (bytes > room)
        return 0;
    if (!hex)
        memcpy(out, json_string_value(item), bytes);
    for (size_t i = 0; hex && i < bytes; i++) {
        unsigned value;
        sscanf(hex + 2 * i, "%2x", &value);
        out[i] = (char)value;
    }
    return bytes;
}

static int check_ids(const ht_tokenizer *tokenizer, size_t text, const json_t *want, int add_special) {
    char bytes[1024];
    size_t length = read_text(json_array_get(json_object_get(golden, "texts"), text), bytes, sizeof bytes);
    ht_encoding got;
    if (!CHECK_OK(ht_tokenizer_encode(tokenizer, bytes, length, add_special, &got)))
        return 0;
    int same = got.count == json_array_size(want);
    for (size_t i = 0; same && i < got.count; i++)
        same = got.ids[i] == json_integer_value(json_array_get(want, i));
    ht_encoding_release(&got);
    return CHECK(same);
}

static void encode_row(const json_t *row) {
    ht_tokenizer *tokenizer = build(row);
    REQUIRE(tokenizer);
    const json_t *lists[] = {json_object_get(row, "ids"), json_object_get(row, "ids_special")};
    for (int special = 0; special < 2; special++)
        for (size_t i = 0; lists[special] && i < json_array_size(lists[special]); i++)
            if (!check_ids(tokenizer, i, json_array_get(lists[special], i), special))
                printf("  %s, text %zu\n", json_string_value(json_object_get(row, "name")), i);
    ht_tokenizer_close(tokenizer);
}

static void encoding(void) {
    json_t *row;
    size_t i;
    CHECK(json_array_size(json_object_get(golden, "encode")) > 150);
    json_array_foreach(json_object_get(golden, "encode"), i, row) {
        encode_row(row);
    }
}

static void decode_row(const json_t *row) {
    ht_tokenizer *tokenizer = build(row);
    json_t *item;
    size_t i;
    REQUIRE(tokenizer);
    json_array_foreach(json_object_get(row, "cases"), i, item) {
        const json_t *list = json_array_get(item, 0);
        int32_t ids[64];
        for (size_t k = 0; k < json_array_size(list) && k < 64; k++)
            ids[k] = (int32_t)json_integer_value(json_array_get(list, k));
        for (int skip = 0; skip < 2; skip++) {
            const json_t *want = json_array_get(item, 1 + (size_t)skip);
            char *text;
            size_t bytes;
            REQUIRE_OK(ht_tokenizer_decode(tokenizer, ids, json_array_size(list), skip, &text, &bytes));
            int same = bytes == json_string_length(want) && memcmp(text, json_string_value(want), bytes) == 0;
            if (!CHECK(same))
                printf("  %s, case %zu: \"%s\", want \"%s\"\n", json_string_value(json_object_get(row, "name")), i,
                       text, json_string_value(want));
            ht_text_release(text);
        }
    }
    ht_tokenizer_close(tokenizer);
}

static void decoding(void) {
    json_t *row;
    size_t i;
    CHECK(json_array_size(json_object_get(golden, "decode")) > 10);
    json_array_foreach(json_object_get(golden, "decode"), i, row) {
        decode_row(row);
    }
}

static void nothing_leaks(void) {
    CHECK_INT(ht_context_memory_used(ctx), memory_before);
}

int main(void) {
    golden = json_load_file(check_data("tokenizer/variants.json"), JSON_ALLOW_NUL, NULL);
    if (!CHECK(golden) || !CHECK_OK(ht_context_create(NULL, &ctx)))
        return 1;
    memory_before = ht_context_memory_used(ctx);
    RUN(encoding);
    RUN(decoding);
    RUN(nothing_leaks);
    ht_context_destroy(ctx);
    json_decref(golden);
    return check_finish();
}
