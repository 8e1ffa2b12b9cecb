/* What the processor holds of a program. */
#include "probe.h"

#include <asm/prctl.h>
#include <cpuid.h>
#include <fenv.h>
#include <immintrin.h>
#include <math.h>
#include <sched.h>
#include <sys/auxv.h>

/* Long enough, in turns of a loop, for moves to fall into it. */
#define TURNS 20000000ul

/* void spin(const uint64_t loaded[13], uint64_t stored[13]): loads the general registers, runs a loop that touches
 * neither memory nor flags, and stores them. */
__asm__("spin:\n\t"
        "push %rbx\n\tpush %rbp\n\tpush %r12\n\tpush %r13\n\tpush %r14\n\tpush %r15\n\tpush %rsi\n\t"
        "mov %rdi, %rbp\n\t"
        "mov 0(%rbp), %rax\n\tmov 8(%rbp), %rbx\n\tmov 16(%rbp), %rdx\n\tmov 24(%rbp), %rsi\n\t"
        "mov 32(%rbp), %rdi\n\tmov 40(%rbp), %r8\n\tmov 48(%rbp), %r9\n\tmov 56(%rbp), %r10\n\t"
        "mov 64(%rbp), %r11\n\tmov 72(%rbp), %r12\n\tmov 80(%rbp), %r13\n\tmov 88(%rbp), %r14\n\t"
        "mov 96(%rbp), %r15\n\t"
        "mov $20000000, %rcx\n\tstc\n"
        "1:\tlea -1(%rcx), %rcx\n\tjrcxz 2f\n\tjmp 1b\n"
        "2:\tjc 3f\n\txor %r15, %r15\n"
        "3:\tpop %rbp\n\t"
        "mov %rax, 0(%rbp)\n\tmov %rbx, 8(%rbp)\n\tmov %rdx, 16(%rbp)\n\tmov %rsi, 24(%rbp)\n\t"
        "mov %rdi, 32(%rbp)\n\tmov %r8, 40(%rbp)\n\tmov %r9, 48(%rbp)\n\tmov %r10, 56(%rbp)\n\t"
        "mov %r11, 64(%rbp)\n\tmov %r12, 72(%rbp)\n\tmov %r13, 80(%rbp)\n\tmov %r14, 88(%rbp)\n\t"
        "mov %r15, 96(%rbp)\n\t"
        "pop %r15\n\tpop %r14\n\tpop %r13\n\tpop %r12\n\tpop %rbp\n\tpop %rbx\n\tret");
void spin(const uint64_t *loaded, uint64_t *stored);

/* The general registers and the carry flag. */
static void general_registers(void)
{
    uint64_t in[13], out[13] = { 0 };
    for (size_t i = 0; i < COUNT(in); i++)
        in[i] = next_random() | 1;
    spin(in, out);
    for (size_t i = 0; i < COUNT(in); i++)
        SAME(out[i], in[i]);
}

#define EACH_OF_16(do) do(0) do(1) do(2) do(3) do(4) do(5) do(6) do(7) do(8) do(9) do(10) do(11) do(12) do(13) do(14) do(15)
#define EACH_OF_32(do)                                                                                         \
    EACH_OF_16(do) do(16) do(17) do(18) do(19) do(20) do(21) do(22) do(23) do(24) do(25) do(26) do(27) do(28)  \
    do(29) do(30) do(31)

#define LOOP "mov $20000000, %%rcx\n1:\tdec %%rcx\n\tjnz 1b\n\t"
#define LOAD_XMM(n) "movdqu " #n "*16(%[in]), %%xmm" #n "\n\t"
#define STORE_XMM(n) "movdqu %%xmm" #n ", " #n "*16(%[out])\n\t"
#define LOAD_YMM(n) "vmovdqu " #n "*32(%[in]), %%ymm" #n "\n\t"
#define STORE_YMM(n) "vmovdqu %%ymm" #n ", " #n "*32(%[out])\n\t"
#define LOAD_ZMM(n) "vmovdqu64 " #n "*64(%[in]), %%zmm" #n "\n\t"
#define STORE_ZMM(n) "vmovdqu64 %%zmm" #n ", " #n "*64(%[out])\n\t"
#define CLOBBER_XMM                                                                                            \
    "rcx", "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9", "xmm10", "xmm11",  \
        "xmm12", "xmm13", "xmm14", "xmm15", "memory", "cc"

static unsigned char loaded[32 * 64], stored[32 * 64];

static void sse(void)
{
    __asm__ volatile(EACH_OF_16(LOAD_XMM) LOOP EACH_OF_16(STORE_XMM) : : [in] "r"(loaded), [out] "r"(stored) : CLOBBER_XMM);
    SAME(memcmp(loaded, stored, 16 * 16), 0);
}

__attribute__((target("avx2"))) static void avx(void)
{
    __asm__ volatile(EACH_OF_16(LOAD_YMM) LOOP EACH_OF_16(STORE_YMM) "vzeroupper" : : [in] "r"(loaded), [out] "r"(stored) : CLOBBER_XMM);
    SAME(memcmp(loaded, stored, 16 * 32), 0);
}

