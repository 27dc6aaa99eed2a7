/* test_audit_copy.c - the trail's mirror, retention, and what the bus remembers of a trail that was put back, cut or forged. */
#include "audit_town.h"

static int setup(void **state)
{
    struct town *t = town_open(NULL);
    char dir[700];
    *state = t;
    snprintf(dir, sizeof dir, "%s/mirror", t->base);
    assert_int_equal(mkdir(dir, 0700), 0);
    snprintf(dir, sizeof dir, "%s/to", t->base);
    assert_int_equal(mkdir(dir, 0700), 0);
    return 0;
}

static int teardown(void **state)
{
    town_close(*state);
    return 0;
}

static void configure(struct town *t, const char *more)
{
    char text[1200];
    snprintf(text, sizeof text, "segment: 16KiB, mirror: \"%s/mirror\", warn_lag: 1s%s", t->base, more);
    town_configure(t, text);
}

/* <mirror>/<instance>/<chain> */
static void mirror_of(const struct town *t, char *to, size_t size)
{
    char root[700], instance[800], chain[2 * AUDIT_CHAIN_BYTES + 1];
    snprintf(root, sizeof root, "%s/mirror", t->base);
    town_only(root, instance, sizeof instance);
    snprintf(to, size, "%s/%s", instance, town_chain(t, chain));
}

/* Byte for byte: every segment and the checkpoint. */
static void same_files(const char *a, const char *b)
{
    if (town_shell("cd %s && for f in audit-*.seg checkpoint audit.pub; do cmp -s $f %s/$f || exit 1; done", a, b) !=
        0)
        fail_msg("%s and %s differ", a, b);
}

static bool mirrored(struct town *t, int n)
{
    char text[64];
    snprintf(text, sizeof text, "\"state\":\"follows\"");
    const char *s = town_status(t);
    const char *mirror = strstr(s, "\"mirror\"");
    if (!mirror || !strstr(mirror, text))
        return false;
    const char *size = strstr(mirror, "\"size\":");
    return size && atoi(size + 7) >= n;
}

static void test_mirror(void **state)
{
    struct town *t = *state;
    char mirror[900];
    configure(t, "");
    town_start(t);
    town_say_in_steps(t, 0, 200, 300);
    TOWN_UNTIL(t, mirrored(t, 200));
    town_stop(t);
    mirror_of(t, mirror, sizeof mirror);
    town_whole(t, t->dir, 200);
    assert_true(t->report.segments > 3);
    town_whole(t, mirror, 200);
    assert_int_equal(t->report.checkpoint.size, 200);
    same_files(t->dir, mirror);
    assert_int_equal(town_shell("test ! -e %s/audit.key", mirror), 0); /* a copy signs nothing */
    /* Killed in the middle: it goes on from what it has. */
    for (int i = 0; i < 2; i++) {
        town_start(t);
        town_say_many(t, 200 + 50 * i, 50, 300);
        if (i == 0)
            TOWN_UNTIL(t, mirrored(t, 250));
        harness_kill(t->audit);
    }
    /* As power loss leaves it: the end of the copy torn, behind what its checkpoint covers. */
    int fd;
    char path[1000], name[AUDIT_NAME_MAX];
    town_start(t);
    TOWN_UNTIL(t, mirrored(t, 300));
    town_stop(t);
    assert_int_equal(town_look(t, mirror), 300);
    audit_segment_name(t->report.last_first_seq, name);
    snprintf(path, sizeof path, "%s/%s", mirror, name);
    FILE *f = fopen(path, "ab");
    assert_non_null(f);
    fd = fileno(f);
    assert_int_equal(fwrite("\1\0\0\0\0\0\0\0garbage", 1, 15, f), 15);
    fflush(f);
    assert_int_equal(fsync(fd), 0);
    fclose(f);
    /* And a segment that somebody took away: the trail still has it. */
    audit_segment_name(1, name);
    snprintf(path, sizeof path, "%s/%s", mirror, name);
    assert_int_equal(unlink(path), 0);
    town_start(t);
    town_say_many(t, 300, 10, 300);
    TOWN_UNTIL(t, mirrored(t, 310));
    town_stop(t);
    town_whole(t, mirror, 310);
    same_files(t->dir, mirror);
    assert_null(town_alerted(t, "audit/mirror"));
    assert_null(town_alerted(t, "audit/tampered"));
}

