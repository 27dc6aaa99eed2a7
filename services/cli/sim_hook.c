/* sim_hook.c - the web APIs that alerts go to: signed webhooks, PagerDuty, Teams, Discord, ntfy. Each answers, limits and refuses as the real one does. */
#include "cli/sim.h"
#include "cli/sim_http.h"
#include "common/utf8.h"
#include "common/webhook_sign.h"
#include <ctype.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <time.h>
#include <unistd.h>

#define CLOCK_OFF_S 300 /* Standard Webhooks: calls older or newer than this are refused */
#define COUNT(list) (sizeof(list) / sizeof *(list))

static const struct sim_mode modes[] = {{"ok", "answers well"},
                                        SIM_HTTP_MODES{"400", "400"},
                                        {"403", "403"},
                                        {"408", "408"},
                                        {"410", "410: gone for good"},
                                        {"413", "413"},
                                        {"502", "502"},
                                        {NULL, NULL}};
enum { OPT_SECRET, OPT_TOKEN };

/* What has become of it all. */
struct hook {
    json_t *incidents; /* PagerDuty: dedup_key -> triggered, acknowledged, resolved */
    json_t *ids;       /* webhooks: id -> how often */
    json_t *refused;   /* why something was refused, of the latest 100 */
    int64_t kept;      /* messages that were taken */
};

static struct hook *hook_of(const struct sim *s)
{
    return s->state;
}

static json_t *state_of(struct sim *s)
{
    const struct hook *h = hook_of(s);
    if (!h)
        return json_object();
    return json_pack("{s:O, s:O, s:O, s:I}", "incidents", h->incidents, "ids", h->ids, "refused", h->refused, "kept",
                     (json_int_t)h->kept);
}

/* ---- checks ---- */

/* As JavaScript counts: characters of UTF-16. */
static size_t units(const json_t *value)
{
    const char *s = json_string_value(value);
    size_t len = json_string_length(value), at = 0, n = 0;
    while (s && at < len) {
        uint32_t code;
        size_t step = utf8_next(s + at, len - at, &code);
        if (step == 0)
            break;
        n += code > 0xffff ? 2 : 1;
        at += step;
    }
    return n;
}

static bool text_up_to(const json_t *o, const char *key, size_t min, size_t max)
{
    const json_t *value = json_object_get(o, key);
    if (!value)
        return min == 0;
    return json_is_string(value) && units(value) >= min && units(value) <= max;
}

static const char *remember(struct sim_request *r, const char *why)
{
    json_t *list = hook_of(r->sim)->refused;
    json_array_append_new(list, json_string(why));
    if (json_array_size(list) > 100)
        json_array_remove(list, 0);
    return why;
}

static bool authorized(const struct sim_request *r)
{
    const char *token = r->sim->values[OPT_TOKEN], *header = sim_header(r, "Authorization");
    if (!token)
        return true;
    const char *word = header ? strchr(header, ' ') : NULL;
    return word && strcmp(word + 1, token) == 0;
}

static enum MHD_Result say(struct sim_request *r, unsigned status, const char *type, const char *text)
{
    char seconds[24];
    bool wait = status == 429 || status == 503;
    snprintf(seconds, sizeof seconds, "%lld", (long long)r->sim->retry_after_s);
    return sim_answer(r, status, type, text, wait && r->sim->retry_after_s > 0 ? seconds : NULL);
}

/* ---- webhooks ---- */

static const char *wrong_signature(struct sim_request *r, const char *secret)
{
    struct webhook_key k;
    const char *id = sim_header(r, "webhook-id"), *when = sim_header(r, "webhook-timestamp"),
               *signature = sim_header(r, "webhook-signature");
    if (!id || !when || !signature)
        return "webhook-id, webhook-timestamp or webhook-signature is missing";
    long long unix_s = atoll(when), off = (long long)time(NULL) - unix_s;
    if (off > CLOCK_OFF_S || off < -CLOCK_OFF_S)
        return "webhook-timestamp is too far from now";
    if (webhook_key_read(secret, &k, NULL) || !webhook_signed(&k, id, unix_s, r->body, r->len, signature))
        return "webhook-signature is not that of this call";
    return NULL;
}

