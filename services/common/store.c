/* store.c - Redis for one loop: the queue of commands in flight, its deadline, scripts, and reconnecting.
 *
 * The happy path: resolve -> connect -> AUTH, SELECT, PING in one write -> up. A command is appended to the ring `flight`
 * and to the link's buffer; answers come in order and take the oldest from the ring.
 *
 * What can fail: the name, the connection, the greeting, or an answer that is overdue. All of it ends in drop(): what
 * is in flight becomes STORE_UNKNOWN, and after a pause (50 ms doubling to 2 s, with jitter) it starts again. A callback that
 * is not an answer never runs from inside the call that caused it: it goes by way of the ring `late`.
 *
 * With Sentinels (store_finder.c) they are asked first, and on while up; only a server whose ROLE is primary will do. And any server that takes
 * no writes (READONLY, NOREPLICAS) is left: for who stands on shared state, it is away. */
#include "common/store.h"
#include "common/clock.h"
#include "common/metric.h"
#include "common/sm.h"
#include "common/store_finder.h"
#include "common/store_format.h"
#include "common/store_lookup.h"
#include "common/store_ring.h"
#include "common/store_sentinel.h"
#include "common/store_uv.h"
#include <assert.h>
#include <sodium.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define COMMAND_TIMEOUT_MS 1000
#define BACKOFF_MIN_MS     50
#define BACKOFF_MAX_MS     2000
#define SEEK_MAX_MS        500  /* the same with Sentinels: a fail-over is followed as soon as one knows it */
#define STEADY_MS          2000 /* up for this long: the next pause starts small again */
#define OVERDUE_FACTOR     4    /* answers that do come may be this much late */
#define PULL_AGAIN_MS      5
#define FLIGHT_MAX         (64 * 1024) /* commands */
#define FLIGHT_BYTES_MAX   (64u << 20) /* of commands not yet answered */

METRIC_DEFINE(commands, METRIC_COUNTER, "redoubt_store_commands_total", "Commands sent to Redis.");
METRIC_DEFINE(refused, METRIC_COUNTER, "redoubt_store_refused_total",
              "Commands given while Redis was not connected.");
METRIC_DEFINE(unknown, METRIC_COUNTER, "redoubt_store_unknown_total", "Commands sent whose answer never came.");
METRIC_DEFINE(errors, METRIC_COUNTER, "redoubt_store_errors_total", "Commands that Redis answered with an error.");
METRIC_DEFINE(overdue, METRIC_COUNTER, "redoubt_store_overdue_total", "Connections dropped for an overdue answer.");
METRIC_DEFINE(connects, METRIC_COUNTER, "redoubt_store_connects_total", "Connections to Redis that came up.");
METRIC_DEFINE(no_writes, METRIC_COUNTER, "redoubt_store_no_writes_total",
              "Connections dropped because the server took no writes: a replica, or a primary with too few.");
METRIC_DEFINE(up_now, METRIC_GAUGE, "redoubt_store_up", "1 while Redis is connected.");

enum state { PAUSING, SEEKING, RESOLVING, CONNECTING, GREETING, UP, CLOSING, STATES };
static const struct sm_table store_sm = {
    .name = "store",
    .n = STATES,
    .state_names =
        (const char *const[]){"pausing", "seeking", "resolving", "connecting", "greeting", "up", "closing"},
    .allowed = (const uint32_t[]){
        [PAUSING] = SM_BIT(SEEKING) | SM_BIT(RESOLVING) | SM_BIT(CLOSING),
        [SEEKING] = SM_BIT(RESOLVING) | SM_BIT(PAUSING) | SM_BIT(CLOSING),
        [RESOLVING] = SM_BIT(CONNECTING) | SM_BIT(SEEKING) | SM_BIT(PAUSING) | SM_BIT(CLOSING),
        [CONNECTING] = SM_BIT(CONNECTING) | SM_BIT(GREETING) | SM_BIT(SEEKING) | SM_BIT(PAUSING) | SM_BIT(CLOSING),
        [GREETING] = SM_BIT(UP) | SM_BIT(SEEKING) | SM_BIT(PAUSING) | SM_BIT(CLOSING),
        [UP] = SM_BIT(PAUSING) | SM_BIT(CLOSING),
        [CLOSING] = 0,
    }};

