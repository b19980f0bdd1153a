/*
 * Pings a peer at a fixed interval and counts what is lost; answers that come late still count.
 * Usage: pinger ADDRESS COUNT INTERVAL_MS [FILE]. Prints (or writes to FILE after every ping, with what is known then):
 *   sent received lost longest_silence_ms mean_ms
 */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/ip.h>
#include <netinet/ip_icmp.h>
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define GRACE_MS 1000.0

static double now_ms(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return now.tv_sec * 1e3 + now.tv_nsec / 1e6;
}

static uint16_t checksum(const void *data, size_t length) {
  const uint8_t *bytes = data;
  uint32_t sum = 0;
  for (size_t n = 0; n + 1 < length; n += 2) sum += (uint32_t)bytes[n] << 8 | bytes[n + 1];
  while (sum >> 16) sum = (sum & 0xffff) + (sum >> 16);
  return htons((uint16_t)~sum);
}

static long sent, received;
static double total_ms, silence_ms, heard_ms;

static void report(const char *file) {
  long lost = sent - received;
  if (file == NULL) {
    printf("%ld %ld %ld %.0f %.2f\n", sent, received, lost, silence_ms, received ? total_ms / received : 0);
    return;
  }
  char fresh[256];
  snprintf(fresh, sizeof fresh, "%s.new", file);
  FILE *out = fopen(fresh, "w");
  if (out == NULL) return;
  fprintf(out, "%ld %ld %ld %.0f %.2f\n", sent, received, lost, silence_ms, received ? total_ms / received : 0);
  fclose(out);
  rename(fresh, file);
}

int main(int count, char **arguments) {
  if (count < 4) {
    fprintf(stderr, "usage: pinger ADDRESS COUNT INTERVAL_MS [FILE]\n");
    return 2;
  }
  struct sockaddr_in peer = {.sin_family = AF_INET};
  long wanted = atol(arguments[2]);
  double interval = atof(arguments[3]);
  const char *file = count > 4 ? arguments[4] : NULL;
  if (inet_pton(AF_INET, arguments[1], &peer.sin_addr) != 1 || wanted < 1 || interval < 1) return 2;
  int raw = socket(AF_INET, SOCK_RAW, IPPROTO_ICMP);
  double *when = calloc(wanted, sizeof *when);
  char *answered = calloc(wanted, 1);
  if (raw < 0 || when == NULL || answered == NULL) {
    perror("pinger");
    return 1;
  }
  uint16_t identity = htons((uint16_t)getpid());
  double from = heard_ms = now_ms();
  while (sent < wanted || (received < sent && now_ms() < when[sent - 1] + GRACE_MS)) {
    double now = now_ms();
    if (sent < wanted && now >= from + sent * interval) {
      struct {
        struct icmphdr header;
        uint32_t number;
      } packet = {.header = {.type = ICMP_ECHO}, .number = (uint32_t)sent};
      packet.header.un.echo.id = identity;
      packet.header.un.echo.sequence = htons((uint16_t)sent);
      packet.header.checksum = checksum(&packet, sizeof packet);
      when[sent++] = now; /* a refused send is a lost ping as well */
      (void)!sendto(raw, &packet, sizeof packet, 0, (struct sockaddr *)&peer, sizeof peer);
      if (file != NULL) report(file);
      continue;
    }
    double next = sent < wanted ? from + sent * interval : when[sent - 1] + GRACE_MS;
    struct pollfd readable = {.fd = raw, .events = POLLIN};
    if (poll(&readable, 1, next - now < 1 ? 1 : (int)(next - now)) <= 0) continue;
    uint8_t frame[2048];
    ssize_t length = recv(raw, frame, sizeof frame, MSG_DONTWAIT);
    if (length < 28) continue;
    const struct icmphdr *header = (const void *)(frame + (frame[0] & 15) * 4);
    uint32_t number;
    memcpy(&number, header + 1, sizeof number);
    if (header->type != ICMP_ECHOREPLY || header->un.echo.id != identity || number >= (uint32_t)sent || answered[number]) continue;
    now = now_ms();
    answered[number] = 1;
    received++;
    total_ms += now - when[number];
    if (now - heard_ms > silence_ms) silence_ms = now - heard_ms;
    heard_ms = now;
  }
  report(file);
  return received == sent ? 0 : 1;
}
