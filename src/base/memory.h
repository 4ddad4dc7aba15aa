/* Memory of a context: aligned, counted, limited. And the arena: many small pieces, freed together. */
#ifndef HT_BASE_MEMORY_H
#define HT_BASE_MEMORY_H

#include <stddef.h>

#include <halftone/context.h>

/* *out (a pointer to any object pointer) = count * size bytes, zeroed, 64-byte aligned; NULL on failure.
 * Fails with MEMORY, naming `what` and the limit; overflow of count * size is a failure, not a wrap. A count or
 * size of 0 gives a valid pointer. */
ht_status ht_allocate(ht_context *ctx, size_t count, size_t size, const char *what, void *out);

/* As ht_allocate, contents undefined: for buffers that are overwritten at once. */
ht_status ht_allocate_raw(ht_context *ctx, size_t count, size_t size, const char *what, void *out);

/* Free what ht_allocate gave. Accepts NULL. */
void ht_release(ht_context *ctx, void *memory);

/* Many small pieces freed together. Blocks of 64 KiB and up; nothing moves. */
typedef struct ht_arena {
    ht_context *ctx;
    struct ht_arena_block *block;
} ht_arena;

void ht_arena_init(ht_arena *arena, ht_context *ctx);
/* Zeroed, 16-byte aligned; NULL (and the message set, status MEMORY) when out of memory. */
void *ht_arena_alloc(ht_arena *arena, size_t bytes);
char *ht_arena_string(ht_arena *arena, const char *text, size_t bytes); /* copy, NUL-terminated */
char *ht_arena_printf(ht_arena *arena, const char *format, ...) HT_PRINTF(2, 3);
void ht_arena_release(ht_arena *arena);

#endif
