/* test_cli_sim.c - the simulators as processes: what they answer when well, each way to fail, control while the port is closed. */
#include "bus_kit.h"
#include "cli/sim.h"
#include "common/http.h"
#include "common/webhook_sign.h"
#include <arpa/inet.h>
#include <errno.h>
#include <jansson.h>
#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

struct sim {
    pid_t pid;
    int port, control;
};
struct town {
    struct loop loop;
    struct http *http;
    struct sim sim;
    bool done, closed;
    enum http_fault fault;
    int status;
    int64_t retry_after_ms, total_ms;
    char *body;
    size_t len, pieces;
    char type[64];
};

/* ---- a simulator as a child ---- */

static int read_port(FILE *f, const char *word)
{
    char line[128];
    int port = 0;
    assert_non_null(fgets(line, sizeof line, f));
    assert_int_equal(strncmp(line, word, strlen(word)), 0);
    assert_int_equal(sscanf(line + strlen(word), " 127.0.0.1:%d", &port), 1);
    return port;
}

static void start(struct sim *s, int (*run)(int, char **), char **argv)
{
    int fds[2], argc = 0;
    assert_int_equal(pipe(fds), 0);
    while (argv[argc])
        argc++;
    pid_t parent = getpid();
    s->pid = fork();
    assert_true(s->pid >= 0);
    if (s->pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        if (getppid() != parent)
            _exit(1);
        dup2(fds[1], STDOUT_FILENO);
        close(fds[0]);
        close(fds[1]);
        exit(run(argc, argv));
    }
    close(fds[1]);
    FILE *f = fdopen(fds[0], "r");
    s->port = read_port(f, "listening");
    s->control = read_port(f, "control");
    fclose(f);
}

static void stop(struct sim *s)
{
    int status = 0;
    assert_int_equal(kill(s->pid, SIGTERM), 0);
    assert_int_equal(waitpid(s->pid, &status, 0), s->pid);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 0);
}

#define START(t, run, ...) start(&(t)->sim, run, (char *[]){__VA_ARGS__, NULL})

/* ---- asking ---- */

static int town_setup(void **state)
{
    struct town *t = calloc(1, sizeof *t);
    struct err e;
    if (loop_init(&t->loop) || !(t->http = http_open(&t->loop, &e)))
        return -1;
    *state = t;
    return 0;
}

static void on_closed(void *ctx)
{
    ((struct town *)ctx)->closed = true;
}

static int town_teardown(void **state)
{
    struct town *t = *state;
    http_close(t->http, on_closed, t);
    loop_run_until(&t->loop, &t->closed, HARNESS_WAIT_MS);
    loop_done(&t->loop);
    free(t->body);
    free(t);
    return 0;
}

static void on_done(void *ctx, const struct http_result *r)
{
    struct town *t = ctx;
    t->done = true;
    t->fault = r->fault;
    t->status = r->status;
    t->retry_after_ms = r->retry_after_ms;
    t->total_ms = r->total_ms;
    free(t->body);
    t->body = malloc(r->len + 1);
    memcpy(t->body, r->body, r->len);
    t->body[r->len] = 0;
    t->len = r->len;
    snprintf(t->type, sizeof t->type, "%s", r->content_type);
}

static void call(struct town *t, struct http_request r)
{
    t->done = false;
    r.max_response = r.max_response ? r.max_response : 16 << 20;
    (void)http_start(t->http, &r, NULL, on_done, t);
    assert_true(loop_run_until(&t->loop, &t->done, HARNESS_WAIT_MS));
}

static void post(struct town *t, int port, const char *path, const char *body, const char *const *headers,
                 int64_t timeout_ms)
{
    char url[128];
    snprintf(url, sizeof url, "http://127.0.0.1:%d%s", port, path);
    call(t, (struct http_request){.url = url,
                                  .body = body,
                                  .body_len = body ? strlen(body) : 0,
                                  .headers = headers,
                                  .timeout_ms = timeout_ms});
}

static void get(struct town *t, int port, const char *path)
{
    post(t, port, path, NULL, NULL, 5000);
}

static void mode_of(struct town *t, int port, const char *mode)
{
    char body[96];
    snprintf(body, sizeof body, "{\"mode\":\"%s\",\"slow_ms\":300,\"retry_after\":7}", mode);
    post(t, port, "/sim/mode", body, NULL, 5000);
    assert_int_equal(t->status, 200);
}

static const char chat[] = "{\"model\":\"m\",\"messages\":[{\"role\":\"user\",\"content\":\"hi\"}]}";
static const char chat_stream[] =
    "{\"model\":\"m\",\"stream\":true,\"messages\":[{\"role\":\"user\",\"content\":\"hi\"}]}";
#define CHAT "/v1/chat/completions"

/* ---- tests ---- */

