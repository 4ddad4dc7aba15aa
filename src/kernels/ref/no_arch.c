/* Processor families without rows of their own: the references run.
 * SPDX-License-Identifier: BSD-3-Clause */
#include "kernels/kernels.h"

const ht_kernel_row ht_kernel_rows_arch[] = {{.name = NULL}};
