/* fallback_agent.c - one agent's document: loaded, decided upon, stored, then announced.
 *
 * The happy path: an event is decided on a copy; the copy is written by compare-and-set; when it has won, it is the document, its
 * directive goes out at once, and the other effects follow. What came meanwhile waits in the queue. Lost, fenced or
 * unknown: the copy is forgotten, the document read again and the same event decided anew.
 *
 * An emptied or damaged Redis is filled from what this process knows, or from the last directive on the stream, whichever
 * has the higher epoch; only if the stream was replayed and knows nothing does an agent start at epoch 1. */
#include "common/clock.h"
#include "common/log.h"
#include "common/metric.h"
#include "common/sm.h"
#include "fallback/fallback_shell.h"
#include <assert.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

METRIC_DEFINE(decided, METRIC_COUNTER, "redoubt_fallback_decisions_total", "Events decided upon.");
METRIC_DEFINE(issued, METRIC_COUNTER, "redoubt_fallback_directives_total", "Directives issued: new epochs.");
METRIC_DEFINE(races, METRIC_COUNTER, "redoubt_fallback_races_total",
              "Writes that somebody else was ahead of, or whose answer never came.");
METRIC_DEFINE(repaired, METRIC_COUNTER, "redoubt_fallback_repaired_total",
              "Documents that Redis had lost or damaged, filled from memory or stream.");

#define TROUBLE_EVERY_MS 10000
#define QUEUE_MAX        64 /* events of one agent that wait while Redis is slow */

const struct sm_table agent_place_sm = {.name = "agent's document",
                                        .n = PLACES,
                                        .state_names =
                                            (const char *const[]){"away", "loading", "here", "storing", "hurt"},
                                        .allowed = (const uint32_t[]){
                                            [AWAY] = SM_BIT(LOADING),
                                            [LOADING] = SM_BIT(HERE) | SM_BIT(HURT) | SM_BIT(AWAY),
                                            [HERE] = SM_BIT(STORING) | SM_BIT(LOADING) | SM_BIT(AWAY),
                                            [STORING] = SM_BIT(HERE) | SM_BIT(LOADING) | SM_BIT(HURT) | SM_BIT(AWAY),
                                            [HURT] = SM_BIT(LOADING) | SM_BIT(AWAY),
                                        }};

struct ticket *ticket_new(struct agent *a, uint64_t n)
{
    struct ticket *t = calloc(1, sizeof *t);
    if (!t)
        abort(); /* the way back of a callback that is promised */
    t->s = a->sh->s;
    t->n = n;
    memcpy(t->agent, a->name, sizeof t->agent);
    return t;
}

struct agent *ticket_agent(const struct ticket *t)
{
    return t->s->state ? shell_agent(t->s->state, t->agent) : NULL;
}

static void move(struct agent *a, int to)
{
    a->sh->storing -= a->place == STORING;
    a->sh->storing += to == STORING;
    if (a->issuing) { /* STORING ends */
        a->issuing = false;
        if (--a->sh->issuing == 0)
            shell_hear(a->sh);
    }
    sm_move(&agent_place_sm, &a->place, to);
}

/* Redis did something else than what was asked. Said once for all agents in a while. */
static void trouble(struct agent *a, const char *what, const char *why)
{
    uint64_t held;
    if (log_allowed(&a->sh->trouble, clock_mono_ms(), TROUBLE_EVERY_MS, &held))
        log_warn(what, F_STR("agent", a->name), F_STR("why", why), F_INT("held_back", held),
                 F_STR("next", "read again"));
}

bool agent_decided(const struct agent *a)
{
    return a->place == HERE || a->place == STORING;
}

/* ---- events that wait ---- */

static void pop(struct agent *a)
{
    struct queued *q = a->queue;
    a->queue = q->next;
    if (!a->queue)
        a->queue_end = &a->queue;
    free(q);
}

