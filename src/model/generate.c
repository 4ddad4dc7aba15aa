/* Continue a prompt: one prefill, then a token a pass.
 *
 * Ends at max_tokens, at an end-of-text token of the config (which is the last one given out), or when the callback
 * asks. Logits that are not finite end it with NUMERIC.
 * SPDX-License-Identifier: BSD-3-Clause */
#include "model/decoder.h"

#include "base/context.h"
#include "base/status.h"
#include "model/sampling.h"

struct generation {
    ht_model *model;
    ht_sequence *sequence;
    const ht_generate_options *options;
    float *logits;
    ht_token_choice *candidates;
};

static int is_end(const ht_decoder_config *config, int32_t id) {
    for (size_t i = 0; i < config->eos_count; i++)
        if (config->eos[i] == id)
            return 1;
    return 0;
}

static ht_status choose(const struct generation *g, size_t step, int32_t *id) {
    *id = ht_sample(g->logits, g->model->config.vocabulary, &g->options->sampling, step, g->candidates);
    if (*id < 0)
        return ht_fail(HT_ERR_NUMERIC, "generate: logits after %zu tokens are not finite",
                       ht_sequence_length(g->sequence));
    return HT_OK;
}

static ht_status decode(const struct generation *g, int32_t *ids_out, ht_generate_result *result) {
    while (result->count < g->options->max_tokens) {
        int32_t id;
        HT_TRY(choose(g, result->count, &id));
        ids_out[result->count++] = id;
        if (g->options->on_token && g->options->on_token(g->options->user, id))
            break;
        if (result->count == g->options->max_tokens || (!g->options->ignore_eos && is_end(&g->model->config, id)))
            break;
        HT_TRY(ht_model_forward(g->model, g->sequence, &id, 1, g->logits, 1));
    }
    return HT_OK;
}

static ht_status run(struct generation *g, const int32_t *prompt, size_t count, int32_t *ids_out,
                     ht_generate_result *result) {
    ht_context *ctx = g->model->ctx;
    size_t vocabulary = g->model->config.vocabulary;
    HT_TRY(ht_sequence_create(g->model, count + g->options->max_tokens, &g->sequence));
    HT_TRY(ht_allocate_raw(ctx, vocabulary, sizeof *g->logits, "logits", &g->logits));
    HT_TRY(ht_allocate_raw(ctx, vocabulary, sizeof *g->candidates, "candidates", &g->candidates));
    double start = ht_seconds();
    HT_TRY(ht_model_forward(g->model, g->sequence, prompt, count, g->logits, 1));
    result->prefill_tokens = count;
    result->prefill_seconds = ht_seconds() - start;
    start = ht_seconds();
    ht_status status = decode(g, ids_out, result);
    result->decode_seconds = ht_seconds() - start;
    return status;
}

ht_status ht_model_generate(ht_model *model, const int32_t *prompt, size_t prompt_count,
                            const ht_generate_options *options, int32_t *ids_out, ht_generate_result *result) {
    ht_generate_result ignored;
    result = result ? result : &ignored;
    *result = (ht_generate_result){0};
    if (prompt_count == 0)
        return ht_fail(HT_ERR_ARGUMENT, "generate: the prompt is empty, at least one token is needed");
    if (options->sampling.temperature < 0 || options->sampling.top_p < 0 || options->sampling.top_p > 1)
        return ht_fail(HT_ERR_ARGUMENT,
                       "generate: temperature %g and top_p %g: the first is at least 0, the second 0 to 1",
                       (double)options->sampling.temperature, (double)options->sampling.top_p);
    struct generation g = {.model = model, .options = options};
    ht_status status = run(&g, prompt, prompt_count, ids_out, result);
    ht_release(model->ctx, g.candidates);
    ht_release(model->ctx, g.logits);
    ht_sequence_destroy(g.sequence);
    return status;
}
