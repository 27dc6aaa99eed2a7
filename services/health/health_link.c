/* health_link.c - our own link: what others can reach and we cannot.
 *
 * It is at fault while a target is disputed (we see it as bad, most of the others do not), or a service of the suite is not heard here
 * that others hear. Then the watch `link.<instance>` is announced with what and who; our word on targets does not count, and they go
 * to the next of their ranking. We go on probing what is disputed: when it is well here again, or bad for everybody, the link is well. */
#include "common/clock.h"
#include "common/log.h"
#include "common/metric.h"
#include "health/health_shell.h"
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PEERS_MAX      64
#define LINKS_MAX      64
#define LOST_MS        25000 /* two rounds without an answer */
#define HEARD_MS       15000 /* who was heard within this time is heard */
#define FORGET_MS      90000 /* nobody hears it any more: it is gone, and that is not our link */
#define SERVICE_PREFIX "redoubt-"

METRIC_DEFINE(faults, METRIC_COUNTER, "redoubt_health_link_faults_total",
              "Times that this replica's own link was found at fault.");
METRIC_DEFINE(faulty_now, METRIC_GAUGE, "redoubt_health_link_faulty", "1 while this replica's own link is at fault.");
METRIC_DEFINE(peers_heard, METRIC_GAUGE, "redoubt_health_peers_heard", "Replicas of the suite that answer this one.");

struct peer {
    char id[NAME_MAX_LEN + 1];
    int64_t heard_ms;  /* by us */
    int64_t others_ms; /* another said that it hears it, while we did not */
    char by[NAME_MAX_LEN + 1];
};
struct health_link {
    struct health_watch *own;
    bool faulty;
    struct peer peers[PEERS_MAX];
    size_t n;
    size_t others; /* links of others that we know of */
    char inbox[SUBJECT_MAX_LEN];
    struct bus_sub *sub;
};

bool health_link_faulty(const struct health_watcher *w)
{
    return w->own_link && w->own_link->faulty;
}

static void never(void *ctx)
{
    (void)ctx; /* nothing is due: a link's verdict comes from others */
}

struct health_watch *health_link_of(struct health_watcher *w, const char *name)
{
    const char *who = subject_tail(name, HEALTH_LINK_PREFIX);
    struct health_watch *t;
    HASH_FIND_STR(w->all, name, t);
    if (t)
        return t->link ? t : NULL;
    if (!who || !name_token_ok(who) || !w->own_link || w->own_link->others >= LINKS_MAX ||
        settings_target(w->s->settings, name))
        return NULL;
    w->own_link->others++;
    t = health_take_in(w, name);
    t->link = true;
    t->gone = false;
    t->place = RANK_UNPLACED; /* until the members are looked at */
    t->rule = (struct health_rule){.kind = HEALTH_TARGET_OTHER, .fall = 1, .rise = 1};
    loop_timer_init(&w->s->loop, &t->timer, never, t);
    return t;
}

static void say(struct health_watch *t, int fault, const char *detail)
{
    int64_t now_ms = clock_shared_ms();
    struct health_result r = {
        .probe = HEALTH_PROBE_LINK, .fault = (uint8_t)fault, .started_ms = now_ms, .ended_ms = now_ms};
    health_detail(&r, "%s", detail);
    health_take_result(t, &r);
}

static void be_faulty(struct health_watcher *w, int fault, const char *detail)
{
    struct health_link *l = w->own_link;
    bool was = l->faulty;
    l->faulty = true;
    if (!was) {
        metric_add(&faults, 1);
        log_error("this replica's own link is at fault: its word does not count until it is well",
                  F_STR("evidence", detail));
    }
    metric_set(&faulty_now, 1);
    say(l->own, fault, detail);
    if (!was)
        health_share_rest(w);
}

