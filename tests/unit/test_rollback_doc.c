/* test_rollback_doc.c - the journal as bytes: random whole documents there and back, what is refused, what is too long. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "common/wire.h"
#include "rollback/rollback_doc.h"

#define SEEDS 300

static uint64_t state;

static uint64_t next(void)
{
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return state;
}

static uint64_t below(uint64_t n)
{
    return next() % n;
}

static bool coin(void)
{
    return next() & 1;
}

static int64_t when(void)
{
    return (int64_t)below(4102444800000);
}

/* Up to room - 1 bytes, now and then with characters of more than one byte. */
static void text(char *to, size_t room, size_t least)
{
    static const char *const pieces[] = {"a", "Z", "7", "-", " ", "\xc3\xa4", "\xe2\x82\xac"};
    size_t want = least + below(room - least), n = 0;
    while (n < want) {
        const char *p = pieces[below(sizeof pieces / sizeof pieces[0])];
        if (n + strlen(p) >= room)
            p = "x";
        memcpy(to + n, p, strlen(p));
        n += strlen(p);
        if (n >= room - 1)
            break;
    }
    to[n] = '\0';
}
#define TEXT(to)  text(to, sizeof(to), 0)
#define NAMED(to) text(to, sizeof(to), 1)

static void hex(char *to, size_t digits)
{
    for (size_t i = 0; i < digits; i++)
        to[i] = "0123456789abcdef"[below(16)];
    to[digits] = '\0';
}

static void random_versions(struct rollback_doc *d)
{
    d->n_versions = 2 + below(ROLLBACK_VERSIONS - 1);
    for (size_t i = 0; i < d->n_versions; i++) {
        struct rollback_version *v = &d->versions[i];
        hex(v->id, 16);
        v->id[0] = "0123456789abcdef"[i]; /* all differ */
        NAMED(v->name);
        TEXT(v->digest);
        hex(v->config_hash, 64);
        v->data_schema = (int64_t)below(1000);
        v->state = coin() ? VERSION_STATE(RECORDED) : VERSION_STATE(VERIFIED);
        v->recorded_ms = 1000 + (int64_t)i;
        v->verified_ms = v->state == VERSION_STATE(VERIFIED) ? when() + 2000 : 0;
        v->kept = coin();
        v->gaps = coin();
        if (coin())
            TEXT(v->broken);
        v->snapshot_gone = v->broken[0] && coin();
        hex(v->by_job, 1 + below(40));
    }
    memcpy(d->current, d->versions[d->n_versions - 1].id, ROLLBACK_ID);
    d->versions[d->n_versions - 1].healthy_since_ms = when();
}

static void random_judge(struct rollback_judge *j)
{
    j->n = below(ROLLBACK_CHECKS + 1);
    for (size_t i = 0; i < j->n; i++) {
        struct rollback_check_state *c = &j->checks[i];
        snprintf(c->name, sizeof c->name, "check-%zu", i);
        c->in_a_row = (unsigned)below(5);
        c->outcome = 1 + (int)below(3);
        c->seen = coin();
        c->counting = coin();
        for (int side = 0; side < 2; side++) {
            c->base_bad[side] = next();
            c->base_all[side] = next();
        }
        c->former_bad = next();
        c->former_all = next();
        c->former_known = coin();
        c->former_value = c->former_known ? (double)next() / 7.0 : 0;
        c->at_ms = when();
        TEXT(c->detail);
    }
}

static void random_job(struct rollback_doc *d)
{
    struct rollback_job *j = &d->job;
    static const int weights[] = {100, 50, 25, 10, 0};
    hex(j->id, 20);
    memcpy(j->from, d->versions[1].id, ROLLBACK_ID);
    memcpy(j->to, d->versions[0].id, ROLLBACK_ID);
    memcpy(d->current, j->from, ROLLBACK_ID);
    NAMED(j->by);
    TEXT(j->why);
    TEXT(j->reason);
    j->phase = ROLLBACK_PHASE(SHIFT);
    j->previous = ROLLBACK_PHASE(TARGET_UP);
    j->plan.n_steps = 5;
    memcpy(j->plan.weight, weights, sizeof weights);
    j->plan.instances = 1 + (unsigned)below(9);
    j->plan.data = coin() ? ROLLBACK_DATA_KEEP : ROLLBACK_DATA_RESTORE;
    if (j->plan.data == ROLLBACK_DATA_RESTORE)
        hex(j->plan.snapshot, 64);
    j->step = 1 + below(3);
    j->stage = 1 + (int)below(4);
    j->wanted = weights[j->step];
    j->weight = j->stage == ROLLBACK_STAGE(OBSERVE) ? j->wanted : weights[j->step - 1];
    j->from_side = (int)below(2);
    j->holds = (uint32_t)below(4);
    j->emergency = coin();
    j->forced = coin();
    j->automatic = coin();
    j->started_ms = 5000;
    j->phase_since_ms = 6000;
    j->stage_since_ms = 7000;
    j->changed_ms = 8000;
    j->data_done = true;
    j->target_made = true;
    hex(j->snapshot, 64);
    j->serial = next();
    if (j->stage == ROLLBACK_STAGE(SET)) {
        j->op = ROLLBACK_OP(WEIGHT);
        j->op_since_ms = 7500;
        j->tries = (unsigned)below(3);
    }
    j->overhead_ms = (int64_t)below(1000);
    j->observed_ms = (int64_t)below(30000);
    random_judge(&j->judge);
}

