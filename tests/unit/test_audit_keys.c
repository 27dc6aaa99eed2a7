/* test_audit_keys.c - a trail over its years: begun by a former version, its key changed, its beginning deleted, in two directories; and every
 * way to tamper with what these leave. */
#include "audit/audit_log.h"
#include "audit/audit_verify.h"
#include <fcntl.h>
#include <inttypes.h>
#include <setjmp.h>
#include <signal.h>
#include <sodium.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

struct fixture {
    char root[128], dir[160], second[160], copy[160];
    struct loop loop;
    struct audit_log *log;
    const char *key_file;
    bool two; /* directories */
    size_t out, failed;
    bool idle;
    char error[ERR_TEXT_MAX];
};

__attribute__((format(printf, 1, 2))) static void run(const char *fmt, ...)
{
    char cmd[1024];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(cmd, sizeof cmd, fmt, ap);
    va_end(ap);
    if (system(cmd) != 0)
        fail_msg("failed: %s", cmd);
}

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof *f);
    const char *tmp = getenv("TMPDIR");
    if (!f || sodium_init() < 0)
        return -1;
    char root[128];
    snprintf(root, sizeof root, "%s/redoubt-keys-XXXXXX", tmp ? tmp : "/tmp");
    if (!mkdtemp(root) || loop_init(&f->loop))
        return -1;
    memcpy(f->root, root, sizeof root);
    snprintf(f->dir, sizeof f->dir, "%s/0", root);
    snprintf(f->second, sizeof f->second, "%s/1", root);
    snprintf(f->copy, sizeof f->copy, "%s/copy", root);
    *state = f;
    return mkdir(f->dir, 0700) || mkdir(f->second, 0700) ? -1 : 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    loop_done(&f->loop);
    run("rm -rf '%s'", f->root);
    free(f);
    return 0;
}

/* ---- a log ---- */

static void came(struct fixture *f)
{
    f->idle = --f->out == 0;
}

static void on_append(void *ctx, uint64_t seq, const char *error)
{
    struct fixture *f = ctx;
    (void)error;
    f->failed += seq == 0;
    came(f);
}

static void on_done(void *ctx, const char *error)
{
    struct fixture *f = ctx;
    snprintf(f->error, sizeof f->error, "%s", error);
    came(f);
}

static void on_closed(void *ctx)
{
    came(ctx);
}

static void wait_all(struct fixture *f)
{
    f->idle = f->out == 0;
    assert_true(f->idle || loop_run_until(&f->loop, &f->idle, 20000));
}

static struct audit_log_found open_log(struct fixture *f, int64_t segment_bytes)
{
    struct audit_log_found found;
    struct err e = {""};
    struct audit_log_opts o = {.dir = f->dir,
                               .second_dir = f->two ? f->second : NULL,
                               .key_file = f->key_file,
                               .segment_bytes = segment_bytes};
    f->log = audit_log_open(&f->loop, &o, &found, &e);
    if (!f->log)
        fail_msg("open: %s", e.text);
    return found;
}

static void append(struct fixture *f, int n)
{
    for (int i = 0; i < n; i++) {
        char text[64];
        int len = snprintf(text, sizeof text, "a record of the trail, number %d", i);
        f->out++;
        audit_log_append(f->log, text, (size_t)len, on_append, f);
        wait_all(f);
    }
    assert_int_equal(f->failed, 0);
}

static void close_log(struct fixture *f)
{
    f->out++;
    audit_log_close(f->log, on_closed, f);
    wait_all(f);
    f->log = NULL;
}

static struct audit_log_status status(struct fixture *f)
{
    struct audit_log_status st;
    audit_log_status(f->log, &st);
    return st;
}

static bool noted;
static bool is_noted(struct fixture *f, uint64_t size)
{
    struct audit_log_status st = status(f);
    return st.checkpoint_size == size;
}

static void checkpoint(struct fixture *f)
{
    uint64_t size = status(f).size;
    audit_log_checkpoint(f->log);
    for (int i = 0; i < 2000 && !is_noted(f, size); i++)
        loop_run_until(&f->loop, &noted, 10);
    assert_true(is_noted(f, size));
}

static void rotate(struct fixture *f)
{
    f->out++;
    audit_log_rotate_key(f->log, on_done, f);
    wait_all(f);
}

