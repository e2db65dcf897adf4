/* The GPU's kernels, written once for every dtype and variant:
 *
 *     fill_one       a tensor of whole Philox blocks at multiples of 16 bytes
 *     fill_list      a list of such tensors in one launch
 *     fill_elements  a tensor element by element, making four words for one: any start, box and strides
 *     map_words      given words to values
 *
 * What a kernel needs comes as its parameters: what names tensors, then recipes with their tables. A table goes to shared memory,
 * where a coefficient's 32 cells lie in the 32 banks. The grid is as large as the device holds at once, and a block takes tile
 * after tile. Round keys are bumped on the host: fill_one reads them as operands from constant memory, fill_list from registers.
 *
 * Instructions an element of the bfloat16 truncated normal at 2 sigmas on sm_90, by CUDA 13.0 (`python -m benchmarks.cuda_code`
 * prints today's): 31.9, of which 9.5 are Philox's. What was tried, by these counts; nothing was timed:
 *
 *     a tile's line and place anew for each tile  35.8; in a loop outside the one over tiles 31.9
 *     the table's address added to the cell's     33.0; or-ed in by the instruction that masks the cell 31.9
 *     the cell's number masked, then shifted      1 more than a shift that leaves the offset of its bytes
 *     two clamps before the rounding              1 more than two packed ones of a pair after it (sm_75 has none: 36.4)
 *     a count of the tile's vectors               0.4 more than a thread's own count, which is the loop's too
 *     round keys left to the compiler             0.4 more in fill_list: it reads or adds some of them anew for each tile
 *     64 registers, 4 blocks a multiprocessor     0.1 more, and fill_list spills
 *     1 or 2 instructions of copies a tile come and go with small changes: fill_list has 32.0 on sm_90, 32.1 on sm_100 */
#pragma once

#include "../philox.h"
#include "thread.h"

namespace fastinit {

constexpr int THREADS = 256; /* a block */
/* So many of fill_one's and fill_list's blocks fit on a multiprocessor at least; that leaves them 80 registers. */
constexpr int BLOCKS_AT_ONCE = 3;

/* How many vectors of a tile a thread makes: 16 elements, or 4 of 8 bytes. */
template <int DTYPE> constexpr int VECTORS = IS_WIDE<DTYPE> ? 1 : 16 / VECTOR<DTYPE>;
template <int DTYPE> constexpr int TILE = THREADS * VECTORS<DTYPE> * VECTOR<DTYPE>; /* elements */

/* --- words ---------------------------------------------------------------------------------------------------------------- */

/* Keep a value in registers from here on: the compiler no longer knows it, so it cannot compute it anew at each use. */
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
  template <int U> FASTINIT_INLINE_MEMBER void words(uint64_t block, Word<DTYPE> *out) const {
    philox<Thread<float>, U>(rounds, block, out);
  }
};

/* Of 8-byte elements: stream 0 above stream 1. */
struct BothStreams {
  Rounds<Thread<float>> first, second;
  FASTINIT_INLINE_MEMBER void pin() {
    pinned(first);
    pinned(second);
  }
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

/* A kernel's parameters: what names tensors, then recipes with their tables. */
template <int BYTES> struct alignas(16) Launch {
  char data[BYTES];
  int32_t rows, reserved[3];
};
/* Bytes of parameters: what every driver accepts, and the most since CUDA 12.1, which the host takes longer to copy. */
constexpr int LITTLE = 4096 - 16, MUCH = 32752 - 16;

/* A tensor of whole blocks, or a rectangle of a larger one whose lines are of whole blocks. All its blocks share the upper half
 * of their number. */
template <int DTYPE> struct alignas(16) Row {
  char *out;
  uint64_t key, block; /* the first */
  int64_t pitch;       /* blocks from line to line */
  int32_t vectors;     /* a line */
  int32_t tiles_a_line, tiles;
  int32_t recipe; /* where in the launch */
  int32_t before; /* tiles of rows before it, modulo the grid */
  int32_t rest;   /* elements after the last vector, if there is one line */
  Stream<DTYPE> stream;
};

/* Bring a recipe's table to shared memory, for the whole block. */
template <class R> __device__ __forceinline__ void load_table(const Recipe<R> &recipe, R *table) {
  __syncthreads(); /* no thread still reads the table before it */
  for (int i = threadIdx.x; i < recipe.reals; i += THREADS) table[i] = recipe.table()[i];
  __syncthreads();
}

/* Call work(Map) with the recipe at that place, its table in shared memory; work(Words) where the dtype is of words. */
template <int DTYPE, Served SERVED, class Work> __device__ __forceinline__ void with_recipe(const char *where, Work work) {
  if constexpr (IS_WORDS<DTYPE>) {
    work(Words());
  } else {
    __shared__ Space<Real<DTYPE>> space;
    const auto &recipe = *(const Recipe<Real<DTYPE>> *)where;
    load_table(recipe, space.table);
    with_map<DTYPE, SERVED>(recipe, space.table, work);
  }
}

/* Fill a block's tiles of a row: `tile`, then every gridDim.x-th. */
template <int DTYPE, class M>
__device__ __forceinline__ void fill_tiles(const Row<DTYPE> &row, const Stream<DTYPE> &stream, const M &map, int tile) {
  constexpr int BLOCKS = VECTOR<DTYPE> / 4, COUNT = VECTORS<DTYPE>, STEP = THREADS * VECTOR_BYTES<DTYPE>;
  const bool begins = tile == 0;
  const int stride = pinned((int)gridDim.x * (THREADS * COUNT)); /* vectors from tile to tile */
  while (tile < row.tiles) { /* line after line; if there is one, all of the block's tiles are in the inner loop */
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
      out += (int64_t)stride * VECTOR_BYTES<DTYPE>;
      block += (uint32_t)stride * BLOCKS;
    }
    tile += (row.tiles_a_line - in_line + gridDim.x - 1) / gridDim.x * gridDim.x;
  }
  if (begins && (int)threadIdx.x < row.rest) {
    const int64_t place = (int64_t)row.vectors * VECTOR<DTYPE> + threadIdx.x;
    store<DTYPE>(row.out, place, element<DTYPE>(map, word_at<DTYPE>(row.key, row.block * 4 + place)));
  }
}

