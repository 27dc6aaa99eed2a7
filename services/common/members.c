/* members.c - which replicas of redoubt-health are alive, as one key in Redis has it. */
#include "common/members.h"
#include "common/clock.h"
#include "common/log.h"
#include "common/subjects.h"
#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define KEY_MAX  (NAME_MAX_LEN + 32)
#define RESTS    '!' /* before the name of one who does not count */
#define RETRY_MS 250

/* KEYS: members (ZSET, score = when it ends by Redis' clock), generation. ARGV: member as it is to stand there, the same with its
 * other mark, ttl in ms (0 = leaves), highest generation that this replica has seen. Answer: generation, members...
 *
 * The generation begins at Redis' time in milliseconds, so that after a loss of data it is above every earlier one. */
static struct store_script refresh_script = {
    .name = "members",
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

/* KEYS: members. Answer: those whose time has not ended. */
static struct store_script read_script = {
    .name = "members read",
    .body = "local t = redis.call('TIME')\n"
            "local now = string.format('%.0f', t[1] * 1000 + math.floor(t[2] / 1000))\n"
            "return redis.call('ZRANGEBYSCORE', KEYS[1], '(' .. now, '+inf')\n",
};

struct members {
    struct store *store;
    struct members_opts o;
    char key[KEY_MAX], counter[KEY_MAX];
    struct members_view view;
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

/* From element `from` on, in order of name; anything that is no name was not written by us. */
static size_t names_of(const redisReply *reply, size_t from, const char *names[static RANK_MAX])
{
    size_t n = 0;
    for (size_t i = from; i < reply->elements && n < RANK_MAX; i++) {
        const redisReply *r = reply->element[i];
        if (r->type == REDIS_REPLY_STRING && name_token_ok(r->str + (*r->str == RESTS)))
            names[n++] = r->str;
    }
    qsort(names, n, sizeof *names, by_name);
    return n;
}

/* From the script's answer; false if it is not one. */
static bool read_view(struct members *m, const redisReply *reply, struct members_view *v)
{
    const char *names[RANK_MAX];
    if (reply->type != REDIS_REPLY_ARRAY || reply->elements < 1 || reply->element[0]->type != REDIS_REPLY_STRING)
        return false;
    *v = (struct members_view){.known_ms = m->sent_ms,
                               .generation = strtoull(reply->element[0]->str, NULL, 10),
                               .self = SIZE_MAX,
                               .self_ranked = SIZE_MAX};
    size_t n = names_of(reply, 1, names);
    for (size_t i = 0; i < n; i++) {
        const char *name = names[i] + (*names[i] == RESTS);
        if (v->n > 0 && strcmp(v->names[v->n - 1], name) == 0)
            continue;
        snprintf(v->names[v->n], MEMBER_MAX, "%s", name);
        v->hashes[v->n] = rank_hash(name);
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
    struct members *m = ctx;
    loop_cb done = m->done;
    void *done_ctx = m->done_ctx;
    free(m);
    if (done)
        done(done_ctx);
}

static void on_left(void *ctx, enum store_status st, const redisReply *reply)
{
    struct members *m = ctx;
    (void)st; /* who could not be taken off the list ends there by itself */
    (void)reply;
    loop_timer_close(&m->timer, freed);
}

static void on_refreshed(void *ctx, enum store_status st, const redisReply *reply);

static void refresh(struct members *m)
{
    char me[MEMBER_MAX + 1], other[MEMBER_MAX + 1], ttl[24], seen[24];
    snprintf(me, sizeof me, "%s%s", m->rests ? "!" : "", m->o.name);
    snprintf(other, sizeof other, "%s%s", m->rests ? "" : "!", m->o.name);
    snprintf(ttl, sizeof ttl, "%" PRId64, m->leaving ? 0 : m->o.ttl_ms);
    snprintf(seen, sizeof seen, "%" PRIu64, m->view.generation);
    const char *keys[] = {m->key, m->counter}, *args[] = {me, other, ttl, seen};
    m->in_flight = true;
    m->again = false;
    m->sent_ms = clock_mono_ms();
    store_eval(m->store, &refresh_script, m->leaving ? on_left : on_refreshed, m, 2, keys, 4, args, NULL);
}

static void on_refreshed(void *ctx, enum store_status st, const redisReply *reply)
{
    struct members *m = ctx;
    struct members_view v;
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
                  F_STR("key", m->key), F_STR("why", reply->str));
    }
    if (m->leaving)
        refresh(m);
    else
        loop_timer_start(&m->timer, m->again ? 0 : good ? m->o.ttl_ms / 3 : RETRY_MS, 0);
}

static void on_due(void *ctx)
{
    struct members *m = ctx;
    if (!m->in_flight && !m->leaving)
        refresh(m);
}

struct members *members_open(struct loop *l, struct store *s, const struct members_opts *o)
{
    assert(o->service && strlen(o->service) <= NAME_MAX_LEN);
    assert(o->name && o->ttl_ms > 0 && strlen(o->name) < MEMBER_MAX);
    struct members *m = calloc(1, sizeof *m);
    if (!m)
        return NULL;
    m->store = s;
    m->o = *o;
    snprintf(m->key, sizeof m->key, "redoubt:{%s}:members", o->service);
    snprintf(m->counter, sizeof m->counter, "redoubt:{%s}:generation", o->service);
    m->view.known_ms = INT64_MIN;
    m->view.self = m->view.self_ranked = SIZE_MAX;
    loop_timer_init(l, &m->timer, on_due, m);
    loop_timer_start(&m->timer, 0, 0);
    return m;
}

const struct members_view *members_view(const struct members *m)
{
    return &m->view;
}

void members_refresh(struct members *m)
{
    if (m->in_flight)
        m->again = true;
    else if (!m->leaving)
        loop_timer_start(&m->timer, 0, 0);
}

void members_rest(struct members *m, bool rests)
{
    if (m->rests == rests)
        return;
    m->rests = rests;
    members_refresh(m);
}

void members_leave(struct members *m, loop_cb done, void *ctx)
{
    m->leaving = true;
    m->done = done;
    m->done_ctx = ctx;
    loop_timer_stop(&m->timer);
    if (!m->in_flight)
        refresh(m);
}

/* ---- another service's ---- */

struct read_call {
    members_read_cb cb;
    void *ctx;
};

static void on_read(void *ctx, enum store_status st, const redisReply *reply)
{
    struct read_call call = *(struct read_call *)ctx;
    const char *names[RANK_MAX];
    size_t n = 0, kept = 0;
    const char *error = st == STORE_ERROR ? reply->str : st == STORE_OK ? "" : store_status_text(st);
    free(ctx);
    if (st == STORE_OK && reply->type != REDIS_REPLY_ARRAY) {
        st = STORE_ERROR;
        error = "the script was not answered with a list";
    } else if (st == STORE_OK) {
        n = names_of(reply, 0, names);
    }
    for (size_t i = 0; i < n; i++) {
        const char *name = names[i] + (*names[i] == RESTS);
        if (kept == 0 || strcmp(names[kept - 1], name) != 0)
            names[kept++] = name;
    }
    call.cb(call.ctx, st, kept, names, error);
}

void members_read(struct store *s, const char *service, members_read_cb cb, void *ctx)
{
    char key[KEY_MAX];
    struct read_call *call = malloc(sizeof *call);
    if (!call)
        abort(); /* a callback that could not be promised would hang its owner */
    *call = (struct read_call){cb, ctx};
    snprintf(key, sizeof key, "redoubt:{%s}:members", service);
    const char *keys[] = {key};
    store_eval(s, &read_script, on_read, call, 1, keys, 0, NULL, NULL);
}
