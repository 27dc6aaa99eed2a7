/* probe_tcp.c - a connection is accepted, and perhaps what is said on it is as expected.
 *
 * The happy path: resolve -> connect to each address in turn until one accepts -> send -> receive until it matches -> close. The
 * time-out covers all of it. What has come is looked at whenever something comes, but at most every few milliseconds: a peer that sends
 * byte by byte must not cost a match for each. */
#include "common/clock.h"
#include "common/escape.h"
#include "common/hostport.h"
#include "health/health_expect.h"
#include <netdb.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#define RECEIVE_MAX 65536
#define LOOK_MS     10

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
    char host[HOSTPORT_HOST_MAX], port[8];
    /* the talk */
    struct health_expect *expect; /* the target's; its `expect` is matched with what comes */
    struct loop_timer look;       /* what has come was not looked at yet */
    int64_t looked_ms;
    uv_write_t write;
    char *out, *in; /* NULL = nothing to send, nothing expected */
    size_t out_len, in_len;
    bool connected;
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
    free(x->out);
    free(x->in);
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
    x->closing += 2;
    loop_timer_close(&x->limit, on_timer_closed);
    loop_timer_close(&x->look, on_timer_closed);
    close_tcp(x);
    if (x->resolving)
        (void)uv_cancel((uv_req_t *)&x->resolve); /* its callback comes in any case */
}

/* ---- the talk ---- */

__attribute__((format(printf, 3, 4))) static void finish_with(struct run *x, int fault, const char *fmt, ...)
{
    char text[2 * HEALTH_DETAIL_MAX];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    finish(x, fault, text);
}

/* Ends the run if what has come is enough, or if looking at it costs too much. */
static void look(struct run *x)
{
    const struct health_expect_pattern *p = &x->expect->expect;
    if (x->ended || !x->in)
        return;
    loop_timer_stop(&x->look);
    x->looked_ms = clock_mono_ms();
    enum match_result found = match_run(p->match, x->in, x->in_len);
    if (found == MATCH_YES)
        finish(x, HEALTH_FAULT_NONE, "");
    else if (found == MATCH_LIMIT)
        finish_with(x, HEALTH_FAULT_MISMATCH, "expect `%.40s`: %s", p->text, match_why(p->match));
    else if (x->in_len == RECEIVE_MAX)
        finish_with(x, HEALTH_FAULT_MISMATCH, "the first %d bytes do not match `%.40s`", RECEIVE_MAX, p->text);
}

static void on_look(void *ctx)
{
    look(ctx);
}

static void on_room(uv_handle_t *h, size_t suggested, uv_buf_t *buf)
{
    struct run *x = h->data;
    (void)suggested;
    *buf = uv_buf_init(x->in + x->in_len, (unsigned)(RECEIVE_MAX - x->in_len));
}

static void on_read(uv_stream_t *stream, ssize_t n, const uv_buf_t *buf)
{
    struct run *x = stream->data;
    (void)buf;
    if (x->ended || n == 0)
        return;
    if (n > 0) {
        x->in_len += (size_t)n;
        if (x->in_len == RECEIVE_MAX || clock_mono_ms() - x->looked_ms >= LOOK_MS)
            look(x);
        else if (!loop_timer_active(&x->look))
            loop_timer_start(&x->look, LOOK_MS, 0);
        return;
    }
    look(x);
    if (x->ended)
        return;
    if (n != UV_EOF)
        finish_with(x, HEALTH_FAULT_CUT, "%s, after %zu bytes", uv_strerror((int)n), x->in_len);
    else
        finish_with(x, HEALTH_FAULT_MISMATCH, "the end came after %zu bytes (%.*s) that do not match `%.40s`",
                    x->in_len, (int)(x->in_len < 24 ? x->in_len : 24), x->in, x->expect->expect.text);
}

static void on_written(uv_write_t *w, int status)
{
    struct run *x = w->data;
    if (x->ended)
        return;
    if (status != 0)
        finish_with(x, HEALTH_FAULT_CUT, "could not send: %s", uv_strerror(status));
    else if (!x->in)
        finish(x, HEALTH_FAULT_NONE, "");
}

