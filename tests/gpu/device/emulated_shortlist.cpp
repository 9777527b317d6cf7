// The kernels of shortlist.cu as fibers.
#include "inference/cuda/shortlist.cu"
