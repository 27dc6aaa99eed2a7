/* guard_claim.c - an action's claim on its key, within the limits: one script in Redis per action; while Redis is away, what this replica knows.
 *
 * The value of a key: STATE TOKEN PRINT NUMBER. P = under way until NUMBER (ms, Redis' clock), D = done with HTTP status NUMBER, A = permitted to the
 * instance TOKEN, Q = waits in the queue; until it is known to be durable there it is under way, with the token Q. PRINT is of action and parameters: a key that comes again with other ones is refused. A claim that
 * is not settled in time was of a guard that died: the key may be claimed again, and the backend tells the repeat by its own key.
 *
 * Without Redis: a limit's share of one replica, and the keys that this replica has seen. What is done meanwhile is told to Redis when it is
 * back. A guard that has not seen the list of its fellows since it started knows neither share nor keys, and passes nothing on. */
#include "common/clock.h"
#include "common/metric.h"
#include "common/rank.h"
#include "guard/guard_impl.h"
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#define MARKS 65536
#define QUEUE_HOLD_MS                                                                                                \
    5000 /* a guard that has not made an action durable in the queue by then has died: it may be asked for again */
#define HOLD_MORE_MS                                                                                                 \
    10000 /* a claim holds longer than a wait for one's turn and a call, which ends before a fence's time is over */
#define UNTOLD_MAX   65536
#define TELL_AT_ONCE 256
#define KEY_MAX      320

#define REASON(what) REDOUBT__V1__REFUSAL_REASON__REFUSAL_REASON_##what

METRIC_DEFINE(local_claims, METRIC_COUNTER, "redoubt_guard_local_claims_total",
              "Actions that were claimed here because Redis was away.");
METRIC_DEFINE(untold_now, METRIC_GAUGE, "redoubt_guard_untold", "Keys that Redis must still be told of.");

/* KEYS: document, rates, key. ARGV: epoch that the guard knows, mode, print, token, hold ms, ttl ms, action's field, then interval and
 * tolerance (us) of the agent and of the action. */
static struct store_script claim_script = {
    .name = "guard claim",
    .body = "local e = redis.call('HGET', KEYS[1], 'epoch')\n"
            "if e and tonumber(e) > tonumber(ARGV[1]) then return {1, 0} end\n"
            "local t = redis.call('TIME')\n"
            "local us = t[1] * 1000000 + t[2]\n"
            "local ms = math.floor(us / 1000)\n"
            "local mode, print, token = ARGV[2], ARGV[3], ARGV[4]\n"
            "local v = redis.call('GET', KEYS[3])\n"
            "local pays = mode ~= 'R'\n"
            "if v then\n"
            "  local s, tok, pr, n = string.match(v, '^(%u) (%S+) (%S+) (%d+)$')\n"
            "  if not s then return {5, 0} end\n"
            "  if pr ~= print then return {5, 0} end\n"
            "  n = tonumber(n)\n"
            "  if s == 'D' then return {2, n} end\n"
            "  if s == 'A' then if mode == 'A' and tok == token then return {0, 0} else return {2, 0} end end\n"
            "  if s == 'P' and (tok ~= token or tok == 'Q') and ms < n then return {3, n - ms} end\n"
            "  if s == 'Q' and mode ~= 'R' then return {6, 0} end\n"
            "  pays = pays and s ~= 'P'\n"
            "end\n"
            "if pays then\n"
            "  local fields, set = {'all', ARGV[7]}, {}\n"
            "  local tats = redis.call('HMGET', KEYS[2], 'all', ARGV[7])\n"
            "  for i = 1, 2 do\n"
            "    local every, early = tonumber(ARGV[6 + 2 * i]), tonumber(ARGV[7 + 2 * i])\n"
            "    if every > 0 then\n"
            "      local tat = math.max(tonumber(tats[i] or '0') or 0, us)\n"
            "      if tat - early > us then return {4, math.ceil((tat - early - us) / 1000)} end\n"
            "      set[#set + 1] = fields[i]\n"
            "      set[#set + 1] = string.format('%.0f', tat + every)\n"
            "    end\n"
            "  end\n"
            "  if #set > 0 then redis.call('HSET', KEYS[2], unpack(set)) end\n"
            "end\n"
            "local n = 0\n"
            "if mode ~= 'A' then mode = 'P'; n = ms + tonumber(ARGV[5]) end\n"
            "redis.call('SET', KEYS[3], mode .. ' ' .. token .. ' ' .. print .. ' ' .. string.format('%.0f', n), "
            "'PX', ARGV[6])\n"
            "return {0, 0}\n",
};
enum answer { CLAIMED, OLDER, DONE, IN_PROGRESS, TOO_OFTEN, OTHER_USE, QUEUED };

