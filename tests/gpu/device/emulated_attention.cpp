// The kernels of attention.cu as fibers.
#include "inference/cuda/attention.cu"
