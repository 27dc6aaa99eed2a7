/* channel_pagerduty.c - tells people by PagerDuty's Events API v2: a trigger for what is there, a resolve for what is over.
 *
 * PagerDuty keeps incidents by dedup_key, which is the problem's own: so the same event twice is one, and an end closes what its beginning has
 * opened. A group of few goes out as an event for each problem, or their ends would close nothing; a digest, and a group of many, as one trigger
 * that a person closes. */
#include "alert/alert_room.h"
#include "alert/alert_text.h"
#include "alert/alert_web.h"
#include "common/clock.h"
#include "common/log.h"
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define URL           "https://events.pagerduty.com/v2/enqueue"
#define SUMMARY_CHARS 1024
#define FIELD_CHARS   255
#define TEXT_BYTES    (64 * 1024) /* of the 512 KB that an event may have */
#define EACH_MAX      20          /* problems of a group that are told one by one */
#define LINKS_MAX     10
#define TEST_KEY      "redoubt-self-test" /* resolved, never triggered: taken like any event, and nobody is called */

/* ---- an event ---- */

static const char *severity_of(int severity)
{
    switch (severity) {
    case REDOUBT__V1__SEVERITY__SEVERITY_CRITICAL:
        return "critical";
    case REDOUBT__V1__SEVERITY__SEVERITY_HIGH:
        return "error";
    case REDOUBT__V1__SEVERITY__SEVERITY_WARNING:
        return "warning";
    default:
        return "info";
    }
}

static void put(json_t *o, const char *key, const char *value, size_t units, size_t bytes)
{
    if (value && *value)
        json_object_set_new(o, key, alert_web_text(value, units, bytes));
}

static void put_time(json_t *o, const char *key, int64_t unix_ms)
{
    char text[CLOCK_TEXT_MAX];
    if (unix_ms > 0)
        json_object_set_new(o, key, json_string(clock_text(unix_ms, text)));
}

/* Labels that hold an address are links: a runbook, a dashboard. */
static json_t *links_of(const PB(Alert) * a)
{
    json_t *list = json_array();
    for (size_t i = 0; i < a->n_labels && json_array_size(list) < LINKS_MAX; i++) {
        const char *value = a->labels[i]->value;
        bool address = strncmp(value, "https://", 8) == 0 || strncmp(value, "http://", 7) == 0;
        if (address && !strpbrk(value, " \t\r\n\"<>"))
            json_array_append_new(list, json_pack("{s:s, s:s}", "href", value, "text", a->labels[i]->key));
    }
    return list;
}

static json_t *details_of(const PB(Alert) * a, const char *note)
{
    json_t *o = json_object(), *actions = json_array(), *labels = json_object();
    put(o, "detail", a->detail, TEXT_BYTES, TEXT_BYTES);
    put(o, "note", note, FIELD_CHARS, TEXT_BYTES);
    for (size_t i = 0; i < a->n_actions_taken; i++)
        json_array_append_new(actions, json_string(a->actions_taken[i]));
    for (size_t i = 0; i < a->n_labels; i++)
        json_object_set_new(labels, a->labels[i]->key, json_string(a->labels[i]->value));
    json_object_set_new(o, "actions_taken", actions);
    json_object_set_new(o, "labels", labels);
    json_object_set_new(o, "manual_intervention_required", json_boolean(a->manual_intervention_required));
    put(o, "agent", a->agent, FIELD_CHARS, TEXT_BYTES);
    put(o, "target", a->target, FIELD_CHARS, TEXT_BYTES);
    put_time(o, "evidence", a->evidence_unix_ms);
    put(o, "alert", a->id, FIELD_CHARS, TEXT_BYTES);
    return o;
}

