/* test_audit_adopt.c - three replicas of redoubt-audit on one volume, killed under load and scaled down: every record in one of their trails, once; the trails
 * of those that are gone are signed, mirrored, and given to others; whoever starts later goes on with them. */
#include "audit_town.h"
#include "common/replica.h"

#define REPLICAS 3
#define RECORDS  9000
#define KILLS    8
#define FLIGHT   300

struct adopt {
    struct town *t;
    struct harness_proc *p[REPLICAS];
    bool runs[REPLICAS];
    unsigned char times[RECORDS];
    int sent;
    uint64_t rng;
};

static uint64_t draw(struct adopt *a, uint64_t below)
{
    a->rng ^= a->rng << 13;
    a->rng ^= a->rng >> 7;
    a->rng ^= a->rng << 17;
    return (a->rng >> 11) % below;
}

static void run(struct adopt *a, int i)
{
    char program[700], name[32];
    if (a->p[i]) {
        harness_start(a->p[i]);
    } else {
        snprintf(program, sizeof program, "%s/redoubt-audit", a->t->bin);
        snprintf(name, sizeof name, "audit-%d", i);
        a->p[i] = harness_run(a->t->h, name, 0, (const char *const[]){program, "-c", a->t->conf, NULL});
    }
    a->runs[i] = true;
}

static void end(struct adopt *a, int i, bool gently)
{
    if (gently)
        assert_int_equal(harness_stop(a->p[i]), 0);
    else
        harness_kill(a->p[i]);
    a->runs[i] = false;
}

static int setup(void **state)
{
    struct adopt *a = calloc(1, sizeof *a);
    assert_non_null(a);
    *state = a;
    a->rng = 0x9e3779b97f4a7c15u;
    a->t = town_open(NULL);
    return 0;
}

static int teardown(void **state)
{
    struct adopt *a = *state;
    town_close(a->t);
    free(a);
    return 0;
}

/* ---- what lies there ---- */

static void on_visit(void *ctx, const struct audit_record *rec, const char *file, uint64_t offset)
{
    struct adopt *a = ctx;
    (void)file, (void)offset;
    PB(AuditRecord) *r = wire_unpack(PB_DESC(audit_record), rec->stored, rec->len, NULL);
    int i;
    assert_non_null(r);
    if (sscanf(r->id, "record-%d", &i) == 1 && i >= 0 && i < RECORDS)
        a->times[i]++;
    wire_free(r);
}

static void trail_dir(const struct adopt *a, int i, char dir[static 700])
{
    snprintf(dir, 700, "%s/data/audit/%d", a->t->base, i);
}

/* Of all trails: how many of the records are there; -1: one of them does not verify. */
static int look(struct adopt *a)
{
    memset(a->times, 0, sizeof a->times);
    for (int i = 0; i < REPLICA_MAX; i++) {
        char dir[700];
        struct err e = {""};
        trail_dir(a, i, dir);
        if (access(dir, F_OK))
            continue;
        struct audit_verify_opts v = {.dirs = {dir}, .n_dirs = 1, .visit = on_visit, .ctx = a};
        int rc = audit_verify_trail(&v, &a->t->report, &e);
        if (rc == 1 && a->t->report.segments > 0)
            return -1;
    }
    int n = 0;
    for (int i = 0; i < RECORDS; i++)
        n += a->times[i] > 0;
    return n;
}

static int doubled(const struct adopt *a)
{
    int n = 0;
    for (int i = 0; i < RECORDS; i++)
        n += a->times[i] > 1;
    return n;
}

/* Its last checkpoint covers all that is there. */
static bool is_signed(struct adopt *a, int i)
{
    char dir[700];
    struct err e = {""};
    trail_dir(a, i, dir);
    struct audit_verify_opts v = {.dirs = {dir}, .n_dirs = 1};
    int rc = audit_verify_trail(&v, &a->t->report, &e);
    return rc == 0 && a->t->report.torn_bytes == 0 && a->t->report.checkpoint.size == a->t->report.last_seq;
}

static int count_status(struct adopt *a, const char *what)
{
    int n = 0;
    for (const char *at = town_status(a->t); (at = strstr(at, what)); at++)
        n++;
    return n;
}

static void pour(struct adopt *a, int until)
{
    while (a->t->bus_up && a->sent < until && a->t->want_stored - a->t->stored < FLIGHT) {
        town_say(a->t, a->sent % 3 ? TOWN_CONTINUITY : TOWN_STRICT, a->sent, 100);
        a->sent++;
    }
}

/* All three take part. */
static bool each_has_some(struct adopt *a)
{
    for (int i = 0; i < REPLICAS; i++) {
        char dir[700];
        struct err e = {""};
        trail_dir(a, i, dir);
        struct audit_verify_opts v = {.dirs = {dir}, .n_dirs = 1};
        if (access(dir, F_OK) || audit_verify_trail(&v, &a->t->report, &e) || a->t->report.last_seq == 0)
            return false;
    }
    return true;
}

