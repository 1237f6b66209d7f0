/* What both C programs use: the clock, their own CPU time, and commands as lines from stdin. */

#ifndef CONTROL_H
#define CONTROL_H

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

static inline double now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + (double)time.tv_nsec / 1e9;
}

struct cpu {
    double user, system;
};

static inline struct cpu cpu_used(void)
{
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    return (struct cpu){
        .user = (double)usage.ru_utime.tv_sec + (double)usage.ru_utime.tv_usec / 1e6,
        .system = (double)usage.ru_stime.tv_sec + (double)usage.ru_stime.tv_usec / 1e6,
    };
}

static inline double cpu_total(void)
{
    struct cpu cpu = cpu_used();
    return cpu.user + cpu.system;
}

static inline void die(const char *what)
{
    perror(what);
    exit(1);
}

/* Raises the limit of open files to the hard limit and returns it. */
static inline unsigned long raise_file_limit(void)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) < 0)
        die("getrlimit");
    limit.rlim_cur = limit.rlim_max;
    if (setrlimit(RLIMIT_NOFILE, &limit) < 0)
        die("setrlimit");
    return limit.rlim_cur;
}

struct commands {
    char buffer[4096];
    size_t length;
};

/* Reads from stdin and calls `obey` for each complete line. Returns false at the end of stdin: the process that
   started this program has exited, so this program should exit too. */
static inline bool read_commands(struct commands *commands, void (*obey)(char *line))
{
    ssize_t got = read(STDIN_FILENO, commands->buffer + commands->length,
                       sizeof commands->buffer - commands->length);
    if (got < 0)
        return errno == EINTR || errno == EAGAIN;
    if (got == 0)
        return false;
    commands->length += (size_t)got;
    char *line = commands->buffer, *end;
    while ((end = memchr(line, '\n', commands->length - (size_t)(line - commands->buffer)))) {
        *end = '\0';
        obey(line);
        line = end + 1;
    }
    commands->length -= (size_t)(line - commands->buffer);
    memmove(commands->buffer, line, commands->length);
    return commands->length < sizeof commands->buffer;
}

#endif
