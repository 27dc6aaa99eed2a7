/* traffic_haproxy_line.c - one question to HAProxy's runtime API. It answers one line per connection and closes: the end of the stream is the end of the answer. */
#include "rollback/traffic_haproxy_line.h"
#include "common/err.h"
#include "common/hostport.h"
#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/un.h>

#define ANSWER_MAX (1024 * 1024)

struct traffic_line {
    union {
        uv_handle_t handle;
        uv_stream_t stream;
        uv_tcp_t tcp;
        uv_pipe_t pipe;
    } u;
    bool opened; /* u is a handle of the loop */
    struct loop *loop;
    struct loop_timer timer;
    uv_getaddrinfo_t lookup;
    uv_connect_t connect;
    uv_write_t write;
    unsigned held; /* handles and look-ups that still point here */
    bool over;
    char *line, *answer;
    size_t len, cap;
    char address[256];
    struct err wrong; /* of the address: said on the next turn */
    traffic_line_cb cb;
    void *ctx;
};

static void let_go(struct traffic_line *x)
{
    if (--x->held > 0)
        return;
    free(x->line);
    free(x->answer);
    free(x);
}

static void on_closed(uv_handle_t *h)
{
    let_go(h->data);
}

static void on_timer_closed(void *ctx)
{
    let_go(ctx);
}

static void end(struct traffic_line *x)
{
    x->over = true;
    if (x->opened)
        uv_close(&x->u.handle, on_closed);
    loop_timer_close(&x->timer, on_timer_closed);
}

static void finish(struct traffic_line *x, const char *error, bool lasting)
{
    if (x->over)
        return;
    end(x); /* frees later: the answer is there until then */
    x->cb(x->ctx, error ? "" : x->answer, error ? 0 : x->len, error, lasting);
}

static void fail(struct traffic_line *x, int status, const char *doing)
{
    struct err e;
    if (status == UV_ECANCELED)
        return; /* closed by us */
    if (status == UV_ENOENT || status == UV_ECONNREFUSED)
        err_set(&e,
                "nothing listens at %s (%s): is HAProxy running, and has its `global` section a `stats socket` there "
                "with `level admin`?",
                x->address, uv_strerror(status));
    else if (status == UV_EACCES || status == UV_EPERM)
        err_set(&e,
                "%s: %s: this service's user may not open it; set `mode`, `user` or `group` of the `stats socket`",
                x->address, uv_strerror(status));
    else
        err_set(&e, "%s: %s failed: %s", x->address, doing, uv_strerror(status));
    finish(x, e.text, status == UV_EACCES || status == UV_EPERM);
}

static void on_alloc(uv_handle_t *h, size_t wanted, uv_buf_t *b)
{
    struct traffic_line *x = h->data;
    (void)wanted;
    if (x->cap - x->len < 4096 && x->cap < ANSWER_MAX) {
        size_t cap = x->cap ? 2 * x->cap : 8192;
        char *more = realloc(x->answer, cap + 1);
        if (more) {
            x->answer = more;
            x->cap = cap;
        }
    }
    *b = uv_buf_init(x->answer ? x->answer + x->len : NULL, (unsigned)(x->cap - x->len));
}

static void on_read(uv_stream_t *h, ssize_t n, const uv_buf_t *b)
{
    struct traffic_line *x = h->data;
    (void)b;
    if (n == UV_ENOBUFS) {
        struct err e;
        err_set(&e, "%s answers with more than %d bytes: this is not HAProxy's runtime API", x->address, ANSWER_MAX);
        finish(x, e.text, true);
    } else if (n == UV_EOF) {
        if (!x->answer) {
            struct err e;
            err_set(&e,
                    "%s has closed the connection without an answer: is it HAProxy's runtime API (`stats socket`)?",
                    x->address);
            finish(x, e.text, false);
            return;
        }
        x->answer[x->len] = '\0';
        finish(x, NULL, false);
    } else if (n < 0) {
        fail(x, (int)n, "reading");
    } else {
        x->len += (size_t)n;
    }
}

