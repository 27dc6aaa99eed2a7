/* health_members.c - which replicas of redoubt-health are alive, as one key in Redis has it. */
#include "health/health_members.h"
#include "common/clock.h"
#include "common/log.h"
#include "common/subjects.h"
#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define KEY      "redoubt:{health}:members"
#define COUNTER  "redoubt:{health}:generation"
#define RESTS    '!' /* before the name of one who does not count */
#define RETRY_MS 250

/* KEYS: members (ZSET, score = when it ends by Redis' clock), generation. ARGV: member as it is to stand there, the same with its
 * other mark, ttl in ms (0 = leaves), highest generation that this replica has seen. Answer: generation, members...
 *
 * The generation begins at Redis' time in milliseconds, so that after a loss of data it is above every earlier one. */
static struct store_script refresh_script = {
    .name = "health members",
    .body = "local t = redis.call('TIME')\n"
            "local now = t[1] * 1000 + math.floor(t[2] / 1000)\n"
            "local changed = redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now) > 0\n"
            "changed = redis.call('ZREM', KEYS[1], ARGV[2]) > 0 or changed\n"
            "if tonumber(ARGV[3]) > 0 then\n"
            "  changed = redis.call('ZADD', KEYS[1], string.format('%.0f', now + ARGV[3]), ARGV[1]) > 0 or changed\n"
            "else\n"
            "  changed = redis.call('ZREM', KEYS[1], ARGV[1]) > 0 or changed\n"
            "end\n"
            "local was = redis.call('GET', KEYS[2])\n"
            "local seen, gen = tonumber(ARGV[4]), tonumber(was or '0')\n"
            "if not gen then return redis.error_reply('ERR the generation is damaged: ' .. KEYS[2]) end\n"
            "if changed or not was or gen < seen then\n"
            "  gen = math.max(gen + 1, seen + 1, now)\n"
            "  redis.call('SET', KEYS[2], string.format('%.0f', gen))\n"
            "end\n"
            "local answer = redis.call('ZRANGE', KEYS[1], 0, -1)\n"
            "table.insert(answer, 1, string.format('%.0f', gen))\n"
            "return answer\n",
};

struct health_members {
    struct store *store;
    struct health_members_opts o;
    struct health_view view;
    struct loop_timer timer;
    bool rests;
    bool in_flight;
    bool again; /* something changed meanwhile */
    bool leaving;
    bool complained;
    int64_t sent_ms;
    loop_cb done;
    void *done_ctx;
};

static int by_name(const void *a, const void *b)
{
    const char *const *x = a, *const *y = b;
    return strcmp(*x + (**x == RESTS), *y + (**y == RESTS));
}

/* From the script's answer; false if it is not one. */
static bool read_view(struct health_members *m, const redisReply *reply, struct health_view *v)
{
    const char *names[HEALTH_MEMBERS_MAX];
    size_t n = 0;
    if (reply->type != REDIS_REPLY_ARRAY || reply->elements < 1 || reply->element[0]->type != REDIS_REPLY_STRING)
        return false;
    *v = (struct health_view){.known_ms = m->sent_ms,
                              .generation = strtoull(reply->element[0]->str, NULL, 10),
                              .self = SIZE_MAX,
                              .self_ranked = SIZE_MAX};
    for (size_t i = 1; i < reply->elements && n < HEALTH_MEMBERS_MAX; i++) {
        const redisReply *r = reply->element[i];
        if (r->type == REDIS_REPLY_STRING && name_token_ok(r->str + (*r->str == RESTS)))
            names[n++] = r->str; /* anything else was not written by us */
    }
    qsort(names, n, sizeof *names, by_name);
    for (size_t i = 0; i < n; i++) {
        const char *name = names[i] + (*names[i] == RESTS);
        if (v->n > 0 && strcmp(v->names[v->n - 1], name) == 0)
            continue;
        snprintf(v->names[v->n], HEALTH_MEMBER_MAX, "%s", name);
        v->hashes[v->n] = health_rank_hash(name);
        v->rests[v->n] = *names[i] == RESTS;
        if (strcmp(name, m->o.name) == 0)
            v->self = v->n;
        v->n++;
    }
    for (int all = 0; all < 2 && v->n_ranked == 0; all++)
        for (size_t i = 0; i < v->n; i++)
            if (all || !v->rests[i]) {
                if (i == v->self)
                    v->self_ranked = v->n_ranked;
                v->index[v->n_ranked] = (uint32_t)i;
                v->ranked[v->n_ranked++] = v->hashes[i];
            }
    return true;
}

