/* test_alert_delivery.c - redoubt-alert as a process against real NATS, Redis, SMTP and HTTP that fail in every way. The other sides are
 * the simulators of the operator's command; programs are taken from $REDOUBT_BIN, or from bin/ beside the tests. */
#include "alert_town.h"

static void mail_first_and_the_record_before_it(void **state)
{
    struct town *t = *state;
    raise_alert(t, "a1", "k1", SEV(CRITICAL), false);
    KIT_WAIT(t->k, delivered(t, "a1", "post"));
    assert_int_equal(receipts(t, "a1", "record", ST(RECORDED)), 1);
    assert_string_equal(t->receipts[0].channel, "record");
    assert_non_null(strstr(record_text(t), "\"a1\""));
    struct stat st;
    assert_int_equal(stat(t->record, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0600);
    assert_int_equal(told(t, &t->smtp, "Message-ID: <a1.post@example.org>"), 1);
    assert_int_equal(told(t, &t->smtp, "Subject: =?UTF-8?B?"), 1);
    const json_t *first = json_array_get(json_object_get(ask(t, &t->smtp, "/sim/requests", NULL), "requests"), 0);
    assert_int_equal(json_array_size(json_object_get(first, "to")), 2);
    assert_int_equal(told(t, &t->slack, "a1"), 0);
    assert_int_equal(t->channel_alerts, 0);
}

static void every_failure_of_mail_leads_to_slack(void **state)
{
    struct town *t = *state;
    static const struct {
        const char *mode;
        size_t retries; /* before the next channel's turn */
    } rows[] = {{"550", 0}, {"554", 0}, {"refuse", 1},  {"421", 1},
                {"451", 1}, {"cut", 1}, {"garbage", 1}, {"hang", 1}};
    char id[32], key[32];
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        mode(t, &t->smtp, rows[i].mode);
        snprintf(id, sizeof id, "f%zu", i);
        snprintf(key, sizeof key, "key-%zu", i);
        int alerts = t->channel_alerts;
        int64_t start = clock_mono_ms();
        raise_alert(t, id, key, SEV(HIGH), false);
        KIT_WAIT(t->k, delivered(t, id, "chat"));
        int64_t took = clock_mono_ms() - start;
        print_message("mail %s: Slack has it after %" PRId64 " ms\n", rows[i].mode, took);
        assert_int_equal(receipts(t, id, "post", ST(RETRYING)), rows[i].retries);
        assert_int_equal(receipts(t, id, "post", ST(FAILED)), 1);
        assert_int_equal(receipts(t, id, "post", ST(ACCEPTED)), 0);
        /* The failover is an alert by itself, which names the channel and goes by another. */
        KIT_WAIT(t->k, t->channel_alerts == alerts + 1);
        assert_string_equal(t->last_channel_alert, "channel/post");
        KIT_WAIT(t->k, told(t, &t->slack, "Alert channel post is broken") == (int)i + 1);
        mend(t, &t->smtp, "post");
        KIT_WAIT(t->k, told(t, &t->slack, "Alert channel post works again") == (int)i + 1);
    }
    assert_int_equal(told(t, &t->smtp, "Alert channel post"), 0); /* never by the channel itself */
}

static void slow_is_not_broken(void **state)
{
    struct town *t = *state;
    mode(t, &t->smtp, "slow");
    raise_alert(t, "s1", "s1", SEV(HIGH), false);
    KIT_WAIT(t->k, delivered(t, "s1", "post"));
    assert_int_equal(receipts(t, "s1", "post", ST(RETRYING)), 0);
    assert_int_equal(t->channel_alerts, 0);
}

