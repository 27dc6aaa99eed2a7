/* test_rollback_webhook.c - traffic by a program of the user's: what is sent, what its answers mean. */
#include "traffic_kit.h"
#include <jansson.h>
#include <microhttpd.h>
#include <pthread.h>

/* The program, on threads of its own; the lock is of all below. */
struct hook {
    pthread_mutex_t lock;
    struct MHD_Daemon *d;
    int port, status;
    char answer[1000], retry_after[16];
    char method[8], token[64], body[4000];
    int calls;
};

static enum MHD_Result serve(void *ctx, struct MHD_Connection *c, const char *url, const char *method,
                             const char *version, const char *data, size_t *len, void **con)
{
    struct hook *x = ctx;
    (void)url, (void)version;
    pthread_mutex_lock(&x->lock);
    if (!*con) {
        *con = x;
        x->body[0] = '\0';
        pthread_mutex_unlock(&x->lock);
        return MHD_YES;
    }
    if (*len) {
        size_t has = strlen(x->body), take = *len < sizeof x->body - 1 - has ? *len : sizeof x->body - 1 - has;
        memcpy(x->body + has, data, take);
        x->body[has + take] = '\0';
        *len = 0;
        pthread_mutex_unlock(&x->lock);
        return MHD_YES;
    }
    const char *token = MHD_lookup_connection_value(c, MHD_HEADER_KIND, "Authorization");
    snprintf(x->method, sizeof x->method, "%s", method);
    snprintf(x->token, sizeof x->token, "%s", token ? token : "");
    x->calls++;
    struct MHD_Response *r = MHD_create_response_from_buffer(strlen(x->answer), x->answer, MHD_RESPMEM_MUST_COPY);
    if (*x->retry_after)
        MHD_add_response_header(r, "Retry-After", x->retry_after);
    enum MHD_Result ret = MHD_queue_response(c, (unsigned)x->status, r);
    MHD_destroy_response(r);
    pthread_mutex_unlock(&x->lock);
    return ret;
}

static void start_hook(struct town *t)
{
    struct hook *x = t->more = calloc(1, sizeof *x);
    pthread_mutex_init(&x->lock, NULL);
    x->port = harness_free_port();
    x->d = MHD_start_daemon(MHD_USE_INTERNAL_POLLING_THREAD, (uint16_t)x->port, NULL, NULL, serve, x, MHD_OPTION_END);
    assert_non_null(x->d);
    town_traffic(t, &traffic_webhook,
                 "type: webhook, url: 'http://127.0.0.1:%d/traffic', token: sesame, timeout: 500ms", x->port);
}

static int hook_teardown(void **state)
{
    struct hook *x = ((struct town *)*state)->more;
    MHD_stop_daemon(x->d);
    pthread_mutex_destroy(&x->lock);
    free(x);
    return town_teardown(state);
}

static void answers(struct town *t, int status, const char *body)
{
    struct hook *x = t->more;
    pthread_mutex_lock(&x->lock);
    x->status = status;
    x->retry_after[0] = '\0';
    snprintf(x->answer, sizeof x->answer, "%s", body);
    pthread_mutex_unlock(&x->lock);
}

static void test_what_is_sent(void **state)
{
    struct town *t = *state;
    struct hook *x;
    struct executor_instance at[3];
    start_hook(t);
    x = t->more;
    at[0] = town_instance(0, "10.0.0.1", 80, true);
    at[1] = town_instance(1, "10.0.1.1", 81, true);
    at[2] = town_instance(1, "10.0.1.2", 82, true);
    at[2].running = false;
    answers(t, 204, "");
    TOWN_OK(t, town_set(t, 75, 25, at, 3));
    pthread_mutex_lock(&x->lock);
    assert_string_equal(x->method, "PUT");
    assert_string_equal(x->token, "Bearer sesame");
    json_t *is = json_loads(x->body, 0, NULL);
    json_t *should = json_loads("{\"deployment\": \"mcp\", \"job\": \"job-1\", \"epoch\": 1, \"shares\": ["
                                "{\"version\": \"v2\", \"id\": \"00000000000000v2\", \"side\": 0, \"percent\": 75, "
                                "\"addresses\": [\"10.0.0.1:80\"]},"
                                "{\"version\": \"v1\", \"id\": \"00000000000000v1\", \"side\": 1, \"percent\": 25, "
                                "\"addresses\": [\"10.0.1.1:81\"]}]}",
                                0, NULL);
    assert_non_null(should);
    assert_true(json_equal(is, should));
    json_decref(is);
    json_decref(should);
    pthread_mutex_unlock(&x->lock);
    answers(t, 200,
            "{\"shares\": [{\"side\": 1, \"percent\": 25, \"sessions\": 3}, {\"side\": 0, \"percent\": 75}]}");
    TOWN_OK(t, town_check(t));
    TOWN_OK(t, town_view(t));
    assert_string_equal(x->method, "GET");
    assert_int_equal(t->share[0], 75);
    assert_int_equal(t->share[1], 25);
    assert_int_equal(t->sessions[1], 3);
    answers(t, 200, "{\"shares\": []}");
    TOWN_OK(t, town_view(t));
    assert_int_equal(t->share[0] + t->share[1], 0);
}

