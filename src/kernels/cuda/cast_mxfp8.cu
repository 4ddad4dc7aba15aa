/* bf16 to MXFP8: row-wise, column-wise (transposed) and both in one pass.
 *
 * Row-wise needs no shape: blocks are 32 consecutive elements of the flat array. A thread takes 8 elements (16 bytes),
 * four lanes a block, four such loads in flight.
 *
 * Column-wise and both: a block of threads takes 256 rows x 128 columns without shared memory for the data. Each
 * thread keeps 32 rows x 8 columns in 128 registers, so a column block never leaves its thread:
 *
 *     warp w: columns 64 (w % 2) .., rows 128 (w / 2) ..
 *     lane l: columns 8 (l / 2 % 8) .., rows 32 (l % 2 + 2 (l / 16)) ..
 *     read    128 B of each of four rows at once       write^T   128 B of an output row from four lanes
 *
 * Neighbouring lanes hold neighbouring row blocks: they swap 16 bytes, so that each store instruction fills whole
 * 32-byte sectors of the transposed output (measured: 2 to 3 % of the column-wise cast on an H100). The row blocks of
 * a tile are four lanes: two rows share a register for the maximum, two shuffles. Scale bytes go through 3 KiB of
 * shared memory, so that they leave in words.
 *
 * The transposed output is what memory likes least: blocks of threads walk down the rows first, so that those running
 * together write long runs of it; for both directions in bands, so that the row-wise output gets runs as well.
 *
 * Refuses: cols not a multiple of 32 (row-wise) or 8, rows not a multiple of 32 (column-wise), other rules.
 * Source: formats specification, sections 2.2 and 2.5.
 * SPDX-License-Identifier: BSD-3-Clause */
#include "kernels/cuda/cast.h"

#include "kernels/cuda/cuda.h"
#include "kernels/cuda/runtime.h"

enum {
    BLOCK = 32,
    FLAT_THREADS = 256,
    FLAT_LOADS = 4,
    TILE_THREADS = 128,
    LANES_X = 8, /* lanes of a warp along the columns */
    WARPS_X = 2, /* warps of a block along the columns */
    TILE_COLS = WARPS_X * LANES_X * 8,
    TILE_ROWS = TILE_THREADS / 32 / WARPS_X * (32 / LANES_X) * BLOCK,
    ROW_SCALES = TILE_COLS / BLOCK,
    COL_SCALES = TILE_ROWS / BLOCK,
    BAND = 8 /* tiles down the rows that are walked together when both directions are written */
};

/* --- Row-wise ---------------------------------------------------------------------------------------------------- */

static __global__ __launch_bounds__(FLAT_THREADS) void row_kernel(const uint4 *__restrict__ x, size_t vectors, int rule,
                                                                  uint2 *__restrict__ codes,
                                                                  uint8_t *__restrict__ scales) {
    const size_t warp = (size_t)blockIdx.x * (FLAT_THREADS / 32) + threadIdx.x / 32;
    const size_t first = warp * 32 * FLAT_LOADS + threadIdx.x % 32;
    uint4 v[FLAT_LOADS];
#pragma unroll
    for (int i = 0; i < FLAT_LOADS; i++)
        v[i] = first + i * 32 < vectors ? ht_load_stream(x + first + i * 32) : make_uint4(0, 0, 0, 0);
#pragma unroll
    for (int i = 0; i < FLAT_LOADS; i++) {
        const size_t at = first + i * 32;
        uint32_t amax = ht_amax_of_pair(ht_amax_bf16x8(v[i]));
        amax = max(amax, __shfl_xor_sync(~0u, amax, 1));
        amax = max(amax, __shfl_xor_sync(~0u, amax, 2));
        const uint32_t scale = ht_mxfp8_scale(amax, rule);
        if (at >= vectors)
            continue;
        codes[at] = ht_e4m3x8(v[i], ht_e8m0_inverse(scale));
        if (at % 4 == 0)
            scales[at / 4] = (uint8_t)scale;
    }
}

/* --- Column-wise, or both ---------------------------------------------------------------------------------------- */

