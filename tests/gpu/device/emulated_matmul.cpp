// The kernels of matmul.cu as fibers.
#include "inference/cuda/matmul.cu"
