/*
 * The shape of the paper's parallel program (NEMO3D, a bidirectional ring of ranks), in one file and without a library:
 * phase 1 heavy on the network, phase 2 on CPU and memory with an exchange between neighbours in each iteration.
 * It knows nothing of drover. It opens its connections once; when one breaks, the program ends with exit 1 and says so.
 *
 * Usage: ring [OPTIONS] RANK ADDRESS_0 ADDRESS_1 ... ADDRESS_N-1
 *   -p PORT     TCP port that each rank listens on (7420)
 *   -r ROUNDS   phase 1: exchanges with both neighbours (20)
 *   -k KIB      phase 1: size of one message (256)
 *   -i ITER     phase 2: iterations (40)
 *   -m MIB      phase 2: memory of the matrix, walked through in each iteration (32)
 *   -c WORK     phase 2: thousands of multiplications in an iteration (2000)
 *   -f FILE     state, rewritten each iteration: `phase iteration of elapsed_ms`
 *   -x COMMAND  run by the shell between the phases, at this rank only; a failure is told and does not end the program
 * Prints `rank R phase1_ms A phase2_ms B total_ms T connections 2 broken 0 checksum C`. The checksum is the same on every
 * run with the same options, whatever happened to the machines: the ring computed what it had to.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define MAX_RANKS 64
#define CONNECT_PATIENCE_MS 120000.0

enum { LEFT, RIGHT };

static struct {
  int port, rounds, message_kib, iterations, memory_mib, work;
  const char *file, *command;
} options = {7420, 20, 256, 40, 32, 2000, NULL, NULL};

static int rank, ranks;
static char *addresses[MAX_RANKS];
static int neighbour[2];

static double now_ms(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return now.tv_sec * 1e3 + now.tv_nsec / 1e6;
}

static void fail(const char *format, ...) {
  va_list arguments;
  va_start(arguments, format);
  fprintf(stderr, "rank %d: ", rank);
  vfprintf(stderr, format, arguments);
  fprintf(stderr, "\n");
  va_end(arguments);
  exit(1);
}

static void save_state(int phase, int iteration, int of, double from) {
  if (options.file == NULL) return;
  char fresh[512];
  snprintf(fresh, sizeof fresh, "%s.new", options.file);
  FILE *out = fopen(fresh, "w");
  if (out == NULL) fail("cannot write %s: %s", fresh, strerror(errno));
  fprintf(out, "%d %d %d %.0f\n", phase, iteration, of, now_ms() - from);
  fclose(out);
  rename(fresh, options.file);
}

/* --- connections: each rank listens for its left neighbour and connects to its right one, once ------------------ */

static int listen_here(void) {
  struct sockaddr_in here = {.sin_family = AF_INET, .sin_port = htons(options.port + rank)};
  int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), yes = 1;
  setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
  if (bind(listener, (struct sockaddr *)&here, sizeof here) < 0 || listen(listener, 1) < 0)
    fail("cannot listen on port %d: %s", options.port + rank, strerror(errno));
  return listener;
}

static int connect_right(void) {
  int right = (rank + 1) % ranks;
  struct sockaddr_in there = {.sin_family = AF_INET, .sin_port = htons(options.port + right)};
  if (inet_pton(AF_INET, addresses[right], &there.sin_addr) != 1) fail("bad address %s", addresses[right]);
  double end = now_ms() + CONNECT_PATIENCE_MS;
  for (;;) { /* only until the first time it stands: the peer may start later */
    int peer = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (connect(peer, (struct sockaddr *)&there, sizeof there) == 0) return peer;
    close(peer);
    if (now_ms() > end) fail("rank %d at %s does not answer: %s", right, addresses[right], strerror(errno));
    usleep(100000);
  }
}

