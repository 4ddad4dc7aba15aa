/* Measuring: the float model once, layer by layer, over the samples.
 *
 *     hidden [samples] -> layer: second moments of each site's inputs -> every matrix under every candidate
 *                                                                        (search_matrix.c)
 *                         KL: the other windows with one unit exchanged, from this layer to the end
 *                                                                        (search_exchange.c)
 *                      -> hidden of the next layer
 *
 * Statistics that do not fit the memory limit are gathered in groups of sites, each a further run of the samples
 * through the layer; hidden rows that do not fit lie in a file without a name. Neither changes a figure. Linears that
 * the model does not run (towers, further heads) are dropped from the units. Cancelling is asked for between matrices
 * and between windows. Refuses models that cannot be run.
 * SPDX-License-Identifier: BSD-3-Clause */
#include <errno.h>
#include <stdint.h> /* SIZE_MAX */
#include <stdio.h>  /* snprintf */
#include <stdlib.h> /* mkdtemp */
#include <string.h>
#include <unistd.h> /* rmdir */

#include "base/context.h"
#include "base/status.h"
#include "io/file_io.h"
#include "quant/search/search.h"

enum { PATH = 4096 };

void ht_search_progress(ht_measurement *m, const char *item, uint64_t done) {
    m->done += done;
    ht_report(m->ctx, &(ht_progress){.stage = "search",
                                     .item = item,
                                     .unit = "measurements",
                                     .done = m->done,
                                     .total = m->total,
                                     .seconds = ht_seconds() - m->started});
}

/* --- A layer's lists --------------------------------------------------------------------------------------------- */

static size_t count_linears(ht_measurement *m) {
    size_t count = 0;
    for (int site = 0; site < HT_SITE_COUNT; site++) {
        const ht_projection *projection = ht_block_site(m->model, m->layer, (ht_site)site);
        if (projection)
            count += ht_block_experts(m->model, m->layer, (ht_site)site) * projection->parts;
    }
    return count;
}

static size_t slot_of(ht_measurement *m, const ht_block_linear *linear) {
    for (size_t i = 0; i < m->slots; i++)
        if (m->slot[i].parameter == linear->parameter)
            return i;
    m->slot[m->slots] = (ht_search_slot){
        .parameter = linear->parameter, .unit = m->search->unit_of[linear->parameter], .place = linear->place};
    return m->slots++;
}

static void add_site(ht_measurement *m, ht_site site, size_t expert) {
    const ht_projection *projection = ht_block_site(m->model, m->layer, site);
    size_t at = m->sites;
    for (size_t part = 0; part < projection->parts; part++) {
        ht_block_linear linear = ht_block_linear_at(m->model, m->layer, site, expert, part);
        if (m->search->unit_of[linear.parameter] == SIZE_MAX)
            continue;
        if (at == m->sites)
            m->site[m->sites++] = (ht_search_site){.site = site, .expert = expert, .cols = projection->inputs};
        m->matrix[m->matrices++] = (ht_search_matrix){
            .parameter = linear.parameter, .entry = linear.entry, .slot = slot_of(m, &linear), .observed = at};
    }
}

static ht_status open_layer(ht_measurement *m, size_t layer) {
    m->layer = layer;
    m->sites = m->slots = m->matrices = 0;
    m->added = m->whole = 0;
    size_t count = count_linears(m);
    m->site = ht_arena_alloc(&m->arena, count * sizeof *m->site);
    m->slot = ht_arena_alloc(&m->arena, count * sizeof *m->slot);
    m->matrix = ht_arena_alloc(&m->arena, count * sizeof *m->matrix);
    if (!m->site || !m->slot || !m->matrix)
        return HT_ERR_MEMORY;
    for (int site = 0; site < HT_SITE_COUNT; site++) {
        int there = ht_block_site(m->model, layer, (ht_site)site) != NULL;
        size_t experts = there ? ht_block_experts(m->model, layer, (ht_site)site) : 0;
        for (size_t e = 0; e < experts; e++)
            add_site(m, (ht_site)site, e);
    }
    return HT_OK;
}

static void close_sites(ht_measurement *m) {
    for (size_t i = 0; i < m->sites; i++) {
        ht_moments_destroy(m->site[i].moments);
        m->site[i].moments = NULL;
    }
}

static void close_layer(ht_measurement *m) {
    close_sites(m);
    for (size_t i = 0; i < m->slots; i++) {
        if (m->slot[i].after)
            *m->slot[i].place = m->slot[i].before;
        ht_linear_destroy(m->slot[i].after);
        ht_release(m->ctx, m->slot[i].decoded);
    }
    m->sites = m->slots = m->matrices = 0;
    ht_arena_release(&m->arena);
    ht_arena_init(&m->arena, m->ctx);
}

/* --- Statistics -------------------------------------------------------------------------------------------------- */

static unsigned wanted(const ht_search *s) {
    return s->options.sensitivity == HT_SENSITIVITY_DIAGONAL ? HT_MOMENT_MEAN : HT_MOMENT_SECOND;
}