static void an_llm_that_is_well(void **state)
{
    struct town *t = *state;
    START(t, sim_llm_main, "llm", "--api-key", "k", "--model", "m");
    static const char *const key[] = {"Authorization: Bearer k", NULL};
    post(t, t->sim.port, CHAT, chat, key, 5000);
    assert_int_equal(t->status, 200);
    json_t *j = json_loads(t->body, 0, NULL);
    const json_t *choice = json_array_get(json_object_get(j, "choices"), 0);
    assert_string_equal(json_string_value(json_object_get(json_object_get(choice, "message"), "content")),
                        "All is well.");
    assert_string_equal(json_string_value(json_object_get(j, "model")), "m");
    json_decref(j);
    post(t, t->sim.port, CHAT, chat_stream, key, 5000);
    assert_string_equal(t->type, "text/event-stream");
    assert_non_null(strstr(t->body, "\"finish_reason\":\"stop\""));
    assert_string_equal(t->body + t->len - 14, "data: [DONE]\n\n");
    /* What is wrong is refused as the real one does. */
    post(t, t->sim.port, CHAT, chat, NULL, 5000);
    assert_int_equal(t->status, 401);
    post(t, t->sim.port, CHAT, "{\"model\":\"other\",\"messages\":[1]}", key, 5000);
    assert_int_equal(t->status, 404);
    post(t, t->sim.port, CHAT, "{\"model\":\"m\"}", key, 5000);
    assert_int_equal(t->status, 400);
    post(t, t->sim.port, CHAT, "not json", key, 5000);
    assert_int_equal(t->status, 400);
    get(t, t->sim.port, "/sim/requests");
    assert_null(strstr(t->body, "Bearer k")); /* a secret stays one */
    j = json_loads(t->body, 0, NULL);
    assert_int_equal(json_integer_value(json_object_get(j, "received")), 6);
    json_decref(j);
    stop(&t->sim);
}

static void an_llm_that_fails_in_every_way(void **state)
{
    struct town *t = *state;
    static const struct {
        const char *mode;
        enum http_fault fault;
        int status;
        const char *part;
    } rows[] = {
        {"ok", HTTP_OK, 200, "All is well"},    {"refuse", HTTP_CONNECT, 0, ""},
        {"ok", HTTP_OK, 200, "All is well"},    {"slow", HTTP_OK, 200, "All is well"},
        {"429", HTTP_OK, 429, "rate_limit"},    {"500", HTTP_OK, 500, "server_error"},
        {"503", HTTP_OK, 503, "overloaded"},    {"401", HTTP_OK, 401, "API key"},
        {"404", HTTP_OK, 404, "error"},         {"cut", HTTP_CUT, 200, "choi"},
        {"schema", HTTP_OK, 200, "\"answer\""}, {"garbage", HTTP_OK, 200, "{{{"},
        {"huge", HTTP_OK, 200, "yyyy"},         {"wrong-type", HTTP_OK, 200, "<html>"},
        {"hang", HTTP_TIMEOUT, 0, ""},
    };
    START(t, sim_llm_main, "llm");
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        mode_of(t, t->sim.control, rows[i].mode);
        post(t, t->sim.port, CHAT, chat, NULL, strcmp(rows[i].mode, "hang") == 0 ? 300 : 8000);
        print_message("%s: %s, %d, %zu bytes\n", rows[i].mode, http_fault_text(t->fault), t->status, t->len);
        assert_int_equal(t->fault, rows[i].fault);
        assert_int_equal(t->status, rows[i].status);
        assert_non_null(strstr(t->body, rows[i].part));
        if (strcmp(rows[i].mode, "429") == 0)
            assert_int_equal(t->retry_after_ms, 7000);
        if (strcmp(rows[i].mode, "slow") == 0)
            assert_true(t->total_ms >= 290);
        if (strcmp(rows[i].mode, "huge") == 0)
            assert_int_equal(t->len, 8 << 20);
    }
    mode_of(t, t->sim.control, "cut");
    post(t, t->sim.port, CHAT, chat_stream, NULL, 5000);
    assert_int_equal(t->fault, HTTP_CUT);
    assert_non_null(strstr(t->body, "data: {"));
    assert_null(strstr(t->body, "[DONE]"));
    stop(&t->sim);
}

