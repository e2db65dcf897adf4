/* Recipes and their tables as kernel parameters. */
#pragma once

#include <string.h>

#include "kernel.h"

namespace fastinit {
namespace {

/* Whether a recipe is served in two launches, one for each half of its table: in float64 both halves exceed a launch. */
bool is_halved(const fastinit_recipe &recipe) { return recipe.kind == FASTINIT_TWO_SIDED && recipe.dtype == FASTINIT_FLOAT64; }

/* Halves of the table that one launch takes. */
int table_halves(const fastinit_recipe &recipe) { return recipe.kind == FASTINIT_TWO_SIDED && !is_halved(recipe) ? 2 : 1; }

int table_reals(const fastinit_recipe &recipe) {
  return has_table(recipe) ? table_halves(recipe) * recipe.terms * recipe.cells : 0;
}

/* Bytes that write_recipe writes, as a multiple of 16. */
template <class R> int recipe_bytes(const fastinit_recipe &recipe) {
  return (int)(sizeof(Recipe<R>) + table_reals(recipe) * sizeof(R) + 15) / 16 * 16;
}

/* Write a table as [terms][halves][cells]; `half` is the only one of a halved recipe. */
template <class R> void write_table(const fastinit_recipe &recipe, int32_t half, R *to) {
  const int halves = table_halves(recipe), cells = recipe.cells, terms = recipe.terms;
  const R *from = (const R *)recipe.table;
  if (is_halved(recipe) && half == UPPER) from += terms * cells;
  for (int term = 0; term < terms; term++) {
    memcpy(to, from + term * cells, cells * sizeof(R));
    if (halves == 2) memcpy(to + cells, from + (terms + term) * cells, cells * sizeof(R));
    to += halves * cells;
  }
}

/* Write a recipe, and its table right behind it. */
template <int DTYPE> void write_recipe(const fastinit_recipe &from, int32_t half, char *at) {
  using R = Real<DTYPE>;
  Recipe<R> &to = *(Recipe<R> *)at;
  to.slope = (R)from.slope;
  to.anchor = (R)from.anchor;
  to.std = (R)from.std;
  to.cut = (R)from.cut;
  to.inverse_cut = (R)from.inverse_cut;
  to.low = (R)from.low;
  to.high = (R)from.high;
  for (int i = 0; i < 2; i++) {
    to.offset[i] = (R)from.offset[i];
    to.scale[i] = (R)from.scale[i];
  }
  to.flip = (decltype(to.flip))from.flip;
  if constexpr (SIZE<DTYPE> == 2) {
    to.low_pair = rounded_pair<DTYPE>(to.low, to.low);
    to.high_pair = rounded_pair<DTYPE>(to.high, to.high);
  }
  to.top_bits = from.top_bits;
  to.variant = variant_of(from);
  to.reals = table_reals(from);
  if (to.reals > 0) write_table(from, half, (R *)(&to + 1));
}

}  // namespace
}  // namespace fastinit
