/* Walking through large JSON texts without building a tree: headers and indexes with 100,000 entries. */
#ifndef HT_IO_JSON_SCAN_H
#define HT_IO_JSON_SCAN_H

#include <stddef.h>
#include <stdint.h>

#include <halftone/status.h>

#include "base/memory.h"

typedef struct ht_scan {
    const char *label, *what; /* for messages: "model.safetensors", "header" */
    const char *text, *at, *end;
    ht_arena *arena; /* where strings go */
} ht_scan;

/* Called for each member with its key; must consume the value by one of the calls below. */
typedef ht_status ht_scan_member_fn(ht_scan *scan, const char *key, void *user);
/* Called for each element; must consume it. */
typedef ht_status ht_scan_element_fn(ht_scan *scan, size_t index, void *user);

/* The type of the value at hand by its first character: '{' '[' '"' 'n'(umber) 't'(true, false, null), 0 at the end. */
char ht_scan_peek(ht_scan *scan);

/* All fail with CORRUPT, naming label, what, and the byte; strict JSON and UTF-8. */
ht_status ht_scan_object(ht_scan *scan, ht_scan_member_fn *member, void *user);
ht_status ht_scan_array(ht_scan *scan, ht_scan_element_fn *element, void *user);
ht_status ht_scan_string(ht_scan *scan, const char **out); /* NUL-terminated, in the arena */
ht_status ht_scan_integer(ht_scan *scan, int64_t *out);
ht_status ht_scan_skip(ht_scan *scan); /* any value */
ht_status ht_scan_end(ht_scan *scan);  /* nothing but white space is left */

#endif
