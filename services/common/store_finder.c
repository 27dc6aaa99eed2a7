/* store_finder.c - asks Sentinels for the primary: when it is sought, and every second while one is in use.
 *
 * The happy path: look the Sentinel's name up -> connect -> ask; the connection is kept for the next question. What fails closes it, and
 * store_sentinel.c says who is asked next. A name is looked up at each connect: containers change their addresses. */
#include "common/store_finder.h"
#include "common/metric.h"
#include "common/sm.h"
#include "common/store_lookup.h"
#include "common/store_ring.h"
#include "common/store_sentinel.h"
#include "common/store_uv.h"
#include <assert.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define WATCH_MS    1000
#define STEP_MAX_MS 1000 /* a Sentinel that takes longer is not waited for: there are others */

METRIC_DEFINE(asked, METRIC_COUNTER, "redoubt_store_sentinel_questions_total", "Questions put to Redis Sentinels.");
METRIC_DEFINE(failed, METRIC_COUNTER, "redoubt_store_sentinel_failures_total",
              "Sentinels that could not be asked, or whose answer was of no use.");
METRIC_DEFINE(moves, METRIC_COUNTER, "redoubt_store_primary_moves_total",
              "Times that the Sentinels named another primary than the one in use.");

enum state { RESTING, RESOLVING, CONNECTING, WAITING, FAILED, CLOSING, STATES };
static const struct sm_table finder_sm = {
    .name = "store finder",
    .n = STATES,
    .state_names = (const char *const[]){"resting", "resolving", "connecting", "waiting", "failed", "closing"},
    .allowed = (const uint32_t[]){
        [RESTING] = SM_BIT(RESOLVING) | SM_BIT(CONNECTING) | SM_BIT(WAITING) | SM_BIT(FAILED) | SM_BIT(CLOSING),
        [RESOLVING] = SM_BIT(CONNECTING) | SM_BIT(FAILED) | SM_BIT(CLOSING),
        [CONNECTING] = SM_BIT(CONNECTING) | SM_BIT(WAITING) | SM_BIT(FAILED) | SM_BIT(CLOSING),
        [WAITING] = SM_BIT(RESTING) | SM_BIT(FAILED) | SM_BIT(CLOSING),
        [FAILED] = SM_BIT(RESTING) | SM_BIT(RESOLVING) | SM_BIT(CONNECTING) | SM_BIT(FAILED) | SM_BIT(CLOSING),
        [CLOSING] = 0,
    }};

struct store_finder {
    struct loop *loop;
    struct store_finder_events ev;
    void *ctx;
    const char *name, *user, *password;
    int64_t timeout_ms;

    int state;
    enum { NOTHING, SEEK, WATCH } aim;
    struct store_sentinels q;
    struct loop_timer
        timer; /* by state: the next question of a watch, the limit of a step, or the turn after a failure */
    struct store_lookup lookup;
    struct store_link *link; /* to the Sentinel whose turn it is; kept while RESTING */
    bool connected, logged_in;
    int logins; /* answers to AUTH that are due before the next */
    char why[ERR_TEXT_MAX];
    int links_open;
    bool timer_closed;
};

static void close_link(struct store_finder *f)
{
    if (f->link)
        store_link_close(f->link);
    f->link = NULL;
    f->connected = f->logged_in = false;
    f->logins = 0;
}

/* The one whose turn it is was of no use. What follows has its own turn of the loop: nobody is called from inside a call. */
static void fail(struct store_finder *f, const char *why)
{
    const struct store_place *p = &f->q.each[f->q.at];
    metric_add(&failed, 1);
    snprintf(f->why, sizeof f->why, "Sentinel at %s port %d: %s", p->host, p->port, why);
    close_link(f);
    store_lookup_cancel(&f->lookup);
    sm_move(&finder_sm, &f->state, FAILED);
    loop_timer_start(&f->timer, 0, 0);
}

static void link_connected(void *ctx);
static void link_reply(void *ctx, const redisReply *r);
static void link_lost(void *ctx, const char *why);
static void link_closed(void *ctx);
static const struct store_link_events link_events = {link_connected, link_reply, link_lost, link_closed};

