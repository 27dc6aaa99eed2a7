/* audit_rounds.c - what the audit service looks after from time to time: room on the disks, how far it is behind, its mirror, retention. */
#include "audit/audit_impl.h"
#include "audit/audit_retain.h"
#include "common/log.h"
#include "common/metric.h"
#include "common/subjects.h"
#include <assert.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/statvfs.h>

#define ASK_MS        3000
#define KEEP_EVERY_MS 60000

METRIC_DEFINE(free_first, METRIC_GAUGE, "redoubt_audit_free_percent", "Free share of the trail's disk.");
METRIC_DEFINE(free_second, METRIC_GAUGE, "redoubt_audit_second_free_percent",
              "Free share of the second directory's disk.");
METRIC_DEFINE(room_step, METRIC_GAUGE, "redoubt_audit_room_step",
              "0 room enough, 1 warned, 2 strict records only, 3 second directory, 4 that and strict only, 5 full.");
METRIC_DEFINE(lag_ms, METRIC_GAUGE, "redoubt_audit_lag_ms", "Age of the oldest record that waits on the stream.");
METRIC_DEFINE(waiting, METRIC_GAUGE, "redoubt_audit_waiting", "Messages that wait on the stream.");
METRIC_DEFINE(mirrored, METRIC_GAUGE, "redoubt_audit_mirrored_records", "Records that the mirror has.");
METRIC_DEFINE(mirror_lag_ms, METRIC_GAUGE, "redoubt_audit_mirror_lag_ms",
              "How long the oldest record that the mirror has not has waited.");
METRIC_DEFINE(pruned_to, METRIC_GAUGE, "redoubt_audit_pruned_to", "The last record that retention has deleted.");

static void work(struct audit *a, uv_work_t *w, uv_work_cb fn, uv_after_work_cb after)
{
    a->open_ends++;
    int rc = uv_queue_work(&a->s->loop.uv, w, fn, after);
    assert(rc == 0 && "uv_queue_work fails only without a work callback");
    (void)rc;
}

/* ---- room ---- */

void audit_room_moved(struct audit *a, const struct audit_room_event *ev, const char *why)
{
    struct audit_room_rule rule = audit_room_rule(a);
    enum audit_room_step was = a->room.step;
    if (!audit_room_decide(&a->room, &rule, ev, clock_mono_ms()))
        return;
    const struct audit_room_row *row = &audit_room_rows[a->room.step];
    metric_set(&room_step, a->room.step);
    if (a->log)
        audit_log_place(a->log, a->room.volume == AUDIT_SECOND);
    if (was == a->room.step)
        return;
    char detail[ERR_TEXT_MAX + 256];
    snprintf(detail, sizeof detail, "%s: %.1f %% free%s%s%s%s", a->s->replica.dir, a->free_percent[AUDIT_FIRST],
             *a->second_dir ? "; second directory " : "", a->second_dir, *why ? ": " : "", why);
    log_info("the room for the audit trail is another", F_STR("from", audit_room_rows[was].name),
             F_STR("to", row->name), F_STR("why", why));
    audit_tell(a, "audit/disk", row->critical, a->room.step == AUDIT_ROOM_OK, row->summary, detail);
}

struct look {
    uv_work_t work;
    struct audit *a;
    char dirs[AUDIT_VOLUMES][512];
    struct audit_room_event seen[AUDIT_VOLUMES];
};

static void on_look(uv_work_t *w)
{
    struct look *l = w->data;
    for (int i = 0; i < AUDIT_VOLUMES; i++) {
        struct statvfs v;
        l->seen[i] = (struct audit_room_event){.kind = AUDIT_ROOM_LOOKED, .volume = i};
        if (!l->dirs[i][0] || statvfs(l->dirs[i], &v) || v.f_blocks == 0)
            continue;
        /* Of what people without privileges can fill: as df counts. */
        l->seen[i].total_bytes = (int64_t)(v.f_blocks - v.f_bfree + v.f_bavail) * (int64_t)v.f_frsize;
        l->seen[i].free_bytes = (int64_t)v.f_bavail * (int64_t)v.f_frsize;
    }
}

