/* alert_silence.h - silences: what people have said they do not want to hear of for a time. They stand on stream STATE only, and every replica has
 * them all by watching it: none of them needs Redis, and none of them ends up forgotten, as each has an end. */
#ifndef REDOUBT_ALERT_SILENCE_H
#define REDOUBT_ALERT_SILENCE_H

#include "common/bus.h"
#include "common/service.h"
#include "common/wire.h"

#define ALERT_SILENCES_MAX    1000     /* not yet over */
#define ALERT_SILENCE_KEEP_MS 86400000 /* one that is over goes from the stream after this long */
#define ALERT_SILENCE_MOST_MS (INT64_C(30) * 86400000)

struct alert_silences;
/* `changed` is called when one has come or is different, `synced` when all there are have come. NULL if memory is out. */
struct alert_silences *alert_silences_open(struct service *s, loop_cb changed, loop_cb synced, void *ctx);
void alert_silences_close(struct alert_silences *x); /* NULL is fine */
/* One read from the stream, or said by ourselves just now; the newer revision stays. False if it cannot be kept: not valid, or too many. It is copied. */
bool alert_silences_add(struct alert_silences *x, const PB(Silence) * s, struct err *e);
/* Of those in force that the alert fits, the one that ends last; NULL if none. Valid until the next call of add or tidy. */
const PB(Silence) * alert_silences_fit(const struct alert_silences *x, const PB(Alert) * a, int64_t now_ms);
const PB(Silence) * alert_silences_find(const struct alert_silences *x, const char *id);
/* All that are in force or will be, in order of their beginning; at most `max`. Returns how many. */
size_t alert_silences_list(const struct alert_silences *x, int64_t now_ms, const PB(Silence) * *ret, size_t max);
size_t alert_silences_in_force(const struct alert_silences *x, int64_t now_ms);
/* Has one begun or ended after from_ms, up to to_ms? */
bool alert_silences_turned(const struct alert_silences *x, int64_t from_ms, int64_t to_ms);
/* Forgets those that have been over for long; with `purge` the stream forgets them, too. */
void alert_silences_tidy(struct alert_silences *x, int64_t now_ms, bool purge);

#endif
