/* audit_query.c - which records are asked for, and acts put together from their records. Pure. */
#include "audit/audit_query.h"
#include <ctype.h>
#include <errno.h>
#include <fnmatch.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <time.h>

#define INTENDED REDOUBT__V1__AUDIT_OUTCOME__AUDIT_OUTCOME_INTENDED

static bool glob(const char *pattern, const char *value)
{
    return !pattern || fnmatch(pattern, value, 0) == 0;
}

static bool has_text(const char *text, const PB(AuditRecord) * r)
{
    if (strcasestr(r->detail, text))
        return true;
    for (size_t i = 0; i < r->n_fields; i++)
        if (strcasestr(r->fields[i]->value, text))
            return true;
    return false;
}

static bool has_field(const char *wanted, const PB(AuditRecord) * r)
{
    const char *equals = strchr(wanted, '=');
    size_t n = equals ? (size_t)(equals - wanted) : strlen(wanted);
    for (size_t i = 0; i < r->n_fields; i++)
        if (strncmp(r->fields[i]->key, wanted, n) == 0 && !r->fields[i]->key[n] &&
            glob(equals ? equals + 1 : NULL, r->fields[i]->value))
            return true;
    return false;
}

bool audit_query_fits(const struct audit_query *q, const PB(AuditRecord) * r)
{
    return (!q->id || strcmp(q->id, r->id) == 0) && (!q->since_unix_ms || r->at_unix_ms >= q->since_unix_ms) &&
           (!q->until_unix_ms || r->at_unix_ms < q->until_unix_ms) &&
           (!q->audit_class || (int)r->audit_class == q->audit_class) &&
           (!q->outcome || (int)r->outcome == q->outcome) && glob(q->action, r->action) && glob(q->actor, r->actor) &&
           glob(q->subject, r->subject) && glob(q->service, r->service) && (!q->text || has_text(q->text, r)) &&
           (!q->field || has_field(q->field, r));
}

static int enum_value(const ProtobufCEnumDescriptor *d, const char *name)
{
    for (unsigned i = 0; i < d->n_values; i++)
        if (d->values[i].value && strcasecmp(wire_enum_name(d, d->values[i].value), name) == 0)
            return d->values[i].value;
    return 0;
}

int audit_query_class(const char *name)
{
    return enum_value(&redoubt__v1__audit_class__descriptor, name);
}

int audit_query_outcome(const char *name)
{
    return enum_value(&redoubt__v1__audit_outcome__descriptor, name);
}

/* ---- times ---- */

static int64_t date(const char *text)
{
    static const char *const forms[] = {"%Y-%m-%dT%H:%M:%S", "%Y-%m-%dT%H:%M", "%Y-%m-%d"};
    for (size_t i = 0; i < sizeof forms / sizeof *forms; i++) {
        struct tm t = {0};
        const char *rest = strptime(text, forms[i], &t);
        if (!rest)
            continue;
        int64_t fraction = 0;
        if (i == 0 && *rest == '.') {
            int64_t unit = 100;
            for (rest++; isdigit((unsigned char)*rest); rest++, unit /= 10)
                fraction += unit * (*rest - '0');
        }
        if (i < 2 && *rest == 'Z')
            rest++;
        struct tm given = t;
        int64_t at_s = (int64_t)timegm(&t);
        /* The 30th of February is no day: timegm made it another. */
        return *rest || at_s < 0 || t.tm_mday != given.tm_mday ? -1 : at_s * 1000 + fraction;
    }
    return -1;
}

int64_t audit_query_time(const char *text, int64_t now_unix_ms)
{
    static const struct {
        const char *unit;
        int64_t ms;
    } units[] = {{"", 0}, {"s", 1000}, {"m", 60000}, {"h", 3600000}, {"d", 86400000}};
    char *end;
    if (!isdigit((unsigned char)*text))
        return -1;
    errno = 0;
    int64_t n = strtoll(text, &end, 10);
    for (size_t i = 0; i < sizeof units / sizeof *units; i++) {
        if (errno || strcmp(end, units[i].unit) != 0)
            continue;
        if (i == 0)
            return n;
        return n > now_unix_ms / units[i].ms ? -1 : now_unix_ms - n * units[i].ms;
    }
    return date(text);
}

/* ---- views ---- */

#define ROLLBACK_MAX_MS (INT64_C(30) * 86400000) /* a job may hold over a holiday */

/* 0 = its end has no name of its own. */
#define ROW(name, ...)                                                                                               \
    {                                                                                                                \
        .action = name, .ends = { __VA_ARGS__ }                                                                      \
    }
