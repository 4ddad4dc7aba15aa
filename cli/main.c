/* The program: find the command, parse its options, give it a context, leave with the right exit status.
 *
 * Results go to standard output, progress and messages to standard error. Exit statuses: docs/program.md.
 * SPDX-License-Identifier: BSD-3-Clause */
#include "cli/cli.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static int unknown_command(const char *word) {
    const char *names[64] = {NULL};
    for (size_t i = 0; cli_command_at(i) && i < 63; i++)
        names[i] = cli_command_at(i)->name;
    const char *near = cli_nearest(word, names);
    cli_call call = {0};
    return cli_fail(&call, CLI_USAGE, "unknown command \"%.60s\"%s%s%s (see halftone --help)", word,
                    near ? ", did you mean " : "", near ? near : "", near ? "?" : "");
}

/* halftone help [COMMAND | --man] */
static int help(int argc, char **argv) {
    if (argc > 1 && strcmp(argv[1], "--man") == 0) {
        cli_help_man(stdout);
        return CLI_DONE;
    }
    if (argc < 2 || argv[1][0] == '-') {
        cli_help_short(stdout);
        return CLI_DONE;
    }
    const cli_command *row = cli_command_find(argv[1]);
    if (!row)
        return unknown_command(argv[1]);
    cli_help_command(stdout, row);
    return CLI_DONE;
}

/* A full disk or a closed pipe behind standard output is a failure too. */
static int check_output(const cli_call *call, int exit_status) {
    errno = 0;
    if ((fflush(stdout) != 0 || ferror(stdout)) && exit_status == CLI_DONE)
        return cli_fail(call, errno == ENOSPC ? CLI_RESOURCES : CLI_FAILED, "standard output: %s",
                        errno ? strerror(errno) : "write failed");
    return exit_status;
}

static int with_context(cli_call *call) {
    cli_progress *progress = cli_progress_create(call);
    if (!progress)
        return cli_fail(call, CLI_RESOURCES, "no memory");
    ht_context_options options = ht_context_options_default();
    options.threads = call->common.threads;
    options.device = call->common.device;
    options.seed = call->common.seed;
    options.compute = (ht_compute)call->common.compute;
    options.memory_limit = call->common.memory_limit;
    options.log = cli_log_line;
    options.progress = cli_progress_show;
    options.callback_user = progress;
    int exit_status = cli_status(call, ht_context_create(&options, &call->ctx));
    if (exit_status == CLI_DONE) {
        call->progress = progress;
        cli_signals_watch(call->ctx);
        exit_status = call->command->run(call);
        cli_signals_watch(NULL);
        ht_context_destroy(call->ctx);
    }
    cli_progress_destroy(progress);
    return exit_status;
}

static int run(cli_call *call, int argc, char **argv) {
    const cli_command *row = call->command;
    void *values = NULL;
    if (row->options) {
        values = malloc(row->options->bytes);
        if (!values)
            return cli_fail(call, CLI_RESOURCES, "no memory");
        cli_options_defaults(row->options, values);
    }
    call->values = values;
    int exit_status = cli_options_parse(call, values, argc, argv);
    if (exit_status == 0 && call->common.help)
        cli_help_command(stdout, row);
    else if (exit_status == 0)
        exit_status = row->bare ? row->run(call) : with_context(call);
    free(values);
    exit_status = check_output(call, exit_status);
    int stopped = exit_status == ht_status_exit(HT_ERR_CANCELLED);
    if (stopped && !row->resumable)
        cli_signals_leave();
    return exit_status;
}

/* The words with blanks between them, to be freed; NULL without memory. */
static char *join(int argc, char **argv) {
    size_t bytes = 1;
    for (int i = 0; i < argc; i++)
        bytes += (i ? strlen(argv[i]) : strlen("halftone")) + 1;
    char *line = malloc(bytes), *to = line;
    for (int i = 0; line && i < argc; i++) {
        const char *word = i ? argv[i] : "halftone";
        to += snprintf(to, bytes - (size_t)(to - line), i ? " %s" : "%s", word);
    }
    return line;
}

int main(int argc, char **argv) {
    cli_call call = {0};
    int next = 1;
    cli_options_defaults(&cli_common_options, &call.common);
    int exit_status = cli_options_parse_front(&call.common, argc, argv, &next);
    if (exit_status)
        return exit_status;
    if (call.common.version) {
        printf("halftone %s\n", ht_version());
        return check_output(&call, CLI_DONE);
    }
    if (next >= argc) {
        cli_help_short(call.common.help ? stdout : stderr);
        return check_output(&call, call.common.help ? CLI_DONE : CLI_USAGE);
    }
    if (strcmp(argv[next], "help") == 0)
        return check_output(&call, help(argc - next, argv + next));
    call.command = cli_command_find(argv[next]);
    if (!call.command)
        return unknown_command(argv[next]);
    char *line = join(argc, argv); /* before options and arguments are sorted */
    call.line = line;
    exit_status = run(&call, argc - next, argv + next);
    free(line);
    return exit_status;
}
