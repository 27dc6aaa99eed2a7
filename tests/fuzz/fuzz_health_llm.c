/* fuzz_health_llm.c - answers of LLM APIs: whatever the bytes and the pieces they come in, one verdict, and no half of a key in it. */
#include "common/settings.h"
#include "common/utf8.h"
#include "health/health_llm.h"
#include "random.h"
#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SECRET "Qk-7Zq9"
#define HEAD   5 /* bytes before the body: API, status, type, how it ended, where it is split */

static uint64_t tried, well;
static uint64_t faults[HEALTH_FAULTS];

static const int statuses[] = {200, 200, 200, 200, 400, 401, 402, 403, 404, 422, 429, 500, 503, 529, 204, 0};
static const char *const types[] = {"text/event-stream",
                                    "application/x-ndjson",
                                    "application/json",
                                    "text/html",
                                    "application/json; charset=utf-8",
                                    "text/event-stream;x",
                                    "",
                                    SECRET};
#define N_OF(a) (sizeof(a) / sizeof *(a))

static struct health_result judge(const uint8_t *head, const char *body, size_t len, size_t first, size_t size)
{
    static struct health_llm x; /* as it was left: init has to do */
    const char *type = types[head[2] % N_OF(types)];
    struct health_llm_end e = {.how = (enum health_llm_how)(head[3] % (HEALTH_LLM_LARGE + 1)),
                               .status = statuses[head[1] % N_OF(statuses)],
                               .content_type = type,
                               .body = body,
                               .len = len};
    struct health_result r = {0};
    health_llm_init(&x, health_llm_api(head[0] % 3), SECRET);
    health_llm_feed(&x, body, first, 1);
    for (size_t i = first; i < len; i += size)
        health_llm_feed(&x, body + i, len - i < size ? len - i : size, 2);
    health_llm_judge(&x, &e, &r);
    (void)health_llm_learn(health_llm_api(head[0] % 3), &e, head[4] % 8);
    return r;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < HEAD)
        return 0;
    size_t len = size - HEAD;
    char *body = malloc(len + 1); /* ends with a zero, as from the library that fetches it */
    memcpy(body, data + HEAD, len);
    body[len] = 0;
    tried++;
    struct health_result r = judge(data, body, len, len, 1);
    size_t first = len ? (size_t)data[4] * len / 256 : 0;
    for (size_t step = 1; step < 100; step += 33) {
        struct health_result other = judge(data, body, len, step == 1 ? first : 0, step == 1 ? len + 1 : step);
        assert(other.fault == r.fault && strcmp(other.detail, r.detail) == 0);
        assert(other.prompt_tokens == r.prompt_tokens && other.completion_tokens == r.completion_tokens);
    }
    assert(r.fault >= HEALTH_FAULT_NONE && r.fault < HEALTH_FAULTS);
    assert(memchr(r.detail, 0, sizeof r.detail) && utf8_valid_until(r.detail, strlen(r.detail)) == strlen(r.detail));
    assert((r.fault == HEALTH_FAULT_NONE) == (r.detail[0] == 0));
    assert(!strstr(r.detail, SECRET));
    int status = statuses[data[1] % N_OF(statuses)];
    if (r.fault == HEALTH_FAULT_NONE) {
        static const char *const marks[] = {
            [SET_LLM_OPENAI] = "", [SET_LLM_ANTHROPIC] = "message", [SET_LLM_OLLAMA] = "done"};
        assert(status == 200 || status == 204);
        assert(memmem(body, len, marks[data[0] % 3], strlen(marks[data[0] % 3])) || strchr(body, '\\'));
        well++;
    }
    faults[r.fault]++;
    (void)health_llm_cost(r.prompt_tokens, r.completion_tokens, INT64_C(1000000000000), (int64_t)len);
    free(body);
    return 0;
}

/* ---- inputs: parts of right answers in nearly the right order, and what servers say when they are ill ---- */

