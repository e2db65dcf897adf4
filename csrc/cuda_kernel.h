/* The GPU's kernels, written once for every dtype and law:
 *
 *     fill_blocks    whole Philox blocks at multiples of 16 bytes, of a list of tensors
 *     fill_elements  one tensor element by element, four times the words: any start, box and strides
 *     map_words      given words to values
 *
 * What a kernel needs comes as its parameters, laws with their tables behind what names them; a table goes to shared memory,
 * where a coefficient's 32 cells lie in the 32 banks. The grid is as large as the device holds at once, and a block takes tile
 * after tile. A row's (a tensor's) constants and round keys are made once a row and thread: a round costs no addition. */
#pragma once

#include "plan.h"
#include "scalar.h"
#include "transform.h"

namespace fastinit {

constexpr int THREADS = 256; /* a block */
/* A multiprocessor holds of fill_one and fill_list at least: 80 registers. With 4 they get 64, and fill_list spills. */
constexpr int BLOCKS_AT_ONCE = 3;

/* --- one thread as a vector layer --------------------------------------------------------------------------------------- */

#if defined(__CUDA_ARCH__)
using SharedAddress = uint32_t;
__device__ __forceinline__ SharedAddress shared_address(const void *p) {
  SharedAddress address = (uint32_t)__cvta_generic_to_shared(p);
  asm volatile("" : "+r"(address)); /* or the compiler adds the address anew at each look-up */
  return address;
}
template <class T> __device__ __forceinline__ const T *shared_pointer(SharedAddress address) {
  return (const T *)__cvta_shared_to_generic(address);
}
#else
using SharedAddress = uintptr_t;
FASTINIT_INLINE SharedAddress shared_address(const void *p) { return (uintptr_t)p; }
template <class T> FASTINIT_INLINE const T *shared_pointer(SharedAddress address) { return (const T *)address; }
#endif

template <class R> struct Thread : Scalar<R> {
  using typename Scalar<R>::F;
  using typename Scalar<R>::I;
  using typename Scalar<R>::Signed;
  using W = uint32_t;
  static constexpr int LOG_SIZE = sizeof(R) == 8 ? 3 : 2;

  FASTINIT_INLINE int shift(int count) { return count - LOG_SIZE; } /* a cell's number as the offset of its bytes */
  /* [terms][halves][cells], of float64 one half, in shared memory at a multiple of a term's bytes: so that cell and half are
   * or-ed into the address, in the instruction that masks the cell. */
  template <int CELLS, int TERMS, int HALVES> struct Table {
    static constexpr int HALF = CELLS * (int)sizeof(R), TERM = sizeof(R) == 8 ? HALF : HALF * HALVES;
    SharedAddress at;
    FASTINIT_INLINE_MEMBER void load(const R *table) { at = shared_address(table); }
    FASTINIT_INLINE_MEMBER void look_up(I cell, bool upper, F *coefficient) const {
      const SharedAddress half = TERM > HALF && upper ? at | HALF : at, row = half | (SharedAddress)(cell & (HALF - sizeof(R)));
      FASTINIT_UNROLL
      for (int term = 0; term < TERMS; term++) coefficient[term] = *shared_pointer<R>(row + term * TERM);
    }
  };

  FASTINIT_INLINE W word(uint32_t x) { return x; }
  FASTINIT_INLINE W counter(uint64_t block) { return (uint32_t)block; }
  FASTINIT_INLINE void multiply(W x, uint32_t m, W &high, W &low) { /* written as one product: a single IMAD.WIDE */
    const uint64_t product = (uint64_t)x * m;
    high = (uint32_t)(product >> 32), low = (uint32_t)product;
  }
  FASTINIT_INLINE W xor_word(W a, W b) { return a ^ b; }
  FASTINIT_INLINE W xor3(W a, W b, W c) { return a ^ b ^ c; }
  FASTINIT_INLINE void interleave(W c0, W c1, W c2, W c3, I *words) { words[0] = c0, words[1] = c1, words[2] = c2, words[3] = c3; }
  FASTINIT_INLINE I distance(I s) { /* Scalar's, with one instruction less: |s| is odd */
    return (I)((Signed)s < 0 ? (I)0 - s : s) ^ (Scalar<R>::SIGN - 2);
  }
#if defined(__CUDA_ARCH__) /* these order -0 below +0 */
  FASTINIT_INLINE F at_least(F v, F low) { return sizeof(F) == 4 ? (F)fmaxf((float)v, (float)low) : (F)fmax((double)v, (double)low); }
  FASTINIT_INLINE F at_most(F v, F high) { return sizeof(F) == 4 ? (F)fminf((float)v, (float)high) : (F)fmin((double)v, (double)high); }
#endif
};

template <int DTYPE> constexpr int SIZE = item_size(DTYPE);
template <int DTYPE> constexpr bool IS_WIDE = DTYPE == FASTINIT_FLOAT64 || DTYPE == FASTINIT_UINT64;
template <int DTYPE> constexpr bool IS_WORDS = DTYPE == FASTINIT_UINT32 || DTYPE == FASTINIT_UINT64;

template <bool WIDE> struct RealOf {
  using type = float;
};
template <> struct RealOf<true> {
  using type = double;
};
template <int DTYPE> using Real = typename RealOf<IS_WIDE<DTYPE>>::type;
template <int DTYPE> using Layer = Thread<Real<DTYPE>>;
template <int DTYPE> using Word = typename Layer<DTYPE>::I;

/* --- laws ------------------------------------------------------------------------------------------------------------------ */

/* What a map is compiled for. */
enum Variant {
  UNIFORM_ALONE,
  BOUND_ALONE,
  SYMMETRIC_SMALL, /* 32 cells of 5 terms */
  SYMMETRIC_LARGE, /* 64 of 7; of float64, 256 of 13 */
  TWO_SIDED_SMALL,
  TWO_SIDED_LARGE,
  FMOD_SMALL,
  FMOD_LARGE
};

/* The constants of a law as a kernel reads them, its table right behind. */
template <class R> struct alignas(16) Law {
  R slope, anchor, std, cut, inverse_cut, low, high, offset[2], scale[2];
  typename Thread<R>::I flip;
  uint32_t low_pair, high_pair;     /* of 16-bit dtypes, the bounds twice: what clamped_pair takes */
  int32_t top_bits, variant, reals; /* in the table */

  FASTINIT_INLINE_MEMBER const R *table() const { return (const R *)(this + 1); }
};

constexpr int SMALL_CELLS = 32, SMALL_TERMS = 5;
template <class R> constexpr int LARGE_CELLS = sizeof(R) == 8 ? 256 : 64;
template <class R> constexpr int LARGE_TERMS = sizeof(R) == 8 ? 13 : 7;
/* Where a block keeps a table of any size: both halves, of float64 one, as a kernel's parameters hold no two. */
template <class R> constexpr int TERM_REALS = LARGE_CELLS<R> *(sizeof(R) == 8 ? 1 : 2);
template <class R> struct alignas(TERM_REALS<R> * sizeof(R)) Space {
  R table[TERM_REALS<R> * LARGE_TERMS<R>];
};

/* A law at work. `table` is in shared memory. */
template <class R, Kind KIND, int CELLS, int TERMS> struct Map {
  using V = Thread<R>;
  Constants<V, KIND, CELLS, TERMS> constants;
  uint32_t low_pair, high_pair;
  FASTINIT_INLINE_MEMBER Map(const Law<R> &law, const R *table)
      : constants(decltype(constants)::make(law, table)), low_pair(law.low_pair), high_pair(law.high_pair) {}
  FASTINIT_INLINE_MEMBER R unclamped(typename V::I word) const { return fastinit::unclamped(constants, word); }
  FASTINIT_INLINE_MEMBER R value(typename V::I word) const { return fastinit::value(constants, word); }
};

/* The law of FASTINIT_WORDS. */
struct Words {};

/* Calls work(Map) for the law's variant. By tiles, two-sided laws of float64 are never filled: they come by halves. */
template <int DTYPE, bool TILED, class Work> __device__ __forceinline__ void with_map(const Law<Real<DTYPE>> &law, const Real<DTYPE> *table, Work work) {
  using R = Real<DTYPE>;
  constexpr int CELLS = LARGE_CELLS<R>, TERMS = LARGE_TERMS<R>;
  switch (law.variant) {
    case UNIFORM_ALONE: work(Map<R, UNIFORM, SMALL_CELLS, SMALL_TERMS>(law, table)); break;
    case BOUND_ALONE: work(Map<R, UNIFORM_FROM_BOUND, SMALL_CELLS, SMALL_TERMS>(law, table)); break;
    case SYMMETRIC_LARGE: work(Map<R, SYMMETRIC, CELLS, TERMS>(law, table)); break;
    case FMOD_LARGE: work(Map<R, FMOD, CELLS, TERMS>(law, table)); break;
  }
  if constexpr (sizeof(R) == 4 || !TILED)
    if (law.variant == TWO_SIDED_LARGE) work(Map<R, TWO_SIDED, CELLS, TERMS>(law, table));
  if constexpr (sizeof(R) == 4) switch (law.variant) {
    case SYMMETRIC_SMALL: work(Map<R, SYMMETRIC, SMALL_CELLS, SMALL_TERMS>(law, table)); break;
    case TWO_SIDED_SMALL: work(Map<R, TWO_SIDED, SMALL_CELLS, SMALL_TERMS>(law, table)); break;
    case FMOD_SMALL: work(Map<R, FMOD, SMALL_CELLS, SMALL_TERMS>(law, table)); break;
  }
}

/* Brings a law's table to shared memory, for the whole block. */
template <class R> __device__ __forceinline__ void load_table(const Law<R> &law, R *table) {
  __syncthreads(); /* nobody reads the one before any more */
  for (int i = threadIdx.x; i < law.reals; i += THREADS) table[i] = law.table()[i];
  __syncthreads();
}

/* --- elements as bits ---------------------------------------------------------------------------------------------------- */

/* The one rounding of a clamped value. */
template <int DTYPE> FASTINIT_INLINE Word<DTYPE> encoded(Real<DTYPE> v) {
  using V = Layer<DTYPE>;
  if constexpr (DTYPE == FASTINIT_BFLOAT16) return bfloat16_bits<V>(v);
  else if constexpr (DTYPE == FASTINIT_FLOAT16) return small_float_bits<V, 10, 15, 16>(v);
  else if constexpr (DTYPE == FASTINIT_FLOAT8_E4M3FN) return small_float_bits<V, 3, 7, 8>(v);
  else if constexpr (DTYPE == FASTINIT_FLOAT8_E5M2) return small_float_bits<V, 2, 15, 8>(v);
  else return V::bits(v);
}

/* An element from its word. */
template <int DTYPE, class M> FASTINIT_INLINE Word<DTYPE> element(const M &map, Word<DTYPE> word) {
  if constexpr (IS_WORDS<DTYPE>) return word;
  else return encoded<DTYPE>(map.value(word));
}

template <int DTYPE> FASTINIT_INLINE void store(char *out, int64_t place, Word<DTYPE> bits) {
  if constexpr (SIZE<DTYPE> == 1) ((uint8_t *)out)[place] = (uint8_t)bits;
  else if constexpr (SIZE<DTYPE> == 2) ((uint16_t *)out)[place] = (uint16_t)bits;
  else ((Word<DTYPE> *)out)[place] = bits;
}

/* Two floats to two 16-bit ones, the first in the low half; then their clamp. As the bounds are of the dtype, that is the clamp
 * before the rounding, in half the instructions, where the GPU has them. */
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ < 800
constexpr bool HAS_PAIRS = false;
#else
constexpr bool HAS_PAIRS = true;
#endif

template <int DTYPE> FASTINIT_INLINE uint32_t rounded_pair(float first, float second) {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 800
  uint32_t pair;
  if constexpr (DTYPE == FASTINIT_BFLOAT16) asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(pair) : "f"(second), "f"(first));
  else asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(pair) : "f"(second), "f"(first));
  return pair;
