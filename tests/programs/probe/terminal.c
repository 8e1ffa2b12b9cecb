/* Terminals, message queues of POSIX, leases and locks of open files. */
#include "probe.h"

#include <mqueue.h>
#include <pty.h>
#include <sys/ioctl.h>
#include <termios.h>

static volatile sig_atomic_t taken, last;

static void note(int signal, siginfo_t *info, void *context)
{
    (void)info, (void)context;
    last = signal;
    taken++;
}

static void await(int signal)
{
    double end = now() + 10;
    while (taken == 0 && now() < end)
        rest(0.001);
    SAME(taken, 1);
    SAME(last, signal);
    taken = 0;
}

/* In a session of its own: what is typed, how large the window is, and that it goes. */
static void on_terminal(void *unused)
{
    (void)unused;
    int near, far;
    struct winsize size = { .ws_row = 24, .ws_col = 80 }, found;
    MUST(setsid() != -1);
    SAME(openpty(&near, &far, NULL, NULL, &size), 0);
    SAME(ioctl(far, TIOCSCTTY, 0), 0);
    SAME(tcgetpgrp(far), getpid());
    char bytes[64];
    const int signals[] = { SIGINT, SIGQUIT, SIGTSTP };
    const char keys[] = { 3, 28, 26 };
    for (int i = 0; i < 3; i++) {
        handle(signals[i], note, SA_RESTART);
        SAME(write(near, &keys[i], 1), 1);
        await(signals[i]);
        compute(0.005);
    }
    SAME(write(near, "line\nmore", 9), 9);
    SAME(read(far, bytes, sizeof bytes), 5);
    SAME(memcmp(bytes, "line\n", 5), 0);
    SAME(write(near, "\x04", 1), 1);
    compute(0.005);
    SAME(read(far, bytes, sizeof bytes), 4);
    struct termios state;
    SAME(tcgetattr(far, &state), 0);
    cfmakeraw(&state);
    SAME(tcsetattr(far, TCSAFLUSH, &state), 0);
    SAME(tcgetattr(far, &state), 0);
    MUST(!(state.c_lflag & (ICANON | ISIG)));
    SAME(write(near, "\x03x", 2), 2);
    SAME(read(far, bytes, 2), 2);
    SAME(bytes[0], 3);
    handle(SIGWINCH, note, SA_RESTART);
    size.ws_col = 132;
    SAME(ioctl(near, TIOCSWINSZ, &size), 0);
    await(SIGWINCH);
    SAME(ioctl(far, TIOCGWINSZ, &found), 0);
    SAME(found.ws_col, 132);
    handle(SIGHUP, note, SA_RESTART);
    SAME(close(near), 0);
    await(SIGHUP);
    SAME(read(far, bytes, sizeof bytes), 0);
    REFUSED(write(far, "x", 1), EIO);
}

static void terminal(void)
{
    end_child(start_child(on_terminal, NULL), 0);
}

static void send_letters(void *with)
{
    mqd_t queue = *(mqd_t *)with;
    for (unsigned i = 0; i < 12; i++) {
        char text[16] = { (char)('a' + i) };
        MUST(mq_send(queue, text, sizeof text, i % 3) == 0);
        rest(0.002);
    }
}

/* Letters of a POSIX queue: the most urgent first, and one hears of the first that comes. */
static void letters(void)
{
    char name[64], text[16];
    snprintf(name, sizeof name, "/probe-%d", getpid());
    struct mq_attr form = { .mq_maxmsg = 5, .mq_msgsize = sizeof text };
    mqd_t queue = mq_open(name, O_CREAT | O_EXCL | O_RDWR, 0600, &form);
    MUST(queue != (mqd_t)-1);
    SAME(mq_unlink(name), 0);
    unsigned urgent;
    for (unsigned i = 0; i < 5; i++)
        SAME(mq_send(queue, "0123456789abcde", sizeof text, i), 0);
    struct timespec soon;
    SAME(clock_gettime(CLOCK_REALTIME, &soon), 0);
    soon.tv_nsec += 20000000;
    soon.tv_sec += soon.tv_nsec / 1000000000, soon.tv_nsec %= 1000000000;
    double start = now();
    REFUSED(mq_timedsend(queue, text, 1, 0, &soon), ETIMEDOUT);
    MUST(now() - start > 0.015);
    for (int i = 4; i >= 0; i--) {
        SAME(mq_receive(queue, text, sizeof text, &urgent), sizeof text);
        SAME(urgent, i);
    }
    handle(SIGUSR2, note, SA_RESTART);
    taken = 0;
    struct sigevent notice = { .sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGUSR2 };
    SAME(mq_notify(queue, &notice), 0);
    pid_t child = start_child(send_letters, &queue);
    await(SIGUSR2);
    unsigned seen = 0;
    for (int i = 0; i < 12; i++) {
        SAME(mq_receive(queue, text, sizeof text, &urgent), sizeof text);
        SAME((text[0] - 'a') % 3, urgent);
        seen |= 1u << (text[0] - 'a');
    }
    SAME(seen, 0xfff);
    end_child(child, 0);
    unhandle(SIGUSR2);
    SAME(mq_close(queue), 0);
}

