/* sim_llm_api.c - what the APIs of OpenAI, Anthropic and Ollama look like: answers, streams, errors. */
#include "cli/sim_llm_api.h"
#include <string.h>
#include <time.h>

const char *const sim_llm_words[SIM_LLM_WORDS] = {"All", " is", " well."};
#define ALL_WORDS "All is well."
#define NO_WORDS  "I cannot help with that."

/* ---- OpenAI ---- */

static json_t *openai_error(enum sim_llm_error kind, const char *text)
{
    static const struct {
        const char *type, *code;
    } rows[SIM_LLM_ERRORS] = {
        [SIM_LLM_WRONG] = {"invalid_request_error", NULL},
        [SIM_LLM_KEY] = {"invalid_request_error", "invalid_api_key"},
        [SIM_LLM_FORBIDDEN] = {"invalid_request_error", "not_allowed"},
        [SIM_LLM_NOT_FOUND] = {"invalid_request_error", "model_not_found"},
        [SIM_LLM_RATE] = {"rate_limit_error", "rate_limit_exceeded"},
        [SIM_LLM_QUOTA] = {"insufficient_quota", "insufficient_quota"},
        [SIM_LLM_SERVER] = {"server_error", NULL},
        [SIM_LLM_BUSY] = {"overloaded_error", NULL},
    };
    return json_pack("{s:{s:s, s:s, s:n, s:s?}}", "error", "message", text, "type", rows[kind].type, "param", "code",
                     rows[kind].code);
}

static const char *openai_wrong(const struct sim_request *r)
{
    const json_t *old = json_object_get(r->json, "max_tokens"),
                 *limit = json_object_get(r->json, "max_completion_tokens");
    if (strcmp(r->mode, "new-limit") == 0 && old)
        return "Unsupported parameter: 'max_tokens' is not supported with this model. Use 'max_completion_tokens' "
               "instead.";
    if (strcmp(r->mode, "no-usage") == 0 && json_object_get(r->json, "stream_options"))
        return "Unknown parameter: 'stream_options.include_usage'.";
    limit = limit ? limit : old;
    if (strcmp(r->mode, "thinks") == 0 && limit && json_number_value(limit) < 16)
        return "Could not finish the message because max_tokens or model output limit was reached. Please try again "
               "with higher max_tokens.";
    return NULL;
}

static json_t *openai_object(const char *model, const char *object)
{
    return json_pack("{s:s, s:s, s:I, s:s}", "id", "chatcmpl-sim", "object", object, "created",
                     (json_int_t)time(NULL), "model", model);
}

static json_t *openai_usage(void)
{
    return json_pack("{s:i, s:i, s:i}", "prompt_tokens", SIM_LLM_PROMPT_TOKENS, "completion_tokens", SIM_LLM_WORDS,
                     "total_tokens", SIM_LLM_PROMPT_TOKENS + SIM_LLM_WORDS);
}

static json_t *openai_whole(const struct sim_llm_answer *w)
{
    json_t *j = openai_object(w->model, "chat.completion"), *message;
    message = w->kind == SIM_LLM_REFUSES
                  ? json_pack("{s:s, s:n, s:s}", "role", "assistant", "content", "refusal", NO_WORDS)
                  : json_pack("{s:s, s:s}", "role", "assistant", "content", ALL_WORDS);
    if (w->kind == SIM_LLM_SILENT) {
        json_decref(message);
        json_object_set_new(j, "choices", json_array());
    } else {
        json_object_set_new(j, "choices",
                            json_pack("[{s:i, s:o, s:s}]", "index", 0, "message", message, "finish_reason", "stop"));
    }
    if (w->usage)
        json_object_set_new(j, "usage", openai_usage());
    return j;
}

static void openai_chunk(struct sim_llm_stream *s, const char *model, json_t *delta, const char *finish)
{
    json_t *j = openai_object(model, "chat.completion.chunk");
    json_object_set_new(j, "choices",
                        json_pack("[{s:i, s:o, s:s?}]", "index", 0, "delta", delta, "finish_reason", finish));
    sim_llm_add(s, NULL, j, false);
}

