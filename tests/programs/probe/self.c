/* What a program can learn of itself, above all from /proc. */
#include "probe.h"

#include <sched.h>
#include <sys/resource.h>
#include <sys/utsname.h>

static char *read_all(const char *path)
{
    static char text[1 << 20];
    int file = open(path, O_RDONLY | O_CLOEXEC);
    if (file < 0)
        fail(__FILE__, __LINE__, "cannot open %s", path);
    size_t length = 0;
    ssize_t some;
    while ((some = read(file, text + length, sizeof text - 1 - length)) > 0)
        length += (size_t)some;
    SAME(some, 0);
    SAME(close(file), 0);
    text[length] = 0;
    return text;
}

/* The line of `maps` that holds an address; its protection and name. */
static bool find_mapping(const char *path, const void *at, char protection[5], char name[256])
{
    for (char *line = strtok(read_all(path), "\n"); line; line = strtok(NULL, "\n")) {
        unsigned long start, end, offset, inode;
        char device[16];
        name[0] = 0;
        MUST(sscanf(line, "%lx-%lx %4s %lx %15s %lu %255[^\n]", &start, &end, protection, &offset, device, &inode, name) >= 6);
        if ((uintptr_t)at >= start && (uintptr_t)at < end)
            return true;
    }
    return false;
}

static int initialized = 4711;

