/* continuity_cmd.c - operators' commands. Any replica takes them; the one that leads carries them out.
 *
 * Who changes anything is in the trail before it is done, and is answered when the change is durable. Where nobody leads, what is known of the last announcements
 * is still told. */
#include "common/log.h"
#include "continuity/continuity_impl.h"
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#define LEADER_MS     1500  /* who leads answers in milliseconds; after this there is none */
#define PART_MS       30000 /* a part may have a program to run first */
#define INCIDENTS_MAX 200
#define LIST_BYTES    48000
#define TEXT_MAX      512
#define OK            REDOUBT__V1__COMMAND_STATUS__COMMAND_STATUS_OK
#define ALREADY       REDOUBT__V1__COMMAND_STATUS__COMMAND_STATUS_ALREADY
#define INVALID       REDOUBT__V1__COMMAND_STATUS__COMMAND_STATUS_INVALID
#define UNAVAILABLE   REDOUBT__V1__COMMAND_STATUS__COMMAND_STATUS_UNAVAILABLE

struct order;
struct verb {
    const char *name;
    void (*reads)(struct continuity *c, const PB(ContinuityCommand) * cmd, const char *reply, const char *note);
    void (*does)(struct order *o);
    const char *action; /* of the record before it is done */
    bool reason;        /* it is required */
    bool incident;      /* of one that exists */
};

void room_answer(struct continuity *c, const char *reply, int status, const char *text, uint64_t epoch,
                 const void *payload)
{
    char line[1024];
    struct err e;
    size_t len = 0;
    if (payload && protobuf_c_message_get_packed_size(payload) == 0)
        payload = NULL; /* a list of nothing */
    void *data = payload ? wire_pack(payload, &len, &e) : NULL;
    if (payload && !data) {
        log_error("an answer is not valid", F_STR("type", wire_type(payload)), F_STR("why", e.text));
        service_reply(c->s, reply, UNAVAILABLE, 0, "the answer is not valid: %s", e.text);
        return;
    }
    PB(CommandReply) m = PB_INIT(COMMAND_REPLY);
    m.status = (Redoubt__V1__CommandStatus)status;
    m.message = (char *)room_text(line, sizeof line, text);
    m.epoch = epoch;
    m.payload = (ProtobufCBinaryData){.data = data, .len = len};
    service_reply_message(c->s, reply, &m);
    free(data);
}

/* ---- what only reads ---- */

static void list_incidents(struct continuity *c, const PB(ContinuityCommand) * cmd, const char *reply,
                           const char *note)
{
    const struct incident *x = NULL;
    int64_t now = continuity_now_ms(c);
    if (*cmd->after && !(x = board_find(c->board, cmd->after))) {
        room_answer(c, reply, INVALID, "the incident that the list goes on behind is not known any more; begin anew",
                    0, NULL);
        return;
    }
    struct {
        PB(IncidentLine) line[INCIDENTS_MAX], *lines[INCIDENTS_MAX];
        PB(ObjectiveClock) clock[INCIDENTS_MAX];
    } *l = calloc(1, sizeof *l);
    if (!l) {
        room_answer(c, reply, UNAVAILABLE, "out of memory", 0, NULL);
        return;
    }
    PB(IncidentList) m = PB_INIT(INCIDENT_LIST);
    size_t bytes = 0;
    m.incidents = l->lines;
    m.open = (uint32_t)board_open(c->board);
    m.in_all = (uint32_t)board_count(c->board);
    for (x = board_prev(c->board, x, !cmd->closed); x; x = board_prev(c->board, x, !cmd->closed)) {
        size_t i = m.n_incidents;
        if (i < INCIDENTS_MAX) {
            status_line(&l->line[i], &l->clock[i], c, x, now);
            bytes += protobuf_c_message_get_packed_size(&l->line[i].base) + 8;
        }
        if (i == INCIDENTS_MAX || (i > 0 && bytes > LIST_BYTES)) {
            m.next = l->line[i - 1].id;
            break;
        }
        l->lines[i] = &l->line[i];
        m.n_incidents++;
    }
    room_answer(c, reply, OK, note, 0, &m);
    free(l);
}

