/* The CUDA entry: checks, plans into kernel parameters, launches. Nothing here allocates, copies or waits. */

#include <string.h>

#include "cuda_launch.h"

namespace fastinit {
namespace {

constexpr int64_t MOST_ELEMENTS = (int64_t)1 << 41;   /* tiles are counted in 32 bits */
constexpr int64_t MOST_VECTORS = (int64_t)1 << 30;    /* of a row */
constexpr int64_t SHARED_BLOCKS = (int64_t)1 << 32;   /* have the upper half of their number in common */

template <int VALUE> struct Constant {
  static constexpr int value = VALUE;
};

/* The parameters of a kernel with one law: of float64, its table alone is 26 KB. */
template <int DTYPE> constexpr int ROOM = IS_WIDE<DTYPE> ? MUCH : LITTLE;

/* --- laws ------------------------------------------------------------------------------------------------------------------ */

bool has_table(const fastinit_plan &plan) { return plan.kind != FASTINIT_UNIFORM && plan.kind != FASTINIT_WORDS; }

/* Whether a law is served in two launches, one for each half of its table: both halves in float64 exceed a launch. */
bool is_halved(const fastinit_plan &plan) { return plan.kind == FASTINIT_TWO_SIDED && plan.dtype == FASTINIT_FLOAT64; }

int table_halves(const fastinit_plan &plan) { return plan.kind == FASTINIT_TWO_SIDED && !is_halved(plan) ? 2 : 1; }

template <class R> int law_bytes(const fastinit_plan &plan) {
  const int reals = has_table(plan) ? table_halves(plan) * plan.terms * plan.cells : 0;
  return (int)(sizeof(Law<R>) + reals * sizeof(R) + 15) / 16 * 16;
}

int32_t variant_of(const fastinit_plan &plan) {
  if (plan.kind == FASTINIT_UNIFORM) return plan.flip ? BOUND_ALONE : UNIFORM_ALONE;
  const bool small = plan.cells == SMALL_CELLS;
  if (plan.kind == FASTINIT_SYMMETRIC) return small ? SYMMETRIC_SMALL : SYMMETRIC_LARGE;
  if (plan.kind == FASTINIT_TWO_SIDED) return small ? TWO_SIDED_SMALL : TWO_SIDED_LARGE;
  return small ? FMOD_SMALL : FMOD_LARGE;
}

/* Writes a plan's law with its table, [terms][halves][cells]; `half` is the only one of a halved law. */
template <int DTYPE> void write_law(const fastinit_plan &plan, int32_t half, char *to) {
  using R = Real<DTYPE>;
  Law<R> &law = *(Law<R> *)to;
  law.slope = (R)plan.slope, law.anchor = (R)plan.anchor, law.std = (R)plan.std;
  law.cut = (R)plan.cut, law.inverse_cut = (R)plan.inverse_cut, law.low = (R)plan.low, law.high = (R)plan.high;
  for (int i = 0; i < 2; i++) law.offset[i] = (R)plan.offset[i], law.scale[i] = (R)plan.scale[i];
  law.flip = (decltype(law.flip))plan.flip;
  if constexpr (SIZE<DTYPE> == 2) {
    law.low_pair = rounded_pair<DTYPE>(law.low, law.low), law.high_pair = rounded_pair<DTYPE>(law.high, law.high);
  }
  law.top_bits = plan.top_bits, law.variant = variant_of(plan), law.reals = 0;
  if (!has_table(plan)) return;
  const int halves = table_halves(plan), cells = plan.cells;
  const R *from = (const R *)plan.table + (is_halved(plan) && half == UPPER ? plan.terms * cells : 0);
  R *table = (R *)(&law + 1);
  for (int term = 0; term < plan.terms; term++)
    for (int h = 0; h < halves; h++, table += cells) memcpy(table, from + (h * plan.terms + term) * cells, cells * sizeof(R));
  law.reals = halves * plan.terms * cells;
}

bool have_same_law(const fastinit_plan &a, const fastinit_plan &b) {
  return a.table == b.table && a.kind == b.kind && a.cells == b.cells && a.terms == b.terms && a.top_bits == b.top_bits &&
         !memcmp(&a.slope, &b.slope, (const char *)(&a.scale + 1) - (const char *)&a.slope);
}

/* --- places ---------------------------------------------------------------------------------------------------------------- */

/* A plan's axes in memory, the least stride first, those that are one in both orders joined. */
struct Axes {
  int count = 0;
  Axis axis[FASTINIT_MAX_DIMS];

