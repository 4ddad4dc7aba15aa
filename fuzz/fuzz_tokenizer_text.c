/* Arbitrary text through small tokenizers of every family. Byte 0 picks one; the rest is the text.
 *
 * Traps when a byte-level tokenizer does not give back the text (with ill-formed bytes repaired), or when cutting long
 * pieces changes the ids.
 * SPDX-License-Identifier: BSD-3-Clause */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "tokenizer/byte_level.h"
#include "tokenizer/pipeline.h"
#include "tokenizer/utf8.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define LLAMA3                                                                                                         \
    "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\\\r\\\\n\\\\p{L}\\\\p{N}]?\\\\p{L}+|\\\\p{N}{1,3}| "                             \
    "?[^\\\\s\\\\p{L}\\\\p{N}]+[\\\\r\\\\n]*|"                                                                         \
    "\\\\s*[\\\\r\\\\n]+|\\\\s+(?!\\\\S)|\\\\s+"

/* The sections around the model. */
static const struct {
    int bytes; /* byte-level: decoding gives the text back */
    const char *sections;
} families[] = {
    {1, "\"pre_tokenizer\":{\"type\":\"ByteLevel\",\"add_prefix_space\":false},\"decoder\":{\"type\":\"ByteLevel\"}"},
    {1,
     "\"pre_tokenizer\":{\"type\":\"Sequence\",\"pretokenizers\":[{\"type\":\"Split\",\"pattern\":{\"Regex\":\"" LLAMA3
     "\"},\"behavior\":\"Isolated\"},{\"type\":\"ByteLevel\",\"add_prefix_space\":false,\"use_regex\":false}]},"
     "\"decoder\":{\"type\":\"ByteLevel\"}"},
    {1, "\"pre_tokenizer\":{\"type\":\"ByteLevel\",\"add_prefix_space\":false,\"use_regex\":false},"
        "\"decoder\":{\"type\":\"ByteLevel\"}"},
    {0,
     "\"normalizer\":{\"type\":\"Sequence\",\"normalizers\":[{\"type\":\"Prepend\",\"prepend\":\"_\"},{\"type\":"
     "\"Replace\","
     "\"pattern\":{\"String\":\" \"},\"content\":\"_\"}]},\"decoder\":{\"type\":\"Metaspace\",\"replacement\":\"_\"}"},
    {0, "\"normalizer\":{\"type\":\"NFKC\"},\"pre_tokenizer\":{\"type\":\"Metaspace\",\"replacement\":\"_\","
        "\"prepend_scheme\":\"first\"},\"added_tokens\":[{\"id\":0,\"content\":\"ab\",\"lstrip\":true,\"rstrip\":true},"
        "{\"id\":0,\"content\":\"abc\",\"normalized\":true,\"single_word\":true}]"},
    {0, "\"normalizer\":{\"type\":\"BertNormalizer\"},\"pre_tokenizer\":{\"type\":\"BertPreTokenizer\"},"
        "\"decoder\":{\"type\":\"WordPiece\",\"prefix\":\"##\"}"},
    {0, "\"normalizer\":{\"type\":\"Sequence\",\"normalizers\":[{\"type\":\"NFD\"},{\"type\":\"StripAccents\"},"
        "{\"type\":\"Lowercase\"},{\"type\":\"Nmt\"},{\"type\":\"Strip\"}]},\"pre_tokenizer\":{\"type\":\"Sequence\","
        "\"pretokenizers\":[{\"type\":\"UnicodeScripts\"},{\"type\":\"Digits\"},{\"type\":\"Punctuation\",\"behavior\":"
        "\"MergedWithNext\"},{\"type\":\"Whitespace\"},{\"type\":\"FixedLength\",\"length\":7}]},"
        "\"decoder\":{\"type\":\"CTC\",\"pad_token\":\"a\",\"word_delimiter_token\":\"b\"}"},
};

enum { FAMILIES = sizeof families / sizeof families[0] };