void agent_event(struct agent *a, const struct fallback_event *ev, const char *reply)
{
    size_t n = 0;
    for (const struct queued *q = a->queue; q; q = q->next)
        n++;
    struct queued *q = n < QUEUE_MAX && agent_decided(a) ? calloc(1, sizeof *q) : NULL;
    if (!q) {
        /* Acks come again, calls are made again; an operator is told. */
        if (reply && *reply)
            service_reply(a->sh->s, reply, REDOUBT__V1__COMMAND_STATUS__COMMAND_STATUS_UNAVAILABLE, 0,
                          "the state of %s is being read or written; try again", a->name);
        return;
    }
    q->ev = *ev;
    if (reply)
        snprintf(q->reply, sizeof q->reply, "%s", reply);
    *a->queue_end = q;
    a->queue_end = &q->next;
    if ((a->sh->to_look || a->sh->issuing > 0) && ev->kind == FALLBACK_ACK)
        agent_hear_soon(a); /* others wait for their directives */
    else
        agent_run(a);
}

void agent_look(struct agent *a)
{
    a->look = true;
    agent_run(a);
}

/* ---- a write ---- */

static void drop_next(struct agent *a)
{
    bytes_free(&a->next_directive);
    owed_free(a->next_owed);
    a->next_owed = NULL;
    free(a->held);
    a->held = NULL;
    a->n_held = 0;
}

static void carry_out(struct agent *a, const struct fallback_effect *e, const char *reply)
{
    switch (e->kind) {
    case FALLBACK_RESEND:
        agent_resend(a);
        break;
    case FALLBACK_CALL:
        call_start(a, e);
        break;
    case FALLBACK_WAKE_AT:
        agent_wake_at(a, e->at_ms);
        break;
    case FALLBACK_ANSWER:
        if (reply && *reply)
            cmd_answer(a, reply, e, a->f.doc.epoch);
        break;
    case FALLBACK_RESTART:
        restart_start(a, e);
        break;
    case FALLBACK_ROLL:
        roll_start(a, e);
        break;
    case FALLBACK_FENCE:
        fence_start(a, e->epoch);
        break;
    case FALLBACK_AWAIT:
        wave_await(a, e->index);
        break;
    case FALLBACK_STORE:
    case FALLBACK_ISSUE:
    case FALLBACK_TELL:
    case FALLBACK_RECORD:
        break; /* part of the write */
    }
}

/* The event at the head of the queue, or the LOOK, has been dealt with. */
static void carry_out_all(struct agent *a, const struct fallback_effect *effects, size_t n, bool from_queue)
{
    char reply[ORDER_REPLY] = "";
    if (from_queue) {
        memcpy(reply, a->queue->reply, sizeof reply);
        pop(a);
    }
    agent_wake_at(a, INT64_MAX);
    bool fenced = false;
    for (size_t i = 0; i < n; i++) {
        fenced |= effects[i].kind == FALLBACK_FENCE;
        if (effects[i].kind == FALLBACK_ANSWER && fenced && *reply)
            fence_answer(a, reply, &effects[i]); /* when the guards have confirmed */
        else
            carry_out(a, &effects[i], reply);
    }
}

static void on_marked(void *ctx, enum store_status st, const redisReply *reply)
{
    (void)ctx; /* if it did not work, the next leader announces once more under the same id */
    (void)st;
    (void)reply;
}

static void loaded(struct agent *a, enum store_status st, const struct store_doc *d);

static void won(struct agent *a)
{
    a->rev++;
    a->f = a->next;
    a->known = true;
    agent_count_need(a);
    a->restored = false;
    if (a->next_directive.data) {
        bytes_free(&a->directive);
        a->directive = a->next_directive;
        a->next_directive = (struct bytes){0};
        a->issued_epoch = a->f.doc.epoch;
        a->issued_needs = a->f.doc.llm_index < 0 && !a->f.doc.llm_waiting;
        a->pending = true;
        metric_add(&issued, 1);
        agent_announce(a); /* before everything else: the agent waits */
        log_info("directive issued", F_STR("agent", a->name), F_INT("epoch", a->f.doc.epoch),
                 F_STR("step", fallback_step_name(a->f.doc.step)),
                 F_STR("posture", fallback_posture_name(a->f.doc.posture)), F_STR("reason", a->f.doc.reason));
    } else if (a->put_pending && !a->pending) {
        store_doc_announced(a->sh->s->store, a->key, a->rev, on_marked, NULL);
    }
    owed_drop_left_out(a);
    struct owed **end = &a->owed;
    while (*end)
        end = &(*end)->next;
    *end = a->next_owed;
    a->next_owed = NULL;
    agent_say_soon(a);
    struct fallback_effect *held = a->held;
    size_t n = a->n_held;
    a->held = NULL;
    a->n_held = 0;
    move(a, HERE);
    if (a->writing != WRITE_TIDY)
        carry_out_all(a, held, n, a->writing == WRITE_EVENT);
    free(held);
    agent_run(a);
    shell_look_at_apis(a->sh);
}

