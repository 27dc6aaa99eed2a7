/* alert_queue.c - each channel's own queue: few attempts at a time, no more than it takes a minute, urgent ones first.
 *
 * So a slow channel delays nobody else. What a channel has no room for, or would get only much later, is told so at once
 * (ALERT_FAULT_OVERFLOW) and goes out in a digest. Urgent attempts, and messages that hold many alerts, wait as long as they may. */
#include "alert/alert_body.h"
#include "alert/alert_room.h"
#include "alert/alert_text.h"
#include "common/clock.h"
#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define GRACE_MS    1000  /* a kind ends its attempts by itself; after this it is not waited for */
#define WAIT_MAX_MS 10000 /* for what the channel takes a minute; longer is better told in a digest */

static const struct alert_kind *const kinds[] = {[SET_CHANNEL_EMAIL] = &alert_kind_email,
                                                 [SET_CHANNEL_SLACK] = &alert_kind_slack,
                                                 [SET_CHANNEL_FILE] = &alert_kind_file,
                                                 [SET_CHANNEL_WEBHOOK] = &alert_kind_webhook,
                                                 [SET_CHANNEL_PAGERDUTY] = &alert_kind_pagerduty,
                                                 [SET_CHANNEL_TEAMS] = &alert_kind_teams,
                                                 [SET_CHANNEL_DISCORD] = &alert_kind_discord,
                                                 [SET_CHANNEL_NTFY] = &alert_kind_ntfy,
                                                 [SET_CHANNEL_SYSLOG] = &alert_kind_syslog,
                                                 [SET_CHANNEL_NATS] = &alert_kind_nats,
                                                 [SET_CHANNEL_EXEC] = &alert_kind_exec};

/* ---- a channel with a copy of its settings ---- */

struct alert_channel *alert_channel_new(struct alert_room *room, const struct set_channel *set)
{
    struct alert_channel *c = calloc(1, sizeof *c);
    if (!c)
        return NULL;
    c->room = room;
    c->kind = kinds[set->type];
    c->refs = 1;
    c->own = settings_channel_copy(set);
    if (c->own)
        c->set = *c->own;
    c->at_once = set->at_once > 0 ? (int)set->at_once : c->kind->at_once;
    c->rule =
        (struct alert_bucket_rule){.per_min = set->rate_per_min >= 0 ? set->rate_per_min : c->kind->rate_per_min,
                                   .burst = set->burst >= 0 ? set->burst : c->kind->burst};
    if (!c->own || (c->kind->open && c->kind->open(c))) {
        settings_channel_free(c->own);
        free(c);
        return NULL;
    }
    c->next = room->all;
    if (c->next)
        c->next->prev = c;
    room->all = c;
    alert_room_ref(room);
    return c;
}

bool alert_channel_same(const struct alert_channel *c, const struct set_channel *set)
{
    return settings_channel_same(&c->set, set);
}

void alert_channel_ref(struct alert_channel *c)
{
    c->refs++;
}

void alert_channel_unref(struct alert_channel *c)
{
    if (!c || --c->refs > 0)
        return;
    assert(!c->waiting && !c->running);
    struct alert_room *room = c->room;
    if (c->prev)
        c->prev->next = c->next;
    else
        room->all = c->next;
    if (c->next)
        c->next->prev = c->prev;
    if (c->kind->close)
        c->kind->close(c);
    alert_body_close(c);
    settings_channel_free(c->own);
    free(c);
    alert_room_unref(room);
}

/* ---- jobs ---- */

static void unlist(struct alert_job **first, struct alert_job *j)
{
    if (j->prev)
        j->prev->next = j->next;
    else
        *first = j->next;
    if (j->next)
        j->next->prev = j->prev;
    j->prev = j->next = NULL;
}

/* Behind the last urgent one, or at the end. */
static void enqueue(struct alert_channel *c, struct alert_job *j)
{
    struct alert_job *before = c->waiting_last, *at = NULL;
    if (j->urgent && before && !before->urgent)
        for (before = NULL, at = c->waiting; at->urgent; at = at->next)
            before = at;
    j->prev = before;
    j->next = at;
    if (before)
        before->next = j;
    else
        c->waiting = j;
    if (at)
        at->prev = j;
    else
        c->waiting_last = j;
    c->n_waiting++;
}

static void leave_queue(struct alert_job *j)
{
    if (j->channel->waiting_last == j)
        j->channel->waiting_last = j->prev;
    unlist(&j->channel->waiting, j);
    j->channel->n_waiting--;
}

void alert_job_refuse(struct alert_job *j, const char *receiver_and_why)
{
    char clean[400], *copy;
    alert_text_clean(receiver_and_why, clean, sizeof clean);
    if (j->n_refused < ALERT_REFUSED_MAX && (copy = strdup(clean)))
        j->refused[j->n_refused++] = copy;
}

