/* rollback_seen.c - what runs is watched: every few seconds without a job, and by the checks of a job when the decider asks for them.
 *
 * An observation: what stands (executor, traffic) -> the current version's record is on the stream -> its checks -> ROLLBACK_SEEN. Nothing is
 * changed by it; a version whose record is not on the stream is not seen at all, because it could not be gone back to. */
#include "common/clock.h"
#include "common/log.h"
#include "common/metric.h"
#include "rollback/rollback_shell.h"
#include <stdlib.h>
#include <string.h>

METRIC_DEFINE(observed, METRIC_COUNTER, "redoubt_rollback_observations_total", "Looks at what runs, without a job.");
METRIC_DEFINE(observe_ms, METRIC_GAUGE, "redoubt_rollback_observation_ms",
              "How long the last one took, with its checks.");
METRIC_DEFINE(unseen, METRIC_COUNTER, "redoubt_rollback_unseen_total",
              "Observations of which the executor did not answer.");
METRIC_DEFINE(checked, METRIC_COUNTER, "redoubt_rollback_checks_total", "Rounds of checks made in jobs.");

/* ---- sides for the checks ---- */

static void side_fill(struct call *c, struct check_side *s, int place, const char *id, int side)
{
    const struct rollback_version *v = rollback_doc_version(c->d->doc, id);
    *s = (struct check_side){.version = "", .name = "", .digest = "", .side = side};
    if (!*id)
        return;
    snprintf(c->side_version[place], ROLLBACK_ID, "%s", id);
    snprintf(c->side_name[place], ROLLBACK_NAME, "%s", v ? v->name : c->found.name);
    snprintf(c->side_digest[place], sizeof c->side_digest[place], "%s", v ? v->digest : c->found.digest);
    s->version = c->side_version[place];
    s->name = c->side_name[place];
    s->digest = c->side_digest[place];
    call_addresses(c, place, id);
    s->addresses = c->addresses[place];
    s->n = c->n_addresses[place];
    for (size_t i = 0; i < c->view.n; i++)
        s->there |= c->view.instances[i].running && strcmp(c->view.instances[i].version, id) == 0;
}

/* ---- in a job ---- */

static void on_samples(void *ctx, const struct rollback_sample *samples, size_t n)
{
    struct call *c = ctx;
    struct deployment *d = c->d;
    struct queued *q = calloc(1, sizeof *q);
    if (!q)
        abort(); /* the decider waits for it */
    q->kind = ROLLBACK_SAMPLES;
    q->u.checked.suite = c->e.suite;
    q->u.checked.samples = n > 0 ? malloc(n * sizeof *samples) : NULL;
    if (q->u.checked.samples) {
        memcpy(q->u.checked.samples, samples, n * sizeof *samples);
        q->u.checked.n = n;
    }
    call_end(c);
    d->checking = false;
    metric_add(&checked, 1);
    deployment_event(d, q);
}

static void run_checks(struct call *c)
{
    struct deployment *d = c->d;
    const struct rollback_job *j = &d->doc->job;
    struct check_side sides[2];
    if (!d->open) {
        on_samples(c, NULL, 0);
        return;
    }
    side_fill(c, &sides[0], 0, j->from, j->from_side);
    side_fill(c, &sides[1], 1, j->to, !j->from_side);
    checks_run(d->checks, sides, c->e.suite, on_samples, c);
}

void deployment_check(struct deployment *d, const struct rollback_effect *e)
{
    if (d->checking)
        return;
    d->checking = true;
    struct call *c = call_new(d, e);
    if (d->open && d->rule.judge.n == 0)
        on_samples(c, NULL, 0); /* there are no checks: nobody need be asked where they would go */
    else
        call_view(c, run_checks);
}

/* ---- without one ---- */

static void over(struct call *c)
{
    pace_seen(c->d);
    call_end(c);
}

/* A check that says nothing about a version alone, or has not seen enough calls yet, does not speak against it. */
static bool excused(const struct rollback_check_rule *r, const struct rollback_sample *samples, size_t n,
                    size_t check)
{
    if (r->compare && r->most < 0)
        return true;
    for (size_t i = 0; i < n; i++)
        if (samples[i].check == check)
            return samples[i].kind == ROLLBACK_COUNTS && samples[i].data[1];
    return false;
}

static void judge(struct call *c, struct queued *q, const struct rollback_sample *samples, size_t n)
{
    struct deployment *d = c->d;
    const struct rollback_judge_rule *r = &d->rule.judge;
    int64_t now = clock_shared_ms();
    size_t at = 0;
    if (strcmp(d->observed_version, c->found.id) != 0) {
        memset(&d->observed, 0, sizeof d->observed);
        snprintf(d->observed_version, sizeof d->observed_version, "%s", c->found.id);
        d->observed_step_ms = 0;
    }
    if (now - d->observed_step_ms >= d->rule.step_ms) {
        rollback_judge_step(&d->observed, r);
        d->observed_step_ms = now;
    }
    d->observed.quiet[0] = true;
    d->observed.quiet[1] = false;
    q->u.seen.worse = rollback_judge_take(&d->observed, r, samples, n, false, now, &at) == ROLLBACK_WORSE;
    q->u.seen.passed = !q->u.seen.worse;
    for (size_t i = 0; i < r->n && i < d->observed.n; i++) {
        const struct rollback_check_state *s = &d->observed.checks[i];
        bool failed = s->outcome == REDOUBT__V1__CHECK_OUTCOME__CHECK_OUTCOME_FAILED;
        bool silent = s->outcome != REDOUBT__V1__CHECK_OUTCOME__CHECK_OUTCOME_PASSED && !failed &&
                      !r->checks[i].suite && !excused(&r->checks[i], samples, n, i);
        if (!failed && !silent)
            continue;
        q->u.seen.passed = false;
        if (!q->u.seen.why[0] || (q->u.seen.worse && i == at))
            snprintf(q->u.seen.why, sizeof q->u.seen.why, "%.64s: %.160s", r->checks[i].name,
                     s->detail[0] ? s->detail
                     : failed     ? "failed"
                                  : "it says nothing");
    }
}

