/* make_checkpoint DIRECTORY [--layers N] [--hidden N] [--ffn N] [--tensors N] [--seed N]: a synthetic bf16 Hugging Face
 * checkpoint, shaped like a Llama, with values of a bell-like distribution. --tensors N writes N tiny tensors in 16
 * shards with an index instead: a large header. Same bytes for the same arguments.
 * SPDX-License-Identifier: BSD-3-Clause */
#include <errno.h>
#include <inttypes.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

enum { PIECE = 1 << 20, NAME = 96, SHARDS = 16, VOCABULARY = 4096 };

typedef struct tensor {
    char name[NAME];
    size_t rows, cols; /* rows 0: a vector */
} tensor;

typedef struct shape {
    size_t layers, hidden, ffn, tensors;
    uint64_t seed;
} shape;

static uint64_t next(uint64_t *state) { /* splitmix64 */
    uint64_t z = (*state += 0x9E3779B97F4A7C15u);
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
    return z ^ (z >> 31);
}

/* Sum of four uniform numbers, scaled by 0.02: near normal, cheap. */
static uint16_t value(uint64_t *state) {
    uint64_t bits = next(state);
    int sum = (int)(bits & 0xFFFF) + (int)(bits >> 16 & 0xFFFF) + (int)(bits >> 32 & 0xFFFF) + (int)(bits >> 48);
    float x = (float)(sum - 2 * 0xFFFF) * (0.02f / 32768.0f);
    uint32_t word;
    memcpy(&word, &x, sizeof word);
    return (uint16_t)((word + 0x7FFF + (word >> 16 & 1)) >> 16);
}

static size_t count_of(const tensor *t) {
    return (t->rows ? t->rows : 1) * t->cols;
}

static FILE *open_in(const char *directory, const char *name) {
    char path[1024];
    snprintf(path, sizeof path, "%s/%s", directory, name);
    FILE *file = fopen(path, "wb");
    if (!file) {
        fprintf(stderr, "%s: %s\n", path, strerror(errno));
        exit(1);
    }
    return file;
}

static void write_values(FILE *file, size_t count, uint64_t *state) {
    static uint16_t buffer[PIECE];
    while (count) {
        size_t piece = count < PIECE ? count : PIECE;
        for (size_t i = 0; i < piece; i++)
            buffer[i] = value(state);
        fwrite(buffer, sizeof *buffer, piece, file);
        count -= piece;
    }
}

static void write_file(const char *directory, const char *name, const tensor *all, size_t count, uint64_t seed) {
    char *header = malloc(count * (NAME + 128) + 64);
    size_t used = 0;
    uint64_t offset = 0;
    used += (size_t)sprintf(header, "{");
    for (size_t i = 0; i < count; i++) {
        uint64_t bytes = 2 * (uint64_t)count_of(&all[i]);
        used += (size_t)sprintf(header + used, "%s\"%s\":{\"dtype\":\"BF16\",\"shape\":[", i ? "," : "", all[i].name);
        if (all[i].rows)
            used += (size_t)sprintf(header + used, "%zu,", all[i].rows);
        used += (size_t)sprintf(header + used, "%zu],\"data_offsets\":[%" PRIu64 ",%" PRIu64 "]}", all[i].cols, offset,
                                offset + bytes);
        offset += bytes;
    }
    used += (size_t)sprintf(header + used, "}");
    while (used % 8)
        header[used++] = ' ';
    FILE *file = open_in(directory, name);
    uint64_t length = used;
    fwrite(&length, 8, 1, file);
    fwrite(header, 1, used, file);
    for (size_t i = 0; i < count; i++) {
        uint64_t state = seed;
        for (const char *c = all[i].name; *c; c++)
            state = state * 31 + (unsigned char)*c;
        write_values(file, count_of(&all[i]), &state);
    }
    if (fclose(file) != 0) {
        fprintf(stderr, "%s/%s: %s\n", directory, name, strerror(errno));
        exit(1);
    }
    free(header);
}

