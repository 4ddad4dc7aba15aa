/* The bundled model's tokenizer against ids of another program: 65 texts and whole files; round trips; threads. */
#include <halftone/halftone.h>

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <jansson.h>

#include "base/context.h"
#include "base/file_map.h"
#include "support/check.h"
#include "support/sha256.h"
#include "tokenizer/pipeline.h"

static ht_context *ctx;
static size_t memory_before; /* of the context itself */
static ht_tokenizer *tokenizer;

static int same_ids(const ht_encoding *got, const json_t *want) {
    if (got->count != json_array_size(want))
        return 0;
    for (size_t i = 0; i < got->count; i++)
        if (got->ids[i] != json_integer_value(json_array_get(want, i)))
            return 0;
    return 1;
}

static void check_decoded(const json_t *ids, const json_t *want, int skip_special, const char *label) {
    int32_t list[4096];
    size_t count = json_array_size(ids), bytes;
    char *text;
    for (size_t i = 0; i < count; i++)
        list[i] = (int32_t)json_integer_value(json_array_get(ids, i));
    REQUIRE_OK(ht_tokenizer_decode(tokenizer, list, count, skip_special, &text, &bytes));
    if (!CHECK_INT(bytes, json_string_length(want)) || !CHECK_BYTES(text, json_string_value(want), bytes))
        printf("  decoding of %.60s\n", label);
    ht_text_release(text);
}

static void golden_texts(void) {
    json_t *golden = json_load_file(check_data("models/tokens.json"), JSON_ALLOW_NUL, NULL);
    REQUIRE(golden);
    json_t *cases = json_object_get(golden, "cases"), *item;
    size_t i;
    CHECK_INT(json_array_size(cases), 65);
    json_array_foreach(cases, i, item) {
        const json_t *text = json_object_get(item, "text"), *ids = json_object_get(item, "ids");
        ht_encoding got;
        REQUIRE_OK(ht_tokenizer_encode(tokenizer, json_string_value(text), json_string_length(text), 1, &got));
        if (!CHECK(same_ids(&got, ids)))
            printf("  ids of text %zu, %.60s\n", i, json_string_value(text));
        ht_encoding_release(&got);
        check_decoded(ids, json_object_get(item, "decoded"), 0, json_string_value(text));
        check_decoded(ids, json_object_get(item, "decoded_skip_special"), 1, json_string_value(text));
    }
    json_decref(golden);
}

static void check_file(const char *path, const char *name, const json_t *want) {
    ht_file_map map;
    REQUIRE_OK(ht_file_map_open(path, &map));
    ht_encoding got;
    double start = ht_seconds();
    REQUIRE_OK(ht_tokenizer_encode(tokenizer, (const char *)map.data, map.bytes, 0, &got));
    double seconds = ht_seconds() - start;
    printf("  %s: %.1f MB/s\n", name, (double)map.bytes / seconds * 1e-6);
    char digest[65];
    check_sha256(got.ids, got.count * sizeof *got.ids, digest); /* this machine is little-endian */
    CHECK_INT(got.count, json_integer_value(json_object_get(want, "count")));
    CHECK_TEXT(digest, json_string_value(json_object_get(want, "sha256_int32_le")));
    for (size_t i = 0; i < 16 && got.count >= 16; i++) {
        CHECK_INT(got.ids[i], json_integer_value(json_array_get(json_object_get(want, "first16"), i)));
        CHECK_INT(got.ids[got.count - 16 + i], json_integer_value(json_array_get(json_object_get(want, "last16"), i)));
    }
    char *text;
    size_t bytes;
    REQUIRE_OK(ht_tokenizer_decode(tokenizer, got.ids, got.count, 0, &text, &bytes));
    CHECK_INT(bytes, map.bytes);
    CHECK(bytes == map.bytes && memcmp(text, map.data, bytes) == 0);
    ht_text_release(text);
    ht_encoding_release(&got);
    ht_file_map_close(&map);
}

static void bundled_files(void) {
    json_t *golden = json_load_file(check_data("tokenizer/texts.json"), 0, NULL), *want;
    const char *name;
    REQUIRE(golden);
    json_object_foreach(json_object_get(golden, "files"), name, want) {
        char relative[128];
        snprintf(relative, sizeof relative, "text/%s", name);
        check_file(check_data(relative), name, want);
    }
    json_decref(golden);
}

static void larger_files(void) {
    json_t *golden = json_load_file(check_data("models/tokens.json"), JSON_ALLOW_NUL, NULL), *want;
    const char *name;
    int found = 0;
    REQUIRE(golden);
    json_object_foreach(json_object_get(golden, "files"), name, want) {
        char relative[128];
        snprintf(relative, sizeof relative, "data/%s", name);
        const char *path = check_extra_data(relative);
        if (path) {
            check_file(path, name, want);
            found++;
        }
    }
    json_decref(golden);
    if (!found)
        SKIP("HALFTONE_TEST_DATA names no folder with data/*.txt");
}

static void vocabulary(void) {
    CHECK_INT(ht_tokenizer_vocabulary(tokenizer), 4096);
    CHECK_TEXT(ht_tokenizer_token(tokenizer, 0), "<|begin_of_text|>");
    CHECK(ht_tokenizer_is_special(tokenizer, 0) && ht_tokenizer_is_special(tokenizer, 1));
    CHECK(!ht_tokenizer_is_special(tokenizer, 2) && !ht_tokenizer_is_special(tokenizer, -1));
    CHECK(ht_tokenizer_token(tokenizer, 4096) == NULL && ht_tokenizer_token(tokenizer, -1) == NULL);
    for (int32_t id = 0; id < 4096; id++)
        CHECK_INT(ht_tokenizer_id(tokenizer, ht_tokenizer_token(tokenizer, id)), id);
    CHECK_INT(ht_tokenizer_id(tokenizer, "no such token"), -1);
}

