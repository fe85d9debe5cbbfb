/* Preloaded into the program under test: something happens at one of its calls that change files below a directory.
 *
 * FAULTS_TREES    the directories, separated by colons
 * FAULTS_COUNTER  a file of 8 bytes that all processes count in
 * FAULTS_AT       the number of the call, from 1 on; 0 for none: then the calls are only counted
 * FAULTS_DO       "kill", "term" or "int" for a signal to the process group, or the number of the error to answer
 * FAULTS_FOREVER  set: from that call on all answer the error, as a full disk does
 * FAULTS_ALL      set: calls that remove something or change modes and times count, too
 * FAULTS_NO_LOCKS set: flock answers ENOLCK, and counts for nothing
 * FAULTS_CLOSED   set: no directory that is open can be listed
 * FAULTS_LATER    seconds by which the clock is ahead
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/types.h>
#include <time.h>
#include <unistd.h>

static uint64_t *counter;
static uint64_t at;
static int everything, forever, without_locks, closed, error_number, signal_number;
static long later;
static const char *trees;

__attribute__((constructor)) static void begin(void)
{
    const char *path = getenv("FAULTS_COUNTER"), *what = getenv("FAULTS_DO");
    trees = getenv("FAULTS_TREES");
    later = getenv("FAULTS_LATER") ? atol(getenv("FAULTS_LATER")) : 0;
    without_locks = getenv("FAULTS_NO_LOCKS") != NULL;
    closed = getenv("FAULTS_CLOSED") != NULL;
    if (!path || !trees)
        return;
    everything = getenv("FAULTS_ALL") != NULL;
    forever = getenv("FAULTS_FOREVER") != NULL;
    at = getenv("FAULTS_AT") ? strtoull(getenv("FAULTS_AT"), NULL, 10) : 0;
    if (what)
        signal_number = !strcmp(what, "kill") ? SIGKILL : !strcmp(what, "term") ? SIGTERM
                      : !strcmp(what, "int") ? SIGINT : 0;
    error_number = what && !signal_number ? atoi(what) : 0;
    int (*real_open)(const char *, int, ...) = dlsym(RTLD_NEXT, "open");
    int file = real_open(path, O_RDWR | O_CLOEXEC);
    if (file < 0)
        return;
    void *place = mmap(NULL, sizeof *counter, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    close(file);
    if (place != MAP_FAILED)
        counter = place;
}

static int is_below(const char *path)
{
    for (const char *tree = trees; tree && *tree; ) {
        size_t length = strcspn(tree, ":");
        if (!strncmp(path, tree, length) && (path[length] == '/' || !path[length] || path[length] == ' '))
            return 1;
        tree += length + (tree[length] == ':');
    }
    return 0;
}

static int is_below_descriptor(int descriptor)
{
    char link[64], path[PATH_MAX];
    snprintf(link, sizeof link, "/proc/self/fd/%d", descriptor);
    ssize_t length = readlink(link, path, sizeof path - 1);
    if (length < 0)
        return 0;
    path[length] = 0;
    return is_below(path);
}

static int is_below_at(int directory, const char *path)
{
    if (path[0] == '/')
        return is_below(path) || (!strncmp(path, "/proc/self/fd/", 14) && is_below_descriptor(atoi(path + 14)));
    if (directory != AT_FDCWD)
        return is_below_descriptor(directory);
    char here[PATH_MAX];
    return getcwd(here, sizeof here) && is_below(here);
}

/* Whether this call is to answer the error in errno. */
static int goes_wrong(int is_counted)
{
    if (!counter || !is_counted)
        return 0;
    int before = errno;
    uint64_t number = __atomic_add_fetch(counter, 1, __ATOMIC_SEQ_CST);
    errno = before;
    if (!at || (forever && error_number ? number < at : number != at))
        return 0;
    if (signal_number) {
        kill(0, signal_number);
        return 0;
    }
    errno = error_number;
    return error_number != 0;
}

#define REAL(name) static __typeof__(name) *real; if (!real) real = dlsym(RTLD_NEXT, #name)
#define WRAP(type, name, parameters, arguments, condition) \
    type name parameters { REAL(name); return goes_wrong(condition) ? -1 : real arguments; }
