/* Scratch memory that grows and is kept between calls.
 * SPDX-License-Identifier: BSD-3-Clause */
#include "ops/linear.h"

#include "base/memory.h"
#include "base/status.h"

enum { ALIGN = 64, APART = 128 };

void ht_workspace_init(ht_workspace *workspace, ht_context *ctx) {
    *workspace = (ht_workspace){.ctx = ctx};
}

void ht_workspace_release(ht_workspace *workspace) {
    if (!workspace->ctx)
        return;
    ht_release(workspace->ctx, workspace->memory);
    ht_release(workspace->ctx, workspace->inputs);
    *workspace = (ht_workspace){.ctx = workspace->ctx};
}

ht_status ht_workspace_threads(ht_workspace *workspace, size_t bytes, char **out, size_t *stride) {
    size_t threads = ht_context_threads(workspace->ctx);
    size_t each = (bytes + ALIGN - 1) / ALIGN * ALIGN + APART; /* apart: two threads never share a cache line pair */
    if (each * threads > workspace->bytes) {
        ht_release(workspace->ctx, workspace->memory);
        workspace->memory = NULL;
        workspace->bytes = 0;
        HT_TRY(ht_allocate_raw(workspace->ctx, threads, each, "scratch of the threads", &workspace->memory));
        workspace->bytes = each * threads;
    }
    *out = workspace->memory;
    *stride = each;
    return HT_OK;
}
