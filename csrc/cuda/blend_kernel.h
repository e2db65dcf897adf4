/* The GPU's kernels of blends, sums onto what tensors hold, written once for every float dtype and variant:
 *
 *     blend_list      a list of tensors, or one, of whole Philox blocks at multiples of 16 bytes, which their sources are too
 *     blend_elements  a tensor element by element, making four words for one: any start, box and strides
 *
 * A thread reads 16 bytes, adds every member's values to them in registers, and stores 16 bytes. Keys and coefficients stream from
 * the kernel's parameters, in constant memory; round keys are bumped for each member, once for the 16 elements that a thread has.
 *
 * Instructions an element and member of the truncated normal at 2 sigmas on sm_90, by CUDA 13.0 (`python -m benchmarks.cuda_code`
 * prints today's): 35.1, where a fill of float32 has 32.8 and one of bfloat16 31.9. What was tried, by these counts; nothing was timed:
 *
 *     80 registers, 3 blocks a multiprocessor   36.2: round keys go to uniform registers, and some copies come with them
 *     round keys from the host                  1.2 less, but 96 bytes of parameters a member instead of 8: a launch ends at 300 */
#pragma once

#include "kernel.h"

namespace fastinit {

/* --- elements and sums -------------------------------------------------------------------------------------------------------- */

/* An element as a number of the real type, exactly. */
template <int DTYPE> FASTINIT_INLINE Real<DTYPE> decoded(Word<DTYPE> bits) {
  using V = ThreadOf<DTYPE>;
  if constexpr (DTYPE == FASTINIT_BFLOAT16) {
    return V::from_bits(bits << 16);
  } else if constexpr (DTYPE == FASTINIT_FLOAT16) {
#if defined(__CUDA_ARCH__)
    float v;
    asm("cvt.f32.f16 %0, %1;" : "=f"(v) : "h"((uint16_t)bits));
    return v;
#else
    return wide_float<V, 10, 15, 16, 0x7C00>(bits);
#endif
  } else if constexpr (DTYPE == FASTINIT_FLOAT8_E4M3FN) {
    return wide_float<V, 3, 7, 8, 0x7F>(bits);
  } else if constexpr (DTYPE == FASTINIT_FLOAT8_E5M2) {
    return wide_float<V, 2, 15, 8, 0x7C>(bits);
  } else {
    return V::from_bits(bits);
  }
}

/* The one rounding of a sum. A NaN of float32 has passed a multiplication, after which a GPU has it as the contract does. */
template <int DTYPE> FASTINIT_INLINE Word<DTYPE> rounded_sum(Real<DTYPE> v) {
  using V = ThreadOf<DTYPE>;
  if constexpr (DTYPE == FASTINIT_BFLOAT16) return any_bfloat16_bits<V>(v);
  else if constexpr (DTYPE == FASTINIT_FLOAT16) return any_float_bits<V, 10, 15, 16, 0x7C00>(v);
  else if constexpr (DTYPE == FASTINIT_FLOAT8_E4M3FN) return any_float_bits<V, 3, 7, 8, 0x7E>(v);
  else if constexpr (DTYPE == FASTINIT_FLOAT8_E5M2) return any_float_bits<V, 2, 15, 8, 0x7C>(v);
#if defined(__CUDA_ARCH__)
  else if constexpr (DTYPE == FASTINIT_FLOAT32) return V::bits(v);
#endif
  else return V::bits(with_one_nan<V>(v));
}

/* Two sums as a pair of 16-bit elements, the first in the low half: in one instruction, whose NaN and infinities are the
 * contract's, where the GPU has it. */
template <int DTYPE> FASTINIT_INLINE uint32_t rounded_sums(float first, float second) {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 800
  return rounded_pair<DTYPE>(first, second);
#else
  return rounded_sum<DTYPE>(first) | rounded_sum<DTYPE>(second) << 16;
#endif
}

template <int DTYPE> FASTINIT_INLINE Word<DTYPE> loaded(const char *from, int64_t place) {
  if constexpr (SIZE<DTYPE> == 1) return ((const uint8_t *)from)[place];
  else if constexpr (SIZE<DTYPE> == 2) return ((const uint16_t *)from)[place];
  else return ((const Word<DTYPE> *)from)[place];
}

/* A vector's elements times keep, from 32-bit pieces in the order of memory. */
template <int DTYPE> FASTINIT_INLINE void unpack(const uint32_t *pieces, Real<DTYPE> keep, Real<DTYPE> *sums) {
  constexpr int IN_A_PIECE = SIZE<DTYPE> < 4 ? 4 / SIZE<DTYPE> : 1, BITS = 8 * SIZE<DTYPE>;
  FASTINIT_UNROLL
  for (int i = 0; i < VECTOR<DTYPE>; i++) {
    Word<DTYPE> bits;
    if constexpr (SIZE<DTYPE> == 8) bits = (uint64_t)pieces[2 * i + 1] << 32 | pieces[2 * i];
    else if constexpr (SIZE<DTYPE> == 4) bits = pieces[i];
    else bits = pieces[i / IN_A_PIECE] >> (i % IN_A_PIECE * BITS) & ((1u << BITS) - 1);
    sums[i] = keep * decoded<DTYPE>(bits);
  }
}

/* And back, rounded. */
template <int DTYPE> FASTINIT_INLINE void pack_sums(const Real<DTYPE> *sums, uint32_t *pieces) {
  FASTINIT_UNROLL
  for (int i = 0; i < VECTOR_BYTES<DTYPE> / 4; i++) {
    if constexpr (SIZE<DTYPE> == 8) {
      pieces[i] = (uint32_t)(rounded_sum<DTYPE>(sums[i / 2]) >> (i % 2 * 32));
    } else if constexpr (SIZE<DTYPE> == 4) {
      pieces[i] = rounded_sum<DTYPE>(sums[i]);
    } else if constexpr (SIZE<DTYPE> == 2) {
      pieces[i] = rounded_sums<DTYPE>(sums[2 * i], sums[2 * i + 1]);
    } else {
      pieces[i] = rounded_sum<DTYPE>(sums[4 * i]) | rounded_sum<DTYPE>(sums[4 * i + 1]) << 8 |
                  rounded_sum<DTYPE>(sums[4 * i + 2]) << 16 | rounded_sum<DTYPE>(sums[4 * i + 3]) << 24;
    }
  }
}

/* --- members ------------------------------------------------------------------------------------------------------------------ */

/* What a sum is made of, for a kernel: where in the launch the keys and the coefficients are. */
template <int DTYPE> struct alignas(8) Members {
  const char *source;
  Real<DTYPE> keep;
  int32_t count, keys, add;
};

template <int DTYPE> FASTINIT_INLINE uint64_t key_of(const char *data, const Members<DTYPE> &members, int number) {
  return ((const uint64_t *)(data + members.keys))[number];
}
template <int DTYPE> FASTINIT_INLINE Real<DTYPE> add_of(const char *data, const Members<DTYPE> &members, int number) {
  return ((const Real<DTYPE> *)(data + members.add))[number];
}

/* Blend into one element, if the launch serves the sign of its word: of a halved recipe, that has one member. */
template <int DTYPE, class M>
FASTINIT_INLINE void blend_element(const char *data, const Members<DTYPE> &members, const M &map, uint64_t index, char *out,
                                   int64_t place, int64_t from, int32_t half) {
  Real<DTYPE> sum = members.keep == 0 ? 0 : members.keep * decoded<DTYPE>(loaded<DTYPE>(members.source, from));
  for (int m = 0; m < members.count; m++) {
    const Word<DTYPE> word = word_at<DTYPE>(key_of(data, members, m), index);
    if (!is_served<DTYPE>(word, half)) return;
    sum = fused(add_of(data, members, m), map.value(word), sum);
  }
  store<DTYPE>(out, place, rounded_sum<DTYPE>(sum));
}

/* --- kernels ------------------------------------------------------------------------------------------------------------------ */

constexpr int BLENDING_BLOCKS = 2; /* of blend_list on a multiprocessor, at least; that leaves them 128 registers */

/* A tensor of whole blocks, or a rectangle of a larger one, as Row. */
template <int DTYPE> struct alignas(16) Sums {
  char *out;
  uint64_t block;
  int64_t pitch;
  int32_t vectors, tiles_a_line, tiles, recipe, before, rest;
  Members<DTYPE> members;
};

/* Blend into a block's tiles of a row: `tile`, then every gridDim.x-th, as fill_tiles. */
template <int DTYPE, class M>
__device__ __forceinline__ void blend_tiles(const char *data, const Sums<DTYPE> &row, const M &map, int tile) {
  constexpr int BLOCKS = VECTOR<DTYPE> / 4, COUNT = VECTORS<DTYPE>, STEP = THREADS * VECTOR_BYTES<DTYPE>;
  const Members<DTYPE> &members = row.members;
  const bool begins = tile == 0;
  const int stride = pinned((int)gridDim.x * (THREADS * COUNT)); /* vectors from tile to tile */
  while (tile < row.tiles) {
    const int line = tile / row.tiles_a_line, in_line = tile - line * row.tiles_a_line;
    const int first = in_line * (THREADS * COUNT) + threadIdx.x; /* vector of the line */
    int64_t at = ((int64_t)line * row.vectors + first) * VECTOR_BYTES<DTYPE>;
    uint32_t block = (uint32_t)row.block + (uint32_t)line * (uint32_t)row.pitch + (uint32_t)first * BLOCKS;
    for (int left = row.vectors - first; left > 0; left -= stride) {
      Real<DTYPE> sums[COUNT][VECTOR<DTYPE>];
      FASTINIT_UNROLL
      for (int i = 0; i < COUNT; i++) {
        uint4 pieces[VECTOR_BYTES<DTYPE> / 16] = {};
        if (members.keep != 0 && (i == 0 || i * THREADS < left)) {
          FASTINIT_UNROLL
          for (int j = 0; j < VECTOR_BYTES<DTYPE> / 16; j++) pieces[j] = ((const uint4 *)(members.source + at + i * STEP))[j];
        }
        unpack<DTYPE>((const uint32_t *)pieces, members.keep, sums[i]);
      }
      for (int m = 0; m < members.count; m++) {
        const Stream<DTYPE> stream(key_of(data, members, m), row.block);
        const Real<DTYPE> add = add_of(data, members, m);
        Word<DTYPE> words[COUNT][VECTOR<DTYPE>];
        FASTINIT_UNROLL
        for (int i = 0; i < COUNT; i++) stream.template words<BLOCKS>(block + i * (THREADS * BLOCKS), words[i]);
        FASTINIT_UNROLL
        for (int i = 0; i < COUNT; i++) {
          FASTINIT_UNROLL
          for (int j = 0; j < VECTOR<DTYPE>; j++) sums[i][j] = fused(add, map.value(words[i][j]), sums[i][j]);
        }
      }
      FASTINIT_UNROLL
      for (int i = 0; i < COUNT; i++) {
        uint4 pieces[VECTOR_BYTES<DTYPE> / 16];
        pack_sums<DTYPE>(sums[i], (uint32_t *)pieces);
        FASTINIT_UNROLL
        for (int j = 0; j < VECTOR_BYTES<DTYPE> / 16; j++) {
          pinned(pieces[j]);
          if (i == 0 || i * THREADS < left) ((uint4 *)(row.out + at + i * STEP))[j] = pieces[j];
        }
      }
      at += (int64_t)stride * VECTOR_BYTES<DTYPE>;
      block += (uint32_t)stride * BLOCKS;
    }
    tile += (row.tiles_a_line - in_line + gridDim.x - 1) / gridDim.x * gridDim.x;
  }
  if (begins && (int)threadIdx.x < row.rest) {
    const int64_t place = (int64_t)row.vectors * VECTOR<DTYPE> + threadIdx.x;
    blend_element<DTYPE>(data, members, map, row.block * 4 + place, row.out, place, place, BOTH);
  }
}

template <int DTYPE>
__global__ void __launch_bounds__(THREADS, BLENDING_BLOCKS) blend_list(const __grid_constant__ Launch<MUCH> launch) {
  using R = Real<DTYPE>;
  __shared__ Space<R> space;
  int loaded = -1;
  for (int i = 0; i < launch.rows; i++) {
    const Sums<DTYPE> &row = ((const Sums<DTYPE> *)launch.data)[i];
    int tile = (int)blockIdx.x - row.before;
    if (tile < 0) tile += gridDim.x;
    if (tile >= row.tiles) continue;
    const Recipe<R> &recipe = *(const Recipe<R> *)(launch.data + row.recipe);
    if (row.recipe != loaded) {
      load_table(recipe, space.table);
      loaded = row.recipe;
    }
    const auto blend = [&](const auto &map) { blend_tiles<DTYPE>(launch.data, row, map, tile); };
    with_map<DTYPE, WITH_ONE_HALF>(recipe, space.table, blend);
  }
}

/* A tensor of any layout: as Place, with the source's strides along its axes. */
template <int DTYPE> struct alignas(16) Places {
  Place to;
  Members<DTYPE> members;
  int64_t from[MOST_AXES];
};

template <int DTYPE, class M>
__device__ __forceinline__ void blend_places(const char *data, const Places<DTYPE> &places, const M &map) {
  const Place &place = places.to;
  for (int64_t i = (int64_t)blockIdx.x * THREADS + threadIdx.x; i < place.elements; i += (int64_t)gridDim.x * THREADS) {
    int64_t rest = i, local = place.first, at = 0, from = 0;
    for (int a = 0; a < place.axes; a++) {
      const Axis &axis = place.axis[a];
      const int64_t q = a + 1 < place.axes ? quotient(rest, axis.size, place.narrow) : 0, here = rest - q * axis.size;
      local += here * axis.step;
      at += here * axis.stride;
      from += here * places.from[a];
      rest = q;
    }
    blend_element<DTYPE>(data, places.members, map, index_of(place, local), place.out, at, from, place.half);
  }
}

template <int DTYPE> __global__ void __launch_bounds__(THREADS) blend_elements(const __grid_constant__ Launch<MUCH> launch) {
  const Places<DTYPE> &places = *(const Places<DTYPE> *)launch.data;
  const auto blend = [&](const auto &map) { blend_places<DTYPE>(launch.data, places, map); };
  with_recipe<DTYPE, ALL>(launch.data + places.to.recipe, blend);
}

}  // namespace fastinit
