/* What differs between compilers and processors: how a function of a layer is inlined, on host and device, how a loop is unrolled,
 * and where a thread's floating-point mode is kept. */
#pragma once

#include <stdint.h>

#if defined(__CUDACC__)
#define FASTINIT_INLINE_MEMBER __host__ __device__ __forceinline__
#define FASTINIT_UNROLL _Pragma("unroll")
#else
#if !defined(FASTINIT_INLINE_MEMBER) /* in tests: unoptimized, calls are compiled in a quarter of the time */
#define FASTINIT_INLINE_MEMBER inline __attribute__((always_inline))
#endif
#define FASTINIT_UNROLL _Pragma("GCC unroll 16")
#endif

/* Static: the linker must not merge the copies of a header's function that were compiled for different instruction sets. */
#define FASTINIT_INLINE static FASTINIT_INLINE_MEMBER

/* A function of its own, and one copy of it, where the compiler would put one in each caller. */
#if defined(__clang__)
#define FASTINIT_APART_MEMBER __attribute__((noinline))
#else
#define FASTINIT_APART_MEMBER __attribute__((noinline, noclone))
#endif
#define FASTINIT_APART static FASTINIT_APART_MEMBER

namespace fastinit {

/* While one lives, this thread computes as the contract does, whatever its mode: subnormal numbers are not flushed to zero, results
 * round to nearest, nothing traps. Threads that are started meanwhile inherit it. */
class IeeeMode {
#if defined(__x86_64__)
  uint32_t before_, ieee_ = 0x1F80;

 public:
  IeeeMode() { asm volatile("stmxcsr %0\n\tldmxcsr %1" : "=m"(before_) : "m"(ieee_) : "memory"); }
  ~IeeeMode() { asm volatile("ldmxcsr %0" : : "m"(before_) : "memory"); }
#elif defined(__aarch64__)
  uint64_t before_;

 public:
  IeeeMode() { asm volatile("mrs %0, fpcr\n\tmsr fpcr, xzr" : "=r"(before_) : : "memory"); }
  ~IeeeMode() { asm volatile("msr fpcr, %0" : : "r"(before_) : "memory"); }
#else
 public:
  IeeeMode() {}
#endif
  IeeeMode(const IeeeMode &) = delete;
};

}  // namespace fastinit
