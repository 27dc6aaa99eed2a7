/* test_health_llm.c - what LLM APIs answer: well, in every broken way, and in pieces of every size. */
#include "health/health_llm.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define CHUNK(delta, finish)                                                                                         \
    "data: {\"id\":\"c\",\"choices\":[{\"index\":0,\"delta\":" delta ",\"finish_reason\":" finish "}]}\n\n"
#define ROLE  CHUNK("{\"role\":\"assistant\",\"content\":\"\"}", "null")
#define TOKEN CHUNK("{\"content\":\"pong\"}", "null")
#define STOP  CHUNK("{}", "\"length\"")
#define DONE  "data: [DONE]\n\n"
#define SSE   "text/event-stream"
#define JSON  "application/json"
#define WHOLE                                                                                                        \
    "{\"object\":\"chat.completion\",\"choices\":[{\"index\":0,\"message\":{\"role\":\"assistant\",\"content\":"     \
    "\"pong\"},\"finish_reason\":\"stop\"}],\"usage\":{\"total_tokens\":2}}"

/* The body in pieces of `size` bytes, one each ms. */
static struct health_result judge_sized(int status, const char *type, const char *body, size_t len, bool cut,
                                        size_t size)
{
    struct health_llm *x = malloc(sizeof *x);
    struct health_result r = {.probe = HEALTH_PROBE_LLM};
    assert_non_null(x);
    health_llm_init(x);
    int64_t at = 10;
    for (size_t i = 0; i < len; i += size, at++)
        health_llm_feed(x, body + i, len - i < size ? len - i : size, at);
    struct health_llm_end e = {.cut = cut, .status = status, .content_type = type, .body = body, .len = len};
    health_llm_judge(x, &e, &r);
    free(x);
    return r;
}

static struct health_result judge(int status, const char *type, const char *body)
{
    size_t len = strlen(body);
    struct health_result r = judge_sized(status, type, body, len, false, len ? len : 1);
    static const size_t sizes[] = {1, 2, 3, 7, 64};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        struct health_result other = judge_sized(status, type, body, len, false, sizes[i]);
        assert_int_equal(other.fault, r.fault); /* however it is cut into pieces */
        assert_string_equal(other.detail, r.detail);
    }
    return r;
}

static void test_well(void **state)
{
    (void)state;
    static const char *const streams[] = {
        ROLE TOKEN STOP DONE,
        TOKEN DONE,
        ": keep-alive\n\n" ROLE "event: x\nid: 3\nretry: 10\n" TOKEN STOP DONE,
        "data:{\"choices\":[{\"delta\":{\"content\":\"a\"}}]}\r\n\r\ndata:[DONE]\r\n\r\n",
        "data: {\"choices\":[],\"prompt_filter_results\":[]}\n\n" TOKEN STOP
        "data: {\"choices\":[],\"usage\":{\"total_tokens\":3}}\n\n" DONE,
        CHUNK("{\"reasoning_content\":\"hm\"}", "null") STOP DONE,
        CHUNK("{\"tool_calls\":[{\"index\":0}]}", "null") STOP DONE,
        ROLE STOP DONE,                 /* one token of thinking, nothing shown */
        ROLE TOKEN STOP "data: [DONE]", /* no line feed at the end */
        ROLE TOKEN STOP DONE "data: {nonsense after the end\n\n",
    };
    for (size_t i = 0; i < sizeof streams / sizeof *streams; i++) {
        struct health_result r = judge(200, SSE "; charset=utf-8", streams[i]);
        if (r.fault != HEALTH_FAULT_NONE)
            fail_msg("stream %zu: %s (%s)", i, health_fault_text(r.fault), r.detail);
        assert_int_equal(r.status, 200);
    }
    struct health_result r = judge(200, JSON, WHOLE); /* an API that does not stream */
    assert_int_equal(r.fault, HEALTH_FAULT_NONE);
    assert_int_equal(r.first_token_ms, 0);
    assert_int_equal(judge(200, "application/json; charset=utf-8", "\n " WHOLE "\n").fault, HEALTH_FAULT_NONE);
}

static void test_first_token(void **state)
{
    (void)state;
    static const char body[] = ROLE TOKEN STOP DONE;
    size_t role = strlen(ROLE);
    struct health_result r = judge_sized(200, SSE, body, sizeof body - 1, false, role);
    assert_int_equal(r.first_token_ms, 11); /* the role came at 10 and is no token */
}

