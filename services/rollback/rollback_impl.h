/* rollback_impl.h - what the files of the decider share; private to them and their tests. */
#ifndef REDOUBT_ROLLBACK_IMPL_H
#define REDOUBT_ROLLBACK_IMPL_H

#include "common/sm.h"
#include "rollback/rollback.h"

#define ROLLBACK_TRIES        5
#define ROLLBACK_POLL_MS      500   /* how often is looked where something is waited for */
#define ROLLBACK_UP_AGAIN_MS  10000 /* instances that are not there are asked for again */
#define ROLLBACK_READ_BACK_MS 15000 /* traffic that shows something else by then is set again */
#define ROLLBACK_PREPARE_MS   60000 /* by then it must be known what stands */
#define ROLLBACK_ODD_MS       60000 /* weights that others change twice within this time are theirs */
#define ROLLBACK_STEERS                                                                                              \
    2 /* that do not hold within ROLLBACK_STEERS_MS, without a job: others set it, or it cannot be set */
#define ROLLBACK_STEERS_MS  60000
#define ROLLBACK_STEER_MS   3000    /* what was set needs its time to show */
#define ROLLBACK_ASTRAY_MS  300000  /* then it is tried again */
#define ROLLBACK_SUITE_MS   1200000 /* the longest that the long checks may take to answer */
#define ROLLBACK_BACKOFF_MS 64000

/* One decision while it is made. */
struct turn {
    struct rollback_doc *d;
    struct rollback_job *j; /* &d->job */
    const struct rollback_rule *rule;
    const struct rollback_event *ev;
    const struct rollback_sight *sight; /* what stands; NULL = not known in this turn */
    int64_t now_ms;
    struct rollback_effect *out;
    size_t n;
    bool changed; /* the document: to be stored */
    bool look;    /* at once */
    bool check;
};

extern const struct sm_table rollback_sm;

/* ---- rollback_turn.c: what every phase does with a turn ---- */
struct rollback_effect *rollback_effect_add(struct turn *t, enum rollback_effect_kind kind);
__attribute__((format(printf, 3, 4))) void rollback_reply(struct turn *t, int status, const char *fmt, ...);
/* by: who ordered it; NULL = who started the job. */
__attribute__((format(printf, 4, 5))) void rollback_record(struct turn *t, const char *action, const char *by,
                                                           const char *fmt, ...);
__attribute__((format(printf, 4, 5))) void rollback_raise(struct turn *t, int notice, bool critical, const char *fmt,
                                                          ...);
void rollback_resolve(struct turn *t, int notice);
/* The reason in the document: why it is where it is, or what it waits for. */
__attribute__((format(printf, 2, 3))) void rollback_say(struct turn *t, const char *fmt, ...);
void rollback_move(struct turn *t, int phase);
void rollback_stage(struct turn *t, int stage); /* a new one, or the same one anew */
/* Stays where it is, and calls a person. A hold for another reason while it holds already replaces the reason. */
__attribute__((format(printf, 3, 4))) void rollback_hold(struct turn *t, int hold, const char *fmt, ...);
/* The end: history, notices, trail. */
__attribute__((format(printf, 3, 4))) void rollback_end(struct turn *t, int phase, const char *fmt, ...);
/* Hands an act out; NULL while one is in hand or a failed one waits. The caller fills in what is special. */
struct rollback_effect *rollback_do(struct turn *t, int op, const char *version, int side, unsigned count);
/* `weight` percent to the former version's side; false if it cannot be asked for now. */
bool rollback_do_weight(struct turn *t, int weight);
bool rollback_over(const struct turn *t, int64_t since_ms, int64_t limit_ms); /* has this time passed? */
bool rollback_waits(const struct turn *t,
                    int64_t limit_ms); /* has it, since the stage began and the last act ended? */

