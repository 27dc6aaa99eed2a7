/* rollback_cmd.c - operators' commands. Any replica takes them; the one that acts for the deployment carries them out.
 *
 * A start is answered when PREPARE is through, so that who asks learns of a refusal at once, or after START_MS: it goes on then. */
#include "common/clock.h"
#include "common/log.h"
#include "rollback/rollback_shell.h"
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#define START_MS     2500
#define HOLDER_MS    1500 /* who acts for it answers in milliseconds; after this there is none */
#define PREFLIGHT_MS 8000 /* for a plan everything is asked */

#define OK          REDOUBT__V1__COMMAND_STATUS__COMMAND_STATUS_OK
#define INVALID     REDOUBT__V1__COMMAND_STATUS__COMMAND_STATUS_INVALID
#define UNAVAILABLE REDOUBT__V1__COMMAND_STATUS__COMMAND_STATUS_UNAVAILABLE

enum verb_kind { VERB_ORDER, VERB_PLAN, VERB_STATE };
struct verb {
    const char *name;
    enum verb_kind kind;
    enum rollback_event_kind event;
    bool by_whom; /* who and why are required */
    int64_t patience_ms;
};
static const struct verb verbs[] = {
    {"start", VERB_ORDER, ROLLBACK_START, true, HOLDER_MS + START_MS},
    {"hold", VERB_ORDER, ROLLBACK_HOLD_IT, true, HOLDER_MS},
    {"resume", VERB_ORDER, ROLLBACK_RESUME, true, HOLDER_MS},
    {"abort", VERB_ORDER, ROLLBACK_ABORT, true, HOLDER_MS},
    {"emergency", VERB_ORDER, ROLLBACK_EMERGENCY, true, HOLDER_MS},
    {"plan", VERB_PLAN, ROLLBACK_TICK, false, HOLDER_MS + PREFLIGHT_MS},
    {"state", VERB_STATE, ROLLBACK_TICK, false, HOLDER_MS},
};

static void nobody_acts(struct service *s, const void *message, const struct bus_msg *m);
static const struct order_way way = {.any = SUBJECT_CMD "rollback.",
                                     .acts = ROLLBACK_HOLDER_CMD,
                                     .desc = PB_DESC(rollback_command),
                                     .nobody = nobody_acts};

static const struct verb *verb_of(const struct bus_msg *m)
{
    const char *tail = order_verb(&way, m);
    for (size_t i = 0; tail && i < sizeof verbs / sizeof verbs[0]; i++)
        if (strcmp(verbs[i].name, tail) == 0)
            return &verbs[i];
    return NULL;
}

/* ---- answers ---- */

__attribute__((format(printf, 7, 8))) static void answer(struct service *s, const char *reply, int status,
                                                         uint64_t epoch, const void *payload, size_t len,
                                                         const char *fmt, ...)
{
    char text[1024];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    rollback_text_clean(text);
    PB(CommandReply) m = PB_INIT(COMMAND_REPLY);
    m.status = (Redoubt__V1__CommandStatus)status;
    m.message = text;
    m.epoch = epoch;
    m.payload = (ProtobufCBinaryData){.data = (uint8_t *)payload, .len = len};
    service_reply_message(s, reply, &m);
}

static void answer_state(struct deployment *d, const char *reply, int status, const char *text)
{
    answer(d->room->s, reply, status, d->doc->epoch, d->packed.data, d->packed.len, "%s", text);
}

static void forget_starting(struct deployment *d)
{
    d->starting[0] = '\0';
    loop_timer_stop(&d->starting_limit);
}

void cmd_rollback_progress(struct deployment *d)
{
    const struct rollback_job *j = &d->doc->job;
    char text[700];
    if (!d->starting[0])
        return;
    if (strcmp(j->id, d->starting_job) == 0 && j->phase == ROLLBACK_PHASE(PREPARE))
        return;
    bool refused = strcmp(j->id, d->starting_job) == 0 && j->phase == ROLLBACK_PHASE(REFUSED);
    if (refused)
        snprintf(text, sizeof text, "refused, and nothing was changed: %s", j->reason);
    else
        snprintf(text, sizeof text, "%s goes back to %s; follow it with `redoubt rollback watch %s`", d->name,
                 rollback_doc_name(d->doc, j->to), d->name);
    answer_state(d, d->starting, refused ? INVALID : OK, text);
    forget_starting(d);
}

void cmd_rollback_on_limit(void *ctx)
{
    struct deployment *d = ctx;
    char text[300];
    if (!d->starting[0] || !d->doc)
        return;
    snprintf(text, sizeof text, "accepted; it is being checked: follow it with `redoubt rollback watch %s`", d->name);
    answer_state(d, d->starting, OK, text);
    forget_starting(d);
}

