/* alert_circuit.h - is a channel working? Pure: what deliveries tell of it in, whether it may be tried and what to say out. */
#ifndef REDOUBT_ALERT_CIRCUIT_H
#define REDOUBT_ALERT_CIRCUIT_H

#include "alert/alert_outcome.h"
#include "common/sm.h"
#include <stdbool.h>
#include <stdint.h>

#define ALERT_PROBE_MS 5000

enum alert_circuit_state {
    ALERT_CIRCUIT_OK,
    ALERT_CIRCUIT_SUSPECT, /* it refused something that may be the message's own fault: people know, it is used on */
    ALERT_CIRCUIT_BROKEN, /* given up: people know; one alert each ALERT_PROBE_MS tries it, all others go past at once */
};
extern const struct sm_table alert_circuit_table;

struct alert_circuit {
    int state;
    int64_t probe_ms; /* BROKEN: not before */
};
/* May this attempt be made? In BROKEN a yes is the probe. */
bool alert_circuit_admit(struct alert_circuit *c, int64_t now_ms);

enum alert_circuit_news {
    ALERT_CIRCUIT_SILENT,
    ALERT_CIRCUIT_RAISE,   /* tell people, by other channels, that it is broken */
    ALERT_CIRCUIT_RESOLVE, /* it works again */
};
/* A delivery was accepted, or has given the channel up. A file that fails at once costs no time and is tried always. */
enum alert_circuit_news alert_circuit_told(struct alert_circuit *c, enum alert_class class,
                                           const struct alert_outcome *o, bool record, int64_t now_ms);
/* The record of before a restart says that people were told of it and not yet that it is over. */
void alert_circuit_recall(struct alert_circuit *c);

#endif
