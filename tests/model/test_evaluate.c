/* Evaluation and generation on a tiny model: against a direct computation, against itself, and what they refuse. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <halftone/model.h>

#include "model/decoder.h"
#include "model/sampling.h"
#include "support/check.h"

enum { IDS = 100, WINDOW = 16, WINDOWS = IDS / WINDOW, VOCABULARY = 320 };

static ht_context *ctx;
static ht_model *model, *other;
static int32_t ids[IDS];

static double log_probability(const float *logits, int32_t id) {
    double sum = 0, max = -1e30;
    for (size_t i = 0; i < VOCABULARY; i++)
        max = fmax(max, (double)logits[i]);
    for (size_t i = 0; i < VOCABULARY; i++)
        sum += exp((double)logits[i] - max);
    return (double)logits[id] - max - log(sum);
}

static int by_value(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* Everything that ht_evaluation holds, the slow way. */
static void test_against_definition(void) {
    static float a[WINDOW * VOCABULARY], b[WINDOW * VOCABULARY];
    ht_sequence *x, *y;
    REQUIRE_OK(ht_sequence_create(model, WINDOW, &x));
    REQUIRE_OK(ht_sequence_create(other, WINDOW, &y));
    double nll = 0, base = 0, kl = 0, agreed = 0, window_nll[WINDOWS] = {0}, window_base[WINDOWS] = {0};
    double window_kl[WINDOWS] = {0}, distances[WINDOWS * (WINDOW - 1)];
    uint64_t histogram[HT_KL_BINS] = {0};
    size_t positions = 0;
    for (size_t w = 0; w < WINDOWS; w++) {
        const int32_t *window = ids + w * WINDOW;
        ht_sequence_reset(x);
        ht_sequence_reset(y);
        CHECK_OK(ht_model_forward(model, x, window, WINDOW, a, WINDOW));
        CHECK_OK(ht_model_forward(other, y, window, WINDOW, b, WINDOW));
        for (size_t i = 0; i + 1 < WINDOW; i++) {
            const float *p = a + i * VOCABULARY, *q = b + i * VOCABULARY;
            double distance = 0;
            window_nll[w] -= log_probability(p, window[i + 1]) / (WINDOW - 1);
            nll -= log_probability(p, window[i + 1]);
            base -= log_probability(q, window[i + 1]);
            window_base[w] -= log_probability(q, window[i + 1]) / (WINDOW - 1);
            for (int32_t v = 0; v < VOCABULARY; v++)
                distance += exp(log_probability(q, v)) * (log_probability(q, v) - log_probability(p, v));
            kl += distance;
            window_kl[w] += distance / (WINDOW - 1);
            distances[positions++] = distance;
            size_t bin = distance < 1e-6 ? 0 : (size_t)(1 + floor(4 * (log10(distance) + 6)));
            histogram[bin < HT_KL_BINS ? bin : HT_KL_BINS - 1]++;
            agreed += ht_argmax(p, VOCABULARY) == ht_argmax(q, VOCABULARY);
        }
    }
    double tokens = WINDOWS * (WINDOW - 1), spread = 0, paired = 0, kl_spread = 0;
    for (size_t w = 0; w < WINDOWS; w++) {
        spread += pow(window_nll[w] - nll / tokens, 2);
        paired += pow(window_nll[w] - window_base[w] - (nll - base) / tokens, 2);
        kl_spread += pow(window_kl[w] - kl / tokens, 2);
    }
    qsort(distances, positions, sizeof *distances, by_value);
    ht_evaluate_options options = {.context = WINDOW, .against = other};
    ht_evaluation got;
    REQUIRE_OK(ht_model_evaluate(model, ids, IDS, &options, &got));
    CHECK_INT(got.windows, WINDOWS);
    CHECK_INT(got.tokens, (long long)tokens);
    CHECK_NEAR(got.nll, nll / tokens, 1e-6);
    CHECK_NEAR(got.perplexity, exp(nll / tokens), 1e-5);
    CHECK_NEAR(got.nll_stderr, sqrt(spread / (WINDOWS - 1) / (WINDOWS)), 1e-5);
    CHECK_NEAR(got.base_perplexity, exp(base / tokens), 1e-5);
    CHECK_NEAR(got.kl_mean, kl / tokens, 1e-5);
    CHECK_NEAR(got.top1_agreement, agreed / tokens, 1e-12);
    CHECK_NEAR(got.base_nll, base / tokens, 1e-6);
    CHECK_NEAR(got.nll_change, (nll - base) / tokens, 1e-5);
    CHECK_NEAR(got.nll_change_stderr, sqrt(paired / (WINDOWS - 1) / WINDOWS), 1e-5);
    CHECK_NEAR(got.kl_stderr, sqrt(kl_spread / (WINDOWS - 1) / WINDOWS), 1e-4);
    CHECK_NEAR(got.kl_median, distances[44], 1e-5); /* rank 45 of 90 */
    CHECK_NEAR(got.kl_p90, distances[80], 1e-5);
    CHECK_NEAR(got.kl_p95, distances[85], 1e-5); /* rank 86, 85.5 rounded up */
    CHECK_NEAR(got.kl_p99, distances[89], 1e-5);
    CHECK_NEAR(got.kl_p999, distances[89], 1e-5);
    CHECK_NEAR(got.kl_max, distances[89], 1e-5);
    CHECK_BYTES(got.kl_histogram, histogram, sizeof histogram);
    ht_sequence_destroy(x);
    ht_sequence_destroy(y);
}

