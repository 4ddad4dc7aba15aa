/* Calibrated runs: rounding gives the bytes of a run without text in every mode and for every family; text and options
 * that cannot be used. */
#include <halftone/quant.h>

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "calibrated.h"
#include "support/check.h"

enum { MODES = HT_CALIBRATE_TRUE_SEQUENTIAL };

/* Outputs as if never calibrated: the record in config.json says the same, because text is no part of a recipe. */
static void test_rounding(void) {
    static const char *const SCHEMES[] = {"nvfp4", "int8-g32-w", NULL};
    for (size_t f = 0; calibrated_families[f]; f++)
        for (size_t s = 0; SCHEMES[s]; s++) {
            const char *input = calibrated_family(calibrated_families[f]), *plain = calibrated_fresh();
            calibrated run = calibrated_run(SCHEMES[s], "rtn", 3, 40);
            calibrated none = run;
            none.options.calibration = (ht_calibration_options){0};
            if (!CHECK_OK(calibrated_quantize(&none, input, plain, NULL, NULL)))
                continue;
            for (int mode = 1; mode <= MODES; mode++) {
                const char *out = calibrated_fresh();
                ht_plan_tensor *rows;
                size_t count, known = 0;
                run.options.calibration.mode = (ht_calibration_mode)mode;
                if (!CHECK_OK(calibrated_quantize(&run, input, out, &rows, &count)))
                    continue;
                CHECK(calibrated_same(plain, out));
                for (size_t i = 0; i < count; i++)
                    known += rows[i].loss > 0;
                CHECK(known > 0);
                free(rows);
                calibrated_remove(out);
            }
            calibrated_remove(plain);
        }
}

static void check_refused(const calibrated *run, const char *input, ht_status status, const char *message) {
    const char *out = calibrated_fresh();
    CHECK_FAILS(calibrated_quantize(run, input, out, NULL, NULL), status);
    CHECK_CONTAINS(ht_error_message(), message);
    char command[700];
    snprintf(command, sizeof command, "test ! -e '%s'", out);
    CHECK_INT(system(command), 0); /* nothing is left behind */
}

static void write_text(const char *path, const char *text) {
    FILE *file = fopen(path, "w");
    CHECK(file != NULL);
    fputs(text, file);
    fclose(file);
}

static void test_refusals(void) {
    const char *input = calibrated_family("llama"), *text = calibrated_fresh(), *moe = calibrated_family("mixtral");
    calibrated run = calibrated_run("nvfp4", "rtn", 2, 32), other = run;
    other.options.calibration.data = "/nonexistent/text";
    check_refused(&other, input, HT_ERR_IO, "/nonexistent/text");
    write_text(text, "Thirty-one bytes, no more, here");
    other.options.calibration.data = text;
    check_refused(&other, input, HT_ERR_ARGUMENT, "the text has 31 tokens, a sample needs 32");
    write_text(text, "");
    check_refused(&other, input, HT_ERR_ARGUMENT, "the text has 0 tokens");
    other = run;
    other.options.calibration.length = 1;
    check_refused(&other, input, HT_ERR_ARGUMENT, "samples of 1 tokens");
    other.options.calibration.length = 257;
    check_refused(&other, input, HT_ERR_ARGUMENT, "the model's context is 256");
    other = run;
    other.options.calibration.experts = "top-k+0";
    check_refused(&other, moe, HT_ERR_ARGUMENT, "allowed: routed, all, top-k+N");
}

int main(void) {
    RUN(test_rounding);
    RUN(test_refusals);
    return check_finish();
}