/* KEYS: key. ARGV: token, new value or empty, ttl ms. Only over what is ours, or over nothing. */
static struct store_script settle_script = {
    .name = "guard settle",
    .body = "local v = redis.call('GET', KEYS[1])\n"
            "if v and not string.find(v, ' ' .. ARGV[1] .. ' ', 1, true) then return 0 end\n"
            "if ARGV[2] == '' then redis.call('DEL', KEYS[1]) else redis.call('SET', KEYS[1], ARGV[2], 'PX', "
            "ARGV[3]) end\n"
            "return 1\n",
};

/* A rate of one agent here: of all its actions (name "") or of one. */
struct guard_limit {
    char name[65];
    int64_t tat_us;
};
/* What Redis must be told when it is back. */
struct untold {
    struct untold *next;
    unsigned char id[GUARD_MEMORY_ID];
    char token[GUARD_PLACE_MAX];
    char value[128];
    char key[];
};
struct guard_claims {
    struct guard_memory *memory;
    struct untold *untold, **untold_end;
    size_t n_untold;
};

int guard_claim_open(struct guard *g, struct err *e)
{
    struct guard_claims *c = calloc(1, sizeof *c);
    if (!c || !(c->memory = guard_memory_new(MARKS))) {
        free(c);
        return err_set(e, "out of memory");
    }
    c->untold_end = &c->untold;
    g->claims = c;
    return 0;
}

void guard_claim_close(struct guard *g)
{
    if (!g->claims)
        return;
    for (struct untold *u; (u = g->claims->untold);) {
        g->claims->untold = u->next;
        free(u);
    }
    guard_memory_free(g->claims->memory);
    free(g->claims);
    g->claims = NULL;
}

/* ---- texts ---- */

static void key_of(const char *agent, const char *key, char out[static KEY_MAX])
{
    snprintf(out, KEY_MAX, "redoubt:{a:%s}:k:%s", agent, key);
}

/* Of action and parameters in their order, the same on every replica: FNV-1a over the texts with their ends. Not against forgers: it finds a key
 * that was used twice by mistake. */
static uint64_t print_of(const PB(ActionRequest) * r)
{
    uint64_t h = 14695981039346656037u;
#define MIX(text)                                                                                                    \
    for (const char *c_ = (text); c_; c_ = *c_ ? c_ + 1 : NULL)                                                      \
    h = (h ^ (unsigned char)*c_) * 1099511628211u
    MIX(r->action);
    for (size_t i = 0; i < r->n_parameters; i++) {
        MIX(r->parameters[i]->key);
        MIX(r->parameters[i]->value);
    }
#undef MIX
    return h;
}

/* ---- rates ---- */

static int64_t *rate_here(struct guard_agent *a, const char *name)
{
    for (size_t i = 0; i < a->n_limits; i++)
        if (strcmp(a->limits[i].name, name) == 0)
            return &a->limits[i].tat_us;
    struct guard_limit *more = realloc(a->limits, (a->n_limits + 1) * sizeof *more);
    if (!more)
        abort();
    a->limits = more;
    more[a->n_limits] = (struct guard_limit){.tat_us = 0};
    snprintf(more[a->n_limits].name, sizeof more->name, "%s", name);
    return &more[a->n_limits++].tat_us;
}

static void rates_of(const struct guard *g, const struct guard_act *x, int64_t members,
                     struct guard_rate rates[static 2])
{
    const struct baseline_action *action = baseline_action(g->baseline, x->r->action);
    rates[0] = guard_rate_make(g->baseline->per_minute, g->baseline->burst, members);
    rates[1] = action ? guard_rate_make(action->per_minute, action->burst, members) : (struct guard_rate){0, 0};
}