static void test_against_itself(void) {
    ht_evaluate_options options = {.context = WINDOW, .against = model};
    ht_evaluation got;
    REQUIRE_OK(ht_model_evaluate(model, ids, IDS, &options, &got));
    CHECK(got.kl_mean == 0 && got.kl_p99 == 0 && got.top1_agreement == 1);
    CHECK(got.base_perplexity == got.perplexity && got.nll_change == 0 && got.nll_change_stderr == 0);
    CHECK(got.kl_median == 0 && got.kl_max == 0 && got.kl_stderr == 0 && got.top1_stderr == 0);
    CHECK_INT(got.kl_histogram[0], got.tokens);
    options.against = NULL;
    options.max_tokens = 2 * WINDOW + 3;
    REQUIRE_OK(ht_model_evaluate(model, ids, IDS, &options, &got));
    CHECK_INT(got.windows, 2);
    CHECK(isnan(got.kl_mean) && isnan(got.kl_max) && isnan(got.nll_change) && got.kl_histogram[0] == 0);
    options.max_tokens = WINDOW; /* one window has no spread */
    options.against = other;
    REQUIRE_OK(ht_model_evaluate(model, ids, IDS, &options, &got));
    CHECK(isnan(got.nll_stderr) && isnan(got.nll_change_stderr) && isfinite(got.nll_change));
}

/* The same bits for any number of threads. */
static void test_threads(void) {
    ht_evaluation got[3];
    for (size_t threads = 1; threads <= 3; threads++) {
        ht_context *own;
        ht_model *a, *b;
        ht_context_options how = ht_context_options_default();
        how.threads = threads;
        REQUIRE_OK(ht_context_create(&how, &own));
        REQUIRE_OK(ht_model_open(own, check_data("tiny/qwen3-moe"), &a));
        REQUIRE_OK(ht_model_open(own, check_data("tiny/llama"), &b));
        ht_evaluate_options options = {.context = WINDOW, .against = b};
        REQUIRE_OK(ht_model_evaluate(a, ids, IDS, &options, &got[threads - 1]));
        got[threads - 1].seconds = got[threads - 1].tokens_per_second = 0;
        CHECK_BYTES(&got[threads - 1], &got[0], sizeof got[0]);
        ht_model_close(a);
        ht_model_close(b);
        ht_context_destroy(own);
    }
}

static void test_refusals(void) {
    ht_evaluate_options options = {.context = 101};
    ht_evaluation got;
    CHECK_FAILS(ht_model_evaluate(model, ids, IDS, &options, &got), HT_ERR_ARGUMENT);
    CHECK_CONTAINS(ht_error_message(), "100 tokens, one window needs 101");
    options.context = 1;
    CHECK_FAILS(ht_model_evaluate(model, ids, IDS, &options, &got), HT_ERR_ARGUMENT);
    options.context = WINDOW;
    ids[5] = VOCABULARY;
    CHECK_FAILS(ht_model_evaluate(model, ids, IDS, &options, &got), HT_ERR_ARGUMENT);
    CHECK_CONTAINS(ht_error_message(), "token 5 has id 320, the vocabulary has 320");
    ids[5] = -1;
    ht_sequence *sequence;
    REQUIRE_OK(ht_sequence_create(model, 8, &sequence));
    CHECK_FAILS(ht_model_forward(model, sequence, ids, 6, NULL, 0), HT_ERR_ARGUMENT);
    ids[5] = 5;
    CHECK_FAILS(ht_model_forward(model, sequence, ids, 9, NULL, 0), HT_ERR_SHAPE);
    CHECK_CONTAINS(ht_error_message(), "capacity of 8");
    CHECK_OK(ht_model_forward(model, sequence, ids, 8, NULL, 0));
    CHECK_FAILS(ht_model_forward(model, sequence, ids, 1, NULL, 0), HT_ERR_SHAPE);
    CHECK_INT(ht_sequence_length(sequence), 8);
    ht_sequence_destroy(sequence);
    CHECK_FAILS(ht_sequence_create(model, 0, &sequence), HT_ERR_ARGUMENT);
    int32_t out[4];
    ht_generate_options generate = {.max_tokens = 4};
    CHECK_FAILS(ht_model_generate(model, ids, 0, &generate, out, NULL), HT_ERR_ARGUMENT);
}

