/* bus_consume.c - durable push consumers: messages held until they are acknowledged, given back, or dead. */
#include "common/bus_priv.h"
#include "common/clock.h"
#include "common/metric.h"
#include "common/utf8.h"
#include "common/wire.h"
#include <assert.h>
#include <ctype.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define ACK_WAIT_MS    5000
#define ACK_PENDING    1000
#define DEAD_AFTER     10
#define CHECK_EVERY_MS 30000 /* is the consumer still there? */
#define RETRY_MS       1000
#define DEAD_RETRY_MS  30000 /* after a dead letter that was refused */
#define DEAD_PAYLOAD   49152
#define DEAD_HEADERS   64
#define DEAD_BYTES     57344 /* headers are left out beyond it: the letter must fit into a message */
#define TEXT_VALUE_MAX 1024

enum { CONSUMER_NOT_FOUND = 10014, STREAM_NOT_FOUND = 10059 };

METRIC_DEFINE(consumed, METRIC_COUNTER, "redoubt_bus_consumed_total", "Messages got from durable consumers.");
METRIC_DEFINE(redelivered, METRIC_COUNTER, "redoubt_bus_redelivered_total",
              "Messages got from durable consumers more than once.");
METRIC_DEFINE(acked, METRIC_COUNTER, "redoubt_bus_acked_total", "Messages acknowledged.");
METRIC_DEFINE(naked, METRIC_COUNTER, "redoubt_bus_given_back_total", "Messages given back to be delivered again.");
METRIC_DEFINE(stale, METRIC_COUNTER, "redoubt_bus_stale_acks_total",
              "Acknowledgements not sent because the consumer was made anew meanwhile.");
METRIC_DEFINE(dead, METRIC_COUNTER, "redoubt_bus_dead_letters_total",
              "Messages given up and sent to the dead letters.");
METRIC_DEFINE(copies, METRIC_COUNTER, "redoubt_bus_copies_refused_total",
              "Messages of a stream that somebody had JetStream copy into another, dropped.");
METRIC_DEFINE(holding, METRIC_GAUGE, "redoubt_bus_held_messages", "Messages in hand, not acknowledged yet.");

struct bus_hold {
    struct bus *b;          /* NULL: bus or consumer is gone, nothing is sent any more */
    struct bus_consumer *c; /* NULL: as above; or a letter on its way after the consumer was closed */
    natsMsg *m;
    uint64_t deliveries, seq;
    uint64_t born;                            /* the consumer's when the message came */
    enum { OPEN, DYING, ACKED, NAKED } state; /* ACKED, NAKED: said, but not sent yet */
    int64_t delay_ms;
    struct bus_hold *prev, *next;
};

struct bus_consumer {
    struct bus *b;
    struct bus_consumer_opts o; /* strings are copies */
    bus_consume_fn fn;
    void *ctx;
    struct bus_sub *sub;
    char deliver[BUS_INBOX_MAX + 80];
    struct bus_api api;
    struct bus_wait check, progress;
    /* Which consumer on the server: from its time of birth. Sequences of one that was made anew mean other messages, and
     * an old acknowledgement would silently swallow them. 0 = not known yet. */
    uint64_t born;
    bool ready; /* the server's consumer is as it should be, and born is its */
    struct bus_hold *holds;
    struct bus_consumer *prev, *next;
};

/* ---- what is said to the server ---- */

static void say(struct bus *b, natsMsg *m, const char *what)
{
    struct bus_out o = {.subject = natsMsg_GetReply(m), .data = what, .len = strlen(what)};
    struct err e;
    if (o.subject) /* lost with the connection: then it is delivered again */
        (void)bus_send_now(b, &o, NULL, 0, &e);
}

static void say_nak(struct bus *b, natsMsg *m, int64_t delay_ms)
{
    char text[64] = "-NAK";
    if (delay_ms > 0)
        snprintf(text, sizeof text, "-NAK {\"delay\":%" PRId64 "}", delay_ms * 1000000);
    say(b, m, text);
    metric_add(&naked, 1);
}