static void on_looked(uv_work_t *w, int status)
{
    struct look *l = w->data;
    struct audit *a = l->a;
    a->looking = false;
    for (int i = 0; status == 0 && i < AUDIT_VOLUMES && a->phase != AUDIT_DRAINS; i++) {
        const struct audit_room_event *ev = &l->seen[i];
        if (!l->dirs[i][0])
            continue;
        a->free_percent[i] = ev->total_bytes > 0 ? 100.0 * (double)ev->free_bytes / (double)ev->total_bytes : -1;
        metric_set(i == AUDIT_FIRST ? &free_first : &free_second, (int64_t)a->free_percent[i]);
    }
    /* The second first: whether it can be counted on decides what a full first one means. */
    for (int i = AUDIT_VOLUMES - 1; status == 0 && i >= 0 && a->phase != AUDIT_DRAINS; i--)
        if (l->dirs[i][0])
            audit_room_moved(a, &l->seen[i], "");
    free(l);
    audit_end_closed(a);
}

void audit_on_room(struct service *s)
{
    struct audit *a = audit_of(s);
    struct look *l = a->looking ? NULL : calloc(1, sizeof *l);
    if (!l)
        return;
    *l = (struct look){.work.data = l, .a = a};
    snprintf(l->dirs[AUDIT_FIRST], sizeof l->dirs[0], "%s", s->replica.dir);
    snprintf(l->dirs[AUDIT_SECOND], sizeof l->dirs[0], "%s", a->second_dir);
    a->looking = true;
    work(a, &l->work, on_look, on_looked);
}

/* ---- how far behind ---- */

static void behind(struct audit *a, uint64_t messages, int64_t oldest_unix_ms)
{
    int64_t age_ms = messages > 0 && oldest_unix_ms > 0 ? clock_wall_ms() - oldest_unix_ms : 0;
    a->behind = messages;
    a->behind_ms = age_ms > 0 ? age_ms : 0;
    metric_set(&waiting, (int64_t)messages);
    metric_set(&lag_ms, a->behind_ms);
    audit_told_alarm(a, &a->lag, a->behind_ms, "audit/lag", "The audit trail is behind what is said",
                     "The audit trail has caught up");
}

static void on_oldest(void *ctx, enum bus_status st, const struct bus_msg *m)
{
    struct audit *a = audit_tie_give(ctx);
    if (!a)
        return;
    a->asking_lag = false;
    if (st != BUS_OK || !m) {
        if (st == BUS_OK)
            behind(a, 0, 0);
        return;
    }
    bool many = m->type && strcmp(m->type, PB_DESC(audit_batch)->name) == 0;
    void *message = wire_unpack(many ? PB_DESC(audit_batch) : PB_DESC(audit_record), m->data, m->len, NULL);
    const PB(AuditRecord) *r = many && message ? ((PB(AuditBatch) *)message)->records[0] : message;
    behind(a, a->behind, r ? r->at_unix_ms : 0);
    wire_free(message);
}

static void on_consumer(void *ctx, enum bus_status st, const struct bus_msg *m)
{
    struct audit *a = audit_tie_give(ctx);
    if (!a)
        return;
    a->asking_lag = false;
    json_t *j = st == BUS_OK ? json_loadb(m->data, m->len, 0, NULL) : NULL;
    json_t *floor = json_object_get(json_object_get(j, "ack_floor"), "stream_seq");
    if (floor) {
        json_int_t n = json_integer_value(json_object_get(j, "num_pending")) +
                       json_integer_value(json_object_get(j, "num_ack_pending"));
        a->behind = n > 0 ? (uint64_t)n : 0;
        if (n <= 0) {
            behind(a, 0, 0);
        } else {
            a->asking_lag = true;
            bus_next(a->s->bus, STREAM_AUDIT, SUBJECT_AUDIT ">", (uint64_t)json_integer_value(floor) + 1, ASK_MS,
                     on_oldest, audit_tie_take(a));
        }
    }
    json_decref(j);
}

void audit_on_lag(struct service *s)
{
    struct audit *a = audit_of(s);
    audit_on_mirror(a);
    if (a->phase != AUDIT_RUNS || a->asking_lag || !bus_up(s->bus))
        return;
    struct bus_out o = {.subject = "$JS.API.CONSUMER.INFO." STREAM_AUDIT "." AUDIT_CONSUMER, .data = "", .len = 0};
    a->asking_lag = true;
    bus_request(s->bus, &o, ASK_MS, on_consumer, audit_tie_take(a));
}

/* ---- the mirror ---- */

