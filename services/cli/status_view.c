/* status_view.c - the status as tables for people and as JSON for programs. */
#include "cli/status_view.h"
#include "cli/cli.h"
#include "cli/continuity_view.h"
#include "cli/event_line.h"
#include "cli/rollback_view.h"
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define PBE(x)      REDOUBT__V1__##x
#define COUNT(rows) (sizeof(rows) / sizeof((rows)[0]))

/* ---- tables ---- */

/* "since 3.2 s", from a moment of the wall clock; "-" if there is none. */
static const char *since(int64_t unix_ms, int64_t now_unix_ms, char *buf, size_t size)
{
    if (unix_ms <= 0) {
        snprintf(buf, size, "-");
        return buf;
    }
    return cli_span(now_unix_ms - unix_ms, buf, size);
}

/* RFC 3339 as $SRV has it, to milliseconds; 0 if it is not one. */
static int64_t from_rfc3339(const char *text)
{
    struct tm tm = {0};
    const char *rest = text ? strptime(text, "%Y-%m-%dT%H:%M:%S", &tm) : NULL;
    return rest ? (int64_t)timegm(&tm) * 1000 : 0;
}

static void print_services(const struct status_model *s, const struct term *t, int64_t now_unix_ms)
{
    static const struct term_column columns[] = {
        {"SERVICE", false}, {"REPLICAS", true}, {"VERSION", false}, {"UP FOR", false}, {"INSTANCE", false}};
    struct term_table *tab = term_table_begin(columns, COUNT(columns));
    for (size_t i = 0; i < status_services_n; i++) {
        size_t n = status_replicas(s, status_services[i]);
        bool first = true;
        for (size_t k = 0; k < s->n_instances; k++) {
            const struct status_instance *in = &s->instances[k];
            if (strcmp(in->service, status_services[i]) != 0)
                continue;
            const char *version = json_string_value(json_object_get(in->stats, "version"));
            char span[32];
            term_cell(tab, TERM_PLAIN, "%s", first ? in->service : "");
            if (first)
                term_cell(tab, TERM_GREEN, "%zu", n);
            else
                term_cell(tab, TERM_PLAIN, " ");
            term_cell(tab, TERM_PLAIN, "%s", version ? version : "?");
            term_cell(tab, TERM_PLAIN, "%s",
                      since(from_rfc3339(json_string_value(json_object_get(in->stats, "started"))), now_unix_ms, span,
                            sizeof span));
            term_cell(tab, TERM_DIM, "%s", json_string_value(json_object_get(in->stats, "id")));
            first = false;
        }
        if (n == 0 && status_needs(s, status_services[i])) {
            term_cell(tab, TERM_PLAIN, "%s", status_services[i]);
            term_cell(tab, TERM_RED, "0");
            term_cell(tab, TERM_DIM, "-");
            term_cell(tab, TERM_DIM, "-");
            term_cell(tab, TERM_RED, "does not answer");
        }
    }
    term_table_end(tab, t, "");
}

void status_print_targets(const struct status_model *s, const struct term *t, int64_t now_unix_ms)
{
    static const struct term_column columns[] = {{"TARGET", false}, {"HEALTH", false}, {"BREAKER", false},
                                                 {"ADMITS", true},  {"FOR", false},    {"UNTIL", false},
                                                 {"WHY", false}};
    struct term_table *tab = term_table_begin(columns, COUNT(columns));
    for (size_t i = 0; i < s->n_targets; i++) {
        const struct status_target *x = &s->targets[i];
        const PB(BreakerChanged) *b = x->breaker;
        const PB(HealthChanged) *h = x->health;
        char span[32], until[EVENT_TIME_MAX];
        term_cell(tab, TERM_PLAIN, "%s", x->name);
        term_cell(tab, h ? event_health_colour((int)h->state) : TERM_DIM, "%s",
                  h ? EVENT_NAME(health_state, h->state) : "-");
        term_cell(tab, b ? event_breaker_colour((int)b->state) : TERM_DIM, "%s",
                  b ? EVENT_NAME(breaker_state, b->state) : "-");
        if (b)
            term_cell(tab, TERM_PLAIN, "%u %%", b->ramp_percent);
        else
            term_cell(tab, TERM_DIM, "-");
        term_cell(tab, TERM_PLAIN, "%s",
                  since(b   ? b->since_unix_ms
                        : h ? h->since_unix_ms
                            : 0,
                        now_unix_ms, span, sizeof span));
        int64_t ends_ms = h && h->state == PBE(HEALTH_STATE__HEALTH_STATE_MAINTENANCE) ? h->maintenance_until_unix_ms
                          : b                                                          ? b->until_unix_ms
                                                                                       : 0;
        term_cell(tab, TERM_PLAIN, "%s", ends_ms > 0 ? event_time(ends_ms, now_unix_ms, until) : "-");
        bool closed = b && b->state == PBE(BREAKER_STATE__BREAKER_STATE_CLOSED);
        if (b && *b->forced_by)
            term_cell(tab, TERM_PLAIN, "%s: %s", b->forced_by, b->forced_why);
        else if (h && *h->suppressed_by)
            term_cell(tab, TERM_PLAIN, "%s (no alerts while %s is down)", h->reason, h->suppressed_by);
        else
            term_cell(tab, TERM_PLAIN, "%s", b && !closed && *b->detail ? b->detail : h ? h->reason : "");
    }
    term_table_end(tab, t, "");
}

