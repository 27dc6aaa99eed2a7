/* alert_state.c - problems and alerts remembered, in Redis, on STATE and here.
 *
 * Redis: `redoubt:{al:<id>}` is a hash with the problem's document (`rev`, `doc`), and below the same tag `...:<alert id>` says how far one
 * alert is: `n` to be told, `q` only to be recorded, `m<why>` the same as it is muted, `d<channel>` done. Whoever decides writes both if the
 * problem's rev is still the one that the decision stands on; else decides again. What others must hear of is then said on STATE.
 *
 * The newest document counts: that of Redis, unless it was emptied or has been away, and this process or STATE knows a later one. Without Redis
 * this process goes by its own memory and by STATE; it may tell twice what another replica has told, but nothing is left untold. */
#include "alert/alert_state.h"
#include "alert/alert_index.h"
#include "alert/alert_memory.h"
#include "alert/alert_purge.h"
#include "common/clock.h"
#include "common/metric.h"
#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define OVER_TTL      "172800000" /* of a problem that is over, should nobody remove it; in ms */
#define ALERT_TTL     "86400000"
#define ASK_TIMES_MAX 8
#define STATE_MS      1000
#define SAY_MS        4000
#define KEY_MAX       192

METRIC_DEFINE(damaged_docs, METRIC_COUNTER, "redoubt_alert_problems_damaged_total",
              "Problems' documents in Redis that could not be read; replaced by what is known.");
METRIC_DEFINE(alone_asks, METRIC_COUNTER, "redoubt_alert_decided_alone_total", "Decisions made without Redis.");

static const char read_body[] = "local h = redis.call('HMGET', KEYS[1], 'rev', 'doc')\n"
                                "return {h[1] or '0', h[2] or '', ''}\n";
/* ARGV: rev that is expected, new rev, document ('' = it stays), ms until it goes by itself (0 = never), progress of the alert ('' = none is
 * meant), ms. Another rev, or an alert that was decided before: what is there. */
static const char write_body[] =
    "local h = redis.call('HMGET', KEYS[1], 'rev', 'doc')\n"
    "local seen = ARGV[5] ~= '' and redis.call('GET', KEYS[2]) or ''\n"
    "if seen ~= '' or (h[1] or '0') ~= ARGV[1] then return {h[1] or '0', h[2] or '', seen} end\n"
    "if ARGV[3] ~= '' then\n"
    "  redis.call('HSET', KEYS[1], 'rev', ARGV[2], 'doc', ARGV[3])\n"
    "  if ARGV[4] == '0' then redis.call('PERSIST', KEYS[1]) else redis.call('PEXPIRE', KEYS[1], ARGV[4]) end\n"
    "end\n"
    "if ARGV[5] ~= '' then redis.call('SET', KEYS[2], ARGV[5], 'PX', ARGV[6]) end\n"
    "return 1\n";
static const char drop_body[] = "if (redis.call('HGET', KEYS[1], 'rev') or '0') ~= ARGV[1] then return 0 end\n"
                                "return redis.call('DEL', KEYS[1])\n";
const struct store_script alert_read_script = {.name = "alert read", .body = read_body};
const struct store_script alert_write_script = {.name = "alert write", .body = write_body};
const struct store_script alert_drop_script = {.name = "alert drop", .body = drop_body};

struct alert_ask {
    struct alert_ask *next;
    struct alert_memory *memory;
    struct alert_copy *copy;
    char id[ALERT_ID_LEN + 1];
    /* an alert ... */
    const PB(Alert) * alert; /* the asker's; NULL = a change */
    char alert_id[65];
    char route[NAME_MAX_LEN + 1];
    struct alert_recall recall;
    alert_recall_cb recall_cb;
    /* ... or a change */
    struct alert_change change;
    struct alert_changed changed;
    alert_changed_cb changed_cb;
    void *ctx;

