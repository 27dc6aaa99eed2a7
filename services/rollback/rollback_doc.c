/* rollback_doc.c - the document of a deployment, which is its journal, as bytes: whole, both ways. */
#include "rollback/rollback_doc.h"
#include "common/utf8.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SAME(ours, theirs)                                                                                           \
    _Static_assert((int)(ours) + 1 == (int)REDOUBT__V1__##theirs, "the contract's number differs")
SAME(ROLLBACK_SECURITY, CHECK_CLASS__CHECK_CLASS_SECURITY);
SAME(ROLLBACK_PERFORMANCE, CHECK_CLASS__CHECK_CLASS_PERFORMANCE);
SAME(ROLLBACK_ERRORS, CHECK_CLASS__CHECK_CLASS_ERRORS);

static const char *const data_words[] = {
    [ROLLBACK_DATA_NONE] = "none",
    [ROLLBACK_DATA_KEEP] = "keep",
    [ROLLBACK_DATA_RESTORE] = "restore",
    [ROLLBACK_DATA_MIGRATE] = "migrate",
};
enum { DATA_WORDS = sizeof data_words / sizeof data_words[0] };

void rollback_bytes_free(struct rollback_bytes *b)
{
    free(b->data);
    *b = (struct rollback_bytes){0};
}

bool rollback_bytes_copy(struct rollback_bytes *to, const void *data, size_t len)
{
    void *copy = len > 0 ? malloc(len) : NULL;
    if (len > 0 && !copy)
        return false;
    if (len > 0)
        memcpy(copy, data, len);
    rollback_bytes_free(to);
    *to = (struct rollback_bytes){copy, len};
    return true;
}

const struct rollback_version *rollback_doc_version(const struct rollback_doc *d, const char *id)
{
    for (size_t i = 0; *id && i < d->n_versions; i++)
        if (strcmp(d->versions[i].id, id) == 0)
            return &d->versions[i];
    return NULL;
}

const char *rollback_doc_name(const struct rollback_doc *d, const char *id)
{
    const struct rollback_version *v = rollback_doc_version(d, id);
    return v && v->name[0] ? v->name : id;
}

/* ---- out ---- */

void rollback_text_clean(char *text)
{
    text[utf8_valid_until(text, strlen(text))] = '\0';
}

static void clean_all(struct rollback_doc *d)
{
    rollback_text_clean(d->job.reason);
    rollback_text_clean(d->job.why);
    rollback_text_clean(d->job.by);
    for (size_t i = 0; i < d->n_versions; i++) {
        rollback_text_clean(d->versions[i].name);
        rollback_text_clean(d->versions[i].digest);
        rollback_text_clean(d->versions[i].reason);
        rollback_text_clean(d->versions[i].broken);
    }
    for (size_t i = 0; i < d->n_lineage; i++) {
        rollback_text_clean(d->lineage[i].name);
        rollback_text_clean(d->lineage[i].why);
    }
    for (size_t i = 0; i < d->n_history; i++) {
        rollback_text_clean(d->history[i].from);
        rollback_text_clean(d->history[i].to);
        rollback_text_clean(d->history[i].reason);
        rollback_text_clean(d->history[i].by);
        rollback_text_clean(d->history[i].why);
    }
    for (size_t i = 0; i < d->job.judge.n; i++)
        rollback_text_clean(d->job.judge.checks[i].detail);
}

void rollback_plan_fill(struct rollback_plan_message *x, const struct rollback_doc *d,
                        const struct rollback_rule *rule, const struct rollback_plan *p, const char *from,
                        const char *to)
{
    PB(RollbackPlan) *m = &x->m;
    *m = (PB(RollbackPlan))PB_INIT(ROLLBACK_PLAN);
    snprintf(x->from, sizeof x->from, "%s", from);
    snprintf(x->to, sizeof x->to, "%s", to);
    snprintf(x->from_name, sizeof x->from_name, "%s", rollback_doc_name(d, from));
    snprintf(x->to_name, sizeof x->to_name, "%s", rollback_doc_name(d, to));
    snprintf(x->snapshot, sizeof x->snapshot, "%s", p->snapshot);
    m->from_version = x->from;
    m->to_version = x->to;
    m->from_name = x->from_name;
    m->to_name = x->to_name;
    m->snapshot = x->snapshot;
    m->instances = p->instances;
    m->data = (char *)(p->data >= 0 && p->data < DATA_WORDS ? data_words[p->data] : "");
    m->drain_ms = rule ? rule->drain_ms : 0;
    m->watch_ms = rule ? rule->watch_ms : 0;
    for (size_t i = 0; i < p->n_steps; i++) {
        x->step[i] = (PB(RollbackStep))PB_INIT(ROLLBACK_STEP);
        x->step[i].weight_percent = (uint32_t)p->weight[i];
        x->step[i].observe_ms = rule ? rule->step_ms : 0;
        x->step[i].needs_ready = rollback_needs(p, p->weight[i]);
        x->steps[i] = &x->step[i];
    }
    m->n_steps = p->n_steps;
    m->steps = x->steps;
    size_t n = 0;
    while (rule && n < sizeof x->line / sizeof x->line[0] &&
           rollback_plan_line(d, rule, p, from, to, n, x->line[n], sizeof x->line[n])) {
        rollback_text_clean(x->line[n]);
        if (!x->line[n][0])
            break; /* a line is never empty */
        x->lines[n] = x->line[n];
        n++;
    }
    m->n_lines = n;
    m->lines = x->lines;
}

/* One message with all its parts. */
struct whole {
    PB(RollbackChanged) m;
    struct rollback_plan_message plan;
    PB(DeployedVersion) version[ROLLBACK_VERSIONS], *versions[ROLLBACK_VERSIONS];
    PB(CheckResult) check[ROLLBACK_CHECKS], *checks[ROLLBACK_CHECKS];
    char value[ROLLBACK_CHECKS][32];
    PB(Lineage) line[ROLLBACK_LINEAGE], *lineage[ROLLBACK_LINEAGE];
    PB(RollbackEnded) end[ROLLBACK_HISTORY], *history[ROLLBACK_HISTORY];
};

static void fill_versions(struct whole *w, struct rollback_doc *d)
{
    for (size_t i = 0; i < d->n_versions; i++) {
        struct rollback_version *v = &d->versions[i];
        PB(DeployedVersion) *m = w->versions[i] = &w->version[i];
        *m = (PB(DeployedVersion))PB_INIT(DEPLOYED_VERSION);
        m->id = v->id;
        m->name = v->name;
        m->digest = v->digest;
        m->config_hash = v->config_hash;
        m->data_schema = v->data_schema;
        m->state = (Redoubt__V1__VersionState)v->state;
        m->recorded_unix_ms = v->recorded_ms;
        m->verified_unix_ms = v->verified_ms;
        m->reason = v->reason;
        m->kept = v->kept;
        m->healthy_since_unix_ms = v->healthy_since_ms;
        m->by_job = v->by_job;
        m->gaps = v->gaps;
        m->broken = v->broken;
        m->snapshot_gone = v->snapshot_gone;
    }
    w->m.n_versions = d->n_versions;
    w->m.versions = w->versions;
}

static void fill_checks(struct whole *w, struct rollback_doc *d, const struct rollback_rule *rule)
{
    struct rollback_judge *j = &d->job.judge;
    for (size_t i = 0; i < j->n; i++) {
        struct rollback_check_state *c = &j->checks[i];
        PB(CheckResult) *m = w->checks[i] = &w->check[i];
        *m = (PB(CheckResult))PB_INIT(CHECK_RESULT);
        /* A check that left the settings in a job is judged no more; it is shown as what it was. */
        const struct rollback_check_rule *r = NULL;
        for (size_t k = 0; rule && k < rule->judge.n && !r; k++)
            if (strcmp(rule->judge.checks[k].name, c->name) == 0)
                r = &rule->judge.checks[k];
        m->name = c->name;
        m->check_class =
            r ? (Redoubt__V1__CheckClass)(r->check_class + 1) : REDOUBT__V1__CHECK_CLASS__CHECK_CLASS_ERRORS;
        m->limit = r ? r->limit : 0;
        m->outcome =
            c->outcome ? (Redoubt__V1__CheckOutcome)c->outcome : REDOUBT__V1__CHECK_OUTCOME__CHECK_OUTCOME_NO_DATA;
        m->in_a_row = c->in_a_row;
        m->detail = c->detail;
        m->at_unix_ms = c->at_ms;
        m->seen = c->seen;
        m->counting = c->counting;
        m->former_base_bad = c->base_bad[0];
        m->former_base_all = c->base_all[0];
        m->target_base_bad = c->base_bad[1];
        m->target_base_all = c->base_all[1];
        m->former_bad = c->former_bad;
        m->former_all = c->former_all;
        if (c->former_known && isfinite(c->former_value))
            snprintf(w->value[i], sizeof w->value[i], "%.17g", c->former_value);
        m->former_value = w->value[i];
    }
    w->m.n_checks = j->n;
    w->m.checks = w->checks;
}

static void fill_lineage(struct whole *w, struct rollback_doc *d)
{
    for (size_t i = 0; i < d->n_lineage; i++) {
        struct rollback_lineage *l = &d->lineage[i];
        PB(Lineage) *m = w->lineage[i] = &w->line[i];
        *m = (PB(Lineage))PB_INIT(LINEAGE);
        m->version_id = l->version;
        m->version_name = l->name;
        m->snapshot = l->snapshot;
        m->taken_unix_ms = l->taken_ms;
        m->stream = l->stream;
        m->stream_sequence = l->sequence;
        m->files = l->files;
        m->bytes = l->bytes;
        m->data_schema = l->data_schema;
        m->verified = l->verified;
        m->job_id = l->job;
        m->why = l->why;
    }
    w->m.n_lineage = d->n_lineage;
    w->m.lineage = w->lineage;
}

static void fill_history(struct whole *w, struct rollback_doc *d)
{
    for (size_t i = 0; i < d->n_history; i++) {
        struct rollback_ended *h = &d->history[i];
        PB(RollbackEnded) *m = w->history[i] = &w->end[i];
        *m = (PB(RollbackEnded))PB_INIT(ROLLBACK_ENDED);
        m->job_id = h->job;
        m->from_name = h->from;
        m->to_name = h->to;
        m->phase = (Redoubt__V1__RollbackPhase)h->phase;
        m->reason = h->reason;
        m->started_by = h->by;
        m->started_why = h->why;
        m->started_unix_ms = h->started_ms;
        m->ended_unix_ms = h->ended_ms;
        m->holds = h->holds;
    }
    w->m.n_history = d->n_history;
    w->m.history = w->history;
}

static void fill_job(struct whole *w, struct rollback_doc *d, const struct rollback_rule *rule)
{
    struct rollback_job *j = &d->job;
    PB(RollbackChanged) *m = &w->m;
    m->job_id = j->id;
    m->phase = (Redoubt__V1__RollbackPhase)j->phase;
    m->previous = (Redoubt__V1__RollbackPhase)j->previous;
    m->from_version = j->from;
    m->to_version = j->to;
    m->weight_percent = (uint32_t)j->weight;
    m->reason = j->reason;
    m->changed_unix_ms = j->changed_ms;
    m->started_by = j->by;
    m->started_why = j->why;
    m->started_unix_ms = j->started_ms;
    m->ended_unix_ms = j->ended_ms;
    m->step = (uint32_t)j->step;
    m->stage = (Redoubt__V1__RollbackStage)j->stage;
    m->held_phase = (Redoubt__V1__RollbackPhase)j->held_phase;
    m->hold = (Redoubt__V1__RollbackHold)j->hold;
    m->holds = j->holds;
    m->emergency = j->emergency;
    m->phase_since_unix_ms = j->phase_since_ms;
    m->stage_since_unix_ms = j->stage_since_ms;
    m->op = (Redoubt__V1__RollbackOp)j->op;
    m->op_serial = j->serial;
    m->op_since_unix_ms = j->op_since_ms;
    m->op_tries = j->tries;
    m->op_again_unix_ms = j->again_ms;
    m->from_side = (uint32_t)j->from_side;
    m->writer_paused = j->writer_paused;
    m->data_replaced = j->data_replaced;
    m->data_done = j->data_done;
    m->target_made = j->target_made;
    m->from_stopped = j->from_stopped;
    m->weight_wanted = (uint32_t)j->wanted;
    m->snapshot = j->snapshot;
    m->forced = j->forced;
    m->automatic = j->automatic;
    m->overhead_ms = j->overhead_ms;
    m->observed_ms = j->observed_ms;
    if (j->plan.n_steps > 0 || j->plan.instances > 0 || j->plan.data || j->plan.snapshot[0]) {
        rollback_plan_fill(&w->plan, d, rule, &j->plan, j->from, j->to);
        m->plan = &w->plan.m;
    }
}

struct rollback_bytes rollback_doc_pack(struct rollback_doc *d, const struct rollback_rule *rule, struct err *e)
{
    struct rollback_bytes b = {0};
    struct whole *w = calloc(1, sizeof *w);
    if (!w) {
        err_set(e, "out of memory");
        return b;
    }
    clean_all(d);
    w->m = (PB(RollbackChanged))PB_INIT(ROLLBACK_CHANGED);
    w->m.deployment = d->deployment;
    w->m.epoch = d->epoch;
    w->m.current_version = d->current;
    fill_job(w, d, rule);
    fill_versions(w, d);
    fill_checks(w, d, rule);
    fill_lineage(w, d);
    fill_history(w, d);
    while (protobuf_c_message_get_packed_size(&w->m.base) > ROLLBACK_DOC_MAX && d->n_history > 0)
        w->m.n_history = --d->n_history;
    b.data = wire_pack(&w->m, &b.len, e);
    free(w);
    return b;
}

/* ---- in ---- */

struct taking {
    struct err *e;
    bool bad;
};

static void text(struct taking *t, const char *what, char *to, size_t room, const char *from)
{
    size_t len = strlen(from);
    if (len < room)
        memcpy(to, from, len + 1);
    else if (!t->bad)
        t->bad = err_set(t->e, "%s has %zu bytes; allowed: %zu", what, len, room - 1);
}
#define TEXT(what, to, from) text(t, what, to, sizeof(to), from)

static void count(struct taking *t, const char *what, size_t *to, size_t n, size_t most)
{
    *to = n <= most ? n : 0;
    if (n > most && !t->bad)
        t->bad = err_set(t->e, "there are %zu %s; allowed: %zu", n, what, most);
}

static int number(struct taking *t, const char *what, uint64_t v, int most)
{
    if (v <= (uint64_t)most)
        return (int)v;
    if (!t->bad)
        t->bad = err_set(t->e, "%s is more than %d", what, most);
    return 0;
}

static double decimal(struct taking *t, const char *from)
{
    char *end;
    double v = strtod(from, &end);
    if (!*end && isfinite(v))
        return v;
    if (!t->bad)
        t->bad = err_set(t->e, "the value of a check is no number");
    return 0;
}

static void take_versions(struct taking *t, struct rollback_doc *d, const PB(RollbackChanged) * m)
{
    count(t, "versions", &d->n_versions, m->n_versions, ROLLBACK_VERSIONS);
    for (size_t i = 0; i < d->n_versions; i++) {
        const PB(DeployedVersion) *x = m->versions[i];
        struct rollback_version *v = &d->versions[i];
        TEXT("id of a version", v->id, x->id);
        TEXT("name of a version", v->name, x->name);
        TEXT("digest of a version", v->digest, x->digest);
        TEXT("configuration hash of a version", v->config_hash, x->config_hash);
        TEXT("reason of a version", v->reason, x->reason);
        TEXT("job of a version", v->by_job, x->by_job);
        v->data_schema = x->data_schema;
        v->state = (int)x->state;
        v->recorded_ms = x->recorded_unix_ms;
        v->verified_ms = x->verified_unix_ms;
        v->healthy_since_ms = x->healthy_since_unix_ms;
        v->kept = x->kept;
        v->gaps = x->gaps;
        TEXT("why a version cannot be brought up", v->broken, x->broken);
        v->snapshot_gone = x->snapshot_gone;
    }
}

static void take_checks(struct taking *t, struct rollback_doc *d, const PB(RollbackChanged) * m)
{
    struct rollback_judge *j = &d->job.judge;
    count(t, "checks", &j->n, m->n_checks, ROLLBACK_CHECKS);
    for (size_t i = 0; i < j->n; i++) {
        const PB(CheckResult) *x = m->checks[i];
        struct rollback_check_state *c = &j->checks[i];
        TEXT("name of a check", c->name, x->name);
        TEXT("detail of a check", c->detail, x->detail);
        c->in_a_row = x->in_a_row;
        c->outcome = (int)x->outcome;
        c->at_ms = x->at_unix_ms;
        c->seen = x->seen;
        c->counting = x->counting;
        c->base_bad[0] = x->former_base_bad;
        c->base_all[0] = x->former_base_all;
        c->base_bad[1] = x->target_base_bad;
        c->base_all[1] = x->target_base_all;
        c->former_bad = x->former_bad;
        c->former_all = x->former_all;
        c->former_known = x->former_value[0];
        c->former_value = x->former_value[0] ? decimal(t, x->former_value) : 0;
    }
}

static void take_lineage(struct taking *t, struct rollback_doc *d, const PB(RollbackChanged) * m)
{
    count(t, "snapshots", &d->n_lineage, m->n_lineage, ROLLBACK_LINEAGE);
    for (size_t i = 0; i < d->n_lineage; i++) {
        const PB(Lineage) *x = m->lineage[i];
        struct rollback_lineage *l = &d->lineage[i];
        TEXT("version of a snapshot", l->version, x->version_id);
        TEXT("version's name of a snapshot", l->name, x->version_name);
        TEXT("id of a snapshot", l->snapshot, x->snapshot);
        TEXT("stream of a snapshot", l->stream, x->stream);
        TEXT("job of a snapshot", l->job, x->job_id);
        TEXT("reason of a snapshot", l->why, x->why);
        l->taken_ms = x->taken_unix_ms;
        l->sequence = x->stream_sequence;
        l->files = x->files;
        l->bytes = x->bytes;
        l->data_schema = x->data_schema;
        l->verified = x->verified;
    }
}

static void take_history(struct taking *t, struct rollback_doc *d, const PB(RollbackChanged) * m)
{
    count(t, "ended jobs", &d->n_history, m->n_history, ROLLBACK_HISTORY);
    for (size_t i = 0; i < d->n_history; i++) {
        const PB(RollbackEnded) *x = m->history[i];
        struct rollback_ended *h = &d->history[i];
        TEXT("id of an ended job", h->job, x->job_id);
        TEXT("version of an ended job", h->from, x->from_name);
        TEXT("version of an ended job", h->to, x->to_name);
        TEXT("reason of an ended job", h->reason, x->reason);
        TEXT("name in an ended job", h->by, x->started_by);
        TEXT("cause of an ended job", h->why, x->started_why);
        h->phase = (int)x->phase;
        h->started_ms = x->started_unix_ms;
        h->ended_ms = x->ended_unix_ms;
        h->holds = x->holds;
    }
}

static void take_plan(struct taking *t, struct rollback_plan *p, const PB(RollbackPlan) * m)
{
    if (!m)
        return;
    count(t, "steps", &p->n_steps, m->n_steps, ROLLBACK_STEPS);
    for (size_t i = 0; i < p->n_steps; i++)
        p->weight[i] = number(t, "weight of a step", m->steps[i]->weight_percent, 100);
    p->instances = m->instances;
    TEXT("snapshot of the plan", p->snapshot, m->snapshot);
    p->data = -1;
    for (int i = 0; i < DATA_WORDS; i++)
        if (strcmp(data_words[i], m->data) == 0)
            p->data = i;
    if (p->data < 0 && !t->bad)
        t->bad = err_set(t->e, "the plan does not say what happens to the data");
}

static void take_job(struct taking *t, struct rollback_job *j, const PB(RollbackChanged) * m)
{
    TEXT("id of the job", j->id, m->job_id);
    TEXT("former version", j->from, m->from_version);
    TEXT("version to go back to", j->to, m->to_version);
    TEXT("name of who started it", j->by, m->started_by);
    TEXT("cause", j->why, m->started_why);
    TEXT("reason", j->reason, m->reason);
    TEXT("snapshot", j->snapshot, m->snapshot);
    j->phase = (int)m->phase;
    j->previous = (int)m->previous;
    j->held_phase = (int)m->held_phase;
    j->hold = (int)m->hold;
    j->stage = (int)m->stage;
    j->op = (int)m->op;
    j->step = (size_t)number(t, "step", m->step, ROLLBACK_STEPS);
    j->weight = number(t, "weight", m->weight_percent, 100);
    j->wanted = number(t, "weight wanted", m->weight_wanted, 100);
    j->from_side = number(t, "side", m->from_side, 1);
    j->holds = m->holds;
    j->emergency = m->emergency;
    j->forced = m->forced;
    j->automatic = m->automatic;
    j->started_ms = m->started_unix_ms;
    j->ended_ms = m->ended_unix_ms;
    j->phase_since_ms = m->phase_since_unix_ms;
    j->stage_since_ms = m->stage_since_unix_ms;
    j->changed_ms = m->changed_unix_ms;
    j->writer_paused = m->writer_paused;
    j->data_replaced = m->data_replaced;
    j->data_done = m->data_done;
    j->target_made = m->target_made;
    j->from_stopped = m->from_stopped;
    j->serial = m->op_serial;
    j->op_since_ms = m->op_since_unix_ms;
    j->tries = m->op_tries;
    j->again_ms = m->op_again_unix_ms;
    j->overhead_ms = m->overhead_ms;
    j->observed_ms = m->observed_ms;
    take_plan(t, &j->plan, m->plan);
}

int rollback_doc_take(struct rollback_doc *d, const char *deployment, const PB(RollbackChanged) * m, struct err *e)
{
    if (strcmp(m->deployment, deployment) != 0)
        return err_set(e, "it is of another deployment: %s", m->deployment);
    struct rollback_doc *x = calloc(1, sizeof *x);
    if (!x)
        return err_set(e, "out of memory");
    struct taking at = {.e = e}, *t = &at;
    TEXT("name of the deployment", x->deployment, m->deployment);
    TEXT("current version", x->current, m->current_version);
    x->epoch = m->epoch;
    take_job(t, &x->job, m);
    take_versions(t, x, m);
    take_checks(t, x, m);
    take_lineage(t, x, m);
    take_history(t, x, m);
    const char *broken = t->bad ? NULL : rollback_broken(x);
    if (broken)
        t->bad = err_set(e, "it does not hold that %s", broken);
    if (!t->bad)
        *d = *x;
    free(x);
    return t->bad ? -1 : 0;
}

int rollback_doc_unpack(struct rollback_doc *d, const char *deployment, const void *data, size_t len, struct err *e)
{
    PB(RollbackChanged) *m = wire_unpack(PB_DESC(rollback_changed), data, len, e);
    int r = m ? rollback_doc_take(d, deployment, m, e) : -1;
    wire_free(m);
    return r;
}
