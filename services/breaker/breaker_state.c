/* breaker_state.c - the window and the document in Redis: one script per flush, compare-and-set for changes.
 *
 * Keys: `redoubt:{b:<target>}:doc` (hash; its rev is the epoch) and `redoubt:{b:<target>}:w` (the window, a packed string). Both together
 * stay below 1 KB per target.
 * The scripts carry no policy. They repair nothing silently: what is no document is told, and the engine writes back what it knows. */
#include "breaker/breaker_shell.h"
#include "common/clock.h"
#include "common/metric.h"
#include <assert.h>
#include <inttypes.h>
#include <stddef.h>
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
#define SEEN_BYTES        7 /* of one voter in the window */

/* A packed document is kept in parts of 64 bytes: as long as no value is longer, Redis keeps the hash in its compact form, which takes a third
 * of the memory. One that is too long for that (a person's reason) is kept whole. */
#define LUA_READ                                                                                                     \
    "local function read(key)\n"                                                                                     \
    "  local d = redis.call('HMGET', key, 'doc', 'doc1', 'doc2', 'doc3', 'doc4', 'doc5', 'doc6', 'doc7')\n"          \
    "  local s = ''\n"                                                                                               \
    "  for i = 1, 8 do\n"                                                                                            \
    "    s = s .. (d[i] or '')\n"                                                                                    \
    "    if not d[i] or #d[i] ~= 64 then break end\n"                                                                \
    "  end\n"                                                                                                        \
    "  return s\n"                                                                                                   \
    "end\n"
#define LUA_WRITE                                                                                                    \
    "local function write(key, rev, pending, doc, state, til, ramp)\n"                                               \
    "  local a = {'rev', rev, 'pending', pending, 'state', state, 'until', til, 'ramp', ramp}\n"                     \
    "  local step = #doc <= 512 and 64 or #doc\n"                                                                    \
    "  for i = 1, #doc, step do\n"                                                                                   \
    "    a[#a + 1] = i == 1 and 'doc' or 'doc' .. (i - 1) / step\n"                                                  \
    "    a[#a + 1] = string.sub(doc, i, i + step - 1)\n"                                                             \
    "  end\n"                                                                                                        \
    "  redis.call('DEL', key)\n" /* what an earlier one left: parts, other layouts */                                \
    "  redis.call('HSET', key, unpack(a))\n"                                                                         \
    "end\n"

/* KEYS: document, window. ARGV: epoch that the caller has, now in ms ('' = Redis' own clock, the one that all replicas share), ms per
 * bucket, TTL in ms, calls per bucket (0 = by time); then, if there is anything to merge: calls, failures, slow, passed, lead,
 * tail, lead_since, tail_since, first_failure, retry_until, 1 if its successes end the run before, votes (of each reporter 5 bytes of hash, its run, flags).
 * Answer: rev, doc (if its epoch is not the caller's), pending, what is damaged (1 document, 2 window), calls, failures, slow, run,
 * passed, first failure, since, retry, voters, age of the window in ms if it began later than the document (-1 otherwise).
 *
 * The window is a header of 61 bytes, 10 buckets of 3 numbers of 3 bytes, and up to 32 voters in order of when they were heard last: 5
 * bytes of hash, 1 byte run, 1 byte bucket (mod 32) and whether the last call was bad (128). Sums are kept running: a merge touches one
 * bucket and those that fall out. A window of any other layout is of an earlier version, and begins anew.
 *
 * The document's `began` says when its window began, if that was not with the document: the document was put back into a Redis that had lost
 * it, or the window was damaged, of another layout or of other settings. The next document is written without. */
