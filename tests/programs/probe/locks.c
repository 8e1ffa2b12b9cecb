/* File locks belong to the process, wherever it computes. */
#include "probe.h"

#include <sys/file.h>

static int file, answers[2];

static int try_lock(short kind, off_t start, off_t length)
{
    struct flock lock = { .l_type = kind, .l_whence = SEEK_SET, .l_start = start, .l_len = length };
    return fcntl(file, F_SETLK, &lock) == 0 ? 0 : errno;
}

static void try_as_other(void *with)
{
    struct flock lock = { .l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = 0, .l_len = 100 };
    MUST(fcntl(file, F_GETLK, &lock) == 0);
    int found[3] = { lock.l_type, lock.l_pid, try_lock(F_WRLCK, *(int *)with, 10) };
    MUST(write(answers[1], found, sizeof found) == sizeof found);
}

/* Another process sees who holds the lock, and cannot have it. */
static void records(void)
{
    file = scratch_file();
    SAME(pipe(answers), 0);
    SAME(try_lock(F_WRLCK, 10, 20), 0);
    compute(0.03);
    int found[3];
    for (int start = 15; start <= 40; start += 25) {
        pid_t child = start_child(try_as_other, &start);
        SAME(read(answers[0], found, sizeof found), sizeof found);
        SAME(found[0], F_WRLCK);
        SAME(found[1], getpid());
        SAME(found[2], start == 15 ? EAGAIN : 0);
        end_child(child, 0);
        compute(0.03);
    }
    SAME(try_lock(F_UNLCK, 10, 20), 0);
    compute(0.03);
    int start = 15;
    pid_t child = start_child(try_as_other, &start);
    SAME(read(answers[0], found, sizeof found), sizeof found);
    SAME(found[0], F_UNLCK);
    SAME(found[2], 0);
    end_child(child, 0);
    SAME(close(answers[0]), 0);
    SAME(close(answers[1]), 0);
    SAME(close(file), 0);
}

static void hold_a_while(void *unused)
{
    (void)unused;
    MUST(try_lock(F_WRLCK, 0, 0) == 0);
    MUST(write(answers[1], "x", 1) == 1);
    rest(0.2);
    MUST(pwrite(file, "done", 4, 0) == 4);
}

/* A lock that one waits for is there when its holder has gone, and not before. */
static void awaited_record(void)
{
    file = scratch_file();
    SAME(pipe(answers), 0);
    pid_t child = start_child(hold_a_while, NULL);
    char bytes[4];
    SAME(read(answers[0], bytes, 1), 1);
    struct flock lock = { .l_type = F_WRLCK, .l_whence = SEEK_SET };
    SAME(fcntl(file, F_SETLKW, &lock), 0);
    SAME(pread(file, bytes, 4, 0), 4);
    SAME(memcmp(bytes, "done", 4), 0);
    end_child(child, 0);
    SAME(close(answers[0]), 0);
    SAME(close(answers[1]), 0);
    SAME(close(file), 0);
}

static void hold_whole_file(void *with)
{
    int own = open(with, O_RDWR);
    MUST(own >= 0 && flock(own, LOCK_EX) == 0);
    MUST(write(answers[1], "x", 1) == 1);
    rest(0.2);
    MUST(pwrite(own, "done", 4, 0) == 4);
}

/* The same with a lock on the whole file. */
static void awaited_file(void)
{
    const char *name = scratch_name("locked");
    file = open(name, O_CREAT | O_RDWR, 0600);
    SAME(pipe(answers), 0);
    pid_t child = start_child(hold_whole_file, (void *)name);
    char bytes[4];
    SAME(read(answers[0], bytes, 1), 1);
    REFUSED(flock(file, LOCK_EX | LOCK_NB), EAGAIN);
    SAME(flock(file, LOCK_EX), 0);
    SAME(pread(file, bytes, 4, 0), 4);
    SAME(memcmp(bytes, "done", 4), 0);
    end_child(child, 0);
    SAME(close(answers[0]), 0);
    SAME(close(answers[1]), 0);
    SAME(close(file), 0);
    SAME(unlink(name), 0);
}

const struct check lock_checks[] = {
    { "record-locks", records },
    { "awaited-record-lock", awaited_record },
    { "awaited-file-lock", awaited_file },
    { 0 },
};