static void test_mirror_away(void **state)
{
    struct town *t = *state;
    char mirror[900];
    configure(t, "");
    town_start(t);
    town_say_many(t, 0, 50, 300);
    TOWN_UNTIL(t, mirrored(t, 50));
    /* Its disk is taken away. Nothing waits for it. */
    assert_int_equal(town_shell("mv %s/mirror %s/elsewhere && rm -rf %s/elsewhere/*/*", t->base, t->base, t->base),
                     0);
    town_say_many(t, 50, 50, 300);
    TOWN_IDS(t, t->dir, 100);
    TOWN_UNTIL(t, town_raised(t, "audit/mirror-lag"));
    assert_int_equal(town_alerted(t, "audit/mirror-lag")->severity, REDOUBT__V1__SEVERITY__SEVERITY_HIGH);
    assert_true(town_status_has(t, "\"state\":\"away\""));
    /* It comes back, empty. */
    assert_int_equal(town_shell("rm -rf %s/elsewhere && mkdir %s/mirror", t->base, t->base), 0);
    TOWN_UNTIL(t, town_resolved(t, "audit/mirror-lag"));
    TOWN_UNTIL(t, mirrored(t, 100));
    town_stop(t);
    mirror_of(t, mirror, sizeof mirror);
    town_whole(t, mirror, 100);
    same_files(t->dir, mirror);
}

static void test_mirror_differs(void **state)
{
    struct town *t = *state;
    char mirror[900], second[910], path[1000], name[AUDIT_NAME_MAX];
    configure(t, "");
    town_start(t);
    town_say_many(t, 0, 50, 300);
    TOWN_UNTIL(t, mirrored(t, 50));
    town_stop(t);
    mirror_of(t, mirror, sizeof mirror);
    assert_int_equal(town_look(t, mirror), 50);
    audit_segment_name(t->report.last_first_seq, name);
    snprintf(path, sizeof path, "%s/%s", mirror, name);
    town_flip(path, AUDIT_HEADER_BYTES + AUDIT_RECORD_HEAD + 40);
    assert_int_equal(town_shell("cp -a %s %s/before", mirror, t->base), 0);
    town_start(t);
    town_say_many(t, 50, 50, 300);
    TOWN_UNTIL(t, town_raised(t, "audit/mirror"));
    assert_int_equal(town_alerted(t, "audit/mirror")->severity, REDOUBT__V1__SEVERITY__SEVERITY_CRITICAL);
    assert_non_null(strstr(town_alerted(t, "audit/mirror")->detail, name));
    TOWN_UNTIL(t, mirrored(t, 100));
    town_stop(t);
    /* The one that differs was not touched, and another is beside it. */
    assert_int_equal(town_shell("diff -r %s %s/before", mirror, t->base), 0);
    snprintf(second, sizeof second, "%s.2", mirror);
    town_whole(t, second, 100);
    same_files(t->dir, second);
}

/* What was changed on the trail's own disk before it was copied: the copy does not take it, and people are told. */
static void test_mirror_takes_no_broken_record(void **state)
{
    struct town *t = *state;
    char mirror[900], path[1000], name[AUDIT_NAME_MAX];
    configure(t, "");
    town_start(t);
    town_say_many(t, 0, 20, 300);
    TOWN_UNTIL(t, mirrored(t, 20));
    mirror_of(t, mirror, sizeof mirror);
    assert_int_equal(town_shell("mv %s/mirror %s/elsewhere && rm -rf %s/elsewhere/*/*", t->base, t->base, t->base),
                     0);
    town_say_many(t, 20, 20, 300);
    TOWN_IDS(t, t->dir, 40);
    audit_segment_name(1, name);
    snprintf(path, sizeof path, "%s/%s", t->dir, name);
    town_flip(path, AUDIT_HEADER_BYTES + 3 * 350);
    assert_int_equal(town_shell("mv %s/elsewhere %s/mirror", t->base, t->base), 0);
    TOWN_UNTIL(t, town_raised(t, "audit/tampered"));
    assert_non_null(strstr(town_alerted(t, "audit/tampered")->detail, "record "));
    assert_true(town_status_has(t, "\"state\":\"stopped\""));
    /* The trail itself goes on: what comes is not lost because of that. */
    town_say_many(t, 40, 1, 300);
    TOWN_UNTIL(t, town_status_has(t, "\"size\":41,"));
    assert_int_equal(town_look(t, mirror), -1); /* nothing that could be taken for whole */
    town_stop(t);
}

