/* Signals from other processes, and calls that wait for signals. */
#include "probe.h"

#include <sys/epoll.h>
#include <sys/select.h>
#include <sys/signalfd.h>

static volatile sig_atomic_t taken;
static siginfo_t last;

static void note(int signal, siginfo_t *info, void *context)
{
    (void)signal, (void)context;
    last = *info;
    taken++;
}

/* A child that sends SIGUSR1 again and again until it is killed. */
static void pester(void *unused)
{
    (void)unused;
    for (;;) {
        rest(0.02);
        kill(getppid(), SIGUSR1);
    }
}

static pid_t pesterer;

static void start_pestering(int flags)
{
    taken = 0;
    handle(SIGUSR1, note, flags);
    pesterer = start_child(pester, NULL);
}

static void stop_pestering(void)
{
    SAME(kill(pesterer, SIGKILL), 0);
    int status;
    while (waitpid(pesterer, &status, 0) == -1)
        SAME(errno, EINTR);
    SAME(status, SIGKILL);
    unhandle(SIGUSR1);
}

static void from_pesterer(void)
{
    MUST(taken > 0);
    SAME(last.si_signo, SIGUSR1);
    SAME(last.si_code, SI_USER);
    SAME(last.si_pid, pesterer);
    SAME(last.si_uid, getuid());
}

/* What the kernel says is left when a sleep has just begun may be more than the sleep: it counts to the latest time at
   which its timer may go off, some 50 microseconds after the one that was asked for. */
static bool left_of_hour(struct timespec left)
{
    return left.tv_sec >= 3590 && (left.tv_sec < 3600 || (left.tv_sec == 3600 && left.tv_nsec < 1000000));
}

/* A handler without SA_RESTART ends a call with EINTR. */
static void interrupted(void)
{
    int ends[2];
    SAME(pipe(ends), 0);
    start_pestering(0);
    char byte;
    for (int i = 0; i < 4; i++) {
        taken = 0;
        REFUSED(read(ends[0], &byte, 1), EINTR);
        from_pesterer();
        struct timespec hour = { .tv_sec = 3600 }, left;
        REFUSED(nanosleep(&hour, &left), EINTR);
        MUST(left_of_hour(left));
        SAME(clock_nanosleep(CLOCK_MONOTONIC, 0, &hour, &left), EINTR);
        MUST(left_of_hour(left));
        struct pollfd wanted = { .fd = ends[0], .events = POLLIN };
        REFUSED(poll(&wanted, 1, 3600000), EINTR);
        fd_set set;
        FD_ZERO(&set);
        FD_SET(ends[0], &set);
        REFUSED(select(ends[0] + 1, &set, NULL, NULL, NULL), EINTR);
        int queue = epoll_create1(0);
        struct epoll_event event;
        REFUSED(epoll_wait(queue, &event, 1, 3600000), EINTR);
        SAME(close(queue), 0);
        int status;
        REFUSED(waitpid(pesterer, &status, 0), EINTR);
        REFUSED(pause(), EINTR);
        from_pesterer();
    }
    stop_pestering();
    SAME(close(ends[0]), 0);
    SAME(close(ends[1]), 0);
}

static void send_after_a_while(void *with)
{
    int *ends = with;
    for (int i = 0; i < 10; i++) {
        rest(0.015);
        kill(getppid(), SIGUSR1);
    }
    MUST(write(ends[1], "x", 1) == 1);
}

/* With SA_RESTART the call goes on as if nothing had been. */
static void restarted(void)
{
    int ends[2];
    SAME(pipe(ends), 0);
    taken = 0;
    handle(SIGUSR1, note, SA_RESTART);
    pid_t child = start_child(send_after_a_while, ends);
    char byte = 0;
    SAME(read(ends[0], &byte, 1), 1);
    SAME(byte, 'x');
    MUST(taken > 0);
    SAME(last.si_pid, child);
    int status;
    SAME(waitpid(child, &status, 0), child);
    SAME(status, 0);
    unhandle(SIGUSR1);
    SAME(close(ends[0]), 0);
    SAME(close(ends[1]), 0);
}

enum { QUEUED = 150 };
static int values[QUEUED];
static volatile int received;

static void keep_value(int signal, siginfo_t *info, void *context)
{
    (void)signal, (void)context;
    if (info->si_code == SI_QUEUE && received < QUEUED)
        values[received++] = info->si_value.sival_int;
}

static void send_values(void *unused)
{
    (void)unused;
    for (int i = 0; i < QUEUED; i++) {
        union sigval value = { .sival_int = i * 3 + 1 };
        MUST(sigqueue(getppid(), SIGRTMIN + 2, value) == 0);
        if (i % 3 == 0)
            rest(0.001);
    }
}

/* Real-time signals are queued: each arrives once, in order, with its value. */
static void queued_values(void)
{
    received = 0;
    handle(SIGRTMIN + 2, keep_value, 0);
    pid_t child = start_child(send_values, NULL);
    double end = now() + 20;
    while (received < QUEUED && now() < end)
        compute(0.001);
    SAME(received, QUEUED);
    for (int i = 0; i < QUEUED; i++)
        SAME(values[i], i * 3 + 1);
    end_child(child, 0);
    unhandle(SIGRTMIN + 2);
}