static enum MHD_Result webhook(struct sim_request *r)
{
    struct hook *h = hook_of(r->sim);
    const char *wrong = NULL, *id = sim_header(r, "webhook-id");
    if (strcmp(r->method, "GET") == 0 && strcmp(r->path, "/ping") == 0) /* whoever misses pings */
        return say(r, 200, "text/plain", "ok\n");
    if (strcmp(r->method, "POST") != 0)
        return say(r, 405, "text/plain", "POST is expected\n");
    if (!authorized(r))
        wrong = "the token is wrong";
    else if (r->sim->values[OPT_SECRET])
        wrong = wrong_signature(r, r->sim->values[OPT_SECRET]);
    if (wrong)
        return say(r, 401, "text/plain", remember(r, wrong));
    if (id)
        json_object_set_new(h->ids, id, json_integer(json_integer_value(json_object_get(h->ids, id)) + 1));
    h->kept++;
    return say(r, 200, "application/json", "{}");
}

/* ---- PagerDuty ---- */

static const char *wrong_event(const struct sim_request *r)
{
    static const char *const severities[] = {"critical", "error", "warning", "info"};
    const json_t *e = r->json, *payload = json_object_get(e, "payload");
    const char *key = json_string_value(json_object_get(e, "routing_key")),
               *action = json_string_value(json_object_get(e, "event_action"));
    if (!key || !*key)
        return "'routing_key' is missing or blank";
    if (strlen(key) != 32 || strspn(key, "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ") != 32)
        return "Invalid routing key";
    if (!action || (strcmp(action, "trigger") && strcmp(action, "acknowledge") && strcmp(action, "resolve")))
        return "'event_action' is missing or invalid";
    if (!text_up_to(e, "dedup_key", strcmp(action, "trigger") ? 1 : 0, 255))
        return "'dedup_key' is missing or longer than 255 characters";
    if (strcmp(action, "trigger") != 0)
        return NULL;
    if (!text_up_to(payload, "summary", 1, 1024))
        return "'payload.summary' is missing, blank or longer than 1024 characters";
    if (!text_up_to(payload, "source", 1, 1024))
        return "'payload.source' is missing or blank";
    const char *severity = json_string_value(json_object_get(payload, "severity"));
    for (size_t i = 0; severity && i < COUNT(severities); i++)
        if (strcmp(severity, severities[i]) == 0)
            return NULL;
    return "'payload.severity' is invalid (must be one of the following: 'critical', 'warning', 'error' or 'info')";
}

static enum MHD_Result pagerduty(struct sim_request *r)
{
    struct hook *h = hook_of(r->sim);
    if (r->len > 512 * 1024)
        return say(r, 413, "application/json", "{\"status\":\"invalid event\",\"message\":\"Event is too large\"}");
    if (!json_is_object(r->json))
        return say(
            r, 400, "application/json",
            "{\"status\":\"invalid event\",\"message\":\"Event object is invalid\",\"errors\":[\"JSON cannot be "
            "parsed\"]}");
    const char *wrong = wrong_event(r);
    if (wrong)
        return sim_answer_json(r, 400,
                               json_pack("{s:s, s:s, s:[s]}", "status", "invalid event", "message",
                                         "Event object is invalid", "errors", remember(r, wrong)));
    const char *action = json_string_value(json_object_get(r->json, "event_action")),
               *key = json_string_value(json_object_get(r->json, "dedup_key"));
    const char *was = json_string_value(json_object_get(h->incidents, key ? key : ""));
    bool open = was && strcmp(was, "resolved") != 0;
    /* An acknowledgement or an end of what is not there is taken, and changes nothing. */
    if (strcmp(action, "trigger") == 0 && (!open || strcmp(was, "acknowledged") != 0))
        json_object_set_new(h->incidents, key ? key : "", json_string("triggered"));
    else if (strcmp(action, "acknowledge") == 0 && open)
        json_object_set_new(h->incidents, key, json_string("acknowledged"));
    else if (strcmp(action, "resolve") == 0 && open)
        json_object_set_new(h->incidents, key, json_string("resolved"));
    h->kept++;
    return sim_answer_json(r, 202,
                           json_pack("{s:s, s:s, s:s}", "status", "success", "message", "Event processed",
                                     "dedup_key", key ? key : "made-here"));
}

/* ---- Teams ---- */

static const char *wrong_card(const struct sim_request *r)
{
    const json_t *list = json_object_get(r->json, "attachments"), *card = json_array_get(list, 0);
    const json_t *content = json_object_get(card, "content");
    const char *type = json_string_value(json_object_get(card, "contentType")),
               *version = json_string_value(json_object_get(content, "version"));
    if (!type || strcmp(type, "application/vnd.microsoft.card.adaptive") != 0)
        return "Property 'type' must be 'AdaptiveCard'";
    if (strcmp(json_string_value(json_object_get(content, "type")) ?: "", "AdaptiveCard") != 0 || !version ||
        atof(version) > 1.51)
        return "the card is of another type or version";
    if (!json_is_array(json_object_get(content, "body")) || json_array_size(json_object_get(content, "body")) == 0)
        return "the card has no body";
    return NULL;
}

