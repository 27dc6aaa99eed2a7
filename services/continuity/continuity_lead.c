/* continuity_lead.c - who leads, and what beginning and ending it means.
 *
 * The happy path: the watches have replayed the present and the lease is ours -> the board learns what holds now, the parts open, what was asked is asked again.
 * Redis away: who leads leads on without its lease; who does not begins when it has heard nobody for two beats and a half, the replica with the lowest number first. Who hears
 * another with a higher token stands down; of two without a lease that have the same the one whose name comes first goes on. The bus away for long: the lease is
 * given back, so that a replica that can be heard gets it, and the clocks go on here meanwhile. */
#include "common/clock.h"
#include "common/log.h"
#include "common/metric.h"
#include "continuity/continuity_impl.h"
#include <string.h>

METRIC_DEFINE(leads_now, METRIC_GAUGE, "redoubt_continuity_leads", "1 while this replica leads.");
METRIC_DEFINE(begun, METRIC_COUNTER, "redoubt_continuity_leads_begun_total",
              "Times that this replica began to lead.");

#define ANSWER_MS   1000
#define BUS_AWAY_MS 15000 /* then the lease is given back */
#define BACKLOG_MS  5000  /* what an earlier process has left goes out before it is built upon, but not for longer */
#define DOUBT_TTLS  2     /* the lease is lost although Redis answers: another will be heard by then */

/* A long lease is for a slow world: then it is said less often, and silence means less. */
int64_t lead_beat_ms(const struct continuity *c)
{
    int64_t ms = c->s->settings->continuity.lease_ttl_ms * 10 / 3;
    return ms > 10000 ? 10000 : ms;
}

static uint64_t token(const struct continuity *c)
{
    uint64_t held = c->lease ? lease_fence(c->lease) : 0;
    uint64_t least = c->fence > c->fence_seen ? c->fence : c->fence_seen;
    /* An emptied Redis on a host whose clock is behind gives out a token that is none. */
    if (held)
        return held > c->fence_seen ? held : c->fence_seen + 1;
    return least ? least : 1;
}

static void tell_the_board(void *ctx, const struct signal *s)
{
    room_signal(ctx, s);
}

static void begin(struct continuity *c)
{
    c->leads = true;
    c->fence = token(c);
    c->without_lease = !(c->lease && lease_fence(c->lease));
    c->doubt_mono_ms = 0;
    snprintf(c->leader, sizeof c->leader, "%s", c->s->instance);
    c->leader_since_ms = continuity_now_ms(c);
    metric_set(&leads_now, 1);
    metric_add(&begun, 1);
    log_info("leads", F_INT("fence", c->fence), F_INT("without_lease", c->without_lease),
             F_INT("open_incidents", board_open(c->board)));
    clock_keep(c);
    clock_say(c);
    parts_open(c);
    docs_hand_over(c);
    c->restoring = true;
    sight_each(c->sight, tell_the_board, c);
    board_synced(c->board, continuity_now_ms(c));
    c->restoring = false;
    docs_told(c);
    avail_settle(c);
    c->status_mono_ms = 0;
    room_arm(c);
}

static void stand_down(struct continuity *c, const char *why)
{
    log_warn("leads no more", F_STR("why", why), F_INT("fence", c->fence));
    parts_close(c);
    c->leads = c->without_lease = false;
    c->doubt_mono_ms = 0;
    metric_set(&leads_now, 0);
    if (!docs_rebuild(c))
        log_error("the incidents of this replica are as it left them: out of memory");
}

/* ---- the lease ---- */

static void on_held(void *ctx, uint64_t fence)
{
    struct continuity *c = ctx;
    (void)fence;
    if (c->leads) {
        c->fence = token(c);
        c->without_lease = false;
        c->doubt_mono_ms = 0;
        log_info("leads on with the lease", F_INT("fence", c->fence));
        clock_say(c);
    }
    lead_tick(c);
}

static void on_lost(void *ctx)
{
    struct continuity *c = ctx;
    if (!c->leads)
        return;
    c->without_lease = true;
    c->doubt_mono_ms = clock_mono_ms();
    log_warn("the lease is lost: leads on without it until another is heard");
}

static void open_lease(struct continuity *c)
{
    struct lease_opts o = {.name = "continuity",
                           .holder = c->s->instance,
                           .ttl_ms = c->s->settings->continuity.lease_ttl_ms,
                           .on_held = on_held,
                           .on_lost = on_lost,
                           .ctx = c};
    if (!c->lease && !(c->lease = lease_open(&c->s->loop, c->s->store, &o)))
        log_error("no lease: out of memory; this replica follows");
}

