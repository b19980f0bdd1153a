/*
 * Measures how long this guest stood still, from inside.
 * A stopped guest's own clocks stop with it, so a gap between two ticks shows only what the guest's clock saw. The
 * hardware clock (RTC) goes on outside: where the guest's clock needed less than a second for a second of the RTC, the
 * rest is time in which the guest did not run. The file holds one line, rewritten after every second:
 *   longest_gap_ms longest_stop_ms total_stop_ms ticks seconds
 * Usage: ticker FILE; `echo >FILE.reset` starts the figures afresh.
 */
#include <fcntl.h>
#include <linux/rtc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

#define TICK_NS 10000000L
/* The RTC is read every tick, so a second's edge is known to a tick or two; less than this is no stop. */
#define NOISE_MS 40.0

static double now_ms(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return now.tv_sec * 1e3 + now.tv_nsec / 1e6;
}

static long rtc_second(int rtc) {
  struct rtc_time at;
  if (rtc < 0 || ioctl(rtc, RTC_RD_TIME, &at) < 0) return -1;
  struct tm broken = {.tm_sec = at.tm_sec, .tm_min = at.tm_min, .tm_hour = at.tm_hour, .tm_mday = at.tm_mday, .tm_mon = at.tm_mon, .tm_year = at.tm_year};
  return (long)timegm(&broken);
}

static void save(const char *file, double gap, double stop, double total, long ticks, long seconds) {
  char fresh[256];
  snprintf(fresh, sizeof fresh, "%s.new", file);
  FILE *out = fopen(fresh, "w");
  if (out == NULL) return;
  fprintf(out, "%.0f %.0f %.0f %ld %ld\n", gap, stop, total, ticks, seconds);
  fclose(out);
  rename(fresh, file);
}

int main(int count, char **arguments) {
  const char *file = count > 1 ? arguments[1] : "/run/ticker";
  char reset[256];
  snprintf(reset, sizeof reset, "%s.reset", file);
  int rtc = open("/dev/rtc0", O_RDONLY | O_CLOEXEC);
  double gap = 0, stop = 0, total = 0, last = now_ms(), edge_ms = 0;
  long ticks = 0, seconds = 0, edge = -1, second = rtc_second(rtc);
  for (;;) {
    struct timespec rest = {.tv_nsec = TICK_NS};
    nanosleep(&rest, NULL);
    double now = now_ms();
    if (now - last > gap) gap = now - last;
    last = now;
    ticks++;
    long seen = rtc_second(rtc);
    if (seen != second) {
      /* a new second of the RTC: compare it with what passed here since the edge before */
      if (edge >= 0) {
        double lost = (seen - edge) * 1e3 - (now - edge_ms);
        if (lost > NOISE_MS) {
          total += lost;
          if (lost > stop) stop = lost;
        }
      }
      edge = second = seen;
      edge_ms = now;
      seconds++;
      save(file, gap, stop, total, ticks, seconds);
    } else if (rtc < 0 && ticks % 100 == 0) {
      save(file, gap, -1, -1, ticks, ++seconds);
    }
    if (ticks % 10 == 0 && access(reset, F_OK) == 0) {
      unlink(reset);
      gap = stop = total = 0;
      ticks = seconds = 0;
      edge = -1;
      save(file, 0, 0, 0, 0, 0);
    }
  }
}
