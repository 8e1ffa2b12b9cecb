/* What a handler sees, and what it may do. */
#include "probe.h"

#include <setjmp.h>
#include <ucontext.h>

static volatile sig_atomic_t taken;
static siginfo_t last;

static void note(int signal, siginfo_t *info, void *context)
{
    (void)signal, (void)context;
    last = *info;
    taken++;
}

/* Signals to itself carry who sent them, and how. */
static void own_signals(void)
{
    handle(SIGUSR1, note, 0);
    for (int i = 0; i < 30; i++) {
        taken = 0;
        SAME(kill(getpid(), SIGUSR1), 0);
        SAME(taken, 1);
        SAME(last.si_code, SI_USER);
        SAME(last.si_pid, getpid());
        SAME(last.si_uid, getuid());
        compute(0.002);
        SAME(raise(SIGUSR1), 0);
        SAME(taken, 2);
        SAME(last.si_code, SI_TKILL);
        SAME(last.si_pid, getpid());
        union sigval value = { .sival_ptr = (void *)(uintptr_t)(0x123456789abc + i) };
        SAME(sigqueue(getpid(), SIGUSR1, value), 0);
        SAME(taken, 3);
        SAME(last.si_code, SI_QUEUE);
        SAME((long)last.si_value.sival_ptr, 0x123456789abc + i);
    }
    unhandle(SIGUSR1);
}

static sigjmp_buf escape;

static void escaping(int signal, siginfo_t *info, void *context)
{
    (void)signal, (void)context;
    last = *info;
    taken++;
    siglongjmp(escape, 1);
}

/* Faults of the program's own making, with their codes. */
static void own_faults(void)
{
    handle(SIGSEGV, escaping, 0);
    handle(SIGFPE, escaping, 0);
    handle(SIGILL, escaping, 0);
    handle(SIGTRAP, escaping, 0);
    handle(SIGBUS, escaping, 0);
    for (int i = 0; i < 10; i++) {
        volatile int zero = 0, one = 1;
        compute(0.004);
        if (sigsetjmp(escape, 1) == 0)
            one = one / zero;
        SAME(last.si_signo, SIGFPE);
        SAME(last.si_code, FPE_INTDIV);
        if (sigsetjmp(escape, 1) == 0)
            *(volatile int *)8 = 1;
        SAME(last.si_signo, SIGSEGV);
        SAME(last.si_code, SEGV_MAPERR);
        SAME((long)last.si_addr, 8);
        /* An address that is no address: the kernel tells no more than that. */
        if (sigsetjmp(escape, 1) == 0)
            *(volatile int *)0x8000000000000000 = 1;
        SAME(last.si_signo, SIGSEGV);
        SAME(last.si_code, SI_KERNEL);
        if (sigsetjmp(escape, 1) == 0)
            __asm__ volatile("ud2");
        SAME(last.si_signo, SIGILL);
        SAME(last.si_code, ILL_ILLOPN);
        if (sigsetjmp(escape, 1) == 0)
            __asm__ volatile("int3");
        SAME(last.si_signo, SIGTRAP);
        SAME(last.si_code, SI_KERNEL);
    }
    unhandle(SIGSEGV);
    unhandle(SIGFPE);
    unhandle(SIGILL);
    unhandle(SIGTRAP);
    unhandle(SIGBUS);
}

static void skip_two_bytes(int signal, siginfo_t *info, void *context)
{
    (void)signal, (void)info;
    ucontext_t *state = context;
    state->uc_mcontext.gregs[REG_RIP] += 2;
    state->uc_mcontext.gregs[REG_R12] = 4711;
    taken++;
}

/* A handler changes the registers to which it returns. */
static void changed_context(void)
{
    handle(SIGILL, skip_two_bytes, 0);
    for (int i = 0; i < 20; i++) {
        long found;
        __asm__ volatile("xor %%r12, %%r12\n\tud2\n\tmov %%r12, %0" : "=r"(found) : : "r12", "memory");
        SAME(found, 4711);
        compute(0.002);
    }
    unhandle(SIGILL);
}

static char order[64];
static volatile size_t reached;

