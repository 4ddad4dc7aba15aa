/* Scales under the importance of inputs. Contract of matrix.h. */
#ifndef HT_QUANT_METHOD_IMATRIX_H
#define HT_QUANT_METHOD_IMATRIX_H

#include "quant/method/methods.h"

ht_matrix_fn ht_imatrix_matrix;
ht_status ht_imatrix_accepts(const ht_scheme *scheme);
unsigned ht_imatrix_moments(const ht_settings *settings);

#endif
