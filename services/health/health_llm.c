/* health_llm.c - reads and judges the answer of an OpenAI-compatible API. */
#include "health/health_llm.h"
#include <jansson.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

void health_llm_init(struct health_llm *x)
{
    x->len = 0;
    x->too_long = x->done = x->finished = x->refused = false;
    x->events = 0;
    x->first_ms = -1;
    x->fault = HEALTH_FAULT_NONE;
    x->why[0] = 0;
}

__attribute__((format(printf, 3, 4))) static void wrong(struct health_llm *x, int fault, const char *fmt, ...)
{
    if (x->fault != HEALTH_FAULT_NONE)
        return;
    x->fault = fault;
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(x->why, sizeof x->why, fmt, ap);
    va_end(ap);
}

/* ---- one object: a chunk of a stream, or the whole completion ---- */

static const char *text_of(const json_t *object, const char *key)
{
    const char *t = json_string_value(json_object_get(object, key));
    return t ? t : "";
}

static bool mentions(const char *text, const char *const *words)
{
    for (; *words; words++)
        if (strcasestr(text, *words))
            return true;
    return false;
}

/* `error` in an answer of status 200: some APIs and gateways fail like that once a stream has begun. */
static void take_error(struct health_llm *x, const json_t *error)
{
    static const char *const overload[] = {"overload", "unavailable", "capacity", NULL};
    static const char *const quota[] = {"rate_limit", "rate limit", "quota", "too many requests", NULL};
    const char *message = json_is_string(error) ? json_string_value(error) : text_of(error, "message");
    const char *type = text_of(error, "type"), *code = text_of(error, "code");
    int fault = mentions(type, quota) || mentions(code, quota)         ? HEALTH_FAULT_QUOTA
                : mentions(type, overload) || mentions(code, overload) ? HEALTH_FAULT_OVERLOAD
                : mentions(message, quota)                             ? HEALTH_FAULT_QUOTA
                : mentions(message, overload)                          ? HEALTH_FAULT_OVERLOAD
                                                                       : HEALTH_FAULT_STATUS;
    wrong(x, fault, "the answer is an error: %.80s", *message ? message : *type ? type : "no text");
}

static void take_finish(struct health_llm *x, const json_t *choice)
{
    const json_t *why = json_object_get(choice, "finish_reason");
    if (!json_is_string(why))
        return;
    x->finished = true;
    if (strcmp(json_string_value(why), "content_filter") == 0)
        x->refused = true;
}

/* A delta or message: anything that the model says is a token, whatever it is called (content, reasoning, tool calls). */
static bool says_something(struct health_llm *x, const json_t *m)
{
    const char *key;
    json_t *value;
    bool says = false;
    if (json_is_string(json_object_get(m, "refusal")))
        x->refused = true;
    json_object_foreach((json_t *)m, key, value)
    {
        if (strcmp(key, "role") == 0)
            continue;
        says = says || json_string_length(value) > 0 || json_array_size(value) > 0;
    }
    return says;
}

static void take_object(struct health_llm *x, const json_t *j, const char *part, int64_t at_ms)
{
    const json_t *choices = json_object_get(j, "choices");
    const json_t *error = json_object_get(j, "error");
    if (error && !json_is_null(error)) {
        take_error(x, error);
        return;
    }
    if (!json_is_object(j) || !json_is_array(choices)) {
        wrong(x, HEALTH_FAULT_SCHEMA, "no list `choices` in the answer");
        return;
    }
    /* Empty at the end (usage) and with some gateways at the start (filter results). */
    const json_t *choice = json_array_get(choices, 0);
    if (!choice) {
        x->events++;
        return;
    }
    const json_t *m = json_object_get(choice, part);
    if (!json_is_object(m)) {
        wrong(x, HEALTH_FAULT_SCHEMA, "no `%s` in the answer's first choice", part);
        return;
    }
    x->events++;
    if (says_something(x, m) && x->first_ms < 0)
        x->first_ms = at_ms;
    take_finish(x, choice);
}

/* ---- server-sent events ---- */

static void take_data(struct health_llm *x, const char *data, size_t len, int64_t at_ms)
{
    if (len == 6 && memcmp(data, "[DONE]", 6) == 0) {
        x->done = true;
        return;
    }
    json_error_t e;
    json_t *j = json_loadb(data, len, JSON_REJECT_DUPLICATES, &e);
    if (!j)
        wrong(x, HEALTH_FAULT_SCHEMA, "an event is not JSON: %.60s", e.text);
    else
        take_object(x, j, "delta", at_ms);
    json_decref(j);
}

static void take_line(struct health_llm *x, int64_t at_ms)
{
    size_t len = x->len;
    x->len = 0;
    if (len > 0 && x->line[len - 1] == '\r')
        len--;
    /* Comments (": keep-alive"), `event:`, `id:` and empty lines say nothing here; after [DONE] nothing does. */
    if (x->done || len < 5 || memcmp(x->line, "data:", 5) != 0)
        return;
    size_t from = len > 5 && x->line[5] == ' ' ? 6 : 5;
    take_data(x, x->line + from, len - from, at_ms);
}

