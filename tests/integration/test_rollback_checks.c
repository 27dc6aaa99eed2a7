/* test_rollback_checks.c - checks against what they ask: HTTP servers that answer rightly and wrongly, Prometheus' query API, services on a real bus, programs. */
#include "../harness.h"
#include "common/clock.h"
#include "common/service.h"
#include "rollback/check_tally.h"
#include "rollback/rollback_check.h"
#include <fcntl.h>
#include <microhttpd.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

enum { FORMER, TARGET };

/* ---- a server whose paths have answers ---- */

struct page {
    char path[64];
    int status;
    char body[1024];
    bool hangs; /* never answers */
};
struct web {
    struct MHD_Daemon *daemon;
    int port;
    char address[32];
    pthread_mutex_t lock;
    struct page pages[32];
    size_t n;
    struct MHD_Connection *hanging[64];
    size_t n_hanging;
    bool closing;
    unsigned requests;
    char path[512], query[4096], body[8192], method[8], token[64], type[64];
};

/* What came of one request, until its body is whole. */
struct came {
    char body[8192];
    size_t len;
};

static enum MHD_Result answer(struct MHD_Connection *k, int status, const char *body)
{
    struct MHD_Response *r = MHD_create_response_from_buffer(strlen(body), (void *)body, MHD_RESPMEM_MUST_COPY);
    enum MHD_Result ok = MHD_queue_response(k, (unsigned)status, r);
    MHD_destroy_response(r);
    return ok;
}

static void keep(char *to, size_t size, const char *text)
{
    snprintf(to, size, "%s", text ? text : "");
}

/* A query of PromQL is looked up as if it was a path. */
static const struct page *page_of(const struct web *w, const char *path, const char *query)
{
    for (size_t i = 0; i < w->n; i++)
        if (strcmp(w->pages[i].path, path) == 0 || (*query && strcmp(w->pages[i].path, query) == 0))
            return &w->pages[i];
    return NULL;
}

static enum MHD_Result on_field(void *ctx, enum MHD_ValueKind kind, const char *key, const char *file,
                                const char *type, const char *encoding, const char *data, uint64_t off, size_t size)
{
    (void)kind, (void)file, (void)type, (void)encoding;
    if (strcmp(key, "query") == 0 && data && off + size < 4096)
        memcpy((char *)ctx + off, data, size);
    return MHD_YES;
}

static enum MHD_Result serve(void *ctx, struct MHD_Connection *k, const char *url, const char *method,
                             const char *version, const char *data, size_t *size, void **own)
{
    struct web *w = ctx;
    struct came *c = *own;
    (void)version;
    if (!c) {
        *own = calloc(1, sizeof *c);
        return *own ? MHD_YES : MHD_NO;
    }
    if (*size > 0) {
        size_t room = sizeof c->body - 1 - c->len, n = *size < room ? *size : room;
        memcpy(c->body + c->len, data, n);
        c->len += n;
        *size = 0;
        return MHD_YES;
    }
    struct page p = {.status = 404};
    char query[4096] = "";
    const char *asked = MHD_lookup_connection_value(k, MHD_GET_ARGUMENT_KIND, "query");
    const char *type = MHD_lookup_connection_value(k, MHD_HEADER_KIND, "Content-Type");
    if (asked) {
        keep(query, sizeof query, asked);
    } else if (type && strcmp(type, "application/x-www-form-urlencoded") == 0) {
        struct MHD_PostProcessor *form = MHD_create_post_processor(k, 1024, on_field, query);
        MHD_post_process(form, c->body, c->len);
        MHD_destroy_post_processor(form);
    }
    pthread_mutex_lock(&w->lock);
    const struct page *found = page_of(w, url, query);
    if (found)
        p = *found;
    w->requests++;
    keep(w->path, sizeof w->path, url);
    keep(w->query, sizeof w->query, query);
    keep(w->method, sizeof w->method, method);
    keep(w->body, sizeof w->body, c->body);
    keep(w->type, sizeof w->type, type);
    keep(w->token, sizeof w->token, MHD_lookup_connection_value(k, MHD_HEADER_KIND, "Authorization"));
    bool hangs = p.hangs && !w->closing && w->n_hanging < sizeof w->hanging / sizeof w->hanging[0];
    if (hangs) {
        w->hanging[w->n_hanging++] = k;
        MHD_suspend_connection(k);
    }
    pthread_mutex_unlock(&w->lock);
    return hangs ? MHD_YES : answer(k, p.hangs ? 500 : p.status, p.body);
}

static void on_completed(void *ctx, struct MHD_Connection *k, void **own, enum MHD_RequestTerminationCode why)
{
    (void)ctx, (void)k, (void)why;
    free(*own);
    *own = NULL;
}

static void web_open(struct web *w)
{
    memset(w, 0, sizeof *w);
    pthread_mutex_init(&w->lock, NULL);
    w->port = harness_free_port();
    snprintf(w->address, sizeof w->address, "127.0.0.1:%d", w->port);
    w->daemon = MHD_start_daemon(MHD_USE_INTERNAL_POLLING_THREAD | MHD_ALLOW_SUSPEND_RESUME, (uint16_t)w->port, NULL,
                                 NULL, serve, w, MHD_OPTION_NOTIFY_COMPLETED, on_completed, NULL, MHD_OPTION_END);
    assert_non_null(w->daemon);
}

