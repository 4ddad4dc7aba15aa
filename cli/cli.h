/* The parts of the program that commands share: one option table per command, one way to print results, one way to
 * fail.
 *
 * A command is a row of the table in commands.c and a function `int run(cli_call *)` in cmd_<name>.c that returns the
 * exit status. Everything else (parsing, --help, the man page, the context, signals, progress) follows from the row. */
#ifndef HT_CLI_CLI_H
#define HT_CLI_CLI_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <halftone/halftone.h>

/* Exit statuses that do not come from an ht_status (docs/program.md). */
enum {
    CLI_DONE = 0,
    CLI_FAILED = 1,
    CLI_USAGE = 2,
    CLI_INPUT = 3,
    CLI_POLICY = 4,
    CLI_RESOURCES = 5,
    CLI_MISMATCH = 6
};

/* --- Options: options.c, help.c ------------------------------------------------------------------------ */

/* Type of the value, and of the field at `offset` that receives it. */
typedef enum cli_kind {
    CLI_FLAG,   /* int, 1 when given */
    CLI_COUNT,  /* int, number of times given */
    CLI_TEXT,   /* const char * */
    CLI_NUMBER, /* uint64_t */
    CLI_BYTES,  /* uint64_t; suffixes K M G T (1000) and KiB MiB GiB TiB (1024) */
    CLI_REAL,   /* double */
    CLI_CHOICE, /* int, index of the word in `argument`: "auto|required|never" */
    CLI_WORDS,  /* cli_words; may be given several times */
    CLI_ALIAS   /* cli_words, which `argument` is added to when the option is given; it takes no value */
} cli_kind;

/* Values of an option in the order given, NULL last. */
enum { CLI_MOST_WORDS = 32 };
typedef struct cli_words {
    const char *word[CLI_MOST_WORDS + 1];
} cli_words;

typedef struct cli_option {
    const char *name; /* long name; NULL ends a table */
    char letter;      /* 0: none */
    cli_kind kind;
    size_t offset;        /* of the field in the command's struct of values */
    const char *argument; /* word for the value in the help: "FILE" */
    const char *standard; /* default, read like a given value and shown in the help; NULL: zero */
    const char *help;
} cli_option;

typedef struct cli_options {
    const cli_option *rows;
    size_t bytes;           /* size of the struct that the offsets point into */
    const cli_option *more; /* further rows of the same struct; NULL: none */
} cli_options;
/* Is the option followed by a value? */
int cli_option_takes(const cli_option *row);
/* Rows of both parts, in the order of the help; NULL past the end. */
const cli_option *cli_option_at(const cli_options *table, size_t index);

/* How progress is shown. Order of the words of --progress. */
typedef enum cli_progress_mode {
    PROGRESS_AUTO,
    PROGRESS_LINE,
    PROGRESS_PLAIN,
    PROGRESS_JSON,
    PROGRESS_NONE
} cli_progress_mode;

/* Options that every command takes. */
typedef struct cli_common {
    int json, quiet, verbose, help, version;
    uint64_t threads, seed, memory_limit;
    const char *device;
    int progress; /* cli_progress_mode */
    int compute;  /* ht_compute */
} cli_common;
extern const cli_options cli_common_options;

typedef struct cli_call cli_call;

typedef struct cli_command {
    const char *name;
    const char *summary;        /* one line, lower case */
    const char *arguments;      /* "MODEL"; optional ones in brackets */
    unsigned least, most;       /* number of arguments */
    const cli_options *options; /* NULL: common ones only */
    int (*run)(cli_call *call);
    int bare;             /* runs without a context */
    int resumable;        /* stopped by a signal it exits 75, and the same command goes on later */
    const char *details;  /* paragraphs for --help and the man page */
    const char *examples; /* commands that can be typed as they stand, a line each */
} cli_command;

/* Commands in the order of the help; NULL past the end. */
const cli_command *cli_command_at(size_t index);
const cli_command *cli_command_find(const char *name);

/* One run of a command. */
struct cli_call {
    const cli_command *command;
    cli_common common;
    const void *values; /* the command's struct of values */
    const char *line;   /* as it was given, for reports */
    char **argument;
    size_t arguments;
    ht_context *ctx; /* NULL for a bare command */
    struct cli_progress *progress;
};

/* Fill *values (of table->bytes) with the defaults. */
void cli_options_defaults(const cli_options *table, void *values);
/* Parse argv[1..] of a command with its own and the common options, which may stand anywhere; "--" ends them. Arguments
 * are gathered in call->argument (argv's own array, reordered). Returns 0, or prints one line and returns CLI_USAGE. */