/* ---- holds ---- */

static void hold_free(struct bus_hold *h)
{
    if (h->c) {
        DL_DELETE(h->c->holds, h);
        if (!h->c->holds)
            bus_wait_at(h->b, &h->c->progress, BUS_NEVER);
    }
    metric_add(&holding, -1);
    if (h->b && h->b->link)
        bus_link_release(h->b->link, h->m);
    else
        natsMsg_Destroy(h->m);
    free(h);
}

/* Sends what was said about h, if it still means the same message, and ends h. */
static void conclude(struct bus_hold *h)
{
    if (h->c && h->born != h->c->born) {
        metric_add(&stale, 1);
    } else if (h->state == ACKED) {
        say(h->b, h->m, "+ACK");
        metric_add(&acked, 1);
    } else {
        say_nak(h->b, h->m, h->delay_ms);
    }
    hold_free(h);
}

static void said(struct bus_hold *h, int state, int64_t delay_ms)
{
    h->state = (unsigned)state;
    h->delay_ms = delay_ms;
    if (!h->b)
        hold_free(h);
    else if (!h->c || h->c->ready)
        conclude(h);
    /* otherwise once the consumer is known to be the same */
}

void bus_ack(struct bus_hold *h)
{
    assert(h->state == OPEN && "a hold is let go once");
    said(h, ACKED, 0);
}

void bus_nak(struct bus_hold *h, int64_t delay_ms, const char *reason)
{
    assert(h->state == OPEN && "a hold is let go once");
    if (h->c && h->deliveries >= h->c->o.dead_after)
        bus_dead(h, reason);
    else
        said(h, NAKED, delay_ms);
}

/* ---- dead letters ---- */

/* The text, cut, with what is not UTF-8 or not printable replaced. */
static char *clean(const char *text, size_t max)
{
    size_t len = strnlen(text, max);
    char *out = malloc(len + 1);
    assert(out && "out of memory for a line of text");
    memcpy(out, text, len);
    out[len] = 0;
    for (size_t at = 0; (at += utf8_valid_until(out + at, len - at)) < len;)
        out[at] = '?';
    return out;
}

static void letter_headers(PB(DeadLetter) * d, natsMsg *m)
{
    const char **keys;
    int n;
    size_t bytes = 0;
    if (natsMsgHeader_Keys(m, &keys, &n) != NATS_OK)
        return;
    d->headers = calloc(DEAD_HEADERS, sizeof *d->headers);
    for (int i = 0; d->headers && i < n && d->n_headers < DEAD_HEADERS; i++) {
        const char *value;
        char *key = clean(keys[i], 64);
        for (char *p = key; *p; p++)
            *p = isalnum((unsigned char)*p) || strchr("_.-", *p) ? (char)tolower((unsigned char)*p) : '_';
        PB(Label) *l = malloc(sizeof *l);
        if (l && *key && natsMsgHeader_Get(m, keys[i], &value) == NATS_OK &&
            (bytes += strlen(key) + strnlen(value, TEXT_VALUE_MAX) + 16) < DEAD_BYTES - DEAD_PAYLOAD) {
            *l = (PB(Label))PB_INIT(LABEL);
            l->key = key;
            l->value = clean(value, TEXT_VALUE_MAX);
            d->headers[d->n_headers++] = l;
        } else {
            free(key);
            free(l);
        }
    }
    free((void *)keys);
}

static void letter_free(PB(DeadLetter) * d)
{
    for (size_t i = 0; i < d->n_headers; i++) {
        free(d->headers[i]->key);
        free(d->headers[i]->value);
        free(d->headers[i]);
    }
    free(d->headers);
    free(d->stream);
    free(d->subject);
    free(d->service);
    free(d->reason);
}