#else
  return encoded<DTYPE>(first) | encoded<DTYPE>(second) << 16;
#endif
}

/* -0 is below +0, in PTX as in the contract. */
template <int DTYPE> FASTINIT_INLINE uint32_t clamped_pair(uint32_t pair, uint32_t low, uint32_t high) {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 800
  if constexpr (DTYPE == FASTINIT_BFLOAT16) asm("max.bf16x2 %0, %0, %1; min.bf16x2 %0, %0, %2;" : "+r"(pair) : "r"(low), "r"(high));
  else asm("max.f16x2 %0, %0, %1; min.f16x2 %0, %0, %2;" : "+r"(pair) : "r"(low), "r"(high));
  return pair;
#else
  const auto order = [](uint32_t half) { return half & 0x8000 ? -1 - (int)(half & 0x7FFF) : (int)half; };
  const auto clamped = [&](uint32_t half) {
    const uint32_t raised = order(half) < order(low & 0xFFFF) ? low & 0xFFFF : half;
    return order(raised) > order(high & 0xFFFF) ? high & 0xFFFF : raised;
  };
  return clamped(pair & 0xFFFF) | clamped(pair >> 16) << 16;
#endif
}

/* What a thread stores at a time: 16 bytes, or of 8-byte elements one block, 32. */
template <int DTYPE> constexpr int VECTOR = IS_WIDE<DTYPE> ? 4 : 16 / SIZE<DTYPE>;
template <int DTYPE> constexpr int VECTOR_BYTES = VECTOR<DTYPE> *SIZE<DTYPE>;
/* How many a thread makes of a tile: 16 elements, or of 8-byte ones 4. */
template <int DTYPE> constexpr int VECTORS = IS_WIDE<DTYPE> ? 1 : 16 / VECTOR<DTYPE>;
template <int DTYPE> constexpr int TILE = THREADS *VECTORS<DTYPE> *VECTOR<DTYPE>; /* elements */

