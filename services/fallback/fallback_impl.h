/* fallback_impl.h - what the files of the decider share; private to them and their tests. */
#ifndef REDOUBT_FALLBACK_IMPL_H
#define REDOUBT_FALLBACK_IMPL_H

#include "fallback/fallback.h"

/* One decision while it is made. */
struct turn {
    struct fallback *f;
    struct fallback_doc *d; /* &f->doc */
    const struct fallback_rule *rule;
    const struct fallback_view *view; /* what is so */
    struct fallback_view seen;        /* the same with what a drill pretends: what dimensions go by */
    struct {
        struct fallback_target llm[FALLBACK_CHAIN_MAX], backend;
        struct fallback_verdict verdict, judgement, resources;
    } pretended;
    int drill_real; /* enum fallback_failure whose drill ended in this turn, since it has become real; or NONE */
    bool overdue;   /* the agent has not confirmed its directive in time */
    const struct fallback_event *ev;
    int64_t now_ms;
    struct fallback_effect *out;
    size_t n;
    bool store; /* the document changed */
    bool learn; /* the agent must learn of it */
    int step;   /* the change that counts most so far, with its reason in `d` */
    int64_t evidence_ms;
    int64_t wake_ms; /* earliest; INT64_MAX = none */
};

/* Says that the agent must learn of a change. Of several in one turn the strictest gives the directive its step and reason. */
__attribute__((format(printf, 6, 7))) void fallback_change(struct turn *t, int step, int failure, const char *cause,
                                                           int64_t evidence_ms, const char *fmt, ...);
struct fallback_effect *fallback_effect_add(struct turn *t, enum fallback_effect_kind kind);
__attribute__((format(printf, 3, 4))) void fallback_raise(struct turn *t, enum fallback_notice k, const char *fmt,
                                                          ...);
__attribute__((format(printf, 3, 4))) void fallback_resolve(struct turn *t, enum fallback_notice k, const char *fmt,
                                                            ...);
bool fallback_told(const struct turn *t, enum fallback_notice k);
__attribute__((format(printf, 5, 6))) void fallback_record(struct turn *t, const char *action, bool strict,
                                                           const char *actor, const char *fmt, ...);
void fallback_wake(struct turn *t, int64_t at_ms);
void fallback_text(char *to, size_t room, const char *from);

/* ---- one dimension each: from what is seen to the document ---- */
void fallback_settle_drill(struct turn *t); /* before the others: it says what they see */
void fallback_settle_automation(struct turn *t);
void fallback_settle_llm(struct turn *t);
void fallback_settle_backend(struct turn *t);
void fallback_settle_resources(struct turn *t);
void fallback_settle_link(struct turn *t);
void fallback_settle_load(struct turn *t); /* after resources and link */
void fallback_settle_ack(struct turn *t);  /* after the epoch is settled */
void fallback_settle_monitor(struct turn *t);
void fallback_settle_override(struct turn *t);
void fallback_settle_drill_over(struct turn *t);
/* ---- events that concern one dimension only ---- */
void fallback_on_ack(struct turn *t);
void fallback_on_freeze(struct turn *t);
void fallback_on_unfreeze(struct turn *t);
void fallback_on_called(struct turn *t);
void fallback_on_drill(struct turn *t);
void fallback_on_restarted(struct turn *t);
void fallback_on_rolled(struct turn *t);
void fallback_on_monitored(struct turn *t);

__attribute__((format(printf, 3, 4))) void fallback_answer(struct turn *t, enum fallback_answer a, const char *fmt,
                                                           ...);
bool fallback_verdict_is(const struct fallback_verdict *v, int failure); /* UNHEALTHY with that failure */
/* What a breaker state means for agents. */
enum fallback_admits { ADMITS_NONE, ADMITS_SHARE, ADMITS_ALL, ADMITS_UNSAID };
struct fallback_use {
    const char *name;
    enum fallback_admits admits;
    bool stays; /* may an agent that uses it go on? */
    bool enter; /* may an agent that has to leave another be moved here (by its rank, if only a share is admitted)? */
    bool comes_back; /* may an agent come back here after the hold (by its rank, likewise)? */
};
const struct fallback_use *fallback_use_of(const struct fallback_target *x);
bool fallback_health_blocks(
    const struct fallback_target *x); /* the watchers' bad word: a way back, never one to safety */
const char *fallback_breaker_name(int breaker);
bool fallback_breaker_stays(const struct fallback_target *x); /* may be used by who uses it already */
int fallback_first_fit(const struct fallback_rule *rule);     /* position in the chain; -1 = none */
bool fallback_in_maintenance(const struct turn *t);
bool fallback_no_resources(const struct fallback_view *v);

/* ---- automation ---- */
void fallback_freeze(struct turn *t, const char *by, const char *why, int failure, int64_t evidence_ms);
void fallback_thaw(struct turn *t, const char *by, const char *why); /* the freeze ends */

/* ---- drills ---- */
/* "DRILL: " if what concerns this kind of failure is, or was just now, pretended; else "". */
const char *fallback_drill_mark(const struct turn *t, int failure);
/* What makes a drill of this kind needless: it is so in truth. */
bool fallback_really(const struct turn *t, int failure);
void fallback_drill_end(struct turn *t, const char *by, const char *why, bool real);
bool fallback_drilled(const struct turn *t, int failure); /* is pretended at the moment */

/* ---- posture ---- */
extern const int fallback_step_weight[FALLBACK_STEPS]; /* the strictest step gives a directive its name */
int fallback_step_failure(int step);                   /* the kind that a step is about; NONE = several, or none */
/* What still holds the agent, strictest first: kind, cause and a text; false if nothing does. */
bool fallback_standing(const struct turn *t, int *ret_failure, const char **ret_cause, char *text, size_t room);

#endif