static void test_what_answers_mean(void **state)
{
    struct town *t = *state;
    static const struct {
        int status;
        const char *body, *words;
        bool lasting, view;
    } rows[] = {
        {401, "", "traffic.token", true, true},
        {404, "", "traffic.url", true, true},
        {409, "{}", "newer epoch", true, false},
        {422, "no such agent", "no such agent", true, false},
        {429, "slow down", "status 429: slow down", false, false},
        {500, "oops\nmore", "status 500: oops", false, true},
        {503, "", "status 503", false, true},
        {302, "", "status 302", true, true},
        {200, "hello", "not JSON", true, true},
        {200, "", "not JSON", true, true},
        {200, "[]", "no list `shares`", true, true},
        {200, "{\"shares\": 7}", "no list `shares`", true, true},
        {200, "{\"shares\": [{\"side\": 2, \"percent\": 7}]}", "must be 0 or 1", true, true},
        {200, "{\"shares\": [{\"side\": 0, \"percent\": 70}, {\"side\": 0, \"percent\": 30}]}", "each once", true,
         true},
        {200, "{\"shares\": [{\"side\": 0, \"percent\": 101}]}", "0 to 100", true, true},
        {200, "{\"shares\": [{\"side\": 0, \"percent\": 50.5}]}", "0 to 100", true, true},
        {200, "{\"shares\": [{\"side\": 0, \"percent\": 70}, {\"side\": 1, \"percent\": 31}]}", "add up to 101", true,
         true},
    };
    start_hook(t);
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        answers(t, rows[i].status, rows[i].body);
        assert_false(rows[i].view ? town_view(t) : town_set(t, 100, 0, NULL, 0));
        town_says(t, rows[i].lasting, rows[i].words);
        if (rows[i].view) {
            assert_false(town_check(t));
            town_says(t, rows[i].lasting, rows[i].words);
        }
    }
    struct hook *x = t->more;
    answers(t, 429, "");
    snprintf(x->retry_after, sizeof x->retry_after, "7");
    assert_false(town_set(t, 100, 0, NULL, 0));
    town_says(t, false, "asks for 7 s");
    /* The time is up; nothing is left of what nobody waits for. */
    pthread_mutex_lock(&x->lock);
    assert_false(town_view(t));
    town_says(t, false, "is it running");
    pthread_mutex_unlock(&x->lock);
    t->done = false;
    t->kind->view(t->t, NULL, 0, town_on_view, t);
    t->kind->check(t->t, town_on_result, t);
    town_close_traffic(t);
    town_turn(t, 100);
    assert_false(t->done);
    town_traffic(t, &traffic_webhook, "type: webhook, url: 'http://127.0.0.1:%d/'", harness_free_port());
    assert_false(town_view(t));
    town_says(t, false, "is it running");
}

/* Nothing divides the traffic: what was last set is read back. */
static void test_none(void **state)
{
    struct town *t = *state;
    start_hook(t);
    town_traffic(t, &traffic_none, "type: none");
    TOWN_OK(t, town_check(t));
    TOWN_OK(t, town_view(t));
    assert_int_equal(t->share[0] + t->share[1], 0);
    TOWN_OK(t, town_set(t, 0, 100, NULL, 0));
    TOWN_OK(t, town_view(t));
    assert_int_equal(t->share[1], 100);
    t->done = false;
    t->kind->view(t->t, NULL, 0, town_on_view, t);
    town_close_traffic(t);
    town_turn(t, 20);
    assert_false(t->done);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_what_is_sent, town_setup, hook_teardown),
        cmocka_unit_test_setup_teardown(test_what_answers_mean, town_setup, hook_teardown),
        cmocka_unit_test_setup_teardown(test_none, town_setup, hook_teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