void status_print_agents(const struct status_model *s, const struct term *t, int64_t now_unix_ms)
{
    static const struct term_column columns[] = {
        {"AGENT", false},   {"POSTURE", false}, {"EPOCH", true},       {"ACKED", true},     {"LLM", false},
        {"BACKEND", false}, {"FOR", false},     {"AUTOMATION", false}, {"OVERRIDE", false}, {"WHY", false}};
    struct term_table *tab = term_table_begin(columns, COUNT(columns));
    for (size_t i = 0; i < s->n_agents; i++) {
        const PB(AgentState) *a = s->agents[i].state;
        char span[32];
        term_cell(tab, TERM_PLAIN, "%s", s->agents[i].name);
        if (!a) {
            term_cell(tab, TERM_YELLOW, "not known");
            for (size_t k = 2; k < COUNT(columns); k++)
                term_cell(tab, TERM_DIM, "-");
            continue;
        }
        term_cell(tab, event_posture_colour((int)a->posture), "%s", EVENT_NAME(posture, a->posture));
        term_cell(tab, TERM_PLAIN, "#%" PRIu64, a->epoch);
        term_cell(tab, a->acked_epoch == a->epoch ? TERM_PLAIN : TERM_YELLOW, "#%" PRIu64, a->acked_epoch);
        term_cell(tab, *a->llm_target ? TERM_PLAIN : TERM_RED, "%s", *a->llm_target ? a->llm_target : "none");
        if (a->backend == PBE(BACKEND_MODE__BACKEND_MODE_RECOVERING))
            term_cell(tab, TERM_YELLOW, "RECOVERING %u %%", a->ramp_percent);
        else
            term_cell(tab, a->backend == PBE(BACKEND_MODE__BACKEND_MODE_UP) ? TERM_PLAIN : TERM_YELLOW, "%s",
                      EVENT_NAME(backend_mode, a->backend));
        term_cell(tab, TERM_PLAIN, "%s", since(a->since_unix_ms, now_unix_ms, span, sizeof span));
        term_cell(tab, a->automation == PBE(AUTOMATION_MODE__AUTOMATION_MODE_FROZEN) ? TERM_RED : TERM_PLAIN, "%s",
                  EVENT_NAME(automation_mode, a->automation));
        term_cell(tab, a->override_mode > PBE(OVERRIDE_MODE__OVERRIDE_MODE_OFF) ? TERM_YELLOW : TERM_PLAIN, "%s",
                  EVENT_NAME(override_mode, a->override_mode));
        term_cell(tab, TERM_PLAIN, "%s", *a->frozen_why ? a->frozen_why : a->reason);
    }
    term_table_end(tab, t, "");
}

/* A job, or a hold, has a line of its own. */
static void print_deployments(const struct status_model *s, const struct term *t, int64_t now_unix_ms)
{
    static const struct term_column columns[] = {{"DEPLOYMENT", false}, {"CURRENT", false}, {"TRAFFIC", false},
                                                 {"FOR", false},        {"BY", false},      {"ROLLBACK", false}};
    struct term_table *tab = term_table_begin(columns, COUNT(columns));
    for (size_t i = 0; i < s->n_deployments; i++) {
        const PB(RollbackChanged) *m = s->deployments[i].rollback;
        char span[32], text[ROLLBACK_VIEW_TEXT];
        bool busy = m && rollback_view_busy(m);
        term_cell(tab, TERM_PLAIN, "%s", s->deployments[i].name);
        term_cell(tab, m ? TERM_PLAIN : TERM_YELLOW, "%s",
                  m ? rollback_view_name(m, m->current_version) : "not known");
        term_cell(tab, busy ? TERM_BOLD : TERM_DIM, "%s", busy ? rollback_view_bar(m, text) : "-");
        term_cell(tab, TERM_PLAIN, "%s", since(busy ? m->started_unix_ms : 0, now_unix_ms, span, sizeof span));
        term_cell(tab, TERM_PLAIN, "%s", busy ? m->started_by : "-");
        term_cell(tab, m ? rollback_view_colour(m) : TERM_DIM, "%s%s%s", m ? rollback_view_where(m, text) : "-",
                  busy && *m->reason ? ": " : "", busy ? m->reason : "");
    }
    term_table_end(tab, t, "");
}

