#include "avx2.h"

#include "choose.h"

fastinit::Kernel fastinit::avx2_kernel(const fastinit_recipe &recipe) { return choose(recipe); }
