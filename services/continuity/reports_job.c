/* reports_job.c - one report: what the loop knows is copied, the trail is read and the files are written on a worker thread. */
#include "common/clock.h"
#include "continuity/report_file.h"
#include "continuity/reports_impl.h"
#include <stdlib.h>
#include <string.h>

#define AGENTS_MAX 100000

/* ---- what the loop knows ---- */

static int by_name(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

/* All names, sorted, each once. */
static bool take_agents(struct reports_job *j, struct board *b, const struct incident *x)
{
    size_t max = x->agents_total + j->doc->n_agents;
    max = max < AGENTS_MAX ? max : AGENTS_MAX;
    const char **names = calloc(max + 1, sizeof *names);
    j->agents = calloc(max + 1, sizeof *j->agents);
    if (!names || !j->agents) {
        free(names);
        return false;
    }
    size_t n = board_agents(b, x, names, max);
    for (size_t i = 0; i < j->doc->n_agents && n < max; i++)
        names[n++] = j->doc->agents[i];
    if (n)
        qsort(names, n, sizeof *names, by_name);
    bool good = true;
    for (size_t i = 0; i < n && good; i++) {
        if (i && strcmp(names[i], names[i - 1]) == 0)
            continue;
        good = (j->agents[j->n_agents] = strdup(names[i])) != NULL;
        j->n_agents += good;
    }
    free(names);
    return good;
}

static bool take_dirs(struct reports_job *j)
{
    const struct settings *s = j->s->settings;
    const struct conf_list *trail = &s->continuity.reports.trail;
    char own[REPLICA_PATH + 16];
    bool good = true;
    if (trail->n == 0) {
        snprintf(own, sizeof own, "%.500s/audit", s->data_dir);
        good = (j->dirs[j->n_dirs++] = strdup(own)) != NULL;
    }
    for (size_t i = 0; i < trail->n && j->n_dirs < REPORTS_DIRS_MAX && good; i++)
        good = (j->dirs[j->n_dirs++] = strdup(*CONF_AT(*trail, char *, i))) != NULL;
    return good && (j->second_dir = strdup(s->audit.second_dir)) != NULL;
}

/* The settings' functions, or the mission's. */
static void take_functions(struct reports_job *j)
{
    static const struct report_function defaults[] = {{"threat_detection", true, CONDITION_FULL},
                                                      {"blocking", true, CONDITION_FULL | CONDITION_DEGRADED},
                                                      {"learning", false, 7},
                                                      {"orchestration", false, 7}};
    static const struct {
        const char *name;
        unsigned bit;
    } conditions[] = {{"full", CONDITION_FULL}, {"degraded", CONDITION_DEGRADED}, {"llm_fallback", CONDITION_LLM}};
    const struct conf_list *list = &j->s->settings->continuity.functions;
    for (size_t i = 0; list->n == 0 && i < sizeof defaults / sizeof *defaults; i++)
        j->functions[j->n_functions++] = defaults[i];
    for (size_t i = 0; i < list->n && i < 32; i++) {
        const struct set_function *f = CONF_AT(*list, struct set_function, i);
        struct report_function *to = &j->functions[j->n_functions++];
        snprintf(j->function_names[i], sizeof j->function_names[i], "%s", f->name);
        *to = (struct report_function){.name = j->function_names[i], .critical = f->critical};
        for (size_t k = 0; k < f->lost_in.n; k++)
            for (size_t c = 0; c < 3; c++)
                if (strcmp(*CONF_AT(f->lost_in, char *, k), conditions[c].name) == 0)
                    to->lost_in |= conditions[c].bit;
    }
}

static void *copy_of(const void *message)
{
    size_t len = 0;
    void *data = wire_pack(message, &len, NULL);
    const ProtobufCMessage *m = message;
    void *copy = data ? wire_unpack(m->descriptor, data, len, NULL) : NULL;
    free(data);
    return copy;
}

static void take_receipts(struct reports_job *j)
{
    const struct reports *r = j->r;
    if (!(j->receipts = calloc(r->n_receipts + 1, sizeof *j->receipts)))
        return; /* records of them are in the trail, too */
    for (size_t i = 0; i < r->n_receipts; i++) {
        const PB(DeliveryReceipt) *d =
            r->receipts[(r->next_receipt + REPORTS_RECEIPTS_MAX - r->n_receipts + i) % REPORTS_RECEIPTS_MAX];
        PB(DeliveryReceipt) *copy = report_wants_key(&j->scope, d->dedup_key, d->ended_unix_ms) ? copy_of(d) : NULL;
        if (copy)
            j->receipts[j->n_receipts++] = copy;
    }
}

static void scope_of(struct reports_job *j)
{
    const PB(IncidentChanged) *d = j->doc;
    /* Records bear the wall clock, the incident has the service's own: where they differ, both count. */
    int64_t offset = room_clock_offset(j->r->room), now = j->written_ms;
    int64_t over = d->validated_unix_ms ? d->validated_unix_ms : d->closed_unix_ms ? d->closed_unix_ms : now;
    int64_t other_from = d->evidence_unix_ms - offset, other_to = over - offset;
    snprintf(j->key, sizeof j->key, "%s", d->key);
    j->over_ms = over;
    j->scope = (struct report_scope){
        .id = d->id,
        .agents = (const char *const *)j->agents,
        .n_agents = j->n_agents,
        .target = strncmp(j->key, "agent", 5) == 0 ? "" : j->key,
        .cause = d->cause,
        .from_ms = (other_from < d->evidence_unix_ms ? other_from : d->evidence_unix_ms) - REPORTS_BEFORE_MS,
        .to_ms = (other_to > over ? other_to : over) + REPORTS_AFTER_MS};
}

static bool gather(struct reports_job *j, struct err *e)
{
    struct continuity *c = j->r->room;
    struct board *b = continuity_board(c);
    struct incident *x = board_find(b, j->due.id);
    if (!x) {
        err_set(e, "there is no incident %s", j->due.id);
        return false;
    }
    PB(IncidentChanged) *doc = board_pack(b, x, continuity_now_ms(c), continuity_fence(c));
    j->doc = doc ? copy_of(doc) : NULL;
    if (doc)
        board_pack_done(doc);
    if (!j->doc || !take_agents(j, b, x) || !take_dirs(j)) {
        err_set(e, "out of memory for the report of %s", j->due.id);
        return false;
    }
    take_functions(j);
    scope_of(j);
    take_receipts(j);
    return true;
}

/* ---- on the worker thread ---- */

static void write_incident(struct reports_job *j)
{
    struct report_input in = {.doc = j->doc,
                              .agents = (const char *const *)j->agents,
                              .n_agents = j->n_agents,
                              .trail = &j->trail,
                              .receipts = j->receipts,
                              .n_receipts = j->n_receipts,
                              .functions = j->functions,
                              .n_functions = j->n_functions,
                              .leader = j->leader,
                              .written_ms = j->written_ms};
    struct report_files f = {.dir = j->dir, .name = j->doc->id};
    struct report *r = j->trail.no_memory ? NULL : report_make(&in);
    j->rc = r ? report_files_write(&f, r, &j->error) : err_set(&j->error, "out of memory");
    report_free(r);
    if (j->rc == 0)
        snprintf(j->said, sizeof j->said, "%.250s/%s.md and .html%s%s%s", j->dir, j->doc->id,
                 f.kept ? "; lessons of people were kept" : "",
                 *f.aside ? "; it was edited elsewhere, which is kept as " : "", f.aside);
}

static void on_work(uv_work_t *w)
{
    struct reports_job *j = w->data;
    if (j->due.kind == REPORTS_MONTH) {
        reports_month_work(j);
        return;
    }
    j->needs_bus =
        report_trail_read(&j->trail, &j->scope, (const char *const *)j->dirs, j->n_dirs, j->second_dir) != 0;
    if (!j->needs_bus)
        write_incident(j);
}

static void on_write(uv_work_t *w)
{
    write_incident(w->data);
}

static void on_done(uv_work_t *w, int status)
{
    struct reports_job *j = w->data;
    if (status != 0)
        j->rc = err_set(&j->error, "%s", uv_strerror(status));
    reports_ended(j);
}

static bool queue(struct reports_job *j, uv_work_cb fn, uv_after_work_cb after)
{
    j->work.data = j;
    return uv_queue_work(&j->s->loop.uv, &j->work, fn, after) == 0;
}

static void on_bus(void *ctx)
{
    struct reports_job *j = ctx;
    if (!queue(j, on_write, on_done)) {
        j->rc = err_set(&j->error, "no worker thread");
        reports_ended(j);
    }
}

static void on_read(uv_work_t *w, int status)
{
    struct reports_job *j = w->data;
    if (status != 0 || !j->needs_bus || !j->r) {
        on_done(w, status);
        return;
    }
    j->trail.from_bus = true;
    if (j->due.only_trail) { /* it stands as well as it can */
        reports_ended(j);
        return;
    }
    j->bus = reports_bus_open(j, on_bus, j);
    if (!j->bus)
        on_bus(j);
}

bool reports_begin(struct reports *r, const struct reports_due *due, struct err *e)
{
    struct reports_job *j = calloc(1, sizeof *j);
    if (!j) {
        err_set(e, "out of memory");
        return false;
    }
    j->r = r;
    j->s = continuity_service_of(r->room);
    j->due = *due;
    j->written_ms = continuity_now_ms(r->room);
    snprintf(j->leader, sizeof j->leader, "%s", j->s->instance);
    reports_dir(r, j->dir, sizeof j->dir);
    bool good = due->kind == REPORTS_MONTH ? reports_month_gather(r, j, e) : gather(j, e);
    if (good && !queue(j, on_work, on_read)) {
        err_set(e, "no worker thread");
        good = false;
    }
    if (!good) {
        reports_job_free(j);
        return false;
    }
    r->running = j;
    return true;
}

void reports_job_free(struct reports_job *j)
{
    reports_bus_close(j->bus);
    wire_free(j->doc);
    for (size_t i = 0; i < j->n_agents; i++)
        free(j->agents[i]);
    free(j->agents);
    for (size_t i = 0; i < j->n_dirs; i++)
        free(j->dirs[i]);
    free(j->second_dir);
    for (size_t i = 0; i < j->n_receipts; i++)
        wire_free((void *)(uintptr_t)j->receipts[i]);
    free(j->receipts);
    report_trail_done(&j->trail);
    report_month_done(&j->month);
    free(j);
}
