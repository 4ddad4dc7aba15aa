/* Schemes: what a user may ask for one linear layer, by name.
 *
 * Fixed names are rows of the table; integer schemes are a pattern, int<bits>[-g<group>|-row][-asym|-float0][-a8|-w]:
 *
 *     int4          128 values share a scale, as the W4A16 preset of compressed-tensors and torchao's int4 do
 *     int2 .. int7  likewise
 *     int8          one scale a row and int8 activations per token (W8A8); int8-w, int8-row: weights only (W8A16)
 *     int8-g32      a group is always weight only, unless -a8 follows
 *     -asym         integer zero points; -float0: a float added to the product, as tinygemm kernels have it
 *
 * A parsed scheme carries the canonical name, so that "W4A16", "INT4-G128" and "int4" are one scheme. Names of the
 * compressed-tensors presets are aliases where they mean the same; FP8 means fp8 (a scale a row), not their static
 * per-tensor preset, because case is ignored. Source: design specification, section 2.
 * SPDX-License-Identifier: BSD-3-Clause */
#include <halftone/recipe.h>

#include <stdio.h>  /* snprintf */
#include <stdlib.h> /* strtoul */
#include <string.h> /* memcpy, strlen */

#include "base/nearest.h"
#include "base/status.h"

typedef struct scheme_row {
    ht_list_item item;
    const char *weight;        /* format name */
    const char *input;         /* format name, or NULL: activations stay as they are */
    uint32_t input_block_rows; /* 0 = the format's own */
    ht_scale_rule input_rule;
    ht_input_range input_range;
} scheme_row;

/* Activations of MX schemes use RCEIL: it never saturates. The weights' rule is an option of the recipe. */
static const scheme_row schemes[] = {
    {.item = {"mxfp8", "MXFP8 (e4m3, block 32) weights and dynamic MXFP8 activations", "mxfp8-a8"},
     .weight = "mxfp8",
     .input = "mxfp8",
     .input_rule = HT_SCALE_RCEIL},
    {.item = {"mxfp4", "MXFP4 (e2m1, block 32) weights and dynamic MXFP4 activations", "mxfp4-a4"},
     .weight = "mxfp4",
     .input = "mxfp4",
     .input_rule = HT_SCALE_RCEIL},
    {.item = {"mxfp4-w", "MXFP4 weights", "mxfp4a16 mxfp4-a16"}, .weight = "mxfp4"},
    {.item = {"mxfp8-w", "MXFP8 weights", "mxfp8a16 mxfp8-a16"}, .weight = "mxfp8"},
    {.item = {"mxfp6-e2m3-w", "MXFP6 (e2m3, block 32) weights", "mxfp6-w mxfp6a16 mxfp6-e2m3"}, .weight = "mxfp6-e2m3"},
    {.item = {"mxfp6-e3m2-w", "MXFP6 (e3m2, block 32) weights", "mxfp6-e3m2"}, .weight = "mxfp6-e3m2"},
    {.item = {"mxfp4-a8", "MXFP4 weights and dynamic MXFP8 activations", "mxfp4a8"},
     .weight = "mxfp4",
     .input = "mxfp8",
     .input_rule = HT_SCALE_RCEIL},
    {.item = {"nvfp4", "NVFP4 (e2m1, block 16, two-level scale) weights and dynamic NVFP4 activations", ""},
     .weight = "nvfp4",
     .input = "nvfp4"},
    {.item = {"nvfp4-w", "NVFP4 weights", "nvfp4a16 nvfp4-a16"}, .weight = "nvfp4"},
    {.item = {"fp8", "e4m3 weights, a scale per row, and dynamic e4m3 activations per token", "fp8-dynamic fp8-row"},
     .weight = "fp8-row",
     .input = "fp8-row"},
    {.item = {"fp8-tensor", "e4m3 weights and dynamic e4m3 activations, a scale per tensor", ""},
     .weight = "fp8-tensor",
     .input = "fp8-tensor"},
    {.item = {"fp8-block", "e4m3 weights, a scale per 128x128 tile, and dynamic e4m3 activations per 1x128", ""},
     .weight = "fp8-block",
     .input = "fp8-block",
     .input_block_rows = 1},
    {.item = {"fp8-static", "e4m3 weights, a scale per tensor, and e4m3 activations by one scale from calibration text",
              "fp8-tensor-static"},
     .weight = "fp8-tensor",
     .input = "fp8-tensor",
     .input_range = HT_INPUT_ABS_MAX},
    {.item = {"int8-static", "int8 weights, a scale per row, and int8 activations by one scale from calibration text",
              "w8a8-static"},
     .weight = "int8-row",
     .input = "int8-tensor",
     .input_range = HT_INPUT_MSE},
    {.item = {"fp8-w", "e4m3 weights, a scale per row", "fp8a16"}, .weight = "fp8-row"},
    {.item = {"nf4", "NF4 (16 normal quantiles, block 64, double quantized scales) weights", ""}, .weight = "nf4"},
    {.item = {"nf4-flat", "NF4 weights with f32 scales", ""}, .weight = "nf4_flat"},
    {.item = {"lut4", "4-bit codes into tables that 16 rows of 128 columns share", "lut4-g128"}, .weight = "lut4_g128"},
    {.item = {"lut4-g64", "4-bit codes into tables that 16 rows of 64 columns share", ""}, .weight = "lut4_g64"},
    {.item = {"lut3", "3-bit codes into tables that 16 rows of 64 columns share", "lut3-g64"}, .weight = "lut3_g64"},
    {.item = {"lut2", "2-bit codes into tables that 16 rows of 64 columns share", "lut2-g64"}, .weight = "lut2_g64"},
    {.item = {"bf16", "bf16 weights as they are, for methods that prune", ""}, .weight = "bf16"},
    {.item = {"q4_0", "GGUF Q4_0 blocks", ""}, .weight = "q4_0"},
    {.item = {"q4_k", "GGUF Q4_K blocks", ""}, .weight = "q4_k"},
    {.item = {"q5_k", "GGUF Q5_K blocks", ""}, .weight = "q5_k"},
    {.item = {"q6_k", "GGUF Q6_K blocks", ""}, .weight = "q6_k"},
    {.item = {"q8_0", "GGUF Q8_0 blocks", ""}, .weight = "q8_0"},
    {.item = {"iq4_nl", "GGUF IQ4_NL blocks", ""}, .weight = "iq4_nl"},
    {.item = {"iq4_xs", "GGUF IQ4_XS blocks", ""}, .weight = "iq4_xs"},
};

