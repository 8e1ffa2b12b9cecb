/* Much data between processes. */
#include "probe.h"

#include <netinet/in.h>
#include <sys/sendfile.h>
#include <sys/socket.h>

#define TOTAL (24 * MIB)

struct ends {
    int input, output, unused[2];
};

/* Reads everything and sends back a sum of it. */
static void sum_up(void *with)
{
    struct ends *ends = with;
    close(ends->unused[0]);
    close(ends->unused[1]);
    static unsigned char bytes[100000];
    uint64_t sum = 0, total = 0;
    for (ssize_t some; total < TOTAL && (some = read(ends->input, bytes, sizeof bytes)) > 0; total += (uint64_t)some)
        for (ssize_t i = 0; i < some; i++)
            sum = sum * 31 + bytes[i];
    MUST(total == TOTAL);
    MUST(write(ends->output, &sum, sizeof sum) == sizeof sum);
}

static uint64_t send_all(int output, size_t piece)
{
    char *bytes = malloc(TOTAL);
    MUST(bytes);
    fill(bytes, TOTAL, 99);
    uint64_t sum = 0;
    for (size_t i = 0; i < TOTAL; i++)
        sum = sum * 31 + (unsigned char)bytes[i];
    for (size_t at = 0; at < TOTAL;) {
        size_t length = TOTAL - at < piece ? TOTAL - at : piece;
        ssize_t some = write(output, bytes + at, length);
        MUST(some > 0);
        at += (size_t)some;
    }
    free(bytes);
    return sum;
}

static void transfer(int to[2], int from[2], size_t piece)
{
    struct ends ends = { to[0], from[1], { to[1], from[0] } };
    pid_t child = start_child(sum_up, &ends);
    SAME(close(to[0]), 0);
    if (from[1] != to[0])
        SAME(close(from[1]), 0);
    uint64_t sum = send_all(to[1], piece), found = 0;
    SAME(read(from[0], &found, sizeof found), sizeof found);
    MUST(found == sum);
    end_child(child, 0);
    SAME(close(to[1]), 0);
    if (from[0] != to[1])
        SAME(close(from[0]), 0);
}

static void through_pipes(void)
{
    int to[2], from[2];
    SAME(pipe(to), 0);
    SAME(pipe(from), 0);
    transfer(to, from, TOTAL);
}

