/* traffic_webhook.c - a program of the user's divides the traffic: PUT says how, GET what stands. README.md has the form of the body. */
#include "rollback/rollback_traffic.h"
#include <assert.h>
#include <jansson.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <utlist.h>

#define ANSWER_MAX 65536

struct traffic {
    struct http *http;
    const struct set_deployment *set;
    struct job *jobs;
};
struct job {
    struct traffic *t; /* NULL: nobody waits for it any more */
    traffic_view_cb view;
    traffic_cb done;
    void *ctx;
    struct http_call *call;
    struct job *prev, *next;
};

/* ---- what stands ---- */

/* "shares": [{"side": 0, "percent": 75, "sessions": 3}, ...]; a side that is not named has none. */
static int read_shares(json_t *root, struct traffic_view *v, struct err *e)
{
    json_t *shares = json_object_get(root, "shares"), *x;
    size_t i;
    bool seen[2] = {false, false};
    if (!json_is_array(shares))
        return err_set(e, "its answer has no list `shares`");
    json_array_foreach(shares, i, x)
    {
        json_t *side = json_object_get(x, "side"), *percent = json_object_get(x, "percent");
        json_int_t s = json_integer_value(side), p = json_integer_value(percent);
        if (!json_is_integer(side) || s < 0 || s > 1 || seen[s])
            return err_set(e, "`shares[%zu].side` must be 0 or 1, each once", i);
        if (!json_is_integer(percent) || p < 0 || p > 100)
            return err_set(e, "`shares[%zu].percent` must be a whole number from 0 to 100", i);
        json_int_t sessions = json_integer_value(json_object_get(x, "sessions"));
        seen[s] = true;
        v->share[s] = (int)p;
        v->sessions[s] = sessions > 0 && sessions <= 1000000000 ? (unsigned)sessions : 0;
    }
    int all = v->share[0] + v->share[1];
    return all == 0 || all == 100 ? 0 : err_set(e, "its shares add up to %d, not to 100", all);
}

/* ---- what an answer means ---- */

/* 0, or -1 with the words. */
static int judge(const struct http_result *r, struct err *e, bool *ret_lasting)
{
    int shown = r->len > 200 ? 200 : (int)strcspn(r->body, "\r\n");
    shown = shown > 200 ? 200 : shown;
    *ret_lasting = false;
    if (r->fault != HTTP_OK) {
        *ret_lasting = r->fault == HTTP_FORBIDDEN;
        return err_set(e, "%s%s%s: is it running, and is `traffic.url` right?", http_fault_text(r->fault),
                       *r->error ? ": " : "", r->error);
    }
    if (r->status >= 200 && r->status < 300)
        return 0;
    if (r->status == 408 || r->status == 425 || r->status == 429 || r->status >= 500) {
        if (r->retry_after_ms > 0)
            return err_set(e, "status %d, asks for %lld s of patience: %.*s", r->status,
                           (long long)(r->retry_after_ms + 999) / 1000, shown, r->body);
        return err_set(e, "status %d: %.*s", r->status, shown, r->body);
    }
    *ret_lasting = true;
    if (r->status == 401 || r->status == 403)
        return err_set(e, "status %d: it does not take `traffic.token`", r->status);
    if (r->status == 404 || r->status == 405)
        return err_set(e, "status %d: `traffic.url` is not what sets and reads shares (PUT and GET)", r->status);
    if (r->status == 409)
        return err_set(e, "status 409, it has a newer epoch: somebody else moves this traffic, too: %.*s", shown,
                       r->body);
    return err_set(e, "status %d, it refuses the request: %.*s", r->status, shown, r->body);
}

static void on_done(void *ctx, const struct http_result *r)
{
    struct job j = *(struct job *)ctx;
    struct traffic_view v = {.error = ""};
    struct err e = {""};
    char text[ERR_TEXT_MAX + 300] = "";
    bool lasting = false;
    if (j.t)
        DL_DELETE(j.t->jobs, (struct job *)ctx);
    free(ctx);
    if (!j.t)
        return;
    int ok = judge(r, &e, &lasting);
    if (ok == 0 && (j.view || r->len)) { /* a PUT may answer with nothing */
        json_error_t wrong;
        json_t *root = json_loadb(r->body, r->len, JSON_REJECT_DUPLICATES, &wrong);
        if (!root && j.view)
            ok = err_set(&e, "its answer is not JSON: %s", wrong.text);
        else if (j.view)
            ok = read_shares(root, &v, &e);
        lasting = ok < 0;
        json_decref(root);
    }
    if (ok < 0)
        snprintf(text, sizeof text, "traffic webhook (`traffic.url`): %s", e.text); /* a URL may hold a password */
    v.ok = ok == 0;
    v.lasting = lasting;
    v.error = text;
    if (j.view)
        j.view(j.ctx, &v);
    else
        j.done(j.ctx, &(struct executor_result){.ok = v.ok, .lasting = lasting, .text = text});
}

