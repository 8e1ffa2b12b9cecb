// Each signal is answered: its handler runs, and the call that it interrupts returns. The program says when it is about
// to wait, in one kind of call after the other; a child sends it a signal of one kind after the other a few
// milliseconds later, and waits for the answer before it sends the next one.
//
//   answers ROUNDS

#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <poll.h>
#include <pty.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ipc.h>
#include <sys/msg.h>
#include <sys/select.h>
#include <sys/sem.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <termios.h>
#include <time.h>
#include <ucontext.h>
#include <unistd.h>

#define MUST(condition) ((condition) ? (void)0 : fail(__LINE__, #condition))

// How long an answer may take, milliseconds: the machine may be busy, and moves fall into it.
enum { PATIENCE = 10000 };

static const char *where = "start";
// Who waits for this process in vain if it fails.
static pid_t waiting;

static void fail(int line, const char *what) {
    dprintf(1, "line %d, %s: %s (errno %d: %s)\n", line, where, what, errno, strerror(errno));
    if (waiting != 0) {
        kill(waiting, SIGKILL);
    }
    _exit(1);
}

static void rest(long microseconds) {
    struct timespec time = { .tv_sec = microseconds / 1000000, .tv_nsec = microseconds % 1000000 * 1000 };
    while (nanosleep(&time, &time) == -1) {
        MUST(errno == EINTR);
    }
}

// From the one that waits to the one that sends, and back.
static int asks[2], tells[2];
static int quiet[2], sockets[2], listener, queue, messages, semaphores, terminal;
static volatile sig_atomic_t taken, inside, anew;

static const char WAITS = 'w', TAKES = 't', RETURNS = 'r', ENDS = 'e';

static void say(int line, char what) {
    if (write(asks[1], &what, 1) != 1) {
        fail(line, "say something");
    }
}

// Whether it interrupted a call.
static bool is_inside(const ucontext_t *context) { return context->uc_mcontext.gregs[REG_RAX] == -EINTR; }

// Whether it came before the very instruction of a call. Natively a signal can, in that one nanosecond, which none of these
// ever hits. But a call that a move has interrupted, or of which nobody at a host has heard yet, is made again from there, and
// would wait once more, deaf to the signal.
static bool is_before(const ucontext_t *context) {
    static const unsigned char SYSCALL[] = { 0x0f, 0x05 };
    return memcmp((const void *)context->uc_mcontext.gregs[REG_RIP], SYSCALL, sizeof SYSCALL) == 0;
}

static void take(int signal, siginfo_t *info, void *context) {
    (void)signal, (void)info;
    int error = errno;
    taken++;
    inside |= is_inside(context);
    anew += is_before(context);
    say(__LINE__, TAKES);
    errno = error;
}

static sigset_t only(int signal) {
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, signal);
    return set;
}

static const struct timespec LONG = { .tv_sec = 3600 };

static int by_nanosleep(void) { return nanosleep(&LONG, NULL); }

static int by_clock(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    time.tv_sec += 3600;
    errno = clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &time, NULL);
    return errno == 0 ? 0 : -1;
}

static int by_poll(void) {
    struct pollfd wanted = { .fd = quiet[0], .events = POLLIN };
    return poll(&wanted, 1, 3600000);
}

static int by_endless_poll(void) { return poll(NULL, 0, -1); }

static int by_ppoll(void) {
    struct pollfd wanted = { .fd = quiet[0], .events = POLLIN };
    return ppoll(&wanted, 1, &LONG, NULL);
}

static int by_select(void) {
    fd_set set;
    FD_ZERO(&set);
    FD_SET(quiet[0], &set);
    struct timeval time = { .tv_sec = 3600 };
    return select(quiet[0] + 1, &set, NULL, NULL, &time);
}

static int by_read(void) {
    char byte;
    return (int)read(quiet[0], &byte, 1);
}

static int by_recv(void) {
    char byte;
    return (int)recv(sockets[0], &byte, 1, 0);
}

static int by_accept(void) { return accept(listener, NULL, NULL); }

static int by_pause(void) { return pause(); }

static int by_epoll(void) {
    struct epoll_event event;
    return epoll_wait(queue, &event, 1, 3600000);
}

static int by_epoll_pwait(void) {
    struct epoll_event event;
    return epoll_pwait(queue, &event, 1, -1, NULL);
}

