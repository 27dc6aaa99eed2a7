/* lease.c - who may act: a named lease in Redis with a fencing token that only grows.
 *
 * The happy path: acquire -> held -> renew every ttl/3 -> close gives it back. One command is in flight at a time. The lease is lost
 * when a renewal is refused, or when the own clock passes `until`: ttl - ttl/6 after the last successful command was
 * *sent*. The token counter lives in a key of its own that never expires, in the same hash tag. A token is above the last one, above the
 * highest that this process has seen, and not below Redis' time in milliseconds: so that it is above all earlier ones also when Redis was
 * emptied, and when another lease has guarded the same documents before. */
#include "common/lease.h"
#include "common/clock.h"
#include "common/metric.h"
#include "common/sm.h"
#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define TTL_MS     3000
#define AFTER_END  5   /* ms: look again this long after another's lease should have ended */
#define RETRY_MS   500 /* Redis is away, or talks nonsense */
#define KEY_MAX    192
#define HOLDER_MAX 256

METRIC_DEFINE(acquired, METRIC_COUNTER, "redoubt_lease_acquired_total", "Leases got.");
METRIC_DEFINE(lost, METRIC_COUNTER, "redoubt_lease_lost_total", "Leases lost: not renewed in time, or taken over.");

/* KEYS: lease, counter. ARGV: holder, ttl in ms, highest token known to the caller. Answer: token (text) and 1 if it is ours
 * now, or the holder's token, 0 and the time left. A lease without an end was not made by us: it gets one. */
static struct store_script acquire_script = {
    .name = "lease acquire",
    .body = "local function less(a, b) return #a < #b or (#a == #b and a < b) end\n"
            "local held = redis.call('GET', KEYS[1])\n"
            "if held then\n"
            "  local token, holder = string.match(held, '^(%d+) (.*)$')\n"
            "  if holder ~= ARGV[1] then\n"
            "    local left = redis.call('PTTL', KEYS[1])\n"
            "    if left < 0 then redis.call('PEXPIRE', KEYS[1], ARGV[2]); left = tonumber(ARGV[2]) end\n"
            "    return {token or '0', 0, left}\n"
            "  end\n"
            "end\n"
            "local last = redis.call('GET', KEYS[2]) or '0'\n"
            "if not string.match(last, '^%d+$') then\n"
            "  return redis.error_reply('ERR the token counter is damaged: ' .. KEYS[2])\n"
            "end\n"
            "local t = redis.call('TIME')\n"
            "local before = string.format('%.0f', t[1] * 1000 + math.floor(t[2] / 1000) - 1)\n"
            "if less(before, ARGV[3]) then before = ARGV[3] end\n"
            "if less(last, before) then redis.call('SET', KEYS[2], before) end\n"
            "redis.call('INCR', KEYS[2])\n"
            "local token = redis.call('GET', KEYS[2])\n"
            "redis.call('SET', KEYS[1], token .. ' ' .. ARGV[1], 'PX', ARGV[2])\n"
            "return {token, 1, 0}\n",
};
/* KEYS: lease. ARGV: token and holder as stored, ttl in ms. */
static struct store_script renew_script = {
    .name = "lease renew",
    .body = "if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end\n"
            "return redis.call('PEXPIRE', KEYS[1], ARGV[2])\n",
};
static struct store_script release_script = {
    .name = "lease release",
    .body = "if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end\n"
            "return redis.call('DEL', KEYS[1])\n",
};

enum state { WANTING, HELD, GIVING_BACK, GONE, STATES };
static const struct sm_table lease_sm = {.name = "lease",
                                         .n = STATES,
                                         .state_names =
                                             (const char *const[]){"wanting", "held", "giving back", "gone"},
                                         .allowed = (const uint32_t[]){
                                             [WANTING] = SM_BIT(HELD) | SM_BIT(GIVING_BACK),
                                             [HELD] = SM_BIT(WANTING) | SM_BIT(GIVING_BACK),
                                             [GIVING_BACK] = SM_BIT(GONE),
                                             [GONE] = 0,
                                         }};

