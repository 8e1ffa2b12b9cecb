/* Shared memory that this program alone has, and what others can get at. */
#include "probe.h"

#include <pthread.h>
#include <setjmp.h>
#include <sys/socket.h>

static char *map_shared(size_t length, int file)
{
    int flags = MAP_SHARED | (file < 0 ? MAP_ANONYMOUS : 0);
    char *area = mmap(NULL, length, PROT_READ | PROT_WRITE, flags, file, 0);
    MUST(area != MAP_FAILED);
    return area;
}

static int make_memfd(size_t length)
{
    int file = memfd_create("probe memory", 0);
    MUST(file >= 0);
    SAME(ftruncate(file, length), 0);
    return file;
}

/* Pages are written again and again, some after many moves, some never. */
static void rewrite(char *area, size_t pages, int rounds)
{
    uint64_t tags[256] = { 0 };
    MUST(pages <= COUNT(tags));
    for (int round = 0; round < rounds; round++) {
        for (int i = 0; i < 8; i++) {
            size_t page = random_below(pages);
            tags[page] = next_random() | 1;
            fill(area + page * PAGE, PAGE, tags[page]);
        }
        compute(0.006);
        for (size_t page = 0; page < pages; page++)
            MUST(tags[page] ? is_filled(area + page * PAGE, PAGE, tags[page]) : is_zero(area + page * PAGE, PAGE));
    }
}

static void own_shared(void)
{
    const size_t pages = 200;
    char *area = map_shared(pages * PAGE, -1);
    rewrite(area, pages, 40);
    SAME(munmap(area, pages * PAGE), 0);
}

