/* http_uv.c - curl's multi interface on the loop: its sockets by uv_poll, its one timer by a loop timer.
 *
 * Finished calls are looked for after *every* socket action, not only when the count of running ones falls: completions that a timer
 * brings would be lost otherwise. Nothing here calls curl from inside one of its own callbacks. */
#include "common/http_priv.h"
#include <stdlib.h>

struct http_poll {
    uv_poll_t poll;
    struct http *http;
    struct http_poll *prev, *next;
    curl_socket_t fd;
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

static void poll_closed(uv_handle_t *p)
{
    struct http_poll *x = p->data;
    struct http *h = x->http;
    free(x);
    h->polls_open--;
    http_closed_part(h);
}

static void drop_poll(struct http_poll *x)
{
    struct http *h = x->http;
    if (x->prev)
        x->prev->next = x->next;
    else
        h->polls = x->next;
    if (x->next)
        x->next->prev = x->prev;
    uv_poll_stop(&x->poll);
    uv_close((uv_handle_t *)&x->poll, poll_closed);
}

static int on_socket(CURL *easy, curl_socket_t fd, int what, void *ctx, void *socket_ctx)
{
    struct http *h = ctx;
    struct http_poll *x = socket_ctx;
    (void)easy;
    if (what == CURL_POLL_REMOVE) {
        if (x) {
            (void)curl_multi_assign(h->multi, fd, NULL);
            drop_poll(x);
        }
        return 0;
    }
    if (!x) {
        x = calloc(1, sizeof *x);
        if (!x || uv_poll_init_socket(&h->loop->uv, &x->poll, fd) < 0) {
            free(x);
            return -1;
        }
        x->poll.data = x;
        x->http = h;
        x->fd = fd;
        x->next = h->polls;
        if (x->next)
            x->next->prev = x;
        h->polls = x;
        h->polls_open++;
        (void)curl_multi_assign(h->multi, fd, x);
    }
    int events = (what & CURL_POLL_IN ? UV_READABLE : 0) | (what & CURL_POLL_OUT ? UV_WRITABLE : 0);
    return uv_poll_start(&x->poll, events, on_poll) < 0 ? -1 : 0;
}

static int on_timeout(CURLM *multi, long timeout_ms, void *ctx)
{
    struct http *h = ctx;
    (void)multi;
    if (timeout_ms < 0)
        loop_timer_stop(&h->timer);
    else
        loop_timer_start(&h->timer, timeout_ms == 0 ? 1 : timeout_ms, 0); /* 0 would ask to be called from inside */
    return 0;
}

static void timer_is_closed(void *ctx)
{
    struct http *h = ctx;
    h->timer_closed = true;
    http_closed_part(h);
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
    curl_multi_setopt(h->multi, CURLMOPT_MAXCONNECTS, 64L); /* kept connections */
    loop_timer_init(h->loop, &h->timer, on_timer, h);
    return 0;
}

void http_uv_close(struct http *h)
{
    curl_multi_cleanup(h->multi); /* drops the kept connections: on_socket sees them go */
    h->multi = NULL;
    while (h->polls) /* none is left by today's libraries */
        drop_poll(h->polls);
    loop_timer_close(&h->timer, timer_is_closed);
}
