/* guard_http.c - an action on its way to the backend: one POST, with its key and its epoch. */
#include "common/template.h"
#include "guard/guard_impl.h"
#include <inttypes.h>
#include <jansson.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CONNECT_MS   2000
#define FENCE_GAP_MS 500 /* a call ends so much before a freeze stops waiting for a guard that is silent */
#define TOTAL_MIN_MS 50
#define RESPONSE_MAX 65536
#define HEADER_MAX   2200
#define RETRY_MS     1000

static bool is_for_good(int status)
{
    return status >= 300 && status <= 499 && status != 408 && status != 425 && status != 429;
}

static void on_done(void *ctx, const struct http_result *r)
{
    struct guard_act *x = ctx;
    char detail[320];
    x->call = NULL;
    int64_t retry_ms = r->retry_after_ms > 0 ? r->retry_after_ms : RETRY_MS;
    if (r->fault != HTTP_OK) {
        snprintf(detail, sizeof detail, "no answer, the outcome is not known: %s: %.200s", http_fault_text(r->fault),
                 r->error);
        guard_act_called(x, GUARD_END_RETRY, 0, detail, retry_ms);
        return;
    }
    snprintf(detail, sizeof detail, "HTTP status %d after %" PRId64 " ms", r->status, r->total_ms);
    if (r->status >= 200 && r->status <= 299)
        guard_act_called(x, GUARD_END_DONE, r->status, detail, 0);
    else if (is_for_good(r->status))
        guard_act_called(x, GUARD_END_REJECTED, r->status, detail, 0);
    else
        guard_act_called(x, GUARD_END_RETRY, r->status, detail, retry_ms);
}

static char *body_of(const struct guard_act *x, struct err *e)
{
    json_t *values = json_object(), *parameters = json_object();
    for (size_t i = 0; i < x->r->n_parameters; i++)
        json_object_set_new(parameters, x->r->parameters[i]->key, json_string(x->r->parameters[i]->value));
    json_object_set_new(values, "action", json_string(x->r->action));
    json_object_set_new(values, "parameters", parameters);
    json_object_set_new(values, "agent", json_string(x->r->agent));
    json_object_set_new(values, "epoch", json_integer((json_int_t)x->r->epoch));
    json_object_set_new(values, "key", json_string(x->r->idempotency_key));
    char *body = template_fill(x->a->set->actions.body, values, e);
    json_decref(values);
    return body;
}

/* "" if none is sent. */
static void auth_header(const struct set_actions *set, char out[static HEADER_MAX])
{
    char base64[HEADER_MAX - 64];
    out[0] = 0;
    if (!*set->token)
        return;
    switch ((enum set_auth)set->auth) {
    case SET_AUTH_BEARER:
        snprintf(out, HEADER_MAX, "Authorization: Bearer %s", set->token);
        break;
    case SET_AUTH_BASIC:
        if (sodium_base64_ENCODED_LEN(strlen(set->token), sodium_base64_VARIANT_ORIGINAL) <= sizeof base64) {
            sodium_bin2base64(base64, sizeof base64, (const unsigned char *)set->token, strlen(set->token),
                              sodium_base64_VARIANT_ORIGINAL);
            snprintf(out, HEADER_MAX, "Authorization: Basic %s", base64);
        }
        break;
    case SET_AUTH_HEADER:
        snprintf(out, HEADER_MAX, "%s: %s", set->auth_header, set->token);
        break;
    case SET_AUTH_NONE:
        break;
    }
}

/* No call outlasts what a freeze waits for a silent guard: what is in the hands of one that stands still has then timed out. */
static int64_t time_limit(const struct guard_act *x)
{
    int64_t most = x->g->s->settings->fallback.fence_ms - FENCE_GAP_MS, asked = x->a->set->actions.timeout_ms;
    int64_t limit = asked < most ? asked : most;
    return limit > TOTAL_MIN_MS ? limit : TOTAL_MIN_MS;
}

void guard_call(struct guard_act *x, const struct baseline_action *action)
{
    const struct set_actions *set = &x->a->set->actions;
    const char *path = *action->path ? action->path : set->path;
    char url[1600], key[256], epoch[64], agent[128], auth[HEADER_MAX];
    struct err e = {""};
    size_t base = strlen(set->url);
    while (base > 0 && set->url[base - 1] == '/')
        base--;
    int n = snprintf(url, sizeof url, "%.*s%s", (int)base, set->url, path);
    char *body = n > 0 && (size_t)n < sizeof url ? body_of(x, &e) : NULL;
    if (!body) {
        guard_act_called(x, GUARD_END_REJECTED, 0, *e.text ? e.text : "the URL is too long", 0);
        return;
    }
    snprintf(key, sizeof key, "Idempotency-Key: %s/%s", x->r->agent, x->r->idempotency_key);
    snprintf(epoch, sizeof epoch, "Redoubt-Epoch: %" PRIu64, x->r->epoch);
    snprintf(agent, sizeof agent, "Redoubt-Agent: %s", x->r->agent);
    auth_header(set, auth);
    const char *headers[] = {
        "Content-Type: application/json", "Accept: application/json", key, epoch, agent, *auth ? auth : NULL, NULL};
    int64_t limit_ms = time_limit(x);
    struct http_request q = {.method = "POST",
                             .url = url,
                             .headers = headers,
                             .body = body,
                             .body_len = strlen(body),
                             .connect_timeout_ms = limit_ms < CONNECT_MS ? limit_ms : CONNECT_MS,
                             .timeout_ms = limit_ms,
                             .max_response = RESPONSE_MAX};
    x->call = http_start(x->g->s->http, &q, NULL, on_done, x);
    free(body);
}