__attribute__((target("avx512f"))) static void avx512(void)
{
    uint64_t mask = next_random() & 0xffff, found;
    __asm__ volatile("kmovw %k[mask], %%k5\n\t" EACH_OF_32(LOAD_ZMM) LOOP EACH_OF_32(STORE_ZMM)
                     "kmovw %%k5, %k[found]\n\tvzeroupper"
                     : [found] "=&r"(found)
                     : [in] "r"(loaded), [out] "r"(stored), [mask] "r"(mask)
                     : CLOBBER_XMM, "xmm16", "xmm17", "xmm18", "xmm19", "xmm20", "xmm21", "xmm22", "xmm23", "xmm24",
                       "xmm25", "xmm26", "xmm27", "xmm28", "xmm29", "xmm30", "xmm31", "k5");
    SAME(memcmp(loaded, stored, 32 * 64), 0);
    SAME(found & 0xffff, mask);
}

/* The vector registers, as wide as this processor has them. */
static void vector_registers(void)
{
    fill(loaded, sizeof loaded, next_random());
    memset(stored, 0, sizeof stored);
    sse();
    if (__builtin_cpu_supports("avx2"))
        avx();
    if (__builtin_cpu_supports("avx512f"))
        avx512();
}

/* The x87 stack, the rounding modes and the exception flags. */
static void floating_point(void)
{
    long double kept[8], found[8];
    for (int i = 0; i < 8; i++)
        kept[i] = 1.0L / (i + 3);
    for (int i = 7; i >= 0; i--)
        __asm__ volatile("fldt %0" : : "m"(kept[i]));
    __asm__ volatile(LOOP : : : "rcx", "cc");
    for (int i = 0; i < 8; i++)
        __asm__ volatile("fstpt %0" : "=m"(found[i]));
    for (int i = 0; i < 8; i++)
        MUST(found[i] == kept[i]);
    const int modes[] = { FE_UPWARD, FE_DOWNWARD, FE_TOWARDZERO, FE_TONEAREST };
    for (size_t i = 0; i < COUNT(modes); i++) {
        SAME(fesetround(modes[i]), 0);
        SAME(feclearexcept(FE_ALL_EXCEPT), 0);
        volatile double one = 1, three = 3, third = one / three;
        compute(0.02);
        SAME(fegetround(), modes[i]);
        MUST(fetestexcept(FE_INEXACT));
        MUST(third * 3 <= 1.0 || modes[i] == FE_UPWARD);
    }
    feclearexcept(FE_ALL_EXCEPT);
}

/* Results that are known to the last bit. */
static void known_results(void)
{
    uint64_t state = 1;
    for (unsigned long i = 0; i < TURNS; i++)
        state = state * 6364136223846793005u + 1442695040888963407u;
    static uint64_t first_state;
    if (!first_state)
        first_state = state;
    MUST(state == first_state);
    double sum = 0;
    for (int i = 1; i < 2000000; i++)
        sum += sin(i) / i;
    /* pi / 2 - 1 / 2, less the tail. */
    MUST(fabs(sum - (M_PI - 1) / 2) < 1e-5);
    static double first_sum;
    if (first_sum == 0)
        first_sum = sum;
    MUST(memcmp(&sum, &first_sum, sizeof sum) == 0);
}

static __thread uint64_t of_thread = 0x1234;

/* Both segment bases. */
static void segment_bases(void)
{
    static uint64_t behind_gs[2];
    unsigned long fs, gs;
    for (int i = 0; i < 10; i++) {
        behind_gs[1] = next_random();
        SAME(syscall(SYS_arch_prctl, ARCH_SET_GS, behind_gs), 0);
        compute(0.005);
        uint64_t found;
        __asm__ volatile("mov %%gs:8, %0" : "=r"(found));
        SAME(found, behind_gs[1]);
        SAME(syscall(SYS_arch_prctl, ARCH_GET_GS, &gs), 0);
        SAME(gs, (unsigned long)behind_gs);
        SAME(syscall(SYS_arch_prctl, ARCH_GET_FS, &fs), 0);
        SAME(fs, (unsigned long)__builtin_thread_pointer());
        SAME(of_thread, 0x1234 + (uint64_t)i);
        of_thread++;
    }
    of_thread = 0x1234;
    SAME(syscall(SYS_arch_prctl, ARCH_SET_GS, 0), 0);
}

/* Where it runs: by the C library's shared word (rseq), by the vDSO, by the call. */
static void processor_number(void)
{
    long processors = sysconf(_SC_NPROCESSORS_CONF);
    for (int i = 0; i < 100; i++) {
        unsigned cpu, node;
        int number = sched_getcpu();
        MUST(number >= 0 && number < processors);
        SAME(syscall(SYS_getcpu, &cpu, &node, NULL), 0);
        MUST(cpu < (unsigned)processors);
        if (i % 10 == 0)
            compute(0.005);
    }
}

const struct check processor_checks[] = {
    { "general-registers", general_registers },
    { "vector-registers", vector_registers },
    { "floating-point", floating_point },
    { "known-results", known_results },
    { "segment-bases", segment_bases },
    { "processor-number", processor_number },
    { 0 },
};
