/* client_decision.c - decisions on their way: queued by any thread, sent by the loop, many in one message. */
#include "client/client_priv.h"
#include "common/clock.h"
#include "common/metric.h"
#include "common/utf8.h"
#include <stdlib.h>
#include <string.h>

#define BATCH_MAX  500
#define STALE_MS   60000
#define DETAIL_MAX 256

METRIC_DEFINE(queued, METRIC_COUNTER, "redoubt_client_decisions_total", "Decisions taken.");
METRIC_DEFINE(refused, METRIC_COUNTER, "redoubt_client_decisions_refused_total",
              "Decisions malformed or beyond the queue.");
METRIC_DEFINE(stale, METRIC_COUNTER, "redoubt_client_decisions_stale_total",
              "Decisions too old when the bus came back.");
METRIC_DEFINE(lost, METRIC_COUNTER, "redoubt_client_decisions_lost_total", "Decisions that the bus would not take.");

static void fill(redoubt *r, const struct client_decision *x, PB(Decision) * out)
{
    *out = (PB(Decision))REDOUBT__V1__DECISION__INIT;
    out->agent = r->agent;
    out->instance = r->instance;
    out->event_key = (char *)(uintptr_t)x->event_key;
    out->verdict = (char *)(uintptr_t)x->verdict;
    out->action = (char *)(uintptr_t)x->action;
    out->object = (char *)(uintptr_t)x->object;
    out->detail = (char *)(uintptr_t)x->detail;
    out->outcome = (PB(DecisionOutcome))x->outcome;
    out->decided_unix_ms = x->decided_unix_ms;
}

static const char *text(const char *s)
{
    return s ? s : "";
}

struct client_decision *client_decision_copy(redoubt *r, const redoubt_decision_t *d)
{
    const char *from[] = {text(d->event_key), text(d->verdict), text(d->action), text(d->object), text(d->detail)};
    size_t len[5], sum = 0;
    for (int i = 0; i < 5; i++) {
        len[i] = strnlen(from[i], 4 * DETAIL_MAX);
        if (i == 4)
            len[i] = utf8_valid_until(from[i], len[i] < DETAIL_MAX ? len[i] : DETAIL_MAX);
        sum += len[i] + 1;
    }
    struct client_decision *x = calloc(1, sizeof *x + sum);
    if (!x)
        return NULL;
    const char **to[] = {&x->event_key, &x->verdict, &x->action, &x->object, &x->detail};
    char *at = x->text;
    for (int i = 0; i < 5; i++) {
        memcpy(at, from[i], len[i]);
        *to[i] = at;
        at += len[i] + 1;
    }
    x->outcome = (int)d->outcome;
    x->decided_unix_ms = clock_wall_ms();
    PB(Decision) m;
    fill(r, x, &m);
    if (wire_check(&m, NULL) == 0)
        return x;
    free(x);
    return NULL;
}

int client_decision_add(redoubt *r, struct client_decision *x, enum redoubt_decided outcome)
{
    bool wake = false, ok = false;
    if (x) {
        x->outcome = (int)outcome;
        x->queued_ms = clock_mono_ms();
        pthread_mutex_lock(&r->lock);
        ok = r->n_decisions < CLIENT_DECISIONS_MAX;
        if (ok) {
            *r->decisions_end = x;
            r->decisions_end = &x->next;
            r->n_decisions++;
        }
        wake = ok && !r->wake_pending && atomic_load(&r->touch) == CLIENT_UP;
        r->wake_pending = r->wake_pending || wake;
        pthread_mutex_unlock(&r->lock);
    }
    metric_add(ok ? &queued : &refused, 1);
    if (!ok)
        free(x);
    if (wake)
        uv_async_send(&r->wake);
    return ok ? 0 : -1;
}

static void publish(redoubt *r, const void *message, size_t decisions)
{
    char subject[SUBJECT_MAX_LEN];
    size_t len;
    snprintf(subject, sizeof subject, SUBJECT_DECISION "%s", r->agent);
    void *data = wire_pack(message, &len, NULL);
    const struct bus_out out = {.subject = subject, .type = wire_type(message), .data = data, .len = len};
    if (!data || bus_publish(r->bus, &out, NULL) < 0)
        metric_add(&lost, (int64_t)decisions);
    free(data);
}

/* As many as go into one message; returns what is left. */
static struct client_decision *send_some(redoubt *r, struct client_decision *x, PB(Decision) * room,
                                         PB(Decision) * *list)
{
    PB(DecisionBatch) batch = REDOUBT__V1__DECISION_BATCH__INIT;
    size_t n = 0, bytes = 0;
    int64_t now = clock_mono_ms();
    struct client_decision *first = x;
    for (; x && n < BATCH_MAX; x = x->next) {
        if (now - x->queued_ms > STALE_MS) {
            metric_add(&stale, 1);
            continue;
        }
        fill(r, x, &room[n]);
        bytes += protobuf_c_message_get_packed_size(&room[n].base) + 4; /* tag and length */
        if (bytes > MESSAGE_MAX)
            break; /* the next message begins with it */
        list[n] = &room[n];
        n++;
    }
    batch.n_decisions = n;
    batch.decisions = list;
    if (n > 0)
        publish(r, n == 1 ? (const void *)&room[0] : (const void *)&batch, n);
    for (struct client_decision *next; first != x; first = next) {
        next = first->next;
        free(first);
    }
    return x;
}

static struct client_decision *take_all(redoubt *r)
{
    pthread_mutex_lock(&r->lock);
    struct client_decision *x = r->decisions;
    r->decisions = NULL;
    r->decisions_end = &r->decisions;
    r->n_decisions = 0;
    pthread_mutex_unlock(&r->lock);
    return x;
}

void client_decision_flush(redoubt *r)
{
    struct client_decision *x = take_all(r);
    if (!x)
        return;
    PB(Decision) *room = malloc(BATCH_MAX * sizeof *room);
    PB(Decision) **list = malloc(BATCH_MAX * sizeof *list);
    while (x && room && list)
        x = send_some(r, x, room, list);
    free(room);
    free(list);
    for (struct client_decision *next; x; x = next) { /* out of memory */
        next = x->next;
        metric_add(&lost, 1);
        free(x);
    }
}

void client_decision_done(redoubt *r)
{
    for (struct client_decision *x = take_all(r), *next; x; x = next) {
        next = x->next;
        free(x);
    }
}
