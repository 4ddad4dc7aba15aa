/* Methods: how codes and scales are chosen. A row of the table in methods.c each.
 *
 * A rounding method turns one matrix into codes: row by row without data (rows), or as a whole with what is known about
 * its inputs (matrix.h). */
#ifndef HT_QUANT_METHODS_H
#define HT_QUANT_METHODS_H

#include <stddef.h>

#include <halftone/format.h>
#include <halftone/recipe.h>

#include "ops/cast.h"
#include "quant/matrix.h"
#include "quant/settings.h"

/* Rows of one matrix, quantized alone. Contract of ht_format_quantize; settings are the method's, resolved. */
typedef ht_status ht_rows_fn(const ht_format *format, const ht_row_options *options, const ht_settings *settings,
                             const void *x, ht_dtype x_dtype, size_t rows, size_t cols, const ht_planes *out);
/* The same for methods without settings, decoding on the way where the cast asks for it. Contract of ht_cast_rows. */
typedef ht_status ht_cast_fn(const ht_context *ctx, const ht_cast *cast);

typedef struct ht_method {
    ht_list_item item;
    int needs_data;                                /* calibration text */
    ht_status (*accepts)(const ht_scheme *scheme); /* HT_OK, or why this scheme cannot be had; NULL: takes all */
    ht_rows_fn *quantize_rows;                     /* for methods that see rows one by one */
    ht_cast_fn *cast_rows;                         /* instead of it, where decoding on the way is cheaper */
    ht_matrix_fn *matrix;                          /* for methods that see a whole matrix and what goes into it */
    /* What `matrix` wants to know of the inputs, of ht_moment, under these settings; NULL: nothing. */
    unsigned (*moments)(const ht_settings *settings);
} ht_method;

/* The row of that name, case ignored. Fails with ARGUMENT, naming the nearest. */
ht_status ht_method_find(const char *name, const ht_method **out);

#endif
