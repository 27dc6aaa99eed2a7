/* alert_purge.c - takes what is over from stream STATE. */
#include "alert/alert_purge.h"
#include "common/subjects.h"

#define ASK_MS 2000

static void on_removed(void *ctx, enum bus_status st)
{
    (void)ctx; /* what is still there is found again */
    (void)st;
}

static void on_last(void *ctx, enum bus_status st, const struct bus_msg *m)
{
    struct bus *b = ctx;
    if (st == BUS_OK && m && m->stream_seq > 0)
        bus_remove(b, STREAM_STATE, m->stream_seq, ASK_MS, on_removed, NULL);
}

void alert_purge(struct bus *b, const char *subject)
{
    if (bus_up(b))
        bus_last(b, STREAM_STATE, subject, ASK_MS, on_last, b);
}
