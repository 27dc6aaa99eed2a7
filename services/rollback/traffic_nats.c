/* traffic_nats.c - agents take a share of the work by message: WorkShare says which, each instance confirms with WorkShared.
 *
 * The version that gets more learns of it first and confirms; only then does the other give up any. In between both take what moves: work may be done twice
 * (its idempotency keys are for that), and is never left undone. What is read back is what every live instance has confirmed. */
#include "common/clock.h"
#include "common/metric.h"
#include "rollback/rollback_traffic.h"
#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <utlist.h>

#define SILENT_MS 30000 /* an instance that was silent for so long is gone */
#define HEARD_MS  12000 /* instances speak every 10 s: by then a live one was heard */
#define PEERS_MAX 1024

METRIC_DEFINE(bad, METRIC_COUNTER, "redoubt_rollback_share_bad_total",
              "Messages about shares of work that break the contract, or instances beyond the table.");

struct peer {
    char instance[129], version[ROLLBACK_NAME];
    uint64_t epoch;
    int percent;
    unsigned in_hand;
    int64_t heard_ms;
    struct peer *prev, *next;
};
/* One version's part of the last directive, by side. */
struct part {
    char name[ROLLBACK_NAME], id[ROLLBACK_ID];
    int percent;
};
struct traffic {
    struct service *s;
    const struct set_deployment *set;
    char subject[SUBJECT_MAX_LEN];
    struct bus_watch *watch;
    struct bus_sub *sub;
    bool synced;
    int64_t opened_ms;
    uint64_t epoch; /* of the last directive; 0 = there was none */
    struct part part[2];
    struct peer *peers;
    size_t n_peers;
    struct job *jobs;
};

enum kind { VIEW, CHECK, SET };
enum stage { BEGIN, GAIN, GIVE };
/* A directive on its way to the stream; outlives its job. */
struct sent {
    struct job *j;
};
struct job {
    struct traffic *t;
    enum kind kind;
    enum stage stage;
    traffic_view_cb view;
    traffic_cb done;
    void *ctx;
    char job[ROLLBACK_JOB];
    uint64_t least; /* epoch of the order */
    struct part part[2];
    bool gains[2];
    uint64_t epoch; /* of what was sent */
    bool stored;
    struct sent *sent;
    struct loop_timer timer;
    int64_t until_ms;
    struct job *prev, *next;
};

static bool live(const struct peer *p)
{
    return clock_mono_ms() - p->heard_ms < SILENT_MS;
}

static bool is(const struct peer *p, const struct part *x)
{
    return (*x->name && strcmp(p->version, x->name) == 0) || (*x->id && strcmp(p->version, x->id) == 0);
}

/* ---- the end of a job ---- */

static void free_job(void *ctx)
{
    free(ctx);
}

static void drop(struct job *j)
{
    DL_DELETE(j->t->jobs, j);
    if (j->sent)
        j->sent->j = NULL;
    loop_timer_close(&j->timer, free_job);
}

static void finish(struct job *j, const struct traffic_view *v)
{
    char text[ERR_TEXT_MAX + 200];
    snprintf(text, sizeof text, "traffic nats, %s: %s", j->t->subject, v->error);
    struct traffic_view out = *v;
    out.error = v->ok ? "" : text;
    traffic_view_cb view = j->view;
    traffic_cb done = j->done;
    void *ctx = j->ctx;
    drop(j);
    if (view)
        view(ctx, &out);
    else
        done(ctx, &(struct executor_result){.ok = out.ok, .lasting = out.lasting, .text = out.error});
}

static void finish_text(struct job *j, const char *error)
{
    finish(j, &(struct traffic_view){.ok = !error, .error = error ? error : ""});
}

/* ---- what stands ---- */

