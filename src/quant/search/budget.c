/* Spending a budget: the multiple-choice knapsack, by a Lagrangian bound, then exactly on what the bound leaves open.
 *
 *     1  offers of each unit on their lower hull; steps up the hulls in the order of loss saved per byte, as long as
 *        they fit: a choice (upper), and with the rate of the first step that did not fit, lambda, a bound (lower)
 *     2  an offer whose loss + lambda * bytes is more than upper - lower above its unit's least is in no better choice
 *     3  what is left: partial choices unit by unit, those that another one beats in bytes and in loss dropped, and
 *        those that cannot stay within upper - lower any more
 *
 * Step 3 is exact unless more than PARTIAL partial choices are open at once, then the most promising are kept and the
 * result says so. Ties go to fewer bytes, then to the earlier offer. Refuses a budget below the least.
 * Source: Kellerer, Pferschy, Pisinger, Knapsack Problems, 2004, chapter 11.
 * SPDX-License-Identifier: BSD-3-Clause */
#include "quant/search/budget.h"

#include <math.h>   /* isfinite */
#include <stdlib.h> /* qsort */

#include "base/memory.h"
#include "base/status.h"

enum { PARTIAL = 1 << 15 };
static const double SLACK = 1e-12; /* of sums of losses: what their rounding may be off by */

/* A step up a unit's hull. */
typedef struct step {
    double rate; /* loss saved per byte */
    size_t unit, from, to;
} step;

/* A choice for the units so far. */
typedef struct partial {
    uint64_t bytes;
    double loss, above; /* above: loss + lambda * bytes, less the least of each unit */
    uint32_t before;    /* its part without the last unit */
    uint32_t offer;     /* of the last unit */
} partial;

typedef struct work {
    ht_context *ctx;
    const ht_offer *offers;
    size_t units, each;
    uint64_t budget;
    size_t *chosen;
    ht_arena arena;
    step *step;
    size_t steps;
    double lambda, gap, bound, scale;
    uint64_t *least, *most; /* [units + 1] bytes of the open offers of this unit and all after it */
    partial **level;        /* [units] */
    size_t *count;
    int exact;
} work;

static const ht_offer *offer_of(const work *w, size_t unit, size_t index) {
    return &w->offers[unit * w->each + index];
}

void ht_budget_limits(const ht_offer *offers, size_t units, size_t each, uint64_t *least, uint64_t *most) {
    *least = *most = 0;
    for (size_t u = 0; u < units; u++) {
        uint64_t low = UINT64_MAX, high = 0;
        for (size_t i = 0; i < each; i++) {
            const ht_offer *offer = &offers[u * each + i];
            if (!isfinite(offer->loss))
                continue;
            low = offer->bytes < low ? offer->bytes : low;
            high = offer->bytes > high ? offer->bytes : high;
        }
        *least += low;
        *most += high;
    }
}

/* --- 1: hulls, steps, bound ------------------------------------------------------------------------------------- */

/* Is a the better of two offers of equal worth in the first respect: fewer bytes, then less loss, then the earlier? */
static int cheaper(const ht_offer *a, const ht_offer *b) {
    return a->bytes < b->bytes || (a->bytes == b->bytes && a->loss < b->loss);
}

static size_t cheapest(const work *w, size_t unit) {
    size_t best = w->each;
    for (size_t i = 0; i < w->each; i++)
        if (isfinite(offer_of(w, unit, i)->loss) &&
            (best == w->each || cheaper(offer_of(w, unit, i), offer_of(w, unit, best))))
            best = i;
    return best;
}

/* The steepest way up from an offer. */
static int next_step(const work *w, size_t unit, size_t from, step *out) {
    const ht_offer *here = offer_of(w, unit, from);
    *out = (step){.rate = 0, .unit = unit, .from = from, .to = from};
    for (size_t i = 0; i < w->each; i++) {
        const ht_offer *there = offer_of(w, unit, i);
        if (!(there->loss < here->loss) || there->bytes <= here->bytes)
            continue;
        double rate = (here->loss - there->loss) / (double)(there->bytes - here->bytes);
        int further = rate == out->rate && there->bytes > offer_of(w, unit, out->to)->bytes;
        if (rate > out->rate || further) {
            out->rate = rate;
            out->to = i;
        }
    }
    return out->to != from;
}

static int by_rate(const void *a, const void *b) {
    const step *x = a, *y = b;
    if (x->rate != y->rate)
        return x->rate > y->rate ? -1 : 1;
    if (x->unit != y->unit)
        return x->unit < y->unit ? -1 : 1;
    return (x->from > y->from) - (x->from < y->from);
}