/* Other memory is mapped, replaced and moved beside it. */
static void beside_own_shared(void)
{
    char *area = map_shared(16 * PAGE, -1);
    int file = scratch_file();
    char text[2 * PAGE];
    fill(text, sizeof text, 6);
    SAME(write(file, text, sizeof text), (long)sizeof text);
    fill(area, 16 * PAGE, 5);
    for (int round = 0; round < 8; round++) {
        compute(0.03);
        char *place = mmap(NULL, 8 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        MUST(place != MAP_FAILED);
        fill(place, 8 * PAGE, 7);
        char *mapped = mmap(place + 2 * PAGE, 2 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_FIXED, file, 0);
        SAME((long)mapped, (long)(place + 2 * PAGE));
        MUST(is_filled(mapped, 2 * PAGE, 6) && is_filled(place, 2 * PAGE, 7));
        char *other = mmap(NULL, PAGE, PROT_READ, MAP_PRIVATE, file, PAGE);
        MUST(other != MAP_FAILED && memcmp(other, text + PAGE, PAGE) == 0);
        SAME(mprotect(place, PAGE, PROT_READ), 0);
        char *moved = mremap(place, 2 * PAGE, 32 * PAGE, MREMAP_MAYMOVE);
        MUST(moved == MAP_FAILED);
        SAME(mprotect(place, PAGE, PROT_READ | PROT_WRITE), 0);
        moved = mremap(place, 2 * PAGE, 32 * PAGE, MREMAP_MAYMOVE);
        MUST(moved != MAP_FAILED && is_filled(moved, 2 * PAGE, 7) && is_zero(moved + 2 * PAGE, 30 * PAGE));
        SAME(munmap(moved, 32 * PAGE) | munmap(place + 2 * PAGE, 6 * PAGE) | munmap(other, PAGE), 0);
        MUST(is_filled(area, 16 * PAGE, 5));
    }
    /* It grows from below towards the shared one, and has to go elsewhere. */
    char *below = mmap(area - 4 * PAGE, 4 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    MUST(below != MAP_FAILED);
    fill(below, 4 * PAGE, 8);
    for (size_t pages = 4; pages < 64; pages += 4) {
        below = mremap(below, pages * PAGE, (pages + 4) * PAGE, MREMAP_MAYMOVE);
        MUST(below != MAP_FAILED && is_filled(below, 4 * PAGE, 8) && is_zero(below + pages * PAGE, 4 * PAGE));
        compute(0.002);
    }
    SAME(munmap(below, 64 * PAGE), 0);
    MUST(is_filled(area, 16 * PAGE, 5));
    SAME(munmap(area, 16 * PAGE), 0);
    SAME(close(file), 0);
}

/* A large one with little in it. */
static void own_sparse(void)
{
    const size_t length = 256 * MIB, step = 16 * MIB;
    char *area = map_shared(length, -1);
    for (size_t at = step; at < length; at += step)
        fill(area + at + at / 5 % step / PAGE * PAGE, PAGE, at);
    compute(0.15);
    for (size_t at = step; at < length; at += step)
        MUST(is_filled(area + at + at / 5 % step / PAGE * PAGE, PAGE, at));
    MUST(is_zero(area, step / 4));
    SAME(munmap(area, length), 0);
}

/* What is written to the memory is in the file, and the other way round. */
static void own_memfd(void)
{
    const size_t pages = 24;
    int file = make_memfd(pages * PAGE);
    char *area = map_shared(pages * PAGE, file);
    for (char value = 1; value < 6; value++) {
        memset(area + 3 * PAGE, value, PAGE);
        compute(0.07);
        char found;
        SAME(pread(file, &found, 1, 3 * PAGE + 17), 1);
        SAME(found, value);
        int copy = dup(file);
        MUST(copy >= 0);
        SAME(close(file), 0);
        file = copy;
        compute(0.03);
        found = value + 1;
        SAME(pwrite(file, &found, 1, 5 * PAGE), 1);
        SAME(area[5 * PAGE], value + 1);
        struct stat status;
        SAME(fstat(file, &status), 0);
        SAME(status.st_size, (long)(pages * PAGE));
    }
    SAME(munmap(area + 2 * PAGE, (pages - 2) * PAGE), 0);
    char found;
    SAME(pread(file, &found, 1, 3 * PAGE), 1);
    SAME(found, 5);
    /* Once more, from the file. */
    char *again = map_shared(pages * PAGE, file);
    SAME(again[3 * PAGE + 1], 5);
    SAME(munmap(again, pages * PAGE), 0);
    SAME(munmap(area, 2 * PAGE), 0);
    SAME(close(file), 0);
}

/* A descriptor by its name leads to the same memory. */
static void own_memfd_by_name(void)
{
    int file = make_memfd(4 * PAGE);
    char *area = map_shared(4 * PAGE, file), name[64], found[8];
    snprintf(name, sizeof name, "/proc/self/fd/%d", file);
    memcpy(area + PAGE, "before", 7);
    compute(0.1);
    int other = open(name, O_RDWR);
    MUST(other >= 0);
    memcpy(area + PAGE, "behind", 7);
    compute(0.06);
    SAME(pread(other, found, 7, PAGE), 7);
    SAME(strcmp(found, "behind"), 0);
    compute(0.06);
    SAME(pwrite(other, "written", 8, 0), 8);
    SAME(strcmp(area, "written"), 0);
    SAME(close(other), 0);
    SAME(close(file), 0);
    SAME(munmap(area, 4 * PAGE), 0);
}

/* POSIX shared memory whose name is gone. */
static void own_posix_memory(void)
{
    char name[64];
    snprintf(name, sizeof name, "/probe-%d", (int)getpid());
    int file = shm_open(name, O_CREAT | O_EXCL | O_RDWR, 0600);
    MUST(file >= 0);
    SAME(ftruncate(file, 100 * PAGE), 0);
    char *area = map_shared(100 * PAGE, file);
    SAME(shm_unlink(name), 0);
    SAME(close(file), 0);
    rewrite(area, 100, 30);
    SAME(munmap(area, 100 * PAGE), 0);
}

static sigjmp_buf escape;

static void escape_fault(int signal)
{
    (void)signal;
    siglongjmp(escape, 1);
}

/* Parts are taken out, protected, given up and had again: shared memory is not as private memory is. */
static void own_shared_changed(void)
{
    const size_t pages = 16;
    char *area = map_shared(pages * PAGE, -1);
    for (int round = 1; round < 4; round++) {
        fill(area, pages * PAGE, round);
        compute(0.06);
        SAME(madvise(area, pages * PAGE, MADV_DONTNEED), 0);
        MUST(is_filled(area, pages * PAGE, round));
        compute(0.06);
        /* It shrinks, and grows again with what it had. */
        char *moved = mremap(area, pages * PAGE, 4 * PAGE, 0);
        MUST(moved == area);
        compute(0.06);
        moved = mremap(area, 4 * PAGE, pages * PAGE, MREMAP_MAYMOVE);
        MUST(moved != MAP_FAILED);
        area = moved;
        MUST(is_filled(area, pages * PAGE, round));
        compute(0.06);
        SAME(madvise(area + 8 * PAGE, 4 * PAGE, MADV_REMOVE), 0);
        MUST(is_zero(area + 8 * PAGE, 4 * PAGE) && is_filled(area, 8 * PAGE, round));
        compute(0.06);
        SAME(mprotect(area + PAGE, PAGE, PROT_READ), 0);
        signal(SIGSEGV, escape_fault);
        if (sigsetjmp(escape, 1) == 0) {
            *(volatile char *)(area + PAGE) = 1;
            MUST(!"a protected page was written");
        }
        signal(SIGSEGV, SIG_DFL);
        compute(0.03);
        SAME(mprotect(area + PAGE, PAGE, PROT_READ | PROT_WRITE), 0);
        compute(0.06);
        /* A length of nothing makes another mapping of the same. */
        char *second = mremap(area, 0, pages * PAGE, MREMAP_MAYMOVE);
        MUST(second != MAP_FAILED);
        second[5] = 'x';
        compute(0.03);
        SAME(area[5], 'x');
        SAME(munmap(second, pages * PAGE), 0);
    }
    SAME(munmap(area, pages * PAGE), 0);
}

static char *map_again(char *area, size_t length)
{
    char *again = mremap(area, 0, length, MREMAP_MAYMOVE);
    MUST(again != MAP_FAILED);
    return again;
}

/* The same memory at two places, and a third one where it is run. */
static void own_twice(void)
{
    char *one = map_shared(40 * PAGE, -1), *two = map_again(one, 30 * PAGE);
    unsigned char *code = (unsigned char *)map_again(one + 35 * PAGE, PAGE);
    SAME(mprotect(code, PAGE, PROT_READ | PROT_EXEC), 0);
    char *area = map_shared(20 * PAGE, -1), *again = map_again(area, 20 * PAGE);
    uint64_t tags[30] = { 0 };
    for (int round = 1; round < 50; round++) {
        for (int i = 0; i < 4; i++) {
            size_t page = random_below(30);
            tags[page] = next_random() | 1;
            fill((i % 2 ? one : two) + page * PAGE, PAGE, tags[page]);
        }
        fill(again + (round % 20) * PAGE, PAGE, round);
        /* mov $round, %eax; ret */
        const unsigned char instructions[] = { 0xb8, (unsigned char)round, 0, 0, 0, 0xc3 };
        memcpy(one + 35 * PAGE, instructions, sizeof instructions);
        compute(0.006);
        SAME(((unsigned (*)(void))(uintptr_t)code)(), round);
        MUST(is_filled(area + (round % 20) * PAGE, PAGE, round));
        for (size_t page = 0; page < 30; page++)
            for (int i = 0; i < 2; i++) {
                char *there = (i ? one : two) + page * PAGE;
                MUST(tags[page] ? is_filled(there, PAGE, tags[page]) : is_zero(there, PAGE));
            }
    }
    SAME(munmap(one, 40 * PAGE) | munmap(code, PAGE) | munmap(area, 20 * PAGE), 0);
    for (size_t page = 0; page < 30; page++)
        MUST(tags[page] ? is_filled(two + page * PAGE, PAGE, tags[page]) : is_zero(two + page * PAGE, PAGE));
    SAME(munmap(two, 30 * PAGE) | munmap(again, 20 * PAGE), 0);
}

struct inherited {
    char *area;
    size_t length;
    uint64_t tag;
};

static void answer_in_memory(void *with)
{
    struct inherited *in = with;
    MUST(is_filled(in->area, in->length, in->tag));
    compute(0.03);
    fill(in->area, in->length, in->tag + 1);
}

/* A child gets what was written, and its parent what the child writes. */
static void own_shared_inherited(void)
{
    struct inherited in = { map_shared(64 * PAGE, -1), 64 * PAGE, 1 };
    for (in.tag = 10; in.tag < 40; in.tag += 10) {
        fill(in.area, in.length, in.tag);
        compute(0.08);
        end_child(start_child(answer_in_memory, &in), 0);
        compute(0.08);
        MUST(is_filled(in.area, in.length, in.tag + 1));
    }
    SAME(munmap(in.area, in.length), 0);
}

static void read_passed(void *with)
{
    int socket = *(int *)with, file;
    char byte, control[CMSG_SPACE(sizeof file)];
    struct iovec part = { &byte, 1 };
    struct msghdr message = { .msg_iov = &part, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control };
    SAME(recvmsg(socket, &message, 0), 1);
    memcpy(&file, CMSG_DATA(CMSG_FIRSTHDR(&message)), sizeof file);
    char *area = map_shared(8 * PAGE, file);
    MUST(is_filled(area, 8 * PAGE, 3));
    fill(area, 8 * PAGE, 4);
}

/* A descriptor of the memory is passed on. */
static void own_memfd_passed(void)
{
    int sockets[2];
    SAME(socketpair(AF_UNIX, SOCK_STREAM, 0, sockets), 0);
    pid_t child = start_child(read_passed, &sockets[1]);
    int file = make_memfd(8 * PAGE);
    char *area = map_shared(8 * PAGE, file);
    fill(area, 8 * PAGE, 3);
    compute(0.12);
    char byte = 1, control[CMSG_SPACE(sizeof file)] = { 0 };
    struct iovec part = { &byte, 1 };
    struct msghdr message = { .msg_iov = &part, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control };
    struct cmsghdr *rights = CMSG_FIRSTHDR(&message);
    *rights = (struct cmsghdr){ CMSG_LEN(sizeof file), SOL_SOCKET, SCM_RIGHTS };
    memcpy(CMSG_DATA(rights), &file, sizeof file);
    SAME(sendmsg(sockets[0], &message, 0), 1);
    end_child(child, 0);
    MUST(is_filled(area, 8 * PAGE, 4));
    compute(0.12);
    MUST(is_filled(area, 8 * PAGE, 4));
    SAME(munmap(area, 8 * PAGE), 0);
    SAME(close(file) | close(sockets[0]) | close(sockets[1]), 0);
}

static void write_and_replace(void *with)
{
    int *ends = with;
    int file = make_memfd(3 * PAGE);
    char *area = map_shared(3 * PAGE, file), name[64];
    fill(area, 2 * PAGE, 8);
    compute(0.15);
    fill(area + 2 * PAGE, PAGE, 9);
    snprintf(name, sizeof name, "/proc/self/fd/%d", file);
    dup2(ends[1], 1);
    execl("/bin/cat", "cat", name, NULL);
    MUST(!"cat was not started");
}

/* The next image of a program finds it in a descriptor. */
static void own_memfd_after_exec(void)
{
    int ends[2];
    SAME(pipe(ends), 0);
    pid_t child = start_child(write_and_replace, ends);
    SAME(close(ends[1]), 0);
    static char found[3 * PAGE + 1];
    size_t got = 0;
    for (ssize_t more; (more = read(ends[0], found + got, sizeof found - got)) != 0; got += more)
        MUST(more > 0);
    SAME(got, 3 * PAGE);
    MUST(is_filled(found, 2 * PAGE, 8) && is_filled(found + 2 * PAGE, PAGE, 9));
    end_child(child, 0);
    SAME(close(ends[0]), 0);
}

struct turns {
    pthread_mutex_t mutex;
    pthread_cond_t changed;
    int turn;
};

static void *take_turns(void *with)
{
    struct turns *turns = with;
    SAME(pthread_mutex_lock(&turns->mutex), 0);
    for (int i = 0; i < 400; i++) {
        while (turns->turn % 2 == 0)
            SAME(pthread_cond_wait(&turns->changed, &turns->mutex), 0);
        turns->turn++;
        SAME(pthread_cond_broadcast(&turns->changed), 0);
    }
    SAME(pthread_mutex_unlock(&turns->mutex), 0);
    return NULL;
}

/* Locks for several processes, of which there is one, with two threads. */
static void own_shared_locks(void)
{
    struct turns *turns = (void *)map_shared(PAGE, -1);
    pthread_mutexattr_t mutex;
    pthread_condattr_t changed;
    SAME(pthread_mutexattr_init(&mutex) | pthread_mutexattr_setpshared(&mutex, PTHREAD_PROCESS_SHARED), 0);
    SAME(pthread_condattr_init(&changed) | pthread_condattr_setpshared(&changed, PTHREAD_PROCESS_SHARED), 0);
    SAME(pthread_mutex_init(&turns->mutex, &mutex) | pthread_cond_init(&turns->changed, &changed), 0);
    pthread_t other;
    SAME(pthread_create(&other, NULL, take_turns, turns), 0);
    SAME(pthread_mutex_lock(&turns->mutex), 0);
    for (int i = 0; i < 400; i++) {
        while (turns->turn % 2 == 1)
            SAME(pthread_cond_wait(&turns->changed, &turns->mutex), 0);
        turns->turn++;
        if (i % 40 == 0)
            compute(0.01);
        SAME(pthread_cond_broadcast(&turns->changed), 0);
    }
    SAME(pthread_mutex_unlock(&turns->mutex), 0);
    SAME(pthread_join(other, NULL), 0);
    SAME(turns->turn, 800);
    SAME(munmap(turns, PAGE), 0);
}

static void write_by_name(void *with)
{
    int file = shm_open(with, O_RDWR, 0);
    MUST(file >= 0);
    char *area = map_shared(PAGE, file);
    SAME(area[0], 'a');
    area[0] = 'b';
}

/* Memory with a name, by which others come to it at any time. */
static void shared_by_name(void)
{
    char name[64];
    snprintf(name, sizeof name, "/probe-%d", (int)getpid());
    int file = shm_open(name, O_CREAT | O_EXCL | O_RDWR, 0600);
    MUST(file >= 0);
    SAME(ftruncate(file, PAGE), 0);
    char *area = map_shared(PAGE, file);
    SAME(close(file), 0);
    pid_t child;
    for (int i = 0; i < 3; i++) {
        area[0] = 'a';
        compute(0.1);
        child = start_child(write_by_name, name);
        end_child(child, 0);
        SAME(area[0], 'b');
    }
    SAME(shm_unlink(name), 0);
    SAME(munmap(area, PAGE), 0);
}

const struct check sharing_checks[] = {
    { "own-shared", own_shared },
    { "beside-own-shared", beside_own_shared },
    { "own-sparse", own_sparse },
    { "own-memfd", own_memfd },
    { "own-memfd-by-name", own_memfd_by_name },
    { "own-posix-memory", own_posix_memory },
    { "own-shared-changed", own_shared_changed },
    { "own-twice", own_twice },
    { "own-shared-inherited", own_shared_inherited },
    { "own-memfd-passed", own_memfd_passed },
    { "own-memfd-after-exec", own_memfd_after_exec },
    { "own-shared-locks", own_shared_locks },
    { "shared-by-name", shared_by_name },
    { 0 },
};
