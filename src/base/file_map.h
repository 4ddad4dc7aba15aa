/* Read-only memory-mapped files. */
#ifndef HT_BASE_FILE_MAP_H
#define HT_BASE_FILE_MAP_H

#include <stddef.h>
#include <stdint.h>

#include <halftone/status.h>

typedef struct ht_file_map {
    const uint8_t *data; /* NULL when the file is empty */
    size_t bytes;
} ht_file_map;

/* Map a regular file. Fails with IO, naming path and reason. */
ht_status ht_file_map_open(const char *path, ht_file_map *out);
void ht_file_map_close(ht_file_map *map); /* accepts a zeroed map */
/* Tell the kernel that a range will be read soon, or is not needed again (its pages may go). */
void ht_file_map_will_need(const ht_file_map *map, size_t offset, size_t bytes);
void ht_file_map_done_with(const ht_file_map *map, size_t offset, size_t bytes);

#endif