static void random_past(struct rollback_doc *d)
{
    d->n_lineage = below(ROLLBACK_LINEAGE + 1);
    for (size_t i = 0; i < d->n_lineage; i++) {
        struct rollback_lineage *l = &d->lineage[i];
        memcpy(l->version, d->versions[below(d->n_versions)].id, ROLLBACK_ID);
        NAMED(l->name);
        hex(l->snapshot, 64);
        TEXT(l->stream);
        hex(l->job, 20);
        TEXT(l->why);
        l->taken_ms = (int64_t)(100000 - i * 100);
        l->data_schema = (int64_t)below(10);
        l->sequence = next();
        l->files = next();
        l->bytes = next();
        l->verified = coin();
    }
    d->n_history = below(6);
    for (size_t i = 0; i < d->n_history; i++) {
        struct rollback_ended *h = &d->history[i];
        hex(h->job, 20);
        NAMED(h->from);
        NAMED(h->to);
        TEXT(h->reason);
        NAMED(h->by);
        TEXT(h->why);
        h->phase = coin() ? ROLLBACK_PHASE(DONE) : ROLLBACK_PHASE(ABORTED);
        h->started_ms = 1000;
        h->ended_ms = (int64_t)(90000 - i * 100);
        h->holds = (uint32_t)below(9);
    }
}

static struct rollback_doc *random_doc(uint64_t seed)
{
    struct rollback_doc *d = calloc(1, sizeof *d);
    assert_non_null(d);
    state = seed * 0x9e3779b97f4a7c15u + 1;
    rollback_doc_init(d, "agent");
    d->epoch = 1 + below(1000000);
    random_versions(d);
    if (coin())
        random_job(d);
    random_past(d);
    return d;
}

static const struct rollback_check_rule check_rules[] = {
    {.name = "check-0", .check_class = ROLLBACK_SECURITY, .limit = 1}};
static const struct rollback_rule rule = {.step_ms = 30000,
                                          .drain_ms = 30000,
                                          .watch_ms = 120000,
                                          .gradual = true,
                                          .judge = {.n = 1, .checks = check_rules}};

static struct rollback_bytes packed(struct rollback_doc *d)
{
    struct err e = {""};
    struct rollback_bytes b = rollback_doc_pack(d, &rule, &e);
    if (!b.data)
        fail_msg("not packed: %s", e.text);
    return b;
}

static void there_and_back(void **x)
{
    (void)x;
    struct rollback_doc *back = calloc(1, sizeof *back);
    assert_non_null(back);
    size_t jobs = 0;
    for (uint64_t seed = 1; seed <= SEEDS; seed++) {
        struct rollback_doc *d = random_doc(seed);
        struct err e = {""};
        const char *broken = rollback_broken(d);
        if (broken)
            fail_msg("seed %llu: the test's own document is broken: %s", (unsigned long long)seed, broken);
        struct rollback_bytes b = packed(d);
        assert_true(b.len <= ROLLBACK_DOC_MAX);
        if (rollback_doc_unpack(back, "agent", b.data, b.len, &e))
            fail_msg("seed %llu: %s", (unsigned long long)seed, e.text);
        if (memcmp(back, d, sizeof *d) != 0)
            fail_msg("seed %llu: not the same document", (unsigned long long)seed);
        /* What is not part of the document is not in its way. */
        struct rollback_bytes again = packed(back);
        assert_int_equal(again.len, b.len);
        assert_memory_equal(again.data, b.data, b.len);
        jobs += rollback_busy(d);
        rollback_bytes_free(&b);
        rollback_bytes_free(&again);
        free(d);
    }
    assert_true(jobs > SEEDS / 4);
    free(back);
}

static void a_fresh_one(void **x)
{
    (void)x;
    struct rollback_doc *d = calloc(2, sizeof *d);
    assert_non_null(d);
    struct err e = {""};
    rollback_doc_init(d, "agent");
    d->epoch = 1;
    struct rollback_bytes b = packed(d);
    assert_int_equal(rollback_doc_unpack(d + 1, "agent", b.data, b.len, &e), 0);
    assert_int_equal(d[1].job.phase, ROLLBACK_PHASE(IDLE));
    assert_int_equal(d[1].n_versions, 0);
    rollback_bytes_free(&b);
    free(d);
}

