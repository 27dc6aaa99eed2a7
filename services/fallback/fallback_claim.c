/* fallback_claim.c - that an override API is needed, or is being released, as Redis has it: so that no replica's release undoes
 * another's activation.
 *
 * Two sorted sets per API, each entry with its end by Redis' clock. An activation enters its agent into `need`, and waits while anybody is in
 * `release`. A release takes its agent out of `need` and, in the same step, enters itself into `release` if nobody is left in `need`. So of the
 * two whoever comes second knows of the first. Without Redis an activation goes ahead, being the stricter act; a release does not. */
#include "common/rank.h"
#include "fallback/fallback_shell.h"
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#define CLAIM_MS 8000 /* longer than the call may take */
#define NOW      "local t = redis.call('TIME')\nlocal now = t[1] * 1000 + math.floor(t[2] / 1000)\n"

/* KEYS: need, release. ARGV: agent, ms until the override lapses by itself. Answer: ms to wait at most; 0 = no release is under way. */
static struct store_script need_script = {
    .name = "override needed",
    .body = NOW "redis.call('ZADD', KEYS[1], string.format('%.0f', now + ARGV[2]), ARGV[1])\n"
                "redis.call('ZREMRANGEBYSCORE', KEYS[2], '-inf', now)\n"
                "local last = redis.call('ZRANGE', KEYS[2], -1, -1, 'WITHSCORES')\n"
                "return last[2] and tonumber(last[2]) - now or 0\n",
};
/* KEYS: need, release. ARGV: agent, who releases, ms. Answer: 1 = it may be released, 0 = it is needed. */
static struct store_script claim_script = {
    .name = "override release",
    .body = NOW "redis.call('ZREM', KEYS[1], ARGV[1])\n"
                "redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now)\n"
                "if redis.call('ZCARD', KEYS[1]) > 0 then return 0 end\n"
                "redis.call('ZADD', KEYS[2], string.format('%.0f', now + ARGV[3]), ARGV[2])\n"
                "return 1\n",
};

struct claim {
    claim_cb cb;
    void *ctx;
};

static void keys_of(const char *url, char keys[static 2][64])
{
    uint64_t h = rank_hash(url);
    snprintf(keys[0], 64, "redoubt:{o:%016" PRIx64 "}:need", h);
    snprintf(keys[1], 64, "redoubt:{o:%016" PRIx64 "}:release", h);
}

static void on_answer(void *ctx, enum store_status st, const redisReply *r)
{
    struct claim c = *(struct claim *)ctx;
    free(ctx);
    bool good = st == STORE_OK && r->type == REDIS_REPLY_INTEGER;
    c.cb(c.ctx, good, good ? r->integer : 0);
}

static void run(struct service *s, struct store_script *script, const char *url, int n_args, const char *const *args,
                claim_cb cb, void *ctx)
{
    char text[2][64];
    struct claim *c = malloc(sizeof *c);
    if (!c)
        abort(); /* a call waits for it */
    *c = (struct claim){cb, ctx};
    keys_of(url, text);
    const char *keys[] = {text[0], text[1]};
    store_eval(s->store, script, on_answer, c, 2, keys, n_args, args, NULL);
}

void claim_need(struct service *s, const char *url, const char *agent, int64_t duration_ms, claim_cb cb, void *ctx)
{
    char ms[24];
    snprintf(ms, sizeof ms, "%" PRId64, duration_ms);
    run(s, &need_script, url, 2, (const char *[]){agent, ms}, cb, ctx);
}

void claim_release(struct service *s, const char *url, const char *agent, const char *who, claim_cb cb, void *ctx)
{
    char ms[24];
    snprintf(ms, sizeof ms, "%d", CLAIM_MS);
    run(s, &claim_script, url, 3, (const char *[]){agent, who, ms}, cb, ctx);
}

void claim_released(struct service *s, const char *url, const char *who)
{
    char text[2][64];
    keys_of(url, text);
    store_cmd(s->store, NULL, NULL, 3, (const char *[]){"ZREM", text[1], who}, NULL);
}
