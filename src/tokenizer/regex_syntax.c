/* From Oniguruma's regular expressions (the language of tokenizer.json) to PCRE2's.
 *
 * The two agree on most of what tokenizers use; a left-to-right pass rewrites the rest, so that equal text means equal
 * matches: \s \w \b \h \v and POSIX classes have other members, x{2,3}+ repeats instead of being possessive, x{,3} is
 * a repeat, (?m) means that . matches a line break, (?i) in the middle of a branch takes the following alternatives
 * with it, \uHHHH is a character, classes nest and intersect: [\p{L}&&[^\p{Han}]]. ^ and $ match at lines in both
 * (PCRE2_MULTILINE). Everything not known here is a literal or refused by name: callouts, absent groups, conditionals,
 * bytes above 7F written as \xHH, \C- and \M- escapes, \X and \y (libraries differ on grapheme clusters).
 * Known difference: case folds that change the number of characters are not followed.
 * Source: Oniguruma's doc/RE, pcre2pattern(3).
 * SPDX-License-Identifier: BSD-3-Clause */
#include "tokenizer/regex.h"

#include <stdio.h>  /* snprintf */
#include <string.h> /* strchr, memcmp, memmove */

#include "base/status.h"
#include "tokenizer/regex_class.h"
#include "tokenizer/utf8.h"

enum { GROUPS = 240 }; /* PCRE2's own limit is 250 */

typedef struct group {
    size_t start; /* of the group in the output */
    int unclosed; /* groups opened for isolated options, closed with this one */
    int extended; /* (?x) outside */
} group;

typedef struct translation {
    ht_pattern in;
    ht_text *out;
    size_t atom; /* where the last quantifiable thing begins in the output */
    int has_atom, quantified, extended;
    group groups[GROUPS];
    size_t depth;
} translation;

static void put(translation *t, const char *text) {
    ht_text_append(t->out, text, strlen(text));
}

static void begin_atom(translation *t) {
    t->atom = t->out->length;
    t->has_atom = 1;
    t->quantified = 0;
}

/* Make (?:atom) of the last atom, so that it can be quantified once more. */
static void wrap_atom(translation *t) {
    static const char open[] = "(?:";
    size_t moved = t->out->length - t->atom;
    put(t, "    "); /* room for the parentheses */
    if (t->out->failed)
        return;
    char *at = t->out->data + t->atom;
    memmove(at + 3, at, moved);
    memcpy(at, open, 3);
    at[3 + moved] = ')';
}

static int starts(const translation *t, const char *text) {
    size_t length = strlen(text);
    return t->in.bytes - t->in.at >= length && memcmp(t->in.text + t->in.at, text, length) == 0;
}

static ht_status open_group(translation *t, const char *spelled) {
    if (t->depth == GROUPS)
        return ht_fail(HT_ERR_UNSUPPORTED, "more than %d nested groups", GROUPS);
    t->groups[t->depth++] = (group){.start = t->out->length, .extended = t->extended};
    put(t, spelled);
    t->has_atom = 0;
    return HT_OK;
}

/* (?imx-imx) and (?imx-imx: */
static ht_status options(translation *t) {
    char letters[16] = "(?";
    size_t used = 2, at = t->in.at + 2;
    int off = 0, extended = t->extended;
    for (; at < t->in.bytes && used + 3 < sizeof letters; at++) {
        char c = t->in.text[at];
        if (c == '-') {
            off = 1;
            letters[used++] = '-';
        } else if (c == 'i' || c == 'm') {
            letters[used++] = c == 'm' ? 's' : 'i';
        } else if (c == 'x') {
            extended = !off;
        } else {
            break;
        }
    }
    if (at >= t->in.bytes || (t->in.text[at] != ')' && t->in.text[at] != ':'))
        return ht_fail(HT_ERR_UNSUPPORTED, "the group %.12s", t->in.text + t->in.at);
    if (used > 2 && letters[used - 1] == '-')
        used--;
    memcpy(letters + used, ":", 2);
    int isolated = t->in.text[at] == ')';
    t->in.at = at + 1;
    if (!isolated) {
        HT_TRY(open_group(t, letters));
    } else {
        put(t, letters);
        t->groups[t->depth - 1].unclosed++;
        t->has_atom = 0;
    }
    t->extended = extended;
    return HT_OK;
}

