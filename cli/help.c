/* Help texts and the man page, printed from the tables of commands and options.
 *
 * Nothing here knows an option or a command by name: what the tables do not say is not said.
 * SPDX-License-Identifier: BSD-3-Clause */
#include "cli/cli.h"

#include <ctype.h> /* toupper */
#include <string.h>

enum { TEXT_COLUMN = 30, WIDTH = 100 };

/* Print words wrapped between column `indent`, where the cursor is, and WIDTH. A line break in the text is kept. */
static void wrap(FILE *out, const char *text, size_t indent) {
    size_t at = indent;
    while (*text) {
        size_t word = strcspn(text, " \n");
        if (at > indent && at + 1 + word > WIDTH) {
            fprintf(out, "\n%*s", (int)indent, "");
            at = indent;
        }
        at += (size_t)fprintf(out, "%s%.*s", at > indent ? " " : "", (int)word, text);
        text += word;
        if (*text == '\n') {
            fprintf(out, "\n%*s", text[1] == '\n' ? 0 : (int)indent, "");
            at = indent;
        }
        text += *text != '\0';
    }
    fputc('\n', out);
}

/* The default, where saying it says something: not of a word "default", which the text explains. */
static const char *standard_of(const cli_option *row) {
    return row->standard && strcmp(row->standard, "default") != 0 ? row->standard : NULL;
}

static void print_option(FILE *out, const cli_option *row) {
    char head[128], text[512];
    int choice = row->kind == CLI_CHOICE;
    snprintf(head, sizeof head, "  %c%c%s --%s%s%s", row->letter ? '-' : ' ', row->letter ? row->letter : ' ',
             row->letter ? "," : " ", row->name, cli_option_takes(row) ? " " : "",
             cli_option_takes(row) ? (choice ? "WORD" : row->argument) : "");
    const char *standard = standard_of(row);
    snprintf(text, sizeof text, "%s%s%s%s%s%s", row->help, choice ? ": " : "", choice ? row->argument : "",
             standard ? " (default " : "", standard ? standard : "", standard ? ")" : "");
    fprintf(out, "%s", head);
    size_t at = strlen(head);
    if (at + 2 > TEXT_COLUMN) {
        fputc('\n', out);
        at = 0;
    }
    fprintf(out, "%*s", (int)(TEXT_COLUMN - at), "");
    wrap(out, text, TEXT_COLUMN);
}

static void print_options(FILE *out, const char *title, const cli_options *table) {
    const cli_option *row;
    fprintf(out, "\n%s\n", title);
    for (size_t i = 0; (row = cli_option_at(table, i)); i++)
        print_option(out, row);
}

void cli_help_short(FILE *out) {
    fprintf(out, "usage: halftone COMMAND [options] ARGUMENTS\n\ncommands:\n");
    for (size_t i = 0; cli_command_at(i); i++)
        fprintf(out, "  %-10s %s\n", cli_command_at(i)->name, cli_command_at(i)->summary);
    fprintf(out, "\nfirst steps:\n"
                 "  halftone plan MODEL --scheme mxfp4              what would become of every tensor\n"
                 "  halftone quantize MODEL -o OUT --scheme mxfp4   write it\n"
                 "  halftone verify OUT --against MODEL             prove it\n"
                 "  halftone eval OUT --text FILE --against MODEL   what it costs in quality\n");
    fprintf(out, "\nhalftone COMMAND --help   options of one command\n"
                 "halftone help --man       everything, as a man page\n"
                 "halftone --version        the version\n");
}

void cli_help_command(FILE *out, const cli_command *row) {
    fprintf(out, "usage: halftone %s [options]%s%s\n\n", row->name, *row->arguments ? " " : "", row->arguments);
    char summary[160];
    snprintf(summary, sizeof summary, "%c%s.", toupper((unsigned char)row->summary[0]), row->summary + 1);
    wrap(out, summary, 0);
    if (row->details) {
        fputc('\n', out);
        wrap(out, row->details, 0);
    }
    if (row->options)
        print_options(out, "options:", row->options);
    print_options(out, "options of every command:", &cli_common_options);
    if (row->examples) {
        fprintf(out, "\nexamples:\n");
        for (const char *at = row->examples; *at;) {
            size_t length = strcspn(at, "\n");
            fprintf(out, "  %.*s\n", (int)length, at);
            at += length + (at[length] == '\n');
        }
    }
}