void cmd_rollback_not_started(struct deployment *d, const char *why)
{
    if (!d->starting[0])
        return;
    service_reply(d->room->s, d->starting, UNAVAILABLE, 0, "%s", why);
    forget_starting(d);
}

void cmd_rollback_answer(struct deployment *d, const struct queued *q, const struct rollback_effect *e)
{
    if (!q || !q->reply[0])
        return;
    if (q->kind == ROLLBACK_START && e->status == OK && !d->starting[0] &&
        d->doc->job.phase == ROLLBACK_PHASE(PREPARE)) {
        snprintf(d->starting, sizeof d->starting, "%s", q->reply);
        snprintf(d->starting_job, sizeof d->starting_job, "%s", d->doc->job.id);
        loop_timer_start(&d->starting_limit, START_MS, 0);
        return;
    }
    answer_state(d, q->reply, e->status, e->text);
}

/* ---- plan: what a start would do ---- */

static struct rollback_order order_of(const struct order *o)
{
    return (struct rollback_order){.by = o->by,
                                   .reason = o->reason,
                                   .job = o->job,
                                   .to = o->to,
                                   .emergency = o->emergency,
                                   .force = o->force,
                                   .tainted = o->tainted,
                                   .snapshot = o->snapshot,
                                   .tainted_since_ms = o->tainted_since_ms};
}

static unsigned instances_now(const struct call *c)
{
    int side = rollback_sight_current(&c->sight);
    return side < 0 ? 0 : c->sight.side[side].ready;
}

static void plan_end(struct call *c, int status, const char *text)
{
    answer(c->d->room->s, c->reply, status, c->d->doc->epoch, NULL, 0, "%s", text);
    call_end(c);
}

static void tell_plan(struct call *c)
{
    struct deployment *d = c->d;
    struct rollback_order o = order_of(&c->asked);
    struct rollback_plan plan;
    struct err e;
    char why[600] = "";
    struct rollback_plan_message *m = calloc(1, sizeof *m);
    if (!m) {
        plan_end(c, UNAVAILABLE, "out of memory");
        return;
    }
    if (rollback_make_plan(d->doc, &d->rule, &o, instances_now(c), &plan, why, sizeof why)) {
        plan_end(c, INVALID, why);
        free(m);
        return;
    }
    rollback_plan_fill(m, d->doc, &d->rule, &plan, d->doc->current, c->version);
    size_t len;
    void *data = wire_pack(&m->m, &len, &e);
    if (!data)
        plan_end(c, UNAVAILABLE, e.text);
    else if (c->failed)
        answer(d->room->s, c->reply, INVALID, d->doc->epoch, data, len, "it would be refused: %s", c->text);
    else if (rollback_busy(d->doc))
        answer(d->room->s, c->reply, UNAVAILABLE, d->doc->epoch, data, len, "job %s is under way: one at a time",
               d->doc->job.id);
    else
        answer(d->room->s, c->reply, OK, d->doc->epoch, data, len, "nothing was changed");
    if (data)
        call_end(c);
    free(data);
    free(m);
}

static void plan_check(struct call *c)
{
    call_preflight(c, tell_plan);
}

static void plan_make(struct call *c)
{
    struct deployment *d = c->d;
    char why[600] = "";
    if (!c->view.ok) {
        plan_end(c, UNAVAILABLE, c->view.error);
        return;
    }
    const struct rollback_version *to =
        rollback_choose(d->doc, &d->rule, c->asked.to, c->asked.force, why, sizeof why);
    int side = rollback_sight_current(&c->sight);
    if (!to) {
        plan_end(c, INVALID, why);
        return;
    }
    if (side < 0) {
        plan_end(c, INVALID, "nothing of it runs: there is nothing to go back from; start it by hand");
        return;
    }
    call_order(c, to->id, !side, instances_now(c), plan_check);
}

/* ---- whoever acts for the deployment ---- */

static void take_order(struct order *o, const PB(RollbackCommand) * c)
{
    snprintf(o->by, sizeof o->by, "%s", c->by);
    snprintf(o->reason, sizeof o->reason, "%s", c->reason);
    snprintf(o->job, sizeof o->job, "%s", c->job_id);
    snprintf(o->to, sizeof o->to, "%s", c->to_version);
    snprintf(o->snapshot, sizeof o->snapshot, "%s", c->restore_snapshot);
    o->emergency = c->emergency;
    o->force = c->force;
    o->tainted = c->tainted;
    o->tainted_since_ms = c->tainted_since_unix_ms;
}