    struct alert_problem_rule rule;
    int times;
    bool sure;        /* Redis was asked */
    bool asked_state; /* ... and STATE */
    bool saying;      /* waits for STATE */
    uint64_t redis_rev;
    PB(ProblemChanged) * base; /* what the decision stands on; NULL = nothing is known */
    bool redis_behind;         /* the base is newer than what Redis has */
    /* the decision */
    struct alert_problem was, now;
    struct alert_mute mute;
    bool store; /* there is a document to be written: data */
    bool say;   /* ... and to be said */
    void *data;
    size_t len;
    char progress[ALERT_PROGRESS_MAX];
};

static void begin(struct alert_ask *a);
static void decide(struct alert_ask *a);

static const struct set_alert *settings_of(const struct alert_memory *m)
{
    return &m->room->service->settings->alert;
}

/* ---- the end of an ask ---- */

static void ask_free(struct alert_ask *a)
{
    wire_free(a->base);
    free(a->data);
    free((char *)a->change.by);
    free((char *)a->change.reason);
    wire_free((PB(ProblemChanged) *)a->change.given);
    free(a);
}

static void call_back(struct alert_ask *a)
{
    if (a->alert) {
        a->recall_cb(a->ctx, &a->recall);
        return;
    }
    PB(ProblemChanged) *d = alert_local_get(a->copy);
    a->changed.problem = d ? d : a->base;
    a->changed_cb(a->ctx, &a->changed);
    wire_free(d);
}

static void finish(struct alert_ask *a)
{
    struct alert_memory *m = a->memory;
    struct alert_copy *c = a->copy;
    assert(c->first == a);
    if (!a->alert)
        call_back(a); /* the copy must still be there */
    struct alert_ask *next = a->next;
    c->first = next;
    if (!next)
        c->last = &c->first;
    if (a->alert)
        call_back(a); /* without a next one the problem may be forgotten in there */
    ask_free(a);
    if (next && !m->closed)
        begin(next);
}

/* ---- what follows from a decision ---- */

static void on_said(void *ctx, const struct bus_stored *r)
{
    struct alert_ask *a = ctx;
    struct alert_memory *m = a->memory;
    a->changed.status = r->status == BUS_OK ? ALERT_CHANGE_DONE : ALERT_CHANGE_UNSAFE;
    finish(a);
    alert_memory_answered(m);
}

static void on_said_alone(void *ctx, const struct bus_stored *r)
{
    (void)ctx;
    if (r->status == BUS_REFUSED)
        log_error("stream refused a problem", F_STR("why", r->error));
}

/* On STATE; `a` waits for it if that is the only place where it is safe. */
static void say(struct alert_ask *a, const PB(ProblemChanged) * d, bool wait)
{
    char subject[SUBJECT_MAX_LEN], id[96];
    snprintf(subject, sizeof subject, "%s%s", SUBJECT_PROBLEM, d->id);
    snprintf(id, sizeof id, "problem/%s/%" PRIu64, d->id, d->revision);
    struct bus_out o = {.subject = subject, .id = id, .type = wire_type(d), .data = a->data, .len = a->len};
    a->saying = wait;
    if (wait)
        a->memory->asks++;
    /* Who asked is told in time; what goes out later all the same is the truth, too. */
    bus_store(a->memory->room->service->bus, &o, wait ? SAY_MS : 0, wait ? on_said : on_said_alone, a);
}

/* The decision holds: Redis has it (or is away). */
static void keep(struct alert_ask *a, bool in_store)
{
    struct alert_memory *m = a->memory;
    a->changed.in_store = in_store;
    if (a->alert)
        alert_local_remember(&m->local, a->alert_id, a->progress);
    if (!a->store) {
        finish(a);
        return;
    }
    PB(ProblemChanged) *d = wire_unpack(PB_DESC(problem_changed), a->data, a->len, NULL);
    assert(d && "what was packed a moment ago");
    bool indexed = a->base && !a->redis_behind && alert_problem_open(&a->was) == alert_problem_open(&a->now) &&
                   a->was.due_ms == a->now.due_ms && (a->alert || a->change.kind != ALERT_CHANGE_LOOK);
    if (in_store && !indexed)
        alert_index_set(m->store, d->id, alert_problem_open(&a->now), d->due_unix_ms);
    bool person = !a->alert && (a->change.kind == ALERT_CHANGE_ACK || a->change.kind == ALERT_CHANGE_UNACK);
    bool wait = person && !in_store && !m->closed;
    if (!m->closed && (a->say || wait))
        say(a, d, wait);
    alert_local_keep(a->copy, d, a->data, a->len);
    a->data = NULL;
    if (m->inhibits && alert_inhibits_feed(m->inhibits, d))
        alert_due_wake(m->due);
    wire_free(d);
    if (!wait)
        finish(a);
}

