/* test_audit_anchor.c - what the bus remembers against what is here, case by case; and a copy fed in pieces of every size, whole or changed. */
#include "audit/audit_anchor.h"
#include "audit/audit_copy.h"
#include "audit/audit_verify.h"
#include <setjmp.h>
#include <sodium.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

/* ---- anchors ---- */

struct world {
    unsigned char chain[AUDIT_CHAIN_BYTES], other[AUDIT_CHAIN_BYTES];
    unsigned char public_key[AUDIT_PUBLIC_BYTES], secret[AUDIT_SECRET_BYTES], strange[AUDIT_SECRET_BYTES];
    struct audit_keys keys;
};

static void world_make(struct world *w)
{
    unsigned char seed[crypto_sign_SEEDBYTES] = {1}, unused[AUDIT_PUBLIC_BYTES];
    memset(w, 0, sizeof *w);
    memset(w->chain, 0xaa, sizeof w->chain);
    memset(w->other, 0xbb, sizeof w->other);
    crypto_sign_seed_keypair(w->public_key, w->secret, seed);
    seed[0] = 2;
    crypto_sign_seed_keypair(unused, w->strange, seed);
    w->keys.n = 1;
    memcpy(w->keys.list[0].key, w->public_key, sizeof w->public_key);
}

/* A checkpoint as the bus has it. */
static bool add(struct audit_anchors *a, const struct world *w, const unsigned char *chain, uint64_t size,
                uint32_t rotations, int64_t at_unix_ms, bool strange, const char *instance)
{
    struct audit_checkpoint c = {.size = size, .at_unix_ms = at_unix_ms, .rotations = rotations};
    char note[AUDIT_NOTE_MAX + 1], hex[2 * AUDIT_CHAIN_BYTES + 1];
    memcpy(c.chain, chain, sizeof c.chain);
    note[audit_checkpoint_sign(&c, AUDIT_KEY_NAME, strange ? w->strange : w->secret, note)] = 0;
    PB(AuditCheckpoint) m = PB_INIT(AUDIT_CHECKPOINT);
    m.chain = sodium_bin2hex(hex, sizeof hex, chain, AUDIT_CHAIN_BYTES);
    m.instance = (char *)instance;
    m.note = note;
    return audit_anchors_add(a, &m, w->chain, "host-audit-0", NULL);
}

static void test_verdicts(void **unused)
{
    (void)unused;
    struct world w;
    struct err why;
    world_make(&w);
    static const struct {
        uint64_t noted, here, pruned;
        uint32_t noted_rotations, rotations;
        bool strange;
        enum audit_anchor_verdict verdict;
    } rows[] = {
        {0, 0, 0, 0, 0, false, AUDIT_ANCHOR_FITS},
        {0, 100, 0, 0, 0, false, AUDIT_ANCHOR_FITS},
        {100, 100, 0, 0, 0, false, AUDIT_ANCHOR_COMPARE},
        {100, 150, 0, 0, 0, false, AUDIT_ANCHOR_COMPARE},
        {100, 99, 0, 0, 0, false, AUDIT_ANCHOR_BEHIND},
        {1, 0, 0, 0, 0, false, AUDIT_ANCHOR_BEHIND},
        {100, 150, 100, 0, 0, false, AUDIT_ANCHOR_FITS},
        {101, 150, 100, 0, 0, false, AUDIT_ANCHOR_COMPARE},
        /* Signed by nobody that is known: no reason to give the trail up, unless with a key that came later. */
        {100, 150, 0, 0, 0, true, AUDIT_ANCHOR_UNSIGNED},
        {200, 150, 0, 0, 0, true, AUDIT_ANCHOR_UNSIGNED},
        {100, 150, 0, 1, 0, true, AUDIT_ANCHOR_BEHIND},
        {100, 150, 0, 1, 1, true, AUDIT_ANCHOR_UNSIGNED},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct audit_anchors a = {0};
        assert_true(add(&a, &w, w.chain, rows[i].noted, rows[i].noted_rotations, 1000, rows[i].strange, "elsewhere"));
        struct audit_anchored t = {
            .size = rows[i].here, .pruned = rows[i].pruned, .rotations = rows[i].rotations, .keys = &w.keys};
        memcpy(t.chain, w.chain, sizeof t.chain);
        if (audit_anchor_judge(&a, &t, &why) != rows[i].verdict)
            fail_msg("row %zu", i);
        assert_false(audit_anchor_other(&a, &t, &why));
    }
    struct audit_anchors nothing = {0};
    struct audit_anchored t = {.size = 5, .keys = &w.keys};
    assert_int_equal(audit_anchor_judge(&nothing, &t, &why), AUDIT_ANCHOR_NONE);
    assert_false(audit_anchor_other(&nothing, &t, &why));
}