static void on_seen_samples(void *ctx, const struct rollback_sample *samples, size_t n)
{
    struct call *c = ctx;
    struct deployment *d = c->d;
    struct queued *q = calloc(1, sizeof *q);
    int side = rollback_sight_current(&c->sight);
    if (!q || side < 0 || rollback_busy(d->doc)) { /* a job has begun meanwhile: it looks by itself */
        free(q);
        over(c);
        return;
    }
    const struct rollback_side *s = &c->sight.side[side];
    q->kind = ROLLBACK_SEEN;
    q->u.seen.version = c->found;
    q->u.seen.sight = c->sight;
    q->u.seen.healthy = s->instances > 0 && s->ready == s->instances;
    judge(c, q, samples, n);
    metric_add(&observed, 1);
    metric_set(&observe_ms, clock_mono_ms() - c->began_mono_ms);
    over(c);
    deployment_event(d, q);
}

static void check_current(struct call *c)
{
    struct deployment *d = c->d;
    struct check_side sides[2];
    if (!d->open) {
        over(c);
        return;
    }
    side_fill(c, &sides[0], 0, "", 0);
    side_fill(c, &sides[1], 1, c->found.id, rollback_sight_current(&c->sight));
    if (d->rule.judge.n > 0)
        checks_run(d->checks, sides, false, on_seen_samples, c);
    else
        on_seen_samples(c, NULL, 0);
}

/* ---- its record ---- */

static bool on_stream(const struct deployment *d, const char *id)
{
    for (size_t i = 0; i < d->n_on_stream; i++)
        if (strcmp(d->on_stream[i], id) == 0)
            return true;
    return false;
}

static void now_on_stream(struct deployment *d, const char *id)
{
    if (on_stream(d, id))
        return;
    snprintf(d->on_stream[d->next_on_stream], ROLLBACK_ID, "%s", id);
    d->next_on_stream = (d->next_on_stream + 1) % ROLLBACK_VERSIONS;
    if (d->n_on_stream < ROLLBACK_VERSIONS)
        d->n_on_stream++;
}

static struct call *seen_call(struct deployment *d, uint64_t id)
{
    for (struct call *c = d ? d->calls : NULL; c; c = c->next_call)
        if (c->id == id)
            return c;
    return NULL;
}

static void on_record_stored(void *ctx, const struct bus_stored *r)
{
    uint64_t id;
    struct deployment *d = rollback_ticket_back(ctx, &id);
    struct call *c = seen_call(d, id);
    if (!c)
        return;
    if (r->status != BUS_OK) {
        log_error("a version's record is refused by its stream: the version is not known to us",
                  F_STR("deployment", d->name), F_STR("version", c->found.id),
                  F_STR("why", r->error && *r->error ? r->error : bus_status_text(r->status)));
        over(c);
        return;
    }
    now_on_stream(d, c->found.id);
    if (d->doc && d->place != AWAY)
        check_current(c);
    else
        over(c);
}

static void on_record_said(void *ctx, const struct bus_stored *r)
{
    struct deployment *d = rollback_ticket_back(ctx, NULL);
    if (d && r->status != BUS_OK && d->n_on_stream > 0)
        d->n_on_stream = d->next_on_stream = 0; /* said again with the next observation */
}

static void on_looked(struct call *c)
{
    struct deployment *d = c->d;
    int side = rollback_sight_current(&c->sight);
    const struct executor_version *v = NULL;
    if (!c->view.ok) {
        metric_add(&unseen, 1);
        deployment_unseen(d, c->view.error);
        over(c);
        return;
    }
    deployment_unseen(d, NULL);
    for (size_t i = 0; side >= 0 && i < c->view.n_versions; i++)
        if (strcmp(c->view.versions[i].v.id, c->sight.side[side].version) == 0)
            v = &c->view.versions[i];
    if (!v || rollback_busy(d->doc)) {
        over(c);
        return;
    }
    c->found = v->v;
    c->found.gaps = v->v.gaps || v->n_gaps > 0 || v->spec_len > RECORD_SPEC_MAX;
    record_from_view(d, v);
    if (on_stream(d, v->v.id)) {
        check_current(c);
    } else if (rollback_doc_version(d->doc, v->v.id)) {
        /* It was there before: put there again in case that the stream has lost it. */
        now_on_stream(d, v->v.id);
        record_say(d, v, on_record_said, rollback_ticket(d, 0));
        check_current(c);
    } else {
        record_say(d, v, on_record_stored, rollback_ticket(d, c->id));
    }
}

bool deployment_may_see(const struct deployment *d)
{
    return d->place == HERE && !d->seeing && !rollback_busy(d->doc) && !service_tilted(d->room->s) &&
           !d->room->s->draining && deployment_fence(d) != 0;
}

void deployment_see(struct deployment *d)
{
    deployment_keep_owed(d);
    deployment_inspect(d);
    call_look(call_new(d, NULL), on_looked);
}