/* One server, three APIs, by the path that is asked. */
static void an_llm_of_three_tongues(void **state)
{
    struct town *t = *state;
    static const char *const bearer[] = {"Authorization: Bearer k", NULL};
    static const char *const x_key[] = {"x-api-key: k", "anthropic-version: 2023-06-01", NULL};
    static const char *const no_version[] = {"x-api-key: k", NULL};
    static const char *const wrong_key[] = {"x-api-key: q", "anthropic-version: 2023-06-01", NULL};
#define ASKS "\"model\":\"m\",\"max_tokens\":1,\"messages\":[{\"role\":\"user\",\"content\":\"hi\"}]"
    static const struct {
        const char *path, *body;
        const char *const *headers;
        int status;
        const char *type, *part, *end;
    } rows[] = {
        {"/v1/messages", "{" ASKS "}", x_key, 200, "application/json", "\"stop_reason\":\"end_turn\"", "}"},
        {"/v1/messages", "{" ASKS ",\"stream\":true}", x_key, 200, "text/event-stream", "event: message_start\n",
         "event: message_stop\ndata: {\"type\":\"message_stop\"}\n\n"},
        {"/v1/messages", "{" ASKS "}", no_version, 400, "application/json", "anthropic-version", "}"},
        {"/v1/messages", "{" ASKS "}", wrong_key, 401, "application/json", "authentication_error", "}"},
        {"/v1/messages", "{" ASKS "}", bearer, 401, "application/json", "authentication_error", "}"},
        {"/api/chat", "{" ASKS ",\"stream\":false}", bearer, 200, "application/json", "All is well.", "}"},
        {"/api/chat", "{" ASKS "}", bearer, 200, "application/x-ndjson", "\"done\":false}\n",
         "\"eval_count\":3}\n"}, /* it streams by itself */
        {"/api/chat", "{" ASKS "}", x_key, 401, "application/json", "\"error\":\"", "}"},
        {"/chat/completions", "{" ASKS ",\"stream\":true,\"stream_options\":{\"include_usage\":true}}", bearer, 200,
         "text/event-stream", "\"completion_tokens\":3", "data: [DONE]\n\n"},
    };
    START(t, sim_llm_main, "llm", "--api-key", "k");
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        post(t, t->sim.port, rows[i].path, rows[i].body, rows[i].headers, 5000);
        print_message("%s: %d %s\n", rows[i].path, t->status, t->body);
        assert_int_equal(t->status, rows[i].status);
        assert_string_equal(t->type, rows[i].type);
        assert_non_null(strstr(t->body, rows[i].part));
        assert_true(t->len > strlen(rows[i].end));
        assert_string_equal(t->body + t->len - strlen(rows[i].end), rows[i].end);
    }
    get(t, t->sim.control, "/sim/requests");
    assert_null(strstr(t->body, "\"k\"")); /* a secret stays one */
    assert_non_null(strstr(t->body, "\"x-api-key\":\"***\""));
    stop(&t->sim);
}

static void closed_and_back(void **state)
{
    struct town *t = *state;
    START(t, sim_llm_main, "llm", "--mode", "refuse");
    get(t, t->sim.port, "/v1/models");
    assert_int_equal(t->fault, HTTP_CONNECT);
    get(t, t->sim.control, "/sim/mode");
    assert_non_null(strstr(t->body, "\"open\":false"));
    /* By signal. */
    kill(t->sim.pid, SIGUSR1);
    t->status = 0; /* of the control's answer */
    for (int64_t end = clock_mono_ms() + HARNESS_WAIT_MS; t->status != 200 && clock_mono_ms() < end;)
        get(t, t->sim.port, "/v1/models");
    assert_int_equal(t->status, 200);
    /* An order on its own port is answered before it is followed. */
    mode_of(t, t->sim.port, "refuse");
    t->fault = HTTP_OK;
    for (int64_t end = clock_mono_ms() + HARNESS_WAIT_MS; t->fault != HTTP_CONNECT && clock_mono_ms() < end;)
        get(t, t->sim.port, "/v1/models");
    assert_int_equal(t->fault, HTTP_CONNECT);
    /* For so many requests only. */
    post(t, t->sim.control, "/sim/mode", "{\"mode\":\"503\",\"count\":2}", NULL, 5000);
    static const int expected[] = {503, 503, 200, 200};
    for (size_t i = 0; i < 4; i++) {
        get(t, t->sim.port, "/v1/models");
        assert_int_equal(t->status, expected[i]);
    }
    /* Nonsense changes nothing. */
    static const char *const wrong[] = {"",
                                        "{",
                                        "[]",
                                        "{\"mode\":\"dance\"}",
                                        "{\"mode\":7}",
                                        "{\"mode\":\"500\",\"count\":-1}",
                                        "{\"moode\":\"500\"}"};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        static const char *const none[] = {NULL};
        char url[64];
        snprintf(url, sizeof url, "http://127.0.0.1:%d/sim/mode", t->sim.control);
        call(t, (struct http_request){
                    .method = "POST", .url = url, .headers = none, .body = wrong[i], .body_len = strlen(wrong[i])});
        assert_int_equal(t->status, 400);
    }
    get(t, t->sim.port, "/v1/models");
    assert_int_equal(t->status, 200);
    stop(&t->sim);
}

static void whoever_hangs_is_let_go(void **state)
{
    struct town *t = *state;
    START(t, sim_slack_main, "slack", "--mode", "hang");
    char url[64];
    snprintf(url, sizeof url, "http://127.0.0.1:%d/hook", t->sim.port);
    t->done = false;
    struct town other = {.loop = t->loop, .http = t->http};
    struct http_request r = {.url = url, .body = "{\"text\":\"x\"}", .body_len = 12, .timeout_ms = 9000};
    (void)http_start(t->http, &r, NULL, on_done, &other);
    bool arrived = false;
    for (int64_t end = clock_mono_ms() + HARNESS_WAIT_MS; !arrived && clock_mono_ms() < end;) {
        get(t, t->sim.control, "/sim/requests");
        arrived = strstr(t->body, "/hook") != NULL;
    }
    assert_true(arrived);
    assert_false(other.done);
    mode_of(t, t->sim.control, "ok");
    assert_true(loop_run_until(&t->loop, &other.done, HARNESS_WAIT_MS));
    assert_int_equal(other.fault, HTTP_CUT);
    assert_true(other.total_ms < 8000);
    free(other.body);
    /* With one hanging, the end comes all the same. */
    mode_of(t, t->sim.control, "hang");
    post(t, t->sim.port, "/hook", "{\"text\":\"x\"}", NULL, 200);
    stop(&t->sim);
}