static void openai_stream(struct sim_llm_stream *s, const struct sim_llm_answer *w)
{
    const char *says = w->kind == SIM_LLM_REFUSES ? "refusal" : "content";
    const char *first = w->kind == SIM_LLM_REFUSES ? NO_WORDS : w->kind == SIM_LLM_SILENT ? "" : sim_llm_words[0];
    openai_chunk(s, w->model, json_pack("{s:s, s:s}", "role", "assistant", says, first), NULL);
    s->begun = s->n;
    for (size_t i = 1; i < SIM_LLM_WORDS && w->kind == SIM_LLM_SPEAKS; i++)
        openai_chunk(s, w->model, json_pack("{s:s}", "content", sim_llm_words[i]), NULL);
    if (w->kind != SIM_LLM_SILENT)
        openai_chunk(s, w->model, json_object(), "stop");
    if (w->usage) {
        json_t *j = openai_object(w->model, "chat.completion.chunk");
        json_object_set_new(j, "choices", json_array());
        json_object_set_new(j, "usage", openai_usage());
        sim_llm_add(s, NULL, j, false);
    }
    s->ended = s->n;
    sim_llm_add_text(s, strdup("data: [DONE]\n\n"));
}

const struct sim_llm_api sim_llm_openai = {
    .paths = {"/v1/chat/completions", "/chat/completions"},
    .key_header = "Authorization",
    .key_prefix = "Bearer ",
    .stream_type = "text/event-stream",
    .asks_usage = true,
    .quota_status = 429,
    .error = openai_error,
    .wrong = openai_wrong,
    .whole = openai_whole,
    .stream = openai_stream,
};

/* ---- Anthropic ---- */

static json_t *anthropic_error(enum sim_llm_error kind, const char *text)
{
    static const char *const types[SIM_LLM_ERRORS] = {
        [SIM_LLM_WRONG] = "invalid_request_error",
        [SIM_LLM_KEY] = "authentication_error",
        [SIM_LLM_FORBIDDEN] = "permission_error",
        [SIM_LLM_NOT_FOUND] = "not_found_error",
        [SIM_LLM_RATE] = "rate_limit_error",
        [SIM_LLM_QUOTA] = "billing_error",
        [SIM_LLM_SERVER] = "api_error",
        [SIM_LLM_BUSY] = "overloaded_error",
    };
    return json_pack("{s:s, s:{s:s, s:s}}", "type", "error", "error", "type", types[kind], "message", text);
}

static const char *anthropic_wrong(const struct sim_request *r)
{
    if (!sim_header(r, "anthropic-version"))
        return "anthropic-version: header is required";
    return json_is_integer(json_object_get(r->json, "max_tokens")) ? NULL : "max_tokens: Field required";
}

static json_t *anthropic_message(const struct sim_llm_answer *w, json_t *content, const char *reason, int tokens)
{
    json_t *j = json_pack("{s:s, s:s, s:s, s:s, s:o, s:s?, s:n}", "id", "msg_sim", "type", "message", "role",
                          "assistant", "model", w->model, "content", content, "stop_reason", reason, "stop_sequence");
    if (w->usage)
        json_object_set_new(j, "usage",
                            json_pack("{s:i, s:i}", "input_tokens", SIM_LLM_PROMPT_TOKENS, "output_tokens", tokens));
    return j;
}

static json_t *anthropic_whole(const struct sim_llm_answer *w)
{
    static const char *const reasons[] = {
        [SIM_LLM_SPEAKS] = "end_turn", [SIM_LLM_REFUSES] = "refusal", [SIM_LLM_SILENT] = NULL};
    return anthropic_message(
        w, w->kind == SIM_LLM_SPEAKS ? json_pack("[{s:s, s:s}]", "type", "text", "text", ALL_WORDS) : json_array(),
        reasons[w->kind], SIM_LLM_WORDS);
}

static void anthropic_event(struct sim_llm_stream *s, const char *type, json_t *j)
{
    json_object_set_new(j, "type", json_string(type));
    sim_llm_add(s, type, j, false);
}

