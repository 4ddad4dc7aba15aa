/* Files that are not a tokenizer we can run: the status, and a line that names the place. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "support/check.h"
#include "tokenizer/pipeline.h"

static ht_context *ctx;
static size_t memory_before; /* of the context itself */

#define MODEL "\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0,\"b\":1,\"ab\":2},\"merges\":[\"a b\"]}"

static const struct {
    const char *file;
    ht_status status;
    const char *part;
} cases[] = {
    {"", HT_ERR_CORRUPT, "not JSON"},
    {"{", HT_ERR_CORRUPT, "not JSON"},
    {"[]", HT_ERR_CORRUPT, "expected an object"},
    {"{}", HT_ERR_CORRUPT, "model: expected an object, found missing"},
    {"{\"version\":\"2.0\"," MODEL "}", HT_ERR_UNSUPPORTED, "version: \"2.0\""},
    {"{\"extra\":1," MODEL "}", HT_ERR_UNSUPPORTED, "extra: unknown key"},
    {"{\"model\":{\"type\":\"Unigram\"}}", HT_ERR_UNSUPPORTED, "model: model type \"Unigram\""},
    {"{\"model\":{\"type\":\"WordPiece\",\"vocab\":{}}}", HT_ERR_UNSUPPORTED, "WordPiece"},
    {"{\"model\":{\"type\":\"BPE\"}}", HT_ERR_CORRUPT, "model.vocab: expected an object"},
    {"{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":-1},\"merges\":[]}}", HT_ERR_CORRUPT, "model.vocab.a: -1"},
    {"{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":2147483647},\"merges\":[]}}", HT_ERR_CORRUPT, "2147483647"},
    {"{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":\"x\"},\"merges\":[]}}", HT_ERR_CORRUPT, "model.vocab.a: expected"},
    {"{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0},\"merges\":[\"a c\"]}}", HT_ERR_CORRUPT,
     "model.merges[0]: token \"c\""},
    {"{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0},\"merges\":[\"a a\"]}}", HT_ERR_CORRUPT, "token \"aa\""},
    {"{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0},\"merges\":[\"aa\"]}}", HT_ERR_CORRUPT,
     "model.merges[0]: a merge"},
    {"{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0},\"merges\":[[\"a\"]]}}", HT_ERR_CORRUPT, "a pair of texts"},
    {"{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0},\"merges\":{}}}", HT_ERR_CORRUPT,
     "model.merges: expected an array"},
    {"{\"model\":{\"vocab\":{\"a\":0},\"merges\":[],\"dropout\":0.1}}", HT_ERR_UNSUPPORTED, "model.dropout"},
    {"{\"model\":{\"vocab\":{\"a\":0},\"merges\":[],\"unk_token\":\"u\"}}", HT_ERR_CORRUPT,
     "model.unk_token: token \"u\""},
    {"{\"model\":{\"vocab\":{\"a\":0},\"merges\":[],\"fuse_unk\":1}}", HT_ERR_CORRUPT, "model.fuse_unk: expected true"},
    {"{\"model\":{\"vocab\":{\"a\":0},\"merges\":[],\"new_key\":1}}", HT_ERR_UNSUPPORTED, "model.new_key"},
    {"{\"model\":{\"vocab\":{\"##a\":0,\"a\":1},\"merges\":[\"##a a\"],\"continuing_subword_prefix\":\"##\"}}",
     HT_ERR_CORRUPT, "shorter than continuing_subword_prefix"},
    {"{\"normalizer\":{\"type\":\"Foo\"}," MODEL "}", HT_ERR_UNSUPPORTED, "normalizer: normalizer \"Foo\""},
    {"{\"normalizer\":{}," MODEL "}", HT_ERR_CORRUPT, "normalizer.type: expected text"},
    {"{\"normalizer\":{\"type\":\"Sequence\",\"normalizers\":[{\"type\":\"NFC\"},{\"type\":\"Replace\"}]}," MODEL "}",
     HT_ERR_CORRUPT, "normalizer.normalizers[1].pattern"},
    {"{\"normalizer\":{\"type\":\"NFC\",\"strength\":2}," MODEL "}", HT_ERR_UNSUPPORTED, "normalizer.strength"},
    {"{\"normalizer\":{\"type\":\"Precompiled\",\"precompiled_charsmap\":\"A\"}," MODEL "}", HT_ERR_CORRUPT,
     "not base64"},
    {"{\"normalizer\":{\"type\":\"Precompiled\",\"precompiled_charsmap\":\"/////wAA\"}," MODEL "}", HT_ERR_CORRUPT,
     "a trie"},
    {"{\"pre_tokenizer\":{\"type\":\"Split\",\"pattern\":{\"Regex\":\"(\"}}," MODEL "}", HT_ERR_CORRUPT,
     "pre_tokenizer.pattern: not a valid pattern"},
    {"{\"pre_tokenizer\":{\"type\":\"Split\",\"pattern\":{\"Regex\":\"a\"},\"behavior\":\"Up\"}," MODEL "}",
     HT_ERR_CORRUPT, "pre_tokenizer.behavior: unknown behavior \"Up\""},
    {"{\"pre_tokenizer\":{\"type\":\"Metaspace\",\"replacement\":\"__\"}," MODEL "}", HT_ERR_CORRUPT, "one character"},
    {"{\"pre_tokenizer\":{\"type\":\"Metaspace\",\"replacement\":\"_\",\"prepend_scheme\":\"x\"}," MODEL "}",
     HT_ERR_CORRUPT, "unknown scheme"},
    {"{\"pre_tokenizer\":{\"type\":\"FixedLength\",\"length\":0}," MODEL "}", HT_ERR_CORRUPT,
     "pre_tokenizer.length: 0"},
    {"{\"pre_tokenizer\":{\"type\":\"Whirl\"}," MODEL "}", HT_ERR_UNSUPPORTED, "\"Whirl\""},
    {"{\"post_processor\":{\"type\":\"TemplateProcessing\",\"single\":[{\"SpecialToken\":{\"id\":\"s\"}}],\"special_"
     "tokens\":{}}," MODEL "}",
     HT_ERR_CORRUPT, "post_processor.single[0].SpecialToken: special token \"s\""},
    {"{\"post_processor\":{\"type\":\"TemplateProcessing\",\"single\":[{\"Sequence\":{\"id\":\"B\"}}]}," MODEL "}",
     HT_ERR_UNSUPPORTED, "sequence \"B\""},
    {"{\"post_processor\":{\"type\":\"Nope\"}," MODEL "}", HT_ERR_UNSUPPORTED, "\"Nope\""},
    {"{\"decoder\":{\"type\":\"Nope\"}," MODEL "}", HT_ERR_UNSUPPORTED, "\"Nope\""},
    {"{\"decoder\":{\"type\":\"Strip\",\"content\":\" \",\"start\":-1,\"stop\":0}," MODEL "}", HT_ERR_CORRUPT,
     "decoder.start: -1"},
    {"{\"added_tokens\":[{\"id\":3}]," MODEL "}", HT_ERR_CORRUPT, "added_tokens[0].content"},
    {"{\"added_tokens\":[{\"id\":-3,\"content\":\"x\"}]," MODEL "}", HT_ERR_CORRUPT, "added_tokens[0].id: -3"},
    {"{\"added_tokens\":{}," MODEL "}", HT_ERR_CORRUPT, "added_tokens: expected an array"},
};