/* A vector's elements from their words, as 32-bit pieces in the order of memory. */
template <int DTYPE, class M> FASTINIT_INLINE void pack(const M &map, const Word<DTYPE> *words, uint32_t *pieces) {
  if constexpr (SIZE<DTYPE> == 2 && HAS_PAIRS) {
    FASTINIT_UNROLL
    for (int i = 0; i < VECTOR<DTYPE> / 2; i++) {
      const float first = map.unclamped(words[2 * i]), second = map.unclamped(words[2 * i + 1]);
      pieces[i] = clamped_pair<DTYPE>(rounded_pair<DTYPE>(first, second), map.low_pair, map.high_pair);
    }
  } else {
    FASTINIT_UNROLL
    for (int i = 0; i < VECTOR<DTYPE>; i++) {
      const Word<DTYPE> bits = element<DTYPE>(map, words[i]);
      if constexpr (SIZE<DTYPE> == 8) pieces[2 * i] = (uint32_t)bits, pieces[2 * i + 1] = (uint32_t)((uint64_t)bits >> 32);
      else if (i % (4 / SIZE<DTYPE>) == 0) pieces[i / (4 / SIZE<DTYPE>)] = (uint32_t)bits;
      else pieces[i / (4 / SIZE<DTYPE>)] |= (uint32_t)bits << (i % (4 / SIZE<DTYPE>) * SIZE<DTYPE> * 8);
    }
  }
}

