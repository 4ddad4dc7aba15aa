/* Compiling and matching with PCRE2.
 *
 * Patterns are compiled once, with UTF and UCP and through the JIT compiler where the platform has one; matching skips
 * the UTF-8 check because the caller guarantees it (checking the whole text again at every word is quadratic). A match
 * that outgrows the JIT's machine stack is repeated with a stack of up to 64 MB. Limits bound what a hostile pattern
 * can cost: steps in proportion to the text, and memory of the interpreter.
 * Source: pcre2api(3), pcre2jit(3).
 * SPDX-License-Identifier: BSD-3-Clause */
#include "tokenizer/regex.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include "base/memory.h"
#include "base/status.h"
#include "tokenizer/utf8.h"

enum {
    STEPS_AT_LEAST = 10 * 1000 * 1000,
    STEPS_PER_BYTE = 16,
    INTERPRETER_KIB = 256 * 1024,
    STACK_FIRST = 64 * 1024,
    STACK_LAST = 64 * 1024 * 1024,
};

struct ht_regex {
    ht_context *ctx;
    pcre2_code *code;
    int jit;
};

static void *context_alloc(size_t bytes, void *ctx) {
    void *memory;
    return ht_allocate_raw(ctx, 1, bytes, "regular expression", &memory) == HT_OK ? memory : NULL;
}

static void context_free(void *memory, void *ctx) {
    ht_release(ctx, memory);
}

static ht_status no_memory(void) {
    return ht_fail(HT_ERR_MEMORY, "regular expression: no memory left");
}

static ht_status compile(ht_regex *regex, const char *pattern, size_t bytes, uint32_t options) {
    pcre2_general_context *general = pcre2_general_context_create(context_alloc, context_free, regex->ctx);
    pcre2_compile_context *compiling = general ? pcre2_compile_context_create(general) : NULL;
    if (compiling) {
        pcre2_set_newline(compiling, PCRE2_NEWLINE_LF);
        pcre2_set_bsr(compiling, PCRE2_BSR_UNICODE);
    }
    int error = 0;
    PCRE2_SIZE offset = 0;
    if (compiling)
        regex->code = pcre2_compile((PCRE2_SPTR)pattern, bytes, options, &error, &offset, compiling);
    pcre2_compile_context_free(compiling);
    pcre2_general_context_free(general);
    if (!compiling)
        return no_memory();
    if (!regex->code) {
        PCRE2_UCHAR text[160] = "";
        pcre2_get_error_message(error, text, sizeof text);
        return ht_fail(HT_ERR_CORRUPT, "not a valid pattern, %s near byte %zu of %.80s", (const char *)text, offset,
                       pattern);
    }
    regex->jit = pcre2_jit_compile(regex->code, PCRE2_JIT_COMPLETE) == 0;
    return HT_OK;
}

ht_status ht_regex_create(ht_context *ctx, ht_regex_kind kind, const char *pattern, size_t bytes, ht_regex **out) {
    *out = NULL;
    ht_regex *regex;
    HT_TRY(ht_allocate(ctx, 1, sizeof *regex, "regular expression", &regex));
    regex->ctx = ctx;
    ht_status status;
    if (kind != HT_REGEX_ONIGURUMA) {
        status = compile(regex, pattern, bytes, PCRE2_UTF | (kind == HT_REGEX_LITERAL ? PCRE2_LITERAL : PCRE2_UCP));
    } else {
        ht_text text = {0};
        status = ht_regex_translate(pattern, bytes, &text);
        if (status == HT_OK)
            status = compile(regex, text.data ? text.data : "", text.length, PCRE2_UTF | PCRE2_UCP | PCRE2_MULTILINE);
        ht_text_free(&text);
    }
    if (status != HT_OK) {
        ht_regex_destroy(regex);
        return status;
    }
    *out = regex;
    return HT_OK;
}

void ht_regex_destroy(ht_regex *regex) {
    if (!regex)
        return;
    pcre2_code_free(regex->code);
    ht_release(regex->ctx, regex);
}

void ht_regex_scratch_init(ht_regex_scratch *scratch, ht_context *ctx) {
    *scratch = (ht_regex_scratch){.ctx = ctx};
}

