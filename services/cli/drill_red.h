/* drill_red.h - drills on a real suite, pure: which failure each pretends, what of what happens is its own, and what is not and ends it. */
#ifndef REDOUBT_CLI_DRILL_RED_H
#define REDOUBT_CLI_DRILL_RED_H

#include "cli/status_model.h"
#include <stdbool.h>
#include <stddef.h>

#define DRILL_NOTICES_MAX 4
struct drill_kind {
    const char *name; /* "backend-outage" */
    int failure;      /* enum FailureKind of the contract */
    /* Last parts of the dedup_keys of the alerts that it raises about its agent. */
    const char *notices[DRILL_NOTICES_MAX + 1];
    const char *does; /* for the person who is asked whether to go on */
};
extern const struct drill_kind drill_kinds[];
extern const size_t drill_kinds_n;
const struct drill_kind *drill_kind(const char *name); /* NULL = there is none */

/* Is this alert one of the drill's own? */
bool drill_red_ours(const struct drill_kind *k, const char *agent, const PB(Alert) * a);
/* Does this message tell of something that is not well and is not the drill's? Then a line about it is in text. */
bool drill_red(const struct drill_kind *k, const char *agent, const void *message, char *text, size_t size);
/* May a drill on `agent` begin? False with the first reason in text. */
bool drill_red_begin(const struct status_model *m, const char *agent, char *text, size_t size);
/* Has a service gone? `was`: replicas of each of status_services before. Then a line about it is in text. */
bool drill_red_services(const size_t *was, const struct status_model *m, char *text, size_t size);

#endif
