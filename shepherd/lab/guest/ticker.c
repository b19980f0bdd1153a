/*
 * Measures how long this guest stood still, from inside.
 * A stopped guest's own clocks stop with it, so a gap between two ticks shows only what the guest's clock saw. The
 * hardware clock (RTC) goes on outside: the distance between it and the guest's clock grows by exactly the time in which
 * the guest did not run. An edge of the RTC's seconds is seen a little late, later still under a CPU cap, never early;
 * so the largest distance of some edges is the true one. The file holds one line, rewritten at every edge:
 *   longest_gap_ms longest_stop_ms total_stop_ms ticks seconds
 * Usage: ticker FILE; `touch FILE.reset` starts the figures afresh. Without an RTC the stops are -1.
 */
#include <fcntl.h>
#include <linux/rtc.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

#define TICK_NS 10000000L
#define EDGES 4 /* how many edges are looked at together */
#define NOISE_MS 50.0

static double gap, last, stop_longest, stop_total, steady, before, after;
static long ticks, seconds;
static int settled, settling;

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

static void save(const char *file, int has_rtc) {
  char fresh[256];
  snprintf(fresh, sizeof fresh, "%s.new", file);
  FILE *out = fopen(fresh, "w");
  if (out == NULL) return;
  double now_stopped = settling ? after - before : 0;
  double longest = now_stopped > stop_longest ? now_stopped : stop_longest;
  fprintf(out, "%.0f %.0f %.0f %ld %ld\n", gap, has_rtc ? longest : -1, has_rtc ? stop_total + now_stopped : -1, ticks, seconds);
  fclose(out);
  rename(fresh, file);
}

/* One edge of the RTC; distance = RTC minus the guest's clock. */
static void edge(double distance) {
  seconds++;
  if (settling) { /* a stop was seen: its length is known once an edge was seen in time */
    if (distance > after) after = distance;
    if (--settling == 0) {
      stop_total += after - before;
      if (after - before > stop_longest) stop_longest = after - before;
      steady = after;
      settled = EDGES;
    }
    return;
  }
  if (settled >= EDGES && distance > steady + NOISE_MS) {
    before = steady;
    after = distance;
    settling = EDGES;
    return;
  }
  if (settled == 0 || distance > steady) steady = distance;
  settled++;
}

int main(int count, char **arguments) {
  const char *file = count > 1 ? arguments[1] : "/run/ticker";
  char reset[256];
  snprintf(reset, sizeof reset, "%s.reset", file);
  int rtc = open("/dev/rtc0", O_RDONLY | O_CLOEXEC);
  long second = rtc_second(rtc);
  last = now_ms();
  for (;;) {
    struct timespec rest = {.tv_nsec = TICK_NS};
    nanosleep(&rest, NULL);
    double now = now_ms();
    if (now - last > gap) gap = now - last;
    last = now;
    ticks++;
    long seen = rtc_second(rtc);
    if (seen != second) {
      second = seen;
      edge(seen * 1e3 - now);
      save(file, 1);
    } else if (rtc < 0 && ticks % 100 == 0) {
      seconds++;
      save(file, 0);
    }
    if (ticks % 10 == 0 && access(reset, F_OK) == 0) {
      unlink(reset);
      gap = stop_longest = stop_total = 0;
      ticks = seconds = settling = 0; /* what is known of the distance stays */
      save(file, rtc >= 0);
    }
  }
}