void audit_on_mirror(void *ctx)
{
    struct audit *a = ctx;
    if (!a->mirror || a->phase == AUDIT_DRAINS)
        return;
    struct audit_mirror_status m;
    audit_mirror_status(a->mirror, &m);
    metric_set(&mirrored, (int64_t)m.size);
    metric_set(&mirror_lag_ms, m.behind_ms);
    if (m.differing != a->mirror_differing) {
        a->mirror_differing = m.differing;
        log_error("a copy of the audit trail differs; it is left as it is, and another begun beside it",
                  F_STR("where", m.differs));
        audit_tell(a, "audit/mirror", true, false, "A copy of the audit trail differs from it", m.differs);
    }
    bool source = m.state == AUDIT_MIRROR_SOURCE;
    if (source && !a->mirror_source_told) {
        log_error("the audit trail cannot be copied: what is on its disk does not verify", F_STR("why", m.why));
        audit_tell(a, "audit/tampered", true, false,
                   "The audit trail was damaged or tampered with while it is written", m.why);
    }
    a->mirror_source_told = source || (a->mirror_source_told && m.state != AUDIT_MIRROR_FOLLOWS);
    audit_told_alarm(a, &a->mirror_lag, m.behind_ms, "audit/mirror-lag", "The mirror of the audit trail is behind",
                     "The mirror of the audit trail has caught up");
}

int audit_copies_open(struct audit *a, struct err *e)
{
    const char *root = a->s->settings->audit.mirror;
    if (!*root || a->mirror)
        return 0;
    struct audit_mirror_opts o = {.sources = {a->s->replica.dir, a->second_dir},
                                  .root = root,
                                  .instance = a->name,
                                  .on_change = audit_on_mirror,
                                  .ctx = a};
    if (!(a->mirror = audit_mirror_open(&a->s->loop, &o, e)))
        return -1;
    struct audit_log_status st;
    audit_log_status(a->log, &st);
    audit_mirror_goal(a->mirror, &st);
    return 0;
}

/* ---- retention ---- */

struct keep {
    uv_work_t work;
    struct audit *a;
    struct audit_retain r;
};

static void on_keep(uv_work_t *w)
{
    audit_retain_look(&((struct keep *)w->data)->r);
}

static void on_pruned(void *ctx, const char *error)
{
    struct audit *a = ctx;
    struct audit_log_status st;
    a->keeping = false;
    if (*error)
        log_warn("old segments of the audit trail could not be deleted", F_STR("why", error));
    if (a->log) {
        audit_log_status(a->log, &st);
        metric_set(&pruned_to, (int64_t)st.pruned);
        if (!*error)
            log_info("old segments of the audit trail were deleted; the mirror has them", F_INT("up_to", st.pruned));
    }
    audit_end_closed(a);
}

static void on_kept(uv_work_t *w, int status)
{
    struct keep *k = w->data;
    struct audit *a = k->a;
    if (k->r.e.text[0])
        log_warn("segments of the audit trail that are due stay", F_STR("why", k->r.e.text));
    if (status == 0 && k->r.last > 0 && a->phase == AUDIT_RUNS) {
        a->open_ends++;
        audit_log_prune(a->log, k->r.last, on_pruned, a);
    } else {
        a->keeping = false;
    }
    free(k);
    audit_end_closed(a);
}

void audit_on_keep(struct service *s)
{
    struct audit *a = audit_of(s);
    const struct set_audit *c = &s->settings->audit;
    if ((!c->keep_ms && !c->keep_bytes) || !a->mirror || a->keeping || a->phase != AUDIT_RUNS || service_tilted(s))
        return;
    struct audit_log_status st;
    struct audit_mirror_status m;
    audit_log_status(a->log, &st);
    audit_mirror_status(a->mirror, &m);
    /* Something may be due when a segment was closed, when the mirror has it and signs for it, and as time goes by. */
    bool same = a->kept_segment == st.segment_first && clock_mono_ms() - a->kept_ms < KEEP_EVERY_MS;
    struct keep *k = same || m.signed_to + 1 < st.segment_first ? NULL : calloc(1, sizeof *k);
    if (!k)
        return;
    a->kept_segment = st.segment_first;
    a->kept_ms = clock_mono_ms();
    *k = (struct keep){.work.data = k, .a = a};
    audit_retain_fill(&k->r, c, &st, &m, s->replica.dir, a->second_dir);
    a->keeping = true;
    work(a, &k->work, on_keep, on_kept);
}
