/* test_alert_problems.c - problems as people live with them: redoubt-alert as a process with real NATS and Redis; acknowledged, silenced, inhibited,
 * escalated; with Redis emptied and away, with the leader killed. */
#include "alert/alert_doc.h"
#include "alert_town.h"
#include "common/store.h"

#define OK      REDOUBT__V1__COMMAND_STATUS__COMMAND_STATUS_OK
#define INVALID REDOUBT__V1__COMMAND_STATUS__COMMAND_STATUS_INVALID
#define PS(n)   REDOUBT__V1__PROBLEM_STATE__PROBLEM_STATE_##n

struct story {
    struct town *t;
    struct harness_proc *other; /* a second replica, not started yet */
    struct bus_watch *watch;
    PB(ProblemChanged) * seen[64]; /* the last of each problem, as STATE says */
    size_t n_seen;
    int escalated, acknowledged, silenced, unsilenced; /* audit records that something is done */
    int intended;
};

static void settings(const struct town *t, const char *more)
{
    FILE *f = fopen(t->config, "we");
    assert_non_null(f);
    fprintf(f,
            "nats: { url: \"%s\" }\n"
            "redis: { host: 127.0.0.1, port: %d }\n"
            "data_dir: %s/data\n"
            "log: { level: debug }\n"
            "alert:\n"
            "  lease_ttl: 500ms\n"
            "  channels:\n"
            "    - { name: chat, type: slack, url: \"http://127.0.0.1:%d/hook\", rate: 0 }\n"
            "    - { name: post, type: email, url: \"smtp://127.0.0.1:%d\", from: redoubt@example.org, to: "
            "[ops@example.org] }\n"
            "    - { name: record, type: file, path: %s }\n"
            "%s",
            t->k->nats->url, t->redis->port, harness_dir(t->k->h), t->slack.port, t->smtp.port, t->record, more);
    fclose(f);
}

static void on_problem(void *ctx, const struct bus_msg *m)
{
    struct story *s = ctx;
    struct err e;
    PB(ProblemChanged) *p = wire_unpack(PB_DESC(problem_changed), m->data, m->len, &e);
    if (!p) /* some tests say nonsense there */
        return;
    for (size_t i = 0; i < s->n_seen; i++) {
        if (strcmp(s->seen[i]->id, p->id) == 0) {
            PB(ProblemChanged) *was = s->seen[i];
            bool newer = p->revision > was->revision;
            s->seen[i] = newer ? p : was;
            wire_free(newer ? was : p);
            return;
        }
    }
    if (s->n_seen < sizeof s->seen / sizeof *s->seen)
        s->seen[s->n_seen++] = p;
    else
        wire_free(p);
}

static void on_audit(void *ctx, const struct bus_msg *m)
{
    struct story *s = ctx;
    PB(AuditRecord) *r = wire_unpack(PB_DESC(audit_record), m->data, m->len, NULL);
    if (!r)
        return;
    bool done = r->outcome == REDOUBT__V1__AUDIT_OUTCOME__AUDIT_OUTCOME_DONE;
    bool strict = r->audit_class == REDOUBT__V1__AUDIT_CLASS__AUDIT_CLASS_STRICT;
    s->escalated += done && strcmp(r->action, "alert.escalated") == 0;
    s->acknowledged += done && strcmp(r->action, "alert.acknowledged") == 0 && strcmp(r->actor, "eve") == 0;
    s->silenced += done && strcmp(r->action, "alert.silenced") == 0;
    s->unsilenced += done && strcmp(r->action, "alert.unsilenced") == 0;
    s->intended += strict && r->outcome == REDOUBT__V1__AUDIT_OUTCOME__AUDIT_OUTCOME_INTENDED;
    wire_free(r);
}

static int setup(void **state)
{
    void *town;
    if (town_setup(&town))
        return -1;
    struct story *s = calloc(1, sizeof *s);
    s->t = town;
    s->watch = bus_watch(s->t->kb.b, SUBJECT_PROBLEM ">", 0, on_problem, NULL, s);
    bus_subscribe(s->t->kb.b, SUBJECT_AUDIT "alert", NULL, on_audit, s);
    *state = s;
    return 0;
}

static int teardown(void **state)
{
    struct story *s = *state;
    void *town = s->t;
    if (s->other && harness_stop(s->other)) {
        print_error("the second replica did not end well\n");
        return -1;
    }
    bus_watch_close(s->watch);
    for (size_t i = 0; i < s->n_seen; i++)
        wire_free(s->seen[i]);
    free(s);
    return town_teardown(&town);
}

static void begin(struct story *s, const char *more)
{
    settings(s->t, more);
    restart_alert(s->t);
}

