/* drill_marks.c - what a drill's steps wait for: messages of the suite, what simulators have seen, files. */
#include "cli/drill_marks.h"
#include "audit/audit_verify.h"
#include "cli/event_line.h"
#include "common/clock.h"
#include <dirent.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#define PBE(x) REDOUBT__V1__##x

/* ---- messages ---- */

static bool is(const void *message, const ProtobufCMessageDescriptor *desc)
{
    return ((const ProtobufCMessage *)message)->descriptor == desc;
}

static void describe(const void *message, char *detail, size_t size)
{
    struct event_line l;
    if (event_line(message, &l))
        snprintf(detail, size, "%s", l.text);
}

DRILL_MARK_MESSAGE(drill_sees_health)
{
    (void)d;
    const PB(HealthChanged) *h = message;
    if (!is(message, PB_DESC(health_changed)) || strcmp(h->target, m->who) != 0 || (int)h->state != m->what)
        return false;
    snprintf(detail, size, "%s", h->reason);
    return true;
}

DRILL_MARK_MESSAGE(drill_sees_breaker)
{
    (void)d;
    const PB(BreakerChanged) *b = message;
    if (!is(message, PB_DESC(breaker_changed)) || strcmp(b->target, m->who) != 0 || (int)b->state != m->what)
        return false;
    describe(message, detail, size);
    return true;
}

DRILL_MARK_MESSAGE(drill_sees_directive)
{
    const PB(Directive) *x = message;
    const PB(AgentState) *s = is(message, PB_DESC(directive)) ? x->state : NULL;
    if (!s || strcmp(s->agent, DRILL_AGENT) != 0 || (m->what && (int)s->posture != m->what) ||
        (m->llm && strcmp(s->llm_target, m->llm) != 0) || (m->step && (int)x->step != m->step) ||
        (m->percent && (int)s->ramp_percent != m->percent && (int)s->load_percent != m->percent))
        return false;
    d->seen.epoch = s->epoch;
    if (s->automation == PBE(AUTOMATION_MODE__AUTOMATION_MODE_FROZEN)) {
        d->seen.frozen_epoch = s->epoch;
        d->seen.fenced_ms = 0;
    }
    describe(message, detail, size);
    return true;
}

DRILL_MARK_MESSAGE(drill_sees_ack)
{
    const PB(DirectiveAck) *a = message;
    if (!is(message, PB_DESC(directive_ack)) || d->seen.epoch == 0 || a->epoch < d->seen.epoch ||
        a->status == PBE(ACK_STATUS__ACK_STATUS_FAILED) || (m->llm && strcmp(a->llm_target, m->llm) != 0))
        return false;
    describe(message, detail, size);
    return true;
}

static bool good_call(const PB(OutcomeReport) * r, const char *target)
{
    return !r->probe && strcmp(r->reporter, DRILL_AGENT) == 0 && strcmp(r->target, target) == 0 &&
           r->outcome == PBE(OUTCOME__OUTCOME_SUCCESS);
}

DRILL_MARK_MESSAGE(drill_sees_work)
{
    (void)d, (void)detail, (void)size;
    if (is(message, PB_DESC(outcome_report)))
        return good_call(message, m->who);
    const PB(OutcomeBatch) *b = message;
    for (size_t i = 0; is(message, PB_DESC(outcome_batch)) && i < b->n_reports; i++)
        if (good_call(b->reports[i], m->who))
            return true;
    return false;
}

static bool alert_has(const PB(Alert) * a, const char *text)
{
    for (size_t i = 0; i < a->n_actions_taken; i++)
        if (strstr(a->actions_taken[i], text))
            return true;
    return strstr(a->summary, text) || strstr(a->detail, text);
}

DRILL_MARK_MESSAGE(drill_sees_alert)
{
    char key[256];
    const PB(Alert) *a = message;
    snprintf(key, sizeof key, "agent/" DRILL_AGENT "/%s", m->who);
    if (!is(message, PB_DESC(alert)) || strcmp(a->dedup_key, key) != 0 || (a->resolved != 0) != m->resolved ||
        (int)a->severity < m->what || (m->has && !alert_has(a, m->has)))
        return false;
    /* What is critical here stands still until a person decides, and must say so. */
    if (!m->resolved && m->what == PBE(SEVERITY__SEVERITY_CRITICAL) && !a->manual_intervention_required)
        return false;
    snprintf(d->seen.alert_id, sizeof d->seen.alert_id, "%s", a->id);
    snprintf(d->seen.alert_key, sizeof d->seen.alert_key, "%s", a->dedup_key);
    describe(message, detail, size);
    return true;
}

