/* test_alert_problems_lost.c - problems when parts are lost: Redis emptied and away, the leader killed; many problems; nonsense. */
#include "alert_story.h"

static void flush_redis(struct story *s)
{
    struct town *t = s->t;
    char port[16];
    snprintf(port, sizeof port, "%d", t->redis->port);
    const char *argv[] = {"redis-cli", "-h", "127.0.0.1", "-p", port, "FLUSHALL", NULL};
    struct harness_proc *p = harness_run(t->k->h, "flush", 0, argv);
    KIT_WAIT(t->k, !harness_alive(p));
}

static void redis_is_emptied(void **state)
{
    struct story *s = *state;
    struct town *t = s->t;
    begin(s, ONE_ROUTE);
    raise_alert(t, "a1", "disk", SEV(HIGH), false);
    raise_alert(t, "b1", "fan", SEV(HIGH), false);
    KIT_WAIT(t->k, delivered(t, "a1", "chat") && delivered(t, "b1", "chat"));
    acknowledge(s, "disk", 600000);
    KIT_WAIT(t->k, is(s, "disk", PS(ACKNOWLEDGED)));
    flush_redis(s);
    /* Also by a process that has never seen them. */
    restart_alert(t);
    raise_alert(t, "a2", "disk", SEV(HIGH), false);
    KIT_WAIT(t->k, receipts(t, "a2", NULL, ST(MUTED)) == 1);
    uint32_t total = 0;
    for (int64_t end = clock_mono_ms() + HARNESS_WAIT_MS; total != 2 && clock_mono_ms() < end;) {
        PB(ProblemList) *l = list(s, false, 0, "");
        total = l->total;
        wire_free(l);
    }
    assert_int_equal(total, 2); /* Redis has them again */
    assert_int_equal(told(t, &t->slack, "summary of a2:"), 0);
}

static void redis_is_away(void **state)
{
    struct story *s = *state;
    struct town *t = s->t;
    begin(s, ONE_ROUTE);
    raise_alert(t, "a1", "disk", SEV(HIGH), false);
    raise_alert(t, "b1", "fan", SEV(WARNING), false);
    KIT_WAIT(t->k, delivered(t, "a1", "chat") && delivered(t, "b1", "chat"));
    KIT_WAIT(t->k, is(s, "disk", PS(FIRING)) && is(s, "fan", PS(FIRING)));
    harness_kill(t->redis);
    /* The stream of states keeps what people say. */
    acknowledge(s, "disk", 600000);
    KIT_WAIT(t->k, is(s, "disk", PS(ACKNOWLEDGED)));
    restart_alert(t); /* knows nothing by itself */
    raise_alert(t, "a2", "disk", SEV(HIGH), false);
    KIT_WAIT(t->k, receipts(t, "a2", NULL, ST(MUTED)) == 1);
    PB(ProblemList) *l = list(s, false, 0, "");
    assert_int_equal(l->n_problems, 2);
    assert_int_equal(l->total, 2);
    assert_true(strcmp(l->problems[0]->id, l->problems[1]->id) < 0);
    char first[40];
    snprintf(first, sizeof first, "%s", l->problems[0]->id);
    wire_free(l);
    l = list(s, false, 1, "");
    assert_int_equal(l->n_problems, 1);
    assert_string_equal(l->next, first);
    wire_free(l);
    l = list(s, false, 1, first);
    assert_int_equal(l->n_problems, 1);
    assert_string_equal(l->next, "");
    wire_free(l);
    /* Time goes on: who leads alone tells what it brings. */
    acknowledge(s, "fan", 500);
    KIT_WAIT(t->k, told(t, &t->slack, "acknowledged by eve until") == 1);
    /* Redis comes back with nothing, and is told. */
    harness_start(t->redis);
    uint32_t total = 0;
    int64_t end = clock_mono_ms() + HARNESS_WAIT_MS;
    while (total != 2 && clock_mono_ms() < end) {
        l = list(s, false, 0, "");
        total = l->total;
        wire_free(l);
    }
    assert_int_equal(total, 2);
    raise_alert(t, "a3", "disk", SEV(HIGH), false);
    KIT_WAIT(t->k, receipts(t, "a3", NULL, ST(MUTED)) == 1);
}

static void on_purged(void *ctx, enum bus_status st, const struct bus_msg *m)
{
    assert_int_equal(st, BUS_OK);
    assert_non_null(memmem(m->data, m->len, "\"success\":true", 14));
    *(bool *)ctx = true;
}

