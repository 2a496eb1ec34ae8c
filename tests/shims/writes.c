/* Counts what a process writes below the folder $WRITES_BELOW, and disturbs one of these writes.

   $WRITES_LOG: a file that gets a line for each ("17 rename /runs/a/result.json"); with $WRITES_AT=17 only for that one,
   to which happens what $WRITES_HOW says:
     once   the disk has no room for it
     full   the disk has no room for it, nor for anything after it
     kill   the process is killed in the middle of it
   Without $WRITES_BELOW it does nothing. Loaded by LD_PRELOAD; the variables are read at each write. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

static atomic_int count;

/* Whether an operation is one that a disk without room refuses again and again. */
enum takes { NO_ROOM, ROOM };

static int is_below(const char *path) {
  const char *folder = getenv("WRITES_BELOW");
  size_t length = folder ? strlen(folder) : 0;
  return length && !strncmp(path, folder, length) && (path[length] == '/' || !path[length]);
}

static int name_file(int descriptor, char *path) {
  char link[64];
  snprintf(link, sizeof link, "/proc/self/fd/%d", descriptor);
  ssize_t length = readlink(link, path, PATH_MAX - 1);
  path[length < 0 ? 0 : length] = 0;
  return length > 0;
}

static void name_path(int folder, const char *name, char *path) {
  path[0] = 0;
  if (name[0] != '/') {
    if (folder == AT_FDCWD ? !getcwd(path, PATH_MAX) : !name_file(folder, path)) path[0] = 0;
    strncat(path, "/", PATH_MAX - strlen(path) - 1);
  }
  strncat(path, name, PATH_MAX - strlen(path) - 1);
}

static void log_write(int number, const char *what, const char *path) {
  char line[PATH_MAX + 64];
  int saved = errno, length = snprintf(line, sizeof line, "%d %s %s\n", number, what, path);
  const char *name = getenv("WRITES_LOG");
  long file = name ? syscall(SYS_openat, AT_FDCWD, name, O_WRONLY | O_CREAT | O_APPEND, 0644) : -1;
  if (file >= 0) {
    syscall(SYS_write, file, line, length);
    syscall(SYS_close, file);
  }
  errno = saved;
}

/* Return 0 where the write may go on, ENOSPC where it fails, -1 where the process is to be killed in the middle of it. */
static int disturb(const char *what, const char *path, enum takes room) {
  if (!is_below(path)) return 0;
  const char *at = getenv("WRITES_AT"), *how = getenv("WRITES_HOW");
  int number = atomic_fetch_add(&count, 1) + 1, wanted = at ? atoi(at) : 0;
  if (!wanted || number == wanted) log_write(number, what, path);
  if (!wanted || number < wanted || !how) return 0;
  if (number == wanted) return !strcmp(how, "kill") ? -1 : ENOSPC;
  return !strcmp(how, "full") && room == ROOM ? ENOSPC : 0;
}

static int disturb_file(const char *what, int descriptor, enum takes room) {
  char path[PATH_MAX];
  if (!getenv("WRITES_BELOW") || !name_file(descriptor, path)) return 0;
  return disturb(what, path, room);
}

static int disturb_path(const char *what, int folder, const char *name, enum takes room) {
  char path[PATH_MAX];
  if (!getenv("WRITES_BELOW")) return 0;
  name_path(folder, name, path);
  return disturb(what, path, room);
}

static _Noreturn void end(void) {
  kill(getpid(), SIGKILL);
  for (;;) pause();
}

#define REFUSE(found)    \
  switch (found) {       \
    case 0: break;       \
    case -1: end();      \
    default:             \
      errno = ENOSPC;    \
      return -1;         \
  }

#define IS_WRITING(flags) (((flags) & O_ACCMODE) != O_RDONLY && ((flags) & (O_CREAT | O_TRUNC)))

#define OPEN(name)                                                             \
  int name(const char *path, int flags, ...) {                                 \
    va_list list;                                                              \
    va_start(list, flags);                                                     \
    mode_t mode = flags & (O_CREAT | __O_TMPFILE) ? va_arg(list, mode_t) : 0;  \
    va_end(list);                                                              \
    if (IS_WRITING(flags)) REFUSE(disturb_path("open", AT_FDCWD, path, ROOM)); \
    return REAL(name)(path, flags, mode);                                      \
  }