static struct store_script flush_script = {
    .name = "breaker flush",
    .body = LUA_READ
    "local bad, doc, pending, rev = 0, '', '0', '0'\n"
    "local h = redis.pcall('HMGET', KEYS[1], 'rev', 'pending', 'began')\n"
    "if h.err then bad = 1\n"
    "else\n"
    "  rev = h[1] or '0'\n"
    "  if not string.match(rev, '^%d+$') then bad = 1 end\n"
    "  if rev ~= ARGV[1] or bad == 1 then doc, pending = read(KEYS[1]), h[2] or '0' end\n"
    "end\n"
    "local epoch = tonumber(rev) or 0\n"
    "local now = tonumber(ARGV[2])\n"
    "if not now then\n"
    "  local t = redis.call('TIME')\n"
    "  now = t[1] * 1000 + math.floor(t[2] / 1000)\n"
    "end\n"
    "local per, size = tonumber(ARGV[3]), tonumber(ARGV[5])\n"
    "local at = math.floor(now / per)\n"
    "local began = tonumber(h[3])\n"
    "local HEAD, CELLS = '<c2dI3I3I6BI4I4I4I4I4I6I6I6', '<' .. string.rep('I3', 30)\n"
    "local _, wepoch, wper, wsize, newest, pos, calls, failures, slow, run, passed, first, since, retry\n"
    "local cell, seen\n"
    "local w = redis.pcall('GET', KEYS[2])\n"
    "local had = w\n"
    "if w then\n"
    "  if type(w) == 'table' then bad, w = bad + 2, false\n"
    "  elseif string.sub(w, 1, 2) == 'W2' and #w >= 151 and (#w - 151) % 7 == 0 then\n"
    "    _, wepoch, wper, wsize, newest, pos, calls, failures, slow, run, passed, first, since, retry =\n"
    "      struct.unpack(HEAD, w)\n"
    "    if pos > 9 then bad, w = bad + 2, false end\n"
    "  elseif #w >= 196 and (#w - 196) % 12 == 0 then w = false\n"
    "  else bad, w = bad + 2, false end\n"
    "end\n"
    "if w and wepoch == epoch and wper == per and wsize == size then\n"
    "  cell, seen = {struct.unpack(CELLS, w, 62)}, string.sub(w, 152)\n"
    "else\n"
    "  if had and (not w or wepoch == epoch) and bad % 2 == 0 and rev ~= '0' and ARGV[6] then\n"
    "    began = now\n"
    "    redis.call('HSET', KEYS[1], 'began', now)\n"
    "  end\n"
    "  newest, pos, calls, failures, slow, run, passed, first, since, retry = at, 0, 0, 0, 0, 0, 0, 0, 0, 0\n"
    "  cell, seen = {}, ''\n"
    "  for i = 1, 30 do cell[i] = 0 end\n"
    "end\n"
    "local function drop(p) seen = string.sub(seen, 1, p - 1) .. string.sub(seen, p + 7) end\n"
    "local function next_bucket()\n"
    "  pos = (pos + 1) % 10\n"
    "  local c = pos * 3\n"
    "  calls, failures, slow = calls - cell[c + 1], failures - cell[c + 2], slow - cell[c + 3]\n"
    "  cell[c + 1], cell[c + 2], cell[c + 3] = 0, 0, 0\n"
    "end\n"
    "if at - newest >= 10 or newest - at >= 10 then\n"
    "  for i = 1, 30 do cell[i] = 0 end\n"
    "  newest, calls, failures, slow, seen = at, 0, 0, 0, ''\n"
    "end\n"
    "while newest < at do\n"
    "  newest = newest + 1\n"
    "  next_bucket()\n"
    "end\n"
    "local low = newest % 32\n"
    "while #seen > 0 and (low - string.byte(seen, 7)) % 32 >= 10 do drop(1) end\n"
    "if failures == 0 then first = 0 end\n"
    "if ARGV[6] then\n"
    "  local a = {}\n"
    "  for i = 6, 16 do a[i] = tonumber(ARGV[i]) end\n"
    "  if failures == 0 then first = a[14] end\n"
    "  local function put(n, f, s)\n"
    "    local c = pos * 3\n"
    "    n, f, s = math.min(n, 16777215 - cell[c + 1]), math.min(f, 16777215 - cell[c + 2]), math.min(s, 16777215 - "
    "cell[c + 3])\n"
    "    cell[c + 1], cell[c + 2], cell[c + 3] = cell[c + 1] + n, cell[c + 2] + f, cell[c + 3] + s\n"
    "    calls, failures, slow = calls + n, failures + f, slow + s\n"
    "  end\n"
    "  if size == 0 then put(a[6], a[7], a[8])\n"
    "  else\n"
    "    local n, f, s, all = a[6], a[7], a[8], size * 10\n"
    "    if n > all then f, s, n = math.floor(f * all / n), math.floor(s * all / n), all end\n"
    "    while n > 0 do\n"
    "      if cell[pos * 3 + 1] >= size then next_bucket() end\n"
    "      local k = math.min(n, size - cell[pos * 3 + 1])\n"
    "      local kf, ks = math.floor(f * k / n), math.floor(s * k / n)\n"
    "      put(k, kf, ks)\n"
    "      n, f, s = n - k, f - kf, s - ks\n"
    "    end\n"
    "  end\n"
    "  passed = math.min(passed + a[9], 4294967295)\n"
    "  if a[16] > 0 then run, since = a[11], a[13]\n"
    "  elseif a[10] > 0 then\n"
    "    if run == 0 then since = a[12] end\n"
    "    run = math.min(run + a[10], 4294967295)\n"
    "  end\n"
    "  retry = math.max(retry, a[15])\n"
    "  local votes = ARGV[17]\n"
    "  for i = 1, #votes, 7 do\n"
    "    local who, had = string.sub(votes, i, i + 4), 0\n"
    "    local more, flags = string.byte(votes, i + 5, i + 6)\n"
    "    local p = string.find(seen, who, 1, true)\n"
    "    while p and p % 7 ~= 1 do p = string.find(seen, who, p + 1, true) end\n"
    "    if p then\n"
    "      if flags >= 4 then\n"
    "        more, flags = string.byte(seen, p + 5), string.byte(seen, p + 6) >= 128 and 1 or 0\n"
    "      elseif flags < 2 then had = string.byte(seen, p + 5) end\n"
    "      drop(p)\n"
    "    elseif #seen == 224 then drop(1) end\n"
    "    seen = seen .. who .. string.char(math.min(had + more, 255), low + flags % 2 * 128)\n"
    "  end\n"
    "  redis.call('SET', KEYS[2], struct.pack(HEAD, 'W2', epoch, per, size, newest, pos, calls, failures, slow, "
    "run,\n"
    "    passed, first, since, retry) .. struct.pack(CELLS, unpack(cell)) .. seen, 'PX', ARGV[4])\n"
    "end\n"
    "return {rev, doc, pending, bad, calls, failures, slow, run, passed, first, since, retry, seen,\n"
    "  began and began <= now and now - began or -1}\n",
};