void lead_store_up(struct continuity *c)
{
    c->store_down_mono_ms = 0;
    if (!c->s->draining && c->bus_down_mono_ms == 0)
        open_lease(c); /* only now: a first try without a store would cost its pause */
    lead_tick(c);
}

void lead_store_down(struct continuity *c)
{
    c->store_down_mono_ms = clock_mono_ms();
}

void lead_bus(struct continuity *c, bool up)
{
    c->bus_down_mono_ms = up ? 0 : clock_mono_ms();
    if (!up)
        c->synced = false;
    else if (store_up(c->s->store) && !c->s->draining)
        open_lease(c);
}

/* ---- others ---- */

void lead_heard(struct continuity *c, const char *instance, uint64_t fence)
{
    if (strcmp(instance, c->s->instance) == 0)
        return;
    if (fence > c->fence_seen)
        c->fence_seen = fence;
    c->heard_mono_ms = clock_mono_ms();
    if (c->leads) {
        bool lease = c->lease && lease_fence(c->lease);
        bool theirs = !lease && (fence > c->fence || (fence == c->fence && strcmp(instance, c->s->instance) < 0));
        if (!theirs) {
            if (lease && fence >= c->fence)
                c->fence = token(c);
            if (c->heard_mono_ms - c->beat_mono_ms >= ANSWER_MS) /* they do not know yet */
                clock_say(c);
            return;
        }
        stand_down(c, instance);
    }
    if (strcmp(c->leader, instance) != 0) {
        snprintf(c->leader, sizeof c->leader, "%s", instance);
        c->leader_since_ms = continuity_now_ms(c);
    }
}

void lead_outdone(struct continuity *c)
{
    if (!(c->lease && lease_fence(c->lease))) {
        stand_down(c, "a later leader is at work");
        return;
    }
    c->fence = token(c);
    clock_say(c);
}

/* ---- each second, and when something has changed ---- */

static bool silent(const struct continuity *c, int64_t now_ms)
{
    int64_t beat = lead_beat_ms(c), wait_ms = beat * 5 / 2 + c->s->replica.index * beat / 3;
    return c->store_down_mono_ms && now_ms - c->store_down_mono_ms >= wait_ms && now_ms - c->heard_mono_ms >= wait_ms;
}

static void follow_or_begin(struct continuity *c, int64_t now_ms)
{
    bool may = (c->lease && lease_fence(c->lease)) || silent(c, now_ms);
    if (!may || !c->synced) {
        c->ready_mono_ms = 0;
        return;
    }
    if (c->ready_mono_ms == 0)
        c->ready_mono_ms = now_ms;
    if (outbox_backlog(c->s->outbox) == 0 || now_ms - c->ready_mono_ms >= BACKLOG_MS)
        begin(c);
}

void lead_tick(struct continuity *c)
{
    int64_t now = clock_mono_ms();
    if (c->s->draining)
        return;
    if (c->bus_down_mono_ms && now - c->bus_down_mono_ms >= BUS_AWAY_MS && c->lease) {
        log_warn("the bus is away: the lease is given back for who can be heard");
        lease_close(c->lease, NULL, NULL);
        c->lease = NULL;
        c->without_lease = c->leads;
    }
    if (!c->leads) {
        follow_or_begin(c, now);
        return;
    }
    if (c->lease && lease_fence(c->lease)) {
        c->without_lease = false;
        c->doubt_mono_ms = 0;
    } else if (store_up(c->s->store) && c->bus_down_mono_ms == 0) {
        if (c->doubt_mono_ms == 0)
            c->doubt_mono_ms = now;
        else if (now - c->doubt_mono_ms >= DOUBT_TTLS * c->s->settings->continuity.lease_ttl_ms)
            stand_down(c, "another holds the lease");
    } else {
        c->doubt_mono_ms = 0;
    }
    if (c->leads && now - c->beat_mono_ms >= lead_beat_ms(c))
        clock_say(c);
}

/* ---- the end ---- */

static void given_back(void *ctx)
{
    service_drained(ctx);
}

void lead_end(struct continuity *c)
{
    if (c->leads) {
        say_flush(c);
        parts_close(c);
        c->leads = false;
    }
    clock_keep(c);
    if (c->lease)
        lease_close(c->lease, given_back, c->s);
    else
        service_drained(c->s);
    c->lease = NULL;
}
