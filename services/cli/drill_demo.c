/* drill_demo.c - the LLM outage told on a running suite whose world is simulators, as a table of steps.
 *
 * The suite is anybody's: it has the settings of the example (deploy/redoubt.yaml), and is only listened to. What fails are the
 * simulators, told so by their control ports; however the story ends, they are told to be well again. */
#include "cli/drill_demo.h"
#include "audit/audit_verify.h"
#include "cli/cli_bus.h"
#include "cli/drill_stories.h"
#include "cli/event_line.h"
#include "cli/ping.h"
#include "cli/status_model.h"
#include "common/hostport.h"
#include <dirent.h>
#include <inttypes.h>
#include <sodium.h>
#include <stdlib.h>
#include <string.h>

#define PRIMARY     "llm.openai.gpt-4o"
#define BACKUP      "llm.openai.gpt-3.5-turbo"
#define BACKEND     "backend.mcp-security"
#define OVERRIDE_MS 3600000 /* one hour: what the suite asks of the backend by default */
#define MODE_MS     10000
#define ANSWER_MS   3000
#define ASK_EVERY   500
#define RESYNC_MS   86400000 /* states are read once; what changes is heard */

static const char *const sims[DRILL_DEMO_SIMS] = {"primary", "backup", "backend", "mail"};

/* What the story keeps beside the drill. One story plays at a time. */
static struct demo {
    const struct drill_demo_world *world;
    const struct settings *settings;
    char inbox[64];
    struct bus_sub *answers;
    json_t *services; /* service -> its replicas -> true */
    int64_t asked_ms, state_asked_ms;
    bool asking;
    PB(AgentState) * state; /* of the agent; NULL = not known */
    unsigned told, taken;   /* modes given to simulators, and answered */
    struct order {
        struct drill *d;
        const char *mode;
        bool good;
        int64_t again_ms;      /* monotonic: when it is told again; 0 = it is not */
    } orders[DRILL_DEMO_SIMS]; /* the last one of each */
    bool page_seen;
    size_t executed; /* by the backend when the story came to it */
} D;

int drill_demo_world(const char *list, struct drill_demo_world *ret, struct err *e)
{
    char copy[1024], *save = NULL;
    *ret = (struct drill_demo_world){{""}};
    if ((size_t)snprintf(copy, sizeof copy, "%s", list) >= sizeof copy)
        return err_set(e, "--sims is longer than %zu bytes", sizeof copy - 1);
    for (char *one = strtok_r(copy, ",", &save); one; one = strtok_r(NULL, ",", &save)) {
        char *where = strchr(one, '='), host[HOSTPORT_HOST_MAX];
        int port;
        size_t i = 0;
        if (where)
            *where++ = 0;
        while (i < DRILL_DEMO_SIMS && strcmp(sims[i], one) != 0)
            i++;
        if (i == DRILL_DEMO_SIMS || !where || *ret->control[i] || hostport_split(where, 0, host, &port) ||
            (size_t)snprintf(ret->control[i], sizeof ret->control[i], "%s", where) >= sizeof ret->control[i])
            return err_set(e,
                           "--sims: found `%.200s`; allowed: primary, backup, backend and mail, each once, as "
                           "NAME=HOST:PORT joined by commas",
                           one);
    }
    for (size_t i = 0; i < DRILL_DEMO_SIMS; i++)
        if (!*ret->control[i])
            return err_set(e, "--sims: %s is missing: the control port of each simulator is needed", sims[i]);
    return 0;
}

/* ---- simulators ---- */

/* One that has not begun to listen yet is told again; one that vanishes in the middle of the story ends it. */
static void on_mode(void *ctx, const struct http_result *r)
{
    struct order *o = ctx;
    D.taken++;
    o->good = r->fault == HTTP_OK && r->status == 200;
    if (!o->good && o->d->step == 0 && !o->d->failed)
        o->again_ms = clock_mono_ms() + ASK_EVERY;
    else if (!o->good)
        drill_fail(o->d, "simulator %s did not take its mode: status %d %s", sims[o - D.orders], r->status, r->error);
}