/* ---- rollback_side.c: what a sight means ---- */
int rollback_to_side(const struct turn *t);
const struct rollback_side *rollback_from(const struct turn *t); /* of the sight, which is there */
const struct rollback_side *rollback_to(const struct turn *t);
bool rollback_shows(const struct turn *t, int weight);      /* the traffic is known, and is so */
bool rollback_fits(struct turn *t, char *why, size_t size); /* nobody else's version stands on our sides */
/* Instances of the former version that must be ready before it has `weight` percent. */
unsigned rollback_needs_from(const struct rollback_plan *p, int weight);
/* Percent that so many ready instances can carry. */
int rollback_carries(const struct rollback_plan *p, unsigned ready);
bool rollback_lost_to(const struct turn *t); /* it has traffic, and nothing of it is ready */
bool rollback_lost_from(const struct turn *t);
bool rollback_insecure(const struct turn *t);                /* a security check stands against the target */
const char *rollback_why_not(const struct rollback_side *s); /* why it is not ready; never empty */
int rollback_share(
    const struct turn *t); /* percent on the former version now; as it was left, if that is not known */
/* May the former version get this weight, as far as capacity goes? If not, what is missing is asked for. */
bool rollback_can_take(struct turn *t, int weight);
/* Asks for instances that do not run, at most once in a while. */
void rollback_want_to(struct turn *t);
void rollback_want_from(struct turn *t, unsigned count);
/* Weights that are not as they were left: set again once; twice in a row = HOLD. True if the turn is over. */
bool rollback_reassert(struct turn *t, int weight);

/* ---- one file per group of phases; a sight is there ---- */
void rollback_prepare(struct turn *t);
void rollback_snapshot(struct turn *t);
void rollback_target_up(struct turn *t);
void rollback_shift(struct turn *t);
void rollback_shift_begin(struct turn *t);
void rollback_step_over(struct turn *t); /* the present step is passed: to the next */
void rollback_drain(struct turn *t);
void rollback_stop(struct turn *t);
void rollback_verify(struct turn *t);
void rollback_verify_begin(struct turn *t);
void rollback_verified(struct turn *t); /* nothing is left but to clear up */
void rollback_clear_up(struct turn *t);
bool rollback_clearing(const struct rollback_job *j); /* it is verified, and the former version is being removed */
void rollback_done(struct turn *t);
void rollback_holding(struct turn *t);
void rollback_aborting(struct turn *t);
bool rollback_abort_shift(struct turn *t); /* true: all traffic is with the former version again */
void rollback_abort_begin(struct turn *t);
bool rollback_leaving(const struct rollback_job *j); /* an abort by force: all is left as it is */
/* Act in the present phase by what stands. */
void rollback_act(struct turn *t);
/* ---- checks ---- */
bool rollback_checking(const struct turn *t, int64_t *ret_every_ms, bool *ret_suite);
void rollback_on_samples(struct turn *t);
/* ---- what has been waited for too long; no sight ---- */
void rollback_on_time(struct turn *t);
/* ---- orders ---- */
void rollback_on_order(struct turn *t);
/* A start by the policy; false with the reason in why. */
bool rollback_start_by_policy(struct turn *t, const char *reason, char *why, size_t size);
/* ---- acts that have ended ---- */
void rollback_on_did(struct turn *t);

/* ---- without a job: the traffic ---- */
void rollback_rest(struct turn *t, const struct rollback_sight *s);

/* ---- registry ---- */
struct rollback_version *rollback_find(struct rollback_doc *d, const char *id); /* NULL if unknown */
const char *rollback_name(const struct rollback_doc *d, const char *id);        /* name, or the id */
void rollback_on_seen(struct turn *t);
void rollback_on_kept(struct turn *t);
/* Protects what is to be kept, releases what is not; at most a few at a time. */
void rollback_keep(struct turn *t);
/* Another version is the current one: what was said of the last is over. */
void rollback_watch_anew(struct turn *t);
void rollback_lineage_add(struct turn *t, const struct rollback_lineage *l);
/* The newest verified snapshot of a version (NULL = of any) that was taken before; NULL if there is none. */
const struct rollback_lineage *rollback_snapshot_of(const struct rollback_doc *d, const char *version,
                                                    int64_t before_ms);

#endif
