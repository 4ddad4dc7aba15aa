/* Pre-tokenizers with a file of their own. */
#ifndef HT_TOKENIZER_PRETOKENIZER_H
#define HT_TOKENIZER_PRETOKENIZER_H

#include "tokenizer/pipeline.h"

/* scripts.c: UnicodeScripts */
ht_status ht_scripts_create(ht_tokenizer *tokenizer, const ht_field *object, const void **state);
ht_pretokenize_fn ht_scripts_run;

#endif