static void tell(struct drill *d, enum drill_demo_sim sim, const char *mode)
{
    char url[320], body[64];
    snprintf(url, sizeof url, "http://%s/sim/mode", D.world->control[sim]);
    snprintf(body, sizeof body, "{\"mode\": \"%s\"}", mode);
    struct http_request r = {.url = url, .body = body, .body_len = strlen(body), .timeout_ms = MODE_MS};
    D.orders[sim] = (struct order){.d = d, .mode = mode};
    D.told++;
    (void)http_start(d->http, &r, NULL, on_mode, &D.orders[sim]);
}

/* Every simulator has taken its mode. */
static DRILL_MARK_LOOK(look_told)
{
    (void)m;
    unsigned good = 0;
    for (size_t i = 0; i < DRILL_DEMO_SIMS; i++) {
        const struct order *o = &D.orders[i];
        good += o->good;
        if (o->again_ms != 0 && clock_mono_ms() >= o->again_ms)
            tell(d, (enum drill_demo_sim)i, o->mode);
    }
    snprintf(detail, size, "%u of them", good);
    return good == DRILL_DEMO_SIMS;
}

/* Mode `verb` of each simulator that `who` names, joined by blanks. */
static int act_tell(struct drill *d, const struct drill_step *s, struct err *e)
{
    (void)e;
    for (size_t i = 0; i < DRILL_DEMO_SIMS; i++)
        if (strstr(s->who, sims[i]))
            tell(d, (enum drill_demo_sim)i, s->verb);
    return 0;
}

/* However the story ended: the world is well again. */
static void leave(struct drill *d)
{
    if (!d->acts[0].seen) /* nothing was told to anybody */
        return;
    for (size_t i = 0; i < DRILL_DEMO_SIMS; i++)
        tell(d, (enum drill_demo_sim)i, "ok");
    for (int64_t until = clock_mono_ms() + ANSWER_MS; D.taken < D.told && clock_mono_ms() < until;) {
        bool never = false;
        loop_run_until(&d->loop, &never, 10);
    }
}

/* ---- the suite ---- */

static void on_ping(void *ctx, const struct bus_msg *m)
{
    (void)ctx;
    struct ping_answer a;
    if (ping_read(m->data, m->len, &a))
        return;
    const char *service = a.name + strlen("redoubt-");
    json_t *replicas = json_object_get(D.services, service);
    if (!replicas)
        json_object_set_new(D.services, service, replicas = json_object());
    json_object_set_new(replicas, a.id, json_true());
}

static void on_message(void *ctx, const struct bus_msg *m)
{
    const ProtobufCMessageDescriptor *desc = m->type ? wire_by_name(m->type) : NULL;
    if (!desc)
        desc = wire_by_subject(m->subject);
    void *message = desc ? wire_unpack(desc, m->data, m->len, NULL) : NULL;
    if (message)
        drill_take(ctx, message);
}

static void on_up(void *ctx)
{
    ((struct drill *)ctx)->bus_is_up = true;
}

static void on_down(void *ctx)
{
    ((struct drill *)ctx)->bus_is_up = false;
}

static int act_begin(struct drill *d, const struct drill_step *s, struct err *e)
{
    (void)s;
    const struct set_nats *n = &D.settings->nats;
    struct bus_opts o = {.url = d->nats_url,
                         .name = "redoubt-story",
                         .user = n->user,
                         .password = n->password,
                         .token = n->token,
                         .tls_ca_file = n->tls_ca_file,
                         .inbox_prefix = "_INBOX_cli",
                         .guest = true,
                         .on_up = on_up,
                         .on_down = on_down,
                         .ctx = d};
    for (size_t i = 0; i < DRILL_DEMO_SIMS; i++)
        tell(d, (enum drill_demo_sim)i, i == DRILL_DEMO_MAIL ? "550" : "ok");
    if (!(d->bus = bus_open(&d->loop, &o, e)))
        return -1;
    snprintf(D.inbox, sizeof D.inbox, "_INBOX_cli.story%08x%08x", randombytes_random(), randombytes_random());
    D.answers = bus_subscribe(d->bus, D.inbox, NULL, on_ping, d);
    if (!D.answers || !bus_subscribe(d->bus, SUBJECT_PREFIX ">", NULL, on_message, d) ||
        !bus_watch(d->bus, SUBJECT_HEALTH ">", RESYNC_MS, on_message, NULL, d))
        return err_set(e, "cannot subscribe");
    return 0;
}

static DRILL_MARK_LOOK(look_connected)
{
    (void)m;
    snprintf(detail, size, "%s", d->nats_url);
    return d->bus_is_up;
}

