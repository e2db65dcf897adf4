/* A tensor's axes in memory, and what a blend's source has along them. */
#pragma once

#include "kernel.h"

namespace fastinit {
namespace {

/* The least stride first; neighbors that are one axis in both orders, and in the source, are joined. */
struct Axes {
  int count = 0;
  Axis axis[FASTINIT_MAX_DIMS];
  int64_t source[FASTINIT_MAX_DIMS]; /* strides */

  Axes(const fastinit_plan &plan, int64_t elements, const int64_t *source_strides = nullptr) {
    if (plan.dims == 0) insert({elements, 1, 1}, 1);
    int64_t step = 1;
    for (int64_t d = plan.dims - 1; d >= 0; d--) {
      const int64_t size = plan.layout[d], stride = plan.layout[plan.dims + d];
      if (size > 1) insert({size, step, stride}, source_strides ? source_strides[d] : stride);
      step *= size;
    }
    if (count == 0) insert({1, 1, 1}, 1);
    join();
  }
  bool is_contiguous() const { return count == 1 && axis[0].step == 1 && axis[0].stride == 1 && source[0] == 1; }

 private:
  void insert(const Axis &added, int64_t stride) {
    int i = count++;
    for (; i > 0 && axis[i - 1].stride > added.stride; i--) {
      axis[i] = axis[i - 1];
      source[i] = source[i - 1];
    }
    axis[i] = added;
    source[i] = stride;
  }
  void join() {
    int last = 0;
    for (int i = 1; i < count; i++) {
      Axis &inner = axis[last];
      const bool is_one = axis[i].step == inner.step * inner.size && axis[i].stride == inner.stride * inner.size &&
                          source[i] == source[last] * inner.size;
      if (is_one) {
        inner.size *= axis[i].size;
      } else {
        axis[++last] = axis[i];
        source[last] = source[i];
      }
    }
    count = last + 1;
  }
};

}  // namespace
}  // namespace fastinit
