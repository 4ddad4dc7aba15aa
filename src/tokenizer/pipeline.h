/* Inside of a tokenizer: the stages a text passes, and what one call owns.
 *
 *   text -> repair -> added tokens (raw) -> normalizers -> added tokens (normalized) -> pre-tokenizers -> BPE -> ids
 *        -> post-processors
 *   ids -> token texts -> decoders -> text
 *
 * A loaded tokenizer is immutable; all scratch of a call is in ht_encode_call, so calls may run in parallel. Nested
 * sequences of components are flattened when they are loaded. */
#ifndef HT_TOKENIZER_PIPELINE_H
#define HT_TOKENIZER_PIPELINE_H

#include <stddef.h>
#include <stdint.h>

#include <halftone/tokenizer.h>

#include "base/memory.h"
#include "base/text.h"
#include "tokenizer/bpe.h"
#include "tokenizer/fields.h"
#include "tokenizer/regex.h"
#include "tokenizer/vocabulary.h"

typedef struct ht_encode_call ht_encode_call;

/* A part of the text on its way. The first `head` bytes come from the first character of the whole input; a component
 * that treats the beginning of the text apart asks for head > 0. */
typedef struct ht_piece {
    const char *text;
    size_t bytes, head;
} ht_piece;

/* [start, end) of a piece as a piece. */
ht_piece ht_piece_part(ht_piece piece, size_t start, size_t end);

/* Token texts on their way through the decoders: text i is bytes [ends[i-1], ends[i]). */
typedef struct ht_token_list {
    ht_text bytes;
    ht_text ends; /* size_t each */
} ht_token_list;
void ht_token_list_end(ht_token_list *list); /* the bytes so far end a text */
size_t ht_token_list_count(const ht_token_list *list);
ht_piece ht_token_list_get(const ht_token_list *list, size_t index);
void ht_token_list_clear(ht_token_list *list);

/* The calls behind a stage. A normalizer appends the new text to out and sets *head; a pre-tokenizer hands its pieces
 * to ht_pretokenize_from(call, stage + 1, piece); a decoder maps one list to another; a post-processor maps ids to ids.
 */
typedef ht_status ht_normalize_fn(const void *state, ht_encode_call *call, ht_piece in, ht_text *out, size_t *head);
typedef ht_status ht_pretokenize_fn(const void *state, ht_encode_call *call, size_t stage, ht_piece in);
typedef ht_status ht_decode_fn(const void *state, ht_regex_scratch *scratch, const ht_token_list *in,
                               ht_token_list *out);
typedef ht_status ht_postprocess_fn(const void *state, int add_special, const ht_text *in, ht_text *out);

typedef struct ht_normalizer_stage {
    ht_normalize_fn *run;
    const void *state;
} ht_normalizer_stage;
typedef struct ht_pretokenizer_stage {
    ht_pretokenize_fn *run;
    const void *state;
} ht_pretokenizer_stage;
typedef struct ht_decoder_stage {
    ht_decode_fn *run;
    const void *state;
} ht_decoder_stage;
typedef struct ht_postprocessor_stage {
    ht_postprocess_fn *run;
    const void *state;
} ht_postprocessor_stage;

enum { HT_STAGE_LIMIT = 64 }; /* components of one kind after flattening */

/* Regexes of all components, freed with the tokenizer. */
typedef struct ht_regex_list {
    ht_regex *regex;
    struct ht_regex_list *next;
} ht_regex_list;

typedef struct ht_added_trie ht_added_trie;

struct ht_tokenizer {
    ht_context *ctx;
    ht_arena arena; /* everything small */
    ht_regex_list *regexes;
    ht_vocabulary vocabulary; /* the model's tokens, then the added ones */
    ht_bpe bpe;
    ht_added_trie *added_raw, *added_normalized; /* NULL when there are none */
    ht_normalizer_stage normalizers[HT_STAGE_LIMIT];
    ht_pretokenizer_stage pretokenizers[HT_STAGE_LIMIT];
    ht_postprocessor_stage postprocessors[HT_STAGE_LIMIT];
    ht_decoder_stage decoders[HT_STAGE_LIMIT];
    size_t normalizer_count, pretokenizer_count, postprocessor_count, decoder_count;
    int has_decoder; /* without one, token texts are joined by spaces */
};

struct ht_encode_call {
    const ht_tokenizer *tokenizer;
    ht_regex_scratch regex;
    ht_bpe_call bpe;
    ht_text ids;                   /* int32_t each */
    ht_text normal[2];             /* normalizers write alternately */
    ht_text stage[HT_STAGE_LIMIT]; /* rewritten text, one per pre-tokenizer */
};

/* A tokenizer from the text of its file. */
ht_status ht_tokenizer_parse(ht_context *ctx, const char *text, size_t bytes, ht_tokenizer **out);

/* Loading; each reads one section of the file. */
ht_status ht_normalizers_load(ht_tokenizer *tokenizer, const ht_field *field);
ht_status ht_pretokenizers_load(ht_tokenizer *tokenizer, const ht_field *field);
ht_status ht_postprocessors_load(ht_tokenizer *tokenizer, const ht_field *field);
ht_status ht_decoders_load(ht_tokenizer *tokenizer, const ht_field *field);
ht_status ht_added_tokens_load(ht_tokenizer *tokenizer, const ht_field *field);
void ht_added_tokens_release(ht_tokenizer *tokenizer);

/* Running. */
ht_status ht_normalize(ht_encode_call *call, ht_piece in, ht_piece *out);
ht_status ht_pretokenize_from(ht_encode_call *call, size_t stage, ht_piece piece);
ht_status ht_added_tokens_split(ht_encode_call *call, ht_piece text);
ht_status ht_postprocess(const ht_tokenizer *tokenizer, int add_special, ht_text *ids);
ht_status ht_decode_tokens(const ht_tokenizer *tokenizer, ht_token_list *list, ht_text *out);

void ht_append_id(ht_text *ids, int32_t id);

/* Members of a word, where a component means words in general and not a pattern's \w. */
#define HT_WORD_CHARACTERS "\\p{Alphabetic}\\p{M}\\p{Nd}\\p{Pc}\\x{200c}\\x{200d}"

/* Helpers of components. */
void *ht_stage_state(ht_tokenizer *tokenizer, size_t bytes); /* from the arena, zeroed; NULL when out of memory */
ht_status ht_stage_regex(ht_tokenizer *tokenizer, const ht_field *field, ht_regex_kind kind, ht_field_text pattern,
                         const ht_regex **out);
/* object.pattern = {"String": s} or {"Regex": r} */
ht_status ht_stage_pattern(ht_tokenizer *tokenizer, const ht_field *object, const ht_regex **out);
ht_status ht_stage_text(ht_tokenizer *tokenizer, const ht_field *object, const char *key, ht_field_text *out);
/* add(tokenizer, object, its type) for every component of a section, in order: the section is one component or a
 * Sequence, whose list is called `members` and may hold Sequences itself. A section that is not there has none. */
typedef ht_status ht_stage_add_fn(ht_tokenizer *tokenizer, const ht_field *object, const char *type);
ht_status ht_stage_walk(ht_tokenizer *tokenizer, const ht_field *field, const char *members, ht_stage_add_fn *add);
/* Failure for a type that no row of the table has. */
ht_status ht_stage_unknown(const ht_field *object, const char *kind, const char *type);
ht_status ht_stage_full(const ht_field *object);

#endif
