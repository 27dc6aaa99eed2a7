/* alert_digest.c - many alerts as one message. */
#include "alert/alert_digest.h"
#include <inttypes.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const char *alert_digest_why(enum alert_parcel_reason reason)
{
    static const char *const why[ALERT_PARCEL_REASONS] = {
        [ALERT_PARCEL_QUIET] = "told late: it waited for quiet hours to end",
        [ALERT_PARCEL_OVERFLOW] = "told late: there was more than the channel takes",
        [ALERT_PARCEL_OWED] = "told late: no channel had accepted it before",
    };
    return (unsigned)reason < ALERT_PARCEL_REASONS ? why[reason] : NULL;
}

/* "1 alert of 1 problem", "812 alerts of 37 problems", "100000 alerts of more than 2000 problems". */
static void how_many(char *buf, size_t size, const struct alert_tally *t)
{
    snprintf(buf, size, "%" PRIu64 " alert%s of %s%zu problem%s", t->alerts, t->alerts == 1 ? "" : "s",
             t->untold_apart ? "more than " : "", t->n, t->n == 1 ? "" : "s");
}

static void put_title(struct alert_digest *d, const struct alert_parcel_name *name, const struct alert_tally *t)
{
    char many[96];
    how_many(many, sizeof many, t);
    switch (name->reason) {
    case ALERT_PARCEL_GROUP:
        snprintf(d->title, sizeof d->title, "%s: %s%s", many, d->shown[0]->summary, t->n > 1 ? ", and more" : "");
        break;
    case ALERT_PARCEL_QUIET:
        snprintf(d->title, sizeof d->title, "%s since quiet hours began (%s)", many, name->bucket);
        break;
    case ALERT_PARCEL_OVERFLOW:
        snprintf(d->title, sizeof d->title, "%s, more than %s takes one by one", many, name->node);
        break;
    case ALERT_PARCEL_OWED:
        snprintf(d->title, sizeof d->title, "%s that no channel accepted until now", many);
        break;
    }
    d->title[alert_text_cut(d->title, sizeof d->title, sizeof d->title)] = 0;
}

/* "2 critical, 3 high; 1 problem is over; not shown: 12 problems". */
static void put_note(struct alert_digest *d, const struct alert_tally *t)
{
    static const char *const levels[ALERT_TALLY_LEVELS] = {"other", "info", "warning", "high", "critical"};
    size_t at = 0, over = alert_tally_over(t);
#define ADD(...)                                                                                                     \
    do {                                                                                                             \
        int n_ = snprintf(d->note + at, sizeof d->note - at, __VA_ARGS__);                                           \
        at += n_ > 0 && (size_t)n_ < sizeof d->note - at ? (size_t)n_ : 0;                                           \
    } while (0)
    for (int s = ALERT_TALLY_LEVELS - 1; s >= 0; s--)
        if (t->by_level[s])
            ADD("%s%" PRIu64 " %s", at ? ", " : "", t->by_level[s], levels[s]);
    if (over)
        ADD("%s%zu problem%s over", at ? "; " : "", over, over == 1 ? " is" : "s are");
    if (t->n > d->n)
        ADD("%snot shown: %zu problem%s", at ? "; " : "", t->n - d->n, t->n - d->n == 1 ? "" : "s");
    if (t->untold_apart)
        ADD("%s%" PRIu64 " alerts of still others",
            t->n > d->n ? " and "
            : at        ? "; not shown: "
                        : "not shown: ",
            t->untold_apart);
    if (t->n > d->n || t->untold_apart)
        ADD("; they are on the record and on stream ALERTS");
#undef ADD
}

struct alert_digest *alert_digest_make(const struct alert_parcel_name *name, const struct alert_tally *t,
                                       const size_t *places, PB(Alert) * *shown, size_t n)
{
    struct alert_digest *d = calloc(1, sizeof *d);
    size_t bytes = 0;
    for (size_t i = 0; i < n; i++) {
        size_t more = shown[i] ? protobuf_c_message_get_packed_size(&shown[i]->base) : 0;
        if (!d || !shown[i] || d->n == ALERT_SHOWN_MAX || (d->n > 0 && bytes + more > ALERT_DIGEST_BYTES_MAX)) {
            wire_free(shown[i]);
        } else {
            bytes += more;
            d->times[d->n] = t->problems[places[i]].alerts;
            d->list[d->n] = d->shown[d->n] = shown[i];
            d->n++;
        }
        shown[i] = NULL;
    }
    if (!d || d->n == 0) {
        free(d);
        return NULL;
    }
    char subject[SUBJECT_MAX_LEN], hex[17];
    unsigned char hash[16];
    alert_parcel_subject(name, subject);
    crypto_generichash(hash, sizeof hash, (const unsigned char *)subject, strlen(subject), NULL, 0);
    sodium_bin2hex(hex, sizeof hex, hash, 8);
    d->first_seq = t->first_seq;
    d->last_seq = t->last_seq;
    d->alerts = t->alerts;
    snprintf(d->id, sizeof d->id, "p-%s-%" PRIu64 "-%" PRIu64, hex, t->first_seq, t->last_seq);
    put_title(d, name, t);
    put_note(d, t);
    d->message = (struct alert_message){.kind = name->reason == ALERT_PARCEL_GROUP ? ALERT_MESSAGE_GROUP
                                                                                   : ALERT_MESSAGE_DIGEST,
                                        .id = d->id,
                                        .alerts = d->list,
                                        .times = d->times,
                                        .n = d->n,
                                        .total = (size_t)t->alerts,
                                        .note = d->note,
                                        .title = d->title,
                                        .severity = alert_tally_severity(t),
                                        .resolved = alert_tally_resolved(t),
                                        .from_unix_ms = t->from_unix_ms,
                                        .to_unix_ms = t->to_unix_ms};
    return d;
}

void alert_digest_free(struct alert_digest *d)
{
    for (size_t i = 0; d && i < d->n; i++)
        wire_free(d->shown[i]);
    free(d);
}
