/* test_health_llm_apis.c - probes of LLM APIs over real HTTP against the simulator: three APIs, streamed and whole, in every mode. */
#include "bus_kit.h"
#include "common/http.h"
#include "common/wire.h"
#include "health/health_probe.h"
#include <jansson.h>
#include <unistd.h>

#define KEY     "sk-live-0123456789"
#define PROMPT  8 /* what the simulator says that it used */
#define WORDS   3
#define COST    50    /* of PROMPT and WORDS by the prices below */
#define LIMIT_S "900" /* Retry-After */

struct env {
    struct kit kit;
    struct harness_proc *sim;
    int control;
    struct http *http;
    struct set_probe set;
    char url[64];
    struct health_probe_conf conf;
    /* a probe */
    bool done;
    struct health_result r;
    /* a request to the simulator */
    bool told, closed;
    int status;
    char said[65536];
};

/* ---- the world ---- */

static const char *program(struct env *e, const char *name)
{
    static char path[700];
    char self[512];
    (void)e;
    ssize_t n = readlink("/proc/self/exe", self, sizeof self - 1);
    assert_true(n > 0);
    self[n] = 0;
    for (int i = 0; i < 3; i++) /* tests/integration/test_health_llm_apis */
        *strrchr(self, '/') = 0;
    snprintf(path, sizeof path, "%s/bin/%s", self, name);
    return path;
}

static void on_told(void *ctx, const struct http_result *h)
{
    struct env *e = ctx;
    e->told = true;
    e->status = h->status;
    snprintf(e->said, sizeof e->said, "%s", h->body);
}

static void tell(struct env *e, const char *method, const char *path, const char *body)
{
    char url[96];
    snprintf(url, sizeof url, "http://127.0.0.1:%d%s", e->control, path);
    struct http_request q = {.method = method, .url = url, .body = body, .body_len = body ? strlen(body) : 0};
    e->told = false;
    (void)http_start(e->http, &q, NULL, on_told, e);
    assert_true(loop_run_until(&e->kit.loop, &e->told, HARNESS_WAIT_MS));
    assert_int_equal(e->status, 200);
}

static void mode(struct env *e, const char *name)
{
    char body[96];
    snprintf(body, sizeof body, "{\"mode\":\"%s\",\"slow_ms\":50,\"retry_after\":" LIMIT_S "}", name);
    tell(e, "POST", "/sim/mode", body);
}

/* How many requests came since the last time. */
static int64_t asked(struct env *e)
{
    tell(e, "GET", "/sim/mode", NULL);
    json_t *j = json_loads(e->said, 0, NULL);
    int64_t n = json_integer_value(json_object_get(j, "received"));
    json_decref(j);
    tell(e, "DELETE", "/sim/requests", NULL);
    return n;
}

static void on_result(void *ctx, const struct health_result *r)
{
    struct env *e = ctx;
    assert_false(e->done);
    e->done = true;
    e->r = *r;
}

static void *begin(struct env *e)
{
    struct health_probe_env env = {.loop = &e->kit.loop, .http = e->http};
    e->done = false;
    void *run = health_probe_llm.start(&env, &e->conf, on_result, e);
    assert_non_null(run);
    assert_false(e->done); /* never from inside */
    return run;
}

static void probe(struct env *e)
{
    (void)begin(e);
    assert_true(loop_run_until(&e->kit.loop, &e->done, HARNESS_WAIT_MS));
}

static void speak(struct env *e, int api, bool stream)
{
    static const char *const bases[] = {
        [SET_LLM_OPENAI] = "/v1", [SET_LLM_ANTHROPIC] = "/v1/", [SET_LLM_OLLAMA] = "/api"};
    snprintf(e->url, sizeof e->url, "http://127.0.0.1:%d%s", e->sim->port, bases[api]);
    e->set.api = api;
    e->set.stream = stream;
    e->conf.set = &e->set;
}

