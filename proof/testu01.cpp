/* One test of a battery of TestU01 on the words of standard input: `testu01 crush 17`; test 0 is the whole battery.
 *
 * It writes a line for each p value: its place, the name of its statistic, the p value. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

extern "C" {
#include <bbattery.h>
#include <swrite.h>
#include <unif01.h>
}

static uint32_t words[1 << 14];
static size_t used, held;

static unsigned int next_word() {
  if (used == held) {
    held = fread(words, sizeof *words, sizeof words / sizeof *words, stdin);
    used = 0;
    if (!held) {
      fprintf(stderr, "the words have ended\n");
      exit(3);
    }
  }
  return words[used++];
}

struct Battery {
  const char *name;
  int tests;
  void (*run)(unif01_Gen *, int *);
};
static const Battery batteries[] = {{"smallcrush", 10, bbattery_RepeatSmallCrush},
                                    {"crush", 96, bbattery_RepeatCrush},
                                    {"bigcrush", 106, bbattery_RepeatBigCrush}};

int main(int count, char **arguments) {
  const Battery *battery = nullptr;
  for (const Battery &each : batteries)
    if (count == 3 && !strcmp(each.name, arguments[1])) battery = &each;
  char *end = nullptr;
  const long test = battery ? strtol(arguments[2], &end, 10) : -1;
  if (!battery || !end || *end || test < 0 || test > battery->tests) {
    fprintf(stderr, "usage: testu01 smallcrush|crush|bigcrush TEST, from 1 on, or 0 for all; words on standard input\n");
    return 2;
  }
  FILE *out = fdopen(dup(STDOUT_FILENO), "w");
  if (!out || !freopen("/dev/null", "w", stdout)) return 1; /* its own reports */
  swrite_Basic = 0;
  static int repetitions[256];
  for (int i = 1; i <= battery->tests; i++) repetitions[i] = test == 0 || test == i;
  char name[] = "words";
  unif01_Gen *generator = unif01_CreateExternGenBits(name, next_word);
  battery->run(generator, repetitions);
  for (int i = 0; i < bbattery_NTests; i++)
    if (bbattery_pVal[i] >= 0) fprintf(out, "%d\t%s\t%.17g\n", i, bbattery_TestNames[i], bbattery_pVal[i]);
  unif01_DeleteExternGenBits(generator);
  return fclose(out) ? 1 : 0;
}
