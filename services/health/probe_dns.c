/* probe_dns.c - a name is looked up, and one of its records is as expected.
 *
 * The happy path: a question by c-ares, whose sockets and timer are on the loop -> its answer -> the records are compared. One channel
 * for each probe: a port of its own for each question, nothing remembered, nothing to renew when the system's servers change. It
 * cannot be destroyed from inside of its own callback, so the end comes with the closing of the timers. */
#define CARES_NO_DEPRECATED /* newer versions prefer another interface, which older ones lack */
#include "common/clock.h"
#include "common/hostport.h"
#include "health/health_dns.h"
#include "health/health_expect.h"
#include <ares.h>
#include <arpa/nameser.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PORT  53
#define TRIES 3

struct run;
struct socket_poll {
    uv_poll_t poll;
    struct run *run;
    ares_socket_t fd;
    struct socket_poll *next;
};

struct run {
    struct loop *loop;
    health_probe_done done;
    void *ctx;
    int64_t began_ms;
    int type;
    struct health_expect *expect; /* the target's */
    ares_channel channel;
    bool made; /* the channel is there */
    struct loop_timer limit, wake;
    struct socket_poll *polls;
    bool ended;  /* the result is known */
    int closing; /* handles whose close callback is still to come */
    struct health_result r;
    const char *wrong; /* it could not begin */
};

static const struct {
    int status;
    uint8_t fault;
    const char *text;
} ends[] = {
    {ARES_ENODATA, HEALTH_FAULT_RESOLVE, "the name has no record of this kind"},
    {ARES_ENOTFOUND, HEALTH_FAULT_RESOLVE, "no such name (NXDOMAIN)"},
    {ARES_EBADNAME, HEALTH_FAULT_RESOLVE, "the name is malformed"},
    {ARES_ESERVFAIL, HEALTH_FAULT_OVERLOAD, "the server failed (SERVFAIL)"},
    {ARES_EREFUSED, HEALTH_FAULT_CONNECT, "the server refused (REFUSED)"},
    {ARES_ENOTIMP, HEALTH_FAULT_CONNECT, "the server does not know such questions (NOTIMP)"},
    {ARES_EFORMERR, HEALTH_FAULT_CONNECT, "the server could not read the question (FORMERR)"},
    {ARES_ECONNREFUSED, HEALTH_FAULT_CONNECT, "no server answered"},
    {ARES_ETIMEOUT, HEALTH_FAULT_TIMEOUT, "no answer in time"},
    {ARES_EBADRESP, HEALTH_FAULT_SCHEMA, "the answer is malformed"},
};

/* All handles are closed: nobody knows of the memory any more. */
static void settle(struct run *x)
{
    if (x->closing > 0)
        return;
    struct health_result r = x->r;
    health_probe_done done = x->done;
    void *ctx = x->ctx;
    free(x);
    done(ctx, &r);
}

static void on_timer_closed(void *ctx)
{
    struct run *x = ctx;
    if (x->made) { /* nothing of c-ares is on the stack; its sockets are closed by this */
        x->made = false;
        ares_destroy(x->channel);
    }
    x->closing--;
    settle(x);
}

static void finish(struct run *x, int fault, const char *detail)
{
    if (x->ended)
        return;
    x->ended = true;
    x->r.fault = (uint8_t)fault;
    x->r.total_ms = (uint32_t)(clock_mono_ms() - x->began_ms);
    health_detail(&x->r, "%s", detail);
    x->closing += 2;
    loop_timer_close(&x->wake, on_timer_closed);
    loop_timer_close(&x->limit, on_timer_closed);
}

static void on_limit(void *ctx)
{
    struct run *x = ctx;
    if (x->wrong)
        finish(x, x->expect->wrong ? HEALTH_FAULT_MISMATCH : HEALTH_FAULT_CONNECT, x->wrong);
    else
        finish(x, HEALTH_FAULT_TIMEOUT, "no answer in time");
}

/* ---- c-ares on the loop ---- */

static void arm(struct run *x)
{
    struct timeval tv;
    if (x->ended)
        return;
    struct timeval *left = ares_timeout(x->channel, NULL, &tv);
    if (left)
        loop_timer_start(&x->wake, left->tv_sec * 1000 + left->tv_usec / 1000 + 1, 0);
    else
        loop_timer_stop(&x->wake);
}

static void on_wake(void *ctx)
{
    struct run *x = ctx;
    if (x->ended)
        return;
    ares_process_fd(x->channel, ARES_SOCKET_BAD, ARES_SOCKET_BAD);
    arm(x);
}

static void on_poll(uv_poll_t *p, int status, int events)
{
    struct socket_poll *s = p->data;
    struct run *x = s->run;
    if (x->ended) {
        uv_poll_stop(p);
        return;
    }
    if (status < 0) /* c-ares finds out by reading and writing */
        events = UV_READABLE | UV_WRITABLE;
    ares_process_fd(x->channel, events & UV_READABLE ? s->fd : ARES_SOCKET_BAD,
                    events & UV_WRITABLE ? s->fd : ARES_SOCKET_BAD);
    arm(x);
}

static void on_poll_closed(uv_handle_t *h)
{
    struct socket_poll *s = h->data;
    struct run *x = s->run;
    free(s);
    x->closing--;
    if (x->ended && !x->made)
        settle(x);
}

