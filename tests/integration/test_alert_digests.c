/* test_alert_digests.c - redoubt-alert as a process when there is too much, too little or nobody: bursts to a dead channel, more than a channel
 * takes, groups, fan-outs of which one member is away. What people get is few messages, and nothing is lost. */
#include "alert_town.h"

#define BURST 3000

/* Which of the alerts b0 .. b<BURST-1> have a receipt of a kind. */
struct seen {
    bool accepted[BURST], exhausted[BURST], waiting[BURST], recorded[BURST];
    int n_accepted, n_exhausted, n_waiting, n_recorded;
    int doubled; /* accepted by two receipts of one channel */
};

static void mark(bool *which, int *count)
{
    *count += !*which;
    *which = true;
}

static void on_any_receipt(void *ctx, const struct bus_msg *m)
{
    struct seen *s = ctx;
    struct err e;
    PB(DeliveryReceipt) *r = wire_unpack(PB_DESC(delivery_receipt), m->data, m->len, &e);
    if (!r)
        fail_msg("a receipt is not valid: %s", e.text);
    int i = r->alert_id[0] == 'b' ? atoi(r->alert_id + 1) : -1;
    if (i >= 0 && i < BURST) {
        if (r->status == ST(ACCEPTED)) {
            s->doubled += s->accepted[i];
            mark(&s->accepted[i], &s->n_accepted);
        }
        if (r->status == ST(EXHAUSTED))
            mark(&s->exhausted[i], &s->n_exhausted);
        if (r->status == ST(WAITING))
            mark(&s->waiting[i], &s->n_waiting);
        if (r->status == ST(RECORDED))
            mark(&s->recorded[i], &s->n_recorded);
    }
    wire_free(r);
}

/* Settings of this test's own; `chat` and the rest are put in as they are. */
static void configure(struct town *t, const char *chat, const char *rest)
{
    FILE *f = fopen(t->config, "we");
    assert_non_null(f);
    fprintf(f,
            "nats: { url: \"%s\" }\n"
            "redis: { host: 127.0.0.1, port: %d }\n"
            "data_dir: %s/data\n"
            "alert:\n"
            "  digest_every: 1s\n"
            "  lease_ttl: 1s\n"
            "  channels:\n"
            "    - { name: post, type: email, url: \"smtp://127.0.0.1:%d\", from: redoubt@example.org, to: "
            "[ops@example.org], attempt: 2s, tries: 1 }\n"
            "    - { name: chat, type: slack, url: \"http://127.0.0.1:%d/hook\", attempt: 2s, tries: 1, %s }\n"
            "    - { name: record, type: file, path: %s }\n"
            "%s",
            t->k->nats->url, t->redis->port, harness_dir(t->k->h), t->smtp.port, t->slack.port, chat, t->record,
            rest);
    fclose(f);
    restart_alert(t);
}

static void raise_many(struct town *t, int from, int n, int severity)
{
    size_t before = t->stored;
    for (int i = from; i < from + n; i++) {
        char id[16];
        snprintf(id, sizeof id, "b%d", i);
        PB(Alert) a = REDOUBT__V1__ALERT__INIT;
        a.id = a.dedup_key = id;
        a.severity = (Redoubt__V1__Severity)severity;
        a.source = (char *)"test";
        a.agent = (char *)"mcp";
        a.summary = (char *)"The model does not answer";
        a.raised_unix_ms = clock_wall_ms();
        size_t len;
        struct err e;
        void *data = wire_pack(&a, &len, &e);
        assert_non_null(data);
        bus_store(
            t->kb.b,
            &(struct bus_out){.subject = SUBJECT_ALERT, .id = id, .type = wire_type(&a), .data = data, .len = len}, 0,
            on_stored, t);
        free(data);
    }
    KIT_WAIT_MS(t->k, t->stored == before + (size_t)n, 30000);
}

static long rss_kib(const struct town *t)
{
    char path[64], line[256];
    long kib = -1;
    snprintf(path, sizeof path, "/proc/%d/status", (int)t->alert->pid);
    FILE *f = fopen(path, "re");
    while (f && fgets(line, sizeof line, f))
        if (strncmp(line, "VmHWM:", 6) == 0)
            kib = strtol(line + 6, NULL, 10);
    if (f)
        fclose(f);
    return kib;
}

/* Messages that a simulator has taken. */
static int messages(struct town *t, const struct sim *s)
{
    return told(t, s, "");
}

