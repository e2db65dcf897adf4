/* Blends: sums onto what tensors hold, written once over a vector layer, as the fills of kernel.h.
 *
 * A tile of sums stays in the first-level cache: it is read once, each member's values are added where they are made, in registers,
 * and it is stored once. A member's rounds are made anew for each tile, which costs a tile of 2,048 elements 1 %. */
#pragma once

#include "kernel.h"

namespace fastinit {
namespace {

constexpr int64_t TILE = 2048; /* elements */

/* A vector of a tensor's elements as float32. */
FASTINIT_INLINE Vector::F load(int32_t dtype, const char *from) {
  switch (dtype) {
    case FASTINIT_BFLOAT16: return Vector::from_bits(Vector::shift_left_by<16>(Vector::load_16((const uint16_t *)from)));
    case FASTINIT_FLOAT16: return wide_float<Vector, 10, 15, 16, 0x7C00>(Vector::load_16((const uint16_t *)from));
    case FASTINIT_FLOAT8_E4M3FN: return wide_float<Vector, 3, 7, 8, 0x7F>(Vector::load_8((const uint8_t *)from));
    case FASTINIT_FLOAT8_E5M2: return wide_float<Vector, 2, 15, 8, 0x7C>(Vector::load_8((const uint8_t *)from));
    default: return Vector::load_real((const float *)from);
  }
}

/* A vector of sums in their dtype. */
FASTINIT_INLINE void store_sums(int32_t dtype, char *out, Vector::F v) {
  switch (dtype) {
    case FASTINIT_BFLOAT16: return Vector::store_16((uint16_t *)out, any_bfloat16_bits<Vector>(v));
    case FASTINIT_FLOAT16: return Vector::store_16((uint16_t *)out, any_float_bits<Vector, 10, 15, 16, 0x7C00>(v));
    case FASTINIT_FLOAT8_E4M3FN: return Vector::store_8((uint8_t *)out, any_float_bits<Vector, 3, 7, 8, 0x7E>(v));
    case FASTINIT_FLOAT8_E5M2: return Vector::store_8((uint8_t *)out, any_float_bits<Vector, 2, 15, 8, 0x7C>(v));
    default: return Vector::store_real((float *)out, with_one_nan<Vector>(v));
  }
}

/* Do something with a dtype that is a constant: chosen anew for each vector it takes as long as all else of a uniform value. */
template <class Act> FASTINIT_INLINE void with_dtype(int32_t dtype, const Act &act) {
  switch (dtype) {
    case FASTINIT_BFLOAT16: return act(std::integral_constant<int32_t, FASTINIT_BFLOAT16>());
    case FASTINIT_FLOAT16: return act(std::integral_constant<int32_t, FASTINIT_FLOAT16>());
    case FASTINIT_FLOAT8_E4M3FN: return act(std::integral_constant<int32_t, FASTINIT_FLOAT8_E4M3FN>());
    case FASTINIT_FLOAT8_E5M2: return act(std::integral_constant<int32_t, FASTINIT_FLOAT8_E5M2>());
    default: return act(std::integral_constant<int32_t, FASTINIT_FLOAT32>());
  }
}

/* Begin the sums of at most a tile: keep * old, by whole vectors. */
FASTINIT_APART void begin(int32_t dtype, double keep, const char *old, int64_t count, float *sums) {
  if (keep == 0) {
    memset(sums, 0, (size_t)(count + LANES - 1) / LANES * LANES * 4);
    return;
  }
  with_dtype(dtype, [=](auto known) {
    const Vector::F factor = Vector::real(keep);
    const int size = item_size(known);
    int64_t i = 0;
    for (; i + LANES <= count; i += LANES) Vector::store_real(sums + i, Vector::mul(factor, load(known, old + i * size)));
    if (LANES == 1 || i == count) return;
    char rest[LANES * 4];
    memcpy(rest, old + i * size, (size_t)((count - i) * size));
    Vector::store_real(sums + i, Vector::mul(factor, load(known, rest)));
  });
}
FASTINIT_APART void begin(int32_t, double keep, const char *old, int64_t count, double *sums) {
  if (keep == 0) {
    memset(sums, 0, (size_t)count * 8);
    return;
  }
  memcpy(sums, old, (size_t)count * 8);
  for (int64_t i = 0; i < count; i++) sums[i] = keep * sums[i];
}

/* Round the sums of at most a tile. */
FASTINIT_APART void finish(int32_t dtype, const float *sums, int64_t count, char *out) {
  with_dtype(dtype, [=](auto known) {
    const int size = item_size(known);
    int64_t i = 0;
    for (; i + LANES <= count; i += LANES) store_sums(known, out + i * size, Vector::load_real(sums + i));
    if (LANES == 1 || i == count) return;
    char rest[LANES * 4];
    store_sums(known, rest, Vector::load_real(sums + i));
    memcpy(out + i * size, rest, (size_t)((count - i) * size));
  });
}
FASTINIT_APART void finish(int32_t, const double *sums, int64_t count, char *out) {
  for (int64_t i = 0; i < count; i++) {
    const double v = with_one_nan<Scalar<double>>(sums[i]);
    memcpy(out + 8 * i, &v, 8);
  }
}

/* Add values that are in memory. */
template <class Real> FASTINIT_APART void add_made(Real add, const Real *__restrict made, int64_t count, Real *__restrict sums) {
  for (int64_t i = 0; i < count; i++) sums[i] = fused(add, made[i], sums[i]);
}

/* What fills as its body does, but adds: run() takes it in the body's place. */
template <Variant VARIANT> struct Adding {
  using Streams = Stream;
  const Float32<VARIANT> &body;
  float add;

  FASTINIT_INLINE_MEMBER void groups(const Streams &streams, uint64_t block, int64_t count, char *out) const {
    const Vector::F factor = Vector::real(add);
    float *sums = (float *)out;
    for (; count > 0; count--, block += GROUP / 4, sums += GROUP) {
      Vector::I words[GROUP / LANES];
      philox<Vector, Vector::UNROLL>(streams.rounds, block, words);
      for_values<GROUP / LANES>(body.constants, words, [=](auto n, int first, const Vector::F *v) {
        for (int i = 0; i < n; i++) {
          float *sum = sums + (first + i) * LANES;
          Vector::store_real(sum, Vector::fma(factor, v[i], Vector::load_real(sum)));
        }
      });
    }
  }
  FASTINIT_INLINE_MEMBER void values(const uint32_t *words, int64_t count, char *out) const {
    float made[GROUP];
    body.values(words, count, (char *)made);
    add_made(add, made, count, (float *)out);
  }
};

/* Add a member's values at `count` local elements of the plan's box, from `first` on. */
template <Variant VARIANT>
FASTINIT_APART void add_member(const Float32<VARIANT> &body, const fastinit_plan &plan, uint64_t key, double add, int64_t first,
                               int64_t count, float *sums) {
  const Adding<VARIANT> adding{body, (float)add};
  uint64_t high = index_of(plan, first) >> SHARED;
  Stream stream(key, (uint32_t)high);
  for (int64_t n; count > 0; first += n, count -= n, sums += n) {
    const uint64_t index = index_of(plan, first);
    if (index >> SHARED != high) {
      high = index >> SHARED;
      stream = Stream(key, (uint32_t)high);
    }
    n = std::min({count, plan.cols - first % plan.cols, (int64_t)(((high + 1) << SHARED) - index)});
    run(adding, stream, index, n, (char *)sums, 4);
  }
}

/* Blend into `count` local elements of the plan's box, from `first` on: from contiguous memory to contiguous memory. `add_one`
 * adds a member's values to a tile of sums. */
template <class Real, class Add>
FASTINIT_INLINE void blend_tiles(const fastinit_blending &blending, int64_t first, int64_t count, const char *old, char *out,
                                 const Add &add_one) {
  const int size = item_size(blending.dtype);
  alignas(64) Real sums[TILE];
  for (int64_t n; count > 0; first += n, count -= n, old += n * size, out += n * size) {
    n = std::min(count, TILE);
    begin(blending.dtype, blending.keep, old, n, sums);
    for (int64_t m = 0; m < blending.members; m++) add_one(blending.keys[m], blending.add[m], first, n, sums);
    finish(blending.dtype, sums, n, out);
  }
}

/* The same by a fill, for arithmetic without vectors: its values take a way through memory, and the loops no code of their own. */
template <class Real>
FASTINIT_APART void blend_by(void (*fill)(const fastinit_plan &, int64_t, int64_t, char *), const fastinit_blending &blending,
                             int64_t first, int64_t count, const char *old, char *out) {
  fastinit_plan plan = blending.to;
  blend_tiles<Real>(blending, first, count, old, out, [&](uint64_t key, double add, int64_t from, int64_t n, Real *sums) {
    alignas(64) Real made[TILE];
    plan.key = key;
    fill(plan, from, n, (char *)made);
    add_made((Real)add, made, n, sums);
  });
}

template <class Body>
void blend(const fastinit_blending &blending, int64_t first, int64_t count, const char *old, char *out) {
  if constexpr (std::is_same_v<typename Body::Streams, BothStreams>) {
    blend_by<double>(fill<Body>, blending, first, count, old, out);
  } else if constexpr (LANES == 1) {
    blend_by<float>(fill<Body>, blending, first, count, old, out);
  } else {
    const Body body(*blending.to.recipe);
    const auto add_one = [&](uint64_t key, double add, int64_t from, int64_t n, float *sums) {
      add_member(body, blending.to, key, add, from, n, sums);
    };
    blend_tiles<float>(blending, first, count, old, out, add_one);
  }
}

}  // namespace
}  // namespace fastinit
