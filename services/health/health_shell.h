/* health_shell.h - what the files of the shell share: the watcher and its targets. */
#ifndef REDOUBT_HEALTH_SHELL_H
#define REDOUBT_HEALTH_SHELL_H

#include "common/lease.h"
#include "common/metric_hist.h"
#include "common/service.h"
#include "common/subjects.h"
#include "health/health.h"
#include "health/health_duty.h"
#include "health/health_heartbeat.h"
#include "health/health_probe.h"
#include "health/health_schedule.h"
#include <uthash.h>

#define HEALTH_AGENT_PREFIX "agent."
#define HEALTH_KEY_MAX      (TARGET_MAX_LEN + 24)

/* What others know: the document in Redis, and the event on the stream. */
struct health_doc {
    uint64_t epoch; /* the highest that was ever seen; 0 = none */
    int state, failure, cause;
    void *packed; /* the HealthChanged of that epoch; NULL = none */
    size_t len;
    uint64_t rev; /* of the document in Redis */
    bool read;    /* rev is what Redis holds, as far as we know */
    bool busy;    /* one exchange with Redis is under way */
    bool again;   /* look once more after it */
    bool announcing;
    bool damaged; /* said once */
    bool waits;   /* for others' exchanges to end */
    struct health_watch *next_waiting;
};

struct health_run;
struct health_watch { /* one target or agent */
    struct health_watcher *w;
    char name[TARGET_MAX_LEN + 1];
    bool gone;  /* no longer in the settings: not watched, kept because answers may be on their way */
    bool stays; /* while settings are compared */
    struct health_rule rule;
    struct health verdict; /* our own */
    struct health_doc doc;
    struct loop_timer timer; /* the next probe, or the next missed heartbeat */
    /* targets */
    const struct health_probe *probe; /* NULL: an agent */
    struct health_probe_conf conf;
    struct health_pace pace;
    struct health_schedule schedule;
    int64_t due_ms; /* what the timer waits for */
    struct health_run *runs;
    struct health_flight flight;
    bool queued; /* due, but too many probes are under way */
    struct health_watch *next_queued;
    int breaker; /* BreakerState; 0 = never heard */
    uint64_t breaker_epoch;
    int64_t permit_until_ms; /* somebody holds the permit until then */
    bool asking;             /* for the permit */
    int told_outcome;        /* the last result beside the data path that was reported; 0 = none */
    /* agents */
    struct health_heartbeat beat;
    int64_t beat_ms;
    UT_hash_handle hh;
};

struct health_watcher {
    struct service *s;
    struct health_watch *all; /* by name */
    size_t n;                 /* that are watched */
    struct lease *lease;
    struct health_duty duty;
    bool synced; /* the present was read from the stream once */
    bool was_tilted;
    bool draining, stopped;
    size_t under_way; /* probes */
    size_t suspects;  /* of these, of targets that may hang */
    struct health_lane {
        struct health_watch *first, **end;
    } lanes[2];              /* who waits for a place: suspects in the second */
    size_t docs_busy;        /* exchanges with the store under way */
    struct health_lane docs; /* who waits to begin one */
    size_t promises;         /* callbacks that will still come: the memory stays until then */
    size_t swept;            /* how many documents the sweep has passed */
    struct metric_hist late; /* how late probes began, since it was last told */
};

static inline struct health_watcher *health_watcher_of(struct service *s)
{
    return s->state;
}
static inline void health_promise(struct health_watcher *w)
{
    w->promises++;
}
void health_kept(struct health_watcher *w); /* a promised callback has come; w may be gone after it */
/* Neither tilted nor about to be found tilted: results count, and action may be taken. */
bool health_may_act(const struct health_watcher *w);
struct health_watch *health_find(struct health_watcher *w, const char *name); /* NULL if not watched */
uint32_t health_random(void);

/* health_run.c: probes, reports, permits */
void health_run_start(struct health_watch *t); /* begins to probe */
void health_run_arm(struct health_watch *t);   /* something changed that decides when the next probe is due */
void health_run_now(struct health_watch *t);
void health_run_stop(struct health_watch *t); /* cancels what is under way */
void health_on_breaker(struct service *s, const void *message, const struct bus_msg *m);
void health_on_lateness(struct service *s);

/* health_agent.c: heartbeats */
void health_agent_start(struct health_watch *t);
void health_agent_restart_all(struct health_watcher *w); /* nothing could be heard until now */
void health_on_heartbeat(struct service *s, const void *message, const struct bus_msg *m);

/* A result of a watch: into its verdict, and on. */
void health_take_result(struct health_watch *t, struct health_result *r);

/* health_doc.c: documents, events, alerts, audit records */
void health_doc_sync(struct health_watch *t);   /* brings the document and the verdict together, if it is our duty */
void health_doc_forget(struct health_watch *t); /* the store may hold something else now */
void health_on_verdict(struct service *s, const void *message, const struct bus_msg *m);
void health_on_sweep(struct service *s);

/* health_shell.c: for main.c's table */
int health_start(struct service *s, struct err *e);
void health_on_bus_up(struct service *s);
void health_on_bus_down(struct service *s);
void health_on_synced(struct service *s);
void health_on_store_up(struct service *s);
void health_on_store_down(struct service *s);
void health_on_reload(struct service *s, const struct settings *was);
void health_on_tick(struct service *s);
void health_drain(struct service *s);
void health_stop(struct service *s);
void health_on_show(struct service *s, const void *message, const struct bus_msg *m);

#endif
