/* sim_fleet_agent.c - what the agents of the simulated fleet hear and say: each by the same rules as libredoubt, none with a thread. */
#include "cli/sim_fleet.h"
#include "cli/sim_mind.h"
#include "client/client_share.h"
#include "common/clock.h"
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#define ACK_GIVE_UP_MS 30000
#define RESYNC_MS      300000
#define LEASE_MS       30000
#define OPEN_MAX       20000 /* actions that wait at the same time */

static void publish(struct fleet *f, const char *head, const char *tail, const void *message)
{
    char subject[SUBJECT_MAX_LEN];
    size_t len;
    snprintf(subject, sizeof subject, "%s%s", head, tail);
    void *data = wire_pack(message, &len, NULL);
    if (data)
        (void)bus_publish(f->bus,
                          &(struct bus_out){.subject = subject, .type = wire_type(message), .data = data, .len = len},
                          NULL);
    free(data);
}

/* ---- acknowledgements ---- */

struct ack {
    struct fleet *f;
    struct fleet_agent *a;
    uint64_t epoch;
    int64_t issued_unix_ms; /* 0 = a repeat, or issued before the mark: not measured */
};

static void on_acked(void *ctx, const struct bus_stored *r)
{
    struct ack *k = ctx;
    struct fleet *f = k->f;
    if (r->status == BUS_OK) {
        f->marked.acks++;
        if (k->epoch > k->a->acked)
            k->a->acked = k->epoch;
        if (k->issued_unix_ms && k->issued_unix_ms >= f->marked.at_unix_ms)
            fleet_sample(f, clock_wall_ms() - k->issued_unix_ms);
    }
    free(k);
}

static void ack(struct fleet *f, struct fleet_agent *a, int status, int64_t issued_unix_ms)
{
    char subject[SUBJECT_MAX_LEN], id[192];
    size_t len;
    PB(DirectiveAck) m = REDOUBT__V1__DIRECTIVE_ACK__INIT;
    m.agent = a->name;
    m.instance = f->instance;
    m.epoch = a->epoch;
    m.status = (PB(AckStatus))status;
    m.applied_unix_ms = clock_wall_ms();
    m.llm_target = a->llm;
    snprintf(subject, sizeof subject, SUBJECT_ACK "%s", a->name);
    snprintf(id, sizeof id, "ack/%s/%" PRIu64 "/%s-%" PRIu64, a->name, a->epoch, f->boot, ++f->acks);
    struct ack *k = malloc(sizeof *k);
    void *data = k ? wire_pack(&m, &len, NULL) : NULL;
    if (!data) {
        free(k);
        return; /* the directive comes again */
    }
    *k = (struct ack){f, a, a->epoch, issued_unix_ms};
    bus_store(f->bus,
              &(struct bus_out){.subject = subject, .id = id, .type = wire_type(&m), .data = data, .len = len},
              ACK_GIVE_UP_MS, on_acked, k);
    free(data);
}

/* ---- self-tests ---- */

static void on_selftest(void *ctx, const struct bus_msg *m)
{
    struct fleet *f = ctx;
    const char *name = subject_tail(m->subject, SUBJECT_SELFTEST), *error;
    struct fleet_agent *a = NULL;
    if (name)
        HASH_FIND_STR(f->by_name, name, a);
    if (!a || !m->reply)
        return;
    PB(SelftestQuestion) *q = wire_unpack(PB_DESC(selftest_question), m->data, m->len, NULL);
    if (!q) {
        f->marked.bad++;
        return;
    }
    char *answer = sim_mind_judge(NULL, q->event_json, &error);
    PB(SelftestAnswer) reply = REDOUBT__V1__SELFTEST_ANSWER__INIT;
    reply.id = q->id;
    reply.answer_json = answer ? answer : "";
    reply.error = (char *)(uintptr_t)(answer ? "" : error);
    publish(f, m->reply, "", &reply);
    free(answer);
    wire_free(q);
}

/* ---- directives ---- */

