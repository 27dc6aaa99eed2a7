/* guard_queue_cmd.c - operators' commands: list, show, drop and release what waits. Any replica takes them.
 *
 * They read and take out where the actions stand, in the stream, whoever replays them at the moment. Dropping and releasing are in the audit
 * trail before they are done. */
#include "common/clock.h"
#include "common/log.h"
#include "common/order.h"
#include "guard/guard_impl.h"
#include "guard/guard_queue.h"
#include <assert.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#define OK          REDOUBT__V1__COMMAND_STATUS__COMMAND_STATUS_OK
#define ALREADY     REDOUBT__V1__COMMAND_STATUS__COMMAND_STATUS_ALREADY
#define INVALID     REDOUBT__V1__COMMAND_STATUS__COMMAND_STATUS_INVALID
#define UNAVAILABLE REDOUBT__V1__COMMAND_STATUS__COMMAND_STATUS_UNAVAILABLE
#define REPLY_ROOM  256
#define AGENTS_MAX  500
#define SHOW_MAX    50
#define SHOW_USUAL  20
#define PAYLOAD_MAX 57344 /* of an answer: it must fit into a message with all around it */

/* A command on its way. */
struct guard_cmd {
    struct guard_tie *tie;
    char reply[REPLY_ROOM];
    char agent[NAME_MAX_LEN + 1], key[129], by[129], reason[1025];
    uint64_t from, epoch;
    size_t limit;
    int64_t asked_ms;
    uint64_t dropped;
    char dropping[129]; /* key of the one that is being taken out */
    /* list */
    PB(QueueReport) report;
    PB(QueueOfAgent) * rows;
    size_t n, unread;
    /* show */
    PB(QueueListing) listing;
    size_t bytes;
};

static void cmd_free(struct guard_cmd *c)
{
    for (size_t i = 0; i < c->n; i++) {
        free(c->rows[i].agent);
        free(c->rows[i].state);
    }
    free(c->rows);
    free(c->report.agents);
    for (size_t i = 0; i < c->listing.n_entries; i++) {
        wire_free(c->listing.entries[i]->action);
        free(c->listing.entries[i]);
    }
    free(c->listing.entries);
    guard_untie(c->tie);
    free(c);
}

/* The queue; NULL if it is closed: then c is gone. */
static struct guard_queue *queue_of(struct guard_cmd *c)
{
    struct guard_queue *q = c->tie->q;
    if (!q)
        cmd_free(c);
    return q;
}

static void reply_and_free(struct guard_cmd *c, int status, const char *text)
{
    service_reply(c->tie->q->g->s, c->reply, status, 0, "%s", text);
    cmd_free(c);
}

/* Packed into the answer's payload. */
static void reply_payload(struct guard_cmd *c, const void *message, const char *text)
{
    struct err e = {""};
    size_t len;
    PB(CommandReply) r = PB_INIT(COMMAND_REPLY);
    bool none = protobuf_c_message_get_packed_size(message) == 0; /* all of it is 0: no bytes */
    void *data = none ? NULL : wire_pack(message, &len, &e);
    if (!data && !none) {
        reply_and_free(c, UNAVAILABLE, e.text);
        return;
    }
    r.status = OK;
    r.message = (char *)text;
    if (data)
        r.payload = (ProtobufCBinaryData){.data = data, .len = len};
    service_reply_message(c->tie->q->g->s, c->reply, &r);
    free(data);
    cmd_free(c);
}

/* ---- list ---- */

static void describe(const struct guard_waiter *w, char buf[static 128])
{
    struct guard_replay_view v = guard_waiter_view(w);
    const char *why = guard_replay_waits_for(&v);
    int64_t in_ms = w->r.wake_ms - clock_shared_ms();
    if (why)
        snprintf(buf, 128, "%s", why);
    else if (guard_replay_skipped(&w->r) > 0)
        snprintf(buf, 128, "%" PRIu64 " held since a freeze", guard_replay_skipped(&w->r));
    else if (!v.held)
        snprintf(buf, 128, "another replica replays it");
    else if (w->r.tries > 0 && in_ms > 0)
        snprintf(buf, 128, "tried %" PRIu32 " times, again in %" PRId64 " s", w->r.tries, in_ms / 1000 + 1);
    else
        snprintf(buf, 128, "being replayed");
}