static void act(struct deployment *d, const struct verb *v, const PB(RollbackCommand) * c, const char *reply)
{
    struct service *s = d->room->s;
    if (!deployment_decided(d)) {
        service_reply(s, reply, UNAVAILABLE, 0,
                      "the state of %s cannot be read at the moment (shared state or stream away?); try again",
                      d->name);
        return;
    }
    if (v->kind == VERB_STATE) {
        answer_state(d, reply, OK,
                     d->leaving ? "it is not in the settings any more: it goes when its job has ended" : "");
        return;
    }
    if (v->kind == VERB_PLAN) {
        struct call *x = call_new(d, NULL);
        snprintf(x->reply, sizeof x->reply, "%s", reply);
        take_order(&x->asked, c);
        call_look(x, plan_make);
        return;
    }
    if (v->event == ROLLBACK_START && d->leaving) {
        service_reply(s, reply, INVALID, 0, "%s is not in the settings any more", d->name);
        return;
    }
    if (!store_up(s->store)) {
        service_reply(s, reply, UNAVAILABLE, 0,
                      "shared state (Redis) is not reachable: what is ordered could not be kept; try again");
        return;
    }
    struct queued *q = calloc(1, sizeof *q);
    if (!q) {
        service_reply(s, reply, UNAVAILABLE, 0, "out of memory");
        return;
    }
    q->kind = v->event;
    snprintf(q->reply, sizeof q->reply, "%s", reply);
    take_order(&q->u.order, c);
    char id[48];
    if (v->event == ROLLBACK_START && !q->u.order.job[0])
        snprintf(q->u.order.job, sizeof q->u.order.job, "%s", service_new_id(s, id));
    log_info("order", F_STR("deployment", d->name), F_STR("verb", v->name), F_STR("by", c->by),
             F_STR("reason", c->reason), F_STR("job", q->u.order.job), F_STR("to", c->to_version));
    deployment_event(d, q);
}

static void refuse_unknown(struct service *s, const char *name, const char *reply)
{
    struct rollback_room *r = s->state;
    char known[300] = "";
    for (const struct deployment *d = r->deployments; d; d = d->hh.next) {
        size_t used = strlen(known);
        snprintf(known + used, sizeof known - used, "%s%s", used ? ", " : "", d->name);
    }
    service_reply(s, reply, INVALID, 0, "there is no deployment %s in the settings; there are: %s", name,
                  *known ? known : "none");
}

/* False if it was answered already. */
static bool valid(struct service *s, const struct verb *v, const PB(RollbackCommand) * c, const char *reply)
{
    const char *unsaid = v->by_whom ? order_unsaid(c->by, c->reason) : NULL;
    if (!rollback_room_find(s->state, c->deployment))
        refuse_unknown(s, c->deployment, reply);
    else if (unsaid)
        service_reply(s, reply, INVALID, 0, "%s", unsaid);
    else if (c->tainted && *c->restore_snapshot)
        service_reply(s, reply, INVALID, 0,
                      "either a snapshot is named, or the data are tainted and the last one before is taken");
    else if (!c->tainted && c->tainted_since_unix_ms)
        service_reply(s, reply, INVALID, 0, "`tainted_since_unix_ms` belongs to `tainted`");
    else
        return true;
    return false;
}

void cmd_rollback_holder(struct service *s, const void *message, const struct bus_msg *m)
{
    const PB(RollbackCommand) *c = message;
    const struct verb *v = verb_of(m);
    if (!order_fit(s, &way, m, v))
        return;
    struct deployment *d = rollback_room_find(s->state, c->deployment);
    if (d && deployment_fence(d) != 0 && valid(s, v, c, m->reply)) /* otherwise another hears it, too */
        act(d, v, c, m->reply);
}

/* ---- any replica ---- */

/* The last announcement is still worth knowing. */
static void nobody_acts(struct service *s, const void *message, const struct bus_msg *m)
{
    const PB(RollbackCommand) *c = message;
    const struct deployment *d = rollback_room_find(s->state, c->deployment);
    if (d && verb_of(m)->kind == VERB_STATE && d->seen.data)
        answer(s, m->reply, OK, d->seen_epoch, d->seen.data, d->seen.len,
               "as of the last announcement: no replica acts for it at the moment");
    else
        order_unheard(s, m->reply, c->deployment);
}

void cmd_rollback(struct service *s, const void *message, const struct bus_msg *m)
{
    const PB(RollbackCommand) *c = message;
    const struct verb *v = verb_of(m);
    if (!order_fit(s, &way, m, v) || !valid(s, v, c, m->reply))
        return;
    struct deployment *d = rollback_room_find(s->state, c->deployment);
    if (deployment_fence(d) != 0)
        act(d, v, c, m->reply);
    else
        order_pass_on(s, &way, v->name, v->patience_ms, m);
}
