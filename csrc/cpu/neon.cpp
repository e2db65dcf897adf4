#include "neon.h"

#include "choose.h"

fastinit::Kernel fastinit::neon_kernel(const fastinit_recipe &recipe) { return choose(recipe); }
