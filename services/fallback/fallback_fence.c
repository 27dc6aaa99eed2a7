/* fallback_fence.c - after a freeze: every live guard confirms that it has no action of an older epoch in hand.
 *
 * Asked again every AGAIN_MS until all those of the guards' list of members have answered, or `fallback.fence` is over: whoever was silent for
 * so long has nothing in hand any more, since no call to a backend takes longer. A guard that has something in hand says so at once: one that
 * is cut off from Redis, and so not in the list, is waited for as well. The operator who asked for the freeze hears of the end. */
#include "common/clock.h"
#include "common/log.h"
#include "common/members.h"
#include "common/metric.h"
#include "fallback/fallback_shell.h"
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

METRIC_DEFINE(fences, METRIC_COUNTER, "redoubt_fallback_fences_total", "Freezes that guards were asked to confirm.");
METRIC_DEFINE(unconfirmed, METRIC_COUNTER, "redoubt_fallback_fences_unconfirmed_total",
              "Freezes that not every live guard confirmed in time.");

#define AGAIN_MS  500
#define HELLO_MS  100 /* by then whoever has something in hand has said so */
#define GUARD_MAX 129

struct guards {
    size_t n;
    char name[RANK_MAX][GUARD_MAX];
};
struct fence {
    struct agent *a;
    uint64_t epoch;
    char id[48];
    int64_t began_mono_ms, until_mono_ms;
    struct loop_timer again;
    bool listed; /* who must confirm is known */
    bool reading;
    char trouble[160]; /* why it is not */
    struct guards must, have;
    char reply[ORDER_REPLY]; /* of the operator; "" = nobody waits */
    struct fallback_effect answer;
};

static bool among(const struct guards *g, const char *name)
{
    for (size_t i = 0; i < g->n; i++)
        if (strcmp(g->name[i], name) == 0)
            return true;
    return false;
}

static void put(struct guards *g, const char *name)
{
    if (!among(g, name) && g->n < RANK_MAX)
        snprintf(g->name[g->n++], GUARD_MAX, "%s", name);
}

/* Those of all that are among (or not among) some; returns how many there are. */
static size_t names_of(const struct guards *all, const struct guards *some, bool in, char *buf, size_t size)
{
    size_t count = 0, at = 0;
    *buf = '\0';
    for (size_t i = 0; i < all->n; i++)
        if (among(some, all->name[i]) == in) {
            if (at < size)
                at += (size_t)snprintf(buf + at, size - at, "%s%s", count ? ", " : "", all->name[i]);
            count++;
        }
    return count;
}

static void fence_freed(void *ctx)
{
    free(ctx);
}

static void end(struct fence *x, bool whole, const char *how)
{
    struct agent *a = x->a;
    int64_t took_ms = clock_mono_ms() - x->began_mono_ms;
    char names[1024], took[24];
    names_of(&x->have, &x->must, true, names, sizeof names);
    snprintf(took, sizeof took, "%" PRId64, took_ms);
    PB(Label) labels[2] = {PB_INIT(LABEL), PB_INIT(LABEL)};
    PB(Label) * fields[] = {&labels[0], &labels[1]};
    labels[0].key = (char *)"confirmed_by";
    labels[0].value = names;
    labels[1].key = (char *)"took_ms";
    labels[1].value = took;
    PB(AuditRecord) r = PB_INIT(AUDIT_RECORD);
    r.action = (char *)"agent.fenced";
    r.audit_class = REDOUBT__V1__AUDIT_CLASS__AUDIT_CLASS_STRICT;
    r.outcome =
        whole ? REDOUBT__V1__AUDIT_OUTCOME__AUDIT_OUTCOME_DONE : REDOUBT__V1__AUDIT_OUTCOME__AUDIT_OUTCOME_FAILED;
    r.subject = a->name;
    r.epoch = x->epoch;
    r.detail = (char *)how;
    r.fields = fields;
    r.n_fields = 2;
    service_audit(a->sh->s, &r, NULL, NULL);
    if (whole) {
        log_info("freeze confirmed", F_STR("agent", a->name), F_INT("epoch", x->epoch), F_STR("how", how),
                 F_INT("took_ms", took_ms));
    } else {
        metric_add(&unconfirmed, 1);
        log_warn("freeze not confirmed by every guard", F_STR("agent", a->name), F_INT("epoch", x->epoch),
                 F_STR("how", how), F_INT("took_ms", took_ms));
    }
    if (x->reply[0]) {
        size_t n = strlen(x->answer.text);
        snprintf(x->answer.text + n, sizeof x->answer.text - n, "; %s", how);
        cmd_answer(a, x->reply, &x->answer, x->epoch);
    }
    a->fx.fence = NULL;
    loop_timer_close(&x->again, fence_freed);
}

