/* Rows and recipes of one dtype, collected to fill a launch. */
#pragma once

#include <string.h>

#include "launch.h"
#include "recipe.h"

namespace fastinit {
namespace {

/* Tiles that cover a line's vectors, and the rest after them. */
template <int DTYPE> int32_t tiles_of(int64_t vectors, int rest) {
  const int64_t covered = vectors + (rest > 0);
  return (int32_t)((covered * VECTOR<DTYPE> + TILE<DTYPE> - 1) / TILE<DTYPE>);
}

/* Collects the rows of one dtype, and launches them when a launch is full: rows in front, recipes at the back. */
template <int DTYPE> class Batch {
  using R = Real<DTYPE>;
  using Line = Row<DTYPE>;
  const Target target_;
  Launch<MUCH> launch_;
  int end_ = MUCH; /* where the recipes begin */
  int count_ = 0;  /* of recipes */
  int places_[MUCH / sizeof(Recipe<R>)];
  const fastinit_recipe *recipes_[MUCH / sizeof(Recipe<R>)];

  Line *rows() { return (Line *)launch_.data; }

  /* Where the recipe is in the launch; -1 where one more row, and the recipe if it is new, do not fit. */
  int place_of(const fastinit_recipe &recipe) {
    const int front = (int)((launch_.rows + 1) * sizeof(Line));
    if constexpr (IS_WORDS<DTYPE>) return front <= end_ ? 0 : -1;
    else return place_behind(front, recipe);
  }
  int place_behind(int front, const fastinit_recipe &recipe) {
    for (int i = count_ - 1; i >= 0; i--)
      if (recipes_[i] == &recipe) return front <= end_ ? places_[i] : -1;
    const int bytes = recipe_bytes<R>(recipe);
    if (front + bytes > end_) return -1;
    end_ -= bytes;
    write_recipe<DTYPE>(recipe, BOTH, launch_.data + end_);
    recipes_[count_] = &recipe;
    places_[count_] = end_;
    count_++;
    return end_;
  }

 public:
  explicit Batch(const Target &target) : target_(target) { launch_.rows = 0; }

  int32_t flush() {
    if (launch_.rows == 0) return FASTINIT_OK;
    const bool alone = launch_.rows == 1 && (int)sizeof(Line) + MUCH - end_ <= LITTLE;
    const int32_t status = alone ? start_one() : start_list();
    launch_.rows = 0;
    end_ = MUCH;
    count_ = 0;
    return status;
  }

  /* `lines` of `elements` each, from block `block` on, `pitch` blocks apart. */
  int32_t add(const fastinit_plan &plan, char *out, uint64_t block, int64_t lines, int64_t elements, int64_t pitch) {
    int place = place_of(*plan.recipe);
    if (place < 0) {
      if (int32_t status = flush()) return status;
      place = place_of(*plan.recipe);
    }
    Line &row = rows()[launch_.rows++];
    row.out = out;
    row.key = plan.key;
    row.block = block;
    row.pitch = pitch;
    row.recipe = place;
    row.vectors = (int32_t)(elements / VECTOR<DTYPE>);
    row.rest = (int32_t)(elements % VECTOR<DTYPE>);
    row.tiles_a_line = tiles_of<DTYPE>(row.vectors, row.rest);
    row.tiles = (int32_t)(row.tiles_a_line * lines);
    row.before = 0;
    row.stream = Stream<DTYPE>(plan.key, block);
    return FASTINIT_OK;
  }

 private:
  int32_t start_one() {
    Launch<LITTLE> launch;
    launch.rows = 1;
    memcpy(launch.data, launch_.data, sizeof(Line));
    memcpy(launch.data + sizeof(Line), launch_.data + end_, MUCH - end_);
    int grid = 0;
    if (int32_t status = grid_for<fill_one<DTYPE>>(target_, rows()[0].tiles, &grid)) return status;
    return start<fill_one<DTYPE>>(target_, grid, launch);
  }

  int32_t start_list() {
    int64_t tiles = 0, before = 0;
    for (int i = 0; i < launch_.rows; i++) tiles += rows()[i].tiles;
    int grid = 0;
    if (int32_t status = grid_for<fill_list<DTYPE>>(target_, tiles, &grid)) return status;
    for (int i = 0; i < launch_.rows; i++) {
      rows()[i].before = (int32_t)(before % grid);
      before += rows()[i].tiles;
    }
    return start<fill_list<DTYPE>>(target_, grid, launch_);
  }
};

}  // namespace
}  // namespace fastinit
