/* Search: mixed precision under a budget.
 *
 *     offers (sizes, from plans)  ->  measured errors  ->  loss = slope * error  ->  choice (budget.h)  ->  recipe
 *
 * The slope of a unit says how much a relative error of its outputs costs: with KL it is what its exchange costs
 * divided by that exchange's error, else how much of the rows that leave its layer the layer adds, since an error of
 * what is added reaches the rows in that proportion. Losses of units add: the second-order picture of a model
 * whose errors are small and do not know of each other. Sizes are not predicted: the recipe that comes out is planned,
 * and what its plan takes is what is reported; a target for the whole output is held against that, headers and copied
 * files included, and the budget lowered by what is too much.
 * Refuses targets below the smallest choice or above the largest. Source: HAWQ-V2 (arXiv:1911.03852) for slope times
 * error; algorithms specification, section 1.8, for the error.
 * SPDX-License-Identifier: BSD-3-Clause */
#include "quant/search/search.h"

#include <math.h>   /* NAN, isfinite */
#include <stdint.h> /* SIZE_MAX */
#include <string.h>

#include "base/context.h"
#include "base/status.h"

enum { EXCHANGES = 16, POINTS_PER_BIT = 4, MOST_POINTS = 64, ATTEMPTS = 16 };

ht_search_options ht_search_options_default(void) {
    return (ht_search_options){.target_bits = 0};
}

/* --- Targets ----------------------------------------------------------------------------------------------------- */

static uint64_t weights_of(const ht_search *s) {
    uint64_t weights = 0;
    for (size_t u = 0; u < s->units; u++)
        weights += s->unit[u].row.weights;
    return weights;
}

/* Bytes of tensors that are not searched. */
static uint64_t fixed_bytes(const ht_search *s) {
    const ht_plan *any = NULL;
    uint64_t bytes = 0;
    for (size_t c = 0; !any; c++)
        any = s->candidate[c].plan;
    for (size_t i = 0; i < any->count; i++)
        bytes += s->unit_of[i] == SIZE_MAX ? any->tensor[i].bytes_before : 0;
    return bytes;
}

static ht_status fill_offers(ht_search *s) {
    if (!s->offer)
        s->offer = ht_arena_alloc(&s->arena, (s->units * s->candidates + 1) * sizeof *s->offer);
    if (!s->offer)
        return HT_ERR_MEMORY;
    for (size_t u = 0; u < s->units; u++)
        for (size_t c = 0; c < s->candidates; c++) {
            const ht_search_measure *m = &s->unit[u].measure[c];
            s->offer[u * s->candidates + c] = (ht_offer){m->bytes, isnan(m->error) ? (double)INFINITY : m->loss};
        }
    return HT_OK;
}

static double bits_of(const ht_search *s, uint64_t bytes) {
    return 8 * (double)bytes / (double)weights_of(s);
}

static ht_status outside(const ht_search *s, double target, double least, double most, const char *unit) {
    return ht_fail(HT_ERR_ARGUMENT,
                   "%s: a target of %.10g %s cannot be had: the candidates give %.10g at least and %.10g at most",
                   ht_checkpoint_path(s->checkpoint), target, unit, least, most);
}

/* Bytes that the linears may take. */
static ht_status find_budget(ht_search *s, uint64_t *out) {
    uint64_t least, most, fixed = fixed_bytes(s), target = s->options.target_bytes;
    HT_TRY(fill_offers(s));
    ht_budget_limits(s->offer, s->units, s->candidates, &least, &most);
    if (target) {
        *out = target - fixed < most ? target - fixed : most;
        return target < fixed + least
                   ? outside(s, (double)target, (double)(fixed + least), (double)(fixed + most), "bytes")
                   : HT_OK;
    }
    double bits = s->options.target_bits, low = bits_of(s, least), high = bits_of(s, most);
    if (bits < low || bits > high)
        return outside(s, bits, low, high, "bits per weight");
    double bytes = bits * (double)weights_of(s) / 8;
    *out = (uint64_t)floor(bytes * (1 + 1e-15));
    *out = *out < least ? least : *out;
    return HT_OK;
}

static ht_status check_options(const ht_search_options *options) {
    double bits = options->target_bits;
    if ((bits != 0) == (options->target_bytes != 0))
        return ht_fail(HT_ERR_ARGUMENT, "give %s a target in bits per weight or one in bytes",
                       bits != 0 ? "either, not both:" : "one of the two:");
    if (bits != 0 && !(bits > 0 && bits <= 64))
        return ht_fail(HT_ERR_ARGUMENT, "a target of %g bits per weight; above 0 up to 64 are possible", bits);
    if (!options->calibration.data)
        return ht_fail(HT_ERR_ARGUMENT, "search measures on text: give one with --data FILE");
    return HT_OK;
}

