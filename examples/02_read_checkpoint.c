/* What is in a checkpoint: parameters by size, whatever the files call their parts.
 *
 *     cc 02_read_checkpoint.c -o read_checkpoint $(pkg-config --cflags --libs halftone) -lm
 *     ./read_checkpoint MODEL      a Hugging Face directory, a safetensors or a GGUF file
 *
 * Opening validates every header and reads no weights: tensors are views of the mapped files, valid until the
 * checkpoint is closed. A quantized weight is one parameter even when it is stored as codes, scales and more.
 * SPDX-License-Identifier: BSD-3-Clause */
#include <stdio.h>
#include <stdlib.h>

#include <halftone/checkpoint.h>

/* Mean and largest magnitude of a parameter, decoded one row at a time. */
static void describe(const ht_parameter *p) {
    const ht_weight *w = &p->weight;
    char format[64];
    double sum = 0, most = 0;
    float *row = malloc(w->cols * sizeof *row);
    if (!row || w->transposed) {
        free(row);
        return;
    }
    for (size_t b = 0; b < w->batch; b++) {
        ht_planes planes = ht_weight_planes(w, b);
        size_t step = ht_format_row_step(&w->format);
        for (size_t r = 0; step == 1 && r < w->rows; r++) {
            ht_planes at = ht_planes_at_row(&w->format, &planes, w->cols, r);
            HT_CHECK(ht_format_dequantize(&w->format, &at, 1, w->cols, row));
            for (size_t c = 0; c < w->cols; c++) {
                double value = row[c] < 0 ? -(double)row[c] : (double)row[c];
                sum += value;
                most = value > most ? value : most;
            }
        }
    }
    ht_format_name(&w->format, format, sizeof format);
    printf("  %-50s %-12s %zu x %zu x %zu  mean |w| %.5f  max %.5f\n", p->name, format, w->batch, w->rows, w->cols,
           sum / ((double)w->batch * (double)w->rows * (double)w->cols), most);
    free(row);
}

int main(int argc, char **argv) {
    if (argc < 2) {
        fprintf(stderr, "usage: read_checkpoint MODEL\n");
        return 2;
    }
    ht_context *ctx = NULL;
    ht_checkpoint *checkpoint = NULL;
    HT_CHECK(ht_context_create(NULL, &ctx));
    HT_CHECK(ht_checkpoint_open(ctx, argv[1], &checkpoint));

    const char *architecture = ht_checkpoint_architecture(checkpoint);
    printf("%s: %s, %s, %zu stored tensors, %zu parameters\n", ht_checkpoint_path(checkpoint),
           ht_checkpoint_kind(checkpoint), architecture ? architecture : "no architecture",
           ht_checkpoint_tensor_count(checkpoint), ht_checkpoint_parameter_count(checkpoint));
    for (size_t i = 0; ht_checkpoint_parameter(checkpoint, i); i++)
        describe(ht_checkpoint_parameter(checkpoint, i));

    ht_checkpoint_close(checkpoint);
    ht_context_destroy(ctx);
    return 0;
}