static void slack_in_every_way(void **state)
{
    struct town *t = *state;
    write_config(t, t->slack.port, "chat, post, record", "");
    restart_alert(t);
    static const char *const modes[] = {"401",     "404",  "500",        "503",  "cut",   "schema",
                                        "garbage", "huge", "wrong-type", "hang", "refuse"};
    char id[32], key[32];
    for (size_t i = 0; i < sizeof modes / sizeof *modes; i++) {
        mode(t, &t->slack, modes[i]);
        snprintf(id, sizeof id, "w%zu", i);
        snprintf(key, sizeof key, "w-%zu", i);
        raise_alert(t, id, key, SEV(HIGH), false);
        KIT_WAIT(t->k, delivered(t, id, "post"));
        assert_int_equal(receipts(t, id, "chat", ST(FAILED)), 1);
        assert_int_equal(receipts(t, id, "chat", ST(ACCEPTED)), 0);
        KIT_WAIT(t->k, t->channel_alerts == (int)i + 1);
        /* A broken channel costs the next alerts no time: they go past it. */
        snprintf(id, sizeof id, "past%zu", i);
        raise_alert(t, id, id, SEV(INFO), false);
        KIT_WAIT(t->k, delivered(t, id, "post"));
        assert_int_equal(receipts(t, id, "chat", ST(RETRYING)), 0);
        mend(t, &t->slack, "chat");
    }
    /* Told once each, and never by both. */
    for (size_t i = 0; i < sizeof modes / sizeof *modes; i++) {
        snprintf(id, sizeof id, "summary of w%zu:", i);
        assert_int_equal(told(t, &t->slack, id), 0);
    }
}

static void a_broken_channel_is_probed_and_comes_back(void **state)
{
    struct town *t = *state;
    mode(t, &t->smtp, "550");
    raise_alert(t, "q", "q", SEV(HIGH), false);
    KIT_WAIT(t->k, delivered(t, "q", "chat") && t->channel_alerts == 1);
    mode(t, &t->smtp, "ok");
    char id[32];
    int64_t start = clock_mono_ms();
    for (int n = 0; t->channel_resolves == 0; n++) {
        snprintf(id, sizeof id, "q%d", n);
        raise_alert(t, id, id, SEV(INFO), false);
        KIT_WAIT(t->k, receipts(t, id, NULL, ST(ACCEPTED)) == 1);
        for (int turn = 0; turn < 100 && t->channel_resolves == 0; turn++)
            kit_turn(t->k);
    }
    assert_true(clock_mono_ms() - start > 4000); /* one probe each 5 s */
    KIT_WAIT(t->k, told(t, &t->slack, "Alert channel post works again") == 1);
}

static void a_rate_limit_is_waited_for_if_it_fits(void **state)
{
    struct town *t = *state;
    write_config(t, t->slack.port, "chat, post, record", "");
    restart_alert(t);
    ask(t, &t->slack, "/sim/mode", "{\"mode\":\"429\",\"retry_after\":1,\"count\":1}");
    int64_t start = clock_mono_ms();
    raise_alert(t, "r1", "r1", SEV(HIGH), false);
    KIT_WAIT(t->k, delivered(t, "r1", "chat"));
    assert_true(clock_mono_ms() - start >= 990);
    assert_int_equal(receipts(t, "r1", "chat", ST(RETRYING)), 1);
    assert_int_equal(told(t, &t->smtp, "r1"), 0);
    /* A minute does not fit into 5 s: mail at once. */
    ask(t, &t->slack, "/sim/mode", "{\"mode\":\"429\",\"retry_after\":60}");
    raise_alert(t, "r2", "r2", SEV(HIGH), false);
    KIT_WAIT(t->k, delivered(t, "r2", "post"));
    assert_int_equal(receipts(t, "r2", "chat", ST(RETRYING)), 0);
    assert_int_equal(receipts(t, "r2", "chat", ST(FAILED)), 1);
}

/* Alerts that are not yet acknowledged to the stream. */
static unsigned in_hand(struct town *t)
{
    struct err e;
    const PB(CommandReply) *r = command(t, "show", NULL);
    PB(AlertReport) *report = wire_unpack(PB_DESC(alert_report), r->payload.data, r->payload.len, &e);
    if (!report)
        fail_msg("report: %s", e.text);
    unsigned n = report->in_hand;
    wire_free(report);
    return n;
}

