/* Quantize a checkpoint by round-to-nearest, then prove that the result is what it should be.
 *
 *     cc 03_quantize_rtn.c -o quantize_rtn $(pkg-config --cflags --libs halftone) -lm
 *     ./quantize_rtn MODEL OUT [SCHEME]      default scheme mxfp4; `halftone list schemes` names the others
 *
 * OUT appears complete or not at all. A run that is killed leaves OUT/.halftone, and the next run with the same options
 * goes on from there to the same bytes.
 * SPDX-License-Identifier: BSD-3-Clause */
#include <stdio.h>
#include <stdlib.h>

#include <halftone/context.h>
#include <halftone/quant.h>

/* Called from this thread, often. */
static void show(void *user, const ht_progress *progress) {
    (void)user;
    if (progress->total && progress->done == progress->total)
        printf("%s: %llu %s in %.2f s\n", progress->stage, (unsigned long long)progress->done, progress->unit,
               progress->seconds);
}

int main(int argc, char **argv) {
    if (argc < 3) {
        fprintf(stderr, "usage: quantize_rtn MODEL OUT [SCHEME]\n");
        return 2;
    }
    ht_context *ctx = NULL;
    ht_context_options context = ht_context_options_default();
    context.progress = show;
    HT_CHECK(ht_context_create(&context, &ctx));

    ht_plan *plan = NULL;
    ht_quantize_options options = ht_quantize_options_default();
    options.scheme = argc > 3 ? argv[3] : "mxfp4";
    HT_CHECK(ht_quantize_checkpoint(ctx, argv[1], argv[2], &options, &plan));

    ht_plan_summary sum = ht_plan_summarize(plan);
    double worst = 0;
    for (size_t i = 0; i < ht_plan_count(plan); i++)
        worst = ht_plan_at(plan, i)->error > worst ? ht_plan_at(plan, i)->error : worst;
    printf("%zu tensors quantized, %zu kept: %llu bytes became %llu, worst relative error %.4f\n", sum.quantized,
           sum.kept, (unsigned long long)sum.bytes_before, (unsigned long long)sum.bytes_after, worst);
    ht_plan_destroy(plan);

    ht_verification *proof = NULL;
    HT_CHECK(ht_verify(ctx, argv[2], argv[1], NULL, &proof));
    for (size_t i = 0; ht_verification_check(proof, i); i++) {
        const ht_check *check = ht_verification_check(proof, i);
        printf("%s %s: %s\n", check->ok ? "ok  " : "FAIL", check->name, check->detail);
    }
    int ok = ht_verification_ok(proof);
    ht_verification_destroy(proof);
    ht_context_destroy(ctx);
    return ok ? 0 : 6;
}
