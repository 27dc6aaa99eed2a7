/* breaker_state.c - the window and the document in Redis: one script per flush, compare-and-set for changes.
 *
 * Keys: `redoubt:{b:<target>}:doc` (hash, see store.h; its rev is the epoch) and `redoubt:{b:<target>}:w` (the window, a packed string).
 * The scripts carry no policy. They repair nothing silently: what is no document is told, and the engine writes back what it knows. */
#include "breaker/breaker_shell.h"
#include "common/clock.h"
#include "common/metric.h"
#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

METRIC_DEFINE(flushes, METRIC_COUNTER, "redoubt_breaker_flushes_total", "Merges of gathered reports into Redis.");
METRIC_DEFINE(races_lost, METRIC_COUNTER, "redoubt_breaker_races_lost_total",
              "Changes decided here that another replica had made first.");
METRIC_DEFINE(damaged, METRIC_COUNTER, "redoubt_breaker_damaged_total",
              "Documents and windows in Redis that could not be read; replaced by what the stream remembers.");
METRIC_DEFINE(restored, METRIC_COUNTER, "redoubt_breaker_restored_total",
              "Documents that Redis had lost and got back.");

#define WINDOW_TTL_MIN_MS 3600000
#define ERROR_LOG_MS      10000

/* KEYS: document, window. ARGV: epoch that the caller has, now in ms ('' = Redis' own clock, the one that all replicas share), ms per
 * bucket, TTL in ms; then, if there is anything to merge: calls, failures, slow, passed, lead, tail, lead_since, tail_since,
 * first_failure, retry_until, votes (7 bytes of the reporter's hash, 1 byte: its last call was bad).
 *
 * The window is 13 numbers, 10 buckets of 3, and up to 32 reporters in order of when they were heard last (7 bytes
 * of hash, 1 byte bad, 4 bytes bucket). Sums are kept running: a merge touches one bucket and those that fall out. */
