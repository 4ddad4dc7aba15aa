/* Setting the error message where the fact is known. Public part: halftone/status.h. */
#ifndef HT_BASE_STATUS_H
#define HT_BASE_STATUS_H

#include <halftone/status.h>

#ifdef __cplusplus /* .cu files */
extern "C" {
#endif

/* Store the one-line message of this thread and return status. Line breaks and control characters in the result
 * become '?', so that a hostile tensor name cannot forge output lines. */
ht_status ht_fail(ht_status status, const char *format, ...) HT_PRINTF(2, 3);

/* Replace the message by "<prefix>: <message>"; for a caller that knows the file or tensor. Returns status. */
ht_status ht_fail_prefix(ht_status status, const char *format, ...) HT_PRINTF(2, 3);

/* Forward a failure when nothing needs cleaning. */
#define HT_TRY(call)                                                                                                   \
    do {                                                                                                               \
        ht_status ht_try_status_ = (call);                                                                             \
        if (ht_try_status_ != HT_OK)                                                                                   \
            return ht_try_status_;                                                                                     \
    } while (0)

#ifdef __cplusplus
}
#endif
#endif