static void prune(struct fixture *f, uint64_t last)
{
    f->out++;
    audit_log_prune(f->log, last, on_done, f);
    wait_all(f);
}

static int verify(struct fixture *f, const unsigned char *key, const char *anchor, struct audit_report *r)
{
    struct err e = {""};
    struct audit_verify_opts o = {.dirs = {f->dir, f->second}, .n_dirs = f->two ? 2 : 1, .public_key = key};
    if (anchor)
        o.anchors[o.n_anchors++] = anchor;
    int rc = audit_verify_trail(&o, r, &e);
    if (rc < 0)
        fail_msg("verify: %s", e.text);
    return rc;
}

static void whole(struct fixture *f, struct audit_report *r)
{
    if (verify(f, NULL, NULL, r))
        fail_msg("%s at byte %" PRIu64 ": %s", r->problems[0].file, r->problems[0].offset, r->problems[0].what);
}

static void keep(struct fixture *f)
{
    run("rm -rf '%s' && cp -a '%s' '%s'", f->copy, f->dir, f->copy);
}

static void put_back(struct fixture *f)
{
    run("rm -rf '%s' && cp -a '%s' '%s'", f->dir, f->copy, f->dir);
}

static unsigned char *slurp(const struct fixture *f, const char *name, size_t *n)
{
    struct err e = {""};
    unsigned char *data = audit_read_file(f->dir, name, 1 << 20, n, &e);
    if (!data)
        fail_msg("%s", e.text);
    return data;
}

/* In place: some file systems write a file out that is cut to nothing and written anew. */
static void spit(const struct fixture *f, const char *name, const void *data, size_t n)
{
    char path[256];
    snprintf(path, sizeof path, "%s/%s", f->dir, name);
    int fd = open(path, O_WRONLY | O_CREAT, 0600);
    assert_true(fd >= 0 && pwrite(fd, data, n, 0) == (ssize_t)n && ftruncate(fd, (off_t)n) == 0);
    close(fd);
}

static size_t slow(void)
{
    return getenv("VALGRIND") ? 31 : 1;
}

/* Every bit of a file, some `step` apart: found, and the place named is this file. */
static void every_bit(struct fixture *f, const char *name, size_t step)
{
    struct audit_report *r = malloc(sizeof *r);
    size_t n;
    unsigned char *data = slurp(f, name, &n);
    assert_non_null(r);
    for (size_t bit = 0; bit < n * 8; bit += step * slow()) {
        data[bit / 8] ^= (unsigned char)(1u << (bit % 8));
        spit(f, name, data, n);
        if (verify(f, NULL, NULL, r) != 1)
            fail_msg("bit %zu of %s flipped, and nothing was found", bit, name);
        if (strcmp(r->problems[0].file, name) != 0)
            fail_msg("bit %zu of %s flipped, and %s is blamed: %s", bit, name, r->problems[0].file,
                     r->problems[0].what);
        data[bit / 8] ^= (unsigned char)(1u << (bit % 8));
    }
    spit(f, name, data, n);
    assert_int_equal(verify(f, NULL, NULL, r), 0);
    free(data);
    free(r);
}

/* ---- a trail of a former version ---- */

/* As they wrote it: one segment, or two, and a checkpoint with the hash in the root's place. */
static void write_former(struct fixture *f, int records, int in_first, int covered)
{
    unsigned char secret[AUDIT_SECRET_BYTES], public_key[AUDIT_PUBLIC_BYTES], data[16384],
        last[AUDIT_HASH_BYTES] = {0}, link[AUDIT_HASH_BYTES];
    char hex[2 * AUDIT_SECRET_BYTES + 1], name[AUDIT_NAME_MAX], note[AUDIT_NOTE_MAX];
    struct audit_checkpoint c = {.former = true, .size = (uint64_t)covered, .at_unix_ms = 1700000000000};
    size_t len = 0;
    crypto_sign_keypair(public_key, secret);
    sodium_bin2hex(hex, sizeof hex, secret, sizeof secret);
    spit(f, AUDIT_SECRET_FILE, hex, strlen(hex));
    sodium_bin2hex(hex, sizeof hex, public_key, sizeof public_key);
    spit(f, AUDIT_PUBLIC_FILE, hex, strlen(hex));
    memset(c.chain, 7, sizeof c.chain);
    for (int i = 1; i <= records; i++) {
        if (i == 1 || i == in_first + 1) {
            struct audit_header h = {.first_seq = (uint64_t)i, .created_unix_ms = 1700000000000};
            memcpy(h.chain, c.chain, sizeof h.chain);
            memcpy(h.prev, last, sizeof h.prev);
            audit_header_pack(&h, data);
            audit_header_hash(data, link);
            len = AUDIT_HEADER_BYTES;
            audit_segment_name((uint64_t)i, name);
        }
        char text[64];
        uint32_t n = (uint32_t)snprintf(text, sizeof text, "a record of before, %d", i);
        audit_record_pack(link, (uint64_t)i, text, n, data + len);
        len += n + (size_t)AUDIT_RECORD_EXTRA;
        memcpy(last, link, sizeof last);
        if (i == covered)
            memcpy(c.hash, last, sizeof c.hash);
        if (i == records || i == in_first)
            spit(f, name, data, len);
    }
    len = audit_checkpoint_sign(&c, AUDIT_KEY_NAME, secret, note);
    spit(f, AUDIT_CHECKPOINT_FILE, note, len);
}

