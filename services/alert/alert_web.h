/* alert_web.h - what the channels that POST to somebody's web API share: the call, its end, and texts that fit. */
#ifndef REDOUBT_ALERT_WEB_H
#define REDOUBT_ALERT_WEB_H

#include "alert/alert_channel.h"
#include <jansson.h>

/* Makes an outcome of an answer that came (r->fault is HTTP_OK): *o holds what its status means; detail is one line for people, "" = only the
 * status. Answers are the other side's: of what they hold, no more than a line is kept. */
typedef void (*alert_web_judge)(const struct http_result *r, struct alert_outcome *o, char *detail, size_t room);

struct alert_web {
    const char *url;
    const char *const *headers; /* NULL-terminated; NULL = JSON and no more */
    const char *body;
    size_t len;
    const char *user, *password; /* may be NULL */
    alert_web_judge judge;       /* NULL = the status says it all */
};
/* Everything is copied. Ends the job when the call ends. */
void alert_web_post(struct alert_job *j, const struct alert_web *w);
/* The call alone, with the channel's TLS. */
void alert_web_start(struct alert_channel *c, const struct alert_web *w, int64_t timeout_ms, http_done done,
                     void *ctx);
/* alert_web_post() with JSON, which is taken; NULL = memory is out. */
void alert_web_post_json(struct alert_job *j, const char *url, char *json, alert_web_judge judge);
/* The outcome of a call, also of one without an answer. */
struct alert_outcome alert_web_outcome(const struct http_result *r, alert_web_judge judge, char *detail, size_t room);

/* Longest prefix of s, in bytes, that has at most so many characters as others count them: of UTF-16. Whole code points only. */
size_t alert_web_cut(const char *s, size_t max_units);
/* What a text body has behind its first line, which is the title. */
const char *alert_web_rest(const char *body);
/* A text of at most max_units and max_bytes, with "..." at the end if it was cut; JSON string, NULL if memory is out. */
json_t *alert_web_text(const char *s, size_t max_units, size_t max_bytes);
/* From an answer in JSON: the text of a key as one clean line; "" if there is none. Returns out. */
const char *alert_web_said(const struct http_result *r, const char *key, char *out, size_t size);

/* What the kinds send, for tests: malloc'ed, NULL if memory is out. */
char *alert_teams_payload(const struct alert_message *m);
char *alert_discord_payload(const struct alert_message *m);
char *alert_ntfy_payload(const struct alert_message *m, const char *topic);
/* One event; `alert` is one of the message's, or NULL = all of it as one event. */
char *alert_pagerduty_payload(const struct alert_message *m, const PB(Alert) * alert, const char *routing_key);

#endif
