/* drill_live.c - a drill on a real, running suite.
 *
 * The failure is pretended by redoubt-fallback, for a short time each: it must be asked for again to go on, and is over when nobody
 * does. So nothing has to be undone after a kill -9, a lost bus or a vanished agent. Everything else is seen on the bus. */
#include "cli/drill_live.h"
#include "cli/drill_file.h"
#include "cli/drill_red.h"
#include "cli/event_line.h"
#include "cli/present.h"
#include <inttypes.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define PBE(x)      REDOUBT__V1__##x
#define RENEW_MS    5000
#define TICK_MS     50
#define SERVICES_MS 5000  /* between two looks at which services live */
#define MOVED_MS    15000 /* from the first order to a confirmed directive */
#define END_TRIES   3
#define STATE_MS    500 /* between two looks at the agent's state on its way back */

enum when { ASKED, TAKEN, MOVED, CONFIRMED, TOLD, ENDED, RESTORED, WHENS };
struct live {
    const struct drill_live_order *o;
    const struct drill_kind *kind;
    struct cli_link link;
    struct present present;
    json_t *incidents; /* open ones: id -> summary */
    bool incidents_known;
    int64_t at_ms[WHENS]; /* monotonic; 0 = not yet */
    uint64_t epoch, moved_epoch;
    json_t *alerts; /* ids of the drill's own */
    bool asking, refused;
    unsigned unanswered; /* orders in a row */
    size_t replicas[16];
    PB(AgentState) * state; /* of the target, on its way back; NULL = not known */
    char why[512];          /* why it ended before its time, or failed; "" = it did not */
};

__attribute__((format(printf, 2, 3))) static void stop(struct live *l, const char *fmt, ...)
{
    if (*l->why)
        return;
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(l->why, sizeof l->why, fmt, ap);
    va_end(ap);
}

static void say(struct live *l, enum when w, const char *text, const char *detail)
{
    const struct term *t = &l->link.c->out;
    char clean[512];
    if (l->at_ms[w] != 0)
        return;
    l->at_ms[w] = clock_mono_ms();
    fprintf(t->file, "%8.3f s  ", (double)(l->at_ms[w] - l->at_ms[ASKED]) / 1000);
    term_print(t, TERM_GREEN, "ok");
    fprintf(t->file, "  %-38s", text);
    term_print(t, TERM_DIM, "  %s\n", term_clean(detail, 0, clean, sizeof clean));
    fflush(t->file);
}

static bool pretending(const struct live *l)
{
    return l->at_ms[ASKED] != 0 && l->at_ms[ENDED] == 0;
}

/* ---- what is seen ---- */

static void on_incident(void *ctx, const struct bus_msg *m)
{
    struct live *l = ctx;
    PB(IncidentChanged) *i = wire_unpack(PB_DESC(incident_changed), m->data, m->len, NULL);
    if (i && i->phase == PBE(INCIDENT_PHASE__INCIDENT_PHASE_CLOSED))
        json_object_del(l->incidents, i->id);
    else if (i)
        json_object_set_new(l->incidents, i->id, json_string(i->summary));
    wire_free(i);
}

static void on_incidents(void *ctx)
{
    ((struct live *)ctx)->incidents_known = true;
}

static void note_directive(struct live *l, const PB(Directive) * d)
{
    const PB(AgentState) *s = d->state;
    struct event_line line;
    if (!s || strcmp(s->agent, l->o->target) != 0 || s->epoch <= l->epoch)
        return;
    l->epoch = s->epoch;
    const char *text = event_line(d, &line) ? line.text : "";
    if (pretending(l) && s->posture != PBE(POSTURE__POSTURE_NORMAL)) {
        if (l->moved_epoch == 0)
            l->moved_epoch = s->epoch;
        say(l, MOVED, "the agent is moved", text);
    }
}

