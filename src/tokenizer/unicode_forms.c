/* NFC, NFD, NFKC and NFKD with utf8proc's data.
 *
 * Decompose every character (compatibility mappings for the K forms), put each run of combining marks into canonical
 * order, then compose for the C forms. utf8proc's own ordering loop is quadratic in the length of a run, which a text
 * of nothing but marks would turn into hours; runs are ordered here by a stable counting sort over the 256 classes.
 * utf8proc's composition honours the exclusions when UTF8PROC_STABLE is given. Text below the first character that a
 * form can change is copied as it is.
 * Source: Unicode Standard Annex 15.
 * SPDX-License-Identifier: BSD-3-Clause */
#include "tokenizer/unicode_forms.h"

#include <stdlib.h> /* malloc, free */
#include <string.h> /* memcpy */

#include <utf8proc.h>

#include "base/status.h"
#include "tokenizer/utf8.h"

/* Row: does the form use compatibility mappings, does it compose, and the lowest first byte of a character that it may
 * change or that may combine with a neighbour (NFC leaves everything below U+0300 alone). */
static const struct {
    int compatibility, compose;
    unsigned char changes_from;
} forms[] = {
    [HT_NFC] = {0, 1, 0xcc},
    [HT_NFD] = {0, 0, 0x80},
    [HT_NFKC] = {1, 1, 0x80},
    [HT_NFKD] = {1, 0, 0x80},
};

typedef struct points {
    utf8proc_int32_t *data;
    size_t count, capacity;
} points;

static ht_status reserve(points *list, size_t more) {
    if (list->capacity - list->count >= more)
        return HT_OK;
    size_t capacity = (list->count + more) * 2;
    utf8proc_int32_t *data = realloc(list->data, capacity * sizeof *data);
    if (!data)
        return ht_fail(HT_ERR_MEMORY, "Unicode normalization: the system has no room for %zu characters", capacity);
    list->data = data;
    list->capacity = capacity;
    return HT_OK;
}

static ht_status decompose(const char *text, size_t bytes, utf8proc_option_t options, points *out) {
    for (size_t at = 0; at < bytes;) {
        uint32_t character;
        at += ht_utf8_decode(text + at, bytes - at, &character);
        HT_TRY(reserve(out, 32)); /* the longest decomposition has 18 characters */
        int boundary = 0;
        utf8proc_ssize_t wrote =
            utf8proc_decompose_char((utf8proc_int32_t)character, out->data + out->count, 32, options, &boundary);
        if (wrote < 0 || wrote > 32)
            return ht_fail(HT_ERR_UNSUPPORTED, "Unicode normalization of U+%04X: %s", (unsigned)character,
                           utf8proc_errmsg(wrote));
        out->count += (size_t)wrote;
    }
    return HT_OK;
}

static unsigned combining_class(utf8proc_int32_t character) {
    return (unsigned)utf8proc_get_property(character)->combining_class & 0xff;
}

/* Stable order by class of run[0..count), all of non-zero class. spare holds count more. */
static void order_run(utf8proc_int32_t *run, size_t count, utf8proc_int32_t *spare) {
    if (count < 16) {
        for (size_t i = 1; i < count; i++) {
            utf8proc_int32_t moved = run[i];
            size_t j = i;
            for (; j > 0 && combining_class(run[j - 1]) > combining_class(moved); j--)
                run[j] = run[j - 1];
            run[j] = moved;
        }
        return;
    }
    size_t start[257] = {0};
    for (size_t i = 0; i < count; i++)
        start[combining_class(run[i]) + 1]++;
    for (size_t i = 1; i < 257; i++)
        start[i] += start[i - 1];
    for (size_t i = 0; i < count; i++)
        spare[start[combining_class(run[i])]++] = run[i];
    memcpy(run, spare, count * sizeof *run);
}

static ht_status order_marks(points *list) {
    size_t count = list->count;
    HT_TRY(reserve(list, count)); /* the second half is the sort's spare room */
    for (size_t i = 0; i < count;) {
        size_t end = i;
        while (end < count && combining_class(list->data[end]))
            end++;
        if (end - i > 1)
            order_run(list->data + i, end - i, list->data + count);
        i = end + 1;
    }
    return HT_OK;
}

ht_status ht_unicode_normalize(ht_unicode_form form, const char *text, size_t bytes, ht_text *out) {
    size_t same = 0;
    while (same < bytes && (unsigned char)text[same] < forms[form].changes_from)
        same++;
    if (same == bytes) {
        ht_text_append(out, text, bytes);
        return ht_text_check(out);
    }
    utf8proc_option_t options =
        UTF8PROC_STABLE | UTF8PROC_DECOMPOSE | (forms[form].compatibility ? UTF8PROC_COMPAT : 0);
    points list = {0};
    ht_status status = decompose(text, bytes, options, &list);
    if (status == HT_OK)
        status = order_marks(&list);
    if (status == HT_OK) {
        size_t count = list.count;
        if (forms[form].compose)
            count = (size_t)utf8proc_normalize_utf32(list.data, (utf8proc_ssize_t)count,
                                                     UTF8PROC_STABLE | UTF8PROC_COMPOSE);
        for (size_t i = 0; i < count; i++)
            ht_utf8_append(out, (uint32_t)list.data[i]);
        status = ht_text_check(out);
    }
    free(list.data);
    return status;
}
