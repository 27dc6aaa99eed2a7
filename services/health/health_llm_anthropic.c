/* health_llm_anthropic.c - Anthropic's Messages API.
 *
 * A stream: message_start, for each block content_block_start, _delta and _stop, message_delta with the reason of the end, message_stop;
 * ping and error at any time. Kinds of events that are not known here are passed over, as the API asks of its clients. */
#include "health/health_llm_api.h"
#include <string.h>

static json_t *request(const char *model, bool stream, unsigned wants)
{
    (void)wants;
    return json_pack("{s:s, s:i, s:[{s:s, s:s}], s:b}", "model", model, "max_tokens", 1, "messages", "role", "user",
                     "content", "ping", "stream", stream);
}

/* In message_start, in message_delta (the sum so far), and in a whole answer. */
static void usage(struct health_llm *x, const json_t *j)
{
    const json_t *u = json_object_get(j, "usage");
    u = u ? u : json_object_get(json_object_get(j, "message"), "usage");
    health_llm_count(json_object_get(u, "input_tokens"), &x->prompt_tokens);
    health_llm_count(json_object_get(u, "output_tokens"), &x->completion_tokens);
}

static void take_stop(struct health_llm *x, const json_t *object)
{
    const json_t *why = json_object_get(object, "stop_reason");
    if (!json_is_string(why))
        return;
    x->finished = true;
    if (strcmp(json_string_value(why), "refusal") == 0)
        x->refused = true;
}

/* A block, or a change to one: text, thinking, the input of a tool. */
static bool says_something(const json_t *block)
{
    const char *key;
    json_t *value;
    bool says = false;
    json_object_foreach((json_t *)block, key, value)
    {
        says = says || (strcmp(key, "type") != 0 && json_string_length(value) > 0);
    }
    return says;
}

static void on_start(struct health_llm *x, const json_t *j, int64_t at_ms)
{
    (void)at_ms;
    x->started = strcmp(health_llm_text(json_object_get(j, "message"), "type"), "message") == 0;
    if (!x->started)
        health_llm_wrong(x, HEALTH_FAULT_SCHEMA, "no `message` in message_start");
}

static void on_block(struct health_llm *x, const json_t *j, int64_t at_ms)
{
    const json_t *block = json_object_get(j, "content_block");
    block = block ? block : json_object_get(j, "delta");
    if (!json_is_object(block))
        health_llm_wrong(x, HEALTH_FAULT_SCHEMA, "no block in %.40s", health_llm_text(j, "type"));
    else if (says_something(block))
        health_llm_token(x, at_ms);
}

static void on_delta(struct health_llm *x, const json_t *j, int64_t at_ms)
{
    (void)at_ms;
    if (!json_is_object(json_object_get(j, "delta")))
        health_llm_wrong(x, HEALTH_FAULT_SCHEMA, "no `delta` in message_delta");
    take_stop(x, json_object_get(j, "delta"));
}

static void on_stop(struct health_llm *x, const json_t *j, int64_t at_ms)
{
    (void)j;
    (void)at_ms;
    x->done = true;
}

static const struct {
    const char *type;
    void (*take)(struct health_llm *x, const json_t *j, int64_t at_ms);
} kinds[] = {{"message_start", on_start},  {"content_block_start", on_block}, {"content_block_delta", on_block},
             {"content_block_stop", NULL}, {"message_delta", on_delta},       {"message_stop", on_stop}};

static void event(struct health_llm *x, const json_t *j, int64_t at_ms)
{
    const char *type = health_llm_text(j, "type");
    if (!*type) {
        health_llm_wrong(x, HEALTH_FAULT_SCHEMA, "an event has no `type`");
        return;
    }
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        if (strcmp(type, kinds[i].type) != 0)
            continue;
        if (i > 0 && !x->started)
            health_llm_wrong(x, HEALTH_FAULT_SCHEMA, "%s before message_start", type);
        if (kinds[i].take)
            kinds[i].take(x, j, at_ms);
    }
    x->events++;
}

static void whole(struct health_llm *x, const json_t *j)
{
    const json_t *content = json_object_get(j, "content");
    if (strcmp(health_llm_text(j, "type"), "message") != 0 || !json_is_array(content)) {
        health_llm_wrong(x, HEALTH_FAULT_SCHEMA, "the answer is no `message` with a list `content`");
        return;
    }
    take_stop(x, j);
    for (size_t i = 0; i < json_array_size(content); i++)
        if (says_something(json_array_get(content, i)))
            health_llm_token(x, -1);
    if (!x->finished)
        health_llm_wrong(x, HEALTH_FAULT_SCHEMA, "no `stop_reason` in the answer");
}

const struct health_llm_api health_llm_anthropic = {
    .path = "/messages",
    .auth = "x-api-key: ",
    .version = "anthropic-version: 2023-06-01",
    .stream_type = "text/event-stream",
    .end_name = "message_stop",
    .request = request,
    .event = event,
    .whole = whole,
    .usage = usage,
};