static void answer_incident(struct continuity *c, const struct incident *x, const char *reply, int status,
                            const char *text)
{
    PB(IncidentChanged) *doc = board_pack(c->board, x, continuity_now_ms(c), c->fence);
    if (!doc) {
        room_answer(c, reply, UNAVAILABLE, "out of memory", 0, NULL);
        return;
    }
    room_answer(c, reply, status, text, x->epoch, doc);
    board_pack_done(doc);
}

static void show_incident(struct continuity *c, const PB(ContinuityCommand) * cmd, const char *reply,
                          const char *note)
{
    const struct incident *x = board_find(c->board, cmd->incident);
    if (x)
        answer_incident(c, x, reply, OK, note);
    else
        room_answer(c, reply, INVALID,
                    "there is no such incident; `redoubt incident list --all` shows those that are known", 0, NULL);
}

/* ---- what changes: the record first, then it, then the answer ---- */

struct order {
    struct service *s;
    const struct verb *verb;
    PB(ContinuityCommand) * cmd;
    char reply[ORDER_REPLY];
    char incident[INCIDENT_ID];
    int status;
    char text[TEXT_MAX];
};

static void order_free(struct order *o)
{
    wire_free(o->cmd);
    free(o);
}

static void on_durable(void *ctx, int status, const char *error)
{
    struct order *o = ctx;
    struct continuity *c = o->s->state;
    struct incident *x = c ? board_find(c->board, o->incident) : NULL;
    if (c && status != 0)
        snprintf(o->text, sizeof o->text, "done, but it is not durable here yet: %.300s", error);
    if (x)
        answer_incident(c, x, o->reply, o->status, o->text);
    else if (c)
        room_answer(c, o->reply, UNAVAILABLE, "it is gone", 0, NULL);
    order_free(o);
}

static void refuse(struct order *o, int status, const char *text)
{
    struct continuity *c = o->s->state;
    room_answer(c, o->reply, status, text, 0, NULL);
    order_free(o);
}

/* What came of an event: said at once, answered when it is durable. */
static void say_and_answer(struct order *o, struct incident *x, uint64_t before, const char *done, const char * not )
{
    struct continuity *c = o->s->state;
    bool changed = x->epoch != before;
    o->status = changed ? OK : not ? ALREADY : OK;
    snprintf(o->text, sizeof o->text, "%s", changed || !not ? done : not );
    snprintf(o->incident, sizeof o->incident, "%s", x->id);
    if (changed)
        say_incident(c, x, on_durable, o);
    else
        on_durable(o, 0, NULL);
}

static void event(struct order *o, struct incident_event *ev, const char *done, const char * not )
{
    struct continuity *c = o->s->state;
    struct incident *x = board_find(c->board, o->cmd->incident);
    if (!x) {
        refuse(o, INVALID, "there is no such incident any more");
        return;
    }
    uint64_t before = x->epoch;
    ev->by = o->cmd->by;
    if (!room_event(c, x->id, ev, &x) || !x) {
        refuse(o, INVALID, "there is no such incident any more");
        return;
    }
    say_and_answer(o, x, before, done, not );
}

static void do_note(struct order *o)
{
    struct incident_event ev = {.kind = INCIDENT_NOTE_ADD, .text = o->cmd->reason};
    ev.note_kind = (uint8_t)o->cmd->note_kind;
    if (ev.note_kind == 0)
        ev.note_kind = REDOUBT__V1__INCIDENT_NOTE_KIND__INCIDENT_NOTE_KIND_NOTE;
    event(o, &ev, "noted", NULL);
}

static void do_assign(struct order *o)
{
    struct incident_event ev = {.kind = INCIDENT_ASSIGN, .text = o->cmd->owner};
    event(o, &ev, *o->cmd->owner ? "assigned" : "it is nobody's now", NULL);
}

static void do_advance(struct order *o)
{
    struct incident_event ev = {.kind = INCIDENT_ADVANCE, .phase = (uint8_t)o->cmd->phase, .text = o->cmd->reason};
    event(o, &ev, "advanced",
          "it stays: the phase is behind it, conditions are still open, or it can only be closed (`redoubt incident "
          "show` "
          "says what it waits for)");
}