struct store {
    struct loop *loop;
    struct store_place at;       /* where it is, or shall be; with Sentinels, what one of them named last */
    struct store_finder *finder; /* NULL without Sentinels */
    char *master;                /* what they call it */
    char *user, *password;
    int db;
    int64_t timeout_ms;
    void (*on_up)(void *ctx);
    void (*on_down)(void *ctx);
    void *ctx;

    int state;
    struct loop_timer timer; /* what it is for depends on the state: pause, attempt, or the oldest answer */
    struct store_lookup lookup;
    struct store_link *link;
    int links_open;
    int greetings_left;
    bool wary; /* the server before took no writes: the greeting tries one */
    int64_t pause_ms, up_since_ms;
    char error[ERR_TEXT_MAX];

    struct store_ring flight, late;
    size_t flight_bytes;
    uint64_t answers; /* ever taken */
    bool late_due;    /* deliver() is deferred */
    bool timer_closed, finder_closed;
    loop_cb close_done;
    void *close_ctx;
};

/* ---- callbacks that are no answers ---- */

static void finish_close(struct store *s);

static void deliver(void *ctx)
{
    struct store *s = ctx;
    s->late_due = false;
    for (size_t n = s->late.n; n > 0; n--) { /* what a callback adds waits for the next turn */
        struct store_item c = store_ring_pop(&s->late);
        c.cb(c.ctx, c.st, NULL);
    }
    finish_close(s);
}

static void later(struct store *s, store_cb cb, void *ctx, enum store_status st)
{
    if (!cb)
        return;
    struct store_item *c = store_ring_push(&s->late);
    c->cb = cb;
    c->ctx = ctx;
    c->st = st;
    if (!s->late_due) {
        s->late_due = true;
        loop_defer(s->loop, deliver, s);
    }
}

static void fail_flight(struct store *s, enum store_status st)
{
    while (s->flight.n > 0) {
        struct store_item c = store_ring_pop(&s->flight);
        store_item_done(&c);
        if (c.load)
            c.script->sha_state = STORE_SHA_UNKNOWN;
        else if (!c.greeting)
            metric_add(&unknown, 1);
        later(s, c.cb, c.ctx, st);
    }
    s->flight_bytes = 0;
}

/* ---- connecting ---- */

static void try_next(struct store *s);

static void pause_then_retry(struct store *s)
{
    sm_move(&store_sm, &s->state, PAUSING);
    uint32_t spread = (uint32_t)(s->pause_ms / 2); /* 75 to 125 %: replicas do not come in step */
    int64_t wait = s->pause_ms - spread / 2 + randombytes_uniform(spread + 1);
    int64_t max_ms = s->finder ? SEEK_MAX_MS : BACKOFF_MAX_MS;
    s->pause_ms = s->pause_ms * 2 > max_ms ? max_ms : s->pause_ms * 2;
    loop_timer_start(&s->timer, wait, 0);
}

/* The connection, or the attempt, is over. */
static void drop(struct store *s, const char *why)
{
    bool was_up = s->state == UP, attempt = s->state == RESOLVING || s->state == CONNECTING;
    bool named = s->finder && (attempt || s->state == GREETING); /* one of the Sentinels has sent us here */
    if (s->state == SEEKING)
        snprintf(s->error, sizeof s->error, "Redis %s: no primary: %.400s", s->master, why);
    else
        snprintf(s->error, sizeof s->error, "Redis at %s port %d: %s", s->at.host, s->at.port, why);
    loop_timer_stop(&s->timer);
    store_lookup_cancel(&s->lookup);
    if (s->link) {
        store_link_close(s->link);
        s->link = NULL;
    }
    fail_flight(s, STORE_UNKNOWN);
    if (was_up) {
        metric_set(&up_now, 0);
        if (clock_mono_ms() - s->up_since_ms >= STEADY_MS)
            s->pause_ms = BACKOFF_MIN_MS;
    }
    if (attempt && store_lookup_more(&s->lookup)) { /* a name with several addresses: the next one at once */
        try_next(s);
        return;
    }
    if (named && store_finder_seek_on(s->finder)) {
        sm_move(&store_sm, &s->state, SEEKING);
        return;
    }
    if (s->finder)
        store_finder_rest(s->finder);
    pause_then_retry(s);
    if (was_up && s->on_down)
        s->on_down(s->ctx);
}