/* A connector says 200 whatever Teams has said, and that in its text; a workflow passes it on. */
static enum MHD_Result teams(struct sim_request *r, unsigned status)
{
    char text[200];
    const char *wrong = status ? NULL : r->len > 28 * 1024 ? "too large" : wrong_card(r);
    if (wrong)
        status = r->len > 28 * 1024 ? 413 : 400;
    if (wrong)
        remember(r, wrong);
    if (strncmp(r->path, "/webhookb2/", 11) == 0) {
        if (!status) {
            hook_of(r->sim)->kept++;
            return say(r, 200, "text/plain", "1");
        }
        snprintf(text, sizeof text,
                 "Webhook message delivery failed with error: Microsoft Teams endpoint returned HTTP error %u with "
                 "ContextId tcid=0",
                 status);
        return say(r, 200, "text/plain", text);
    }
    if (!status) {
        hook_of(r->sim)->kept++;
        return say(r, 202, "text/plain", "");
    }
    snprintf(text, sizeof text, "{\"error\":{\"code\":\"Refused\",\"message\":\"%s\"}}", wrong ? wrong : "not now");
    return say(r, status, "application/json", text);
}

/* ---- Discord ---- */

static const char *wrong_message(const struct sim_request *r)
{
    const json_t *embeds = json_object_get(r->json, "embeds"), *e;
    size_t i, sum = 0;
    if (!json_object_get(r->json, "content") && json_array_size(embeds) == 0)
        return "Cannot send an empty message";
    if (!text_up_to(r->json, "content", 0, 2000) || !text_up_to(r->json, "username", 0, 80) ||
        json_array_size(embeds) > 10)
        return "Invalid Form Body";
    json_array_foreach((json_t *)embeds, i, e)
    {
        const json_t *footer = json_object_get(e, "footer");
        if (!text_up_to(e, "title", 0, 256) || !text_up_to(e, "description", 0, 4096) ||
            !text_up_to(footer, "text", 0, 2048))
            return "Invalid Form Body";
        sum += units(json_object_get(e, "title")) + units(json_object_get(e, "description")) +
               units(json_object_get(footer, "text"));
    }
    return sum > 6000 ? "Invalid Form Body" : NULL;
}

static enum MHD_Result discord(struct sim_request *r)
{
    const char *wait = MHD_lookup_connection_value(r->connection, MHD_GET_ARGUMENT_KIND, "wait");
    const char *wrong = json_is_object(r->json) ? wrong_message(r) : "The request body contains invalid JSON.";
    if (wrong)
        return sim_answer_json(r, 400, json_pack("{s:s, s:i}", "message", remember(r, wrong), "code", 50035));
    hook_of(r->sim)->kept++;
    if (!wait || strcmp(wait, "true") != 0)
        return say(r, 204, "text/plain", "");
    return sim_answer_json(r, 200,
                           json_pack("{s:s, s:i, s:s}", "id", "1198342365748", "type", 0, "channel_id", "77"));
}

static enum MHD_Result discord_limited(struct sim_request *r)
{
    char text[160], seconds[24];
    double wait = (double)r->sim->retry_after_s;
    snprintf(text, sizeof text, "{\"message\":\"You are being rate limited.\",\"retry_after\":%.3f,\"global\":false}",
             wait > 0.5 ? wait - 0.35 : wait);
    snprintf(seconds, sizeof seconds, "%lld", (long long)r->sim->retry_after_s);
    return sim_answer(r, 429, "application/json", text, seconds);
}

/* ---- ntfy ---- */

static enum MHD_Result ntfy_error(struct sim_request *r, unsigned status, int code, const char *text)
{
    char body[240];
    snprintf(body, sizeof body, "{\"code\":%d,\"http\":%u,\"error\":\"%s\",\"link\":\"https://ntfy.sh/docs/\"}", code,
             status, text);
    return say(r, status, "application/json", body);
}

static enum MHD_Result ntfy(struct sim_request *r)
{
    const char *topic = json_string_value(json_object_get(r->json, "topic"));
    const json_t *message = json_object_get(r->json, "message"), *priority = json_object_get(r->json, "priority");
    if (!authorized(r))
        return ntfy_error(r, 401, 40101, remember(r, "unauthorized"));
    if (!json_is_object(r->json))
        return ntfy_error(r, 400, 40024, remember(r, "invalid request: request body must be message JSON"));
    size_t n = topic ? strlen(topic) : 0;
    for (size_t i = 0; i < n; i++)
        if (!isalnum((unsigned char)topic[i]) && topic[i] != '_' && topic[i] != '-')
            n = 0;
    if (n < 1 || n > 64)
        return ntfy_error(r, 400, 40009, remember(r, "invalid request: topic invalid"));
    if (priority && (json_integer_value(priority) < 1 || json_integer_value(priority) > 5))
        return ntfy_error(r, 400, 40007, remember(r, "invalid priority parameter"));
    if (json_string_length(message) > 4096)
        return ntfy_error(r, 400, 40014, remember(r, "invalid request: attachments not allowed"));
    hook_of(r->sim)->kept++;
    return sim_answer_json(r, 200,
                           json_pack("{s:s, s:I, s:s, s:s, s:O?}", "id", "sPs71M8A2T", "time", (json_int_t)time(NULL),
                                     "event", "message", "topic", topic, "message", message));
}

