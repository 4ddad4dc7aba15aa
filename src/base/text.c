/* A growing string. Appending never fails loudly: the failure is remembered and asked for once, at the end.
 * SPDX-License-Identifier: BSD-3-Clause */
#include "base/text.h"

#include <stdarg.h> /* va_list */
#include <stdio.h>  /* vsnprintf */
#include <stdlib.h> /* realloc, free */
#include <string.h> /* memcpy */

#include "base/status.h"

static int grow(ht_text *text, size_t more) {
    if (more < text->capacity && text->length < text->capacity - more)
        return 1;
    size_t capacity = (text->length + more + 1) * 2;
    char *data = capacity > text->length + more ? realloc(text->data, capacity) : NULL;
    if (!data) {
        text->failed = 1;
        return 0;
    }
    text->data = data;
    text->capacity = capacity;
    return 1;
}

void ht_text_append(ht_text *text, const char *data, size_t bytes) {
    if (text->failed || !grow(text, bytes))
        return;
    if (bytes)
        memcpy(text->data + text->length, data, bytes);
    text->length += bytes;
    text->data[text->length] = '\0';
}

void ht_text_printf(ht_text *text, const char *format, ...) {
    va_list args;
    va_start(args, format);
    va_list again;
    va_copy(again, args);
    int length = vsnprintf(NULL, 0, format, args);
    va_end(args);
    if (length >= 0 && !text->failed && grow(text, (size_t)length)) {
        vsnprintf(text->data + text->length, (size_t)length + 1, format, again);
        text->length += (size_t)length;
    }
    va_end(again);
}

ht_status ht_text_check(const ht_text *text) {
    return text->failed ? ht_fail(HT_ERR_MEMORY, "text: the system has no memory left after %zu bytes", text->length)
                        : HT_OK;
}

void ht_text_free(ht_text *text) {
    free(text->data);
    *text = (ht_text){0};
}
