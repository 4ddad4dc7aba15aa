/* JSON through jansson: strict, no duplicate keys, one-line failures with the place.
 * SPDX-License-Identifier: BSD-3-Clause */
#include "io/json.h"

#include "base/status.h"

ht_status ht_json_parse(const char *label, const char *what, const char *text, size_t bytes, json_t **out) {
    json_error_t error;
    *out = json_loadb(text, bytes, JSON_REJECT_DUPLICATES, &error);
    if (*out)
        return HT_OK;
    if (json_error_code(&error) == json_error_out_of_memory)
        return ht_fail(HT_ERR_MEMORY, "%s: the system has no memory left for %s", label, what);
    return ht_fail(HT_ERR_CORRUPT, "%s: %s is not valid JSON: line %d, column %d: %s", label, what, error.line,
                   error.column, error.text);
}

const char *ht_json_string(const json_t *object, const char *key) {
    return json_string_value(json_object_get(object, key));
}

json_int_t ht_json_integer(const json_t *object, const char *key, json_int_t fallback) {
    const json_t *value = json_object_get(object, key);
    return json_is_integer(value) ? json_integer_value(value) : fallback;
}

void ht_json_quote(ht_text *out, const char *text) {
    ht_text_append(out, "\"", 1);
    const char *plain = text; /* start of the run that needs no escape */
    for (; *text; text++) {
        unsigned char c = (unsigned char)*text;
        if (c >= 0x20 && c != '"' && c != '\\')
            continue;
        ht_text_append(out, plain, (size_t)(text - plain));
        if (c < 0x20)
            ht_text_printf(out, "\\u%04x", c);
        else
            ht_text_printf(out, "\\%c", c);
        plain = text + 1;
    }
    ht_text_append(out, plain, (size_t)(text - plain));
    ht_text_append(out, "\"", 1);
}
