/* notify_gap.c - audit records that could be put nowhere, and the record that says so. */
#include "common/notify_gap.h"
#include "common/clock.h"
#include <inttypes.h>
#include <stdio.h>

void notify_gap_lost(struct notify_gap *g, uint64_t records, int64_t at_unix_ms, const char *why)
{
    if (g->lost == 0)
        g->first_unix_ms = at_unix_ms;
    g->lost += records;
    g->last_unix_ms = at_unix_ms;
    snprintf(g->why, sizeof g->why, "%s", why ? why : "");
}

bool notify_gap_due(struct notify_gap *g)
{
    if (g->lost == 0 || g->saying)
        return false;
    g->saying = true;
    return true;
}

void notify_gap_record(const struct notify_gap *g, const char *service, struct notify_gap_text *t,
                       PB(AuditRecord) * ret)
{
    static const char *const keys[] = {"records", "from_unix_ms", "to_unix_ms"};
    char from[CLOCK_TEXT_MAX], to[CLOCK_TEXT_MAX];
    char *values[] = {t->lost, t->from, t->to};
    snprintf(t->lost, sizeof t->lost, "%" PRIu64, g->lost);
    snprintf(t->from, sizeof t->from, "%" PRId64, g->first_unix_ms);
    snprintf(t->to, sizeof t->to, "%" PRId64, g->last_unix_ms);
    snprintf(t->detail, sizeof t->detail, "%s audit record%s of %s from %s to %s could be put nowhere: %s", t->lost,
             g->lost == 1 ? "" : "s", service, clock_text(g->first_unix_ms, from), clock_text(g->last_unix_ms, to),
             g->why);
    for (int i = 0; i < 3; i++) {
        t->labels[i] = (PB(Label))PB_INIT(LABEL);
        t->labels[i].key = (char *)keys[i];
        t->labels[i].value = values[i];
        t->list[i] = &t->labels[i];
    }
    *ret = (PB(AuditRecord))PB_INIT(AUDIT_RECORD);
    ret->audit_class = REDOUBT__V1__AUDIT_CLASS__AUDIT_CLASS_GAP;
    ret->action = (char *)"audit.gap";
    ret->subject = (char *)service;
    ret->outcome = REDOUBT__V1__AUDIT_OUTCOME__AUDIT_OUTCOME_FAILED;
    ret->detail = t->detail;
    ret->fields = t->list;
    ret->n_fields = 3;
}

void notify_gap_said(struct notify_gap *g, uint64_t records, bool through)
{
    g->saying = false;
    if (!through)
        return;
    /* What was lost since is another gap: it begins where this one ended, at the earliest. */
    g->lost -= records < g->lost ? records : g->lost;
    g->first_unix_ms = g->last_unix_ms;
}