/* --- words ------------------------------------------------------------------------------------------------------------------- */

FASTINIT_INLINE int pinned(int x) {
#if defined(__CUDA_ARCH__)
  asm volatile("" : "+r"(x));
#endif
  return x;
}
FASTINIT_INLINE void pinned(uint4 &piece) {
#if defined(__CUDA_ARCH__)
  asm volatile("" : "+r"(piece.x), "+r"(piece.y), "+r"(piece.z), "+r"(piece.w));
#endif
}
FASTINIT_INLINE void pinned(Rounds<Thread<float>> &rounds) {
#if defined(__CUDA_ARCH__)
  FASTINIT_UNROLL
  for (int r = 2; r < ROUNDS; r++) asm volatile("" : "+r"(rounds.key[r][0]), "+r"(rounds.key[r][1]));
#endif
}

/* The words of the blocks that share a key and the upper half of their number. */
template <int DTYPE> struct Stream {
  Rounds<Thread<float>> rounds;
  FASTINIT_INLINE_MEMBER void pin() { pinned(rounds); }
  FASTINIT_INLINE_MEMBER Stream(uint64_t key, uint64_t block) : rounds(key, (uint32_t)(block >> 32), 0) {}
  template <int U> FASTINIT_INLINE_MEMBER void words(uint64_t block, Word<DTYPE> *out) const { philox<Thread<float>, U>(rounds, block, out); }
};

