/*
 * Brings hot-added vCPUs online: listens to the kernel's device events, so that it costs nothing while nothing happens.
 * A cloud image does the same with a udev rule.
 */
#include <fcntl.h>
#include <glob.h>
#include <linux/netlink.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static void bring_online(void) {
  glob_t found;
  if (glob("/sys/devices/system/cpu/cpu[0-9]*/online", 0, NULL, &found) == 0) {
    for (size_t n = 0; n < found.gl_pathc; n++) {
      char state = '1';
      int file = open(found.gl_pathv[n], O_RDWR);
      if (file < 0) continue;
      if (read(file, &state, 1) == 1 && state == '0' && pwrite(file, "1", 1, 0) != 1)
        fprintf(stderr, "onliner: %s does not come online\n", found.gl_pathv[n]);
      close(file);
    }
  }
  globfree(&found);
}

int main(void) {
  struct sockaddr_nl address = {.nl_family = AF_NETLINK, .nl_groups = 1};
  int events = socket(AF_NETLINK, SOCK_DGRAM | SOCK_CLOEXEC, NETLINK_KOBJECT_UEVENT);
  if (events < 0 || bind(events, (struct sockaddr *)&address, sizeof address) < 0) {
    perror("onliner: uevents");
    return 1;
  }
  bring_online();
  for (;;) {
    char text[8192];
    ssize_t length = recv(events, text, sizeof text - 1, 0);
    if (length <= 0) continue; /* an overrun loses events: the next one looks at all CPUs anyway */
    text[length] = 0;
    if (strncmp(text, "add@/devices/system/cpu/cpu", 27) == 0) bring_online();
  }
}
