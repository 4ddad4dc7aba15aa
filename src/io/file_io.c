/* Writing files. Short writes and interrupted calls are completed here; a failure becomes one line with path and
 * reason, SPACE when the disk, a quota or a size limit is full.
 * SPDX-License-Identifier: BSD-3-Clause */
#include "io/file_io.h"

#include <errno.h>       /* errno */
#include <fcntl.h>       /* open, fallocate */
#include <inttypes.h>    /* PRIu64 */
#include <stdlib.h>      /* malloc */
#include <string.h>      /* strerror */
#include <sys/statvfs.h> /* statvfs */
#include <unistd.h>      /* pwrite, fsync */

#include "base/status.h"

enum { COPY_BYTES = 1 << 20, PIECE = 1 << 30 };

ht_status ht_output_failed(const char *path, const char *what, int error) {
    int room = error == ENOSPC || error == EDQUOT || error == EFBIG;
    return ht_fail(room ? HT_ERR_SPACE : HT_ERR_OUTPUT, "%s: cannot %s: %s", path, what, strerror(error));
}

ht_status ht_pwrite_all(int fd, const char *path, const void *data, size_t bytes, uint64_t offset) {
    const char *from = data;
    while (bytes) {
        ssize_t n = pwrite(fd, from, bytes < PIECE ? bytes : PIECE, (off_t)offset);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return ht_output_failed(path, "write", n ? errno : ENOSPC);
        from += n;
        bytes -= (size_t)n;
        offset += (uint64_t)n;
    }
    return HT_OK;
}

/* Sync and close, keeping the first failure. */
static ht_status finish(int fd, const char *path, ht_status status) {
    if (status == HT_OK && fsync(fd) != 0)
        status = ht_output_failed(path, "sync", errno);
    if (close(fd) != 0 && status == HT_OK)
        status = ht_output_failed(path, "close", errno);
    return status;
}

ht_status ht_write_file(const char *path, const void *data, size_t bytes) {
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    if (fd < 0)
        return ht_output_failed(path, "create", errno);
    return finish(fd, path, ht_pwrite_all(fd, path, data, bytes, 0));
}

static ht_status copy_bytes(int in, int out, const char *from, const char *to) {
    char *buffer = malloc(COPY_BYTES);
    if (!buffer)
        return ht_fail(HT_ERR_MEMORY, "%s: the system has no %d bytes left to copy it", from, (int)COPY_BYTES);
    ht_status status = HT_OK;
    uint64_t offset = 0;
    while (status == HT_OK) {
        ssize_t n = read(in, buffer, COPY_BYTES);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            status = ht_fail(HT_ERR_IO, "%s: cannot read: %s", from, strerror(errno));
        if (n <= 0)
            break;
        status = ht_pwrite_all(out, to, buffer, (size_t)n, offset);
        offset += (uint64_t)n;
    }
    free(buffer);
    return status;
}

ht_status ht_copy_file(const char *from, const char *to) {
    int in = open(from, O_RDONLY | O_CLOEXEC);
    if (in < 0)
        return ht_fail(HT_ERR_IO, "%s: cannot open: %s", from, strerror(errno));
    int out = open(to, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    ht_status status = out < 0 ? ht_output_failed(to, "create", errno) : finish(out, to, copy_bytes(in, out, from, to));
    close(in);
    return status;
}

ht_status ht_sync_directory(const char *path) {
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return ht_output_failed(path, "open", errno);
    int failed = fsync(fd) != 0 && errno != EINVAL && errno != EROFS; /* some file systems sync names by themselves */
    ht_status status = failed ? ht_output_failed(path, "sync", errno) : HT_OK;
    close(fd);
    return status;
}

ht_status ht_reserve_file(int fd, const char *path, uint64_t bytes) {
    int failed = bytes ? fallocate(fd, 0, 0, (off_t)bytes) : 0;
    if (failed && errno != EOPNOTSUPP && errno != ENOSYS && errno != EINTR) {
        ht_status status = ht_output_failed(path, "reserve its space", errno);
        return ht_fail_prefix(status, "%" PRIu64 " bytes needed", bytes);
    }
    if (ftruncate(fd, (off_t)bytes) != 0)
        return ht_output_failed(path, "set its size", errno);
    return HT_OK;
}

ht_status ht_check_space(const char *path, uint64_t bytes) {
    struct statvfs info;
    if (statvfs(path, &info) != 0)
        return HT_OK; /* the reservation will tell */
    uint64_t available = (uint64_t)info.f_bavail * info.f_frsize;
    if (bytes > available)
        return ht_fail(HT_ERR_SPACE, "%s: %" PRIu64 " bytes needed, the file system has %" PRIu64 " available", path,
                       bytes, available);
    return HT_OK;
}