static ht_status see(void *user, const ht_site_rows *rows) {
    ht_measurement *m = user;
    for (size_t i = m->first_site; i < m->end_site; i++) {
        ht_search_site *site = &m->site[i];
        if (site->site != rows->site || site->expert != rows->expert)
            continue;
        site->tokens += rows->routed;
        return ht_moments_add(site->moments, rows->x, NULL, rows->rows, rows->cols);
    }
    return HT_OK;
}

/* Exchanges hold every unit of a layer in f32. */
static size_t exchange_bytes(const ht_measurement *m) {
    size_t values = 0;
    if (m->search->reference == SIZE_MAX)
        return 0;
    for (size_t i = 0; i < m->slots; i++) {
        const ht_weight *weight = &ht_checkpoint_parameter(m->search->checkpoint, m->slot[i].parameter)->weight;
        values += m->slot[i].decoded ? 0 : weight->batch * weight->rows * weight->cols;
    }
    return values * sizeof(float);
}

/* As many sites from first_site on as the limit has room for, one at least. */
static ht_site choose_sites(ht_measurement *m) {
    size_t limit = m->ctx->options.memory_limit, used = ht_context_memory_used(m->ctx);
    size_t needed = ht_search_matrix_bytes(m) + exchange_bytes(m), left = SIZE_MAX;
    if (limit)
        left = limit > used + needed ? limit - used - needed : 0;
    for (m->end_site = m->first_site; m->end_site < m->sites; m->end_site++) {
        size_t bytes = ht_moments_bytes(m->site[m->end_site].cols, wanted(m->search));
        if (bytes > left && m->end_site > m->first_site)
            break;
        left -= bytes < left ? bytes : left;
    }
    return m->site[m->end_site - 1].site;
}

static void compare_rows(ht_measurement *m, const float *after) {
    size_t values = m->search->samples.length * m->model->config.hidden;
    for (size_t i = 0; i < values; i++) {
        double whole = (double)after[i], added = whole - (double)m->before[i];
        m->whole += whole * whole;
        m->added += added * added;
    }
}

static ht_status run_samples(ht_measurement *m, const ht_watch *watch, ht_hidden *hidden, int store) {
    for (size_t i = 0; i < hidden->samples; i++) {
        float *x;
        HT_TRY(ht_context_check_cancelled(m->ctx));
        HT_TRY(ht_hidden_load(hidden, i, &x));
        if (store)
            memcpy(m->before, x, hidden->values * sizeof *x);
        HT_TRY(ht_block_run(m->sequence, m->layer, x, m->search->samples.length, watch));
        if (!store)
            continue;
        compare_rows(m, x);
        HT_TRY(ht_hidden_store(hidden, i));
    }
    return HT_OK;
}

static ht_status work_on_layer(ht_measurement *m) {
    char item[64];
    snprintf(item, sizeof item, "layer %zu: statistics", m->layer);
    for (m->first_site = 0; m->first_site < m->sites; m->first_site = m->end_site) {
        ht_site stop = choose_sites(m);
        int through = m->end_site == m->sites;
        ht_search_progress(m, item, 0);
        for (size_t i = m->first_site; i < m->end_site; i++)
            HT_TRY(ht_moments_create(m->ctx, m->site[i].cols, wanted(m->search), &m->site[i].moments));
        const ht_watch watch = {.see = see, .user = m, .stop = through ? HT_SITE_COUNT : stop};
        HT_TRY(run_samples(m, &watch, m->hidden, through));
        for (size_t i = m->first_site; i < m->end_site; i++)
            HT_TRY(ht_moments_finish(m->site[i].moments));
        HT_TRY(ht_search_matrices(m));
        close_sites(m);
    }
    if (!m->sites)
        HT_TRY(run_samples(m, NULL, m->hidden, 1));
    for (size_t i = 0; i < m->slots; i++)
        m->search->unit[m->slot[i].unit].share = m->whole > 0 ? m->added / m->whole : 0;
    return m->entered ? ht_exchange_layer(m) : HT_OK;
}

/* --- Opening ------------------------------------------------------------------------------------------------------ */

static ht_status check_samples(const ht_measurement *m) {
    const ht_decoder_config *config = &m->model->config;
    return ht_samples_check(&m->search->samples, config->context, config->vocabulary,
                            ht_checkpoint_path(m->search->checkpoint), m->search->calibration.data);
}

static ht_status embed(ht_measurement *m, size_t first, size_t count, size_t resident, ht_hidden **out) {
    const ht_samples *samples = &m->search->samples;
    size_t values = samples->length * m->model->config.hidden;
    HT_TRY(ht_hidden_create(m->ctx, count, values, resident, m->folder ? m->folder : ".", out));
    for (size_t i = 0; i < count; i++) {
        float *x;
        HT_TRY(ht_hidden_load(*out, i, &x));
        HT_TRY(ht_block_embed(m->model, samples->ids + (first + i) * samples->length, samples->length, x));
        HT_TRY(ht_hidden_store(*out, i));
    }
    return HT_OK;
}