void health_llm_feed(struct health_llm *x, const char *data, size_t len, int64_t at_ms)
{
    while (len > 0) {
        const char *end = memchr(data, '\n', len);
        size_t n = end ? (size_t)(end - data) : len, room = sizeof x->line - x->len;
        memcpy(x->line + x->len, data, n < room ? n : room);
        x->len += n < room ? n : room;
        x->too_long = x->too_long || n > room;
        if (end) {
            /* A body that is no stream has lines of any length: only an event must be short. */
            if (!x->too_long)
                take_line(x, at_ms);
            else if (memcmp(x->line, "data:", 5) == 0)
                wrong(x, HEALTH_FAULT_TOO_LARGE, "an event has more than %d bytes", HEALTH_LLM_LINE_MAX);
            x->len = 0;
            x->too_long = false;
            n++;
        }
        data += n;
        len -= n;
    }
}

/* ---- the whole ---- */

static bool is_type(const char *content_type, const char *type)
{
    size_t n = strlen(type);
    return strncasecmp(content_type, type, n) == 0 && strchr("; \t", content_type[n]) != NULL;
}

static void judge_json(struct health_llm *x, const struct health_llm_end *e)
{
    json_error_t je;
    json_t *j = json_loadb(e->body, e->len, JSON_REJECT_DUPLICATES, &je);
    if (!j)
        wrong(x, HEALTH_FAULT_SCHEMA, "the answer is not JSON: %.60s", je.text);
    else
        take_object(x, j, "message", -1); /* it came as one: there is no first token */
    if (x->fault == HEALTH_FAULT_NONE && json_array_size(json_object_get(j, "choices")) == 0)
        wrong(x, HEALTH_FAULT_SCHEMA, "no choice in the answer");
    json_decref(j);
}

static void judge_stream(struct health_llm *x)
{
    if (x->len > 0 && !x->too_long)
        take_line(x, x->first_ms); /* the last one, without its end; a token in it came with the end */
    if (!x->done)
        wrong(x, HEALTH_FAULT_CUT, "the stream ended without [DONE] after %u events", x->events);
    else if (x->events == 0 || (!x->finished && x->first_ms < 0 && !x->refused))
        wrong(x, HEALTH_FAULT_SCHEMA, "the stream held no token");
}

static int fault_of_status(int status)
{
    switch (status) {
    case 401:
    case 403:
        return HEALTH_FAULT_AUTH;
    case 429:
        return HEALTH_FAULT_QUOTA;
    case 503:
    case 529:
        return HEALTH_FAULT_OVERLOAD;
    default:
        return status >= 200 && status < 300 ? HEALTH_FAULT_NONE : HEALTH_FAULT_STATUS;
    }
}

/* The message of an error's JSON, for people. */
static void error_text(const struct health_llm_end *e, char *buf, size_t size)
{
    json_t *j = json_loadb(e->body, e->len, 0, NULL);
    const json_t *error = json_object_get(j, "error");
    const char *text = json_is_string(error) ? json_string_value(error) : text_of(error, "message");
    snprintf(buf, size, "%.80s", text);
    json_decref(j);
}

void health_llm_judge(struct health_llm *x, const struct health_llm_end *e, struct health_result *r)
{
    int fault = fault_of_status(e->status);
    r->status = (uint16_t)(e->status > 0 && e->status < 1000 ? e->status : 0);
    if (fault != HEALTH_FAULT_NONE) {
        char text[96];
        error_text(e, text, sizeof text);
        r->fault = (uint8_t)fault;
        health_detail(r, "HTTP %d%s%s", e->status, *text ? ": " : "", text);
        return;
    }
    if (e->cut)
        wrong(x, HEALTH_FAULT_CUT, "the connection ended in the middle of the answer, after %u events", x->events);
    else if (is_type(e->content_type, "text/event-stream"))
        judge_stream(x);
    else if (is_type(e->content_type, "application/json"))
        judge_json(x, e);
    else
        wrong(x, HEALTH_FAULT_SCHEMA, "the answer is neither an event stream nor JSON but `%.60s`", e->content_type);
    if (x->fault == HEALTH_FAULT_NONE && x->refused)
        wrong(x, HEALTH_FAULT_REFUSED, "the model, or a content filter, refused to answer");
    r->fault = (uint8_t)x->fault;
    r->first_token_ms = x->first_ms > 0    ? (uint32_t)(x->first_ms < UINT32_MAX ? x->first_ms : UINT32_MAX)
                        : x->first_ms == 0 ? 1
                                           : 0;
    health_detail(r, "%s", x->why);
}

bool health_llm_wants_new_limit(const struct health_llm_end *e)
{
    return e->status == 400 && e->len > 0 && memmem(e->body, e->len, "max_completion_tokens", 21) != NULL;
}

char *health_llm_request(const char *model, bool new_limit)
{
    json_t *j = json_pack("{s:s, s:[{s:s, s:s}], s:i, s:b}", "model", model, "messages", "role", "user", "content",
                          "ping", new_limit ? "max_completion_tokens" : "max_tokens", 1, "stream", 1);
    char *text = j ? json_dumps(j, JSON_COMPACT) : NULL;
    json_decref(j);
    return text;
}