static void say(char character)
{
    if (reached < sizeof order - 1)
        order[reached++] = character;
}

static bool is_blocked(int signal)
{
    sigset_t mask;
    SAME(sigprocmask(SIG_SETMASK, NULL, &mask), 0);
    return sigismember(&mask, signal) == 1;
}

static void inner(int signal, siginfo_t *info, void *context)
{
    (void)info, (void)context;
    say('c');
    MUST(is_blocked(signal));
    compute(0.003);
    say('d');
}

static void middle(int signal, siginfo_t *info, void *context)
{
    (void)signal, (void)info, (void)context;
    say('b');
    MUST(is_blocked(SIGUSR1) && is_blocked(SIGUSR2) && is_blocked(SIGTERM) && !is_blocked(SIGHUP));
    compute(0.003);
    raise(SIGHUP);
    compute(0.003);
    say('e');
}

static void outer(int signal, siginfo_t *info, void *context)
{
    (void)signal, (void)info, (void)context;
    say('a');
    MUST(is_blocked(SIGUSR1) && !is_blocked(SIGUSR2));
    compute(0.003);
    raise(SIGUSR1); /* blocked here: taken after this handler */
    raise(SIGUSR2);
    say('f');
    unhandle(SIGUSR1);
    handle(SIGUSR1, inner, 0);
}

/* Handlers within handlers, with the masks that each asks for. */
static void nested(void)
{
    for (int i = 0; i < 6; i++) {
        reached = 0;
        memset(order, 0, sizeof order);
        handle(SIGUSR1, outer, 0);
        struct sigaction action = { .sa_sigaction = middle, .sa_flags = SA_SIGINFO };
        sigemptyset(&action.sa_mask);
        sigaddset(&action.sa_mask, SIGTERM);
        SAME(sigaction(SIGUSR2, &action, NULL), 0);
        handle(SIGHUP, inner, 0);
        raise(SIGUSR1);
        if (strcmp(order, "abcdefcd") != 0)
            fail(__FILE__, __LINE__, "the order was %s", order);
        MUST(!is_blocked(SIGUSR1) && !is_blocked(SIGUSR2) && !is_blocked(SIGTERM) && !is_blocked(SIGHUP));
    }
    unhandle(SIGUSR1);
    unhandle(SIGUSR2);
    unhandle(SIGHUP);
}

static void again(int signal, siginfo_t *info, void *context)
{
    (void)info, (void)context;
    taken++;
    if (taken < 8)
        raise(signal);
    taken += 100;
}

/* SA_NODEFER and SA_RESETHAND. */
static void flags(void)
{
    taken = 0;
    handle(SIGUSR1, again, SA_NODEFER);
    raise(SIGUSR1);
    SAME(taken, 808); /* eight levels */
    handle(SIGUSR2, note, SA_RESETHAND);
    taken = 0;
    raise(SIGUSR2);
    SAME(taken, 1);
    compute(0.02);
    struct sigaction found;
    SAME(sigaction(SIGUSR2, NULL, &found), 0);
    MUST(found.sa_handler == SIG_DFL);
    unhandle(SIGUSR1);
}

static volatile char *alternate_low, *alternate_high;
static volatile bool was_on_it;

static void on_alternate(int signal, siginfo_t *info, void *context)
{
    (void)signal, (void)info, (void)context;
    volatile char here;
    was_on_it = &here >= alternate_low && &here < alternate_high;
    stack_t stack;
    SAME(sigaltstack(NULL, &stack), 0);
    SAME(stack.ss_flags, SS_ONSTACK);
    taken++;
}

/* Handlers on a stack of their own. */
static void alternate_stack(void)
{
    const size_t length = 64 * 1024;
    char *area = malloc(length);
    MUST(area);
    alternate_low = area;
    alternate_high = area + length;
    stack_t stack = { .ss_sp = area, .ss_size = length }, found;
    SAME(sigaltstack(&stack, NULL), 0);
    handle(SIGUSR1, on_alternate, SA_ONSTACK);
    for (int i = 0; i < 20; i++) {
        taken = 0;
        was_on_it = false;
        raise(SIGUSR1);
        MUST(taken == 1 && was_on_it);
        compute(0.003);
        SAME(sigaltstack(NULL, &found), 0);
        MUST(found.ss_sp == area && found.ss_size == length && found.ss_flags == 0);
    }
    stack.ss_flags = SS_DISABLE;
    SAME(sigaltstack(&stack, NULL), 0);
    compute(0.03);
    SAME(sigaltstack(NULL, &found), 0);
    SAME(found.ss_flags, SS_DISABLE);
    unhandle(SIGUSR1);
    free(area);
}