/* All byte characters, then merges of a few of them. */
static void write_model(ht_text *file) {
    static const char *const merges[][2] = {{"a", "b"}, {"ab", "c"}, {"a", "a"}, {"aa", "aa"}, {"e", "r"}, {"t", "h"}};
    ht_text_printf(file, "\"model\":{\"type\":\"BPE\",\"unk_token\":\"a\",\"vocab\":{");
    for (int i = 0; i < 256; i++) {
        char byte = (char)i;
        const char *escape = byte == '"' || byte == '\\' ? "\\" : "";
        ht_text_printf(file, "%s\"%s", i ? "," : "", escape);
        ht_byte_level_encode(file, &byte, 1);
        ht_text_printf(file, "\":%d", i);
    }
    for (size_t i = 0; i < sizeof merges / sizeof merges[0]; i++)
        ht_text_printf(file, ",\"%s%s\":%zu", merges[i][0], merges[i][1], 256 + i);
    ht_text_printf(file, "},\"merges\":[");
    for (size_t i = 0; i < sizeof merges / sizeof merges[0]; i++)
        ht_text_printf(file, "%s\"%s %s\"", i ? "," : "", merges[i][0], merges[i][1]);
    ht_text_printf(file, "]}");
}

static ht_tokenizer *build(ht_context *ctx, int family) {
    ht_text file = {0};
    ht_tokenizer *tokenizer;
    ht_text_printf(&file, "{%s,", families[family].sections);
    write_model(&file);
    ht_text_printf(&file, "}");
    if (ht_tokenizer_parse(ctx, file.data, file.length, &tokenizer) != HT_OK)
        abort();
    ht_text_free(&file);
    return tokenizer;
}

static void check_round_trip(const ht_tokenizer *tokenizer, const ht_encoding *got, const char *text, size_t bytes) {
    ht_text want = {0};
    char *back;
    size_t length;
    ht_utf8_append_repaired(&want, text, bytes);
    if (ht_tokenizer_decode(tokenizer, got->ids, got->count, 0, &back, &length) != HT_OK || length != want.length ||
        (length && memcmp(back, want.data, length) != 0))
        abort();
    ht_text_release(back);
    ht_text_free(&want);
}

static void check_cuts(ht_tokenizer *tokenizer, const ht_encoding *got, const char *text, size_t bytes) {
    ht_encoding whole;
    uint64_t *bridges = tokenizer->bpe.bridges;
    tokenizer->bpe.bridges = NULL;
    if (ht_tokenizer_encode(tokenizer, text, bytes, 1, &whole) != HT_OK || whole.count != got->count ||
        (whole.count && memcmp(whole.ids, got->ids, whole.count * sizeof *whole.ids) != 0))
        abort();
    tokenizer->bpe.bridges = bridges;
    ht_encoding_release(&whole);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static ht_context *ctx;
    static ht_tokenizer *tokenizers[FAMILIES]; /* live as long as the process */
    if (!size)
        return 0;
    if (!ctx) {
        ht_context_options options = ht_context_options_default();
        options.threads = 1;
        if (ht_context_create(&options, &ctx) != HT_OK)
            abort();
        for (int i = 0; i < FAMILIES; i++)
            tokenizers[i] = build(ctx, i);
    }
    int family = data[0] % FAMILIES;
    const char *text = (const char *)data + 1;
    ht_encoding got;
    size_t before = ht_context_memory_used(ctx);
    if (ht_tokenizer_encode(tokenizers[family], text, size - 1, 1, &got) != HT_OK)
        abort();
    if (families[family].bytes)
        check_round_trip(tokenizers[family], &got, text, size - 1);
    check_cuts(tokenizers[family], &got, text, size - 1);
    char *back;
    size_t length;
    if (ht_tokenizer_decode(tokenizers[family], got.ids, got.count, 1, &back, &length) != HT_OK)
        abort();
    ht_text_release(back);
    ht_encoding_release(&got);
    if (ht_context_memory_used(ctx) != before)
        abort();
    return 0;
}