/* What people read and the document does not hold. */
static void what_the_rule_adds(void **x)
{
    (void)x;
    struct err e;
    for (uint64_t seed = 1; seed < 20; seed++) {
        struct rollback_doc *d = random_doc(seed);
        struct rollback_bytes b = packed(d);
        PB(RollbackChanged) *m = wire_unpack(PB_DESC(rollback_changed), b.data, b.len, &e);
        assert_non_null(m);
        for (size_t i = 0; i < m->n_checks; i++)
            assert_int_equal(m->checks[i]->check_class, strcmp(m->checks[i]->name, "check-0") == 0
                                                            ? REDOUBT__V1__CHECK_CLASS__CHECK_CLASS_SECURITY
                                                            : REDOUBT__V1__CHECK_CLASS__CHECK_CLASS_ERRORS);
        if (m->plan) {
            assert_string_equal(m->plan->from_version, d->job.from);
            assert_string_equal(m->plan->from_name, rollback_doc_name(d, d->job.from));
            assert_int_equal(m->plan->steps[1]->weight_percent, 50);
            assert_int_equal(m->plan->steps[1]->observe_ms, 30000);
            assert_int_equal(m->plan->steps[1]->needs_ready, rollback_needs(&d->job.plan, 50));
        }
        wire_free(m);
        rollback_bytes_free(&b);
        free(d);
    }
}

/* The oldest of the past goes, never the job or the versions. */
static void too_long(void **x)
{
    (void)x;
    struct err e = {""};
    struct rollback_doc *d = random_doc(7), *back = calloc(1, sizeof *back);
    assert_non_null(back);
    random_past(d);
    d->n_lineage = ROLLBACK_LINEAGE;
    for (size_t i = 0; i < ROLLBACK_LINEAGE; i++) {
        memset(&d->lineage[i], 0, sizeof d->lineage[i]);
        memcpy(d->lineage[i].version, d->versions[0].id, ROLLBACK_ID);
        memset(d->lineage[i].name, 'n', ROLLBACK_NAME - 1);
        memset(d->lineage[i].snapshot, 's', ROLLBACK_SNAPSHOT - 1);
        memset(d->lineage[i].why, 'w', 128);
        d->lineage[i].taken_ms = (int64_t)(100000 - i);
    }
    d->n_history = ROLLBACK_HISTORY;
    for (size_t i = 0; i < ROLLBACK_HISTORY; i++) {
        struct rollback_ended *h = &d->history[i];
        memset(h, 0, sizeof *h);
        snprintf(h->job, sizeof h->job, "job-%zu", i);
        memset(h->from, 'f', ROLLBACK_NAME - 1);
        memset(h->to, 't', ROLLBACK_NAME - 1);
        memset(h->by, 'b', ROLLBACK_WHO - 1);
        memset(h->reason, 'r', ROLLBACK_WHY - 1);
        memset(h->why, 'y', 1024);
        h->phase = ROLLBACK_PHASE(DONE);
        h->ended_ms = (int64_t)(90000 - i);
    }
    for (size_t i = 0; i < d->n_versions; i++) {
        memset(d->versions[i].name, 'v', ROLLBACK_NAME - 1);
        memset(d->versions[i].reason, 'r', ROLLBACK_WHY - 1);
        if (d->versions[i].state != VERSION_STATE(REJECTED))
            d->versions[i].reason[0] = '\0';
    }
    struct rollback_bytes b = packed(d);
    assert_true(b.len <= ROLLBACK_DOC_MAX);
    if (rollback_doc_unpack(back, "agent", b.data, b.len, &e))
        fail_msg("%s", e.text);
    assert_int_equal(back->n_lineage, ROLLBACK_LINEAGE);
    assert_true(back->n_history >= 8 && back->n_history <= ROLLBACK_HISTORY);
    assert_int_equal(back->n_history, d->n_history);
    assert_string_equal(back->history[0].job, "job-0");
    rollback_bytes_free(&b);
    free(back);
    free(d);
}

/* A program's words, cut in the middle of a character, do not make the document invalid. */
static void cut_texts(void **x)
{
    (void)x;
    struct err e = {""};
    struct rollback_doc *d = calloc(1, sizeof *d);
    assert_non_null(d);
    rollback_doc_init(d, "agent");
    d->epoch = 3;
    d->n_history = 1;
    snprintf(d->history[0].job, ROLLBACK_JOB, "j");
    d->history[0].phase = ROLLBACK_PHASE(REFUSED);
    snprintf(d->history[0].reason, ROLLBACK_WHY, "no room\xe2\x82");
    struct rollback_bytes b = packed(d);
    assert_int_equal(rollback_doc_unpack(d, "agent", b.data, b.len, &e), 0);
    assert_string_equal(d->history[0].reason, "no room");
    rollback_bytes_free(&b);
    free(d);
}

