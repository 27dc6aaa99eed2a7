/* rollback.h - the decider of a rollback, pure: (state, event, now) -> (state', effects). No I/O, no clock, no allocation.
 *
 * One document per deployment: the versions that are known, and the job. The shell stores it by compare-and-set BEFORE it carries out what came with it: the
 * document is the journal, written ahead. At most one thing (`op`) is in hand; each may be done again without harm. A replica that takes over knows nothing
 * of the world: it looks first (ROLLBACK_TAKEN -> ROLLBACK_LOOK -> ROLLBACK_SIGHT), and then decides by what really stands.
 *
 *   PREPARE -> SNAPSHOT -> TARGET_UP -> SHIFT( GATE -> SET -> READ_BACK -> OBSERVE ) per step -> DRAIN -> STOP -> VERIFY -> DONE
 *      |                       from each of these: HOLD and back; ABORTING -> ABORTED; emergency = straight to the last step
 *   REFUSED
 */
#ifndef REDOUBT_ROLLBACK_H
#define REDOUBT_ROLLBACK_H

#include "common/subjects.h"
#include "redoubt/v1/rollback.pb-c.h"
#include "rollback/rollback_judge.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define ROLLBACK_ID       17  /* of a version: 16 hexadecimal digits */
#define ROLLBACK_NAME     129 /* of a version, for people */
#define ROLLBACK_JOB      65
#define ROLLBACK_WHO      129
#define ROLLBACK_WHY      513
#define ROLLBACK_SNAPSHOT 129
#define ROLLBACK_BROKEN   257
#define ROLLBACK_VERSIONS 16
#define ROLLBACK_STEPS    16
#define ROLLBACK_HISTORY  16
#define ROLLBACK_LINEAGE  32
#define ROLLBACK_EFFECTS  16

/* Phases, stages, holds and operations are those of the contract. */
#define ROLLBACK_PHASE(x) REDOUBT__V1__ROLLBACK_PHASE__ROLLBACK_PHASE_##x
#define ROLLBACK_STAGE(x) REDOUBT__V1__ROLLBACK_STAGE__ROLLBACK_STAGE_##x
#define ROLLBACK_HOLD(x)  REDOUBT__V1__ROLLBACK_HOLD__ROLLBACK_HOLD_##x
#define ROLLBACK_OP(x)    REDOUBT__V1__ROLLBACK_OP__ROLLBACK_OP_##x
#define VERSION_STATE(x)  REDOUBT__V1__VERSION_STATE__VERSION_STATE_##x

struct rollback_version {
    char id[ROLLBACK_ID], name[ROLLBACK_NAME], digest[129], config_hash[65];
    int64_t data_schema;
    int state; /* VERSION_STATE */
    int64_t recorded_ms, verified_ms, healthy_since_ms;
    char reason[ROLLBACK_WHY];
    bool kept;
    bool gaps; /* something of it could not be recorded */
    char by_job[ROLLBACK_JOB];
    char broken
        [ROLLBACK_BROKEN]; /* kept, and could not be brought up: why and what to do; "" = nothing is known against it */
    bool snapshot_gone;    /* it is only its snapshot: with the data as they are it can be */
};

struct rollback_lineage {
    char version[ROLLBACK_ID], name[ROLLBACK_NAME], snapshot[ROLLBACK_SNAPSHOT], stream[65], job[ROLLBACK_JOB],
        why[129];
    int64_t taken_ms, data_schema;
    uint64_t sequence, files, bytes;
    bool verified;
};

struct rollback_ended {
    char job[ROLLBACK_JOB], from[ROLLBACK_NAME], to[ROLLBACK_NAME], reason[ROLLBACK_WHY], by[ROLLBACK_WHO], why[1025];
    int phase;
    int64_t started_ms, ended_ms;
    uint32_t holds;
};

/* What is done about the learning data before the target starts. */
enum rollback_data { ROLLBACK_DATA_NONE, ROLLBACK_DATA_KEEP, ROLLBACK_DATA_RESTORE, ROLLBACK_DATA_MIGRATE };

struct rollback_plan {
    size_t n_steps;
    int weight[ROLLBACK_STEPS];       /* percent that stays on `from`, falling, the last 0 */
    unsigned instances;               /* that carried everything when the job began */
    int data;                         /* enum rollback_data */
    char snapshot[ROLLBACK_SNAPSHOT]; /* to restore; "" otherwise */
};

