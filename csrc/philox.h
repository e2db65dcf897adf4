/* Philox4x32-10 (Salmon et al., SC 2011): the constants, the key schedule, one block. Host and device. */
#pragma once

#include <stdint.h>

#if defined(__CUDACC__)
#define FASTINIT_INLINE_MEMBER __host__ __device__ __forceinline__
#else
#define FASTINIT_INLINE_MEMBER inline __attribute__((always_inline))
#endif
/* Static: a header's function compiled for two instruction sets must not be merged into one by the linker. */
#define FASTINIT_INLINE static FASTINIT_INLINE_MEMBER

namespace fastinit {

constexpr uint32_t MULTIPLIER[2] = {0xD2511F53u, 0xCD9E8D57u};
constexpr uint32_t WEYL[2] = {0x9E3779B9u, 0xBB67AE85u};
constexpr int ROUNDS = 10;

/* Bumped once a fill, so that a round costs no addition. */
struct RoundKeys {
  uint32_t word[ROUNDS][2];
};

FASTINIT_INLINE RoundKeys round_keys(uint64_t key) {
  RoundKeys keys;
  for (int r = 0; r < ROUNDS; r++) {
    keys.word[r][0] = (uint32_t)key + (uint32_t)r * WEYL[0];
    keys.word[r][1] = (uint32_t)(key >> 32) + (uint32_t)r * WEYL[1];
  }
  return keys;
}

/* The words of U times V::BLOCKS consecutive blocks, in element order.
 *
 * A vector layer V says how a counter word of V::BLOCKS blocks lies in a V::W and how it is multiplied to 64 bits. In steps,
 * so that a loop can put other work between the rounds: their multiplies wait for one another. */
template <class V, int U> struct Philox {
  using W = typename V::W;
  static constexpr int VECTORS = U * V::BLOCKS * 4 / V::LANES;
  W c0[U], c1[U], c2[U], c3[U];

  FASTINIT_INLINE_MEMBER Philox(uint64_t block, uint32_t stream) {
    for (int u = 0; u < U; u++) {
      V::counter(block + (uint64_t)u * V::BLOCKS, c0[u], c1[u]);
      c2[u] = V::word(stream);
      c3[u] = V::word(0);
    }
  }
  FASTINIT_INLINE_MEMBER void rounds(const W (&keys)[ROUNDS][2], int from, int to) {
#pragma GCC unroll 10
    for (int r = from; r < to; r++) {
#pragma GCC unroll 8
      for (int u = 0; u < U; u++) {
        W high0, low0, high1, low1;
        V::multiply(c0[u], MULTIPLIER[0], high0, low0);
        V::multiply(c2[u], MULTIPLIER[1], high1, low1);
        c0[u] = V::xor3(high1, c1[u], keys[r][0]);
        c2[u] = V::xor3(high0, c3[u], keys[r][1]);
        c1[u] = low1;
        c3[u] = low0;
      }
    }
  }
  FASTINIT_INLINE_MEMBER void words(typename V::I *out) const {
#pragma GCC unroll 8
    for (int u = 0; u < U; u++) V::interleave(c0[u], c1[u], c2[u], c3[u], out + u * (V::BLOCKS * 4 / V::LANES));
  }
};

template <class V, int U>
FASTINIT_INLINE void philox(const typename V::W (&keys)[ROUNDS][2], uint64_t block, uint32_t stream, typename V::I *words) {
  Philox<V, U> state(block, stream);
  state.rounds(keys, 0, ROUNDS);
  state.words(words);
}

}  // namespace fastinit
