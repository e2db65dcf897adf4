/* A stand-in for CUDA's header, so that a C++ compiler builds csrc/cuda/cuda.cu, kernels and host code, for the CPU: its twin.
 *
 * A block's threads are fibers, which run one after another from barrier to barrier, the last thread first: a thread that reads
 * what another has yet to write gets it wrong here. There are TWIN_DEVICES devices, each with two small multiprocessors. */
#pragma once

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <ucontext.h>

#define CUDART_VERSION 13000
#define __global__ static
#define __device__
#define __forceinline__ inline
#define __shared__ static
#define __grid_constant__
#define __launch_bounds__(...)

constexpr int TWIN_DEVICES = 3, TWIN_PROCESSORS = 2, TWIN_BLOCKS = 2, TWIN_CAPABILITY = 8;
constexpr size_t TWIN_STACK = 256 << 10;

struct dim3 {
  unsigned x, y, z;
  dim3(unsigned x = 1) : x(x), y(1), z(1) {}
};
struct alignas(16) uint4 {
  unsigned x, y, z, w;
};
using cudaStream_t = struct Stream *;
enum cudaError_t { cudaSuccess, cudaErrorInvalidValue = 1, cudaErrorInsufficientDriver = 35, cudaErrorInvalidDevice = 101 };
enum cudaDeviceAttr { cudaDevAttrMultiProcessorCount, cudaDevAttrComputeCapabilityMajor, cudaDevAttrComputeCapabilityMinor };
enum { cudaEnableDefault };
enum cudaDriverEntryPointQueryResult { cudaDriverEntryPointSuccess };
struct cudaFuncAttributes {};

/* What tests read and set. */
struct Twin {
  int launches, error, contexts; /* error: what the next launches return; contexts: how often another was made current */
  void *current;                 /* the calling thread's context: 1 + the device's number, or none */
  int grid;                      /* blocks of the last launch */
};
extern "C" __attribute__((visibility("default"))) Twin twin;
Twin twin;

static dim3 threadIdx, blockIdx, blockDim, gridDim;

namespace fibers {

struct Fiber {
  ucontext_t context;
  bool done;
};
static ucontext_t scheduler;
static Fiber *running;
static void (*body)(void *);
static void *argument;

static void enter() {
  body(argument);
  running->done = true;
}

/* Run a block's threads to their end. */
static void run_block(unsigned threads) {
  static Fiber *fibers = (Fiber *)calloc(1024, sizeof(Fiber));
  static char *stacks = (char *)malloc(1024 * TWIN_STACK);
  for (unsigned t = 0; t < threads; t++) {
    fibers[t].done = false;
    getcontext(&fibers[t].context);
    fibers[t].context.uc_stack.ss_sp = stacks + t * TWIN_STACK;
    fibers[t].context.uc_stack.ss_size = TWIN_STACK;
    fibers[t].context.uc_link = &scheduler;
    makecontext(&fibers[t].context, enter, 0);
  }
  for (unsigned done = 0; done < threads;) {
    done = 0;
    for (unsigned t = threads; t-- > 0;) {
      running = &fibers[t];
      threadIdx.x = t;
      if (!running->done) swapcontext(&scheduler, &running->context);
      done += running->done;
    }
    if (done > 0 && done < threads) {
      fprintf(stderr, "%u of %u threads do not reach a barrier\n", done, threads);
      abort();
    }
  }
}

}  // namespace fibers

static inline void __syncthreads() { swapcontext(&fibers::running->context, &fibers::scheduler); }

template <class Parameter> struct Call {
  void (*kernel)(Parameter);
  const Parameter *parameter;
  static void run(void *call) { ((Call *)call)->kernel(*((Call *)call)->parameter); }
};

template <class Parameter>
cudaError_t cudaLaunchKernel(void (*kernel)(Parameter), dim3 grid, dim3 block, void **parameters, size_t, cudaStream_t) {
  if (twin.error) return (cudaError_t)twin.error;
  if (sizeof(Parameter) > 32764) return cudaErrorInvalidValue;
  Call<Parameter> call{kernel, (const Parameter *)parameters[0]};
  fibers::body = call.run;
  fibers::argument = &call;
  gridDim = grid;
  blockDim = block;
  twin.grid = grid.x;
  for (blockIdx.x = 0; blockIdx.x < grid.x; blockIdx.x++) fibers::run_block(block.x);
  twin.launches++;
  return cudaSuccess;
}

static inline cudaError_t cudaGetLastError() { return cudaSuccess; }
static inline const char *cudaGetErrorString(cudaError_t error) {
  return error == cudaErrorInvalidValue ? "invalid argument" : "another error";
}
static inline cudaError_t cudaGetDeviceCount(int *count) {
  *count = TWIN_DEVICES;
  return cudaSuccess;
}
static inline cudaError_t cudaDriverGetVersion(int *version) {
  *version = CUDART_VERSION;
  return cudaSuccess;
}
static inline cudaError_t cudaSetDevice(int device) {
  if (device < 0 || device >= TWIN_DEVICES) return cudaErrorInvalidDevice;
  void *const context = (void *)(intptr_t)(device + 1);
  twin.contexts += context != twin.current;
  twin.current = context;
  return cudaSuccess;
}
static inline cudaError_t cudaDeviceGetAttribute(int *value, cudaDeviceAttr attribute, int) {
  switch (attribute) {
    case cudaDevAttrMultiProcessorCount: *value = TWIN_PROCESSORS; break;
    case cudaDevAttrComputeCapabilityMajor: *value = TWIN_CAPABILITY; break;
    case cudaDevAttrComputeCapabilityMinor: *value = 0; break;
  }
  return cudaSuccess;
}
template <class Kernel> cudaError_t cudaOccupancyMaxActiveBlocksPerMultiprocessor(int *blocks, Kernel, int, size_t) {
  *blocks = TWIN_BLOCKS;
  return cudaSuccess;
}
static inline cudaError_t cudaFuncGetAttributes(cudaFuncAttributes *, const void *) { return cudaSuccess; }
static inline int twin_get_current(void **context) {
  *context = twin.current;
  return 0;
}
static inline int twin_set_current(void *context) {
  twin.current = context;
  return 0;
}
static inline cudaError_t cudaGetDriverEntryPointByVersion(const char *name, void **found, unsigned, int,
                                                           cudaDriverEntryPointQueryResult *) {
  *found = strcmp(name, "cuCtxGetCurrent") ? (void *)twin_set_current : (void *)twin_get_current;
  return cudaSuccess;
}
