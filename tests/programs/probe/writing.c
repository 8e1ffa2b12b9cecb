/* Files that are written in order, as fast as it goes: what was written is there for whoever looks afterwards. */
#include "probe.h"

#include <sys/resource.h>

/* Lengths of writes, from what a line needs to more than goes at once. */
static const size_t lengths[] = { 1, 30, 80, 80, 80, 700, 4096, 4096, 4096, 20000, 40000, 131072, 300000, 1200000, 5000000 };

static char *buffer, *found;

static void begin(void)
{
    buffer = malloc(5000000), found = malloc(5000000);
    MUST(buffer && found);
}

static void end(void)
{
    free(buffer), free(found);
}

/* Writes a piece at the end; the buffer is somebody else's right afterwards. */
static size_t write_one(int file, uint64_t tag, size_t most)
{
    size_t length = lengths[random_below(COUNT(lengths))];
    length = length > most ? most : length;
    fill(buffer, length, tag);
    SAME(write(file, buffer, length), length);
    memset(buffer, 0xee, length);
    return length;
}

static off_t size_of(int file)
{
    struct stat status;
    SAME(fstat(file, &status), 0);
    return status.st_size;
}

/* Every piece is where it belongs, by every way to look at it. */
static void in_order(void)
{
    begin();
    const char *name = scratch_name("written");
    int file = open(name, O_RDWR | O_CREAT | O_TRUNC, 0600), other = open(name, O_RDONLY);
    MUST(file >= 0 && other >= 0);
    size_t total = 0, starts[400], sizes[400];
    const int pieces = 60 + (int)random_below(40);
    for (int i = 0; i < pieces; i++) {
        starts[i] = total, sizes[i] = write_one(file, (uint64_t)i, 1300000);
        total += sizes[i];
        if (random_below(8) == 0)
            compute(0.003);
        if (random_below(10) == 0)
            SAME(size_of(other), total);
        if (random_below(10) == 0) {
            SAME(pread(other, found, sizes[i], (off_t)starts[i]), sizes[i]);
            MUST(is_filled(found, sizes[i], (uint64_t)i));
        }
        if (random_below(20) == 0)
            SAME(lseek(file, 0, SEEK_CUR), total);
    }
    SAME(size_of(other), total);
    for (int i = 0; i < pieces; i++) {
        SAME(pread(other, found, sizes[i], (off_t)starts[i]), sizes[i]);
        MUST(is_filled(found, sizes[i], (uint64_t)i));
    }
    /* Over what is there, and behind a new end. */
    SAME(lseek(file, 5, SEEK_SET), 5);
    size_t again = 5;
    for (int i = 0; i < 20; i++)
        again += write_one(file, 1000 + (uint64_t)i, 20000);
    SAME(ftruncate(file, 100), 0);
    size_t behind = write_one(file, 7, 4096);
    SAME(size_of(file), again + behind);
    SAME(pread(file, found, behind, (off_t)again), behind);
    MUST(is_filled(found, behind, 7));
    SAME(close(file), 0);
    SAME(close(other), 0);
    SAME(unlink(name), 0);
    end();
}

/* Two processes that write to the same file in turns: who has been told goes on behind what was written. */
static void in_turns(void)
{
    begin();
    const char *name = scratch_name("turns");
    int file = open(name, O_WRONLY | O_CREAT | O_TRUNC | (random_below(2) ? O_APPEND : 0), 0600);
    int there[2], back[2];
    MUST(file >= 0 && pipe(there) == 0 && pipe(back) == 0);
    const int rounds = 12, each = 8;
    fflush(stdout);
    pid_t child = fork();
    MUST(child >= 0);
    int in = child ? back[0] : there[0], out = child ? there[1] : back[1];
    char token = 0;
    for (int round = 0; round < rounds; round++) {
        if (child == 0 || round > 0) {
            SAME(read(in, &token, 1), 1);
            SAME(size_of(file), (off_t)PAGE * each * (2 * round + (child == 0 ? 1 : 0)));
        }
        for (int i = 0; i < each; i++) {
            fill(buffer, PAGE, (uint64_t)(2 * round + (child == 0)) * 100 + (uint64_t)i);
            SAME(write(file, buffer, PAGE), PAGE);
            memset(buffer, 0xee, PAGE);
        }
        SAME(write(out, &token, 1), 1);
    }
    if (child == 0)
        _exit(0);
    end_child(child, 0);
    int look = open(name, O_RDONLY);
    for (int turn = 0; turn < 2 * rounds; turn++)
        for (int i = 0; i < each; i++) {
            SAME(read(look, found, PAGE), PAGE);
            MUST(is_filled(found, PAGE, (uint64_t)turn * 100 + (uint64_t)i));
        }
    SAME(read(look, found, 1), 0);
    SAME(close(look), 0);
    SAME(close(file), 0);
    SAME(unlink(name), 0);
    for (int i = 0; i < 2; i++) {
        SAME(close(there[i]), 0);
        SAME(close(back[i]), 0);
    }
    end();
}

