/* Config text that several profiles share: groups of equal requests, the record of how they were made. */
#ifndef HT_IO_CONFIG_RECORD_H
#define HT_IO_CONFIG_RECORD_H

#include <stddef.h>

#include <jansson.h>

#include "io/profile.h"

/* "default", "floor", "rceil", ... and back; unknown text gives the fallback. */
const char *ht_scale_rule_name(ht_scale_rule rule);
ht_scale_rule ht_scale_rule_find(const char *name, ht_scale_rule fallback);

/* Number equal requests: group[i] of request i, first[g] an index of group g. Returns the number of groups. */
size_t ht_group_requests(const ht_profile_request *requests, size_t count, size_t *group, size_t *first);
/* Scheme, formats, rules and method of a group; a new reference. */
json_t *ht_group_record(const ht_profile_request *request);
/* Put record (JSON text or NULL), version and groups under config.halftone. */
ht_status ht_add_record(json_t *config, const char *record, json_t *groups);
/* Put transform_config into config when a request has Hadamard blocks; ignored: further linears, without any. */
ht_status ht_add_transforms(json_t *config, const ht_profile_request *requests, size_t count,
                            const char *const *ignored, size_t ignored_count);
ht_status ht_dump_config(json_t *config, ht_text *out);

#endif
