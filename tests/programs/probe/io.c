/* Files, descriptors and directories. */
#include "probe.h"

#include <dirent.h>
#include <sys/eventfd.h>
#include <sys/file.h>
#include <sys/inotify.h>
#include <sys/socket.h>
#include <sys/uio.h>

/* A file's position, size and content after writes and reads of all kinds. */
static void positions(void)
{
    int file = scratch_file();
    char bytes[1000], found[1000];
    for (uint64_t i = 0; i < 40; i++) {
        fill(bytes, sizeof bytes, i);
        SAME(write(file, bytes, sizeof bytes), sizeof bytes);
    }
    SAME(lseek(file, 0, SEEK_CUR), 40 * 1000);
    for (int round = 0; round < 60; round++) {
        uint64_t i = random_below(40);
        if (round % 8 == 0)
            compute(0.002);
        SAME(lseek(file, (off_t)i * 1000, SEEK_SET), (off_t)i * 1000);
        SAME(read(file, found, sizeof found), sizeof found);
        MUST(is_filled(found, sizeof found, i));
        SAME(lseek(file, 0, SEEK_CUR), (off_t)i * 1000 + 1000);
        SAME(pread(file, found, 500, (off_t)i * 1000), 500);
        MUST(is_filled(found, 496, i));
    }
    SAME(lseek(file, 0, SEEK_END), 40000);
    SAME(read(file, found, sizeof found), 0);
    SAME(ftruncate(file, 12345), 0);
    struct stat data;
    SAME(fstat(file, &data), 0);
    SAME(data.st_size, 12345);
    int same = dup(file);
    SAME(lseek(same, 5, SEEK_SET), 5);
    SAME(lseek(file, 0, SEEK_CUR), 5);
    SAME(close(same), 0);
    SAME(close(file), 0);
}

/* Several buffers at once. */
static void vectors(void)
{
    int file = scratch_file();
    char *one = malloc(100000), *two = malloc(5), *three = malloc(3 * MIB);
    fill(one, 100000, 1);
    fill(two, 5, 2);
    fill(three, 3 * MIB, 3);
    const struct iovec parts[] = { { one, 100000 }, { NULL, 0 }, { two, 5 }, { three, 3 * MIB } };
    const ssize_t total = 100005 + 3 * (ssize_t)MIB;
    SAME(writev(file, parts, 4), total);
    SAME(pwritev(file, parts, 4, total), total);
    memset(one, 0, 100000), memset(two, 0, 5), memset(three, 0, 3 * MIB);
    SAME(preadv(file, parts, 4, total), total);
    MUST(is_filled(one, 100000, 1) && is_filled(two, 5, 2) && is_filled(three, 3 * MIB, 3));
    memset(one, 0, 100000), memset(two, 0, 5), memset(three, 0, 3 * MIB);
    SAME(lseek(file, 0, SEEK_SET), 0);
    SAME(readv(file, parts, 4), total);
    MUST(is_filled(one, 100000, 1) && is_filled(two, 5, 2) && is_filled(three, 3 * MIB, 3));
    free(one), free(two), free(three);
    SAME(close(file), 0);
}

/* Reads and writes of more than eight megabytes. */
static void big(void)
{
    const size_t length = 20 * MIB + 77;
    int file = scratch_file();
    char *bytes = malloc(length);
    fill(bytes, length, 8);
    SAME(write(file, bytes, length), (ssize_t)length);
    memset(bytes, 0, length);
    SAME(lseek(file, 0, SEEK_SET), 0);
    SAME(read(file, bytes, length + 100), (ssize_t)length);
    MUST(is_filled(bytes, length, 8));
    SAME(pwrite(file, bytes, length, 10), (ssize_t)length);
    memset(bytes, 0, length);
    SAME(pread(file, bytes, length, 10), (ssize_t)length);
    MUST(is_filled(bytes, length, 8));
    free(bytes);
    SAME(close(file), 0);
}

/* Descriptors that do not wait. */
static void without_waiting(void)
{
    int ends[2];
    SAME(pipe2(ends, O_NONBLOCK | O_CLOEXEC), 0);
    char bytes[PAGE], byte;
    REFUSED(read(ends[0], bytes, sizeof bytes), EAGAIN);
    size_t total = 0;
    ssize_t some;
    memset(bytes, 'a', sizeof bytes);
    while ((some = write(ends[1], bytes, sizeof bytes)) > 0)
        total += (size_t)some;
    SAME(errno, EAGAIN);
    SAME(total, fcntl(ends[1], F_GETPIPE_SZ));
    compute(0.02);
    size_t found = 0;
    while ((some = read(ends[0], bytes, sizeof bytes)) > 0)
        found += (size_t)some;
    SAME(errno, EAGAIN);
    SAME(found, total);
    SAME(fcntl(ends[0], F_GETFL) & O_NONBLOCK, O_NONBLOCK);
    SAME(fcntl(ends[0], F_GETFD), FD_CLOEXEC);
    SAME(close(ends[1]), 0);
    SAME(read(ends[0], &byte, 1), 0);
    SAME(close(ends[0]), 0);
}

static int count_entries(const char *path)
{
    DIR *directory = opendir(path);
    MUST(directory);
    int entries = 0;
    while (readdir(directory))
        entries++;
    SAME(closedir(directory), 0);
    return entries;
}

