/* One offer for every unit, the least loss in sum, bytes within a budget. */
#ifndef HT_QUANT_SEARCH_BUDGET_H
#define HT_QUANT_SEARCH_BUDGET_H

#include <stddef.h>
#include <stdint.h>

#include <halftone/context.h>

typedef struct ht_offer {
    uint64_t bytes;
    double loss; /* >= 0; infinite: this unit cannot have it */
} ht_offer;

typedef struct ht_bargain {
    uint64_t bytes;
    double loss, bound; /* bound: no choice within the budget has less */
    int exact;          /* none has less than `loss` either */
} ht_bargain;

/* Fewest and most bytes that a choice can have, taking of each unit what it can have. */
void ht_budget_limits(const ht_offer *offers, size_t units, size_t each, uint64_t *least, uint64_t *most);

/* offers [units, each]; chosen [units] receives the index of each one's offer. Every unit has an offer that it can
 * have. Same choice for the same offers and budget. Fails with ARGUMENT when the budget is below the least, MEMORY. */
ht_status ht_budget_spend(ht_context *ctx, const ht_offer *offers, size_t units, size_t each, uint64_t budget,
                          size_t *chosen, ht_bargain *out);

#endif
