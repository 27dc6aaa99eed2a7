/* test_audit_chain.c - the trail: every kind of damage is found and placed; a killed writer loses nothing that it promised. */
#include "audit/audit_log.h"
#include "audit/audit_seen.h"
#include "audit/audit_verify.h"
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <sodium.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#define RECORDS 40

struct fixture {
    char dir[128];
    struct loop loop;
    struct audit_log *log;
    size_t answered, failed;
    uint64_t last_seq;
    bool done;
};

static void on_done(void *ctx)
{
    struct fixture *f = ctx;
    f->done = true;
}

static void on_append(void *ctx, uint64_t seq, const char *error)
{
    struct fixture *f = ctx;
    f->answered++;
    f->failed += seq == 0;
    if (seq == 0)
        print_message("append: %s\n", error);
    else
        assert_int_equal(seq, f->last_seq + 1);
    f->last_seq = seq;
    f->done = true;
}

static void on_full(void *ctx, uint64_t seq, const char *error)
{
    struct fixture *f = ctx;
    f->answered++;
    f->failed += seq == 0;
    f->done = true;
    assert_true(seq == 0 && strlen(error) > 0);
}

static void open_log(struct fixture *f, int64_t segment_bytes, struct audit_log_found *found)
{
    struct err e;
    struct audit_log_opts o = {.dir = f->dir, .segment_bytes = segment_bytes};
    f->log = audit_log_open(&f->loop, &o, found, &e);
    assert_non_null(f->log);
    struct audit_log_status st;
    audit_log_status(f->log, &st);
    f->last_seq = st.size;
}

static void close_log(struct fixture *f)
{
    f->done = false;
    audit_log_close(f->log, on_done, f);
    assert_true(loop_run_until(&f->loop, &f->done, 10000));
    f->log = NULL;
}

static void append(struct fixture *f, int n)
{
    for (int i = 0; i < n; i++) {
        char text[64];
        int len = snprintf(text, sizeof text, "record %d of the test", i);
        size_t want = f->answered + 1;
        audit_log_append(f->log, text, (size_t)len, on_append, f);
        for (f->done = false; f->answered < want; f->done = false)
            assert_true(loop_run_until(&f->loop, &f->done, 10000));
    }
}

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof *f);
    if (!f || sodium_init() < 0)
        return -1;
    const char *tmp = getenv("TMPDIR");
    snprintf(f->dir, sizeof f->dir, "%s/redoubt-audit-XXXXXX", tmp ? tmp : "/tmp");
    *state = f;
    return mkdtemp(f->dir) && loop_init(&f->loop) == 0 ? 0 : -1;
}

__attribute__((format(printf, 1, 2))) static void run(const char *fmt, ...)
{
    char cmd[512];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(cmd, sizeof cmd, fmt, ap);
    va_end(ap);
    assert_int_equal(system(cmd), 0);
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    loop_done(&f->loop);
    run("rm -rf '%s'", f->dir);
    free(f);
    return 0;
}

/* A trail of RECORDS in several segments. */
static void make_trail_of(struct fixture *f, int64_t segment_bytes, int records)
{
    struct audit_log_found found;
    open_log(f, segment_bytes, &found);
    assert_true(found.fresh);
    append(f, records);
    close_log(f);
    assert_int_equal(f->failed, 0);
}

static void make_trail(struct fixture *f, int64_t segment_bytes)
{
    make_trail_of(f, segment_bytes, RECORDS);
}

static int verify(struct fixture *f, struct audit_report *r)
{
    struct err e;
    return audit_verify(f->dir, NULL, r, &e);
}

static void test_round_trip(void **state)
{
    struct fixture *f = *state;
    struct audit_report r;
    make_trail(f, 1000);
    assert_int_equal(verify(f, &r), 0);
    assert_int_equal(r.records, RECORDS);
    assert_true(r.segments > 2);
    assert_true(r.checkpointed);
    assert_int_equal(r.checkpoint.size, RECORDS);
    /* Opened again, the chain goes on. */
    struct audit_log_found found;
    open_log(f, 1000, &found);
    assert_false(found.fresh);
    append(f, 5);
    close_log(f);
    assert_int_equal(verify(f, &r), 0);
    assert_int_equal(r.records, RECORDS + 5);
}

