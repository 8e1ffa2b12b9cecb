/* Processes that share memory with each other: they move together. */
#include "probe.h"

#include <pthread.h>
#include <stddef.h>
#include <semaphore.h>
#include <poll.h>
#include <sys/prctl.h>
#include <sys/socket.h>

struct board {
    pthread_mutex_t lock;
    pthread_cond_t news;
    sem_t full, empty;
    long count, turn, done;
    volatile long ticks;
    char page[64][PAGE];
    char other[2][PAGE];
};

/* Boards lie in this file, or in none. */
static int board_file = -1;

static struct board *make_board(int kind, int protocol)
{
    int flags = MAP_SHARED | (board_file < 0 ? MAP_ANONYMOUS : 0);
    struct board *board = mmap(NULL, sizeof *board, PROT_READ | PROT_WRITE, flags, board_file, 0);
    MUST(board != MAP_FAILED);
    pthread_mutexattr_t mutex;
    pthread_condattr_t condition;
    SAME(pthread_mutexattr_init(&mutex) | pthread_condattr_init(&condition), 0);
    SAME(pthread_mutexattr_setpshared(&mutex, PTHREAD_PROCESS_SHARED), 0);
    SAME(pthread_mutexattr_setrobust(&mutex, kind), 0);
    SAME(pthread_mutexattr_setprotocol(&mutex, protocol), 0);
    SAME(pthread_condattr_setpshared(&condition, PTHREAD_PROCESS_SHARED), 0);
    SAME(pthread_mutex_init(&board->lock, &mutex) | pthread_cond_init(&board->news, &condition), 0);
    SAME(sem_init(&board->full, 1, 0) | sem_init(&board->empty, 1, 1), 0);
    return board;
}

static void drop_board(struct board *board)
{
    SAME(munmap(board, sizeof *board), 0);
}

static void take(sem_t *semaphore)
{
    int result;
    do
        result = sem_wait(semaphore);
    while (result < 0 && errno == EINTR);
    SAME(result, 0);
}

/* A child that ends with its parent, whatever that finds. */
static pid_t fork_child(void)
{
    pid_t parent = getpid(), child = fork();
    MUST(child >= 0);
    if (child == 0) {
        SAME(prctl(PR_SET_PDEATHSIG, SIGKILL), 0);
        if (getppid() != parent)
            _exit(1);
    }
    return child;
}

static void ended_well(pid_t child)
{
    int status;
    SAME(waitpid(child, &status, 0), child);
    SAME(status, 0);
}

/* Each changes all of a page under the lock, and finds it as somebody has left it. */
static void count_together(struct board *board, int rounds)
{
    for (int round = 0; round < rounds; round++) {
        SAME(pthread_mutex_lock(&board->lock), 0);
        long count = board->count;
        char *page = board->page[count % 64];
        if (count >= 64)
            MUST(is_filled(page, PAGE, count - 64 + 1));
        else
            MUST(is_zero(page, PAGE));
        fill(page, PAGE, count + 1);
        compute(0.0004);
        board->count = count + 1;
        SAME(pthread_mutex_unlock(&board->lock), 0);
        compute(0.001);
    }
}

static void family_counts(void)
{
    enum { children = 3, rounds = 90 };
    struct board *board = make_board(PTHREAD_MUTEX_STALLED, PTHREAD_PRIO_NONE);
    pid_t child[children];
    for (int i = 0; i < children; i++) {
        child[i] = fork_child();
        if (child[i] == 0) {
            count_together(board, rounds);
            _exit(0);
        }
    }
    count_together(board, rounds);
    for (int i = 0; i < children; i++)
        ended_well(child[i]);
    SAME(board->count, (children + 1) * rounds);
    drop_board(board);
}

