/* breaker_shell.c - the breaker's shell: targets, deadlines, sweeps, Redis coming and going, reload, drain. */
#include "breaker/breaker_shell.h"
#include "common/clock.h"
#include "common/metric.h"
#include "common/settings.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

METRIC_DEFINE(targets_now, METRIC_GAUGE, "redoubt_breaker_targets", "Targets in the settings.");
METRIC_DEFINE(would_open, METRIC_COUNTER, "redoubt_breaker_would_open_total",
              "Evaluations of METRICS_ONLY breakers that would have opened an armed one.");
METRIC_DEFINE(swept, METRIC_COUNTER, "redoubt_breaker_swept_total",
              "Changes announced by a sweep because the replica that made them had not.");

#define SWEEP_MS          2000
#define FLOW_MS           1000
#define ADVICE_MS         2000
#define SWEEP_ROUNDS      8    /* each target is looked at once in so many sweeps, */
#define SWEEP_ALL         64   /* or in each, if they are few; */
#define SWEEP_MAX         500  /* and never more than this at once */
#define STORE_ALERT_MS    1000 /* a shorter absence of Redis is not worth waking people */
#define STORE_START_MS    5000
#define DEADLINE_MAX_MS   60000
#define WOULD_OPEN_LOG_MS 10000
/* Enough to keep Redis busy, and few enough (30 us each) that a failure is never more than some 15 ms behind. */
#define FLUSHES_AT_ONCE   512

/* ---- targets ---- */

struct node *breaker_node(struct shell *sh, const char *name)
{
    struct node *n;
    HASH_FIND_STR(sh->nodes, name, n);
    return n;
}

static struct node *node_of(struct breaker_target *t)
{
    return t->ctx;
}

static void node_free(struct node *n)
{
    breaker_flow_done(n);
    breaker_target_done(&n->t);
    free(n->damaged_rev);
    free(n->damaged_doc);
    free(n->name);
    free(n->subject);
    free(n->advice_subject);
    free(n->doc_key);
    free(n->window_key);
    free(n);
}

void breaker_hold(struct node *n)
{
    n->refs++;
    n->sh->refs++;
}

static void maybe_drained(struct shell *sh)
{
    if (sh->refs == 0 && sh->s->draining && !sh->stopped)
        service_drained(sh->s);
}

static void shell_free(struct shell *sh)
{
    struct node *n, *next;
    HASH_ITER(hh, sh->nodes, n, next)
    {
        HASH_DEL(sh->nodes, n);
        n->t.phase = BREAKER_IDLE; /* whatever was in flight has been answered: nothing will come */
        node_free(n);
    }
    breaker_scope_free(sh);
    free(sh->order);
    free(sh->heap);
    free(sh);
}

/* What is in flight at the end is answered after the state was given up: the last answer frees it. */
static void shell_unref(struct shell *sh)
{
    sh->refs--;
    if (sh->refs == 0 && sh->stopped)
        shell_free(sh);
    else
        maybe_drained(sh);
}

void breaker_release(struct node *n)
{
    struct shell *sh = n->sh;
    n->refs--;
    if (n->gone && n->refs == 0) {
        n->t.phase = BREAKER_IDLE;
        node_free(n);
    }
    shell_unref(sh);
}

static struct breaker_rule rule_of(const struct set_target *t)
{
    const struct set_breaker *b = &t->breaker;
    return (struct breaker_rule){.window_ms = b->window_ms,
                                 .window_calls = (uint32_t)b->window_calls,
                                 .min_calls = (uint32_t)b->min_calls,
                                 .failure_percent = (uint32_t)b->failure_percent,
                                 .slow_percent = (uint32_t)b->slow_percent,
                                 .consecutive = (uint32_t)b->consecutive,
                                 .slow_ms = b->slow_ms,
                                 .slow_first_ms = b->slow_first_ms,
                                 .open_ms = b->open_ms,
                                 .open_max_ms = b->open_max_ms,
                                 .decay_ms = b->decay_ms,
                                 .permit_ms = b->permit_ms,
                                 .ramp_step_ms = b->ramp_step_ms,
                                 .jitter_percent = (uint32_t)b->jitter_percent,
                                 .min_reporters = b->min_reporters > BREAKER_REPORTERS /* of more we know no more */
                                                      ? BREAKER_REPORTERS
                                                      : (uint32_t)b->min_reporters,
                                 .metrics_only = b->metrics_only,
                                 .seed = breaker_hash(t->name, strlen(t->name), 1)};
}

/* ---- the engine's view of the world ---- */

