/* reports.c - reports of incidents and months: what is due, one after the other, and what operators ask for. */
#include "continuity/continuity_shell.h"
#include <stdlib.h>

struct reports {
    struct continuity *room;
};

struct reports *reports_open(struct continuity *c, struct err *e)
{
    struct reports *r = calloc(1, sizeof *r);
    if (!r) {
        err_set(e, "out of memory");
        return NULL;
    }
    r->room = c;
    return r;
}

void reports_close(struct reports *r)
{
    free(r);
}

void reports_tick(struct reports *r, int64_t now_ms)
{
    (void)r;
    (void)now_ms;
}

void reports_reload(struct reports *r)
{
    (void)r;
}

void reports_incident(struct reports *r, const struct incident *x)
{
    (void)r;
    (void)x;
}

void reports_command(struct reports *r, const PB(ContinuityCommand) * cmd, const char *reply)
{
    (void)cmd;
    service_reply(continuity_service_of(r->room), reply, REDOUBT__V1__COMMAND_STATUS__COMMAND_STATUS_UNAVAILABLE, 0,
                  "reports are not written yet");
}

void reports_delivery(struct reports *r, const PB(DeliveryReceipt) * d)
{
    (void)r;
    (void)d;
}
