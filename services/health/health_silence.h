/* health_silence.h - can the alert service still be relied on? By its pulses, pure: pulses and time in, what to say out. */
#ifndef REDOUBT_HEALTH_SILENCE_H
#define REDOUBT_HEALTH_SILENCE_H

#include <stdbool.h>
#include <stdint.h>

#define HEALTH_SILENCE_PULSES 3 /* that may be missing */

struct health_silence {
    int64_t heard_ms; /* monotonic: when a good pulse was last heard, or since when one could be */
    int64_t pulse_unix_ms;
    int64_t every_ms; /* as the pulses say */
    bool silent;
    bool said; /* by us */
};
enum health_silence_news { HEALTH_SILENCE_NONE, HEALTH_SILENCE_RAISE, HEALTH_SILENCE_RESOLVE };

/* A pulse; the same one may come again and again. Only good ones count. */
void health_silence_heard(struct health_silence *x, int64_t pulse_unix_ms, int64_t every_ms, bool ok, int64_t now_ms,
                          int64_t now_unix_ms);
/* listens: it is set that there are pulses, and we could hear them. speaks: of the replicas it is for us to say. every_ms: as our settings
 * say. */
enum health_silence_news health_silence_tick(struct health_silence *x, bool listens, bool speaks, int64_t every_ms,
                                             int64_t now_ms);

#endif
