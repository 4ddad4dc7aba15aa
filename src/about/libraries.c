/* The libraries of this build, each asked for its own version at run time: the shared object that is loaded may be
 * newer than the headers were.
 * SPDX-License-Identifier: BSD-3-Clause */
#include <halftone/about.h>

#define PCRE2_CODE_UNIT_WIDTH 8
#include <jansson.h>
#include <pcre2.h>
#include <stdio.h> /* snprintf */
#include <utf8proc.h>
#include <xxhash.h>
#include <yaml.h>

enum { VERSION_BYTES = 64 };

typedef void version_fn(char *text);

static void of_jansson(char *text) {
    snprintf(text, VERSION_BYTES, "%s", jansson_version_str());
}

static void of_yaml(char *text) {
    snprintf(text, VERSION_BYTES, "%s", yaml_get_version_string());
}

static void of_pcre2(char *text) {
    char version[VERSION_BYTES];
    uint32_t jit = 0;
    pcre2_config(PCRE2_CONFIG_VERSION, version);
    pcre2_config(PCRE2_CONFIG_JIT, &jit);
    snprintf(text, VERSION_BYTES, "%.40s, %s", version, jit ? "JIT" : "no JIT");
}

static void of_utf8proc(char *text) {
    snprintf(text, VERSION_BYTES, "%s, Unicode %s", utf8proc_version(), utf8proc_unicode_version());
}

static void of_xxhash(char *text) {
    unsigned version = XXH_versionNumber();
    snprintf(text, VERSION_BYTES, "%u.%u.%u", version / 10000, version / 100 % 100, version % 100);
}

static const struct {
    const char *name, *use;
    version_fn *version;
} libraries[] = {{"jansson", "JSON", of_jansson},
                 {"libyaml", "recipes", of_yaml},
                 {"PCRE2", "patterns of tokenizers and recipes", of_pcre2},
                 {"utf8proc", "Unicode forms", of_utf8proc},
                 {"xxHash", "fingerprints", of_xxhash}};

int ht_library_list(size_t index, ht_library_info *out) {
    static _Thread_local char version[VERSION_BYTES];
    if (index >= sizeof libraries / sizeof *libraries)
        return 0;
    libraries[index].version(version);
    *out = (ht_library_info){libraries[index].name, libraries[index].use, version};
    return 1;
}
