/* The storage formats of compressed-tensors, for the writer and the reader. */
#ifndef HT_IO_COMPRESSED_TENSORS_H
#define HT_IO_COMPRESSED_TENSORS_H

#include <halftone/format.h>

typedef struct ht_compressed_row {
    const char *name; /* value of "format" */
    ht_family family;
    ht_dtype elements[8]; /* ends with HT_DTYPE_NONE */
    ht_packing packing;
    ht_dtype codes;   /* dtype of the codes tensor */
    const char *tail; /* of its name, behind the parameter's: "_packed" or "" */
    ht_dtype scales;  /* dtype of the scales as stored; NONE = the format's */
    enum { HT_ANY_INPUT, HT_WITH_INPUT, HT_WITHOUT_INPUT } input;
    int has_shape; /* a _shape tensor; zero points packed down the rows */
} ht_compressed_row;

/* The row that holds a weight of this format; NULL when there is none. */
const ht_compressed_row *ht_compressed_row_for(const ht_format *format, int has_input);

#endif
