/* torchao's buffers: byte for byte what an independent writer made (script/oracles/torchao_buffers.py, every width by
 * its own formula), round trips, a linear that runs from one, and everything that can be wrong with a buffer. */
#include <halftone/torchao.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <halftone/linear.h>

#include "support/check.h"

enum { ROWS = 11, COLS = 96, GROUP = 32, GROUPS = COLS / GROUP, WIDE = 224, EMBEDDINGS = 3, MOST = 8192 };

static ht_context *ctx;

static int8_t code_at(unsigned bits, size_t row, size_t k) {
    return (int8_t)((row * 37 + k * 11 + row * k * 5 + k * k / 7) % (1u << bits) - (1u << (bits - 1)));
}

/* The matrix of the stored files. */
typedef struct matrix {
    int8_t codes[ROWS * COLS], zeros[ROWS * GROUPS];
    float scales[ROWS * GROUPS], bias[ROWS];
    ht_planes planes;
    ht_torchao_linear linear;
} matrix;

static void make(matrix *m, unsigned bits) {
    memset(m, 0, sizeof *m);
    m->linear = (ht_torchao_linear){
        .rows = ROWS, .cols = COLS, .group = GROUP, .bits = bits, .has_zeros = bits % 2, .has_bias = bits % 3 == 0};
    for (size_t i = 0; i < ROWS * COLS; i++)
        m->codes[i] = code_at(bits, i / COLS, i % COLS);
    for (size_t i = 0; i < ROWS * GROUPS; i++) {
        m->scales[i] = (float)(i + 1) / 64;
        m->zeros[i] = bits % 2 ? (int8_t)(i % 17) - 8 : 0;
    }
    for (size_t i = 0; i < ROWS; i++)
        m->bias[i] = bits % 3 == 0 ? (float)i / 4 - 1 : 0;
    m->planes.plane[HT_PLANE_CODES] = m->codes;
    m->planes.plane[HT_PLANE_SCALES] = m->scales;
    m->planes.plane[HT_PLANE_ZEROS] = m->zeros;
}

static size_t stored(const char *kind, unsigned bits, uint8_t *bytes) {
    char path[64];
    snprintf(path, sizeof path, "packed/torchao-%s-%u.bin", kind, bits);
    FILE *file = fopen(check_data(path), "rb");
    size_t count = file ? fread(bytes, 1, MOST, file) : 0;
    if (file)
        fclose(file);
    return count;
}

static void test_linear(void) {
    for (unsigned bits = 1; bits <= 8; bits++) {
        static uint8_t want[MOST], got[MOST];
        size_t count = stored("linear", bits, want);
        matrix m, back;
        make(&m, bits);
        make(&back, bits);
        CHECK_INT(ht_torchao_linear_bytes(&m.linear), count);
        REQUIRE(count > 0);
        memset(got, 0xa5, sizeof got);
        CHECK_OK(ht_torchao_linear_write(&m.linear, &m.planes, m.bias, got));
        CHECK_BYTES(got, want, count);
        CHECK_INT(got[count], 0xa5);

        ht_torchao_linear opened;
        REQUIRE_OK(ht_torchao_linear_open(want, count, ROWS, COLS, GROUP, &opened));
        CHECK_INT(opened.bits, bits);
        CHECK_INT(opened.has_zeros, m.linear.has_zeros);
        CHECK_INT(opened.has_bias, m.linear.has_bias);
        memset(back.codes, 0x55, sizeof back.codes);
        memset(back.scales, 0, sizeof back.scales);
        CHECK_OK(ht_torchao_linear_read(&opened, want, &back.planes, back.bias));
        CHECK_BYTES(back.codes, m.codes, sizeof m.codes);
        CHECK_BYTES(back.scales, m.scales, sizeof m.scales);
        CHECK_BYTES(back.zeros, m.zeros, sizeof m.zeros);
        CHECK_BYTES(back.bias, m.bias, sizeof m.bias);
    }
}