static void open_for_writing(void *with)
{
    rest(0.03);
    int file = open(with, O_WRONLY);
    MUST(file >= 0 && write(file, "new", 3) == 3);
}

/* Whoever has a lease on a file hears of it before anybody writes to it. */
static void leases(void)
{
    char name[300];
    snprintf(name, sizeof name, "%s", scratch_name("leased"));
    int file = open(name, O_CREAT | O_RDWR, 0600);
    SAME(write(file, "old", 3), 3);
    SAME(close(file), 0);
    file = open(name, O_RDONLY);
    handle(SIGIO, note, SA_RESTART);
    taken = 0;
    SAME(fcntl(file, F_SETLEASE, F_RDLCK), 0);
    compute(0.02);
    SAME(fcntl(file, F_GETLEASE), F_RDLCK);
    pid_t child = start_child(open_for_writing, name);
    await(SIGIO);
    char bytes[3];
    compute(0.02);
    SAME(pread(file, bytes, 3, 0), 3);
    SAME(memcmp(bytes, "old", 3), 0);
    SAME(fcntl(file, F_SETLEASE, F_UNLCK), 0);
    end_child(child, 0);
    SAME(pread(file, bytes, 3, 0), 3);
    SAME(memcmp(bytes, "new", 3), 0);
    unhandle(SIGIO);
    SAME(close(file), 0);
    SAME(unlink(name), 0);
}

static void hold_open_file_lock(void *with)
{
    int *ends = ((int **)with)[0];
    int file = open(((char **)with)[1], O_RDWR);
    struct flock lock = { .l_type = F_WRLCK, .l_whence = SEEK_SET };
    MUST(fcntl(file, F_OFD_SETLK, &lock) == 0);
    MUST(write(ends[1], "x", 1) == 1);
    rest(0.05);
    MUST(pwrite(file, "done", 4, 0) == 4);
}

/* Locks that belong to an open file, and not to a process. */
static void open_file_locks(void)
{
    char name[300], bytes[4];
    snprintf(name, sizeof name, "%s", scratch_name("open"));
    int ends[2], one = open(name, O_CREAT | O_RDWR, 0600), two = open(name, O_RDWR);
    SAME(pipe(ends), 0);
    struct flock lock = { .l_type = F_WRLCK, .l_whence = SEEK_SET };
    SAME(fcntl(one, F_OFD_SETLK, &lock), 0);
    compute(0.01);
    REFUSED(fcntl(two, F_OFD_SETLK, &lock), EAGAIN);
    lock = (struct flock){ .l_type = F_WRLCK, .l_whence = SEEK_SET };
    SAME(fcntl(two, F_OFD_GETLK, &lock), 0);
    SAME(lock.l_pid, -1);
    SAME(close(one), 0);
    void *with[] = { ends, name };
    pid_t child = start_child(hold_open_file_lock, with);
    SAME(read(ends[0], bytes, 1), 1);
    lock = (struct flock){ .l_type = F_RDLCK, .l_whence = SEEK_SET };
    SAME(fcntl(two, F_OFD_SETLKW, &lock), 0);
    SAME(pread(two, bytes, 4, 0), 4);
    SAME(memcmp(bytes, "done", 4), 0);
    end_child(child, 0);
    SAME(close(two), 0);
    SAME(close(ends[0]), 0);
    SAME(close(ends[1]), 0);
    SAME(unlink(name), 0);
}

const struct check terminal_checks[] = {
    { "terminal", terminal },
    { "letters", letters },
    { "leases", leases },
    { "open-file-locks", open_file_locks },
    { 0 },
};
