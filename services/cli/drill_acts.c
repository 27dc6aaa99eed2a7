/* drill_acts.c - acts of a drill's steps: processes, simulators, operators' commands, actions. */
#include "cli/drill_acts.h"
#include "common/clock.h"
#include "common/subjects.h"
#include <inttypes.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>

#define PBE(x)    REDOUBT__V1__##x
#define ORDER_MS  30000 /* an order may wait for every guard, and for a self-test */
#define ASK_MS    10000
#define MODE_MS   3000
#define OPERATOR  "redoubt drill"
#define SPARE_KEY 64

/* ---- processes ---- */

/* Calls fn for each name of a list joined by blanks until it says no. */
static bool each_name(struct drill *d, const char *names,
                      bool (*fn)(struct drill *d, struct drill_proc *p, void *ctx), void *ctx)
{
    char list[256];
    snprintf(list, sizeof list, "%s", names);
    char *save = NULL;
    for (char *name = strtok_r(list, " ", &save); name; name = strtok_r(NULL, " ", &save))
        if (!fn(d, drill_stack_proc(&d->stack, name), ctx))
            return false;
    return true;
}

static bool spawn_one(struct drill *d, struct drill_proc *p, void *e)
{
    return drill_stack_spawn(&d->stack, p, e) == 0;
}

int drill_act_spawn(struct drill *d, const struct drill_step *s, struct err *e)
{
    return each_name(d, s->who, spawn_one, e) ? 0 : -1;
}

static bool kill_one(struct drill *d, struct drill_proc *p, void *ctx)
{
    (void)ctx;
    drill_stack_signal(p, SIGKILL);
    while (p->pid > 0) { /* a SIGKILL is never refused */
        bool never = false;
        (void)drill_stack_reap(&d->stack);
        if (p->pid > 0)
            loop_run_until(&d->loop, &never, 1);
    }
    return true;
}

int drill_act_kill(struct drill *d, const struct drill_step *s, struct err *e)
{
    (void)e;
    (void)each_name(d, s->who, kill_one, NULL);
    return 0;
}

static bool end_one(struct drill *d, struct drill_proc *p, void *ctx)
{
    (void)d, (void)ctx;
    drill_stack_signal(p, SIGTERM);
    return true;
}

int drill_act_end(struct drill *d, const struct drill_step *s, struct err *e)
{
    (void)e;
    (void)each_name(d, s->who, end_one, NULL);
    return 0;
}

int drill_act_tell(struct drill *d, const struct drill_step *s, struct err *e)
{
    (void)e;
    drill_stack_tell(drill_stack_proc(&d->stack, s->who), s->what);
    return 0;
}

static bool listens(struct drill *d, struct drill_proc *p, void *ctx)
{
    (void)d, (void)ctx;
    return drill_stack_listening(p);
}

bool drill_look_listening(struct drill *d, const struct drill_mark *m, char *detail, size_t size)
{
    (void)detail, (void)size;
    return each_name(d, m->who, listens, NULL);
}

static bool ended_as(struct drill *d, struct drill_proc *p, void *ctx)
{
    int want = *(const int *)ctx;
    char how[64];
    if (!p->ended)
        return false;
    if (WIFEXITED(p->status) && WEXITSTATUS(p->status) == want)
        return true;
    drill_fail(d, "%s ended wrongly: %s instead of exit %d", p->name, drill_stack_end_text(p, how, sizeof how), want);
    return false;
}

bool drill_look_ended(struct drill *d, const struct drill_mark *m, char *detail, size_t size)
{
    int want = m->what;
    snprintf(detail, size, "exit %d", want);
    return each_name(d, m->who, ended_as, &want);
}

/* ---- the bus ---- */

