// Threads that compute, wait for each other, sleep, read, make other threads and get signals, all at the same time.
// What each has to come to is known beforehand; the program prints it and ends with 7.

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { TURNS = 2000, ROUNDS = 100, STEPS = 150000000 };

static int ends[2];
static long turns;
static pthread_mutex_t turn = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t next = PTHREAD_COND_INITIALIZER;
static __thread long own;
static atomic_long taken;
static atomic_bool is_over;

static double now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec + time.tv_nsec / 1e9;
}

static void take(int signal) {
    (void)signal;
    taken++;
}

static void take_any(int signal) {
    (void)signal;
}

static void *computes(void *seed) {
    uint64_t state = (uintptr_t)seed;
    for (long step = 0; step < STEPS; step++) {
        state = state * 6364136223846793005u + 1442695040888963407u;
        own++;
    }
    return (void *)(uintptr_t)(own == STEPS ? state >> 33 : 0);
}

static void *takes_turns(void *which) {
    for (int round = 0; round < TURNS; round++) {
        pthread_mutex_lock(&turn);
        while (turns % 2 != (intptr_t)which) {
            pthread_cond_wait(&next, &turn);
        }
        turns++;
        pthread_cond_broadcast(&next);
        pthread_mutex_unlock(&turn);
    }
    return NULL;
}

static void *reads(void *unused) {
    (void)unused;
    char bytes[64];
    long sum = 0;
    for (ssize_t length; (length = read(ends[0], bytes, sizeof bytes)) > 0;) {
        for (ssize_t at = 0; at < length; at++) {
            sum += bytes[at];
        }
    }
    return (void *)sum;
}

static void *sleeps(void *unused) {
    (void)unused;
    long early = 0;
    for (int round = 0; round < 20; round++) {
        double start = now();
        struct timespec time = {0, 50000000};
        early += nanosleep(&time, NULL) != 0 || now() - start < 0.05;
    }
    return (void *)early;
}

static void *waits_in_vain(void *unused) {
    (void)unused;
    pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
    pthread_cond_t never = PTHREAD_COND_INITIALIZER;
    long wrong = 0;
    for (int round = 0; round < 10; round++) {
        struct timespec until;
        clock_gettime(CLOCK_REALTIME, &until);
        until.tv_nsec += 100000000;
        until.tv_sec += until.tv_nsec / 1000000000;
        until.tv_nsec %= 1000000000;
        pthread_mutex_lock(&mutex);
        wrong += pthread_cond_timedwait(&never, &mutex, &until) != ETIMEDOUT;
        pthread_mutex_unlock(&mutex);
    }
    return (void *)wrong;
}

static void *doubles(void *number) {
    return (void *)((intptr_t)number * 2);
}

static void *makes_threads(void *unused) {
    (void)unused;
    long sum = 0;
    for (intptr_t round = 0; round < ROUNDS; round++) {
        pthread_t thread;
        void *result;
        if (pthread_create(&thread, NULL, doubles, (void *)round) == 0) {
            pthread_join(thread, &result);
            sum += (intptr_t)result;
        }
    }
    return (void *)sum;
}

// A signal that is ignored when it arrives may be handled a moment later.
static void *changes_its_mind(void *unused) {
    (void)unused;
    long failures = 0;
    while (!is_over) {
        failures += signal(SIGUSR2, SIG_IGN) == SIG_ERR;
        failures += signal(SIGUSR2, take_any) == SIG_ERR;
    }
    return (void *)failures;
}

static void *raises(void *unused) {
    (void)unused;
    long failures = 0;
    while (!is_over) {
        failures += raise(SIGUSR2) != 0;
    }
    return (void *)failures;
}

int main(void) {
    static const struct {
        const char *name;
        void *(*body)(void *);
        intptr_t with;
    } all[] = {
        {"computes", computes, 1},    {"computes too", computes, 2}, {"first in turn", takes_turns, 0},
        {"second in turn", takes_turns, 1}, {"reads", reads, 0},     {"sleeps", sleeps, 0},
        {"waits in vain", waits_in_vain, 0}, {"makes threads", makes_threads, 0},
        {"changes its mind", changes_its_mind, 0}, {"raises", raises, 0},
    };
    enum { COUNT = sizeof all / sizeof *all, READER = 4 };
    pthread_t threads[COUNT];
    struct sigaction action = {.sa_handler = take, .sa_flags = SA_RESTART};
    if (pipe(ends) != 0 || sigaction(SIGUSR1, &action, NULL) != 0 || signal(SIGUSR2, SIG_IGN) == SIG_ERR) {
        return 1;
    }
    for (int at = 0; at < COUNT; at++) {
        if (pthread_create(&threads[at], NULL, all[at].body, (void *)all[at].with) != 0) {
            return 1;
        }
    }
    for (int round = 0; round < ROUNDS; round++) {
        char bytes[10];
        memset(bytes, round, sizeof bytes);
        if (write(ends[1], bytes, sizeof bytes) != sizeof bytes) {
            return 1;
        }
        usleep(10000);
        if (round % 10 == 0) {
            pthread_kill(threads[READER], SIGUSR1);
        }
    }
    is_over = true;
    close(ends[1]);
    for (int at = 0; at < COUNT; at++) {
        void *result;
        pthread_join(threads[at], &result);
        printf("%s: %ld\n", all[at].name, (long)(intptr_t)result);
    }
    printf("turns: %ld, signals: %ld\n", turns, taken);
    return 7;
}
