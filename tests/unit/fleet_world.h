/* fleet_world.h - the world of test_breaker_fleet.c: replicas, reporters, targets, one store, one bus, and what must hold.
 *
 * The engines are the real ones (services/breaker/target.c) behind their table of functions; an engine exists from the first time that its
 * replica hears of the target, so that 10,000 targets cost what is called of them. */
#ifndef REDOUBT_TESTS_FLEET_WORLD_H
#define REDOUBT_TESTS_FLEET_WORLD_H

#include "breaker/target.h"
#include "fleet_queue.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

enum { REPLICAS = 10, REPORTERS = 1000, TARGETS = 10000, TROUBLED = 48, CALLERS = 7, EPOCHS = 1024 };
#define START     INT64_C(1700000000000) /* shared time at the story's beginning */
#define SKEW_MS   40                     /* replicas' clocks differ from the true one by up to this, either way */
#define LATE_MS   400                    /* what comes late comes that late */
#define PERIOD_MS 600                    /* a caller calls at least once in 1.5 of these */
#define RESYNC_MS 2000                   /* who missed an announcement knows the present after this */
#define RETRY_MS  1000                   /* the engine's pause after the store has failed it */
#define LAZY_MS   500                    /* good news may wait that long for their flush */
#define STORY_MS  300000
#define STORM_MS  6000  /* trouble begins, */
#define CALM_MS   20000 /* and ends */

/* What is broken on purpose, so that the checks can be seen to find it. */
enum mutation {
    SOUND,
    MUTATE_REV,      /* the store takes every document */
    MUTATE_VOTES,    /* no votes: one reporter is enough */
    MUTATE_TILT,     /* a replica acts although its clock has jumped */
    MUTATE_EVIDENCE, /* the store counts no failures */
    MUTATE_TIMERS,   /* no deadline wakes an engine */
    MUTATE_SWEEP,    /* nobody announces what a dead replica left, and who comes back is told nothing */
    MUTATE_EDIT,     /* who repeats an announcement changes it */
    MUTATE_DEADLINE, /* the store keeps the earlier of two deadlines */
    MUTATE_PERMIT,   /* the store forgets the permit that is out */
    MUTATE_FORGET,   /* the store loses what was never announced */
    MUTATE_SLOW,     /* a slow trial is a good one */
    MUTATE_GRACE,    /* the window of a document that was put back counts at once */
    MUTATE_TWINS,    /* two that decide alike make one document, and both have won */
    MUTATIONS
};

/* Counted references; from a pool. */
struct parcel {
    struct parcel *next, *also; /* among the spare ones; among all */
    uint32_t refs;
    struct breaker doc;
    struct breaker_delta delta;
    struct breaker_flushed flushed;
    uint32_t target;
    bool fair;      /* of the flush: those who know better were heard, and are not fewer */
    int64_t age_ms; /* of the flush: since the document was put back; -1 = it was not */
};

struct world;
struct engine {
    struct breaker_target t;
    struct world *w;
    struct engine *next; /* of the replica; or of the spare ones */
    uint32_t target;
    int64_t wake_ms, queued_ms; /* when it wants to be woken; when that is on its way; 0 = not */
    uint8_t replica;
    bool fair;
};

struct replica {
    bool alive, linked, on_bus, synced;
    uint32_t life;
    int64_t skew_ms, jump_ms, tilted_until_ms, paused_until_ms;
    struct engine *engines;
    struct parcel *outbox[256]; /* announced, but the bus was away */
    uint32_t n_outbox;
};

struct caller {
    uint16_t reporter;
    bool blind;          /* its calls fail whatever the target does */
    bool watcher;        /* calls only what is on trial */
    int64_t heard_ms;    /* the store has merged a report of it */
    struct parcel *seen; /* the state pushed to it */
    uint64_t permit;
    int64_t period_ms;
};

enum trouble { QUIET, OUTAGE, BLIND_OUTAGE, BLIND, SLOW, ORDERED, TROUBLES };