static int push_sent(struct store *s, const char *cmd, size_t len, struct store_item model)
{
    if (store_link_send(s->link, cmd, len) < 0)
        return -1;
    struct store_item *c = store_ring_push(&s->flight);
    *c = model;
    c->sent_ms = clock_mono_ms();
    c->bytes = len;
    s->flight_bytes += len;
    if (!loop_timer_active(&s->timer))
        loop_timer_start(&s->timer, s->timeout_ms, 0);
    return 0;
}

static int greet(struct store *s, int argc, const char **argv)
{
    size_t len;
    char *cmd = store_command(argc, argv, NULL, &len);
    if (!cmd)
        return -1;
    int r = push_sent(s, cmd, len, (struct store_item){.greeting = argv[0]});
    sodium_memzero(cmd, len); /* AUTH */
    free(cmd);
    s->greetings_left++;
    return r;
}

static void link_connected(void *ctx)
{
    struct store *s = ctx;
    sm_move(&store_sm, &s->state, GREETING);
    loop_timer_stop(&s->timer);
    s->greetings_left = 0;
    int r = 0;
    if (s->user)
        r |= greet(s, 3, (const char *[]){"AUTH", s->user, s->password ? s->password : ""});
    else if (s->password)
        r |= greet(s, 2, (const char *[]){"AUTH", s->password});
    if (s->db) {
        char db[16];
        snprintf(db, sizeof db, "%d", s->db);
        r |= greet(s, 2, (const char *[]){"SELECT", db});
    }
    if (s->finder)
        r |= greet(s, 1, (const char *[]){"ROLE"});
    /* A script that may write is refused where writes are, and needs no key that a user may have no right to. */
    if (s->finder || s->wary)
        r |= greet(s, 3, (const char *[]){"EVAL", "#!lua\nreturn 1", "0"});
    r |= greet(s, 2, (const char *[]){"GET", STORE_FORMAT_KEY});
    /* Refused while Redis loads its data, or wants a password that we do not have. */
    r |= greet(s, 1, (const char *[]){"PING"});
    if (r)
        drop(s, "out of memory");
}

static void greeted(struct store *s, const struct store_item *c, const redisReply *reply)
{
    struct err e;
    if ((strcmp(c->greeting, "ROLE") == 0 && store_role_read(reply, &e)) ||
        (strcmp(c->greeting, "GET") == 0 && store_format_read(reply, &e))) {
        drop(s, e.text);
        return;
    }
    /* A user that may not PING is greeted all the same: it is who it says it is. And Redis 6 knows no such script. */
    bool no = reply->type == REDIS_REPLY_ERROR && strncmp(reply->str, "NOPERM", 6) != 0;
    if (no && (strcmp(c->greeting, "EVAL") != 0 || store_no_writes(reply->str))) {
        char why[ERR_TEXT_MAX];
        snprintf(why, sizeof why, "%s refused: %s", c->greeting, reply->str);
        drop(s, why);
        return;
    }
    if (--s->greetings_left > 0)
        return;
    sm_move(&store_sm, &s->state, UP);
    s->wary = false;
    s->up_since_ms = clock_mono_ms();
    if (s->finder)
        store_finder_watch(s->finder, s->at.host, s->at.port);
    metric_add(&connects, 1);
    metric_set(&up_now, 1);
    if (s->on_up)
        s->on_up(s->ctx);
}

static void link_reply(void *ctx, const redisReply *reply);

/* The connection is; or nobody names a primary; or it is another one now. */
static void lost(void *ctx, const char *why)
{
    drop(ctx, why);
}

static void link_closed(void *ctx)
{
    struct store *s = ctx;
    s->links_open--;
    finish_close(s);
}

static const struct store_link_events link_events = {link_connected, link_reply, lost, link_closed};

static void connect_to(struct store *s, const char *ip)
{
    struct err e;
    sm_move(&store_sm, &s->state, CONNECTING);
    s->link = store_link_open(s->loop, ip, s->at.port, &link_events, s, &e);
    if (!s->link) {
        drop(s, e.text);
        return;
    }
    s->links_open++;
    loop_timer_start(&s->timer, s->timeout_ms, 0);
}

/* Takes the next address of the name. On a refused one drop() comes back here; the list is short. */
static void try_next(struct store *s)
{
    char ip[STORE_IP_MAX];
    if (store_lookup_next(&s->lookup, ip))
        connect_to(s, ip);
    else
        drop(s, "the name has no address");
}

static void on_resolved(void *ctx, const char *why)
{
    struct store *s = ctx;
    loop_timer_stop(&s->timer);
    if (why)
        drop(s, why);
    else
        try_next(s);
}