static int64_t members_of(const struct guard *g)
{
    size_t n = g->partitions ? partitions_members(g->partitions) : 0;
    return n > 0 ? (int64_t)n : 1;
}

/* Both or none; milliseconds until it may pass, 0 = it has. */
static int64_t ask_here(struct guard *g, struct guard_act *x)
{
    struct guard_rate rates[2];
    rates_of(g, x, members_of(g), rates);
    int64_t now_us = clock_mono_ns() / 1000, all = *rate_here(x->a, ""), own = *rate_here(x->a, x->r->action);
    int64_t wait_us = guard_rate_ask(&all, rates[0], now_us);
    if (wait_us == 0)
        wait_us = guard_rate_ask(&own, rates[1], now_us);
    if (wait_us > 0)
        return wait_us / 1000 + 1;
    *rate_here(x->a, "") = all;
    *rate_here(x->a, x->r->action) = own;
    return 0;
}

/* What passed by Redis counts here as well, so that going without it opens no second burst. */
static void note_here(struct guard *g, struct guard_act *x)
{
    struct guard_rate rates[2];
    rates_of(g, x, members_of(g), rates);
    int64_t now_us = clock_mono_ns() / 1000;
    if (rates[0].interval_us)
        guard_rate_note(rate_here(x->a, ""), rates[0], now_us);
    if (rates[1].interval_us)
        guard_rate_note(rate_here(x->a, x->r->action), rates[1], now_us);
}

/* ---- marks ---- */

static struct guard_mark *mark_of(struct guard_act *x, bool add)
{
    struct guard *g = x->g;
    unsigned char id[GUARD_MEMORY_ID];
    int64_t now = clock_mono_ms(), ttl = g->s->settings->guard.idempotency_ms;
    guard_memory_id(g->claims->memory, x->r->agent, x->r->idempotency_key, id);
    struct guard_mark *m = guard_memory_find(g->claims->memory, id, now, ttl);
    return m || !add ? m : guard_memory_add(g->claims->memory, id, now, ttl);
}

static uint64_t instance_hash(const struct guard_act *x)
{
    return guard_memory_hash(x->g->claims->memory, x->r->instance, strlen(x->r->instance));
}

static void end_answered(struct guard_act *x, enum answer a, int64_t number)
{
    switch (a) {
    case OLDER:
        if (x->queued_ms > 0) {
            x->result.hold = true;
            guard_act_end(x, GUARD_END_QUEUE, 0, "the agent's epoch has just changed");
        } else {
            guard_act_end(x, GUARD_END_REFUSED, REASON(STALE_EPOCH), "the agent is at a later epoch");
        }
        break;
    case DONE:
        x->result.duplicate = true;
        x->result.status = (int)number;
        guard_act_end(x, GUARD_END_DONE, 0, "known by its key, and done before");
        break;
    case IN_PROGRESS:
        x->result.retry_after_ms = number > 0 && number < 1000 ? number : 1000;
        guard_act_end(x, x->queued_ms > 0 ? GUARD_END_RETRY : GUARD_END_REFUSED, REASON(IN_PROGRESS),
                      "the same key is under way; ask again");
        break;
    case TOO_OFTEN:
        x->result.retry_after_ms = number;
        guard_act_end(x, GUARD_END_REFUSED, REASON(RATE_LIMITED), "beyond the limit of the baseline");
        break;
    case OTHER_USE:
        guard_act_end(x, GUARD_END_REFUSED, REASON(INVALID), "idempotency_key was used for another action");
        break;
    case QUEUED:
        x->result.duplicate = true;
        guard_act_end(x, GUARD_END_QUEUE, 0, "it waits in the queue already");
        break;
    case CLAIMED:
        break;
    }
}

/* What this replica knows by itself, and Redis perhaps not. False: nothing that would end it. */
static bool known_here(struct guard_act *x)
{
    struct guard_mark *m = mark_of(x, false);
    if (!m)
        return false;
    if (m->print != x->print)
        end_answered(x, OTHER_USE, 0);
    else if (m->state == GUARD_MARK_DONE)
        end_answered(x, DONE, m->status);
    else if (m->state == GUARD_MARK_PROGRESS)
        end_answered(x, IN_PROGRESS, 0);
    else if (m->state == GUARD_MARK_PERMITTED && (x->mode != GUARD_MODE_PERMIT || m->instance != instance_hash(x)))
        end_answered(x, DONE, 0);
    else
        return false; /* queued: asked again, or replayed: whoever keeps the queue knows */
    return true;
}

