/* SPDX-License-Identifier: BSD-3-Clause */
#include "support/check.h"

#include <ftw.h> /* nftw */
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

int check_failures_of_test;

static int passed, failed, skipped, skipping;
static char scratch[256];

/* A check that failed outside a RUN is a failure of its own. */
static void count_strays(void) {
    failed += check_failures_of_test != 0;
    check_failures_of_test = 0;
}

void check_begin(const char *name) {
    (void)name;
    count_strays();
    skipping = 0;
}

void check_end(const char *name) {
    const char *word = check_failures_of_test ? "FAIL" : skipping ? "skip" : "pass";
    printf("%s %s\n", word, name);
    fflush(stdout);
    if (check_failures_of_test)
        failed++;
    else if (skipping)
        skipped++;
    else
        passed++;
    check_failures_of_test = 0;
}

static int remove_entry(const char *path, const struct stat *info, int type, struct FTW *where) {
    (void)info;
    (void)type;
    (void)where;
    return remove(path);
}

int check_finish(void) {
    count_strays();
    if (scratch[0])
        nftw(scratch, remove_entry, 16, FTW_DEPTH | FTW_PHYS);
    printf("%d passed, %d failed, %d skipped\n", passed, failed, skipped);
    if (failed)
        return 1;
    return passed == 0 && skipped ? 77 : 0;
}

void check_skip(const char *format, ...) {
    va_list args;
    va_start(args, format);
    printf("  skipped: ");
    vprintf(format, args);
    printf("\n");
    va_end(args);
    skipping = 1;
}

static int fail_at(const char *file, int line, const char *expression) {
    check_failures_of_test++;
    printf("  %s:%d: %s: ", file, line, expression);
    return 0;
}

int check_true(int ok, const char *file, int line, const char *expression) {
    if (!ok) {
        fail_at(file, line, expression);
        printf("is false\n");
    }
    return ok;
}

int check_int(long long got, long long want, const char *file, int line, const char *expression) {
    if (got == want)
        return 1;
    fail_at(file, line, expression);
    printf("got %lld (0x%llx), want %lld (0x%llx)\n", got, (unsigned long long)got, want, (unsigned long long)want);
    return 0;
}

static int close_enough(double got, double want, double relative, double absolute) {
    if (isnan(got) || isnan(want))
        return isnan(got) && isnan(want);
    if (got == want)
        return signbit(got) == signbit(want) || relative > 0 || absolute > 0;
    return fabs(got - want) <= absolute || fabs(got - want) <= relative * fabs(want);
}

int check_float(double got, double want, double relative, double absolute, const char *file, int line,
                const char *expression) {
    if (close_enough(got, want, relative, absolute))
        return 1;
    fail_at(file, line, expression);
    printf("got %.17g, want %.17g (difference %.3g)\n", got, want, got - want);
    return 0;
}

int check_text(const char *got, const char *want, const char *file, int line, const char *expression) {
    if (got && want && strcmp(got, want) == 0)
        return 1;
    fail_at(file, line, expression);
    printf("got \"%s\", want \"%s\"\n", got ? got : "(null)", want ? want : "(null)");
    return 0;
}

int check_contains(const char *got, const char *part, const char *file, int line, const char *expression) {
    if (got && strstr(got, part))
        return 1;
    fail_at(file, line, expression);
    printf("got \"%s\", which does not contain \"%s\"\n", got ? got : "(null)", part);
    return 0;
}

int check_status(ht_status got, ht_status want, const char *file, int line, const char *expression) {
    if (got == want)
        return 1;
    fail_at(file, line, expression);
    printf("got %s (%s), want %s\n", ht_status_name(got), got == HT_OK ? "no message" : ht_error_message(),
           ht_status_name(want));
    return 0;
}

int check_bytes(const void *got, const void *want, size_t bytes, const char *file, int line, const char *expression) {
    const unsigned char *a = got, *b = want;
    size_t first = bytes, count = 0;
    for (size_t i = 0; i < bytes; i++)
        if (a[i] != b[i] && count++ == 0)
            first = i;
    if (!count)
        return 1;
    fail_at(file, line, expression);
    printf("%zu of %zu bytes differ, first at %zu: got %02x, want %02x\n", count, bytes, first, a[first], b[first]);
    return 0;
}

int check_f32(const float *got, const float *want, size_t count, double relative, double absolute, const char *file,
              int line, const char *expression) {
    size_t first = 0, wrong = 0;
    for (size_t i = 0; i < count; i++)
        if (!close_enough((double)got[i], (double)want[i], relative, absolute) && wrong++ == 0)
            first = i;
    if (!wrong)
        return 1;
    fail_at(file, line, expression);
    printf("%zu of %zu values differ, first at %zu: got %.9g, want %.9g\n", wrong, count, first, (double)got[first],
           (double)want[first]);
    return 0;
}

/* A path that stays valid until the program ends. */
static const char *keep_path(const char *root, const char *name) {
    static struct kept {
        struct kept *before;
        char path[1024];
    } * kept;
    struct kept *added = malloc(sizeof *added);
    if (!added) {
        perror("malloc");
        exit(1);
    }
    added->before = kept;
    kept = added;
    snprintf(added->path, sizeof added->path, "%s/%s", root, name);
    return added->path;
}

const char *check_data(const char *relative) {
    const char *root = getenv("HALFTONE_TEST_ROOT");
    return keep_path(root ? root : HT_TEST_ROOT "/tests/data", relative);
}

const char *check_extra_data(const char *relative) {
    const char *root = getenv("HALFTONE_TEST_DATA");
    if (!root || !*root)
        return NULL;
    const char *path = keep_path(root, relative);
    return access(path, R_OK) == 0 ? path : NULL;
}

const char *check_scratch(void) {
    if (!scratch[0]) {
        const char *base = getenv("TMPDIR");
        snprintf(scratch, sizeof scratch, "%s/halftone-test-XXXXXX", base && *base ? base : P_tmpdir);
        if (!mkdtemp(scratch)) {
            perror(scratch);
            exit(1);
        }
    }
    return scratch;
}

const char *check_path(const char *name) {
    return keep_path(check_scratch(), name);
}

const char *check_fresh(void) {
    static unsigned next;
    char name[32];
    snprintf(name, sizeof name, "out%u", next++);
    return check_path(name);
}
