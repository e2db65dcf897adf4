/* A fuzz target: bytes become a call of the CPU library with hostile plans, and what fastinit.h promises of such a call is
 * demanded: either a status comes back and no byte is written, or exactly the plans' elements are, with the right values.
 *
 * What C leaves to the caller is kept: a pointer that is not null points to as much memory as the plan claims, to the byte. Where
 * plans claim more than their Limits, only the refusal is tested, by a list with one more plan, which is always refused.
 *
 * With -DPROOF_TWIN the library is the twin of CUDA's: csrc/cuda/cuda.cu built for the CPU, with other names where the CPU's
 * library has the same.
 *
 * With -DPROOF_LIBFUZZER for clang's -fsanitize=fuzzer. Without it a program: fuzz_plan RUNS SEED FILE..., which runs the files
 * and then inputs of a fixed seed, random ones and mutations of the files. */
#include <fstream>
#include <iterator>
#include <random>
#include <string>
#include <type_traits>

#include "blends.h"

extern "C" __attribute__((weak)) void __sanitizer_set_death_callback(void (*)());

using namespace proof;

namespace {

/* The library under test: the CPU's, or with -DPROOF_TWIN the CUDA library's twin, to which threads and isa mean nothing. */
#ifdef PROOF_TWIN
constexpr bool IS_TWIN = true;
int32_t call_fill(const fastinit_plan *plans, int64_t count, int32_t, int32_t) {
  return fastinit_cuda_fill(plans, count, 0, nullptr);
}
int32_t call_blend(const fastinit_blending *blendings, int64_t count, int32_t, int32_t) {
  return fastinit_cuda_blend(blendings, count, 0, nullptr);
}
int32_t call_transform(const fastinit_plan *plan, const void *words, int64_t count, int32_t, int32_t) {
  return fastinit_cuda_transform(plan, words, count, 0, nullptr);
}
#else
constexpr bool IS_TWIN = false;
constexpr auto call_fill = fastinit_fill;
constexpr auto call_blend = fastinit_blend;
constexpr auto call_transform = fastinit_transform;
#endif

/* What only CUDA refuses: addresses that are not multiples of an element's size, and 2^41 elements. */
uint32_t refusals_of_cuda(const void *address, int size, Wide elements) {
  if (!IS_TWIN) return 0;
  return ((uintptr_t)address % size ? bit(FASTINIT_MISALIGNED) : 0) | (elements >> 41 ? bit(FASTINIT_TOO_LARGE) : 0);
}

constexpr int MOST_PLANS = 6, MOST_BLENDINGS = 3;

/* --- what is demanded ------------------------------------------------------------------------------------------------------ */

struct {
  uint64_t filled, mapped, blended, refused;
} tally;

void describe(const fastinit_recipe &r) {
  fprintf(stderr, "  kind %d dtype %d cells %d terms %d top_bits %d table %p flip %llx\n", r.kind, r.dtype, r.cells, r.terms,
          r.top_bits, r.table, (unsigned long long)r.flip);
  fprintf(stderr, "  slope %a anchor %a std %a cut %a inverse_cut %a low %a high %a offset %a %a scale %a %a\n", r.slope,
          r.anchor, r.std, r.cut, r.inverse_cut, r.low, r.high, r.offset[0], r.offset[1], r.scale[0], r.scale[1]);
}

void describe(const fastinit_plan &p) {
  fprintf(stderr, "  out %p key %llx start %lld rows %lld cols %lld pitch %lld layout %p of %lld:", p.out,
          (unsigned long long)p.key, (long long)p.start, (long long)p.rows, (long long)p.cols, (long long)p.pitch,
          (const void *)p.layout, (long long)p.dims);
  for (int64_t i = 0; p.layout && p.dims <= FASTINIT_MAX_DIMS && i < 2 * p.dims; i++)
    fprintf(stderr, " %lld", (long long)p.layout[i]);
  fprintf(stderr, "\n");
  if (p.recipe) describe(*p.recipe);
}

void demand(bool holds, const char *what, const fastinit_plan *plan, int32_t status) {
  if (holds) return;
  fprintf(stderr, "FAULT: %s (status %d: %s)\n", what, status, fastinit_message(status));
  if (plan) describe(*plan);
  abort();
}

void demand_status(int32_t status, uint32_t refusals, const fastinit_plan *plan) {
  (refusals ? tally.refused : tally.filled)++;
  if (!refusals) return demand(status == FASTINIT_OK, "refused what fastinit.h allows", plan, status);
  demand(status != FASTINIT_OK, "accepted what fastinit.h refuses", plan, status);
  demand(status > 0 && status < FASTINIT_STATUSES && refusals & bit(status), "refused for another reason", plan, status);
}

/* --- lists of plans, or of blendings --------------------------------------------------------------------------------------- */

template <class Given> auto &plan_of(Given &given) {
  if constexpr (std::is_same_v<std::remove_const_t<Given>, fastinit_blending>) return given.to;
  else return given;
}
const fastinit_plan &given_of(const Claim &claim) { return claim.plan; }
const fastinit_blending &given_of(const BlendClaim &claim) { return claim.blending; }
bool is_large(const Claim &claim) { return claim.is_large; }
bool is_large(const BlendClaim &claim) { return claim.to.is_large; }
void read(Bytes &bytes, Claim &claim, const Limits &limits) { read_claim(bytes, claim, limits); }
void read(Bytes &bytes, BlendClaim &claim, const Limits &limits) { read_blend(bytes, claim, limits); }
uint32_t refusals_of(const fastinit_plan &plan) { return refusals_of_recipe(plan.recipe) | refusals_of_place(plan); }
uint32_t refusals_of(const fastinit_blending &blending) { return refusals_of_blending(blending); }
bool is_untouched(const Claim &claim) { return claim.out.is_untouched(); }
const char *difference(const Claim &claim) { return difference(claim.plan, claim.out); }

uint32_t refusals_of_cuda(const fastinit_plan &plan, Wide elements) {
  return refusals_of_cuda(plan.out, size_of(plan.recipe->dtype), elements);
}
uint32_t refusals_of_cuda(const fastinit_blending &blending, Wide elements) {
  const int size = size_of(blending.dtype);
  const uint32_t found = refusals_of_cuda(blending.to.out, size, elements);
  return blending.keep == 0 ? found : found | refusals_of_cuda(blending.source, size, elements);
}

/* Why a list is refused: the reasons of the first bad plan; of plans with 2^63 elements together, the box's. */
template <class AnyClaim> uint32_t refusals_of_list(const std::vector<AnyClaim> &claims, const fastinit_plan **bad) {
  Wide total = 0;
  for (const AnyClaim &claim : claims) {
    const auto &given = given_of(claim);
    *bad = &plan_of(given);
    if (uint32_t found = refusals_of(given)) return found;
    const Wide elements = elements_of(**bad);
    if (elements == 0) continue;
    if (uint32_t found = refusals_of_cuda(given, elements)) return found;
    total += elements;
    if (total > INT64_MAX && !IS_TWIN) return bit(FASTINIT_BAD_BOX);
  }
  return 0;
}

/* Call the library on as many plans or blendings, by way of `call`. Returns whether it was to accept them. */
template <class AnyClaim, class Call> bool call_list(Bytes &bytes, int most, const Call &call) {
  const int32_t threads = IS_TWIN ? 1 : read_threads(bytes), isa = IS_TWIN ? FASTINIT_BEST : read_isa(bytes);
  const Limits &limits = bytes.rarely() ? RARE : USUAL;
  std::vector<AnyClaim> claims(bytes.byte() % (most + 1));
  Wide elements = 0;
  bool any_large = false;
  for (AnyClaim &claim : claims) {
    read(bytes, claim, limits);
    if (!claim.is_good) continue;
    elements += elements_of(plan_of(given_of(claim)));
    any_large |= is_large(claim);
  }
  const fastinit_plan *bad = nullptr;
  const bool is_null = bytes.rarely();
  const int64_t count = bytes.rarely() ? -1 - bytes.byte() : (int64_t)claims.size();
  uint32_t refusals = refusals_of_call(count, threads, isa) | (is_null && count > 0 ? bit(FASTINIT_NULL_POINTER) : 0);
  refusals |= refusals_of_list(claims, &bad);
  const bool guard = !refusals && (any_large || elements > limits.elements);
  if (guard) refusals = bit(FASTINIT_BAD_KIND);
  using Given = std::decay_t<decltype(given_of(claims[0]))>;
  const size_t length = claims.size() + guard;
  const std::unique_ptr<Given[]> list(new Given[length]()); /* and not a byte behind it */
  for (size_t i = 0; i < claims.size(); i++) list[i] = given_of(claims[i]);
  fastinit_recipe refused = {};
  refused.kind = FASTINIT_KINDS;
  if (guard) plan_of(list[length - 1]).recipe = &refused;
  const int32_t status = call(is_null ? nullptr : list.get(), count < 0 ? count : count + guard, threads, isa);
  demand_status(status, refusals, bad);
  for (const AnyClaim &claim : claims) {
    const fastinit_plan &plan = plan_of(given_of(claim));
    if (refusals) demand(is_untouched(claim), "wrote, and refused", &plan, status);
    else if (const char *why = difference(claim)) demand(false, why, &plan, status);
  }
  return !refusals;
}

void fill(Bytes &bytes) { call_list<Claim>(bytes, MOST_PLANS, call_fill); }
void blend(Bytes &bytes) { tally.blended += call_list<BlendClaim>(bytes, MOST_BLENDINGS, call_blend); }

void transform(Bytes &bytes) {
  const int32_t threads = IS_TWIN ? 1 : read_threads(bytes), isa = IS_TWIN ? FASTINIT_BEST : read_isa(bytes);
  const Limits &limits = bytes.rarely() ? RARE : USUAL;
  Claim claim;
  fastinit_plan &plan = claim.plan;
  give_recipe(bytes, claim);
  const int64_t count = bytes.number();
  uint32_t refusals = refusals_of_call(count, threads, isa) | refusals_of_recipe(plan.recipe);
  const bool fits = count >= 0 && count <= limits.elements, is_known = !refusals && fits;
  const int size = is_known ? size_of(plan.recipe->dtype) : 1;
  Memory words(is_known ? count * (size == 8 ? 8 : 4) : 0, bytes.byte() % 16);
  std::mt19937_64 random(bytes.byte());
  for (size_t i = 0; i < words.size(); i++) words.get()[i] = (uint8_t)(random() >> 32);
  for (size_t i = 0; i < words.size() && i < 16; i++) words.get()[i] ^= bytes.byte();
  claim.out = Memory(is_known ? count * size : LITTLE, bytes.byte() % 16);
  plan.out = bytes.rarely() ? nullptr : claim.out.get();
  const void *given = bytes.rarely() ? nullptr : words.get();
  const bool is_null = bytes.rarely();
  if (is_null || (count > 0 && !(given && plan.out))) refusals |= bit(FASTINIT_NULL_POINTER);
  if (!refusals_of_recipe(plan.recipe)) {
    const int item = size_of(plan.recipe->dtype);
    refusals |= refusals_of_cuda(plan.out, item, count);
    refusals |= refusals_of_cuda(given, item == 8 ? 8 : 4, count);
  }
  if (!refusals && !fits) return; /* too large to be given */
  const int32_t status = call_transform(is_null ? nullptr : &plan, given, count, threads, isa);
  demand_status(status, refusals, &plan);
  if (refusals) return demand(claim.out.is_untouched(), "wrote, and refused", &plan, status);
  tally.mapped++;
  const std::vector<uint8_t> all(words.get(), words.get() + words.size());
  const std::vector<uint8_t> values = mapped(*plan.recipe, all), known = promised(*plan.recipe, all);
  for (int64_t i = 0; i < count; i++)
    demand(!known[i] || !memcmp(claim.out.get() + i * size, &values[i * size], size), "a word has another value", &plan, status);
  demand(claim.out.is_untouched_in_front(), "memory in front of the values was written", &plan, status);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  Bytes bytes(data, size);
  const uint8_t what = bytes.byte();
  what < 0xA0 ? fill(bytes) : what < 0xD0 ? blend(bytes) : transform(bytes);
  return 0;
}

#ifndef PROOF_LIBFUZZER

namespace {

using Input = std::vector<uint8_t>;

Input input; /* the one that runs */

void print_input() {
  std::string text = "the input, in hexadecimal: ";
  for (uint8_t byte : input) {
    text += "0123456789abcdef"[byte >> 4];
    text += "0123456789abcdef"[byte & 15];
  }
  fputs((text + "\n").c_str(), stderr);
}

Input made(std::mt19937_64 &random, const std::vector<Input> &files) {
  Input bytes;
  if (!files.empty() && random() % 2) bytes = files[random() % files.size()];
  else bytes.resize(random() % 512);
  const bool is_fresh = bytes.empty() || random() % 2;
  if (files.empty() || is_fresh) std::generate(bytes.begin(), bytes.end(), [&] { return (uint8_t)random(); });
  for (int changes = (int)(random() % 8); !bytes.empty() && changes > 0; changes--)
    bytes[random() % bytes.size()] = (uint8_t)random();
  return bytes;
}

}  // namespace

int main(int count, char **arguments) {
  const uint64_t runs = count > 1 ? strtoull(arguments[1], nullptr, 10) : 0;
  const uint64_t seed = count > 2 ? strtoull(arguments[2], nullptr, 10) : 0;
  std::vector<Input> files;
  for (int i = 3; i < count; i++) {
    std::ifstream file(arguments[i], std::ios::binary);
    files.emplace_back(std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>());
  }
  if (__sanitizer_set_death_callback) __sanitizer_set_death_callback(print_input);
  std::mt19937_64 random(seed);
  for (uint64_t i = 0; i < files.size() + runs; i++) {
    input = i < files.size() ? files[i] : made(random, files);
    LLVMFuzzerTestOneInput(input.data(), input.size());
  }
  const uint64_t filled = tally.filled - tally.mapped - tally.blended;
  printf("%llu inputs:", (unsigned long long)(files.size() + runs));
  printf(" %llu filled, %llu mapped, %llu blended, %llu refused\n", (unsigned long long)filled, (unsigned long long)tally.mapped,
         (unsigned long long)tally.blended, (unsigned long long)tally.refused);
}

#endif
