/* channel_ntfy.c - tells people by ntfy, of ntfy.sh or one's own: a message on a topic, published as JSON. */
#include "alert/alert_body.h"
#include "alert/alert_text.h"
#include "alert/alert_web.h"
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MESSAGE_BYTES 4000 /* ntfy takes 4,096; what is longer would come as a file */
#define TITLE_BYTES   250
#define URL_MAX       1100

/* ntfy: 1 min .. 5 max, 3 is the default. Tags of these names are shown as pictures. */
static int priority_of(int severity, bool resolved)
{
    if (resolved)
        return 3;
    return severity == REDOUBT__V1__SEVERITY__SEVERITY_CRITICAL  ? 5
           : severity == REDOUBT__V1__SEVERITY__SEVERITY_HIGH    ? 4
           : severity == REDOUBT__V1__SEVERITY__SEVERITY_WARNING ? 3
                                                                 : 2;
}

static const char *tag_of(int severity, bool resolved)
{
    if (resolved)
        return "white_check_mark";
    return severity == REDOUBT__V1__SEVERITY__SEVERITY_CRITICAL  ? "rotating_light"
           : severity == REDOUBT__V1__SEVERITY__SEVERITY_HIGH    ? "red_circle"
           : severity == REDOUBT__V1__SEVERITY__SEVERITY_WARNING ? "warning"
                                                                 : "information_source";
}

static json_t *publication(const char *topic, const char *title, const char *text, int severity, bool resolved)
{
    return json_pack("{s:s, s:o, s:o, s:i, s:[s]}", "topic", topic, "title",
                     alert_web_text(title, TITLE_BYTES, TITLE_BYTES), "message",
                     alert_web_text(text, MESSAGE_BYTES, MESSAGE_BYTES), "priority", priority_of(severity, resolved),
                     "tags", tag_of(severity, resolved));
}

static char *dump(json_t *o)
{
    char *text = o ? json_dumps(o, JSON_COMPACT) : NULL;
    json_decref(o);
    return text;
}

char *alert_ntfy_payload(const struct alert_message *m, const char *topic)
{
    char title[ALERT_TITLE_MAX];
    char *body = alert_text_body(m), *payload = NULL;
    if (body)
        payload =
            dump(publication(topic, alert_text_headline(m, title), alert_web_rest(body), m->severity, m->resolved));
    free(body);
    return payload;
}

/* "https://host/topic" -> "https://host/" and "topic". */
static bool split(const char *url, char root[static URL_MAX], const char **ret_topic)
{
    size_t len = strcspn(url, "?#");
    while (len > 0 && url[len - 1] == '/')
        len--;
    const char *host = strstr(url, "://");
    size_t at = len;
    while (at > 0 && url[at - 1] != '/')
        at--;
    if (!host || len + 2 > URL_MAX || at == len || url + at <= host + 3)
        return false;
    memcpy(root, url, len);
    root[len] = 0;
    memmove(root + at + 1, root + at, len - at + 1);
    root[at] = 0;
    *ret_topic = root + at + 1;
    return true;
}

/* {"id":"sPs71M8A2T","time":1643935928,"event":"message","topic":"mytopic",...}; an error is {"code":40101,"http":401,"error":"unauthorized"}. */
static void judge(const struct http_result *r, struct alert_outcome *o, char *detail, size_t room)
{
    char event[32];
    if (r->status < 200 || r->status > 299) {
        alert_web_said(r, "error", detail, room);
        return;
    }
    if (strcmp(alert_web_said(r, "event", event, sizeof event), "message") != 0) {
        o->fault = ALERT_FAULT_ANSWER;
        snprintf(detail, room, "without a message");
    }
}

/* Takes the payload. */
static void post(struct alert_job *j, const char *root, char *payload)
{
    const struct set_channel *s = &j->channel->set;
    char token[1024 + 32];
    const char *headers[] = {"Content-Type: application/json", *s->token ? token : NULL, NULL};
    snprintf(token, sizeof token, "Authorization: Bearer %s", s->token);
    bool login = !*s->token && *s->user;
    if (payload)
        alert_web_post(j, &(struct alert_web){.url = root,
                                              .headers = headers,
                                              .body = payload,
                                              .len = strlen(payload),
                                              .user = login ? s->user : NULL,
                                              .password = login ? s->password : NULL,
                                              .judge = judge});
    else
        alert_job_end(j, &(struct alert_outcome){ALERT_FAULT_OTHER, 0, -1}, "out of memory");
    sodium_memzero(token, sizeof token);
    free(payload);
}

/* A template gives the message's text, or a publication of its own, as JSON; the topic is the channel's either way. */
static void post_body(struct alert_job *j, const struct alert_body *b)
{
    char root[URL_MAX];
    const char *topic = "";
    json_t *own = b->json ? json_loadb(b->text, b->len, 0, NULL) : NULL;
    (void)split(j->channel->set.url, root, &topic);
    if (b->json && !json_is_object(own)) {
        json_decref(own);
        alert_job_end(j, &(struct alert_outcome){ALERT_FAULT_SETTINGS, 0, -1},
                      "template: it gives neither a text nor an object");
        return;
    }
    if (own)
        json_object_set_new(own, "topic", json_string(topic));
    else
        own = publication(topic, b->title, b->text, b->severity, b->resolved);
    post(j, root, dump(own));
}

static void send_ntfy(struct alert_channel *c, struct alert_job *j)
{
    char root[URL_MAX];
    const char *topic;
    if (!split(c->set.url, root, &topic))
        alert_job_end(j, &(struct alert_outcome){ALERT_FAULT_SETTINGS, 0, -1}, "the URL has no topic");
    else if (*c->set.template)
        alert_body_make(j, post_body);
    else
        post(j, root, alert_ntfy_payload(j->message, topic));
}

const struct alert_kind alert_kind_ntfy = {
    .name = "ntfy", .proto = ALERT_PROTO_HTTP, .at_once = 4, .rate_per_min = 60, .burst = 30, .send = send_ntfy};