/* Incidents, the nearest clock and the worst objective, in a line. */
static void print_continuity(const PB(ContinuityStatus) * s, const struct term *t)
{
    char text[INCIDENT_VIEW_TEXT], clean[INCIDENT_VIEW_TEXT];
    continuity_view_headline(s, text);
    fputc('\n', t->file);
    term_print(t, TERM_DIM, "CONTINUITY  ");
    term_print(t, continuity_view_headline_colour(s), "%s\n", term_clean(text, 0, clean, sizeof clean));
}

static void print_problem(void *ctx, const char *text)
{
    const struct term *t = ctx;
    char clean[1100];
    term_print(t, TERM_RED, "  ! ");
    fprintf(t->file, "%s\n", term_clean(text, 0, clean, sizeof clean));
}

void status_print(const struct status_model *s, const struct term *t, int64_t now_unix_ms)
{
    print_services(s, t, now_unix_ms);
    if (s->n_targets > 0) {
        fputc('\n', t->file);
        status_print_targets(s, t, now_unix_ms);
    }
    if (s->n_agents > 0) {
        fputc('\n', t->file);
        status_print_agents(s, t, now_unix_ms);
    }
    if (s->n_deployments > 0) {
        fputc('\n', t->file);
        print_deployments(s, t, now_unix_ms);
    }
    if (s->continuity)
        print_continuity(s->continuity, t);
    fputc('\n', t->file);
    size_t n = status_problems(s, NULL, NULL);
    if (n == 0) {
        term_print(t, TERM_GREEN, "everything is normal\n");
        return;
    }
    term_print(t, TERM_BOLD, "%zu open problem%s\n", n, n == 1 ? "" : "s");
    status_problems(s, print_problem, (void *)t);
}

/* ---- JSON ---- */

json_t *status_message_json(const void *message)
{
    char *text = message ? wire_json(message) : NULL;
    json_t *j = text ? json_loads(text, 0, NULL) : NULL;
    free(text);
    return j ? j : json_null();
}

json_t *status_agent_json(const PB(AgentState) * a)
{
    json_t *j = status_message_json(a);
    /* The orchestrator's own book-keeping, of no use to anybody else. */
    (void)json_object_del(j, "directive");
    (void)json_object_del(j, "owed");
    return j;
}

static void add_problem(void *ctx, const char *text)
{
    json_array_append_new(ctx, json_string(text));
}

json_t *status_json(const struct status_model *s)
{
    json_t *services = json_array(), *targets = json_array(), *agents = json_array(), *problems = json_array();
    json_t *deployments = json_array();
    for (size_t i = 0; i < status_services_n; i++) {
        if (!status_needs(s, status_services[i]) && status_replicas(s, status_services[i]) == 0)
            continue;
        json_t *instances = json_array();
        for (size_t k = 0; k < s->n_instances; k++)
            if (strcmp(s->instances[k].service, status_services[i]) == 0)
                json_array_append(instances, s->instances[k].stats);
        json_array_append_new(services,
                              json_pack("{s:s, s:I, s:o}", "name", status_services[i], "replicas",
                                        (json_int_t)status_replicas(s, status_services[i]), "instances", instances));
    }
    for (size_t i = 0; i < s->n_targets; i++)
        json_array_append_new(targets, json_pack("{s:s, s:o, s:o}", "target", s->targets[i].name, "health",
                                                 status_message_json(s->targets[i].health), "breaker",
                                                 status_message_json(s->targets[i].breaker)));
    for (size_t i = 0; i < s->n_agents; i++)
        json_array_append_new(agents, json_pack("{s:s, s:o}", "agent", s->agents[i].name, "state",
                                                status_agent_json(s->agents[i].state)));
    for (size_t i = 0; i < s->n_deployments; i++)
        json_array_append_new(deployments, json_pack("{s:s, s:o}", "deployment", s->deployments[i].name, "rollback",
                                                     status_message_json(s->deployments[i].rollback)));
    size_t n = status_problems(s, add_problem, problems);
    return json_pack("{s:b, s:o, s:o, s:o, s:o, s:o, s:o}", "normal", n == 0, "problems", problems, "services",
                     services, "targets", targets, "agents", agents, "deployments", deployments, "continuity",
                     status_message_json(s->continuity));
}
