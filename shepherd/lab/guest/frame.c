/*
 * Whole Ethernet frames, past the guest's own IP: for tests that attack a LAN, and that look at what reaches a guest.
 *   frame send DEVICE HEX [COUNT [PER_SECOND]]   sends the frame COUNT times (default once)
 *   frame watch DEVICE MS HEX                    counts frames that arrive meanwhile and hold these bytes anywhere, by
 *                                                the byte that follows them: prints `byte:count` for each that came,
 *                                                then `end`; SIGTERM ends it before its time
 * A frame longer than the device's MTU is refused by the kernel: "Message too long".
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <net/if.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static unsigned char bytes[65536];
static volatile sig_atomic_t asked_to_end;

static void end_early(int signal_number) {
  (void)signal_number;
  asked_to_end = 1;
}

static int parse(const char *hex) {
  int length = 0;
  unsigned value;
  for (; hex[0] && hex[1] && sscanf(hex, "%2x", &value) == 1; hex += 2) bytes[length++] = value;
  return length;
}

static long now_ms(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

int main(int count, char **arguments) {
  if (count < 4) {
    fputs("frame send DEVICE HEX [COUNT [PER_SECOND]] | frame watch DEVICE MS HEX\n", stderr);
    return 2;
  }
  int is_send = strcmp(arguments[1], "send") == 0;
  int handle = socket(AF_PACKET, SOCK_RAW, htons(ETH_P_ALL));
  struct sockaddr_ll place = {
      .sll_family = AF_PACKET, .sll_protocol = htons(ETH_P_ALL), .sll_ifindex = if_nametoindex(arguments[2])};
  if (handle < 0 || place.sll_ifindex == 0 || bind(handle, (struct sockaddr *)&place, sizeof place) < 0) {
    perror("frame");
    return 1;
  }
  if (is_send) {
    int length = parse(arguments[3]);
    long times = count > 4 ? atol(arguments[4]) : 1, per_second = count > 5 ? atol(arguments[5]) : 0;
    for (long n = 0; n < times; n++) {
      if (send(handle, bytes, length, 0) < 0) {
        perror("frame");
        return 1;
      }
      if (per_second > 0) usleep(1000000 / per_second);
    }
    printf("%ld\n", times);
    return 0;
  }
  long end = now_ms() + atol(arguments[3]);
  static long seen[256];
  int wanted = count > 4 ? parse(arguments[4]) : 0;
  static unsigned char frame[65537];
  struct timeval wait = {.tv_usec = 50000};
  setsockopt(handle, SOL_SOCKET, SO_RCVTIMEO, &wait, sizeof wait);
  signal(SIGTERM, end_early);
  while (now_ms() < end && !asked_to_end) {
    struct sockaddr_ll from;
    socklen_t size = sizeof from;
    ssize_t length = recvfrom(handle, frame, sizeof frame - 1, 0, (struct sockaddr *)&from, &size);
    if (length < 0 || from.sll_pkttype == PACKET_OUTGOING) continue;
    frame[length] = 0;
    unsigned char *found = wanted > 0 ? memmem(frame, length, bytes, wanted) : NULL;
    if (found != NULL) seen[found[wanted]]++;
  }
  for (int n = 0; n < 256; n++)
    if (seen[n] > 0) printf("%d:%ld\n", n, seen[n]);
  puts("end");
  return 0;
}
