/* Oniguruma patterns through PCRE2: matches, sets, what is refused, limits. Expected matches are what Oniguruma 6.9
 * gives (script/oracles/tokenizer_cases.py holds the same patterns against the library that uses it). */
#include "tokenizer/regex.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "support/check.h"
#include "tokenizer/utf8.h"

static ht_context *ctx;
static size_t memory_before; /* of the context itself */

/* All matches of a pattern, each in brackets. */
static void find_all(const char *pattern, const char *text, ht_text *out) {
    ht_regex *regex;
    ht_regex_scratch scratch;
    if (!CHECK_OK(ht_regex_create(ctx, HT_REGEX_ONIGURUMA, pattern, strlen(pattern), &regex)))
        return;
    ht_regex_scratch_init(&scratch, ctx);
    ht_regex_walk walk = {0};
    for (;;) {
        int found;
        size_t start, end;
        if (!CHECK_OK(ht_regex_next(regex, &scratch, text, strlen(text), &walk, &found, &start, &end)) || !found)
            break;
        ht_text_printf(out, "[%.*s]", (int)(end - start), text + start);
    }
    ht_regex_scratch_release(&scratch);
    ht_regex_destroy(regex);
}

static const struct {
    const char *pattern, *text, *want;
} matches[] = {
    {"\\p{N}{1,3}+", "1234567 8", "[1234567][8]"}, /* a repeat of the repeat, not possessive */
    {"\\w{2}?", "abc", "[ab][]"},
    {"\\w{,2}", "abc", "[ab][c]"},
    {"a{2,3}?", "aaaaa", "[aa][aa]"},
    {"a{x}", "a{x}", "[a{x}]"},
    {"a**", "aa", "[aa]"},
    {"a++b", "aab", "[aab]"},
    {"a(?i)b|c", "aB C c aC", "[aB][aC]"},
    {"(?i:'s|'ll)", "'S 'Ll 's", "['S]['Ll]['s]"},
    {"(?m:.)+", "a\nb", "[a\nb]"},
    {".+", "a\nb", "[a][b]"},
    {"^a", "a\na\n", "[a][a]"},
    {"a$", "a\na\n", "[a][a]"},
    {"\\h+", "xfF9g", "[fF9]"},
    {"\\v", "\v\n", "[\v]"},
    {"[\\s\\S]", "a\n", "[a][\n]"},
    {"[a-z&&[^aeiou]]+", "stone", "[st][n]"},
    {"[^a-z&&[aeiou]]", "st1", "[s][t][1]"},
    {"[\\p{L}&&[^\\p{Han}]]+", "ab\xe6\xbc\xa2zw", "[ab][zw]"},
    {"[a[0-9]]+", "a1b2", "[a1][2]"},
    {"[[:alpha:]]+", "ab1c", "[ab][c]"},
    {"[[:^alpha:]]", "a1", "[1]"},
    {"[]a]", "a]", "[a][]]"},
    {"[a\\-z]+", "a-zb", "[a-z]"},
    {"[\\w-]+", "a-b c", "[a-b][c]"},
    {"\\p{^L}", "a1", "[1]"},
    {"\\p{Letter}\\p{Decimal_Number}", "a1", "[a1]"},
    {"\\u0041\\x{42}\\x43\\104", "ABCD", "[ABCD]"},
    {"\\Q", "Q", "[Q]"},
    {"(?x) a b # comment", "ab", "[ab]"},
    {"(?#note)a", "a", "[a]"},
    {"(a|b)\\1", "aabbab", "[aa][bb]"},
    {"(?<n>.)\\k<n>", "xyyz", "[yy]"},
    {"\\bfoo\\b", "foo xfoo", "[foo]"},
    {"\\w", "_\xc2\xbd", "[_][\xc2\xbd]"}, /* one half is a word character alone */
    {"[\\w]", "_\xc2\xbd", "[_]"},         /* but not inside a class */
    {"x*", "axx", "[][xx]"},
    {"\\s+(?!\\S)|\\s+", "a   b ", "[  ][ ][ ]"},
    {"(?>a+)ab|a", "aab", "[a][a]"},
    {"\\R", "\r\n\n", "[\r\n][\n]"},
    {"\\O\\N", "\na\n\n", "[\na]"},
};

