/* test_common_outbox_disk.c - what the outbox promises of the disk: torn files, flipped bits, full disks, kill -9. */
#include "common/clock.h"
#include "common/outbox_impl.h"
#include <dirent.h>
#include <fcntl.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#define WAIT_MS   10000
#define ITEMS_MAX 4096

/* ---- a place for one test ---- */

struct place {
    char dir[64];
    struct loop l;
    struct outbox *b;
    size_t done, failed;
    char why[256];
    bool closed;
};

static int set_up(void **state)
{
    struct place *p = calloc(1, sizeof *p);
    strcpy(p->dir, "/tmp/redoubt-outbox-XXXXXX");
    *state = p;
    return mkdtemp(p->dir) && loop_init(&p->l) == 0 ? 0 : -1;
}

static void on_closed(void *ctx)
{
    ((struct place *)ctx)->closed = true;
}

static void close_box(struct place *p)
{
    p->closed = false;
    outbox_close(p->b, 0, on_closed, p);
    assert_true(loop_run_until(&p->l, &p->closed, WAIT_MS));
    p->b = NULL;
}

static int clean_up(void **state)
{
    struct place *p = *state;
    if (p->b)
        close_box(p);
    loop_done(&p->l);
    DIR *d = opendir(p->dir);
    for (struct dirent *f; d && (f = readdir(d));)
        if (f->d_name[0] != '.')
            unlinkat(dirfd(d), f->d_name, 0);
    closedir(d);
    rmdir(p->dir);
    free(p);
    return 0;
}

static void open_box(struct place *p)
{
    struct err e;
    p->b = outbox_open(&p->l, &(struct outbox_opts){.dir = p->dir}, &e);
    if (!p->b)
        print_message("%s\n", e.text);
    assert_non_null(p->b);
}

static void append_to(struct outbox *b, const char *id, outbox_cb cb, void *ctx)
{
    struct outbox_item i = {.subject = "redoubt.v1.audit.test", .id = id, .type = "t", .data = id, .len = strlen(id)};
    outbox_append(b, &i, cb, ctx);
}

static void on_append(void *ctx, int status, const char *error)
{
    struct place *p = ctx;
    if (status == 0) {
        p->done++;
    } else {
        snprintf(p->why, sizeof p->why, "%s", error);
        p->failed++;
    }
}

static void append_n(struct place *p, size_t from, size_t n)
{
    for (size_t i = from; i < from + n; i++) {
        char id[32];
        snprintf(id, sizeof id, "item-%zu", i);
        append_to(p->b, id, on_append, p);
    }
}

/* Turns the loop until cond holds. */
#define UNTIL(p, cond)                                                                                               \
    do {                                                                                                             \
        int64_t end_ = clock_mono_ms() + WAIT_MS;                                                                    \
        while (!(cond) && clock_mono_ms() < end_)                                                                    \
            loop_run_until(&(p)->l, &(bool){false}, 5);                                                              \
        assert_true(cond);                                                                                           \
    } while (0)

/* ---- damage ---- */

struct bytes {
    unsigned char *b;
    size_t n;
};

static struct bytes read_file(const char *dir, const char *name)
{
    char path[128];
    struct stat st;
    snprintf(path, sizeof path, "%s/%s", dir, name);
    int fd = open(path, O_RDONLY);
    assert_true(fd >= 0 && fstat(fd, &st) == 0);
    struct bytes x = {malloc((size_t)st.st_size), (size_t)st.st_size};
    assert_int_equal(read(fd, x.b, x.n), x.n);
    close(fd);
    return x;
}

static void write_file(const char *dir, const char *name, const unsigned char *b, size_t n)
{
    char path[128];
    snprintf(path, sizeof path, "%s/%s", dir, name);
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    assert_true(fd >= 0 && write(fd, b, n) == (ssize_t)n);
    close(fd);
}