static bool mark(struct guard_act *x, bool alone)
{
    static const unsigned char states[] = {[GUARD_MODE_FORWARD] = GUARD_MARK_PROGRESS,
                                           [GUARD_MODE_PERMIT] = GUARD_MARK_PERMITTED,
                                           [GUARD_MODE_QUEUE] = GUARD_MARK_QUEUED};
    struct guard_mark *m = mark_of(x, true);
    if (!m)
        return false;
    m->state = states[x->mode];
    m->print = x->print;
    m->instance = instance_hash(x);
    m->ours_alone = alone;
    m->at_ms = clock_mono_ms();
    x->claimed = true;
    x->local = alone;
    return true;
}

/* ---- telling Redis afterwards ---- */

static void value_of(const struct guard_act *x, char state, const char *token, int64_t number, char out[static 128])
{
    snprintf(out, 128, "%c %s %016" PRIx64 " %" PRId64, state, *token ? token : x->token, x->print, number);
}

static void tell_later(struct guard_act *x, const char *value)
{
    struct guard_claims *c = x->g->claims;
    char key[KEY_MAX];
    key_of(x->r->agent, x->r->idempotency_key, key);
    struct untold *u = c->n_untold < UNTOLD_MAX ? malloc(sizeof *u + strlen(key) + 1) : NULL;
    if (!u)
        return; /* the mark stays ours alone: this replica keeps to it */
    *u = (struct untold){.next = NULL};
    guard_memory_id(c->memory, x->r->agent, x->r->idempotency_key, u->id);
    memcpy(u->token, x->token, sizeof u->token);
    snprintf(u->value, sizeof u->value, "%s", value);
    strcpy(u->key, key);
    *c->untold_end = u;
    c->untold_end = &u->next;
    metric_set(&untold_now, (int64_t)++c->n_untold);
}

static void settle(struct guard *g, const char *key, const char *token, const char *value, store_cb cb, void *ctx)
{
    char ttl[24];
    snprintf(ttl, sizeof ttl, "%" PRId64, g->s->settings->guard.idempotency_ms);
    store_eval(g->s->store, &settle_script, cb, ctx, 1, (const char *[]){key}, 3, (const char *[]){token, value, ttl},
               NULL);
}

struct telling {
    struct guard *g;
    struct untold *u;
};

static void on_told(void *ctx, enum store_status st, const redisReply *reply)
{
    struct telling t = *(struct telling *)ctx;
    (void)reply;
    free(ctx);
    struct guard_claims *c = t.g->claims;
    if (st == STORE_CLOSED || !c) {
        free(t.u);
        return;
    }
    if (st == STORE_OK) {
        struct guard_mark *m =
            guard_memory_find(c->memory, t.u->id, clock_mono_ms(), t.g->s->settings->guard.idempotency_ms);
        if (m)
            m->ours_alone = false;
        free(t.u);
        metric_set(&untold_now, (int64_t)--c->n_untold);
        return;
    }
    t.u->next = NULL;
    *c->untold_end = t.u;
    c->untold_end = &t.u->next;
}

/* Some at a time, each second: what Redis does not know yet. */
void guard_claim_store_up(struct guard *g)
{
    struct guard_claims *c = g->claims;
    for (int i = 0; i < TELL_AT_ONCE && c->untold && store_up(g->s->store); i++) {
        struct untold *u = c->untold;
        struct telling *t = malloc(sizeof *t);
        if (!t)
            return;
        c->untold = u->next;
        if (!c->untold)
            c->untold_end = &c->untold;
        *t = (struct telling){g, u};
        settle(g, u->key, u->token, u->value, on_told, t);
    }
}

struct settling {
    struct guard *g;
    char token[GUARD_PLACE_MAX], value[128], key[KEY_MAX];
    unsigned char id[GUARD_MEMORY_ID];
};

