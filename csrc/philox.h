/* Philox4x32-10 (Salmon et al., SC 2011): the constants, the key schedule, the rounds. Host and device. */
#pragma once

#include <stdint.h>

#include "platform.h"

namespace fastinit {

constexpr uint32_t MULTIPLIER_0 = 0xD2511F53u, MULTIPLIER_1 = 0xCD9E8D57u;
constexpr uint32_t WEYL_0 = 0x9E3779B9u, WEYL_1 = 0xBB67AE85u;
constexpr int ROUNDS = 10;

/* What the rounds of 2^32 consecutive blocks share, as words of a vector layer V. Keys are bumped once, so that a round costs
 * no addition. Only the counter's lowest word differs from block to block, so half of the first two rounds is done once, here. */
template <class V> struct Rounds {
  using W = typename V::W;
  W c2_key;          /* round 1: c2 = high(c0 * M0) ^ c2_key, c3 = low(c0 * M0) */
  W c0_key, c2_rest; /* round 2: c0 = high(c2 * M1) ^ c0_key, c1 = low(c2 * M1), c2 = c3 ^ c2_rest; its c3 is in the next key */
  W key[ROUNDS][2];  /* the others */

  FASTINIT_INLINE_MEMBER Rounds(uint64_t key, uint32_t block_high, uint32_t stream) {
    uint32_t bumped[ROUNDS][2];
    for (uint32_t r = 0; r < ROUNDS; r++) {
      bumped[r][0] = (uint32_t)key + r * WEYL_0;
      bumped[r][1] = (uint32_t)(key >> 32) + r * WEYL_1;
      this->key[r][0] = V::word(bumped[r][0]);
      this->key[r][1] = V::word(bumped[r][1]);
    }
    const uint64_t p1 = (uint64_t)stream * MULTIPLIER_1;
    const uint64_t p0 = (uint64_t)((uint32_t)(p1 >> 32) ^ block_high ^ bumped[0][0]) * MULTIPLIER_0;
    c2_key = V::word(bumped[0][1]);
    c0_key = V::word((uint32_t)p1 ^ bumped[1][0]);
    c2_rest = V::word((uint32_t)(p0 >> 32) ^ bumped[1][1]);
    this->key[2][1] = V::word((uint32_t)p0 ^ bumped[2][1]);
  }
};

/* The words of U times V::BLOCKS consecutive blocks, in element order. The words of blocks past the last one that the rounds
 * serve are undefined. */
template <class V, int U> FASTINIT_INLINE void philox(const Rounds<V> &rounds, uint64_t block, typename V::I *words) {
  typename V::W c0[U], c1[U], c2[U], c3[U];
  for (int u = 0; u < U; u++) {
    typename V::W high;
    V::multiply(V::counter(block + (uint64_t)u * V::BLOCKS), MULTIPLIER_0, high, c3[u]);
    c2[u] = V::xor_word(high, rounds.c2_key);
  }
  for (int u = 0; u < U; u++) {
    typename V::W high;
    V::multiply(c2[u], MULTIPLIER_1, high, c1[u]);
    c0[u] = V::xor_word(high, rounds.c0_key);
    c2[u] = V::xor_word(c3[u], rounds.c2_rest);
    c3[u] = V::word(0);
  }
  FASTINIT_UNROLL
  for (int r = 2; r < ROUNDS; r++) {
    FASTINIT_UNROLL
    for (int u = 0; u < U; u++) {
      typename V::W high0, low0, high1, low1;
      V::multiply(c0[u], MULTIPLIER_0, high0, low0);
      V::multiply(c2[u], MULTIPLIER_1, high1, low1);
      c0[u] = V::xor3(high1, c1[u], rounds.key[r][0]);
      c2[u] = V::xor3(high0, c3[u], rounds.key[r][1]);
      c1[u] = low1;
      c3[u] = low0;
    }
  }
  FASTINIT_UNROLL
  for (int u = 0; u < U; u++) V::interleave(c0[u], c1[u], c2[u], c3[u], words + u * (V::BLOCKS * 4 / V::LANES));
}

}  // namespace fastinit
