/* What one GPU thread does: the vector layer of a thread, recipes as kernels read them, elements from words. A C++ compiler
 * builds it for the CPU, too: see tests/emulation/twin.py. */
#pragma once

#include <cuda_runtime.h>

#include "../plan.h"
#include "../scalar.h"
#include "../transform.h"

namespace fastinit {

/* --- one thread as a vector layer (see layer.h) ---------------------------------------------------------------------------- */

#if defined(__CUDA_ARCH__)
using SharedAddress = uint32_t;
__device__ __forceinline__ SharedAddress shared_address(const void *p) {
  SharedAddress address = (uint32_t)__cvta_generic_to_shared(p);
  asm volatile("" : "+r"(address)); /* or the compiler adds the address anew at each look-up */
  return address;
}
template <class T> __device__ __forceinline__ const T *shared_pointer(SharedAddress address) {
  return (const T *)__cvta_shared_to_generic(address);
}
#else
using SharedAddress = uintptr_t;
FASTINIT_INLINE SharedAddress shared_address(const void *p) { return (uintptr_t)p; }
template <class T> FASTINIT_INLINE const T *shared_pointer(SharedAddress address) { return (const T *)address; }
#endif

template <class R> struct Thread : Scalar<R> {
  using typename Scalar<R>::F;
  using typename Scalar<R>::I;
  using typename Scalar<R>::Signed;
  using W = uint32_t;
  static constexpr int LOG_SIZE = sizeof(R) == 8 ? 3 : 2;

  FASTINIT_INLINE int shift(int count) { return count - LOG_SIZE; } /* leaves a cell's number as the offset of its bytes */
  /* [terms][halves][cells] (of float64 one half) in shared memory, at a multiple of a term's bytes: cell and half are or-ed into
   * the address, by the instruction that masks the cell. */
  template <int CELLS, int TERMS, int HALVES> struct Table {
    static constexpr int HALF = CELLS * (int)sizeof(R), TERM = sizeof(R) == 8 ? HALF : HALF * HALVES;
    SharedAddress at;
    FASTINIT_INLINE_MEMBER void load(const R *table) { at = shared_address(table); }
    FASTINIT_INLINE_MEMBER I place(I cell, bool) const { return cell; }
    FASTINIT_INLINE_MEMBER void look_up(I cell, bool upper, F *coefficient) const {
      const SharedAddress half = TERM > HALF && upper ? at | HALF : at, row = half | (SharedAddress)(cell & (HALF - sizeof(R)));
      FASTINIT_UNROLL
      for (int term = 0; term < TERMS; term++) coefficient[term] = *shared_pointer<R>(row + term * TERM);
    }
  };

  FASTINIT_INLINE W word(uint32_t x) { return x; }
  FASTINIT_INLINE W counter(uint64_t block) { return (uint32_t)block; }
  FASTINIT_INLINE void multiply(W x, uint32_t m, W &high, W &low) { /* written as one product: a single IMAD.WIDE */
    const uint64_t product = (uint64_t)x * m;
    high = (uint32_t)(product >> 32);
    low = (uint32_t)product;
  }
  FASTINIT_INLINE W xor_word(W a, W b) { return a ^ b; }
  FASTINIT_INLINE W xor3(W a, W b, W c) { return a ^ b ^ c; }
  FASTINIT_INLINE void interleave(W c0, W c1, W c2, W c3, I *words) {
    words[0] = c0;
    words[1] = c1;
    words[2] = c2;
    words[3] = c3;
  }
  FASTINIT_INLINE I distance(I s) { /* as Scalar's, with one instruction less: |s| is odd */
    return (I)((Signed)s < 0 ? (I)0 - s : s) ^ (Scalar<R>::SIGN - 2);
  }
#if defined(__CUDA_ARCH__) /* of float32 one instruction, which takes -0 for less than +0 */
  FASTINIT_INLINE F at_least(F v, F low) {
    if constexpr (sizeof(F) == 4) return fmaxf(v, low);
    else return Scalar<R>::at_least(v, low);
  }
  FASTINIT_INLINE F at_most(F v, F high) {
    if constexpr (sizeof(F) == 4) return fminf(v, high);
    else return Scalar<R>::at_most(v, high);
  }
#endif
};

static_assert(is_layer<Thread<float>>() && is_layer<Thread<double>>());

/* --- dtypes ---------------------------------------------------------------------------------------------------------------- */

template <int DTYPE> constexpr int SIZE = item_size(DTYPE);
template <int DTYPE> constexpr bool IS_WIDE = DTYPE == FASTINIT_FLOAT64 || DTYPE == FASTINIT_UINT64;
template <int DTYPE> constexpr bool IS_WORDS = DTYPE == FASTINIT_UINT32 || DTYPE == FASTINIT_UINT64;

template <bool WIDE> struct RealOf {
  using type = float;
};
template <> struct RealOf<true> {
  using type = double;
};
template <int DTYPE> using Real = typename RealOf<IS_WIDE<DTYPE>>::type;
template <int DTYPE> using ThreadOf = Thread<Real<DTYPE>>;
template <int DTYPE> using Word = typename ThreadOf<DTYPE>::I;

/* --- recipes --------------------------------------------------------------------------------------------------------------- */

/* A recipe as a kernel reads it, its table right behind it. */
template <class R> struct alignas(16) Recipe {
  FASTINIT_CONSTANTS(R, typename Thread<R>::I)
  uint32_t low_pair, high_pair; /* of 16-bit dtypes, the bounds twice: what clamped_pair takes */
  int32_t top_bits, variant;
  int32_t reals; /* in the table */

  FASTINIT_INLINE_MEMBER const R *table() const { return (const R *)(this + 1); }
};

/* Where a block keeps a table of any size: both halves, but of float64 one, as a kernel's parameters do not hold two. */
template <class R> constexpr Shape LARGEST = sizeof(R) == 8 ? DOUBLE : LARGE;
template <class R> constexpr int TERM_REALS = LARGEST<R>.cells * (sizeof(R) == 8 ? 1 : 2);
template <class R> struct alignas(TERM_REALS<R> * sizeof(R)) Space {
  R table[TERM_REALS<R> * LARGEST<R>.terms];
};

/* The map of a recipe: words to values. `table` is in shared memory. */
template <class R, Variant VARIANT> struct Map {
  using V = Thread<R>;
  Constants<V, VARIANT> constants;
  uint32_t low_pair, high_pair;
  FASTINIT_INLINE_MEMBER Map(const Recipe<R> &recipe, const R *table)
      : constants(Constants<V, VARIANT>::make(recipe, table)), low_pair(recipe.low_pair), high_pair(recipe.high_pair) {}
  FASTINIT_INLINE_MEMBER R unclamped(typename V::I word) const { return fastinit::unclamped(constants, word); }
  FASTINIT_INLINE_MEMBER R value(typename V::I word) const { return fastinit::value(constants, word); }
};

/* The map of raw words, which are the values. */
struct Words {};

/* Which variants a kernel serves in float64, where tables are large: one exceeds fill_one's parameters, and the two halves of a
 * two-sided one exceed fill_list's. */
enum Served { WITHOUT_TABLE, WITH_ONE_HALF, ALL };

/* Call work(Map) for the recipe's variant. */
template <int DTYPE, Served SERVED, class Work>
__device__ __forceinline__ void with_map(const Recipe<Real<DTYPE>> &recipe, const Real<DTYPE> *table, Work work) {
  using R = Real<DTYPE>;
  constexpr bool WIDE = sizeof(R) == 8;
  switch (recipe.variant) {
    case UNIFORM: work(Map<R, UNIFORM>(recipe, table)); break;
    case UNIFORM_FROM_BOUND: work(Map<R, UNIFORM_FROM_BOUND>(recipe, table)); break;
  }
  if constexpr (!WIDE || SERVED >= WITH_ONE_HALF) {
    switch (recipe.variant) {
      case SYMMETRIC_LARGE: work(Map<R, SYMMETRIC_LARGE>(recipe, table)); break;
      case FMOD_LARGE: work(Map<R, FMOD_LARGE>(recipe, table)); break;
    }
  }
  if constexpr (!WIDE || SERVED == ALL) {
    if (recipe.variant == TWO_SIDED_LARGE) work(Map<R, TWO_SIDED_LARGE>(recipe, table));
  }
  if constexpr (!WIDE) {
    switch (recipe.variant) {
      case SYMMETRIC_SMALL: work(Map<R, SYMMETRIC_SMALL>(recipe, table)); break;
      case TWO_SIDED_SMALL: work(Map<R, TWO_SIDED_SMALL>(recipe, table)); break;
      case FMOD_SMALL: work(Map<R, FMOD_SMALL>(recipe, table)); break;
    }
  }
}

/* --- elements as bits ---------------------------------------------------------------------------------------------------- */

/* The one rounding of a clamped value. */
template <int DTYPE> FASTINIT_INLINE Word<DTYPE> encoded(Real<DTYPE> v) {
  using V = ThreadOf<DTYPE>;
  if constexpr (DTYPE == FASTINIT_BFLOAT16) return bfloat16_bits<V>(v);
  else if constexpr (DTYPE == FASTINIT_FLOAT16) return small_float_bits<V, 10, 15, 16>(v);
  else if constexpr (DTYPE == FASTINIT_FLOAT8_E4M3FN) return small_float_bits<V, 3, 7, 8>(v);
  else if constexpr (DTYPE == FASTINIT_FLOAT8_E5M2) return small_float_bits<V, 2, 15, 8>(v);
  else return V::bits(v);
}

/* An element from its word. */
template <int DTYPE, class M> FASTINIT_INLINE Word<DTYPE> element(const M &map, Word<DTYPE> word) {
  if constexpr (IS_WORDS<DTYPE>) return word;
  else return encoded<DTYPE>(map.value(word));
}

template <int DTYPE> FASTINIT_INLINE void store(char *out, int64_t place, Word<DTYPE> bits) {
  if constexpr (SIZE<DTYPE> == 1) ((uint8_t *)out)[place] = (uint8_t)bits;
  else if constexpr (SIZE<DTYPE> == 2) ((uint16_t *)out)[place] = (uint16_t)bits;
  else ((Word<DTYPE> *)out)[place] = bits;
}

/* Two floats are rounded to a pair of 16-bit ones, the first in the low half, and the pair is clamped. As the bounds are values
 * of the dtype, this gives what a clamp before the rounding gives, in half the instructions, where the GPU has them. */
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ < 800
constexpr bool HAS_PAIRS = false;
#else
constexpr bool HAS_PAIRS = true;
#endif

template <int DTYPE> FASTINIT_INLINE uint32_t rounded_pair(float first, float second) {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 800
  uint32_t pair;
  if constexpr (DTYPE == FASTINIT_BFLOAT16) asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(pair) : "f"(second), "f"(first));
  else asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(pair) : "f"(second), "f"(first));
  return pair;