static int by_futex(void) {
    static uint32_t word;
    return (int)syscall(SYS_futex, &word, FUTEX_WAIT_PRIVATE, 0, NULL, NULL, 0);
}

static int by_timed_futex(void) {
    static uint32_t word;
    return (int)syscall(SYS_futex, &word, FUTEX_WAIT_PRIVATE, 0, &LONG, NULL, 0);
}

static int by_message(void) {
    struct {
        long type;
        char text[8];
    } message;
    return (int)msgrcv(messages, &message, sizeof message.text, 0, 0);
}

static int by_semaphore(void) {
    struct sembuf down = { .sem_op = -1 };
    return semop(semaphores, &down, 1);
}

static int by_child(void) { return wait(NULL); }

static int by_signal_wait(void) {
    sigset_t other = only(SIGHUP);
    return sigtimedwait(&other, NULL, &LONG);
}

// With a mask of its own: the signals are blocked until the call is made, and none comes before it.
static int by_sigsuspend(void) {
    sigset_t none;
    sigemptyset(&none);
    return sigsuspend(&none);
}

static int by_masked_ppoll(void) {
    sigset_t none;
    sigemptyset(&none);
    return ppoll(NULL, 0, &LONG, &none);
}

static int by_pselect(void) {
    sigset_t none;
    sigemptyset(&none);
    return pselect(0, NULL, NULL, NULL, NULL, &none);
}

static const struct {
    const char *name;
    int (*wait)(void);
    bool masked;
} WAYS[] = {
    { "nanosleep", by_nanosleep, false },
    { "clock_nanosleep", by_clock, false },
    { "poll", by_poll, false },
    { "endless poll", by_endless_poll, false },
    { "ppoll", by_ppoll, false },
    { "select", by_select, false },
    { "read", by_read, false },
    { "recv", by_recv, false },
    { "accept", by_accept, false },
    { "pause", by_pause, false },
    { "epoll_wait", by_epoll, false },
    { "epoll_pwait", by_epoll_pwait, false },
    { "futex", by_futex, false },
    { "timed futex", by_timed_futex, false },
    { "msgrcv", by_message, false },
    { "semop", by_semaphore, false },
    { "wait", by_child, false },
    { "sigtimedwait", by_signal_wait, false },
    { "sigsuspend", by_sigsuspend, true },
    { "masked ppoll", by_masked_ppoll, true },
    { "masked pselect", by_pselect, true },
};
enum { WAY_COUNT = sizeof WAYS / sizeof *WAYS };

// How a signal is sent.
enum { BY_KILL, BY_TGKILL, BY_QUEUE, BY_KEY, BY_TIMER, KIND_COUNT };

static const int SIGNALS[KIND_COUNT] = { SIGUSR1, SIGUSR2, SIGTERM, SIGINT, SIGALRM };

static void send_signal(int kind, pid_t to) {
    switch (kind) {
    case BY_KILL:
        MUST(kill(to, SIGUSR1) == 0);
        break;
    case BY_TGKILL:
        MUST(syscall(SYS_tgkill, to, to, SIGUSR2) == 0);
        break;
    case BY_QUEUE:
        MUST(sigqueue(to, SIGTERM, (union sigval){ .sival_int = 1 }) == 0);
        break;
    case BY_KEY:
        MUST(write(terminal, "\x03", 1) == 1);
        break;
    default:
        // The other one has set a timer.
        break;
    }
}

// What the other one says next, or 0 if it says nothing for so long.
static char hear(int milliseconds) {
    struct pollfd wanted = { .fd = asks[0], .events = POLLIN };
    char what;
    if (poll(&wanted, 1, milliseconds) == 0) {
        return 0;
    }
    return read(asks[0], &what, 1) == 1 ? what : ENDS;
}

// Sends signals until the other one ends. One that came before the call is sent again.
static void send_all(pid_t to) {
    waiting = to;
    for (int round = 0;; round++) {
        where = WAYS[round % WAY_COUNT].name;
        int kind = round / WAY_COUNT % KIND_COUNT;
        char said = hear(PATIENCE);
        if (said == ENDS) {
            break;
        }
        MUST(said == WAITS);
        rest(3000 + round * 7919 % 23000);
        for (;;) {
            send_signal(kind, to);
            MUST(hear(PATIENCE) == TAKES);
            do {
                // A timer sends again by itself.
                said = hear(kind == BY_TIMER ? PATIENCE : 700);
            } while (said == TAKES);
            if (said != 0) {
                break;
            }
        }
        MUST(said == RETURNS);
        MUST(write(tells[1], "n", 1) == 1);
    }
    _exit(0);
}

