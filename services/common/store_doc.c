/* store_doc.c - documents in Redis: one protobuf per entity, written by compare-and-set under a fence. */
#include "common/store.h"
#include "common/subjects.h"
#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Decimal numbers stay text in Lua: its own are exact to 2^53 only. `less` compares them by length, then by digits.
 * KEYS: the document. ARGV: expected rev, new rev, fence, pending, data, then names and values of plain fields. Answer: verdict, rev, doc, pending. */
static struct store_script put_script = {
    .name = "doc put",
    .body =
        "local function less(a, b) return #a < #b or (#a == #b and a < b) end\n"
        "local h = redis.call('HMGET', KEYS[1], 'rev', 'fence', 'doc', 'pending')\n"
        "local rev, fence = h[1] or '0', h[2] or '0'\n"
        "if not string.match(rev, '^%d+$') or not string.match(fence, '^%d+$') or (rev ~= '0' and not h[3]) then\n"
        "  return redis.error_reply('ERR the document is damaged: ' .. KEYS[1])\n"
        "end\n"
        "if less(ARGV[3], fence) then return {'fenced', rev, h[3] or '', h[4] or '0'} end\n"
        "if rev == ARGV[1] then\n"
        "  redis.call('HSET', KEYS[1], 'rev', ARGV[2], 'fence', ARGV[3], 'pending', ARGV[4], 'doc', ARGV[5], "
        "unpack(ARGV, 6))\n"
        "  return {'won', ARGV[2], '', ARGV[4]}\n"
        "end\n"
        "if rev == ARGV[2] and h[3] == ARGV[5] then return {'won', rev, '', h[4] or '0'} end\n"
        "return {'lost', rev, h[3] or '', h[4] or '0'}\n",
};
/* KEYS: the document. ARGV: rev. */
static struct store_script announced_script = {
    .name = "doc announced",
    .body = "if redis.call('HGET', KEYS[1], 'rev') ~= ARGV[1] then return 0 end\n"
            "redis.call('HSET', KEYS[1], 'pending', '0')\n"
            "return 1\n",
};

static const struct store_doc no_doc = {.error = ""};

static int parse_u64(const redisReply *r, uint64_t *ret)
{
    if (r->type != REDIS_REPLY_STRING || r->len == 0 || r->len > 20)
        return -1;
    uint64_t v = 0;
    for (size_t i = 0; i < r->len; i++) {
        unsigned digit = (unsigned char)r->str[i] - (unsigned)'0';
        if (digit > 9 || __builtin_mul_overflow(v, 10u, &v) || __builtin_add_overflow(v, digit, &v))
            return -1;
    }
    *ret = v;
    return 0;
}

/* From three elements: rev, doc, pending. Absent is no error; anything else that we did not write is. */
static int parse_doc(const redisReply *rev, const redisReply *doc, const redisReply *pending, struct store_doc *d)
{
    *d = no_doc;
    if (rev->type == REDIS_REPLY_NIL && doc->type == REDIS_REPLY_NIL)
        return 0;
    if (parse_u64(rev, &d->rev) < 0 || doc->type != REDIS_REPLY_STRING || doc->len > MESSAGE_MAX) {
        *d = no_doc;
        d->error = "the document is damaged: rev is no number, or doc is missing or too large";
        return -1;
    }
    d->found = d->rev > 0;
    d->data = doc->str;
    d->len = doc->len;
    d->pending = pending->type == REDIS_REPLY_STRING && strcmp(pending->str, "1") == 0;
    return 0;
}

struct get_call {
    store_doc_cb cb;
    void *ctx;
};

static void on_get(void *ctx, enum store_status st, const redisReply *reply)
{
    struct get_call call = *(struct get_call *)ctx;
    struct store_doc d = no_doc;
    free(ctx);
    if (st == STORE_ERROR) {
        d.error = reply->str;
    } else if (st == STORE_OK && (reply->type != REDIS_REPLY_ARRAY || reply->elements != 3)) {
        st = STORE_ERROR;
        d.error = "HMGET was not answered with three values";
    } else if (st == STORE_OK && parse_doc(reply->element[0], reply->element[1], reply->element[2], &d) < 0) {
        st = STORE_ERROR;
    }
    call.cb(call.ctx, st, &d);
}

