/* channel_discord.c - tells people by Discord's webhooks: one embed. */
#include "alert/alert_text.h"
#include "alert/alert_web.h"
#include "common/clock.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Discord's limits: content 2,000; title 256, description 4,096, footer 2,048; 6,000 in all of a message's embeds. */
#define CONTENT_UNITS     300 /* what a notification shows */
#define TITLE_UNITS       256
#define DESCRIPTION_UNITS 4096

static int colour_of(const struct alert_message *m)
{
    if (m->resolved)
        return 0x2e7d32;
    return m->severity == REDOUBT__V1__SEVERITY__SEVERITY_CRITICAL  ? 0xb71c1c
           : m->severity == REDOUBT__V1__SEVERITY__SEVERITY_HIGH    ? 0xe65100
           : m->severity == REDOUBT__V1__SEVERITY__SEVERITY_WARNING ? 0xf9a825
                                                                    : 0x1565c0;
}

/* In a block of code nothing is markup, and columns stay columns; backticks would end it. */
static json_t *code_block(const char *text)
{
    static const char fence[] = "```";
    const size_t around = 2 * (sizeof fence - 1) + 2;
    size_t n = alert_web_cut(text, DESCRIPTION_UNITS - around);
    bool cut = text[n] != 0;
    if (cut)
        n = alert_web_cut(text, DESCRIPTION_UNITS - around - 3);
    char *s = NULL;
    if (asprintf(&s, "%s\n%.*s%s\n%s", fence, (int)n, text, cut ? "..." : "", fence) < 0)
        return NULL;
    for (char *p = s + 4, *end = s + strlen(s) - 4; p < end; p++)
        if (*p == '`')
            *p = '\'';
    json_t *value = json_string(s);
    free(s);
    return value;
}

char *alert_discord_payload(const struct alert_message *m)
{
    char title[ALERT_TITLE_MAX], foot[160], time[CLOCK_TEXT_MAX];
    char *body = alert_text_body(m), *payload = NULL;
    if (!body)
        return NULL;
    alert_text_headline(m, title);
    snprintf(foot, sizeof foot, "redoubt · %s", m->id);
    /* parse []: an alert that says @everyone calls nobody. */
    json_t *root = json_pack("{s:s, s:o, s:{s:[]}, s:[{s:o, s:o, s:i, s:{s:s}}]}", "username", "redoubt", "content",
                             alert_web_text(title, CONTENT_UNITS, sizeof title), "allowed_mentions", "parse",
                             "embeds", "title", alert_web_text(title, TITLE_UNITS, sizeof title), "description",
                             code_block(alert_web_rest(body)), "color", colour_of(m), "footer", "text", foot);
    if (root && m->to_unix_ms > 0)
        json_object_set_new(json_array_get(json_object_get(root, "embeds"), 0), "timestamp",
                            json_string(clock_text(m->to_unix_ms, time)));
    if (root)
        payload = json_dumps(root, JSON_COMPACT);
    json_decref(root);
    free(body);
    return payload;
}

/* {"message": "You are being rate limited.", "retry_after": 0.65, "global": false}: in seconds, finer than the header. */
static void judge(const struct http_result *r, struct alert_outcome *o, char *detail, size_t room)
{
    json_t *answer = json_loadb(r->body, r->len, 0, NULL);
    const json_t *wait = json_object_get(answer, "retry_after");
    if (r->status >= 200 && r->status <= 299) {
        /* With wait=true it is the message as it was kept, with its id. */
        if (!json_is_string(json_object_get(answer, "id"))) {
            o->fault = ALERT_FAULT_ANSWER;
            snprintf(detail, room, "without a message");
        }
    } else {
        alert_web_said(r, "message", detail, room);
    }
    if (r->status == 429 && json_is_number(wait)) {
        double seconds = json_number_value(wait);
        if (seconds >= 0 && seconds < 86400)
            o->retry_after_ms = (int64_t)ceil(seconds * 1000);
    }
    json_decref(answer);
}

static void send_discord(struct alert_channel *c, struct alert_job *j)
{
    /* Without wait=true a message that could not be kept is no error. */
    char url[2048];
    int n = snprintf(url, sizeof url, "%s%cwait=true", c->set.url, strchr(c->set.url, '?') ? '&' : '?');
    if (n < 0 || (size_t)n >= sizeof url)
        alert_job_end(j, &(struct alert_outcome){ALERT_FAULT_SETTINGS, 0, -1}, "the URL is too long");
    else
        alert_web_post_json(j, url, alert_discord_payload(j->message), judge);
    explicit_bzero(url, sizeof url);
}

const struct alert_kind alert_kind_discord = {
    .name = "discord", .proto = ALERT_PROTO_HTTP, .at_once = 2, .rate_per_min = 60, .burst = 5, .send = send_discord};