/* Most that a layer needs beside hidden rows, with one site's statistics. Counts what will be measured. */
static ht_status survey(ht_measurement *m, size_t *needed) {
    *needed = 0;
    unsigned char *seen = ht_arena_alloc(&m->search->arena, m->search->units + 1);
    if (!seen)
        return HT_ERR_MEMORY;
    for (size_t l = 0; l < m->model->config.layers; l++) {
        HT_TRY(open_layer(m, l));
        size_t statistics = 0, bytes = ht_search_matrix_bytes(m) + exchange_bytes(m);
        for (size_t i = 0; i < m->sites; i++) {
            size_t one = ht_moments_bytes(m->site[i].cols, wanted(m->search));
            statistics = one > statistics ? one : statistics;
        }
        for (size_t i = 0; i < m->slots; i++)
            seen[m->slot[i].unit] = 1;
        m->total += m->matrices * m->search->candidates;
        *needed = bytes + statistics > *needed ? bytes + statistics : *needed;
        close_layer(m);
    }
    size_t kept = 0;
    for (size_t u = 0; u < m->search->units; u++) {
        ht_unit *unit = &m->search->unit[u];
        for (size_t i = 0; i < unit->row.tensors; i++)
            m->search->unit_of[unit->parameter[i]] = seen[u] ? kept : SIZE_MAX;
        if (seen[u])
            m->search->unit[kept++] = *unit;
    }
    m->search->units = kept;
    return kept ? HT_OK
                : ht_fail(HT_ERR_UNSUPPORTED, "%s: none of the linears belongs to a decoder block that can be run",
                          ht_checkpoint_path(m->search->checkpoint));
}

/* A directory of its own for the files, as they have a fixed name until they have none. */
static ht_status make_folder(ht_measurement *m) {
    const char *scratch = m->search->options.scratch;
    char *path = ht_arena_printf(&m->search->arena, "%s/.halftone-search-XXXXXX", scratch ? scratch : ".");
    if (!path)
        return HT_ERR_MEMORY;
    if (!mkdtemp(path))
        return ht_output_failed(path, "create a directory for hidden rows", errno);
    m->folder = path;
    return HT_OK;
}

/* Half of what the limit leaves is for hidden rows, half for statistics beyond the least. */
static ht_status open_hidden(ht_measurement *m, size_t needed) {
    const ht_samples *samples = &m->search->samples;
    size_t bytes = samples->length * m->model->config.hidden * sizeof(float), resident = SIZE_MAX;
    size_t limit = m->ctx->options.memory_limit, used = ht_context_memory_used(m->ctx), kinds = 1;
    if (m->search->reference != SIZE_MAX)
        kinds = 3;
    needed += limit / 16 + 4 * bytes;
    if (limit)
        resident = (limit > used + needed ? limit - used - needed : 0) / 2 / kinds / bytes;
    if (resident < samples->count || (kinds > 1 && resident < samples->held_out))
        HT_TRY(make_folder(m));
    HT_TRY(ht_allocate_raw(m->ctx, bytes, 1, "rows of a sample", &m->before));
    HT_TRY(embed(m, 0, samples->count, resident, &m->hidden));
    if (m->search->reference == SIZE_MAX)
        return HT_OK;
    HT_TRY(embed(m, samples->count, samples->held_out, resident, &m->entered));
    return ht_exchange_prepare(m, resident);
}

static ht_status measure(ht_measurement *m) {
    size_t needed;
    HT_TRY(ht_model_open(m->ctx, ht_checkpoint_path(m->search->checkpoint), &m->model));
    if (ht_checkpoint_parameter_count(m->model->checkpoint) != ht_checkpoint_parameter_count(m->search->checkpoint))
        return ht_fail(HT_ERR_IO, "%s: changed while it was read", ht_checkpoint_path(m->search->checkpoint));
    HT_TRY(check_samples(m));
    HT_TRY(survey(m, &needed));
    m->total += m->search->reference != SIZE_MAX ? m->search->units : 0;
    HT_TRY(ht_block_sequence(m->model, m->search->samples.length, &m->sequence));
    HT_TRY(open_hidden(m, needed));
    if (m->folder)
        rmdir(m->folder);
    for (size_t l = 0; l < m->model->config.layers; l++) {
        ht_status status = open_layer(m, l);
        if (status == HT_OK)
            status = work_on_layer(m);
        close_layer(m);
        HT_TRY(status);
    }
    return HT_OK;
}

ht_status ht_search_measure_all(ht_search *search) {
    ht_measurement m = {.search = search, .ctx = search->ctx, .started = ht_seconds()};
    ht_arena_init(&m.arena, search->ctx);
    ht_status status = measure(&m);
    if (status == HT_ERR_UNSUPPORTED && !m.model)
        status = ht_fail_prefix(status, "measuring runs the model");
    if (m.folder)
        rmdir(m.folder);
    ht_release(m.ctx, m.before);
    ht_hidden_destroy(m.hidden);
    ht_hidden_destroy(m.entered);
    ht_hidden_destroy(m.final);
    ht_sequence_destroy(m.sequence);
    ht_model_close(m.model);
    ht_arena_release(&m.arena);
    return status;
}
