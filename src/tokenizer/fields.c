/* JSON fields with their path: every reader says "pre_tokenizer.pretokenizers[1].pattern: expected an object". The path
 * is a chain of stack records, walked only when something fails. Source of the tree: jansson.
 * SPDX-License-Identifier: BSD-3-Clause */
#include "tokenizer/fields.h"

#include <stdarg.h> /* va_list */
#include <stdio.h>  /* snprintf */
#include <string.h> /* strcmp */

#include "base/status.h"
#include "tokenizer/utf8.h"

enum { PATH_BYTES = 256 };

static size_t write_path(const ht_field *field, char *path, size_t used) {
    if (!field || used >= PATH_BYTES)
        return used;
    if (field->parent)
        used = write_path(field->parent, path, used);
    if (used >= PATH_BYTES)
        return used;
    int more = 0;
    if (field->key)
        more = snprintf(path + used, PATH_BYTES - used, "%s%s", used ? "." : "", field->key);
    else if (field->parent)
        more = snprintf(path + used, PATH_BYTES - used, "[%zu]", field->index);
    return more > 0 ? used + (size_t)more : used;
}

ht_status ht_field_fail(const ht_field *field, ht_status status, const char *format, ...) {
    char path[PATH_BYTES] = "", message[512];
    write_path(field, path, 0);
    va_list args;
    va_start(args, format);
    vsnprintf(message, sizeof message, format, args);
    va_end(args);
    return path[0] ? ht_fail(status, "%s: %s", path, message) : ht_fail(status, "%s", message);
}

ht_field ht_field_get(const ht_field *object, const char *key) {
    json_t *value = json_object_get(object->value, key);
    return (ht_field){.value = json_is_null(value) ? NULL : value, .parent = object, .key = key};
}

ht_field ht_field_at(const ht_field *array, size_t index) {
    json_t *value = json_array_get(array->value, index);
    return (ht_field){.value = json_is_null(value) ? NULL : value, .parent = array, .index = index};
}

static const char *type_name(const json_t *value) {
    static const char *const names[] = {
        [JSON_OBJECT] = "an object", [JSON_ARRAY] = "an array",
        [JSON_STRING] = "text",      [JSON_INTEGER] = "a whole number",
        [JSON_REAL] = "a number",    [JSON_TRUE] = "true",
        [JSON_FALSE] = "false",      [JSON_NULL] = "null",
    };
    return value ? names[json_typeof(value)] : "missing";
}

static ht_status mistyped(const ht_field *field, const char *expected) {
    return ht_field_fail(field, HT_ERR_CORRUPT, "expected %s, found %s", expected, type_name(field->value));
}

ht_status ht_field_object(const ht_field *field) {
    return json_is_object(field->value) ? HT_OK : mistyped(field, "an object");
}

ht_status ht_field_array(const ht_field *field) {
    return json_is_array(field->value) ? HT_OK : mistyped(field, "an array");
}

ht_status ht_field_only(const ht_field *object, const char *const *keys) {
    const char *key;
    json_t *value;
    json_object_foreach(object->value, key, value) {
        size_t i = 0;
        while (keys[i] && strcmp(keys[i], key) != 0)
            i++;
        if (!keys[i] && !json_is_null(value)) {
            ht_field unknown = ht_field_get(object, key);
            return ht_field_fail(&unknown, HT_ERR_UNSUPPORTED, "unknown key, its meaning is not implemented");
        }
    }
    return HT_OK;
}

ht_status ht_field_bool(const ht_field *object, const char *key, int fallback, int *out) {
    ht_field field = ht_field_get(object, key);
    *out = fallback;
    if (!field.value)
        return HT_OK;
    if (!json_is_boolean(field.value))
        return mistyped(&field, "true or false");
    *out = json_is_true(field.value);
    return HT_OK;
}

ht_status ht_field_text_optional(const ht_field *object, const char *key, ht_field_text *out) {
    ht_field field = ht_field_get(object, key);
    *out = (ht_field_text){0};
    if (!field.value)
        return HT_OK;
    if (!json_is_string(field.value))
        return mistyped(&field, "text");
    out->data = json_string_value(field.value);
    out->bytes = json_string_length(field.value);
    return HT_OK;
}

ht_status ht_field_text_required(const ht_field *object, const char *key, ht_field_text *out) {
    HT_TRY(ht_field_text_optional(object, key, out));
    if (out->data)
        return HT_OK;
    ht_field field = ht_field_get(object, key);
    return mistyped(&field, "text");
}

ht_status ht_field_integer_value(const ht_field *field, int64_t low, int64_t high, int64_t *out) {
    *out = 0;
    if (!json_is_integer(field->value))
        return mistyped(field, "a whole number");
    json_int_t value = json_integer_value(field->value);
    if (value < low || value > high)
        return ht_field_fail(field, HT_ERR_CORRUPT, "%lld is outside %lld to %lld", (long long)value, (long long)low,
                             (long long)high);
    *out = value;
    return HT_OK;
}

ht_status ht_field_integer_required(const ht_field *object, const char *key, int64_t low, int64_t high, int64_t *out) {
    ht_field field = ht_field_get(object, key);
    return ht_field_integer_value(&field, low, high, out);
}

ht_status ht_field_char_required(const ht_field *object, const char *key, uint32_t *out) {
    ht_field_text text;
    HT_TRY(ht_field_text_required(object, key, &text));
    size_t used = text.bytes ? ht_utf8_decode(text.data, text.bytes, out) : 0;
    if (used && used == text.bytes)
        return HT_OK;
    ht_field field = ht_field_get(object, key);
    return ht_field_fail(&field, HT_ERR_CORRUPT, "expected text of one character, found %zu bytes", text.bytes);
}
