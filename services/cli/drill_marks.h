/* drill_marks.h - what a drill's steps wait for: messages of the suite, what simulators have seen, files. */
#ifndef REDOUBT_CLI_DRILL_MARKS_H
#define REDOUBT_CLI_DRILL_MARKS_H

#include "cli/drill.h"

#define DRILL_MARK_MESSAGE(name)                                                                                     \
    bool name(struct drill *d, const struct drill_mark *m, const void *message, char *detail, size_t size)
#define DRILL_MARK_LOOK(name) bool name(struct drill *d, const struct drill_mark *m, char *detail, size_t size)

DRILL_MARK_MESSAGE(drill_sees_health);    /* of target `who`: state `what` */
DRILL_MARK_MESSAGE(drill_sees_breaker);   /* of target `who`: state `what` */
DRILL_MARK_MESSAGE(drill_sees_directive); /* posture `what`, `llm`, `step`, `percent` */
DRILL_MARK_MESSAGE(drill_sees_ack);       /* of that directive, or a later one; `llm` */
DRILL_MARK_MESSAGE(drill_sees_work);      /* a completion from target `who` that the agent could use */
/* Severity `what` at least; `who` is the last part of its dedup_key, or NULL and `has` an action taken; `has` is in it. */
DRILL_MARK_MESSAGE(drill_sees_alert);
DRILL_MARK_MESSAGE(drill_sees_receipt);     /* of that alert's problem, from channel `who`: status `what` */
DRILL_MARK_MESSAGE(drill_sees_any_receipt); /* of whichever alert */
DRILL_MARK_MESSAGE(drill_sees_monitoring);  /* basic monitoring has looked */
DRILL_MARK_MESSAGE(drill_sees_fenced);      /* a guard has nothing older in hand */
DRILL_MARK_MESSAGE(drill_sees_queued);      /* an action waits */
DRILL_MARK_MESSAGE(drill_sees_incident);    /* in phase `what`, or in any if that is 0 */
DRILL_MARK_MESSAGE(drill_sees_written);     /* an incident's report stands */

DRILL_MARK_LOOK(drill_look_posture);  /* the agent stands in posture `what`, confirmed, and nothing newer was said */
DRILL_MARK_LOOK(drill_look_override); /* active in the backend for `what` ms, by a POST to path `who` */
DRILL_MARK_LOOK(drill_look_released); /* by a POST to path `who` */
DRILL_MARK_LOOK(drill_look_file);     /* the last alert is in file `who` of the stack's directory */
DRILL_MARK_LOOK(drill_look_log);      /* `has` is in the log of process `who`, written since the step began */
DRILL_MARK_LOOK(drill_look_executed); /* the backend has executed `what` actions since the step began */
DRILL_MARK_LOOK(
    drill_look_settled); /* every action that was accepted is at the backend, once, those that waited in order */
DRILL_MARK_LOOK(
    drill_look_silence); /* since the freeze was confirmed, the backend has executed none of an older epoch */
DRILL_MARK_LOOK(drill_look_trail); /* the audit trail is whole, with `what` records at least */

#endif