static void test_another_chain(void **unused)
{
    (void)unused;
    struct world w;
    struct err why;
    world_make(&w);
    struct audit_anchored t = {.size = 5, .keys = &w.keys};
    memcpy(t.chain, w.chain, sizeof t.chain);
    struct audit_anchors a = {0};
    /* Of another replica: none of ours. */
    assert_true(add(&a, &w, w.other, 50, 0, 2000, true, "host-audit-1"));
    assert_false(audit_anchor_other(&a, &t, &why));
    assert_true(add(&a, &w, w.other, 50, 0, 2000, true, "host-audit-0"));
    assert_true(audit_anchor_other(&a, &t, &why));
    assert_non_null(strstr(why.text, "bbbbbbbb"));
    /* The one that is here is the later one. */
    assert_true(add(&a, &w, w.chain, 3, 0, 3000, false, "host-audit-0"));
    assert_false(audit_anchor_other(&a, &t, &why));
    /* The other came after it: this one was put in its place. */
    assert_true(add(&a, &w, w.other, 60, 0, 4000, true, "host-audit-0"));
    assert_true(audit_anchor_other(&a, &t, &why));
}

static void test_what_is_no_checkpoint(void **unused)
{
    (void)unused;
    struct world w;
    world_make(&w);
    struct audit_anchors a = {0};
    struct err e;
    PB(AuditCheckpoint) m = PB_INIT(AUDIT_CHECKPOINT);
    m.chain = (char *)"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
    m.note = (char *)"nonsense";
    assert_false(audit_anchors_add(&a, &m, w.chain, "x", &e));
    /* The note of one chain in the name of another. */
    struct audit_checkpoint c = {.size = 7};
    char note[AUDIT_NOTE_MAX + 1];
    memcpy(c.chain, w.other, sizeof c.chain);
    note[audit_checkpoint_sign(&c, AUDIT_KEY_NAME, w.secret, note)] = 0;
    m.note = note;
    assert_false(audit_anchors_add(&a, &m, w.chain, "x", &e));
    assert_false(a.own || a.newest);
    /* What the bus says twice: the longer one counts. */
    assert_true(add(&a, &w, w.chain, 9, 0, 2, false, "x"));
    assert_true(add(&a, &w, w.chain, 8, 0, 3, false, "x"));
    assert_int_equal(a.own_point.size, 9);
}

/* ---- a copy ---- */

#define SEGMENT_RECORDS 20

/* Two segments of a trail, in memory. */
struct trail {
    unsigned char *bytes[2];
    size_t len[2];
    uint64_t first[2];
};

static void trail_make(struct trail *t)
{
    unsigned char hash[AUDIT_HASH_BYTES] = {0}, link[AUDIT_HASH_BYTES];
    uint64_t seq = 1;
    for (int s = 0; s < 2; s++) {
        t->bytes[s] = malloc(AUDIT_HEADER_BYTES + SEGMENT_RECORDS * (AUDIT_RECORD_EXTRA + 300));
        assert_non_null(t->bytes[s]);
        struct audit_header h = {.first_seq = seq, .created_unix_ms = 1};
        memset(h.chain, 0xaa, sizeof h.chain);
        memcpy(h.prev, hash, sizeof h.prev);
        audit_header_pack(&h, t->bytes[s]);
        audit_header_hash(t->bytes[s], link);
        t->len[s] = AUDIT_HEADER_BYTES;
        t->first[s] = seq;
        for (int i = 0; i < SEGMENT_RECORDS; i++) {
            char stored[300];
            memset(stored, 'a' + i, sizeof stored);
            uint32_t n = (uint32_t)(i * 13 % 300);
            audit_record_pack(link, seq++, stored, n, t->bytes[s] + t->len[s]);
            t->len[s] += AUDIT_RECORD_EXTRA + n;
        }
        memcpy(hash, link, sizeof hash);
    }
}

static void trail_free(struct trail *t)
{
    free(t->bytes[0]);
    free(t->bytes[1]);
}

static char dir[64];

static void open_copy(struct audit_copy *c)
{
    struct err e = {""};
    char command[100];
    if (*dir) {
        snprintf(command, sizeof command, "rm -rf %s", dir);
        assert_int_equal(system(command), 0);
    }
    /* In memory if there is such a place: every copy is synced. */
    snprintf(dir, sizeof dir, "%s/redoubt-copy-%d", access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp",
             (int)getpid());
    if (audit_copy_open(c, dir, &e))
        fail_msg("%s", e.text);
}

static int remove_dir(void **unused)
{
    char command[100];
    (void)unused;
    snprintf(command, sizeof command, "rm -rf %s", dir);
    return system(command);
}

/* 0, or -1 with where it ended. */
static int feed(struct audit_copy *c, const struct trail *t, size_t piece, struct err *e)
{
    for (int s = 0; s < 2; s++) {
        if (audit_copy_begin(c, t->first[s], e))
            return -1;
        while (audit_copy_at(c) < t->len[s]) {
            size_t at = audit_copy_at(c), left = t->len[s] - at;
            if (audit_copy_feed(c, t->bytes[s] + at, left < piece ? left : piece, e))
                return -1;
        }
    }
    return c->rest_len ? -1 : audit_copy_sync(c, e);
}