static void test_former(void **state)
{
    struct fixture *f = *state;
    struct audit_report *r = malloc(sizeof *r);
    assert_non_null(r);
    for (int covered = 0; covered <= 30; covered += 15) {
        write_former(f, 30, 20, covered);
        whole(f, r);
        assert_true(r->checkpoint.former);
        assert_int_equal(r->records, 30);
        if (covered == 15) {
            every_bit(f, AUDIT_CHECKPOINT_FILE, 11);
            every_bit(f, "audit-00000000000000000001.seg", 37);
        }
        struct audit_log_found found = open_log(f, 1 << 20);
        assert_false(found.fresh);
        assert_int_equal(status(f).size, 30);
        if (covered < 30)
            append(f, 4);
        close_log(f); /* also with nothing new: the next checkpoint is of the present form */
        whole(f, r);
        assert_false(r->checkpoint.former);
        assert_int_equal(r->checkpoint.size, covered < 30 ? 34 : 30);
        unsigned char chain[AUDIT_CHAIN_BYTES];
        memset(chain, 7, sizeof chain);
        assert_memory_equal(r->chain, chain, sizeof chain);
        run("rm '%s'/*", f->dir);
    }
    free(r);
}

/* ---- the key ---- */

static void test_rotation(void **state)
{
    struct fixture *f = *state;
    struct audit_report *r = malloc(sizeof *r);
    unsigned char keys[4][AUDIT_PUBLIC_BYTES];
    char notes[4][AUDIT_NOTE_MAX];
    assert_non_null(r);
    open_log(f, 900);
    for (int i = 0; i < 4; i++) {
        append(f, 9);
        checkpoint(f);
        struct audit_log_status st = status(f);
        memcpy(keys[i], st.public_key, sizeof keys[i]);
        memcpy(notes[i], st.note, st.note_len);
        notes[i][st.note_len] = 0;
        assert_int_equal(st.rotations, i);
        if (i < 3)
            rotate(f);
        assert_string_equal(f->error, "");
        if (i == 1) { /* and over a start */
            close_log(f);
            struct audit_log_found found = open_log(f, 900);
            assert_false(found.fresh || found.key_changed);
        }
    }
    close_log(f);
    whole(f, r);
    assert_int_equal(r->keys.n, 4);
    for (int i = 0; i < 4; i++) {
        assert_int_equal(verify(f, keys[i], NULL, r), 0);
        assert_true(r->trusted);
        assert_int_equal(r->trusted_since, 9 * i);
        /* A checkpoint kept from then, by the key of then. */
        assert_int_equal(verify(f, keys[3], notes[i], r), 0);
    }
    every_bit(f, AUDIT_KEYS_FILE, 13);
    every_bit(f, AUDIT_PUBLIC_FILE, 1);
    every_bit(f, AUDIT_CHECKPOINT_FILE, 7);
    keep(f);
    /* Another's key in its place, even with all signed again by it. */
    unsigned char other[AUDIT_PUBLIC_BYTES], secret[AUDIT_SECRET_BYTES];
    char hex[2 * AUDIT_PUBLIC_BYTES + 1], note[AUDIT_NOTE_MAX];
    crypto_sign_keypair(other, secret);
    assert_int_equal(verify(f, other, NULL, r), 1);
    struct audit_checkpoint c = r->checkpoint;
    assert_int_equal(verify(f, NULL, NULL, r), 0);
    c = r->checkpoint;
    c.rotations = 0;
    size_t n = audit_checkpoint_sign(&c, AUDIT_KEY_NAME, secret, note);
    spit(f, AUDIT_CHECKPOINT_FILE, note, n);
    sodium_bin2hex(hex, sizeof hex, other, sizeof other);
    spit(f, AUDIT_PUBLIC_FILE, hex, strlen(hex));
    assert_int_equal(verify(f, NULL, NULL, r), 1);
    run("rm '%s'/audit.keys", f->dir);
    assert_int_equal(verify(f, NULL, NULL, r), 0); /* whole in itself: */
    for (int i = 0; i < 4; i++)
        assert_int_equal(verify(f, keys[i], NULL, r), 1); /* not for those who know a key, */
    assert_int_equal(verify(f, NULL, notes[2], r), 1);    /* or a checkpoint */
    put_back(f);
    /* A key that was given up signs nothing new. */
    run("rm '%s'/audit.keys", f->dir);
    assert_int_equal(verify(f, NULL, NULL, r), 1);
    assert_string_equal(r->problems[0].file, AUDIT_CHECKPOINT_FILE);
    put_back(f);
    spit(f, AUDIT_CHECKPOINT_FILE, notes[1], strlen(notes[1])); /* an old one: good, but it covers less */
    assert_int_equal(verify(f, NULL, NULL, r), 0);
    assert_int_equal(verify(f, NULL, notes[3], r), 0);
    run("cd '%s' && rm $(ls audit-*.seg | tail -1)", f->dir);
    assert_int_equal(verify(f, NULL, notes[3], r), 1);
    assert_int_equal(r->problems[0].seq, 36);
    free(r);
}