/* --- The man page ------------------------------------------------------------------------------------------ */

/* Text with the characters that troff would read as its own made safe. */
static void man_text(FILE *out, const char *text) {
    int line_start = 1;
    for (; *text; text++) {
        if (line_start && (*text == '.' || *text == '\''))
            fputs("\\&", out);
        line_start = *text == '\n';
        if (*text == '-')
            fputs("\\-", out);
        else if (*text == '\\')
            fputs("\\e", out);
        else
            fputc(*text, out);
    }
}

static void man_options(FILE *out, const cli_options *table) {
    const cli_option *row;
    for (size_t i = 0; (row = cli_option_at(table, i)); i++) {
        fputs(".TP\n\\fB", out);
        if (row->letter)
            fprintf(out, "\\-%c\\fR, \\fB", row->letter);
        fputs("\\-\\-", out);
        man_text(out, row->name);
        fputs("\\fR", out);
        if (cli_option_takes(row)) {
            fputs(" \\fI", out);
            man_text(out, row->argument);
            fputs("\\fR", out);
        }
        fputc('\n', out);
        man_text(out, row->help);
        if (standard_of(row)) {
            fputs(" (default ", out);
            man_text(out, standard_of(row));
            fputs(")", out);
        }
        fputs(".\n", out);
    }
}

static const struct {
    int status;
    const char *meaning;
} exit_statuses[] = {{0, "done"},
                     {1, "failed"},
                     {2, "bad usage"},
                     {3, "input unreadable or malformed"},
                     {4, "refused by policy (strict mode, a broken quality gate, resume required and nothing to "
                         "resume, another run's leftovers)"},
                     {5, "not enough memory, disk or device"},
                     {6, "verified and wrong"},
                     {75, "stopped safely by a signal; the same command goes on where it stopped"},
                     {130, "stopped by SIGINT"},
                     {143, "stopped by SIGTERM"}};

void cli_help_man(FILE *out) {
    fprintf(out,
            ".TH HALFTONE 1 \"\" \"halftone %s\" \"User Commands\"\n"
            ".SH NAME\nhalftone \\- low\\-precision formats and quantization of model checkpoints\n"
            ".SH SYNOPSIS\n.B halftone\n.I COMMAND\n[options]\n.I ARGUMENTS\n"
            ".SH DESCRIPTION\nReads a checkpoint, plans and does its quantization, proves that the result is right, "
            "measures and "
            "runs it.\nResults go to standard output, progress and messages to standard error.\n"
            "Options may stand anywhere; \\fB\\-\\-\\fR ends them.\n.SH COMMANDS\n",
            ht_version());
    for (size_t i = 0; cli_command_at(i); i++) {
        const cli_command *row = cli_command_at(i);
        fprintf(out, ".SS halftone %s [options] ", row->name);
        man_text(out, row->arguments);
        fprintf(out, "\n%c", toupper((unsigned char)row->summary[0]));
        man_text(out, row->summary + 1);
        fputs(".\n", out);
        if (row->details) {
            fputs(".PP\n", out);
            man_text(out, row->details);
            fputc('\n', out);
        }
        if (row->options)
            man_options(out, row->options);
        if (row->examples) {
            fputs(".PP\n.nf\n", out);
            man_text(out, row->examples);
            fputs("\n.fi\n", out);
        }
    }
    fputs(".SH OPTIONS OF EVERY COMMAND\n", out);
    man_options(out, &cli_common_options);
    fputs(".SH EXIT STATUS\n", out);
    for (size_t i = 0; i < sizeof exit_statuses / sizeof *exit_statuses; i++)
        fprintf(out, ".TP\n.B %d\n%s\n", exit_statuses[i].status, exit_statuses[i].meaning);
    fputs(".SH ENVIRONMENT\n.TP\n.B HALFTONE_CPU\nCap on the CPU features that kernels may use, such as baseline or "
          "avx2; "
          "\\fBhalftone doctor\\fR shows the effect.\n",
          out);
}
