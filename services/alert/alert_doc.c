/* alert_doc.c - a problem's document: to the decider and back, and the words for what is told again. */
#include "alert/alert_doc.h"
#include "common/clock.h"
#include <inttypes.h>
#include <sodium.h>
#include <stdio.h>
#include <string.h>

char *alert_doc_id(const char *dedup_key, char id[static ALERT_ID_LEN + 1])
{
    unsigned char hash[ALERT_ID_LEN / 2];
    crypto_generichash(hash, sizeof hash, (const unsigned char *)dedup_key, strlen(dedup_key), NULL, 0);
    return sodium_bin2hex(id, ALERT_ID_LEN + 1, hash, sizeof hash);
}

char *alert_doc_named(const char *text, char id[static ALERT_ID_LEN + 1])
{
    if (strlen(text) != ALERT_ID_LEN || strspn(text, "0123456789abcdef") != ALERT_ID_LEN)
        return alert_doc_id(text, id);
    memcpy(id, text, ALERT_ID_LEN + 1);
    return id;
}

bool alert_doc_read(const PB(ProblemChanged) * d, struct alert_problem *ret)
{
    if (!d || !d->alert)
        return false;
    bool acked = d->state == REDOUBT__V1__PROBLEM_STATE__PROBLEM_STATE_ACKNOWLEDGED;
    *ret = (struct alert_problem){.state = (int)d->state,
                                  .severity = (int)d->alert->severity,
                                  .told_severity = (int)d->told_severity,
                                  .first_ms = d->first_unix_ms,
                                  .changed_ms = d->changed_unix_ms,
                                  .told_ms = d->told_unix_ms,
                                  .repeats = d->repeats,
                                  .acked_until_ms = acked ? d->acked_until_unix_ms : 0,
                                  .escalated = d->escalated,
                                  .escalated_ms = d->escalated_unix_ms,
                                  .telling = (int)d->telling,
                                  .telling_ms = d->telling_unix_ms,
                                  .due_ms = d->due_unix_ms};
    return alert_problem_sound(ret);
}

void alert_doc_set(PB(ProblemChanged) * d, const struct alert_problem *p)
{
    d->state = (PB(ProblemState))p->state;
    d->told_severity = (PB(Severity))p->told_severity;
    d->first_unix_ms = p->first_ms;
    d->changed_unix_ms = p->changed_ms;
    d->told_unix_ms = p->told_ms;
    d->repeats = p->repeats;
    if (p->state == ALERT_PROBLEM_ACKNOWLEDGED)
        d->acked_until_unix_ms = p->acked_until_ms;
    d->escalated = p->escalated;
    d->escalated_unix_ms = p->escalated_ms;
    d->telling = (PB(ProblemTelling))p->telling;
    d->telling_unix_ms = p->telling_ms;
    d->due_unix_ms = p->due_ms;
}

/* ---- what the settings want ---- */

const struct set_route *alert_doc_route(const struct set_alert *set, const char *name)
{
    for (size_t i = 0; i < set->routes.n; i++) {
        const struct set_route *r = CONF_AT(set->routes, struct set_route, i);
        if (strcmp(r->name ? r->name : "", name) == 0)
            return r;
    }
    return NULL;
}

const struct set_escalation *alert_doc_escalation(const struct set_alert *set, const struct set_route *route)
{
    for (size_t i = 0; route && route->escalation && *route->escalation && i < set->escalations.n; i++) {
        const struct set_escalation *e = CONF_AT(set->escalations, struct set_escalation, i);
        if (strcmp(e->name, route->escalation) == 0)
            return e;
    }
    return NULL;
}

void alert_doc_rule(const struct set_alert *set, const struct set_route *route, struct alert_problem_rule *ret)
{
    *ret = (struct alert_problem_rule){.repeat_ms = route ? route->repeat_ms : 0};
    const struct set_escalation *e = alert_doc_escalation(set, route);
    if (!e)
        return;
    ret->again_ms = e->again_ms;
    for (size_t i = 0; i < e->steps.n && i < ALERT_STEPS_MAX; i++)
        ret->after_ms[ret->n_steps++] = CONF_AT(e->steps, struct set_step, i)->after_ms;
}

/* ---- words ---- */

static const char *span(int64_t ms, char buf[static 32])
{
    int64_t s = ms > 0 ? ms / 1000 : 0, min = s / 60, h = min / 60, d = h / 24;
    if (d >= 2)
        snprintf(buf, 32, "%" PRId64 " days", d);
    else if (h >= 2)
        snprintf(buf, 32, "%" PRId64 " h %" PRId64 " min", h, min % 60);
    else if (min >= 2)
        snprintf(buf, 32, "%" PRId64 " min", min);
    else
        snprintf(buf, 32, "%" PRId64 " s", s);
    return buf;
}

const char *alert_doc_note(const PB(ProblemChanged) * d, enum alert_tell_kind tell, size_t step, uint32_t repeats,
                           int64_t now_ms, char buf[static ALERT_TELL_MAX])
{
    char there[32], fresh[32], until[CLOCK_TEXT_MAX];
    span(now_ms - d->first_unix_ms, there);
    switch (tell) {
    case ALERT_TELL_ACK_ENDED:
        snprintf(buf, ALERT_TELL_MAX, "acknowledged by %s until %s; still there, for %s now", d->acked_by,
                 clock_text(d->acked_until_unix_ms, until), there);
        break;
    case ALERT_TELL_UNACKED:
        snprintf(buf, ALERT_TELL_MAX, "given back by who had taken it on (%s); still there, for %s now", d->acked_by,
                 there);
        break;
    case ALERT_TELL_MUTE_ENDED:
        snprintf(buf, ALERT_TELL_MAX, "was muted; still there, for %s now", there);
        break;
    case ALERT_TELL_WORSE:
        snprintf(buf, ALERT_TELL_MAX, "has become worse while it was muted and acknowledged by %s", d->acked_by);
        break;
    case ALERT_TELL_STEP:
        snprintf(buf, ALERT_TELL_MAX, "nobody has acknowledged it for %s (step %zu of its escalation)",
                 span(now_ms - d->changed_unix_ms, fresh), step + 1);
        break;
    default:
        snprintf(buf, ALERT_TELL_MAX, "still there, for %s now", there);
    }
    size_t at = strlen(buf);
    if (repeats > 0 && at < ALERT_TELL_MAX)
        snprintf(buf + at, ALERT_TELL_MAX - at, "; repeated %" PRIu32 " times since people were last told", repeats);
    return buf;
}

bool alert_doc_over(const void *data, size_t len)
{
    struct alert_problem p;
    PB(ProblemChanged) *d = wire_unpack(PB_DESC(problem_changed), data, len, NULL);
    bool over = d && alert_doc_read(d, &p) && p.state == ALERT_PROBLEM_RESOLVED;
    wire_free(d);
    return over;
}