/* A callback that could not be promised would hang its owner for ever. */
static void *must_alloc(size_t size)
{
    void *p = malloc(size);
    if (!p)
        abort();
    return p;
}

void store_doc_get(struct store *s, const char *key, store_doc_cb cb, void *ctx)
{
    struct get_call *call = must_alloc(sizeof *call);
    *call = (struct get_call){cb, ctx};
    store_cmd(s, on_get, call, 5, (const char *[]){"HMGET", key, "rev", "doc", "pending"}, NULL);
}

struct put_call {
    store_cas_cb cb;
    void *ctx;
};

static void on_put(void *ctx, enum store_status st, const redisReply *reply)
{
    struct put_call call = *(struct put_call *)ctx;
    struct store_doc d = no_doc;
    enum store_cas cas = STORE_CAS_LOST;
    free(ctx);
    if (st == STORE_ERROR) {
        d.error = reply->str;
    } else if (st == STORE_OK) {
        bool shaped =
            reply->type == REDIS_REPLY_ARRAY && reply->elements == 4 && reply->element[0]->type == REDIS_REPLY_STRING;
        if (!shaped) {
            st = STORE_ERROR;
            d.error = "the script was not answered with four values";
        } else if (parse_doc(reply->element[1], reply->element[2], reply->element[3], &d) < 0) {
            st = STORE_ERROR;
        } else {
            const char *verdict = reply->element[0]->str;
            cas = strcmp(verdict, "won") == 0      ? STORE_CAS_WON
                  : strcmp(verdict, "fenced") == 0 ? STORE_CAS_FENCED
                                                   : STORE_CAS_LOST;
        }
    }
    call.cb(call.ctx, st, cas, &d);
}

void store_doc_put_fields(struct store *s, const char *key, uint64_t expect_rev, uint64_t fence, bool pending,
                          const void *data, size_t len, size_t n_fields, const char *const fields[], store_cas_cb cb,
                          void *ctx)
{
    assert(len > 0 && len <= MESSAGE_MAX && expect_rev < UINT64_MAX && n_fields <= STORE_FIELDS_MAX);
    struct put_call *call = must_alloc(sizeof *call);
    *call = (struct put_call){cb, ctx};
    char expect[24], next[24], fenced[24];
    snprintf(expect, sizeof expect, "%" PRIu64, expect_rev);
    snprintf(next, sizeof next, "%" PRIu64, expect_rev + 1);
    snprintf(fenced, sizeof fenced, "%" PRIu64, fence);
    const char *args[5 + 2 * STORE_FIELDS_MAX] = {expect, next, fenced, pending ? "1" : "0", data};
    size_t lens[5 + 2 * STORE_FIELDS_MAX] = {strlen(expect), strlen(next), strlen(fenced), 1, len};
    for (size_t i = 0; i < 2 * n_fields; i++) {
        args[5 + i] = fields[i];
        lens[5 + i] = strlen(fields[i]);
    }
    store_eval(s, &put_script, on_put, call, 1, &key, (int)(5 + 2 * n_fields), args, lens);
}

void store_doc_put(struct store *s, const char *key, uint64_t expect_rev, uint64_t fence, bool pending,
                   const void *data, size_t len, store_cas_cb cb, void *ctx)
{
    store_doc_put_fields(s, key, expect_rev, fence, pending, data, len, 0, NULL, cb, ctx);
}

void store_doc_announced(struct store *s, const char *key, uint64_t rev, store_cb cb, void *ctx)
{
    char text[24];
    snprintf(text, sizeof text, "%" PRIu64, rev);
    const char *args[] = {text};
    store_eval(s, &announced_script, cb, ctx, 1, &key, 1, args, NULL);
}