void health_link_dispute(struct health_watch *t, enum health_poll_end end, int fault)
{
    struct health_watcher *w = t->w;
    char detail[512];
    size_t at = (size_t)snprintf(detail, sizeof detail, "%s: %s here, ", t->name, health_fault_text(fault));
    if (!w->own_link || !w->own_link->own)
        return;
    struct health_vote votes[HEALTH_VOTERS_MAX + 1];
    size_t n = health_vote_list(t, votes, HEALTH_VOTERS_MAX + 1);
    at += (size_t)snprintf(detail + at, sizeof detail - at, "%s",
                           end == HEALTH_POLL_UNHEARD ? "and none of the other watchers answers" : "but reached by");
    for (size_t i = 1; i < n && at < sizeof detail; i++) {
        const char *who = votes[i].ballot == HEALTH_BALLOT_WELL ? health_member_name(w, votes[i].who) : NULL;
        if (who)
            at += (size_t)snprintf(detail + at, sizeof detail - at, " %s", who);
    }
    t->disputed = true;
    be_faulty(w, fault, detail);
}

/* ---- the suite's services ---- */

static struct peer *peer_of(struct health_link *l, const char *id)
{
    for (size_t i = 0; i < l->n; i++)
        if (strcmp(l->peers[i].id, id) == 0)
            return &l->peers[i];
    return NULL;
}

static void on_pong(void *ctx, const struct bus_msg *m)
{
    struct health_watcher *w = ctx;
    struct health_link *l = w->own_link;
    json_t *j = json_loadb(m->data, m->len, 0, NULL);
    const char *name = json_string_value(json_object_get(j, "name")),
               *id = json_string_value(json_object_get(j, "id"));
    /* Anything may answer: what is not of the suite is left alone. */
    if (name && id && strncmp(name, SERVICE_PREFIX, strlen(SERVICE_PREFIX)) == 0 && name_token_ok(id) &&
        strcmp(id, w->s->instance) != 0) {
        struct peer *p = peer_of(l, id);
        if (!p && l->n < PEERS_MAX) {
            p = &l->peers[l->n++];
            *p = (struct peer){0};
            snprintf(p->id, sizeof p->id, "%s", id);
        }
        if (p) {
            p->heard_ms = clock_mono_ms();
            p->others_ms = 0;
        }
    }
    json_decref(j);
}

/* Asks who is there; and the other watchers about those who did not answer. */
void health_on_ping(struct service *s)
{
    struct health_watcher *w = health_watcher_of(s);
    struct health_link *l = w->own_link;
    int64_t now_ms = clock_mono_ms();
    size_t heard = 0;
    struct err e;
    if (!l->sub)
        l->sub = bus_subscribe(s->bus, l->inbox, NULL, on_pong, w);
    if (!bus_up(s->bus) || !health_may_act(w)) {
        for (size_t i = 0; i < l->n; i++)
            l->peers[i].heard_ms = now_ms; /* deaf is not the same as silent: a full grace follows */
        return;
    }
    for (size_t i = 0; i < l->n;) {
        struct peer *p = &l->peers[i];
        int64_t silent_ms = now_ms - p->heard_ms;
        if (silent_ms >= FORGET_MS && now_ms - p->others_ms >= FORGET_MS) {
            *p = l->peers[--l->n];
            continue;
        }
        if (silent_ms >= LOST_MS) {
            char target[TARGET_MAX_LEN + 1];
            snprintf(target, sizeof target, HEALTH_LINK_PREFIX "%s", p->id);
            health_observe(w, target, HEALTH_UNHEALTHY, HEALTH_FAULT_SILENT, "does not answer here", true);
        } else {
            heard++;
        }
        i++;
    }
    metric_set(&peers_heard, (int64_t)heard);
    struct bus_out o = {.subject = "$SRV.PING", .reply = l->inbox, .data = "", .len = 0};
    if (l->sub)
        (void)bus_publish(s->bus, &o, &e); /* without a connection there is nothing to learn */
}