static void bad_files(void) {
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        ht_tokenizer *tokenizer;
        CHECK_FAILS(ht_tokenizer_parse(ctx, cases[i].file, strlen(cases[i].file), &tokenizer), cases[i].status);
        if (!CHECK_CONTAINS(ht_error_message(), cases[i].part))
            printf("  file %s\n", cases[i].file);
        CHECK(tokenizer == NULL);
        CHECK_INT(ht_context_memory_used(ctx), memory_before);
    }
}

/* Every prefix of a good file is refused, and nothing leaks. */
static void truncated(void) {
    static const char file[] =
        "{\"normalizer\":{\"type\":\"Sequence\",\"normalizers\":[{\"type\":\"NFC\"},{\"type\":\"Replace\","
        "\"pattern\":{\"Regex\":\"a+\"},\"content\":\"b\"}]},\"added_tokens\":[{\"id\":3,\"content\":"
        "\"<s>\",\"normalized\":true}]," MODEL "}";
    ht_tokenizer *tokenizer;
    for (size_t length = 0; length < strlen(file); length++)
        CHECK_FAILS(ht_tokenizer_parse(ctx, file, length, &tokenizer), HT_ERR_CORRUPT);
    REQUIRE_OK(ht_tokenizer_parse(ctx, file, strlen(file), &tokenizer));
    ht_tokenizer_close(tokenizer);
    CHECK_INT(ht_context_memory_used(ctx), memory_before);
}

