#include "cpu_kernel.h"

fastinit::Kernel fastinit::scalar_kernel(const fastinit_plan &plan) { return choose(plan); }