/* Held back as far as this replica can say: what it passed over itself, or what is oldest and from before a freeze. */
static bool held_by_freeze(const struct guard_waiter *w, uint64_t epoch)
{
    struct guard_replay_view v = guard_waiter_view(w);
    return guard_replay_skipped(&w->r) > 0 ||
           (v.at && epoch <= v.at->frozen_epoch && epoch > w->released_epoch && v.at->frozen_epoch > 0);
}

static int most_first(const void *x, const void *y)
{
    const PB(QueueOfAgent) *a = x, *b = y;
    return a->waiting != b->waiting ? (a->waiting < b->waiting ? 1 : -1) : strcmp(a->agent, b->agent);
}

struct head { /* the oldest action of row i is asked for */
    struct guard_cmd *c;
    size_t i;
};

static void list_done(struct guard_cmd *c)
{
    size_t bytes = 64;
    c->report.agents = calloc(c->n + 1, sizeof(void *));
    assert(c->report.agents && "out of memory for an answer");
    for (size_t i = 0; i < c->n; i++) {
        if (c->rows[i].waiting == 0)
            continue;
        bytes += strlen(c->rows[i].agent) + strlen(c->rows[i].state) + 40;
        if (bytes > PAYLOAD_MAX)
            break;
        c->report.agents[c->report.n_agents++] = &c->rows[i];
    }
    reply_payload(c, &c->report, "");
}

static void on_head(void *ctx, enum bus_status st, const struct bus_msg *m)
{
    struct head h = *(struct head *)ctx;
    struct guard_cmd *c = h.c;
    free(ctx);
    struct guard_queue *q = c->tie->q;
    struct err e;
    PB(QueuedAction) *a = st == BUS_OK && m ? wire_unpack(PB_DESC(queued_action), m->data, m->len, &e) : NULL;
    const struct guard_waiter *w = q ? guard_waiter_find(q, c->rows[h.i].agent) : NULL;
    if (a) {
        c->rows[h.i].oldest_unix_ms = a->queued_unix_ms;
        c->rows[h.i].held = w && held_by_freeze(w, a->request->epoch);
    }
    if (st == BUS_OK && !m)
        c->rows[h.i].waiting = 0; /* replayed since it was counted */
    wire_free(a);
    if (--c->unread > 0)
        return;
    if (queue_of(c))
        list_done(c);
}

static void on_list_counted(void *ctx, bool ok)
{
    struct guard_cmd *c = ctx;
    struct guard_queue *q = queue_of(c);
    if (!q)
        return;
    if (!ok) {
        reply_and_free(c, UNAVAILABLE, "the queue's stream does not answer");
        return;
    }
    c->report = (PB(QueueReport))PB_INIT(QUEUE_REPORT);
    c->report.waiting = q->stock.messages;
    c->report.bytes = q->stock.bytes;
    c->report.max_bytes = q->stock.max_bytes > 0 ? (uint64_t)q->stock.max_bytes : 0;
    c->rows = calloc(HASH_COUNT(q->waiters) + 1, sizeof *c->rows);
    assert(c->rows && "out of memory for an answer");
    for (const struct guard_waiter *w = q->waiters; w; w = w->hh.next) {
        char state[128];
        uint64_t n = guard_replay_waiting(&w->r);
        if (n == 0 || (*c->agent && strcmp(c->agent, w->name) != 0))
            continue;
        describe(w, state);
        c->rows[c->n] = (PB(QueueOfAgent))PB_INIT(QUEUE_OF_AGENT);
        c->rows[c->n].waiting = n;
        c->rows[c->n].agent = strdup(w->name);
        c->rows[c->n].state = strdup(state);
        assert(c->rows[c->n].agent && c->rows[c->n].state && "out of memory for an answer");
        c->n++;
    }
    qsort(c->rows, c->n, sizeof *c->rows, most_first);
    for (; c->n > AGENTS_MAX; c->n--) {
        free(c->rows[c->n - 1].agent);
        free(c->rows[c->n - 1].state);
    }
    c->unread = c->n;
    for (size_t i = 0; i < c->n; i++) {
        char subject[SUBJECT_MAX_LEN];
        struct head *h = malloc(sizeof *h);
        assert(h && "out of memory for a question");
        *h = (struct head){c, i};
        snprintf(subject, sizeof subject, SUBJECT_QUEUE "%s.*", c->rows[i].agent);
        bus_next(q->g->s->bus, STREAM_ACTIONS, subject, 0, GUARD_QUEUE_ANSWER_MS, on_head, h);
    }
    if (c->n == 0)
        list_done(c);
}

