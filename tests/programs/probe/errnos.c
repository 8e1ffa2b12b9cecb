/* Calls that fail, and how. */
#include "probe.h"

#include <sys/socket.h>
#include <sys/uio.h>
#include <sys/un.h>

static void *volatile nowhere = (void *)16;

/* Addresses that are none. */
static void bad_addresses(void)
{
    int ends[2], file = open("/etc/passwd", O_RDONLY);
    SAME(pipe(ends), 0);
    char *edge = mmap(NULL, 2 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    SAME(munmap(edge + PAGE, PAGE), 0);
    for (int i = 0; i < 5; i++) {
        REFUSED(write(ends[1], nowhere, 10), EFAULT);
        REFUSED(read(file, nowhere, 10), EFAULT);
        REFUSED(open(nowhere, O_RDONLY), EFAULT);
        REFUSED(syscall(SYS_stat, "/etc", nowhere), EFAULT);
        REFUSED(syscall(SYS_newfstatat, AT_FDCWD, nowhere, nowhere, 0), EFAULT);
        REFUSED(syscall(SYS_poll, nowhere, 1, 0), EFAULT);
        REFUSED(syscall(SYS_nanosleep, nowhere, NULL), EFAULT);
        REFUSED(syscall(SYS_pipe, nowhere), EFAULT);
        REFUSED(syscall(SYS_uname, nowhere), EFAULT);
        REFUSED(syscall(SYS_rt_sigaction, SIGUSR1, nowhere, NULL, 8), EFAULT);
        REFUSED(syscall(SYS_rt_sigprocmask, SIG_BLOCK, nowhere, NULL, 8), EFAULT);
        REFUSED(syscall(SYS_getcwd, nowhere, 100), EFAULT);
        REFUSED(syscall(SYS_getrusage, 0, nowhere), EFAULT);
        REFUSED(syscall(SYS_clock_gettime, CLOCK_PROCESS_CPUTIME_ID, nowhere), EFAULT);
        REFUSED(syscall(SYS_sigaltstack, nowhere, NULL), EFAULT);
        REFUSED(syscall(SYS_execve, nowhere, NULL, NULL), EFAULT);
        struct iovec parts[] = { { edge, 8 }, { nowhere, 8 } };
        REFUSED(readv(file, parts + 1, 1), EFAULT);
        /* What lies before the edge is transferred. */
        memset(edge, 'e', PAGE);
        SAME(write(ends[1], edge + PAGE - 8, 8), 8);
        char bytes[16];
        SAME(read(ends[0], bytes, 16), 8);
        compute(0.005);
    }
    SAME(munmap(edge, PAGE), 0);
    SAME(close(file), 0);
    SAME(close(ends[0]), 0);
    SAME(close(ends[1]), 0);
}

/* Descriptors and paths that are none, or of another kind. */
static void bad_names(void)
{
    char bytes[16], longest[5000];
    memset(longest, 'x', sizeof longest - 1);
    longest[sizeof longest - 1] = 0;
    struct stat data;
    for (int i = 0; i < 5; i++) {
        REFUSED(read(99, bytes, 1), EBADF);
        REFUSED(write(99, bytes, 1), EBADF);
        REFUSED(close(99), EBADF);
        REFUSED(dup(99), EBADF);
        REFUSED(fstat(99, &data), EBADF);
        REFUSED(lseek(99, 0, SEEK_SET), EBADF);
        REFUSED((long)mmap(NULL, PAGE, PROT_READ, MAP_PRIVATE, 99, 0), EBADF);
        REFUSED(open("/no/such/file", O_RDONLY), ENOENT);
        REFUSED(open("/etc/passwd/under", O_RDONLY), ENOTDIR);
        REFUSED(open("/etc", O_WRONLY), EISDIR);
        REFUSED(open("/etc/passwd", O_CREAT | O_EXCL, 0600), EEXIST);
        REFUSED(open(longest, O_RDONLY), ENAMETOOLONG);
        REFUSED(open("", O_RDONLY), ENOENT);
        REFUSED(mkdir("/etc", 0700), EEXIST);
        REFUSED(rmdir("/etc"), ENOTEMPTY);
        REFUSED(readlink("/etc", bytes, sizeof bytes), EINVAL);
        REFUSED(chdir("/etc/passwd"), ENOTDIR);
        REFUSED(kill(999999999, SIGTERM), ESRCH);
        REFUSED(kill(getpid(), 99), EINVAL);
        compute(0.005);
    }
}

/* Arguments that make no sense, and calls that are none. */
static void bad_arguments(void)
{
    int ends[2], status;
    SAME(pipe(ends), 0);
    char bytes[16];
    struct sigaction ignore = { .sa_handler = SIG_IGN };
    SAME(sigaction(SIGPIPE, &ignore, NULL), 0);
    for (int i = 0; i < 5; i++) {
        REFUSED(lseek(ends[0], 0, SEEK_SET), ESPIPE);
        REFUSED(pread(ends[0], bytes, 1, 0), ESPIPE);
        REFUSED(waitpid(-1, &status, 0), ECHILD);
        REFUSED(syscall(SYS_nanosleep, &(struct timespec){ .tv_nsec = 2000000000 }, NULL), EINVAL);
        REFUSED(munmap((void *)3, PAGE), EINVAL);
        REFUSED(mprotect((void *)PAGE, PAGE, PROT_READ), ENOMEM);
        REFUSED((long)mmap(NULL, 0, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0), EINVAL);
        REFUSED((long)mremap((void *)(PAGE * 16), PAGE, 2 * PAGE, 0), EFAULT);
        REFUSED(socket(77, 1, 0), EAFNOSUPPORT);
        REFUSED(syscall(SYS_rt_sigaction, SIGKILL, NULL, NULL, 4), EINVAL);
        REFUSED(syscall(1000), ENOSYS);
        REFUSED(syscall(999999), ENOSYS);
        REFUSED(syscall(SYS_futex, &status, 99, 0, NULL, NULL, 0), ENOSYS);
        REFUSED(fcntl(ends[0], 4444), EINVAL);
        REFUSED(execl("/etc/passwd", "passwd", NULL), EACCES);
        REFUSED(execl("/no/such/program", "x", NULL), ENOENT);
        int other[2];
        SAME(pipe(other), 0);
        SAME(close(other[0]), 0);
        REFUSED(write(other[1], bytes, 1), EPIPE);
        SAME(close(other[1]), 0);
        struct sockaddr_un address = { .sun_family = AF_UNIX, .sun_path = "/no/such/socket" };
        int end = socket(AF_UNIX, SOCK_STREAM, 0);
        REFUSED(connect(end, (struct sockaddr *)&address, sizeof address), ENOENT);
        SAME(close(end), 0);
        compute(0.005);
    }
    unhandle(SIGPIPE);
    SAME(close(ends[0]), 0);
    SAME(close(ends[1]), 0);
}

const struct check errno_checks[] = {
    { "bad-addresses", bad_addresses },
    { "bad-names", bad_names },
    { "bad-arguments", bad_arguments },
    { 0 },
};
