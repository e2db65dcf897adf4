/* Blends as harness.h and claims.h have fills: what must become of them, written independently; and bytes become hostile ones. */
#pragma once

#include "claims.h"

namespace proof {

constexpr int64_t MOST_MEMBERS = 5;

/* --- what a blending must do ----------------------------------------------------------------------------------------------- */

inline bool is_wide(int32_t dtype) { return dtype == FASTINIT_FLOAT64; }

inline bool is_number_of(double x, int32_t dtype) { return isfinite(x) && (is_wide(dtype) || x == (double)(float)x); }

/* The statuses with which a blending may be refused, as bits; 0: it must be accepted. */
inline uint32_t refusals_of_blending(const fastinit_blending &b) {
  if (uint32_t found = refusals_of_recipe(b.to.recipe)) return found;
  uint32_t found = refusals_of_place(b.to);
  const bool dtype = b.dtype >= 0 && b.dtype < FASTINIT_UINT32;
  if (!dtype || b.to.recipe->dtype != (is_wide(b.dtype) ? FASTINIT_FLOAT64 : FASTINIT_FLOAT32)) found |= bit(FASTINIT_BAD_DTYPE);
  if (b.members < 0) found |= bit(FASTINIT_BAD_COUNT);
  if (b.members > 0 && !(b.keys && b.add)) found |= bit(FASTINIT_NULL_POINTER);
  bool numbers = is_number_of(b.keep, b.dtype);
  for (int64_t n = 0; b.add && n < b.members; n++) numbers &= is_number_of(b.add[n], b.dtype);
  if (!numbers) found |= bit(FASTINIT_BAD_NUMBER);
  const bool reads = elements_of(b.to) > 0 && b.keep != 0;
  if (reads && (!b.source || (b.to.dims > 0 && !b.source_strides))) found |= bit(FASTINIT_NULL_POINTER);
  return found;
}

/* A format of at most 32 bits. */
struct Format {
  int mantissa, bias, bits;
  double greatest;
};
inline Format format_of(int32_t dtype) {
  switch (dtype) {
    case FASTINIT_FLOAT16: return {10, 15, 16, 65504};
    case FASTINIT_BFLOAT16: return {7, 127, 16, 0x1.FEp127};
    case FASTINIT_FLOAT8_E4M3FN: return {3, 7, 8, 448};
    case FASTINIT_FLOAT8_E5M2: return {2, 15, 8, 57344};
    default: return {23, 127, 32, 0x1.FFFFFEp127};
  }
}

inline double widened(uint32_t pattern, int32_t dtype) {
  const Format f = format_of(dtype);
  const uint32_t size = pattern & ((1u << (f.bits - 1)) - 1), one = 1u << f.mantissa, field = size >> f.mantissa;
  double v = field ? ldexp(one + size % one, (int)field - f.bias - f.mantissa) : ldexp(size, 1 - f.bias - f.mantissa);
  if (v > f.greatest) v = dtype != FASTINIT_FLOAT8_E4M3FN && size % one == 0 ? HUGE_VAL : NAN;
  return pattern >> (f.bits - 1) ? -v : v;
}

/* A number rounded once, by arithmetic, where the library shifts bits. NaN becomes all bits but the sign. */
inline uint32_t narrowed(double v, int32_t dtype) {
  const Format f = format_of(dtype);
  const uint32_t sign = (uint32_t)(signbit(v) ? 1u : 0u) << (f.bits - 1), nan = (1u << (f.bits - 1)) - 1;
  const bool has_infinity = dtype != FASTINIT_FLOAT8_E4M3FN;
  if (isnan(v)) return nan;
  double size = fabs(v);
  if (size > 0 && !isinf(size)) {
    const double unit = ldexp(1, std::max(ilogb(size), 1 - f.bias) - f.mantissa);
    size = nearbyint(size / unit) * unit;
  }
  if (size > f.greatest && !has_infinity) size = f.greatest;
  if (size > f.greatest) return sign | (nan >> f.mantissa << f.mantissa);
  if (size == 0) return sign;
  const int exponent = std::max(ilogb(size), 1 - f.bias), field = ilogb(size) < 1 - f.bias ? 0 : exponent + f.bias - 1;
  return sign | (((uint32_t)field << f.mantissa) + (uint32_t)ldexp(size, f.mantissa - exponent));
}

/* Elements of memory as doubles, and back. */
inline double number_at(const uint8_t *at, int32_t dtype) {
  double wide = 0;
  uint32_t pattern = 0;
  if (is_wide(dtype)) memcpy(&wide, at, 8);
  else memcpy(&pattern, at, size_of(dtype));
  return is_wide(dtype) ? wide : widened(pattern, dtype);
}
inline void put_number(uint8_t *at, int32_t dtype, double v) {
  const uint64_t nan = INT64_MAX;
  const uint32_t pattern = is_wide(dtype) ? 0 : narrowed(v, dtype);
  if (!is_wide(dtype)) memcpy(at, &pattern, size_of(dtype));
  else if (isnan(v)) memcpy(at, &nan, 8);
  else memcpy(at, &v, 8);
}

/* The layout of a blending's source, as a plan's. */
struct SourceLayout {
  std::vector<int64_t> numbers;
  fastinit_plan plan;
  explicit SourceLayout(const fastinit_blending &b) : plan(b.to) {
    if (plan.dims <= 0 || plan.dims > FASTINIT_MAX_DIMS || !plan.layout || !b.source_strides) return;
    numbers.assign(plan.layout, plan.layout + plan.dims);
    numbers.insert(numbers.end(), b.source_strides, b.source_strides + plan.dims);
    plan.layout = numbers.data();
  }
};

/* The sums in order, of what the source's elements were, in the blending's dtype; and which are promised. */
inline std::vector<uint8_t> blended(const fastinit_blending &b, const std::vector<double> &old, std::vector<uint8_t> &known) {
  const bool wide = is_wide(b.dtype);
  const int size = size_of(b.dtype), real = wide ? 8 : 4;
  const int64_t count = (int64_t)old.size();
  std::vector<double> sums(count, 0.0);
  known.assign(count, true);
  for (int64_t i = 0; b.keep != 0 && i < count; i++) sums[i] = wide ? b.keep * old[i] : (double)((float)b.keep * (float)old[i]);
  for (int64_t n = 0; n < b.members; n++) {
    fastinit_plan plan = b.to;
    plan.key = b.keys[n];
    const std::vector<uint8_t> words = words_of(plan, count), values = mapped(*plan.recipe, words),
                               told = promised(*plan.recipe, words);
    for (int64_t i = 0; i < count; i++) {
      const double v = number_at(&values[i * real], wide ? FASTINIT_FLOAT64 : FASTINIT_FLOAT32);
      known[i] &= told[i] && isfinite(v);
      sums[i] = wide ? fma(b.add[n], v, sums[i]) : (double)fmaf((float)b.add[n], (float)v, (float)sums[i]);
    }
  }
  std::vector<uint8_t> made(count * size);
  for (int64_t i = 0; i < count; i++) put_number(&made[i * size], b.dtype, sums[i]);
  return made;
}

/* --- hostile ones ---------------------------------------------------------------------------------------------------------- */

/* A blending and the memory that it points to. */
struct BlendClaim {
  Claim to;
  fastinit_blending blending = {};
  Memory source;
  std::unique_ptr<int64_t[]> strides;
  std::unique_ptr<uint64_t[]> keys;
  std::unique_ptr<double[]> add;
  std::vector<uint8_t> before, source_before; /* the bytes of out and source */
  bool is_in_place = false, is_good = false;

