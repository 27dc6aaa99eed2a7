/* store.c - Redis for one loop: the queue of commands in flight, its deadline, scripts, and reconnecting.
 *
 * The happy path: resolve -> connect -> AUTH, SELECT, PING in one write -> up. A command is appended to the ring `flight`
 * and to the link's buffer; answers come in order and take the oldest from the ring.
 *
 * What can fail: the name, the connection, the greeting, or an answer that is overdue. All of it ends in drop(): what
 * is in flight becomes STORE_UNKNOWN, and after a pause (50 ms doubling to 2 s, with jitter) it starts again. A callback that
 * is not an answer never runs from inside the call that caused it: it goes by way of the ring `late`. */
#include "common/store.h"
#include "common/clock.h"
#include "common/metric.h"
#include "common/sm.h"
#include "common/store_ring.h"
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
METRIC_DEFINE(up_now, METRIC_GAUGE, "redoubt_store_up", "1 while Redis is connected.");

enum state { PAUSING, RESOLVING, CONNECTING, GREETING, UP, CLOSING, STATES };
static const struct sm_table store_sm = {
    .name = "store",
    .n = STATES,
    .state_names = (const char *const[]){"pausing", "resolving", "connecting", "greeting", "up", "closing"},
    .allowed = (const uint32_t[]){
        [PAUSING] = SM_BIT(RESOLVING) | SM_BIT(CONNECTING) | SM_BIT(CLOSING),
        [RESOLVING] = SM_BIT(CONNECTING) | SM_BIT(PAUSING) | SM_BIT(CLOSING),
        [CONNECTING] = SM_BIT(CONNECTING) | SM_BIT(GREETING) | SM_BIT(PAUSING) | SM_BIT(CLOSING),
        [GREETING] = SM_BIT(UP) | SM_BIT(PAUSING) | SM_BIT(CLOSING),
        [UP] = SM_BIT(PAUSING) | SM_BIT(CLOSING),
        [CLOSING] = 0,
    }};

/* Outlives its store if the resolver hangs. */
struct lookup {
    uv_getaddrinfo_t req;
    struct store *store; /* NULL once the store is closed */
};
struct store {
    struct loop *loop;
    char *host;
    int port;
    char *user, *password;
    int db;
    int64_t timeout_ms;
    void (*on_up)(void *ctx);
    void (*on_down)(void *ctx);
    void *ctx;

    int state;
    struct loop_timer timer; /* what it is for depends on the state: pause, attempt, or the oldest answer */
    struct lookup *lookup;   /* at most one: a hanging resolver must not fill libuv's threads */
    struct addrinfo *addrs, *next_addr;
    struct store_link *link;
    int links_open;
    int greetings_left;
    int64_t pause_ms, up_since_ms;
    char error[ERR_TEXT_MAX];

    struct store_ring flight, late;
    size_t flight_bytes;
    uint64_t answers; /* ever taken */
    bool late_due;    /* deliver() is deferred */
    bool timer_closed;
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
    s->pause_ms = s->pause_ms * 2 > BACKOFF_MAX_MS ? BACKOFF_MAX_MS : s->pause_ms * 2;
    loop_timer_start(&s->timer, wait, 0);
}

/* The connection, or the attempt, is over. */
static void drop(struct store *s, const char *why)
{
    bool was_up = s->state == UP;
    bool attempt = s->state == RESOLVING || s->state == CONNECTING;
    snprintf(s->error, sizeof s->error, "Redis at %s port %d: %s", s->host, s->port, why);
    loop_timer_stop(&s->timer);
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
    if (attempt && s->next_addr) { /* a name with several addresses: the next one at once */
        try_next(s);
        return;
    }
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
    /* Refused while Redis loads its data, or wants a password that we do not have. */
    r |= greet(s, 1, (const char *[]){"PING"});
    if (r)
        drop(s, "out of memory");
}

static void greeted(struct store *s, const struct store_item *c, const redisReply *reply)
{
    /* A user that may not PING is greeted all the same: it is who it says it is. */
    if (reply->type == REDIS_REPLY_ERROR && strncmp(reply->str, "NOPERM", 6) != 0) {
        char why[ERR_TEXT_MAX];
        snprintf(why, sizeof why, "%s refused: %s", c->greeting, reply->str);
        drop(s, why);
        return;
    }
    if (--s->greetings_left > 0)
        return;
    sm_move(&store_sm, &s->state, UP);
    s->up_since_ms = clock_mono_ms();
    metric_add(&connects, 1);
    metric_set(&up_now, 1);
    if (s->on_up)
        s->on_up(s->ctx);
}

static void link_reply(void *ctx, const redisReply *reply);

static void link_lost(void *ctx, const char *why)
{
    drop(ctx, why);
}

static void link_closed(void *ctx)
{
    struct store *s = ctx;
    s->links_open--;
    finish_close(s);
}

static const struct store_link_events link_events = {link_connected, link_reply, link_lost, link_closed};

