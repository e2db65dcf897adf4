/* Tests of random words: battery TEST WORDS < raw words. See battery.h for what comes out.
 *
 * In the spirit of Knuth, The Art of Computer Programming 2, 3.3.2; L'Ecuyer and Simard, TestU01, ACM TOMS 33 (2007) 22;
 * Doty-Humphrey, PractRand; Marsaglia, Diehard. No line of code is theirs. */
#include "battery.h"
#include "cells.h"
#include "counts.h"
#include "linear.h"

int main(int argc, char **argv) {
  const std::pair<const char *, void (*)(Words &)> tests[] = {
      {"bits", bits},
      {"lags", lags},
      {"weights", weights},
      {"serial", serial},
      {"birthdays", birthdays},
      {"duplicates", duplicates},
      {"gaps", gaps},
      {"maximum", maximum},
      {"ranks", ranks},
      {"collisions", collisions},
      {"complexity", complexity},
      {"walk", walk},
  };
  for (const auto &[name, test] : tests)
    if (argc == 3 && std::strcmp(argv[1], name) == 0) {
      Words words(std::strtoull(argv[2], nullptr, 10));
      test(words);
      return 0;
    }
  std::fprintf(stderr, "battery TEST WORDS, and words on standard input\n");
  return 2;
}
