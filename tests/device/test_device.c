/* The host as a device, names of devices, and a GPU that is not there. */
#include <string.h>

#include "device/device.h"
#include "support/check.h"

static void test_host_holds_and_copies_bytes(void) {
    ht_device *host = NULL;
    void *a = NULL, *b = NULL, *staging = NULL;
    char text[] = "bytes that travel", back[sizeof text] = "";
    REQUIRE_OK(ht_device_open("cpu", &host));
    CHECK(ht_device_is_host(host));
    REQUIRE_OK(ht_device_allocate(host, sizeof text, &a));
    REQUIRE_OK(ht_device_allocate(host, sizeof text, &b));
    CHECK_INT((uintptr_t)a % 256, 0);
    CHECK_OK(ht_device_copy(host, a, text, sizeof text, HT_COPY_TO_DEVICE, NULL));
    CHECK_OK(ht_device_copy(host, b, a, sizeof text, HT_COPY_ON_DEVICE, NULL));
    CHECK_OK(ht_device_copy(host, back, b, sizeof text, HT_COPY_TO_HOST, NULL));
    CHECK_TEXT(back, text);
    CHECK_OK(ht_device_fill(host, b, 0x5a, sizeof text, NULL));
    CHECK_INT(((unsigned char *)b)[sizeof text - 1], 0x5a);
    REQUIRE_OK(ht_device_allocate_staging(host, 16, &staging));
    ht_device_release_staging(host, staging);
    ht_device_release(host, a);
    ht_device_release(host, b);
    ht_device_release(host, NULL);
    ht_device_close(host);
}

static void test_host_streams_and_events(void) {
    ht_device *host = NULL;
    ht_stream *stream = NULL;
    ht_event *from = NULL, *to = NULL;
    void *memory = NULL;
    double seconds = -1;
    REQUIRE_OK(ht_device_open(NULL, &host));
    REQUIRE_OK(ht_device_stream_create(host, &stream));
    REQUIRE_OK(ht_device_event_create(host, &from));
    REQUIRE_OK(ht_device_event_create(host, &to));
    CHECK_OK(ht_device_event_record(host, from, stream));
    CHECK_OK(ht_device_allocate_on(host, 100, stream, &memory));
    CHECK_OK(ht_device_release_on(host, memory, stream));
    CHECK_OK(ht_device_release_on(host, NULL, stream));
    CHECK_OK(ht_device_event_record(host, to, stream));
    CHECK_OK(ht_device_event_wait(host, to, stream));
    CHECK_OK(ht_device_finish(host, stream));
    CHECK_OK(ht_device_event_seconds(host, from, to, &seconds));
    CHECK(seconds >= 0);
    ht_device_event_destroy(host, from);
    ht_device_event_destroy(host, to);
    ht_device_stream_destroy(host, stream);
    ht_device_close(host);
}

static void test_too_much_memory_is_refused(void) {
    ht_device *host = NULL;
    void *memory = NULL;
    REQUIRE_OK(ht_device_open("cpu", &host));
    CHECK_FAILS(ht_device_allocate(host, SIZE_MAX, &memory), HT_ERR_MEMORY);
    CHECK(memory == NULL);
    ht_device_close(host);
}

static void test_unknown_names_are_refused(void) {
    ht_device *device = NULL;
    static const char *const names[] = {"", "gpu", "cud", "cudax", "cuda:", "CPU"};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        CHECK_FAILS(ht_device_open(names[i], &device), HT_ERR_ARGUMENT);
    CHECK(device == NULL);
    ht_device_close(device);
}

/* Without CUDA, a driver or a GPU the answer is UNSUPPORTED with a reason; with one, a number out of range is refused
 * and the device describes itself. */
static void test_a_gpu_is_there_or_says_why_not(void) {
    ht_device *device = NULL;
    ht_device_info info;
    if (ht_cuda_count() == 0) {
        CHECK_FAILS(ht_device_open("cuda", &device), HT_ERR_UNSUPPORTED);
        CHECK_FAILS(ht_device_open("cuda:1", &device), HT_ERR_UNSUPPORTED);
        CHECK_CONTAINS(ht_error_message(), "cuda");
        SKIP("no GPU here: %s", ht_error_message());
    }
    CHECK_FAILS(ht_device_open("cuda:4096", &device), HT_ERR_ARGUMENT);
    REQUIRE_OK(ht_device_open("cuda:0", &device));
    REQUIRE_OK(ht_device_describe(device, &info));
    CHECK(info.capability >= 50 && info.multiprocessors > 0 && info.memory_bytes > 0);
    CHECK(!ht_device_is_host(device));
    ht_device_close(device);
}

int main(void) {
    RUN(test_host_holds_and_copies_bytes);
    RUN(test_host_streams_and_events);
    RUN(test_too_much_memory_is_refused);
    RUN(test_unknown_names_are_refused);
    RUN(test_a_gpu_is_there_or_says_why_not);
    return check_finish();
}
