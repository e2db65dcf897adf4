/* The CPU's loops, written once over a vector layer: the including file has included its layer and named it Vector. Each gets a
 * copy of its own. */
#pragma once

#include <string.h>

#include <algorithm>

#include "../philox.h"
#include "../plan.h"
#include "../scalar.h"
#include "../transform.h"
#include "cpu.h"

namespace fastinit {
namespace { /* a copy for each file: the linker must not merge code that is compiled for different instruction sets */

/* The rounds of a key's two streams; only 64-bit values take the second. */
struct Streams {
  Rounds<Vector> first, second;
  Streams(uint64_t key, uint32_t block_high) : first(key, block_high, 0), second(key, block_high, 1) {}
};

/* How many vectors are in a group. */
template <int U> constexpr int VECTORS = U * Vector::BLOCKS * 4 / Vector::LANES;

/* Convert and store a group of float32 results. The branch costs one prediction a group. */
template <int COUNT> FASTINIT_INLINE void store(int32_t dtype, char *out, const Vector::F *v) {
  constexpr int LANES = Vector::LANES;
  switch (dtype) {
    case FASTINIT_FLOAT32:
      for (int i = 0; i < COUNT; i++) Vector::store_real((float *)out + i * LANES, v[i]);
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

/* What the loops do with a recipe, by dtype: float32 and the types that it is rounded to. */
template <Variant VARIANT> struct Float32 {
  Constants<Vector, VARIANT> constants;
  int32_t dtype;

  explicit Float32(const fastinit_recipe &recipe)
      : constants(Constants<Vector, VARIANT>::make(recipe, recipe.table)), dtype(recipe.dtype) {}

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

/* A group's 64-bit words: stream 0 above stream 1. */
template <int U> FASTINIT_INLINE void both_streams(const Streams &streams, uint64_t block, uint64_t *words) {
  constexpr int COUNT = VECTORS<U> * Vector::LANES;
  uint32_t halves[2][COUNT];
  for (int stream = 0; stream < 2; stream++) {
    Vector::I part[VECTORS<U>];
    philox<Vector, U>(stream ? streams.second : streams.first, block, part);
    for (int i = 0; i < VECTORS<U>; i++) Vector::store_words(halves[stream] + i * Vector::LANES, part[i]);
  }
  for (int i = 0; i < COUNT; i++) words[i] = (uint64_t)halves[0][i] << 32 | halves[1][i];
}

/* float64: the words of both streams come from the vector unit, the arithmetic is scalar. */
template <Variant VARIANT> struct Float64 {
  Constants<Scalar<double>, VARIANT> constants;

  explicit Float64(const fastinit_recipe &recipe) : constants(Constants<Scalar<double>, VARIANT>::make(recipe, recipe.table)) {}

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
};

/* Raw words of 32 and of 64 bits. */
struct Words32 {
  explicit Words32(const fastinit_recipe &) {}
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
  explicit Words64(const fastinit_recipe &) {}
  template <int U> FASTINIT_INLINE_MEMBER void groups(const Streams &streams, uint64_t block, int64_t count, char *out) const {
    constexpr int BLOCKS = U * Vector::BLOCKS;
    uint64_t words[BLOCKS * 4];
    for (; count > 0; count--, block += BLOCKS, out += sizeof words) {
      both_streams<U>(streams, block, words);
      memcpy(out, words, sizeof words);
    }
  }
  void transform(const char *words, int64_t count, char *out) const { memcpy(out, words, 8 * count); }
};

/* Fill `count` consecutive global elements from `index` on. Whole groups are written in place, the ragged ends by way of a
 * buffer. */
template <class Body>
FASTINIT_INLINE void run(const Body &body, const Streams &streams, uint64_t index, int64_t count, char *out, int size) {
  constexpr int UNIT = Vector::BLOCKS * 4, GROUP = UNIT * Vector::UNROLL;
  alignas(64) char buffer[UNIT * 8];
  while (count > 0) {
    const int skip = index & 3;
    if (skip == 0 && count >= GROUP) {
      const int64_t groups = count / GROUP;
      body.template groups<Vector::UNROLL>(streams, index >> 2, groups, out);
      index += groups * GROUP;
      count -= groups * GROUP;
      out += groups * GROUP * size;
    } else {
      const int64_t n = count < UNIT - skip ? count : UNIT - skip;
      body.template groups<1>(streams, index >> 2, 1, buffer);
      memcpy(out, buffer + skip * size, n * size);
      index += n;
      count -= n;
      out += n * size;
    }
  }
}

/* The global element of a local one. */
FASTINIT_INLINE uint64_t index_of(const fastinit_plan &plan, int64_t local) {
  return (uint64_t)(plan.start + local / plan.cols * plan.pitch + local % plan.cols);
}

/* Fill `count` local elements of the plan's box, from `first` on, into contiguous memory. */
template <class Body> void fill(const fastinit_plan &plan, int64_t first, int64_t count, char *out) {
  constexpr int SHARED = 34; /* log2 of the elements of 2^32 blocks, which have their rounds in common */
  const Body body(*plan.recipe);
  const int size = item_size(plan.recipe->dtype);
  while (count > 0) {
    const uint64_t high = index_of(plan, first) >> SHARED;
    const Streams streams(plan.key, (uint32_t)high);
    while (count > 0) {
      const uint64_t index = index_of(plan, first);
      if (index >> SHARED != high) break;
      const int64_t row = plan.cols - first % plan.cols, shared = (int64_t)(((high + 1) << SHARED) - index);
      const int64_t n = std::min({count, row, shared});
      run(body, streams, index, n, out, size);
      first += n;
      count -= n;
      out += n * size;
    }
  }
}

template <class Body> void transform(const fastinit_recipe &recipe, const char *words, int64_t count, char *out) {
  Body(recipe).transform(words, count, out);
}

template <class Body> constexpr Kernel kernel() { return {fill<Body>, transform<Body>}; }

template <Variant VARIANT> Kernel by_dtype(const fastinit_recipe &recipe) {
  return recipe.dtype == FASTINIT_FLOAT64 ? kernel<Float64<VARIANT>>() : kernel<Float32<VARIANT>>();
}

Kernel choose(const fastinit_recipe &recipe) {
  switch (variant_of(recipe)) {
    case UNIFORM: return by_dtype<UNIFORM>(recipe);
    case UNIFORM_FROM_BOUND: return by_dtype<UNIFORM_FROM_BOUND>(recipe);
    case SYMMETRIC_SMALL: return kernel<Float32<SYMMETRIC_SMALL>>();
    case SYMMETRIC_LARGE: return by_dtype<SYMMETRIC_LARGE>(recipe);
    case TWO_SIDED_SMALL: return kernel<Float32<TWO_SIDED_SMALL>>();
    case TWO_SIDED_LARGE: return by_dtype<TWO_SIDED_LARGE>(recipe);
    case FMOD_SMALL: return kernel<Float32<FMOD_SMALL>>();
    case FMOD_LARGE: return by_dtype<FMOD_LARGE>(recipe);
    default: return recipe.dtype == FASTINIT_UINT64 ? kernel<Words64>() : kernel<Words32>();
  }
}

}  // namespace
}  // namespace fastinit
