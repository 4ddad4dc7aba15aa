/* "did you mean": the known word nearest to a mistyped one. */
#ifndef HT_BASE_NEAREST_H
#define HT_BASE_NEAREST_H

#include <stddef.h>

/* Edit distance (insert, delete, replace, swap of neighbours), ASCII case ignored and '-' equal to '_'. Words longer
 * than 64 bytes count as far apart. */
size_t ht_word_distance(const char *a, const char *b);

/* Keeps the nearest of the words shown to it. Start with {.word = typed}. */
typedef struct ht_nearest {
    const char *word;  /* what was typed */
    const char *found; /* nearest so far; NULL before the first */
    size_t distance;
} ht_nearest;
void ht_nearest_offer(ht_nearest *nearest, const char *candidate);

/* 1 when the words are equal, ASCII case ignored and '-' equal to '_'. */
int ht_word_equal(const char *a, const char *b);

#endif
