/* Normalization forms: cases of Unicode Standard Annex 15, their laws over all characters, and runs that would be slow
 * for a quadratic sort. */
#include "tokenizer/unicode_forms.h"

#include <stdlib.h>
#include <string.h>

#include "support/check.h"
#include "tokenizer/utf8.h"

static ht_text form_of(ht_unicode_form form, const char *text, size_t bytes) {
    ht_text out = {0};
    CHECK_OK(ht_unicode_normalize(form, text, bytes, &out));
    return out;
}

static void check_form(ht_unicode_form form, const char *text, const char *want) {
    ht_text out = form_of(form, text, strlen(text));
    CHECK_TEXT(out.data, want);
    ht_text_free(&out);
}

static void known(void) {
    check_form(HT_NFC, "A\xcc\x8a \xe2\x84\xab", "\xc3\x85 \xc3\x85");          /* A ring, Angstrom sign */
    check_form(HT_NFD, "\xe1\xb9\xa9", "s\xcc\xa3\xcc\x87");                    /* s with dot below and above */
    check_form(HT_NFD, "s\xcc\x87\xcc\xa3", "s\xcc\xa3\xcc\x87");               /* order of marks */
    check_form(HT_NFC, "s\xcc\x87\xcc\xa3", "\xe1\xb9\xa9");                    /* order, then composition */
    check_form(HT_NFKC, "\xef\xac\x81 \xc2\xb2", "fi 2");                       /* ligature, superscript */
    check_form(HT_NFKD, "\xe1\xba\x9b\xcc\xa3", "s\xcc\xa3\xcc\x87");           /* long s */
    check_form(HT_NFC, "\xe1\x84\x80\xe1\x85\xa1\xe1\x86\xa8", "\xea\xb0\x81"); /* Hangul */
    check_form(HT_NFD, "\xea\xb0\x81", "\xe1\x84\x80\xe1\x85\xa1\xe1\x86\xa8");
    check_form(HT_NFC, "\xe0\xa5\x98", "\xe0\xa4\x95\xe0\xa4\xbc"); /* composition exclusion */
    check_form(HT_NFC, "", "");
    check_form(HT_NFKC, "plain ASCII", "plain ASCII");
}

static int same(const ht_text *a, const ht_text *b) {
    return a->length == b->length && memcmp(a->data, b->data, a->length) == 0;
}

/* X(X(c)) = X(c), NFC(NFD(c)) = NFC(c), NFKC(NFD(c)) = NFKC(c), between letters that could combine. */
static void laws(void) {
    for (uint32_t c = 1; c < 0x30000; c += c < 0x3400 ? 1 : 7) {
        char text[16] = "e";
        if (c >= 0xd800 && c < 0xe000)
            continue;
        size_t bytes = 1 + ht_utf8_encode(c, text + 1);
        memcpy(text + bytes, "\xcc\xa3\xcc\x81", 4);
        bytes += 4;
        ht_text direct[4], twice, through;
        for (int form = 0; form < 4; form++) {
            direct[form] = form_of((ht_unicode_form)form, text, bytes);
            twice = form_of((ht_unicode_form)form, direct[form].data, direct[form].length);
            if (!same(&twice, &direct[form]))
                CHECK_INT(c, -1 - form);
            ht_text_free(&twice);
        }
        through = form_of(HT_NFC, direct[HT_NFD].data, direct[HT_NFD].length);
        if (!same(&through, &direct[HT_NFC]))
            CHECK_INT(c, -10);
        ht_text_free(&through);
        through = form_of(HT_NFKC, direct[HT_NFD].data, direct[HT_NFD].length);
        if (!same(&through, &direct[HT_NFKC]))
            CHECK_INT(c, -11);
        ht_text_free(&through);
        for (int form = 0; form < 4; form++)
            ht_text_free(&direct[form]);
    }
}

/* A megabyte of marks in the wrong order. */
static void many_marks(void) {
    size_t marks = 500000;
    char *text = malloc(2 * marks);
    REQUIRE(text);
    for (size_t i = 0; i < marks; i++)
        memcpy(text + 2 * i, i % 2 ? "\xcc\xa3" : "\xcc\x87", 2);
    ht_text out = form_of(HT_NFD, text, 2 * marks);
    CHECK_INT(out.length, 2 * marks);
    CHECK(out.length && memcmp(out.data, "\xcc\xa3\xcc\xa3", 4) == 0);
    CHECK(out.length && memcmp(out.data + out.length - 4, "\xcc\x87\xcc\x87", 4) == 0);
    ht_text_free(&out);
    out = form_of(HT_NFC, text, 2 * marks);
    CHECK_INT(out.length, 2 * marks);
    ht_text_free(&out);
    free(text);
}

int main(void) {
    RUN(known);
    RUN(laws);
    RUN(many_marks);
    return check_finish();
}
