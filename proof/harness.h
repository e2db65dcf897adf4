/* What a call of the library must do, written independently from csrc/fastinit.h: which statuses may come back, which bytes are
 * written and with which values. It shares only the header with the library. Values are the scalar instruction set's, of words
 * that are made here. */
#pragma once

#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <algorithm>
#include <memory>
#include <vector>

#include "../csrc/fastinit.h"

namespace proof {

using Wide = __int128; /* in which no number of a plan that is not refused can overflow */
constexpr uint8_t CANARY = 0xA5, ANOTHER = 0x5A;

/* --- statuses -------------------------------------------------------------------------------------------------------------- */

constexpr uint32_t bit(int status) { return 1u << status; }

inline bool has_table(int32_t kind) { return kind == FASTINIT_SYMMETRIC || kind == FASTINIT_TWO_SIDED || kind == FASTINIT_FMOD; }

inline int size_of(int32_t dtype) {
  static const int sizes[FASTINIT_DTYPES] = {4, 8, 2, 2, 1, 1, 4, 8};
  return sizes[dtype];
}

/* Reals of a recipe's table. */
inline int64_t reals_of(const fastinit_recipe &recipe) {
  return (int64_t)recipe.cells * recipe.terms * (recipe.kind == FASTINIT_TWO_SIDED ? 2 : 1);
}

/* The statuses with which a recipe may be refused, as bits; 0: it must be accepted. */
inline uint32_t refusals_of_recipe(const fastinit_recipe *given) {
  if (!given) return bit(FASTINIT_NULL_POINTER);
  const fastinit_recipe &recipe = *given;
  uint32_t found = 0;
  const bool kind = recipe.kind >= 0 && recipe.kind < FASTINIT_KINDS, dtype = recipe.dtype >= 0 && recipe.dtype < FASTINIT_DTYPES;
  if (!kind) found |= bit(FASTINIT_BAD_KIND);
  if (!dtype) found |= bit(FASTINIT_BAD_DTYPE);
  if (kind && dtype && (recipe.kind == FASTINIT_WORDS) != (recipe.dtype >= FASTINIT_UINT32)) found |= bit(FASTINIT_BAD_KIND);
  if (!has_table(recipe.kind)) return found;
  const bool narrow = (recipe.cells == 32 && recipe.terms == 5) || (recipe.cells == 64 && recipe.terms == 7);
  const bool shape = recipe.dtype == FASTINIT_FLOAT64 ? recipe.cells == 256 && recipe.terms == 13 : narrow;
  if (!recipe.table) found |= bit(FASTINIT_NULL_POINTER);
  if (!shape || recipe.top_bits < 0 || recipe.top_bits > 16) found |= bit(FASTINIT_BAD_TABLE);
  return found;
}

/* Elements of the box; -1 for a box to refuse. An empty box has no indices, so that start and pitch may be any. */
inline Wide elements_of(const fastinit_plan &plan) {
  if (plan.rows < 0 || plan.cols < 0 || plan.start < 0 || plan.pitch < 0) return -1;
  const Wide elements = (Wide)plan.rows * plan.cols;
  const Wide last = (Wide)plan.start + (Wide)(plan.rows - 1) * plan.pitch + plan.cols - 1;
  return elements > INT64_MAX || (elements > 0 && last > INT64_MAX) ? -1 : elements;
}

/* As refusals_of_recipe, for the plan's place. The memory of an empty box is not asked for. */
inline uint32_t refusals_of_place(const fastinit_plan &plan) {
  const Wide elements = elements_of(plan);
  if (elements < 0) return bit(FASTINIT_BAD_BOX);
  if (elements == 0) return 0;
  uint32_t found = plan.out ? 0 : bit(FASTINIT_NULL_POINTER);
  if (plan.dims < 0 || plan.dims > FASTINIT_MAX_DIMS) found |= bit(FASTINIT_BAD_LAYOUT);
  if (plan.dims > 0 && !plan.layout) return found | bit(FASTINIT_NULL_POINTER);
  Wide product = 1;
  for (int64_t d = 0; d < plan.dims && plan.dims <= FASTINIT_MAX_DIMS; d++) {
    if (plan.layout[d] < 1) return found | bit(FASTINIT_BAD_LAYOUT);
    product = std::min(product * plan.layout[d], (Wide)INT64_MAX + 1);
  }
  return plan.dims > 0 && plan.dims <= FASTINIT_MAX_DIMS && product != elements ? found | bit(FASTINIT_BAD_LAYOUT) : found;
}

inline uint32_t refusals_of_call(int64_t count, int32_t threads, int32_t isa) {
  uint32_t found = count < 0 || threads < 1 ? bit(FASTINIT_BAD_COUNT) : 0;
  if (isa < 0 || isa >= FASTINIT_ISAS) return found | bit(FASTINIT_NOT_BUILT);
  const int32_t status = fastinit_check_isa(isa);
  return status ? found | bit(status) : found;
}

/* --- memory ---------------------------------------------------------------------------------------------------------------- */

/* The elements' offsets from `out`, in elements: of the first byte and behind the last. */
struct Extent {
  Wide low = 0, end = 0;
};

inline Extent extent_of(const fastinit_plan &plan) {
  Extent extent;
  if (elements_of(plan) == 0) return extent;
  extent.end = plan.dims == 0 ? elements_of(plan) : 1;
  for (int64_t d = 0; d < plan.dims; d++) {
    const Wide reach = (Wide)(plan.layout[d] - 1) * plan.layout[plan.dims + d];
    (reach < 0 ? extent.low : extent.end) += reach;
  }
  return extent;
}

/* Offset of a logical element: by division, where the library counts. */
inline int64_t offset_of(const fastinit_plan &plan, int64_t element) {
  if (plan.dims == 0) return element;
  int64_t offset = 0;
  for (int64_t d = plan.dims - 1; d >= 0; d--) {
    const int64_t size = plan.layout[d];
    if (size == 1) continue;
    offset += element % size * plan.layout[plan.dims + d];
    element /= size;
  }
  return offset;
}

/* Canaries on the heap, so that AddressSanitizer guards what lies behind them; `skip` more in front make any alignment. */
class Memory {
  std::unique_ptr<uint8_t[]> bytes_;
  size_t skip_, size_;

