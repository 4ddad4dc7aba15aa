/* Reading the fields of a tokenizer.json, with messages that name the JSON path. */
#ifndef HT_TOKENIZER_FIELDS_H
#define HT_TOKENIZER_FIELDS_H

#include <stddef.h>
#include <stdint.h>

#include <jansson.h>

#include <halftone/status.h>

/* One value and the way to it. Lives on the stack of the reader; a child must not outlive its parent. */
typedef struct ht_field {
    json_t *value; /* borrowed; NULL when the key is absent or null */
    const struct ht_field *parent;
    const char *key; /* NULL for an array element */
    size_t index;
} ht_field;

/* A piece of text inside the document: not NUL-terminated for the reader's purposes, may hold NUL bytes. */
typedef struct ht_field_text {
    const char *data;
    size_t bytes;
} ht_field_text;

/* Fail with "<path>: <message>". */
ht_status ht_field_fail(const ht_field *field, ht_status status, const char *format, ...) HT_PRINTF(3, 4);

ht_field ht_field_get(const ht_field *object, const char *key);
ht_field ht_field_at(const ht_field *array, size_t index);

/* The field must be an object / array; CORRUPT otherwise. */
ht_status ht_field_object(const ht_field *field);
ht_status ht_field_array(const ht_field *field);
/* Every key of the object is in the NULL-terminated list, or has the value null; UNSUPPORTED otherwise. */
ht_status ht_field_only(const ht_field *object, const char *const *keys);

/* object[key] of a type, CORRUPT when it has another one. An absent or null key gives the fallback; the _required
 * readers fail instead. */
ht_status ht_field_bool(const ht_field *object, const char *key, int fallback, int *out);
ht_status ht_field_text_required(const ht_field *object, const char *key, ht_field_text *out);
/* data is NULL when absent. */
ht_status ht_field_text_optional(const ht_field *object, const char *key, ht_field_text *out);
/* A whole number in [low, high]. */
ht_status ht_field_integer_required(const ht_field *object, const char *key, int64_t low, int64_t high, int64_t *out);
/* The value itself, in [low, high]. */
ht_status ht_field_integer_value(const ht_field *field, int64_t low, int64_t high, int64_t *out);
/* Text of exactly one character. */
ht_status ht_field_char_required(const ht_field *object, const char *key, uint32_t *out);

#endif
