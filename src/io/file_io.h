/* Writing files: complete writes, failures in one line with the right status. */
#ifndef HT_IO_FILE_IO_H
#define HT_IO_FILE_IO_H

#include <stddef.h>
#include <stdint.h>

#include <halftone/status.h>

/* SPACE when `error` (an errno value) says that room is lacking, else OUTPUT: "<path>: cannot <what>: <reason>". */
ht_status ht_output_failed(const char *path, const char *what, int error);

/* All of data at offset. */
ht_status ht_pwrite_all(int fd, const char *path, const void *data, size_t bytes, uint64_t offset);

/* Create or replace a file with these bytes, on disk when the call returns. */
ht_status ht_write_file(const char *path, const void *data, size_t bytes);

/* Copy a regular file; the copy is on disk when the call returns. */
ht_status ht_copy_file(const char *from, const char *to);

/* Make renames and new names in a directory survive a power loss. */
ht_status ht_sync_directory(const char *path);

/* Reserve the blocks of [0, bytes) of a file and set its size. Fails with SPACE, naming what is needed. */
ht_status ht_reserve_file(int fd, const char *path, uint64_t bytes);

/* Fails with SPACE when the file system that holds `path` has fewer than `bytes` available. */
ht_status ht_check_space(const char *path, uint64_t bytes);

#endif
