/* client_table.c - the pushed breaker states, readable by any thread without a lock. */
#include "client/client_table.h"
#include "client/client_share.h"
#include "common/clock.h"
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#define PERMIT_MS     5000  /* a permit that no call takes is given up after this long */
#define ASKING_MS     2000  /* a permit is asked for at most this often while no answer comes */
#define SOON_MS       50    /* "ask again": the permit is on its way */
#define ADVICE_MAX_MS 10000 /* one advice counts no longer: its sender repeats it while it holds */
#define NO_IDEA_MS    1000  /* an end was not said, or is past already */

static uint32_t hash_of(const char *name) /* FNV-1a */
{
    uint32_t h = 2166136261u;
    for (; *name; name++)
        h = (h ^ (unsigned char)*name) * 16777619u;
    return h ? h : 1;
}

int client_table_init(struct client_table *t)
{
    t->slots = calloc(CLIENT_SLOTS, sizeof *t->slots);
    return t->slots ? 0 : -1;
}

void client_table_done(struct client_table *t)
{
    free(t->slots);
    t->slots = NULL;
}

/* The target's slot, or the free one where it belongs. Never endless: a quarter of the slots stays free. */
static struct client_slot *probe(const struct client_table *t, const char *target, uint32_t hash)
{
    for (uint32_t i = hash & (CLIENT_SLOTS - 1);; i = (i + 1) & (CLIENT_SLOTS - 1)) {
        struct client_slot *s = &t->slots[i];
        uint32_t h = atomic_load_explicit(&s->hash, memory_order_acquire);
        if (h == 0 || (h == hash && strcmp(s->name, target) == 0))
            return s;
    }
}

struct client_slot *client_table_find(const struct client_table *t, const char *target)
{
    struct client_slot *s = probe(t, target, hash_of(target));
    return atomic_load_explicit(&s->hash, memory_order_acquire) ? s : NULL;
}

struct client_slot *client_table_enter(struct client_table *t, const char *target)
{
    uint32_t hash = hash_of(target), used = atomic_load(&t->used);
    struct client_slot *s = probe(t, target, hash);
    if (atomic_load(&s->hash))
        return s;
    if (used >= CLIENT_SLOTS_MAX || strlen(target) > TARGET_MAX_LEN)
        return NULL;
    strcpy(s->name, target);
    /* The share of a whole fleet must be right even if each agent calls but once: so each starts somewhere else. */
    atomic_store(&s->turn, hash ^ (uint32_t)clock_mono_ns());
    atomic_store_explicit(&s->hash, hash, memory_order_release);
    t->order[used] = (uint32_t)(s - t->slots);
    atomic_store_explicit(&t->used, used + 1, memory_order_release);
    return s;
}

bool client_slot_apply(struct client_slot *s, const PB(BreakerChanged) * b, int64_t now_ms, int64_t now_unix_ms)
{
    if (b->epoch <= s->epoch)
        return false;
    s->epoch = b->epoch;
    uint64_t permit = atomic_load(&s->permit);
    bool half_open = b->state == REDOUBT__V1__BREAKER_STATE__BREAKER_STATE_HALF_OPEN;
    if (permit && (!half_open || !b->permit || b->permit->id != permit))
        (void)atomic_compare_exchange_strong(&s->permit, &permit, 0);
    else if (permit && b->permit->expires_unix_ms)
        atomic_store(&s->permit_until_ms, now_ms + (b->permit->expires_unix_ms - now_unix_ms));
    atomic_store(&s->advised_until_ms, 0);
    atomic_store(&s->until_unix_ms, b->until_unix_ms);
    atomic_store(&s->verdict, (uint32_t)b->state | b->ramp_percent << 8);
    return true;
}

bool client_slot_advise(struct client_slot *s, const PB(BreakerAdvice) * a, int64_t now_ms)
{
    if (a->epoch < s->epoch) /* the shared state has moved on since */
        return false;
    int64_t until = now_ms + (a->hold_ms < ADVICE_MAX_MS ? a->hold_ms : ADVICE_MAX_MS);
    if (until > atomic_load(&s->advised_until_ms)) /* of several replicas the strictest holds */
        atomic_store(&s->advised_until_ms, until);
    return true;
}

void client_slot_grant(struct client_slot *s, uint64_t permit, int64_t now_ms)
{
    atomic_store(&s->permit_until_ms, now_ms + PERMIT_MS);
    atomic_store(&s->permit, permit);
    atomic_store(&s->ask_after_ms, now_ms);
}

static redoubt_admission refused(int64_t retry_after_ms)
{
    return (redoubt_admission){.retry_after_ms = retry_after_ms > 0 ? (unsigned)retry_after_ms : NO_IDEA_MS};
}

static redoubt_admission admit_half_open(struct client_slot *s, bool *ret_ask)
{
    int64_t now = clock_mono_ms();
    uint64_t permit = atomic_exchange(&s->permit, 0); /* one call takes it */
    if (permit && now < atomic_load(&s->permit_until_ms))
        return (redoubt_admission){.admitted = true, .permit_id = permit};
    int64_t ask_after = atomic_load(&s->ask_after_ms);
    if (now < ask_after)
        return refused(ask_after - now < SOON_MS ? ask_after - now : SOON_MS);
    if (atomic_compare_exchange_strong(&s->ask_after_ms, &ask_after, now + ASKING_MS)) {
        atomic_store(&s->wanted, true);
        *ret_ask = true;
    }
    return refused(SOON_MS);
}

redoubt_admission client_slot_admit(struct client_slot *s, bool *ret_ask)
{
    int64_t advised_until = atomic_load_explicit(&s->advised_until_ms, memory_order_relaxed);
    if (advised_until != 0) { /* hardly ever: without one, no clock is read */
        int64_t left = advised_until - clock_mono_ms();
        if (left > 0)
            return refused(left);
    }
    uint32_t verdict = atomic_load_explicit(&s->verdict, memory_order_relaxed);
    switch ((PB(BreakerState))(verdict & 0xff)) {
    case REDOUBT__V1__BREAKER_STATE__BREAKER_STATE_UNSPECIFIED: /* nothing heard of it */
    case REDOUBT__V1__BREAKER_STATE__BREAKER_STATE_CLOSED:
    case REDOUBT__V1__BREAKER_STATE__BREAKER_STATE_FORCED_CLOSED:
    case REDOUBT__V1__BREAKER_STATE__BREAKER_STATE_METRICS_ONLY:
        return (redoubt_admission){.admitted = true};
    case REDOUBT__V1__BREAKER_STATE__BREAKER_STATE_PROBATION: {
        if (client_share(atomic_fetch_add_explicit(&s->turn, 1, memory_order_relaxed), verdict >> 8))
            return (redoubt_admission){.admitted = true};
        return refused(SOON_MS);
    }
    case REDOUBT__V1__BREAKER_STATE__BREAKER_STATE_HALF_OPEN:
        return admit_half_open(s, ret_ask);
    case REDOUBT__V1__BREAKER_STATE__BREAKER_STATE_OPEN:
    case REDOUBT__V1__BREAKER_STATE__BREAKER_STATE_FORCED_OPEN:
    default:
        return refused(atomic_load(&s->until_unix_ms) - clock_wall_ms());
    }
}