static int setup(void **state)
{
    struct env *e = calloc(1, sizeof *e);
    struct err er = {""};
    char port[16], control[16];
    *state = e;
    e->kit.h = harness_open();
    if (loop_init(&e->kit.loop) || !(e->http = http_open(&e->kit.loop, &er)))
        return -1;
    int sim_port = harness_free_port();
    e->control = harness_free_port();
    while (e->control == sim_port)
        e->control = harness_free_port();
    snprintf(port, sizeof port, "%d", sim_port);
    snprintf(control, sizeof control, "%d", e->control);
    e->sim = harness_run(e->kit.h, "sim", sim_port,
                         (const char *const[]){program(e, "redoubt"), "sim", "llm", "--port", port, "--control",
                                               control, "--api-key", KEY, NULL});
    /* 8 * 2.5 + 3 * 9.9 = 49.7 millionths of a dollar */
    e->set = (struct set_probe){.type = SET_PROBE_LLM,
                                .url = e->url,
                                .model = (char *)"m",
                                .api_key = (char *)KEY,
                                .price_input = 2500000,
                                .price_output = 9900000,
                                .timeout_ms = HARNESS_WAIT_MS / 2};
    speak(e, SET_LLM_OPENAI, true);
    return 0;
}

static void on_closed(void *ctx)
{
    ((struct env *)ctx)->closed = true;
}

static int teardown(void **state)
{
    struct env *e = *state;
    http_close(e->http, on_closed, e);
    assert_true(loop_run_until(&e->kit.loop, &e->closed, HARNESS_WAIT_MS));
    assert_int_equal(harness_stop(e->sim), 0);
    loop_done(&e->kit.loop);
    harness_close(e->kit.h);
    free(e);
    return 0;
}

/* ---- tests ---- */

#define F(name)   HEALTH_FAULT_##name
#define OPENAI    (1 << SET_LLM_OPENAI)
#define ANTHROPIC (1 << SET_LLM_ANTHROPIC)
#define OLLAMA    (1 << SET_LLM_OLLAMA)
#define ALL       (OPENAI | ANTHROPIC | OLLAMA)
enum { STREAM = 1, WHOLE = 2, BOTH = 3 };

/* tokens: what the answer says that was used; FIRST: Anthropic says the prompt's at the start. */
enum { NONE_SAID, ALL_SAID, FIRST_SAID };

