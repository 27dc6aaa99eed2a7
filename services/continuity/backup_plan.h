/* backup_plan.h - when a source is saved, checked, read back, tested and tidied up, and what is wrong with it, pure: no I/O, no clock.
 *
 * Late is judged by the clock, not by errors: who hears nothing of a failure still sees that no copy came. Only a copy whose restore was proven moves the
 * verified point; one that is empty or much smaller than the one before does not, until a person accepts it or a full one comes. */
#ifndef REDOUBT_CONTINUITY_BACKUP_PLAN_H
#define REDOUBT_CONTINUITY_BACKUP_PLAN_H

#include "common/settings.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum backup_act {
    BACKUP_SAVE,
    BACKUP_TEST,   /* the newest verified copy is restored, compared and timed */
    BACKUP_CHECK,  /* the repository's structure */
    BACKUP_READ,   /* and a part of its data; all of it once damage was found */
    BACKUP_FORGET, /* old copies go */
    BACKUP_ACTS
};

/* Bits of BackupState.open_alerts. */
enum backup_problem {
    BACKUP_MISSING = 1,     /* never saved */
    BACKUP_LATE = 2,        /* no copy for too long */
    BACKUP_EMPTY = 4,       /* the newest copy holds nothing */
    BACKUP_SHRUNKEN = 8,    /* or much less than the one before */
    BACKUP_FAILED = 16,     /* what is tried fails, and goes on to */
    BACKUP_UNVERIFIED = 32, /* copies come, but none was proven for too long */
    BACKUP_DIFFERS = 64,    /* what was restored is not what was saved */
    BACKUP_DAMAGED = 128,   /* the repository is */
    BACKUP_GONE = 256,      /* a proven copy is no longer in the repository */
    BACKUP_PROBLEMS = 9
};
struct backup_problem_text {
    enum backup_problem bit;
    const char *name;    /* of the alert: backup/<source>/<name> */
    int severity;        /* Severity */
    const char *summary; /* goes on after "backup of <source>: " */
    const char *advice;
};
extern const struct backup_problem_text backup_problem_texts[BACKUP_PROBLEMS];

struct backup_rule {
    int64_t period_ms[BACKUP_ACTS];
    int64_t late_ms;
    uint64_t min_bytes;
    unsigned shrunk_percent; /* 0 = never */
};
void backup_rule_of(const struct set_continuity *set, const struct set_backup *source, struct backup_rule *ret);

struct backup_plan {
    int64_t known_ms;             /* since when it is to be saved */
    int64_t point_ms;             /* newest point that is verified; 0 = none */
    int64_t saved_ms;             /* newest point that is saved at all */
    uint64_t bytes, bytes_before; /* of the newest copy, and of the one before that was accepted */
    bool suspicious;              /* the newest one is not accepted */
    bool vanished;                /* there was nothing to save: the directory is gone */
    unsigned marks;               /* DIFFERS, DAMAGED, GONE: until something has shown the contrary */
    int64_t done_ms[BACKUP_ACTS], next_ms[BACKUP_ACTS];
    uint32_t failures[BACKUP_ACTS]; /* in a row */
    bool lasting[BACKUP_ACTS];      /* the last failure will not pass by itself */
    enum backup_act last;           /* what came to its end last; BACKUP_ACTS = nothing */
    uint64_t random;
};
struct backup_outcome {
    bool ok;
    bool lasting;  /* failed: nobody but a person can help */
    bool verified; /* save: its restore was proven */
    bool force;    /* save: a person accepts its size */
    bool differs;  /* what came back is not what went in */
    bool damaged;  /* the repository does not give back what it holds */
    bool gone;     /* the proven copy is not there any more; also with ok, for a save */
    bool whole;    /* read: all of it */
    bool vanished; /* save: what is to be saved is not there */
    int64_t point_ms;
    uint64_t bytes;
};

void backup_plan_begin(struct backup_plan *p, const struct backup_rule *r, uint64_t seed, int64_t now_ms);
/* Other settings, or a record from another leader: nothing is later than its rule allows. */
void backup_plan_fit(struct backup_plan *p, const struct backup_rule *r, int64_t now_ms);
/* What is due; BACKUP_ACTS = nothing. Never two saves in a row while something else waits. */
enum backup_act backup_plan_due(const struct backup_plan *p, int64_t now_ms);
/* A person wants it now. */
void backup_plan_ask(struct backup_plan *p, enum backup_act act, int64_t now_ms);
/* True if the verified point is this copy's now. */
bool backup_plan_ended(struct backup_plan *p, const struct backup_rule *r, enum backup_act act,
                       const struct backup_outcome *o, int64_t began_ms, int64_t now_ms);
unsigned backup_plan_problems(const struct backup_plan *p, const struct backup_rule *r, int64_t now_ms);

/* One restic at a time for a repository: the source whose work has waited longest. */
struct backup_slot {
    const struct backup_plan *plan;
    size_t repository; /* equal for sources that share one */
    bool busy;         /* something of it runs */
};
/* Index of the source and what is due; n = nothing can be begun. */
size_t backup_plan_pick(const struct backup_slot *slots, size_t n, int64_t now_ms, enum backup_act *ret);

#endif
