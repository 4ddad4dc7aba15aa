/* Methods of a rule joined by '+': one of each stage, in the order in which they are done.
 * SPDX-License-Identifier: BSD-3-Clause */
#include <stdio.h>  /* snprintf */
#include <string.h> /* strcspn */

#include "base/status.h"
#include "quant/method/methods.h"

enum { LONGEST_METHOD = 32 };

static const char *const stage_names[HT_STAGE_COUNT] = {[HT_STAGE_REFINE] = "refines",
                                                        [HT_STAGE_ROUND] = "rounds",
                                                        [HT_STAGE_INPUTS] = "transforms inputs",
                                                        [HT_STAGE_SCALE] = "scales inputs",
                                                        [HT_STAGE_ROTATE] = "rotates"};

static ht_status add(ht_chain *chain, const ht_method *method) {
    const ht_method *before = chain->stage[method->stage];
    if (before)
        return ht_fail(HT_ERR_ARGUMENT, "methods %s and %s do not go together: each %s", before->item.name,
                       method->item.name, stage_names[method->stage]);
    for (int earlier = 0; earlier < (int)method->stage; earlier++)
        if (chain->stage[earlier])
            return ht_fail(HT_ERR_ARGUMENT, "method %s %s, which comes before %s: write %s+%s", method->item.name,
                           stage_names[method->stage], chain->stage[earlier]->item.name, method->item.name,
                           chain->stage[earlier]->item.name);
    chain->stage[method->stage] = method;
    return HT_OK;
}

ht_status ht_chain_parse(const char *text, ht_chain *out) {
    *out = (ht_chain){.name = ""};
    for (const char *at = text;; at++) {
        char name[LONGEST_METHOD];
        size_t length = strcspn(at, "+");
        const ht_method *method;
        snprintf(name, sizeof name, "%.*s", length < sizeof name ? (int)length : (int)sizeof name - 1, at);
        HT_TRY(ht_method_find(name, &method));
        HT_TRY(add(out, method));
        at += length;
        if (!*at)
            break;
    }
    if (!out->stage[HT_STAGE_ROUND])
        HT_TRY(ht_method_find("rtn", &out->stage[HT_STAGE_ROUND]));
    size_t used = 0;
    for (int stage = HT_STAGE_COUNT - 1; stage >= 0; stage--)
        if (out->stage[stage] && used < sizeof out->name)
            used += (size_t)snprintf(out->name + used, sizeof out->name - used, "%s%s", used ? "+" : "",
                                     out->stage[stage]->item.name);
    return HT_OK;
}

int ht_chain_has(const ht_chain *chain, const ht_method *method) {
    return chain->stage[method->stage] == method;
}

int ht_chain_needs_data(const ht_chain *chain) {
    for (int stage = 0; stage < HT_STAGE_COUNT; stage++)
        if (chain->stage[stage] && chain->stage[stage]->needs_data)
            return 1;
    return 0;
}

ht_status ht_chain_accepts(const ht_chain *chain, const ht_scheme *scheme) {
    for (int stage = 0; stage < HT_STAGE_COUNT; stage++)
        if (chain->stage[stage] && chain->stage[stage]->accepts)
            HT_TRY(chain->stage[stage]->accepts(scheme));
    return HT_OK;
}

ht_status ht_chain_fits(const ht_chain *chain, const ht_scheme *scheme, const ht_settings *settings) {
    for (int stage = 0; stage < HT_STAGE_COUNT; stage++)
        if (chain->stage[stage] && chain->stage[stage]->fits)
            HT_TRY(chain->stage[stage]->fits(scheme, settings));
    return HT_OK;
}