static void list(struct guard_cmd *c)
{
    guard_queue_count(c->tie->q, on_list_counted, c);
}

/* ---- show ---- */

static void show_next(struct guard_cmd *c);

static void on_shown(void *ctx, enum bus_status st, const struct bus_msg *m)
{
    struct guard_cmd *c = ctx;
    struct err e = {""};
    if (!queue_of(c))
        return;
    if (st != BUS_OK) {
        reply_and_free(c, UNAVAILABLE, "the queue's stream does not answer");
        return;
    }
    if (!m || c->listing.n_entries == c->limit || (c->listing.n_entries > 0 && c->bytes + m->len > PAYLOAD_MAX)) {
        c->listing.next_sequence = m ? m->stream_seq : 0;
        reply_payload(c, &c->listing, "");
        return;
    }
    c->from = m->stream_seq + 1;
    PB(QueuedAction) *a = wire_unpack(PB_DESC(queued_action), m->data, m->len, &e);
    if (a && m->len > PAYLOAD_MAX) /* alone too much for an answer: without its parameters */
        while (a->request->n_parameters > 0)
            wire_free(a->request->parameters[--a->request->n_parameters]);
    if (a) {
        PB(QueueEntry) *x = malloc(sizeof *x);
        assert(x && "out of memory for an answer");
        *x = (PB(QueueEntry))PB_INIT(QUEUE_ENTRY);
        x->sequence = m->stream_seq;
        x->action = a;
        c->listing.entries[c->listing.n_entries++] = x;
        c->bytes += m->len + 16;
    }
    show_next(c);
}

static void show_next(struct guard_cmd *c)
{
    char subject[SUBJECT_MAX_LEN];
    snprintf(subject, sizeof subject, SUBJECT_QUEUE "%s.*", c->agent);
    bus_next(c->tie->q->g->s->bus, STREAM_ACTIONS, subject, c->from, GUARD_QUEUE_ANSWER_MS, on_shown, c);
}

static void show(struct guard_cmd *c)
{
    c->listing = (PB(QueueListing))PB_INIT(QUEUE_LISTING);
    c->listing.entries = calloc(SHOW_MAX, sizeof(void *));
    assert(c->listing.entries && "out of memory for an answer");
    show_next(c);
}

/* ---- the trail ---- */

static void audit(struct guard_cmd *c, const char *action, int outcome, int audit_class, const char *detail,
                  outbox_cb done)
{
    PB(Label) key = PB_INIT(LABEL), *fields = &key;
    PB(AuditRecord) r = PB_INIT(AUDIT_RECORD);
    key.key = (char *)"key";
    key.value = c->key;
    r.action = (char *)action;
    r.actor = c->by;
    r.subject = c->agent;
    r.outcome = (Redoubt__V1__AuditOutcome)outcome;
    r.audit_class = (Redoubt__V1__AuditClass)audit_class;
    r.detail = (char *)detail;
    if (*c->key) {
        r.n_fields = 1;
        r.fields = &fields;
    }
    service_audit(c->tie->q->g->s, &r, done, c);
}

static void intend(struct guard_cmd *c, const char *action, outbox_cb done)
{
    audit(c, action, REDOUBT__V1__AUDIT_OUTCOME__AUDIT_OUTCOME_INTENDED, REDOUBT__V1__AUDIT_CLASS__AUDIT_CLASS_STRICT,
          c->reason, done);
}

static void tell_done(struct guard_cmd *c, const char *action, const char *detail)
{
    audit(c, action, REDOUBT__V1__AUDIT_OUTCOME__AUDIT_OUTCOME_DONE, REDOUBT__V1__AUDIT_CLASS__AUDIT_CLASS_CONTINUITY,
          detail, NULL);
    log_info(action, F_STR("agent", c->agent), F_STR("by", c->by), F_STR("what", detail));
}