/* Loads the directory and returns how many items are there; `has[i]` tells of item-i. Order and contents are checked. */
static size_t load(const char *dir, bool *has, size_t n_has, bool keep, size_t *ret_damaged)
{
    struct outbox_shelf s;
    struct err e;
    int fd = open(dir, O_RDONLY | O_DIRECTORY);
    size_t n = 0, last = 0;
    assert_int_equal(outbox_shelf_load(&s, fd, dir, keep, &e), 0);
    memset(has, 0, n_has * sizeof *has);
    for (size_t i = 0; i < s.n; i++) {
        for (size_t k = 0; k < s.segs[i]->n; k++, n++) {
            const struct outbox_entry *x = &s.segs[i]->entries[k];
            unsigned char *buf = malloc(x->len);
            struct outbox_record r;
            size_t number;
            assert_true(outbox_read_at(s.segs[i]->fd, buf, x->len, x->offset));
            assert_int_equal(outbox_record_read(buf, x->len, &r), x->len);
            assert_int_equal(sscanf(r.id, "item-%zu", &number), 1);
            assert_true(number < n_has && !has[number] && (n == 0 || number > last));
            assert_memory_equal(r.data, r.id, r.len);
            has[number] = true;
            last = number;
            free(buf);
        }
    }
    if (ret_damaged)
        *ret_damaged = s.damaged_bytes;
    outbox_shelf_free(&s);
    close(fd);
    return n;
}

static void torn_tails_are_cut_off(void **state)
{
    struct place *p = *state;
    bool has[16];
    open_box(p);
    append_n(p, 0, 10);
    UNTIL(p, p->done == 10);
    close_box(p);
    struct bytes x = read_file(p->dir, "outbox-00000001.log");
    size_t record = x.n / 10;
    assert_int_equal(x.n % 10, 0);
    for (size_t cut = 0; cut <= x.n; cut++) {
        size_t damaged;
        write_file(p->dir, "outbox-00000001.log", x.b, cut);
        assert_int_equal(load(p->dir, has, 16, false, &damaged), cut / record);
        assert_int_equal(damaged, cut % record);
        struct bytes y = read_file(p->dir, "outbox-00000001.log");
        assert_int_equal(y.n, cut - cut % record);
        free(y.b);
    }
    free(x.b);
    open_box(p); /* and life goes on behind it */
    append_n(p, 10, 3);
    UNTIL(p, p->done == 13);
    close_box(p);
    assert_int_equal(load(p->dir, has, 16, false, NULL), 13);
}

static void a_flipped_bit_costs_one_record(void **state)
{
    struct place *p = *state;
    bool has[16];
    open_box(p);
    append_n(p, 0, 10);
    UNTIL(p, p->done == 10);
    close_box(p);
    struct bytes x = read_file(p->dir, "outbox-00000001.log");
    size_t record = x.n / 10;
    for (size_t at = 0; at < x.n; at++) {
        for (unsigned bit = 0; bit < 8; bit += at % record < 4 ? 1 : 7) { /* the magic turns into other versions' */
            x.b[at] ^= (unsigned char)(1u << bit);
            write_file(p->dir, "outbox-00000001.log", x.b, x.n);
            assert_int_equal(load(p->dir, has, 16, true, NULL), 9);
            assert_false(has[at / record]);
            x.b[at] ^= (unsigned char)(1u << bit);
        }
    }
    /* Nonsense is no item, and no reason to fail. */
    for (size_t at = 0; at < x.n; at++)
        x.b[at] = (unsigned char)(at * 2654435761u >> 13);
    write_file(p->dir, "outbox-00000001.log", x.b, x.n);
    assert_int_equal(load(p->dir, has, 16, true, NULL), 0);
    write_file(p->dir, "outbox-00000002.log", x.b, 0);
    write_file(p->dir, "outbox-2.log", x.b, x.n);
    write_file(p->dir, "outbox-00000001.log.bak", x.b, x.n);
    open_box(p);
    assert_int_equal(outbox_backlog(p->b), 0);
    append_n(p, 0, 1);
    UNTIL(p, p->done == 11);
    free(x.b);
}

