/* Progress of a long call: one updating line on a terminal, plain lines at intervals when piped, JSON lines for
 * programs.
 *
 * The library reports often; this shows a report when it is due: ten a second on a terminal and as JSON, one in five
 * seconds in a log, and always the last one of a stage. Rate and time left come from the reports alone.
 * SPDX-License-Identifier: BSD-3-Clause */
#include "cli/cli.h"

#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

static const double line_interval = 0.1, plain_interval = 5.0;

struct cli_progress {
    cli_progress_mode mode;
    const char *command;
    int verbose, quiet;
    int shown;      /* the updating line is on the terminal */
    char stage[64]; /* of the last report */
    double last;    /* clock of the last line shown */
    int finished;   /* the last line of this stage was shown */
};

cli_progress *cli_progress_create(const cli_call *call) {
    cli_progress *p = calloc(1, sizeof *p);
    if (!p)
        return NULL;
    cli_progress_mode mode = (cli_progress_mode)call->common.progress;
    if (mode == PROGRESS_AUTO)
        mode = isatty(STDERR_FILENO) ? PROGRESS_LINE : PROGRESS_PLAIN;
    *p = (cli_progress){.mode = call->common.quiet ? PROGRESS_NONE : mode,
                        .command = call->command->name,
                        .verbose = call->common.verbose,
                        .quiet = call->common.quiet};
    return p;
}

void cli_progress_destroy(cli_progress *progress) {
    if (progress)
        cli_progress_clear(progress);
    free(progress);
}

void cli_progress_clear(cli_progress *progress) {
    if (progress && progress->shown)
        fputs("\r\033[K", stderr);
    if (progress)
        progress->shown = 0;
}

/* "1.23 GB/s" or "5120 tokens/s"; "" before there is one. */
static void rate_text(const ht_progress *where, char *text, size_t size) {
    double rate = where->seconds > 0 ? (double)where->done / where->seconds : 0;
    *text = '\0';
    if (rate <= 0)
        return;
    if (strcmp(where->unit, "bytes") == 0)
        snprintf(text, size, "%s/s", cli_size(rate));
    else
        snprintf(text, size, "%.*f %s/s", rate < 10 ? 1 : 0, rate, where->unit);
}

static double seconds_left(const ht_progress *where) {
    if (!where->done || where->total <= where->done)
        return 0;
    return where->seconds * (double)(where->total - where->done) / (double)where->done;
}

static void show_text(const cli_progress *p, const ht_progress *where, char *text, size_t size) {
    char rate[48], amount[96], left[32] = "";
    rate_text(where, rate, sizeof rate);
    int bytes = strcmp(where->unit, "bytes") == 0;
    if (where->total)
        snprintf(amount, sizeof amount, "%3.0f %%  %s of %s", 100.0 * (double)where->done / (double)where->total,
                 bytes ? cli_size((double)where->done) : cli_grouped(where->done),
                 bytes ? cli_size((double)where->total) : cli_grouped(where->total));
    else
        snprintf(amount, sizeof amount, "%s", bytes ? cli_size((double)where->done) : cli_grouped(where->done));
    double seconds = seconds_left(where);
    if (seconds >= 1)
        snprintf(left, sizeof left, "  %u:%02u left", (unsigned)(seconds / 60), (unsigned)seconds % 60);
    int named = *where->stage && strcmp(where->stage, p->command) != 0; /* "quantize: quantize" says nothing */
    snprintf(text, size, "%s: %s%s%s%s%s%s%s%s", p->command, named ? where->stage : "", named ? " " : "", amount,
             bytes ? "" : " ", bytes ? "" : where->unit, *rate ? "  " : "", rate, left);
}

static void show_line(cli_progress *p, const ht_progress *where) {
    char text[320];
    struct winsize screen;
    show_text(p, where, text, sizeof text);
    size_t used = strlen(text), width = 80;
    if (ioctl(STDERR_FILENO, TIOCGWINSZ, &screen) == 0 && screen.ws_col)
        width = screen.ws_col;
    if (where->item && used + 4 < width)
        snprintf(text + used, sizeof text - used, "  %.*s", (int)(width - used - 3), where->item);
    fprintf(stderr, "\r%.*s\033[K", (int)width - 1, text);
    fflush(stderr);
    p->shown = 1;
}

static void show_json(const ht_progress *where) {
    json_t *line = json_object();
    json_object_set_new(line, "stage", cli_json_text(where->stage));
    json_object_set_new(line, "item", cli_json_text(where->item));
    json_object_set_new(line, "unit", cli_json_text(where->unit));
    json_object_set_new(line, "done", cli_json_count(where->done));
    json_object_set_new(line, "total", where->total ? cli_json_count(where->total) : json_null());
    json_object_set_new(line, "seconds", cli_json_real(where->seconds));
    json_object_set_new(line, "rate", cli_json_real(where->seconds > 0 ? (double)where->done / where->seconds : 0));
    json_object_set_new(line, "seconds_left", where->total ? cli_json_real(seconds_left(where)) : json_null());
    json_dumpf(line, stderr, JSON_COMPACT);
    fputc('\n', stderr);
    json_decref(line);
}

void cli_progress_show(void *progress, const ht_progress *where) {
    cli_progress *p = progress;
    if (!p || p->mode == PROGRESS_NONE)
        return;
    double now = cli_seconds();
    if (strncmp(p->stage, where->stage, sizeof p->stage - 1) != 0) {
        cli_progress_clear(p);
        snprintf(p->stage, sizeof p->stage, "%s", where->stage);
        p->finished = 0;
        p->last = p->mode == PROGRESS_PLAIN ? now : 0;
    }
    int end = where->total && where->done >= where->total;
    if (p->finished || (!end && now - p->last < (p->mode == PROGRESS_PLAIN ? plain_interval : line_interval)))
        return;
    p->finished = end;
    p->last = now;
    if (p->mode == PROGRESS_JSON) {
        show_json(where);
    } else if (p->mode == PROGRESS_LINE) {
        show_line(p, where);
    } else {
        char text[320];
        show_text(p, where, text, sizeof text);
        fprintf(stderr, "%s\n", text);
    }
}

void cli_log_line(void *progress, ht_log_level level, const char *line) {
    static const char *const words[] = {"error: ", "warning: ", "", ""};
    cli_progress *p = progress;
    ht_log_level most = p->quiet ? HT_LOG_ERROR : (ht_log_level)(HT_LOG_WARN + (p->verbose > 2 ? 2 : p->verbose));
    if (level > most)
        return;
    cli_progress_clear(p);
    fprintf(stderr, "halftone: %s: %s%s\n", p->command, words[level], line);
}
