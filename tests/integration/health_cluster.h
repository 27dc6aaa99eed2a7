/* health_cluster.h - three replicas of redoubt-health on a real NATS and Redis, for the tests of what they do together.
 *
 * Every replica reaches the targets by a port of its own, so that the test sees who probes, and can make one of them blind. */
#ifndef REDOUBT_TESTS_HEALTH_CLUSTER_H
#define REDOUBT_TESTS_HEALTH_CLUSTER_H

#include "../harness.h"
#include "common/bus.h"
#include "common/clock.h"
#include "common/rank.h"
#include "common/store.h"
#include "common/subjects.h"
#include "common/wire.h"
#include <microhttpd.h>
#include <setjmp.h>
#include <sodium.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#define REPLICAS    3
#define PLAIN       8           /* free targets other.t0 ... other.t7 */
#define TARGETS     (PLAIN + 4) /* that are probed */
#define CHILD       PLAIN       /* depends on other.t0 */
#define WIDE        (PLAIN + 1) /* has two vantage points */
#define AGREED      (PLAIN + 2) /* has three */
#define PAID        (PLAIN + 3)
#define AGENT       (PLAIN + 4)
#define INTERVAL_MS 2000
#define TTL_MS      900
#define KEPT        1024
#define E_(x)       REDOUBT__V1__##x
#define STATE(x)    E_(HEALTH_STATE__HEALTH_STATE_##x)

static const char *const names[TARGETS + 1] = {
    "other.t0", "other.t1",    "other.t2",   "other.t3",     "other.t4", "other.t5",     "other.t6",
    "other.t7", "other.child", "other.wide", "other.agreed", "llm.paid", "agent.tester",
};

struct env;
struct way { /* of one replica to the targets */
    struct env *e;
    int number, port;
    struct MHD_Daemon *http;
    _Atomic bool blind;
};
struct seen {
    char target[TARGET_MAX_LEN + 1], suppressed_by[TARGET_MAX_LEN + 1], reason[256], observer[128];
    uint64_t epoch;
    int state;
    size_t n_votes, n_bad_votes;
    char detail[256];
    int64_t at_ms;
};
struct env {
    struct harness *h;
    struct harness_proc *nats, *redis, *health[REPLICAS];
    char instance[REPLICAS][65];
    struct way ways[REPLICAS];
    _Atomic bool down[TARGETS], busy[TARGETS], flaps[TARGETS]; /* no answer; 503; 503 every other time */
    _Atomic int calls[REPLICAS][TARGETS];
    struct loop loop;
    struct bus *bus;
    struct store *store;
    bool bus_up, store_up, closed;
    struct seen seen[KEPT];
    size_t n_seen;
    struct {
        char key[128];
        int severity;
        bool resolved;
    } alerts[KEPT];
    size_t n_alerts, n_strict;
    struct loop_timer beat;
    bool beating, deaf;
    uint64_t beats, pongs;
    /* of the condition waited for */
    int target, state, replica;
    int64_t until_ms;
    size_t members;
    bool asked;
    const char *text;
    bool flag;
};

/* ---- the world ---- */

static inline int calls_of(struct env *e, int target)
{
    int n = 0;
    for (int i = 0; i < REPLICAS; i++)
        n += atomic_load(&e->calls[i][target]);
    return n;
}

static inline enum MHD_Result send_text(struct MHD_Connection *c, unsigned status, const char *type, const char *text)
{
    struct MHD_Response *r =
        MHD_create_response_from_buffer(strlen(text), (void *)(uintptr_t)text, MHD_RESPMEM_MUST_COPY);
    MHD_add_response_header(r, "Content-Type", type);
    enum MHD_Result ok = MHD_queue_response(c, status, r);
    MHD_destroy_response(r);
    return ok;
}

#define STREAM                                                                                                       \
    "data: {\"choices\":[{\"delta\":{\"content\":\"pong\"},\"finish_reason\":\"length\"}]}\n\ndata: [DONE]\n\n"