/* --- Loss --------------------------------------------------------------------------------------------------------- */

/* The candidate that is exchanged: nearest to what will be spent. */
static size_t nearest(const ht_search *s, size_t unit, double bits) {
    size_t best = SIZE_MAX;
    double least = INFINITY;
    for (size_t c = 0; c < s->candidates; c++) {
        const ht_search_measure *m = &s->unit[unit].measure[c];
        double away = fabs(8 * (double)m->bytes / (double)s->unit[unit].row.weights - bits);
        if (s->candidate[c].plan && !isnan(m->error) && away < least) {
            least = away;
            best = c;
        }
    }
    return best;
}

static void choose_references(ht_search *s, uint64_t budget) {
    size_t *votes = ht_arena_alloc(&s->arena, s->candidates * sizeof *votes);
    for (size_t u = 0; u < s->units; u++) {
        s->unit[u].reference = nearest(s, u, bits_of(s, budget));
        if (votes && s->unit[u].reference != SIZE_MAX)
            votes[s->unit[u].reference]++;
    }
    s->reference = 0;
    for (size_t c = 1; votes && c < s->candidates; c++)
        if (votes[c] > votes[s->reference])
            s->reference = c;
}

static void predict(ht_search *s) {
    for (size_t u = 0; u < s->units; u++) {
        ht_unit *unit = &s->unit[u];
        double at = unit->reference == SIZE_MAX ? 0 : unit->error[unit->reference];
        unit->row.slope = s->reference == SIZE_MAX ? unit->share : at > 0 && unit->kl > 0 ? unit->kl / at : 0;
        for (size_t c = 0; c < s->candidates; c++) {
            ht_search_measure *m = &unit->measure[c];
            m->error = isnan(m->error) ? m->error : unit->error[c];
            m->loss = unit->row.slope * m->error;
        }
    }
}

/* What a candidate gives when everything has it. */
static void judge_uniform(ht_search *s, uint64_t budget) {
    s->summary.uniform = SIZE_MAX;
    for (size_t c = 0; c < s->candidates; c++) {
        ht_search_candidate *row = &s->candidate[c].row;
        uint64_t bytes = 0;
        row->loss = 0;
        for (size_t u = 0; u < s->units; u++) {
            bytes += s->unit[u].measure[c].bytes;
            row->loss += s->unit[u].measure[c].loss; /* NaN stays */
        }
        row->bits = isnan(row->loss) ? (double)NAN : bits_of(s, bytes);
        if (isnan(row->loss) || bytes > budget)
            continue;
        if (s->summary.uniform == SIZE_MAX || row->loss < s->candidate[s->summary.uniform].row.loss)
            s->summary.uniform = c;
    }
}

static ht_status draw_frontier(ht_search *s) {
    uint64_t least, most;
    size_t *chosen = ht_arena_alloc(&s->arena, (s->units + 1) * sizeof *chosen);
    s->point = ht_arena_alloc(&s->arena, MOST_POINTS * sizeof *s->point);
    if (!chosen || !s->point)
        return HT_ERR_MEMORY;
    ht_budget_limits(s->offer, s->units, s->candidates, &least, &most);
    double low = bits_of(s, least), high = bits_of(s, most);
    for (int i = (int)ceil(low * POINTS_PER_BIT); i <= (int)ceil(high * POINTS_PER_BIT); i++) {
        double bits = (double)i / POINTS_PER_BIT;
        uint64_t budget = (uint64_t)(bits * (double)weights_of(s) / 8);
        ht_bargain found;
        if (budget < least || s->points == MOST_POINTS)
            continue;
        HT_TRY(ht_budget_spend(s->ctx, s->offer, s->units, s->candidates, budget, chosen, &found));
        if (s->points && s->point[s->points - 1].bytes == found.bytes)
            continue;
        s->point[s->points++] = (ht_search_point){bits_of(s, found.bytes), found.bytes, found.loss};
    }
    return HT_OK;
}

/* --- Choosing ---------------------------------------------------------------------------------------------------- */