/* A weight that is not finite is found out, not averaged. */
static void test_not_finite(void) {
    float *norm = malloc(model->config.hidden * sizeof *norm);
    const float *kept = model->final_norm;
    for (size_t i = 0; i < model->config.hidden; i++)
        norm[i] = NAN;
    model->final_norm = norm;
    ht_evaluate_options options = {.context = WINDOW};
    ht_evaluation got;
    CHECK_FAILS(ht_model_evaluate(model, ids, IDS, &options, &got), HT_ERR_NUMERIC);
    CHECK_CONTAINS(ht_error_message(), "window 0, position 0");
    int32_t out[4];
    ht_generate_options generate = {.max_tokens = 4};
    CHECK_FAILS(ht_model_generate(model, ids, 3, &generate, out, NULL), HT_ERR_NUMERIC);
    model->final_norm = kept;
    free(norm);
}

static int count_calls(void *user, int32_t id) {
    (void)id;
    return ++*(int *)user == 3;
}

static void test_generate(void) {
    int32_t a[8], b[8];
    int calls = 0;
    ht_generate_result result;
    ht_generate_options options = {.max_tokens = 8, .ignore_eos = 1, .on_token = count_calls, .user = &calls};
    CHECK_OK(ht_model_generate(model, ids, 4, &options, a, &result));
    CHECK_INT(result.count, 3); /* the callback stopped it */
    CHECK_INT(result.prefill_tokens, 4);
    options =
        (ht_generate_options){.max_tokens = 8, .ignore_eos = 1, .sampling = {.temperature = 1, .top_p = 1, .seed = 5}};
    CHECK_OK(ht_model_generate(model, ids, 4, &options, a, &result));
    CHECK_OK(ht_model_generate(model, ids, 4, &options, b, &result));
    CHECK_BYTES(a, b, sizeof a);
    options.sampling.seed = 6;
    CHECK_OK(ht_model_generate(model, ids, 4, &options, b, &result));
    CHECK(memcmp(a, b, sizeof a) != 0);
    model->config.eos_count = 1;
    CHECK_OK(ht_model_generate(model, ids, 4, &(ht_generate_options){.max_tokens = 1}, a, &result));
    model->config.eos[0] = a[0]; /* what it says first is now the end */
    CHECK_OK(ht_model_generate(model, ids, 4, &(ht_generate_options){.max_tokens = 8}, a, &result));
    CHECK_INT(result.count, 1);
}

static void test_sampling(void) {
    float logits[5] = {1, 3, 3, -INFINITY, 2};
    ht_token_choice scratch[5];
    CHECK_INT(ht_argmax(logits, 5), 1); /* the lower id of a tie */
    ht_sampling sampling = {.temperature = 1, .top_p = 1, .top_k = 2, .seed = 1};
    int seen[5] = {0};
    for (uint64_t step = 0; step < 400; step++)
        seen[ht_sample(logits, 5, &sampling, step, scratch)]++;
    CHECK(seen[1] > 140 && seen[2] > 140 && seen[1] + seen[2] == 400);
    sampling = (ht_sampling){.temperature = 1, .top_p = 0.3f, .seed = 1};
    for (uint64_t step = 0; step < 50; step++)
        CHECK_INT(ht_sample(logits, 5, &sampling, step, scratch), 1);
    sampling = (ht_sampling){.temperature = 1, .top_p = 1, .seed = 2};
    memset(seen, 0, sizeof seen);
    for (uint64_t step = 0; step < 4000; step++)
        seen[ht_sample(logits, 5, &sampling, step, scratch)]++;
    double total = 2 * exp(3) + exp(2) + exp(1);
    CHECK_WITHIN(seen[1] / 4000.0, exp(3) / total, 0.03);
    CHECK_WITHIN(seen[4] / 4000.0, exp(2) / total, 0.03);
    CHECK_INT(seen[3], 0);
    logits[0] = NAN;
    CHECK_INT(ht_argmax(logits, 5), -1);
    CHECK_INT(ht_sample(logits, 5, &sampling, 0, scratch), -1);
}

static void test_cancel(void) {
    ht_evaluate_options options = {.context = WINDOW};
    ht_evaluation got;
    ht_context_cancel(ctx);
    CHECK_FAILS(ht_model_evaluate(model, ids, IDS, &options, &got), HT_ERR_CANCELLED);
}

int main(void) {
    if (ht_context_create(NULL, &ctx) != HT_OK || ht_model_open(ctx, check_data("tiny/llama"), &model) != HT_OK ||
        ht_model_open(ctx, check_data("tiny/qwen3-moe"), &other) != HT_OK)
        return 1;
    for (size_t i = 0; i < IDS; i++)
        ids[i] = (int32_t)(i * 37 % VOCABULARY);
    RUN(test_against_definition);
    RUN(test_against_itself);
    RUN(test_threads);
    RUN(test_refusals);
    RUN(test_not_finite);
    RUN(test_sampling);
    RUN(test_generate);
    RUN(test_cancel);
    ht_model_close(model);
    ht_model_close(other);
    ht_context_destroy(ctx);
    return check_finish();
}
