/* alert_memory.c - the memory of problems as a whole: what mutes, what other replicas say, its beginning and its end. */
#include "alert/alert_memory.h"
#include "common/clock.h"
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define ALERT_TTL "86400000" /* of how far an alert is, in ms */
#define KEY_MAX   192
#define RESYNC_MS 600000

static const struct set_alert *settings_of(const struct alert_memory *m)
{
    return &m->room->service->settings->alert;
}

/* ---- what mutes ---- */

struct alert_mute alert_memory_mute(const struct alert_memory *m, const PB(Alert) * a, const char *id,
                                    int64_t first_ms, int64_t now_ms)
{
    struct alert_mute r = {.by = ""};
    if (m->closed)
        return r;
    const PB(Silence) *s = alert_silences_fit(m->silences, a, now_ms);
    const char *rule = s || !m->inhibits ? NULL : alert_inhibits_by(m->inhibits, a, id, first_ms);
    if (s) {
        snprintf(r.by, sizeof r.by, "silence/%s", s->id);
        r.until_ms = s->ends_unix_ms;
    } else if (rule) {
        snprintf(r.by, sizeof r.by, "inhibit/%s", rule);
    }
    return r;
}

struct alert_silences *alert_memory_silences(struct alert_memory *m)
{
    return m->silences;
}

/* ---- alerts that are through, and problems of channels ---- */

void alert_memory_delivered(struct alert_memory *m, const PB(Alert) * alert, const char *channel)
{
    char id[ALERT_ID_LEN + 1], key[KEY_MAX], progress[NAME_MAX_LEN + 2];
    snprintf(progress, sizeof progress, "d%s", channel);
    alert_local_remember(&m->local, alert->id, progress);
    if (!store_up(m->store))
        return;
    snprintf(key, sizeof key, "redoubt:{al:%s}:%s", alert_doc_id(alert->dedup_key, id), alert->id);
    store_cmd(m->store, NULL, NULL, 5, (const char *const[]){"SET", key, progress, "PX", ALERT_TTL}, NULL);
}

struct firing {
    alert_firing_cb cb;
    void *ctx;
};

static void on_firing(void *ctx, const struct alert_changed *r)
{
    struct firing f = *(struct firing *)ctx;
    struct alert_problem p;
    free(ctx);
    f.cb(f.ctx, alert_doc_read(r->problem, &p) && alert_problem_open(&p) && p.told_ms > 0);
}

void alert_memory_firing(struct alert_memory *m, const char *dedup_key, alert_firing_cb cb, void *ctx)
{
    char id[ALERT_ID_LEN + 1];
    struct firing *f = malloc(sizeof *f);
    if (!f) {
        cb(ctx, false);
        return;
    }
    *f = (struct firing){cb, ctx};
    alert_memory_change(m, &(struct alert_change){.kind = ALERT_CHANGE_GET, .id = alert_doc_id(dedup_key, id)},
                        on_firing, f);
}

/* ---- what other replicas say ---- */

static void on_problem(void *ctx, const struct bus_msg *msg)
{
    struct alert_memory *m = ctx;
    struct err e;
    struct alert_problem p;
    PB(ProblemChanged) *d = wire_unpack(PB_DESC(problem_changed), msg->data, msg->len, &e);
    const char *id = subject_tail(msg->subject, SUBJECT_PROBLEM);
    if (!d || !id || strcmp(id, d->id) != 0 || !alert_doc_read(d, &p)) {
        service_bad_input(m->room->service, "problem", msg, d ? "it contradicts itself" : e.text);
        wire_free(d);
        return;
    }
    struct alert_copy *c = alert_local_find(&m->local, id);
    /* One that is being decided here is left alone: Redis says what is newer. */
    if ((!c || (!c->first && c->rev < d->revision)) && (c = alert_local_of(&m->local, id))) {
        size_t len = 0;
        void *data = wire_pack(d, &len, NULL);
        if (data)
            alert_local_keep(c, d, data, len);
    }
    if (c && c->rev <= d->revision && m->inhibits && alert_inhibits_feed(m->inhibits, d))
        alert_due_wake(m->due);
    wire_free(d);
}

/* ---- open, reload, close ---- */

static void synced(struct alert_memory *m, unsigned what)
{
    m->unsynced &= ~what;
    if (m->unsynced == 0 && !m->ready)
        alert_memory_go(m);
}

static void on_silences_synced(void *ctx)
{
    synced(ctx, ALERT_SYNC_SILENCES);
}

static void on_problems_synced(void *ctx)
{
    synced(ctx, ALERT_SYNC_PROBLEMS);
}

static void on_silences(void *ctx)
{
    struct alert_memory *m = ctx;
    if (m->due)
        alert_due_wake(m->due);
}

static void load_rules(struct alert_memory *m)
{
    struct err e;
    struct alert_inhibits *fresh = alert_inhibits_new(settings_of(m), &e);
    if (!fresh) {
        log_error("alert.inhibit is not taken over", F_STR("why", e.text));
        return;
    }
    alert_inhibits_free(m->inhibits);
    m->inhibits = fresh;
    /* The watch begins anew: its replay brings the sources. */
    if (m->watch)
        bus_watch_close(m->watch);
    m->watch = bus_watch(m->room->service->bus, SUBJECT_PROBLEM ">", RESYNC_MS, on_problem, on_problems_synced, m);
    if (!m->watch)
        log_error("cannot watch problems", F_STR("subject", SUBJECT_PROBLEM ">"));
}

struct alert_memory *alert_memory_open(struct alert_room *r)
{
    struct alert_memory *m = calloc(1, sizeof *m);
    if (!m)
        return NULL;
    *m = (struct alert_memory){.room = r,
                               .store = r->service->store,
                               .unsynced = ALERT_SYNC_SILENCES | ALERT_SYNC_PROBLEMS,
                               .opened_ms = clock_mono_ms(),
                               .read = alert_read_script,
                               .write = alert_write_script,
                               .drop = alert_drop_script};
    m->early_last = &m->early;
    m->silences = alert_silences_open(r->service, on_silences, on_silences_synced, m);
    m->due = m->silences ? alert_due_open(m) : NULL;
    if (!m->due) {
        alert_silences_close(m->silences);
        free(m);
        return NULL;
    }
    load_rules(m);
    alert_room_ref(r);
    return m;
}

void alert_memory_reload(struct alert_memory *m)
{
    load_rules(m);
    alert_due_wake(m->due);
}

void alert_memory_close(struct alert_memory *m)
{
    if (!m)
        return;
    if (!m->closed) {
        m->closed = true;
        if (m->watch)
            bus_watch_close(m->watch);
        alert_silences_close(m->silences);
        alert_inhibits_free(m->inhibits);
        m->silences = NULL;
        m->inhibits = NULL;
        m->watch = NULL;
        alert_lists_drop(m);
        alert_due_close(m->due);
    }
    if (m->asks > 0)
        return; /* the last answer comes back here */
    alert_memory_drop_asks(&m->early);
    for (struct alert_copy *c = m->local.copies; c; c = c->hh.next)
        alert_memory_drop_asks(&c->first); /* behind one that the store has just ended */
    alert_local_clear(&m->local);
    alert_due_free(m->due);
    struct alert_room *r = m->room;
    free(m);
    alert_room_unref(r);
}
