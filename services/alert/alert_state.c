/* alert_state.c - problems and alerts remembered, in Redis and here.
 *
 * Redis: `redoubt:{al:<hash of dedup_key>}` is a hash with the problem (rev, firing, severity, told, repeats), and below the same tag
 * `...:<alert id>` says how far one alert is: `n` to be told, `q` only to be recorded, `d<channel>` done. Both go by themselves after a while.
 * Whoever decides reads both, decides, and writes both if the problem's rev is still the one that was read; else decides again.
 *
 * Without Redis this process goes by its own memory; it may tell twice what another replica has told, but nothing is left untold. */
#include "alert/alert_state.h"
#include "alert/alert_room.h"
#include "common/clock.h"
#include "common/log.h"
#include <assert.h>
#include <inttypes.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <uthash.h>

#define PROBLEMS_MAX  1024
#define ALERTS_MAX    4096
#define PROBLEM_TTL   "604800000" /* a week after the last word of it, in ms */
#define ALERT_TTL     "86400000"
#define ASK_TIMES_MAX 8
#define KEY_MAX       192

/* The key's field `rev` makes two replicas that decide at once take turns. */
#define FIELDS "'rev','firing','severity','told','repeats'"
static const char read_body[] = "return {redis.call('HMGET',KEYS[1]," FIELDS "), redis.call('GET',KEYS[2])}";
static const char write_body[] =
    "if (redis.call('HGET',KEYS[1],'rev') or '0') ~= ARGV[1] then "
    "  return {redis.call('HMGET',KEYS[1]," FIELDS "), redis.call('GET',KEYS[2])} "
    "end "
    "redis.call('HSET',KEYS[1],'rev',ARGV[2],'firing',ARGV[3],'severity',ARGV[4],'told',ARGV[5],'repeats',ARGV[6]) "
    "redis.call('PEXPIRE',KEYS[1],ARGV[7]) "
    "redis.call('SET',KEYS[2],ARGV[8],'PX',ARGV[9]) "
    "return 1";

struct ask;
struct problem {
    char *key;
    struct alert_group group;
    struct ask *first, **last; /* one at a time, in order */
    UT_hash_handle hh;
};
/* How far an alert is, as this process knows it. */
struct seen {
    char id[65];
    char progress[NAME_MAX_LEN + 2];
    UT_hash_handle hh;
};
struct alert_memory {
    struct store *store;
    struct store_script read, write;
    struct problem *problems;
    struct seen *seen;
    struct log_limit refused;
    int asks; /* answers of the store still to come */
    bool closed;
};
struct ask {
    struct ask *next;
    struct alert_memory *memory;
    struct problem *problem;
    char id[65];
    int severity;
    bool resolved;
    int times;
    uint64_t rev; /* that the present decision stands on */
    char progress[NAME_MAX_LEN + 2];
    struct alert_group decided;
    struct alert_recall recall;
    alert_recall_cb cb;
    void *ctx;
};

/* ---- here ---- */

static void forget_oldest(struct alert_memory *m)
{
    struct problem *p = HASH_COUNT(m->problems) > PROBLEMS_MAX ? m->problems : NULL;
    while (p && p->first) /* in use */
        p = p->hh.next;
    if (p) {
        HASH_DEL(m->problems, p);
        free(p->key);
        free(p);
    }
    if (HASH_COUNT(m->seen) > ALERTS_MAX) {
        struct seen *s = m->seen;
        HASH_DEL(m->seen, s);
        free(s);
    }
}

/* Found or new, and the last to be forgotten. */
static struct problem *problem_of(struct alert_memory *m, const char *key)
{
    struct problem *p;
    HASH_FIND_STR(m->problems, key, p);
    if (p) {
        HASH_DEL(m->problems, p);
    } else {
        p = calloc(1, sizeof *p);
        if (!p || !(p->key = strdup(key))) {
            free(p);
            return NULL;
        }
        p->last = &p->first;
    }
    HASH_ADD_KEYPTR(hh, m->problems, p->key, strlen(p->key), p);
    forget_oldest(m);
    return p;
}

static void remember(struct alert_memory *m, const char *id, const char *progress)
{
    struct seen *s;
    HASH_FIND_STR(m->seen, id, s);
    if (!s) {
        s = calloc(1, sizeof *s);
        if (!s)
            return;
        snprintf(s->id, sizeof s->id, "%s", id);
        HASH_ADD_STR(m->seen, id, s);
        forget_oldest(m);
    }
    snprintf(s->progress, sizeof s->progress, "%s", progress);
}

static const char *remembered(struct alert_memory *m, const char *id)
{
    struct seen *s;
    HASH_FIND_STR(m->seen, id, s);
    return s ? s->progress : "";
}

/* ---- in Redis ---- */

static void keys_of(const char *dedup_key, const char *id, char problem[static KEY_MAX], char alert[static KEY_MAX])
{
    unsigned char hash[16];
    char hex[33];
    crypto_generichash(hash, sizeof hash, (const unsigned char *)dedup_key, strlen(dedup_key), NULL, 0);
    sodium_bin2hex(hex, sizeof hex, hash, sizeof hash);
    snprintf(problem, KEY_MAX, "redoubt:{al:%s}", hex);
    snprintf(alert, KEY_MAX, "redoubt:{al:%s}:%s", hex, id);
}

