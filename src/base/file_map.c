/* Read-only mapped files.
 * SPDX-License-Identifier: BSD-3-Clause */
#include "base/file_map.h"

#include <errno.h>    /* errno */
#include <fcntl.h>    /* open */
#include <string.h>   /* strerror */
#include <sys/mman.h> /* mmap, madvise */
#include <sys/stat.h> /* fstat */
#include <unistd.h>   /* close */

#include "base/status.h"

ht_status ht_file_map_open(const char *path, ht_file_map *out) {
    *out = (ht_file_map){0};
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return ht_fail(HT_ERR_IO, "%s: cannot open: %s", path, strerror(errno));
    struct stat info;
    ht_status status = HT_OK;
    if (fstat(fd, &info) != 0)
        status = ht_fail(HT_ERR_IO, "%s: cannot read its size: %s", path, strerror(errno));
    else if (!S_ISREG(info.st_mode))
        status = ht_fail(HT_ERR_IO, "%s: not a regular file", path);
    else if (info.st_size > 0) {
        void *data = mmap(NULL, (size_t)info.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
        if (data == MAP_FAILED)
            status =
                ht_fail(HT_ERR_IO, "%s: cannot map %lld bytes: %s", path, (long long)info.st_size, strerror(errno));
        else
            *out = (ht_file_map){.data = data, .bytes = (size_t)info.st_size};
    }
    close(fd);
    return status;
}

void ht_file_map_close(ht_file_map *map) {
    if (map->data)
        munmap((void *)(uintptr_t)map->data, map->bytes);
    *map = (ht_file_map){0};
}

/* Whole pages inside [offset, offset + bytes) when dropping, touching it when asking. */
static void advise(const ht_file_map *map, size_t offset, size_t bytes, int advice, int inside) {
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    if (!map->data || offset >= map->bytes)
        return;
    if (bytes > map->bytes - offset)
        bytes = map->bytes - offset;
    size_t first = inside ? (offset + page - 1) / page * page : offset / page * page;
    size_t last = inside ? (offset + bytes) / page * page : offset + bytes;
    if (first < last)
        madvise((void *)(uintptr_t)(map->data + first), last - first, advice);
}

void ht_file_map_will_need(const ht_file_map *map, size_t offset, size_t bytes) {
    advise(map, offset, bytes, MADV_WILLNEED, 0);
}

void ht_file_map_done_with(const ht_file_map *map, size_t offset, size_t bytes) {
    advise(map, offset, bytes, MADV_DONTNEED, 1);
}