/* Two take turns by a condition, two by semaphores, and all of them by calls in between. */
static void family_turns(void)
{
    enum { rounds = 60 };
    struct board *board = make_board(PTHREAD_MUTEX_STALLED, PTHREAD_PRIO_NONE);
    int pipes[2];
    SAME(pipe(pipes), 0);
    pid_t child = fork_child();
    for (int round = 0; round < rounds; round++) {
        SAME(pthread_mutex_lock(&board->lock), 0);
        while (board->turn % 2 != (child == 0))
            SAME(pthread_cond_wait(&board->news, &board->lock), 0);
        SAME(board->turn, 2 * round + (child == 0));
        fill(board->page[round], PAGE, board->turn);
        board->turn++;
        SAME(pthread_cond_broadcast(&board->news), 0);
        SAME(pthread_mutex_unlock(&board->lock), 0);
        compute(0.004);
        if (child == 0) {
            take(&board->empty);
            board->done = round;
            SAME(sem_post(&board->full), 0);
            SAME(write(pipes[1], &round, sizeof round), (long)sizeof round);
        } else {
            int told;
            SAME(read(pipes[0], &told, sizeof told), (long)sizeof told);
            SAME(told, round);
            take(&board->full);
            SAME(board->done, round);
            SAME(sem_post(&board->empty), 0);
        }
    }
    if (child == 0)
        _exit(0);
    ended_well(child);
    for (int round = 0; round < rounds; round++)
        MUST(is_filled(board->page[round], PAGE, 2 * round + 1));
    SAME(close(pipes[0]) | close(pipes[1]), 0);
    drop_board(board);
}

/* One that is killed while it has a robust lock leaves it to the other, with all that it had written. */
static void family_robust(void)
{
    for (int round = 1; round < 5; round++) {
        struct board *board = make_board(PTHREAD_MUTEX_ROBUST, PTHREAD_PRIO_NONE);
        pid_t child = fork_child();
        if (child == 0) {
            SAME(pthread_mutex_lock(&board->lock), 0);
            compute(0.12);
            fill(board->page[0], 8 * PAGE, round);
            SAME(sem_post(&board->full), 0);
            for (;;)
                compute(1);
        }
        take(&board->full);
        compute(0.05);
        SAME(kill(child, SIGKILL), 0);
        SAME(pthread_mutex_lock(&board->lock), EOWNERDEAD);
        SAME(pthread_mutex_consistent(&board->lock), 0);
        MUST(is_filled(board->page[0], 8 * PAGE, round));
        SAME(pthread_mutex_unlock(&board->lock), 0);
        compute(0.08);
        MUST(is_filled(board->page[0], 8 * PAGE, round) && is_zero(board->page[9], PAGE));
        int status;
        SAME(waitpid(child, &status, 0), child);
        SAME(status, SIGKILL);
        drop_board(board);
    }
}

static struct board *ticking;

static void *tick(void *nothing)
{
    for (;;)
        ticking->ticks++;
    return nothing;
}

/* Whoever has seen one's end sees nothing of it any more: neither by waiting, nor by the end of its pipe. */
static void family_ends(void)
{
    for (int round = 0; round < 6; round++) {
        ticking = make_board(PTHREAD_MUTEX_STALLED, PTHREAD_PRIO_NONE);
        int pipes[2];
        SAME(pipe(pipes), 0);
        pid_t child = fork_child();
        if (child == 0) {
            pthread_t thread;
            SAME(pthread_create(&thread, NULL, tick, NULL), 0);
            while (ticking->ticks == 0)
                compute(0.001);
            SAME(sem_post(&ticking->full), 0);
            compute(0.13);
            SAME(close(pipes[0]), 0);
            if (round % 2)
                _exit(0);
            for (;;)
                compute(1);
        }
        SAME(close(pipes[1]), 0);
        take(&ticking->full);
        compute(0.15);
        if (round % 2 == 0)
            SAME(kill(child, SIGKILL), 0);
        char nothing;
        if (round % 3)
            SAME(read(pipes[0], &nothing, 1), 0);
        else
            SAME(waitpid(child, NULL, 0), child);
        long before = ticking->ticks;
        MUST(before > 0);
        compute(0.03);
        SAME(ticking->ticks, before);
        compute(0.05);
        SAME(ticking->ticks, before);
        if (round % 3)
            SAME(waitpid(child, NULL, 0), child);
        SAME(close(pipes[0]), 0);
        drop_board(ticking);
    }
}

static struct board *signalled;

static void note(int signal)
{
    (void)signal;
    signalled->count++;
}

