/* partition.c - which replica of a service acts for which agent: members, a ranking of them per partition, and a lease each.
 *
 * The happy path: the members are told -> the ranking says which partitions are ours -> their leases are opened -> held. With every view of
 * the members the ranking is looked at anew: what is another's now is given back at once, what has become ours is asked for. While Redis is
 * away nothing is told, so nothing moves; the leases end by themselves.
 *
 * A partition that moves is nobody's for a moment: from its giving back until its heir asks the next time (ASK_MS). */
#include "common/partition.h"
#include "common/lease.h"
#include "common/members.h"
#include "common/subjects.h"
#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define ASK_MS 200 /* a partition that is ours by the ranking, and still another's by its lease */

struct part {
    struct partitions *p;
    struct lease *lease; /* NULL = not wanted */
    uint64_t hash;
    bool returning; /* given back, and that is not done yet */
    bool told;      /* on_held was called, on_lost not since */
};
struct partitions {
    struct loop *loop;
    struct store *store;
    struct partition_opts o;
    struct members *members;
    struct part at[PARTITIONS];
    size_t n_members;
    unsigned pending; /* leases, and the place among the members, that are still to be given back */
    bool closing;
    loop_cb done;
    void *done_ctx;
};

unsigned partition_of(const char *agent)
{
    return (unsigned)(rank_hash(agent) % PARTITIONS);
}

uint64_t partition_fence(const struct partitions *p, unsigned partition)
{
    return partition < PARTITIONS && p->at[partition].lease ? lease_fence(p->at[partition].lease) : 0;
}

bool partition_holds(const struct partitions *p, const char *agent)
{
    return partition_fence(p, partition_of(agent)) != 0;
}

size_t partitions_held(const struct partitions *p)
{
    size_t n = 0;
    for (unsigned i = 0; i < PARTITIONS; i++)
        n += partition_fence(p, i) != 0;
    return n;
}

size_t partitions_members(const struct partitions *p)
{
    return p->n_members;
}

/* ---- one partition ---- */

static unsigned number(const struct part *x)
{
    return (unsigned)(x - x->p->at);
}

static void on_held(void *ctx, uint64_t fence)
{
    struct part *x = ctx;
    x->told = true;
    if (x->p->o.on_held)
        x->p->o.on_held(x->p->o.ctx, number(x), fence);
}

static void tell_lost(struct part *x)
{
    bool told = x->told;
    x->told = false;
    if (told && x->p->o.on_lost)
        x->p->o.on_lost(x->p->o.ctx, number(x));
}

static void on_lost(void *ctx)
{
    tell_lost(ctx);
}

static bool is_ours(const struct part *x, const struct members_view *v)
{
    uint32_t first;
    return v->self_ranked != SIZE_MAX && rank_first(v->ranked, v->n_ranked, x->hash, 1, &first) == 1 &&
           first == v->self_ranked;
}

static void take(struct part *x)
{
    char name[NAME_MAX_LEN + 16];
    snprintf(name, sizeof name, "%s-%u", x->p->o.service, number(x));
    struct lease_opts o = {.name = name,
                           .holder = x->p->o.instance,
                           .ttl_ms = x->p->o.lease_ttl_ms,
                           .ask_ms = ASK_MS,
                           .on_held = on_held,
                           .on_lost = on_lost,
                           .ctx = x};
    x->lease = lease_open(x->p->loop, x->p->store, &o); /* NULL: out of memory; tried again with the next view */
}

static void look_again(struct partitions *p);

static void on_returned(void *ctx)
{
    struct part *x = ctx;
    x->returning = false;
    look_again(x->p);
}

/* Whoever acts learns it first: what he calls off is off before another can be told to go on. */
static void give_back(struct part *x)
{
    struct lease *lease = x->lease;
    x->lease = NULL;
    x->returning = true;
    if (!x->p->closing)
        tell_lost(x);
    lease_close(lease, on_returned, x);
}

/* ---- all of them ---- */

static void freed(void *ctx)
{
    struct partitions *p = ctx;
    loop_cb done = p->done;
    void *done_ctx = p->done_ctx;
    free(p);
    if (done)
        done(done_ctx);
}

static void look_again(struct partitions *p)
{
    if (p->closing) {
        if (--p->pending == 0)
            freed(p);
        return;
    }
    const struct members_view *v = members_view(p->members);
    if (v->known_ms == INT64_MIN)
        return;
    for (unsigned i = 0; i < PARTITIONS && !p->closing; i++) {
        struct part *x = &p->at[i];
        bool ours = is_ours(x, v);
        if (ours && !x->lease && !x->returning)
            take(x);
        else if (!ours && x->lease)
            give_back(x);
    }
}

static void on_view(void *ctx, bool changed)
{
    struct partitions *p = ctx;
    (void)changed; /* also to try again what could not be done */
    if (p->closing)
        return;
    p->n_members = members_view(p->members)->n;
    if (p->o.on_members)
        p->o.on_members(p->o.ctx, p->n_members);
    if (!p->closing)
        look_again(p);
}

struct partitions *partitions_open(struct loop *l, struct store *s, const struct partition_opts *o)
{
    assert(o->service && o->instance && o->lease_ttl_ms > 0 && o->member_ttl_ms > 0);
    struct partitions *p = calloc(1, sizeof *p);
    if (!p)
        return NULL;
    p->loop = l;
    p->store = s;
    p->o = *o;
    for (unsigned i = 0; i < PARTITIONS; i++) {
        char name[24];
        snprintf(name, sizeof name, "partition-%u", i);
        p->at[i] = (struct part){.p = p, .hash = rank_hash(name)};
    }
    p->members = members_open(
        l, s,
        &(struct members_opts){
            .service = o->service, .name = o->instance, .ttl_ms = o->member_ttl_ms, .on_view = on_view, .ctx = p});
    if (!p->members) {
        free(p);
        return NULL;
    }
    return p;
}

void partitions_refresh(struct partitions *p)
{
    members_refresh(p->members);
}

static void on_left(void *ctx)
{
    look_again(ctx);
}

/* The leases first: whoever sees us gone from the list finds them free. */
void partitions_close(struct partitions *p, loop_cb done, void *ctx)
{
    p->closing = true;
    p->done = done;
    p->done_ctx = ctx;
    p->pending = 1;
    for (unsigned i = 0; i < PARTITIONS; i++) {
        struct part *x = &p->at[i];
        p->pending += x->lease || x->returning;
        if (x->lease)
            give_back(x);
    }
    members_leave(p->members, on_left, p);
}
