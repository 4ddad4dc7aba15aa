/* Plain main for fuzz targets: runs every file of the given files and folders once, in the order of their names.
 *
 * With FUZZ_VERBOSE set, the name of each file goes to stderr before it runs: the last one is the one that crashed.
 * Exit status 1 when nothing could be read.
 * SPDX-License-Identifier: BSD-3-Clause */
#include <dirent.h> /* scandir */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static int replay_file(const char *path) {
    FILE *file = fopen(path, "rb");
    if (!file)
        return 0;
    size_t size = 0, room = 1 << 16;
    uint8_t *data = malloc(room);
    while (data) {
        size += fread(data + size, 1, room - size, file);
        if (size < room)
            break;
        uint8_t *more = realloc(data, room *= 2);
        if (!more)
            free(data);
        data = more;
    }
    fclose(file);
    if (!data)
        return 0;
    /* Exactly as large as the input, so that a sanitizer sees reads past its end. */
    uint8_t *exact = malloc(size ? size : 1);
    if (exact) {
        memcpy(exact, data, size);
        if (getenv("FUZZ_VERBOSE"))
            fprintf(stderr, "%s\n", path);
        LLVMFuzzerTestOneInput(exact, size);
    }
    free(exact);
    free(data);
    return exact != NULL;
}

static int replay(const char *path) {
    struct dirent **entries;
    int count = scandir(path, &entries, NULL, alphasort), done = 0;
    if (count < 0)
        return replay_file(path);
    for (int i = 0; i < count; i++) {
        char inner[4096];
        if (entries[i]->d_name[0] != '.' &&
            snprintf(inner, sizeof inner, "%s/%s", path, entries[i]->d_name) < (int)sizeof inner)
            done += replay_file(inner);
        free(entries[i]);
    }
    free(entries);
    return done;
}

int main(int argc, char **argv) {
    int done = 0;
    for (int i = 1; i < argc; i++)
        done += replay(argv[i]);
    printf("%d inputs replayed\n", done);
    return done == 0;
}
