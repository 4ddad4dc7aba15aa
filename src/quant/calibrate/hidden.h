/* The rows that go from block to block: [samples, length, hidden] f32, as many samples in memory as fit, the others in
 * a file that has no name. */
#ifndef HT_QUANT_CALIBRATE_HIDDEN_H
#define HT_QUANT_CALIBRATE_HIDDEN_H

#include <stddef.h>
#include <stdint.h>

#include <halftone/context.h>

typedef struct ht_hidden {
    ht_context *ctx;
    size_t samples, values; /* of a sample */
    size_t resident;        /* the first samples, in memory */
    float *memory;          /* [resident, values] */
    float *buffer;          /* one sample that was read from the file; NULL when all are resident */
    int file;               /* -1: none */
    const char *folder;     /* it lies in; for messages */
} ht_hidden;

/* `folder` takes the file (NULL: none, everything stays in memory); its room is reserved at once. Fails with MEMORY,
 * SPACE, OUTPUT. */
ht_status ht_hidden_create(ht_context *ctx, size_t samples, size_t values, size_t resident, const char *folder,
                           ht_hidden **out);
void ht_hidden_destroy(ht_hidden *hidden);
/* Rows of a sample, good until the next call; and put back after a change. Fails with IO. */
ht_status ht_hidden_load(ht_hidden *hidden, size_t sample, float **rows);
ht_status ht_hidden_store(ht_hidden *hidden, size_t sample);
uint64_t ht_hidden_spilled(const ht_hidden *hidden); /* bytes in the file */

#endif
