/* fallback_wave.c - waves: what each limited model says to an agent, who waits in its line, and when the next one's turn is.
 *
 * An agent counts on the model of its document, from the decision that moves it there on. Its turn is shown to it by the view; a turn that its next
 * decision does not take goes to whoever is next. A write that is lost costs its token: never more are moved than may be. */
#include "common/clock.h"
#include "common/log.h"
#include "common/metric.h"
#include "fallback/fallback_shell.h"
#include <stdlib.h>
#include <string.h>

_Static_assert(PARTITIONS == INTAKE_PARTITIONS, "a bit for each");

METRIC_DEFINE(turns, METRIC_COUNTER, "redoubt_fallback_wave_turns_total",
              "Turns given to agents that waited for a model.");

static bool limited(const struct target *t)
{
    return t->intake.all.rate > 0 || t->intake.all.cap > 0;
}

/* The partitions that are ours, as bits. */
static uint32_t held(const struct shell *sh)
{
    uint32_t bits = 0;
    for (unsigned i = 0; sh->partitions && i < PARTITIONS; i++)
        bits |= (uint32_t)(partition_fence(sh->partitions, i) != 0) << i;
    return bits;
}

static struct target *known_target(struct shell *sh, const char *name)
{
    struct target *t;
    HASH_FIND_STR(sh->targets, name, t);
    return t;
}

static void set_limit(struct shell *sh, struct target *t, const struct set_intake *set)
{
    struct intake_limit x = set ? (struct intake_limit){set->rate, set->wave, set->cap} : (struct intake_limit){0};
    intake_set(&t->intake, &x, sh->fx.held, clock_shared_ms());
}

void wave_limits(struct shell *sh)
{
    const struct conf_list *all = &sh->s->settings->targets;
    sh->fx.held = held(sh);
    sh->fx.limits = false;
    for (size_t i = 0; i < all->n; i++) {
        const struct set_target *set = CONF_AT(*all, struct set_target, i);
        bool has = set->intake.rate > 0 || set->intake.cap > 0;
        struct target *t = has ? shell_target(sh, set->name) : known_target(sh, set->name);
        if (t)
            set_limit(sh, t, &set->intake);
        else if (has)
            log_error("the limits of a model are not kept: too many targets", F_STR("target", set->name));
        sh->fx.limits |= has;
    }
    for (struct target *t = sh->targets; t; t = t->hh.next)
        if (limited(t) && !settings_target(sh->s->settings, t->name))
            set_limit(sh, t, NULL);
}

static void share(struct shell *sh)
{
    if (sh->fx.limits && sh->fx.held != held(sh))
        wave_limits(sh);
}

/* ---- the line ---- */

static void arm(struct shell *sh, int64_t at_ms)
{
    if (at_ms >= sh->fx.wave_at_ms)
        return;
    int64_t in_ms = at_ms - clock_shared_ms();
    sh->fx.wave_at_ms = at_ms;
    loop_timer_start(&sh->fx.wave, in_ms > 0 ? in_ms : 0, 0);
}

static struct agent *agent_of(struct intake_place *p)
{
    return (struct agent *)(void *)((char *)p - offsetof(struct agent, fx.place));
}

void wave_on_due(void *ctx)
{
    struct shell *sh = ctx;
    sh->fx.wave_at_ms = INT64_MAX;
    share(sh);
    int64_t next_ms = INT64_MAX;
    for (struct target *t = sh->targets; t; t = t->hh.next) {
        struct intake_place *p;
        /* Who gets in line again at once waits for the next round: no turn of the loop lasts for ever. */
        for (unsigned left = HASH_COUNT(sh->agents); left > 0 && t->intake.first; left--) {
            if (!(p = intake_next(&t->intake, clock_shared_ms())))
                break;
            metric_add(&turns, p->turn);
            if (p->turn)
                agent_look(agent_of(p));
            else
                agent_look_in_turn(agent_of(p)); /* may be thousands */
        }
        int64_t due_ms = t->intake.first ? intake_due_ms(&t->intake, clock_shared_ms()) : INT64_MAX;
        if (due_ms < next_ms)
            next_ms = due_ms;
    }
    if (next_ms != INT64_MAX)
        arm(sh, next_ms > clock_shared_ms() ? next_ms : clock_shared_ms() + 10);
}

void wave_await(struct agent *a, int index)
{
    if (index < 0 || (size_t)index >= a->rule.n_chain)
        return;
    struct target *t = known_target(a->sh, a->rule.chain[index].target);
    if (!t || !limited(t))
        return;
    intake_wait(&t->intake, &a->fx.place);
    int64_t due_ms = intake_due_ms(&t->intake, clock_shared_ms());
    if (due_ms != INT64_MAX)
        arm(a->sh, due_ms);
}

/* ---- decisions ---- */

void wave_view(struct agent *a, struct fallback_view *v)
{
    if (!a->sh->fx.limits)
        return; /* all open */
    share(a->sh);
    for (size_t i = 0; i < a->rule.n_chain; i++) {
        struct target *t = known_target(a->sh, a->rule.chain[i].target);
        if (t && limited(t))
            v->intake[i] = (uint8_t)intake_say(&t->intake, &a->fx.place, a->fx.counted == t, clock_shared_ms());
    }
}

void wave_count(struct agent *a, const struct fallback_doc *d)
{
    struct target *t = d && d->llm_index >= 0 ? shell_target(a->sh, d->llm_target) : NULL;
    if (t == a->fx.counted)
        return;
    if (a->fx.counted) {
        a->fx.counted->intake.here--;
        a->sh->fx.freed |= a->fx.counted->intake.all.cap > 0;
    }
    if (t)
        t->intake.here++;
    a->fx.counted = t;
}

void wave_decided(struct agent *a, const struct fallback_doc *was, const struct fallback_doc *is)
{
    bool moved = is->llm_index >= 0 && (was->llm_index < 0 || strcmp(was->llm_target, is->llm_target) != 0);
    struct intake *at = a->fx.place.at;
    bool turn = a->fx.place.turn;
    if (moved && was->epoch > 0) { /* where an agent stands at first is no move */
        struct target *t = known_target(a->sh, is->llm_target);
        if (t && limited(t))
            intake_take(&t->intake, &a->fx.place, clock_shared_ms());
    }
    if (a->fx.place.turn)
        intake_leave(&a->fx.place);
    if (turn && !moved && at->first)
        arm(a->sh, clock_shared_ms()); /* the next one's */
    wave_count(a, is);
}

/* Room where there was none: those who went on to something worse may come after all. */
void wave_tick(struct shell *sh)
{
    share(sh);
    if (!sh->fx.freed)
        return;
    sh->fx.freed = false;
    for (struct agent *a = sh->agents, *next; a; a = next) {
        next = a->hh.next;
        if (agent_decided(a) && a->f.doc.llm_index != 0)
            agent_look_in_turn(a);
    }
}