static int64_t io_now(struct breaker_target *t)
{
    (void)t;
    return clock_shared_ms();
}

static bool io_up(struct breaker_target *t)
{
    return store_up(node_of(t)->sh->s->store);
}

static bool io_may_act(struct breaker_target *t)
{
    return !service_tilted(node_of(t)->sh->s);
}

static bool io_synced(struct breaker_target *t)
{
    return node_of(t)->sh->synced;
}

static void arm(struct shell *sh)
{
    const struct node *n = breaker_heap_first(sh);
    if (!n) {
        loop_timer_stop(&sh->deadline);
        return;
    }
    int64_t wait_ms = n->wake_ms - clock_shared_ms();
    loop_timer_start(&sh->deadline, wait_ms < 1 ? 1 : wait_ms > DEADLINE_MAX_MS ? DEADLINE_MAX_MS : wait_ms, 0);
}

static void io_wake_at(struct breaker_target *t, int64_t at_ms)
{
    struct node *n = node_of(t);
    const struct node *was = breaker_heap_first(n->sh);
    int64_t was_ms = was ? was->wake_ms : 0;
    if (n->gone)
        at_ms = 0;
    breaker_heap_set(n->sh, n, at_ms);
    const struct node *is = breaker_heap_first(n->sh);
    if ((is ? is->wake_ms : 0) != was_ms)
        arm(n->sh);
}

static void on_deadline(void *ctx)
{
    struct shell *sh = ctx;
    int64_t now_ms = clock_shared_ms();
    for (struct node *n; (n = breaker_heap_first(sh)) && n->wake_ms <= now_ms;) {
        breaker_heap_set(sh, n, 0);
        if (!sh->s->draining)
            breaker_target_wake(&n->t);
    }
    arm(sh);
}

static void io_pending(struct breaker_target *t, bool first_sight)
{
    struct node *n = node_of(t);
    if (first_sight) { /* we have just come up: whoever has stored it may have died with it */
        metric_add(&swept, 1);
        breaker_say(t, &t->doc);
    } else {
        n->suspect = 0; /* a living replica is at it right now, most likely: the sweep looks twice */
    }
}

static void io_would_open(struct breaker_target *t, int reason)
{
    struct node *n = node_of(t);
    metric_add(&would_open, 1);
    if (log_allowed(&n->sh->would_open, clock_mono_ms(), WOULD_OPEN_LOG_MS, NULL))
        log_info("an armed breaker would have opened", F_STR("target", n->name),
                 F_STR("reason", wire_enum_name(&redoubt__v1__breaker_reason__descriptor, reason)));
}

static const struct breaker_io io = {.flush = breaker_state_flush,
                                     .put = breaker_state_put,
                                     .announce = breaker_say,
                                     .pending = io_pending,
                                     .answer = breaker_answer,
                                     .wake_at = io_wake_at,
                                     .would_open = io_would_open,
                                     .now_ms = io_now,
                                     .up = io_up,
                                     .may_act = io_may_act,
                                     .synced = io_synced};
static const struct breaker_hooks hooks = {.hurry = breaker_state_hurry,
                                           .advise = breaker_advice_changed,
                                           .changed = breaker_scope_changed,
                                           .looked = breaker_scope_looked};

/* ---- settings ---- */

static char *join(const char *a, const char *b, const char *c)
{
    char *p = NULL;
    return asprintf(&p, "%s%s%s", a, b, c) < 0 ? NULL : p;
}

static struct node *node_new(struct shell *sh, const struct set_target *set)
{
    struct node *n = calloc(1, sizeof *n);
    if (!n)
        return NULL;
    struct breaker_rule rule = rule_of(set);
    n->sh = sh;
    n->kind = set->kind;
    breaker_flow_settings(n, set);
    n->sayings_end = &n->sayings;
    n->name = strdup(set->name);
    n->subject = join(SUBJECT_BREAKER, set->name, "");
    n->advice_subject = join(SUBJECT_ADVICE, set->name, "");
    n->doc_key = join("redoubt:{b:", set->name, "}:doc");
    n->window_key = join("redoubt:{b:", set->name, "}:w");
    breaker_target_init(&n->t, &io, n, &rule);
    n->t.maker = (uint32_t)breaker_hash(sh->s->instance, strlen(sh->s->instance), 0);
    n->t.hooks = &hooks;
    if (n->name && n->subject && n->advice_subject && n->doc_key && n->window_key)
        return n;
    node_free(n);
    return NULL;
}

