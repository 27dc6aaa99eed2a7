/* backup_source_state.c - the streams of NATS and the keys of Redis as kinds of backups. */
#include "continuity/backup_nats.h"
#include "continuity/backup_redis.h"
#include "continuity/backup_source.h"
#include "continuity/continuity_shell.h"
#include <assert.h>
#include <stdlib.h>

struct making {
    struct backup_nats *nats;
    struct backup_redis *redis;
    backup_made cb;
    void *ctx;
};

static void on_end(void *ctx, const struct backup_copy_end *r)
{
    struct making *m = ctx;
    m->cb(m->ctx, r->ok, r->text);
    free(m);
}

static struct making *making(backup_made cb, void *ctx)
{
    struct making *m = calloc(1, sizeof *m);
    assert(m && "out of memory for a copy");
    m->cb = cb;
    m->ctx = ctx;
    return m;
}

static void *make_nats(struct continuity *c, const struct set_backup *set, const char *dir, backup_made cb, void *ctx)
{
    struct service *s = continuity_service_of(c);
    struct making *m = making(cb, ctx);
    (void)set;
    m->nats = backup_nats_save(&(struct backup_nats_opts){.loop = &s->loop, .bus = s->bus, .dir = dir}, on_end, m);
    return m;
}

static void *make_redis(struct continuity *c, const struct set_backup *set, const char *dir, backup_made cb,
                        void *ctx)
{
    struct service *s = continuity_service_of(c);
    struct making *m = making(cb, ctx);
    (void)set;
    m->redis =
        backup_redis_save(&(struct backup_redis_opts){.loop = &s->loop, .store = s->store, .dir = dir}, on_end, m);
    return m;
}

static void cancel(void *making)
{
    struct making *m = making;
    backup_nats_drop(m->nats);
    backup_redis_drop(m->redis);
    free(m);
}

static int verify_nats(const char *dir, const atomic_bool *stop, struct err *e)
{
    struct backup_copy_sum sum;
    return backup_nats_verify(dir, stop, &sum, e);
}

static int verify_redis(const char *dir, const atomic_bool *stop, struct err *e)
{
    struct backup_copy_sum sum;
    return backup_redis_verify(dir, stop, &sum, e);
}

const struct backup_source_kind backup_source_nats = {
    .name = "nats", .make = make_nats, .cancel = cancel, .verify = verify_nats};
const struct backup_source_kind backup_source_redis = {
    .name = "redis", .make = make_redis, .cancel = cancel, .verify = verify_redis};
