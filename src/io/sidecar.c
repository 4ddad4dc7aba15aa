/* Carrying the other files of a checkpoint along: tokenizer, generation config, templates, code, licence. Everything in
 * the source directory is copied except weights of any kind, their indexes, hidden files, folders, and what was written
 * already.
 * SPDX-License-Identifier: BSD-3-Clause */
#include <dirent.h>   /* opendir */
#include <errno.h>    /* errno */
#include <stdio.h>    /* snprintf */
#include <string.h>   /* strcmp, strerror */
#include <strings.h>  /* strcasecmp */
#include <sys/stat.h> /* stat */

#include "base/context.h"
#include "base/status.h"
#include "io/file_io.h"
#include "io/writer.h"

static int is_weight(const char *name) {
    static const char *const tails[] = {".safetensors", ".bin",     ".pt",        ".pth",       ".ckpt",
                                        ".gguf",        ".ggml",    ".onnx",      ".ot",        ".npz",
                                        ".h5",          ".msgpack", ".onnx_data", ".index.json"};
    size_t length = strlen(name);
    for (size_t i = 0; i < sizeof tails / sizeof tails[0]; i++) {
        size_t tail = strlen(tails[i]);
        if (length >= tail && strcasecmp(name + length - tail, tails[i]) == 0)
            return 1;
    }
    return 0;
}

static ht_status copy_one(ht_checkpoint_writer *writer, const char *source, const char *name) {
    if (name[0] == '.' || is_weight(name) || ht_writer_has_file(writer, name))
        return HT_OK;
    char *from = ht_writer_path(writer, source, name), *to = ht_writer_path(writer, writer->files, name);
    if (!from || !to)
        return HT_ERR_MEMORY;
    struct stat info;
    if (stat(from, &info) != 0 || !S_ISREG(info.st_mode))
        return HT_OK;
    HT_TRY(ht_writer_check_name(writer, name));
    HT_TRY(ht_copy_file(from, to));
    return ht_writer_note_file(writer, name);
}

ht_status ht_checkpoint_writer_sidecars(ht_checkpoint_writer *writer, const ht_checkpoint *source) {
    if (strcmp(ht_checkpoint_kind(source), "huggingface") != 0)
        return HT_OK; /* a single file has no company */
    const char *path = ht_checkpoint_path(source);
    DIR *directory = opendir(path);
    if (!directory)
        return ht_fail(HT_ERR_IO, "%s: cannot list: %s", path, strerror(errno));
    ht_status status = HT_OK;
    for (struct dirent *entry; status == HT_OK && (entry = readdir(directory));)
        status = copy_one(writer, path, entry->d_name);
    closedir(directory);
    return status;
}

static void add_one(const char *folder, const char *name, uint64_t *out) {
    char path[4096];
    struct stat info;
    if (name[0] == '.' || is_weight(name) || strcmp(name, "config.json") == 0 ||
        snprintf(path, sizeof path, "%s/%s", folder, name) >= (int)sizeof path)
        return;
    if (stat(path, &info) == 0 && S_ISREG(info.st_mode))
        *out += (uint64_t)info.st_size;
}

ht_status ht_sidecars_bytes(const ht_checkpoint *source, uint64_t *out) {
    *out = 0;
    if (strcmp(ht_checkpoint_kind(source), "huggingface") != 0)
        return HT_OK;
    const char *path = ht_checkpoint_path(source);
    DIR *directory = opendir(path);
    if (!directory)
        return ht_fail(HT_ERR_IO, "%s: cannot list: %s", path, strerror(errno));
    for (struct dirent *entry; (entry = readdir(directory));)
        add_one(path, entry->d_name, out);
    closedir(directory);
    return HT_OK;
}
