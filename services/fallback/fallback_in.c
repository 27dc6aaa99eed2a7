/* fallback_in.c - messages of other services and of agents, turned into what the decider sees. */
#include "common/log.h"
#include "fallback/fallback_shell.h"
#include <string.h>

/* The subject says whose message it may be. */
static bool in_place(struct service *s, const char *prefix, const char *name, const struct bus_msg *m)
{
    const char *tail = subject_tail(m->subject, prefix);
    if (tail && strcmp(tail, name) == 0)
        return true;
    service_bad_input(s, prefix, m, "the subject does not fit the message");
    return false;
}

void in_breaker(struct service *s, const void *message, const struct bus_msg *m)
{
    const PB(BreakerChanged) *b = message;
    struct shell *sh = s->state;
    if (!in_place(s, SUBJECT_BREAKER, b->target, m))
        return;
    struct target *t = shell_target(sh, b->target);
    if (t && fallback_target_breaker(&t->view, b->epoch, (int)b->state, b->ramp_percent, b->since_unix_ms,
                                     b->evidence_unix_ms))
        target_look_at_users(t);
}

#define AGENT_PREFIX "agent."

void in_health(struct service *s, const void *message, const struct bus_msg *m)
{
    const PB(HealthChanged) *h = message;
    struct shell *sh = s->state;
    if (!in_place(s, SUBJECT_HEALTH, h->target, m))
        return;
    const char *agent = subject_tail(h->target, AGENT_PREFIX);
    if (!agent) {
        struct target *t = shell_target(sh, h->target);
        if (t && fallback_target_health(&t->view, h->epoch, (int)h->state))
            target_look_at_users(t);
        return;
    }
    char name[NAME_MAX_LEN + 1];
    size_t n = strcspn(agent, ".");
    bool judgement = strcmp(agent + n, ".logic") == 0, resources = strcmp(agent + n, ".resources") == 0;
    if (n > NAME_MAX_LEN || (agent[n] && !judgement && !resources))
        return;
    snprintf(name, sizeof name, "%.*s", (int)n, agent);
    struct agent *a = shell_agent(sh, name);
    struct fallback_verdict *v = !a ? NULL : judgement ? &a->judgement : resources ? &a->resources : &a->verdict;
    if (!v || h->epoch <= v->epoch)
        return;
    *v = (struct fallback_verdict){
        .epoch = h->epoch, .health = (int)h->state, .failure = (int)h->failure_kind, .since_ms = h->since_unix_ms};
    snprintf(v->reason, sizeof v->reason, "%.*s", (int)sizeof v->reason - 1, h->reason);
    agent_look(a);
}

/* Directives as the stream has them: what an emptied Redis is filled from. */
static void seen(struct agent *a, uint64_t epoch, bool needs, const struct bus_msg *m)
{
    struct shell *sh = a->sh;
    a->last_seen_epoch = epoch;
    if (epoch <= a->seen_epoch || !bytes_copy(&a->seen, m->data, m->len))
        return;
    a->seen_epoch = epoch;
    a->seen_needs = needs;
    bool needed = a->needing;
    agent_count_need(a);
    if (a->needing && !needed) /* another replica's agent: it is about to activate */
        calls_cancel_releases(sh, a->api);
    shell_look_at_apis(sh);
    if (a->place == HERE && a->seen_epoch > a->f.doc.epoch) {
        log_warn("a later directive than ours was issued; reading the document again", F_STR("agent", a->name),
                 F_INT("epoch", a->seen_epoch));
        agent_load(a);
    }
}

/* Our own come back while the next agents wait for theirs: they are known by their bytes, and not decoded. */
void in_directive(struct service *s, const void *message, const struct bus_msg *m)
{
    (void)message;
    const char *name = subject_tail(m->subject, SUBJECT_DIRECTIVE);
    struct agent *a = name ? shell_agent(s->state, name) : NULL;
    if (a && agent_decided(a) && a->issued_epoch > 0 && a->issued_epoch == a->f.doc.epoch &&
        m->len == a->directive.len && memcmp(m->data, a->directive.data, m->len) == 0) {
        seen(a, a->issued_epoch, a->issued_needs, m);
        return;
    }
    struct err e;
    PB(Directive) *d = wire_unpack(PB_DESC(directive), m->data, m->len, &e);
    if (!d)
        service_bad_input(s, SUBJECT_DIRECTIVE, m, e.text);
    else if (in_place(s, SUBJECT_DIRECTIVE, d->state->agent, m) && a)
        seen(a, d->state->epoch, d->state->llm_index < 0 && !d->state->llm_waiting, m);
    wire_free(d);
}

void in_ack(struct service *s, const void *message, const struct bus_msg *m)
{
    const PB(DirectiveAck) *k = message;
    struct shell *sh = s->state;
    if (!in_place(s, SUBJECT_ACK, k->agent, m))
        return;
    struct agent *a = shell_agent(sh, k->agent);
    if (!a) {
        service_bad_input(s, "acknowledgement", m, "no such agent in the settings");
        return;
    }
    if (!agent_decided(a))
        return; /* whoever acts for it takes it; or we do when it comes again */
    if (k->epoch > a->f.doc.epoch) {
        service_bad_input(s, "acknowledgement", m, "confirms a directive that was never issued");
        return;
    }
    struct fallback_event ev = {
        .kind = FALLBACK_ACK, .epoch = k->epoch, .failed = k->status == REDOUBT__V1__ACK_STATUS__ACK_STATUS_FAILED};
    snprintf(ev.detail, sizeof ev.detail, "%s", k->detail);
    agent_event(a, &ev, NULL);
}