static void known_matches(void) {
    for (size_t i = 0; i < sizeof matches / sizeof matches[0]; i++) {
        ht_text out = {0};
        find_all(matches[i].pattern, matches[i].text, &out);
        if (!CHECK_TEXT(out.data ? out.data : "", matches[i].want))
            printf("  pattern %s\n", matches[i].pattern);
        ht_text_free(&out);
    }
}

static size_t members(const char *pattern) {
    ht_regex *regex;
    ht_regex_scratch scratch;
    size_t count = 0;
    if (!CHECK_OK(ht_regex_create(ctx, HT_REGEX_ONIGURUMA, pattern, strlen(pattern), &regex)))
        return 0;
    ht_regex_scratch_init(&scratch, ctx);
    for (uint32_t c = 0; c < 0x110000; c++) {
        char text[4];
        int found;
        size_t start, end;
        if (c >= 0xd800 && c < 0xe000)
            continue;
        size_t bytes = ht_utf8_encode(c, text);
        if (ht_regex_find(regex, &scratch, text, bytes, 0, &found, &start, &end) != HT_OK)
            break;
        count += (size_t)found;
    }
    ht_regex_scratch_release(&scratch);
    ht_regex_destroy(regex);
    return count;
}

/* Sets that do not grow with Unicode have a known size; complements complete each other. */
static void sets(void) {
    enum { CHARACTERS = 0x110000 - 0x800 };
    CHECK_INT(members("\\s"), 25);
    CHECK_INT(members("[\\s]"), 25);
    CHECK_INT(members("\\S"), CHARACTERS - 25);
    CHECK_INT(members("[\\S]"), CHARACTERS - 25);
    CHECK_INT(members("\\h"), 22);
    CHECK_INT(members("[[:cntrl:]]"), 65);
    CHECK_INT(members("[[:ascii:]]"), 128);
    CHECK_INT(members("\\p{Any}"), CHARACTERS);
    CHECK_INT(members("\\w") - members("[\\w]"), 6);
    CHECK_INT(members("[\\w]") + members("[\\W]"), CHARACTERS);
    CHECK_INT(members("\\p{L}") + members("\\p{^L}"), CHARACTERS);
    CHECK_INT(members("[[:punct:]]"), members("\\p{P}") + members("\\p{S}"));
    CHECK_INT(members("[^a-z&&[aeiou]]"), CHARACTERS - 5);
}

static const struct {
    const char *pattern;
    ht_status status;
    const char *part; /* of the message */
} refused[] = {
    {"(", HT_ERR_CORRUPT, "not closed"},
    {"a)", HT_ERR_CORRUPT, "unmatched )"},
    {"[a", HT_ERR_CORRUPT, "not closed"},
    {"[]", HT_ERR_CORRUPT, "not closed"},
    {"[b-a]", HT_ERR_CORRUPT, "is empty"},
    {"[a&&]", HT_ERR_CORRUPT, "empty class"},
    {"*a", HT_ERR_CORRUPT, "nothing to repeat"},
    {"a\\", HT_ERR_CORRUPT, "backslash"},
    {"\\2(a)", HT_ERR_CORRUPT, "not a valid pattern"},
    {"(?#", HT_ERR_CORRUPT, "comment"},
    {"a{3,2}", HT_ERR_CORRUPT, "not a valid pattern"},
    {"\\p{Nonsense}", HT_ERR_UNSUPPORTED, "Nonsense"},
    {"[[:nonsense:]]", HT_ERR_UNSUPPORTED, "nonsense"},
    {"\\p{In_Hiragana}", HT_ERR_UNSUPPORTED, "In_Hiragana"},
    {"\\pL", HT_ERR_UNSUPPORTED, "\\pL"},
    {"\\xff", HT_ERR_UNSUPPORTED, "\\xff"},
    {"\\C-a", HT_ERR_UNSUPPORTED, "\\C-a"},
    {"\\X", HT_ERR_UNSUPPORTED, "\\X"},
    {"\\x{110000}", HT_ERR_UNSUPPORTED, "the escape \\x{11"},
    {"\\ud800", HT_ERR_UNSUPPORTED, "\\ud800"},
    {"[\\R]", HT_ERR_UNSUPPORTED, "inside a class"},
    {"(?~ab)", HT_ERR_UNSUPPORTED, "(?~ab)"},
    {"(?(1)a)", HT_ERR_UNSUPPORTED, "(?(1)a)"},
    {"(*FAIL)", HT_ERR_UNSUPPORTED, "(*FAIL)"},
    {"(?y{g})a", HT_ERR_UNSUPPORTED, "(?y"},
};