void health_link_observed(struct health_watcher *w, const PB(Observation) * o)
{
    struct health_link *l = w->own_link;
    const char *id = subject_tail(o->target, HEALTH_LINK_PREFIX);
    struct peer *p = l && id ? peer_of(l, id) : NULL;
    int64_t now_ms = clock_mono_ms();
    if (!p)
        return;
    bool heard = now_ms - p->heard_ms < HEARD_MS;
    if (o->asks && heard) {
        health_observe(w, o->target, HEALTH_HEALTHY, HEALTH_FAULT_NONE, "answers here", false);
    } else if (!o->asks && (int)o->state == HEALTH_HEALTHY && now_ms - p->heard_ms >= LOST_MS) {
        p->others_ms = now_ms;
        snprintf(p->by, sizeof p->by, "%.*s", NAME_MAX_LEN, o->observer);
    }
}

static const struct peer *lost_peer(const struct health_link *l)
{
    int64_t now_ms = clock_mono_ms();
    for (size_t i = 0; i < l->n; i++)
        if (l->peers[i].others_ms > 0 && now_ms - l->peers[i].others_ms < LOST_MS)
            return &l->peers[i];
    return NULL;
}

/* ---- the end of a fault ---- */

static size_t disputes(struct health_watcher *w)
{
    size_t n = 0;
    for (struct health_watch *t = w->all; t; t = t->hh.next) {
        if (!t->disputed)
            continue;
        bool over = t->gone || !health_bad(t->verdict.state) || t->doc.state == HEALTH_UNHEALTHY;
        t->disputed = !over;
        n += t->disputed;
    }
    return n;
}

void health_link_tick(struct health_watcher *w)
{
    struct health_link *l = w->own_link;
    if (!l || !health_may_act(w))
        return;
    const struct peer *lost = lost_peer(l);
    if (lost && !l->faulty) {
        char detail[256];
        snprintf(detail, sizeof detail, "%s does not answer here, but %s", lost->id, lost->by);
        be_faulty(w, HEALTH_FAULT_SILENT, detail);
    }
    if (l->faulty && disputes(w) == 0 && !lost) {
        l->faulty = false;
        metric_set(&faulty_now, 0);
        log_info("this replica's own link is well again", F_INT("heard", metric_get(&peers_heard)));
        say(l->own, HEALTH_FAULT_NONE, "");
        health_share_rest(w);
    } else if (!l->faulty && l->own->doc.state == HEALTH_UNHEALTHY) {
        say(l->own, HEALTH_FAULT_NONE, ""); /* from an earlier life */
    }
    /* Who is gone cannot say itself that its link is at fault no more. */
    for (struct health_watch *t = w->all; t && w->duty.sure; t = t->hh.next)
        if (t->link && t != l->own && t->place == 0 && health_bad(t->doc.state)) {
            if (!health_bad(t->verdict.state))
                health_doc_adopt(t);
            say(t, HEALTH_FAULT_NONE, "this watcher is gone");
        }
}

void health_link_text(const struct health_watcher *w, char *buf, size_t size)
{
    const struct health_link *l = w->own_link;
    size_t at = (size_t)snprintf(buf, size, "%s; services that answer:", l->faulty ? "at fault" : "well");
    for (size_t i = 0; i < l->n && at < size; i++)
        at += (size_t)snprintf(buf + at, size - at, " %s%s", l->peers[i].id,
                               clock_mono_ms() - l->peers[i].heard_ms < LOST_MS ? "" : " (silent)");
    for (const struct health_watch *t = w->all; t && at < size; t = t->hh.next)
        if (t->disputed)
            at += (size_t)snprintf(buf + at, size - at, "; not reached: %s", t->name);
}

int health_link_open(struct health_watcher *w)
{
    char name[TARGET_MAX_LEN + 1];
    struct health_link *l = w->own_link = calloc(1, sizeof *l);
    if (!l)
        return -1;
    snprintf(name, sizeof name, HEALTH_LINK_PREFIX "%s", w->s->instance);
    snprintf(l->inbox, sizeof l->inbox, "_INBOX_%s.link.%s", w->s->desc->name, w->s->instance);
    l->own = health_link_of(w, name);
    return l->own ? 0 : -1;
}

void health_link_close(struct health_watcher *w)
{
    if (w->own_link && w->own_link->sub)
        bus_unsubscribe(w->own_link->sub);
    free(w->own_link);
    w->own_link = NULL;
}