static void web_close(struct web *w)
{
    pthread_mutex_lock(&w->lock);
    w->closing = true;
    for (size_t i = 0; i < w->n_hanging; i++)
        MHD_resume_connection(w->hanging[i]);
    pthread_mutex_unlock(&w->lock);
    if (w->daemon)
        MHD_stop_daemon(w->daemon);
    w->daemon = NULL;
    pthread_mutex_destroy(&w->lock);
}

__attribute__((format(printf, 4, 5))) static void page(struct web *w, const char *path, int status, const char *fmt,
                                                       ...)
{
    va_list ap;
    pthread_mutex_lock(&w->lock);
    struct page *p = NULL;
    for (size_t i = 0; i < w->n; i++)
        if (strcmp(w->pages[i].path, path) == 0)
            p = &w->pages[i];
    if (!p) {
        assert_true(w->n < sizeof w->pages / sizeof w->pages[0]);
        p = &w->pages[w->n++];
    }
    *p = (struct page){.status = status, .hangs = status == 0};
    keep(p->path, sizeof p->path, path);
    va_start(ap, fmt);
    vsnprintf(p->body, sizeof p->body, fmt, ap);
    va_end(ap);
    pthread_mutex_unlock(&w->lock);
}

/* ---- the service around it ---- */

static struct town {
    struct harness *h;
    struct service s;
    struct settings *settings;
    struct checks *checks;
    struct web a, b; /* two instances, or two servers */
    bool http_closed;
    /* What came of the last run. */
    bool done;
    unsigned runs;
    size_t n;
    struct rollback_sample samples[ROLLBACK_CHECKS];
    struct check_side side[2];
    const char *addresses[2][4];
} T;

static const struct service_desc desc = {.name = "rollback"};

static int setup(void **state)
{
    (void)state;
    struct err e;
    memset(&T, 0, sizeof T);
    T.h = harness_open();
    assert_int_equal(loop_init(&T.s.loop), 0);
    T.s.desc = &desc;
    snprintf(T.s.boot_id, sizeof T.s.boot_id, "0123456789abcdef");
    T.s.http = http_open(&T.s.loop, &e);
    assert_non_null(T.s.http);
    web_open(&T.a);
    web_open(&T.b);
    T.side[FORMER] = (struct check_side){
        .there = true, .version = "1111111111111111", .name = "v2", .digest = "sha256:22", .side = 0};
    T.side[TARGET] = (struct check_side){
        .there = true, .version = "0000000000000000", .name = "v1", .digest = "sha256:11", .side = 1};
    return 0;
}

static void on_closed(void *ctx)
{
    *(bool *)ctx = true;
}

static void close_checks(void)
{
    checks_close(T.checks);
    T.checks = NULL;
}

static int teardown(void **state)
{
    (void)state;
    close_checks();
    http_close(T.s.http, on_closed, &T.http_closed);
    loop_run_until(&T.s.loop, &T.http_closed, HARNESS_WAIT_MS);
    loop_done(&T.s.loop);
    settings_free(T.settings);
    web_close(&T.a);
    web_close(&T.b);
    harness_close(T.h);
    return 0;
}

/* One deployment with these checks, in YAML; `allowed` may be NULL. */
static struct settings *settings_of(const char *allowed, const char *checks)
{
    static const char form[] =
        "rollback:\n  exec_allowed: [%s]\n  deployments:\n    - name: agent\n      executor: docker\n"
        "      docker: {container: agent}\n      checks:\n%s";
    struct conf_report r = {0};
    char *text;
    assert_true(asprintf(&text, form, allowed ? allowed : "", checks) > 0);
    struct settings *s = conf_parse(&settings_schema, "test", text, strlen(text), &r);
    for (size_t i = 0; i < r.n; i++)
        print_message("%s\n", r.lines[i]);
    conf_report_free(&r);
    free(text);
    assert_non_null(s);
    return s;
}

static bool try_checks(const char *allowed, const char *checks, struct err *e)
{
    close_checks();
    settings_free(T.settings);
    T.settings = T.s.settings = settings_of(allowed, checks);
    T.checks = checks_open(&T.s, CONF_AT(T.settings->rollback.deployments, struct set_deployment, 0), e);
    return T.checks != NULL;
}

__attribute__((format(printf, 1, 2))) static void use(const char *fmt, ...)
{
    char *text;
    struct err e = {""};
    va_list ap;
    va_start(ap, fmt);
    assert_true(vasprintf(&text, fmt, ap) > 0);
    va_end(ap);
    if (!try_checks(NULL, text, &e))
        fail_msg("%s", e.text);
    free(text);
}

static void addresses(int which, const char *a, const char *b)
{
    T.addresses[which][0] = a;
    T.addresses[which][1] = b;
    T.side[which].addresses = T.addresses[which];
    T.side[which].n = (size_t)((a != NULL) + (b != NULL));
}

static void on_samples(void *ctx, const struct rollback_sample *samples, size_t n)
{
    (void)ctx;
    T.n = n;
    if (n > 0)
        memcpy(T.samples, samples, n * sizeof *samples);
    T.runs++;
    T.done = true;
}