static uint64_t bytes_there(const struct adopt *a)
{
    uint64_t sum = 0;
    for (int i = 0; i < REPLICAS; i++) {
        char dir[700];
        struct audit_segments s;
        trail_dir(a, i, dir);
        const char *dirs[] = {dir};
        if (access(dir, F_OK) || audit_segments_list(dirs, 1, &s, NULL))
            continue;
        for (size_t k = 0; k < s.n; k++) {
            char path[800], name[AUDIT_NAME_MAX];
            struct stat st;
            audit_segment_name(s.list[k].first, name);
            snprintf(path, sizeof path, "%s/%s", dir, name);
            sum += stat(path, &st) ? 0 : (uint64_t)st.st_size;
        }
        audit_segments_free(&s);
    }
    return sum;
}

/* Until so much more was written, wherever it falls in a write. */
static void pour_until_grown(struct adopt *a, int until, uint64_t by)
{
    uint64_t goal = bytes_there(a) + by;
    int64_t end_ms = clock_mono_ms() + 3 * HARNESS_WAIT_MS;
    while (bytes_there(a) < goal && a->sent < RECORDS) {
        if (clock_mono_ms() > end_ms)
            fail_msg("waited in vain for records: %d sent, %s", a->sent, town_status(a->t));
        pour(a, until);
        town_turn(a->t);
    }
}

