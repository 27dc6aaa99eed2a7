/* health_share.c - which of the replicas does what: the members' ranking, turned into places and duties of the watches.
 *
 * A change of the members moves some targets to us and some away. What comes is taken over with the verdict that is announced, and
 * its first probe comes at a random moment, so that the end of a replica makes no burst. */
#include "common/clock.h"
#include "common/log.h"
#include "common/metric.h"
#include "health/health_shell.h"
#include <string.h>

METRIC_DEFINE(members, METRIC_GAUGE, "redoubt_health_members", "Replicas of health that are alive.");
METRIC_DEFINE(counting, METRIC_GAUGE, "redoubt_health_members_counting",
              "Replicas whose word counts: neither is their link at fault nor their clock.");
METRIC_DEFINE(owned, METRIC_GAUGE, "redoubt_health_owned",
              "Targets and agents that this replica looks after and speaks for.");
METRIC_DEFINE(unwatched, METRIC_GAUGE, "redoubt_health_unwatched",
              "Targets of a host on which no watcher runs: nobody looks at them.");
METRIC_DEFINE(taken, METRIC_COUNTER, "redoubt_health_taken_over_total",
              "Targets that this replica has begun to probe because the replicas changed.");

const struct members_view *health_view(const struct health_watcher *w)
{
    static const struct members_view none = {.known_ms = INT64_MIN, .self = SIZE_MAX, .self_ranked = SIZE_MAX};
    return w->members ? members_view(w->members) : &none;
}

static struct health_duty duty_now(const struct health_watcher *w)
{
    return health_duty_at(w->store_up, health_view(w)->known_ms, w->opened_ms, w->s->settings->health.member_ttl_ms,
                          clock_mono_ms());
}

bool health_owns(const struct health_watch *t)
{
    struct health_duty d = duty_now(t->w);
    return health_duty_owns(&d, t->place);
}

bool health_announces(const struct health_watch *t)
{
    struct health_duty d = duty_now(t->w);
    return health_duty_announces(&d, t->place);
}

/* The host that it is of; "" = it may be seen from any. */
static const char *host_of(const struct health_watch *t)
{
    return t->probe && t->probe->local && t->conf.set ? t->conf.set->host : "";
}

static bool by_duty(const struct health_watch *t, const struct health_duty *d)
{
    if (*host_of(t) && t->place == RANK_UNPLACED) /* not to be seen from here, whoever else is there */
        return false;
    return t->probe && health_duty_probes(d, t->place, t->vantage, t->probe->paid);
}

bool health_probes(const struct health_watch *t)
{
    struct health_duty d = duty_now(t->w);
    return by_duty(t, &d) || t->disputed || health_vote_answers(t);
}

uint64_t health_fence(const struct health_watcher *w)
{
    return duty_now(w).sure ? health_view(w)->generation : 0;
}

const char *health_member_name(const struct health_watcher *w, uint64_t who)
{
    const struct members_view *v = health_view(w);
    for (size_t i = 0; i < v->n; i++)
        if (v->hashes[i] == who)
            return v->names[i];
    return NULL;
}

bool health_member_counts(const struct health_watcher *w, uint64_t who)
{
    const struct members_view *v = health_view(w);
    for (size_t i = 0; i < v->n_ranked; i++)
        if (v->ranked[i] == who)
            return true;
    return false;
}

/* Who of those that count is there; *ret_self is our own index among them, SIZE_MAX if we are none of them. */
static size_t those_on_host(const struct health_watcher *w, const struct members_view *v, const char *host,
                            uint64_t ret[static RANK_MAX], size_t *ret_self)
{
    size_t n = 0;
    *ret_self = SIZE_MAX;
    if (v->known_ms == INT64_MIN && health_duty_on_host(w->s->instance, host)) { /* nobody else is known */
        ret[0] = rank_hash(w->s->instance);
        *ret_self = 0;
        return 1;
    }
    for (size_t i = 0; i < v->n_ranked; i++) {
        if (!health_duty_on_host(v->names[v->index[i]], host))
            continue;
        if (i == v->self_ranked)
            *ret_self = n;
        ret[n++] = v->ranked[i];
    }
    return n;
}