static void on_settled(void *ctx, enum store_status st, const redisReply *reply)
{
    struct settling *w = ctx;
    (void)reply;
    struct guard_claims *c = w->g->claims;
    struct untold *u = NULL;
    if (st != STORE_OK && st != STORE_CLOSED && c && *w->value && c->n_untold < UNTOLD_MAX &&
        (u = malloc(sizeof *u + sizeof w->key))) {
        *u = (struct untold){.next = NULL};
        memcpy(u->id, w->id, sizeof u->id);
        memcpy(u->token, w->token, sizeof u->token);
        memcpy(u->value, w->value, sizeof u->value);
        memcpy(u->key, w->key, sizeof w->key);
        *c->untold_end = u;
        c->untold_end = &u->next;
        metric_set(&untold_now, (int64_t)++c->n_untold);
    }
    free(w);
}

void guard_claim_settle(struct guard_act *x, enum guard_fate fate, int status)
{
    struct guard *g = x->g;
    bool keep = fate == GUARD_FATE_DONE;
    char value[128] = "";
    if (!x->claimed)
        return;
    x->claimed = false;
    struct guard_mark *m = mark_of(x, keep);
    if (m && keep) {
        m->state = GUARD_MARK_DONE;
        m->status = (int16_t)status;
        m->print = x->print;
        m->ours_alone = x->local || !store_up(g->s->store);
        m->at_ms = clock_mono_ms();
    } else if (m) {
        guard_memory_drop(g->claims->memory, m);
    }
    if (keep)
        value_of(x, 'D', "", status, value);
    else if (fate == GUARD_FATE_WAITS)
        value_of(x, 'Q', "Q", 0, value);
    if (x->local || !store_up(g->s->store)) {
        if (keep)
            tell_later(x, value);
        return; /* what Redis still has of it ends by itself */
    }
    struct settling *w = malloc(sizeof *w);
    if (!w)
        return;
    *w = (struct settling){.g = g};
    memcpy(w->token, x->token, sizeof w->token);
    memcpy(w->value, value, sizeof w->value);
    key_of(x->r->agent, x->r->idempotency_key, w->key);
    guard_memory_id(g->claims->memory, x->r->agent, x->r->idempotency_key, w->id);
    settle(g, w->key, w->token, w->value, on_settled, w);
}

void guard_claim_queued(struct guard *g, const PB(ActionRequest) * r)
{
    char full[KEY_MAX], value[128];
    key_of(r->agent, r->idempotency_key, full);
    snprintf(value, sizeof value, "Q Q %016" PRIx64 " 0", print_of(r));
    settle(g, full, "Q", value, NULL,
           NULL); /* if Redis does not hear it: asked for again it is queued twice, and done once */
}

void guard_claim_forget(struct guard *g, const char *agent, const char *key)
{
    unsigned char id[GUARD_MEMORY_ID];
    char full[KEY_MAX];
    guard_memory_id(g->claims->memory, agent, key, id);
    struct guard_mark *m =
        guard_memory_find(g->claims->memory, id, clock_mono_ms(), g->s->settings->guard.idempotency_ms);
    if (m && m->state == GUARD_MARK_QUEUED)
        guard_memory_drop(g->claims->memory, m);
    key_of(agent, key, full);
    settle(g, full, "Q", "", NULL, NULL); /* a queued one's token is the same for all: it is nobody's */
}

/* ---- the claim ---- */

static void claim_here(struct guard_act *x)
{
    struct guard *g = x->g;
    if (!g->member) {
        x->result.hold = x->queued_ms > 0;
        guard_act_end(x, x->queued_ms > 0 ? GUARD_END_QUEUE : GUARD_END_REFUSED, REASON(STATE_UNKNOWN),
                      "shared state has not been seen since this guard started");
        return;
    }
    const struct guard_mark *m = mark_of(x, false);
    if (m && m->state == GUARD_MARK_QUEUED && x->queued_ms == 0) {
        end_answered(x, QUEUED, 0);
        return;
    }
    int64_t wait_ms = x->queued_ms > 0 ? 0 : ask_here(g, x);
    if (wait_ms > 0) {
        end_answered(x, TOO_OFTEN, wait_ms);
    } else if (!mark(x, true)) {
        x->result.hold = x->queued_ms > 0;
        guard_act_end(x, x->queued_ms > 0 ? GUARD_END_QUEUE : GUARD_END_REFUSED, REASON(STATE_UNKNOWN),
                      "shared state is away, and no more keys can be remembered here");
    } else {
        metric_add(&local_claims, 1);
        if (x->mode != GUARD_MODE_FORWARD) {
            char value[128];
            value_of(x, x->mode == GUARD_MODE_PERMIT ? 'A' : 'Q', "", 0, value);
            tell_later(x, value);
        }
        guard_act_claimed(x);
    }
}