struct target {
    bool found, pending, listed, up, slow; /* listed: among those to be swept */
    uint8_t trouble, n_callers, n_blind;
    uint32_t id;
    struct breaker doc; /* in the store */
    struct breaker_window window;
    int64_t changed_ms;  /* when the store took it, true time */
    bool restored;       /* it had lost it */
    struct parcel *last; /* on the stream */
    uint64_t *written;   /* per epoch: a hash of its document */
    uint32_t n_written;
    uint64_t permit_id, granted_id;
    int64_t down_ms, back_ms, found_by_ms, closed_by_ms, quiet_since_ms; /* true time */
    bool outage_found, settled;
    struct caller c[CALLERS];
};

struct sums {
    uint64_t stories, events, engines, changes, opened, grants, lost_races, outages, early, blind, orders, emptied,
        restored, deaths, jumps, pauses, repeats;
};

struct world {
    struct queue q;
    uint64_t seed, rng;
    enum mutation mutation;
    int64_t loss, dup, trip_ms;
    bool stormy, store_up, tell;
    struct replica r[REPLICAS];
    bool reporter_off[REPORTERS];
    struct target *target[TARGETS];
    struct engine *engine[REPLICAS][TARGETS];
    uint32_t troubled[TROUBLED], touched[TARGETS], n_touched, unsaid[TARGETS], n_unsaid;
    uint8_t sweeper;
    /* spare parts */
    struct parcel *parcels, *all_parcels;
    struct engine *engines;
    struct target *spare_target[TARGETS];
    struct sums *sums;
    /* what was found */
    jmp_buf out;
    char broken[400];
};

#define REQUIRE(w, what, ...)                                                                                        \
    do {                                                                                                             \
        if (!(what))                                                                                                 \
            world_broken((w), #what, __VA_ARGS__);                                                                   \
    } while (0)
#define TELL(w, ...)                                                                                                 \
    do {                                                                                                             \
        if ((w)->tell) {                                                                                             \
            printf("%8lld ", (long long)(w)->q.now_ms);                                                              \
            printf(__VA_ARGS__);                                                                                     \
            printf("\n");                                                                                            \
        }                                                                                                            \
    } while (0)

__attribute__((format(printf, 3, 4))) _Noreturn static inline void world_broken(struct world *w, const char *what,
                                                                                const char *fmt, ...)
{
    char text[256];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    snprintf(w->broken, sizeof w->broken, "seed %llu at %lld ms: %s: %.120s", (unsigned long long)w->seed,
             (long long)w->q.now_ms, text, what);
    longjmp(w->out, 1);
}

/* ---- chance ---- */

static inline uint64_t rnd(struct world *w, uint64_t n)
{
    uint64_t x = w->rng += UINT64_C(0x9e3779b97f4a7c15);
    x = (x ^ (x >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    x = (x ^ (x >> 27)) * UINT64_C(0x94d049bb133111eb);
    return (x ^ (x >> 31)) % n;
}

static inline bool chance(struct world *w, int64_t percent)
{
    return percent > 0 && (int64_t)rnd(w, 100) < percent;
}

static inline int64_t trip(struct world *w)
{
    return (int64_t)rnd(w, (uint64_t)w->trip_ms) + 1;
}

/* ---- parcels ---- */

static inline struct parcel *parcel_new(struct world *w)
{
    struct parcel *p = w->parcels;
    if (p) {
        w->parcels = p->next;
    } else {
        if (!(p = malloc(sizeof *p)))
            abort();
        p->also = w->all_parcels;
        w->all_parcels = p;
    }
    p->refs = 1;
    p->fair = false;
    return p;
}

static inline void parcel_drop(struct world *w, struct parcel *p)
{
    if (!p || --p->refs > 0)
        return;
    p->next = w->parcels;
    w->parcels = p;
}

/* Texts of orders are told apart by who gave them only: the engine frees its own. */
static inline struct parcel *parcel_of(struct world *w, const struct breaker *b)
{
    struct parcel *p = parcel_new(w);
    p->doc = *b;
    p->doc.forced_by = b->forced_by ? "x" : NULL;
    p->doc.forced_why = b->forced_why ? "x" : NULL;
    return p;
}

#endif
