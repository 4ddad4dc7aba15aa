/* GGUF files: a built one in both versions, and every malformation. */
#include <halftone/checkpoint.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "io/checkpoint_file.h"
#include "support/check.h"

static ht_context *ctx;

typedef struct image {
    uint8_t bytes[4096];
    size_t length;
} image;

static void put(image *f, uint64_t value, unsigned bytes) {
    for (unsigned i = 0; i < bytes; i++)
        f->bytes[f->length++] = (uint8_t)(value >> (8 * i));
}

static void put_string(image *f, const char *text) {
    put(f, strlen(text), 8);
    memcpy(f->bytes + f->length, text, strlen(text));
    f->length += strlen(text);
}

static void begin(image *f, uint64_t version, uint64_t tensors, uint64_t pairs) {
    f->length = 0;
    memcpy(f->bytes, "GGUF", 4);
    f->length = 4;
    put(f, version, 4);
    put(f, tensors, 8);
    put(f, pairs, 8);
}

static void put_info(image *f, const char *name, unsigned rank, const uint64_t *dims, uint64_t type, uint64_t offset) {
    put_string(f, name);
    put(f, rank, 4);
    for (unsigned i = 0; i < rank; i++)
        put(f, dims[i], 8);
    put(f, type, 4);
    put(f, offset, 8);
}

/* Padding, then data bytes 0, 1, 2, ... */
static void finish(image *f, size_t data) {
    while (f->length % 32)
        put(f, 0, 1);
    for (size_t i = 0; i < data; i++)
        put(f, i, 1);
}

static ht_status open_image(const image *f, size_t bytes, ht_checkpoint **out) {
    static uint8_t *copy; /* exactly the file; kept until the next call */
    free(copy);
    copy = malloc(bytes ? bytes : 1);
    memcpy(copy, f->bytes, bytes);
    return ht_checkpoint_open_memory(ctx, copy, bytes, NULL, out);
}

static void build(image *f, uint64_t version) {
    static const uint64_t matrix[2] = {64, 3}, vector[1] = {5};
    begin(f, version, 3, 9);
    put_string(f, "general.architecture"), put(f, 8, 4), put_string(f, "llama");
    put_string(f, "general.alignment"), put(f, 4, 4), put(f, 32, 4);
    put_string(f, "u8"), put(f, 0, 4), put(f, 200, 1);
    put_string(f, "i16"), put(f, 3, 4), put(f, (uint64_t)-3, 2);
    put_string(f, "f32"), put(f, 6, 4), put(f, 0x3fc00000, 4);
    put_string(f, "yes"), put(f, 7, 4), put(f, 1, 1);
    put_string(f, "i64"), put(f, 11, 4), put(f, (uint64_t)-5, 8);
    put_string(f, "list"), put(f, 9, 4), put(f, 8, 4), put(f, 2, 8), put_string(f, "a"), put_string(f, "b");
    put_string(f, "long"), put(f, 9, 4), put(f, 0, 4), put(f, 40, 8);
    for (int i = 0; i < 40; i++)
        put(f, 1, 1);
    put_info(f, "z.weight", 2, matrix, 2, 0);      /* q4_0: 3 rows of 2 blocks of 18 */
    put_info(f, "norm.weight", 1, vector, 0, 128); /* f32 */
    put_info(f, "a.bf16", 2, matrix, 30, 160);
    finish(f, 160 + 384);
}

static const char *value_of(const ht_checkpoint *checkpoint, const char *key) {
    for (size_t i = 0; ht_checkpoint_metadata_key(checkpoint, i); i++)
        if (strcmp(ht_checkpoint_metadata_key(checkpoint, i), key) == 0)
            return ht_checkpoint_metadata_value(checkpoint, i);
    return NULL;
}

static void valid(void) {
    for (uint64_t version = 2; version <= 3; version++) {
        image f;
        build(&f, version);
        ht_checkpoint *checkpoint;
        REQUIRE_OK(open_image(&f, f.length, &checkpoint));
        CHECK_TEXT(ht_checkpoint_architecture(checkpoint), "llama");
        CHECK_TEXT(value_of(checkpoint, "u8"), "200");
        CHECK_TEXT(value_of(checkpoint, "i16"), "-3");
        CHECK_TEXT(value_of(checkpoint, "f32"), "1.5");
        CHECK_TEXT(value_of(checkpoint, "yes"), "true");
        CHECK_TEXT(value_of(checkpoint, "i64"), "-5");
        CHECK_TEXT(value_of(checkpoint, "list"), "[a, b]");
        CHECK_TEXT(value_of(checkpoint, "long"), "[40 x u8]");
        CHECK_INT(ht_checkpoint_tensor_count(checkpoint), 3);
        const ht_stored_tensor *z = ht_checkpoint_find(checkpoint, "z.weight");
        REQUIRE(z);
        CHECK_INT(z->rank, 2);
        CHECK_INT(z->shape[0], 3);
        CHECK_INT(z->shape[1], 64);
        CHECK_INT(z->bytes, 108);
        CHECK_INT(z->dtype, HT_U8);
        CHECK_INT(((const uint8_t *)z->data)[1], 1);
        char name[64];
        ht_format_name(&z->format, name, sizeof name);
        CHECK_TEXT(name, "q4_0");
        const ht_parameter *p = ht_checkpoint_find_parameter(checkpoint, "z.weight");
        CHECK_INT(p->quantized, 1);
        CHECK_INT(p->weight.rows, 3);
        CHECK_INT(p->weight.cols, 64);
        p = ht_checkpoint_find_parameter(checkpoint, "a.bf16");
        CHECK_INT(p->quantized, 0);
        CHECK_INT(((const uint8_t *)p->weight.plane[HT_PLANE_CODES])[0], 160);
        CHECK_INT(ht_checkpoint_find(checkpoint, "norm.weight")->bytes, 20);
        ht_checkpoint_close(checkpoint);
    }
}

