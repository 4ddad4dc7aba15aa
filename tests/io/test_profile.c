/* Profiles: what is written in slices comes back as the same planes, format and input; and what cannot be stored or
 * read is said in one line. */
#include "io/profile.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "io/checkpoint_file.h"
#include "io/targets.h"
#include "support/check.h"

static ht_context *ctx;

typedef struct item {
    const char *name, *weight, *input;
    size_t batch, rows, cols; /* batch 0: a matrix */
} item;

/* Byte `at` of a plane. Zero points stay inside the code range, scales never matter here. */
static uint8_t byte_of(const ht_format *format, int plane, size_t entry, size_t at) {
    unsigned bits = ht_dtype_bits(format->element);
    uint8_t value = (uint8_t)(plane * 91 + entry * 53 + at * 7 + at / 255);
    if (plane == HT_PLANE_ZEROS && format->zero == HT_I8)
        return (uint8_t)((int)(value % (1u << bits)) - (1 << (bits - 1)));
    return value;
}

static void fill(const ht_layout *layout, size_t entry, ht_planes *planes) {
    for (int plane = 0; plane < HT_PLANE_COUNT; plane++) {
        size_t bytes = ht_format_plane_bytes(&layout->format, (ht_plane)plane, layout->rows, layout->cols);
        uint8_t *to = planes->plane[plane] = bytes ? malloc(bytes) : NULL;
        for (size_t i = 0; i < bytes; i++)
            to[i] = byte_of(&layout->format, plane, entry, i);
    }
}

/* Slices of one step, last first. */
static void write_entry(const ht_layout *layout, ht_checkpoint_writer *writer, size_t first, size_t entry) {
    ht_planes planes;
    fill(layout, entry, &planes);
    size_t step = layout->row_step < layout->rows ? layout->row_step : layout->rows;
    size_t slices = (layout->rows + step - 1) / step;
    for (size_t i = slices; i-- > 0;) {
        size_t row = i * step, rows = layout->rows - row < step ? layout->rows - row : step;
        ht_planes part = ht_planes_at_row(&layout->format, &planes, layout->cols, row);
        CHECK_OK(ht_layout_write(layout, writer, first, entry, row, rows, &part));
    }
    for (int plane = 0; plane < HT_PLANE_COUNT; plane++)
        free(planes.plane[plane]);
}

enum { MOST = 8 };

typedef struct bench {
    ht_arena arena;
    ht_profile_request requests[MOST];
    ht_layout layouts[MOST];
    ht_output_tensor outputs[MOST * HT_MAX_COMPONENTS + 1];
    size_t first[MOST], count, output_count;
} bench;

static int lay_out(bench *b, const ht_profile *profile, const item *items, size_t count) {
    for (b->count = 0; b->count < count; b->count++) {
        const item *it = &items[b->count];
        ht_profile_request *request = &b->requests[b->count];
        *request = (ht_profile_request){.name = it->name,
                                        .rank = it->batch ? 3 : 2,
                                        .batch = it->batch ? it->batch : 1,
                                        .rows = it->rows,
                                        .cols = it->cols,
                                        .has_input = it->input != NULL,
                                        .input_rule = HT_SCALE_EVEN,
                                        .method = "rtn",
                                        .scheme = it->weight,
                                        .scale_rule = HT_SCALE_MSE};
        if (!CHECK_OK(ht_format_parse(it->weight, &request->weight)) ||
            (it->input && !CHECK_OK(ht_format_parse(it->input, &request->input))) ||
            !CHECK_OK(ht_profile_layout(profile, request, &b->arena, &b->layouts[b->count])))
            return 0;
        request->weight = b->layouts[b->count].format;
        b->first[b->count] = b->output_count;
        for (size_t c = 0; c < b->layouts[b->count].count; c++)
            b->outputs[b->output_count++] = b->layouts[b->count].component[c].tensor;
    }
    b->outputs[b->output_count++] = (ht_output_tensor){"model.norm.weight", HT_BF16, 1, {4}};
    return 1;
}

