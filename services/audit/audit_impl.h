/* audit_impl.h - the service's own state, shared by its files. */
#ifndef REDOUBT_AUDIT_IMPL_H
#define REDOUBT_AUDIT_IMPL_H

#include "audit/audit_anchor.h"
#include "audit/audit_home.h"
#include "audit/audit_kin.h"
#include "audit/audit_log.h"
#include "audit/audit_mirror.h"
#include "audit/audit_room.h"
#include "audit/audit_seen.h"
#include "audit/audit_serve.h"
#include "audit/audit_shell.h"
#include <jansson.h>

#define AUDIT_IN_HAND_MAX 1000
#define AUDIT_CONSUMER    "redoubt-audit"

/* Nothing is taken off the stream before the trail was held against what the bus remembers of it. */
enum audit_phase {
    AUDIT_WAITS,    /* for what STATE holds */
    AUDIT_COMPARES, /* reads the record that was signed */
    AUDIT_REOPENS,  /* the trail is not the one that was signed: it is set aside */
    AUDIT_RUNS,
    AUDIT_DRAINS,
};

/* Told when `raise` is reached, and again when less than half of it is left. */
struct audit_alarm {
    bool on;
    int64_t value;
};

/* What calls back from the bus may do so after the service's state is gone: it holds this, not the state. */
struct audit_tie {
    struct audit *a; /* NULL = gone */
    int refs;
};

struct audit {
    struct service *s;
    struct audit_tie *tie;
    enum audit_phase phase;
    bool trusted;              /* the trail is the one that the bus remembers, or its successor */
    struct loop_timer sign;    /* the checkpoints' */
    struct audit_log *log;     /* NULL while it is opened again */
    char name[AUDIT_HOME_MAX]; /* of the trail, wherever it has a place */
    char second_dir[512];      /* of this replica; "" = none */
    bool told_aside;           /* at the start, that a trail was set aside */

    /* intake */
    struct audit_entry *flying; /* by id: on their way to the disk */
    struct bus_consumer *consumer;
    struct audit_seen seen;
    bool failing;     /* alerted, not yet resolved */
    uint64_t lost;    /* segments that were deleted, and told */
    uint64_t top_seq; /* of the stream, that was given to us */
    uint64_t put_off; /* messages given back since only strict ones are taken */
    struct audit_past *past;
    bool past_failed; /* one that was read where it stands could not be written: they are read again */
    struct audit_kin *kin;
    struct audit_asking *asking; /* what came, and is held against the others' trails first */
    struct audit_wards *wards;

    /* anchors */
    struct bus_watch *watch;
    struct audit_anchors *anchors;

    /* copies, room, retention */
    struct audit_mirror *mirror; /* NULL = none is set */
    uint64_t mirror_differing;   /* told */
    bool mirror_source_told;
    struct audit_serve serve;
    struct audit_room room;
    double free_percent[AUDIT_VOLUMES]; /* -1 = not known */
    bool looking, keeping, rotating, asking_lag;
    uint64_t kept_segment; /* retention was looked after when this one was begun */
    int64_t kept_ms;
    struct audit_alarm lag, mirror_lag;
    int64_t behind_ms; /* the oldest record that waits on the stream; 0 = none does */
    uint64_t behind;   /* messages that wait */

    /* the checkpoint on STATE */
    bool announcing, announce_again;
    uint64_t said_mirrored; /* in the last announcement */

    int open_ends; /* what is under way and comes back to this state: the end waits for it */
};
static inline struct audit *audit_of(struct service *s)
{
    return s->state;
}
static inline struct audit_room_rule audit_room_rule(const struct audit *a)
{
    const struct set_audit *c = &a->s->settings->audit;
    return (struct audit_room_rule){.warn_free = c->warn_free, .stop_free = c->stop_free, .second = *a->second_dir};
}

/* audit_shell.c */
int audit_open_log(struct audit *a, const char *distrust, struct audit_log_found *found, struct err *e);
void audit_end_closed(void *ctx); /* one of open_ends; ctx = the audit */
struct audit_tie *audit_tie_take(struct audit *a);
struct audit *audit_tie_give(struct audit_tie *t); /* NULL = the state is gone */

/* audit_intake.c */
int audit_intake_open(struct audit *a, struct err *e);
void audit_intake_end(struct audit *a);      /* what waits goes back to the stream */
void audit_intake_close(struct audit *a);    /* frees */
void audit_intake_remember(struct audit *a); /* the ids that the trail holds already */
/* A strict record that was read where it stands; its message comes again later, and is known by its id then. */
void audit_intake_strict(struct audit *a, const void *data, size_t len);
bool audit_intake_waits(const PB(AuditRecord) * r); /* not a strict one: may be put off */

/* audit_past.c: strict records behind those that wait. */
void audit_past_go(struct audit *a);
void audit_past_end(struct audit *a);

/* audit_say.c */
void audit_tell(struct audit *a, const char *key, bool critical, bool resolved, const char *summary,
                const char *detail);
void audit_announce(struct audit *a);        /* the newest checkpoint, on STATE */
void audit_announce_copied(struct audit *a); /* again, if the second directory has more of it than was said */
void audit_told_alarm(struct audit *a, struct audit_alarm *alarm, int64_t value_ms, const char *key,
                      const char *summary, const char *over);

/* audit_trust.c: the trail against what the bus remembers. */
int audit_trust_open(struct audit *a, struct err *e);
void audit_trust_end(struct audit *a);

/* audit_ward.c: the trails of replicas that are gone. */
int audit_wards_open(struct audit *a, struct err *e);
bool audit_wards_read(struct audit *a, const PB(AuditRead) * q, const char *reply); /* true: it is one of them */
void audit_wards_drain(struct audit *a); /* as one of open_ends for each that is under way */
void audit_wards_close(struct audit *a);
json_t *audit_wards_json(const struct audit *a);

/* audit_rounds.c: room, retention, lag, the mirror's state. */
void audit_room_moved(struct audit *a, const struct audit_room_event *ev, const char *why);
void audit_on_mirror(void *ctx);
int audit_copies_open(struct audit *a, struct err *e);

#endif