static void look(const struct traffic *t, struct traffic_view *v, struct err *e)
{
    size_t listed = 0, late = 0, others = 0;
    const struct peer *p, *slow = NULL;
    *v = (struct traffic_view){.ok = true, .error = ""};
    DL_FOREACH(t->peers, p)
    {
        int side = is(p, &t->part[0]) ? 0 : is(p, &t->part[1]) ? 1 : -1;
        if (!live(p))
            continue;
        others += side < 0;
        if (side < 0)
            continue;
        v->sessions[side] += p->in_hand;
        listed += t->part[side].percent > 0;
        if (p->epoch < t->epoch) {
            late++;
            slow = p;
        }
    }
    v->share[0] =
        100; /* what others have deployed stands on side 0, and takes everything while nobody says otherwise */
    if (late) {
        v->ok = false;
        err_set(e, "%zu instances have not taken their new share yet, one is %.100s", late, slow->instance);
    } else if (listed) { /* half-way both take what moves: who has more is told as it is */
        int a = t->part[0].percent, b = t->part[1].percent;
        v->share[0] = a + b > 100 && b > a ? 100 - b : a;
        v->share[1] = a + b > 100 && b <= a ? 100 - a : b;
    } else if (t->epoch && !others) {
        v->ok = false;
        err_set(e,
                "no instance has said in the last %d s which share it takes: do they run, with libredoubt's "
                "`deployment` and `version`?",
                SILENT_MS / 1000);
    }
    v->error = v->ok ? "" : e->text;
}

/* ---- a set ---- */

static void on_stored(void *ctx, const struct bus_stored *r);
static void turn(struct job *j);

static void say(struct job *j, const int percent[2])
{
    struct traffic *t = j->t;
    PB(VersionShare) shares[2] = {REDOUBT__V1__VERSION_SHARE__INIT, REDOUBT__V1__VERSION_SHARE__INIT};
    PB(VersionShare) * list[2] = {&shares[0], &shares[1]};
    PB(WorkShare) w = REDOUBT__V1__WORK_SHARE__INIT;
    char id[SUBJECT_MAX_LEN];
    for (int s = 0; s < 2; s++) {
        shares[s].name = j->part[s].name;
        shares[s].id = j->part[s].id;
        shares[s].percent = (uint32_t)percent[s];
    }
    j->epoch = t->epoch + 1 > j->least ? t->epoch + 1 : j->least;
    w.deployment = t->set->name;
    w.epoch = j->epoch;
    w.job_id = j->job;
    w.shares = list;
    w.n_shares = 2;
    w.changed_unix_ms = clock_wall_ms();
    snprintf(id, sizeof id, "share/%s/%" PRIu64 "/%s", t->set->name, w.epoch, t->s->boot_id);
    if (j->sent)
        j->sent->j = NULL; /* superseded by what follows */
    j->sent = malloc(sizeof *j->sent);
    assert(j->sent && "out of memory for a few words");
    j->sent->j = j;
    j->stored = false;
    service_announce(t->s, t->subject, id, &w, on_stored, j->sent);
}

/* Has every live instance of the versions that gain said that it takes what it was given? */
static bool confirmed(const struct job *j, struct err *e)
{
    for (int s = 0; s < 2; s++) {
        size_t n = 0;
        const struct peer *p;
        DL_FOREACH(j->t->peers, p)
        {
            if (!j->gains[s] || !live(p) || !is(p, &j->part[s]))
                continue;
            n++;
            if (p->epoch < j->epoch) {
                err_set(e, "instance %.128s of %s has not taken its new share", p->instance, j->part[s].name);
                return false;
            }
        }
        if (j->gains[s] && n == 0) {
            err_set(e,
                    "no instance of %s has said that it takes a share: does it run, with libredoubt's `deployment` "
                    "and `version`?",
                    j->part[s].name);
            return false;
        }
    }
    return true;
}

/* What this version takes now: all, unless the last directive says otherwise. */
static int takes(const struct traffic *t, const struct part *x)
{
    for (int s = 0; t->epoch && s < 2; s++)
        if ((*x->id && strcmp(x->id, t->part[s].id) == 0) || (*x->name && strcmp(x->name, t->part[s].name) == 0))
            return t->part[s].percent;
    return 100;
}

static void begin_set(struct job *j)
{
    struct traffic *t = j->t;
    int first[2];
    bool same = t->epoch > 0;
    for (int s = 0; s < 2; s++) {
        int now = takes(t, &j->part[s]);
        j->gains[s] = j->part[s].percent > now;
        first[s] = j->gains[s] ? j->part[s].percent : now;
        same = same && t->part[s].percent == j->part[s].percent && strcmp(t->part[s].id, j->part[s].id) == 0;
    }
    if (same) { /* asked for again */
        finish_text(j, NULL);
        return;
    }
    j->stage = j->gains[0] || j->gains[1] ? GAIN : GIVE;
    say(j, j->stage == GAIN ? first : (int[2]){j->part[0].percent, j->part[1].percent});
}

