/* test_health_probes.c - http, tcp, tls and dns probes against servers that answer rightly and in every wrong way. */
#include "../harness.h"
#include "common/clock.h"
#include "health/health_expect.h"
#include "health/health_probe.h"
#include <arpa/inet.h>
#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

/* ---- a peer: for each connection it greets, waits for a line or a request, answers, and goes, stays or waits for more ---- */

enum after { CLOSE, HANG, AGAIN, ONCE }; /* ONCE: the second request is heard, and not answered */

struct play {
    const char *greeting;
    const char *until; /* answers once this was heard; NULL = at once */
    const char *answer;
    size_t answer_len;
    bool drips; /* one byte at a time */
    bool resets;
    enum after after;
};

struct peer {
    int fd, port;
    pthread_t thread;
    _Atomic bool stop;
    _Atomic int connections, live;
    pthread_mutex_t lock;
    char heard[8192];
    struct play play;    /* of the test's thread; given over when a probe begins */
    struct play present; /* under the lock: what a connection does that comes now */
    char *texts[64];     /* answers; connections may still read them */
    size_t n_texts;
};

struct connection {
    struct peer *p;
    int fd;
    struct play play;
};

static void say(struct peer *p, int fd, const char *data, size_t len, bool drips)
{
    size_t piece = drips ? 1 : len;
    while (len > 0 && !atomic_load(&p->stop)) {
        ssize_t n = send(fd, data, piece < len ? piece : len, MSG_NOSIGNAL);
        if (n <= 0)
            return;
        data += n;
        len -= (size_t)n;
        if (drips)
            poll(NULL, 0, 1);
    }
}

/* True once `until` was heard on this connection; false if the other end has gone. NULL: until that. */
static bool listen_for(struct peer *p, int fd, const char *until)
{
    char own[8192] = "";
    size_t n = 0;
    while (!atomic_load(&p->stop) && n + 1 < sizeof own) {
        struct pollfd f = {.fd = fd, .events = POLLIN};
        if (poll(&f, 1, 20) <= 0)
            continue;
        ssize_t got = read(fd, own + n, 1);
        if (got <= 0)
            return false;
        own[++n] = 0;
        if (until && n >= strlen(until) && strcmp(own + n - strlen(until), until) == 0)
            break;
    }
    pthread_mutex_lock(&p->lock);
    snprintf(p->heard, sizeof p->heard, "%s", own);
    pthread_mutex_unlock(&p->lock);
    return until && !atomic_load(&p->stop);
}

static void *serve(void *arg)
{
    struct connection c = *(struct connection *)arg;
    struct peer *p = c.p;
    free(arg);
    if (c.play.greeting)
        say(p, c.fd, c.play.greeting, strlen(c.play.greeting), c.play.drips);
    do {
        if (c.play.until && !listen_for(p, c.fd, c.play.until))
            break;
        if (c.play.answer)
            say(p, c.fd, c.play.answer, c.play.answer_len ? c.play.answer_len : strlen(c.play.answer), c.play.drips);
    } while (c.play.after == AGAIN);
    if (c.play.after == ONCE)
        (void)listen_for(p, c.fd, c.play.until);
    if (c.play.after == HANG)
        (void)listen_for(p, c.fd, NULL);
    if (c.play.resets)
        (void)setsockopt(c.fd, SOL_SOCKET, SO_LINGER, &(struct linger){1, 0}, sizeof(struct linger));
    close(c.fd);
    atomic_fetch_sub(&p->live, 1);
    return NULL;
}

static void *peer_main(void *arg)
{
    struct peer *p = arg;
    while (!atomic_load(&p->stop)) {
        struct pollfd f = {.fd = p->fd, .events = POLLIN};
        if (poll(&f, 1, 20) <= 0)
            continue;
        int fd = accept(p->fd, NULL, NULL);
        if (fd < 0)
            continue;
        struct connection *c = malloc(sizeof *c);
        pthread_mutex_lock(&p->lock);
        *c = (struct connection){p, fd, p->present};
        pthread_mutex_unlock(&p->lock);
        atomic_fetch_add(&p->connections, 1);
        atomic_fetch_add(&p->live, 1);
        pthread_t t;
        pthread_create(&t, NULL, serve, c);
        pthread_detach(t);
    }
    return NULL;
}