static void note(struct live *l, const void *message)
{
    const ProtobufCMessageDescriptor *desc = ((const ProtobufCMessage *)message)->descriptor;
    char detail[512];
    if (desc == PB_DESC(directive)) {
        note_directive(l, message);
    } else if (desc == PB_DESC(directive_ack)) {
        const PB(DirectiveAck) *a = message;
        snprintf(detail, sizeof detail, "#%" PRIu64 " by %s", a->epoch, a->instance);
        if (l->at_ms[MOVED] != 0 && strcmp(a->agent, l->o->target) == 0 && a->epoch >= l->moved_epoch &&
            a->status != PBE(ACK_STATUS__ACK_STATUS_FAILED))
            say(l, CONFIRMED, "it confirms", detail);
    } else if (desc == PB_DESC(alert)) {
        const PB(Alert) *a = message;
        if (!a->resolved && drill_red_ours(l->kind, l->o->target, a))
            json_object_set_new(l->alerts, a->id, json_true());
    } else if (desc == PB_DESC(delivery_receipt)) {
        const PB(DeliveryReceipt) *r = message;
        snprintf(detail, sizeof detail, "%s by %s", r->dedup_key, r->channel);
        if (r->status == PBE(DELIVERY_STATUS__DELIVERY_STATUS_ACCEPTED) && json_object_get(l->alerts, r->alert_id))
            say(l, TOLD, "people are told", detail);
    }
}

static void on_message(void *ctx, const struct bus_msg *m)
{
    struct live *l = ctx;
    char text[512];
    const ProtobufCMessageDescriptor *desc = m->type ? wire_by_name(m->type) : NULL;
    if (!desc)
        desc = wire_by_subject(m->subject);
    void *message = desc && l->at_ms[ASKED] != 0 ? wire_unpack(desc, m->data, m->len, NULL) : NULL;
    if (!message)
        return;
    note(l, message);
    if (pretending(l) && drill_red(l->kind, l->o->target, message, text, sizeof text))
        stop(l, "outside of the drill: %s", text);
    wire_free(message);
}

/* ---- orders ---- */

static void on_ordered(void *ctx, enum bus_status st, const struct bus_msg *m)
{
    struct live *l = ctx;
    PB(CommandReply) *r = st == BUS_OK ? wire_unpack(PB_DESC(command_reply), m->data, m->len, NULL) : NULL;
    l->asking = false;
    if (!r) {
        if (++l->unanswered >= END_TRIES)
            stop(l, "redoubt-fallback does not answer: %s", bus_status_text(st));
        return;
    }
    l->unanswered = 0;
    if (r->status == PBE(COMMAND_STATUS__COMMAND_STATUS_OK) ||
        r->status == PBE(COMMAND_STATUS__COMMAND_STATUS_ALREADY)) {
        if (pretending(l))
            say(l, TAKEN, "fallback pretends it", r->message);
    } else {
        l->refused = l->at_ms[TAKEN] == 0;
        stop(l, "redoubt-fallback refuses: %s", r->message);
    }
    wire_free(r);
}

/* 0 = it is over. */
static void order(struct live *l, int64_t for_ms)
{
    PB(AgentCommand) c = PB_INIT(AGENT_COMMAND);
    struct err e = {""};
    size_t len;
    c.agent = (char *)l->o->target;
    c.by = (char *)l->o->by;
    c.reason = (char *)l->o->reason;
    c.failure_kind = (Redoubt__V1__FailureKind)l->kind->failure;
    c.duration_ms = (uint32_t)for_ms;
    void *data = wire_pack(&c, &len, &e);
    if (!data) {
        stop(l, "%s", e.text);
        return;
    }
    struct bus_out out = {.subject = SUBJECT_CMD "fallback.drill", .type = wire_type(&c), .data = data, .len = len};
    l->asking = true;
    bus_request(l->link.bus, &out, l->link.c->answer_ms, on_ordered, l);
    free(data);
}

static void wait_ms(struct live *l, int64_t ms)
{
    bool never = false;
    loop_run_until(&l->link.loop, &never, ms);
}

static void wait_for_answer(struct live *l)
{
    for (int64_t until = clock_mono_ms() + 2 * l->link.c->answer_ms; l->asking && clock_mono_ms() < until;)
        wait_ms(l, TICK_MS);
}

/* ---- before ---- */

