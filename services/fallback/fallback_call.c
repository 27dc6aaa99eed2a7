/* fallback_call.c - the override API: audited before it is called, in order per API, its end told to the decider.
 *
 * Activations go ahead even if the audit trail cannot be made durable (they are the stricter act; the gap is said); a
 * release does not. A release and an activation of one API are never under way together, since the order of two HTTP requests is
 * nobody's promise. */
#include "common/clock.h"
#include "common/log.h"
#include "common/metric.h"
#include "fallback/fallback_shell.h"
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

METRIC_DEFINE(calls_made, METRIC_COUNTER, "redoubt_fallback_override_calls_total", "Calls of override APIs.");
METRIC_DEFINE(calls_failed, METRIC_COUNTER, "redoubt_fallback_override_failures_total",
              "Calls of override APIs without success.");

struct call {
    struct service *s;
    uint64_t generation; /* of the lease */
    char agent[NAME_MAX_LEN + 1];
    char *url, *path, *body, *auth_header, *token; /* as they were when it began; token is a secret */
    int auth;
    int64_t duration_ms;
    enum fallback_call_kind kind;
    char activation[FALLBACK_KEY_TEXT];
    char key[FALLBACK_KEY_TEXT + 32];
    char why[FALLBACK_REASON_TEXT + 384];
    uint64_t epoch;
    bool waits; /* for another call of the same API */
    int64_t began_ms;
    void *handle; /* while it is at the backend */
    struct call *next;
};

static const char *const names[] = {[FALLBACK_CALL_ACTIVATE] = "override.activate",
                                    [FALLBACK_CALL_RENEW] = "override.renew",
                                    [FALLBACK_CALL_RELEASE] = "override.release"};

static bool has_override(const struct set_agent *set)
{
    return set->override.url && set->override.url[0];
}

/* ---- who else needs the same API ---- */

bool call_needed_elsewhere(const struct agent *a)
{
    if (a->f.doc.override_mode == FALLBACK_OVERRIDE_OFF || a->f.doc.llm_index < 0 || !has_override(a->set))
        return false; /* nobody asks */
    for (const struct agent *b = a->sh->agents; b; b = b->hh.next)
        if (b != a && has_override(b->set) && b->known && b->f.doc.llm_index < 0 &&
            strcmp(a->set->override.url, b->set->override.url) == 0)
            return true;
    return false;
}

static bool must_wait(const struct shell *sh, const struct call *c)
{
    for (const struct call *o = sh->calls; o; o = o->next)
        if (o != c && !o->waits && strcmp(o->url, c->url) == 0 &&
            (o->kind == FALLBACK_CALL_RELEASE) != (c->kind == FALLBACK_CALL_RELEASE))
            return true;
    return false;
}

/* ---- the end ---- */

static void begin(struct call *c);

static void call_free(struct call *c)
{
    free(c->url);
    free(c->path);
    free(c->body);
    free(c->auth_header);
    if (c->token)
        explicit_bzero(c->token, strlen(c->token));
    free(c->token);
    free(c);
}

static void unlink_call(struct shell *sh, struct call *c)
{
    struct call **at = &sh->calls;
    while (*at != c)
        at = &(*at)->next;
    *at = c->next;
}

static void audit(const struct call *c, int outcome, int audit_class, const char *detail, outbox_cb done, void *ctx)
{
    PB(AuditRecord) r = PB_INIT(AUDIT_RECORD);
    r.action = (char *)names[c->kind];
    r.subject = (char *)c->agent;
    r.outcome = (Redoubt__V1__AuditOutcome)outcome;
    r.audit_class = (Redoubt__V1__AuditClass)audit_class;
    r.epoch = c->epoch;
    r.detail = (char *)detail;
    service_audit(c->s, &r, done, ctx);
}

/* Calls that waited for this one go on; then the decider learns of the end. */
static void finish(struct call *c, bool ok, const char *detail)
{
    struct shell *sh = c->s->state;
    if (sh) {
        unlink_call(sh, c);
        for (struct call *o = sh->calls, *next; o; o = next) {
            next = o->next;
            if (o->waits && !must_wait(sh, o)) {
                o->waits = false;
                begin(o);
                next = sh->calls; /* begin() may have ended it at once */
            }
        }
        struct agent *a = shell_agent(sh, c->agent);
        struct fallback_event ev = {
            .kind = FALLBACK_CALLED, .failed = !ok, .call = c->kind, .called_at_ms = c->began_ms};
        snprintf(ev.key, sizeof ev.key, "%s", c->activation);
        snprintf(ev.detail, sizeof ev.detail, "%s", detail);
        if (a && c->generation == sh->generation)
            agent_event(a, &ev, NULL);
    }
    call_free(c);
}

static void on_answer(void *ctx, bool ok, const char *detail)
{
    struct call *c = ctx;
    c->handle = NULL;
    if (c->s->state && !ok) {
        metric_add(&calls_failed, 1);
        audit(c, REDOUBT__V1__AUDIT_OUTCOME__AUDIT_OUTCOME_FAILED, REDOUBT__V1__AUDIT_CLASS__AUDIT_CLASS_CONTINUITY,
              detail, NULL, NULL);
        log_warn("override call failed", F_STR("agent", c->agent), F_STR("call", names[c->kind]),
                 F_STR("why", detail));
    } else if (c->s->state) {
        log_info("override call succeeded", F_STR("agent", c->agent), F_STR("call", names[c->kind]),
                 F_STR("key", c->key), F_STR("detail", detail));
    }
    finish(c, ok, detail);
}

