/* The command line: one getopt_long run driven by the command's option table and the common one.
 *
 * Every fact about an option (name, letter, kind, default, help) is one row; parsing, --help and the man page read the
 * same rows. A mistake is answered with one line that names the word, the nearest right one and where to read more.
 * Refuses unknown options, values that are not numbers or out of range, and a wrong number of arguments.
 * SPDX-License-Identifier: BSD-3-Clause */
#include "cli/cli.h"

#include <errno.h>
#include <getopt.h>
#include <math.h> /* isfinite */
#include <stdlib.h>
#include <string.h>
#include <strings.h> /* strcasecmp */

enum { MOST_OPTIONS = 64, LONG_BASE = 256, COMMON_BASE = LONG_BASE + MOST_OPTIONS };

#define AT(field) offsetof(cli_common, field)
static const cli_option common_rows[] = {
    {"json", 0, CLI_FLAG, AT(json), NULL, NULL, "print one JSON object on standard output instead of text"},
    {"quiet", 'q', CLI_FLAG, AT(quiet), NULL, NULL, "no progress and no messages, errors excepted"},
    {"verbose", 'v', CLI_COUNT, AT(verbose), NULL, NULL, "say more on standard error; twice: everything"},
    {"progress", 0, CLI_CHOICE, AT(progress), "auto|line|plain|json|none", "auto",
     "how progress is shown: one updating line, plain lines, JSON lines; auto: a line on a terminal, else plain"},
    {"threads", 0, CLI_NUMBER, AT(threads), "N", NULL,
     "threads to use; 0: the CPUs this process may use. Results never depend on it"},
    {"device", 0, CLI_TEXT, AT(device), "DEVICE", "cpu", "cpu, cuda or cuda:INDEX"},
    {"compute", 0, CLI_CHOICE, AT(compute), "auto|exact|fast", "auto",
     "products with quantized weights. auto: in integers where the scheme asks for int8 inputs, else exactly as "
     "stored, "
     "in f32; exact: always that; fast: int8 inputs (a scale per 32) wherever weights allow it"},
    {"seed", 0, CLI_NUMBER, AT(seed), "S", "0", "seed of every random choice"},
    {"mem-limit", 0, CLI_BYTES, AT(memory_limit), "BYTES", NULL,
     "most memory for buffers, mapped files not counted; suffixes K M G (1000) and KiB MiB GiB (1024)"},
    {"help", 'h', CLI_FLAG, AT(help), NULL, NULL, "show this help"},
    {NULL, 0, CLI_FLAG, 0, NULL, NULL, NULL}};
#undef AT
const cli_options cli_common_options = {common_rows, sizeof(cli_common), NULL};

/* --- Values ---------------------------------------------------------------------------------------------- */

static int parse_number(const char *text, uint64_t *out) {
    char *end;
    errno = 0;
    unsigned long long value = strtoull(text, &end, 10);
    if (*text < '0' || *text > '9' || *end || errno)
        return 0;
    *out = value;
    return 1;
}

static int parse_bytes(const char *text, uint64_t *out) {
    static const struct {
        const char *name;
        double factor;
    } units[] = {{"", 1},       {"B", 1},        {"K", 1e3},      {"KB", 1e3},    {"M", 1e6},
                 {"MB", 1e6},   {"G", 1e9},      {"GB", 1e9},     {"T", 1e12},    {"TB", 1e12},
                 {"KiB", 1024}, {"MiB", 0x1p20}, {"GiB", 0x1p30}, {"TiB", 0x1p40}};
    char *end;
    double value = strtod(text, &end);
    if (end == text || *text < '0' || *text > '9')
        return 0;
    for (size_t i = 0; i < sizeof units / sizeof *units; i++)
        if (strcasecmp(end, units[i].name) == 0 && value * units[i].factor < 0x1p63) {
            *out = (uint64_t)(value * units[i].factor);
            return 1;
        }
    return 0;
}

static int parse_real(const char *text, double *out) {
    char *end;
    *out = strtod(text, &end);
    return end != text && !*end && isfinite(*out);
}

static int parse_choice(const char *text, const char *words, int *out) {
    size_t length = strlen(text);
    for (int index = 0; *words; index++) {
        size_t word = strcspn(words, "|");
        if (word == length && strncasecmp(words, text, length) == 0) {
            *out = index;
            return 1;
        }
        words += word + (words[word] == '|');
    }
    return 0;
}

