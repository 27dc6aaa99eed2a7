/* guard_queue_put.c - into the queue: durable by way of the outbox, and answered when the stream has it; or refused because it is full.
 *
 * The happy path: room -> outbox (synced) -> stream (acknowledged) -> answer. So an agent that waits for each answer finds its actions in the
 * stream in the order in which it asked, whichever replica it asked. If the stream takes longer than PATIENCE_MS, that it is durable is enough.
 *
 * What the outbox has taken is never lost: the outbox keeps at it while the stream is away or full. So that this is rare, the queue counts as
 * full a little before the stream is. */
#include "common/clock.h"
#include "common/log.h"
#include "common/metric.h"
#include "guard/guard_queue.h"
#include <ctype.h>
#include <inttypes.h>
#include <sodium.h>
#include <stdlib.h>
#include <string.h>

#define PATIENCE_MS 1000
#define RESERVE_MAX                                                                                                  \
    (16                                                                                                              \
     << 20) /* bytes of the stream that are left for what other replicas put meanwhile: a sixteenth, at most so much */
#define OVERHEAD       160 /* of a message in the stream, beside its data */
#define FULL_PERCENT   100
#define HIGH_PERCENT   70
#define LOW_PERCENT    60
#define SAY_EVERY_MS   10000
#define ALERT_KEY      "guard/queue"
#define MESSAGE_ID_MAX 128

METRIC_DEFINE(queued, METRIC_COUNTER, "redoubt_guard_queued_total", "Actions put into the queue.");
METRIC_DEFINE(refused, METRIC_COUNTER, "redoubt_guard_queue_full_total",
              "Actions not put into the queue because it was full, or one agent's part of it.");
METRIC_DEFINE(failed, METRIC_COUNTER, "redoubt_guard_queue_failures_total",
              "Actions not put into the queue because they could not be made durable.");
METRIC_DEFINE(impatient, METRIC_COUNTER, "redoubt_guard_queue_unconfirmed_total",
              "Actions answered for as queued while durable here, and not in the stream yet.");

struct guard_put {
    struct guard_tie *tie;
    char agent[NAME_MAX_LEN + 1];
    unsigned priority;
    uint64_t bytes;
    guard_queued done;
    void *ctx;
    bool durable, answered;
    bool listed; /* among q->puts */
    bool late;   /* answered for as soon as it is durable */
    int64_t limit_ms;
    struct guard_put *prev, *next;
};

/* ---- answers ---- */

static void unlist(struct guard_queue *q, struct guard_put *p)
{
    if (q && p->listed)
        DL_DELETE(q->puts, p);
    p->listed = false;
}

static void answer(struct guard_queue *q, struct guard_put *p, int status, const char *error)
{
    if (p->answered)
        return;
    p->answered = true;
    unlist(q, p);
    p->done(p->ctx, status, false, error);
}

struct refusal {
    guard_queued done;
    void *ctx;
    bool full;
    char text[160];
};

static void say_refusal(void *ctx)
{
    struct refusal *r = ctx;
    r->done(r->ctx, -1, r->full, r->text);
    free(r);
}

static void refuse(struct guard *g, guard_queued done, void *ctx, bool full, const char *text)
{
    struct refusal *r = malloc(sizeof *r);
    if (!r)
        abort(); /* somebody waits for this answer */
    metric_add(full ? &refused : &failed, 1);
    *r = (struct refusal){.done = done, .ctx = ctx, .full = full};
    snprintf(r->text, sizeof r->text, "%s", text);
    loop_defer(&g->s->loop, say_refusal, r);
}

/* ---- how full ---- */

static void alert(struct guard_queue *q, int percent, bool resolved, const char *detail)
{
    PB(Alert) a = PB_INIT(ALERT);
    a.dedup_key = (char *)ALERT_KEY;
    a.severity = REDOUBT__V1__SEVERITY__SEVERITY_HIGH;
    a.failure_kind = REDOUBT__V1__FAILURE_KIND__FAILURE_KIND_BACKEND_FAILURE;
    a.summary =
        (char *)(resolved                 ? "the queue of actions has room again"
                 : percent < FULL_PERCENT ? "the queue of actions is more than 70 % full"
                                          : "the queue of actions is full: actions that have to wait are refused");
    a.detail = (char *)detail;
    a.resolved = resolved;
    service_alert(q->g->s, &a);
    q->alert = resolved ? 0 : percent;
}

