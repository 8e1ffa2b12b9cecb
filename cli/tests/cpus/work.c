// Computes until SIGTERM, and says each second that it does, and whether all is as it was.
//
//   work plain           what the C library has picked, as before
//   work registers       with something in the upper halves of AVX's registers all the while
//   work instruction     executes, at SIGUSR1, an instruction that no processor knows, and takes the signal for it

#define _GNU_SOURCE
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <ucontext.h>
#include <unistd.h>

static volatile sig_atomic_t over, asked, raised;

static void end(int signal) { (void)signal, over = 1; }
static void ask(int signal) { (void)signal, asked = 1; }

static void skip(int signal, siginfo_t *info, void *context) {
    (void)signal, (void)info;
    ((ucontext_t *)context)->uc_mcontext.gregs[REG_RIP] += 2;
    raised++;
}

static uint64_t seconds(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec;
}

// Fills a register, computes with others meanwhile, and looks at it again.
static bool keeps_registers(void) {
    static const uint64_t WANTED[4] = { 1, 2, 0x1234567890abcdef, 42 };
    uint64_t found[4];
    __asm__ volatile("vmovdqu %1, %%ymm9\n\t"
                     "mov $100000000, %%rcx\n"
                     "1:\n\t"
                     "dec %%rcx\n\t"
                     "jnz 1b\n\t"
                     "vmovdqu %%ymm9, %0"
                     : "=m"(found)
                     : "m"(WANTED)
                     : "rcx", "xmm9", "memory");
    return memcmp(found, WANTED, sizeof WANTED) == 0;
}

int main(int count, char **words) {
    const char *what = count > 1 ? words[1] : "plain";
    struct sigaction action = { .sa_sigaction = skip, .sa_flags = SA_SIGINFO };
    sigaction(SIGILL, &action, NULL);
    signal(SIGTERM, end);
    signal(SIGUSR1, ask);
    // The C library cuts what it has read into pieces where it stands, so that nobody else reads all of it.
    const char *tunables = getenv("GLIBC_TUNABLES");
    printf("begins %d %s\n", getpid(), tunables != NULL ? tunables : "");
    fflush(stdout);
    char block[300];
    volatile uint64_t sum = 0;
    for (uint64_t last = 0; !over;) {
        if (strcmp(what, "registers") == 0 && !keeps_registers()) {
            printf("lost\n");
            return 1;
        }
        memset(block, (int)sum, sizeof block);
        sum += strlen("of whatever it is") + (unsigned char)block[17];
        if (asked) {
            asked = 0;
            __asm__ volatile("ud2");
            printf("raised %d\n", (int)raised);
            fflush(stdout);
        }
        if (seconds() != last) {
            last = seconds();
            printf("computes\n");
            fflush(stdout);
        }
    }
    printf("ends\n");
    return 0;
}
