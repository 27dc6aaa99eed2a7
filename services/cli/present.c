/* present.c - the suite's present, read from the bus into a status model. */
#include "cli/present.h"
#include "cli/continuity_ask.h"
#include <stdlib.h>

#define SERVICES_QUIET_MS 120 /* after the last answer to $SRV.STATS nobody else is waited for */
#define SERVICES_LIMIT_MS 1000
#define AGENTS_LIMIT_MS   1000
#define CONTINUITY_MS     1000

/* Bad input is shown to nobody here: the service that owns the subject counts and logs it. */
static void on_health(void *ctx, const struct bus_msg *m)
{
    struct present *p = ctx;
    void *message = wire_unpack(PB_DESC(health_changed), m->data, m->len, NULL);
    if (message && status_add_health(&p->model, message))
        p->changed = true;
}

static void on_breaker(void *ctx, const struct bus_msg *m)
{
    struct present *p = ctx;
    void *message = wire_unpack(PB_DESC(breaker_changed), m->data, m->len, NULL);
    if (message && status_add_breaker(&p->model, message))
        p->changed = true;
}

static void on_directive(void *ctx, const struct bus_msg *m)
{
    struct present *p = ctx;
    PB(Directive) *d = wire_unpack(PB_DESC(directive), m->data, m->len, NULL);
    if (d && d->state) {
        PB(AgentState) *s = d->state;
        d->state = NULL; /* now the model's */
        if (status_add_agent(&p->model, s))
            p->changed = true;
    }
    wire_free(d);
}

static void on_rollback(void *ctx, const struct bus_msg *m)
{
    struct present *p = ctx;
    void *message = wire_unpack(PB_DESC(rollback_changed), m->data, m->len, NULL);
    if (message && status_add_rollback(&p->model, message))
        p->changed = true;
}

static void on_continuity(void *ctx, const struct bus_msg *m)
{
    struct present *p = ctx;
    void *message = wire_unpack(PB_DESC(continuity_status), m->data, m->len, NULL);
    if (message && status_add_continuity(&p->model, message))
        p->changed = true;
}

static void on_synced(void *ctx)
{
    struct present *p = ctx;
    if (p->waiting > 0)
        p->waiting--;
    p->synced = p->waiting == 0;
}

static const struct {
    unsigned what;
    const char *filter;
    bus_handler fn;
} rows[PRESENT_WATCHES] = {{PRESENT_HEALTH, SUBJECT_HEALTH ">", on_health},
                           {PRESENT_BREAKERS, SUBJECT_BREAKER ">", on_breaker},
                           {PRESENT_AGENTS, SUBJECT_DIRECTIVE ">", on_directive},
                           {PRESENT_DEPLOYMENTS, SUBJECT_ROLLBACK ">", on_rollback},
                           {PRESENT_CONTINUITY, SUBJECT_CONTINUITY_STATUS, on_continuity}};

int present_open(struct present *p, struct cli_link *k, unsigned what)
{
    *p = (struct present){.link = k};
    for (size_t i = 0; i < PRESENT_WATCHES; i++) {
        if (!(rows[i].what & what))
            continue;
        p->waiting++;
        if (!(p->watches[i] = bus_watch(k->bus, rows[i].filter, 0, rows[i].fn, on_synced, p)))
            return cli_fail(k->c, CLI_FAILED, "cannot watch %s", rows[i].filter);
    }
    if (!loop_run_until(&k->loop, &p->synced, k->c->timeout_ms))
        return cli_fail(k->c, CLI_UNREACHABLE,
                        "the present cannot be read from stream " STREAM_STATE
                        ": does this NATS server have JetStream, and may this user read it?");
    p->changed = false;
    return CLI_OK;
}

void present_add_settings(struct present *p)
{
    const struct settings *s = p->link->settings;
    for (size_t i = 0; s && i < s->targets.n; i++)
        (void)status_target(&p->model, CONF_AT(s->targets, struct set_target, i)->name);
    for (size_t i = 0; s && i < s->agents.n; i++)
        (void)status_agent(&p->model, CONF_AT(s->agents, struct set_agent, i)->name);
    for (size_t i = 0; s && i < s->rollback.deployments.n; i++)
        (void)status_deployment(&p->model, CONF_AT(s->rollback.deployments, struct set_deployment, i)->name);
}

