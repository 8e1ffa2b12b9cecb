/* mmap and its relatives. */
#include "probe.h"

#include <setjmp.h>

static char *map(size_t length, int protection)
{
    char *area = mmap(NULL, length, protection, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    MUST(area != MAP_FAILED);
    return area;
}

/* Pieces are taken out of an area and put back. */
static void holes(void)
{
    const size_t pages = 64;
    char *area = map(pages * PAGE, PROT_READ | PROT_WRITE);
    MUST(is_zero(area, pages * PAGE));
    for (size_t i = 0; i < pages; i++)
        fill(area + i * PAGE, PAGE, i);
    uint64_t tags[64];
    for (size_t i = 0; i < pages; i++)
        tags[i] = i;
    for (int round = 0; round < 60; round++) {
        size_t at = random_below(pages), length = 1 + random_below(pages - at);
        SAME(munmap(area + at * PAGE, length * PAGE), 0);
        if (round % 8 == 0)
            compute(0.002);
        char *again = mmap(area + at * PAGE, length * PAGE, PROT_READ | PROT_WRITE,
                           MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
        SAME((long)again, (long)(area + at * PAGE));
        MUST(is_zero(again, length * PAGE));
        for (size_t i = at; i < at + length; i++) {
            tags[i] = next_random();
            fill(area + i * PAGE, PAGE, tags[i]);
        }
        for (size_t i = 0; i < pages; i++)
            MUST(is_filled(area + i * PAGE, PAGE, tags[i]));
    }
    SAME(munmap(area, pages * PAGE), 0);
}

/* An area is replaced in place. */
static void replaced(void)
{
    char *area = map(32 * PAGE, PROT_READ | PROT_WRITE);
    fill(area, 32 * PAGE, 5);
    compute(0.01);
    char *middle = mmap(area + 8 * PAGE, 8 * PAGE, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
    SAME((long)middle, (long)(area + 8 * PAGE));
    MUST(is_zero(middle, 8 * PAGE));
    compute(0.01);
    MUST(is_zero(middle, 8 * PAGE) && is_filled(area, 8 * PAGE, 5));
    MUST(is_filled(area + 16 * PAGE, 16 * PAGE, 5 + 16 * PAGE));
    SAME(munmap(area, 32 * PAGE), 0);
}

/* Areas grow, shrink and move, and take their content with them. */
static void remapped(void)
{
    size_t length = 16 * PAGE;
    char *area = map(length, PROT_READ | PROT_WRITE);
    fill(area, length, 9);
    for (int round = 0; round < 12; round++) {
        size_t longer = length + (1 + random_below(64)) * PAGE;
        char *moved = mremap(area, length, longer, MREMAP_MAYMOVE);
        MUST(moved != MAP_FAILED && is_filled(moved, length, 9) && is_zero(moved + length, longer - length));
        compute(0.002);
        MUST(is_filled(moved, length, 9));
        fill(moved, longer, 9);
        char *place = map(longer, PROT_NONE);
        char *fixed = mremap(moved, longer, longer, MREMAP_MAYMOVE | MREMAP_FIXED, place);
        MUST(fixed == place);
        MUST(is_filled(fixed, longer, 9));
        compute(0.002);
        size_t shorter = longer / PAGE * 3 / 4 * PAGE;
        area = mremap(fixed, longer, shorter, 0);
        MUST(area == fixed && is_filled(area, shorter, 9));
        length = shorter;
    }
    char *left = area;
    char *moved = mremap(area, length, length, MREMAP_MAYMOVE | MREMAP_DONTUNMAP, NULL);
    MUST(moved != MAP_FAILED && moved != left);
    compute(0.01);
    MUST(is_filled(moved, length, 9) && is_zero(left, length));
    SAME(munmap(left, length), 0);
    SAME(munmap(moved, length), 0);
}

/* KiB that the kernel says are locked. */
static long locked_kib(void)
{
    char text[4096];
    int status = open("/proc/self/status", O_RDONLY);
    ssize_t length = read(status, text, sizeof text - 1);
    MUST(length > 0);
    close(status);
    text[length] = 0;
    char *line = strstr(text, "VmLck:");
    MUST(line != NULL);
    return strtol(line + 6, NULL, 10);
}

/* Some of the memory is locked: it stays so, cannot be discarded, and moves with its lock. */
static void locked(void)
{
    size_t length = 16 * PAGE;
    char *area = map(length, PROT_READ | PROT_WRITE);
    fill(area, length, 5);
    SAME(mlock(area + 4 * PAGE, 8 * PAGE), 0);
    for (int round = 0; round < 20; round++) {
        compute(0.02);
        MUST(is_filled(area, length, 5));
        SAME(locked_kib(), 8 * PAGE / 1024);
        errno = 0;
        SAME(madvise(area + 4 * PAGE, PAGE, MADV_DONTNEED), -1);
        SAME(errno, EINVAL);
        fill(area, length, 5);
    }
    char *moved = mremap(area + 4 * PAGE, 8 * PAGE, 10 * PAGE, MREMAP_MAYMOVE);
    MUST(moved != MAP_FAILED && moved != area + 4 * PAGE);
    compute(0.05);
    SAME(locked_kib(), 10 * PAGE / 1024);
    SAME(munlock(moved, 10 * PAGE), 0);
    SAME(locked_kib(), 0);
    compute(0.05);
    SAME(munmap(moved, 10 * PAGE), 0);
    SAME(munmap(area, length), 0);
}

/* Two areas change places. */
static void swapped(void)
{
    const size_t length = 24 * PAGE;
    char *one = map(length, PROT_READ | PROT_WRITE), *two = map(length, PROT_READ | PROT_WRITE);
    fill(one, length, 1);
    fill(two, length, 2);
    for (int round = 0; round < 21; round++) {
        char *aside = map(length, PROT_NONE);
        MUST(mremap(one, length, length, MREMAP_MAYMOVE | MREMAP_FIXED, aside) == aside);
        MUST(mremap(two, length, length, MREMAP_MAYMOVE | MREMAP_FIXED, one) == one);
        MUST(mremap(aside, length, length, MREMAP_MAYMOVE | MREMAP_FIXED, two) == two);
        compute(0.002);
        int odd = round % 2;
        MUST(is_filled(one, length, odd ? 1 : 2) && is_filled(two, length, odd ? 2 : 1));
    }
    SAME(munmap(one, length), 0);
    SAME(munmap(two, length), 0);
}

static sigjmp_buf escape;
static volatile uintptr_t fault_address;
static volatile int fault_code;

static void escape_fault(int signal, siginfo_t *info, void *context)
{
    (void)signal, (void)context;
    fault_address = (uintptr_t)info->si_addr;
    fault_code = info->si_code;
    siglongjmp(escape, 1);
}

#define FAULTS(access, address, code)                                                                          \
    do {                                                                                                       \
        if (sigsetjmp(escape, 1) == 0) {                                                                       \
            access;                                                                                            \
            fail(__FILE__, __LINE__, "%s did not fault", #access);                                             \
        }                                                                                                      \
        SAME(fault_address, (uintptr_t)(address));                                                             \
        SAME(fault_code, code);                                                                                \
    } while (0)

/* What is forbidden faults at the right address and for the right reason; what is allowed again is still there. */
static void protection(void)
{
    handle(SIGSEGV, escape_fault, 0);
    volatile char *area = map(16 * PAGE, PROT_READ | PROT_WRITE);
    fill((char *)area, 16 * PAGE, 3);
    for (int round = 0; round < 30; round++) {
        size_t page = random_below(16), at = page * PAGE + random_below(PAGE);
        char *start = (char *)area + page * PAGE;
        SAME(mprotect(start, PAGE, PROT_READ), 0);
        if (round % 4 == 0)
            compute(0.002);
        MUST(is_filled(start, PAGE, 3 + page * PAGE));
        FAULTS(area[at] = 1, area + at, SEGV_ACCERR);
        SAME(mprotect(start, PAGE, PROT_NONE), 0);
        FAULTS((void)area[at], area + at, SEGV_ACCERR);
        if (round % 4 == 1)
            compute(0.002);
        FAULTS((void)area[at], area + at, SEGV_ACCERR);
        SAME(mprotect(start, PAGE, PROT_READ | PROT_WRITE), 0);
        MUST(is_filled((char *)area, 16 * PAGE, 3));
    }
    SAME(munmap((char *)area, 16 * PAGE), 0);
    FAULTS((void)area[100], area + 100, SEGV_MAPERR);
    unhandle(SIGSEGV);
}

/* Memory that was discarded is zero; what stays has its content. */
static void discarded(void)
{
    const size_t pages = 48;
    char *area = map(pages * PAGE, PROT_READ | PROT_WRITE);
    for (int round = 0; round < 20; round++) {
        fill(area, pages * PAGE, round);
        compute(0.001);
        SAME(madvise(area + 8 * PAGE, 16 * PAGE, MADV_DONTNEED), 0);
        if (round % 3 == 0)
            compute(0.002);
        MUST(is_zero(area + 8 * PAGE, 16 * PAGE));
        MUST(is_filled(area, 8 * PAGE, round) && is_filled(area + 24 * PAGE, 24 * PAGE, round + 24 * PAGE));
        SAME(madvise(area + 24 * PAGE, 8 * PAGE, MADV_FREE), 0);
        compute(0.001);
        for (size_t at = 24 * PAGE; at < 32 * PAGE; at += PAGE)
            MUST(is_zero(area + at, PAGE) || is_filled(area + at, PAGE, round + at));
        SAME(madvise(area, pages * PAGE, MADV_WILLNEED), 0);
    }
    SAME(munmap(area, pages * PAGE), 0);
}

/* A program that writes code and runs it. */
static void made_code(void)
{
    unsigned char *code = (unsigned char *)map(PAGE, PROT_READ | PROT_WRITE);
    for (unsigned number = 0; number < 40; number++) {
        /* mov $number, %eax; ret */
        const unsigned char instructions[] = { 0xb8, (unsigned char)number, 0, 0, 0, 0xc3 };
        memcpy(code, instructions, sizeof instructions);
        SAME(mprotect(code, PAGE, PROT_READ | PROT_EXEC), 0);
        if (number % 4 == 0)
            compute(0.002);
        SAME(((unsigned (*)(void))(uintptr_t)code)(), number);
        SAME(mprotect(code, PAGE, PROT_READ | PROT_WRITE), 0);
    }
    SAME(munmap(code, PAGE), 0);
}

/* A private mapping of a file: own changes stay, discarded ones give way to the file. */
static void private_file(void)
{
    const size_t length = 40 * PAGE + 100;
    int file = scratch_file();
    char *content = map(41 * PAGE, PROT_READ | PROT_WRITE);
    fill(content, length, 77);
    SAME(write(file, content, length), (long)length);
    char *area = mmap(NULL, length, PROT_READ | PROT_WRITE, MAP_PRIVATE, file, 0);
    MUST(area != MAP_FAILED);
    SAME(close(file), 0);
    compute(0.02);
    MUST(memcmp(area, content, length) == 0 && is_zero(area + length, 41 * PAGE - length));
    fill(area + 4 * PAGE, 4 * PAGE, 1);
    compute(0.02);
    MUST(is_filled(area + 4 * PAGE, 4 * PAGE, 1) && memcmp(area, content, 4 * PAGE) == 0);
    SAME(madvise(area + 4 * PAGE, 2 * PAGE, MADV_DONTNEED), 0);
    compute(0.02);
    MUST(memcmp(area, content, 6 * PAGE) == 0 && is_filled(area + 6 * PAGE, 2 * PAGE, 1 + 2 * PAGE));
    SAME(munmap(area, length), 0);
    SAME(munmap(content, 41 * PAGE), 0);
}

/* Nearly as many mappings as a process may have, made and taken away wherever it is. */
static void many_mappings(void)
{
    enum { pieces = 50000, apart = 61 };
    char *area = mmap(NULL, pieces * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    MUST(area != MAP_FAILED);
    compute(0.05);
    for (size_t at = 0; at < pieces; at += apart)
        *(uint64_t *)(area + at * PAGE) = at ^ 0x55;
    for (size_t at = 1; at < pieces; at += 2)
        SAME(mprotect(area + at * PAGE, PAGE, PROT_READ), 0);
    compute(0.05);
    for (size_t at = 0; at < pieces; at += apart)
        MUST(*(uint64_t *)(area + at * PAGE) == (at ^ 0x55));
    SAME(mprotect(area, pieces * PAGE, PROT_READ | PROT_WRITE), 0);
    compute(0.05);
    for (size_t at = 0; at < pieces; at += apart)
        MUST(*(uint64_t *)(area + at * PAGE) == (at ^ 0x55));
    SAME(munmap(area, pieces * PAGE), 0);
}

static void escape_bus(int signal, siginfo_t *info, void *context)
{
    escape_fault(signal, info, context);
}

/* A page of a mapped file behind the file's end. */
static void beyond_the_end(void)
{
    handle(SIGBUS, escape_bus, 0);
    int file = scratch_file();
    SAME(ftruncate(file, PAGE), 0);
    volatile char *area = mmap(NULL, 2 * PAGE, PROT_READ, MAP_PRIVATE, file, 0);
    MUST(area != MAP_FAILED);
    compute(0.03);
    SAME(area[10], 0);
    FAULTS((void)area[PAGE + 8], area + PAGE + 8, BUS_ADRERR);
    compute(0.03);
    FAULTS((void)area[PAGE + 8], area + PAGE + 8, BUS_ADRERR);
    SAME(munmap((char *)area, 2 * PAGE), 0);
    SAME(close(file), 0);
    unhandle(SIGBUS);
}

/* A file is cut off and grows again: what was written behind its end is gone, also where it was written for this process alone. */
static void shortened_file(void)
{
    for (int way = 0; way < 4; way++) {
        int file = scratch_file();
        const char *name = scratch_name("shortened");
        int other = open(name, O_RDWR | O_CREAT, 0600);
        MUST(other >= 0);
        int mapped = way == 0 ? file : other;
        SAME(ftruncate(mapped, 4 * PAGE), 0);
        char *area = mmap(NULL, 4 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE, mapped, 0);
        MUST(area != MAP_FAILED);
        fill(area, 4 * PAGE, 3);
        compute(0.02);
        int emptied = -1;
        size_t left = way < 2 ? PAGE : 0;
        if (way == 0)
            SAME(ftruncate(file, PAGE), 0);
        if (way == 1)
            SAME(truncate(name, PAGE), 0);
        if (way == 2)
            emptied = open(name, O_WRONLY | O_TRUNC);
        if (way == 3)
            emptied = creat(name, 0600);
        MUST(way < 2 || emptied >= 0);
        SAME(ftruncate(mapped, 4 * PAGE), 0);
        compute(0.02);
        MUST(is_filled(area, left, 3) && is_zero(area + left, 4 * PAGE - left));
        SAME(munmap(area, 4 * PAGE), 0);
        if (emptied >= 0)
            SAME(close(emptied), 0);
        SAME(unlink(name), 0);
        SAME(close(other), 0);
        SAME(close(file), 0);
    }
}

/* Somebody else cuts the file short: of what was written for this process alone, only what lay before stays. */
static void cut_by_others(void)
{
    const char *name = scratch_name("cut-by-others");
    int orders[2], answers[2];
    char word = 'c';
    MUST(pipe(orders) == 0 && pipe(answers) == 0);
    pid_t other = fork();
    MUST(other >= 0);
    if (other == 0) {
        close(orders[1]);
        while (read(orders[0], &word, 1) == 1)
            if (truncate(name, PAGE) != 0 || write(answers[1], &word, 1) != 1)
                _exit(1);
        _exit(0);
    }
    SAME(close(orders[0]) | close(answers[1]), 0);
    for (int round = 0; round < 6; round++) {
        int file = open(name, O_RDWR | O_CREAT | O_TRUNC, 0600);
        MUST(file >= 0);
        SAME(ftruncate(file, 4 * PAGE), 0);
        char *area = mmap(NULL, 4 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE, file, 0);
        MUST(area != MAP_FAILED);
        fill(area, 4 * PAGE, 3);
        compute(0.06);
        fill(area, 4 * PAGE, 5 + round);
        SAME(write(orders[1], &word, 1), 1);
        SAME(read(answers[0], &word, 1), 1);
        compute(0.06);
        MUST(is_filled(area, PAGE, 5 + round));
        SAME(munmap(area, 4 * PAGE), 0);
        SAME(close(file), 0);
    }
    SAME(close(orders[1]) | close(answers[0]) | unlink(name), 0);
    int status;
    SAME(waitpid(other, &status, 0), other);
    SAME(status, 0);
}

/* A writable shared mapping of a file: what is written there can be read from the file, and the other way. */
static void shared_file(void)
{
    int file = scratch_file();
    SAME(posix_fallocate(file, 0, 8 * PAGE), 0);
    char *area = mmap(NULL, 8 * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    MUST(area != MAP_FAILED);
    for (char value = 1; value < 20; value++) {
        memset(area + 3 * PAGE, value, PAGE);
        compute(0.004);
        char found;
        SAME(pread(file, &found, 1, 3 * PAGE + 17), 1);
        SAME(found, value);
        SAME(pwrite(file, &found, 1, 5 * PAGE), 1);
        SAME(area[5 * PAGE], value);
        SAME(msync(area, 8 * PAGE, MS_SYNC), 0);
    }
    SAME(munmap(area, 8 * PAGE), 0);
    SAME(close(file), 0);
}

/* A shared mapping that is only read follows the file. */
static void shared_reader(void)
{
    int file = scratch_file();
    SAME(ftruncate(file, 4 * PAGE), 0);
    const volatile char *area = mmap(NULL, 4 * PAGE, PROT_READ, MAP_SHARED, file, 0);
    MUST(area != MAP_FAILED);
    for (char value = 1; value < 20; value++) {
        SAME(pwrite(file, &value, 1, 2 * PAGE + 5), 1);
        compute(0.004);
        SAME(area[2 * PAGE + 5], value);
    }
    SAME(munmap((void *)area, 4 * PAGE), 0);
    SAME(close(file), 0);
}

const struct check mapping_checks[] = {
    { "holes", holes },
    { "replaced", replaced },
    { "remapped", remapped },
    { "many-mappings", many_mappings },
    { "locked", locked },
    { "swapped", swapped },
    { "protection", protection },
    { "discarded", discarded },
    { "made-code", made_code },
    { "private-file", private_file },
    { "shortened-file", shortened_file },
    { "cut-by-others", cut_by_others },
    { "beyond-the-end", beyond_the_end },
    { "shared-file", shared_file },
    { "shared-reader", shared_reader },
    { 0 },
};