static const PB(ProblemChanged) * problem(const struct story *s, const char *key)
{
    for (size_t i = 0; i < s->n_seen; i++)
        if (strcmp(s->seen[i]->alert->dedup_key, key) == 0)
            return s->seen[i];
    return NULL;
}

static bool is(const struct story *s, const char *key, int state)
{
    const PB(ProblemChanged) *p = problem(s, key);
    return p && (int)p->state == state;
}

static PB(AlertCommand) about(const char *key)
{
    PB(AlertCommand) c = REDOUBT__V1__ALERT_COMMAND__INIT;
    c.by = (char *)"eve";
    c.reason = (char *)"because";
    c.problem = (char *)key;
    return c;
}

static const PB(CommandReply) * order(struct story *s, const char *verb, const PB(AlertCommand) * c)
{
    struct town *t = s->t;
    size_t len = 0;
    struct err e;
    char subject[64];
    void *data = wire_pack(c, &len, &e);
    if (!data)
        fail_msg("%s", e.text);
    snprintf(subject, sizeof subject, "%salert.%s", SUBJECT_CMD, verb);
    t->answered = false;
    bus_request(t->kb.b, &(struct bus_out){.subject = subject, .type = wire_type(c), .data = data, .len = len}, 5000,
                on_reply, t);
    free(data);
    KIT_WAIT(t->k, t->answered);
    return t->reply;
}

static void done(struct story *s, const char *verb, const PB(AlertCommand) * c)
{
    const PB(CommandReply) *r = order(s, verb, c);
    if (r->status != OK)
        fail_msg("%s: %s", verb, r->message);
}

static void acknowledge(struct story *s, const char *key, uint64_t for_ms)
{
    PB(AlertCommand) c = about(key);
    c.duration_ms = for_ms;
    done(s, "ack", &c);
}

static char *silence(struct story *s, const char *matcher, uint64_t for_ms)
{
    static char id[65];
    struct err e;
    PB(AlertCommand) c = about("");
    char *list[] = {(char *)matcher};
    c.matchers = list;
    c.n_matchers = 1;
    c.duration_ms = for_ms;
    done(s, "silence", &c);
    PB(Silence) *x = wire_unpack(PB_DESC(silence), s->t->reply->payload.data, s->t->reply->payload.len, &e);
    assert_non_null(x);
    snprintf(id, sizeof id, "%s", x->id);
    wire_free(x);
    return id;
}

static PB(ProblemList) * list(struct story *s, bool all, uint32_t limit, const char *after)
{
    PB(AlertCommand) c = about("");
    c.resolved = all;
    c.limit = limit;
    c.after = (char *)after;
    done(s, "list", &c);
    if (s->t->reply->payload.len == 0) /* there is none */
        return (PB(ProblemList) *)protobuf_c_message_unpack(PB_DESC(problem_list), NULL, 0, NULL);
    struct err e;
    PB(ProblemList) *l = wire_unpack(PB_DESC(problem_list), s->t->reply->payload.data, s->t->reply->payload.len, &e);
    if (!l)
        fail_msg("%s", e.text);
    return l;
}

#define ONE_ROUTE "  routes:\n    - { name: all, min_severity: info, channels: [record, chat] }\n"

/* ---- what people do ---- */

static void taken_on_and_given_back(void **state)
{
    struct story *s = *state;
    struct town *t = s->t;
    begin(s, ONE_ROUTE);
    raise_alert(t, "a1", "disk", SEV(HIGH), false);
    KIT_WAIT(t->k, delivered(t, "a1", "chat") && is(s, "disk", PS(FIRING)));
    assert_string_equal(problem(s, "disk")->route, "all");
    acknowledge(s, "disk", 600000);
    KIT_WAIT(t->k, is(s, "disk", PS(ACKNOWLEDGED)) && s->acknowledged == 1 && s->intended == 1);
    assert_string_equal(problem(s, "disk")->acked_by, "eve");
    assert_string_equal(problem(s, "disk")->ack_reason, "because");
    /* The same again is not told, and on the record. */
    raise_alert(t, "a2", "disk", SEV(HIGH), false);
    KIT_WAIT(t->k, receipts(t, "a2", NULL, ST(MUTED)) == 1 && receipts(t, "a2", "record", ST(RECORDED)) == 1);
    assert_int_equal(told(t, &t->slack, "summary of a2:"), 0);
    /* Worse is told, and is everybody's again. */
    raise_alert(t, "a3", "disk", SEV(CRITICAL), false);
    KIT_WAIT(t->k, delivered(t, "a3", "chat") && is(s, "disk", PS(FIRING)));
    /* By its id as well; given back, people hear of it. */
    acknowledge(s, problem(s, "disk")->id, 600000);
    KIT_WAIT(t->k, is(s, "disk", PS(ACKNOWLEDGED)));
    PB(AlertCommand) c = about("disk");
    done(s, "unack", &c);
    KIT_WAIT(t->k, told(t, &t->slack, "given back") == 1 && is(s, "disk", PS(FIRING)));
    assert_int_equal(order(s, "unack", &c)->status, INVALID);
    /* Its end reaches those who were told, acknowledged or not. */
    acknowledge(s, "disk", 600000);
    raise_alert(t, "a4", "disk", SEV(CRITICAL), true);
    KIT_WAIT(t->k, delivered(t, "a4", "chat") && is(s, "disk", PS(RESOLVED)));
    assert_int_equal(order(s, "ack", &c)->status, INVALID);
}