static void on_directive(void *ctx, const struct bus_msg *m)
{
    struct fleet *f = ctx;
    const char *name = subject_tail(m->subject, SUBJECT_DIRECTIVE);
    struct fleet_agent *a = NULL;
    if (name)
        HASH_FIND_STR(f->by_name, name, a);
    if (!a)
        return; /* somebody else's */
    PB(Directive) *d = wire_unpack(PB_DESC(directive), m->data, m->len, NULL);
    if (!d || strcmp(d->state->agent, a->name) != 0 || d->state->epoch == 0) {
        f->marked.bad++;
        wire_free(d);
        return;
    }
    switch (client_gate_directive(&a->gate, d->state->epoch, m->stream != NULL)) {
    case CLIENT_GIVE:
        f->marked.given++;
        a->epoch = d->state->epoch;
        a->posture = a->before = (int)d->state->posture;
        a->load = d->state->load_percent ? d->state->load_percent : 100;
        snprintf(a->llm, sizeof a->llm, "%s", d->state->llm_target);
        f->deeds_turn = true;
        ack(f, a, REDOUBT_APPLIED, d->issued_unix_ms);
        break;
    case CLIENT_ACK_AGAIN:
        f->marked.repeats++;
        ack(f, a, REDOUBT_ALREADY, 0);
        break;
    case CLIENT_IGNORE_OLD:
        f->marked.old++;
        break;
    case CLIENT_NOTHING:
    case CLIENT_FREEZE:
        break;
    }
    wire_free(d);
}

static void on_synced(void *ctx)
{
    struct fleet *f = ctx;
    f->synced = true;
    for (size_t i = 0; i < f->n; i++) {
        struct fleet_agent *a = &f->agents[i];
        if (client_gate_synced(&a->gate) == CLIENT_GIVE) { /* in touch again: what held before holds */
            a->posture = a->before;
            ack(f, a, REDOUBT_APPLIED, 0);
        }
    }
    f->deeds_turn = true;
    fleet_turn(f);
}

void fleet_leases(struct fleet *f)
{
    int64_t now = clock_mono_ms();
    for (size_t i = 0; i < f->n; i++)
        if (client_gate_lease(&f->agents[i].gate, now, LEASE_MS) == CLIENT_FREEZE) {
            f->agents[i].posture = REDOUBT_FROZEN;
            f->deeds_turn = true;
        }
    fleet_turn(f);
}

int fleet_listen(struct fleet *f)
{
    /* In no queue group: it would take questions from other agents' own processes. */
    return bus_watch(f->bus, SUBJECT_DIRECTIVE ">", RESYNC_MS, on_directive, on_synced, f) &&
                   bus_subscribe(f->bus, SUBJECT_SELFTEST "*", NULL, on_selftest, f)
               ? 0
               : -1;
}

void fleet_up(struct fleet *f)
{
    for (size_t i = 0; i < f->n; i++)
        client_gate_up(&f->agents[i].gate);
    client_deeds_turn(&f->deeds);
}

void fleet_down(struct fleet *f)
{
    int64_t now = clock_mono_ms();
    f->synced = false;
    for (size_t i = 0; i < f->n; i++)
        client_gate_down(&f->agents[i].gate, now);
}

/* ---- actions ---- */

static void where(void *ctx, const struct client_deed *d, struct client_where *ret)
{
    const struct fleet_agent *a = d->owner;
    (void)ctx;
    *ret = (struct client_where){.connected = a->gate.up,
                                 .out_of_touch = a->gate.out_of_touch,
                                 .directed = a->epoch != 0,
                                 .posture = a->posture,
                                 .epoch = a->epoch};
}

static void over(void *ctx, struct client_deed *d, const redoubt_result *result)
{
    struct fleet *f = ctx;
    f->deeds_open--;
    f->ended[result->result]++;
    f->refused_here += result->result == REDOUBT_ACT_REFUSED && result->epoch == 0;
    if (f->o->verbose)
        printf("{\"event\":\"action\",\"agent\":\"%s\",\"key\":\"%s\",\"result\":\"%s\",\"refusal\":\"%s\",\"epoch\":"
               "%" PRIu64 ",\"status\":%u}\n",
               ((struct fleet_agent *)d->owner)->name, result->idempotency_key, redoubt_acted_text(result->result),
               redoubt_refusal_text(result->refusal), result->epoch, result->status_code);
}

void fleet_deeds_init(struct fleet *f)
{
    f->deeds = (struct client_deeds){.loop = &f->loop, .where = where, .over = over, .ctx = f};
}