static size_t llama(const shape *s, tensor *all) {
    static const char *const linear[] = {"self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj",
                                         "mlp.gate_proj",    "mlp.up_proj",      "mlp.down_proj"};
    size_t n = 0;
    all[n++] = (tensor){"model.embed_tokens.weight", VOCABULARY, s->hidden};
    for (size_t layer = 0; layer < s->layers; layer++) {
        for (size_t i = 0; i < 7; i++) {
            tensor *t = &all[n++];
            snprintf(t->name, NAME, "model.layers.%zu.%s.weight", layer, linear[i]);
            t->rows = i == 4 || i == 5 ? s->ffn : s->hidden;
            t->cols = i == 6 ? s->ffn : s->hidden;
        }
        for (int i = 0; i < 2; i++) {
            tensor *t = &all[n++];
            snprintf(t->name, NAME, "model.layers.%zu.%s.weight", layer,
                     i ? "post_attention_layernorm" : "input_layernorm");
            t->cols = s->hidden;
        }
    }
    all[n++] = (tensor){"model.norm.weight", 0, s->hidden};
    all[n++] = (tensor){"lm_head.weight", VOCABULARY, s->hidden};
    return n;
}

static void write_config(const char *directory, const shape *s) {
    FILE *file = open_in(directory, "config.json");
    fprintf(
        file,
        "{\"architectures\": [\"LlamaForCausalLM\"], \"model_type\": \"llama\", \"vocab_size\": %d,\n"
        " \"hidden_size\": %zu, \"intermediate_size\": %zu, \"num_hidden_layers\": %zu, \"num_attention_heads\": %zu,\n"
        " \"num_key_value_heads\": %zu, \"head_dim\": 64, \"hidden_act\": \"silu\", \"rms_norm_eps\": 1e-05,\n"
        " \"rope_theta\": 10000.0, \"max_position_embeddings\": 2048, \"tie_word_embeddings\": false,\n"
        " \"torch_dtype\": \"bfloat16\"}\n",
        VOCABULARY, s->hidden, s->ffn, s->layers, s->hidden / 64, s->hidden / 64);
    fclose(file);
}

/* N vectors of 32 values in 16 files and an index. */
static void write_many(const char *directory, const shape *s) {
    tensor *all = calloc(s->tensors, sizeof *all);
    FILE *index = open_in(directory, "model.safetensors.index.json");
    fprintf(index, "{\"metadata\": {\"total_size\": %zu}, \"weight_map\": {", 64 * s->tensors);
    for (size_t i = 0; i < s->tensors; i++) {
        snprintf(all[i].name, NAME, "model.layers.%zu.experts.%zu.weight", i / 1000, i % 1000);
        all[i].cols = 32;
        fprintf(index, "%s\"%s\": \"model-%05zu-of-%05d.safetensors\"", i ? ",\n" : "", all[i].name,
                i * SHARDS / s->tensors + 1, SHARDS);
    }
    fprintf(index, "}}\n");
    fclose(index);
    for (size_t shard = 0; shard < SHARDS; shard++) {
        char name[64];
        size_t first = (shard * s->tensors + SHARDS - 1) / SHARDS,
               end = ((shard + 1) * s->tensors + SHARDS - 1) / SHARDS;
        snprintf(name, sizeof name, "model-%05zu-of-%05d.safetensors", shard + 1, SHARDS);
        write_file(directory, name, all + first, end - first, s->seed);
    }
    free(all);
}

int main(int argc, char **argv) {
    shape s = {.layers = 4, .hidden = 256, .ffn = 1024, .seed = 1};
    if (argc < 2 || argc % 2) {
        fprintf(stderr,
                "usage: make_checkpoint DIRECTORY [--layers N] [--hidden N] [--ffn N] [--tensors N] [--seed N]\n");
        return 2;
    }
    for (int i = 2; i < argc; i += 2) {
        size_t number = strtoull(argv[i + 1], NULL, 10);
        if (strcmp(argv[i], "--layers") == 0)
            s.layers = number;
        else if (strcmp(argv[i], "--hidden") == 0)
            s.hidden = number;
        else if (strcmp(argv[i], "--ffn") == 0)
            s.ffn = number;
        else if (strcmp(argv[i], "--tensors") == 0)
            s.tensors = number;
        else if (strcmp(argv[i], "--seed") == 0)
            s.seed = number;
        else
            return 2;
    }
    mkdir(argv[1], 0777);
    write_config(argv[1], &s);
    if (s.tensors) {
        write_many(argv[1], &s);
        return 0;
    }
    tensor *all = calloc(9 * s.layers + 3, sizeof *all);
    write_file(argv[1], "model.safetensors", all, llama(&s, all), s.seed);
    free(all);
    return 0;
}
