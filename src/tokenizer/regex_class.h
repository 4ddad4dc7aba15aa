/* Parts of a pattern that both the pattern and its character classes are made of. Internal to the translation. */
#ifndef HT_TOKENIZER_REGEX_CLASS_H
#define HT_TOKENIZER_REGEX_CLASS_H

#include <stddef.h>
#include <stdint.h>

#include "base/text.h"

/* A pattern and the place of reading in it. */
typedef struct ht_pattern {
    const char *text; /* NUL-terminated at `bytes` */
    size_t bytes, at;
} ht_pattern;

/* At '[': read the class, append an expression that matches one character. */
ht_status ht_pattern_class(ht_pattern *in, ht_text *out);

/* At \p{ or \P{: read it; members as the inside of a class. */
ht_status ht_pattern_property(ht_pattern *in, ht_text *members, int *negated);

/* At a backslash that stands for one character (\x41 \x{41} \u0041 \0 \101 \. \-): read it. */
ht_status ht_pattern_escaped_char(ht_pattern *in, uint32_t *character);

#endif
