/* probe_llm.c - a completion of one token, streamed, from an OpenAI-compatible API.
 *
 * The happy path: POST -> events are read as they come, for the time of the first token -> the whole is judged. An API that knows
 * the limit of tokens by its newer name only is asked once more with that. */
#include "common/clock.h"
#include "health/health_llm.h"
#include "health/health_probe.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct run {
    struct health_probe_env env;
    struct health_probe_conf *conf;
    health_probe_done done;
    void *ctx;
    struct http_call *call;
    int64_t began_ms, until_ms;
    bool new_limit;
    char *key; /* for taking it out of what servers say; NULL = none */
    struct health_llm llm;
};

static void end(struct run *x, struct health_result *r)
{
    health_probe_done done = x->done;
    void *ctx = x->ctx;
    /* Some servers repeat the key that they refuse. */
    char *found = x->key ? strstr(r->detail, x->key) : NULL;
    if (found)
        memset(found, '*', strlen(x->key));
    free(x->key);
    free(x);
    done(ctx, r);
}

static int ask(struct run *x);

static bool on_piece(void *ctx, const char *data, size_t len, int64_t at_ms)
{
    struct run *x = ctx;
    health_llm_feed(&x->llm, data, len, at_ms);
    return true;
}

static void on_done(void *ctx, const struct http_result *h)
{
    struct run *x = ctx;
    struct health_result r = {.probe = HEALTH_PROBE_LLM};
    struct health_llm_end e = {.cut = h->fault == HTTP_CUT,
                               .status = h->status,
                               .content_type = h->content_type,
                               .body = h->body,
                               .len = h->len};
    bool failed = health_probe_failed(h, &r);
    if (!failed && !x->new_limit && x->conf->set && health_llm_wants_new_limit(&e) && clock_mono_ms() < x->until_ms) {
        x->new_limit = x->conf->llm_new_limit = true;
        if (ask(x) == 0)
            return;
    }
    /* What came before a cut says more than that it was cut. */
    if (!failed || (e.cut && e.status > 0))
        health_llm_judge(&x->llm, &e, &r);
    r.total_ms = (uint32_t)(clock_mono_ms() - x->began_ms);
    end(x, &r);
}

static int ask(struct run *x)
{
    const struct set_probe *set = x->conf->set;
    size_t url_len = strlen(set->url), size = url_len + sizeof "/chat/completions";
    size_t auth_size = strlen(set->api_key) + sizeof "Authorization: Bearer ";
    char *url = malloc(size), *auth = malloc(auth_size), *body = health_llm_request(set->model, x->new_limit);
    int rc = -1;
    if (url && auth && body) {
        bool slash = url_len > 0 && set->url[url_len - 1] == '/';
        snprintf(url, size, "%s%s", set->url, slash ? "chat/completions" : "/chat/completions");
        snprintf(auth, auth_size, "Authorization: Bearer %s", set->api_key);
        const char *headers[] = {"Content-Type: application/json", "Accept: text/event-stream, application/json",
                                 *set->api_key ? auth : NULL, NULL};
        int64_t left_ms = x->until_ms - clock_mono_ms();
        struct http_request q = {.method = "POST",
                                 .url = url,
                                 .headers = headers,
                                 .body = body,
                                 .body_len = strlen(body),
                                 .connect_timeout_ms = left_ms > 1 ? left_ms : 1,
                                 .timeout_ms = left_ms > 1 ? left_ms : 1,
                                 .max_response = HEALTH_LLM_BODY_MAX};
        health_llm_init(&x->llm);
        x->call = http_start(x->env.http, &q, on_piece, on_done, x);
        rc = 0;
    }
    if (auth)
        memset(auth, 0, auth_size);
    free(auth);
    free(url);
    free(body);
    return rc;
}

static void *start(const struct health_probe_env *env, struct health_probe_conf *conf, health_probe_done done,
                   void *ctx)
{
    struct run *x = malloc(sizeof *x);
    if (!x)
        return NULL;
    int64_t now_ms = clock_mono_ms();
    x->env = *env;
    x->conf = conf;
    x->done = done;
    x->ctx = ctx;
    x->began_ms = now_ms;
    x->until_ms = now_ms + conf->set->timeout_ms;
    x->new_limit = conf->llm_new_limit;
    x->key = *conf->set->api_key ? strdup(conf->set->api_key) : NULL;
    if (ask(x)) {
        free(x->key);
        free(x);
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
