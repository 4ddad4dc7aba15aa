/* Character classes of Oniguruma: [...] with nested classes (union), && (intersection), POSIX brackets and properties.
 *
 * A plain class becomes a PCRE2 class. A nested one becomes an alternation that matches one character,
 * (?:[items]|[nested]); an intersection becomes a look-ahead, (?:(?=right)left); the negation of either becomes
 * (?:(?!expression)(?s:.)).
 * Source: Oniguruma's doc/RE, section 6.
 * SPDX-License-Identifier: BSD-3-Clause */
#include "tokenizer/regex_class.h"

#include <ctype.h>  /* isdigit */
#include <string.h> /* memcmp, strchr */

#include "base/status.h"
#include "tokenizer/regex.h"
#include "tokenizer/utf8.h"

enum { NESTING = 32 };

static int hex_value(char c) {
    return c >= '0' && c <= '9'   ? c - '0'
           : c >= 'a' && c <= 'f' ? c - 'a' + 10
           : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                  : -1;
}

static char peek(const ht_pattern *in, size_t ahead) {
    return in->at + ahead < in->bytes ? in->text[in->at + ahead] : 0;
}

static uint32_t read_digits(ht_pattern *in, size_t most, int base, size_t *used) {
    uint32_t value = 0;
    for (*used = 0; *used < most; ++*used) {
        int digit = hex_value(peek(in, 0));
        if (digit < 0 || digit >= base)
            break;
        value = value * (uint32_t)base + (uint32_t)digit;
        in->at++;
    }
    return value;
}

static ht_status bad_escape(const ht_pattern *in) {
    return ht_fail(HT_ERR_UNSUPPORTED, "the escape %.8s", in->text + in->at);
}

static ht_status hexadecimal(ht_pattern *in, uint32_t *character) {
    size_t used;
    ht_pattern start = *in;
    char letter = peek(in, 1);
    int braces = letter == 'x' && peek(in, 2) == '{';
    in->at += braces ? 3 : 2;
    *character = read_digits(in, braces ? 8 : letter == 'u' ? 4 : 2, 16, &used);
    if (used == 0 || (letter == 'u' && used != 4) || (braces && peek(in, 0) != '}'))
        return bad_escape(&start);
    if (!braces && letter == 'x' && *character >= 0x80) /* a byte, not a character */
        return bad_escape(&start);
    in->at += (size_t)braces;
    if (*character > 0x10ffff || (*character >= 0xd800 && *character < 0xe000))
        return bad_escape(&start);
    return HT_OK;
}

ht_status ht_pattern_escaped_char(ht_pattern *in, uint32_t *character) {
    static const char letters[] = "tnrfaevb", meanings[] = "\t\n\r\f\a\x1b\v\b";
    char letter = peek(in, 1);
    const char *known = letter ? strchr(letters, letter) : NULL;
    if (in->at + 1 >= in->bytes)
        return ht_fail(HT_ERR_CORRUPT, "not a valid pattern, it ends with a backslash: %.80s", in->text);
    if (letter == 'x' || letter == 'u')
        return hexadecimal(in, character);
    if (strchr("cCMXyY", letter) && letter)
        return bad_escape(in);
    if (known) {
        *character = (uint32_t)meanings[known - letters];
        in->at += 2;
    } else if (letter >= '0' && letter <= '7') {
        size_t used;
        in->at++;
        *character = read_digits(in, 3, 8, &used);
        if (*character >= 0x80)
            return ht_fail(HT_ERR_UNSUPPORTED, "the octal escape of a byte above 177");
    } else {
        in->at++;
        in->at += ht_utf8_decode(in->text + in->at, in->bytes - in->at, character);
    }
    return HT_OK;
}

ht_status ht_pattern_property(ht_pattern *in, ht_text *members, int *negated) {
    *negated = peek(in, 1) == 'P';
    if (peek(in, 2) != '{')
        return bad_escape(in);
    const char *name = in->text + in->at + 3;
    const char *end = memchr(name, '}', in->bytes - in->at - 3);
    if (!end)
        return bad_escape(in);
    HT_TRY(ht_regex_property(name, (size_t)(end - name), members, negated));
    in->at = (size_t)(end - in->text) + 1;
    return ht_text_check(members);
}

