/* test_health_llm.c - what three LLM APIs answer, as streams and whole: well, in every broken way, and in pieces of every size. */
#include "common/settings.h"
#include "health/health_llm.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define SSE    "text/event-stream"
#define NDJSON "application/x-ndjson"
#define JSON   "application/json"
#define SECRET "sk-live-0123456789"

/* OpenAI */
#define CHUNK(delta, finish)                                                                                         \
    "data: {\"id\":\"c\",\"choices\":[{\"index\":0,\"delta\":" delta ",\"finish_reason\":" finish                    \
    "}],\"usage\":null}\n\n"
#define ROLE  CHUNK("{\"role\":\"assistant\",\"content\":\"\"}", "null")
#define TOKEN CHUNK("{\"content\":\"pong\"}", "null")
#define STOP  CHUNK("{}", "\"length\"")
#define O_USAGE                                                                                                      \
    "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":9,\"completion_tokens\":1,\"total_tokens\":10}}\n\n"
#define DONE "data: [DONE]\n\n"
#define O_WHOLE                                                                                                      \
    "{\"object\":\"chat.completion\",\"choices\":[{\"index\":0,\"message\":{\"role\":\"assistant\",\"content\":"     \
    "\"pong\"},\"finish_reason\":\"stop\"}],\"usage\":{\"prompt_tokens\":9,\"completion_tokens\":1}}"
/* Anthropic */
#define EVENT(type, rest) "event: " type "\ndata: {\"type\":\"" type "\"" rest "}\n\n"
#define A_START                                                                                                      \
    EVENT("message_start", ",\"message\":{\"id\":\"m\",\"type\":\"message\",\"role\":\"assistant\",\"content\":[],"  \
                           "\"stop_reason\":null,\"usage\":{\"input_tokens\":8,\"output_tokens\":1}}")
#define A_BLOCK EVENT("content_block_start", ",\"index\":0,\"content_block\":{\"type\":\"text\",\"text\":\"\"}")
#define A_PING  EVENT("ping", "")
#define A_TOKEN EVENT("content_block_delta", ",\"index\":0,\"delta\":{\"type\":\"text_delta\",\"text\":\"Hello\"}")
#define A_END   EVENT("content_block_stop", ",\"index\":0")
#define A_DELTA(reason)                                                                                              \
    EVENT("message_delta", ",\"delta\":{\"stop_reason\":\"" reason "\"},\"usage\":{\"output_tokens\":2}")
#define A_STOP EVENT("message_stop", "")
#define A_ERROR(type)                                                                                                \
    "event: error\ndata: {\"type\":\"error\",\"error\":{\"type\":\"" type "\",\"message\":\"Sorry\"}}\n\n"
#define A_WHOLE                                                                                                      \
    "{\"id\":\"m\",\"type\":\"message\",\"role\":\"assistant\",\"content\":[{\"type\":\"text\",\"text\":\"Hi\"}],"   \
    "\"stop_reason\":\"max_tokens\",\"usage\":{\"input_tokens\":8,\"output_tokens\":2}}"
#define A_BODY(type, message) "{\"type\":\"error\",\"error\":{\"type\":\"" type "\",\"message\":\"" message "\"}}"
/* Ollama */
#define L_TOKEN               "{\"model\":\"m\",\"message\":{\"role\":\"assistant\",\"content\":\"Hi\"},\"done\":false}\n"
#define L_DONE                                                                                                       \
    "{\"model\":\"m\",\"message\":{\"role\":\"assistant\",\"content\":\"\"},\"done\":true,\"done_reason\":"          \
    "\"length\",\"prompt_eval_count\":11,\"eval_count\":1}\n"
#define L_WHOLE                                                                                                      \
    "{\"model\":\"m\",\"message\":{\"role\":\"assistant\",\"content\":\"Hi\"},\"done\":true,\"done_reason\":"        \
    "\"stop\",\"prompt_eval_count\":11,\"eval_count\":1}"

enum { O = SET_LLM_OPENAI, A = SET_LLM_ANTHROPIC, L = SET_LLM_OLLAMA };
#define WHOLE   HEALTH_LLM_WHOLE
#define CUT     HEALTH_LLM_CUT
#define STALLED HEALTH_LLM_STALLED
#define F(name) HEALTH_FAULT_##name

struct answer {
    int api, status;
    const char *type, *body;
    size_t len;
    enum health_llm_how how;
};

/* The body in two pieces, at 10 and 20 ms, and then in pieces of `size`, one each ms. */
static struct health_result judge_in(const struct answer *a, size_t first, size_t size)
{
    struct health_llm *x = malloc(sizeof *x);
    struct health_result r = {.probe = HEALTH_PROBE_LLM};
    assert_non_null(x);
    health_llm_init(x, health_llm_api(a->api), SECRET);
    int64_t at = 10;
    health_llm_feed(x, a->body, first, at);
    for (size_t i = first; i < a->len; i += size)
        health_llm_feed(x, a->body + i, a->len - i < size ? a->len - i : size, ++at);
    struct health_llm_end e = {
        .how = a->how, .status = a->status, .content_type = a->type, .body = a->body, .len = a->len};
    health_llm_judge(x, &e, &r);
    free(x);
    return r;
}

static void same(const struct health_result *a, const struct health_result *b)
{
    assert_int_equal(a->fault, b->fault);
    assert_string_equal(a->detail, b->detail);
    assert_int_equal(a->status, b->status);
    assert_int_equal(a->prompt_tokens, b->prompt_tokens);
    assert_int_equal(a->completion_tokens, b->completion_tokens);
    assert_int_equal(a->first_token_ms != 0, b->first_token_ms != 0);
}

/* However it is cut into pieces: at every byte, byte by byte, and in sizes that meet nothing. */
static struct health_result judge(int api, int status, const char *type, const char *body, enum health_llm_how how)
{
    struct answer a = {.api = api, .status = status, .type = type, .body = body, .len = strlen(body), .how = how};
    struct health_result r = judge_in(&a, a.len, 1);
    static const size_t sizes[] = {1, 2, 3, 7, 64};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        struct health_result other = judge_in(&a, 0, sizes[i]);
        same(&r, &other);
    }
    for (size_t at = 0; at < a.len && a.len < 5000; at++) {
        struct health_result other = judge_in(&a, at, a.len);
        same(&r, &other);
    }
    return r;
}