void ht_regex_scratch_release(ht_regex_scratch *scratch) {
    pcre2_match_data_free(scratch->match_data);
    pcre2_match_context_free(scratch->match_context);
    pcre2_jit_stack_free(scratch->jit_stack);
    pcre2_general_context_free(scratch->general_context);
    ht_regex_scratch_init(scratch, scratch->ctx);
}

/* First use in a call. One pair of offsets is enough: only the whole match is asked for. */
static ht_status prepare(ht_regex_scratch *scratch) {
    pcre2_general_context *general = pcre2_general_context_create(context_alloc, context_free, scratch->ctx);
    scratch->general_context = general;
    if (!general)
        return no_memory();
    scratch->match_context = pcre2_match_context_create(general);
    scratch->match_data = pcre2_match_data_create(1, general);
    if (!scratch->match_context || !scratch->match_data)
        return no_memory();
    pcre2_set_heap_limit(scratch->match_context, INTERPRETER_KIB);
    return HT_OK;
}

static int larger_stack(ht_regex_scratch *scratch) {
    if (scratch->jit_stack)
        return 0;
    scratch->jit_stack = pcre2_jit_stack_create(STACK_FIRST, STACK_LAST, scratch->general_context);
    if (!scratch->jit_stack)
        return 0;
    pcre2_jit_stack_assign(scratch->match_context, NULL, scratch->jit_stack);
    return 1;
}

ht_status ht_regex_find(const ht_regex *regex, ht_regex_scratch *scratch, const char *text, size_t bytes, size_t from,
                        int *found, size_t *start, size_t *end) {
    *found = 0;
    if (!scratch->match_data)
        HT_TRY(prepare(scratch));
    size_t most = bytes > UINT32_MAX / STEPS_PER_BYTE ? UINT32_MAX : bytes * STEPS_PER_BYTE;
    pcre2_set_match_limit(scratch->match_context, most > STEPS_AT_LEAST ? (uint32_t)most : STEPS_AT_LEAST);
    PCRE2_SPTR subject = (PCRE2_SPTR)text;
    int rc;
    do
        rc = regex->jit
                 ? pcre2_jit_match(regex->code, subject, bytes, from, 0, scratch->match_data, scratch->match_context)
                 : pcre2_match(regex->code, subject, bytes, from, PCRE2_NO_UTF_CHECK, scratch->match_data,
                               scratch->match_context);
    while (rc == PCRE2_ERROR_JIT_STACKLIMIT && larger_stack(scratch));
    if (rc == PCRE2_ERROR_NOMATCH)
        return HT_OK;
    if (rc == PCRE2_ERROR_NOMEMORY)
        return no_memory();
    if (rc < 0)
        return ht_fail(HT_ERR_UNSUPPORTED,
                       "a pattern of the tokenizer needs too many steps at byte %zu of a text of %zu bytes (PCRE2 "
                       "error %d): split the text",
                       from, bytes, rc);
    const PCRE2_SIZE *offsets = pcre2_get_ovector_pointer(scratch->match_data);
    *start = offsets[0];
    *end = offsets[1];
    if (*end < *start || *start < from) /* \K inside a look-around can do this */
        return ht_fail(HT_ERR_UNSUPPORTED, "a pattern of the tokenizer matches backwards at byte %zu", from);
    *found = 1;
    return HT_OK;
}

const char *ht_regex_mark(const ht_regex_scratch *scratch) {
    PCRE2_SPTR mark = pcre2_get_mark(scratch->match_data);
    return mark ? (const char *)mark : "";
}

ht_status ht_regex_next(const ht_regex *regex, ht_regex_scratch *scratch, const char *text, size_t bytes,
                        ht_regex_walk *walk, int *found, size_t *start, size_t *end) {
    *found = 0;
    while (walk->from <= bytes) {
        HT_TRY(ht_regex_find(regex, scratch, text, bytes, walk->from, found, start, end));
        if (!*found)
            break;
        if (*start < *end || !walk->matched || walk->last_end != *end) {
            walk->from = walk->last_end = *end;
            walk->matched = 1;
            return HT_OK;
        }
        walk->from += walk->from < bytes ? ht_utf8_length(text + walk->from) : 1;
    }
    *found = 0;
    walk->from = bytes + 1;
    return HT_OK;
}