struct BothStreams {
  FASTINIT_INLINE_MEMBER void pin() { pinned(first), pinned(second); }
  Rounds<Thread<float>> first, second;
  FASTINIT_INLINE_MEMBER BothStreams(uint64_t key, uint64_t block)
      : first(key, (uint32_t)(block >> 32), 0), second(key, (uint32_t)(block >> 32), 1) {}
  template <int U> FASTINIT_INLINE_MEMBER void words(uint64_t block, uint64_t *out) const {
    uint32_t high[4 * U], low[4 * U];
    philox<Thread<float>, U>(first, block, high);
    philox<Thread<float>, U>(second, block, low);
    FASTINIT_UNROLL
    for (int i = 0; i < 4 * U; i++) out[i] = (uint64_t)high[i] << 32 | low[i];
  }
};
template <> struct Stream<FASTINIT_FLOAT64> : BothStreams {
  using BothStreams::BothStreams;
};
template <> struct Stream<FASTINIT_UINT64> : BothStreams {
  using BothStreams::BothStreams;
};

/* The word of any element of a whole tensor. */
template <int DTYPE> FASTINIT_INLINE Word<DTYPE> word_at(uint64_t key, uint64_t index) {
  Word<DTYPE> w[4];
  Stream<DTYPE>(key, index >> 2).template words<1>(index >> 2, w);
  const Word<DTYPE> even = index & 2 ? w[2] : w[0], odd = index & 2 ? w[3] : w[1];
  return index & 1 ? odd : even;
}

/* --- kernels ---------------------------------------------------------------------------------------------------------------- */

/* A kernel's parameters: what names tensors, then laws with their tables. */
template <int BYTES> struct alignas(16) Launch {
  char data[BYTES];
  int32_t rows, reserved[3];
};
/* What every driver takes, and the most since CUDA 12.1; copying a larger one takes the host longer. */
constexpr int LITTLE = 4096 - 16, MUCH = 32752 - 16;

/* A tensor of whole blocks, or a rectangle of a larger one whose lines (its rows: they may be many) are. All its blocks share
 * the upper half of their number. */
template <int DTYPE> struct alignas(16) Row {
  char *out;
  uint64_t key, block; /* the first */
  int64_t pitch;       /* blocks from line to line */
  int32_t vectors;     /* a line */
  int32_t tiles_a_line, tiles;
  int32_t law;    /* where in the launch */
  int32_t before; /* tiles of rows before it, modulo the grid */
  int32_t rest;   /* elements after the last vector, if there is one line */
  Stream<DTYPE> stream;
};

