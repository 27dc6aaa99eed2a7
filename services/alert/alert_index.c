/* alert_index.c - problems in order, in Redis. */
#include "alert/alert_index.h"
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define INDEX "redoubt:{al}:index"
#define OPEN  "redoubt:{al}:open"
#define DUE   "redoubt:{al}:due"
#define MARK  "redoubt:{al}:mark"

static struct store_script due_script = {
    .name = "alert due",
    .body = "return {redis.call('EXISTS', KEYS[2]),\n"
            "  redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', ARGV[1], 'LIMIT', 0, ARGV[2])}\n",
};
static struct store_script page_script = {
    .name = "alert page",
    .body = "return {redis.call('ZCARD', KEYS[1]),\n"
            "  redis.call('ZRANGEBYLEX', KEYS[1], ARGV[1], '+', 'LIMIT', 0, ARGV[2])}\n",
};
static struct store_script wake_script = {
    .name = "alert wake",
    .body = "local ids = redis.call('ZRANGEBYLEX', KEYS[1], ARGV[1], '+', 'LIMIT', 0, ARGV[2])\n"
            "for _, id in ipairs(ids) do redis.call('ZADD', KEYS[2], 0, id) end\n"
            "return {redis.call('ZCARD', KEYS[1]), ids}\n",
};

static void command(struct store *s, int argc, const char *const *argv)
{
    store_cmd(s, NULL, NULL, argc, argv, NULL);
}

static void in_or_out(struct store *s, const char *key, bool in, int64_t score, const char *id)
{
    char text[24];
    snprintf(text, sizeof text, "%" PRId64, score);
    if (in)
        command(s, 4, (const char *const[]){"ZADD", key, text, id});
    else
        command(s, 3, (const char *const[]){"ZREM", key, id});
}

void alert_index_set(struct store *s, const char *id, bool open, int64_t due_ms)
{
    in_or_out(s, INDEX, true, 0, id);
    in_or_out(s, OPEN, open, 0, id);
    in_or_out(s, DUE, due_ms > 0, due_ms, id);
}

void alert_index_drop(struct store *s, const char *id)
{
    in_or_out(s, INDEX, false, 0, id);
    in_or_out(s, OPEN, false, 0, id);
    in_or_out(s, DUE, false, 0, id);
}

void alert_index_mark(struct store *s)
{
    command(s, 3, (const char *const[]){"SET", MARK, "1"});
}

struct call {
    alert_page_cb cb;
    void *ctx;
};

/* A number, and ids. What is no id is nothing that we wrote, and is left out. */
static void on_page(void *ctx, enum store_status st, const redisReply *r)
{
    struct call call = *(struct call *)ctx;
    free(ctx);
    struct alert_page *p = calloc(1, sizeof *p);
    if (p && st == STORE_OK && r->type == REDIS_REPLY_ARRAY && r->elements == 2 &&
        r->element[0]->type == REDIS_REPLY_INTEGER && r->element[1]->type == REDIS_REPLY_ARRAY) {
        p->ok = true;
        p->total = (uint64_t)r->element[0]->integer;
        const redisReply *ids = r->element[1];
        for (size_t i = 0; i < ids->elements && p->n < ALERT_PAGE_MAX; i++)
            if (ids->element[i]->type == REDIS_REPLY_STRING && ids->element[i]->len == ALERT_ID_LEN)
                memcpy(p->ids[p->n++], ids->element[i]->str, ALERT_ID_LEN + 1);
    }
    static const struct alert_page none;
    call.cb(call.ctx, p ? p : &none);
    free(p);
}

static void ask(struct store *s, struct store_script *script, const char *const keys[2], const char *first,
                alert_page_cb cb, void *ctx)
{
    struct call *call = malloc(sizeof *call);
    char most[16];
    if (!call)
        abort();
    *call = (struct call){cb, ctx};
    snprintf(most, sizeof most, "%d", ALERT_PAGE_MAX);
    store_eval(s, script, on_page, call, 2, keys, 2, (const char *const[]){first, most}, NULL);
}

void alert_index_due(struct store *s, int64_t now_ms, alert_page_cb cb, void *ctx)
{
    char now[24];
    snprintf(now, sizeof now, "%" PRId64, now_ms);
    ask(s, &due_script, (const char *const[]){DUE, MARK}, now, cb, ctx);
}

static const char *behind(const char *after, char buf[static ALERT_ID_LEN + 2])
{
    snprintf(buf, ALERT_ID_LEN + 2, "%s%.32s", *after ? "(" : "-", after);
    return buf;
}

void alert_index_page(struct store *s, bool open, const char *after, alert_page_cb cb, void *ctx)
{
    char from[ALERT_ID_LEN + 2];
    ask(s, &page_script, (const char *const[]){open ? OPEN : INDEX, MARK}, behind(after, from), cb, ctx);
}

void alert_index_wake(struct store *s, const char *after, alert_page_cb cb, void *ctx)
{
    char from[ALERT_ID_LEN + 2];
    ask(s, &wake_script, (const char *const[]){OPEN, DUE}, behind(after, from), cb, ctx);
}
