/* sim_llm.c - an LLM API that is OpenAI-compatible: chat completions, whole and streamed, and every way to fail. */
#include "cli/sim.h"
#include "cli/sim_http.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define ANSWER_WORDS 3
static const char *const answer[ANSWER_WORDS] = {"All", " is", " well."};

static const struct sim_mode modes[] = {{"ok", "answers well"}, SIM_HTTP_MODES{NULL, NULL}};

static enum MHD_Result invalid(struct sim_request *r, unsigned status, const char *type, const char *text)
{
    return sim_answer_json(
        r, status, json_pack("{s:{s:s, s:s, s:n, s:n}}", "error", "message", text, "type", type, "param", "code"));
}

static json_t *completion(const char *model, const char *object, json_t *choice)
{
    return json_pack("{s:s, s:s, s:I, s:s, s:[o]}", "id", "chatcmpl-sim", "object", object, "created",
                     (json_int_t)time(NULL), "model", model, "choices", choice);
}

static enum MHD_Result whole(struct sim_request *r, const char *model)
{
    char text[64];
    snprintf(text, sizeof text, "%s%s%s", answer[0], answer[1], answer[2]);
    json_t *body = completion(model, "chat.completion",
                              json_pack("{s:i, s:{s:s, s:s}, s:s}", "index", 0, "message", "role", "assistant",
                                        "content", text, "finish_reason", "stop"));
    json_object_set_new(body, "usage",
                        json_pack("{s:i, s:i, s:i}", "prompt_tokens", 8, "completion_tokens", ANSWER_WORDS,
                                  "total_tokens", 8 + ANSWER_WORDS));
    return sim_answer_json(r, 200, body);
}

/* One server-sent event; malloc'ed. */
static char *event(const char *model, json_t *delta, const char *finish)
{
    json_t *chunk = completion(model, "chat.completion.chunk",
                               json_pack("{s:i, s:o, s:s?}", "index", 0, "delta", delta, "finish_reason", finish));
    char *text = json_dumps(chunk, JSON_COMPACT);
    json_decref(chunk);
    char *line = NULL;
    if (text && asprintf(&line, "data: %s\n\n", text) < 0)
        line = NULL;
    free(text);
    return line;
}

static enum MHD_Result streamed(struct sim_request *r, const char *model, bool cut)
{
    char *events[ANSWER_WORDS + 1] = {0};
    const char *pieces[ANSWER_WORDS + 3] = {0};
    size_t n = 0;
    for (; n < (cut ? 1 : ANSWER_WORDS); n++)
        events[n] = event(model,
                          n == 0 ? json_pack("{s:s, s:s}", "role", "assistant", "content", answer[n])
                                 : json_pack("{s:s}", "content", answer[n]),
                          NULL);
    if (!cut)
        events[n++] = event(model, json_object(), "stop");
    enum MHD_Result ok = MHD_NO;
    bool complete = true;
    for (size_t i = 0; i < n; i++) {
        pieces[i] = events[i];
        complete = complete && events[i];
    }
    if (!cut)
        pieces[n] = "data: [DONE]\n\n";
    if (complete)
        ok = sim_answer_pieces(r, "text/event-stream", pieces, 0, cut);
    for (size_t i = 0; i < n; i++)
        free(events[i]);
    return ok;
}

static enum MHD_Result chat(struct sim_request *r)
{
    const char *model = json_string_value(json_object_get(r->json, "model"));
    const json_t *messages = json_object_get(r->json, "messages");
    if (!model || !*model)
        return invalid(r, 400, "invalid_request_error", "you must provide a model parameter");
    if (json_array_size(messages) == 0)
        return invalid(r, 400, "invalid_request_error", "messages must be a list that is not empty");
    if (r->sim->values[1] && strcmp(model, r->sim->values[1]) != 0)
        return invalid(r, 404, "invalid_request_error", "the model does not exist or you do not have access to it");
    bool stream = json_is_true(json_object_get(r->json, "stream"));
    enum MHD_Result ret;
    if (stream && strcmp(r->mode, "cut") == 0)
        return streamed(r, model, true);
    if (sim_fail(r, &ret))
        return ret;
    return stream ? streamed(r, model, false) : whole(r, model);
}

static bool key_right(const struct sim_request *r)
{
    const char *given = sim_header(r, "Authorization"), *key = r->sim->values[0];
    return !key || (given && strncmp(given, "Bearer ", 7) == 0 && strcmp(given + 7, key) == 0);
}

static enum MHD_Result serve(struct sim_request *r)
{
    if (!key_right(r))
        return invalid(r, 401, "invalid_request_error", "Incorrect API key provided.");
    if (strcmp(r->path, "/v1/chat/completions") == 0 || strcmp(r->path, "/chat/completions") == 0)
        return strcmp(r->method, "POST") == 0 ? chat(r)
                                              : invalid(r, 405, "invalid_request_error", "only POST is accepted");
    enum MHD_Result ret;
    if (sim_fail(r, &ret))
        return ret;
    if (strcmp(r->path, "/v1/models") == 0 && strcmp(r->method, "GET") == 0)
        return sim_answer_json(r, 200,
                               json_pack("{s:s, s:[{s:s, s:s, s:i, s:s}]}", "object", "list", "data", "id",
                                         r->sim->values[1] ? r->sim->values[1] : "sim", "object", "model", "created",
                                         0, "owned_by", "redoubt"));
    return invalid(r, 404, "invalid_request_error", "unknown URL: this is /v1/chat/completions and /v1/models");
}

static const struct sim_kind kind = {
    .name = "llm",
    .about = "an OpenAI-compatible LLM API",
    .modes = modes,
    .open = sim_http_serve,
    .close = sim_http_stop,
    .mode_changed = sim_http_mode_changed,
    .options = {{"api-key", "KEY", "asks for this bearer token (default: none)"},
                {"model", "MODEL", "the only model there is (default: whichever is asked for)"}},
    .http_control = true,
    .serve = serve,
};

int sim_llm_main(int argc, char **argv)
{
    return sim_run(&kind, argc, argv);
}
