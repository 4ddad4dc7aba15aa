/* Mapped files: contents, empty files, and one-line failures. */
#include "base/file_map.h"

#include <stdio.h>
#include <string.h>

#include "support/check.h"

static void contents(void) {
    char path[512];
    snprintf(path, sizeof path, "%s/file", check_scratch());
    FILE *file = fopen(path, "wb");
    REQUIRE(file);
    fputs("hello", file);
    fclose(file);
    ht_file_map map;
    REQUIRE_OK(ht_file_map_open(path, &map));
    CHECK_INT(map.bytes, 5);
    CHECK_BYTES(map.data, "hello", 5);
    ht_file_map_will_need(&map, 0, 5);
    ht_file_map_done_with(&map, 0, 100);
    CHECK_BYTES(map.data, "hello", 5);
    ht_file_map_close(&map);
    ht_file_map_close(&map);
}

static void failures(void) {
    ht_file_map map;
    CHECK_FAILS(ht_file_map_open("/nonexistent/file", &map), HT_ERR_IO);
    CHECK_CONTAINS(ht_error_message(), "/nonexistent/file");
    CHECK_FAILS(ht_file_map_open("/", &map), HT_ERR_IO);
    CHECK_CONTAINS(ht_error_message(), "not a regular file");
}

static void empty(void) {
    char path[512];
    snprintf(path, sizeof path, "%s/empty", check_scratch());
    FILE *file = fopen(path, "wb");
    REQUIRE(file);
    fclose(file);
    ht_file_map map;
    REQUIRE_OK(ht_file_map_open(path, &map));
    CHECK_INT(map.bytes, 0);
    CHECK(map.data == NULL);
    ht_file_map_close(&map);
}

int main(void) {
    RUN(contents);
    RUN(failures);
    RUN(empty);
    return check_finish();
}
