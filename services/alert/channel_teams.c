/* channel_teams.c - tells people by Microsoft Teams: an Adaptive Card to the webhook of a workflow, or of a connector of the former kind. */
#include "alert/alert_text.h"
#include "alert/alert_web.h"
#include "common/clock.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Teams takes 28 KB, counted in its own way: cards of more than 21 KB have been refused. */
#define CARD_BYTES  20000
#define TITLE_UNITS 512
#define TEXT_UNITS  12000
#define LINES_MAX   100 /* blocks of text; more make a card that nobody scrolls through */

static const char *colour_of(const struct alert_message *m)
{
    if (m->resolved)
        return "Good";
    return m->severity >= REDOUBT__V1__SEVERITY__SEVERITY_HIGH      ? "Attention"
           : m->severity == REDOUBT__V1__SEVERITY__SEVERITY_WARNING ? "Warning"
                                                                    : "Default";
}

/* A TextBlock reads Markdown: what would be markup is escaped. */
static char *plain(const char *s, size_t len)
{
    char *out = malloc(2 * len + 1), *p = out;
    for (size_t i = 0; out && i < len; i++) {
        if (strchr("\\`*_[]<>#~|", s[i]) && s[i])
            *p++ = '\\';
        *p++ = s[i];
    }
    if (out)
        *p = 0;
    return out;
}

static json_t *block(const char *text, size_t len, bool first)
{
    char *words = plain(text, len);
    json_t *b = words ? json_pack("{s:s, s:s, s:b, s:s}", "type", "TextBlock", "text", words, "wrap", 1, "spacing",
                                  first ? "Medium" : "None")
                      : NULL;
    free(words);
    return b;
}

/* A line of the text is a block: Markdown would make one paragraph of them. An empty line is space before the next. */
static json_t *blocks_of(const struct alert_message *m, const char *rest, size_t units)
{
    char title[ALERT_TITLE_MAX], foot[160], time[CLOCK_TEXT_MAX];
    json_t *body = json_array();
    alert_text_headline(m, title);
    char *words = plain(title, alert_web_cut(title, TITLE_UNITS));
    if (words)
        json_array_append_new(body, json_pack("{s:s, s:s, s:b, s:s, s:s, s:s}", "type", "TextBlock", "text", words,
                                              "wrap", 1, "size", "Large", "weight", "Bolder", "color", colour_of(m)));
    free(words);
    size_t left = alert_web_cut(rest, units);
    bool cut = rest[left] != 0, first = true;
    int lines = 0;
    for (const char *p = rest, *end = rest + left; p < end;) {
        size_t n = strcspn(p, "\n");
        if (n > (size_t)(end - p))
            n = (size_t)(end - p);
        if (n > 0 && ++lines > LINES_MAX) {
            cut = true;
            break;
        }
        if (n > 0)
            json_array_append_new(body, block(p, n, first));
        first = n == 0;
        p += n + (p + n < end);
    }
    if (cut)
        json_array_append_new(body, block("...", 3, false));
    snprintf(foot, sizeof foot, "redoubt · %s · %s", m->id, m->to_unix_ms ? clock_text(m->to_unix_ms, time) : "");
    words = plain(foot, strlen(foot));
    if (words)
        json_array_append_new(body, json_pack("{s:s, s:s, s:b, s:b, s:s, s:s}", "type", "TextBlock", "text", words,
                                              "wrap", 1, "isSubtle", 1, "size", "Small", "spacing", "Medium"));
    free(words);
    return body;
}

static char *card(const struct alert_message *m, const char *rest, size_t units)
{
    json_t *root =
        json_pack("{s:s, s:[{s:s, s:n, s:{s:s, s:s, s:s, s:{s:s}, s:o}}]}", "type", "message", "attachments",
                  "contentType", "application/vnd.microsoft.card.adaptive", "contentUrl", "content", "$schema",
                  "http://adaptivecards.io/schemas/adaptive-card.json", "type", "AdaptiveCard", "version", "1.4",
                  "msteams", "width", "Full", "body", blocks_of(m, rest, units));
    char *text = root ? json_dumps(root, JSON_COMPACT) : NULL;
    json_decref(root);
    return text;
}

char *alert_teams_payload(const struct alert_message *m)
{
    char *body = alert_text_body(m), *payload = NULL;
    /* Bytes depend on the letters and on how much is escaped: less text, until it fits. */
    for (size_t units = TEXT_UNITS; body; units /= 2) {
        payload = card(m, alert_web_rest(body), units);
        if (!payload || strlen(payload) <= CARD_BYTES || units == 0)
            break;
        free(payload);
    }
    free(body);
    return payload;
}

/* A workflow answers 202. A connector of the former kind answers 200 and `1`, and 200 even if it has failed, which its text says: "Webhook message
 * delivery failed with error: Microsoft Teams endpoint returned HTTP error 429 with ContextId ...". */
static void judge(const struct http_result *r, struct alert_outcome *o, char *detail, size_t room)
{
    static const char words[] = "HTTP error ";
    if (r->status < 200 || r->status > 299) {
        json_t *answer = json_loadb(r->body, r->len, 0, NULL);
        const char *said = json_string_value(json_object_get(json_object_get(answer, "error"), "message"));
        snprintf(detail, room, "%.160s", said ? said : "");
        json_decref(answer);
        return;
    }
    const char *at = strstr(r->body, words), *rest = r->body + strspn(r->body, " \t\r\n");
    int status = at ? atoi(at + strlen(words)) : 0;
    if (status >= 300 && status <= 599) {
        o->status = status;
        snprintf(detail, room, "and in its text, HTTP error %d", status);
    } else if (r->status == 200 && *rest && strcmp(rest, "1") != 0) {
        o->fault = ALERT_FAULT_ANSWER; /* a page of a login or a proxy, or words that it has failed */
        snprintf(detail, room, "with something that is not Teams' answer");
    }
}

static void send_teams(struct alert_channel *c, struct alert_job *j)
{
    alert_web_post_json(j, c->set.url, alert_teams_payload(j->message), judge);
}

const struct alert_kind alert_kind_teams = {
    .name = "teams", .proto = ALERT_PROTO_HTTP, .at_once = 2, .rate_per_min = 60, .burst = 4, .send = send_teams};
