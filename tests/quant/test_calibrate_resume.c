/* Calibrated runs that are killed or stopped go on to the same bytes, and know what the earlier run found; a run with
 * other text or options is refused, naming what differs. */
#include <halftone/quant.h>

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/random.h"
#include "calibrated.h"
#include "support/check.h"

enum { KILLS = 20, KILLS_A_ROUND = 7, KINDS = 3 };

/* What a round does: inputs quantized, the float model beside, every linear behind those before it, inputs transformed
 * in two ways. */
static calibrated kind_of_run(size_t kind) {
    static const char *const gptaq[] = {"gptaq=0.5", "sweeps=0", "scales=at_group", NULL}, *const apply[] = {
                                                                                               "placement=apply",
                                                                                               "sweeps=0",
                                                                                               "scales=at_group", NULL};
    static const ht_calibration_mode MODES[KINDS] = {HT_CALIBRATE_SEQUENTIAL, HT_CALIBRATE_TRUE_SEQUENTIAL,
                                                     HT_CALIBRATE_NON_SEQUENTIAL};
    static const char *const learning[] = {"iterations=3", "batch=2", "sweeps=0", "scales=at_group", NULL};
    calibrated run = calibrated_run("nvfp4", "gptq", 3, 32);
    run.options.calibration.mode = MODES[kind];
    run.options.set = kind == 0 ? gptaq : kind == 1 ? learning : apply;
    run.options.method = kind == 0 ? "gptq" : kind == 1 ? "gptq+autoround" : "smooth+hadamard+gptq";
    run.options.profile = kind == 2 ? "plain" : NULL;
    run.options.shard_bytes = 1000000; /* several shards */
    run.threads = 2;
    return run;
}

/* In a child process that is killed after so many microseconds (0: never). 1 when it got done. */
static int run_and_kill(const calibrated *run, const char *input, const char *out, unsigned microseconds) {
    fflush(NULL);
    pid_t child = fork();
    if (child == 0) {
        ht_status result = calibrated_quantize(run, input, out, NULL, NULL);
        if (result != HT_OK)
            fprintf(stderr, "  %s\n", ht_error_message());
        /* a kill between the commit and the exit: the next run finds its work done */
        _exit(result == HT_OK || (result == HT_ERR_OUTPUT && strstr(ht_error_message(), "exists already")) ? 0 : 1);
    }
    if (microseconds) {
        usleep(microseconds);
        kill(child, SIGKILL);
    }
    int status;
    waitpid(child, &status, 0);
    CHECK(WIFSIGNALED(status) || WEXITSTATUS(status) == 0);
    return WIFEXITED(status);
}

