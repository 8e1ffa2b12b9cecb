/* The heap, the stack, and anonymous memory. */
#include "probe.h"

#include <alloca.h>
#include <malloc.h>
#include <setjmp.h>

/* Blocks of all sizes come, grow, shrink and go; each keeps its content. */
static void heap(void)
{
    enum { SLOTS = 200 };
    static struct {
        void *at;
        size_t length;
        uint64_t tag;
    } slots[SLOTS];
    for (int round = 0; round < 2000; round++) {
        size_t i = random_below(SLOTS);
        size_t length = random_below(8) ? 1 + random_below(6000) : 1 + random_below(MIB / 2);
        if (slots[i].at)
            MUST(is_filled(slots[i].at, slots[i].length, slots[i].tag));
        switch (random_below(3)) {
        case 0:
            free(slots[i].at);
            slots[i].at = NULL;
            slots[i].length = 0;
            continue;
        case 1: {
            size_t kept = slots[i].length < length ? slots[i].length : length;
            slots[i].at = realloc(slots[i].at, length);
            MUST(slots[i].at && is_filled(slots[i].at, kept, slots[i].tag));
            break;
        }
        default:
            free(slots[i].at);
            slots[i].at = malloc(length);
            MUST(slots[i].at);
        }
        slots[i].length = length;
        slots[i].tag = next_random();
        fill(slots[i].at, length, slots[i].tag);
    }
    for (size_t i = 0; i < SLOTS; i++) {
        if (slots[i].at)
            MUST(is_filled(slots[i].at, slots[i].length, slots[i].tag));
        free(slots[i].at);
        slots[i].at = NULL;
        slots[i].length = 0;
    }
    malloc_trim(0);
}

/* The program break goes up and down; what it uncovers again is zero. */
static void break_moves(void)
{
    char *start = sbrk(0);
    for (size_t pages = 1; pages < 200; pages += 13) {
        SAME((long)sbrk((intptr_t)(pages * PAGE + 123)), (long)start);
        MUST(is_zero(start, pages * PAGE));
        fill(start, pages * PAGE, pages);
        compute(0.002);
        MUST(is_filled(start, pages * PAGE, pages));
        size_t half = pages / 2 * PAGE;
        SAME(brk(start + half), 0);
        MUST(is_filled(start, half, pages));
        SAME(brk(start + pages * PAGE), 0);
        MUST(is_filled(start, half, pages));
        size_t whole = (half + PAGE - 1) / PAGE * PAGE;
        MUST(is_zero(start + whole, pages * PAGE - whole));
        SAME(brk(start), 0);
    }
}

/* A large area of which pages here and there are written. */
static void sparse(void)
{
    const size_t length = 256 * MIB, step = 37 * PAGE;
    char *area = mmap(NULL, length, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    MUST(area != MAP_FAILED);
    for (size_t at = 0; at + 64 <= length; at += step)
        fill(area + at, 64, at);
    compute(0.02);
    for (size_t at = 0; at + 64 <= length; at += step)
        MUST(is_filled(area + at, 64, at) && is_zero(area + at + 64, 64));
    SAME(munmap(area, length), 0);
}

/* A megabyte that is written over and over: each pass depends on the one before. */
static void rewriting(void)
{
    static uint64_t words[MIB / 8];
    memset(words, 0, sizeof words);
    for (uint64_t pass = 1; pass <= 20; pass++)
        for (size_t i = 0; i < COUNT(words); i++)
            words[i] = words[i] * 6364136223846793005u + pass + i;
    uint64_t sum = 0;
    for (size_t i = 0; i < COUNT(words); i++) {
        uint64_t expected = 0;
        for (uint64_t pass = 1; i % 97 == 0 && pass <= 20; pass++)
            expected = expected * 6364136223846793005u + pass + i;
        if (i % 97 == 0)
            MUST(words[i] == expected);
        sum = sum * 31 + words[i];
    }
    static uint64_t first;
    if (first == 0)
        first = sum;
    MUST(sum == first);
}

static uint64_t descend(int depth, uint64_t tag)
{
    volatile unsigned char local[900];
    size_t more = tag % 512;
    unsigned char *extra = alloca(more + 1);
    fill((void *)local, sizeof local, tag);
    fill(extra, more, tag + 1);
    if (depth % 500 == 0)
        compute(0.002);
    uint64_t below = depth == 0 ? 0 : descend(depth - 1, tag * 31 + 7);
    MUST(is_filled((void *)local, sizeof local, tag) && is_filled(extra, more, tag + 1));
    return below * 3 + tag;
}

/* The stack grows by megabytes and every frame keeps its content. */
static void deep_stack(void)
{
    static uint64_t first;
    uint64_t sum = descend(5000, 1);
    if (first == 0)
        first = sum;
    MUST(sum == first);
}

static jmp_buf jumps[64];

static void jump_from(int level)
{
    if (level == 0)
        longjmp(jumps[random_below(COUNT(jumps))], 1);
    volatile char room[512];
    room[0] = (char)level;
    jump_from(level - 1);
    MUST(room[0] == (char)level);
}

/* Jumps back through many frames. */
static void long_jumps(void)
{
    volatile int landed = 0;
    for (volatile size_t i = 0; i < COUNT(jumps); i++)
        if (setjmp(jumps[i]) != 0)
            landed = landed + 1;
    if (landed < 3000)
        jump_from(40);
}

const struct check memory_checks[] = {
    { "heap", heap },           { "break", break_moves },   { "sparse", sparse },
    { "rewriting", rewriting }, { "deep-stack", deep_stack }, { "long-jumps", long_jumps },
    { 0 },
};
