/* Settings of methods: named numbers and words of a recipe's `options`, one table for all methods.
 *
 *     options: {damp: 0.05, order: gar, block: 128}
 *
 * A row says name, kind, limits, default and the methods it means something for; an option that means nothing for its
 * rule's method is refused, as the options of formats are (rule_options.h). */
#ifndef HT_QUANT_RECIPE_SETTINGS_H
#define HT_QUANT_RECIPE_SETTINGS_H

#include <stddef.h>

#include <halftone/status.h>

/* X(enumerator tail): rows in settings.c. Add at the end of a method's group. */
#define HT_SETTING_LIST(X)                                                                                             \
    X(DAMP)       /* relative damping of H; 0: chosen on held-out text */                                              \
    X(BLOCK)      /* columns of a lazy block */                                                                        \
    X(ORDER)      /* none, static, gar, desc_act */                                                                    \
    X(SCALES)     /* original, at_group, searched */                                                                   \
    X(HESSIAN)    /* float, quantized inputs */                                                                        \
    X(GPTAQ)      /* alpha; 0: off */                                                                                  \
    X(SHRINK)     /* pull of H towards its diagonal, 0..1; negative: chosen on held-out text */                        \
    X(SWEEPS)     /* coordinate descent over all codes after the walk: how often */                                    \
    X(SPARSITY)   /* share of the weights of a row that become zero */                                                 \
    X(PATTERN)    /* none, 2:4, 4:8 */                                                                                 \
    X(FISHER)     /* how much outputs count by what the predictions mind, 0..1 */                                      \
    X(ALPHA)      /* exponent of smoothing */                                                                          \
    X(GRID)       /* points of a search */                                                                             \
    X(DUO)        /* AWQ: weight statistics beside those of the inputs */                                              \
    X(LOSS)       /* AWQ: layer, block */                                                                              \
    X(PLACEMENT)  /* fuse, apply */                                                                                    \
    X(ITERATIONS) /* HQQ, SINQ, AutoRound */                                                                           \
    X(BATCH)      /* AutoRound: samples of a step */                                                                   \
    X(RATE)       /* AutoRound: step of a latent, in steps of the grid */                                              \
    X(MOMENTUM)   /* AutoRound: what stays of gradients from step to step */                                           \
    X(NORM)       /* HQQ: p of the norm */                                                                             \
    X(FEW_TOKENS) /* share of the calibration tokens below which an expert counts as starved */                        \
    X(HADAMARD)   /* block of the inputs' Hadamard transform; 0: as the format has it */                               \
    X(R4)         /* block of the Hadamard transform before down; 0: none, 1: the whole row */

typedef enum ht_setting {
#define HT_SETTING_ENUMERATOR(name) HT_SETTING_##name,
    HT_SETTING_LIST(HT_SETTING_ENUMERATOR)
#undef HT_SETTING_ENUMERATOR
        HT_SETTING_COUNT
} ht_setting;

typedef struct ht_settings {
    double value[HT_SETTING_COUNT]; /* words by their number in the row's list */
} ht_settings;

enum { HT_ORDER_NONE, HT_ORDER_STATIC, HT_ORDER_GAR, HT_ORDER_DESC_ACT };
enum { HT_SCALES_ORIGINAL, HT_SCALES_AT_GROUP, HT_SCALES_SEARCHED };
enum { HT_HESSIAN_FLOAT, HT_HESSIAN_QUANTIZED };
enum { HT_LOSS_LAYER, HT_LOSS_BLOCK };
enum { HT_PLACEMENT_FUSE, HT_PLACEMENT_APPLY };
enum { HT_PATTERN_NONE, HT_PATTERN_2_4, HT_PATTERN_4_8 };

/* `method` below: a name of the methods table, or several joined by '+' ("smooth+gptq"), which know what any of them
 * knows; NULL in ht_settings_set: any method. */

/* Defaults of a method; where several know a setting, the last one's. Zero for settings that it does not know. */
ht_settings ht_settings_default(const char *method);
/* Nothing said: every value NaN. What a recipe is read into. */
ht_settings ht_settings_unset(void);
/* What first says, else what second says. */
ht_settings ht_settings_merge(const ht_settings *first, const ht_settings *second);
/* Set one by its name and text. ARGUMENT: unknown name (nearest named), value outside its limits, or an option that
 * this method does not know. */
ht_status ht_settings_set(ht_settings *settings, const char *method, const char *name, const char *value);
/* HT_OK when the method knows every setting that is said; else ARGUMENT, naming what it takes. */
ht_status ht_settings_check(const ht_settings *settings, const char *method);
/* A method's settings in force: what is said and known to it, else its defaults. */
ht_settings ht_settings_resolve(const ht_settings *said, const char *method);
/* Is this the name of a setting of any method? */
int ht_settings_knows(const char *name);
/* Does the method know the setting? */
int ht_setting_of(ht_setting setting, const char *method);
const char *ht_setting_name(ht_setting setting);
/* The settings' names for "did you mean". NULL past the last. */
const char *ht_setting_at(size_t index);

#endif
