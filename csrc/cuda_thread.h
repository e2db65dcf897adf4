/* What one GPU thread does: the vector layer of a thread, laws as kernels read them, elements from words. The twin's, too. */
#pragma once

#include "plan.h"
#include "scalar.h"
#include "transform.h"

namespace fastinit {

/* --- one thread as a vector layer --------------------------------------------------------------------------------------- */

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

  FASTINIT_INLINE int shift(int count) { return count - LOG_SIZE; } /* a cell's number as the offset of its bytes */
  /* [terms][halves][cells], of float64 one half, in shared memory at a multiple of a term's bytes: so that cell and half are
   * or-ed into the address, in the instruction that masks the cell. */
  template <int CELLS, int TERMS, int HALVES> struct Table {
    static constexpr int HALF = CELLS * (int)sizeof(R), TERM = sizeof(R) == 8 ? HALF : HALF * HALVES;
    SharedAddress at;
    FASTINIT_INLINE_MEMBER void load(const R *table) { at = shared_address(table); }
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
    high = (uint32_t)(product >> 32), low = (uint32_t)product;
  }
  FASTINIT_INLINE W xor_word(W a, W b) { return a ^ b; }
  FASTINIT_INLINE W xor3(W a, W b, W c) { return a ^ b ^ c; }
  FASTINIT_INLINE void interleave(W c0, W c1, W c2, W c3, I *words) {
    words[0] = c0, words[1] = c1, words[2] = c2, words[3] = c3;
  }
  FASTINIT_INLINE I distance(I s) { /* Scalar's, with one instruction less: |s| is odd */
    return (I)((Signed)s < 0 ? (I)0 - s : s) ^ (Scalar<R>::SIGN - 2);
  }
#if defined(__CUDA_ARCH__) /* one instruction, which orders -0 below +0; what is said of it is of float32 */
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
template <int DTYPE> using Layer = Thread<Real<DTYPE>>;
template <int DTYPE> using Word = typename Layer<DTYPE>::I;

/* --- laws ------------------------------------------------------------------------------------------------------------------ */

/* What a map is compiled for. */
enum Variant {
  UNIFORM_ALONE,
  BOUND_ALONE,
  SYMMETRIC_SMALL, /* 32 cells of 5 terms */
  SYMMETRIC_LARGE, /* 64 of 7; of float64, 256 of 13 */
  TWO_SIDED_SMALL,
  TWO_SIDED_LARGE,
  FMOD_SMALL,
  FMOD_LARGE
};

/* The constants of a law as a kernel reads them, its table right behind. */
template <class R> struct alignas(16) Law {
  R slope, anchor, std, cut, inverse_cut, low, high, offset[2], scale[2];
  typename Thread<R>::I flip;
  uint32_t low_pair, high_pair;     /* of 16-bit dtypes, the bounds twice: what clamped_pair takes */
  int32_t top_bits, variant, reals; /* in the table */

  FASTINIT_INLINE_MEMBER const R *table() const { return (const R *)(this + 1); }
};

constexpr int SMALL_CELLS = 32, SMALL_TERMS = 5;
template <class R> constexpr int LARGE_CELLS = sizeof(R) == 8 ? 256 : 64;
template <class R> constexpr int LARGE_TERMS = sizeof(R) == 8 ? 13 : 7;
/* Where a block keeps a table of any size: both halves, of float64 one, as a kernel's parameters hold no two. */
template <class R> constexpr int TERM_REALS = LARGE_CELLS<R> *(sizeof(R) == 8 ? 1 : 2);
template <class R> struct alignas(TERM_REALS<R> * sizeof(R)) Space {
  R table[TERM_REALS<R> * LARGE_TERMS<R>];
};

/* A law at work. `table` is in shared memory. */
template <class R, Kind KIND, int CELLS, int TERMS> struct Map {
  using V = Thread<R>;
  Constants<V, KIND, CELLS, TERMS> constants;
  uint32_t low_pair, high_pair;
  FASTINIT_INLINE_MEMBER Map(const Law<R> &law, const R *table)
      : constants(decltype(constants)::make(law, table)), low_pair(law.low_pair), high_pair(law.high_pair) {}
  FASTINIT_INLINE_MEMBER R unclamped(typename V::I word) const { return fastinit::unclamped(constants, word); }
  FASTINIT_INLINE_MEMBER R value(typename V::I word) const { return fastinit::value(constants, word); }
};

/* The law of FASTINIT_WORDS. */
struct Words {};

/* Which laws of float64 come to a kernel: its tables are larger than fill_one's parameters, both halves than fill_list's. */
enum Laws { UNIFORMS, WITH_TABLES, ALL_LAWS };

/* Calls work(Map) for the law's variant. */
template <int DTYPE, Laws LAWS, class Work>
__device__ __forceinline__ void with_map(const Law<Real<DTYPE>> &law, const Real<DTYPE> *table, Work work) {
  using R = Real<DTYPE>;
  constexpr int CELLS = LARGE_CELLS<R>, TERMS = LARGE_TERMS<R>;
  constexpr bool WIDE = sizeof(R) == 8;
  switch (law.variant) {
    case UNIFORM_ALONE: work(Map<R, UNIFORM, SMALL_CELLS, SMALL_TERMS>(law, table)); break;
    case BOUND_ALONE: work(Map<R, UNIFORM_FROM_BOUND, SMALL_CELLS, SMALL_TERMS>(law, table)); break;
  }
  if constexpr (!WIDE || LAWS >= WITH_TABLES) switch (law.variant) {
    case SYMMETRIC_LARGE: work(Map<R, SYMMETRIC, CELLS, TERMS>(law, table)); break;
    case FMOD_LARGE: work(Map<R, FMOD, CELLS, TERMS>(law, table)); break;
  }
  if constexpr (!WIDE || LAWS == ALL_LAWS)
    if (law.variant == TWO_SIDED_LARGE) work(Map<R, TWO_SIDED, CELLS, TERMS>(law, table));
  if constexpr (!WIDE) switch (law.variant) {
    case SYMMETRIC_SMALL: work(Map<R, SYMMETRIC, SMALL_CELLS, SMALL_TERMS>(law, table)); break;
    case TWO_SIDED_SMALL: work(Map<R, TWO_SIDED, SMALL_CELLS, SMALL_TERMS>(law, table)); break;
    case FMOD_SMALL: work(Map<R, FMOD, SMALL_CELLS, SMALL_TERMS>(law, table)); break;
  }
}

/* --- elements as bits ---------------------------------------------------------------------------------------------------- */

/* The one rounding of a clamped value. */
template <int DTYPE> FASTINIT_INLINE Word<DTYPE> encoded(Real<DTYPE> v) {
  using V = Layer<DTYPE>;
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

/* Two floats to two 16-bit ones, the first in the low half; then their clamp. As the bounds are of the dtype, that is the clamp
 * before the rounding, in half the instructions, where the GPU has them. */
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

/* -0 is below +0, in PTX as in the contract. */
template <int DTYPE> FASTINIT_INLINE uint32_t clamped_pair(uint32_t pair, uint32_t low, uint32_t high) {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 800
  if constexpr (DTYPE == FASTINIT_BFLOAT16)
    asm("max.bf16x2 %0, %0, %1; min.bf16x2 %0, %0, %2;" : "+r"(pair) : "r"(low), "r"(high));
  else
    asm("max.f16x2 %0, %0, %1; min.f16x2 %0, %0, %2;" : "+r"(pair) : "r"(low), "r"(high));
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
template <int DTYPE> constexpr int VECTOR_BYTES = VECTOR<DTYPE> *SIZE<DTYPE>;
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
      if constexpr (SIZE<DTYPE> == 8) pieces[2 * i] = (uint32_t)bits, pieces[2 * i + 1] = (uint32_t)((uint64_t)bits >> 32);
      else if (i % (4 / SIZE<DTYPE>) == 0) pieces[i / (4 / SIZE<DTYPE>)] = (uint32_t)bits;
      else pieces[i / (4 / SIZE<DTYPE>)] |= (uint32_t)bits << (i % (4 / SIZE<DTYPE>) * SIZE<DTYPE> * 8);
    }
  }
}

}  // namespace fastinit