static bool in_trail(struct guard_cmd *c, int status, const char *error)
{
    if (!queue_of(c))
        return false;
    if (status == 0)
        return true;
    char text[256];
    snprintf(text, sizeof text, "refused: the audit trail cannot be written (%.160s)", error);
    reply_and_free(c, UNAVAILABLE, text);
    return false;
}

/* ---- drop ---- */

static void drop_next(struct guard_cmd *c);

static void drop_done(struct guard_cmd *c, bool whole)
{
    struct guard_queue *q = c->tie->q;
    char text[256];
    snprintf(text, sizeof text, "%" PRIu64 " of the actions of %s that waited %s dropped%s", c->dropped, c->agent,
             c->dropped == 1 ? "was" : "were", whole ? "" : "; then the stream did not answer any more: ask again");
    tell_done(c, "queue.drop", text);
    guard_queue_count(q, NULL, NULL);
    if (whole && c->dropped == 0 && *c->key)
        snprintf(text, sizeof text, "no action of that key waits for %s: it may have been replayed meanwhile",
                 c->agent);
    else if (whole && c->dropped == 0)
        snprintf(text, sizeof text, "nothing waits for %s", c->agent);
    reply_and_free(c, !whole ? UNAVAILABLE : c->dropped > 0 ? OK : *c->key ? INVALID : ALREADY, text);
}

static void on_dropped(void *ctx, enum bus_status st)
{
    struct guard_cmd *c = ctx;
    if (!queue_of(c))
        return;
    if (st != BUS_OK) {
        drop_done(c, false);
        return;
    }
    c->dropped++;
    if (*c->dropping) /* its agent may ask for it anew, under the same key */
        guard_claim_forget(c->tie->q->g, c->agent, c->dropping);
    if (*c->key)
        drop_done(c, true);
    else
        drop_next(c);
}

static void on_drop_read(void *ctx, enum bus_status st, const struct bus_msg *m)
{
    struct guard_cmd *c = ctx;
    struct guard_queue *q = queue_of(c);
    struct err e;
    if (!q)
        return;
    if (st != BUS_OK || !m) {
        drop_done(c, st == BUS_OK);
        return;
    }
    PB(QueuedAction) *a = wire_unpack(PB_DESC(queued_action), m->data, m->len, &e);
    bool wanted = !*c->key || (a && strcmp(a->request->idempotency_key, c->key) == 0);
    bool later = a && a->queued_unix_ms > c->asked_ms; /* what came after the command is not meant */
    snprintf(c->dropping, sizeof c->dropping, "%s", a ? a->request->idempotency_key : "");
    wire_free(a);
    c->from = m->stream_seq + 1;
    if (wanted && !later)
        bus_remove(q->g->s->bus, STREAM_ACTIONS, m->stream_seq, GUARD_QUEUE_ANSWER_MS, on_dropped, c);
    else
        drop_next(c);
}

static void drop_next(struct guard_cmd *c)
{
    char subject[SUBJECT_MAX_LEN];
    snprintf(subject, sizeof subject, SUBJECT_QUEUE "%s.*", c->agent);
    bus_next(c->tie->q->g->s->bus, STREAM_ACTIONS, subject, c->from, GUARD_QUEUE_ANSWER_MS, on_drop_read, c);
}

static void on_drop_audited(void *ctx, int status, const char *error)
{
    struct guard_cmd *c = ctx;
    if (in_trail(c, status, error)) {
        c->from = 0;
        drop_next(c);
    }
}

static void drop(struct guard_cmd *c)
{
    intend(c, "queue.drop", on_drop_audited);
}

/* ---- release ---- */

static void on_released(void *ctx, enum store_status st, const redisReply *reply)
{
    struct guard_cmd *c = ctx;
    struct guard_queue *q = queue_of(c);
    (void)reply;
    if (!q)
        return;
    if (st != STORE_OK) {
        reply_and_free(c, UNAVAILABLE, "shared state (Redis) did not take it: ask again");
        return;
    }
    char text[256];
    struct guard_waiter *w = guard_waiter(q, c->agent);
    snprintf(text, sizeof text, "actions of %s from before its freeze (epoch %" PRIu64 ") are replayed from now on",
             c->agent, c->epoch);
    tell_done(c, "queue.release", text);
    if (w) {
        guard_waiter_released(w, c->epoch);
        guard_waiter_schedule(w);
    }
    reply_and_free(c, OK, text);
    guard_queue_pump(q);
}