/* Names come and go. */
static void directories(void)
{
    char names[40][32], path[256];
    SAME(mkdir(scratch_name("directory"), 0700), 0);
    int directory = open(scratch_name("directory"), O_RDONLY | O_DIRECTORY);
    MUST(directory >= 0);
    for (int i = 0; i < 40; i++) {
        snprintf(names[i], sizeof names[i], "a file called number %d", i);
        int file = openat(directory, names[i], O_CREAT | O_EXCL | O_WRONLY, 0640);
        MUST(file >= 0);
        SAME(write(file, names[i], strlen(names[i])), (ssize_t)strlen(names[i]));
        SAME(close(file), 0);
    }
    SAME(count_entries(scratch_name("directory")), 42);
    compute(0.02);
    struct stat data;
    SAME(fstatat(directory, names[17], &data, 0), 0);
    SAME(data.st_size, (off_t)strlen(names[17]));
    SAME(data.st_mode & 0777, 0640);
    SAME(renameat(directory, names[3], directory, "other"), 0);
    SAME(symlinkat("other", directory, "link"), 0);
    SAME(readlinkat(directory, "link", path, sizeof path), 5);
    SAME(memcmp(path, "other", 5), 0);
    SAME(linkat(directory, "other", directory, names[3], 0), 0);
    SAME(unlinkat(directory, "other", 0), 0);
    REFUSED(openat(directory, "link", O_RDONLY), ENOENT);
    SAME(unlinkat(directory, "link", 0), 0);
    char before[PATH_MAX], inside[PATH_MAX];
    MUST(getcwd(before, sizeof before));
    SAME(fchdir(directory), 0);
    compute(0.02);
    MUST(getcwd(inside, sizeof inside) && strcmp(inside, scratch_name("directory")) == 0);
    SAME(access("a file called number 5", R_OK), 0);
    SAME(chdir(before), 0);
    for (int i = 0; i < 40; i++)
        SAME(unlinkat(directory, names[i], 0), 0);
    SAME(close(directory), 0);
    SAME(rmdir(scratch_name("directory")), 0);
}

/* Notices of changes. */
static void notices(void)
{
    int notice = inotify_init1(IN_CLOEXEC);
    SAME(mkdir(scratch_name("watched"), 0700), 0);
    int watch = inotify_add_watch(notice, scratch_name("watched"), IN_CREATE | IN_DELETE);
    MUST(watch >= 0);
    int file = open(scratch_name("watched/file"), O_CREAT | O_WRONLY, 0600);
    SAME(close(file), 0);
    compute(0.02);
    SAME(unlink(scratch_name("watched/file")), 0);
    char events[4096] __attribute__((aligned(8)));
    ssize_t length = read(notice, events, sizeof events);
    MUST(length > 0);
    struct inotify_event *event = (struct inotify_event *)events;
    SAME(event->mask, IN_CREATE);
    SAME(strcmp(event->name, "file"), 0);
    event = (struct inotify_event *)(events + sizeof *event + event->len);
    SAME(event->mask, IN_DELETE);
    SAME(close(notice), 0);
    SAME(rmdir(scratch_name("watched")), 0);
}

/* The descriptor numbers are the lowest free ones, duplicates share, and limits hold. */
static void descriptors(void)
{
    int first = open("/dev/null", O_RDWR), second = open("/dev/zero", O_RDONLY);
    SAME(second, first + 1);
    SAME(close(first), 0);
    compute(0.02);
    SAME(open("/dev/null", O_RDWR), first);
    SAME(dup2(second, 77), 77);
    char bytes[100];
    memset(bytes, 1, sizeof bytes);
    SAME(read(77, bytes, sizeof bytes), sizeof bytes);
    MUST(is_zero(bytes, sizeof bytes));
    SAME(fcntl(first, F_DUPFD, 90), 90);
    SAME(write(90, bytes, sizeof bytes), sizeof bytes);
    int event = eventfd(5, EFD_NONBLOCK);
    uint64_t value;
    SAME(read(event, &value, 8), 8);
    SAME(value, 5);
    compute(0.02);
    REFUSED(read(event, &value, 8), EAGAIN);
    SAME(close(event), 0);
    SAME(close(first), 0);
    SAME(close(second), 0);
    SAME(close(77), 0);
    SAME(close(90), 0);
    REFUSED(close(90), EBADF);
}

/* Descriptors travel through sockets. */
static void passed(void)
{
    int ends[2], file = scratch_file();
    SAME(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, ends), 0);
    SAME(write(file, "inside", 6), 6);
    char text[] = "here it is", found[32], room[CMSG_SPACE(sizeof(int))];
    struct iovec part = { text, sizeof text };
    struct msghdr message = { .msg_iov = &part, .msg_iovlen = 1, .msg_control = room, .msg_controllen = sizeof room };
    struct cmsghdr *header = CMSG_FIRSTHDR(&message);
    *header = (struct cmsghdr){ .cmsg_len = CMSG_LEN(sizeof(int)), .cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS };
    memcpy(CMSG_DATA(header), &file, sizeof file);
    SAME(sendmsg(ends[0], &message, 0), sizeof text);
    SAME(close(file), 0);
    compute(0.02);
    struct iovec into = { found, sizeof found };
    message = (struct msghdr){ .msg_iov = &into, .msg_iovlen = 1, .msg_control = room, .msg_controllen = sizeof room };
    SAME(recvmsg(ends[1], &message, 0), sizeof text);
    SAME(strcmp(found, text), 0);
    header = CMSG_FIRSTHDR(&message);
    MUST(header && header->cmsg_type == SCM_RIGHTS);
    memcpy(&file, CMSG_DATA(header), sizeof file);
    SAME(pread(file, found, sizeof found, 0), 6);
    SAME(memcmp(found, "inside", 6), 0);
    SAME(close(file), 0);
    SAME(close(ends[0]), 0);
    SAME(close(ends[1]), 0);
}

const struct check io_checks[] = {
    { "positions", positions },
    { "vectors", vectors },
    { "big-transfers", big },
    { "without-waiting", without_waiting },
    { "directories", directories },
    { "notices", notices },
    { "descriptors", descriptors },
    { "passed-descriptors", passed },
    { 0 },
};