static double seconds_now(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

static void test_killed(void) {
    const char *input = calibrated_deep();
    const char *whole[KINDS];
    unsigned takes[KINDS]; /* microseconds: kills fall inside the run on a fast machine and on a slow one */
    for (size_t kind = 0; kind < KINDS; kind++) {
        calibrated run = kind_of_run(kind);
        whole[kind] = check_fresh();
        double start = seconds_now();
        REQUIRE_OK(calibrated_quantize(&run, input, whole[kind], NULL, NULL));
        takes[kind] = (unsigned)(1e6 * (seconds_now() - start)) + 1000;
    }
    size_t kills = 0, gone_on = 0;
    for (size_t round = 0; kills < KILLS && round < 60; round++) {
        calibrated run = kind_of_run(round % KINDS);
        const char *out = check_fresh();
        size_t before = kills;
        int done = 0;
        while (!done) {
            run.threads = 1 + kills % 3;
            unsigned some = takes[round % KINDS] / 10 + ht_random_u32(5, round, kills) % takes[round % KINDS];
            unsigned patience = kills < before + KILLS_A_ROUND ? some : 0;
            done = run_and_kill(&run, input, out, patience);
            kills += !done;
            if (done && patience) /* the machine has less to do than when the whole run was timed */
                takes[round % KINDS] -= takes[round % KINDS] / 3;
        }
        gone_on += kills > before;
        CHECK(calibrated_same(whole[round % KINDS], out));
        calibrated_remove(out);
    }
    CHECK(kills >= KILLS);
    CHECK(gone_on > 0);
    calibrated_remove(input);
}

static int stop_after(void *user) {
    return --*(int *)user < 0;
}

static void check_differs(const calibrated *run, const char *input, const char *out, const char *field) {
    char message[64];
    snprintf(message, sizeof message, "%s differs", field);
    CHECK_FAILS(calibrated_quantize(run, input, out, NULL, NULL), HT_ERR_POLICY);
    CHECK_CONTAINS(ht_error_message(), message);
}

/* Has the stopped run noted how many tokens the experts of its first block got, so that the block is finished? */
static int first_block_is_noted(const char *out) {
    char path[600], line[256];
    int found = 0;
    snprintf(path, sizeof path, "%s/.halftone/files/.errors", out);
    FILE *file = fopen(path, "r");
    while (file && !found && fgets(line, sizeof line, file))
        found = strncmp(line, "experts 0 ", 10) == 0;
    if (file)
        fclose(file);
    return found;
}

static void check_other_runs(const calibrated *run, const char *input, const char *out) {
    calibrated other = *run;
    other.options.calibration.samples = 2;
    check_differs(&other, input, out, "samples");
    other = *run;
    other.options.calibration.length = 31;
    check_differs(&other, input, out, "length");
    other = *run;
    other.options.calibration.mode = HT_CALIBRATE_SEQUENTIAL;
    check_differs(&other, input, out, "mode");
    other = *run;
    other.options.calibration.experts = "all";
    check_differs(&other, input, out, "experts");
    other = *run;
    other.options.calibration.data = check_data("text/sample-b.txt");
    check_differs(&other, input, out, "data");
}

/* Stopped three times on the way, behind its first block at the latest: bytes and report are those of one run. */
static void test_stopped(void) {
    enum { MANY = 1 << 30 };
    const char *input = calibrated_deep(), *whole = check_fresh(), *out = check_fresh();
    calibrated run = kind_of_run(1);
    ht_plan_tensor *want, *got;
    size_t count, again;
    int left = MANY;
    char coverage[2][CALIBRATED_COVERAGE] = {"", ""};
    run.cancelled = stop_after;
    run.user = &left;
    run.coverage = coverage[0];
    REQUIRE_OK(calibrated_quantize(&run, input, whole, &want, &count));
    int questions = MANY - left;
    for (int part = 1; part <= 3; part++) {
        left = questions * part / 4;
        if (part == 1 || !first_block_is_noted(out))
            CHECK_FAILS(calibrated_quantize(&run, input, out, NULL, NULL), HT_ERR_CANCELLED);
    }
    CHECK(first_block_is_noted(out));
    left = MANY;
    check_other_runs(&run, input, out);
    run.coverage = coverage[1];
    run.options.resume = HT_RESUME_REQUIRED;
    REQUIRE_OK(calibrated_quantize(&run, input, out, &got, &again));
    CHECK(calibrated_same(whole, out));
    CHECK(strstr(coverage[0], "0:") == coverage[0]);
    CHECK_TEXT(coverage[1], coverage[0]);
    REQUIRE(count == again);
    for (size_t i = 0; i < count; i++) {
        CHECK_TEXT(got[i].fallback, want[i].fallback);
        CHECK_INT(got[i].tokens, want[i].tokens);
        CHECK_INT(got[i].fallbacks, want[i].fallbacks);
        CHECK_BYTES(&got[i].loss, &want[i].loss, sizeof got[i].loss);
        CHECK_BYTES(&got[i].error, &want[i].error, sizeof got[i].error);
    }
    free(want);
    free(got);
}

int main(void) {
    RUN(test_killed);
    RUN(test_stopped);
    return check_finish();
}