static void resolve(struct store *s)
{
    struct err e = {""};
    sm_move(&store_sm, &s->state, RESOLVING);
    int r = store_lookup_start(&s->lookup, s->at.host, &e);
    if (r > 0)
        try_next(s);
    else if (r < 0)
        drop(s, e.text);
    else
        loop_timer_start(&s->timer, s->timeout_ms, 0);
}

static void start(struct store *s)
{
    if (!s->finder) {
        resolve(s);
        return;
    }
    sm_move(&store_sm, &s->state, SEEKING);
    store_finder_seek(s->finder);
}

/* ---- what the Sentinels say ---- */

static void finder_named(void *ctx, const char *host, int port)
{
    struct store *s = ctx;
    snprintf(s->at.host, sizeof s->at.host, "%s", host);
    s->at.port = port;
    resolve(s);
}

static void finder_closed(void *ctx)
{
    struct store *s = ctx;
    s->finder_closed = true;
    finish_close(s);
}

static const struct store_finder_events finder_events = {finder_named, lost, lost, finder_closed};

static int64_t oldest_age_ms(const struct store *s)
{
    return clock_mono_ms() - s->flight.at[s->flight.first].sent_ms;
}

/* Overdue means that Redis is silent. If it is this process that was stopped or is slow, the answers are here already (timers run before
 * the socket is read): as long as reading brings some, the connection is good, within reason. */
static void check_oldest(struct store *s)
{
    uint64_t before = s->answers;
    if (s->flight.n == 0)
        return;
    if (oldest_age_ms(s) >= s->timeout_ms) {
        store_link_pull(s->link);
        if (!s->link || s->flight.n == 0)
            return;
    }
    int64_t age = oldest_age_ms(s);
    bool progress = s->answers > before && age < s->timeout_ms * OVERDUE_FACTOR;
    if (age < s->timeout_ms || progress) {
        loop_timer_start(&s->timer, age < s->timeout_ms ? s->timeout_ms - age : PULL_AGAIN_MS, 0);
        return;
    }
    char why[64];
    snprintf(why, sizeof why, "no answer within %lld ms", (long long)s->timeout_ms);
    metric_add(&overdue, 1);
    drop(s, why);
}

static void on_timer(void *ctx)
{
    struct store *s = ctx;
    switch ((enum state)s->state) {
    case PAUSING:
        start(s);
        break;
    case SEEKING: /* the finder has limits of its own */
        break;
    case RESOLVING:
        drop(s, "the name was not resolved in time");
        break;
    case CONNECTING:
        drop(s, "no connection in time");
        break;
    case GREETING:
    case UP:
        check_oldest(s);
        break;
    case CLOSING:
    case STATES:
        break;
    }
}

/* ---- commands ---- */

/* 0 = may be sent; otherwise cb has been seen to. */
static int refuse_unless_up(struct store *s, store_cb cb, void *ctx)
{
    bool full = s->flight.n >= FLIGHT_MAX || s->flight_bytes >= FLIGHT_BYTES_MAX;
    if (s->state == UP && !full)
        return 0;
    metric_add(&refused, 1);
    later(s, cb, ctx, s->state == CLOSING ? STORE_CLOSED : STORE_DOWN);
    return -1;
}

void store_cmd(struct store *s, store_cb cb, void *ctx, int argc, const char *const *argv, const size_t *lens)
{
    assert(argc > 0);
    if (refuse_unless_up(s, cb, ctx) < 0)
        return;
    size_t len;
    char *cmd = store_command(argc, argv, lens, &len);
    if (!cmd || push_sent(s, cmd, len, (struct store_item){.cb = cb, .ctx = ctx}) < 0)
        later(s, cb, ctx, STORE_DOWN);
    else
        metric_add(&commands, 1);
    free(cmd);
}

static const char no_sha[] = "0000000000000000000000000000000000000000";

/* Sends the script's whole text with the arguments of a formatted EVALSHA. */
static int send_eval(struct store *s, const char *evalsha, size_t len, struct store_item model)
{
    size_t n;
    char *cmd = store_eval_command(evalsha, len, model.script->body, &n);
    int r = cmd ? push_sent(s, cmd, n, model) : -1;
    free(cmd);
    return r;
}

