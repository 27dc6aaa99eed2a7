/* health_llm_openai.c - chat completions of OpenAI, and of the many that are compatible with it, more or less. */
#include "health/health_llm_api.h"
#include <string.h>

#define FEW  1
#define MORE 64 /* for models that think before they speak and call it an error when they may not */

static json_t *request(const char *model, bool stream, unsigned wants)
{
    json_t *j = json_pack("{s:s, s:[{s:s, s:s}], s:i, s:b}", "model", model, "messages", "role", "user", "content",
                          "ping", wants & HEALTH_LLM_NEW_LIMIT ? "max_completion_tokens" : "max_tokens",
                          wants & HEALTH_LLM_MORE ? MORE : FEW, "stream", stream);
    if (j && stream && !(wants & HEALTH_LLM_NO_USAGE))
        json_object_set_new(j, "stream_options", json_pack("{s:b}", "include_usage", 1));
    return j;
}

static void usage(struct health_llm *x, const json_t *j)
{
    const json_t *u = json_object_get(j, "usage"); /* null in all but the last event */
    health_llm_count(json_object_get(u, "prompt_tokens"), &x->prompt_tokens);
    health_llm_count(json_object_get(u, "completion_tokens"), &x->completion_tokens);
}

static void take_finish(struct health_llm *x, const json_t *choice)
{
    const json_t *why = json_object_get(choice, "finish_reason");
    if (!json_is_string(why))
        return;
    x->finished = true;
    if (strcmp(json_string_value(why), "content_filter") == 0)
        x->refused = true;
    if (strcmp(json_string_value(why), "error") == 0) /* gateways, when the model behind them breaks off */
        health_llm_wrong(x, HEALTH_FAULT_STATUS, "the model broke off with an error");
}

/* A delta or message: anything that the model says is a token, whatever it is called (content, reasoning, tool calls). */
static bool says_something(struct health_llm *x, const json_t *m)
{
    const char *key;
    json_t *value;
    bool says = false;
    if (json_string_length(json_object_get(m, "refusal")) > 0)
        x->refused = true;
    json_object_foreach((json_t *)m, key, value)
    {
        if (strcmp(key, "role") == 0)
            continue;
        says = says || json_string_length(value) > 0 || json_array_size(value) > 0;
    }
    return says;
}

static void take(struct health_llm *x, const json_t *j, const char *part, bool must, int64_t at_ms)
{
    const json_t *choices = json_object_get(j, "choices");
    if (!json_is_array(choices)) {
        health_llm_wrong(x, HEALTH_FAULT_SCHEMA, "no list `choices` in the answer");
        return;
    }
    /* Empty at the end of a stream (usage) and with some gateways at its start (filter results). */
    const json_t *choice = json_array_get(choices, 0);
    if (!choice) {
        if (must)
            health_llm_wrong(x, HEALTH_FAULT_SCHEMA, "no choice in the answer");
        x->events++;
        return;
    }
    const json_t *m = json_object_get(choice, part);
    if (!json_is_object(m)) {
        health_llm_wrong(x, HEALTH_FAULT_SCHEMA, "no `%s` in the answer's first choice", part);
        return;
    }
    x->events++;
    if (says_something(x, m))
        health_llm_token(x, at_ms);
    take_finish(x, choice);
}

static void event(struct health_llm *x, const json_t *j, int64_t at_ms)
{
    take(x, j, "delta", false, at_ms);
}

static void whole(struct health_llm *x, const json_t *j)
{
    take(x, j, "message", true, -1);
}

static bool says(const struct health_llm_end *e, const char *word)
{
    return memmem(e->body, e->len, word, strlen(word)) != NULL;
}

/* By what the refusal names. Should it name something without meaning it, one more question is asked, and nothing is lost. */
static unsigned learn(const struct health_llm_end *e, unsigned wants)
{
    unsigned found = 0;
    if (says(e, "max_completion_tokens"))
        found |= HEALTH_LLM_NEW_LIMIT;
    if (says(e, "stream_options") || says(e, "include_usage"))
        found |= HEALTH_LLM_NO_USAGE;
    if (says(e, "output limit was reached") || says(e, "minimum value"))
        found |= HEALTH_LLM_MORE;
    return found & ~wants;
}

const struct health_llm_api health_llm_openai = {
    .path = "/chat/completions",
    .auth = "Authorization: Bearer ",
    .stream_type = "text/event-stream",
    .end_word = "[DONE]",
    .end_name = "[DONE]",
    .request = request,
    .event = event,
    .whole = whole,
    .usage = usage,
    .learn = learn,
};