static void keys_of(const struct alert_ask *a, char problem[static KEY_MAX], char alert[static KEY_MAX])
{
    snprintf(problem, KEY_MAX, "redoubt:{al:%s}", a->copy->id);
    snprintf(alert, KEY_MAX, "redoubt:{al:%s}:%s", a->copy->id, a->alert_id);
}

/* ---- answers of Redis ---- */

static void complain(struct alert_memory *m, enum store_status st, const redisReply *r)
{
    uint64_t held;
    metric_add(&alone_asks, 1);
    if (st != STORE_CLOSED && log_allowed(&m->refused, clock_mono_ms(), 10000, &held))
        log_warn("memory of problems out of reach: going by this process' own",
                 F_STR("why", st == STORE_ERROR && r && r->str ? r->str : store_status_text(st)),
                 F_INT("held_back", held));
}

/* What was decided for this alert before holds; true if there is such a thing. */
static bool decided_before(struct alert_ask *a, const char *progress)
{
    if (*progress == 'd') {
        a->recall.delivered = true;
        snprintf(a->recall.channel, sizeof a->recall.channel, "%.64s", progress + 1);
    } else if (*progress == 'n') {
        a->recall.verdict = ALERT_NOTIFY;
    } else if (*progress == 'q') {
        a->recall.verdict = ALERT_REPEAT;
    } else if (*progress == 'm') {
        a->recall.verdict = ALERT_MUTED;
        snprintf(a->recall.why, sizeof a->recall.why, "%s", progress + 1);
    } else {
        return false;
    }
    return true;
}

static void set_base(struct alert_ask *a, PB(ProblemChanged) * d)
{
    wire_free(a->base);
    a->base = d;
}

/* The newer one stays the base. Takes d. */
static void newer(struct alert_ask *a, PB(ProblemChanged) * d)
{
    struct alert_problem p;
    if (d && alert_doc_read(d, &p) && strcmp(d->id, a->copy->id) == 0 &&
        (!a->base || d->revision > a->base->revision))
        set_base(a, d);
    else
        wire_free(d);
}

static const char *text(const redisReply *r)
{
    return r->type == REDIS_REPLY_STRING ? r->str : "";
}

static void on_redis(struct alert_ask *a, const redisReply *r);

static void on_written(void *ctx, enum store_status st, const redisReply *r)
{
    struct alert_ask *a = ctx;
    struct alert_memory *m = a->memory;
    if (st == STORE_OK && r->type != REDIS_REPLY_INTEGER && ++a->times < ASK_TIMES_MAX) {
        on_redis(a, r); /* another replica was first */
    } else {
        bool won = st == STORE_OK && r->type == REDIS_REPLY_INTEGER;
        if (!won)
            complain(m, st, r);
        keep(a, won);
    }
    alert_memory_answered(m);
}

static void write_down(struct alert_ask *a)
{
    struct alert_memory *m = a->memory;
    char problem[KEY_MAX], alert[KEY_MAX], expect[24], rev[24];
    keys_of(a, problem, alert);
    bool over = a->store && a->now.state == ALERT_PROBLEM_RESOLVED;
    uint64_t base_rev = a->base ? a->base->revision : 0;
    uint64_t new_rev = (base_rev > a->redis_rev ? base_rev : a->redis_rev) + 1;
    if (!a->alert && a->change.kind == ALERT_CHANGE_MEND)
        new_rev = base_rev;
    snprintf(expect, sizeof expect, "%" PRIu64, a->redis_rev);
    snprintf(rev, sizeof rev, "%" PRIu64, new_rev);
    const char *keys[] = {problem, alert};
    const char *args[] = {expect, rev, a->store ? a->data : "", over ? OVER_TTL : "0", a->progress, ALERT_TTL};
    const size_t lens[] = {strlen(expect),  strlen(rev),     a->store ? a->len : 0,
                           strlen(args[3]), strlen(args[4]), strlen(args[5])};
    m->asks++;
    store_eval(m->store, &m->write, on_written, a, 2, keys, 6, args, lens);
}

