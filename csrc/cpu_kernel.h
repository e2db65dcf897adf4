/* The CPU's loops, written once: included by one file per instruction set, each of which gets its own copy. */
#pragma once

#include <string.h>

#include "cpu.h"
#include "simd.h"
#include "transform.h"

namespace fastinit {
namespace { /* a copy per file: the linker must not merge code compiled for different instruction sets */

/* A group of float32 results, converted and stored; the branch costs one prediction a group. */
template <int VECTORS> FASTINIT_INLINE void store(int32_t dtype, char *out, const Vector::F *v) {
  constexpr int LANES = Vector::LANES;
  switch (dtype) {
    case FASTINIT_FLOAT32:
      for (int i = 0; i < VECTORS; i++) Vector::store_float((float *)out + i * LANES, v[i]);
      break;
    case FASTINIT_BFLOAT16:
      for (int i = 0; i < VECTORS; i++) Vector::store_16((uint16_t *)out + i * LANES, bfloat16_bits<Vector>(v[i]));
      break;
    case FASTINIT_FLOAT16:
      for (int i = 0; i < VECTORS; i++) Vector::store_16((uint16_t *)out + i * LANES, small_float_bits<Vector, 10, 15, 16>(v[i]));
      break;
    case FASTINIT_FLOAT8_E4M3FN:
      for (int i = 0; i < VECTORS; i++) Vector::store_8((uint8_t *)out + i * LANES, small_float_bits<Vector, 3, 7, 8>(v[i]));
      break;
    case FASTINIT_FLOAT8_E5M2:
      for (int i = 0; i < VECTORS; i++) Vector::store_8((uint8_t *)out + i * LANES, small_float_bits<Vector, 2, 15, 8>(v[i]));
      break;
  }
}

template <Kind KIND, int CELLS, int TERMS> struct Float32 {
  Constants<Vector, KIND, CELLS, TERMS> constants;
  int32_t dtype;

  explicit Float32(const fastinit_plan &plan) : constants(decltype(constants)::make(plan)), dtype(plan.dtype) {}

  template <int U> FASTINIT_INLINE_MEMBER void groups(const Vector::W (&keys)[ROUNDS][2], uint64_t block, int64_t count, char *out) const {
    constexpr int VECTORS = Philox<Vector, U>::VECTORS, BLOCKS = U * Vector::BLOCKS;
    const int bytes = BLOCKS * 4 * item_size(dtype);
    Vector::I words[VECTORS];
    Vector::F v[VECTORS];
    philox<Vector, U>(keys, block, 0, words);
    for (; count > 0; count--, out += bytes) {
      /* the next group's words are made between this one's values, whose look-ups they hide */
      Philox<Vector, U> next(block += BLOCKS, 0);
#pragma GCC unroll 16
      for (int i = 0; i < VECTORS; i++) {
        v[i] = value(constants, words[i]);
        next.rounds(keys, i * ROUNDS / VECTORS, (i + 1) * ROUNDS / VECTORS);
      }
      next.words(words);
      store<VECTORS>(dtype, out, v);
    }
  }
  void transform(const char *words, int64_t count, char *out) const {
    constexpr int LANES = Vector::LANES;
    const int size = item_size(dtype);
    int64_t i = 0;
    for (; i + LANES <= count; i += LANES) {
      Vector::F v = value(constants, Vector::load_words((const uint32_t *)(words + 4 * i)));
      store<1>(dtype, out + i * size, &v);
    }
    uint32_t rest[LANES] = {0};
    char results[LANES * 4];
    memcpy(rest, words + 4 * i, 4 * (count - i));
    Vector::F v = value(constants, Vector::load_words(rest));
    store<1>(dtype, results, &v);
    memcpy(out + i * size, results, (count - i) * size);
  }
};

/* float64: the words of both streams come from the vector unit, the arithmetic is scalar. */
template <Kind KIND> struct Float64 {
  using V = Scalar<double>;
  Constants<V, KIND, 256, 13> constants;

  explicit Float64(const fastinit_plan &plan) : constants(decltype(constants)::make(plan)) {}

  template <int U> FASTINIT_INLINE_MEMBER void groups(const Vector::W (&keys)[ROUNDS][2], uint64_t block, int64_t count, char *out) const {
    constexpr int BLOCKS = U * Vector::BLOCKS;
    uint64_t words[BLOCKS * 4];
    for (; count > 0; count--, block += BLOCKS, out += sizeof words) {
      both_streams<U>(keys, block, words);
      transform((const char *)words, BLOCKS * 4, out);
    }
  }
  void transform(const char *words, int64_t count, char *out) const {
    for (int64_t i = 0; i < count; i++) {
      uint64_t word;
      memcpy(&word, words + 8 * i, 8);
      double v = value(constants, word);
      memcpy(out + 8 * i, &v, 8);
    }
  }

  template <int U> FASTINIT_INLINE void both_streams(const Vector::W (&keys)[ROUNDS][2], uint64_t block, uint64_t *words) {
    constexpr int VECTORS = Philox<Vector, U>::VECTORS;
    uint32_t halves[2][VECTORS * Vector::LANES];
    for (uint32_t stream = 0; stream < 2; stream++) {
      Vector::I part[VECTORS];
      philox<Vector, U>(keys, block, stream, part);
      for (int i = 0; i < VECTORS; i++) Vector::store_words(halves[stream] + i * Vector::LANES, part[i]);
    }
    for (int i = 0; i < VECTORS * Vector::LANES; i++) words[i] = (uint64_t)halves[0][i] << 32 | halves[1][i];
  }
};

struct Words32 {
  explicit Words32(const fastinit_plan &) {}
  template <int U> FASTINIT_INLINE_MEMBER void groups(const Vector::W (&keys)[ROUNDS][2], uint64_t block, int64_t count, char *out) const {
    constexpr int VECTORS = Philox<Vector, U>::VECTORS, BLOCKS = U * Vector::BLOCKS;
    Vector::I words[VECTORS];
    for (; count > 0; count--, block += BLOCKS, out += BLOCKS * 16) {
      philox<Vector, U>(keys, block, 0, words);
      for (int i = 0; i < VECTORS; i++) Vector::store_words((uint32_t *)out + i * Vector::LANES, words[i]);
    }
  }
  void transform(const char *words, int64_t count, char *out) const { memcpy(out, words, 4 * count); }
};

struct Words64 {
  explicit Words64(const fastinit_plan &) {}
  template <int U> FASTINIT_INLINE_MEMBER void groups(const Vector::W (&keys)[ROUNDS][2], uint64_t block, int64_t count, char *out) const {
    constexpr int BLOCKS = U * Vector::BLOCKS;
    uint64_t words[BLOCKS * 4];
    for (; count > 0; count--, block += BLOCKS, out += sizeof words) {
      Float64<UNIFORM>::both_streams<U>(keys, block, words);
      memcpy(out, words, sizeof words);
    }
  }
  void transform(const char *words, int64_t count, char *out) const { memcpy(out, words, 8 * count); }
};

/* `count` consecutive global elements from `index` on. Whole groups are written in place, the ragged ends through a buffer. */
template <class Body>
FASTINIT_INLINE void run(const Body &body, const Vector::W (&keys)[ROUNDS][2], uint64_t index, int64_t count, char *out, int size) {
  constexpr int UNIT = Vector::BLOCKS * 4, GROUP = UNIT * Vector::UNROLL;
  alignas(64) char buffer[UNIT * 8];
  while (count > 0) {
    const int skip = index & 3;
    if (skip == 0 && count >= GROUP) {
      const int64_t groups = count / GROUP;
      body.template groups<Vector::UNROLL>(keys, index >> 2, groups, out);
      index += groups * GROUP, count -= groups * GROUP, out += groups * GROUP * size;
    } else {
      const int64_t n = count < UNIT - skip ? count : UNIT - skip;
      body.template groups<1>(keys, index >> 2, 1, buffer);
      memcpy(out, buffer + skip * size, n * size);
      index += n, count -= n, out += n * size;
    }
  }
}

/* `count` local elements of the plan's box from `first` on, to contiguous memory. */
template <class Body> void fill(const fastinit_plan &plan, int64_t first, int64_t count, char *out) {
  const Body body(plan);
  const RoundKeys schedule = round_keys(plan.key);
  const int size = item_size(plan.dtype);
  Vector::W keys[ROUNDS][2];
  for (int r = 0; r < ROUNDS; r++)
    for (int i = 0; i < 2; i++) keys[r][i] = Vector::word(schedule.word[r][i]);
  while (count > 0) {
    const int64_t row = first / plan.cols, col = first % plan.cols;
    const int64_t n = count < plan.cols - col ? count : plan.cols - col;
    run(body, keys, (uint64_t)(plan.start + row * plan.pitch + col), n, out, size);
    first += n, count -= n, out += n * size;
  }
}

template <class Body> void transform(const fastinit_plan &plan, const char *words, int64_t count, char *out) {
  Body(plan).transform(words, count, out);
}

template <class Body> constexpr Kernel kernel() { return {fill<Body>, transform<Body>}; }

template <Kind KIND> Kernel by_shape(const fastinit_plan &plan) {
  if (plan.dtype == FASTINIT_FLOAT64) return kernel<Float64<KIND>>();
  if constexpr (KIND == UNIFORM || KIND == UNIFORM_FROM_BOUND) return kernel<Float32<KIND, 32, 5>>();
  return plan.cells == 32 ? kernel<Float32<KIND, 32, 5>>() : kernel<Float32<KIND, 64, 7>>();
}

Kernel choose(const fastinit_plan &plan) {
  switch (plan.kind) {
    case FASTINIT_UNIFORM: return plan.flip ? by_shape<UNIFORM_FROM_BOUND>(plan) : by_shape<UNIFORM>(plan);
    case FASTINIT_SYMMETRIC: return by_shape<SYMMETRIC>(plan);
    case FASTINIT_TWO_SIDED: return by_shape<TWO_SIDED>(plan);
    case FASTINIT_FMOD: return by_shape<FMOD>(plan);
    default: return plan.dtype == FASTINIT_UINT64 ? kernel<Words64>() : kernel<Words32>();
  }
}

}  // namespace
}  // namespace fastinit