static int write_key(const char *path, const unsigned char secret[static AUDIT_SECRET_BYTES], mode_t mode)
{
    char hex[2 * AUDIT_SECRET_BYTES + 1];
    sodium_bin2hex(hex, sizeof hex, secret, AUDIT_SECRET_BYTES);
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, mode);
    bool ok = fd >= 0 && fchmod(fd, mode) == 0 && write(fd, hex, strlen(hex)) == (ssize_t)strlen(hex);
    return close(fd) == 0 && ok ? 0 : -1;
}

static void refused(struct fixture *f, const char *word)
{
    struct audit_log_found found;
    struct err e = {""};
    struct audit_log_opts o = {.dir = f->dir, .key_file = f->key_file, .segment_bytes = 900};
    assert_null(audit_log_open(&f->loop, &o, &found, &e));
    if (!strstr(e.text, word))
        fail_msg("`%s` says nothing of `%s`", e.text, word);
}

static void test_key_file(void **state)
{
    struct fixture *f = *state;
    struct audit_report *r = malloc(sizeof *r);
    unsigned char secret[3][AUDIT_SECRET_BYTES], public_key[3][AUDIT_PUBLIC_BYTES];
    char path[256], next[256], cmd[600];
    assert_non_null(r);
    snprintf(path, sizeof path, "%s/signing.key", f->root);
    snprintf(next, sizeof next, "%s.new", path);
    for (int i = 0; i < 3; i++)
        crypto_sign_keypair(public_key[i], secret[i]);
    f->key_file = path;
    refused(f, "not there");
    assert_int_equal(write_key(path, secret[0], 0640), 0);
    refused(f, "chmod 600");
    snprintf(cmd, sizeof cmd, "printf 'no key at all' > '%s' && chmod 600 '%s'", path, path);
    run("%s", cmd);
    refused(f, "hexadecimal");
    unsigned char damaged[AUDIT_SECRET_BYTES];
    memcpy(damaged, secret[0], sizeof damaged);
    damaged[50] ^= 1; /* its halves do not belong together */
    assert_int_equal(write_key(path, damaged, 0600), 0);
    refused(f, "put the right one back");
    run("rm '%s' && mkdir '%s'", path, path);
    refused(f, path);
    run("rmdir '%s'", path);
    assert_int_equal(write_key(path, secret[0], 0600), 0);
    assert_true(open_log(f, 900).fresh);
    append(f, 5);
    rotate(f);
    assert_non_null(strstr(f->error, ".new"));
    assert_int_equal(write_key(next, secret[0], 0600), 0);
    rotate(f);
    assert_non_null(strstr(f->error, "present key"));
    assert_int_equal(write_key(next, secret[1], 0644), 0);
    rotate(f);
    assert_non_null(strstr(f->error, "chmod"));
    assert_int_equal(status(f).rotations, 0);
    assert_int_equal(write_key(next, secret[1], 0600), 0);
    rotate(f);
    assert_string_equal(f->error, "");
    assert_int_equal(access(next, F_OK), -1);
    append(f, 5);
    close_log(f);
    assert_int_equal(verify(f, public_key[0], NULL, r), 0);
    assert_int_equal(r->keys.n, 2);
    assert_memory_equal(r->keys.list[1].key, public_key[1], AUDIT_PUBLIC_BYTES);
    /* The crash came before it was renamed. */
    run("mv '%s' '%s'", path, next);
    assert_int_equal(write_key(path, secret[0], 0600), 0);
    struct audit_log_found found = open_log(f, 900);
    assert_true(found.key_changed && !found.fresh);
    append(f, 1);
    close_log(f);
    whole(f, r);
    /* Another key without a word of the old one: not this trail's. */
    assert_int_equal(write_key(path, secret[2], 0600), 0);
    found = open_log(f, 900);
    assert_true(found.fresh && found.set_aside[0]);
    append(f, 1);
    close_log(f);
    whole(f, r);
    assert_int_equal(r->keys.n, 1);
    /* What was set aside is whole, with its keys. */
    struct err e;
    assert_int_equal(audit_verify(found.set_aside, public_key[0], r, &e), 0);
    assert_int_equal(r->records, 11);
    /* A former key in the file of the present one. */
    run("rm -rf '%s' && mkdir '%s'", f->dir, f->dir);
    assert_true(open_log(f, 900).fresh);
    assert_int_equal(write_key(next, secret[1], 0600), 0);
    append(f, 1);
    rotate(f);
    close_log(f);
    assert_int_equal(write_key(path, secret[2], 0600), 0);
    found = open_log(f, 900);
    assert_non_null(strstr(found.why, "not the last one"));
    close_log(f);
    free(r);
}