template <int DTYPE>
__global__ void __launch_bounds__(THREADS, BLOCKS_AT_ONCE) fill_one(const __grid_constant__ Launch<LITTLE> launch) {
  const Row<DTYPE> &row = *(const Row<DTYPE> *)launch.data;
  const auto fill = [&](const auto &map) { fill_tiles<DTYPE>(row, row.stream, map, (int)blockIdx.x); };
  with_recipe<DTYPE, WITHOUT_TABLE>(launch.data + sizeof row, fill);
}

template <int DTYPE>
__global__ void __launch_bounds__(THREADS, BLOCKS_AT_ONCE) fill_list(const __grid_constant__ Launch<MUCH> launch) {
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
      const Recipe<R> &recipe = *(const Recipe<R> *)(launch.data + row.recipe);
      if (row.recipe != loaded) {
        load_table(recipe, space.table);
        loaded = row.recipe;
      }
      with_map<DTYPE, WITH_ONE_HALF>(recipe, space.table, [&](const auto &map) { fill_tiles<DTYPE>(row, stream, map, tile); });
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
  int32_t recipe;             /* where in the launch */
  int32_t half;               /* the sign of the words that this launch serves, or both */
  int32_t axes, narrow;       /* narrow: every quotient fits into 32 bits */
  Axis axis[MOST_AXES];       /* the least stride first */
};
enum Half { LOWER, UPPER, BOTH };

/* 64-bit division takes several times as long as 32-bit division. */
FASTINIT_INLINE int64_t quotient(int64_t a, int64_t b, bool narrow) {
  return narrow ? (int64_t)((uint32_t)a / (uint32_t)b) : a / b;
}

/* The global index of a local element. */
FASTINIT_INLINE uint64_t index_of(const Place &place, int64_t local) {
  if (place.cols == 0) return (uint64_t)place.start + local;
  const int64_t r = quotient(local, place.cols, place.narrow);
  return (uint64_t)place.start + r * place.pitch + (local - r * place.cols);
}

template <int DTYPE> FASTINIT_INLINE bool is_served(Word<DTYPE> word, int32_t half) {
  return half == BOTH || ThreadOf<DTYPE>::positive(word | 1) == (half == UPPER);
}

template <int DTYPE, class M> __device__ __forceinline__ void fill_places(const Place &place, const M &map) {
  for (int64_t i = (int64_t)blockIdx.x * THREADS + threadIdx.x; i < place.elements; i += (int64_t)gridDim.x * THREADS) {
    int64_t rest = i, local = place.first, at = 0;
    for (int a = 0; a < place.axes; a++) {
      const Axis &axis = place.axis[a];
      const int64_t q = a + 1 < place.axes ? quotient(rest, axis.size, place.narrow) : 0, here = rest - q * axis.size;
      local += here * axis.step;
      at += here * axis.stride;
      rest = q;
    }
    const Word<DTYPE> word = word_at<DTYPE>(place.key, index_of(place, local));
    if (is_served<DTYPE>(word, place.half)) store<DTYPE>(place.out, at, element<DTYPE>(map, word));
  }
}

template <int DTYPE, int BYTES>
__global__ void __launch_bounds__(THREADS) fill_elements(const __grid_constant__ Launch<BYTES> launch) {
  const Place &place = *(const Place *)launch.data;
  with_recipe<DTYPE, ALL>(launch.data + place.recipe, [&](const auto &map) { fill_places<DTYPE>(place, map); });
}

/* Words to map. */
struct alignas(16) Given {
  const char *words;
  char *out;
  int64_t count;
  int32_t recipe, half; /* as in Place */
};

template <int DTYPE, class M> __device__ __forceinline__ void map_given(const Given &given, const M &map) {
  for (int64_t i = (int64_t)blockIdx.x * THREADS + threadIdx.x; i < given.count; i += (int64_t)gridDim.x * THREADS) {
    const Word<DTYPE> word = ((const Word<DTYPE> *)given.words)[i];
    if (is_served<DTYPE>(word, given.half)) store<DTYPE>(given.out, i, element<DTYPE>(map, word));
  }
}

template <int DTYPE, int BYTES>
__global__ void __launch_bounds__(THREADS) map_words(const __grid_constant__ Launch<BYTES> launch) {
  const Given &given = *(const Given *)launch.data;
  with_recipe<DTYPE, ALL>(launch.data + given.recipe, [&](const auto &map) { map_given<DTYPE>(given, map); });
}

}  // namespace fastinit
