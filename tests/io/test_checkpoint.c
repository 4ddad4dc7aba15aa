/* Opening checkpoints: the tiny models, shards and indexes, parameters, and what is refused. */
#include <halftone/checkpoint.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#include "io/checkpoint_file.h"
#include "support/check.h"

static ht_context *ctx;
static size_t used_before;

static const char *folder(const char *name) {
    const char *p = check_path(name);
    mkdir(p, 0777);
    return p;
}

static void put(const char *directory, const char *name, const void *data, size_t bytes) {
    char path[700];
    snprintf(path, sizeof path, "%s/%s", directory, name);
    FILE *file = fopen(path, "wb");
    if (CHECK(file != NULL)) {
        CHECK_INT(fwrite(data, 1, bytes, file), bytes);
        fclose(file);
    }
}

static void put_text(const char *directory, const char *name, const char *text) {
    put(directory, name, text, strlen(text));
}

/* A file with one U8 tensor of four bytes. */
static void put_tensor(const char *directory, const char *file, const char *tensor) {
    char bytes[256], header[200];
    int length =
        snprintf(header, sizeof header, "{\"%s\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[0,4]}}", tensor);
    memset(bytes, 0, 8);
    bytes[0] = (char)length;
    memcpy(bytes + 8, header, (size_t)length);
    memcpy(bytes + 8 + length, "abcd", 4);
    put(directory, file, bytes, (size_t)length + 12);
}

static void tiny_models(void) {
    static const char *const names[] = {"gemma2",      "gpt-oss",        "llama",   "llama-bias-tied",
                                        "llama-rope3", "mistral-window", "mixtral", "olmoe",
                                        "phi3",        "qwen2",          "qwen3",   "qwen3-moe"};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        char path[100];
        snprintf(path, sizeof path, "tiny/%s", names[i]);
        ht_checkpoint *checkpoint;
        if (!CHECK_OK(ht_checkpoint_open(ctx, check_data(path), &checkpoint)))
            continue;
        CHECK_TEXT(ht_checkpoint_kind(checkpoint), "huggingface");
        CHECK_CONTAINS(ht_checkpoint_architecture(checkpoint), "ForCausalLM");
        CHECK_CONTAINS(ht_checkpoint_config(checkpoint), "\"architectures\"");
        CHECK_TEXT(ht_checkpoint_metadata_key(checkpoint, 0), "format");
        CHECK_TEXT(ht_checkpoint_metadata_value(checkpoint, 0), "pt");
        CHECK(ht_checkpoint_metadata_key(checkpoint, 1) == NULL);
        CHECK_INT(ht_checkpoint_parameter_count(checkpoint), ht_checkpoint_tensor_count(checkpoint));
        for (size_t t = 0; ht_checkpoint_tensor(checkpoint, t); t++) {
            const ht_stored_tensor *tensor = ht_checkpoint_tensor(checkpoint, t);
            const ht_parameter *parameter = ht_checkpoint_find_parameter(checkpoint, tensor->name);
            CHECK(ht_checkpoint_find(checkpoint, tensor->name) == tensor);
            CHECK(parameter && !parameter->quantized && parameter->stored[0] == t);
            CHECK(t == 0 || strcmp(ht_checkpoint_tensor(checkpoint, t - 1)->name, tensor->name) < 0);
        }
        CHECK(ht_checkpoint_find(checkpoint, "nothing") == NULL);
        ht_checkpoint_close(checkpoint);
    }
}

static void shapes(void) {
    ht_checkpoint *checkpoint;
    REQUIRE_OK(ht_checkpoint_open(ctx, check_data("tiny/gpt-oss"), &checkpoint));
    const ht_parameter *p = ht_checkpoint_find_parameter(checkpoint, "model.layers.0.mlp.experts.gate_up_proj");
    REQUIRE(p);
    CHECK_INT(p->rank, 3);
    CHECK_INT(p->weight.transposed, 1);
    CHECK_INT(p->weight.batch, 4);
    CHECK_INT(p->weight.rows, 192);
    CHECK_INT(p->weight.cols, 64);
    CHECK_INT(p->weight.stride[HT_PLANE_CODES], 192 * 64 * 2);
    p = ht_checkpoint_find_parameter(checkpoint, "model.norm.weight");
    REQUIRE(p);
    CHECK_INT(p->weight.batch, 1);
    CHECK_INT(p->weight.rows, 1);
    CHECK_INT(p->weight.cols, 64);
    p = ht_checkpoint_find_parameter(checkpoint, "model.layers.1.self_attn.q_proj.weight");
    REQUIRE(p);
    CHECK_INT(p->weight.rows, 64);
    CHECK_INT(p->weight.transposed, 0);
    ht_format bf16;
    CHECK_OK(ht_format_parse("bf16", &bf16));
    CHECK(ht_format_equal(&p->weight.format, &bf16));
    ht_checkpoint_close(checkpoint);
}

