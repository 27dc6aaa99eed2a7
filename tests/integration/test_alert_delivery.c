/* test_alert_delivery.c - redoubt-alert as a process against real NATS, Redis, SMTP and HTTP that fail in every way. The other sides are
 * the simulators of the operator's command; programs are taken from $REDOUBT_BIN, or from bin/ beside the tests. */
#include "bus_kit.h"
#include "common/http.h"
#include "common/wire.h"
#include <inttypes.h>
#include <jansson.h>
#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

#define RECEIPTS_MAX 4096
#define ST(name)     REDOUBT__V1__DELIVERY_STATUS__DELIVERY_STATUS_##name
#define SEV(name)    REDOUBT__V1__SEVERITY__SEVERITY_##name

struct receipt {
    char id[192]; /* of the message */
    char alert[65], key[128], channel[65];
    int status, code;
    unsigned attempt;
};
struct sim {
    struct harness_proc *proc;
    int port, control;
};
struct town {
    struct kit *k;
    struct kit_bus kb;
    struct http *http;
    struct harness_proc *redis, *alert;
    struct sim slack, smtp;
    char config[600], record[600];
    struct receipt receipts[RECEIPTS_MAX];
    size_t n_receipts;
    /* alerts about channels, as they were raised */
    int channel_alerts, channel_resolves;
    char last_channel_alert[128];
    int dead;
    /* one answer of a simulator, or of a command */
    bool answered;
    json_t *answer;
    PB(CommandReply) * reply;
    size_t stored;
};

/* ---- the town ---- */

static const char *bin(const char *program)
{
    static char path[4200];
    char exe[4096];
    const char *dir = getenv("REDOUBT_BIN");
    if (dir) {
        snprintf(path, sizeof path, "%s/%s", dir, program);
        return path;
    }
    ssize_t n = readlink("/proc/self/exe", exe, sizeof exe - 1);
    exe[n > 0 ? n : 0] = 0;
    for (int up = 0; up < 3; up++) /* tests/integration/test_x */
        *strrchr(exe, '/') = 0;
    snprintf(path, sizeof path, "%s/bin/%s", exe, program);
    return path;
}

static void on_receipt(void *ctx, const struct bus_msg *m)
{
    struct town *t = ctx;
    struct err e;
    PB(DeliveryReceipt) *r = wire_unpack(PB_DESC(delivery_receipt), m->data, m->len, &e);
    if (!r)
        fail_msg("a receipt is not valid: %s", e.text);
    if (getenv("VERBOSE"))
        fprintf(stderr, "receipt %s %s %s #%u %u %s\n", r->alert_id, r->channel,
                wire_enum_name(&redoubt__v1__delivery_status__descriptor, (int)r->status), r->attempt, r->code,
                r->detail);
    /* A message that is published again has the same id. */
    bool again = false;
    for (size_t i = 0; i < t->n_receipts; i++)
        again = again || strcmp(t->receipts[i].id, m->id) == 0;
    if (!again && t->n_receipts < RECEIPTS_MAX) {
        struct receipt *to = &t->receipts[t->n_receipts++];
        snprintf(to->id, sizeof to->id, "%s", m->id);
        snprintf(to->alert, sizeof to->alert, "%s", r->alert_id);
        snprintf(to->key, sizeof to->key, "%.120s", r->dedup_key);
        snprintf(to->channel, sizeof to->channel, "%s", r->channel);
        to->status = (int)r->status;
        to->code = (int)r->code;
        to->attempt = r->attempt;
    }
    wire_free(r);
}

static void on_any_alert(void *ctx, const struct bus_msg *m)
{
    struct town *t = ctx;
    struct err e;
    PB(Alert) *a = wire_unpack(PB_DESC(alert), m->data, m->len, &e);
    if (a && strncmp(a->dedup_key, "channel/", 8) == 0) {
        snprintf(t->last_channel_alert, sizeof t->last_channel_alert, "%.120s", a->dedup_key);
        if (a->resolved)
            t->channel_resolves++;
        else
            t->channel_alerts++;
    }
    wire_free(a);
}

static void on_dead(void *ctx, const struct bus_msg *m)
{
    (void)m;
    ((struct town *)ctx)->dead++;
}