static struct store_script flush_script = {
    .name = "breaker flush",
    .body = "local bad, doc, pending = 0, '', '0'\n"
            "local h = redis.pcall('HMGET', KEYS[1], 'rev', 'fence')\n"
            "local rev = '0'\n"
            "if h.err then bad = 1\n"
            "else\n"
            "  rev = h[1] or '0'\n"
            "  if not string.match(rev, '^%d+$') or (h[2] and not string.match(h[2], '^%d+$')) then bad = 1 end\n"
            "  if rev ~= ARGV[1] or bad == 1 then\n"
            "    local d = redis.call('HMGET', KEYS[1], 'doc', 'pending')\n"
            "    doc, pending = d[1] or '', d[2] or '0'\n"
            "  end\n"
            "end\n"
            "local epoch = tonumber(rev) or 0\n"
            "local now = tonumber(ARGV[2])\n"
            "if not now then\n"
            "  local t = redis.call('TIME')\n"
            "  now = t[1] * 1000 + math.floor(t[2] / 1000)\n"
            "end\n"
            "local per = tonumber(ARGV[3])\n"
            "local at = math.floor(now / per)\n"
            "local HEAD, CELLS = '<dddI4I4I4I4ddddI2I2', '<' .. string.rep('I4', 30)\n"
            "local wepoch, wper, newest, calls, failures, slow, run, first, since, retry, passed, n, nbad\n"
            "local cell, seen\n"
            "local w = redis.pcall('GET', KEYS[2])\n"
            "if w and (type(w) == 'table' or #w < 196 or (#w - 196) % 12 ~= 0) then bad, w = bad + 2, false end\n"
            "if w then\n"
            "  wepoch, wper, newest, calls, failures, slow, run, first, since, retry, passed, n, nbad =\n"
            "    struct.unpack(HEAD, w)\n"
            "end\n"
            "if w and wepoch == epoch and wper == per then\n"
            "  cell, seen = {struct.unpack(CELLS, w, 77)}, string.sub(w, 197)\n"
            "else\n"
            "  newest, calls, failures, slow, run, first, since, retry, passed, n, nbad = at, 0, 0, 0, 0, 0, 0, 0, "
            "0, 0, 0\n"
            "  cell, seen = {}, ''\n"
            "  for i = 1, 30 do cell[i] = 0 end\n"
            "end\n"
            "local function drop(p)\n"
            "  n = n - 1\n"
            "  nbad = nbad - string.byte(seen, p + 7)\n"
            "  seen = string.sub(seen, 1, p - 1) .. string.sub(seen, p + 12)\n"
            "end\n"
            "if at - newest >= 10 or newest - at >= 10 then\n"
            "  for i = 1, 30 do cell[i] = 0 end\n"
            "  newest, calls, failures, slow, n, nbad, seen = at, 0, 0, 0, 0, 0, ''\n"
            "end\n"
            "while newest < at do\n"
            "  newest = newest + 1\n"
            "  local c = newest % 10 * 3\n"
            "  calls, failures, slow = calls - cell[c + 1], failures - cell[c + 2], slow - cell[c + 3]\n"
            "  cell[c + 1], cell[c + 2], cell[c + 3] = 0, 0, 0\n"
            "end\n"
            "local low = newest % 4294967296\n"
            "while n > 0 and (low - struct.unpack('<I4', seen, 9)) % 4294967296 >= 10 do drop(1) end\n"
            "if failures == 0 then first = 0 end\n"
            "if ARGV[5] then\n"
            "  local a = {}\n"
            "  for i = 5, 14 do a[i] = tonumber(ARGV[i]) end\n"
            "  if failures == 0 then first = a[13] end\n"
            "  local c = newest % 10 * 3\n"
            "  for i = 1, 3 do cell[c + i] = math.min(cell[c + i] + a[4 + i], 4294967295) end\n"
            "  calls, failures, slow = calls + a[5], failures + a[6], slow + a[7]\n"
            "  passed = passed + a[8]\n"
            "  if a[8] > 0 then run, since = a[10], a[12]\n"
            "  elseif a[9] > 0 then\n"
            "    if run == 0 then since = a[11] end\n"
            "    run = run + a[9]\n"
            "  end\n"
            "  retry = math.max(retry, a[14])\n"
            "  local votes = ARGV[15]\n"
            "  for i = 1, #votes, 8 do\n"
            "    local who = string.sub(votes, i, i + 6)\n"
            "    local p = string.find(seen, who, 1, true)\n"
            "    while p and p % 12 ~= 1 do p = string.find(seen, who, p + 1, true) end\n"
            "    if p then drop(p) elseif n == 32 then drop(1) end\n"
            "    seen = seen .. string.sub(votes, i, i + 7) .. struct.pack('<I4', low)\n"
            "    n = n + 1\n"
            "    nbad = nbad + string.byte(votes, i + 7)\n"
            "  end\n"
            "  run = math.min(run, 4294967295)\n"
            "  redis.call('SET', KEYS[2], struct.pack(HEAD, epoch, per, newest, math.min(calls, 4294967295),\n"
            "    math.min(failures, 4294967295), math.min(slow, 4294967295), run, first, since, retry, passed, n, "
            "nbad) ..\n"
            "    struct.pack(CELLS, unpack(cell)) .. seen, 'PX', ARGV[4])\n"
            "end\n"
            "return {rev, doc, pending, bad, calls, failures, slow, run, n, nbad, passed, first, since, retry}\n",
};

/* Writes a document over nothing, an older one, or exactly the damaged thing that was seen. KEYS: document.
 * ARGV: epoch, document, pending, 1 if something damaged was seen, its rev, its doc. Answer: won, rev, doc, pending. */
static struct store_script over_script = {
    .name = "breaker restore",
    .body = "local kind = redis.call('TYPE', KEYS[1]).ok\n"
            "if kind == 'hash' then\n"
            "  local h = redis.call('HMGET', KEYS[1], 'rev', 'doc', 'pending')\n"
            "  local rev, doc = h[1] or '', h[2] or ''\n"
            "  local damaged = ARGV[4] == '1' and rev == ARGV[5] and doc == ARGV[6]\n"
            "  if not damaged and string.match(rev, '^%d+$') and tonumber(rev) >= tonumber(ARGV[1]) then\n"
            "    return {rev == ARGV[1] and doc == ARGV[2] and 1 or 0, rev, doc, h[3] or '0'}\n"
            "  end\n"
            "end\n"
            "if kind ~= 'none' then redis.call('DEL', KEYS[1]) end\n"
            "redis.call('HSET', KEYS[1], 'rev', ARGV[1], 'fence', '0', 'pending', ARGV[3], 'doc', ARGV[2])\n"
            "return {1, ARGV[1], '', ARGV[3]}\n",
};

