/* Calls that wait until something happens: a move must not end them. */
#include "probe.h"

#include <netinet/in.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/ipc.h>
#include <sys/msg.h>
#include <sys/select.h>
#include <sys/sem.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/uio.h>

#define WHILE 0.15

/* Something whose other side a child has: it acts after a while. */
struct meeting {
    int ends[2];
    int id;
    struct sockaddr_in address;
    const char *path;
};

static void wait_and_write(void *with)
{
    struct meeting *meeting = with;
    rest(WHILE);
    MUST(write(meeting->ends[1], "12345678", 8) == 8);
}

static void open_pipe(struct meeting *meeting)
{
    SAME(pipe(meeting->ends), 0);
}

static void open_pair(struct meeting *meeting)
{
    SAME(socketpair(AF_UNIX, SOCK_STREAM, 0, meeting->ends), 0);
}

static void close_ends(struct meeting *meeting)
{
    SAME(close(meeting->ends[0]), 0);
    SAME(close(meeting->ends[1]), 0);
}

/* Opens, starts the child, waits by `wait`, and closes. */
static void meet(void (*open_it)(struct meeting *), void (*wait)(struct meeting *))
{
    struct meeting meeting = { 0 };
    open_it(&meeting);
    double start = now();
    pid_t child = start_child(wait_and_write, &meeting);
    wait(&meeting);
    ELAPSED(start, WHILE);
    end_child(child, 0);
    close_ends(&meeting);
}

static void by_read(struct meeting *meeting)
{
    char bytes[8];
    SAME(read(meeting->ends[0], bytes, 8), 8);
    SAME(memcmp(bytes, "12345678", 8), 0);
}

static void by_recvmsg(struct meeting *meeting)
{
    char bytes[16];
    struct iovec part = { bytes, sizeof bytes };
    struct msghdr message = { .msg_iov = &part, .msg_iovlen = 1 };
    SAME(recvmsg(meeting->ends[0], &message, 0), 8);
}

static void by_poll(struct meeting *meeting)
{
    struct pollfd wanted = { .fd = meeting->ends[0], .events = POLLIN };
    SAME(poll(&wanted, 1, -1), 1);
    SAME(wanted.revents, POLLIN);
}

static void by_timed_poll(struct meeting *meeting)
{
    struct pollfd wanted = { .fd = meeting->ends[0], .events = POLLIN };
    SAME(poll(&wanted, 1, 60000), 1);
    SAME(wanted.revents, POLLIN);
}

static void by_select(struct meeting *meeting)
{
    fd_set set;
    FD_ZERO(&set);
    FD_SET(meeting->ends[0], &set);
    struct timeval time = { .tv_sec = 60 };
    SAME(select(meeting->ends[0] + 1, &set, NULL, NULL, &time), 1);
    MUST(FD_ISSET(meeting->ends[0], &set));
    MUST(time.tv_sec >= 50 && time.tv_sec < 60);
}

static void by_epoll(struct meeting *meeting)
{
    int queue = epoll_create1(0);
    struct epoll_event event = { .events = EPOLLIN, .data.u64 = 0x1122334455667788 };
    SAME(epoll_ctl(queue, EPOLL_CTL_ADD, meeting->ends[0], &event), 0);
    memset(&event, 0, sizeof event);
    SAME(epoll_wait(queue, &event, 1, -1), 1);
    SAME(event.data.u64, 0x1122334455667788);
    SAME(close(queue), 0);
}

static void blocked_read(void)
{
    meet(open_pipe, by_read);
    meet(open_pair, by_read);
}

static void blocked_receive(void)
{
    meet(open_pair, by_recvmsg);
}

static void blocked_poll(void)
{
    meet(open_pipe, by_poll);
    meet(open_pipe, by_timed_poll);
}

static void blocked_select(void)
{
    meet(open_pipe, by_select);
}

static void blocked_epoll(void)
{
    meet(open_pair, by_epoll);
}

static void wait_only(void *unused)
{
    (void)unused;
    rest(WHILE);
}