/* ---- what is asked ---- */

static void ask(struct traffic *t, const char *method, const char *body, traffic_view_cb view, traffic_cb done,
                void *ctx)
{
    const struct set_rb_traffic *set = &t->set->traffic;
    struct job *j = calloc(1, sizeof *j);
    assert(j && "out of memory for a few words");
    *j = (struct job){.t = t, .view = view, .done = done, .ctx = ctx};
    char token[1024 + 32];
    const char *headers[4] = {"Accept: application/json"};
    size_t n = 1;
    snprintf(token, sizeof token, "Authorization: Bearer %s", set->token);
    if (*set->token)
        headers[n++] = token;
    if (body)
        headers[n++] = "Content-Type: application/json";
    DL_APPEND(t->jobs, j);
    j->call = http_start(t->http,
                         &(struct http_request){.method = method,
                                                .url = set->url,
                                                .headers = headers,
                                                .body = body,
                                                .body_len = body ? strlen(body) : 0,
                                                .connect_timeout_ms = set->timeout_ms,
                                                .timeout_ms = set->timeout_ms,
                                                .max_response = ANSWER_MAX},
                         NULL, on_done, j);
    sodium_memzero(token, sizeof token);
}

static json_t *share_of(const struct traffic_order *o, int side)
{
    json_t *addresses = json_array();
    for (size_t i = 0; i < o->n; i++)
        if (o->instances[i].side == side && o->instances[i].running && *o->instances[i].address)
            json_array_append_new(addresses, json_string(o->instances[i].address));
    return json_pack("{s:s, s:s, s:i, s:i, s:o}", "version", o->name[side], "id", o->version[side], "side", side,
                     "percent", o->share[side], "addresses", addresses);
}

static void webhook_set(struct traffic *t, const struct traffic_order *o, traffic_cb cb, void *ctx)
{
    json_t *root = json_pack("{s:s, s:s, s:I, s:[o, o]}", "deployment", t->set->name, "job", o->job, "epoch",
                             (json_int_t)o->epoch, "shares", share_of(o, 0), share_of(o, 1));
    char *body = root ? json_dumps(root, JSON_COMPACT) : NULL;
    json_decref(root);
    assert(body && "names are UTF-8, and a few words fit");
    ask(t, "PUT", body, NULL, cb, ctx);
    free(body);
}

static void webhook_view(struct traffic *t, const struct executor_instance *at, size_t count, traffic_view_cb cb,
                         void *ctx)
{
    (void)at, (void)count;
    ask(t, "GET", NULL, cb, NULL, ctx);
}

/* A check reads as a view does: what it says must be understood, too. */
struct checking {
    traffic_cb cb;
    void *ctx;
};

static void on_checked(void *ctx, const struct traffic_view *v)
{
    struct checking c = *(struct checking *)ctx;
    free(ctx);
    c.cb(c.ctx, &(struct executor_result){.ok = v->ok, .lasting = v->lasting, .text = v->error});
}

static void webhook_check(struct traffic *t, traffic_cb cb, void *ctx)
{
    struct checking *c = malloc(sizeof *c);
    assert(c && "out of memory for a few words");
    *c = (struct checking){cb, ctx};
    webhook_view(t, NULL, 0, on_checked, c);
}

static struct traffic *webhook_open(struct service *s, const struct set_deployment *set, struct err *e)
{
    struct traffic *t = calloc(1, sizeof *t);
    if (!t) {
        err_set(e, "out of memory");
        return NULL;
    }
    t->http = s->http;
    t->set = set;
    return t;
}

static void webhook_close(struct traffic *t)
{
    struct job *j, *next;
    if (!t)
        return;
    DL_FOREACH_SAFE(t->jobs, j, next)
    {
        if (j->view == on_checked)
            free(j->ctx);
        j->t = NULL;
        http_cancel(j->call);
    }
    free(t);
}

const struct traffic_kind traffic_webhook = {.name = "webhook",
                                             .open = webhook_open,
                                             .close = webhook_close,
                                             .view = webhook_view,
                                             .check = webhook_check,
                                             .set = webhook_set};