static uint64_t parcels;
static void on_count(void *ctx, const char *subject, uint64_t n)
{
    (void)ctx;
    (void)subject;
    parcels += n;
}
static void on_counted(void *ctx, enum bus_status st, const struct bus_stock *stock)
{
    (void)stock;
    assert_int_equal(st, BUS_OK);
    *(bool *)ctx = true;
}
static uint64_t stand(struct town *t, const char *filter)
{
    bool done = false;
    parcels = 0;
    bus_counts(t->kb.b, STREAM_PARCELS, filter, 5000, on_count, on_counted, &done);
    KIT_WAIT(t->k, done);
    return parcels;
}
static uint64_t parcels_stand(struct town *t)
{
    return stand(t, SUBJECT_PARCEL ">");
}

static void a_burst_to_a_dead_channel_ends_in_a_digest(void **state)
{
    struct town *t = *state;
    static struct seen s;
    s = (struct seen){0};
    bus_subscribe(t->kb.b, SUBJECT_DELIVERY ">", NULL, on_any_receipt, &s);
    configure(t, "rate: 0", "  routes: [ { channels: [chat, record] } ]\n");
    mode(t, &t->slack, "refuse");
    raise_many(t, 0, BURST - 1, SEV(HIGH));
    raise_many(t, BURST - 1, 1, SEV(CRITICAL));
    KIT_WAIT_MS(t->k, s.n_exhausted == BURST && s.n_recorded == BURST, 60000);
    assert_int_equal(s.n_accepted, 0);
    KIT_WAIT(t->k, parcels_stand(t) >= BURST);
    PB(AlertReport) *report = NULL; /* the service knows that soon, or when it counts the next time (each minute) */
    bool all_there = false;
    for (int64_t end = clock_mono_ms() + 90000; !all_there && clock_mono_ms() < end;) {
        const PB(CommandReply) *reply = command(t, "show", NULL);
        struct err e;
        report = wire_unpack(PB_DESC(alert_report), reply->payload.data, reply->payload.len, &e);
        if (!report)
            fail_msg("report: %s", e.text);
        assert_int_equal(report->n_parcels, 4);
        assert_string_equal(report->parcels[3]->key, "owed");
        all_there = atoi(report->parcels[3]->value) >= BURST && report->paused >= BURST;
        wire_free(report);
    }
    assert_true(all_there);
    long before = rss_kib(t);
    mode(t, &t->slack, "ok");
    assert_int_equal(command(t, "test", "chat")->status, REDOUBT__V1__COMMAND_STATUS__COMMAND_STATUS_OK);
    KIT_WAIT_MS(t->k, s.n_accepted == BURST && parcels_stand(t) == 0, 60000);
    assert_int_equal(s.doubled, 0);
    /* The critical one by itself; the others in a digest or two; the channel's own alert and its end; the test. */
    int n = messages(t, &t->slack);
    print_message("%d alerts: %d messages, %ld KiB at most (%ld before the digest)\n", BURST, n, rss_kib(t), before);
    assert_in_range(n, 3, 9);
    assert_true(told(t, &t->slack, "that no channel accepted until now") >= 1);
    assert_int_equal(told(t, &t->slack, "[CRITICAL] The model does not answer"), 1);
}

static void more_than_a_channel_takes_becomes_a_digest(void **state)
{
    struct town *t = *state;
    static struct seen s;
    s = (struct seen){0};
    bus_subscribe(t->kb.b, SUBJECT_DELIVERY ">", NULL, on_any_receipt, &s);
    configure(t, "rate: 600, burst: 5, queue: 10", "  routes: [ { channels: [chat, post, record] } ]\n");
    raise_many(t, 0, 300, SEV(HIGH));
    raise_many(t, 300, 1, SEV(CRITICAL));
    KIT_WAIT_MS(t->k, s.n_accepted == 301 && parcels_stand(t) == 0, 30000);
    assert_int_equal(s.doubled, 0);
    int chat = messages(t, &t->slack);
    print_message("301 alerts: %d messages\n", chat);
    assert_true(chat < 150);
    assert_true(told(t, &t->slack, "more than chat takes one by one") >= 1);
    /* Too much is no fault of the channel's: nobody hears that it is broken, and nothing goes by another. */
    assert_int_equal(t->channel_alerts, 0);
    assert_int_equal(messages(t, &t->smtp), 0);
}