static void nothing_is_lost_when_nobody_accepts(void **state)
{
    struct town *t = *state;
    mode(t, &t->smtp, "550");
    mode(t, &t->slack, "404");
    char id[32];
    for (int i = 0; i < 20; i++) {
        snprintf(id, sizeof id, "x%d", i);
        raise_alert(t, id, id, SEV(CRITICAL), false);
    }
    for (int i = 0; i < 20; i++) {
        snprintf(id, sizeof id, "x%d", i);
        KIT_WAIT(t->k, receipts(t, id, NULL, ST(EXHAUSTED)) >= 1);
        assert_int_equal(receipts(t, id, "record", ST(RECORDED)), 1);
        assert_int_equal(receipts(t, id, NULL, ST(ACCEPTED)), 0);
    }
    /* A restart in the middle changes nothing. (One killed between putting by and acknowledging would tell twice.) */
    KIT_WAIT(t->k, in_hand(t) == 0);
    restart_alert(t);
    mode(t, &t->slack, "ok");
    for (int i = 0; i < 20; i++) {
        snprintf(id, sizeof id, "x%d", i);
        KIT_WAIT_MS(t->k, delivered(t, id, "chat"), 30000);
    }
    for (int i = 0; i < 20; i++) {
        snprintf(id, sizeof id, "summary of x%d:", i);
        assert_int_equal(told(t, &t->slack, id), 1);
        assert_int_equal(told(t, &t->smtp, id), 0);
    }
}

static void all_go_out_when_a_channel_is_back(void **state)
{
    struct town *t = *state;
    mode(t, &t->smtp, "451");
    mode(t, &t->slack, "500");
    char id[32];
    for (int i = 0; i < 12; i++) {
        snprintf(id, sizeof id, "y%d", i);
        raise_alert(t, id, id, SEV(WARNING), false);
    }
    for (int i = 0; i < 12; i++) {
        snprintf(id, sizeof id, "y%d", i);
        KIT_WAIT(t->k, receipts(t, id, NULL, ST(EXHAUSTED)) >= 1);
    }
    mode(t, &t->slack, "ok");
    /* The first that tries opens the way for all, however long their pauses are by then. */
    for (int i = 0; i < 12; i++) {
        snprintf(id, sizeof id, "y%d", i);
        KIT_WAIT_MS(t->k, delivered(t, id, "chat"), 14000);
        assert_int_equal(receipts(t, id, NULL, ST(ACCEPTED)), 1);
    }
}

static void one_problem_is_told_once(void **state)
{
    struct town *t = *state;
    raise_alert(t, "p1", "problem", SEV(HIGH), false);
    raise_alert(t, "p2", "problem", SEV(HIGH), false);
    raise_alert(t, "p3", "problem", SEV(HIGH), false);
    KIT_WAIT(t->k, delivered(t, "p1", "post") && receipts(t, "p3", "record", ST(RECORDED)) == 1);
    raise_alert(t, "p4", "problem", SEV(CRITICAL), false); /* worse */
    KIT_WAIT(t->k, delivered(t, "p4", "post"));
    /* Across a restart, too: the memory is in Redis. */
    restart_alert(t);
    raise_alert(t, "p5", "problem", SEV(CRITICAL), false);
    KIT_WAIT(t->k, receipts(t, "p5", "record", ST(RECORDED)) == 1);
    raise_alert(t, "p6", "problem", SEV(CRITICAL), true);
    KIT_WAIT(t->k, delivered(t, "p6", "post"));
    raise_alert(t, "p7", "problem", SEV(CRITICAL), true); /* over already */
    raise_alert(t, "p8", "other", SEV(HIGH), true);       /* never was */
    KIT_WAIT(t->k, receipts(t, "p8", "record", ST(RECORDED)) == 1 && receipts(t, "p7", "record", ST(RECORDED)) == 1);
    static const char *const quiet[] = {"p2", "p3", "p5", "p7", "p8"};
    for (size_t i = 0; i < sizeof quiet / sizeof *quiet; i++)
        assert_int_equal(receipts(t, quiet[i], NULL, ST(ACCEPTED)), 0);
    assert_int_equal(told(t, &t->smtp, "[RESOLVED]"), 1);
    /* Everything is in the record. */
    for (int i = 1; i <= 8; i++) {
        char id[16];
        snprintf(id, sizeof id, "\"p%d\"", i);
        assert_non_null(strstr(record_text(t), id));
    }
}