static void shards(void) {
    const char *dir = folder("shards");
    put_tensor(dir, "a.safetensors", "x");
    put_tensor(dir, "b.safetensors", "y");
    put_text(dir, "model.safetensors.index.json",
             "{\"metadata\":{},\"weight_map\":{\"x\":\"a.safetensors\",\"y\":\"b.safetensors\"}}");
    ht_checkpoint *checkpoint;
    REQUIRE_OK(ht_checkpoint_open(ctx, dir, &checkpoint));
    CHECK_INT(ht_checkpoint_tensor_count(checkpoint), 2);
    CHECK_TEXT(ht_checkpoint_find(checkpoint, "y")->file, "b.safetensors");
    CHECK_BYTES(ht_checkpoint_find(checkpoint, "y")->data, "abcd", 4);
    CHECK(ht_checkpoint_config(checkpoint) == NULL);
    CHECK(ht_checkpoint_architecture(checkpoint) == NULL);
    ht_checkpoint_close(checkpoint);
}

static void bad_indexes(void) {
    static const struct {
        const char *index, *message;
        ht_status status;
    } cases[] = {
        {"{\"weight_map\":{\"x\":\"a.safetensors\",\"y\":\"c.safetensors\"}}", "c.safetensors: cannot open", HT_ERR_IO},
        {"{\"weight_map\":{\"x\":\"a.safetensors\",\"z\":\"b.safetensors\"}}", "tensor z is not in b.safetensors",
         HT_ERR_CORRUPT},
        {"{\"weight_map\":{\"x\":\"b.safetensors\",\"y\":\"a.safetensors\"}}",
         "tensor x is listed in b.safetensors but lies in a.safetensors", HT_ERR_CORRUPT},
        {"{\"weight_map\":{\"x\":\"a.safetensors\",\"y\":\"../b.safetensors\"}}", "is not a file name", HT_ERR_CORRUPT},
        {"{\"weight_map\":{\"x\":1}}", "entry x is not a string", HT_ERR_CORRUPT},
        {"{\"weight_map\":[]}", "weight_map is not an object", HT_ERR_CORRUPT},
        {"{\"metadata\":{\"total_size\":1.5}}", "weight_map is missing", HT_ERR_CORRUPT},
        {"{\"weight_map\":{\"x\":\"a.safetensors\",\"x\":\"a.safetensors\"}}", "tensor x is listed twice",
         HT_ERR_CORRUPT},
        {"{\"weight_map\":{}} 1", "text behind the value", HT_ERR_CORRUPT},
        {"{", "not valid JSON", HT_ERR_CORRUPT},
    };
    const char *dir = folder("indexes");
    put_tensor(dir, "a.safetensors", "x");
    put_tensor(dir, "b.safetensors", "y");
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        put_text(dir, "model.safetensors.index.json", cases[i].index);
        ht_checkpoint *checkpoint;
        CHECK_FAILS(ht_checkpoint_open(ctx, dir, &checkpoint), cases[i].status);
        CHECK_CONTAINS(ht_error_message(), cases[i].message);
        CHECK(checkpoint == NULL);
    }
    put_tensor(dir, "b.safetensors", "x");
    put_text(dir, "model.safetensors.index.json", "{\"weight_map\":{\"x\":\"a.safetensors\",\"y\":\"b.safetensors\"}}");
    ht_checkpoint *checkpoint;
    CHECK_FAILS(ht_checkpoint_open(ctx, dir, &checkpoint), HT_ERR_CORRUPT);
    CHECK_CONTAINS(ht_error_message(), "tensor x is stored twice: in ");
}

static void bad_places(void) {
    ht_checkpoint *checkpoint;
    CHECK_FAILS(ht_checkpoint_open(ctx, "/nonexistent", &checkpoint), HT_ERR_IO);
    CHECK_FAILS(ht_checkpoint_open(ctx, "", &checkpoint), HT_ERR_ARGUMENT);
    const char *dir = folder("empty");
    CHECK_FAILS(ht_checkpoint_open(ctx, dir, &checkpoint), HT_ERR_IO);
    CHECK_CONTAINS(ht_error_message(), "no *.safetensors file");
    put_tensor(dir, "odd.safetensors", "x");
    CHECK_OK(ht_checkpoint_open(ctx, dir, &checkpoint));
    ht_checkpoint_close(checkpoint);
    put_tensor(dir, "odd2.safetensors", "y");
    CHECK_FAILS(ht_checkpoint_open(ctx, dir, &checkpoint), HT_ERR_CORRUPT);
    CHECK_CONTAINS(ht_error_message(), "2 *.safetensors files and no model.safetensors.index.json");
    dir = folder("unfinished");
    char staging[700];
    snprintf(staging, sizeof staging, "%s/.halftone", dir);
    mkdir(staging, 0777);
    CHECK_FAILS(ht_checkpoint_open(ctx, dir, &checkpoint), HT_ERR_IO);
    CHECK_CONTAINS(ht_error_message(), "unfinished output");
}

