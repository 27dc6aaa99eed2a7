/* override_http.c - the override API over HTTP: POST with a JSON body, a bearer token and an Idempotency-Key. */
#include "fallback/override_http.h"
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CONNECT_MS   2000
#define TOTAL_MS     5000
#define RESPONSE_MAX 65536
#define HEADER_MAX   2048

struct call {
    override_done done;
    void *ctx;
};

static void on_done(void *ctx, const struct http_result *r)
{
    struct call c = *(struct call *)ctx;
    char detail[320];
    free(ctx);
    if (r->fault != HTTP_OK)
        snprintf(detail, sizeof detail, "%s: %.200s", http_fault_text(r->fault), r->error);
    else
        snprintf(detail, sizeof detail, "HTTP status %d after %lld ms", r->status, (long long)r->total_ms);
    c.done(c.ctx, r->fault == HTTP_OK && r->status >= 200 && r->status <= 299, detail);
}

/* {"duration":3600000,"justification":"..."}; a release needs no duration. NULL if memory is out. */
static char *body_of(const struct override_request *r)
{
    json_t *j = json_object();
    if (r->kind != FALLBACK_CALL_RELEASE)
        json_object_set_new(j, "duration", json_integer(r->duration_ms));
    json_object_set_new(j, "justification", json_string(r->justification));
    char *text = json_dumps(j, JSON_COMPACT);
    json_decref(j);
    return text;
}

static void *http_send(void *self, const struct override_request *r, override_done done, void *ctx)
{
    size_t base = strlen(r->url), path = strlen(r->path);
    while (base > 0 && r->url[base - 1] == '/')
        base--;
    struct call *c = malloc(sizeof *c);
    char *url = malloc(base + path + 2);
    char *body = body_of(r);
    if (!c || !url || !body)
        abort(); /* a call that is promised an answer cannot be dropped */
    *c = (struct call){done, ctx};
    snprintf(url, base + path + 2, "%.*s%s%s", (int)base, r->url, r->path[0] == '/' ? "" : "/", r->path);
    char key[FALLBACK_KEY_TEXT + 64], bearer[HEADER_MAX];
    snprintf(key, sizeof key, "Idempotency-Key: %s", r->key);
    snprintf(bearer, sizeof bearer, "Authorization: Bearer %s", r->token);
    const char *headers[] = {"Content-Type: application/json", "Accept: application/json", key,
                             *r->token ? bearer : NULL, NULL};
    struct http_request q = {.method = "POST",
                             .url = url,
                             .headers = headers,
                             .body = body,
                             .body_len = strlen(body),
                             .connect_timeout_ms = CONNECT_MS,
                             .timeout_ms = TOTAL_MS,
                             .max_response = RESPONSE_MAX};
    void *handle = http_start(self, &q, NULL, on_done, c);
    free(url);
    free(body);
    return handle;
}

static void cancel_call(void *handle)
{
    http_cancel(handle);
}

const struct override_api override_http = {.name = "http", .send = http_send, .cancel = cancel_call};
