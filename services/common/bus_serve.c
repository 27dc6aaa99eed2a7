/* bus_serve.c - NATS' service protocol (ADR-32): $SRV.PING, INFO and STATS; the metrics travel in STATS. */
#include "common/bus_priv.h"
#include "common/clock.h"
#include "common/metric.h"
#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum verb { PING, INFO, STATS, VERBS };
enum level { EVERY, NAME, ID, LEVELS };
static const char *const verbs[VERBS] = {"PING", "INFO", "STATS"};
static const char *const types[VERBS] = {"io.nats.micro.v1.ping_response", "io.nats.micro.v1.info_response",
                                         "io.nats.micro.v1.stats_response"};

struct bus_serving {
    struct bus *b;
    const struct bus_service *s;
    int64_t started_ms;
    struct endpoint {
        struct bus_serving *v;
        struct bus_sub *sub;
        enum verb verb;
    } at[VERBS][LEVELS];
};

static void add_metric(const struct metric *m, void *ctx)
{
    json_object_set_new(ctx, m->name, json_integer(metric_get(m)));
}

/* Names of endpoints are [A-Za-z0-9_-]; ours are subjects. */
static json_t *endpoint_name(const char *subject)
{
    const char *tail = subject_tail(subject, SUBJECT_PREFIX);
    char name[SUBJECT_MAX_LEN];
    snprintf(name, sizeof name, "%s", tail ? tail : subject);
    for (char *p = name; *p; p++)
        if (!isalnum((unsigned char)*p) && !strchr("_-", *p))
            *p = *p == '.' ? '-' : *p == '>' || *p == '*' ? 'x' : '_';
    return json_string(name);
}

static json_t *endpoints(const struct bus_serving *v, enum verb verb)
{
    json_t *list = json_array();
    for (const char *const *subject = v->s->endpoints; subject && *subject; subject++) {
        const struct bus_sub *s;
        const char *queue = "";
        uint64_t received = 0;
        DL_FOREACH(v->b->subs, s)
        {
            if (strcmp(s->subject, *subject) == 0) {
                received += s->received;
                queue = s->queue ? s->queue : queue;
            }
        }
        json_t *e = json_object();
        json_object_set_new(e, "name", endpoint_name(*subject));
        json_object_set_new(e, "subject", json_string(*subject));
        json_object_set_new(e, "queue_group", json_string(queue));
        if (verb == INFO) {
            json_object_set_new(e, "metadata", json_object());
        } else {
            json_object_set_new(e, "num_requests", json_integer((json_int_t)received));
            json_object_set_new(e, "num_errors", json_integer(0));
            json_object_set_new(e, "last_error", json_string(""));
            json_object_set_new(e, "processing_time", json_integer(0));
            json_object_set_new(e, "average_processing_time", json_integer(0));
        }
        json_array_append_new(list, e);
    }
    if (verb == STATS) {
        /* Metrics are the process', not an endpoint's: they are told once, with the first. */
        json_t *first = json_array_get(list, 0), *data = json_object();
        metric_each(add_metric, data);
        if (first) {
            json_object_set_new(first, "data", data);
        } else {
            json_array_append_new(list, json_pack("{s:s, s:s, s:i, s:o}", "name", "metrics", "subject", "$SRV.STATS",
                                                  "num_requests", 0, "data", data));
        }
    }
    return list;
}

static void on_request(void *ctx, const struct bus_msg *m)
{
    const struct endpoint *at = ctx;
    const struct bus_serving *v = at->v;
    if (!m->reply)
        return;
    json_t *j = json_pack("{s:s, s:s, s:s, s:s, s:{}}", "type", types[at->verb], "name", v->s->name, "id", v->s->id,
                          "version", v->s->version, "metadata");
    if (at->verb == INFO)
        json_object_set_new(j, "description", json_string(v->s->description));
    if (at->verb == STATS) {
        char text[CLOCK_TEXT_MAX];
        json_object_set_new(j, "started", json_string(clock_text(v->started_ms, text)));
    }
    if (at->verb != PING)
        json_object_set_new(j, "endpoints", endpoints(v, at->verb));
    char *text = json_dumps(j, JSON_COMPACT);
    json_decref(j);
    struct err e;
    struct bus_out o = {.subject = m->reply, .data = text, .len = text ? strlen(text) : 0};
    if (text && bus_publish(v->b, &o, &e))
        bus_error(v->b, "answer to %s: %s", m->subject, e.text);
    free(text);
}

int bus_serve(struct bus *b, const struct bus_service *s)
{
    struct bus_serving *v = calloc(1, sizeof *v);
    if (!v)
        return -1;
    *v = (struct bus_serving){.b = b, .s = s, .started_ms = clock_wall_ms()};
    bus_serve_end(b);
    b->serving = v;
    for (int verb = 0; verb < VERBS; verb++) {
        for (int level = 0; level < LEVELS; level++) {
            char subject[SUBJECT_MAX_LEN];
            snprintf(subject, sizeof subject, "$SRV.%s%s%s%s%s", verbs[verb], level >= NAME ? "." : "",
                     level >= NAME ? s->name : "", level >= ID ? "." : "", level >= ID ? s->id : "");
            struct endpoint *at = &v->at[verb][level];
            *at = (struct endpoint){.v = v, .verb = (enum verb)verb};
            at->sub = bus_subscribe(b, subject, NULL, on_request, at);
            if (!at->sub) {
                bus_serve_end(b);
                return -1;
            }
        }
    }
    return 0;
}

void bus_serve_end(struct bus *b)
{
    struct bus_serving *v = b->serving;
    if (!v)
        return;
    for (int verb = 0; verb < VERBS; verb++)
        for (int level = 0; level < LEVELS; level++)
            bus_unsubscribe(v->at[verb][level].sub);
    b->serving = NULL;
    free(v);
}