static void ids_outside(void) {
    char *text;
    size_t bytes;
    int32_t high[] = {5, 4096}, low[] = {-1};
    CHECK_FAILS(ht_tokenizer_decode(tokenizer, high, 2, 0, &text, &bytes), HT_ERR_ARGUMENT);
    CHECK_CONTAINS(ht_error_message(), "4096 at position 1");
    CHECK_FAILS(ht_tokenizer_decode(tokenizer, low, 1, 0, &text, &bytes), HT_ERR_ARGUMENT);
    REQUIRE_OK(ht_tokenizer_decode(tokenizer, NULL, 0, 0, &text, &bytes));
    CHECK_TEXT(text, "");
    ht_text_release(text);
}

/* Any bytes: ids decode to the repaired text. */
static void random_bytes(void) {
    for (uint64_t round = 0; round < 300; round++) {
        char text[200];
        size_t length = 1 + round % sizeof text;
        for (size_t i = 0; i < length; i++)
            text[i] = (char)((round * 977 + i * i * 31 + (i << (round % 7))) >> (i % 3));
        ht_encoding got;
        REQUIRE_OK(ht_tokenizer_encode(tokenizer, text, length, 0, &got));
        char *back;
        size_t bytes;
        REQUIRE_OK(ht_tokenizer_decode(tokenizer, got.ids, got.count, 0, &back, &bytes));
        ht_encoding again;
        REQUIRE_OK(ht_tokenizer_encode(tokenizer, back, bytes, 0, &again));
        CHECK(again.count == got.count && memcmp(again.ids, got.ids, got.count * sizeof *got.ids) == 0);
        ht_encoding_release(&again);
        ht_encoding_release(&got);
        ht_text_release(back);
    }
}

static void *encode_many(void *arg) {
    const char *text = arg;
    size_t *total = calloc(1, sizeof *total);
    for (int i = 0; total && i < 200; i++) {
        ht_encoding got;
        if (ht_tokenizer_encode(tokenizer, text, strlen(text), 1, &got) == HT_OK)
            *total += got.count;
        ht_encoding_release(&got);
    }
    return total;
}

static void threads(void) {
    static char texts[2][48] = {"It was the best of times, <|end_of_text|>", "12345 naïve  spaces\n\n"};
    pthread_t thread[4];
    size_t counts[4] = {0};
    for (int i = 0; i < 4; i++)
        REQUIRE(pthread_create(&thread[i], NULL, encode_many, texts[i % 2]) == 0);
    for (int i = 0; i < 4; i++) {
        void *total;
        pthread_join(thread[i], &total);
        counts[i] = *(size_t *)total;
        free(total);
    }
    CHECK(counts[0] > 0 && counts[0] == counts[2]);
    CHECK(counts[1] > 0 && counts[1] == counts[3]);
}

/* A long word, long runs: linear enough to finish. */
static void long_runs(void) {
    size_t bytes = 1 << 20;
    char *text = malloc(bytes);
    REQUIRE(text);
    for (const char *kind = "a \n.1"; *kind; kind++) {
        memset(text, *kind, bytes);
        ht_encoding got;
        double start = ht_seconds();
        REQUIRE_OK(ht_tokenizer_encode(tokenizer, text, bytes, 0, &got));
        CHECK(ht_seconds() - start < 20); /* sanitizers and emulators included; natively well under a second */
        CHECK(got.count > 0);
        ht_encoding_release(&got);
    }
    free(text);
}

static void nothing_leaks(void) {
    CHECK_INT(ht_context_memory_used(ctx), memory_before);
}

/* Tokens that swallow the white space around them, in a text of nothing else. */
static void swallowed_runs(void) {
    static const char file[] =
        "{\"model\":{\"vocab\":{\"a\":0},\"merges\":[]},\"added_tokens\":["
        "{\"id\":1,\"content\":\"\\n\",\"lstrip\":true,\"rstrip\":true},{\"id\":2,\"content\":\"\\t\",\"rstrip\":true},"
        "{\"id\":3,\"content\":\" \",\"lstrip\":true}]}";
    static const char *const units[] = {"\n\n\n\n", "\n\t\n\t", "\t\t\t\t", " \n \t"};
    size_t bytes = 1 << 20;
    char *text = malloc(bytes);
    ht_tokenizer *small;
    REQUIRE(text);
    REQUIRE_OK(ht_tokenizer_parse(ctx, file, strlen(file), &small));
    for (size_t unit = 0; unit < sizeof units / sizeof units[0]; unit++) {
        ht_encoding got;
        for (size_t i = 0; i < bytes; i++)
            text[i] = units[unit][i % 4];
        double start = ht_seconds();
        REQUIRE_OK(ht_tokenizer_encode(small, text, bytes, 0, &got));
        CHECK(ht_seconds() - start < 20);
        CHECK(got.count > 0);
        ht_encoding_release(&got);
    }
    ht_tokenizer_close(small);
    free(text);
}

int main(void) {
    if (!CHECK_OK(ht_context_create(NULL, &ctx)))
        return 1;
    memory_before = ht_context_memory_used(ctx);
    if (!CHECK_OK(ht_tokenizer_open(ctx, check_data("../../models/novel-7m"), &tokenizer)))
        return 1;
    RUN(golden_texts);
    RUN(bundled_files);
    RUN(larger_files);
    RUN(vocabulary);
    RUN(ids_outside);
    RUN(random_bytes);
    RUN(threads);
    RUN(long_runs);
    RUN(swallowed_runs);
    ht_tokenizer_close(tokenizer);
    ht_tokenizer_close(NULL);
    RUN(nothing_leaks);
    ht_context_destroy(ctx);
    return check_finish();
}
