/* Clocks, timers, and the processor time that is used. */
#include "probe.h"

#include <sys/resource.h>
#include <sys/time.h>
#include <sys/timerfd.h>
#include <sys/times.h>

static volatile sig_atomic_t taken;
static volatile int last_value, overruns;

static void count(int signal, siginfo_t *info, void *context)
{
    (void)signal, (void)context;
    last_value = info->si_value.sival_int;
    overruns += info->si_overrun;
    taken++;
}

static void no_more_timer(int which)
{
    struct itimerval none = { 0 };
    SAME(setitimer(which, &none, NULL), 0);
}

/* alarm: once, and not too early. */
static void alarm_once(void)
{
    handle(SIGALRM, count, 0);
    taken = 0;
    double start = now();
    SAME(alarm(1), 0);
    compute(0.05);
    MUST(alarm(1) == 1);
    /* Between a look and `pause` the signal could come. */
    sigset_t alarms, before;
    sigemptyset(&alarms);
    sigaddset(&alarms, SIGALRM);
    SAME(sigprocmask(SIG_BLOCK, &alarms, &before), 0);
    while (taken == 0)
        REFUSED(sigsuspend(&before), EINTR);
    SAME(sigprocmask(SIG_SETMASK, &before, NULL), 0);
    ELAPSED(start, 1.0);
    SAME(taken, 1);
    SAME(alarm(0), 0);
    unhandle(SIGALRM);
}

/* A periodic timer fires while the program computes, never more often than it should. */
static void interval(void)
{
    handle(SIGALRM, count, SA_RESTART);
    taken = 0;
    struct itimerval tick = { .it_interval = { .tv_usec = 20000 }, .it_value = { .tv_usec = 20000 } }, found;
    double start = now();
    SAME(setitimer(ITIMER_REAL, &tick, NULL), 0);
    compute(0.4);
    int ticks = taken;
    int possible = (int)((now() - start) / 0.02) + 1;
    MUST(ticks >= 4 && ticks <= possible);
    SAME(getitimer(ITIMER_REAL, &found), 0);
    SAME(found.it_interval.tv_usec, 20000);
    MUST(found.it_value.tv_sec == 0 && found.it_value.tv_usec <= 20000);
    no_more_timer(ITIMER_REAL);
    compute(0.05);
    ticks = taken;
    compute(0.05);
    SAME(taken, ticks);
    unhandle(SIGALRM);
}

/* A POSIX timer: what it could not deliver is in the overrun count, so nothing is lost. */
static void posix_timer(void)
{
    handle(SIGRTMIN, count, SA_RESTART);
    taken = overruns = 0;
    struct sigevent event = { .sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGRTMIN };
    event.sigev_value.sival_int = 815;
    timer_t timer;
    SAME(timer_create(CLOCK_MONOTONIC, &event, &timer), 0);
    struct itimerspec tick = { .it_interval = { .tv_nsec = 5000000 }, .it_value = { .tv_nsec = 5000000 } }, none = { 0 };
    double start = now();
    SAME(timer_settime(timer, 0, &tick, NULL), 0);
    double set = now();
    compute(0.3);
    double armed = now() - set;
    SAME(timer_settime(timer, 0, &none, NULL), 0);
    double disarmed = now() - start;
    compute(0.05);
    int total = taken + overruns;
    if (total < (int)(armed / 0.005) - 2 || total > (int)(disarmed / 0.005) + 1)
        fail(__FILE__, __LINE__, "%d signals and %d overruns in %.4f to %.4f s", taken, overruns, armed, disarmed);
    SAME(last_value, 815);
    SAME(timer_delete(timer), 0);
    unhandle(SIGRTMIN);
}

/* A timer goes off again before the signal of the last time has been handled. */
static void fast_timer(void)
{
    struct timespec tiny = { .tv_nsec = 20000 };
    taken = overruns = 0;
    handle(SIGRTMIN, count, SA_RESTART);
    struct sigevent event = { .sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGRTMIN };
    timer_t timer;
    SAME(timer_create(CLOCK_MONOTONIC, &event, &timer), 0);
    struct itimerspec tick = { .it_interval = tiny, .it_value = tiny }, none = { 0 };
    for (int round = 0; round < 8; round++) {
        int before = taken;
        SAME(timer_settime(timer, 0, &tick, NULL), 0);
        compute(0.06);
        SAME(timer_settime(timer, 0, &none, NULL), 0);
        MUST(taken > before);
        compute(0.02);
    }
    SAME(timer_delete(timer), 0);
    unhandle(SIGRTMIN);
}

/* A timer descriptor counts every expiration. */
static void descriptor_timer(void)
{
    int timer = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC);
    MUST(timer >= 0);
    struct itimerspec tick = { .it_interval = { .tv_nsec = 4000000 }, .it_value = { .tv_nsec = 4000000 } };
    double start = now();
    SAME(timerfd_settime(timer, 0, &tick, NULL), 0);
    double set = now();
    uint64_t total = 0, some;
    double armed = 0, read_at = 0;
    while (now() < start + 0.3) {
        compute(0.01);
        armed = now() - set;
        SAME(read(timer, &some, sizeof some), sizeof some);
        read_at = now() - start;
        total += some;
    }
    MUST(total + 1 >= (uint64_t)(armed / 0.004) && total <= (uint64_t)(read_at / 0.004) + 1);
    SAME(close(timer), 0);
}