static void through_pair(void)
{
    int pair[2];
    SAME(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
    int back[2] = { pair[1], pair[0] };
    transfer(pair, back, 123457);
}

static void through_tcp(void)
{
    struct sockaddr_in address = { .sin_family = AF_INET, .sin_addr = { htonl(INADDR_LOOPBACK) } };
    socklen_t length = sizeof address;
    int listener = socket(AF_INET, SOCK_STREAM, 0), out = socket(AF_INET, SOCK_STREAM, 0);
    SAME(bind(listener, (struct sockaddr *)&address, length), 0);
    SAME(getsockname(listener, (struct sockaddr *)&address, &length), 0);
    SAME(listen(listener, 1), 0);
    SAME(connect(out, (struct sockaddr *)&address, length), 0);
    int in = accept(listener, NULL, NULL);
    MUST(in >= 0);
    SAME(close(listener), 0);
    int to[2] = { in, out }, from[2] = { out, in };
    transfer(to, from, 60000);
}

/* The kernel's own ways to move data. */
static void by_the_kernel(void)
{
    int source = scratch_file(), target = scratch_file(), ends[2];
    char *bytes = malloc(2 * MIB);
    fill(bytes, 2 * MIB, 4);
    SAME(write(source, bytes, 2 * MIB), 2 * MIB);
    off_t offset = 100;
    while (offset < 100 + (off_t)MIB) {
        MUST(sendfile(target, source, &offset, 100 + MIB - offset) > 0);
    }
    SAME(offset, 100 + MIB);
    compute(0.01);
    loff_t in = 5, out = (loff_t)MIB;
    /* Being stopped cuts it short, natively too. */
    while (in < 5 + (loff_t)MIB) {
        MUST(copy_file_range(source, &in, target, &out, 5 + MIB - in, 0) > 0);
    }
    SAME(in, 5 + MIB);
    char *found = malloc(2 * MIB);
    SAME(pread(target, found, 2 * MIB, 0), 2 * MIB);
    MUST(memcmp(found, bytes + 100, MIB) == 0 && memcmp(found + MIB, bytes + 5, MIB) == 0);
    SAME(pipe(ends), 0);
    in = 0;
    SAME(splice(source, &in, ends[1], NULL, 50000, 0), 50000);
    compute(0.01);
    SAME(read(ends[0], found, MIB), 50000);
    MUST(memcmp(found, bytes, 50000) == 0);
    free(bytes), free(found);
    SAME(close(ends[0]), 0);
    SAME(close(ends[1]), 0);
    SAME(close(source), 0);
    SAME(close(target), 0);
}

struct packet {
    uint64_t number;
    char text[1000];
};

static void send_packets(void *with)
{
    int *pair = with;
    for (uint64_t i = 0; i < 300; i++) {
        struct packet packet = { .number = i };
        fill(packet.text, sizeof packet.text, i);
        MUST(send(pair[1], &packet, sizeof packet, 0) == sizeof packet);
    }
}

/* Packets keep their borders and their order. */
static void packets(void)
{
    int pair[2];
    SAME(socketpair(AF_UNIX, SOCK_DGRAM, 0, pair), 0);
    pid_t child = start_child(send_packets, pair);
    for (uint64_t i = 0; i < 300; i += 3) {
        struct packet packets[3];
        struct iovec parts[3];
        struct mmsghdr messages[3];
        memset(messages, 0, sizeof messages);
        for (int j = 0; j < 3; j++) {
            parts[j] = (struct iovec){ &packets[j], sizeof packets[j] };
            messages[j].msg_hdr.msg_iov = &parts[j];
            messages[j].msg_hdr.msg_iovlen = 1;
        }
        /* As after any stop, it may be fewer at once. */
        for (int found = 0; found < 3;) {
            int some = recvmmsg(pair[0], messages + found, (unsigned)(3 - found), 0, NULL);
            MUST(some > 0);
            found += some;
        }
        for (uint64_t j = 0; j < 3; j++) {
            SAME(messages[j].msg_len, sizeof packets[j]);
            SAME(packets[j].number, i + j);
            MUST(is_filled(packets[j].text, sizeof packets[j].text, i + j));
        }
    }
    end_child(child, 0);
    SAME(close(pair[0]), 0);
    SAME(close(pair[1]), 0);
}

/* Long writes to a file; some from memory that ends before they do. */
static void from_memory_that_ends(void)
{
    char *area = mmap(NULL, 2 * MIB, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    char *found = malloc(2 * MIB);
    MUST(area != MAP_FAILED && found);
    fill(area, 2 * MIB, 21);
    SAME(munmap(area + MIB, MIB), 0);
    int file = open(".", O_TMPFILE | O_RDWR, 0600);
    MUST(file >= 0);
    for (size_t i = 0; i < 40; i++) {
        size_t from = i * 5000;
        ssize_t all = (ssize_t)(MIB - from);
        SAME(pwrite(file, area + from, (size_t)all, 0), all);
        /* As much as there is, or a whole number of the file system's blocks less. */
        ssize_t some = pwrite(file, area + from, MIB, (off_t)MIB);
        MUST(some > 0 && some <= all);
        SAME(pread(file, found, (size_t)all, 0), all);
        MUST(memcmp(found, area + from, (size_t)all) == 0);
        SAME(pread(file, found, (size_t)some, (off_t)MIB), some);
        MUST(memcmp(found, area + from, (size_t)some) == 0);
        SAME(ftruncate(file, 0), 0);
        compute(0.01);
    }
    SAME(close(file), 0);
    SAME(munmap(area, MIB), 0);
    free(found);
}

const struct check transfer_checks[] = {
    { "through-pipes", through_pipes },
    { "through-socketpair", through_pair },
    { "through-tcp", through_tcp },
    { "by-the-kernel", by_the_kernel },
    { "packets", packets },
    { "from-memory-that-ends", from_memory_that_ends },
    { 0 },
};