#define OPENED(name, parameters, arguments, condition) \
    int name parameters { \
        REAL(name); \
        mode_t mode = 0; \
        va_list list; \
        va_start(list, flags); \
        if (flags & (O_CREAT | __O_TMPFILE)) \
            mode = va_arg(list, mode_t); \
        va_end(list); \
        return goes_wrong((flags & (O_CREAT | O_TRUNC)) && (condition)) ? -1 : real arguments; }

OPENED(open, (const char *path, int flags, ...), (path, flags, mode), is_below_at(AT_FDCWD, path))
OPENED(open64, (const char *path, int flags, ...), (path, flags, mode), is_below_at(AT_FDCWD, path))
OPENED(openat, (int directory, const char *path, int flags, ...),
     (directory, path, flags, mode), is_below_at(directory, path))
OPENED(openat64, (int directory, const char *path, int flags, ...),
     (directory, path, flags, mode), is_below_at(directory, path))

FILE *fopen64(const char *path, const char *mode)
{
    REAL(fopen64);
    return goes_wrong(mode[0] != 'r' && is_below_at(AT_FDCWD, path)) ? NULL : real(path, mode);
}

WRAP(ssize_t, write, (int file, const void *data, size_t count), (file, data, count), is_below_descriptor(file))
WRAP(ssize_t, pwrite64, (int file, const void *data, size_t count, off64_t place),
     (file, data, count, place), is_below_descriptor(file))
WRAP(int, fsync, (int file), (file), is_below_descriptor(file))
WRAP(int, ftruncate64, (int file, off64_t size), (file, size), is_below_descriptor(file))
WRAP(int, rename, (const char *old, const char *new), (old, new), is_below_at(AT_FDCWD, new))
WRAP(int, renameat, (int source, const char *old, int target, const char *new),
     (source, old, target, new), is_below_at(target, new))
WRAP(int, mkdir, (const char *path, mode_t mode), (path, mode), is_below_at(AT_FDCWD, path))
WRAP(int, mkdirat, (int directory, const char *path, mode_t mode),
     (directory, path, mode), is_below_at(directory, path))
WRAP(int, mkfifo, (const char *path, mode_t mode), (path, mode), is_below_at(AT_FDCWD, path))
WRAP(int, mkfifoat, (int directory, const char *path, mode_t mode),
     (directory, path, mode), is_below_at(directory, path))
WRAP(int, link, (const char *old, const char *new), (old, new), is_below_at(AT_FDCWD, new))
WRAP(int, linkat, (int source, const char *old, int target, const char *new, int flags),
     (source, old, target, new, flags), is_below_at(target, new))
WRAP(int, symlink, (const char *text, const char *path), (text, path), is_below_at(AT_FDCWD, path))
WRAP(int, symlinkat, (const char *text, int directory, const char *path),
     (text, directory, path), is_below_at(directory, path))
WRAP(int, unlink, (const char *path), (path), everything && is_below_at(AT_FDCWD, path))
WRAP(int, unlinkat, (int directory, const char *path, int flags),
     (directory, path, flags), everything && is_below_at(directory, path))
WRAP(int, rmdir, (const char *path), (path), everything && is_below_at(AT_FDCWD, path))
WRAP(int, chmod, (const char *path, mode_t mode), (path, mode), everything && is_below_at(AT_FDCWD, path))
WRAP(int, fchmod, (int file, mode_t mode), (file, mode), everything && is_below_descriptor(file))
WRAP(int, fchmodat, (int directory, const char *path, mode_t mode, int flags),
     (directory, path, mode, flags), everything && is_below_at(directory, path))
WRAP(int, futimens, (int file, const struct timespec times[2]),
     (file, times), everything && is_below_descriptor(file))
WRAP(int, utimensat, (int directory, const char *path, const struct timespec times[2], int flags),
     (directory, path, times, flags), everything && is_below_at(directory, path))

int flock(int file, int operation)
{
    REAL(flock);
    if (without_locks && operation) {
        errno = ENOLCK;
        return -1;
    }
    return real(file, operation);
}

DIR *fdopendir(int file)
{
    REAL(fdopendir);
    if (!closed)
        return real(file);
    errno = EIO;
    return NULL;
}

int clock_gettime(clockid_t clock, struct timespec *now)
{
    REAL(clock_gettime);
    int result = real(clock, now);
    if (!result && clock == CLOCK_REALTIME)
        now->tv_sec += later;
    return result;
}
