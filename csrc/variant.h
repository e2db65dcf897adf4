/* Variants: what of a recipe decides the code that is compiled for it. */
#pragma once

#include "fastinit.h"

namespace fastinit {

/* The shape of a half of a quantile table; as SMALL, LARGE and DOUBLE in fastinit/_core/tables.py. */
struct Shape {
  int cells, terms;
};
constexpr Shape SMALL = {32, 5};
constexpr Shape LARGE = {64, 7};
constexpr Shape DOUBLE = {256, 13}; /* of float64, which has no other */

/* A kind, split by flip (FROM_BOUND), and the size of its table. Of float64 there is no small one. */
enum Variant {
  UNIFORM,
  UNIFORM_FROM_BOUND,
  SYMMETRIC_SMALL,
  SYMMETRIC_LARGE,
  TWO_SIDED_SMALL,
  TWO_SIDED_LARGE,
  FMOD_SMALL,
  FMOD_LARGE,
  RAW_WORDS
};

static inline Variant variant_of(const fastinit_recipe &recipe) {
  const bool small = recipe.cells == SMALL.cells;
  switch (recipe.kind) {
    case FASTINIT_UNIFORM: return recipe.flip ? UNIFORM_FROM_BOUND : UNIFORM;
    case FASTINIT_SYMMETRIC: return small ? SYMMETRIC_SMALL : SYMMETRIC_LARGE;
    case FASTINIT_TWO_SIDED: return small ? TWO_SIDED_SMALL : TWO_SIDED_LARGE;
    case FASTINIT_FMOD: return small ? FMOD_SMALL : FMOD_LARGE;
    default: return RAW_WORDS;
  }
}

static inline bool has_table(const fastinit_recipe &recipe) {
  return recipe.kind != FASTINIT_UNIFORM && recipe.kind != FASTINIT_WORDS;
}

template <Variant VARIANT> constexpr bool IS_SYMMETRIC = VARIANT == SYMMETRIC_SMALL || VARIANT == SYMMETRIC_LARGE;
template <Variant VARIANT> constexpr bool IS_TWO_SIDED = VARIANT == TWO_SIDED_SMALL || VARIANT == TWO_SIDED_LARGE;
template <Variant VARIANT> constexpr bool IS_FMOD = VARIANT == FMOD_SMALL || VARIANT == FMOD_LARGE;
template <Variant VARIANT> constexpr bool HAS_TABLE = IS_SYMMETRIC<VARIANT> || IS_TWO_SIDED<VARIANT> || IS_FMOD<VARIANT>;
template <Variant VARIANT>
constexpr bool IS_LARGE = VARIANT == SYMMETRIC_LARGE || VARIANT == TWO_SIDED_LARGE || VARIANT == FMOD_LARGE;

/* The shape of a variant's table in a real type; of a variant without a table, one that is not used. */
template <class Real, Variant VARIANT> constexpr Shape SHAPE = sizeof(Real) == 8 ? DOUBLE : IS_LARGE<VARIANT> ? LARGE : SMALL;

}  // namespace fastinit