static unsigned char *slurp(const char *path, size_t *n)
{
    FILE *fp = fopen(path, "rb");
    assert_non_null(fp);
    unsigned char *data = malloc(1 << 20);
    assert_non_null(data);
    *n = fread(data, 1, 1 << 20, fp);
    fclose(fp);
    return data;
}

/* In place: some file systems write a file out that is cut to nothing and written anew. */
static void spit(const char *path, const void *data, size_t n)
{
    int fd = open(path, O_WRONLY | O_CREAT, 0644);
    assert_true(fd >= 0 && pwrite(fd, data, n, 0) == (ssize_t)n && ftruncate(fd, (off_t)n) == 0);
    close(fd);
}

static void test_every_bit(void **state)
{
    struct fixture *f = *state;
    struct audit_report r;
    make_trail_of(f, 1 << 20, 8); /* every bit of it is tried */
    char path[256], name[AUDIT_NAME_MAX];
    audit_segment_name(1, name);
    snprintf(path, sizeof path, "%s/%s", f->dir, name);
    size_t n;
    unsigned char *data = slurp(path, &n);
    for (size_t bit = 0; bit < n * 8; bit++) {
        data[bit / 8] ^= (unsigned char)(1u << (bit % 8));
        spit(path, data, n);
        if (verify(f, &r) != 1)
            fail_msg("bit %zu flipped, and nothing was found", bit);
        /* Named where it is: in the file, and not behind the flipped byte. */
        assert_string_equal(r.problems[0].file, name);
        if (r.problems[0].offset > bit / 8)
            fail_msg("bit %zu flipped, found only at byte %zu", bit, (size_t)r.problems[0].offset);
        data[bit / 8] ^= (unsigned char)(1u << (bit % 8));
    }
    spit(path, data, n);
    assert_int_equal(verify(f, &r), 0);
    free(data);
}

static void test_checkpoint_bits(void **state)
{
    struct fixture *f = *state;
    struct audit_report r;
    make_trail(f, 1 << 20);
    char path[256];
    snprintf(path, sizeof path, "%s/checkpoint", f->dir);
    size_t n;
    unsigned char *data = slurp(path, &n);
    for (size_t bit = 0; bit < n * 8; bit++) {
        data[bit / 8] ^= (unsigned char)(1u << (bit % 8));
        spit(path, data, n);
        if (verify(f, &r) != 1)
            fail_msg("bit %zu of the checkpoint flipped, and nothing was found", bit);
        data[bit / 8] ^= (unsigned char)(1u << (bit % 8));
    }
    free(data);
    run("rm '%s'", path);
    assert_int_equal(verify(f, &r), 1);
}

static void test_truncation(void **state)
{
    struct fixture *f = *state;
    struct audit_report r;
    make_trail(f, 1 << 20);
    char path[256], name[AUDIT_NAME_MAX];
    audit_segment_name(1, name);
    snprintf(path, sizeof path, "%s/%s", f->dir, name);
    size_t n;
    unsigned char *data = slurp(path, &n);
    for (size_t keep = 0; keep < n; keep++) {
        spit(path, data, keep);
        if (verify(f, &r) != 1)
            fail_msg("cut to %zu of %zu bytes, and nothing was found", keep, n);
    }
    free(data);
}

/* Sizes of this test's records differ: their borders are walked, not computed. */
static size_t record_size(const unsigned char *p)
{
    return (size_t)AUDIT_RECORD_EXTRA + p[0] + (size_t)p[1] * 256;
}

