/* alert_silence.c - silences from stream STATE, and which of them an alert fits. */
#include "alert/alert_silence.h"
#include "alert/alert_purge.h"
#include "common/clock.h"
#include "common/log.h"
#include "common/matcher.h"
#include "common/subjects.h"
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <uthash.h>

#define RESYNC_MS 600000

struct silence {
    PB(Silence) * s;
    struct matchers *matchers;
    UT_hash_handle hh;
};
struct alert_silences {
    struct service *service;
    struct bus_watch *watch;
    struct silence *by_id;
    loop_cb changed, synced;
    void *ctx;
};

static void forget(struct alert_silences *x, struct silence *i)
{
    HASH_DEL(x->by_id, i);
    matchers_free(i->matchers);
    wire_free(i->s);
    free(i);
}

static PB(Silence) * copy(const PB(Silence) * s, struct err *e)
{
    size_t len = 0;
    void *data = wire_pack(s, &len, e);
    PB(Silence) *c = data ? wire_unpack(PB_DESC(silence), data, len, e) : NULL;
    free(data);
    return c;
}

/* Takes `s`, also if it fails. */
static bool take(struct alert_silences *x, PB(Silence) * s, struct err *e)
{
    struct silence *was;
    HASH_FIND_STR(x->by_id, s->id, was);
    if (was && was->s->revision >= s->revision) {
        wire_free(s);
        return true;
    }
    if (!was && HASH_COUNT(x->by_id) >= ALERT_SILENCES_MAX) {
        err_set(e, "there are %d silences already", ALERT_SILENCES_MAX);
        wire_free(s);
        return false;
    }
    struct silence *i = calloc(1, sizeof *i);
    struct matchers *m = i ? matchers_new((const char *const *)s->matchers, s->n_matchers, e) : NULL;
    if (!m) {
        if (!i)
            err_set(e, "out of memory");
        free(i);
        wire_free(s);
        return false;
    }
    if (was)
        forget(x, was);
    *i = (struct silence){.s = s, .matchers = m};
    HASH_ADD_KEYPTR(hh, x->by_id, i->s->id, strlen(i->s->id), i);
    x->changed(x->ctx);
    return true;
}

bool alert_silences_add(struct alert_silences *x, const PB(Silence) * s, struct err *e)
{
    PB(Silence) *c = copy(s, e);
    return c && take(x, c, e);
}

static void on_silence(void *ctx, const struct bus_msg *m)
{
    struct alert_silences *x = ctx;
    struct err e;
    const char *id = subject_tail(m->subject, SUBJECT_SILENCE);
    PB(Silence) *s = wire_unpack(PB_DESC(silence), m->data, m->len, &e);
    if (s && (!id || strcmp(s->id, id) != 0)) {
        err_set(&e, "the subject names another silence");
        wire_free(s);
        s = NULL;
    }
    if (!s || !take(x, s, &e))
        service_bad_input(x->service, "silence", m, e.text);
}

static void on_synced(void *ctx)
{
    const struct alert_silences *x = ctx;
    x->synced(x->ctx);
}

struct alert_silences *alert_silences_open(struct service *s, loop_cb changed, loop_cb synced, void *ctx)
{
    struct alert_silences *x = calloc(1, sizeof *x);
    if (!x)
        return NULL;
    *x = (struct alert_silences){.service = s, .changed = changed, .synced = synced, .ctx = ctx};
    x->watch = bus_watch(s->bus, SUBJECT_SILENCE ">", RESYNC_MS, on_silence, on_synced, x);
    if (!x->watch) {
        free(x);
        return NULL;
    }
    return x;
}

void alert_silences_close(struct alert_silences *x)
{
    if (!x)
        return;
    bus_watch_close(x->watch);
    while (x->by_id)
        forget(x, x->by_id);
    free(x);
}

/* ---- questions ---- */

static bool in_force(const PB(Silence) * s, int64_t now_ms)
{
    return s->starts_unix_ms <= now_ms && now_ms < s->ends_unix_ms;
}

const PB(Silence) * alert_silences_fit(const struct alert_silences *x, const PB(Alert) * a, int64_t now_ms)
{
    const PB(Silence) *best = NULL;
    for (const struct silence *i = x->by_id; i; i = i->hh.next)
        if (in_force(i->s, now_ms) && (!best || i->s->ends_unix_ms > best->ends_unix_ms) &&
            matchers_fit(i->matchers, a))
            best = i->s;
    return best;
}

const PB(Silence) * alert_silences_find(const struct alert_silences *x, const char *id)
{
    struct silence *i;
    HASH_FIND_STR(x->by_id, id, i);
    return i ? i->s : NULL;
}

static int by_start(const void *a, const void *b)
{
    const PB(Silence) *const *x = a, *const *y = b;
    int64_t d = (*x)->starts_unix_ms - (*y)->starts_unix_ms;
    return d ? (d > 0) - (d < 0) : strcmp((*x)->id, (*y)->id);
}

size_t alert_silences_list(const struct alert_silences *x, int64_t now_ms, const PB(Silence) * *ret, size_t max)
{
    size_t n = 0;
    for (const struct silence *i = x->by_id; i && n < max; i = i->hh.next)
        if (now_ms < i->s->ends_unix_ms)
            ret[n++] = i->s;
    qsort(ret, n, sizeof *ret, by_start);
    return n;
}

size_t alert_silences_in_force(const struct alert_silences *x, int64_t now_ms)
{
    size_t n = 0;
    for (const struct silence *i = x->by_id; i; i = i->hh.next)
        n += in_force(i->s, now_ms);
    return n;
}

bool alert_silences_turned(const struct alert_silences *x, int64_t from_ms, int64_t to_ms)
{
    for (const struct silence *i = x->by_id; i; i = i->hh.next)
        if ((i->s->starts_unix_ms > from_ms && i->s->starts_unix_ms <= to_ms) ||
            (i->s->ends_unix_ms > from_ms && i->s->ends_unix_ms <= to_ms))
            return true;
    return false;
}

void alert_silences_tidy(struct alert_silences *x, int64_t now_ms, bool purge)
{
    struct silence *i, *next;
    HASH_ITER(hh, x->by_id, i, next)
    {
        if (now_ms - i->s->ends_unix_ms < ALERT_SILENCE_KEEP_MS)
            continue;
        char subject[SUBJECT_MAX_LEN];
        snprintf(subject, sizeof subject, "%s%s", SUBJECT_SILENCE, i->s->id);
        if (purge)
            alert_purge(x->service->bus, subject);
        forget(x, i);
    }
}
