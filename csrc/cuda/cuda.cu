/* The CUDA entry: checks, then each dtype's plans to launches. Nothing here allocates, copies or waits. */

#include <initializer_list>

#include "blend.h"

namespace fastinit {
namespace {

constexpr int64_t MOST_ELEMENTS = (int64_t)1 << 41; /* tiles are counted in 32 bits */
constexpr int OLDEST_DRIVER = 12010;                /* older ones take 4 KB of parameters, no more */
constexpr int OLDEST_CAPABILITY = 75;

template <int VALUE> struct Constant {
  static constexpr int value = VALUE;
};

/* Load the kernels of a dtype now: later, a stream may be under capture. */
int32_t load(std::initializer_list<const void *> kernels) {
  for (const void *kernel : kernels) {
    cudaFuncAttributes attributes;
    if (cudaError_t error = cudaFuncGetAttributes(&attributes, kernel)) return status_of(error);
  }
  return FASTINIT_OK;
}
template <int DTYPE> int32_t load() {
  if constexpr (!IS_WORDS<DTYPE>)
    if (int32_t status = load({(const void *)blend_list<DTYPE>, (const void *)blend_elements<DTYPE>})) return status;
  return load({(const void *)fill_one<DTYPE>, (const void *)fill_list<DTYPE>, (const void *)fill_elements<DTYPE, ROOM<DTYPE>>,
               (const void *)map_words<DTYPE, ROOM<DTYPE>>});
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

int32_t check_blendings(const fastinit_blending *blendings, int64_t count) {
  for (int64_t i = 0; i < count; i++) {
    const fastinit_blending &blending = blendings[i];
    const bool is_narrow = blending.dtype != FASTINIT_FLOAT32 && blending.dtype != FASTINIT_FLOAT64;
    int64_t elements;
    if (int32_t status = check_blending(blending, &elements)) return status;
    if (elements > 0 && is_misaligned(blending.to.out, blending.dtype)) return FASTINIT_MISALIGNED;
    if (elements > 0 && blending.keep != 0 && is_misaligned(blending.source, blending.dtype)) return FASTINIT_MISALIGNED;
    if (elements >= MOST_ELEMENTS) return FASTINIT_TOO_LARGE;
    if (is_narrow && blending.members > FASTINIT_MOST_MEMBERS) return FASTINIT_TOO_MANY;
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

int32_t dtype_of(const fastinit_plan &plan) { return plan.recipe->dtype; }
int32_t dtype_of(const fastinit_blending &blending) { return blending.dtype; }

/* Call work(dtype, target, first, left) once for each dtype that occurs: all that have it are from the first on. */
template <class Job, class Work>
int32_t by_dtype(int32_t device, void *stream, const Job *jobs, int64_t count, Work work) {
  const OnDevice on(device);
  if (on.status) return on.status;
  const IeeeMode mode; /* recipes are rounded on the host */
  const Target target{device, (cudaStream_t)stream};
  bool done[FASTINIT_DTYPES] = {};
  for (int64_t i = 0; i < count; i++) {
    const int32_t dtype = dtype_of(jobs[i]);
    if (done[dtype]) continue;
    done[dtype] = true;
    const auto here = [&](auto constant) { return work(constant, target, jobs + i, count - i); };
    if (int32_t status = with_dtype(dtype, here)) return status;
  }
  return FASTINIT_OK;
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
  return by_dtype(device, stream, plans, count, [](auto dtype, const Target &target, const fastinit_plan *first, int64_t left) {
    return fill_dtype<decltype(dtype)::value>(target, first, left);
  });
}

int32_t fastinit_cuda_blend(const fastinit_blending *blendings, int64_t count, int32_t device, void *stream) {
  if (count < 0) return FASTINIT_BAD_COUNT;
  if (count > 0 && !blendings) return FASTINIT_NULL_POINTER;
  const IeeeMode mode; /* coefficients that are subnormal are numbers */
  if (int32_t status = check_blendings(blendings, count)) return status;
  return by_dtype(device, stream, blendings, count,
                  [](auto dtype, const Target &target, const fastinit_blending *first, int64_t left) {
                    return blend_dtype<decltype(dtype)::value>(target, first, left);
                  });
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