/* /proc/self/maps shows the memory that is there, under its names. */
static void maps(void)
{
    static char *kept;
    if (!kept)
        kept = malloc(1000);
    char own[32], protection[5], name[256], exe[256] = { 0 };
    SAME(readlink("/proc/self/exe", exe, sizeof exe - 1) > 0, 1);
    snprintf(own, sizeof own, "/proc/%d/maps", getpid());
    const char *paths[] = { "/proc/self/maps", own, "/proc/thread-self/maps" };
    for (size_t i = 0; i < COUNT(paths); i++) {
        MUST(find_mapping(paths[i], &own, protection, name) && strcmp(protection, "rw-p") == 0);
        SAME(strcmp(name, "[stack]"), 0);
        MUST(find_mapping(paths[i], (void *)(uintptr_t)maps, protection, name) && strcmp(protection, "r-xp") == 0);
        SAME(strcmp(name, exe), 0);
        MUST(find_mapping(paths[i], &initialized, protection, name) && strcmp(protection, "rw-p") == 0);
        SAME(strcmp(name, exe), 0);
        MUST(find_mapping(paths[i], kept, protection, name));
        SAME(strcmp(name, "[heap]"), 0);
        char *area = mmap(NULL, 5 * PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        compute(0.005);
        MUST(find_mapping(paths[i], area, protection, name) && strcmp(protection, "r--p") == 0);
        SAME(mprotect(area, 5 * PAGE, PROT_NONE), 0);
        MUST(find_mapping(paths[i], area, protection, name) && strcmp(protection, "---p") == 0);
        SAME(munmap(area, 5 * PAGE), 0);
        MUST(!find_mapping(paths[i], area, protection, name));
    }
}

static const char *field(const char *text, const char *name)
{
    for (const char *line = text; line; line = strchr(line, '\n'), line = line ? line + 1 : NULL)
        if (strncmp(line, name, strlen(name)) == 0 && line[strlen(name)] == ':')
            return line + strlen(name) + 1;
    fail(__FILE__, __LINE__, "there is no line %s", name);
}

static void some_handler(int signal, siginfo_t *info, void *context)
{
    (void)signal, (void)info, (void)context;
}

/* /proc/self/status tells who it is and which signals it takes. */
static void status(void)
{
    handle(SIGUSR2, some_handler, 0);
    for (int round = 0; round < 10; round++) {
        const char *text = read_all("/proc/self/status");
        SAME(strncmp(field(text, "Name"), "\tprobe\n", 7), 0);
        SAME(atol(field(text, "Pid")), getpid());
        SAME(atol(field(text, "Tgid")), getpid());
        SAME(atol(field(text, "PPid")), getppid());
        SAME(atol(field(text, "Uid")), getuid());
        SAME(atol(field(text, "Threads")), 1);
        SAME(field(text, "State")[1], 'R');
        SAME(strtoul(field(text, "SigCgt"), NULL, 16) >> (SIGUSR2 - 1) & 1, 1);
        SAME(strtoul(field(text, "SigBlk"), NULL, 16), 0);
        MUST(atol(field(text, "VmRSS")) > 100 && atol(field(text, "VmSize")) > 1000);
        compute(0.01);
    }
    unhandle(SIGUSR2);
}

/* /proc/self/stat agrees with the calls. */
static void stat_line(void)
{
    for (int round = 0; round < 10; round++) {
        const char *text = read_all("/proc/self/stat");
        long user, system;
        int parent, group, session;
        char state;
        SAME(atol(text), getpid());
        SAME(strncmp(strchr(text, ' '), " (probe) ", 9), 0);
        MUST(sscanf(strrchr(text, ')'), ") %c %d %d %d %*d %*d %*u %*u %*u %*u %*u %ld %ld", &state, &parent, &group,
                    &session, &user, &system) == 6);
        SAME(state, 'R');
        SAME(parent, getppid());
        SAME(group, getpgrp());
        SAME(session, getsid(0));
        MUST(user + system <= clock() * 100 / CLOCKS_PER_SEC + 5);
        compute(0.01);
    }
}

/* Its name, its arguments, its surroundings. */
static void names(void)
{
    char exe[256] = { 0 }, again[256] = { 0 }, link[64];
    MUST(readlink("/proc/self/exe", exe, sizeof exe - 1) > 0);
    const char *base = strrchr(exe, '/');
    MUST(base && strcmp(base, "/probe") == 0);
    snprintf(link, sizeof link, "/proc/%d/exe", getpid());
    MUST(readlink(link, again, sizeof again - 1) > 0 && strcmp(exe, again) == 0);
    struct stat one, two;
    SAME(stat("/proc/self/exe", &one), 0);
    SAME(stat(exe, &two), 0);
    SAME(one.st_ino, two.st_ino);
    const char *arguments = read_all("/proc/self/cmdline");
    MUST(strstr(arguments, "probe"));
    SAME(strcmp(arguments + strlen(arguments) + 1, "names"), 0);
    SAME(strcmp(read_all("/proc/self/comm"), "probe\n"), 0);
    struct utsname system;
    SAME(uname(&system), 0);
    char host[256] = { 0 };
    SAME(gethostname(host, sizeof host - 1), 0);
    SAME(strcmp(host, system.nodename), 0);
    static char first_host[256];
    if (!first_host[0])
        strcpy(first_host, host);
    SAME(strcmp(host, first_host), 0);
    const char *found = read_all("/proc/sys/kernel/hostname");
    SAME(strncmp(found, host, strlen(host)), 0);
    compute(0.02);
}

/* Its open descriptors. */
static void open_files(void)
{
    char path[64], target[256] = { 0 };
    int file = open("/etc/passwd", O_RDONLY);
    snprintf(path, sizeof path, "/proc/self/fd/%d", file);
    compute(0.02);
    MUST(readlink(path, target, sizeof target - 1) > 0);
    SAME(strcmp(target, "/etc/passwd"), 0);
    SAME(lseek(file, 7, SEEK_SET), 7);
    snprintf(path, sizeof path, "/proc/self/fdinfo/%d", file);
    SAME(atol(field(read_all(path), "pos")), 7);
    SAME(close(file), 0);
}

/* Who it is never changes. */
static void identity(void)
{
    static pid_t pid, parent, group, session;
    if (!pid)
        pid = getpid(), parent = getppid(), group = getpgrp(), session = getsid(0);
    for (int i = 0; i < 20; i++) {
        SAME(getpid(), pid);
        SAME(gettid(), pid);
        SAME(getppid(), parent);
        SAME(getpgrp(), group);
        SAME(getsid(0), session);
        SAME(getuid(), geteuid());
        SAME(getpriority(PRIO_PROCESS, 0), 0);
        cpu_set_t set;
        SAME(sched_getaffinity(0, sizeof set, &set), 0);
        MUST(CPU_COUNT(&set) >= 1);
        compute(0.004);
    }
}

/* Limits that it sets hold from then on. */
static void limits(void)
{
    struct rlimit old, now_limited;
    SAME(getrlimit(RLIMIT_NOFILE, &old), 0);
    struct rlimit few = { .rlim_cur = 20, .rlim_max = old.rlim_max };
    SAME(setrlimit(RLIMIT_NOFILE, &few), 0);
    compute(0.01);
    int last = -1, file;
    while ((file = dup(0)) >= 0)
        last = file;
    SAME(errno, EMFILE);
    SAME(last, 19);
    SAME(setrlimit(RLIMIT_NOFILE, &old), 0);
    while (last > 2 && close(last) == 0)
        last--;
    SAME(getrlimit(RLIMIT_AS, &old), 0);
    struct rlimit little = { .rlim_cur = 200 * MIB, .rlim_max = old.rlim_max };
    SAME(setrlimit(RLIMIT_AS, &little), 0);
    REFUSED((long)mmap(NULL, 400 * MIB, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0), ENOMEM);
    compute(0.02);
    REFUSED((long)mmap(NULL, 400 * MIB, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0), ENOMEM);
    SAME(getrlimit(RLIMIT_AS, &now_limited), 0);
    SAME(now_limited.rlim_cur, 200 * MIB);
    SAME(setrlimit(RLIMIT_AS, &old), 0);
    compute(0.02);
    void *area = mmap(NULL, 400 * MIB, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    MUST(area != MAP_FAILED);
    SAME(munmap(area, 400 * MIB), 0);
}

const struct check self_checks[] = {
    { "maps", maps },           { "status", status },     { "stat-line", stat_line }, { "names", names },
    { "open-files", open_files }, { "identity", identity }, { "limits", limits },
    { 0 },
};