static void write_all(bench *b, const ht_profile *profile, const char *directory, ht_text *config) {
    ht_checkpoint_writer *writer;
    REQUIRE_OK(ht_checkpoint_writer_create(ctx, directory, b->outputs, b->output_count, NULL, &writer));
    for (size_t i = 0; i < b->count; i++) {
        for (size_t e = 0; e < b->layouts[i].batch; e++)
            write_entry(&b->layouts[i], writer, b->first[i], e);
        CHECK_OK(ht_layout_finish(&b->layouts[i], writer, b->first[i]));
    }
    for (size_t t = 0; t < b->output_count; t++)
        CHECK_OK(ht_checkpoint_writer_done(writer, t));
    const char *ignored[] = {"lm_head.weight", "model.layers.0.mlp.gate.weight", "model.layers.1.mlp.gate.weight"};
    CHECK_OK(ht_profile_config(profile, "{\n  \"model_type\": \"x\",\n  \"eps\": 1e-05\n}\n", b->requests, b->count,
                               ignored, 3, "{\"recipe\": \"r\"}", config));
    if (config->data)
        CHECK_OK(ht_checkpoint_writer_file(writer, "config.json", config->data, config->length));
    CHECK_OK(ht_checkpoint_writer_commit(writer));
    ht_checkpoint_writer_destroy(writer);
}

static void check_parameter(const ht_checkpoint *checkpoint, const ht_profile_request *request,
                            const ht_layout *layout) {
    const ht_parameter *p = ht_checkpoint_find_parameter(checkpoint, request->name);
    REQUIRE(p);
    CHECK_INT(p->quantized, 1);
    CHECK_INT(p->rank, request->rank);
    CHECK_INT(p->weight.batch, layout->batch);
    CHECK_INT(p->weight.rows, layout->rows);
    CHECK_INT(p->weight.cols, layout->cols);
    CHECK_INT(p->has_input, request->has_input);
    char got[96], want[96];
    ht_format_name(&p->weight.format, got, sizeof got);
    ht_format_name(&layout->format, want, sizeof want);
    CHECK_TEXT(got, want);
    if (request->has_input) {
        ht_format_name(&p->input, got, sizeof got);
        ht_format_name(&request->input, want, sizeof want);
        CHECK_TEXT(got, want);
    }
    for (size_t e = 0; e < layout->batch; e++) {
        ht_planes planes = ht_weight_planes(&p->weight, e);
        for (int plane = 0; plane < HT_PLANE_COUNT; plane++) {
            size_t bytes = ht_format_plane_bytes(&layout->format, (ht_plane)plane, layout->rows, layout->cols);
            const uint8_t *data = planes.plane[plane];
            CHECK(bytes == 0 || data != NULL);
            for (size_t i = 0; data && i < bytes; i++)
                if (data[i] != byte_of(&layout->format, plane, e, i)) {
                    printf("  %s plane %d entry %zu byte %zu\n", request->name, plane, e, i);
                    CHECK_INT(data[i], byte_of(&layout->format, plane, e, i));
                    break;
                }
        }
    }
}

/* Write the items under a profile, read them back; the config text for more checks (free it). */
static char *round_trip(const char *profile_name, const item *items, size_t count) {
    static int number;
    char directory[700];
    snprintf(directory, sizeof directory, "%s/profile%d", check_scratch(), number++);
    const ht_profile *profile;
    bench b = {.count = 0};
    ht_arena_init(&b.arena, ctx);
    ht_text config = {0};
    ht_checkpoint *checkpoint = NULL;
    if (CHECK_OK(ht_profile_find(profile_name, &profile)) && lay_out(&b, profile, items, count)) {
        write_all(&b, profile, directory, &config);
        if (CHECK_OK(ht_checkpoint_open(ctx, directory, &checkpoint))) {
            CHECK_INT(ht_checkpoint_parameter_count(checkpoint), count + 1);
            for (size_t i = 0; i < count; i++)
                check_parameter(checkpoint, &b.requests[i], &b.layouts[i]);
            const ht_parameter *norm = ht_checkpoint_find_parameter(checkpoint, "model.norm.weight");
            CHECK(norm && !norm->quantized);
        }
    }
    ht_checkpoint_close(checkpoint);
    ht_arena_release(&b.arena);
    return config.data ? config.data : strdup("");
}