/* Integer schemes, as lists show them; `spelled` is what an alias stands for. */
static const struct {
    ht_list_item item;
    const char *spelled;
} integers[] = {
    {{"int8", "int8 weights, a scale per row, and dynamic int8 activations per token", "w8a8"}, "int8-row-a8"},
    {{"int8-w", "int8 weights, a scale per row", "w8a16 int8-row"}, "int8-row"},
    {{"int4", "int4 weights, 128 values share a scale", "w4a16 int4-g128"}, "int4-g128"},
    {{"int4-asym", "int4 weights with zero points, 128 values share a scale", "w4a16-asym"}, "int4-g128-asym"},
    {{"int4-a8", "int4 weights, 128 values share a scale, and dynamic int8 activations per token", "w4a8"},
     "int4-g128-a8"},
    {{"int<N>[-g<G>][-asym][-a8]",
      "integer weights of N bits; G values share a scale (-row: a row), -asym or -float0 zero points, -a8 inputs", ""},
     NULL},
};

enum { SCHEMES = sizeof schemes / sizeof *schemes, INTEGERS = sizeof integers / sizeof *integers, SHORT = 32 };

const ht_list_item *ht_scheme_list(size_t index) {
    if (index < SCHEMES)
        return &schemes[index].item;
    return index - SCHEMES < INTEGERS ? &integers[index - SCHEMES].item : NULL;
}

/* Is name the item's name or one of its aliases? */
static int names(const ht_list_item *item, const char *name) {
    if (ht_word_equal(item->name, name))
        return 1;
    for (const char *at = item->aliases; *at;) {
        char word[SHORT];
        size_t length = strcspn(at, " ");
        if (length < sizeof word) {
            memcpy(word, at, length);
            word[length] = '\0';
            if (ht_word_equal(word, name))
                return 1;
        }
        at += length + strspn(at + length, " ");
    }
    return 0;
}

static ht_status from_row(const scheme_row *row, ht_scheme *out) {
    *out = (ht_scheme){.has_input = row->input != NULL, .input_rule = row->input_rule, .input_range = row->input_range};
    snprintf(out->name, sizeof out->name, "%s", row->item.name);
    HT_TRY(ht_format_parse(row->weight, &out->weight));
    if (row->input)
        HT_TRY(ht_format_parse(row->input, &out->input));
    if (row->input_block_rows)
        out->input.block_rows = row->input_block_rows;
    return HT_OK;
}

