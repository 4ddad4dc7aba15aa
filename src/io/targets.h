/* Which modules a config entry means: "Linear", exact names, "re:" patterns. */
#ifndef HT_IO_TARGETS_H
#define HT_IO_TARGETS_H

#include <stddef.h>

#include <halftone/status.h>

#include <jansson.h>

/* Name of the module that owns a parameter: without a trailing ".weight". Returns its length. */
size_t ht_module_length(const char *parameter);

/* Write side. Lists of names for each group of modules, as short as possible: layer and expert numbers become \d+ when
 * every module of that pattern is in the group. */
typedef struct ht_target_builder ht_target_builder;
ht_status ht_target_builder_create(ht_target_builder **out);
void ht_target_builder_destroy(ht_target_builder *builder);
/* The module of this parameter is in `group`. */
ht_status ht_target_builder_add(ht_target_builder *builder, const char *parameter, size_t group);
/* JSON array for a group, sorted; a new reference, NULL when out of memory. */
json_t *ht_target_builder_list(ht_target_builder *builder, size_t group);

/* Read side: config groups compiled once. */
typedef struct ht_targets ht_targets;
/* groups: array of JSON arrays of strings, one for each group. Fails with CORRUPT (not strings, a bad pattern), naming
 * label and group. */
ht_status ht_targets_create(const char *label, json_t *const *groups, size_t count, ht_targets **out);
void ht_targets_destroy(ht_targets *targets);
/* Group of the module that owns a parameter: by exact name first, then by pattern, then by class Linear; SIZE_MAX when
 * none. */
size_t ht_targets_find(const ht_targets *targets, const char *parameter, size_t length);

#endif
