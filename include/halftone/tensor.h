/* Scalar types and tensor views.
 *
 * A view borrows memory and never frees it: it must not outlive what it points into.
 */
#ifndef HT_TENSOR_H
#define HT_TENSOR_H

#include <stddef.h>
#include <stdint.h>

#include <halftone/status.h>

#ifdef __cplusplus
extern "C" {
#endif

/* How one scalar is encoded. X(enumerator tail, text name, safetensors name or NULL, bits).
 * Text names are those of the CLI, files and docs. */
#define HT_DTYPE_LIST(X)                                                                                               \
    X(F64, "f64", "F64", 64)                                                                                           \
    X(F32, "f32", "F32", 32)                                                                                           \
    X(F16, "f16", "F16", 16)                                                                                           \
    X(BF16, "bf16", "BF16", 16)                                                                                        \
    X(F8_E4M3, "f8_e4m3", "F8_E4M3", 8)                                                                                \
    X(F8_E5M2, "f8_e5m2", "F8_E5M2", 8)                                                                                \
    X(F8_E4M3FNUZ, "f8_e4m3fnuz", "F8_E4M3FNUZ", 8)                                                                    \
    X(F8_E5M2FNUZ, "f8_e5m2fnuz", "F8_E5M2FNUZ", 8)                                                                    \
    X(F6_E2M3, "f6_e2m3", "F6_E2M3", 6)                                                                                \
    X(F6_E3M2, "f6_e3m2", "F6_E3M2", 6)                                                                                \
    X(F4_E2M1, "f4_e2m1", "F4", 4)                                                                                     \
    X(E8M0, "e8m0", "F8_E8M0", 8)                                                                                      \
    X(I64, "i64", "I64", 64)                                                                                           \
    X(I32, "i32", "I32", 32)                                                                                           \
    X(I16, "i16", "I16", 16)                                                                                           \
    X(I8, "i8", "I8", 8)                                                                                               \
    X(U64, "u64", "U64", 64)                                                                                           \
    X(U32, "u32", "U32", 32)                                                                                           \
    X(U16, "u16", "U16", 16)                                                                                           \
    X(U8, "u8", "U8", 8)                                                                                               \
    X(BOOL, "bool", "BOOL", 8)                                                                                         \
    X(C64, "c64", "C64", 64)                                                                                           \
    X(I1, "i1", NULL, 1)                                                                                               \
    X(I2, "i2", NULL, 2)                                                                                               \
    X(I3, "i3", NULL, 3)                                                                                               \
    X(I4, "i4", NULL, 4)                                                                                               \
    X(I5, "i5", NULL, 5)                                                                                               \
    X(I6, "i6", NULL, 6)                                                                                               \
    X(I7, "i7", NULL, 7)                                                                                               \
    X(U1, "u1", NULL, 1)                                                                                               \
    X(U2, "u2", NULL, 2)                                                                                               \
    X(U3, "u3", NULL, 3)                                                                                               \
    X(U4, "u4", NULL, 4)                                                                                               \
    X(U5, "u5", NULL, 5)                                                                                               \
    X(U6, "u6", NULL, 6)                                                                                               \
    X(U7, "u7", NULL, 7)

typedef enum ht_dtype {
    HT_DTYPE_NONE = 0, /* "no such part", e.g. a format without zero points */
#define HT_DTYPE_ENUMERATOR(name, text, st, bits) HT_##name,
    HT_DTYPE_LIST(HT_DTYPE_ENUMERATOR)
#undef HT_DTYPE_ENUMERATOR
        HT_DTYPE_COUNT
} ht_dtype;

HT_API const char *ht_dtype_name(ht_dtype dtype);             /* "none" for HT_DTYPE_NONE */
HT_API const char *ht_dtype_safetensors_name(ht_dtype dtype); /* NULL when the file format has none */
HT_API unsigned ht_dtype_bits(ht_dtype dtype);                /* 0 for HT_DTYPE_NONE */
HT_API ht_dtype ht_dtype_find(const char *name);              /* either name, case ignored; HT_DTYPE_NONE if unknown */

#define HT_MAX_RANK 8

/* Row-major contiguous tensor over memory somebody else owns. */
typedef struct ht_tensor {
    void *data;
    ht_dtype dtype;
    unsigned rank;
    size_t shape[HT_MAX_RANK]; /* slowest dimension first */
} ht_tensor;

/* View over data, rank <= HT_MAX_RANK. */
HT_API ht_tensor ht_tensor_view(void *data, ht_dtype dtype, unsigned rank, const size_t *shape);
HT_API ht_tensor ht_tensor_view_2d(void *data, ht_dtype dtype, size_t rows, size_t cols);

/* Number of elements, and of bytes (sub-byte dtypes: bits rounded up over the whole tensor).
 * Return SIZE_MAX when the product does not fit in size_t. */
HT_API size_t ht_tensor_elements(const ht_tensor *tensor);
HT_API size_t ht_tensor_bytes(const ht_tensor *tensor);

/* Convert count values between float dtypes (f64 f32 f16 bf16, all fp8); one rounding to nearest even;
 * fp8 targets saturate; NaN stays NaN. Fails with UNSUPPORTED for other dtypes. in and out must not overlap. */
HT_API ht_status ht_convert(const void *in, ht_dtype in_dtype, void *out, ht_dtype out_dtype, size_t count);

#ifdef __cplusplus
}
#endif
#endif