static void start_sim(struct town *t, struct sim *s, const char *kind)
{
    char port[16], control[16];
    s->port = harness_free_port();
    s->control = harness_free_port();
    snprintf(port, sizeof port, "%d", s->port);
    snprintf(control, sizeof control, "%d", s->control);
    const char *argv[] = {bin("redoubt"), "sim", kind, "--port", port, "--control", control, NULL};
    s->proc = harness_run(t->k->h, kind, s->control, argv);
}

/* `channels` is the order of the one route. */
static void write_config(struct town *t, int slack_port, const char *channels, const char *extra)
{
    FILE *f = fopen(t->config, "we");
    assert_non_null(f);
    fprintf(f,
            "nats: { url: \"%s\" }\n"
            "redis: { host: 127.0.0.1, port: %d }\n"
            "data_dir: %s/data\n"
            "log: { level: debug }\n"
            "alert:\n"
            "  channels:\n"
            "    - { name: post, type: email, url: \"smtp://127.0.0.1:%d\", from: redoubt@example.org, to: "
            "[ops@example.org, \"second@example.org\"], attempt: 500ms, tries: 2 }\n"
            "    - { name: chat, type: slack, url: \"http://127.0.0.1:%d/hook\", attempt: 500ms, tries: 2, "
            "deadline: 5s%s }\n"
            "    - { name: record, type: file, path: %s }\n"
            "  routes:\n"
            "    - { min_severity: info, channels: [%s] }\n",
            t->k->nats->url, t->redis->port, harness_dir(t->k->h), t->smtp.port, slack_port, extra, t->record,
            channels);
    fclose(f);
}

static int town_setup(void **state)
{
    void *kit;
    if (kit_setup(&kit))
        return -1;
    struct town *t = calloc(1, sizeof *t);
    t->k = kit;
    harness_start(t->k->nats);
    t->redis = harness_redis(t->k->h, "redis", NULL);
    start_sim(t, &t->slack, "slack");
    start_sim(t, &t->smtp, "smtp");
    snprintf(t->config, sizeof t->config, "%s/redoubt.yaml", harness_dir(t->k->h));
    snprintf(t->record, sizeof t->record, "%s/alerts.jsonl", harness_dir(t->k->h));
    write_config(t, t->slack.port, "post, chat, record", "");
    struct err e;
    t->http = http_open(&t->k->loop, &e);
    assert_non_null(t->http);
    kit_open(t->k, &t->kb, (struct bus_opts){0});
    KIT_WAIT(t->k, t->kb.ups > 0);
    bus_subscribe(t->kb.b, SUBJECT_DELIVERY ">", NULL, on_receipt, t);
    bus_subscribe(t->kb.b, SUBJECT_ALERT, NULL, on_any_alert, t);
    bus_subscribe(t->kb.b, SUBJECT_DEAD ">", NULL, on_dead, t);
    const char *argv[] = {bin("redoubt-alert"), "-c", t->config, NULL};
    t->alert = harness_run(t->k->h, "alert", 0, argv);
    *state = t;
    return 0;
}

static void on_http_closed(void *ctx)
{
    *(bool *)ctx = true;
}

static int town_teardown(void **state)
{
    struct town *t = *state;
    bool closed = false;
    /* Whatever it has been through, it drains; sanitised ones tell of leaks by their exit code. */
    int ended = harness_stop(t->alert), slack = harness_stop(t->slack.proc), smtp = harness_stop(t->smtp.proc);
    if (ended || slack || smtp) {
        print_error("exit codes: alert %d, slack %d, smtp %d\n", ended, slack, smtp);
        return -1;
    }
    if (t->reply)
        wire_free(t->reply);
    json_decref(t->answer);
    bus_close(t->kb.b, 1000, kit_closed, &t->kb);
    http_close(t->http, on_http_closed, &closed);
    KIT_WAIT(t->k, t->kb.closed && closed);
    void *kit = t->k;
    free(t);
    return kit_teardown(&kit);
}

/* ---- what tests do ---- */

static void on_answer(void *ctx, const struct http_result *r)
{
    struct town *t = ctx;
    json_decref(t->answer);
    t->answer = json_loadb(r->body, r->len, 0, NULL);
    t->answered = true;
}

