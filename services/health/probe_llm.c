/* probe_llm.c - a completion of one token from an LLM API, streamed or whole.
 *
 * The happy path: POST -> events are read as they come, for the time of the first token -> the whole is judged -> what it cost is
 * counted. An API that refuses only the form of the question is asked once more in the form that it wants, and that is remembered. */
#include "common/clock.h"
#include "common/metric.h"
#include "health/health_cert.h"
#include "health/health_llm.h"
#include "health/health_probe.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

METRIC_DEFINE(prompt_tokens, METRIC_COUNTER, "redoubt_probe_prompt_tokens_total",
              "Tokens that probes of LLM APIs have put in, as the APIs say.");
METRIC_DEFINE(completion_tokens, METRIC_COUNTER, "redoubt_probe_completion_tokens_total",
              "Tokens that probes of LLM APIs have got out, as the APIs say.");
METRIC_DEFINE(cost, METRIC_COUNTER, "redoubt_probe_cost_microusd_total",
              "What probes of LLM APIs have cost by the prices of the settings, in millionths of a dollar.");

struct run {
    struct health_probe_env env;
    struct health_probe_conf *conf;
    health_probe_done done;
    void *ctx;
    struct http_call *call;
    int64_t until_ms;
    const struct health_llm_api *api;
    bool stream;
    unsigned wants;
    int64_t price_input, price_output;
    /* Copies: the settings may change meanwhile. */
    char *url, *model;
    char *auth;      /* a header; NULL = no key */
    const char *key; /* in it */
    struct health_llm llm;
};

static void free_run(struct run *x)
{
    if (x->auth)
        explicit_bzero(x->auth, strlen(x->auth));
    free(x->auth);
    free(x->url);
    free(x->model);
    free(x);
}

static void end(struct run *x, struct health_result *r)
{
    health_probe_done done = x->done;
    void *ctx = x->ctx;
    char said[HEALTH_DETAIL_MAX];
    health_llm_mask(said, sizeof said, r->detail, x->key); /* the library's own words, too */
    health_detail(r, "%s", said);
    free_run(x);
    done(ctx, r);
}

static bool ask(struct run *x);

static bool on_piece(void *ctx, const char *data, size_t len, int64_t at_ms)
{
    struct run *x = ctx;
    health_llm_feed(&x->llm, data, len, at_ms);
    return true;
}

/* Once per answer, well or not: whatever says that tokens were used is paid. */
static void count(struct run *x, struct health_result *r)
{
    struct health_spent *s = &x->conf->spent;
    r->prompt_tokens = x->llm.prompt_tokens;
    r->completion_tokens = x->llm.completion_tokens;
    r->cost_microusd = health_llm_cost(r->prompt_tokens, r->completion_tokens, x->price_input, x->price_output);
    s->prompt_tokens += r->prompt_tokens;
    s->completion_tokens += r->completion_tokens;
    s->cost_microusd += r->cost_microusd;
    metric_add(&prompt_tokens, r->prompt_tokens);
    metric_add(&completion_tokens, r->completion_tokens);
    metric_add(&cost, r->cost_microusd);
}

/* True if the API is asked again. */
static bool ask_again(struct run *x, const struct health_llm_end *e)
{
    unsigned more = health_llm_learn(x->api, e, x->wants);
    if (!x->conf->set)
        return false;
    if (more == 0) {
        if (health_llm_form_refused(e))
            x->conf->llm_wants = 0; /* it may be another API by now: the next probe learns anew */
        return false;
    }
    x->conf->llm_wants |= more;
    x->wants |= more;
    return clock_mono_ms() < x->until_ms && ask(x);
}

static void on_done(void *ctx, const struct http_result *h)
{
    static const enum health_llm_how hows[] = {
        [HTTP_CUT] = HEALTH_LLM_CUT, [HTTP_TIMEOUT] = HEALTH_LLM_STALLED, [HTTP_TOO_LARGE] = HEALTH_LLM_LARGE};
    struct run *x = ctx;
    struct health_result r = {.probe = HEALTH_PROBE_LLM};
    struct health_llm_end e = {.status = h->status, .content_type = h->content_type, .body = h->body, .len = h->len};
    if (h->fault == HTTP_CERTIFICATE)
        health_cert_refused(http_cert_fault(h->call), NULL, h->error, &r);
    bool failed = health_probe_failed(h, &r);
    if ((size_t)h->fault < sizeof hows / sizeof *hows)
        e.how = hows[h->fault];
    /* Whatever came says more than that it was cut. */
    if (!failed || (e.how != HEALTH_LLM_WHOLE && e.status > 0))
        health_llm_judge(&x->llm, &e, &r);
    count(x, &r);
    if (failed || !ask_again(x, &e))
        end(x, &r);
}

static bool ask(struct run *x)
{
    char *body = health_llm_request(x->api, x->model, x->stream, x->wants);
    if (!body)
        return false;
    const char *headers[5] = {"Content-Type: application/json", health_llm_accept(x->api, x->stream)};
    size_t n = 2;
    if (x->auth)
        headers[n++] = x->auth;
    if (health_llm_version(x->api))
        headers[n++] = health_llm_version(x->api);
    int64_t left_ms = x->until_ms - clock_mono_ms();
    struct http_tls tls;
    bool secure = x->conf->set && strncasecmp(x->url, "https:", 6) == 0;
    if (secure)
        health_probe_tls_of(x->conf->set, &tls);
    struct http_request q = {.method = "POST",
                             .tls = secure ? &tls : NULL,
                             .url = x->url,
                             .headers = headers,
                             .body = body,
                             .body_len = strlen(body),
                             .connect_timeout_ms = left_ms > 1 ? left_ms : 1,
                             .timeout_ms = left_ms > 1 ? left_ms : 1,
                             .max_response = HEALTH_LLM_BODY_MAX};
    health_llm_init(&x->llm, x->api, x->key);
    x->call = http_start(x->env.http, &q, on_piece, on_done, x);
    free(body);
    return true;
}

static bool copy_settings(struct run *x, const struct set_probe *set)
{
    size_t len = strlen(set->url);
    bool slash = len > 0 && set->url[len - 1] == '/';
    x->api = health_llm_api(set->api);
    x->stream = set->stream;
    x->price_input = set->price_input;
    x->price_output = set->price_output;
    x->model = strdup(set->model);
    if (asprintf(&x->url, "%s%s", set->url, health_llm_path(x->api) + slash) < 0)
        x->url = NULL;
    if (*set->api_key) {
        if (asprintf(&x->auth, "%s%s", health_llm_auth(x->api), set->api_key) < 0) {
            x->auth = NULL;
            return false;
        }
        x->key = x->auth + strlen(health_llm_auth(x->api));
    }
    return x->model && x->url;
}

static void *start(const struct health_probe_env *env, struct health_probe_conf *conf, health_probe_done done,
                   void *ctx)
{
    struct run *x = calloc(1, sizeof *x);
    if (!x)
        return NULL;
    x->env = *env;
    x->conf = conf;
    x->done = done;
    x->ctx = ctx;
    x->until_ms = clock_mono_ms() + conf->set->timeout_ms;
    x->wants = conf->llm_wants;
    if (!copy_settings(x, conf->set) || !ask(x)) {
        free_run(x);
        return NULL;
    }
    return x;
}

static void cancel(void *run)
{
    http_cancel(((struct run *)run)->call);
}

const struct health_probe health_probe_llm = {
    .kind = HEALTH_PROBE_LLM, .paid = true, .data_path = true, .may_try = true, .start = start, .cancel = cancel};