/* ---- the way ---- */

/* Between the decision and the call time has passed: is it still ours to make, and still right? */
static const char *obstacle(struct shell *sh, const struct call *c)
{
    struct agent *a = shell_agent(sh, c->agent);
    if (!a || c->generation != sh->generation || !shell_leads(sh))
        return "this replica does not lead any more";
    if (strcmp(a->f.doc.override_key, c->activation) != 0)
        return "the activation is history";
    if (c->kind == FALLBACK_CALL_RELEASE && (a->f.doc.llm_index < 0 || call_needed_elsewhere(a)))
        return "the override is needed again";
    return NULL;
}

static void on_audited(void *ctx, int status, const char *error)
{
    struct call *c = ctx;
    struct shell *sh = c->s->state;
    const char *no = sh ? obstacle(sh, c) : "the service ends";
    if (no) {
        finish(c, false, no);
        return;
    }
    if (status != 0 && c->kind == FALLBACK_CALL_RELEASE) {
        char detail[300];
        snprintf(detail, sizeof detail, "not released, since the audit trail cannot be written: %.200s", error);
        finish(c, false, detail);
        return;
    }
    if (status != 0) {
        log_error("override call goes ahead without its audit record: it is the stricter act",
                  F_STR("agent", c->agent), F_STR("why", error));
        audit(c, REDOUBT__V1__AUDIT_OUTCOME__AUDIT_OUTCOME_INTENDED, REDOUBT__V1__AUDIT_CLASS__AUDIT_CLASS_GAP,
              "the record before the act could not be made durable", NULL, NULL);
    }
    metric_add(&calls_made, 1);
    struct override_request r = {.kind = c->kind,
                                 .url = c->url,
                                 .path = c->path,
                                 .body = c->body,
                                 .token = c->token,
                                 .auth = c->auth,
                                 .auth_header = c->auth_header,
                                 .key = c->key,
                                 .agent = c->agent,
                                 .epoch = c->epoch,
                                 .duration_ms = c->duration_ms,
                                 .justification = c->why,
                                 .baseline_version = sh->fx.baseline->version,
                                 .baseline_sha256 = sh->fx.baseline->sha256};
    c->handle = sh->api->send(c->s->http, &r, on_answer, c);
}

static void begin(struct call *c)
{
    c->began_ms = clock_shared_ms();
    audit(c, REDOUBT__V1__AUDIT_OUTCOME__AUDIT_OUTCOME_INTENDED, REDOUBT__V1__AUDIT_CLASS__AUDIT_CLASS_STRICT, c->why,
          on_audited, c);
}

void call_start(struct agent *a, const struct fallback_effect *e)
{
    const struct set_override *set = &a->set->override;
    struct call *c = calloc(1, sizeof *c);
    if (!c)
        abort(); /* the decider waits for its end */
    c->s = a->sh->s;
    c->generation = a->sh->generation;
    c->kind = e->call;
    c->epoch = a->f.doc.epoch;
    c->duration_ms = set->duration_ms;
    snprintf(c->agent, sizeof c->agent, "%s", a->name);
    snprintf(c->activation, sizeof c->activation, "%s", a->f.doc.override_key);
    snprintf(c->key, sizeof c->key, "%s", e->key);
    c->url = strdup(set->url);
    c->path = strdup(e->call == FALLBACK_CALL_RELEASE ? set->release_path : set->activate_path);
    c->body = strdup(e->call == FALLBACK_CALL_RELEASE ? set->release_body : set->activate_body);
    c->auth = set->auth;
    c->auth_header = strdup(set->auth_header);
    c->token = strdup(set->token ? set->token : "");
    if (!c->url || !c->path || !c->body || !c->auth_header || !c->token)
        abort();
    char baseline[256];
    baseline_say(a->sh, baseline, sizeof baseline);
    snprintf(c->why, sizeof c->why, "Redoubt, agent %s, epoch %" PRIu64 ": %s%s%s", a->name, a->f.doc.epoch,
             a->f.doc.reason, *baseline ? "; " : "", baseline);
    c->waits = must_wait(a->sh, c);
    struct call **end = &a->sh->calls;
    while (*end)
        end = &(*end)->next;
    *end = c;
    if (!c->waits)
        begin(c);
}

/* The lease is lost: whoever leads next may activate, and must not be undone by a release of ours. */
void calls_cancel_releases(struct shell *sh)
{
    for (struct call *c = sh->calls; c; c = c->next)
        if (c->handle && c->kind == FALLBACK_CALL_RELEASE)
            sh->api->cancel(c->handle);
}

/* At the end of the service. Those under way are freed by their own callbacks, which find no state any more. */
void calls_free(struct shell *sh)
{
    for (struct call *c = sh->calls, *next; c; c = next) {
        next = c->next;
        if (c->waits)
            call_free(c);
    }
    sh->calls = NULL;
}
