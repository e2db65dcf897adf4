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

/* Begin the sums of at most a tile: keep * old, by whole vectors. */
FASTINIT_APART void begin(int32_t dtype, double keep, const char *old, int64_t count, float *sums) {
  const Vector::F factor = Vector::real(keep), zero = Vector::real(0.0);
  const int size = item_size(dtype);
  for (int64_t i = 0; i < count; i += LANES) {
    if (keep == 0) {
      Vector::store_real(sums + i, zero);
      continue;
    }
    char rest[LANES * 4];
    const char *from = old + i * size;
    if (count - i < LANES) from = (const char *)memcpy(rest, from, (size_t)((count - i) * size));
    Vector::store_real(sums + i, Vector::mul(factor, load(dtype, from)));
  }
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
  const int size = item_size(dtype);
  for (int64_t i = 0; i < count; i += LANES) {
    char rest[LANES * 4];
    const bool whole = count - i >= LANES;
    store_sums(dtype, whole ? out + i * size : rest, Vector::load_real(sums + i));
    if (!whole) memcpy(out + i * size, rest, (size_t)((count - i) * size));
  }
}
FASTINIT_APART void finish(int32_t, const double *sums, int64_t count, char *out) {
  for (int64_t i = 0; i < count; i++) {
    const double v = with_one_nan<Scalar<double>>(sums[i]);
    memcpy(out + 8 * i, &v, 8);
  }
}

/* What fills as its body does, but adds: run() takes it in the body's place. */
template <class Body> struct Adding;

template <Variant VARIANT> struct Adding<Float32<VARIANT>> {
  using Real = float;
  using Streams = Stream;
  const Float32<VARIANT> &body;
  float add;

  FASTINIT_INLINE_MEMBER void groups(const Streams &streams, uint64_t block, int64_t count, char *out) const {
    const Vector::F factor = Vector::real(add);
    float *sums = (float *)out;
    for (; count > 0; count--, block += GROUP / 4, sums += GROUP) {
      Vector::I words[GROUP / LANES];
      philox<Vector, Vector::UNROLL>(streams.rounds, block, words);
      FASTINIT_UNROLL
      for (int i = 0; i < GROUP / LANES; i++) {
        float *at = sums + i * LANES;
        Vector::store_real(at, Vector::fma(factor, value(body.constants, words[i]), Vector::load_real(at)));
      }
    }
  }
  FASTINIT_INLINE_MEMBER void values(const uint32_t *words, int64_t count, char *out) const {
    float made[GROUP], *sums = (float *)out;
    body.values(words, count, (char *)made);
    for (int64_t i = 0; i < count; i++) sums[i] = fused(add, made[i], sums[i]);
  }
};

template <Variant VARIANT> struct Adding<Float64<VARIANT>> {
  using Real = double;
  using Streams = BothStreams;
  const Float64<VARIANT> &body;
  double add;

  void groups(const Streams &streams, uint64_t block, int64_t count, char *out) const {
    uint64_t words[CHUNK];
    for (int64_t n; count > 0; count -= n, block += n * GROUP / 4, out += n * GROUP * 8) {
      n = std::min<int64_t>(count, CHUNK / GROUP);
      streams.template make<Vector::UNROLL>(block, n * GROUP, words);
      values(words, n * GROUP, out);
    }
  }
  FASTINIT_APART_MEMBER void values(const uint64_t *words, int64_t count, char *__restrict out) const {
    double *__restrict sums = (double *)out;
    for (int64_t i = 0; i < count; i++) sums[i] = fused(add, value(body.constants, words[i]), sums[i]);
  }
};

/* Add a member's values at `count` local elements of the plan's box, from `first` on. */
template <class Body>
FASTINIT_APART void add_member(const Body &body, const fastinit_plan &plan, uint64_t key, double add, int64_t first,
                               int64_t count, typename Adding<Body>::Real *sums) {
  using Real = typename Adding<Body>::Real;
  const Adding<Body> adding{body, (Real)add};
  uint64_t high = index_of(plan, first) >> SHARED;
  typename Body::Streams streams(key, (uint32_t)high);
  for (int64_t n; count > 0; first += n, count -= n, sums += n) {
    const uint64_t index = index_of(plan, first);
    if (index >> SHARED != high) {
      high = index >> SHARED;
      streams = typename Body::Streams(key, (uint32_t)high);
    }
    n = std::min({count, plan.cols - first % plan.cols, (int64_t)(((high + 1) << SHARED) - index)});
    run(adding, streams, index, n, (char *)sums, sizeof(Real));
  }
}

/* Blend into `count` local elements of the plan's box, from `first` on: from contiguous memory to contiguous memory. */
template <class Body> void blend(const fastinit_blending &blending, int64_t first, int64_t count, const char *old, char *out) {
  const fastinit_plan &plan = blending.to;
  const Body body(*plan.recipe);
  const int size = item_size(blending.dtype);
  alignas(64) typename Adding<Body>::Real sums[TILE];
  for (int64_t n; count > 0; first += n, count -= n, old += n * size, out += n * size) {
    n = std::min(count, TILE);
    begin(blending.dtype, blending.keep, old, n, sums);
    for (int64_t m = 0; m < blending.members; m++) add_member(body, plan, blending.keys[m], blending.add[m], first, n, sums);
    finish(blending.dtype, sums, n, out);
  }
}

}  // namespace
}  // namespace fastinit