static void test_broken(void **state)
{
    (void)state;
    static const struct {
        int status;
        const char *type, *body;
        int fault;
        const char *says;
    } rows[] = {
        /* statuses */
        {401, JSON, "{\"error\":{\"message\":\"bad key\"}}", HEALTH_FAULT_AUTH, "bad key"},
        {403, JSON, "{}", HEALTH_FAULT_AUTH, "403"},
        {429, JSON, "{\"error\":\"slow down\"}", HEALTH_FAULT_QUOTA, "slow down"},
        {503, "text/html", "<h1>", HEALTH_FAULT_OVERLOAD, "503"},
        {529, JSON, "", HEALTH_FAULT_OVERLOAD, "529"},
        {500, JSON, "{\"error\":{\"message\":3}}", HEALTH_FAULT_STATUS, "500"},
        {400, JSON, "[]", HEALTH_FAULT_STATUS, "400"},
        {404, "", "", HEALTH_FAULT_STATUS, "404"},
        {302, "", "", HEALTH_FAULT_STATUS, "302"},
        {204, "", "", HEALTH_FAULT_SCHEMA, "neither"},
        /* streams */
        {200, SSE, "", HEALTH_FAULT_CUT, "[DONE]"},
        {200, SSE, ROLE TOKEN, HEALTH_FAULT_CUT, "[DONE]"},
        {200, SSE, ROLE TOKEN STOP, HEALTH_FAULT_CUT, "[DONE]"},
        {200, SSE, DONE, HEALTH_FAULT_SCHEMA, "no token"},
        {200, SSE, ROLE DONE, HEALTH_FAULT_SCHEMA, "no token"},
        {200, SSE, ROLE "data: {\"choices\":[{\"delta\":{\"content\":\n\n" DONE, HEALTH_FAULT_SCHEMA, "JSON"},
        {200, SSE, "data: {}\n\n" DONE, HEALTH_FAULT_SCHEMA, "choices"},
        {200, SSE, "data: 17\n\n" DONE, HEALTH_FAULT_SCHEMA, "JSON"},
        {200, SSE, "data: []\n\n" DONE, HEALTH_FAULT_SCHEMA, "choices"},
        {200, SSE, "data: {\"choices\":\"many\"}\n\n" DONE, HEALTH_FAULT_SCHEMA, "choices"},
        {200, SSE, "data: {\"choices\":[7]}\n\n" DONE, HEALTH_FAULT_SCHEMA, "delta"},
        {200, SSE, "data: {\"choices\":[{\"delta\":null}]}\n\n" DONE, HEALTH_FAULT_SCHEMA, "delta"},
        {200, SSE, "data: \xff\xfe\n\n" DONE, HEALTH_FAULT_SCHEMA, "JSON"},
        {200, SSE, "data: {\"error\":{\"message\":\"x\",\"type\":\"overloaded_error\"}}\n\n", HEALTH_FAULT_OVERLOAD,
         "x"},
        {200, SSE, TOKEN "data: {\"error\":{\"message\":\"Rate limit reached\"}}\n\n" DONE, HEALTH_FAULT_QUOTA,
         "Rate"},
        {200, SSE, "data: {\"error\":{\"code\":\"insufficient_quota\"}}\n\n", HEALTH_FAULT_QUOTA, "error"},
        {200, SSE, "data: {\"error\":\"boom\"}\n\n" DONE, HEALTH_FAULT_STATUS, "boom"},
        {200, SSE, ROLE CHUNK("{}", "\"content_filter\"") DONE, HEALTH_FAULT_REFUSED, "refused"},
        {200, SSE, CHUNK("{\"refusal\":\"no\"}", "null") STOP DONE, HEALTH_FAULT_REFUSED, "refused"},
        {200, SSE, "<html>not a stream</html>", HEALTH_FAULT_CUT, "[DONE]"},
        /* whole */
        {200, JSON, "", HEALTH_FAULT_SCHEMA, "JSON"},
        {200, JSON, "{\"answer\":\"ok\"}", HEALTH_FAULT_SCHEMA, "choices"},
        {200, JSON, "{\"choices\":[]}", HEALTH_FAULT_SCHEMA, "no choice"},
        {200, JSON, "{\"choices\":[{\"text\":\"old\"}]}", HEALTH_FAULT_SCHEMA, "message"},
        {200, JSON, "{\"choices\":[{\"message\":\"hi\"}]}", HEALTH_FAULT_SCHEMA, "message"},
        {200, JSON, "\x01{{{", HEALTH_FAULT_SCHEMA, "JSON"},
        {200, JSON, "{\"choices\":[{\"message\":{\"content\":\"a\"}}]} trailing", HEALTH_FAULT_SCHEMA, "JSON"},
        {200, JSON, "{\"error\":{\"message\":\"overloaded\"}}", HEALTH_FAULT_OVERLOAD, "overloaded"},
        {200, JSON, "{\"choices\":[{\"message\":{\"content\":null,\"refusal\":\"no\"}}]}", HEALTH_FAULT_REFUSED,
         "refused"},
        {200, "text/html", WHOLE, HEALTH_FAULT_SCHEMA, "text/html"},
        {200, "", WHOLE, HEALTH_FAULT_SCHEMA, "neither"},
        {200, "application/jsonp", WHOLE, HEALTH_FAULT_SCHEMA, "jsonp"},
        {200, "text/event-stream-not", TOKEN DONE, HEALTH_FAULT_SCHEMA, "neither"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct health_result r = judge(rows[i].status, rows[i].type, rows[i].body);
        if (r.fault != rows[i].fault || !strstr(r.detail, rows[i].says))
            fail_msg("row %zu `%s`: found %s: %s", i, rows[i].body, health_fault_text(r.fault), r.detail);
    }
    struct health_result r = judge_sized(200, SSE, TOKEN, strlen(TOKEN), true, 5);
    assert_int_equal(r.fault, HEALTH_FAULT_CUT);
}

static void test_large(void **state)
{
    (void)state;
    size_t n = 3 * HEALTH_LLM_LINE_MAX;
    char *body = malloc(n + 64);
    assert_non_null(body);
    memset(body, 'y', n);
    memcpy(body, "data: {\"x\":\"", 12);
    memcpy(body + n, "\"}\n\n" DONE, strlen("\"}\n\n" DONE) + 1);
    assert_int_equal(judge(200, SSE, body).fault, HEALTH_FAULT_TOO_LARGE);
    memset(body, ' ', n); /* a long line that is no event: a whole answer */
    memcpy(body + 20, WHOLE, strlen(WHOLE));
    body[n] = 0;
    assert_int_equal(judge(200, JSON, body).fault, HEALTH_FAULT_NONE);
    free(body);
    /* A deep nest must not take the stack. */
    enum { DEEP = 200000 };
    char *deep = malloc(DEEP + 1);
    assert_non_null(deep);
    memset(deep, '[', DEEP);
    deep[DEEP] = 0;
    assert_int_equal(judge_sized(200, JSON, deep, DEEP, false, DEEP).fault, HEALTH_FAULT_SCHEMA);
    free(deep);
}

/* Well-formed answers with bytes changed, left out and doubled: any fault, never a crash; and "well" only with all that it takes. */
static void test_noise(void **state)
{
    (void)state;
    static const char good[] = ROLE TOKEN STOP DONE;
    uint64_t rng = 42;
    for (int round = 0; round < 20000; round++) {
        char body[2 * sizeof good];
        size_t len = 0;
        for (size_t i = 0; i < sizeof good - 1; i++) {
            rng = rng * 6364136223846793005u + 1442695040888963407u;
            uint32_t d = (uint32_t)(rng >> 33);
            unsigned what = round % 40 == 0 ? d % 4 : d % 400;
            if (what == 0)
                continue;
            body[len++] = what == 1 ? (char)(d >> 8) : good[i];
            if (what == 2)
                body[len++] = good[i];
        }
        struct health_result r =
            judge_sized(200, round % 3 ? SSE : JSON, body, len, round % 5 == 0, 1 + (size_t)round % 50);
        assert_in_range(r.fault, HEALTH_FAULT_NONE, HEALTH_FAULTS - 1);
        if (r.fault == HEALTH_FAULT_NONE)
            assert_non_null(memmem(body, len, "[DONE]", 6));
    }
}

static void test_request(void **state)
{
    (void)state;
    char *text = health_llm_request("gpt \"4\"", false);
    assert_string_equal(text, "{\"model\":\"gpt \\\"4\\\"\",\"messages\":[{\"role\":\"user\",\"content\":\"ping\"}],"
                              "\"max_tokens\":1,\"stream\":true}");
    free(text);
    text = health_llm_request("o1", true);
    assert_non_null(strstr(text, "\"max_completion_tokens\":1"));
    assert_null(strstr(text, "\"max_tokens\""));
    free(text);
    static const char refusal[] = "{\"error\":{\"message\":\"Unsupported parameter: 'max_tokens'. Use "
                                  "'max_completion_tokens' instead.\"}}";
    struct health_llm_end e = {.status = 400, .body = refusal, .len = sizeof refusal - 1};
    assert_true(health_llm_wants_new_limit(&e));
    e.status = 500;
    assert_false(health_llm_wants_new_limit(&e));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_well),  cmocka_unit_test(test_first_token), cmocka_unit_test(test_broken),
        cmocka_unit_test(test_large), cmocka_unit_test(test_noise),       cmocka_unit_test(test_request),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
