/* Regular expressions of tokenizer files: Oniguruma's language, run by PCRE2. */
#ifndef HT_TOKENIZER_REGEX_H
#define HT_TOKENIZER_REGEX_H

#include <stddef.h>

#include <halftone/context.h>

#include "base/text.h"

typedef struct ht_regex ht_regex;

typedef enum ht_regex_kind {
    HT_REGEX_ONIGURUMA, /* a pattern as tokenizer files have it */
    HT_REGEX_LITERAL,   /* the text itself */
    HT_REGEX_PCRE2,     /* PCRE2's own language */
} ht_regex_kind;

/* Compile. Fails with CORRUPT (not a valid pattern, with the offset) or UNSUPPORTED (a construct that is not
 * translated, named). Immutable afterwards: any number of threads may match. */
ht_status ht_regex_create(ht_context *ctx, ht_regex_kind kind, const char *pattern, size_t bytes, ht_regex **out);
void ht_regex_destroy(ht_regex *regex); /* accepts NULL */

/* What one thread needs to match; shared by all regexes of a call. */
typedef struct ht_regex_scratch {
    ht_context *ctx;
    void *match_data, *match_context, *general_context, *jit_stack;
} ht_regex_scratch;
void ht_regex_scratch_init(ht_regex_scratch *scratch, ht_context *ctx);
void ht_regex_scratch_release(ht_regex_scratch *scratch);

/* First match that begins at or after `from` in valid UTF-8. *found is 0 or 1. Fails with UNSUPPORTED when the pattern
 * needs more than the match limit on this text, MEMORY. */
ht_status ht_regex_find(const ht_regex *regex, ht_regex_scratch *scratch, const char *text, size_t bytes, size_t from,
                        int *found, size_t *start, size_t *end);

/* Name of the (*MARK) that the last match passed; "" without. Valid until the next match. */
const char *ht_regex_mark(const ht_regex_scratch *scratch);

/* Walking over the matches as the file format's own library does: not overlapping, an empty match right after the
 * previous match is passed over. Start with {0}. */
typedef struct ht_regex_walk {
    size_t from, last_end;
    int matched;
} ht_regex_walk;
ht_status ht_regex_next(const ht_regex *regex, ht_regex_scratch *scratch, const char *text, size_t bytes,
                        ht_regex_walk *walk, int *found, size_t *start, size_t *end);

/* regex_syntax.c: append the PCRE2 spelling of an Oniguruma pattern. Fails with UNSUPPORTED or CORRUPT. */
ht_status ht_regex_translate(const char *pattern, size_t bytes, ht_text *out);
/* regex_property.c: members of \p{name} as the inside of a PCRE2 class; UNSUPPORTED when there is no such property.
 * *negated is flipped for a name that begins with ^. */
ht_status ht_regex_property(const char *name, size_t bytes, ht_text *members, int *negated);

/* Insides of PCRE2 classes: white space, everything else, word characters; and the word characters of \w and \b outside
 * of a class, where Oniguruma takes those below U+0100 from Latin-1: superscripts and fractions are among them. */
#define HT_REGEX_SPACE                                                                                                 \
    "\\t-\\r\\x{20}\\x{85}\\x{a0}\\x{1680}\\x{2000}-\\x{200a}\\x{2028}\\x{2029}\\x{202f}\\x{205f}\\x{3000}"
#define HT_REGEX_NOT_SPACE                                                                                             \
    "\\x{0}-\\x{8}\\x{e}-\\x{1f}\\x{21}-\\x{84}\\x{86}-\\x{9f}\\x{a1}-\\x{167f}\\x{1681}-\\x{1fff}\\x{200b}-\\x{2027}" \
    "\\x{202a}-\\x{202e}\\x{2030}-\\x{205e}\\x{2060}-\\x{2fff}\\x{3001}-\\x{10ffff}"
#define HT_REGEX_WORD "\\p{Alphabetic}\\p{M}\\p{Nd}\\p{Pc}"
#define HT_REGEX_WORD_ALONE HT_REGEX_WORD "\\x{b2}\\x{b3}\\x{b9}\\x{bc}-\\x{be}"

#endif