static void configs(void) {
    static const struct {
        const char *text, *message;
    } bad[] = {
        {"{\"a\":", "config is not valid JSON"},
        {"[]", "not a JSON object"},
        {"", "config is not valid JSON"},
        {"{\"a\":\"\xff\"}", "config is not valid JSON"},
        {"{\"quantization_config\":{\"quant_method\":\"secret\"}}", "quant_method \"secret\" has no reader"},
        {"{\"quantization_config\":5}", "quantization_config is not an object"},
    };
    const char *dir = folder("configs");
    put_tensor(dir, "model.safetensors", "x");
    ht_checkpoint *checkpoint;
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        put_text(dir, "config.json", bad[i].text);
        CHECK(ht_checkpoint_open(ctx, dir, &checkpoint) != HT_OK);
        CHECK_CONTAINS(ht_error_message(), bad[i].message);
    }
    put_text(dir, "config.json", "{\"architectures\":7,\"unknown\":[1],\"quantization_config\":null}");
    REQUIRE_OK(ht_checkpoint_open(ctx, dir, &checkpoint));
    CHECK(ht_checkpoint_architecture(checkpoint) == NULL);
    ht_checkpoint_close(checkpoint);
}

/* A static scale of inputs, and Hadamard blocks of them, as compressed-tensors says them. */
static void inputs_of_linears(void) {
    static const char config[] =
        "{\"quantization_config\": {\"quant_method\": \"compressed-tensors\", \"config_groups\": {\"g\": {\"targets\": "
        "[\"Linear\"], \"weights\": {\"num_bits\": 8, \"type\": \"float\", \"strategy\": \"tensor\"}, "
        "\"input_activations\": {\"num_bits\": 8, \"type\": \"float\", \"strategy\": \"tensor\", \"dynamic\": "
        "false}}}, \"transform_config\": {\"config_groups\": {\"h\": {\"type\": \"%s\", \"head_dim\": %d, \"apply\": "
        "[{\"targets\": [\"Linear\"], \"ignore\": [\"re:.*b$\"], \"location\": \"%s\"}]}}}}}";
    static const struct {
        const char *type;
        int block;
        const char *location;
        ht_status status;
        size_t want;
    } cases[] = {{"hadamard", 16, "input", HT_OK, 16},
                 {"hadamard", 0, "input", HT_OK, 64},
                 {"hadamard", 16, "weight_input", HT_OK, 0},
                 {"hadamard", 24, "input", HT_ERR_CORRUPT, 0},
                 {"hadamard", -2, "input", HT_ERR_CORRUPT, 0},
                 {"random-hadamard", 16, "input", HT_ERR_UNSUPPORTED, 0},
                 {"hadamard", 16, "q_attn", HT_ERR_UNSUPPORTED, 0}};
    const char *directory = folder("inputs");
    uint8_t codes[2 * 64] = {0};
    float one = 1, half = 0.5f;
    size_t scalar = 1;
    const char *const names[] = {"a.weight", "a.weight_scale", "a.input_scale", "b.weight", "b.weight_scale"};
    const ht_tensor tensors[] = {ht_tensor_view_2d(codes, HT_F8_E4M3, 2, 64), ht_tensor_view(&one, HT_F32, 1, &scalar),
                                 ht_tensor_view(&half, HT_F32, 1, &scalar), ht_tensor_view_2d(codes, HT_F8_E4M3, 2, 64),
                                 ht_tensor_view(&one, HT_F32, 1, &scalar)};
    char path[700], text[1200];
    snprintf(path, sizeof path, "%s/model.safetensors", directory);
    REQUIRE_OK(ht_safetensors_save(ctx, path, names, tensors, 5, NULL));
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        ht_checkpoint *checkpoint;
        snprintf(text, sizeof text, config, cases[i].type, cases[i].block, cases[i].location);
        put_text(directory, "config.json", text);
        if (cases[i].status != HT_OK) {
            CHECK_FAILS(ht_checkpoint_open(ctx, directory, &checkpoint), cases[i].status);
            CHECK_CONTAINS(ht_error_message(), "transform h");
            continue;
        }
        REQUIRE_OK(ht_checkpoint_open(ctx, directory, &checkpoint));
        const ht_parameter *a = ht_checkpoint_find_parameter(checkpoint, "a.weight");
        const ht_parameter *b = ht_checkpoint_find_parameter(checkpoint, "b.weight");
        REQUIRE(a && b);
        CHECK_INT(a->weight.inputs.block, cases[i].want);
        CHECK_INT(b->weight.inputs.block, 0);
        CHECK(a->input_scale == 0.5f && b->input_scale == 0);
        ht_checkpoint_close(checkpoint);
    }
}