static void on_letter(void *ctx, const struct bus_stored *r)
{
    struct bus_hold *h = ctx;
    if (r->status == BUS_CLOSED) {
        hold_free(h); /* delivered again, to somebody else */
    } else if (r->status == BUS_OK) {
        metric_add(&dead, 1);
        said(h, ACKED, 0);
    } else {
        if (h->b)
            bus_error(h->b, "a dead letter was refused, its message is kept: %s", r->error);
        said(h, NAKED, DEAD_RETRY_MS);
    }
}

void bus_dead(struct bus_hold *h, const char *reason)
{
    assert(h->state == OPEN && "a hold is let go once");
    if (!h->b || !h->c) {
        said(h, NAKED, 0);
        return;
    }
    struct bus *b = h->b;
    struct bus_consumer *c = h->c;
    h->state = DYING;
    PB(DeadLetter) d = PB_INIT(DEAD_LETTER);
    size_t len = (size_t)natsMsg_GetDataLength(h->m);
    d.stream = clean(c->o.stream, 64);
    d.subject = clean(natsMsg_GetSubject(h->m), SUBJECT_MAX_LEN - 1);
    d.stream_sequence = h->seq;
    d.deliveries = h->deliveries > UINT32_MAX ? UINT32_MAX : (uint32_t)h->deliveries;
    d.service = clean(b->o.name, 64);
    d.reason = clean(reason && *reason ? reason : "no reason given", TEXT_VALUE_MAX);
    d.died_unix_ms = clock_wall_ms();
    d.payload = (ProtobufCBinaryData){.data = (uint8_t *)natsMsg_GetData(h->m),
                                      .len = len < DEAD_PAYLOAD ? len : DEAD_PAYLOAD};
    letter_headers(&d, h->m);
    char subject[SUBJECT_MAX_LEN], id[SUBJECT_MAX_LEN];
    snprintf(subject, sizeof subject, "%s%s", SUBJECT_DEAD, c->o.stream);
    /* The same for every try of every replica: a letter is kept once. */
    snprintf(id, sizeof id, "dead/%s/%s/%" PRIx64 "/%" PRIu64, c->o.stream, c->o.durable, h->born, h->seq);
    struct err e = {""};
    size_t n;
    void *packed = wire_pack(&d, &n, &e);
    if (packed) {
        struct bus_out o = {.subject = subject, .id = id, .type = wire_type(&d), .data = packed, .len = n};
        bus_store(b, &o, 0, on_letter, h);
    } else {
        bus_error(b, "a dead letter could not be written, its message is kept: %s", e.text);
        said(h, NAKED, DEAD_RETRY_MS);
    }
    free(packed);
    letter_free(&d);
}

/* ---- messages ---- */

static bool on_message(void *ctx, natsMsg *m)
{
    struct bus_consumer *c = ctx;
    struct bus_view v;
    bus_view(&v, m);
    if (!v.m.stream) /* not from the server's consumer: somebody published to the deliver subject */
        return false;
    if (v.copied) {
        metric_add(&copies, 1);
        bus_error(c->b, "a copy of a stream's message was put into %s as %.100s: it counts for nothing", c->o.stream,
                  v.m.subject);
        say(c->b, m, "+TERM");
        return false;
    }
    struct bus_hold *h = malloc(sizeof *h);
    assert(h && "out of memory for a message");
    *h = (struct bus_hold){
        .b = c->b, .c = c, .m = m, .deliveries = v.m.deliveries, .seq = v.m.stream_seq, .born = c->born};
    if (!c->holds)
        bus_wait_at(c->b, &c->progress, clock_mono_ms() + c->o.ack_wait_ms / 3);
    DL_APPEND(c->holds, h);
    metric_add(&holding, 1);
    metric_add(&consumed, 1);
    metric_add(&redelivered, v.m.deliveries > 1);
    c->fn(c->ctx, &v.m, h); /* h and c may be gone from here on */
    return true;
}

/* What was queued for a consumer that is closed: another replica shall have it at once. */
static bool give_back(void *ctx, natsMsg *m)
{
    say_nak(ctx, m, 0);
    return false;
}