static int listening(int type, int port)
{
    int one = 1, fd = socket(AF_INET, type | SOCK_CLOEXEC, 0);
    struct sockaddr_in a = {
        .sin_family = AF_INET, .sin_port = htons((uint16_t)port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    assert_int_equal(bind(fd, (struct sockaddr *)&a, sizeof a), 0);
    if (type == SOCK_STREAM)
        assert_int_equal(listen(fd, 64), 0);
    return fd;
}

static void peer_start(struct peer *p)
{
    memset(p, 0, sizeof *p);
    pthread_mutex_init(&p->lock, NULL);
    p->port = harness_free_port();
    p->fd = listening(SOCK_STREAM, p->port);
    pthread_create(&p->thread, NULL, peer_main, p);
}

static bool peer_idle(void *ctx)
{
    return atomic_load(&((struct peer *)ctx)->live) == 0;
}

static void peer_stop(struct peer *p)
{
    atomic_store(&p->stop, true);
    pthread_join(p->thread, NULL);
    assert_true(harness_until(peer_idle, p, HARNESS_WAIT_MS));
    close(p->fd);
    pthread_mutex_destroy(&p->lock);
    for (size_t i = 0; i < p->n_texts; i++)
        free(p->texts[i]);
}

static bool peer_heard(struct peer *p, const char *what)
{
    pthread_mutex_lock(&p->lock);
    bool yes = strstr(p->heard, what) != NULL;
    pthread_mutex_unlock(&p->lock);
    return yes;
}

/* ---- a DNS server, on UDP and TCP of one port ---- */

enum dns_mode {
    DNS_GOOD,
    DNS_NXDOMAIN,
    DNS_NODATA,
    DNS_SERVFAIL,
    DNS_REFUSED,
    DNS_NOTIMP,
    DNS_SILENT,
    DNS_JUNK,      /* the right id, and then noise */
    DNS_SHORT,     /* three bytes */
    DNS_LOOP,      /* a compressed name that points to itself */
    DNS_LYING,     /* more answers promised than there are */
    DNS_TRUNCATED, /* TC on UDP, all of it on TCP */
    DNS_WRONG_ID,
    DNS_WRONG_THEN_GOOD,
};

struct dns {
    int udp, tcp, port;
    pthread_t thread;
    _Atomic bool stop;
    _Atomic int mode;
    _Atomic int asked, asked_tcp;
};

static size_t put(unsigned char *m, size_t n, const void *data, size_t len)
{
    memcpy(m + n, data, len);
    return n + len;
}

/* One record of the question's name. */
static size_t put_record(unsigned char *m, size_t n, int type, const void *data, size_t len)
{
    const unsigned char head[] = {0xc0, 12, 0, (unsigned char)type, 0, 1, 0, 0, 0, 60, 0, (unsigned char)len};
    m[7]++;
    return put(m, put(m, n, head, sizeof head), data, len);
}

static size_t put_answers(unsigned char *m, size_t n, int type)
{
    switch (type) {
    case 1:
        n = put_record(m, n, 1, "\x0a\x00\x00\x01", 4);
        return put_record(m, n, 1, "\x0a\x00\x00\x02", 4);
    case 28:
        return put_record(m, n, 28, "\x20\x01\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\x01", 16);
    case 5:
        return put_record(m, n, 5, "\4real\xc0\x0c", 7);
    case 2:
        return put_record(m, n, 2, "\2ns\7example\3org", 16);
    case 15:
        return put_record(m, n, 15, "\0\x0a\4mail\xc0\x0c", 9);
    case 33:
        return put_record(m, n, 33, "\0\1\0\2\x01\xbb\4host\xc0\x0c", 13);
    case 16:
        return put_record(m, n, 16, "\x08v=spf1 -\3all", 13);
    default:
        return n;
    }
}

static size_t dns_answer(int mode, bool tcp, const unsigned char *q, size_t len, unsigned char *m)
{
    size_t name = 12, n;
    while (name < len && q[name])
        name += q[name] + 1u;
    if (name + 5 > len)
        return 0;
    int type = q[name + 1] << 8 | q[name + 2];
    memset(m, 0, 12);
    memcpy(m, q, 2);
    m[2] = 0x85; /* an answer, with authority, to a question that asked for recursion */
    m[3] = 0x80;
    m[5] = 1;
    n = put(m, 12, q + 12, name + 5 - 12);
    switch (mode) {
    case DNS_NXDOMAIN:
        m[3] |= 3;
        return n;
    case DNS_NODATA:
        return n;
    case DNS_SERVFAIL:
        m[3] |= 2;
        return n;
    case DNS_REFUSED:
        m[3] |= 5;
        return n;
    case DNS_NOTIMP:
        m[3] |= 4;
        return n;
    case DNS_JUNK:
        m[7] = 3;
        memset(m + n, 0xa5, 40);
        return n + 40;
    case DNS_SHORT:
        return 3;
    case DNS_LOOP: {
        unsigned char loop[] = {0xc0, (unsigned char)n, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 1, 2, 3, 4};
        m[7] = 1;
        return put(m, n, loop, sizeof loop);
    }
    case DNS_LYING:
        n = put_answers(m, n, type);
        m[7] = 9;
        return n;
    case DNS_TRUNCATED:
        if (tcp)
            return put_answers(m, n, type);
        m[2] |= 2;
        return n;
    case DNS_WRONG_ID:
        m[0] ^= 0x55;
        return put_answers(m, n, type);
    default:
        return put_answers(m, n, type);
    }
}

static void dns_udp(struct dns *d)
{
    unsigned char q[1024], m[1024];
    struct sockaddr_in from;
    socklen_t size = sizeof from;
    ssize_t len = recvfrom(d->udp, q, sizeof q, 0, (struct sockaddr *)&from, &size);
    int mode = atomic_load(&d->mode);
    if (len < 12)
        return;
    atomic_fetch_add(&d->asked, 1);
    if (mode == DNS_SILENT)
        return;
    if (mode == DNS_WRONG_THEN_GOOD) {
        size_t n = dns_answer(DNS_WRONG_ID, false, q, (size_t)len, m);
        (void)sendto(d->udp, m, n, 0, (struct sockaddr *)&from, size);
    }
    size_t n = dns_answer(mode, false, q, (size_t)len, m);
    (void)sendto(d->udp, m, n, 0, (struct sockaddr *)&from, size);
}

static void dns_tcp(struct dns *d)
{
    unsigned char q[1024], m[1026];
    int fd = accept(d->tcp, NULL, NULL);
    if (fd < 0)
        return;
    struct timeval tv = {.tv_sec = 5};
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof tv);
    if (recv(fd, q, 2, MSG_WAITALL) == 2) {
        size_t len = (size_t)q[0] << 8 | q[1];
        if (len <= sizeof q && recv(fd, q, len, MSG_WAITALL) == (ssize_t)len) {
            atomic_fetch_add(&d->asked_tcp, 1);
            size_t n = dns_answer(atomic_load(&d->mode), true, q, len, m + 2);
            m[0] = (unsigned char)(n >> 8);
            m[1] = (unsigned char)n;
            (void)send(fd, m, n + 2, MSG_NOSIGNAL);
        }
    }
    close(fd);
}

static void *dns_main(void *arg)
{
    struct dns *d = arg;
    while (!atomic_load(&d->stop)) {
        struct pollfd f[2] = {{.fd = d->udp, .events = POLLIN}, {.fd = d->tcp, .events = POLLIN}};
        if (poll(f, 2, 20) <= 0)
            continue;
        if (f[0].revents)
            dns_udp(d);
        if (f[1].revents)
            dns_tcp(d);
    }
    return NULL;
}

static void dns_start(struct dns *d)
{
    memset(d, 0, sizeof *d);
    d->port = harness_free_port();
    d->udp = listening(SOCK_DGRAM, d->port);
    d->tcp = listening(SOCK_STREAM, d->port);
    pthread_create(&d->thread, NULL, dns_main, d);
}

static void dns_stop(struct dns *d)
{
    atomic_store(&d->stop, true);
    pthread_join(d->thread, NULL);
    close(d->udp);
    close(d->tcp);
}

/* ---- probes, by settings as in a file ---- */

struct town {
    struct loop loop;
    struct http *http;
    struct harness *h;
    struct peer peer;
    struct dns dns;
    bool closed;
};

struct watched { /* one target */
    struct town *v;
    struct settings *s;
    const struct health_probe *probe;
    struct health_probe_conf conf;
    struct health_result r;
    bool done;
    int calls;
};

static void on_result(void *ctx, const struct health_result *r)
{
    struct watched *w = ctx;
    w->r = *r;
    w->calls++;
    w->done = true;
}

__attribute__((format(printf, 3, 4))) static void watch(struct town *v, struct watched *w, const char *fmt, ...)
{
    char text[8192] = "targets: [{name: x, kind: other, probe: {";
    size_t n = strlen(text);
    struct conf_report report = {0};
    va_list ap;
    va_start(ap, fmt);
    n += (size_t)vsnprintf(text + n, sizeof text - n, fmt, ap);
    va_end(ap);
    n += (size_t)snprintf(text + n, sizeof text - n, "}}]\n");
    assert_true(n < sizeof text);
    *w = (struct watched){.v = v};
    w->s = conf_parse(&settings_schema, "s.yaml", text, n, &report);
    for (size_t i = 0; i < report.n; i++)
        print_message("%s\n", report.lines[i]);
    assert_non_null(w->s);
    w->conf.set = &CONF_AT(w->s->targets, struct set_target, 0)->probe;
    w->probe = health_probe_of(w->conf.set->type);
    assert_non_null(w->probe);
}

static void *begin(struct watched *w)
{
    struct health_probe_env env = {.loop = &w->v->loop, .http = w->v->http};
    pthread_mutex_lock(&w->v->peer.lock);
    w->v->peer.present = w->v->peer.play;
    pthread_mutex_unlock(&w->v->peer.lock);
    w->done = false;
    w->calls = 0;
    void *run = w->probe->start(&env, &w->conf, on_result, w);
    assert_non_null(run);
    assert_false(w->done); /* never from inside */
    return run;
}

static void probe(struct watched *w)
{
    (void)begin(w);
    assert_true(loop_run_until(&w->v->loop, &w->done, HARNESS_WAIT_MS));
    assert_int_equal(w->calls, 1);
    assert_int_equal(w->r.probe, w->probe->kind);
    assert_true(strlen(w->r.detail) < HEALTH_DETAIL_MAX);
    assert_null(strpbrk(w->r.detail, "\r\n"));
    if (w->r.fault == HEALTH_FAULT_NONE)
        assert_string_equal(w->r.detail, "");
    else
        assert_string_not_equal(w->r.detail, "");
}

static void forget(struct watched *w)
{
    if (w->probe->forget)
        w->probe->forget(&w->conf);
    assert_null(w->conf.memory);
    settings_free(w->s);
}

static void expect_result(const struct watched *w, int fault, const char *says)
{
    if (w->r.fault != fault || !strstr(w->r.detail, says))
        print_message("got fault %d: `%s`; expected %d: `%s`\n", w->r.fault, w->r.detail, fault, says);
    assert_int_equal(w->r.fault, fault);
    assert_non_null(strstr(w->r.detail, says));
}

/* One probe of one target, from beginning to end. */
#define CHECK(v, fault, says, ...)                                                                                   \
    do {                                                                                                             \
        struct watched w_;                                                                                           \
        watch(v, &w_, __VA_ARGS__);                                                                                  \
        probe(&w_);                                                                                                  \
        expect_result(&w_, fault, says);                                                                             \
        forget(&w_);                                                                                                 \
    } while (0)

static int set_up(void **state)
{
    struct town *v = calloc(1, sizeof *v);
    struct err e = {""};
    *state = v;
    loop_init(&v->loop);
    v->http = http_open(&v->loop, &e);
    assert_non_null(v->http);
    peer_start(&v->peer);
    dns_start(&v->dns);
    return 0;
}

static void on_closed(void *ctx)
{
    ((struct town *)ctx)->closed = true;
}

static int tear_down(void **state)
{
    struct town *v = *state;
    http_close(v->http, on_closed, v);
    assert_true(loop_run_until(&v->loop, &v->closed, HARNESS_WAIT_MS));
    peer_stop(&v->peer);
    dns_stop(&v->dns);
    loop_done(&v->loop);
    harness_close(v->h);
    free(v);
    return 0;
}

/* ---- http ---- */

#define JSON_BODY                                                                                                    \
    "{\"db\":{\"nodes\":[{\"state\":\"up\"},{\"state\":\"down\"}],\"lag\":3.50},\"ready\":true,\"none\":null}"

static void answer_http(struct peer *p, const char *head, const char *body)
{
    char **text = &p->texts[p->n_texts++];
    assert_true(p->n_texts <= sizeof p->texts / sizeof *p->texts);
    assert_true(asprintf(text, "HTTP/1.1 %s\r\nContent-Length: %zu\r\n\r\n%s", head, strlen(body), body) > 0);
    p->play.greeting = NULL;
    p->play.until = "\r\n\r\n";
    p->play.answer = *text;
    p->play.answer_len = 0;
    p->play.after = CLOSE;
}

#define HTTP "type: http, url: 'http://127.0.0.1:%d/x', "

static void http_judges_status_and_body(void **state)
{
    struct town *v = *state;
    struct peer *p = &v->peer;
    answer_http(p, "200 OK\r\nX-State: ready\r\nX-Many: one\r\nX-Many: two", "all is well\n" JSON_BODY);
    CHECK(v, HEALTH_FAULT_NONE, "", HTTP, p->port);
    CHECK(v, HEALTH_FAULT_NONE, "", HTTP "expect: 'is w.ll'", p->port);
    CHECK(v, HEALTH_FAULT_MISMATCH, "does not match `is ill`", HTTP "expect: 'is ill'", p->port);
    CHECK(v, HEALTH_FAULT_NONE, "", HTTP "reject: 'is ill'", p->port);
    CHECK(v, HEALTH_FAULT_MISMATCH, "matches `w.ll`, which it must not", HTTP "reject: 'w.ll'", p->port);
    CHECK(v, HEALTH_FAULT_STATUS, "HTTP 200; expected 404 to 410",
          HTTP "expect_status_min: 404, expect_status_max: 410", p->port);
    CHECK(v, HEALTH_FAULT_NONE, "", HTTP "expect_headers: ['x-state: ^ready$', 'X-Many: ^two$', 'X-State:']",
          p->port);
    CHECK(v, HEALTH_FAULT_MISMATCH, "the header X-State does not match `^busy$`",
          HTTP "expect_headers: ['X-State: ^busy$']", p->port);
    CHECK(v, HEALTH_FAULT_MISMATCH, "the header X-Gone is missing", HTTP "expect_headers: ['X-Gone: .']", p->port);
    CHECK(v, HEALTH_FAULT_SCHEMA, "not JSON", HTTP "expect_json: [{path: '$.ready'}]", p->port);

    static const struct {
        const char *head;
        int fault;
    } others[] = {{"401 No", HEALTH_FAULT_AUTH},       {"403 No", HEALTH_FAULT_AUTH},
                  {"429 Slow", HEALTH_FAULT_QUOTA},    {"503 Busy", HEALTH_FAULT_OVERLOAD},
                  {"529 Busy", HEALTH_FAULT_OVERLOAD}, {"500 Oh", HEALTH_FAULT_STATUS},
                  {"302 There", HEALTH_FAULT_STATUS}};
    for (size_t i = 0; i < sizeof others / sizeof *others; i++) {
        answer_http(p, others[i].head, "");
        CHECK(v, others[i].fault, others[i].head[0] == '3' ? "HTTP 302" : "HTTP ", HTTP, p->port);
    }
    struct watched w;
    answer_http(p, "429 Slow\r\nRetry-After: 7", "");
    watch(v, &w, HTTP, p->port);
    probe(&w);
    assert_int_equal(w.r.retry_after_ms, 7000);
    assert_int_equal(w.r.status, 429);
    forget(&w);

    answer_http(p, "200 OK", "");
    p->play.answer = "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf";
    CHECK(v, HEALTH_FAULT_CUT, "", HTTP, p->port);
    p->play.answer = "SSH-2.0-whatever\r\n";
    CHECK(v, HEALTH_FAULT_SCHEMA, "", HTTP, p->port);
    p->play.after = HANG;
    p->play.answer = NULL;
    CHECK(v, HEALTH_FAULT_TIMEOUT, "", HTTP "timeout: 100ms", p->port);
}

static void http_looks_into_json(void **state)
{
    struct town *v = *state;
    struct peer *p = &v->peer;
    answer_http(p, "200 OK", JSON_BODY);
    CHECK(v, HEALTH_FAULT_NONE, "",
          HTTP
          "expect_json: [{path: '$.ready', equals: 'true'}, {path: \"$.db['nodes'][0].state\", equals: up}, "
          "{path: '$.db.lag', equals: '3.5'}, {path: '$.db.nodes[-1].state', matches: '^d.wn$'}, {path: '$.none'}]",
          p->port);
    CHECK(v, HEALTH_FAULT_MISMATCH, "$.db.nodes[1].state is `down`, not `up`",
          HTTP "expect_json: [{path: '$.db.nodes[1].state', equals: up}]", p->port);
    CHECK(v, HEALTH_FAULT_MISMATCH, "$.db.nodes[2] is not in the answer",
          HTTP "expect_json: [{path: '$.db.nodes[2]'}]", p->port);
    CHECK(v, HEALTH_FAULT_MISMATCH, "which does not match `^[0-2]`",
          HTTP "expect_json: [{path: '$.db.lag', matches: '^[0-2]'}]", p->port);
    static char deep[60000]; /* hostile: brackets without end */
    memset(deep, '[', sizeof deep - 1);
    answer_http(p, "200 OK", deep);
    CHECK(v, HEALTH_FAULT_SCHEMA, "not JSON", HTTP "expect_json: [{path: '$.a'}]", p->port);
}

static void http_asks_as_it_is_told(void **state)
{
    struct town *v = *state;
    struct peer *p = &v->peer;
    answer_http(p, "200 OK", "fine");
    p->play.until = "\r\n\r\n{}"; /* who closes with something unread resets */
    CHECK(v, HEALTH_FAULT_NONE, "", HTTP "method: POST, body: '{}', headers: ['X-Key: s3cret', 'Content-Type: a/b']",
          p->port);
    assert_true(peer_heard(p, "POST /x HTTP/1.1\r\n"));
    assert_true(peer_heard(p, "\r\nX-Key: s3cret\r\n"));
    assert_true(peer_heard(p, "\r\nContent-Type: a/b\r\n"));
    assert_true(peer_heard(p, "\r\nContent-Length: 2\r\n"));
    p->play.until = "\r\n\r\n";
    p->play.answer =
        "HTTP/1.1 200 OK\r\nContent-Length: 400\r\nX-A: b\r\n\r\n"; /* of the body that GET would bring */
    CHECK(v, HEALTH_FAULT_NONE, "", HTTP "method: HEAD, expect_headers: ['X-A: b']", p->port);
    assert_true(peer_heard(p, "HEAD /x HTTP/1.1\r\n"));

    /* Neither the key nor the password is in what people are told, whatever goes wrong. */
    answer_http(p, "500 Oh\r\nX-Key: s3cret", "");
    struct watched w;
    for (int i = 0; i < 3; i++) {
        watch(v, &w,
              "type: http, url: 'http://user:passw0rd@127.0.0.1:%d/x', headers: ['X-Key: s3cret'], "
              "expect_status_max: %d, expect_headers: ['X-Key: ^other']",
              i == 2 ? harness_free_port() : p->port, i == 1 ? 599 : 299);
        probe(&w);
        assert_int_not_equal(w.r.fault, HEALTH_FAULT_NONE);
        assert_null(strstr(w.r.detail, "s3cret"));
        assert_null(strstr(w.r.detail, "passw0rd"));
        forget(&w);
    }
}

static void http_keeps_its_connection(void **state)
{
    struct town *v = *state;
    struct peer *p = &v->peer;
    struct watched w;
    answer_http(p, "200 OK", "fine");
    p->play.after = AGAIN;
    int before = atomic_load(&p->connections);
    watch(v, &w, HTTP "expect: fine", p->port);
    for (int i = 0; i < 5; i++) {
        probe(&w);
        expect_result(&w, HEALTH_FAULT_NONE, "");
    }
    assert_int_equal(atomic_load(&p->connections), before + 1);
    forget(&w);
}

/* A server may end a kept connection at the very moment that it is used again: that is no failure of the target. */
static void http_outlives_its_kept_connection(void **state)
{
    struct town *v = *state;
    struct peer *p = &v->peer;
    struct watched w;
    answer_http(p, "200 OK", "fine");
    p->play.after = ONCE;
    for (int resets = 0; resets < 2; resets++) {
        p->play.resets = resets == 1;
        watch(v, &w, HTTP "expect: fine", p->port);
        for (int i = 0; i < 8; i++) {
            probe(&w);
            expect_result(&w, HEALTH_FAULT_NONE, "");
        }
        forget(&w);
    }
}

static void a_costly_pattern_does_not_hold_the_loop(void **state)
{
    struct town *v = *state;
    struct peer *p = &v->peer;
    answer_http(p, "200 OK\r\nX-A: aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa!",
                "{\"a\": \"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa!\"}");
    CHECK(v, HEALTH_FAULT_MISMATCH, "limit of steps", HTTP "expect: '(a+)+$'", p->port);
    CHECK(v, HEALTH_FAULT_MISMATCH, "limit of steps", HTTP "reject: '(a+)+$'", p->port);
    CHECK(v, HEALTH_FAULT_MISMATCH, "limit of steps", HTTP "expect_headers: ['X-A: (a+)+$']", p->port);
    CHECK(v, HEALTH_FAULT_MISMATCH, "limit of steps", HTTP "expect_json: [{path: '$.a', matches: '(a+)+$'}]",
          p->port);
    p->play.greeting = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa!";
    p->play.until = p->play.answer = NULL;
    p->play.after = HANG;
    CHECK(v, HEALTH_FAULT_MISMATCH, "limit of steps", "type: tcp, url: 'tcp://127.0.0.1:%d', expect: '(a+)+$'",
          p->port);
}

/* ---- tcp ---- */

#define TCP "type: tcp, url: 'tcp://127.0.0.1:%d', "

static void tcp_talks(void **state)
{
    struct town *v = *state;
    struct peer *p = &v->peer;
    p->play.after = HANG;
    CHECK(v, HEALTH_FAULT_NONE, "", TCP, p->port);
    CHECK(v, HEALTH_FAULT_NONE, "", "type: tcp, url: 'TCP://127.0.0.1:%d/'", p->port);
    CHECK(v, HEALTH_FAULT_CONNECT, "127.0.0.1", TCP, harness_free_port());

    p->play.greeting = "220 mail ready\r\n"; /* as soon as it matches: the peer stays */
    CHECK(v, HEALTH_FAULT_NONE, "", TCP "expect: '^220 .*\\r\\n'", p->port);
    CHECK(v, HEALTH_FAULT_TIMEOUT, "16 bytes came in time, and do not match", TCP "timeout: 300ms, expect: '^421'",
          p->port);

    p->play.greeting = NULL;
    p->play.until = "PING\r\n";
    p->play.answer = "+PONG\r\n";
    CHECK(v, HEALTH_FAULT_NONE, "", TCP "send: 'PI\\x4eG\\r\\n', expect: '^\\+PONG'", p->port);
    assert_true(peer_heard(p, "PING\r\n"));
    CHECK(v, HEALTH_FAULT_NONE, "", TCP "send: 'PING\\r\\n'", p->port); /* only sent */
    CHECK(v, HEALTH_FAULT_TIMEOUT, "0 bytes came in time", TCP "timeout: 300ms, send: 'PI', expect: x", p->port);

    p->play.answer = "\x00\xff\xfe";
    p->play.answer_len = 3;
    CHECK(v, HEALTH_FAULT_NONE, "", TCP "send: 'PING\\r\\n', expect: '^\\x00\\xff\\xfe$'", p->port);
    p->play.answer_len = 0;
    p->play.answer = "-ERR secret\x01\r\n";
    p->play.after = CLOSE;
    CHECK(v, HEALTH_FAULT_MISMATCH, "the end came after 14 bytes", TCP "send: 'PING\\r\\n', expect: '^\\+PONG'",
          p->port);
    p->play.until = p->play.answer = NULL;
    CHECK(v, HEALTH_FAULT_MISMATCH, "the end came after 0 bytes", TCP "expect: 'x'", p->port);
    p->play.greeting = "half";
    p->play.until = "\n";
    p->play.resets = true;
    struct watched w; /* some kernels tell the reader of a reset, some of an end */
    watch(v, &w, TCP "send: '\\n', expect: 'whole'", p->port);
    probe(&w);
    assert_true(w.r.fault == HEALTH_FAULT_CUT || w.r.fault == HEALTH_FAULT_MISMATCH);
    forget(&w);
    p->play.resets = false;
}

static void tcp_reads_drop_by_drop_and_not_without_end(void **state)
{
    struct town *v = *state;
    struct peer *p = &v->peer;
    p->play.greeting = "one byte at a time, and then ok";
    p->play.drips = true;
    p->play.after = HANG;
    CHECK(v, HEALTH_FAULT_NONE, "", TCP "expect: 'ok$'", p->port);
    p->play.drips = false;
    static char much[200001];
    memset(much, 'x', sizeof much - 1);
    p->play.greeting = much;
    CHECK(v, HEALTH_FAULT_MISMATCH, "the first 65536 bytes do not match", TCP "expect: 'ok'", p->port);
}

/* ---- dns ---- */

#define DNS "type: dns, query: agent.test, server: '127.0.0.1:%d', "

static void dns_reads_every_kind_of_record(void **state)
{
    struct town *v = *state;
    int port = v->dns.port;
    CHECK(v, HEALTH_FAULT_NONE, "", DNS, port);
    CHECK(v, HEALTH_FAULT_NONE, "", DNS "record: A, expect: '^10\\.0\\.0\\.2$'", port);
    CHECK(v, HEALTH_FAULT_NONE, "", DNS "record: AAAA, expect: '^2001:db8::1$'", port);
    CHECK(v, HEALTH_FAULT_NONE, "", DNS "record: CNAME, expect: '^real\\.agent\\.test$'", port);
    CHECK(v, HEALTH_FAULT_NONE, "", DNS "record: NS, expect: '^ns\\.example\\.org$'", port);
    CHECK(v, HEALTH_FAULT_NONE, "", DNS "record: MX, expect: '^10 mail\\.agent\\.test$'", port);
    CHECK(v, HEALTH_FAULT_NONE, "", DNS "record: SRV, expect: '^1 2 443 host\\.agent\\.test$'", port);
    CHECK(v, HEALTH_FAULT_NONE, "", DNS "record: TXT, expect: '^v=spf1 -all$'", port);
    CHECK(v, HEALTH_FAULT_MISMATCH, "none of 2 records matches `^10\\.0\\.0\\.3$`; the first is 10.0.0.1",
          DNS "expect: '^10\\.0\\.0\\.3$'", port);
    CHECK(v, HEALTH_FAULT_MISMATCH, "limit of steps",
          DNS "record: TXT, expect: '^(.+)+(.+)+(.+)+(.+)+(.+)+(.+)+(.+)+(.+)+[XYZ]$'", port);
}

static void dns_tells_failures_apart(void **state)
{
    struct town *v = *state;
    int port = v->dns.port;
    static const struct {
        int mode, fault;
        const char *says;
    } cases[] = {
        {DNS_NXDOMAIN, HEALTH_FAULT_RESOLVE, "NXDOMAIN"},
        {DNS_NODATA, HEALTH_FAULT_RESOLVE, "no record of this kind"},
        {DNS_SERVFAIL, HEALTH_FAULT_OVERLOAD, "SERVFAIL"},
        {DNS_REFUSED, HEALTH_FAULT_CONNECT, "REFUSED"},
        {DNS_NOTIMP, HEALTH_FAULT_CONNECT, "NOTIMP"},
        {DNS_TRUNCATED, HEALTH_FAULT_NONE, ""},
        {DNS_WRONG_THEN_GOOD, HEALTH_FAULT_NONE, ""},
        {DNS_GOOD, HEALTH_FAULT_NONE, ""},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        atomic_store(&v->dns.mode, cases[i].mode);
        CHECK(v, cases[i].fault, cases[i].says, DNS, port);
    }
    assert_int_equal(atomic_load(&v->dns.asked_tcp), 1); /* the truncated one */
    static const int silent[] = {DNS_SILENT, DNS_WRONG_ID};
    for (size_t i = 0; i < sizeof silent / sizeof *silent; i++) {
        int before = atomic_load(&v->dns.asked);
        atomic_store(&v->dns.mode, silent[i]);
        CHECK(v, HEALTH_FAULT_TIMEOUT, "no answer in time", DNS "timeout: 400ms", port);
        assert_true(atomic_load(&v->dns.asked) > before);
    }
    /* Malformed answers: some versions of the library judge them, some wait for a better one. */
    static const int malformed[] = {DNS_JUNK, DNS_SHORT, DNS_LOOP, DNS_LYING};
    for (size_t i = 0; i < sizeof malformed / sizeof *malformed; i++) {
        struct watched w;
        atomic_store(&v->dns.mode, malformed[i]);
        watch(v, &w, DNS "timeout: 400ms", port);
        probe(&w);
        if (w.r.fault != HEALTH_FAULT_SCHEMA && w.r.fault != HEALTH_FAULT_TIMEOUT)
            print_message("mode %d: fault %d: %s\n", malformed[i], w.r.fault, w.r.detail);
        assert_true(w.r.fault == HEALTH_FAULT_SCHEMA || w.r.fault == HEALTH_FAULT_TIMEOUT);
        forget(&w);
    }
    CHECK(v, HEALTH_FAULT_CONNECT, "", "type: dns, query: a.test, server: '127.0.0.1:%d', timeout: 4s",
          harness_free_port());
}

/* ---- tls ---- */

static const char *const make_certificates =
    "set -e; cd \"$0\"; : >index.txt\n"
    "cat >ca.cnf <<'END'\n"
    "[ca]\ndefault_ca = d\n"
    "[d]\ndatabase = index.txt\nnew_certs_dir = .\nrand_serial = yes\nunique_subject = no\ndefault_md = sha256\n"
    "policy = p\ncopy_extensions = copy\n"
    "[p]\ncommonName = supplied\n"
    "[req]\ndistinguished_name = dn\n[dn]\n"
    "[authority]\nbasicConstraints = critical,CA:TRUE\n"
    "END\n"
    "key() { openssl req -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -config ca.cnf \"$@\"; }\n"
    "authority() { key -x509 -days 3650 -extensions authority -subj \"/CN=$2\" -keyout $1.key -out $1.pem; }\n"
    "at() { date -u -d \"$1\" +%Y%m%d%H%M%SZ; }\n"
    /* file, signer, name, alternative names or CA, begin, end */
    "issue() {\n"
    "  if [ \"$4\" = CA ]; then ext=basicConstraints=critical,CA:TRUE; else ext=subjectAltName=$4; fi\n"
    "  key -new -subj \"/CN=$3\" -addext \"$ext\" -keyout $1.key -out $1.csr\n"
    "  openssl ca -batch -notext -config ca.cnf -cert $2.pem -keyfile $2.key -in $1.csr -out $1.pem -startdate $(at "
    "\"$5\") -enddate $(at \"$6\")\n"
    "}\n"
    "authority ca 'Test Authority'; authority other 'Other Authority'\n"
    "mine=DNS:agent.test,IP:127.0.0.1\n"
    "issue good ca agent.test $mine '-1 day' '+400 days'\n"
    "issue soon ca agent.test $mine '-1 day' '+5 days +1 hour'\n"
    "issue over ca agent.test $mine '-30 days' '-2 days'\n"
    "issue early ca agent.test $mine '+10 days' '+400 days'\n"
    "issue elsewhere ca elsewhere.test DNS:elsewhere.test '-1 day' '+400 days'\n"
    "issue stranger other agent.test $mine '-1 day' '+400 days'\n"
    "issue between ca 'Between Authority' CA '-1 day' '+5 days +1 hour'\n"
    "issue under between agent.test $mine '-1 day' '+400 days'\n";

static void make_town_of_certificates(struct town *v)
{
    v->h = harness_open();
    char log[600];
    snprintf(log, sizeof log, "%s/certificates.log", harness_dir(v->h));
    pid_t pid = fork();
    if (pid == 0) {
        if (!freopen(log, "w", stdout) || !freopen(log, "a", stderr))
            _exit(3);
        execlp("sh", "sh", "-c", make_certificates, harness_dir(v->h), (char *)NULL);
        _exit(4);
    }
    int status = -1;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    if (status != 0) {
        char cmd[700];
        snprintf(cmd, sizeof cmd, "cat '%s' >&2", log);
        (void)!system(cmd);
    }
    assert_int_equal(status, 0);
}

/* A TLS server with that certificate; more arguments may follow. */
static struct harness_proc *tls_server(struct town *v, const char *cert, const char *more, const char *file)
{
    char accept[32], pem[600], key[600], path[600], name[64];
    int port = harness_free_port();
    snprintf(accept, sizeof accept, "127.0.0.1:%d", port);
    snprintf(pem, sizeof pem, "%s/%s.pem", harness_dir(v->h), cert);
    snprintf(key, sizeof key, "%s/%s.key", harness_dir(v->h), cert);
    snprintf(path, sizeof path, "%s/%s.pem", harness_dir(v->h), file ? file : "");
    snprintf(name, sizeof name, "tls-%s%s", cert, file ? file : "");
    const char *argv[16] = {"openssl", "s_server", "-accept", accept, "-cert", pem, "-key", key, "-www", "-quiet"};
    size_t n = 10;
    if (more)
        argv[n++] = more;
    if (more && strcmp(more, "-Verify") == 0) {
        argv[n++] = "1";
        argv[n++] = "-verify_return_error";
        argv[n++] = "-CAfile";
    }
    if (more)
        argv[n++] = path;
    struct harness_proc *p = harness_run(v->h, name, port, argv);
    p->port = port;
    return p;
}

#define TLS "type: tls, url: 'tcp://127.0.0.1:%d', tls_ca_file: '%s/ca.pem', "

static void tls_tells_certificates_apart(void **state)
{
    struct town *v = *state;
    make_town_of_certificates(v);
    const char *dir = harness_dir(v->h);
    int good = tls_server(v, "good", NULL, NULL)->port, soon = tls_server(v, "soon", NULL, NULL)->port;
    int over = tls_server(v, "over", NULL, NULL)->port, early = tls_server(v, "early", NULL, NULL)->port;
    int elsewhere = tls_server(v, "elsewhere", NULL, NULL)->port;
    int stranger = tls_server(v, "stranger", NULL, NULL)->port;
    int under = tls_server(v, "under", "-cert_chain", "between")->port;

    CHECK(v, HEALTH_FAULT_NONE, "", TLS, good, dir);
    CHECK(v, HEALTH_FAULT_NONE, "", TLS "tls_name: agent.test", good, dir);
    CHECK(v, HEALTH_FAULT_EXPIRING, "days left", TLS "tls_expiry: 500d", good, dir);
    CHECK(v, HEALTH_FAULT_EXPIRING, "5 days left", TLS, soon, dir);
    CHECK(v, HEALTH_FAULT_EXPIRING, "agent.test (by Test Authority)", TLS, soon, dir);
    CHECK(v, HEALTH_FAULT_NONE, "", TLS "tls_expiry: 4d", soon, dir);
    CHECK(v, HEALTH_FAULT_CERTIFICATE, "over since 20", TLS, over, dir);
    CHECK(v, HEALTH_FAULT_CERTIFICATE, "agent.test (by Test Authority)", TLS, over, dir);
    CHECK(v, HEALTH_FAULT_CERTIFICATE, "not valid before 20", TLS, early, dir);
    CHECK(v, HEALTH_FAULT_CERTIFICATE, "of another name: elsewhere.test", TLS, elsewhere, dir);
    CHECK(v, HEALTH_FAULT_CERTIFICATE, "of another name: agent.test", TLS "tls_name: wrong.test", good, dir);
    CHECK(v, HEALTH_FAULT_NONE, "", TLS "tls_name: elsewhere.test", elsewhere, dir);
    CHECK(v, HEALTH_FAULT_CERTIFICATE, "of an unknown authority: agent.test, by Other Authority", TLS, stranger, dir);
    CHECK(v, HEALTH_FAULT_CERTIFICATE, "of an unknown authority", "type: tls, url: 'tcp://127.0.0.1:%d'", good);
    /* The authority between ends before what it has signed. */
    CHECK(v, HEALTH_FAULT_EXPIRING, "the authority Between Authority (by Test Authority)", TLS, under, dir);

    /* Without verification only the end counts. */
    CHECK(v, HEALTH_FAULT_NONE, "", TLS "tls_verify: false", stranger, dir);
    CHECK(v, HEALTH_FAULT_NONE, "", TLS "tls_verify: false", elsewhere, dir);
    CHECK(v, HEALTH_FAULT_EXPIRING, "5 days left", TLS "tls_verify: false", soon, dir);
    CHECK(v, HEALTH_FAULT_CERTIFICATE, "over since 20", TLS "tls_verify: false", over, dir);

    /* What is no TLS, nobody, and silence. */
    v->peer.play.until = "\n";
    v->peer.play.answer = "HTTP/1.1 400 Bad Request\r\n\r\n";
    v->peer.play.greeting = "220 not TLS at all, and long enough to be taken for a record\r\n";
    CHECK(v, HEALTH_FAULT_TLS, "", TLS, v->peer.port, dir);
    v->peer.play.greeting = v->peer.play.answer = NULL;
    v->peer.play.after = HANG;
    CHECK(v, HEALTH_FAULT_TIMEOUT, "", TLS "timeout: 300ms", v->peer.port, dir);
    CHECK(v, HEALTH_FAULT_CONNECT, "", TLS, harness_free_port(), dir);

    /* The same for https. */
#define HTTPS "type: http, url: 'https://127.0.0.1:%d/', tls_ca_file: '%s/ca.pem', "
    CHECK(v, HEALTH_FAULT_NONE, "", HTTPS, good, dir);
    CHECK(v, HEALTH_FAULT_NONE, "", HTTPS, soon, dir); /* not looked at */
    CHECK(v, HEALTH_FAULT_EXPIRING, "5 days left", HTTPS "tls_expiry: 14d", soon, dir);
    CHECK(v, HEALTH_FAULT_NONE, "", HTTPS "tls_expiry: 14d", good, dir);
    CHECK(v, HEALTH_FAULT_CERTIFICATE, "over: ", HTTPS, over, dir);
    CHECK(v, HEALTH_FAULT_CERTIFICATE, "of another name: ", HTTPS, elsewhere, dir);
    CHECK(v, HEALTH_FAULT_CERTIFICATE, "of an unknown authority: ", HTTPS, stranger, dir);
    CHECK(v, HEALTH_FAULT_NONE, "", HTTPS "tls_verify: false", stranger, dir);
    CHECK(v, HEALTH_FAULT_STATUS, "HTTP 200", HTTPS "expect_status_min: 201", good, dir);

    /* And for LLM APIs: behind a good certificate this server takes the question, and says nothing. */
#define LLM "type: llm, model: m, timeout: 1s, url: 'https://127.0.0.1:%d/v1', "
    CHECK(v, HEALTH_FAULT_TIMEOUT, "0 bytes received", LLM "tls_ca_file: '%s/ca.pem'", good, dir);
    CHECK(v, HEALTH_FAULT_CERTIFICATE, "of an unknown authority: ", LLM, good);
    CHECK(v, HEALTH_FAULT_CERTIFICATE, "of another name: ", LLM "tls_ca_file: '%s/ca.pem'", elsewhere, dir);
    CHECK(v, HEALTH_FAULT_TIMEOUT, "0 bytes received", LLM "tls_verify: false", stranger);
    struct watched w;
    watch(v, &w, HTTPS "tls_expiry: 14d", good, dir);
    probe(&w);
    expect_result(&w, HEALTH_FAULT_NONE, "");
    int64_t ends_s = ((struct health_expect *)w.conf.memory)->cert_ends_s; /* for kept connections, which show none */
    assert_in_range(ends_s, time(NULL) + INT64_C(399) * 86400, time(NULL) + INT64_C(401) * 86400);
    forget(&w);

    /* A server that asks for ours. TLS 1.3 refuses after the handshake: what follows is cut. */
    int asks = tls_server(v, "good", "-Verify", "ca")->port;
    CHECK(v, HEALTH_FAULT_NONE, "", HTTPS "tls_cert_file: '%s/good.pem', tls_key_file: '%s/good.key'", asks, dir, dir,
          dir);
    watch(v, &w, HTTPS, asks, dir);
    probe(&w);
    assert_true(w.r.fault == HEALTH_FAULT_TLS || w.r.fault == HEALTH_FAULT_CUT);
    forget(&w);
}

/* ---- the end before the end ---- */

static void a_probe_can_be_broken_off_at_any_time(void **state)
{
    struct town *v = *state;
    char probes[5][256];
    v->peer.play.after = HANG;
    v->peer.play.greeting = "x";
    atomic_store(&v->dns.mode, DNS_SILENT);
    snprintf(probes[0], sizeof probes[0], "type: http, url: 'http://127.0.0.1:%d/'", v->peer.port);
    snprintf(probes[1], sizeof probes[1], "type: tcp, url: 'tcp://127.0.0.1:%d', expect: y", v->peer.port);
    snprintf(probes[2], sizeof probes[2], "type: tls, url: 'tcp://127.0.0.1:%d'", v->peer.port);
    snprintf(probes[3], sizeof probes[3], "type: dns, query: a.test, server: '127.0.0.1:%d'", v->dns.port);
    snprintf(probes[4], sizeof probes[4], "type: tcp, url: 'tcp://%s:%d', send: x, expect: y", harness_localhost(),
             v->peer.port);
    for (int i = 0; i < 5; i++) {
        for (int turns = 0; turns < 5; turns++) {
            struct watched w;
            bool never = false;
            watch(v, &w, "%s", probes[i]);
            void *run = begin(&w);
            for (int k = 0; k < turns; k++)
                (void)loop_run_until(&v->loop, &never, 1);
            if (w.done) { /* it was faster: nothing is left to break off */
                forget(&w);
                continue;
            }
            w.probe->cancel(run);
            assert_false(w.done);
            assert_true(loop_run_until(&v->loop, &w.done, HARNESS_WAIT_MS));
            assert_int_equal(w.r.fault, HEALTH_FAULT_CANCELLED);
            (void)loop_run_until(&v->loop, &never, 5);
            assert_int_equal(w.calls, 1);
            forget(&w);
        }
    }
}

/* `config check` refuses such settings; if they come all the same, the result says so, and nothing is called well. */
static void settings_that_cannot_be_used_are_told(void **state)
{
    struct town *v = *state;
    char probes[5][256];
    snprintf(probes[0], sizeof probes[0], HTTP "expect: ok", v->peer.port);
    snprintf(probes[1], sizeof probes[1], TCP "expect: ok", v->peer.port);
    snprintf(probes[2], sizeof probes[2], DNS "expect: ok", v->dns.port);
    snprintf(probes[3], sizeof probes[3], TCP "send: ok", v->peer.port);
    snprintf(probes[4], sizeof probes[4], HTTP "expect_json: [{path: '$.a'}]", v->peer.port);
    answer_http(&v->peer, "200 OK", "ok");
    for (int i = 0; i < 5; i++) {
        struct watched w;
        watch(v, &w, "%s", probes[i]);
        struct set_probe *set = &CONF_AT(w.s->targets, struct set_target, 0)->probe;
        char **wrong = i == 4   ? &CONF_AT(set->expect_json, struct set_expect_json, 0)->path
                       : i == 3 ? &set->send
                                : &set->expect;
        free(*wrong);
        *wrong = strdup("(\\");
        for (int k = 0; k < 2; k++) {
            probe(&w);
            expect_result(&w, HEALTH_FAULT_MISMATCH, "cannot be used");
        }
        forget(&w);
    }
}

static void many_at_once_do_not_disturb_each_other(void **state)
{
    struct town *v = *state;
    enum { N = 60 };
    static struct watched w[N];
    v->peer.play.greeting = "ready\n";
    v->peer.play.after = HANG;
    for (int i = 0; i < N; i++) {
        if (i % 2)
            watch(v, &w[i], DNS "record: %s, expect: '.'", v->dns.port, i % 4 == 1 ? "TXT" : "A");
        else
            watch(v, &w[i], TCP "expect: ready", v->peer.port);
        (void)begin(&w[i]);
    }
    for (int i = 0; i < N; i++) {
        assert_true(loop_run_until(&v->loop, &w[i].done, HARNESS_WAIT_MS));
        expect_result(&w[i], HEALTH_FAULT_NONE, "");
        forget(&w[i]);
    }
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(http_judges_status_and_body),
        TEST(http_looks_into_json),
        TEST(http_asks_as_it_is_told),
        TEST(http_keeps_its_connection),
        TEST(http_outlives_its_kept_connection),
        TEST(a_costly_pattern_does_not_hold_the_loop),
        TEST(tcp_talks),
        TEST(tcp_reads_drop_by_drop_and_not_without_end),
        TEST(dns_reads_every_kind_of_record),
        TEST(dns_tells_failures_apart),
        TEST(tls_tells_certificates_apart),
        TEST(a_probe_can_be_broken_off_at_any_time),
        TEST(settings_that_cannot_be_used_are_told),
        TEST(many_at_once_do_not_disturb_each_other),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
