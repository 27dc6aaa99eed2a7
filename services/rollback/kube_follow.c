/* kube_follow.c - follows one object: read it, watch from there, go on when the watch is cut, begin anew when it is too old.
 *
 * READ -> WATCH -> (the server ends the watch, the connection breaks) -> WATCH from the last version seen
 *   ^        |
 *   +--------+-- 410 Gone, or an event that cannot be read */
#include "common/clock.h"
#include "rollback/kube_impl.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define WATCH_S        30 /* the server ends a watch after this */
#define SLACK_MS       10000
#define BACKOFF_MS     200
#define BACKOFF_MAX_MS 5000
#define EVENT_MAX      (4 << 20)

struct kube_follow {
    struct kube *k; /* NULL = given up */
    struct kube_follow *next, **link;
    enum kube_kind kind;
    char name[254], version[64]; /* resourceVersion; "" = it must be read */
    kube_cb cb;
    void *ctx;
    struct http_call *http;
    struct loop_timer timer;
    char *line; /* an event that has not come whole */
    size_t len, cap;
    bool watching, gone, reloaded, telling, closing, heard;
    unsigned misses;
};

static void step(void *ctx);

static void on_closed(void *ctx)
{
    struct kube_follow *f = ctx;
    free(f->line);
    free(f);
}

static void maybe_free(struct kube_follow *f)
{
    if (f->k || f->http || f->telling || f->closing)
        return;
    f->closing = true;
    loop_timer_close(&f->timer, on_closed);
}

void kube_unfollow(struct kube_follow *f)
{
    if (!f || !f->k)
        return;
    *f->link = f->next;
    if (f->next)
        f->next->link = f->link;
    f->k = NULL;
    loop_timer_stop(&f->timer);
    if (f->http)
        http_cancel(f->http);
    maybe_free(f);
}

void kube_follow_drop(struct kube_follow *f)
{
    kube_cb cb = f->cb;
    void *ctx = f->ctx;
    kube_unfollow(f);
    cb(ctx, NULL);
}

static void tell(struct kube_follow *f, const struct kube_reply *r)
{
    f->telling = true;
    f->cb(f->ctx, r);
    f->telling = false;
}

/* The object, as read or as an event has it. */
static void take(struct kube_follow *f, json_t *object, bool ok, const char *error)
{
    const char *version = json_string_value(json_object_get(json_object_get(object, "metadata"), "resourceVersion"));
    snprintf(f->version, sizeof f->version, "%s", version ? version : "");
    tell(f, &(struct kube_reply){.ok = ok, .status = ok ? 200 : 404, .lasting = !ok, .error = error, .body = object});
}

static void on_event(struct kube_follow *f, const char *line, size_t len)
{
    json_t *event = json_loadb(line, len, 0, NULL), *object = json_object_get(event, "object");
    const char *type = json_string_value(json_object_get(event, "type"));
    if (!type || !json_is_object(object) || strcmp(type, "ERROR") == 0) {
        f->gone = true; /* 410 comes as an event, too; whatever else it is, the truth is read anew */
    } else if (strcmp(type, "BOOKMARK") == 0) {
        const char *version =
            json_string_value(json_object_get(json_object_get(object, "metadata"), "resourceVersion"));
        if (version)
            snprintf(f->version, sizeof f->version, "%s", version);
    } else if (strcmp(type, "DELETED") == 0) {
        char text[400];
        snprintf(text, sizeof text, "kubernetes: %s/%s in %s was deleted", kube_resource(f->kind), f->name,
                 kube_namespace(f->k));
        take(f, object, false, text);
    } else {
        take(f, object, true, "");
    }
    json_decref(event);
}

static bool on_piece(void *ctx, const char *data, size_t len, int64_t at_ms)
{
    struct kube_follow *f = ctx;
    (void)at_ms;
    if (!f->k)
        return false;
    if (!f->watching)
        return true;
    if (f->len + len > EVENT_MAX) {
        f->gone = true;
        return false;
    }
    if (f->len + len > f->cap) {
        char *line = realloc(f->line, (f->len + len) * 2);
        if (!line)
            abort();
        f->line = line;
        f->cap = (f->len + len) * 2;
    }
    memcpy(f->line + f->len, data, len);
    f->len += len;
    for (char *end; f->k && !f->gone && (end = memchr(f->line, '\n', f->len));) {
        size_t n = (size_t)(end - f->line);
        f->heard = true;
        if (n > 0)
            on_event(f, f->line, n);
        f->len -= n + 1;
        memmove(f->line, end + 1, f->len);
    }
    return f->k && !f->gone;
}

