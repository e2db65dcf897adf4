/* The CPU's entry: checks, choice of the instruction set, the split into threads, memory layouts. */

#include <pthread.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>

#include <algorithm>
#include <atomic>
#include <initializer_list>
#include <new>

#include "../plan.h"
#include "../platform.h"
#include "cpu.h"

namespace fastinit {
namespace {

/* Costs are in uniform float32 elements of a vector unit, 0.4 ns each. A thread costs 20 (bare metal) to 100 us (a virtual machine)
 * to start: it is worth that for so much. Also tried: a pool, whose threads wait 100 ms for the next fill. They wake in 3 to 10 us,
 * and back to back fills of 2^17 to 2^19 elements took 0.8 of the time; but a thread that wakes on the caller's core, as it does on
 * a virtual machine after a pause of some ms, comes when the work is done. */
constexpr int64_t COST_A_THREAD = 1 << 18;
/* Threads take pieces that cost at least so much, and of a large fill about so many pieces each; a tile of blend.h is the least. */
constexpr int64_t PIECE = 1 << 15, LEAST_PIECE = 1 << 11, PIECES_A_THREAD = 64;
constexpr int64_t MOST_THREADS = 512;
/* Strided memory is filled through a buffer of this many elements, on the stack. */
constexpr int64_t BUFFER = 2048;

#if defined(FASTINIT_HAS_X86)
bool has_avx2() {
  __builtin_cpu_init();
  return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
}

bool has_avx512() {
  return has_avx2() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
         __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
}
#endif

int32_t check_isa(int32_t isa) {
  switch (isa) {
#if defined(FASTINIT_HAS_X86)
    case FASTINIT_AVX2: return has_avx2() ? FASTINIT_OK : FASTINIT_BAD_ISA;
    case FASTINIT_AVX512: return has_avx512() ? FASTINIT_OK : FASTINIT_BAD_ISA;
#elif defined(FASTINIT_HAS_NEON)
    case FASTINIT_NEON:
#endif
    case FASTINIT_BEST:
    case FASTINIT_SCALAR: return FASTINIT_OK;
    default: return FASTINIT_NOT_BUILT;
  }
}

int32_t best_isa() {
  for (int32_t isa : {FASTINIT_AVX512, FASTINIT_AVX2, FASTINIT_NEON})
    if (check_isa(isa) == FASTINIT_OK) return isa;
  return FASTINIT_SCALAR;
}

Kernel kernel_of(const fastinit_recipe &recipe, int32_t isa) {
  switch (isa) {
#if defined(FASTINIT_HAS_X86)
    case FASTINIT_AVX2: return avx2_kernel(recipe);
    case FASTINIT_AVX512: return avx512_kernel(recipe);
#elif defined(FASTINIT_HAS_NEON)
    case FASTINIT_NEON: return neon_kernel(recipe);
#endif
    default: return scalar_kernel(recipe);
  }
}

/* A place in a strided tensor: its axes' positions, and the address. Addresses wrap: an axis of size 1 may have any stride. */
struct Cursor {
  const int64_t *sizes, *strides;
  int64_t position[FASTINIT_MAX_DIMS];
  int64_t inner; /* the last axis */
  uint64_t item;
  uintptr_t at;

  /* The logical element `first` of a tensor with the sizes of a plan's. */
  Cursor(const fastinit_plan &plan, const void *memory, const int64_t *strides, int64_t first, int item)
      : sizes(plan.layout), strides(strides), inner(plan.dims - 1), item((uint64_t)item), at((uintptr_t)memory) {
    for (int64_t d = inner; d >= 0; d--) {
      position[d] = first % sizes[d];
      at += position[d] * step(d);
      first /= sizes[d];
    }
  }
  uint64_t step(int64_t d) const { return (uint64_t)strides[d] * item; }
  int64_t left_in_row() const { return sizes[inner] - position[inner]; }

