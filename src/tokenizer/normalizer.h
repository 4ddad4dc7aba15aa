/* Normalizers with a file of their own. */
#ifndef HT_TOKENIZER_NORMALIZER_H
#define HT_TOKENIZER_NORMALIZER_H

#include "tokenizer/pipeline.h"

/* normalizer_bert.c */
ht_status ht_bert_normalizer_create(ht_tokenizer *tokenizer, const ht_field *object, const void **state);
ht_normalize_fn ht_bert_normalizer_run;

/* charsmap.c: SentencePiece's compiled rules ("Precompiled") */
ht_status ht_charsmap_create(ht_tokenizer *tokenizer, const ht_field *object, const void **state);
ht_normalize_fn ht_charsmap_run;

#endif