/* Without Redis. */
static void alone(struct alert_ask *a)
{
    a->sure = false;
    decide(a);
}

static void on_state(void *ctx, enum bus_status st, const struct bus_msg *m)
{
    struct alert_ask *a = ctx;
    struct alert_memory *memory = a->memory;
    if (st == BUS_OK && m)
        newer(a, wire_unpack(PB_DESC(problem_changed), m->data, m->len, NULL));
    a->redis_behind = a->base != NULL;
    decide(a);
    alert_memory_answered(memory);
}

/* Redis and this process know nothing of it: perhaps STATE does. */
static bool ask_state(struct alert_ask *a)
{
    struct alert_memory *m = a->memory;
    struct bus *bus = m->room->service->bus;
    if (a->asked_state || a->base || m->closed || !bus_up(bus))
        return false;
    char subject[SUBJECT_MAX_LEN];
    a->asked_state = true;
    m->asks++;
    snprintf(subject, sizeof subject, "%s%s", SUBJECT_PROBLEM, a->copy->id);
    bus_last(bus, STREAM_STATE, subject, STATE_MS, on_state, a);
    return true;
}

/* What Redis has: rev, document, progress. */
static void on_redis(struct alert_ask *a, const redisReply *r)
{
    struct alert_memory *m = a->memory;
    uint64_t held;
    if (r->type != REDIS_REPLY_ARRAY || r->elements != 3 || r->element[1]->type != REDIS_REPLY_STRING) {
        complain(m, STORE_ERROR, NULL);
        alone(a);
        return;
    }
    if (a->alert && decided_before(a, text(r->element[2]))) {
        alert_local_remember(&m->local, a->alert_id, text(r->element[2]));
        /* Who had it in hand was killed: perhaps its end was told meanwhile. */
        a->recall.over = !a->alert->resolved && alert_doc_over(r->element[1]->str, r->element[1]->len);
        finish(a);
        return;
    }
    const redisReply *doc = r->element[1];
    a->sure = true;
    a->redis_rev = strtoull(text(r->element[0]), NULL, 10);
    PB(ProblemChanged) *d = wire_unpack(PB_DESC(problem_changed), doc->str, doc->len, NULL);
    struct alert_problem p;
    if (a->redis_rev > 0 && (!alert_doc_read(d, &p) || d->revision != a->redis_rev)) {
        metric_add(&damaged_docs, 1);
        if (log_allowed(&m->damaged, clock_mono_ms(), 10000, &held))
            log_warn("a problem's document is damaged, and replaced", F_STR("id", a->copy->id),
                     F_INT("held_back", held));
    }
    /* An emptied Redis, or one that was away, does not make us forget; else what it has counts. */
    if (d && d->revision == a->redis_rev && (!a->base || a->base->revision <= a->redis_rev) && alert_doc_read(d, &p))
        set_base(a, d);
    else
        wire_free(d);
    a->redis_behind = a->base && a->base->revision > a->redis_rev;
    if (a->base || a->alert || !ask_state(a))
        decide(a);
}

static void on_read(void *ctx, enum store_status st, const redisReply *r)
{
    struct alert_ask *a = ctx;
    struct alert_memory *m = a->memory;
    if (st == STORE_OK) {
        on_redis(a, r);
    } else {
        complain(m, st, r);
        if (!ask_state(a))
            alone(a);
    }
    alert_memory_answered(m);
}

/* ---- the decision ---- */

