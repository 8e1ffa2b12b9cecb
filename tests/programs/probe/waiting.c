/* Calls that wait for a time: they must not end early, and moves must not make them longer. */
#include "probe.h"

#include <linux/futex.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/ipc.h>
#include <sys/select.h>
#include <sys/sem.h>
#include <sys/socket.h>
#include <sys/time.h>

#define LENGTH 0.25

static void wait_poll(void)
{
    SAME(poll(NULL, 0, 250), 0);
}

static void wait_ppoll(void)
{
    struct timespec time = seconds(LENGTH);
    SAME(ppoll(NULL, 0, &time, NULL), 0);
}

static void wait_select(void)
{
    struct timeval time = { .tv_usec = 250000 };
    SAME(select(0, NULL, NULL, NULL, &time), 0);
    MUST(time.tv_sec == 0 && time.tv_usec == 0);
}

static void wait_pselect(void)
{
    struct timespec time = seconds(LENGTH);
    SAME(pselect(0, NULL, NULL, NULL, &time, NULL), 0);
}

static void wait_epoll(void)
{
    int queue = epoll_create1(EPOLL_CLOEXEC);
    struct epoll_event event;
    SAME(epoll_wait(queue, &event, 1, 250), 0);
    SAME(close(queue), 0);
}

static void wait_epoll_pwait2(void)
{
    int queue = epoll_create1(EPOLL_CLOEXEC);
    struct epoll_event event;
    struct timespec time = seconds(LENGTH);
    SAME(syscall(SYS_epoll_pwait2, queue, &event, 1, &time, NULL, 8), 0);
    SAME(close(queue), 0);
}

static void wait_signal(void)
{
    sigset_t set, old;
    sigemptyset(&set);
    sigaddset(&set, SIGUSR1);
    SAME(sigprocmask(SIG_BLOCK, &set, &old), 0);
    struct timespec time = seconds(LENGTH);
    REFUSED(sigtimedwait(&set, NULL, &time), EAGAIN);
    SAME(sigprocmask(SIG_SETMASK, &old, NULL), 0);
}

static void wait_semaphore(void)
{
    int id = semget(IPC_PRIVATE, 1, 0600);
    MUST(id >= 0);
    struct sembuf down = { .sem_op = -1 };
    struct timespec time = seconds(LENGTH);
    REFUSED(semtimedop(id, &down, 1, &time), EAGAIN);
    SAME(semctl(id, 0, IPC_RMID), 0);
}

static void wait_receive(void)
{
    int ends[2];
    SAME(socketpair(AF_UNIX, SOCK_STREAM, 0, ends), 0);
    struct timeval time = { .tv_usec = 250000 };
    SAME(setsockopt(ends[0], SOL_SOCKET, SO_RCVTIMEO, &time, sizeof time), 0);
    char byte;
    REFUSED(recv(ends[0], &byte, 1, 0), EAGAIN);
    SAME(close(ends[0]), 0);
    SAME(close(ends[1]), 0);
}

static void wait_read_of_socket(void)
{
    int ends[2];
    SAME(socketpair(AF_UNIX, SOCK_STREAM, 0, ends), 0);
    struct timeval time = { .tv_usec = 250000 };
    SAME(setsockopt(ends[0], SOL_SOCKET, SO_RCVTIMEO, &time, sizeof time), 0);
    char byte;
    REFUSED(read(ends[0], &byte, 1), EAGAIN);
    SAME(close(ends[0]), 0);
    SAME(close(ends[1]), 0);
}

static void wait_futex(void)
{
    uint32_t word = 1;
    struct timespec time = seconds(LENGTH);
    REFUSED(syscall(SYS_futex, &word, FUTEX_WAIT_PRIVATE, 1, &time, NULL, 0), ETIMEDOUT);
}

static void wait_futex_until(void)
{
    uint32_t word = 1;
    struct timespec time = seconds(now() + LENGTH);
    REFUSED(syscall(SYS_futex, &word, FUTEX_WAIT_BITSET_PRIVATE, 1, &time, NULL, FUTEX_BITSET_MATCH_ANY), ETIMEDOUT);
}

static void timed(void (*wait)(void))
{
    double start = now();
    wait();
    ELAPSED(start, LENGTH - 0.0001);
}

#define TIMED(name)                                                                                            \
    static void timed_##name(void)                                                                             \
    {                                                                                                          \
        timed(wait_##name);                                                                                    \
    }

TIMED(poll)
TIMED(ppoll)
TIMED(select)
TIMED(pselect)
TIMED(epoll)
TIMED(epoll_pwait2)
TIMED(signal)
TIMED(semaphore)
TIMED(receive)
TIMED(read_of_socket)
TIMED(futex)
TIMED(futex_until)

/* What poll is given lies where much is written: it is looked at, and nothing of it but the answers changes. */
static void polled_stack(void)
{
    int ends[2];
    SAME(pipe(ends), 0);
    for (uint64_t round = 0; round < 100; round++) {
        struct {
            char before[3000];
            struct pollfd polled[3];
            char after[3000];
        } area;
        fill(&area, sizeof area, round * 7);
        for (int i = 0; i < 3; i++)
            area.polled[i] = (struct pollfd){ .fd = i == 1 ? -1 : ends[0], .events = (short)(POLLIN << (i == 2)) };
        int ready = round % 3 == 0;
        if (ready)
            SAME(write(ends[1], "x", 1), 1);
        SAME(poll(area.polled, 3, ready ? -1 : 6), ready);
        for (int i = 0; i < 3; i++) {
            SAME(area.polled[i].fd, i == 1 ? -1 : ends[0]);
            SAME(area.polled[i].events, POLLIN << (i == 2));
            SAME(area.polled[i].revents, ready && i == 0 ? POLLIN : 0);
        }
        MUST(is_filled(area.before, sizeof area.before, round * 7));
        char byte;
        if (ready)
            SAME(read(ends[0], &byte, 1), 1);
    }
    SAME(close(ends[0]), 0);
    SAME(close(ends[1]), 0);
}

const struct check waiting_checks[] = {
    { "polled-stack", polled_stack },
    { "timed-poll", timed_poll },
    { "timed-ppoll", timed_ppoll },
    { "timed-select", timed_select },
    { "timed-pselect", timed_pselect },
    { "timed-epoll", timed_epoll },
    { "timed-epoll-pwait2", timed_epoll_pwait2 },
    { "timed-sigtimedwait", timed_signal },
    { "timed-semaphore", timed_semaphore },
    { "timed-recv", timed_receive },
    { "timed-read-of-socket", timed_read_of_socket },
    { "timed-futex", timed_futex },
    { "timed-futex-until", timed_futex_until },
    { 0 },
};
