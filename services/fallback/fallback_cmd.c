/* fallback_cmd.c - operators' commands. Any replica takes them; the one that acts for the agent carries them out.
 *
 * A freeze or unfreeze is in the audit trail before it is done. If the trail cannot be written, a freeze is done all the same
 * (with the gap said), an unfreeze is refused. Before an unfreeze the agent must answer the questions of its settings rightly, unless a person
 * does without. */
#include "common/clock.h"
#include "common/log.h"
#include "fallback/fallback_shell.h"
#include <stdlib.h>
#include <string.h>

#define HOLDER_MS    1500 /* who acts for it answers in milliseconds; after this there is none */
#define DRILL_MIN_MS 1000
#define OK           REDOUBT__V1__COMMAND_STATUS__COMMAND_STATUS_OK
#define ALREADY      REDOUBT__V1__COMMAND_STATUS__COMMAND_STATUS_ALREADY
#define INVALID      REDOUBT__V1__COMMAND_STATUS__COMMAND_STATUS_INVALID
#define UNAVAILABLE  REDOUBT__V1__COMMAND_STATUS__COMMAND_STATUS_UNAVAILABLE

struct verb {
    const char *name;
    enum fallback_event_kind event;
    bool strict;  /* audited before */
    bool looser;  /* refused if it cannot be */
    bool by_whom; /* who and why are required */
    int already;  /* automation mode in which it has no effect; 0 = none */
};
static const struct verb verbs[] = {
    {"freeze", FALLBACK_FREEZE, true, false, true, FALLBACK_AUTOMATION_FROZEN},
    {"unfreeze", FALLBACK_UNFREEZE, true, true, true, FALLBACK_AUTOMATION_ENABLED},
    {"resync", FALLBACK_RESYNC, false, false, true, 0},
    {"drill", FALLBACK_DRILL, true, true, true, 0},
    {"state", FALLBACK_LOOK, false, false, false, 0},
};

static void nobody_acts(struct service *s, const void *message, const struct bus_msg *m);
static const struct order_way way = {.any = SUBJECT_CMD "fallback.",
                                     .acts = FALLBACK_HOLDER_CMD,
                                     .desc = PB_DESC(agent_command),
                                     .nobody = nobody_acts};

static const struct verb *verb_of(const struct bus_msg *m)
{
    const char *tail = order_verb(&way, m);
    for (size_t i = 0; tail && i < sizeof verbs / sizeof verbs[0]; i++)
        if (strcmp(verbs[i].name, tail) == 0)
            return &verbs[i];
    return NULL;
}

void cmd_answer(struct agent *a, const char *reply, const struct fallback_effect *e, uint64_t epoch)
{
    static const int status[] = {
        [FALLBACK_DONE] = OK, [FALLBACK_ALREADY] = ALREADY, [FALLBACK_NOT_NOW] = UNAVAILABLE};
    service_reply(a->sh->s, reply, status[e->answer], epoch, "%s", e->text);
}

/* ---- state ---- */

static void reply_state(struct service *s, const char *reply, const PB(AgentState) * state, const char *message)
{
    struct err e;
    size_t len;
    void *data = wire_pack(state, &len, &e);
    if (!data) {
        service_reply(s, reply, UNAVAILABLE, 0, "the state is not valid: %s", e.text);
        return;
    }
    PB(CommandReply) m = PB_INIT(COMMAND_REPLY);
    m.status = OK;
    m.message = (char *)message;
    m.epoch = state->epoch;
    m.payload = (ProtobufCBinaryData){.data = data, .len = len};
    service_reply_message(s, reply, &m);
    free(data);
}

static void tell_state(struct agent *a, const char *reply)
{
    PB(AgentState) m;
    fallback_doc_fill(&m, a->name, &a->f.doc);
    m.fence = agent_fence(a);
    m.announce_pending = a->pending;
    reply_state(a->sh->s, reply, &m, "");
}

static bool tell_last_directive(struct agent *a, const char *reply)
{
    struct err e;
    PB(Directive) *d = a->seen.data ? wire_unpack(PB_DESC(directive), a->seen.data, a->seen.len, &e) : NULL;
    if (!d)
        return false;
    reply_state(a->sh->s, reply, d->state, "as of the last directive: no replica acts for it at the moment");
    wire_free(d);
    return true;
}

/* ---- strict acts: the trail first ---- */