#define OPENAT(name)                                                          \
  int name(int folder, const char *path, int flags, ...) {                    \
    va_list list;                                                             \
    va_start(list, flags);                                                    \
    mode_t mode = flags & (O_CREAT | __O_TMPFILE) ? va_arg(list, mode_t) : 0; \
    va_end(list);                                                             \
    if (IS_WRITING(flags)) REFUSE(disturb_path("open", folder, path, ROOM));  \
    return REAL(name)(folder, path, flags, mode);                             \
  }
OPEN(open)
OPEN(open64)
OPENAT(openat)
OPENAT(openat64)

#define FOPEN(name)                                                                   \
  FILE *name(const char *path, const char *mode) {                                    \
    int found = strpbrk(mode, "wa") ? disturb_path("open", AT_FDCWD, path, ROOM) : 0; \
    if (found < 0) end();                                                             \
    if (found > 0) {                                                                  \
      errno = ENOSPC;                                                                 \
      return NULL;                                                                    \
    }                                                                                 \
    return REAL(name)(path, mode);                                                    \
  }
FOPEN(fopen)
FOPEN(fopen64)

/* Half of what was to be written is there when the process is killed. */
ssize_t write(int file, const void *bytes, size_t size) {
  int found = disturb_file("write", file, ROOM);
  if (found < 0) syscall(SYS_write, file, bytes, size / 2);
  REFUSE(found);
  return REAL(write)(file, bytes, size);
}

#define PWRITE(name)                                                        \
  ssize_t name(int file, const void *bytes, size_t size, __off64_t place) { \
    int found = disturb_file("write", file, ROOM);                          \
    if (found < 0) syscall(SYS_pwrite64, file, bytes, size / 2, place);     \
    REFUSE(found);                                                          \
    return REAL(name)(file, bytes, size, place);                            \
  }
PWRITE(pwrite)
PWRITE(pwrite64)

ssize_t writev(int file, const struct iovec *parts, int number) {
  int found = disturb_file("write", file, ROOM);
  if (found < 0) syscall(SYS_writev, file, parts, number / 2);
  REFUSE(found);
  return REAL(writev)(file, parts, number);
}

#define SENDFILE(name)                                                \
  ssize_t name(int file, int from, __off64_t *place, size_t number) { \
    REFUSE(disturb_file("write", file, ROOM));                        \
    return REAL(name)(file, from, place, number);                     \
  }
extern ssize_t sendfile(int, int, __off64_t *, size_t);
extern ssize_t sendfile64(int, int, __off64_t *, size_t);
SENDFILE(sendfile)
SENDFILE(sendfile64)

ssize_t copy_file_range(int from, __off64_t *start, int file, __off64_t *place, size_t size, unsigned flags) {
  REFUSE(disturb_file("write", file, ROOM));
  return REAL(copy_file_range)(from, start, file, place, size, flags);
}

#define OF_FILE(name, what)                        \
  int name(int file) {                             \
    REFUSE(disturb_file(what, file, NO_ROOM));     \
    return REAL(name)(file);                       \
  }
OF_FILE(fsync, "fsync")
OF_FILE(fdatasync, "fsync")

int mkdir(const char *path, mode_t mode) {
  REFUSE(disturb_path("mkdir", AT_FDCWD, path, ROOM));
  return REAL(mkdir)(path, mode);
}

int mkdirat(int folder, const char *path, mode_t mode) {
  REFUSE(disturb_path("mkdir", folder, path, ROOM));
  return REAL(mkdirat)(folder, path, mode);
}

int rename(const char *from, const char *to) {
  REFUSE(disturb_path("rename", AT_FDCWD, to, NO_ROOM));
  return REAL(rename)(from, to);
}

int renameat(int from_folder, const char *from, int folder, const char *to) {
  REFUSE(disturb_path("rename", folder, to, NO_ROOM));
  return REAL(renameat)(from_folder, from, folder, to);
}

/* What is removed takes no room: only a kill may meet it, and whoever chooses $WRITES_AT sees to that. */
int unlink(const char *path) {
  REFUSE(disturb_path("remove", AT_FDCWD, path, NO_ROOM));
  return REAL(unlink)(path);
}

int unlinkat(int folder, const char *path, int flags) {
  REFUSE(disturb_path("remove", folder, path, NO_ROOM));
  return REAL(unlinkat)(folder, path, flags);
}

int rmdir(const char *path) {
  REFUSE(disturb_path("remove", AT_FDCWD, path, NO_ROOM));
  return REAL(rmdir)(path);
}
