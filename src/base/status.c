/* Status names and the thread-local message. The message is the only mutable state outside a context; it is
 * per thread, so two users of the library never see each other's.
 * SPDX-License-Identifier: BSD-3-Clause */
#include "base/status.h"

#include <stdarg.h> /* va_list */
#include <stdio.h>  /* vsnprintf */
#include <string.h> /* memcpy */

enum { MESSAGE_BYTES = 1024 };

static _Thread_local char message[MESSAGE_BYTES];

static const struct {
    const char *name;
    int exit_status;
    const char *text;
} statuses[] = {
#define STATUS_ROW(name, exit_status, text) {"HT_" #name, exit_status, text},
    HT_STATUS_LIST(STATUS_ROW)
#undef STATUS_ROW
};

enum { STATUS_COUNT = sizeof statuses / sizeof statuses[0] };

static int known(ht_status status) {
    return (size_t)status < (size_t)STATUS_COUNT;
}

const char *ht_status_name(ht_status status) {
    return known(status) ? statuses[status].name : "unknown status";
}

const char *ht_status_text(ht_status status) {
    return known(status) ? statuses[status].text : "unknown status";
}

int ht_status_exit(ht_status status) {
    return known(status) ? statuses[status].exit_status : 1;
}

const char *ht_error_message(void) {
    return message;
}

const char *ht_version(void) {
    return HT_VERSION;
}

static void keep_one_line(char *text) {
    for (; *text; text++)
        if ((unsigned char)*text < 0x20 || *text == 0x7f)
            *text = '?';
}

ht_status ht_fail(ht_status status, const char *format, ...) {
    char line[MESSAGE_BYTES]; /* an argument may be the old message */
    va_list args;
    va_start(args, format);
    vsnprintf(line, sizeof line, format, args);
    va_end(args);
    keep_one_line(line);
    memcpy(message, line, sizeof line);
    return status;
}

ht_status ht_fail_prefix(ht_status status, const char *format, ...) {
    char line[MESSAGE_BYTES];
    va_list args;
    va_start(args, format);
    int used = vsnprintf(line, sizeof line, format, args);
    va_end(args);
    if (used > 0 && (size_t)used < sizeof line)
        snprintf(line + used, sizeof line - (size_t)used, ": %s", message);
    keep_one_line(line);
    memcpy(message, line, sizeof line);
    return status;
}
