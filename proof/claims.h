/* Bytes become hostile plans. The memory that a plan points to is as long as the plan claims, to the byte. */
#pragma once

#include <random>

#include "harness.h"

namespace proof {

/* What a call may fill in memory that is given: mostly little, for many calls a second; threads start at 2^18 elements. */
struct Limits {
  int64_t elements, bytes;
};
constexpr Limits USUAL = {1 << 12, 1 << 16}, RARE = {(1 << 18) + 4096, 1 << 20};

constexpr size_t LITTLE = 64; /* bytes behind an `out` that must not be written */

/* The input, read as numbers; zeros behind its end. */
class Bytes {
  const uint8_t *at_, *end_;

 public:
  Bytes(const uint8_t *data, size_t size) : at_(data), end_(data + size) {}
  uint8_t byte() { return at_ < end_ ? *at_++ : 0; }
  bool rarely() { return byte() >= 0xF4; }
  uint64_t raw() {
    uint64_t made = 0;
    for (int i = 0; i < 8; i++) made = made << 8 | byte();
    return made;
  }
  /* Mostly small; else around a power of two or an end of int64, or any. */
  int64_t number() {
    const uint8_t style = byte();
    if (style < 0x90) return byte();
    if (style < 0xB0) return (int64_t)byte() << 8 | byte();
    switch (style % 8) {
      case 0:
      case 1: return (int64_t)(((uint64_t)1 << (byte() & 63)) + (uint64_t)(int8_t)byte());
      case 2: return -(int64_t)byte();
      case 3: return INT64_MAX - byte();
      case 4: return INT64_MIN + byte();
      case 5: return (int32_t)(uint32_t)raw();
      default: return (int64_t)raw();
    }
  }
  double real() {
    const uint8_t style = byte();
    if (style < 0xE0) return ldexp((int8_t)byte(), style % 104 - 64);
    static const double ends[] = {HUGE_VAL, -HUGE_VAL, NAN, 1.7976931348623157e308, 3.4028234663852886e38, 5e-324, -0.0};
    if (style % 8 < 7) return ends[style % 8];
    const uint64_t bits = raw();
    double made;
    memcpy(&made, &bits, sizeof made);
    return made;
  }
};

/* A plan and the memory that it points to. */
struct Claim {
  fastinit_plan plan = {};
  std::unique_ptr<fastinit_recipe> recipe{new fastinit_recipe()};
  Memory out, table;
  std::unique_ptr<int64_t[]> layout;
  bool is_good = false, is_large = false; /* by itself: the call may be bad, the list too large */
};

inline void read_recipe(Bytes &bytes, Claim &claim) {
  fastinit_recipe &recipe = *claim.recipe;
  const uint8_t style = bytes.byte(), shape = bytes.byte(), top_bits = bytes.byte();
  recipe.dtype = style < 0xF0 ? style % 8 : (int32_t)bytes.number();
  recipe.kind = style >= 0xF0 ? (int32_t)bytes.number() : recipe.dtype >= FASTINIT_UINT32 ? FASTINIT_WORDS : style / 8 % 4;
  recipe.cells = recipe.dtype == FASTINIT_FLOAT64 ? 256 : shape % 2 ? 32 : 64;
  recipe.terms = recipe.dtype == FASTINIT_FLOAT64 ? 13 : shape % 2 ? 5 : 7;
  if (shape >= 0xF0) (shape & 2 ? recipe.cells : recipe.terms) = (int32_t)bytes.number();
  recipe.top_bits = top_bits < 0xF0 ? top_bits % 17 : (int32_t)bytes.number();
  claim.plan.key = (uint64_t)bytes.number();
  recipe.flip = (uint64_t)bytes.number();
  for (double *x : {&recipe.slope, &recipe.anchor, &recipe.std, &recipe.cut, &recipe.inverse_cut, &recipe.low, &recipe.high})
    *x = bytes.real();
  for (int half = 0; half < 2; half++) {
    recipe.offset[half] = bytes.real();
    recipe.scale[half] = bytes.real();
  }
}

template <class R> void read_table(Bytes &bytes, R *table, int64_t reals) {
  const uint8_t style = bytes.byte();
  const double all = bytes.real();
  std::mt19937_64 random(bytes.byte());
  for (int64_t i = 0; i < reals; i++) {
    const uint64_t bits = random();
    if (style % 4 == 0) table[i] = (R)all;
    else if (style % 4 == 1) table[i] = (R)ldexp((double)(int64_t)bits, -63);
    else if (style % 4 == 2) table[i] = (R)ldexp((double)(int8_t)bits, (int)(bits >> 8 & 63) - 32);
    else memcpy(&table[i], &bits, sizeof(R));
  }
  for (int patches = bytes.byte() % 4; patches > 0; patches--) table[(uint64_t)bytes.number() % reals] = (R)bytes.real();
}

/* A table as long as the kind, the dtype and the shape say; where they are refused, an address that must not be read. */
inline void give_recipe(Bytes &bytes, Claim &claim) {
  read_recipe(bytes, claim);
  fastinit_recipe &recipe = *claim.recipe;
  claim.plan.recipe = &recipe;
  recipe.table = claim.table.get();
  if (has_table(recipe.kind) && !refusals_of_recipe(&recipe)) {
    const int64_t reals = reals_of(recipe);
    claim.table = Memory(reals * (recipe.dtype == FASTINIT_FLOAT64 ? sizeof(double) : sizeof(float)));
    recipe.table = claim.table.get();
    if (recipe.dtype == FASTINIT_FLOAT64) read_table(bytes, (double *)claim.table.get(), reals);
    else read_table(bytes, (float *)claim.table.get(), reals);
  }
  const uint8_t null = bytes.byte();
  if (null >= 0xFA) claim.plan.recipe = nullptr;
  else if (null >= 0xF4) recipe.table = nullptr;
}

/* Sizes and strides: mostly those of some order of the axes, with gaps, reversals and repetitions. */
inline void read_layout(Bytes &bytes, Claim &claim) {
  const uint8_t style = bytes.byte();
  const bool outer_first = style & 1;
  const int64_t dims = style < 0x60 ? 0 : style < 0xD0 ? style % 7 : style < 0xF4 ? style % 65 : bytes.number();
  const bool is_read = dims > 0 && dims <= FASTINIT_MAX_DIMS;
  claim.layout.reset(new int64_t[is_read ? 2 * dims : 0]);
  claim.plan.dims = dims;
  claim.plan.layout = claim.layout.get();
  uint64_t step = 1;
  for (int64_t i = 0; is_read && i < dims; i++) {
    const int64_t d = outer_first ? i : dims - 1 - i;
    const uint8_t size = bytes.byte(), stride = bytes.byte();
    int64_t *const at = claim.layout.get() + d;
    at[0] = size >= 0xF8 ? bytes.number() : dims > 8 ? 1 + (size % 16 == 0) : 1 + size % 5;
    if (stride % 8 == 6) step += stride >> 4;
    at[dims] = stride >= 0xF0 ? bytes.number() : stride % 16 == 5 ? 0 : (int64_t)(stride % 8 == 4 ? 0 - step : step);
    step *= (uint64_t)at[0];
  }
  if (bytes.rarely()) claim.plan.layout = nullptr;
}

inline void read_box(Bytes &bytes, fastinit_plan &plan) {
  Wide product = 1;
  for (int64_t d = 0; plan.layout && d < plan.dims && plan.dims <= FASTINIT_MAX_DIMS; d++)
    product = std::min(product * std::max<int64_t>(plan.layout[d], 0), (Wide)INT64_MAX);
  const uint8_t style = bytes.byte(), pitch = bytes.byte();
  const int64_t elements = plan.dims > 0 ? (int64_t)product : bytes.number(), part = bytes.number();
  const bool is_part = part > 0 && elements % part == 0;
  plan.rows = style >= 0xF0 ? bytes.number() : style % 4 == 0 ? elements : style % 4 == 1 && is_part ? elements / part : 1;
  plan.cols = style >= 0xF8 ? bytes.number() : style % 4 == 0 ? 1 : style % 4 == 1 && is_part ? part : elements;
  plan.pitch = pitch % 4 == 0 ? bytes.number() : (int64_t)((uint64_t)plan.cols + pitch / 4);
  plan.start = bytes.number();
}

/* Memory of elements of `size` bytes; of a plan that is refused, little. */
inline void give_memory(Bytes &bytes, Claim &claim, const Limits &limits, int size) {
  fastinit_plan &plan = claim.plan;
  claim.out = Memory(LITTLE);
  plan.out = claim.out.get();
  claim.is_good = !refusals_of_recipe(plan.recipe) && !refusals_of_place(plan);
  const size_t skip = bytes.byte() % 16;
  if (claim.is_good) {
    const Extent extent = extent_of(plan);
    claim.is_large = extent.end - extent.low > limits.bytes / size || elements_of(plan) > limits.elements;
    if (!claim.is_large) {
      claim.out = Memory((size_t)(extent.end - extent.low) * size, skip);
      plan.out = claim.out.get() - (int64_t)extent.low * size;
    }
  }
  if (bytes.rarely()) plan.out = nullptr;
}

inline void read_claim(Bytes &bytes, Claim &claim, const Limits &limits) {
  give_recipe(bytes, claim);
  read_layout(bytes, claim);
  read_box(bytes, claim.plan);
  const bool known = !refusals_of_recipe(claim.plan.recipe);
  give_memory(bytes, claim, limits, known ? size_of(claim.plan.recipe->dtype) : 1);
}

inline int32_t read_isa(Bytes &bytes) {
  const uint8_t style = bytes.byte();
  if (style >= 0xF8) return (int32_t)bytes.number();
  const int32_t isa = style % FASTINIT_ISAS;
  return fastinit_check_isa(isa) && style < 0xE0 ? FASTINIT_SCALAR : isa;
}

inline int32_t read_threads(Bytes &bytes) {
  const uint8_t style = bytes.byte();
  return style >= 0xE0 ? (int32_t)bytes.number() : style % 8 == 7 ? INT32_MAX : 1 + style % 8;
}

}  // namespace proof