static void on_stats(void *ctx, const struct bus_msg *m)
{
    struct present *p = ctx;
    json_t *j = json_loadb(m->data, m->len, 0, NULL);
    if (j)
        status_add_instance(&p->model, j);
}

void present_ask_services(struct present *p)
{
    status_clear_instances(&p->model);
    cli_gather(p->link, "$SRV.STATS", SERVICES_QUIET_MS, SERVICES_LIMIT_MS, on_stats, p);
}

struct asking {
    struct present *p;
    size_t left;
    bool done;
};

static void on_state(void *ctx, enum bus_status st, const struct bus_msg *m)
{
    struct asking *a = ctx;
    a->done = --a->left == 0;
    if (st != BUS_OK)
        return;
    PB(CommandReply) *r = wire_unpack(PB_DESC(command_reply), m->data, m->len, NULL);
    PB(AgentState) *s = r && r->status == REDOUBT__V1__COMMAND_STATUS__COMMAND_STATUS_OK
                            ? wire_unpack(PB_DESC(agent_state), r->payload.data, r->payload.len, NULL)
                            : NULL;
    if (s && status_add_agent(&a->p->model, s))
        a->p->changed = true;
    wire_free(r);
}

void present_ask_agents(struct present *p)
{
    struct status_model *m = &p->model;
    struct asking a = {.p = p, .left = m->n_agents};
    for (size_t i = 0; i < m->n_agents; i++) {
        PB(AgentCommand) c = REDOUBT__V1__AGENT_COMMAND__INIT;
        c.agent = m->agents[i].name;
        size_t len;
        void *data = wire_pack(&c, &len, NULL);
        if (!data) {
            a.left--;
            continue;
        }
        struct bus_out o = {.subject = SUBJECT_CMD "fallback.state", .type = wire_type(&c), .data = data, .len = len};
        bus_request(p->link->bus, &o, AGENTS_LIMIT_MS, on_state, &a);
        free(data);
    }
    if (a.left > 0) /* each request ends by itself, so `a` is left by all of them */
        while (!loop_run_until(&p->link->loop, &a.done, AGENTS_LIMIT_MS))
            ;
}

struct asking_one {
    struct present *p;
    bool done;
};

static void on_standing(void *ctx, enum bus_status st, const struct bus_msg *m)
{
    struct asking_one *a = ctx;
    a->done = true;
    PB(CommandReply) *r = st == BUS_OK ? wire_unpack(PB_DESC(command_reply), m->data, m->len, NULL) : NULL;
    PB(ContinuityStatus) *s = r && r->status == REDOUBT__V1__COMMAND_STATUS__COMMAND_STATUS_OK
                                  ? wire_unpack(PB_DESC(continuity_status), r->payload.data, r->payload.len, NULL)
                                  : NULL;
    if (s && status_add_continuity(&a->p->model, s))
        a->p->changed = true;
    wire_free(r);
}

void present_ask_continuity(struct present *p)
{
    PB(ContinuityCommand) c = REDOUBT__V1__CONTINUITY_COMMAND__INIT;
    struct asking_one a = {.p = p};
    size_t len;
    c.by = CONTINUITY_ASKS;
    void *data = wire_pack(&c, &len, NULL);
    if (!data)
        return;
    struct bus_out o = {.subject = SUBJECT_CMD "continuity.status", .type = wire_type(&c), .data = data, .len = len};
    bus_request(p->link->bus, &o, CONTINUITY_MS, on_standing, &a);
    free(data);
    while (!loop_run_until(&p->link->loop, &a.done, CONTINUITY_MS)) /* it ends by itself, and writes to `a` */
        ;
}

void present_close(struct present *p)
{
    for (size_t i = 0; i < PRESENT_WATCHES; i++)
        if (p->watches[i])
            bus_watch_close(p->watches[i]);
    status_free(&p->model);
}
