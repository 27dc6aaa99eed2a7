/* health_shell.h - what the files of the shell share: the watcher and its targets. */
#ifndef REDOUBT_HEALTH_SHELL_H
#define REDOUBT_HEALTH_SHELL_H

#include "common/members.h"
#include "common/metric_hist.h"
#include "common/service.h"
#include "common/subjects.h"
#include "health/health.h"
#include "health/health_duty.h"
#include "health/health_heartbeat.h"
#include "health/health_logic.h"
#include "health/health_probe.h"
#include "health/health_quorum.h"
#include "health/health_schedule.h"
#include "health/health_selftest.h"
#include "health/health_silence.h"
#include "health/health_suppress.h"
#include "health/health_traffic.h"
#include <uthash.h>

#define HEALTH_AGENT_PREFIX "agent."
#define HEALTH_LINK_PREFIX  "link." /* + instance of a health replica: its link, as its own word has it */
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
    int64_t since_ms, changed_ms, maintenance_until_ms;
    bool waits; /* for others' exchanges to end */
    struct health_watch *next_waiting;
};

/* What a watch is about. An agent is three: its life, its means, its judgement; each with evidence and a verdict of its own. */
enum health_watch_kind { HEALTH_WATCH_TARGET, HEALTH_WATCH_LIFE, HEALTH_WATCH_MEANS, HEALTH_WATCH_LOGIC };

struct health_agent;
struct health_run;
struct health_question; /* health_vote.c: others are asked about it */
struct health_order;    /* health_cmd.c: a person's word that is being written */
struct health_watch {   /* one target, or one side of an agent */
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
    int told_outcome;        /* the last result beside the data path that was reported; 0 = none */
    /* agents */
    struct health_agent *agent; /* shared by its watches; NULL: a target */
    int64_t beat_ms;
    /* among the replicas */
    bool link;      /* of a watcher: `link.<instance>` */
    uint64_t hash;  /* of the name */
    uint32_t place; /* ours in its ranking */
    uint32_t vantage;
    bool on_duty;  /* we were to probe it when that was last looked at */
    bool disputed; /* we alone cannot reach it */
    bool nowhere;  /* nobody can look at it: no watcher runs on its host */
    struct health_question *question;
    int64_t
        answer_until_ms; /* asked by another: we look at it until then, or until we have answered; 0 = not asked */
    int64_t answer_since_ms;        /* shared; results of probes begun before say nothing */
    int64_t answered_ms;            /* the last time that we were asked and answered */
    uint32_t answer_good;           /* so many good results in a row are still to come before we call it well */
    struct health_traffic *traffic; /* paid: what real calls say; NULL = nothing heard */
    struct health_order *order;
    struct health_watch *parent; /* NULL = none that is watched */
    struct health_suppress suppress;
    UT_hash_handle hh;
};

