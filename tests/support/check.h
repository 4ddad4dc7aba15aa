/* Test framework: checks that print file, line, index and both values, and go on; a closing count that CTest prints.
 *
 *     static void test_something(void) { CHECK(1 + 1 == 2); CHECK_INT(f(x), 3); }
 *     int main(void) {
 *         RUN(test_something);
 *         return check_finish();
 *     }
 *
 * A test is one RUN. It fails when any of its checks fails; it is skipped by SKIP("reason"). Exit status: 0 passed,
 * 1 failed, 77 everything skipped. */
#ifndef HT_TESTS_CHECK_H
#define HT_TESTS_CHECK_H

#include <stddef.h>
#include <stdint.h>

#include <halftone/status.h>

extern int check_failures_of_test; /* of the running test */

void check_begin(const char *name);
void check_end(const char *name);
/* Prints the closing line "N passed, N failed, N skipped"; returns the exit status. */
int check_finish(void);
void check_skip(const char *format, ...) HT_PRINTF(1, 2);

int check_true(int ok, const char *file, int line, const char *expression);
int check_int(long long got, long long want, const char *file, int line, const char *expression);
int check_float(double got, double want, double relative, double absolute, const char *file, int line,
                const char *expression);
int check_text(const char *got, const char *want, const char *file, int line, const char *expression);
int check_contains(const char *got, const char *part, const char *file, int line, const char *expression);
int check_status(ht_status got, ht_status want, const char *file, int line, const char *expression);
int check_bytes(const void *got, const void *want, size_t bytes, const char *file, int line, const char *expression);
/* Equal as numbers: NaN equals NaN, -0 differs from +0 unless loose_zero. Prints the first difference and the count. */
int check_f32(const float *got, const float *want, size_t count, double relative, double absolute, const char *file,
              int line, const char *expression);

#define RUN(test)                                                                                                      \
    do {                                                                                                               \
        check_begin(#test);                                                                                            \
        test();                                                                                                        \
        check_end(#test);                                                                                              \
    } while (0)
#define SKIP(...)                                                                                                      \
    do {                                                                                                               \
        check_skip(__VA_ARGS__);                                                                                       \
        return;                                                                                                        \
    } while (0)

#define CHECK(expression) check_true(!!(expression), __FILE__, __LINE__, #expression)
#define CHECK_INT(got, want) check_int((long long)(got), (long long)(want), __FILE__, __LINE__, #got)
#define CHECK_NEAR(got, want, relative)                                                                                \
    check_float((double)(got), (double)(want), (double)(relative), 0, __FILE__, __LINE__, #got)
#define CHECK_WITHIN(got, want, absolute)                                                                              \
    check_float((double)(got), (double)(want), 0, (double)(absolute), __FILE__, __LINE__, #got)
#define CHECK_TEXT(got, want) check_text(got, want, __FILE__, __LINE__, #got)
#define CHECK_CONTAINS(got, part) check_contains(got, part, __FILE__, __LINE__, #got)
#define CHECK_OK(call) check_status(call, HT_OK, __FILE__, __LINE__, #call)
#define CHECK_FAILS(call, want) check_status(call, want, __FILE__, __LINE__, #call)
#define CHECK_BYTES(got, want, bytes) check_bytes(got, want, bytes, __FILE__, __LINE__, #got)
#define CHECK_F32(got, want, count) check_f32(got, want, count, 0, 0, __FILE__, __LINE__, #got)
#define CHECK_F32_WITHIN(got, want, count, absolute)                                                                   \
    check_f32(got, want, count, 0, (double)(absolute), __FILE__, __LINE__, #got)
#define CHECK_F32_NEAR(got, want, count, relative)                                                                     \
    check_f32(got, want, count, (double)(relative), 0, __FILE__, __LINE__, #got)
/* Leave the test when the next line could not run. */
#define REQUIRE(expression)                                                                                            \
    do {                                                                                                               \
        if (!CHECK(expression))                                                                                        \
            return;                                                                                                    \
    } while (0)
#define REQUIRE_OK(call)                                                                                               \
    do {                                                                                                               \
        if (!CHECK_OK(call))                                                                                           \
            return;                                                                                                    \
    } while (0)

/* Path of a file under tests/data (the repository's own data). Every path returned here stays valid to the end. */
const char *check_data(const char *relative);
/* Path under the larger set named by HALFTONE_TEST_DATA, or NULL when that is not set or the file is missing. */
const char *check_extra_data(const char *relative);
/* A fresh directory for this test program, removed at check_finish. */
const char *check_scratch(void);
/* A path in that directory: of this name, or one that no call gave before. Nothing is made there. */
const char *check_path(const char *name);
const char *check_fresh(void);

#endif
