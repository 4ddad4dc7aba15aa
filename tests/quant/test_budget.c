/* Spending a budget: against every choice there is, on small cases; large cases within the bound. */
#include "quant/search/budget.h"

#include <math.h>
#include <stdlib.h>

#include "support/check.h"

enum { UNITS = 6, EACH = 5 };

static uint64_t state = 1;

static double random_unit(void) {
    state = state * 6364136223846793005u + 1442695040888963407u;
    return (double)(state >> 40) / 0x1p24;
}

/* Loss falls with bytes on the whole, with noise; some offers cannot be had. */
static void fill(ht_offer *offers, size_t units, size_t each, uint64_t step) {
    for (size_t u = 0; u < units; u++) {
        double weight = exp(6 * random_unit());
        for (size_t i = 0; i < each; i++) {
            uint64_t bytes = (uint64_t)(10 + 90 * random_unit()) * step;
            double loss = weight * exp(-(double)bytes / (double)step / 20) * (0.5 + random_unit());
            offers[u * each + i] = (ht_offer){bytes, i && random_unit() < 0.1 ? (double)INFINITY : loss};
        }
    }
}

static double brute(const ht_offer *offers, uint64_t budget) {
    double best = INFINITY;
    size_t at[UNITS] = {0};
    for (;;) {
        uint64_t bytes = 0;
        double loss = 0;
        for (size_t u = 0; u < UNITS; u++) {
            bytes += offers[u * EACH + at[u]].bytes;
            loss += offers[u * EACH + at[u]].loss;
        }
        best = bytes <= budget && loss < best ? loss : best;
        size_t u = 0;
        while (u < UNITS && ++at[u] == EACH)
            at[u++] = 0;
        if (u == UNITS)
            return best;
    }
}

static void test_brute_force(void) {
    ht_context *ctx;
    REQUIRE_OK(ht_context_create(NULL, &ctx));
    for (int round = 0; round < 200; round++) {
        ht_offer offers[UNITS * EACH];
        uint64_t least, most;
        fill(offers, UNITS, EACH, round % 3 ? 1 : 4096);
        ht_budget_limits(offers, UNITS, EACH, &least, &most);
        for (int part = 0; part <= 8; part++) {
            uint64_t budget = least + (most - least) * (uint64_t)part / 8, bytes = 0;
            size_t chosen[UNITS];
            double loss = 0;
            ht_bargain found;
            if (!CHECK_OK(ht_budget_spend(ctx, offers, UNITS, EACH, budget, chosen, &found)))
                continue;
            for (size_t u = 0; u < UNITS; u++) {
                bytes += offers[u * EACH + chosen[u]].bytes;
                loss += offers[u * EACH + chosen[u]].loss;
            }
            CHECK(found.exact);
            CHECK(bytes <= budget);
            CHECK_INT(found.bytes, bytes);
            CHECK_NEAR(found.loss, loss, 1e-12);
            CHECK_NEAR(loss, brute(offers, budget), 1e-12);
            CHECK(found.bound <= found.loss);
        }
    }
    ht_context_destroy(ctx);
}

/* Many units: the choice is near the bound, fits, is the same again, and never gets worse with more to spend. */
static void test_large(void) {
    enum { MANY = 400, KINDS = 16 };
    ht_context *ctx;
    REQUIRE_OK(ht_context_create(NULL, &ctx));
    ht_offer *offers = malloc(MANY * KINDS * sizeof *offers);
    size_t chosen[MANY], again[MANY];
    uint64_t least, most;
    double before = INFINITY;
    REQUIRE(offers != NULL);
    fill(offers, MANY, KINDS, 1000);
    ht_budget_limits(offers, MANY, KINDS, &least, &most);
    for (uint64_t part = 0; part <= 10; part++) {
        uint64_t budget = least + (most - least) * part / 10;
        ht_bargain found, second;
        CHECK_OK(ht_budget_spend(ctx, offers, MANY, KINDS, budget, chosen, &found));
        CHECK_OK(ht_budget_spend(ctx, offers, MANY, KINDS, budget, again, &second));
        CHECK_BYTES(chosen, again, sizeof chosen);
        CHECK(found.bytes <= budget);
        CHECK(found.loss <= before);
        CHECK(found.loss - found.bound <= 1e-3 * found.loss);
        before = found.loss;
    }
    free(offers);
    ht_context_destroy(ctx);
}

static void test_refused(void) {
    ht_context *ctx;
    REQUIRE_OK(ht_context_create(NULL, &ctx));
    const ht_offer offers[] = {{10, 3}, {20, 1}, {30, 5}, {12, 2}};
    size_t chosen[2];
    ht_bargain found;
    CHECK_FAILS(ht_budget_spend(ctx, offers, 2, 2, 21, chosen, &found), HT_ERR_ARGUMENT);
    CHECK_CONTAINS(ht_error_message(), "21");
    CHECK_CONTAINS(ht_error_message(), "22");
    CHECK_OK(ht_budget_spend(ctx, offers, 2, 2, 22, chosen, &found));
    CHECK(chosen[0] == 0 && chosen[1] == 1);
    CHECK_OK(ht_budget_spend(ctx, offers, 2, 2, UINT64_MAX, chosen, &found));
    CHECK(chosen[0] == 1 && chosen[1] == 1 && found.loss == 3 && found.bound == 3);
    CHECK_OK(ht_budget_spend(ctx, offers, 0, 2, 0, chosen, &found));
    CHECK(found.bytes == 0 && found.loss == 0);
    ht_context_destroy(ctx);
}

int main(void) {
    RUN(test_brute_force);
    RUN(test_large);
    RUN(test_refused);
    return check_finish();
}