#else
  return encoded<DTYPE>(first) | encoded<DTYPE>(second) << 16;
#endif
}

/* -0 is less than +0, in PTX as in the contract. */
template <int DTYPE> FASTINIT_INLINE uint32_t clamped_pair(uint32_t pair, uint32_t low, uint32_t high) {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 800
  if constexpr (DTYPE == FASTINIT_BFLOAT16)
    asm("max.bf16x2 %0, %0, %1; min.bf16x2 %0, %0, %2;" : "+r"(pair) : "r"(low), "r"(high));
  else asm("max.f16x2 %0, %0, %1; min.f16x2 %0, %0, %2;" : "+r"(pair) : "r"(low), "r"(high));
  return pair;
#else
  const auto order = [](uint32_t half) { return half & 0x8000 ? -1 - (int)(half & 0x7FFF) : (int)half; };
  const auto clamped = [&](uint32_t half, uint32_t least, uint32_t greatest) {
    const uint32_t raised = order(half) < order(least) ? least : half;
    return order(raised) > order(greatest) ? greatest : raised;
  };
  return clamped(pair & 0xFFFF, low & 0xFFFF, high & 0xFFFF) | clamped(pair >> 16, low >> 16, high >> 16) << 16;
#endif
}

/* What a thread stores at a time: 16 bytes, or of 8-byte elements one block, 32. */
template <int DTYPE> constexpr int VECTOR = IS_WIDE<DTYPE> ? 4 : 16 / SIZE<DTYPE>;
template <int DTYPE> constexpr int VECTOR_BYTES = VECTOR<DTYPE> * SIZE<DTYPE>;

