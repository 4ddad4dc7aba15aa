/* Folding stored tensors into parameters. */
#ifndef HT_IO_FOLD_H
#define HT_IO_FOLD_H

#include <stddef.h>

#include <halftone/checkpoint.h>

#include <jansson.h>

typedef struct ht_fold {
    ht_checkpoint *checkpoint;
    const json_t *model;   /* config.json; NULL when there is none */
    const json_t *config;  /* its quantization_config; NULL when there is none */
    const char *label;     /* "<path>/config.json" */
    unsigned char *folded; /* per stored tensor: part of a parameter already */
} ht_fold;

/* Append a parameter with this name (copied). shape is logical; the weight's batch, rows and cols follow from it.
 * NULL with the message set when out of memory. */
ht_parameter *ht_fold_add(ht_fold *fold, const char *name, size_t length, unsigned rank, const size_t *shape);

/* Let stored tensor `index` be `plane` of the parameter, whose weight.format is set: its size must be that of the
 * plane, times the batch. Data that lies unaligned for its dtype is copied. */
ht_status ht_fold_plane(ht_fold *fold, ht_parameter *parameter, ht_plane plane, size_t index);

/* Note that stored tensor `index` belongs to the parameter without being a plane (a shape, a static input scale). */
ht_status ht_fold_take(ht_fold *fold, ht_parameter *parameter, size_t index);

/* Index of a stored tensor by name, given in two parts; SIZE_MAX when there is none. */
size_t ht_fold_find(const ht_fold *fold, const char *head, size_t length, const char *tail);

#endif