static void a_group_is_one_message_and_critical_ones_do_not_wait(void **state)
{
    struct town *t = *state;
    static struct seen s;
    s = (struct seen){0};
    bus_subscribe(t->kb.b, SUBJECT_DELIVERY ">", NULL, on_any_receipt, &s);
    configure(t, "rate: 0",
              "  routes: [ { name: ops, channels: [chat, record], group_by: [agent], group_wait: 2s, group_interval: "
              "5m } ]\n");
    raise_many(t, 0, 12, SEV(HIGH));
    raise_many(t, 12, 1, SEV(CRITICAL));
    KIT_WAIT(t->k, s.accepted[12]);
    KIT_WAIT(t->k, s.n_accepted == 13 && parcels_stand(t) == 0);
    assert_int_equal(s.n_waiting, 12);
    assert_int_equal(messages(t, &t->slack), 2);
    assert_int_equal(told(t, &t->slack, "[HIGH] 12 alerts of 12 problems: The model does not answer, and more"), 1);
}

static void a_member_that_is_away_gets_its_own_later(void **state)
{
    struct town *t = *state;
    static struct seen s;
    s = (struct seen){0};
    bus_subscribe(t->kb.b, SUBJECT_DELIVERY ">", NULL, on_any_receipt, &s);
    configure(t, "rate: 0",
              "  groups: [ { name: all, mode: fanout, members: [post, chat] } ]\n"
              "  routes: [ { name: ops, to: all, group_by: [agent], group_wait: 1s, group_interval: 1s } ]\n");
    mode(t, &t->slack, "refuse");
    raise_many(t, 0, 10, SEV(HIGH));
    KIT_WAIT(t->k, told(t, &t->smtp, "10 alerts of 10 problems") == 1);
    KIT_WAIT(t->k, stand(t, SUBJECT_PARCEL "owed.chat.all") >= 10 && stand(t, SUBJECT_PARCEL "group.>") == 0);
    /* A restart in between changes nothing. */
    restart_alert(t);
    raise_alert(t, "up", "up", SEV(CRITICAL), false);
    KIT_WAIT(t->k, delivered(t, "up", "post"));
    mode(t, &t->slack, "ok");
    assert_int_equal(command(t, "test", "chat")->status, REDOUBT__V1__COMMAND_STATUS__COMMAND_STATUS_OK);
    KIT_WAIT(t->k, told(t, &t->slack, "problems that no channel accepted until now") == 1);
    assert_int_equal(told(t, &t->smtp, "10 alerts of 10 problems"), 1); /* who had it did not get it again */
}

/* Whatever is put among the parcels by somebody else: it is counted, it goes, and the others are told. */
static void bad_parcels_die_alone(void **state)
{
    struct town *t = *state;
    static const unsigned char noise[] = {0xff, 0xff, 0xff, 0x00, 0x01};
    configure(t, "rate: 0", "  routes: [ { channels: [chat, record] } ]\n");
    size_t before = t->stored;
    bus_store(t->kb.b,
              &(struct bus_out){
                  .subject = SUBJECT_PARCEL "owed.chat.all", .id = "noise", .data = noise, .len = sizeof noise},
              0, on_stored, t);
    bus_store(
        t->kb.b,
        &(struct bus_out){.subject = SUBJECT_PARCEL "no.bucket", .id = "noise2", .data = noise, .len = sizeof noise},
        0, on_stored, t);
    PB(Alert) a = REDOUBT__V1__ALERT__INIT;
    a.id = a.dedup_key = (char *)"good";
    a.severity = SEV(HIGH);
    a.summary = (char *)"A good one";
    size_t len;
    struct err e;
    void *data = wire_pack(&a, &len, &e);
    assert_non_null(data);
    bus_store(t->kb.b,
              &(struct bus_out){.subject = SUBJECT_PARCEL "owed.chat.all", .id = "good", .data = data, .len = len}, 0,
              on_stored, t);
    free(data);
    KIT_WAIT(t->k, t->stored == before + 3);
    KIT_WAIT_MS(t->k, told(t, &t->slack, "A good one") == 1 && parcels_stand(t) == 1,
                20000); /* what is not ours is left alone */
    assert_true(harness_alive(t->alert));
}

#define TEST(fn) cmocka_unit_test_setup_teardown(fn, town_setup, town_teardown)
int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_burst_to_a_dead_channel_ends_in_a_digest),
        TEST(more_than_a_channel_takes_becomes_a_digest),
        TEST(a_group_is_one_message_and_critical_ones_do_not_wait),
        TEST(a_member_that_is_away_gets_its_own_later),
        TEST(bad_parcels_die_alone),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
