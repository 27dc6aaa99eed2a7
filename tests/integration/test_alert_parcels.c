/* test_alert_parcels.c - parcels against a real stream and a real Redis; channels are the test's own: they accept, refuse, are slow or unknown. */
#include "alert/alert_parcels_priv.h"
#include "bus_kit.h"
#include <inttypes.h>

#define TOLD_MAX 6000

enum way { ACCEPT, REFUSE, HANG, UNKNOWN };
struct world;
struct alert_run {
    struct house *r;
    alert_run_cb cb;
    void *ctx;
    enum way way;
    char channel[ALERT_PARCEL_TOKEN_MAX + 1], owed[ALERT_PARCEL_TOKEN_MAX + 1];
    bool dropped, deferred;
    struct alert_run *next;
};
/* One telling: of whom, of what. */
struct telling {
    char node[ALERT_PARCEL_TOKEN_MAX + 1], id[65], left_out[65];
    char note[200];
    enum alert_message_kind kind;
    size_t n, total;
    int severity;
    bool resolved, critical;
    enum way way;
    size_t number; /* of all */
};
struct house {
    struct world *w;
    struct service service;
    struct settings settings;
    struct alert_room room;
    bool open, bus_closed, store_closed, lead_closed;
    char name[16];
    struct alert_run *hanging;
};
struct world {
    struct harness *h;
    struct harness_proc *nats, *redis;
    struct house r[2];
    struct set_route routes[2];
    struct set_quiet quiet[1];
    /* what a node does */
    struct {
        const char *node;
        enum way way;
        const char *owed;
    } nodes[4];
    struct telling told[TOLD_MAX];
    size_t n_told;
    int at_once, most_at_once;
    int puts, puts_ok, puts_failed;
    uint64_t counted;
    bool count_done;
    size_t receipts, receipts_of; /* and how many alerts their digest stands for */
    char receipt_parcel[65];
};

#define TURN(w)                                                                                                      \
    do {                                                                                                             \
        bool never_ = false;                                                                                         \
        for (int i_ = 0; i_ < 2; i_++)                                                                               \
            if ((w)->r[i_].open)                                                                                     \
                (void)loop_run_until(&(w)->r[i_].service.loop, &never_, 2);                                          \
    } while (0)