/* What a later version wrote is no damage: nothing is cut off, nothing is published without it, and it is said. */
static void a_newer_version_s_files_are_left_alone(void **state)
{
    struct place *p = *state;
    struct err e = {""};
    open_box(p);
    append_n(p, 0, 10);
    UNTIL(p, p->done == 10);
    close_box(p);
    struct bytes x = read_file(p->dir, "outbox-00000001.log");
    size_t record = x.n / 10;
    for (size_t first = 0; first < 10; first++) {
        struct bytes y = {malloc(x.n), x.n};
        memcpy(y.b, x.b, x.n);
        for (size_t at = first * record; at < y.n; at += record) { /* its own sums, of whatever it sums up */
            y.b[at + 3] = '2';
            y.b[at + record - 1] ^= 0x55;
        }
        write_file(p->dir, "outbox-00000001.log", y.b, y.n);
        struct outbox_opts o = {.dir = p->dir};
        assert_null(outbox_open(&p->l, &o, &e));
        assert_non_null(strstr(e.text, "outbox-00000001.log: version 2 "));
        struct bytes z = read_file(p->dir, "outbox-00000001.log");
        assert_int_equal(z.n, y.n);
        assert_memory_equal(z.b, y.b, y.n);
        free(y.b);
        free(z.b);
    }
    write_file(p->dir, "outbox-00000001.log", x.b, x.n);
    free(x.b);
    bool has[16];
    assert_int_equal(load(p->dir, has, 16, true, NULL), 10);
}

/* ---- disks that do not take it ---- */

static void a_disk_that_refuses_is_said_and_mended(void **state)
{
    struct place *p = *state;
    struct rlimit was, tight;
    bool has[64];
    open_box(p);
    append_n(p, 0, 5);
    UNTIL(p, p->done == 5);
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &was), 0);
    signal(SIGXFSZ, SIG_IGN);
    tight = was;
    tight.rlim_cur = 70; /* less than a record: every file ends inside one */
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &tight), 0);
    append_n(p, 20, 3);
    UNTIL(p, p->failed == 3);
    assert_false(outbox_ok(p->b));
    assert_non_null(strstr(p->why, "File too large"));
    append_n(p, 30, 1);
    UNTIL(p, p->failed == 4);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &was), 0);
    UNTIL(p, outbox_ok(p->b)); /* by its own trial */
    append_n(p, 40, 2);
    UNTIL(p, p->done == 7);
    close_box(p);
    size_t damaged;
    assert_int_equal(load(p->dir, has, 64, true, &damaged), 7);
    assert_true(has[0] && has[4] && has[40] && has[41]); /* what was refused never shows up */
    assert_int_equal(damaged, 0);
}

static void a_full_disk_loses_nothing(void **state)
{
    struct place *p = *state;
    char ballast[96];
    bool *has = calloc(ITEMS_MAX, sizeof *has);
    if (unshare(CLONE_NEWNS) != 0 || mount("none", "/", "none", MS_REC | MS_PRIVATE, NULL) != 0 ||
        mount("none", p->dir, "tmpfs", 0, "size=128k") != 0) {
        free(has);
        print_message("skipped: needs the right to mount a tmpfs\n");
        skip();
    }
    snprintf(ballast, sizeof ballast, "%s/ballast", p->dir);
    static unsigned char zeros[64 << 10];
    write_file(p->dir, "ballast", zeros, sizeof zeros);
    open_box(p);
    size_t n = 0;
    for (; p->failed == 0 && n < ITEMS_MAX / 2; n++) {
        append_n(p, n, 1);
        UNTIL(p, p->done + p->failed == n + 1);
    }
    assert_int_equal(p->failed, 1);
    assert_non_null(strstr(p->why, "No space left on device"));
    assert_false(outbox_ok(p->b));
    size_t good = p->done;
    unlink(ballast);
    UNTIL(p, outbox_ok(p->b));
    append_n(p, n, 1);
    UNTIL(p, p->done == good + 1);
    close_box(p);
    assert_int_equal(load(p->dir, has, ITEMS_MAX, true, NULL), good + 1);
    assert_false(has[n - 1]);
    assert_true(has[n]);
    free(has);
    umount2(p->dir, MNT_DETACH);
}