/* Where the agent stands, whatever is waited for. */
static void note_position(struct drill *d, const void *message)
{
    const ProtobufCMessageDescriptor *desc = ((const ProtobufCMessage *)message)->descriptor;
    if (desc == PB_DESC(directive)) {
        const PB(AgentState) *s = ((const PB(Directive) *)message)->state;
        if (s && strcmp(s->agent, DRILL_AGENT) == 0 && s->epoch >= d->seen.newest_epoch) {
            d->seen.newest_epoch = s->epoch;
            d->seen.posture = (int)s->posture;
        }
    } else if (desc == PB_DESC(directive_ack)) {
        const PB(DirectiveAck) *a = message;
        if (a->status != PBE(ACK_STATUS__ACK_STATUS_FAILED) && a->epoch > d->seen.acked_epoch)
            d->seen.acked_epoch = a->epoch;
    }
}

/* All that the suite says; and the answers to actions, which go to their askers' own subjects. */
static void on_message(void *ctx, const struct bus_msg *m)
{
    bool suite = strncmp(m->subject, SUBJECT_PREFIX, strlen(SUBJECT_PREFIX)) == 0;
    const ProtobufCMessageDescriptor *desc = m->type ? wire_by_name(m->type) : NULL;
    if (!desc && suite)
        desc = wire_by_subject(m->subject);
    void *message =
        desc && (suite || desc == PB_DESC(action_reply)) ? wire_unpack(desc, m->data, m->len, NULL) : NULL;
    if (!message)
        return;
    note_position(ctx, message);
    drill_take(ctx, message);
}

static void on_bus_up(void *ctx)
{
    ((struct drill *)ctx)->bus_is_up = true;
}

static void on_bus_down(void *ctx)
{
    ((struct drill *)ctx)->bus_is_up = false;
}

int drill_act_connect(struct drill *d, const struct drill_step *s, struct err *e)
{
    (void)s;
    struct bus_opts o = {.url = d->nats_url,
                         .name = "redoubt-drill",
                         .inbox_prefix = "_INBOX_drill",
                         .on_up = on_bus_up,
                         .on_down = on_bus_down,
                         .ctx = d};
    if (!(d->bus = bus_open(&d->loop, &o, e)))
        return -1;
    return bus_subscribe(d->bus, ">", NULL, on_message, d) ? 0 : err_set(e, "cannot subscribe");
}

bool drill_look_connected(struct drill *d, const struct drill_mark *m, char *detail, size_t size)
{
    (void)m, (void)detail, (void)size;
    return d->bus_is_up;
}

/* ---- simulators ---- */

static void on_mode(void *ctx, const struct http_result *r)
{
    if (r->fault != HTTP_OK || r->status != 200)
        drill_fail(ctx, "a simulator did not take its mode: status %d %s", r->status, r->error);
}

int drill_act_mode(struct drill *d, const struct drill_step *s, struct err *e)
{
    (void)e;
    char url[64], body[64];
    bool link = strcmp(s->who, "link") == 0;
    snprintf(url, sizeof url, "http://127.0.0.1:%d/sim/mode", link ? d->town.link_control : d->town.backend_control);
    snprintf(body, sizeof body, "{\"mode\": \"%s\"}", s->verb);
    struct http_request r = {.url = url, .body = body, .body_len = strlen(body), .timeout_ms = MODE_MS};
    (void)http_start(d->http, &r, NULL, on_mode, d);
    return 0;
}

/* ---- orders ---- */

static void request(struct drill *d, const char *subject, const void *message, int64_t limit_ms, bus_reply_cb done)
{
    struct err e = {""};
    size_t len;
    void *data = wire_pack(message, &len, &e);
    d->seen.answered = false;
    if (!data) {
        drill_fail(d, "%s", e.text);
        return;
    }
    struct bus_out o = {.subject = subject, .type = wire_type(message), .data = data, .len = len};
    bus_request(d->bus, &o, limit_ms, done, d);
    free(data);
}

static void no_answer(struct drill *d, enum bus_status st)
{
    d->seen.status = d->seen.refusal = -1;
    snprintf(d->seen.answer, sizeof d->seen.answer, "%s", bus_status_text(st));
}

