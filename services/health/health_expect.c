/* health_expect.c - what an answer must be: patterns, headers, JSON values. */
#include "health/health_expect.h"
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- making ready ---- */

static void free_pattern(struct health_expect_pattern *p)
{
    free(p->text);
    match_free(p->match);
}

static void free_expect(struct health_expect *x)
{
    if (!x)
        return;
    free_pattern(&x->expect);
    free_pattern(&x->reject);
    for (size_t i = 0; i < x->n_headers; i++) {
        free(x->headers[i].name);
        free_pattern(&x->headers[i].value);
    }
    for (size_t i = 0; i < x->n_values; i++) {
        free(x->values[i].path_text);
        free(x->values[i].equals);
        jsonpath_free(x->values[i].path);
        free_pattern(&x->values[i].text);
    }
    free(x->headers);
    free(x->values);
    free(x->wrong);
    free(x->cert);
    free(x);
}

void health_expect_forget(struct health_probe_conf *conf)
{
    free_expect(conf->memory);
    conf->memory = NULL;
}

void health_expect_refuse(struct health_expect *x, const char *what, const char *why)
{
    if (!x->wrong && asprintf(&x->wrong, "the setting %s cannot be used: %s", what, why) < 0)
        abort(); /* forgotten, it would be a pattern that nobody looks at */
}

/* False: memory is out. */
static bool ready(struct health_expect *x, struct health_expect_pattern *p, const char *text, enum match_mode mode,
                  const char *what)
{
    struct err e = {""};
    if (!*text)
        return true;
    p->text = strdup(text);
    if (p->text && !(p->match = match_compile(text, mode, &e)))
        health_expect_refuse(x, what, e.text);
    return p->text != NULL;
}

static bool ready_header(struct health_expect *x, const char *line)
{
    size_t len;
    const char *pattern;
    if (!http_header_split(line, &len, &pattern)) {
        health_expect_refuse(x, "expect_headers", "not of the form `Name: pattern`");
        return true;
    }
    struct health_expect_header *h = &x->headers[x->n_headers++];
    h->name = strndup(line, len);
    return h->name && ready(x, &h->value, *pattern ? pattern : ".*", MATCH_TEXT, "expect_headers");
}

static bool ready_value(struct health_expect *x, const struct set_expect_json *set)
{
    struct err e = {""};
    struct health_expect_value *v = &x->values[x->n_values++];
    v->path_text = strdup(set->path);
    if (*set->equals)
        v->equals = strdup(set->equals);
    if (!v->path_text || (*set->equals && !v->equals) ||
        !ready(x, &v->text, set->matches, MATCH_TEXT, "expect_json.matches"))
        return false;
    if (!(v->path = jsonpath_compile(set->path, &e)))
        health_expect_refuse(x, "expect_json.path", e.text);
    return true;
}

struct health_expect *health_expect_of(struct health_probe_conf *conf, enum match_mode mode)
{
    if (conf->memory)
        return conf->memory;
    const struct set_probe *set = conf->set;
    struct health_expect *x = calloc(1, sizeof *x);
    bool ok =
        x && ready(x, &x->expect, set->expect, mode, "expect") && ready(x, &x->reject, set->reject, mode, "reject");
    if (ok && set->type == SET_PROBE_HTTP) {
        size_t headers = set->expect_headers.n, values = set->expect_json.n;
        x->headers = headers ? calloc(headers, sizeof *x->headers) : NULL;
        x->values = values ? calloc(values, sizeof *x->values) : NULL;
        ok = (x->headers || !headers) && (x->values || !values);
        for (size_t i = 0; ok && i < set->expect_headers.n; i++)
            ok = ready_header(x, *CONF_AT(set->expect_headers, char *, i));
        for (size_t i = 0; ok && i < set->expect_json.n; i++)
            ok = ready_value(x, CONF_AT(set->expect_json, struct set_expect_json, i));
    }
    if (!ok) {
        free_expect(x);
        return NULL;
    }
    conf->memory = x;
    return x;
}

/* ---- judging ---- */