struct row {
    int api, status;
    const char *type, *body;
    enum health_llm_how how;
    int fault;
    const char *says;
    uint32_t prompt, completion;
};

static void check(const struct row *rows, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        const struct row *w = &rows[i];
        struct health_result r = judge(w->api, w->status, w->type, w->body, w->how);
        if (r.fault != w->fault || !strstr(r.detail, w->says) || r.prompt_tokens != w->prompt ||
            r.completion_tokens != w->completion)
            fail_msg("row %zu (api %d) `%s`: found %s: %s; %u + %u tokens", i, w->api, w->body,
                     health_fault_text(r.fault), r.detail, r.prompt_tokens, r.completion_tokens);
    }
}
#define CHECK(rows) check(rows, sizeof(rows) / sizeof *(rows))

static void test_well(void **state)
{
    (void)state;
    static const struct row rows[] = {
        {O, 200, SSE, ROLE TOKEN STOP DONE, WHOLE, F(NONE), "", 0, 0},
        {O, 200, SSE, ROLE TOKEN STOP O_USAGE DONE, WHOLE, F(NONE), "", 9, 1},
        {O, 200, SSE "; charset=utf-8", TOKEN DONE, WHOLE, F(NONE), "", 0, 0},
        {O, 200, SSE, ": keep-alive\n\n" ROLE "event: x\nid: 3\nretry: 10\n" TOKEN STOP DONE, WHOLE, F(NONE), "", 0,
         0},
        {O, 200, SSE, "data:{\"choices\":[{\"delta\":{\"content\":\"a\"}}]}\r\n\r\ndata:[DONE]\r\n\r\n", WHOLE,
         F(NONE), "", 0, 0},
        {O, 200, SSE, "data: {\"choices\":[],\"prompt_filter_results\":[]}\n\n" TOKEN STOP O_USAGE DONE, WHOLE,
         F(NONE), "", 9, 1},
        {O, 200, SSE, "data: {\"choices\":\ndata: [{\"delta\":\ndata: {\"content\":\"a\"}}]}\n\n" DONE, WHOLE,
         F(NONE), "", 0, 0}, /* one event in several lines */
        {O, 200, SSE, CHUNK("{\"reasoning_content\":\"hm\"}", "null") STOP DONE, WHOLE, F(NONE), "", 0, 0},
        {O, 200, SSE, CHUNK("{\"tool_calls\":[{\"index\":0}]}", "null") STOP DONE, WHOLE, F(NONE), "", 0, 0},
        {O, 200, SSE, ROLE STOP DONE, WHOLE, F(NONE), "", 0, 0}, /* one token of thinking, nothing shown */
        {O, 200, SSE, CHUNK("{\"content\":\"\\u0000\"}", "null") STOP DONE, WHOLE, F(NONE), "", 0, 0},
        {O, 200, SSE, "data: {\"seed\":18446744073709551615,\"choices\":[{\"delta\":{\"content\":\"a\"}}]}\n\n" DONE,
         WHOLE, F(NONE), "", 0, 0},                                              /* more than 63 bits */
        {O, 200, SSE, ROLE TOKEN STOP "data: [DONE]", WHOLE, F(NONE), "", 0, 0}, /* no line feed at the end */
        {O, 200, SSE, ROLE TOKEN STOP DONE "data: {nonsense after the end\n\n", WHOLE, F(NONE), "", 0, 0},
        {O, 200, SSE, ROLE TOKEN STOP DONE, CUT, F(NONE), "", 0, 0}, /* all that counts has come */
        {O, 200, SSE, ROLE TOKEN STOP O_USAGE DONE, STALLED, F(NONE), "", 9, 1},
        {O, 200, JSON, O_WHOLE, WHOLE, F(NONE), "", 9, 1}, /* asked to stream or not: the content type tells */
        {O, 200, "application/json; charset=utf-8", "\n " O_WHOLE "\n", WHOLE, F(NONE), "", 9, 1},
        {O, 200, JSON, "{\"choices\":[{\"message\":{\"content\":\"a\"}}],\"error\":null}", WHOLE, F(NONE), "", 0, 0},
        {A, 200, SSE, A_START A_BLOCK A_PING A_TOKEN A_END A_DELTA("max_tokens") A_STOP, WHOLE, F(NONE), "", 8, 2},
        {A, 200, SSE, A_START A_DELTA("end_turn") A_STOP, WHOLE, F(NONE), "", 8, 2}, /* nothing to say */
        {A, 200, SSE, A_START EVENT("brave_new_event", ",\"x\":1") A_DELTA("end_turn") A_STOP, WHOLE, F(NONE), "", 8,
         2},
        {A, 200, SSE,
         A_START EVENT("content_block_delta", ",\"delta\":{\"type\":\"thinking_delta\",\"thinking\":\"hm\"}") A_STOP,
         WHOLE, F(NONE), "", 8, 1},
        {A, 200, SSE, A_START A_BLOCK A_TOKEN A_END A_DELTA("end_turn") A_STOP A_ERROR("overloaded_error"), WHOLE,
         F(NONE), "", 8, 2},
        {A, 200, JSON, A_WHOLE, WHOLE, F(NONE), "", 8, 2},
        {A, 200, JSON, "{\"type\":\"message\",\"content\":[],\"stop_reason\":\"end_turn\"}", WHOLE, F(NONE), "", 0,
         0},
        {L, 200, NDJSON, L_TOKEN L_DONE, WHOLE, F(NONE), "", 11, 1},
        {L, 200, NDJSON, L_DONE, WHOLE, F(NONE), "", 11, 1},
        {L, 200, NDJSON, L_TOKEN "\n\r\n" L_DONE "{nonsense after the end\n", WHOLE, F(NONE), "", 11, 1},
        {L, 200, NDJSON "; charset=utf-8", L_TOKEN L_WHOLE, WHOLE, F(NONE), "", 11, 1}, /* no line feed at the end */
        {L, 200, NDJSON, "{\"message\":{\"thinking\":\"hm\",\"content\":\"\"},\"done\":false}\r\n" L_DONE, WHOLE,
         F(NONE), "", 11, 1},
        {L, 200, NDJSON, "{\"message\":{\"content\":\"a\"},\"done\":false}\n{\"done\":true}\n", WHOLE, F(NONE), "", 0,
         0},
        {L, 200, JSON, L_WHOLE, WHOLE, F(NONE), "", 11, 1},
        {L, 200, JSON, "{\n \"message\": {\"content\": \"a\"},\n \"done\": true\n}\n", WHOLE, F(NONE), "", 0, 0},
    };
    CHECK(rows);
}