/* Handlers that would like a stack of their own where there is none. */
static void no_alternate_stack(void)
{
    stack_t stack = { .ss_flags = SS_DISABLE };
    SAME(sigaltstack(&stack, NULL), 0);
    handle(SIGUSR1, note, SA_ONSTACK);
    for (int i = 0; i < 30; i++) {
        taken = 0;
        compute(0.003);
        raise(SIGUSR1);
        SAME(taken, 1);
    }
    unhandle(SIGUSR1);
}

static uint64_t endless(uint64_t depth)
{
    volatile char room[4096];
    room[depth % sizeof room] = (char)depth;
    return endless(depth + 1) + (uint64_t)room[depth % sizeof room];
}

/* A stack that overflows, and a program that goes on. */
static void overflow(void)
{
    const size_t length = 64 * 1024;
    char *area = malloc(length);
    MUST(area);
    stack_t stack = { .ss_sp = area, .ss_size = length };
    SAME(sigaltstack(&stack, NULL), 0);
    handle(SIGSEGV, escaping, SA_ONSTACK);
    if (sigsetjmp(escape, 1) == 0)
        endless(0);
    SAME(last.si_signo, SIGSEGV);
    compute(0.02);
    unhandle(SIGSEGV);
    stack.ss_flags = SS_DISABLE;
    SAME(sigaltstack(&stack, NULL), 0);
    free(area);
}

/* A jump out of a handler restores the mask that was saved. */
static void jump_out(void)
{
    handle(SIGUSR1, escaping, 0);
    for (int i = 0; i < 30; i++) {
        taken = 0;
        if (sigsetjmp(escape, 1) == 0)
            raise(SIGUSR1);
        SAME(taken, 1);
        MUST(!is_blocked(SIGUSR1));
        compute(0.002);
        MUST(!is_blocked(SIGUSR1));
    }
    unhandle(SIGUSR1);
}

/* Blocked signals wait, once each; they come when they are let through. */
static void blocked_signals(void)
{
    handle(SIGUSR1, note, 0);
    handle(SIGUSR2, note, 0);
    sigset_t both, old, pending;
    sigemptyset(&both);
    sigaddset(&both, SIGUSR1);
    sigaddset(&both, SIGUSR2);
    for (int i = 0; i < 10; i++) {
        taken = 0;
        SAME(sigprocmask(SIG_BLOCK, &both, &old), 0);
        raise(SIGUSR1);
        compute(0.004);
        kill(getpid(), SIGUSR2);
        raise(SIGUSR1);
        compute(0.004);
        SAME(taken, 0);
        SAME(sigpending(&pending), 0);
        MUST(sigismember(&pending, SIGUSR1) && sigismember(&pending, SIGUSR2) && !sigismember(&pending, SIGHUP));
        SAME(sigprocmask(SIG_SETMASK, &old, NULL), 0);
        SAME(taken, 2);
        SAME(sigpending(&pending), 0);
        MUST(!sigismember(&pending, SIGUSR1) && !sigismember(&pending, SIGUSR2));
    }
    unhandle(SIGUSR1);
    unhandle(SIGUSR2);
}

const struct check signal_checks[] = {
    { "own-signals", own_signals },
    { "own-faults", own_faults },
    { "changed-context", changed_context },
    { "nested-handlers", nested },
    { "handler-flags", flags },
    { "alternate-stack", alternate_stack },
    { "no-alternate-stack", no_alternate_stack },
    { "stack-overflow", overflow },
    { "jump-out-of-handler", jump_out },
    { "blocked-signals", blocked_signals },
    { 0 },
};