static size_t place(const struct town *t, const char *alert, int status)
{
    for (size_t i = 0; i < t->n_receipts; i++)
        if (t->receipts[i].status == status && strcmp(t->receipts[i].alert, alert) == 0)
            return i;
    fail_msg("no such receipt of %s", alert);
    return 0;
}

static void the_end_comes_after_the_beginning(void **state)
{
    struct town *t = *state;
    /* At once: a beginning that takes its time. */
    mode(t, &t->smtp, "slow");
    raise_alert(t, "s1", "slow order", SEV(HIGH), false);
    raise_alert(t, "s2", "slow order", SEV(HIGH), true);
    KIT_WAIT(t->k, delivered(t, "s1", "post") && delivered(t, "s2", "post"));
    assert_true(place(t, "s1", ST(ACCEPTED)) < place(t, "s2", ST(ACCEPTED)));

    /* A beginning that waits in a parcel: its end goes there, too, though a channel works again by then. */
    mode(t, &t->smtp, "hang");
    mode(t, &t->slack, "hang");
    raise_alert(t, "o1", "order", SEV(HIGH), false);
    raise_alert(t, "o2", "order", SEV(HIGH), true);
    KIT_WAIT(t->k, receipts(t, "o1", NULL, ST(EXHAUSTED)) == 1);
    assert_int_equal(receipts(t, "o2", "post", ST(FAILED)), 0); /* it waits */
    assert_int_equal(receipts(t, "o2", "record", ST(RECORDED)), 1);
    mode(t, &t->smtp, "ok");
    mode(t, &t->slack, "ok");
    KIT_WAIT_MS(t->k, receipts(t, "o2", NULL, ST(ACCEPTED)) == 1 && receipts(t, "o1", NULL, ST(ACCEPTED)) == 1,
                30000);
    /* The last that people hear is how it is: one message has both, or the beginning is the earlier one. */
    assert_true(told(t, &t->smtp, "RESOLVED") + told(t, &t->slack, "RESOLVED") >= 1);
    assert_int_equal(receipts(t, "o2", NULL, ST(WAITING)), 1);
    assert_true(place(t, "o1", ST(EXHAUSTED)) < place(t, "o2", ST(WAITING)));
}

static void kills_of_everything(void **state)
{
    struct town *t = *state;
    char id[32];
    int n = 0;
    struct harness_proc *victims[] = {t->alert, t->redis, t->k->nats, t->alert};
    static const char *const trouble[] = {"hang", "451", "hang", "ok"};
    for (size_t v = 0; v < sizeof victims / sizeof *victims; v++) {
        mode(t, &t->smtp, trouble[v]);
        for (int i = 0; i < 10; i++) {
            snprintf(id, sizeof id, "z%d", n++);
            raise_alert(t, id, id, SEV(HIGH), false);
        }
        harness_kill(victims[v]);
        harness_start(victims[v]);
    }
    KIT_WAIT(t->k, bus_up(t->kb.b));
    for (int i = 0; i < n;
         i++) { /* by itself or in a digest; a receipt may have passed while we were not connected */
        char alone[48];
        snprintf(id, sizeof id, "z%d", i);
        snprintf(alone, sizeof alone, "summary of z%d:", i);
        KIT_WAIT_MS(t->k,
                    receipts(t, id, NULL, ST(ACCEPTED)) + (size_t)told(t, &t->slack, alone) +
                            (size_t)told(t, &t->smtp, alone) >=
                        1,
                    60000);
        snprintf(id, sizeof id, "\"z%d\"", i);
        assert_non_null(strstr(record_text(t), id));
    }
    assert_true(harness_alive(t->alert));
}