static const struct rollback_sample *run_suite(bool suite)
{
    T.done = false;
    checks_run(T.checks, T.side, suite, on_samples, NULL);
    assert_false(T.done); /* never from inside */
    assert_true(loop_run_until(&T.s.loop, &T.done, 2 * HARNESS_WAIT_MS));
    return &T.samples[0];
}

static const struct rollback_sample *run(void)
{
    return run_suite(false);
}

enum said { PASSED, FAILED, SILENT };
static void says(enum said said, const char *words)
{
    static const char *const names[] = {"passed", "failed", "silent"};
    const struct rollback_sample *s = run();
    enum said got = !s->data[TARGET] ? SILENT : s->failed[TARGET] ? FAILED : PASSED;
    if (got != said || !strstr(s->detail, words))
        fail_msg("%s instead of %s with `%s`: %s", names[got], names[said], words, s->detail);
}

#define CHECK(more) "        - {name: c, class: security, " more "}\n"

/* ---- http, known ---- */

static void test_http(void **state)
{
    (void)state;
    use(CHECK("type: http, url: 'http://{{address}}/health/{{version}}?d={{digest}}&s={{ side }}', timeout: 300ms, "
              "headers: ['Authorization: Bearer s3cret'], expect_json: [{path: $.state, equals: ok}, {path: $.n, "
              "matches: '^[0-9]+$'}]"));
    T.side[TARGET].name = "v 1/x";
    addresses(TARGET, T.a.address, NULL);
    page(&T.a, "/health/v 1/x", 200, "{\"state\": \"ok\", \"n\": 3}");
    says(PASSED, "HTTP status 200");
    assert_string_equal(T.a.method, "GET");
    assert_string_equal(T.a.token, "Bearer s3cret");
    page(&T.a, "/health/v 1/x", 200, "{\"state\": \"bad\", \"n\": 3}");
    says(FAILED, "$.state is `bad`, not `ok`");
    page(&T.a, "/health/v 1/x", 200, "{\"state\": \"ok\", \"n\": \"three\"}");
    says(FAILED, "$.n is `three`; pattern");
    page(&T.a, "/health/v 1/x", 200, "{\"n\": 1}");
    says(FAILED, "$.state is not in the answer");
    page(&T.a, "/health/v 1/x", 200, "<html>");
    says(FAILED, "not JSON");
    page(&T.a, "/health/v 1/x", 503, "{\"state\": \"ok\"}");
    says(FAILED, "HTTP status 503");
    page(&T.a, "/health/v 1/x", 302, "%s", "");
    says(FAILED, "HTTP status 302"); /* nobody is followed */
    page(&T.a, "/health/v 1/x", 0, "%s", "");
    says(SILENT, T.a.address); /* no answer is never a pass */
    assert_null(strstr(T.samples[0].detail, "s3cret"));
    addresses(TARGET, "127.0.0.1:1", NULL);
    says(SILENT, "127.0.0.1:1");
    addresses(TARGET, "127.0.0.1:80/x?", NULL);
    says(SILENT, "is not host:port");
    addresses(TARGET, "user@127.0.0.1:80", NULL);
    says(SILENT, "is not host:port");
    addresses(TARGET, NULL, NULL);
    says(SILENT, "none of its instances is ready");
    T.side[TARGET].there = false;
    says(SILENT, "it does not run");
}

static void test_every_instance_counts(void **state)
{
    (void)state;
    use(CHECK("type: http, url: 'http://{{address}}/', timeout: 300ms"));
    addresses(TARGET, T.a.address, T.b.address);
    page(&T.a, "/", 200, "%s", "");
    page(&T.b, "/", 200, "%s", "");
    says(PASSED, "");
    assert_int_equal(T.a.requests, 1);
    assert_int_equal(T.b.requests, 1);
    page(&T.b, "/", 500, "%s", "");
    says(FAILED, T.b.address);
    page(&T.b, "/", 0, "%s", "");
    says(SILENT, T.b.address);
    page(&T.a, "/", 500, "%s", ""); /* one that fails is enough, whoever else is silent */
    says(FAILED, T.a.address);
}

/* The security tests with known answers: an event with one right decision. */
static void test_known_answers(void **state)
{
    (void)state;
    use(CHECK("type: known, url: 'http://{{address}}/decide', body: '{\"event\": \"exfiltration\", \"by\": "
              "\"{{version}}\"}', "
              "expect_json: [{path: $.decision, equals: block}]"));
    addresses(TARGET, T.a.address, NULL);
    T.side[TARGET].name = "v\"1\\";
    page(&T.a, "/decide", 200, "{\"decision\": \"block\"}");
    says(PASSED, "");
    assert_string_equal(T.a.method, "POST");
    assert_string_equal(T.a.body, "{\"event\": \"exfiltration\", \"by\": \"v\\\"1\\\\\"}");
    assert_string_equal(T.a.type, "application/json");
    page(&T.a, "/decide", 200, "{\"decision\": \"allow\"}");
    says(FAILED, "$.decision is `allow`, not `block`");
    page(&T.a, "/decide", 200,
         "{\"decision\": \"block\", \"decision\": \"allow\"}"); /* either, depending on who reads */
    says(FAILED, "not JSON");
}

/* ---- prometheus ---- */

