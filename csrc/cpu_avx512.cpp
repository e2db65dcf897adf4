#define FASTINIT_VECTOR_AVX512
#include "cpu_kernel.h"

fastinit::Kernel fastinit::avx512_kernel(const fastinit_plan &plan) { return choose(plan); }
