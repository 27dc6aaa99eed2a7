/* test_common_http.c - HTTP and SMTP against servers that answer in every wrong way, on raw sockets. */
#include "../harness.h"
#include "common/http.h"
#include "common/http_priv.h"
#include <arpa/inet.h>
#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

/* ---- a server that follows a script: one thread for each connection ---- */

struct server {
    int fd, port;
    pthread_t thread;
    void (*serve)(struct server *s, int fd);
    _Atomic bool stop;
    _Atomic int connections, live;
    pthread_mutex_t lock;
    char heard[8192];                                             /* what the last connections sent */
    _Atomic(const char *) rcpt, mail, data, quit, greeting, auth; /* SMTP answers; NULL = the good one */
};

struct connection {
    struct server *s;
    int fd;
};

static void hear(struct server *s, const char *text, size_t len)
{
    pthread_mutex_lock(&s->lock);
    size_t at = strlen(s->heard), room = sizeof s->heard - 1 - at;
    memcpy(s->heard + at, text, len < room ? len : room);
    s->heard[at + (len < room ? len : room)] = '\0';
    pthread_mutex_unlock(&s->lock);
}

static bool heard(struct server *s, const char *what)
{
    pthread_mutex_lock(&s->lock);
    bool yes = strstr(s->heard, what) != NULL;
    pthread_mutex_unlock(&s->lock);
    return yes;
}

static void *connection_main(void *arg)
{
    struct connection c = *(struct connection *)arg;
    free(arg);
    c.s->serve(c.s, c.fd);
    close(c.fd);
    atomic_fetch_sub(&c.s->live, 1);
    return NULL;
}

static void *server_main(void *arg)
{
    struct server *s = arg;
    while (!atomic_load(&s->stop)) {
        struct pollfd p = {.fd = s->fd, .events = POLLIN};
        if (poll(&p, 1, 20) <= 0)
            continue;
        int fd = accept(s->fd, NULL, NULL);
        if (fd < 0)
            continue;
        atomic_fetch_add(&s->connections, 1);
        atomic_fetch_add(&s->live, 1);
        struct connection *c = malloc(sizeof *c);
        *c = (struct connection){s, fd};
        pthread_t t;
        pthread_create(&t, NULL, connection_main, c);
        pthread_detach(t);
    }
    return NULL;
}

