/* alert_town.h - what stands around redoubt-alert in its tests: NATS, Redis, a mail server and Slack that can fail, and who listens. */
#ifndef REDOUBT_TESTS_ALERT_TOWN_H
#define REDOUBT_TESTS_ALERT_TOWN_H

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
            "deadline: 5s, rate: 0%s }\n"
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

static inline void raise_alert(struct town *t, const char *id, const char *key, int severity, bool resolved)
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

static inline char *record_text(const struct town *t)
{
    static char text[1 << 20];
    FILE *f = fopen(t->record, "re");
    size_t n = f ? fread(text, 1, sizeof text - 1, f) : 0;
    if (f)
        fclose(f);
    text[n] = 0;
    return text;
}

static inline bool delivered(const struct town *t, const char *id, const char *channel)
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
static inline void mend(struct town *t, const struct sim *s, const char *channel)
{
    int resolves = t->channel_resolves;
    mode(t, s, "ok");
    assert_int_equal(command(t, "test", channel)->status, REDOUBT__V1__COMMAND_STATUS__COMMAND_STATUS_OK);
    KIT_WAIT(t->k, t->channel_resolves == resolves + 1);
}

#endif
