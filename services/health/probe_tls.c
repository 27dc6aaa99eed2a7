/* probe_tls.c - a handshake, and a certificate that is good: chain, name, and how long it lasts.
 *
 * The happy path: handshake with verification -> the chain that was shown is read -> the earliest end of it is judged. If the
 * certificate is refused before it could be read, a second handshake without verification reads it, so that people are told which one
 * it is. */
#include "common/hostport.h"
#include "health/health_cert.h"
#include "health/health_probe.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

struct run {
    struct http *http;
    health_probe_done done;
    void *ctx;
    struct http_call *call;
    int64_t began_ms, until_ms, expiry_ms;
    struct http_tls tls;
    char *files[3]; /* copies for the second handshake: the settings may be gone by then */
    char *url;
    char *connect_to;         /* NULL = where the URL says */
    bool verify;              /* false: any certificate will do, as long as it lasts */
    bool again;               /* the second handshake: only for the certificate's sake */
    enum http_cert_fault why; /* what the first has found */
    char error[HEALTH_DETAIL_MAX];
};

static void free_run(struct run *x)
{
    for (size_t i = 0; i < sizeof x->files / sizeof *x->files; i++)
        free(x->files[i]);
    free(x->url);
    free(x->connect_to);
    free(x);
}

static void ask(struct run *x);

static void judge(struct run *x, const struct http_result *h, struct health_result *r)
{
    struct health_cert c;
    bool shown = health_cert_read(h->call, &c);
    if (h->fault == HTTP_CANCELLED) {
        (void)health_probe_failed(h, r);
    } else if (x->again) {
        health_cert_refused(x->why, shown ? &c : NULL, x->error, r);
    } else if (h->fault == HTTP_CERTIFICATE) {
        health_cert_refused(http_cert_fault(h->call), shown ? &c : NULL, h->error, r);
    } else if (!health_probe_failed(h, r)) {
        if (!shown) {
            r->fault = HEALTH_FAULT_TLS;
            health_detail(r, "no certificate was shown");
        } else {
            (void)health_cert_lasts(c.ends_s, c.first_to_end, x->verify, x->expiry_ms, clock_wall_ms() / 1000, r);
        }
    }
}

static void on_done(void *ctx, const struct http_result *h)
{
    struct run *x = ctx;
    struct health_cert c;
    if (h->fault == HTTP_CERTIFICATE && !x->again && !health_cert_read(h->call, &c) &&
        clock_mono_ms() < x->until_ms) {
        x->again = true;
        x->why = http_cert_fault(h->call);
        snprintf(x->error, sizeof x->error, "%s", h->error);
        x->tls.any_peer = true;
        ask(x);
        return;
    }
    struct health_result r = {.probe = HEALTH_PROBE_TLS};
    judge(x, h, &r);
    r.status = 0;
    r.total_ms = (uint32_t)(clock_mono_ms() - x->began_ms);
    health_probe_done done = x->done;
    void *to = x->ctx;
    free_run(x);
    done(to, &r);
}

static void ask(struct run *x)
{
    int64_t left_ms = x->until_ms - clock_mono_ms();
    struct http_request q = {.url = x->url,
                             .connect_timeout_ms = left_ms > 1 ? left_ms : 1,
                             .timeout_ms = left_ms > 1 ? left_ms : 1,
                             .fresh = true,
                             .tls = &x->tls};
    x->call = http_start(x->http, &q, NULL, on_done, x);
}

/* An address of version 6 stands in brackets. */
static const char *left(const char *host)
{
    return strchr(host, ':') ? "[" : "";
}
static const char *right(const char *host)
{
    return strchr(host, ':') ? "]" : "";
}

static bool keep_addresses(struct run *x, const struct set_probe *set)
{
    char host[HOSTPORT_HOST_MAX];
    int port;
    char at[512];
    snprintf(at, sizeof at, "%s", strncasecmp(set->url, "tcp://", 6) == 0 ? set->url + 6 : set->url);
    size_t len = strlen(at);
    while (len > 0 && at[len - 1] == '/')
        at[--len] = 0;
    if (hostport_split(at, 0, host, &port)) /* the call will say that this is no URL */
        return (x->url = strdup("")) != NULL;
    const char *name = *set->tls_name ? set->tls_name : host;
    if (asprintf(&x->url, "https://%s%s%s:%d/", left(name), name, right(name), port) < 0)
        x->url = NULL;
    if (*set->tls_name && asprintf(&x->connect_to, "::%s%s%s:%d", left(host), host, right(host), port) < 0)
        x->connect_to = NULL;
    return x->url && (!*set->tls_name || x->connect_to);
}

static void *start(const struct health_probe_env *env, struct health_probe_conf *conf, health_probe_done done,
                   void *ctx)
{
    const struct set_probe *set = conf->set;
    struct run *x = calloc(1, sizeof *x);
    if (!x)
        return NULL;
    x->http = env->http;
    x->done = done;
    x->ctx = ctx;
    x->began_ms = clock_mono_ms();
    x->until_ms = x->began_ms + set->timeout_ms;
    x->expiry_ms = set->tls_expiry_ms;
    x->verify = set->tls_verify;
    x->files[0] = strdup(set->tls_ca_file);
    x->files[1] = strdup(set->tls_cert_file);
    x->files[2] = strdup(set->tls_key_file);
    if (!x->files[0] || !x->files[1] || !x->files[2] || !keep_addresses(x, set)) {
        free_run(x);
        return NULL;
    }
    x->tls = (struct http_tls){.ca_file = x->files[0],
                               .cert_file = x->files[1],
                               .key_file = x->files[2],
                               .any_peer = !x->verify,
                               .certs = true,
                               .handshake_only = true,
                               .connect_to = x->connect_to};
    ask(x);
    return x;
}

static void cancel(void *run)
{
    http_cancel(((struct run *)run)->call);
}

const struct health_probe health_probe_tls = {.kind = HEALTH_PROBE_TLS, .start = start, .cancel = cancel};