static void server_start(struct server *s, void (*serve)(struct server *, int))
{
    memset(s, 0, sizeof *s);
    pthread_mutex_init(&s->lock, NULL);
    s->serve = serve;
    s->port = harness_free_port();
    s->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    int one = 1;
    struct sockaddr_in a = {
        .sin_family = AF_INET, .sin_port = htons((uint16_t)s->port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    setsockopt(s->fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    assert_int_equal(bind(s->fd, (struct sockaddr *)&a, sizeof a), 0);
    assert_int_equal(listen(s->fd, 64), 0);
    pthread_create(&s->thread, NULL, server_main, s);
}

static bool idle(void *ctx)
{
    return atomic_load(&((struct server *)ctx)->live) == 0;
}

static void server_stop(struct server *s)
{
    atomic_store(&s->stop, true);
    pthread_join(s->thread, NULL);
    assert_true(harness_until(idle, s, HARNESS_WAIT_MS));
    close(s->fd);
    pthread_mutex_destroy(&s->lock);
}

/* Until the peer goes, or the test ends. */
static void hang(struct server *s, int fd)
{
    char junk[512];
    while (!atomic_load(&s->stop)) {
        struct pollfd p = {.fd = fd, .events = POLLIN};
        if (poll(&p, 1, 20) > 0 && read(fd, junk, sizeof junk) <= 0)
            return;
    }
}

static void say(int fd, const char *text)
{
    size_t len = strlen(text);
    while (len > 0) {
        ssize_t n = send(fd, text, len, MSG_NOSIGNAL);
        if (n <= 0)
            return;
        text += n;
        len -= (size_t)n;
    }
}

/* Reads up to `end`; false if the peer is gone. */
static bool read_to(struct server *s, int fd, char *buf, size_t cap, const char *end)
{
    size_t n = 0;
    while (n < cap - 1) {
        struct pollfd p = {.fd = fd, .events = POLLIN};
        if (poll(&p, 1, 20) == 0) {
            if (atomic_load(&s->stop))
                return false;
            continue;
        }
        if (read(fd, buf + n, 1) <= 0)
            return false;
        buf[++n] = '\0';
        if (buf[0] == 0x16) /* TLS: nothing that this server speaks */
            return false;
        if (n >= strlen(end) && strcmp(buf + n - strlen(end), end) == 0)
            break;
    }
    hear(s, buf, n);
    return true;
}

/* ---- HTTP ---- */

static void say_http(int fd, const char *head, const char *body)
{
    char text[2048];
    snprintf(text, sizeof text, "HTTP/1.1 %s\r\nContent-Length: %zu\r\n\r\n%s", head, strlen(body), body);
    say(fd, text);
}

static void serve_http(struct server *s, int fd)
{
    char req[4096], text[256];
    while (read_to(s, fd, req, sizeof req, "\r\n\r\n")) {
        const char *len = strstr(req, "Content-Length: ");
        size_t body = len ? strtoul(len + 16, NULL, 10) : 0;
        for (char c; body > 0 && read(fd, &c, 1) == 1; body--)
            hear(s, &c, 1);
        const char *path = strchr(req, ' ') + 1;
        if (strncmp(path, "/ok", 3) == 0)
            say_http(fd, "200 OK\r\nContent-Type: application/json", "{\"a\":1}");
        else if (strncmp(path, "/500", 4) == 0)
            say_http(fd, "500 Broken", "oh");
        else if (strncmp(path, "/redirect", 9) == 0)
            say_http(fd, "302 Found\r\nLocation: /ok", "");
        else if (strncmp(path, "/429s", 5) == 0)
            say_http(fd, "429 Slow down\r\nRetry-After: 7", "");
        else if (strncmp(path, "/429d", 5) == 0) {
            time_t at = time(NULL) + 30;
            struct tm tm;
            char date[64];
            strftime(date, sizeof date, "%a, %d %b %Y %H:%M:%S GMT", gmtime_r(&at, &tm));
            snprintf(text, sizeof text, "429 Slow down\r\nRetry-After: %s", date);
            say_http(fd, text, "");
        } else if (strncmp(path, "/hang", 5) == 0) {
            hang(s, fd);
            return;
        } else if (strncmp(path, "/slow", 5) == 0) {
            say(fd, "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\n");
            for (int i = 0; i < 3; i++) {
                poll(NULL, 0, 60);
                say(fd, "ab");
            }
        } else if (strncmp(path, "/cut", 4) == 0) {
            say(fd, "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf");
            return;
        } else if (strncmp(path, "/chunkcut", 9) == 0) {
            say(fd, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n");
            return;
        } else if (strncmp(path, "/stall", 6) == 0) {
            say(fd, "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf");
            hang(s, fd);
            return;
        } else if (strncmp(path, "/silent", 7) == 0) {
            return;
        } else if (strncmp(path, "/huge", 5) == 0) {
            say(fd, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
            char chunk[1100];
            int n = snprintf(chunk, sizeof chunk, "400\r\n");
            memset(chunk + n, 'x', 1024);
            memcpy(chunk + n + 1024, "\r\n", 3);
            for (int i = 0; i < 4000 && !atomic_load(&s->stop); i++)
                if (send(fd, chunk, strlen(chunk), MSG_NOSIGNAL) <= 0)
                    return;
            say(fd, "0\r\n\r\n");
        } else if (strncmp(path, "/big", 4) == 0) {
            say(fd, "HTTP/1.1 200 OK\r\nContent-Length: 999999999\r\n\r\nx");
            hang(s, fd);
            return;
        } else if (strncmp(path, "/heads", 6) == 0) {
            say(fd, "HTTP/1.1 200 OK\r\n");
            for (int i = 0; i < 4000; i++)
                say(fd, "X-Filler: 0123456789012345678901234567890123456789\r\n");
            hang(s, fd);
            return;
        } else if (strncmp(path, "/garbage", 8) == 0) {
            say(fd, "\x01\x02SSH-2.0-nonsense\r\nmore nonsense\r\n\r\n");
            return;
        } else if (strncmp(path, "/encoded", 8) == 0) {
            say_http(fd, "200 OK\r\nContent-Encoding: gzip", "not gzip");
        } else {
            say_http(fd, "404 Not found", "");
        }
    }
}

/* ---- SMTP ---- */

/* Says `answer`, or what it means: "hang", "cut". False = the connection is over. */
static bool smtp_answer(struct server *s, int fd, const char *answer)
{
    if (strcmp(answer, "hang") == 0) {
        hang(s, fd);
        return false;
    }
    if (strcmp(answer, "cut") == 0)
        return false;
    say(fd, answer);
    say(fd, "\r\n");
    return true;
}

static const char *scripted(_Atomic(const char *) *entry, const char *good)
{
    const char *text = *entry;
    return text ? text : good;
}

static void serve_smtp(struct server *s, int fd)
{
    char line[4096];
    if (!smtp_answer(s, fd, scripted(&s->greeting, "220 fake ESMTP")))
        return;
    while (read_to(s, fd, line, sizeof line, "\r\n")) {
        bool on;
        if (strncmp(line, "EHLO", 4) == 0)
            on = smtp_answer(s, fd, s->auth ? "250-fake\r\n250-AUTH PLAIN\r\n250 8BITMIME" : "250 fake");
        else if (strncmp(line, "AUTH", 4) == 0) {
            say(fd, "334 \r\n");
            if (!read_to(s, fd, line, sizeof line, "\r\n"))
                return;
            on = smtp_answer(s, fd, s->auth);
        } else if (strncmp(line, "MAIL", 4) == 0)
            on = smtp_answer(s, fd, scripted(&s->mail, "250 sender ok"));
        else if (strncmp(line, "RCPT", 4) == 0)
            on = smtp_answer(s, fd, strstr(line, "good@") ? "250 rcpt ok" : scripted(&s->rcpt, "250 rcpt ok"));
        else if (strncmp(line, "DATA", 4) == 0) {
            say(fd, "354 go on\r\n");
            if (!read_to(s, fd, line, sizeof line, "\r\n.\r\n"))
                return;
            on = smtp_answer(s, fd, scripted(&s->data, "250 queued as 42"));
        } else if (strncmp(line, "QUIT", 4) == 0) {
            (void)smtp_answer(s, fd, scripted(&s->quit, "221 bye"));
            return;
        } else {
            on = smtp_answer(s, fd, "502 what?");
        }
        if (!on)
            return;
    }
}

/* ---- the tests' surroundings ---- */

struct env {
    struct loop loop;
    struct http *http;
    struct server server;
    bool closed;
};

struct seen {
    bool done;
    int calls, status, pieces;
    enum http_fault fault;
    char body[256], error[256], type[64], refused[512]; /* "to=why;" each */
    size_t len, n_refused;
    int64_t retry_after_ms, total_ms, first_byte_ms, first_piece_ms;
    bool stop_at_piece;
    struct http_call *cancel_at_piece;
    struct http *start_at_piece; /* the same again, told to `inner` */
    const struct http_request *again;
    struct seen *inner;
    bool cancel_inner;
};

static void on_done(void *ctx, const struct http_result *r)
{
    struct seen *x = ctx;
    x->done = true;
    x->calls++;
    x->fault = r->fault;
    x->status = r->status;
    x->len = r->len;
    x->retry_after_ms = r->retry_after_ms;
    x->total_ms = r->total_ms;
    x->first_byte_ms = r->first_byte_ms;
    assert_true(r->body && r->error && r->content_type);
    assert_int_equal(r->body[r->len], 0);
    snprintf(x->body, sizeof x->body, "%s", r->body);
    snprintf(x->error, sizeof x->error, "%s", r->error);
    snprintf(x->type, sizeof x->type, "%s", r->content_type);
    x->n_refused = r->n_refused;
    for (size_t i = 0, n = 0; i < r->n_refused && n < sizeof x->refused; i++)
        n += (size_t)snprintf(x->refused + n, sizeof x->refused - n, "%s=%s;", r->refused[i].to, r->refused[i].why);
}

static bool on_piece(void *ctx, const char *data, size_t len, int64_t at_ms)
{
    struct seen *x = ctx;
    (void)data;
    (void)len;
    if (x->pieces++ == 0)
        x->first_piece_ms = at_ms;
    if (x->cancel_at_piece)
        http_cancel(x->cancel_at_piece);
    if (x->start_at_piece && x->pieces == 1) {
        struct http_call *c = http_start(x->start_at_piece, x->again, NULL, on_done, x->inner);
        if (x->cancel_inner)
            http_cancel(c);
    }
    return !x->stop_at_piece;
}

static void on_closed(void *ctx)
{
    ((struct env *)ctx)->closed = true;
}

static int set_up_with(void **state, void (*serve)(struct server *, int))
{
    struct env *v = calloc(1, sizeof *v);
    signal(SIGPIPE, SIG_IGN);
    loop_init(&v->loop);
    v->http = http_open(&v->loop, NULL);
    assert_non_null(v->http);
    server_start(&v->server, serve);
    *state = v;
    return 0;
}

static int set_up_http(void **state)
{
    return set_up_with(state, serve_http);
}

static int set_up_smtp(void **state)
{
    return set_up_with(state, serve_smtp);
}

static void shut(struct env *v)
{
    if (!v->http)
        return;
    http_close(v->http, on_closed, v);
    v->http = NULL;
    assert_true(loop_run_until(&v->loop, &v->closed, HARNESS_WAIT_MS));
}

static int tear_down(void **state)
{
    struct env *v = *state;
    shut(v);
    loop_done(&v->loop);
    server_stop(&v->server);
    free(v);
    return 0;
}

static const char *url(struct env *v, const char *path)
{
    static char text[128];
    snprintf(text, sizeof text, "http://127.0.0.1:%d%s", v->server.port, path);
    return text;
}

static void wait_done(struct env *v, struct seen *x)
{
    assert_true(loop_run_until(&v->loop, &x->done, HARNESS_WAIT_MS));
    assert_int_equal(x->calls, 1);
}

static struct seen get_with(struct env *v, struct http_request r)
{
    struct seen x = {0};
    assert_non_null(http_start(v->http, &r, NULL, on_done, &x));
    assert_false(x.done);
    wait_done(v, &x);
    return x;
}

static struct seen get(struct env *v, const char *path)
{
    return get_with(v, (struct http_request){.url = url(v, path), .timeout_ms = 300, .max_response = 65536});
}

static void answers(void **state)
{
    struct env *v = *state;
    struct seen x = get(v, "/ok");
    assert_int_equal(x.fault, HTTP_OK);
    assert_int_equal(x.status, 200);
    assert_string_equal(x.body, "{\"a\":1}");
    assert_string_equal(x.type, "application/json");
    assert_string_equal(x.error, "");
    assert_true(x.retry_after_ms == -1 && x.first_byte_ms >= 0 && x.total_ms >= x.first_byte_ms);
    x = get(v, "/500");
    assert_int_equal(x.fault, HTTP_OK);
    assert_int_equal(x.status, 500);
    x = get(v, "/redirect");
    assert_int_equal(x.status, 302);
    assert_false(heard(&v->server, "Accept-Encoding"));
    assert_int_equal(atomic_load(&v->server.connections), 1); /* kept and used again */
    x = get_with(v, (struct http_request){.url = url(v, "/ok"), .fresh = true});
    assert_int_equal(x.status, 200);
    assert_int_equal(atomic_load(&v->server.connections), 2);

    x = get(v, "/429s");
    assert_int_equal(x.status, 429);
    assert_true(x.retry_after_ms == 7000);
    x = get(v, "/429d");
    assert_true(x.retry_after_ms >= 25000 && x.retry_after_ms <= 30000);
}

static void requests(void **state)
{
    struct env *v = *state;
    const char *headers[] = {"Content-Type: application/json", "X-Secret: s3cret", NULL};
    struct seen x = get_with(v, (struct http_request){.url = url(v, "/ok"),
                                                      .headers = headers,
                                                      .body = "{\"q\":\"body text\"}",
                                                      .body_len = 17,
                                                      .user = "me",
                                                      .password = "pw"});
    assert_int_equal(x.status, 200);
    assert_true(heard(&v->server, "POST /ok HTTP/1.1\r\n"));
    assert_true(heard(&v->server, "X-Secret: s3cret\r\n"));
    assert_true(heard(&v->server, "Authorization: Basic bWU6cHc="));
    assert_true(heard(&v->server, "{\"q\":\"body text\"}"));
    assert_true(heard(&v->server, "User-Agent: redoubt/"));
    assert_false(heard(&v->server, "Expect:"));
    x = get_with(v, (struct http_request){.url = url(v, "/ok"), .method = "PUT", .body = "put", .body_len = 3});
    assert_int_equal(x.status, 200);
    assert_true(heard(&v->server, "PUT /ok"));
    assert_false(heard(&v->server, "urlencoded"));
    x = get_with(v, (struct http_request){.url = url(v, "/ok"), .method = "DELETE"});
    assert_true(heard(&v->server, "DELETE /ok"));
    x = get_with(v, (struct http_request){.url = url(v, "/ok"), .method = "POST"});
    assert_true(heard(&v->server, "Content-Length: 0"));
    /* A handle used again keeps nothing of the call before. */
    pthread_mutex_lock(&v->server.lock);
    v->server.heard[0] = '\0';
    pthread_mutex_unlock(&v->server.lock);
    x = get(v, "/ok");
    assert_true(heard(&v->server, "GET /ok"));
    assert_false(heard(&v->server, "Authorization"));
    assert_false(heard(&v->server, "Content-Length"));
}

static void faults(void **state)
{
    struct env *v = *state;
    static const struct {
        const char *path;
        enum http_fault fault;
        int status;
    } rows[] = {
        {"/hang", HTTP_TIMEOUT, 0},         {"/stall", HTTP_TIMEOUT, 200},   {"/cut", HTTP_CUT, 200},
        {"/chunkcut", HTTP_CUT, 200},       {"/silent", HTTP_CUT, 0},        {"/huge", HTTP_TOO_LARGE, 200},
        {"/big", HTTP_TOO_LARGE, 200},      {"/heads", HTTP_TOO_LARGE, 200}, {"/garbage", HTTP_BAD_ANSWER, 0},
        {"/encoded", HTTP_BAD_ANSWER, 200},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct seen x = get(v, rows[i].path);
        if (x.fault != rows[i].fault)
            print_message("%s: %s, %s\n", rows[i].path, http_fault_text(x.fault), x.error);
        assert_int_equal(x.fault, rows[i].fault);
        assert_int_equal(x.status, rows[i].status);
        assert_true(x.error[0] != '\0');
    }
    struct seen x = get(v, "/stall");
    assert_string_equal(x.body, "half");

    char text[128];
    snprintf(text, sizeof text, "http://127.0.0.1:%d/", harness_free_port());
    assert_int_equal(get_with(v, (struct http_request){.url = text}).fault, HTTP_CONNECT);
    char name[100]; /* a label over 63 bytes is no name: no server is asked */
    snprintf(name, sizeof name, "http://%070d/", 0);
    memset(name + 7, 'x', 70);
    assert_int_equal(get_with(v, (struct http_request){.url = name, .timeout_ms = 5000}).fault, HTTP_RESOLVE);
    snprintf(text, sizeof text, "https://127.0.0.1:%d/ok", v->server.port);
    assert_int_equal(get_with(v, (struct http_request){.url = text, .timeout_ms = 3000}).fault, HTTP_TLS);

    assert_int_equal(get_with(v, (struct http_request){.url = "file:///etc/passwd"}).fault, HTTP_FORBIDDEN);
    assert_int_equal(get_with(v, (struct http_request){.url = "smtp://127.0.0.1/"}).fault, HTTP_FORBIDDEN);
    assert_int_equal(get_with(v, (struct http_request){.url = "http://"}).fault, HTTP_FAILED);
    assert_int_equal(get_with(v, (struct http_request){.url = ""}).fault, HTTP_FAILED);
    const char *split[] = {"X: a\r\nY: b", NULL};
    assert_int_equal(get_with(v, (struct http_request){.url = url(v, "/ok"), .headers = split}).fault, HTTP_FAILED);
    assert_int_equal(get_with(v, (struct http_request){.url = url(v, "/ok"), .method = "GET /x\r\n"}).fault,
                     HTTP_FAILED);
}

static void public_only(void **state)
{
    struct env *v = *state;
    struct seen x = get_with(v, (struct http_request){.url = url(v, "/ok"), .public_only = true});
    assert_int_equal(x.fault, HTTP_FORBIDDEN);
    assert_int_equal(atomic_load(&v->server.connections), 0);
    x = get(v, "/ok"); /* leaves a kept connection, which is no way around the guard */
    assert_int_equal(x.status, 200);
    x = get_with(v, (struct http_request){.url = url(v, "/ok?again"), .public_only = true});
    assert_int_equal(x.fault, HTTP_FORBIDDEN);
    assert_false(heard(&v->server, "again"));
    x = get_with(v, (struct http_request){.url = url(v, "/ok"), .public_only = true, .unix_socket = "/tmp/x"});
    assert_int_equal(x.fault, HTTP_FAILED);
}

static void addresses_and_dates(void **state)
{
    (void)state;
    static const char *const inside[] = {"127.0.0.1",       "10.1.2.3",        "172.16.0.1",  "172.31.255.255",
                                         "192.168.1.1",     "169.254.169.254", "0.0.0.0",     "100.64.1.1",
                                         "224.0.0.1",       "255.255.255.255", "::1",         "::",
                                         "fe80::1",         "fd00::1",         "ff02::1",     "::ffff:10.0.0.1",
                                         "64:ff9b::7f00:1", "2002:7f00:1::",   "2001:db8::1", "::ffff:127.0.0.1"};
    static const char *const outside[] = {"1.1.1.1", "172.32.0.1", "100.128.0.1", "2606:4700::1111",
                                          "::ffff:8.8.8.8"};
    for (size_t i = 0; i < sizeof inside / sizeof *inside + sizeof outside / sizeof *outside; i++) {
        bool in = i < sizeof inside / sizeof *inside;
        const char *text = in ? inside[i] : outside[i - sizeof inside / sizeof *inside];
        struct sockaddr_in v4 = {.sin_family = AF_INET};
        struct sockaddr_in6 v6 = {.sin6_family = AF_INET6};
        const void *a = &v4;
        if (inet_pton(AF_INET, text, &v4.sin_addr) != 1) {
            assert_int_equal(inet_pton(AF_INET6, text, &v6.sin6_addr), 1);
            a = &v6;
        }
        if (http_address_public(a) == in)
            print_message("%s\n", text);
        assert_int_equal(http_address_public(a), !in);
    }
    assert_false(http_address_public(&(struct sockaddr){.sa_family = AF_UNIX}));
    assert_true(http_retry_after("0", 0) == 0);
    assert_true(http_retry_after("120", 0) == 120000);
    assert_true(http_retry_after(" 5 ", 0) == 5000);
    assert_true(http_retry_after("99999999999999999999999999", 0) == 365LL * 24 * 3600 * 1000);
    assert_true(http_retry_after("Thu, 01 Jan 1970 00:01:00 GMT", 10) == 50000);
    assert_true(http_retry_after("Thu, 01 Jan 1970 00:01:00 GMT", 100) == 0);
    assert_true(http_retry_after("soon", 0) == -1);
    assert_true(http_retry_after("", 0) == -1);
    assert_true(http_retry_after("-5", 0) <= 0);
}

static void pieces_and_cancelling(void **state)
{
    struct env *v = *state;
    struct http_request r = {.url = url(v, "/slow"), .timeout_ms = 5000};
    struct seen x = {0};
    (void)http_start(v->http, &r, on_piece, on_done, &x);
    wait_done(v, &x);
    assert_int_equal(x.fault, HTTP_OK);
    assert_string_equal(x.body, "ababab");
    assert_true(x.pieces >= 2 && x.first_piece_ms >= 50 && x.total_ms > x.first_piece_ms);
    x = (struct seen){.stop_at_piece = true};
    (void)http_start(v->http, &r, on_piece, on_done, &x);
    wait_done(v, &x);
    assert_int_equal(x.fault, HTTP_CANCELLED);
    assert_int_equal(x.status, 200);
    assert_string_equal(x.body, "ab");
    x = (struct seen){0};
    x.cancel_at_piece = http_start(v->http, &r, on_piece, on_done, &x);
    wait_done(v, &x);
    assert_int_equal(x.fault, HTTP_CANCELLED);
    x = (struct seen){0};
    /* A call that is started while another one's piece is told; and one that is cancelled before it has begun. */
    for (int cancel = 0; cancel < 2; cancel++) {
        struct seen inner = {0};
        x = (struct seen){.start_at_piece = v->http, .again = &r, .inner = &inner, .cancel_inner = cancel == 1};
        (void)http_start(v->http, &r, on_piece, on_done, &x);
        wait_done(v, &x);
        wait_done(v, &inner);
        assert_int_equal(x.fault, HTTP_OK);
        assert_int_equal(inner.calls, 1);
        assert_int_equal(inner.fault, cancel ? HTTP_CANCELLED : HTTP_OK);
        assert_string_equal(inner.body, cancel ? "" : "ababab");
    }
    x = (struct seen){0};
    struct http_call *c = http_start(v->http, &r, NULL, on_done, &x);
    http_cancel(c);
    http_cancel(c);
    assert_false(x.done);
    wait_done(v, &x);
    assert_int_equal(x.fault, HTTP_CANCELLED);

    /* Closing ends what is under way. */
    struct seen many[20] = {0};
    for (int i = 0; i < 20; i++) {
        r.url = url(v, i % 2 ? "/hang" : "/slow");
        (void)http_start(v->http, &r, NULL, on_done, &many[i]);
    }
    bool never = false;
    (void)loop_run_until(&v->loop, &never, 30);
    shut(v);
    for (int i = 0; i < 20; i++) {
        assert_int_equal(many[i].calls, 1);
        assert_int_equal(many[i].fault, HTTP_CANCELLED);
    }
}

static void many_at_once(void **state)
{
    struct env *v = *state;
    enum { N = 200 };
    static struct seen x[N];
    memset(x, 0, sizeof x);
    for (int round = 0; round < 3; round++) {
        memset(x, 0, sizeof x);
        for (int i = 0; i < N; i++)
            (void)http_start(v->http, &(struct http_request){.url = url(v, "/ok")}, NULL, on_done, &x[i]);
        for (int i = 0; i < N; i++) {
            wait_done(v, &x[i]);
            assert_int_equal(x[i].status, 200);
        }
    }
}

static struct seen mail(struct env *v, const char *const *to, int64_t timeout_ms)
{
    char text[64];
    snprintf(text, sizeof text, "smtp://127.0.0.1:%d", v->server.port);
    const struct http_mail m = {.from = "redoubt@example.org", .to = to};
    const char *body = "Subject: hello\n\nline\r\n.hidden dot\n";
    return get_with(v, (struct http_request){.url = text,
                                             .mail = &m,
                                             .body = body,
                                             .body_len = strlen(body),
                                             .user = v->server.auth ? "me" : NULL,
                                             .password = v->server.auth ? "pw" : NULL,
                                             .timeout_ms = timeout_ms});
}

static const char *const one[] = {"good@example.org", NULL};
static const char *const two[] = {"good@example.org", "gone@example.org", NULL};
static const char *const bad[] = {"gone@example.org", NULL};

static void mail_accepted(void **state)
{
    struct env *v = *state;
    struct seen x = mail(v, one, 3000);
    assert_int_equal(x.fault, HTTP_OK);
    assert_int_equal(x.status, 250);
    assert_string_equal(x.error, "");
    assert_true(heard(&v->server, "MAIL FROM:<redoubt@example.org>"));
    assert_true(heard(&v->server, "RCPT TO:<good@example.org>"));
    assert_true(heard(&v->server, "Subject: hello\r\n\r\nline\r\n..hidden dot\r\n.\r\n"));

    v->server.rcpt = "550 no such user";
    x = mail(v, two, 3000);
    assert_int_equal(x.fault, HTTP_OK);
    assert_int_equal(x.status, 250);
    assert_string_equal(x.error, "550 no such user");
    assert_int_equal(x.n_refused, 1);
    assert_string_equal(x.refused, "gone@example.org=550 no such user;");

    /* Whoever is refused is named, wherever it stands, with the first line of what was said. */
    static const char *const mixed[] = {"gone1@example.org", "good1good@example.org", "gone2@example.org",
                                        "good@example.org",  "gone3@example.org",     NULL};
    v->server.rcpt = "550-no such user\r\n550 really not";
    x = mail(v, mixed, 3000);
    assert_int_equal(x.fault, HTTP_OK);
    assert_int_equal(x.status, 250);
    assert_int_equal(x.n_refused, 3);
    assert_string_equal(x.refused, "gone1@example.org=550-no such user;gone2@example.org=550-no such user;"
                                   "gone3@example.org=550-no such user;");

    v->server.rcpt = NULL;
    v->server.auth = "235 welcome";
    x = mail(v, one, 3000);
    assert_int_equal(x.status, 250);
    assert_true(heard(&v->server, "AUTH PLAIN"));

    /* A server that says nothing to QUIT delays nobody. */
    v->server.quit = "hang";
    int64_t start = clock_mono_ms();
    x = mail(v, one, 5000);
    assert_int_equal(x.status, 250);
    assert_true(clock_mono_ms() - start < 2000);
}

static void mail_refused(void **state)
{
    struct env *v = *state;
    v->server.rcpt = "550 no such user";
    struct seen x = mail(v, bad, 3000);
    assert_int_equal(x.fault, HTTP_OK);
    assert_int_equal(x.status, 550);
    assert_string_equal(x.error, "550 no such user");
    v->server.rcpt = "451 try later";
    x = mail(v, bad, 3000);
    assert_int_equal(x.fault, HTTP_OK);
    assert_int_equal(x.status, 451);
    assert_string_equal(x.refused, "gone@example.org=451 try later;");
    v->server.rcpt = NULL;
    v->server.data = "554 looks like spam";
    x = mail(v, one, 3000);
    assert_int_equal(x.fault, HTTP_OK);
    assert_int_equal(x.status, 554);
    v->server.data = NULL;
    v->server.mail = "553 not you";
    x = mail(v, one, 3000);
    assert_int_equal(x.status, 553);
    v->server.mail = NULL;
    v->server.greeting = "421 too busy";
    x = mail(v, one, 3000);
    assert_int_equal(x.fault, HTTP_OK);
    assert_int_equal(x.status, 421);
    v->server.greeting = NULL;
    v->server.auth = "535 wrong password";
    x = mail(v, one, 3000);
    assert_int_equal(x.fault, HTTP_LOGIN);
}

static void mail_faults(void **state)
{
    struct env *v = *state;
    _Atomic(const char *) *stages[] = {&v->server.greeting, &v->server.mail, &v->server.data};
    for (size_t i = 0; i < 3; i++) {
        *stages[i] = "hang";
        struct seen x = mail(v, one, 300);
        assert_int_equal(x.fault, HTTP_TIMEOUT);
        *stages[i] = "cut";
        x = mail(v, one, 3000);
        assert_int_equal(x.fault, HTTP_CUT);
        *stages[i] = NULL;
    }
    v->server.greeting = "SSH-2.0-nonsense";
    struct seen x = mail(v, one, 1000);
    assert_true(x.fault == HTTP_BAD_ANSWER || x.fault == HTTP_TIMEOUT);
    v->server.greeting = NULL;

    char text[64];
    snprintf(text, sizeof text, "smtp://127.0.0.1:%d", harness_free_port());
    struct http_mail m = {.from = "a@b", .to = one};
    assert_int_equal(get_with(v, (struct http_request){.url = text, .mail = &m}).fault, HTTP_CONNECT);
    snprintf(text, sizeof text, "smtp://127.0.0.1:%d", v->server.port);
    m.starttls = true;
    assert_int_equal(get_with(v, (struct http_request){.url = text, .mail = &m}).fault, HTTP_TLS);
    m.starttls = false;
    m.from = "a@b>\r\nRCPT TO:<x";
    assert_int_equal(get_with(v, (struct http_request){.url = text, .mail = &m}).fault, HTTP_FAILED);
    m.from = "a@b";
    m.to = (const char *[]){NULL};
    assert_int_equal(get_with(v, (struct http_request){.url = text, .mail = &m}).fault, HTTP_FAILED);
    m.to = one;
    assert_int_equal(get_with(v, (struct http_request){.url = "http://127.0.0.1/", .mail = &m}).fault,
                     HTTP_FORBIDDEN);
    assert_int_equal(get_with(v, (struct http_request){.url = text, .mail = &m, .public_only = true}).fault,
                     HTTP_FORBIDDEN);
}

static void mails_cancelled_and_closed(void **state)
{
    struct env *v = *state;
    char text[64];
    snprintf(text, sizeof text, "smtp://127.0.0.1:%d", v->server.port);
    const struct http_mail m = {.from = "a@b", .to = one};
    const struct http_request r = {.url = text, .mail = &m, .body = "x", .body_len = 1, .timeout_ms = 60000};
    v->server.data = "hang";
    enum { N = HTTP_MAILS_AT_ONCE + 6 };
    struct seen x[N] = {0};
    struct http_call *c[N];
    for (int i = 0; i < N; i++)
        c[i] = http_start(v->http, &r, NULL, on_done, &x[i]);
    bool never = false;
    for (int i = 0; i < 500 && !heard(&v->server, "DATA"); i++)
        (void)loop_run_until(&v->loop, &never, 10);
    assert_true(atomic_load(&v->server.connections) <= HTTP_MAILS_AT_ONCE);
    http_cancel(c[0]);     /* on its way */
    http_cancel(c[N - 1]); /* waiting */
    int64_t start = clock_mono_ms();
    wait_done(v, &x[0]);
    wait_done(v, &x[N - 1]);
    assert_int_equal(x[0].fault, HTTP_CANCELLED);
    assert_int_equal(x[N - 1].fault, HTTP_CANCELLED);
    shut(v);
    assert_true(clock_mono_ms() - start < 5000);
    for (int i = 0; i < N; i++)
        assert_int_equal(x[i].calls, 1);
}

static void mails_past_a_hanging_quit(void **state)
{
    struct env *v = *state;
    v->server.quit = "hang";
    for (int i = 0; i < 12; i++) { /* more than may hang at once: the oldest are cut off */
        struct seen x = mail(v, one, 5000);
        assert_int_equal(x.status, 250);
    }
    int64_t start = clock_mono_ms();
    shut(v);
    assert_true(clock_mono_ms() - start < 5000);
}

int main(void)
{
#define T(f, u) cmocka_unit_test_setup_teardown(f, set_up_##u, tear_down)
    const struct CMUnitTest tests[] = {
        T(answers, http),
        T(requests, http),
        T(faults, http),
        T(public_only, http),
        cmocka_unit_test(addresses_and_dates),
        T(pieces_and_cancelling, http),
        T(many_at_once, http),
        T(mail_accepted, smtp),
        T(mail_refused, smtp),
        T(mail_faults, smtp),
        T(mails_cancelled_and_closed, smtp),
        T(mails_past_a_hanging_quit, smtp),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
