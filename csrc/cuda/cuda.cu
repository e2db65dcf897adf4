/* The CUDA entry: checks, then each dtype's plans to launches. Nothing here allocates, copies or waits. */

#include "fill.h"

namespace fastinit {
namespace {

constexpr int64_t MOST_ELEMENTS = (int64_t)1 << 41; /* tiles are counted in 32 bits */
constexpr int OLDEST_DRIVER = 12010;                /* older ones take 4 KB of parameters, no more */
constexpr int OLDEST_CAPABILITY = 75;

template <int VALUE> struct Constant {
  static constexpr int value = VALUE;
};

/* Load the kernels of a dtype now: later, a stream may be under capture. */
template <int DTYPE> int32_t load() {
  const void *kernels[] = {(const void *)fill_one<DTYPE>, (const void *)fill_list<DTYPE>,
                           (const void *)fill_elements<DTYPE, ROOM<DTYPE>>, (const void *)map_words<DTYPE, ROOM<DTYPE>>};
  for (const void *kernel : kernels) {
    cudaFuncAttributes attributes;
    if (cudaError_t error = cudaFuncGetAttributes(&attributes, kernel)) return status_of(error);
  }
  return FASTINIT_OK;
}

/* Call work with the dtype as a constant. */
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
    if (int32_t status = check_recipe(plans[i].recipe)) return status;
    if (int32_t status = check_place(plans[i], &elements)) return status;
    if (elements > 0 && is_misaligned(plans[i].out, plans[i].recipe->dtype)) return FASTINIT_MISALIGNED;
    if (elements >= MOST_ELEMENTS) return FASTINIT_TOO_LARGE;
  }
  return FASTINIT_OK;
}

int32_t check_device(int32_t device) {
  int count, major, minor, driver;
  if (cudaError_t error = cudaGetDeviceCount(&count)) return status_of(error);
  if (device < 0 || device >= count) return FASTINIT_BAD_DEVICE;
  if (cudaError_t error = cudaDriverGetVersion(&driver)) return status_of(error);
  if (driver < OLDEST_DRIVER) return FASTINIT_OLD_DRIVER;
  if (cudaError_t error = cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, device)) return status_of(error);
  if (cudaError_t error = cudaDeviceGetAttribute(&minor, cudaDevAttrComputeCapabilityMinor, device)) return status_of(error);
  return 10 * major + minor >= OLDEST_CAPABILITY ? FASTINIT_OK : FASTINIT_BAD_DEVICE;
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
  const IeeeMode mode; /* recipes are rounded on the host */
  const Target target{device, (cudaStream_t)stream};
  bool done[FASTINIT_DTYPES] = {};
  for (int64_t i = 0; i < count; i++) { /* each dtype where it comes first: all its plans are from there on */
    const int32_t dtype = plans[i].recipe->dtype;
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
  if (int32_t status = check_recipe(plan->recipe)) return status;
  if (count >= MOST_ELEMENTS) return FASTINIT_TOO_LARGE;
  const fastinit_recipe &recipe = *plan->recipe;
  const int32_t word = item_size(recipe.dtype) == 8 ? FASTINIT_UINT64 : FASTINIT_UINT32;
  if (is_misaligned(plan->out, recipe.dtype) || is_misaligned(words, word)) return FASTINIT_MISALIGNED;
  const OnDevice on(device);
  if (on.status || count == 0) return on.status;
  const IeeeMode mode;
  const Target target{device, (cudaStream_t)stream};
  const auto map = [&](auto dtype) { return map_dtype<decltype(dtype)::value>(target, recipe, words, count, plan->out); };
  return with_dtype(recipe.dtype, map);
}

}  // extern "C"
