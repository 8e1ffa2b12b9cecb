/* A program that checks itself: its memory, its signals, its time, its calls.
 *
 * It is run natively and while it is moved about; what it prints must be the same, and it stops at the first
 * thing that is not as it has to be. Each check is a function that is called again and again until its time is
 * up, so that moves fall into all of its parts.
 */
#ifndef PROBE_H
#define PROBE_H

#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))
#define PAGE 4096ul
#define MIB (1ul << 20)

struct check {
    const char *name;
    void (*run)(void);
};

/* The last entry of each list has no name. */
extern const struct check memory_checks[], mapping_checks[], signal_checks[], delivery_checks[], timer_checks[],
    waiting_checks[], blocked_checks[], io_checks[], transfer_checks[], lock_checks[], processor_checks[],
    self_checks[], child_checks[], sharing_checks[], named_checks[], family_checks[], errno_checks[], odd_checks[], event_checks[], socket_checks[], terminal_checks[], searching_checks[], reading_checks[], writing_checks[];

/* Ends the program with a message. */
void fail(const char *file, int line, const char *format, ...)
    __attribute__((noreturn, format(printf, 3, 4)));

/* What handlers have written is read afresh. */
#define FRESH __asm__ volatile("" ::: "memory")

#define MUST(condition)                                                                                        \
    do {                                                                                                       \
        FRESH;                                                                                                 \
        if (!(condition))                                                                                      \
            fail(__FILE__, __LINE__, "not so: %s", #condition);                                                \
    } while (0)

#define SAME(found, expected)                                                                                  \
    do {                                                                                                       \
        FRESH;                                                                                                 \
        long long found_ = (long long)(found), expected_ = (long long)(expected);                              \
        if (found_ != expected_)                                                                               \
            fail(__FILE__, __LINE__, "%s is %lld (%#llx), not %lld (%#llx)", #found, found_, found_,           \
                 expected_, expected_);                                                                        \
    } while (0)

/* A call that must fail with this error. */
#define REFUSED(call, error)                                                                                   \
    do {                                                                                                       \
        errno = 0;                                                                                             \
        long result_ = (long)(call);                                                                           \
        if (result_ != -1 || errno != (error))                                                                 \
            fail(__FILE__, __LINE__, "%s gave %ld, not %s", #call, result_, #error);                           \
    } while (0)

/* Seconds of the monotonic clock. */
double now(void);

/* At least `least` seconds have gone by since `start`, and not unreasonably more. */
void check_elapsed(const char *file, int line, double start, double least);
#define ELAPSED(start, least) check_elapsed(__FILE__, __LINE__, start, least)

/* Computes for so long without a system call that enters the kernel. */
void compute(double seconds);

/* Sleeps, going on after signals. */
void rest(double seconds);

/* Reproducible numbers. */
uint64_t next_random(void);
uint64_t random_below(uint64_t bound);

/* A pattern that a tag determines. */
void fill(void *at, size_t length, uint64_t tag);
bool is_filled(const void *at, size_t length, uint64_t tag);
bool is_zero(const void *at, size_t length);

/* Installs a handler with siginfo. */
void handle(int signal, void (*handler)(int, siginfo_t *, void *), int flags);
void unhandle(int signal);

/* Starts a child that runs `body` and ends; ends it and checks its status. */
pid_t start_child(void (*body)(void *), void *with);
void end_child(pid_t child, int status);

/* A file of this program that is gone when it ends. */
int scratch_file(void);
/* A name below the program's own scratch directory. */
const char *scratch_name(const char *name);

struct timespec seconds(double value);

#endif