static ht_status open_special(translation *t) {
    static const char *const same[] = {"(?:", "(?=", "(?!", "(?>", "(?<=", "(?<!"};
    for (size_t i = 0; i < sizeof same / sizeof same[0]; i++)
        if (starts(t, same[i])) {
            t->in.at += strlen(same[i]);
            return open_group(t, same[i]);
        }
    if (starts(t, "(?#")) {
        const char *end = memchr(t->in.text + t->in.at, ')', t->in.bytes - t->in.at);
        if (!end)
            return ht_fail(HT_ERR_CORRUPT, "a comment (?# without )");
        t->in.at = (size_t)(end - t->in.text) + 1;
        return HT_OK;
    }
    if (starts(t, "(?<") || starts(t, "(?'")) {
        char name[48];
        size_t length = 3;
        char last = starts(t, "(?<") ? '>' : '\'';
        while (t->in.at + length < t->in.bytes && length < 40 && t->in.text[t->in.at + length] != last)
            length++;
        snprintf(name, sizeof name, "%.*s%c", (int)length, t->in.text + t->in.at, last);
        if (t->in.at + length >= t->in.bytes || t->in.text[t->in.at + length] != last)
            return ht_fail(HT_ERR_UNSUPPORTED, "the group name %.40s", t->in.text + t->in.at);
        t->in.at += length + 1;
        return open_group(t, name);
    }
    return options(t);
}

static ht_status close_group(translation *t) {
    if (t->depth <= 1)
        return ht_fail(HT_ERR_CORRUPT, "not a valid pattern, unmatched ) at byte %zu of %.80s", t->in.at, t->in.text);
    group *closed = &t->groups[--t->depth];
    for (; closed->unclosed; closed->unclosed--)
        put(t, ")");
    put(t, ")");
    t->extended = closed->extended;
    t->atom = closed->start;
    t->has_atom = 1;
    t->quantified = 0;
    t->in.at++;
    return HT_OK;
}

/* {n} {n,} {,m} {n,m}: bytes used, 0 when the brace is a literal. */
static size_t interval(const translation *t, char spelled[32], int *exact) {
    const char *p = t->in.text + t->in.at;
    size_t left = t->in.bytes - t->in.at, at = 1, digits[2] = {0, 0};
    unsigned long number[2] = {0, 0};
    int comma = 0;
    for (; at < left && p[at] != '}'; at++) {
        if (p[at] == ',' && !comma)
            comma = 1;
        else if (p[at] >= '0' && p[at] <= '9' && digits[comma]++ < 6)
            number[comma] = number[comma] * 10 + (unsigned long)(p[at] - '0');
        else
            return 0;
    }
    if (at >= left || (!digits[0] && !digits[1]))
        return 0;
    *exact = !comma;
    if (!comma)
        snprintf(spelled, 32, "{%lu}", number[0]);
    else if (digits[1])
        snprintf(spelled, 32, "{%lu,%lu}", number[0], number[1]);
    else
        snprintf(spelled, 32, "{%lu,}", number[0]);
    return at + 1;
}