static void do_close(struct order *o)
{
    struct incident_event ev = {.kind = INCIDENT_CLOSE, .text = o->cmd->reason};
    event(o, &ev, "closed", "it was closed before");
}

/* Declared by a person. With an agent it is filed under that, so that what the services find out joins it. */
static void do_open(struct order *o)
{
    struct continuity *c = o->s->state;
    char key[INCIDENT_KEY], id[48];
    const PB(ContinuityCommand) *m = o->cmd;
    if (*m->name)
        snprintf(key, sizeof key, "%s", m->name);
    else if (*m->agent)
        snprintf(key, sizeof key, "agent.%s", m->agent);
    else
        snprintf(key, sizeof key, "manual.%s", service_new_id(c->s, id));
    struct signal s = {.dimension = SIGNAL_MANUAL,
                       .subject = key,
                       .cause = "",
                       .failure = (uint8_t)m->failure_kind,
                       .severity = m->severity ? (uint8_t)m->severity : REDOUBT__V1__SEVERITY__SEVERITY_HIGH,
                       .condition = CONDITION_DEGRADED,
                       .at_ms = continuity_now_ms(c),
                       .summary = m->reason};
    struct incident *was = board_of(c->board, SIGNAL_MANUAL, key);
    uint64_t before = was ? was->epoch : 0;
    continuity_signal(c, &s);
    struct incident *x = board_of(c->board, SIGNAL_MANUAL, key);
    if (!x) {
        refuse(o, UNAVAILABLE, "not opened: out of memory");
        return;
    }
    say_and_answer(o, x, before, "opened", "it is open already");
}

static const struct verb verbs[] = {
    {"incidents", list_incidents, NULL, NULL, false, false},
    {"incident", show_incident, NULL, NULL, false, false},
    {"status", status_command, NULL, NULL, false, false},
    {"availability", avail_command, NULL, NULL, false, false},
    {"open", NULL, do_open, "incident.declared", true, false},
    {"note", NULL, do_note, "incident.note", true, true},
    {"assign", NULL, do_assign, "incident.assigned", false, true},
    {"advance", NULL, do_advance, "incident.advanced", true, true},
    {"close", NULL, do_close, "incident.closed", true, true},
};

static const struct verb *verb_of(const char *name)
{
    for (size_t i = 0; i < sizeof verbs / sizeof verbs[0]; i++)
        if (strcmp(verbs[i].name, name) == 0)
            return &verbs[i];
    return NULL;
}

/* What is wrong with it; NULL = nothing. */
static const char *wrong(struct continuity *c, const struct verb *v, const PB(ContinuityCommand) * m)
{
    if (v->reads)
        return NULL;
    const char *unsaid = order_unsaid(m->by, v->reason ? m->reason : NULL);
    if (unsaid)
        return unsaid;
    if (v->does == do_note && strlen(m->reason) > TEXT_MAX)
        return "a note has 512 bytes at most";
    if (v->incident && !board_find(c->board, m->incident))
        return "there is no such incident; `redoubt incident list --all` shows those that are known";
    if (v->does == do_open && *m->agent && !settings_agent(c->s->settings, m->agent))
        return "there is no such agent in the settings";
    if (v->does == do_open && m->failure_kind == 0)
        return "say what kind of failure it is: `failure_kind`";
    if (v->does == do_open && *m->name && !name_target_ok(m->name))
        return "its key must be tokens of [a-z0-9_-] with dots between them";
    return NULL;
}

static void on_recorded(void *ctx, int status, const char *error)
{
    struct order *o = ctx;
    struct continuity *c = o->s->state;
    if (!c) {
        order_free(o);
        return;
    }
    if (status != 0) {
        char text[TEXT_MAX];
        snprintf(text, sizeof text, "refused: the audit trail cannot be written (%.300s)", error);
        continuity_record(c, o->verb->action, o->cmd->by, o->cmd->incident,
                          REDOUBT__V1__AUDIT_OUTCOME__AUDIT_OUTCOME_REFUSED, "the audit trail cannot be written");
        refuse(o, UNAVAILABLE, text);
    } else if (!continuity_leads(c)) {
        refuse(o, UNAVAILABLE, "another replica has begun to lead meanwhile; ask again");
    } else {
        o->verb->does(o);
    }
}

