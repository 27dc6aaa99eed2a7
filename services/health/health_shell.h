/* health_shell.h - what the files of the shell share: the watcher and its targets. */
#ifndef REDOUBT_HEALTH_SHELL_H
#define REDOUBT_HEALTH_SHELL_H

#include "common/lease.h"
#include "common/service.h"
#include "common/subjects.h"
#include "health/health.h"
#include "health/health_duty.h"
#include "health/health_heartbeat.h"
#include "health/health_logic.h"
#include "health/health_probe.h"
#include "health/health_schedule.h"
#include "health/health_selftest.h"
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
};

/* What a watch is about. An agent is three: its life, its means, its judgement; each with evidence and a verdict of its own. */
enum health_watch_kind { HEALTH_WATCH_TARGET, HEALTH_WATCH_LIFE, HEALTH_WATCH_MEANS, HEALTH_WATCH_LOGIC };

struct health_agent;
struct health_run;
struct health_watch { /* one target, or one side of an agent */
    struct health_watcher *w;
    enum health_watch_kind what;
    char name[TARGET_MAX_LEN + 1];
    bool gone;  /* no longer in the settings: not watched, kept because answers may be on their way */
    bool stays; /* while settings are compared */
    struct health_rule rule;
    struct health verdict; /* our own */
    struct health_doc doc;
    struct loop_timer timer; /* the next probe; the next missed heartbeat; the next look at an agent's judgement */
    /* targets */
    const struct health_probe *probe; /* NULL: not a target */
    struct health_probe_conf conf;
    struct health_pace pace;
    struct health_schedule schedule;
    int64_t due_ms; /* what the timer waits for */
    struct health_run *runs;
    struct health_flight flight;
    const struct health_probe *forgets; /* the kind that conf.memory is of, and must go; nothing begins until then */
    bool queued;                        /* due, but too many probes are under way */
    struct health_watch *next_queued;
    int breaker; /* BreakerState; 0 = never heard */
    uint64_t breaker_epoch;
    int64_t permit_until_ms; /* somebody holds the permit until then */
    bool asking;             /* for the permit */
    /* agents */
    struct health_agent *agent; /* shared by its watches; NULL: a target */
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
    struct health_watch *queue, **queue_end;
    size_t promises; /* callbacks that will still come: the memory stays until then */
    size_t swept;    /* how many documents the sweep has passed */
    int64_t late_ms; /* worst lateness since it was last told */
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
void health_run_forget(
    struct health_watch *t); /* stops, and lets go of what the probe has kept of the old settings */
void health_on_breaker(struct service *s, const void *message, const struct bus_msg *m);
void health_on_lateness(struct service *s);

/* One agent, as its three watches share it. */
struct health_agent {
    struct health_watch *life, *means, *judgement;
    const struct set_agent *set; /* valid while the watches are not gone */
    struct health_beat_rule beat_rule;
    struct health_heartbeat beat;
    struct health_resource_rule means_rule;
    char means_detail[HEALTH_DETAIL_MAX]; /* of the process that was last found wanting */
    struct health_logic_rule logic_rule;
    struct health_logic *logic; /* from the first decision or exception on */
    struct health_selftest test;
    int64_t judge_ms, ask_ms; /* when to look at decisions, and to ask, next; 0 = never */
    int64_t said_ms;          /* when the judgement was last put into the verdict; 0 = not yet */
    uint8_t said;             /* the fault that was */
    bool asking, unserved;    /* unserved: nobody takes the questions; said once */
};

/* health_agent.c: agents and their heartbeats */
void health_agent_take(struct health_watch *const of[static 3],
                       const struct set_agent *set); /* life, means, judgement */
void health_agent_free(struct health_watch *t);      /* by its life's watch; nothing for others */
void health_agent_start(struct health_watch *t);
void health_agent_restart_all(struct health_watcher *w); /* nothing could be heard until now */
void health_on_heartbeat(struct service *s, const void *message, const struct bus_msg *m);

/* health_judge.c: decisions and self-tests of agents */
void health_judge_start(struct health_agent *a);
void health_judge_arm(struct health_agent *a);
void health_judge_beat(struct health_agent *a, uint64_t exceptions);
void health_on_decision(struct service *s, const void *message, const struct bus_msg *m);
/* The agent that a subject's tail names, while it is watched; NULL otherwise. */
struct health_agent *health_agent_find(struct health_watcher *w, const char *name);

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
