/* Nearest known word, by optimal string alignment distance over three rolling rows. Names are short, so the table
 * stays on the stack; anything longer than a name is simply far away.
 * SPDX-License-Identifier: BSD-3-Clause */
#include "base/nearest.h"

#include <stdint.h> /* SIZE_MAX */
#include <string.h> /* strlen */

enum { LONGEST = 64 };

static int fold(int c) {
    if (c >= 'A' && c <= 'Z')
        return c - 'A' + 'a';
    return c == '_' ? '-' : c;
}

int ht_word_equal(const char *a, const char *b) {
    while (*a && fold((unsigned char)*a) == fold((unsigned char)*b)) {
        a++;
        b++;
    }
    return *a == '\0' && *b == '\0';
}

static size_t least(size_t a, size_t b) {
    return a < b ? a : b;
}

size_t ht_word_distance(const char *a, const char *b) {
    size_t n = strlen(a), m = strlen(b);
    if (n > LONGEST || m > LONGEST)
        return SIZE_MAX;
    size_t row[3][LONGEST + 1]; /* distances of the last two prefixes of a, and of this one, to every prefix of b */
    for (size_t j = 0; j <= m; j++)
        row[0][j] = j;
    for (size_t i = 1; i <= n; i++) {
        size_t *now = row[i % 3], *last = row[(i + 2) % 3], *before = row[(i + 1) % 3];
        now[0] = i;
        for (size_t j = 1; j <= m; j++) {
            int x = fold((unsigned char)a[i - 1]), y = fold((unsigned char)b[j - 1]);
            now[j] = least(least(last[j], now[j - 1]) + 1, last[j - 1] + (x != y));
            if (i > 1 && j > 1 && x == fold((unsigned char)b[j - 2]) && y == fold((unsigned char)a[i - 2]))
                now[j] = least(now[j], before[j - 2] + 1);
        }
    }
    return row[n % 3][m];
}

void ht_nearest_offer(ht_nearest *nearest, const char *candidate) {
    size_t distance = ht_word_distance(nearest->word, candidate);
    if (!nearest->found || distance < nearest->distance) {
        nearest->found = candidate;
        nearest->distance = distance;
    }
}