  Axes(const fastinit_plan &plan, int64_t elements) {
    if (plan.dims == 0) axis[count++] = {elements, 1, 1};
    int64_t step = 1;
    for (int d = plan.dims - 1; d >= 0; d--) {
      const int64_t size = plan.layout[d], stride = plan.layout[plan.dims + d];
      if (size > 1) insert({size, step, stride});
      step *= size;
    }
    int joined = 0;
    for (int i = 1; i < count; i++) {
      Axis &last = axis[joined];
      if (axis[i].step == last.step * last.size && axis[i].stride == last.stride * last.size) last.size *= axis[i].size;
      else axis[++joined] = axis[i];
    }
    if (count) count = joined + 1;
    else axis[count++] = {1, 1, 1};
  }
  void insert(const Axis &added) {
    int i = count++;
    for (; i > 0 && axis[i - 1].stride > added.stride; i--) axis[i] = axis[i - 1];
    axis[i] = added;
  }
  bool is_contiguous() const { return count == 1 && axis[0].step == 1 && axis[0].stride == 1; }
};

/* --- launches -------------------------------------------------------------------------------------------------------------- */

/* Collects the rows of one dtype, and launches them when a launch is full. */
template <int DTYPE> class Batch {
  using R = Real<DTYPE>;
  using Line = Row<DTYPE>;
  const Target target_;
  Launch<MUCH> launch_;
  int end_ = MUCH; /* where the laws begin: rows are in front, laws at the back */
  int count_ = 0;  /* laws: where each is, and a plan that it is of */
  int laws_[MUCH / sizeof(Law<R>)];
  const fastinit_plan *sources_[MUCH / sizeof(Law<R>)];

  Line *rows() { return (Line *)launch_.data; }

  /* Where the plan's law is in the launch; -1 where a row and it do not fit any more. */
  int law_of(const fastinit_plan &plan) {
    const int front = (int)((launch_.rows + 1) * sizeof(Line));
    if constexpr (IS_WORDS<DTYPE>) return front <= end_ ? 0 : -1;
    else return law_behind(plan, front);
  }
  int law_behind(const fastinit_plan &plan, int front) {
    for (int i = count_ - 1; i >= 0; i--)
      if (have_same_law(plan, *sources_[i])) return front <= end_ ? laws_[i] : -1;
    const int bytes = law_bytes<R>(plan);
    if (front + bytes > end_) return -1;
    end_ -= bytes;
    write_law<DTYPE>(plan, BOTH, launch_.data + end_);
    sources_[count_] = &plan, laws_[count_++] = end_;
    return end_;
  }

 public:
  explicit Batch(const Target &target) : target_(target) { launch_.rows = 0; }

  int32_t flush() {
    if (launch_.rows == 0) return FASTINIT_OK;
    const bool alone = launch_.rows == 1 && (int)sizeof(Line) + MUCH - end_ <= LITTLE;
    const int32_t status = alone ? start_one() : start_list();
    launch_.rows = 0, end_ = MUCH, count_ = 0;
    return status;
  }

  int32_t add(const fastinit_plan &plan, char *out, uint64_t block, int64_t lines, int64_t line_elements, int64_t pitch) {
    int law = law_of(plan);
    if (law < 0) {
      if (int32_t status = flush()) return status;
      law = law_of(plan);
    }
    Line &row = rows()[launch_.rows++];
    row.out = out, row.key = plan.key, row.block = block, row.pitch = pitch, row.law = law;
    row.vectors = (int32_t)(line_elements / VECTOR<DTYPE>), row.rest = (int32_t)(line_elements % VECTOR<DTYPE>);
    const int64_t covered = row.vectors + (row.rest > 0);
    row.tiles_a_line = (int32_t)((covered * VECTOR<DTYPE> + TILE<DTYPE> - 1) / TILE<DTYPE>);
    row.tiles = (int32_t)(row.tiles_a_line * lines), row.before = 0;
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
    for (int i = 0; i < launch_.rows; before += rows()[i++].tiles) rows()[i].before = (int32_t)(before % grid);
    return start<fill_list<DTYPE>>(target_, grid, launch_);
  }
};

/* `local` and `out` are where the axes at hand begin. Axes beyond what a launch takes are walked on the host. */
template <int DTYPE>
int32_t fill_by_elements(const Target &target, const fastinit_plan &plan, const Axes &axes, int count, char *out, int64_t local) {
  if (count > MOST_AXES) {
    const Axis &outer = axes.axis[count - 1];
    for (int64_t i = 0; i < outer.size; i++) {
      char *const at = out + i * outer.stride * SIZE<DTYPE>;
      if (int32_t status = fill_by_elements<DTYPE>(target, plan, axes, count - 1, at, local + i * outer.step)) return status;
    }
    return FASTINIT_OK;
  }
  Place place;
  place.out = out, place.key = plan.key, place.start = plan.start, place.first = local, place.axes = count, place.elements = 1;
  for (int a = 0; a < count; a++) place.axis[a] = axes.axis[a], place.elements *= axes.axis[a].size;
  place.cols = plan.rows > 1 ? plan.cols : 0, place.pitch = plan.pitch;
  place.narrow = plan.rows * plan.cols < ((int64_t)1 << 32);
  const int first_half = is_halved(plan) ? LOWER : BOTH, last_half = is_halved(plan) ? UPPER : BOTH;
  for (int half = first_half; half <= last_half; half++) {
    Launch<ROOM<DTYPE>> launch;
    place.half = half, place.law = sizeof(Place);
    memcpy(launch.data, &place, sizeof place);
    if constexpr (!IS_WORDS<DTYPE>) write_law<DTYPE>(plan, half, launch.data + place.law);
    if (int32_t status = start_for<fill_elements<DTYPE, ROOM<DTYPE>>>(target, place.elements, launch)) return status;
  }
  return FASTINIT_OK;
}

template <int DTYPE> int32_t fill_plan(const Target &target, Batch<DTYPE> &batch, const fastinit_plan &plan) {
  const int64_t elements = plan.rows * plan.cols;
  if (elements == 0) return FASTINIT_OK;
  const Axes axes(plan, elements);
  char *out = (char *)plan.out;
  bool blocks = axes.is_contiguous() && (uintptr_t)out % 16 == 0 && plan.start % 4 == 0 && !is_halved(plan);
  const bool boxed = plan.rows > 1 && plan.cols != plan.pitch;
  if (blocks && boxed) { /* lines of whole vectors, long enough to keep most of a tile's threads busy, in the same 2^32 blocks */
    const int64_t vectors = plan.cols / VECTOR<DTYPE>, tiles = (plan.cols + TILE<DTYPE> - 1) / TILE<DTYPE>;
    const uint64_t first = (uint64_t)plan.start / 4;
    const uint64_t last = (uint64_t)(plan.start + (plan.rows - 1) * plan.pitch + plan.cols - 1) / 4;
    blocks = plan.cols % VECTOR<DTYPE> == 0 && plan.pitch % 4 == 0 && plan.cols * 4 >= TILE<DTYPE> && vectors <= MOST_VECTORS &&
             first >> 32 == last >> 32 && plan.rows * tiles < ((int64_t)1 << 30);
    if (blocks) return batch.add(plan, out, first, plan.rows, plan.cols, plan.pitch / 4);
  }
  if (!blocks) return fill_by_elements<DTYPE>(target, plan, axes, axes.count, out, 0);
  uint64_t block = (uint64_t)plan.start / 4;
  for (int64_t left = elements; left > 0;) {
    const int64_t shared = (SHARED_BLOCKS - (int64_t)(block % SHARED_BLOCKS)) * 4, most = MOST_VECTORS * VECTOR<DTYPE>;
    int64_t here = left < shared ? left : shared;
    if (here > most) here = most;
    if ((uintptr_t)out % 16) { /* a boundary of 2^32 blocks in the middle of a vector */
      fastinit_plan rest = plan;
      rest.out = out, rest.start = (int64_t)block * 4, rest.rows = 1, rest.cols = left, rest.dims = 0;
      const Axes all(rest, left);
      return fill_by_elements<DTYPE>(target, rest, all, all.count, out, 0);
    }
    if (int32_t status = batch.add(plan, out, block, 1, here, 0)) return status;
    out += here * SIZE<DTYPE>, block += (uint64_t)(here / 4), left -= here;
  }
  return FASTINIT_OK;
}

template <int DTYPE> int32_t fill_dtype(const Target &target, const fastinit_plan *plans, int64_t count) {
  Batch<DTYPE> batch(target);
  for (int64_t i = 0; i < count; i++)
    if (plans[i].dtype == DTYPE)
      if (int32_t status = fill_plan<DTYPE>(target, batch, plans[i])) return status;
  return batch.flush();
}

template <int DTYPE> int32_t map_dtype(const Target &target, const fastinit_plan &plan, const void *words, int64_t count) {
  const int first_half = is_halved(plan) ? LOWER : BOTH, last_half = is_halved(plan) ? UPPER : BOTH;
  for (int half = first_half; half <= last_half; half++) {
    Launch<ROOM<DTYPE>> launch;
    Given &given = *(Given *)launch.data;
    given = {(const char *)words, (char *)plan.out, count, (int32_t)sizeof(Given), half};
    if constexpr (!IS_WORDS<DTYPE>) write_law<DTYPE>(plan, half, launch.data + given.law);
    if (int32_t status = start_for<map_words<DTYPE, ROOM<DTYPE>>>(target, count, launch)) return status;
  }
  return FASTINIT_OK;
}

/* Loads the kernels of a dtype: later, a stream may be under capture. */
template <int DTYPE> int32_t load() {
  const void *kernels[] = {(const void *)fill_one<DTYPE>, (const void *)fill_list<DTYPE>,
                           (const void *)fill_elements<DTYPE, ROOM<DTYPE>>, (const void *)map_words<DTYPE, ROOM<DTYPE>>};
  for (const void *kernel : kernels) {
    cudaFuncAttributes attributes;
    if (cudaError_t error = cudaFuncGetAttributes(&attributes, kernel)) return status_of(error);
  }
  return FASTINIT_OK;
}

/* Calls work with the dtype as a constant. */
template <class Work> int32_t with_dtype(int32_t dtype, Work work) {
  switch (dtype) {
    case FASTINIT_FLOAT32: return work(Constant<FASTINIT_FLOAT32>());
    case FASTINIT_FLOAT64: return work(Constant<FASTINIT_FLOAT64>());
    case FASTINIT_FLOAT16: return work(Constant<FASTINIT_FLOAT16>());
    case FASTINIT_BFLOAT16: return work(Constant<FASTINIT_BFLOAT16>());
    case FASTINIT_FLOAT8_E4M3FN: return work(Constant<FASTINIT_FLOAT8_E4M3FN>());
    case FASTINIT_FLOAT8_E5M2: return work(Constant<FASTINIT_FLOAT8_E5M2>());
    case FASTINIT_UINT32: return work(Constant<FASTINIT_UINT32>());
    case FASTINIT_UINT64: return work(Constant<FASTINIT_UINT64>());
    default: return FASTINIT_BAD_DTYPE;
  }
}

bool is_misaligned(const void *pointer, int32_t dtype) { return (uintptr_t)pointer % item_size(dtype) != 0; }

int32_t check_plans(const fastinit_plan *plans, int64_t count) {
  for (int64_t i = 0; i < count; i++) {
    int64_t elements;
    if (int32_t status = check_values(plans[i])) return status;
    if (int32_t status = check_place(plans[i], &elements)) return status;
    if (elements > 0 && is_misaligned(plans[i].out, plans[i].dtype)) return FASTINIT_MISALIGNED;
    if (elements >= MOST_ELEMENTS) return FASTINIT_TOO_LARGE;
  }
  return FASTINIT_OK;
}

int32_t check_device(int32_t device) {
  int count, major, minor, driver;
  if (cudaError_t error = cudaGetDeviceCount(&count)) return status_of(error);
  if (device < 0 || device >= count) return FASTINIT_BAD_DEVICE;
  if (cudaError_t error = cudaDriverGetVersion(&driver)) return status_of(error);
  if (driver < 12010) return FASTINIT_OLD_DRIVER; /* takes 4 KB of parameters, no more */
  if (cudaError_t error = cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, device)) return status_of(error);
  if (cudaError_t error = cudaDeviceGetAttribute(&minor, cudaDevAttrComputeCapabilityMinor, device)) return status_of(error);
  return 10 * major + minor >= 75 ? FASTINIT_OK : FASTINIT_BAD_DEVICE;
}

}  // namespace
}  // namespace fastinit

