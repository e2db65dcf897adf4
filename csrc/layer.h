/* What a vector layer must provide. philox.h, transform.h and the loops are written over it, once for all processors.
 *
 * A layer V is a struct of static functions over V::LANES lanes, each of which does its own element; they are marked
 * FASTINIT_INLINE. Where values are described, x stands for a lane. A new layer states static_assert(is_layer<V>()): what is
 * missing or has another type is then named in the compiler's message. Layers: scalar.h, cpu/avx2.h, cpu/avx512.h, cpu/neon.h,
 * cuda/thread.h. */
#pragma once

#include <stdint.h>

#include "platform.h"

namespace fastinit {

/* The members of a layer V as their exact types. */
template <class V> struct Layer {
  /* --- types ------------------------------------------------------------------------------------------------------------- */

  using Real = typename V::Real;   /* float or double: the arithmetic */
  using F = typename V::F;         /* LANES reals */
  using I = typename V::I;         /* LANES unsigned integers as wide as a real; arithmetic wraps */
  using M = typename V::M;         /* LANES truth values */
  using W = typename V::W;         /* a 32-bit word of Philox's counter for each of BLOCKS blocks, in any arrangement */
  using Shift = typename V::Shift; /* a number of bits to shift by, as the processor wants it */

  /* --- constants --------------------------------------------------------------------------------------------------------- */

  int lanes = V::LANES;       /* lanes of an F */
  int blocks = V::BLOCKS;     /* blocks of a W; 4 * BLOCKS is a multiple of LANES */
  int unroll = V::UNROLL;     /* how many W a loop has under way at once */
  bool spots = V::SPOTS;      /* whether loops place several vectors before they look up the first, by way of memory */
  int mantissa = V::MANTISSA; /* stored bits of a real's mantissa: 23 or 52 */

  /* --- Philox ------------------------------------------------------------------------------------------------------------ */

  W (*word)(uint32_t) = V::word;       /* the same word for every block */
  W (*counter)(uint64_t) = V::counter; /* low 32 bits of `block`, `block` + 1, ..., all with the same high 32 bits */
  void (*multiply)(W, uint32_t, W &, W &) = V::multiply; /* x * m as 64 bits: third argument high, fourth low half */
  W (*xor_word)(W, W) = V::xor_word;                     /* a ^ b */
  W (*xor3)(W, W, W) = V::xor3;                          /* a ^ b ^ c */
  void (*interleave)(W, W, W, W, I *) = V::interleave;   /* words 0 to 3 of the blocks, to 4 * BLOCKS lanes in element order */

  /* --- making and viewing ------------------------------------------------------------------------------------------------ */

  F (*real)(double) = V::real;         /* every lane x, which is exact in Real */
  I (*integer)(uint64_t) = V::integer; /* every lane x, cut to the width of a real */
  Shift (*shift)(int) = V::shift;      /* for shift_right */
  I (*bits)(F) = V::bits;              /* the reals' bits */
  F (*from_bits)(I) = V::from_bits;    /* and back */
  F (*to_real)(I) = V::to_real;        /* of x as a signed integer, rounded to nearest even */

  /* --- reals: IEEE 754, each with one rounding to nearest even ----------------------------------------------------------- */

  F (*fma)(F, F, F) = V::fma;          /* a * b + c, with one rounding */
  F (*mul)(F, F) = V::mul;             /* a * b; never contracted with another operation */
  F (*add)(F, F) = V::add;             /* a + b */
  F (*sub)(F, F) = V::sub;             /* a - b */
  F (*abs)(F) = V::abs;                /* x without its sign */
  F (*negate)(F) = V::negate;          /* x with the other sign */
  F (*copy_sign)(F, F) = V::copy_sign; /* the first with the sign of the second */
  F (*truncate)(F) = V::truncate;      /* toward zero, to an integer; of any x >= 0 */
  F (*at_least)(F, F) = V::at_least;   /* x <= low ? low : x, for a low that is not -0 */
  F (*at_most)(F, F) = V::at_most;     /* x >= high ? high : x, for a high that is not +0 */

  /* --- comparisons and choices ------------------------------------------------------------------------------------------- */

  M (*less)(F, F) = V::less;                /* a < b; false for NaN */
  M (*positive)(I) = V::positive;           /* x > 0 as a signed integer */
  F (*select)(M, F, F) = V::select;         /* m ? a : b */
  I (*select_int)(M, I, I) = V::select_int; /* m ? a : b */

  /* --- integers ---------------------------------------------------------------------------------------------------------- */

  I (*and_)(I, I) = V::and_;                               /* a & b */
  I (*or_)(I, I) = V::or_;                                 /* a | b */
  I (*xor_)(I, I) = V::xor_;                               /* a ^ b */
  I (*add_int)(I, I) = V::add_int;                         /* a + b */
  I (*sub_int)(I, I) = V::sub_int;                         /* a - b */
  I (*shift_right)(I, Shift) = V::shift_right;             /* logical, by a count known only at run time */
  I (*shift_right_1)(I) = V::shift_right_1;                /* logical, by one */
  I (*shift_right_by)(I) = V::template shift_right_by<16>; /* logical, by a constant, the template's argument */
  I (*shift_left_by)(I) = V::template shift_left_by<16>;   /* likewise, to the left */
  I (*distance)(I) = V::distance;                          /* 2^(bits - 1) - |x| of an odd signed x */

  /* --- the quantile table ------------------------------------------------------------------------------------------------ */

  /* Table<CELLS, TERMS, HALVES>, of every shape of variant.h, is what a layer makes of a table [halves][terms][cells]:
   *   load     keep or rearrange the table at that address;
   *   place    where the cell is whose number has its low bits in x (the others are to be ignored), in the upper half where the
   *            mask is true and there are two halves;
   *   look_up  coefficient[term] of the cell at that place, by the same mask. */
  using Table = typename V::template Table<32, 5, 2>;
  void (Table::*load)(const Real *) = &Table::load;
  I (Table::*place)(I, M) const = &Table::place;
  void (Table::*look_up)(I, M, F *) const = &Table::look_up;

  /* --- memory, at any address -------------------------------------------------------------------------------------------- */

  I (*load_words)(const uint32_t *) = V::load_words;   /* LANES words */
  void (*store_words)(uint32_t *, I) = V::store_words; /* and back */
  F (*load_real)(const Real *) = V::load_real;         /* LANES reals */
  I (*load_16)(const uint16_t *) = V::load_16;         /* LANES numbers of 16 bits */
  I (*load_8)(const uint8_t *) = V::load_8;            /* LANES numbers of 8 bits */
  void (*store_real)(Real *, F) = V::store_real;       /* LANES reals */
  void (*store_16)(uint16_t *, I) = V::store_16;       /* the low 16 bits of every lane */
  void (*store_8)(uint8_t *, I) = V::store_8;          /* the low 8 bits of every lane */
};

/* Whether V provides all of it; else it does not compile. */
template <class V> constexpr bool is_layer() {
  constexpr Layer<V> members;
  return members.lanes >= 1 && 4 * members.blocks % members.lanes == 0;
}

}  // namespace fastinit