/* True if it has ended. */
static bool over(struct fence *x, int64_t now_mono_ms)
{
    char how[480], names[320];
    size_t silent = names_of(&x->must, &x->have, false, names, sizeof names);
    if (x->listed && silent == 0 && now_mono_ms - x->began_mono_ms >= HELLO_MS) {
        if (x->must.n == 0)
            snprintf(how, sizeof how, "there is no guard that could have an action in hand");
        else
            snprintf(how, sizeof how, "confirmed by %zu guard%s in %" PRId64 " ms", x->must.n,
                     x->must.n == 1 ? "" : "s", now_mono_ms - x->began_mono_ms);
        end(x, true, how);
        return true;
    }
    if (now_mono_ms < x->until_mono_ms)
        return false;
    if (!x->listed)
        snprintf(how, sizeof how, "NOT confirmed: the list of guards could not be read (%.150s)", x->trouble);
    else
        snprintf(how, sizeof how,
                 "confirmed by %zu of %zu guards; silent for %" PRId64
                 " ms, so that no call of theirs is under way any "
                 "more: %s",
                 x->must.n - silent, x->must.n, now_mono_ms - x->began_mono_ms, names);
    end(x, false, how);
    return true;
}

static void on_members(void *ctx, enum store_status st, size_t n, const char *const names[], const char *error)
{
    struct ticket *t = ctx;
    struct agent *a = ticket_agent(t);
    struct fence *x = a && a->fx.fence && a->fx.fence->epoch == t->n ? a->fx.fence : NULL;
    free(t);
    if (!x)
        return;
    x->reading = false;
    if (st != STORE_OK) {
        snprintf(x->trouble, sizeof x->trouble, "%s", error);
        return; /* again with the next asking */
    }
    if (!x->listed)
        for (size_t i = 0; i < n; i++)
            put(&x->must, names[i]);
    x->listed = true;
    over(x, clock_mono_ms());
}

static void ask(struct fence *x)
{
    struct agent *a = x->a;
    char subject[SUBJECT_MAX_LEN];
    struct err e;
    size_t len;
    PB(Fence) m = PB_INIT(FENCE);
    m.agent = a->name;
    m.epoch = x->epoch;
    m.id = x->id;
    void *data = wire_pack(&m, &len, &e);
    snprintf(subject, sizeof subject, "%s%s", SUBJECT_FENCE, a->name);
    struct bus_out o = {.subject = subject, .type = wire_type(&m), .data = data, .len = len};
    if (!data || bus_publish(a->sh->s->bus, &o, &e))
        log_warn("guards not asked", F_STR("agent", a->name), F_STR("why", e.text));
    free(data);
    if (!x->listed && !x->reading) {
        x->reading = true;
        members_read(a->sh->s->store, "guard", on_members, ticket_new(a, x->epoch));
    }
}

static void on_again(void *ctx)
{
    struct fence *x = ctx;
    if (!over(x, clock_mono_ms()))
        ask(x);
}

void in_fenced(struct service *s, const void *message, const struct bus_msg *m)
{
    const PB(Fenced) *f = message;
    const char *tail = subject_tail(m->subject, SUBJECT_FENCED);
    if (!tail || strcmp(tail, f->agent) != 0) {
        service_bad_input(s, "confirmation of a freeze", m, "the subject does not fit the message");
        return;
    }
    struct agent *a = shell_agent(s->state, f->agent);
    struct fence *x = a ? a->fx.fence : NULL;
    if (!x || strcmp(x->id, f->id) != 0 || f->epoch < x->epoch)
        return; /* another replica's, or of an earlier asking */
    put(f->in_hand > 0 ? &x->must : &x->have, f->instance);
    over(x, clock_mono_ms());
}

static void drop(struct agent *a, const char *why)
{
    struct fence *x = a->fx.fence;
    if (!x)
        return;
    if (x->reply[0])
        service_reply(a->sh->s, x->reply, REDOUBT__V1__COMMAND_STATUS__COMMAND_STATUS_OK, x->epoch,
                      "%s; NOT confirmed by the guards: %s", x->answer.text, why);
    a->fx.fence = NULL;
    loop_timer_close(&x->again, fence_freed);
}

void fence_drop(struct agent *a)
{
    drop(a, "this replica does not act for the agent any more");
}

void fence_start(struct agent *a, uint64_t epoch)
{
    drop(a, "the agent was frozen once more meanwhile");
    struct fence *x = calloc(1, sizeof *x);
    if (!x)
        abort(); /* somebody waits for its end */
    x->a = a;
    x->epoch = epoch;
    service_new_id(a->sh->s, x->id);
    x->began_mono_ms = clock_mono_ms();
    x->until_mono_ms = x->began_mono_ms + a->sh->s->settings->fallback.fence_ms;
    snprintf(x->trouble, sizeof x->trouble, "no answer");
    a->fx.fence = x;
    metric_add(&fences, 1);
    loop_timer_init(&a->sh->s->loop, &x->again, on_again, x);
    int64_t again_ms = a->sh->s->settings->fallback.fence_ms / 2;
    again_ms = again_ms < 1 ? 1 : again_ms > AGAIN_MS ? AGAIN_MS : again_ms;
    loop_timer_start(&x->again, again_ms < HELLO_MS ? again_ms : HELLO_MS, again_ms);
    ask(x);
}

void fence_answer(struct agent *a, const char *reply, const struct fallback_effect *e)
{
    struct fence *x = a->fx.fence;
    if (!x || x->reply[0]) {
        cmd_answer(a, reply, e, a->f.doc.epoch);
        return;
    }
    snprintf(x->reply, sizeof x->reply, "%s", reply);
    x->answer = *e;
    x->answer.actor = NULL;
}
