/* audit_ward_impl.h - one trail of a replica that is gone, shared by the files that take care of it. */
#ifndef REDOUBT_AUDIT_WARD_IMPL_H
#define REDOUBT_AUDIT_WARD_IMPL_H

#include "audit/audit_care.h"
#include "audit/audit_impl.h"
#include "audit/audit_retain.h"

struct ward {
    struct audit *a;
    int index;
    struct care care;
    int keeper_fd; /* lock that says that we keep this directory; -1 = another does, or it was not asked for yet */
    struct replica lock; /* its owner's, while care_locked() */
    unsigned round;      /* grows with each taking: what belongs to one before comes too late */
    char dir[REPLICA_PATH], second[512], name[AUDIT_HOME_MAX];
    struct audit_log *log;       /* NULL = it is not open */
    struct audit_mirror *mirror; /* NULL = none is set, or it is not open */
    struct bus_watch *watch;
    struct audit_anchors *anchors;
    bool mirroring, saying, said, retaining, retained; /* of what finishing takes */
    bool told;
    int closing; /* of files that are open, so many */
    /* as it was left; the note is a copy */
    struct audit_log_status left;
    char note[AUDIT_NOTE_MAX];
    struct audit_serve serve;
};
struct audit_wards {
    struct ward *list[REPLICA_MAX]; /* NULL = nothing there was ever seen */
    bool looking;
};

/* audit_ward.c */
void ward_event(struct ward *w, enum care_event_kind kind);
void ward_refuse(struct ward *w, bool tampered, const char *why); /* told once; then CARE_FAILED */

/* audit_ward_work.c: what is done under its owner's lock. */
void ward_open(struct ward *w);
void ward_judge(struct ward *w);
void ward_finish(struct ward *w);
void ward_go_on(struct ward *w); /* of what finishing takes, what is next */
void ward_close(struct ward *w);

#endif
