/* The CPU's loops, written once over a vector layer: the including file has included its layer and named it Vector. Each gets a
 * copy of its own. */
#pragma once

#include <string.h>

#include <algorithm>
#include <type_traits>

#include "../philox.h"
#include "../plan.h"
#include "../scalar.h"
#include "../transform.h"
#include "cpu.h"

namespace fastinit {
namespace { /* a copy for each file: the linker must not merge code that is compiled for different instruction sets */

/* Elements of a vector; of a unit, the least that a layer makes; of a group, what a loop has under way at once; and of a chunk,
 * what fits into the buffers between two steps, which stay in the first-level cache. */
constexpr int LANES = Vector::LANES, UNIT = Vector::BLOCKS * 4, GROUP = UNIT * Vector::UNROLL, CHUNK = 512;
static_assert(UNIT % LANES == 0 && CHUNK % GROUP == 0);

/* --- what all variants share, one copy each ---------------------------------------------------------------------------------- */

FASTINIT_APART Rounds<Vector> make_rounds(uint64_t key, uint32_t block_high, uint32_t stream) {
  return Rounds<Vector>(key, block_high, stream);
}

/* The words of U units from `block` on. */
template <int U> FASTINIT_INLINE void make_words(const Rounds<Vector> &rounds, uint64_t block, uint32_t *out) {
  Vector::I words[U * UNIT / LANES];
  philox<Vector, U>(rounds, block, words);
  for (int i = 0; i < U * UNIT / LANES; i++) Vector::store_words(out + i * LANES, words[i]);
}

/* The first stream of a key. */
struct Stream {
  using Word = uint32_t;
  Rounds<Vector> rounds;
  Stream(uint64_t key, uint32_t block_high) : rounds(make_rounds(key, block_high, 0)) {}

  /* At least `count` words, by whole units of U. */
  template <int U> FASTINIT_APART_MEMBER void make(uint64_t block, int64_t count, uint32_t *out) const {
    for (; count > 0; count -= U * UNIT, block += U * UNIT / 4, out += U * UNIT) make_words<U>(rounds, block, out);
  }
};

/* Both streams of a key: 64-bit words, the first above the second. */
struct BothStreams {
  using Word = uint64_t;
  Rounds<Vector> first, second;
  BothStreams(uint64_t key, uint32_t block_high)
      : first(make_rounds(key, block_high, 0)), second(make_rounds(key, block_high, 1)) {}

