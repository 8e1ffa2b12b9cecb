/* Descriptors that tell of something: all of it is at home, whoever waits for it elsewhere. */
#include "probe.h"

#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/inotify.h>
#include <sys/signalfd.h>
#include <sys/timerfd.h>

static void watch(int queue, int file, uint32_t events)
{
    struct epoll_event event = { .events = events, .data.fd = file };
    SAME(epoll_ctl(queue, EPOLL_CTL_ADD, file, &event), 0);
}

static void expect(int queue, int file, uint32_t events)
{
    struct epoll_event event = { 0 };
    SAME(epoll_wait(queue, &event, 1, 10000), 1);
    SAME(event.data.fd, file);
    SAME(event.events, events);
}

static void expect_nothing(int queue)
{
    struct epoll_event event;
    SAME(epoll_wait(queue, &event, 1, 0), 0);
}

/* What has been told of once is not told of again, what may be told of once is not told of twice, and a queue can be
   watched by another one. */
static void epoll_kinds(void)
{
    int edges = epoll_create1(EPOLL_CLOEXEC), all = epoll_create1(0), one[2], two[2];
    SAME(pipe(one), 0);
    SAME(pipe(two), 0);
    watch(edges, one[0], EPOLLIN | EPOLLET);
    watch(edges, two[0], EPOLLIN | EPOLLONESHOT);
    watch(all, edges, EPOLLIN);
    SAME(write(one[1], "ab", 2), 2);
    compute(0.01);
    expect(all, edges, EPOLLIN);
    expect(edges, one[0], EPOLLIN);
    expect_nothing(edges);
    SAME(write(one[1], "c", 1), 1);
    expect(edges, one[0], EPOLLIN);
    SAME(write(two[1], "d", 1), 1);
    expect(edges, two[0], EPOLLIN);
    SAME(write(two[1], "e", 1), 1);
    compute(0.01);
    expect_nothing(edges);
    struct epoll_event again = { .events = EPOLLIN | EPOLLONESHOT, .data.fd = two[0] };
    SAME(epoll_ctl(edges, EPOLL_CTL_MOD, two[0], &again), 0);
    expect(edges, two[0], EPOLLIN);
    SAME(epoll_ctl(edges, EPOLL_CTL_DEL, one[0], NULL), 0);
    SAME(write(one[1], "f", 1), 1);
    expect_nothing(edges);
    REFUSED(epoll_ctl(edges, EPOLL_CTL_DEL, one[0], NULL), ENOENT);
    SAME(close(two[1]), 0);
    SAME(epoll_ctl(edges, EPOLL_CTL_MOD, two[0], &again), 0);
    expect(edges, two[0], EPOLLIN | EPOLLHUP);
    SAME(close(edges), 0);
    SAME(close(all), 0);
    SAME(close(one[0]), 0);
    SAME(close(one[1]), 0);
    SAME(close(two[0]), 0);
}

static void count_up(void *with)
{
    for (int i = 0; i < 20; i++) {
        uint64_t three = 3;
        MUST(write(*(int *)with, &three, sizeof three) == sizeof three);
        rest(0.003);
    }
}

/* A counter of events gives all at once, or one by one. */
static void event_counter(void)
{
    for (int one_by_one = 0; one_by_one < 2; one_by_one++) {
        int counter = eventfd(0, EFD_CLOEXEC | (one_by_one ? EFD_SEMAPHORE : 0));
        pid_t child = start_child(count_up, &counter);
        uint64_t total = 0, some;
        while (total < 60) {
            SAME(read(counter, &some, sizeof some), sizeof some);
            MUST(one_by_one ? some == 1 : some > 0 && some % 3 == 0);
            total += some;
        }
        SAME(total, 60);
        end_child(child, 0);
        SAME(close(counter), 0);
    }
}

static void send_in_order(void *unused)
{
    (void)unused;
    for (int i = 0; i < 30; i++) {
        MUST(sigqueue(getppid(), SIGRTMIN + 1, (union sigval){ .sival_int = i }) == 0);
        rest(0.001);
    }
}

