/* check_prometheus.c - instant queries of Prometheus' HTTP API: one sample is a value, two of counters are failures and calls. */
#include "common/log.h"
#include "rollback/rollback_check_kind.h"
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define ANSWER_MAX  (1024 * 1024)
#define GET_MAX     1500               /* a longer query goes in the body */
#define COUNTER_MAX 9007199254740992.0 /* 2^53: beyond, a double has no ones */

struct own {
    struct service *s;
    const struct set_rb_check *set;
    char *name; /* for the log */
    bool warned;
};
struct asked {
    struct own *own;
    check_done done;
    void *ctx;
    int open; /* calls without an answer yet */
    struct part {
        struct asked *of;
        struct http_call *call;
        bool ended, ok;
        double value;
    } part[2]; /* the value, or the failures; the calls */
    size_t n;
    struct check_answer a;
};

static int open_own(struct service *s, const struct set_rb_check *set, void **ret, struct err *e)
{
    if (check_url_ok(set->url, e) || check_text_ok("query", set->query, e) ||
        check_text_ok("query_total", set->query_total, e))
        return -1;
    struct own *o = calloc(1, sizeof *o);
    if (!o || !(o->name = strdup(set->name))) {
        free(o);
        return err_set(e, "out of memory");
    }
    o->s = s;
    o->set = set;
    *ret = o;
    return 0;
}

static void close_own(void *p)
{
    struct own *o = p;
    if (o)
        free(o->name);
    free(o);
}

static int sample(const struct set_rb_check *set)
{
    return *set->query_total ? ROLLBACK_COUNTS : ROLLBACK_VALUE;
}

static bool each(const struct set_rb_check *set)
{
    return check_names(set->url, "address") || check_names(set->query, "address") ||
           check_names(set->query_total, "address");
}

/* ---- the answer ---- */

/* "value": [ <unix time>, "<number>" ]; numbers are texts, as JSON has no NaN. */
static bool read_pair(const json_t *pair, double *ret, struct check_answer *a)
{
    const char *text = json_string_value(json_array_get(pair, 1));
    char *end;
    double v = text ? strtod(text, &end) : 0;
    if (!text || end == text || *end) {
        check_say(a, CHECK_NOTHING, "the answer holds no number");
        return false;
    }
    if (!isfinite(v)) {
        check_say(a, CHECK_NOTHING, "the value is %.10s", text);
        return false;
    }
    *ret = v;
    return true;
}

static bool read_data(const json_t *data, double *ret, struct check_answer *a)
{
    const char *type = json_string_value(json_object_get(data, "resultType"));
    const json_t *result = json_object_get(data, "result");
    if (type && strcmp(type, "scalar") == 0)
        return read_pair(result, ret, a);
    if (!type || strcmp(type, "vector") != 0 || !json_is_array(result)) {
        check_say(a, CHECK_NOTHING,
                  "the result is of type %.20s; it must be one number: a vector of one sample, or a scalar",
                  type ? type : "none");
        return false;
    }
    size_t n = json_array_size(result);
    if (n == 0) {
        check_say(a, CHECK_NOTHING, "no series fits; if that means zero, say so: (...) or vector(0)");
        return false;
    }
    if (n > 1) {
        check_say(a, CHECK_NOTHING, "%zu series fit; it must be one: use sum() or max()", n);
        return false;
    }
    return read_pair(json_object_get(json_array_get(result, 0), "value"), ret, a);
}

static void warn(struct own *o, const json_t *answer)
{
    const char *text = json_string_value(json_array_get(json_object_get(answer, "warnings"), 0));
    if (!text || o->warned)
        return;
    o->warned = true;
    log_warn("prometheus warns of a check's query", F_STR("check", o->name), F_STR("warning", text));
}

static bool read_answer(struct own *o, const struct http_result *r, double *ret, struct check_answer *a)
{
    if (check_no_answer(r, a))
        return false;
    json_error_t why;
    json_t *answer = json_loadb(r->body, r->len, JSON_REJECT_DUPLICATES, &why);
    const char *status = json_string_value(json_object_get(answer, "status"));
    bool ok = false;
    if (status && strcmp(status, "success") == 0) {
        warn(o, answer);
        ok = read_data(json_object_get(answer, "data"), ret, a);
    } else if (status) {
        const char *type = json_string_value(json_object_get(answer, "errorType")),
                   *text = json_string_value(json_object_get(answer, "error"));
        check_say(a, CHECK_NOTHING, "prometheus says %.30s: %.130s", type ? type : "error", text ? text : "");
    } else {
        check_say(a, CHECK_NOTHING, "HTTP status %d, and no answer of Prometheus' query API; is `url` its base?",
                  r->status);
    }
    json_decref(answer);
    return ok;
}

