/* What this build of the library is made of: behind `halftone doctor`. */
#ifndef HT_ABOUT_H
#define HT_ABOUT_H

#include <stddef.h>

#include <halftone/status.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct ht_library_info {
    const char *name;    /* "jansson" */
    const char *use;     /* "JSON" */
    const char *version; /* of the library that is loaded now; "" when this build is without it */
} ht_library_info;

/* Libraries that this one is linked with, and optional ones that it is without. Returns 0 past the end. The strings
 * are static or belong to the calling thread until its next call. */
HT_API int ht_library_list(size_t index, ht_library_info *out);

typedef struct ht_device_entry {
    char name[24]; /* as ht_context_options.device takes it: "cpu", "cuda:0" */
    char description[128];
    size_t memory_bytes, free_bytes;
} ht_device_entry;

/* Devices that this process can use, the host first. Returns 0 past the end. */
HT_API int ht_device_list(size_t index, ht_device_entry *out);

#ifdef __cplusplus
}
#endif
#endif
