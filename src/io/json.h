/* JSON text to a tree, with failures in one line. */
#ifndef HT_IO_JSON_H
#define HT_IO_JSON_H

#include <stddef.h>

#include <halftone/status.h>

#include <jansson.h>

#include "base/text.h"

/* Parse strict JSON (UTF-8, no duplicate keys, one value). `label` and `what` name it in messages ("model.safetensors",
 * "header"). *out is owned by the caller (json_decref). Fails with CORRUPT. */
ht_status ht_json_parse(const char *label, const char *what, const char *text, size_t bytes, json_t **out);

/* Typed access that ignores what is missing or of another type: NULL or the fallback. */
const char *ht_json_string(const json_t *object, const char *key);
json_int_t ht_json_integer(const json_t *object, const char *key, json_int_t fallback);

/* Append text as a JSON string, quotes included. */
void ht_json_quote(ht_text *out, const char *text);

#endif