#define VECTOR(v)                                                                                                    \
    "{\"status\":\"success\",\"data\":{\"resultType\":\"vector\",\"result\":[{\"metric\":{},\"value\":[1700000000."  \
    "1,\"" v "\"]}]}}"

static void value_is(int which, double v)
{
    const struct rollback_sample *s = run();
    if (!s->data[which] || s->value[which] != v)
        fail_msg("no %g: %s", v, s->detail);
}

static void test_prometheus_values(void **state)
{
    (void)state;
    static const char v1[] = "lag{v=\"v1\"}", v2[] = "lag{v=\"v2\"}";
    use(CHECK("type: prometheus, url: 'http://%s/', query: 'lag{v=\"{{version}}\"}', most: '5', timeout: 2s"),
        T.a.address);
    page(&T.a, v2, 200, VECTOR("1.5"));
    page(&T.a, v1, 200, VECTOR("3e-1"));
    value_is(TARGET, 0.3);
    assert_true(T.samples[0].data[FORMER] && T.samples[0].value[FORMER] == 1.5);
    assert_int_equal(T.samples[0].kind, ROLLBACK_VALUE);
    assert_string_equal(T.a.path, "/api/v1/query");
    page(&T.a, v1, 200,
         "{\"status\":\"success\",\"data\":{\"resultType\":\"scalar\",\"result\":[1700000000,\"4\"]}}");
    value_is(TARGET, 4);
    page(&T.a, v1, 200, VECTOR("NaN"));
    says(SILENT, "the value is NaN");
    page(&T.a, v1, 200, VECTOR("+Inf"));
    says(SILENT, "the value is +Inf");
    page(&T.a, v1, 200, "{\"status\":\"success\",\"data\":{\"resultType\":\"vector\",\"result\":[]}}");
    says(SILENT, "no series fits");
    page(&T.a, v1, 200,
         "{\"status\":\"success\",\"data\":{\"resultType\":\"vector\",\"result\":[{\"value\":[1,\"1\"]},{\"value\":["
         "1,\"2\"]}]}}");
    says(SILENT, "2 series fit");
    page(&T.a, v1, 200, "{\"status\":\"success\",\"data\":{\"resultType\":\"matrix\",\"result\":[]}}");
    says(SILENT, "of type matrix");
    page(&T.a, v1, 200, "{\"status\":\"success\",\"data\":{\"resultType\":\"vector\",\"result\":[{\"value\":[1]}]}}");
    says(SILENT, "no number");
    page(&T.a, v1, 400,
         "{\"status\":\"error\",\"errorType\":\"bad_data\",\"error\":\"1:5: parse error: unexpected end of input\"}");
    says(SILENT, "bad_data: 1:5: parse error");
    page(&T.a, v1, 503, "{\"status\":\"error\",\"errorType\":\"timeout\",\"error\":\"query timed out\"}");
    says(SILENT, "timeout: query timed out");
    page(&T.a, v1, 200, "<html>");
    says(SILENT, "no answer of Prometheus' query API");
    page(&T.a, v1, 200,
         "{\"status\":\"success\",\"warnings\":[\"w\"],\"data\":{\"resultType\":\"vector\",\"result\":[{\"value\":[1,"
         "\"7\"]}]}}");
    value_is(TARGET, 7);
    /* The former one without an answer: named, and no data of it. */
    page(&T.a, v2, 200, VECTOR("NaN"));
    value_is(TARGET, 7);
    assert_false(T.samples[0].data[FORMER]);
    assert_non_null(strstr(T.samples[0].detail, "of the former version"));
}

static void test_prometheus_queries(void **state)
{
    (void)state;
    char pad[2000];
    /* A name cannot break out of its quotes. */
    use(CHECK("type: prometheus, url: 'http://%s', query: 'lag{v=\"{{version}}\"}', most: '5'"), T.a.address);
    T.side[TARGET].name = "x\"} or vector(0) # \\ ' \303\274";
    says(SILENT, "");
    assert_non_null(strstr(T.a.query, "lag{v=\"x\\\"} or vector(0) # \\\\ \\' \303\274\"}"));
    /* Long ones go in the body. */
    memset(pad, '+', sizeof pad);
    pad[sizeof pad - 1] = 0;
    T.side[TARGET].name = "v1";
    use(CHECK("type: prometheus, url: 'http://%s', query: '0 %s {{side}}', most: '5', compare: false"), T.a.address,
        pad);
    says(SILENT, "");
    assert_string_equal(T.a.method, "POST");
    assert_string_equal(T.a.type, "application/x-www-form-urlencoded");
    assert_true(strlen(T.a.query) == 2 + sizeof pad - 1 + 2);
    assert_string_equal(T.a.query + strlen(T.a.query) - 3, "+ 1");
}

static void counts_are(int which, uint64_t bad, uint64_t all)
{
    const struct rollback_sample *s = run();
    if (!s->data[which] || s->bad[which] != bad || s->all[which] != all)
        fail_msg("%llu of %llu: %s", (unsigned long long)s->bad[which], (unsigned long long)s->all[which], s->detail);
}