void fleet_turn(struct fleet *f)
{
    if (f->deeds_turn && f->bus) {
        f->deeds_turn = false;
        client_deeds_turn(&f->deeds); /* once for all directives of this turn */
    }
}

/* Shed work is left out; a frozen agent's is asked for, to be refused where it must be. */
static void act(struct fleet *f, struct fleet_agent *a)
{
    char key[128], ip[32];
    if (a->posture != REDOUBT_FROZEN && !client_share(a->load_turn++, a->load)) {
        f->shed++;
        return;
    }
    uint64_t n = ++a->deeds;
    snprintf(key, sizeof key, "%s-%s-%" PRIu64, f->boot, a->name, n);
    snprintf(ip, sizeof ip, "198.51.%u.%u", (unsigned)(n >> 8 & 255), (unsigned)(n & 255));
    const redoubt_parameter parameters[] = {{"ip", ip}};
    const redoubt_action wanted = {.action = f->o->act, .parameters = parameters, .n_parameters = 1};
    struct client_deed *d = f->deeds_open < OPEN_MAX ? client_deed_new(a->name, f->instance, key, &wanted) : NULL;
    if (!d) {
        f->not_taken++;
        return;
    }
    d->owner = a;
    f->deeds_open++;
    client_deeds_add(&f->deeds, d, clock_mono_ms() + f->o->act_ms);
}

/* ---- heartbeats and reports ---- */

static void beat(struct fleet *f, struct fleet_agent *a)
{
    PB(Heartbeat) h = REDOUBT__V1__HEARTBEAT__INIT;
    PB(ResourceUsage) usage = REDOUBT__V1__RESOURCE_USAGE__INIT;
    usage.rss_bytes = UINT64_C(64) << 20; /* each as if it had a process of its own */
    usage.open_fds = 16;
    usage.fds_limit = 1024;
    h.agent = a->name;
    h.instance = f->instance;
    h.sequence = h.progress = ++a->beats;
    h.epoch = a->epoch;
    h.posture = (PB(Posture))a->posture;
    h.interval_ms = (uint32_t)f->o->heartbeat_ms;
    h.sent_unix_ms = clock_wall_ms();
    h.resources = &usage;
    h.llm_target = a->llm;
    publish(f, SUBJECT_HEARTBEAT, a->name, &h);
}

static void report(struct fleet *f, const struct fleet_agent *a)
{
    PB(OutcomeReport) r = REDOUBT__V1__OUTCOME_REPORT__INIT;
    if (!a->llm[0])
        return; /* it calls none */
    r.target = (char *)(uintptr_t)a->llm;
    r.reporter = (char *)(uintptr_t)a->name;
    r.outcome = REDOUBT__V1__OUTCOME__OUTCOME_SUCCESS;
    r.status_code = 200;
    r.total_ms = 100;
    r.ended_unix_ms = clock_wall_ms();
    r.data_path = true;
    publish(f, SUBJECT_REPORT, a->llm, &r);
}

/* How many are due by now at `per_second`, more than `done`; what a long pause has left out is not made up for. */
static uint64_t due(const struct fleet *f, double per_second, uint64_t *done)
{
    uint64_t by_now = (uint64_t)((double)(clock_mono_ms() - f->began_ms) * per_second / 1000);
    uint64_t n = by_now > *done ? by_now - *done : 0, most = (uint64_t)per_second + 1;
    if (n > most) {
        *done = by_now - most;
        n = most;
    }
    return n;
}

void fleet_speak(struct fleet *f)
{
    if (!bus_up(f->bus))
        return;
    double heartbeats = (double)f->n * 1000 / (double)f->o->heartbeat_ms;
    for (uint64_t n = due(f, heartbeats, &f->beats); n > 0; n--)
        beat(f, &f->agents[f->beats++ % f->n]); /* spread over the interval */
    for (uint64_t n = due(f, (double)f->o->report_rate, &f->reports); n > 0; n--)
        report(f, &f->agents[f->reports++ % f->n]);
    for (uint64_t n = due(f, (double)f->o->act_rate, &f->acts); n > 0; n--)
        act(f, &f->agents[f->acts++ % f->n]);
}