static void anthropic_stream(struct sim_llm_stream *s, const struct sim_llm_answer *w)
{
    anthropic_event(s, "message_start", json_pack("{s:o}", "message", anthropic_message(w, json_array(), NULL, 1)));
    anthropic_event(s, "ping", json_object());
    if (w->kind == SIM_LLM_SPEAKS)
        anthropic_event(s, "content_block_start",
                        json_pack("{s:i, s:{s:s, s:s}}", "index", 0, "content_block", "type", "text", "text", ""));
    for (size_t i = 0; i < SIM_LLM_WORDS && w->kind == SIM_LLM_SPEAKS; i++) {
        anthropic_event(
            s, "content_block_delta",
            json_pack("{s:i, s:{s:s, s:s}}", "index", 0, "delta", "type", "text_delta", "text", sim_llm_words[i]));
        s->begun = s->begun ? s->begun : s->n;
    }
    s->begun = s->begun ? s->begun : s->n;
    if (w->kind == SIM_LLM_SPEAKS)
        anthropic_event(s, "content_block_stop", json_pack("{s:i}", "index", 0));
    if (w->kind != SIM_LLM_SILENT) {
        json_t *j = json_pack("{s:{s:s, s:n}}", "delta", "stop_reason",
                              w->kind == SIM_LLM_REFUSES ? "refusal" : "end_turn", "stop_sequence");
        if (w->usage)
            json_object_set_new(j, "usage", json_pack("{s:i}", "output_tokens", SIM_LLM_WORDS));
        anthropic_event(s, "message_delta", j);
    }
    s->ended = s->n;
    anthropic_event(s, "message_stop", json_object());
}

const struct sim_llm_api sim_llm_anthropic = {
    .paths = {"/v1/messages", "/messages"},
    .key_header = "x-api-key",
    .key_prefix = "",
    .stream_type = "text/event-stream",
    .error_event = "error",
    .quota_status = 402,
    .error = anthropic_error,
    .wrong = anthropic_wrong,
    .whole = anthropic_whole,
    .stream = anthropic_stream,
};

/* ---- Ollama ---- */

static json_t *ollama_error(enum sim_llm_error kind, const char *text)
{
    (void)kind;
    return json_pack("{s:s}", "error", text);
}

static const char *ollama_wrong(const struct sim_request *r)
{
    (void)r;
    return NULL;
}

static json_t *ollama_object(const struct sim_llm_answer *w, const char *content, bool done)
{
    json_t *j = json_pack("{s:s, s:s, s:{s:s, s:s}, s:b}", "model", w->model, "created_at", "2026-01-01T00:00:00Z",
                          "message", "role", "assistant", "content", content, "done", done);
    if (done)
        json_object_set_new(j, "done_reason", json_string(w->kind == SIM_LLM_SILENT ? "load" : "stop"));
    if (done && w->usage && w->kind != SIM_LLM_SILENT) {
        json_object_set_new(j, "prompt_eval_count", json_integer(SIM_LLM_PROMPT_TOKENS));
        json_object_set_new(j, "eval_count", json_integer(SIM_LLM_WORDS));
    }
    return j;
}

static json_t *ollama_whole(const struct sim_llm_answer *w)
{
    return ollama_object(w, w->kind == SIM_LLM_SILENT ? "" : ALL_WORDS, true);
}

static void ollama_stream(struct sim_llm_stream *s, const struct sim_llm_answer *w)
{
    for (size_t i = 0; i < SIM_LLM_WORDS && w->kind != SIM_LLM_SILENT; i++) {
        sim_llm_add(s, NULL, ollama_object(w, sim_llm_words[i], false), true);
        s->begun = s->begun ? s->begun : s->n;
    }
    s->ended = s->n;
    sim_llm_add(s, NULL, ollama_object(w, "", true), true);
    s->begun = s->begun ? s->begun : s->n;
}

const struct sim_llm_api sim_llm_ollama = {
    .paths = {"/api/chat", "/chat"},
    .key_header = "Authorization",
    .key_prefix = "Bearer ",
    .stream_type = "application/x-ndjson",
    .lines = true,
    .streams_by_itself = true,
    .quota_status = 429,
    .error = ollama_error,
    .wrong = ollama_wrong,
    .whole = ollama_whole,
    .stream = ollama_stream,
};