static void test_prometheus_counts(void **state)
{
    (void)state;
    use(CHECK("type: prometheus, url: 'http://%s', query: 'bad{v=\"{{version}}\"}', query_total: "
              "'all{v=\"{{version}}\"}'"),
        T.a.address);
    page(&T.a, "bad{v=\"v1\"}", 200, VECTOR("3"));
    page(&T.a, "all{v=\"v1\"}", 200, VECTOR("1e3"));
    page(&T.a, "bad{v=\"v2\"}", 200, VECTOR("2.0001"));
    page(&T.a, "all{v=\"v2\"}", 200, VECTOR("3000"));
    counts_are(TARGET, 3, 1000);
    assert_int_equal(T.samples[0].kind, ROLLBACK_COUNTS);
    assert_int_equal(T.samples[0].bad[FORMER], 2);
    assert_int_equal(T.samples[0].all[FORMER], 3000);
    page(&T.a, "bad{v=\"v1\"}", 200, "{\"status\":\"success\",\"data\":{\"resultType\":\"vector\",\"result\":[]}}");
    says(SILENT, "or vector(0)");
    page(&T.a, "bad{v=\"v1\"}", 200, VECTOR("-1"));
    says(SILENT, "must be counters");
}

/* ---- json ---- */

static void test_json(void **state)
{
    (void)state;
    use(CHECK("type: json, url: 'http://{{address}}/stats', query: $.queue.depth, most: '100', timeout: 300ms"));
    addresses(TARGET, T.a.address, T.b.address);
    addresses(FORMER, T.a.address, NULL);
    page(&T.a, "/stats", 200, "{\"queue\": {\"depth\": 7}}");
    page(&T.b, "/stats", 200, "{\"queue\": {\"depth\": \"12.5\"}}");
    value_is(TARGET, 12.5); /* of several the worst */
    assert_true(T.samples[0].value[FORMER] == 7);
    page(&T.b, "/stats", 200, "{\"queue\": {\"depth\": \"much\"}}");
    says(SILENT, "$.queue.depth is not a number");
    page(&T.b, "/stats", 200, "{\"queue\": {\"depth\": true}}");
    says(SILENT, "$.queue.depth is not a number");
    page(&T.b, "/stats", 200, "{\"queue\": {}}");
    says(SILENT, "$.queue.depth is not in the answer");
    page(&T.b, "/stats", 404, "%s", "");
    says(SILENT, "HTTP status 404");
    page(&T.b, "/stats", 200, "[");
    says(SILENT, "not JSON");
    page(&T.b, "/stats", 0, "%s", "");
    says(SILENT, T.b.address);
}

static void test_json_counts(void **state)
{
    (void)state;
    use(CHECK("type: json, url: 'http://{{address}}/stats', query: $.bad, query_total: $.all, timeout: 300ms"));
    addresses(TARGET, T.a.address, T.b.address);
    page(&T.a, "/stats", 200, "{\"bad\": 1, \"all\": 100}");
    page(&T.b, "/stats", 200, "{\"bad\": 2, \"all\": 200}");
    counts_are(TARGET, 3, 300);
    assert_false(T.samples[0].data[FORMER]);
    page(&T.b, "/stats", 0, "%s", "");
    says(SILENT, T.b.address);
    page(&T.b, "/stats", 200, "{\"bad\": 2, \"all\": 210}"); /* it was missed, and has not made 200 calls since */
    counts_are(TARGET, 3, 310);
    page(&T.b, "/stats", 200, "{\"bad\": 1, \"all\": 5}"); /* started again */
    counts_are(TARGET, 4, 315);
    addresses(TARGET, T.a.address, NULL); /* gone: what it has counted stays */
    counts_are(TARGET, 4, 315);
    page(&T.a, "/stats", 200, "{\"bad\": -1, \"all\": 100}");
    says(SILENT, "no counter");
    T.side[TARGET].version = "2222222222222222"; /* another job: another version */
    page(&T.a, "/stats", 200, "{\"bad\": 5, \"all\": 50}");
    counts_are(TARGET, 5, 50);
}

static void test_tally(void **state)
{
    (void)state;
    struct check_tally t = {0};
    char id[16];
    for (unsigned i = 0; i < 2 * CHECK_TALLY_MAX; i++) {
        snprintf(id, sizeof id, "i%u", i);
        assert_true(check_tally_take(&t, "v1", id, 1, 10));
    }
    assert_int_equal(t.n, CHECK_TALLY_MAX);
    assert_int_equal(t.all, 20 * CHECK_TALLY_MAX);
    assert_true(check_tally_take(&t, "v1", id, 1, 11)); /* the newest are the ones that are known */
    assert_int_equal(t.all, 20 * CHECK_TALLY_MAX + 1);
    check_tally_done(&t);
}

/* ---- nats ---- */

struct fakes {
    struct bus *bus;
    bool up;
    bool closed;
    size_t n;
    struct fake {
        const char *name, *id, *version, *raw;
        int bad, all;
    } list[4];
};

static void on_up(void *ctx)
{
    ((struct fakes *)ctx)->up = true;
}

static void on_stats(void *ctx, const struct bus_msg *m)
{
    struct fakes *f = ctx;
    for (size_t i = 0; i < f->n; i++) {
        const struct fake *x = &f->list[i];
        char text[512];
        snprintf(text, sizeof text,
                 "{\"type\":\"io.nats.micro.v1.stats_response\",\"name\":\"%s\",\"id\":\"%s\",\"version\":\"%s\","
                 "\"endpoints\":["
                 "{\"name\":\"a\",\"subject\":\"a\",\"num_requests\":%d,\"num_errors\":%d},{\"num_requests\":10,"
                 "\"num_errors\":0}]}",
                 x->name, x->id, x->version, x->all, x->bad);
        const char *said = x->raw ? x->raw : text;
        struct err e;
        assert_int_equal(
            bus_publish(f->bus, &(struct bus_out){.subject = m->reply, .data = said, .len = strlen(said)}, &e), 0);
    }
}

