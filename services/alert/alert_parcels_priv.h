/* alert_parcels_priv.h - what the files of the parcels share. Private to alert_parcels*.c. */
#ifndef REDOUBT_ALERT_PARCELS_PRIV_H
#define REDOUBT_ALERT_PARCELS_PRIV_H

#include "alert/alert_digest.h"
#include "alert/alert_parcels.h"
#include "alert/alert_room.h"

#define PARCEL_BUCKETS_MAX 10000 /* known at a time; what is beyond is found when others are through */
#define PARCEL_BUSY_MAX    16    /* buckets that are being told at a time: what they hold in memory is bounded */
#define PARCEL_GROUPS_MAX  4     /* groups of one node among them */
#define PARCEL_KEPT_MAX    16 /* digests in memory that nobody has accepted yet; others are read anew at each attempt */
#define PARCEL_ANSWER_MS   5000
#define PARCEL_AGAIN_MS    2000 /* after an answer that did not come */

/* How a message is sent on its way: alert_run.h; tests have ways of their own. */
struct alert_parcels_ways {
    struct alert_run *(*start)(struct alert_room *r, const struct alert_run_opts *o, alert_run_cb cb, void *ctx);
    void (*drop)(struct alert_run *x);
};
struct alert_parcels *alert_parcels_make(struct alert_room *r, const struct alert_parcels_ways *ways);

struct parcel_tell;
struct parcel_bucket {
    struct alert_parcels *p;
    struct alert_parcel_name name;
    char subject[SUBJECT_MAX_LEN];
    struct alert_parcel_clock clock;  /* on the monotonic clock */
    uint64_t count;                   /* as far as this replica knows */
    uint64_t counting;                /* by the count that is under way */
    int quiet_day;                    /* the quiet hours in which the first was put by; see alert_quiet_day() */
    bool was_off;                     /* none were in force since then */
    bool loaded, loading;             /* what Redis knows of it */
    uint64_t fixed_first, fixed_last; /* the digest that nobody has accepted yet holds these; 0 = there is none */
    struct alert_digest *kept;        /* and this is it */
    struct parcel_tell *tell;         /* being told */
    UT_hash_handle hh;
};

struct alert_parcels {
    struct alert_room *room; /* NULL once closed */
    struct loop *loop;
    struct alert_parcels_ways ways;
    struct bus_sub *sub;
    struct loop_timer timer;
    int refs; /* answers still to come, and one for the timer */
    struct parcel_bucket *buckets;
    size_t n_busy, n_kept;
    bool led;         /* at the last look */
    bool counting;    /* a count is under way */
    bool more;        /* than PARCEL_BUCKETS_MAX */
    int64_t count_ms; /* when to count next */
    int64_t look_ms;  /* when the timer rings */
    int64_t put_limit_ms;
    struct log_limit refused, nobody, foreign;
    uint64_t waiting[ALERT_PARCEL_REASONS];
};
static inline struct alert_parcels *alert_parcels_ref(struct alert_parcels *p)
{
    p->refs++;
    return p;
}
void alert_parcels_unref(struct alert_parcels *p);
/* Later in this turn, or after so long, what is due is looked for. */
void alert_parcels_look(struct alert_parcels *p, int64_t after_ms);
/* A node for what has lost its own: the last route that takes everything. NULL = there is no route. */
const char *alert_parcels_default_node(const struct set_alert *set, char buf[static ALERT_PARCEL_TOKEN_MAX + 1]);

/* ---- alert_parcels_tell.c: one bucket is told ---- */

void parcel_tell_start(struct parcel_bucket *b);
/* Something did not answer: now again. Nothing happens if it is not yet time. */
void parcel_tell_again(struct parcel_tell *t, int64_t now_ms);
void parcel_tell_drop(struct parcel_tell *t); /* closing */
enum parcel_told {
    PARCEL_TOLD,   /* `alerts` of them; they are off the stream */
    PARCEL_FAILED, /* nobody has accepted it; some may be told all the same */
    PARCEL_NONE,   /* nothing is there */
    PARCEL_LATER,  /* the stream did not answer */
};
/* alert_parcels.c: b->tell is over. */
void parcel_told(struct parcel_bucket *b, enum parcel_told what, uint64_t alerts);

/* ---- alert_parcels_read.c: parcels of one bucket, in order, where they stand ---- */

enum parcel_read_end {
    PARCEL_READ_ALL,
    PARCEL_READ_MORE, /* `max` were read; there may be more */
    PARCEL_READ_FAILED,
};
typedef void (*parcel_one)(void *ctx, PB(Alert) * a, uint64_t seq); /* a is taken */
/* Those of the sequences from..to, up to max. end(ctx) is called once, never from inside; after it no more comes. */
void parcel_read(struct alert_parcels *p, const char *subject, uint64_t from, uint64_t to, uint64_t max,
                 parcel_one one, void (*end)(void *ctx, enum parcel_read_end how), void *ctx);

/* ---- alert_parcels_state.c: what all replicas and restarts know of a bucket ---- */

/* Fills flushed and fixed; then loaded is true and what is due is looked for. */
void parcel_state_load(struct parcel_bucket *b);
void parcel_state_save(const struct parcel_bucket *b);

#endif