/* An attempt to connect has failed: the next address of the name, if there is one. */
static void connect_next(struct store_finder *f, const char *why)
{
    char ip[STORE_IP_MAX];
    struct err e;
    close_link(f);
    while (store_lookup_next(&f->lookup, ip)) {
        sm_move(&finder_sm, &f->state, CONNECTING);
        f->link = store_link_open(f->loop, ip, f->q.each[f->q.at].port, &link_events, f, &e);
        if (f->link) {
            f->links_open++;
            loop_timer_start(&f->timer, f->timeout_ms, 0);
            return;
        }
        why = e.text;
    }
    fail(f, why);
}

static int say(struct store_finder *f, int argc, const char *const *argv)
{
    size_t len;
    char *cmd = store_command(argc, argv, NULL, &len);
    if (!cmd)
        return -1;
    int r = store_link_send(f->link, cmd, len);
    sodium_memzero(cmd, len); /* AUTH */
    free(cmd);
    return r;
}

static void ask(struct store_finder *f)
{
    const char *argv[] = {"SENTINEL", "GET-MASTER-ADDR-BY-NAME", f->name};
    if (say(f, 3, argv) < 0) {
        fail(f, "out of memory");
        return;
    }
    metric_add(&asked, 1);
    if (f->state != WAITING)
        sm_move(&finder_sm, &f->state, WAITING);
    loop_timer_start(&f->timer, f->timeout_ms, 0);
}

/* Asks the one whose turn it is. */
static void begin(struct store_finder *f)
{
    if (f->connected) {
        ask(f);
        return;
    }
    struct err e = {""};
    int r = store_lookup_start(&f->lookup, f->q.each[f->q.at].host, &e);
    if (r > 0) {
        connect_next(f, "the name has no address");
    } else if (r < 0) {
        fail(f, e.text);
    } else {
        sm_move(&finder_sm, &f->state, RESOLVING);
        loop_timer_start(&f->timer, f->timeout_ms, 0);
    }
}

static void rest(struct store_finder *f)
{
    if (f->state != RESTING)
        sm_move(&finder_sm, &f->state, RESTING);
    if (f->aim == WATCH)
        loop_timer_start(&f->timer, WATCH_MS, 0);
    else
        loop_timer_stop(&f->timer);
}

/* While watching; said NULL = the one that was asked was of no use. */
static void heard(struct store_finder *f, const struct store_place *said)
{
    char text[ERR_TEXT_MAX];
    switch (store_sentinels_heard(&f->q, said)) {
    case STORE_SENTINELS_STAY:
        rest(f);
        break;
    case STORE_SENTINELS_ASK:
        rest(f);
        close_link(f); /* that was to another one */
        begin(f);
        break;
    case STORE_SENTINELS_MOVE:
        metric_add(&moves, 1);
        snprintf(text, sizeof text, "the Sentinels name another primary: %.200s port %d", f->q.doubt.host,
                 f->q.doubt.port);
        f->aim = NOTHING;
        rest(f);
        f->ev.moved(f->ctx, text);
        break;
    }
}

static void link_connected(void *ctx)
{
    struct store_finder *f = ctx;
    f->connected = true;
    ask(f);
}

static void on_login(struct store_finder *f, const redisReply *r)
{
    f->logins--;
    if (r->type != REDIS_REPLY_ERROR)
        return;
    char why[ERR_TEXT_MAX];
    snprintf(why, sizeof why, "AUTH refused: %.200s", r->str);
    fail(f, why);
}

static void log_in(struct store_finder *f)
{
    const char *argv[] = {"AUTH", f->user ? f->user : "default", f->password};
    f->logged_in = true;
    f->logins++;
    if (say(f, 3, argv) < 0)
        fail(f, "out of memory");
    else
        ask(f);
}

static void link_reply(void *ctx, const redisReply *r)
{
    struct store_finder *f = ctx;
    struct store_place place;
    struct err e = {""};
    if (f->state != WAITING) {
        fail(f, "an answer to no question");
        return;
    }
    if (f->logins > 0) {
        on_login(f, r);
        return;
    }
    switch (store_sentinel_read(r, &place, &e)) {
    case STORE_SENTINEL_LOGIN:
        if (f->password && !f->logged_in)
            log_in(f);
        else
            fail(f, e.text);
        break;
    case STORE_SENTINEL_NO:
        fail(f, e.text);
        break;
    case STORE_SENTINEL_NAMES:
        if (f->aim == WATCH) {
            heard(f, &place);
            break;
        }
        rest(f);
        if (f->aim == SEEK) {
            f->aim = NOTHING;
            f->ev.named(f->ctx, place.host, place.port);
        }
        break;
    }
}

