/* A choice as a recipe: a rule for each scheme that something got, naming its tensors; for the experts of a layer a
 * glob that all of them fit. The recipe is complete (profile, method, options, calibration), so that `quantize
 * --recipe` needs no more than the text. Names are quoted as YAML wants; nothing is decided here.
 * SPDX-License-Identifier: BSD-3-Clause */
#include <errno.h>
#include <stdio.h> /* rename, remove */
#include <string.h>

#include "base/status.h"
#include "io/file_io.h"
#include "quant/search/search.h"

static void quoted(ht_text *out, const char *name) {
    ht_text_printf(out, "\"");
    for (; *name; name++)
        ht_text_printf(out, *name == '"' || *name == '\\' ? "\\%c" : "%c", *name);
    ht_text_printf(out, "\"");
}

/* Does the glob fit the unit's tensors and nothing else? */
static int fits(const ht_search *s, size_t unit, const char *glob) {
    for (size_t i = 0; i < ht_checkpoint_parameter_count(s->checkpoint); i++)
        if (ht_glob_match(glob, ht_checkpoint_parameter(s->checkpoint, i)->name) != (s->unit_of[i] == unit))
            return 0;
    return 1;
}

static void write_unit(const ht_search *s, size_t u, ht_text *out) {
    const ht_unit *unit = &s->unit[u];
    char glob[1100];
    snprintf(glob, sizeof glob, "%s%s", unit->row.name, strstr(unit->row.name, ".*.") ? ".weight" : ".**");
    if (unit->row.tensors > 3 && fits(s, u, glob)) {
        ht_text_printf(out, "      - ");
        quoted(out, glob);
        ht_text_printf(out, "\n");
        return;
    }
    for (size_t i = 0; i < unit->row.tensors; i++) {
        ht_text_printf(out, "      - ");
        quoted(out, ht_checkpoint_parameter(s->checkpoint, unit->parameter[i])->name);
        ht_text_printf(out, "\n");
    }
}

static void write_options(const char *const *set, ht_text *out) {
    for (size_t i = 0; set && set[i]; i++) {
        const char *value = strchr(set[i], '=') + 1;
        ht_text_printf(out, "%s%.*s: \"%s\"", i ? ", " : "    options: {", (int)(value - set[i] - 1), set[i], value);
    }
    if (set && set[0])
        ht_text_printf(out, "}\n");
}

static void write_rule(const ht_search *s, size_t candidate, ht_text *out) {
    const ht_candidate *c = &s->candidate[candidate];
    size_t count = 0;
    for (size_t u = 0; u < s->units; u++) {
        if (s->chosen[u] != candidate)
            continue;
        if (!count++)
            ht_text_printf(out, "  - match:\n");
        write_unit(s, u, out);
    }
    if (!count)
        return;
    if (!c->plan) {
        ht_text_printf(out, "    keep: true\n");
        return;
    }
    ht_text_printf(out, "    scheme: %s\n", c->row.scheme);
    write_options(c->set, out);
}

static void write_calibration(const ht_search *s, ht_text *out) {
    const ht_calibration_options *said = &s->options.calibration;
    char experts[32];
    ht_calibration_experts_name(s->calibration.spread, experts);
    ht_text_printf(out, "calibration: {samples: %zu, length: %zu", s->calibration.samples, s->calibration.length);
    if (said->mode)
        ht_text_printf(out, ", mode: %s", ht_calibration_mode_name(said->mode));
    if (said->held_out)
        ht_text_printf(out, ", held_out: %zu", said->held_out);
    ht_text_printf(out, ", experts: %s}\n", experts);
}

ht_status ht_search_compose(const ht_search *s, ht_text *out) {
    ht_text_printf(out,
                   "# Found by halftone search: %.4f bits per weight in %zu linears (%llu bytes of %llu weights).\n"
                   "version: 1\nprofile: %s\nmethod: %s\n",
                   s->summary.bits, s->summary.tensors, (unsigned long long)s->summary.linear_bytes,
                   (unsigned long long)s->summary.weights, s->profile, s->options.method);
    if (s->options.mixed_groups)
        ht_text_printf(out, "allow_mixed_groups: true\n");
    write_calibration(s, out);
    ht_text_printf(out, "rules:\n");
    for (size_t c = 0; c < s->candidates; c++)
        write_rule(s, c, out);
    return ht_text_check(out);
}

ht_status ht_search_write(const ht_search *search, const char *path) {
    ht_text temporary = {0};
    ht_text_printf(&temporary, "%s.halftone-part", path);
    ht_status status = ht_text_check(&temporary);
    if (status == HT_OK)
        status = ht_write_file(temporary.data, search->recipe.data, search->recipe.length);
    if (status == HT_OK && rename(temporary.data, path) != 0)
        status = ht_output_failed(path, "rename the finished recipe", errno);
    if (status != HT_OK && temporary.data)
        remove(temporary.data);
    ht_text_free(&temporary);
    return status;
}