static ht_status quantifier(translation *t) {
    char spelled[32] = {t->in.text[t->in.at], 0};
    size_t used = 1;
    int braces = spelled[0] == '{', exact = 0;
    if (braces)
        used = interval(t, spelled, &exact);
    if (used == 0) { /* a literal brace */
        begin_atom(t);
        put(t, "\\{");
        t->in.at++;
        return HT_OK;
    }
    if (!t->has_atom)
        return ht_fail(HT_ERR_CORRUPT, "not a valid pattern, nothing to repeat at byte %zu of %.80s", t->in.at,
                       t->in.text);
    if (t->quantified)
        wrap_atom(t);
    put(t, spelled);
    t->quantified = 1;
    t->in.at += used;
    char suffix = t->in.at < t->in.bytes ? t->in.text[t->in.at] : 0;
    if ((suffix == '?' && !exact) || (suffix == '+' && !braces)) {
        put(t, suffix == '?' ? "?" : "+");
        t->in.at++;
    }
    return HT_OK;
}

/* Escapes whose spelling here is simply another text. */
static const struct {
    char letter;
    int quantifiable;
    const char *text;
} escapes[] = {
    {'t', 1, "\\t"},
    {'n', 1, "\\n"},
    {'r', 1, "\\r"},
    {'f', 1, "\\f"},
    {'a', 1, "\\a"},
    {'e', 1, "\\e"},
    {'v', 1, "\\x{b}"},
    {'d', 1, "\\p{Nd}"},
    {'D', 1, "\\P{Nd}"},
    {'s', 1, "[" HT_REGEX_SPACE "]"},
    {'S', 1, "[^" HT_REGEX_SPACE "]"},
    {'w', 1, "[" HT_REGEX_WORD_ALONE "]"},
    {'W', 1, "[^" HT_REGEX_WORD_ALONE "]"},
    {'h', 1, "[0-9A-Fa-f]"},
    {'H', 1, "[^0-9A-Fa-f]"},
    {'R', 1, "\\R"},
    {'N', 1, "\\N"},
    {'O', 1, "(?s:.)"},
    {'K', 0, "\\K"},
    {'A', 0, "\\A"},
    {'Z', 0, "\\Z"},
    {'z', 0, "\\z"},
    {'G', 0, "\\G"},
    {'b', 0,
     "(?:(?<=[" HT_REGEX_WORD_ALONE "])(?![" HT_REGEX_WORD_ALONE "])|(?<![" HT_REGEX_WORD_ALONE
     "])(?=[" HT_REGEX_WORD_ALONE "]))"},
    {'B', 0,
     "(?:(?<=[" HT_REGEX_WORD_ALONE "])(?=[" HT_REGEX_WORD_ALONE "])|(?<![" HT_REGEX_WORD_ALONE
     "])(?![" HT_REGEX_WORD_ALONE "]))"},
};

/* \1 \k<name> \g<name> keep their spelling. */
static ht_status reference(translation *t, char letter) {
    size_t end = t->in.at + 2;
    if (letter == 'k' || letter == 'g') {
        char last = end < t->in.bytes && t->in.text[end] == '<' ? '>' : '\'';
        while (end < t->in.bytes && t->in.text[end] != last)
            end++;
        if (end >= t->in.bytes)
            return ht_fail(HT_ERR_CORRUPT, "not a valid pattern, \\%c without a name", letter);
        ht_text_append(t->out, t->in.text + t->in.at, end + 1 - t->in.at);
        t->in.at = end + 1;
        return HT_OK;
    }
    while (end < t->in.bytes && t->in.text[end] >= '0' && t->in.text[end] <= '9')
        end++;
    ht_text_printf(t->out, "\\g{%.*s}", (int)(end - t->in.at - 1 < 6 ? end - t->in.at - 1 : 6),
                   t->in.text + t->in.at + 1);
    t->in.at = end;
    return HT_OK;
}

/* A property on its own is faster than a class of one. */
static void put_property(translation *t, const char *members, int negated) {
    const char *end = strchr(members, '}');
    if (memcmp(members, "\\p{", 3) == 0 && end && !end[1])
        ht_text_printf(t->out, "\\%c%s", negated ? 'P' : 'p', members + 2);
    else
        ht_text_printf(t->out, "[%s%s]", negated ? "^" : "", members);
}