static void job_free(struct alert_job *j)
{
    struct alert_channel *c = j->channel;
    while (j->n_refused > 0)
        free(j->refused[--j->n_refused]);
    free(j);
    alert_channel_unref(c);
}

static void tell(struct alert_job *j, const struct alert_outcome *o, const char *detail)
{
    alert_job_done done = j->done;
    char clean[400];
    j->done = NULL;
    if (!done)
        return;
    alert_text_clean(detail ? detail : "", clean, sizeof clean);
    if (!*clean && o->fault == ALERT_FAULT_NONE && o->status)
        snprintf(clean, sizeof clean, "status %d", o->status);
    struct alert_result r = {.outcome = *o,
                             .detail = *clean ? clean : alert_fault_text(o->fault),
                             .started_unix_ms = j->started_unix_ms,
                             .refused = (const char *const *)j->refused,
                             .n_refused = j->n_refused};
    done(j->ctx, &r);
}

static void note_end(struct alert_channel *c, const struct alert_outcome *o, const char *detail)
{
    if (alert_classify(c->kind->proto, o) == ALERT_CLASS_ACCEPTED) {
        c->accepted++;
        c->last_accepted_unix_ms = clock_wall_ms();
    } else {
        c->failed++;
        char text[400];
        snprintf(text, sizeof text, "%s: %.300s", alert_fault_text(o->fault), detail ? detail : "");
        alert_text_clean(text, c->last_error, sizeof c->last_error);
    }
}

/* The one that may go now; NULL if none may. */
static struct alert_job *next_of(struct alert_channel *c, int64_t now_ms)
{
    struct alert_job *j = c->waiting;
    if (alert_bucket_at(&c->bucket, &c->rule, 0, now_ms) > now_ms)
        while (j && !j->forced)
            j = j->next;
    return j;
}

static void start_next(struct alert_channel *c, int64_t now_ms)
{
    struct alert_job *j;
    while (c->n_running < c->at_once && !c->room->service->draining && (j = next_of(c, now_ms))) {
        leave_queue(j);
        alert_bucket_take(&c->bucket, &c->rule, now_ms);
        j->next = c->running;
        if (j->next)
            j->next->prev = j;
        c->running = j;
        c->n_running++;
        j->running = true;
        if (j->timeout_ms > j->start_by_ms - now_ms && j->start_by_ms > now_ms)
            j->timeout_ms = j->start_by_ms - now_ms; /* what is left after waiting */
        j->due_ms = now_ms + j->timeout_ms + GRACE_MS;
        j->started_unix_ms = clock_wall_ms();
        c->kind->send(c, j);
    }
}

void alert_job_end(struct alert_job *j, const struct alert_outcome *o, const char *detail)
{
    struct alert_channel *c = j->channel;
    assert(j->running);
    unlist(&c->running, j);
    c->n_running--;
    note_end(c, o, detail);
    if (o->retry_after_ms > 0 && alert_classify(c->kind->proto, o) == ALERT_CLASS_AGAIN)
        alert_bucket_hold(&c->bucket, clock_mono_ms() + o->retry_after_ms);
    else if (j->forced && alert_classify(c->kind->proto, o) == ALERT_CLASS_ACCEPTED)
        c->bucket.hold_ms = 0; /* it takes messages, whatever it has said before */
    tell(j, o, detail);
    alert_room_settle(c->room); /* the next one begins from there, not from inside */
    job_free(j);
}

/* No more may wait than the settings say; the record takes all. An urgent one takes the place of the last that is not. */
static void make_room(struct alert_channel *c, struct alert_job *fresh)
{
    if (c->kind->proto == ALERT_PROTO_FILE || c->n_waiting < c->set.queue || fresh->patient)
        return;
    struct alert_job *out = fresh;
    for (struct alert_job *j = fresh->urgent ? c->waiting : NULL; j; j = j->next)
        if (!j->urgent && !j->patient && !j->surplus)
            out = j;
    out->surplus = true;
}

struct alert_job *alert_channel_send(struct alert_channel *c, const struct alert_message *m, bool urgent,
                                     int64_t timeout_ms, int64_t start_by_ms, alert_job_done done, void *ctx)
{
    struct alert_job *j = calloc(1, sizeof *j);
    if (!j)
        return NULL;
    *j = (struct alert_job){.channel = c,
                            .message = m,
                            .urgent = urgent,
                            .patient = m->kind != ALERT_MESSAGE_ONE,
                            .timeout_ms = timeout_ms,
                            .start_by_ms = start_by_ms,
                            .kind = m->kind,
                            .severity = m->severity,
                            .resolved = m->resolved,
                            .total = m->total,
                            .done = done,
                            .ctx = ctx};
    snprintf(j->id, sizeof j->id, "%s", m->id);
    alert_channel_ref(c);
    make_room(c, j);
    enqueue(c, j);
    alert_room_settle(c->room);
    return j;
}

