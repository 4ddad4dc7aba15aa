/* Status names, exit statuses, and the thread-local one-line message. */
#include "base/status.h"

#include <pthread.h>
#include <string.h>

#include "support/check.h"

static void names(void) {
    CHECK_TEXT(ht_status_name(HT_OK), "HT_OK");
    CHECK_TEXT(ht_status_name(HT_ERR_CORRUPT), "HT_ERR_CORRUPT");
    CHECK_TEXT(ht_status_name((ht_status)999), "unknown status");
    CHECK_INT(ht_status_exit(HT_OK), 0);
    CHECK_INT(ht_status_exit(HT_ERR_ARGUMENT), 2);
    CHECK_INT(ht_status_exit(HT_ERR_CORRUPT), 3);
    CHECK_INT(ht_status_exit(HT_ERR_CANCELLED), 75);
}

static void one_line(void) {
    CHECK_FAILS(ht_fail(HT_ERR_IO, "bad name \"%s\"", "a\nb\x1b[31m"), HT_ERR_IO);
    CHECK_TEXT(ht_error_message(), "bad name \"a?b?[31m\"");
    CHECK_FAILS(ht_fail_prefix(HT_ERR_IO, "file %d", 3), HT_ERR_IO);
    CHECK_TEXT(ht_error_message(), "file 3: bad name \"a?b?[31m\"");
    char longest[5000];
    memset(longest, 'x', sizeof longest - 1);
    longest[sizeof longest - 1] = '\0';
    ht_fail(HT_ERR_IO, "%s", longest);
    CHECK_INT(strlen(ht_error_message()), 1023);
}

static void *other_thread(void *arg) {
    (void)arg;
    ht_fail(HT_ERR_IO, "from the other thread");
    return NULL;
}

static void per_thread(void) {
    ht_fail(HT_ERR_IO, "mine");
    pthread_t thread;
    REQUIRE(pthread_create(&thread, NULL, other_thread, NULL) == 0);
    pthread_join(thread, NULL);
    CHECK_TEXT(ht_error_message(), "mine");
}

int main(void) {
    RUN(names);
    RUN(one_line);
    RUN(per_thread);
    return check_finish();
}