  void advance_in_row(int64_t n) {
    at += n * step(inner);
    position[inner] += n;
    for (int64_t d = inner; d > 0 && position[d] == sizes[d]; d--) {
      at += step(d - 1) - sizes[d] * step(d);
      position[d] = 0;
      position[d - 1]++;
    }
  }
};

/* Write `count` contiguous elements to the logical positions of a strided tensor from `first` on. */
template <class T> void scatter(const fastinit_plan &plan, int64_t first, int64_t count, const T *from) {
  Cursor to(plan, plan.out, plan.layout + plan.dims, first, sizeof(T));
  while (count > 0) {
    const int64_t room = to.left_in_row(), n = count < room ? count : room;
    const uint64_t step = to.step(to.inner);
    for (int64_t i = 0; i < n; i++) memcpy((void *)(to.at + i * step), from + i, sizeof(T));
    from += n;
    count -= n;
    to.advance_in_row(n);
  }
}

/* Read them, where they are in a blending's source. */
void gather(const fastinit_blending &blending, int64_t first, int64_t count, char *to) {
  const int size = item_size(blending.dtype);
  Cursor from(blending.to, blending.source, blending.source_strides, first, size);
  while (count > 0) {
    const int64_t room = from.left_in_row(), n = count < room ? count : room;
    const uint64_t step = from.step(from.inner);
    for (int64_t i = 0; i < n; i++, to += size) memcpy(to, (const void *)(from.at + i * step), (size_t)size);
    count -= n;
    from.advance_in_row(n);
  }
}

void scatter(const fastinit_plan &plan, int size, int64_t first, int64_t count, const char *from) {
  switch (size) {
    case 1: return scatter(plan, first, count, (const uint8_t *)from);
    case 2: return scatter(plan, first, count, (const uint16_t *)from);
    case 4: return scatter(plan, first, count, (const uint32_t *)from);
    default: return scatter(plan, first, count, (const uint64_t *)from);
  }
}

void fill_part(const fastinit_plan &plan, const Kernel &kernel, int64_t first, int64_t count) {
  const int size = item_size(plan.recipe->dtype);
  if (plan.dims == 0) return kernel.fill(plan, first, count, (char *)plan.out + first * size);
  alignas(64) char buffer[BUFFER * 8];
  for (int64_t end = first + count; first < end; first += BUFFER) {
    const int64_t n = end - first < BUFFER ? end - first : BUFFER;
    kernel.fill(plan, first, n, buffer);
    scatter(plan, size, first, n, buffer);
  }
}

void blend_part(const fastinit_blending &blending, const Kernel &kernel, int64_t first, int64_t count) {
  const fastinit_plan &plan = blending.to;
  const int size = item_size(blending.dtype);
  if (plan.dims == 0)
    return kernel.blend(blending, first, count, (const char *)blending.source + first * size, (char *)plan.out + first * size);
  alignas(64) char buffer[BUFFER * 8];
  for (int64_t end = first + count; first < end; first += BUFFER) {
    const int64_t n = end - first < BUFFER ? end - first : BUFFER;
    if (blending.keep != 0) gather(blending, first, n, buffer);
    kernel.blend(blending, first, n, buffer, buffer);
    scatter(plan, size, first, n, buffer);
  }
}

/* Add elements to `total`, and what they take, `values` each, to `cost`; false where the first is too much for 64 bits. */
bool count_in(const fastinit_recipe &recipe, int32_t isa, int64_t elements, int64_t values, int64_t *total, int64_t *cost) {
  const bool scalar = isa == FASTINIT_SCALAR || recipe.dtype == FASTINIT_FLOAT64;
  int64_t each;
  if (__builtin_mul_overflow(values, (has_table(recipe) ? 2 : 1) * (scalar ? 8 : 1), &each)) each = INT64_MAX;
  if (__builtin_mul_overflow(elements, each, &each) || __builtin_add_overflow(*cost, each, cost)) *cost = INT64_MAX;
  return !__builtin_add_overflow(*total, elements, total);
}

const fastinit_plan &plan_of(const fastinit_plan &plan) { return plan; }
const fastinit_plan &plan_of(const fastinit_blending &blending) { return blending.to; }
int64_t values_of(const fastinit_plan &) { return 1; }
int64_t values_of(const fastinit_blending &blending) { return blending.members + 1; }
int32_t check(const fastinit_blending &blending, int64_t *elements) { return check_blending(blending, elements); }
int32_t check(const fastinit_plan &plan, int64_t *elements) {
  const int32_t status = check_recipe(plan.recipe);
  return status ? status : check_place(plan, elements);
}
void do_part(const fastinit_plan &plan, const Kernel &kernel, int64_t first, int64_t n) { fill_part(plan, kernel, first, n); }
void do_part(const fastinit_blending &blending, const Kernel &kernel, int64_t first, int64_t n) {
  blend_part(blending, kernel, first, n);
}

/* Fill, or blend into, `count` elements from `first` on, counted through all plans. */
template <class Job> void do_range(const Job *jobs, int32_t isa, int64_t first, int64_t count) {
  for (const Job *job = jobs; count > 0; job++) {
    const fastinit_plan &plan = plan_of(*job);
    const int64_t elements = plan.rows * plan.cols;
    if (first >= elements) {
      first -= elements;
      continue;
    }
    const int64_t here = elements - first < count ? elements - first : count;
    do_part(*job, kernel_of(*plan.recipe, isa), first, here);
    count -= here;
    first = 0;
  }
}

/* Start a thread that nobody joins, off the calling thread's core; whether there is one. They often start there, because virtual
 * machines count a sleeping core as not available; only the next load balancing, up to 4 ms later, would move them. */
bool start(void *(*run)(void *), void *argument) {
  pthread_t thread;
  pthread_attr_t attributes;
  pthread_attr_init(&attributes);
  pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
#if defined(__GLIBC__)
  cpu_set_t cores;
  CPU_ZERO(&cores);
  if (!pthread_getaffinity_np(pthread_self(), sizeof cores, &cores)) CPU_CLR(sched_getcpu(), &cores);
  if (CPU_COUNT(&cores) > 0) pthread_attr_setaffinity_np(&attributes, sizeof cores, &cores);
#endif
  const bool started = !pthread_create(&thread, &attributes, run, argument);
  pthread_attr_destroy(&attributes);
  return started;
}

/* [0, total) in pieces. A thread takes the next piece when it is done with its last, so that a thread that starts late or shares
 * its core (torch's workers spin for milliseconds after their last task) does not hold up the others. Nor does one that has not
 * begun when all is done: whoever leaves last frees this. */
template <class Work> struct Pieces {
  const Work work;
  const int64_t total, piece;
  std::atomic<int64_t> next{0};
  std::atomic<int64_t> done{0}, holders{1};

  void take() {
    for (int64_t first; (first = next.fetch_add(piece, std::memory_order_relaxed)) < total;) {
      const int64_t n = std::min(total - first, piece);
      work(first, n);
      done.fetch_add(n, std::memory_order_release);
    }
  }
  void leave() {
    if (holders.fetch_sub(1) == 1) free(this);
  }
  static void *take_in_thread(void *pieces) {
    ((Pieces *)pieces)->take();
    ((Pieces *)pieces)->leave();
    return nullptr;
  }
};

/* Call work(first, count) on pieces that cover [0, total). Where no thread can be started, the calling thread does it all. */
template <class Work> void in_threads(int64_t total, int64_t cost, int32_t threads, const Work &work) {
  const int64_t parts = std::min({(int64_t)threads, cost / COST_A_THREAD, MOST_THREADS});
  void *memory = parts > 1 ? malloc(sizeof(Pieces<Work>)) : nullptr;
  if (!memory) return work(0, total);
  const int64_t least = std::max(PIECE / (cost / total), LEAST_PIECE), fair = total / (parts * PIECES_A_THREAD) / least * least;
  auto *pieces = new (memory) Pieces<Work>{work, total, std::max(fair, least)};
  for (int64_t part = 1; part < parts; part++) {
    pieces->holders.fetch_add(1);
    if (start(pieces->take_in_thread, pieces)) continue;
    pieces->leave();
    break;
  }
  pieces->take();
  while (pieces->done.load(std::memory_order_acquire) < total) sched_yield(); /* for a piece at most */
  pieces->leave();
}

/* Check all plans, or blendings, and do them. */
template <class Job> int32_t in_all(const Job *jobs, int64_t count, int32_t threads, int32_t isa) {
  if (count < 0 || threads < 1) return FASTINIT_BAD_COUNT;
  if (count > 0 && !jobs) return FASTINIT_NULL_POINTER;
  if (int32_t status = fastinit_check_isa(isa)) return status;
  const IeeeMode mode; /* in which a subnormal coefficient of a blending is a number */
  const int32_t chosen = isa == FASTINIT_BEST ? best_isa() : isa;
  int64_t total = 0, cost = 0;
  for (const Job *job = jobs; job < jobs + count; job++) {
    int64_t elements;
    if (int32_t status = check(*job, &elements)) return status;
    if (!count_in(*plan_of(*job).recipe, chosen, elements, values_of(*job), &total, &cost)) return FASTINIT_BAD_BOX;
  }
  in_threads(total, cost, threads, [=](int64_t first, int64_t n) { do_range(jobs, chosen, first, n); });
  return FASTINIT_OK;
}

}  // namespace
}  // namespace fastinit

