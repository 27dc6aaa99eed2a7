/* health_llm.c - reads and judges the answer of an LLM API: pieces, lines, events, errors, and what became of the whole. */
#include "common/settings.h"
#include "health/health_llm_api.h"
#include <assert.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#define SAID_MAX   81 /* of what a server says, for people */
/* Models may say NUL, and some gateways number things with more than 63 bits: both are JSON. */
#define JSON_FLAGS (JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL | JSON_DECODE_INT_AS_REAL)

/* ---- the APIs ---- */

static const struct health_llm_api *const apis[] = {
    [SET_LLM_OPENAI] = &health_llm_openai,
    [SET_LLM_ANTHROPIC] = &health_llm_anthropic,
    [SET_LLM_OLLAMA] = &health_llm_ollama,
};

const struct health_llm_api *health_llm_api(int api)
{
    assert(api >= 0 && (size_t)api < sizeof apis / sizeof *apis);
    return apis[api];
}

const char *health_llm_path(const struct health_llm_api *a)
{
    return a->path;
}

const char *health_llm_auth(const struct health_llm_api *a)
{
    return a->auth;
}

const char *health_llm_version(const struct health_llm_api *a)
{
    return a->version;
}

const char *health_llm_accept(const struct health_llm_api *a, bool stream)
{
    return !stream    ? "Accept: application/json"
           : a->lines ? "Accept: application/x-ndjson, application/json"
                      : "Accept: text/event-stream, application/json";
}

char *health_llm_request(const struct health_llm_api *a, const char *model, bool stream, unsigned wants)
{
    json_t *j = a->request(model, stream, wants);
    char *text = j ? json_dumps(j, JSON_COMPACT) : NULL;
    json_decref(j);
    return text;
}

/* ---- what all of them share ---- */

static void restart(struct health_llm *x)
{
    x->event = x->line = 0;
    x->has_data = x->too_long = x->started = x->spoke = x->done = x->finished = x->refused = false;
    x->events = 0;
    x->first_ms = -1;
    x->last_ms = 0;
    x->fault = HEALTH_FAULT_NONE;
    x->why[0] = 0;
    x->prompt_tokens = x->completion_tokens = 0;
}

void health_llm_init(struct health_llm *x, const struct health_llm_api *a, const char *secret)
{
    x->api = a;
    x->secret = secret;
    restart(x);
}

void health_llm_wrong(struct health_llm *x, int fault, const char *fmt, ...)
{
    if (x->fault != HEALTH_FAULT_NONE)
        return;
    x->fault = fault;
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(x->why, sizeof x->why, fmt, ap);
    va_end(ap);
}

const char *health_llm_text(const json_t *object, const char *key)
{
    const char *t = json_string_value(json_object_get(object, key));
    return t ? t : "";
}

void health_llm_token(struct health_llm *x, int64_t at_ms)
{
    x->spoke = true;
    if (x->first_ms < 0)
        x->first_ms = at_ms;
}

void health_llm_count(const json_t *number, uint32_t *tokens)
{
    double n = json_is_number(number) ? json_number_value(number) : -1;
    if (n >= 0)
        *tokens = n < UINT32_MAX ? (uint32_t)n : UINT32_MAX;
}

void health_llm_mask(char *out, size_t size, const char *text, const char *secret)
{
    size_t n = secret ? strlen(secret) : 0, at = 0;
    while (*text && at + 1 < size) {
        if (n > 0 && strncmp(text, secret, n) == 0) {
            for (int i = 0; i < 3 && at + 1 < size; i++)
                out[at++] = '*';
            text += n;
        } else {
            out[at++] = *text++;
        }
    }
    if (size > 0)
        out[at] = 0;
}

/* ---- errors ---- */

static bool mentions(const char *text, const char *const *words)
{
    for (; *words; words++)
        if (strcasestr(text, *words))
            return true;
    return false;
}

static int fault_of_status(int status)
{
    switch (status) {
    case 401:
    case 403:
        return HEALTH_FAULT_AUTH;
    case 402:
    case 429:
        return HEALTH_FAULT_QUOTA;
    case 503:
    case 529:
        return HEALTH_FAULT_OVERLOAD;
    default:
        return HEALTH_FAULT_STATUS;
    }
}