struct rollback_job {
    char id[ROLLBACK_JOB], from[ROLLBACK_ID], to[ROLLBACK_ID], by[ROLLBACK_WHO], why[1025];
    int phase, previous, held_phase, hold, stage;
    char reason[ROLLBACK_WHY];
    struct rollback_plan plan;
    size_t step;
    int weight, wanted; /* percent on `from`: set and read back; wanted now */
    int from_side;      /* 0 or 1 */
    uint32_t holds;
    bool emergency, forced, automatic;
    int64_t started_ms, ended_ms, phase_since_ms, stage_since_ms, changed_ms;
    /* What was changed so far: an abort undoes it. */
    bool writer_paused, data_replaced, data_done, target_made, from_stopped;
    char snapshot[ROLLBACK_SNAPSHOT]; /* taken by this job */
    /* In hand. */
    int op; /* ROLLBACK_OP */
    uint64_t serial;
    int64_t op_since_ms;
    unsigned tries;
    int64_t again_ms; /* when a failed one is tried again; 0 = none is */
    int64_t overhead_ms, observed_ms;
    struct rollback_judge judge; /* of the present step */
    /* Not journaled: who takes over begins with zeros, and loses nothing by it. */
    struct {
        int64_t looked_ms, checked_ms; /* asked for last */
        int64_t up_ms;                 /* UP was asked for last */
        int64_t did_ms;                /* an act ended last */
        int64_t odd_ms;                /* weights were not ours, and were set again */
        int64_t gate_ms;               /* since when the gate is shut */
        int64_t step_over_ms;          /* when the last step's observation ended */
        bool sessions;                 /* the traffic has counted sessions: its 0 means something */
        bool off;                      /* the traffic was not as it was left when it was seen last */
        bool strays;                   /* were told */
    } live;
};

struct rollback_doc {
    char deployment[NAME_MAX_LEN + 1];
    uint64_t epoch; /* grows with each change that is announced */
    char current[ROLLBACK_ID];
    struct rollback_job job; /* phase IDLE = there was none */
    size_t n_versions, n_lineage, n_history;
    struct rollback_version versions[ROLLBACK_VERSIONS]; /* oldest first */
    struct rollback_lineage lineage[ROLLBACK_LINEAGE];   /* newest first */
    struct rollback_ended history[ROLLBACK_HISTORY];     /* newest first */
    /* Not journaled: what runs now, while there is no job. */
    struct {
        bool kept_told, kept_high;
        int64_t kept_due_ms;                                /* when kept versions are looked at again; 0 = now */
        bool worse, well, strays, no_strays, astray, right; /* was told */
        unsigned steers; /* sets of the traffic in a row that did not hold, the last at steered_ms */
        int64_t steered_ms;
    } watch;
};

/* The settings, as the decider needs them. */
struct rollback_rule {
    size_t n_steps;
    int weight[ROLLBACK_STEPS];
    int64_t step_ms, check_every_ms, capacity_ms, drain_ms, watch_ms, settle_ms,
        op_ms; /* op_ms: an op without an end is asked about anew */
    unsigned keep;
    int64_t check_kept_ms; /* how often kept versions are looked at; 0 = never */
    const char *floor;     /* "" = none */
    const char *const *rejected;
    size_t n_rejected;
    bool gradual;   /* false: the executor moves everything by itself (one Deployment, image patch): no SHIFT */
    bool goes_home; /* the target ends on side 0 again (a pair of Deployments) */
    bool has_data, has_migration;
    bool automatic;
    int64_t automatic_ms;
    struct rollback_judge_rule judge;
};

/* One side as it really stands. Shares are compared with the plan within 5 points; 0 and 100 exactly. */
struct rollback_side {
    char version[ROLLBACK_ID]; /* "" = nothing stands there */
    unsigned instances;        /* that exist, running or not */
    unsigned running, ready;
    int share; /* percent of the traffic by what was read back; -1 with traffic_known = it cannot be read back: not compared */
    unsigned sessions;      /* in hand; 0 also if not known */
    char why[160];          /* why it is not ready; "" otherwise */
    char job[ROLLBACK_JOB]; /* which job made it; "" = deployed by others */
};
struct rollback_sight {
    bool executor_known, traffic_known;
    struct rollback_side side[2];
    int nobody; /* percent of the traffic that goes to where nothing of its side stands; 0 if it cannot be said */
    unsigned strays; /* instances of ours that belong to neither side: an earlier job left them */
    char error[256]; /* why something is not known */
};

