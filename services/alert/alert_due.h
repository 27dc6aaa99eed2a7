/* alert_due.h - what time brings: repeats, escalations, the ends of acknowledgements and of what mutes; done by the replica that leads. */
#ifndef REDOUBT_ALERT_DUE_H
#define REDOUBT_ALERT_DUE_H

struct alert_changed;
struct alert_due;
struct alert_memory;
struct alert_due *alert_due_open(struct alert_memory *m); /* NULL if memory is out */
/* Its timer counts among the memory's asks until it is closed; the memory frees it when there are no asks any more. */
void alert_due_close(struct alert_due *x);
void alert_due_free(struct alert_due *x);
/* What mutes is different: all problems that are there are looked at. */
void alert_due_wake(struct alert_due *x);
/* Has people told what a change asks for, if it does. */
void alert_due_tell(struct alert_due *x, const struct alert_changed *r);

#endif
