/* alert_sweep.h - Redis and STATE say the same: what one has lost it gets from the other. By the replica that leads. */
#ifndef REDOUBT_ALERT_SWEEP_H
#define REDOUBT_ALERT_SWEEP_H

struct alert_memory;
struct alert_sweep;
struct alert_sweep *alert_sweep_open(struct alert_memory *m); /* NULL if memory is out */
void alert_sweep_free(struct alert_sweep *x);                 /* nothing is under way any more */
/* Redis was emptied or away: everything that STATE has is given to it, then Redis is marked. */
void alert_sweep_restore(struct alert_sweep *x);
/* Each 500 ms: goes on with what is to be done. */
void alert_sweep_tick(struct alert_sweep *x);

#endif