static void test_first_token(void **state)
{
    (void)state;
    static const struct {
        int api;
        const char *type, *before, *after;
    } rows[] = {
        {O, SSE, ROLE, TOKEN STOP DONE}, /* the role is no token */
        {A, SSE, A_START A_BLOCK A_PING, A_TOKEN A_END A_DELTA("end_turn") A_STOP},
        {L, NDJSON, "{\"message\":{\"role\":\"assistant\",\"content\":\"\"},\"done\":false}\n", L_TOKEN L_DONE},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        char body[4096];
        snprintf(body, sizeof body, "%s%s", rows[i].before, rows[i].after);
        struct answer a = {
            .api = rows[i].api, .status = 200, .type = rows[i].type, .body = body, .len = strlen(body)};
        assert_int_equal(judge_in(&a, strlen(rows[i].before), a.len).first_token_ms, 11);
        assert_int_equal(judge_in(&a, a.len, 1).first_token_ms, 10);
    }
    /* What came whole has no first token. */
    assert_int_equal(judge(O, 200, JSON, O_WHOLE, WHOLE).first_token_ms, 0);
    assert_int_equal(judge(A, 200, JSON, A_WHOLE, WHOLE).first_token_ms, 0);
    assert_int_equal(judge(L, 200, JSON, L_WHOLE, WHOLE).first_token_ms, 0);
    /* A stream that had its end before it stalled took no longer than that. */
    struct answer a = {.api = O, .status = 200, .type = SSE, .body = TOKEN DONE, .how = STALLED};
    a.len = strlen(a.body);
    assert_int_equal(judge_in(&a, strlen(TOKEN), a.len).total_ms, 11);
    a.how = WHOLE;
    assert_int_equal(judge_in(&a, strlen(TOKEN), a.len).total_ms, 0); /* not ours to say */
}

/* The same failures of each API, whatever was asked for. */
static void test_statuses(void **state)
{
    (void)state;
    static const struct row rows[] = {
        {O, 401, JSON, "{\"error\":{\"message\":\"bad key\"}}", WHOLE, F(AUTH), "HTTP 401: bad key", 0, 0},
        {O, 403, JSON, "{}", WHOLE, F(AUTH), "403", 0, 0},
        {O, 403, JSON, "{\"error\":{\"message\":\"x\",\"code\":\"insufficient_quota\"}}", WHOLE, F(QUOTA), "x", 0, 0},
        {O, 429, JSON, "{\"error\":\"slow down\"}", WHOLE, F(QUOTA), "slow down", 0, 0},
        {O, 429, JSON, "{\"error\":{\"message\":\"You exceeded\",\"code\":\"insufficient_quota\"}}", WHOLE, F(QUOTA),
         "You exceeded", 0, 0},
        {O, 429, JSON, "{\"error\":{\"message\":\"x\",\"type\":\"engine_overloaded_error\"}}", WHOLE, F(QUOTA), "429",
         0, 0},
        {O, 402, JSON, "{}", WHOLE, F(QUOTA), "402", 0, 0},
        {O, 503, "text/html", "<h1>", WHOLE, F(OVERLOAD), "503", 0, 0},
        {O, 529, JSON, "", WHOLE, F(OVERLOAD), "529", 0, 0},
        {O, 500, JSON, "{\"error\":{\"message\":3}}", WHOLE, F(STATUS), "500", 0, 0},
        {O, 500, JSON, "{\"error\":{\"message\":\"no capacity\"}}", WHOLE, F(STATUS), "no capacity", 0, 0},
        {O, 502, JSON, "{\"error\":{\"type\":\"overloaded_error\"}}", WHOLE, F(OVERLOAD), "502", 0, 0},
        {O, 400, JSON, "[]", WHOLE, F(STATUS), "400", 0, 0},
        {O, 400, JSON, "{\"error\":{\"message\":\"y unavailable\"}}", WHOLE, F(STATUS), "y unavailable", 0, 0},
        {O, 400, JSON,
         "[{\"error\":{\"code\":400,\"message\":\"API key not valid.\",\"status\":\"INVALID_ARGUMENT\"}}]", WHOLE,
         F(AUTH), "not valid", 0, 0},
        {O, 400, JSON, "{\"error\":{\"code\":\"content_filter\",\"message\":\"filtered\"}}", WHOLE, F(REFUSED),
         "filtered", 0, 0},
        {O, 400, JSON, "{\"object\":\"error\",\"message\":\"no such thing\"}", WHOLE, F(STATUS), "no such thing", 0,
         0},
        {O, 422, JSON, "{\"detail\":\"not so\"}", WHOLE, F(STATUS), "not so", 0, 0},
        {O, 404, JSON, "{\"error\":{\"message\":\"The model `m` does not exist\",\"code\":\"model_not_found\"}}",
         WHOLE, F(STATUS), "HTTP 404: The model `m`", 0, 0},
        {O, 404, "", "", WHOLE, F(STATUS), "404", 0, 0},
        {O, 302, "", "", WHOLE, F(STATUS), "302", 0, 0},
        {O, 503, JSON, "{\"err", CUT, F(OVERLOAD), "503", 0, 0}, /* the status says more than the cut */
        {O, 429, SSE, "", STALLED, F(QUOTA), "429", 0, 0},
        {O, 500, JSON, "{\"error\":{\"message\":\"late\"},\"usage\":{\"prompt_tokens\":5,\"completion_tokens\":4}}",
         WHOLE, F(STATUS), "late", 5, 4}, /* failed, and paid all the same */
        {O, 500, SSE, ROLE TOKEN DONE, WHOLE, F(STATUS), "500", 0, 0},
        {A, 401, JSON, A_BODY("authentication_error", "invalid x-api-key"), WHOLE, F(AUTH), "invalid x-api-key", 0,
         0},
        {A, 403, JSON, A_BODY("permission_error", "not yours"), WHOLE, F(AUTH), "not yours", 0, 0},
        {A, 429, JSON, A_BODY("rate_limit_error", "slow"), WHOLE, F(QUOTA), "slow", 0, 0},
        {A, 400, JSON, A_BODY("invalid_request_error", "Your credit balance is too low"), WHOLE, F(QUOTA), "credit",
         0, 0},
        {A, 402, JSON, A_BODY("billing_error", "pay"), WHOLE, F(QUOTA), "pay", 0, 0},
        {A, 529, JSON, A_BODY("overloaded_error", "Overloaded"), WHOLE, F(OVERLOAD), "Overloaded", 0, 0},
        {A, 503, JSON, A_BODY("api_error", "busy"), WHOLE, F(OVERLOAD), "busy", 0, 0},
        {A, 500, JSON, A_BODY("api_error", "Internal server error"), WHOLE, F(STATUS), "Internal", 0, 0},
        {A, 404, JSON, A_BODY("not_found_error", "model: m"), WHOLE, F(STATUS), "HTTP 404: model: m", 0, 0},
        {A, 400, JSON, A_BODY("invalid_request_error", "messages: required"), WHOLE, F(STATUS), "messages", 0, 0},
        {L, 401, JSON, "{\"error\":\"unauthorized\"}", WHOLE, F(AUTH), "unauthorized", 0, 0},
        {L, 403, "", "", WHOLE, F(AUTH), "403", 0, 0},
        {L, 429, JSON, "{\"error\":\"limit\"}", WHOLE, F(QUOTA), "limit", 0, 0},
        {L, 503, JSON, "{\"error\":\"server busy, please try again.  maximum pending requests exceeded\"}", WHOLE,
         F(OVERLOAD), "server busy", 0, 0},
        {L, 404, JSON, "{\"error\":\"model \\\"m\\\" not found, try pulling it first\"}", WHOLE, F(STATUS),
         "HTTP 404: model \"m\" not found", 0, 0},
        {L, 500, JSON, "{\"error\":\"model requires more system memory\"}", WHOLE, F(STATUS), "memory", 0, 0},
    };
    CHECK(rows);
}