#define ADOPT_UNTIL(a, cond)                                                                                         \
    do {                                                                                                             \
        int64_t end_ms_ = clock_mono_ms() + 6 * HARNESS_WAIT_MS;                                                     \
        while (!(cond)) {                                                                                            \
            if (clock_mono_ms() > end_ms_) {                                                                         \
                (void)town_shell("cat %s/said >&2; grep -v duplicate %s/audit-*.log >&2", (a)->t->base,              \
                                 harness_dir((a)->t->h));                                                            \
                fail_msg("line %d: waited in vain for: %s; %s", __LINE__, #cond, town_status((a)->t));               \
            }                                                                                                        \
            for (int turn_ = 0; turn_ < 20; turn_++)                                                                 \
                town_turn((a)->t);                                                                                   \
        }                                                                                                            \
    } while (0)

/* ---- killed under load, 3 -> 1 ---- */

static void test_killed_and_scaled_down(void **state)
{
    struct adopt *a = *state;
    struct town *t = a->t;
    char mirror[400], copy[700], hex[2 * AUDIT_CHAIN_BYTES + 1];
    snprintf(mirror, sizeof mirror, "segment: 32KiB, mirror: \"%s/mirror\"", t->base);
    assert_int_equal(town_shell("mkdir -p %s/mirror %s/to", t->base, t->base), 0);
    town_configure(t, mirror);
    for (int i = 0; i < REPLICAS; i++)
        run(a, i);
    for (int from = 0; !each_has_some(a); from += 30) {
        if (from > RECORDS / (KILLS + 2))
            fail_msg("not all of them take records: %s", town_status(t));
        pour(a, from);
        for (int turn = 0; turn < 10; turn++)
            town_turn(t);
    }
    for (int k = 0; k < KILLS; k++) {
        int victim = (int)draw(a, REPLICAS);
        pour_until_grown(a, RECORDS / (KILLS + 2) * (k + 1), 1 + draw(a, 60000));
        end(a, victim, false);
        if (look(a) < 0)
            fail_msg("kill %d: %s at byte %" PRIu64 ": %s", k, t->report.problems[0].file,
                     t->report.problems[0].offset, t->report.problems[0].what);
        run(a, victim);
    }
    /* 3 -> 1 with work in their hands. */
    pour_until_grown(a, RECORDS, 60000);
    end(a, 0, false);
    end(a, 1, false);
    while (a->sent < RECORDS) {
        pour(a, RECORDS);
        town_turn(t);
    }
    ADOPT_UNTIL(a, look(a) == RECORDS);
    if (doubled(a))
        fail_msg("%d records are in the trails more than once", doubled(a));
    /* Those of the two are taken care of, and complete: here, on the mirror, on the bus. */
    ADOPT_UNTIL(a, count_status(a, "\"state\":\"kept\"") == 2);
    for (int i = 0; i < REPLICAS; i++)
        ADOPT_UNTIL(a, is_signed(a, i));
    assert_int_equal(look(a), RECORDS);
    assert_int_equal(doubled(a), 0);
    assert_int_equal(town_shell("! ls -d %s/data/audit/*/set-aside-* 2>/dev/null", t->base), 0);
    assert_false(town_raised(t, "audit/tampered"));
    for (int i = 0; i < REPLICAS; i++) {
        /* What is on another host is all of it. */
        char dir[700];
        trail_dir(a, i, dir);
        memcpy(t->dir, dir, sizeof t->dir - 1);
        town_chain(t, hex);
        snprintf(copy, sizeof copy, "%s/to/%s", t->base, hex);
        int here = town_look(t, dir);
        uint64_t signed_to = t->report.checkpoint.size;
        ADOPT_UNTIL(a, town_follow(t, "") == 0 && town_look(t, copy) == here);
        assert_int_equal(t->report.checkpoint.size, signed_to);
        char name[64] = "", path[900];
        snprintf(path, sizeof path,
                 "%s/"
                 "name",
                 dir);
        FILE *f = fopen(path, "r");
        assert_non_null(f);
        assert_non_null(fgets(name, sizeof name, f));
        fclose(f);
        name[strcspn(name, "\n")] = 0;
        snprintf(path, sizeof path, "%s/mirror/%s/%s", t->base, name, hex);
        ADOPT_UNTIL(a, town_look(t, path) == here);
    }
    /* Scaled up again: they go on with what is there, and nobody reads it in their place any more. */
    run(a, 0);
    run(a, 1);
    for (int more = 0; count_status(a, "\"state\":\"kept\"") > 0; more++) {
        if (more > 400)
            fail_msg("nobody has gone on with them: %s", town_status(t));
        for (int i = 0; i < 10; i++)
            town_say(t, TOWN_CONTINUITY, RECORDS + 10 * more + i, 100);
        for (int turn = 0; turn < 10; turn++)
            town_turn(t);
    }
    TOWN_UNTIL(t, t->stored == t->want_stored);
    assert_int_equal(town_shell("test -d %s/data/audit/3", t->base), 1);
    for (int i = 0; i < REPLICAS; i++)
        ADOPT_UNTIL(a, is_signed(a, i));
    assert_int_equal(look(a), RECORDS);
    assert_int_equal(doubled(a), 0);
    assert_false(town_raised(t, "audit/tampered"));
}

/* ---- who takes care of a trail is killed in the middle of it ---- */

static void test_killed_in_the_middle(void **state)
{
    struct adopt *a = *state;
    struct town *t = a->t;
    char audit[400];
    snprintf(audit, sizeof audit, "segment: 32KiB, mirror: \"%s/mirror\"", t->base);
    town_configure(t, audit); /* its disk is not there: no trail can be complete */
    run(a, 0);
    ADOPT_UNTIL(a, town_shell("test -e %s/data/audit/0/checkpoint", t->base) == 0);
    run(a, 1);
    for (int from = 0; town_shell("ls %s/data/audit/1/*.seg >%s/said 2>&1", t->base, t->base); from += 30) {
        pour(a, from);
        for (int turn = 0; turn < 10; turn++)
            town_turn(t);
    }
    TOWN_UNTIL(t, t->stored == t->want_stored);
    ADOPT_UNTIL(a, look(a) == a->sent);
    end(a, 0, false);
    ADOPT_UNTIL(a, town_status_has(t, "\"state\":\"catches_up\""));
    end(a, 1, false);
    /* Whoever starts goes on with the first, and takes care of the second. */
    run(a, 2);
    ADOPT_UNTIL(a, town_status_has(t, "\"state\":\"catches_up\""));
    assert_int_equal(town_shell("mkdir %s/mirror", t->base), 0);
    ADOPT_UNTIL(a, count_status(a, "\"state\":\"kept\"") == 1);
    for (int i = 0; i < 2; i++)
        ADOPT_UNTIL(a, is_signed(a, i));
    assert_int_equal(look(a), a->sent);
    assert_int_equal(doubled(a), 0);
    assert_int_equal(town_shell("ls -d %s/data/audit/2 2>%s/said", t->base, t->base), 2);
    assert_false(town_raised(t, "audit/tampered"));
}

/* ---- a trail that was damaged is left as it is, and people are told ---- */

static void test_damaged(void **state)
{
    struct adopt *a = *state;
    struct town *t = a->t;
    char path[800], name[AUDIT_NAME_MAX];
    town_configure(t, "segment: 1MiB");
    run(a, 0);
    ADOPT_UNTIL(a, town_shell("test -e %s/data/audit/0/checkpoint", t->base) == 0);
    pour(a, 200);
    TOWN_UNTIL(t, t->stored == t->want_stored);
    ADOPT_UNTIL(a, look(a) == 200);
    run(a, 1);
    ADOPT_UNTIL(a, town_shell("test -e %s/data/audit/1/checkpoint", t->base) == 0);
    end(a, 0, true); /* all is signed for */
    audit_segment_name(1, name);
    snprintf(path, sizeof path, "%s/data/audit/0/%s", t->base, name);
    town_flip(path, 2000);
    ADOPT_UNTIL(a, town_raised(t, "audit/tampered"));
    ADOPT_UNTIL(a, town_status_has(t, "\"state\":\"refused\""));
    assert_int_equal(town_shell("ls -d %s/data/audit/0/set-aside-* >%s/said 2>&1", t->base, t->base), 2);
    /* It is in nobody's way. */
    pour(a, 400);
    TOWN_UNTIL(t, t->stored == t->want_stored);
    char dir[700];
    trail_dir(a, 1, dir);
    ADOPT_UNTIL(a, town_look(t, dir) == 200);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_killed_and_scaled_down, setup, teardown),
        cmocka_unit_test_setup_teardown(test_killed_in_the_middle, setup, teardown),
        cmocka_unit_test_setup_teardown(test_damaged, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
