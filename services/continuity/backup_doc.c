/* backup_doc.c - a source's record on the bus, and what people are told of it: alerts, the trail, the signal that data are damaged. */
#include "common/log.h"
#include "common/metric.h"
#include "common/subjects.h"
#include "continuity/backup_impl.h"
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

METRIC_DEFINE(saves, METRIC_COUNTER, "redoubt_continuity_backups_saved_total", "Copies that were saved.");
METRIC_DEFINE(failures, METRIC_COUNTER, "redoubt_continuity_backups_failed_total",
              "Saves, tests, checks of backups that failed.");
METRIC_DEFINE(tests, METRIC_COUNTER, "redoubt_continuity_backups_tested_total", "Test restores that passed.");

#define OUTCOME(name) REDOUBT__V1__AUDIT_OUTCOME__AUDIT_OUTCOME_##name

static bool of_data(const struct backup_source *x, unsigned problems)
{
    return problems & (BACKUP_DIFFERS | BACKUP_EMPTY | (x->set->kind == SET_BACKUP_LEARNING ? BACKUP_SHRUNKEN : 0u));
}

/* ---- the record ---- */

static void fill(struct backup_source *x)
{
    const struct backup_plan *p = &x->plan;
    PB(BackupState) *d = &x->doc;
    redoubt__v1__backup_state__init(d);
    d->source = x->set->name;
    d->kind = (Redoubt__V1__BackupKind)(x->set->kind + 1);
    d->agent = x->set->agent;
    d->revision = x->revision;
    d->known_unix_ms = p->known_ms;
    d->verified_point_unix_ms = p->point_ms;
    d->verified_snapshot = p->point_ms > 0 ? x->verified : (char *)"";
    d->saved_unix_ms = p->saved_ms;
    d->snapshot = x->snapshot;
    d->files = x->files;
    d->bytes = p->bytes;
    d->bytes_before = p->bytes_before;
    d->took_ms = x->took_ms;
    d->checked_unix_ms = p->done_ms[BACKUP_CHECK];
    d->read_unix_ms = p->done_ms[BACKUP_READ];
    d->tested_unix_ms = p->done_ms[BACKUP_TEST];
    d->test_took_ms = x->test_took_ms;
    d->failures = x->failures;
    d->error = x->error;
    d->open_alerts = x->told;
    d->next_save_unix_ms = p->next_ms[BACKUP_SAVE];
    d->next_check_unix_ms = p->next_ms[BACKUP_CHECK];
    d->next_read_unix_ms = p->next_ms[BACKUP_READ];
    d->next_test_unix_ms = p->next_ms[BACKUP_TEST];
    d->snapshots = x->snapshots;
    d->fence = continuity_fence(x->b->c);
    d->suspicious = p->suspicious;
}

void backup_announce(struct backup_source *x)
{
    char subject[SUBJECT_MAX_LEN];
    x->revision++;
    fill(x);
    snprintf(subject, sizeof subject, SUBJECT_CONTINUITY_BACKUP "%s", x->set->name);
    continuity_announce(x->b->c, subject, x->revision, &x->doc);
}

void backup_take(struct backup_source *x, const PB(BackupState) * s, int64_t now_ms)
{
    struct backup_plan *p = &x->plan;
    uint64_t random = p->random;
    *p = (struct backup_plan){.known_ms = s->known_unix_ms,
                              .point_ms = s->verified_point_unix_ms,
                              .saved_ms = s->saved_unix_ms,
                              .bytes = s->bytes,
                              .bytes_before = s->bytes_before,
                              .suspicious = s->suspicious,
                              .vanished = !s->suspicious && (s->open_alerts & BACKUP_EMPTY),
                              .marks = s->open_alerts & (BACKUP_DIFFERS | BACKUP_DAMAGED | BACKUP_GONE),
                              .last = BACKUP_ACTS,
                              .random = random};
    const int64_t done[] = {s->saved_unix_ms, s->tested_unix_ms, s->checked_unix_ms, s->read_unix_ms, now_ms};
    const int64_t next[] = {s->next_save_unix_ms, s->next_test_unix_ms, s->next_check_unix_ms, s->next_read_unix_ms,
                            now_ms + x->rule.period_ms[BACKUP_FORGET] / 24};
    for (int a = 0; a < BACKUP_ACTS; a++) {
        p->done_ms[a] = done[a];
        p->next_ms[a] = next[a];
    }
    backup_plan_fit(p, &x->rule, now_ms);
    x->begun = true;
    x->revision = s->revision;
    x->files = s->files;
    x->took_ms = s->took_ms;
    x->test_took_ms = s->test_took_ms;
    x->failures = s->failures;
    x->snapshots = s->snapshots;
    x->told = s->open_alerts;
    x->signalled = of_data(x, x->told); /* the incident keeps it until it is said to be over */
    snprintf(x->verified, sizeof x->verified, "%s", s->verified_snapshot);
    snprintf(x->snapshot, sizeof x->snapshot, "%s", s->snapshot);
    snprintf(x->error, sizeof x->error, "%s", s->error);
    backup_list_unref(x->proven);
    x->proven = NULL;
    fill(x);
}