const char *breaker_state_flush_body(void)
{
    return flush_script.body;
}

static struct node *node_of(struct breaker_target *t)
{
    return t->ctx;
}

static void log_store_error(struct node *n, const char *what, enum store_status st, const char *why)
{
    if (st == STORE_ERROR && log_allowed(&n->sh->store_errors, clock_mono_ms(), ERROR_LOG_MS, NULL))
        log_error("Redis refused", F_STR("what", what), F_STR("target", n->name), F_STR("why", why));
}

/* ---- reading documents ---- */

/* The message unpacked, to be freed by the caller after b is done with; NULL if it is no document of this target. */
static void *read_doc(struct node *n, const char *rev, const void *data, size_t len, struct breaker *b, struct err *e)
{
    PB(BreakerChanged) *m = wire_unpack(PB_DESC(breaker_changed), data, len, e);
    if (!m)
        return NULL;
    char text[24];
    if (breaker_doc_read(b, m, n->name, e) == 0) {
        snprintf(text, sizeof text, "%" PRIu64, b->epoch);
        if (strcmp(text, rev) == 0)
            return m;
        err_set(e, "its epoch is %s, but rev says %.32s", text, rev);
    }
    wire_free(m);
    return NULL;
}

static void forget_damage(struct node *n)
{
    free(n->damaged_rev);
    free(n->damaged_doc);
    n->damaged_rev = n->damaged_doc = NULL;
    n->damaged_rev_len = n->damaged_doc_len = 0;
}

static char *keep(const redisReply *r, size_t *ret_len)
{
    char *p = malloc(r->len + 1);
    if (!p)
        abort();
    memcpy(p, r->str, r->len);
    p[r->len] = 0;
    *ret_len = r->len;
    return p;
}

static void note_damage(struct node *n, const redisReply *rev, const redisReply *doc, const char *why)
{
    forget_damage(n);
    n->damaged_rev = keep(rev, &n->damaged_rev_len);
    n->damaged_doc = keep(doc, &n->damaged_doc_len);
    metric_add(&damaged, 1);
    if (log_allowed(&n->sh->damaged, clock_mono_ms(), ERROR_LOG_MS, NULL))
        log_warn("bad input: a document in Redis is damaged", F_STR("key", n->doc_key), F_STR("why", why),
                 F_STR("next", "it is replaced by what the stream remembers"));
}

/* ---- flush ---- */

static uint32_t u32(const redisReply *r)
{
    return r->integer < 0 ? 0 : r->integer > UINT32_MAX ? UINT32_MAX : (uint32_t)r->integer;
}

enum {
    F_REV,
    F_DOC,
    F_PENDING,
    F_BAD,
    F_CALLS,
    F_FAILURES,
    F_SLOW,
    F_RUN,
    F_SEEN,
    F_FAILING,
    F_PASSED,
    F_FIRST,
    F_SINCE,
    F_RETRY,
    F_N
};

static bool shaped(const redisReply *r)
{
    if (r->type != REDIS_REPLY_ARRAY || r->elements != F_N)
        return false;
    for (size_t i = 0; i < F_N; i++)
        if (r->element[i]->type != (i <= F_PENDING ? REDIS_REPLY_STRING : REDIS_REPLY_INTEGER))
            return false;
    return true;
}

