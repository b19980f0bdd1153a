/*
 * TCP throughput between two guests, measured where the bytes arrive.
 * Usage: stream serve PORT | stream send ADDRESS PORT SECONDS. The sender prints megabits per second as the receiver
 * counted them, from its first to its last byte; the first half second is left out, so that a token bucket's burst and
 * TCP's start do not count.
 */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define WARM_UP_MS 500.0

static char buffer[65536];

static double now_ms(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return now.tv_sec * 1e3 + now.tv_nsec / 1e6;
}

static void receive(int peer) {
  double first = 0, from = 0, last = 0, bytes = 0;
  ssize_t length;
  while ((length = read(peer, buffer, sizeof buffer)) > 0) {
    last = now_ms();
    if (first == 0) first = last;
    if (last - first < WARM_UP_MS) continue;
    if (from == 0) from = last;
    else bytes += length;
  }
  double rate = last > from && from > 0 ? bytes * 8 / 1e3 / (last - from) : 0;
  dprintf(peer, "%.2f\n", rate);
}

static int serve(int port) {
  struct sockaddr_in here = {.sin_family = AF_INET, .sin_port = htons(port)};
  int listener = socket(AF_INET, SOCK_STREAM, 0), yes = 1;
  setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
  if (bind(listener, (struct sockaddr *)&here, sizeof here) < 0 || listen(listener, 8) < 0) {
    perror("stream: listen");
    return 1;
  }
  signal(SIGCHLD, SIG_IGN);
  for (;;) {
    int peer = accept(listener, NULL, NULL);
    if (peer < 0) continue;
    if (fork() == 0) {
      close(listener);
      receive(peer);
      _exit(0);
    }
    close(peer);
  }
}

static int send_to(const char *address, int port, double seconds) {
  struct sockaddr_in there = {.sin_family = AF_INET, .sin_port = htons(port)};
  int peer = socket(AF_INET, SOCK_STREAM, 0);
  if (inet_pton(AF_INET, address, &there.sin_addr) != 1 || connect(peer, (struct sockaddr *)&there, sizeof there) < 0) {
    perror("stream: connect");
    return 1;
  }
  double end = now_ms() + seconds * 1e3;
  while (now_ms() < end) {
    if (write(peer, buffer, sizeof buffer) < 0) {
      perror("stream: write");
      return 1;
    }
  }
  shutdown(peer, SHUT_WR);
  ssize_t length = read(peer, buffer, sizeof buffer - 1);
  if (length <= 0) {
    fprintf(stderr, "stream: the receiver did not report\n");
    return 1;
  }
  return write(1, buffer, length) == length ? 0 : 1;
}

int main(int count, char **arguments) {
  if (count == 3 && strcmp(arguments[1], "serve") == 0) return serve(atoi(arguments[2]));
  if (count == 5 && strcmp(arguments[1], "send") == 0) return send_to(arguments[2], atoi(arguments[3]), atof(arguments[4]));
  fprintf(stderr, "usage: stream serve PORT | stream send ADDRESS PORT SECONDS\n");
  return 2;
}
