/* Tokenizer: text to token ids and back, from a Hugging Face tokenizer.json (BPE). */
#ifndef HT_TOKENIZER_H
#define HT_TOKENIZER_H

#include <stddef.h>
#include <stdint.h>

#include <halftone/context.h>
#include <halftone/status.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct ht_tokenizer ht_tokenizer;

/* Open tokenizer.json, or a directory that holds one. Fails with IO, CORRUPT (malformed, naming the key) or
 * UNSUPPORTED (a component that is not implemented, named). */
HT_API ht_status ht_tokenizer_open(ht_context *ctx, const char *path, ht_tokenizer **out);
HT_API void ht_tokenizer_close(ht_tokenizer *tokenizer);

typedef struct ht_encoding {
    int32_t *ids; /* freed by ht_encoding_release */
    size_t count;
} ht_encoding;

/* Encode bytes of UTF-8 text; of an ill-formed sequence every maximal subpart becomes U+FFFD (docs/tokenizer.md), NUL
 * is a character like others. add_special: run the post-processor's special tokens. out is filled; release it with
 * ht_encoding_release; empty after a failure. Thread-safe on one tokenizer; the ids depend on nothing but the text.
 * Fails with ARGUMENT (2 GiB of text and more), MEMORY, UNSUPPORTED (a pattern that needs too many steps). */
HT_API ht_status ht_tokenizer_encode(const ht_tokenizer *tokenizer, const char *text, size_t bytes, int add_special,
                                     ht_encoding *out);
HT_API void ht_encoding_release(ht_encoding *encoding);

/* Decode ids to text, NUL-terminated, freed by ht_text_release. skip_special leaves special tokens out.
 * Ids inside the vocabulary that no token has are passed over. Fails with ARGUMENT for an id outside, naming it. */
HT_API ht_status ht_tokenizer_decode(const ht_tokenizer *tokenizer, const int32_t *ids, size_t count, int skip_special,
                                     char **text, size_t *bytes);
HT_API void ht_text_release(char *text);

HT_API size_t ht_tokenizer_vocabulary(const ht_tokenizer *tokenizer); /* largest id + 1 */
/* Token's text as in the file; NULL for an unused id. */
HT_API const char *ht_tokenizer_token(const ht_tokenizer *tokenizer, int32_t id);
HT_API int ht_tokenizer_is_special(const ht_tokenizer *tokenizer, int32_t id);
/* Id of a token given by its text, or -1. */
HT_API int32_t ht_tokenizer_id(const ht_tokenizer *tokenizer, const char *token);

#ifdef __cplusplus
}
#endif
#endif