static int64_t number(const redisReply *r)
{
    return r && r->type == REDIS_REPLY_STRING ? strtoll(r->str, NULL, 10) : 0;
}

/* What `read` and a refused `write` return. False if it is nothing that we wrote. */
static bool parse(const redisReply *r, uint64_t *ret_rev, struct alert_group *ret,
                  char progress[static NAME_MAX_LEN + 2])
{
    if (r->type != REDIS_REPLY_ARRAY || r->elements < 1 || r->element[0]->type != REDIS_REPLY_ARRAY ||
        r->element[0]->elements != 5)
        return false;
    redisReply *const *f = r->element[0]->element;
    *ret_rev = (uint64_t)number(f[0]);
    *ret = (struct alert_group){.known = *ret_rev > 0,
                                .firing = number(f[1]) == 1,
                                .severity = (int)number(f[2]),
                                .told_ms = number(f[3]),
                                .repeats = (uint32_t)number(f[4])};
    const redisReply *p = r->elements > 1 ? r->element[1] : NULL;
    snprintf(progress, NAME_MAX_LEN + 2, "%s", p && p->type == REDIS_REPLY_STRING ? p->str : "");
    return true;
}

static void complain(struct alert_memory *m, enum store_status st, const redisReply *r)
{
    uint64_t held;
    if (st != STORE_CLOSED && log_allowed(&m->refused, clock_mono_ms(), 10000, &held))
        log_warn("memory of problems out of reach: going by this process' own",
                 F_STR("why", st == STORE_ERROR && r && r->str ? r->str : store_status_text(st)),
                 F_INT("held_back", held));
}

/* ---- one ask ---- */

static void begin(struct ask *a);

static void finish(struct ask *a)
{
    struct alert_memory *m = a->memory;
    struct problem *p = a->problem;
    assert(p->first == a);
    struct ask *next = a->next;
    p->first = next;
    if (!next)
        p->last = &p->first;
    a->cb(a->ctx, &a->recall); /* without a next one the problem may be forgotten in there */
    free(a);
    if (next && !m->closed)
        begin(next);
}

/* What was decided for this alert before holds; true if there is such a thing. */
static bool decided_before(struct ask *a, const char *progress)
{
    if (*progress == 'd') {
        a->recall.delivered = true;
        snprintf(a->recall.channel, sizeof a->recall.channel, "%s", progress + 1);
    } else if (*progress == 'n') {
        a->recall.verdict = ALERT_NOTIFY;
    } else if (*progress == 'q') {
        a->recall.verdict = ALERT_REPEAT;
    } else {
        return false;
    }
    return true;
}

static void decide(struct ask *a, bool sure)
{
    a->decided = a->problem->group;
    uint32_t repeats = a->decided.repeats;
    a->recall.verdict = alert_group_decide(&a->decided, a->severity, a->resolved, sure, clock_shared_ms());
    a->recall.repeats = a->recall.verdict == ALERT_REPEAT ? a->decided.repeats : repeats;
    snprintf(a->progress, sizeof a->progress, "%s", a->recall.verdict == ALERT_NOTIFY ? "n" : "q");
}

static void keep(struct ask *a)
{
    a->problem->group = a->decided;
    remember(a->memory, a->id, a->progress);
}

static void alone(struct ask *a)
{
    decide(a, false);
    keep(a);
    finish(a);
}

static void on_answer(struct ask *a, const redisReply *r);

static void on_written(void *ctx, enum store_status st, const redisReply *r)
{
    struct ask *a = ctx;
    struct alert_memory *m = a->memory;
    m->asks--;
    if (st == STORE_OK && r->type != REDIS_REPLY_INTEGER && ++a->times < ASK_TIMES_MAX) {
        on_answer(a, r); /* another replica was first */
    } else {
        if (st != STORE_OK)
            complain(m, st, r);
        keep(a);
        finish(a);
    }
    if (m->closed)
        alert_memory_close(m);
}

static void write_down(struct ask *a)
{
    struct alert_memory *m = a->memory;
    char problem[KEY_MAX], alert[KEY_MAX], expect[24], rev[24], severity[16], told[24], repeats[16];
    keys_of(a->problem->key, a->id, problem, alert);
    snprintf(expect, sizeof expect, "%" PRIu64, a->rev);
    snprintf(rev, sizeof rev, "%" PRIu64, a->rev + 1);
    snprintf(severity, sizeof severity, "%d", a->decided.severity);
    snprintf(told, sizeof told, "%" PRId64, a->decided.told_ms);
    snprintf(repeats, sizeof repeats, "%" PRIu32, a->decided.repeats);
    const char *keys[] = {problem, alert};
    const char *args[] = {expect,      rev,      a->decided.firing ? "1" : "0", severity, told, repeats, PROBLEM_TTL,
                          a->progress, ALERT_TTL};
    m->asks++;
    store_eval(m->store, &m->write, on_written, a, 2, keys, 9, args, NULL);
}

