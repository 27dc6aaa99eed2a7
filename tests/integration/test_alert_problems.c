/* test_alert_problems.c - problems as people live with them: redoubt-alert as a process with real NATS and Redis; acknowledged, silenced, inhibited,
 * escalated. */
#include "alert/alert.h"
#include "alert_story.h"

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

/* An end that is between two attempts when it begins anew is given up, and nothing of it is left: what comes then is told. */
static void an_end_is_outdated_between_two_attempts(void **state)
{
    struct story *s = *state;
    struct town *t = s->t;
    begin(s, ONE_ROUTE);
    raise_alert(t, "began", "disk", SEV(HIGH), false);
    KIT_WAIT(t->k, delivered(t, "began", "chat"));
    mode(t, &t->slack, "500");
    raise_alert(t, "ended", "disk", SEV(HIGH), true);
    KIT_WAIT(t->k, receipts(t, "ended", "chat", ST(RETRYING)) == 1);
    raise_alert(t, "again", "disk", SEV(CRITICAL), false);
    KIT_WAIT(t->k, receipts(t, "again", "record", ST(RECORDED)) == 1);
    for (int i = 0; i < 10; i++) { /* where the outdated one was, others are */
        char id[16];
        snprintf(id, sizeof id, "other-%d", i);
        raise_alert(t, id, id, SEV(HIGH), false);
        KIT_WAIT(t->k, receipts(t, id, "record", ST(RECORDED)) == 1);
    }
    int64_t later = clock_mono_ms() + 2 * ALERT_BACKOFF_MS;
    KIT_WAIT(t->k, clock_mono_ms() > later);
    raise_alert(t, "last", "last", SEV(HIGH), false);
    KIT_WAIT(t->k, receipts(t, "last", "record", ST(RECORDED)) == 1);
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

int main(int argc, char **argv)
{
    if (argc > 1)
        cmocka_set_test_filter(argv[1]);
    signal(SIGPIPE, SIG_IGN);
    const struct CMUnitTest tests[] = {T(taken_on_and_given_back),
                                       T(an_end_is_outdated_between_two_attempts),
                                       T(an_acknowledgement_ends),
                                       T(nobody_acknowledges),
                                       T(silenced),
                                       T(inhibited)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
