/* Fill, map and blend through the C ABI, in every instruction set that this processor has, under sanitizers: `stress`, `stress quick` or
 * `stress quick CHECK`.
 *
 * Every kind, dtype and shape of table; lengths and starts around groups, counters' carries and the last index; boxes; layouts of
 * up to 64 axes; lists with empty plans; threads, also from 64 callers at once, and where none can be started (by the linker's
 * --wrap=pthread_create). Each tensor is a heap block of just its size, and is compared with the harness's. */
#include <errno.h>
#include <pthread.h>

#include <atomic>
#include <deque>
#include <random>
#include <thread>

#include "blends.h"

using namespace proof;

namespace {

/* What of a recipe chooses a loop of the library, together with the dtype. */
struct Variant {
  int32_t kind;
  uint64_t flip;
  bool is_large; /* of the two shapes of float32 tables */
};
constexpr Variant VARIANTS[] = {
    {FASTINIT_UNIFORM, 0, false},   {FASTINIT_UNIFORM, INT64_MAX, false},
    {FASTINIT_SYMMETRIC, 0, false}, {FASTINIT_SYMMETRIC, 0, true},
    {FASTINIT_TWO_SIDED, 0, false}, {FASTINIT_TWO_SIDED, 0, true},
    {FASTINIT_FMOD, 0, false},      {FASTINIT_FMOD, 0, true},
};
constexpr Variant RAW = {FASTINIT_WORDS, 0, false};
constexpr int64_t LAST = INT64_MAX;
constexpr int64_t THREADED = (1 << 20) + 13; /* elements: eight threads' */

bool quick = false;
std::atomic<int> startable{INT32_MAX}; /* threads, before pthread_create fails */
int64_t fills = 0, elements = 0;

/* A plan of a recipe with made-up constants, and its memory. */
struct Tensor {
  fastinit_plan plan = {};
  std::unique_ptr<fastinit_recipe> recipe{new fastinit_recipe()};
  Memory table, out;
  std::vector<int64_t> layout;

  Tensor(const Variant &variant, int32_t dtype, int64_t start, int64_t rows, int64_t cols, int64_t pitch) {
    plan.key = 0x0123456789ABCDEF + (uint64_t)start;
    plan.start = start;
    plan.rows = rows;
    plan.cols = cols;
    plan.pitch = pitch;
    plan.recipe = recipe.get();
    make_constants(variant, dtype);
    if (has_table(variant.kind)) make_table();
  }
  Tensor(Tensor &&) = default;

