/* ht_cuda_attention: checks, choice of the compiled shape, tensor maps, launch.
 *
 * One block a multiprocessor walks over the tiles. Without causality they are numbered in sections of heads whose keys
 * and values fill at most 16 MiB, so that blocks that run at the same time read them from L2. With it the longest rows
 * of all heads come first and every other round runs backwards, which evens the blocks out to about one percent.
 * Source: training and attention specification, section 4.2.
 * SPDX-License-Identifier: BSD-3-Clause */
#include "kernels/cuda/attention_launch.h"

#include <math.h>

static size_t element_bytes(ht_dtype dtype) {
    return dtype == HT_F8_E4M3 ? 1 : 2;
}

static int aligned(const ht_cuda_attention_operand *x, size_t bytes) {
    return (uintptr_t)x->data % 16 == 0 && (x->batch * bytes | x->row * bytes | x->head * bytes) % 16 == 0;
}

static const ht_attention_entry *find(const ht_cuda_attention_args *a) {
    if (a->dtype == HT_F8_E4M3)
        return ht_attention_find_fp8(a->head_dim, a->promote);
    return ht_attention_find_16(a->dtype, a->head_dim);
}

const char *ht_cuda_attention_refuses(const ht_cuda_attention_args *a) {
    int multiprocessors, capability;
    if (ht_cuda_device_shape(&multiprocessors, &capability) != HT_OK)
        return "there is no GPU";
    if (capability != 90)
        return "it needs a Hopper GPU (compute capability 9.0)";
    if (!find(a))
        return "no kernel for this head dim and dtype";
    if (a->dtype == HT_F8_E4M3 && a->q_offsets)
        return "packed sequences are for 16-bit inputs";
    if (!(a->scale > 0) || !isfinite(a->scale))
        return "the scale must be positive";
    if (a->q_rows > INT_MAX / 4 || a->kv_rows > INT_MAX / 4 || a->window > INT_MAX / 4)
        return "more rows than it counts";
    if (a->dtype != HT_F8_E4M3 && (!aligned(&a->q, 2) || !aligned(&a->k, 2) || !aligned(&a->v, 2)))
        return "an operand is not on 16 bytes";
    if ((uintptr_t)a->out % 16 || (a->out_batch | a->out_row | a->out_head) % 8)
        return "the output is not on 16 bytes";
    if (!a->kv_heads || a->heads % a->kv_heads)
        return "heads are not a multiple of kv heads";
    return NULL;
}

static void fill_job(const ht_cuda_attention_args *a, const ht_attention_entry *e, ht_attention_job *job) {
    const size_t head_bytes = 2 * a->kv_rows * a->head_dim * element_bytes(a->dtype), group = a->heads / a->kv_heads;
    size_t section = (16 << 20) / (head_bytes ? head_bytes : 1) * group;
    job->heads = (int)a->heads;
    job->kv_heads = (int)a->kv_heads;
    job->group = (int)group;
    job->batch = (int)a->batch;
    job->q_rows = (int)a->q_rows;
    job->kv_rows = (int)a->kv_rows;
    job->m_tiles = (int)ht_ceil_div(a->q_rows, e->bm);
    section = section < group ? group : section;
    if (a->causal) /* all heads together: the longest rows of all start first, and the shortest end the last round */
        section = a->batch * a->heads;
    job->section = (int)(section < a->batch * a->heads ? section : a->batch * a->heads);
    job->tiles = job->m_tiles * job->heads * job->batch;
    job->causal = a->causal;
    job->window = (int)a->window;
    job->scale = a->scale * 1.4426950408889634f;
    job->sinks = a->sinks;
    job->q_offsets = a->q_offsets;
    job->kv_offsets = a->kv_offsets;
    job->q_total = a->q_total;
    job->out = a->out;
    job->out_batch = a->out_batch;
    job->out_row = a->out_row;
    job->out_head = a->out_head;
    job->lse = a->lse;
    job->out_f16 = a->out_dtype == HT_F16;
    job->hadamard_v = a->hadamard_v;
}

