/* probe_http.c - GET, and a status within what is expected. */
#include "health/health_probe.h"
#include <stdlib.h>

#define BODY_MAX (1 << 20)

struct run {
    health_probe_done done;
    void *ctx;
    struct http_call *call;
    int status_min, status_max;
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

static void on_done(void *ctx, const struct http_result *h)
{
    struct run x = *(struct run *)ctx;
    struct health_result r = {.probe = HEALTH_PROBE_HTTP};
    free(ctx);
    if (!health_probe_failed(h, &r)) {
        r.fault = (uint8_t)fault_of_status(&x, h->status);
        if (r.fault != HEALTH_FAULT_NONE)
            health_detail(&r, "HTTP %d; expected %d to %d", h->status, x.status_min, x.status_max);
    }
    x.done(x.ctx, &r);
}

static void *start(const struct health_probe_env *env, struct health_probe_conf *conf, health_probe_done done,
                   void *ctx)
{
    struct run *x = malloc(sizeof *x);
    if (!x)
        return NULL;
    *x = (struct run){.done = done,
                      .ctx = ctx,
                      .status_min = (int)conf->set->expect_status_min,
                      .status_max = (int)conf->set->expect_status_max};
    struct http_request q = {.url = conf->set->url,
                             .connect_timeout_ms = conf->set->timeout_ms,
                             .timeout_ms = conf->set->timeout_ms,
                             .max_response = BODY_MAX};
    x->call = http_start(env->http, &q, NULL, on_done, x);
    return x;
}

static void cancel(void *run)
{
    http_cancel(((struct run *)run)->call);
}

const struct health_probe health_probe_http = {
    .kind = HEALTH_PROBE_HTTP, .may_try = true, .start = start, .cancel = cancel};