/* Asks for the SHA, once; a refusal does no harm: the script goes on by EVAL. */
static void send_script_load(struct store *s, struct store_script *script)
{
    if (script->sha_state != STORE_SHA_UNKNOWN)
        return;
    size_t len;
    const char *argv[] = {"SCRIPT", "LOAD", script->body};
    char *cmd = store_command(3, argv, NULL, &len);
    if (!cmd)
        return;
    if (push_sent(s, cmd, len, (struct store_item){.script = script, .load = true}) == 0)
        script->sha_state = STORE_SHA_ASKED;
    free(cmd);
}

void store_eval(struct store *s, struct store_script *script, store_cb cb, void *ctx, int n_keys,
                const char *const *keys, int n_args, const char *const *args, const size_t *arg_lens)
{
    enum { ARGS_MAX = 64 };
    assert(n_keys >= 1 && n_args >= 0 && n_keys + n_args + 3 <= ARGS_MAX);
    if (refuse_unless_up(s, cb, ctx) < 0)
        return;
    const char *argv[ARGS_MAX];
    size_t lens[ARGS_MAX];
    char count[16];
    int argc = 0;
    snprintf(count, sizeof count, "%d", n_keys);
    argv[argc++] = "EVALSHA";
    argv[argc++] = script->sha_state == STORE_SHA_KNOWN ? script->sha : no_sha;
    argv[argc++] = count;
    for (int i = 0; i < n_keys; i++)
        argv[argc++] = keys[i];
    for (int i = 0; i < argc; i++)
        lens[i] = strlen(argv[i]);
    for (int i = 0; i < n_args; i++, argc++) {
        argv[argc] = args[i];
        lens[argc] = arg_lens ? arg_lens[i] : strlen(args[i]);
    }
    size_t len;
    char *cmd = store_command(argc, argv, lens, &len);
    int r = cmd ? 0 : -1;
    struct store_item model = {.cb = cb, .ctx = ctx, .script = script};
    if (r == 0 && script->sha_state == STORE_SHA_KNOWN) {
        model.evalsha = cmd;
        r = push_sent(s, cmd, len, model);
    } else if (r == 0) {
        send_script_load(s, script);
        r = send_eval(s, cmd, len, model);
    }
    if (r < 0)
        later(s, cb, ctx, STORE_DOWN);
    else
        metric_add(&commands, 1);
    if (r < 0 || !model.evalsha)
        free(cmd);
}

static void link_reply(void *ctx, const redisReply *reply)
{
    struct store *s = ctx;
    if (s->flight.n == 0) {
        char why[ERR_TEXT_MAX];
        bool text = reply->type == REDIS_REPLY_ERROR || reply->type == REDIS_REPLY_STATUS;
        snprintf(why, sizeof why, "an answer to no question: %.200s", text ? reply->str : "(data)");
        drop(s, why);
        return;
    }
    struct store_item c = store_ring_pop(&s->flight);
    s->flight_bytes -= c.bytes;
    s->answers++;
    if (c.greeting) {
        greeted(s, &c, reply);
        return;
    }
    bool error = reply->type == REDIS_REPLY_ERROR;
    if (c.load) {
        bool sha = reply->type == REDIS_REPLY_STRING && reply->len == sizeof c.script->sha - 1;
        c.script->sha_state = sha ? STORE_SHA_KNOWN : STORE_SHA_REFUSED;
        if (sha)
            memcpy(c.script->sha, reply->str, sizeof c.script->sha);
        return;
    }
    if (c.evalsha && error && strncmp(reply->str, "NOSCRIPT", 8) == 0) {
        struct store_item model = {.cb = c.cb, .ctx = c.ctx, .script = c.script};
        if (send_eval(s, c.evalsha, c.bytes, model) < 0)
            later(s, c.cb, c.ctx, STORE_DOWN);
        store_item_done(&c);
        return;
    }
    store_item_done(&c);
    if (error) {
        metric_add(&errors, 1);
        snprintf(s->error, sizeof s->error, "Redis at %s port %d: %s", s->at.host, s->at.port, reply->str);
    }
    if (error && store_no_writes(reply->str)) {
        char why[ERR_TEXT_MAX];
        snprintf(why, sizeof why, "%.300s", reply->str);
        metric_add(&no_writes, 1);
        s->wary = true;
        later(s, c.cb, c.ctx, STORE_DOWN); /* nothing was done */
        drop(s, why);
        return;
    }
    if (c.cb)
        c.cb(c.ctx, error ? STORE_ERROR : STORE_OK, reply);
}