static void nested(void) {
    ht_text file = {0};
    ht_tokenizer *tokenizer;
    ht_text_printf(&file, "{" MODEL ",\"pre_tokenizer\":");
    for (int i = 0; i < 100; i++)
        ht_text_printf(&file, "{\"type\":\"Sequence\",\"pretokenizers\":[");
    for (int i = 0; i < 100; i++)
        ht_text_printf(&file, "]}");
    ht_text_printf(&file, "}");
    CHECK_FAILS(ht_tokenizer_parse(ctx, file.data, file.length, &tokenizer), HT_ERR_UNSUPPORTED);
    CHECK_CONTAINS(ht_error_message(), "nested");
    ht_text_free(&file);
}

static void many_stages(void) {
    ht_text file = {0};
    ht_tokenizer *tokenizer;
    ht_text_printf(&file, "{" MODEL ",\"pre_tokenizer\":{\"type\":\"Sequence\",\"pretokenizers\":[");
    for (int i = 0; i < 80; i++)
        ht_text_printf(&file, "%s{\"type\":\"WhitespaceSplit\"}", i ? "," : "");
    ht_text_printf(&file, "]}}");
    CHECK_FAILS(ht_tokenizer_parse(ctx, file.data, file.length, &tokenizer), HT_ERR_UNSUPPORTED);
    CHECK_CONTAINS(ht_error_message(), "pre_tokenizer.pretokenizers[64]");
    ht_text_free(&file);
}

static void files(void) {
    ht_tokenizer *tokenizer;
    char path[512];
    CHECK_FAILS(ht_tokenizer_open(ctx, "/nonexistent", &tokenizer), HT_ERR_IO);
    CHECK_CONTAINS(ht_error_message(), "/nonexistent");
    CHECK_FAILS(ht_tokenizer_open(ctx, check_scratch(), &tokenizer), HT_ERR_IO);
    CHECK_CONTAINS(ht_error_message(), "tokenizer.json");
    snprintf(path, sizeof path, "%s/tokenizer.json", check_scratch());
    FILE *file = fopen(path, "wb");
    REQUIRE(file);
    fputs("{\"model\":{\"type\":\"Unigram\"}}", file);
    fclose(file);
    CHECK_FAILS(ht_tokenizer_open(ctx, check_scratch(), &tokenizer), HT_ERR_UNSUPPORTED);
    CHECK_CONTAINS(ht_error_message(), path);
    CHECK(tokenizer == NULL);
}

/* Every allocation may fail: a message and no leak. */
static void memory_limits(void) {
    static const char file[] =
        "{\"normalizer\":{\"type\":\"NFC\"},\"pre_tokenizer\":{\"type\":\"ByteLevel\"},\"added_tokens\":"
        "[{\"id\":3,\"content\":\"<s>\"}]," MODEL "}";
    for (size_t limit = 4096; limit < (size_t)4 << 20; limit += limit / 3) {
        ht_context_options options = ht_context_options_default();
        ht_context *small;
        ht_tokenizer *tokenizer;
        options.memory_limit = limit;
        if (ht_context_create(&options, &small) != HT_OK)
            continue;
        size_t before = ht_context_memory_used(small);
        ht_status status = ht_tokenizer_parse(small, file, strlen(file), &tokenizer);
        ht_encoding got = {0};
        if (status == HT_OK)
            status = ht_tokenizer_encode(tokenizer, "ab<s> a b", 9, 1, &got);
        CHECK(status == HT_OK || status == HT_ERR_MEMORY);
        ht_encoding_release(&got);
        ht_tokenizer_close(tokenizer);
        CHECK_INT(ht_context_memory_used(small), before);
        ht_context_destroy(small);
    }
}

int main(void) {
    if (!CHECK_OK(ht_context_create(NULL, &ctx)))
        return 1;
    memory_before = ht_context_memory_used(ctx);
    RUN(bad_files);
    RUN(truncated);
    RUN(nested);
    RUN(many_stages);
    RUN(files);
    RUN(memory_limits);
    ht_context_destroy(ctx);
    return check_finish();
}