static void link_lost(void *ctx, const char *why)
{
    struct store_finder *f = ctx;
    if (f->state == CONNECTING)
        connect_next(f, why);
    else if (f->state == RESTING)
        close_link(f); /* another is opened for the next question */
    else
        fail(f, why);
}

static void finish_close(struct store_finder *f)
{
    if (f->state != CLOSING || !f->timer_closed || f->links_open > 0)
        return;
    struct store_finder_events ev = f->ev;
    void *ctx = f->ctx;
    free(f);
    ev.closed(ctx);
}

static void link_closed(void *ctx)
{
    struct store_finder *f = ctx;
    f->links_open--;
    finish_close(f);
}

static void on_resolved(void *ctx, const char *why)
{
    struct store_finder *f = ctx;
    if (why)
        fail(f, why);
    else
        connect_next(f, "the name has no address");
}

static void after_failure(struct store_finder *f)
{
    if (f->aim == WATCH) {
        heard(f, NULL);
    } else if (f->aim == SEEK && store_sentinels_next(&f->q)) {
        begin(f);
    } else {
        bool sought = f->aim == SEEK;
        f->aim = NOTHING;
        rest(f);
        if (sought)
            f->ev.nobody(f->ctx, f->why);
    }
}

static void on_timer(void *ctx)
{
    struct store_finder *f = ctx;
    switch ((enum state)f->state) {
    case RESTING:
        store_sentinels_begin(&f->q);
        begin(f);
        break;
    case RESOLVING:
        fail(f, "the name was not resolved in time");
        break;
    case CONNECTING:
        connect_next(f, "no connection in time");
        break;
    case WAITING:
        fail(f, "no answer in time");
        break;
    case FAILED:
        after_failure(f);
        break;
    case CLOSING:
    case STATES:
        break;
    }
}

/* ---- for the store ---- */

struct store_finder *store_finder_open(struct loop *l, const struct store_finder_opts *o,
                                       const struct store_finder_events *ev, void *ctx, struct err *e)
{
    struct store_finder *f = calloc(1, sizeof *f);
    if (!f) {
        err_set(e, "Redis: out of memory");
        return NULL;
    }
    if (store_sentinels_parse(&f->q, o->sentinels, e)) {
        free(f);
        return NULL;
    }
    f->q.at = randombytes_uniform((uint32_t)f->q.n); /* not all replicas at the same one */
    f->loop = l;
    f->ev = *ev;
    f->ctx = ctx;
    f->name = o->name;
    f->user = o->user;
    f->password = o->password;
    f->timeout_ms = o->timeout_ms < STEP_MAX_MS ? o->timeout_ms : STEP_MAX_MS;
    store_lookup_init(&f->lookup, l, on_resolved, f);
    loop_timer_init(l, &f->timer, on_timer, f);
    return f;
}

void store_finder_seek(struct store_finder *f)
{
    f->aim = SEEK;
    store_sentinels_begin(&f->q);
    if (f->state == RESTING)
        begin(f);
    /* otherwise somebody is being asked already: the answer is the first of this round */
}

bool store_finder_seek_on(struct store_finder *f)
{
    assert(f->state == RESTING && f->aim == NOTHING);
    if (!store_sentinels_next(&f->q))
        return false;
    f->aim = SEEK;
    close_link(f);
    begin(f);
    return true;
}

void store_finder_watch(struct store_finder *f, const char *host, int port)
{
    snprintf(f->q.present.host, sizeof f->q.present.host, "%s", host);
    f->q.present.port = port;
    f->aim = WATCH;
    if (f->state == RESTING)
        rest(f);
}

void store_finder_rest(struct store_finder *f)
{
    f->aim = NOTHING;
    if (f->state == RESTING)
        rest(f);
}

static void timer_is_closed(void *ctx)
{
    struct store_finder *f = ctx;
    f->timer_closed = true;
    finish_close(f);
}

void store_finder_close(struct store_finder *f)
{
    sm_move(&finder_sm, &f->state, CLOSING);
    close_link(f);
    store_lookup_free(&f->lookup);
    loop_timer_close(&f->timer, timer_is_closed);
}