static void test_delete_and_reorder(void **state)
{
    struct fixture *f = *state;
    struct audit_report r;
    make_trail(f, 1 << 20);
    char path[256], name[AUDIT_NAME_MAX];
    audit_segment_name(1, name);
    snprintf(path, sizeof path, "%s/%s", f->dir, name);
    size_t n;
    unsigned char *data = slurp(path, &n), *copy = malloc(n);
    assert_non_null(copy);
    size_t at = AUDIT_HEADER_BYTES;
    for (int i = 0; i < RECORDS - 1; i++) {
        size_t a = record_size(data + at), b = record_size(data + at + a);
        memcpy(copy, data, at); /* without record i */
        memcpy(copy + at, data + at + a, n - at - a);
        spit(path, copy, n - a);
        assert_int_equal(verify(f, &r), 1);
        assert_int_equal(r.problems[0].offset, at);
        memcpy(copy, data, n); /* i and i+1 change places */
        memcpy(copy + at, data + at + a, b);
        memcpy(copy + at + b, data + at, a);
        spit(path, copy, n);
        assert_int_equal(verify(f, &r), 1);
        assert_int_equal(r.problems[0].offset, at);
        at += a;
    }
    free(copy);
    free(data);
}

static void test_segments(void **state)
{
    struct fixture *f = *state;
    struct audit_report r;
    make_trail(f, 700);
    assert_int_equal(verify(f, &r), 0);
    static const char *const victims[] = {"head -1", "sed -n 3p", "tail -1"};
    for (size_t i = 0; i < sizeof victims / sizeof *victims; i++) {
        run("cp -a '%s' '%s.copy'", f->dir, f->dir);
        run("cd '%s' && rm $(ls audit-*.seg | %s)", f->dir, victims[i]);
        assert_int_equal(verify(f, &r), 1);
        run("rm -rf '%s'", f->dir);
        run("mv '%s.copy' '%s'", f->dir, f->dir);
    }
}

/* An old copy of the segments under the present checkpoint is too short; under its own old one it is consistent in itself. */
static void test_restored_old_copy(void **state)
{
    struct fixture *f = *state;
    struct audit_report r;
    struct audit_log_found found;
    make_trail(f, 1 << 20);
    run("mkdir '%s/old' && cd '%s' && cp audit-*.seg old", f->dir, f->dir);
    open_log(f, 1 << 20, &found);
    append(f, 3);
    close_log(f);
    run("cp '%s'/old/* '%s'", f->dir, f->dir);
    assert_int_equal(verify(f, &r), 1);
    assert_string_equal(r.problems[0].file, AUDIT_CHECKPOINT_FILE);
    assert_int_equal(r.problems[0].seq, RECORDS + 3);
}

static void test_torn_tail(void **state)
{
    struct fixture *f = *state;
    struct audit_report r;
    make_trail(f, 1 << 20);
    char path[256], name[AUDIT_NAME_MAX];
    audit_segment_name(1, name);
    snprintf(path, sizeof path, "%s/%s", f->dir, name);
    FILE *fp = fopen(path, "ab"); /* a crash in the middle of a write, after the checkpoint */
    assert_non_null(fp);
    static const unsigned char half[] = {20, 0, 0, 0, RECORDS + 1, 0, 0, 0, 0, 0, 0, 0, 'x', 'y'};
    fwrite(half, 1, sizeof half, fp);
    fclose(fp);
    assert_int_equal(verify(f, &r), 0);
    assert_int_equal(r.torn_bytes, sizeof half);
    struct audit_log_found found;
    open_log(f, 1 << 20, &found);
    assert_int_equal(found.torn_bytes, sizeof half);
    append(f, 3);
    close_log(f);
    assert_int_equal(verify(f, &r), 0);
    assert_int_equal(r.records, RECORDS + 3);
    assert_int_equal(r.torn_bytes, 0);
}

static void test_damaged_is_set_aside(void **state)
{
    struct fixture *f = *state;
    struct audit_report r;
    make_trail(f, 1 << 20);
    char path[256], name[AUDIT_NAME_MAX];
    audit_segment_name(1, name);
    snprintf(path, sizeof path, "%s/%s", f->dir, name);
    size_t n, m;
    unsigned char *data = slurp(path, &n);
    data[n / 2] ^= 1;
    spit(path, data, n);
    struct audit_log_found found;
    open_log(f, 1 << 20, &found);
    assert_true(found.fresh);
    assert_true(found.set_aside[0]);
    append(f, 2);
    close_log(f);
    assert_int_equal(verify(f, &r), 0);
    assert_int_equal(r.records, 2);
    snprintf(path, sizeof path, "%.100s/%s", found.set_aside, name);
    unsigned char *kept = slurp(path, &m); /* the evidence is as it was */
    assert_int_equal(m, n);
    assert_memory_equal(kept, data, n);
    free(kept);
    free(data);
}