static void turn(struct job *j)
{
    struct traffic *t = j->t;
    struct traffic_view v;
    struct err e;
    bool over = clock_mono_ms() >= j->until_ms;
    if (!t->synced || !bus_up(t->s->bus)) {
        if (over)
            finish_text(j, "NATS is not reachable");
        return;
    }
    if (j->kind == VIEW) {
        look(t, &v, &e);
        finish(j, &v);
        return;
    }
    if (j->kind == CHECK) {
        const struct peer *p;
        DL_FOREACH(t->peers, p)
        {
            if (live(p)) {
                finish_text(j, NULL);
                return;
            }
        }
        if (over)
            finish_text(j, "no instance has said which share it takes: do they run, with libredoubt's `deployment` "
                           "and `version`?");
        return;
    }
    if (j->stage == BEGIN) {
        begin_set(j);
    } else if (j->stage == GAIN && j->stored && confirmed(j, &e)) {
        j->stage = GIVE;
        say(j, (int[2]){j->part[0].percent, j->part[1].percent});
    } else if (j->stage == GIVE && j->stored && t->epoch >= j->epoch) {
        /* Heard by this side as well: from here on a view speaks of it, not of the stage before. */
        finish_text(j, NULL);
    } else if (over) {
        finish_text(j, !j->stored         ? "NATS did not store the shares in time"
                       : j->stage == GIVE ? "NATS has stored the shares and not handed them out in time"
                                          : e.text);
    }
}

static void on_stored(void *ctx, const struct bus_stored *r)
{
    struct job *j = ((struct sent *)ctx)->j;
    free(ctx);
    if (!j)
        return;
    j->sent = NULL;
    if (r->status == BUS_OK) {
        j->stored = true;
        turn(j);
        return;
    }
    struct err e;
    err_set(&e, "NATS has refused the shares: %s", *r->error ? r->error : bus_status_text(r->status));
    finish_text(j, e.text);
}

static void turn_all(struct traffic *t)
{
    struct job *j, *next;
    DL_FOREACH_SAFE(t->jobs, j, next)
    {
        turn(j);
    }
}

/* ---- what is heard ---- */

static void on_share(void *ctx, const struct bus_msg *m)
{
    struct traffic *t = ctx;
    PB(WorkShare) *w = wire_unpack(PB_DESC(work_share), m->data, m->len, NULL);
    if (!w || strcmp(w->deployment, t->set->name) != 0) {
        metric_add(&bad, 1);
    } else if (w->epoch > t->epoch) {
        memset(t->part, 0, sizeof t->part);
        for (size_t i = 0; i < w->n_shares && i < 2; i++) {
            snprintf(t->part[i].name, sizeof t->part[i].name, "%s", w->shares[i]->name);
            snprintf(t->part[i].id, sizeof t->part[i].id, "%s", w->shares[i]->id);
            t->part[i].percent = (int)w->shares[i]->percent;
        }
        t->epoch = w->epoch;
        turn_all(t);
    }
    wire_free(w);
}

static void on_synced(void *ctx)
{
    struct traffic *t = ctx;
    t->synced = true;
    turn_all(t);
}

static struct peer *peer_of(struct traffic *t, const char *instance)
{
    struct peer *p, *next;
    DL_FOREACH_SAFE(t->peers, p, next)
    {
        if (strcmp(p->instance, instance) == 0)
            return p;
        if (!live(p)) {
            DL_DELETE(t->peers, p);
            free(p);
            t->n_peers--;
        }
    }
    p = t->n_peers < PEERS_MAX ? calloc(1, sizeof *p) : NULL;
    if (p) {
        snprintf(p->instance, sizeof p->instance, "%s", instance);
        DL_APPEND(t->peers, p);
        t->n_peers++;
    }
    return p;
}