static void truncated(void) {
    image f;
    build(&f, 3);
    for (size_t bytes = 0; bytes < f.length; bytes++) {
        ht_checkpoint *checkpoint;
        CHECK(open_image(&f, bytes, &checkpoint) != HT_OK);
    }
}

/* One tensor with these properties. */
static void refuse_tensor(unsigned rank, const uint64_t *dims, uint64_t type, uint64_t offset, size_t data,
                          const char *message) {
    image f;
    begin(&f, 3, 1, 0);
    put_info(&f, "t", rank, dims, type, offset);
    finish(&f, data);
    ht_checkpoint *checkpoint;
    CHECK(open_image(&f, f.length, &checkpoint) != HT_OK);
    CHECK_CONTAINS(ht_error_message(), message);
}

static void bad_tensors(void) {
    uint64_t nine[9] = {1, 1, 1, 1, 1, 1, 1, 1, 1}, row[1] = {33}, huge[2] = {(uint64_t)1 << 63, 4}, good[1] = {32};
    refuse_tensor(9, nine, 0, 0, 4, "9 dimensions, at most 8");
    refuse_tensor(1, row, 2, 0, 36, "rows of 33 values, its type has blocks of 32");
    refuse_tensor(2, huge, 0, 0, 4, "does not fit in 64 bits");
    refuse_tensor(1, good, 99, 0, 64, "GGUF type 99 is not known");
    refuse_tensor(1, good, 0, 16, 300, "offset 16 is not a multiple of 32");
    refuse_tensor(1, good, 0, 0, 100, "truncated?");
    refuse_tensor(1, good, 0, UINT64_MAX - 31, 100, "truncated?");
    image f;
    begin(&f, 3, 2, 0);
    put_info(&f, "s", 1, good, 0, 0);
    put_info(&f, "t", 1, good, 0, 96);
    finish(&f, 300);
    ht_checkpoint *checkpoint;
    CHECK_FAILS(open_image(&f, f.length, &checkpoint), HT_ERR_CORRUPT);
    CHECK_CONTAINS(ht_error_message(), "tensor t at 96 overlaps");
    begin(&f, 3, 2, 0);
    put_info(&f, "s", 1, good, 0, 0);
    put_info(&f, "s", 1, good, 0, 128);
    finish(&f, 300);
    CHECK_FAILS(open_image(&f, f.length, &checkpoint), HT_ERR_CORRUPT);
    CHECK_CONTAINS(ht_error_message(), "tensor s is stored twice");
}

static void bad_pairs(void) {
    static const struct {
        uint64_t type, value;
        unsigned bytes;
        const char *message;
    } cases[] = {
        {13, 0, 4, "unknown value type 13"},
        {8, 1u << 30, 8, "the file ends at"},
        {9, 77, 16, "array of unknown type 77"},
    };
    ht_checkpoint *checkpoint;
    image f;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        begin(&f, 3, 0, 1);
        put_string(&f, "key"), put(&f, cases[i].type, 4), put(&f, cases[i].value, 8), put(&f, 0, 8);
        CHECK_FAILS(open_image(&f, f.length, &checkpoint), HT_ERR_CORRUPT);
        CHECK_CONTAINS(ht_error_message(), cases[i].message);
    }
    begin(&f, 3, 0, 1); /* an array of 2^60 bytes */
    put_string(&f, "key"), put(&f, 9, 4), put(&f, 0, 4), put(&f, (uint64_t)1 << 60, 8);
    CHECK_FAILS(open_image(&f, f.length, &checkpoint), HT_ERR_CORRUPT);
    CHECK_CONTAINS(ht_error_message(), "array of 1152921504606846976 values");
    begin(&f, 3, 0, 1); /* arrays of arrays of ... */
    put_string(&f, "key"), put(&f, 9, 4);
    for (int i = 0; i < 50; i++)
        put(&f, 9, 4), put(&f, 1, 8);
    CHECK_FAILS(open_image(&f, f.length, &checkpoint), HT_ERR_CORRUPT);
    CHECK_CONTAINS(ht_error_message(), "nested deeper");
    begin(&f, 3, 0, 1);
    put_string(&f, "general.alignment"), put(&f, 4, 4), put(&f, 24, 4);
    CHECK_FAILS(open_image(&f, f.length, &checkpoint), HT_ERR_CORRUPT);
    CHECK_CONTAINS(ht_error_message(), "general.alignment is 24");
    begin(&f, 3, (uint64_t)1 << 40, 0);
    CHECK_FAILS(open_image(&f, f.length, &checkpoint), HT_ERR_CORRUPT);
    begin(&f, 1, 0, 0);
    CHECK_FAILS(open_image(&f, f.length, &checkpoint), HT_ERR_UNSUPPORTED);
    begin(&f, (uint64_t)3 << 24, 0, 0);
    CHECK_FAILS(open_image(&f, f.length, &checkpoint), HT_ERR_UNSUPPORTED);
    CHECK_CONTAINS(ht_error_message(), "big endian?");
}

int main(void) {
    if (ht_context_create(NULL, &ctx) != HT_OK)
        return 1;
    RUN(valid);
    RUN(truncated);
    RUN(bad_tensors);
    RUN(bad_pairs);
    ht_context_destroy(ctx);
    return check_finish();
}