static void an_acknowledgement_ends(void **state)
{
    struct story *s = *state;
    struct town *t = s->t;
    begin(s, ONE_ROUTE);
    raise_alert(t, "a1", "disk", SEV(HIGH), false);
    KIT_WAIT(t->k, delivered(t, "a1", "chat"));
    acknowledge(s, "disk", 600);
    KIT_WAIT(t->k, told(t, &t->slack, "acknowledged by eve until") == 1);
    KIT_WAIT(t->k, is(s, "disk", PS(FIRING)) && problem(s, "disk")->telling == 0);
    /* What was over in between is not told again. */
    acknowledge(s, "disk", 1000);
    raise_alert(t, "a2", "disk", SEV(HIGH), true);
    raise_alert(t, "b1", "other", SEV(HIGH), false);
    KIT_WAIT(t->k, delivered(t, "b1", "chat"));
    acknowledge(s, "other", 600);
    KIT_WAIT(t->k, told(t, &t->slack, "acknowledged by eve until") == 2);
    KIT_WAIT(t->k, is(s, "other", PS(FIRING)) && is(s, "disk", PS(RESOLVED)));
    assert_int_equal(told(t, &t->slack, "acknowledged by eve until"), 2);
}

static void nobody_acknowledges(void **state)
{
    struct story *s = *state;
    struct town *t = s->t;
    begin(s, "  groups:\n    - { name: boss, mode: failover, members: [post] }\n"
             "  escalations:\n    - { name: ladder, steps: [{ after: 1s, to: boss }, { after: 1s, to: chat }] }\n"
             "  routes:\n    - { name: all, min_severity: info, channels: [record, chat], escalation: ladder, "
             "repeat: 2s }\n");
    raise_alert(t, "a1", "disk", SEV(HIGH), false);
    KIT_WAIT(t->k, told(t, &t->smtp, "nobody has acknowledged") == 1);
    KIT_WAIT(t->k, told(t, &t->slack, "nobody has acknowledged") == 1);
    KIT_WAIT(t->k, s->escalated == 2 && problem(s, "disk")->escalated == 2);
    KIT_WAIT(t->k, told(t, &t->slack, "still there, for ") >= 1); /* the repeat */
    assert_int_equal(told(t, &t->smtp, "nobody has acknowledged"), 1);
    acknowledge(s, "disk", 600000);
    KIT_WAIT(t->k, is(s, "disk", PS(ACKNOWLEDGED)) && problem(s, "disk")->escalated == 0);
}

static void silenced(void **state)
{
    struct story *s = *state;
    struct town *t = s->t;
    begin(s, ONE_ROUTE);
    raise_alert(t, "b1", "web-1", SEV(HIGH), false);
    KIT_WAIT(t->k, delivered(t, "b1", "chat"));
    char id[65];
    snprintf(id, sizeof id, "%s", silence(s, "dedup_key=~web-.*", 600000));
    KIT_WAIT(t->k, s->silenced == 1 && s->intended == 1);
    /* What people knew of is muted from now on; what is new they do not hear of. */
    KIT_WAIT(t->k, is(s, "web-1", PS(MUTED)));
    raise_alert(t, "a1", "web-2", SEV(CRITICAL), false);
    raise_alert(t, "o1", "db-1", SEV(HIGH), false);
    KIT_WAIT(t->k, receipts(t, "a1", NULL, ST(MUTED)) == 1 && delivered(t, "o1", "chat"));
    KIT_WAIT(t->k, is(s, "web-2", PS(MUTED)));
    char by[80];
    snprintf(by, sizeof by, "silence/%s", id);
    assert_string_equal(problem(s, "web-2")->muted_by, by);
    /* It holds for whoever takes over. */
    restart_alert(t);
    raise_alert(t, "a2", "web-2", SEV(CRITICAL), false);
    KIT_WAIT(t->k, receipts(t, "a2", NULL, ST(MUTED)) == 1);
    /* The end of what was told before is told. */
    raise_alert(t, "b2", "web-1", SEV(HIGH), true);
    KIT_WAIT(t->k, delivered(t, "b2", "chat"));
    PB(AlertCommand) c = about("");
    PB(AlertCommand) none = REDOUBT__V1__ALERT_COMMAND__INIT;
    none.limit = 1;
    done(s, "silences", &none);
    assert_non_null(strstr(t->reply->message, "1 silences, 1 of them in force"));
    c.silence = id;
    done(s, "unsilence", &c);
    KIT_WAIT(t->k, s->unsilenced == 1 && told(t, &t->slack, "was muted; still there") == 1);
    KIT_WAIT(t->k, is(s, "web-2", PS(FIRING)));
    assert_int_equal(told(t, &t->slack, "summary of a1:"), 0);
    assert_int_equal(order(s, "unsilence", &c)->status, INVALID);
    /* One that ends by itself. */
    (void)silence(s, "dedup_key=mail", 700);
    raise_alert(t, "m1", "mail", SEV(HIGH), false);
    KIT_WAIT(t->k, receipts(t, "m1", NULL, ST(MUTED)) == 1);
    KIT_WAIT(t->k, told(t, &t->slack, "was muted; still there") == 2);
}