/* Writes by compare-and-set. KEYS: document. ARGV: expected rev, new rev, pending, document, and its state, until and ramp for those who
 * read no protobuf. Lost also if it is this very document already: two replicas may grant the same holder the same permit within the
 * same millisecond, and only one of them may say so.
 * Answer of this and the next: 1 = won, rev, doc, pending. */
static struct store_script put_script = {
    .name = "breaker put",
    .body = LUA_READ LUA_WRITE "local h = redis.call('HMGET', KEYS[1], 'rev', 'pending')\n"
                               "local rev, doc = h[1] or '0', read(KEYS[1])\n"
                               "if not string.match(rev, '^%d+$') or (rev ~= '0' and doc == '') then\n"
                               "  return redis.error_reply('ERR the document is damaged: ' .. KEYS[1])\n"
                               "end\n"
                               "if rev == ARGV[1] then\n"
                               "  write(KEYS[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5], ARGV[6], ARGV[7])\n"
                               "  return {1, ARGV[2], '', ARGV[3]}\n"
                               "end\n"
                               "return {0, rev, doc, h[2] or '0'}\n",
};

/* Writes over nothing, an older one, or exactly the damaged thing that was seen. ARGV: as above (the first is not used), then 1 if
 * something damaged was seen, its rev, its doc. */
