/* Fingerprint of a run: what must be equal for a stopped run to be gone on with.
 *
 * The input is known by its content, not by path or time: names, dtypes and shapes of all tensors, the config, and of
 * every tensor 64 bytes at its start, middle and end. That costs three pages a tensor instead of the whole file, and a
 * model trained further differs in nearly all of them. Threads, chunk and memory limit do not change a byte of the
 * result and are left out.
 * SPDX-License-Identifier: BSD-3-Clause */
#include <inttypes.h> /* PRIx64 */
#include <string.h>   /* strlen */

#include <xxhash.h>

#include "base/status.h"
#include "quant/decode.h"
#include "quant/driver.h"

enum { SAMPLE = 64 };

static void hash_tensor(XXH64_state_t *state, const ht_stored_tensor *tensor) {
    uint64_t shape[HT_MAX_RANK + 2] = {(uint64_t)tensor->dtype, tensor->rank};
    for (unsigned i = 0; i < tensor->rank; i++)
        shape[2 + i] = tensor->shape[i];
    XXH64_update(state, tensor->name, strlen(tensor->name) + 1);
    XXH64_update(state, shape, sizeof shape);
    const unsigned char *data = tensor->data;
    size_t bytes = tensor->bytes;
    if (bytes <= 3 * SAMPLE) {
        XXH64_update(state, bytes ? data : NULL, bytes);
        return;
    }
    XXH64_update(state, data, SAMPLE);
    XXH64_update(state, data + bytes / 2, SAMPLE);
    XXH64_update(state, data + bytes - SAMPLE, SAMPLE);
}

static ht_status hash_input(const ht_checkpoint *checkpoint, uint64_t *out) {
    XXH64_state_t *state = XXH64_createState();
    if (!state)
        return ht_fail(HT_ERR_MEMORY, "fingerprint: the system has no memory left");
    XXH64_reset(state, 0);
    for (size_t i = 0; i < ht_checkpoint_tensor_count(checkpoint); i++) {
        const ht_stored_tensor *tensor = ht_checkpoint_tensor(checkpoint, i);
        hash_tensor(state, tensor);
        ht_pages_done_with(checkpoint, tensor, 0, tensor->bytes); /* the kernel maps the neighbours, too */
    }
    *out = XXH64_digest(state);
    XXH64_freeState(state);
    return HT_OK;
}

ht_status ht_run_fingerprint(const ht_plan *plan, const ht_checkpoint *checkpoint, const ht_quantize_options *options,
                             ht_text *out) {
    uint64_t input = 0;
    HT_TRY(hash_input(checkpoint, &input));
    const char *config = ht_checkpoint_config(checkpoint);
    const char *rule = options->scale_rule == HT_SCALE_DEFAULT
                           ? "default"
                           : ht_option_value_name(HT_OPTION_SCALE_RULE, (int)options->scale_rule);
    ht_text_printf(out, "program=%s\n", ht_version());
    ht_text_printf(out, "input=%016" PRIx64 "\n", input);
    ht_text_printf(out, "config=%016" PRIx64 "\n", config ? (uint64_t)XXH64(config, strlen(config), 0) : (uint64_t)0);
    ht_text_printf(out, "recipe=%016" PRIx64 "\n", (uint64_t)XXH64(plan->recipe->text, plan->recipe->text_bytes, 0));
    if (*plan->recipe->presets)
        ht_text_printf(out, "presets=%016" PRIx64 "\n",
                       (uint64_t)XXH64(plan->recipe->presets, strlen(plan->recipe->presets), 0));
    ht_text_printf(out, "profile=%s\n", plan->profile->name);
    ht_text_printf(out, "scale_rule=%s\n", rule ? rule : "?");
    ht_text_printf(out, "scale_dtype=%s\n", options->scale_dtype == HT_BF16 ? "bf16" : "default");
    ht_text_printf(out, "shard_bytes=%" PRIu64 "\n", options->shard_bytes);
    if (plan->samples.ids) {
        char experts[32];
        ht_calibration_experts_name(plan->calibration.spread, experts);
        ht_text_printf(out, "samples=%zu\n", plan->samples.count);
        ht_text_printf(out, "length=%zu\n", plan->samples.length);
        ht_text_printf(out, "held_out=%zu\n", plan->samples.held_out);
        ht_text_printf(out, "mode=%s\n", ht_calibration_mode_name(plan->calibration.mode));
        ht_text_printf(out, "experts=%s\n", experts);
        ht_text_printf(out, "data=%016" PRIx64 "\n", plan->samples.hash);
    }
    return ht_text_check(out);
}
