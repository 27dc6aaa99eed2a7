/* flood.c - limits for single reporters, and who is named for not keeping to them. Pure; see flood.h. */
#include "breaker/flood.h"
#include <string.h>

static int64_t later(int64_t a, int64_t b)
{
    return a > b ? a : b;
}

static int64_t cost_ns(uint32_t rate)
{
    return BREAKER_FLOOD_BURST_NS / rate;
}

bool breaker_flood_busy(int64_t *full_ns, uint32_t rate, size_t n, int64_t now_ns)
{
    int64_t full = later(*full_ns, now_ns) + (int64_t)n * cost_ns(rate);
    bool busy = full - now_ns > BREAKER_FLOOD_BURST_NS;
    *full_ns = busy ? now_ns + BREAKER_FLOOD_BURST_NS : full;
    return busy;
}

/* The reporter's bucket, or the fullest one, which is its own from now on: as a full one, unless all are more than half empty. */
static size_t slot_of(struct breaker_flood *f, uint64_t reporter, enum breaker_weight w, int64_t cost, int64_t now_ns)
{
    size_t fullest = 0;
    for (size_t i = 0; i < BREAKER_FLOOD_SLOTS; i++) {
        if (f->slot[i].reporter == reporter && f->slot[i].full_ns > 0)
            return i;
        if (f->slot[i].full_ns < f->slot[fullest].full_ns)
            fullest = i;
    }
    f->slot[fullest].reporter = reporter;
    if (f->slot[fullest].full_ns - now_ns <= later(BREAKER_FLOOD_BURST_NS / 2, cost))
        f->slot[fullest].full_ns = now_ns;
    /* Not heard before: whatever it says is new. */
    uint16_t bit = (uint16_t)(1u << fullest);
    f->bad = w == BREAKER_GOOD ? f->bad | bit : f->bad & (uint16_t)~bit;
    return fullest;
}

bool breaker_flood_take(struct breaker_flood *f, uint32_t rate, uint64_t reporter, enum breaker_weight w,
                        int64_t now_ns)
{
    size_t i = slot_of(f, reporter, w, cost_ns(rate), now_ns);
    uint16_t bit = (uint16_t)(1u << i);
    bool was_bad = f->bad & bit;
    bool news = (w == BREAKER_GOOD && was_bad) || (w == BREAKER_BAD && !was_bad);
    int64_t full = later(f->slot[i].full_ns, now_ns) + cost_ns(rate), most = now_ns + BREAKER_FLOOD_BURST_NS;
    if (news)
        most += BREAKER_FLOOD_BURST_NS;
    if (full > most && w != BREAKER_AWAITED)
        return false;
    f->slot[i].full_ns = full < most ? full : later(f->slot[i].full_ns, most); /* nobody owes more than the reserve */
    if (w == BREAKER_GOOD)
        f->bad &= (uint16_t)~bit;
    else if (w == BREAKER_BAD)
        f->bad |= bit;
    return true;
}

bool breaker_flood_over(const struct breaker_flood *f, int64_t now_ns)
{
    for (size_t i = 0; i < BREAKER_FLOOD_SLOTS; i++)
        if (f->slot[i].full_ns > now_ns)
            return false;
    return true;
}

/* ---- who is named ---- */

bool breaker_flooders_note(struct breaker_flooders *f, const char *name, size_t len, int64_t now_ms)
{
    if (len >= BREAKER_FLOODER_NAME)
        len = BREAKER_FLOODER_NAME - 1;
    for (size_t i = 0; i < f->n; i++)
        if (strncmp(f->at[i].name, name, len) == 0 && f->at[i].name[len] == 0) {
            f->at[i].last_ms = now_ms;
            return false;
        }
    if (f->n == BREAKER_FLOODERS_MAX)
        return false;
    struct breaker_flooder *x = &f->at[f->n++];
    memcpy(x->name, name, len);
    x->name[len] = 0;
    x->last_ms = now_ms;
    return true;
}

bool breaker_flooders_calm(struct breaker_flooders *f, int64_t now_ms, char ret_name[static BREAKER_FLOODER_NAME])
{
    for (size_t i = 0; i < f->n; i++)
        if (now_ms - f->at[i].last_ms >= BREAKER_FLOOD_CALM_MS) {
            memcpy(ret_name, f->at[i].name, BREAKER_FLOODER_NAME);
            f->at[i] = f->at[--f->n];
            return true;
        }
    return false;
}