/* A vector's elements from their words, as 32-bit pieces in the order of memory. */
template <int DTYPE, class M> FASTINIT_INLINE void pack(const M &map, const Word<DTYPE> *words, uint32_t *pieces) {
  if constexpr (SIZE<DTYPE> == 2 && HAS_PAIRS) {
    FASTINIT_UNROLL
    for (int i = 0; i < VECTOR<DTYPE> / 2; i++) {
      const float first = map.unclamped(words[2 * i]), second = map.unclamped(words[2 * i + 1]);
      pieces[i] = clamped_pair<DTYPE>(rounded_pair<DTYPE>(first, second), map.low_pair, map.high_pair);
    }
  } else {
    FASTINIT_UNROLL
    for (int i = 0; i < VECTOR<DTYPE>; i++) {
      const Word<DTYPE> bits = element<DTYPE>(map, words[i]);
      if constexpr (SIZE<DTYPE> == 8) {
        pieces[2 * i] = (uint32_t)bits;
        pieces[2 * i + 1] = (uint32_t)((uint64_t)bits >> 32);
      } else {
        constexpr int IN_A_PIECE = 4 / SIZE<DTYPE>, BITS = 8 * SIZE<DTYPE>;
        const uint32_t shifted = (uint32_t)bits << (i % IN_A_PIECE * BITS);
        if (i % IN_A_PIECE == 0) pieces[i / IN_A_PIECE] = shifted;
        else pieces[i / IN_A_PIECE] |= shifted;
      }
    }
  }
}

}  // namespace fastinit
