/* sim_llm.c - an LLM API that speaks as OpenAI, Anthropic and Ollama do, by the path that is asked: whole, streamed, and every way to fail. */
#include "cli/sim.h"
#include "cli/sim_llm_api.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const struct sim_mode modes[] = {
    {"ok", "answers well"},
    SIM_HTTP_MODES{"403", "403"},
    {"529", "529: overloaded"},
    {"quota", "no credit left: 429 insufficient_quota (Anthropic: 402), without Retry-After"},
    {"stall", "begins to answer, then sends nothing more"},
    {"unended", "a stream without its proper end; a whole answer is cut"},
    {"error", "200, then an error in place of the rest"},
    {"error-busy", "the same, overloaded"},
    {"error-quota", "the same, out of quota"},
    {"refused", "the model refuses (Ollama has no way to say so: answers well)"},
    {"no-token", "200 and a right form, but not one token"},
    {"other-form", "whole where a stream is asked for, and the reverse"},
    {"no-usage", "tells no tokens used; OpenAI: 400 to stream_options"},
    {"new-limit", "OpenAI: 400 to max_tokens, wants max_completion_tokens"},
    {"thinks", "OpenAI: 400 to a limit below 16 tokens"},
    {NULL, NULL}};

static const struct sim_llm_api *const apis[] = {&sim_llm_openai, &sim_llm_anthropic, &sim_llm_ollama};
#define APIS (sizeof apis / sizeof *apis)

static bool is(const struct sim_request *r, const char *mode)
{
    return strcmp(r->mode, mode) == 0;
}

static enum MHD_Result refuse(struct sim_request *r, const struct sim_llm_api *a, unsigned status,
                              enum sim_llm_error kind, const char *text)
{
    char seconds[24];
    json_t *body = a->error(kind, text);
    char *dump = json_dumps(body, JSON_COMPACT);
    json_decref(body);
    snprintf(seconds, sizeof seconds, "%lld", (long long)r->sim->retry_after_s);
    enum MHD_Result ok =
        dump ? sim_answer(r, status, "application/json", dump, status == 429 && kind == SIM_LLM_RATE ? seconds : NULL)
             : MHD_NO;
    free(dump);
    return ok;
}

/* ---- streams ---- */

void sim_llm_add(struct sim_llm_stream *s, const char *name, json_t *j, bool line)
{
    char *text = json_dumps(j, JSON_COMPACT), *piece = NULL;
    json_decref(j);
    int n = !text  ? -1
            : line ? asprintf(&piece, "%s\n", text)
            : name ? asprintf(&piece, "event: %s\ndata: %s\n\n", name, text)
                   : asprintf(&piece, "data: %s\n\n", text);
    free(text);
    sim_llm_add_text(s, n < 0 ? NULL : piece);
}

void sim_llm_add_text(struct sim_llm_stream *s, char *piece)
{
    if (piece && s->n < SIM_LLM_PIECES_MAX)
        s->pieces[s->n++] = piece;
    else
        s->failed = true;
}

/* An error in place of an answer, after a status of 200. False if the mode is none of those. */
static bool instead(const struct sim_request *r, enum sim_llm_error *ret_kind, const char **ret_text)
{
    static const struct {
        const char *mode;
        enum sim_llm_error kind;
        const char *text;
    } rows[] = {{"error", SIM_LLM_SERVER, "The server had an error."},
                {"error-busy", SIM_LLM_BUSY, "The server is overloaded."},
                {"error-quota", SIM_LLM_RATE, "Rate limit reached for your quota."}};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        if (is(r, rows[i].mode)) {
            *ret_kind = rows[i].kind;
            *ret_text = rows[i].text;
            return true;
        }
    return false;
}

/* Puts another piece where the first token is. */
static void spoil(struct sim_llm_stream *s, const char *text)
{
    free(s->pieces[s->begun - 1]);
    s->pieces[s->begun - 1] = strdup(text);
}