/* ---- retention ---- */

static void test_pruned(void **state)
{
    struct fixture *f = *state;
    struct audit_report *r = malloc(sizeof *r);
    char first_note[AUDIT_NOTE_MAX];
    unsigned char root[AUDIT_ROOT_BYTES];
    assert_non_null(r);
    open_log(f, 600);
    append(f, 60);
    prune(f, 40); /* no checkpoint covers it */
    assert_int_equal(status(f).pruned, 0);
    checkpoint(f);
    snprintf(first_note, sizeof first_note, "%.*s", (int)status(f).note_len, status(f).note);
    prune(f, 3); /* no segment is as short */
    assert_int_equal(status(f).pruned, 0);
    prune(f, 20);
    assert_string_equal(f->error, "");
    uint64_t gone = status(f).pruned;
    assert_true(gone > 8 && gone <= 20);
    whole(f, r);
    assert_int_equal(r->pruned, gone);
    assert_int_equal(r->records, 60 - gone);
    append(f, 10);
    rotate(f);
    append(f, 10);
    checkpoint(f);
    memcpy(root, status(f).root, sizeof root);
    prune(f, UINT64_MAX); /* never the last two */
    assert_true(status(f).pruned > gone && status(f).pruned < 80);
    close_log(f);
    whole(f, r);
    assert_int_equal(r->segments, 2);
    assert_int_equal(r->last_seq, 80);
    assert_true(r->rooted);
    assert_memory_equal(r->checkpoint.root, root, sizeof root);
    struct audit_log_found found = open_log(f, 600);
    assert_false(found.fresh);
    assert_memory_equal(status(f).root, root, sizeof root);
    append(f, 30);
    close_log(f);
    whole(f, r);
    gone = r->pruned;
    /* A checkpoint of a size that is gone is good. */
    assert_int_equal(verify(f, NULL, first_note, r), 0);
    every_bit(f, AUDIT_PRUNED_FILE, 5);
    keep(f);
    run("rm '%s'/pruned", f->dir);
    assert_int_equal(verify(f, NULL, NULL, r), 1);
    put_back(f);
    /* One segment more is missing than was said. */
    run("cd '%s' && rm $(ls audit-*.seg | head -1)", f->dir);
    assert_int_equal(verify(f, NULL, NULL, r), 1);
    assert_non_null(strstr(r->problems[0].what, "missing"));
    put_back(f);
    /* A crash before all were deleted: they count no more, and go at the next start. */
    open_log(f, 600);
    audit_log_checkpoint(f->log);
    close_log(f);
    keep(f);
    open_log(f, 600);
    prune(f, 100);
    assert_true(status(f).pruned > gone);
    close_log(f);
    run("cp -n '%s'/audit-*.seg '%s'", f->copy, f->dir);
    whole(f, r);
    found = open_log(f, 600);
    assert_true(found.pruned > 0 && !found.fresh);
    close_log(f);
    whole(f, r);
    assert_true(r->segments < 8);
    /* A trail that does not verify is not pruned. */
    open_log(f, 600);
    append(f, 40);
    checkpoint(f);
    keep(f);
    run("cd '%s' && printf X | dd of=$(ls audit-*.seg | head -1) bs=1 seek=200 conv=notrunc 2>/dev/null", f->dir);
    gone = status(f).pruned;
    prune(f, 130);
    assert_non_null(strstr(f->error, "nothing was deleted"));
    assert_int_equal(status(f).pruned, gone);
    close_log(f);
    free(r);
}

