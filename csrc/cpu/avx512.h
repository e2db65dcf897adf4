/* The vector layer of AVX-512 (see layer.h): 16 lanes of float.
 *
 * A counter word is in the even half of each 64-bit lane, where the widening multiply reads it; the multiply ignores what is in
 * the odd halves. A round of Philox is two multiplies, two shifts and two three-way xors. */
#pragma once

#include "schedule.h"

#include <immintrin.h>

#include "../layer.h"

namespace fastinit {

struct Avx512 {
  using Real = float;
  using F = __m512;
  using I = __m512i;
  using M = __mmask16;
  using Shift = __m128i;
  using W = __m512i;
  static constexpr int LANES = 16, BLOCKS = 8, UNROLL = 4, MANTISSA = 23;
  static constexpr bool SPOTS = false;                       /* tried: fills take a sixth longer */
  enum { TO_ZERO = _MM_FROUND_TO_ZERO | _MM_FROUND_NO_EXC }; /* one name, as portable intrinsics are macros */

  FASTINIT_INLINE W word(uint32_t x) { return _mm512_set1_epi32((int)x); }
  FASTINIT_INLINE W counter(uint64_t block) {
    /* in the order in which interleave() leaves the blocks of a vector consecutive */
    return _mm512_add_epi64(_mm512_set1_epi64((long long)block), _mm512_setr_epi64(0, 4, 1, 5, 2, 6, 3, 7));
  }
  FASTINIT_INLINE void multiply(W x, uint32_t m, W &high, W &low) {
    low = _mm512_mul_epu32(x, _mm512_set1_epi32((int)m));
    high = _mm512_srli_epi64(low, 32);
  }
  FASTINIT_INLINE W xor_word(W a, W b) { return _mm512_xor_si512(a, b); }
  FASTINIT_INLINE W xor3(W a, W b, W c) { return _mm512_ternarylogic_epi32(a, b, c, 0x96); }
  FASTINIT_INLINE void interleave(W c0, W c1, W c2, W c3, I *words) {
    __m512 front = _mm512_shuffle_ps(_mm512_castsi512_ps(c0), _mm512_castsi512_ps(c1), 0x88);
    __m512 back = _mm512_shuffle_ps(_mm512_castsi512_ps(c2), _mm512_castsi512_ps(c3), 0x88);
    words[0] = _mm512_castps_si512(_mm512_shuffle_ps(front, back, 0x88));
    words[1] = _mm512_castps_si512(_mm512_shuffle_ps(front, back, 0xDD));
  }

  FASTINIT_INLINE F real(double x) { return _mm512_set1_ps((float)x); }
  FASTINIT_INLINE I integer(uint64_t x) { return _mm512_set1_epi32((int)x); }
  FASTINIT_INLINE Shift shift(int count) { return _mm_cvtsi32_si128(count); }
  FASTINIT_INLINE I bits(F x) { return _mm512_castps_si512(x); }
  FASTINIT_INLINE F from_bits(I b) { return _mm512_castsi512_ps(b); }
  FASTINIT_INLINE F to_real(I x) { return _mm512_cvtepi32_ps(x); }
  FASTINIT_INLINE F fma(F a, F b, F c) { return _mm512_fmadd_ps(a, b, c); }
  FASTINIT_INLINE F mul(F a, F b) { return _mm512_mul_ps(a, b); }
  FASTINIT_INLINE F add(F a, F b) { return _mm512_add_ps(a, b); }
  FASTINIT_INLINE F sub(F a, F b) { return _mm512_sub_ps(a, b); }
  FASTINIT_INLINE F abs(F a) { return from_bits(and_(bits(a), integer(0x7FFFFFFF))); }
  FASTINIT_INLINE F negate(F a) { return from_bits(xor_(bits(a), integer(0x80000000u))); }
  FASTINIT_INLINE F copy_sign(F size, F sign) {
    return from_bits(_mm512_ternarylogic_epi32(integer(0x80000000u), bits(sign), bits(size), 0xCA));
  }
  FASTINIT_INLINE F truncate(F a) { return _mm512_roundscale_ps(a, TO_ZERO); }
  FASTINIT_INLINE F at_least(F v, F low) { return _mm512_max_ps(v, low); } /* of equal zeros, low */
  FASTINIT_INLINE F at_most(F v, F high) { return _mm512_min_ps(v, high); }
  FASTINIT_INLINE M less(F a, F b) { return _mm512_cmp_ps_mask(a, b, _CMP_LT_OQ); }
  FASTINIT_INLINE M positive(I s) { return _mm512_cmpgt_epi32_mask(s, _mm512_setzero_si512()); }
  FASTINIT_INLINE F select(M m, F a, F b) { return _mm512_mask_blend_ps(m, b, a); }
  FASTINIT_INLINE I select_int(M m, I a, I b) { return _mm512_mask_blend_epi32(m, b, a); }
  FASTINIT_INLINE I and_(I a, I b) { return _mm512_and_si512(a, b); }
  FASTINIT_INLINE I or_(I a, I b) { return _mm512_or_si512(a, b); }
  FASTINIT_INLINE I xor_(I a, I b) { return _mm512_xor_si512(a, b); }
  FASTINIT_INLINE I add_int(I a, I b) { return _mm512_add_epi32(a, b); }
  FASTINIT_INLINE I sub_int(I a, I b) { return _mm512_sub_epi32(a, b); }
  FASTINIT_INLINE I shift_right(I a, Shift count) { return _mm512_srl_epi32(a, count); }
  FASTINIT_INLINE I shift_right_1(I a) { return _mm512_srli_epi32(a, 1); }
  template <int COUNT> FASTINIT_INLINE I shift_right_by(I a) { return _mm512_srli_epi32(a, COUNT); }
  template <int COUNT> FASTINIT_INLINE I shift_left_by(I a) { return _mm512_slli_epi32(a, COUNT); }
  FASTINIT_INLINE I distance(I s) { return sub_int(integer(0x80000000u), _mm512_abs_epi32(s)); }