DRILL_MARK_MESSAGE(drill_sees_any_receipt)
{
    (void)d;
    const PB(DeliveryReceipt) *r = message;
    if (!is(message, PB_DESC(delivery_receipt)) || strcmp(r->channel, m->who) != 0 || (int)r->status != m->what)
        return false;
    describe(message, detail, size);
    return true;
}

DRILL_MARK_MESSAGE(drill_sees_receipt)
{
    const PB(DeliveryReceipt) *r = message;
    return is(message, PB_DESC(delivery_receipt)) && strcmp(r->dedup_key, d->seen.alert_key) == 0 &&
           drill_sees_any_receipt(d, m, message, detail, size);
}

DRILL_MARK_MESSAGE(drill_sees_monitoring)
{
    (void)d, (void)m;
    const PB(MonitorReport) *r = message;
    if (!is(message, PB_DESC(monitor_report)) || strcmp(r->agent, DRILL_AGENT) != 0)
        return false;
    size_t bad = 0;
    for (size_t i = 0; i < r->n_checks; i++)
        bad += !r->checks[i]->ok;
    snprintf(detail, size, "%zu checks by %s, %zu not well", r->n_checks, r->by_agent ? "the agent" : "the suite",
             bad);
    return true;
}

DRILL_MARK_MESSAGE(drill_sees_fenced)
{
    (void)m;
    const PB(Fenced) *f = message;
    if (!is(message, PB_DESC(fenced)) || d->seen.frozen_epoch == 0 || f->epoch < d->seen.frozen_epoch)
        return false;
    d->seen.fenced_ms = clock_wall_ms();
    snprintf(detail, size, "%s: nothing older than #%" PRIu64 " in hand", f->instance, f->epoch);
    return true;
}

DRILL_MARK_MESSAGE(drill_sees_queued)
{
    (void)d, (void)m;
    const PB(QueuedAction) *q = message;
    if (!is(message, PB_DESC(queued_action)))
        return false;
    snprintf(detail, size, "%s", q->reason);
    return true;
}

DRILL_MARK_MESSAGE(drill_sees_incident)
{
    (void)d;
    const PB(IncidentChanged) *i = message;
    if (!is(message, PB_DESC(incident_changed)) || (m->what && (int)i->phase != m->what))
        return false;
    describe(message, detail, size);
    return true;
}

DRILL_MARK_MESSAGE(drill_sees_written)
{
    (void)m;
    const PB(IncidentChanged) *i = message;
    if (!is(message, PB_DESC(incident_changed)) || !*i->report)
        return false;
    snprintf(detail, size, "%s/data/continuity/reports/%s.html", d->stack.dir, i->report);
    return true;
}

DRILL_MARK_LOOK(drill_look_posture)
{
    snprintf(detail, size, "#%" PRIu64, d->seen.newest_epoch);
    return d->seen.posture == m->what && d->seen.newest_epoch > 0 && d->seen.acked_epoch >= d->seen.newest_epoch;
}

/* ---- what the simulated backend has seen ---- */

/* Last request to this path. */
static const json_t *last_request(const struct drill *d, const char *path)
{
    const json_t *list = json_object_get(drill_page(d, "backend"), "requests");
    const json_t *found = NULL, *r;
    size_t i;
    json_array_foreach((json_t *)list, i, r)
    {
        const char *p = json_string_value(json_object_get(r, "path"));
        if (p && strcmp(p, path) == 0)
            found = r;
    }
    return found;
}

DRILL_MARK_LOOK(drill_look_override)
{
    const json_t *r = last_request(d, m->who);
    const json_t *state = json_object_get(drill_page(d, "backend"), "override");
    const char *text = json_string_value(json_object_get(r, "body"));
    json_t *body = json_loads(text ? text : "", 0, NULL);
    bool yes = r && json_is_true(json_object_get(state, "active")) &&
               json_integer_value(json_object_get(body, "duration")) == m->what;
    const char *why = json_string_value(json_object_get(body, "justification"));
    if (yes)
        snprintf(detail, size, "POST %s duration %d: %s", m->who, m->what, why ? why : "");
    json_decref(body);
    return yes;
}