static void raise_with_label(struct story *s, const char *id, const char *key, int severity, const char *host,
                             bool resolved)
{
    struct town *t = s->t;
    PB(Alert) a = REDOUBT__V1__ALERT__INIT;
    PB(Label) l = REDOUBT__V1__LABEL__INIT;
    PB(Label) * labels[] = {&l};
    char summary[64];
    snprintf(summary, sizeof summary, "summary of %s:", id);
    l.key = (char *)"host";
    l.value = (char *)host;
    a.id = (char *)id;
    a.dedup_key = (char *)key;
    a.severity = (PB(Severity))severity;
    a.source = (char *)"test";
    a.summary = summary;
    a.labels = labels;
    a.n_labels = 1;
    a.resolved = resolved;
    a.raised_unix_ms = clock_wall_ms();
    size_t len, before = t->stored;
    struct err e;
    void *data = wire_pack(&a, &len, &e);
    assert_non_null(data);
    bus_store(t->kb.b,
              &(struct bus_out){.subject = SUBJECT_ALERT, .id = id, .type = wire_type(&a), .data = data, .len = len},
              0, on_stored, t);
    free(data);
    KIT_WAIT(t->k, t->stored > before);
}

static void inhibited(void **state)
{
    struct story *s = *state;
    struct town *t = s->t;
    begin(
        s,
        "  inhibit:\n    - { name: host, source: [\"dedup_key=~host-down-.*\"], target: [\"dedup_key=~service-.*\"], "
        "equal: [label.host] }\n" ONE_ROUTE);
    raise_with_label(s, "s0", "service-0", SEV(HIGH), "a", false);
    KIT_WAIT(t->k, delivered(t, "s0", "chat"));
    raise_with_label(s, "h1", "host-down-a", SEV(CRITICAL), "a", false);
    KIT_WAIT(t->k, delivered(t, "h1", "chat") && is(s, "host-down-a", PS(FIRING)));
    KIT_WAIT(t->k, is(s, "service-0", PS(MUTED))); /* from now on */
    raise_with_label(s, "s1", "service-1", SEV(HIGH), "a", false);
    raise_with_label(s, "s2", "service-2", SEV(HIGH), "b", false);
    KIT_WAIT(t->k, receipts(t, "s1", NULL, ST(MUTED)) == 1 && delivered(t, "s2", "chat"));
    KIT_WAIT(t->k, is(s, "service-1", PS(MUTED)));
    assert_string_equal(problem(s, "service-1")->muted_by, "inhibit/host");
    /* After a restart the sources are known again from the stream. */
    restart_alert(t);
    raise_with_label(s, "s3", "service-3", SEV(HIGH), "a", false);
    KIT_WAIT(t->k, receipts(t, "s3", NULL, ST(MUTED)) == 1);
    /* The source ends: what is still there is told. */
    raise_with_label(s, "h2", "host-down-a", SEV(CRITICAL), "a", true);
    KIT_WAIT(t->k, told(t, &t->slack, "summary of s1:") == 1 && is(s, "service-1", PS(FIRING)));
    KIT_WAIT(t->k, is(s, "service-0", PS(FIRING)));
}

/* ---- what is lost ---- */

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

#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(int argc, char **argv)
{
    if (argc > 1)
        cmocka_set_test_filter(argv[1]);
    signal(SIGPIPE, SIG_IGN);
    const struct CMUnitTest tests[] = {
        T(taken_on_and_given_back),
        T(an_acknowledgement_ends),
        T(nobody_acknowledges),
        T(silenced),
        T(inhibited),
        T(redis_is_emptied),
        T(redis_is_away),
        T(the_leader_is_killed),
        T(many_problems),
        T(nonsense),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