#define WAIT_MS(w, cond, limit_ms)                                                                                   \
    do {                                                                                                             \
        int64_t end_ = clock_mono_ms() + (limit_ms);                                                                 \
        while (!(cond)) {                                                                                            \
            if (clock_mono_ms() >= end_)                                                                             \
                fail_msg("waited %d ms in vain for: %s", (int)(limit_ms), #cond);                                    \
            TURN(w);                                                                                                 \
        }                                                                                                            \
    } while (0)
#define WAIT(w, cond) WAIT_MS(w, cond, 2 * HARNESS_WAIT_MS)

/* ---- channels ---- */

static void run_ended(void *ctx)
{
    struct alert_run *x = ctx;
    x->deferred = false;
    if (!x->dropped) {
        struct alert_run_end end = {.known = x->way != UNKNOWN, .told = x->way == ACCEPT, .channel = x->channel};
        if (x->way == REFUSE)
            end.owed[end.n_owed++] = x->channel;
        else if (x->way == ACCEPT && *x->owed)
            end.owed[end.n_owed++] = x->owed;
        x->r->w->at_once--;
        x->cb(x->ctx, &end);
    }
    free(x);
}

static struct alert_run *start(struct alert_room *room, const struct alert_run_opts *o, alert_run_cb cb, void *ctx)
{
    struct house *r = (struct house *)((char *)room - offsetof(struct house, room));
    struct world *w = r->w;
    struct alert_run *x = calloc(1, sizeof *x);
    *x = (struct alert_run){.r = r, .cb = cb, .ctx = ctx};
    snprintf(x->channel, sizeof x->channel, "%s", o->node);
    for (size_t i = 0; i < 4 && w->nodes[i].node; i++)
        if (strcmp(w->nodes[i].node, o->node) == 0) {
            x->way = w->nodes[i].way;
            snprintf(x->owed, sizeof x->owed, "%s", w->nodes[i].owed ? w->nodes[i].owed : "");
        }
    if (w->n_told < TOLD_MAX) {
        struct telling *t = &w->told[w->n_told];
        const struct alert_message *m = o->message;
        *t = (struct telling){.kind = m->kind,
                              .n = m->n,
                              .total = m->total,
                              .severity = m->severity,
                              .resolved = m->resolved,
                              .critical = o->critical,
                              .way = x->way,
                              .number = w->n_told};
        snprintf(t->node, sizeof t->node, "%s", o->node);
        snprintf(t->id, sizeof t->id, "%s", m->id);
        snprintf(t->note, sizeof t->note, "%s", m->note ? m->note : "");
        snprintf(t->left_out, sizeof t->left_out, "%s", o->left_out ? o->left_out : "");
        assert_false(o->record);
        assert_true(m->n >= 1 && m->n <= ALERT_SHOWN_MAX && m->total >= m->n);
        w->n_told++;
    }
    if (++w->at_once > w->most_at_once)
        w->most_at_once = w->at_once;
    if (x->way == HANG) {
        x->next = r->hanging;
        r->hanging = x;
    } else {
        x->deferred = true;
        loop_defer(&r->service.loop, run_ended, x);
    }
    return x;
}

static void drop(struct alert_run *x)
{
    x->dropped = true;
    x->r->w->at_once--;
    if (x->deferred)
        return;
    for (struct alert_run **at = &x->r->hanging; *at; at = &(*at)->next)
        if (*at == x) {
            *at = x->next;
            break;
        }
    free(x);
}

static void unhang(struct house *r, enum way way)
{
    while (r->hanging) {
        struct alert_run *x = r->hanging;
        r->hanging = x->next;
        x->way = way;
        x->deferred = true;
        loop_defer(&r->service.loop, run_ended, x);
    }
}

/* ---- replicas ---- */

static void on_bus_up(void *ctx)
{
    struct house *r = ctx;
    if (r->room.parcels)
        alert_parcels_up(r->room.parcels);
}
static void on_store_up(void *ctx)
{
    struct house *r = ctx;
    if (r->room.lead)
        alert_lead_store(r->room.lead, true);
}
static void on_store_down(void *ctx)
{
    struct house *r = ctx;
    if (r->room.lead)
        alert_lead_store(r->room.lead, false);
}
static void on_lead(void *ctx)
{
    (void)ctx;
}
static void on_true(void *ctx)
{
    *(bool *)ctx = true;
}

static void replica_open(struct world *w, int i)
{
    struct house *r = &w->r[i];
    struct err e = {""};
    struct settings keep = r->settings;
    *r = (struct house){.w = w, .settings = keep};
    snprintf(r->name, sizeof r->name, "alert-%d", i);
    assert_int_equal(loop_init(&r->service.loop), 0);
    r->service.settings = &r->settings;
    r->service.instance = r->name;
    r->service.bus = bus_open(
        &r->service.loop,
        &(struct bus_opts){
            .url = w->nats->url, .name = r->name, .inbox_prefix = "_INBOX_alert", .on_up = on_bus_up, .ctx = r},
        &e);
    assert_non_null(r->service.bus);
    r->service.store = store_open(
        &r->service.loop,
        &(struct store_opts){
            .host = "127.0.0.1", .port = w->redis->port, .on_up = on_store_up, .on_down = on_store_down, .ctx = r},
        &e);
    assert_non_null(r->service.store);
    r->room.service = &r->service;
    r->room.lead = alert_lead_open(
        &r->service.loop, r->service.store,
        &(struct alert_lead_opts){.instance = r->name, .lease_ttl_ms = 1000, .on_lead = on_lead, .ctx = r});
    r->room.parcels = alert_parcels_make(&r->room, &(struct alert_parcels_ways){start, drop});
    r->open = true;
    WAIT(w, bus_up(r->service.bus) && store_up(r->service.store));
}

static void replica_close(struct world *w, int i)
{
    struct house *r = &w->r[i];
    if (!r->open)
        return;
    alert_parcels_close(r->room.parcels);
    alert_lead_close(r->room.lead, on_true, &r->lead_closed);
    r->room.parcels = NULL;
    WAIT(w, r->lead_closed);
    r->room.lead = NULL;
    bus_close(r->service.bus, 1000, on_true, &r->bus_closed);
    store_close(r->service.store, on_true, &r->store_closed);
    WAIT(w, r->bus_closed && r->store_closed);
    for (int turn = 0; turn < 5; turn++)
        TURN(w);
    loop_done(&r->service.loop);
    r->open = false;
}

/* The servers are started once; each test finds them running, and the stream empty. */
static struct world servers;

static int open_servers(void **state)
{
    (void)state;
    servers.h = harness_open();
    servers.nats = harness_nats(servers.h, "nats", NULL);
    servers.redis = harness_redis(servers.h, "redis", NULL);
    return 0;
}

static int close_servers(void **state)
{
    (void)state;
    harness_close(servers.h);
    return 0;
}

static void on_emptied(void *ctx, enum bus_status st)
{
    assert_int_equal(st, BUS_OK);
    on_true(ctx);
}

static void on_forgotten(void *ctx, enum store_status st, const redisReply *r)
{
    (void)r;
    assert_int_equal(st, STORE_OK);
    on_true(ctx);
}

static int setup(void **state)
{
    struct world *w = calloc(1, sizeof *w);
    w->h = servers.h;
    w->nats = servers.nats;
    w->redis = servers.redis;
    if (!harness_alive(w->nats))
        harness_start(w->nats);
    if (!harness_alive(w->redis))
        harness_start(w->redis);
    static char empty[] = "", team[] = "team", ops[] = "ops", night[] = "night", midnight[] = "00:00";
    w->routes[0] = (struct set_route){.name = ops,
                                      .to = team,
                                      .escalation = empty,
                                      .quiet = empty,
                                      .group_wait_ms = 300,
                                      .group_interval_ms = 1500};
    w->quiet[0] = (struct set_quiet){.name = night, .from = midnight, .to = midnight, .below = 3};
    for (int i = 0; i < 2; i++)
        w->r[i].settings.alert = (struct set_alert){
            .routes = {w->routes, 1}, .quiet = {w->quiet, 1}, .digest_every_ms = 1000, .lease_ttl_ms = 1000};
    replica_open(w, 0);
    bool emptied = false, forgotten = false;
    bus_purge(w->r[0].service.bus, STREAM_PARCELS, SUBJECT_PARCEL ">", UINT64_MAX, 5000, on_emptied, &emptied);
    store_cmd(
        w->r[0].service.store, on_forgotten, &forgotten, 4,
        (const char *const[]){
            "EVAL", "for _, k in ipairs(redis.call('KEYS', 'redoubt:{alp:*')) do redis.call('DEL', k) end", "0", ""},
        NULL);
    WAIT(w, emptied && forgotten && alert_leads(w->r[0].room.lead));
    *state = w;
    return 0;
}

static int teardown(void **state)
{
    struct world *w = *state;
    replica_close(w, 0);
    replica_close(w, 1);
    free(w);
    return 0;
}

/* ---- what tests do ---- */

static void on_put(void *ctx, int status, const char *error)
{
    struct world *w = ctx;
    (void)error;
    w->puts_ok += status == 0;
    w->puts_failed += status != 0;
}

static void put(struct world *w, int replica, enum alert_parcel_reason reason, const char *node, const char *bucket,
                const char *id, const char *key, int severity, bool resolved)
{
    PB(Alert) a = REDOUBT__V1__ALERT__INIT;
    char own[64]; /* a server knows ids for two minutes, also those of an earlier test */
    static int test;
    if (w->puts == 0)
        test++;
    snprintf(own, sizeof own, "%d-%s", test, id);
    a.id = own;
    a.dedup_key = (char *)key;
    a.severity = (Redoubt__V1__Severity)severity;
    a.source = (char *)(strncmp(key, "channel/", 8) == 0 ? "alert" : "test");
    a.summary = (char *)"it is broken";
    a.resolved = resolved;
    a.raised_unix_ms = clock_wall_ms();
    w->puts++;
    alert_parcels_put(w->r[replica].room.parcels,
                      &(struct alert_put){.reason = reason, .node = node, .bucket = bucket, .alert = &a}, on_put, w);
}

static void put_many(struct world *w, enum alert_parcel_reason reason, const char *node, const char *bucket,
                     const char *prefix, int n, int severity)
{
    char id[32];
    for (int i = 0; i < n; i++) {
        snprintf(id, sizeof id, "%s%d", prefix, i);
        put(w, 0, reason, node, bucket, id, id, severity, false);
    }
    WAIT(w, w->puts_ok + w->puts_failed == w->puts);
    assert_int_equal(w->puts_failed, 0);
}

static void on_receipt(void *ctx, const struct bus_msg *m)
{
    struct world *w = ctx;
    struct err e;
    PB(DeliveryReceipt) *r = wire_unpack(PB_DESC(delivery_receipt), m->data, m->len, &e);
    if (!r)
        fail_msg("a receipt is not valid: %s", e.text);
    assert_int_equal(r->status, REDOUBT__V1__DELIVERY_STATUS__DELIVERY_STATUS_ACCEPTED);
    w->receipts++;
    w->receipts_of = r->alerts;
    snprintf(w->receipt_parcel, sizeof w->receipt_parcel, "%s", r->parcel);
    wire_free(r);
}

static void on_count(void *ctx, const char *subject, uint64_t n)
{
    (void)subject;
    ((struct world *)ctx)->counted += n;
}
static void on_counted(void *ctx, enum bus_status st, const struct bus_stock *stock)
{
    (void)stock;
    assert_int_equal(st, BUS_OK);
    ((struct world *)ctx)->count_done = true;
}
static uint64_t stands(struct world *w, const char *filter)
{
    w->counted = 0;
    w->count_done = false;
    struct house *r = w->r[0].open ? &w->r[0] : &w->r[1];
    bus_counts(r->service.bus, STREAM_PARCELS, filter, 5000, on_count, on_counted, w);
    WAIT(w, w->count_done);
    return w->counted;
}
#define ALL SUBJECT_PARCEL ">"

static size_t accepted(const struct world *w, const char *node)
{
    size_t n = 0;
    for (size_t i = 0; i < w->n_told; i++)
        n += w->told[i].way == ACCEPT && (!node || strcmp(w->told[i].node, node) == 0) ? w->told[i].total : 0;
    return n;
}

static void back(struct world *w)
{
    for (int i = 0; i < 2; i++)
        if (w->r[i].open)
            alert_parcels_back(w->r[i].room.parcels);
}

static uint64_t waiting(const struct world *w)
{
    uint64_t n = 0;
    for (int r = 0; r < ALERT_PARCEL_REASONS; r++)
        n += alert_parcels_waiting(w->r[0].room.parcels, (enum alert_parcel_reason)r);
    return n;
}

/* Of an alert's id, without the test's number. */
static const char *tail(const char *id)
{
    const char *dash = strchr(id, '-');
    return dash ? dash + 1 : id;
}

/* ---- the tests ---- */

static void a_few_go_by_themselves_in_order(void **state)
{
    struct world *w = *state;
    put(w, 0, ALERT_PARCEL_OWED, "team", "all", "a", "k", 3, false);
    WAIT(w, w->puts_ok == 1);
    put(w, 0, ALERT_PARCEL_OWED, "team", "all", "a", "k", 3, false); /* the same again is put by once */
    put(w, 0, ALERT_PARCEL_OWED, "team", "all", "b", "k", 3, true);
    put(w, 0, ALERT_PARCEL_OWED, "team", "all", "c", "channel/chat", 2, false);
    WAIT(w, w->puts_ok == 4);
    assert_int_equal(stands(w, ALL), 3);
    assert_int_equal(w->n_told, 0); /* all channels have just failed: not at once */
    back(w);
    WAIT(w, w->n_told == 3 && stands(w, ALL) == 0);
    for (size_t i = 0; i < 3; i++) {
        assert_int_equal(w->told[i].kind, ALERT_MESSAGE_ONE);
        assert_string_equal(w->told[i].node, "team");
        assert_non_null(strstr(w->told[i].note, "told late"));
    }
    size_t a = 9, b = 9;
    for (size_t i = 0; i < 3; i++) {
        if (strcmp(tail(w->told[i].id), "a") == 0)
            a = i;
        if (strcmp(tail(w->told[i].id), "b") == 0)
            b = i;
        assert_string_equal(w->told[i].left_out, strcmp(tail(w->told[i].id), "c") == 0 ? "chat" : "");
    }
    assert_true(a < b); /* the end after the beginning */
    WAIT(w, waiting(w) == 0);
}

static void many_go_out_as_one(void **state)
{
    struct world *w = *state;
    bus_subscribe(w->r[0].service.bus, SUBJECT_DELIVERY ">", NULL, on_receipt, w);
    put_many(w, ALERT_PARCEL_OWED, "team", "all", "m", 250, 2);
    put(w, 0, ALERT_PARCEL_OWED, "team", "all", "over", "m7", 2, true);
    put(w, 0, ALERT_PARCEL_OWED, "team", "all", "high", "high", 3, false);
    WAIT(w, w->puts_ok == 252);
    back(w);
    WAIT(w, w->n_told == 1 && stands(w, ALL) == 0);
    const struct telling *t = &w->told[0];
    assert_int_equal(t->kind, ALERT_MESSAGE_DIGEST);
    assert_int_equal(t->total, 252);
    assert_int_equal(t->n, ALERT_SHOWN_MAX);
    assert_int_equal(t->severity, 3);
    assert_false(t->resolved);
    assert_non_null(strstr(t->note, "1 high, 250 warning; 1 problem is over; not shown: 151 problems"));
    /* Those that it only counts have receipts, too; of those that it holds the run says them. */
    assert_int_equal(w->receipts, 252 - ALERT_SHOWN_MAX);
    assert_int_equal(w->receipts_of, 252);
    assert_string_equal(w->receipt_parcel, t->id);
}

static void critical_ones_first_and_by_themselves(void **state)
{
    struct world *w = *state;
    w->nodes[0].node = "team";
    w->nodes[0].way = REFUSE;
    put_many(w, ALERT_PARCEL_OWED, "team", "all", "h", 10, 3);
    put_many(w, ALERT_PARCEL_OWED, "team", "all", "c", 25, 4);
    assert_int_equal(stands(w, SUBJECT_PARCEL "owed.team.critical"), 25);
    back(w);
    WAIT(w, w->n_told >= 2);
    for (int turn = 0; turn < 100; turn++)
        TURN(w);
    assert_int_equal(w->n_told, 2); /* no storm: one critical one and the digest have found out */
    assert_true(w->told[0].critical);
    assert_int_equal(w->told[1].kind, ALERT_MESSAGE_DIGEST);
    w->n_told = 0;
    w->nodes[0].way = ACCEPT;
    back(w);
    WAIT(w, stands(w, ALL) == 0);
    assert_int_equal(w->n_told, 22);
    size_t alone = 0, digest = 0;
    for (size_t i = 0; i < 22; i++) {
        if (w->told[i].kind == ALERT_MESSAGE_ONE) {
            assert_true(w->told[i].critical);
            alone++;
            assert_true(digest == 0 || w->told[digest].total == 5); /* before any other */
        } else if (w->told[i].severity == 4) {
            assert_int_equal(w->told[i].total, 5);
        } else {
            assert_int_equal(w->told[i].total, 10);
            digest = i;
        }
    }
    assert_int_equal(alone, 20);
    assert_int_equal(accepted(w, "team"), 35);
}

/* Whoever sends it and however often: one digest is one message until somebody has taken it. What comes meanwhile is another. */
static void a_digest_keeps_what_it_holds(void **state)
{
    struct world *w = *state;
    char id[65];
    w->nodes[0].node = "team";
    w->nodes[0].way = REFUSE;
    put_many(w, ALERT_PARCEL_OWED, "team", "all", "x", 10, 3);
    back(w);
    WAIT(w, w->n_told == 1);
    snprintf(id, sizeof id, "%s", w->told[0].id);
    put_many(w, ALERT_PARCEL_OWED, "team", "all", "y", 7, 3);
    back(w);
    WAIT(w, w->n_told == 2);
    assert_string_equal(w->told[1].id, id);
    assert_int_equal(w->told[1].total, 10);
    /* Another replica takes over, and sends the same. */
    replica_open(w, 1);
    replica_close(w, 0);
    WAIT(w, alert_leads(w->r[1].room.lead));
    WAIT(w, w->n_told >= 3);
    assert_string_equal(w->told[2].id, id);
    assert_int_equal(w->told[2].total, 10);
    w->nodes[0].way = ACCEPT;
    back(w);
    WAIT(w, accepted(w, "team") == 17 && stands(w, ALL) == 0);
    assert_string_equal(w->told[w->n_told - 2].id, id);
    assert_string_not_equal(w->told[w->n_told - 1].id, id);
    assert_int_equal(w->told[w->n_told - 1].total, 7);
}

static void a_fan_out_is_completed_and_not_repeated(void **state)
{
    struct world *w = *state;
    w->nodes[0].node = "team"; /* accepts, but for its member chat */
    w->nodes[0].way = ACCEPT;
    w->nodes[0].owed = "chat";
    w->nodes[1].node = "chat";
    w->nodes[1].way = REFUSE;
    put_many(w, ALERT_PARCEL_QUIET, "team", "gone", "q", 600, 3); /* hours that are no more: at once */
    WAIT(w, accepted(w, "team") == 600);
    WAIT_MS(w, stands(w, SUBJECT_PARCEL "owed.chat.all") == 600 && stands(w, ALL) == 600, 30000);
    back(w);
    WAIT(w, w->n_told >= 2);
    assert_string_equal(w->told[1].node, "chat");
    assert_int_equal(w->told[1].total, 600);
    w->nodes[1].way = ACCEPT;
    back(w);
    WAIT(w, stands(w, ALL) == 0);
    assert_int_equal(accepted(w, "team"), 600); /* those who had it never got it again */
    assert_int_equal(accepted(w, "chat"), 600);
    /* One by itself, the same way. */
    w->nodes[1].way = REFUSE;
    put(w, 0, ALERT_PARCEL_QUIET, "team", "gone", "single", "single", 4, false);
    WAIT(w, stands(w, SUBJECT_PARCEL "owed.chat.critical") == 1 && stands(w, ALL) == 1);
    assert_int_equal(accepted(w, "team"), 601);
    w->nodes[1].way = ACCEPT;
    back(w);
    WAIT(w, accepted(w, "chat") == 601 && stands(w, ALL) == 0);
    assert_int_equal(accepted(w, "team"), 601);
}

static void groups_wait_and_keep_their_distance(void **state)
{
    struct world *w = *state;
    int64_t begin = clock_mono_ms();
    put_many(w, ALERT_PARCEL_GROUP, "team", "ops-0001", "g", 5, 3);
    put_many(w, ALERT_PARCEL_GROUP, "team", "ops-0002", "other", 1, 2);
    WAIT(w, w->n_told == 2);
    assert_true(clock_mono_ms() - begin >= 300);
    for (size_t i = 0; i < 2; i++) {
        assert_int_equal(w->told[i].kind, w->told[i].total == 5 ? ALERT_MESSAGE_GROUP : ALERT_MESSAGE_ONE);
        assert_int_equal(w->told[i].total, w->told[i].total == 5 ? 5 : 1);
    }
    WAIT(w, stands(w, ALL) == 0);
    int64_t first = clock_mono_ms();
    put_many(w, ALERT_PARCEL_GROUP, "team", "ops-0001", "more", 3, 3);
    /* Also after a restart: Redis knows when people were told. */
    replica_close(w, 0);
    replica_open(w, 0);
    WAIT(w, w->n_told == 3);
    assert_true(clock_mono_ms() - first >=
                1000); /* 1.5 s from the first, less what passed until it was off the stream */
    assert_int_equal(w->told[2].total, 3);
}

/* Groups do not wait for each other one by one; nor do they all come at once. */
static void many_groups_go_side_by_side(void **state)
{
    struct world *w = *state;
    char bucket[32], id[32];
    w->nodes[0].node = "team";
    w->nodes[0].way = HANG;
    for (int i = 0; i < 20; i++) {
        snprintf(bucket, sizeof bucket, "ops-%04d", i);
        snprintf(id, sizeof id, "g%d", i);
        put(w, 0, ALERT_PARCEL_GROUP, "team", bucket, id, id, 3, false);
    }
    WAIT(w, w->n_told == PARCEL_GROUPS_MAX);
    for (int turn = 0; turn < 100; turn++)
        TURN(w);
    assert_int_equal(w->n_told, PARCEL_GROUPS_MAX);
    w->nodes[0].way = ACCEPT;
    unhang(&w->r[0], ACCEPT);
    WAIT(w, accepted(w, "team") + PARCEL_GROUPS_MAX == 20 &&
                stands(w, ALL) == 0); /* those that hung are noted as that */
    assert_int_equal(w->most_at_once, PARCEL_GROUPS_MAX);
}

static void quiet_hours_by_the_settings_of_now(void **state)
{
    struct world *w = *state;
    put_many(w, ALERT_PARCEL_QUIET, "team", "night", "n", 4, 2); /* from midnight to midnight: now */
    back(w);
    alert_parcels_reload(w->r[0].room.parcels);
    for (int turn = 0; turn < 200; turn++)
        TURN(w);
    assert_int_equal(w->n_told, 0);
    assert_int_equal(alert_parcels_waiting(w->r[0].room.parcels, ALERT_PARCEL_QUIET), 4);
    /* No more of that: a weekday that is not today. */
    static const char *const names[] = {"sun", "mon", "tue", "wed", "thu", "fri", "sat"};
    time_t t = time(NULL);
    struct tm local;
    localtime_r(&t, &local);
    char *days[] = {(char *)names[(local.tm_wday + 3) % 7]};
    w->quiet[0].days = (struct conf_list){days, 1};
    alert_parcels_reload(w->r[0].room.parcels);
    WAIT(w, w->n_told == 1 && stands(w, ALL) == 0);
    assert_int_equal(w->told[0].total, 4);
    assert_non_null(strstr(w->told[0].note, "4 warning"));
}

static void overflow_comes_as_a_digest_now_and_then(void **state)
{
    struct world *w = *state;
    put_many(w, ALERT_PARCEL_OVERFLOW, "chat", "all", "o", 30, 1);
    WAIT(w, w->n_told == 1);
    int64_t first = clock_mono_ms();
    assert_int_equal(w->told[0].total, 30);
    put_many(w, ALERT_PARCEL_OVERFLOW, "chat", "all", "p", 30, 1);
    WAIT(w, w->n_told == 2);
    assert_true(clock_mono_ms() - first >= 800);
    put_many(w, ALERT_PARCEL_OVERFLOW, "chat", "all", "q", 2, 4); /* critical: as soon as there is room */
    WAIT(w, w->n_told == 4 && stands(w, ALL) == 0);
    assert_true(w->told[2].critical && w->told[3].critical);
}

static void a_node_that_is_gone_goes_by_the_default_route(void **state)
{
    struct world *w = *state;
    w->nodes[0].node = "old";
    w->nodes[0].way = UNKNOWN;
    put_many(w, ALERT_PARCEL_OWED, "old", "all", "u", 10, 3);
    put_many(w, ALERT_PARCEL_OWED, "old", "all", "c", 1, 4);
    back(w);
    WAIT(w, accepted(w, "team") == 11 && stands(w, ALL) == 0);
    for (size_t i = 0; i < w->n_told; i++)
        if (w->told[i].way == ACCEPT)
            assert_non_null(strstr(w->told[i].note, "meant for old, which the settings no longer have"));
    /* Without a route they wait until there is one. */
    w->r[0].settings.alert.routes.n = 0;
    w->n_told = 0;
    put_many(w, ALERT_PARCEL_OWED, "old", "all", "v", 10, 3);
    back(w);
    WAIT(w, w->n_told == 1);
    for (int turn = 0; turn < 50; turn++)
        TURN(w);
    assert_int_equal(stands(w, ALL), 10);
    w->r[0].settings.alert.routes.n = 1;
    alert_parcels_reload(w->r[0].room.parcels);
    WAIT(w, accepted(w, "team") == 10 && stands(w, ALL) == 0);
}

static void a_slow_node_delays_no_other(void **state)
{
    struct world *w = *state;
    w->nodes[0].node = "slow";
    w->nodes[0].way = HANG;
    put_many(w, ALERT_PARCEL_OWED, "slow", "all", "s", 10, 3);
    back(w);
    WAIT(w, w->n_told == 1);
    put_many(w, ALERT_PARCEL_OWED, "slow", "all", "c", 3, 4); /* waits: one at a time by one node */
    put_many(w, ALERT_PARCEL_OWED, "team", "all", "t", 10, 3);
    back(w);
    WAIT(w, accepted(w, "team") == 10);
    assert_int_equal(w->n_told, 2);
    w->nodes[0].way = ACCEPT;
    unhang(&w->r[0], ACCEPT);
    back(w);
    WAIT(w, stands(w, ALL) == 0);
    assert_int_equal(w->n_told, 5);
}

/* The server dies between the telling and the taking off: it is taken off when the server is back, and not told again. */
static void what_is_told_is_told_once(void **state)
{
    struct world *w = *state;
    w->nodes[0].node = "team";
    w->nodes[0].way = HANG;
    put_many(w, ALERT_PARCEL_OWED, "team", "all", "d", 50, 3);
    put_many(w, ALERT_PARCEL_OWED, "mail", "all", "e", 2, 3);
    back(w);
    WAIT(w, w->n_told == 3 || w->r[0].hanging);
    harness_stop(w->nats);
    unhang(&w->r[0], ACCEPT);
    for (int turn = 0; turn < 100; turn++)
        TURN(w);
    w->nodes[0].way = ACCEPT;
    harness_start(w->nats);
    WAIT(w, bus_up(w->r[0].service.bus));
    back(w);
    WAIT_MS(w, stands(w, ALL) == 0, 30000);
    size_t digests = 0, singles = 0;
    for (size_t i = 0; i < w->n_told; i++) {
        digests += strcmp(w->told[i].node, "team") == 0;
        singles += strcmp(w->told[i].node, "mail") == 0;
    }
    assert_int_equal(digests, 1);
    assert_int_equal(singles, 2);
}

static void closing_in_the_middle_loses_nothing(void **state)
{
    struct world *w = *state;
    w->nodes[0].node = "team";
    w->nodes[0].way = HANG;
    put_many(w, ALERT_PARCEL_OWED, "team", "all", "z", 100, 3);
    put_many(w, ALERT_PARCEL_OWED, "team", "all", "zc", 30, 4);
    back(w);
    WAIT(w, w->n_told >= 1);
    put(w, 0, ALERT_PARCEL_OWED, "team", "all", "last", "last", 3, false);
    replica_close(w, 0); /* what was being put by ends one way or the other */
    assert_int_equal(w->puts_ok + w->puts_failed, w->puts);
    w->nodes[0].way = ACCEPT;
    w->n_told = 0;
    replica_open(w, 0);
    back(w);
    WAIT(w, accepted(w, "team") >= 130 && stands(w, ALL) == 0);
    assert_in_range(accepted(w, "team"), 130, 131);
}

static void what_cannot_be_put_by_is_said(void **state)
{
    struct world *w = *state;
    put(w, 0, ALERT_PARCEL_OWED, "not a token", "all", "a", "a", 3, false);
    assert_int_equal(w->puts_failed, 0); /* never from inside */
    WAIT(w, w->puts_failed == 1);
    put(w, 0, ALERT_PARCEL_GROUP, "team", "a.b", "a", "a", 3, false);
    put(w, 0, ALERT_PARCEL_OWED, "team", "all", "no id of ours", "a", 3, false); /* breaks the contract */
    WAIT(w, w->puts_failed == 3);
    w->r[0].room.parcels->put_limit_ms = 500;
    harness_stop(w->nats);
    put(w, 0, ALERT_PARCEL_OWED, "team", "all", "away", "a", 3, false);
    WAIT(w, w->puts_failed == 4);
    harness_start(w->nats);
    w->r[0].room.parcels->put_limit_ms = 30000;
    put(w, 0, ALERT_PARCEL_OWED, "team", "all", "there", "a", 3, false);
    WAIT(w, w->puts_ok == 1);
    back(w);
    WAIT(w, stands(w, ALL) == 0);
}

/* Many more than fit into memory would be, of many problems: one digest, bounded reads, all of them gone. */
static void a_burst_ends_in_a_digest(void **state)
{
    enum { N = 3000 };
    struct world *w = *state;
    w->nodes[0].node = "team";
    w->nodes[0].way = REFUSE;
    put_many(w, ALERT_PARCEL_OWED, "team", "all", "b", N / 2, 2);
    put_many(w, ALERT_PARCEL_OWED, "other", "all", "i", 50,
             2); /* in between: what is read is not all of one bucket */
    put_many(w, ALERT_PARCEL_OWED, "team", "all", "e", N / 2, 1);
    w->nodes[0].way = ACCEPT;
    back(w);
    WAIT_MS(w, stands(w, ALL) == 0, 30000);
    assert_int_equal(accepted(w, "team"), N);
    assert_int_equal(accepted(w, "other"), 50);
    size_t messages = 0;
    for (size_t i = 0; i < w->n_told; i++)
        messages += strcmp(w->told[i].node, "team") == 0 && w->told[i].way == ACCEPT;
    assert_true(messages <= 2);
    WAIT(w, waiting(w) == 0);
}

static void without_redis_they_go_out_all_the_same(void **state)
{
    struct world *w = *state;
    harness_kill(w->redis);
    put_many(w, ALERT_PARCEL_OWED, "team", "all", "r", 10, 3);
    WAIT(w, !store_up(w->r[0].service.store));
    back(w);
    WAIT(w,
         accepted(w, "team") == 10 && stands(w, ALL) == 0); /* after twice the lease's lifetime each replica leads */
    harness_start(w->redis);
    WAIT(w, alert_leads(w->r[0].room.lead) && store_up(w->r[0].service.store));
    put_many(w, ALERT_PARCEL_OWED, "team", "all", "s", 10, 3);
    back(w);
    WAIT(w, accepted(w, "team") == 20);
}

#define TEST(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)
int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_few_go_by_themselves_in_order),
        TEST(many_go_out_as_one),
        TEST(critical_ones_first_and_by_themselves),
        TEST(a_digest_keeps_what_it_holds),
        TEST(a_fan_out_is_completed_and_not_repeated),
        TEST(groups_wait_and_keep_their_distance),
        TEST(many_groups_go_side_by_side),
        TEST(quiet_hours_by_the_settings_of_now),
        TEST(overflow_comes_as_a_digest_now_and_then),
        TEST(a_node_that_is_gone_goes_by_the_default_route),
        TEST(a_slow_node_delays_no_other),
        TEST(what_is_told_is_told_once),
        TEST(closing_in_the_middle_loses_nothing),
        TEST(what_cannot_be_put_by_is_said),
        TEST(a_burst_ends_in_a_digest),
        TEST(without_redis_they_go_out_all_the_same),
    };
    return cmocka_run_group_tests(tests, open_servers, close_servers);
}