#define SPAN(name, ...)                                                                                              \
    {                                                                                                                \
        .action = name, .ends = {__VA_ARGS__}, .spans = true                                                         \
    }
const struct audit_view audit_views[] = {
    {.verb = "froze",
     .summary = "agents were frozen, by a person or for a logic error",
     .rows = {ROW("agent.freeze", 0)}},
    {.verb = "unfroze", .summary = "agents were let go again", .rows = {ROW("agent.unfreeze", 0)}},
    {.verb = "overrode",
     .summary = "the backend's override: activated, renewed, released",
     .rows = {ROW("override.activate", 0), ROW("override.renew", 0), ROW("override.release", 0),
              ROW("override.dropped", 0)}},
    {.verb = "forced",
     .summary = "breakers were opened, closed or reset by a person",
     .people = true,
     .rows = {ROW("breaker.open", "breaker.forced_open"), ROW("breaker.close", "breaker.forced_closed"),
              ROW("breaker.reset", "breaker.closed", "breaker.half_open", "breaker.metrics_only")}},
    {.verb = "maintained",
     .summary = "targets were taken out for maintenance, and back",
     .people = true,
     .rows = {ROW("health.maintain", "health.maintenance"),
              ROW("health.resume", "health.unknown", "health.healthy")}},
    {.verb = "silenced",
     .summary = "alerts were silenced, and silences ended",
     .rows = {ROW("alert.silenced", 0), ROW("alert.unsilenced", 0)}},
    {.verb = "acknowledged",
     .summary = "problems were taken on, and given back",
     .rows = {ROW("alert.acknowledged", 0), ROW("alert.unacknowledged", 0)}},
    {.verb = "dropped",
     .summary = "waiting actions were dropped, or released after a freeze",
     .rows = {ROW("queue.drop", 0), ROW("queue.release", 0)}},
    {.verb = "restarted", .summary = "agents were restarted", .rows = {ROW("agent.restart", 0)}},
    {.verb = "rolled-back",
     .summary = "rollbacks were started, held, resumed, aborted; one that is still `intended` is under way",
     .rows = {ROW("rollback.ask", "rollback.asked"), ROW("agent.rollback", 0),
              SPAN("rollback.start", "rollback.done", "rollback.aborted", "rollback.refused"),
              ROW("rollback.hold", 0), ROW("rollback.resume", 0), ROW("rollback.abort", 0),
              ROW("rollback.emergency", 0)},
     .within_ms = ROLLBACK_MAX_MS},
    {.verb = "drilled",
     .summary = "failures were pretended, game days played",
     .rows = {ROW("agent.drill", "drill.start"), ROW("drill.end", 0), SPAN("drill.began", "drill.ended")}},
    {.verb = "declared",
     .summary = "incidents were opened by a person",
     .people = true,
     .rows = {ROW("incident.declared", 0)}},
    {.verb = "noted",
     .summary = "notes, decisions, lessons and follow-ups were written to incidents",
     .rows = {ROW("incident.note", 0)}},
    {.verb = "assigned", .summary = "incidents were given to somebody", .rows = {ROW("incident.assigned", 0)}},
    {.verb = "advanced",
     .summary = "incidents went on by a person's word, not by what was seen",
     .people = true,
     .rows = {ROW("incident.advanced", 0)}},
    {.verb = "closed",
     .summary = "incidents were closed by a person",
     .people = true,
     .rows = {ROW("incident.closed", 0)}},
    {.verb = "configured",
     .summary = "the configuration was changed, applied, rolled back",
     .rows = {ROW("config.accepted", 0), ROW("config.applied", 0), ROW("config.rolled_back", 0)}},
    {.verb = "backed-up",
     .summary = "copies were made and restored to see",
     .rows = {ROW("backup.ordered", 0), ROW("backup.test_ordered", 0), ROW("backup.saved", 0),
              ROW("backup.failed", 0), ROW("backup.tested", 0)}},
    {.verb = "rotated", .summary = "the trail's key was changed", .rows = {ROW("audit.rotate", 0)}},
};
const size_t audit_views_n = sizeof audit_views / sizeof *audit_views;

const struct audit_view *audit_view_of(const char *verb)
{
    for (size_t i = 0; i < audit_views_n; i++)
        if (strcmp(audit_views[i].verb, verb) == 0)
            return &audit_views[i];
    return NULL;
}

static bool ends(const struct audit_view_row *row, const char *action)
{
    for (size_t i = 0; i < sizeof row->ends / sizeof *row->ends && row->ends[i]; i++)
        if (strcmp(row->ends[i], action) == 0)
            return true;
    return false;
}