static void slacks_own_words(void **state)
{
    struct town *t = *state;
    static const struct {
        const char *mode, *body;
        int status;
        const char *says;
    } rows[] = {
        {"ok", "{\"text\":\"hello\"}", 200, "ok"},          {"ok", "{\"text\":\"\"}", 400, "no_text"},
        {"ok", "{\"blocks\":[]}", 400, "no_text"},          {"ok", "nonsense", 400, "invalid_payload"},
        {"404", "{\"text\":\"hello\"}", 404, "no_service"}, {"429", "{\"text\":\"hello\"}", 429, "rate_limited"},
    };
    START(t, sim_slack_main, "slack");
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        mode_of(t, t->sim.port, rows[i].mode);
        post(t, t->sim.port, "/services/T/B/x", rows[i].body, NULL, 5000);
        assert_int_equal(t->status, rows[i].status);
        assert_string_equal(t->body, rows[i].says);
    }
    stop(&t->sim);
}

static json_t *state_of(struct town *t)
{
    get(t, t->sim.control, "/sim/state");
    return json_loads(t->body, 0, NULL);
}

/* What the real ones refuse, `sim hook` refuses, in their words; what they take it keeps. */
static void the_apis_that_alerts_go_to(void **state)
{
    struct town *t = *state;
    static const char secret[] = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
    static const char key[] = "\"routing_key\":\"0123456789abcdef0123456789abcdef\"";
    char large[30000], limit[2200], event[300];
    snprintf(large, sizeof large, "{\"attachments\":[{\"content\":\"%029000d\"}]}", 0);
    snprintf(limit, sizeof limit, "{\"content\":\"%02001d\"}", 0);
    static const struct {
        const char *path, *body;
        int status;
        const char *says;
    } rows[] = {
        {"/hook", "{}", 401, "webhook-signature is missing"},
        {"/v2/enqueue", "nonsense", 400, "JSON cannot be parsed"},
        {"/v2/enqueue", "{\"routing_key\":\"short\"}", 400, "Invalid routing key"},
        {"/workflows/x", "{}", 400, "AdaptiveCard"},
        {"/webhookb2/x", "{}", 200, "HTTP error 400"},
        {"/api/webhooks/1/x", "{}", 400, "Cannot send an empty message"},
        {"/api/webhooks/1/x", "{\"content\":\"x\"}", 204, ""},
        {"/api/webhooks/1/x?wait=true", "{\"content\":\"x\"}", 200, "\"id\""},
        {"/api/webhooks/1/x", "{\"embeds\":[{\"title\":\"x\",\"footer\":{\"text\":7}}]}", 400, "Invalid Form Body"},
        {"/", "{\"topic\":\"a b\",\"message\":\"x\"}", 400, "topic invalid"},
        {"/", "{\"topic\":\"a\",\"message\":\"x\",\"priority\":6}", 400, "priority"},
        {"/", "{\"topic\":\"a\",\"message\":\"x\"}", 200, "\"event\":\"message\""},
    };
    START(t, sim_hook_main, "hook", "--secret", (char *)secret);
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        post(t, t->sim.port, rows[i].path, rows[i].body, NULL, 5000);
        if (t->status != rows[i].status || !strstr(t->body, rows[i].says))
            fail_msg("%s %s: %d %s", rows[i].path, rows[i].body, t->status, t->body);
    }
    post(t, t->sim.port, "/workflows/x", large, NULL, 5000);
    assert_int_equal(t->status, 413);
    post(t, t->sim.port, "/api/webhooks/1/x", limit, NULL, 5000);
    assert_int_equal(t->status, 400);

    /* Signed, signed long ago, and signed for another body. */
    static const char body[] = "{\"a\":1}";
    static const struct {
        int64_t ago_s;
        const char *body;
        int status;
    } calls[] = {{0, body, 200}, {600, body, 401}, {0, "{\"a\":2}", 401}};
    for (size_t i = 0; i < sizeof calls / sizeof *calls; i++) {
        struct webhook_key k;
        struct webhook_headers h;
        assert_int_equal(webhook_key_read(secret, &k, NULL), 0);
        webhook_headers(&k, "m1", clock_wall_ms() / 1000 - calls[i].ago_s, body, strlen(body), &h);
        post(t, t->sim.port, "/hook", calls[i].body, (const char *const[]){h.id, h.timestamp, h.signature, NULL},
             5000);
        assert_int_equal(t->status, calls[i].status);
    }

    /* An incident's life; an end of what is not there changes nothing. */
    static const struct {
        const char *action, *is;
    } steps[] = {{"resolve", NULL},           {"trigger", "triggered"}, {"acknowledge", "acknowledged"},
                 {"trigger", "acknowledged"}, {"resolve", "resolved"},  {"trigger", "triggered"}};
    for (size_t i = 0; i < sizeof steps / sizeof *steps; i++) {
        snprintf(event, sizeof event,
                 "{%s,\"event_action\":\"%s\",\"dedup_key\":\"k\",\"payload\":{\"summary\":\"s\",\"source\":\"x\","
                 "\"severity\":\"error\"}}",
                 key, steps[i].action);
        post(t, t->sim.port, "/v2/enqueue", event, NULL, 5000);
        assert_int_equal(t->status, 202);
        json_t *now = state_of(t);
        const char *is = json_string_value(json_object_get(json_object_get(now, "incidents"), "k"));
        assert_true(steps[i].is ? is && strcmp(is, steps[i].is) == 0 : !is);
        json_decref(now);
    }
    mode_of(t, t->sim.port, "429");
    post(t, t->sim.port, "/api/webhooks/1/x", "{\"content\":\"x\"}", NULL, 5000);
    assert_int_equal(t->status, 429);
    assert_int_equal(t->retry_after_ms, 7000);
    assert_non_null(strstr(t->body, "\"retry_after\":6.650"));
    post(t, t->sim.port, "/webhookb2/x", "{}", NULL, 5000);
    assert_int_equal(t->status, 200);
    assert_non_null(strstr(t->body, "HTTP error 429"));
    stop(&t->sim);
}

