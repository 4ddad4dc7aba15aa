/* What commands read besides checkpoints: a text, a list of ids, the clock.
 * SPDX-License-Identifier: BSD-3-Clause */
#include "cli/cli.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

double cli_seconds(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

char *cli_read_file(const cli_call *call, const char *path, size_t *bytes, int *exit_status) {
    int standard = strcmp(path, "-") == 0;
    FILE *file = standard ? stdin : fopen(path, "rb");
    if (!file) {
        *exit_status = cli_fail(call, CLI_INPUT, "%s: %s", path, strerror(errno));
        return NULL;
    }
    char *text = NULL;
    size_t used = 0, capacity = 0;
    for (size_t got = 1; got; used += got) {
        if (capacity - used < 65536) {
            capacity = capacity ? 2 * capacity : 1 << 17;
            char *grown = realloc(text, capacity);
            if (!grown) {
                *exit_status = cli_fail(call, CLI_RESOURCES, "%s: no memory for %zu bytes", path, capacity);
                goto fail;
            }
            text = grown;
        }
        got = fread(text + used, 1, capacity - used - 1, file);
    }
    if (ferror(file)) {
        *exit_status = cli_fail(call, CLI_INPUT, "%s: %s", path, strerror(errno));
        goto fail;
    }
    if (!standard)
        fclose(file);
    text[used] = '\0';
    *bytes = used;
    return text;
fail:
    if (!standard)
        fclose(file);
    free(text);
    return NULL;
}

int32_t *cli_parse_ids(const cli_call *call, const char *text, size_t *count) {
    int32_t *ids = malloc((strlen(text) / 2 + 1) * sizeof *ids);
    *count = 0;
    for (const char *at = text; ids;) {
        at += strspn(at, ", \t\n");
        if (!*at)
            break;
        char *end;
        long value = strtol(at, &end, 10);
        if (end == at || value < 0 || value > INT32_MAX || !strchr(", \t\n", *end)) {
            cli_fail(call, CLI_USAGE, "\"%.40s\" is not a token id: give whole numbers from 0, separated by commas",
                     at);
            free(ids);
            return NULL;
        }
        ids[(*count)++] = (int32_t)value;
        at = end;
    }
    if (ids && !*count) {
        cli_fail(call, CLI_USAGE, "no token id given");
        free(ids);
        return NULL;
    }
    return ids;
}