/* One operand of a class: what goes into a PCRE2 class, and expressions for the rest. */
typedef struct operand {
    ht_text items, nested; /* nested: alternatives, each with a leading | */
} operand;

static void add_complement(operand *into, const char *members) {
    ht_text_printf(&into->nested, "|[^%s]", members);
}

static ht_status add_members(operand *into, ht_text *members, int negated) {
    if (negated)
        add_complement(into, members->data);
    else
        ht_text_append(&into->items, members->data, members->length);
    ht_text_free(members);
    return HT_OK;
}

/* [:name:] and [:^name:] at the place of reading; *taken is 0 when it is something else. */
static ht_status posix(ht_pattern *in, operand *into, int *taken) {
    size_t length = 2;
    *taken = 0;
    while (in->at + length < in->bytes && (isalnum((unsigned char)peek(in, length)) || peek(in, length) == '^'))
        length++;
    if (peek(in, 1) != ':' || peek(in, length) != ':' || peek(in, length + 1) != ']')
        return HT_OK;
    ht_text members = {0};
    int negated = 0;
    ht_status status = ht_regex_property(in->text + in->at + 2, length - 2, &members, &negated);
    if (status != HT_OK) {
        ht_text_free(&members);
        return status;
    }
    in->at += length + 2;
    *taken = 1;
    return add_members(into, &members, negated);
}

/* \s \w \p{..} ... inside a class; *taken is 0 when the escape is one character. */
static ht_status class_escape(ht_pattern *in, operand *into, int *taken) {
    static const struct {
        char letter;
        const char *members;
    } sets[] = {
        {'s', HT_REGEX_SPACE}, {'S', HT_REGEX_NOT_SPACE}, {'d', "\\p{Nd}"},
        {'D', "\\P{Nd}"},      {'w', HT_REGEX_WORD},      {'h', "0-9A-Fa-f"},
    };
    char letter = peek(in, 1);
    *taken = 1;
    for (size_t i = 0; i < sizeof sets / sizeof sets[0]; i++)
        if (sets[i].letter == letter) {
            ht_text_append(&into->items, sets[i].members, strlen(sets[i].members));
            in->at += 2;
            return HT_OK;
        }
    if (letter == 'W' || letter == 'H') {
        add_complement(into, letter == 'W' ? HT_REGEX_WORD : "0-9A-Fa-f");
        in->at += 2;
        return HT_OK;
    }
    if (letter == 'p' || letter == 'P') {
        ht_text members = {0};
        int negated;
        ht_status status = ht_pattern_property(in, &members, &negated);
        if (status == HT_OK)
            return add_members(into, &members, negated);
        ht_text_free(&members);
        return status;
    }
    if (strchr("RXNOK", letter) && letter)
        return ht_fail(HT_ERR_UNSUPPORTED, "\\%c inside a class", letter);
    *taken = 0;
    return HT_OK;
}

static ht_status read_char(ht_pattern *in, uint32_t *character) {
    if (peek(in, 0) == '\\')
        return ht_pattern_escaped_char(in, character);
    in->at += ht_utf8_decode(in->text + in->at, in->bytes - in->at, character);
    return HT_OK;
}

/* A character or a range. */
static ht_status char_or_range(ht_pattern *in, operand *into) {
    uint32_t low, high;
    HT_TRY(read_char(in, &low));
    high = low;
    int set_follows = peek(in, 1) == '\\' && peek(in, 2) && strchr("sSdDwWhHpP", peek(in, 2)) != NULL;
    if (peek(in, 0) == '-' && peek(in, 1) != ']' && peek(in, 1) != '[' && !set_follows && in->at + 1 < in->bytes &&
        !(peek(in, 1) == '&' && peek(in, 2) == '&')) {
        in->at++;
        HT_TRY(read_char(in, &high));
        if (high < low)
            return ht_fail(HT_ERR_CORRUPT, "not a valid pattern, the range U+%04X to U+%04X is empty", (unsigned)low,
                           (unsigned)high);
    }
    ht_text_printf(&into->items, low == high ? "\\x{%x}" : "\\x{%x}-\\x{%x}", (unsigned)low, (unsigned)high);
    return HT_OK;
}