static bool active(struct town *t)
{
    json_t *j = state_of(t);
    bool yes = json_is_true(json_object_get(json_object_get(j, "override"), "active"));
    json_decref(j);
    return yes;
}

static void a_backend_with_its_override(void **state)
{
    struct town *t = *state;
    static const char *const k1[] = {"Idempotency-Key: k1", "Authorization: Bearer s", NULL};
    static const char *const k2[] = {"idempotency-key: k2", "Authorization: Bearer s", NULL};
    static const char *const no_token[] = {"Idempotency-Key: k3", NULL};
    static const char body[] = "{\"duration\":3600000,\"justification\":\"LLM outage\"}";
    START(t, sim_backend_main, "backend", "--token", "s");
    get(t, t->sim.port, "/health");
    assert_int_equal(t->status, 200);
    assert_false(active(t));
    post(t, t->sim.port, "/api/admin/override/activate", body, no_token, 5000);
    assert_int_equal(t->status, 401);
    static const char *const wrong[] = {"{}",
                                        "{\"duration\":0,\"justification\":\"x\"}",
                                        "{\"duration\":3600000}",
                                        "{\"duration\":\"1h\",\"justification\":\"x\"}",
                                        "[]",
                                        "x"};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        post(t, t->sim.port, "/api/admin/override/activate", wrong[i], k1, 5000);
        assert_int_equal(t->status, 400);
    }
    assert_false(active(t));
    for (int i = 0; i < 2; i++) { /* the second is the same by its key */
        post(t, t->sim.port, "/api/admin/override/activate", body, k1, 5000);
        assert_int_equal(t->status, 200);
    }
    assert_non_null(strstr(t->body, "\"repeated\":true"));
    assert_true(active(t));
    /* A backend that was away remembers. */
    mode_of(t, t->sim.control, "refuse");
    mode_of(t, t->sim.control, "ok");
    for (int64_t end = clock_mono_ms() + HARNESS_WAIT_MS; t->fault == HTTP_CONNECT && clock_mono_ms() < end;)
        get(t, t->sim.port, "/health");
    assert_true(active(t));
    post(t, t->sim.port, "/api/admin/override/deactivate", "{}", k1, 5000); /* the same key, another verb */
    assert_int_equal(t->status, 200);
    assert_false(active(t));
    /* It runs out by itself. */
    post(t, t->sim.port, "/api/admin/override/activate", "{\"duration\":200,\"justification\":\"short\"}", k2, 5000);
    assert_true(active(t));
    for (int64_t end = clock_mono_ms() + HARNESS_WAIT_MS; active(t) && clock_mono_ms() < end;)
        (void)0;
    assert_false(active(t));
    /* Actions: once per key. */
    static const char act[] = "{\"action\":\"block_ip\",\"epoch\":7}";
    for (int i = 0; i < 3; i++)
        post(t, t->sim.port, "/api/actions", act, k1, 5000);
    assert_int_equal(t->status, 200);
    json_t *j = state_of(t);
    assert_int_equal(json_array_size(json_object_get(j, "actions")), 1);
    assert_int_equal(json_integer_value(json_object_get(json_array_get(json_object_get(j, "actions"), 0), "epoch")),
                     7);
    assert_int_equal(json_integer_value(json_object_get(json_object_get(j, "keys"), "action/k1")), 2);
    assert_int_equal(json_array_size(json_object_get(j, "activations")), 2);
    json_decref(j);
    mode_of(t, t->sim.port, "500");
    get(t, t->sim.port, "/health");
    assert_int_equal(t->status, 500);
    stop(&t->sim);
}

