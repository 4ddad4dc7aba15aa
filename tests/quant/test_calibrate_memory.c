/* Memory of calibrated runs: few samples and many go through the same limit, whatever the method, with the same bytes
 * as without one. */
#include <halftone/quant.h>

#include <stdio.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "calibrated.h"
#include "support/check.h"

enum { LENGTH = 128, FEW = 8, MANY = 96, LIMIT = 12 << 20, PROCESS = 52 << 20 };

extern void __asan_init(void) __attribute__((weak));
extern void __tsan_init(void) __attribute__((weak));

static const char *const QUICK[] = {"sweeps=0", "scales=at_group", NULL};

static const struct {
    const char *scheme, *method;
    const char *const *set;
} METHODS[] = {{"mxfp4", "gptq", NULL}, {"mxfp4", "smooth+gptq", QUICK}, {"int4-g32", "awq", NULL}};
enum { COUNT = sizeof METHODS / sizeof *METHODS };

static calibrated run_of(size_t method, size_t samples) {
    calibrated run = calibrated_run(METHODS[method].scheme, METHODS[method].method, samples, LENGTH);
    run.options.set = METHODS[method].set;
    run.threads = 2;
    return run;
}

/* 12 MiB for our buffers, 52 MiB for all private memory of the process, stacks and libraries included. The many
 * samples' hidden rows alone are 12.6 MB. */
static int fits(size_t method, size_t samples, const char *input, const char *out) {
    fflush(NULL);
    pid_t child = fork();
    if (child == 0) {
        struct rlimit limit = {PROCESS, PROCESS};
        calibrated run = run_of(method, samples);
        run.memory_limit = LIMIT;
        setrlimit(RLIMIT_DATA, &limit);
        ht_status status = calibrated_quantize(&run, input, out, NULL, NULL);
        if (status != HT_OK)
            fprintf(stderr, "  %s, %zu samples: %s\n", METHODS[method].method, samples, ht_error_message());
        _exit(status == HT_OK ? 0 : 1);
    }
    int status;
    waitpid(child, &status, 0);
    return WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

static void test_limit(void) {
    if (__asan_init || __tsan_init)
        SKIP("sanitizers need memory of their own");
    const char *input = calibrated_deep();
    for (size_t m = 0; m < COUNT; m++) { /* few samples: below */
        const char *out = check_fresh();
        CHECK(fits(m, MANY, input, out));
        calibrated_remove(out);
    }
    calibrated_remove(input);
}

/* Rows in a file and statistics in groups change nothing. */
static void test_same_bytes(void) {
    const char *input = calibrated_deep(), *whole = check_fresh(), *part = check_fresh();
    for (size_t m = 1; m < COUNT; m++) {
        calibrated run = run_of(m, FEW);
        CHECK_OK(calibrated_quantize(&run, input, whole, NULL, NULL));
        run.memory_limit = LIMIT;
        CHECK_OK(calibrated_quantize(&run, input, part, NULL, NULL));
        CHECK(calibrated_same(whole, part));
        calibrated_remove(whole);
        calibrated_remove(part);
    }
    calibrated_remove(input);
}

int main(void) {
    RUN(test_limit);
    RUN(test_same_bytes);
    return check_finish();
}
