/* Unicode normalization forms. */
#ifndef HT_TOKENIZER_UNICODE_FORMS_H
#define HT_TOKENIZER_UNICODE_FORMS_H

#include <stddef.h>

#include "base/text.h"

typedef enum ht_unicode_form { HT_NFC, HT_NFD, HT_NFKC, HT_NFKD } ht_unicode_form;

/* Append the form of valid UTF-8 text to out. Linear in the length, whatever the text. Fails with MEMORY. */
ht_status ht_unicode_normalize(ht_unicode_form form, const char *text, size_t bytes, ht_text *out);

#endif