static void talk(struct run *x)
{
    x->connected = true;
    if (!x->in && !x->out) {
        finish(x, HEALTH_FAULT_NONE, "");
        return;
    }
    int rc = x->in ? uv_read_start((uv_stream_t *)&x->tcp, on_room, on_read) : 0;
    if (rc == 0 && x->out) {
        uv_buf_t buf = uv_buf_init(x->out, (unsigned)x->out_len);
        x->write.data = x;
        rc = uv_write(&x->write, (uv_stream_t *)&x->tcp, &buf, 1, on_written);
    }
    if (rc != 0)
        finish(x, HEALTH_FAULT_CONNECT, uv_strerror(rc));
}

/* ---- the connection ---- */

static void on_limit(void *ctx)
{
    struct run *x = ctx;
    if (x->expect->wrong)
        finish(x, HEALTH_FAULT_MISMATCH, x->expect->wrong);
    else if (x->connected && x->in)
        look(x);
    if (x->ended)
        return;
    if (x->connected)
        finish_with(x, HEALTH_FAULT_TIMEOUT, "%zu bytes came in time%s", x->in_len,
                    x->in_len > 0 ? ", and do not match" : "");
    else if (!x->asked)
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
        talk(x);
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

/* tcp://host:port, tcp://[v6]:port; slashes at the end do no harm. */
static int split(struct run *x, const char *url)
{
    char at[HOSTPORT_HOST_MAX + 16];
    int port;
    int n = snprintf(at, sizeof at, "%s", strncasecmp(url, "tcp://", 6) == 0 ? url + 6 : url);
    if (n < 0 || (size_t)n >= sizeof at)
        return -1;
    while (n > 0 && at[n - 1] == '/')
        at[--n] = 0;
    if (hostport_split(at, 0, x->host, &port))
        return -1;
    snprintf(x->port, sizeof x->port, "%d", port);
    return 0;
}

/* False: memory is out. */
static bool prepare_talk(struct run *x, const struct set_probe *set)
{
    struct err e = {""};
    if (*set->send) {
        if (!(x->out = malloc(strlen(set->send))))
            return false;
        if (escape_decode(set->send, x->out, &x->out_len, &e))
            health_expect_refuse(x->expect, "send", e.text);
    }
    if (x->expect->expect.match && !(x->in = malloc(RECEIVE_MAX)))
        return false;
    return true;
}

static void *start(const struct health_probe_env *env, struct health_probe_conf *conf, health_probe_done done,
                   void *ctx)
{
    struct run *x = calloc(1, sizeof *x);
    if (!x)
        return NULL;
    x->expect = health_expect_of(conf, MATCH_BYTES);
    if (!x->expect || !prepare_talk(x, conf->set)) {
        free(x->out);
        free(x);
        return NULL;
    }
    x->loop = env->loop;
    x->done = done;
    x->ctx = ctx;
    x->began_ms = clock_mono_ms();
    x->r.probe = HEALTH_PROBE_TCP;
    x->resolve.data = x;
    const struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_NUMERICSERV};
    x->asked = !x->expect->wrong && split(x, conf->set->url) == 0 &&
               uv_getaddrinfo(&env->loop->uv, &x->resolve, on_resolved, x->host, x->port, &hints) == 0;
    x->resolving = x->asked;
    loop_timer_init(env->loop, &x->limit, on_limit, x);
    loop_timer_init(env->loop, &x->look, on_look, x);
    loop_timer_start(&x->limit, x->asked ? conf->set->timeout_ms : 0, 0);
    return x;
}

static void cancel(void *run)
{
    finish(run, HEALTH_FAULT_CANCELLED, "broken off");
}

const struct health_probe health_probe_tcp = {
    .kind = HEALTH_PROBE_TCP, .start = start, .cancel = cancel, .forget = health_expect_forget};