static void the_stream_has_lost_them(void **state)
{
    struct story *s = *state;
    struct town *t = s->t;
    bool purged = false;
    begin(s, ONE_ROUTE);
    raise_alert(t, "a1", "disk", SEV(HIGH), false);
    KIT_WAIT(t->k, delivered(t, "a1", "chat") && is(s, "disk", PS(FIRING)));
    acknowledge(s, "disk", 600000);
    KIT_WAIT(t->k, is(s, "disk", PS(ACKNOWLEDGED)));
    harness_kill(t->alert);
    static const char body[] = "{\"filter\":\"" SUBJECT_PROBLEM ">\"}";
    bus_request(
        t->kb.b,
        &(struct bus_out){.subject = "$JS.API.STREAM.PURGE." STREAM_STATE, .data = body, .len = sizeof body - 1},
        5000, on_purged, &purged);
    KIT_WAIT(t->k, purged);
    while (s->n_seen > 0)
        wire_free(s->seen[--s->n_seen]);
    harness_start(t->alert);
    KIT_WAIT(t->k, is(s, "disk", PS(ACKNOWLEDGED))); /* Redis knew */
    assert_string_equal(problem(s, "disk")->acked_by, "eve");
}

static void the_leader_is_killed(void **state)
{
    struct story *s = *state;
    struct town *t = s->t;
    begin(s, ONE_ROUTE);
    const char *argv[] = {bin("redoubt-alert"), "-c", t->config, NULL};
    s->other = harness_run(t->k->h, "alert2", 0, argv);
    char key[32], id[32];
    for (int i = 0; i < 8; i++) {
        snprintf(key, sizeof key, "p%d", i);
        snprintf(id, sizeof id, "x%d", i);
        raise_alert(t, id, key, SEV(HIGH), false);
        KIT_WAIT(t->k, delivered(t, id, "chat"));
        acknowledge(s, key, 2000);
    }
    harness_kill(t->alert); /* one of the two leads; if it was not this one, it goes on */
    KIT_WAIT_MS(t->k, told(t, &t->slack, "acknowledged by eve until") >= 8, 20000);
    for (int i = 0; i < 8; i++) {
        snprintf(key, sizeof key, "p%d", i);
        KIT_WAIT(t->k, is(s, key, PS(FIRING)) && problem(s, key)->telling == 0);
    }
    assert_int_equal(told(t, &t->slack, "acknowledged by eve until"), 8); /* once each */
    t->alert = s->other;
    s->other = NULL;
}

/* ---- many, and nonsense ---- */

static void many_problems(void **state)
{
    struct story *s = *state;
    struct town *t = s->t;
    enum { N = 700 };
    begin(s, ONE_ROUTE);
    char id[32], key[32];
    for (int i = 0; i < N; i++) {
        PB(Alert) a = REDOUBT__V1__ALERT__INIT;
        snprintf(id, sizeof id, "n%d", i);
        snprintf(key, sizeof key, "many-%d", i);
        a.id = id;
        a.dedup_key = key;
        a.severity = SEV(WARNING);
        a.source = (char *)"test";
        a.summary = (char *)"one of many";
        a.raised_unix_ms = clock_wall_ms();
        PB(ProblemChanged) p = REDOUBT__V1__PROBLEM_CHANGED__INIT;
        char hash[ALERT_ID_LEN + 1], subject[96], msg[96];
        p.id = alert_doc_id(key, hash);
        p.revision = 3;
        p.alert = &a;
        p.state = PS(FIRING);
        p.first_unix_ms = p.changed_unix_ms = p.told_unix_ms = clock_wall_ms();
        p.told_severity = SEV(WARNING);
        p.route = (char *)"all";
        snprintf(subject, sizeof subject, "%s%s", SUBJECT_PROBLEM, hash);
        snprintf(msg, sizeof msg, "test/%d", i);
        size_t len;
        struct err e;
        void *data = wire_pack(&p, &len, &e);
        assert_non_null(data);
        bus_store(t->kb.b,
                  &(struct bus_out){.subject = subject, .id = msg, .type = wire_type(&p), .data = data, .len = len},
                  0, on_stored, t);
        free(data);
    }
    KIT_WAIT(t->k, t->stored >= N);
    flush_redis(s); /* whose mark is gone: it gets all from the stream */
    uint32_t total = 0;
    int64_t end = clock_mono_ms() + 2 * HARNESS_WAIT_MS;
    while (total != N && clock_mono_ms() < end) {
        PB(ProblemList) *l = list(s, false, 1, "");
        total = l->total;
        wire_free(l);
    }
    assert_int_equal(total, N);
    /* Page by page, each once, in order. */
    char after[65] = "";
    size_t n = 0;
    do {
        PB(ProblemList) *l = list(s, false, 0, after);
        for (size_t i = 0; i < l->n_problems; i++) {
            assert_true(strcmp(l->problems[i]->id, i ? l->problems[i - 1]->id : after) > 0);
            n++;
        }
        snprintf(after, sizeof after, "%s", l->next);
        wire_free(l);
    } while (*after);
    assert_int_equal(n, N);
}