static void bus_of(struct harness_proc *nats, const char *prefix, struct fakes *f)
{
    struct err e = {""};
    f->bus = bus_open(
        &T.s.loop,
        &(struct bus_opts){
            .url = nats->url, .name = "test", .inbox_prefix = prefix, .guest = true, .on_up = on_up, .ctx = f},
        &e);
    assert_non_null(f->bus);
    assert_true(loop_run_until(&T.s.loop, &f->up, HARNESS_WAIT_MS));
}

static void test_nats(void **state)
{
    (void)state;
    struct fakes own = {0}, others = {0};
    struct harness_proc *nats = harness_nats(T.h, "nats", NULL);
    bus_of(nats, "_INBOX_rollback", &own);
    bus_of(nats, "_INBOX_agent", &others);
    T.s.bus = own.bus;
    use(CHECK("type: nats, service: agent, timeout: 2s"));
    says(SILENT, "no service agent answers");
    assert_non_null(bus_subscribe(others.bus, "$SRV.STATS.agent", NULL, on_stats, &others));
    others.n = 4;
    others.list[0] = (struct fake){"agent", "A", "2.0.0", NULL, 5, 90};
    others.list[1] = (struct fake){"agent", "B", "1.0.0", NULL, 1, 40};
    others.list[2] = (struct fake){"agent", "C", "1.0.0", NULL, 2, 50};
    others.list[3] = (struct fake){"agent", "D", "1.0.0", "{]", 0, 0};
    T.side[FORMER].name = "2.0.0";
    T.side[TARGET].name = "v1.0.0";
    for (int64_t end_ms = clock_mono_ms() + HARNESS_WAIT_MS; clock_mono_ms() < end_ms && !run()->data[TARGET];)
        ; /* the server has yet to learn of the subscription */
    counts_are(TARGET, 3, 110);
    assert_int_equal(T.samples[0].bad[FORMER], 5);
    assert_int_equal(T.samples[0].all[FORMER], 100);
    others.list[2] = (struct fake){"agent", "E", "1.0.0", NULL, 1, 10}; /* C was replaced by E */
    counts_are(TARGET, 4, 130);
    others.list[1] = (struct fake){"agent", "B", "1.0.0", NULL, 0, 2}; /* B has started again */
    counts_are(TARGET, 4, 142);
    T.side[TARGET].name = "0.9";
    says(SILENT, "none of version 0.9");
    others.list[0].name = others.list[1].name = others.list[2].name = "else";
    says(SILENT, "no service agent answers");
    /* Asked while the bus is away, and closed while it is asked. */
    harness_kill(nats);
    says(SILENT, "no service agent answers");
    harness_start(nats);
    T.done = false;
    checks_run(T.checks, T.side, false, on_samples, NULL);
    close_checks();
    bus_close(others.bus, 500, on_closed, &others.closed);
    assert_true(loop_run_until(&T.s.loop, &others.closed, HARNESS_WAIT_MS));
    assert_false(T.done);
    bus_close(own.bus, 500, on_closed, &own.closed);
    assert_true(loop_run_until(&T.s.loop, &own.closed, HARNESS_WAIT_MS));
}

/* ---- commands ---- */

static const char *script(const char *name, const char *text)
{
    static char paths[8][600];
    static unsigned next;
    char *path = paths[next++ % 8];
    snprintf(path, sizeof paths[0], "%s/%s", harness_dir(T.h), name);
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0755);
    assert_true(fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text));
    close(fd);
    return path;
}

static void use_command(const char *path, const char *args, const char *timeout)
{
    char text[2048];
    struct err e = {""};
    snprintf(text, sizeof text, CHECK("type: command, command: ['%s'%s], timeout: %s"), path, args, timeout);
    if (!try_checks(path, text, &e))
        fail_msg("%s", e.text);
}

