/* Files of packed weights: any header and payload; one that is accepted must be readable row by row. The checksum is
 * made right first, else nothing would come past it.
 * SPDX-License-Identifier: BSD-3-Clause */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/packed.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { CRC_AT = 48, MOST = 1 << 20 };

static void read_rows(const ht_packed *packed, size_t batch, const uint8_t *panels) {
    float *row = malloc(packed->cols * sizeof *row);
    volatile float sum = 0;
    for (size_t e = 0; row && e < batch; e++) {
        ht_packed_row(packed, panels + e * packed->bytes, 0, row);
        sum = sum + row[0];
        ht_packed_row(packed, panels + e * packed->bytes, packed->rows - 1, row);
        sum = sum + row[packed->cols - 1];
    }
    free(row);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    if (size < HT_PACKED_HEADER || size > MOST)
        return 0;
    uint8_t *file = malloc(size); /* of its exact size, so that reading past it is seen */
    if (!file)
        return 0;
    memcpy(file, data, size);
    uint32_t crc = ht_crc32c(file + HT_PACKED_HEADER, size - HT_PACKED_HEADER);
    for (int i = 0; i < 4; i++)
        file[CRC_AT + i] = (uint8_t)(crc >> (8 * i));
    ht_packed packed;
    size_t batch;
    if (ht_packed_read_header(file, size, &packed, &batch) == HT_OK)
        read_rows(&packed, batch, file + HT_PACKED_HEADER);
    free(file);
    return 0;
}