/* q, k or v of 16 bits: [batch, heads, rows, dim], fastest last. */
static ht_status map_16(const ht_cuda_attention_args *a, const ht_cuda_attention_operand *x, size_t rows, size_t heads,
                        const ht_attention_entry *e, unsigned box_rows, CUtensorMap *map) {
    const size_t sizes[4] = {a->head_dim, rows, heads, a->q_offsets ? 1 : a->batch};
    const size_t steps[3] = {x->row, x->head, x->batch};
    const unsigned box[2] = {e->chunk / 2, box_rows};
    return ht_cuda_tensor_map_4d(
        map, a->dtype == HT_F16 ? CU_TENSOR_MAP_DATA_TYPE_FLOAT16 : CU_TENSOR_MAP_DATA_TYPE_BFLOAT16, 2, x->data, sizes,
        steps, box, e->chunk);
}

static ht_status maps_16(const ht_cuda_attention_args *a, const ht_attention_entry *e, CUtensorMap *maps) {
    const size_t q_rows = a->q_offsets ? a->q_total : a->q_rows, kv_rows = a->q_offsets ? a->kv_total : a->kv_rows;
    HT_TRY(map_16(a, &a->q, q_rows, a->heads, e, 64, &maps[0]));
    HT_TRY(map_16(a, &a->k, kv_rows, a->kv_heads, e, e->bn, &maps[1]));
    return map_16(a, &a->v, kv_rows, a->kv_heads, e, e->bn, &maps[2]);
}

static ht_status map_8(const void *base, size_t width, size_t rows, size_t heads, size_t batch, unsigned box_width,
                       unsigned box_rows, CUtensorMap *map) {
    const size_t sizes[4] = {width, rows, heads, batch}, steps[3] = {width, width * rows, width * rows * heads};
    const unsigned box[2] = {box_width, box_rows};
    return ht_cuda_tensor_map_4d(map, CU_TENSOR_MAP_DATA_TYPE_UINT8, 1, base, sizes, steps, box, box_width);
}

static ht_status maps_8(const ht_cuda_attention_args *a, const ht_attention_entry *e, CUtensorMap *maps,
                        const float **amax) {
    const ht_attention_quantized at = ht_attention_quantized_at((void *)a->quantized, a->batch, a->heads, a->kv_heads,
                                                                a->q_rows, a->kv_rows, a->head_dim);
    *amax = at.amax;
    HT_TRY(map_8(at.q, a->head_dim, a->q_rows, a->heads, a->batch, e->chunk, 64, &maps[0]));
    HT_TRY(map_8(at.k, a->head_dim, a->kv_rows, a->kv_heads, a->batch, e->chunk, e->bn, &maps[1]));
    return map_8(at.v, at.v_keys, a->head_dim, a->kv_heads, a->batch, e->v_chunk, (unsigned)a->head_dim, &maps[2]);
}

ht_status ht_cuda_attention(const ht_cuda_attention_args *a, ht_stream *stream) {
    int multiprocessors, capability;
    CUtensorMap maps[3] = {};
    ht_attention_job job = {};
    const char *why = ht_cuda_attention_refuses(a);
    if (why)
        return ht_fail(HT_ERR_UNSUPPORTED, "cuda attention: %s (head dim %zu, %s)", why, a->head_dim,
                       ht_dtype_name(a->dtype));
    if (a->batch == 0 || a->heads == 0 || a->q_rows == 0)
        return HT_OK;
    const ht_attention_entry *e = find(a);
    HT_TRY(ht_cuda_device_shape(&multiprocessors, &capability));
    if (a->batch * a->heads * ht_ceil_div(a->q_rows, e->bm) > INT_MAX / 2)
        return ht_fail(HT_ERR_SHAPE, "cuda attention: batch %zu, %zu heads, %zu queries are more tiles than it counts",
                       a->batch, a->heads, a->q_rows);
    fill_job(a, e, &job);
    if (a->kv_rows && a->dtype == HT_F8_E4M3)
        HT_TRY(maps_8(a, e, maps, &job.amax));
    else if (a->kv_rows && (!a->q_offsets || (a->q_total && a->kv_total)))
        HT_TRY(maps_16(a, e, maps));
    void *arguments[] = {&maps[0], &maps[1], &maps[2], &job};
    /* packed sequences differ in length: one block a tile, so that the hardware evens them out */
    const int blocks = a->q_offsets || job.tiles < multiprocessors ? job.tiles : multiprocessors;
    return ht_cuda_launch(e->kernel, e->name, (unsigned)blocks, e->threads, e->shared, 1, 0, ht_cuda_stream(stream),
                          arguments);
}
