/* Yardsticks: how fast this machine copies, in memory and into a file.
 *
 * The file copy writes straight from the mapped input into an unnamed file (O_TMPFILE), so that nothing is left behind
 * whatever happens. Like a plain copy it ends in the page cache: it says what reading the input and handing as many
 * bytes to the file system costs, not how fast the disk is.
 * SPDX-License-Identifier: BSD-3-Clause */
#include "bench/bench.h"

#include <fcntl.h> /* open, O_TMPFILE */
#include <pthread.h>
#include <stdlib.h> /* aligned_alloc */
#include <string.h> /* memcpy, memset */
#include <time.h>
#include <unistd.h>

enum { COPY_BYTES = 64 << 20, COPY_ROUNDS = 4, MOST_THREADS = 64, WRITE_BYTES = 1 << 20 };
static const double file_seconds = 1.0, file_bytes = 512e6;

double bench_seconds(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

double bench_thread_seconds(void) {
    struct timespec now;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

typedef struct share {
    char *to;
    const char *from;
    size_t bytes;
} share;

static void *copy_share(void *user) {
    const share *s = user;
    memcpy(s->to, s->from, s->bytes);
    return NULL;
}

static double copy_round(char *to, const char *from, size_t threads) {
    share shares[MOST_THREADS];
    pthread_t id[MOST_THREADS];
    size_t part = COPY_BYTES / threads, started = 1;
    for (size_t i = 0; i < threads; i++)
        shares[i] = (share){to + i * part, from + i * part, part};
    double begin = bench_seconds();
    while (started < threads && pthread_create(&id[started], NULL, copy_share, &shares[started]) == 0)
        started++;
    copy_share(&shares[0]);
    for (size_t i = 1; i < started; i++)
        pthread_join(id[i], NULL);
    return (double)(part * started) / (bench_seconds() - begin);
}

double bench_memory_copy(size_t threads) {
    char *from = aligned_alloc(64, COPY_BYTES), *to = aligned_alloc(64, COPY_BYTES);
    double best = 0;
    threads = threads < 1 ? 1 : threads > MOST_THREADS ? MOST_THREADS : threads;
    if (from && to) {
        memset(from, 1, COPY_BYTES);
        memset(to, 2, COPY_BYTES);
        for (int round = 0; round < COPY_ROUNDS; round++) {
            double rate = copy_round(to, from, threads);
            best = rate > best ? rate : best;
        }
    }
    free(from);
    free(to);
    return best;
}

double bench_file_copy(const ht_checkpoint *checkpoint, const char *directory) {
    int file = open(directory, O_TMPFILE | O_WRONLY, 0600);
    if (file < 0)
        return 0;
    double begin = bench_seconds(), copied = 0;
    int stop = 0;
    for (size_t i = 0; !stop && i < ht_checkpoint_tensor_count(checkpoint); i++) {
        const ht_stored_tensor *tensor = ht_checkpoint_tensor(checkpoint, i);
        for (size_t at = 0; !stop && at < tensor->bytes; at += WRITE_BYTES) {
            size_t piece = tensor->bytes - at < WRITE_BYTES ? tensor->bytes - at : WRITE_BYTES;
            ssize_t written = write(file, (const char *)tensor->data + at, piece);
            copied += written > 0 ? (double)written : 0;
            stop = written != (ssize_t)piece || copied >= file_bytes || bench_seconds() - begin >= file_seconds;
        }
    }
    double taken = bench_seconds() - begin;
    close(file);
    return copied >= WRITE_BYTES && taken > 0 ? copied / taken : 0;
}