/* ---- refused, with the document as it was ---- */

static PB(RollbackChanged) * message(uint64_t seed)
{
    struct err e = {""};
    struct rollback_doc *d = random_doc(seed);
    if (!d->job.id[0])
        random_job(d);
    struct rollback_bytes b = packed(d);
    PB(RollbackChanged) *m = wire_unpack(PB_DESC(rollback_changed), b.data, b.len, &e);
    assert_non_null(m);
    rollback_bytes_free(&b);
    free(d);
    return m;
}

static void refuses(const PB(RollbackChanged) * m, const char *words)
{
    struct err e = {""};
    struct rollback_doc *d = calloc(2, sizeof *d);
    assert_non_null(d);
    rollback_doc_init(d, "agent");
    d->epoch = 77;
    d[1] = d[0];
    assert_int_equal(rollback_doc_take(d, "agent", m, &e), -1);
    if (!strstr(e.text, words))
        fail_msg("found `%s`, expected `%s`", e.text, words);
    assert_memory_equal(&d[0], &d[1], sizeof *d);
    free(d);
}

static void hostile_messages(void **x)
{
    (void)x;
    PB(RollbackChanged) *m = message(11);
    char longer[300];
    memset(longer, 'x', sizeof longer - 1);
    longer[sizeof longer - 1] = '\0';
#define WITH(field, value, words)                                                                                    \
    do {                                                                                                             \
        __typeof__(field) was = field;                                                                               \
        field = value;                                                                                               \
        refuses(m, words);                                                                                           \
        field = was;                                                                                                 \
    } while (0)
    WITH(m->deployment, (char *)"other", "another deployment");
    WITH(m->from_version, longer, "former version");
    WITH(m->job_id, longer, "id of the job");
    WITH(m->current_version, longer, "current version");
    WITH(m->versions[0]->id, longer, "id of a version");
    WITH(m->versions[0]->by_job, longer, "job of a version");
    WITH(m->weight_percent, 101, "weight");
    WITH(m->weight_wanted, 4000000000u, "weight wanted");
    WITH(m->from_side, 2, "side");
    WITH(m->step, 99, "step");
    WITH(m->plan->data, (char *)"lose", "what happens to the data");
    WITH(m->plan->steps[0]->weight_percent, 500, "weight of a step");
    struct rollback_doc *d = calloc(1, sizeof *d);
    struct err e = {""};
    assert_non_null(d);
    assert_int_equal(rollback_doc_take(d, "agent", m, &e), 0); /* it was good all the time */
    free(d);
    wire_free(m);
    for (uint64_t seed = 1; seed < 50; seed++) {
        m = message(seed);
        if (m->n_checks == 0) {
            wire_free(m);
            continue;
        }
        WITH(m->checks[0]->former_value, (char *)"1.5apples", "no number");
        WITH(m->checks[0]->former_value, (char *)"inf", "no number");
        WITH(m->checks[0]->detail, longer, "");
        wire_free(m);
        return;
    }
    fail_msg("no document with checks");
}

/* Flipped and cut bytes: refused or a sound document, nothing else. */
static void hostile_bytes(void **x)
{
    (void)x;
    struct rollback_doc *back = calloc(1, sizeof *back);
    assert_non_null(back);
    size_t taken = 0, refused = 0;
    for (uint64_t seed = 1; seed <= 30; seed++) {
        struct rollback_doc *d = random_doc(seed);
        struct rollback_bytes b = packed(d);
        unsigned char *bytes = b.data;
        for (int i = 0; i < 60; i++) {
            struct err e = {""};
            size_t at = below(b.len), len = i % 3 == 0 ? below(b.len) : b.len;
            unsigned char was = bytes[at];
            bytes[at] ^= (unsigned char)(1u << below(8));
            void *copy = malloc(len ? len : 1); /* of its very size: what is read beyond is seen */
            assert_non_null(copy);
            memcpy(copy, bytes, len);
            if (rollback_doc_unpack(back, "agent", copy, len, &e)) {
                assert_true(e.text[0]);
                refused++;
            } else {
                assert_null(rollback_broken(back));
                taken++;
            }
            free(copy);
            bytes[at] = was;
        }
        rollback_bytes_free(&b);
        free(d);
    }
    assert_true(refused > 300 && taken > 0);
    free(back);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(there_and_back), cmocka_unit_test(a_fresh_one), cmocka_unit_test(what_the_rule_adds),
        cmocka_unit_test(too_long),       cmocka_unit_test(cut_texts),   cmocka_unit_test(hostile_messages),
        cmocka_unit_test(hostile_bytes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