DRILL_MARK_LOOK(drill_look_released)
{
    const json_t *state = json_object_get(drill_page(d, "backend"), "override");
    bool yes = last_request(d, m->who) && json_is_false(json_object_get(state, "active"));
    if (yes)
        snprintf(detail, size, "POST %s", m->who);
    return yes;
}

DRILL_MARK_LOOK(drill_look_executed)
{
    size_t n = drill_executed(d);
    if (n < d->seen.executed + (size_t)m->what)
        return false;
    snprintf(detail, size, "%zu actions executed so far", n);
    return true;
}

DRILL_MARK_LOOK(drill_look_settled)
{
    struct drill_count n;
    const json_t *page = drill_page(d, "backend");
    drill_ledger_count(&d->ledger, page, &n);
    if (n.doubled > 0)
        drill_fail(d, "the backend has executed %u actions twice", n.doubled);
    if (n.out_of_order > 0)
        drill_fail(d, "%u of the actions that waited were executed out of order", n.out_of_order);
    snprintf(detail, size, "%u accepted, %u of them had waited, %u refused", n.accepted, n.queued, n.refused);
    return !d->failed && page && n.lost == 0 && n.accepted >= (unsigned)m->what;
}

DRILL_MARK_LOOK(drill_look_silence)
{
    (void)m;
    const json_t *page = drill_page(d, "backend"), *done = json_object_get(page, "actions"), *a;
    unsigned later = 0;
    size_t i;
    if (!page || d->seen.fenced_ms == 0)
        return false;
    json_array_foreach((json_t *)done, i, a)
    {
        if (json_integer_value(json_object_get(a, "at_unix_ms")) <= d->seen.fenced_ms)
            continue;
        later++;
        const char *key = json_string_value(json_object_get(a, "key"));
        const char *header = json_string_value(json_object_get(a, "epoch_header"));
        uint64_t epoch = header ? strtoull(header, NULL, 10) : key ? drill_ledger_epoch(&d->ledger, key) : 0;
        if (epoch < d->seen.frozen_epoch)
            drill_fail(d, "the backend has executed %s of epoch %" PRIu64 " after the freeze of epoch %" PRIu64,
                       key ? key : "an action without a key", epoch, d->seen.frozen_epoch);
    }
    snprintf(detail, size, "0 of an older epoch; %u of a later one", later);
    return !d->failed;
}

/* ---- files ---- */

DRILL_MARK_LOOK(drill_look_file)
{
    char path[2 * DRILL_PATH], line[16384];
    bool found = false;
    snprintf(path, sizeof path, "%s/%s", d->stack.dir, m->who);
    FILE *f = *d->seen.alert_id ? fopen(path, "re") : NULL;
    while (f && !found && fgets(line, sizeof line, f))
        found = strstr(line, d->seen.alert_id) != NULL;
    if (f)
        fclose(f);
    snprintf(detail, size, "%s", path);
    return found;
}

DRILL_MARK_LOOK(drill_look_log)
{
    (void)detail, (void)size;
    return drill_stack_log_has(&d->stack, drill_stack_proc(&d->stack, m->who), m->has);
}

DRILL_MARK_LOOK(drill_look_trail)
{
    char path[3 * DRILL_PATH];
    struct err e = {""};
    uint64_t records = 0, trails = 0;
    snprintf(path, sizeof path, "%s/data/audit", d->stack.dir);
    DIR *dir = opendir(path);
    struct audit_report *r = calloc(1, sizeof *r);
    for (struct dirent *f; dir && r && !d->failed && (f = readdir(dir));) {
        if (f->d_name[0] == '.')
            continue;
        snprintf(path, sizeof path, "%s/data/audit/%s", d->stack.dir, f->d_name);
        *r = (struct audit_report){0};
        int found = audit_verify(path, NULL, r, &e);
        if (found != 0)
            drill_fail(d, "%s: %s", path, found < 0 ? e.text : r->problems[0].what);
        records += r->records;
        trails++;
    }
    if (dir)
        closedir(dir);
    free(r);
    snprintf(detail, size, "%" PRIu64 " records, %" PRIu64 " trail%s", records, trails, trails == 1 ? "" : "s");
    return !d->failed && records >= (uint64_t)m->what;
}
