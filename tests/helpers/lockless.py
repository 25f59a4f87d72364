"""Processes to whom a folder is on a file system with other locks: those of NFSv4, or none at all."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

NFS4 = "nfs4"
"""The rule of NFSv4: shared locks on what is open for reading, others on what is open for writing."""

SHIM = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

static const char *rule(int fd) {
    const char *root = getenv("LOCKLESS_ROOT");
    char link[64], path[4096];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, sizeof path - 1);
    if (root == NULL || length < (ssize_t)strlen(root) || strncmp(path, root, strlen(root))) return NULL;
    return getenv("LOCKLESS_RULE");
}

static int refuse(int number) {
    errno = number;
    return -1;
}

int flock(int fd, int operation) {
    const char *how = rule(fd);
    int (*real)(int, int) = dlsym(RTLD_NEXT, "flock");
    if (how == NULL) return real(fd, operation);
    if (strcmp(how, "nfs4")) return refuse(atoi(how));
    int (*ask)(int, int, ...) = dlsym(RTLD_NEXT, "fcntl");
    int mode = ask(fd, F_GETFL) & O_ACCMODE, kind = operation & ~LOCK_NB;
    if ((kind == LOCK_SH && mode == O_WRONLY) || (kind == LOCK_EX && mode == O_RDONLY)) return refuse(EBADF);
    return real(fd, operation);
}

#define RECORD_LOCK(name)                                                                  \
    int name(int fd, int command, ...) {                                                   \
        va_list rest;                                                                      \
        va_start(rest, command);                                                           \
        void *given = va_arg(rest, void *);                                                \
        va_end(rest);                                                                      \
        const char *how = command == F_SETLK || command == F_SETLKW ? rule(fd) : NULL;     \
        if (how != NULL && strcmp(how, "nfs4")) return refuse(atoi(how));                  \
        int (*real)(int, int, ...) = dlsym(RTLD_NEXT, #name);                              \
        return real(fd, command, given);                                                   \
    }
RECORD_LOCK(fcntl)
RECORD_LOCK(fcntl64)
"""


def lockless(root: Path, rule: str | int, made: Path) -> dict[str, str]:
    """The environment of a process to whom files below `root` lock by a rule: `NFS4`, or the number of an error.

    What is compiled for it lies in `made`.
    """
    if (compiler := shutil.which("cc")) is None:
        pytest.skip("no C compiler is here to make a file system's locks fail")
    source, library = made / "lockless.c", made / "lockless.so"
    if not library.exists():
        source.write_text(SHIM)
        subprocess.run([compiler, "-shared", "-fPIC", "-o", library, source, "-ldl"], check=True)
    return {"LD_PRELOAD": str(library), "LOCKLESS_ROOT": str(root.resolve()), "LOCKLESS_RULE": str(rule)}
