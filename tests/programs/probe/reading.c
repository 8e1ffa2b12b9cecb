/* Files that are read from their beginning on, while others change them or move the position. */
#include "probe.h"

#include <sys/socket.h>
#include <sys/uio.h>

#define BLOCK (128ul << 10)
#define BLOCKS 24ul
/* So many blocks are read in order before something else happens. */
#define BEFORE 12ul

/* What another process is asked to do with the file, and who does it. */
struct order {
    char what;
    uint64_t block, tag;
};

static struct {
    pid_t process;
    int orders, answers;
    char path[600], block[BLOCK];
} other, own;

static uint64_t tag_of(uint64_t block, uint64_t tag)
{
    return tag << 40 | block << 20;
}

static void change(const struct order *order)
{
    int file = open(own.path, order->what == 't' ? O_RDONLY : O_WRONLY);
    MUST(file >= 0);
    fill(own.block, BLOCK, tag_of(order->block, order->tag));
    if (order->what == 't')
        SAME(truncate(own.path, (off_t)(order->block * BLOCK + order->tag)), 0);
    else
        SAME(pwrite(file, own.block, BLOCK, (off_t)(order->block * BLOCK)), BLOCK);
    SAME(close(file), 0);
}

static void obey(void *unused)
{
    (void)unused;
    struct order order;
    while (read(other.orders, &order, sizeof order) == sizeof order) {
        change(&order);
        SAME(write(other.answers, &order.what, 1), 1);
    }
}

static void have(char what, uint64_t block, uint64_t tag)
{
    struct order order = { what, block, tag };
    char answer;
    SAME(write(other.orders, &order, sizeof order), sizeof order);
    SAME(read(other.answers, &answer, 1), 1);
    SAME(answer, what);
}

/* A file of BLOCKS blocks, and a process that changes it when it is told to. */
static void begin(void)
{
    snprintf(own.path, sizeof own.path, "%s", scratch_name("read"));
    int file = open(own.path, O_CREAT | O_WRONLY | O_TRUNC, 0600);
    MUST(file >= 0);
    for (uint64_t i = 0; i < BLOCKS; i++) {
        fill(own.block, BLOCK, tag_of(i, 0));
        SAME(write(file, own.block, BLOCK), BLOCK);
    }
    SAME(close(file), 0);
    int orders[2], answers[2];
    SAME(pipe2(orders, O_CLOEXEC) | pipe2(answers, O_CLOEXEC), 0);
    other.orders = orders[0], other.answers = answers[1];
    fflush(stdout);
    other.process = fork();
    MUST(other.process >= 0);
    if (other.process == 0) {
        close(orders[1]), close(answers[0]);
        obey(NULL);
        _exit(0);
    }
    close(orders[0]), close(answers[1]);
    other.orders = orders[1], other.answers = answers[0];
}

static void end(void)
{
    SAME(close(other.orders) | close(other.answers), 0);
    end_child(other.process, 0);
    SAME(unlink(own.path), 0);
}

static void read_block(int file, uint64_t block, uint64_t tag)
{
    SAME(read(file, own.block, BLOCK), BLOCK);
    MUST(is_filled(own.block, BLOCK, tag_of(block, tag)));
}

static int open_and_read(uint64_t blocks)
{
    /* With its own time away from home before. */
    compute(0.06);
    int file = open(own.path, O_RDONLY);
    MUST(file >= 0);
    for (uint64_t i = 0; i < blocks; i++)
        read_block(file, i, 0);
    return file;
}

/* What somebody else writes is read at once, whenever that is. */
static void changed(void)
{
    begin();
    for (uint64_t round = 1; round < 4; round++) {
        int file = open_and_read(BEFORE);
        for (uint64_t i = BEFORE; i < BLOCKS; i++) {
            if ((i + round) % 3 == 0)
                have('w', i, round);
            read_block(file, i, (i + round) % 3 == 0 ? round : 0);
        }
        SAME(read(file, own.block, BLOCK), 0);
        SAME(close(file), 0);
        for (uint64_t i = BEFORE; i < BLOCKS; i++)
            have('w', i, 0);
    }
    end();
}

/* It ends where it ends, when it is read. */
static void cut_short(void)
{
    begin();
    int file = open_and_read(BEFORE);
    memset(own.block, 7, BLOCK);
    have('t', BEFORE, 1000);
    char *untouched = own.block + 1000;
    SAME(read(file, own.block, BLOCK), 1000);
    MUST(is_filled(own.block, 1000, tag_of(BEFORE, 0)));
    for (size_t i = 0; i < BLOCK - 1000; i++)
        SAME(untouched[i], 7);
    SAME(read(file, own.block, BLOCK), 0);
    have('w', BEFORE, 5);
    SAME(read(file, own.block, BLOCK), BLOCK - 1000);
    fill(own.block + BLOCK - 1000, 1000, 0);
    SAME(lseek(file, (off_t)(BEFORE * BLOCK), SEEK_SET), BEFORE * BLOCK);
    read_block(file, BEFORE, 5);
    SAME(close(file), 0);
    /* And one that ends within a block. */
    have('t', BEFORE, 77);
    file = open_and_read(BEFORE);
    SAME(read(file, own.block, BLOCK), 77);
    SAME(read(file, own.block, BLOCK), 0);
    SAME(close(file), 0);
    end();
}