/* Signals as something to be read, and to be waited for with a timer. */
static void signal_descriptor(void)
{
    sigset_t set, old;
    sigemptyset(&set);
    sigaddset(&set, SIGRTMIN + 1);
    SAME(sigprocmask(SIG_BLOCK, &set, &old), 0);
    int queue = epoll_create1(0), signals = signalfd(-1, &set, SFD_NONBLOCK), timer = timerfd_create(CLOCK_BOOTTIME, 0);
    watch(queue, signals, EPOLLIN);
    pid_t child = start_child(send_in_order, NULL);
    for (int i = 0; i < 30; i++) {
        struct signalfd_siginfo found;
        ssize_t length;
        while ((length = read(signals, &found, sizeof found)) == -1) {
            SAME(errno, EAGAIN);
            expect(queue, signals, EPOLLIN);
        }
        SAME(length, sizeof found);
        SAME(found.ssi_signo, SIGRTMIN + 1);
        SAME(found.ssi_pid, child);
        SAME(found.ssi_int, i);
    }
    end_child(child, 0);
    struct itimerspec later = { .it_value = { .tv_nsec = 20000000 } }, left;
    watch(queue, timer, EPOLLIN);
    double start = now();
    SAME(timerfd_settime(timer, 0, &later, NULL), 0);
    expect(queue, timer, EPOLLIN);
    ELAPSED(start, 0.02);
    SAME(timerfd_gettime(timer, &left), 0);
    SAME(left.it_value.tv_nsec, 0);
    SAME(sigprocmask(SIG_SETMASK, &old, NULL), 0);
    SAME(close(queue), 0);
    SAME(close(signals), 0);
    SAME(close(timer), 0);
}

static void touch_files(void *with)
{
    for (int i = 0; i < 5; i++) {
        rest(0.01);
        char name[300];
        snprintf(name, sizeof name, "%s/%d", (char *)with, i);
        int file = open(name, O_CREAT | O_WRONLY, 0600);
        MUST(file >= 0 && close(file) == 0 && unlink(name) == 0);
    }
}

/* Notices of what another process does in a directory, each in its turn. */
static void awaited_notices(void)
{
    char directory[300];
    snprintf(directory, sizeof directory, "%s", scratch_name("noticed"));
    SAME(mkdir(directory, 0700), 0);
    int notice = inotify_init1(IN_CLOEXEC);
    MUST(inotify_add_watch(notice, directory, IN_CREATE | IN_CLOSE_WRITE | IN_DELETE) >= 0);
    pid_t child = start_child(touch_files, directory);
    const uint32_t kinds[] = { IN_CREATE, IN_CLOSE_WRITE, IN_DELETE };
    char events[4096] __attribute__((aligned(8)));
    for (int seen = 0; seen < 15;) {
        ssize_t length = read(notice, events, sizeof events);
        MUST(length > 0);
        for (char *at = events; at < events + length; seen++) {
            struct inotify_event *event = (struct inotify_event *)at;
            SAME(event->mask, kinds[seen % 3]);
            SAME(atoi(event->name), seen / 3);
            at += sizeof *event + event->len;
        }
    }
    end_child(child, 0);
    SAME(close(notice), 0);
    SAME(rmdir(directory), 0);
}

static void wait_to_be_ended(void *unused)
{
    (void)unused;
    for (;;)
        rest(10);
}

static void end_with_five(void *unused)
{
    (void)unused;
    rest(0.05);
    _exit(5);
}

/* A descriptor of another process sends it signals, and tells of its end. */
static void process_descriptors(void)
{
    pid_t child = start_child(wait_to_be_ended, NULL);
    int process = (int)syscall(SYS_pidfd_open, child, 0);
    MUST(process >= 0);
    struct pollfd wanted = { .fd = process, .events = POLLIN };
    SAME(poll(&wanted, 1, 20), 0);
    SAME(syscall(SYS_pidfd_send_signal, process, SIGTERM, NULL, 0), 0);
    SAME(poll(&wanted, 1, 10000), 1);
    SAME(wanted.revents, POLLIN);
    siginfo_t info;
    SAME(waitid(P_PIDFD, (id_t)process, &info, WEXITED), 0);
    SAME(info.si_pid, child);
    SAME(info.si_code, CLD_KILLED);
    SAME(info.si_status, SIGTERM);
    REFUSED(syscall(SYS_pidfd_send_signal, process, SIGTERM, NULL, 0), ESRCH);
    SAME(close(process), 0);
    child = start_child(end_with_five, NULL);
    process = (int)syscall(SYS_pidfd_open, child, 0);
    int queue = epoll_create1(0);
    watch(queue, process, EPOLLIN);
    expect(queue, process, EPOLLIN);
    end_child(child, 5 << 8);
    SAME(close(queue), 0);
    SAME(close(process), 0);
}

const struct check event_checks[] = {
    { "epoll-kinds", epoll_kinds },
    { "event-counter", event_counter },
    { "signal-descriptor", signal_descriptor },
    { "awaited-notices", awaited_notices },
    { "process-descriptors", process_descriptors },
    { 0 },
};
