/* What both libraries ask of a plan before they write a byte, and the statuses in English. */
#pragma once

#include "fastinit.h"
#include "variant.h"

namespace fastinit {

/* Bytes of an element of a fastinit_dtype. */
static constexpr int item_size(int32_t dtype) {
  switch (dtype) {
    case FASTINIT_FLOAT64:
    case FASTINIT_UINT64: return 8;
    case FASTINIT_FLOAT16:
    case FASTINIT_BFLOAT16: return 2;
    case FASTINIT_FLOAT8_E4M3FN:
    case FASTINIT_FLOAT8_E5M2: return 1;
    default: return 4;
  }
}

static const char *const MESSAGES[FASTINIT_STATUSES] = {
    "no error",
    "a pointer that the plan needs is null",
    "the kind is unknown or does not go with the dtype",
    "the dtype is unknown",
    "the index box is negative or its indices leave 0 <= index < 2^63",
    "the memory layout has too many dimensions, or its sizes do not multiply to the elements of the box",
    "the quantile table has a shape that no kernel is compiled for",
    "the instruction set is not supported by this processor",
    "a count is negative, or there are no threads",
    "an address is not a multiple of its element's size",
    "2^41 elements or more do not fit into one fill",
    "there is no such device, or its compute capability is below 7.5",
    "the driver is older than CUDA 12.1",
    "keep or a coefficient is not a finite number of the arithmetic",
    "too many keys for one launch: give them in parts, by way of a float32 tensor",
    "the instruction set is not built into this library: it is one of other processors",
};

static inline const char *message(int32_t status) {
  return status >= 0 && status < FASTINIT_STATUSES ? MESSAGES[status] : "an unknown status";
}

static inline bool has_shape(const fastinit_recipe &recipe, Shape shape) {
  return recipe.cells == shape.cells && recipe.terms == shape.terms;
}

static inline int32_t check_table(const fastinit_recipe &recipe) {
  if (!recipe.table) return FASTINIT_NULL_POINTER;
  const bool is_known =
      recipe.dtype == FASTINIT_FLOAT64 ? has_shape(recipe, DOUBLE) : has_shape(recipe, SMALL) || has_shape(recipe, LARGE);
  return is_known && recipe.top_bits >= 0 && recipe.top_bits <= 16 ? FASTINIT_OK : FASTINIT_BAD_TABLE;
}

static inline int32_t check_recipe(const fastinit_recipe *recipe) {
  if (!recipe) return FASTINIT_NULL_POINTER;
  const int32_t kind = recipe->kind, dtype = recipe->dtype;
  if (kind < 0 || kind >= FASTINIT_KINDS) return FASTINIT_BAD_KIND;
  if (dtype < 0 || dtype >= FASTINIT_DTYPES) return FASTINIT_BAD_DTYPE;
  const bool words = dtype == FASTINIT_UINT32 || dtype == FASTINIT_UINT64;
  if (words != (kind == FASTINIT_WORDS)) return FASTINIT_BAD_KIND;
  return has_table(*recipe) ? check_table(*recipe) : FASTINIT_OK;
}

static inline int32_t check_layout(const fastinit_plan &plan, int64_t elements) {
  if (plan.dims < 0 || plan.dims > FASTINIT_MAX_DIMS) return FASTINIT_BAD_LAYOUT;
  if (plan.dims == 0) return FASTINIT_OK;
  int64_t product = 1;
  for (int64_t d = 0; d < plan.dims; d++)
    if (plan.layout[d] < 1 || __builtin_mul_overflow(product, plan.layout[d], &product)) return FASTINIT_BAD_LAYOUT;
  return product == elements ? FASTINIT_OK : FASTINIT_BAD_LAYOUT;
}

/* Check a plan's box and its memory. The memory of an empty box is not asked for. */
static inline int32_t check_place(const fastinit_plan &plan, int64_t *elements) {
  int64_t last;
  if (plan.rows < 0 || plan.cols < 0 || plan.start < 0 || plan.pitch < 0) return FASTINIT_BAD_BOX;
  if (__builtin_mul_overflow(plan.rows, plan.cols, elements)) return FASTINIT_BAD_BOX;
  if (*elements == 0) return FASTINIT_OK;
  if (__builtin_mul_overflow(plan.rows - 1, plan.pitch, &last) || __builtin_add_overflow(last, plan.start, &last) ||
      __builtin_add_overflow(last, plan.cols - 1, &last))
    return FASTINIT_BAD_BOX;
  if (!plan.out || (plan.dims > 0 && !plan.layout)) return FASTINIT_NULL_POINTER;
  return check_layout(plan, *elements);
}

static inline bool is_real(double x, bool wide) { return x - x == 0 && (wide || (double)(float)x == x); }

/* Check a blending: its plan, what it reads, its members. */
static inline int32_t check_blending(const fastinit_blending &blending, int64_t *elements) {
  const fastinit_plan &plan = blending.to;
  const int32_t dtype = blending.dtype, real = dtype == FASTINIT_FLOAT64 ? FASTINIT_FLOAT64 : FASTINIT_FLOAT32;
  if (int32_t status = check_recipe(plan.recipe)) return status;
  if (dtype < 0 || dtype >= FASTINIT_UINT32 || plan.recipe->dtype != real) return FASTINIT_BAD_DTYPE;
  if (int32_t status = check_place(plan, elements)) return status;
  if (blending.members < 0) return FASTINIT_BAD_COUNT;
  if (blending.members > 0 && (!blending.keys || !blending.add)) return FASTINIT_NULL_POINTER;
  if (!is_real(blending.keep, real == FASTINIT_FLOAT64)) return FASTINIT_BAD_NUMBER;
  for (int64_t n = 0; n < blending.members; n++)
    if (!is_real(blending.add[n], real == FASTINIT_FLOAT64)) return FASTINIT_BAD_NUMBER;
  const bool reads = *elements > 0 && blending.keep != 0;
  return reads && (!blending.source || (plan.dims > 0 && !blending.source_strides)) ? FASTINIT_NULL_POINTER : FASTINIT_OK;
}

}  // namespace fastinit
