/* alert_inhibit.h - problems that make others not worth telling: a rule's source, while it is there, mutes its targets. Pure but for its memory.
 *
 * Nothing is told too little because of it: a problem never mutes itself; of two that mute each other the one that was there first is told; and one that
 * is muted itself mutes only what began after it, so that in a ring of any length somebody is told. */
#ifndef REDOUBT_ALERT_INHIBIT_H
#define REDOUBT_ALERT_INHIBIT_H

#include "common/settings.h"
#include "common/wire.h"
#include <stdbool.h>

#define ALERT_SOURCES_MAX 4096 /* problems that mute others; beyond, further ones do not */

struct alert_inhibits;
/* Copies what it needs. NULL, with the text in e, if memory is out or a matcher is wrong. */
struct alert_inhibits *alert_inhibits_new(const struct set_alert *set, struct err *e);
void alert_inhibits_free(struct alert_inhibits *x); /* NULL is fine */
/* Takes in how a problem is now. True if it mutes others and did not before, or does not any more. */
bool alert_inhibits_feed(struct alert_inhibits *x, const PB(ProblemChanged) * p);
/* The rule by which something mutes this alert's problem, NULL if nothing does. first_ms: when its outbreak began. */
const char *alert_inhibits_by(const struct alert_inhibits *x, const PB(Alert) * a, const char *id, int64_t first_ms);
size_t alert_inhibits_sources(const struct alert_inhibits *x);

#endif