static void count_services(struct live *l)
{
    for (size_t i = 0; i < status_services_n; i++)
        l->replicas[i] = status_replicas(&l->present.model, status_services[i]);
}

static bool first_incident(const struct live *l, char *text, size_t size)
{
    const char *id;
    json_t *summary;
    json_object_foreach(l->incidents, id, summary)
    {
        snprintf(text, size, "incident %s is open: %s", id, json_string_value(summary));
        return true;
    }
    return false;
}

/* CLI_OK, or an exit code after saying why it does not begin. */
static int look_before(struct live *l)
{
    struct cli *c = l->link.c;
    char text[512];
    int code = present_open(&l->present, &l->link, PRESENT_ALL);
    if (code != CLI_OK)
        return code;
    if (!bus_watch(l->link.bus, SUBJECT_INCIDENT ">", 0, on_incident, on_incidents, l) ||
        !loop_run_until(&l->link.loop, &l->incidents_known, c->timeout_ms))
        return cli_fail(c, CLI_UNREACHABLE, "open incidents cannot be read from stream " STREAM_EVENTS);
    if (!bus_subscribe(l->link.bus, SUBJECT_PREFIX ">", NULL, on_message, l))
        return cli_fail(c, CLI_FAILED, "cannot subscribe");
    present_add_settings(&l->present);
    present_ask_services(&l->present);
    present_ask_agents(&l->present);
    count_services(l);
    if (!drill_red_begin(&l->present.model, l->o->target, text, sizeof text) || first_incident(l, text, sizeof text))
        return cli_fail(c, CLI_REFUSED, "it does not begin: %s", text);
    for (size_t i = 0; i < l->present.model.n_agents; i++)
        if (strcmp(l->present.model.agents[i].name, l->o->target) == 0)
            l->epoch = l->present.model.agents[i].state->epoch;
    return CLI_OK;
}

static int confirm(const struct live *l)
{
    struct cli *c = l->link.c;
    char line[256] = "", span[32];
    FILE *f = c->out.file;
    fprintf(f,
            "This pretends %s for agent %s, on the suite at %s, for %s: %s.\n"
            "People will be told. It ends by itself, at the first sign of anything else, and with this command.\n",
            EVENT_NAME(failure_kind, l->kind->failure), l->o->target, l->link.url,
            cli_span(l->o->hold_ms, span, sizeof span), l->kind->does);
    if (l->o->yes)
        return CLI_OK;
    if (!isatty(STDIN_FILENO))
        return cli_fail(c, CLI_USAGE, "nobody is there to be asked: give --yes if it is meant");
    fprintf(f, "Type the agent's name to go on: ");
    fflush(f);
    if (fgets(line, sizeof line, stdin))
        line[strcspn(line, "\r\n")] = 0;
    return strcmp(line, l->o->target) == 0 ? CLI_OK : cli_fail(c, CLI_USAGE, "not confirmed: nothing was done");
}

/* ---- the drill ---- */

static void look_at_services(struct live *l)
{
    char text[256];
    present_ask_services(&l->present);
    if (drill_red_services(l->replicas, &l->present.model, text, sizeof text))
        stop(l, "outside of the drill: %s", text);
}

static void pretend(struct live *l)
{
    int64_t renew_at = 0, services_at = clock_mono_ms() + SERVICES_MS;
    l->at_ms[ASKED] = clock_mono_ms();
    for (;;) {
        int64_t now = clock_mono_ms();
        if (l->link.interrupted)
            stop(l, "interrupted");
        if (!l->link.up)
            stop(l, "the bus is lost: it ends by itself within %d s", DRILL_LIVE_LAPSE_MS / 1000);
        if (l->at_ms[CONFIRMED] == 0 && now > l->at_ms[ASKED] + MOVED_MS)
            stop(l, l->at_ms[MOVED] ? "%s does not confirm" : "%s was not moved", l->o->target);
        if (*l->why || now >= l->at_ms[ASKED] + l->o->hold_ms)
            return;
        if (now >= renew_at && !l->asking) {
            order(l, DRILL_LIVE_LAPSE_MS);
            renew_at = now + RENEW_MS;
        }
        if (now >= services_at) {
            look_at_services(l);
            services_at = clock_mono_ms() + SERVICES_MS;
        }
        wait_ms(l, TICK_MS);
    }
}