static void wait_in(int round) {
    int way = round % WAY_COUNT, kind = round / WAY_COUNT % KIND_COUNT;
    where = WAYS[way].name;
    sigset_t set = only(SIGNALS[kind]);
    if (WAYS[way].masked) {
        MUST(sigprocmask(SIG_BLOCK, &set, NULL) == 0);
    }
    taken = inside = 0;
    say(__LINE__, WAITS);
    if (kind == BY_TIMER) {
        struct itimerval once = { .it_value.tv_usec = 3000 + round * 7919 % 23000, .it_interval.tv_sec = 1 };
        MUST(setitimer(ITIMER_REAL, &once, NULL) == 0);
    }
    int result = WAYS[way].wait();
    MUST(result == -1 && errno == EINTR);
    MUST(taken > 0 && inside);
    MUST(anew == 0);
    if (kind == BY_TIMER) {
        struct itimerval none = { 0 };
        MUST(setitimer(ITIMER_REAL, &none, NULL) == 0);
    }
    if (WAYS[way].masked) {
        MUST(sigprocmask(SIG_UNBLOCK, &set, NULL) == 0);
    }
    say(__LINE__, RETURNS);
    char next;
    MUST(read(tells[0], &next, 1) == 1);
}

// A terminal of our own, whose keys the child presses.
static void take_terminal(void) {
    int far;
    if (getpgrp() != getpid()) {
        setpgid(0, 0);
    }
    MUST(openpty(&terminal, &far, NULL, NULL, NULL) == 0);
    MUST(ioctl(far, TIOCSCTTY, 0) == 0);
    MUST(tcsetpgrp(far, getpgrp()) == 0);
}

static int attend(int rounds) {
    MUST(setsid() != -1);
    take_terminal();
    pid_t self = getpid(), sender = fork();
    MUST(sender != -1);
    if (sender == 0) {
        // Not in the group that gets what is typed.
        MUST(setpgid(0, 0) == 0);
        MUST(close(asks[1]) == 0);
        send_all(self);
    }
    for (int kind = 0; kind < KIND_COUNT; kind++) {
        struct sigaction action = { .sa_sigaction = take, .sa_flags = SA_SIGINFO };
        MUST(sigaction(SIGNALS[kind], &action, NULL) == 0);
    }
    for (int round = 0; round < rounds; round++) {
        wait_in(round);
    }
    where = "end";
    MUST(close(asks[1]) == 0);
    int status;
    MUST(waitpid(sender, &status, 0) == sender);
    return status;
}

int main(int count, char **words) {
    int rounds = count > 1 ? atoi(words[1]) : 200;
    MUST(pipe(asks) == 0 && pipe(tells) == 0 && pipe(quiet) == 0);
    MUST(socketpair(AF_UNIX, SOCK_STREAM, 0, sockets) == 0);
    listener = socket(AF_UNIX, SOCK_STREAM, 0);
    MUST(listener != -1 && bind(listener, &(struct sockaddr){ .sa_family = AF_UNIX }, sizeof(sa_family_t)) == 0);
    MUST(listen(listener, 1) == 0);
    queue = epoll_create1(0);
    messages = msgget(IPC_PRIVATE, 0600);
    semaphores = semget(IPC_PRIVATE, 1, 0600);
    MUST(queue != -1 && messages != -1 && semaphores != -1);
    // Its own session wants a process that leads no group.
    pid_t child = fork();
    MUST(child != -1);
    if (child == 0) {
        _exit(attend(rounds) == 0 ? 0 : 1);
    }
    MUST(close(asks[1]) == 0);
    int status;
    MUST(waitpid(child, &status, 0) == child);
    MUST(msgctl(messages, IPC_RMID, NULL) == 0 && semctl(semaphores, 0, IPC_RMID) == 0);
    printf("%d signals were answered: %d\n", rounds, status);
    return status == 0 ? 0 : 1;
}
