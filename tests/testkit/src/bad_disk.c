/* Loaded into a program with LD_PRELOAD: from a chosen call on, files below a chosen folder can be written or synced no
   more. Only what is told by the environment is done:

   BAD_DISK_FOLDER  calls on files below it are counted, all others are left alone
   BAD_DISK_CALLS   "sync" (fsync, fdatasync), "write" (write, pwrite, ftruncate), "name" (rename, unlink, link), "last" (sync
                    and name: what makes a change last), or all of them: "any"
   BAD_DISK_AT      the number of the call that fails, from 1; 0: none
   BAD_DISK_ERRNO   with which error
   BAD_DISK_TORN    1: a write that fails has written half of its bytes
   BAD_DISK_ONCE    1: the calls after it go well again
   BAD_DISK_KILL    1: nothing fails; the program is killed (SIGKILL) in the place of that call
   BAD_DISK_COUNT   a file in which the number of calls is left at the end */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <unistd.h>

static _Atomic long calls;

static long number(const char *name) {
  const char *text = getenv(name);
  return text ? atol(text) : 0;
}

static int below(int fd) {
  const char *folder = getenv("BAD_DISK_FOLDER");
  char link[64], path[4096];
  if (!folder) return 0;
  snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
  ssize_t length = readlink(link, path, sizeof path - 1);
  if (length <= 0) return 0;
  path[length] = 0;
  return strncmp(path, folder, strlen(folder)) == 0;
}

/* The same of a name that is given with a folder. */
static int named_below(int fd, const char *name) {
  const char *folder = getenv("BAD_DISK_FOLDER");
  char path[8192] = "";
  if (!folder || !name) return 0;
  if (name[0] != '/') {
    if (fd != AT_FDCWD) return below(fd);
    if (!getcwd(path, 4096)) return 0;
    strcat(path, "/");
  }
  strncat(path, name, 4000);
  return strncmp(path, folder, strlen(folder)) == 0;
}

/* Whether this call fails, or is the last one. */
static int counted(const char *kind, int is_below) {
  const char *wanted = getenv("BAD_DISK_CALLS");
  if (!wanted || !is_below) return 0;
  int lasts = !strcmp(wanted, "last") && strcmp(kind, "write");
  if (strcmp(wanted, "any") && strcmp(wanted, kind) && !lasts) return 0;
  long at = number("BAD_DISK_AT"), now = atomic_fetch_add(&calls, 1) + 1;
  if (at == 0 || now < at || (number("BAD_DISK_ONCE") && now > at)) return 0;
  if (number("BAD_DISK_KILL")) {
    kill(getpid(), SIGKILL);
    for (;;) pause();
  }
  errno = (int)number("BAD_DISK_ERRNO");
  return 1;
}

static int fails(int fd, const char *kind) { return counted(kind, below(fd)); }
static int name_fails(int fd, const char *name) { return counted("name", named_below(fd, name)); }

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

int fsync(int fd) { return fails(fd, "sync") ? -1 : REAL(fsync)(fd); }
int fdatasync(int fd) { return fails(fd, "sync") ? -1 : REAL(fdatasync)(fd); }

ssize_t write(int fd, const void *bytes, size_t length) {
  if (!fails(fd, "write")) return REAL(write)(fd, bytes, length);
  int error = errno;
  if (number("BAD_DISK_TORN")) (void)!REAL(write)(fd, bytes, length / 2);
  errno = error;
  return -1;
}

ssize_t pwrite(int fd, const void *bytes, size_t length, off_t at) {
  if (!fails(fd, "write")) return REAL(pwrite)(fd, bytes, length, at);
  int error = errno;
  if (number("BAD_DISK_TORN")) (void)!REAL(pwrite)(fd, bytes, length / 2, at);
  errno = error;
  return -1;
}

ssize_t pwrite64(int fd, const void *bytes, size_t length, off64_t at) {
  if (!fails(fd, "write")) return REAL(pwrite64)(fd, bytes, length, at);
  int error = errno;
  if (number("BAD_DISK_TORN")) (void)!REAL(pwrite64)(fd, bytes, length / 2, at);
  errno = error;
  return -1;
}

int ftruncate(int fd, off_t length) { return fails(fd, "write") ? -1 : REAL(ftruncate)(fd, length); }
int ftruncate64(int fd, off64_t length) { return fails(fd, "write") ? -1 : REAL(ftruncate64)(fd, length); }

int rename(const char *from, const char *to) { return name_fails(AT_FDCWD, to) ? -1 : REAL(rename)(from, to); }

int renameat(int from_fd, const char *from, int to_fd, const char *to) {
  return name_fails(to_fd, to) ? -1 : REAL(renameat)(from_fd, from, to_fd, to);
}

int unlink(const char *name) { return name_fails(AT_FDCWD, name) ? -1 : REAL(unlink)(name); }
int unlinkat(int fd, const char *name, int flags) { return name_fails(fd, name) ? -1 : REAL(unlinkat)(fd, name, flags); }
int link(const char *from, const char *to) { return name_fails(AT_FDCWD, to) ? -1 : REAL(link)(from, to); }

int linkat(int from_fd, const char *from, int to_fd, const char *to, int flags) {
  return name_fails(to_fd, to) ? -1 : REAL(linkat)(from_fd, from, to_fd, to, flags);
}

__attribute__((destructor)) static void leave(void) {
  const char *path = getenv("BAD_DISK_COUNT");
  /* What the program starts in its turn has nothing to say, and must not have the last word. */
  FILE *file = path && atomic_load(&calls) ? fopen(path, "w") : NULL;
  if (!file) return;
  fprintf(file, "%ld\n", atomic_load(&calls));
  fclose(file);
}