static void test_streams_that_break(void **state)
{
    (void)state;
    static const struct row rows[] = {
        {O, 200, SSE, "", WHOLE, F(CUT), "[DONE] after 0 events", 0, 0},
        {O, 200, SSE, ROLE TOKEN, WHOLE, F(CUT), "[DONE] after 2 events", 0, 0},
        {O, 200, SSE, ROLE TOKEN STOP O_USAGE, WHOLE, F(CUT), "[DONE]", 9, 1},
        {O, 200, SSE, TOKEN "data: {\"cho", CUT, F(CUT), "connection ended", 0, 0},
        {O, 200, SSE, TOKEN, STALLED, F(TIMEOUT), "stalled after 1 events", 0, 0},
        {O, 200, SSE, DONE, WHOLE, F(SCHEMA), "no token", 0, 0},
        {O, 200, SSE, ROLE DONE, WHOLE, F(SCHEMA), "no token", 0, 0},
        {O, 200, SSE, ROLE "data: {\"choices\":[{\"delta\":{\"content\":\n\n" DONE, WHOLE, F(SCHEMA), "not JSON", 0,
         0},
        {O, 200, SSE, ROLE "data: {\"choices\":[{\"delta\":{\"content\":\n\n", CUT, F(SCHEMA), "not JSON", 0, 0},
        {O, 200, SSE, "data: {}\n\n" DONE, WHOLE, F(SCHEMA), "choices", 0, 0},
        {O, 200, SSE, "data: 17\n\n" DONE, WHOLE, F(SCHEMA), "JSON", 0, 0},
        {O, 200, SSE, "data: []\n\n" DONE, WHOLE, F(SCHEMA), "choices", 0, 0},
        {O, 200, SSE, "data\ndata:\n\n" DONE, WHOLE, F(SCHEMA), "JSON", 0, 0},
        {O, 200, SSE, "data: {\"choices\":\"many\"}\n\n" DONE, WHOLE, F(SCHEMA), "choices", 0, 0},
        {O, 200, SSE, "data: {\"choices\":[7]}\n\n" DONE, WHOLE, F(SCHEMA), "delta", 0, 0},
        {O, 200, SSE, "data: {\"choices\":[{\"delta\":null}]}\n\n" DONE, WHOLE, F(SCHEMA), "delta", 0, 0},
        {O, 200, SSE, "data: \xff\xfe\n\n" DONE, WHOLE, F(SCHEMA), "JSON", 0, 0},
        {O, 200, SSE, "data: {\"error\":{\"message\":\"x\",\"type\":\"overloaded_error\"}}\n\n", WHOLE, F(OVERLOAD),
         "x", 0, 0},
        {O, 200, SSE, TOKEN "data: {\"error\":{\"message\":\"x\",\"code\":\"overloaded\"}}\n\n", STALLED, F(OVERLOAD),
         "x", 0, 0}, /* what came says more than the stall */
        {O, 200, SSE, TOKEN "data: {\"error\":{\"message\":\"x\",\"code\":429}}\n\n", CUT, F(QUOTA), "x", 0, 0},
        {O, 200, SSE, TOKEN "data: {\"error\":{\"message\":\"Rate limit reached\"}}\n\n" DONE, WHOLE, F(QUOTA),
         "Rate", 0, 0},
        {O, 200, SSE, "data: {\"error\":{\"code\":\"insufficient_quota\"}}\n\n", WHOLE, F(QUOTA), "error", 0, 0},
        {O, 200, SSE, "data: {\"error\":{\"code\":401,\"message\":\"who?\"}}\n\n", WHOLE, F(AUTH), "who", 0, 0},
        {O, 200, SSE, "data: {\"error\":\"boom\"}\n\n" DONE, WHOLE, F(STATUS), "boom", 0, 0},
        {O, 200, SSE, TOKEN CHUNK("{}", "\"error\"") DONE, WHOLE, F(STATUS), "broke off", 0, 0},
        {O, 200, SSE, ROLE CHUNK("{}", "\"content_filter\"") O_USAGE DONE, WHOLE, F(REFUSED), "refused", 9, 1},
        {O, 200, SSE, CHUNK("{\"refusal\":\"no\"}", "null") STOP DONE, WHOLE, F(REFUSED), "refused", 0, 0},
        {O, 200, SSE, "<html>not a stream</html>", WHOLE, F(CUT), "[DONE]", 0, 0},
        {O, 200, SSE, A_START A_STOP, WHOLE, F(SCHEMA), "choices", 0, 0}, /* the wrong API */
        {O, 200, NDJSON, L_TOKEN L_DONE, WHOLE, F(SCHEMA), "x-ndjson", 0, 0},

        {A, 200, SSE, "", WHOLE, F(CUT), "message_stop after 0 events", 0, 0},
        {A, 200, SSE, A_START A_BLOCK A_TOKEN A_END, WHOLE, F(CUT), "message_stop after 4 events", 8, 1},
        {A, 200, SSE, A_START A_BLOCK A_TOKEN A_END A_DELTA("end_turn"), CUT, F(CUT), "connection ended", 8, 2},
        {A, 200, SSE, A_START A_PING, STALLED, F(TIMEOUT), "stalled after 2 events", 8, 1},
        {A, 200, SSE, A_STOP, WHOLE, F(SCHEMA), "before message_start", 0, 0},
        {A, 200, SSE, A_START A_STOP, WHOLE, F(SCHEMA), "no token", 8, 1},
        {A, 200, SSE, A_PING A_TOKEN A_STOP, WHOLE, F(SCHEMA), "content_block_delta before", 0, 0},
        {A, 200, SSE, EVENT("message_start", ",\"message\":7") A_STOP, WHOLE, F(SCHEMA), "message_start", 0, 0},
        {A, 200, SSE, A_START EVENT("content_block_delta", "") A_STOP, WHOLE, F(SCHEMA), "no block", 8, 1},
        {A, 200, SSE, A_START EVENT("message_delta", ",\"delta\":[]") A_STOP, WHOLE, F(SCHEMA), "no `delta`", 8, 1},
        {A, 200, SSE, "data: {\"kind\":1}\n\n" A_STOP, WHOLE, F(SCHEMA), "no `type`", 0, 0},
        {A, 200, SSE, A_START "data: {\"type\":\n\n", WHOLE, F(SCHEMA), "JSON", 8, 1},
        {A, 200, SSE, A_START A_ERROR("overloaded_error"), WHOLE, F(OVERLOAD), "Sorry", 8, 1},
        {A, 200, SSE, A_ERROR("rate_limit_error"), STALLED, F(QUOTA), "Sorry", 0, 0},
        {A, 200, SSE, A_START A_ERROR("authentication_error"), CUT, F(AUTH), "Sorry", 8, 1},
        {A, 200, SSE, A_START A_ERROR("api_error"), WHOLE, F(STATUS), "Sorry", 8, 1},
        {A, 200, SSE, A_START "data: {\"type\":\"error\"}\n\n", WHOLE, F(STATUS), "error", 8, 1},
        {A, 200, SSE, A_START A_DELTA("refusal") A_STOP, WHOLE, F(REFUSED), "refused", 8, 2},
        {A, 200, SSE, ROLE TOKEN STOP DONE, WHOLE, F(SCHEMA), "no `type`", 0, 0}, /* the wrong API */

        {L, 200, NDJSON, "", WHOLE, F(CUT), "`done` after 0 events", 0, 0},
        {L, 200, NDJSON, L_TOKEN L_TOKEN, WHOLE, F(CUT), "`done` after 2 events", 0, 0},
        {L, 200, NDJSON, L_TOKEN "{\"mess", CUT, F(CUT), "connection ended", 0, 0},
        {L, 200, NDJSON, L_TOKEN "{\"mess", WHOLE, F(SCHEMA), "JSON", 0, 0},
        {L, 200, NDJSON, L_TOKEN, STALLED, F(TIMEOUT), "stalled after 1 events", 0, 0},
        {L, 200, NDJSON, "{\"error\":\"llama runner process has terminated\"}\n", WHOLE, F(STATUS), "llama runner", 0,
         0},
        {L, 200, NDJSON, L_TOKEN "{\"error\":\"server overloaded\"}\n", CUT, F(OVERLOAD), "overloaded", 0, 0},
        {L, 200, NDJSON, L_TOKEN "{\"error\":\"quota exceeded\"}\n", STALLED, F(QUOTA), "quota", 0, 0},
        {L, 200, NDJSON, "nonsense\n", WHOLE, F(SCHEMA), "JSON", 0, 0},
        {L, 200, NDJSON, "[]\n", WHOLE, F(SCHEMA), "`done`", 0, 0},
        {L, 200, NDJSON, "{\"message\":{\"content\":\"a\"}}\n", WHOLE, F(SCHEMA), "`done`", 0, 0},
        {L, 200, NDJSON, "{\"message\":7,\"done\":true}\n", WHOLE, F(SCHEMA), "`message`", 0, 0},
        {L, 200, NDJSON, "{\"done\":false}\n", WHOLE, F(SCHEMA), "`message`", 0, 0},
        {L, 200, NDJSON, "{\"done\":true,\"done_reason\":\"load\"}\n", WHOLE, F(SCHEMA), "no token", 0, 0},
        {L, 200, NDJSON, "{\"done\":true}\n", WHOLE, F(SCHEMA), "no token", 0, 0},
        {L, 200, NDJSON, ROLE TOKEN STOP DONE, WHOLE, F(SCHEMA), "JSON", 0, 0}, /* the wrong API */
        {L, 200, SSE, L_TOKEN L_DONE, WHOLE, F(SCHEMA), "event-stream", 0, 0},
    };
    CHECK(rows);
}

