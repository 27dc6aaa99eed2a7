/* test_health_cluster.c - three replicas of redoubt-health on a real NATS and Redis, each with its own way to the targets.
 *
 * Every replica reaches the targets by a port of its own, so that the test sees who probes, and can make one of them blind. */
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

static int calls_of(struct env *e, int target)
{
    int n = 0;
    for (int i = 0; i < REPLICAS; i++)
        n += atomic_load(&e->calls[i][target]);
    return n;
}

static enum MHD_Result send_text(struct MHD_Connection *c, unsigned status, const char *type, const char *text)
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

static enum MHD_Result serve(void *ctx, struct MHD_Connection *c, const char *url, const char *method,
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

static void on_verdict(void *ctx, const struct bus_msg *m)
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

static void on_alert(void *ctx, const struct bus_msg *m)
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

static void on_audit(void *ctx, const struct bus_msg *m)
{
    struct env *e = ctx;
    PB(AuditRecord) *r = wire_unpack(PB_DESC(audit_record), m->data, m->len, NULL);
    assert_non_null(r);
    e->n_strict += r->audit_class == E_(AUDIT_CLASS__AUDIT_CLASS_STRICT) && strcmp(r->actor, "ada") == 0 &&
                   strncmp(r->action, "health.", 7) == 0;
    wire_free(r);
}

static void on_beat(void *ctx)
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

static void on_bus_up(void *ctx)
{
    ((struct env *)ctx)->bus_up = true;
}
static void on_store_up(void *ctx)
{
    ((struct env *)ctx)->store_up = true;
}
static void on_closed(void *ctx)
{
    ((struct env *)ctx)->closed = true;
}
static void nothing(void *ctx)
{
    (void)ctx;
}

static bool wait_for(struct env *e, bool (*holds)(struct env *e), int64_t limit_ms)
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

static bool both_up(struct env *e)
{
    return e->bus_up && e->store_up;
}
static bool later(struct env *e)
{
    return clock_mono_ms() >= e->until_ms;
}
/* A stretch of time in which something must not happen, or is counted. */
static void watch_for(struct env *e, int64_t ms)
{
    e->until_ms = clock_mono_ms() + ms;
    UNTIL(e, later);
}

static void on_members(void *ctx, enum store_status st, const redisReply *reply)
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

static bool members_are(struct env *e)
{
    e->asked = false;
    store_cmd(e->store, on_members, e, 4, (const char *[]){"ZRANGE", "redoubt:{health}:members", "0", "-1"}, NULL);
    assert_true(loop_run_until(&e->loop, &e->asked, HARNESS_WAIT_MS));
    return e->members == (size_t)e->replica;
}

static struct harness_proc *start_health(struct env *e, int i)
{
    char self[512], program[600], conf[600], name[16];
    ssize_t n = readlink("/proc/self/exe", self, sizeof self - 1);
    assert_true(n > 0);
    self[n] = 0;
    for (int k = 0; k < 3; k++) /* tests/integration/test_health_cluster */
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

static int setup(void **state)
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

static int teardown(void **state)
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

static const struct seen *last_of(const struct env *e, const char *target)
{
    const struct seen *s = NULL;
    for (size_t i = 0; i < e->n_seen; i++)
        if (strcmp(e->seen[i].target, target) == 0 && (!s || e->seen[i].epoch > s->epoch))
            s = &e->seen[i];
    return s;
}

static bool is(const struct env *e, const char *target, int state)
{
    const struct seen *s = last_of(e, target);
    return s && s->state == state;
}

static bool target_is(struct env *e)
{
    return is(e, names[e->target], e->state);
}

static void until_target(struct env *e, int target, int state)
{
    e->target = target;
    e->state = state;
    UNTIL(e, target_is);
}

static void until_all_healthy(struct env *e)
{
    for (int t = 0; t <= AGENT; t++)
        until_target(e, t, STATE(HEALTHY));
}

static bool ever(const struct env *e, const char *target, int state)
{
    for (size_t i = 0; i < e->n_seen; i++)
        if (strcmp(e->seen[i].target, target) == 0 && e->seen[i].state == state)
            return true;
    return false;
}

static size_t alerts_of(const struct env *e, const char *target, bool resolved)
{
    char key[128];
    size_t n = 0;
    snprintf(key, sizeof key, "health/%s", target);
    for (size_t i = 0; i < e->n_alerts; i++)
        n += strcmp(e->alerts[i].key, key) == 0 && e->alerts[i].resolved == resolved;
    return n;
}

static bool alert_is(struct env *e)
{
    return alerts_of(e, e->text, e->flag) > 0;
}

static void forget_calls(struct env *e)
{
    for (int i = 0; i < REPLICAS; i++)
        for (int t = 0; t < TARGETS; t++)
            atomic_store(&e->calls[i][t], 0);
}

static int probers_of(struct env *e, int target)
{
    int n = 0;
    for (int i = 0; i < REPLICAS; i++)
        n += atomic_load(&e->calls[i][target]) > 0;
    return n;
}

static int owner_of(struct env *e, int target)
{
    int owner = 0;
    for (int i = 1; i < REPLICAS; i++)
        if (atomic_load(&e->calls[i][target]) > atomic_load(&e->calls[owner][target]))
            owner = i;
    return owner;
}

static bool probed(struct env *e)
{
    for (int t = 0; t < TARGETS; t++)
        if (calls_of(e, t) == 0)
            return false;
    return true;
}

static const char *link_of(struct env *e, int replica)
{
    static char name[TARGET_MAX_LEN + 1];
    snprintf(name, sizeof name, "link.%s", e->instance[replica]);
    return name;
}
static bool link_is(struct env *e)
{
    return is(e, link_of(e, e->replica), e->state);
}

/* Steady: nobody is new, and all have come to rest. */
static void settle(struct env *e)
{
    until_all_healthy(e);
    watch_for(e, INTERVAL_MS);
    forget_calls(e);
}

/* ---- the tests ---- */

/* envoy 10498 and litellm 13782: n watchers and m targets must not make n x m probes. Each target is probed once per interval in the
 * whole cluster (by as many as it has vantage points), and after one dies again, by others. */
static void test_shared_probing(void **state)
{
    struct env *e = *state;
    const int intervals = 4;
    settle(e);
    watch_for(e, intervals * INTERVAL_MS);
    for (int t = 0; t < TARGETS; t++) {
        int vantage = t == WIDE ? 2 : t == AGREED ? 3 : 1;
        assert_int_equal(probers_of(e, t), vantage);
        assert_in_range(calls_of(e, t), (intervals - 1) * vantage, (intervals + 1) * vantage);
    }
    int dies = owner_of(e, PAID); /* so that the paid one moves, too */
    harness_kill(e->health[dies]);
    forget_calls(e);
    /* Its membership ends, the others are told, and begin within one stretch of the schedule. */
    int64_t began_ms = clock_mono_ms();
    UNTIL(e, probed);
    assert_true(clock_mono_ms() - began_ms < 2 * INTERVAL_MS + 2 * TTL_MS);
    watch_for(e, INTERVAL_MS);
    forget_calls(e);
    watch_for(e, intervals * INTERVAL_MS);
    for (int t = 0; t < TARGETS; t++) {
        int vantage = t == WIDE || t == AGREED ? 2 : 1; /* as many as are left */
        assert_int_equal(atomic_load(&e->calls[dies][t]), 0);
        assert_int_equal(probers_of(e, t), vantage);
        assert_in_range(calls_of(e, t), (intervals - 1) * vantage, (intervals + 1) * vantage);
    }
    for (int t = 0; t < TARGETS; t++) { /* moving is no news */
        assert_int_equal(last_of(e, names[t])->epoch, 1);
        assert_int_equal(last_of(e, names[t])->state, STATE(HEALTHY));
    }
}

/* consul 5567: one blind or sick watcher failed hundreds of healthy nodes. Here it is its link that is at fault, and said to be. */
static void test_one_blind_watcher(void **state)
{
    struct env *e = *state;
    settle(e);
    watch_for(e, 2 * INTERVAL_MS);
    int blind = owner_of(e, PAID);
    atomic_store(&e->ways[blind].blind, true);
    e->replica = blind;
    e->state = STATE(UNHEALTHY);
    UNTIL(e, link_is);
    const struct seen *s = last_of(e, link_of(e, blind));
    assert_non_null(strstr(s->reason, "reached by")); /* what, and by whom */
    e->text = link_of(e, blind);
    e->flag = false;
    UNTIL(e, alert_is);
    /* What it looked after is looked after by the others. */
    watch_for(e, INTERVAL_MS + 2 * TTL_MS);
    forget_calls(e);
    watch_for(e, 2 * INTERVAL_MS);
    for (int t = 0; t < TARGETS; t++) {
        assert_true(calls_of(e, t) - atomic_load(&e->calls[blind][t]) > 0);
        assert_false(ever(e, names[t], STATE(UNHEALTHY)));
        assert_false(ever(e, names[t], STATE(FLAPPING)));
        assert_int_equal(alerts_of(e, names[t], false), 0);
    }
    atomic_store(&e->ways[blind].blind, false);
    e->replica = blind;
    e->state = STATE(HEALTHY);
    UNTIL(e, link_is);
    e->flag = true;
    UNTIL(e, alert_is);
}

/* uptime-kuma 3845 and 84: alert only if n locations agree. */
static void test_majority_agrees(void **state)
{
    struct env *e = *state;
    settle(e);
    atomic_store(&e->down[1], true);
    until_target(e, 1, STATE(UNHEALTHY));
    assert_true(last_of(e, names[1])->n_votes >= 2 && last_of(e, names[1])->n_bad_votes >= 2);
    atomic_store(&e->busy[WIDE], true);
    until_target(e, WIDE, STATE(UNHEALTHY));
    assert_true(last_of(e, names[WIDE])->n_bad_votes == 2);
    e->beating = false; /* all of them hear that nothing is heard */
    until_target(e, AGENT, STATE(UNHEALTHY));
    assert_true(last_of(e, names[AGENT])->n_bad_votes >= 2);
    for (int i = 0; i < REPLICAS; i++)
        assert_false(ever(e, link_of(e, i), STATE(UNHEALTHY)));
    e->beating = true;
    until_target(e, AGENT, STATE(HEALTHY));
    atomic_store(&e->down[1], false);
    atomic_store(&e->busy[WIDE], false);
    until_target(e, 1, STATE(HEALTHY));
    until_target(e, WIDE, STATE(HEALTHY));
    /* An outage that begins when the owner has just died is found all the same. */
    forget_calls(e);
    watch_for(e, 2 * INTERVAL_MS);
    int owner = owner_of(e, 2);
    harness_kill(e->health[owner]);
    atomic_store(&e->down[2], true);
    until_target(e, 2, STATE(UNHEALTHY));
}

/* What most of the vantage points see is said, even where the one that says it sees it otherwise; and it ends with them. */
static void test_vantage_points(void **state)
{
    struct env *e = *state;
    settle(e);
    uint64_t members[REPLICAS];
    uint32_t sees; /* its owner, who reaches it all the time */
    for (int i = 0; i < REPLICAS; i++)
        members[i] = rank_hash(e->instance[i]);
    rank_first(members, REPLICAS, rank_hash(names[AGREED]), 1, &sees);
    for (int i = 0; i < REPLICAS; i++)
        atomic_store(&e->ways[i].blind, i != (int)sees);
    until_target(e, AGREED, STATE(UNHEALTHY));
    assert_string_equal(last_of(e, names[AGREED])->observer, e->instance[sees]);
    assert_int_equal(last_of(e, names[AGREED])->n_votes, 3);
    assert_int_equal(last_of(e, names[AGREED])->n_bad_votes, 2);
    assert_false(ever(e, link_of(e, (int)sees), STATE(UNHEALTHY)));
    for (int i = 0; i < REPLICAS; i++)
        atomic_store(&e->ways[i].blind, false);
    until_target(e, AGREED, STATE(HEALTHY));
}

/* consul 2890: what changes all the time is said to do so, once, by more than one watcher. */
static void test_flapping(void **state)
{
    struct env *e = *state;
    settle(e);
    atomic_store(&e->flaps[4], true);
    until_target(e, 4, STATE(FLAPPING));
    assert_true(last_of(e, names[4])->n_bad_votes >= 2);
    watch_for(e, 2 * INTERVAL_MS);
    size_t said = 0;
    for (size_t i = 0; i < e->n_seen; i++)
        said += strcmp(e->seen[i].target, names[4]) == 0 && e->seen[i].state == STATE(FLAPPING);
    assert_int_equal(said, 1);
    atomic_store(&e->flaps[4], false);
    until_target(e, 4, STATE(HEALTHY));
}

static void say_traffic(struct env *e, uint32_t calls, uint32_t failures)
{
    PB(TrafficSummary) m = E_(TRAFFIC_SUMMARY__INIT);
    m.target = (char *)names[PAID];
    m.observer = (char *)"breaker-1";
    m.span_ms = 500;
    m.calls = calls;
    m.failures = failures;
    m.sent_unix_ms = clock_wall_ms();
    size_t len;
    void *data = wire_pack(&m, &len, NULL);
    struct bus_out o = {.subject = SUBJECT_TRAFFIC "llm.paid", .type = wire_type(&m), .data = data, .len = len};
    (void)bus_publish(e->bus, &o, NULL);
    free(data);
}

static bool paid_probed(struct env *e)
{
    return calls_of(e, PAID) > 0;
}

/* envoy 24729: no probes while traffic proves health; a failure in traffic ends that at once. */
static void test_traffic_spares(void **state)
{
    struct env *e = *state;
    settle(e);
    say_traffic(e, 100, 0);
    watch_for(e, INTERVAL_MS / 4);
    forget_calls(e);
    for (int i = 0; i < 12; i++) { /* three intervals */
        say_traffic(e, 100, 0);
        watch_for(e, INTERVAL_MS / 4);
    }
    assert_int_equal(calls_of(e, PAID), 0);
    assert_true(calls_of(e, 1) >= 2); /* what is free is probed all the same */
    say_traffic(e, 100, 1);
    int64_t began_ms = clock_mono_ms();
    UNTIL(e, paid_probed);
    assert_true(clock_mono_ms() - began_ms < INTERVAL_MS);
    /* Nonsense is dropped. */
    say_traffic(e, 1, 5);
    watch_for(e, 2 * INTERVAL_MS);
    assert_true(calls_of(e, PAID) >= 2);
}

struct told {
    bool done;
    int status;
    char text[512];
};
static void on_told(void *ctx, enum bus_status st, const struct bus_msg *m)
{
    struct told *x = ctx;
    PB(CommandReply) *r = st == BUS_OK ? wire_unpack(PB_DESC(command_reply), m->data, m->len, NULL) : NULL;
    x->done = true;
    x->status = r ? (int)r->status : -1;
    snprintf(x->text, sizeof x->text, "%s", r ? r->message : bus_status_text(st));
    wire_free(r);
}

static int order(struct env *e, const char *verb, const char *target, const char *by, const char *reason,
                 uint64_t duration_ms)
{
    struct told x = {0};
    char subject[128];
    PB(HealthCommand) q = E_(HEALTH_COMMAND__INIT);
    q.target = (char *)target;
    q.by = (char *)by;
    q.reason = (char *)reason;
    q.duration_ms = duration_ms;
    size_t len;
    void *data = wire_pack(&q, &len, NULL);
    snprintf(subject, sizeof subject, SUBJECT_CMD "health.%s", verb);
    struct bus_out o = {.subject = subject, .type = wire_type(&q), .data = data, .len = len};
    bus_request(e->bus, &o, 8000, on_told, &x);
    free(data);
    assert_true(loop_run_until(&e->loop, &x.done, HARNESS_WAIT_MS));
    return x.status;
}
#define STATUS(x) E_(COMMAND_STATUS__COMMAND_STATUS_##x)

static bool two_strict(struct env *e)
{
    return e->n_strict >= 2;
}

static void test_maintenance(void **state)
{
    struct env *e = *state;
    settle(e);
    assert_int_equal(order(e, "maintain", names[1], "ada", "", 60000), STATUS(INVALID));
    assert_int_equal(order(e, "maintain", names[1], "", "upgrade", 60000), STATUS(INVALID));
    assert_int_equal(order(e, "maintain", names[1], "ada", "upgrade", 999), STATUS(INVALID)); /* has no end */
    assert_int_equal(order(e, "maintain", "other.none", "ada", "upgrade", 60000), STATUS(INVALID));
    assert_int_equal(order(e, "resume", names[1], "ada", "done", 0), STATUS(ALREADY));
    e->n_strict = 0;
    assert_int_equal(order(e, "maintain", names[1], "ada", "upgrade", 600000), STATUS(OK));
    assert_int_equal(order(e, "maintain", names[2], "ada", "upgrade", 4000), STATUS(OK));
    UNTIL(e, two_strict);
    until_target(e, 1, STATE(MAINTENANCE));
    until_target(e, 2, STATE(MAINTENANCE));
    assert_non_null(strstr(last_of(e, names[1])->reason, "ada: upgrade"));
    atomic_store(&e->down[1], true);
    /* It ends by itself, and says so. */
    int64_t since_ms = last_of(e, names[2])->at_ms;
    until_target(e, 2, STATE(HEALTHY));
    assert_true(last_of(e, names[2])->at_ms - since_ms >= 3000);
    /* Every replica honours it, those that were started later, too. */
    for (int i = 0; i < REPLICAS; i++) {
        assert_int_equal(harness_stop(e->health[i]), 0);
        harness_start(e->health[i]);
    }
    e->replica = REPLICAS;
    UNTIL(e, members_are);
    watch_for(e, 2 * INTERVAL_MS);
    assert_true(is(e, names[1], STATE(MAINTENANCE)));
    assert_int_equal(alerts_of(e, names[1], false), 0);
    assert_int_equal(order(e, "resume", names[1], "ada", "done", 0), STATUS(OK));
    until_target(e, 1, STATE(UNHEALTHY));
}

/* Whoever depends on something that is down is not alerted about; if it stays down, it is. */
static void test_parents(void **state)
{
    struct env *e = *state;
    settle(e);
    atomic_store(&e->down[0], true);
    until_target(e, 0, STATE(UNHEALTHY));
    e->text = names[0];
    e->flag = false;
    UNTIL(e, alert_is);
    atomic_store(&e->down[CHILD], true);
    until_target(e, CHILD, STATE(UNHEALTHY));
    assert_string_equal(last_of(e, names[CHILD])->suppressed_by, names[0]);
    watch_for(e, INTERVAL_MS);
    assert_int_equal(alerts_of(e, names[CHILD], false), 0);
    atomic_store(&e->down[0], false);
    until_target(e, 0, STATE(HEALTHY));
    e->text = names[CHILD];
    UNTIL(e, alert_is);
    assert_string_equal(last_of(e, names[CHILD])->suppressed_by, "");
    atomic_store(&e->down[CHILD], false);
    until_target(e, CHILD, STATE(HEALTHY));
    e->flag = true;
    UNTIL(e, alert_is);
}

/* Redis is away: what is free is watched by everybody who cannot be sure, what is paid by one. */
static void test_store_away(void **state)
{
    struct env *e = *state;
    settle(e);
    size_t seen = e->n_seen;
    harness_kill(e->redis);
    watch_for(e, 3 * TTL_MS + INTERVAL_MS + 1000); /* the last known members have shared until then */
    forget_calls(e);
    watch_for(e, 3 * INTERVAL_MS);
    assert_int_equal(probers_of(e, 1), REPLICAS);
    assert_in_range(calls_of(e, 1), 2 * REPLICAS, 4 * REPLICAS);
    assert_int_equal(probers_of(e, PAID), 1);
    assert_in_range(calls_of(e, PAID), 2, 4);
    assert_int_equal(e->n_seen, seen);
    harness_start(e->redis);
    e->replica = REPLICAS;
    UNTIL(e, members_are);
    watch_for(e, 2 * INTERVAL_MS);
    forget_calls(e);
    watch_for(e, 2 * INTERVAL_MS);
    assert_int_equal(probers_of(e, 1), 1);
    assert_int_equal(probers_of(e, PAID), 1);
    atomic_store(&e->down[1], true);
    until_target(e, 1, STATE(UNHEALTHY));
}

/* A service of the suite that answers everybody's $SRV.PING but one's. */
static void on_ping(void *ctx, const struct bus_msg *m)
{
    struct env *e = ctx;
    static const char pong[] = "{\"type\":\"io.nats.micro.v1.ping_response\",\"name\":\"redoubt-fake\","
                               "\"id\":\"host-fake-0\",\"version\":\"0\"}";
    static const char odd[] = "{\"name\":\"redoubt-fake\",\"id\":\"no token at all\"}";
    const char *who = m->reply ? strrchr(m->reply, '.') : NULL;
    if (!who || (e->deaf && strcmp(who + 1, e->instance[0]) == 0))
        return;
    struct bus_out o = {.subject = m->reply, .data = pong, .len = sizeof pong - 1};
    (void)bus_publish(e->bus, &o, NULL);
    o = (struct bus_out){.subject = m->reply, .data = odd, .len = sizeof odd - 1};
    (void)bus_publish(e->bus, &o, NULL);
    e->pongs++;
}
static bool all_ponged(struct env *e)
{
    return e->pongs >= REPLICAS;
}

/* A service that others hear and we do not: it is our link. One that nobody hears is gone, and that is nobody's. */
static void test_unheard_service(void **state)
{
    struct env *e = *state;
    assert_non_null(bus_subscribe(e->bus, "$SRV.PING", NULL, on_ping, e));
    settle(e);
    UNTIL(e, all_ponged);
    e->deaf = true;
    e->replica = 0;
    e->state = STATE(UNHEALTHY);
    UNTIL(e, link_is);
    assert_non_null(strstr(last_of(e, link_of(e, 0))->reason, "host-fake-0 does not answer here, but"));
    assert_false(ever(e, link_of(e, 1), STATE(UNHEALTHY)));
    assert_false(ever(e, link_of(e, 2), STATE(UNHEALTHY)));
    e->deaf = false;
    e->state = STATE(HEALTHY);
    UNTIL(e, link_is);
}

static bool once_more(struct env *e)
{
    return calls_of(e, 3) > 0;
}

/* A probe on demand comes from whoever looks after the target, whichever replica was told. A replica that leaves says so. */
static void test_probe_and_leave(void **state)
{
    struct env *e = *state;
    settle(e);
    assert_int_equal(order(e, "probe", names[3], "", "", 0), STATUS(OK));
    UNTIL(e, once_more);
    assert_int_equal(order(e, "probe", "other.none", "", "", 0), STATUS(INVALID));
    assert_int_equal(order(e, "show", link_of(e, 0), "", "", 0), STATUS(OK));
    assert_int_equal(order(e, "show", "link.nobody", "", "", 0), STATUS(INVALID));
    assert_int_equal(harness_stop(e->health[0]), 0);
    e->replica = REPLICAS - 1; /* at once, not when its lifetime ends */
    assert_true(members_are(e));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_shared_probing, setup, teardown),
        cmocka_unit_test_setup_teardown(test_one_blind_watcher, setup, teardown),
        cmocka_unit_test_setup_teardown(test_majority_agrees, setup, teardown),
        cmocka_unit_test_setup_teardown(test_vantage_points, setup, teardown),
        cmocka_unit_test_setup_teardown(test_flapping, setup, teardown),
        cmocka_unit_test_setup_teardown(test_traffic_spares, setup, teardown),
        cmocka_unit_test_setup_teardown(test_maintenance, setup, teardown),
        cmocka_unit_test_setup_teardown(test_parents, setup, teardown),
        cmocka_unit_test_setup_teardown(test_store_away, setup, teardown),
        cmocka_unit_test_setup_teardown(test_unheard_service, setup, teardown),
        cmocka_unit_test_setup_teardown(test_probe_and_leave, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