/* ---- which of them ---- */

enum api { API_WEBHOOK, API_PAGERDUTY, API_TEAMS, API_DISCORD, API_NTFY };

static enum api api_of(const char *path)
{
    static const struct {
        const char *begins;
        enum api api;
    } paths[] = {
        {"/v2/enqueue", API_PAGERDUTY},  {"/workflows/", API_TEAMS}, {"/webhookb2/", API_TEAMS},
        {"/api/webhooks/", API_DISCORD}, {"/hook", API_WEBHOOK},
    };
    for (size_t i = 0; i < COUNT(paths); i++)
        if (strncmp(path, paths[i].begins, strlen(paths[i].begins)) == 0)
            return paths[i].api;
    return strcmp(path, "/") == 0 ? API_NTFY : API_WEBHOOK;
}

/* A mode that is a status, in the words of each. */
static enum MHD_Result refuse(struct sim_request *r, enum api api, unsigned status)
{
    switch (api) {
    case API_PAGERDUTY:
        return say(r, status, "application/json",
                   status == 400
                       ? "{\"status\":\"invalid event\",\"message\":\"Event object is invalid\",\"errors\":["
                         "\"'payload.source' is missing or blank\"]}"
                       : "{\"status\":\"error\",\"message\":\"refused\"}");
    case API_TEAMS:
        return teams(r, status);
    case API_DISCORD:
        return status == 429   ? discord_limited(r)
               : status == 404 ? say(r, 404, "application/json", "{\"message\":\"Unknown Webhook\",\"code\":10015}")
                               : say(r, status, "application/json", "{\"message\":\"refused\",\"code\":0}");
    case API_NTFY:
        return ntfy_error(r, status, (int)status * 100 + 1, "refused");
    default:
        return say(r, status, "text/plain", "refused, and told at length: do-not-log-this\n");
    }
}

static enum MHD_Result serve(struct sim_request *r)
{
    enum api api = api_of(r->path);
    enum MHD_Result ret;
    int status = atoi(r->mode);
    if (status)
        return refuse(r, api, (unsigned)status);
    if (sim_fail(r, &ret))
        return ret;
    switch (api) {
    case API_PAGERDUTY:
        return pagerduty(r);
    case API_TEAMS:
        return teams(r, 0);
    case API_DISCORD:
        return discord(r);
    case API_NTFY:
        return ntfy(r);
    default:
        return webhook(r);
    }
}

static int open_hook(struct sim *s, int fd)
{
    struct hook *h = s->state; /* kept while the port is closed */
    if (!h && (h = s->state = calloc(1, sizeof *h)))
        *h = (struct hook){json_object(), json_object(), json_array(), 0};
    if (!h) {
        close(fd);
        return -1;
    }
    return sim_http_serve(s, fd);
}

static void close_hook(struct sim *s)
{
    struct hook *h = hook_of(s);
    sim_http_stop(s);
    if (!h || !s->stopping)
        return;
    json_decref(h->incidents);
    json_decref(h->ids);
    json_decref(h->refused);
    free(h);
    s->state = NULL;
}

static const struct sim_kind kind = {
    .name = "hook",
    .about = "the web APIs that alerts go to, by path: /hook (a webhook), /ping (GET), /v2/enqueue (PagerDuty), "
             "/workflows/... and "
             "/webhookb2/... (Teams), /api/webhooks/... (Discord), / (ntfy)",
    .modes = modes,
    .options = {[OPT_SECRET] = {"secret", "whsec_...", "webhooks: refuse what is not signed with it"},
                [OPT_TOKEN] = {"token", "TOKEN", "webhooks, ntfy: refuse what does not bring it"}},
    .open = open_hook,
    .close = close_hook,
    .mode_changed = sim_http_mode_changed,
    .state = state_of,
    .http_control = true,
    .serve = serve,
};

int sim_hook_main(int argc, char **argv)
{
    return sodium_init() < 0 ? 1 : sim_run(&kind, argc, argv);
}