static void compressed_tensors(void) {
    static const struct {
        const char *weight, *input, *format;
    } cases[] = {
        {"mxfp4", "mxfp4", "mxfp4-pack-quantized"},
        {"mxfp4", NULL, "mxfp4-pack-quantized"},
        {"mxfp4", "mxfp8", "mxfp4-pack-quantized"},
        {"mxfp8", "mxfp8", "mxfp8-quantized"},
        {"mxfp6_e2m3", NULL, "mxfp6-pack-quantized"},
        {"nvfp4", "nvfp4", "nvfp4-pack-quantized"},
        {"nvfp4", NULL, "nvfp4-pack-quantized"},
        {"fp8_row", "fp8_row", "float-quantized"},
        {"fp8_tensor", "fp8_tensor", "float-quantized"},
        {"fp8_block", "fp8_g128", "float-quantized"},
        {"fp8_row", NULL, "naive-quantized"},
        {"fp8_row_scale_bf16", "fp8_row", "float-quantized"},
        {"int8_row", "int8_row", "int-quantized"},
        {"int8_row_asym", "int8_row", "int-quantized"},
        {"int8_row", NULL, "pack-quantized"},
        {"int2_g32", NULL, "pack-quantized"},
        {"int3_g64_asym", NULL, "pack-quantized"},
        {"int4_g128", NULL, "pack-quantized"},
        {"int4_g32_asym", NULL, "pack-quantized"},
        {"int5_row", NULL, "pack-quantized"},
        {"int6_row_asym", NULL, "pack-quantized"},
        {"int7_g32_asym", NULL, "pack-quantized"},
        {"int8_g32_asym", NULL, "pack-quantized"},
        {"int4_tensor", NULL, "pack-quantized"},
        {"int4_g128_scale_bf16", "int8_row", "pack-quantized"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        item items[3] = {{"model.layers.0.self_attn.q_proj.weight", cases[i].weight, cases[i].input, 0, 256, 384},
                         {"model.layers.1.self_attn.q_proj.weight", cases[i].weight, cases[i].input, 0, 70, 128},
                         {"model.layers.0.mlp.experts.gate_up_proj", cases[i].weight, cases[i].input, 3, 33, 256}};
        char *config = round_trip("compressed-tensors", items, 3);
        char want[100];
        snprintf(want, sizeof want, "\"format\": \"%s\"", cases[i].format);
        CHECK_CONTAINS(config, want);
        CHECK_CONTAINS(config, "\"eps\": 1e-05");
        CHECK_CONTAINS(config, "\"quant_method\": \"compressed-tensors\"");
        CHECK_CONTAINS(config, "\"Linear\",\n");
        CHECK_CONTAINS(config, "\"re:^model\\\\.layers\\\\.\\\\d+\\\\.mlp\\\\.gate$\"");
        CHECK_CONTAINS(config, "\"recipe\": \"r\"");
        free(config);
    }
}

static void mixed(void) {
    static const item items[] = {{"model.layers.0.self_attn.q_proj.weight", "mxfp8", "mxfp8", 0, 64, 64},
                                 {"model.layers.1.self_attn.q_proj.weight", "mxfp8", "mxfp8", 0, 64, 64},
                                 {"model.layers.0.mlp.up_proj.weight", "int4_g32", NULL, 0, 64, 64},
                                 {"model.layers.1.mlp.up_proj.weight", "mxfp4", NULL, 0, 64, 64}};
    char *config = round_trip("compressed-tensors", items, 4);
    CHECK_CONTAINS(config, "\"format\": \"mixed-precision\"");
    CHECK_CONTAINS(config, "\"re:^model\\\\.layers\\\\.\\\\d+\\\\.self_attn\\\\.q_proj$\"");
    CHECK_CONTAINS(config, "\"model.layers.1.mlp.up_proj\"");
    CHECK(strstr(config, "\"Linear\"") == NULL);
    free(config);
}

static void plain(void) {
    static const char *const weights[] = {"nf4",        "int1_g32",     "q4_k",     "q8_0",          "mxfp8_e5m2",
                                          "mxint8",     "fp4",          "int4_g32", "nf4_flat",      "int4_g32_float0",
                                          "mxfp6_e3m2", "nvfp4_single", "bf16",     "uint4_g32_asym"};
    for (size_t i = 0; i < sizeof weights / sizeof weights[0]; i++) {
        item items[2] = {{"a.weight", weights[i], "int8_row", 0, 64, 512}, {"b", weights[i], NULL, 2, 8, 256}};
        char *config = round_trip("plain", items, 2);
        CHECK_CONTAINS(config, "\"quant_method\": \"halftone\"");
        free(config);
    }
}

static void published(void) {
    static const item fp8[] = {{"a.weight", "fp8_block", "fp8_g128", 0, 256, 384},
                               {"b.weight", "fp8_block", "fp8_g128", 0, 200, 130}};
    char *config = round_trip("fp8", fp8, 2);
    CHECK_CONTAINS(config, "\"weight_block_size\"");
    CHECK_CONTAINS(config, "\"model.layers.1.mlp.gate\"");
    free(config);
    static const item oss[] = {{"model.layers.0.mlp.experts.down_proj", "mxfp4", NULL, 4, 64, 96}};
    config = round_trip("gpt-oss", oss, 1);
    CHECK_CONTAINS(config, "\"quant_method\": \"mxfp4\"");
    free(config);
}

static void refused(void) {
    static const struct {
        const char *profile, *weight, *input, *message;
        size_t batch, cols;
    } cases[] = {
        {"compressed-tensors", "nf4", NULL, "cannot hold nf4: use profile plain", 0, 64},
        {"compressed-tensors", "int1_g32", NULL, "cannot hold int1_g32", 0, 64},
        {"compressed-tensors", "q4_k", NULL, "cannot hold q4_k", 0, 256},
        {"compressed-tensors", "mxfp8_e5m2", NULL, "cannot hold mxfp8_e5m2", 0, 64},
        {"compressed-tensors", "int4_g32_float0", NULL, "zero points are integers", 0, 64},
        {"compressed-tensors", "nvfp4_single", NULL, "one global scale", 0, 64},
        {"compressed-tensors", "mxfp4", NULL, "65", 0, 65},
        {"fp8", "fp8_row", "fp8_row", "fp8_block", 0, 64},
        {"fp8", "fp8_block", NULL, "fp8-block", 0, 64},
        {"gpt-oss", "mxfp4", NULL, "fused experts", 0, 64},
        {"gpt-oss", "mxfp8", NULL, "mxfp4", 2, 64},
        {"modelopt", "nvfp4", NULL, "read, not written", 0, 64},
    };
    ht_arena arena;
    ht_arena_init(&arena, ctx);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        const ht_profile *profile;
        ht_layout layout;
        ht_profile_request request = {.name = "a.weight",
                                      .rank = cases[i].batch ? 3 : 2,
                                      .batch = cases[i].batch ? cases[i].batch : 1,
                                      .rows = 64,
                                      .cols = cases[i].cols,
                                      .has_input = cases[i].input != NULL};
        CHECK_OK(ht_format_parse(cases[i].weight, &request.weight));
        if (cases[i].input)
            CHECK_OK(ht_format_parse(cases[i].input, &request.input));
        CHECK_OK(ht_profile_find(cases[i].profile, &profile));
        CHECK(ht_profile_layout(profile, &request, &arena, &layout) != HT_OK);
        CHECK_CONTAINS(ht_error_message(), cases[i].message);
    }
    const ht_profile *profile;
    CHECK_FAILS(ht_profile_find("gguff", &profile), HT_ERR_ARGUMENT);
    CHECK_CONTAINS(ht_error_message(), "compressed-tensors");
    ht_arena_release(&arena);
}

