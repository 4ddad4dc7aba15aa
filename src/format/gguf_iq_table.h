/* Lattice points of the GGUF IQ types, packed as gguf_iq_table.c describes. */
#ifndef HT_FORMAT_GGUF_IQ_TABLE_H
#define HT_FORMAT_GGUF_IQ_TABLE_H

#include <stdint.h>

extern const uint16_t ht_iq2_xxs_grid[256], ht_iq2_xs_grid[512], ht_iq2_s_grid[1024];
extern const uint16_t ht_iq3_xxs_grid[256], ht_iq3_s_grid[512];
extern const uint16_t ht_iq1_grid[2048];

#endif
