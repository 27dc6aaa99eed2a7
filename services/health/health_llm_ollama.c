/* health_llm_ollama.c - Ollama's chat: a JSON object per line, the last of them with `done`. */
#include "health/health_llm_api.h"
#include <string.h>

static json_t *request(const char *model, bool stream, unsigned wants)
{
    (void)wants;
    return json_pack("{s:s, s:[{s:s, s:s}], s:b, s:{s:i}}", "model", model, "messages", "role", "user", "content",
                     "ping", "stream", stream, "options", "num_predict", 1);
}

/* In the last object. The count of the prompt is left out when it was remembered from the last time. */
static void usage(struct health_llm *x, const json_t *j)
{
    health_llm_count(json_object_get(j, "prompt_eval_count"), &x->prompt_tokens);
    health_llm_count(json_object_get(j, "eval_count"), &x->completion_tokens);
}

static bool says_something(const json_t *message)
{
    const char *key;
    json_t *value;
    bool says = false;
    json_object_foreach((json_t *)message, key, value)
    {
        if (strcmp(key, "role") != 0)
            says = says || json_string_length(value) > 0 || json_array_size(value) > 0;
    }
    return says;
}

static void event(struct health_llm *x, const json_t *j, int64_t at_ms)
{
    const json_t *message = json_object_get(j, "message"), *done = json_object_get(j, "done");
    if (!json_is_boolean(done) || (message && !json_is_object(message)) || (!message && !json_is_true(done))) {
        health_llm_wrong(x, HEALTH_FAULT_SCHEMA, "no `message` or no `done` in the answer");
        return;
    }
    x->events++;
    if (says_something(message))
        health_llm_token(x, at_ms);
    if (!json_is_true(done))
        return;
    x->done = true;
    /* `load` and `unload`: nothing was asked of the model. Older servers give no reason. */
    const char *why = health_llm_text(j, "done_reason");
    x->finished = *why ? strcmp(why, "load") != 0 && strcmp(why, "unload") != 0 : x->completion_tokens > 0;
}

static void whole(struct health_llm *x, const json_t *j)
{
    event(x, j, -1);
    if (!x->done)
        health_llm_wrong(x, HEALTH_FAULT_CUT, "the answer is not marked as `done`");
    else if (!x->finished && !x->spoke)
        health_llm_wrong(x, HEALTH_FAULT_SCHEMA, "the answer holds no token");
}

const struct health_llm_api health_llm_ollama = {
    .path = "/chat",
    .auth = "Authorization: Bearer ",
    .stream_type = "application/x-ndjson",
    .end_name = "`done`",
    .lines = true,
    .request = request,
    .event = event,
    .whole = whole,
    .usage = usage,
};
