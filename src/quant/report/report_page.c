/* Text and numbers of a report page.
 *
 * SPDX-License-Identifier: BSD-3-Clause */
#include "quant/report/report_page.h"

#include <ctype.h>    /* isdigit */
#include <inttypes.h> /* PRIu64 */
#include <math.h>     /* isfinite */
#include <stdio.h>    /* snprintf */
#include <stdlib.h>   /* strtoul */
#include <string.h>   /* strlen, strcspn */

#include "tokenizer/utf8.h"

void ht_page_text(ht_text *out, const char *text) {
    if (!text)
        return;
    ht_text repaired = {0};
    ht_utf8_append_repaired(&repaired, text, strlen(text));
    for (size_t i = 0; i < repaired.length; i++) {
        unsigned char c = (unsigned char)repaired.data[i];
        if (c == '&' || c == '<' || c == '>' || c == '"' || c == '\'')
            ht_text_printf(out, "&#%d;", c);
        else if (c < ' ' || c == 127)
            ht_text_append(out, "\xEF\xBF\xBD", 3); /* U+FFFD */
        else
            ht_text_append(out, &repaired.data[i], 1);
    }
    out->failed |= repaired.failed;
    ht_text_free(&repaired);
}

void ht_page_bytes(ht_text *out, double bytes) {
    static const char *const units[] = {"B", "kB", "MB", "GB", "TB"};
    size_t unit = 0;
    for (; bytes >= 999.5 && unit + 1 < sizeof units / sizeof *units; unit++)
        bytes /= 1000;
    ht_text_printf(out,
                   unit == 0 || bytes >= 99.95 ? "%.0f %s"
                   : bytes >= 9.995            ? "%.1f %s"
                                               : "%.2f %s",
                   bytes, units[unit]);
}

void ht_page_count(ht_text *out, uint64_t count) {
    char digits[24];
    int length = snprintf(digits, sizeof digits, "%" PRIu64, count);
    for (int i = 0; i < length; i++)
        ht_text_printf(out, i && (length - i) % 3 == 0 ? ",%c" : "%c", digits[i]);
}

void ht_page_number(ht_text *out, double number) {
    if (isfinite(number))
        ht_text_printf(out, "%.4g", number);
    else
        ht_text_printf(out, "–");
}

void ht_page_percent(ht_text *out, double fraction) {
    if (isfinite(fraction))
        ht_text_printf(out, "%.1f %%", 100 * fraction);
    else
        ht_text_printf(out, "–");
}

void ht_page_seconds(ht_text *out, double seconds) {
    if (!isfinite(seconds))
        ht_text_printf(out, "–");
    else if (seconds < 120)
        ht_text_printf(out, seconds < 10 ? "%.2f s" : "%.0f s", seconds);
    else
        ht_text_printf(out, "%.0f min %.0f s", floor(seconds / 60), fmod(seconds, 60));
}

/* The first dotted part that is a number. */
static const char *find_block(const char *name) {
    for (const char *at = name; at; at = strchr(at, '.'), at = at ? at + 1 : NULL) {
        size_t digits = strspn(at, "0123456789");
        if (digits && digits < 9 && (at[digits] == '.' || !at[digits]))
            return at;
    }
    return NULL;
}

size_t ht_report_block(const char *name) {
    const char *at = find_block(name);
    return at ? strtoul(at, NULL, 10) : SIZE_MAX;
}

const char *ht_report_role(ht_arena *arena, const char *name) {
    const char *at = find_block(name);
    at = at ? at + strspn(at, "0123456789") : name;
    at += *at == '.';
    size_t length = strlen(at);
    if (length > 7 && strcmp(at + length - 7, ".weight") == 0)
        length -= 7;
    char *role = ht_arena_alloc(arena, length + 1), *to = role;
    for (size_t i = 0; role && i < length;) {
        size_t digits = i == 0 || at[i - 1] == '.' ? strspn(at + i, "0123456789") : 0;
        if (digits && (at[i + digits] == '.' || i + digits == length)) {
            *to++ = '*';
            i += digits;
        } else {
            *to++ = at[i++];
        }
    }
    return role;
}

unsigned ht_report_series(ht_arena *arena, const char *name, const char **series, unsigned *count) {
    const char *role = ht_report_role(arena, name);
    role = role ? role : "";
    for (unsigned i = 0; i < *count; i++)
        if (strcmp(series[i], role) == 0)
            return i;
    if (*count < HT_PAGE_SERIES) {
        series[*count] = role;
        return (*count)++;
    }
    series[HT_PAGE_SERIES - 1] = "others";
    return HT_PAGE_SERIES - 1;
}
