/* Halftone status codes and error messages.
 *
 * Every call that can fail returns ht_status; results go through out-parameters. When a call fails it
 * also leaves one line in a thread-local buffer that names the thing, the value, the limit and what to do;
 * ht_error_message() reads it. A successful call leaves the message untouched.
 *
 * Smallest use:
 *     ht_status st = ht_context_create(NULL, &ctx);
 *     if (st != HT_OK) fprintf(stderr, "%s\n", ht_error_message());
 */
#ifndef HT_STATUS_H
#define HT_STATUS_H

#if defined(__GNUC__)
#define HT_API __attribute__((visibility("default")))
#define HT_PRINTF(fmt, first) __attribute__((format(printf, fmt, first)))
#else
#define HT_API
#define HT_PRINTF(fmt, first)
#endif

#ifdef __cplusplus
extern "C" {
#endif

/* X(enumerator tail, exit status of the program, text). One list: enum, names and exit statuses follow it. */
#define HT_STATUS_LIST(X)                                                                                              \
    X(OK, 0, "success")                                                                                                \
    X(ERR_ARGUMENT, 2, "invalid argument")                                                                             \
    X(ERR_SHAPE, 1, "shapes do not fit")                                                                               \
    X(ERR_FORMAT, 1, "format not valid here")                                                                          \
    X(ERR_MEMORY, 5, "not enough memory")                                                                              \
    X(ERR_SPACE, 5, "not enough disk space")                                                                           \
    X(ERR_IO, 3, "input cannot be read")                                                                               \
    X(ERR_CORRUPT, 3, "input is malformed")                                                                            \
    X(ERR_OUTPUT, 1, "output cannot be written")                                                                       \
    X(ERR_UNSUPPORTED, 1, "not supported")                                                                             \
    X(ERR_DEVICE, 5, "device failure")                                                                                 \
    X(ERR_COMM, 1, "communication failure")                                                                            \
    X(ERR_NUMERIC, 1, "numerical failure")                                                                             \
    X(ERR_POLICY, 4, "refused by policy")                                                                              \
    X(ERR_MISMATCH, 6, "verified and wrong")                                                                           \
    X(ERR_CANCELLED, 75, "stopped on request")

typedef enum ht_status {
#define HT_STATUS_ENUMERATOR(name, exit_status, text) HT_##name,
    HT_STATUS_LIST(HT_STATUS_ENUMERATOR)
#undef HT_STATUS_ENUMERATOR
} ht_status;

/* "HT_ERR_IO" for HT_ERR_IO; "unknown status" for a value outside the list. Static string. */
HT_API const char *ht_status_name(ht_status status);

/* The short text of the list above. Static string. */
HT_API const char *ht_status_text(ht_status status);

/* Exit status that the program uses for a failure of this kind (docs/architecture.md). */
HT_API int ht_status_exit(ht_status status);

/* Message of this thread's last failure, without newline; "" if none. Valid until this thread's next failure. */
HT_API const char *ht_error_message(void);

/* Version of the library as "major.minor.patch". */
HT_API const char *ht_version(void);

/* For short programs: print the message and exit when a call fails. The library itself never exits. */
#define HT_CHECK(call)                                                                                                 \
    do {                                                                                                               \
        ht_status ht_check_status_ = (call);                                                                           \
        if (ht_check_status_ != HT_OK) {                                                                               \
            fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, ht_error_message());                                    \
            exit(ht_status_exit(ht_check_status_));                                                                    \
        }                                                                                                              \
    } while (0)

#ifdef __cplusplus
}
#endif
#endif