static json_t *ask(struct town *t, const struct sim *s, const char *path, const char *body)
{
    char url[128];
    snprintf(url, sizeof url, "http://127.0.0.1:%d%s", s->control, path);
    struct http_request r = {.url = url, .body = body, .body_len = body ? strlen(body) : 0, .max_response = 8 << 20};
    t->answered = false;
    (void)http_start(t->http, &r, NULL, on_answer, t);
    KIT_WAIT(t->k, t->answered);
    assert_non_null(t->answer);
    return t->answer;
}

static void mode(struct town *t, const struct sim *s, const char *name)
{
    char body[128];
    snprintf(body, sizeof body, "{\"mode\":\"%s\",\"slow_ms\":200}", name);
    assert_string_equal(json_string_value(json_object_get(ask(t, s, "/sim/mode", body), "mode")), name);
}

/* How many taken messages of a simulator hold the text. */
static int told(struct town *t, const struct sim *s, const char *text)
{
    const json_t *list = json_object_get(ask(t, s, "/sim/requests", NULL), "requests"), *r;
    int n = 0;
    size_t k;
    json_array_foreach((json_t *)list, k, r)
    {
        const char *body = json_string_value(json_object_get(r, s == &t->slack ? "body" : "message"));
        const char *met = json_string_value(json_object_get(r, "mode"));
        bool taken = met && (strcmp(met, "ok") == 0 || strcmp(met, "slow") == 0);
        n += taken && body && strstr(body, text);
    }
    return n;
}

static void on_stored(void *ctx, const struct bus_stored *r)
{
    assert_int_equal(r->status, BUS_OK);
    ((struct town *)ctx)->stored++;
}

static void raise_alert(struct town *t, const char *id, const char *key, int severity, bool resolved)
{
    char summary[256];
    snprintf(summary, sizeof summary, "summary of %s: größer <b> & ☂", id);
    PB(Alert) a = REDOUBT__V1__ALERT__INIT;
    a.id = (char *)id;
    a.dedup_key = (char *)key;
    a.severity = (Redoubt__V1__Severity)severity;
    a.source = (char *)"test";
    a.summary = summary;
    a.resolved = resolved;
    a.raised_unix_ms = clock_wall_ms();
    size_t len;
    struct err e;
    void *data = wire_pack(&a, &len, &e);
    assert_non_null(data);
    size_t before = t->stored;
    bus_store(t->kb.b,
              &(struct bus_out){.subject = SUBJECT_ALERT, .id = id, .type = wire_type(&a), .data = data, .len = len},
              0, on_stored, t);
    free(data);
    KIT_WAIT(t->k, t->stored > before);
}

static size_t receipts(const struct town *t, const char *alert, const char *channel, int status)
{
    size_t n = 0;
    for (size_t i = 0; i < t->n_receipts; i++)
        n += (!alert || strcmp(t->receipts[i].alert, alert) == 0) &&
             (!channel || strcmp(t->receipts[i].channel, channel) == 0) && t->receipts[i].status == status;
    return n;
}

static void restart_alert(struct town *t)
{
    harness_kill(t->alert);
    harness_start(t->alert);
}

static char *record_text(const struct town *t)
{
    static char text[1 << 20];
    FILE *f = fopen(t->record, "re");
    size_t n = f ? fread(text, 1, sizeof text - 1, f) : 0;
    if (f)
        fclose(f);
    text[n] = 0;
    return text;
}

static bool delivered(const struct town *t, const char *id, const char *channel)
{
    return receipts(t, id, channel, ST(ACCEPTED)) > 0;
}

static void on_reply(void *ctx, enum bus_status st, const struct bus_msg *m)
{
    struct town *t = ctx;
    struct err e;
    assert_int_equal(st, BUS_OK);
    if (t->reply)
        wire_free(t->reply);
    t->reply = wire_unpack(PB_DESC(command_reply), m->data, m->len, &e);
    if (!t->reply)
        fail_msg("reply: %s", e.text);
    t->answered = true;
}

static const PB(CommandReply) * command(struct town *t, const char *verb, const char *channel)
{
    PB(AlertCommand) c = REDOUBT__V1__ALERT_COMMAND__INIT;
    c.channel = (char *)channel;
    c.by = (char *)"eve";
    size_t len = 0;
    struct err e;
    char subject[64];
    void *data = channel ? wire_pack(&c, &len, &e) : NULL;
    snprintf(subject, sizeof subject, "%salert.%s", SUBJECT_CMD, verb);
    t->answered = false;
    bus_request(t->kb.b, &(struct bus_out){.subject = subject, .type = wire_type(&c), .data = data, .len = len}, 5000,
                on_reply, t);
    free(data);
    KIT_WAIT(t->k, t->answered);
    return t->reply;
}

