/* rollback_sight.h - what executor and traffic say, as the decider sees it: two sides, and what belongs to neither. Pure. */
#ifndef REDOUBT_ROLLBACK_SIGHT_H
#define REDOUBT_ROLLBACK_SIGHT_H

#include "rollback/rollback_executor.h"
#include "rollback/rollback_traffic.h"

/* Whom the sides belong to by the job under way. */
struct sight_job {
    const char *id;         /* NULL = there is none: whatever stands on a side is that side's */
    const char *version[2]; /* id by side */
};
/* t may be NULL: it was not asked. */
void rollback_sight_make(struct rollback_sight *out, const struct executor_view *v, const struct traffic_view *t,
                         const struct sight_job *job);
/* Does this instance belong to its side? */
bool rollback_sight_counts(const struct rollback_sight *s, const struct executor_instance *i);
/* The side whose version is the current one: the one with more traffic; without traffic the one with more ready instances, the first if equal.
 * -1 if nothing stands. */
int rollback_sight_current(const struct rollback_sight *s);

#endif
