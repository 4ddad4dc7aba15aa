/* What the rows of the profile table share. */
#ifndef HT_IO_PROFILES_H
#define HT_IO_PROFILES_H

#include "io/fold.h"
#include "io/profile.h"

/* Add a component named head + tail; its kind, dtype and shape are the caller's. NULL with the message set. */
ht_component *ht_layout_add(ht_layout *layout, ht_arena *arena, const char *head, size_t length, const char *tail);
/* shape, behind the batch dimension if the parameter has one. */
void ht_component_shape(ht_component *component, size_t batch, int batched, unsigned rank, const size_t *shape);
/* Add a plane as tensor <name><tail>, [batch,] rows, cols; [batch,] 1 for a number per matrix. Nothing when the format
 * lacks the plane. dtype NONE = the plane's. */
ht_status ht_layout_add_plane(ht_layout *layout, ht_arena *arena, const ht_profile_request *request, const char *tail,
                              ht_plane plane, ht_dtype dtype);
/* The plane does not run along the rows: one for the matrix. */
int ht_plane_is_whole(const ht_format *format, ht_plane plane);

/* Fold by the row whose quant_method the config names. */
ht_status ht_profile_read(struct ht_fold *fold);

/* Rows of the table. */
ht_status ht_compressed_adapt(const ht_profile_request *request, ht_format *stored);
ht_status ht_compressed_layout(const ht_profile_request *request, ht_arena *arena, ht_layout *layout);
ht_status ht_compressed_config(const ht_profile_request *requests, size_t count, const char *const *ignored,
                               size_t ignored_count, const char *record, ht_text *out);
ht_status ht_compressed_read(struct ht_fold *fold);

ht_status ht_fp8_adapt(const ht_profile_request *request, ht_format *stored);
ht_status ht_fp8_layout(const ht_profile_request *request, ht_arena *arena, ht_layout *layout);
ht_status ht_fp8_config(const ht_profile_request *requests, size_t count, const char *const *ignored,
                        size_t ignored_count, const char *record, ht_text *out);
ht_status ht_fp8_read(struct ht_fold *fold);

ht_status ht_gpt_oss_adapt(const ht_profile_request *request, ht_format *stored);
ht_status ht_gpt_oss_layout(const ht_profile_request *request, ht_arena *arena, ht_layout *layout);
ht_status ht_gpt_oss_config(const ht_profile_request *requests, size_t count, const char *const *ignored,
                            size_t ignored_count, const char *record, ht_text *out);
ht_status ht_gpt_oss_read(struct ht_fold *fold);

ht_status ht_modelopt_read(struct ht_fold *fold);

ht_status ht_plain_adapt(const ht_profile_request *request, ht_format *stored);
ht_status ht_plain_layout(const ht_profile_request *request, ht_arena *arena, ht_layout *layout);
ht_status ht_plain_config(const ht_profile_request *requests, size_t count, const char *const *ignored,
                          size_t ignored_count, const char *record, ht_text *out);
ht_status ht_plain_read(struct ht_fold *fold);

#endif
