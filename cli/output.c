/* Printing results: text tables, numbers for people, JSON for programs.
 *
 * A table is a list of cells; widths come from the content. On a terminal the flexible column is cut in its middle so
 * that names keep both ends; piped output is never cut. JSON carries unrounded numbers (null for NaN and infinity).
 * SPDX-License-Identifier: BSD-3-Clause */
#include "cli/cli.h"

#include <jansson.h>
#include <math.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

enum { GAP = 2, LEAST_FLEXIBLE = 40, BUFFERS = 8, BUFFER = 160 };

/* --- Failing ---------------------------------------------------------------------------------------------- */

int cli_fail(const cli_call *call, int exit_status, const char *format, ...) {
    char text[2048];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    for (char *c = text; *c; c++) /* one line, and no control characters from names */
        if ((unsigned char)*c < ' ' || *c == 127)
            *c = '?';
    fflush(stdout);
    if (call->command)
        fprintf(stderr, "halftone: %s: %s\n", call->command->name, text);
    else
        fprintf(stderr, "halftone: %s\n", text);
    return exit_status;
}

int cli_status(const cli_call *call, ht_status status) {
    if (status == HT_OK)
        return CLI_DONE;
    const char *message = ht_error_message();
    return cli_fail(call, ht_status_exit(status), "%s", *message ? message : ht_status_text(status));
}

void cli_note(const cli_call *call, const char *format, ...) {
    if (call->common.quiet)
        return;
    va_list args;
    va_start(args, format);
    vfprintf(stderr, format, args);
    va_end(args);
    fputc('\n', stderr);
}

/* --- Tables ------------------------------------------------------------------------------------------------- */

struct cli_table {
    const cli_column *columns;
    size_t count;
    char **cell;
    size_t cells, capacity;
};

cli_table *cli_table_create(const cli_column *columns, size_t count) {
    cli_table *table = calloc(1, sizeof *table);
    if (table)
        *table = (cli_table){.columns = columns, .count = count};
    return table;
}

void cli_cell(cli_table *table, const char *format, ...) {
    if (!table)
        return;
    if (table->cells == table->capacity) {
        size_t capacity = table->capacity ? 2 * table->capacity : 256;
        char **grown = realloc(table->cell, capacity * sizeof *grown);
        if (!grown)
            return;
        table->cell = grown;
        table->capacity = capacity;
    }
    char *text = NULL;
    va_list args;
    va_start(args, format);
    if (vasprintf(&text, format, args) < 0)
        text = NULL;
    va_end(args);
    table->cell[table->cells++] = text;
}

/* Width on the screen: UTF-8 continuation bytes do not count. */
static size_t width_of(const char *text) {
    size_t width = 0;
    for (; *text; text++)
        width += ((unsigned char)*text & 0xC0) != 0x80;
    return width;
}

static size_t terminal_width(FILE *out) {
    struct winsize size;
    if (!isatty(fileno(out)) || ioctl(fileno(out), TIOCGWINSZ, &size) != 0)
        return 0;
    return size.ws_col;
}

static const char *cell_text(const cli_table *table, size_t index) {
    return index < table->cells && table->cell[index] ? table->cell[index] : "";
}

static void print_cell(FILE *out, const char *text, const cli_column *column, size_t width, int last) {
    size_t used = width_of(text), length = strlen(text);
    if (used > width && column->flexible && used == length) {
        size_t head = (width - 3) / 2, tail = width - 3 - head;
        fprintf(out, "%.*s...%s", (int)head, text, text + length - tail);
        used = width;
    } else {
        fprintf(out, "%*s%s", column->right && used < width ? (int)(width - used) : 0, "", text);
    }
    if (!last)
        fprintf(out, "%*s", (int)(GAP + (column->right || used >= width ? 0 : width - used)), "");
}

void cli_table_print(cli_table *table, FILE *out) {
    if (!table)
        return;
    size_t width[16] = {0}, total = 0, screen = terminal_width(out);
    for (size_t c = 0; c < table->count; c++) {
        width[c] = width_of(table->columns[c].title);
        for (size_t i = c; i < table->cells; i += table->count)
            if (width_of(cell_text(table, i)) > width[c])
                width[c] = width_of(cell_text(table, i));
        total += width[c] + GAP;
    }
    for (size_t c = 0; c < table->count && screen && total - GAP > screen; c++) {
        size_t over = total - GAP - screen;
        if (table->columns[c].flexible && width[c] > LEAST_FLEXIBLE)
            width[c] = width[c] > over + LEAST_FLEXIBLE ? width[c] - over : LEAST_FLEXIBLE;
        if (table->columns[c].flexible)
            break;
    }
    for (size_t c = 0; c < table->count; c++)
        print_cell(out, table->columns[c].title, &table->columns[c], width[c], c + 1 == table->count);
    fputc('\n', out);
    for (size_t i = 0; i < table->cells; i += table->count) {
        size_t last = table->count - 1; /* no blanks at the end of a line */
        while (last && !*cell_text(table, i + last))
            last--;
        for (size_t c = 0; c <= last; c++)
            print_cell(out, cell_text(table, i + c), &table->columns[c], width[c], c == last);
        fputc('\n', out);
    }
    for (size_t i = 0; i < table->cells; i++)
        free(table->cell[i]);
    free(table->cell);
    free(table);
}

