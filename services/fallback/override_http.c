/* override_http.c - the override API over HTTP: POST with a body by template, a secret and an Idempotency-Key. */
#include "fallback/override_http.h"
#include "common/template.h"
#include "common/utf8.h"
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CONNECT_MS   2000
#define TOTAL_MS     5000
#define RESPONSE_MAX 65536

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

/* A text of ours may have been cut in the middle of a character. */
static json_t *text(const char *s)
{
    return json_stringn(s, utf8_valid_until(s, strlen(s)));
}

/* The template was checked with the settings: what fails is memory. NULL with the text in e. */
static char *body_of(const struct override_request *r, struct err *e)
{
    json_t *j = json_object();
    json_object_set_new(j, "duration_ms", json_integer(r->duration_ms));
    json_object_set_new(j, "justification", text(r->justification));
    json_object_set_new(j, "agent", text(r->agent));
    json_object_set_new(j, "epoch", json_integer((json_int_t)r->epoch));
    json_object_set_new(j, "key", text(r->key));
    json_object_set_new(j, "baseline_version", text(r->baseline_version));
    json_object_set_new(j, "baseline_sha256", text(r->baseline_sha256));
    char *body = template_fill(r->body, j, e);
    json_decref(j);
    return body;
}

/* "Name: value" or NULL; malloc'ed, holds a secret. */
static char *auth_header(const struct override_request *r)
{
    bool bearer = r->auth == SET_AUTH_BEARER;
    if (!*r->token || (!bearer && r->auth != SET_AUTH_HEADER))
        return NULL;
    const char *name = bearer ? "Authorization: Bearer" : r->auth_header, *between = bearer ? " " : ": ";
    size_t size = strlen(name) + strlen(between) + strlen(r->token) + 1;
    char *h = malloc(size);
    if (h)
        snprintf(h, size, "%s%s%s", name, between, r->token);
    return h;
}

static void forget(char *secret)
{
    if (secret)
        explicit_bzero(secret, strlen(secret));
    free(secret);
}

static void *http_send(void *self, const struct override_request *r, override_done done, void *ctx)
{
    size_t base = strlen(r->url), path = strlen(r->path);
    while (base > 0 && r->url[base - 1] == '/')
        base--;
    struct err e;
    struct call *c = malloc(sizeof *c);
    char *url = malloc(base + path + 2), *body = body_of(r, &e), *auth = auth_header(r);
    char *user = r->auth == SET_AUTH_BASIC && *r->token ? strdup(r->token) : NULL;
    if (!c || !url || !body)
        abort(); /* a call that is promised an answer cannot be dropped */
    *c = (struct call){done, ctx};
    snprintf(url, base + path + 2, "%.*s%s%s", (int)base, r->url, r->path[0] == '/' ? "" : "/", r->path);
    char key[FALLBACK_KEY_TEXT + 64], *password = user ? strchr(user, ':') : NULL;
    if (password)
        *password++ = '\0';
    snprintf(key, sizeof key, "Idempotency-Key: %s", r->key);
    const char *headers[] = {"Content-Type: application/json", "Accept: application/json", key, auth, NULL};
    struct http_request q = {.method = "POST",
                             .url = url,
                             .headers = headers,
                             .body = body,
                             .body_len = strlen(body),
                             .user = user,
                             .password = password,
                             .connect_timeout_ms = CONNECT_MS,
                             .timeout_ms = TOTAL_MS,
                             .max_response = RESPONSE_MAX};
    void *handle = http_start(self, &q, NULL, on_done, c);
    if (password)
        explicit_bzero(password, strlen(password));
    forget(user);
    forget(auth);
    free(url);
    free(body);
    return handle;
}

static void cancel_call(void *handle)
{
    http_cancel(handle);
}

const struct override_api override_http = {.name = "http", .send = http_send, .cancel = cancel_call};
