/* Plans of one dtype to launches: by tiles where they are made of whole Philox blocks at multiples of 16 bytes, otherwise by
 * elements. */
#pragma once

#include "axes.h"
#include "batch.h"

namespace fastinit {
namespace {

constexpr int64_t MOST_VECTORS = (int64_t)1 << 30;  /* of a row */
constexpr int64_t MOST_TILES = (int64_t)1 << 30;    /* of a row */
constexpr int64_t SHARED_BLOCKS = (int64_t)1 << 32; /* have the upper half of their number in common */

/* The parameters of a kernel with one recipe: in float64 its table alone is 26 KB. */
template <int DTYPE> constexpr int ROOM = IS_WIDE<DTYPE> ? MUCH : LITTLE;

/* --- by elements ----------------------------------------------------------------------------------------------------------- */

/* Call start(half) for the launches that a recipe takes. */
template <class Start> int32_t for_halves(const fastinit_recipe &recipe, Start start) {
  if (!is_halved(recipe)) return start(BOTH);
  if (int32_t status = start(LOWER)) return status;
  return start(UPPER);
}

/* The plan's elements on `count` axes that begin at the local element `local` and the address `out`. */
Place place_of(const fastinit_plan &plan, const Axes &axes, int count, char *out, int64_t local) {
  Place place;
  place.out = out;
  place.key = plan.key;
  place.start = plan.start;
  place.first = local;
  place.axes = count;
  place.elements = 1;
  for (int a = 0; a < count; a++) {
    place.axis[a] = axes.axis[a];
    place.elements *= axes.axis[a].size;
  }
  place.cols = plan.rows > 1 ? plan.cols : 0;
  place.pitch = plan.pitch;
  place.narrow = plan.rows * plan.cols < ((int64_t)1 << 32);
  place.recipe = sizeof(Place);
  return place;
}

template <int DTYPE> int32_t fill_place(const Target &target, const fastinit_recipe &recipe, Place place) {
  return for_halves(recipe, [&](int32_t half) {
    Launch<ROOM<DTYPE>> launch;
    place.half = half;
    memcpy(launch.data, &place, sizeof place);
    if constexpr (!IS_WORDS<DTYPE>) write_recipe<DTYPE>(recipe, half, launch.data + place.recipe);
    return start_for<fill_elements<DTYPE, ROOM<DTYPE>>>(target, place.elements, launch);
  });
}

/* Axes beyond those that a launch takes are walked on the host. */
template <int DTYPE>
int32_t fill_by_elements(const Target &target, const fastinit_plan &plan, const Axes &axes, int count, char *out, int64_t local) {
  if (count <= MOST_AXES) return fill_place<DTYPE>(target, *plan.recipe, place_of(plan, axes, count, out, local));
  const Axis &outer = axes.axis[count - 1];
  for (int64_t i = 0; i < outer.size; i++) {
    char *const at = out + i * outer.stride * SIZE<DTYPE>;
    if (int32_t status = fill_by_elements<DTYPE>(target, plan, axes, count - 1, at, local + i * outer.step)) return status;
  }
  return FASTINIT_OK;
}

template <int DTYPE> int32_t fill_all_by_elements(const Target &target, const fastinit_plan &plan) {
  const Axes axes(plan, plan.rows * plan.cols);
  return fill_by_elements<DTYPE>(target, plan, axes, axes.count, (char *)plan.out, 0);
}

/* --- by tiles -------------------------------------------------------------------------------------------------------------- */

/* Whether a contiguous tensor's rows are lines of whole vectors, long enough to keep most of a tile's threads busy, in the same
 * 2^32 blocks. */
template <int DTYPE> bool has_lines(const fastinit_plan &plan) {
  const int64_t tiles = (plan.cols + TILE<DTYPE> - 1) / TILE<DTYPE>;
  const uint64_t first = (uint64_t)plan.start / 4;
  const uint64_t last = (uint64_t)(plan.start + (plan.rows - 1) * plan.pitch + plan.cols - 1) / 4;
  return plan.cols % VECTOR<DTYPE> == 0 && plan.pitch % 4 == 0 && plan.cols * 4 >= TILE<DTYPE> &&
         plan.cols / VECTOR<DTYPE> <= MOST_VECTORS && first >> 32 == last >> 32 && plan.rows * tiles < MOST_TILES;
}

/* Cut a contiguous tensor whose elements have consecutive indices into rows that a launch takes: call add(offset, block, elements)
 * for each, and rest(offset, plan) for what is left where a row would begin at no multiple of 16 bytes. */
template <int DTYPE, class Add, class Rest> int32_t for_rows(const fastinit_plan &plan, Add add, Rest rest) {
  uint64_t block = (uint64_t)plan.start / 4;
  for (int64_t left = plan.rows * plan.cols, offset = 0; left > 0;) {
    char *const out = (char *)plan.out + offset * SIZE<DTYPE>;
    if ((uintptr_t)out % 16) { /* a boundary of 2^32 blocks was in the middle of a vector */
      fastinit_plan part = plan;
      part.out = out;
      part.start = (int64_t)block * 4;
      part.rows = 1;
      part.cols = left;
      part.dims = 0;
      return rest(offset, part);
    }
    const int64_t shared = (SHARED_BLOCKS - (int64_t)(block % SHARED_BLOCKS)) * 4, most = MOST_VECTORS * VECTOR<DTYPE>;
    const int64_t allowed = shared < most ? shared : most, here = left < allowed ? left : allowed;
    if (int32_t status = add(offset, block, here)) return status;
    offset += here;
    block += (uint64_t)(here / 4);
    left -= here;
  }
  return FASTINIT_OK;
}

template <int DTYPE> int32_t add_rows(const Target &target, Batch<DTYPE> &batch, const fastinit_plan &plan) {
  const auto add = [&](int64_t offset, uint64_t block, int64_t elements) {
    return batch.add(plan, (char *)plan.out + offset * SIZE<DTYPE>, block, 1, elements, 0);
  };
  const auto rest = [&](int64_t, const fastinit_plan &part) { return fill_all_by_elements<DTYPE>(target, part); };
  return for_rows<DTYPE>(plan, add, rest);
}

template <int DTYPE> int32_t fill_plan(const Target &target, Batch<DTYPE> &batch, const fastinit_plan &plan) {
  const int64_t elements = plan.rows * plan.cols;
  if (elements == 0) return FASTINIT_OK;
  const bool is_aligned = (uintptr_t)plan.out % 16 == 0 && plan.start % 4 == 0;
  if (!is_aligned || is_halved(*plan.recipe) || !Axes(plan, elements).is_contiguous())
    return fill_all_by_elements<DTYPE>(target, plan);
  if (plan.rows == 1 || plan.cols == plan.pitch) return add_rows<DTYPE>(target, batch, plan);
  if (!has_lines<DTYPE>(plan)) return fill_all_by_elements<DTYPE>(target, plan);
  return batch.add(plan, (char *)plan.out, (uint64_t)plan.start / 4, plan.rows, plan.cols, plan.pitch / 4);
}

template <int DTYPE> int32_t fill_dtype(const Target &target, const fastinit_plan *plans, int64_t count) {
  Batch<DTYPE> batch(target);
  for (int64_t i = 0; i < count; i++) {
    if (plans[i].recipe->dtype != DTYPE) continue;
    if (int32_t status = fill_plan<DTYPE>(target, batch, plans[i])) return status;
  }
  return batch.flush();
}

/* --- given words ----------------------------------------------------------------------------------------------------------- */

template <int DTYPE>
int32_t map_dtype(const Target &target, const fastinit_recipe &recipe, const void *words, int64_t count, void *out) {
  return for_halves(recipe, [&](int32_t half) {
    Launch<ROOM<DTYPE>> launch;
    Given &given = *(Given *)launch.data;
    given = {(const char *)words, (char *)out, count, (int32_t)sizeof(Given), half};
    if constexpr (!IS_WORDS<DTYPE>) write_recipe<DTYPE>(recipe, half, launch.data + given.recipe);
    return start_for<map_words<DTYPE, ROOM<DTYPE>>>(target, count, launch);
  });
}

}  // namespace
}  // namespace fastinit