/* All of them, and how many replicas of each. */
static DRILL_MARK_LOOK(look_services)
{
    (void)m;
    size_t there = 0, len = 0;
    for (size_t i = 0; i < status_services_n; i++) {
        size_t n = json_object_size(json_object_get(D.services, status_services[i]));
        there += n > 0;
        if (n > 1 && len < size)
            len += (size_t)snprintf(detail + len, size - len, "%s%zu of %s", len ? ", " : "", n, status_services[i]);
    }
    int64_t now = clock_mono_ms();
    if (there < status_services_n && d->bus_is_up && now >= D.asked_ms + ASK_EVERY) {
        struct bus_out o = {.subject = "$SRV.PING", .reply = D.inbox};
        D.asked_ms = now;
        (void)bus_publish(d->bus, &o, NULL);
    }
    return there == status_services_n;
}

static void on_state(void *ctx, enum bus_status st, const struct bus_msg *m)
{
    (void)ctx;
    PB(CommandReply) *r = st == BUS_OK ? wire_unpack(PB_DESC(command_reply), m->data, m->len, NULL) : NULL;
    PB(AgentState) *s = r && r->status == DRILL_PBE(COMMAND_STATUS__COMMAND_STATUS_OK)
                            ? wire_unpack(PB_DESC(agent_state), r->payload.data, r->payload.len, NULL)
                            : NULL;
    D.asking = false;
    if (s) {
        wire_free(D.state);
        D.state = s;
    }
    wire_free(r);
}

static void ask_state(struct drill *d)
{
    PB(AgentCommand) c = PB_INIT(AGENT_COMMAND);
    size_t len;
    c.agent = (char *)DRILL_AGENT;
    void *data = wire_pack(&c, &len, NULL);
    struct bus_out o = {.subject = SUBJECT_CMD "fallback.state", .type = wire_type(&c), .data = data, .len = len};
    D.asking = true;
    D.state_asked_ms = clock_mono_ms();
    bus_request(d->bus, &o, ANSWER_MS, on_state, d);
    free(data);
}

/* The agent stands in its usual place, and has confirmed it. */
static DRILL_MARK_LOOK(look_stands)
{
    (void)m;
    const PB(AgentState) *s = D.state;
    if (s && s->posture == DRILL_PBE(POSTURE__POSTURE_NORMAL) && s->acked_epoch >= s->epoch &&
        strcmp(s->llm_target, PRIMARY) == 0) {
        snprintf(detail, size, "#%" PRIu64 " %s", s->epoch, EVENT_NAME(posture, s->posture));
        return true;
    }
    if (d->bus_is_up && !D.asking && clock_mono_ms() >= D.state_asked_ms + ASK_EVERY)
        ask_state(d);
    return false;
}

/* ---- the backend ---- */

static DRILL_MARK_LOOK(look_override)
{
    const json_t *o = json_object_get(drill_page(d, "backend"), "override");
    const json_t *asked = json_object_get(json_object_get(o, "activation"), "request");
    const char *why = json_string_value(json_object_get(asked, "justification"));
    if (!json_is_true(json_object_get(o, "active")) ||
        json_integer_value(json_object_get(asked, "duration")) != m->what)
        return false;
    snprintf(detail, size, "for %d min: %s", m->what / 60000, why ? why : "");
    return true;
}

static DRILL_MARK_LOOK(look_released)
{
    (void)m, (void)detail, (void)size;
    return json_is_false(json_object_get(json_object_get(drill_page(d, "backend"), "override"), "active"));
}

/* It has a past of its own: only what comes from now on counts. */
static DRILL_MARK_LOOK(look_acts)
{
    (void)m;
    size_t n = drill_executed(d);
    if (!drill_page(d, "backend"))
        return false;
    if (!D.page_seen)
        D.executed = n;
    D.page_seen = true;
    snprintf(detail, size, "%zu actions executed so far", n);
    return n > D.executed;
}

/* ---- the end ---- */

static DRILL_MARK_MESSAGE(sees_report)
{
    (void)d, (void)m;
    const PB(IncidentChanged) *i = message;
    if (((const ProtobufCMessage *)message)->descriptor != PB_DESC(incident_changed) || !*i->report)
        return false;
    snprintf(detail, size, "redoubt continuity report %s --print", i->id);
    return true;
}

