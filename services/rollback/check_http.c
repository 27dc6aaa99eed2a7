/* check_http.c - a request to a version, and an answer that is as it must be; a known answer is the same with an event in the body. */
#include "common/jsonpath.h"
#include "common/match.h"
#include "rollback/rollback_check_kind.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define ANSWER_MAX (256 * 1024)

struct value {
    char *path_text, *equals, *pattern;
    struct jsonpath *path;
    struct match *match; /* NULL = by `equals`, or it must only be there */
};
struct own {
    struct service *s;
    const struct set_rb_check *set;
    size_t n;
    struct value *values;
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
    for (size_t i = 0; o && i < o->n; i++) {
        free(o->values[i].path_text);
        free(o->values[i].equals);
        free(o->values[i].pattern);
        jsonpath_free(o->values[i].path);
        match_free(o->values[i].match);
    }
    if (o)
        free(o->values);
    free(o);
}

static int open_value(struct value *v, const struct set_expect_json *set, struct err *e)
{
    struct err why = {""};
    v->path_text = strdup(set->path);
    v->equals = *set->equals ? strdup(set->equals) : NULL;
    v->pattern = *set->matches ? strdup(set->matches) : NULL;
    if (!v->path_text || (*set->equals && !v->equals) || (*set->matches && !v->pattern))
        return err_set(e, "out of memory");
    if (!(v->path = jsonpath_compile(set->path, &why)))
        return err_set(e, "expect_json: `%.100s`: %.300s", set->path, why.text);
    if (v->pattern && !v->equals && !(v->match = match_compile(set->matches, MATCH_TEXT, &why)))
        return err_set(e, "expect_json: `%.100s`: %.300s", set->matches, why.text);
    return 0;
}

static int open_own(struct service *s, const struct set_rb_check *set, void **ret, struct err *e)
{
    if (check_url_ok(set->url, e) || check_text_ok("body", set->body, e))
        return -1;
    struct own *o = calloc(1, sizeof *o);
    if (!o || (set->expect_json.n && !(o->values = calloc(set->expect_json.n, sizeof *o->values)))) {
        free(o);
        return err_set(e, "out of memory");
    }
    o->s = s;
    o->set = set;
    for (size_t i = 0; i < set->expect_json.n; i++) {
        o->n++;
        if (open_value(&o->values[i], CONF_AT(set->expect_json, struct set_expect_json, i), e)) {
            close_own(o);
            return -1;
        }
    }
    *ret = o;
    return 0;
}

static int sample(const struct set_rb_check *set)
{
    (void)set;
    return ROLLBACK_PLAIN;
}

static bool each(const struct set_rb_check *set)
{
    return check_names(set->url, "address") || check_names(set->body, "address");
}

/* False after saying what is not as it must be. */
static bool is_value(const struct value *v, const json_t *document, struct check_answer *a)
{
    const json_t *value = jsonpath_find(v->path, document);
    if (!value) {
        check_say(a, CHECK_FAILED, "%.80s is not in the answer", v->path_text);
        return false;
    }
    if (!v->equals && !v->match)
        return true;
    char *text = jsonpath_text(value);
    bool ok = false;
    if (!text) {
        check_say(a, CHECK_NOTHING, "out of memory");
    } else if (v->equals) {
        if (!(ok = jsonpath_equals(value, v->equals)))
            check_say(a, CHECK_FAILED, "%.60s is `%.40s`, not `%.40s`", v->path_text, text, v->equals);
    } else {
        enum match_result found = match_run(v->match, text, strlen(text));
        if (!(ok = found == MATCH_YES))
            check_say(a, CHECK_FAILED, "%.60s is `%.40s`; pattern `%.40s`: %s", v->path_text, text, v->pattern,
                      match_why(v->match));
    }
    free(text);
    return ok;
}

static void judge(const struct own *o, const struct http_result *r, struct check_answer *a)
{
    if (check_no_answer(r, a) || !check_status(r, a))
        return;
    check_say(a, CHECK_PASSED, "HTTP status %d after %lld ms", r->status, (long long)r->total_ms);
    if (o->n == 0)
        return;
    json_error_t why;
    json_t *document = json_loadb(r->body, r->len, JSON_DECODE_ANY | JSON_ALLOW_NUL | JSON_REJECT_DUPLICATES, &why);
    if (!document) {
        check_say(a, CHECK_FAILED, "the answer is not JSON: line %d: %.100s", why.line, why.text);
        return;
    }
    for (size_t i = 0; i < o->n && is_value(&o->values[i], document, a); i++)
        ;
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
    const struct set_rb_check *set = o->set;
    struct err e = {""};
    struct asked *x = malloc(sizeof *x);
    bool posts = set->type == SET_CHECK_KNOWN || *set->body;
    const char **headers = check_headers(set, posts ? "Content-Type: application/json" : NULL);
    if (!x || !headers)
        abort(); /* who asks is promised an answer */
    *x = (struct asked){.own = o, .done = done, .ctx = ctx};
    char *url = check_fill(set->url, q, CHECK_URL, &e),
         *body = url && posts ? check_fill(set->body, q, CHECK_JSON_TEXT, &e) : NULL;
    if (!url || (posts && !body)) /* an empty URL is refused, later: then it says why */
        snprintf(x->why, sizeof x->why, "%s", e.text);
    const struct http_tls tls = {.ca_file = set->ca_file};
    void *handle = http_start(o->s->http,
                              &(struct http_request){.method = posts ? "POST" : "GET",
                                                     .url = url && (!posts || body) ? url : "",
                                                     .headers = headers,
                                                     .body = body,
                                                     .body_len = body ? strlen(body) : 0,
                                                     .timeout_ms = set->timeout_ms,
                                                     .max_response = ANSWER_MAX,
                                                     .tls = &tls},
                              NULL, on_done, x);
    free(url);
    free(body);
    free(headers);
    return handle;
}

static void cancel(void *handle)
{
    http_cancel(handle);
}

const struct check_kind check_http = {open_own, close_own, sample, each, ask, cancel};