__attribute__((format(printf, 2, 3))) static bool mismatch(struct health_result *r, const char *fmt, ...)
{
    char text[4 * HEALTH_DETAIL_MAX];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    r->fault = HEALTH_FAULT_MISMATCH;
    health_detail(r, "%s", text);
    return false;
}

bool health_expect_usable(const struct health_expect *x, struct health_result *r)
{
    return !x->wrong || mismatch(r, "%s", x->wrong);
}

bool health_expect_headers(const struct health_expect *x, const struct http_call *c, struct health_result *r)
{
    for (size_t i = 0; i < x->n_headers; i++) {
        const struct health_expect_header *h = &x->headers[i];
        const char *value = http_header(c, h->name, 0);
        enum match_result found = MATCH_NO;
        if (!value)
            return mismatch(r, "the header %.40s is missing", h->name);
        for (size_t k = 0; value && found == MATCH_NO; value = http_header(c, h->name, ++k))
            found = match_run(h->value.match, value, strlen(value));
        if (found == MATCH_LIMIT) /* what it holds may be a secret: it is not shown */
            return mismatch(r, "header %.40s, pattern `%.24s`: %s", h->name, h->value.text,
                            match_why(h->value.match));
        if (found == MATCH_NO)
            return mismatch(r, "the header %.40s does not match `%.40s`", h->name, h->value.text);
    }
    return true;
}

static bool is_value(const struct health_expect_value *v, const json_t *document, struct health_result *r)
{
    const json_t *value = jsonpath_find(v->path, document);
    if (!value)
        return mismatch(r, "%.60s is not in the answer", v->path_text);
    if (!v->equals && !v->text.match)
        return true;
    char *text = jsonpath_text(value);
    bool ok = false;
    if (!text) {
        mismatch(r, "%.60s could not be looked at: out of memory", v->path_text);
    } else if (v->equals) {
        ok = jsonpath_equals(value, v->equals) ||
             mismatch(r, "%.40s is `%.30s`, not `%.30s`", v->path_text, text, v->equals);
    } else {
        enum match_result found = match_run(v->text.match, text, strlen(text));
        ok = found == MATCH_YES ||
             (found == MATCH_LIMIT
                  ? mismatch(r, "%.40s, pattern `%.24s`: %s", v->path_text, v->text.text, match_why(v->text.match))
                  : mismatch(r, "%.40s is `%.30s`, which does not match `%.30s`", v->path_text, text, v->text.text));
    }
    free(text);
    return ok;
}

static bool are_values(const struct health_expect *x, const char *body, size_t len, struct health_result *r)
{
    json_error_t e;
    json_t *document = json_loadb(body, len, JSON_DECODE_ANY | JSON_ALLOW_NUL, &e);
    if (!document) {
        r->fault = HEALTH_FAULT_SCHEMA;
        health_detail(r, "the body is not JSON: line %d: %.60s", e.line, e.text);
        return false;
    }
    bool ok = true;
    for (size_t i = 0; ok && i < x->n_values; i++)
        ok = is_value(&x->values[i], document, r);
    json_decref(document);
    return ok;
}

bool health_expect_body(const struct health_expect *x, const char *body, size_t len, struct health_result *r)
{
    enum match_result found = x->reject.match ? match_run(x->reject.match, body, len) : MATCH_NO;
    if (found == MATCH_LIMIT)
        return mismatch(r, "reject `%.40s`: %s", x->reject.text, match_why(x->reject.match));
    if (found == MATCH_YES)
        return mismatch(r, "the body matches `%.60s`, which it must not", x->reject.text);
    found = x->expect.match ? match_run(x->expect.match, body, len) : MATCH_YES;
    if (found == MATCH_LIMIT)
        return mismatch(r, "expect `%.40s`: %s", x->expect.text, match_why(x->expect.match));
    if (found == MATCH_NO)
        return mismatch(r, "the body (%zu bytes) does not match `%.60s`", len, x->expect.text);
    return x->n_values == 0 || are_values(x, body, len, r);
}
