/* alert_web.c - POST, and what came of it. */
#include "alert/alert_web.h"
#include "alert/alert_room.h"
#include "alert/alert_text.h"
#include "common/utf8.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define RESPONSE_MAX 16384
#define DETAIL_MAX   256

struct call {
    struct alert_job *job;
    alert_web_judge judge;
};

struct alert_outcome alert_web_outcome(const struct http_result *r, alert_web_judge judge, char *detail, size_t room)
{
    struct alert_outcome o = alert_outcome_of(r);
    detail[0] = 0;
    /* Where only the status counts, it does not matter how long the rest is. */
    if (r->fault == HTTP_TOO_LARGE && !judge)
        o.fault = ALERT_FAULT_NONE;
    if (r->fault != HTTP_OK && o.fault != ALERT_FAULT_NONE) {
        snprintf(detail, room, "%s", r->error);
        return o;
    }
    char said[DETAIL_MAX - 32] = "";
    if (judge)
        judge(r, &o, said, sizeof said);
    snprintf(detail, room, *said ? "HTTP %d: %s" : "HTTP %d", r->status, said);
    return o;
}

static void on_done(void *ctx, const struct http_result *r)
{
    struct call *c = ctx;
    char detail[DETAIL_MAX];
    struct alert_outcome o = alert_web_outcome(r, c->judge, detail, sizeof detail);
    alert_job_end(c->job, &o, detail);
    free(c);
}

void alert_web_start(struct alert_channel *c, const struct alert_web *w, int64_t timeout_ms, http_done done,
                     void *ctx)
{
    static const char *const json[] = {"Content-Type: application/json", NULL};
    const struct set_channel *s = &c->set;
    struct http_tls tls = {.ca_file = s->ca_file, .cert_file = s->cert_file, .key_file = s->key_file};
    bool own_tls = *s->ca_file || *s->cert_file;
    struct http_request r = {.method = "POST",
                             .url = w->url,
                             .headers = w->headers ? w->headers : json,
                             .body = w->body,
                             .body_len = w->len,
                             .user = w->user,
                             .password = w->password,
                             .connect_timeout_ms = timeout_ms,
                             .timeout_ms = timeout_ms,
                             .max_response = RESPONSE_MAX,
                             .tls = own_tls ? &tls : NULL};
    (void)http_start(c->room->service->http, &r, NULL, done, ctx);
}

void alert_web_post(struct alert_job *j, const struct alert_web *w)
{
    struct call *c = malloc(sizeof *c);
    if (!c) {
        alert_job_end(j, &(struct alert_outcome){ALERT_FAULT_OTHER, 0, -1}, "out of memory");
        return;
    }
    *c = (struct call){j, w->judge};
    alert_web_start(j->channel, w, j->timeout_ms, on_done, c);
}

void alert_web_post_json(struct alert_job *j, const char *url, char *json, alert_web_judge judge)
{
    if (json)
        alert_web_post(j, &(struct alert_web){.url = url, .body = json, .len = strlen(json), .judge = judge});
    else
        alert_job_end(j, &(struct alert_outcome){ALERT_FAULT_OTHER, 0, -1}, "out of memory");
    free(json);
}

size_t alert_web_cut(const char *s, size_t max_units)
{
    size_t len = strlen(s), at = 0;
    for (size_t units = 0; at < len;) {
        uint32_t code;
        size_t n = utf8_next(s + at, len - at, &code);
        units += code > 0xffff ? 2 : 1;
        if (n == 0 || units > max_units)
            break;
        at += n;
    }
    return at;
}

const char *alert_web_rest(const char *body)
{
    const char *end = strchr(body, '\n');
    return end ? end + strspn(end, "\n") : "";
}

json_t *alert_web_text(const char *s, size_t max_units, size_t max_bytes)
{
    static const char more[] = "...";
    size_t n = alert_web_cut(s, max_units);
    if (n > max_bytes)
        n = alert_text_cut(s, max_bytes, max_bytes);
    if (!s[n])
        return json_stringn(s, n);
    size_t less = alert_web_cut(s, max_units > 3 ? max_units - 3 : 0);
    if (less + 3 > max_bytes)
        less = alert_text_cut(s, max_bytes, max_bytes > 3 ? max_bytes - 3 : 0);
    char *text = malloc(less + sizeof more);
    if (!text)
        return NULL;
    memcpy(text, s, less);
    memcpy(text + less, more, sizeof more);
    json_t *value = json_string(text);
    free(text);
    return value;
}

const char *alert_web_said(const struct http_result *r, const char *key, char *out, size_t size)
{
    json_t *answer = json_loadb(r->body, r->len, 0, NULL);
    const char *text = json_string_value(json_object_get(answer, key));
    alert_text_clean(text ? text : "", out, size);
    json_decref(answer);
    return out;
}
