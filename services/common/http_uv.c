/* http_uv.c - curl's multi interface on the loop: its sockets by uv_poll, its one timer by a loop timer.
 *
 * Finished calls are looked for after *every* socket action, not only when the count of running ones falls: completions that a timer
 * brings would be lost otherwise. Nothing here calls curl from inside one of its own callbacks.
 *
 * A connection that is kept stays watched for reading between two calls: to take it out of the kernel's set and put it in again would be
 * half of the system calls of a small request. Should it become readable while nobody uses it (the server has closed it), watching ends; curl
 * finds out when it wants to use it. Sockets that curl makes for itself, for its resolver, are watched only as long as it says. */
#include "common/http_priv.h"
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#define KEPT_MIN 64
#define KEPT_MAX 1024 /* curl looks through all of them for the oldest, and with TLS each is some 30 KB */

struct http_poll {
    uv_poll_t poll;
    struct http *http;
    curl_socket_t fd;
    int events;      /* watched for; 0 = not watched */
    bool wanted;     /* curl asks for it at present */
    bool connection; /* one that has answered: we hear of its end by http_uv_closing */
};

static void take_finished(struct http *h)
{
    CURLMsg *m;
    int left;
    while ((m = curl_multi_info_read(h->multi, &left))) {
        if (m->msg != CURLMSG_DONE)
            continue;
        CURLcode code = m->data.result; /* m is gone once the handle is removed */
        char *priv = NULL;
        curl_easy_getinfo(m->easy_handle, CURLINFO_PRIVATE, &priv);
        http_ended((struct http_call *)(void *)priv, code);
    }
}

static void act(struct http *h, curl_socket_t fd, int flags)
{
    int running;
    (void)curl_multi_socket_action(h->multi, fd, flags, &running);
    take_finished(h);
}

static void on_poll(uv_poll_t *p, int status, int events)
{
    struct http_poll *x = p->data;
    if (!x->wanted) {
        uv_poll_stop(p);
        x->events = 0;
        return;
    }
    /* An error is for curl to find by reading and writing: told of it, it would end the call where it can still begin anew, when a kept
     * connection was ended by the other side at the moment of its use. */
    int flags = status < 0 ? CURL_CSELECT_IN | CURL_CSELECT_OUT : 0;
    if (events & UV_READABLE)
        flags |= CURL_CSELECT_IN;
    if (events & UV_WRITABLE)
        flags |= CURL_CSELECT_OUT;
    act(x->http, x->fd, flags);
}

static void on_timer(void *ctx)
{
    act(ctx, CURL_SOCKET_TIMEOUT, 0);
}

/* The next turn of the loop: a new call need not wait for the timer's millisecond. */
static void on_soon(void *ctx)
{
    struct http *h = ctx;
    h->soon = false;
    if (h->multi)
        act(h, CURL_SOCKET_TIMEOUT, 0);
    else
        http_closed_part(h);
}

static void poll_closed(uv_handle_t *p)
{
    struct http_poll *x = p->data;
    struct http *h = x->http;
    free(x);
    h->polls_open--;
    http_closed_part(h);
}

static struct http_poll *poll_of(const struct http *h, curl_socket_t fd)
{
    return fd >= 0 && (size_t)fd < h->polls_cap ? h->polls[fd] : NULL;
}

static void drop_poll(struct http_poll *x)
{
    struct http *h = x->http;
    h->polls[x->fd] = NULL;
    uv_poll_stop(&x->poll);
    uv_close((uv_handle_t *)&x->poll, poll_closed);
}

static struct http_poll *add_poll(struct http *h, curl_socket_t fd)
{
    if ((size_t)fd >= h->polls_cap) {
        size_t cap = h->polls_cap ? h->polls_cap : 64;
        while (cap <= (size_t)fd)
            cap *= 2;
        struct http_poll **more = realloc(h->polls, cap * sizeof(struct http_poll *));
        if (!more)
            return NULL;
        memset(more + h->polls_cap, 0, (cap - h->polls_cap) * sizeof(struct http_poll *));
        h->polls = more;
        h->polls_cap = cap;
    }
    struct http_poll *x = calloc(1, sizeof *x);
    if (!x || uv_poll_init_socket(&h->loop->uv, &x->poll, fd) < 0) {
        free(x);
        return NULL;
    }
    x->poll.data = x;
    x->http = h;
    x->fd = fd;
    h->polls[fd] = x;
    h->polls_open++;
    return x;
}

