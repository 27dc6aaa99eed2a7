/* channel_slack.c - tells people by Slack's incoming webhooks. */
#include "alert/alert_channel.h"
#include "alert/alert_room.h"
#include "alert/alert_text.h"
#include "common/clock.h"
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define HEADER_CHARS  150  /* Slack's limits: of a header, */
#define SECTION_CHARS 3000 /* and of a section's text */
#define TEXT_CHARS    4000 /* `text`: 40,000; nobody reads that in a notification */
#define RESPONSE_MAX  4096

/* Slack's three special characters, escaped; cut at max_chars between, never inside, of what is escaped. */
static char *escaped(const char *s, size_t max_chars)
{
    char *out = malloc(max_chars * 4 + 1);
    size_t n = 0, chars = 0;
    while (out && *s) {
        const char *piece = s;
        size_t len = alert_text_cut(s, 1, 4), shown = 1;
        if (len == 0)
            break;
        if (*s == '&' || *s == '<' || *s == '>') {
            piece = *s == '&' ? "&amp;" : *s == '<' ? "&lt;" : "&gt;";
            shown = strlen(piece);
        }
        if (chars + shown > max_chars)
            break;
        size_t bytes = piece == s ? len : shown;
        memcpy(out + n, piece, bytes);
        n += bytes;
        chars += shown;
        s += len;
    }
    if (out)
        out[n] = 0;
    return out;
}

static json_t *mrkdwn(const char *text)
{
    return json_pack("{s:s, s:s}", "type", "mrkdwn", "text", text);
}

char *alert_slack_payload(const struct alert_message *m)
{
    char title[ALERT_TITLE_MAX], context[256], time[CLOCK_TEXT_MAX];
    alert_text_headline(m, title);
    char *body = alert_text_body(m), *payload = NULL;
    char *text = body ? escaped(body, TEXT_CHARS) : NULL;
    /* The body begins with the title, which the header shows: the section goes on after it. */
    const char *rest = body ? strchr(body, '\n') : NULL;
    char *section = rest ? escaped(rest + strspn(rest, "\n"), SECTION_CHARS) : NULL;
    json_t *root = NULL;
    if (text && section) {
        snprintf(context, sizeof context, "redoubt · %s · %s", m->id,
                 m->to_unix_ms ? clock_text(m->to_unix_ms, time) : "");
        size_t header_len = alert_text_cut(title, HEADER_CHARS, sizeof title);
        root = json_pack("{s:s, s:[{s:s, s:{s:s, s:s%}}, {s:s, s:o}, {s:s, s:[o]}]}", "text", text, "blocks", "type",
                         "header", "text", "type", "plain_text", "text", title, header_len, "type", "section", "text",
                         mrkdwn(section), "type", "context", "elements", mrkdwn(context));
    }
    if (root)
        payload = json_dumps(root, JSON_COMPACT | JSON_ENSURE_ASCII);
    json_decref(root);
    free(section);
    free(text);
    free(body);
    return payload;
}

static void on_done(void *ctx, const struct http_result *r)
{
    struct alert_job *j = ctx;
    struct alert_outcome o = alert_outcome_of(r);
    char detail[192];
    if (r->fault != HTTP_OK) {
        snprintf(detail, sizeof detail, "%s", r->error);
    } else {
        /* Slack's words: `ok`, or `no_service`, `invalid_payload`, ... */
        int shown = (int)alert_text_cut(r->body, 80, 160);
        if (shown > 0)
            snprintf(detail, sizeof detail, "HTTP %d: %.*s", r->status, shown, r->body);
        else
            snprintf(detail, sizeof detail, "HTTP %d", r->status);
        /* A page of a proxy or a login is no Slack that has taken anything. */
        if (r->status >= 200 && r->status <= 299 && strcmp(r->body, "ok") != 0)
            o.fault = ALERT_FAULT_ANSWER;
    }
    alert_job_end(j, &o, detail);
}

static void send_slack(struct alert_channel *c, struct alert_job *j)
{
    static const char *const headers[] = {"Content-Type: application/json", NULL};
    char *payload = alert_slack_payload(j->message);
    if (!payload) {
        alert_job_end(j, &(struct alert_outcome){ALERT_FAULT_OTHER, 0, -1}, "out of memory");
        return;
    }
    struct http_request r = {.method = "POST",
                             .url = c->set.url,
                             .headers = headers,
                             .body = payload,
                             .body_len = strlen(payload),
                             .connect_timeout_ms = j->timeout_ms,
                             .timeout_ms = j->timeout_ms,
                             .max_response = RESPONSE_MAX};
    (void)http_start(c->room->service->http, &r, NULL, on_done, j);
    free(payload);
}

const struct alert_kind alert_kind_slack = {
    .name = "slack", .proto = ALERT_PROTO_HTTP, .at_once = 2, .rate_per_min = 60, .burst = 5, .send = send_slack};
