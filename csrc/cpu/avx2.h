/* The vector layer of AVX2 and FMA (see layer.h): 8 lanes of float.
 *
 * A counter word is in the even half of each 64-bit lane, where the widening multiply reads it; the multiply ignores what is in
 * the odd halves. A round of Philox is two multiplies, two shifts and two three-way xors. */
#pragma once

#include "schedule.h"

#include <immintrin.h>

#include "../layer.h"

namespace fastinit {

struct Avx2 {
  using Real = float;
  using F = __m256;
  using I = __m256i;
  using M = __m256; /* all ones or all zeros a lane */
  using Shift = __m128i;
  using W = __m256i;
  static constexpr int LANES = 8, BLOCKS = 4, UNROLL = 4, MANTISSA = 23;
  static constexpr bool SPOTS = true;
  static constexpr int LOG_ROW = 5;                          /* log2 of the bytes of a row of Table */
  enum { TO_ZERO = _MM_FROUND_TO_ZERO | _MM_FROUND_NO_EXC }; /* one name, as portable intrinsics are macros */

  FASTINIT_INLINE W word(uint32_t x) { return _mm256_set1_epi32((int)x); }
  FASTINIT_INLINE W counter(uint64_t block) {
    /* in the order in which interleave() leaves the blocks of a vector consecutive */
    return _mm256_add_epi64(_mm256_set1_epi64x((long long)block), _mm256_setr_epi64x(0, 2, 1, 3));
  }
  FASTINIT_INLINE void multiply(W x, uint32_t m, W &high, W &low) {
    low = _mm256_mul_epu32(x, _mm256_set1_epi32((int)m));
    high = _mm256_srli_epi64(low, 32);
  }
  FASTINIT_INLINE W xor_word(W a, W b) { return _mm256_xor_si256(a, b); }
  FASTINIT_INLINE W xor3(W a, W b, W c) { return _mm256_xor_si256(_mm256_xor_si256(b, c), a); }
  FASTINIT_INLINE void interleave(W c0, W c1, W c2, W c3, I *words) {
    __m256 front = _mm256_shuffle_ps(_mm256_castsi256_ps(c0), _mm256_castsi256_ps(c1), 0x88);
    __m256 back = _mm256_shuffle_ps(_mm256_castsi256_ps(c2), _mm256_castsi256_ps(c3), 0x88);
    words[0] = _mm256_castps_si256(_mm256_shuffle_ps(front, back, 0x88));
    words[1] = _mm256_castps_si256(_mm256_shuffle_ps(front, back, 0xDD));
  }

  FASTINIT_INLINE F real(double x) { return _mm256_set1_ps((float)x); }
  FASTINIT_INLINE I integer(uint64_t x) { return _mm256_set1_epi32((int)x); }
  FASTINIT_INLINE Shift shift(int count) { return _mm_cvtsi32_si128(count - LOG_ROW); } /* a cell's number as bytes */
  FASTINIT_INLINE I bits(F x) { return _mm256_castps_si256(x); }
  FASTINIT_INLINE F from_bits(I b) { return _mm256_castsi256_ps(b); }
  FASTINIT_INLINE F to_real(I x) { return _mm256_cvtepi32_ps(x); }
  FASTINIT_INLINE F fma(F a, F b, F c) { return _mm256_fmadd_ps(a, b, c); }
  FASTINIT_INLINE F mul(F a, F b) { return _mm256_mul_ps(a, b); }
  FASTINIT_INLINE F add(F a, F b) { return _mm256_add_ps(a, b); }
  FASTINIT_INLINE F sub(F a, F b) { return _mm256_sub_ps(a, b); }
  FASTINIT_INLINE F abs(F a) { return _mm256_andnot_ps(_mm256_set1_ps(-0.0f), a); }
  FASTINIT_INLINE F negate(F a) { return _mm256_xor_ps(_mm256_set1_ps(-0.0f), a); }
  FASTINIT_INLINE F copy_sign(F size, F sign) { return _mm256_or_ps(abs(size), _mm256_and_ps(_mm256_set1_ps(-0.0f), sign)); }
  FASTINIT_INLINE F truncate(F a) { return _mm256_round_ps(a, TO_ZERO); }
  FASTINIT_INLINE F at_least(F v, F low) { return _mm256_max_ps(v, low); } /* of equal zeros, low */
  FASTINIT_INLINE F at_most(F v, F high) { return _mm256_min_ps(v, high); }
  FASTINIT_INLINE M less(F a, F b) { return _mm256_cmp_ps(a, b, _CMP_LT_OQ); }
  FASTINIT_INLINE M positive(I s) { return _mm256_castsi256_ps(_mm256_cmpgt_epi32(s, _mm256_setzero_si256())); }
  FASTINIT_INLINE F select(M m, F a, F b) { return _mm256_blendv_ps(b, a, m); }
  FASTINIT_INLINE I select_int(M m, I a, I b) { return bits(select(m, from_bits(a), from_bits(b))); }
  FASTINIT_INLINE I and_(I a, I b) { return _mm256_and_si256(a, b); }
  FASTINIT_INLINE I or_(I a, I b) { return _mm256_or_si256(a, b); }
  FASTINIT_INLINE I xor_(I a, I b) { return _mm256_xor_si256(a, b); }
  FASTINIT_INLINE I add_int(I a, I b) { return _mm256_add_epi32(a, b); }
  FASTINIT_INLINE I sub_int(I a, I b) { return _mm256_sub_epi32(a, b); }
  FASTINIT_INLINE I shift_right(I a, Shift count) { return _mm256_srl_epi32(a, count); }
  FASTINIT_INLINE I shift_right_1(I a) { return _mm256_srli_epi32(a, 1); }
  template <int COUNT> FASTINIT_INLINE I shift_right_by(I a) { return _mm256_srli_epi32(a, COUNT); }
  template <int COUNT> FASTINIT_INLINE I shift_left_by(I a) { return _mm256_slli_epi32(a, COUNT); }
  FASTINIT_INLINE I distance(I s) { return sub_int(integer(0x80000000u), _mm256_abs_epi32(s)); }

