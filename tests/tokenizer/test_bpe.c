/* Merging against a plain loop: random models, words of all lengths, so that the scan, the heap and the cutting of long
 * pieces all come by. */
#include <stdlib.h>
#include <string.h>

#include "base/random.h"
#include "support/check.h"
#include "tokenizer/pipeline.h"

static ht_context *ctx;
static size_t memory_before; /* of the context itself */

static uint32_t draw(uint64_t seed, uint64_t *counter, uint32_t below) {
    return ht_random_u32(seed, 7, (*counter)++) % below;
}

/* A model over the letters a..e: tokens made by random merges of earlier ones. */
static ht_tokenizer *random_model(uint64_t seed, size_t merges, int ambiguous) {
    ht_text vocabulary = {0}, list = {0}, file = {0};
    char tokens[256][64];
    size_t count = 0;
    uint64_t counter = 0;
    for (; count < 5; count++) {
        tokens[count][0] = (char)('a' + count);
        tokens[count][1] = 0;
        ht_text_printf(&vocabulary, "%s\"%s\":%zu", count ? "," : "", tokens[count], count);
    }
    for (size_t i = 0; i < merges && count < 250; i++) {
        const char *left = tokens[draw(seed, &counter, (uint32_t)count)];
        const char *right = tokens[draw(seed, &counter, (uint32_t)count)];
        char joined[160];
        size_t known = 0;
        strcpy(joined, left);
        strcat(joined, right);
        while (known < count && strcmp(tokens[known], joined) != 0)
            known++;
        if (strlen(joined) > 60 || (known < count && !ambiguous))
            continue;
        ht_text_printf(&list, "%s[\"%s\",\"%s\"]", list.length ? "," : "", left, right);
        if (known == count) {
            strcpy(tokens[count], joined);
            ht_text_printf(&vocabulary, ",\"%s\":%zu", joined, count);
            count++;
        }
    }
    ht_text_printf(&file, "{\"model\":{\"type\":\"BPE\",\"vocab\":{%s},\"merges\":[%s]}}", vocabulary.data,
                   list.data ? list.data : "");
    ht_tokenizer *tokenizer = NULL;
    CHECK_OK(ht_tokenizer_parse(ctx, file.data, file.length, &tokenizer));
    ht_text_free(&vocabulary);
    ht_text_free(&list);
    ht_text_free(&file);
    return tokenizer;
}

static size_t merge_plainly(const ht_bpe *bpe, int32_t *symbols, size_t count) {
    for (;;) {
        const ht_merge *best = NULL;
        size_t place = 0;
        for (size_t i = 0; i + 1 < count; i++) {
            const ht_merge *merge = ht_bpe_find_merge(bpe, symbols[i], symbols[i + 1]);
            if (merge && (!best || merge->rank < best->rank)) {
                best = merge;
                place = i;
            }
        }
        if (!best)
            return count;
        symbols[place] = best->id;
        memmove(symbols + place + 1, symbols + place + 2, (count - place - 2) * sizeof *symbols);
        count--;
    }
}

static int check_word(const ht_tokenizer *tokenizer, uint64_t seed, size_t length) {
    char word[700];
    int32_t plain[700];
    uint64_t counter = 1u << 20;
    uint32_t letters = 1 + draw(seed, &counter, 5);
    for (size_t i = 0; i < length; i++) {
        word[i] = (char)('a' + draw(seed, &counter, letters));
        plain[i] = word[i] - 'a';
    }
    size_t count = merge_plainly(&tokenizer->bpe, plain, length);
    ht_encoding got;
    if (!CHECK_OK(ht_tokenizer_encode(tokenizer, word, length, 0, &got)))
        return 0;
    int same = got.count == count && memcmp(got.ids, plain, count * sizeof *plain) == 0;
    ht_encoding_release(&got);
    return CHECK(same);
}

static void random_models(void) {
    size_t cut = 0;
    for (uint64_t seed = 0; seed < 120; seed++) {
        ht_tokenizer *tokenizer = random_model(seed, seed % 3 == 0 ? 12 : 200, seed % 4 == 3);
        REQUIRE(tokenizer);
        cut += tokenizer->bpe.bridges != NULL;
        if (seed % 2) { /* long pieces in one go: the heap */
            ht_release(ctx, tokenizer->bpe.bridges);
            tokenizer->bpe.bridges = NULL;
        }
        static const size_t lengths[] = {1, 2, 3, 7, 20, 47, 48, 63, 64, 65, 66, 130, 400, 700};
        for (size_t i = 0; i < sizeof lengths / sizeof lengths[0]; i++)
            if (!check_word(tokenizer, seed * 100 + i, lengths[i])) {
                ht_tokenizer_close(tokenizer);
                return;
            }
        ht_tokenizer_close(tokenizer);
    }
    CHECK_INT(cut, 120); /* letters make unambiguous ends, so every model has the set */
}

/* A first symbol that merges can also make: the set of crossings would not be exact, so there is none. */
static void contradiction(void) {
    static const char file[] = "{\"model\":{\"vocab\":{\"<0x4\":0,\"1>\":1,\"<0x41>\":2},\"merges\":[\"<0x4 1>\"]}}";
    static const char unknown[] = "{\"model\":{\"vocab\":{\"a\":0,\"b\":1,\"ab\":2},\"merges\":[\"a b\"],"
                                  "\"unk_token\":\"ab\"}}";
    ht_tokenizer *tokenizer;
    REQUIRE_OK(ht_tokenizer_parse(ctx, file, strlen(file), &tokenizer));
    CHECK(tokenizer->bpe.bridges != NULL); /* <0x4 cannot be made, so the merge never happens */
    ht_tokenizer_close(tokenizer);
    REQUIRE_OK(ht_tokenizer_parse(ctx, unknown, strlen(unknown), &tokenizer));
    CHECK(tokenizer->bpe.bridges == NULL);
    ht_tokenizer_close(tokenizer);
}

/* The leftmost of equal ranks first. */
static void small_cases(void) {
    static const char file[] = "{\"model\":{\"vocab\":{\"a\":0,\"aa\":1,\"aaa\":2},\"merges\":[\"a a\",\"aa a\"]}}";
    ht_tokenizer *tokenizer;
    REQUIRE_OK(ht_tokenizer_parse(ctx, file, strlen(file), &tokenizer));
    ht_encoding got;
    REQUIRE_OK(ht_tokenizer_encode(tokenizer, "aaaaa", 5, 0, &got)); /* aa aa a -> aa aaa */
    REQUIRE(got.count == 2);
    CHECK(got.ids[0] == 1 && got.ids[1] == 2);
    ht_encoding_release(&got);
    ht_tokenizer_close(tokenizer);
}

static void nothing_leaks(void) {
    CHECK_INT(ht_context_memory_used(ctx), memory_before);
}

int main(void) {
    if (!CHECK_OK(ht_context_create(NULL, &ctx)))
        return 1;
    memory_before = ht_context_memory_used(ctx);
    RUN(random_models);
    RUN(contradiction);
    RUN(small_cases);
    RUN(nothing_leaks);
    ht_context_destroy(ctx);
    return check_finish();
}
