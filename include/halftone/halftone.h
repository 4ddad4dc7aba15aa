/* Everything, in the order a reader learns it. */
#ifndef HT_HALFTONE_H
#define HT_HALFTONE_H

#include <halftone/status.h>
#include <halftone/context.h>
#include <halftone/tensor.h>
#include <halftone/format.h>
#include <halftone/cast.h>
#include <halftone/checkpoint.h>
#include <halftone/tokenizer.h>
#include <halftone/recipe.h>
#include <halftone/quant.h>
#include <halftone/observe.h>
#include <halftone/search.h>
#include <halftone/linear.h>
#include <halftone/torchao.h>
#include <halftone/attention.h>
#include <halftone/kernels.h>
#include <halftone/model.h>
#include <halftone/report.h>
#include <halftone/about.h>

#endif