static void on_state(void *ctx, enum bus_status st, const struct bus_msg *m)
{
    struct live *l = ctx;
    PB(CommandReply) *r = st == BUS_OK ? wire_unpack(PB_DESC(command_reply), m->data, m->len, NULL) : NULL;
    PB(AgentState) *s = r && r->status == PBE(COMMAND_STATUS__COMMAND_STATUS_OK)
                            ? wire_unpack(PB_DESC(agent_state), r->payload.data, r->payload.len, NULL)
                            : NULL;
    l->asking = false;
    wire_free(l->state);
    l->state = s;
    wire_free(r);
}

/* Asks how the target stands now; l->state NULL = nobody says. */
static void ask_state(struct live *l)
{
    PB(AgentCommand) c = PB_INIT(AGENT_COMMAND);
    size_t len;
    c.agent = (char *)l->o->target;
    void *data = wire_pack(&c, &len, NULL);
    struct bus_out out = {.subject = SUBJECT_CMD "fallback.state", .type = wire_type(&c), .data = data, .len = len};
    l->asking = true;
    bus_request(l->link.bus, &out, l->link.c->answer_ms, on_state, l);
    free(data);
    wait_for_answer(l);
}

/* Tells fallback that it is over, and waits until the agent stands where it stood. A drill that was cut short by something
 * real waits only for its own end. */
static void restore(struct live *l)
{
    const struct term *t = &l->link.c->out;
    bool cut_short = *l->why != 0;
    wait_for_answer(l);
    l->unanswered = 0;
    l->at_ms[ENDED] = clock_mono_ms();
    if (cut_short)
        term_print(t, TERM_RED, "%8.3f s  stopped: %s\n", (double)(l->at_ms[ENDED] - l->at_ms[ASKED]) / 1000, l->why);
    else
        term_print(t, TERM_BOLD, "%8.3f s  the failure is over\n",
                   (double)(l->at_ms[ENDED] - l->at_ms[ASKED]) / 1000);
    if (l->refused)
        return; /* it never began */
    for (int i = 0; i < END_TRIES && (i == 0 || l->unanswered > 0); i++) {
        order(l, 0);
        wait_for_answer(l);
    }
    int64_t until = l->at_ms[ENDED] + (cut_short ? 2 * DRILL_LIVE_LAPSE_MS : l->o->restored_ms);
    for (;;) {
        ask_state(l);
        const PB(AgentState) *s = l->state;
        bool over = s && s->drill_failure == PBE(FAILURE_KIND__FAILURE_KIND_UNSPECIFIED);
        if (over && s->posture == PBE(POSTURE__POSTURE_NORMAL) && s->acked_epoch >= s->epoch) {
            say(l, RESTORED, "the agent is back where it was", s->reason);
            return;
        }
        if (over && cut_short) {
            fprintf(t->file, "           the drill is over; %s is %s: %s\n", l->o->target,
                    EVENT_NAME(posture, s->posture), s->reason);
            return;
        }
        if (clock_mono_ms() > until) {
            stop(l, "%s is not back where it was: look with `redoubt agent show %s`", l->o->target, l->o->target);
            return;
        }
        wait_ms(l, STATE_MS);
    }
}

/* ---- figures ---- */

static json_t *span_of(const struct live *l, enum when from, enum when to)
{
    return l->at_ms[from] && l->at_ms[to] ? json_integer(l->at_ms[to] - l->at_ms[from]) : json_null();
}

static const struct {
    const char *key, *title, *text;
    enum when from, to;
} rows[] = {
    {"detection_ms", "detection", "asked -> fallback has taken it up", ASKED, TAKEN},
    {"fallback_ms", "fallback", "asked -> directive", ASKED, MOVED},
    {"ack_ms", "ack", "directive -> confirmed by the agent", MOVED, CONFIRMED},
    {"first_alert_ms", "first alert", "asked -> first alert accepted by a channel", ASKED, TOLD},
    {"failback_ms", "failback", "over -> agent confirmed where it was", ENDED, RESTORED},
};

