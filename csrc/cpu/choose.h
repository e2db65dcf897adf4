/* The loops for a recipe, by variant and dtype. What the file of an instruction set includes, after its layer. */
#pragma once

#include "blend.h"

namespace fastinit {
namespace {

template <class Body> constexpr Kernel kernel() { return {fill<Body>, transform<Body>, blend<Body>}; }
template <class Source> constexpr Kernel words_kernel() { return {fill<Words<Source>>, transform<Words<Source>>, nullptr}; }

template <Variant VARIANT> Kernel by_dtype(const fastinit_recipe &recipe) {
  return recipe.dtype == FASTINIT_FLOAT64 ? kernel<Float64<VARIANT>>() : kernel<Float32<VARIANT>>();
}

Kernel choose(const fastinit_recipe &recipe) {
  switch (variant_of(recipe)) {
    case UNIFORM: return by_dtype<UNIFORM>(recipe);
    case UNIFORM_FROM_BOUND: return by_dtype<UNIFORM_FROM_BOUND>(recipe);
    case SYMMETRIC_SMALL: return kernel<Float32<SYMMETRIC_SMALL>>();
    case SYMMETRIC_LARGE: return by_dtype<SYMMETRIC_LARGE>(recipe);
    case TWO_SIDED_SMALL: return kernel<Float32<TWO_SIDED_SMALL>>();
    case TWO_SIDED_LARGE: return by_dtype<TWO_SIDED_LARGE>(recipe);
    case FMOD_SMALL: return kernel<Float32<FMOD_SMALL>>();
    case FMOD_LARGE: return by_dtype<FMOD_LARGE>(recipe);
    default: return recipe.dtype == FASTINIT_UINT64 ? words_kernel<BothStreams>() : words_kernel<Stream>();
  }
}

}  // namespace
}  // namespace fastinit