static void two_replicas_share_the_work(void **state)
{
    struct town *t = *state;
    const char *argv[] = {bin("redoubt-alert"), "-c", t->config, NULL};
    struct harness_proc *other = harness_run(t->k->h, "alert-2", 0, argv);
    char id[32];
    for (int i = 0; i < 60; i++) {
        snprintf(id, sizeof id, "v%d", i);
        raise_alert(t, id, i % 3 ? id : "v-shared", SEV(HIGH), false);
        if (i == 40)
            harness_kill(other);
    }
    for (int i = 0; i < 60; i++) {
        snprintf(id, sizeof id, "v%d", i);
        KIT_WAIT_MS(t->k, receipts(t, id, "record", ST(RECORDED)) >= 1, 20000);
        if (i % 3)
            KIT_WAIT_MS(t->k, delivered(t, id, "post"), 20000);
    }
    /* One problem, told once, whichever replica got which of its alerts. */
    size_t n = 0;
    for (int i = 0; i < 60; i += 3) {
        snprintf(id, sizeof id, "v%d", i);
        n += receipts(t, id, "post", ST(ACCEPTED));
    }
    assert_int_equal(n, 1);
}

static void a_redis_that_hangs_delays_but_stops_nothing(void **state)
{
    struct town *t = *state;
    raise_alert(t, "h0", "h0", SEV(HIGH), false);
    KIT_WAIT(t->k, delivered(t, "h0", "post"));
    harness_freeze(t->redis);
    raise_alert(t, "h1", "h1", SEV(HIGH), false);
    raise_alert(t, "h2", "h1", SEV(HIGH), false);
    KIT_WAIT(t->k, delivered(t, "h1", "post") && receipts(t, "h2", "record", ST(RECORDED)) == 1);
    assert_int_equal(receipts(t, "h2", "post", ST(ACCEPTED)), 0); /* its own memory will do */
    harness_thaw(t->redis);
    raise_alert(t, "h3", "h1", SEV(HIGH), true);
    KIT_WAIT(t->k, delivered(t, "h3", "post"));
}

static void bad_input_dies_alone(void **state)
{
    struct town *t = *state;
    static const unsigned char noise[] = {0xff, 0xff, 0xff, 0x00, 0x01};
    size_t before = t->stored;
    bus_store(t->kb.b, &(struct bus_out){.subject = SUBJECT_ALERT, .id = "noise", .data = noise, .len = sizeof noise},
              0, on_stored, t);
    KIT_WAIT(t->k, t->stored > before && t->dead == 1);
    raise_alert(t, "after", "after", SEV(INFO), false);
    KIT_WAIT(t->k, delivered(t, "after", "post"));
    assert_true(harness_alive(t->alert));
}

static void new_settings_free_what_waits(void **state)
{
    struct town *t = *state;
    mode(t, &t->smtp, "550");
    int nowhere = harness_free_port();
    write_config(t, nowhere, "post, chat, record", "");
    restart_alert(t);
    raise_alert(t, "n1", "n1", SEV(HIGH), false);
    KIT_WAIT(t->k, receipts(t, "n1", NULL, ST(EXHAUSTED)) >= 1);
    write_config(t, t->slack.port, "post, chat, record", "");
    kill(t->alert->pid, SIGHUP);
    KIT_WAIT_MS(t->k, delivered(t, "n1", "chat"), 8000);
    /* A file that is wrong changes nothing. */
    FILE *f = fopen(t->config, "we");
    fputs("alert: nonsense\n", f);
    fclose(f);
    kill(t->alert->pid, SIGHUP);
    raise_alert(t, "n2", "n2", SEV(HIGH), false);
    KIT_WAIT(t->k, delivered(t, "n2", "chat"));
}