static void test_whole_that_break(void **state)
{
    (void)state;
    static const struct row rows[] = {
        {O, 200, JSON, "", WHOLE, F(SCHEMA), "JSON", 0, 0},
        {O, 200, JSON, "{\"answer\":\"ok\"}", WHOLE, F(SCHEMA), "choices", 0, 0},
        {O, 200, JSON, "{\"choices\":[]}", WHOLE, F(SCHEMA), "no choice", 0, 0},
        {O, 200, JSON, "{\"choices\":[{\"text\":\"old\"}]}", WHOLE, F(SCHEMA), "message", 0, 0},
        {O, 200, JSON, "{\"choices\":[{\"message\":\"hi\"}]}", WHOLE, F(SCHEMA), "message", 0, 0},
        {O, 200, JSON, "\x01{{{", WHOLE, F(SCHEMA), "JSON", 0, 0},
        {O, 200, JSON, "{\"choices\":[{\"message\":{\"content\":\"a\"}}]} trailing", WHOLE, F(SCHEMA), "JSON", 0, 0},
        {O, 200, JSON, "{\"error\":{\"message\":\"overloaded\"}}", WHOLE, F(OVERLOAD), "overloaded", 0, 0},
        {O, 200, JSON, "{\"error\":{\"message\":\"x\",\"type\":\"insufficient_quota\"}}", WHOLE, F(QUOTA), "x", 0, 0},
        {O, 200, JSON,
         "{\"choices\":[{\"message\":{\"content\":null,\"refusal\":\"no\"}}],\"usage\":{\"prompt_tokens\":7}}", WHOLE,
         F(REFUSED), "refused", 7, 0},
        {O, 200, JSON, "{\"choices\":[{\"mess", CUT, F(CUT), "connection ended", 0, 0},
        {O, 200, JSON, "{\"choices\":[{\"mess", STALLED, F(TIMEOUT), "stalled", 0, 0},
        {O, 200, JSON, "{\"choices\"", HEALTH_LLM_LARGE, F(TOO_LARGE), "262144", 0, 0},
        {O, 200, "text/html", O_WHOLE, WHOLE, F(SCHEMA), "text/html", 0, 0},
        {O, 200, "", O_WHOLE, WHOLE, F(SCHEMA), "neither", 0, 0},
        {O, 204, "", "", WHOLE, F(SCHEMA), "neither", 0, 0},
        {O, 200, "application/jsonp", O_WHOLE, WHOLE, F(SCHEMA), "jsonp", 0, 0},
        {O, 200, "text/event-stream-not", TOKEN DONE, WHOLE, F(SCHEMA), "neither", 0, 0},
        {O, 200, JSON, ROLE TOKEN STOP DONE, WHOLE, F(SCHEMA), "JSON", 0, 0}, /* a stream that says it is none */
        {O, 200, JSON, A_WHOLE, WHOLE, F(SCHEMA), "choices", 0, 0},
        {O, 200, JSON,
         "{\"choices\":[{\"message\":{\"content\":\"a\"}}],\"usage\":{\"prompt_tokens\":-3,\"completion_tokens\":"
         "\"x\"}}",
         WHOLE, F(NONE), "", 0, 0}, /* nonsense about tokens is no failure */
        {O, 200, JSON,
         "{\"choices\":[{\"message\":{\"content\":\"a\"}}],\"usage\":{\"prompt_tokens\":1e300,\"completion_tokens\":"
         "9999999999999999999}}",
         WHOLE, F(NONE), "", UINT32_MAX, UINT32_MAX},

        {A, 200, JSON, "{}", WHOLE, F(SCHEMA), "no `message`", 0, 0},
        {A, 200, JSON, "{\"type\":\"message\",\"content\":\"Hi\"}", WHOLE, F(SCHEMA), "content", 0, 0},
        {A, 200, JSON, "{\"type\":\"message\",\"content\":[7]}", WHOLE, F(SCHEMA), "stop_reason", 0, 0},
        {A, 200, JSON, A_BODY("overloaded_error", "Overloaded"), WHOLE, F(OVERLOAD), "Overloaded", 0, 0},
        {A, 200, JSON,
         "{\"type\":\"message\",\"content\":[],\"stop_reason\":\"refusal\",\"usage\":{\"input_tokens\":8,"
         "\"output_tokens\":1}}",
         WHOLE, F(REFUSED), "refused", 8, 1},
        {A, 200, JSON, "{\"type\":\"mess", CUT, F(CUT), "connection ended", 0, 0},
        {A, 200, JSON, "", STALLED, F(TIMEOUT), "stalled", 0, 0},
        {A, 200, "text/html", "<html>", WHOLE, F(SCHEMA), "text/html", 0, 0},
        {A, 200, JSON, "garbage", WHOLE, F(SCHEMA), "JSON", 0, 0},
        {A, 200, JSON, O_WHOLE, WHOLE, F(SCHEMA), "no `message`", 0, 0},

        {L, 200, JSON, "{}", WHOLE, F(SCHEMA), "`done`", 0, 0},
        {L, 200, JSON, "{\n\"message\":{\"content\":\"a\"},\n\"done\":false}", WHOLE, F(CUT), "`done`", 0, 0},
        {L, 200, JSON, "{\"message\":{\"content\":\"\"},\"done\":true}", WHOLE, F(SCHEMA), "no token", 0, 0},
        {L, 200, JSON, "{\"error\":\"boom\"}", WHOLE, F(STATUS), "boom", 0, 0},
        {L, 200, JSON, "{\n\"mess", CUT, F(CUT), "connection ended", 0, 0},
        {L, 200, JSON, "{\n\"mess", STALLED, F(TIMEOUT), "stalled", 0, 0},
        {L, 200, JSON, "garbage\n", WHOLE, F(SCHEMA), "JSON", 0, 0},
        {L, 200, "text/plain", L_WHOLE, WHOLE, F(SCHEMA), "text/plain", 0, 0},
        {L, 200, JSON, O_WHOLE, WHOLE, F(SCHEMA), "`done`", 0, 0},
    };
    CHECK(rows);
}

