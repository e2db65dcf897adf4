#include "avx2.h"

#include "kernel.h"

fastinit::Kernel fastinit::avx2_kernel(const fastinit_recipe &recipe) { return choose(recipe); }
