/* audit_retain.h - which segments of a trail are due and may go, from what its disks hold. */
#ifndef REDOUBT_AUDIT_RETAIN_H
#define REDOUBT_AUDIT_RETAIN_H

#include "audit/audit_keep.h"
#include "audit/audit_mirror.h"
#include "common/settings.h"

struct audit_retain {
    char dirs[2][512], mirror[512];
    struct audit_keep_rule rule;
    struct audit_keep_facts facts;
    uint64_t last; /* what comes of it: delete up to this record; 0 = nothing */
    struct err e;  /* why what is due stays */
};
void audit_retain_fill(struct audit_retain *k, const struct set_audit *c, const struct audit_log_status *st,
                       const struct audit_mirror_status *m, const char *dir, const char *second);
/* Asks the disks: on a thread. */
void audit_retain_look(struct audit_retain *k);

#endif
