/* SHA-256, for golden files that give only a digest. */
#ifndef HT_TESTS_SHA256_H
#define HT_TESTS_SHA256_H

#include <stddef.h>

/* Lower-case hexadecimal digest, NUL-terminated. */
void check_sha256(const void *data, size_t bytes, char digest[65]);

#endif