  int64_t low() const { return (int64_t)extent_of(blending.to).low; }
  std::vector<uint8_t> copy(const Memory &memory) const { return {memory.get(), memory.get() + memory.size()}; }
};

/* Numbers of every size, NaN and infinities among them; behind the input's end, numbers near 1. */
inline void write_old(Bytes &bytes, const Memory &memory) {
  std::mt19937_64 random(bytes.byte());
  const bool any = bytes.byte() < 0x80;
  for (size_t i = 0; i < memory.size(); i++) memory.get()[i] = any ? (uint8_t)(random() >> 32) : 0x3C;
  for (size_t i = 0; i < memory.size() && i < 8; i++) memory.get()[i] ^= bytes.byte();
}

/* Mostly one of the real type. */
inline double number_of(Bytes &bytes, int32_t dtype) {
  const double x = bytes.real();
  if (bytes.rarely() || is_number_of(x, dtype)) return x;
  return isfinite((float)x) ? (double)(float)x : 0x1.8p120;
}

inline void give_members(Bytes &bytes, BlendClaim &claim) {
  fastinit_blending &b = claim.blending;
  const uint8_t style = bytes.byte();
  const int64_t asked = style < 0xF0 ? style % (MOST_MEMBERS + 1) : bytes.number();
  const int64_t given = std::max<int64_t>(0, std::min<int64_t>(asked, MOST_MEMBERS));
  claim.keys.reset(new uint64_t[given]);
  claim.add.reset(new double[given]);
  for (int64_t n = 0; n < given; n++) {
    claim.keys[n] = (uint64_t)bytes.number();
    claim.add[n] = number_of(bytes, b.dtype);
  }
  b.members = asked < 0 ? asked : given;
  b.keys = bytes.rarely() ? nullptr : claim.keys.get();
  b.add = bytes.rarely() ? nullptr : claim.add.get();
  b.keep = bytes.byte() % 4 == 0 ? 0.0 : number_of(bytes, b.dtype);
}

/* In place; or apart, with strides that are the tensor's, those of contiguous memory, backward or repeated ones. */
inline void give_source(Bytes &bytes, BlendClaim &claim, const Limits &limits) {
  fastinit_blending &b = claim.blending;
  const int64_t dims = b.to.dims;
  const uint8_t style = bytes.byte();
  const bool is_read = dims > 0 && dims <= FASTINIT_MAX_DIMS && b.to.layout;
  claim.is_in_place = style < 0x60;
  claim.strides.reset(new int64_t[is_read ? dims : 0]);
  uint64_t step = 1;
  for (int64_t d = dims - 1; is_read && d >= 0; d--) {
    claim.strides[d] = style < 0xA0      ? b.to.layout[dims + d]
                       : style % 16 == 5 ? 0
                       : style % 2       ? (int64_t)(0 - step)
                                         : (int64_t)step;
    step *= (uint64_t)b.to.layout[d];
  }
  b.source_strides = claim.strides.get();
  b.source = claim.is_in_place ? b.to.out : claim.source.get();
  if (claim.is_good && !claim.is_in_place) {
    const SourceLayout layout(b);
    const Extent extent = extent_of(layout.plan);
    const int size = size_of(b.dtype);
    if (extent.end - extent.low > limits.bytes / size) claim.to.is_large = true;
    else {
      claim.source = Memory((size_t)(extent.end - extent.low) * size, bytes.byte() % 16);
      b.source = claim.source.get() - (int64_t)extent.low * size;
    }
  }
  const uint8_t null = bytes.byte();
  if (null >= 0xFA) b.source = nullptr;
  else if (null >= 0xF4) b.source_strides = nullptr;
}

inline void read_blend(Bytes &bytes, BlendClaim &claim, const Limits &limits) {
  fastinit_blending &b = claim.blending;
  give_recipe(bytes, claim.to);
  const uint8_t style = bytes.byte();
  fastinit_recipe &recipe = *claim.to.recipe;
  if (style < 0xF0 && recipe.dtype != FASTINIT_FLOAT64) { /* in which no sum is made */
    recipe.dtype = FASTINIT_FLOAT32;
    if (recipe.kind == FASTINIT_WORDS) recipe.kind = FASTINIT_UNIFORM;
  }
  static const int32_t narrow[] = {FASTINIT_FLOAT32, FASTINIT_FLOAT16, FASTINIT_BFLOAT16, FASTINIT_FLOAT8_E4M3FN,
                                   FASTINIT_FLOAT8_E5M2};
  b.dtype = style >= 0xF8 ? (int32_t)bytes.number() : is_wide(recipe.dtype) ? FASTINIT_FLOAT64 : narrow[style % 5];
  read_layout(bytes, claim.to);
  read_box(bytes, claim.to.plan);
  const bool known = b.dtype >= 0 && b.dtype < FASTINIT_DTYPES;
  give_memory(bytes, claim.to, limits, known ? size_of(b.dtype) : 8);
  b.to = claim.to.plan;
  give_members(bytes, claim);
  claim.is_good = known && claim.to.is_good;
  give_source(bytes, claim, limits);
  write_old(bytes, claim.to.out);
  write_old(bytes, claim.source);
  claim.before = claim.copy(claim.to.out);
  claim.source_before = claim.copy(claim.source);
}

/* A good one of three members, onto any bits: in place, or from memory of its own whose last axis is backward. */
inline BlendClaim blend_of(const fastinit_plan &plan, int32_t dtype, bool in_place) {
  static const uint64_t keys[] = {1, UINT64_MAX, 1 << 30};
  static const double add[] = {0.75, -3, 0x1p-20};
  BlendClaim claim;
  fastinit_blending &b = claim.blending;
  b.to = plan;
  b.keys = keys;
  b.add = add;
  b.members = 3;
  b.keep = in_place ? 1 : -0.625;
  b.dtype = dtype;
  const Extent extent = extent_of(plan);
  const int64_t dims = plan.dims, size = size_of(dtype);
  claim.to.out = Memory((size_t)((extent.end - extent.low) * size), (size_t)size);
  claim.source = Memory(in_place ? 0 : (size_t)(elements_of(plan) * size), 1);
  claim.strides.reset(new int64_t[dims]);
  int64_t step = 1;
  for (int64_t d = dims - 1; d >= 0; step *= plan.layout[d--]) claim.strides[d] = d == dims - 1 ? -step : step;
  std::mt19937 random(1);
  for (const Memory *memory : {&claim.to.out, &claim.source})
    for (size_t i = 0; i < memory->size(); i++) memory->get()[i] = (uint8_t)random();
  claim.before = claim.copy(claim.to.out);
  claim.source_before = claim.copy(claim.source);
  claim.is_in_place = in_place;
  b.to.out = claim.to.out.get() - (int64_t)extent.low * size;
  b.source = in_place ? b.to.out : claim.source.get() + (dims ? (plan.layout[dims - 1] - 1) * size : 0);
  b.source_strides = in_place ? plan.layout + dims : claim.strides.get();
  return claim;
}

inline bool is_untouched(const BlendClaim &claim) {
  return claim.copy(claim.to.out) == claim.before && claim.copy(claim.source) == claim.source_before &&
         claim.to.out.is_untouched_in_front() && claim.source.is_untouched_in_front();
}

/* Why the memory is not what a blending leaves; null where it is. Of elements that share an address, any may be there; and
 * where they are what is read, too, nothing is promised of them. */
inline const char *difference(const BlendClaim &claim) {
  enum { GAP, MISSING, FOUND };
  const fastinit_blending &b = claim.blending;
  const int64_t elements = (int64_t)elements_of(b.to), size = size_of(b.dtype), low = claim.low();
  const SourceLayout layout(b);
  const std::vector<uint8_t> &from = claim.is_in_place ? claim.before : claim.source_before;
  const int64_t first = claim.is_in_place ? low : (int64_t)extent_of(layout.plan).low;
  const fastinit_plan &read = claim.is_in_place ? b.to : layout.plan;
  std::vector<double> old(elements, 0.0);
  for (int64_t i = 0; b.keep != 0 && i < elements; i++) old[i] = number_at(&from[(offset_of(read, i) - first) * size], b.dtype);
  std::vector<uint8_t> known;
  const std::vector<uint8_t> values = blended(b, old, known);
  std::vector<uint8_t> states(claim.before.size() / size, GAP), times(states.size(), 0);
  for (int64_t i = 0; i < elements; i++) times[offset_of(b.to, i) - low] |= times[offset_of(b.to, i) - low] ? 2 : 1;
  for (int64_t i = 0; i < elements; i++) {
    const int64_t at = offset_of(b.to, i) - low;
    const bool free = !known[i] || (claim.is_in_place && times[at] > 1);
    if (free || !memcmp(claim.to.out.get() + at * size, &values[i * size], size)) states[at] = FOUND;
    else if (states[at] == GAP) states[at] = MISSING;
  }
  for (size_t at = 0; at < states.size(); at++) {
    if (states[at] == MISSING) return "an element has another value than the sum";
    if (states[at] == GAP && memcmp(claim.to.out.get() + at * size, &claim.before[at * size], size))
      return "memory between the elements was written";
  }
  if (claim.copy(claim.source) != claim.source_before) return "the source was written";
  return claim.to.out.is_untouched_in_front() ? nullptr : "memory in front of the elements was written";
}

}  // namespace proof
