/* UnicodeScripts: a cut wherever the script of the text changes.
 *
 * Hiragana, Katakana and the prolonged sound mark count as Han. A space, and a character of no listed script, fits any
 * script and never begins a piece; at the very beginning of a text it is dropped, as the format's own library does. The
 * scripts are those of Unicode 9, which the format was made with. Runs of one script are found by one PCRE2 pattern
 * with a marked branch per script. Source: the tokenizer.json format; SentencePiece's rule for valid pieces.
 * SPDX-License-Identifier: BSD-3-Clause */
#include "tokenizer/pretokenizer.h"

#include <string.h> /* strcmp, strcspn */

#include "base/status.h"

static const char names[] =
    "Adlam Ahom AnatolianHieroglyphs Arabic Armenian Avestan Balinese Bamum BassaVah Batak Bengali Bhaiksuki "
    "Bopomofo Brahmi Braille Buginese Buhid CanadianAboriginal Carian CaucasianAlbanian Chakma Cham Cherokee "
    "Common Coptic Cuneiform Cypriot Cyrillic Deseret Devanagari Duployan EgyptianHieroglyphs Elbasan Ethiopic "
    "Georgian Glagolitic Gothic Grantha Greek Gujarati Gurmukhi Hangul Hanunoo Hatran Hebrew ImperialAramaic "
    "Inherited InscriptionalPahlavi InscriptionalParthian Javanese Kaithi Kannada KayahLi Kharoshthi Khmer "
    "Khojki Khudawadi Lao Latin Lepcha Limbu LinearA LinearB Lisu Lycian Lydian Mahajani Malayalam Mandaic "
    "Manichaean Marchen MeeteiMayek MendeKikakui MeroiticCursive MeroiticHieroglyphs Miao Modi Mongolian Mro "
    "Multani Myanmar Nabataean NewTaiLue Newa Nko Ogham OlChiki OldHungarian OldItalic OldNorthArabian "
    "OldPermic OldPersian OldSouthArabian OldTurkic Oriya Osage Osmanya PahawhHmong Palmyrene PauCinHau "
    "PhagsPa Phoenician PsalterPahlavi Rejang Runic Samaritan Saurashtra Sharada Shavian Siddham SignWriting "
    "Sinhala SoraSompeng Sundanese SylotiNagri Syriac Tagalog Tagbanwa TaiLe TaiTham TaiViet Takri Tamil "
    "Tangut Telugu Thaana Thai Tibetan Tifinagh Tirhuta Ugaritic Vai WarangCiti Yi";

ht_status ht_scripts_create(ht_tokenizer *tokenizer, const ht_field *object, const void **state) {
    ht_text pattern = {0};
    ht_text_printf(&pattern, " +(*MARK:any)|[\\p{sc:Han}\\p{sc:Hiragana}\\p{sc:Katakana}\\x{30fc}]+(*MARK:Han)");
    for (const char *at = names; *at; at += strcspn(at, " "), at += *at == ' ') {
        int length = (int)strcspn(at, " ");
        ht_text_printf(&pattern, "|[^\\P{sc:%.*s}\\x{30fc}]+(*MARK:%.*s)", length, at, length, at);
    }
    ht_text_printf(&pattern, "|(?s:.)(*MARK:any)");
    ht_status status = ht_text_check(&pattern);
    const ht_regex *regex = NULL;
    if (status == HT_OK)
        status =
            ht_stage_regex(tokenizer, object, HT_REGEX_PCRE2, (ht_field_text){pattern.data, pattern.length}, &regex);
    ht_text_free(&pattern);
    *state = regex;
    return status;
}

ht_status ht_scripts_run(const void *state, ht_encode_call *call, size_t stage, ht_piece in) {
    char current[32] = ""; /* script of the piece so far */
    size_t start = in.bytes;
    for (size_t at = 0, begin, end; at < in.bytes; at = end) {
        int found;
        HT_TRY(ht_regex_find(state, &call->regex, in.text, in.bytes, at, &found, &begin, &end));
        if (!found || end == at)
            break;
        const char *script = ht_regex_mark(&call->regex);
        if (strcmp(script, "any") == 0 || strcmp(script, current) == 0)
            continue;
        if (start < at)
            HT_TRY(ht_pretokenize_from(call, stage + 1, ht_piece_part(in, start, at)));
        start = at;
        strncpy(current, script, sizeof current - 1);
    }
    return start < in.bytes ? ht_pretokenize_from(call, stage + 1, ht_piece_part(in, start, in.bytes)) : HT_OK;
}