/* Zero points down the rows, against the words that compressed-tensors 0.20.0 packs (pack_to_int32, packed_dim 0). */
static void packed_zero_points(void) {
    const ht_profile *profile;
    REQUIRE_OK(ht_profile_find("compressed-tensors", &profile));
    ht_arena arena;
    ht_arena_init(&arena, ctx);
    ht_layout layout;
    ht_profile_request request = {.name = "a.weight", .rank = 2, .batch = 1, .rows = 12, .cols = 64};
    CHECK_OK(ht_format_parse("int3_g32_asym", &request.weight));
    REQUIRE_OK(ht_profile_layout(profile, &request, &arena, &layout));
    CHECK_TEXT(layout.component[2].tensor.name, "a.weight_zero_point");
    CHECK_INT(layout.component[2].tensor.shape[0], 2);
    CHECK_INT(layout.component[2].tensor.shape[1], 2);
    static const int8_t column[12] = {-4, 3, 0, 1, -1, 2, -3, -2, 3, 3, 0, -4}; /* words 3f473b38 00000001 */
    int8_t zeros[24];
    for (int i = 0; i < 12; i++) {
        zeros[2 * i] = column[i];
        zeros[2 * i + 1] = -4;
    }
    uint8_t codes[12 * 6 * 4] = {0}, scales[12 * 2 * 4] = {0};
    char directory[700];
    snprintf(directory, sizeof directory, "%s/zeros", check_scratch());
    ht_output_tensor outputs[HT_MAX_COMPONENTS];
    for (size_t i = 0; i < layout.count; i++)
        outputs[i] = layout.component[i].tensor;
    ht_checkpoint_writer *writer;
    REQUIRE_OK(ht_checkpoint_writer_create(ctx, directory, outputs, layout.count, NULL, &writer));
    ht_planes planes = {{codes, scales, zeros, NULL, NULL}};
    CHECK_OK(ht_layout_write(&layout, writer, 0, 0, 0, 12, &planes));
    CHECK_FAILS(ht_layout_write(&layout, writer, 0, 0, 8, 4, &planes), HT_ERR_SHAPE);
    CHECK_FAILS(ht_layout_write(&layout, writer, 0, 1, 0, 12, &planes), HT_ERR_SHAPE);
    CHECK_OK(ht_layout_finish(&layout, writer, 0));
    for (size_t i = 0; i < layout.count; i++)
        CHECK_OK(ht_checkpoint_writer_done(writer, i));
    CHECK_OK(ht_checkpoint_writer_commit(writer));
    ht_checkpoint_writer_destroy(writer);
    ht_checkpoint *checkpoint;
    REQUIRE_OK(ht_checkpoint_open(ctx, directory, &checkpoint));
    uint32_t words[4];
    memcpy(words, ht_checkpoint_find(checkpoint, "a.weight_zero_point")->data, sizeof words);
    CHECK_INT(words[0], 0x3f473b38);
    CHECK_INT(words[1], 0);
    CHECK_INT(words[2], 1);
    CHECK_INT(words[3], 0);
    int64_t shape[2];
    memcpy(shape, ht_checkpoint_find(checkpoint, "a.weight_shape")->data, sizeof shape);
    CHECK_INT(shape[0], 12);
    CHECK_INT(shape[1], 64);
    ht_checkpoint_close(checkpoint);
    ht_arena_release(&arena);
}