static enum MHD_Result streamed(struct sim_request *r, const struct sim_llm_api *a, const struct sim_llm_answer *w)
{
    struct sim_llm_stream s = {0};
    const char *pieces[SIM_LLM_PIECES_MAX + 1] = {0}, *text;
    enum sim_end end = is(r, "cut") ? SIM_END_CUT : is(r, "stall") ? SIM_END_STALL : SIM_END_WELL;
    enum sim_llm_error kind;
    a->stream(&s, w);
    size_t n = s.n;
    if (!s.failed && end != SIM_END_WELL)
        n = s.begun;
    else if (!s.failed && is(r, "unended"))
        n = s.ended;
    else if (!s.failed && is(r, "schema"))
        spoil(&s, a->lines ? "{\"answer\":\"ok\"}\n" : "data: {\"answer\":\"ok\",\"choices\":\"none\"}\n\n");
    else if (!s.failed && is(r, "garbage"))
        spoil(&s, a->lines ? "\x01\x02{{{ not json\n" : "data: \x01\x02{{{ not json\n\n");
    else if (!s.failed && instead(r, &kind, &text)) {
        while (s.n > s.begun)
            free(s.pieces[--s.n]);
        sim_llm_add(&s, a->error_event, a->error(kind, text), a->lines);
        n = s.n;
    }
    for (size_t i = 0; i < n; i++) {
        pieces[i] = s.pieces[i];
        s.failed = s.failed || !pieces[i];
    }
    enum MHD_Result ok = s.failed ? MHD_NO : sim_answer_pieces(r, a->stream_type, pieces, 0, end);
    for (size_t i = 0; i < s.n; i++)
        free(s.pieces[i]);
    return ok;
}

/* ---- whole answers ---- */

static enum MHD_Result whole(struct sim_request *r, const struct sim_llm_api *a, const struct sim_llm_answer *w)
{
    static const char *const half[] = {"{\"id\":\"cut\",\"choi", NULL};
    enum sim_llm_error kind;
    const char *text;
    enum MHD_Result ret;
    if (is(r, "unended") || is(r, "stall"))
        return sim_answer_pieces(r, "application/json", half, 500, is(r, "stall") ? SIM_END_STALL : SIM_END_CUT);
    if (instead(r, &kind, &text))
        return refuse(r, a, 200, kind, text);
    return sim_fail(r, &ret) ? ret : sim_answer_json(r, 200, a->whole(w));
}

/* ---- requests ---- */

static const char *key_given(const struct sim_request *r, const struct sim_llm_api *a)
{
    const char *given = sim_header(r, a->key_header);
    size_t n = strlen(a->key_prefix);
    return given && strncmp(given, a->key_prefix, n) == 0 ? given + n : NULL;
}

/* The modes that are a status. False if the mode is none of them. */
static bool fail(struct sim_request *r, const struct sim_llm_api *a, const char *model, enum MHD_Result *ret)
{
    static const struct {
        const char *mode;
        unsigned status;
        enum sim_llm_error kind;
        const char *text;
    } rows[] = {
        {"401", 401, SIM_LLM_KEY, NULL},
        {"403", 403, SIM_LLM_FORBIDDEN, "You are not allowed to use this."},
        {"404", 404, SIM_LLM_NOT_FOUND, NULL},
        {"429", 429, SIM_LLM_RATE, "Rate limit reached."},
        {"500", 500, SIM_LLM_SERVER, "The server had an error."},
        {"503", 503, SIM_LLM_BUSY, "The server is overloaded."},
        {"529", 529, SIM_LLM_BUSY, "The server is overloaded."},
        {"quota", 0, SIM_LLM_QUOTA, "You exceeded your current quota."},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        if (!is(r, rows[i].mode))
            continue;
        char text[512];
        const char *key = key_given(r, a);
        if (rows[i].kind == SIM_LLM_KEY) /* there are servers that repeat it */
            snprintf(text, sizeof text, "Incorrect API key provided: %.400s.", key ? key : "none");
        else if (rows[i].kind == SIM_LLM_NOT_FOUND)
            snprintf(text, sizeof text, "model \"%.400s\" not found", model);
        else
            snprintf(text, sizeof text, "%s", rows[i].text);
        *ret = refuse(r, a, rows[i].status ? rows[i].status : a->quota_status, rows[i].kind, text);
        return true;
    }
    return false;
}