static void every_way(void **state)
{
    struct env *e = *state;
    static const struct {
        const char *mode;
        int apis, forms, fault, status;
        const char *says;
        int tokens, timeout_ms;
    } rows[] = {
        {"ok", ALL, BOTH, F(NONE), 200, "", ALL_SAID, 0},
        {"slow", ALL, BOTH, F(NONE), 200, "", ALL_SAID, 0},
        {"other-form", ALL, BOTH, F(NONE), 200, "", -1, 0},
        {"no-usage", ALL, BOTH, F(NONE), 200, "", NONE_SAID, 0},
        {"new-limit", ALL, BOTH, F(NONE), 200, "", ALL_SAID, 0},
        {"thinks", ALL, BOTH, F(NONE), 200, "", ALL_SAID, 0},
        {"401", ALL, BOTH, F(AUTH), 401, "provided: ***.", NONE_SAID, 0},
        {"403", ALL, BOTH, F(AUTH), 403, "not allowed", NONE_SAID, 0},
        {"404", ALL, BOTH, F(STATUS), 404, "HTTP 404: model \"m\" not found", NONE_SAID, 0},
        {"429", ALL, BOTH, F(QUOTA), 429, "Rate limit", NONE_SAID, 0},
        {"quota", OPENAI | OLLAMA, BOTH, F(QUOTA), 429, "exceeded your current quota", NONE_SAID, 0},
        {"quota", ANTHROPIC, BOTH, F(QUOTA), 402, "exceeded your current quota", NONE_SAID, 0},
        {"500", ALL, BOTH, F(STATUS), 500, "The server had an error", NONE_SAID, 0},
        {"503", ALL, BOTH, F(OVERLOAD), 503, "overloaded", NONE_SAID, 0},
        {"529", ALL, BOTH, F(OVERLOAD), 529, "overloaded", NONE_SAID, 0},
        {"refused", OPENAI | ANTHROPIC, BOTH, F(REFUSED), 200, "refused", ALL_SAID, 0},
        {"no-token", OPENAI, STREAM, F(SCHEMA), 200, "no token", ALL_SAID, 0},
        {"no-token", OPENAI, WHOLE, F(SCHEMA), 200, "no choice", ALL_SAID, 0},
        {"no-token", ANTHROPIC, STREAM, F(SCHEMA), 200, "no token", FIRST_SAID, 0},
        {"no-token", ANTHROPIC, WHOLE, F(SCHEMA), 200, "stop_reason", ALL_SAID, 0},
        {"no-token", OLLAMA, BOTH, F(SCHEMA), 200, "no token", NONE_SAID, 0},
        {"error", ALL, BOTH, F(STATUS), 200, "is an error: The server had", FIRST_SAID, 0},
        {"error-busy", ALL, BOTH, F(OVERLOAD), 200, "is an error: The server is overloaded", FIRST_SAID, 0},
        {"error-quota", ALL, BOTH, F(QUOTA), 200, "is an error: Rate limit", FIRST_SAID, 0},
        {"unended", OPENAI, STREAM, F(CUT), 200, "without [DONE]", ALL_SAID, 0},
        {"unended", ANTHROPIC, STREAM, F(CUT), 200, "without message_stop", ALL_SAID, 0},
        {"unended", OLLAMA, STREAM, F(CUT), 200, "without `done` after 3 events", NONE_SAID, 0},
        {"unended", ALL, WHOLE, F(CUT), 200, "connection ended", NONE_SAID, 0},
        {"cut", OPENAI | OLLAMA, STREAM, F(CUT), 200, "connection ended in the middle of the answer, after 1",
         NONE_SAID, 0},
        {"cut", ANTHROPIC, STREAM, F(CUT), 200, "connection ended", FIRST_SAID, 0},
        {"cut", ALL, WHOLE, F(CUT), 200, "connection ended", NONE_SAID, 0},
        {"stall", ALL, STREAM, F(TIMEOUT), 200, "stalled after ", FIRST_SAID, 500},
        {"stall", ALL, WHOLE, F(TIMEOUT), 200, "stalled after 0", NONE_SAID, 500},
        {"hang", ALL, BOTH, F(TIMEOUT), 0, "", NONE_SAID, 300},
        {"schema", OPENAI, BOTH, F(SCHEMA), 200, "choices", -1, 0},
        {"schema", ANTHROPIC, STREAM, F(SCHEMA), 200, "no `type`", -1, 0},
        {"schema", ANTHROPIC, WHOLE, F(SCHEMA), 200, "no `message`", NONE_SAID, 0},
        {"schema", OLLAMA, BOTH, F(SCHEMA), 200, "`done`", -1, 0},
        {"garbage", ALL, BOTH, F(SCHEMA), 200, "not JSON", -1, 0},
        {"wrong-type", ALL, BOTH, F(SCHEMA), 200, "text/html", NONE_SAID, 0},
        {"huge", ALL, BOTH, F(TOO_LARGE), 200, "262144", NONE_SAID, 0},
        {"refuse", ALL, BOTH, F(CONNECT), 0, "", NONE_SAID, 0},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        for (int api = 0; api < 3; api++)
            for (int form = STREAM; form <= WHOLE; form++) {
                if (!(rows[i].apis & 1 << api) || !(rows[i].forms & form))
                    continue;
                mode(e, rows[i].mode);
                speak(e, api, form == STREAM);
                e->conf.llm_wants = 0;
                e->set.timeout_ms = rows[i].timeout_ms ? rows[i].timeout_ms : HARNESS_WAIT_MS / 2;
                probe(e);
                print_message("%s, api %d, %s: %s, %u ms (first %u), %u + %u: %s\n", rows[i].mode, api,
                              form == STREAM ? "stream" : "whole", health_fault_text(e->r.fault), e->r.total_ms,
                              e->r.first_token_ms, e->r.prompt_tokens, e->r.completion_tokens, e->r.detail);
                assert_int_equal(e->r.probe, HEALTH_PROBE_LLM);
                assert_int_equal(e->r.fault, rows[i].fault);
                assert_int_equal(e->r.status, rows[i].status);
                assert_non_null(strstr(e->r.detail, rows[i].says));
                assert_null(strstr(e->r.detail, "sk-"));
                bool all = rows[i].tokens == ALL_SAID;
                bool first = rows[i].tokens == FIRST_SAID && api == SET_LLM_ANTHROPIC && form == STREAM;
                if (rows[i].tokens >= 0) {
                    assert_int_equal(e->r.prompt_tokens, all || first ? PROMPT : 0);
                    assert_int_equal(e->r.completion_tokens, all ? WORDS : first ? 1 : 0);
                    assert_int_equal(e->r.cost_microusd, all ? COST : first ? 30 : 0);
                }
                assert_int_equal(e->r.retry_after_ms, strcmp(rows[i].mode, "429") == 0 ? 900000 : 0);
                if (strcmp(rows[i].mode, "ok") == 0)
                    assert_true((e->r.first_token_ms > 0) == (form == STREAM));
                if (strcmp(rows[i].mode, "slow") == 0)
                    assert_true(e->r.total_ms >= 49 && (form == WHOLE || e->r.first_token_ms >= 49));
            }
}

/* What an API wants is learned once, and forgotten when it is refused itself. */
static void learning(void **state)
{
    struct env *e = *state;
    static const struct {
        const char *mode;
        unsigned wants;
    } rows[] = {{"new-limit", HEALTH_LLM_NEW_LIMIT}, {"no-usage", HEALTH_LLM_NO_USAGE}, {"thinks", HEALTH_LLM_MORE}};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        mode(e, rows[i].mode);
        e->conf.llm_wants = 0;
        (void)asked(e);
        probe(e);
        assert_int_equal(e->r.fault, F(NONE));
        assert_int_equal(e->conf.llm_wants, rows[i].wants);
        assert_int_equal(asked(e), 2);
        probe(e);
        assert_int_equal(e->r.fault, F(NONE));
        assert_int_equal(asked(e), 1);
        /* Refused all the same, for another reason. */
        e->set.model = (char *)"";
        probe(e);
        assert_int_equal(e->r.fault, F(STATUS));
        assert_int_equal(e->r.status, 400);
        assert_int_equal(asked(e), 1);
        assert_int_equal(e->conf.llm_wants, 0);
        e->set.model = (char *)"m";
    }
    /* One want after the other, each by a refusal of its own. */
    e->conf.llm_wants = HEALTH_LLM_NEW_LIMIT | HEALTH_LLM_NO_USAGE;
    mode(e, "thinks");
    probe(e);
    assert_int_equal(e->r.fault, F(NONE));
    assert_int_equal(e->conf.llm_wants, HEALTH_LLM_NEW_LIMIT | HEALTH_LLM_NO_USAGE | HEALTH_LLM_MORE);
    /* The target is no longer watched when the refusal comes: it is not asked again. */
    mode(e, "new-limit");
    e->conf.llm_wants = 0;
    (void)asked(e);
    (void)begin(e);
    e->conf.set = NULL;
    assert_true(loop_run_until(&e->kit.loop, &e->done, HARNESS_WAIT_MS));
    assert_int_equal(e->r.fault, F(STATUS));
    assert_int_equal(asked(e), 1);
}