static void connect_to(struct store *s, const char *ip)
{
    struct err e;
    sm_move(&store_sm, &s->state, CONNECTING);
    s->link = store_link_open(s->loop, ip, s->port, &link_events, s, &e);
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
    char ip[64] = "";
    const struct addrinfo *a = s->next_addr;
    s->next_addr = a->ai_next;
    if (a->ai_family == AF_INET)
        uv_ip4_name((const struct sockaddr_in *)(const void *)a->ai_addr, ip, sizeof ip);
    else if (a->ai_family == AF_INET6)
        uv_ip6_name((const struct sockaddr_in6 *)(const void *)a->ai_addr, ip, sizeof ip);
    connect_to(s, ip);
}

static void free_addrs(struct store *s)
{
    if (s->addrs)
        uv_freeaddrinfo(s->addrs);
    s->addrs = s->next_addr = NULL;
}

static void on_resolved(uv_getaddrinfo_t *req, int status, struct addrinfo *res)
{
    struct lookup *lookup = req->data;
    struct store *s = lookup->store;
    free(lookup);
    if (s)
        s->lookup = NULL;
    if (!s || s->state != RESOLVING) { /* closed, or given up, while the resolver was at work */
        if (res)
            uv_freeaddrinfo(res);
        return;
    }
    free_addrs(s);
    s->addrs = res;
    loop_timer_stop(&s->timer);
    if (status < 0 || !res) {
        drop(s, status < 0 ? uv_strerror(status) : "the name has no address");
        return;
    }
    s->next_addr = res;
    try_next(s);
}

static int look_up(struct store *s)
{
    const struct addrinfo hints = {.ai_socktype = SOCK_STREAM};
    if (s->lookup)
        return UV_EBUSY;
    struct lookup *lookup = calloc(1, sizeof *lookup);
    if (!lookup)
        return UV_ENOMEM;
    lookup->store = s;
    lookup->req.data = lookup;
    int r = uv_getaddrinfo(&s->loop->uv, &lookup->req, on_resolved, s->host, NULL, &hints);
    if (r < 0)
        free(lookup);
    else
        s->lookup = lookup;
    return r;
}

static void start(struct store *s)
{
    struct sockaddr_in v4;
    struct sockaddr_in6 v6;
    free_addrs(s);
    if (uv_ip4_addr(s->host, s->port, &v4) == 0 || uv_ip6_addr(s->host, s->port, &v6) == 0) {
        connect_to(s, s->host);
        return;
    }
    sm_move(&store_sm, &s->state, RESOLVING);
    int r = look_up(s);
    if (r < 0) {
        drop(s, r == UV_EBUSY ? "the name is still being looked up" : uv_strerror(r));
        return;
    }
    loop_timer_start(&s->timer, s->timeout_ms, 0);
}

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

/* EVALSHA and EVAL differ in the first two arguments only. What stands before `numkeys` in "*N $7 EVALSHA $40 SHA": */
static size_t evalsha_head(const char *cmd)
{
    const char *count_end = strstr(cmd, "\r\n");
    assert(count_end);
    return (size_t)(count_end - cmd) + strlen("\r\n$7\r\nEVALSHA\r\n$40\r\n") + 40 + strlen("\r\n");
}

static const char no_sha[] = "0000000000000000000000000000000000000000";

/* Sends the script's whole text with the arguments of a formatted EVALSHA. */
static int send_eval(struct store *s, const char *evalsha, size_t len, struct store_item model)
{
    size_t head = evalsha_head(evalsha), body = strlen(model.script->body);
    size_t max = len + body + 64;
    char *cmd = malloc(max);
    if (!cmd)
        return -1;
    int count_len = (int)(strstr(evalsha, "\r\n") - evalsha);
    size_t n = (size_t)snprintf(cmd, max, "%.*s\r\n$4\r\nEVAL\r\n$%zu\r\n%s\r\n", count_len, evalsha, body,
                                model.script->body);
    memcpy(cmd + n, evalsha + head, len - head);
    int r = push_sent(s, cmd, n + len - head, model);
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
        snprintf(s->error, sizeof s->error, "Redis at %s port %d: %s", s->host, s->port, reply->str);
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
    free_addrs(s);
    free(s->host);
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
    if (!o->host || !o->host[0] || o->port < 0 || o->port > 65535 || o->db < 0) {
        err_set(e, "Redis: needs a host, a port of 0 to 65535 and a database of 0 or more");
        return NULL;
    }
    struct store *s = calloc(1, sizeof *s);
    if (!s)
        goto no_memory;
    s->loop = l;
    s->host = strdup(o->host);
    s->port = o->port ? o->port : 6379;
    s->user = o->user && o->user[0] ? strdup(o->user) : NULL;
    s->password = o->password && o->password[0] ? strdup(o->password) : NULL;
    if (!s->host || (o->user && o->user[0] && !s->user) || (o->password && o->password[0] && !s->password))
        goto no_memory;
    s->db = o->db;
    s->timeout_ms = o->command_timeout_ms > 0 ? o->command_timeout_ms : COMMAND_TIMEOUT_MS;
    s->on_up = o->on_up;
    s->on_down = o->on_down;
    s->ctx = o->ctx;
    s->state = PAUSING;
    s->pause_ms = BACKOFF_MIN_MS;
    metric_set(&up_now, 0);
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
    if (s->state != CLOSING || !s->timer_closed || s->late_due || s->links_open > 0)
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
    if (s->lookup) {
        s->lookup->store = NULL;
        (void)uv_cancel((uv_req_t *)&s->lookup->req); /* its callback comes in any case */
    }
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