/* ---- what the bus remembers ---- */

static void test_old_copy(void **state)
{
    struct town *t = *state;
    char was[2 * AUDIT_CHAIN_BYTES + 1], is[2 * AUDIT_CHAIN_BYTES + 1];
    town_configure(t, "segment: 16KiB");
    town_start(t);
    town_say_many(t, 0, 60, 300);
    TOWN_IDS(t, t->dir, 60);
    town_stop(t);
    town_chain(t, was);
    assert_int_equal(town_shell("cp -a %s %s/old", t->dir, t->base), 0);
    /* Whole in itself, and what was acknowledged beyond it is gone: nobody but the bus knows. */
    town_start(t);
    town_say_many(t, 60, 40, 300);
    TOWN_IDS(t, t->dir, 100);
    town_stop(t);
    assert_int_equal(town_shell("rm -rf %s && cp -a %s/old %s", t->dir, t->base, t->dir), 0);
    town_whole(t, t->dir, 60);
    assert_null(town_alerted(t, "audit/tampered"));
    assert_int_equal(town_shell("%s/redoubt audit verify %s >/dev/null", t->bin, t->dir), 0);
    assert_int_equal(
        town_shell("%s/redoubt audit verify --bus --nats %s %s >%s/said", t->bin, t->nats->url, t->dir, t->base), 1);
    assert_true(town_said(t, "100"));
    town_start(t);
    TOWN_UNTIL(t, town_raised(t, "audit/tampered"));
    assert_int_equal(town_alerted(t, "audit/tampered")->severity, REDOUBT__V1__SEVERITY__SEVERITY_CRITICAL);
    assert_non_null(strstr(town_alerted(t, "audit/tampered")->detail, "100 records"));
    town_say_many(t, 100, 10, 300);
    /* Others may come again: that they were acknowledged was perhaps still on its way when it ended. */
    TOWN_UNTIL(t, town_look(t, t->dir) >= 10 && t->late == 10);
    town_stop(t);
    assert_string_not_equal(town_chain(t, is), was);
    /* The old copy is there as evidence, with the checkpoint that it does not reach. */
    assert_int_equal(town_shell("test -s %s/set-aside-*/anchor && test -s %s/set-aside-*/checkpoint", t->dir, t->dir),
                     0);
    TOWN_UNTIL(t, town_shell("%s/redoubt audit verify --bus --nats %s %s >%s/said 2>&1", t->bin, t->nats->url, t->dir,
                             t->base) == 0);
    /* A whole start again: nothing more to be said. */
    t->n_alerts = 0;
    town_start(t);
    town_say_many(t, 110, 10, 300);
    TOWN_UNTIL(t, town_look(t, t->dir) >= 20 && t->late == 20);
    town_stop(t);
    assert_null(town_alerted(t, "audit/tampered"));
}

/* The directory is emptied, key and all: a new trail begins, and people are told that another was there. */
static void test_gone(void **state)
{
    struct town *t = *state;
    town_configure(t, "segment: 16KiB");
    town_start(t);
    town_say_many(t, 0, 20, 300);
    TOWN_IDS(t, t->dir, 20);
    town_stop(t);
    assert_int_equal(town_shell("rm -f %s/audit* %s/checkpoint %s/tree", t->dir, t->dir, t->dir), 0);
    town_start(t);
    TOWN_UNTIL(t, town_raised(t, "audit/tampered"));
    assert_non_null(strstr(town_alerted(t, "audit/tampered")->detail, "20 records"));
    town_say_many(t, 100, 5, 300);
    TOWN_UNTIL(t, town_look(t, t->dir) >= 5 && t->late == 5);
    town_stop(t);
}