static void counting(void **state)
{
    struct env *e = *state;
    int64_t prompt = kit_metric("redoubt_probe_prompt_tokens_total"),
            completion = kit_metric("redoubt_probe_completion_tokens_total"),
            cost = kit_metric("redoubt_probe_cost_microusd_total");
    for (int api = 0; api < 3; api++)
        for (int form = STREAM; form <= WHOLE; form++) {
            speak(e, api, form == STREAM);
            mode(e, "ok");
            probe(e);
            assert_int_equal(e->r.fault, F(NONE));
            mode(e, "503"); /* costs nothing */
            probe(e);
        }
    speak(e, SET_LLM_OPENAI, true);
    mode(e, "unended"); /* failed, and paid */
    probe(e);
    assert_int_equal(e->r.fault, F(CUT));
    assert_int_equal(e->conf.spent.prompt_tokens, 7 * PROMPT);
    assert_int_equal(e->conf.spent.completion_tokens, 7 * WORDS);
    assert_int_equal(e->conf.spent.cost_microusd, 7 * COST);
    assert_int_equal(kit_metric("redoubt_probe_prompt_tokens_total") - prompt, 7 * PROMPT);
    assert_int_equal(kit_metric("redoubt_probe_completion_tokens_total") - completion, 7 * WORDS);
    assert_int_equal(kit_metric("redoubt_probe_cost_microusd_total") - cost, 7 * COST);
}

static bool said_requests(struct env *e)
{
    tell(e, "GET", "/sim/requests", NULL);
    return strstr(e->said, "/v1/messages") != NULL;
}