static enum MHD_Result chat(struct sim_request *r, const struct sim_llm_api *a)
{
    const char *model = json_string_value(json_object_get(r->json, "model")), *only = r->sim->values[1];
    enum MHD_Result ret;
    if (strcmp(r->method, "POST") != 0)
        return refuse(r, a, 405, SIM_LLM_WRONG, "only POST is accepted");
    if (!model || !*model)
        return refuse(r, a, 400, SIM_LLM_WRONG, "you must provide a model parameter");
    if (json_array_size(json_object_get(r->json, "messages")) == 0)
        return refuse(r, a, 400, SIM_LLM_WRONG, "messages must be a list that is not empty");
    if (only && strcmp(model, only) != 0)
        return refuse(r, a, 404, SIM_LLM_NOT_FOUND, "the model does not exist or you do not have access to it");
    if (fail(r, a, model, &ret))
        return ret;
    const char *why = a->wrong(r);
    if (why)
        return refuse(r, a, 400, SIM_LLM_WRONG, why);
    const json_t *asked = json_object_get(r->json, "stream");
    bool stream = asked ? json_is_true(asked) : a->streams_by_itself;
    struct sim_llm_answer w = {
        .model = model,
        .kind = is(r, "refused")    ? SIM_LLM_REFUSES
                : is(r, "no-token") ? SIM_LLM_SILENT
                                    : SIM_LLM_SPEAKS,
        .usage = !is(r, "no-usage") && (!stream || !a->asks_usage ||
                                        json_object_get(json_object_get(r->json, "stream_options"), "include_usage")),
    };
    if (is(r, "other-form"))
        stream = !stream;
    bool as_stream = stream && !is(r, "huge") && !is(r, "wrong-type");
    return as_stream ? streamed(r, a, &w) : whole(r, a, &w);
}

static enum MHD_Result serve(struct sim_request *r)
{
    const struct sim_llm_api *a = NULL;
    bool is_chat = false;
    for (size_t i = 0; !is_chat && i < APIS; i++)
        for (size_t k = 0; !is_chat && k < 2; k++) {
            is_chat = apis[i]->paths[k] && strcmp(r->path, apis[i]->paths[k]) == 0;
            a = is_chat ? apis[i] : NULL;
        }
    a = a ? a : sim_header(r, sim_llm_anthropic.key_header) ? &sim_llm_anthropic : &sim_llm_openai;
    const char *key = r->sim->values[0], *given = key_given(r, a), *model = r->sim->values[1];
    if (key && (!given || strcmp(given, key) != 0))
        return refuse(r, a, 401, SIM_LLM_KEY, "Incorrect API key provided.");
    if (is_chat)
        return chat(r, a);
    enum MHD_Result ret;
    if (sim_fail(r, &ret))
        return ret;
    model = model ? model : "sim";
    if (strcmp(r->path, "/v1/models") == 0 && strcmp(r->method, "GET") == 0)
        return sim_answer_json(r, 200,
                               json_pack("{s:s, s:[{s:s, s:s, s:i, s:s}]}", "object", "list", "data", "id", model,
                                         "object", "model", "created", 0, "owned_by", "redoubt"));
    if (strcmp(r->path, "/api/tags") == 0 && strcmp(r->method, "GET") == 0)
        return sim_answer_json(r, 200, json_pack("{s:[{s:s, s:s}]}", "models", "name", model, "model", model));
    return refuse(r, a, 404, SIM_LLM_NOT_FOUND,
                  "unknown URL: this is /v1/chat/completions, /v1/messages, /api/chat, /v1/models and /api/tags");
}

static const struct sim_kind kind = {
    .name = "llm",
    .about = "an LLM API: OpenAI's at /v1/chat/completions, Anthropic's at /v1/messages, Ollama's at /api/chat",
    .modes = modes,
    .open = sim_http_serve,
    .close = sim_http_stop,
    .mode_changed = sim_http_mode_changed,
    .options = {{"api-key", "KEY", "asks for this key (default: none)"},
                {"model", "MODEL", "the only model there is (default: whichever is asked for)"}},
    .http_control = true,
    .serve = serve,
};

int sim_llm_main(int argc, char **argv)
{
    return sim_run(&kind, argc, argv);
}