enum rollback_event_kind {
    ROLLBACK_START,     /* order */
    ROLLBACK_HOLD_IT,   /* order */
    ROLLBACK_RESUME,    /* order */
    ROLLBACK_ABORT,     /* order */
    ROLLBACK_EMERGENCY, /* order */
    ROLLBACK_TAKEN,     /* this replica has just taken the deployment over (or its settings changed) */
    ROLLBACK_SIGHT,     /* sight; also without a job, when the traffic may be astray */
    ROLLBACK_DID,       /* op `serial` has ended */
    ROLLBACK_SAMPLES,   /* checks were made: samples */
    ROLLBACK_SEEN,      /* no job: what runs now (found + sight); the registry's business */
    ROLLBACK_KEPT,      /* no job: what was found of kept versions */
    ROLLBACK_TICK,
};
struct rollback_order {
    const char *by, *reason, *job; /* job "" = the present one */
    const char *to;                /* name or id; "" = the last verified */
    bool emergency, force, tainted;
    const char *snapshot; /* to restore; "" = none; "lineage" = the last of the target */
    int64_t tainted_since_ms;
    bool automatic;
};
struct rollback_did {
    uint64_t serial;
    int op;
    bool ok;
    bool lasting; /* trying again is of no use */
    char text[400];
    struct rollback_lineage lineage; /* SNAPSHOT */
    bool paused;                     /* SNAPSHOT, RESTORE, MIGRATE: the writer is paused now */
};
/* Of a kept version: could it be brought up? */
struct rollback_finding {
    char version[ROLLBACK_ID], snapshot[ROLLBACK_SNAPSHOT]; /* snapshot "" = it has none */
    bool known, broken; /* known: it was asked, and the answer will not pass by itself */
    bool snapshot_known, snapshot_gone;
    char why[ROLLBACK_BROKEN];
};
struct rollback_event {
    enum rollback_event_kind kind;
    bool
        able; /* SIGHT, SEEN: the fence is held, shared state answers, no such set is under way: without a job, traffic may be set */
    union {
        struct rollback_order order;
        const struct rollback_sight *sight;
        const struct rollback_did *did;
        struct {
            const struct rollback_sample *samples;
            size_t n;
            bool suite; /* the final verification's, too */
        } checked;
        struct {
            const struct rollback_version *version; /* as found: id, name, digest, config_hash, data_schema, gaps */
            bool healthy;                           /* all its instances are ready */
            bool checks_passed;                     /* its checks passed just now */
            bool worse;      /* they say that it is bad: by the judge's limits; a check without data does not */
            const char *why; /* what they say; "" if nothing speaks against it */
            const struct rollback_sight *sight;
        } seen;
        struct {
            const struct rollback_finding *finding;
            size_t n;
        } kept;
    } u;
};

enum rollback_effect_kind {
    /* Carry out `op` (serial) with version, side, count, share. SNAPSHOT: keep = the writer stays paused; snapshot "abort" = the second one of this job, of the
     * data that an abort replaces (its tag is another, so that the first is not taken for it). RESTORE: snapshot. RESUME_WRITER: of this version and side. */
    ROLLBACK_DO,
    /* Ask executor and traffic what stands; answers with a ROLLBACK_SIGHT that was begun after this. One that is under way when a LOOK or DO comes is dropped. */
    ROLLBACK_LOOK,
    /* Make all checks once (suite: the long ones, too); answers with ROLLBACK_SAMPLES. While checks are being made already, nothing. Samples: [0] is
     * `from`, [1] is `to`. Without a job the shell judges by itself, see `seen`. */
    ROLLBACK_CHECK,
    ROLLBACK_WAKE,    /* a tick at at_ms at the latest */
    ROLLBACK_RAISE,   /* alert `notice`, with text */
    ROLLBACK_RESOLVE, /* its end */
    ROLLBACK_RECORD,  /* audit: `action`, strict, text */
    ROLLBACK_STEER, /* without a job: set all the traffic to `side`, where `version` stands alone; a fresh look comes after it */
    ROLLBACK_KEEP,  /* protect (keep = true) or release the image of `version` and `snapshot`; either may be "" */
    ROLLBACK_REPLY, /* the answer to the order: status and text */
};
enum rollback_notice {
    ROLLBACK_NOTICE_STARTED,    /* WARNING */
    ROLLBACK_NOTICE_HOLD,       /* HIGH; CRITICAL for a security regression, TARGET_LOST and BOTH_LOST */
    ROLLBACK_NOTICE_FAILED,     /* HIGH: aborted, refused */
    ROLLBACK_NOTICE_DONE,       /* INFO */
    ROLLBACK_NOTICE_REGRESSION, /* HIGH: of what runs now, no job */
    ROLLBACK_NOTICE_STRAYS,     /* WARNING */
    ROLLBACK_NOTICE_KEPT,   /* WARNING, HIGH if nothing is left to go back to; one for each `version`, by its name */
    ROLLBACK_NOTICE_ASTRAY, /* HIGH; CRITICAL if what runs gets nothing: the traffic, no job */
    ROLLBACK_NOTICES,
};
struct rollback_effect {
    enum rollback_effect_kind kind;
    int op;
    uint64_t serial;
    char version[ROLLBACK_ID];
    int side;
    unsigned count;
    int share[2]; /* WEIGHT: percent per side */
    char snapshot[ROLLBACK_SNAPSHOT];
    bool suite, keep, strict, critical;
    bool high; /* RAISE of a WARNING: it is HIGH */
    int64_t at_ms;
    int notice; /* enum rollback_notice */
    const char *action;
    char by[ROLLBACK_WHO]; /* RECORD: who ordered it */
    int status;            /* REPLY: CommandStatus */
    char text[ROLLBACK_WHY + 200];
};