/* Tells people once on each way up, and once when it is over. */
static void watch(struct guard_queue *q, int percent, const char *detail)
{
    if (percent >= FULL_PERCENT ? q->alert < FULL_PERCENT : percent >= HIGH_PERCENT && q->alert == 0)
        alert(q, percent >= FULL_PERCENT ? FULL_PERCENT : HIGH_PERCENT, false, detail);
    else if (percent < LOW_PERCENT && q->alert > 0)
        alert(q, 0, true, detail);
}

/* Of the stream; 0 = as much as there is. */
static uint64_t most_bytes(const struct guard_queue *q)
{
    int64_t max = q->stock.max_bytes;
    if (max <= 0)
        return 0;
    int64_t reserve = max / 16 < RESERVE_MAX ? max / 16 : RESERVE_MAX;
    return (uint64_t)(max - reserve);
}

static uint64_t of_agent(const struct guard_waiter *w)
{
    return guard_replay_waiting(&w->r) + w->unsaved;
}

static int percent_of(uint64_t n, uint64_t max)
{
    return max == 0 ? 0 : n >= max ? FULL_PERCENT : (int)((double)n * 100 / (double)max);
}

void guard_puts_counted(struct guard_queue *q)
{
    uint64_t per_agent = (uint64_t)q->g->s->settings->guard.queue.per_agent,
             bytes = q->stock.bytes + q->unsaved_bytes;
    int of_bytes = percent_of(bytes, most_bytes(q)), of_most = 0;
    const struct guard_waiter *most = NULL;
    char detail[256];
    for (const struct guard_waiter *w = q->waiters; w; w = w->hh.next) {
        int percent = percent_of(of_agent(w), per_agent);
        if (percent > of_most) {
            of_most = percent;
            most = w;
        }
    }
    if (of_bytes >= of_most)
        snprintf(detail, sizeof detail, "%" PRIu64 " actions, %" PRIu64 " of %" PRIu64 " bytes", q->stock.messages,
                 bytes, most_bytes(q));
    else
        snprintf(detail, sizeof detail, "%" PRIu64 " actions of agent %s; %" PRIu64 " may wait", of_agent(most),
                 most->name, per_agent);
    watch(q, of_bytes > of_most ? of_bytes : of_most, detail);
}

/* Why there is no room for `bytes` more of this agent; false if there is. */
static bool full(struct guard_queue *q, const struct guard_waiter *w, uint64_t bytes, char why[static 160])
{
    uint64_t per_agent = (uint64_t)q->g->s->settings->guard.queue.per_agent, max = most_bytes(q);
    if (of_agent(w) >= per_agent)
        snprintf(why, 160, "%" PRIu64 " actions of %s wait already: no more may", of_agent(w), w->name);
    else if (max > 0 && q->stock.bytes + q->unsaved_bytes + bytes > max)
        snprintf(why, 160, "the queue is full: %" PRIu64 " bytes wait", q->stock.bytes + q->unsaved_bytes);
    else
        return false;
    watch(q, FULL_PERCENT, why);
    uint64_t held;
    if (log_allowed(&q->said, clock_mono_ms(), SAY_EVERY_MS, &held))
        log_warn("an action was not queued", F_STR("agent", w->name), F_STR("why", why), F_INT("held_back", held));
    return true;
}

/* ---- on its way ---- */

static void arm(struct guard_queue *q)
{
    if (!q->puts || loop_timer_active(&q->patience))
        return;
    int64_t in_ms = q->puts->limit_ms - clock_mono_ms();
    loop_timer_start(&q->patience, in_ms > 0 ? in_ms : 0, 0);
}

static void on_patience(void *ctx)
{
    struct guard_queue *q = ctx;
    int64_t now = clock_mono_ms();
    for (struct guard_put *p; (p = q->puts) && p->limit_ms <= now;) {
        if (p->durable) {
            metric_add(&impatient, 1);
            answer(q, p, 0, NULL);
        } else { /* the disk is slow */
            p->late = true;
            unlist(q, p);
        }
    }
    arm(q);
}

static void saved(struct guard_queue *q, const struct guard_put *p, bool in_stream)
{
    if (!q)
        return;
    struct guard_waiter *w = guard_waiter_find(q, p->agent);
    q->unsaved--;
    q->unsaved_bytes -= p->bytes;
    if (w && w->unsaved > 0)
        w->unsaved--;
    if (!in_stream)
        return;
    q->stock.messages++;
    q->stock.bytes += p->bytes;
    if (w) {
        guard_replay_put(&w->r, p->priority);
        guard_waiter_schedule(w);
    }
}

