/* Tests that throw words into cells or order them: birthdays, duplicates, collisions, gaps, maxima. */
#pragma once

#include "battery.h"

/* Birthday spacings: n days of 2^bits, sorted; how many of their spacings, sorted, equal the one before. Poisson of mean
 * n^3 / 2^(bits + 2), within a share of about mean / n, which n and the number of batches keep below the noise (L'Ecuyer and
 * Simard 2001). */
template <class Day> inline void birthdays_of(const std::string &name, Words &words, int bits, size_t n, size_t most_batches) {
  constexpr size_t WORDS = sizeof(Day) / 4;
  const double mean = std::pow(static_cast<double>(n), 3) * std::exp2(-bits - 2);
  vector<Day> days(n);
  uint64_t equal = 0;
  size_t batches = 0;
  for (const uint32_t *chunk; batches < most_batches && (chunk = words.take(WORDS * n)); batches++) {
    for (size_t i = 0; i < n; i++) {
      Day day = chunk[WORDS * i];
      if constexpr (WORDS == 2) day = day << 32 | chunk[2 * i + 1];
      days[i] = day >> (8 * sizeof(Day) - bits);
    }
    sort_digits(days);
    for (size_t i = n - 1; i > 0; i--) days[i] -= days[i - 1];
    sort_digits(days);
    for (size_t i = 1; i < n; i++) equal += days[i] == days[i - 1];
  }
  if (batches) poisson(name, equal, mean * static_cast<double>(batches), words);
}

inline void birthdays(Words &words) {
  const uint64_t third = words.count / 3;
  birthdays_of<uint32_t>("birthdays-32", words, 32, 1 << 11, std::min<size_t>(third >> 11, 1 << 14));
  birthdays_of<uint64_t>("birthdays-48", words, 48, 1 << 16, third >> 17);
  if (third >> 22) birthdays_of<uint64_t>("birthdays-64", words, 64, third >> 24 ? 1 << 23 : 1 << 21, ~size_t{0});
}

/* Pairs of equal words among 65,536 in a row: what a key used twice in an interleave shows at once. Any two words are equal
 * with probability 2^-32, pairwise independently, so the number is Poisson but for triples, of which 2^-16 are expected. */
inline void duplicates(Words &words) {
  constexpr size_t WINDOW = 1 << 16;
  vector<uint32_t> window;
  uint64_t pairs = 0, windows = 0;
  for (const uint32_t *chunk; (chunk = words.take(WINDOW)); windows++) {
    window.assign(chunk, chunk + WINDOW);
    sort_digits(window);
    for (size_t i = 1, before = 0; i < WINDOW; i++) pairs += before = window[i] == window[i - 1] ? before + 1 : 0;
  }
  poisson("duplicates", pairs, static_cast<double>(windows) * WINDOW * (WINDOW - 1.0) / 2 * 0x1p-32, words);
}

/* Collisions of 65,536 balls in 2^20 cells, a cell being the highest bits of 1, 2, 4, 5, 10 or 20 words in a row: the mean and
 * the variance of the number of cells left empty are exact, and it is normal but for a skewness of 1/45 a batch. */
