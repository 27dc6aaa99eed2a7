/* channel_slack.c - tells people by Slack's incoming webhooks. */
#include "alert/alert_text.h"
#include "alert/alert_web.h"
#include "common/clock.h"
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define HEADER_CHARS  150   /* Slack's limits: of a header, */
#define SECTION_CHARS 3000  /* of a section's text, */
#define SECTIONS_MAX  40    /* of 50 blocks, header and context among them, */
#define BLOCKS_CHARS  12000 /* and, though it is written nowhere, of all blocks: about 13,200 */
#define TEXT_CHARS    4000  /* `text`: 40,000; nobody reads that in a notification */

/* Slack's three special characters, escaped; at most max_chars of what is escaped, cut between characters, and before the line that would not fit
 * whole if there is one. *ret_used bytes of s are in it. */
static char *escaped(const char *s, size_t max_chars, size_t *ret_used)
{
    char *out = malloc(max_chars * 4 + 1);
    size_t n = 0, chars = 0, used = 0, line_n = 0, line_used = 0;
    while (out && s[used]) {
        const char *at = s + used, *piece = at;
        size_t len = alert_text_cut(at, 1, 4), shown = len == 4 ? 2 : 1; /* as JavaScript counts */
        if (len == 0)
            break;
        if (*at == '&' || *at == '<' || *at == '>') {
            piece = *at == '&' ? "&amp;" : *at == '<' ? "&lt;" : "&gt;";
            shown = strlen(piece);
        }
        if (chars + shown > max_chars) {
            if (line_n > 0) { /* the line goes into the next section */
                n = line_n;
                used = line_used;
            }
            break;
        }
        size_t bytes = piece == at ? len : shown;
        memcpy(out + n, piece, bytes);
        n += bytes;
        chars += shown;
        used += len;
        if (*at == '\n') {
            line_n = n;
            line_used = used;
        }
    }
    if (out)
        out[n] = 0;
    *ret_used = used;
    return out;
}

static json_t *mrkdwn(const char *text)
{
    return json_pack("{s:s, s:s}", "type", "mrkdwn", "text", text);
}

/* As many sections as the text needs and Slack takes; 0, or -1 if memory is out. */
static int add_sections(json_t *blocks, const char *rest)
{
    size_t left = BLOCKS_CHARS;
    for (int i = 0; i < SECTIONS_MAX && left > 0; i++) {
        size_t used = 0;
        rest += strspn(rest, "\n"); /* a section of nothing is refused */
        if (!*rest)
            break;
        char *text = escaped(rest, left < SECTION_CHARS ? left : SECTION_CHARS, &used);
        int bad =
            !text || json_array_append_new(blocks, json_pack("{s:s, s:o}", "type", "section", "text", mrkdwn(text)));
        size_t shown = text ? alert_web_cut(text, SIZE_MAX) : 0;
        free(text);
        if (bad)
            return -1;
        if (used == 0)
            break;
        rest += used;
        left -= shown < left ? shown : left;
    }
    return 0;
}

char *alert_slack_payload(const struct alert_message *m)
{
    char title[ALERT_TITLE_MAX], context[256], time[CLOCK_TEXT_MAX];
    size_t used = 0;
    alert_text_headline(m, title);
    char *body = alert_text_body(m), *payload = NULL;
    char *text = body ? escaped(body, TEXT_CHARS, &used) : NULL;
    json_t *blocks = json_array(), *root = NULL;
    if (text && blocks) {
        snprintf(context, sizeof context, "redoubt · %s · %s", m->id,
                 m->to_unix_ms ? clock_text(m->to_unix_ms, time) : "");
        size_t header_len = alert_web_cut(title, HEADER_CHARS);
        /* The body begins with the title, which the header shows: sections go on after it. */
        if (json_array_append_new(blocks, json_pack("{s:s, s:{s:s, s:s%}}", "type", "header", "text", "type",
                                                    "plain_text", "text", title, header_len)) == 0 &&
            add_sections(blocks, alert_web_rest(body)) == 0 &&
            json_array_append_new(blocks,
                                  json_pack("{s:s, s:[o]}", "type", "context", "elements", mrkdwn(context))) == 0)
            root = json_pack("{s:s, s:O}", "text", text, "blocks", blocks);
    }
    if (root)
        payload = json_dumps(root, JSON_COMPACT | JSON_ENSURE_ASCII);
    json_decref(root);
    json_decref(blocks);
    free(text);
    free(body);
    return payload;
}

/* Slack's words: `ok`, or `no_service`, `invalid_payload`, ... */
static void judge(const struct http_result *r, struct alert_outcome *o, char *detail, size_t room)
{
    int shown = (int)alert_text_cut(r->body, 80, 160);
    snprintf(detail, room, "%.*s", shown, r->body);
    /* A page of a proxy or a login is no Slack that has taken anything. */
    if (r->status >= 200 && r->status <= 299 && strcmp(r->body, "ok") != 0)
        o->fault = ALERT_FAULT_ANSWER;
}

static void send_slack(struct alert_channel *c, struct alert_job *j)
{
    alert_web_post_json(j, c->set.url, alert_slack_payload(j->message), judge);
}

const struct alert_kind alert_kind_slack = {
    .name = "slack", .proto = ALERT_PROTO_HTTP, .at_once = 2, .rate_per_min = 60, .burst = 5, .send = send_slack};