/* Fills a block's tiles of a row: `tile`, then every gridDim.x-th. */
template <int DTYPE, class M>
__device__ __forceinline__ void fill_tiles(const Row<DTYPE> &row, const Stream<DTYPE> &stream, const M &map, int tile) {
  constexpr int BLOCKS = VECTOR<DTYPE> / 4, COUNT = VECTORS<DTYPE>, STEP = THREADS * VECTOR_BYTES<DTYPE>;
  const bool begins = tile == 0;
  const int stride = pinned((int)gridDim.x * (THREADS * COUNT)); /* vectors from tile to tile */
  while (tile < row.tiles) { /* line after line: of one, all of the block's tiles are in the loop inside */
    const int line = tile / row.tiles_a_line, in_line = tile - line * row.tiles_a_line;
    const int first = in_line * (THREADS * COUNT) + threadIdx.x; /* vector of the line */
    char *out = row.out + ((int64_t)line * row.vectors + first) * VECTOR_BYTES<DTYPE>;
    uint32_t block = (uint32_t)row.block + (uint32_t)line * (uint32_t)row.pitch + (uint32_t)first * BLOCKS;
    for (int left = row.vectors - first; left > 0; left -= stride) {
      Word<DTYPE> words[COUNT][VECTOR<DTYPE>];
      FASTINIT_UNROLL
      for (int i = 0; i < COUNT; i++) stream.template words<BLOCKS>(block + i * (THREADS * BLOCKS), words[i]);
      FASTINIT_UNROLL
      for (int i = 0; i < COUNT; i++) {
        uint4 pieces[VECTOR_BYTES<DTYPE> / 16];
        pack<DTYPE>(map, words[i], (uint32_t *)pieces);
        FASTINIT_UNROLL
        for (int j = 0; j < VECTOR_BYTES<DTYPE> / 16; j++) {
          pinned(pieces[j]);
          if (i == 0 || i * THREADS < left) ((uint4 *)(out + i * STEP))[j] = pieces[j];
        }
      }
      out += (int64_t)stride * VECTOR_BYTES<DTYPE>, block += (uint32_t)stride * BLOCKS;
    }
    tile += (row.tiles_a_line - in_line + gridDim.x - 1) / gridDim.x * gridDim.x;
  }
  if (begins && (int)threadIdx.x < row.rest) {
    const int64_t place = (int64_t)row.vectors * VECTOR<DTYPE> + threadIdx.x;
    store<DTYPE>(row.out, place, element<DTYPE>(map, word_at<DTYPE>(row.key, row.block * 4 + place)));
  }
}

template <int DTYPE> __global__ void __launch_bounds__(THREADS, BLOCKS_AT_ONCE) fill_one(const __grid_constant__ Launch<LITTLE> launch) {
  using R = Real<DTYPE>;
  const Row<DTYPE> &row = *(const Row<DTYPE> *)launch.data;
  if constexpr (IS_WORDS<DTYPE>) {
    fill_tiles<DTYPE>(row, row.stream, Words(), (int)blockIdx.x);
  } else {
    __shared__ Space<R> space;
    const Law<R> &law = *(const Law<R> *)(launch.data + sizeof(Row<DTYPE>));
    load_table(law, space.table);
    with_map<DTYPE, true>(law, space.table, [&](const auto &map) { fill_tiles<DTYPE>(row, row.stream, map, (int)blockIdx.x); });
  }
}

template <int DTYPE> __global__ void __launch_bounds__(THREADS, BLOCKS_AT_ONCE) fill_list(const __grid_constant__ Launch<MUCH> launch) {
  using R = Real<DTYPE>;
  __shared__ Space<R> space;
  int loaded = -1;
  for (int i = 0; i < launch.rows; i++) {
    const Row<DTYPE> &row = ((const Row<DTYPE> *)launch.data)[i];
    int tile = (int)blockIdx.x - row.before;
    if (tile < 0) tile += gridDim.x;
    if (tile >= row.tiles) continue;
    Stream<DTYPE> stream = row.stream;
    stream.pin();
    if constexpr (IS_WORDS<DTYPE>) {
      fill_tiles<DTYPE>(row, stream, Words(), tile);
    } else {
      const Law<R> &law = *(const Law<R> *)(launch.data + row.law);
      if (row.law != loaded) load_table(law, space.table), loaded = row.law;
      with_map<DTYPE, true>(law, space.table, [&](const auto &map) { fill_tiles<DTYPE>(row, stream, map, tile); });
    }
  }
}

/* An axis of memory: its size, the step of the logical index, the stride in elements. */
struct Axis {
  int64_t size, step, stride;
};
constexpr int MOST_AXES = 8;