static int add_word(cli_words *words, const char *text) {
    size_t count = 0;
    while (words->word[count])
        count++;
    if (count < CLI_MOST_WORDS)
        words->word[count] = text;
    return count < CLI_MOST_WORDS;
}

/* Store one value; returns NULL, or what the text should have been. */
static const char *store(const cli_option *row, void *values, const char *text) {
    void *field = (char *)values + row->offset;
    switch (row->kind) {
    case CLI_FLAG:
        *(int *)field = 1;
        return NULL;
    case CLI_COUNT:
        ++*(int *)field;
        return NULL;
    case CLI_TEXT:
        *(const char **)field = text;
        return NULL;
    case CLI_NUMBER:
        return parse_number(text, field) ? NULL : "a whole number";
    case CLI_BYTES:
        return parse_bytes(text, field) ? NULL : "a size such as 512M or 2GiB";
    case CLI_REAL:
        return parse_real(text, field) ? NULL : "a number";
    case CLI_WORDS:
        return add_word(field, text) ? NULL : "one of the first 32; more are not taken";
    case CLI_ALIAS:
        return add_word(field, row->argument) ? NULL : "one of the first 32; more are not taken";
    case CLI_CHOICE:
        return parse_choice(text, row->argument, field) ? NULL : row->argument;
    }
    return NULL;
}

int cli_option_takes(const cli_option *row) {
    return row->kind != CLI_FLAG && row->kind != CLI_COUNT && row->kind != CLI_ALIAS;
}

const cli_option *cli_option_at(const cli_options *table, size_t index) {
    for (const cli_option *row = table->rows; row && row->name; row++)
        if (!index--)
            return row;
    for (const cli_option *row = table->more; row && row->name; row++)
        if (!index--)
            return row;
    return NULL;
}

void cli_options_defaults(const cli_options *table, void *values) {
    const cli_option *row;
    memset(values, 0, table->bytes);
    for (size_t i = 0; (row = cli_option_at(table, i)); i++)
        if (row->standard)
            store(row, values, row->standard);
}

/* --- Suggestions ----------------------------------------------------------------------------------------- */

/* Edit distance (insert, delete, replace, swap of neighbours), names up to 31 characters. */
static unsigned distance(const char *a, const char *b) {
    enum { MOST = 32 };
    size_t n = strlen(a), m = strlen(b);
    unsigned table[MOST][MOST];
    if (n >= MOST || m >= MOST)
        return MOST;
    for (size_t i = 0; i <= n; i++)
        for (size_t j = 0; j <= m; j++) {
            if (!i || !j) {
                table[i][j] = (unsigned)(i + j);
                continue;
            }
            unsigned best = table[i - 1][j - 1] + (a[i - 1] != b[j - 1]);
            if (table[i - 1][j] + 1 < best)
                best = table[i - 1][j] + 1;
            if (table[i][j - 1] + 1 < best)
                best = table[i][j - 1] + 1;
            if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] && table[i - 2][j - 2] + 1 < best)
                best = table[i - 2][j - 2] + 1;
            table[i][j] = best;
        }
    return table[n][m];
}

const char *cli_nearest(const char *word, const char *const *names) {
    const char *best = NULL;
    unsigned least = (unsigned)strlen(word) / 3 + 2; /* further away is another word */
    for (; *names; names++) {
        unsigned d = strncmp(*names, word, strlen(word)) == 0 ? 1 : distance(word, *names);
        if (d < least) {
            least = d;
            best = *names;
        }
    }
    return best;
}

/* --- getopt_long ----------------------------------------------------------------------------------------- */

typedef struct parser {
    struct option options[2 * MOST_OPTIONS];
    const cli_option *row[2 * MOST_OPTIONS]; /* of options[i] */
    const char *names[2 * MOST_OPTIONS];
    char letters[4 * MOST_OPTIONS];
    size_t count, own; /* rows; the first `own` belong to the command */
} parser;