/* The trail is being written meanwhile: what is half there is looked at again. */
static DRILL_MARK_LOOK(look_trail)
{
    char path[2 * DRILL_PATH];
    struct err e = {""};
    uint64_t records = 0, trails = 0;
    bool whole = true;
    snprintf(path, sizeof path, "%s/audit", D.settings->data_dir);
    DIR *dir = opendir(path);
    struct audit_report *r = calloc(1, sizeof *r);
    if (!dir)
        drill_fail(d, "the audit trail cannot be read in %s", path);
    for (struct dirent *f; dir && r && whole && (f = readdir(dir));) {
        if (f->d_name[0] < '0' || f->d_name[0] > '9')
            continue;
        snprintf(path, sizeof path, "%s/audit/%s", D.settings->data_dir, f->d_name);
        *r = (struct audit_report){0};
        whole = audit_verify(path, NULL, r, &e) == 0;
        records += r->records;
        trails++;
    }
    if (dir)
        closedir(dir);
    free(r);
    snprintf(detail, size, "%" PRIu64 " records, %" PRIu64 " trail%s", records, trails, trails == 1 ? "" : "s");
    return !d->failed && whole && records >= (uint64_t)m->what;
}

/* ---- the table ---- */

#define RECEIPT(key_, text_, channel, status)                                                                        \
    {                                                                                                                \
        .key = key_, .text = text_, .message = drill_sees_any_receipt, .who = channel,                               \
        .what = DRILL_PBE(DELIVERY_STATUS__DELIVERY_STATUS_##status)                                                 \
    }

static const struct drill_step steps[] = {
    {.key = "begin",
     .text = "the suite, the simulators and the agent are looked at; the mail server refuses from now on",
     .act = act_begin,
     .marks = {{.key = "connected", .text = "the bus answers", .look = look_connected},
               {.key = "sims", .text = "every simulator listens", .look = look_told},
               {.key = "services", .text = "every service answers", .look = look_services},
               DRILL_HEALTHY("primary", PRIMARY),
               DRILL_HEALTHY("backup", BACKUP),
               DRILL_HEALTHY("backend", BACKEND),
               DRILL_HEALTHY("alive", DRILL_SELF),
               {.key = "stands", .text = "agent stands with its primary", .look = look_stands},
               {.key = "works", .text = "primary answers the agent", .message = drill_sees_work, .who = PRIMARY},
               {.key = "acts", .text = "its actions reach the backend", .look = look_acts}},
     .limit_ms = 180000},
    {.key = "primary_dies",
     .text = "the primary LLM is gone: its port is closed",
     .act = act_tell,
     .who = "primary",
     .verb = "refuse",
     .failure = true,
     .marks = {DRILL_BREAKER("opened", "breaker opens", PRIMARY, OPEN),
               DRILL_DIRECTIVE("directive", "agent is moved to the backup", BACKUP_LLM, .llm = BACKUP),
               DRILL_ACK(BACKUP),
               {.key = "works", .text = "backup answers the agent", .message = drill_sees_work, .who = BACKUP},
               {.key = "incident", .text = "an incident opens, its clocks run", .message = drill_sees_incident},
               RECEIPT("mail", "e-mail is refused", "mail", FAILED),
               RECEIPT("chat", "chat accepts the alert", "chat", ACCEPTED)},
     .limit_ms = 60000},
    {.key = "backup_dies",
     .text = "the backup LLM is gone, too",
     .act = act_tell,
     .who = "backup",
     .verb = "refuse",
     .failure = true,
     .marks =
         {DRILL_BREAKER("opened", "breaker opens", BACKUP, OPEN),
          DRILL_DIRECTIVE("directive", "agent is put under security fallback", SECURITY_FALLBACK, .llm = ""),
          DRILL_ACK(""),
          {.key = "override", .text = "backend enforces strict policies", .look = look_override, .what = OVERRIDE_MS},
          DRILL_ALERT("alert", "alert is raised", "security-fallback", HIGH, .has = "override_activated"),
          {.key = "chat",
           .text = "chat accepts the alert",
           .message = drill_sees_receipt,
           .who = "chat",
           .what = DRILL_PBE(DELIVERY_STATUS__DELIVERY_STATUS_ACCEPTED)}},
     .limit_ms = 60000},
    {.key = "llms_return",
     .text = "both LLMs are there again, and the mail server takes mail",
     .act = act_tell,
     .who = "primary backup mail",
     .verb = "ok",
     .marks = {DRILL_BREAKER("closed", "breaker of the primary closes", PRIMARY, CLOSED),
               DRILL_BREAKER("closed_too", "breaker of the backup closes", BACKUP, CLOSED),
               DRILL_DIRECTIVE("directive", "agent is brought back to its primary", NORMAL, .llm = PRIMARY),
               DRILL_ACK(PRIMARY),
               {.key = "works", .text = "primary answers the agent", .message = drill_sees_work, .who = PRIMARY},
               {.key = "released", .text = "backend's override is released", .look = look_released},
               RECEIPT("mail", "e-mail is accepted again", "mail", ACCEPTED),
               {.key = "validated",
                .text = "the incident is validated, its clocks stop",
                .message = drill_sees_incident,
                .what = DRILL_PBE(INCIDENT_PHASE__INCIDENT_PHASE_LEARN)},
               {.key = "report", .text = "its report is written", .message = sees_report, .after = "validated"}},
     .limit_ms = 120000},
    {.key = "audit",
     .text = "the audit trail is verified from the first byte to the last",
     .marks = {{.key = "whole", .text = "whole", .look = look_trail, .what = 1}},
     .limit_ms = 30000},
};

static const struct drill_figure figures[] = {
    {"detection", "primary gone -> breaker open", "primary_dies", "primary_dies.opened"},
    {"fallback", "primary gone -> directive to use the backup", "primary_dies", "primary_dies.directive"},
    {"ack", "directive -> confirmed by the agent", "primary_dies.directive", "primary_dies.ack"},
    {"first alert", "primary gone -> first alert accepted by a channel", "primary_dies", "primary_dies.chat"},
    {"failback", "LLMs back -> agent confirmed on its primary", "llms_return", "llms_return.ack"},
    {"back at work", "primary gone -> first answer from the backup", "primary_dies", "primary_dies.works"},
    {"detection 2", "backup gone -> breaker open", "backup_dies", "backup_dies.opened"},
    {"fallback 2", "backup gone -> directive: security fallback", "backup_dies", "backup_dies.directive"},
    {"override", "backup gone -> strict policies active in the backend", "backup_dies", "backup_dies.override"},
    {"alert 2", "backup gone -> its alert accepted by a channel", "backup_dies", "backup_dies.chat"},
    {"incident", "primary gone -> incident opened", "primary_dies", "primary_dies.incident"},
    {"validated", "LLMs back -> incident validated, clocks stopped", "llms_return", "llms_return.validated"},
    {"release", "LLMs back -> override released in the backend", "llms_return", "llms_return.released"},
};

static int prepare(struct drill *d, struct err *e)
{
    static const char *const needed[] = {PRIMARY, BACKUP, BACKEND};
    char url[320];
    for (size_t i = 0; i < sizeof needed / sizeof *needed; i++)
        if (!settings_target(D.settings, needed[i]))
            return err_set(e, "the settings have no target %s: this story is told with those of the example",
                           needed[i]);
    if (!settings_agent(D.settings, DRILL_AGENT))
        return err_set(e, "the settings have no agent " DRILL_AGENT ": this story is told with those of the example");
    snprintf(url, sizeof url, "http://%s/sim/state", D.world->control[DRILL_DEMO_BACKEND]);
    drill_watch_page(d, "backend", url);
    return 0;
}

static const struct drill_story story = {
    .name = "demo",
    .title = "primary LLM goes, backup goes, both return; a running suite, simulators that fail",
    DRILL_TABLES,
    .limit_ms = 300000,
    .running = true,
    .prepare = prepare,
    .leave = leave,
};

int drill_demo(struct cli *c, const struct drill_demo_world *w, const char *json)
{
    struct settings *s = cli_settings(c);
    if (!s)
        return CLI_USAGE;
    if (sodium_init() < 0) {
        settings_free(s);
        return cli_fail(c, CLI_FAILED, "no source of randomness");
    }
    D = (struct demo){.world = w, .settings = s, .services = json_object()};
    int code = drill_run_at(c, &story, c->nats_url ? c->nats_url : s->nats.url, json);
    json_decref(D.services);
    wire_free(D.state);
    settings_free(s);
    return code;
}