static json_t *payload_of(const struct alert_message *m, const PB(Alert) * a)
{
    char title[ALERT_TITLE_MAX];
    json_t *p = json_object();
    put(p, "summary", a ? a->summary : alert_text_headline(m, title), SUMMARY_CHARS, TEXT_BYTES);
    const char *source = !a ? "" : *a->target ? a->target : *a->agent ? a->agent : a->source;
    put(p, "source", *source ? source : "redoubt", FIELD_CHARS, TEXT_BYTES);
    json_object_set_new(p, "severity", json_string(severity_of(a ? (int)a->severity : m->severity)));
    put_time(p, "timestamp", a ? a->raised_unix_ms : m->to_unix_ms);
    if (a) {
        put(p, "component", a->source, FIELD_CHARS, TEXT_BYTES);
        put(p, "group", a->agent, FIELD_CHARS, TEXT_BYTES);
        put(p, "class", alert_text_failure(a), FIELD_CHARS, TEXT_BYTES);
        json_object_set_new(p, "custom_details", details_of(a, m->note));
        return p;
    }
    char *body = alert_text_body(m);
    json_t *o = json_object();
    put(o, "text", body, TEXT_BYTES, TEXT_BYTES);
    json_object_set_new(o, "total", json_integer((json_int_t)m->total));
    json_object_set_new(p, "custom_details", o);
    free(body);
    return p;
}

char *alert_pagerduty_payload(const struct alert_message *m, const PB(Alert) * a, const char *routing_key)
{
    bool test = a && a->self_test, resolve = test || (a ? a->resolved : m->resolved);
    json_t *o = json_pack("{s:s, s:s, s:s, s:s}", "routing_key", routing_key, "event_action",
                          resolve ? "resolve" : "trigger", "client", "redoubt", "dedup_key",
                          test ? TEST_KEY
                          : a  ? a->dedup_key
                               : m->id);
    char *text = NULL;
    if (o && !resolve) {
        json_t *links = a ? links_of(a) : json_array();
        json_object_set_new(o, "payload", payload_of(m, a));
        if (json_array_size(links) > 0)
            json_object_set(o, "links", links);
        json_decref(links);
    }
    if (o)
        text = json_dumps(o, JSON_COMPACT);
    json_decref(o);
    return text;
}

/* ---- the call ---- */

/* "invalid event: 'payload.source' is missing or blank". A wrong key needs a person, whatever the message. */
static void judge(const struct http_result *r, struct alert_outcome *o, char *detail, size_t room)
{
    char message[120];
    if (r->status == 202)
        return;
    json_t *answer = json_loadb(r->body, r->len, 0, NULL);
    const char *first = json_string_value(json_array_get(json_object_get(answer, "errors"), 0));
    alert_web_said(r, "message", message, sizeof message);
    snprintf(detail, room, "%s%s%.160s", message, *message && first ? ": " : "", first ? first : "");
    if (r->status == 400 && first && strcasestr(first, "routing") && strcasestr(first, "key"))
        o->fault = ALERT_FAULT_LOGIN;
    else if (r->status >= 200 && r->status <= 299)
        o->fault = ALERT_FAULT_ANSWER; /* accepted is 202: whoever says something else is not PagerDuty */
    json_decref(answer);
}

/* Events of one attempt, one after another. */
struct events {
    struct alert_job *job;
    int64_t until_ms;
    size_t n, at;
    char *list[EACH_MAX];
};

static void end(struct events *e, const struct alert_outcome *o, const char *detail)
{
    alert_job_end(e->job, o, detail);
    for (size_t i = 0; i < e->n; i++) {
        if (e->list[i])
            sodium_memzero(e->list[i], strlen(e->list[i])); /* it holds the key */
        free(e->list[i]);
    }
    free(e);
}

static void post_next(struct events *e);