static void on_put(void *ctx, enum store_status st, enum store_cas r, const struct store_doc *current)
{
    struct ticket *t = ctx;
    struct agent *a = ticket_agent(t);
    uint64_t op = t->n;
    free(t);
    if (!a || a->op != op || a->place != STORING)
        return;
    if (st == STORE_OK && r == STORE_CAS_WON) {
        won(a);
        return;
    }
    drop_next(a);
    metric_add(&races, 1);
    if (st == STORE_OK && r == STORE_CAS_LOST) {
        move(a, LOADING);
        loaded(a, STORE_OK, current);
        return;
    }
    move(a, HURT);
    if (st == STORE_OK)
        trouble(a, "our lease is older than the writer before us", "another replica acts for it");
    else
        trouble(a, "document not written", current->error[0] ? current->error : store_status_text(st));
}

/* Packs next with what is owed; false if it cannot be (a bug, said). */
static bool pack(struct agent *a, bool pending, uint64_t fence, struct bytes *out)
{
    enum { OWED_MAX = 32 };
    const struct bytes *list[OWED_MAX];
    PB(AgentState) m;
    struct err e;
    size_t n = 0;
    const struct bytes *directive = a->next_directive.data ? &a->next_directive : &a->directive;
    for (struct owed *o = a->owed; o; o = o->next) {
        o->left_out = o->state == OWED_DURABLE || n == OWED_MAX;
        if (!o->left_out)
            list[n++] = &o->packed;
    }
    for (const struct owed *o = a->next_owed; o; o = o->next)
        if (n < OWED_MAX)
            list[n++] = &o->packed;
    a->next.doc.revision = a->rev + 1;
    fallback_doc_fill(&m, a->name, &a->next.doc);
    m.fence = fence;
    m.announce_pending = pending;
    m.directive = (ProtobufCBinaryData){.data = directive->data, .len = directive->len};
    out->data = wire_pack(&m, &out->len, &e);
    if (out->data && !fallback_doc_owe(out, list, n, &e))
        bytes_free(out);
    if (!out->data)
        log_error("own document is not valid", F_STR("agent", a->name), F_STR("why", e.text));
    return out->data;
}

static void write_next(struct agent *a, enum writing what_for)
{
    a->writing = what_for;
    struct bytes doc = {0};
    uint64_t fence = agent_fence(a);
    bool pending = a->pending || a->next_directive.data;
    if (fence == 0 || !pack(a, pending, fence, &doc)) { /* no lease: on_lost is about to come */
        drop_next(a);
        move(a, STORING);
        move(a, HURT);
        return;
    }
    move(a, STORING);
    a->issuing = a->next_directive.data;
    a->sh->issuing += a->issuing;
    a->put_pending = pending;
    a->op++;
    char epoch[24];
    snprintf(epoch, sizeof epoch, "%" PRIu64, a->next.doc.epoch);
    const char *plain[] = {"epoch", epoch, "posture", fallback_posture_name(a->next.doc.posture)};
    store_doc_put_fields(a->sh->s->store, a->key, a->rev, fence, pending, doc.data, doc.len, 2, plain, on_put,
                         ticket_new(a, a->op));
    free(doc.data);
}

/* ---- a decision ---- */

static void look_around(struct agent *a, struct fallback_view *v)
{
    struct shell *sh = a->sh;
    *v = (struct fallback_view){.verdict = &a->verdict,
                                .judgement = &a->judgement,
                                .resources = &a->resources,
                                .ready = shell_ready(sh),
                                .bus_up = sh->bus_up_mono_ms != 0,
                                .may_loosen = shell_may_loosen(sh) && agent_fence(a) != 0,
                                .override_needed_elsewhere = agent_needed_elsewhere(a)};
    for (size_t i = 0; i < a->rule.n_chain; i++)
        v->llm[i] = agent_sees(a, i);
    if (a->rule.backend[0])
        v->backend = agent_sees(a, USE_BACKEND);
    wave_view(a, v);
}

/* The others are part of it. */
static bool waits_for_write(const struct fallback_effect *e)
{
    return e->kind != FALLBACK_STORE && e->kind != FALLBACK_ISSUE && e->kind != FALLBACK_TELL &&
           e->kind != FALLBACK_RECORD;
}