static void on_progress(struct bus_wait *w)
{
    struct bus_consumer *c = (struct bus_consumer *)((char *)w - offsetof(struct bus_consumer, progress));
    struct bus_hold *h;
    if (c->ready) {
        DL_FOREACH(c->holds, h)
        {
            if ((h->state == OPEN || h->state == DYING) && h->born == c->born)
                say(c->b, h->m, "+WPI");
        }
    }
    bus_wait_at(c->b, w, clock_mono_ms() + c->o.ack_wait_ms / 3);
}

/* ---- the server's consumer ---- */

static void check_in(struct bus_consumer *c, int64_t ms)
{
    bus_wait_at(c->b, &c->check, clock_mono_ms() + ms);
}

static uint64_t birth(const json_t *info)
{
    const char *created = json_string_value(json_object_get(info, "created"));
    uint64_t h = UINT64_C(14695981039346656037); /* FNV-1a */
    for (const char *p = created ? created : ""; *p; p++)
        h = (h ^ (unsigned char)*p) * UINT64_C(1099511628211);
    return h ? h : 1;
}

static void ready(struct bus_consumer *c, const json_t *info)
{
    uint64_t was = c->born;
    struct bus_hold *h, *next;
    c->born = birth(info);
    c->ready = true;
    check_in(c, CHECK_EVERY_MS);
    DL_FOREACH_SAFE(c->holds, h, next)
    {
        if (was == 0 && h->born == 0) /* came before the first answer of all */
            h->born = c->born;
        if (h->state == ACKED || h->state == NAKED)
            conclude(h);
    }
}

static void not_ready(struct bus_consumer *c, const char *what, const struct bus_answer *a)
{
    if (a->status == BUS_REFUSED && a->err_code == STREAM_NOT_FOUND)
        bus_streams_check(c->b);
    bus_error(c->b, "consumer %s of %s: %s: %s (error %d); trying again", c->o.durable, c->o.stream, what, a->error,
              a->err_code);
    c->ready = false;
    check_in(c, RETRY_MS);
}

static void on_made(void *ctx, const struct bus_answer *a)
{
    struct bus_consumer *c = ctx;
    if (a->status == BUS_OK)
        ready(c, a->json);
    else
        not_ready(c, "cannot be made", a);
}

static void make(struct bus_consumer *c)
{
    json_t *config = json_pack("{s:s, s:s, s:s, s:s, s:s, s:s, s:i, s:i, s:o}", "durable_name", c->o.durable,
                               "deliver_subject", c->deliver, "deliver_group", c->o.durable, "deliver_policy", "all",
                               "ack_policy", "explicit", "replay_policy", "instant", "max_deliver", -1,
                               "max_ack_pending", c->o.max_ack_pending, "ack_wait", bus_json_ns(c->o.ack_wait_ms));
    json_object_set_new(config, "filter_subject", json_string(c->o.filter));
    json_t *body = json_pack("{s:s, s:o}", "stream_name", c->o.stream, "config", config);
    bus_api_call(c->b, &c->api, body, on_made, c, "$JS.API.CONSUMER.DURABLE.CREATE.%s.%s", c->o.stream, c->o.durable);
}

static bool is(const json_t *config, const char *key, const char *value)
{
    const char *have = json_string_value(json_object_get(config, key));
    return strcmp(have ? have : "", value) == 0;
}

static void on_info(void *ctx, const struct bus_answer *a)
{
    struct bus_consumer *c = ctx;
    if (a->status == BUS_REFUSED && a->err_code == CONSUMER_NOT_FOUND) {
        make(c);
        return;
    }
    if (a->status != BUS_OK) {
        not_ready(c, "is not known", a);
        return;
    }
    const json_t *k = json_object_get(a->json, "config");
    bool same = is(k, "deliver_subject", c->deliver) && is(k, "deliver_group", c->o.durable) &&
                is(k, "filter_subject", c->o.filter) &&
                json_integer_value(json_object_get(k, "ack_wait")) == (json_int_t)c->o.ack_wait_ms * 1000000 &&
                json_integer_value(json_object_get(k, "max_ack_pending")) == c->o.max_ack_pending;
    if (same)
        ready(c, a->json);
    else
        make(c); /* updates what may be updated; otherwise the server says what is in the way */
}