/* The channel is mended, and an operator's test shows it: that is told at once. */
static void mend(struct town *t, const struct sim *s, const char *channel)
{
    int resolves = t->channel_resolves;
    mode(t, s, "ok");
    assert_int_equal(command(t, "test", channel)->status, REDOUBT__V1__COMMAND_STATUS__COMMAND_STATUS_OK);
    KIT_WAIT(t->k, t->channel_resolves == resolves + 1);
}

/* ---- tests ---- */

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
    /* at_once: the next channel within the time of no second attempt */
    static const struct {
        const char *mode;
        int limit_ms;
    } rows[] = {{"550", 900},  {"554", 900},  {"refuse", 900},   {"421", 2500},
                {"451", 2500}, {"cut", 2500}, {"garbage", 2500}, {"hang", 3500}};
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
        if (!getenv("REDOUBT_SLOW"))
            assert_true(took < rows[i].limit_ms);
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
    start = clock_mono_ms();
    raise_alert(t, "r2", "r2", SEV(HIGH), false);
    KIT_WAIT(t->k, delivered(t, "r2", "post"));
    if (!getenv("REDOUBT_SLOW"))
        assert_true(clock_mono_ms() - start < 900);
    assert_int_equal(receipts(t, "r2", "chat", ST(FAILED)), 1);
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
    /* A restart in the middle changes nothing. */
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

static void the_end_comes_after_the_beginning(void **state)
{
    struct town *t = *state;
    mode(t, &t->smtp, "hang");
    mode(t, &t->slack, "hang");
    raise_alert(t, "o1", "order", SEV(HIGH), false);
    raise_alert(t, "o2", "order", SEV(HIGH), true);
    KIT_WAIT(t->k, receipts(t, "o1", NULL, ST(EXHAUSTED)) == 1);
    assert_int_equal(receipts(t, "o2", "post", ST(FAILED)), 0); /* it waits */
    assert_int_equal(receipts(t, "o2", "record", ST(RECORDED)), 1);
    mode(t, &t->smtp, "ok");
    mode(t, &t->slack, "ok");
    KIT_WAIT_MS(t->k, receipts(t, "o1", NULL, ST(ACCEPTED)) == 1 && receipts(t, "o2", NULL, ST(ACCEPTED)) == 1,
                30000);
    size_t first = 0, second = 0;
    for (size_t i = 0; i < t->n_receipts; i++) {
        if (t->receipts[i].status == ST(ACCEPTED) && strcmp(t->receipts[i].alert, "o1") == 0)
            first = i;
        if (t->receipts[i].status == ST(ACCEPTED) && strcmp(t->receipts[i].alert, "o2") == 0)
            second = i;
    }
    assert_true(first < second);
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
    for (int i = 0; i < n; i++) {
        snprintf(id, sizeof id, "summary of z%d:", i);
        KIT_WAIT_MS(t->k, told(t, &t->slack, id) + told(t, &t->smtp, id) >= 1, 40000);
        snprintf(id, sizeof id, "\"z%d\"", i);
        assert_non_null(strstr(record_text(t), id));
    }
    assert_true(harness_alive(t->alert));
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
    KIT_WAIT(t->k, receipts(t, "n1", NULL, ST(EXHAUSTED)) == 1);
    write_config(t, t->slack.port, "post, chat, record", "");
    kill(t->alert->pid, SIGHUP);
    KIT_WAIT_MS(t->k, delivered(t, "n1", "chat"), 4000); /* not after the pause of 5 s */
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
        TOWN(one_problem_is_told_once),
        TOWN(the_end_comes_after_the_beginning),
        TOWN(kills_of_everything),
        TOWN(bad_input_dies_alone),
        TOWN(new_settings_free_what_waits),
        TOWN(a_record_that_fails_holds_nobody_up),
        TOWN(commands),
        TOWN(drains_and_goes_on),
    };
    cmocka_set_test_filter(getenv("ONLY"));
    return cmocka_run_group_tests(tests, NULL, NULL);
}