struct lease {
    struct store *store;
    char key[KEY_MAX], counter[KEY_MAX];
    char holder[HOLDER_MAX];
    int64_t ttl_ms, ask_ms;
    void (*on_held)(void *ctx, uint64_t fence);
    void (*on_lost)(void *ctx);
    void *ctx;

    int state;
    uint64_t fence;   /* while HELD */
    uint64_t seen;    /* highest token ever seen */
    int64_t until_ms; /* while HELD, on this host's monotonic clock */
    int64_t next_ms;  /* when the next command is due */
    int64_t sent_ms;  /* of the command in flight */
    bool in_flight;
    struct loop_timer timer;
    loop_cb close_done;
    void *close_ctx;
};

static void arm(struct lease *x)
{
    int64_t now = clock_mono_ms(), at = x->state == HELD ? x->until_ms : INT64_MAX;
    if (!x->in_flight && x->next_ms < at)
        at = x->next_ms;
    if (at == INT64_MAX)
        loop_timer_stop(&x->timer);
    else
        loop_timer_start(&x->timer, at > now ? at - now : 0, 0);
}

static void lose(struct lease *x, int64_t again_in_ms)
{
    sm_move(&lease_sm, &x->state, WANTING);
    x->fence = 0;
    x->next_ms = clock_mono_ms() + again_in_ms;
    metric_add(&lost, 1);
    if (x->on_lost)
        x->on_lost(x->ctx);
}

static void owner_text(const struct lease *x, uint64_t fence, char buf[static HOLDER_MAX + 24])
{
    snprintf(buf, HOLDER_MAX + 24, "%" PRIu64 " %s", fence, x->holder);
}

static void freed(void *ctx)
{
    struct lease *x = ctx;
    loop_cb done = x->close_done;
    void *done_ctx = x->close_ctx;
    free(x);
    if (done)
        done(done_ctx);
}

static void on_released(void *ctx, enum store_status st, const redisReply *reply)
{
    struct lease *x = ctx;
    (void)st; /* if it could not be given back, it ends by itself */
    (void)reply;
    sm_move(&lease_sm, &x->state, GONE);
    loop_timer_close(&x->timer, freed);
}

/* With the last command answered: gives back what is held, and goes. */
static void leave(struct lease *x)
{
    if (x->fence == 0) {
        on_released(x, STORE_OK, NULL);
        return;
    }
    char owner[HOLDER_MAX + 24];
    owner_text(x, x->fence, owner);
    const char *keys[] = {x->key}, *args[] = {owner};
    store_eval(x->store, &release_script, on_released, x, 1, keys, 1, args, NULL);
}

static int64_t trusted_ms(const struct lease *x)
{
    return x->ttl_ms - x->ttl_ms / 6;
}

static void on_acquired(void *ctx, enum store_status st, const redisReply *reply)
{
    struct lease *x = ctx;
    int64_t now = clock_mono_ms();
    x->in_flight = false;
    bool shaped = st == STORE_OK && reply->type == REDIS_REPLY_ARRAY && reply->elements == 3 &&
                  reply->element[0]->type == REDIS_REPLY_STRING && reply->element[1]->type == REDIS_REPLY_INTEGER &&
                  reply->element[2]->type == REDIS_REPLY_INTEGER;
    uint64_t token = shaped ? strtoull(reply->element[0]->str, NULL, 10) : 0;
    bool ours = shaped && token > 0 && reply->element[1]->integer == 1;
    if (token > x->seen)
        x->seen = token;
    if (x->state == GIVING_BACK) {
        x->fence = ours ? token : 0;
        leave(x);
        return;
    }
    if (ours && x->sent_ms + trusted_ms(x) > now) {
        sm_move(&lease_sm, &x->state, HELD);
        x->fence = token;
        x->until_ms = x->sent_ms + trusted_ms(x);
        x->next_ms = x->sent_ms + x->ttl_ms / 3;
        metric_add(&acquired, 1);
        arm(x);
        if (x->on_held)
            x->on_held(x->ctx, token);
        return;
    }
    if (ours) { /* the answer took longer than the lease: it is our own name that stands there, so take it anew */
        x->next_ms = now;
    } else if (shaped) {
        int64_t left = reply->element[2]->integer + AFTER_END;
        x->next_ms = now + (left < x->ask_ms ? left : x->ask_ms);
    } else {
        x->next_ms = now + RETRY_MS;
    }
    arm(x);
}