static json_t *figures(const struct live *l)
{
    /* What the backend has done only its owner knows. */
    static const char *const unknown[] = {"actions_asked",   "actions_accepted", "actions_queued",
                                          "actions_refused", "actions_executed", "actions_lost",
                                          "actions_doubled", "actions_repeated"};
    json_t *m = json_object(), *list = json_array();
    char now[CLOCK_TEXT_MAX];
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        json_t *ms = span_of(l, rows[i].from, rows[i].to);
        json_object_set(m, rows[i].key, ms);
        json_array_append_new(list,
                              json_pack("{s:s, s:s, s:o}", "key", rows[i].title, "text", rows[i].text, "ms", ms));
    }
    for (size_t i = 0; i < sizeof unknown / sizeof unknown[0]; i++)
        json_object_set_new(m, unknown[i], json_null());
    int64_t end = l->at_ms[RESTORED] ? l->at_ms[RESTORED] : clock_mono_ms();
    return json_pack("{s:s, s:b, s:b, s:s, s:s, s:I, s:s, s:s, s:s, s:o, s:o, s:[]}", "drill", l->o->name, "live", 1,
                     "ok", *l->why == 0, "why", l->why, "ended", clock_text(clock_wall_ms(), now), "total_ms",
                     (json_int_t)(end - l->at_ms[ASKED]), "agent", l->o->target, "by", l->o->by, "reason",
                     l->o->reason, "measures", m, "figures", list, "steps");
}

static void show_figures(struct live *l)
{
    static const struct term_column columns[] = {{"MEASURED", false}, {"TIME", true}, {"", false}};
    struct term_table *tab = term_table_begin(columns, 3);
    char span[32];
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        if (!l->at_ms[rows[i].from] || !l->at_ms[rows[i].to])
            continue;
        term_cell(tab, TERM_PLAIN, "%s", rows[i].title);
        term_cell(tab, TERM_BOLD, "%s", cli_span(l->at_ms[rows[i].to] - l->at_ms[rows[i].from], span, sizeof span));
        term_cell(tab, TERM_DIM, "%s", rows[i].text);
    }
    fputc('\n', l->link.c->out.file);
    term_table_end(tab, &l->link.c->out, "  ");
}

static int play(struct live *l)
{
    struct cli *c = l->link.c;
    int code = look_before(l);
    if (code != CLI_OK || (code = confirm(l)) != CLI_OK)
        return code;
    term_print(&c->out, TERM_RED, "\n%8.3f s  %s of %s is pretended\n", 0.0,
               EVENT_NAME(failure_kind, l->kind->failure), l->o->target);
    pretend(l);
    restore(l);
    if (l->refused)
        return cli_fail(c, CLI_REFUSED, "%s", l->why);
    show_figures(l);
    code =
        drill_file_store(c, l->o->name, l->link.settings ? l->link.settings->data_dir : NULL, l->o->json, figures(l));
    if (*l->why) {
        term_print(&c->out, TERM_RED, "\nthe drill failed: %s\n", l->why);
        return CLI_FAILED;
    }
    term_print(&c->out, TERM_GREEN, "\nthere and back\n");
    return code;
}

int drill_live(struct cli *c, const struct drill_live_order *o)
{
    struct live *l = calloc(1, sizeof *l);
    if (!l)
        return cli_fail(c, CLI_FAILED, "out of memory");
    l->o = o;
    l->kind = drill_kind(o->name);
    l->incidents = json_object();
    l->alerts = json_object();
    if (o->json && strcmp(o->json, "-") == 0)
        term_init(&c->out, stderr);
    int code = cli_link_open(&l->link, c);
    if (code == CLI_OK)
        code = play(l);
    present_close(&l->present);
    cli_link_close(&l->link);
    wire_free(l->state);
    json_decref(l->incidents);
    json_decref(l->alerts);
    free(l);
    return code;
}
