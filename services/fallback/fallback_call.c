/* fallback_call.c - the override API: audited before it is called, in order per API, its end told to the decider.
 *
 * Activations go ahead even if the audit trail cannot be made durable (they are the stricter act; the gap is said); a
 * release does not. A release and an activation of one API are never under way together, since the order of two HTTP requests is
 * nobody's promise: of this replica by what it has in hand, of others by their claims (fallback_claim.c). */
#include "common/clock.h"
#include "common/log.h"
#include "common/metric.h"
#include "fallback/fallback_shell.h"
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <utlist.h>

METRIC_DEFINE(calls_made, METRIC_COUNTER, "redoubt_fallback_override_calls_total", "Calls of override APIs.");
METRIC_DEFINE(calls_failed, METRIC_COUNTER, "redoubt_fallback_override_failures_total",
              "Calls of override APIs without success.");

#define ASK_MS       50   /* while another replica is releasing it */
#define CLAIM_OLD_MS 2000 /* a claim that was answered this late may end before the call does */

struct call {
    struct service *s;
    uint64_t generation; /* of its partition */
    unsigned partition;
    struct api *api;
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
    bool claimed; /* a release: Redis knows of it */
    bool timed;   /* the timer is in use */
    struct loop_timer timer;
    int64_t asked_mono_ms;
    struct call *prev, *next;
};

static const char *const names[] = {[FALLBACK_CALL_ACTIVATE] = "override.activate",
                                    [FALLBACK_CALL_RENEW] = "override.renew",
                                    [FALLBACK_CALL_RELEASE] = "override.release"};

/* ---- calls of the same API ---- */

static bool is_release(const struct call *c)
{
    return c->kind == FALLBACK_CALL_RELEASE;
}

static bool must_wait(const struct call *c)
{
    return c->api->at_work[!is_release(c)] > 0;
}

static void begin(struct call *c);

static void go(struct call *c)
{
    c->waits = false;
    c->api->at_work[is_release(c)]++;
    begin(c);
}

/* The first that waits, if nothing keeps it from going on. */
static struct call *next_to_go(struct api *x)
{
    for (struct call *c = x->calls; c; c = c->next)
        if (c->waits && !must_wait(c))
            return c;
    return NULL;
}

/* One has ended: those that waited for it go on. */
static void go_on(struct api *x, bool release)
{
    if (x->at_work[release] > 0)
        return; /* of this kind some are still at work: who waited waits on */
    for (struct call *c; (c = next_to_go(x));)
        go(c);
}

/* ---- the end ---- */

static void freed(void *ctx)
{
    struct call *c = ctx;
    free(c->url);
    free(c->path);
    free(c->body);
    free(c->auth_header);
    if (c->token)
        explicit_bzero(c->token, strlen(c->token));
    free(c->token);
    free(c);
}

static void call_free(struct call *c)
{
    if (c->timed)
        loop_timer_close(&c->timer, freed);
    else
        freed(c);
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
        if (c->claimed)
            claim_released(c->s, c->url, c->key);
        DL_DELETE(c->api->calls, c);
        c->api->at_work[is_release(c)]--;
        go_on(c->api, is_release(c));
        struct agent *a = shell_agent(sh, c->agent);
        struct fallback_event ev = {
            .kind = FALLBACK_CALLED, .failed = !ok, .call = c->kind, .called_at_ms = c->began_ms};
        snprintf(ev.key, sizeof ev.key, "%s", c->activation);
        snprintf(ev.detail, sizeof ev.detail, "%s", detail);
        if (a && c->generation == agent_generation(a))
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
    if (!a || c->generation != agent_generation(a) || agent_fence(a) == 0)
        return "this replica does not act for the agent any more";
    if (strcmp(a->f.doc.override_key, c->activation) != 0)
        return "the activation is history";
    if (c->kind == FALLBACK_CALL_RELEASE && (fallback_without_llm(&a->f.doc) || agent_needed_elsewhere(a)))
        return "the override is needed again";
    return NULL;
}

static void send_call(struct call *c)
{
    const struct shell *sh = c->s->state;
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

static void ask(struct call *c);

static void on_waited(void *ctx)
{
    struct call *c = ctx;
    const char *no = c->s->state ? obstacle(c->s->state, c) : "the service ends";
    if (no)
        finish(c, false, no);
    else
        ask(c);
}

/* An activation: Redis knows that it is needed. Nobody knows how long another's release takes: it is asked again. */
static void on_need(void *ctx, bool answered, int64_t wait_ms)
{
    struct call *c = ctx;
    const char *no = c->s->state ? obstacle(c->s->state, c) : "the service ends";
    if (no) {
        finish(c, false, no);
    } else if (answered && wait_ms > 0) {
        if (!c->timed)
            loop_timer_init(&c->s->loop, &c->timer, on_waited, c);
        c->timed = true;
        loop_timer_start(&c->timer, wait_ms < ASK_MS ? wait_ms : ASK_MS, 0);
    } else {
        send_call(c);
    }
}

static void on_claim(void *ctx, bool answered, int64_t ours)
{
    struct call *c = ctx;
    const char *no = c->s->state ? obstacle(c->s->state, c) : "the service ends";
    c->claimed = answered && ours == 1;
    if (!no && !answered)
        no = "not released, since the shared state (Redis) does not say whether others need it";
    else if (!no && !ours)
        no = "an agent of another replica needs the override";
    else if (!no && clock_mono_ms() - c->asked_mono_ms > CLAIM_OLD_MS)
        no = "this replica was too slow to be sure of its claim";
    if (no)
        finish(c, false, no);
    else
        send_call(c);
}

static void ask(struct call *c)
{
    c->asked_mono_ms = clock_mono_ms();
    if (is_release(c))
        claim_release(c->s, c->url, c->agent, c->key, on_claim, c);
    else
        claim_need(c->s, c->url, c->agent, c->duration_ms, on_need, c);
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
    ask(c);
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
    c->generation = agent_generation(a);
    c->partition = a->partition;
    c->api = shell_api(a->sh, set->url);
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
    c->waits = true;
    DL_APPEND(c->api->calls, c);
    if (!must_wait(c))
        go(c);
}

/* Another replica's agent needs it from now on, and must not be undone by a release of ours. */
void calls_cancel_releases(struct shell *sh, struct api *x)
{
    for (struct call *c = x->calls; c; c = c->next)
        if (c->handle && is_release(c))
            sh->api->cancel(c->handle);
}

/* The partition is lost: whoever acts for its agents next may activate, and must not be undone by a release of ours. */
void calls_cancel_releases_of(struct shell *sh, unsigned partition)
{
    for (struct api *x = sh->apis; x; x = x->hh.next)
        for (struct call *c = x->calls; c; c = c->next)
            if (c->handle && is_release(c) && c->partition == partition)
                sh->api->cancel(c->handle);
}

/* At the end of the service. Those under way are freed by their own callbacks, which find no state any more. */
void calls_free(struct shell *sh)
{
    for (struct api *x = sh->apis; x; x = x->hh.next) {
        for (struct call *c = x->calls, *next; c; c = next) {
            next = c->next;
            if (c->waits || (c->timed && loop_timer_active(&c->timer)))
                call_free(c);
        }
        x->calls = NULL;
    }
}
