/* The CPU's loops, written once: included by one file per instruction set, each of which gets its own copy. */
#pragma once

#if defined(__GNUC__) && !defined(__clang__)
/* gcc leaves the rounds of a group in the order they are written in, one chain of multiplies after another: 12 % */
#pragma GCC optimize("schedule-insns", "sched-pressure")
#endif

#include <string.h>

#include <algorithm>

#include "cpu.h"
#include "simd.h"
#include "transform.h"

namespace fastinit {
namespace { /* a copy per file: the linker must not merge code compiled for different instruction sets */

/* The rounds of a key's two streams; the second is for 64-bit values alone. */
struct Streams {
  Rounds<Vector> first, second;
  Streams(uint64_t key, uint32_t block_high) : first(key, block_high, 0), second(key, block_high, 1) {}
};

/* How many vectors a group is. */
template <int U> constexpr int VECTORS = U * Vector::BLOCKS * 4 / Vector::LANES;

/* A group of float32 results, converted and stored; the branch costs one prediction a group. */
template <int COUNT> FASTINIT_INLINE void store(int32_t dtype, char *out, const Vector::F *v) {
  constexpr int LANES = Vector::LANES;
  switch (dtype) {
    case FASTINIT_FLOAT32:
      for (int i = 0; i < COUNT; i++) Vector::store_float((float *)out + i * LANES, v[i]);
      break;
    case FASTINIT_BFLOAT16:
      for (int i = 0; i < COUNT; i++) Vector::store_16((uint16_t *)out + i * LANES, bfloat16_bits<Vector>(v[i]));
      break;
    case FASTINIT_FLOAT16:
      for (int i = 0; i < COUNT; i++) Vector::store_16((uint16_t *)out + i * LANES, small_float_bits<Vector, 10, 15, 16>(v[i]));
      break;
    case FASTINIT_FLOAT8_E4M3FN:
      for (int i = 0; i < COUNT; i++) Vector::store_8((uint8_t *)out + i * LANES, small_float_bits<Vector, 3, 7, 8>(v[i]));
      break;
    case FASTINIT_FLOAT8_E5M2:
      for (int i = 0; i < COUNT; i++) Vector::store_8((uint8_t *)out + i * LANES, small_float_bits<Vector, 2, 15, 8>(v[i]));
      break;
  }
}

template <Kind KIND, int CELLS, int TERMS> struct Float32 {
  Constants<Vector, KIND, CELLS, TERMS> constants;
  int32_t dtype;

  explicit Float32(const fastinit_plan &plan) : constants(decltype(constants)::make(plan, plan.table)), dtype(plan.dtype) {}

  template <int U> FASTINIT_INLINE_MEMBER void groups(const Streams &streams, uint64_t block, int64_t count, char *out) const {
    constexpr int BLOCKS = U * Vector::BLOCKS;
    const int bytes = BLOCKS * 4 * item_size(dtype);
    Vector::I words[VECTORS<U>];
    Vector::F v[VECTORS<U>];
    for (; count > 0; count--, block += BLOCKS, out += bytes) {
      philox<Vector, U>(streams.first, block, words);
      FASTINIT_UNROLL
      for (int i = 0; i < VECTORS<U>; i++) v[i] = value(constants, words[i]);
      store<VECTORS<U>>(dtype, out, v);
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

  explicit Float64(const fastinit_plan &plan) : constants(decltype(constants)::make(plan, plan.table)) {}

  template <int U> FASTINIT_INLINE_MEMBER void groups(const Streams &streams, uint64_t block, int64_t count, char *out) const {
    constexpr int BLOCKS = U * Vector::BLOCKS;
    uint64_t words[BLOCKS * 4];
    for (; count > 0; count--, block += BLOCKS, out += sizeof words) {
      both_streams<U>(streams, block, words);
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

  template <int U> FASTINIT_INLINE void both_streams(const Streams &streams, uint64_t block, uint64_t *words) {
    uint32_t halves[2][VECTORS<U> * Vector::LANES];
    for (int stream = 0; stream < 2; stream++) {
      Vector::I part[VECTORS<U>];
      philox<Vector, U>(stream ? streams.second : streams.first, block, part);
      for (int i = 0; i < VECTORS<U>; i++) Vector::store_words(halves[stream] + i * Vector::LANES, part[i]);
    }
    for (int i = 0; i < VECTORS<U> * Vector::LANES; i++) words[i] = (uint64_t)halves[0][i] << 32 | halves[1][i];
  }
};

struct Words32 {
  explicit Words32(const fastinit_plan &) {}
  template <int U> FASTINIT_INLINE_MEMBER void groups(const Streams &streams, uint64_t block, int64_t count, char *out) const {
    constexpr int BLOCKS = U * Vector::BLOCKS;
    Vector::I words[VECTORS<U>];
    for (; count > 0; count--, block += BLOCKS, out += BLOCKS * 16) {
      philox<Vector, U>(streams.first, block, words);
      for (int i = 0; i < VECTORS<U>; i++) Vector::store_words((uint32_t *)out + i * Vector::LANES, words[i]);
    }
  }
  void transform(const char *words, int64_t count, char *out) const { memcpy(out, words, 4 * count); }
};

struct Words64 {
  explicit Words64(const fastinit_plan &) {}
  template <int U> FASTINIT_INLINE_MEMBER void groups(const Streams &streams, uint64_t block, int64_t count, char *out) const {
    constexpr int BLOCKS = U * Vector::BLOCKS;
    uint64_t words[BLOCKS * 4];
    for (; count > 0; count--, block += BLOCKS, out += sizeof words) {
      Float64<UNIFORM>::both_streams<U>(streams, block, words);
      memcpy(out, words, sizeof words);
    }
  }
  void transform(const char *words, int64_t count, char *out) const { memcpy(out, words, 8 * count); }
};

/* `count` consecutive global elements from `index` on. Whole groups are written in place, the ragged ends through a buffer. */
template <class Body>
FASTINIT_INLINE void run(const Body &body, const Streams &streams, uint64_t index, int64_t count, char *out, int size) {
  constexpr int UNIT = Vector::BLOCKS * 4, GROUP = UNIT * Vector::UNROLL;
  alignas(64) char buffer[UNIT * 8];
  while (count > 0) {
    const int skip = index & 3;
    if (skip == 0 && count >= GROUP) {
      const int64_t groups = count / GROUP;
      body.template groups<Vector::UNROLL>(streams, index >> 2, groups, out);
      index += groups * GROUP, count -= groups * GROUP, out += groups * GROUP * size;
    } else {
      const int64_t n = count < UNIT - skip ? count : UNIT - skip;
      body.template groups<1>(streams, index >> 2, 1, buffer);
      memcpy(out, buffer + skip * size, n * size);
      index += n, count -= n, out += n * size;
    }
  }
}

/* `count` local elements of the plan's box from `first` on, to contiguous memory. */
template <class Body> void fill(const fastinit_plan &plan, int64_t first, int64_t count, char *out) {
  constexpr int SHARED = 34; /* log2 of the elements of 2^32 blocks, which have their rounds in common */
  const auto index_of = [&](int64_t local) { return (uint64_t)(plan.start + local / plan.cols * plan.pitch + local % plan.cols); };
  const Body body(plan);
  const int size = item_size(plan.dtype);
  while (count > 0) {
    const uint64_t high = index_of(first) >> SHARED;
    const Streams streams(plan.key, (uint32_t)high);
    for (uint64_t index; count > 0 && (index = index_of(first)) >> SHARED == high;) {
      const int64_t row = plan.cols - first % plan.cols, shared = (int64_t)(((high + 1) << SHARED) - index);
      const int64_t n = std::min({count, row, shared});
      run(body, streams, index, n, out, size);
      first += n, count -= n, out += n * size;
    }
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
