/* check_json.c - a number out of a JSON document of a version, or two counters. */
#include "common/jsonpath.h"
#include "rollback/rollback_check_kind.h"
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define ANSWER_MAX (1024 * 1024)

struct own {
    struct service *s;
    const struct set_rb_check *set;
    struct jsonpath *value, *total; /* total NULL = none */
};
struct asked {
    struct own *own;
    check_done done;
    void *ctx;
    char why[CHECK_TEXT]; /* it could not be asked; "" otherwise */
};

static void close_own(void *p)
{
    struct own *o = p;
    if (o) {
        jsonpath_free(o->value);
        jsonpath_free(o->total);
    }
    free(o);
}

static int open_own(struct service *s, const struct set_rb_check *set, void **ret, struct err *e)
{
    struct err why = {""};
    if (check_url_ok(set->url, e))
        return -1;
    struct own *o = calloc(1, sizeof *o);
    if (!o)
        return err_set(e, "out of memory");
    o->s = s;
    o->set = set;
    if (!(o->value = jsonpath_compile(set->query, &why)))
        err_set(e, "query: %.300s", why.text);
    else if (*set->query_total && !(o->total = jsonpath_compile(set->query_total, &why)))
        err_set(e, "query_total: %.300s", why.text);
    else {
        *ret = o;
        return 0;
    }
    close_own(o);
    return -1;
}

static int sample(const struct set_rb_check *set)
{
    return *set->query_total ? ROLLBACK_COUNTS : ROLLBACK_VALUE;
}

static bool each(const struct set_rb_check *set)
{
    return check_names(set->url, "address");
}

/* A number, or a text that is one. False after saying why not. */
static bool read_number(const struct jsonpath *path, const char *text, const json_t *document, double *ret,
                        struct check_answer *a)
{
    const json_t *v = jsonpath_find(path, document);
    const char *s = json_string_value(v);
    char *end = NULL;
    double number = json_is_number(v) ? json_number_value(v) : s ? strtod(s, &end) : (double)NAN;
    if (!v)
        check_say(a, CHECK_NOTHING, "%.80s is not in the answer", text);
    else if (!isfinite(number) || (s && (end == s || *end)))
        check_say(a, CHECK_NOTHING, "%.80s is not a number", text);
    else
        *ret = number;
    return v && isfinite(number) && !(s && (end == s || *end));
}

static bool read_counter(const struct jsonpath *path, const char *text, const json_t *document, uint64_t *ret,
                         struct check_answer *a)
{
    double v;
    if (!read_number(path, text, document, &v, a))
        return false;
    if (v < 0 || v > 9007199254740992.0) {
        check_say(a, CHECK_NOTHING, "%.80s is %g: no counter", text, v);
        return false;
    }
    *ret = (uint64_t)(v + 0.5);
    return true;
}

static void judge(const struct own *o, const struct http_result *r, struct check_answer *a)
{
    if (check_no_answer(r, a))
        return;
    if (!check_status(r, a)) {
        a->said = CHECK_NOTHING; /* a document that is not to be had has no value */
        return;
    }
    json_error_t why;
    json_t *document = json_loadb(r->body, r->len, JSON_DECODE_ANY | JSON_ALLOW_NUL | JSON_REJECT_DUPLICATES, &why);
    if (!document)
        check_say(a, CHECK_NOTHING, "the answer is not JSON: line %d: %.100s", why.line, why.text);
    else if (!o->total && read_number(o->value, o->set->query, document, &a->value, a))
        a->said = CHECK_NUMBER;
    else if (o->total && read_counter(o->value, o->set->query, document, &a->bad, a) &&
             read_counter(o->total, o->set->query_total, document, &a->all, a))
        a->said = CHECK_COUNTED;
    json_decref(document);
}

static void on_done(void *ctx, const struct http_result *r)
{
    struct asked q = *(struct asked *)ctx;
    struct check_answer a = {.said = CHECK_NOTHING};
    free(ctx);
    if (q.why[0])
        check_say(&a, CHECK_NOTHING, "%s", q.why);
    else
        judge(q.own, r, &a);
    q.done(q.ctx, &a);
}

static void *ask(void *p, const struct check_ask *q, check_done done, void *ctx)
{
    struct own *o = p;
    struct err e = {""};
    struct asked *x = malloc(sizeof *x);
    const char **headers = check_headers(o->set, NULL);
    if (!x || !headers)
        abort(); /* who asks is promised an answer */
    *x = (struct asked){.own = o, .done = done, .ctx = ctx};
    char *url = check_fill(o->set->url, q, CHECK_URL, &e);
    if (!url) /* an empty URL is refused, later: then it says why */
        snprintf(x->why, sizeof x->why, "%s", e.text);
    const struct http_tls tls = {.ca_file = o->set->ca_file};
    void *handle = http_start(o->s->http,
                              &(struct http_request){.url = url ? url : "",
                                                     .headers = headers,
                                                     .timeout_ms = o->set->timeout_ms,
                                                     .max_response = ANSWER_MAX,
                                                     .tls = &tls},
                              NULL, on_done, x);
    free(url);
    free(headers);
    return handle;
}

static void cancel(void *handle)
{
    http_cancel(handle);
}

const struct check_kind check_json = {open_own, close_own, sample, each, ask, cancel};