static void single_file(void) {
    ht_checkpoint *checkpoint;
    REQUIRE_OK(ht_checkpoint_open(ctx, check_data("tiny/llama/logits.safetensors"), &checkpoint));
    CHECK_TEXT(ht_checkpoint_kind(checkpoint), "safetensors");
    const ht_stored_tensor *logits = ht_checkpoint_find(checkpoint, "logits");
    REQUIRE(logits);
    CHECK_INT(logits->rank, 3);
    CHECK_INT(logits->shape[2], 320);
    CHECK_TEXT(logits->file, "logits.safetensors");
    ht_checkpoint_close(checkpoint);
}

static void twice_in_one_file(void) {
    const char *header = "{\"t\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]},"
                         "\"t\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[1,2]}}";
    char bytes[256] = {(char)strlen(header)};
    memcpy(bytes + 8, header, strlen(header));
    ht_checkpoint *checkpoint;
    CHECK_FAILS(ht_checkpoint_open_memory(ctx, bytes, 8 + strlen(header) + 2, NULL, &checkpoint), HT_ERR_CORRUPT);
    CHECK_CONTAINS(ht_error_message(), "tensor t is stored twice");
}

/* A parameter whose data lies unaligned in the file is handed out aligned. */
static void unaligned(void) {
    const char *header = "{\"a\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]},"
                         "\"f\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[1,9]}}";
    size_t length = strlen(header);
    uint8_t *bytes = aligned_alloc(64, 256);
    memset(bytes, 0, 256);
    bytes[0] = (uint8_t)length;
    memcpy(bytes + 8, header, length);
    float values[2] = {1.5f, -2};
    memcpy(bytes + 8 + length + 1, values, 8);
    ht_checkpoint *checkpoint;
    if (CHECK_OK(ht_checkpoint_open_memory(ctx, bytes, 8 + length + 9, NULL, &checkpoint))) {
        const float *got = ht_checkpoint_find_parameter(checkpoint, "f")->weight.plane[HT_PLANE_CODES];
        CHECK_INT((uintptr_t)got % sizeof(float), 0);
        CHECK_F32(got, values, 2);
        ht_checkpoint_close(checkpoint);
    }
    free(bytes);
}

/* An index of 100,000 tensors; CPU time, generous because sanitizers and shared machines are slow. */
static void many_tensors(void) {
    enum { COUNT = 100000, EACH = 160 };
    char *bytes = malloc((size_t)COUNT * EACH);
    size_t at = 8;
    bytes[at++] = '{';
    for (size_t i = 0; i < COUNT; i++)
        at += (size_t)sprintf(bytes + at,
                              "%s\"model.layers.%zu.mlp.experts.%zu.up_proj.weight\":{\"dtype\":\"U8\",\"shape\":[1],"
                              "\"data_offsets\":[%zu,%zu]}",
                              i ? "," : "", i / 128, i % 128, i, i + 1);
    bytes[at++] = '}';
    for (size_t i = 0; i < 8; i++)
        bytes[i] = (char)(unsigned char)((at - 8) >> (8 * i));
    memset(bytes + at, 1, COUNT);
    ht_checkpoint *checkpoint;
    clock_t before = clock();
    if (CHECK_OK(ht_checkpoint_open_memory(ctx, bytes, at + COUNT, NULL, &checkpoint))) {
        double seconds = (double)(clock() - before) / CLOCKS_PER_SEC;
        printf("  %d tensors opened in %.3f s of CPU time\n", (int)COUNT, seconds);
        CHECK(seconds < 5);
        CHECK_INT(ht_checkpoint_parameter_count(checkpoint), COUNT);
        CHECK(ht_checkpoint_find(checkpoint, "model.layers.781.mlp.experts.31.up_proj.weight") != NULL);
        CHECK(ht_checkpoint_find(checkpoint, "model.layers.781.mlp.experts.32.up_proj.weight") == NULL);
        ht_checkpoint_close(checkpoint);
    }
    free(bytes);
}

static void nothing_left(void) {
    CHECK_INT(ht_context_memory_used(ctx), used_before);
}

int main(void) {
    if (ht_context_create(NULL, &ctx) != HT_OK)
        return 1;
    used_before = ht_context_memory_used(ctx);
    RUN(tiny_models);
    RUN(shapes);
    RUN(shards);
    RUN(bad_indexes);
    RUN(bad_places);
    RUN(configs);
    RUN(inputs_of_linears);
    RUN(single_file);
    RUN(twice_in_one_file);
    RUN(unaligned);
    RUN(many_tensors);
    RUN(nothing_left);
    ht_context_destroy(ctx);
    return check_finish();
}
