/* fastinit's C ABI: fill memory with initial weights. Plain C, 64-bit sizes, no torch, no allocation, no exit, no print.
 *
 * Two libraries have it: libfastinit.so for the CPU, and libfastinit_cuda.so for NVIDIA GPUs, which also loads without a driver.
 *
 * The value contract (words, variate, kinds, rounding) is the docstring of fastinit/_core/recipes.py. Python's side of this file
 * is fastinit/_backends/abi.py, and tests/test_one_order.py holds the two together. Every function returns a fastinit_status and
 * may be called from any thread.
 */
#ifndef FASTINIT_H
#define FASTINIT_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define FASTINIT_API __attribute__((visibility("default")))

#define FASTINIT_ABI 5 /* changes with anything in this file; as ABI in fastinit/_backends/abi.py */

/* The formula of a recipe. */
enum fastinit_kind { FASTINIT_UNIFORM, FASTINIT_SYMMETRIC, FASTINIT_TWO_SIDED, FASTINIT_FMOD, FASTINIT_WORDS, FASTINIT_KINDS };

enum fastinit_dtype {
  FASTINIT_FLOAT32,
  FASTINIT_FLOAT64,
  FASTINIT_FLOAT16,
  FASTINIT_BFLOAT16,
  FASTINIT_FLOAT8_E4M3FN,
  FASTINIT_FLOAT8_E5M2,
  FASTINIT_UINT32, /* only with FASTINIT_WORDS: stream 0 */
  FASTINIT_UINT64, /* only with FASTINIT_WORDS: stream 0 above stream 1 */
  FASTINIT_DTYPES
};

enum fastinit_isa { FASTINIT_BEST, FASTINIT_SCALAR, FASTINIT_AVX2, FASTINIT_AVX512, FASTINIT_NEON, FASTINIT_ISAS };

enum fastinit_status {
  FASTINIT_OK,
  FASTINIT_NULL_POINTER, /* no plan, recipe, output or words, or no table where the kind needs one */
  FASTINIT_BAD_KIND,     /* the kind is unknown, or the dtype does not go with it */
  FASTINIT_BAD_DTYPE,
  FASTINIT_BAD_BOX,    /* negative, or its indices leave 0 <= index < 2^63 */
  FASTINIT_BAD_LAYOUT, /* more than FASTINIT_MAX_DIMS dimensions, or sizes whose product is not the box's */
  FASTINIT_BAD_TABLE,  /* a shape other than the three of fastinit/_core/tables.py, or top_bits out of range */
  FASTINIT_BAD_ISA,    /* built in, but not supported by this processor */
  FASTINIT_BAD_COUNT,  /* fewer than 0 plans or words, or fewer than 1 thread */
  FASTINIT_MISALIGNED, /* CUDA: an address is not a multiple of the element's size */
  FASTINIT_TOO_LARGE,  /* CUDA: 2^41 elements or more */
  FASTINIT_BAD_DEVICE, /* CUDA: no such device, or one of compute capability below 7.5 */
  FASTINIT_OLD_DRIVER, /* CUDA: the driver is older than CUDA 12.1 */
  FASTINIT_BAD_NUMBER, /* keep or a coefficient is not finite in the real type */
  FASTINIT_TOO_MANY,   /* CUDA: more than FASTINIT_MOST_MEMBERS members of a dtype narrower than its real type */
  FASTINIT_NOT_BUILT,  /* the instruction set is none of this library's */
  FASTINIT_STATUSES,
  FASTINIT_CUDA_ERRORS = 1000 /* and above: 1000 + a cudaError_t */
};

#define FASTINIT_MAX_DIMS 64
#define FASTINIT_MOST_MEMBERS 2048

/* The constants of a recipe, in their one order: that of Constants in fastinit/_core/recipes.py. Kernels have them in the real
 * type of the dtype. Entries of two are for the lower and the upper half of the table; a table of one half has the first. */
#define FASTINIT_CONSTANTS(REAL, WORD) \
  REAL slope;                          \
  REAL anchor;                         \
  REAL std;                            \
  REAL cut;                            \
  REAL inverse_cut;                    \
  REAL low; /* a value of the dtype */ \
  REAL high;                           \
  REAL offset[2];                      \
  REAL scale[2];                       \
  WORD flip;