/* Keeps the effects that must wait for the write, and prepares what is written with it. */
static bool hold(struct agent *a, const struct fallback_effect *effects, size_t n)
{
    struct owed **end = &a->next_owed;
    struct err e;
    size_t held = 0;
    for (size_t i = 0; i < n; i++)
        held += waits_for_write(&effects[i]);
    a->held = held > 0 ? malloc(held * sizeof *a->held) : NULL;
    if (held > 0 && !a->held)
        return false;
    for (size_t i = 0; i < n; i++) {
        const struct fallback_effect *x = &effects[i];
        if (x->kind == FALLBACK_ISSUE) {
            a->next_directive =
                fallback_directive_pack(a->name, &a->next.doc, agent_fence(a), clock_wall_ms(), a->rule.ack_ms, &e);
            if (!a->next_directive.data) {
                log_error("own directive is not valid", F_STR("agent", a->name), F_STR("why", e.text));
                return false;
            }
        } else if (x->kind == FALLBACK_TELL || x->kind == FALLBACK_RECORD) {
            if ((*end = owed_new(a, x, &a->next.doc)))
                end = &(*end)->next;
        } else if (waits_for_write(x)) {
            a->held[a->n_held] = *x;
            a->held[a->n_held++].actor = NULL; /* pointed into the event */
        }
    }
    return true;
}

static void decide(struct agent *a, const struct fallback_event *ev, bool from_queue)
{
    struct fallback_effect effects[FALLBACK_EFFECTS_MAX];
    struct fallback_view v;
    look_around(a, &v);
    a->strict = !v.may_loosen;
    a->next = a->f;
    size_t n = fallback_decide(&a->next, &a->rule, &v, ev, clock_shared_ms(), effects);
    metric_add(&decided, 1);
    wave_decided(a, &a->f.doc, &a->next.doc);
    bool store = false;
    for (size_t i = 0; i < n; i++)
        store |= effects[i].kind == FALLBACK_STORE;
    if (!store) {
        a->f = a->next;
        carry_out_all(a, effects, n, from_queue);
    } else if (hold(a, effects, n)) {
        write_next(a, from_queue ? WRITE_EVENT : WRITE_LOOK);
    } else {
        drop_next(a);
        move(a, STORING);
        move(a, HURT);
    }
}

void agent_run(struct agent *a)
{
    while (a->place == HERE) {
        if (a->queue) {
            a->look = false;                               /* every decision looks at everything */
            const struct fallback_event ev = a->queue->ev; /* effects point into it */
            decide(a, &ev, true);
        } else if (a->look) {
            a->look = false;
            decide(a, &(struct fallback_event){.kind = FALLBACK_LOOK}, false);
        } else if (a->restored || owed_any_durable(a)) {
            if (!a->restored && a->sh->s->draining)
                return;
            a->next = a->f;
            write_next(a, WRITE_TIDY);
        } else {
            return;
        }
    }
}

/* ---- a read ---- */

/* From an event that was being decided when the document was lost sight of: it is decided anew. */
static void begin(struct agent *a, bool fresh)
{
    memset(&a->f.run, 0, sizeof a->f.run);
    move(a, HERE);
    wave_count(a, &a->f.doc);
    if (fresh) {
        a->next = a->f;
        struct fallback_event ev = {.kind = FALLBACK_START};
        decide(a, &ev, false);
        return;
    }
    if (a->pending && a->announcing == 0)
        agent_announce(a);
    owed_send(a);
    a->look = false;
    decide(a, &(struct fallback_event){.kind = FALLBACK_LOADED}, false);
    agent_run(a);
}

/* What the stream says, as a document. */
static bool from_stream(struct agent *a, struct fallback_doc *d, struct err *e)
{
    PB(Directive) *m = a->seen.data ? wire_unpack(PB_DESC(directive), a->seen.data, a->seen.len, e) : NULL;
    bool good = m && fallback_doc_take(d, a->name, m->state, e) == 0;
    wire_free(m);
    return good;
}

