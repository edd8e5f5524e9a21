/* Preloaded before libc: counts what a process changes in one folder, whichever library does it, and at the n-th change
   kills the process or lets the disk fail.  cc -shared -fPIC -o faults.so _faults.c;  LD_PRELOAD=faults.so python ... */

#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

static char folder[PATH_MAX];
static size_t length; /* of the folder's path; 0: nothing is counted */
static long first;
static int fault, lasting, list = -1;
static atomic_long changes;

/* From now on changes of the folder `path` and of what is below it are counted. The n-th kills, or fails with `code`; so do all
   later ones if it lasts. `listed` is a file descriptor to write the kind and the path of each to, or -1. */
void faults_begin(const char *path, long n, int code, int lasts, int listed) {
    snprintf(folder, sizeof folder, "%s", path);
    first = n, fault = code, lasting = lasts, list = listed;
    length = strlen(folder);
}

/* Kills after so many seconds of the processor's work, however busy the machine is. */
void faults_after(double seconds) {
    struct sigevent event = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGKILL};
    struct itimerspec when = {.it_value = {(time_t)seconds, (long)((seconds - (time_t)seconds) * 1e9) + 1}};
    timer_t timer;
    timer_create(CLOCK_PROCESS_CPUTIME_ID, &event, &timer);
    timer_settime(timer, 0, &when, NULL);
}

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

/* How a change goes: as always, not at all, or by half (a write when the disk becomes full, or the process is killed). */
enum { WHOLE, FAILS, HALF, KILLS };

static int change(const char *kind, const char *path) {
    if (!length || strncmp(path, folder, length) || (path[length] && path[length] != '/')) return WHOLE;
    long now = atomic_fetch_add(&changes, 1) + 1;
    if (list >= 0) {
        char line[PATH_MAX + 64];
        int size = snprintf(line, sizeof line, "%s %s\n", kind, path + length + !!path[length]);
        REAL(write)(list, line, size);
    }
    if (!first || now < first || (now > first && !(fault && lasting))) return WHOLE;
    if (!fault) {
        if (strcmp(kind, "write")) kill(getpid(), SIGKILL);
        return KILLS;
    }
    if (now == first && lasting && !strcmp(kind, "write")) return HALF;
    if (now > first && fault == ENOSPC && (!strcmp(kind, "unlink") || !strcmp(kind, "rmdir"))) return WHOLE;
    errno = fault;
    return FAILS;
}

static int change_at(const char *kind, int place, const char *path) {
    char name[64], full[2 * PATH_MAX];
    if (!length || !path) return WHOLE;
    if (*path == '/') return change(kind, path);
    if (place == AT_FDCWD) snprintf(name, sizeof name, "/proc/self/cwd");
    else snprintf(name, sizeof name, "/proc/self/fd/%d", place);
    ssize_t size = readlink(name, full, PATH_MAX - 1);
    if (size < 0) return WHOLE;
    snprintf(full + size, sizeof full - size, *path ? "/%s" : "%s", path);
    return change(kind, full);
}

static int change_of(const char *kind, int handle) { return change_at(kind, handle, ""); }

#define WRITES(name, kind, given, half, ...)                                                                           \
    ssize_t name given {                                                                                               \
        int how = change_of(kind, handle);                                                                             \
        if (how == FAILS) return -1;                                                                                   \
        ssize_t done = how == WHOLE ? REAL(name)(__VA_ARGS__) : half;                                                  \
        if (how == KILLS) kill(getpid(), SIGKILL);                                                                     \
        return done;                                                                                                   \
    }
WRITES(write, "write", (int handle, const void *data, size_t size), REAL(write)(handle, data, (size + 1) / 2), handle, data, size)
WRITES(pwrite, "write", (int handle, const void *data, size_t size, off_t at), REAL(pwrite)(handle, data, (size + 1) / 2, at), handle, data, size, at)
WRITES(pwrite64, "write", (int handle, const void *data, size_t size, off64_t at), REAL(pwrite64)(handle, data, (size + 1) / 2, at), handle, data, size, at)
WRITES(writev, "write", (int handle, const struct iovec *data, int count), REAL(writev)(handle, data, (count + 1) / 2), handle, data, count)

#define CHANGES(name, how, given, ...)                                                                                 \
    int name given { return (how) == FAILS ? -1 : REAL(name)(__VA_ARGS__); }
CHANGES(fsync, change_of("sync", handle), (int handle), handle)
CHANGES(fdatasync, change_of("sync", handle), (int handle), handle)
CHANGES(ftruncate, change_of("truncate", handle), (int handle, off_t size), handle, size)
CHANGES(ftruncate64, change_of("truncate", handle), (int handle, off64_t size), handle, size)
CHANGES(fchmod, change_of("chmod", handle), (int handle, mode_t mode), handle, mode)
CHANGES(truncate, change_at("truncate", AT_FDCWD, path), (const char *path, off_t size), path, size)
CHANGES(truncate64, change_at("truncate", AT_FDCWD, path), (const char *path, off64_t size), path, size)
CHANGES(chmod, change_at("chmod", AT_FDCWD, path), (const char *path, mode_t mode), path, mode)
CHANGES(fchmodat, change_at("chmod", place, path), (int place, const char *path, mode_t mode, int flags), place, path, mode, flags)
/* A folder that is there is not changed by being made. */
CHANGES(mkdir, faccessat(AT_FDCWD, path, F_OK, 0) ? change_at("mkdir", AT_FDCWD, path) : WHOLE, (const char *path, mode_t mode), path, mode)
CHANGES(mkdirat, faccessat(place, path, F_OK, 0) ? change_at("mkdir", place, path) : WHOLE, (int place, const char *path, mode_t mode), place, path, mode)
CHANGES(rmdir, change_at("rmdir", AT_FDCWD, path), (const char *path), path)
CHANGES(unlink, change_at("unlink", AT_FDCWD, path), (const char *path), path)
CHANGES(unlinkat, change_at("unlink", place, path), (int place, const char *path, int flags), place, path, flags)
CHANGES(rename, change_at("rename", AT_FDCWD, to), (const char *from, const char *to), from, to)
CHANGES(renameat, change_at("rename", there, to), (int here, const char *from, int there, const char *to), here, from, there, to)
CHANGES(link, change_at("link", AT_FDCWD, to), (const char *from, const char *to), from, to)
CHANGES(symlink, change_at("link", AT_FDCWD, to), (const char *from, const char *to), from, to)

#define OPENS(name, place, given, ...)                                                                                 \
    int name given {                                                                                                   \
        mode_t mode = 0;                                                                                               \
        if (flags & (O_CREAT | O_TMPFILE)) {                                                                           \
            va_list rest;                                                                                              \
            va_start(rest, flags);                                                                                     \
            mode = va_arg(rest, mode_t);                                                                               \
            va_end(rest);                                                                                              \
        }                                                                                                              \
        int changes = (flags & O_ACCMODE) != O_RDONLY || flags & (O_CREAT | O_TRUNC);                                  \
        return changes && change_at("open", place, path) == FAILS ? -1 : REAL(name)(__VA_ARGS__, flags, mode);         \
    }
OPENS(open, AT_FDCWD, (const char *path, int flags, ...), path)
OPENS(open64, AT_FDCWD, (const char *path, int flags, ...), path)
OPENS(openat, here, (int here, const char *path, int flags, ...), here, path)
OPENS(openat64, here, (int here, const char *path, int flags, ...), here, path)