using namespace fastinit;

extern "C" {

int32_t fastinit_abi(void) { return FASTINIT_ABI; }

const char *fastinit_message(int32_t status) {
  return status > FASTINIT_CUDA_ERRORS ? cudaGetErrorString((cudaError_t)(status - FASTINIT_CUDA_ERRORS)) : message(status);
}

int32_t fastinit_cuda_check(int32_t device) {
  if (int32_t status = check_device(device)) return status;
  const OnDevice on(device);
  if (on.status) return on.status;
  for (int32_t dtype = 0; dtype < FASTINIT_DTYPES; dtype++)
    if (int32_t status = with_dtype(dtype, [](auto constant) { return load<decltype(constant)::value>(); })) return status;
  return FASTINIT_OK;
}

int32_t fastinit_cuda_fill(const fastinit_plan *plans, int64_t count, int32_t device, void *stream) {
  if (count < 0) return FASTINIT_BAD_COUNT;
  if (count > 0 && !plans) return FASTINIT_NULL_POINTER;
  if (int32_t status = check_plans(plans, count)) return status;
  const OnDevice on(device);
  if (on.status) return on.status;
  const Target target{device, (cudaStream_t)stream};
  bool done[FASTINIT_DTYPES] = {};
  for (int64_t i = 0; i < count; i++) { /* each dtype where it comes first: what follows are all its plans */
    const int32_t dtype = plans[i].dtype;
    if (done[dtype]) continue;
    done[dtype] = true;
    const auto fill = [&](auto constant) { return fill_dtype<decltype(constant)::value>(target, plans + i, count - i); };
    if (int32_t status = with_dtype(dtype, fill)) return status;
  }
  return FASTINIT_OK;
}

int32_t fastinit_cuda_transform(const fastinit_plan *plan, const void *words, int64_t count, int32_t device, void *stream) {
  if (count < 0) return FASTINIT_BAD_COUNT;
  if (!plan || (count > 0 && (!words || !plan->out))) return FASTINIT_NULL_POINTER;
  if (int32_t status = check_values(*plan)) return status;
  if (count >= MOST_ELEMENTS) return FASTINIT_TOO_LARGE;
  const int32_t word = item_size(plan->dtype) == 8 ? FASTINIT_UINT64 : FASTINIT_UINT32;
  if (is_misaligned(plan->out, plan->dtype) || is_misaligned(words, word)) return FASTINIT_MISALIGNED;
  const OnDevice on(device);
  if (on.status || count == 0) return on.status;
  const Target target{device, (cudaStream_t)stream};
  const auto map = [&](auto constant) { return map_dtype<decltype(constant)::value>(target, *plan, words, count); };
  return with_dtype(plan->dtype, map);
}

}  // extern "C"
