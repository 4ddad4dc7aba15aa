/* HQQ: scales and zero points of integer groups without data. Contracts of methods.h. */
#ifndef HT_QUANT_METHOD_HQQ_H
#define HT_QUANT_METHOD_HQQ_H

#include "quant/method/methods.h"

ht_rows_fn ht_hqq_rows;
ht_status ht_hqq_accepts(const ht_scheme *scheme);

#endif
