/* alert_digest.h - many alerts as one message: what it is called, what it says of all of them, and which it shows. Pure but for its memory. */
#ifndef REDOUBT_ALERT_DIGEST_H
#define REDOUBT_ALERT_DIGEST_H

#include "alert/alert_message.h"
#include "alert/alert_parcel.h"
#include "alert/alert_tally.h"
#include "alert/alert_text.h"

#define ALERT_DIGEST_BYTES_MAX (256 * 1024) /* of what is shown whole, in memory */

struct alert_digest {
    struct alert_message message; /* stands on what follows */
    uint64_t first_seq, last_seq;
    uint64_t alerts; /* that it stands for */
    size_t n;
    PB(Alert) * shown[ALERT_SHOWN_MAX]; /* owned */
    const PB(Alert) * list[ALERT_SHOWN_MAX];
    uint32_t times[ALERT_SHOWN_MAX];
    char id[65];
    char title[ALERT_TITLE_MAX], note[320];
};
/* `shown` are the last alerts of the problems `places`, NULL = not to be had; taken. NULL if memory is out, or none is there. The id is made of the
 * bucket and of the first and last sequence: the same parcels are the same message, whoever puts them together and however often. */
struct alert_digest *alert_digest_make(const struct alert_parcel_name *name, const struct alert_tally *t,
                                       const size_t *places, PB(Alert) * *shown, size_t n);
void alert_digest_free(struct alert_digest *d); /* NULL is fine */
/* What one alert's message adds if it was put by; NULL = nothing. */
const char *alert_digest_why(enum alert_parcel_reason reason);

#endif