static void on_flushed(void *ctx, enum store_status st, const redisReply *reply)
{
    struct node *n = ctx;
    struct breaker_flushed f = {0};
    struct breaker doc;
    void *message = NULL;
    if (n->sh->stopped) {
        breaker_release(n);
        return;
    }
    log_store_error(n, "flush", st, reply ? reply->str : "");
    if (st == STORE_OK && shaped(reply)) {
        redisReply *const *r = reply->element;
        f.ok = true;
        f.totals = (struct breaker_totals){.calls = u32(r[F_CALLS]),
                                           .failures = u32(r[F_FAILURES]),
                                           .slow = u32(r[F_SLOW]),
                                           .consecutive = u32(r[F_RUN]),
                                           .reporters = u32(r[F_SEEN]),
                                           .failing = u32(r[F_FAILING]),
                                           .passed = (uint64_t)r[F_PASSED]->integer,
                                           .first_failure_ms = r[F_FIRST]->integer,
                                           .run_since_ms = r[F_SINCE]->integer,
                                           .retry_until_ms = r[F_RETRY]->integer};
        f.pending = strcmp(r[F_PENDING]->str, "1") == 0;
        struct err e = {"the key holds another type, or its numbers are none"};
        char asked[24];
        snprintf(asked, sizeof asked, "%" PRIu64, n->asked);
        if (r[F_BAD]->integer & 2) {
            metric_add(&damaged, 1);
            if (log_allowed(&n->sh->window_damaged, clock_mono_ms(), ERROR_LOG_MS, NULL))
                log_warn("bad input: a window in Redis is damaged; it begins anew", F_STR("key", n->window_key));
        }
        if (r[F_BAD]->integer & 1) {
            f.found = BREAKER_FOUND_DAMAGED;
        } else if (r[F_DOC]->len == 0 && strcmp(r[F_REV]->str, "0") == 0) {
            f.found = BREAKER_FOUND_NONE;
        } else if (strcmp(r[F_REV]->str, asked) == 0) {
            f.found = BREAKER_FOUND_SAME;
            if (n->t.doc.epoch > n->asked) /* told by the stream meanwhile: these are the totals of an older one */
                f.totals = (struct breaker_totals){.retry_until_ms = f.totals.retry_until_ms};
        } else if ((message = read_doc(n, r[F_REV]->str, r[F_DOC]->str, r[F_DOC]->len, &doc, &e))) {
            f.found = BREAKER_FOUND_OTHER;
            f.doc = &doc;
        } else {
            f.found = BREAKER_FOUND_DAMAGED;
        }
        if (f.found == BREAKER_FOUND_DAMAGED)
            note_damage(n, r[F_REV], r[F_DOC], e.text);
    }
    breaker_target_flushed(&n->t, &f);
    wire_free(message);
    breaker_release(n);
}

void breaker_state_flush(struct breaker_target *t, const struct breaker_delta *d, uint64_t have_epoch)
{
    struct node *n = node_of(t);
    char num[14][24];
    char votes[BREAKER_REPORTERS * 8];
    const char *args[15];
    size_t lens[15];
    int64_t ttl_ms = t->rule.window_ms * 2 > WINDOW_TTL_MIN_MS ? t->rule.window_ms * 2 : WINDOW_TTL_MIN_MS;
    const int64_t values[14] = {(int64_t)have_epoch,
                                0,
                                breaker_bucket_ms(t->rule.window_ms),
                                ttl_ms,
                                d->calls,
                                d->failures,
                                d->slow,
                                d->passed,
                                d->lead,
                                d->tail,
                                d->lead_since_ms,
                                d->tail_since_ms,
                                d->first_failure_ms,
                                d->retry_until_ms};
    int n_args = d->calls > 0 ? 15 : 4;
    for (int i = 0; i < n_args && i < 14; i++) {
        lens[i] = i == 1 ? 0 : (size_t)snprintf(num[i], sizeof num[i], "%" PRId64, values[i]);
        num[i][lens[i]] = 0;
        args[i] = num[i];
    }
    for (uint32_t i = 0; i < d->n_reporters; i++) {
        uint64_t who = d->votes[i].reporter;
        for (unsigned k = 0; k < 7; k++)
            votes[i * 8 + k] = (char)(unsigned char)(who >> (8 * k));
        votes[i * 8 + 7] = d->votes[i].bad;
    }
    args[14] = votes;
    lens[14] = d->n_reporters * (size_t)8;
    metric_add(&flushes, 1);
    n->asked = have_epoch;
    breaker_hold(n);
    store_eval(n->sh->s->store, &flush_script, on_flushed, n, 2, (const char *[]){n->doc_key, n->window_key}, n_args,
               args, lens);
}