static void on_check(struct bus_wait *w)
{
    struct bus_consumer *c = (struct bus_consumer *)((char *)w - offsetof(struct bus_consumer, check));
    if (c->b->up && !bus_api_busy(&c->api))
        bus_api_call(c->b, &c->api, NULL, on_info, c, "$JS.API.CONSUMER.INFO.%s.%s", c->o.stream, c->o.durable);
}

void bus_consumers_up(struct bus *b)
{
    struct bus_consumer *c;
    DL_FOREACH(b->consumers, c)
    check_in(c, 0);
}

void bus_consumers_down(struct bus *b)
{
    struct bus_consumer *c;
    DL_FOREACH(b->consumers, c)
    {
        c->ready = false;
        bus_api_cancel(&c->api);
        bus_wait_at(b, &c->check, BUS_NEVER);
    }
}

/* ---- open and close ---- */

static void consumer_free(struct bus_consumer *c)
{
    free((char *)c->o.stream);
    free((char *)c->o.durable);
    free((char *)c->o.filter);
    free(c);
}

struct bus_consumer *bus_consume(struct bus *b, const struct bus_consumer_opts *o, bus_consume_fn fn, void *ctx)
{
    struct bus_consumer *c = calloc(1, sizeof *c);
    if (!c)
        return NULL;
    *c = (struct bus_consumer){.b = b, .o = *o, .fn = fn, .ctx = ctx, .check.on_due = on_check};
    c->progress.on_due = on_progress;
    c->o.stream = strdup(o->stream);
    c->o.durable = strdup(o->durable);
    c->o.filter = strdup(o->filter);
    if (o->ack_wait_ms <= 0)
        c->o.ack_wait_ms = ACK_WAIT_MS;
    if (o->max_ack_pending <= 0)
        c->o.max_ack_pending = ACK_PENDING;
    if (o->dead_after == 0)
        c->o.dead_after = DEAD_AFTER;
    if (!c->o.stream || !c->o.durable || !c->o.filter || !bus_subject_ok(o->filter, true) ||
        strchr(o->durable, '.') || strchr(o->stream, '.') ||
        (size_t)snprintf(c->deliver, sizeof c->deliver, "%s.deliver.%s.%s", b->o.inbox_prefix, o->stream,
                         o->durable) >= sizeof c->deliver ||
        !(c->sub = bus_subscribe_raw(b, c->deliver, c->o.durable, on_message, c))) {
        consumer_free(c);
        return NULL;
    }
    DL_APPEND(b->consumers, c);
    if (b->up)
        check_in(c, 0);
    return c;
}

void bus_consumer_close(struct bus_consumer *c)
{
    if (!c)
        return;
    struct bus *b = c->b;
    struct bus_hold *h, *next;
    bus_unsubscribe_rest(c->sub, give_back); /* before the NAKs, so that they go to somebody else */
    DL_FOREACH_SAFE(c->holds, h, next)
    {
        DL_DELETE(c->holds, h);
        bool same = h->born == c->born;
        h->c = NULL;
        if (h->state == OPEN) {
            if (same)
                say_nak(b, h->m, 0);
            h->b = NULL; /* its owner still has it */
        } else if (h->state == DYING) {
            if (!same)
                h->b = NULL;
        } else {
            if (same)
                conclude(h);
            else
                hold_free(h);
        }
    }
    bus_api_cancel(&c->api);
    bus_wait_end(b, &c->check);
    bus_wait_end(b, &c->progress);
    DL_DELETE(b->consumers, c);
    consumer_free(c);
}
