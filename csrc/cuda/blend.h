/* Blendings of one dtype to launches, as fill.h and batch.h do with plans: by tiles where tensor and source are made of whole
 * Philox blocks at multiples of 16 bytes, otherwise by elements. */
#pragma once

#include "blend_kernel.h"
#include "fill.h"

namespace fastinit {
namespace {

/* What lies in a launch: what names tensors in front; at the back what they share, once, and their keys. */
template <int DTYPE> class Room {
  using R = Real<DTYPE>;
  struct Placed {
    const void *what; /* an array of coefficients; or of a recipe its kind, which no such array is at */
    int bytes, place;
  };
  static constexpr int MOST_PLACED = 256; /* what comes after them is written anew each time */
  int end_ = MUCH, count_ = 0;
  Placed placed_[MOST_PLACED];

  static int padded(int64_t bytes) { return (int)((bytes + 15) / 16 * 16); }

  /* Where it is, or more that begins as it does; -1 if it is not there. */
  int known(const void *what, int bytes) const {
    for (int i = count_ - 1; i >= 0; i--)
      if (placed_[i].what == what && placed_[i].bytes >= bytes) return placed_[i].place;
    return -1;
  }
  int shared(const void *what, int bytes, bool &is_new) {
    const int place = known(what, bytes);
    is_new = place < 0;
    if (!is_new) return place;
    end_ -= padded(bytes);
    if (count_ < MOST_PLACED) placed_[count_++] = {what, bytes, end_};
    return end_;
  }

 public:
  Launch<MUCH> launch;

  Room() { launch.rows = 0; }
  void clear() {
    end_ = MUCH;
    count_ = launch.rows = 0;
  }

  /* Bytes that a blending takes at most, beside what names its tensor. */
  static int64_t bytes_of(const fastinit_blending &blending, int64_t members) {
    return recipe_bytes<R>(*blending.to.recipe) + members * (8 + (int64_t)sizeof(R)) + 32;
  }
  bool fits(int front, const fastinit_blending &blending) const {
    const int recipe = recipe_bytes<R>(*blending.to.recipe), add = (int)(blending.members * sizeof(R));
    int bytes = padded(blending.members * 8);
    if (known(&blending.to.recipe->kind, recipe) < 0) bytes += recipe;
    if (known(blending.add, add) < 0) bytes += padded(add);
    return front + bytes <= end_;
  }

  int recipe(const fastinit_recipe &recipe, int32_t half) {
    bool is_new;
    const int place = shared(&recipe.kind, recipe_bytes<R>(recipe), is_new);
    if (is_new) write_recipe<DTYPE>(recipe, half, launch.data + place);
    return place;
  }
  Members<DTYPE> members(const fastinit_blending &blending, const char *source) {
    const int count = (int)blending.members;
    bool is_new;
    const int add = shared(blending.add, count * (int)sizeof(R), is_new);
    for (int n = 0; is_new && n < count; n++) ((R *)(launch.data + add))[n] = (R)blending.add[n];
    const int keys = end_ -= padded(count * 8);
    if (count > 0) memcpy(launch.data + keys, blending.keys, (size_t)count * 8);
    return {source, (R)blending.keep + 0, count, keys, add}; /* -0 becomes +0 */
  }
};
static_assert(sizeof(Places<FASTINIT_BFLOAT16>) + sizeof(Recipe<float>) + sizeof(Space<float>) + FASTINIT_MOST_MEMBERS * 12 +
                  32 <=
              MUCH);

/* --- by elements ----------------------------------------------------------------------------------------------------------- */

/* A blending from its member `first` on: the sum of those before is in the tensor. */
fastinit_blending part_of(const fastinit_blending &blending, int64_t first, int64_t members) {
  fastinit_blending part = blending;
  part.keys += first;
  part.add += first;
  part.members = members;
  if (first > 0) {
    part.keep = 1;
    part.source = blending.to.out;
    part.source_strides = blending.to.dims > 0 ? blending.to.layout + blending.to.dims : nullptr;
  }
  return part;
}

/* Call work(part) on the parts of a blending whose members fit into a launch. There are several of float32 and float64 alone,
 * whose sums a tensor holds exactly. */
template <int DTYPE, class Work> int32_t for_parts(const fastinit_blending &blending, int front, Work work) {
  const bool alone = is_halved(*blending.to.recipe); /* which serves half of the elements in a launch */
  const int64_t each = 8 + (int64_t)sizeof(Real<DTYPE>), left = MUCH - front - Room<DTYPE>::bytes_of(blending, 0);
  const int64_t most = alone ? 1 : left / each;
  int64_t first = 0;
  do {
    const int64_t members = blending.members - first < most ? blending.members - first : most;
    if (int32_t status = work(part_of(blending, first, members))) return status;
    first += members;
  } while (first < blending.members);
  return FASTINIT_OK;
}

/* Axes beyond those that a launch takes are walked on the host. */
template <int DTYPE>
int32_t blend_by_elements(const Target &target, const fastinit_blending &blending, const Axes &axes, int count, char *out,
                          const char *source, int64_t local) {
  if (count > MOST_AXES) {
    const Axis &outer = axes.axis[count - 1];
    for (int64_t i = 0; i < outer.size; i++) {
      char *const to = out + i * outer.stride * SIZE<DTYPE>;
      const char *const from = source + i * axes.source[count - 1] * SIZE<DTYPE>;
      if (int32_t status = blend_by_elements<DTYPE>(target, blending, axes, count - 1, to, from, local + i * outer.step))
        return status;
    }
    return FASTINIT_OK;
  }
  const auto start = [&](int32_t half) {
    Room<DTYPE> room;
    Places<DTYPE> places;
    places.to = place_of(blending.to, axes, count, out, local);
    places.to.half = half;
    places.to.recipe = room.recipe(*blending.to.recipe, half);
    places.members = room.members(blending, source);
    for (int a = 0; a < count; a++) places.from[a] = axes.source[a];
    memcpy(room.launch.data, &places, sizeof places);
    return start_for<blend_elements<DTYPE>>(target, places.to.elements, room.launch);
  };
  return blending.members == 0 ? start(BOTH) : for_halves(*blending.to.recipe, start);
}

template <int DTYPE> int32_t blend_all_by_elements(const Target &target, const fastinit_blending &blending) {
  return for_parts<DTYPE>(blending, sizeof(Places<DTYPE>), [&](const fastinit_blending &part) {
    const Axes axes(part.to, part.to.rows * part.to.cols, part.source_strides);
    return blend_by_elements<DTYPE>(target, part, axes, axes.count, (char *)part.to.out, (const char *)part.source, 0);
  });
}

/* --- by tiles -------------------------------------------------------------------------------------------------------------- */

/* Collects the rows of one dtype, and launches them when a launch is full. */
template <int DTYPE> class BlendBatch {
  using Line = Sums<DTYPE>;
  const Target target_;
  Room<DTYPE> room_;

  Line *rows() { return (Line *)room_.launch.data; }

 public:
  explicit BlendBatch(const Target &target) : target_(target) {}

  int32_t flush() {
    if (room_.launch.rows == 0) return FASTINIT_OK;
    int64_t tiles = 0, before = 0;
    int grid = 0;
    for (int i = 0; i < room_.launch.rows; i++) tiles += rows()[i].tiles;
    if (int32_t status = grid_for<blend_list<DTYPE>>(target_, tiles, &grid)) return status;
    for (int i = 0; i < room_.launch.rows; i++) {
      rows()[i].before = (int32_t)(before % grid);
      before += rows()[i].tiles;
    }
    const int32_t status = start<blend_list<DTYPE>>(target_, grid, room_.launch);
    room_.clear();
    return status;
  }

  /* `lines` of `elements` each, from block `block` on, `pitch` blocks apart. */
  int32_t add(const fastinit_blending &blending, char *out, const char *source, uint64_t block, int64_t lines, int64_t elements,
              int64_t pitch) {
    if (!room_.fits((int)((room_.launch.rows + 1) * sizeof(Line)), blending))
      if (int32_t status = flush()) return status;
    Line row{};
    row.out = out;
    row.block = block;
    row.pitch = pitch;
    row.recipe = room_.recipe(*blending.to.recipe, BOTH);
    row.members = room_.members(blending, source);
    row.vectors = (int32_t)(elements / VECTOR<DTYPE>);
    row.rest = (int32_t)(elements % VECTOR<DTYPE>);
    row.tiles_a_line = tiles_of<DTYPE>(row.vectors, row.rest);
    row.tiles = (int32_t)(row.tiles_a_line * lines);
    rows()[room_.launch.rows++] = row;
    return FASTINIT_OK;
  }
};

/* A contiguous tensor whose elements have consecutive indices, as one row or more. */
template <int DTYPE>
int32_t add_sums(const Target &target, BlendBatch<DTYPE> &batch, const fastinit_blending &blending) {
  const auto add = [&](int64_t offset, uint64_t block, int64_t elements) {
    char *const out = (char *)blending.to.out + offset * SIZE<DTYPE>;
    return batch.add(blending, out, (const char *)blending.source + offset * SIZE<DTYPE>, block, 1, elements, 0);
  };
  const auto rest = [&](int64_t offset, const fastinit_plan &plan) {
    fastinit_blending unaligned = blending;
    unaligned.to = plan;
    unaligned.source = (const char *)blending.source + offset * SIZE<DTYPE>;
    return blend_all_by_elements<DTYPE>(target, unaligned);
  };
  return for_rows<DTYPE>(blending.to, add, rest);
}

template <int DTYPE> int32_t blend_one(const Target &target, BlendBatch<DTYPE> &batch, const fastinit_blending &blending) {
  const fastinit_plan &plan = blending.to;
  const int64_t elements = plan.rows * plan.cols;
  if (elements == 0) return FASTINIT_OK;
  const bool is_contiguous = Axes(plan, elements, blending.source_strides).is_contiguous();
  const bool is_aligned = ((uintptr_t)plan.out | (blending.keep == 0 ? 0 : (uintptr_t)blending.source)) % 16 == 0;
  if (!is_aligned || plan.start % 4 || is_halved(*plan.recipe) || !is_contiguous)
    return blend_all_by_elements<DTYPE>(target, blending);
  const bool is_one = plan.rows == 1 || plan.cols == plan.pitch;
  if (!is_one && !has_lines<DTYPE>(plan)) return blend_all_by_elements<DTYPE>(target, blending);
  return for_parts<DTYPE>(blending, sizeof(Sums<DTYPE>), [&](const fastinit_blending &part) {
    if (part.keys != blending.keys) /* it reads what the part before it writes */
      if (int32_t status = batch.flush()) return status;
    if (is_one) return add_sums<DTYPE>(target, batch, part);
    const uint64_t block = (uint64_t)plan.start / 4;
    return batch.add(part, (char *)plan.out, (const char *)part.source, block, plan.rows, plan.cols, plan.pitch / 4);
  });
}

template <int DTYPE> int32_t blend_dtype(const Target &target, const fastinit_blending *blendings, int64_t count) {
  if constexpr (IS_WORDS<DTYPE>) {
    return FASTINIT_BAD_DTYPE;
  } else {
    BlendBatch<DTYPE> batch(target);
    for (int64_t i = 0; i < count; i++) {
      if (blendings[i].dtype != DTYPE) continue;
      if (int32_t status = blend_one<DTYPE>(target, batch, blendings[i])) return status;
    }
    return batch.flush();
  }
}

}  // namespace
}  // namespace fastinit