static void on_done(void *ctx, const struct http_result *r)
{
    struct events *e = ctx;
    char detail[256], place[300];
    struct alert_outcome o = alert_web_outcome(r, judge, detail, sizeof detail);
    if (alert_classify(ALERT_PROTO_HTTP, &o) == ALERT_CLASS_ACCEPTED && ++e->at < e->n &&
        !e->job->channel->room->closing) {
        post_next(e);
        return;
    }
    if (e->n > 1) {
        snprintf(place, sizeof place, "%.240s (%zu of %zu events taken)", detail, e->at, e->n);
        /* Those that were taken are no harm when they come again. */
        if (e->at < e->n && o.fault == ALERT_FAULT_NONE && o.status == 202)
            o.fault = ALERT_FAULT_OTHER;
        end(e, &o, place);
        return;
    }
    end(e, &o, detail);
}

static void post_next(struct events *e)
{
    const struct set_channel *s = &e->job->channel->set;
    int64_t left = e->until_ms - clock_mono_ms();
    if (left <= 0) {
        char detail[64];
        snprintf(detail, sizeof detail, "%zu of %zu events taken in time", e->at, e->n);
        end(e, &(struct alert_outcome){ALERT_FAULT_TIMEOUT, 0, -1}, detail);
        return;
    }
    const char *body = e->list[e->at];
    struct alert_web w = {.url = *s->url ? s->url : URL, .body = body, .len = strlen(body)};
    alert_web_start(e->job->channel, &w, left, on_done, e);
}

static void send_events(struct alert_channel *c, struct alert_job *j)
{
    const struct alert_message *m = j->message;
    bool each =
        m->kind == ALERT_MESSAGE_ONE || (m->kind == ALERT_MESSAGE_GROUP && m->n == m->total && m->n <= EACH_MAX);
    struct events *e = calloc(1, sizeof *e);
    bool ok = e != NULL;
    if (ok) {
        e->job = j;
        e->until_ms = clock_mono_ms() + j->timeout_ms;
        e->n = each ? m->n : 1;
        for (size_t i = 0; i < e->n; i++)
            ok = (e->list[i] = alert_pagerduty_payload(m, each ? m->alerts[i] : NULL, c->set.token)) && ok;
    }
    static const struct alert_outcome out = {ALERT_FAULT_OTHER, 0, -1};
    if (ok)
        post_next(e);
    else if (e)
        end(e, &out, "out of memory");
    else
        alert_job_end(j, &out, "out of memory");
}

/* ---- acknowledgements ---- */

static void on_acked(void *ctx, const struct http_result *r)
{
    struct alert_channel *c = ctx;
    char detail[256];
    struct alert_outcome o = alert_web_outcome(r, judge, detail, sizeof detail);
    if (alert_classify(ALERT_PROTO_HTTP, &o) != ALERT_CLASS_ACCEPTED)
        log_warn("an acknowledgement was not passed on", F_STR("channel", c->set.name), F_STR("why", detail));
    alert_channel_unref(c);
}

/* For an incident that is not there PagerDuty takes it, and does nothing. */
static void pass_on(struct alert_channel *c, const PB(Alert) * a, const char *by)
{
    json_t *o = json_pack("{s:s, s:s, s:s, s:s}", "routing_key", c->set.token, "event_action", "acknowledge",
                          "dedup_key", a->dedup_key, "client", "redoubt");
    char *text = o ? json_dumps(o, JSON_COMPACT) : NULL;
    json_decref(o);
    if (!text || c->room->closing) {
        log_warn("an acknowledgement was not passed on", F_STR("channel", c->set.name), F_STR("by", by));
    } else {
        struct alert_web w = {.url = *c->set.url ? c->set.url : URL, .body = text, .len = strlen(text)};
        alert_channel_ref(c);
        alert_web_start(c, &w, c->set.attempt_ms, on_acked, c);
    }
    if (text)
        sodium_memzero(text, strlen(text));
    free(text);
}

const struct alert_kind alert_kind_pagerduty = {
    .name = "pagerduty", .proto = ALERT_PROTO_HTTP, .at_once = 4, .send = send_events, .acked = pass_on};