static void blocked_wait(void)
{
    double start = now();
    pid_t child = start_child(wait_only, NULL);
    int status;
    SAME(wait4(child, &status, 0, NULL), child);
    ELAPSED(start, WHILE);
    start = now();
    child = start_child(wait_only, NULL);
    siginfo_t info;
    SAME(waitid(P_PID, (id_t)child, &info, WEXITED), 0);
    SAME(info.si_pid, child);
    ELAPSED(start, WHILE);
}

static void connect_later(void *with)
{
    struct meeting *meeting = with;
    rest(WHILE);
    int end = socket(AF_INET, SOCK_STREAM, 0);
    MUST(connect(end, (struct sockaddr *)&meeting->address, sizeof meeting->address) == 0);
    MUST(write(end, "hello", 5) == 5);
}

static void blocked_accept(void)
{
    struct meeting meeting = { .address = { .sin_family = AF_INET, .sin_addr = { htonl(INADDR_LOOPBACK) } } };
    int listener = socket(AF_INET, SOCK_STREAM, 0);
    socklen_t length = sizeof meeting.address;
    SAME(bind(listener, (struct sockaddr *)&meeting.address, length), 0);
    SAME(getsockname(listener, (struct sockaddr *)&meeting.address, &length), 0);
    SAME(listen(listener, 4), 0);
    pid_t child = start_child(connect_later, &meeting);
    int end = accept(listener, NULL, NULL);
    MUST(end >= 0);
    char bytes[8];
    SAME(read(end, bytes, 8), 5);
    end_child(child, 0);
    SAME(close(end), 0);
    SAME(close(listener), 0);
}

static void raise_semaphore(void *with)
{
    struct meeting *meeting = with;
    rest(WHILE);
    struct sembuf up = { .sem_op = 1 };
    MUST(semop(meeting->id, &up, 1) == 0);
}

static void blocked_semaphore(void)
{
    struct meeting meeting = { .id = semget(IPC_PRIVATE, 1, 0600) };
    MUST(meeting.id >= 0);
    double start = now();
    pid_t child = start_child(raise_semaphore, &meeting);
    struct sembuf down = { .sem_op = -1 };
    SAME(semop(meeting.id, &down, 1), 0);
    ELAPSED(start, WHILE);
    end_child(child, 0);
    SAME(semctl(meeting.id, 0, IPC_RMID), 0);
}

struct letter {
    long kind;
    char text[16];
};

static void send_letter(void *with)
{
    struct meeting *meeting = with;
    rest(WHILE);
    struct letter letter = { .kind = 3, .text = "a letter" };
    MUST(msgsnd(meeting->id, &letter, sizeof letter.text, 0) == 0);
}

static void blocked_message(void)
{
    struct meeting meeting = { .id = msgget(IPC_PRIVATE, 0600) };
    MUST(meeting.id >= 0);
    double start = now();
    pid_t child = start_child(send_letter, &meeting);
    struct letter letter;
    SAME(msgrcv(meeting.id, &letter, sizeof letter.text, 3, 0), sizeof letter.text);
    SAME(strcmp(letter.text, "a letter"), 0);
    ELAPSED(start, WHILE);
    end_child(child, 0);
    SAME(msgctl(meeting.id, IPC_RMID, NULL), 0);
}

static void open_other_end(void *with)
{
    struct meeting *meeting = with;
    rest(WHILE);
    int end = open(meeting->path, O_WRONLY);
    MUST(end >= 0 && write(end, "fifo", 4) == 4);
}

static void blocked_open(void)
{
    struct meeting meeting = { .path = scratch_name("fifo") };
    SAME(mkfifo(meeting.path, 0600), 0);
    double start = now();
    pid_t child = start_child(open_other_end, &meeting);
    int end = open(meeting.path, O_RDONLY);
    MUST(end >= 0);
    char bytes[4];
    SAME(read(end, bytes, 4), 4);
    ELAPSED(start, WHILE);
    end_child(child, 0);
    SAME(close(end), 0);
    SAME(unlink(meeting.path), 0);
}

static void blocked_event(void)
{
    struct meeting meeting = { .ends = { 0, eventfd(0, 0) } };
    double start = now();
    pid_t child = start_child(wait_and_write, &meeting);
    uint64_t value;
    SAME(read(meeting.ends[1], &value, sizeof value), 8);
    SAME(memcmp(&value, "12345678", 8), 0);
    ELAPSED(start, WHILE);
    end_child(child, 0);
    SAME(close(meeting.ends[1]), 0);
}