void alert_channels_acked(struct alert_room *room, const PB(Alert) * a, const char *by)
{
    for (size_t i = 0; i < room->n_channels; i++)
        if (room->channels[i]->kind->acked)
            room->channels[i]->kind->acked(room->channels[i], a, by);
}

void alert_job_drop(struct alert_job *j)
{
    if (!j)
        return;
    j->done = NULL;
    if (j->running)
        return;
    leave_queue(j);
    job_free(j);
}

static void end_waiting(struct alert_job *j, enum alert_fault fault)
{
    leave_queue(j);
    j->started_unix_ms = clock_wall_ms();
    struct alert_outcome o = {fault, 0, -1};
    tell(j, &o, NULL);
    job_free(j);
}

void alert_channel_flush(struct alert_channel *c)
{
    alert_channel_ref(c);
    while (c->waiting)
        end_waiting(c->waiting, ALERT_FAULT_SKIPPED);
    alert_channel_unref(c);
}

/* Why this one is not waited for any longer, NONE = it is. `ahead` are before it. */
static enum alert_fault hopeless(const struct alert_channel *c, const struct alert_job *j, int64_t ahead,
                                 int64_t now_ms)
{
    if (j->surplus)
        return ALERT_FAULT_OVERFLOW;
    if (now_ms >= j->start_by_ms)
        return ALERT_FAULT_LATE;
    int64_t at_ms = alert_bucket_at(&c->bucket, &c->rule, ahead, now_ms);
    if (at_ms <= now_ms || j->forced)
        return ALERT_FAULT_NONE;
    bool waits = j->urgent || j->patient || at_ms - now_ms <= WAIT_MAX_MS;
    return waits && at_ms < j->start_by_ms ? ALERT_FAULT_NONE : ALERT_FAULT_OVERFLOW;
}

int64_t alert_channel_tick(struct alert_channel *c, int64_t now_ms)
{
    int64_t next = INT64_MAX, ahead = 0;
    alert_channel_ref(c);
    for (struct alert_job *j = c->running, *after; j; j = after) {
        after = j->next;
        if (j->done && now_ms >= j->due_ms)
            tell(j, &(struct alert_outcome){ALERT_FAULT_TIMEOUT, 0, -1}, "no end of the attempt in sight");
        else if (j->done && j->due_ms < next)
            next = j->due_ms;
    }
    start_next(c, now_ms);
    for (struct alert_job *j = c->waiting; j;) {
        enum alert_fault fault = hopeless(c, j, ahead, now_ms);
        if (fault != ALERT_FAULT_NONE) {
            end_waiting(j, fault);
            j = c->waiting; /* its end may have changed the queue */
            ahead = 0;
            continue;
        }
        if (j->start_by_ms < next)
            next = j->start_by_ms;
        ahead++;
        j = j->next;
    }
    if (c->waiting && c->n_running < c->at_once) { /* only for want of a token */
        int64_t at_ms = alert_bucket_at(&c->bucket, &c->rule, 0, now_ms);
        next = at_ms < next ? at_ms : next;
    }
    alert_channel_unref(c);
    return next;
}

struct alert_outcome alert_outcome_of(const struct http_result *r)
{
    static const enum alert_fault faults[] = {
        [HTTP_OK] = ALERT_FAULT_NONE,
        [HTTP_RESOLVE] = ALERT_FAULT_RESOLVE,
        [HTTP_CONNECT] = ALERT_FAULT_CONNECT,
        [HTTP_TLS] = ALERT_FAULT_TLS,
        [HTTP_CERTIFICATE] = ALERT_FAULT_TLS,
        [HTTP_TIMEOUT] = ALERT_FAULT_TIMEOUT,
        [HTTP_CUT] = ALERT_FAULT_CUT,
        [HTTP_TOO_LARGE] = ALERT_FAULT_ANSWER,
        [HTTP_BAD_ANSWER] = ALERT_FAULT_ANSWER,
        [HTTP_LOGIN] = ALERT_FAULT_LOGIN,
        [HTTP_FORBIDDEN] = ALERT_FAULT_SETTINGS,
        [HTTP_CANCELLED] = ALERT_FAULT_OTHER,
        [HTTP_FAILED] = ALERT_FAULT_OTHER,
    };
    return (struct alert_outcome){.fault = (size_t)r->fault < sizeof faults / sizeof *faults ? faults[r->fault]
                                                                                             : ALERT_FAULT_OTHER,
                                  .status = r->status,
                                  .retry_after_ms = r->retry_after_ms};
}