/* Redis has no document, or none that can be used: the best that is known elsewhere becomes the document again. */
static void restore(struct agent *a, uint64_t rev, const char *why)
{
    struct fallback_doc d;
    struct err e = {""};
    a->rev = rev;
    bool streamed = a->seen_epoch > 0 && from_stream(a, &d, &e);
    if (a->known && (!streamed || a->f.doc.epoch >= d.epoch)) {
        a->pending = a->last_seen_epoch != a->f.doc.epoch;
    } else if (streamed) {
        a->f.doc = d;
        bytes_copy(&a->directive, a->seen.data, a->seen.len);
        a->issued_epoch = 0;
        a->pending = false;
    } else if (!a->sh->ever_synced) {
        move(a, HURT); /* the stream may know more: read again when it was replayed */
        return;
    } else {
        if (rev > 0)
            log_error("the document is damaged and nothing else is known: starting anew", F_STR("agent", a->name),
                      F_STR("why", why));
        a->f = (struct fallback){0};
        a->pending = false;
        begin(a, true);
        return;
    }
    metric_add(&repaired, 1);
    log_warn("document restored", F_STR("agent", a->name), F_INT("epoch", a->f.doc.epoch), F_STR("why", why));
    a->known = a->restored = true;
    agent_count_need(a);
    begin(a, false);
}

static void loaded(struct agent *a, enum store_status st, const struct store_doc *doc)
{
    if (st != STORE_OK) {
        move(a, HURT);
        trouble(a, "document not read", doc->error[0] ? doc->error : store_status_text(st));
        return;
    }
    struct err e = {"it is gone"};
    struct fallback_doc d;
    PB(AgentState) *m = doc->found ? wire_unpack(PB_DESC(agent_state), doc->data, doc->len, &e) : NULL;
    PB(Directive) *directive = NULL;
    bool good = m && fallback_doc_take(&d, a->name, m, &e) == 0;
    if (good) {
        /* Without its directive it could not be repeated: as good as damaged. */
        directive = wire_unpack(PB_DESC(directive), m->directive.data, m->directive.len, &e);
        good = directive && directive->state->epoch == d.epoch;
    }
    struct fallback_doc later;
    bool overtaken = good && a->seen_epoch > d.epoch && from_stream(a, &later, &e);
    if (!good || overtaken) {
        wire_free(directive);
        wire_free(m);
        restore(a, doc->rev, good ? "the stream has a later epoch" : e.text);
        return;
    }
    a->rev = doc->rev;
    a->f.doc = d;
    a->f.doc.revision = doc->rev;
    a->known = true;
    agent_count_need(a);
    a->restored = false;
    a->pending = doc->pending;
    bytes_copy(&a->directive, m->directive.data, m->directive.len);
    a->issued_epoch = 0;
    owed_free(a->owed);
    a->owed = owed_take(a->sh, m);
    wire_free(directive);
    wire_free(m);
    begin(a, false);
}

static void on_got(void *ctx, enum store_status st, const struct store_doc *doc)
{
    struct ticket *t = ctx;
    struct agent *a = ticket_agent(t);
    uint64_t op = t->n;
    free(t);
    if (a && a->op == op && a->place == LOADING)
        loaded(a, st, doc);
}

void agent_load(struct agent *a)
{
    if (a->place == LOADING)
        return;
    if (a->place == STORING)
        drop_next(a);
    move(a, LOADING);
    a->op++;
    store_doc_get(a->sh->s->store, a->key, on_got, ticket_new(a, a->op));
}

void agent_forget(struct agent *a)
{
    if (a->place == AWAY)
        return;
    drop_next(a);
    effects_forget(a);
    move(a, AWAY);
    a->op++;
    agent_wake_at(a, INT64_MAX);
    agent_leave_line(a);
    agent_hear_not(a);
    a->look = false;
    while (a->queue) {
        if (a->queue->reply[0])
            service_reply(a->sh->s, a->queue->reply, REDOUBT__V1__COMMAND_STATUS__COMMAND_STATUS_UNAVAILABLE, 0,
                          "this replica does not act for %s any more; look at its state and try again", a->name);
        pop(a);
    }
}

void agent_free(struct agent *a)
{
    if (!a)
        return;
    while (a->queue)
        pop(a);
    agent_wake_at(a, INT64_MAX);
    agent_say_not(a);
    agent_hear_not(a);
    agent_leave_line(a);
    agent_leave_api(a);
    agent_unlink_targets(a);
    drop_next(a);
    effects_agent_free(a);
    bytes_free(&a->directive);
    bytes_free(&a->seen);
    owed_free(a->owed);
    free(a);
}