static void event_of(struct alert_ask *a, struct alert_problem_event *ev, int64_t now_ms)
{
    static const enum alert_problem_event_kind kinds[] = {[ALERT_CHANGE_ACK] = ALERT_PROBLEM_ACK,
                                                          [ALERT_CHANGE_UNACK] = ALERT_PROBLEM_UNACK,
                                                          [ALERT_CHANGE_LOOK] = ALERT_PROBLEM_LOOK,
                                                          [ALERT_CHANGE_TOLD] = ALERT_PROBLEM_TOLD};
    const PB(Alert) *about = a->alert ? a->alert : a->base->alert;
    a->mute = alert_memory_mute(a->memory, about, a->copy->id, alert_problem_open(&a->was) ? a->was.first_ms : now_ms,
                                now_ms);
    *ev = (struct alert_problem_event){.kind = !a->alert            ? kinds[a->change.kind]
                                               : a->alert->resolved ? ALERT_PROBLEM_RESOLVE
                                                                    : ALERT_PROBLEM_RAISE,
                                       .severity = (int)about->severity,
                                       .sure = a->sure,
                                       .muted = *a->mute.by != 0,
                                       .mute_until_ms = a->mute.until_ms,
                                       .until_ms = a->change.until_ms};
}

/* The document that follows from the decision, into data. */
static void compose(struct alert_ask *a, const struct alert_problem_result *r)
{
    PB(ProblemChanged) d = REDOUBT__V1__PROBLEM_CHANGED__INIT;
    if (a->base)
        d = *a->base; /* its texts are only borrowed */
    uint64_t base_rev = a->base ? a->base->revision : 0;
    d.id = a->copy->id;
    d.revision = (base_rev > a->redis_rev ? base_rev : a->redis_rev) + 1;
    alert_doc_set(&d, &a->now);
    if (a->alert) {
        d.alert = (PB(Alert) *)a->alert;
        d.route = a->route;
    }
    if (!alert_problem_open(&a->was) && alert_problem_open(&a->now)) {
        d.acked_by = d.ack_reason = (char *)"";
        d.acked_until_unix_ms = 0;
    }
    if (!a->alert && a->change.kind == ALERT_CHANGE_ACK) {
        d.acked_by = (char *)a->change.by;
        d.ack_reason = (char *)a->change.reason;
    }
    d.muted_by = (char *)(a->now.state == ALERT_PROBLEM_MUTED ? a->mute.by : "");
    if (a->now.telling == ALERT_TELL_NOTHING)
        d.telling_revision = 0;
    else if (r->tell != ALERT_TELL_NOTHING && !r->again)
        d.telling_revision = d.revision;
    bool muted_else = a->base && strcmp(d.muted_by, a->base->muted_by) != 0;
    a->say = r->changed || muted_else;
    a->store = r->touched || muted_else || r->tell != ALERT_TELL_NOTHING;
    struct err e;
    if (a->store && !(a->data = wire_pack(&d, &a->len, &e))) {
        log_error("a problem cannot be written down", F_STR("id", d.id), F_STR("why", e.text));
        a->store = a->say = false;
    }
}

static void decide_alert(struct alert_ask *a)
{
    struct alert_problem_event ev;
    int64_t now = clock_shared_ms();
    event_of(a, &ev, now);
    struct alert_problem_result r = alert_problem_decide(&a->now, &a->rule, &ev, now);
    a->recall.verdict = r.verdict;
    a->recall.repeats = r.repeats;
    a->recall.why[0] = 0;
    if (r.verdict == ALERT_MUTED && a->now.state == ALERT_PROBLEM_ACKNOWLEDGED && a->base)
        snprintf(a->recall.why, sizeof a->recall.why, "ack/%s", a->base->acked_by);
    else if (r.verdict == ALERT_MUTED)
        snprintf(a->recall.why, sizeof a->recall.why, "%s", a->mute.by);
    snprintf(a->progress, sizeof a->progress, "%s%s",
             r.verdict == ALERT_NOTIFY ? "n"
             : *a->recall.why          ? "m"
                                       : "q",
             a->recall.why);
    /* The end of what nobody has heard of is no problem. */
    if (a->was.state == ALERT_PROBLEM_UNKNOWN && r.verdict == ALERT_STRAY)
        a->store = a->say = false;
    else
        compose(a, &r);
    if (a->sure)
        write_down(a);
    else
        keep(a, false);
}

