/* http_prober.h - the floor for HTTP probes: libcurl's multi interface on libuv and nothing else. A process of its own.
 *
 * One easy handle per target, its options set once; a timer per target, started at a random moment. No verdicts, no evidence, no
 * reports, no jitter: what any prober built on the same two libraries has to pay. */
#ifndef REDOUBT_TESTS_HTTP_PROBER_H
#define REDOUBT_TESTS_HTTP_PROBER_H

#include "http_server.h"
#include <curl/curl.h>
#include <uv.h>

struct prober {
    uv_loop_t *loop;
    CURLM *multi;
    uv_timer_t timer;
};
struct prober_target {
    struct prober *p;
    CURL *easy;
    uv_timer_t timer;
    bool busy;
};

static void prober_finished(struct prober *p)
{
    CURLMsg *m;
    int left;
    while ((m = curl_multi_info_read(p->multi, &left))) {
        CURL *easy = m->easy_handle;
        char *t = NULL;
        long status = 0;
        if (m->msg != CURLMSG_DONE)
            continue;
        curl_easy_getinfo(easy, CURLINFO_PRIVATE, &t);
        curl_easy_getinfo(easy, CURLINFO_RESPONSE_CODE, &status);
        if (status != 200)
            fprintf(stderr, "prober: %s, status %ld\n", curl_easy_strerror(m->data.result), status);
        curl_multi_remove_handle(p->multi, easy);
        ((struct prober_target *)(void *)t)->busy = false;
    }
}

static void prober_on_poll(uv_poll_t *h, int status, int events)
{
    struct prober *p = h->data;
    uv_os_fd_t fd;
    int running, flags = status < 0 ? CURL_CSELECT_ERR : 0;
    uv_fileno((uv_handle_t *)h, &fd);
    flags |= (events & UV_READABLE ? CURL_CSELECT_IN : 0) | (events & UV_WRITABLE ? CURL_CSELECT_OUT : 0);
    curl_multi_socket_action(p->multi, fd, flags, &running);
    prober_finished(p);
}

static void prober_on_timer(uv_timer_t *h)
{
    struct prober *p = h->data;
    int running;
    curl_multi_socket_action(p->multi, CURL_SOCKET_TIMEOUT, 0, &running);
    prober_finished(p);
}

static void prober_closed(uv_handle_t *h)
{
    free(h);
}

static int prober_on_socket(CURL *easy, curl_socket_t fd, int what, void *ctx, void *socket)
{
    struct prober *p = ctx;
    uv_poll_t *h = socket;
    (void)easy;
    if (what == CURL_POLL_REMOVE) {
        if (h) {
            uv_poll_stop(h);
            uv_close((uv_handle_t *)h, prober_closed);
            curl_multi_assign(p->multi, fd, NULL);
        }
        return 0;
    }
    if (!h) {
        if (!(h = malloc(sizeof *h)))
            abort();
        uv_poll_init_socket(p->loop, h, fd);
        h->data = p;
        curl_multi_assign(p->multi, fd, h);
    }
    uv_poll_start(h, (what & CURL_POLL_IN ? UV_READABLE : 0) | (what & CURL_POLL_OUT ? UV_WRITABLE : 0),
                  prober_on_poll);
    return 0;
}

static int prober_on_timeout(CURLM *m, long ms, void *ctx)
{
    struct prober *p = ctx;
    (void)m;
    if (ms < 0)
        uv_timer_stop(&p->timer);
    else
        uv_timer_start(&p->timer, prober_on_timer, ms == 0 ? 1 : (uint64_t)ms, 0);
    return 0;
}

static size_t prober_on_body(char *data, size_t size, size_t n, void *ctx)
{
    (void)data, (void)ctx;
    return size * n;
}

static void prober_on_due(uv_timer_t *h)
{
    struct prober_target *t = h->data;
    if (t->busy)
        return;
    t->busy = true;
    curl_multi_add_handle(t->p->multi, t->easy);
}

/* argv: TARGETS INTERVAL_MS PORT. Never returns. */
static int http_prober_main(char **argv)
{
    unsigned n = (unsigned)atoi(argv[0]), every_ms = (unsigned)atoi(argv[1]);
    static struct prober p;
    struct prober_target *targets = calloc(n, sizeof *targets);
    curl_global_init(CURL_GLOBAL_DEFAULT);
    p.loop = uv_default_loop();
    p.multi = curl_multi_init();
    uv_timer_init(p.loop, &p.timer);
    p.timer.data = &p;
    curl_multi_setopt(p.multi, CURLMOPT_SOCKETFUNCTION, prober_on_socket);
    curl_multi_setopt(p.multi, CURLMOPT_SOCKETDATA, &p);
    curl_multi_setopt(p.multi, CURLMOPT_TIMERFUNCTION, prober_on_timeout);
    curl_multi_setopt(p.multi, CURLMOPT_TIMERDATA, &p);
    curl_multi_setopt(p.multi, CURLMOPT_MAXCONNECTS, (long)n + 1);
    for (unsigned i = 0; targets && i < n; i++) {
        struct prober_target *t = &targets[i];
        char address[32], url[96];
        snprintf(url, sizeof url, "http://%s:%s/healthz", http_server_address(i, address), argv[2]);
        t->p = &p;
        t->easy = curl_easy_init();
        curl_easy_setopt(t->easy, CURLOPT_URL, url);
        curl_easy_setopt(t->easy, CURLOPT_PRIVATE, t);
        curl_easy_setopt(t->easy, CURLOPT_NOSIGNAL, 1L);
        curl_easy_setopt(t->easy, CURLOPT_PROXY, "");
        curl_easy_setopt(t->easy, CURLOPT_TIMEOUT_MS, 5000L);
        curl_easy_setopt(t->easy, CURLOPT_WRITEFUNCTION, prober_on_body);
        uv_timer_init(p.loop, &t->timer);
        t->timer.data = t;
        uv_timer_start(&t->timer, prober_on_due, (uint64_t)(rand() % (int)every_ms), every_ms);
    }
    return uv_run(p.loop, UV_RUN_DEFAULT);
}

#endif
