/* alert_doc.h - a problem as the contract has it, and as the decider has it; and the words for what people are told without a new alert. Pure. */
#ifndef REDOUBT_ALERT_DOC_H
#define REDOUBT_ALERT_DOC_H

#include "alert/alert_problem.h"
#include "common/settings.h"
#include "common/wire.h"

#define ALERT_ID_LEN   32 /* of a problem */
#define ALERT_WHY_MAX  192
#define ALERT_TELL_MAX 512

_Static_assert((int)ALERT_PROBLEM_RESOLVED == (int)REDOUBT__V1__PROBLEM_STATE__PROBLEM_STATE_RESOLVED, "contract");
_Static_assert((int)ALERT_PROBLEM_MUTED == (int)REDOUBT__V1__PROBLEM_STATE__PROBLEM_STATE_MUTED, "contract");
_Static_assert((int)ALERT_TELL_STEP == (int)REDOUBT__V1__PROBLEM_TELLING__PROBLEM_TELLING_STEP, "contract");

/* The id of a problem: BLAKE2b-128 of its dedup_key in hexadecimal digits. Returns id. */
char *alert_doc_id(const char *dedup_key, char id[static ALERT_ID_LEN + 1]);
/* The id that a person means: it itself, or a dedup_key. Returns id. */
char *alert_doc_named(const char *text, char id[static ALERT_ID_LEN + 1]);

/* False if it is nothing that we wrote. */
bool alert_doc_read(const PB(ProblemChanged) * d, struct alert_problem *ret);
/* Sets the decider's part of a document; all else is left as it is. */
void alert_doc_set(PB(ProblemChanged) * d, const struct alert_problem *p);

void alert_doc_rule(const struct set_alert *set, const struct set_route *route, struct alert_problem_rule *ret);
const struct set_route *alert_doc_route(const struct set_alert *set, const char *name); /* NULL if none */
const struct set_escalation *alert_doc_escalation(const struct set_alert *set, const struct set_route *route);

/* What people are told with an alert that they are told again. Returns buf. */
const char *alert_doc_note(const PB(ProblemChanged) * d, enum alert_tell_kind tell, size_t step, uint32_t repeats,
                           int64_t now_ms, char buf[static ALERT_TELL_MAX]);

/* A packed one, sound, of a problem that has ended. */
bool alert_doc_over(const void *data, size_t len);

#endif