/* The object or text that says what is wrong; NULL if nothing does. */
static const json_t *error_in(const json_t *j)
{
    if (json_is_array(j)) /* some put it into a list */
        j = json_array_get(j, 0);
    const json_t *error = json_object_get(j, "error");
    bool none = !error || json_is_null(error) || json_is_false(error) ||
                (json_is_string(error) && json_string_length(error) == 0);
    if (!none)
        return error;
    return strcmp(health_llm_text(j, "type"), "error") == 0 || strcmp(health_llm_text(j, "object"), "error") == 0
               ? j
               : NULL;
}

static const char *message_of(const json_t *error)
{
    return json_is_string(error) ? json_string_value(error) : health_llm_text(error, "message");
}

/* Whose words are believed: after a status of 200 there is nothing else; a 400 to 403 can be about money or the key. */
static bool counts(int fault, int status)
{
    return status == 200 || (status >= 400 && status < 404 && fault != HEALTH_FAULT_OVERLOAD);
}

/* By the names that APIs give their errors, and, where nothing else tells, by what they say. */
static int fault_of_error(const json_t *error, int status)
{
    static const struct {
        int fault;
        const char *names[8], *phrases[6];
    } rows[] = {
        {HEALTH_FAULT_QUOTA,
         {"rate_limit", "quota", "billing", "resource_exhausted"},
         {"rate limit", "quota", "too many requests", "credit balance"}},
        {HEALTH_FAULT_OVERLOAD,
         {"overload", "unavailable", "capacity"},
         {"overload", "unavailable", "capacity", "server busy"}},
        {HEALTH_FAULT_AUTH,
         {"authentication_error", "permission_error", "invalid_api_key", "unauthenticated", "permission_denied"},
         {"incorrect api key", "invalid api key", "api key not valid"}},
        {HEALTH_FAULT_REFUSED, {"content_filter", "content_policy", "refusal"}, {NULL}},
    };
    static const char *const keys[] = {"type", "code", "status"};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        for (size_t k = 0; k < sizeof keys / sizeof *keys; k++)
            if (mentions(health_llm_text(error, keys[k]), rows[i].names))
                return rows[i].fault;
    double code = json_number_value(json_object_get(error, "code"));
    if (code >= 400 && code < 600 && fault_of_status((int)code) != HEALTH_FAULT_STATUS)
        return fault_of_status((int)code);
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        if (counts(rows[i].fault, status) && mentions(message_of(error), rows[i].phrases))
            return rows[i].fault;
    return HEALTH_FAULT_STATUS;
}

/* One object of a stream, or the whole: all APIs can fail like that after a status of 200. */
static void take(struct health_llm *x, const json_t *j, bool whole, int64_t at_ms)
{
    const json_t *error = error_in(j);
    x->api->usage(x, j);
    if (error) {
        char said[SAID_MAX];
        const char *message = message_of(error), *type = health_llm_text(error, "type");
        health_llm_mask(said, sizeof said, *message ? message : *type ? type : "no text", x->secret);
        health_llm_wrong(x, fault_of_error(error, 200), "the answer is an error: %s", said);
    } else if (whole) {
        x->api->whole(x, j);
    } else {
        x->api->event(x, j, at_ms);
    }
}

/* ---- a stream ---- */

static void take_event(struct health_llm *x, const char *data, size_t len, int64_t at_ms)
{
    const char *end_word = x->api->end_word;
    if (end_word && len == strlen(end_word) && memcmp(data, end_word, len) == 0) {
        x->done = true;
        return;
    }
    json_error_t e;
    json_t *j = json_loadb(data, len, JSON_FLAGS, &e);
    if (!j)
        health_llm_wrong(x, HEALTH_FAULT_SCHEMA, "an event is not JSON, at byte %d of it", e.position);
    else
        take(x, j, false, at_ms);
    json_decref(j);
}

static void too_large(struct health_llm *x)
{
    health_llm_wrong(x, HEALTH_FAULT_TOO_LARGE, "an event has more than %d bytes", HEALTH_LLM_EVENT_MAX);
}

static void end_event(struct health_llm *x, int64_t at_ms)
{
    if (x->has_data && !x->done)
        take_event(x, x->buf, x->event, at_ms);
    x->event = 0;
    x->has_data = false;
}

