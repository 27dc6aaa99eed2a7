/* audit_serve.h - gives a trail's durable bytes to copies on other hosts: redoubt.v1.cmd.audit.read. Files are read off the loop. */
#ifndef REDOUBT_AUDIT_SERVE_H
#define REDOUBT_AUDIT_SERVE_H

#include "audit/audit_log.h"
#include "common/service.h"

#define AUDIT_SERVE_BYTES   45000 /* of one answer */
#define AUDIT_SERVE_AT_ONCE 8     /* more than that are told to come again */

struct audit_serve {
    struct service *s;
    const char *dirs[2]; /* of the trail; the second may be "" */
    /* Nobody holds the trail's lock for us: as soon as its checkpoint is not the one that it was left with, an owner is there, and answers for it. */
    bool unowned;
    int at_once;
    loop_cb idle; /* called once when the last answer is on its way, if set */
    void *idle_ctx;
};
/* Answers m->reply, now or later. `st` is of this moment. */
void audit_serve_read(struct audit_serve *v, const PB(AuditRead) * q, const char *reply,
                      const struct audit_log_status *st);
/* idle(ctx) as soon as nothing is under way: at once or later. */
void audit_serve_end(struct audit_serve *v, loop_cb idle, void *ctx);

#endif