/* A thread's part of the tile: 32 rows of 8 columns. */
typedef struct part {
    uint4 row[BLOCK];
} part;

static __device__ __forceinline__ uint32_t word_of(const uint4 &v, int index) {
    return index == 0 ? v.x : index == 1 ? v.y : index == 2 ? v.z : v.w;
}

/* 32 bytes of one output row a lane, in two stores that fill whole 32-byte sectors: a lane and its partner (the next 32
 * rows) swap halves first, so that both write one half of the same sector at a time. a, b: bytes 0-15 and 16-31. */
template <int EXCHANGE>
static __device__ __forceinline__ void store_column(uint8_t *out, const uint32_t (&a)[4], const uint32_t (&b)[4]) {
    if (!EXCHANGE) {
        *(uint4 *)out = make_uint4(a[0], a[1], a[2], a[3]);
        *(uint4 *)(out + 16) = make_uint4(b[0], b[1], b[2], b[3]);
        return;
    }
    const int odd = threadIdx.x & 1;
    uint32_t keep[4], got[4];
#pragma unroll
    for (int i = 0; i < 4; i++) {
        keep[i] = odd ? b[i] : a[i];
        got[i] = __shfl_xor_sync(~0u, odd ? a[i] : b[i], 1);
    }
    /* even: own bytes 0-15, then the partner's 0-15; odd: the partner's 16-31, then its own 16-31 */
    const uint4 own = make_uint4(keep[0], keep[1], keep[2], keep[3]),
                other = make_uint4(got[0], got[1], got[2], got[3]);
    if (out) {
        *(uint4 *)(odd ? out - 32 + 16 : out) = odd ? other : own;
        *(uint4 *)(odd ? out + 16 : out + 32) = odd ? own : other;
    }
}

/* Columns 2 pair and 2 pair + 1: maximum down the rows, scale, 32 codes each to 32 consecutive bytes. */
template <int EXCHANGE>
static __device__ __forceinline__ void write_column_pair(const part &p, int pair, int rule, uint8_t *out,
                                                         size_t out_stride, uint8_t *scale_out, int scale_stride) {
    uint32_t larger = word_of(p.row[0], pair);
#pragma unroll
    for (int r = 1; r < BLOCK; r++)
        larger = ht_amax_bf16x2(larger, word_of(p.row[r], pair));
    const uint32_t low = ht_mxfp8_scale(larger << 16 & 0x7fff0000u, rule);
    const uint32_t high = ht_mxfp8_scale(larger & 0x7fff0000u, rule);
    scale_out[0] = (uint8_t)low;
    scale_out[scale_stride] = (uint8_t)high;
    const float low_inverse = ht_e8m0_inverse(low), high_inverse = ht_e8m0_inverse(high);
    uint32_t a[2][4], b[2][4];
#pragma unroll
    for (int q = 0; q < 8; q++) { /* four rows: a word a column */
        uint32_t w[4];
#pragma unroll
        for (int r = 0; r < 4; r++)
            w[r] = word_of(p.row[q * 4 + r], pair);
        a[q / 4][q % 4] = ht_e4m3x4(ht_low_bf16(w[0]) * low_inverse, ht_low_bf16(w[1]) * low_inverse,
                                    ht_low_bf16(w[2]) * low_inverse, ht_low_bf16(w[3]) * low_inverse);
        b[q / 4][q % 4] = ht_e4m3x4(ht_high_bf16(w[0]) * high_inverse, ht_high_bf16(w[1]) * high_inverse,
                                    ht_high_bf16(w[2]) * high_inverse, ht_high_bf16(w[3]) * high_inverse);
    }
    store_column<EXCHANGE>(out, a[0], a[1]);
    store_column<EXCHANGE>(out ? out + out_stride : NULL, b[0], b[1]);
}