static void test_commands(void **state)
{
    (void)state;
    const char *path =
        script("health", "#!/bin/sh\n"
                         "echo \"$REDOUBT_VERSION $REDOUBT_ADDRESS $REDOUBT_DIGEST $REDOUBT_SIDE $*\" >>\"$0.log\"\n"
                         "case $1 in\n"
                         "good) exit 0;;\n"
                         "bad) echo 'the gate is open' >&2; exit 3;;\n"
                         "dies) kill -9 $$;;\n"
                         "hangs) sleep 60;;\n"
                         "10.*) exit 0;;\n"
                         "esac\n");
    char log[700], line[256] = "";
    snprintf(log, sizeof log, "%s.log", path);
    use_command(path, ", good", "10s");
    says(PASSED, "ended with 0");
    FILE *f = fopen(log, "r");
    assert_non_null(f);
    assert_non_null(fgets(line, sizeof line, f));
    fclose(f);
    assert_string_equal(line, "v1  sha256:11 1 good\n");
    addresses(TARGET, "10.0.0.1:80", "10.0.0.2:80");
    use_command(path, ", '{{address}}', 'of {{version}}'", "10s");
    says(PASSED, "ended with 0");
    char all[1024] = "";
    f = fopen(log, "r");
    assert_non_null(f);
    all[fread(all, 1, sizeof all - 1, f)] = 0;
    fclose(f);
    assert_non_null(strstr(all, "v1 10.0.0.1:80 sha256:11 1 10.0.0.1:80 of v1\n"));
    assert_non_null(strstr(all, "v1 10.0.0.2:80 sha256:11 1 10.0.0.2:80 of v1\n"));
    addresses(TARGET, NULL, NULL);
    says(SILENT, "{{address}} has no value");
    use_command(path, ", bad", "10s");
    says(FAILED, "the gate is open");
    use_command(path, ", dies", "10s");
    says(SILENT, "");
    use_command(path, ", hangs", "200ms");
    says(SILENT, "");
    /* It was well when it was opened. */
    use_command(path, ", good", "10s");
    assert_int_equal(chmod(path, 0777), 0);
    says(SILENT, "cannot be run");
    assert_int_equal(unlink(path), 0);
    says(SILENT, "cannot be run");
}

/* ---- what is refused before anything is asked ---- */