/* Redis gets the base as it is. */
static void mend(struct alert_ask *a)
{
    if (!a->sure) {
        a->changed.status = ALERT_CHANGE_UNSAFE;
        finish(a);
        return;
    }
    struct alert_memory *m = a->memory;
    a->now = a->was;
    if (!a->redis_behind) {
        alert_index_set(m->store, a->copy->id, alert_problem_open(&a->now), a->now.due_ms);
        a->changed.in_store = true;
        finish(a);
        return;
    }
    a->data = wire_pack(a->base, &a->len, NULL);
    a->store = a->data != NULL;
    write_down(a);
}

static void on_dropped(void *ctx, enum store_status st, const redisReply *r)
{
    struct alert_ask *a = ctx;
    struct alert_memory *m = a->memory;
    bool gone = st == STORE_OK && r->type == REDIS_REPLY_INTEGER && (r->integer > 0 || a->redis_rev == 0);
    if (gone && !m->closed) {
        char subject[SUBJECT_MAX_LEN];
        snprintf(subject, sizeof subject, "%s%s", SUBJECT_PROBLEM, a->copy->id);
        alert_purge(m->room->service->bus, subject);
        alert_index_drop(m->store, a->copy->id);
        alert_local_forget(&m->local, a->copy);
    }
    finish(a);
    alert_memory_answered(m);
}

/* It has been over for long. A document that is newer by now stays. */
static void forget(struct alert_ask *a)
{
    struct alert_memory *m = a->memory;
    char problem[KEY_MAX], alert[KEY_MAX], rev[24];
    keys_of(a, problem, alert);
    snprintf(rev, sizeof rev, "%" PRIu64, a->redis_rev);
    m->asks++;
    store_eval(m->store, &m->drop, on_dropped, a, 1, (const char *const[]){problem}, 1, (const char *const[]){rev},
               NULL);
}

static void decide_change(struct alert_ask *a)
{
    struct alert_problem_event ev;
    int64_t now = clock_shared_ms();
    if (!a->base) {
        if (a->sure && a->asked_state) /* an index may name it all the same */
            alert_index_drop(a->memory->store, a->copy->id);
        a->changed.status = ALERT_CHANGE_UNKNOWN;
        finish(a);
        return;
    }
    if (a->change.kind == ALERT_CHANGE_MEND) {
        mend(a);
        return;
    }
    bool stale = a->change.kind == ALERT_CHANGE_TOLD &&
                 (a->was.telling == ALERT_TELL_NOTHING || a->base->telling_revision != a->change.revision);
    if (a->change.kind == ALERT_CHANGE_GET || stale) {
        a->changed.in_store = a->sure && !a->redis_behind;
        finish(a);
        return;
    }
    alert_doc_rule(settings_of(a->memory), alert_doc_route(settings_of(a->memory), a->base->route), &a->rule);
    event_of(a, &ev, now);
    struct alert_problem_result r = a->changed.result = alert_problem_decide(&a->now, &a->rule, &ev, now);
    if (r.forget && a->sure) {
        forget(a);
        return;
    }
    if (r.refused)
        a->changed.status = ALERT_CHANGE_REFUSED;
    else
        compose(a, &r);
    if (!a->store) {
        if (a->sure) /* what brought us here may be an entry that is wrong */
            alert_index_set(a->memory->store, a->copy->id, alert_problem_open(&a->now), a->now.due_ms);
        finish(a);
    } else if (a->sure) {
        write_down(a);
    } else {
        keep(a, false);
    }
}

static void decide(struct alert_ask *a)
{
    free(a->data);
    a->data = NULL;
    a->store = a->say = false;
    if (!a->base || !alert_doc_read(a->base, &a->was))
        a->was = (struct alert_problem){0};
    a->now = a->was;
    if (a->alert)
        decide_alert(a);
    else
        decide_change(a);
}

/* ---- the beginning ---- */

