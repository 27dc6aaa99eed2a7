/* audit_query.h - which records are asked for, and acts put together from their records: pure. No I/O, no clock. */
#ifndef REDOUBT_AUDIT_QUERY_H
#define REDOUBT_AUDIT_QUERY_H

#include "common/wire.h"
#include <stdbool.h>
#include <stdint.h>

/* Everything that is set must fit. NULL or 0 = any. Patterns are globs (`agent.*`), case counts. */
struct audit_query {
    const char *id;
    const char *action, *actor, *subject, *service; /* globs */
    int audit_class, outcome;                       /* of the contract's enums */
    int64_t since_unix_ms, until_unix_ms;           /* from since on, before until */
    const char *text;                               /* somewhere in detail or a field's value; case does not count */
    const char *field;                              /* KEY=VALUE; VALUE is a glob */
};
bool audit_query_fits(const struct audit_query *q, const PB(AuditRecord) * r);

/* A class or an outcome by its name (`strict`, `done`); 0 if there is none of it. */
int audit_query_class(const char *name);
int audit_query_outcome(const char *name);
/* `2026-01-31`, `2026-01-31T09:05`, `2026-01-31T09:05:01.042Z` (all in UTC), milliseconds since 1970, or how long ago: `24h`, `7d`. -1 if it is none of them. */
int64_t audit_query_time(const char *text, int64_t now_unix_ms);

/* ---- who did what ---- */

/* One kind of act: the record that says it is meant (and what came of it, under the same name), and names that its end may have besides. */
struct audit_view_row {
    const char *action;
    const char *ends[4];
    bool spans; /* its own record only begins it, even one that says `done`: a job, which ends by one of `ends` */
};
struct audit_view {
    const char *verb; /* `froze` */
    const char *summary;
    bool people; /* what a service does of itself is no such act */
    struct audit_view_row rows[8];
    int64_t within_ms; /* an end that comes later is of another act; 0 = AUDIT_ACT_MAX_MS */
};
extern const struct audit_view audit_views[];
extern const size_t audit_views_n;
const struct audit_view *audit_view_of(const char *verb); /* NULL if there is none */

/* An act as far as it is known: the record it began with, and the one that says how it ended; one of them may be missing. */
struct audit_act {
    const PB(AuditRecord) * intended, *ended;
};
#define AUDIT_ACT_MAX_MS 600000
int64_t audit_view_within(const struct audit_view *v);
enum audit_act_part { AUDIT_ACT_NONE, AUDIT_ACT_BEGINS, AUDIT_ACT_ENDS, AUDIT_ACT_WHOLE };
/* What `r`, the next record by time, is to the acts so far. ENDS: of acts[*ret]. WHOLE: an act of its own, with its end. */
enum audit_act_part audit_view_take(const struct audit_view *v, const struct audit_act *acts, size_t n,
                                    const PB(AuditRecord) * r, size_t *ret);
/* Who, on what, why, until when: as far as its records say. Never NULL. */
const char *audit_act_actor(const struct audit_act *a);
const char *audit_act_reason(const struct audit_act *a);
const char *audit_act_until(const struct audit_act *a);
/* How it ended, in one word: `intended` = it has not, or the record of its end is missing. Of what spans, by the name of its end: `aborted`. */
#define AUDIT_ACT_OUTCOME_MAX 32
const char *audit_act_outcome(const struct audit_view *v, const struct audit_act *a,
                              char buf[static AUDIT_ACT_OUTCOME_MAX]);

#endif
