/* continuity_sight.h - what the other services say, as signals for the board: pure but for memory.
 *
 * It remembers what was said last of each agent and target, so that who begins to lead can be told what holds now; older messages than the
 * last one change nothing. */
#ifndef REDOUBT_CONTINUITY_SIGHT_H
#define REDOUBT_CONTINUITY_SIGHT_H

#include "common/subjects.h"
#include "common/wire.h"
#include "continuity/board.h"

struct sight;
struct sight *sight_new(void); /* NULL if memory is out */
void sight_free(struct sight *x);

/* Continuity time, and what it is ahead of the wall clock that messages go by. Evidence is never after now, nor older than a year: a clock that is wrong
 * by more than that is no evidence. */
struct sight_time {
    int64_t now_ms, offset_ms;
};
/* What the settings say of an agent. "" = not known. */
struct sight_agent {
    const char *llm; /* the first of its chain: what it misses when it is on another */
    const char *backend;
};
enum sight_target { SIGHT_TARGET_OTHER, SIGHT_TARGET_LLM, SIGHT_TARGET_BACKEND };

/* A signal that was raised, has changed or cleared. Its texts are valid inside the call. */
typedef void (*sight_fn)(void *ctx, const struct signal *s);
/* All of them: false if memory is out, and then nothing is remembered. */
bool sight_directive(struct sight *x, const PB(Directive) * d, const struct sight_agent *set,
                     const struct sight_time *t, sight_fn fn, void *ctx);
bool sight_health(struct sight *x, const PB(HealthChanged) * h, enum sight_target kind, const struct sight_time *t,
                  sight_fn fn, void *ctx);
bool sight_breaker(struct sight *x, const PB(BreakerChanged) * b, enum sight_target kind, const struct sight_time *t,
                   sight_fn fn, void *ctx);
bool sight_rollback(struct sight *x, const PB(RollbackChanged) * r, const struct sight_time *t, sight_fn fn,
                    void *ctx);
bool sight_ack(struct sight *x, const PB(DirectiveAck) * k);

/* All that is raised now. */
void sight_each(const struct sight *x, sight_fn fn, void *ctx);
/* Of one subject (agent or target). */
void sight_each_of(const struct sight *x, const char *subject, sight_fn fn, void *ctx);

/* What validation asks of an agent. NULL = all is well; otherwise what is not: one line. */
const char *sight_agent_ill(const struct sight *x, const char *agent, int64_t now_ms);
/* When its position changed last, in continuity time; 0 = nothing is known of it. */
int64_t sight_agent_changed(const struct sight *x, const char *agent);

#endif
