/* Tests that count bits and small values, of one word and of words at the distances that matter: 1, 4 (a block), and the
 * widths of interleaves. */
#pragma once

#include "battery.h"

constexpr size_t LAGS[] = {1, 4, 64, 65, 1024, 4096};

/* Every bit's frequency, and each pair of bits of one word and of words at a lag: in n words the XOR of two bits is 1
 * Binomial(n, 1/2) times, exactly, and different pairs are uncorrelated. */
inline void bits(Words &words) {
  constexpr size_t CHUNK = 1 << 14, LONGEST = 4096, KEPT = CHUNK - LONGEST, GROUPS = KEPT / 64;
  vector<uint64_t> now(32 * GROUPS), later(32 * GROUPS), ones(32);
  vector<vector<uint64_t>> unequal(1 + std::size(LAGS));
  double n = 0;
  for (const uint32_t *chunk; (chunk = words.take(CHUNK)); n += KEPT)
    for (size_t number = 0; number <= std::size(LAGS); number++) {
      const size_t lag = number ? LAGS[number - 1] : 0;
      vector<uint64_t> &planes = lag ? later : now, &counts = unequal[number];
      counts.resize(lag ? 32 * 32 : 32 * 31 / 2);
      for (size_t group = 0; group < GROUPS; group++) planes_of(chunk + lag + 64 * group, &planes[group], GROUPS);
      size_t pair = 0;
      for (size_t i = 0; i < 32; i++) {
        for (size_t j = lag ? 0 : i + 1; j < 32; j++, pair++)
          for (size_t g = 0; g < GROUPS; g++) counts[pair] += __builtin_popcountll(now[i * GROUPS + g] ^ planes[j * GROUPS + g]);
        for (size_t g = 0; !lag && g < GROUPS; g++) ones[i] += __builtin_popcountll(now[i * GROUPS + g]);
      }
    }
  fair("frequency", ones, n);
  fair("pairs", unequal[0], n);
  for (size_t number = 0; number < std::size(LAGS); number++)
    fair("pairs-lag-" + std::to_string(LAGS[number]), unequal[number + 1], n);
}

/* Equal bits of words at each lag from 1 to 8,192, on samples of the stream: Binomial, exactly, and uncorrelated. */
inline void lags(Words &words) {
  constexpr size_t LONGEST = 8192, KEPT = 24576, CHUNK = KEPT + LONGEST, PERIOD = 32 * CHUNK;
  vector<uint64_t> unequal(LONGEST);
  double n = 0;
  for (const uint32_t *chunk; (chunk = words.take(CHUNK)); n += 32.0 * KEPT) {
    for (size_t lag = 1; lag <= LONGEST; lag++) {
      uint64_t sum = 0;
      for (size_t t = 0; t < KEPT; t += 2) {
        uint64_t now, later;
        std::memcpy(&now, chunk + t, 8);
        std::memcpy(&later, chunk + t + lag, 8);
        sum += __builtin_popcountll(now ^ later);
      }
      unequal[lag - 1] += sum;
    }
    words.skip(std::max<uint64_t>(CHUNK, std::min<uint64_t>(PERIOD, words.count / 4)) - CHUNK);
  }
  fair("lags", unequal, n);
}

