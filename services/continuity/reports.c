/* reports.c - reports of incidents and months: what is due, one after the other, and what operators ask for. */
#include "common/clock.h"
#include "common/log.h"
#include "common/metric.h"
#include "continuity/reports_impl.h"
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define MONTH_LOOK_MS  60000
#define COVERED_MS     12000 /* the trail signs its checkpoints every 10 s */
#define COVERED_TRIES  20
#define TRAIL_AGAIN_MS 60000
#define RETRY_MS       30000
#define RETRY_MAX_MS   600000
#define QUEUE_MAX      10000

METRIC_DEFINE(written, METRIC_COUNTER, "redoubt_continuity_reports_total", "Reports that were written.");
METRIC_DEFINE(failed, METRIC_COUNTER, "redoubt_continuity_report_failures_total",
              "Attempts to write a report that failed and are repeated.");

const char *reports_dir(const struct reports *r, char *buf, size_t size)
{
    const char *dir = continuity_set(r->room)->reports.dir;
    if (*dir)
        snprintf(buf, size, "%s", dir);
    else
        snprintf(buf, size, "%s/reports", continuity_dir(r->room));
    return buf;
}

struct reports *reports_open(struct continuity *c, struct err *e)
{
    struct reports *r = calloc(1, sizeof *r);
    if (!r) {
        err_set(e, "out of memory");
        return NULL;
    }
    r->room = c;
    return r;
}

static void answer(struct reports *r, const struct reports_due *due, int status, const char *text)
{
    if (*due->reply)
        service_reply(continuity_service_of(r->room), due->reply, status, 0, "%s", text);
}

#define OK          REDOUBT__V1__COMMAND_STATUS__COMMAND_STATUS_OK
#define INVALID     REDOUBT__V1__COMMAND_STATUS__COMMAND_STATUS_INVALID
#define UNAVAILABLE REDOUBT__V1__COMMAND_STATUS__COMMAND_STATUS_UNAVAILABLE

void reports_close(struct reports *r)
{
    static const char text[] = "another replica leads now: ask again";
    if (!r)
        return;
    struct reports_job *j = r->running;
    if (j) {
        answer(r, &j->due, UNAVAILABLE, text);
        j->r = NULL; /* its thread ends by itself; whoever leads next writes the report again */
        if (j->bus)
            reports_job_free(j);
    }
    for (struct reports_due *d = r->due, *next; d; d = next) {
        next = d->next;
        answer(r, d, UNAVAILABLE, text);
        free(d);
    }
    for (size_t i = 0; i < REPORTS_RECEIPTS_MAX; i++)
        wire_free(r->receipts[i]);
    free(r);
}

/* ---- what is due ---- */

static bool same(const struct reports_due *a, const struct reports_due *b)
{
    return a->kind == b->kind && (a->kind == REPORTS_MONTH ? a->month == b->month : strcmp(a->id, b->id) == 0);
}

/* One that nobody waits for and is due already takes another of the same with it. */
void reports_enqueue(struct reports *r, const struct reports_due *due)
{
    struct reports_due **at = &r->due;
    size_t n = 0;
    for (; *at; at = &(*at)->next, n++) {
        struct reports_due *d = *at;
        if (!same(d, due) || *d->reply || *due->reply)
            continue;
        d->quiet = d->quiet && due->quiet;
        d->only_trail = d->only_trail && due->only_trail;
        d->at_mono_ms = d->at_mono_ms < due->at_mono_ms ? d->at_mono_ms : due->at_mono_ms;
        return;
    }
    struct reports_due *d = n < QUEUE_MAX ? malloc(sizeof *d) : NULL;
    if (!d) {
        answer(r, due, UNAVAILABLE, "too many reports are being written: ask again later");
        return; /* an incident's is asked for again by the room */
    }
    *d = *due;
    d->next = NULL;
    *at = d;
}