/* What the pattern says; group 0 = the whole row. */
typedef struct integer {
    unsigned long bits, group;
    int input;
    const char *zero; /* "", "-asym" or "-float0" */
} integer;

/* Take `word` off *at when it stands there as a whole part. */
static int take(const char **at, const char *word) {
    char part[SHORT];
    if (**at != '-' && **at != '_')
        return 0;
    size_t length = strcspn(*at + 1, "-_");
    if (length >= sizeof part)
        return 0;
    memcpy(part, *at + 1, length);
    part[length] = '\0';
    if (!ht_word_equal(part, word))
        return 0;
    *at += 1 + length;
    return 1;
}

/* Decimal digits at *at, at most three. */
static int take_number(const char **at, unsigned long *out) {
    size_t digits = strspn(*at, "0123456789");
    if (digits == 0 || digits > 3 || **at == '0')
        return 0;
    *out = strtoul(*at, NULL, 10);
    *at += digits;
    return 1;
}

static int parse_integer(const char *name, integer *out) {
    const char *at = name;
    for (const char *prefix = "int"; *prefix; prefix++, at++)
        if ((*at | 0x20) != *prefix)
            return 0;
    if (!take_number(&at, &out->bits) || out->bits > 8)
        return 0;
    int whole = *at == '\0'; /* int8 alone is W8A8 */
    out->group = out->bits == 8 ? 0 : 128;
    out->input = whole && out->bits == 8;
    if ((at[0] == '-' || at[0] == '_') && (at[1] | 0x20) == 'g') {
        at += 2;
        if (!take_number(&at, &out->group) || out->group < 16 || out->group > 256)
            return 0;
    } else if (take(&at, "row")) {
        out->group = 0;
    }
    out->zero = take(&at, "asym") ? "-asym" : take(&at, "float0") ? "-float0" : "";
    if (take(&at, "a8"))
        out->input = 1;
    else
        take(&at, "w");
    return *at == '\0';
}

/* Canonical name: defaults unsaid. int8 says -w when it has no input and nothing else tells it from W8A8. */
static void name_integer(const integer *scheme, char *name, size_t size) {
    unsigned long usual = scheme->bits == 8 ? 0 : 128;
    char group[SHORT] = "";
    if (scheme->group != usual)
        snprintf(group, sizeof group, scheme->group ? "-g%lu" : "-row", scheme->group);
    int plain8 = scheme->bits == 8 && !*group && !*scheme->zero;
    const char *input = plain8 ? (scheme->input ? "" : "-w") : scheme->input ? "-a8" : "";
    snprintf(name, size, "int%lu%s%s%s", scheme->bits, group, scheme->zero, input);
}

static ht_status from_integer(const integer *scheme, ht_scheme *out) {
    *out = (ht_scheme){.has_input = scheme->input};
    name_integer(scheme, out->name, sizeof out->name);
    char format[2 * SHORT];
    if (scheme->group)
        snprintf(format, sizeof format, "int%lu_g%lu%s", scheme->bits, scheme->group, scheme->zero);
    else
        snprintf(format, sizeof format, "int%lu_row%s", scheme->bits, scheme->zero);
    HT_TRY(ht_format_parse(format, &out->weight));
    return scheme->input ? ht_format_parse("int8_token", &out->input) : HT_OK;
}

ht_status ht_scheme_parse(const char *name, ht_scheme *out) {
    *out = (ht_scheme){0};
    integer found;
    for (size_t i = 0; i < SCHEMES; i++)
        if (names(&schemes[i].item, name))
            return from_row(&schemes[i], out);
    for (size_t i = 0; i < INTEGERS; i++)
        if (integers[i].spelled && names(&integers[i].item, name) && parse_integer(integers[i].spelled, &found))
            return from_integer(&found, out);
    if (parse_integer(name, &found))
        return from_integer(&found, out);
    ht_nearest nearest = {.word = name};
    const ht_list_item *item;
    for (size_t i = 0; (item = ht_scheme_list(i)); i++)
        ht_nearest_offer(&nearest, item->name);
    ht_nearest_offer(&nearest, "int4-g32");
    return ht_fail(HT_ERR_ARGUMENT,
                   "scheme \"%.64s\" is unknown; the nearest is %s (`halftone list schemes` shows all; integer schemes "
                   "are int<1..8>[-g<16..256>|-row][-asym|-float0][-a8])",
                   name, nearest.found);
}
