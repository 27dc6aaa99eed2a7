/* fallback_impl.h - what the files of the decider share; private to them and their tests. */
#ifndef REDOUBT_FALLBACK_IMPL_H
#define REDOUBT_FALLBACK_IMPL_H

#include "fallback/fallback.h"

/* One decision while it is made. */
struct turn {
    struct fallback *f;
    struct fallback_doc *d; /* &f->doc */
    const struct fallback_rule *rule;
    const struct fallback_view *view;
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

/* ---- one dimension each: from the view to the document ---- */
void fallback_settle_llm(struct turn *t);
void fallback_settle_backend(struct turn *t);
void fallback_settle_automation(struct turn *t);
void fallback_settle_ack(struct turn *t);
void fallback_settle_override(struct turn *t);
/* ---- events that concern one dimension only ---- */
void fallback_on_ack(struct turn *t);
void fallback_on_freeze(struct turn *t);
void fallback_on_unfreeze(struct turn *t);
void fallback_on_called(struct turn *t);

bool fallback_agent_is_down(const struct fallback_view *v);
const char *fallback_breaker_name(int breaker);

#endif