static void on_shared(void *ctx, const struct bus_msg *m)
{
    struct traffic *t = ctx;
    PB(WorkShared) *w = wire_unpack(PB_DESC(work_shared), m->data, m->len, NULL);
    struct peer *p = w && strcmp(w->deployment, t->set->name) == 0 ? peer_of(t, w->instance) : NULL;
    if (!p) {
        metric_add(&bad, 1);
    } else {
        snprintf(p->version, sizeof p->version, "%s", w->version);
        p->epoch = w->epoch;
        p->percent = (int)w->percent;
        p->in_hand = w->in_hand;
        p->heard_ms = clock_mono_ms();
        turn_all(t);
    }
    wire_free(w);
}

/* ---- the table ---- */

static void on_time(void *ctx)
{
    turn(ctx);
}

static struct job *begin(struct traffic *t, enum kind kind, traffic_view_cb view, traffic_cb done, void *ctx)
{
    struct job *j = calloc(1, sizeof *j);
    assert(j && "out of memory for a few words");
    *j = (struct job){.t = t, .kind = kind, .view = view, .done = done, .ctx = ctx};
    loop_timer_init(&t->s->loop, &j->timer, on_time, j);
    DL_APPEND(t->jobs, j);
    return j;
}

/* Looks at once (on the next turn), at each message, and at the end of its time. */
static void wait_for(struct job *j, int64_t ms)
{
    j->until_ms = clock_mono_ms() + ms;
    loop_timer_start(&j->timer, 0, ms);
}

static void nats_view(struct traffic *t, const struct executor_instance *at, size_t count, traffic_view_cb cb,
                      void *ctx)
{
    (void)at, (void)count;
    wait_for(begin(t, VIEW, cb, NULL, ctx), t->set->traffic.timeout_ms);
}

static void nats_check(struct traffic *t, traffic_cb cb, void *ctx)
{
    struct job *j = begin(t, CHECK, NULL, cb, ctx);
    int64_t left = t->opened_ms + HEARD_MS - clock_mono_ms();
    wait_for(j, left > t->set->traffic.timeout_ms ? left : t->set->traffic.timeout_ms);
}

static void nats_set(struct traffic *t, const struct traffic_order *o, traffic_cb cb, void *ctx)
{
    struct job *j = begin(t, SET, NULL, cb, ctx);
    snprintf(j->job, sizeof j->job, "%s", o->job);
    j->least = o->epoch;
    for (int s = 0; s < 2; s++) {
        snprintf(j->part[s].name, sizeof j->part[s].name, "%s", o->name[s] ? o->name[s] : "");
        snprintf(j->part[s].id, sizeof j->part[s].id, "%s", o->version[s] ? o->version[s] : "");
        j->part[s].percent = o->share[s];
    }
    wait_for(j, t->set->traffic.timeout_ms);
}

static void nats_close(struct traffic *t)
{
    struct job *j, *next;
    struct peer *p, *after;
    if (!t)
        return;
    DL_FOREACH_SAFE(t->jobs, j, next)
    {
        drop(j);
    }
    DL_FOREACH_SAFE(t->peers, p, after)
    {
        free(p);
    }
    if (t->watch)
        bus_watch_close(t->watch);
    bus_unsubscribe(t->sub);
    free(t);
}

static struct traffic *nats_open(struct service *s, const struct set_deployment *set, struct err *e)
{
    char shared[SUBJECT_MAX_LEN];
    struct traffic *t = calloc(1, sizeof *t);
    if (!t) {
        err_set(e, "out of memory");
        return NULL;
    }
    t->s = s;
    t->set = set;
    t->opened_ms = clock_mono_ms();
    snprintf(t->subject, sizeof t->subject, SUBJECT_SHARE "%s", set->name);
    snprintf(shared, sizeof shared, SUBJECT_SHARED "%s", set->name);
    if (!s->bus) /* --check: nothing is asked */
        return t;
    t->watch = bus_watch(s->bus, t->subject, 0, on_share, on_synced, t);
    t->sub = bus_subscribe(s->bus, shared, NULL, on_shared, t);
    if (!t->watch || !t->sub) {
        err_set(e, "cannot watch %s: out of memory", t->subject);
        nats_close(t);
        return NULL;
    }
    return t;
}

const struct traffic_kind traffic_nats = {
    .name = "nats", .open = nats_open, .close = nats_close, .view = nats_view, .check = nats_check, .set = nats_set};
