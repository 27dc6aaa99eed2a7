/* channel_nats.c - tells people, or programs, by a NATS subject: accepted when a stream has it, or when the server has given it to somebody.
 *
 * The message goes out as a request, so that a stream that keeps the subject acknowledges it, and a server without anybody who listens says so
 * at once. Behind it goes a question to ourselves by way of the same server: when that is answered, the message was dealt with before. Whether
 * a stream keeps the subject, so that its acknowledgement has to be waited for, JetStream is asked now and then. */
#include "alert/alert_body.h"
#include "alert/alert_channel.h"
#include "alert/alert_room.h"
#include "common/clock.h"
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define ROUND_TRIP   "$SRV.PING.redoubt-alert"
#define STREAM_NAMES "$JS.API.STREAM.NAMES"
#define NAMES_MS     2000   /* who may not ask is not answered */
#define KNOWN_MS     60000  /* then it is asked again: streams come and go; */
#define UNKNOWN_MS   600000 /* or after this, if nobody answers */

struct knowledge {
    bool kept; /* by a stream */
    int64_t until_ms;
};
struct post {
    struct alert_channel *channel;
    struct alert_job *job; /* NULL: ended */
    int refs;              /* answers still to come, and one for the start */
    bool echoed, known, kept;
};

static void post_drop(struct post *p)
{
    if (--p->refs > 0)
        return;
    alert_channel_unref(p->channel);
    free(p);
}

static void end(struct post *p, enum alert_fault fault, int status, const char *detail)
{
    struct alert_job *j = p->job;
    p->job = NULL;
    if (j)
        alert_job_end(j, &(struct alert_outcome){fault, status, -1}, detail);
}

/* The server has dealt with it, and no stream will say more. */
static void settle(struct post *p)
{
    if (p->echoed && p->known && !p->kept)
        end(p, ALERT_FAULT_NONE, 0, "given to those who listen; no stream keeps it");
}

static void on_echo(void *ctx, enum bus_status st, const struct bus_msg *m)
{
    struct post *p = ctx;
    (void)m;
    if (st == BUS_OK || st == BUS_NO_RESPONDERS)
        p->echoed = true;
    else
        end(p, st == BUS_TIMEOUT ? ALERT_FAULT_TIMEOUT : ALERT_FAULT_CUT, 0, "the NATS server does not answer");
    settle(p);
    post_drop(p);
}

static void on_names(void *ctx, enum bus_status st, const struct bus_msg *m)
{
    struct post *p = ctx;
    struct knowledge *k = p->channel->priv;
    json_t *answer = st == BUS_OK ? json_loadb(m->data, m->len, 0, NULL) : NULL;
    /* No, or no answer though the server answers: whoever may not ask goes by what is said to the message itself. */
    p->kept = json_array_size(json_object_get(answer, "streams")) > 0;
    if (st != BUS_TIMEOUT || p->echoed)
        *k = (struct knowledge){p->kept, clock_mono_ms() + (st == BUS_TIMEOUT ? UNKNOWN_MS : KNOWN_MS)};
    json_decref(answer);
    p->known = true;
    settle(p);
    post_drop(p);
}

/* {"stream": "X", "seq": 7, "duplicate": true}, {"error": {"code": 503, "description": "..."}}, or whatever a listener has answered. */
static void take_answer(struct post *p, const struct bus_msg *m)
{
    json_t *answer = json_loadb(m->data, m->len, 0, NULL), *error = json_object_get(answer, "error");
    const char *stream = json_string_value(json_object_get(answer, "stream"));
    char detail[300];
    if (json_is_object(error)) {
        const char *why = json_string_value(json_object_get(error, "description"));
        json_int_t code = json_integer_value(json_object_get(error, "code"));
        snprintf(detail, sizeof detail, "the stream refuses it: %.200s", why ? why : "no reason given");
        end(p, ALERT_FAULT_NONE, code >= 400 && code <= 599 ? (int)code : 500, detail);
    } else if (stream) {
        snprintf(detail, sizeof detail, "stream %.100s, sequence %" JSON_INTEGER_FORMAT "%s", stream,
                 json_integer_value(json_object_get(answer, "seq")),
                 json_is_true(json_object_get(answer, "duplicate")) ? ", which had it already" : "");
        end(p, ALERT_FAULT_NONE, 0, detail);
    } else {
        end(p, ALERT_FAULT_NONE, 0, "a listener has answered");
    }
    json_decref(answer);
}

static void on_answer(void *ctx, enum bus_status st, const struct bus_msg *m)
{
    struct post *p = ctx;
    switch (st) {
    case BUS_OK:
        if (p->job)
            take_answer(p, m);
        break;
    case BUS_NO_RESPONDERS:
        end(p, ALERT_FAULT_CONNECT, 0, "nobody listens on the subject, and no stream keeps it");
        break;
    case BUS_TIMEOUT:
        end(p, ALERT_FAULT_TIMEOUT, 0,
            p->kept ? "the stream does not acknowledge it" : "the NATS server does not answer");
        break;
    case BUS_REFUSED:
        end(p, ALERT_FAULT_NONE, 413, "it is larger than the NATS server allows");
        break;
    case BUS_CLOSED:
        end(p, ALERT_FAULT_OTHER, 0, "the service ends");
        break;
    }
    post_drop(p);
}

static void ask_names(struct post *p, struct bus *b)
{
    json_t *body = json_pack("{s:s}", "subject", p->channel->set.subject);
    char *text = body ? json_dumps(body, JSON_COMPACT) : NULL;
    struct bus_out o = {.subject = STREAM_NAMES, .data = text ? text : "", .len = text ? strlen(text) : 0};
    p->refs++;
    bus_request(b, &o, p->job->timeout_ms < NAMES_MS ? p->job->timeout_ms : NAMES_MS, on_names, p);
    free(text);
    json_decref(body);
}

static void publish(struct alert_job *j, const struct alert_body *body)
{
    struct alert_channel *c = j->channel;
    const struct knowledge *k = c->priv;
    struct bus *b = c->room->service->bus;
    struct post *p = bus_up(b) ? calloc(1, sizeof *p) : NULL;
    if (!p) {
        enum alert_fault fault = bus_up(b) ? ALERT_FAULT_OTHER : ALERT_FAULT_CONNECT;
        alert_job_end(j, &(struct alert_outcome){fault, 0, -1},
                      bus_up(b) ? "out of memory" : "not connected to NATS");
        return;
    }
    *p = (struct post){.channel = c, .job = j, .refs = 3, .known = clock_mono_ms() < k->until_ms, .kept = k->kept};
    alert_channel_ref(c);
    struct bus_out o = {.subject = c->set.subject, .id = body->id, .data = body->text, .len = body->len};
    struct bus_out echo = {.subject = ROUND_TRIP, .data = "", .len = 0};
    bus_request(b, &o, j->timeout_ms, on_answer, p);
    bus_request(b, &echo, j->timeout_ms, on_echo, p);
    if (!p->known)
        ask_names(p, b);
    post_drop(p);
}

static void send_nats(struct alert_channel *c, struct alert_job *j)
{
    (void)c;
    alert_body_make(j, publish);
}

static int open_nats(struct alert_channel *c)
{
    c->priv = calloc(1, sizeof(struct knowledge));
    return c->priv ? 0 : -1;
}

static void close_nats(struct alert_channel *c)
{
    free(c->priv);
}

const struct alert_kind alert_kind_nats = {.name = "nats",
                                           .proto = ALERT_PROTO_HAND,
                                           .at_once = 16,
                                           .send = send_nats,
                                           .open = open_nats,
                                           .close = close_nats};