static sigset_t only(int signal)
{
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, signal);
    return set;
}

static void send_one_value(void *unused)
{
    (void)unused;
    rest(0.05);
    union sigval value = { .sival_int = 4711 };
    MUST(sigqueue(getppid(), SIGUSR2, value) == 0);
}

/* sigtimedwait, sigwaitinfo and signalfd take a blocked signal with all that is known of it. */
static void waited_for(void)
{
    sigset_t set = only(SIGUSR2), old;
    SAME(sigprocmask(SIG_BLOCK, &set, &old), 0);
    siginfo_t info;
    struct timespec little = { .tv_nsec = 80 * 1000 * 1000 };
    double start = now();
    REFUSED(sigtimedwait(&set, &info, &little), EAGAIN);
    ELAPSED(start, 0.08);
    pid_t child = start_child(send_one_value, NULL);
    SAME(sigwaitinfo(&set, &info), SIGUSR2);
    SAME(info.si_code, SI_QUEUE);
    SAME(info.si_pid, child);
    SAME(info.si_value.sival_int, 4711);
    end_child(child, 0);
    int file = signalfd(-1, &set, SFD_CLOEXEC);
    MUST(file >= 0);
    child = start_child(send_one_value, NULL);
    struct signalfd_siginfo found;
    SAME(read(file, &found, sizeof found), sizeof found);
    SAME(found.ssi_signo, SIGUSR2);
    SAME(found.ssi_code, SI_QUEUE);
    SAME(found.ssi_pid, child);
    SAME(found.ssi_int, 4711);
    end_child(child, 0);
    SAME(close(file), 0);
    SAME(sigprocmask(SIG_SETMASK, &old, NULL), 0);
}

static bool was_blocked;

static void note_mask(int signal, siginfo_t *info, void *context)
{
    note(signal, info, context);
    sigset_t mask;
    sigprocmask(SIG_SETMASK, NULL, &mask);
    was_blocked = sigismember(&mask, SIGHUP) == 1;
}

/* Calls that wait with a mask of their own: the handler sees that mask, and afterwards the old one is back. */
static void temporary_masks(void)
{
    sigset_t set = only(SIGUSR1), during = only(SIGHUP), mask;
    SAME(sigprocmask(SIG_BLOCK, &set, NULL), 0);
    start_pestering(0);
    handle(SIGUSR1, note_mask, 0);
    for (int way = 0; way < 4; way++) {
        compute(0.03);
        taken = 0;
        was_blocked = false;
        struct timespec hour = { .tv_sec = 3600 };
        struct epoll_event event;
        int queue = epoll_create1(0);
        switch (way) {
        case 0:
            REFUSED(sigsuspend(&during), EINTR);
            break;
        case 1:
            REFUSED(ppoll(NULL, 0, &hour, &during), EINTR);
            break;
        case 2:
            REFUSED(pselect(0, NULL, NULL, NULL, &hour, &during), EINTR);
            break;
        default:
            REFUSED(epoll_pwait(queue, &event, 1, 3600000, &during), EINTR);
        }
        SAME(close(queue), 0);
        from_pesterer();
        SAME(taken, 1);
        MUST(was_blocked);
        SAME(sigprocmask(SIG_SETMASK, NULL, &mask), 0);
        MUST(sigismember(&mask, SIGUSR1) && !sigismember(&mask, SIGHUP));
    }
    /* The last one may have come while it was blocked. */
    struct sigaction action = { .sa_handler = SIG_IGN };
    SAME(sigaction(SIGUSR1, &action, NULL), 0);
    SAME(sigprocmask(SIG_UNBLOCK, &set, NULL), 0);
    stop_pestering();
}

static void exit_with_seven(void *unused)
{
    (void)unused;
    rest(0.03);
    _exit(7);
}

/* SIGCHLD tells which child ended and how. */
static void child_signals(void)
{
    handle(SIGCHLD, note, SA_RESTART);
    for (int i = 0; i < 3; i++) {
        taken = 0;
        pid_t child = start_child(exit_with_seven, NULL);
        double end = now() + 10;
        while (taken == 0 && now() < end)
            compute(0.001);
        SAME(taken, 1);
        SAME(last.si_code, CLD_EXITED);
        SAME(last.si_pid, child);
        SAME(last.si_status, 7);
        end_child(child, 7 << 8);
    }
    unhandle(SIGCHLD);
}

/* Ignored signals do nothing, not even to a call that waits. */
static void ignored(void)
{
    start_pestering(0);
    struct sigaction action = { .sa_handler = SIG_IGN };
    SAME(sigaction(SIGUSR1, &action, NULL), 0);
    taken = 0; /* one may have come before that */
    double start = now();
    struct timespec time = seconds(0.1);
    SAME(nanosleep(&time, NULL), 0);
    ELAPSED(start, 0.1);
    start = now();
    SAME(poll(NULL, 0, 100), 0);
    ELAPSED(start, 0.1);
    SAME(taken, 0);
    stop_pestering();
}

const struct check delivery_checks[] = {
    { "interrupted-calls", interrupted },
    { "restarted-calls", restarted },
    { "queued-values", queued_values },
    { "waited-for-signals", waited_for },
    { "temporary-masks", temporary_masks },
    { "child-signals", child_signals },
    { "ignored-signals", ignored },
    { 0 },
};