static void begin(struct alert_ask *a)
{
    struct alert_memory *m = a->memory;
    if (a->alert && decided_before(a, alert_local_progress(&m->local, a->alert_id))) {
        finish(a);
        return;
    }
    newer(a, alert_local_get(a->copy));
    a->redis_rev = a->base ? a->base->revision : 0;
    if (!store_up(m->store)) {
        metric_add(&alone_asks, 1);
        if (!ask_state(a))
            alone(a);
    } else if (a->alert) {
        a->sure = true;
        /* One round trip, if what we know is the newest; Redis says if not. One that may have been emptied cannot say. */
        if (m->marked || !ask_state(a))
            decide(a);
    } else {
        char problem[KEY_MAX], alert[KEY_MAX];
        keys_of(a, problem, alert);
        m->asks++;
        store_eval(m->store, &m->read, on_read, a, 1, (const char *const[]){problem}, 0, NULL, NULL);
    }
}

static bool queue_up(struct alert_memory *m, struct alert_ask *a)
{
    struct alert_copy *c = alert_local_of(&m->local, a->id);
    if (!c)
        return false;
    a->copy = c;
    a->next = NULL;
    bool idle = !c->first;
    *c->last = a;
    c->last = &a->next;
    if (idle)
        begin(a);
    return true;
}

/* False if memory is out. */
static bool take(struct alert_memory *m, struct alert_ask *a, const char *id)
{
    a->memory = m;
    snprintf(a->id, sizeof a->id, "%s", id);
    if (m->ready)
        return queue_up(m, a);
    *m->early_last = a;
    m->early_last = &a->next;
    return true;
}

void alert_memory_go(struct alert_memory *m)
{
    m->ready = true;
    while (m->early) {
        struct alert_ask *a = m->early;
        m->early = a->next;
        if (!queue_up(m, a)) {
            a->next = NULL;
            alert_memory_drop_asks(&a);
        }
    }
}

void alert_memory_decide(struct alert_memory *m, const PB(Alert) * alert, const struct set_route *route,
                         alert_recall_cb cb, void *ctx)
{
    char id[ALERT_ID_LEN + 1];
    struct alert_ask *a = calloc(1, sizeof *a);
    if (a) {
        a->alert = alert;
        a->recall_cb = cb;
        a->ctx = ctx;
        snprintf(a->alert_id, sizeof a->alert_id, "%s", alert->id);
        snprintf(a->route, sizeof a->route, "%s", route && route->name ? route->name : "");
        alert_doc_rule(settings_of(m), route, &a->rule);
        if (take(m, a, alert_doc_id(alert->dedup_key, id)))
            return;
    }
    free(a); /* out of memory: rather once too often */
    cb(ctx, &(struct alert_recall){.verdict = ALERT_NOTIFY});
}

void alert_memory_change(struct alert_memory *m, const struct alert_change *c, alert_changed_cb cb, void *ctx)
{
    struct alert_ask *a = calloc(1, sizeof *a);
    if (a) {
        a->change =
            (struct alert_change){.kind = c->kind, .id = "", .until_ms = c->until_ms, .revision = c->revision};
        a->change.by = strdup(c->by ? c->by : "");
        a->change.reason = strdup(c->reason ? c->reason : "");
        a->changed_cb = cb;
        a->ctx = ctx;
        size_t len = 0;
        void *data = c->given ? wire_pack(c->given, &len, NULL) : NULL;
        PB(ProblemChanged) *given = data ? wire_unpack(PB_DESC(problem_changed), data, len, NULL) : NULL;
        free(data);
        if (given)
            a->base = given; /* begin() takes what is newer */
        if (a->change.by && a->change.reason && take(m, a, c->id))
            return;
        ask_free(a);
    }
    cb(ctx, &(struct alert_changed){.status = ALERT_CHANGE_UNSAFE});
}

void alert_memory_drop_asks(struct alert_ask **first)
{
    while (*first) {
        struct alert_ask *a = *first;
        *first = a->next;
        if (a->alert)
            a->recall_cb(a->ctx, &a->recall);
        else
            a->changed_cb(a->ctx, &(struct alert_changed){.status = ALERT_CHANGE_UNSAFE});
        ask_free(a);
    }
}
