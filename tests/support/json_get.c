/* json_get FILE PATH...: print values of a JSON file, one a line; "-" reads standard input. A path is keys and indices
 * joined by dots ("tensors.0.name"), "." is the whole document; "#" at its end asks for the number of entries, "keys"
 * for their names. Strings are printed bare. Exit status 1 when the text is not JSON, 2 when a path leads nowhere.
 * SPDX-License-Identifier: BSD-3-Clause */
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void print(json_t *value) {
    if (json_is_string(value)) {
        puts(json_string_value(value));
        return;
    }
    json_dumpf(value, stdout, JSON_ENCODE_ANY | JSON_COMPACT);
    putchar('\n');
}

static int get(json_t *root, const char *path) {
    json_t *at = root;
    char copy[512];
    snprintf(copy, sizeof copy, "%s", strcmp(path, ".") == 0 ? "" : path);
    for (char *word = strtok(copy, "."); word; word = strtok(NULL, ".")) {
        if (strcmp(word, "#") == 0) {
            printf("%zu\n", json_is_array(at) ? json_array_size(at) : json_object_size(at));
            return 0;
        }
        if (strcmp(word, "keys") == 0 && json_is_object(at) && !json_object_get(at, "keys")) {
            const char *key;
            json_t *value;
            json_object_foreach(at, key, value) printf("%s\n", key);
            return 0;
        }
        at = json_is_array(at) ? json_array_get(at, strtoul(word, NULL, 10)) : json_object_get(at, word);
        if (!at) {
            fprintf(stderr, "json_get: no %s (at \"%s\")\n", path, word);
            return 2;
        }
    }
    print(at);
    return 0;
}

int main(int argc, char **argv) {
    json_error_t error;
    if (argc < 3) {
        fprintf(stderr, "usage: json_get FILE PATH...\n");
        return 1;
    }
    size_t flags = JSON_REJECT_DUPLICATES; /* one object and nothing after it */
    json_t *root =
        strcmp(argv[1], "-") == 0 ? json_loadf(stdin, flags, &error) : json_load_file(argv[1], flags, &error);
    if (!root) {
        fprintf(stderr, "json_get: %s:%d: %s\n", argv[1], error.line, error.text);
        return 1;
    }
    int status = 0;
    for (int i = 2; i < argc && !status; i++)
        status = get(root, argv[i]);
    json_decref(root);
    return status;
}