  /* A cell's terms lie side by side: eight rows are loaded by four terms and transposed. Loops place all vectors of a group first
   * and read the places back from memory: looked up at once, what waits for rows fills the processor's schedulers. Cycles for eight
   * values on Zen 4, cut normal: Philox 13, places 4, look-up and polynomial 13, where it was 37 in all (normal 31, was 42).
   * Not faster there (2026-11): rows by one load of eight, a fifth term twice, half of the shuffles as blends (cut 0.98, normal 1.01
   * of the time, fewer shuffles for Intel's one port); two or four vectors a turn (to 1.2); vgatherdps (8 cycles a term);
   * vpshufd for Philox's shifts (1.0); groups of one or two units (1.5, 1.2). On Zen 3: the fifth term by vpermps. */
  template <int CELLS, int TERMS, int HALVES> struct Table {
    static constexpr int QUADS = 2, ROW = 1 << LOG_ROW;
    static_assert(TERMS > 4 && TERMS <= 8 && 16 * QUADS == ROW);
    alignas(32) float row[HALVES * CELLS][4 * QUADS];
    FASTINIT_APART_MEMBER void load(const float *table) {
      for (int cell = 0; cell < HALVES * CELLS; cell++)
        for (int term = 0; term < TERMS; term++) row[cell][term] = table[(cell / CELLS * TERMS + term) * CELLS + cell % CELLS];
    }
    FASTINIT_INLINE_MEMBER __m128 four_terms(uint32_t byte, int quad) const {
      return _mm_load_ps((const float *)((const char *)row + byte) + 4 * quad);
    }
    FASTINIT_INLINE_MEMBER I place(I cell, M upper) const { /* in bytes */
      cell = and_(cell, integer((CELLS - 1) * ROW));
      return HALVES == 2 ? or_(cell, and_(bits(upper), integer(CELLS * ROW))) : cell;
    }
    FASTINIT_INLINE_MEMBER void look_up(I place, M, F *coefficient) const {
      const uint32_t *at = (const uint32_t *)&place;
#pragma GCC unroll 2
      for (int quad = 0; quad < QUADS; quad++) {
        F rows[4], turned[4];
#pragma GCC unroll 4
        for (int i = 0; i < 4; i++)
          rows[i] = _mm256_insertf128_ps(_mm256_castps128_ps256(four_terms(at[i], quad)), four_terms(at[i + 4], quad), 1);
        F a = _mm256_unpacklo_ps(rows[0], rows[1]), b = _mm256_unpacklo_ps(rows[2], rows[3]);
        F c = _mm256_unpackhi_ps(rows[0], rows[1]), d = _mm256_unpackhi_ps(rows[2], rows[3]);
        turned[0] = _mm256_shuffle_ps(a, b, 0x44);
        turned[1] = _mm256_shuffle_ps(a, b, 0xEE);
        turned[2] = _mm256_shuffle_ps(c, d, 0x44);
        turned[3] = _mm256_shuffle_ps(c, d, 0xEE);
        for (int i = 0; i < 4 && 4 * quad + i < TERMS; i++) coefficient[4 * quad + i] = turned[i];
      }
    }
  };

  FASTINIT_INLINE I load_words(const uint32_t *words) { return _mm256_loadu_si256((const __m256i *)words); }
  FASTINIT_INLINE F load_real(const float *at) { return _mm256_loadu_ps(at); }
  FASTINIT_INLINE I load_16(const uint16_t *at) { return _mm256_cvtepu16_epi32(_mm_loadu_si128((const __m128i *)at)); }
  FASTINIT_INLINE I load_8(const uint8_t *at) { return _mm256_cvtepu8_epi32(_mm_loadl_epi64((const __m128i *)at)); }
  FASTINIT_INLINE void store_words(uint32_t *out, I w) { _mm256_storeu_si256((__m256i *)out, w); }
  FASTINIT_INLINE void store_real(float *out, F v) { _mm256_storeu_ps(out, v); }
  FASTINIT_INLINE __m128i low_halves(I b) { return _mm_packus_epi32(_mm256_castsi256_si128(b), _mm256_extracti128_si256(b, 1)); }
  FASTINIT_INLINE void store_16(uint16_t *out, I b) { _mm_storeu_si128((__m128i *)out, low_halves(b)); }
  FASTINIT_INLINE void store_8(uint8_t *out, I b) {
    __m128i half = low_halves(b);
    _mm_storel_epi64((__m128i *)out, _mm_packus_epi16(half, half));
  }
};

static_assert(is_layer<Avx2>());

using Vector = Avx2; /* what kernel.h computes with */

}  // namespace fastinit