  /* A term's 32 cells are two registers and one vpermt2ps, which reads the low five bits of the cell's number. */
  template <int CELLS, int TERMS, int HALVES> struct Table {
    F column[HALVES * TERMS][CELLS / LANES];
    FASTINIT_INLINE_MEMBER void load(const float *table) {
      for (int t = 0; t < HALVES * TERMS; t++)
        for (int part = 0; part < CELLS / LANES; part++) column[t][part] = _mm512_loadu_ps(table + t * CELLS + part * LANES);
    }
    FASTINIT_INLINE_MEMBER F at(int term, I cell, M second) const {
      F low = _mm512_permutex2var_ps(column[term][0], cell, column[term][1]);
      if (CELLS == 32) return low;
      return select(second, _mm512_permutex2var_ps(column[term][CELLS / LANES - 2], cell, column[term][CELLS / LANES - 1]), low);
    }
    FASTINIT_INLINE_MEMBER I place(I cell, M) const { return cell; }
    FASTINIT_INLINE_MEMBER void look_up(I cell, M upper, F *coefficient) const {
      M second = CELLS == 32 ? (M)0 : _mm512_test_epi32_mask(cell, integer(32));
#pragma GCC unroll 8
      for (int term = 0; term < TERMS; term++) {
        coefficient[term] = at(term, cell, second);
        if (HALVES == 2) coefficient[term] = select(upper, at((HALVES - 1) * TERMS + term, cell, second), coefficient[term]);
      }
    }
  };

  FASTINIT_INLINE I load_words(const uint32_t *words) { return _mm512_loadu_si512(words); }
  FASTINIT_INLINE F load_real(const float *at) { return _mm512_loadu_ps(at); }
  FASTINIT_INLINE I load_16(const uint16_t *at) { return _mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i *)at)); }
  FASTINIT_INLINE I load_8(const uint8_t *at) { return _mm512_cvtepu8_epi32(_mm_loadu_si128((const __m128i *)at)); }
  FASTINIT_INLINE void store_words(uint32_t *out, I w) { _mm512_storeu_si512(out, w); }
  FASTINIT_INLINE void store_real(float *out, F v) { _mm512_storeu_ps(out, v); }
  FASTINIT_INLINE void store_16(uint16_t *out, I b) { _mm256_storeu_si256((__m256i *)out, _mm512_cvtepi32_epi16(b)); }
  FASTINIT_INLINE void store_8(uint8_t *out, I b) { _mm_storeu_si128((__m128i *)out, _mm512_cvtepi32_epi8(b)); }
};

static_assert(is_layer<Avx512>());

using Vector = Avx512; /* what kernel.h computes with */

}  // namespace fastinit
