/* guard_in.c - what agents ask: decoded by the skeleton, run, queued if it must wait, answered. */
#include "common/clock.h"
#include "guard/guard_impl.h"
#include <stdlib.h>
#include <string.h>

#define TURN_EVERY   512 /* answers that may gather before they are handed out */
#define SAY_EVERY_MS 50

#define REASON(what)   REDOUBT__V1__REFUSAL_REASON__REFUSAL_REASON_##what
#define DECISION(what) REDOUBT__V1__ACTION_DECISION__ACTION_DECISION_##what

/* One that asked, until it has its answer. */
struct asked {
    struct guard *g;
    PB(ActionRequest) * r; /* only if it must be queued: of its own */
    int posture;
    char reply[];
};

static void answer(struct asked *q, const char *key, int decision, int reason, const char *detail, int status,
                   int64_t retry_ms)
{
    PB(ActionReply) m = PB_INIT(ACTION_REPLY);
    m.idempotency_key = (char *)key;
    m.decision = (Redoubt__V1__ActionDecision)decision;
    m.refusal = (Redoubt__V1__RefusalReason)reason;
    m.detail = (char *)detail;
    m.status_code = (uint32_t)status;
    m.retry_after_ms = (uint32_t)retry_ms;
    service_reply_message(q->g->s, q->reply, &m);
}

static void done_asking(struct asked *q)
{
    wire_free(q->r);
    free(q);
}

static void on_queued(void *ctx, int status, bool full, const char *error)
{
    struct asked *q = ctx;
    struct guard *g = q->g;
    if (status == 0) {
        guard_claim_queued(g, q->r);
        guard_audit_outcome(g, q->r, "action.queued", REDOUBT__V1__AUDIT_OUTCOME__AUDIT_OUTCOME_DONE, 0, 0, "",
                            q->r->epoch);
        answer(q, q->r->idempotency_key, DECISION(QUEUED), 0, "", 0, 0);
    } else {
        int reason = full ? REASON(QUEUE_FULL) : REASON(AUDIT_UNAVAILABLE);
        guard_claim_forget(g, q->r->agent, q->r->idempotency_key);
        guard_audit_outcome(g, q->r, "action.queued", REDOUBT__V1__AUDIT_OUTCOME__AUDIT_OUTCOME_FAILED, reason, 0,
                            error, q->r->epoch);
        answer(q, q->r->idempotency_key, DECISION(REFUSED), reason, error, 0, 0);
    }
    done_asking(q);
}

/* Local security mode: each decision is a line, as far as the log's rate allows; the trail has them all. */
static void say_local(struct guard *g, const PB(ActionRequest) * r, const char *why)
{
    uint64_t held = 0;
    if (log_allowed(&g->local_log, clock_mono_ms(), SAY_EVERY_MS, &held))
        log_info("action queued", F_STR("agent", r->agent), F_STR("action", r->action),
                 F_STR("key", r->idempotency_key), F_STR("why", why), F_INT("held_back", held));
}

static void on_ran(void *ctx, const struct guard_result *r)
{
    static const int decisions[] = {
        [GUARD_END_DONE] = DECISION(FORWARDED),  [GUARD_END_PERMITTED] = DECISION(PERMITTED),
        [GUARD_END_QUEUE] = DECISION(QUEUED),    [GUARD_END_REFUSED] = DECISION(REFUSED),
        [GUARD_END_REJECTED] = DECISION(FAILED), [GUARD_END_RETRY] = DECISION(FAILED),
    };
    struct asked *q = ctx;
    if (r->end == GUARD_END_QUEUE && !r->duplicate) {
        say_local(q->g, q->r, r->detail);
        guard_queue_put(q->g, q->r, q->posture, r->detail, on_queued, q);
        return;
    }
    bool again = r->duplicate && r->end != GUARD_END_QUEUE;
    answer(q, q->r->idempotency_key, again ? DECISION(DUPLICATE) : decisions[r->end],
           r->end == GUARD_END_REFUSED ? r->reason : 0, r->detail, r->status, r->retry_after_ms);
    done_asking(q);
}

void guard_on_action(struct service *s, const void *message, const struct bus_msg *m)
{
    struct guard *g = s->state;
    (void)message;
    struct err e = {""};
    PB(ActionRequest) *r = wire_unpack(PB_DESC(action_request), m->data, m->len, &e);
    const char *agent = subject_tail(m->subject, SUBJECT_ACTION);
    if (!r || !m->reply || !agent || strcmp(agent, r->agent) != 0) {
        service_bad_input(s, "action request", m,
                          !r          ? e.text
                          : !m->reply ? "it has no reply subject: send actions as requests"
                                      : "subject and agent differ");
        if (m->reply && !r) {
            struct asked *q = malloc(sizeof *q + strlen(m->reply) + 1);
            if (q) {
                *q = (struct asked){.g = g};
                strcpy(q->reply, m->reply);
                answer(q, "", DECISION(REFUSED), REASON(INVALID), e.text, 0, 0);
                free(q);
            }
        }
        wire_free(r);
        return;
    }
    struct asked *q = malloc(sizeof *q + strlen(m->reply) + 1);
    if (!q) {
        service_bad_input(s, "action request", m, "out of memory");
        wire_free(r);
        return;
    }
    struct guard_agent *a = guard_agent(g, r->agent);
    *q = (struct asked){.g = g, .r = r, .posture = a ? a->at.posture : 0};
    strcpy(q->reply, m->reply);
    guard_run(g, r, 0, on_ran, q);
    if (g->acts % TURN_EVERY == 0)
        guard_turn(g);
}

void guard_on_baseline(struct service *s, const void *message, const struct bus_msg *m)
{
    const struct guard *g = s->state;
    const struct baseline *b = g->baseline;
    (void)message;
    PB(BaselineReport) r = PB_INIT(BASELINE_REPORT);
    r.trusted = b->trusted;
    r.version = b->version;
    r.sha256 = (char *)b->sha256;
    r.signed_off_by = (char *)b->signed_by;
    r.loaded_unix_ms = b->loaded_ms;
    r.error = (char *)b->error;
    r.actions = (uint32_t)b->actions.n;
    struct err e = {""};
    size_t len;
    void *data = wire_pack(&r, &len, &e);
    if (!data) {
        service_reply(s, m->reply, REDOUBT__V1__COMMAND_STATUS__COMMAND_STATUS_UNAVAILABLE, 0, "%s", e.text);
        return;
    }
    PB(CommandReply) reply = PB_INIT(COMMAND_REPLY);
    reply.status = REDOUBT__V1__COMMAND_STATUS__COMMAND_STATUS_OK;
    reply.payload.data = data;
    reply.payload.len = len;
    service_reply_message(s, m->reply, &reply);
    free(data);
}