static void a_record_that_fails_holds_nobody_up(void **state)
{
    struct town *t = *state;
    assert_int_equal(mkdir(t->record, 0700), 0); /* a directory where the file should be */
    raise_alert(t, "d1", "d1", SEV(HIGH), false);
    KIT_WAIT(t->k, delivered(t, "d1", "post"));
    assert_int_equal(receipts(t, "d1", "record", ST(FAILED)), 1);
    KIT_WAIT(t->k, told(t, &t->smtp, "The alert record record cannot be written") == 1);
    assert_int_equal(rmdir(t->record), 0);
    raise_alert(t, "d2", "d2", SEV(HIGH), false);
    KIT_WAIT(t->k, receipts(t, "d2", "record", ST(RECORDED)) == 1 && t->channel_resolves == 1);
    /* A line that a crash has cut is left alone. */
    FILE *f = fopen(t->record, "ae");
    fputs("{\"torn", f);
    fclose(f);
    raise_alert(t, "d3", "d3", SEV(HIGH), false);
    KIT_WAIT(t->k, receipts(t, "d3", "record", ST(RECORDED)) == 1);
    assert_non_null(strstr(record_text(t), "{\"torn\n{"));
}

static void commands(void **state)
{
    struct town *t = *state;
    raise_alert(t, "c0", "c0", SEV(INFO), false);
    KIT_WAIT(t->k, delivered(t, "c0", "post"));
    assert_int_equal(command(t, "test", "chat")->status, REDOUBT__V1__COMMAND_STATUS__COMMAND_STATUS_OK);
    assert_int_equal(told(t, &t->slack, "asked for by eve"), 1);
    assert_int_equal(command(t, "test", "record")->status, REDOUBT__V1__COMMAND_STATUS__COMMAND_STATUS_OK);
    assert_int_equal(command(t, "test", "pigeon")->status, REDOUBT__V1__COMMAND_STATUS__COMMAND_STATUS_INVALID);
    mode(t, &t->slack, "404");
    const PB(CommandReply) *r = command(t, "test", "chat");
    assert_int_equal(r->status, REDOUBT__V1__COMMAND_STATUS__COMMAND_STATUS_UNAVAILABLE);
    assert_non_null(strstr(r->message, "no_service"));
    r = command(t, "show", NULL);
    assert_int_equal(r->status, REDOUBT__V1__COMMAND_STATUS__COMMAND_STATUS_OK);
    struct err e;
    PB(AlertReport) *report = wire_unpack(PB_DESC(alert_report), r->payload.data, r->payload.len, &e);
    assert_non_null(report);
    assert_int_equal(report->n_channels, 3);
    assert_string_equal(report->channels[1]->name, "chat");
    assert_int_equal(report->channels[1]->accepted, 1);
    assert_int_equal(report->channels[1]->failed, 1);
    wire_free(report);
}

static void drains_and_goes_on(void **state)
{
    struct town *t = *state;
    mode(t, &t->smtp, "550");
    mode(t, &t->slack, "hang");
    raise_alert(t, "e1", "e1", SEV(HIGH), false);
    KIT_WAIT(t->k, receipts(t, "e1", "post", ST(FAILED)) == 1);
    assert_int_equal(harness_stop(t->alert), 0);
    mode(t, &t->slack, "ok");
    harness_start(t->alert);
    KIT_WAIT_MS(t->k, delivered(t, "e1", "chat"), 20000);
}

#define TOWN(fn) cmocka_unit_test_setup_teardown(fn, town_setup, town_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TOWN(mail_first_and_the_record_before_it),
        TOWN(every_failure_of_mail_leads_to_slack),
        TOWN(slow_is_not_broken),
        TOWN(slack_in_every_way),
        TOWN(a_broken_channel_is_probed_and_comes_back),
        TOWN(a_rate_limit_is_waited_for_if_it_fits),
        TOWN(nothing_is_lost_when_nobody_accepts),
        TOWN(all_go_out_when_a_channel_is_back),
        TOWN(one_problem_is_told_once),
        TOWN(the_end_comes_after_the_beginning),
        TOWN(kills_of_everything),
        TOWN(two_replicas_share_the_work),
        TOWN(a_redis_that_hangs_delays_but_stops_nothing),
        TOWN(bad_input_dies_alone),
        TOWN(new_settings_free_what_waits),
        TOWN(a_record_that_fails_holds_nobody_up),
        TOWN(commands),
        TOWN(drains_and_goes_on),
    };
    cmocka_set_test_filter(getenv("ONLY"));
    return cmocka_run_group_tests(tests, NULL, NULL);
}
