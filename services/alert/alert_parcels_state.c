/* alert_parcels_state.c - what all replicas and restarts know of a bucket: `redoubt:{alp:<hash of its subject>}` in Redis.
 *
 * A hash with `flushed` (when it was last told, by the shared clock) and `first`, `last` (the sequences of a digest that nobody has accepted yet, so
 * that whoever leads next sends the same). It may be lost: then a group goes out a little early, or a digest is made anew. */
#include "alert/alert_parcels_priv.h"
#include "common/clock.h"
#include <inttypes.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define TTL_MS "604800000"

struct asking {
    struct alert_parcels *p;
    char subject[SUBJECT_MAX_LEN];
};

static void key_of(const char *subject, char key[static 64])
{
    unsigned char hash[16];
    char hex[33];
    crypto_generichash(hash, sizeof hash, (const unsigned char *)subject, strlen(subject), NULL, 0);
    sodium_bin2hex(hex, sizeof hex, hash, sizeof hash);
    snprintf(key, 64, "redoubt:{alp:%s}", hex);
}

static int64_t number(const redisReply *r)
{
    int64_t n = r && r->type == REDIS_REPLY_STRING ? strtoll(r->str, NULL, 10) : 0;
    return n > 0 ? n : 0;
}

static void on_loaded(void *ctx, enum store_status st, const redisReply *r)
{
    struct asking *a = ctx;
    struct alert_parcels *p = a->p;
    struct parcel_bucket *b = NULL;
    if (p->room)
        HASH_FIND_STR(p->buckets, a->subject, b);
    free(a);
    if (b) {
        b->loading = false;
        b->loaded = true; /* without an answer: as if nothing were known */
        if (st == STORE_OK && r->type == REDIS_REPLY_ARRAY && r->elements == 3) {
            int64_t flushed = number(r->element[0]), ago = clock_shared_ms() - flushed;
            if (flushed > 0 && !b->clock.flushed) {
                b->clock.flushed = true;
                b->clock.flushed_ms =
                    clock_mono_ms() - (ago > 0 ? ago : 0); /* no clock of another's puts it off for long */
            }
            b->fixed_first = (uint64_t)number(r->element[1]);
            b->fixed_last = (uint64_t)number(r->element[2]);
        }
        alert_parcels_look(p, 0);
    }
    alert_parcels_unref(p);
}

void parcel_state_load(struct parcel_bucket *b)
{
    struct store *store = b->p->room->service->store;
    struct asking *a = store_up(store) ? malloc(sizeof *a) : NULL;
    if (!a) {
        b->loaded = true;
        return;
    }
    char key[64];
    *a = (struct asking){.p = alert_parcels_ref(b->p)};
    snprintf(a->subject, sizeof a->subject, "%s", b->subject);
    key_of(b->subject, key);
    b->loading = true;
    store_cmd(store, on_loaded, a, 5, (const char *const[]){"HMGET", key, "flushed", "first", "last"}, NULL);
}

void parcel_state_save(const struct parcel_bucket *b)
{
    struct store *store = b->p->room->service->store;
    char key[64], flushed[24], first[24], last[24];
    if (!store_up(store))
        return;
    key_of(b->subject, key);
    int64_t at = b->clock.flushed ? clock_shared_ms() - (clock_mono_ms() - b->clock.flushed_ms) : 0;
    snprintf(flushed, sizeof flushed, "%" PRId64, at);
    snprintf(first, sizeof first, "%" PRIu64, b->fixed_first);
    snprintf(last, sizeof last, "%" PRIu64, b->fixed_last);
    store_cmd(store, NULL, NULL, 8,
              (const char *const[]){"HSET", key, "flushed", flushed, "first", first, "last", last}, NULL);
    store_cmd(store, NULL, NULL, 3, (const char *const[]){"PEXPIRE", key, TTL_MS}, NULL);
}