static void tune(int peer) {
  int yes = 1;
  setsockopt(peer, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
}

static void join_ring(void) {
  int listener = listen_here();
  neighbour[RIGHT] = connect_right();
  neighbour[LEFT] = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
  if (neighbour[LEFT] < 0) fail("cannot accept: %s", strerror(errno));
  close(listener);
  tune(neighbour[LEFT]);
  tune(neighbour[RIGHT]);
}

/* Sends to one side and receives from the other at once, so that a full ring of large messages cannot lock itself. */
static void exchange(int to, const char *out, int from, char *in, size_t size) {
  size_t sent = 0, received = 0;
  while (sent < size || received < size) {
    struct pollfd ends[2] = {
        {.fd = sent < size ? neighbour[to] : -1, .events = POLLOUT},
        {.fd = received < size ? neighbour[from] : -1, .events = POLLIN},
    };
    if (poll(ends, 2, -1) < 0) fail("poll: %s", strerror(errno));
    if (ends[0].revents) {
      ssize_t length = send(neighbour[to], out + sent, size - sent, MSG_DONTWAIT | MSG_NOSIGNAL);
      if (length < 0 && errno != EAGAIN) fail("connection to a neighbour broke: %s", strerror(errno));
      if (length > 0) sent += length;
    }
    if (ends[1].revents) {
      ssize_t length = recv(neighbour[from], in + received, size - received, MSG_DONTWAIT);
      if (length == 0) fail("a neighbour closed its connection");
      if (length < 0 && errno != EAGAIN) fail("connection from a neighbour broke: %s", strerror(errno));
      if (length > 0) received += length;
    }
  }
}

static uint64_t mix(uint64_t sum, uint64_t value) {
  sum ^= value + 0x9e3779b97f4a7c15ULL + (sum << 6) + (sum >> 2);
  return sum;
}

/* --- the phases ------------------------------------------------------------------------------------------------- */

/* Long messages both ways round the ring: hardly any computing. */
static uint64_t phase_network(double from) {
  size_t size = (size_t)options.message_kib << 10;
  char *out = malloc(size), *in = malloc(size);
  if (out == NULL || in == NULL) fail("no memory for messages");
  for (size_t n = 0; n < size; n++) out[n] = (char)(n * 31 + rank);
  uint64_t sum = 0;
  for (int round = 0; round < options.rounds; round++) {
    exchange(RIGHT, out, LEFT, in, size);
    exchange(LEFT, in, RIGHT, out, size); /* what came goes back: after both, everyone holds its own again */
    sum = mix(sum, (unsigned char)out[(size_t)round * 4099 % size]);
    out[(size_t)round * 4099 % size] ^= 1;
    save_state(1, round + 1, options.rounds, from);
  }
  free(out);
  free(in);
  return sum;
}

/* The shape of a Lanczos iteration: walk through the memory, multiply, exchange the borders with both neighbours. */
static uint64_t phase_compute(double from) {
  size_t words = ((size_t)options.memory_mib << 20) / sizeof(uint64_t);
  uint64_t *matrix = malloc(words * sizeof *matrix);
  if (matrix == NULL) fail("no memory for %d MiB", options.memory_mib);
  for (size_t n = 0; n < words; n++) matrix[n] = n * 2654435761u + rank;
  uint64_t sum = rank, border[512], left[512], right[512];
  for (int iteration = 0; iteration < options.iterations; iteration++) {
    for (size_t n = 0; n < words; n += 512) sum = mix(sum, matrix[n]++); /* a word of every page */
    size_t at = sum % words;
    for (long n = 0; n < options.work * 1000L; n++) sum = sum * 6364136223846793005ULL + 1442695040888963407ULL;
    matrix[at] ^= sum;
    for (int n = 0; n < 512; n++) border[n] = sum + n;
    exchange(RIGHT, (char *)border, LEFT, (char *)left, sizeof border);
    exchange(LEFT, (char *)border, RIGHT, (char *)right, sizeof border);
    sum = mix(mix(sum, left[iteration % 512]), right[iteration % 512]);
    save_state(2, iteration + 1, options.iterations, from);
  }
  free(matrix);
  return sum;
}

/* Between the phases the program may tell somebody; a job script would do the same. */
static void between_phases(void) {
  if (options.command == NULL) return;
  fflush(NULL);
  int status = system(options.command);
  if (status == -1 || !WIFEXITED(status) || WEXITSTATUS(status) != 0)
    fprintf(stderr, "rank %d: `%s` ended with %d\n", rank, options.command, WIFEXITED(status) ? WEXITSTATUS(status) : -1);
}

static int whole(const char *text) {
  char *end;
  long value = strtol(text, &end, 10);
  if (*text == 0 || *end != 0 || value < 0 || value > 1000000000) {
    fprintf(stderr, "ring: '%s' is no whole number\n", text);
    exit(2);
  }
  return (int)value;
}

static void read_arguments(int count, char **arguments) {
  int option;
  while ((option = getopt(count, arguments, "p:r:k:i:m:c:f:x:")) != -1) {
    switch (option) {
    case 'p': options.port = whole(optarg); break;
    case 'r': options.rounds = whole(optarg); break;
    case 'k': options.message_kib = whole(optarg); break;
    case 'i': options.iterations = whole(optarg); break;
    case 'm': options.memory_mib = whole(optarg); break;
    case 'c': options.work = whole(optarg); break;
    case 'f': options.file = optarg; break;
    case 'x': options.command = optarg; break;
    default: exit(2);
    }
  }
  ranks = count - optind - 1;
  rank = ranks >= 0 ? whole(arguments[optind]) : 0;
  if (ranks < 2 || ranks > MAX_RANKS || rank >= ranks || options.message_kib < 1 || options.memory_mib < 1) {
    fprintf(stderr, "usage: ring [-p PORT] [-r ROUNDS] [-k KIB] [-i ITER] [-m MIB] [-c WORK] [-f FILE] [-x COMMAND] RANK ADDRESS...\n");
    exit(2);
  }
  for (int n = 0; n < ranks; n++) addresses[n] = arguments[optind + 1 + n];
}

int main(int count, char **arguments) {
  read_arguments(count, arguments);
  join_ring();
  double from = now_ms();
  save_state(0, 0, 0, from);
  uint64_t network = phase_network(from);
  double middle = now_ms();
  between_phases();
  uint64_t compute = phase_compute(from);
  double to = now_ms();
  save_state(3, 0, 0, from);
  printf("rank %d phase1_ms %.0f phase2_ms %.0f total_ms %.0f connections 2 broken 0 checksum %016llx\n", rank, middle - from, to - middle,
         to - from, (unsigned long long)mix(network, compute));
  return 0;
}
