/* What differs between compilers: how a function of a layer is inlined, on host and device, and how a loop is unrolled. */
#pragma once

#if defined(__CUDACC__)
#define FASTINIT_INLINE_MEMBER __host__ __device__ __forceinline__
#define FASTINIT_UNROLL _Pragma("unroll")
#else
#define FASTINIT_INLINE_MEMBER inline __attribute__((always_inline))
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