/* Signals from one to another, whose handlers write to what they share. */
static void family_signals(void)
{
    signalled = make_board(PTHREAD_MUTEX_STALLED, PTHREAD_PRIO_NONE);
    struct sigaction action = { .sa_handler = note, .sa_flags = SA_RESTART };
    SAME(sigaction(SIGUSR1, &action, NULL), 0);
    pid_t child = fork_child();
    if (child == 0) {
        SAME(sem_post(&signalled->full), 0);
        while (!signalled->done)
            compute(0.001);
        _exit(0);
    }
    take(&signalled->full);
    for (int round = 0; round < 40; round++) {
        SAME(kill(child, SIGUSR1), 0);
        while (*(volatile long *)&signalled->count <= round)
            compute(0.001);
        compute(0.008);
    }
    signalled->done = 1;
    ended_well(child);
    SAME(signalled->count, 40);
    SAME(signal(SIGUSR1, SIG_DFL) == SIG_ERR, 0);
    drop_board(signalled);
}

/* Locks that lend their holder the priority of those who wait: the kernel has to find the holder. */
static void family_priority(void)
{
    struct board *board = make_board(PTHREAD_MUTEX_STALLED, PTHREAD_PRIO_INHERIT);
    pid_t child = fork_child();
    count_together(board, 60);
    if (child == 0)
        _exit(0);
    ended_well(child);
    SAME(board->count, 120);
    drop_board(board);
}

/* One of them takes parts out of what they share, and gives up others. */
static void family_changed(void)
{
    struct board *board = make_board(PTHREAD_MUTEX_STALLED, PTHREAD_PRIO_NONE);
    pid_t child = fork_child();
    if (child == 0) {
        take(&board->full);
        compute(0.1);
        fill(board->page[60], PAGE, 60);
        SAME(madvise(board->page[1] - (long)board->page[1] % PAGE, PAGE, MADV_DONTNEED), 0);
        char *hole = (char *)(((long)board->page[40] + PAGE) & -PAGE);
        SAME(madvise(hole, 2 * PAGE, MADV_REMOVE), 0);
        compute(0.1);
        SAME(munmap(hole, PAGE), 0);
        compute(0.1);
        _exit(0);
    }
    fill(board->page[0], 64 * PAGE, 7);
    SAME(sem_post(&board->full), 0);
    compute(0.05);
    ended_well(child);
    MUST(is_filled(board->page[60], PAGE, 60) && is_filled(board->page[0], 8 * PAGE, 7));
    MUST(is_zero((char *)(((long)board->page[40] + PAGE) & -PAGE), 2 * PAGE));
    drop_board(board);
}

static void make_board_memfd(void)
{
    board_file = memfd_create("board", 0);
    MUST(board_file >= 0);
    SAME(ftruncate(board_file, sizeof(struct board)), 0);
}

static void close_board_file(void)
{
    SAME(close(board_file), 0);
    board_file = -1;
}

/* What they share has descriptors: what is written to the memory is in the file, and the other way round. */
static void read_and_write(struct board *board, int rounds)
{
    char page[PAGE];
    for (int round = 0; round < rounds; round++) {
        SAME(pthread_mutex_lock(&board->lock), 0);
        long at = (char *)board->other[0] - (char *)board;
        MUST(pread(board_file, page, PAGE, at) == PAGE && memcmp(page, board->other[0], PAGE) == 0);
        fill(page, PAGE, next_random());
        SAME(pwrite(board_file, page, PAGE, at), PAGE);
        MUST(memcmp(page, board->other[0], PAGE) == 0);
        fill(board->other[1], PAGE, board->count);
        SAME(lseek(board_file, 0, SEEK_END), (long)sizeof *board);
        SAME(pthread_mutex_unlock(&board->lock), 0);
        compute(0.06);
    }
}

static void family_memfd(void)
{
    make_board_memfd();
    struct board *board = make_board(PTHREAD_MUTEX_STALLED, PTHREAD_PRIO_NONE);
    pid_t child[2];
    for (int i = 0; i < 2; i++) {
        child[i] = fork_child();
        if (child[i] == 0) {
            count_together(board, 100);
            read_and_write(board, 4);
            _exit(0);
        }
    }
    count_together(board, 100);
    read_and_write(board, 4);
    for (int i = 0; i < 2; i++)
        ended_well(child[i]);
    SAME(board->count, 300);
    /* It grows, and is mapped again. */
    SAME(ftruncate(board_file, sizeof *board + 4 * PAGE), 0);
    char *again = mmap(NULL, sizeof *board + 4 * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, board_file, 0);
    MUST(again != MAP_FAILED && is_zero(again + sizeof *board, 4 * PAGE));
    compute(0.06);
    again[sizeof *board + PAGE] = 1;
    SAME(((struct board *)again)->count, 300);
    SAME(munmap(again, sizeof *board + 4 * PAGE), 0);
    drop_board(board);
    close_board_file();
}

