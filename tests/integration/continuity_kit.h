/* continuity_kit.h - redoubt-continuity as one or two processes on a real NATS and Redis, and a loop that plays everybody else and hears what it says. */
#ifndef REDOUBT_TESTS_CONTINUITY_KIT_H
#define REDOUBT_TESTS_CONTINUITY_KIT_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka wants those before it. */
#include "../harness.h"
#include "common/bus.h"
#include "common/clock.h"
#include "common/subjects.h"
#include "common/wire.h"
#include <cmocka.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define E(x)         REDOUBT__V1__##x
#define PHASE(x)     ((int)REDOUBT__V1__INCIDENT_PHASE__INCIDENT_PHASE_##x)
#define STATUS(x)    ((int)REDOUBT__V1__COMMAND_STATUS__COMMAND_STATUS_##x)
#define FLEET        500
#define KIT_LIMIT_MS (6 * HARNESS_WAIT_MS) /* sanitised, and with others on the same cores */
#define KIT_SEEN     256
#define KIT_ALERTS   512

struct kit_alert {
    char id[65], key[160];
    int severity;
    bool resolved;
};
struct kit {
    struct harness *h;
    struct harness_proc *nats, *redis, *replica[2];
    char base[300], conf[600], program[600];
    struct loop loop;
    struct bus *bus;
    bool bus_up, closed;
    uint64_t epoch; /* of what is said */
    size_t stored, to_store;
    PB(IncidentChanged) * incident[KIT_SEEN]; /* the last document of each, in order of first sight */
    size_t n_incidents;
    struct kit_alert alert[KIT_ALERTS];
    size_t n_alerts;
    uint64_t records, beats, events;
    char leader[129];
    uint64_t fence;
    PB(ContinuityStatus) * status;
    PB(Demonstrations) * shown[16];
    size_t n_shown;
    /* the last answer */
    bool answered;
    enum bus_status how;
    PB(CommandReply) * reply;
};

