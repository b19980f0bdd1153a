/*
 * How fast this guest computes, by its own clock: rounds of a fixed integer loop per second. The figure follows the
 * CPU cap. Usage: speed [MILLISECONDS]; prints one whole number.
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

static double now_ms(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return now.tv_sec * 1e3 + now.tv_nsec / 1e6;
}

int main(int count, char **arguments) {
  double wanted = count > 1 ? atof(arguments[1]) : 1000;
  volatile uint64_t kept;
  uint64_t value = 88172645463325252ULL;
  long rounds = 0;
  double from = now_ms(), to = from;
  while (to - from < wanted) {
    for (int n = 0; n < 10000; n++) {
      value ^= value << 13;
      value ^= value >> 7;
      value ^= value << 17;
    }
    rounds++;
    to = now_ms();
  }
  kept = value;
  (void)kept;
  printf("%.0f\n", rounds * 1e3 / (to - from));
  return 0;
}