static void same(const struct trail *t, int s)
{
    char name[AUDIT_NAME_MAX];
    size_t n;
    struct err e = {""};
    audit_segment_name(t->first[s], name);
    unsigned char *file = audit_read_file(dir, name, 100000, &n, &e);
    assert_non_null(file);
    assert_int_equal(n, t->len[s]);
    assert_memory_equal(file, t->bytes[s], n);
    free(file);
}

static void test_pieces_of_every_size(void **unused)
{
    (void)unused;
    struct trail t;
    trail_make(&t);
    static const size_t pieces[] = {1, 7, 44, 100, 111, 112, 113, 1000, 100000};
    for (size_t i = 0; i < sizeof pieces / sizeof *pieces; i++) {
        struct audit_copy c;
        struct err e = {""};
        open_copy(&c);
        if (feed(&c, &t, pieces[i], &e))
            fail_msg("in pieces of %zu: %s", pieces[i], e.text);
        assert_int_equal(c.next_seq, 2 * SEGMENT_RECORDS + 1);
        audit_copy_close(&c);
        same(&t, 0);
        same(&t, 1);
    }
    trail_free(&t);
}

/* Whatever bit is another: nothing from there on is taken, and what is written is the trail's own. */
static void test_no_flip_is_taken(void **unused)
{
    (void)unused;
    struct trail t;
    trail_make(&t);
    for (int s = 0; s < 2; s++) {
        for (size_t at = 0; at < t.len[s]; at += 97) {
            struct audit_copy c;
            struct err e = {""};
            unsigned char bit = (unsigned char)(1 << at % 8);
            open_copy(&c);
            t.bytes[s][at] ^= bit;
            /* A length that grew waits for bytes that never come. */
            int rc = feed(&c, &t, 500, &e);
            bool waits = rc == 0 ? false : c.rest_len > 0;
            if (rc == 0 || (!c.fork && !waits))
                fail_msg("a bit of byte %zu of segment %d was changed, and it was taken", at, s);
            assert_true(c.next_seq <= t.first[s] + SEGMENT_RECORDS);
            t.bytes[s][at] ^= bit;
            char name[AUDIT_NAME_MAX];
            size_t n;
            audit_segment_name(t.first[s], name);
            unsigned char *file = audit_read_file(dir, name, 100000, &n, &e);
            assert_non_null(file);
            assert_true(n <= t.len[s]);
            assert_memory_equal(file, t.bytes[s], n);
            free(file);
            audit_copy_close(&c);
        }
    }
    trail_free(&t);
}

static void test_goes_on(void **unused)
{
    (void)unused;
    struct trail t;
    struct audit_copy c;
    struct err e = {""};
    trail_make(&t);
    open_copy(&c);
    c.limit = 5; /* only so far was signed for */
    assert_int_equal(audit_copy_begin(&c, 1, &e), 0);
    assert_int_equal(audit_copy_feed(&c, t.bytes[0], t.len[0], &e), 0);
    assert_int_equal(c.next_seq, 6);
    audit_copy_forget(&c);
    assert_int_equal(audit_copy_sync(&c, &e), 0);
    struct audit_copy was = c;
    int fd = dup(c.fd);
    audit_copy_close(&c);
    /* A write that a crash cut short. */
    assert_int_equal(pwrite(fd, "torn", 4, (off_t)was.bytes), 4);
    close(fd);
    assert_int_equal(audit_copy_open(&c, dir, &e), 0);
    assert_int_equal(audit_copy_resume(&c, 1, was.bytes, 6, was.chain, was.hash, was.link, &e), 0);
    assert_int_equal(audit_copy_feed(&c, t.bytes[0] + was.bytes, t.len[0] - was.bytes, &e), 0);
    /* Not the segment that follows. */
    assert_int_equal(audit_copy_begin(&c, 40, &e), -1);
    assert_true(c.fork);
    assert_int_equal(audit_copy_begin(&c, t.first[1], &e), 0);
    assert_int_equal(audit_copy_feed(&c, t.bytes[1], 200, &e), 0);
    /* It ends where it must not. */
    assert_int_equal(audit_copy_begin(&c, c.next_seq, &e), -1);
    assert_true(c.fork);
    audit_copy_close(&c);
    same(&t, 0);
    trail_free(&t);
}

int main(void)
{
    if (sodium_init() < 0)
        return 1;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_verdicts),
        cmocka_unit_test(test_another_chain),
        cmocka_unit_test(test_what_is_no_checkpoint),
        cmocka_unit_test(test_pieces_of_every_size),
        cmocka_unit_test(test_no_flip_is_taken),
        cmocka_unit_test(test_goes_on),
    };
    return cmocka_run_group_tests(tests, NULL, remove_dir);
}