/* ---- a process that is killed ---- */

static int child_pipe;
static size_t child_next;
static struct outbox *child_box;

static void child_append(void);
static void child_done(void *ctx, int status, const char *error)
{
    (void)error;
    uint64_t number = (uint64_t)(uintptr_t)ctx;
    if (status == 0 && write(child_pipe, &number, sizeof number) != sizeof number)
        _exit(3);
    child_append();
}

static void child_append(void)
{
    char id[32];
    size_t number = child_next++;
    snprintf(id, sizeof id, "item-%zu", number);
    append_to(child_box, id, child_done, (void *)(uintptr_t)number);
}

/* The program called by itself: appends for ever, and tells the number of each item that it was promised. */
static int child(const char *dir, const char *first, const char *out)
{
    struct loop l;
    struct err e;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    log_init("child", LOG_LEVEL_ERROR, LOG_FORMAT_LOGFMT);
    child_pipe = atoi(out);
    child_next = strtoul(first, NULL, 10);
    if (loop_init(&l) || !(child_box = outbox_open(&l, &(struct outbox_opts){.dir = dir, .max_bytes = 1 << 20}, &e)))
        return 2;
    for (int i = 0; i < 7; i++)
        child_append();
    loop_run(&l);
    return 0;
}

/* As it was called: /proc/self/exe is valgrind's answer under valgrind, and names another place inside a changed root. */
static const char *self;

static void what_was_promised_survives_kill_9(void **state)
{
    struct place *p = *state;
    size_t next = 0, promised_n = 0;
    static uint64_t promised[1 << 16];
    static bool has[1 << 17];
    unsigned seed = (unsigned)clock_mono_ns();
    print_message("seed %u\n", seed);
    for (int round = 0; round < 25; round++) {
        int fds[2], status;
        char first[24], out[16];
        assert_int_equal(pipe(fds), 0);
        snprintf(first, sizeof first, "%zu", next);
        snprintf(out, sizeof out, "%d", fds[1]);
        pid_t pid = fork();
        if (pid == 0) {
            execl(self, self, "--append", p->dir, first, out, (char *)NULL);
            _exit(127);
        }
        close(fds[1]);
        /* Killed after a random number of promises, so that slow machines see all moments too. */
        size_t stop = promised_n + (size_t)(rand_r(&seed) % 60);
        uint64_t number;
        while (promised_n < stop && read(fds[0], &number, sizeof number) == sizeof number)
            promised[promised_n++] = number;
        struct timespec pause = {0, rand_r(&seed) % 3000000};
        nanosleep(&pause, NULL);
        kill(pid, SIGKILL);
        assert_int_equal(waitpid(pid, &status, 0), pid);
        while (read(fds[0], &number, sizeof number) == sizeof number)
            promised[promised_n++] = number;
        close(fds[0]);
        assert_true(promised_n >= stop);
        load(p->dir, has, 1 << 17, false, NULL);
        for (size_t i = 0; i < promised_n; i++)
            assert_true(has[promised[i]]);
        for (size_t i = next; i < (1 << 17); i++)
            if (has[i])
                next = i + 1;
        if (promised_n > 0 && promised[promised_n - 1] >= next)
            next = promised[promised_n - 1] + 1;
    }
    assert_true(promised_n > 100);
}

int main(int argc, char **argv)
{
    self = argv[0];
    if (argc == 5 && strcmp(argv[1], "--append") == 0)
        return child(argv[2], argv[3], argv[4]);
    log_init("test", LOG_LEVEL_ERROR, LOG_FORMAT_LOGFMT);
#define TEST(fn) cmocka_unit_test_setup_teardown(fn, set_up, clean_up)
    const struct CMUnitTest tests[] = {
        TEST(torn_tails_are_cut_off),
        TEST(a_flipped_bit_costs_one_record),
        TEST(a_newer_version_s_files_are_left_alone),
        TEST(a_disk_that_refuses_is_said_and_mended),
        TEST(a_full_disk_loses_nothing),
        TEST(what_was_promised_survives_kill_9),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
