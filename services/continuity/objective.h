/* objective.h - each objective's verdict from what is known, pure: target, estimate, demonstrated with its age, and what runs now. */
#ifndef REDOUBT_CONTINUITY_OBJECTIVE_H
#define REDOUBT_CONTINUITY_OBJECTIVE_H

#include "common/settings.h"
#include "common/wire.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define OBJECTIVE_SHOWN 5
struct objective_shown {
    int64_t at_ms, took_ms;
    char by[129];
};
/* What was shown, newest last. */
struct objective_history {
    struct objective_shown shown[OBJECTIVE_SHOWN];
    size_t n;
};
void objective_add(struct objective_history *h, int64_t at_ms, int64_t took_ms, const char *by);
struct objective_facts {
    enum set_objective objective;
    int64_t target_ms, expire_ms;
    const struct objective_history *history; /* RTO, MAD */
    bool measured;                           /* RPO: there is a source */
    int64_t point_ms;                        /* RPO: newest verified-restorable point of the worst source; 0 = none */
    int64_t expected_ms;                     /* RPO: schedule plus the last run's time */
    const char *point_by;
    int64_t running_ms; /* the worst clock that runs now; 0 = none */
    const char *running_incident;
};
struct objective_view {
    int verdict; /* ObjectiveVerdict */
    bool has_estimate, has_demonstrated, expired;
    int64_t estimate_ms, demonstrated_ms, demonstrated_at_ms;
    const char *demonstrated_by;
    char why[256];
};
void objective_judge(const struct objective_facts *f, int64_t now_ms, struct objective_view *ret);
/* Of this agent (NULL = the suite's), in order of enum set_objective. */
void objective_targets(const struct set_continuity *set, const char *agent, int64_t ret[static SET_OBJECTIVES]);
/* Which entry of `own` is this agent's; -1 = none. And the objectives by that entry. */
int objective_own(const struct set_continuity *set, const char *agent);
void objective_targets_of(const struct set_continuity *set, int own, int64_t ret[static SET_OBJECTIVES]);
/* "2h 5m", "45s", "850ms": the two largest units. Returns buf. */
#define OBJECTIVE_TEXT 32
const char *objective_text(int64_t ms, char buf[static OBJECTIVE_TEXT]);

#endif