/* ---- life ---- */

static void first_start(void *ctx)
{
    struct store *s = ctx;
    if (s->state == PAUSING)
        start(s);
    deliver(s);
}

static void store_free(struct store *s)
{
    store_lookup_free(&s->lookup);
    free(s->master);
    free(s->user);
    if (s->password)
        sodium_memzero(s->password, strlen(s->password));
    free(s->password);
    free(s->flight.at);
    free(s->late.at);
    free(s);
}

struct store *store_open(struct loop *l, const struct store_opts *o, struct err *e)
{
    bool sought = o->sentinels && o->sentinels[0];
    bool host = o->host && o->host[0] && strlen(o->host) < HOSTPORT_HOST_MAX;
    if ((!host && !sought) || o->port < 0 || o->port > 65535 || o->db < 0) {
        err_set(e, "Redis: needs a host, a port of 0 to 65535 and a database of 0 or more");
        return NULL;
    }
    if (sought && (!o->sentinel_master || !o->sentinel_master[0])) {
        err_set(e, "Redis: needs the name by which the Sentinels know the primary");
        return NULL;
    }
    struct store *s = calloc(1, sizeof *s);
    if (!s)
        goto no_memory;
    s->loop = l;
    if (host)
        snprintf(s->at.host, sizeof s->at.host, "%s", o->host);
    s->at.port = o->port ? o->port : 6379;
    s->master = strdup(sought ? o->sentinel_master : "");
    s->user = o->user && o->user[0] ? strdup(o->user) : NULL;
    s->password = o->password && o->password[0] ? strdup(o->password) : NULL;
    if (!s->master || (o->user && o->user[0] && !s->user) || (o->password && o->password[0] && !s->password))
        goto no_memory;
    s->db = o->db;
    s->timeout_ms = o->command_timeout_ms > 0 ? o->command_timeout_ms : COMMAND_TIMEOUT_MS;
    s->on_up = o->on_up;
    s->on_down = o->on_down;
    s->ctx = o->ctx;
    s->state = PAUSING;
    s->pause_ms = BACKOFF_MIN_MS;
    s->finder_closed = !sought;
    if (sought) {
        struct store_finder_opts fo = {o->sentinels, s->master, s->user, s->password, s->timeout_ms};
        s->finder = store_finder_open(l, &fo, &finder_events, s, e);
        if (!s->finder) {
            store_free(s);
            return NULL;
        }
    }
    metric_set(&up_now, 0);
    store_lookup_init(&s->lookup, l, on_resolved, s);
    loop_timer_init(l, &s->timer, on_timer, s);
    s->late_due = true;
    loop_defer(l, first_start, s);
    return s;

no_memory:
    err_set(e, "Redis: out of memory");
    if (s)
        store_free(s);
    return NULL;
}

bool store_up(const struct store *s)
{
    return s->state == UP;
}

const char *store_last_error(const struct store *s)
{
    return s->error;
}

static void timer_is_closed(void *ctx)
{
    struct store *s = ctx;
    s->timer_closed = true;
    finish_close(s);
}

static void finish_close(struct store *s)
{
    if (s->state != CLOSING || !s->timer_closed || !s->finder_closed || s->late_due || s->links_open > 0)
        return;
    loop_cb done = s->close_done;
    void *ctx = s->close_ctx;
    store_free(s);
    if (done)
        done(ctx);
}

void store_close(struct store *s, loop_cb done, void *ctx)
{
    assert(s->state != CLOSING);
    s->close_done = done;
    s->close_ctx = ctx;
    if (s->state == UP)
        metric_set(&up_now, 0);
    sm_move(&store_sm, &s->state, CLOSING);
    if (s->link) {
        store_link_close(s->link);
        s->link = NULL;
    }
    fail_flight(s, STORE_CLOSED);
    store_lookup_free(&s->lookup);
    if (s->finder)
        store_finder_close(s->finder);
    loop_timer_close(&s->timer, timer_is_closed);
}

const char *store_status_text(enum store_status st)
{
    static const char *const text[] = {
        [STORE_OK] = "ok",
        [STORE_DOWN] = "Redis is not connected",
        [STORE_UNKNOWN] = "Redis did not answer; it may have happened",
        [STORE_ERROR] = "Redis refused",
        [STORE_CLOSED] = "the store was closed",
    };
    return (unsigned)st < sizeof text / sizeof *text ? text[st] : "?";
}