static void broken_off(void **state)
{
    struct env *e = *state;
    void *run = begin(e);
    health_probe_llm.cancel(run);
    assert_false(e->done);
    assert_true(loop_run_until(&e->kit.loop, &e->done, HARNESS_WAIT_MS));
    assert_int_equal(e->r.fault, F(CANCELLED));
    /* In the middle of an answer. */
    speak(e, SET_LLM_ANTHROPIC, true);
    mode(e, "stall");
    (void)asked(e);
    run = begin(e);
    bool came = false;
    for (int64_t end = clock_mono_ms() + HARNESS_WAIT_MS; !came && clock_mono_ms() < end;)
        came = said_requests(e);
    assert_true(came);
    assert_false(e->done);
    health_probe_llm.cancel(run);
    assert_true(loop_run_until(&e->kit.loop, &e->done, HARNESS_WAIT_MS));
    assert_int_equal(e->r.fault, F(CANCELLED));
    /* Without a key none is sent, and a wrong address is one more failure. */
    e->set.api_key = (char *)"";
    mode(e, "ok");
    probe(e);
    assert_int_equal(e->r.fault, F(AUTH));
    snprintf(e->url, sizeof e->url, "http://127.0.0.1:%d", e->sim->port);
    e->set.api_key = (char *)KEY;
    e->set.api = SET_LLM_OPENAI;
    probe(e); /* this simulator answers without /v1, too */
    assert_int_equal(e->r.fault, F(NONE));
    snprintf(e->url, sizeof e->url, "http://127.0.0.1:%d/nowhere", e->sim->port);
    probe(e);
    assert_int_equal(e->r.fault, F(STATUS));
    assert_int_equal(e->r.status, 404);
    assert_non_null(strstr(e->r.detail, "unknown URL"));
}

struct shown {
    int n;
    char text[600];
};

static void on_shown(void *ctx, enum bus_status st, const struct bus_msg *m)
{
    struct shown *x = ctx;
    x->n++;
    x->text[0] = 0;
    PB(CommandReply) *r = st == BUS_OK ? wire_unpack(PB_DESC(command_reply), m->data, m->len, NULL) : NULL;
    if (r)
        snprintf(x->text, sizeof x->text, "%s", r->message);
    wire_free(r);
}

/* The service itself tells what a target's probes have cost. */
static void shown_to_people(void **state)
{
    struct env *e = *state;
    struct kit_bus bus;
    e->kit.nats = harness_nats(e->kit.h, "nats", NULL);
    struct harness_proc *redis = harness_redis(e->kit.h, "redis", NULL);
    char conf[600];
    snprintf(conf, sizeof conf, "%s/redoubt.yaml", harness_dir(e->kit.h));
    FILE *f = fopen(conf, "w");
    assert_non_null(f);
    fprintf(f,
            "nats: { url: \"%s\" }\nredis: { host: 127.0.0.1, port: %d }\ndata_dir: \"%s/data\"\ntargets:\n"
            "  - { name: llm.a, kind: llm, probe: { type: llm, api: anthropic, url: \"http://127.0.0.1:%d/v1\", "
            "model: m, "
            "api_key: " KEY ", price_input: 1000000, price_output: 3000000, interval: 200ms, timeout: 5s } }\n",
            e->kit.nats->url, redis->port, harness_dir(e->kit.h), e->sim->port);
    fclose(f);
    struct harness_proc *health =
        harness_run(e->kit.h, "health", 0, (const char *const[]){program(e, "redoubt-health"), "-c", conf, NULL});
    kit_open_up(&e->kit, &bus);
    PB(HealthCommand) q = REDOUBT__V1__HEALTH_COMMAND__INIT;
    q.target = (char *)"llm.a";
    struct err er = {""};
    size_t len;
    void *data = wire_pack(&q, &len, &er);
    assert_non_null(data);
    struct bus_out o = {.subject = SUBJECT_CMD "health.show", .type = wire_type(&q), .data = data, .len = len};
    unsigned long long prompt = 0, completion = 0, dollars = 0, micro = 0;
    struct shown x = {0};
    for (int64_t end = clock_mono_ms() + HARNESS_WAIT_MS; prompt < 2 * PROMPT && clock_mono_ms() < end;) {
        x.n = 0;
        bus_request(bus.b, &o, HARNESS_WAIT_MS, on_shown, &x);
        KIT_WAIT(&e->kit, x.n == 1);
        const char *at = strstr(x.text, "since the start: ");
        if (at)
            sscanf(at, "since the start: %llu + %llu tokens, %llu.%06llu $", &prompt, &completion, &dollars, &micro);
    }
    print_message("%s\n", x.text);
    assert_true(prompt >= 2 * PROMPT);
    assert_int_equal(prompt % PROMPT, 0);
    assert_int_equal(completion, prompt / PROMPT * WORDS);
    assert_int_equal(micro, prompt + 3 * completion);
    assert_int_equal(dollars, 0);
    free(data);
    kit_close(&bus);
    assert_int_equal(harness_stop(health), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(every_way, setup, teardown),
        cmocka_unit_test_setup_teardown(learning, setup, teardown),
        cmocka_unit_test_setup_teardown(counting, setup, teardown),
        cmocka_unit_test_setup_teardown(broken_off, setup, teardown),
        cmocka_unit_test_setup_teardown(shown_to_people, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