/* ---- put ---- */

static void stored(struct node *n, enum breaker_put_result r, const char *rev, const void *data, size_t len)
{
    struct breaker theirs;
    struct err e;
    void *message = NULL;
    if (r == BREAKER_PUT_LOST) {
        metric_add(&races_lost, 1);
        if (len > 0) /* damaged counts as none: the next flush finds it and says so */
            message = read_doc(n, rev, data, len, &theirs, &e);
    }
    breaker_target_stored(&n->t, r, message ? &theirs : NULL);
    wire_free(message);
}

static void on_put(void *ctx, enum store_status st, enum store_cas cas, const struct store_doc *current)
{
    struct node *n = ctx;
    if (!n->sh->stopped) {
        char rev[24];
        snprintf(rev, sizeof rev, "%" PRIu64, current->rev);
        log_store_error(n, "put", st, current->error);
        enum breaker_put_result r = st != STORE_OK         ? BREAKER_PUT_FAILED
                                    : cas == STORE_CAS_WON ? BREAKER_PUT_WON
                                                           : BREAKER_PUT_LOST;
        stored(n, r, rev, current->data, current->len);
    }
    breaker_release(n);
}

static void on_over(void *ctx, enum store_status st, const redisReply *r)
{
    struct node *n = ctx;
    if (!n->sh->stopped) {
        bool fine = st == STORE_OK && r->type == REDIS_REPLY_ARRAY && r->elements == 4 &&
                    r->element[0]->type == REDIS_REPLY_INTEGER && r->element[1]->type == REDIS_REPLY_STRING &&
                    r->element[2]->type == REDIS_REPLY_STRING;
        log_store_error(n, "restore", st, r ? r->str : "");
        forget_damage(n);
        if (!fine)
            stored(n, BREAKER_PUT_FAILED, "", NULL, 0);
        else
            stored(n, r->element[0]->integer ? BREAKER_PUT_WON : BREAKER_PUT_LOST, r->element[1]->str,
                   r->element[2]->str, r->element[2]->len);
    }
    breaker_release(n);
}

void breaker_state_put(struct breaker_target *t, const struct breaker *b, bool over, bool pending)
{
    struct node *n = node_of(t);
    struct breaker_message x;
    struct err e = {""};
    size_t len = 0;
    breaker_doc_fill(&x, n->name, b);
    void *data = wire_pack(&x.m, &len, &e);
    if (!data) { /* only by a bug, or with no memory left: going on would be without shared state */
        log_error("own document is not valid", F_STR("target", n->name), F_STR("why", e.text));
        abort();
    }
    breaker_hold(n);
    if (!over) {
        store_doc_put(n->sh->s->store, n->doc_key, b->epoch - 1, 0, pending, data, len, on_put, n);
    } else {
        char epoch[24];
        snprintf(epoch, sizeof epoch, "%" PRIu64, b->epoch);
        bool seen = n->damaged_rev != NULL;
        const char *args[] = {epoch,
                              data,
                              pending ? "1" : "0",
                              seen ? "1" : "0",
                              seen ? n->damaged_rev : "",
                              seen ? n->damaged_doc : ""};
        const size_t lens[] = {strlen(epoch), len, 1, 1, n->damaged_rev_len, n->damaged_doc_len};
        metric_add(&restored, 1);
        const char *key = n->doc_key;
        store_eval(n->sh->s->store, &over_script, on_over, n, 1, &key, 6, args, lens);
    }
    free(data);
}

/* ---- marks ---- */

static void on_marked(void *ctx, enum store_status st, const redisReply *reply)
{
    (void)st, (void)reply; /* if it failed, a sweep finds it */
    breaker_release(ctx);
}

void breaker_state_announced(struct node *n, uint64_t epoch)
{
    breaker_hold(n);
    store_doc_announced(n->sh->s->store, n->doc_key, epoch, on_marked, n);
}

void breaker_state_peek(struct node *n, store_cb cb)
{
    breaker_hold(n);
    store_cmd(n->sh->s->store, cb, n, 4, (const char *[]){"HMGET", n->doc_key, "rev", "pending"}, NULL);
}