/* From the first line of an answer on curl says when it closes the socket. A connection that comes to nothing it closes without a word. */
void http_uv_answers(struct http_call *c)
{
    struct http_poll *x = poll_of(c->http, c->fd);
    if (x && x->wanted)
        x->connection = true;
}

void http_uv_closing(struct http *h, curl_socket_t fd)
{
    struct http_poll *x = poll_of(h, fd);
    if (x)
        drop_poll(x);
}

static int on_socket(CURL *easy, curl_socket_t fd, int what, void *ctx, void *socket_ctx)
{
    struct http *h = ctx;
    struct http_poll *x = poll_of(h, fd);
    char *call = NULL;
    (void)socket_ctx;
    if (what == CURL_POLL_REMOVE) {
        if (x && !x->connection)
            drop_poll(x);
        else if (x)
            x->wanted = false;
        return 0;
    }
    if (!x && !(x = add_poll(h, fd)))
        return -1;
    x->wanted = true;
    if (curl_easy_getinfo(easy, CURLINFO_PRIVATE, &call) == CURLE_OK && call) {
        struct http_call *c = (struct http_call *)(void *)call;
        c->moved = c->moved || (c->fd != CURL_SOCKET_BAD && c->fd != fd);
        c->fd = fd;
    }
    int events = (what & CURL_POLL_IN ? UV_READABLE : 0) | (what & CURL_POLL_OUT ? UV_WRITABLE : 0);
    if (events == x->events) /* libuv would take it out and put it in again */
        return 0;
    x->events = events;
    return uv_poll_start(&x->poll, events, on_poll) < 0 ? -1 : 0;
}

static int on_timeout(CURLM *multi, long timeout_ms, void *ctx)
{
    struct http *h = ctx;
    (void)multi;
    if (timeout_ms < 0) {
        loop_timer_stop(&h->timer);
        return 0;
    }
    /* Our clock counts milliseconds, curl's microseconds: asked a little too early it does nothing, and takes it that we ask again. So the
     * timer is never 0, and stays even where we ask earlier. */
    loop_timer_start(&h->timer, timeout_ms == 0 ? 1 : timeout_ms, 0);
    if (timeout_ms == 0 && !h->soon) {
        h->soon = true;
        loop_defer(h->loop, on_soon, h);
    }
    return 0;
}

static void timer_is_closed(void *ctx)
{
    struct http *h = ctx;
    h->timer_closed = true;
    http_closed_part(h);
}

void http_keep(struct http *h, size_t connections)
{
    struct rlimit files;
    size_t most = getrlimit(RLIMIT_NOFILE, &files) == 0 ? (size_t)files.rlim_cur / 4 : KEPT_MIN;
    most = most > KEPT_MAX ? KEPT_MAX : most < KEPT_MIN ? KEPT_MIN : most;
    size_t n = connections > most ? most : connections < KEPT_MIN ? KEPT_MIN : connections;
    curl_multi_setopt(h->multi, CURLMOPT_MAXCONNECTS, (long)n);
}

int http_uv_open(struct http *h, struct err *e)
{
    h->multi = curl_multi_init();
    if (!h->multi)
        return err_set(e, "http: curl has no memory for a multi handle");
    curl_multi_setopt(h->multi, CURLMOPT_SOCKETFUNCTION, on_socket);
    curl_multi_setopt(h->multi, CURLMOPT_SOCKETDATA, h);
    curl_multi_setopt(h->multi, CURLMOPT_TIMERFUNCTION, on_timeout);
    curl_multi_setopt(h->multi, CURLMOPT_TIMERDATA, h);
    http_keep(h, KEPT_MIN);
    loop_timer_init(h->loop, &h->timer, on_timer, h);
    return 0;
}

void http_uv_close(struct http *h)
{
    curl_multi_cleanup(h->multi); /* drops the kept connections: on_socket sees them go */
    h->multi = NULL;
    for (size_t fd = 0; fd < h->polls_cap; fd++) /* none is left by today's libraries */
        if (h->polls[fd])
            drop_poll(h->polls[fd]);
    loop_timer_close(&h->timer, timer_is_closed);
}