static void refusals(void) {
    for (size_t i = 0; i < sizeof refused / sizeof refused[0]; i++) {
        ht_regex *regex;
        const char *pattern = refused[i].pattern;
        CHECK_FAILS(ht_regex_create(ctx, HT_REGEX_ONIGURUMA, pattern, strlen(pattern), &regex), refused[i].status);
        CHECK_CONTAINS(ht_error_message(), refused[i].part);
        CHECK(regex == NULL);
    }
}

static void deep_nesting(void) {
    char text[2000];
    for (int kind = 0; kind < 2; kind++) {
        ht_regex *regex;
        memset(text, kind ? '[' : '(', 999);
        text[999] = 'a';
        memset(text + 1000, kind ? ']' : ')', 999);
        CHECK_FAILS(ht_regex_create(ctx, HT_REGEX_ONIGURUMA, text, 1999, &regex), HT_ERR_UNSUPPORTED);
    }
}

/* An exponential pattern ends in a message, not in an hour. */
static void step_limit(void) {
    static const char pattern[] = "(x+x+)+y|(a|aa)+$";
    ht_regex *regex;
    ht_regex_scratch scratch;
    char text[60];
    int found;
    size_t start, end;
    memset(text, 'x', 50);
    memcpy(text + 50, "aaaaaaaaa!", 10);
    REQUIRE_OK(ht_regex_create(ctx, HT_REGEX_ONIGURUMA, pattern, strlen(pattern), &regex));
    ht_regex_scratch_init(&scratch, ctx);
    CHECK_FAILS(ht_regex_find(regex, &scratch, text, sizeof text, 0, &found, &start, &end), HT_ERR_UNSUPPORTED);
    CHECK_CONTAINS(ht_error_message(), "too many steps");
    ht_regex_scratch_release(&scratch);
    ht_regex_destroy(regex);
}

/* A match deeper than the small machine stack of compiled patterns. */
static void deep_match(void) {
    static const char pattern[] = "(?:(a|b)c?)*d";
    ht_regex *regex;
    ht_regex_scratch scratch;
    size_t bytes = 200000, start, end;
    int found;
    char *text = malloc(bytes);
    REQUIRE(text);
    memset(text, 'a', bytes);
    text[bytes - 1] = 'd';
    REQUIRE_OK(ht_regex_create(ctx, HT_REGEX_ONIGURUMA, pattern, strlen(pattern), &regex));
    ht_regex_scratch_init(&scratch, ctx);
    CHECK_OK(ht_regex_find(regex, &scratch, text, bytes, 0, &found, &start, &end));
    CHECK(found && start == 0 && end == bytes);
    ht_regex_scratch_release(&scratch);
    ht_regex_destroy(regex);
    free(text);
}

static void literals(void) {
    ht_regex *regex;
    ht_regex_scratch scratch;
    int found;
    size_t start, end;
    REQUIRE_OK(ht_regex_create(ctx, HT_REGEX_LITERAL, ".*", 2, &regex));
    ht_regex_scratch_init(&scratch, ctx);
    CHECK_OK(ht_regex_find(regex, &scratch, "a.b.*", 5, 0, &found, &start, &end));
    CHECK(found && start == 3 && end == 5);
    ht_regex_scratch_release(&scratch);
    ht_regex_destroy(regex);
    ht_regex_destroy(NULL);
}

static void nothing_leaks(void) {
    CHECK_INT(ht_context_memory_used(ctx), memory_before);
}

int main(void) {
    if (!CHECK_OK(ht_context_create(NULL, &ctx)))
        return 1;
    memory_before = ht_context_memory_used(ctx);
    RUN(known_matches);
    RUN(sets);
    RUN(refusals);
    RUN(deep_nesting);
    RUN(step_limit);
    RUN(deep_match);
    RUN(literals);
    RUN(nothing_leaks);
    ht_context_destroy(ctx);
    return check_finish();
}