static ht_status find_steps(work *w) {
    w->step = ht_arena_alloc(&w->arena, (w->units * w->each + 1) * sizeof *w->step);
    if (!w->step)
        return HT_ERR_MEMORY;
    for (size_t u = 0; u < w->units; u++) {
        step next;
        for (size_t at = w->chosen[u] = cheapest(w, u); next_step(w, u, at, &next); at = next.to)
            w->step[w->steps++] = next;
    }
    qsort(w->step, w->steps, sizeof *w->step, by_rate);
    return HT_OK;
}

static double total_loss(const work *w) {
    double sum = 0;
    for (size_t u = 0; u < w->units; u++)
        sum += offer_of(w, u, w->chosen[u])->loss;
    return sum;
}

static double least_at(const work *w, size_t unit) {
    double least = INFINITY;
    for (size_t i = 0; i < w->each; i++) {
        double worth = offer_of(w, unit, i)->loss + w->lambda * (double)offer_of(w, unit, i)->bytes;
        least = worth < least ? worth : least;
    }
    return least;
}

/* Take steps while they fit; those that come after one that did not fit are taken where they still do. */
static void climb(work *w) {
    uint64_t bytes = 0;
    for (size_t u = 0; u < w->units; u++)
        bytes += offer_of(w, u, w->chosen[u])->bytes;
    for (size_t i = 0; i < w->steps; i++) {
        const step *s = &w->step[i];
        uint64_t more = offer_of(w, s->unit, s->to)->bytes - offer_of(w, s->unit, s->from)->bytes;
        if (w->chosen[s->unit] != s->from)
            continue;
        if (bytes + more <= w->budget) {
            w->chosen[s->unit] = s->to;
            bytes += more;
        } else if (w->lambda == 0) {
            w->lambda = s->rate;
        }
    }
    double upper = total_loss(w), lower = -w->lambda * (double)w->budget, magnitude = w->lambda * (double)w->budget;
    for (size_t u = 0; u < w->units; u++)
        lower += least_at(w, u);
    w->bound = w->lambda > 0 ? lower : upper;
    w->scale = (magnitude + upper) * SLACK;
    w->gap = w->lambda > 0 && upper > lower ? upper - lower + w->scale : w->scale;
}

/* --- 2: what is open --------------------------------------------------------------------------------------------- */

static double above_least(const work *w, size_t unit, size_t index, double least) {
    const ht_offer *offer = offer_of(w, unit, index);
    return offer->loss + w->lambda * (double)offer->bytes - least;
}

static ht_status limit_units(work *w) {
    w->least = ht_arena_alloc(&w->arena, (w->units + 1) * sizeof *w->least);
    w->most = ht_arena_alloc(&w->arena, (w->units + 1) * sizeof *w->most);
    w->level = ht_arena_alloc(&w->arena, (w->units + 1) * sizeof *w->level);
    w->count = ht_arena_alloc(&w->arena, (w->units + 1) * sizeof *w->count);
    if (!w->least || !w->most || !w->level || !w->count)
        return HT_ERR_MEMORY;
    for (size_t u = w->units; u-- > 0;) {
        uint64_t low = UINT64_MAX, high = 0;
        double least = least_at(w, u);
        for (size_t i = 0; i < w->each; i++) {
            if (!(above_least(w, u, i, least) <= w->gap))
                continue;
            uint64_t bytes = offer_of(w, u, i)->bytes;
            low = bytes < low ? bytes : low;
            high = bytes > high ? bytes : high;
        }
        w->least[u] = w->least[u + 1] + low;
        w->most[u] = w->most[u + 1] + high;
    }
    return HT_OK;
}

/* --- 3: partial choices ------------------------------------------------------------------------------------------ */

static int by_bytes(const void *a, const void *b) {
    const partial *x = a, *y = b;
    if (x->bytes != y->bytes)
        return x->bytes < y->bytes ? -1 : 1;
    if (x->loss != y->loss)
        return x->loss < y->loss ? -1 : 1;
    if (x->before != y->before)
        return x->before < y->before ? -1 : 1;
    return (x->offer > y->offer) - (x->offer < y->offer);
}

static int by_promise(const void *a, const void *b) {
    const partial *x = a, *y = b;
    if (x->above != y->above)
        return x->above < y->above ? -1 : 1;
    return by_bytes(a, b);
}