static void test_deleted(void **state)
{
    struct fixture *f = *state;
    struct audit_report r;
    struct audit_log_found found;
    make_trail(f, 1 << 20);
    run("rm '%s'/audit-*.seg", f->dir); /* only the checkpoint and the key are left */
    assert_int_equal(verify(f, &r), 1);
    assert_int_equal(r.problems[0].seq, RECORDS);
    open_log(f, 1 << 20, &found);
    assert_true(found.set_aside[0]);
    assert_non_null(strstr(found.why, "deleted"));
    append(f, 4);
    /* And while it is written. */
    run("rm '%s'/audit-*.seg", f->dir);
    append(f, 3);
    struct audit_log_status st;
    audit_log_status(f->log, &st);
    assert_int_equal(st.lost_segments, 1);
    assert_int_equal(st.size, 7);
    close_log(f);
    assert_int_equal(verify(f, &r), 1);
    assert_non_null(strstr(r.problems[0].what, "missing"));
    assert_int_equal(r.records, 3);
}

/* The disk is full for a while: said for each record, nothing half-written stays, and then it goes on. */
static void test_disk_full(void **state)
{
    struct fixture *f = *state;
    struct audit_report r;
    struct audit_log_found found;
    open_log(f, 1 << 20, &found);
    append(f, 10);
    struct rlimit was, tight = {.rlim_cur = 800, .rlim_max = RLIM_INFINITY};
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &was), 0);
    tight.rlim_max = was.rlim_max;
    signal(SIGXFSZ, SIG_IGN);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &tight), 0);
    uint64_t durable = f->last_seq;
    for (int i = 0; i < 5; i++) {
        size_t want = f->answered + 1;
        audit_log_append(f->log, "this does not fit any more", 26, on_full, f);
        for (f->done = false; f->answered < want; f->done = false)
            assert_true(loop_run_until(&f->loop, &f->done, 10000));
    }
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &was), 0);
    signal(SIGXFSZ, SIG_DFL);
    assert_int_equal(f->failed, 5);
    f->last_seq = durable;
    append(f, 10);
    close_log(f);
    assert_int_equal(verify(f, &r), 0);
    assert_int_equal(r.records, 20);
}

static size_t n_old;
static void count_old(void *ctx, const void *stored, size_t len)
{
    (void)ctx;
    (void)stored;
    (void)len;
    n_old++;
}

/* What is remembered of the past does not end at a segment's border. A segment whose header was cut short is begun again. */
static void test_past_and_headless(void **state)
{
    struct fixture *f = *state;
    struct audit_report r;
    struct err e;
    make_trail(f, 2000);
    assert_int_equal(verify(f, &r), 0);
    uint64_t last = r.last_first_seq, size = r.last_seq;
    for (size_t head = 0; head < AUDIT_HEADER_BYTES; head += 37) {
        char name[AUDIT_NAME_MAX], path[256];
        audit_segment_name(size + 1, name);
        snprintf(path, sizeof path, "%s/%s", f->dir, name);
        char begun[AUDIT_HEADER_BYTES] = "RDBTAUD1";
        spit(path, begun, head);
        assert_int_equal(verify(f, &r), 0);
        assert_true(r.headless);
        n_old = 0;
        struct audit_log_found found;
        struct audit_log_opts o = {.dir = f->dir, .segment_bytes = 2000, .on_old = count_old};
        f->log = audit_log_open(&f->loop, &o, &found, &e);
        assert_non_null(f->log);
        assert_false(found.fresh);
        assert_true(n_old > size - last + 1);
        close_log(f);
        assert_int_equal(verify(f, &r), 0);
        assert_int_equal(r.last_seq, size);
    }
}