int cli_options_parse(cli_call *call, void *values, int argc, char **argv);
/* The same for common options in front of the command's name; *next is the index of the first other word. */
int cli_options_parse_front(cli_common *common, int argc, char **argv, int *next);

/* The nearest of the names (NULL-terminated) to a mistyped word, or NULL when none is near. */
const char *cli_nearest(const char *word, const char *const *names);

void cli_help_short(FILE *out);                           /* the list of commands */
void cli_help_command(FILE *out, const cli_command *row); /* usage, options, details */
void cli_help_man(FILE *out);                             /* halftone.1 */

/* --- Failing ---------------------------------------------------------------------------------------------- */

/* Print "halftone: <command>: <message>" and return the exit status given. */
int cli_fail(const cli_call *call, int exit_status, const char *format, ...) HT_PRINTF(3, 4);
/* The same for a failed library call: its message, its exit status. HT_OK gives 0 and prints nothing. */
int cli_status(const cli_call *call, ht_status status);
/* A line on standard error unless --quiet. */
void cli_note(const cli_call *call, const char *format, ...) HT_PRINTF(2, 3);

/* --- Output: output.c ------------------------------------------------------------------------------------- */

/* Columns of a text table. The first flexible column is cut so that a line fits the terminal; piped output is never
 * cut. */
typedef struct cli_column {
    const char *title;
    int right;    /* aligned to the right: numbers */
    int flexible; /* may be cut in the middle */
} cli_column;
typedef struct cli_table cli_table;
cli_table *cli_table_create(const cli_column *columns, size_t count);
/* The next cell, row by row. */
void cli_cell(cli_table *table, const char *format, ...) HT_PRINTF(2, 3);
void cli_table_print(cli_table *table, FILE *out); /* and destroy */

/* "14.7 MB", "1.25 GB": decimal units. A few static buffers, so that one printf can hold several. */
const char *cli_size(double bytes);
const char *cli_grouped(uint64_t number); /* 7,345,920 */
const char *cli_shape(const size_t *shape, unsigned rank);
const char *cli_percent(double fraction);

/* JSON results. Invalid UTF-8 becomes U+FFFD, non-finite numbers null. */
struct json_t;
struct json_t *cli_json_begin(const cli_call *call); /* {"schema": "halftone.<command>/1"} */
struct json_t *cli_json_text(const char *text);      /* null for NULL */
struct json_t *cli_json_bytes(const char *text, size_t bytes);
struct json_t *cli_json_real(double value);
struct json_t *cli_json_count(uint64_t value);
/* Print and release; returns the exit status given. */
int cli_json_end(struct json_t *object, int exit_status);
/* The same with a last member `name`, a list of rows made one at a time (row returns NULL past the end): a hundred
 * thousand tensors are printed as fast as they are read, one a line. */
typedef struct json_t *cli_json_row(const void *user, size_t index);
int cli_json_end_rows(struct json_t *object, const char *name, cli_json_row *row, const void *user, int exit_status);

/* --- Progress and signals: progress.c, signals.c ----------------------------------------------------------- */

typedef struct cli_progress cli_progress;
cli_progress *cli_progress_create(const cli_call *call);
void cli_progress_show(void *progress, const ht_progress *where);        /* ht_progress_fn */
void cli_log_line(void *progress, ht_log_level level, const char *line); /* ht_log_fn */
/* Take the updating line off the terminal, before anything else is printed there. */
void cli_progress_clear(cli_progress *progress);
void cli_progress_destroy(cli_progress *progress);

/* First SIGINT or SIGTERM: ask the library to stop at a safe point. Second: die at once. */
void cli_signals_watch(ht_context *ctx);
/* Die of the signal that came, if one did, as the shell expects (130, 143). Returns otherwise. */
void cli_signals_leave(void);
int cli_signals_seen(void); /* the signal, or 0 */

/* --- Input: input.c ------------------------------------------------------------------------------------- */

/* A whole file ("-": standard input), NUL-terminated, to be freed. NULL after printing why; *exit_status is set. */
char *cli_read_file(const cli_call *call, const char *path, size_t *bytes, int *exit_status);
/* "1,2,3" (commas or blanks) to ids, to be freed. NULL after printing why. */
int32_t *cli_parse_ids(const cli_call *call, const char *text, size_t *count);
/* Seconds of the monotonic clock. */
double cli_seconds(void);

#endif