/* --- Numbers for people -------------------------------------------------------------------------------------- */

static char *next_buffer(void) {
    static char buffers[BUFFERS][BUFFER];
    static unsigned next;
    return buffers[next++ % BUFFERS];
}

const char *cli_size(double bytes) {
    static const char *const units[] = {"B", "kB", "MB", "GB", "TB", "PB"};
    size_t unit = 0;
    while (bytes >= 999.5 && unit < 5) {
        bytes /= 1000;
        unit++;
    }
    char *text = next_buffer();
    snprintf(text, BUFFER, "%.*f %s", unit == 0 || bytes >= 99.95 ? 0 : bytes >= 9.995 ? 1 : 2, bytes, units[unit]);
    return text;
}

const char *cli_grouped(uint64_t number) {
    char digits[32], *text = next_buffer(), *to = text;
    int length = snprintf(digits, sizeof digits, "%llu", (unsigned long long)number);
    for (int i = 0; i < length; i++) {
        if (i && (length - i) % 3 == 0)
            *to++ = ',';
        *to++ = digits[i];
    }
    *to = '\0';
    return text;
}

const char *cli_shape(const size_t *shape, unsigned rank) {
    char *text = next_buffer();
    size_t used = (size_t)snprintf(text, BUFFER, "[");
    for (unsigned i = 0; i < rank && used < BUFFER; i++)
        used += (size_t)snprintf(text + used, BUFFER - used, "%s%zu", i ? "," : "", shape[i]);
    if (used < BUFFER)
        snprintf(text + used, BUFFER - used, "]");
    return text;
}

const char *cli_percent(double fraction) {
    char *text = next_buffer();
    if (isfinite(fraction))
        snprintf(text, BUFFER, "%.1f %%", 100 * fraction);
    else
        snprintf(text, BUFFER, "-");
    return text;
}

/* --- JSON ------------------------------------------------------------------------------------------------------ */

json_t *cli_json_begin(const cli_call *call) {
    char schema[64];
    snprintf(schema, sizeof schema, "halftone.%s/1", call->command->name);
    json_t *object = json_object();
    json_object_set_new(object, "schema", json_string(schema));
    return object;
}

/* Length of the valid UTF-8 sequence at p, or 0. */
static size_t sequence(const unsigned char *p, size_t left) {
    static const unsigned least[5] = {0, 0, 0x80, 0x800, 0x10000};
    if (*p < 0x80)
        return 1;
    size_t length = *p >= 0xF0 && *p < 0xF8 ? 4 : *p >= 0xE0 && *p < 0xF0 ? 3 : *p >= 0xC0 && *p < 0xE0 ? 2 : 0;
    if (!length || length > left)
        return 0;
    unsigned code = *p & (0x7Fu >> length);
    for (size_t i = 1; i < length; i++) {
        if ((p[i] & 0xC0) != 0x80)
            return 0;
        code = code << 6 | (p[i] & 0x3Fu);
    }
    return code < least[length] || code > 0x10FFFF || (code >= 0xD800 && code < 0xE000) ? 0 : length;
}

json_t *cli_json_bytes(const char *text, size_t bytes) {
    json_t *whole = json_stringn(text, bytes);
    if (whole)
        return whole;
    char *fixed = malloc(3 * bytes + 1);
    if (!fixed)
        return json_null();
    size_t used = 0;
    for (size_t i = 0; i < bytes;) {
        size_t length = sequence((const unsigned char *)text + i, bytes - i);
        memcpy(fixed + used, length ? text + i : "\xEF\xBF\xBD", length ? length : 3);
        used += length ? length : 3;
        i += length ? length : 1;
    }
    whole = json_stringn(fixed, used);
    free(fixed);
    return whole ? whole : json_null();
}

json_t *cli_json_text(const char *text) {
    return text ? cli_json_bytes(text, strlen(text)) : json_null();
}

json_t *cli_json_real(double value) {
    return isfinite(value) ? json_real(value) : json_null();
}

json_t *cli_json_count(uint64_t value) {
    return json_integer((json_int_t)value);
}

int cli_json_end(json_t *object, int exit_status) {
    json_dumpf(object, stdout, JSON_INDENT(1) | JSON_REAL_PRECISION(17));
    fputc('\n', stdout);
    json_decref(object);
    return exit_status;
}

static void dump_member(const char *key, const json_t *value, int first) {
    fprintf(stdout, "%s\n \"%s\": ", first ? "{" : ",", key);
    json_dumpf(value, stdout, JSON_ENCODE_ANY | JSON_COMPACT | JSON_REAL_PRECISION(17));
}

int cli_json_end_rows(json_t *object, const char *name, cli_json_row *row, const void *user, int exit_status) {
    const char *key;
    json_t *value;
    int first = 1;
    json_object_foreach(object, key, value) {
        dump_member(key, value, first);
        first = 0;
    }
    fprintf(stdout, "%s\n \"%s\": [", first ? "{" : ",", name);
    for (size_t i = 0; (value = row(user, i)) != NULL; i++) {
        char *text = json_dumps(value, JSON_COMPACT | JSON_REAL_PRECISION(17));
        fprintf(stdout, "%s\n  %s", i ? "," : "", text ? text : "null");
        free(text);
        json_decref(value);
    }
    fputs("\n ]\n}\n", stdout);
    json_decref(object);
    return exit_status;
}