static void on_socket(void *ctx, ares_socket_t fd, int readable, int writable)
{
    struct run *x = ctx;
    struct socket_poll **at = &x->polls, *s;
    while (*at && (*at)->fd != fd)
        at = &(*at)->next;
    s = *at;
    if (!readable && !writable) {
        if (s) {
            *at = s->next;
            x->closing++;
            uv_poll_stop(&s->poll);
            uv_close((uv_handle_t *)&s->poll, on_poll_closed);
        }
        return;
    }
    if (!s) {
        s = calloc(1, sizeof *s);
        if (!s || uv_poll_init_socket(&x->loop->uv, &s->poll, fd) < 0) {
            free(s); /* nobody will look at it: the time-out ends the probe */
            return;
        }
        s->poll.data = s;
        s->run = x;
        s->fd = fd;
        s->next = x->polls;
        x->polls = s;
    }
    (void)uv_poll_start(&s->poll, (readable ? UV_READABLE : 0) | (writable ? UV_WRITABLE : 0), on_poll);
}

/* ---- the answer ---- */

struct seen {
    struct health_expect *expect;
    enum match_result found;
    char text[48]; /* the first, for people */
};

static void on_record(void *ctx, const char *text, size_t len)
{
    struct seen *s = ctx;
    if (!*s->text)
        snprintf(s->text, sizeof s->text, "%s", text);
    if (s->found == MATCH_NO)
        s->found = s->expect->expect.match ? match_run(s->expect->expect.match, text, len) : MATCH_YES;
}

static void on_answer(void *ctx, int status, int timeouts, unsigned char *data, int len)
{
    struct run *x = ctx;
    char text[2 * HEALTH_DETAIL_MAX];
    (void)timeouts;
    if (x->ended)
        return;
    if (status != ARES_SUCCESS) {
        for (size_t i = 0; i < sizeof ends / sizeof *ends; i++) {
            if (ends[i].status == status) {
                finish(x, ends[i].fault, ends[i].text);
                return;
            }
        }
        finish(x, HEALTH_FAULT_CONNECT, ares_strerror(status));
        return;
    }
    struct seen s = {.expect = x->expect};
    int n = health_dns_read(data, len > 0 ? (size_t)len : 0, x->type, on_record, &s);
    if (n < 0) {
        finish(x, HEALTH_FAULT_SCHEMA, "the answer is malformed");
    } else if (n == 0) {
        finish(x, HEALTH_FAULT_RESOLVE, "the name has no record of this kind");
    } else if (s.found == MATCH_YES) {
        finish(x, HEALTH_FAULT_NONE, "");
    } else {
        if (s.found == MATCH_LIMIT)
            snprintf(text, sizeof text, "expect `%.40s`: %s", x->expect->expect.text,
                     match_why(x->expect->expect.match));
        else
            snprintf(text, sizeof text, "none of %d records matches `%.40s`; the first is %s", n,
                     x->expect->expect.text, s.text);
        finish(x, HEALTH_FAULT_MISMATCH, text);
    }
}

/* ---- the start ---- */

static void init_library(void)
{
    (void)ares_library_init(ARES_LIB_INIT_ALL);
}

/* NULL, or what is wrong. */
static const char *open_channel(struct run *x, const struct set_probe *set)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    (void)pthread_once(&once, init_library);
    char host[HOSTPORT_HOST_MAX], csv[HOSTPORT_HOST_MAX + 16];
    int port;
    int64_t try_ms = set->timeout_ms / TRIES;
    char lookups[] = "b"; /* servers only: no /etc/hosts */
    struct ares_options o = {
        /* Of a server that is named, the refusal is the result; of the system's, the next one is asked. */
        .flags = ARES_FLAG_NOSEARCH | ARES_FLAG_NOALIASES | (*set->server ? ARES_FLAG_NOCHECKRESP : 0),
        .timeout = (int)(try_ms > 1 ? try_ms : 1),
        .tries = TRIES,
        .lookups = lookups,
        .sock_state_cb = on_socket,
        .sock_state_cb_data = x,
    };
    int rc = ares_init_options(&x->channel, &o,
                               ARES_OPT_FLAGS | ARES_OPT_TIMEOUTMS | ARES_OPT_TRIES | ARES_OPT_LOOKUPS |
                                   ARES_OPT_SOCK_STATE_CB);
    if (rc != ARES_SUCCESS)
        return ares_strerror(rc);
    x->made = true;
    if (!*set->server)
        return NULL;
    if (hostport_split(set->server, PORT, host, &port))
        return "the server is not of the form address or address:port";
    snprintf(csv, sizeof csv, strchr(host, ':') ? "[%s]:%d" : "%s:%d", host, port);
    return ares_set_servers_ports_csv(x->channel, csv) == ARES_SUCCESS ? NULL : "the server is not an address";
}

static void *start(const struct health_probe_env *env, struct health_probe_conf *conf, health_probe_done done,
                   void *ctx)
{
    struct run *x = calloc(1, sizeof *x);
    struct health_expect *expect = health_expect_of(conf, MATCH_TEXT);
    if (!x || !expect) {
        free(x);
        return NULL;
    }
    x->loop = env->loop;
    x->done = done;
    x->ctx = ctx;
    x->began_ms = clock_mono_ms();
    x->type = health_dns_type(conf->set->record);
    x->expect = expect;
    x->r.probe = HEALTH_PROBE_DNS;
    loop_timer_init(env->loop, &x->limit, on_limit, x);
    loop_timer_init(env->loop, &x->wake, on_wake, x);
    x->wrong = expect->wrong ? expect->wrong : open_channel(x, conf->set);
    loop_timer_start(&x->limit, x->wrong ? 0 : conf->set->timeout_ms, 0);
    if (!x->wrong) {
        ares_query(x->channel, conf->set->query, ns_c_in, x->type, on_answer, x);
        arm(x);
    }
    return x;
}

static void cancel(void *run)
{
    finish(run, HEALTH_FAULT_CANCELLED, "broken off");
}

const struct health_probe health_probe_dns = {
    .kind = HEALTH_PROBE_DNS, .start = start, .cancel = cancel, .forget = health_expect_forget};