/* The position is where whoever has the descriptor has moved it. */
static void moved(void)
{
    begin();
    int file = open_and_read(BEFORE);
    SAME(lseek(file, 0, SEEK_CUR), BEFORE * BLOCK);
    read_block(file, BEFORE, 0);
    SAME(lseek(file, -2 * (off_t)BLOCK, SEEK_CUR), (BEFORE - 1) * BLOCK);
    for (uint64_t i = BEFORE - 1; i < BEFORE + 9; i++)
        read_block(file, i, 0);
    SAME(pread(file, own.block, BLOCK, 0), BLOCK);
    MUST(is_filled(own.block, BLOCK, tag_of(0, 0)));
    read_block(file, BEFORE + 9, 0);
    SAME(close(file), 0);

    /* By another descriptor of the same opening. */
    file = open_and_read(BEFORE);
    int same = dup(file);
    SAME(lseek(same, (off_t)(3 * BLOCK), SEEK_SET), 3 * BLOCK);
    read_block(file, 3, 0);
    read_block(same, 4, 0);
    SAME(close(same), 0);
    /* Several buffers at once. */
    char *half = own.block + BLOCK / 2;
    struct iovec parts[] = { { half, BLOCK / 2 }, { own.block, BLOCK / 2 } };
    for (uint64_t i = 5; i < 5 + BEFORE; i++)
        read_block(file, i, 0);
    SAME(readv(file, parts, 2), BLOCK);
    read_block(file, 6 + BEFORE, 0);
    SAME(close(file), 0);

    /* By a child. */
    file = open_and_read(BEFORE);
    fflush(stdout);
    pid_t child = fork();
    MUST(child >= 0);
    if (child == 0) {
        read_block(file, BEFORE, 0);
        read_block(file, BEFORE + 1, 0);
        _exit(0);
    }
    end_child(child, 0);
    read_block(file, BEFORE + 2, 0);
    SAME(close(file), 0);

    /* Another file gets the number. */
    file = open_and_read(BEFORE);
    int second = open(own.path, O_RDONLY);
    SAME(dup2(second, file), file);
    read_block(file, 0, 0);
    SAME(close(second), 0);
    SAME(close(file), 0);
    file = open_and_read(BEFORE);
    SAME(close(file), 0);
    SAME(open("/dev/zero", O_RDONLY), file);
    SAME(read(file, own.block, BLOCK), BLOCK);
    MUST(is_zero(own.block, BLOCK));
    SAME(close(file), 0);
    end();
}

/* The program itself opens a file to write that it reads. */
static void written(void)
{
    begin();
    int file = open_and_read(BEFORE);
    struct order order = { 'w', BEFORE, 9 };
    change(&order);
    read_block(file, BEFORE, 9);
    int writer = open(own.path, O_WRONLY | O_NONBLOCK);
    MUST(writer >= 0);
    SAME(close(file), 0);
    file = open_and_read(BEFORE);
    fill(own.block, BLOCK, tag_of(BEFORE, 10));
    SAME(pwrite(writer, own.block, BLOCK, (off_t)(BEFORE * BLOCK)), BLOCK);
    read_block(file, BEFORE, 10);
    SAME(close(writer), 0);
    SAME(close(file), 0);
    file = open_and_read(BEFORE);
    writer = open(own.path, O_WRONLY | O_NONBLOCK);
    MUST(writer >= 0);
    fill(own.block, BLOCK, tag_of(BEFORE, 11));
    SAME(pwrite(writer, own.block, BLOCK, (off_t)(BEFORE * BLOCK)), BLOCK);
    read_block(file, BEFORE, 11);
    SAME(close(writer), 0);
    SAME(close(file), 0);
    end();
}

/* A buffer that is no memory, and one at the end of memory. */
static void bad_buffers(void)
{
    begin();
    int file = open_and_read(BEFORE);
    REFUSED(read(file, (void *)16, BLOCK), EFAULT);
    read_block(file, BEFORE, 0);
    char *area = mmap(NULL, 2 * BLOCK, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    MUST(area != MAP_FAILED);
    SAME(munmap(area + BLOCK, BLOCK), 0);
    SAME(read(file, area, BLOCK), BLOCK);
    MUST(is_filled(area, BLOCK, tag_of(BEFORE + 1, 0)));
    read_block(file, BEFORE + 2, 0);
    SAME(munmap(area, BLOCK), 0);
    SAME(close(file), 0);
    end();
}

const struct check reading_checks[] = {
    { "read-and-changed", changed },
    { "read-and-cut-short", cut_short },
    { "read-and-moved", moved },
    { "read-and-written", written },
    { "read-to-bad-buffers", bad_buffers },
    { 0 },
};