#define WRITER "--writer"

static int be_writer(const char *dir, int fd)
{
    struct audit_log_found found;
    struct fixture own = {0};
    snprintf(own.dir, sizeof own.dir, "%s", dir);
    if (sodium_init() < 0 || loop_init(&own.loop))
        return 1;
    open_log(&own, 3000, &found);
    for (;;) {
        append(&own, 1);
        if (own.failed || write(fd, &own.last_seq, sizeof own.last_seq) < 0)
            return 1;
        if (own.last_seq % 7 == 0)
            audit_log_checkpoint(own.log);
    }
}

/* A child appends and says through a pipe what is durable; it is killed at a random moment; all that it said is there. */
static void test_killed_writer(void **state)
{
    struct fixture *f = *state;
    uint64_t said = 0;
    for (int round = 0; round < 12; round++) {
        int fds[2];
        assert_int_equal(pipe(fds), 0);
        pid_t child = fork();
        assert_true(child >= 0);
        if (child == 0) { /* a program of its own: what has threads must not go on after a fork */
            char fd[16], self[512];
            ssize_t n = readlink("/proc/self/exe", self, sizeof self - 1);
            self[n > 0 ? n : 0] = 0;
            close(fds[0]);
            snprintf(fd, sizeof fd, "%d", fds[1]);
            execl(self, "writer", WRITER, f->dir, fd, (char *)NULL);
            _exit(1);
        }
        close(fds[1]);
        uint64_t seq;
        int more = 3 + round * 5; /* how many promises are waited for: a moment that no clock decides */
        while (more-- > 0 && read(fds[0], &seq, sizeof seq) == sizeof seq)
            said = seq;
        kill(child, SIGKILL);
        while (read(fds[0], &seq, sizeof seq) == sizeof seq)
            said = seq;
        close(fds[0]);
        waitpid(child, NULL, 0);
        struct audit_report r;
        assert_int_equal(verify(f, &r), 0);
        assert_true(r.last_seq >= said);
        assert_int_equal(r.records, r.last_seq);
    }
    assert_true(said > 100);
}

static void test_seen(void **state)
{
    (void)state;
    struct audit_seen *s = malloc(sizeof *s);
    assert_non_null(s);
    audit_seen_init(s);
    char id[32];
    for (int i = 0; i < 5 * AUDIT_SEEN_MIN; i++) {
        snprintf(id, sizeof id, "id-%d", i);
        assert_false(audit_seen_add(s, id));
        assert_true(audit_seen_add(s, id));
        snprintf(id, sizeof id, "id-%d", i < AUDIT_SEEN_MIN ? 0 : i - AUDIT_SEEN_MIN + 1);
        assert_true(audit_seen_has(s, id));
    }
    assert_false(audit_seen_has(s, "id-0"));
    free(s);
}

int main(int argc, char **argv)
{
    if (argc == 4 && strcmp(argv[1], WRITER) == 0)
        return be_writer(argv[2], atoi(argv[3]));
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_round_trip, setup, teardown),
        cmocka_unit_test_setup_teardown(test_every_bit, setup, teardown),
        cmocka_unit_test_setup_teardown(test_checkpoint_bits, setup, teardown),
        cmocka_unit_test_setup_teardown(test_truncation, setup, teardown),
        cmocka_unit_test_setup_teardown(test_delete_and_reorder, setup, teardown),
        cmocka_unit_test_setup_teardown(test_segments, setup, teardown),
        cmocka_unit_test_setup_teardown(test_restored_old_copy, setup, teardown),
        cmocka_unit_test_setup_teardown(test_torn_tail, setup, teardown),
        cmocka_unit_test_setup_teardown(test_damaged_is_set_aside, setup, teardown),
        cmocka_unit_test_setup_teardown(test_deleted, setup, teardown),
        cmocka_unit_test_setup_teardown(test_past_and_headless, setup, teardown),
        cmocka_unit_test_setup_teardown(test_disk_full, setup, teardown),
        cmocka_unit_test_setup_teardown(test_killed_writer, setup, teardown),
        cmocka_unit_test(test_seen),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
