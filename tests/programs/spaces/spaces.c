// Threads that change one address space at the same time: each maps, moves, discards, protects and unmaps memory of its
// own, and checks that it holds what was put there. Prints what was found wrong.
//
// spaces FILE ROUNDS

#define _GNU_SOURCE
#include <fcntl.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum { PAGE = 4096 };

static const char *file;
static size_t length;
static uint64_t expected;
static int rounds;

static uint64_t sum(const unsigned char *bytes, size_t count) {
    uint64_t sum = 0;
    for (size_t at = 0; at < count; at += 64) {
        sum = sum * 31 + bytes[at];
    }
    return sum;
}

static void *maps_files(void *which) {
    intptr_t wrong = 0;
    for (int round = 0; round < rounds; round++) {
        int protection = round % 3 == 0 ? PROT_READ | PROT_WRITE : PROT_READ;
        int descriptor = open(file, O_RDONLY);
        unsigned char *bytes = mmap(NULL, length, protection, MAP_PRIVATE, descriptor, 0);
        close(descriptor);
        if (bytes == MAP_FAILED) {
            wrong++;
            continue;
        }
        wrong += sum(bytes, length) != expected;
        if (protection & PROT_WRITE) {
            bytes[5] = (unsigned char)(uintptr_t)which;
            wrong += bytes[5] != (unsigned char)(uintptr_t)which;
        }
        munmap(bytes, length);
    }
    return (void *)wrong;
}

static void *moves_memory(void *which) {
    unsigned char mark = (unsigned char)(uintptr_t)which;
    intptr_t wrong = 0;
    for (int round = 0; round < rounds * 4; round++) {
        size_t size = PAGE * (size_t)(1 + (round * 37 + mark) % 200);
        unsigned char *bytes = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (bytes == MAP_FAILED) {
            wrong++;
            continue;
        }
        memset(bytes, mark, size);
        size_t whole = size;
        if (round % 4 == 0) {
            bytes = mremap(bytes, size, 2 * size, MREMAP_MAYMOVE);
            whole = 2 * size;
            wrong += bytes[size - 1] != mark || bytes[size] != 0;
        }
        if (round % 5 == 0) {
            madvise(bytes, PAGE, MADV_DONTNEED);
            wrong += bytes[0] != 0;
        } else {
            wrong += bytes[0] != mark;
        }
        mprotect(bytes, whole, PROT_READ);
        wrong += bytes[size - 1] != mark;
        munmap(bytes, whole);
    }
    return (void *)wrong;
}

static void *allocates(void *which) {
    intptr_t wrong = 0;
    for (int round = 0; round < rounds * 20; round++) {
        size_t size = 1 + (size_t)(round * 7919 + (intptr_t)which * 31) % 50000;
        unsigned char *bytes = malloc(size);
        memset(bytes, round & 255, size);
        usleep(round % 7 == 0 ? 50 : 0);
        for (size_t at = 0; at < size; at += 97) {
            wrong += bytes[at] != (round & 255);
        }
        free(bytes);
    }
    return (void *)wrong;
}

static void *uses_its_stack(void *which) {
    char bytes[20000];
    memset(bytes, 1, sizeof bytes);
    return (void *)(intptr_t)bytes[(intptr_t)which % sizeof bytes];
}

static void *makes_threads(void *unused) {
    (void)unused;
    enum { AT_ONCE = 4 };
    intptr_t wrong = 0;
    for (int round = 0; round < rounds; round++) {
        pthread_t threads[AT_ONCE];
        int made[AT_ONCE];
        for (int at = 0; at < AT_ONCE; at++) {
            made[at] = pthread_create(&threads[at], NULL, uses_its_stack, (void *)(intptr_t)(round + at)) == 0;
        }
        for (int at = 0; at < AT_ONCE; at++) {
            void *result = NULL;
            if (made[at]) {
                pthread_join(threads[at], &result);
            }
            wrong += result != (void *)1;
        }
    }
    return (void *)wrong;
}

int main(int count, char **words) {
    static const struct {
        const char *name;
        void *(*body)(void *);
    } all[] = {
        {"maps files", maps_files},     {"maps files too", maps_files}, {"moves memory", moves_memory},
        {"moves memory too", moves_memory}, {"and a third", moves_memory},  {"allocates", allocates},
        {"allocates too", allocates},   {"makes threads", makes_threads},
    };
    enum { COUNT = sizeof all / sizeof *all };
    if (count != 3) {
        return 2;
    }
    file = words[1];
    rounds = atoi(words[2]);
    int descriptor = open(file, O_RDONLY);
    length = (size_t)lseek(descriptor, 0, SEEK_END);
    unsigned char *bytes = mmap(NULL, length, PROT_READ, MAP_PRIVATE, descriptor, 0);
    expected = sum(bytes, length);
    munmap(bytes, length);
    close(descriptor);
    pthread_t threads[COUNT];
    for (intptr_t at = 0; at < COUNT; at++) {
        if (pthread_create(&threads[at], NULL, all[at].body, (void *)(at + 1)) != 0) {
            return 1;
        }
    }
    for (int at = 0; at < COUNT; at++) {
        void *wrong;
        pthread_join(threads[at], &wrong);
        printf("%s: %ld wrong\n", all[at].name, (long)(intptr_t)wrong);
    }
    return 0;
}
