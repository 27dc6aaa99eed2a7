/* rollback_turn.c - what every phase does with a turn: effects, moves between phases, holds, the end, and acts that are handed out. */
#include "rollback/rollback_impl.h"
#include <assert.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

struct rollback_effect *rollback_effect_add(struct turn *t, enum rollback_effect_kind kind)
{
    assert(t->n < ROLLBACK_EFFECTS);
    struct rollback_effect *e = &t->out[t->n++];
    memset(e, 0, sizeof *e);
    e->kind = kind;
    return e;
}

#define WORDS(buf, size, fmt)                                                                                        \
    do {                                                                                                             \
        va_list ap;                                                                                                  \
        va_start(ap, fmt);                                                                                           \
        vsnprintf(buf, size, fmt, ap);                                                                               \
        va_end(ap);                                                                                                  \
    } while (0)

void rollback_reply(struct turn *t, int status, const char *fmt, ...)
{
    struct rollback_effect *e = rollback_effect_add(t, ROLLBACK_REPLY);
    e->status = status;
    WORDS(e->text, sizeof e->text, fmt);
}

void rollback_record(struct turn *t, const char *action, const char *by, const char *fmt, ...)
{
    struct rollback_effect *e = rollback_effect_add(t, ROLLBACK_RECORD);
    e->action = action;
    e->strict = true;
    snprintf(e->by, sizeof e->by, "%s", by && *by ? by : t->j->by);
    WORDS(e->text, sizeof e->text, fmt);
}

void rollback_raise(struct turn *t, int notice, bool critical, const char *fmt, ...)
{
    struct rollback_effect *e = rollback_effect_add(t, ROLLBACK_RAISE);
    e->notice = notice;
    e->critical = critical;
    WORDS(e->text, sizeof e->text, fmt);
}

void rollback_resolve(struct turn *t, int notice)
{
    rollback_effect_add(t, ROLLBACK_RESOLVE)->notice = notice;
}

void rollback_say(struct turn *t, const char *fmt, ...)
{
    char text[ROLLBACK_WHY];
    WORDS(text, sizeof text, fmt);
    if (strcmp(text, t->j->reason) == 0)
        return;
    snprintf(t->j->reason, sizeof t->j->reason, "%s", text);
    t->changed = true;
}

bool rollback_over(const struct turn *t, int64_t since_ms, int64_t limit_ms)
{
    return t->now_ms - since_ms >= limit_ms;
}

bool rollback_waits(const struct turn *t, int64_t limit_ms)
{
    int64_t did_ms = t->j->live.did_ms, since_ms = t->j->stage_since_ms;
    return rollback_over(t, did_ms > since_ms ? did_ms : since_ms, limit_ms);
}

void rollback_stage(struct turn *t, int stage)
{
    t->j->stage = stage;
    t->j->stage_since_ms = t->now_ms;
    t->j->live.off = false;
    t->changed = t->look = true;
}

void rollback_move(struct turn *t, int phase)
{
    struct rollback_job *j = t->j;
    int previous = j->phase;
    sm_move(&rollback_sm, &j->phase, phase);
    j->previous = previous;
    j->phase_since_ms = t->now_ms;
    if (phase != ROLLBACK_PHASE(HOLD)) {
        j->held_phase = 0;
        j->hold = 0;
    }
    j->live.up_ms = j->live.gate_ms = 0;
    rollback_stage(t, 0);
    sm_check(&rollback_sm, j->phase, j);
}

static bool is_critical(const struct turn *t, int hold)
{
    return hold == ROLLBACK_HOLD(TARGET_LOST) || hold == ROLLBACK_HOLD(BOTH_LOST) ||
           (hold == ROLLBACK_HOLD(REGRESSION) && rollback_insecure(t));
}

void rollback_hold(struct turn *t, int hold, const char *fmt, ...)
{
    struct rollback_job *j = t->j;
    char text[ROLLBACK_WHY];
    WORDS(text, sizeof text, fmt);
    if (j->phase != ROLLBACK_PHASE(HOLD)) {
        /* Weights stay. What is on its way arrives, unless the version that would get more has just been found to be worse. */
        if (j->op != ROLLBACK_OP(WEIGHT) || hold == ROLLBACK_HOLD(REGRESSION))
            j->wanted = j->weight;
        int held = j->phase;
        j->held_phase = held;
        j->hold = hold;
        j->holds++;
        rollback_move(t, ROLLBACK_PHASE(HOLD));
        j->tries = 0;
    }
    j->hold = hold;
    t->changed = t->look = true;
    rollback_say(t, "%s", text);
    rollback_record(t, "rollback.hold", NULL, "held in %s with %d %% on %s: %s", sm_name(&rollback_sm, j->held_phase),
                    j->weight, rollback_name(t->d, j->from), text);
    rollback_raise(t, ROLLBACK_NOTICE_HOLD, is_critical(t, hold),
                   "%s: the rollback from %s to %s holds in %s with %d %% of the traffic on %s: %s. Resume, abort or "
                   "emergency?",
                   t->d->deployment, rollback_name(t->d, j->from), rollback_name(t->d, j->to),
                   sm_name(&rollback_sm, j->held_phase), j->weight, rollback_name(t->d, j->from), text);
}