/* One tensor of any layout: local element r * cols + c is global element start + r * pitch + c. */
struct alignas(16) Place {
  char *out;
  uint64_t key;
  int64_t first, elements;    /* local: the axes begin at `first` */
  int64_t start, cols, pitch; /* cols 0: start + the local element */
  int32_t law, half;                    /* half: the sign of the words that this launch serves, or both */
  int32_t axes, narrow;                 /* narrow: every quotient fits into 32 bits */
  Axis axis[MOST_AXES];                 /* the least stride first */
};
enum Half { LOWER, UPPER, BOTH };

FASTINIT_INLINE int64_t quotient(int64_t a, int64_t b, bool narrow) { /* 64-bit division takes several times as long */
  return narrow ? (int64_t)((uint32_t)a / (uint32_t)b) : a / b;
}

template <int DTYPE, class M> __device__ __forceinline__ void fill_places(const Place &place, const M &map) {
  for (int64_t i = (int64_t)blockIdx.x * THREADS + threadIdx.x; i < place.elements; i += (int64_t)gridDim.x * THREADS) {
    int64_t rest = i, local = place.first, at = 0;
    for (int a = 0; a < place.axes; a++) {
      const Axis &axis = place.axis[a];
      const int64_t q = a + 1 < place.axes ? quotient(rest, axis.size, place.narrow) : 0, here = rest - q * axis.size;
      local += here * axis.step, at += here * axis.stride, rest = q;
    }
    uint64_t index = (uint64_t)place.start + local;
    if (place.cols) {
      const int64_t r = quotient(local, place.cols, place.narrow);
      index = (uint64_t)place.start + r * place.pitch + (local - r * place.cols);
    }
    const Word<DTYPE> word = word_at<DTYPE>(place.key, index);
    if (place.half != BOTH && Layer<DTYPE>::positive(word | 1) != (place.half == UPPER)) continue;
    store<DTYPE>(place.out, at, element<DTYPE>(map, word));
  }
}

template <int DTYPE, int BYTES> __global__ void __launch_bounds__(THREADS) fill_elements(const __grid_constant__ Launch<BYTES> launch) {
  using R = Real<DTYPE>;
  __shared__ Space<R> space;
  const Place &place = *(const Place *)launch.data;
  if constexpr (IS_WORDS<DTYPE>) {
    fill_places<DTYPE>(place, Words());
  } else {
    const Law<R> &law = *(const Law<R> *)(launch.data + place.law);
    load_table(law, space.table);
    with_map<DTYPE, false>(law, space.table, [&](const auto &map) { fill_places<DTYPE>(place, map); });
  }
}

struct alignas(16) Given {
  const char *words;
  char *out;
  int64_t count;
  int32_t law, half;
};

template <int DTYPE, class M> __device__ __forceinline__ void map_given(const Given &given, const M &map) {
  for (int64_t i = (int64_t)blockIdx.x * THREADS + threadIdx.x; i < given.count; i += (int64_t)gridDim.x * THREADS) {
    const Word<DTYPE> word = ((const Word<DTYPE> *)given.words)[i];
    if (given.half != BOTH && Layer<DTYPE>::positive(word | 1) != (given.half == UPPER)) continue;
    store<DTYPE>(given.out, i, element<DTYPE>(map, word));
  }
}

template <int DTYPE, int BYTES> __global__ void __launch_bounds__(THREADS) map_words(const __grid_constant__ Launch<BYTES> launch) {
  using R = Real<DTYPE>;
  __shared__ Space<R> space;
  const Given &given = *(const Given *)launch.data;
  if constexpr (IS_WORDS<DTYPE>) {
    map_given<DTYPE>(given, Words());
  } else {
    const Law<R> &law = *(const Law<R> *)(launch.data + given.law);
    load_table(law, space.table);
    with_map<DTYPE, false>(law, space.table, [&](const auto &map) { map_given<DTYPE>(given, map); });
  }
}

}  // namespace fastinit
