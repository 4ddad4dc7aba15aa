/* decode_checkpoint DIRECTORY OUT.safetensors: every parameter decoded to f32 under its float name, through the public
 * headers alone.
 * SPDX-License-Identifier: BSD-3-Clause */
#include <stdio.h>
#include <stdlib.h>

#include <halftone/halftone.h>

/* One parameter [batch, rows, cols], or its transpose undone, to out. */
static ht_status decode(const ht_parameter *parameter, float *out) {
    const ht_weight *weight = &parameter->weight;
    size_t size = weight->rows * weight->cols;
    for (size_t i = 0; i < weight->batch; i++) {
        ht_planes planes = ht_weight_planes(weight, i);
        ht_status status =
            ht_format_dequantize(&weight->format, &planes, weight->transposed ? weight->cols : weight->rows,
                                 weight->transposed ? weight->rows : weight->cols, out + i * size);
        if (status != HT_OK)
            return status;
    }
    return HT_OK;
}

int main(int argc, char **argv) {
    if (argc != 3) {
        fprintf(stderr, "usage: decode_checkpoint DIRECTORY OUT.safetensors\n");
        return 2;
    }
    ht_context *ctx = NULL;
    HT_CHECK(ht_context_create(NULL, &ctx));
    ht_checkpoint *checkpoint = NULL;
    HT_CHECK(ht_checkpoint_open(ctx, argv[1], &checkpoint));
    size_t count = ht_checkpoint_parameter_count(checkpoint);
    const char **names = calloc(count, sizeof *names);
    ht_tensor *tensors = calloc(count, sizeof *tensors);
    for (size_t i = 0; i < count; i++) {
        const ht_parameter *parameter = ht_checkpoint_parameter(checkpoint, i);
        names[i] = parameter->name;
        tensors[i] = ht_tensor_view(NULL, HT_F32, parameter->rank, parameter->shape);
        tensors[i].data = malloc(ht_tensor_bytes(&tensors[i]) + 1);
        HT_CHECK(decode(parameter, tensors[i].data));
    }
    HT_CHECK(ht_safetensors_save(ctx, argv[2], names, tensors, count, NULL));
    for (size_t i = 0; i < count; i++)
        free(tensors[i].data);
    free(tensors);
    free(names);
    ht_checkpoint_close(checkpoint);
    ht_context_destroy(ctx);
    return 0;
}