static int hopeless(const work *w, size_t next, const partial *p) {
    if (p->bytes + w->least[next] > w->budget)
        return 1;
    uint64_t most = p->bytes + w->most[next];
    double unspent = most < w->budget ? w->lambda * (double)(w->budget - most) : 0;
    return p->above + unspent > w->gap;
}

/* The parts so far, each with every open offer of the unit. */
static size_t extend(const work *w, size_t unit, const partial *from, size_t count, partial *to) {
    double least = least_at(w, unit);
    size_t made = 0;
    for (size_t i = 0; i < w->each; i++) {
        double above = above_least(w, unit, i, least);
        const ht_offer *offer = offer_of(w, unit, i);
        if (!(above <= w->gap))
            continue;
        for (size_t p = 0; p < count; p++) {
            partial one = {.bytes = from[p].bytes + offer->bytes,
                           .loss = from[p].loss + offer->loss,
                           .above = from[p].above + above,
                           .before = (uint32_t)p,
                           .offer = (uint32_t)i};
            if (!hopeless(w, unit + 1, &one))
                to[made++] = one;
        }
    }
    return made;
}

/* Drop what another part beats: in order of bytes, loss must fall. */
static size_t drop_beaten(partial *parts, size_t count) {
    size_t kept = 0;
    qsort(parts, count, sizeof *parts, by_bytes);
    for (size_t i = 0; i < count; i++)
        if (!kept || parts[i].loss < parts[kept - 1].loss)
            parts[kept++] = parts[i];
    return kept;
}

static ht_status try_unit(work *w, size_t unit, const partial *from, size_t count) {
    partial *room;
    HT_TRY(ht_allocate_raw(w->ctx, count * w->each, sizeof *room, "choices of a search", &room));
    size_t made = drop_beaten(room, extend(w, unit, from, count, room));
    if (made > PARTIAL) {
        qsort(room, made, sizeof *room, by_promise);
        made = drop_beaten(room, PARTIAL);
        w->exact = 0;
    }
    w->count[unit] = made;
    w->level[unit] = ht_arena_alloc(&w->arena, (made + 1) * sizeof *room);
    for (size_t i = 0; w->level[unit] && i < made; i++)
        w->level[unit][i] = room[i];
    ht_release(w->ctx, room);
    return w->level[unit] ? HT_OK : HT_ERR_MEMORY;
}

/* The last level's parts are whole choices; the one with the most bytes has the least loss. */
static void take_best(work *w) {
    size_t at = w->count[w->units - 1];
    double upper = total_loss(w);
    if (!at || !(w->level[w->units - 1][at - 1].loss < upper))
        return;
    at--;
    for (size_t u = w->units; u-- > 0;) {
        const partial *part = &w->level[u][at];
        w->chosen[u] = part->offer;
        at = part->before;
    }
}

static ht_status improve(work *w) {
    const partial start = {.bytes = 0};
    const partial *from = &start;
    size_t count = 1;
    HT_TRY(limit_units(w));
    for (size_t u = 0; u < w->units; u++) {
        HT_TRY(try_unit(w, u, from, count));
        from = w->level[u];
        count = w->count[u];
    }
    take_best(w);
    return HT_OK;
}

ht_status ht_budget_spend(ht_context *ctx, const ht_offer *offers, size_t units, size_t each, uint64_t budget,
                          size_t *chosen, ht_bargain *out) {
    work w = {.ctx = ctx, .offers = offers, .units = units, .each = each, .budget = budget, .exact = 1};
    uint64_t least, most;
    *out = (ht_bargain){.exact = 1};
    ht_budget_limits(offers, units, each, &least, &most);
    if (budget < least)
        return ht_fail(HT_ERR_ARGUMENT, "a budget of %llu bytes; the smallest choice takes %llu",
                       (unsigned long long)budget, (unsigned long long)least);
    w.chosen = chosen;
    ht_arena_init(&w.arena, ctx);
    ht_status status = find_steps(&w);
    if (status == HT_OK) {
        climb(&w);
        status = w.lambda > 0 && units ? improve(&w) : HT_OK;
    }
    for (size_t u = 0; u < units && status == HT_OK; u++)
        out->bytes += offer_of(&w, u, chosen[u])->bytes;
    out->loss = status == HT_OK ? total_loss(&w) : 0;
    out->bound = w.bound < out->loss ? w.bound : out->loss;
    out->exact = w.exact;
    ht_arena_release(&w.arena);
    return status;
}
