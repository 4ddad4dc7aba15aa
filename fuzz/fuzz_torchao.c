/* torchao's buffers: any bytes. One that is accepted must be readable, and come out again as it went in where there is
 * no padding. The first three bytes say the shape.
 * SPDX-License-Identifier: BSD-3-Clause */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <halftone/torchao.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { MOST = 1 << 18, SHAPE = 3 };

static void linear(const uint8_t *buffer, size_t size, const uint8_t *shape) {
    ht_torchao_linear l;
    if (ht_torchao_linear_open(buffer, size, shape[0], shape[1] * 16u, (shape[2] & 15u) * 16u, &l) != HT_OK)
        return;
    size_t values = l.rows * l.cols, groups = values / l.group;
    int8_t *codes = malloc(values), *zeros = malloc(groups);
    float *scales = malloc(groups * sizeof *scales), *bias = malloc(l.rows * sizeof *bias);
    uint8_t *again = malloc(size);
    if (codes && zeros && scales && bias && again) {
        ht_planes planes = {{NULL}};
        planes.plane[HT_PLANE_CODES] = codes;
        planes.plane[HT_PLANE_SCALES] = scales;
        planes.plane[HT_PLANE_ZEROS] = zeros;
        int read = ht_torchao_linear_read(&l, buffer, &planes, bias) == HT_OK;
        if (read && ht_torchao_linear_write(&l, &planes, bias, again) != HT_OK)
            abort();
        if (read && l.rows % 8 == 0 && memcmp(again + 64, buffer + 64, size - 64) != 0)
            abort();
    }
    free(codes);
    free(zeros);
    free(scales);
    free(bias);
    free(again);
}

static void embedding(const uint8_t *buffer, size_t size, const uint8_t *shape) {
    ht_torchao_embedding e;
    if (ht_torchao_embedding_open(buffer, size, shape[0], shape[1] * 32u, &e) != HT_OK)
        return;
    signed char *codes = malloc(e.rows * e.cols);
    uint8_t *again = malloc(size);
    if (codes && again) {
        ht_torchao_embedding_read(&e, buffer, codes);
        if (ht_torchao_embedding_write(&e, codes, again) != HT_OK || memcmp(again + 64, buffer + 64, size - 64) != 0)
            abort();
    }
    free(codes);
    free(again);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    if (size < SHAPE || size > MOST)
        return 0;
    uint8_t *buffer = malloc(size - SHAPE + 1); /* one more, as malloc(0) may be NULL */
    if (!buffer)
        return 0;
    memcpy(buffer, data + SHAPE, size - SHAPE);
    linear(buffer, size - SHAPE, data);
    embedding(buffer, size - SHAPE, data);
    free(buffer);
    return 0;
}
