/* client_report.c - reports on their way: queued by any thread, sorted by target and sent by the loop.
 *
 * A single report goes as an OutcomeReport at once; what came meanwhile goes as OutcomeBatches, which are cheaper by far. */
#include "client/client_priv.h"
#include "common/clock.h"
#include "common/metric.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define BATCH_MAX 1000
#define STALE_MS  60000
#define KEEP      4096 /* places kept after a burst */
#define NONE      UINT32_MAX

METRIC_DEFINE(queued, METRIC_COUNTER, "redoubt_client_reports_total", "Reports taken.");
METRIC_DEFINE(refused, METRIC_COUNTER, "redoubt_client_reports_refused_total",
              "Reports malformed or beyond the queue.");
METRIC_DEFINE(stale, METRIC_COUNTER, "redoubt_client_reports_stale_total", "Reports too old when the bus came back.");
METRIC_DEFINE(lost, METRIC_COUNTER, "redoubt_client_reports_lost_total", "Reports that the bus would not take.");

static bool put(struct client_reports *q, const struct client_report *x)
{
    if (q->n == q->cap) {
        size_t cap = q->cap ? q->cap * 2 : 64;
        struct client_report *at = realloc(q->at, cap * sizeof *at);
        if (!at)
            return false;
        q->at = at;
        q->cap = cap;
    }
    q->at[q->n++] = *x;
    return true;
}

int client_report_queue(redoubt *r, const char *target, const redoubt_call *c)
{
    bool ok = name_target_ok(target) && c->outcome >= REDOUBT_SUCCESS && c->outcome <= REDOUBT_IGNORED &&
              c->status_code <= 999;
    bool wake = false;
    if (ok) {
        struct client_report x = {.call = *c, .ended_unix_ms = clock_wall_ms(), .queued_ms = clock_mono_ms()};
        pthread_mutex_lock(&r->lock);
        struct client_slot *s = r->waiting.n < CLIENT_REPORTS_MAX ? client_table_enter(&r->table, target) : NULL;
        x.slot = s ? (uint32_t)(s - r->table.slots) : 0;
        ok = s && put(&r->waiting, &x);
        /* While the bus is away nobody needs to wake: its coming up sends what waits. Read under the lock, see on_up. */
        wake = ok && !r->wake_pending && atomic_load(&r->touch) == CLIENT_UP;
        r->wake_pending = r->wake_pending || wake;
        pthread_mutex_unlock(&r->lock);
    }
    metric_add(ok ? &queued : &refused, 1);
    if (wake)
        uv_async_send(&r->wake);
    return ok ? 0 : -1;
}

static void fill(redoubt *r, const struct client_slot *s, const struct client_report *x, PB(OutcomeReport) * out)
{
    *out = (PB(OutcomeReport))REDOUBT__V1__OUTCOME_REPORT__INIT;
    out->target = (char *)(uintptr_t)s->name;
    out->reporter = r->agent;
    out->outcome = (PB(Outcome))x->call.outcome;
    out->status_code = x->call.status_code;
    out->total_ms = x->call.total_ms;
    out->first_token_ms = x->call.first_token_ms;
    out->retry_after_ms = x->call.retry_after_ms;
    out->ended_unix_ms = x->ended_unix_ms;
    out->permit_id = x->call.permit_id;
    out->data_path = true;
}

static void publish(redoubt *r, const struct client_slot *s, const void *message, size_t reports)
{
    char subject[SUBJECT_MAX_LEN];
    size_t len;
    snprintf(subject, sizeof subject, SUBJECT_REPORT "%s", s->name);
    void *data = wire_pack(message, &len, NULL);
    const struct bus_out out = {.subject = subject, .type = wire_type(message), .data = data, .len = len};
    if (!data || bus_publish(r->bus, &out, NULL) < 0)
        metric_add(&lost, (int64_t)reports);
    free(data);
}

/* All reports of one target, in as few messages as the contract's limits allow. */
static void send_target(redoubt *r, const struct client_reports *q, const struct client_slot *s,
                        PB(OutcomeReport) * room, PB(OutcomeReport) * *list)
{
    PB(OutcomeBatch) batch = REDOUBT__V1__OUTCOME_BATCH__INIT;
    batch.reports = list;
    for (uint32_t i = s->first_report; i != NONE;) {
        size_t n = 0, bytes = 0;
        for (; i != NONE && n < BATCH_MAX; i = q->at[i].next, n++) {
            fill(r, s, &q->at[i], &room[n]);
            list[n] = &room[n];
            bytes += protobuf_c_message_get_packed_size(&room[n].base) + 4; /* tag and length */
            if (bytes > MESSAGE_MAX)
                break; /* the next message begins with it */
        }
        batch.n_reports = n;
        publish(r, s, n == 1 ? (const void *)&room[0] : (const void *)&batch, n);
    }
}

void client_report_flush(redoubt *r)
{
    pthread_mutex_lock(&r->lock);
    struct client_reports q = r->waiting;
    r->waiting = (struct client_reports){0};
    pthread_mutex_unlock(&r->lock);
    if (q.n == 0) {
        free(q.at);
        return;
    }
    size_t most = q.n < BATCH_MAX ? q.n : BATCH_MAX;
    PB(OutcomeReport) *room = malloc((most + 1) * sizeof *room);
    PB(OutcomeReport) **list = malloc((most + 1) * sizeof *list);
    if (!room || !list) {
        metric_add(&lost, (int64_t)q.n);
        goto out;
    }
    uint32_t used = atomic_load_explicit(&r->table.used, memory_order_acquire);
    for (uint32_t i = 0; i < used; i++)
        r->table.slots[r->table.order[i]].first_report = NONE;
    int64_t now = clock_mono_ms();
    for (uint32_t i = 0; i < q.n; i++) {
        struct client_slot *s = &r->table.slots[q.at[i].slot];
        q.at[i].next = NONE;
        if (now - q.at[i].queued_ms > STALE_MS) {
            metric_add(&stale, 1);
            continue;
        }
        if (s->first_report == NONE)
            s->first_report = i;
        else
            q.at[s->last_report].next = i;
        s->last_report = i;
    }
    for (uint32_t i = 0; i < used; i++)
        send_target(r, &q, &r->table.slots[r->table.order[i]], room, list);
out:
    free(room);
    free(list);
    q.n = 0;
    pthread_mutex_lock(&r->lock);
    if (!r->waiting.at && q.cap <= KEEP) { /* use the memory again */
        r->waiting = q;
        q.at = NULL;
    }
    pthread_mutex_unlock(&r->lock);
    free(q.at);
}