  void make_constants(const Variant &variant, int32_t dtype) {
    const bool wide = dtype == FASTINIT_FLOAT64;
    recipe->kind = variant.kind;
    recipe->dtype = dtype;
    recipe->flip = variant.flip;
    recipe->slope = wide ? 0x1p-63 : 0x1p-31;
    recipe->anchor = 0.125;
    recipe->std = 0.75;
    recipe->cut = 0.4375;
    recipe->inverse_cut = 1 / 0.4375;
    recipe->low = -1.5;
    recipe->high = 1.75;
    recipe->scale[0] = recipe->scale[1] = recipe->slope;
    recipe->offset[0] = 0.015625;
    recipe->offset[1] = 0.03125;
    recipe->cells = wide ? 256 : variant.is_large ? 64 : 32;
    recipe->terms = wide ? 13 : variant.is_large ? 7 : 5;
    recipe->top_bits = wide ? 5 : variant.is_large ? 3 : 2;
  }
  template <class R> void write_table(R *to) {
    std::mt19937 random(recipe->kind);
    const int32_t rows = recipe->terms * (recipe->kind == FASTINIT_TWO_SIDED ? 2 : 1);
    const double size = recipe->kind == FASTINIT_TWO_SIDED ? 1 : recipe->slope; /* the others are multiplied by s */
    for (int32_t row = 0; row < rows; row++)
      for (int32_t cell = 0; cell < recipe->cells; cell++)
        *to++ = (R)(ldexp(size, -2 * (row % recipe->terms)) * (0.5 + (double)(random() >> 8) * 0x1p-24));
  }
  void make_table() {
    const bool wide = recipe->dtype == FASTINIT_FLOAT64;
    table = Memory(reals_of(*recipe) * (wide ? 8 : 4));
    recipe->table = table.get();
    wide ? write_table((double *)table.get()) : write_table((float *)table.get());
  }
  Tensor &shaped(const std::vector<int64_t> &sizes, const std::vector<int64_t> &strides) {
    layout = sizes;
    layout.insert(layout.end(), strides.begin(), strides.end());
    plan.dims = (int64_t)sizes.size();
    plan.layout = layout.data();
    return *this;
  }
  /* Canaries at an address that is `skip` bytes past a multiple of 16. */
  Tensor &blank(size_t skip) {
    const Extent extent = extent_of(plan);
    const int size = size_of(recipe->dtype);
    out = Memory((size_t)(extent.end - extent.low) * size, skip);
    plan.out = out.get() - (int64_t)extent.low * size;
    return *this;
  }
};

void fault(const char *what, const fastinit_plan &p, int32_t isa, int32_t threads) {
  printf("FAULT: %s: isa %d, %d threads, ", what, isa, threads);
  printf("kind %d dtype %d cells %d", p.recipe->kind, p.recipe->dtype, p.recipe->cells);
  for (int64_t x : {p.start, p.rows, p.cols, p.pitch, p.dims}) printf(" %lld", (long long)x);
  printf(" (start, rows, cols, pitch, dims)\n");
  exit(1);
}

void verify(const Tensor &tensor, int32_t isa, int32_t threads) {
  if (const char *why = difference(tensor.plan, tensor.out)) fault(why, tensor.plan, isa, threads);
  fills++;
  elements += (int64_t)elements_of(tensor.plan);
}

void fill(const std::vector<Tensor *> &tensors, int32_t isa, int32_t threads) {
  std::vector<fastinit_plan> plans;
  for (const Tensor *tensor : tensors) plans.push_back(tensor->plan);
  if (fastinit_fill(plans.data(), (int64_t)plans.size(), threads, isa)) fault("refused", plans[0], isa, threads);
}

void check(Tensor &tensor, int32_t isa, int32_t threads = 1) {
  fill({&tensor}, isa, threads);
  verify(tensor, isa, threads);
}

/* Call work(variant, dtype) with all that go together. */
template <class Work> void for_every_loop(Work work) {
  for (int32_t dtype = 0; dtype < FASTINIT_UINT32; dtype++)
    for (const Variant &variant : VARIANTS)
      if (dtype != FASTINIT_FLOAT64 || !variant.is_large) work(variant, dtype);
  work(RAW, FASTINIT_UINT32);
  work(RAW, FASTINIT_UINT64);
}

/* --- one plan -------------------------------------------------------------------------------------------------------------- */

void lengths_and_starts(int32_t isa) {
  const int64_t ONE = 1, firsts[] = {0, 1, 2, 3, (ONE << 32) - 5, (ONE << 34) - 7, (ONE << 36) - 130, (ONE << 62) + 1};
  for_every_loop([&](const Variant &variant, int32_t dtype) {
    for (int64_t count : {1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 31, 32, 33, 63, 64, 65, 127, 128, 129, 256, 257, 389}) {
      for (int64_t first : firsts) {
        if (quick && (count + first) % 3) continue;
        check(Tensor(variant, dtype, first, 1, count, 0).blank(size_of(dtype) * (count % 4)), isa);
      }
      check(Tensor(variant, dtype, LAST - count + 1, 1, count, LAST).blank(count % 16), isa);
    }
  });
}

void boxes(int32_t isa) {
  const int64_t ONE = 1;
  for_every_loop([&](const Variant &variant, int32_t dtype) {
    check(Tensor(variant, dtype, 11, 7, 13, 40).blank(0), isa);
    check(Tensor(variant, dtype, 5, 64, 1, 3).blank(3), isa);
    check(Tensor(variant, dtype, 3, 5, 131, 0).blank(1), isa);
    check(Tensor(variant, dtype, (ONE << 34) - 200, 5, 133, 101).blank(2), isa);
    check(Tensor(variant, dtype, (ONE << 34) * 3 - 3, 9, 17, (ONE << 34) + 1).blank(7), isa);
    check(Tensor(variant, dtype, LAST - 16 - (ONE << 61) * 3, 4, 17, ONE << 61).blank(5), isa);
    check(Tensor(variant, dtype, LAST, 77, 1, 0).blank(9), isa);
  });
}

void layouts(int32_t isa) {
  std::vector<int64_t> sizes(64, 1), strides(64, INT64_MIN), halves(64, 1), steps(64, INT64_MAX);
  sizes[3] = 5;
  strides[3] = 1;
  sizes[60] = 3;
  strides[60] = -7;
  for (int i = 0; i < 12; i++) {
    halves[5 * i] = 2;
    steps[5 * i] = (int64_t)1 << i;
  }
  for_every_loop([&](const Variant &variant, int32_t dtype) {
    check(Tensor(variant, dtype, 1, 1, 63 * 67, 0).shaped({63, 67}, {1, 63}).blank(1), isa);
    check(Tensor(variant, dtype, 1, 63, 67, 70).shaped({7, 9, 67}, {2000, 210, 3}).blank(2), isa);
    check(Tensor(variant, dtype, 1, 1, 2205, 0).shaped({7, 3, 5, 21}, {315, 1, 63, 3}).blank(0), isa);
    check(Tensor(variant, dtype, 2, 1, 2100, 0).shaped({2100}, {-2}).blank(5), isa);
    check(Tensor(variant, dtype, 2, 30, 70, 71).shaped({30, 70}, {-70, 1}).blank(0), isa);
    check(Tensor(variant, dtype, 2, 1, 60, 0).shaped({3, 4, 5}, {0, 1, 2}).blank(3), isa);
    check(Tensor(variant, dtype, 2, 1, 15, 0).shaped(sizes, strides).blank(4), isa);
    check(Tensor(variant, dtype, 2, 1, 4096, 0).shaped(halves, steps).blank(6), isa);
    check(Tensor(variant, dtype, 2, 1, 1, 0).shaped({1}, {INT64_MIN}).blank(1), isa);
  });
}

void mapped_words(int32_t isa) {
  std::mt19937_64 random(1);
  for_every_loop([&](const Variant &variant, int32_t dtype) {
    const int width = size_of(dtype) == 8 ? 8 : 4, size = size_of(dtype);
    for (int64_t count : {0, 1, 2, 7, 8, 9, 15, 16, 17, 33, 100}) {
      Tensor tensor(variant, dtype, 0, 1, count, 0);
      Memory words(count * width, count % 7);
      for (size_t i = 0; i < words.size(); i++) words.get()[i] = (uint8_t)random();
      for (int64_t i = 0; i < count && i < 4; i++) memset(words.get() + i * width, i % 2 ? 0xFF : 0, width - (i > 1));
      tensor.blank(count % 5);
      if (fastinit_transform(&tensor.plan, words.get(), count, 1, isa)) fault("refused words", tensor.plan, isa, 1);
      const std::vector<uint8_t> values = mapped(*tensor.recipe, {words.get(), words.get() + words.size()});
      if (count > 0 && memcmp(values.data(), tensor.out.get(), count * size)) fault("another value", tensor.plan, isa, 1);
      if (!tensor.out.is_untouched_in_front()) fault("memory in front of the values was written", tensor.plan, isa, 1);
    }
    const Tensor none(variant, dtype, 0, 0, 0, 0);
    if (fastinit_transform(&none.plan, nullptr, 0, 1, isa)) fault("refused no words", none.plan, isa, 1);
  });
}

/* --- blends ---------------------------------------------------------------------------------------------------------------- */

void check_blend(const Tensor &tensor, int32_t dtype, bool in_place, int32_t isa, int32_t threads = 1) {
  const BlendClaim claim = blend_of(tensor.plan, dtype, in_place);
  if (fastinit_blend(&claim.blending, 1, threads, isa)) fault("refused a blend", tensor.plan, isa, threads);
  if (const char *why = difference(claim)) fault(why, tensor.plan, isa, threads);
  fills++;
  elements += (int64_t)elements_of(tensor.plan);
}

void blends(int32_t isa) {
  const int64_t ONE = 1;
  for (int32_t dtype = 0; dtype < FASTINIT_UINT32; dtype++)
    for (const Variant &variant : VARIANTS) {
      const int32_t real = dtype == FASTINIT_FLOAT64 ? FASTINIT_FLOAT64 : FASTINIT_FLOAT32;
      if (real == FASTINIT_FLOAT64 && variant.is_large) continue;
      for (int64_t count : {1, 5, 15, 17, 64, 127, 129, 389, 2047, 2049, 4100})
        for (int64_t first : {(int64_t)0, (int64_t)3, (ONE << 34) - 7, LAST - 4100})
          if (!quick || (count + first) % 3 == 0)
            check_blend(Tensor(variant, real, first, 1, count, 0), dtype, count % 2 == 0, isa);
      check_blend(Tensor(variant, real, 11, 7, 13, 40), dtype, true, isa);
      check_blend(Tensor(variant, real, (ONE << 34) - 200, 5, 133, 101), dtype, false, isa);
      check_blend(Tensor(variant, real, LAST, 77, 1, 0), dtype, true, isa);
      check_blend(Tensor(variant, real, 1, 1, 63 * 67, 0).shaped({63, 67}, {1, 63}), dtype, true, isa);
      check_blend(Tensor(variant, real, 1, 63, 67, 70).shaped({7, 9, 67}, {2000, 210, 3}), dtype, false, isa);
      check_blend(Tensor(variant, real, 2, 1, 2100, 0).shaped({2100}, {-2}), dtype, false, isa);
    }
}

void large_blends(int32_t isa) {
  const Tensor flat(VARIANTS[2], FASTINIT_FLOAT32, ((int64_t)1 << 34) - THREADED / 2, 1, THREADED, 0);
  check_blend(flat, FASTINIT_BFLOAT16, true, isa, 64);
  const int64_t lines = quick ? 300 : 1021; /* enough for two threads, or for seven */
  check_blend(Tensor(VARIANTS[0], FASTINIT_FLOAT32, 9, lines, 1031, 5000).shaped({lines, 1031}, {1, lines}), FASTINIT_FLOAT32,
              false, isa, 7);
}

/* --- threads --------------------------------------------------------------------------------------------------------------- */

std::deque<Tensor> list(int64_t most) {
  std::deque<Tensor> tensors;
  int64_t start = 0;
  for_every_loop([&](const Variant &variant, int32_t dtype) {
    for (int64_t count : {most / 53, (int64_t)0, (int64_t)1, (int64_t)17}) {
      tensors.emplace_back(variant, dtype, start += 12345, 1, count, 0);
      tensors.back().blank(start % 16);
    }
    tensors.emplace_back(variant, dtype, start, 3, 1001, 1002);
    tensors.back().shaped({77, 39}, {1, 80}).blank(8);
  });
  return tensors;
}

void check_list(int64_t most, int32_t isa, int32_t threads) {
  std::deque<Tensor> tensors = list(most);
  std::vector<Tensor *> all;
  for (Tensor &tensor : tensors) all.push_back(&tensor);
  fill(all, isa, threads);
  for (const Tensor &tensor : tensors) verify(tensor, isa, threads);
}

void lists(int32_t isa) {
  for (int32_t threads : {1, 2, 3, 7, 64, INT32_MAX})
    if (!quick || threads == 3 || threads == 64) check_list(THREADED, isa, threads);
  for (int most : {0, 1, 3}) {
    startable = most;
    check_list(THREADED, isa, 8);
  }
  startable = INT32_MAX;
}

void large_tensors(int32_t isa) {
  const int64_t ONE = 1;
  for (int32_t dtype : {FASTINIT_FLOAT8_E5M2, FASTINIT_BFLOAT16, FASTINIT_FLOAT32, FASTINIT_FLOAT64}) {
    if (quick && dtype != FASTINIT_BFLOAT16) continue;
    check(Tensor(VARIANTS[2], dtype, (ONE << 34) - THREADED / 2, 1, THREADED, 0).blank(1), isa, 64);
    check(Tensor(VARIANTS[4], dtype, 9, 1021, 1031, 5000).shaped({1021, 1031}, {1, 1021}).blank(0), isa, 64);
    Tensor words(VARIANTS[6], dtype, 9, 1, THREADED, 0);
    const std::vector<uint8_t> given = words_of(words.plan, THREADED);
    words.blank(2);
    if (fastinit_transform(&words.plan, given.data(), THREADED, 64, isa)) fault("refused words", words.plan, isa, 64);
    verify(words, isa, 64);
  }
}

/* From 64 threads at once, all with the same recipe, each with threads of its own. */
void callers(int32_t isa) {
  Tensor shared(VARIANTS[2], FASTINIT_BFLOAT16, 0, 1, 0, 0);
  std::deque<Tensor> tensors;
  for (int i = 0; i < 64; i++) {
    tensors.emplace_back(VARIANTS[2], FASTINIT_BFLOAT16, 1000 * i, 1, i % 8 ? 1000 + i : 3 << 17, 0);
    tensors.back().plan.recipe = shared.plan.recipe;
    tensors.back().blank(i % 16);
  }
  std::vector<std::thread> threads;
  for (Tensor &tensor : tensors) threads.emplace_back([&tensor, isa] { fill({&tensor}, isa, 3); });
  for (std::thread &thread : threads) thread.join();
  for (const Tensor &tensor : tensors) verify(tensor, isa, 3);
}

}  // namespace