/* The plan of the recipe says the same as the search? Sizes are the plan's. */
static ht_status check_plan(ht_search *s, const ht_plan *plan) {
    for (size_t i = 0; i < plan->count; i++) {
        size_t u = s->unit_of[i];
        const ht_plan_tensor *tensor = &plan->tensor[i];
        if (u == SIZE_MAX
                ? plan->job[i].layout != NULL
                : s->candidate[s->chosen[u]].plan && strcmp(tensor->got, s->candidate[s->chosen[u]].row.scheme))
            return ht_fail(HT_ERR_UNSUPPORTED, "search: tensor %s would get %s, not what was chosen%s%s", tensor->name,
                           tensor->got, *tensor->reason ? ": " : "", tensor->reason);
    }
    s->summary.bytes = plan->summary.bytes_after;
    return HT_OK;
}

static ht_status plan_choice(ht_search *s) {
    ht_quantize_options options = ht_quantize_options_default();
    ht_plan *plan;
    ht_text_free(&s->recipe);
    s->recipe = (ht_text){.data = NULL};
    HT_TRY(ht_search_compose(s, &s->recipe));
    options.recipe_text = s->recipe.data;
    HT_TRY(ht_plan_create(s->ctx, s->checkpoint, &options, &plan));
    ht_status status = check_plan(s, plan);
    if (status == HT_OK)
        status = ht_plan_output_bytes(plan, s->checkpoint, &options, &s->summary.output_bytes);
    ht_plan_destroy(plan);
    return status;
}

static ht_status choose(ht_search *s, uint64_t budget) {
    ht_bargain found;
    HT_TRY(ht_budget_spend(s->ctx, s->offer, s->units, s->candidates, budget, s->chosen, &found));
    s->summary.linear_bytes = found.bytes;
    s->summary.bits = bits_of(s, found.bytes);
    s->summary.loss = found.loss;
    s->summary.bound = found.exact ? found.loss : found.bound;
    for (size_t u = 0; u < s->units; u++)
        s->unit[u].row.chosen = s->chosen[u];
    return plan_choice(s);
}

/* For a target of the whole output: until it holds. */
static ht_status choose_within(ht_search *s, uint64_t budget) {
    uint64_t target = s->options.target_bytes, least, most;
    ht_budget_limits(s->offer, s->units, s->candidates, &least, &most);
    for (int i = 0; i < ATTEMPTS; i++) {
        HT_TRY(choose(s, budget));
        if (!target || s->summary.output_bytes <= target)
            return HT_OK;
        uint64_t more = s->summary.output_bytes - target, spent = s->summary.linear_bytes;
        if (spent < least + more)
            break;
        budget = spent - more;
    }
    return ht_fail(HT_ERR_ARGUMENT,
                   "%s: a target of %llu bytes cannot be had: with headers and the files beside them the output takes "
                   "%llu",
                   ht_checkpoint_path(s->checkpoint), (unsigned long long)target,
                   (unsigned long long)s->summary.output_bytes);
}

/* --- The whole --------------------------------------------------------------------------------------------------- */

static void count_tensors(ht_search *s) {
    s->summary.weights = weights_of(s);
    s->summary.tensors = 0;
    for (size_t u = 0; u < s->units; u++)
        s->summary.tensors += s->unit[u].row.tensors;
}

/* What the output takes when every unit gets its largest offer, or its smallest. */
static ht_status output_limit(ht_search *s, int largest, uint64_t *out) {
    for (size_t u = 0; u < s->units; u++) {
        const ht_search_measure *m = s->unit[u].measure, *best = NULL;
        for (size_t c = 0; c < s->candidates; c++) {
            int better = !best || (largest ? m[c].bytes > best->bytes : m[c].bytes < best->bytes);
            if (isnan(m[c].error) || !better)
                continue;
            best = &m[c];
            s->chosen[u] = c;
        }
    }
    HT_TRY(plan_choice(s));
    *out = s->summary.output_bytes;
    return HT_OK;
}

/* Impossible targets end here, before anything is computed. */
static ht_status check_target(ht_search *s) {
    uint64_t budget, low, high;
    HT_TRY(find_budget(s, &budget));
    if (!s->options.target_bytes)
        return HT_OK;
    HT_TRY(output_limit(s, 0, &low));
    HT_TRY(output_limit(s, 1, &high));
    if (s->options.target_bytes < low || s->options.target_bytes > high)
        return outside(s, (double)s->options.target_bytes, (double)low, (double)high, "bytes");
    return HT_OK;
}

