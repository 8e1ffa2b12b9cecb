/* Other processes and other programs. */
#include "probe.h"

#include <pthread.h>
#include <spawn.h>
#include <sys/resource.h>

extern char **environ;

static void exit_three(void *unused)
{
    (void)unused;
    compute(0.02);
    _exit(3);
}

static void die(void *signal)
{
    compute(0.02);
    struct rlimit none = { 0 };
    setrlimit(RLIMIT_CORE, &none);
    kill(getpid(), *(int *)signal);
}

/* Children end as they end. */
static void endings(void)
{
    end_child(start_child(exit_three, NULL), 3 << 8);
    int signals[] = { SIGTERM, SIGKILL, SIGABRT, SIGSEGV, SIGUSR1 };
    for (size_t i = 0; i < COUNT(signals); i++) {
        pid_t child = start_child(die, &signals[i]);
        int status;
        SAME(waitpid(child, &status, 0), child);
        MUST(WIFSIGNALED(status));
        SAME(WTERMSIG(status), signals[i]);
    }
    int status;
    REFUSED(waitpid(-1, &status, 0), ECHILD);
}

static char big[4 * MIB];

static void check_copy(void *unused)
{
    (void)unused;
    MUST(is_filled(big, sizeof big, 12));
    compute(0.05);
    fill(big, sizeof big, 13);
    compute(0.05);
    MUST(is_filled(big, sizeof big, 13));
}

/* A child has a copy of the memory, and changes only its own. */
static void copies(void)
{
    fill(big, sizeof big, 12);
    compute(0.02);
    pid_t one = start_child(check_copy, NULL), two = start_child(check_copy, NULL);
    compute(0.02);
    end_child(one, 0);
    end_child(two, 0);
    MUST(is_filled(big, sizeof big, 12));
}

/* Children that run other programs: vfork, posix_spawn, system, popen. */
static void programs(void)
{
    pid_t child = vfork();
    MUST(child >= 0);
    if (child == 0) {
        execl("/bin/sh", "sh", "-c", "exit 5", NULL);
        _exit(99);
    }
    end_child(child, 5 << 8);
    char *arguments[] = { "sh", "-c", "exit 6", NULL };
    SAME(posix_spawn(&child, "/bin/sh", NULL, NULL, arguments, environ), 0);
    end_child(child, 6 << 8);
    SAME(posix_spawn(&child, "/no/such/program", NULL, NULL, arguments, environ), ENOENT);
    SAME(system("exit 7"), 7 << 8);
    FILE *output = popen("echo one; echo two", "r");
    char text[32] = { 0 };
    SAME(fread(text, 1, sizeof text, output), 8);
    SAME(strcmp(text, "one\ntwo\n"), 0);
    SAME(pclose(output), 0);
}

/* It replaces itself by itself; memory, descriptors, time limits and the signal mask follow the rules. */
static void replaces_itself(void)
{
    const char *turn = getenv("PROBE_TURN");
    int number = turn ? atoi(turn) : 0;
    if (number == 0) {
        int file = scratch_file();
        SAME(dup2(file, 50), 50);
        SAME(write(50, "kept", 4), 4);
        SAME(fcntl(file, F_SETFD, FD_CLOEXEC), 0);
        SAME(dup3(file, 51, O_CLOEXEC), 51);
        sigset_t set;
        sigemptyset(&set);
        sigaddset(&set, SIGUSR2);
        SAME(sigprocmask(SIG_BLOCK, &set, NULL), 0);
        setenv("PROBE_PID", (snprintf(big, sizeof big, "%d", getpid()), big), 1);
    } else {
        char text[4];
        SAME(pread(50, text, 4, 0), 4);
        SAME(memcmp(text, "kept", 4), 0);
        REFUSED(fcntl(51, F_GETFD), EBADF);
        sigset_t set;
        SAME(sigprocmask(SIG_SETMASK, NULL, &set), 0);
        MUST(sigismember(&set, SIGUSR2));
        SAME(atoi(getenv("PROBE_PID")), getpid());
    }
    fill(big, sizeof big, 3);
    compute(0.06);
    MUST(is_filled(big, sizeof big, 3));
    if (number == 8)
        exit(0);
    snprintf(big, sizeof big, "%d", number + 1);
    setenv("PROBE_TURN", big, 1);
    execl("/proc/self/exe", "probe", "exec", "0", NULL);
    fail(__FILE__, __LINE__, "exec did not work");
}

static void replace(void *unused)
{
    (void)unused;
    replaces_itself();
}

static void exec_itself(void)
{
    if (getenv("PROBE_TURN"))
        replaces_itself();
    end_child(start_child(replace, NULL), 0);
}

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t turned = PTHREAD_COND_INITIALIZER;
static unsigned long counter, whose;

static void *take_turns(void *number)
{
    for (int i = 0; i < 200; i++) {
        pthread_mutex_lock(&mutex);
        while (whose != (unsigned long)number)
            pthread_cond_wait(&turned, &mutex);
        counter++;
        whose = (whose + 1) % 4;
        pthread_cond_broadcast(&turned);
        pthread_mutex_unlock(&mutex);
        if (i % 50 == 0)
            compute(0.002);
    }
    return number;
}

/* Threads come, take turns, and go. */
static void threads(void)
{
    pthread_t all[4];
    counter = whose = 0;
    for (unsigned long i = 0; i < COUNT(all); i++)
        SAME(pthread_create(&all[i], NULL, take_turns, (void *)i), 0);
    for (unsigned long i = 0; i < COUNT(all); i++) {
        void *result;
        SAME(pthread_join(all[i], &result), 0);
        SAME((unsigned long)result, i);
    }
    SAME(counter, 800);
    compute(0.05);
}

const struct check child_checks[] = {
    { "endings", endings },   { "copies", copies },   { "programs", programs },
    { "exec", exec_itself }, { "threads", threads },
    { 0 },
};