static void on_release_audited(void *ctx, int status, const char *error)
{
    struct guard_cmd *c = ctx;
    if (!in_trail(c, status, error))
        return;
    char key[NAME_MAX_LEN + 32], epoch[24];
    const char *argv[] = {"SET", key, epoch};
    snprintf(key, sizeof key, "redoubt:{a:%s}:released", c->agent);
    snprintf(epoch, sizeof epoch, "%" PRIu64, c->epoch);
    store_cmd(c->tie->q->g->s->store, on_released, c, 3, argv, NULL);
}

static void release(struct guard_cmd *c)
{
    struct guard_queue *q = c->tie->q;
    const struct guard_agent *a = guard_agent(q->g, c->agent);
    const struct guard_waiter *w = guard_waiter_find(q, c->agent);
    char text[256] = "";
    if (!guard_sure(q->g) || a->at.epoch == 0)
        snprintf(text, sizeof text, "the position of %s is not known for sure at the moment: ask again", c->agent);
    else if (a->at.automation != REDOUBT__V1__AUTOMATION_MODE__AUTOMATION_MODE_ENABLED)
        snprintf(text, sizeof text, "%s is frozen: unfreeze it first", c->agent);
    else if (!store_up(q->g->s->store))
        snprintf(text, sizeof text, "shared state (Redis) is away: nothing can be released");
    if (*text) {
        reply_and_free(c, UNAVAILABLE, text);
        return;
    }
    if (a->at.frozen_epoch == 0 || (w && w->released_epoch >= a->at.frozen_epoch)) {
        snprintf(text, sizeof text, "nothing of %s is held since a freeze", c->agent);
        reply_and_free(c, ALREADY, text);
        return;
    }
    c->epoch = a->at.frozen_epoch;
    intend(c, "queue.release", on_release_audited);
}

/* ---- in ---- */

static const struct verb {
    const char *name;
    bool agent, by_whom; /* required */
    bool known;          /* the agent must be in the settings */
    void (*run)(struct guard_cmd *c);
} verbs[] = {
    {"queue_list", false, false, false, list},
    {"queue_show", true, false, false, show},
    {"queue_drop", true, true, false, drop}, /* of an agent that is not in the settings any more, too */
    {"queue_release", true, true, true, release},
};

void guard_queue_cmd(struct service *s, const void *message, const struct bus_msg *m)
{
    struct guard *g = s->state;
    const PB(GuardCommand) *in = message;
    const char *tail = subject_tail(m->subject, SUBJECT_CMD "guard.");
    const struct verb *v = NULL;
    for (size_t i = 0; tail && i < sizeof verbs / sizeof verbs[0]; i++)
        if (strcmp(verbs[i].name, tail) == 0)
            v = &verbs[i];
    if (!m->reply)
        return;
    const char *wrong = !v                                               ? "no such command"
                        : !g || !g->queue                                ? "the guard is closing"
                        : v->agent && !*in->agent                        ? "an agent is required"
                        : v->by_whom && order_unsaid(in->by, in->reason) ? "`by` and `reason` are required"
                        : v->known && !guard_agent(g, in->agent)         ? "there is no such agent in the settings"
                        : strlen(m->reply) >= REPLY_ROOM                 ? "the reply subject is too long"
                                                                         : NULL;
    struct guard_cmd *c = wrong ? NULL : calloc(1, sizeof *c);
    if (!c) {
        service_reply(s, m->reply, wrong ? INVALID : UNAVAILABLE, 0, "%s", wrong ? wrong : "out of memory");
        return;
    }
    c->tie = guard_tie(g->queue);
    c->asked_ms = clock_wall_ms();
    c->from = in->from_sequence;
    c->limit = in->limit == 0 ? SHOW_USUAL : in->limit < SHOW_MAX ? in->limit : SHOW_MAX;
    snprintf(c->reply, sizeof c->reply, "%s", m->reply);
    snprintf(c->agent, sizeof c->agent, "%s", in->agent);
    snprintf(c->key, sizeof c->key, "%s", in->idempotency_key);
    snprintf(c->by, sizeof c->by, "%s", in->by);
    snprintf(c->reason, sizeof c->reason, "%s", in->reason);
    v->run(c);
}