static inline void kit_turn(struct kit *k)
{
    static const bool never = false;
    loop_run_until(&k->loop, &never, 5);
}
#define KIT_UNTIL(k, cond)                                                                                           \
    do {                                                                                                             \
        int64_t end_ms_ = clock_mono_ms() + KIT_LIMIT_MS;                                                            \
        while (!(cond)) {                                                                                            \
            if (clock_mono_ms() > end_ms_)                                                                           \
                fail_msg("line %d: waited in vain for: %s", __LINE__, #cond);                                        \
            kit_turn(k);                                                                                             \
        }                                                                                                            \
    } while (0)

/* ---- hearing ---- */

static inline void *kit_unpacked(const ProtobufCMessageDescriptor *desc, const void *data, size_t len)
{
    struct err e = {""};
    void *m = wire_unpack(desc, data, len, &e);
    if (!m)
        fail_msg("%s: %s", desc->name, e.text);
    return m;
}

/* What the test itself has said may be no message: NULL. */
static inline void *kit_heard(const ProtobufCMessageDescriptor *desc, const struct bus_msg *m)
{
    struct err e;
    return wire_unpack(desc, m->data, m->len, &e);
}

static inline PB(IncidentChanged) * kit_incident(struct kit *k, const char *id)
{
    for (size_t i = 0; i < k->n_incidents; i++)
        if (strcmp(k->incident[i]->id, id) == 0)
            return k->incident[i];
    return NULL;
}

static inline void kit_on_incident(void *ctx, const struct bus_msg *m)
{
    struct kit *k = ctx;
    PB(IncidentChanged) *d = kit_heard(PB_DESC(incident_changed), m);
    if (!d)
        return;
    for (size_t i = 0; i < k->n_incidents; i++)
        if (strcmp(k->incident[i]->id, d->id) == 0) {
            PB(IncidentChanged) *was = k->incident[i];
            bool newer = d->fence > was->fence || (d->fence == was->fence && d->epoch >= was->epoch);
            if (newer)
                k->incident[i] = d;
            wire_free(newer ? was : d);
            return;
        }
    assert_true(k->n_incidents < KIT_SEEN);
    k->incident[k->n_incidents++] = d;
}

static inline void kit_on_event(void *ctx, const struct bus_msg *m)
{
    struct kit *k = ctx;
    PB(IncidentChanged) *d = kit_heard(PB_DESC(incident_changed), m);
    if (!d)
        return;
    k->events++;
    wire_free(d);
}

static inline void kit_on_alert(void *ctx, const struct bus_msg *m)
{
    struct kit *k = ctx;
    PB(Alert) *a = kit_heard(PB_DESC(alert), m);
    if (!a)
        return;
    assert_true(k->n_alerts < KIT_ALERTS);
    struct kit_alert *to = &k->alert[k->n_alerts++];
    snprintf(to->id, sizeof to->id, "%s", a->id);
    snprintf(to->key, sizeof to->key, "%s", a->dedup_key);
    to->severity = (int)a->severity;
    to->resolved = a->resolved;
    wire_free(a);
}

static inline void kit_on_record(void *ctx, const struct bus_msg *m)
{
    (void)m;
    ((struct kit *)ctx)->records++;
}

static inline void kit_on_time(void *ctx, const struct bus_msg *m)
{
    struct kit *k = ctx;
    PB(ContinuityTime) *t = kit_heard(PB_DESC(continuity_time), m);
    if (!t)
        return;
    k->beats++;
    if (t->fence >= k->fence) {
        snprintf(k->leader, sizeof k->leader, "%s", t->instance);
        k->fence = t->fence;
    }
    wire_free(t);
}

static inline void kit_on_status(void *ctx, const struct bus_msg *m)
{
    struct kit *k = ctx;
    PB(ContinuityStatus) *s = kit_heard(PB_DESC(continuity_status), m);
    if (!s)
        return;
    wire_free(k->status);
    k->status = s;
}

static inline void kit_on_shown(void *ctx, const struct bus_msg *m)
{
    struct kit *k = ctx;
    PB(Demonstrations) *d = kit_heard(PB_DESC(demonstrations), m);
    if (!d)
        return;
    for (size_t i = 0; i < k->n_shown; i++)
        if (strcmp(k->shown[i]->objective, d->objective) == 0) {
            wire_free(k->shown[i]);
            k->shown[i] = d;
            return;
        }
    assert_true(k->n_shown < 16);
    k->shown[k->n_shown++] = d;
}

/* Alerts with exactly this key. */
static inline size_t kit_alerts(const struct kit *k, const char *key, bool resolved)
{
    size_t n = 0;
    for (size_t i = 0; i < k->n_alerts; i++)
        n += strcmp(k->alert[i].key, key) == 0 && k->alert[i].resolved == resolved;
    return n;
}

/* The newest incident with this key that is not closed; NULL = none. */
static inline PB(IncidentChanged) * kit_open(struct kit *k, const char *key)
{
    for (size_t i = k->n_incidents; i-- > 0;)
        if (strcmp(k->incident[i]->key, key) == 0 && k->incident[i]->phase != PHASE(CLOSED))
            return k->incident[i];
    return NULL;
}
static inline size_t kit_of_key(const struct kit *k, const char *key)
{
    size_t n = 0;
    for (size_t i = 0; i < k->n_incidents; i++)
        n += strcmp(k->incident[i]->key, key) == 0;
    return n;
}
static inline int kit_phase(struct kit *k, const char *key)
{
    const PB(IncidentChanged) *d = kit_open(k, key);
    return d ? (int)d->phase : 0;
}
static inline const PB(ObjectiveClock) * kit_clock(const PB(IncidentChanged) * d, const char *objective)
{
    for (size_t i = 0; d && i < d->n_clocks; i++)
        if (strcmp(d->clocks[i]->objective, objective) == 0)
            return d->clocks[i];
    return NULL;
}

/* ---- saying ---- */

static inline void kit_on_stored(void *ctx, const struct bus_stored *r)
{
    struct kit *k = ctx;
    assert_int_equal(r->status, BUS_OK);
    k->stored++;
}

static inline void kit_say_bytes(struct kit *k, const char *subject, const char *type, const void *data, size_t len)
{
    char id[80];
    snprintf(id, sizeof id, "kit-%" PRIu64 "-%" PRIu64, k->epoch, (uint64_t)k->to_store);
    struct bus_out o = {.subject = subject, .id = id, .type = type, .data = data, .len = len};
    k->to_store++;
    bus_store(k->bus, &o, 0, kit_on_stored, k);
}

static inline void kit_say(struct kit *k, const char *prefix, const char *name, const void *message)
{
    char subject[SUBJECT_MAX_LEN];
    size_t len;
    struct err e = {""};
    void *data = wire_pack(message, &len, &e);
    if (!data)
        fail_msg("%s%s: %s", prefix, name, e.text);
    snprintf(subject, sizeof subject, "%s%s", prefix, name);
    kit_say_bytes(k, subject, wire_type(message), data, len);
    free(data);
}

struct kit_position {
    int llm_index;
    bool backend, frozen, gone;
    int64_t evidence_ms;
};
static inline void kit_directive(struct kit *k, const char *agent, struct kit_position p)
{
    PB(AgentState) s = PB_INIT(AGENT_STATE);
    PB(Directive) d = PB_INIT(DIRECTIVE);
    int64_t now = clock_wall_ms();
    bool normal = p.llm_index == 0 && !p.backend && !p.frozen && !p.gone;
    d.state = &s;
    s.agent = (char *)agent;
    s.epoch = s.revision = ++k->epoch;
    s.fence = 1;
    s.posture = normal ? E(POSTURE__POSTURE_NORMAL) : E(POSTURE__POSTURE_DEGRADED);
    s.llm_index = p.llm_index;
    s.backend = p.backend ? E(BACKEND_MODE__BACKEND_MODE_DEGRADED) : E(BACKEND_MODE__BACKEND_MODE_UP);
    s.automation =
        p.frozen ? E(AUTOMATION_MODE__AUTOMATION_MODE_FROZEN) : E(AUTOMATION_MODE__AUTOMATION_MODE_ENABLED);
    s.override_mode = E(OVERRIDE_MODE__OVERRIDE_MODE_OFF);
    s.resources = E(RESOURCE_MODE__RESOURCE_MODE_OK);
    s.link = p.gone ? E(LINK_MODE__LINK_MODE_GONE) : E(LINK_MODE__LINK_MODE_UP);
    s.since_unix_ms = s.link_since_unix_ms = s.resources_since_unix_ms = now;
    s.evidence_unix_ms = normal ? 0 : p.evidence_ms ? p.evidence_ms : now;
    s.load_percent = s.shed_percent = s.return_percent = 100;
    s.step = E(STEP__STEP_INITIAL);
    d.step = s.step;
    d.issued_unix_ms = now;
    kit_say(k, SUBJECT_DIRECTIVE, agent, &d);
}

static inline void kit_breaker(struct kit *k, const char *target, bool open)
{
    PB(BreakerChanged) b = PB_INIT(BREAKER_CHANGED);
    int64_t now = clock_wall_ms();
    b.target = (char *)target;
    b.epoch = ++k->epoch;
    b.state = open ? E(BREAKER_STATE__BREAKER_STATE_OPEN) : E(BREAKER_STATE__BREAKER_STATE_CLOSED);
    b.previous = open ? E(BREAKER_STATE__BREAKER_STATE_CLOSED) : E(BREAKER_STATE__BREAKER_STATE_OPEN);
    b.reason = E(BREAKER_REASON__BREAKER_REASON_CONSECUTIVE);
    b.changed_unix_ms = b.since_unix_ms = now;
    b.evidence_unix_ms = open ? now : 0;
    b.ramp_percent = open ? 0 : 100;
    kit_say(k, SUBJECT_BREAKER, target, &b);
}

static inline void kit_delivered(struct kit *k, const char *key)
{
    PB(DeliveryReceipt) d = PB_INIT(DELIVERY_RECEIPT);
    char id[40];
    snprintf(id, sizeof id, "a-%" PRIu64, ++k->epoch);
    d.alert_id = id;
    d.dedup_key = (char *)key;
    d.channel = (char *)"pager";
    d.channel_kind = (char *)"webhook";
    d.status = E(DELIVERY_STATUS__DELIVERY_STATUS_ACCEPTED);
    d.attempt = 1;
    d.severity = E(SEVERITY__SEVERITY_HIGH);
    d.started_unix_ms = d.ended_unix_ms = clock_wall_ms();
    kit_say(k, SUBJECT_DELIVERY, id, &d);
}

/* ---- asking ---- */

static inline void kit_on_reply(void *ctx, enum bus_status st, const struct bus_msg *m)
{
    struct kit *k = ctx;
    k->answered = true;
    k->how = st;
    wire_free(k->reply);
    k->reply = st == BUS_OK ? kit_unpacked(PB_DESC(command_reply), m->data, m->len) : NULL;
}

/* Its status; -1 = no answer. */
static inline int kit_ask(struct kit *k, const char *verb, PB(ContinuityCommand) * cmd)
{
    char subject[SUBJECT_MAX_LEN];
    size_t len;
    struct err e = {""};
    void *data = wire_pack(cmd, &len, &e);
    if (!data)
        fail_msg("%s: %s", verb, e.text);
    snprintf(subject, sizeof subject, SUBJECT_CMD "continuity.%s", verb);
    struct bus_out o = {.subject = subject, .type = wire_type(cmd), .data = data, .len = len};
    k->answered = false;
    bus_request(k->bus, &o, 5000, kit_on_reply, k);
    free(data);
    KIT_UNTIL(k, k->answered);
    return k->how == BUS_OK ? (int)k->reply->status : -1;
}

/* Asks until somebody leads. The answer's payload; freed by the caller. */
static inline void *kit_read(struct kit *k, const char *verb, PB(ContinuityCommand) * cmd,
                             const ProtobufCMessageDescriptor *desc)
{
    int64_t end_ms = clock_mono_ms() + KIT_LIMIT_MS;
    while (kit_ask(k, verb, cmd) != STATUS(OK) || *k->reply->message)
        if (clock_mono_ms() > end_ms)
            fail_msg("%s was not answered: %s", verb, k->reply ? k->reply->message : "no answer");
    return kit_unpacked(desc, k->reply->payload.data, k->reply->payload.len);
}

static inline PB(IncidentChanged) * kit_show(struct kit *k, const char *id)
{
    PB(ContinuityCommand) cmd = PB_INIT(CONTINUITY_COMMAND);
    cmd.incident = (char *)id;
    return kit_read(k, "incident", &cmd, PB_DESC(incident_changed));
}

/* ---- the town ---- */

static inline void kit_up(void *ctx)
{
    ((struct kit *)ctx)->bus_up = true;
}
static inline void kit_down(void *ctx)
{
    ((struct kit *)ctx)->bus_up = false;
}
static inline void kit_closed(void *ctx)
{
    ((struct kit *)ctx)->closed = true;
}

/* `continuity` is what stands below that key besides the lease; `agents` further ones, as lines. */
static inline void kit_configure(struct kit *k, const char *continuity, const char *agents)
{
    FILE *f = fopen(k->conf, "w");
    assert_non_null(f);
    fprintf(f,
            "nats: { url: \"%s\" }\nredis: { port: %d }\ndata_dir: \"%s/data\"\n"
            "continuity:\n  lease_ttl: 500ms\n%s"
            "targets:\n  - { name: llm.openai.gpt-4o, kind: llm }\n  - { name: llm.local.small, kind: llm }\n"
            "  - { name: backend.main, kind: backend }\nagents:\n",
            k->nats->url, k->redis->port, k->base, continuity);
    for (int i = 0; i < FLEET; i++)
        fprintf(f,
                "  - { name: a%03d, chain: [ { target: llm.openai.gpt-4o, model: big }, { target: llm.local.small, "
                "model: small } ], backend: backend.main }\n",
                i);
    fprintf(f, "%s", agents);
    fclose(f);
}
#define KIT_AGENT(name)                                                                                              \
    "  - { name: " name ", chain: [ { target: llm.local.small, model: small } ], backend: backend.main }\n"

static inline void kit_subscribe(struct kit *k, const char *subject, bus_handler fn)
{
    assert_non_null(bus_subscribe(k->bus, subject, NULL, fn, k));
}

static inline void kit_hear(struct kit *k)
{
    kit_subscribe(k, SUBJECT_CONTINUITY_INCIDENT ">", kit_on_incident);
    kit_subscribe(k, SUBJECT_INCIDENT ">", kit_on_event);
    kit_subscribe(k, SUBJECT_ALERT, kit_on_alert);
    kit_subscribe(k, SUBJECT_AUDIT "continuity", kit_on_record);
    kit_subscribe(k, SUBJECT_CONTINUITY_TIME, kit_on_time);
    kit_subscribe(k, SUBJECT_CONTINUITY_STATUS, kit_on_status);
    kit_subscribe(k, SUBJECT_CONTINUITY_DEMONSTRATED ">", kit_on_shown);
}

static inline void kit_start(struct kit *k, int i)
{
    if (k->replica[i]) {
        harness_start(k->replica[i]);
        return;
    }
    const char *names[] = {"one", "two"};
    k->replica[i] = harness_run(k->h, names[i], 0, (const char *const[]){k->program, "-c", k->conf, NULL});
}

static inline struct kit *kit_new(const char *continuity, const char *agents)
{
    struct kit *k = calloc(1, sizeof *k);
    struct err e = {""};
    assert_non_null(k);
    k->h = harness_open();
    k->nats = harness_nats(k->h, "nats", NULL);
    k->redis = harness_redis(k->h, "redis", NULL);
    snprintf(k->base, sizeof k->base, "%s", harness_dir(k->h));
    snprintf(k->conf, sizeof k->conf, "%s/redoubt.yaml", k->base);
    char self[512] = "";
    ssize_t n = readlink("/proc/self/exe", self, sizeof self - 1);
    assert_true(n > 0);
    for (int up = 0; up < 3; up++) /* BUILD/tests/integration/test_x */
        *strrchr(self, '/') = '\0';
    snprintf(k->program, sizeof k->program, "%s/bin/redoubt-continuity", self);
    kit_configure(k, continuity, agents);
    assert_int_equal(loop_init(&k->loop), 0);
    struct bus_opts o = {.url = k->nats->url,
                         .name = "kit",
                         .inbox_prefix = "_INBOX_kit",
                         .on_up = kit_up,
                         .on_down = kit_down,
                         .ctx = k};
    k->bus = bus_open(&k->loop, &o, &e);
    assert_non_null(k->bus);
    KIT_UNTIL(k, k->bus_up);
    return k;
}

static inline void kit_free(struct kit *k)
{
    bus_close(k->bus, 1000, kit_closed, k);
    KIT_UNTIL(k, k->closed);
    harness_close(k->h);
    loop_done(&k->loop);
    for (size_t i = 0; i < k->n_incidents; i++)
        wire_free(k->incident[i]);
    for (size_t i = 0; i < k->n_shown; i++)
        wire_free(k->shown[i]);
    wire_free(k->status);
    wire_free(k->reply);
    free(k);
}

#endif