static void order(struct service *s, const struct verb *v, const PB(ContinuityCommand) * cmd, const char *reply,
                  const struct bus_msg *m)
{
    struct continuity *c = s->state;
    struct err e;
    char detail[TEXT_MAX];
    struct order *o = calloc(1, sizeof *o);
    if (o)
        o->cmd = wire_unpack(PB_DESC(continuity_command), m->data, m->len, &e);
    if (!o || !o->cmd) {
        free(o);
        room_answer(c, reply, UNAVAILABLE, "out of memory", 0, NULL);
        return;
    }
    o->s = s;
    o->verb = v;
    snprintf(o->reply, sizeof o->reply, "%s", reply);
    const char *subject = v->does == do_open ? (*cmd->agent ? cmd->agent : cmd->name) : cmd->incident;
    if (v->does == do_assign)
        snprintf(detail, sizeof detail, "to %.128s: %.300s", *cmd->owner ? cmd->owner : "nobody", cmd->reason);
    else if (v->does == do_advance)
        snprintf(detail, sizeof detail, "to %s: %.400s",
                 cmd->phase ? wire_enum_name(&redoubt__v1__incident_phase__descriptor, (int)cmd->phase)
                            : "the next phase",
                 cmd->reason);
    else
        snprintf(detail, sizeof detail, "%.500s", cmd->reason);
    continuity_record_strict(c, v->action, cmd->by, subject, detail, on_recorded, o);
}

/* ---- who leads ---- */

static void nobody_leads(struct service *s, const void *message, const struct bus_msg *m);
static const struct order_way way = {.any = SUBJECT_CMD "continuity.",
                                     .acts = LEADER_CMD,
                                     .desc = PB_DESC(continuity_command),
                                     .nobody = nobody_leads};

static void act(struct service *s, const char *name, const PB(ContinuityCommand) * cmd, const struct bus_msg *m)
{
    struct continuity *c = s->state;
    const struct verb *v = verb_of(name);
    if (!v) {
        if (!parts_command(c, name, cmd, m->reply))
            room_answer(c, m->reply, UNAVAILABLE, "this part of continuity does not work here; its log says why", 0,
                        NULL);
        return;
    }
    const char *why = wrong(c, v, cmd);
    if (why)
        room_answer(c, m->reply, INVALID, why, 0, NULL);
    else if (v->reads)
        v->reads(c, cmd, m->reply, "");
    else
        order(s, v, cmd, m->reply, m);
}

void cmd_leader(struct service *s, const void *message, const struct bus_msg *m)
{
    struct continuity *c = s->state;
    const char *name = order_verb(&way, m);
    if (!order_fit(s, &way, m, name && (verb_of(name) || parts_verb(name))))
        return;
    if (continuity_leads(c) && !s->draining) /* otherwise another hears it, too */
        act(s, name, message, m);
}

/* ---- any replica ---- */

static void nobody_leads(struct service *s, const void *message, const struct bus_msg *m)
{
    struct continuity *c = s->state;
    const struct verb *v = verb_of(order_verb(&way, m));
    if (v && v->reads && c->ever_synced)
        v->reads(c, message, m->reply, "as of the last announcements: nobody leads at the moment");
    else
        room_answer(
            c, m->reply, UNAVAILABLE,
            "no replica of continuity leads at the moment: is the shared state (Redis) reachable? Without it one "
            "begins to lead after half a minute; try again",
            0, NULL);
}

void room_command(struct service *s, const void *message, const struct bus_msg *m)
{
    const char *name = order_verb(&way, m);
    if (!order_fit(s, &way, m, name))
        return;
    if (continuity_leads(s->state))
        act(s, name, message, m);
    else
        order_pass_on(s, &way, name, verb_of(name) ? LEADER_MS : PART_MS, m);
}