struct order {
    struct service *s;
    const struct verb *verb;
    char agent[NAME_MAX_LEN + 1];
    struct fallback_event ev;
    char reply[ORDER_REPLY];
};

static void audit(const struct order *o, int outcome, int audit_class, const char *detail, outbox_cb done, void *ctx)
{
    char action[64];
    snprintf(action, sizeof action, "agent.%s", o->verb->name);
    PB(AuditRecord) r = PB_INIT(AUDIT_RECORD);
    r.action = action;
    r.actor = (char *)o->ev.by;
    r.subject = (char *)o->agent;
    r.outcome = (Redoubt__V1__AuditOutcome)outcome;
    r.audit_class = (Redoubt__V1__AuditClass)audit_class;
    r.detail = (char *)detail;
    service_audit(o->s, &r, done, ctx);
}

static void on_audited(void *ctx, int status, const char *error)
{
    struct order *o = ctx;
    struct shell *sh = o->s->state;
    struct agent *a = sh ? shell_agent(sh, o->agent) : NULL;
    if (!a) {
        if (sh)
            service_reply(o->s, o->reply, INVALID, 0, "there is no agent %s any more", o->agent);
    } else if (status != 0 && o->verb->looser) {
        audit(o, REDOUBT__V1__AUDIT_OUTCOME__AUDIT_OUTCOME_REFUSED, REDOUBT__V1__AUDIT_CLASS__AUDIT_CLASS_CONTINUITY,
              "the audit trail cannot be written", NULL, NULL);
        service_reply(o->s, o->reply, UNAVAILABLE, 0, "refused: the audit trail cannot be written (%s)", error);
    } else {
        if (status != 0) {
            log_error("freezing without an audit record before it: it is the stricter act", F_STR("agent", o->agent),
                      F_STR("by", o->ev.by), F_STR("why", error));
            audit(o, REDOUBT__V1__AUDIT_OUTCOME__AUDIT_OUTCOME_INTENDED, REDOUBT__V1__AUDIT_CLASS__AUDIT_CLASS_GAP,
                  "the record before the act could not be made durable", NULL, NULL);
        }
        agent_event(a, &o->ev, o->reply);
    }
    free(o);
}

/* In the trail, then done. */
static void record_and_do(struct order *o)
{
    char detail[FALLBACK_WHY_TEXT + 64];
    bool waived = o->ev.kind == FALLBACK_UNFREEZE && o->ev.waived;
    snprintf(detail, sizeof detail, "%s%s", o->ev.detail, waived ? " (self-test waived)" : "");
    audit(o, REDOUBT__V1__AUDIT_OUTCOME__AUDIT_OUTCOME_INTENDED, REDOUBT__V1__AUDIT_CLASS__AUDIT_CLASS_STRICT, detail,
          on_audited, o);
}

static void refuse_untested(struct order *o, const char *why)
{
    char detail[512];
    snprintf(detail, sizeof detail, "self-test not passed: %s", why);
    audit(o, REDOUBT__V1__AUDIT_OUTCOME__AUDIT_OUTCOME_REFUSED, REDOUBT__V1__AUDIT_CLASS__AUDIT_CLASS_STRICT, detail,
          NULL, NULL);
    log_warn("not unfrozen", F_STR("agent", o->agent), F_STR("by", o->ev.by), F_STR("why", detail));
    service_reply(o->s, o->reply, UNAVAILABLE, 0, "%s stays frozen, %s", o->agent, detail);
    free(o);
}

static void on_tested(void *ctx, bool passed, const char *text)
{
    struct order *o = ctx;
    if (!o->s->state) {
        free(o);
    } else if (!passed) {
        refuse_untested(o, text);
    } else {
        log_info("self-test passed", F_STR("agent", o->agent), F_STR("by", o->ev.by), F_STR("how", text));
        record_and_do(o);
    }
}

/* ---- whoever acts for the agent ---- */

/* False if it was answered already. */
static bool valid(struct service *s, const struct verb *v, const PB(AgentCommand) * c, const char *reply)
{
    struct shell *sh = s->state;
    const char *unsaid = v->by_whom ? order_unsaid(c->by, c->reason) : NULL;
    if (!shell_agent(sh, c->agent))
        service_reply(s, reply, INVALID, 0, "there is no agent %s in the settings", c->agent);
    else if (unsaid)
        service_reply(s, reply, INVALID, 0, "%s", unsaid);
    else if (v->event == FALLBACK_DRILL && c->duration_ms > 0 &&
             (c->duration_ms < DRILL_MIN_MS || (int)c->failure_kind == FALLBACK_FAILURE_NONE))
        service_reply(s, reply, INVALID, 0, "a drill pretends one kind of failure for %d ms at least", DRILL_MIN_MS);
    else
        return true;
    return false;
}

