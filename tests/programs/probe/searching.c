/* What is looked for in several places, as a compiler looks for headers: natively each look is one of its own. */
#include "probe.h"

#include <pthread.h>

static const char *const places[] = { "first", "second", "third", "last" };

/* Good until the next call but one. */
static const char *at(size_t place, const char *name)
{
    static char paths[2][700];
    static int which;
    char below[64];
    snprintf(below, sizeof below, "%s/%s", places[place], name);
    which = !which;
    snprintf(paths[which], sizeof paths[which], "%s", scratch_name(below));
    return paths[which];
}

static void make_places(void)
{
    for (size_t i = 0; i < COUNT(places); i++)
        if (mkdir(scratch_name(places[i]), 0700) != 0)
            SAME(errno, EEXIST);
}

static void remove_places(void)
{
    for (size_t i = 0; i < COUNT(places); i++)
        SAME(rmdir(scratch_name(places[i])), 0);
}

/* Where it is, from a place on; -1 for nowhere. */
static int search_from(size_t place, const char *name)
{
    for (; place < COUNT(places); place++) {
        char *real = realpath(at(place, name), NULL);
        int file = open(at(place, name), O_RDONLY);
        MUST((real != NULL) == (file >= 0));
        free(real);
        if (file >= 0) {
            SAME(close(file), 0);
            return (int)place;
        }
        SAME(errno, ENOENT);
    }
    return -1;
}

static int search(const char *name)
{
    return search_from(0, name);
}

static void make(size_t place, const char *name)
{
    int file = open(at(place, name), O_CREAT | O_EXCL | O_WRONLY, 0600);
    MUST(file >= 0);
    SAME(close(file), 0);
}

/* Whoever looks often enough could be told beforehand. */
static void look_often(void)
{
    for (int i = 0; i < 3; i++)
        SAME(search("nowhere"), -1);
}

/* What the program itself makes and removes in the middle of a search. */
static void searches(void)
{
    make_places();
    look_often();
    for (size_t place = 0; place < COUNT(places); place++) {
        make(place, "own");
        SAME(search("own"), place);
        SAME(unlink(at(place, "own")), 0);
        SAME(search("own"), -1);
    }
    REFUSED(open(at(0, "own"), O_RDONLY), ENOENT);
    make(3, "own");
    SAME(search_from(1, "own"), 3);
    SAME(rename(at(3, "own"), at(2, "own")), 0);
    SAME(search("own"), 2);
    REFUSED(open(at(0, "own"), O_RDONLY), ENOENT);
    SAME(symlink(at(2, "own"), at(1, "own")), 0);
    SAME(search_from(1, "own"), 1);
    SAME(unlink(at(1, "own")), 0);
    SAME(unlink(at(2, "own")), 0);
    remove_places();
}

struct helper {
    int order[2], answer[2];
    pid_t parent;
};

/* Makes a file when it is told to, and says so: by a pipe, or by a signal. */
static void help(void *with)
{
    struct helper *helper = with;
    char how;
    while (read(helper->order[0], &how, 1) == 1 && how != 'q') {
        if (how == 's')
            usleep(3000);
        make(2, "others");
        if (how == 's')
            SAME(kill(helper->parent, SIGUSR1), 0);
        else
            SAME(write(helper->answer[1], "x", 1), 1);
    }
}

static volatile sig_atomic_t told;

static void be_told(int signal, siginfo_t *info, void *context)
{
    (void)signal, (void)info, (void)context;
    told = 1;
}

/* What another process makes in the middle of a search is there when it has said so. */
static void searches_of_two(void)
{
    make_places();
    struct helper helper = { .parent = getpid() };
    SAME(pipe(helper.order), 0);
    SAME(pipe(helper.answer), 0);
    handle(SIGUSR1, be_told, SA_RESTART);
    pid_t child = start_child(help, &helper);
    for (int i = 0; i < 6; i++) {
        look_often();
        char byte;
        bool by_signal = i % 2 == 1;
        told = 0;
        if (by_signal)
            SAME(write(helper.order[1], "s", 1), 1);
        REFUSED(open(at(0, "others"), O_RDONLY), ENOENT);
        if (by_signal) {
            while (!told)
                FRESH;
        } else {
            SAME(write(helper.order[1], "p", 1), 1);
            SAME(read(helper.answer[0], &byte, 1), 1);
        }
        SAME(search_from(1, "others"), 2);
        SAME(unlink(at(2, "others")), 0);
    }
    SAME(write(helper.order[1], "q", 1), 1);
    end_child(child, 0);
    unhandle(SIGUSR1);
    for (int i = 0; i < 2; i++) {
        SAME(close(helper.order[i]), 0);
        SAME(close(helper.answer[i]), 0);
    }
    remove_places();
}

static volatile int turn;

static void *make_in_turn(void *unused)
{
    while (turn != 1)
        FRESH;
    make(2, "threads");
    turn = 2;
    return unused;
}

/* The same of a thread, with which one speaks without any call. */
static void searches_of_threads(void)
{
    make_places();
    for (int i = 0; i < 3; i++) {
        pthread_t thread;
        turn = 0;
        SAME(pthread_create(&thread, NULL, make_in_turn, NULL), 0);
        look_often();
        REFUSED(open(at(0, "threads"), O_RDONLY), ENOENT);
        turn = 1;
        while (turn != 2)
            FRESH;
        SAME(search_from(1, "threads"), 2);
        SAME(unlink(at(2, "threads")), 0);
        SAME(pthread_join(thread, NULL), 0);
    }
    remove_places();
}

const struct check searching_checks[] = {
    { "searches", searches },
    { "searches-of-two", searches_of_two },
    { "searches-of-threads", searches_of_threads },
    { 0 },
};