extern "C" {

int __real_pthread_create(pthread_t *, const pthread_attr_t *, void *(*)(void *), void *);

int __wrap_pthread_create(pthread_t *thread, const pthread_attr_t *attributes, void *(*run)(void *), void *argument) {
  if (startable.fetch_sub(1) > 0) return __real_pthread_create(thread, attributes, run, argument);
  return EAGAIN;
}

}  // extern "C"

struct {
  const char *name;
  void (*run)(int32_t isa);
} const CHECKS[] = {
    {"lengths", lengths_and_starts}, {"boxes", boxes},     {"layouts", layouts}, {"words", mapped_words},       {"lists", lists},
    {"large", large_tensors},        {"callers", callers}, {"blends", blends},   {"large blends", large_blends}};

int main(int count, char **arguments) {
  quick = count > 1 && !strcmp(arguments[1], "quick");
  const char *const only = count > 2 ? arguments[2] : nullptr;
  int sets = 0;
  for (int32_t isa = FASTINIT_SCALAR; isa < FASTINIT_ISAS; isa++) {
    if (fastinit_check_isa(isa)) continue;
    sets++;
    for (const auto &check : CHECKS)
      if (!only || !strcmp(only, check.name)) check.run(isa);
  }
  printf("%lld fills of %lld elements in %d instruction sets\n", (long long)fills, (long long)elements, sets);
}
