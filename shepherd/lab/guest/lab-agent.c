/*
 * Runs commands that the lab sends over a virtio channel, so that tests read the truth inside a guest without touching
 * its network. One line a message: `<id> <base64 of a shell command>` in, `<id> <exit code> <base64 of its output>` out
 * (standard output and error together, at most 1 MiB). Several commands may run at once; answers come as they end.
 * A repeated id answers what is known: this is how the lab asks again after a move cut the channel.
 * Usage: lab-agent DEVICE
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define COMMANDS 32
#define OUTPUT_LIMIT (1 << 20)
#define LINE_LIMIT (1 << 18)

enum state { FREE, RUNNING, ENDED };
static struct command {
  enum state state;
  char id[64];
  pid_t pid;
  int pipe, exit_code;
  long age;
  char *output;
  size_t length;
} commands[COMMANDS];

static char line[LINE_LIMIT];
static size_t line_length;
static char *outgoing;
static size_t outgoing_length;
static long clock_of_ages;

static const char alphabet[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

static char *encode(const char *data, size_t length) {
  char *text = malloc((length + 2) / 3 * 4 + 1), *to = text;
  for (size_t n = 0; n < length; n += 3) {
    unsigned value = (unsigned char)data[n] << 16;
    if (n + 1 < length) value |= (unsigned char)data[n + 1] << 8;
    if (n + 2 < length) value |= (unsigned char)data[n + 2];
    *to++ = alphabet[value >> 18];
    *to++ = alphabet[value >> 12 & 63];
    *to++ = n + 1 < length ? alphabet[value >> 6 & 63] : '=';
    *to++ = n + 2 < length ? alphabet[value & 63] : '=';
  }
  *to = 0;
  return text;
}

static void decode(char *text) {
  char *to = text;
  unsigned value = 0;
  int bits = 0;
  for (const char *from = text; *from && *from != '='; from++) {
    const char *place = strchr(alphabet, *from);
    if (place == NULL) continue;
    value = value << 6 | (unsigned)(place - alphabet);
    bits += 6;
    if (bits >= 8) {
      bits -= 8;
      *to++ = (char)(value >> bits);
    }
  }
  *to = 0;
}

static void answer(const struct command *command) {
  char *text = encode(command->output, command->length);
  char *reply = NULL;
  int length = asprintf(&reply, "%s %d %s\n", command->id, command->exit_code, text);
  free(text);
  if (length < 0) return;
  outgoing = realloc(outgoing, outgoing_length + length);
  memcpy(outgoing + outgoing_length, reply, length);
  outgoing_length += length;
  free(reply);
}

static struct command *find(const char *id) {
  for (int n = 0; n < COMMANDS; n++)
    if (commands[n].state != FREE && strcmp(commands[n].id, id) == 0) return &commands[n];
  return NULL;
}

/* A free place, else the place of the oldest ended command; NULL while all are running. */
static struct command *place(void) {
  struct command *oldest = NULL;
  for (int n = 0; n < COMMANDS; n++) {
    if (commands[n].state == FREE) return &commands[n];
    if (commands[n].state == ENDED && (oldest == NULL || commands[n].age < oldest->age)) oldest = &commands[n];
  }
  return oldest;
}

static void start(char *message) {
  char *space = strchr(message, ' ');
  if (space == NULL || space - message >= 64) return; /* a cut line after a move; the lab asks again */
  *space = 0;
  struct command *known = find(message);
  if (known != NULL) {
    if (known->state == ENDED) answer(known);
    return;
  }
  struct command *command = place();
  int ends[2];
  if (command == NULL || pipe2(ends, O_CLOEXEC) < 0) return;
  free(command->output);
  *command = (struct command){.state = RUNNING, .pipe = ends[0], .age = clock_of_ages++};
  strcpy(command->id, message);
  decode(space + 1);
  command->pid = fork();
  if (command->pid == 0) {
    setsid();
    signal(SIGPIPE, SIG_DFL);
    sigset_t none; /* a shell that inherits a blocked SIGCHLD waits for its children for ever */
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    int nothing = open("/dev/null", O_RDONLY);
    dup2(nothing, 0);
    dup2(ends[1], 1);
    dup2(ends[1], 2);
    execl("/bin/sh", "sh", "-c", space + 1, NULL);
    _exit(127);
  }
  close(ends[1]);
  fcntl(ends[0], F_SETFL, O_NONBLOCK);
}

