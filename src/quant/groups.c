/* Groups of linears that readers run as one matrix: q/k/v and gate/up of a layer or of an expert.
 *
 * Readers load such a group under one scheme, so unequal wishes are an error (unless allow_mixed_groups) and a member
 * that cannot be had keeps the others. NVFP4's tensor scale is one number for the fused matrix: its members share the
 * range that it comes from.
 * SPDX-License-Identifier: BSD-3-Clause */
#include "quant/plan.h"

#include <stdint.h> /* SIZE_MAX */
#include <stdio.h>  /* snprintf */
#include <stdlib.h> /* qsort */
#include <string.h> /* strcmp */

#include "base/status.h"

enum { LONGEST_KEY = 1024 };

typedef struct member {
    const char *key;
    size_t job;
} member;

static int by_key(const void *a, const void *b) {
    const member *x = a, *y = b;
    int order = strcmp(x->key, y->key);
    return order ? order : (x->job > y->job) - (x->job < y->job);
}

/* Members of all groups, sorted by key. */
static ht_status collect(const ht_plan *plan, ht_arena *scratch, member **out, size_t *count) {
    member *members = ht_arena_alloc(scratch, plan->count * sizeof *members + 1);
    if (!members)
        return HT_ERR_MEMORY;
    *count = 0;
    for (size_t i = 0; i < plan->count; i++) {
        char key[LONGEST_KEY];
        const ht_job *job = &plan->job[i];
        if (job->parameter->rank < 2 || !ht_fused_key(job->parameter->name, key, sizeof key))
            continue;
        members[*count] = (member){ht_arena_string(scratch, key, strlen(key)), i};
        if (!members[*count].key)
            return HT_ERR_MEMORY;
        ++*count;
    }
    if (*count)
        qsort(members, *count, sizeof *members, by_key);
    *out = members;
    return HT_OK;
}

static const char *wish(const ht_job *job) {
    return job->rule && !job->rule->keep ? job->rule->scheme.name : "keep";
}

static int same_wish(const ht_job *a, const ht_job *b) {
    if (strcmp(wish(a), wish(b)) != 0)
        return 0;
    int quantize = a->rule && !a->rule->keep;
    return !quantize || ht_format_equal(&a->scheme.weight, &b->scheme.weight);
}

/* One group that was asked for alike: all of it, or nothing. */
static ht_status keep_together(ht_plan *plan, const member *members, size_t count) {
    size_t refused = SIZE_MAX;
    for (size_t i = 0; i < count; i++) {
        const ht_job *job = &plan->job[members[i].job];
        if (!job->layout && job->rule && !job->rule->keep && refused == SIZE_MAX)
            refused = members[i].job;
    }
    for (size_t i = 0; i < count && refused != SIZE_MAX; i++) {
        if (!plan->job[members[i].job].layout)
            continue;
        char reason[LONGEST_KEY];
        snprintf(reason, sizeof reason, "%s, of the same fused group, is kept: %s", plan->tensor[refused].name,
                 plan->tensor[refused].reason);
        HT_TRY(ht_plan_refuse(plan, members[i].job, reason));
    }
    return HT_OK;
}

static ht_status join(ht_plan *plan, const member *members, size_t count) {
    const ht_job *first = &plan->job[members[0].job];
    for (size_t i = 1; i < count; i++) {
        const ht_job *other = &plan->job[members[i].job];
        if (same_wish(first, other))
            continue;
        if (plan->recipe->allow_mixed_groups)
            return HT_OK;
        return ht_fail(HT_ERR_ARGUMENT,
                       "%s: the fused group %s gets unequal schemes: %s for %s, %s for %s; readers run it as one "
                       "matrix: treat it alike, or say allow_mixed_groups: true",
                       plan->recipe->source, members[0].key, wish(first), first->parameter->name, wish(other),
                       other->parameter->name);
    }
    return plan->recipe->allow_mixed_groups ? HT_OK : keep_together(plan, members, count);
}

/* Members with a number per matrix share their range when they are quantized alike and of equal batch. */
static void share_range(ht_plan *plan, const member *members, size_t count) {
    const ht_job *first = &plan->job[members[0].job];
    for (size_t i = 1; i < count; i++) {
        ht_job *other = &plan->job[members[i].job];
        if (first->layout && other->layout && first->layout->format.family == HT_FAMILY_NVFP4 &&
            same_wish(first, other) && first->layout->batch == other->layout->batch)
            other->shared = members[0].job;
    }
}

ht_status ht_plan_join_groups(ht_plan *plan) {
    ht_arena scratch;
    ht_arena_init(&scratch, plan->ctx);
    member *members = NULL;
    size_t count = 0;
    ht_status status = collect(plan, &scratch, &members, &count);
    for (size_t i = 0, end; i < count && status == HT_OK; i = end) {
        for (end = i + 1; end < count && strcmp(members[i].key, members[end].key) == 0; end++)
            ;
        status = join(plan, members + i, end - i);
        if (status == HT_OK)
            share_range(plan, members + i, end - i);
    }
    ht_arena_release(&scratch);
    return status;
}
