/* Figures of an evaluation by name: what JSON results and reports have in common.
 *
 * SPDX-License-Identifier: BSD-3-Clause */
#include <stddef.h> /* offsetof */
#include <string.h> /* memcpy */

#include <halftone/model.h>

static const struct {
    const char *name;
    size_t offset;
} table[] = {{"perplexity", offsetof(ht_evaluation, perplexity)},
             {"nll", offsetof(ht_evaluation, nll)},
             {"nll_stderr", offsetof(ht_evaluation, nll_stderr)},
             {"seconds", offsetof(ht_evaluation, seconds)},
             {"tokens_per_second", offsetof(ht_evaluation, tokens_per_second)},
             {"base_perplexity", offsetof(ht_evaluation, base_perplexity)},
             {"base_nll", offsetof(ht_evaluation, base_nll)},
             {"base_nll_stderr", offsetof(ht_evaluation, base_nll_stderr)},
             {"nll_change", offsetof(ht_evaluation, nll_change)},
             {"nll_change_stderr", offsetof(ht_evaluation, nll_change_stderr)},
             {"kl_mean", offsetof(ht_evaluation, kl_mean)},
             {"kl_stderr", offsetof(ht_evaluation, kl_stderr)},
             {"kl_median", offsetof(ht_evaluation, kl_median)},
             {"kl_p90", offsetof(ht_evaluation, kl_p90)},
             {"kl_p95", offsetof(ht_evaluation, kl_p95)},
             {"kl_p99", offsetof(ht_evaluation, kl_p99)},
             {"kl_p999", offsetof(ht_evaluation, kl_p999)},
             {"kl_max", offsetof(ht_evaluation, kl_max)},
             {"top1_agreement", offsetof(ht_evaluation, top1_agreement)},
             {"top1_stderr", offsetof(ht_evaluation, top1_stderr)}};

int ht_evaluation_figure(const ht_evaluation *evaluation, size_t index, ht_figure *out) {
    if (index >= sizeof table / sizeof *table)
        return 0;
    out->name = table[index].name;
    memcpy(&out->value, (const char *)evaluation + table[index].offset, sizeof out->value);
    return 1;
}