/* Two rows' blocks: each row's maximum over this thread's 8 columns and the three neighbours' 24. */
static __device__ __forceinline__ void write_row_pair(const part &p, int r, int rule, uint8_t *out, size_t out_stride,
                                                      uint8_t *scale_out, int scale_stride) {
    uint32_t first = ht_amax_of_pair(ht_amax_bf16x8(p.row[r])), second = ht_amax_of_pair(ht_amax_bf16x8(p.row[r + 1]));
    uint32_t both = first >> 16 | second;
    both = __vmaxu2(both, __shfl_xor_sync(~0u, both, 2));
    both = __vmaxu2(both, __shfl_xor_sync(~0u, both, 4));
    const uint32_t low = ht_mxfp8_scale(both << 16, rule), high = ht_mxfp8_scale(both & 0xffff0000u, rule);
    if (out) {
        *(uint2 *)out = ht_e4m3x8(p.row[r], ht_e8m0_inverse(low));
        *(uint2 *)(out + out_stride) = ht_e4m3x8(p.row[r + 1], ht_e8m0_inverse(high));
    }
    if ((threadIdx.x & 6) == 0) {
        scale_out[0] = (uint8_t)low;
        scale_out[scale_stride] = (uint8_t)high;
    }
}

typedef struct tile_job {
    const uint4 *x;
    size_t rows, cols;
    int rule;
    uint8_t *codes, *scales, *codes_t, *scales_t;
    size_t band; /* tiles walked together down the rows */
} tile_job;

/* The tile's scale bytes from shared memory to memory: PER_LINE (4 or 8) a row or column, in one store where they are
 * aligned; at the edges and for odd widths byte by byte. */
template <int PER_LINE>
static __device__ __forceinline__ void write_scales(const uint8_t *shared, int lines, uint8_t *out, size_t first_line,
                                                    size_t line_count, size_t first, size_t line_bytes) {
    const int whole = line_bytes % PER_LINE == 0 && first + PER_LINE <= line_bytes;
    for (int line = threadIdx.x; line < lines && first_line + line < line_count; line += TILE_THREADS) {
        uint8_t *to = out + (first_line + line) * line_bytes + first;
        const uint8_t *from = shared + line * PER_LINE;
        if (whole && PER_LINE == 8)
            *(uint2 *)to = *(const uint2 *)from;
        else if (whole)
            *(uint32_t *)to = *(const uint32_t *)from;
        else
            for (int i = 0; i < PER_LINE && first + i < line_bytes; i++)
                to[i] = from[i];
    }
}

/* ROWS: also row-wise. EXCHANGE: the partner lanes' rows are both inside, that is rows is a multiple of 64. */
template <int ROWS, int EXCHANGE>
static __global__ __launch_bounds__(TILE_THREADS, 3) void tile_kernel(const __grid_constant__ tile_job job) {
    __shared__ __align__(16) uint8_t row_scales[TILE_ROWS * ROW_SCALES], col_scales[TILE_COLS * COL_SCALES];
    const size_t tiles_x = (job.cols + TILE_COLS - 1) / TILE_COLS, tiles_y = (job.rows + TILE_ROWS - 1) / TILE_ROWS;
    const size_t first = blockIdx.x / (job.band * tiles_x) * job.band, inside_band = blockIdx.x % (job.band * tiles_x);
    const size_t height = min(job.band, tiles_y - first);
    const size_t row0 = (first + inside_band % height) * TILE_ROWS, col0 = inside_band / height * TILE_COLS;
    const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
    const int local_col = (warp % WARPS_X * LANES_X + lane / 2 % LANES_X) * 8;
    const int local_row = (warp / WARPS_X * (32 / LANES_X) + lane / (2 * LANES_X) * 2 + lane % 2) * BLOCK;
    const size_t row = row0 + local_row, col = col0 + local_col;
    const int inside = row < job.rows && col < job.cols;
    part p;
#pragma unroll
    for (int r = 0; r < BLOCK; r++)
        p.row[r] = inside ? ht_load_stream(job.x + ((row + r) * job.cols + col) / 8) : make_uint4(0, 0, 0, 0);
    if (ROWS) {
#pragma unroll
        for (int r = 0; r < BLOCK; r += 2)
            write_row_pair(p, r, job.rule, inside ? job.codes + (row + r) * job.cols + col : NULL, job.cols,
                           row_scales + (local_row + r) * ROW_SCALES + local_col / BLOCK, ROW_SCALES);
    }
    if (EXCHANGE || inside) {
        uint8_t *const out = inside ? job.codes_t + col * job.rows + row : NULL;
#pragma unroll
        for (int pair = 0; pair < 4; pair++)
            write_column_pair<EXCHANGE>(p, pair, job.rule, out ? out + 2 * pair * job.rows : NULL, job.rows,
                                        col_scales + (local_col + 2 * pair) * COL_SCALES + local_row / BLOCK,
                                        COL_SCALES);
    }
    __syncthreads();
    if (ROWS)
        write_scales<ROW_SCALES>(row_scales, TILE_ROWS, job.scales, row0, job.rows, col0 / BLOCK, job.cols / BLOCK);
    write_scales<COL_SCALES>(col_scales, TILE_COLS, job.scales_t, col0, job.cols, row0 / BLOCK, job.rows / BLOCK);
}