/* A checkpoint that anybody could have put there is no reason to give a trail up; people are told. */
static void test_forged_anchor(void **state)
{
    struct town *t = *state;
    char chain[2 * AUDIT_CHAIN_BYTES + 1], subject[SUBJECT_MAX_LEN], note[AUDIT_NOTE_MAX + 1] = "";
    unsigned char public_key[AUDIT_PUBLIC_BYTES], secret[AUDIT_SECRET_BYTES];
    town_configure(t, "segment: 16KiB");
    town_start(t);
    town_say_many(t, 0, 20, 300);
    TOWN_IDS(t, t->dir, 20);
    town_stop(t);
    crypto_sign_keypair(public_key, secret);
    town_look(t, t->dir);
    struct audit_checkpoint c = t->report.checkpoint;
    c.size = 1000;
    note[audit_checkpoint_sign(&c, AUDIT_KEY_NAME, secret, note)] = 0;
    PB(AuditCheckpoint) m = PB_INIT(AUDIT_CHECKPOINT);
    m.chain = (char *)town_chain(t, chain);
    m.size = 1000;
    m.note = note;
    size_t len;
    void *data = wire_pack(&m, &len, NULL);
    assert_non_null(data);
    snprintf(subject, sizeof subject, SUBJECT_CHECKPOINT "%s", chain);
    struct bus_out o = {.subject = subject, .id = "forged", .type = wire_type(&m), .data = data, .len = len};
    t->want_stored++;
    bus_store(t->bus, &o, 0, town_on_stored, t);
    free(data);
    /* And nonsense, which is no more than that. */
    o = (struct bus_out){.subject = SUBJECT_CHECKPOINT "nonsense", .id = "nonsense", .data = "\xff\xff", .len = 2};
    t->want_stored++;
    bus_store(t->bus, &o, 0, town_on_stored, t);
    TOWN_UNTIL(t, t->stored == t->want_stored);
    town_start(t);
    TOWN_UNTIL(t, town_raised(t, "audit/tampered"));
    town_say_many(t, 20, 5, 300);
    TOWN_IDS(t, t->dir, 25);
    town_stop(t);
    char now[2 * AUDIT_CHAIN_BYTES + 1];
    assert_string_equal(town_chain(t, now), chain);
}

/* ---- retention ---- */

static void test_retention(void **state)
{
    struct town *t = *state;
    char mirror[900], copy[700], chain[2 * AUDIT_CHAIN_BYTES + 1];
    configure(t, ", keep_size: 40KiB");
    town_start(t);
    for (int i = 0; i < 400; i += 50) {
        town_say_many(t, i, 50, 300);
        TOWN_UNTIL(t, mirrored(t, i + 50));
    }
    TOWN_UNTIL(t, !town_status_has(t, "\"pruned\":0"));
    town_say_many(t, 400, 10, 300);
    TOWN_UNTIL(t, mirrored(t, 410));
    TOWN_UNTIL(t, town_status_has(t, "\"checkpoint_size\":410"));
    mirror_of(t, mirror, sizeof mirror);
    snprintf(copy, sizeof copy, "%s/to/%s", t->base, town_chain(t, chain));
    /* A copy that begins now begins where the trail does. */
    TOWN_UNTIL(t, town_follow(t, "") == 0 && town_look(t, copy) > 0 && t->report.checkpoint.size == 410);
    assert_true(t->report.pruned > 0);
    town_stop(t);
    int left = town_look(t, t->dir);
    assert_true(left > 0 && left < 410);
    assert_int_equal(t->report.pruned + (uint64_t)left, 410);
    assert_true(t->report.segments >= 2);
    /* What is gone here is there, and all of it is one trail. */
    town_whole(t, mirror, 410);
    /* And it goes on. */
    town_start(t);
    town_say_many(t, 410, 10, 300);
    TOWN_UNTIL(t, mirrored(t, 420));
    TOWN_UNTIL(t, town_follow(t, "") == 0 && town_look(t, copy) > 0 && t->report.checkpoint.size == 420);
    town_stop(t);
    town_whole(t, mirror, 420);
    assert_null(town_alerted(t, "audit/tampered"));
    assert_null(town_alerted(t, "audit/mirror"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_mirror, setup, teardown),
        cmocka_unit_test_setup_teardown(test_mirror_away, setup, teardown),
        cmocka_unit_test_setup_teardown(test_mirror_differs, setup, teardown),
        cmocka_unit_test_setup_teardown(test_mirror_takes_no_broken_record, setup, teardown),
        cmocka_unit_test_setup_teardown(test_old_copy, setup, teardown),
        cmocka_unit_test_setup_teardown(test_gone, setup, teardown),
        cmocka_unit_test_setup_teardown(test_forged_anchor, setup, teardown),
        cmocka_unit_test_setup_teardown(test_retention, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