/* A law in a dtype: everything that a value depends on but its word. */
typedef struct fastinit_recipe {
  FASTINIT_CONSTANTS(double, uint64_t)
  const void *table; /* [halves][terms][cells], float64 for FASTINIT_FLOAT64, else float32 */
  int32_t kind;
  int32_t dtype;
  int32_t cells;
  int32_t terms;
  int32_t top_bits;
  int32_t reserved; /* ignored */
} fastinit_recipe;

/* All that is needed to fill one tensor, or one rectangle of a larger tensor's indices. */
typedef struct fastinit_plan {
  void *out;
  uint64_t key;
  int64_t start; /* local element (r, c), row-major, is global element start + r * pitch + c */
  int64_t rows;
  int64_t cols;
  int64_t pitch;
  const int64_t *layout; /* dims sizes, then dims strides in elements; unused with dims 0: out is contiguous */
  const fastinit_recipe *recipe;
  int64_t dims;
} fastinit_plan;

/* A sum onto a tensor, in one pass: element i becomes keep * old, then fma(add[n], the recipe's value of keys[n], that) for n in
 * order, in the real type; then it is rounded to the dtype. keep 0 reads nothing and begins at +0. A NaN is written as the dtype's
 * number of all bits but the sign. */
typedef struct fastinit_blending {
  fastinit_plan to;   /* its recipe is of the dtype's real type: FASTINIT_FLOAT64, else FASTINIT_FLOAT32; its key is unused */
  const void *source; /* what old elements are read from: out, or memory that shares none with it; unused with keep 0 */
  const int64_t *source_strides; /* of the axes of to.layout; unused with dims 0: source is contiguous, as out is */
  const uint64_t *keys;          /* of the members */
  const double *add;             /* their coefficients, numbers of the real type */
  int64_t members;
  double keep;
  int32_t dtype; /* of out and source; not one of words */
  int32_t reserved;
} fastinit_blending;

/* In both libraries. */
FASTINIT_API int32_t fastinit_abi(void);

/* What a status means, in English; never null. */
FASTINIT_API const char *fastinit_message(int32_t status);

/* libfastinit.so ---------------------------------------------------------------------------------------------------------- */

/* FASTINIT_OK if this processor and this build have the instruction set. */
FASTINIT_API int32_t fastinit_check_isa(int32_t isa);

/* The instruction set that FASTINIT_BEST stands for. */
FASTINIT_API int32_t fastinit_best_isa(void);

/* Fill every plan's tensor, in as many threads as `threads` and the work allow. All plans are checked before any byte is
 * written. */
FASTINIT_API int32_t fastinit_fill(const fastinit_plan *plans, int64_t count, int32_t threads, int32_t isa);

/* Blend into every tensor, likewise. */
FASTINIT_API int32_t fastinit_blend(const fastinit_blending *blendings, int64_t count, int32_t threads, int32_t isa);

/* Map words to values: out[i] of the recipe's dtype from words[i]; uint64_t words for FASTINIT_FLOAT64 and FASTINIT_UINT64, else
 * uint32_t. Key, box and layout of the plan are not used. */
FASTINIT_API int32_t fastinit_transform(const fastinit_plan *plan, const void *words, int64_t count, int32_t threads,
                                        int32_t isa);

/* libfastinit_cuda.so ----------------------------------------------------------------------------------------------------- */

/* FASTINIT_OK if the driver, the device of this number and the code that was built go together. */
FASTINIT_API int32_t fastinit_cuda_check(int32_t device);

/* Fill every plan's tensor on the device, in the order of the stream (a cudaStream_t of the device; null: its default stream).
 * `out` points to memory of the device. `recipe`, `table` and `layout` point to memory of the host, which is read before the
 * function returns. Nothing is allocated, copied or waited for, the calling thread's current device does not change, and the
 * stream may be under capture. All plans are checked before anything is launched. There is one launch for each dtype, more if the
 * plans exceed a kernel's parameters, and one for each plan that is not made of whole Philox blocks at multiples of 16 bytes. */
FASTINIT_API int32_t fastinit_cuda_fill(const fastinit_plan *plans, int64_t count, int32_t device, void *stream);

/* Blend into every plan's tensor on the device, likewise. `keys`, `add` and `source_strides` too point to memory of the host. */
FASTINIT_API int32_t fastinit_cuda_blend(const fastinit_blending *blendings, int64_t count, int32_t device, void *stream);

/* As fastinit_transform, with words and out on the device. */
FASTINIT_API int32_t fastinit_cuda_transform(const fastinit_plan *plan, const void *words, int64_t count, int32_t device,
                                             void *stream);

#ifdef __cplusplus
}
#endif
#endif