static void fail(struct reports *r, const struct reports_due *due, const char *why)
{
    char what[96], name[48], summary[256];
    struct reports_due again = *due;
    if (due->kind == REPORTS_MONTH)
        reports_month_name(due->month, name);
    else
        snprintf(name, sizeof name, "%s", due->id);
    answer(r, due, UNAVAILABLE, why);
    metric_add(&failed, 1);
    log_error("a report could not be written", F_STR("report", name), F_STR("why", why));
    if (due->tries == 0 && !*due->reply) {
        snprintf(what, sizeof what, "report/%s", name);
        snprintf(summary, sizeof summary, "The report %s could not be written: %.150s", name, why);
        continuity_alert(r->room, what, REDOUBT__V1__SEVERITY__SEVERITY_WARNING, false, "", summary, why);
    }
    if (*due->reply)
        return;
    int64_t wait = RETRY_MS << (due->tries < 5 ? due->tries : 5);
    again.tries++;
    again.at_mono_ms = clock_mono_ms() + (wait < RETRY_MAX_MS ? wait : RETRY_MAX_MS);
    reports_enqueue(r, &again);
}

/* More is known later: a checkpoint covers the last records, what came just after the end, a trail that was away. */
static void again(struct reports *r, const struct reports_job *j)
{
    struct reports_due next = j->due;
    int64_t now = clock_mono_ms(), late = j->over_ms + REPORTS_AFTER_MS + COVERED_MS - j->written_ms;
    bool ended = j->doc->validated_unix_ms || j->doc->closed_unix_ms;
    *next.reply = 0;
    next.quiet = true;
    next.only_trail = j->trail.from_bus;
    if (j->trail.from_bus) {
        next.tries = 0;
        next.at_mono_ms = now + TRAIL_AGAIN_MS;
        reports_enqueue(r, &next);
        return;
    }
    next.tries = j->due.quiet ? j->due.tries + 1 : 1;
    bool whole = true;
    for (size_t i = 0; i < j->trail.n_chains; i++)
        whole = whole && j->trail.chains[i].whole; /* what does not verify is not waited for */
    if (whole && j->trail.unproven && next.tries < COVERED_TRIES) {
        next.at_mono_ms = now + COVERED_MS;
        reports_enqueue(r, &next);
    } else if (ended && late > 0 && next.tries < COVERED_TRIES) {
        next.at_mono_ms = now + late;
        reports_enqueue(r, &next);
    }
}

static void succeed(struct reports *r, struct reports_job *j)
{
    char what[96], name[48];
    if (j->due.kind == REPORTS_MONTH)
        reports_month_name(j->due.month, name);
    else
        snprintf(name, sizeof name, "%s", j->due.id);
    if (j->due.tries && !j->due.quiet) {
        snprintf(what, sizeof what, "report/%s", name);
        continuity_alert(r->room, what, REDOUBT__V1__SEVERITY__SEVERITY_WARNING, true, "", "The report is written",
                         "");
    }
    r->written++;
    metric_add(&written, 1);
    log_info("report written", F_STR("report", name), F_STR("files", j->said));
    if (!j->due.quiet)
        continuity_record(r->room, "report.written", "", name, REDOUBT__V1__AUDIT_OUTCOME__AUDIT_OUTCOME_DONE,
                          j->said);
    answer(r, &j->due, OK, j->said);
    if (j->due.kind == REPORTS_MONTH)
        return;
    again(r, j);
    if (!j->due.quiet)
        continuity_reported(r->room, j->due.id, j->due.id);
}

static void run(struct reports *r)
{
    int64_t now = clock_mono_ms();
    for (struct reports_due **at = &r->due; *at && !r->running;) {
        struct reports_due *d = *at;
        struct err e = {""};
        if (d->at_mono_ms > now) {
            at = &d->next;
            continue;
        }
        *at = d->next;
        if (!reports_begin(r, d, &e)) {
            if (d->kind == REPORTS_MONTH || board_find(continuity_board(r->room), d->id))
                fail(r, d, e.text);
            else
                answer(r, d, INVALID, e.text); /* it is forgotten meanwhile */
        }
        free(d);
        at = &r->due;
        now = clock_mono_ms();
        if (e.text[0])
            break; /* what failed waits; the others have their turn next time */
    }
}