static void drain(struct command *command) {
  char chunk[65536];
  ssize_t length;
  while ((length = read(command->pipe, chunk, sizeof chunk)) > 0) {
    if (command->length + length > OUTPUT_LIMIT) length = OUTPUT_LIMIT - command->length;
    command->output = realloc(command->output, command->length + length + 1);
    memcpy(command->output + command->length, chunk, length);
    command->length += length;
  }
  if (length == 0) { /* all writers closed it; the command may still run */
    close(command->pipe);
    command->pipe = -1;
  }
}

/* A command has ended when its shell has, also while a child of it keeps the pipe open. */
static void reap(void) {
  for (int n = 0; n < COMMANDS; n++) {
    struct command *command = &commands[n];
    int status;
    if (command->state != RUNNING || waitpid(command->pid, &status, WNOHANG) != command->pid) continue;
    if (command->pipe >= 0) drain(command);
    if (command->pipe >= 0) close(command->pipe);
    command->pipe = -1;
    command->state = ENDED;
    command->exit_code = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
    answer(command);
  }
}

static void take(const char *bytes, ssize_t length) {
  for (ssize_t n = 0; n < length; n++) {
    if (bytes[n] == '\n') {
      line[line_length] = 0;
      line_length = 0;
      start(line);
    } else if (line_length < LINE_LIMIT - 1) {
      line[line_length++] = bytes[n];
    }
  }
}

static void wake(int signal_number) { (void)signal_number; }

int main(int count, char **arguments) {
  if (count != 2) return 2;
  int port = open(arguments[1], O_RDWR | O_NONBLOCK | O_CLOEXEC);
  if (port < 0) {
    perror("lab-agent: port");
    return 1;
  }
  struct sigaction action = {.sa_handler = wake};
  sigaction(SIGCHLD, &action, NULL);
  signal(SIGPIPE, SIG_IGN);
  sigset_t child, before;
  sigemptyset(&child);
  sigaddset(&child, SIGCHLD);
  sigprocmask(SIG_BLOCK, &child, &before); /* delivered only inside ppoll, so that no child's end is missed */
  for (;;) {
    reap();
    struct pollfd watched[COMMANDS + 1] = {{.fd = port, .events = POLLIN | (outgoing_length ? POLLOUT : 0)}};
    struct command *owners[COMMANDS + 1];
    int number = 1;
    for (int n = 0; n < COMMANDS; n++) {
      if (commands[n].state != RUNNING || commands[n].pipe < 0) continue;
      owners[number] = &commands[n];
      watched[number++] = (struct pollfd){.fd = commands[n].pipe, .events = POLLIN};
    }
    if (ppoll(watched, number, NULL, &before) < 0) continue;
    for (int n = 1; n < number; n++)
      if (watched[n].revents) drain(owners[n]);
    if (watched[0].revents & POLLIN) {
      char bytes[4096];
      ssize_t length = read(port, bytes, sizeof bytes);
      if (length > 0) take(bytes, length);
    }
    if (watched[0].revents & POLLOUT && outgoing_length) {
      ssize_t length = write(port, outgoing, outgoing_length);
      if (length > 0) {
        memmove(outgoing, outgoing + length, outgoing_length - length);
        outgoing_length -= length;
      }
    }
    if (watched[0].revents & POLLHUP) {
      /* nobody listens outside: what was half said is void, and the poll would return at once for ever */
      line_length = 0;
      struct timespec rest = {.tv_nsec = 50000000};
      nanosleep(&rest, NULL);
    }
  }
}
