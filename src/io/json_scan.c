/* A pull parser for JSON: the caller walks, nothing is built. A tree of a header with 100,000 tensors takes half a
 * second and a million small blocks; the walk takes a few hundredths.
 *
 * Strict: RFC 8259 grammar, valid UTF-8, no NUL in strings, 64-bit integers, nesting up to 64.
 * Source: RFC 8259, RFC 3629.
 * SPDX-License-Identifier: BSD-3-Clause */
#include "io/json_scan.h"

#include <string.h> /* memchr, memcpy */

#include "base/status.h"

enum { MAX_DEPTH = 64 };

static ht_status fail(const ht_scan *scan, const char *why) {
    return ht_fail(HT_ERR_CORRUPT, "%s: %s is not valid JSON: byte %zu: %s", scan->label, scan->what,
                   (size_t)(scan->at - scan->text), why);
}

static void skip_space(ht_scan *scan) {
    while (scan->at < scan->end && (*scan->at == ' ' || *scan->at == '\n' || *scan->at == '\r' || *scan->at == '\t'))
        scan->at++;
}

char ht_scan_peek(ht_scan *scan) {
    skip_space(scan);
    if (scan->at == scan->end)
        return 0;
    char c = *scan->at;
    if (c == '-' || (c >= '0' && c <= '9'))
        return 'n';
    return c == 'f' || c == 'n' ? 't' : c;
}

static ht_status expect(ht_scan *scan, char c, const char *why) {
    skip_space(scan);
    if (scan->at == scan->end || *scan->at != c)
        return fail(scan, why);
    scan->at++;
    return HT_OK;
}

/* Length of the UTF-8 sequence at p, 0 when it is not one. */
static size_t utf8_length(const unsigned char *p, size_t left) {
    unsigned c = p[0];
    size_t n = c < 0x80 ? 1 : c >= 0xc2 && c < 0xe0 ? 2 : c >= 0xe0 && c < 0xf0 ? 3 : c >= 0xf0 && c < 0xf5 ? 4 : 0;
    if (n == 0 || n > left)
        return 0;
    for (size_t i = 1; i < n; i++)
        if ((p[i] & 0xc0) != 0x80)
            return 0;
    if ((c == 0xe0 && p[1] < 0xa0) || (c == 0xed && p[1] > 0x9f) || (c == 0xf0 && p[1] < 0x90) ||
        (c == 0xf4 && p[1] > 0x8f))
        return 0;
    return n;
}

static int hex4(const char *p, unsigned *out) {
    *out = 0;
    for (int i = 0; i < 4; i++) {
        char c = p[i];
        unsigned digit = c >= '0' && c <= '9'   ? (unsigned)(c - '0')
                         : c >= 'a' && c <= 'f' ? (unsigned)(c - 'a' + 10)
                         : c >= 'A' && c <= 'F' ? (unsigned)(c - 'A' + 10)
                                                : 16;
        if (digit == 16)
            return 0;
        *out = *out << 4 | digit;
    }
    return 1;
}

static size_t put_utf8(char *to, unsigned code) {
    if (code < 0x80) {
        to[0] = (char)code;
        return 1;
    }
    size_t n = code < 0x800 ? 2 : code < 0x10000 ? 3 : 4;
    static const unsigned char first[] = {0, 0, 0xc0, 0xe0, 0xf0};
    for (size_t i = n - 1; i > 0; i--, code >>= 6)
        to[i] = (char)(0x80 | (code & 0x3f));
    to[0] = (char)(first[n] | code);
    return n;
}

/* The escape behind a backslash at scan->at. Returns bytes written to `to`, 0 when malformed. */
static size_t unescape(ht_scan *scan, char *to) {
    static const char from[] = "\"\\/bfnrt", into[] = "\"\\/\b\f\n\r\t";
    if (scan->end - scan->at < 2)
        return 0;
    const char *simple = memchr(from, scan->at[1], sizeof from - 1);
    if (simple) {
        *to = into[simple - from];
        scan->at += 2;
        return 1;
    }
    unsigned code, low;
    if (scan->at[1] != 'u' || scan->end - scan->at < 6 || !hex4(scan->at + 2, &code))
        return 0;
    scan->at += 6;
    if (code >= 0xd800 && code < 0xdc00) {
        if (scan->end - scan->at < 6 || scan->at[0] != '\\' || scan->at[1] != 'u' || !hex4(scan->at + 2, &low) ||
            low < 0xdc00 || low > 0xdfff)
            return 0;
        scan->at += 6;
        code = 0x10000 + ((code - 0xd800) << 10) + (low - 0xdc00);
    } else if (code == 0 || (code >= 0xdc00 && code < 0xe000)) {
        return 0;
    }
    return put_utf8(to, code);
}

/* First unescaped quote from `from` on; NULL when there is none. */
static const char *closing_quote(const char *from, const char *end) {
    for (; from < end && *from != '"'; from++)
        if (*from == '\\')
            from++;
    return from < end ? from : NULL;
}