/* POSIX shared memory of which neither the name nor a descriptor is left. */
static void family_unlinked(void)
{
    char name[64];
    snprintf(name, sizeof name, "/probe-family-%d", (int)getpid());
    board_file = shm_open(name, O_CREAT | O_EXCL | O_RDWR, 0600);
    MUST(board_file >= 0);
    SAME(ftruncate(board_file, sizeof(struct board)), 0);
    struct board *board = make_board(PTHREAD_MUTEX_ROBUST, PTHREAD_PRIO_NONE);
    SAME(shm_unlink(name), 0);
    close_board_file();
    pid_t child = fork_child();
    count_together(board, 400);
    if (child == 0) {
        /* When all have counted it ends with the lock. */
        for (long count = 0; count != 800;) {
            compute(0.002);
            SAME(pthread_mutex_lock(&board->lock), 0);
            count = board->count;
            if (count != 800)
                SAME(pthread_mutex_unlock(&board->lock), 0);
        }
        board->done = 5;
        _exit(0);
    }
    ended_well(child);
    SAME(pthread_mutex_lock(&board->lock), EOWNERDEAD);
    SAME(pthread_mutex_consistent(&board->lock) | pthread_mutex_unlock(&board->lock), 0);
    SAME(board->done, 5);
    SAME(board->count, 800);
    drop_board(board);
}

static void pass_on(int socket, int file)
{
    char byte = 1, control[CMSG_SPACE(sizeof file)] = { 0 };
    struct iovec part = { &byte, 1 };
    struct msghdr message = { .msg_iov = &part, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control };
    struct cmsghdr *rights = CMSG_FIRSTHDR(&message);
    *rights = (struct cmsghdr){ CMSG_LEN(sizeof file), SOL_SOCKET, SCM_RIGHTS };
    memcpy(CMSG_DATA(rights), &file, sizeof file);
    SAME(sendmsg(socket, &message, 0), 1);
}

static int take_passed(int socket)
{
    int file;
    char byte, control[CMSG_SPACE(sizeof file)];
    struct iovec part = { &byte, 1 };
    struct msghdr message = { .msg_iov = &part, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control };
    SAME(recvmsg(socket, &message, 0), 1);
    memcpy(&file, CMSG_DATA(CMSG_FIRSTHDR(&message)), sizeof file);
    return file;
}