static json_int_t ledger(struct town *t, const char *what)
{
    json_t *j = state_of(t);
    json_int_t n = json_integer_value(json_object_get(json_object_get(j, "ledger"), what));
    json_decref(j);
    return n;
}

static void action_of(struct town *t, const char *agent, const char *key, unsigned epoch)
{
    char body[128], key_line[64], epoch_line[64];
    snprintf(body, sizeof body, "{\"action\":\"block_ip\",\"agent\":\"%s\"}", agent);
    snprintf(key_line, sizeof key_line, "Idempotency-Key: %s", key);
    snprintf(epoch_line, sizeof epoch_line, "Redoubt-Epoch: %u", epoch);
    post(t, t->sim.port, "/api/actions", body, (const char *const[]){key_line, epoch_line, NULL}, 5000);
}

static void a_backend_that_keeps_a_ledger(void **state)
{
    struct town *t = *state;
    START(t, sim_backend_main, "backend", "--compact");
    action_of(t, "a", "p-1", 3);
    assert_int_equal(t->status, 202);
    action_of(t, "a", "p-1", 3);
    assert_int_equal(t->status, 200);
    assert_non_null(strstr(t->body, "\"repeated\":true"));
    mode_of(t, t->sim.control, "reject");
    action_of(t, "a", "p-2", 3);
    assert_int_equal(t->status, 422);
    assert_int_equal(ledger(t, "executed"), 1);
    /* Done, and the answer is lost: the same key must find it done. */
    mode_of(t, t->sim.control, "lost");
    action_of(t, "a", "p-3", 4);
    assert_int_equal(t->fault, HTTP_CUT);
    mode_of(t, t->sim.control, "ok");
    action_of(t, "a", "p-3", 4);
    assert_int_equal(t->status, 200);
    assert_int_equal(ledger(t, "executed"), 2);
    assert_int_equal(ledger(t, "repeated"), 2);
    /* Whoever froze it was told that nothing comes any more. */
    static const char *const wrong[] = {"", "{}", "{\"agent\":\"a\"}", "{\"agent\":\"a\",\"epoch\":0}",
                                        "{\"agent\":\"a\",\"epoch\":5,\"x\":1}"};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        static const char *const none[] = {NULL};
        char url[64];
        snprintf(url, sizeof url, "http://127.0.0.1:%d/sim/fence", t->sim.control);
        call(t, (struct http_request){
                    .method = "POST", .url = url, .headers = none, .body = wrong[i], .body_len = strlen(wrong[i])});
        assert_int_equal(t->status, 400);
    }
    post(t, t->sim.control, "/sim/fence", "{\"agent\":\"a\",\"epoch\":5}", NULL, 5000);
    assert_int_equal(t->status, 200);
    action_of(t, "a", "p-4", 6);
    action_of(t, "b", "p-5", 1);
    assert_int_equal(ledger(t, "fenced"), 0);
    action_of(t, "a", "p-5", 5);
    assert_int_equal(ledger(t, "fenced"), 1);
    json_t *j = state_of(t);
    assert_int_equal(json_array_size(json_object_get(j, "actions")), 0); /* compact */
    assert_int_equal(json_object_size(json_object_get(j, "keys")), 0);
    json_decref(j);
    stop(&t->sim);
}

/* ---- mail ---- */

static int dial(int port)
{
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    struct timeval limit = {.tv_sec = 10};
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
    assert_int_equal(connect(fd, (struct sockaddr *)&a, sizeof a), 0);
    return fd;
}

/* Says a line (NULL = nothing), reads one whole answer and checks its code. */
static void say(int fd, const char *line, int code)
{
    char in[1024];
    size_t n = 0;
    if (line) {
        assert_int_equal(write(fd, line, strlen(line)), strlen(line));
        assert_int_equal(write(fd, "\r\n", 2), 2);
    }
    for (size_t start = 0;;) {
        ssize_t got;
        do /* the end of a child interrupts, in spite of SA_RESTART: a receive limit is set */
            got = read(fd, in + n, 1);
        while (got < 0 && errno == EINTR);
        if (got <= 0)
            fail_msg("no answer to %s", line ? line : "the connection");
        n++;
        if (in[n - 1] != '\n')
            continue;
        if (in[start + 3] == ' ')
            break;
        start = n;
    }
    in[n] = 0;
    if (atoi(in) != code)
        fail_msg("%s: expected %d, got %s", line ? line : "greeting", code, in);
}