/* A line of server-sent events. Comments (": keep-alive"), `event:`, `id:` and `retry:` say nothing here. */
static void take_sse(struct health_llm *x, const char *line, size_t len, bool too_long, int64_t at_ms)
{
    if (len == 0 && !too_long) {
        end_event(x, at_ms);
        return;
    }
    if (too_long && (len < 5 || memcmp(line, "data:", 5) == 0)) {
        too_large(x);
        return;
    }
    if (len < 5 || memcmp(line, "data:", 5) != 0)
        return;
    size_t from = len > 5 && line[5] == ' ' ? 6 : 5;
    if (x->has_data)
        x->buf[x->event++] = '\n'; /* there is room: the line's own first five bytes go */
    memmove(x->buf + x->event, line + from, len - from);
    x->event += len - from;
    x->has_data = true;
}

/* A line that is a JSON object. */
static void take_json_line(struct health_llm *x, const char *line, size_t len, bool too_long, int64_t at_ms)
{
    if (too_long)
        too_large(x);
    else if (len > 0 && !x->done)
        take_event(x, line, len, at_ms);
}

static void take_line(struct health_llm *x, int64_t at_ms)
{
    const char *line = x->buf + x->event;
    size_t len = x->line;
    bool too_long = x->too_long;
    x->line = 0;
    x->too_long = false;
    if (len > 0 && line[len - 1] == '\r')
        len--;
    (x->api->lines ? take_json_line : take_sse)(x, line, len, too_long, at_ms);
}

void health_llm_feed(struct health_llm *x, const char *data, size_t len, int64_t at_ms)
{
    x->last_ms = at_ms;
    while (len > 0 && !x->done) { /* after its end a stream says nothing */
        const char *end = memchr(data, '\n', len);
        size_t n = end ? (size_t)(end - data) : len, room = sizeof x->buf - x->event - x->line;
        memcpy(x->buf + x->event + x->line, data, n < room ? n : room);
        x->line += n < room ? n : room;
        /* A body that is no stream has lines of any length: only an event must be short. */
        x->too_long = x->too_long || n > room;
        if (end) {
            take_line(x, at_ms);
            n++;
        }
        data += n;
        len -= n;
    }
}

/* ---- the end ---- */

static bool is_type(const char *content_type, const char *type)
{
    size_t n = strlen(type);
    return strncasecmp(content_type, type, n) == 0 && strchr("; \t", content_type[n]) != NULL;
}

static void unfinished(struct health_llm *x, enum health_llm_how how)
{
    switch (how) {
    case HEALTH_LLM_WHOLE:
        health_llm_wrong(x, HEALTH_FAULT_CUT, "the stream ended without %s after %u events", x->api->end_name,
                         x->events);
        break;
    case HEALTH_LLM_CUT:
        health_llm_wrong(x, HEALTH_FAULT_CUT, "the connection ended in the middle of the answer, after %u events",
                         x->events);
        break;
    case HEALTH_LLM_STALLED:
        health_llm_wrong(x, HEALTH_FAULT_TIMEOUT, "the answer stalled after %u events: no end of it in time",
                         x->events);
        break;
    case HEALTH_LLM_LARGE:
        health_llm_wrong(x, HEALTH_FAULT_TOO_LARGE, "the answer has more than %d bytes", HEALTH_LLM_BODY_MAX);
        break;
    }
}

/* What came before a cut or a stall says more than that it was cut. */
static void judge_stream(struct health_llm *x, enum health_llm_how how)
{
    if (how == HEALTH_LLM_WHOLE && !x->done) { /* the last event may lack its own end */
        if (x->line > 0 || x->too_long)
            take_line(x, x->last_ms);
        end_event(x, x->last_ms);
    }
    if (!x->done)
        unfinished(x, how);
    else if (x->events == 0 || (!x->finished && !x->spoke && !x->refused))
        health_llm_wrong(x, HEALTH_FAULT_SCHEMA, "the stream held no token");
}