static void on_claim(void *ctx, enum store_status st, const redisReply *reply)
{
    struct guard_act *x = ctx;
    bool good = st == STORE_OK && reply->type == REDIS_REPLY_ARRAY && reply->elements == 2 &&
                reply->element[0]->type == REDIS_REPLY_INTEGER && reply->element[1]->type == REDIS_REPLY_INTEGER &&
                reply->element[0]->integer >= CLAIMED && reply->element[0]->integer <= QUEUED;
    if (!good) {
        uint64_t held;
        if (st == STORE_ERROR && log_allowed(&x->g->refused_log, clock_mono_ms(), 10000, &held))
            log_error("Redis refuses a claim", F_STR("why", reply && reply->str ? reply->str : "an odd answer"));
        if (known_here(x)) /* perhaps it came twice, and the other is further on */
            return;
        claim_here(x);
        return;
    }
    if (reply->element[0]->integer != CLAIMED) {
        end_answered(x, (enum answer)reply->element[0]->integer, reply->element[1]->integer);
        return;
    }
    if (x->queued_ms == 0)
        note_here(x->g, x);
    (void)mark(x, false); /* without room: Redis knows it */
    x->claimed = true;
    guard_act_claimed(x);
}

/* A permit is bound to the instance that asked; spaces would break the value. */
static void set_token(struct guard_act *x)
{
    if (x->mode == GUARD_MODE_PERMIT) {
        snprintf(x->token, sizeof x->token, "%016" PRIx64, rank_hash(x->r->instance));
    } else if (x->mode == GUARD_MODE_QUEUE) {
        snprintf(x->token, sizeof x->token, "Q");
    } else {
        service_new_id(x->g->s, x->token);
    }
}

void guard_claim(struct guard_act *x)
{
    struct guard *g = x->g;
    static const char *const modes[] = {
        [GUARD_MODE_FORWARD] = "P", [GUARD_MODE_PERMIT] = "A", [GUARD_MODE_QUEUE] = "Q"};
    x->print = print_of(x->r);
    set_token(x);
    if (known_here(x))
        return;
    if (!store_up(g->s->store)) {
        claim_here(x);
        return;
    }
    char doc[128], rates_key[128], key[KEY_MAX], num[9][24], field[72];
    struct guard_rate rates[2];
    rates_of(g, x, 1, rates);
    snprintf(doc, sizeof doc, "redoubt:{a:%s}:doc", x->r->agent);
    snprintf(rates_key, sizeof rates_key, "redoubt:{a:%s}:rates", x->r->agent);
    key_of(x->r->agent, x->r->idempotency_key, key);
    snprintf(field, sizeof field, "x:%s", x->r->action);
    snprintf(num[0], sizeof num[0], "%" PRIu64, x->a->at.epoch);
    snprintf(num[1], sizeof num[1], "%016" PRIx64, x->print);
    int64_t hold_ms = g->s->settings->fallback.fence_ms + HOLD_MORE_MS;
    snprintf(num[2], sizeof num[2], "%" PRId64, x->mode == GUARD_MODE_QUEUE ? QUEUE_HOLD_MS : hold_ms);
    snprintf(num[3], sizeof num[3], "%" PRId64, g->s->settings->guard.idempotency_ms);
    for (int i = 0; i < 2; i++) {
        snprintf(num[4 + 2 * i], sizeof num[0], "%" PRId64, rates[i].interval_us);
        snprintf(num[5 + 2 * i], sizeof num[0], "%" PRId64, rates[i].tolerance_us);
    }
    const char *keys[] = {doc, rates_key, key};
    const char *args[] = {num[0], x->queued_ms > 0 ? "R" : modes[x->mode],
                          num[1], x->token,
                          num[2], num[3],
                          field,  num[4],
                          num[5], num[6],
                          num[7]};
    store_eval(g->s->store, &claim_script, on_claim, x, 3, keys, 11, args, NULL);
}
