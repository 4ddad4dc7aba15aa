/* Reading the rotary part of a config, and helpers that config.c and rope_config.c share. */
#ifndef HT_MODEL_ROPE_CONFIG_H
#define HT_MODEL_ROPE_CONFIG_H

#include "model/config.h"

#include <jansson.h>

/* Sizes of *c are known. Fails with UNSUPPORTED, CORRUPT, MEMORY. */
ht_status ht_rope_config_read(const char *label, const json_t *config, ht_arena *arena, ht_decoder_config *c);

/* A positive number or a flag under `key`; the fallback when missing or null. Fail with CORRUPT. */
ht_status ht_config_real(const char *label, const json_t *config, const char *key, double fallback, double *out);
ht_status ht_config_flag(const char *label, const json_t *config, const char *key, int fallback, int *out);

/* Failures that show the value: UNSUPPORTED "is not implemented"; CORRUPT "... is needed" (value NULL: missing). */
ht_status ht_config_refuse(const char *label, const char *key, const json_t *value);
ht_status ht_config_malformed(const char *label, const char *key, const json_t *value, const char *wanted);

#endif
