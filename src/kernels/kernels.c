/* Choosing rows of the kernel tables, and listing them with the reason of every choice.
 *
 * There are two tables, the processor family's and the references; an operation's candidates are the rows of the first,
 * then of the second. Nothing is registered at run time, so a missing kernel is a link error.
 * Source: cpu-kernels specification, section 1.7.
 * SPDX-License-Identifier: BSD-3-Clause */
#include "kernels/kernels.h"

#include <stdio.h>  /* snprintf */
#include <string.h> /* memset */

#include <halftone/kernels.h>

#include "base/context.h"

static const ht_kernel_row *const TABLES[] = {ht_kernel_rows_arch, ht_kernel_rows_ref};
enum { TABLE_COUNT = sizeof TABLES / sizeof *TABLES };

static const char *const OPERATION_NAMES[] = {
#define HT_OPERATION_NAME(name, text) text,
    HT_OPERATION_LIST(HT_OPERATION_NAME)
#undef HT_OPERATION_NAME
};

/* What a row is wanted for: one of the four things, or none of them. */
typedef struct question {
    ht_operation operation;
    uint32_t flags;
    size_t m;
    const ht_weight *weight;
    const ht_packed *packed;
    const ht_cast *cast;
    const ht_uncast *uncast;
} question;

static int is_conditional(const ht_kernel_row *row) {
    return row->accepts || row->takes || row->casts || row->uncasts;
}

static int answers(const ht_kernel_row *row, const question *q) {
    return row->operation == q->operation && (row->needs & q->flags) == row->needs && q->m >= row->smallest_m &&
           (!row->largest_m || q->m <= row->largest_m) && (!row->accepts || (q->weight && row->accepts(q->weight))) &&
           (!row->takes || (q->packed && row->takes(q->packed))) && (!row->casts || (q->cast && row->casts(q->cast))) &&
           (!row->uncasts || (q->uncast && row->uncasts(q->uncast)));
}

static const ht_kernel_row *first_answer(const question *q) {
    for (size_t t = 0; t < TABLE_COUNT; t++)
        for (const ht_kernel_row *row = TABLES[t]; row->name; row++)
            if (answers(row, q))
                return row;
    return NULL;
}

const ht_kernel_row *ht_kernel_choose(ht_operation operation, uint32_t cpu_flags, const ht_weight *weight, size_t m) {
    return first_answer(&(question){.operation = operation, .flags = cpu_flags, .weight = weight, .m = m});
}

const ht_kernel_row *ht_kernel_choose_packed(ht_operation operation, uint32_t cpu_flags, const ht_packed *packed,
                                             size_t m) {
    return first_answer(&(question){.operation = operation, .flags = cpu_flags, .packed = packed, .m = m});
}

const ht_kernel_row *ht_kernel_choose_cast(uint32_t cpu_flags, const ht_cast *cast) {
    return first_answer(&(question){.operation = HT_OPERATION_CAST, .flags = cpu_flags, .cast = cast});
}

const ht_kernel_row *ht_kernel_choose_uncast(uint32_t cpu_flags, const ht_uncast *uncast) {
    return first_answer(&(question){.operation = HT_OPERATION_UNCAST, .flags = cpu_flags, .uncast = uncast});
}

ht_kernels ht_kernels_choose(uint32_t cpu_flags) {
    ht_kernels kernels;
    memset(&kernels, 0, sizeof kernels);
    for (int operation = 0; operation < HT_OPERATION_COUNT; operation++)
        if (operation != HT_OPERATION_DECODE && operation != HT_OPERATION_MATMUL && operation != HT_OPERATION_FLOATS &&
            operation != HT_OPERATION_PRODUCT && operation != HT_OPERATION_CAST && operation != HT_OPERATION_UNCAST)
            kernels.of[operation] = ht_kernel_choose((ht_operation)operation, cpu_flags, NULL, 1)->fn;
    return kernels;
}

/* --- listing ---------------------------------------------------------------------------------------------- */

static const ht_kernel_row *row_at(size_t index) {
    for (int operation = 0; operation < HT_OPERATION_COUNT; operation++)
        for (size_t t = 0; t < TABLE_COUNT; t++)
            for (const ht_kernel_row *row = TABLES[t]; row->name; row++)
                if ((int)row->operation == operation && index-- == 0)
                    return row;
    return NULL;
}

/* Does `other`, when it may run, take everything that `row` would? */
static int covers(const ht_kernel_row *other, const ht_kernel_row *row) {
    int same_condition = other->accepts == row->accepts && other->takes == row->takes && other->casts == row->casts &&
                         other->uncasts == row->uncasts;
    return other->operation == row->operation && (same_condition || !is_conditional(other)) &&
           (other->smallest_m <= 1 || other->smallest_m <= row->smallest_m) &&
           (!other->largest_m || (row->largest_m && other->largest_m >= row->largest_m));
}

/* The row before this one that leaves it nothing. */
static const ht_kernel_row *winner_before(const ht_kernel_row *row, uint32_t flags) {
    for (size_t t = 0; t < TABLE_COUNT; t++)
        for (const ht_kernel_row *other = TABLES[t]; other->name; other++) {
            if (other == row)
                return NULL;
            if ((other->needs & flags) == other->needs && covers(other, row))
                return other;
        }
    return NULL;
}

static void name_flags(uint32_t flags, const ht_context *ctx, char *buffer, size_t size) {
    buffer[0] = '\0';
    for (size_t i = 0; i < HT_CPU_FEATURE_COUNT; i++)
        if (flags & (1u << i)) {
            size_t used = strlen(buffer);
            snprintf(buffer + used, size - used, "%s%s", used ? " " : "", ht_context_cpu_feature(ctx, i)->name);
        }
}

int ht_kernel_list(const ht_context *ctx, size_t index, ht_kernel_info *out) {
    memset(out, 0, sizeof *out);
    const ht_kernel_row *row = row_at(index);
    if (!row)
        return 0;
    uint32_t flags = ht_cpu_flags(ctx), missing = row->needs & ~flags;
    out->operation = OPERATION_NAMES[row->operation];
    out->name = row->name;
    out->formats = row->formats ? row->formats : "";
    name_flags(row->needs, ctx, out->needs, sizeof out->needs);
    const ht_kernel_row *winner = winner_before(row, flags);
    out->chosen = !missing && !winner;
    if (missing) {
        char names[64];
        name_flags(missing, ctx, names, sizeof names);
        int masked = (missing & ~ctx->cpu.present) == 0;
        snprintf(out->reason, sizeof out->reason, "needs %s: %s", names,
                 masked ? "the CPU has it, masked away" : "not on this CPU");
    } else if (winner) {
        snprintf(out->reason, sizeof out->reason, "%s comes first", winner->name);
    } else {
        snprintf(out->reason, sizeof out->reason,
                 is_conditional(row) ? "first row that may run, for its formats" : "first row that may run");
    }
    return 1;
}