static void test_refusals(void **state)
{
    (void)state;
    const char *path = script("program", "#!/bin/sh\n");
    const char *open = script("open", "#!/bin/sh\n");
    char command[1024], loose[1024];
    assert_int_equal(chmod(open, 0777), 0);
    snprintf(command, sizeof command, CHECK("type: command, command: ['%s', '{{nobody}}']"), path);
    snprintf(loose, sizeof loose, CHECK("type: command, command: ['%s']"), open);
    const struct {
        const char *allowed, *checks, *words;
    } rows[] = {
        {"/bin/true", command, "not in rollback.exec_allowed"},
        {path, command, "there is no {{nobody}}"},
        {open, loose, "cannot be run"},
        {NULL, CHECK("type: http, url: 'ftp://{{address}}/'"), "http:// or https://"},
        {NULL, CHECK("type: http, url: 'file:///etc/passwd'"), "http:// or https://"},
        {NULL, CHECK("type: http, url: 'http://{{adress}}/'"), "there is no {{adress}}"},
        {NULL, CHECK("type: http, url: 'http://{{address/'"), "without }}"},
        {NULL, CHECK("type: http, url: 'http://a', expect_json: [{path: 'x'}]"), "expect_json"},
        {NULL, CHECK("type: http, url: 'http://a', expect_json: [{path: $.a, matches: '('}]"), "expect_json"},
        {NULL, CHECK("type: prometheus, url: 'http://a', query: lag"), "with itself"},
        {NULL, CHECK("type: json, url: 'http://a', query: $.x"), "with itself"},
        {NULL, CHECK("type: json, url: 'http://{{address}}', query: x"), "query"},
        {NULL, CHECK("type: json, url: 'http://{{address}}', query: $.x, query_total: '$['"), "query_total"},
        {NULL, CHECK("type: nats, service: 'a.b'"), "letters, digits"},
        {NULL, CHECK("type: nats, service: a, compare: false"), "judges nothing"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct err e = {""};
        if (try_checks(rows[i].allowed, rows[i].checks, &e) || !strstr(e.text, rows[i].words) ||
            !strstr(e.text, "the check c"))
            fail_msg("%s: %s", rows[i].checks, e.text);
    }
    T.checks = NULL;
}

/* ---- all together ---- */

static void test_the_rule(void **state)
{
    (void)state;
    use("        - {name: s, type: http, class: security, url: 'http://a/'}\n"
        "        - {name: p, type: json, class: performance, url: 'http://{{address}}/', query: $.a, worse: 50%%, "
        "most: '1.5'}\n"
        "        - {name: e, type: json, url: 'http://{{address}}/', query: $.a, query_total: $.b, min_samples: 7, "
        "suite: true}\n"
        "        - {name: l, type: http, url: 'http://a/', limit: 0}\n");
    const struct rollback_judge_rule *r = checks_rule(T.checks);
    assert_int_equal(r->n, 4);
    assert_true(r->checks[0].check_class == ROLLBACK_SECURITY && r->checks[0].limit == 0 && r->checks[0].most < 0 &&
                !r->checks[0].compare);
    assert_true(r->checks[1].check_class == ROLLBACK_PERFORMANCE && r->checks[1].limit == 3 &&
                r->checks[1].most == 1.5);
    assert_true(r->checks[1].worse == 0.5 && r->checks[1].compare);
    assert_true(r->checks[2].check_class == ROLLBACK_ERRORS && r->checks[2].limit == 4 &&
                r->checks[2].min_samples == 7 && r->checks[2].suite);
    assert_int_equal(r->checks[3].limit, 0);
    assert_string_equal(r->checks[2].name, "e");
}

static void test_suite_and_nothing(void **state)
{
    (void)state;
    use("        - {name: a, type: http, url: 'http://{{address}}/'}\n        - {name: b, type: http, url: "
        "'http://{{address}}/', suite: true}\n");
    addresses(TARGET, T.a.address, NULL);
    page(&T.a, "/", 200, "%s", "");
    run();
    assert_int_equal(T.n, 1);
    run_suite(true);
    assert_int_equal(T.n, 2);
    assert_int_equal(T.samples[1].check, 1);
    use("        - {name: b, type: http, url: 'http://{{address}}/', suite: true}\n");
    run();
    assert_int_equal(T.n, 0);
}

/* Closed in the middle: nobody hears of it any more, and nothing is left. */
static void test_closed_in_the_middle(void **state)
{
    (void)state;
    const char *path = script("sleeps", "#!/bin/sh\nsleep 60\n");
    char text[2048];
    struct err e = {""};
    snprintf(text, sizeof text,
             "        - {name: a, type: http, url: 'http://{{address}}/'}\n        - {name: b, type: command, "
             "command: ['%s']}\n"
             "        - {name: c, type: prometheus, url: 'http://{{address}}/', query: x, query_total: y}\n"
             "        - {name: d, type: json, url: 'http://{{address}}/', query: $.x}\n",
             path);
    assert_true(try_checks(path, text, &e));
    addresses(TARGET, T.a.address, T.b.address);
    addresses(FORMER, T.b.address, NULL);
    page(&T.a, "/", 0, "%s", "");
    page(&T.b, "/", 0, "%s", "");
    page(&T.a, "x", 0, "%s", "");
    page(&T.a, "y", 0, "%s", "");
    T.done = false;
    for (int i = 0; i < 3; i++)
        checks_run(T.checks, T.side, true, on_samples, NULL);
    bool never = false;
    loop_run_until(&T.s.loop, &never, 50);
    close_checks();
    loop_run_until(&T.s.loop, &never, 100);
    assert_false(T.done);
    /* At once, before anything has been asked. */
    assert_true(try_checks(path, text, &e));
    checks_run(T.checks, T.side, true, on_samples, NULL);
    close_checks();
    loop_run_until(&T.s.loop, &never, 100);
    assert_false(T.done);
}

static void on_samples_closes(void *ctx, const struct rollback_sample *samples, size_t n)
{
    on_samples(ctx, samples, n);
    close_checks();
}

static void test_closed_by_its_own_answer(void **state)
{
    (void)state;
    use(CHECK("type: http, url: 'http://{{address}}/'"));
    addresses(TARGET, T.a.address, NULL);
    page(&T.a, "/", 200, "%s", "");
    T.done = false;
    checks_run(T.checks, T.side, false, on_samples_closes, NULL);
    checks_run(T.checks, T.side, false, on_samples, NULL);
    assert_true(loop_run_until(&T.s.loop, &T.done, HARNESS_WAIT_MS));
    bool never = false;
    loop_run_until(&T.s.loop, &never, 100);
    assert_true(T.runs >= 1);
}

/* From the answers to the verdict: a planted security regression is one in the first look that shows it; shares that are worse in four. */
static void test_to_the_verdict(void **state)
{
    (void)state;
    struct rollback_judge j = {0};
    size_t at = 9;
    use("        - {name: known, type: known, class: security, url: 'http://{{address}}/decide', body: '{}', "
        "expect_json: [{path: $.decision, equals: block}]}\n"
        "        - {name: shares, type: json, url: 'http://{{address}}/stats', query: $.bad, query_total: $.all}\n");
    addresses(TARGET, T.a.address, NULL);
    addresses(FORMER, T.b.address, NULL);
    page(&T.a, "/decide", 200, "{\"decision\": \"block\"}");
    int bad = 0, all = 1000, looks = 0;
    enum rollback_verdict v = ROLLBACK_SILENT;
    for (; v != ROLLBACK_WORSE && looks < 20; looks++, all += 100) {
        bad += looks > 5 ? 40 : 0;
        page(&T.a, "/stats", 200, "{\"bad\": %d, \"all\": %d}", bad, all);
        page(&T.b, "/stats", 200, "{\"bad\": 0, \"all\": %d}", all);
        run();
        v = rollback_judge_take(&j, checks_rule(T.checks), T.samples, T.n, false, clock_wall_ms(), &at);
        assert_int_equal(looks == 0, v == ROLLBACK_SILENT); /* of the first counters nobody knows whose they are */
    }
    assert_int_equal(at, 1);
    assert_int_equal(looks, 6 + 4);
    rollback_judge_forgive(&j, checks_rule(T.checks));
    page(&T.a, "/decide", 200, "{\"decision\": \"allow\"}");
    run();
    assert_int_equal(rollback_judge_take(&j, checks_rule(T.checks), T.samples, T.n, false, clock_wall_ms(), &at),
                     ROLLBACK_WORSE);
    assert_int_equal(at, 0);
    assert_non_null(strstr(j.checks[0].detail, "$.decision is `allow`, not `block`"));
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_http),
        TEST(test_every_instance_counts),
        TEST(test_known_answers),
        TEST(test_prometheus_values),
        TEST(test_prometheus_queries),
        TEST(test_prometheus_counts),
        TEST(test_json),
        TEST(test_json_counts),
        TEST(test_tally),
        TEST(test_nats),
        TEST(test_commands),
        TEST(test_refusals),
        TEST(test_the_rule),
        TEST(test_suite_and_nothing),
        TEST(test_closed_in_the_middle),
        TEST(test_closed_by_its_own_answer),
        TEST(test_to_the_verdict),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
