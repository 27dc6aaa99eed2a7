/* alert_purge.h - takes what is over from stream STATE. */
#ifndef REDOUBT_ALERT_PURGE_H
#define REDOUBT_ALERT_PURGE_H

#include "common/bus.h"

/* Removes the last message of a subject from STATE as it stands now; one that comes later stays. If that does not work out, whoever finds it
 * there asks again. */
void alert_purge(struct bus *b, const char *subject);

#endif
