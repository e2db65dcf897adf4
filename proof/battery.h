/* What every test of the battery uses: words from standard input, bits in planes, sorting, and lines of results.
 *
 * A test counts; what it found goes out as lines "NAME LAW NUMBERS...", and battery.py turns the numbers into p values:
 *   chi2 STATISTIC FREEDOM         normal Z
 *   worst Z COUNT                  the largest |Z| of COUNT independent standard normals
 *   poisson COUNT MEAN U           between BELOW UP_TO U   a discrete law's P(X < x) and P(X <= x)
 * U, a number from the stream, spreads a discrete law's p value evenly over its step: it is uniform under the null, exactly. */
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <utility>
#include <vector>

using std::vector;

class Words {
 public:
  const uint64_t count;
  explicit Words(uint64_t count) : count(count), left(count), words(1 << 16) {}

  /* The next n words, or null where fewer are left of the test's share. */
  const uint32_t *take(size_t n) {
    if (n > left) return nullptr;
    left -= n;
    return read(n);
  }

  void skip(uint64_t n) {
    for (n = std::min(n, left); n > 0;) {
      const size_t some = static_cast<size_t>(std::min<uint64_t>(n, 1 << 16));
      take(some);
      n -= some;
    }
  }

  /* A number in [0, 1) from a word that no count has seen. */
  double spread() { return *read(1) * 0x1p-32; }

 private:
  uint64_t left;
  vector<uint32_t> words;

  const uint32_t *read(size_t n) {
    if (words.size() < n) words.resize(n);
    if (std::fread(words.data(), 4, n, stdin) != n) {
      std::fprintf(stderr, "the stream ended early\n");
      std::exit(2);
    }
    return words.data();
  }
};

inline void chi2(const std::string &name, double statistic, double freedom) {
  std::printf("%s chi2 %.17g %.17g\n", name.c_str(), statistic, freedom);
}

inline void normal(const std::string &name, double z) { std::printf("%s normal %.17g\n", name.c_str(), z); }

inline void worst(const std::string &name, double z, double count) {
  std::printf("%s worst %.17g %.17g\n", name.c_str(), z, count);
}

inline void poisson(const std::string &name, uint64_t count, double mean, Words &words) {
  std::printf("%s poisson %llu %.17g %.17g\n", name.c_str(), static_cast<unsigned long long>(count), mean, words.spread());
}

inline void between(const std::string &name, double below, double up_to, Words &words) {
  std::printf("%s between %.17g %.17g %.17g\n", name.c_str(), below, up_to, words.spread());
}

/* Pearson's statistic of counts of independent draws, cells of small expectation joined with those that follow them. */
inline void pearson(const std::string &name, const vector<uint64_t> &counts, const vector<double> &law, double least = 10) {
  double draws = 0, statistic = 0, seen = 0, expected = 0, rest = 0;
  for (uint64_t count : counts) draws += static_cast<double>(count);
  for (double p : law) rest += p * draws;
  int cells = 0;
  for (size_t i = 0; i < law.size(); i++) {
    seen += static_cast<double>(counts[i]);
    expected += law[i] * draws;
    rest -= law[i] * draws;
    if ((expected < least || rest < least) && i + 1 < law.size()) continue;
    if (expected > 0) statistic += (seen - expected) * (seen - expected) / expected;
    cells += expected > 0;
    seen = expected = 0;
  }
  if (cells > 1) chi2(name, statistic, cells - 1);
}

/* P(X = k) of k heads in n throws. */
inline vector<double> binomial(int n) {
  vector<double> law(n + 1);
  for (int k = 0; k <= n; k++)
    law[k] = std::exp(std::lgamma(n + 1.0) - std::lgamma(k + 1.0) - std::lgamma(n - k + 1.0) - n * M_LN2);
  return law;
}

/* Counts of n fair coins each, pairwise uncorrelated: the sum of squares, and the worst. */
inline void fair(const std::string &name, const vector<uint64_t> &counts, double n) {
  double sum = 0, largest = 0;
  for (uint64_t count : counts) {
    const double z = (2.0 * static_cast<double>(count) - n) / std::sqrt(n);
    sum += z * z;
    largest = std::max(largest, std::fabs(z));
  }
  chi2(name, sum, static_cast<double>(counts.size()));
  worst(name + "/worst", largest, static_cast<double>(counts.size()));
}

template <class T> inline void sort_digits(vector<T> &values) {
  constexpr int DIGIT = 11;
  static vector<T> other;
  other.resize(values.size());
  for (int shift = 0; shift < static_cast<int>(8 * sizeof(T)); shift += DIGIT) {
    size_t at[1 << DIGIT] = {}, sum = 0;
    for (T value : values) at[value >> shift & ((1 << DIGIT) - 1)]++;
    for (size_t &place : at) sum += std::exchange(place, sum);
    for (T value : values) other[at[value >> shift & ((1 << DIGIT) - 1)]++] = value;
    values.swap(other);
  }
}

/* 64 words as 32 planes: bit t of plane i is bit i of word t. */
inline void planes_of(const uint32_t *words, uint64_t *planes, size_t stride) {
  uint64_t rows[64];
  for (int t = 0; t < 64; t++) rows[t] = words[t];
  uint64_t mask = 0x00000000FFFFFFFFull;
  for (int step = 32; step; step >>= 1, mask ^= mask << step)
    for (int t = 0; t < 64; t = (t + step + 1) & ~step) {
      const uint64_t swapped = (rows[t] >> step ^ rows[t + step]) & mask;
      rows[t] ^= swapped << step;
      rows[t + step] ^= swapped;
    }
  for (int i = 0; i < 32; i++) planes[i * stride] = rows[i];
}
