/* Files of packed weights: a header of 64 bytes that says everything about the panels behind it.
 *
 * The header holds the numbers from which the layout follows (packed.c), the sizes that must come out, and a checksum.
 * Reading computes the sizes again and compares, in 64 bits throughout. Refuses: anything that does not fit together,
 * files that are longer or shorter than they say, a wrong checksum.
 * Source: cpu-kernels specification, section 2.2; crc32c: RFC 3720 appendix B.4 (polynomial 0x1EDC6F41, reflected).
 * SPDX-License-Identifier: BSD-3-Clause */
#include "kernels/packed.h"

#include <string.h> /* memcmp, memcpy, memset */

#include "base/status.h"

enum { VERSION = 1, LAYOUT = 1 };

uint32_t ht_crc32c(const uint8_t *bytes, size_t count) {
    uint32_t table[256], crc = 0xffffffffu;
    for (uint32_t i = 0; i < 256; i++) {
        table[i] = i;
        for (int b = 0; b < 8; b++)
            table[i] = table[i] >> 1 ^ (table[i] & 1 ? 0x82f63b78u : 0);
    }
    for (size_t i = 0; i < count; i++)
        crc = crc >> 8 ^ table[(crc ^ bytes[i]) & 255];
    return ~crc;
}

static void put(uint8_t *out, uint64_t value, size_t bytes) {
    for (size_t i = 0; i < bytes; i++)
        out[i] = (uint8_t)(value >> (8 * i));
}

static uint64_t get(const uint8_t *in, size_t bytes) {
    uint64_t value = 0;
    for (size_t i = 0; i < bytes; i++)
        value |= (uint64_t)in[i] << (8 * i);
    return value;
}

void ht_packed_write_header(const ht_packed *p, size_t batch, const uint8_t *panels, uint8_t out[64]) {
    memset(out, 0, HT_PACKED_HEADER);
    memcpy(out, "HTNK", 4);
    put(out + 4, VERSION, 2);
    put(out + 6, HT_PACKED_HEADER, 2);
    put(out + 8, LAYOUT, 4);
    out[12] = (uint8_t)p->element;
    out[13] = (uint8_t)p->scale;
    out[14] = (uint8_t)p->bits;
    out[15] = (uint8_t)p->has_zeros;
    put(out + 16, p->group, 4);
    put(out + 20, batch, 4);
    put(out + 24, p->rows, 4);
    put(out + 28, p->cols, 4);
    put(out + 32, batch * p->bytes, 8);
    put(out + 40, p->panel_bytes, 8);
    put(out + 48, ht_crc32c(panels, batch * p->bytes), 4);
    out[52] = (uint8_t)(p->group ? p->head : 0); /* without groups there is one kind of head */
}

static ht_status corrupt(const char *field, uint64_t value, const char *need) {
    return ht_fail(HT_ERR_CORRUPT, "packed weight: %s is %llu, %s is needed", field, (unsigned long long)value, need);
}

ht_status ht_packed_read_header(const uint8_t *file, size_t bytes, ht_packed *out, size_t *batch) {
    static const uint8_t zeros[11];
    const char *field;
    uint64_t value;
    memset(out, 0, sizeof *out);
    if (bytes < HT_PACKED_HEADER || memcmp(file, "HTNK", 4) != 0)
        return ht_fail(HT_ERR_CORRUPT, "packed weight: no header in the %zu bytes", bytes);
    if (get(file + 4, 2) != VERSION || get(file + 6, 2) != HT_PACKED_HEADER || get(file + 8, 4) != LAYOUT)
        return ht_fail(HT_ERR_UNSUPPORTED,
                       "packed weight: version %u, layout %u; this program reads version 1, layout 1",
                       (unsigned)get(file + 4, 2), (unsigned)get(file + 8, 4));
    out->element = (ht_packed_element)file[12];
    out->scale = (ht_packed_scale)file[13];
    out->bits = file[14];
    out->has_zeros = file[15];
    out->group = (size_t)get(file + 16, 4);
    *batch = (size_t)get(file + 20, 4);
    out->rows = (size_t)get(file + 24, 4);
    out->cols = (size_t)get(file + 28, 4);
    out->head = (ht_packed_head)file[52];
    if (!out->group)
        out->head = file[52] ? HT_PACKED_HEAD_NONE : HT_PACKED_HEAD_ROWS;
    if (!ht_packed_complete(out, &field, &value))
        return corrupt(field, value, "what goes with the rest of the header");
    if (!*batch)
        return corrupt("the batch", 0, "at least 1");
    uint64_t payload = get(file + 32, 8);
    if (get(file + 40, 8) != out->panel_bytes)
        return corrupt("the size of a panel", get(file + 40, 8), "what its shape asks for");
    if (payload != bytes - HT_PACKED_HEADER || payload % out->bytes != 0 || payload / out->bytes != *batch)
        return corrupt("the payload", payload, "the rest of the file, and what its shape asks for,");
    if (memcmp(file + 53, zeros, sizeof zeros) != 0)
        return ht_fail(HT_ERR_CORRUPT, "packed weight: the header's last 11 bytes are not zero");
    if (get(file + 48, 4) != ht_crc32c(file + HT_PACKED_HEADER, (size_t)payload))
        return ht_fail(HT_ERR_CORRUPT, "packed weight: the checksum does not match the payload");
    return HT_OK;
}