ht_status ht_scan_string(ht_scan *scan, const char **out) {
    HT_TRY(expect(scan, '"', "a string is expected"));
    const char *close = closing_quote(scan->at, scan->end);
    if (!close)
        return fail(scan, "a string does not end");
    char *to = ht_arena_alloc(scan->arena, (size_t)(close - scan->at) + 1); /* escapes only shrink */
    if (!to)
        return HT_ERR_MEMORY;
    *out = to;
    while (scan->at < close) {
        unsigned char c = (unsigned char)*scan->at;
        if (c == '\\') {
            size_t n = unescape(scan, to);
            if (n == 0)
                return fail(scan, "malformed escape");
            to += n;
            continue;
        }
        size_t n = c < 0x20 ? 0 : utf8_length((const unsigned char *)scan->at, (size_t)(close - scan->at));
        if (n == 0)
            return fail(scan, c < 0x20 ? "control character in a string" : "invalid UTF-8");
        memcpy(to, scan->at, n);
        to += n;
        scan->at += n;
    }
    *to = '\0';
    scan->at = close + 1;
    return HT_OK;
}

ht_status ht_scan_integer(ht_scan *scan, int64_t *out) {
    if (ht_scan_peek(scan) != 'n')
        return fail(scan, "a whole number is expected");
    int negative = *scan->at == '-';
    const char *digits = scan->at + negative, *p = digits;
    uint64_t value = 0, limit = (uint64_t)INT64_MAX + (unsigned)negative;
    for (; p < scan->end && *p >= '0' && *p <= '9'; p++) {
        unsigned digit = (unsigned)(*p - '0');
        if (value > (limit - digit) / 10)
            return fail(scan, "a number does not fit in 64 bits");
        value = value * 10 + digit;
    }
    if (p == digits || (p - digits > 1 && *digits == '0') || (p < scan->end && (*p == '.' || *p == 'e' || *p == 'E')))
        return fail(scan, "a whole number is expected");
    scan->at = p;
    *out = negative ? (int64_t)(0 - value) : (int64_t)value;
    return HT_OK;
}

ht_status ht_scan_object(ht_scan *scan, ht_scan_member_fn *member, void *user) {
    HT_TRY(expect(scan, '{', "an object is expected"));
    if (ht_scan_peek(scan) == '}') {
        scan->at++;
        return HT_OK;
    }
    for (;;) {
        const char *key = NULL;
        HT_TRY(ht_scan_string(scan, &key));
        HT_TRY(expect(scan, ':', "a colon is expected"));
        HT_TRY(member(scan, key, user));
        skip_space(scan);
        if (scan->at < scan->end && *scan->at == ',') {
            scan->at++;
            continue;
        }
        return expect(scan, '}', "a comma or } is expected");
    }
}

ht_status ht_scan_array(ht_scan *scan, ht_scan_element_fn *element, void *user) {
    HT_TRY(expect(scan, '[', "an array is expected"));
    if (ht_scan_peek(scan) == ']') {
        scan->at++;
        return HT_OK;
    }
    for (size_t index = 0;; index++) {
        HT_TRY(element(scan, index, user));
        skip_space(scan);
        if (scan->at < scan->end && *scan->at == ',') {
            scan->at++;
            continue;
        }
        return expect(scan, ']', "a comma or ] is expected");
    }
}

static size_t digits_at(const char *p, const char *end) {
    size_t n = 0;
    while (p + n < end && p[n] >= '0' && p[n] <= '9')
        n++;
    return n;
}

static ht_status skip_number(ht_scan *scan) {
    const char *p = scan->at + (*scan->at == '-');
    size_t n = digits_at(p, scan->end);
    if (n == 0 || (n > 1 && *p == '0'))
        return fail(scan, "malformed number");
    p += n;
    if (p < scan->end && *p == '.') {
        n = digits_at(++p, scan->end);
        if (n == 0)
            return fail(scan, "malformed number");
        p += n;
    }
    if (p < scan->end && (*p == 'e' || *p == 'E')) {
        p++;
        if (p < scan->end && (*p == '+' || *p == '-'))
            p++;
        n = digits_at(p, scan->end);
        if (n == 0)
            return fail(scan, "malformed number");
        p += n;
    }
    scan->at = p;
    return HT_OK;
}

static ht_status skip_word(ht_scan *scan) {
    static const char *const words[] = {"true", "false", "null"};
    for (size_t i = 0; i < 3; i++) {
        size_t length = strlen(words[i]);
        if ((size_t)(scan->end - scan->at) >= length && memcmp(scan->at, words[i], length) == 0) {
            scan->at += length;
            return HT_OK;
        }
    }
    return fail(scan, "a value is expected");
}

static ht_status skip_value(ht_scan *scan, int depth);

static ht_status skip_member(ht_scan *scan, const char *key, void *user) {
    (void)key;
    return skip_value(scan, *(int *)user + 1);
}

static ht_status skip_element(ht_scan *scan, size_t index, void *user) {
    (void)index;
    return skip_value(scan, *(int *)user + 1);
}

static ht_status skip_value(ht_scan *scan, int depth) {
    const char *ignored;
    if (depth > MAX_DEPTH)
        return fail(scan, "nested too deep");
    switch (ht_scan_peek(scan)) {
    case '{':
        return ht_scan_object(scan, skip_member, &depth);
    case '[':
        return ht_scan_array(scan, skip_element, &depth);
    case '"':
        return ht_scan_string(scan, &ignored);
    case 'n':
        return skip_number(scan);
    default:
        return skip_word(scan);
    }
}

ht_status ht_scan_skip(ht_scan *scan) {
    return skip_value(scan, 0);
}

ht_status ht_scan_end(ht_scan *scan) {
    skip_space(scan);
    return scan->at == scan->end ? HT_OK : fail(scan, "text behind the value");
}
