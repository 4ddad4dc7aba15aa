/* Transposing: every row of the kernel tables that this machine can run against the definition; inputs and results end
 * where a page that nobody may touch begins, and what lies between the rows of a result stays as it was. */
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/cpu.h"
#include "base/random.h"
#include "kernels/kernels.h"
#include "support/check.h"

enum { REGION = 1 << 15 };

/* The last `bytes` bytes of a region. */
static uint8_t *end_of(uint8_t *region, size_t bytes) {
    return region + REGION - bytes;
}

static uint8_t *regions[2]; /* of inputs, of results */

static void make_regions(void) {
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    for (int i = 0; i < 2; i++) {
        regions[i] = mmap(NULL, REGION + page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        REQUIRE((void *)regions[i] != MAP_FAILED && mprotect(regions[i] + REGION, page, PROT_NONE) == 0);
    }
}

static void check_turn(ht_turn_fn *turn, size_t rows, size_t cols, size_t size, size_t gap) {
    static uint8_t want[REGION];
    size_t x_stride = cols + gap, out_stride = rows + gap;
    size_t in_bytes = ((rows - 1) * x_stride + cols) * size, out_bytes = ((cols - 1) * out_stride + rows) * size;
    uint8_t *x = end_of(regions[0], in_bytes), *got = end_of(regions[1], out_bytes);
    for (size_t i = 0; i < in_bytes; i++)
        x[i] = (uint8_t)ht_random_u32(1, 2, i);
    memset(got, 0xa5, out_bytes);
    memset(want, 0xa5, out_bytes);
    for (size_t r = 0; r < rows; r++)
        for (size_t c = 0; c < cols; c++)
            memcpy(want + (c * out_stride + r) * size, x + (r * x_stride + c) * size, size);
    turn(x, x_stride, rows, cols, size, got, out_stride);
    CHECK_BYTES(got, want, out_bytes);
}

static void check_rows(const ht_kernel_row *rows, uint32_t flags) {
    static const size_t shapes[][2] = {{1, 1}, {8, 8}, {7, 9}, {16, 24}, {33, 31}, {8, 3}, {3, 8}, {64, 40}};
    for (const ht_kernel_row *row = rows; row->name; row++)
        for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++)
            for (size_t size = 2; size <= 4; size += 2)
                if (row->operation == HT_OPERATION_TURN && (row->needs & flags) == row->needs)
                    check_turn(row->fn.turn, shapes[i][0], shapes[i][1], size, i % 3);
}

static void test_turn(void) {
    ht_context *ctx;
    REQUIRE_OK(ht_context_create(NULL, &ctx));
    make_regions();
    check_rows(ht_kernel_rows_arch, ht_cpu_flags(ctx));
    check_rows(ht_kernel_rows_ref, ht_cpu_flags(ctx));
    ht_context_destroy(ctx);
}

int main(void) {
    RUN(test_turn);
    return check_finish();
}
