/* Preloaded into an agent: makes the file system fail under one folder, as the word in a file says, while it says so.
 *
 *   read-only   what is opened for writing, and what is written, is refused with EROFS
 *   no-files    what is opened for writing is refused with EMFILE
 *   no-sync     fsync and fdatasync fail with EIO; what was written stays written
 *   bad-sector  tables cannot be read: EIO
 *   power-cut   nothing fails, but how much of each log a sync has surely brought to the disk is noted beside the file
 *               with the word, in `<file>.<inode>`, so that the rest can be taken away as a power cut would
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

static int fails(const char *word) {
    const char *path = getenv("TEST_FAULT_FILE");
    char text[32] = {0};
    int file = path ? (int)syscall(SYS_openat, AT_FDCWD, path, O_RDONLY | O_CLOEXEC) : -1;
    if (file < 0) return 0;
    long length = syscall(SYS_read, file, text, sizeof text - 1);
    syscall(SYS_close, file);
    return length > 0 && strncmp(text, word, strlen(word)) == 0;
}

static int is_inside(const char *path) {
    const char *folder = getenv("TEST_FAULT_FOLDER");
    return folder && strncmp(path, folder, strlen(folder)) == 0;
}

static int is_file_inside(int file, const char *ending) {
    char link[64], path[4096];
    snprintf(link, sizeof link, "/proc/self/fd/%d", file);
    ssize_t length = readlink(link, path, sizeof path - 1);
    if (length < 0) return 0;
    path[length] = 0;
    size_t end = strlen(ending);
    return is_inside(path) && (size_t)length >= end && strcmp(path + length - end, ending) == 0;
}

static int refuse(int code) {
    errno = code;
    return -1;
}

static int open_as(const char *name, const char *path, int flags, mode_t mode) {
    int writes = (flags & O_ACCMODE) != O_RDONLY || (flags & O_CREAT);
    if (writes && is_inside(path) && fails("read-only")) return refuse(EROFS);
    if (writes && is_inside(path) && fails("no-files")) return refuse(EMFILE);
    int (*real)(const char *, int, ...) = dlsym(RTLD_NEXT, name);
    return real(path, flags, mode);
}

#define OPEN(name)                                  \
    int name(const char *path, int flags, ...) {    \
        va_list rest;                               \
        va_start(rest, flags);                      \
        mode_t mode = va_arg(rest, mode_t);         \
        va_end(rest);                               \
        return open_as(#name, path, flags, mode);   \
    }
OPEN(open)
OPEN(open64)

int mkdir(const char *path, mode_t mode) {
    if (is_inside(path) && fails("read-only")) return refuse(EROFS);
    int (*real)(const char *, mode_t) = dlsym(RTLD_NEXT, "mkdir");
    return real(path, mode);
}

ssize_t write(int file, const void *bytes, size_t length) {
    if (fails("read-only") && is_file_inside(file, "")) return refuse(EROFS);
    ssize_t (*real)(int, const void *, size_t) = dlsym(RTLD_NEXT, "write");
    return real(file, bytes, length);
}

static void note_synced(const struct stat *log) {
    char path[4096], text[32];
    snprintf(path, sizeof path, "%s.%lu", getenv("TEST_FAULT_FILE"), (unsigned long)log->st_ino);
    int length = snprintf(text, sizeof text, "%ld", (long)log->st_size);
    int note = (int)syscall(SYS_openat, AT_FDCWD, path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    syscall(SYS_write, note, text, length);
    syscall(SYS_close, note);
}

static int sync_as(const char *name, int file) {
    if (fails("no-sync") && is_file_inside(file, "")) return refuse(EIO);
    int (*real)(int) = dlsym(RTLD_NEXT, name);
    struct stat before;
    int is_noted = fails("power-cut") && is_file_inside(file, ".log") && fstat(file, &before) == 0;
    int failed = real(file);
    if (is_noted && !failed) note_synced(&before);
    return failed;
}

int fsync(int file) { return sync_as("fsync", file); }
int fdatasync(int file) { return sync_as("fdatasync", file); }

static ssize_t pread_as(const char *name, int file, void *bytes, size_t length, off_t offset) {
    if (fails("bad-sector") && is_file_inside(file, ".sst")) return refuse(EIO);
    ssize_t (*real)(int, void *, size_t, off_t) = dlsym(RTLD_NEXT, name);
    return real(file, bytes, length, offset);
}

ssize_t pread(int file, void *bytes, size_t length, off_t offset) {
    return pread_as("pread", file, bytes, length, offset);
}
ssize_t pread64(int file, void *bytes, size_t length, off_t offset) {
    return pread_as("pread64", file, bytes, length, offset);
}