/* Hamming weights of words: their law; of pairs at a lag, no word in two pairs, all of a contingency table; of eight in a row. */
inline void weights(Words &words) {
  constexpr size_t CHUNK = 1 << 16, CLASSES = 11, LOW = 11;
  const vector<double> law = binomial(32);
  vector<double> coarse(CLASSES), quarters(4), eights(1 << 16, 1.0), pair_law;
  vector<uint8_t> class_of(33), quarter_of(33);
  for (size_t w = 0; w <= 32; w++) {
    class_of[w] = static_cast<uint8_t>(w <= LOW ? 0 : std::min(w - LOW, CLASSES - 1));
    quarter_of[w] = w <= 13 ? 0 : w <= 15 ? 1 : w <= 17 ? 2 : 3;
    coarse[class_of[w]] += law[w];
    quarters[quarter_of[w]] += law[w];
  }
  for (size_t a = 0; a < CLASSES; a++)
    for (size_t b = 0; b < CLASSES; b++) pair_law.push_back(coarse[a] * coarse[b]);
  for (size_t cell = 0; cell < eights.size(); cell++)
    for (size_t i = 0; i < 8; i++) eights[cell] *= quarters[cell >> 2 * i & 3];
  vector<uint64_t> singles(33), octuples(1 << 16);
  vector<vector<uint64_t>> pairs(std::size(LAGS), vector<uint64_t>(CLASSES * CLASSES));
  vector<uint8_t> weight(CHUNK);
  for (const uint32_t *chunk; (chunk = words.take(CHUNK));) {
    for (size_t t = 0; t < CHUNK; t++) singles[weight[t] = static_cast<uint8_t>(__builtin_popcount(chunk[t]))]++;
    for (size_t t = 0; t < CHUNK; t += 8) {
      size_t cell = 0;
      for (size_t i = 0; i < 8; i++) cell |= static_cast<size_t>(quarter_of[weight[t + i]]) << 2 * i;
      octuples[cell]++;
    }
    for (size_t number = 0; number < std::size(LAGS); number++)
      for (size_t lag = LAGS[number], group = 0; group + 2 * lag <= CHUNK; group += 2 * lag)
        for (size_t t = group; t < group + lag; t++) pairs[number][class_of[weight[t]] * CLASSES + class_of[weight[t + lag]]]++;
  }
  pearson("weights", singles, law);
  pearson("eight-weights", octuples, eights);
  for (size_t number = 0; number < std::size(LAGS); number++)
    pearson("weights-lag-" + std::to_string(LAGS[number]), pairs[number], pair_law);
}

/* Overlapping pairs of the words' highest bits at a lag, the end joined to the beginning. The pairs share words, so their
 * statistic alone is no chi-square; less that of single words it is one, of d^2 - d degrees (Good 1953). */
inline void serial(Words &words) {
  constexpr size_t CHUNK = 1 << 14;
  const int depth = std::min(10, (static_cast<int>(std::log2(static_cast<double>(words.count))) - 4) / 2);
  const size_t d = size_t{1} << depth;
  vector<uint64_t> singles(d);
  vector<vector<uint32_t>> pairs(std::size(LAGS), vector<uint32_t>(d * d));
  const size_t longest = LAGS[std::size(LAGS) - 1];
  vector<uint32_t> first, window(longest + CHUNK); /* the last `longest` values, then the chunk's */
  double n = 0;
  const auto count = [&](size_t number, size_t from, size_t to) {
    for (size_t t = from; t < to; t++) pairs[number][window[t - LAGS[number]] * d + window[t]]++;
  };
  for (const uint32_t *chunk; (chunk = words.take(CHUNK)); n += CHUNK) {
    for (size_t t = 0; t < CHUNK; t++) singles[window[longest + t] = chunk[t] >> (32 - depth)]++;
    if (n == 0) first.assign(window.begin() + longest, window.begin() + 2 * longest);
    for (size_t number = 0; number < std::size(LAGS); number++)
      count(number, longest + (n == 0 ? LAGS[number] : 0), longest + CHUNK);
    std::copy(window.end() - longest, window.end(), window.begin());
  }
  std::copy(first.begin(), first.end(), window.begin() + longest);
  const auto psi = [n](const auto &counts) {
    double squares = 0;
    for (auto c : counts) squares += static_cast<double>(c) * static_cast<double>(c);
    return squares * static_cast<double>(counts.size()) / n - n;
  };
  for (size_t number = 0; number < std::size(LAGS); number++) {
    count(number, longest, longest + LAGS[number]);
    chi2("serial-lag-" + std::to_string(LAGS[number]), psi(pairs[number]) - psi(singles), static_cast<double>(d * (d - 1)));
  }
}
