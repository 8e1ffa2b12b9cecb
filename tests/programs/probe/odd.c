/* What cannot be done far from home, or hardly: it has to be right all the same. */
#include "probe.h"

#include <sys/ipc.h>
#include <sys/prctl.h>
#include <sys/shm.h>

/* Memory that parent and child share. */
static void shared_with_child(void)
{
    volatile long *words = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    MUST((void *)words != MAP_FAILED);
    pid_t child = fork();
    if (child == 0) {
        for (long i = 1; i <= 50; i++) {
            while (words[0] != i)
                usleep(100);
            words[1] = i * 2;
            words[0] = -i;
        }
        _exit(0);
    }
    for (long i = 1; i <= 50; i++) {
        words[0] = i;
        while (words[0] != -i)
            usleep(100);
        SAME(words[1], i * 2);
    }
    end_child(child, 0);
    SAME(munmap((void *)words, PAGE), 0);
    compute(0.05);
}

/* System V shared memory. */
static void segments(void)
{
    int id = shmget(IPC_PRIVATE, 3 * PAGE, 0600);
    MUST(id >= 0);
    char *area = shmat(id, NULL, 0);
    MUST(area != (void *)-1);
    SAME(shmctl(id, IPC_RMID, NULL), 0);
    fill(area, 3 * PAGE, 5);
    compute(0.03);
    MUST(is_filled(area, 3 * PAGE, 5));
    SAME(shmdt(area), 0);
    compute(0.03);
}

/* An anonymous file, mapped shared. */
static void anonymous_file(void)
{
    int file = memfd_create("probe", MFD_CLOEXEC);
    SAME(ftruncate(file, 2 * PAGE), 0);
    compute(0.02);
    char *area = mmap(NULL, 2 * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    MUST(area != MAP_FAILED);
    strcpy(area + 100, "written");
    compute(0.02);
    char text[8];
    SAME(pread(file, text, 8, 100), 8);
    SAME(strcmp(text, "written"), 0);
    SAME(munmap(area, 2 * PAGE), 0);
    SAME(close(file), 0);
    compute(0.02);
}

/* Locked memory, and what is known of residency. */
static void locked(void)
{
    char *area = mmap(NULL, 4 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    SAME(mlock(area, 4 * PAGE), 0);
    compute(0.02);
    unsigned char resident[4];
    SAME(mincore(area, 4 * PAGE, resident), 0);
    MUST(resident[0] & resident[1] & resident[2] & resident[3] & 1);
    SAME(munlock(area, 4 * PAGE), 0);
    compute(0.02);
    SAME(munmap(area, 4 * PAGE), 0);
}

/* Its name can be changed. */
static void renamed(void)
{
    char name[16];
    SAME(prctl(PR_SET_NAME, "another name"), 0);
    compute(0.02);
    SAME(prctl(PR_GET_NAME, name), 0);
    SAME(strcmp(name, "another name"), 0);
    SAME(prctl(PR_SET_NAME, "probe"), 0);
    SAME(prctl(PR_SET_DUMPABLE, 1), 0);
    SAME(prctl(PR_GET_DUMPABLE), 1);
    SAME(prctl(PR_SET_PDEATHSIG, SIGHUP), 0);
    int signal;
    compute(0.02);
    SAME(prctl(PR_GET_PDEATHSIG, &signal), 0);
    SAME(signal, SIGHUP);
    SAME(prctl(PR_SET_PDEATHSIG, 0), 0);
}

static void stop_and_go_on(void *with)
{
    char byte;
    for (int i = 0; i < 3; i++) {
        compute(0.02);
        raise(SIGSTOP);
        MUST(read(*(int *)with, &byte, 1) == 1);
    }
}

/* Its parent sees how a child stops and goes on. */
static void stopped_child(void)
{
    int ends[2], status;
    SAME(pipe(ends), 0);
    pid_t child = start_child(stop_and_go_on, ends);
    for (int i = 0; i < 3; i++) {
        SAME(waitpid(child, &status, WUNTRACED), child);
        MUST(WIFSTOPPED(status) && WSTOPSIG(status) == SIGSTOP);
        rest(0.03);
        SAME(waitpid(child, &status, WUNTRACED | WNOHANG), 0);
        SAME(kill(child, SIGCONT), 0);
        SAME(waitpid(child, &status, WCONTINUED), child);
        MUST(WIFCONTINUED(status));
        SAME(write(ends[1], "x", 1), 1);
    }
    end_child(child, 0);
    SAME(close(ends[0]), 0);
    SAME(close(ends[1]), 0);
}

const struct check odd_checks[] = {
    { "shared-with-child", shared_with_child },
    { "shared-segments", segments },
    { "anonymous-file", anonymous_file },
    { "locked-memory", locked },
    { "names-and-marks", renamed },
    { "stopped-child", stopped_child },
    { 0 },
};