static void the_dialogue(void **state)
{
    struct town *t = *state;
    START(t, sim_smtp_main, "smtp", "--login", "eve:secret");
    int fd = dial(t->sim.port);
    say(fd, NULL, 220);
    say(fd, "RUBBISH", 500);
    say(fd, "EHLO me", 250);
    say(fd, "MAIL FROM:<a@example.org>", 530);
    say(fd, "AUTH CRAM-MD5", 504);
    say(fd, "AUTH LOGIN", 334);
    say(fd, "ZXZl", 334);
    say(fd, "d3Jvbmc=", 535);
    say(fd, "AUTH PLAIN %%%", 501);
    say(fd, "AUTH PLAIN", 334);
    say(fd, "AGV2ZQBzZWNyZXQ=", 235);
    say(fd, "RCPT TO:<b@example.org>", 503);
    say(fd, "MAIL FROM:nobody", 501);
    say(fd, "MAIL FROM:<a@example.org> SIZE=100", 250);
    say(fd, "DATA", 503);
    say(fd, "RSET", 250);
    say(fd, "MAIL FROM:<a@example.org>", 250);
    say(fd, "RCPT TO:<b@example.org>", 250);
    say(fd, "RCPT TO:<c@example.org>", 250);
    say(fd, "DATA", 354);
    say(fd, "Subject: x\r\n\r\n..a dot\r\nend\r\n.", 250);
    say(fd, "NOOP", 250);
    char longest[4000];
    memset(longest, 'x', sizeof longest - 1);
    longest[sizeof longest - 1] = 0;
    say(fd, longest, 500);
    say(fd, "QUIT", 221);
    close(fd);
    get(t, t->sim.control, "/sim/requests");
    json_t *j = json_loads(t->body, 0, NULL);
    const json_t *mail = json_array_get(json_object_get(j, "requests"), 0);
    assert_int_equal(json_array_size(json_object_get(j, "requests")), 1);
    assert_string_equal(json_string_value(json_object_get(mail, "from")), "a@example.org");
    assert_int_equal(json_array_size(json_object_get(mail, "to")), 2);
    assert_string_equal(json_string_value(json_object_get(mail, "user")), "eve");
    assert_string_equal(json_string_value(json_object_get(mail, "message")), "Subject: x\r\n\r\n.a dot\r\nend\r\n");
    json_decref(j);
    assert_null(strstr(t->body, "secret"));
    stop(&t->sim);
}

static void mail_that_fails_in_every_way(void **state)
{
    struct town *t = *state;
    static const struct {
        const char *mode;
        enum http_fault fault;
        int status; /* -1 = does not matter */
    } rows[] = {
        {"ok", HTTP_OK, 250},      {"refuse", HTTP_CONNECT, 0}, {"ok", HTTP_OK, 250},
        {"slow", HTTP_OK, 250},    {"421", HTTP_OK, 421},       {"451", HTTP_OK, 451},
        {"550", HTTP_OK, 550},     {"554", HTTP_OK, 554},       {"535", HTTP_LOGIN, -1},
        {"cut", HTTP_CUT, -1},     {"hang", HTTP_TIMEOUT, -1},  {"garbage", HTTP_BAD_ANSWER, -1},
        {"partial", HTTP_OK, 250},
    };
    START(t, sim_smtp_main, "smtp");
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        mode_of(t, t->sim.control, rows[i].mode);
        char url[64];
        snprintf(url, sizeof url, "smtp://127.0.0.1:%d", t->sim.port);
        const char *const to[] = {"ops@example.org", "gone@example.org", NULL};
        bool partial = strcmp(rows[i].mode, "partial") == 0;
        struct http_mail mail = {.from = "redoubt@example.org", .to = partial ? to : (const char *[]){to[0], NULL}};
        bool login = strcmp(rows[i].mode, "535") == 0;
        call(t, (struct http_request){.url = url,
                                      .body = "Subject: x\n\ny\n",
                                      .body_len = 14,
                                      .user = login ? "eve" : NULL,
                                      .password = login ? "x" : NULL,
                                      .timeout_ms = strcmp(rows[i].mode, "hang") == 0 ? 300 : 5000,
                                      .mail = &mail});
        print_message("%s: %s, %d\n", rows[i].mode, http_fault_text(t->fault), t->status);
        if (strcmp(rows[i].mode, "garbage") == 0)
            assert_true(t->fault == HTTP_BAD_ANSWER || t->fault == HTTP_CUT);
        else
            assert_int_equal(t->fault, rows[i].fault);
        if (rows[i].status >= 0)
            assert_int_equal(t->status, rows[i].status);
    }
    get(t, t->sim.control, "/sim/requests");
    json_t *j = json_loads(t->body, 0, NULL);
    assert_int_equal(json_array_size(json_object_get(j, "requests")), 4); /* ok, ok, slow, partial */
    assert_int_equal(json_array_size(json_object_get(json_array_get(json_object_get(j, "requests"), 3), "to")), 1);
    json_decref(j);
    stop(&t->sim);
}

/* Asks the backend by way of the link. `kept` = by the connection that is there, if there is one. */
static void get_by(struct town *t, const struct sim *link, bool kept, int64_t timeout_ms)
{
    char url[64];
    snprintf(url, sizeof url, "http://127.0.0.1:%d/health", link->port);
    call(t, (struct http_request){.url = url, .timeout_ms = timeout_ms, .fresh = !kept});
}

