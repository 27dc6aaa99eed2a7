/* health_hush.c - says that the alert service is silent: by the last resort at once, as it cannot be relied on, and by the bus. */
#include "common/clock.h"
#include "common/log.h"
#include "health/health_shell.h"
#include <inttypes.h>
#include <stdio.h>

void health_on_pulse(struct service *s, const void *message, const struct bus_msg *m)
{
    const PB(Pulse) *p = message;
    (void)m;
    health_silence_heard(&health_watcher_of(s)->silence, p->at_unix_ms, p->every_ms, p->ok, clock_mono_ms(),
                         clock_wall_ms());
}

/* One of the replicas speaks; each of them if they do not know of each other. */
static bool speaks(const struct health_watcher *w)
{
    const struct members_view *v = health_view(w);
    return v->known_ms == INT64_MIN || v->n_ranked == 0 || v->self_ranked == 0;
}

void health_on_silence(struct service *s)
{
    struct health_watcher *w = health_watcher_of(s);
    const struct set_deadman *set = &s->settings->alert.deadman;
    bool listens = *set->to && bus_up(s->bus) && w->synced && health_may_act(w) && !w->draining;
    enum health_silence_news news =
        health_silence_tick(&w->silence, listens, speaks(w), set->every_ms, clock_mono_ms());
    if (news == HEALTH_SILENCE_NONE)
        return;
    bool over = news == HEALTH_SILENCE_RESOLVE;
    char detail[256], last[CLOCK_TEXT_MAX];
    snprintf(detail, sizeof detail,
             over ? "Its self-test has passed again (%s)."
                  : "The last self-test of the alert service that passed is of %s.",
             w->silence.pulse_unix_ms ? clock_text(w->silence.pulse_unix_ms, last)
                                      : "a time before this watcher's start");
    PB(Alert) a = PB_INIT(ALERT);
    a.dedup_key = (char *)"alert/silent";
    a.severity = REDOUBT__V1__SEVERITY__SEVERITY_CRITICAL;
    a.summary = (char *)(over ? "The alert service is heard again"
                              : "The alert service is silent: alerts may not reach anybody");
    a.detail = detail;
    a.resolved = over;
    a.evidence_unix_ms = clock_wall_ms();
    service_alert_last(s, &a, over ? "the alert service is heard again" : "the alert service is silent");
}