/* The limit of a file's size is met to the byte, whenever it was set. */
static void up_to_a_limit(void)
{
    begin();
    struct rlimit before, limit;
    SAME(getrlimit(RLIMIT_FSIZE, &before), 0);
    signal(SIGXFSZ, SIG_IGN);
    limit = before, limit.rlim_cur = 300000 + random_below(1000);
    int file = scratch_file();
    off_t total = 0;
    for (int i = 0; i < 10; i++)
        total += (off_t)write_one(file, 1, 4096);
    SAME(setrlimit(RLIMIT_FSIZE, &limit), 0);
    memset(buffer, 1, 8192);
    while (total + 8192 <= (off_t)limit.rlim_cur) {
        SAME(write(file, buffer, 8192), 8192);
        total += 8192;
    }
    SAME(write(file, buffer, 8192), (off_t)limit.rlim_cur - total);
    REFUSED(write(file, buffer, 1), EFBIG);
    SAME(size_of(file), limit.rlim_cur);
    SAME(setrlimit(RLIMIT_FSIZE, &before), 0);
    SAME(write(file, buffer, 10), 10);
    signal(SIGXFSZ, SIG_DFL);
    SAME(close(file), 0);
    end();
}

/* A buffer that ends too early, in the middle of many that do not. */
static void from_bad_buffers(void)
{
    begin();
    int file = scratch_file();
    char *area = mmap(NULL, 200 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    MUST(area != MAP_FAILED);
    SAME(munmap(area + 100 * PAGE, 100 * PAGE), 0);
    fill(area, 100 * PAGE, 3);
    off_t total = 0;
    for (int i = 0; i < 12; i++) {
        SAME(write(file, area, 100 * PAGE), 100 * PAGE);
        total += 100 * (off_t)PAGE;
        REFUSED(write(file, (void *)16, 100), EFAULT);
        REFUSED(write(file, area + 100 * PAGE, PAGE), EFAULT);
        ssize_t some = write(file, area + 50 * PAGE, 100 * PAGE);
        MUST(some > 0 && some <= 50 * (ssize_t)PAGE);
        total += some;
        SAME(size_of(file), total);
    }
    SAME(munmap(area, 100 * PAGE), 0);
    SAME(close(file), 0);
    end();
}

/* The number of a file that is written to passes to a pipe, which takes what it has room for and not more. */
static void to_another_file(void)
{
    begin();
    const char *name = scratch_name("fifo");
    SAME(mkfifo(name, 0600), 0);
    for (int round = 0; round < 20; round++) {
        int one = scratch_file(), other = scratch_file();
        for (int i = 0; i < 6; i++) {
            fill(buffer, PAGE, (uint64_t)i);
            SAME(write(one, buffer, PAGE), PAGE);
            SAME(write(other, buffer, PAGE), PAGE);
        }
        SAME(close(one), 0);
        int fifo = open(name, O_RDWR | O_NONBLOCK);
        SAME(fifo, one);
        for (int i = 0; i < 16; i++)
            SAME(write(fifo, buffer, PAGE), PAGE);
        REFUSED(write(fifo, buffer, PAGE), EAGAIN);
        SAME(write(other, buffer, PAGE), PAGE);
        SAME(size_of(other), 7 * PAGE);
        SAME(close(fifo), 0);
        SAME(close(other), 0);
    }
    SAME(unlink(name), 0);
    end();
}

struct writer {
    int file;
    int ready;
};

static void write_on(void *with)
{
    const struct writer *writer = with;
    char bytes[20000];
    memset(bytes, 5, sizeof bytes);
    for (int i = 0; i < 5; i++)
        SAME(write(writer->file, bytes, sizeof bytes), sizeof bytes);
    SAME(write(writer->ready, "", 1), 1);
    for (;;)
        if (write(writer->file, bytes, sizeof bytes) != sizeof bytes || lseek(writer->file, 0, SEEK_CUR) > 200000000)
            _exit(9);
}

/* Of a process that has been stopped, or is no more, nothing is written any more. */
static void stopped_and_killed(void)
{
    int file = scratch_file(), ready[2], status;
    char byte;
    MUST(pipe(ready) == 0);
    struct writer writer = { file, ready[1] };
    pid_t child = start_child(write_on, &writer);
    SAME(read(ready[0], &byte, 1), 1);
    for (int i = 0; i < 5; i++) {
        rest(0.002);
        SAME(kill(child, SIGSTOP), 0);
        SAME(waitpid(child, &status, WUNTRACED), child);
        MUST(WIFSTOPPED(status));
        off_t size = size_of(file);
        rest(0.02);
        SAME(size_of(file), size);
        SAME(kill(child, SIGCONT), 0);
    }
    SAME(kill(child, SIGKILL), 0);
    SAME(waitpid(child, &status, 0), child);
    MUST(WIFSIGNALED(status));
    off_t size = size_of(file);
    rest(0.02);
    SAME(size_of(file), size);
    SAME(close(file), 0);
    SAME(close(ready[0]), 0);
    SAME(close(ready[1]), 0);
}

const struct check writing_checks[] = {
    { "written-in-order", in_order },
    { "written-in-turns", in_turns },
    { "written-up-to-a-limit", up_to_a_limit },
    { "written-from-bad-buffers", from_bad_buffers },
    { "written-to-another-file", to_another_file },
    { "written-until-stopped", stopped_and_killed },
    { 0 },
};