static struct store_script over_script = {
    .name = "breaker restore",
    .body = LUA_READ LUA_WRITE
    "local kind = redis.call('TYPE', KEYS[1]).ok\n"
    "if kind == 'hash' then\n"
    "  local h = redis.call('HMGET', KEYS[1], 'rev', 'pending')\n"
    "  local rev, doc = h[1] or '', read(KEYS[1])\n"
    "  local damaged = ARGV[8] == '1' and rev == ARGV[9] and doc == ARGV[10]\n"
    "  if not damaged and string.match(rev, '^%d+$') and tonumber(rev) >= tonumber(ARGV[2]) then\n"
    "    return {rev == ARGV[2] and doc == ARGV[4] and 1 or 0, rev, doc, h[2] or '0'}\n"
    "  end\n"
    "end\n"
    "write(KEYS[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5], ARGV[6], ARGV[7])\n"
    "local t = redis.call('TIME')\n"
    "redis.call('HSET', KEYS[1], 'began', t[1] * 1000 + math.floor(t[2] / 1000))\n"
    "return {1, ARGV[2], '', ARGV[3]}\n",
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
    F_PASSED,
    F_FIRST,
    F_SINCE,
    F_RETRY,
    F_SEEN,
    F_AGE,
    F_N
};

static bool shaped(const redisReply *r)
{
    if (r->type != REDIS_REPLY_ARRAY || r->elements != F_N)
        return false;
    for (size_t i = 0; i < F_N; i++)
        if (r->element[i]->type != (i <= F_PENDING || i == F_SEEN ? REDIS_REPLY_STRING : REDIS_REPLY_INTEGER))
            return false;
    return r->element[F_SEEN]->len % SEEN_BYTES == 0;
}

void breaker_state_totals(const redisReply *reply, struct breaker_totals *ret)
{
    redisReply *const *r = reply->element;
    *ret = (struct breaker_totals){.calls = u32(r[F_CALLS]),
                                   .failures = u32(r[F_FAILURES]),
                                   .slow = u32(r[F_SLOW]),
                                   .consecutive = u32(r[F_RUN]),
                                   .passed = (uint64_t)r[F_PASSED]->integer,
                                   .first_failure_ms = r[F_FIRST]->integer,
                                   .run_since_ms = r[F_SINCE]->integer,
                                   .retry_until_ms = r[F_RETRY]->integer};
    const unsigned char *seen = (const unsigned char *)r[F_SEEN]->str;
    for (size_t i = 0; i < r[F_SEEN]->len; i += SEEN_BYTES)
        breaker_totals_vote(ret, seen[i + 5], seen[i + 6] & 128);
}

static void next_in_line(struct shell *sh);

