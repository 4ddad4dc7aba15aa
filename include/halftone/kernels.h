/* Which kernels there are, which of them run here, and why not the others. */
#ifndef HT_KERNELS_H
#define HT_KERNELS_H

#include <stddef.h>

#include <halftone/context.h>
#include <halftone/status.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct ht_kernel_info {
    const char *operation; /* "dot" */
    const char *name;      /* "f32_avx2" */
    const char *formats;   /* storage formats it serves; "" when the operation does not depend on one */
    char needs[64];        /* CPU features, separated by spaces; "" if none */
    int chosen;            /* runs in this context for at least one format */
    char reason[96];       /* why, or why not: "first row that may run", "needs avx2: the CPU has it, masked away" */
} ht_kernel_info;

/* Row `index` of the kernel tables, in order of operation, then preference; fills *out. Returns 0 past the end. */
HT_API int ht_kernel_list(const ht_context *ctx, size_t index, ht_kernel_info *out);

#ifdef __cplusplus
}
#endif
#endif