static void judge_whole(struct health_llm *x, const struct health_llm_end *e)
{
    restart(x); /* what was read of it as a stream is void */
    if (e->how != HEALTH_LLM_WHOLE) {
        unfinished(x, e->how);
        return;
    }
    if (!is_type(e->content_type, "application/json")) {
        char said[SAID_MAX];
        health_llm_mask(said, sizeof said, e->content_type, x->secret);
        health_llm_wrong(x, HEALTH_FAULT_SCHEMA, "the answer is neither an event stream nor JSON but `%.50s`", said);
        return;
    }
    json_error_t je;
    json_t *j = json_loadb(e->body, e->len, JSON_FLAGS, &je);
    if (!j)
        health_llm_wrong(x, HEALTH_FAULT_SCHEMA, "the answer is not JSON, at byte %d", je.position);
    else
        take(x, j, true, -1); /* it came as one: there is no first token */
    json_decref(j);
}

/* The status tells; a name or text of the error may tell more, but never what was told by 429, 503 and 529. */
static void judge_status(struct health_llm *x, const struct health_llm_end *e)
{
    restart(x);
    int fault = fault_of_status(e->status);
    json_t *j = json_loadb(e->body, e->len, JSON_ALLOW_NUL | JSON_DECODE_INT_AS_REAL, NULL);
    const json_t *error = error_in(j);
    error = error ? error : j; /* {"message": ...}, {"detail": ...} */
    const char *text = message_of(error);
    text = *text ? text : health_llm_text(error, "detail");
    x->api->usage(x, j);
    if (fault == HEALTH_FAULT_STATUS || fault == HEALTH_FAULT_AUTH) {
        int named = fault_of_error(error, e->status);
        fault = named != HEALTH_FAULT_STATUS ? named : fault;
    }
    char said[SAID_MAX];
    health_llm_mask(said, sizeof said, text, x->secret);
    health_llm_wrong(x, fault, "HTTP %d%s%s", e->status, *said ? ": " : "", said);
    json_decref(j);
}

static uint32_t ms_of(int64_t ms)
{
    return ms < 1 ? 1 : ms < UINT32_MAX ? (uint32_t)ms : UINT32_MAX;
}

void health_llm_judge(struct health_llm *x, const struct health_llm_end *e, struct health_result *r)
{
    r->status = (uint16_t)(e->status > 0 && e->status < 1000 ? e->status : 0);
    if (e->status < 200 || e->status >= 300)
        judge_status(x, e);
    else if (is_type(e->content_type, x->api->stream_type))
        judge_stream(x, e->how);
    else
        judge_whole(x, e);
    if (x->refused)
        health_llm_wrong(x, HEALTH_FAULT_REFUSED, "the model, or a content filter, refused to answer");
    r->fault = (uint8_t)x->fault;
    r->first_token_ms = x->first_ms >= 0 ? ms_of(x->first_ms) : 0;
    if (x->done && e->how == HEALTH_LLM_STALLED)
        r->total_ms = ms_of(x->last_ms);
    r->prompt_tokens = x->prompt_tokens;
    r->completion_tokens = x->completion_tokens;
    health_detail(r, "%s", x->why);
}

bool health_llm_form_refused(const struct health_llm_end *e)
{
    return e->status == 400 || e->status == 422;
}

unsigned health_llm_learn(const struct health_llm_api *a, const struct health_llm_end *e, unsigned wants)
{
    return a->learn && health_llm_form_refused(e) ? a->learn(e, wants) : 0;
}

/* ---- what it costs ---- */

uint32_t health_llm_cost(uint32_t prompt_tokens, uint32_t completion_tokens, int64_t price_input,
                         int64_t price_output)
{
    uint64_t in, out, sum;
    if (__builtin_mul_overflow((uint64_t)prompt_tokens, (uint64_t)price_input, &in) ||
        __builtin_mul_overflow((uint64_t)completion_tokens, (uint64_t)price_output, &out) ||
        __builtin_add_overflow(in, out, &sum))
        return UINT32_MAX;
    uint64_t cost = sum / 1000000 + (sum % 1000000 != 0);
    return cost < UINT32_MAX ? (uint32_t)cost : UINT32_MAX;
}

void health_llm_spent_text(const struct health_spent *s, char *buf, size_t size)
{
    snprintf(buf, size, "probes since the start: %" PRIu64 " + %" PRIu64 " tokens, %" PRIu64 ".%06" PRIu64 " $",
             s->prompt_tokens, s->completion_tokens, s->cost_microusd / 1000000, s->cost_microusd % 1000000);
}