static inline enum MHD_Result serve(void *ctx, struct MHD_Connection *c, const char *url, const char *method,
                                    const char *version, const char *data, size_t *size, void **req)
{
    struct way *w = ctx;
    struct env *e = w->e;
    static int started;
    (void)method;
    (void)version;
    (void)data;
    if (!*req) {
        *req = &started;
        return MHD_YES;
    }
    if (*size) {
        *size = 0;
        return MHD_YES;
    }
    int target = strncmp(url, "/v1/", 4) == 0 ? PAID : atoi(url + 1);
    assert_in_range(target, 0, TARGETS - 1);
    atomic_fetch_add(&e->calls[w->number][target], 1);
    if (atomic_load(&w->blind) || atomic_load(&e->down[target]))
        return MHD_NO; /* the connection ends without an answer */
    bool flapped = atomic_load(&e->flaps[target]) && calls_of(e, target) % 4 < 2;
    if (atomic_load(&e->busy[target]) || flapped)
        return send_text(c, 503, "text/plain", "busy");
    return target == PAID ? send_text(c, 200, "text/event-stream", STREAM) : send_text(c, 200, "text/plain", "ok");
}

static inline void on_verdict(void *ctx, const struct bus_msg *m)
{
    struct env *e = ctx;
    PB(HealthChanged) *h = wire_unpack(PB_DESC(health_changed), m->data, m->len, NULL);
    assert_non_null(h);
    for (size_t i = 0; i < e->n_seen; i++)
        if (strcmp(e->seen[i].target, h->target) == 0 && e->seen[i].epoch == h->epoch) {
            assert_int_equal(e->seen[i].state, h->state); /* one epoch, one verdict, one announcer */
            assert_string_equal(e->seen[i].observer, h->observer);
            wire_free(h);
            return;
        }
    assert_true(e->n_seen < KEPT);
    struct seen *s = &e->seen[e->n_seen++];
    *s = (struct seen){.epoch = h->epoch, .state = (int)h->state, .n_votes = h->n_votes, .at_ms = clock_mono_ms()};
    snprintf(s->target, sizeof s->target, "%s", h->target);
    snprintf(s->suppressed_by, sizeof s->suppressed_by, "%s", h->suppressed_by);
    snprintf(s->reason, sizeof s->reason, "%s", h->reason);
    snprintf(s->observer, sizeof s->observer, "%s", h->observer);
    snprintf(s->detail, sizeof s->detail, "%s", h->n_evidence ? h->evidence[0]->detail : "");
    for (size_t i = 0; i < h->n_votes; i++)
        s->n_bad_votes += h->votes[i]->state == STATE(UNHEALTHY) || h->votes[i]->state == STATE(FLAPPING);
    wire_free(h);
}

static inline void on_alert(void *ctx, const struct bus_msg *m)
{
    struct env *e = ctx;
    PB(Alert) *a = wire_unpack(PB_DESC(alert), m->data, m->len, NULL);
    assert_non_null(a);
    assert_true(e->n_alerts < KEPT);
    snprintf(e->alerts[e->n_alerts].key, sizeof e->alerts[0].key, "%s", a->dedup_key);
    e->alerts[e->n_alerts].severity = (int)a->severity;
    e->alerts[e->n_alerts++].resolved = a->resolved;
    wire_free(a);
}

static inline void on_audit(void *ctx, const struct bus_msg *m)
{
    struct env *e = ctx;
    PB(AuditRecord) *r = wire_unpack(PB_DESC(audit_record), m->data, m->len, NULL);
    assert_non_null(r);
    e->n_strict += r->audit_class == E_(AUDIT_CLASS__AUDIT_CLASS_STRICT) && strcmp(r->actor, "ada") == 0 &&
                   strncmp(r->action, "health.", 7) == 0;
    wire_free(r);
}

