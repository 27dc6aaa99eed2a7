/* probe_tcp.c - a connection is accepted.
 *
 * The happy path: resolve -> connect to each address in turn until one accepts -> close. The time-out covers all of it. */
#include "common/clock.h"
#include "health/health_probe.h"
#include <assert.h>
#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define HOST_MAX 256

struct run {
    struct loop *loop;
    health_probe_done done;
    void *ctx;
    int64_t began_ms;
    struct loop_timer limit;
    uv_getaddrinfo_t resolve;
    uv_tcp_t tcp;
    uv_connect_t connect;
    struct addrinfo *list, *next;
    bool asked;           /* for the addresses; if that is not possible, the timer ends the run at once */
    bool resolving, open; /* open: tcp is a handle that is not closed */
    bool ended;           /* the result is known; handles are being closed */
    int closing;          /* handles whose close callback is still to come */
    struct health_result r;
    char host[HOST_MAX], port[8];
};

static void try_next(struct run *x, int last_error);

/* All handles are closed: nobody knows of the memory any more. */
static void settle(struct run *x)
{
    if (!x->ended || x->closing > 0 || x->resolving)
        return;
    struct health_result r = x->r;
    health_probe_done done = x->done;
    void *ctx = x->ctx;
    if (x->list)
        uv_freeaddrinfo(x->list);
    free(x);
    done(ctx, &r);
}

static void on_timer_closed(void *ctx)
{
    struct run *x = ctx;
    x->closing--;
    settle(x);
}

static void on_tcp_closed(uv_handle_t *h)
{
    struct run *x = h->data;
    x->closing--;
    x->open = false;
    if (!x->ended)
        try_next(x, x->r.status);
    settle(x);
}

static void close_tcp(struct run *x)
{
    if (x->open && !uv_is_closing((uv_handle_t *)&x->tcp)) {
        x->closing++;
        uv_close((uv_handle_t *)&x->tcp, on_tcp_closed);
    }
}

static void finish(struct run *x, int fault, const char *detail)
{
    if (x->ended)
        return;
    x->ended = true;
    x->r.fault = (uint8_t)fault;
    x->r.status = 0;
    x->r.total_ms = (uint32_t)(clock_mono_ms() - x->began_ms);
    health_detail(&x->r, "%s", detail);
    x->closing++;
    loop_timer_close(&x->limit, on_timer_closed);
    close_tcp(x);
    if (x->resolving)
        (void)uv_cancel((uv_req_t *)&x->resolve); /* its callback comes in any case */
}

static void on_limit(void *ctx)
{
    struct run *x = ctx;
    if (!x->asked)
        finish(x, HEALTH_FAULT_RESOLVE, "the url is not of the form tcp://host:port, or names cannot be resolved");
    else
        finish(x, HEALTH_FAULT_TIMEOUT,
               x->resolving ? "the name was not resolved in time" : "nobody accepted in time");
}

static void on_connect(uv_connect_t *c, int status)
{
    struct run *x = c->data;
    if (x->ended)
        return;
    if (status == 0) {
        finish(x, HEALTH_FAULT_NONE, "");
        return;
    }
    x->r.status = (uint16_t)-status; /* for the text, if this was the last address; finish() clears it */
    close_tcp(x);                    /* a socket is good for one try; the next address comes when it is closed */
}

static void try_next(struct run *x, int last_error)
{
    int rc = -last_error;
    while (x->next && !x->ended) {
        struct addrinfo *a = x->next;
        x->next = a->ai_next;
        if ((rc = uv_tcp_init(&x->loop->uv, &x->tcp)) != 0)
            break;
        x->open = true;
        x->tcp.data = x;
        x->connect.data = x;
        rc = uv_tcp_connect(&x->connect, &x->tcp, a->ai_addr, on_connect);
        if (rc != 0) {
            x->r.status = (uint16_t)-rc;
            close_tcp(x);
        }
        return;
    }
    char text[HEALTH_DETAIL_MAX];
    snprintf(text, sizeof text, "%.60s:%s: %s", x->host, x->port, rc ? uv_strerror(rc) : "no address");
    finish(x, HEALTH_FAULT_CONNECT, text);
}

static void on_resolved(uv_getaddrinfo_t *q, int status, struct addrinfo *list)
{
    struct run *x = q->data;
    x->resolving = false;
    x->list = x->next = list;
    if (x->ended) {
        settle(x);
    } else if (status != 0 || !list) {
        char text[HEALTH_DETAIL_MAX];
        snprintf(text, sizeof text, "%.60s: %s", x->host, status ? uv_strerror(status) : "no address");
        finish(x, HEALTH_FAULT_RESOLVE, text);
    } else {
        try_next(x, 0);
    }
}

/* tcp://host:port, tcp://[v6]:port. */
static int split(const char *url, char host[static HOST_MAX], char port[static 8])
{
    const char *at = strncmp(url, "tcp://", 6) == 0 ? url + 6 : url;
    const char *colon = strrchr(at, ':');
    if (!colon)
        return -1;
    const char *from = at, *to = colon;
    if (*from == '[' && to > from + 1 && to[-1] == ']') {
        from++;
        to--;
    }
    size_t n = (size_t)(to - from), digits = strspn(colon + 1, "0123456789");
    if (n == 0 || n >= HOST_MAX || digits == 0 || digits > 5 ||
        strspn(colon + 1 + digits, "/") != strlen(colon + 1 + digits))
        return -1;
    memcpy(host, from, n);
    host[n] = 0;
    memcpy(port, colon + 1, digits);
    port[digits] = 0;
    return 0;
}

static void *start(const struct health_probe_env *env, struct health_probe_conf *conf, health_probe_done done,
                   void *ctx)
{
    struct run *x = calloc(1, sizeof *x);
    if (!x)
        return NULL;
    x->loop = env->loop;
    x->done = done;
    x->ctx = ctx;
    x->began_ms = clock_mono_ms();
    x->r.probe = HEALTH_PROBE_TCP;
    x->resolve.data = x;
    const struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_NUMERICSERV};
    x->asked = split(conf->set->url, x->host, x->port) == 0 &&
               uv_getaddrinfo(&env->loop->uv, &x->resolve, on_resolved, x->host, x->port, &hints) == 0;
    x->resolving = x->asked;
    loop_timer_init(env->loop, &x->limit, on_limit, x);
    loop_timer_start(&x->limit, x->asked ? conf->set->timeout_ms : 0, 0);
    return x;
}

static void cancel(void *run)
{
    finish(run, HEALTH_FAULT_CANCELLED, "broken off");
}

const struct health_probe health_probe_tcp = {.kind = HEALTH_PROBE_TCP, .start = start, .cancel = cancel};