static uint32_t place_on_host(struct health_watch *t, const struct members_view *v)
{
    uint64_t there[RANK_MAX];
    size_t self, n = those_on_host(t->w, v, host_of(t), there, &self);
    if (n == 0 && !t->nowhere)
        log_warn("nobody watches it: there is no watcher on its host", F_STR("target", t->name),
                 F_STR("host", host_of(t)), F_STR("next", "run redoubt-health there, or correct `probe.host`"));
    t->nowhere = n == 0;
    return self == SIZE_MAX ? RANK_UNPLACED : rank_place(there, n, t->hash, self);
}

static uint32_t place_of(struct health_watch *t, const struct members_view *v)
{
    if (*host_of(t))
        return place_on_host(t, v);
    t->nowhere = false;
    if (t->link) { /* everybody speaks for its own link; for the dead one of the living does, once, to end it */
        const char *who = t->name + strlen(HEALTH_LINK_PREFIX);
        if (strcmp(who, t->w->s->instance) == 0)
            return 0;
        if (health_member_name(t->w, rank_hash(who)))
            return RANK_UNPLACED;
    }
    if (v->known_ms == INT64_MIN)
        return 0; /* nobody else is known */
    if (v->self_ranked == SIZE_MAX)
        return RANK_UNPLACED;
    return rank_place(v->ranked, v->n_ranked, t->hash, v->self_ranked);
}

static void take_over(struct health_watch *t)
{
    struct health_watcher *w = t->w;
    metric_add(&taken, 1);
    if (!t->disputed) {
        health_doc_adopt(t);
        health_vote_drop(t);
    }
    health_schedule_start(&t->schedule, &t->pace, (uint32_t)w->n, health_random(), clock_mono_ms());
    health_run_arm(t);
}

void health_share_age(struct health_watcher *w)
{
    w->duty = duty_now(w);
}

void health_share_look(struct health_watcher *w)
{
    const struct members_view *v = health_view(w);
    struct health_duty d = w->duty = duty_now(w);
    size_t n = 0, nowhere = 0;
    for (struct health_watch *t = w->all; t; t = t->hh.next) {
        if (t->gone)
            continue;
        bool owned_before = t->place == 0;
        t->place = place_of(t, v);
        bool duty = by_duty(t, &d);
        if (duty && !t->on_duty)
            take_over(t);
        t->on_duty = duty;
        n += t->place == 0;
        nowhere += t->nowhere;
        if (t->place == 0 && !owned_before) {
            health_doc_forget(t); /* another has written meanwhile */
            health_doc_sync(t);
        }
    }
    metric_set(&owned, (int64_t)n);
    metric_set(&unwatched, (int64_t)nowhere);
    metric_set(&members, (int64_t)v->n);
    metric_set(&counting, (int64_t)v->n_ranked);
}

static void on_view(void *ctx, bool changed)
{
    struct health_watcher *w = ctx;
    if (w->draining)
        return;
    if (changed) {
        const struct members_view *v = health_view(w);
        log_info("replicas that share the targets", F_INT("members", (int64_t)v->n),
                 F_INT("counting", (int64_t)v->n_ranked), F_INT("generation", (int64_t)v->generation));
    }
    if (changed || !w->duty.sure) {
        health_share_look(w);
        health_vote_members(w);
        for (struct health_watch *t = w->all; t; t = t->hh.next)
            if (!t->gone)
                health_doc_sync(t);
    }
}

int health_share_open(struct health_watcher *w)
{
    struct members_opts o = {.service = "health",
                             .name = w->s->instance,
                             .ttl_ms = w->s->settings->health.member_ttl_ms,
                             .on_view = on_view,
                             .ctx = w};
    w->opened_ms = clock_mono_ms();
    w->members = members_open(&w->s->loop, w->s->store, &o);
    return w->members ? 0 : -1;
}

void health_share_rest(struct health_watcher *w)
{
    if (w->members)
        members_rest(w->members, health_link_faulty(w) || !health_may_act(w));
}