static const char *const parts[3][14] = {
    {"data: {\"choices\":[{\"delta\":{\"role\":\"assistant\",\"content\":\"\"}}]}\n\n",
     "data: {\"choices\":[{\"delta\":{\"content\":\"a\"},\"finish_reason\":null}],\"usage\":null}\n\n",
     "data: {\"choices\":[{\"delta\":{},\"finish_reason\":\"stop\"}]}\n\n",
     "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":9,\"completion_tokens\":1}}\r\n\r\n", "data: [DONE]\n\n",
     ": comment\n\n", "data: {\"choices\":\ndata: [{\"delta\":{\"content\":\"a\"}}]}\n\n",
     "data: {\"error\":{\"message\":\"" SECRET SECRET "\",\"type\":\"overloaded_error\",\"code\":429}}\n\n",
     "{\"choices\":[{\"message\":{\"content\":\"a\"},\"finish_reason\":\"stop\"}],\"usage\":{\"prompt_tokens\":9}}",
     "{\"error\":{\"message\":\"no " SECRET "\",\"code\":\"insufficient_quota\"}}", "data: {\"refusal\":1}\n\n",
     "data: {\"choices\":[{\"delta\":{\"refusal\":\"no\"},\"finish_reason\":\"content_filter\"}]}\n\n", "\n", SECRET},
    {"event: message_start\ndata: "
     "{\"type\":\"message_start\",\"message\":{\"type\":\"message\",\"usage\":{\"input_tokens\":8}}}\n\n",
     "event: content_block_delta\ndata: "
     "{\"type\":\"content_block_delta\",\"delta\":{\"type\":\"text_delta\",\"text\":\"a\"}}\n\n",
     "data: {\"type\":\"content_block_stop\",\"index\":0}\n\n",
     "data: "
     "{\"type\":\"message_delta\",\"delta\":{\"stop_reason\":\"end_turn\"},\"usage\":{\"output_tokens\":2}}\n\n",
     "data: {\"type\":\"message_stop\"}\n\n", "data: {\"type\":\"ping\"}\n\n",
     "data: {\"type\":\"content_block_start\",\"content_block\":{\"type\":\"text\",\"text\":\"\"}}\n\n",
     "event: error\ndata: {\"type\":\"error\",\"error\":{\"type\":\"overloaded_error\",\"message\":\"" SECRET
     "\"}}\n\n",
     "{\"type\":\"message\",\"content\":[{\"type\":\"text\",\"text\":\"a\"}],\"stop_reason\":\"end_turn\"}",
     "{\"type\":\"error\",\"error\":{\"type\":\"rate_limit_error\",\"message\":\"x" SECRET "\"}}",
     "data: {\"type\":\"brave_new\"}\n\n",
     "data: {\"type\":\"message_delta\",\"delta\":{\"stop_reason\":\"refusal\"}}\n\n", "\r\n", SECRET},
    {"{\"message\":{\"role\":\"assistant\",\"content\":\"\"},\"done\":false}\n",
     "{\"message\":{\"content\":\"a\"},\"done\":false}\n", "{\"message\":{\"thinking\":\"a\"},\"done\":false}\r\n",
     "\n",
     "{\"message\":{\"content\":\"\"},\"done\":true,\"done_reason\":\"stop\",\"prompt_eval_count\":11,\"eval_count\":"
     "1}\n",
     "{\"done\":true}\n", "{\"done\":true,\"done_reason\":\"load\"}\n", "{\"error\":\"server busy " SECRET "\"}\n",
     "{\"message\":{\"content\":\"a\"},\"done\":true,\"done_reason\":\"stop\",\"eval_count\":1e9}",
     "{\"error\":\"" SECRET "\"}", "{\"done\":7}\n", "{\"message\":{},\"done\":true,\"eval_count\":-1}\n", "\r\n",
     SECRET},
};

static void put_text(uint8_t *buf, size_t *n, size_t room, const char *text)
{
    size_t len = strlen(text);
    if (*n + len > room)
        return;
    memcpy(buf + *n, text, len);
    *n += len;
}

static size_t fuzz_make(struct fuzz_random *r, uint8_t *buf, size_t room)
{
    size_t n = HEAD, api = fuzz_below(r, 3);
    static const uint8_t stream_types[] = {0, 0, 1};
    room = room < 100000 ? room : 100000;
    for (size_t i = 0; i < HEAD; i++)
        buf[i] = (uint8_t)fuzz_next(r);
    buf[0] = (uint8_t)api;
    buf[3] = fuzz_below(r, 3) ? 0 : buf[3];
    switch (fuzz_below(r, 8)) {
    case 0: /* a whole answer, or something that is none */
        buf[2] = 2;
        put_text(buf, &n, room, parts[api][8 + fuzz_below(r, 2)]);
        break;
    case 1: /* an event at the edge of what is allowed */
        buf[2] = stream_types[api];
        put_text(buf, &n, room, "data: {\"x\":\"");
        for (size_t k = HEALTH_LLM_EVENT_MAX - 40 + fuzz_below(r, 80); k > 0; k--)
            put_text(buf, &n, room, "y");
        put_text(buf, &n, room, "\"}\n\n");
        break;
    case 2: /* a deep nest */
        for (size_t k = fuzz_below(r, 5000); k > 0; k--)
            put_text(buf, &n, room, fuzz_below(r, 2) ? "[" : "{\"a\":");
        break;
    case 3: /* parts in any order */
        for (size_t k = fuzz_below(r, 12); k > 0; k--)
            put_text(buf, &n, room, parts[fuzz_below(r, 20) ? api : fuzz_below(r, 3)][fuzz_below(r, 14)]);
        break;
    default: /* a stream, with a part left out now and then */
        buf[1] = fuzz_below(r, 4) ? 0 : buf[1];
        buf[2] = stream_types[api];
        for (size_t k = 0; k < 5; k++)
            put_text(buf, &n, room, parts[api][fuzz_below(r, 10) ? k : fuzz_below(r, 14)]);
    }
    return fuzz_below(r, 2) ? HEAD + fuzz_mutate(r, buf + HEAD, n - HEAD, room - HEAD) : n;
}

static void fuzz_report(void)
{
    printf("%llu of %llu answers were well\n", (unsigned long long)well, (unsigned long long)tried);
    for (int i = HEALTH_FAULT_NONE; i < HEALTH_FAULTS; i++)
        if (faults[i])
            printf("  %llu: %s\n", (unsigned long long)faults[i], health_fault_text(i));
    assert(tried < 1000 || (well > tried / 20 && faults[HEALTH_FAULT_SCHEMA] && faults[HEALTH_FAULT_CUT]));
}

#include "driver.h"