static void on_stored(void *ctx, int status, const char *error)
{
    (void)error; /* the outbox has said it, and whoever reads its files publishes it */
    struct guard_put *p = ctx;
    struct guard_queue *q = p->tie->q;
    answer(q, p, 0, NULL);
    saved(q, p, status == 0);
    guard_untie(p->tie);
    free(p);
    if (q)
        guard_queue_pump(q);
}

static void on_durable(void *ctx, int status, const char *error)
{
    struct guard_put *p = ctx;
    struct guard_queue *q = p->tie->q;
    if (status == 0) {
        metric_add(&queued, 1);
        p->durable = true;
        if (p->late)
            answer(q, p, 0, NULL);
        return;
    }
    metric_add(&failed, 1);
    answer(q, p, -1, error);
    saved(q, p, false);
    guard_untie(p->tie);
    free(p);
}

/* `queue/<agent>/<key>`: the same action is in the stream once. A key that makes no message id stands there by its hash. */
static void message_id(const PB(ActionRequest) * r, char id[static MESSAGE_ID_MAX + 1])
{
    bool plain = true;
    for (const char *c = r->idempotency_key; *c; c++)
        plain &= isgraph((unsigned char)*c) != 0;
    if (plain && snprintf(id, MESSAGE_ID_MAX + 1, "queue/%s/%s", r->agent, r->idempotency_key) <= MESSAGE_ID_MAX)
        return;
    unsigned char sum[16];
    char hex[2 * sizeof sum + 1];
    crypto_generichash(sum, sizeof sum, (const unsigned char *)r->idempotency_key, strlen(r->idempotency_key), NULL,
                       0);
    snprintf(id, MESSAGE_ID_MAX + 1, "queue/%s/#%s", r->agent, sodium_bin2hex(hex, sizeof hex, sum, sizeof sum));
}

void guard_queue_put(struct guard *g, const PB(ActionRequest) * r, int posture, const char *why, guard_queued done,
                     void *ctx)
{
    struct guard_queue *q = g->queue;
    struct guard_waiter *w = q ? guard_waiter(q, r->agent) : NULL;
    struct guard_put *p = w ? calloc(1, sizeof *p) : NULL;
    if (!p) {
        refuse(g, done, ctx, false, q ? "out of memory" : "the guard is closing");
        return;
    }
    struct err e = {""};
    size_t len = 0;
    char text[160], subject[SUBJECT_MAX_LEN], id[MESSAGE_ID_MAX + 1];
    PB(QueuedAction) m = PB_INIT(QUEUED_ACTION);
    m.request = (PB(ActionRequest) *)r;
    m.queued_unix_ms = clock_wall_ms();
    m.guard = (char *)g->s->instance;
    m.reason = (char *)why;
    m.posture = (Redoubt__V1__Posture)posture;
    void *data = wire_pack(&m, &len, &e);
    bool no_room = data && full(q, w, len + OVERHEAD, text);
    if (!data || no_room) {
        refuse(g, done, ctx, no_room, no_room ? text : e.text);
        free(data);
        free(p);
        return;
    }
    *p = (struct guard_put){.tie = guard_tie(q),
                            .priority = r->priority,
                            .bytes = len + OVERHEAD,
                            .done = done,
                            .ctx = ctx,
                            .limit_ms = clock_mono_ms() + PATIENCE_MS};
    snprintf(p->agent, sizeof p->agent, "%s", r->agent);
    q->unsaved++;
    q->unsaved_bytes += p->bytes;
    w->unsaved++;
    p->listed = true;
    DL_APPEND(q->puts, p);
    arm(q);
    message_id(r, id);
    snprintf(subject, sizeof subject, SUBJECT_QUEUE "%s.%" PRIu32, r->agent, r->priority);
    struct outbox_item i = {.subject = subject, .id = id, .type = wire_type(&m), .data = data, .len = len};
    outbox_append_stored(g->s->outbox, &i, on_durable, on_stored, p);
    free(data);
}

void guard_puts_open(struct guard_queue *q)
{
    loop_timer_init(&q->g->s->loop, &q->patience, on_patience, q);
}

void guard_puts_close(struct guard_queue *q, loop_cb closed)
{
    loop_timer_close(&q->patience, closed);
}