static void a_link_that_fails_in_every_way(void **state)
{
    struct town *t = *state;
    struct sim link;
    char to[32];
    START(t, sim_backend_main, "backend");
    snprintf(to, sizeof to, "127.0.0.1:%d", t->sim.port);
    start(&link, sim_link_main, (char *[]){"link", "--to", to, NULL});
    static const struct {
        const char *mode;
        bool kept;
        enum http_fault fault;
        int status;
    } rows[] = {
        {"ok", true, HTTP_OK, 200},           {"ok", true, HTTP_OK, 200},
        {"slow", true, HTTP_OK, 200},         {"slow", false, HTTP_OK, 200},
        {"refuse", false, HTTP_CONNECT, 0},   {"ok", false, HTTP_OK, 200},
        {"blackhole", true, HTTP_TIMEOUT, 0}, {"blackhole", false, HTTP_TIMEOUT, 0},
        {"ok", true, HTTP_OK, 200},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        mode_of(t, link.control, rows[i].mode);
        get_by(t, &link, rows[i].kept, strcmp(rows[i].mode, "blackhole") == 0 ? 300 : 5000);
        print_message("%s: %s, %d, %d ms\n", rows[i].mode, http_fault_text(t->fault), t->status, (int)t->total_ms);
        assert_int_equal(t->fault, rows[i].fault);
        assert_int_equal(t->status, rows[i].status);
        if (strcmp(rows[i].mode, "slow") == 0)
            assert_true(t->total_ms >= 590); /* 300 there, 300 back */
    }
    /* A connection that is cut ends, and so does each new one. */
    mode_of(t, link.control, "cut");
    get_by(t, &link, false, 5000);
    assert_int_not_equal(t->fault, HTTP_OK);
    assert_int_not_equal(t->fault, HTTP_TIMEOUT);
    get(t, link.control, "/sim/state");
    assert_non_null(strstr(t->body, "\"connections\":0"));
    /* With the server gone, whoever connects is told so. */
    mode_of(t, link.control, "ok");
    stop(&t->sim);
    get_by(t, &link, false, 5000);
    assert_int_not_equal(t->fault, HTTP_OK);
    assert_int_not_equal(t->fault, HTTP_TIMEOUT);
    stop(&link);
}

/* More than a side may hold: the sender waits, and everything arrives. */
static void a_link_loses_nothing(void **state)
{
    struct town *t = *state;
    struct sim link;
    char to[32], url[64];
    START(t, sim_llm_main, "llm", "--mode", "huge");
    snprintf(to, sizeof to, "127.0.0.1:%d", t->sim.port);
    start(&link, sim_link_main, (char *[]){"link", "--to", to, NULL});
    snprintf(url, sizeof url, "http://127.0.0.1:%d" CHAT, link.port);
    call(t, (struct http_request){.url = url, .body = chat, .body_len = strlen(chat), .timeout_ms = 8000});
    assert_int_equal(t->status, 200);
    assert_int_equal(t->len, 8 << 20);
    stop(&link);
    stop(&t->sim);
}

static void wrong_usage(void **state)
{
    (void)state;
    static char *const bad[][4] = {{"llm", "--mode", "dance", NULL},
                                   {"llm", "--port", "70000", NULL},
                                   {"llm", "--nonsense", NULL},
                                   {"llm", "extra", NULL},
                                   {"llm", "--slow-ms", "soon", NULL}};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        int argc = 0, status;
        while (argc < 4 && bad[i][argc])
            argc++;
        pid_t pid = fork();
        if (pid == 0)
            exit(sim_llm_main(argc, (char **)(uintptr_t)bad[i]));
        assert_int_equal(waitpid(pid, &status, 0), pid);
        assert_int_equal(WEXITSTATUS(status), 2);
    }
    static char *const links[][4] = {{"link", NULL}, {"link", "--to", "nowhere", NULL}};
    for (size_t i = 0; i < sizeof links / sizeof *links; i++) {
        int argc = i == 0 ? 1 : 3, status;
        pid_t pid = fork();
        if (pid == 0)
            exit(sim_link_main(argc, (char **)(uintptr_t)links[i]));
        assert_int_equal(waitpid(pid, &status, 0), pid);
        assert_int_not_equal(WEXITSTATUS(status), 0);
    }
}

#define TOWN(fn) cmocka_unit_test_setup_teardown(fn, town_setup, town_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TOWN(an_llm_that_is_well),           TOWN(an_llm_that_fails_in_every_way),
        TOWN(an_llm_of_three_tongues),       TOWN(closed_and_back),
        TOWN(whoever_hangs_is_let_go),       TOWN(slacks_own_words),
        TOWN(the_apis_that_alerts_go_to),    TOWN(a_backend_with_its_override),
        TOWN(a_backend_that_keeps_a_ledger), TOWN(the_dialogue),
        TOWN(mail_that_fails_in_every_way),  TOWN(a_link_that_fails_in_every_way),
        TOWN(a_link_loses_nothing),          cmocka_unit_test(wrong_usage),
    };
    cmocka_set_test_filter(getenv("ONLY"));
    return cmocka_run_group_tests(tests, NULL, NULL);
}