inline void collisions(Words &words) {
  constexpr int CELL_BITS = 20;
  constexpr size_t BALLS = 1 << 16;
  constexpr double CELLS = 1 << CELL_BITS;
  /* Of a cell, and of two: P(both stay empty) = P(one does)^2 exp(apart). */
  const double one = std::exp(BALLS * std::log1p(-1 / CELLS)), apart = BALLS * std::log1p(-1 / ((CELLS - 1) * (CELLS - 1)));
  const double mean = CELLS * one, variance = mean * mean * std::expm1(apart) + mean * (1 - one * std::exp(apart));
  vector<uint8_t> taken(size_t{1} << CELL_BITS);
  const int lengths[] = {1, 2, 4, 5, 10, 20};
  const uint64_t share = words.count / std::size(lengths);
  for (int length : lengths) {
    double empty = 0, batches = 0;
    const int bits = CELL_BITS / length;
    for (uint64_t used = 0; used + length * BALLS <= share; used += length * BALLS, batches++) {
      std::fill(taken.begin(), taken.end(), uint8_t{0});
      const uint32_t *chunk = words.take(length * BALLS);
      for (size_t ball = 0; ball < BALLS; ball++) {
        uint32_t cell = 0;
        for (int i = 0; i < length; i++) cell = cell << bits | chunk[ball * length + i] >> (32 - bits);
        taken[cell] = 1;
      }
      empty += static_cast<double>(std::count(taken.begin(), taken.end(), uint8_t{0}));
    }
    if (batches) normal("collisions-" + std::to_string(length), (empty - batches * mean) / std::sqrt(batches * variance));
  }
}

/* Knuth's gap test: words between those below 2^32 / 2^bits, a geometric law, cut into cells of equal probability. */
inline void gaps(Words &words) {
  const int all_bits[] = {1, 4, 8, 12};
  vector<vector<double>> laws;
  vector<vector<uint64_t>> counts;
  vector<vector<uint32_t>> cell_of;
  for (int bits : all_bits) {
    const double p = std::exp2(-bits);
    cell_of.emplace_back(static_cast<size_t>(40 / p));
    vector<double> law(1);
    double within = 0;
    for (size_t gap = 0; gap < cell_of.back().size(); gap++) {
      if (within >= 1.0 / 64) {
        law.push_back(0);
        within = 0;
      }
      cell_of.back()[gap] = static_cast<uint32_t>(law.size() - 1);
      const double share = gap + 1 < cell_of.back().size() ? p * std::exp(static_cast<double>(gap) * std::log1p(-p))
                                                           : std::exp(static_cast<double>(gap) * std::log1p(-p));
      law.back() += share;
      within += share;
    }
    counts.emplace_back(law.size());
    laws.push_back(law);
  }
  uint64_t last[std::size(all_bits)], t = 0;
  std::fill(std::begin(last), std::end(last), ~uint64_t{0});
  for (const uint32_t *chunk; (chunk = words.take(1 << 16));)
    for (size_t i = 0; i < 1 << 16; i++, t++)
      for (size_t number = 0; number < std::size(all_bits) && chunk[i] >> (32 - all_bits[number]) == 0; number++) {
        const uint64_t gap = t - last[number] - 1; /* the first one counts from the beginning */
        counts[number][cell_of[number][std::min<uint64_t>(gap, cell_of[number].size() - 1)]]++;
        last[number] = t;
      }
  for (size_t number = 0; number < std::size(all_bits); number++)
    pearson("gaps-" + std::to_string(all_bits[number]), counts[number], laws[number]);
}

/* Maximum of t words in a row: as a number in (0, 1], its t-th power is uniform. */
inline void maximum(Words &words) {
  const size_t lengths[] = {4, 8, 32, 128};
  vector<vector<uint64_t>> counts;
  for (size_t length : lengths) counts.emplace_back(std::min<size_t>(4096, words.count / length / 32));
  for (const uint32_t *chunk; (chunk = words.take(1 << 16));)
    for (size_t number = 0; number < std::size(lengths); number++)
      for (size_t from = 0; from < 1 << 16; from += lengths[number]) {
        const double largest = (*std::max_element(chunk + from, chunk + from + lengths[number]) + 0.5) * 0x1p-32;
        const double uniform = std::pow(largest, static_cast<double>(lengths[number]));
        counts[number][static_cast<size_t>(uniform * static_cast<double>(counts[number].size()))]++;
      }
  for (size_t number = 0; number < std::size(lengths); number++) {
    const vector<double> law(counts[number].size(), 1 / static_cast<double>(counts[number].size()));
    pearson("maximum-of-" + std::to_string(lengths[number]), counts[number], law);
  }
}