static ht_status read_text(ht_search *s) {
    ht_calibration how = s->calibration;
    how.held_out = 0;
    if (s->options.sensitivity == HT_SENSITIVITY_KL)
        how.held_out = s->options.exchanges ? s->options.exchanges : EXCHANGES;
    HT_TRY(ht_samples_read(ht_checkpoint_path(s->checkpoint), &how, &s->arena, &s->samples));
    if (how.held_out && !s->samples.held_out) { /* the last of what there is */
        if (s->samples.count < 2)
            return ht_fail(HT_ERR_ARGUMENT, "%s: the text has one sample; KL needs two: give more text", how.data);
        s->samples.held_out = s->samples.count / 4 + 1;
        s->samples.held_out = s->samples.held_out < how.held_out ? s->samples.held_out : how.held_out;
        s->samples.count -= s->samples.held_out;
    }
    return HT_OK;
}

static ht_status prepare(ht_search *s, uint64_t *budget) {
    HT_TRY(check_options(&s->options));
    HT_TRY(ht_search_offers(s));
    const ht_calibration_options none = {0};
    HT_TRY(ht_calibration_resolve(&s->options.calibration, &none, &s->calibration));
    s->chosen = ht_arena_alloc(&s->arena, (s->units + 1) * sizeof *s->chosen);
    if (!s->chosen)
        return HT_ERR_MEMORY;
    count_tensors(s);
    HT_TRY(check_target(s));
    HT_TRY(find_budget(s, budget));
    HT_TRY(read_text(s));
    for (size_t u = 0; u < s->units; u++)
        s->unit[u].reference = SIZE_MAX;
    if (s->options.sensitivity == HT_SENSITIVITY_KL)
        choose_references(s, *budget);
    return HT_OK;
}

static ht_status run(ht_search *s) {
    uint64_t budget;
    HT_TRY(prepare(s, &budget));
    HT_TRY(ht_search_measure_all(s));
    predict(s);
    count_tensors(s);
    HT_TRY(find_budget(s, &budget));
    judge_uniform(s, budget);
    HT_TRY(draw_frontier(s));
    HT_TRY(choose_within(s, budget));
    for (size_t u = 0; u < s->units; u++)
        s->candidate[s->chosen[u]].row.weights += s->unit[u].row.weights;
    return HT_OK;
}

static void fill_options(ht_search *s, const ht_search_options *options) {
    s->options = *options;
    if (!s->options.method)
        s->options.method = "gptq";
    if (!s->options.profile)
        s->options.profile = "compressed-tensors";
}

ht_status ht_search_run(ht_context *ctx, const char *model, const ht_search_options *options, ht_search **out) {
    ht_search *s;
    double start = ht_seconds();
    *out = NULL;
    HT_TRY(ht_allocate(ctx, 1, sizeof *s, "search", &s));
    s->ctx = ctx;
    s->reference = SIZE_MAX;
    ht_arena_init(&s->arena, ctx);
    fill_options(s, options);
    ht_status status = ht_checkpoint_open(ctx, model, &s->checkpoint);
    if (status == HT_OK)
        status = run(s);
    if (status != HT_OK) {
        ht_search_close(s);
        return status;
    }
    s->summary.samples = s->samples.count;
    s->summary.length = s->samples.length;
    s->summary.exchanges = s->reference == SIZE_MAX ? 0 : s->samples.held_out;
    s->summary.reference = s->reference;
    s->summary.seconds = ht_seconds() - start;
    *out = s;
    return HT_OK;
}

void ht_search_close(ht_search *s) {
    if (!s)
        return;
    for (size_t c = 0; c < s->candidates; c++)
        ht_plan_destroy(s->candidate[c].plan);
    ht_checkpoint_close(s->checkpoint);
    ht_text_free(&s->recipe);
    ht_arena_release(&s->arena);
    ht_release(s->ctx, s);
}

/* --- Rows -------------------------------------------------------------------------------------------------------- */

const ht_search_candidate *ht_search_candidate_at(const ht_search *search, size_t index) {
    return index < search->candidates ? &search->candidate[index].row : NULL;
}

const ht_search_unit *ht_search_unit_at(const ht_search *search, size_t index) {
    return index < search->units ? &search->unit[index].row : NULL;
}

const char *ht_search_unit_tensor(const ht_search *search, size_t unit, size_t index) {
    if (unit >= search->units || index >= search->unit[unit].row.tensors)
        return NULL;
    return ht_checkpoint_parameter(search->checkpoint, search->unit[unit].parameter[index])->name;
}

const ht_search_point *ht_search_point_at(const ht_search *search, size_t index) {
    return index < search->points ? &search->point[index] : NULL;
}

ht_search_summary ht_search_summarize(const ht_search *search) {
    return search->summary;
}

const char *ht_search_recipe(const ht_search *search) {
    return search->recipe.data;
}