int64_t audit_view_within(const struct audit_view *v)
{
    return v->within_ms ? v->within_ms : AUDIT_ACT_MAX_MS;
}

static const struct audit_view_row *row_of(const struct audit_view *v, const char *action)
{
    for (size_t i = 0; i < sizeof v->rows / sizeof *v->rows && v->rows[i].action; i++)
        if (strcmp(v->rows[i].action, action) == 0 || ends(&v->rows[i], action))
            return &v->rows[i];
    return NULL;
}

/* Records that a service writes of itself name itself as who acts. */
static bool of_itself(const PB(AuditRecord) * r)
{
    return !*r->actor || strcmp(r->actor, r->service) == 0;
}

/* Where ends have names of their own, what a service does of itself under the act's own name is another thing: a breaker that opens. */
static bool same_act(const PB(AuditRecord) * began, const PB(AuditRecord) * r, const struct audit_view_row *row)
{
    bool by_service = of_itself(r) && (!row->ends[0] || ends(row, r->action));
    return strcmp(began->action, row->action) == 0 && strcmp(began->subject, r->subject) == 0 &&
           (strcmp(began->actor, r->actor) == 0 || of_itself(began) || by_service);
}

static const PB(AuditRecord) * first_of(const struct audit_act *a)
{
    return a->intended ? a->intended : a->ended;
}

static bool is_open(const struct audit_act *a)
{
    return a->intended && !a->ended;
}

enum audit_act_part audit_view_take(const struct audit_view *v, const struct audit_act *acts, size_t n,
                                    const PB(AuditRecord) * r, size_t *ret)
{
    const struct audit_view_row *row = row_of(v, r->action);
    if (!row)
        return AUDIT_ACT_NONE;
    bool named = strcmp(row->action, r->action) == 0;
    bool refused = r->outcome == REDOUBT__V1__AUDIT_OUTCOME__AUDIT_OUTCOME_REFUSED ||
                   r->outcome == REDOUBT__V1__AUDIT_OUTCOME__AUDIT_OUTCOME_FAILED;
    if (row->spans && named && !refused)
        return AUDIT_ACT_BEGINS;
    /* What ends a job may be recorded before it is done, as all that is strict is. */
    if (r->outcome == INTENDED && !(row->spans && !named))
        return named ? AUDIT_ACT_BEGINS : AUDIT_ACT_NONE;
    for (size_t i = n; i-- > 0 && first_of(&acts[i])->at_unix_ms >= r->at_unix_ms - audit_view_within(v);) {
        if (is_open(&acts[i]) && same_act(acts[i].intended, r, row)) {
            *ret = i;
            return AUDIT_ACT_ENDS;
        }
    }
    return v->people && of_itself(r) ? AUDIT_ACT_NONE : AUDIT_ACT_WHOLE;
}

const char *audit_act_actor(const struct audit_act *a)
{
    /* The one who meant it is the person; a service may have ended it. */
    if (a->intended && !of_itself(a->intended))
        return a->intended->actor;
    return a->ended ? a->ended->actor : a->intended->actor;
}

static const char *field(const PB(AuditRecord) * r, const char *key)
{
    for (size_t i = 0; r && i < r->n_fields; i++)
        if (strcmp(r->fields[i]->key, key) == 0)
            return r->fields[i]->value;
    return NULL;
}

const char *audit_act_reason(const struct audit_act *a)
{
    return a->intended && *a->intended->detail ? a->intended->detail : a->ended ? a->ended->detail : "";
}

const char *audit_act_until(const struct audit_act *a)
{
    const char *until = field(a->intended, "until");
    until = until ? until : field(a->ended, "until");
    return until ? until : "";
}

const char *audit_act_outcome(const struct audit_view *v, const struct audit_act *a,
                              char buf[static AUDIT_ACT_OUTCOME_MAX])
{
    if (!a->ended)
        return "intended";
    const struct audit_view_row *row = row_of(v, a->ended->action);
    const char *dot = strrchr(a->ended->action, '.');
    bool by_name = row && row->spans && dot && ends(row, a->ended->action);
    snprintf(buf, AUDIT_ACT_OUTCOME_MAX, "%s",
             by_name ? dot + 1 : wire_enum_name(&redoubt__v1__audit_outcome__descriptor, (int)a->ended->outcome));
    for (char *p = buf; *p; p++)
        *p = (char)(*p >= 'A' && *p <= 'Z' ? *p - 'A' + 'a' : *p);
    return buf;
}