/* ---- what people are told ---- */

static void tell(struct backup_source *x, const struct backup_problem_text *t, bool over)
{
    char what[200], summary[256], detail[ERR_TEXT_MAX + 300];
    snprintf(what, sizeof what, "backup/%s/%s", x->set->name, t->name);
    snprintf(summary, sizeof summary, over ? "backup of %s: well again (%s)" : "backup of %s: %s", x->set->name,
             over ? t->name : t->summary);
    snprintf(detail, sizeof detail, "%s%s%s", over ? "" : x->error, over || !*x->error ? "" : ". ",
             over ? "" : t->advice);
    continuity_alert(x->b->c, what, t->severity, over, x->set->agent, summary, detail);
    if (!over)
        log_warn("a backup has a problem", F_STR("source", x->set->name), F_STR("problem", t->name),
                 F_STR("why", x->error));
}

/* Data that are lost or cannot be trusted start the clock for data. What is merely late does not. */
static void signal_data(struct backup_source *x, unsigned problems, int64_t now_ms)
{
    bool is = of_data(x, problems);
    if (is == x->signalled)
        return;
    x->signalled = is;
    char summary[256];
    snprintf(summary, sizeof summary, "data of %s: %s", x->set->name,
             problems & BACKUP_DIFFERS ? "what was restored is not what was saved"
             : problems & BACKUP_EMPTY ? "they have vanished"
                                       : "they have shrunk");
    continuity_signal(x->b->c, &(struct signal){.dimension = SIGNAL_DATA,
                                                .subject = x->set->name,
                                                .cause = "",
                                                .severity = REDOUBT__V1__SEVERITY__SEVERITY_HIGH,
                                                .condition = is ? CONDITION_DEGRADED : 0,
                                                .at_ms = now_ms,
                                                .summary = is ? summary : ""});
}

void backup_judge(struct backup_source *x, int64_t now_ms)
{
    unsigned is = backup_plan_problems(&x->plan, &x->rule, now_ms), changed = is ^ x->told;
    for (size_t i = 0; changed && i < BACKUP_PROBLEMS; i++)
        if (changed & backup_problem_texts[i].bit)
            tell(x, &backup_problem_texts[i], !(is & backup_problem_texts[i].bit));
    x->told = is;
    signal_data(x, is, now_ms);
    if (changed)
        backup_announce(x);
}

void backup_let_go(struct backup_source *x)
{
    int64_t now_ms = continuity_now_ms(x->b->c);
    for (size_t i = 0; i < BACKUP_PROBLEMS; i++)
        if (x->told & backup_problem_texts[i].bit)
            tell(x, &backup_problem_texts[i], true);
    x->told = 0;
    signal_data(x, 0, now_ms);
}

/* ---- the trail ---- */

static void record(struct backup_source *x, const char *action, int outcome, const char *detail)
{
    continuity_record(x->b->c, action, "continuity", x->set->name, outcome, detail);
}

void backup_recorded(struct backup_source *x, const struct backup_run *r, bool moved)
{
    static const char *const names[] = {"saving", "test restore", "check", "reading back", "removing old copies"};
    char text[ERR_TEXT_MAX + 128];
    if (!r->out.ok) {
        metric_add(&failures, 1);
        snprintf(text, sizeof text, "%s: %s", names[r->act], r->text);
        log_warn("a backup's work failed", F_STR("source", x->set->name), F_STR("what", names[r->act]),
                 F_STR("why", r->text));
        record(x, "backup.failed", OUTCOME(FAILED), text);
        return;
    }
    switch (r->act) {
    case BACKUP_SAVE:
        metric_add(&saves, 1);
        snprintf(text, sizeof text, "snapshot %.8s, %" PRIu64 " files, %" PRIu64 " bytes, %" PRIu64 " ms%s%s%s",
                 r->snapshot, x->files, r->out.bytes, x->took_ms, moved ? ", read back and the same" : ", not proven",
                 r->noted ? ": " : "", r->noted ? r->text : "");
        record(x, "backup.saved", OUTCOME(DONE), text);
        log_info("saved", F_STR("source", x->set->name), F_STR("snapshot", r->snapshot), F_INT("files", x->files),
                 F_INT("bytes", r->out.bytes), F_INT("took_ms", x->took_ms));
        break;
    case BACKUP_TEST:
        metric_add(&tests, 1);
        snprintf(text, sizeof text, "snapshot %.8s restored and the same: %" PRIu64 " bytes, %" PRIu64 " ms%s%s",
                 r->snapshot, r->out.bytes, x->test_took_ms, r->noted ? ": " : "", r->noted ? r->text : "");
        record(x, "backup.tested", OUTCOME(DONE), text);
        log_info("restored for a test", F_STR("source", x->set->name), F_STR("snapshot", r->snapshot),
                 F_INT("bytes", r->out.bytes), F_INT("took_ms", x->test_took_ms));
        break;
    default:
        log_info("a repository was looked after", F_STR("source", x->set->name), F_STR("what", names[r->act]));
        break;
    }
}
