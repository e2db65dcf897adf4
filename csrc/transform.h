/* Word -> value: the value contract (docstring of fastinit/_core/recipes.py), written once over a vector layer V.
 *
 * layer.h says what a layer provides. Nothing here contracts, reassociates or calls libm. */
#pragma once

#include "platform.h"
#include "variant.h"

namespace fastinit {

/* A recipe's constants, broadcast once a fill. */
template <class V, Variant VARIANT> struct Constants {
  static constexpr int CELLS = SHAPE<typename V::Real, VARIANT>.cells;
  static constexpr int TERMS = SHAPE<typename V::Real, VARIANT>.terms;
  typename V::F slope, anchor, std, cut, inverse_cut, low, high, offset[2], scale[2], one;
  typename V::I flip, fraction_mask, one_bits;
  typename V::Shift shift;
  typename V::template Table<CELLS, TERMS, IS_TWO_SIDED<VARIANT> ? 2 : 1> table;

  /* Of a fastinit_recipe, or of another struct with its constants and top_bits. */
  template <class Recipe> FASTINIT_INLINE Constants make(const Recipe &recipe, const void *table) {
    Constants c;
    c.slope = V::real(recipe.slope);
    c.anchor = V::real(recipe.anchor);
    c.std = V::real(recipe.std);
    c.cut = V::real(recipe.cut);
    c.inverse_cut = V::real(recipe.inverse_cut);
    c.low = V::real(recipe.low);
    c.high = V::real(recipe.high);
    c.one = V::real(1.0);
    c.flip = V::integer(recipe.flip);
    c.one_bits = V::bits(c.one);
    const int fraction_bits = V::MANTISSA - (HAS_TABLE<VARIANT> ? recipe.top_bits : 0); /* unchecked where there is no table */
    c.fraction_mask = V::integer(((uint64_t)1 << fraction_bits) - 1);
    c.shift = V::shift(fraction_bits);
    for (int half = 0; half < 2; half++) {
      c.offset[half] = V::real(recipe.offset[half]);
      c.scale[half] = V::real(recipe.scale[half]);
    }
    if (HAS_TABLE<VARIANT>) c.table.load((const typename V::Real *)table);
    return c;
  }
};

/* A word's variate, where its cell is in the table, and the variable of the cell's polynomial. */
template <class V> struct Spot {
  typename V::I s, place;
  typename V::F r;
};

template <class V, Variant VARIANT> FASTINIT_INLINE Spot<V> spot(const Constants<V, VARIANT> &c, typename V::I word) {
  typename V::I s = V::or_(word, V::integer(1));
  typename V::F d = V::to_real(V::distance(s)), scale = c.scale[0], offset = c.offset[0];
  typename V::M upper = V::positive(s);
  if (IS_TWO_SIDED<VARIANT>) {
    scale = V::select(upper, c.scale[1], scale);
    offset = V::select(upper, c.offset[1], offset);
  }
  typename V::I y = V::bits(V::fma(d, scale, offset));
  typename V::F r = V::sub(V::from_bits(V::or_(V::and_(y, c.fraction_mask), c.one_bits)), c.one);
  return {s, c.table.place(V::shift_right(y, c.shift), upper), r};
}

/* fmod(z, cut) with the sign of z, exactly: where the quotient is one off, the remainder is corrected without rounding. */
template <class V, Variant VARIANT>
FASTINIT_INLINE typename V::F remainder(const Constants<V, VARIANT> &c, typename V::F z) {
  using F = typename V::F;
  F size = V::abs(z), n = V::truncate(V::mul(size, c.inverse_cut));
  F r = V::fma(V::negate(n), c.cut, size);
  r = V::select(V::less(r, V::real(0.0)), V::add(r, c.cut), r);
  r = V::select(V::less(r, c.cut), r, V::sub(r, c.cut));
  return V::copy_sign(r, z);
}

/* Values before their clamp and their rounding to the dtype. */
template <class V, Variant VARIANT>
FASTINIT_INLINE typename V::F unclamped(const Constants<V, VARIANT> &c, const Spot<V> &spot) {
  constexpr int TERMS = Constants<V, VARIANT>::TERMS;
  typename V::F coefficient[TERMS];
  c.table.look_up(spot.place, V::positive(spot.s), coefficient);
  typename V::F v = coefficient[TERMS - 1];
  FASTINIT_UNROLL
  for (int term = TERMS - 2; term >= 0; term--) v = V::fma(v, spot.r, coefficient[term]);
  if constexpr (IS_SYMMETRIC<VARIANT>) v = V::fma(V::to_real(spot.s), v, c.anchor);
  if constexpr (IS_FMOD<VARIANT>) v = V::fma(remainder(c, V::mul(V::to_real(spot.s), v)), c.std, c.anchor);
  return v;
}
template <class V, Variant VARIANT>
FASTINIT_INLINE typename V::F unclamped(const Constants<V, VARIANT> &c, typename V::I word) {
  typename V::I s = V::or_(word, V::integer(1));
  if constexpr (VARIANT == UNIFORM_FROM_BOUND) s = V::shift_right_1(V::xor_(s, c.flip));
  if constexpr (HAS_TABLE<VARIANT>) return unclamped(c, spot(c, word));
  else return V::fma(V::to_real(s), c.slope, c.anchor);
}

/* The value before its rounding to the dtype, clamped to the dtype's values inside the bounds: of a word or its spot. */
template <class V, Variant VARIANT, class Place>
FASTINIT_INLINE typename V::F value(const Constants<V, VARIANT> &c, const Place &at) {
  return V::at_most(V::at_least(unclamped(c, at), c.low), c.high);
}

/* float32 -> bfloat16, in the low 16 bits: to nearest even; subnormals come out right because the exponents are float32's. */
template <class V> FASTINIT_INLINE typename V::I bfloat16_bits(typename V::F v) {
  typename V::I b = V::bits(v), odd = V::and_(V::template shift_right_by<16>(b), V::integer(1));
  return V::template shift_right_by<16>(V::add_int(b, V::add_int(odd, V::integer(0x7FFF))));
}

/* float32 -> a smaller format of MANTISSA bits and exponent bias BIAS, in the low bits, for finite values inside its range. */
template <class V, int MANTISSA, int BIAS, int BITS> FASTINIT_INLINE typename V::I small_float_bits(typename V::F v) {
  using I = typename V::I;
  constexpr int DROP = 23 - MANTISSA;
  I b = V::bits(v), size = V::and_(b, V::integer(0x7FFFFFFF));
  I odd = V::and_(V::template shift_right_by<DROP>(size), V::integer(1));
  I normal = V::template shift_right_by<DROP>(V::add_int(size, V::add_int(odd, V::integer((1u << (DROP - 1)) - 1))));
  normal = V::sub_int(normal, V::integer((127 - BIAS) << MANTISSA));
  /* adding 2^(23 + e), e the exponent of the least subnormal, leaves the rounded multiple of it in the low mantissa bits */
  const typename V::F magic = V::from_bits(V::integer((uint64_t)(127 + 23 + 1 - BIAS - MANTISSA) << 23));
  I subnormal = V::sub_int(V::bits(V::add(V::from_bits(size), magic)), V::bits(magic));
  typename V::M tiny = V::less(V::from_bits(size), V::from_bits(V::integer((uint64_t)(127 + 1 - BIAS) << 23)));
  I sign = V::and_(V::template shift_right_by<32 - BITS>(b), V::integer(1u << (BITS - 1)));
  return V::or_(V::select_int(tiny, subnormal, normal), sign);
}

/* --- of any number, for blends ---------------------------------------------------------------------------------------------- */

template <class V> FASTINIT_INLINE typename V::M is_nan(typename V::F v) {
  constexpr uint64_t ALL = ~(uint64_t)0 >> (65 - 8 * sizeof(typename V::Real)), INFINITE = ALL >> V::MANTISSA << V::MANTISSA;
  return V::positive(V::sub_int(V::and_(V::bits(v), V::integer(ALL)), V::integer(INFINITE)));
}

/* The number; for NaN the one of all bits but the sign. */
template <class V> FASTINIT_INLINE typename V::F with_one_nan(typename V::F v) {
  constexpr uint64_t ALL = ~(uint64_t)0 >> (65 - 8 * sizeof(typename V::Real));
  return V::select(is_nan<V>(v), V::from_bits(V::integer(ALL)), v);
}

/* float32 -> bfloat16, as bfloat16_bits, of any number. */
template <class V> FASTINIT_INLINE typename V::I any_bfloat16_bits(typename V::F v) {
  return V::select_int(is_nan<V>(v), V::integer(0x7FFF), bfloat16_bits<V>(v));
}

/* float32 -> a smaller format, as small_float_bits, of any number: LIMIT, without the sign, is what
 * overflow becomes: infinity, of float8_e4m3fn, which has none, the greatest number. */
template <class V, int MANTISSA, int BIAS, int BITS, int LIMIT> FASTINIT_INLINE typename V::I any_float_bits(typename V::F v) {
  using I = typename V::I;
  constexpr int SIGN = 1 << (BITS - 1);
  I size = small_float_bits<V, MANTISSA, BIAS, BITS>(V::abs(v));
  size = V::select_int(V::positive(V::sub_int(size, V::integer(LIMIT))), V::integer(LIMIT), size);
  I signed_ = V::or_(size, V::and_(V::template shift_right_by<32 - BITS>(V::bits(v)), V::integer(SIGN)));
  return V::select_int(is_nan<V>(v), V::integer(SIGN - 1), signed_);
}

/* A smaller format -> float32, exactly. TOP is the least size, without the sign, that is infinite or NaN. */
template <class V, int MANTISSA, int BIAS, int BITS, int TOP> FASTINIT_INLINE typename V::F wide_float(typename V::I b) {
  using I = typename V::I;
  constexpr int SIGN = 1 << (BITS - 1);
  I size = V::and_(b, V::integer(SIGN - 1));
  typename V::F v = V::mul(V::from_bits(V::template shift_left_by<23 - MANTISSA>(size)),
                           V::from_bits(V::integer((uint64_t)(254 - BIAS) << 23))); /* exact, of subnormals too */
  I top = V::or_(V::integer(0x7F800000u), V::template shift_left_by<23 - MANTISSA>(size));
  v = V::from_bits(V::select_int(V::positive(V::sub_int(size, V::integer(TOP - 1))), top, V::bits(v)));
  return V::from_bits(V::or_(V::bits(v), V::template shift_left_by<32 - BITS>(V::and_(b, V::integer(SIGN)))));
}

}  // namespace fastinit