/* --- Reading what others write, and malformed configs --------------------------------------------------------- */

/* Open one in-memory file: header, zero bytes of data, config. */
static ht_status open_with(const char *header, size_t data, const char *config, ht_checkpoint **out) {
    size_t length = strlen(header);
    uint8_t *bytes = calloc(1, 8 + length + data);
    bytes[0] = (uint8_t)length;
    bytes[1] = (uint8_t)(length >> 8);
    memcpy(bytes + 8, header, length);
    ht_status status = ht_checkpoint_open_memory(ctx, bytes, 8 + length + data, config, out);
    if (status != HT_OK)
        free(bytes);
    else
        free((void *)(uintptr_t)bytes); /* shapes only are looked at below */
    return status;
}

static const char mxfp4_header[] = "{\"a.weight_packed\":{\"dtype\":\"U8\",\"shape\":[2,32],\"data_offsets\":[0,64]},"
                                   "\"a.weight_scale\":{\"dtype\":\"U8\",\"shape\":[2,2],\"data_offsets\":[64,68]}}";
#define GROUP(args)                                                                                                    \
    "{\"quantization_config\":{\"quant_method\":\"compressed-tensors\",\"config_groups\":{\"g\":{\"targets\":"         \
    "[\"Linear\"],\"weights\":" args "}}}}"

