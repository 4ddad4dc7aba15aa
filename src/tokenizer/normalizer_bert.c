/* BertNormalizer: clean control characters and white space, put spaces around CJK ideographs, strip accents (canonical
 * decomposition, then no nonspacing marks), lower case. strip_accents null means "as lowercase".
 * Source: Devlin et al., "BERT", 2019, and the text clean-up published with it; the tokenizer.json format.
 * SPDX-License-Identifier: BSD-3-Clause */
#include "tokenizer/normalizer.h"

#include "base/status.h"
#include "tokenizer/unicode_forms.h"
#include "tokenizer/utf8.h"

typedef struct bert {
    int clean, cjk, accents, lower;
} bert;

ht_status ht_bert_normalizer_create(ht_tokenizer *tokenizer, const ht_field *object, const void **state) {
    bert *made = ht_stage_state(tokenizer, sizeof *made);
    if (!made)
        return HT_ERR_MEMORY;
    *state = made;
    HT_TRY(ht_field_bool(object, "clean_text", 1, &made->clean));
    HT_TRY(ht_field_bool(object, "handle_chinese_chars", 1, &made->cjk));
    HT_TRY(ht_field_bool(object, "lowercase", 1, &made->lower));
    return ht_field_bool(object, "strip_accents", made->lower, &made->accents);
}

static int is_cjk(uint32_t c) {
    static const uint32_t blocks[][2] = {
        {0x4e00, 0x9fff},   {0x3400, 0x4dbf},   {0x20000, 0x2a6df}, {0x2a700, 0x2b73f},
        {0x2b740, 0x2b81f}, {0x2b920, 0x2ceaf}, {0xf900, 0xfaff},   {0x2f800, 0x2fa1f},
    };
    for (size_t i = 0; i < sizeof blocks / sizeof blocks[0]; i++)
        if (c >= blocks[i][0] && c <= blocks[i][1])
            return 1;
    return 0;
}

/* Before decomposition. */
static void clean(const bert *rules, uint32_t c, ht_text *out) {
    if (rules->clean) {
        int line = c == '\t' || c == '\n' || c == '\r';
        if (c == 0 || c == 0xfffd || (!line && ht_char_is_other(c)))
            return;
        if (ht_char_is_space(c))
            c = ' ';
    }
    int spaced = rules->cjk && is_cjk(c);
    if (spaced)
        ht_text_append(out, " ", 1);
    ht_utf8_append(out, c);
    if (spaced)
        ht_text_append(out, " ", 1);
}

/* After it. */
static void fold(const bert *rules, uint32_t c, ht_text *out) {
    uint32_t mapped[2] = {c, 0};
    size_t count = rules->lower ? ht_char_lower(c, mapped) : 1;
    if (rules->accents && ht_char_is_nonspacing_mark(c))
        return;
    for (size_t i = 0; i < count; i++)
        ht_utf8_append(out, mapped[i]);
}

static ht_status whole(const bert *rules, const char *text, size_t bytes, ht_text *out) {
    ht_text cleaned = {0}, forms = {0};
    for (size_t at = 0; at < bytes;) {
        uint32_t c;
        at += ht_utf8_decode(text + at, bytes - at, &c);
        clean(rules, c, &cleaned);
    }
    ht_status status = ht_text_check(&cleaned);
    if (status == HT_OK && rules->accents && cleaned.length)
        status = ht_unicode_normalize(HT_NFD, cleaned.data, cleaned.length, &forms);
    const ht_text *from = rules->accents ? &forms : &cleaned;
    for (size_t at = 0; status == HT_OK && at < from->length;) {
        uint32_t c;
        at += ht_utf8_decode(from->data + at, from->length - at, &c);
        fold(rules, c, out);
    }
    ht_text_free(&cleaned);
    ht_text_free(&forms);
    return status == HT_OK ? ht_text_check(out) : status;
}

ht_status ht_bert_normalizer_run(const void *state, ht_encode_call *call, ht_piece in, ht_text *out, size_t *head) {
    (void)call;
    size_t before = out->length;
    *head = 0;
    if (in.head) {
        HT_TRY(whole(state, in.text, in.head, out));
        *head = out->length - before;
        out->length = before;
    }
    return whole(state, in.text, in.bytes, out);
}