  template <int U> FASTINIT_APART_MEMBER void make(uint64_t block, int64_t count, uint64_t *out) const {
    uint32_t high[U * UNIT], low[U * UNIT];
    for (; count > 0; count -= U * UNIT, block += U * UNIT / 4, out += U * UNIT) {
      make_words<U>(first, block, high);
      make_words<U>(second, block, low);
      for (int i = 0; i < U * UNIT; i++) {
        const uint64_t word = (uint64_t)high[i] << 32 | low[i];
        memcpy(out + i, &word, 8);
      }
    }
  }
};

/* Store COUNT vectors of float32 results in their dtype. The branch costs one prediction. */
template <int COUNT> FASTINIT_INLINE void store(int32_t dtype, char *out, const Vector::F *v) {
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

/* Store `count` float32 results in their dtype. They are read by whole vectors. */
FASTINIT_APART void store_results(int32_t dtype, const float *results, int64_t count, char *out) {
  const int size = item_size(dtype);
  const auto vector = [=](int64_t i) { return Vector::from_bits(Vector::load_words((const uint32_t *)(results + i))); };
  int64_t i = 0;
  for (; i + LANES <= count; i += LANES) {
    const Vector::F v = vector(i);
    store<1>(dtype, out + i * size, &v);
  }
  if (i == count) return;
  char rest[LANES * 4];
  const Vector::F v = vector(i);
  store<1>(dtype, rest, &v);
  memcpy(out + i * size, rest, (size_t)((count - i) * size));
}

/* Not fmod, whose remainder is long: 1.1 times the time. */
template <Variant VARIANT> constexpr bool IN_SPOTS = Vector::SPOTS && HAS_TABLE<VARIANT> && !IS_FMOD<VARIANT>;

/* The values of N vectors of words, given to sink(count, first, values), a vector at a time or all at once. */
template <int N, Variant VARIANT, class Sink>
FASTINIT_INLINE void for_values(const Constants<Vector, VARIANT> &constants, const Vector::I *words, const Sink &sink) {
  if constexpr (IN_SPOTS<VARIANT>) {
    Spot<Vector> spots[N];
    FASTINIT_UNROLL
    for (int i = 0; i < N; i++) spots[i] = spot(constants, words[i]);
#pragma GCC unroll 1 /* else gcc mixes the look-ups, with a third more instructions for what does not fit into registers */
    for (int i = 0; i < N; i++) {
      const Vector::F v = value(constants, spots[i]);
      sink(std::integral_constant<int, 1>(), i, &v);
    }
  } else {
    Vector::F v[N];
    FASTINIT_UNROLL
    for (int i = 0; i < N; i++) v[i] = value(constants, words[i]);
    sink(std::integral_constant<int, N>(), 0, v);
  }
}

/* --- what is done with a recipe, by variant and dtype: whole groups, and words that wait in a buffer ------------------------- */

/* float32 and the types that it is rounded to. */
template <Variant VARIANT> struct Float32 {
  using Streams = Stream;
  Constants<Vector, VARIANT> constants;
  int32_t dtype;

  explicit Float32(const fastinit_recipe &recipe)
      : constants(Constants<Vector, VARIANT>::make(recipe, recipe.table)), dtype(recipe.dtype) {}

  /* Words and values stay in registers. Also tried (gcc 12, AVX2 on Zen 3): a loop that makes float32 alone, rounded a buffer at
   * a time. A quarter less code, but the loop spills more: fills take 1.05 times as long, those of bfloat16 1.1. */
  FASTINIT_INLINE_MEMBER void groups(const Streams &streams, uint64_t block, int64_t count, char *out) const {
    const int bytes = LANES * item_size(dtype);
    for (; count > 0; count--, block += GROUP / 4, out += GROUP / LANES * bytes) {
      Vector::I words[GROUP / LANES];
      philox<Vector, Vector::UNROLL>(streams.rounds, block, words);
      for_values<GROUP / LANES>(constants, words,
                                [=](auto n, int first, const Vector::F *v) { store<n>(dtype, out + first * bytes, v); });
    }
  }
  /* At most a chunk. Words are read by whole vectors: what is behind the last one may be anything. */
  FASTINIT_APART_MEMBER void values(const uint32_t *words, int64_t count, char *out) const {
    alignas(64) float results[CHUNK];
    if constexpr (IN_SPOTS<VARIANT>) {
      Spot<Vector> spots[CHUNK / LANES];
      for (int64_t i = 0; i < count; i += LANES) spots[i / LANES] = spot(constants, Vector::load_words(words + i));
      for (int64_t i = 0; i < count; i += LANES) Vector::store_real(results + i, value(constants, spots[i / LANES]));
    } else {
      for (int64_t i = 0; i < count; i += LANES) Vector::store_real(results + i, value(constants, Vector::load_words(words + i)));
    }
    store_results(dtype, results, count, out);
  }
};

/* float64: the words come from the vector unit, the arithmetic is scalar. */
template <Variant VARIANT> struct Float64 {
  using Streams = BothStreams;
  Constants<Scalar<double>, VARIANT> constants;

  explicit Float64(const fastinit_recipe &recipe) : constants(Constants<Scalar<double>, VARIANT>::make(recipe, recipe.table)) {}

  void groups(const Streams &streams, uint64_t block, int64_t count, char *out) const {
    uint64_t words[CHUNK];
    for (int64_t n; count > 0; count -= n, block += n * GROUP / 4, out += n * GROUP * 8) {
      n = std::min<int64_t>(count, CHUNK / GROUP);
      streams.template make<Vector::UNROLL>(block, n * GROUP, words);
      values(words, n * GROUP, out);
    }
  }
  /* Restricted: else every value's store might change the constants. */
  FASTINIT_APART_MEMBER void values(const uint64_t *words, int64_t count, char *__restrict out) const {
    for (int64_t i = 0; i < count; i++) {
      const double v = value(constants, words[i]);
      memcpy(out + 8 * i, &v, 8);
    }
  }
};

/* The words themselves. */
template <class Source> struct Words {
  using Streams = Source;
  using Word = typename Source::Word;

  explicit Words(const fastinit_recipe &) {}

  void groups(const Streams &streams, uint64_t block, int64_t count, char *out) const {
    streams.template make<Vector::UNROLL>(block, count * GROUP, (Word *)out);
  }
  void values(const Word *words, int64_t count, char *out) const { memcpy(out, words, (size_t)count * sizeof(Word)); }
};

/* --- the loops --------------------------------------------------------------------------------------------------------------- */

/* Fill `count` consecutive global elements from `index` on. Whole groups are written in place, the ragged ends by way of words in
 * a buffer. They are a unit's, where that has all that is left or leads to the start of a block with a whole group to come, else
 * a group's, which takes little longer. */
template <class Body>
FASTINIT_INLINE void run(const Body &body, const typename Body::Streams &streams, uint64_t index, int64_t count, char *out,
                         int size) {
  alignas(64) typename Body::Streams::Word words[GROUP + LANES];
  while (count > 0) {
    const uint64_t block = index >> 2;
    const int skip = index & 3;
    int64_t n = count / GROUP * GROUP;
    if (skip == 0 && n > 0) {
      body.groups(streams, block, n / GROUP, out);
    } else {
      const bool unit = skip + count <= UNIT || skip + count > GROUP;
      n = std::min<int64_t>(count, (unit ? UNIT : GROUP) - skip);
      unit ? streams.template make<1>(block, UNIT, words) : streams.template make<Vector::UNROLL>(block, GROUP, words);
      body.values(words + skip, n, out);
    }
    index += n;
    count -= n;
    out += n * size;
  }
}

/* The global element of a local one. */
FASTINIT_INLINE uint64_t index_of(const fastinit_plan &plan, int64_t local) {
  return (uint64_t)(plan.start + local / plan.cols * plan.pitch + local % plan.cols);
}

constexpr int SHARED = 34; /* log2 of the elements of 2^32 blocks, which have their rounds in common */

/* Fill `count` local elements of the plan's box, from `first` on, into contiguous memory. */
template <class Body> void fill(const fastinit_plan &plan, int64_t first, int64_t count, char *out) {
  const Body body(*plan.recipe);
  const int size = item_size(plan.recipe->dtype);
  while (count > 0) {
    const uint64_t high = index_of(plan, first) >> SHARED;
    const typename Body::Streams streams(plan.key, (uint32_t)high);
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

/* Map `count` given words, at any address, to contiguous memory. */
template <class Body> void transform(const fastinit_recipe &recipe, const char *words, int64_t count, char *out) {
  using Word = typename Body::Streams::Word;
  const Body body(recipe);
  const int size = item_size(recipe.dtype);
  alignas(64) Word buffer[CHUNK];
  for (int64_t n; count > 0; count -= n, words += n * sizeof(Word), out += n * size) {
    n = std::min<int64_t>(count, CHUNK);
    memcpy(buffer, words, (size_t)n * sizeof(Word));
    body.values(buffer, n, out);
  }
}

}  // namespace
}  // namespace fastinit
