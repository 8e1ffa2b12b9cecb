/* Files that are mapped to be written: what others find in them when they open them, cut them short, or kill who had them. */
#include "probe.h"

#include <setjmp.h>
#include <sys/time.h>

enum { pages = 24 };

/* On a disk, or in memory. */
static char *make_name(bool in_memory)
{
    static char name[2][600];
    snprintf(name[0], sizeof name[0], "%s", scratch_name("named"));
    /* Of the scratch directory's name nobody else has one, whatever others count their processes by. */
    snprintf(name[1], sizeof name[1], "/dev/shm/%s", scratch_name("named") + 1);
    for (char *at = name[1] + strlen("/dev/shm/"); *at; at++)
        if (*at == '/')
            *at = '-';
    return name[in_memory];
}

/* All pages have their room. */
static char *make_file(const char *name, int *descriptor)
{
    static const char nothing[pages * PAGE];
    int file = open(name, O_CREAT | O_EXCL | O_RDWR, 0600);
    MUST(file >= 0);
    SAME(write(file, nothing, sizeof nothing), (long)sizeof nothing);
    char *area = mmap(NULL, pages * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    MUST(area != MAP_FAILED);
    if (descriptor)
        *descriptor = file;
    else
        SAME(close(file), 0);
    return area;
}

static void drop_file(char *area, const char *name)
{
    SAME(munmap(area, pages * PAGE) | unlink(name), 0);
}

/* Its only holder changes it by its memory, by descriptors, and by its name. */
static void own_file(bool in_memory)
{
    const char *name = make_name(in_memory);
    int file;
    char *area = make_file(name, &file), page[PAGE], other[700];
    uint64_t tags[pages] = { 0 };
    for (int round = 0; round < 12; round++) {
        for (int i = 0; i < 6; i++) {
            size_t at = random_below(pages);
            tags[at] = next_random() | 1;
            fill(area + at * PAGE, PAGE, tags[at]);
        }
        compute(0.06);
        size_t at = random_below(pages);
        SAME(pread(file, page, PAGE, at * PAGE), PAGE);
        MUST(memcmp(page, area + at * PAGE, PAGE) == 0);
        compute(0.03);
        int by_name = open(name, O_RDWR);
        MUST(by_name >= 0);
        tags[at] = next_random() | 1;
        fill(page, PAGE, tags[at]);
        SAME(pwrite(by_name, page, PAGE, at * PAGE), PAGE);
        SAME(close(by_name), 0);
        for (size_t one = 0; one < pages; one++)
            MUST(tags[one] ? is_filled(area + one * PAGE, PAGE, tags[one]) : is_zero(area + one * PAGE, PAGE));
        compute(0.03);
        SAME(msync(area, pages * PAGE, round % 2 ? MS_SYNC : MS_ASYNC), 0);
        struct stat status;
        SAME(stat(name, &status), 0);
        SAME(status.st_size, (long)(pages * PAGE));
    }
    /* Another name, and times of its own. */
    snprintf(other, sizeof other, "%s-too", name);
    fill(area, PAGE, 3);
    compute(0.06);
    SAME(link(name, other), 0);
    struct timeval times[2] = { { 1000, 0 }, { 2000, 0 } };
    SAME(utimes(other, times), 0);
    compute(0.06);
    struct stat status;
    SAME(stat(name, &status), 0);
    SAME(status.st_mtime, 2000);
    int by_other = open(other, O_RDONLY);
    SAME(pread(by_other, page, PAGE, 0), PAGE);
    MUST(is_filled(page, PAGE, 3));
    SAME(close(by_other) | unlink(other), 0);
    /* It is made anew under its name. */
    fill(area, PAGE, 4);
    compute(0.06);
    int cut = open(name, O_RDWR | O_TRUNC);
    MUST(cut >= 0);
    SAME(ftruncate(cut, pages * PAGE), 0);
    MUST(is_zero(area, pages * PAGE));
    SAME(close(cut) | close(file), 0);
    drop_file(area, name);
}

static void named_file(void) { own_file(false); }
static void named_memory(void) { own_file(true); }

/* Of a family each has pages of its own, every other one. */
struct writer {
    const char *name;
    int news, ends;
    bool is_family;
    int first;
};

static size_t place_of(int count, bool is_family, int first)
{
    return (is_family ? count % (pages / 2) * 2 + first : count % pages) * PAGE;
}

static void announce(struct writer *with, int count)
{
    SAME(write(with->news, &count, sizeof count), (long)sizeof count);
}

static int read_count(int news)
{
    int count;
    ssize_t got;
    do
        got = read(news, &count, sizeof count);
    while (got < 0 && errno == EINTR);
    return got == (ssize_t)sizeof count ? count : -1;
}

/* Writes one page after the other, and tells of each. */
static void write_and_tell(void *argument)
{
    struct writer *with = argument;
    int file;
    char *area;
    if (with->is_family) {
        file = open(with->name, O_RDWR);
        area = mmap(NULL, pages * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
        MUST(area != MAP_FAILED);
    } else {
        area = make_file(with->name, &file);
    }
    for (int count = 1;; count++) {
        fill(area + place_of(count, with->is_family, with->first), PAGE, count);
        compute(0.004);
        announce(with, count);
        if (count == with->ends)
            break;
    }
}

/* What is in the file is at least what has been told of it. Its writer goes on meanwhile: each word may be a later one. */
static void is_told(const char *name, int count, bool is_family, int first)
{
    const int later = 1000;
    char page[PAGE];
    int file = open(name, O_RDONLY);
    MUST(file >= 0);
    SAME(pread(file, page, PAGE, place_of(count, is_family, first)), PAGE);
    for (size_t at = 0; at < PAGE; at += 8) {
        int times = 0;
        while (times < later && !is_filled(page + at, 8, count + times * (is_family ? pages / 2 : pages) + at))
            times++;
        MUST(times < later);
    }
    SAME(close(file), 0);
}

/* Strangers open it now and then; in the end its holder is killed, by one signal or another, or ends by itself. */
static void watched(bool in_memory)
{
    const int ends[] = { SIGKILL, 0, SIGTERM, SIGKILL };
    for (size_t i = 0; i < COUNT(ends); i++) {
        const char *name = make_name(in_memory);
        int news[2];
        SAME(pipe(news), 0);
        struct writer with = { name, news[1], ends[i] ? -1 : 140, false, 0 };
        pid_t child = start_child(write_and_tell, &with);
        SAME(close(news[1]), 0);
        int last = 0;
        for (int count; last < 140 && (count = read_count(news[0])) > 0; last = count)
            if (count % 25 == 0 && count < 80)
                is_told(name, count, false, 0);
        SAME(last, 140);
        if (ends[i])
            SAME(kill(child, ends[i]), 0);
        end_child(child, ends[i]);
        for (int count; (count = read_count(news[0])) > 0; last = count)
            ;
        for (int count = last; count > last - pages + 1; count--)
            is_told(name, count, false, 0);
        SAME(close(news[0]) | unlink(name), 0);
    }
}

static void watched_file(void) { watched(false); }
static void watched_memory(void) { watched(true); }

/* Two have it; one is killed, later the other one, or both at once. */
static void named_family(void)
{
    for (int round = 0; round < 4; round++) {
        const char *name = make_name(round % 2);
        char *area = make_file(name, NULL);
        SAME(munmap(area, pages * PAGE), 0);
        pid_t child[2];
        int news[2][2], last[2] = { 0, 0 };
        for (int i = 0; i < 2; i++) {
            SAME(pipe(news[i]), 0);
            struct writer with = { name, news[i][1], -1, true, i };
            child[i] = start_child(write_and_tell, &with);
            SAME(close(news[i][1]), 0);
        }
        for (int told = 0; told < 60; told++)
            for (int i = 0; i < 2; i++)
                MUST((last[i] = read_count(news[i][0])) > 0);
        SAME(kill(child[0], SIGKILL), 0);
        if (round < 2) {
            end_child(child[0], SIGKILL);
            for (int told = 0; told < 20; told++)
                MUST((last[1] = read_count(news[1][0])) > 0);
        }
        SAME(kill(child[1], SIGKILL), 0);
        if (round >= 2)
            end_child(child[0], SIGKILL);
        end_child(child[1], SIGKILL);
        for (int i = 0; i < 2; i++)
            for (int count; (count = read_count(news[i][0])) > 0; last[i] = count)
                ;
        for (int i = 0; i < 2; i++)
            for (int count = last[i]; count > last[i] - pages / 2 + 1; count--)
                is_told(name, count, true, i);
        for (int i = 0; i < 2; i++)
            SAME(close(news[i][0]), 0);
        SAME(unlink(name), 0);
    }
}

static sigjmp_buf escape;

static void escape_fault(int signal)
{
    (void)signal;
    siglongjmp(escape, 1);
}

struct cut {
    const char *name;
    int orders, answers;
};

/* When it hears that the file has been cut short, what lay behind is gone, and what lay before is not. */
static void hear_of_cut(void *argument)
{
    struct cut *with = argument;
    char *area = make_file(with->name, NULL), byte;
    fill(area, pages * PAGE, 5);
    announce(&(struct writer){ .news = with->answers }, 1);
    for (;;) {
        ssize_t got = read(with->orders, &byte, 1);
        if (got == 1)
            break;
        MUST(got < 0 && errno == EINTR);
    }
    fill(area + 2 * PAGE, PAGE, 6);
    signal(SIGBUS, escape_fault);
    if (sigsetjmp(escape, 1) == 0) {
        area[9 * PAGE] = 1;
        MUST(!"a page behind the end was written");
    }
    signal(SIGBUS, SIG_DFL);
    MUST(is_zero(area + 4 * PAGE + 100, PAGE - 100));
    compute(0.1);
    SAME(truncate(with->name, pages * PAGE), 0);
    MUST(is_zero(area + 5 * PAGE, (pages - 5) * PAGE));
    compute(0.1);
    MUST(is_filled(area + 2 * PAGE, PAGE, 6));
}

static void cut_short(bool in_memory)
{
    for (int round = 0; round < 3; round++) {
        const char *name = make_name(in_memory);
        int orders[2], answers[2];
        SAME(pipe(orders) | pipe(answers), 0);
        struct cut with = { name, orders[0], answers[1] };
        pid_t child = start_child(hear_of_cut, &with);
        SAME(close(orders[0]) | close(answers[1]), 0);
        SAME(read_count(answers[0]), 1);
        compute(0.13);
        SAME(truncate(name, 4 * PAGE + 100), 0);
        SAME(write(orders[1], "x", 1), 1);
        end_child(child, 0);
        char page[PAGE];
        int file = open(name, O_RDONLY);
        SAME(pread(file, page, PAGE, 2 * PAGE), PAGE);
        MUST(is_filled(page, PAGE, 6));
        SAME(pread(file, page, PAGE, 4 * PAGE), PAGE);
        MUST(is_zero(page + 100, PAGE - 100) && !is_zero(page, 100));
        SAME(close(file) | close(orders[1]) | close(answers[0]) | unlink(name), 0);
    }
}

static void cut_file(void) { cut_short(false); }
static void cut_memory(void) { cut_short(true); }

const struct check named_checks[] = {
    { "named-file", named_file },     { "named-memory", named_memory }, { "watched-file", watched_file },
    { "watched-memory", watched_memory }, { "named-family", named_family }, { "cut-file", cut_file },
    { "cut-memory", cut_memory },     { 0 },
};
