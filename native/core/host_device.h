// Marks plain functions that nvcc compiles for the GPU as well.
#pragma once

#ifdef __CUDACC__
#define SLIMCLR_HOST_DEVICE __host__ __device__
#else
#define SLIMCLR_HOST_DEVICE
#endif
