/* Tests of linearity over GF(2), and random walks. */
#pragma once

#include "battery.h"

/* P(rank of a random n x n matrix = n - d). */
inline double rank_law(int n, int d) {
  double log_p = -d * d * M_LN2;
  for (int i = 0; i < n - d; i++) log_p += 2 * std::log1p(-std::exp2(i - n)) - std::log1p(-std::exp2(i - (n - d)));
  return std::exp(log_p);
}

/* The rank of `size` rows of `size` / 64 64-bit words; destroys them. */
inline size_t rank_of(uint64_t *rows, size_t size) {
  const size_t width = size / 64;
  size_t rank = 0;
  for (size_t column = 0; column < size; column++) {
    const size_t at = column / 64, bit = column % 64;
    size_t pivot = rank;
    while (pivot < size && !(rows[pivot * width + at] >> bit & 1)) pivot++;
    if (pivot == size) continue;
    std::swap_ranges(rows + pivot * width + at, rows + (pivot + 1) * width, rows + rank * width + at);
    for (size_t row = pivot + 1; row < size; row++)
      if (rows[row * width + at] >> bit & 1)
        for (size_t i = at; i < width; i++) rows[row * width + i] ^= rows[rank * width + i];
    rank++;
  }
  return rank;
}

/* Ranks of square matrices whose rows are words in a row, and of 64 x 64 lowest bits: classes, and the lowest rank of all. */
inline void ranks(Words &words) {
  const size_t sizes[] = {64, 256, 1024};
  const uint64_t share = words.count / 4;
  for (size_t number = 0; number <= std::size(sizes); number++) {
    const bool lowest = number == std::size(sizes);
    const size_t size = lowest ? 64 : sizes[number], taken = lowest ? 64 * 64 : size * size / 32;
    const std::string name = lowest ? "rank-64-lowest-bits" : "rank-" + std::to_string(size);
    vector<uint64_t> rows(size * size / 64), counts(3);
    size_t matrices = 0, deepest = 0;
    for (uint64_t used = 0; used + taken <= share; used += taken, matrices++) {
      const uint32_t *chunk = words.take(taken);
      for (size_t i = 0; i < rows.size(); i++) {
        if (!lowest) rows[i] = chunk[2 * i] | static_cast<uint64_t>(chunk[2 * i + 1]) << 32;
        for (size_t bit = 0; lowest && bit < 64; bit++) rows[i] = rows[i] << 1 | (chunk[64 * i + bit] & 1);
      }
      const size_t missing = size - rank_of(rows.data(), size);
      counts[std::min<size_t>(missing, 2)]++;
      deepest = std::max(deepest, missing);
    }
    const double full = rank_law(static_cast<int>(size), 0), less = rank_law(static_cast<int>(size), 1);
    pearson(name, counts, {full, less, 1 - full - less}, 5);
    const auto none = [&](size_t d) { /* P(no matrix misses d or more of its rank) */
                                      double p = 0;
                                      for (size_t i = d; i <= std::min(size, d + 8); i++)
                                        p += rank_law(static_cast<int>(size), static_cast<int>(i));
                                      return d == 0 ? 0.0 : std::exp(static_cast<double>(matrices) * std::log1p(-p));
    };
    if (matrices) between(name + "/least", none(deepest), none(deepest + 1), words);
  }
}

/* The length of the shortest linear feedback register that yields the bits (Massey 1969), 64 bits a step. The sequence is kept
 * reversed, so that what the register has seen lies under its taps. */
inline size_t complexity_of(const vector<uint8_t> &bits) {
  const size_t n = bits.size(), width = n / 64 + 2;
  vector<uint64_t> taps(width), before(width), kept(width), seen(width);
  taps[0] = before[0] = 1;
  size_t length = 0, since = 1;
  for (size_t t = 0; t < n; t++) {
    const size_t used = std::min(width, std::max(t / 64, length / 64) + 2);
    for (size_t i = std::min(width, t / 64 + 2) - 1; i > 0; i--) seen[i] = seen[i] << 1 | seen[i - 1] >> 63;
    seen[0] = seen[0] << 1 | bits[t];
    uint64_t sum = 0;
    for (size_t i = 0; i <= length / 64; i++) sum ^= taps[i] & seen[i];
    if (__builtin_parityll(sum)) {
      const bool grows = 2 * length <= t;
      if (grows) kept = taps;
      const size_t whole = since / 64, part = since % 64;
      for (size_t i = whole; i < used; i++)
        taps[i] ^= before[i - whole] << part | (part && i > whole ? before[i - whole - 1] >> (64 - part) : 0);
      if (grows) {
        length = t + 1 - length;
        before.swap(kept);
        since = 0;
      }
    }
    since++;
  }
  return length;
}

