/* drill_acts.h - acts of a drill's steps, and what they wait for: processes, simulators, operators' commands, actions. */
#ifndef REDOUBT_CLI_DRILL_ACTS_H
#define REDOUBT_CLI_DRILL_ACTS_H

#include "cli/drill.h"

/* Processes; `who` holds their names, joined by blanks. */
int drill_act_spawn(struct drill *d, const struct drill_step *s, struct err *e);
int drill_act_kill(struct drill *d, const struct drill_step *s, struct err *e); /* SIGKILL, until it is gone */
int drill_act_end(struct drill *d, const struct drill_step *s, struct err *e);  /* SIGTERM */
int drill_act_tell(struct drill *d, const struct drill_step *s,
                   struct err *e); /* signal `what`, which does not end it */
/* Listens to the whole bus. */
int drill_act_connect(struct drill *d, const struct drill_step *s, struct err *e);
/* POST /sim/mode: mode `verb` of simulator `who`. */
int drill_act_mode(struct drill *d, const struct drill_step *s, struct err *e);
/* Command `verb` of fallback, as an operator; the answer is drill_look_answer()'s. */
int drill_act_order(struct drill *d, const struct drill_step *s, struct err *e);
/* Asks the guard for an action as somebody who does not obey: `what` epochs behind the present one. */
int drill_act_ask(struct drill *d, const struct drill_step *s, struct err *e);
bool drill_look_listening(struct drill *d, const struct drill_mark *m, char *detail, size_t size); /* who: names */
bool drill_look_connected(struct drill *d, const struct drill_mark *m, char *detail, size_t size);
bool drill_look_ended(struct drill *d, const struct drill_mark *m, char *detail, size_t size); /* exit code `what` */
/* The answer to the last order has status `what`, and `has` in its text. */
bool drill_look_answer(struct drill *d, const struct drill_mark *m, char *detail, size_t size);
/* The guard has refused the last action for reason `what`. */
bool drill_look_refused(struct drill *d, const struct drill_mark *m, char *detail, size_t size);

#endif
