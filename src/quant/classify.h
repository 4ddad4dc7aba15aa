/* What a parameter is, from its name and shape: linear, expert, router, ... */
#ifndef HT_QUANT_CLASSIFY_H
#define HT_QUANT_CLASSIFY_H

#include <stddef.h>

#include <halftone/checkpoint.h>

typedef enum ht_class {
    HT_CLASS_OTHER,
    HT_CLASS_LINEAR, /* matrix of a numbered block */
    HT_CLASS_EXPERT, /* the same, one of many or stacked */
    HT_CLASS_ROUTER, /* chooses experts */
    HT_CLASS_EMBEDDING,
    HT_CLASS_LM_HEAD,
    HT_CLASS_NORM,
    HT_CLASS_BIAS,
    HT_CLASS_CONVOLUTION,
    HT_CLASS_TOWER, /* matrix of a vision or audio tower or of a projector */
    HT_CLASS_COUNT
} ht_class;

/* Why a class is kept by the built-in recipes; "" for linear and expert. Static string. */
const char *ht_class_reason(ht_class class);

/* Words that recipes match on, as a set of classes (bit 1 << class). Returns 0 for another word. */
unsigned ht_class_word(const char *word);
const char *ht_class_word_at(size_t index); /* NULL past the end */

/* Class of a parameter. routes: the module beside it holds experts, which tells a router "gate" from a linear. */
ht_class ht_classify_name(const char *name, unsigned rank, int routes);
/* The same, looking into the checkpoint for the experts. */
ht_class ht_classify(const ht_checkpoint *checkpoint, const ht_parameter *parameter);

/* Linears that readers run as one matrix (q/k/v, gate/up) share a key: the parent's path and the group's name.
 * Returns 0 when the parameter belongs to no such group, or the key does not fit. */
int ht_fused_key(const char *name, char *key, size_t size);
/* All experts of one block share a key: the path up to "experts". Returns 0 for other parameters. */
int ht_experts_key(const char *name, char *key, size_t size);

#endif
