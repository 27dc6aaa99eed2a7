/* probe_http.c - a request, and an answer that is as expected: status, headers, body, JSON, and how long the certificate lasts. */
#include "health/health_cert.h"
#include "health/health_expect.h"
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#define BODY_MAX (1 << 20)

struct run {
    health_probe_done done;
    void *ctx;
    struct http_call *call;
    struct health_expect *expect; /* the target's */
    int status_min, status_max;
    int64_t expiry_ms; /* 0 = not looked at */
    bool verify;
};

static int fault_of_status(const struct run *x, int status)
{
    if (status >= x->status_min && status <= x->status_max)
        return HEALTH_FAULT_NONE;
    switch (status) {
    case 401:
    case 403:
        return HEALTH_FAULT_AUTH;
    case 429:
        return HEALTH_FAULT_QUOTA;
    case 503:
    case 529:
        return HEALTH_FAULT_OVERLOAD;
    default:
        return HEALTH_FAULT_STATUS;
    }
}

/* A kept connection shows no certificate: it is the one that was shown when the connection was made. */
static bool lasts(const struct run *x, const struct http_result *h, struct health_result *r)
{
    struct health_cert c;
    if (x->expiry_ms == 0)
        return true;
    if (health_cert_read(h->call, &c)) {
        x->expect->cert_ends_s = c.ends_s;
        free(x->expect->cert);
        x->expect->cert = strdup(c.first_to_end);
    }
    return health_cert_lasts(x->expect->cert_ends_s, x->expect->cert ? x->expect->cert : "", x->verify, x->expiry_ms,
                             clock_wall_ms() / 1000, r);
}

static void judge(const struct run *x, const struct http_result *h, struct health_result *r)
{
    if (h->fault == HTTP_CERTIFICATE)
        health_cert_refused(http_cert_fault(h->call), NULL, h->error, r);
    if (health_probe_failed(h, r))
        return;
    r->fault = (uint8_t)fault_of_status(x, h->status);
    if (r->fault != HEALTH_FAULT_NONE)
        health_detail(r, "HTTP %d; expected %d to %d", h->status, x->status_min, x->status_max);
    else if (health_expect_usable(x->expect, r) && health_expect_headers(x->expect, h->call, r) &&
             health_expect_body(x->expect, h->body, h->len, r))
        (void)lasts(x, h, r);
}

static void on_done(void *ctx, const struct http_result *h)
{
    struct run x = *(struct run *)ctx;
    struct health_result r = {.probe = HEALTH_PROBE_HTTP};
    free(ctx);
    judge(&x, h, &r);
    x.done(x.ctx, &r);
}

static void *start(const struct health_probe_env *env, struct health_probe_conf *conf, health_probe_done done,
                   void *ctx)
{
    const struct set_probe *set = conf->set;
    struct run *x = malloc(sizeof *x);
    struct health_expect *expect = health_expect_of(conf, MATCH_TEXT);
    const char **headers = set->headers.n ? calloc(set->headers.n + 1, sizeof *headers) : NULL;
    if (!x || !expect || (set->headers.n && !headers)) {
        free(x);
        free(headers);
        return NULL;
    }
    for (size_t i = 0; i < set->headers.n; i++)
        headers[i] = *CONF_AT(set->headers, char *, i);
    bool secure = strncasecmp(set->url, "https:", 6) == 0;
    *x = (struct run){.done = done,
                      .ctx = ctx,
                      .expect = expect,
                      .status_min = (int)set->expect_status_min,
                      .status_max = (int)set->expect_status_max,
                      .expiry_ms = secure ? set->tls_expiry_ms : 0,
                      .verify = set->tls_verify};
    struct http_tls tls;
    health_probe_tls_of(set, &tls);
    tls.certs = x->expiry_ms > 0;
    struct http_request q = {.method = set->method,
                             .url = set->url,
                             .headers = headers,
                             .body = *set->body ? set->body : NULL,
                             .body_len = strlen(set->body),
                             .connect_timeout_ms = set->timeout_ms,
                             .timeout_ms = set->timeout_ms,
                             .max_response = BODY_MAX,
                             .tls = secure ? &tls : NULL};
    /* Whether it was renewed shows only on a new connection; so does what was never seen. */
    q.fresh = x->expiry_ms > 0 && expect->cert_ends_s - clock_wall_ms() / 1000 <= x->expiry_ms / 1000;
    x->call = http_start(env->http, &q, NULL, on_done, x);
    free(headers);
    return x;
}

static void cancel(void *run)
{
    http_cancel(((struct run *)run)->call);
}

const struct health_probe health_probe_http = {
    .kind = HEALTH_PROBE_HTTP, .may_try = true, .start = start, .cancel = cancel, .forget = health_expect_forget};
