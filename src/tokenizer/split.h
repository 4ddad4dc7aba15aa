/* Splitting a piece at matches. */
#ifndef HT_TOKENIZER_SPLIT_H
#define HT_TOKENIZER_SPLIT_H

#include "tokenizer/pipeline.h"

typedef enum ht_split_behavior {
    HT_SPLIT_REMOVED,
    HT_SPLIT_ISOLATED,
    HT_SPLIT_MERGED_WITH_PREVIOUS,
    HT_SPLIT_MERGED_WITH_NEXT,
    HT_SPLIT_CONTIGUOUS,
} ht_split_behavior;

/* State of a split stage: matches of regex, or every single character for which `is` holds. */
typedef struct ht_split {
    const ht_regex *regex;
    int (*is)(uint32_t character);
    uint32_t character; /* with neither: this one */
    ht_split_behavior behavior;
    int invert; /* what lies between matches is the match */
} ht_split;

/* "Isolated" or "isolated" -> the behavior; CORRUPT for another word. */
ht_status ht_split_behavior_read(const ht_field *object, const char *key, ht_split_behavior fallback,
                                 ht_split_behavior *out);

ht_pretokenize_fn ht_split_run; /* state: ht_split */

#endif