static void remember(struct turn *t)
{
    struct rollback_doc *d = t->d;
    struct rollback_job *j = t->j;
    size_t keep = d->n_history < ROLLBACK_HISTORY ? d->n_history : ROLLBACK_HISTORY - 1;
    memmove(&d->history[1], &d->history[0], keep * sizeof d->history[0]);
    d->n_history = keep + 1;
    struct rollback_ended *h = &d->history[0];
    memset(h, 0, sizeof *h);
    snprintf(h->job, sizeof h->job, "%s", j->id);
    snprintf(h->from, sizeof h->from, "%s", rollback_name(d, j->from));
    snprintf(h->to, sizeof h->to, "%s", rollback_name(d, j->to));
    snprintf(h->reason, sizeof h->reason, "%s", j->reason);
    snprintf(h->by, sizeof h->by, "%s", j->by);
    snprintf(h->why, sizeof h->why, "%s", j->why);
    h->phase = j->phase;
    h->started_ms = j->started_ms;
    h->ended_ms = j->ended_ms;
    h->holds = j->holds;
}

void rollback_end(struct turn *t, int phase, const char *fmt, ...)
{
    struct rollback_job *j = t->j;
    char text[ROLLBACK_WHY];
    WORDS(text, sizeof text, fmt);
    j->op = 0;
    j->tries = 0;
    j->again_ms = 0;
    j->wanted = j->weight;
    rollback_move(t, phase);
    j->ended_ms = t->now_ms;
    rollback_say(t, "%s", text);
    remember(t);
    const char *from = rollback_name(t->d, j->from), *to = rollback_name(t->d, j->to);
    rollback_resolve(t, ROLLBACK_NOTICE_STARTED);
    rollback_resolve(t, ROLLBACK_NOTICE_HOLD);
    if (phase == ROLLBACK_PHASE(DONE)) {
        rollback_record(t, "rollback.done", NULL, "from %s to %s%s: %s", from, to, j->forced ? " (forced)" : "",
                        text);
        rollback_raise(t, ROLLBACK_NOTICE_DONE, false, "%s: rolled back from %s to %s: %s", t->d->deployment, from,
                       to, text);
    } else {
        bool refused = phase == ROLLBACK_PHASE(REFUSED);
        rollback_record(t, refused ? "rollback.refused" : "rollback.aborted", NULL, "from %s to %s: %s", from, to,
                        text);
        rollback_raise(t, ROLLBACK_NOTICE_FAILED, false, "%s: the rollback from %s to %s was %s: %s",
                       t->d->deployment, from, to, refused ? "refused" : "aborted", text);
    }
    rollback_keep(t);
}

/* ---- acts ---- */

static const struct {
    const char *action, *words;
} acts[] = {
    [ROLLBACK_OP(RESTORE)] = {"rollback.restore", "learning data put back before"},
    [ROLLBACK_OP(MIGRATE)] = {"rollback.migrate", "learning data migrated down by"},
    [ROLLBACK_OP(STOP)] = {"rollback.stop", "stopped"},
    [ROLLBACK_OP(REMOVE)] = {"rollback.remove", "removed"},
};

/* What is about to be changed is noted before: after a crash in the middle nobody can tell how far it went. */
static void note(struct rollback_job *j, int op, const char *version)
{
    switch (op) {
    case ROLLBACK_OP(SNAPSHOT):
        j->writer_paused = true;
        break;
    case ROLLBACK_OP(RESTORE):
    case ROLLBACK_OP(MIGRATE):
        j->data_replaced = true;
        break;
    case ROLLBACK_OP(UP):
        j->target_made |= strcmp(version, j->to) == 0;
        break;
    case ROLLBACK_OP(STOP):
        j->from_stopped = true;
        break;
    default:
        break;
    }
}

static bool free_for(const struct turn *t)
{
    return !t->j->op && t->now_ms >= t->j->again_ms;
}

struct rollback_effect *rollback_do(struct turn *t, int op, const char *version, int side, unsigned count)
{
    struct rollback_job *j = t->j;
    if (!free_for(t))
        return NULL;
    size_t n = sizeof acts / sizeof acts[0];
    if ((size_t)op < n && acts[op].action)
        rollback_record(t, acts[op].action, NULL, "%s: %s", acts[op].words, rollback_name(t->d, version));
    note(j, op, version);
    j->op = op;
    j->serial++;
    j->op_since_ms = t->now_ms;
    j->again_ms = 0;
    t->changed = true;
    struct rollback_effect *e = rollback_effect_add(t, ROLLBACK_DO);
    e->op = op;
    e->serial = j->serial;
    snprintf(e->version, sizeof e->version, "%s", version);
    e->side = side;
    e->count = count;
    return e;
}

bool rollback_do_weight(struct turn *t, int weight)
{
    struct rollback_job *j = t->j;
    if (!free_for(t) || !t->sight->traffic_known) /* what would be moved is not known */
        return false;
    rollback_record(t, "rollback.weight", NULL, "from %d %% to %d %% on %s", j->weight, weight,
                    rollback_name(t->d, j->from));
    struct rollback_effect *e = rollback_do(t, ROLLBACK_OP(WEIGHT), j->from, j->from_side, j->plan.instances);
    e->share[j->from_side] = weight;
    e->share[!j->from_side] = 100 - weight;
    j->wanted = weight;
    return true;
}