static void bad_configs(void) {
    static const struct {
        const char *config, *message;
    } cases[] = {
        {"{\"quantization_config\":{\"quant_method\":\"compressed-tensors\"}}", "config_groups is missing"},
        {"{\"quantization_config\":{\"quant_method\":\"compressed-tensors\",\"config_groups\":{}}}",
         "no config group targets a.weight"},
        {"{\"quantization_config\":{\"quant_method\":\"compressed-tensors\",\"config_groups\":{\"g\":{\"targets\":[1]}}"
         "}}",
         "target 0 is not a string"},
        {"{\"quantization_config\":{\"quant_method\":\"compressed-tensors\",\"config_groups\":{\"g\":{\"targets\":"
         "[\"re:(\"]}}}}",
         "target \"re:(\""},
        {"{\"quantization_config\":{\"quant_method\":\"compressed-tensors\",\"config_groups\":{\"g\":{\"targets\":"
         "[\"Linear\"]}}}}",
         "its config group has no weights"},
        {GROUP("{\"num_bits\":4,\"type\":\"float\",\"strategy\":\"group\",\"group_size\":64}"), "no known format"},
        {GROUP("{\"num_bits\":99}"), "no known format"},
        {GROUP("{\"num_bits\":8,\"type\":\"float\",\"group_size\":32,\"strategy\":\"group\"}"),
         "dtype u8 does not fit"},
        {GROUP("{\"num_bits\":4,\"type\":\"int\",\"group_size\":32,\"strategy\":\"group\"}"), "scales of dtype u8"},
        {GROUP("{\"num_bits\":4,\"type\":\"float\",\"strategy\":\"tensor_group\",\"group_size\":16}"), "4"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        ht_checkpoint *checkpoint;
        ht_status status = open_with(mxfp4_header, 68, cases[i].config, &checkpoint);
        CHECK(status == HT_ERR_CORRUPT || status == HT_ERR_UNSUPPORTED);
        CHECK_CONTAINS(ht_error_message(), cases[i].message);
        if (status == HT_OK)
            ht_checkpoint_close(checkpoint);
    }
}

static void read_forms(void) {
    ht_checkpoint *checkpoint;
    static const char *const good =
        GROUP("{\"num_bits\":4,\"type\":\"float\",\"strategy\":\"group\",\"group_size\":32,\"unknown\":{}}");
    REQUIRE_OK(open_with(mxfp4_header, 68, good, &checkpoint));
    CHECK_INT(ht_checkpoint_parameter_count(checkpoint), 1);
    CHECK_INT(ht_checkpoint_find_parameter(checkpoint, "a.weight")->weight.cols, 64);
    CHECK_INT(ht_checkpoint_find_parameter(checkpoint, "a.weight")->has_input, 0);
    ht_checkpoint_close(checkpoint);

    static const char modelopt[] =
        "{\"a.input_scale\":{\"dtype\":\"F32\",\"shape\":[],\"data_offsets\":[0,4]},"
        "\"a.weight\":{\"dtype\":\"U8\",\"shape\":[2,16],\"data_offsets\":[8,40]},"
        "\"a.weight_scale\":{\"dtype\":\"F8_E4M3\",\"shape\":[2,2],\"data_offsets\":[40,44]},"
        "\"a.weight_scale_2\":{\"dtype\":\"F32\",\"shape\":[],\"data_offsets\":[4,8]}}";
    REQUIRE_OK(open_with(modelopt, 44,
                         "{\"quantization_config\":{\"quant_method\":\"modelopt\",\"quant_algo\":\"NVFP4\"}}",
                         &checkpoint));
    const ht_parameter *p = ht_checkpoint_find_parameter(checkpoint, "a.weight");
    CHECK_INT(ht_checkpoint_parameter_count(checkpoint), 1);
    CHECK_INT(p->weight.cols, 32);
    CHECK_INT(p->weight.format.global_rule, HT_GLOBAL_MULTIPLIES);
    CHECK_INT(p->stored_count, 4);
    ht_checkpoint_close(checkpoint);

    static const char fp8[] = "{\"a.input_scale\":{\"dtype\":\"F32\",\"shape\":[],\"data_offsets\":[0,4]},"
                              "\"a.weight\":{\"dtype\":\"F8_E4M3\",\"shape\":[2,16],\"data_offsets\":[8,40]},"
                              "\"a.weight_scale\":{\"dtype\":\"F32\",\"shape\":[],\"data_offsets\":[4,8]}}";
    REQUIRE_OK(open_with(fp8, 40, "{\"quantization_config\":{\"quant_method\":\"fp8\"}}", &checkpoint));
    p = ht_checkpoint_find_parameter(checkpoint, "a.weight");
    CHECK_INT(ht_checkpoint_parameter_count(checkpoint), 1);
    CHECK_INT(p->weight.format.block_rows, 0);
    CHECK_INT(p->has_input, 1);
    CHECK_INT(p->stored_count, 3);
    ht_checkpoint_close(checkpoint);
    static const char tiles[] = "{\"a.weight\":{\"dtype\":\"F8_E4M3\",\"shape\":[3,65],\"data_offsets\":[8,203]},"
                                "\"a.weight_scale_inv\":{\"dtype\":\"F32\",\"shape\":[1,2],\"data_offsets\":[0,8]}}";
    REQUIRE_OK(open_with(
        tiles, 203, "{\"quantization_config\":{\"quant_method\":\"fp8\",\"weight_block_size\":[64,64]}}", &checkpoint));
    p = ht_checkpoint_find_parameter(checkpoint, "a.weight");
    CHECK_INT(p->weight.format.block_rows, 64);
    CHECK_INT(p->input.block_cols, 64);
    ht_checkpoint_close(checkpoint);

    static const char missing[] = "{\"a.weight_packed\":{\"dtype\":\"U8\",\"shape\":[2,32],\"data_offsets\":[0,64]}}";
    CHECK_FAILS(open_with(missing, 64, good, &checkpoint), HT_ERR_CORRUPT);
    CHECK_CONTAINS(ht_error_message(), "a.weight_packed has no weight_scale beside it");
}

static void config_text(void) {
    const ht_profile *profile;
    REQUIRE_OK(ht_profile_find("compressed-tensors", &profile));
    static const struct {
        const char *source, *want;
    } cases[] = {
        {NULL, "{\n  \"quantization_config\": {"},
        {"{}", "{\n  \"quantization_config\": {"},
        {"{\"a\":{\"b\":1}}", "{\"a\":{\"b\":1},\n  \"quantization_config\": {"},
        {"{\"quantization_config\":{\"old\":1},\"a\":2}", "{\n  \"a\": 2,\n  \"quantization_config\": {"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        ht_text out = {0};
        CHECK_OK(ht_profile_config(profile, cases[i].source, NULL, 0, NULL, 0, NULL, &out));
        CHECK_CONTAINS(out.data, cases[i].want);
        CHECK(strstr(out.data, "old") == NULL);
        json_t *root = json_loads(out.data, 0, NULL);
        CHECK(root != NULL);
        json_decref(root);
        ht_text_free(&out);
    }
    ht_text out = {0};
    CHECK_FAILS(ht_profile_config(profile, "[1]", NULL, 0, NULL, 0, NULL, &out), HT_ERR_CORRUPT);
    ht_text_free(&out);
}

static void targets(void) {
    json_t *lists[3] = {json_pack("[s,s]", "re:.*self_attn", "a.exact"), json_pack("[s]", "re:^a\\.\\d+$"),
                        json_pack("[s]", "Linear")};
    ht_targets *t;
    REQUIRE_OK(ht_targets_create("x", lists, 3, &t));
    CHECK_INT(ht_targets_find(t, "b.self_attn.q.weight", 20), 0); /* a pattern matches a prefix */
    CHECK_INT(ht_targets_find(t, "a.exact.weight", 14), 0);
    CHECK_INT(ht_targets_find(t, "a.exact", 7), 0);
    CHECK_INT(ht_targets_find(t, "a.exactly", 9), 2);
    CHECK_INT(ht_targets_find(t, "a.17.weight", 11), 1);
    CHECK_INT(ht_targets_find(t, "xa.17.weight", 12), 2);
    ht_targets_destroy(t);
    for (int i = 0; i < 3; i++)
        json_decref(lists[i]);
}

int main(void) {
    if (ht_context_create(NULL, &ctx) != HT_OK)
        return 1;
    RUN(compressed_tensors);
    RUN(mixed);
    RUN(plain);
    RUN(published);
    RUN(refused);
    RUN(packed_zero_points);
    RUN(bad_configs);
    RUN(read_forms);
    RUN(config_text);
    RUN(targets);
    ht_context_destroy(ctx);
    return check_finish();
}