/* ---- two directories ---- */

static void test_two_directories(void **state)
{
    struct fixture *f = *state;
    struct audit_report *r = malloc(sizeof *r);
    assert_non_null(r);
    f->two = true;
    open_log(f, 800);
    append(f, 20);
    audit_log_place(f->log, true);
    append(f, 20);
    assert_true(status(f).in_second);
    checkpoint(f);
    audit_log_place(f->log, false);
    append(f, 5);
    audit_log_place(f->log, true);
    append(f, 5);
    close_log(f);
    whole(f, r);
    assert_int_equal(r->records, 50);
    assert_int_equal(r->last_dir, 1);
    assert_int_equal(r->checkpoint.size, 50);
    struct audit_log_found found = open_log(f, 800);
    assert_false(found.fresh);
    assert_true(status(f).in_second);
    rotate(f);
    append(f, 20);
    checkpoint(f);
    prune(f, 30);
    assert_true(status(f).pruned > 20);
    close_log(f);
    whole(f, r);
    /* Half of it alone is not whole; a segment in both is said. */
    struct err e;
    assert_int_equal(audit_verify(f->dir, NULL, r, &e), 1);
    run("cd '%s' && cp $(ls audit-*.seg | tail -1) '%s'", f->second, f->dir);
    assert_int_equal(verify(f, NULL, NULL, r), 1);
    assert_non_null(strstr(r->problems[0].what, "twice"));
    run("cd '%s' && rm -f $(cd '%s' && ls audit-*.seg | tail -1)", f->dir, f->second);
    whole(f, r);
    /* Damaged in the second: both are set aside. */
    run("cd '%s' && printf X | dd of=$(ls audit-*.seg | tail -1) bs=1 seek=150 conv=notrunc 2>/dev/null", f->second);
    found = open_log(f, 800);
    assert_true(found.fresh && found.set_aside[0]);
    append(f, 2);
    close_log(f);
    whole(f, r);
    assert_int_equal(r->records, 2);
    run("ls '%s'/set-aside-*/audit-*.seg '%s'/set-aside-*/audit.keys >/dev/null", f->second, f->dir);
    free(r);
}

/* ---- an older copy, the unsigned end ---- */

