/* The calls behind ht_cuda_gemm: arguments are checked, sizes fit int. */
#ifndef HT_KERNELS_CUDA_GEMM_LAUNCH_H
#define HT_KERNELS_CUDA_GEMM_LAUNCH_H

#include "kernels/cuda/cuda.h"

/* gemm_sm90.cu: UNSUPPORTED where a tensor map cannot be made. */
ht_status ht_cuda_gemm_sm90(const ht_cuda_gemm_args *args, int multiprocessors, ht_stream *stream);

#endif