static void nonsense(void **state)
{
    struct story *s = *state;
    struct town *t = s->t;
    begin(s, ONE_ROUTE);
    raise_alert(t, "a1", "disk", SEV(HIGH), false);
    KIT_WAIT(t->k, delivered(t, "a1", "chat") && is(s, "disk", PS(FIRING)));
    /* Commands. */
    PB(AlertCommand) c = about("disk");
    c.by = (char *)"";
    assert_int_equal(order(s, "ack", &c)->status, INVALID);
    c = about("disk");
    c.reason = (char *)"";
    assert_int_equal(order(s, "ack", &c)->status, INVALID);
    c = about("");
    assert_int_equal(order(s, "ack", &c)->status, INVALID);
    c = about("nobody knows it");
    assert_int_equal(order(s, "ack", &c)->status, INVALID);
    c = about("disk");
    c.duration_ms = UINT64_C(40) * 86400000;
    assert_int_equal(order(s, "ack", &c)->status, INVALID);
    char *wrong[] = {(char *)"colour=red"}, *right[] = {(char *)"agent=a"}, *broken[] = {(char *)"agent=~("};
    c = about("");
    c.n_matchers = 1;
    c.matchers = right;
    assert_int_equal(order(s, "silence", &c)->status, INVALID); /* no end */
    c.duration_ms = UINT64_C(31) * 86400000;
    assert_int_equal(order(s, "silence", &c)->status, INVALID);
    c.duration_ms = 1000;
    c.matchers = wrong;
    assert_int_equal(order(s, "silence", &c)->status, INVALID);
    c.matchers = broken;
    assert_int_equal(order(s, "silence", &c)->status, INVALID);
    c.matchers = right;
    c.starts_unix_ms = 1000;
    assert_int_equal(order(s, "silence", &c)->status, INVALID); /* over already */
    assert_int_equal(s->intended, 0);                           /* none of that is an act */
    /* Messages where only the service speaks: counted, logged, and nothing is changed. */
    static const char *const subjects[] = {SUBJECT_PROBLEM "00000000000000000000000000000000", SUBJECT_PROBLEM "x",
                                           SUBJECT_SILENCE "x"};
    size_t before = t->stored;
    for (size_t i = 0; i < sizeof subjects / sizeof *subjects; i++)
        bus_store(
            t->kb.b,
            &(struct bus_out){.subject = subjects[i], .id = subjects[i], .data = "\xff\xff nonsense", .len = 11}, 0,
            on_stored, t);
    PB(Silence) x = REDOUBT__V1__SILENCE__INIT; /* of another name than its subject's */
    x.id = (char *)"y";
    x.revision = 1;
    x.matchers = right;
    x.n_matchers = 1;
    x.by = x.reason = (char *)"mallory";
    x.starts_unix_ms = 1;
    x.ends_unix_ms = clock_wall_ms() + 3600000;
    size_t len;
    struct err e;
    void *data = wire_pack(&x, &len, &e);
    if (!data)
        fail_msg("%s", e.text);
    bus_store(t->kb.b, &(struct bus_out){.subject = SUBJECT_SILENCE "z", .id = "z", .data = data, .len = len}, 0,
              on_stored, t);
    free(data);
    KIT_WAIT(t->k, t->stored == before + 4);
    /* A document in Redis that is none. */
    char port[16], redis_key[80], hash[ALERT_ID_LEN + 1];
    snprintf(port, sizeof port, "%d", t->redis->port);
    snprintf(redis_key, sizeof redis_key, "redoubt:{al:%s}", alert_doc_id("disk", hash));
    const char *argv[] = {"redis-cli", "-h",  "127.0.0.1", "-p",  port,       "HSET",
                          redis_key,   "rev", "9",         "doc", "nonsense", NULL};
    struct harness_proc *p = harness_run(t->k->h, "damage", 0, argv);
    KIT_WAIT(t->k, !harness_alive(p));
    raise_alert(t, "a2", "disk", SEV(CRITICAL), false);
    KIT_WAIT(t->k, delivered(t, "a2", "chat"));
    KIT_WAIT(t->k, problem(s, "disk")->revision == 10); /* replaced */
    c = about("");
    done(s, "silences", &c);
    assert_non_null(strstr(t->reply->message, "0 silences"));
}

int main(int argc, char **argv)
{
    if (argc > 1)
        cmocka_set_test_filter(argv[1]);
    signal(SIGPIPE, SIG_IGN);
    const struct CMUnitTest tests[] = {T(redis_is_emptied),     T(redis_is_away), T(the_stream_has_lost_them),
                                       T(the_leader_is_killed), T(many_problems), T(nonsense)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