void reports_ended(struct reports_job *j)
{
    struct reports *r = j->r;
    if (r) {
        r->running = NULL;
        if (!continuity_leads(r->room))
            answer(r, &j->due, UNAVAILABLE, "another replica leads now: ask again");
        else if (j->rc)
            fail(r, &j->due, j->error.text);
        else if (j->due.only_trail && j->trail.from_bus)
            again(r, j);
        else
            succeed(r, j);
    }
    reports_job_free(j);
    if (r && !r->running)
        run(r);
}

/* ---- months ---- */

static void count(void *ctx, const char *agent, const struct availability_month *m)
{
    (void)agent;
    (void)m;
    ++*(size_t *)ctx;
}

/* Months that are over, are known, and have no report: also those that ended while the service was away. */
static void look_for_months(struct reports *r, int64_t now_ms)
{
    char dir[REPLICA_PATH + 64], path[REPLICA_PATH + 128], name[32];
    uint32_t month = availability_month_of(now_ms);
    reports_dir(r, dir, sizeof dir);
    for (int i = 0; i + 1 < AVAILABILITY_MONTHS; i++) {
        size_t n = 0;
        month = month % 100 == 1 ? month - 100 + 11 : month - 1;
        reports_month_name(month, name);
        snprintf(path, sizeof path, "%s/%s.md", dir, name);
        if (access(path, F_OK) == 0)
            continue;
        continuity_availability(r->room, month, count, &n);
        if (n == 0)
            continue;
        struct reports_due due = {.kind = REPORTS_MONTH, .month = month};
        bool known = false;
        for (const struct reports_due *d = r->due; d; d = d->next)
            known = known || same(d, &due);
        if (!known && !(r->running && same(&r->running->due, &due)))
            reports_enqueue(r, &due);
    }
}

/* ---- what the room calls ---- */

void reports_tick(struct reports *r, int64_t now_ms)
{
    int64_t mono = clock_mono_ms();
    if (!continuity_leads(r->room))
        return;
    if (continuity_set(r->room)->reports.monthly && mono >= r->month_look_mono_ms) {
        r->month_look_mono_ms = mono + MONTH_LOOK_MS;
        look_for_months(r, now_ms);
    }
    run(r);
}

void reports_reload(struct reports *r)
{
    r->month_look_mono_ms = 0; /* perhaps another directory */
}

void reports_incident(struct reports *r, const struct incident *x)
{
    struct reports_due due = {.kind = REPORTS_INCIDENT};
    snprintf(due.id, sizeof due.id, "%s", x->id);
    reports_enqueue(r, &due); /* begun with the next tick: the board is in the middle of something */
}

static uint32_t month_of(const char *text)
{
    unsigned year = 0, month = 0;
    int end = 0;
    if (strlen(text) != 7 || sscanf(text, "%4u-%2u%n", &year, &month, &end) != 2 || end != 7 || year < 1970 ||
        month < 1 || month > 12)
        return 0;
    return year * 100 + month;
}

void reports_command(struct reports *r, const PB(ContinuityCommand) * cmd, const char *reply)
{
    struct reports_due due = {.kind = *cmd->incident ? REPORTS_INCIDENT : REPORTS_MONTH};
    snprintf(due.reply, sizeof due.reply, "%s", reply ? reply : "");
    due.month = month_of(cmd->name);
    snprintf(due.id, sizeof due.id, "%s", cmd->incident);
    if (due.kind == REPORTS_MONTH && !due.month)
        answer(r, &due, INVALID, "name an incident, or a month as `2026-11`");
    else if (due.kind == REPORTS_INCIDENT && !board_find(continuity_board(r->room), cmd->incident))
        answer(r, &due, INVALID, "there is no such incident");
    else {
        reports_enqueue(r, &due);
        run(r);
    }
}

void reports_delivery(struct reports *r, const PB(DeliveryReceipt) * d)
{
    size_t len = 0;
    void *data = wire_pack(d, &len, NULL);
    PB(DeliveryReceipt) *copy = data ? wire_unpack(PB_DESC(delivery_receipt), data, len, NULL) : NULL;
    free(data);
    if (!copy)
        return;
    wire_free(r->receipts[r->next_receipt]);
    r->receipts[r->next_receipt] = copy;
    r->next_receipt = (r->next_receipt + 1) % REPORTS_RECEIPTS_MAX;
    r->n_receipts += r->n_receipts < REPORTS_RECEIPTS_MAX;
}
