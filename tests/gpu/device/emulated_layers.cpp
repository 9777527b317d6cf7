// The kernels of layers.cu as fibers.
#include "inference/cuda/layers.cu"