#define LONG_WRITE (3 * MIB)
static char long_data[LONG_WRITE];

/* Reads slowly, so that whoever writes has to wait again and again with a part of its data written. */
static void drain(void *with)
{
    struct meeting *meeting = with;
    static char found[LONG_WRITE];
    rest(WHILE);
    size_t total = 0;
    for (ssize_t some; total < LONG_WRITE; total += (size_t)some) {
        rest(0.003);
        size_t most = LONG_WRITE - total < 100000 ? LONG_WRITE - total : 100000;
        MUST((some = read(meeting->ends[0], found + total, most)) > 0);
    }
    MUST(memcmp(found, long_data, LONG_WRITE) == 0);
}

/* A write that is longer than what it is written to can hold waits for its reader, however often it is moved. */
static void write_to_drain(void (*open_it)(struct meeting *), ssize_t (*send_it)(int end))
{
    struct meeting meeting;
    open_it(&meeting);
    fill(long_data, LONG_WRITE, next_random());
    pid_t child = start_child(drain, &meeting);
    SAME(send_it(meeting.ends[1]), LONG_WRITE);
    end_child(child, 0);
    close_ends(&meeting);
}

static ssize_t by_write(int end)
{
    return write(end, long_data, LONG_WRITE);
}

static ssize_t by_writev(int end)
{
    size_t first = 1 + random_below(MIB), second = random_below(MIB);
    struct iovec parts[] = {
        { long_data, first },
        { long_data, 0 },
        { long_data + first, second },
        { long_data + first + second, LONG_WRITE - first - second },
    };
    return writev(end, parts, COUNT(parts));
}

static ssize_t by_send(int end)
{
    return send(end, long_data, LONG_WRITE, 0);
}

static void blocked_write(void)
{
    write_to_drain(open_pipe, by_write);
    write_to_drain(open_pair, by_write);
}

static void blocked_writev(void)
{
    write_to_drain(open_pipe, by_writev);
}

static void blocked_send(void)
{
    write_to_drain(open_pair, by_send);
}

static volatile sig_atomic_t alarms;

static void count_alarm(int signal, siginfo_t *info, void *context)
{
    (void)signal, (void)info, (void)context;
    alarms++;
}

/* A signal ends a write that has begun, and says how much was written, whether its handler restarts calls or not. */
static void interrupted_write(void)
{
    for (int which = 0; which < 2; which++) {
        handle(SIGALRM, count_alarm, which ? SA_RESTART : 0);
        struct meeting meeting;
        open_pipe(&meeting);
        alarms = 0;
        struct itimerval once = { .it_value = { .tv_usec = 130000 } };
        fill(long_data, LONG_WRITE, next_random());
        SAME(setitimer(ITIMER_REAL, &once, NULL), 0);
        ssize_t holds = fcntl(meeting.ends[1], F_GETPIPE_SZ);
        SAME(write(meeting.ends[1], long_data, LONG_WRITE), holds);
        SAME(alarms, 1);
        static char found[MIB];
        SAME(read(meeting.ends[0], found, sizeof found), holds);
        SAME(memcmp(found, long_data, (size_t)holds), 0);
        close_ends(&meeting);
    }
    unhandle(SIGALRM);
}

const struct check blocked_checks[] = {
    { "blocked-read", blocked_read },
    { "blocked-receive", blocked_receive },
    { "blocked-poll", blocked_poll },
    { "blocked-select", blocked_select },
    { "blocked-epoll", blocked_epoll },
    { "blocked-wait", blocked_wait },
    { "blocked-accept", blocked_accept },
    { "blocked-semaphore", blocked_semaphore },
    { "blocked-message", blocked_message },
    { "blocked-open", blocked_open },
    { "blocked-event", blocked_event },
    { "blocked-write", blocked_write },
    { "blocked-writev", blocked_writev },
    { "blocked-send", blocked_send },
    { "interrupted-write", interrupted_write },
    { 0 },
};