static inline void on_beat(void *ctx)
{
    struct env *e = ctx;
    PB(Heartbeat) h = E_(HEARTBEAT__INIT);
    if (!e->beating || !e->bus_up)
        return;
    h.agent = (char *)"tester";
    h.instance = (char *)"here-1";
    h.sequence = h.progress = ++e->beats;
    h.interval_ms = 200;
    size_t len;
    void *data = wire_pack(&h, &len, NULL);
    struct bus_out o = {.subject = SUBJECT_HEARTBEAT "tester", .type = wire_type(&h), .data = data, .len = len};
    (void)bus_publish(e->bus, &o, NULL);
    free(data);
}

/* ---- the fixture ---- */

static inline void on_bus_up(void *ctx)
{
    ((struct env *)ctx)->bus_up = true;
}
static inline void on_store_up(void *ctx)
{
    ((struct env *)ctx)->store_up = true;
}
static inline void on_closed(void *ctx)
{
    ((struct env *)ctx)->closed = true;
}
static inline void nothing(void *ctx)
{
    (void)ctx;
}

static inline bool wait_for(struct env *e, bool (*holds)(struct env *e), int64_t limit_ms)
{
    static const bool never = false;
    int64_t end_ms = clock_mono_ms() + limit_ms;
    while (!holds(e)) {
        if (clock_mono_ms() > end_ms)
            return false;
        loop_run_until(&e->loop, &never, 10);
    }
    return true;
}
#define UNTIL(e, holds)                                                                                              \
    do {                                                                                                             \
        if (!wait_for(e, holds, 4 * HARNESS_WAIT_MS))                                                                \
            fail_msg("waited in vain for " #holds " (target %d, state %d)", (e)->target, (e)->state);                \
    } while (0)

static inline bool both_up(struct env *e)
{
    return e->bus_up && e->store_up;
}
static inline bool later(struct env *e)
{
    return clock_mono_ms() >= e->until_ms;
}
/* A stretch of time in which something must not happen, or is counted. */
static inline void watch_for(struct env *e, int64_t ms)
{
    e->until_ms = clock_mono_ms() + ms;
    UNTIL(e, later);
}

static inline void on_members(void *ctx, enum store_status st, const redisReply *reply)
{
    struct env *e = ctx;
    e->asked = true;
    e->members = st == STORE_OK && reply->type == REDIS_REPLY_ARRAY ? reply->elements : 0;
    for (size_t i = 0; i < e->members && i < REPLICAS; i++) /* ...-health-N: they are started one after the other */
        for (int k = 0; k < REPLICAS; k++) {
            char end[16];
            snprintf(end, sizeof end, "-%d", k);
            const char *name = reply->element[i]->str + (*reply->element[i]->str == '!');
            if (strlen(name) > 2 && strcmp(name + strlen(name) - 2, end) == 0)
                snprintf(e->instance[k], sizeof e->instance[k], "%s", name);
        }
}

static inline bool members_are(struct env *e)
{
    e->asked = false;
    store_cmd(e->store, on_members, e, 4, (const char *[]){"ZRANGE", "redoubt:{health}:members", "0", "-1"}, NULL);
    assert_true(loop_run_until(&e->loop, &e->asked, HARNESS_WAIT_MS));
    return e->members == (size_t)e->replica;
}

static inline struct harness_proc *start_health(struct env *e, int i)
{
    char self[512], program[600], conf[600], name[16];
    ssize_t n = readlink("/proc/self/exe", self, sizeof self - 1);
    assert_true(n > 0);
    self[n] = 0;
    for (int k = 0; k < 3; k++) /* tests/integration/test_health_cluster_x */
        *strrchr(self, '/') = 0;
    snprintf(program, sizeof program, "%s/bin/redoubt-health", self);
    snprintf(conf, sizeof conf, "%s/redoubt-%d.yaml", harness_dir(e->h), i);
    FILE *f = fopen(conf, "w");
    assert_non_null(f);
    fprintf(f,
            "nats: { url: \"%s\" }\n"
            "redis: { host: 127.0.0.1, port: %d, timeout: 500ms }\n"
            "data_dir: \"%s/data\"\n"
            "health: { member_ttl: %dms }\n"
            "targets:\n",
            e->nats->url, e->redis->port, harness_dir(e->h), TTL_MS);
    for (int t = 0; t < PAID; t++)
        fprintf(
            f,
            "  - { name: %s, kind: other%s, probe: { type: http, url: \"http://127.0.0.1:%d/%d\", interval: %dms, "
            "fast_interval: 200ms, timeout: 1s, fall: 3%s } }\n",
            names[t], t == CHILD ? ", parent: other.t0" : "", e->ways[i].port, t, INTERVAL_MS,
            t == WIDE     ? ", vantage: 2"
            : t == AGREED ? ", vantage: 3"
                          : "");
    fprintf(f,
            "  - { name: %s, kind: llm, probe: { type: llm, url: \"http://127.0.0.1:%d/v1\", model: m, interval: "
            "%dms, fast_interval: 200ms, timeout: 1s } }\n"
            "agents:\n"
            "  - { name: tester, chain: [ { target: %s, model: m } ], heartbeat: 400ms, heartbeat_fall: 3 }\n",
            names[PAID], e->ways[i].port, INTERVAL_MS, names[PAID]);
    fclose(f);
    snprintf(name, sizeof name, "health-%d", i);
    struct harness_proc *p = harness_run(e->h, name, 0, (const char *const[]){program, "-c", conf, NULL});
    e->replica = i + 1;
    UNTIL(e, members_are);
    return p;
}

static inline int setup(void **state)
{
    struct env *e = calloc(1, sizeof *e);
    assert_non_null(e);
    *state = e;
    assert_true(sodium_init() >= 0);
    e->h = harness_open();
    e->nats = harness_nats(e->h, "nats", NULL);
    e->redis = harness_redis(e->h, "redis", NULL);
    for (int i = 0; i < REPLICAS; i++) {
        struct way *w = &e->ways[i];
        w->e = e;
        w->number = i;
        w->port = harness_free_port();
        w->http = MHD_start_daemon(MHD_USE_INTERNAL_POLLING_THREAD, 0, NULL, NULL, serve, w, MHD_OPTION_SOCK_ADDR,
                                   &(struct sockaddr_in){.sin_family = AF_INET,
                                                         .sin_port = htons((uint16_t)w->port),
                                                         .sin_addr.s_addr = htonl(INADDR_LOOPBACK)},
                                   MHD_OPTION_LISTENING_ADDRESS_REUSE, 1u, MHD_OPTION_END);
        assert_non_null(w->http);
    }
    assert_int_equal(loop_init(&e->loop), 0);
    struct err er = {""};
    struct bus_opts bo = {
        .url = e->nats->url, .name = "test", .inbox_prefix = "_INBOX_test", .on_up = on_bus_up, .ctx = e};
    struct store_opts so = {.host = "127.0.0.1", .port = e->redis->port, .on_up = on_store_up, .ctx = e};
    e->bus = bus_open(&e->loop, &bo, &er);
    e->store = store_open(&e->loop, &so, &er);
    assert_non_null(e->bus);
    assert_non_null(e->store);
    assert_non_null(bus_watch(e->bus, SUBJECT_HEALTH ">", 0, on_verdict, nothing, e));
    bus_subscribe(e->bus, SUBJECT_ALERT, NULL, on_alert, e);
    bus_subscribe(e->bus, SUBJECT_AUDIT ">", NULL, on_audit, e);
    loop_timer_init(&e->loop, &e->beat, on_beat, e);
    loop_timer_start(&e->beat, 100, 200);
    e->beating = true;
    UNTIL(e, both_up);
    for (int i = 0; i < REPLICAS; i++)
        e->health[i] = start_health(e, i);
    return 0;
}

static inline int teardown(void **state)
{
    struct env *e = *state;
    for (int i = 0; i < REPLICAS; i++)
        if (harness_alive(e->health[i]))
            assert_int_equal(harness_stop(e->health[i]), 0);
    loop_timer_close(&e->beat, NULL);
    e->closed = false;
    store_close(e->store, on_closed, e);
    assert_true(loop_run_until(&e->loop, &e->closed, HARNESS_WAIT_MS));
    e->closed = false;
    bus_close(e->bus, 1000, on_closed, e);
    assert_true(loop_run_until(&e->loop, &e->closed, HARNESS_WAIT_MS));
    loop_done(&e->loop);
    for (int i = 0; i < REPLICAS; i++)
        MHD_stop_daemon(e->ways[i].http);
    harness_close(e->h);
    free(e);
    return 0;
}

/* ---- conditions ---- */

static inline const struct seen *last_of(const struct env *e, const char *target)
{
    const struct seen *s = NULL;
    for (size_t i = 0; i < e->n_seen; i++)
        if (strcmp(e->seen[i].target, target) == 0 && (!s || e->seen[i].epoch > s->epoch))
            s = &e->seen[i];
    return s;
}

static inline bool is(const struct env *e, const char *target, int state)
{
    const struct seen *s = last_of(e, target);
    return s && s->state == state;
}

static inline bool target_is(struct env *e)
{
    return is(e, names[e->target], e->state);
}

static inline void until_target(struct env *e, int target, int state)
{
    e->target = target;
    e->state = state;
    UNTIL(e, target_is);
}

static inline void until_all_healthy(struct env *e)
{
    for (int t = 0; t <= AGENT; t++)
        until_target(e, t, STATE(HEALTHY));
}

static inline bool ever(const struct env *e, const char *target, int state)
{
    for (size_t i = 0; i < e->n_seen; i++)
        if (strcmp(e->seen[i].target, target) == 0 && e->seen[i].state == state)
            return true;
    return false;
}

static inline size_t alerts_of(const struct env *e, const char *target, bool resolved)
{
    char key[128];
    size_t n = 0;
    snprintf(key, sizeof key, "health/%s", target);
    for (size_t i = 0; i < e->n_alerts; i++)
        n += strcmp(e->alerts[i].key, key) == 0 && e->alerts[i].resolved == resolved;
    return n;
}

static inline bool alert_is(struct env *e)
{
    return alerts_of(e, e->text, e->flag) > 0;
}

static inline void forget_calls(struct env *e)
{
    for (int i = 0; i < REPLICAS; i++)
        for (int t = 0; t < TARGETS; t++)
            atomic_store(&e->calls[i][t], 0);
}

static inline int probers_of(struct env *e, int target)
{
    int n = 0;
    for (int i = 0; i < REPLICAS; i++)
        n += atomic_load(&e->calls[i][target]) > 0;
    return n;
}

static inline int owner_of(struct env *e, int target)
{
    int owner = 0;
    for (int i = 1; i < REPLICAS; i++)
        if (atomic_load(&e->calls[i][target]) > atomic_load(&e->calls[owner][target]))
            owner = i;
    return owner;
}

static inline bool probed(struct env *e)
{
    for (int t = 0; t < TARGETS; t++)
        if (calls_of(e, t) == 0)
            return false;
    return true;
}

static inline const char *link_of(struct env *e, int replica)
{
    static char name[TARGET_MAX_LEN + 1];
    snprintf(name, sizeof name, "link.%s", e->instance[replica]);
    return name;
}
static inline bool link_is(struct env *e)
{
    return is(e, link_of(e, e->replica), e->state);
}

/* Steady: nobody is new, and all have come to rest. */
static inline void settle(struct env *e)
{
    until_all_healthy(e);
    watch_for(e, INTERVAL_MS);
    forget_calls(e);
}

#endif