static void test_older_copy(void **state)
{
    struct fixture *f = *state;
    struct audit_report *r = malloc(sizeof *r);
    char note[AUDIT_NOTE_MAX];
    assert_non_null(r);
    open_log(f, 1 << 20);
    append(f, 20);
    close_log(f);
    keep(f);
    open_log(f, 1 << 20);
    append(f, 5);
    checkpoint(f);
    snprintf(note, sizeof note, "%.*s", (int)status(f).note_len, status(f).note);
    close_log(f);
    put_back(f); /* checkpoint and all: consistent in itself */
    whole(f, r);
    assert_int_equal(verify(f, NULL, note, r), 1);
    assert_string_equal(r->problems[0].file, "anchor 1");
    assert_int_equal(r->problems[0].seq, 25);
    /* And written on: other records in the same places. */
    open_log(f, 1 << 20);
    append(f, 10);
    close_log(f);
    whole(f, r);
    append(f, 0);
    assert_int_equal(verify(f, NULL, note, r), 0); /* the very same records: nothing is another */
    put_back(f);
    open_log(f, 1 << 20);
    f->out++;
    audit_log_append(f->log, "something else", 14, on_append, f);
    wait_all(f);
    append(f, 10);
    close_log(f);
    assert_int_equal(verify(f, NULL, note, r), 1);
    assert_non_null(strstr(r->problems[0].what, "rewritten"));
    note[60] ^= 1;
    assert_int_equal(verify(f, NULL, note, r), 1);
    free(r);
}

/* Behind the last checkpoint, after a crash: a flipped bit is still found and placed; cut or unwritten bytes are a crash's doing, and said. */
static void test_unsigned_end(void **state)
{
    struct fixture *f = *state;
    struct audit_report *r = malloc(sizeof *r);
    const char *name = "audit-00000000000000000001.seg";
    size_t n, covered;
    assert_non_null(r);
    open_log(f, 1 << 20);
    append(f, 6);
    checkpoint(f);
    free(slurp(f, name, &covered));
    append(f, 12);
    keep(f);
    close_log(f);
    put_back(f); /* as if killed before the last checkpoint */
    unsigned char *data = slurp(f, name, &n);
    whole(f, r);
    assert_int_equal(r->last_seq, 18);
    assert_int_equal(r->checkpoint.size, 6);
    for (size_t bit = covered * 8; bit < n * 8; bit += (bit < (n - 80) * 8 ? 7 : 1) * slow()) {
        data[bit / 8] ^= (unsigned char)(1u << (bit % 8));
        spit(f, name, data, n);
        if (verify(f, NULL, NULL, r) != 1)
            fail_msg("bit %zu (byte %zu of %zu) flipped, and nothing was found", bit, bit / 8, n);
        if (r->problems[0].offset > bit / 8 || strcmp(r->problems[0].file, name) != 0)
            fail_msg("bit %zu flipped, and %s at byte %" PRIu64 " is blamed", bit, r->problems[0].file,
                     r->problems[0].offset);
        data[bit / 8] ^= (unsigned char)(1u << (bit % 8));
    }
    for (size_t cut = 0; cut <= n; cut += slow()) {
        spit(f, name, data, cut);
        int rc = verify(f, NULL, NULL, r);
        if (rc != (cut < covered))
            fail_msg("cut to %zu of %zu bytes, %zu signed: %d", cut, n, covered, rc);
    }
    /* A sector that was never written. */
    size_t from = 2 * 512, to = from + 512 < n ? from + 512 : n;
    assert_true(from > covered && from < n);
    memset(data + from, 0, to - from);
    spit(f, name, data, n);
    whole(f, r);
    assert_true(r->torn_bytes > 0 && r->last_seq < 18 && r->last_seq >= 6);
    struct audit_log_found found = open_log(f, 1 << 20);
    assert_int_equal(found.torn_bytes, r->torn_bytes);
    append(f, 3);
    close_log(f);
    whole(f, r);
    assert_int_equal(r->torn_bytes, 0);
    run("ls '%s'/torn-* >/dev/null", f->dir); /* kept for people */
    /* Not within what is signed, and not with a whole write's length behind it. */
    data = realloc(data, 3 << 20);
    assert_non_null(data);
    run("rm -rf '%s'/*", f->dir);
    put_back(f);
    memset(data + n, 0xaa, (3u << 20) - n);
    memset(data + from, 0, 512);
    spit(f, name, data, 3 << 20);
    assert_int_equal(verify(f, NULL, NULL, r), 1);
    free(data);
    free(r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_former, setup, teardown),
        cmocka_unit_test_setup_teardown(test_rotation, setup, teardown),
        cmocka_unit_test_setup_teardown(test_key_file, setup, teardown),
        cmocka_unit_test_setup_teardown(test_pruned, setup, teardown),
        cmocka_unit_test_setup_teardown(test_two_directories, setup, teardown),
        cmocka_unit_test_setup_teardown(test_older_copy, setup, teardown),
        cmocka_unit_test_setup_teardown(test_unsigned_end, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
