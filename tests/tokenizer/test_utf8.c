/* UTF-8: every character, every ill-formed shape, the granularity of the repair. */
#include "tokenizer/utf8.h"

#include <string.h>

#include "support/check.h"

static void every_character(void) {
    for (uint32_t c = 0; c < 0x110000; c++) {
        char bytes[4];
        uint32_t back = 0;
        if (c >= 0xd800 && c < 0xe000)
            continue;
        size_t length = ht_utf8_encode(c, bytes);
        if (ht_utf8_decode(bytes, length, &back) != length || back != c ||
            ht_utf8_valid_prefix(bytes, length) != length || ht_utf8_before(bytes, length) != 0 ||
            ht_utf8_length(bytes) != length || ht_utf8_count(bytes, length) != 1) {
            CHECK_INT(back, c);
            return;
        }
        for (size_t cut = 1; cut < length; cut++)
            if (ht_utf8_valid_prefix(bytes, cut) != 0) {
                CHECK_INT(cut, 0);
                return;
            }
    }
}

static void check_repair(const char *text, size_t bytes, const char *want) {
    ht_text out = {0};
    ht_utf8_append_repaired(&out, text, bytes);
    CHECK_INT(out.length, strlen(want));
    CHECK_TEXT(out.data, want);
    CHECK_INT(ht_utf8_valid_prefix(out.data, out.length), out.length);
    ht_text_free(&out);
}

#define R "\xef\xbf\xbd"

/* The examples of the Unicode Standard 15, tables 3-8 to 3-11. */
static void repair(void) {
    check_repair("\xC0\xAF\xE0\x80\xBF\xF0\x81\x82\x41", 9, R R R R R R R R "A");
    check_repair("\xED\xA0\x80\xED\xBF\xBF\xED\xAF\x41", 9, R R R R R R R R "A");
    check_repair("\xF4\x91\x92\x93\xFF\x41\x80\xBF\x42", 9, R R R R R "A" R R "B");
    check_repair("\xE1\x80\xE2\xF0\x91\x92\xF1\xBF\x41", 9, R R R R "A");
    check_repair("ok \xe4\xbd", 5, "ok " R);
    check_repair("\x80", 1, R);
    check_repair("\xf0\x9f\x98\x80", 4, "\xf0\x9f\x98\x80");
}

static void classes(void) {
    CHECK(ht_char_is_space(' ') && ht_char_is_space(0x85) && ht_char_is_space(0x3000) && ht_char_is_space('\v'));
    CHECK(!ht_char_is_space(0x180e) && !ht_char_is_space(0x200b) && !ht_char_is_space('a'));
    CHECK(ht_char_is_number('7') && ht_char_is_number(0x2163) && ht_char_is_number(0xb2) && !ht_char_is_number('x'));
    CHECK(ht_char_is_punctuation('$') && ht_char_is_punctuation('_') && ht_char_is_punctuation(0x3002));
    CHECK(!ht_char_is_punctuation(0xa9) && !ht_char_is_punctuation(' ') && !ht_char_is_punctuation('0'));
    CHECK(ht_char_is_mark(0x301) && ht_char_is_mark(0x903) && !ht_char_is_nonspacing_mark(0x903));
    CHECK(ht_char_is_other(0) && ht_char_is_other(0xad) && ht_char_is_other(0xe000) && !ht_char_is_other(0x378));
}

static void lower(void) {
    uint32_t out[2];
    CHECK_INT(ht_char_lower('Q', out), 1);
    CHECK_INT(out[0], 'q');
    CHECK_INT(ht_char_lower(0x3a3, out), 1);
    CHECK_INT(out[0], 0x3c3);
    CHECK_INT(ht_char_lower(0x130, out), 2);
    CHECK(out[0] == 'i' && out[1] == 0x307);
    CHECK_INT(ht_char_lower(0x1e9e, out), 1);
    CHECK_INT(out[0], 0xdf);
}

int main(void) {
    RUN(every_character);
    RUN(repair);
    RUN(classes);
    RUN(lower);
    return check_finish();
}