static void later(struct kube_follow *f, int64_t after_ms)
{
    if (f->k)
        loop_timer_start(&f->timer, after_ms, 0);
    else
        maybe_free(f);
}

static int64_t backoff(struct kube_follow *f)
{
    int64_t ms = BACKOFF_MS << (f->misses < 5 ? f->misses : 5);
    f->misses++;
    return ms < BACKOFF_MAX_MS ? ms : BACKOFF_MAX_MS;
}

static void on_watched(struct kube_follow *f, const struct http_result *r)
{
    bool cut = r->fault != HTTP_OK || r->status != 200;
    if (f->gone || (r->fault == HTTP_OK && r->status != 200 && r->status != 401 && r->status != 429))
        f->version[0] = '\0';
    if (f->heard || !cut)
        f->misses = 0;
    /* A watch that ends at once, again and again, must not become a storm. */
    later(f, r->retry_after_ms > 0 ? r->retry_after_ms : f->heard && !f->gone ? 0 : backoff(f));
}

static void on_read(struct kube_follow *f, const struct http_result *r)
{
    char what[400], text[1200];
    json_t *body = r->fault == HTTP_OK && r->len ? json_loadb(r->body, r->len, 0, NULL) : NULL;
    if (r->fault == HTTP_OK && r->status == 200 && json_is_object(body)) {
        f->misses = 0;
        take(f, body, true, "");
        json_decref(body);
        later(f, f->version[0] ? 0 : backoff(f));
        return;
    }
    snprintf(what, sizeof what, "GET %s/%s in %s", kube_resource(f->kind), f->name, kube_namespace(f->k));
    if (r->fault != HTTP_OK)
        snprintf(text, sizeof text, "kubernetes: %s: %s: %.200s", what, http_fault_text(r->fault), r->error);
    else
        kube_words(f->k, text, sizeof text, what, r->status, body);
    bool lasting = kube_lasting(r->status) || r->fault == HTTP_CERTIFICATE;
    tell(f, &(struct kube_reply){.status = r->status, .lasting = lasting, .error = text, .body = body});
    json_decref(body);
    if (f->k && lasting)
        kube_unfollow(f);
    else
        later(f, r->retry_after_ms > 0 ? r->retry_after_ms : backoff(f));
}

static void on_done(void *ctx, const struct http_result *r)
{
    struct kube_follow *f = ctx;
    f->http = NULL;
    if (!f->k) {
        maybe_free(f);
        return;
    }
    if (r->fault == HTTP_OK && r->status == 401 && !f->reloaded) {
        f->reloaded = true;
        (void)kube_reload(f->k, NULL); /* what cannot be read shows at the next call */
        later(f, 0);
        return;
    }
    if (r->fault == HTTP_OK && r->status == 200)
        f->reloaded = false;
    if (f->watching)
        on_watched(f, r);
    else
        on_read(f, r);
}

static void step(void *ctx)
{
    struct kube_follow *f = ctx;
    struct kube_wire w;
    struct err e = {""};
    char query[400] = "";
    f->watching = f->version[0] != '\0';
    f->gone = f->heard = false;
    f->len = 0;
    if (f->watching)
        snprintf(query, sizeof query,
                 "?watch=true&fieldSelector=metadata.name%%3D%s&resourceVersion=%s&allowWatchBookmarks=true&"
                 "timeoutSeconds=%d",
                 f->name, f->version, WATCH_S);
    if (kube_wire(f->k, &w, f->kind, f->watching ? "" : f->name, query, NULL, &e) < 0) {
        tell(f, &(struct kube_reply){.error = e.text});
        later(f, backoff(f));
        return;
    }
    struct http_request q = {.url = w.url,
                             .headers = w.headers,
                             .timeout_ms = f->watching ? WATCH_S * 1000 + SLACK_MS : f->k->set->timeout_ms,
                             .max_response = 8 << 20,
                             .tls = &w.tls};
    f->http = http_start(f->k->http, &q, f->watching ? on_piece : NULL, on_done, f);
    kube_wire_free(&w);
}

struct kube_follow *kube_follow(struct kube *k, enum kube_kind kind, const char *name, kube_cb cb, void *ctx)
{
    struct kube_follow *f = calloc(1, sizeof *f);
    if (!f)
        abort(); /* who follows would wait for ever */
    f->k = k;
    f->kind = kind;
    snprintf(f->name, sizeof f->name, "%s", name);
    f->cb = cb;
    f->ctx = ctx;
    f->next = k->follows;
    f->link = &k->follows;
    if (f->next)
        f->next->link = &f->next;
    k->follows = f;
    loop_timer_init(k->loop, &f->timer, step, f);
    loop_timer_start(&f->timer, 0, 0);
    return f;
}