static void test_format(void) {
    static const char *const names[] = {"int1_g32_asym_bytes", "int4_g32_bytes", "int8_g32_bytes"};
    for (size_t i = 0; i < 3; i++) {
        matrix m;
        ht_format want;
        make(&m, i == 0 ? 1 : i == 1 ? 4 : 8);
        CHECK_OK(ht_format_parse(names[i], &want));
        ht_format got = ht_torchao_linear_format(&m.linear);
        CHECK(ht_format_equal(&got, &want));
    }
    ht_format want, got = ht_torchao_linear_format(&(ht_torchao_linear){.rows = 1, .cols = 48, .group = 48, .bits = 8});
    CHECK_OK(ht_format_parse("int8_row", &want)); /* one group: a row */
    CHECK(ht_format_equal(&got, &want));
}

/* y = (codes - zeros) * scales x + bias, by the run time and by hand. */
static void test_runs(void) {
    static uint8_t bytes[MOST];
    matrix m;
    make(&m, 3);
    size_t count = stored("linear", 3, bytes);
    ht_torchao_linear opened;
    REQUIRE_OK(ht_torchao_linear_open(bytes, count, ROWS, COLS, GROUP, &opened));
    memset(m.codes, 0, sizeof m.codes);
    REQUIRE_OK(ht_torchao_linear_read(&opened, bytes, &m.planes, m.bias));
    ht_weight weight = {.format = ht_torchao_linear_format(&opened), .batch = 1, .rows = ROWS, .cols = COLS};
    for (int plane = 0; plane < HT_PLANE_COUNT; plane++)
        weight.plane[plane] = m.planes.plane[plane];
    ht_linear *linear;
    REQUIRE_OK(ht_linear_from_weight(ctx, &weight, &(ht_linear_options){.bias = m.bias}, &linear));
    float x[COLS], y[ROWS], want[ROWS];
    for (size_t k = 0; k < COLS; k++)
        x[k] = (float)((int)(k * 7 % 13) - 6) / 8;
    ht_tensor in = {.dtype = HT_F32, .rank = 2, .shape = {1, COLS}, .data = x};
    ht_tensor out = {.dtype = HT_F32, .rank = 2, .shape = {1, ROWS}, .data = y};
    CHECK_OK(ht_linear_forward(ctx, linear, &in, &out));
    for (size_t r = 0; r < ROWS; r++) {
        double sum = (double)r / 4 - 1;
        for (size_t k = 0; k < COLS; k++) {
            size_t at = r * GROUPS + k / GROUP;
            sum += (code_at(3, r, k) - ((int)(at % 17) - 8)) * (double)(at + 1) / 64 * (double)x[k];
        }
        want[r] = (float)sum;
    }
    CHECK_F32_NEAR(y, want, ROWS, 1e-5);
    ht_linear_destroy(linear);
}

static void test_embedding(void) {
    for (unsigned bits = 1; bits <= 8; bits++) {
        static uint8_t want[MOST], got[MOST];
        signed char codes[EMBEDDINGS * WIDE], back[EMBEDDINGS * WIDE];
        size_t count = stored("embedding", bits, want);
        ht_torchao_embedding e = {.rows = EMBEDDINGS, .cols = WIDE, .bits = bits}, opened;
        CHECK_INT(ht_torchao_embedding_bytes(&e), count);
        REQUIRE(count > 0);
        for (size_t i = 0; i < sizeof codes; i++)
            codes[i] = code_at(bits, i / WIDE, i % WIDE);
        memset(got, 0xa5, sizeof got);
        CHECK_OK(ht_torchao_embedding_write(&e, codes, got));
        CHECK_BYTES(got, want, count);
        CHECK_INT(got[count], 0xa5);
        REQUIRE_OK(ht_torchao_embedding_open(want, count, EMBEDDINGS, WIDE, &opened));
        CHECK_INT(opened.bits, bits);
        memset(back, 0x55, sizeof back);
        ht_torchao_embedding_read(&opened, want, back);
        CHECK_BYTES(back, codes, sizeof codes);
    }
}

/* --- bad buffers ---------------------------------------------------------------------------------------------------
 */

static void check_open(const uint8_t *bytes, size_t count, size_t at, int value, ht_status status,
                       const char *message) {
    static uint8_t bad[MOST];
    ht_torchao_linear out;
    memcpy(bad, bytes, count);
    memcpy(bad + at, &value, sizeof value);
    CHECK_FAILS(ht_torchao_linear_open(bad, count, ROWS, COLS, GROUP, &out), status);
    CHECK_CONTAINS(ht_error_message(), message);
}

