/* target.h - one target's engine: gathers reports, flushes them, decides, stores, announces. All I/O behind one vtable.
 *
 * At most one exchange with the store is in flight per target. A cycle: flush (merge the gathered reports into the shared
 * window; the totals come back, and the document if another replica has changed it) -> decide on totals, permit outcomes, the verdict
 * and requests, in this order -> for each change: put by compare-and-set -> announce. Who loses a race takes the other's document
 * and decides again. The simulation runs this very file on a store in memory. */
#ifndef REDOUBT_BREAKER_TARGET_H
#define REDOUBT_BREAKER_TARGET_H

#include "breaker/away.h"
#include "breaker/breaker.h"
#include "breaker/scope.h"
#include "breaker/window.h"

struct breaker_target;

struct breaker_request {
    struct breaker_request *next;
    struct breaker_event ev; /* ALLOW or a person's; its texts must live until the answer */
};
enum breaker_answer {
    BREAKER_ANSWER_DONE,
    BREAKER_ANSWER_ALREADY,
    BREAKER_ANSWER_UNAVAILABLE /* shared state is out of reach: nothing was changed, or it is not known */
};

enum breaker_found {
    BREAKER_FOUND_SAME,   /* the epoch that we have */
    BREAKER_FOUND_OTHER,  /* doc is it */
    BREAKER_FOUND_NONE,   /* nothing there */
    BREAKER_FOUND_DAMAGED /* something that is no document of this target */
};
struct breaker_flushed {
    bool ok; /* false: not done, or not known */
    enum breaker_found found;
    const struct breaker *doc;
    bool pending; /* nobody has announced it yet, as far as the store knows */
    struct breaker_totals totals;
};
enum breaker_put_result { BREAKER_PUT_WON, BREAKER_PUT_LOST, BREAKER_PUT_FAILED };

/* Each of the first two asks for one thing; the answer comes later, never from inside the call, by the function named. */
struct breaker_io {
    /* -> breaker_target_flushed(). d may hold nothing. */
    void (*flush)(struct breaker_target *t, const struct breaker_delta *d, uint64_t have_epoch);
    /* -> breaker_target_stored(). Writes b if the store holds the epoch before it; with `over`, if it holds nothing, an older
     * one, or the damaged thing that the last flush has found. `pending`: to be announced. */
    void (*put)(struct breaker_target *t, const struct breaker *b, bool over, bool pending);
    void (*announce)(struct breaker_target *t, const struct breaker *b); /* we have stored it */
    /* Another replica has stored t->doc and perhaps not announced it yet, perhaps never will. */
    void (*pending)(struct breaker_target *t, bool first_sight);
    void (*answer)(struct breaker_target *t, struct breaker_request *q, enum breaker_answer a,
                   const struct breaker_result *r);
    void (*wake_at)(struct breaker_target *t, int64_t at_ms); /* then breaker_target_wake(); 0 = not */
    void (*would_open)(struct breaker_target *t, int reason);
    int64_t (*now_ms)(struct breaker_target *t);
    bool (*up)(struct breaker_target *t);      /* the store is reachable */
    bool (*may_act)(struct breaker_target *t); /* not tilted */
    bool (*synced)(struct breaker_target *t);  /* the present has been read from the stream, and NATS is there */
};
/* What an engine can do without: each may be NULL. */
struct breaker_hooks {
    void (*hurry)(struct breaker_target *t);   /* a failure came for a flush that was asked for: do not let it wait */
    void (*advise)(struct breaker_target *t);  /* t->away HOLDS now, or does so no longer, or is gone */
    void (*changed)(struct breaker_target *t); /* t->doc is another one */
    void (*looked)(struct breaker_target *t);  /* t->calls is new */
};

enum breaker_phase { BREAKER_IDLE, BREAKER_FLUSHING, BREAKER_PUTTING, BREAKER_RESTORING };
struct breaker_target {
    const struct breaker_io *io;
    const struct breaker_hooks *hooks; /* set after the init */
    void *ctx;
    struct breaker_rule rule;
    uint32_t maker;         /* of the changes made here; differs between replicas */
    struct breaker doc;     /* the newest that we know */
    char *by, *why, *scope; /* texts of doc */
    char *scope_asked;      /* text of `scoped` */
    uint32_t calls;         /* in the shared window when it was last read, */
    int64_t looked_ms;      /* which was then; 0 = not since the document changed */
    int64_t began_ms;       /* when its window began, as far as that is later than the document; 0 = it is not */
    bool watched;           /* by watchers who have a verdict; set from outside */
    struct breaker_delta gathered, flying;
    struct breaker_away *away; /* while the store is out of reach; NULL otherwise */
    uint32_t voters;           /* seen in the shared window when it was last read */

    int phase;
    int64_t quiet_ms; /* when the window was last seen to hold nothing but successes; 0 = it did not */
    bool lazy;        /* successes wait for their turn */
    bool draining;    /* nothing waits any more */
    bool again;       /* go round once more when idle */
    bool has_totals;  /* what follows has not been decided on yet */
    bool has_outcome, has_verdict, has_rules, has_scoped;
    struct breaker_event totals, outcome, verdict, scoped;
    bool has_heard; /* an outcome that the flush in flight may be too early for: decided on after the next */
    struct breaker_event heard;
    struct breaker_request *requests, **requests_end;
    struct breaker next;                   /* being put */
    char *next_by, *next_why, *next_scope; /* its texts */
    const struct breaker_event *deciding;
    struct breaker_result result;
    bool skipped; /* evidence came while we may not act */
};

void breaker_target_init(struct breaker_target *t, const struct breaker_io *io, void *ctx,
                         const struct breaker_rule *rule);
void breaker_target_done(struct breaker_target *t); /* only when idle */
bool breaker_target_idle(const struct breaker_target *t);

void breaker_target_report(struct breaker_target *t, const struct breaker_report *r, uint64_t permit_id);
/* Reports are flushed by this, so that a batch is one flush: at once, or a little later if they are nothing but successes. */
void breaker_target_kick(struct breaker_target *t);
void breaker_target_drain(struct breaker_target *t); /* the end is near: all of them, now */
/* For a flush that was asked for and not sent yet: what came meanwhile goes along; and whether it should go before others. */
void breaker_target_top_up(struct breaker_target *t);
bool breaker_target_urgent(const struct breaker_target *t);
void breaker_target_wake(struct breaker_target *t); /* a deadline, the store or the clock is back: look again */
void breaker_target_unhealthy(struct breaker_target *t, int64_t changed_ms, int64_t since_ms);
void breaker_target_well(struct breaker_target *t); /* the verdict is no longer UNHEALTHY */
/* What it shares with others is ill, or is well again. Said again if it had no effect: a failed store drops it. */
void breaker_target_scope(struct breaker_target *t, const char *name, bool ill, const struct breaker_scope *s);
void breaker_target_rules(struct breaker_target *t, const struct breaker_rule *rule);
void breaker_target_request(struct breaker_target *t, struct breaker_request *q);
void breaker_target_refuse_all(struct breaker_target *t); /* at the end: who waits is told so */
/* A document that was seen on the stream. */
void breaker_target_seen(struct breaker_target *t, const struct breaker *b);

void breaker_target_flushed(struct breaker_target *t, const struct breaker_flushed *f);
void breaker_target_stored(struct breaker_target *t, enum breaker_put_result r, const struct breaker *theirs);

#endif
