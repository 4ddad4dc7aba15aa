/* A growing string, for messages, JSON and files made in memory. */
#ifndef HT_BASE_TEXT_H
#define HT_BASE_TEXT_H

#include <stddef.h>

#include <halftone/status.h>

typedef struct ht_text {
    char *data; /* NUL-terminated; NULL while empty. malloc'ed */
    size_t length, capacity;
    int failed; /* out of memory happened: data is what fitted */
} ht_text;

void ht_text_append(ht_text *text, const char *data, size_t bytes);
void ht_text_printf(ht_text *text, const char *format, ...) HT_PRINTF(2, 3);
/* HT_OK, or MEMORY when an append failed. */
ht_status ht_text_check(const ht_text *text);
void ht_text_free(ht_text *text);

#endif