static void freed(void *ctx)
{
    struct health_members *m = ctx;
    loop_cb done = m->done;
    void *done_ctx = m->done_ctx;
    free(m);
    done(done_ctx);
}

static void on_left(void *ctx, enum store_status st, const redisReply *reply)
{
    struct health_members *m = ctx;
    (void)st; /* who could not be taken off the list ends there by itself */
    (void)reply;
    loop_timer_close(&m->timer, freed);
}

static void on_refreshed(void *ctx, enum store_status st, const redisReply *reply);

static void refresh(struct health_members *m)
{
    char me[HEALTH_MEMBER_MAX + 1], other[HEALTH_MEMBER_MAX + 1], ttl[24], seen[24];
    snprintf(me, sizeof me, "%s%s", m->rests ? "!" : "", m->o.name);
    snprintf(other, sizeof other, "%s%s", m->rests ? "" : "!", m->o.name);
    snprintf(ttl, sizeof ttl, "%" PRId64, m->leaving ? 0 : m->o.ttl_ms);
    snprintf(seen, sizeof seen, "%" PRIu64, m->view.generation);
    const char *keys[] = {KEY, COUNTER}, *args[] = {me, other, ttl, seen};
    m->in_flight = true;
    m->again = false;
    m->sent_ms = clock_mono_ms();
    store_eval(m->store, &refresh_script, m->leaving ? on_left : on_refreshed, m, 2, keys, 4, args, NULL);
}

static void on_refreshed(void *ctx, enum store_status st, const redisReply *reply)
{
    struct health_members *m = ctx;
    struct health_view v;
    m->in_flight = false;
    if (m->leaving) {
        refresh(m);
        return;
    }
    bool good = st == STORE_OK && read_view(m, reply, &v);
    if (good) {
        bool changed = m->view.known_ms == INT64_MIN || v.generation != m->view.generation;
        m->view = v;
        m->complained = false;
        if (m->o.on_view)
            m->o.on_view(m->o.ctx, changed);
    } else if (st == STORE_ERROR && !m->complained) {
        m->complained = true;
        log_error("the list of this service's replicas cannot be kept; delete the key, and it is written anew",
                  F_STR("key", KEY), F_STR("why", reply->str));
    }
    if (m->leaving)
        refresh(m);
    else
        loop_timer_start(&m->timer, m->again ? 0 : good ? m->o.ttl_ms / 3 : RETRY_MS, 0);
}

static void on_due(void *ctx)
{
    struct health_members *m = ctx;
    if (!m->in_flight && !m->leaving)
        refresh(m);
}

struct health_members *health_members_open(struct loop *l, struct store *s, const struct health_members_opts *o)
{
    assert(o->name && o->ttl_ms > 0 && strlen(o->name) < HEALTH_MEMBER_MAX);
    struct health_members *m = calloc(1, sizeof *m);
    if (!m)
        return NULL;
    m->store = s;
    m->o = *o;
    m->view.known_ms = INT64_MIN;
    m->view.self = m->view.self_ranked = SIZE_MAX;
    loop_timer_init(l, &m->timer, on_due, m);
    loop_timer_start(&m->timer, 0, 0);
    return m;
}

const struct health_view *health_members_view(const struct health_members *m)
{
    return &m->view;
}

void health_members_refresh(struct health_members *m)
{
    if (m->in_flight)
        m->again = true;
    else if (!m->leaving)
        loop_timer_start(&m->timer, 0, 0);
}

void health_members_rest(struct health_members *m, bool rests)
{
    if (m->rests == rests)
        return;
    m->rests = rests;
    health_members_refresh(m);
}

void health_members_leave(struct health_members *m, loop_cb done, void *ctx)
{
    m->leaving = true;
    m->done = done;
    m->done_ctx = ctx;
    loop_timer_stop(&m->timer);
    if (!m->in_flight)
        refresh(m);
}