static void on_renewed(void *ctx, enum store_status st, const redisReply *reply)
{
    struct lease *x = ctx;
    x->in_flight = false;
    if (x->state == GIVING_BACK) {
        leave(x);
        return;
    }
    if (x->state != HELD) { /* lost on our own clock meanwhile */
        arm(x);
        return;
    }
    if (st == STORE_OK && reply->type == REDIS_REPLY_INTEGER && reply->integer == 1) {
        x->until_ms = x->sent_ms + trusted_ms(x);
        x->next_ms = x->sent_ms + x->ttl_ms / 3;
    } else if (st == STORE_OK) { /* expired or taken over: Redis says that it is not ours */
        lose(x, 0);
    } else {
        x->next_ms = clock_mono_ms() + (x->ttl_ms / 6 < RETRY_MS ? x->ttl_ms / 6 : RETRY_MS);
    }
    if (x->state == HELD || x->state == WANTING)
        arm(x);
}

static void send_next(struct lease *x)
{
    char ttl[24], text[HOLDER_MAX + 24];
    snprintf(ttl, sizeof ttl, "%" PRId64, x->ttl_ms);
    x->in_flight = true;
    x->sent_ms = clock_mono_ms();
    if (x->state == HELD) {
        owner_text(x, x->fence, text);
        const char *keys[] = {x->key}, *args[] = {text, ttl};
        store_eval(x->store, &renew_script, on_renewed, x, 1, keys, 2, args, NULL);
    } else {
        snprintf(text, sizeof text, "%" PRIu64, x->seen);
        const char *keys[] = {x->key, x->counter}, *args[] = {x->holder, ttl, text};
        store_eval(x->store, &acquire_script, on_acquired, x, 2, keys, 3, args, NULL);
    }
}

static void on_timer(void *ctx)
{
    struct lease *x = ctx;
    int64_t now = clock_mono_ms();
    if (x->state != HELD && x->state != WANTING)
        return;
    if (x->state == HELD && now >= x->until_ms)
        lose(x, 0);
    if (x->state != HELD && x->state != WANTING) /* on_lost closed it */
        return;
    if (!x->in_flight && now >= x->next_ms)
        send_next(x);
    arm(x);
}

struct lease *lease_open(struct loop *l, struct store *s, const struct lease_opts *o)
{
    assert(o->name && o->holder && strlen(o->name) + 32 < KEY_MAX && strlen(o->holder) < HOLDER_MAX);
    struct lease *x = calloc(1, sizeof *x);
    if (!x)
        return NULL;
    x->store = s;
    snprintf(x->key, sizeof x->key, "redoubt:{lease:%s}", o->name);
    snprintf(x->counter, sizeof x->counter, "redoubt:{lease:%s}:fence", o->name);
    snprintf(x->holder, sizeof x->holder, "%s", o->holder);
    x->ttl_ms = o->ttl_ms > 0 ? o->ttl_ms : TTL_MS;
    x->ask_ms = o->ask_ms > 0 ? o->ask_ms : x->ttl_ms / 3;
    x->on_held = o->on_held;
    x->on_lost = o->on_lost;
    x->ctx = o->ctx;
    x->state = WANTING;
    loop_timer_init(l, &x->timer, on_timer, x);
    loop_timer_start(&x->timer, 0, 0);
    return x;
}

uint64_t lease_fence(const struct lease *x)
{
    return x->state == HELD && clock_mono_ms() < x->until_ms ? x->fence : 0;
}

void lease_close(struct lease *x, loop_cb done, void *ctx)
{
    assert(x->state == WANTING || x->state == HELD);
    x->close_done = done;
    x->close_ctx = ctx;
    sm_move(&lease_sm, &x->state, GIVING_BACK);
    loop_timer_stop(&x->timer);
    if (!x->in_flight)
        leave(x);
}
