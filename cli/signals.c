/* Signals: the first SIGINT or SIGTERM asks the library to stop at its next safe point, the second ends the process.
 *
 * A resumable command that stopped safely exits 75; any other dies of the signal itself, so that shells and scripts see
 * 130 or 143. The handler only stores a number and calls ht_context_cancel, both async-signal-safe.
 * SPDX-License-Identifier: BSD-3-Clause */
#include "cli/cli.h"

#include <signal.h>
#include <string.h>

static volatile sig_atomic_t seen;
static ht_context *volatile watched; /* the program has one context, and handlers have no argument */

static void stop(int number) {
    if (!watched || seen) {
        signal(number, SIG_DFL);
        raise(number);
        return;
    }
    seen = number;
    ht_context_cancel(watched);
}

void cli_signals_watch(ht_context *ctx) {
    struct sigaction action;
    watched = ctx;
    memset(&action, 0, sizeof action);
    action.sa_handler = ctx ? stop : SIG_DFL;
    action.sa_flags = SA_RESTART;
    sigemptyset(&action.sa_mask);
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
    signal(SIGXFSZ, SIG_IGN); /* a size limit is an error of the write, as a full disk is */
}

int cli_signals_seen(void) {
    return seen;
}

void cli_signals_leave(void) {
    if (!seen)
        return;
    fflush(NULL);
    signal(seen, SIG_DFL);
    raise(seen);
}
