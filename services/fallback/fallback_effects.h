/* fallback_effects.h - what the shell does beyond documents and directives: restarts, rollbacks, fences, self-tests, basic monitoring,
 * waves, the baseline. Each keeps its own part here. */
#ifndef REDOUBT_FALLBACK_EFFECTS_H
#define REDOUBT_FALLBACK_EFFECTS_H

#include "common/baseline.h"
#include "common/service.h"
#include "fallback/fallback.h"
#include "fallback/fallback_intake.h"

struct agent;
struct shell;
struct target;
struct set_agent;
struct restart;
struct fence;

/* Of each agent. Zeroed = nothing is under way. */
struct agent_effects {
    char *unfit;                    /* texts that the rule's chain points to */
    struct intake_place place;      /* in the line of a model */
    struct target *counted;         /* the model that it is counted on */
    struct restart *restart;        /* the executor's run */
    char rolling[FALLBACK_ID_TEXT]; /* the rollback that is being asked for; "" = none */
    struct fence *fence;
    bool asked;                /* a self-test is under way */
    struct {                   /* basic monitoring */
        int64_t due_mono_ms;   /* our next report; 0 = it is not asked for */
        int64_t since_mono_ms; /* it has been asked for since; counted anew when its link is up again */
        int64_t heard_mono_ms; /* the agent's own last report; 0 = none since then */
        bool ever;             /* it has sent reports in this process's time */
        bool unserved;         /* said that it sends none */
        uint64_t found;        /* what our own checks came to, as a hash: said in the trail when it changes */
        int told;              /* what the decider was told last: 0 nothing, 1 well, 2 not */
        uint64_t told_what;    /* hash of the text */
    } monitor;
};
/* Of the service. */
struct effects {
    struct loop_timer wave; /* the next turn in a line */
    int64_t wave_at_ms;     /* shared time; INT64_MAX = none */
    uint32_t held;          /* partitions that the lines go by */
    bool limits;            /* any model has some */
    bool freed;             /* an agent has left a model with a cap */
    struct baseline *baseline;
    struct loop_timer look; /* at the baseline's file */
    bool untrusted_alert;
    struct restart *restarts; /* all that run */
};

/* ---- hooks of the shell ---- */
void effects_open(struct shell *sh);
void effects_reload(struct shell *sh);
void effects_tick(struct shell *sh, int64_t now_mono_ms);
void effects_close(struct shell *sh); /* handles; their memory goes with effects_free() */
void effects_free(struct shell *sh);
void effects_forget(struct agent *a); /* its document is not ours any more */
void effects_agent_free(struct agent *a);

/* A record of what is done to an agent, with two fields of its own. */
struct effects_record {
    const char *action, *agent;
    uint64_t epoch;
    const char *key[2], *value[2];
};
void effects_audit(struct service *s, const struct effects_record *r, int outcome, int audit_class,
                   const char *detail, outbox_cb done, void *ctx);

/* fallback_rule.c */
void rule_set(struct agent *a, const struct set_agent *set);

/* fallback_restart.c: FALLBACK_RESTART */
void restart_start(struct agent *a, const struct fallback_effect *e);
void restarts_close(struct shell *sh);

/* fallback_roll.c: FALLBACK_ROLL */
void roll_start(struct agent *a, const struct fallback_effect *e);

/* fallback_fence.c: FALLBACK_FENCE, and the ANSWER that waits for it */
void fence_start(struct agent *a, uint64_t epoch); /* of the directive that froze it */
/* The operator is told when the fence that was just started has ended. */
void fence_answer(struct agent *a, const char *reply, const struct fallback_effect *e);
void fence_drop(struct agent *a); /* whoever waits is told that it is not known */
void in_fenced(struct service *s, const void *message, const struct bus_msg *m);

/* fallback_selftest.c: the agent's questions, before it is unfrozen. done is called exactly once, later; `text` is valid only inside.
 * False if it cannot be begun: *why says why, and done is not called. */
typedef void (*selftest_done)(void *ctx, bool passed, const char *text);
bool selftest_ask(struct agent *a, selftest_done done, void *ctx, const char **why);
/* How long a whole self-test may take. */
int64_t selftest_patience_ms(const struct set_agent *set);

/* fallback_monitor.c: basic monitoring */
void monitor_tick(struct agent *a, int64_t now_mono_ms);
void in_monitor(struct service *s, const void *message, const struct bus_msg *m);

/* fallback_wave.c: FALLBACK_AWAIT, and the view's intake */
void wave_limits(struct shell *sh); /* settings or partitions have changed */
void wave_view(struct agent *a, struct fallback_view *v);
void wave_await(struct agent *a, int index);
void wave_decided(struct agent *a, const struct fallback_doc *was, const struct fallback_doc *is);
void wave_count(struct agent *a, const struct fallback_doc *d); /* NULL = it is not ours */
void wave_tick(struct shell *sh);
void wave_on_due(void *ctx);

/* fallback_baseline.c */
void baseline_watch_open(struct shell *sh);
void baseline_watch_reload(struct shell *sh);
/* What an override's justification says of it; "" if none is configured. */
void baseline_say(const struct shell *sh, char *buf, size_t size);

#endif