static int three_octal_digits(const translation *t) {
    for (size_t i = 1; i <= 3; i++)
        if (t->in.at + i >= t->in.bytes || t->in.text[t->in.at + i] < '0' || t->in.text[t->in.at + i] > '7')
            return 0;
    return 1;
}

static ht_status escape(translation *t) {
    if (t->in.at + 1 >= t->in.bytes)
        return ht_fail(HT_ERR_CORRUPT, "not a valid pattern, it ends with a backslash: %.80s", t->in.text);
    char letter = t->in.text[t->in.at + 1];
    for (size_t i = 0; i < sizeof escapes / sizeof escapes[0]; i++)
        if (escapes[i].letter == letter) {
            begin_atom(t);
            t->has_atom = escapes[i].quantifiable;
            put(t, escapes[i].text);
            t->in.at += 2;
            return HT_OK;
        }
    begin_atom(t);
    if (letter == 'p' || letter == 'P') {
        ht_text members = {0};
        int negated;
        ht_status status = ht_pattern_property(&t->in, &members, &negated);
        if (status == HT_OK)
            put_property(t, members.data, negated);
        ht_text_free(&members);
        return status;
    }
    if (((letter >= '1' && letter <= '9') || letter == 'k' || letter == 'g') && !three_octal_digits(t))
        return reference(t, letter);
    uint32_t character;
    HT_TRY(ht_pattern_escaped_char(&t->in, &character));
    ht_text_printf(t->out, "\\x{%x}", (unsigned)character);
    return HT_OK;
}

static void literal(translation *t) {
    size_t length = ht_utf8_length(t->in.text + t->in.at);
    if (length > t->in.bytes - t->in.at)
        length = t->in.bytes - t->in.at;
    begin_atom(t);
    ht_text_append(t->out, t->in.text + t->in.at, length);
    t->in.at += length;
}

/* White space and comments of (?x). Returns 1 when something was passed over. */
static int skip_extended(translation *t) {
    char c = t->in.text[t->in.at];
    if (!t->extended || !strchr(" \t\n\r\f\v#", c) || c == 0)
        return 0;
    if (c == '#')
        while (t->in.at < t->in.bytes && t->in.text[t->in.at] != '\n')
            t->in.at++;
    else
        t->in.at++;
    return 1;
}

static ht_status step(translation *t) {
    char c = t->in.text[t->in.at];
    if (skip_extended(t))
        return HT_OK;
    switch (c) {
    case '\\':
        return escape(t);
    case '[':
        begin_atom(t);
        return ht_pattern_class(&t->in, t->out);
    case '(':
        if (starts(t, "(*"))
            return ht_fail(HT_ERR_UNSUPPORTED, "the callout %.12s", t->in.text + t->in.at);
        if (starts(t, "(?"))
            return open_special(t);
        t->in.at++;
        return open_group(t, "(");
    case ')':
        return close_group(t);
    case '*':
    case '+':
    case '?':
    case '{':
        return quantifier(t);
    case '|':
    case '^':
    case '$':
        ht_text_append(t->out, &c, 1);
        t->has_atom = 0;
        t->in.at++;
        return HT_OK;
    default:
        literal(t);
        return HT_OK;
    }
}

ht_status ht_regex_translate(const char *pattern, size_t bytes, ht_text *out) {
    translation t = {.in = {.text = pattern, .bytes = bytes}, .out = out, .depth = 1};
    while (t.in.at < bytes) {
        HT_TRY(step(&t));
        HT_TRY(ht_text_check(out));
    }
    if (t.depth > 1)
        return ht_fail(HT_ERR_CORRUPT, "not a valid pattern, a group is not closed: %.80s", pattern);
    for (int i = 0; i < t.groups[0].unclosed; i++)
        put(&t, ")");
    return ht_text_check(out);
}