/* A stranger gets a descriptor, which is under way for a while in which the others go on writing. */
static void family_passed(void)
{
    enum { rounds = 4 };
    int sockets[2], answers[2];
    SAME(socketpair(AF_UNIX, SOCK_STREAM, 0, sockets) | pipe(answers), 0);
    pid_t stranger = fork_child();
    if (stranger == 0) {
        for (int round = 1; round <= rounds; round++) {
            char byte, page[PAGE];
            struct pollfd news = { .fd = sockets[1], .events = POLLIN };
            while (poll(&news, 1, -1) != 1)
                MUST(errno == EINTR);
            compute(0.12);
            int file = take_passed(sockets[1]);
            struct board *board = mmap(NULL, sizeof *board, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
            MUST(board != MAP_FAILED);
            while (*(volatile long *)&board->turn != round)
                compute(0.001);
            long at = (char *)board->page[1] - (char *)board;
            SAME(pread(file, page, PAGE, at), PAGE);
            MUST(is_filled(page, PAGE, 10 + round) && is_filled(board->page[2], PAGE, 20 + round));
            fill(board->page[3], PAGE, 30 + round);
            SAME(munmap(board, sizeof *board) | close(file), 0);
            byte = round;
            SAME(write(answers[1], &byte, 1), 1);
        }
        _exit(0);
    }
    make_board_memfd();
    struct board *board = make_board(PTHREAD_MUTEX_STALLED, PTHREAD_PRIO_NONE);
    pid_t child = fork_child();
    if (child == 0) {
        for (int round = 1; round <= rounds; round++) {
            while (*(volatile long *)&board->done != round)
                compute(0.002);
            fill(board->page[2], PAGE, 20 + round);
            SAME(sem_post(&board->full), 0);
        }
        _exit(0);
    }
    for (int round = 1; round <= rounds; round++) {
        char byte;
        compute(0.1);
        pass_on(sockets[0], board_file);
        compute(0.06);
        fill(board->page[1], PAGE, 10 + round);
        board->done = round;
        take(&board->full);
        board->turn = round;
        ssize_t got;
        do
            got = read(answers[0], &byte, 1);
        while (got < 0 && errno == EINTR);
        SAME(got, 1);
        SAME(byte, round);
        MUST(is_filled(board->page[3], PAGE, 30 + round));
    }
    ended_well(child);
    ended_well(stranger);
    drop_board(board);
    close_board_file();
    SAME(close(sockets[0]) | close(sockets[1]) | close(answers[0]) | close(answers[1]), 0);
}

struct opening {
    int file;
    pid_t process;
    long tag;
};

/* A stranger opens what they share by what another one of them has open, reads it and writes to it. */
static void open_and_answer(int requests, int answers)
{
    struct opening request;
    ssize_t got;
    while ((got = read(requests, &request, sizeof request)) != 0) {
        if (got < 0 && errno == EINTR)
            continue;
        SAME(got, (long)sizeof request);
        char name[64], page[PAGE];
        snprintf(name, sizeof name, "/proc/%d/fd/%d", (int)request.process, request.file);
        int file = open(name, O_RDWR);
        MUST(file >= 0);
        SAME(pread(file, page, PAGE, offsetof(struct board, page[1])), PAGE);
        MUST(is_filled(page, PAGE, request.tag));
        fill(page, PAGE, request.tag + 1);
        SAME(pwrite(file, page, PAGE, offsetof(struct board, page[2])), PAGE);
        SAME(close(file), 0);
        SAME(write(answers, "a", 1), 1);
    }
}

static void family_opened(void)
{
    int requests[2], answers[2];
    SAME(pipe(requests) | pipe(answers), 0);
    pid_t stranger = fork_child();
    if (stranger == 0) {
        SAME(close(requests[1]), 0);
        open_and_answer(requests[0], answers[1]);
        _exit(0);
    }
    make_board_memfd();
    struct board *board = make_board(PTHREAD_MUTEX_STALLED, PTHREAD_PRIO_NONE);
    pid_t child = fork_child();
    if (child == 0) {
        SAME(close(requests[1]), 0);
        while (!*(volatile long *)&board->done)
            count_together(board, 5);
        _exit(0);
    }
    for (int round = 0; round < 6; round++) {
        struct opening request = { board_file, round % 2 ? child : getpid(), 100 * round };
        compute(0.06 + 0.02 * round);
        /* The pages are not the child's for a while. */
        SAME(pthread_mutex_lock(&board->lock), 0);
        fill(board->page[1], PAGE, request.tag);
        SAME(write(requests[1], &request, sizeof request), (long)sizeof request);
        char byte;
        ssize_t got;
        do
            got = read(answers[0], &byte, 1);
        while (got < 0 && errno == EINTR);
        SAME(got, 1);
        MUST(is_filled(board->page[2], PAGE, request.tag + 1));
        board->count = 0;
        memset(board->page, 0, sizeof board->page);
        SAME(pthread_mutex_unlock(&board->lock), 0);
    }
    board->done = 1;
    ended_well(child);
    SAME(close(requests[1]), 0);
    ended_well(stranger);
    drop_board(board);
    close_board_file();
    SAME(close(requests[0]) | close(answers[0]) | close(answers[1]), 0);
}

const struct check family_checks[] = {
    { "family-counts", family_counts },   { "family-turns", family_turns },
    { "family-robust", family_robust },   { "family-ends", family_ends },
    { "family-signals", family_signals }, { "family-priority", family_priority },
    { "family-changed", family_changed }, { "family-memfd", family_memfd },
    { "family-unlinked", family_unlinked }, { "family-passed", family_passed },
    { "family-opened", family_opened },
    { NULL, NULL },
};
