/* incident_impl.h - what the files of the incident's decider share. */
#ifndef REDOUBT_CONTINUITY_INCIDENT_IMPL_H
#define REDOUBT_CONTINUITY_INCIDENT_IMPL_H

#include "continuity/incident.h"

#define P(x)      INCIDENT_PHASE(x)
#define BY_ITSELF "continuity" /* who has passed a phase, if no person has */

/* One call of incident_decide(). */
struct incident_step {
    struct incident *x;
    const struct incident_rule *rule;
    const struct incident_event *ev;
    int64_t now_ms, at_ms; /* at_ms: of the event; not after now */
    struct incident_effect *out;
    size_t n;
    bool changed;
};
struct incident_effect *incident_say(struct incident_step *s, enum incident_effect_kind kind, const char *text);

/* Clocks. `conditions` are bits; data starts rto_data as well. */
void incident_clocks_start(struct incident_step *s, unsigned conditions, bool data);
void incident_clocks_tell(struct incident_step *s);
void incident_clocks_stop(struct incident_step *s, bool demonstrated);
int64_t incident_clocks_next(const struct incident *x, int64_t now_ms);

/* Phases. */
bool incident_cleared(const struct incident *x); /* no condition is left */
void incident_enter(struct incident_step *s, int phase, const char *by, const char *why);
void incident_walk(struct incident_step *s);   /* through all gates that are open */
void incident_remind(struct incident_step *s); /* overdue; what is asked again */
int64_t incident_phase_next(const struct incident *x, const struct incident_rule *rule, int64_t now_ms);

#endif