static void node_remove(struct shell *sh, struct node *n)
{
    HASH_DEL(sh->nodes, n);
    breaker_heap_set(sh, n, 0);
    n->gone = true;
    n->n_scopes = 0;
    sh->advised -= n->advised;
    n->advised = false;
    breaker_target_refuse_all(&n->t);
    breaker_hold(n);
    breaker_release(n);
}

static int take_settings(struct shell *sh, const struct settings *c)
{
    for (size_t i = 0; i < c->targets.n; i++) {
        const struct set_target *set = CONF_AT(c->targets, struct set_target, i);
        struct node *n = breaker_node(sh, set->name);
        if (n) {
            struct breaker_rule rule = rule_of(set);
            n->kind = set->kind;
            breaker_flow_settings(n, set);
            breaker_target_rules(&n->t, &rule);
            continue;
        }
        if (!(n = node_new(sh, set)))
            return -1;
        HASH_ADD_KEYPTR(hh, sh->nodes, n->name, strlen(n->name), n);
        breaker_target_wake(&n->t);
    }
    struct node *n, *next;
    HASH_ITER(hh, sh->nodes, n, next)
    {
        if (!settings_target(c, n->name))
            node_remove(sh, n);
    }
    int ok = breaker_scope_settings(sh, c);
    free(sh->order);
    sh->n = HASH_COUNT(sh->nodes);
    sh->sweep_at = 0;
    sh->order = calloc(sh->n + 1, sizeof *sh->order);
    if (!sh->order)
        return -1;
    size_t i = 0;
    HASH_ITER(hh, sh->nodes, n, next)
    {
        sh->order[i++] = n;
    }
    metric_set(&targets_now, (int64_t)sh->n);
    return ok;
}

static void on_reload(struct service *s, const struct settings *was)
{
    (void)was;
    if (take_settings(s->state, s->settings))
        log_error("settings only partly taken over", F_STR("why", "out of memory"), F_STR("next", "restart"));
}

/* ---- sweep: what a dead replica has left, and what we have missed ---- */

static void on_peeked(void *ctx, enum store_status st, const redisReply *r)
{
    struct node *n = ctx;
    struct shell *sh = n->sh;
    uint64_t epoch = n->t.doc.epoch;
    if (sh->stopped || st != STORE_OK || r->type != REDIS_REPLY_ARRAY || r->elements != 2) {
        if (!sh->stopped && st == STORE_ERROR)
            breaker_target_wake(&n->t); /* another type: the flush says what it is, and puts it right */
        breaker_release(n);
        return;
    }
    char have[24];
    snprintf(have, sizeof have, "%llu", (unsigned long long)epoch);
    const redisReply *rev = r->element[0], *pending = r->element[1];
    bool same = rev->type == REDIS_REPLY_STRING && strcmp(rev->str, have) == 0;
    bool unsaid = same && epoch > 0 && !breaker_saying(n, epoch) &&
                  ((pending->type == REDIS_REPLY_STRING && strcmp(pending->str, "1") == 0) ||
                   (sh->synced && n->streamed < epoch));
    if (!same) {
        breaker_target_wake(&n->t);
    } else if (!unsaid) {
        n->suspect = 0;
    } else if (n->suspect != epoch) {
        n->suspect = epoch;
    } else {
        metric_add(&swept, 1);
        breaker_say(&n->t, &n->t.doc);
    }
    breaker_release(n);
}

static void sweep(struct service *s)
{
    struct shell *sh = s->state;
    if (!store_up(s->store) || sh->n == 0)
        return;
    breaker_scope_check(sh);
    bool act = !service_tilted(s);
    size_t n = sh->n <= SWEEP_ALL ? sh->n : sh->n / SWEEP_ROUNDS + 1;
    for (n = n > SWEEP_MAX ? SWEEP_MAX : n; n > 0; n--) {
        struct node *x = sh->order[sh->sweep_at++ % sh->n];
        if (act && x->behind && !breaker_saying(x, x->t.doc.epoch)) {
            x->behind = false;
            metric_add(&swept, 1);
            breaker_say_again(x);
        }
        if (act && x->t.skipped) {
            x->t.skipped = false;
            breaker_target_wake(&x->t);
        } else if (breaker_target_idle(&x->t)) {
            breaker_state_peek(x, on_peeked);
        }
    }
}

/* ---- Redis and NATS ---- */

static void wake_all(struct shell *sh)
{
    for (size_t i = 0; i < sh->n; i++)
        breaker_target_wake(&sh->order[i]->t);
}

static void on_store_gone(void *ctx)
{
    struct shell *sh = ctx;
    if (store_up(sh->s->store) || sh->store_alerted || sh->s->draining)
        return;
    sh->store_alerted = true;
    breaker_say_store(sh, true);
}