static void test_bad_header(void) {
    static uint8_t bytes[MOST];
    size_t count = stored("linear", 5, bytes);
    ht_torchao_linear out;
    REQUIRE(count > 64);
    check_open(bytes, count, 0, 6713, HT_ERR_CORRUPT, "magic number 6713, not 6712");
    check_open(bytes, count, 4, 3, HT_ERR_UNSUPPORTED, "type 3, not 1");
    check_open(bytes, count, 8, 9, HT_ERR_CORRUPT, "9 bits");
    check_open(bytes, count, 8, 0, HT_ERR_CORRUPT, "0 bits");
    check_open(bytes, count, 8, 4, HT_ERR_CORRUPT, "takes");
    check_open(bytes, count, 12, 2, HT_ERR_CORRUPT, "flags 2 and 0");
    check_open(bytes, count, 16, 1, HT_ERR_CORRUPT, "takes");
    check_open(bytes, count, 20, 4, HT_ERR_UNSUPPORTED, "nr 4, kr 16, sr 2");
    CHECK_FAILS(ht_torchao_linear_open(bytes, 63, ROWS, COLS, GROUP, &out), HT_ERR_CORRUPT);
    CHECK_FAILS(ht_torchao_linear_open(bytes, count - 1, ROWS, COLS, GROUP, &out), HT_ERR_CORRUPT);
    CHECK_FAILS(ht_torchao_linear_open(bytes, count, ROWS + 8, COLS, GROUP, &out), HT_ERR_CORRUPT);
    CHECK_FAILS(ht_torchao_linear_open(bytes, count, ROWS, COLS, 48 / 2, &out), HT_ERR_SHAPE);
    CHECK_FAILS(ht_torchao_linear_open(bytes, count, 0, COLS, GROUP, &out), HT_ERR_SHAPE);
    CHECK_FAILS(ht_torchao_linear_open(bytes, count, ROWS, (size_t)1 << 40, GROUP, &out), HT_ERR_SHAPE);
    ht_torchao_embedding embedding;
    CHECK_FAILS(ht_torchao_embedding_open(bytes, count, ROWS, COLS, &embedding), HT_ERR_UNSUPPORTED);
    count = stored("embedding", 5, bytes);
    CHECK_FAILS(ht_torchao_embedding_open(bytes, count, EMBEDDINGS, WIDE - 8, &embedding), HT_ERR_SHAPE);
    CHECK_FAILS(ht_torchao_embedding_open(bytes, count, EMBEDDINGS, WIDE + 32, &embedding), HT_ERR_CORRUPT);
}

static void test_bad_content(void) {
    static uint8_t bytes[MOST];
    matrix m;
    make(&m, 5);
    size_t count = stored("linear", 5, bytes), tiles = GROUP * 5;
    REQUIRE(count > 0);
    bytes[64] ^= 1; /* a code of row 0 */
    CHECK_FAILS(ht_torchao_linear_read(&m.linear, bytes, &m.planes, NULL), HT_ERR_CORRUPT);
    CHECK_CONTAINS(ht_error_message(), "row 0, group 0 sum up to");
    bytes[64] ^= 1;
    bytes[64 + tiles + 64 + 1] = 1; /* the zero point of row 0: more than a byte */
    CHECK_FAILS(ht_torchao_linear_read(&m.linear, bytes, &m.planes, NULL), HT_ERR_CORRUPT);
    CHECK_CONTAINS(ht_error_message(), "zero point");
    make(&m, 5);
    m.codes[2 * COLS + 3] = 16;
    CHECK_FAILS(ht_torchao_linear_write(&m.linear, &m.planes, NULL, bytes), HT_ERR_ARGUMENT);
    CHECK_CONTAINS(ht_error_message(), "code 16 at row 2, column 3 does not fit 5 bits");
    make(&m, 3);
    CHECK_FAILS(ht_torchao_linear_write(&m.linear, &m.planes, NULL, bytes), HT_ERR_ARGUMENT); /* its bias */
}

int main(void) {
    if (ht_context_create(NULL, &ctx) != HT_OK)
        return 1;
    RUN(test_linear);
    RUN(test_format);
    RUN(test_runs);
    RUN(test_embedding);
    RUN(test_bad_header);
    RUN(test_bad_content);
    ht_context_destroy(ctx);
    return check_finish();
}