/* ---- asking ---- */

static void conclude(struct asked *x)
{
    const struct part *p = x->part;
    if (x->n == 1 && p[0].ok) {
        x->a.said = CHECK_NUMBER;
        x->a.value = p[0].value;
    } else if (x->n == 2 && p[0].ok && p[1].ok) {
        if (p[0].value < 0 || p[1].value < 0 || p[0].value > COUNTER_MAX || p[1].value > COUNTER_MAX) {
            check_say(&x->a, CHECK_NOTHING, "%g of %g is no share: `query` and `query_total` must be counters",
                      p[0].value, p[1].value);
        } else {
            x->a.said = CHECK_COUNTED;
            x->a.bad = (uint64_t)(p[0].value + 0.5);
            x->a.all = (uint64_t)(p[1].value + 0.5);
        }
    } else {
        x->a.said = CHECK_NOTHING;
    }
    x->done(x->ctx, &x->a);
    free(x);
}

static void on_done(void *ctx, const struct http_result *r)
{
    struct part *p = ctx;
    struct asked *x = p->of;
    struct check_answer a = {.said = CHECK_NOTHING};
    p->ended = true;
    p->ok = read_answer(x->own, r, &p->value, &a);
    if (!p->ok && !x->a.text[0])
        x->a = a;
    if (--x->open == 0)
        conclude(x);
}

static void put_query(struct own *o, const struct check_ask *q, const char *query, struct part *p)
{
    struct err e = {""};
    const char **headers = check_headers(o->set, "Content-Type: application/x-www-form-urlencoded");
    char *base = check_fill(o->set->url, q, CHECK_URL, &e), *filled = check_fill(query, q, CHECK_PROMQL, &e);
    char *encoded = filled ? check_encode(filled) : NULL, *url = NULL, *body = NULL;
    if (!headers)
        abort(); /* who asks is promised an answer */
    size_t len = base ? strlen(base) : 0;
    while (len > 0 && base[len - 1] == '/')
        len--;
    bool posts = encoded && strlen(encoded) > GET_MAX;
    if (base && encoded &&
        (asprintf(&url, "%.*s/api/v1/query%s%s", (int)len, base, posts ? "" : "?query=", posts ? "" : encoded) < 0 ||
         (posts && asprintf(&body, "query=%s", encoded) < 0)))
        abort();
    if (!url)
        check_say(&p->of->a, CHECK_NOTHING, "%s", e.text);
    if (!posts)
        headers[o->set->headers.n] = NULL;
    const struct http_tls tls = {.ca_file = o->set->ca_file};
    p->call = http_start(o->s->http,
                         &(struct http_request){.method = posts ? "POST" : "GET",
                                                .url = url ? url : "",
                                                .headers = headers,
                                                .body = body,
                                                .body_len = body ? strlen(body) : 0,
                                                .timeout_ms = o->set->timeout_ms,
                                                .max_response = ANSWER_MAX,
                                                .tls = &tls},
                         NULL, on_done, p);
    free(base);
    free(filled);
    free(encoded);
    free(url);
    free(body);
    free(headers);
}

static void *ask(void *p, const struct check_ask *q, check_done done, void *ctx)
{
    struct own *o = p;
    struct asked *x = calloc(1, sizeof *x);
    if (!x)
        abort();
    x->own = o;
    x->done = done;
    x->ctx = ctx;
    x->n = *o->set->query_total ? 2 : 1;
    x->open = (int)x->n;
    for (size_t i = 0; i < x->n; i++)
        x->part[i].of = x;
    /* Both at once: counters that are read at different times are of different calls. */
    for (size_t i = 0; i < x->n; i++)
        put_query(o, q, i ? o->set->query_total : o->set->query, &x->part[i]);
    return x;
}

static void cancel(void *handle)
{
    struct asked *x = handle;
    for (size_t i = 0; i < x->n; i++)
        if (!x->part[i].ended)
            http_cancel(x->part[i].call);
}

const struct check_kind check_prometheus = {open_own, close_own, sample, each, ask, cancel};