static void add_rows(parser *p, const cli_options *table) {
    size_t used = strlen(p->letters);
    const cli_option *row;
    for (size_t i = 0; (row = cli_option_at(table, i)) && p->count < 2 * MOST_OPTIONS - 1; i++) {
        int takes = cli_option_takes(row);
        p->options[p->count] = (struct option){row->name, takes, NULL, LONG_BASE + (int)p->count};
        p->row[p->count] = row;
        p->names[p->count++] = row->name;
        if (row->letter) {
            p->letters[used++] = row->letter;
            if (takes)
                p->letters[used++] = ':';
        }
    }
    p->letters[used] = '\0';
}

static size_t row_index(const parser *p, int got) {
    if (got >= LONG_BASE)
        return (size_t)(got - LONG_BASE);
    for (size_t i = 0; i < p->count; i++)
        if (p->row[i]->letter == got)
            return i;
    return p->count;
}

static int usage_error(const cli_call *call, const char *text) {
    if (call->command)
        return cli_fail(call, CLI_USAGE, "%s (see halftone %s --help)", text, call->command->name);
    return cli_fail(call, CLI_USAGE, "%s (see halftone --help)", text);
}

/* getopt_long returned '?' or ':': say which word is wrong. */
static int refuse(const cli_call *call, const parser *p, int got, char **argv) {
    char text[512];
    const char *word = argv[optind - 1];
    if (got == ':') {
        const char *name = optopt >= LONG_BASE ? p->row[optopt - LONG_BASE]->name : NULL;
        if (name)
            snprintf(text, sizeof text, "option --%s needs a value", name);
        else
            snprintf(text, sizeof text, "option -%c needs a value", optopt);
    } else if (optopt >= LONG_BASE) {
        snprintf(text, sizeof text, "option --%s takes no value", p->row[optopt - LONG_BASE]->name);
    } else if (optopt) {
        snprintf(text, sizeof text, "unknown option -%c", optopt);
    } else {
        char name[64];
        snprintf(name, sizeof name, "%.*s", (int)strcspn(word + 2, "="), word + 2);
        const char *near = cli_nearest(name, p->names);
        snprintf(text, sizeof text, "unknown or ambiguous option --%.60s%s%s%s", name, near ? ", did you mean --" : "",
                 near ? near : "", near ? "?" : "");
    }
    return usage_error(call, text);
}

/* Run getopt_long over argv[1..]; values and common receive what is given. */
static int parse(cli_call *call, const cli_options *own, void *values, int argc, char **argv, int front) {
    parser p = {.letters = {front ? '+' : ':', front ? ':' : '\0'}};
    if (own)
        add_rows(&p, own);
    p.own = p.count;
    add_rows(&p, &cli_common_options);
    if (front) {
        p.options[p.count++] = (struct option){"version", 0, NULL, 'V'};
        strcat(p.letters, "V");
    }
    optind = 0; /* glibc: start afresh, and read the first letter of the string again */
    opterr = 0;
    for (int got; (got = getopt_long(argc, argv, p.letters, p.options, NULL)) != -1;) {
        if (got == 'V') {
            call->common.version = 1;
            continue;
        }
        size_t index = got == '?' || got == ':' ? p.count : row_index(&p, got);
        if (index == p.count)
            return refuse(call, &p, got, argv);
        const char *wanted = store(p.row[index], index < p.own ? values : (void *)&call->common, optarg);
        if (wanted) {
            char text[512];
            snprintf(text, sizeof text, "option --%s: \"%.100s\" is not %s%s", p.row[index]->name, optarg,
                     p.row[index]->kind == CLI_CHOICE ? "one of " : "", wanted);
            return usage_error(call, text);
        }
    }
    return 0;
}

int cli_options_parse_front(cli_common *common, int argc, char **argv, int *next) {
    cli_call call = {.common = *common};
    int status = parse(&call, NULL, NULL, argc, argv, 1);
    *common = call.common;
    *next = optind;
    return status;
}

int cli_options_parse(cli_call *call, void *values, int argc, char **argv) {
    const cli_command *row = call->command;
    int status = parse(call, row->options, values, argc, argv, 0);
    call->argument = argv + optind;
    call->arguments = (size_t)(argc - optind);
    if (status || call->common.help)
        return status;
    char text[512];
    if (call->arguments < row->least)
        snprintf(text, sizeof text, "needs %s%s", row->arguments, call->arguments ? ", only one given" : "");
    else if (call->arguments > row->most)
        snprintf(text, sizeof text, "unexpected argument \"%.100s\"", call->argument[row->most]);
    else
        return 0;
    return usage_error(call, text);
}