using namespace fastinit;

extern "C" {

int32_t fastinit_abi(void) { return FASTINIT_ABI; }

const char *fastinit_message(int32_t status) { return message(status); }

int32_t fastinit_check_isa(int32_t isa) { return check_isa(isa); }

int32_t fastinit_best_isa(void) { return best_isa(); }

int32_t fastinit_fill(const fastinit_plan *plans, int64_t count, int32_t threads, int32_t isa) {
  return in_all(plans, count, threads, isa);
}

int32_t fastinit_blend(const fastinit_blending *blendings, int64_t count, int32_t threads, int32_t isa) {
  return in_all(blendings, count, threads, isa);
}

int32_t fastinit_transform(const fastinit_plan *plan, const void *words, int64_t count, int32_t threads, int32_t isa) {
  if (count < 0 || threads < 1) return FASTINIT_BAD_COUNT;
  if (!plan || (count > 0 && (!words || !plan->out))) return FASTINIT_NULL_POINTER;
  if (int32_t status = fastinit_check_isa(isa)) return status;
  if (int32_t status = check_recipe(plan->recipe)) return status;
  if (count == 0) return FASTINIT_OK;
  const IeeeMode mode;
  const fastinit_recipe &recipe = *plan->recipe;
  const int32_t chosen = isa == FASTINIT_BEST ? best_isa() : isa;
  int64_t total = 0, cost = 0;
  count_in(recipe, chosen, count, 1, &total, &cost);
  const Kernel kernel = kernel_of(recipe, chosen);
  const int size = item_size(recipe.dtype), width = size == 8 ? 8 : 4;
  in_threads(total, cost, threads, [=, &recipe](int64_t first, int64_t n) {
    kernel.transform(recipe, (const char *)words + first * width, n, (char *)plan->out + first * size);
  });
  return FASTINIT_OK;
}

}  // extern "C"
