/* rollback.c - the decider of a rollback: which event goes where, and what must hold of every document. Pure; see rollback.h. */
#include "rollback/rollback.h"
#include <stdio.h>
#include <string.h>

void rollback_doc_init(struct rollback_doc *d, const char *deployment)
{
    memset(d, 0, sizeof *d);
    snprintf(d->deployment, sizeof d->deployment, "%s", deployment);
    d->job.phase = d->job.previous = ROLLBACK_PHASE(IDLE);
}

bool rollback_busy(const struct rollback_doc *d)
{
    switch (d->job.phase) {
    case ROLLBACK_PHASE(PREPARE):
    case ROLLBACK_PHASE(SNAPSHOT):
    case ROLLBACK_PHASE(TARGET_UP):
    case ROLLBACK_PHASE(SHIFT):
    case ROLLBACK_PHASE(DRAIN):
    case ROLLBACK_PHASE(STOP):
    case ROLLBACK_PHASE(VERIFY):
    case ROLLBACK_PHASE(HOLD):
    case ROLLBACK_PHASE(ABORTING):
        return true;
    default:
        return false;
    }
}

const char *rollback_broken(const struct rollback_doc *d)
{
    return d->deployment[0] ? NULL : "it has no name";
}

bool rollback_decide(struct rollback_doc *d, const struct rollback_rule *rule, const struct rollback_event *ev, int64_t now_ms,
                     struct rollback_effect out[static ROLLBACK_EFFECTS], size_t *ret_n)
{
    (void)d;
    (void)rule;
    (void)ev;
    (void)now_ms;
    (void)out;
    *ret_n = 0;
    return false;
}
