#define FASTINIT_VECTOR_AVX2
#include "cpu_kernel.h"

fastinit::Kernel fastinit::avx2_kernel(const fastinit_plan &plan) { return choose(plan); }