/* How long the replica that acts for an agent may take to answer: agents are asked questions, guards to confirm. */
static int64_t patience_ms(const struct shell *sh, const struct agent *a, const struct verb *v,
                           const PB(AgentCommand) * c)
{
    int64_t ms = HOLDER_MS;
    if (v->event == FALLBACK_FREEZE || v->event == FALLBACK_DRILL)
        ms += sh->s->settings->fallback.fence_ms;
    if (v->event == FALLBACK_UNFREEZE && !c->without_selftest && a)
        ms += selftest_patience_ms(a->set);
    return ms;
}

static void act(struct service *s, const struct verb *v, const PB(AgentCommand) * c, const char *reply)
{
    struct shell *sh = s->state;
    struct agent *a = shell_agent(sh, c->agent);
    if (!agent_decided(a)) {
        service_reply(s, reply, UNAVAILABLE, 0,
                      "the state of %s cannot be read at the moment (shared state or stream away?); try again",
                      a->name);
        return;
    }
    if (v->event == FALLBACK_LOOK) {
        tell_state(a, reply);
        return;
    }
    if (v->already && a->place == HERE && a->f.doc.automation == v->already) {
        service_reply(s, reply, ALREADY, a->f.doc.epoch, v->looser ? "%s is not frozen" : "%s is frozen already",
                      a->name);
        return;
    }
    struct order *o = calloc(1, sizeof *o);
    if (!o) {
        service_reply(s, reply, UNAVAILABLE, 0, "out of memory");
        return;
    }
    o->s = s;
    o->verb = v;
    snprintf(o->agent, sizeof o->agent, "%s", c->agent);
    o->ev.kind = v->event;
    snprintf(o->ev.by, sizeof o->ev.by, "%s", c->by);
    snprintf(o->ev.detail, sizeof o->ev.detail, "%s", c->reason);
    snprintf(o->reply, sizeof o->reply, "%s", reply);
    if (v->event == FALLBACK_DRILL && c->duration_ms > 0) {
        o->ev.failure = (int)c->failure_kind;
        o->ev.until_ms = clock_shared_ms() + c->duration_ms;
    }
    if (v->event == FALLBACK_UNFREEZE) {
        const char *why;
        o->ev.waived = c->without_selftest;
        if (!c->without_selftest) {
            if (!selftest_ask(a, on_tested, o, &why))
                refuse_untested(o, why);
            return;
        }
    }
    if (v->strict) {
        record_and_do(o);
        return;
    }
    agent_event(a, &o->ev, o->reply);
    free(o);
}

void cmd_holder(struct service *s, const void *message, const struct bus_msg *m)
{
    const PB(AgentCommand) *c = message;
    const struct verb *v = verb_of(m);
    if (!order_fit(s, &way, m, v))
        return;
    struct agent *a = shell_agent(s->state, c->agent);
    if (a && agent_fence(a) != 0 && valid(s, v, c, m->reply)) /* otherwise another hears it, too */
        act(s, v, c, m->reply);
}

/* ---- any replica ---- */

/* The last directive of the stream is still worth knowing. */
static void nobody_acts(struct service *s, const void *message, const struct bus_msg *m)
{
    const PB(AgentCommand) *c = message;
    struct agent *a = shell_agent(s->state, c->agent);
    if (!a || verb_of(m)->event != FALLBACK_LOOK || !tell_last_directive(a, m->reply))
        order_unheard(s, m->reply, c->agent);
}

void cmd_any(struct service *s, const void *message, const struct bus_msg *m)
{
    const PB(AgentCommand) *c = message;
    const struct verb *v = verb_of(m);
    if (!order_fit(s, &way, m, v) || !valid(s, v, c, m->reply))
        return;
    struct agent *a = shell_agent(s->state, c->agent);
    if (agent_fence(a) != 0)
        act(s, v, c, m->reply);
    else
        order_pass_on(s, &way, v->name, patience_ms(s->state, a, v, c), m);
}