static ht_status check(const ht_cuda_mxfp8_args *args) {
    int by_row = args->codes != NULL, by_col = args->codes_t != NULL;
    if ((!by_row && !by_col) || by_row != (args->scales != NULL) || by_col != (args->scales_t != NULL))
        return ht_fail(HT_ERR_ARGUMENT, "cuda mxfp8 cast: codes and scales of a direction are given together");
    if (by_row && args->cols % BLOCK)
        return ht_fail(HT_ERR_SHAPE, "cuda mxfp8 cast: %zu columns are not a multiple of 32", args->cols);
    if (by_col && (args->rows % BLOCK || args->cols % 8))
        return ht_fail(HT_ERR_SHAPE,
                       "cuda mxfp8 cast: [%zu, %zu] column-wise: rows must be a multiple of 32, cols of 8", args->rows,
                       args->cols);
    if (args->rule != HT_SCALE_FLOOR && args->rule != HT_SCALE_RCEIL && args->rule != HT_SCALE_CEIL &&
        args->rule != HT_SCALE_EVEN)
        return ht_fail(HT_ERR_UNSUPPORTED, "cuda mxfp8 cast: scale rule %d; known are floor, rceil, ceil, even",
                       (int)args->rule);
    if (((uintptr_t)args->x | (uintptr_t)args->codes | (uintptr_t)args->codes_t) % 16)
        return ht_fail(HT_ERR_ARGUMENT, "cuda mxfp8 cast: x and codes must be 16-byte aligned");
    return HT_OK;
}

ht_status ht_cuda_cast_mxfp8(const ht_cuda_mxfp8_args *args, ht_stream *stream) {
    HT_TRY(check(args));
    if (args->rows == 0 || args->cols == 0)
        return HT_OK;
    cudaStream_t s = ht_cuda_stream(stream);
    if (!args->codes_t) {
        size_t vectors = args->rows * args->cols / 8;
        size_t blocks = ht_ceil_div(vectors, FLAT_THREADS * FLAT_LOADS);
        row_kernel<<<(unsigned)blocks, FLAT_THREADS, 0, s>>>((const uint4 *)args->x, vectors, args->rule,
                                                             (uint2 *)args->codes, args->scales);
        return ht_cuda_check(cudaGetLastError(), "mxfp8 cast, row-wise");
    }
    size_t tiles_y = ht_ceil_div(args->rows, TILE_ROWS), blocks = tiles_y * ht_ceil_div(args->cols, TILE_COLS);
    tile_job job = {(const uint4 *)args->x, args->rows,     args->cols,
                    (int)args->rule,        args->codes,    args->scales,
                    args->codes_t,          args->scales_t, args->codes ? (size_t)BAND : tiles_y};
    static void (*const kernels[2][2])(tile_job) = {{tile_kernel<0, 0>, tile_kernel<0, 1>},
                                                    {tile_kernel<1, 0>, tile_kernel<1, 1>}};
    kernels[args->codes != NULL][args->rows % 64 == 0]<<<(unsigned)blocks, TILE_THREADS, 0, s>>>(job);
    return ht_cuda_check(cudaGetLastError(), "mxfp8 cast, column-wise");
}