 public:
  explicit Memory(size_t size = 0, size_t skip = 0) : bytes_(new uint8_t[skip + size]), skip_(skip), size_(size) {
    memset(bytes_.get(), CANARY, skip + size);
  }
  uint8_t *get() const { return bytes_.get() + skip_; }
  size_t size() const { return size_; }
  bool is_untouched() const {
    return std::all_of(bytes_.get(), bytes_.get() + skip_ + size_, [](uint8_t byte) { return byte == CANARY; });
  }
  bool is_untouched_in_front() const {
    return std::all_of(bytes_.get(), bytes_.get() + skip_, [](uint8_t byte) { return byte == CANARY; });
  }
};

/* --- values ---------------------------------------------------------------------------------------------------------------- */

/* Philox4x32-10 of block `block` of a key. */
inline void philox(uint64_t key, uint64_t block, uint32_t stream, uint32_t words[4]) {
  uint32_t c[4] = {(uint32_t)block, (uint32_t)(block >> 32), stream, 0}, k[2] = {(uint32_t)key, (uint32_t)(key >> 32)};
  for (int round = 0; round < 10; round++, k[0] += 0x9E3779B9u, k[1] += 0xBB67AE85u) {
    const uint64_t p0 = (uint64_t)c[0] * 0xD2511F53u, p1 = (uint64_t)c[2] * 0xCD9E8D57u;
    const uint32_t next[4] = {(uint32_t)(p1 >> 32) ^ c[1] ^ k[0], (uint32_t)p1, (uint32_t)(p0 >> 32) ^ c[3] ^ k[1], (uint32_t)p0};
    memcpy(c, next, sizeof c);
  }
  memcpy(words, c, sizeof c);
}

/* The words of elements [0, count) of a plan's box, of 4 or 8 bytes each. */
inline std::vector<uint8_t> words_of(const fastinit_plan &plan, int64_t count) {
  const bool wide = size_of(plan.recipe->dtype) == 8;
  std::vector<uint8_t> made(count * (wide ? 8 : 4));
  uint32_t first[4], second[4];
  uint64_t known = UINT64_MAX;
  for (int64_t i = 0; i < count; i++) {
    const uint64_t index = (uint64_t)plan.start + (uint64_t)(i / plan.cols) * (uint64_t)plan.pitch + (uint64_t)(i % plan.cols);
    if (index >> 2 != known) {
      known = index >> 2;
      philox(plan.key, known, 0, first);
      philox(plan.key, known, 1, second);
    }
    const uint64_t both = (uint64_t)first[index & 3] << 32 | second[index & 3];
    if (wide) memcpy(&made[8 * i], &both, 8);
    else memcpy(&made[4 * i], &first[index & 3], 4);
  }
  return made;
}

/* Those words through the scalar instruction set, in one thread. */
inline std::vector<uint8_t> mapped(const fastinit_recipe &recipe, const std::vector<uint8_t> &words) {
  const int size = size_of(recipe.dtype);
  const int64_t count = (int64_t)words.size() / (size == 8 ? 8 : 4);
  std::vector<uint8_t> made(count * size, ANOTHER);
  fastinit_plan plan = {};
  plan.out = made.data();
  plan.recipe = &recipe;
  if (count > 0 && fastinit_transform(&plan, words.data(), count, 1, FASTINIT_SCALAR)) abort();
  return made;
}

/* A constant as the arithmetic of the dtype has it. */
inline double real_of(const fastinit_recipe &recipe, double x) { return recipe.dtype == FASTINIT_FLOAT64 ? x : (double)(float)x; }

/* Whether the bounds are values of the dtype, as fastinit.h requires. CUDA's fills of 16-bit dtypes clamp after the rounding, so
 * that nothing is promised of them with other bounds. */
inline bool has_own_bounds(const fastinit_recipe &recipe) {
  if (recipe.dtype != FASTINIT_FLOAT16 && recipe.dtype != FASTINIT_BFLOAT16) return true;
  const bool half = recipe.dtype == FASTINIT_FLOAT16;
  for (double bound : {recipe.low, recipe.high}) {
    if (bound == 0 || isinf(bound)) continue;
    const double last = ldexp(1, std::max(ilogb(bound), half ? -14 : -126) - (half ? 10 : 7)); /* the place */
    if (fabs(bound) > (half ? 65504 : 0x1.FEp127) || fmod(bound, last) != 0) return false;
  }
  return true;
}

/* Whether a recipe can be one of a law: constants finite, bounds numbers, their zeros with the contract's signs. Others must only
 * be harmless: instruction sets differ in what they make of NaN. */
inline bool has_promise(const fastinit_recipe &recipe) {
  for (double x : {recipe.slope, recipe.anchor, recipe.std, recipe.cut, recipe.inverse_cut, recipe.offset[0], recipe.offset[1],
                   recipe.scale[0], recipe.scale[1]})
    if (!isfinite(real_of(recipe, x))) return false;
  const double low = real_of(recipe, recipe.low), high = real_of(recipe, recipe.high);
#ifdef PROOF_TWIN
  if (!has_own_bounds(recipe)) return false;
#endif
  if (isnan(low) || isnan(high) || (low == 0 && signbit(low)) || (high == 0 && !signbit(high))) return false;
  if (!has_table(recipe.kind)) return true;
  const int64_t reals = reals_of(recipe);
  const auto are_finite = [&](auto *table) { return std::all_of(table, table + reals, [](double x) { return isfinite(x); }); };
  return recipe.dtype == FASTINIT_FLOAT64 ? are_finite((const double *)recipe.table) : are_finite((const float *)recipe.table);
}

/* Which elements have a promised value: those that are numbers before the clamp, and in the dtype's finite range after it. */
inline std::vector<uint8_t> promised(const fastinit_recipe &recipe, const std::vector<uint8_t> &words) {
  static const double greatest[FASTINIT_DTYPES] = {HUGE_VAL, HUGE_VAL, 65504, HUGE_VAL, 448, 57344, HUGE_VAL, HUGE_VAL};
  const bool wide = recipe.dtype == FASTINIT_FLOAT64;
  const size_t count = words.size() / (size_of(recipe.dtype) == 8 ? 8 : 4);
  if (recipe.kind == FASTINIT_WORDS) return std::vector<uint8_t>(count, true);
  if (!has_promise(recipe)) return std::vector<uint8_t>(count, false);
  fastinit_recipe open = recipe;
  open.low = -HUGE_VAL;
  open.high = HUGE_VAL;
  open.dtype = wide ? FASTINIT_FLOAT64 : FASTINIT_FLOAT32;
  const std::vector<uint8_t> bytes = mapped(open, words);
  const double low = real_of(recipe, recipe.low), high = real_of(recipe, recipe.high);
  std::vector<uint8_t> made(count);
  for (size_t i = 0; i < count; i++) {
    float narrow = 0;
    double v;
    wide ? memcpy(&v, &bytes[8 * i], 8) : memcpy(&narrow, &bytes[4 * i], 4);
    if (!wide) v = narrow;
    const double raised = v <= low ? low : v;
    made[i] = !isnan(v) && fabs(raised >= high ? high : raised) <= greatest[recipe.dtype];
  }
  return made;
}

/* Why the memory is not what a fill of the plan leaves; null where it is. Of elements that share an address, any may be there. */
inline const char *difference(const fastinit_plan &plan, const Memory &memory) {
  enum { GAP, MISSING, FOUND };
  const fastinit_recipe &recipe = *plan.recipe;
  const int64_t elements = (int64_t)elements_of(plan), size = size_of(recipe.dtype), low = (int64_t)extent_of(plan).low;
  const std::vector<uint8_t> words = words_of(plan, elements), values = mapped(recipe, words), known = promised(recipe, words);
  std::vector<uint8_t> states(memory.size() / size, GAP);
  for (int64_t i = 0; i < elements; i++) {
    const int64_t at = offset_of(plan, i) - low;
    if (!known[i] || !memcmp(memory.get() + at * size, &values[i * size], size)) states[at] = FOUND;
    else if (states[at] == GAP) states[at] = MISSING;
  }
  for (size_t at = 0; at < states.size(); at++) {
    if (states[at] == MISSING) return "an element has another value than the scalar instruction set's";
    if (states[at] == FOUND) continue;
    for (int64_t byte = 0; byte < size; byte++)
      if (memory.get()[at * size + byte] != CANARY) return "memory between the elements was written";
  }
  return memory.is_untouched_in_front() ? nullptr : "memory in front of the elements was written";
}

}  // namespace proof
