/* File systems and clocks that misbehave, for LD_PRELOAD; tests/helpers/shims.py compiles it and sets the variables.
 *
 *   SHIM_FAULTS   link=1,fsync=28,...   the calls that fail, each with its errno
 *   SHIM_UNDER    /path                 only on files whose path contains this
 *   SHIM_WHEN     /path                 only while this file exists
 *   SHIM_CLOCK    -86400                seconds that are added to the wall clock
 *   SHIM_SLEEP    0.001                 seconds that each read of such a file takes
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

static int now(void) {
    const char *when = getenv("SHIM_WHEN");
    return !when || access(when, F_OK) == 0;
}

static int concerns(const char *path) {
    const char *under = getenv("SHIM_UNDER");
    return path && (!under || strstr(path, under)) && now();
}

/* Whether the call fails on this path; sets errno. */
static int fails(const char *call, const char *path) {
    const char *faults = getenv("SHIM_FAULTS");
    char wanted[64];
    if (!faults) return 0;
    snprintf(wanted, sizeof wanted, ",%s=", call);
    char all[1024];
    snprintf(all, sizeof all, ",%s", faults);
    const char *found = strstr(all, wanted);
    if (!found || !concerns(path)) return 0;
    errno = atoi(found + strlen(wanted));
    return 1;
}

static const char *path_of(int file, char *buffer) {
    char link[64];
    snprintf(link, sizeof link, "/proc/self/fd/%d", file);
    ssize_t length = readlink(link, buffer, PATH_MAX - 1);
    if (length < 0) return NULL;
    buffer[length] = 0;
    return buffer;
}

static int file_fails(const char *call, int file) {
    char buffer[PATH_MAX];
    return getenv("SHIM_FAULTS") && fails(call, path_of(file, buffer));
}

#define ON_FILE(type, call, arguments, names) \
    type call arguments { return file_fails(#call, file) ? -1 : REAL(call) names; }
#define ON_PATH(type, call, as, arguments, names) \
    type call arguments { return fails(as, path) ? -1 : REAL(call) names; }

ON_FILE(int, flock, (int file, int operation), (file, operation))
ON_FILE(ssize_t, write, (int file, const void *data, size_t size), (file, data, size))
ON_FILE(ssize_t, pwrite64, (int file, const void *data, size_t size, off64_t at), (file, data, size, at))
ON_FILE(int, ftruncate64, (int file, off64_t length), (file, length))
ON_PATH(int, link, "link", (const char *path, const char *other), (path, other))
ON_PATH(int, linkat, "link", (int at, const char *path, int to, const char *other, int flags),
        (at, path, to, other, flags))
ON_PATH(int, rename, "rename", (const char *path, const char *other), (path, other))
ON_PATH(int, mkdir, "mkdir", (const char *path, mode_t mode), (path, mode))
ON_PATH(int, unlink, "unlink", (const char *path), (path))
ON_PATH(int, truncate64, "truncate", (const char *path, off64_t length), (path, length))
ON_PATH(int, stat64, "stat", (const char *path, struct stat64 *found), (path, found))
ON_PATH(int, fstatat64, "stat", (int at, const char *path, struct stat64 *found, int flags), (at, path, found, flags))

int fsync(int file) {
    struct stat found;
    const char *call = fstat(file, &found) == 0 && S_ISDIR(found.st_mode) ? "fsync_folder" : "fsync";
    return file_fails(call, file) ? -1 : REAL(fsync)(file);
}

int open64(const char *path, int flags, ...) {
    va_list rest;
    va_start(rest, flags);
    mode_t mode = va_arg(rest, mode_t);
    va_end(rest);
    if (flags & (O_WRONLY | O_RDWR | O_CREAT) && fails("open", path)) return -1;
    if (fails("read", path)) return -1;
    return REAL(open64)(path, flags, mode);
}

ssize_t read(int file, void *data, size_t size) {
    char buffer[PATH_MAX];
    const char *seconds = getenv("SHIM_SLEEP");
    if (seconds && concerns(path_of(file, buffer))) usleep((useconds_t)(1e6 * atof(seconds)));
    return REAL(read)(file, data, size);
}

static time_t shift(void) {
    const char *seconds = getenv("SHIM_CLOCK");
    return seconds && now() ? atol(seconds) : 0;
}

int clock_gettime(clockid_t clock, struct timespec *found) {
    int result = REAL(clock_gettime)(clock, found);
    if (clock == CLOCK_REALTIME) found->tv_sec += shift();
    return result;
}
