/* Names inside \p{...} and [:...:]: Oniguruma's spelling to PCRE2's.
 *
 * Names are compared without case, spaces, '-' and '_'. Long names of general categories and the POSIX names are a
 * table, because PCRE2 knows only the short ones and defines the POSIX ones differently. Anything else is tried as a
 * script (exact script, not script extensions) and then as a binary property, by asking PCRE2 to compile it.
 * Source: Oniguruma's doc/RE and doc/UNICODE_PROPERTIES; pcre2pattern(3), "Unicode character properties".
 * SPDX-License-Identifier: BSD-3-Clause */
#include "tokenizer/regex.h"

#include <ctype.h>  /* isalnum, tolower */
#include <stdio.h>  /* snprintf */
#include <string.h> /* strcmp */

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include "base/status.h"

static const struct {
    const char *name, *members;
} properties[] = {
    {"any", "\\x{0}-\\x{10ffff}"},
    {"assigned", "\\P{Cn}"},
    {"ascii", "\\x{0}-\\x{7f}"},
    {"alnum", "\\p{Alphabetic}\\p{Nd}"},
    {"alpha", "\\p{Alphabetic}"},
    {"blank", "\\t\\p{Zs}"},
    {"cntrl", "\\p{Cc}"},
    {"digit", "\\p{Nd}"},
    {"graph", "\\p{L}\\p{M}\\p{N}\\p{P}\\p{S}\\p{Cf}\\p{Co}"},
    {"lower", "\\p{Lowercase}"},
    {"print", "\\p{L}\\p{M}\\p{N}\\p{P}\\p{S}\\p{Cf}\\p{Co}\\p{Zs}"},
    {"punct", "\\p{P}\\p{S}"},
    {"space", HT_REGEX_SPACE},
    {"whitespace", HT_REGEX_SPACE},
    {"upper", "\\p{Uppercase}"},
    {"xdigit", "0-9A-Fa-f"},
    {"word", HT_REGEX_WORD},
    {"letter", "\\p{L}"},
    {"lc", "\\p{Lu}\\p{Ll}\\p{Lt}"},
    {"casedletter", "\\p{Lu}\\p{Ll}\\p{Lt}"},
    {"uppercaseletter", "\\p{Lu}"},
    {"lowercaseletter", "\\p{Ll}"},
    {"titlecaseletter", "\\p{Lt}"},
    {"modifierletter", "\\p{Lm}"},
    {"otherletter", "\\p{Lo}"},
    {"mark", "\\p{M}"},
    {"combiningmark", "\\p{M}"},
    {"nonspacingmark", "\\p{Mn}"},
    {"spacingmark", "\\p{Mc}"},
    {"enclosingmark", "\\p{Me}"},
    {"number", "\\p{N}"},
    {"decimalnumber", "\\p{Nd}"},
    {"letternumber", "\\p{Nl}"},
    {"othernumber", "\\p{No}"},
    {"punctuation", "\\p{P}"},
    {"connectorpunctuation", "\\p{Pc}"},
    {"dashpunctuation", "\\p{Pd}"},
    {"openpunctuation", "\\p{Ps}"},
    {"closepunctuation", "\\p{Pe}"},
    {"initialpunctuation", "\\p{Pi}"},
    {"finalpunctuation", "\\p{Pf}"},
    {"otherpunctuation", "\\p{Po}"},
    {"symbol", "\\p{S}"},
    {"mathsymbol", "\\p{Sm}"},
    {"currencysymbol", "\\p{Sc}"},
    {"modifiersymbol", "\\p{Sk}"},
    {"othersymbol", "\\p{So}"},
    {"separator", "\\p{Z}"},
    {"spaceseparator", "\\p{Zs}"},
    {"lineseparator", "\\p{Zl}"},
    {"paragraphseparator", "\\p{Zp}"},
    {"other", "\\p{C}"},
    {"control", "\\p{Cc}"},
    {"format", "\\p{Cf}"},
    {"privateuse", "\\p{Co}"},
    {"surrogate", "\\p{Cs}"},
    {"unassigned", "\\p{Cn}"},
};

/* Short names of general categories; PCRE2 wants them in this case. */
static const char *const categories[] = {
    "C",  "Cc", "Cf", "Cn", "Co", "Cs", "L",  "Ll", "Lm", "Lo", "Lt", "Lu", "M",  "Mc", "Me", "Mn", "N",  "Nd", "Nl",
    "No", "P",  "Pc", "Pd", "Pe", "Pf", "Pi", "Po", "Ps", "S",  "Sc", "Sk", "Sm", "So", "Z",  "Zl", "Zp", "Zs",
};

static int known_to_pcre2(const char *class_members) {
    ht_text pattern = {0};
    ht_text_printf(&pattern, "[%s]", class_members);
    int error;
    PCRE2_SIZE offset;
    pcre2_code *code = NULL;
    if (!pattern.failed)
        code = pcre2_compile((PCRE2_SPTR)pattern.data, pattern.length, PCRE2_UTF | PCRE2_UCP, &error, &offset, NULL);
    pcre2_code_free(code);
    ht_text_free(&pattern);
    return code != NULL;
}

static const char *from_tables(const char *folded, char buffer[16]) {
    for (size_t i = 0; i < sizeof properties / sizeof properties[0]; i++)
        if (strcmp(properties[i].name, folded) == 0)
            return properties[i].members;
    for (size_t i = 0; i < sizeof categories / sizeof categories[0]; i++) {
        const char *name = categories[i];
        if (tolower((unsigned char)name[0]) == folded[0] && strcmp(name + 1, folded + 1) == 0) {
            snprintf(buffer, 16, "\\p{%s}", name);
            return buffer;
        }
    }
    return NULL;
}

ht_status ht_regex_property(const char *name, size_t bytes, ht_text *members, int *negated) {
    char folded[64], spelled[80];
    size_t length = 0, at = 0;
    if (bytes && name[0] == '^') {
        *negated = !*negated;
        at = 1;
    }
    for (; at < bytes; at++) {
        unsigned char c = (unsigned char)name[at];
        if (c == ' ' || c == '_' || c == '-')
            continue;
        if (c >= 0x80 || !isalnum(c) || length + 1 >= sizeof folded)
            return ht_fail(HT_ERR_UNSUPPORTED, "no character property %.*s", (int)(bytes < 60 ? bytes : 60), name);
        folded[length++] = (char)tolower(c);
    }
    folded[length] = '\0';
    const char *found = from_tables(folded, spelled);
    for (int script = 1; script >= 0 && !found && length; script--) {
        snprintf(spelled, sizeof spelled, script ? "\\p{sc:%s}" : "\\p{%s}", folded);
        if (known_to_pcre2(spelled))
            found = spelled;
    }
    if (!found)
        return ht_fail(HT_ERR_UNSUPPORTED, "no character property %.*s", (int)(bytes < 60 ? bytes : 60), name);
    ht_text_append(members, found, strlen(found));
    return HT_OK;
}