/* Linear complexity of each of the 32 bits' sequences. Of n bits, n even, P(L = n/2 - d) is 2^(-2d - 1) for d > 0, and
 * P(L = n/2 + d) 2^(-2d), exactly but for the ends (Rueppel 1986): classes, and the smallest of all, which a register of any
 * length below n/2 betrays. */
inline void complexity_of_length(const std::string &name, Words &words, size_t n, size_t blocks, uint64_t between_blocks) {
  vector<uint64_t> counts(4);
  vector<uint8_t> bits(n);
  double deepest = -1e9, sequences = 0;
  const uint32_t *chunk;
  for (size_t block = 0; block < blocks && (chunk = words.take(n)); block++, words.skip(between_blocks))
    for (int bit = 0; bit < 32; bit++, sequences++) {
      for (size_t t = 0; t < n; t++) bits[t] = chunk[t] >> bit & 1;
      const double excess = static_cast<double>(complexity_of(bits)) - static_cast<double>(n) / 2;
      counts[excess < 0 ? 0 : excess == 0 ? 1 : excess == 1 ? 2 : 3]++;
      deepest = std::max(deepest, -excess);
    }
  if (sequences == 0) return;
  pearson(name, counts, {1.0 / 6, 1.0 / 2, 1.0 / 4, 1.0 / 12}, 5);
  /* P(L <= n/2 - d) is 2^(1 - 2d) / 3 for d > 0: of many sequences none lies as deep with probability (1 - that)^sequences. */
  const auto none = [&](double d) { return d > 0 ? std::exp(sequences * std::log1p(-std::exp2(1 - 2 * d) / 3)) : 0.0; };
  between(name + "/least", none(deepest), none(deepest + 1), words);
}

inline void complexity(Words &words) {
  const uint64_t n = words.count;
  complexity_of_length("complexity-4096", words, 1 << 12, std::min<uint64_t>(n >> 16, 1 << 10), 1 << 14);
  const size_t long_blocks = std::max<uint64_t>(1, std::min<uint64_t>(n >> 26, 4)); /* each costs a second or two */
  if (n >> 20) complexity_of_length("complexity-65536", words, 1 << 16, long_blocks, n >> 6);
}

/* Random walks, a bit a step: where they end and how far up they came, P(max = m) = P(end = m) + P(end = m + 1). */
inline void walk(Words &words) {
  const size_t lengths[] = {8, 64, 1024};
  int8_t ends[256], tops[256];
  for (int byte = 0; byte < 256; byte++) {
    int8_t at = 0, top = 0;
    for (int bit = 0; bit < 8; bit++) top = std::max(top, at = static_cast<int8_t>(at + (byte >> bit & 1 ? 1 : -1)));
    ends[byte] = at;
    tops[byte] = top;
  }
  vector<vector<uint64_t>> end_counts, top_counts;
  for (size_t length : lengths) {
    end_counts.emplace_back(32 * length + 1);
    top_counts.emplace_back(32 * length + 1);
  }
  for (const uint32_t *chunk; (chunk = words.take(1 << 14));)
    for (size_t number = 0; number < std::size(lengths); number++)
      for (size_t from = 0; from < 1 << 14; from += lengths[number]) {
        int at = 0, top = 0;
        for (size_t i = 0; i < 4 * lengths[number]; i++) {
          const uint8_t byte = static_cast<uint8_t>(chunk[from + i / 4] >> 8 * (i % 4));
          top = std::max(top, at + tops[byte]);
          at += ends[byte];
        }
        end_counts[number][(at + 32 * lengths[number]) / 2]++;
        top_counts[number][top]++;
      }
  for (size_t number = 0; number < std::size(lengths); number++) {
    const size_t steps = 32 * lengths[number];
    const vector<double> law = binomial(static_cast<int>(steps));
    vector<double> top_law(steps + 1);
    for (size_t m = 0; m <= steps; m++) top_law[m] = law[std::min(steps, (steps + m + 1) / 2)];
    pearson("walk-end-" + std::to_string(steps), end_counts[number], law);
    pearson("walk-top-" + std::to_string(steps), top_counts[number], top_law);
  }
}