static void on_flushed(void *ctx, enum store_status st, const redisReply *reply)
{
    struct node *n = ctx;
    struct breaker_flushed f = {0};
    struct breaker doc;
    void *message = NULL;
    breaker_line_leave(&n->sh->line);
    if (n->sh->stopped) {
        breaker_release(n);
        return;
    }
    log_store_error(n, "flush", st, reply ? reply->str : "");
    if (st == STORE_OK && shaped(reply)) {
        redisReply *const *r = reply->element;
        f.ok = true;
        breaker_state_totals(reply, &f.totals);
        if (r[F_AGE]->integer >= 0) /* Redis' clock may differ from ours: only the difference counts */
            f.totals.began_ms = n->t.io->now_ms(&n->t) - r[F_AGE]->integer;
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
    next_in_line(n->sh);
    wire_free(message);
    breaker_release(n);
}

int breaker_state_args(struct breaker_flush_args *a, const struct breaker_rule *rule, const struct breaker_delta *d,
                       uint64_t have_epoch)
{
    struct breaker_span span = breaker_span_of(rule);
    int64_t ttl_ms = span.per_ms * 2 * BREAKER_BUCKETS;
    const int64_t values[FLUSH_NUMBERS] = {(int64_t)have_epoch,
                                           0,
                                           span.per_ms,
                                           ttl_ms > WINDOW_TTL_MIN_MS ? ttl_ms : WINDOW_TTL_MIN_MS,
                                           span.size,
                                           d->calls,
                                           d->failures,
                                           d->slow,
                                           d->passed,
                                           d->lead,
                                           d->tail,
                                           d->lead_since_ms,
                                           d->tail_since_ms,
                                           d->first_failure_ms,
                                           d->retry_until_ms,
                                           d->passed > 0 && !d->late};
    int n = d->calls > 0 ? FLUSH_NUMBERS : 5;
    for (int i = 0; i < n; i++) {
        a->lens[i] = i == 1 ? 0 : (size_t)snprintf(a->num[i], sizeof a->num[i], "%" PRId64, values[i]);
        a->num[i][a->lens[i]] = 0;
        a->args[i] = a->num[i];
    }
    if (d->calls == 0)
        return n;
    for (uint32_t i = 0; i < d->n_reporters; i++)
        breaker_vote_pack(&d->votes[i], &a->votes[i * BREAKER_VOTE_BYTES]);
    a->args[n] = (const char *)a->votes;
    a->lens[n] = d->n_reporters * (size_t)BREAKER_VOTE_BYTES;
    return n + 1;
}

static void send_flush(struct node *n)
{
    struct breaker_flush_args a;
    uint64_t have_epoch = n->t.doc.epoch;
    int n_args = breaker_state_args(&a, &n->t.rule, &n->t.flying, have_epoch);
    metric_add(&flushes, 1);
    n->asked = have_epoch;
    store_eval(n->sh->s->store, &flush_script, on_flushed, n, 2, (const char *[]){n->doc_key, n->window_key}, n_args,
               a.args, a.lens);
}

void breaker_state_flush(struct breaker_target *t, const struct breaker_delta *d, uint64_t have_epoch)
{
    struct node *n = node_of(t);
    (void)d, (void)have_epoch; /* as they are when its turn comes */
    breaker_hold(n);
    if (breaker_line_enter(&n->sh->line, &n->waiter, breaker_target_urgent(t)))
        send_flush(n);
}

void breaker_state_hurry(struct breaker_target *t)
{
    struct node *n = node_of(t);
    breaker_line_hurry(&n->sh->line, &n->waiter);
}

static struct node *node_at(struct breaker_waiter *w)
{
    return (struct node *)((char *)w - offsetof(struct node, waiter));
}

static void next_in_line(struct shell *sh)
{
    for (struct breaker_waiter *w; (w = breaker_line_next(&sh->line));) {
        struct node *n = node_at(w);
        breaker_target_top_up(&n->t);
        send_flush(n);
    }
}

void breaker_state_give_up(struct shell *sh)
{
    for (struct breaker_waiter *w; (w = breaker_line_give_up(&sh->line));)
        breaker_release(node_at(w));
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

static void on_put(void *ctx, enum store_status st, const redisReply *r)
{
    struct node *n = ctx;
    if (!n->sh->stopped) {
        bool fine = st == STORE_OK && r->type == REDIS_REPLY_ARRAY && r->elements == 4 &&
                    r->element[0]->type == REDIS_REPLY_INTEGER && r->element[1]->type == REDIS_REPLY_STRING &&
                    r->element[2]->type == REDIS_REPLY_STRING;
        log_store_error(n, "put", st, r ? r->str : "");
        if (n->t.phase == BREAKER_RESTORING || fine)
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
    char expect[24], epoch[24], until[24], ramp[16];
    snprintf(expect, sizeof expect, "%" PRIu64, b->epoch - 1);
    snprintf(epoch, sizeof epoch, "%" PRIu64, b->epoch);
    snprintf(until, sizeof until, "%" PRId64, b->until_ms);
    snprintf(ramp, sizeof ramp, "%" PRIu32, b->ramp_percent);
    const char *state = sm_name(&breaker_sm, b->state), *key = n->doc_key;
    bool seen = n->damaged_rev != NULL;
    const char *args[] = {expect,
                          epoch,
                          pending ? "1" : "0",
                          data,
                          state,
                          until,
                          ramp,
                          seen ? "1" : "0",
                          seen ? n->damaged_rev : "",
                          seen ? n->damaged_doc : ""};
    const size_t lens[] = {
        strlen(expect),     strlen(epoch),     1, len, strlen(state), strlen(until), strlen(ramp), 1,
        n->damaged_rev_len, n->damaged_doc_len};
    breaker_hold(n);
    if (over)
        metric_add(&restored, 1);
    store_eval(n->sh->s->store, over ? &over_script : &put_script, on_put, n, 1, &key, over ? 10 : 7, args, lens);
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
