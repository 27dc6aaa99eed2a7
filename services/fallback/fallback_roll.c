/* fallback_roll.c - asks the rollback service for a rollback of an agent that is gone: audited first, under one id. */
#include "common/log.h"
#include "fallback/fallback_shell.h"
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#define ANSWER_MS 3000
#define TRIES     3 /* the same id starts one job at most, so a silent service may be asked again */

struct roll {
    struct service *s;
    char agent[NAME_MAX_LEN + 1];
    char deployment[NAME_MAX_LEN + 1];
    char id[FALLBACK_ID_TEXT];
    char reason[FALLBACK_REASON_TEXT + 64];
    uint64_t epoch;
    unsigned tries;
};

static void audit(const struct roll *r, int outcome, int audit_class, const char *detail, outbox_cb done, void *ctx)
{
    const struct effects_record m = {.action = "agent.rollback",
                                     .agent = r->agent,
                                     .epoch = r->epoch,
                                     .key = {"deployment", "job"},
                                     .value = {r->deployment, r->id}};
    effects_audit(r->s, &m, outcome, audit_class, detail, done, ctx);
}
#define OUTCOME(x) REDOUBT__V1__AUDIT_OUTCOME__AUDIT_OUTCOME_##x
#define CLASS(x)   REDOUBT__V1__AUDIT_CLASS__AUDIT_CLASS_##x

static void finish(struct roll *r, bool ok, const char *detail)
{
    struct agent *a = r->s->state ? shell_agent(r->s->state, r->agent) : NULL;
    if (r->s->state) {
        audit(r, ok ? OUTCOME(DONE) : OUTCOME(FAILED), CLASS(CONTINUITY), detail, NULL, NULL);
        if (ok)
            log_info("rollback asked for", F_STR("agent", r->agent), F_STR("deployment", r->deployment),
                     F_STR("job", r->id), F_STR("answer", detail));
        else
            log_warn("rollback not started", F_STR("agent", r->agent), F_STR("deployment", r->deployment),
                     F_STR("job", r->id), F_STR("why", detail));
    }
    if (a && strcmp(a->fx.rolling, r->id) == 0) {
        struct fallback_event ev = {.kind = FALLBACK_ROLLED, .failed = !ok};
        a->fx.rolling[0] = '\0';
        snprintf(ev.key, sizeof ev.key, "%s", r->id);
        snprintf(ev.detail, sizeof ev.detail, "%s", detail);
        if (agent_decided(a))
            agent_event(a, &ev, NULL);
    }
    free(r);
}

static void ask(struct roll *r);

static void on_answer(void *ctx, enum bus_status st, const struct bus_msg *m)
{
    struct roll *r = ctx;
    struct err e = {""};
    if (st == BUS_TIMEOUT && r->s->state && ++r->tries < TRIES) {
        ask(r);
        return;
    }
    if (st != BUS_OK) {
        finish(r, false,
               st == BUS_NO_RESPONDERS ? "the rollback service does not run"
               : st == BUS_TIMEOUT     ? "the rollback service did not answer: it is not known whether it has begun"
                                       : bus_status_text(st));
        return;
    }
    PB(CommandReply) *x = wire_unpack(PB_DESC(command_reply), m->data, m->len, &e);
    if (!x)
        finish(r, false, "the rollback service's answer cannot be read");
    else
        finish(r,
               x->status == REDOUBT__V1__COMMAND_STATUS__COMMAND_STATUS_OK ||
                   x->status == REDOUBT__V1__COMMAND_STATUS__COMMAND_STATUS_ALREADY,
               *x->message ? x->message : wire_enum_name(&redoubt__v1__command_status__descriptor, (int)x->status));
    wire_free(x);
}

static void ask(struct roll *r)
{
    PB(RollbackCommand) c = PB_INIT(ROLLBACK_COMMAND);
    struct err e;
    size_t len;
    c.deployment = r->deployment;
    c.by = (char *)r->s->desc->name;
    c.reason = r->reason;
    c.job_id = r->id;
    void *data = wire_pack(&c, &len, &e);
    if (!data) {
        finish(r, false, e.text);
        return;
    }
    struct bus_out o = {.subject = SUBJECT_CMD "rollback.start", .type = wire_type(&c), .data = data, .len = len};
    bus_request(r->s->bus, &o, ANSWER_MS, on_answer, r);
    free(data);
}

/* A rollback is of the strict class: what is not in the trail is not asked for. */
static void on_audited(void *ctx, int status, const char *error)
{
    struct roll *r = ctx;
    char detail[300];
    struct agent *a = r->s->state ? shell_agent(r->s->state, r->agent) : NULL;
    if (!a || !agent_decided(a) || strcmp(a->f.doc.rollback_id, r->id) != 0) {
        finish(r, false, "it is not asked for any more");
    } else if (status != 0) {
        snprintf(detail, sizeof detail, "not asked for, since the audit trail cannot be written: %.200s", error);
        finish(r, false, detail);
    } else {
        ask(r);
    }
}

void roll_start(struct agent *a, const struct fallback_effect *e)
{
    if (strcmp(a->fx.rolling, e->key) == 0)
        return; /* asked for, and not answered yet */
    struct roll *r = calloc(1, sizeof *r);
    if (!r)
        abort(); /* the decider waits for its end */
    r->s = a->sh->s;
    r->epoch = a->f.doc.epoch;
    snprintf(r->agent, sizeof r->agent, "%s", a->name);
    snprintf(r->deployment, sizeof r->deployment, "%s", a->rule.deployment);
    snprintf(r->id, sizeof r->id, "%s", e->key);
    snprintf(r->reason, sizeof r->reason, "agent %s: %s", a->name, a->f.doc.reason);
    memcpy(a->fx.rolling, r->id, sizeof a->fx.rolling);
    audit(r, OUTCOME(INTENDED), CLASS(STRICT), r->reason, on_audited, r);
}