static void on_answer(struct ask *a, const redisReply *r)
{
    struct alert_group shared;
    char progress[NAME_MAX_LEN + 2];
    if (!parse(r, &a->rev, &shared, progress)) {
        alone(a);
    } else if (decided_before(a, progress)) {
        remember(a->memory, a->id, progress);
        finish(a);
    } else {
        if (shared.known) /* an emptied Redis does not make us forget */
            a->problem->group = shared;
        decide(a, true);
        write_down(a);
    }
}

static void on_read(void *ctx, enum store_status st, const redisReply *r)
{
    struct ask *a = ctx;
    struct alert_memory *m = a->memory;
    m->asks--;
    if (st == STORE_OK) {
        on_answer(a, r);
    } else {
        complain(m, st, r);
        alone(a);
    }
    if (m->closed)
        alert_memory_close(m);
}

static void begin(struct ask *a)
{
    struct alert_memory *m = a->memory;
    if (decided_before(a, remembered(m, a->id))) {
        finish(a);
    } else if (!store_up(m->store)) {
        alone(a);
    } else {
        char problem[KEY_MAX], alert[KEY_MAX];
        keys_of(a->problem->key, a->id, problem, alert);
        m->asks++;
        store_eval(m->store, &m->read, on_read, a, 2, (const char *const[]){problem, alert}, 0, NULL, NULL);
    }
}

void alert_memory_decide(struct alert_memory *m, const PB(Alert) * alert, const struct set_route *route,
                         alert_recall_cb cb, void *ctx)
{
    (void)route;
    struct ask *a = calloc(1, sizeof *a);
    struct problem *p = a ? problem_of(m, alert->dedup_key) : NULL;
    if (!p) { /* out of memory: rather once too often */
        free(a);
        cb(ctx, &(struct alert_recall){.verdict = ALERT_NOTIFY});
        return;
    }
    *a = (struct ask){.memory = m,
                      .problem = p,
                      .severity = (int)alert->severity,
                      .resolved = alert->resolved,
                      .cb = cb,
                      .ctx = ctx};
    snprintf(a->id, sizeof a->id, "%s", alert->id);
    bool idle = !p->first;
    *p->last = a;
    p->last = &a->next;
    if (idle)
        begin(a);
}

void alert_memory_delivered(struct alert_memory *m, const PB(Alert) * alert, const char *channel)
{
    char problem[KEY_MAX], key[KEY_MAX], progress[NAME_MAX_LEN + 2];
    snprintf(progress, sizeof progress, "d%s", channel);
    remember(m, alert->id, progress);
    if (!store_up(m->store))
        return;
    keys_of(alert->dedup_key, alert->id, problem, key);
    store_cmd(m->store, NULL, NULL, 5, (const char *const[]){"SET", key, progress, "PX", ALERT_TTL}, NULL);
}

struct firing {
    struct alert_memory *memory;
    alert_firing_cb cb;
    void *ctx;
};

static void on_firing(void *ctx, enum store_status st, const redisReply *r)
{
    struct firing f = *(struct firing *)ctx;
    free(ctx);
    f.memory->asks--;
    f.cb(f.ctx, st == STORE_OK && number(r) == 1);
    if (f.memory->closed)
        alert_memory_close(f.memory);
}

void alert_memory_firing(struct alert_memory *m, const char *dedup_key, alert_firing_cb cb, void *ctx)
{
    char problem[KEY_MAX], alert[KEY_MAX];
    struct firing *f = store_up(m->store) ? malloc(sizeof *f) : NULL;
    if (!f) {
        cb(ctx, false);
        return;
    }
    *f = (struct firing){m, cb, ctx};
    keys_of(dedup_key, "", problem, alert);
    m->asks++;
    store_cmd(m->store, on_firing, f, 3, (const char *const[]){"HGET", problem, "firing"}, NULL);
}

struct alert_memory *alert_memory_open(struct alert_room *r)
{
    struct alert_memory *m = calloc(1, sizeof *m);
    if (m)
        *m = (struct alert_memory){.store = r->service->store,
                                   .read = {.name = "alert_read", .body = read_body},
                                   .write = {.name = "alert_write", .body = write_body}};
    return m;
}

void alert_memory_reload(struct alert_memory *m)
{
    (void)m;
}

void alert_memory_close(struct alert_memory *m)
{
    if (!m)
        return;
    m->closed = true;
    if (m->asks > 0)
        return; /* the last answer comes back here */
    while (m->problems) {
        struct problem *p = m->problems;
        while (p->first) { /* behind one that the store has just ended */
            struct ask *a = p->first;
            p->first = a->next;
            a->cb(a->ctx, &a->recall);
            free(a);
        }
        HASH_DEL(m->problems, p);
        free(p->key);
        free(p);
    }
    while (m->seen) {
        struct seen *s = m->seen;
        HASH_DEL(m->seen, s);
        free(s);
    }
    free(m);
}