static void on_written(uv_write_t *w, int status)
{
    struct traffic_line *x = w->handle->data;
    if (status < 0)
        fail(x, status, "writing");
}

static void on_connected(uv_connect_t *c, int status)
{
    struct traffic_line *x = c->handle->data;
    if (x->over)
        return;
    if (status < 0) {
        fail(x, status, "connecting");
        return;
    }
    uv_buf_t b = uv_buf_init(x->line, (unsigned)strlen(x->line));
    int r = uv_read_start(&x->u.stream, on_alloc, on_read);
    if (r == 0)
        r = uv_write(&x->write, &x->u.stream, &b, 1, on_written);
    if (r < 0)
        fail(x, r, "writing");
}

static void on_looked_up(uv_getaddrinfo_t *q, int status, struct addrinfo *found)
{
    struct traffic_line *x = q->data;
    if (!x->over) {
        int r = status;
        if (r == 0)
            r = uv_tcp_connect(&x->connect, &x->u.tcp, found->ai_addr, on_connected);
        if (r < 0)
            fail(x, r, status < 0 ? "looking up the name" : "connecting");
    }
    uv_freeaddrinfo(found);
    let_go(x);
}

static void on_time(void *ctx)
{
    struct traffic_line *x = ctx;
    if (*x->wrong.text) {
        finish(x, x->wrong.text, true);
        return;
    }
    struct err e;
    err_set(&e, "%s does not answer in time: is it HAProxy's runtime API, and is the machine overloaded?",
            x->address);
    finish(x, e.text, false);
}

static void opened(struct traffic_line *x, int r)
{
    assert(r == 0 && "a handle of libuv");
    (void)r;
    x->opened = true;
    x->u.handle.data = x;
    x->held++;
}

static int begin(struct traffic_line *x)
{
    char host[HOSTPORT_HOST_MAX], port[16];
    int number;
    if (strncmp(x->address, "unix://", 7) == 0) {
        const char *path = x->address + 7;
        if (strlen(path) >= sizeof((struct sockaddr_un *)0)->sun_path)
            return err_set(&x->wrong, "%s: the path is longer than the system takes (%zu bytes)", x->address,
                           sizeof((struct sockaddr_un *)0)->sun_path - 1);
        opened(x, uv_pipe_init(&x->loop->uv, &x->u.pipe, 0));
        uv_pipe_connect(&x->connect, &x->u.pipe, path, on_connected);
        return 0;
    }
    if (strncmp(x->address, "tcp://", 6) != 0 || hostport_split(x->address + 6, 0, host, &number) < 0)
        return err_set(&x->wrong, "%s: not an address; allowed: unix:///path or tcp://host:port", x->address);
    snprintf(port, sizeof port, "%d", number);
    opened(x, uv_tcp_init(&x->loop->uv, &x->u.tcp));
    const struct addrinfo hints = {.ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM};
    x->lookup.data = x;
    int r = uv_getaddrinfo(&x->loop->uv, &x->lookup, on_looked_up, host, port, &hints);
    if (r < 0)
        return err_set(&x->wrong, "%s: looking up the name failed: %s", x->address, uv_strerror(r));
    x->held++;
    return 0;
}

struct traffic_line *traffic_line_ask(struct loop *l, const char *address, const char *line, int64_t timeout_ms,
                                      traffic_line_cb cb, void *ctx)
{
    struct traffic_line *x = calloc(1, sizeof *x);
    assert(x && "out of memory for a few words");
    x->loop = l;
    x->cb = cb;
    x->ctx = ctx;
    x->line = malloc(strlen(line) + 2);
    assert(x->line && "out of memory for a few words");
    sprintf(x->line, "%s\n", line);
    snprintf(x->address, sizeof x->address, "%s", address);
    loop_timer_init(l, &x->timer, on_time, x);
    x->held = 1;
    loop_timer_start(&x->timer, begin(x) < 0 ? 0 : timeout_ms, 0);
    return x;
}

void traffic_line_cancel(struct traffic_line *x)
{
    if (x && !x->over)
        end(x);
}
