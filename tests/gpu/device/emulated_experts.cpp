// The kernels of experts.cu as fibers.
#include "inference/cuda/experts.cu"