static void on_ordered(void *ctx, enum bus_status st, const struct bus_msg *m)
{
    struct drill *d = ctx;
    PB(CommandReply) *r = st == BUS_OK ? wire_unpack(PB_DESC(command_reply), m->data, m->len, NULL) : NULL;
    d->seen.answered = true;
    if (r) {
        d->seen.status = (int)r->status;
        snprintf(d->seen.answer, sizeof d->seen.answer, "%s", r->message);
    } else {
        no_answer(d, st);
    }
    wire_free(r);
}

int drill_act_order(struct drill *d, const struct drill_step *s, struct err *e)
{
    (void)e;
    char subject[SUBJECT_MAX_LEN];
    PB(AgentCommand) c = PB_INIT(AGENT_COMMAND);
    c.agent = (char *)DRILL_AGENT;
    c.by = (char *)OPERATOR;
    c.reason = (char *)s->text;
    snprintf(subject, sizeof subject, SUBJECT_CMD "fallback.%s", s->verb);
    request(d, subject, &c, ORDER_MS, on_ordered);
    return 0;
}

bool drill_look_answer(struct drill *d, const struct drill_mark *m, char *detail, size_t size)
{
    if (!d->seen.answered)
        return false;
    snprintf(detail, size, "%s", d->seen.answer);
    if (d->seen.status == m->what && (!m->has || strstr(d->seen.answer, m->has)))
        return true;
    drill_fail(d, "the answer was %s: %s", wire_enum_name(&redoubt__v1__command_status__descriptor, d->seen.status),
               d->seen.answer);
    return false;
}

/* ---- actions ---- */

static void on_asked(void *ctx, enum bus_status st, const struct bus_msg *m)
{
    struct drill *d = ctx;
    PB(ActionReply) *r = st == BUS_OK ? wire_unpack(PB_DESC(action_reply), m->data, m->len, NULL) : NULL;
    d->seen.answered = true;
    if (r) {
        d->seen.status = (int)r->decision;
        d->seen.refusal = (int)r->refusal;
        snprintf(d->seen.answer, sizeof d->seen.answer, "%s", r->detail);
    } else {
        no_answer(d, st);
    }
    wire_free(r);
}

int drill_act_ask(struct drill *d, const struct drill_step *s, struct err *e)
{
    (void)e;
    char key[SPARE_KEY];
    PB(Label) what = PB_INIT(LABEL), *parameters[] = {&what};
    PB(ActionRequest) r = PB_INIT(ACTION_REQUEST);
    snprintf(key, sizeof key, "drill-%u", ++d->seen.asked);
    what.key = (char *)"ip";
    what.value = (char *)"198.51.100.66";
    r.agent = (char *)DRILL_AGENT;
    r.epoch = d->seen.epoch > (uint64_t)s->what ? d->seen.epoch - (uint64_t)s->what : 1;
    r.idempotency_key = key;
    r.action = (char *)"block_ip";
    r.parameters = parameters;
    r.n_parameters = 1;
    r.requested_unix_ms = clock_wall_ms();
    r.instance = (char *)"drill";
    request(d, SUBJECT_ACTION DRILL_AGENT, &r, ASK_MS, on_asked);
    return 0;
}

bool drill_look_refused(struct drill *d, const struct drill_mark *m, char *detail, size_t size)
{
    if (!d->seen.answered)
        return false;
    snprintf(detail, size, "%s: %s", wire_enum_name(&redoubt__v1__refusal_reason__descriptor, d->seen.refusal),
             d->seen.answer);
    if (d->seen.status == PBE(ACTION_DECISION__ACTION_DECISION_REFUSED) && d->seen.refusal == m->what)
        return true;
    drill_fail(d, "the guard answered %s %s: %s",
               wire_enum_name(&redoubt__v1__action_decision__descriptor, d->seen.status),
               wire_enum_name(&redoubt__v1__refusal_reason__descriptor, d->seen.refusal), d->seen.answer);
    return false;
}