struct health_watcher {
    struct service *s;
    struct health_watch *all; /* by name */
    size_t n;                 /* that are watched */
    struct members *members;
    int64_t opened_ms;       /* when we began to ask who they are */
    struct health_duty duty; /* as it was when it was last looked at */
    bool store_up;
    struct health_question *questions;
    struct health_link *own_link;
    bool synced; /* the present was read from the stream once */
    bool was_tilted;
    bool draining, stopped;
    size_t under_way; /* probes */
    size_t suspects;  /* of these, of targets that may hang */
    struct health_lane {
        struct health_watch *first, **end;
    } lanes[2];                    /* who waits for a place: suspects in the second */
    size_t docs_busy;              /* exchanges with the store under way */
    struct health_lane docs;       /* who waits to begin one */
    size_t promises;               /* callbacks that will still come: the memory stays until then */
    size_t swept;                  /* how many documents the sweep has passed */
    struct health_silence silence; /* of the alert service */
    struct metric_hist late;       /* how late probes began, since it was last told */
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

/* health_share.c: which replica does what */
const struct members_view *health_view(const struct health_watcher *w);
bool health_owns(const struct health_watch *t); /* ours to speak for, to the breaker, too */
bool health_probes(
    const struct health_watch *t); /* by duty, or because somebody asks, or because our link is in question */
bool health_announces(const struct health_watch *t);   /* ours, and the shared state is at hand */
uint64_t health_fence(const struct health_watcher *w); /* 0 = nothing may be written now */
void health_share_age(struct health_watcher *w);       /* the duty by the present time */
void health_share_look(
    struct health_watcher *w); /* the members, the store or the settings have changed, or time has passed */
int health_share_open(struct health_watcher *w);
void health_share_rest(struct health_watcher *w); /* whether our word counts may have changed */
const char *health_member_name(const struct health_watcher *w, uint64_t who); /* NULL = not among the members */
bool health_member_counts(const struct health_watcher *w, uint64_t who);

/* health_vote.c: what other watchers see */
void health_vote_result(struct health_watch *t, const struct health_result *r, bool changed);
void health_vote_members(struct health_watcher *w); /* they have changed */
void health_vote_tick(struct health_watcher *w);
void health_vote_drop(struct health_watch *t);
bool health_vote_answers(const struct health_watch *t);
enum health_say health_vote_say(const struct health_watch *t, int *ret_fault);
/* The votes behind what is said, ours first; returns how many. */
size_t health_vote_list(const struct health_watch *t, struct health_vote *ret, size_t max);
void health_vote_ask(struct health_watch *t); /* a person wants it looked at, wherever it is looked after */
/* A failure that only our own link may be the reason of is not told to the breaker before others have seen it, too. */
bool health_vote_trusts(const struct health_watch *t, const struct health_result *r);
bool health_bad(int state);
void health_observe(struct health_watcher *w, const char *target, int state, int fault, const char *detail,
                    bool asks);
void health_on_observation(struct service *s, const void *message, const struct bus_msg *m);

/* health_link.c: our own link */
int health_link_open(struct health_watcher *w);
void health_link_close(struct health_watcher *w);
void health_link_dispute(struct health_watch *t, enum health_poll_end end, int fault);
void health_link_tick(struct health_watcher *w);
bool health_link_faulty(const struct health_watcher *w);
void health_link_observed(struct health_watcher *w, const PB(Observation) * o);
struct health_watch *health_link_of(struct health_watcher *w,
                                    const char *name); /* begins to know of another's link */
void health_link_text(const struct health_watcher *w, char *buf, size_t size);
void health_on_pulse(struct service *s, const void *message, const struct bus_msg *m); /* health_hush.c */
void health_on_silence(struct service *s);
void health_on_ping(struct service *s); /* timer */

/* health_paid.c: probes that cost money */
bool health_paid_may(struct health_watch *t,
                     bool fast); /* now; false: left out, or health_run_launch() follows when it may */
void health_on_traffic(struct service *s, const void *message, const struct bus_msg *m);

/* health_run.c: probes, reports, permits */
void health_run_start(struct health_watch *t); /* begins to probe */
void health_run_arm(struct health_watch *t);   /* something changed that decides when the next probe is due */
void health_run_now(struct health_watch *t);
void health_run_stop(struct health_watch *t); /* cancels what is under way */
void health_run_forget(
    struct health_watch *t); /* stops, and lets go of what the probe has kept of the old settings */
void health_run_launch(struct health_watch *t); /* a probe that had to wait for its leave */
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

/* health_say.c: alerts and audit records of an announced verdict; the same ids whoever sends them */
void health_say(struct health_watch *t, const PB(HealthChanged) * m, int cause, int previous_cause);

/* health_doc.c: documents and events */
void health_doc_sync(struct health_watch *t);   /* brings the document and the verdict together, if it is our duty */
void health_doc_forget(struct health_watch *t); /* the store may hold something else now */
void health_doc_adopt(struct health_watch *t);  /* begins with what is announced */
struct health_watch *
health_suppressor(const struct health_watch *t); /* the nearest ancestor that is down, NULL = none */
void health_on_verdict(struct service *s, const void *message, const struct bus_msg *m);
void health_on_sweep(struct service *s);
void health_doc_tick(struct health_watcher *w); /* alerts that have waited for a parent */

/* health_cmd.c: what a person wants */
struct health_order {
    int64_t until_ms; /* shared; 0 = resume */
    int64_t give_up_ms;
    char *by, *why, *reply;
};
void health_order_done(struct health_watch *t, bool done); /* it is written, or given up */
void health_cmd_tick(struct health_watcher *w);
void health_on_show(struct service *s, const void *message, const struct bus_msg *m);
void health_on_maintain(struct service *s, const void *message, const struct bus_msg *m);
void health_on_resume(struct service *s, const void *message, const struct bus_msg *m);
void health_on_probe(struct service *s, const void *message, const struct bus_msg *m);

/* health_shell.c: for main.c's table */
struct health_watch *health_take_in(struct health_watcher *w, const char *name);
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

#endif