/* True if the document changed: store, then carry out. False: carry out at once. *ret_n <= ROLLBACK_EFFECTS. */
bool rollback_decide(struct rollback_doc *d, const struct rollback_rule *rule, const struct rollback_event *ev,
                     int64_t now_ms, struct rollback_effect out[static ROLLBACK_EFFECTS], size_t *ret_n);
/* An empty document. */
void rollback_doc_init(struct rollback_doc *d, const char *deployment);
/* What must hold of every document; NULL, or what does not. */
const char *rollback_broken(const struct rollback_doc *d);
/* Is a job under way (also one that holds)? */
bool rollback_busy(const struct rollback_doc *d);

/* ---- registry (rollback_registry.c) ---- */

/* By id or name (of several the newest that can be gone back to, else the newest); "" = the last verified one besides the current. NULL if there is none, with the reason and what to do in why. */
const struct rollback_version *rollback_choose(const struct rollback_doc *d, const struct rollback_rule *rule,
                                               const char *name, bool force, char *why, size_t size);

/* ---- kept versions (rollback_kept.c) ---- */

/* Is it time to look at them? Then findings for rollback_kept_list() follow as ROLLBACK_KEPT, also if there are none. */
bool rollback_kept_due(const struct rollback_doc *d, const struct rollback_rule *rule, int64_t now_ms);
/* What is to be asked: `version` and `snapshot` are filled in. */
size_t rollback_kept_list(const struct rollback_doc *d, const struct rollback_rule *rule,
                          struct rollback_finding out[static ROLLBACK_VERSIONS]);
/* It could not be brought up, whatever happens to the data. */
bool rollback_version_broken(const struct rollback_version *v);
/* ---- at rest (rollback_rest.c) ---- */

/* Where the current version stands alone, after a job that has ended DONE or ABORTED: that side has all the traffic, and this service sees to it. -1: it is
 * somebody else's business, or nothing is ready. */
int rollback_rest_side(const struct rollback_doc *d, const struct rollback_rule *rule,
                       const struct rollback_sight *s);
/* Has this service given the traffic the addresses of what runs, in this job or an earlier one? Before that they may be other names of the same. */
bool rollback_set_addresses(const struct rollback_doc *d);

/* ---- plan (rollback_plan.c) ---- */

/* The plan of an order, without any change; -1 with the reason in why. */
int rollback_make_plan(const struct rollback_doc *d, const struct rollback_rule *rule, const struct rollback_order *o,
                       unsigned instances, struct rollback_plan *ret, char *why, size_t size);
/* Line i of the plan in words; false if there is none. */
bool rollback_plan_line(const struct rollback_doc *d, const struct rollback_rule *rule, const struct rollback_plan *p,
                        const char *from, const char *to, size_t i, char *buf, size_t size);
/* Instances of the target that must be ready before `weight` percent are left on `from`: ceil(instances * (100 - weight) / 100). */
unsigned rollback_needs(const struct rollback_plan *p, int weight);

#endif
