/* alert_pulse.h - the dead-man's test carried out by the replica that leads: test alerts, pulses, pings. */
#ifndef REDOUBT_ALERT_PULSE_H
#define REDOUBT_ALERT_PULSE_H

#include <stdint.h>

struct alert_room;
struct alert_pulse;
struct alert_pulse *alert_pulse_open(struct alert_room *r); /* NULL if memory is out */
/* When the last test passed, whichever replica did it; 0 = none has, as far as this one knows. NULL is fine. */
int64_t alert_pulse_last(const struct alert_pulse *p);
void alert_pulse_close(struct alert_pulse *p); /* NULL is fine */

#endif
