/* kernel_check: every row of the kernel tables that this machine can run, against the reference row.
 * kernel_check bench, kernel_check floats: the same rows timed, alternating with probes of the instruction they are
 * made of. */
#include "kernels/kernel_check.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/cpu.h"
#include "base/random.h"
#include "support/check.h"

uint32_t kernel_check_flags;

guarded guard_allocate(size_t bytes, int at_begin) {
    size_t page = (size_t)sysconf(_SC_PAGESIZE), body = (bytes + page - 1) / page * page;
    guarded g = {.map_bytes = body + 2 * page};
    g.map = mmap(NULL, g.map_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (g.map == MAP_FAILED)
        abort();
    mprotect(g.map, page, PROT_NONE);
    mprotect(g.map + page + body, page, PROT_NONE);
    g.data = at_begin ? g.map + page : g.map + page + body - bytes;
    return g;
}

void guard_free(guarded *g) {
    munmap(g->map, g->map_bytes);
}

static void fill_scales(const ht_weight *weight, ht_dtype dtype, size_t bytes, uint64_t seed, int wild, void *plane) {
    for (size_t i = 0; dtype == HT_E8M0 && i < bytes; i++) {
        uint32_t random = ht_random_u32(seed, 21, i);
        ((uint8_t *)plane)[i] = (uint8_t)(wild ? random % 255 : 118 + random % 4);
    }
    for (size_t i = 0; dtype == HT_F8_E4M3 && i < bytes; i++) /* every number, signs and subnormals too */
        ((uint8_t *)plane)[i] = (uint8_t)(i % 127 + (wild && i % 5 == 0 ? 128 : 0));
    for (size_t i = 0; dtype == HT_F32 && i < bytes / 4; i++) {
        float scale = 0.001f * (1.0f + (float)(ht_random_u32(seed, 22, i) % 1000));
        ((float *)plane)[i] = wild && ht_random_u32(seed, 23, i) % 8 == 0 ? scale * 1e30f : scale;
    }
    for (size_t i = 0; dtype == HT_BF16 && i < bytes / 2; i++)
        ((uint16_t *)plane)[i] = (uint16_t)(0x3a00 + ht_random_u32(seed, 24, i) % 600);
    (void)weight;
}

int subject_make(const char *format, size_t rows, size_t cols, uint64_t seed, int wild, subject *out) {
    ht_weight *weight = &out->weight;
    *weight = (ht_weight){.batch = 1, .rows = rows, .cols = cols};
    if (!CHECK_OK(ht_format_parse(format, &weight->format)) ||
        !CHECK_OK(ht_format_check_shape(&weight->format, rows, cols)) ||
        !CHECK(ht_packed_layout(weight, &out->packed, NULL)))
        return 0;
    unsigned bits = out->packed.bits;
    for (int p = 0; p < HT_PLANE_COUNT; p++) {
        size_t shape[2], bytes = ht_format_plane_bytes(&weight->format, (ht_plane)p, rows, cols);
        ht_dtype dtype = ht_format_plane_shape(&weight->format, (ht_plane)p, rows, cols, shape);
        uint8_t *plane = malloc(bytes + 1);
        for (size_t i = 0; i < bytes; i++)
            plane[i] = (uint8_t)ht_random_u32(seed, (uint64_t)p, i);
        for (size_t i = 0; p == HT_PLANE_ZEROS && i < bytes; i++)
            plane[i] = (uint8_t)(plane[i] % (1u << bits) - (dtype == HT_I8 ? 1u << (bits - 1) : 0));
        if (p == HT_PLANE_SCALES)
            fill_scales(weight, dtype, bytes, seed, wild, plane);
        if (p == HT_PLANE_GLOBAL && bytes)
            *(float *)(void *)plane = 3.7f;
        weight->plane[p] = plane;
        weight->stride[p] = bytes;
    }
    out->panels = aligned_alloc(HT_UNIT, out->packed.bytes);
    void *scratch = malloc(ht_pack_scratch(&out->packed));
    for (size_t p = 0; p < out->packed.panels; p++)
        CHECK(ht_pack_panel(&out->packed, weight, 0, p, scratch, out->panels + p * out->packed.panel_bytes));
    free(scratch);
    return 1;
}

void subject_free(subject *s) {
    for (int p = 0; p < HT_PLANE_COUNT; p++)
        free((void *)(uintptr_t)s->weight.plane[p]);
    free(s->panels);
}

int main(int argc, char **argv) {
    ht_context *ctx;
    if (ht_context_create(NULL, &ctx) != HT_OK)
        return 1;
    kernel_check_flags = ht_cpu_flags(ctx);
    ht_context_destroy(ctx);
    if (argc > 1 && strcmp(argv[1], "bench") == 0) {
        bench_products(argc - 2, argv + 2);
        return 0;
    }
    if (argc > 1 && strcmp(argv[1], "floats") == 0) {
        bench_floats(argc - 2, argv + 2);
        return 0;
    }
    if (argc > 1 && strcmp(argv[1], "rows") == 0) {
        bench_rows();
        return 0;
    }
    check_products();
    check_floats();
    return check_finish();
}