static void on_store_up(struct service *s)
{
    struct shell *sh = s->state;
    loop_timer_stop(&sh->store_gone);
    if (sh->store_alerted)
        breaker_say_store(sh, false);
    sh->store_alerted = false;
    wake_all(sh);
}

static void on_store_down(struct service *s)
{
    struct shell *sh = s->state;
    if (!sh->store_alerted)
        loop_timer_start(&sh->store_gone, STORE_ALERT_MS, 0);
}

/* Others may change what we do not hear of: what the store has lost is not put back from what we knew. */
static void on_bus_down(struct service *s)
{
    struct shell *sh = s->state;
    if (sh) /* NULL: at the end */
        sh->synced = false;
}

static void on_watch_synced(struct service *s)
{
    struct shell *sh = s->state;
    bool first = !sh->synced;
    sh->synced = true;
    if (first)
        wake_all(sh);
}

/* ---- life ---- */

static void timer_closed(void *ctx)
{
    shell_unref(ctx);
}

static int start(struct service *s, struct err *e)
{
    struct shell *sh = calloc(1, sizeof *sh);
    if (!sh)
        return err_set(e, "out of memory");
    s->state = sh;
    sh->s = s;
    sh->line.most = FLUSHES_AT_ONCE;
    loop_timer_init(&s->loop, &sh->deadline, on_deadline, sh);
    loop_timer_init(&s->loop, &sh->store_gone, on_store_gone, sh);
    loop_timer_init(&s->loop, &sh->record, breaker_record_all, sh);
    loop_timer_init(&s->loop, &sh->scoping, breaker_scope_judge, sh);
    sh->unrecorded_end = &sh->unrecorded;
    loop_timer_start(&sh->store_gone, STORE_START_MS, 0);
    return take_settings(sh, s->settings) ? err_set(e, "out of memory") : 0;
}

static void drain(struct service *s)
{
    struct shell *sh = s->state;
    for (size_t i = 0; i < sh->n; i++)
        breaker_target_drain(&sh->order[i]->t);
    breaker_record_all(sh);
    maybe_drained(sh);
}

static void stop(struct service *s)
{
    struct shell *sh = s->state;
    s->state = NULL;
    sh->refs += 4;
    sh->stopped = true;
    breaker_state_give_up(sh);
    for (size_t i = 0; i < sh->n; i++)
        breaker_target_refuse_all(&sh->order[i]->t);
    breaker_record_all(sh); /* too late for the outbox: lets go of what waits */
    loop_timer_close(&sh->deadline, timer_closed);
    loop_timer_close(&sh->store_gone, timer_closed);
    loop_timer_close(&sh->record, timer_closed);
    loop_timer_close(&sh->scoping, timer_closed);
}

static const struct service_sub subs[] = {
    {SUBJECT_REPORT ">", SERVICE_SUB_QUEUE, NULL, breaker_on_report},
    {SUBJECT_BREAKER ">", SERVICE_SUB_WATCH, PB_DESC(breaker_changed), breaker_on_breaker},
    {SUBJECT_HEALTH ">", SERVICE_SUB_WATCH, PB_DESC(health_changed), breaker_on_health},
};
static const struct service_cmd cmds[] = {
    {"allow", PB_DESC(allow_request), breaker_on_allow},   {"show", PB_DESC(breaker_command), breaker_on_show},
    {"open", PB_DESC(breaker_command), breaker_on_open},   {"close", PB_DESC(breaker_command), breaker_on_close},
    {"reset", PB_DESC(breaker_command), breaker_on_reset}, {"metrics", PB_DESC(breaker_command), breaker_on_metrics},
};
static const struct service_timer timers[] = {
    {SWEEP_MS, sweep},
    {FLOW_MS, breaker_flow_tick},
    {ADVICE_MS, breaker_advice_repeat},
};

const struct service_desc breaker_service = {.name = "breaker",
                                             .description =
                                                 "shared circuit breakers: one verdict for the whole fleet",
                                             .needs = SERVICE_STORE | SERVICE_OUTBOX,
                                             SERVICE_TABLE(subs),
                                             SERVICE_TABLE(cmds),
                                             SERVICE_TABLE(timers),
                                             .start = start,
                                             .on_bus_down = on_bus_down,
                                             .on_bus_turn = breaker_flow_turn,
                                             .on_watch_synced = on_watch_synced,
                                             .on_store_up = on_store_up,
                                             .on_store_down = on_store_down,
                                             .on_reload = on_reload,
                                             .drain = drain,
                                             .stop = stop};