static ht_status read_class(ht_pattern *in, int depth, ht_text *out);

/* Items up to ] or &&. */
static ht_status read_operand(ht_pattern *in, int depth, int first, operand *into) {
    while (in->at < in->bytes) {
        char c = peek(in, 0);
        int taken = 0;
        if (c == ']' && !first)
            return HT_OK;
        if (c == '&' && peek(in, 1) == '&')
            return HT_OK;
        first = 0;
        if (c == '[') {
            HT_TRY(posix(in, into, &taken));
            if (!taken) {
                ht_text_append(&into->nested, "|", 1);
                HT_TRY(read_class(in, depth + 1, &into->nested));
            }
            continue;
        }
        if (c == '\\')
            HT_TRY(class_escape(in, into, &taken));
        if (!taken)
            HT_TRY(char_or_range(in, into));
    }
    return ht_fail(HT_ERR_CORRUPT, "not a valid pattern, a class is not closed: %.80s", in->text);
}

static ht_status append_operand(const operand *from, ht_text *out) {
    HT_TRY(ht_text_check(&from->items));
    HT_TRY(ht_text_check(&from->nested));
    if (!from->items.length && !from->nested.length)
        return ht_fail(HT_ERR_CORRUPT, "not a valid pattern, an empty class");
    if (!from->nested.length)
        ht_text_printf(out, "[%s]", from->items.data);
    else if (from->items.length)
        ht_text_printf(out, "(?:[%s]%s)", from->items.data, from->nested.data);
    else
        ht_text_printf(out, "(?:%s)", from->nested.data + 1);
    return ht_text_check(out);
}

/* left && right: an expression for both. */
static ht_status intersect(ht_text *left, const ht_text *right) {
    ht_text both = {0};
    ht_text_printf(&both, "(?:(?=%s)%s)", right->data, left->data);
    ht_text_free(left);
    *left = both;
    return ht_text_check(left);
}

static ht_status read_operands(ht_pattern *in, int depth, ht_text *expression) {
    for (int first = 1;; first = 0) {
        operand next = {{0}, {0}};
        ht_text text = {0};
        ht_status status = read_operand(in, depth, first, &next);
        if (status == HT_OK)
            status = append_operand(&next, first ? expression : &text);
        if (status == HT_OK && !first)
            status = intersect(expression, &text);
        ht_text_free(&next.items);
        ht_text_free(&next.nested);
        ht_text_free(&text);
        if (status != HT_OK)
            return status;
        if (peek(in, 0) == ']')
            break;
        in->at += 2; /* && */
    }
    in->at++;
    return HT_OK;
}

static ht_status read_class(ht_pattern *in, int depth, ht_text *out) {
    if (depth > NESTING)
        return ht_fail(HT_ERR_UNSUPPORTED, "classes nested more than %d deep", NESTING);
    in->at++;
    int negated = peek(in, 0) == '^';
    in->at += (size_t)negated;
    ht_text expression = {0};
    ht_status status = read_operands(in, depth, &expression);
    if (status == HT_OK) {
        if (!negated)
            ht_text_append(out, expression.data, expression.length);
        else if (expression.data[0] == '[')
            ht_text_printf(out, "[^%s", expression.data + 1);
        else
            ht_text_printf(out, "(?:(?!%s)(?s:.))", expression.data);
        status = ht_text_check(out);
    }
    ht_text_free(&expression);
    return status;
}

ht_status ht_pattern_class(ht_pattern *in, ht_text *out) {
    return read_class(in, 0, out);
}