/* Timers that count processor time. */
static void processor_timers(void)
{
    handle(SIGVTALRM, count, SA_RESTART);
    handle(SIGPROF, count, SA_RESTART);
    const int which[] = { ITIMER_VIRTUAL, ITIMER_PROF };
    for (size_t i = 0; i < COUNT(which); i++) {
        taken = 0;
        struct itimerval tick = { .it_interval = { .tv_usec = 20000 }, .it_value = { .tv_usec = 20000 } };
        double start = now();
        SAME(setitimer(which[i], &tick, NULL), 0);
        while (taken < 5 && now() - start < 10)
            compute(0.005);
        no_more_timer(which[i]);
        SAME(taken, 5);
        MUST(now() - start >= 0.09);
    }
    unhandle(SIGVTALRM);
    unhandle(SIGPROF);
}

static double of(struct timespec time)
{
    return (double)time.tv_sec + (double)time.tv_nsec * 1e-9;
}

static double read_clock(clockid_t clock, bool by_call)
{
    struct timespec time;
    SAME(by_call ? syscall(SYS_clock_gettime, clock, &time) : clock_gettime(clock, &time), 0);
    return of(time);
}

/* No clock goes back, whoever reads it, and all agree how much time went by. */
static void clocks(void)
{
    const clockid_t all[] = { CLOCK_MONOTONIC, CLOCK_MONOTONIC_RAW, CLOCK_BOOTTIME, CLOCK_MONOTONIC_COARSE };
    double last[COUNT(all)] = { 0 };
    double monotonic = read_clock(CLOCK_MONOTONIC, false), real = read_clock(CLOCK_REALTIME, true);
    double boot = read_clock(CLOCK_BOOTTIME, false);
    for (int round = 0; round < 100; round++) {
        for (size_t i = 0; i < COUNT(all); i++) {
            double time = read_clock(all[i], round % 2 == 1);
            if (time < last[i])
                fail(__FILE__, __LINE__, "clock %d went back from %.6f to %.6f", all[i], last[i], time);
            last[i] = time;
        }
        compute(0.001);
    }
    monotonic = read_clock(CLOCK_MONOTONIC, true) - monotonic;
    real = read_clock(CLOCK_REALTIME, false) - real;
    boot = read_clock(CLOCK_BOOTTIME, true) - boot;
    double difference = monotonic - real, difference_of_boot = monotonic - boot;
    MUST(difference < 0.5 && difference > -0.5 && difference_of_boot < 0.5 && difference_of_boot > -0.5);
}

static double of_timeval(struct timeval time)
{
    return (double)time.tv_sec + (double)time.tv_usec * 1e-6;
}

/* What the kernel says by different calls, seconds. */
static void processor_times(double found[4])
{
    struct rusage usage;
    struct tms used;
    clockid_t own;
    SAME(getrusage(RUSAGE_SELF, &usage), 0);
    found[0] = of_timeval(usage.ru_utime) + of_timeval(usage.ru_stime);
    MUST(times(&used) != -1);
    found[1] = (double)(used.tms_utime + used.tms_stime) / (double)sysconf(_SC_CLK_TCK);
    found[2] = read_clock(CLOCK_PROCESS_CPUTIME_ID, false);
    SAME(clock_getcpuclockid(0, &own), 0);
    found[3] = read_clock(own, true);
}

/* All calls agree how much processor time was used, and it is no more than went by. (What was used elsewhere is not
 * counted any more when a program has come home, so that it may get less once in a while.) */
static void processor_time(void)
{
    double start = now() - read_clock(CLOCK_PROCESS_CPUTIME_ID, false);
    int apart = 0;
    for (int round = 0; round < 40; round++) {
        double found[4];
        processor_times(found);
        double least = found[0], most = found[0];
        for (size_t i = 1; i < COUNT(found); i++) {
            least = found[i] < least ? found[i] : least;
            most = found[i] > most ? found[i] : most;
        }
        apart += most - least > 0.025;
        MUST(least >= 0 && most <= now() - start + 0.05);
        compute(0.005);
    }
    MUST(apart < 10);
}

/* Sleeps of all kinds last as long as they are told. */
static void sleeps(void)
{
    double start = now();
    struct timespec time = seconds(0.11);
    SAME(nanosleep(&time, NULL), 0);
    ELAPSED(start, 0.11);
    start = now();
    SAME(clock_nanosleep(CLOCK_MONOTONIC, 0, &time, NULL), 0);
    ELAPSED(start, 0.11);
    start = now();
    time = seconds(start + 0.13);
    SAME(clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &time, NULL), 0);
    ELAPSED(start, 0.13);
    struct timespec real;
    SAME(clock_gettime(CLOCK_REALTIME, &real), 0);
    start = now();
    real = seconds(of(real) + 0.1);
    SAME(clock_nanosleep(CLOCK_REALTIME, TIMER_ABSTIME, &real, NULL), 0);
    ELAPSED(start, 0.095);
    start = now();
    SAME(usleep(70000), 0);
    ELAPSED(start, 0.07);
}

const struct check timer_checks[] = {
    { "alarm", alarm_once },
    { "interval-timer", interval },
    { "posix-timer", posix_timer },
    { "fast-timer", fast_timer },
    { "timer-descriptor", descriptor_timer },
    { "processor-timers", processor_timers },
    { "clocks", clocks },
    { "processor-time", processor_time },
    { "sleeps", sleeps },
    { 0 },
};
