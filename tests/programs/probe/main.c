/* probe NAME SECONDS | probe list */
#include "probe.h"

#include <math.h>

static const struct check *const lists[] = {
    memory_checks,  mapping_checks, signal_checks,    delivery_checks, timer_checks,
    waiting_checks, blocked_checks, io_checks,        transfer_checks, lock_checks,
    processor_checks, self_checks,  child_checks,     errno_checks,    odd_checks,
    event_checks, socket_checks, terminal_checks, sharing_checks, family_checks,
    searching_checks, reading_checks, writing_checks, named_checks,
};

static const char *current = "start";
static char scratch[512];

void fail(const char *file, int line, const char *format, ...)
{
    int error = errno;
    char text[1024];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    const char *name = strrchr(file, '/');
    dprintf(1, "%s: %s:%d: %s (errno %d: %s)\n", current, name ? name + 1 : file, line, text, error,
            strerror(error));
    rmdir(scratch);
    _exit(1);
}

double now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + (double)time.tv_nsec * 1e-9;
}

struct timespec seconds(double value)
{
    double whole = floor(value);
    return (struct timespec){ .tv_sec = (time_t)whole, .tv_nsec = (long)((value - whole) * 1e9) };
}

/* How late something may be: the machine may be busy, and a move may fall into it. */
#define LATE 3.0

void check_elapsed(const char *file, int line, double start, double least)
{
    double elapsed = now() - start;
    if (elapsed < least - 0.0005 || elapsed > least + LATE)
        fail(file, line, "%.4f s went by, not %.4f s", elapsed, least);
}

void compute(double seconds)
{
    double end = now() + seconds;
    volatile double sum = 0;
    while (now() < end)
        for (int i = 1; i < 5000; i++)
            sum += 1.0 / i;
}

void rest(double length)
{
    double end = now() + length;
    for (double left = length; left > 0; left = end - now()) {
        struct timespec time = seconds(left);
        nanosleep(&time, NULL);
    }
}

static uint64_t random_state = 88172645463325252u;

uint64_t next_random(void)
{
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    random_state ^= random_state << 17;
    return random_state;
}

uint64_t random_below(uint64_t bound)
{
    return next_random() % bound;
}

static uint64_t mix(uint64_t value)
{
    value = (value ^ (value >> 31)) * 0x7fb5d329728ea185u;
    return value ^ (value >> 27);
}

void fill(void *at, size_t length, uint64_t tag)
{
    unsigned char *bytes = at;
    for (size_t i = 0; i < length; i += 8) {
        uint64_t word = mix(tag + i);
        memcpy(bytes + i, &word, length - i < 8 ? length - i : 8);
    }
}

bool is_filled(const void *at, size_t length, uint64_t tag)
{
    const unsigned char *bytes = at;
    for (size_t i = 0; i < length; i += 8) {
        uint64_t word = mix(tag + i);
        if (memcmp(bytes + i, &word, length - i < 8 ? length - i : 8) != 0)
            return false;
    }
    return true;
}

bool is_zero(const void *at, size_t length)
{
    const unsigned char *bytes = at;
    for (size_t i = 0; i < length; i++)
        if (bytes[i] != 0)
            return false;
    return true;
}

void handle(int signal, void (*handler)(int, siginfo_t *, void *), int flags)
{
    struct sigaction action = { .sa_sigaction = handler, .sa_flags = SA_SIGINFO | flags };
    sigemptyset(&action.sa_mask);
    SAME(sigaction(signal, &action, NULL), 0);
}

void unhandle(int signal)
{
    struct sigaction action = { .sa_handler = SIG_DFL };
    SAME(sigaction(signal, &action, NULL), 0);
}

pid_t start_child(void (*body)(void *), void *with)
{
    fflush(stdout);
    pid_t child = fork();
    MUST(child >= 0);
    if (child == 0) {
        body(with);
        _exit(0);
    }
    return child;
}

void end_child(pid_t child, int expected)
{
    int status;
    SAME(waitpid(child, &status, 0), child);
    SAME(status, expected);
}

const char *scratch_name(const char *name)
{
    static char path[600];
    snprintf(path, sizeof path, "%s/%s", scratch, name);
    return path;
}

int scratch_file(void)
{
    int file = open(scratch, O_TMPFILE | O_RDWR, 0600);
    MUST(file >= 0);
    return file;
}

/* A directory of its own, which an image that replaced another one takes over. */
static void make_scratch(void)
{
    const char *given = getenv("PROBE_SCRATCH"), *parent = getenv("TMPDIR");
    snprintf(scratch, sizeof scratch, "%s", given ? given : parent ? parent : "/var/tmp");
    if (given)
        return;
    strncat(scratch, "/probe-XXXXXX", sizeof scratch - strlen(scratch) - 1);
    MUST(mkdtemp(scratch));
    setenv("PROBE_SCRATCH", scratch, 1);
}

static int list(void)
{
    for (size_t i = 0; i < COUNT(lists); i++)
        for (const struct check *check = lists[i]; check->name; check++)
            puts(check->name);
    return 0;
}

static const struct check *find(const char *name)
{
    for (size_t i = 0; i < COUNT(lists); i++)
        for (const struct check *check = lists[i]; check->name; check++)
            if (strcmp(check->name, name) == 0)
                return check;
    return NULL;
}

int main(int count, char **arguments)
{
    if (count == 2 && strcmp(arguments[1], "list") == 0)
        return list();
    const struct check *check = count == 3 ? find(arguments[1]) : NULL;
    if (!check) {
        fprintf(stderr, "usage: probe list | probe NAME SECONDS\n");
        return 2;
    }
    current = check->name;
    make_scratch();
    double end = now() + atof(arguments[2]);
    do
        check->run();
    while (now() < end);
    SAME(rmdir(scratch), 0);
    printf("%s: as it has to be\n", check->name);
    return 0;
}