/* No part of a good stream is a good stream: wherever it ends, that is seen. */
static void test_every_prefix(void **state)
{
    (void)state;
    static const struct {
        int api;
        const char *type, *body, *mark;
    } rows[] = {
        {O, SSE, ROLE TOKEN STOP O_USAGE DONE, "[DONE]"},
        {A, SSE, A_START A_BLOCK A_TOKEN A_END A_DELTA("end_turn") A_STOP, "\"message_stop\"}"},
        {L, NDJSON, L_TOKEN L_DONE, "\"eval_count\":1}"},
        {O, JSON, O_WHOLE, "\"completion_tokens\":1}}"},
        {A, JSON, A_WHOLE, "\"output_tokens\":2}}"},
        {L, JSON, L_WHOLE, "\"eval_count\":1}"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        const char *mark = strstr(rows[i].body, rows[i].mark);
        if (rows[i].api == L && rows[i].type[12] == 'x') /* the last one */
            for (const char *next; (next = strstr(mark + 1, rows[i].mark));)
                mark = next;
        size_t enough = (size_t)(mark - rows[i].body) + strlen(rows[i].mark);
        for (size_t len = 0; len <= strlen(rows[i].body); len++) {
            struct answer a = {
                .api = rows[i].api, .status = 200, .type = rows[i].type, .body = rows[i].body, .len = len};
            int fault = judge_in(&a, len, 1).fault;
            if (len < enough)
                assert_true(fault == F(CUT) || fault == F(SCHEMA));
            else
                assert_int_equal(fault, F(NONE));
            a.how = STALLED;
            fault = judge_in(&a, len, 1).fault;
            if (len < enough)
                assert_int_equal(fault, F(TIMEOUT));
        }
    }
}

static void test_large(void **state)
{
    (void)state;
    enum { N = 3 * HEALTH_LLM_EVENT_MAX };
    char *body = malloc(N + 256);
    assert_non_null(body);
    memset(body, 'y', N);
    memcpy(body, "data: {\"x\":\"", 12);
    memcpy(body + N, "\"}\n\n" DONE, strlen("\"}\n\n" DONE) + 1);
    assert_int_equal(judge(O, 200, SSE, body, WHOLE).fault, F(TOO_LARGE));
    assert_int_equal(judge(A, 200, SSE, body, WHOLE).fault, F(TOO_LARGE));
    memset(body, 'y', N); /* a long comment is nothing */
    body[0] = ':';
    memcpy(body + N, "\n" TOKEN DONE, strlen("\n" TOKEN DONE) + 1);
    assert_int_equal(judge(O, 200, SSE, body, WHOLE).fault, F(NONE));
    size_t len = 0; /* an event of many short lines */
    while (len < 2 * HEALTH_LLM_EVENT_MAX)
        len += (size_t)sprintf(body + len, "data: yyyyyyyyyyyyyyyyyyyyyyyyyyyyyy\n");
    strcpy(body + len, "\n" DONE);
    assert_int_equal(judge(O, 200, SSE, body, WHOLE).fault, F(TOO_LARGE));
    memset(body, ' ', N); /* a long line: as a line of a stream it is too long, as a whole answer it is well */
    memcpy(body + 20, L_WHOLE, strlen(L_WHOLE));
    strcpy(body + N, "\n");
    assert_int_equal(judge(L, 200, NDJSON, body, WHOLE).fault, F(TOO_LARGE));
    assert_int_equal(judge(L, 200, JSON, body, WHOLE).fault, F(NONE));
    free(body);
    /* A deep nest must not take the stack. */
    enum { DEEP = 200000 };
    char *deep = malloc(DEEP + 1);
    assert_non_null(deep);
    memset(deep, '[', DEEP);
    deep[DEEP] = 0;
    static const int statuses[] = {200, 500};
    for (size_t i = 0; i < 6; i++) {
        struct answer a = {.api = (int)i % 3, .status = statuses[i / 3], .type = JSON, .body = deep, .len = DEEP};
        assert_int_equal(judge_in(&a, DEEP, 1).fault, i < 3 ? F(SCHEMA) : F(STATUS));
    }
    free(deep);
}

/* Well-formed answers with bytes changed, left out and doubled: any fault, never a crash; and "well" only with all that it takes. */
static void test_noise(void **state)
{
    (void)state;
    static const struct {
        int api;
        const char *type, *body, *mark;
    } goods[] = {{O, SSE, ROLE TOKEN STOP DONE, "[DONE]"},
                 {A, SSE, A_START A_TOKEN A_DELTA("end_turn") A_STOP, "message_stop"},
                 {L, NDJSON, L_TOKEN L_DONE, "\"done\":true"}};
    uint64_t rng = 42;
    for (int round = 0; round < 20000; round++) {
        const char *good = goods[round % 3].body;
        char body[4096];
        size_t len = 0;
        for (size_t i = 0; good[i]; i++) {
            rng = rng * 6364136223846793005u + 1442695040888963407u;
            uint32_t d = (uint32_t)(rng >> 33);
            unsigned what = round % 40 == 0 ? d % 4 : d % 400;
            if (what == 0)
                continue;
            body[len++] = what == 1 ? (char)(d >> 8) : good[i];
            if (what == 2)
                body[len++] = good[i];
        }
        struct answer a = {.api = goods[round % 3].api,
                           .status = 200,
                           .type = round % 4 ? goods[round % 3].type : JSON,
                           .body = body,
                           .len = len,
                           .how = round % 5 == 0 ? CUT : WHOLE};
        struct health_result r = judge_in(&a, (size_t)round % (len + 1), 1 + (size_t)round % 50);
        assert_in_range(r.fault, HEALTH_FAULT_NONE, HEALTH_FAULTS - 1);
        if (r.fault == HEALTH_FAULT_NONE)
            assert_non_null(memmem(body, len, goods[round % 3].mark, strlen(goods[round % 3].mark)));
    }
}

/* Whatever the server repeats, and wherever its words are cut: no part of the key is told. */
static void test_secret(void **state)
{
    (void)state;
    char body[1024], type[256];
    for (int pad = 0; pad < 130; pad++) {
        snprintf(
            body, sizeof body, "{\"error\":{\"message\":\"%.*s%s-%s\"}}", pad,
            "----------------------------------------------------------------------------------------------------"
            "------------------------------",
            SECRET, SECRET);
        for (int status = 200; status <= 500; status += 100)
            for (int api = O; api <= L; api++) {
                struct answer a = {.api = api, .status = status, .type = JSON, .body = body, .len = strlen(body)};
                struct health_result r = judge_in(&a, 0, 9);
                assert_null(strstr(r.detail, "sk-"));
                assert_null(strstr(r.detail, "sk"));
            }
        snprintf(
            type, sizeof type, "%.*s" SECRET, pad > 100 ? 100 : pad,
            "----------------------------------------------------------------------------------------------------");
        assert_null(strstr(judge(O, 200, type, "", WHOLE).detail, "sk"));
    }
    /* Text that is no JSON is not told at all. */
    assert_null(strstr(judge(O, 200, JSON, "sk-live-0123", WHOLE).detail, "sk"));
    assert_null(strstr(judge(O, 200, SSE, "data: sk-live-0123\n\n", WHOLE).detail, "sk"));
    char out[16];
    health_llm_mask(out, sizeof out, "a-bb-a-bb", "bb");
    assert_string_equal(out, "a-***-a-***");
    health_llm_mask(out, sizeof out, "bbb", "b");
    assert_string_equal(out, "*********");
    health_llm_mask(out, 3, "abcdef", NULL);
    assert_string_equal(out, "ab");
    health_llm_mask(out, 3, "bbcdef", "bb");
    assert_string_equal(out, "**");
    health_llm_mask(out, sizeof out, "same", "");
    assert_string_equal(out, "same");
}

static void request_is(int api, bool stream, unsigned wants, const char *expected)
{
    char *text = health_llm_request(health_llm_api(api), "gpt \"4\"", stream, wants);
    assert_non_null(text);
    assert_string_equal(text, expected);
    free(text);
}
#define ASKS "\"messages\":[{\"role\":\"user\",\"content\":\"ping\"}]"

static void test_requests(void **state)
{
    (void)state;
    request_is(O, true, 0,
               "{\"model\":\"gpt \\\"4\\\"\"," ASKS ",\"max_tokens\":1,\"stream\":true,\"stream_options\":"
               "{\"include_usage\":true}}");
    request_is(O, true, HEALTH_LLM_NO_USAGE,
               "{\"model\":\"gpt \\\"4\\\"\"," ASKS ",\"max_tokens\":1,\"stream\":true}");
    request_is(O, false, HEALTH_LLM_NEW_LIMIT | HEALTH_LLM_MORE,
               "{\"model\":\"gpt \\\"4\\\"\"," ASKS ",\"max_completion_tokens\":64,\"stream\":false}");
    request_is(A, true, 0, "{\"model\":\"gpt \\\"4\\\"\",\"max_tokens\":1," ASKS ",\"stream\":true}");
    request_is(A, false, 0, "{\"model\":\"gpt \\\"4\\\"\",\"max_tokens\":1," ASKS ",\"stream\":false}");
    request_is(L, true, 0, "{\"model\":\"gpt \\\"4\\\"\"," ASKS ",\"stream\":true,\"options\":{\"num_predict\":1}}");
    request_is(L, false, 0,
               "{\"model\":\"gpt \\\"4\\\"\"," ASKS ",\"stream\":false,\"options\":{\"num_predict\":1}}");
    assert_string_equal(health_llm_path(health_llm_api(A)), "/messages");
    assert_string_equal(health_llm_auth(health_llm_api(A)), "x-api-key: ");
    assert_string_equal(health_llm_version(health_llm_api(A)), "anthropic-version: 2023-06-01");
    assert_string_equal(health_llm_path(health_llm_api(L)), "/chat");
    assert_null(health_llm_version(health_llm_api(L)));
    assert_null(strstr(health_llm_accept(health_llm_api(O), false), "event-stream"));
    assert_non_null(strstr(health_llm_accept(health_llm_api(L), true), "ndjson"));
}

static void test_learning(void **state)
{
    (void)state;
    static const struct {
        int api, status;
        const char *body;
        unsigned wants, more;
    } rows[] = {
        {O, 400, "Unsupported parameter: 'max_tokens'. Use 'max_completion_tokens' instead.", 0,
         HEALTH_LLM_NEW_LIMIT},
        {O, 400, "Use 'max_completion_tokens' instead.", HEALTH_LLM_NEW_LIMIT, 0}, /* it was: there is nothing more */
        {O, 500, "Use 'max_completion_tokens' instead.", 0, 0},
        {O, 400, "Unknown parameter: 'stream_options.include_usage'.", 0, HEALTH_LLM_NO_USAGE},
        {O, 422, "{\"detail\":[{\"type\":\"extra_forbidden\",\"loc\":[\"body\",\"stream_options\"]}]}",
         HEALTH_LLM_NEW_LIMIT, HEALTH_LLM_NO_USAGE},
        {O, 400, "stream_options, max_completion_tokens", 0, HEALTH_LLM_NO_USAGE | HEALTH_LLM_NEW_LIMIT},
        {O, 400, "Could not finish the message because max_tokens or model output limit was reached.", 0,
         HEALTH_LLM_MORE},
        {O, 400, "integer below minimum value. Expected a value >= 16", 0, HEALTH_LLM_MORE},
        {O, 400, "the model does not exist", 0, 0},
        {O, 400, "", 0, 0},
        {A, 400, "stream_options, max_completion_tokens", 0, 0},
        {L, 400, "stream_options, max_completion_tokens", 0, 0},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct health_llm_end e = {
            .status = rows[i].status, .content_type = "", .body = rows[i].body, .len = strlen(rows[i].body)};
        assert_int_equal(health_llm_learn(health_llm_api(rows[i].api), &e, rows[i].wants), rows[i].more);
        assert_int_equal(health_llm_form_refused(&e), rows[i].status != 500);
    }
}

static void test_cost(void **state)
{
    (void)state;
    static const struct {
        uint32_t prompt, completion;
        int64_t in, out;
        uint32_t cost;
    } rows[] = {
        {0, 0, 2500000, 10000000, 0},
        {9, 1, 0, 0, 0},
        {9, 1, 2500000, 10000000, 33}, /* 22.5 + 10, rounded up */
        {1, 0, 1, 0, 1},               /* never for nothing */
        {1000000, 0, 1, 0, 1},
        {1000001, 0, 1, 0, 2},
        {UINT32_MAX, 0, 1000000, 0, UINT32_MAX},
        {UINT32_MAX - 1, 0, 1000000, 0, UINT32_MAX - 1},
        {UINT32_MAX, UINT32_MAX, 1000000000000, 1000000000000, UINT32_MAX}, /* more than 64 bits */
        {UINT32_MAX, UINT32_MAX, 4000000000, 4000000000, UINT32_MAX},       /* only the sum is */
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        assert_int_equal(health_llm_cost(rows[i].prompt, rows[i].completion, rows[i].in, rows[i].out), rows[i].cost);
    struct health_spent s = {.prompt_tokens = 12, .completion_tokens = 3, .cost_microusd = 12000345};
    char text[128];
    health_llm_spent_text(&s, text, sizeof text);
    assert_string_equal(text, "probes since the start: 12 + 3 tokens, 12.000345 $");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_well),
        cmocka_unit_test(test_first_token),
        cmocka_unit_test(test_statuses),
        cmocka_unit_test(test_streams_that_break),
        cmocka_unit_test(test_whole_that_break),
        cmocka_unit_test(test_every_prefix),
        cmocka_unit_test(test_large),
        cmocka_unit_test(test_noise),
        cmocka_unit_test(test_secret),
        cmocka_unit_test(test_requests),
        cmocka_unit_test(test_learning),
        cmocka_unit_test(test_cost),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
