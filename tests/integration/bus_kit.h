/* bus_kit.h - what the tests of the bus share: a loop, a server, buses, and whoever counts what comes. */
#ifndef REDOUBT_TESTS_BUS_KIT_H
#define REDOUBT_TESTS_BUS_KIT_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka wants those before it. */
#include "../harness.h"
#include "common/bus.h"
#include "common/clock.h"
#include "common/metric.h"
#include "common/subjects.h"
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Runs the loop until `cond` holds; fails the test after the generous limit. */
#define KIT_WAIT(kit, cond) KIT_WAIT_MS(kit, cond, HARNESS_WAIT_MS)
#define KIT_WAIT_MS(kit, cond, limit_ms)                                                                             \
    do {                                                                                                             \
        int64_t end_ms_ = clock_mono_ms() + (limit_ms);                                                              \
        while (!(cond)) {                                                                                            \
            if (clock_mono_ms() >= end_ms_)                                                                          \
                fail_msg("waited %d ms in vain for: %s", (int)(limit_ms), #cond);                                    \
            kit_turn(kit);                                                                                           \
        }                                                                                                            \
    } while (0)

struct kit {
    struct harness *h;
    struct harness_proc *nats;
    struct loop loop;
    char last_error[ERR_TEXT_MAX];
    int errors;
    int open; /* buses */
};

/* One bus and what it told. */
struct kit_bus {
    struct kit *k;
    struct bus *b;
    int ups, downs;
    bool closed;
    void *user; /* the test's own */
};

static inline void kit_turn(struct kit *k)
{
    bool never = false;
    (void)loop_run_until(&k->loop, &never, 2);
}

static inline void kit_error(void *ctx, const char *what)
{
    struct kit_bus *kb = ctx;
    kb->k->errors++;
    snprintf(kb->k->last_error, sizeof kb->k->last_error, "%s", what);
    if (getenv("VERBOSE"))
        fprintf(stderr, "bus: %s\n", what);
}

static inline void kit_up(void *ctx)
{
    ((struct kit_bus *)ctx)->ups++;
}

static inline void kit_down(void *ctx)
{
    ((struct kit_bus *)ctx)->downs++;
}

static inline void kit_closed(void *ctx)
{
    ((struct kit_bus *)ctx)->closed = true;
    ((struct kit_bus *)ctx)->k->open--;
}

static inline int kit_setup(void **state)
{
    struct kit *k = calloc(1, sizeof *k);
    k->h = harness_open();
    k->nats = harness_nats_later(k->h, "nats", NULL);
    if (loop_init(&k->loop))
        return -1;
    *state = k;
    return 0;
}

static inline int kit_teardown(void **state)
{
    struct kit *k = *state;
    harness_close(k->h);
    if (k->open > 0) /* the test failed half-way: the library's threads still use the loop */
        return 0;
    loop_done(&k->loop);
    free(k);
    return 0;
}

static inline void kit_open(struct kit *k, struct kit_bus *kb, struct bus_opts o)
{
    struct err e = {""};
    *kb = (struct kit_bus){.k = k};
    o.url = o.url ? o.url : k->nats->url;
    o.name = o.name ? o.name : "test";
    o.inbox_prefix = o.inbox_prefix ? o.inbox_prefix : "_INBOX_test";
    o.on_up = kit_up;
    o.on_down = kit_down;
    o.on_error = kit_error;
    o.ctx = kb;
    kb->b = bus_open(&k->loop, &o, &e);
    if (!kb->b)
        fail_msg("bus_open: %s", e.text);
    k->open++;
}

static inline void kit_open_up(struct kit *k, struct kit_bus *kb)
{
    kit_open(k, kb, (struct bus_opts){0});
    KIT_WAIT(k, kb->ups == 1);
    assert_true(bus_up(kb->b));
}

static inline void kit_close(struct kit_bus *kb)
{
    bus_close(kb->b, 2000, kit_closed, kb);
    KIT_WAIT(kb->k, kb->closed);
    kb->b = NULL;
}

/* Counts messages and keeps the last. */
struct kit_box {
    int n;
    char subject[SUBJECT_MAX_LEN], data[128], id[128], type[128], source[128], stream[64], traceparent[64];
    size_t len;
    uint64_t seq, pending;
    struct bus_sub *sub;     /* unsubscribed by itself after `stop_at` messages */
    struct bus_watch *watch; /* the same */
    int stop_at;
};

static inline void kit_copy(char *to, size_t size, const char *from)
{
    snprintf(to, size, "%s", from ? from : "");
}

static inline void kit_box(void *ctx, const struct bus_msg *m)
{
    struct kit_box *x = ctx;
    x->n++;
    kit_copy(x->subject, sizeof x->subject, m->subject);
    kit_copy(x->id, sizeof x->id, m->id);
    kit_copy(x->type, sizeof x->type, m->type);
    kit_copy(x->source, sizeof x->source, m->source);
    kit_copy(x->stream, sizeof x->stream, m->stream);
    kit_copy(x->traceparent, sizeof x->traceparent, m->traceparent);
    x->len = m->len;
    x->seq = m->stream_seq;
    x->pending = m->pending;
    snprintf(x->data, sizeof x->data, "%.*s", (int)m->len, (const char *)m->data);
    if (x->stop_at && x->n == x->stop_at) {
        bus_unsubscribe(x->sub);
        bus_watch_close(x->watch);
        x->sub = NULL;
        x->watch = NULL;
    }
}

/* Answers of requests. */
struct kit_answer {
    int n;
    enum bus_status st;
    char data[65536], subject[SUBJECT_MAX_LEN], id[128];
    uint64_t seq;
};

static inline void kit_answer(void *ctx, enum bus_status st, const struct bus_msg *m)
{
    struct kit_answer *a = ctx;
    a->n++;
    a->st = st;
    if (m) {
        snprintf(a->data, sizeof a->data, "%.*s", (int)m->len, (const char *)m->data);
        kit_copy(a->subject, sizeof a->subject, m->subject);
        kit_copy(a->id, sizeof a->id, m->id);
        a->seq = m->stream_seq;
    }
}

/* Outcomes of stores. */
struct kit_stored {
    int n, ok, refused, timeout, closed, duplicate;
    uint64_t last_seq;
    char stream[64], error[256];
};

static inline void kit_stored(void *ctx, const struct bus_stored *r)
{
    struct kit_stored *s = ctx;
    s->n++;
    s->ok += r->status == BUS_OK;
    s->refused += r->status == BUS_REFUSED;
    s->timeout += r->status == BUS_TIMEOUT;
    s->closed += r->status == BUS_CLOSED;
    s->duplicate += r->duplicate;
    s->last_seq = r->seq;
    kit_copy(s->stream, sizeof s->stream, r->stream);
    kit_copy(s->error, sizeof s->error, r->error);
}

static inline struct bus_out kit_out(const char *subject, const char *id, const char *text)
{
    return (struct bus_out){.subject = subject, .id = id, .data = text, .len = strlen(text)};
}

static inline void kit_publish(struct kit_bus *kb, const char *subject, const char *text)
{
    struct err e = {""};
    struct bus_out o = kit_out(subject, NULL, text);
    if (bus_publish(kb->b, &o, &e))
        fail_msg("bus_publish: %s", e.text);
}

/* A request, to JetStream for example; its answer as text. */
static inline const char *kit_ask(struct kit_bus *kb, struct kit_answer *a, const char *subject, const char *text)
{
    struct bus_out o = kit_out(subject, NULL, text);
    do { /* whoever answers may have subscribed over another connection, just now */
        *a = (struct kit_answer){0};
        bus_request(kb->b, &o, HARNESS_WAIT_MS, kit_answer, a);
        assert_int_equal(a->n, 0);
        KIT_WAIT(kb->k, a->n == 1);
    } while (a->st == BUS_NO_RESPONDERS);
    assert_int_equal(a->st, BUS_OK);
    return a->data;
}

/* A number of the answer that follows `"key":`. -1 if it is not there. */
static inline long kit_number(const char *json, const char *key)
{
    char pattern[64];
    snprintf(pattern, sizeof pattern, "\"%s\":", key);
    const char *at = strstr(json, pattern);
    return at ? strtol(at + strlen(pattern), NULL, 10) : -1;
}

/* Value of a metric of this process; 0 if it was never used. */
struct kit_metric {
    const char *name;
    int64_t value;
};
static inline void kit_metric_is(const struct metric *m, void *ctx)
{
    struct kit_metric *k = ctx;
    if (strcmp(m->name, k->name) == 0)
        k->value = metric_get(m);
}
static inline int64_t kit_metric(const char *name)
{
    struct kit_metric k = {name, 0};
    metric_each(kit_metric_is, &k);
    return k.value;
}

#endif
