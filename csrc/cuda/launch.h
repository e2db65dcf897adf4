/* Launches on any device, from any thread. What a device was asked once is kept. */
#pragma once

#include <atomic>

#include "kernel.h"

namespace fastinit {
namespace {

constexpr int MOST_DEVICES = 64; /* whose answers are kept */

int32_t status_of(cudaError_t error) {
  if (error == cudaSuccess) return FASTINIT_OK;
  cudaGetLastError(); /* clears this library's record of it; the caller's own runtime has seen nothing */
  return FASTINIT_CUDA_ERRORS + (int32_t)error;
}

/* Makes a device the calling thread's for as long as the object lives. Contexts, not device numbers, are restored: a thread that
 * had none has none again, and another copy of the runtime, such as torch's, finds what it left. */
class OnDevice {
  using Get = int (*)(void **);
  using Set = int (*)(void *);
  void *before_ = nullptr;
  bool switched_ = false;

  static void *driver_function(const char *name) {
    void *found = nullptr;
#if CUDART_VERSION >= 12050
    cudaDriverEntryPointQueryResult result;
    if (cudaGetDriverEntryPointByVersion(name, &found, 12000, cudaEnableDefault, &result) != cudaSuccess) return nullptr;
#else
    if (cudaGetDriverEntryPoint(name, &found, cudaEnableDefault) != cudaSuccess) return nullptr;
#endif
    return found;
  }
  static Get get() {
    static const Get function = (Get)driver_function("cuCtxGetCurrent");
    return function;
  }
  static Set set() {
    static const Set function = (Set)driver_function("cuCtxSetCurrent");
    return function;
  }

 public:
  int32_t status;

  explicit OnDevice(int32_t device) {
    void *now = nullptr;
    if (device < 0) {
      status = FASTINIT_BAD_DEVICE;
    } else if (!get() || !set()) {
      status = status_of(cudaErrorInsufficientDriver);
    } else if (int error = get()(&before_)) {
      status = FASTINIT_CUDA_ERRORS + error;
    } else {
      status = status_of(cudaSetDevice(device));
      if (status == FASTINIT_CUDA_ERRORS + (int32_t)cudaErrorInvalidDevice) status = FASTINIT_BAD_DEVICE;
      switched_ = get()(&now) == 0 && now != before_;
    }
  }
  ~OnDevice() {
    if (switched_) set()(before_);
  }
  OnDevice(const OnDevice &) = delete;
};

/* How many of a kernel's blocks the device holds at once; asked once for each device and kernel. */
template <class Kernel>
int32_t resident_blocks(Kernel kernel, int32_t device, std::atomic<int> (&known)[MOST_DEVICES], int *blocks) {
  if (device < MOST_DEVICES) *blocks = known[device].load(std::memory_order_relaxed);
  if (device < MOST_DEVICES && *blocks > 0) return FASTINIT_OK;
  int processors, each;
  if (cudaError_t error = cudaDeviceGetAttribute(&processors, cudaDevAttrMultiProcessorCount, device)) return status_of(error);
  if (cudaError_t error = cudaOccupancyMaxActiveBlocksPerMultiprocessor(&each, kernel, THREADS, 0)) return status_of(error);
  *blocks = processors * (each > 0 ? each : 1);
  if (device < MOST_DEVICES) known[device].store(*blocks, std::memory_order_relaxed);
  return FASTINIT_OK;
}

struct Target {
  int32_t device;
  cudaStream_t stream;
};

/* The blocks for so much work: no more than the device holds at once. */
template <auto KERNEL> int32_t grid_for(const Target &target, int64_t work, int *grid) {
  static std::atomic<int> known[MOST_DEVICES];
  if (int32_t status = resident_blocks(KERNEL, target.device, known, grid)) return status;
  if (work < *grid) *grid = (int)work;
  return FASTINIT_OK;
}

template <auto KERNEL, class Parameters> int32_t start(const Target &target, int grid, Parameters &launch) {
  void *parameters[] = {&launch};
  return status_of(cudaLaunchKernel(KERNEL, dim3(grid), dim3(THREADS), parameters, 0, target.stream));
}

/* Start a kernel that takes element after element. */
template <auto KERNEL, class Parameters> int32_t start_for(const Target &target, int64_t elements, Parameters &launch) {
  int grid = 0;
  if (int32_t status = grid_for<KERNEL>(target, (elements + THREADS - 1) / THREADS, &grid)) return status;
  return start<KERNEL>(target, grid, launch);
}

}  // namespace
}  // namespace fastinit
