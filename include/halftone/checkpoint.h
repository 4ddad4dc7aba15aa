/* Checkpoints: reading and writing Hugging Face directories, safetensors and GGUF files.
 *
 * Files are memory-mapped; tensors are views of the mapping, valid until ht_checkpoint_close. Opening validates
 * every header completely and touches no tensor data, with exceptions: static scales of inputs; zero points packed down
 * the rows (pack-quantized) are unpacked, and a parameter that lies unaligned for its dtype is copied.
 */
#ifndef HT_CHECKPOINT_H
#define HT_CHECKPOINT_H

#include <stddef.h>
#include <stdint.h>

#include <halftone/context.h>
#include <halftone/format.h>
#include <halftone/status.h>
#include <halftone/tensor.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct ht_checkpoint ht_checkpoint;

/* Open a directory with config.json and *.safetensors (one file, or shards with an index), one .safetensors file,
 * or one .gguf file. Fails with IO (missing, unreadable) or CORRUPT, naming file, tensor, value and limit. */
HT_API ht_status ht_checkpoint_open(ht_context *ctx, const char *path, ht_checkpoint **out);
HT_API void ht_checkpoint_close(ht_checkpoint *checkpoint);

HT_API const char *ht_checkpoint_path(const ht_checkpoint *checkpoint);
/* "safetensors", "huggingface" or "gguf". */
HT_API const char *ht_checkpoint_kind(const ht_checkpoint *checkpoint);
/* Text of config.json, NUL-terminated; NULL when there is none. */
HT_API const char *ht_checkpoint_config(const ht_checkpoint *checkpoint);
/* architectures[0] of the config, or general.architecture of a GGUF file; NULL if unknown. */
HT_API const char *ht_checkpoint_architecture(const ht_checkpoint *checkpoint);

/* Key-value metadata of the file(s) (safetensors __metadata__, GGUF key-values as text). NULL past the end. */
HT_API const char *ht_checkpoint_metadata_key(const ht_checkpoint *checkpoint, size_t index);
HT_API const char *ht_checkpoint_metadata_value(const ht_checkpoint *checkpoint, size_t index);

/* A stored tensor, as it is in the file. */
typedef struct ht_stored_tensor {
    const char *name;
    ht_dtype dtype;   /* HT_U8 for GGUF block types */
    ht_format format; /* PLAIN, or the GGUF block format */
    unsigned rank;
    size_t shape[HT_MAX_RANK]; /* logical, slowest dimension first */
    size_t bytes;
    const char *file; /* file name inside the directory */
    uint64_t offset;  /* of the first byte in that file */
    const void *data; /* mapped */
} ht_stored_tensor;

/* Stored tensors, ordered by name (bytewise). NULL past the end. */
HT_API size_t ht_checkpoint_tensor_count(const ht_checkpoint *checkpoint);
HT_API const ht_stored_tensor *ht_checkpoint_tensor(const ht_checkpoint *checkpoint, size_t index);
HT_API const ht_stored_tensor *ht_checkpoint_find(const ht_checkpoint *checkpoint, const char *name);

/* A parameter: one stored tensor, or the several (packed codes, scales, ...) that make up a quantized one,
 * under the name that the float model uses ("model.layers.0.self_attn.q_proj.weight"). */
typedef struct ht_parameter {
    const char *name;
    unsigned rank;
    size_t shape[HT_MAX_RANK]; /* logical; [batch, cols, rows] while the weight is transposed: compare weight.rows,
                                  .cols */
    int quantized;
    ht_weight weight; /* rank 2: batch 1; rank 3: batch = shape[0]; rank 0, 1: a single row */
    int has_input;    /* the scheme quantizes this linear's input */
    ht_format input;
    ht_scale_rule input_rule; /* MX: scale rule of the dynamic activation cast */
    float input_scale;        /* one scale for all inputs, known beforehand; 0: chosen for every row */
    size_t stored[8];         /* indices of its stored tensors */
    size_t stored_count;
} ht_parameter;

/* Parameters, ordered by name. */
HT_API size_t ht_checkpoint_parameter_count(const ht_checkpoint *checkpoint);
HT_API const ht_parameter *ht_checkpoint_parameter(const ht_checkpoint *checkpoint, size_t index);
HT_API const ht_parameter *ht_checkpoint_find_parameter(const ht_checkpoint *checkpoint, const char *name);

/* --- Writing ------------------------------------------------------------------------------------------ */

typedef struct ht_checkpoint_writer ht_checkpoint_writer;

typedef struct ht_output_tensor {
    const char *name;
    ht_dtype dtype;
    unsigned rank;
    size_t shape[HT_MAX_RANK];
} ht_output_tensor;

typedef enum ht_resume { HT_RESUME_AUTO, HT_RESUME_REQUIRED, HT_RESUME_NEVER } ht_resume;

typedef struct ht_writer_options {
    uint64_t shard_bytes; /* largest shard; 0 = 5 GB. One tensor is never split */
    ht_resume resume;
    const char *fingerprint;     /* text that must be equal on resume: "key=value\n..." ; a mismatch names the key */
    const char *const *metadata; /* key, value, key, value, ..., NULL: safetensors __metadata__ */
    int overwrite;               /* replace an existing output */
} ht_writer_options;

/* Begin a checkpoint in `directory`. All tensors are known beforehand, so the layout of every shard is fixed:
 * shards model-XXXXX-of-YYYYY.safetensors (model.safetensors when one) take the tensors in the given order (inside a
 * shard the widest dtype comes first, so that each is aligned), are written in directory/.halftone/ and moved into
 * place by commit. With resume, tensors already complete are kept.
 * Fails with OUTPUT (exists, unwritable), SPACE, POLICY (fingerprint differs, or resume required and nothing there). */
HT_API ht_status ht_checkpoint_writer_create(ht_context *ctx, const char *directory, const ht_output_tensor *tensors,
                                             size_t count, const ht_writer_options *options,
                                             ht_checkpoint_writer **out);
/* Bytes [offset, offset + bytes) of tensor index. Thread-safe for disjoint ranges. */
HT_API ht_status ht_checkpoint_writer_write(ht_checkpoint_writer *writer, size_t index, uint64_t offset,
                                            const void *data, size_t bytes);
/* Tensor is complete: recorded in the journal. From then on the death of the process cannot undo it; the death of the
 * machine can, unless a sync mark was reached since (one for each 4 GiB, and the commit). */
HT_API ht_status ht_checkpoint_writer_done(ht_checkpoint_writer *writer, size_t index);
HT_API int ht_checkpoint_writer_is_done(const ht_checkpoint_writer *writer, size_t index);
/* A small file beside the shards (config.json, tokenizer.json). */
HT_API ht_status ht_checkpoint_writer_file(ht_checkpoint_writer *writer, const char *name, const void *data,
                                           size_t bytes);
/* Copy every file of the source directory that is neither weights nor already written. */
HT_API ht_status ht_checkpoint_writer_sidecars(ht_checkpoint_writer *writer, const ht_checkpoint *source);
/* Check that every tensor is done, write the index, move everything into place; config.json comes last. */
HT_API ht_status ht_checkpoint_writer_commit(ht_checkpoint_writer *writer);
/* Without commit, leaves the resumable folder. Accepts NULL. */
HT_API void ht_checkpoint_writer_destroy(ht_checkpoint_writer *writer);

/* Write named tensors to one safetensors file, atomically. */
HT_API ht_status ht_safetensors_save(ht_context *ctx, const char *path, const char *const *names,
                                     const ht_tensor *tensors, size_t count, const char *const *metadata);

#ifdef __cplusplus
}
#endif
#endif
