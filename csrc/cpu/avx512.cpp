#include "avx512.h"

#include "choose.h"

fastinit::Kernel fastinit::avx512_kernel(const fastinit_recipe &recipe) { return choose(recipe); }
