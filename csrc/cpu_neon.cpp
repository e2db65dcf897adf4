#define FASTINIT_VECTOR_NEON
#include "cpu_kernel.h"

fastinit::Kernel fastinit::neon_kernel(const fastinit_plan &plan) { return choose(plan); }
