/* The float model beside the quantized one: what a linear would have read had nothing been quantized.
 *
 * A sample runs through the float block first; its rows at the sites of the group are kept. Then it runs through the
 * block as it stands, and each row finds its partner by position:
 *
 *     position     0   1   2   3   4            down of an expert: routing may differ between the two
 *     float        x   x       x   x
 *     quantized    x       x   x                0 and 3 are pairs; 2 has no partner and stands for itself
 *
 * A row that stands for itself adds nothing to the cross moments. Needed in the sequential modes alone: in the other
 * one the two models are one. Source: algorithms specification, section 1.5 (GPTAQ).
 * SPDX-License-Identifier: BSD-3-Clause */
#include <string.h> /* memcpy */

#include "base/status.h"
#include "quant/calibrate/calibrate.h"

int ht_float_needed(ht_calibrator *c) {
    const ht_plan *plan = c->run->plan;
    int learns = 0;
    c->cross = 0;
    for (size_t i = 0; i < plan->count; i++) {
        const ht_job *job = &plan->job[i];
        const ht_method *method = job->layout && c->apart[i] ? job->rule->method : NULL;
        if (method && method->moments && method->moments(&job->settings) & HT_MOMENT_CROSS)
            c->cross = c->how->mode != HT_CALIBRATE_NON_SEQUENTIAL;
        learns |= method && job->rule->chain.stage[HT_STAGE_REFINE];
    }
    return c->cross || learns;
}

/* --- Keeping ------------------------------------------------------------------------------------------------- */

static ht_status grow(ht_calibrator *c, ht_capture *capture, size_t rows, size_t cols) {
    size_t needed = capture->rows + rows, room = needed + needed / 2;
    float *x = NULL;
    int32_t *position = NULL;
    if (needed <= capture->room)
        return HT_OK;
    HT_TRY(ht_allocate_raw(c->ctx, room * cols, sizeof *x, "inputs of the float model", &x));
    ht_status status = ht_allocate_raw(c->ctx, room, sizeof *position, "inputs of the float model", &position);
    if (status != HT_OK) {
        ht_release(c->ctx, x);
        return status;
    }
    if (capture->rows) {
        memcpy(x, capture->x, capture->rows * cols * sizeof *x);
        memcpy(position, capture->position, capture->rows * sizeof *position);
    }
    ht_release(c->ctx, capture->x);
    ht_release(c->ctx, capture->position);
    *capture = (ht_capture){.cols = cols, .rows = capture->rows, .room = room, .x = x, .position = position};
    return HT_OK;
}

static ht_status keep(ht_calibrator *c, ht_capture *capture, const ht_site_rows *rows) {
    HT_TRY(grow(c, capture, rows->rows, rows->cols));
    memcpy(capture->x + capture->rows * rows->cols, rows->x, rows->rows * rows->cols * sizeof *rows->x);
    for (size_t i = 0; i < rows->rows; i++)
        capture->position[capture->rows + i] = (int32_t)rows->first + (rows->token ? rows->token[i] : (int32_t)i);
    capture->rows += rows->rows;
    return HT_OK;
}

/* Every expert's gate and up read rows of one matrix. */
static int reads_normed(const ht_calibrator *c, ht_site site) {
    return c->model->layer[c->layer].sparse && (site == HT_SITE_ROUTER || site == HT_SITE_GATE_UP);
}

static ht_status see_float(void *user, const ht_site_rows *rows) {
    ht_calibrator *c = user;
    int normed = reads_normed(c, rows->site);
    if (normed)
        return rows->site == HT_SITE_ROUTER ? keep(c, &c->normed, rows) : HT_OK;
    for (size_t i = c->first_observed; i < c->end_observed; i++)
        if (c->observed[i].site == rows->site && c->observed[i].expert == rows->expert &&
            c->observed[i].what & HT_MOMENT_CROSS)
            HT_TRY(keep(c, &c->capture[i], rows));
    return HT_OK;
}

ht_status ht_float_capture(ht_calibrator *c, size_t sample, ht_site stop) {
    ht_watch watch = {.see = see_float, .user = c, .stop = stop};
    float *x;
    c->normed.rows = 0;
    for (size_t i = c->first_observed; i < c->end_observed; i++)
        c->capture[i].rows = 0;
    HT_TRY(ht_hidden_load(c->hidden_float, sample, &x));
    ht_exchange_show(c, 0);
    ht_status status = ht_block_run(c->sequence, c->layer, x, c->samples->length, &watch);
    ht_exchange_show(c, 1);
    return status;
}

/* --- Pairing ------------------------------------------------------------------------------------------------- */

/* Row of a position; NULL: there is none. */
static const float *find_row(const ht_capture *capture, int32_t position) {
    size_t low = 0, high = capture->rows;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (capture->position[middle] < position)
            low = middle + 1;
        else
            high = middle;
    }
    return low < capture->rows && capture->position[low] == position ? capture->x + low * capture->cols : NULL;
}

ht_status ht_float_rows(ht_calibrator *c, size_t index, const ht_site_rows *rows, const float **out) {
    size_t values = rows->rows * rows->cols;
    *out = rows->x;
    if (!c->cross)
        return HT_OK;
    if (values > c->paired_values) {
        ht_release(c->ctx, c->paired);
        c->paired = NULL;
        c->paired_values = 0;
        HT_TRY(ht_allocate_raw(c->ctx, values, sizeof *c->paired, "inputs of the float model", &c->paired));
        c->paired_values = values;
    }
    const ht_capture *capture = reads_normed(c, rows->site) ? &c->normed : &c->capture[index];
    for (size_t i = 0; i < rows->rows; i++) {
        int32_t position = (int32_t)rows->first + (rows->token ? rows->token[i] : (int32_t)i);
        const float *found = find_row(capture, position);
        memcpy(c->paired + i * rows->cols, found ? found : rows->x + i * rows->cols, rows->cols * sizeof *found);
    }
    *out = c->paired;
    return HT_OK;
}

/* --- From block to block ------------------------------------------------------------------------------------- */

ht_status ht_float_propagate(ht_calibrator *c) {
    ht_status status = HT_OK;
    ht_exchange_show(c, 0);
    for (size_t s = 0; s < c->samples->count + c->samples->held_out && status == HT_OK; s++) {
        float *x;
        status = ht_hidden_load(c->hidden_float, s, &x);
        if (status == HT_OK)
            status = ht_block_run(c->sequence, c->layer, x, c->samples->length, NULL);
        if (status == HT_OK)
            status = ht_hidden_store(c->hidden_float, s);
    }
    ht_exchange_show(c, 1);
    return status;
}

static void release_capture(ht_calibrator *c, ht_capture *capture) {
    ht_release(c->ctx, capture->x);
    ht_release(c->ctx, capture->position);
    *capture = (ht_capture){0};
}

void ht_float_release(ht_calibrator *c) {
    for (size_t i = 0; i < c->observed_count; i++)
        release_capture(c, &c->capture[i]);
    release_capture(c, &c->normed);
}
