/* http.c - outward calls: from a request to curl's options, and from curl's end to a result.
 *
 * The happy path: http_start prepares an easy handle and gives it to the multi handle -> pieces of the answer are collected -> curl
 * is done -> http_ended takes what is worth knowing, removes the handle and tells the caller. A call that cannot even start, and
 * one that is cancelled, end the same way by way of loop_defer, never from inside. */
#include "common/clock.h"
#include "common/http_priv.h"
#include "common/metric.h"
#include <arpa/inet.h>
#include <assert.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <time.h>
#include <unistd.h>

#define CONNECT_TIMEOUT_MS 3000
#define TIMEOUT_MS         10000
#define RESPONSE_MAX       (1 << 20)
#define HEAD_MAX           65536

METRIC_DEFINE(started, METRIC_COUNTER, "redoubt_http_calls_total", "Outward HTTP and SMTP calls.");
METRIC_DEFINE(faults, METRIC_COUNTER, "redoubt_http_faults_total", "Outward calls that ended without an answer.");

/* ---- curl's callbacks ---- */

static void mark_first_byte(struct http_call *c)
{
    if (c->body_len == 0)
        c->first_byte_ms = clock_mono_ms() - c->start_ms;
}

static bool begins(const char *line, size_t len, const char *name)
{
    size_t n = strlen(name);
    return len >= n && strncasecmp(line, name, n) == 0;
}

static size_t on_header(char *data, size_t size, size_t n, void *ctx)
{
    struct http_call *c = ctx;
    size_t len = size * n;
    if (c->first_byte_ms < 0) {
        mark_first_byte(c);
        http_uv_answers(c);
    }
    c->has_retry_after = c->has_retry_after || begins(data, len, "Retry-After:");
    c->has_encoding = c->has_encoding || begins(data, len, "Content-Encoding:");
    c->head_len += len;
    if (c->head_len > HEAD_MAX) {
        c->too_large = true;
        return 0;
    }
    return len;
}

static bool grow(struct http_call *c, size_t need)
{
    if (need <= c->body_cap)
        return true;
    size_t cap = c->body_cap ? c->body_cap : 4096;
    while (cap < need)
        cap *= 2;
    char *body = realloc(c->body, cap);
    if (!body)
        return false;
    c->body = body;
    c->body_cap = cap;
    return true;
}

static size_t on_body(char *data, size_t size, size_t n, void *ctx)
{
    struct http_call *c = ctx;
    size_t len = size * n;
    if (len == 0)
        return 0;
    if (c->cancelled) /* by a piece before this one */
        return 0;
    mark_first_byte(c);
    if (len > c->max_response - c->body_len) {
        c->too_large = true;
        return 0;
    }
    if (!grow(c, c->body_len + len + 1)) {
        c->out_of_memory = true;
        return 0;
    }
    memcpy(c->body + c->body_len, data, len);
    c->body_len += len;
    c->body[c->body_len] = '\0';
    if (c->piece && !c->piece(c->ctx, data, len, clock_mono_ms() - c->start_ms)) {
        c->ended_by_piece = true;
        return 0;
    }
    return len;
}

/* Guard against addresses inside: asked for each new connection, before anything is sent. */
static curl_socket_t on_open_socket(void *ctx, curlsocktype purpose, struct curl_sockaddr *a)
{
    struct http_call *c = ctx;
    (void)purpose;
    if (!http_address_public(&a->addr)) {
        c->forbidden = true;
        return CURL_SOCKET_BAD;
    }
    return socket(a->family, a->socktype | SOCK_CLOEXEC, a->protocol);
}

static int on_close_socket(void *ctx, curl_socket_t fd)
{
    http_uv_closing(ctx, fd);
    return close(fd);
}

/* The same guard for a kept connection, which another call may have opened without it. */
static int on_before_request(void *ctx, char *ip, char *local_ip, int port, int local_port)
{
    struct http_call *c = ctx;
    struct sockaddr_in v4 = {.sin_family = AF_INET};
    struct sockaddr_in6 v6 = {.sin6_family = AF_INET6};
    bool ok = false;
    (void)local_ip;
    (void)port;
    (void)local_port;
    if (inet_pton(AF_INET, ip, &v4.sin_addr) == 1)
        ok = http_address_public((const struct sockaddr *)(const void *)&v4);
    else if (inet_pton(AF_INET6, ip, &v6.sin6_addr) == 1)
        ok = http_address_public((const struct sockaddr *)(const void *)&v6);
    c->forbidden = c->forbidden || !ok;
    return ok ? CURL_PREREQFUNC_OK : CURL_PREREQFUNC_ABORT;
}

/* ---- the end of a call ---- */

static void drop_idle(struct http_idle *idle)
{
    while (idle->n)
        curl_easy_cleanup(idle->easy[--idle->n]);
}

static void clean(void *ctx)
{
    struct http *h = ctx;
    h->cleaned = true;
    drop_idle(&h->plain);
    drop_idle(&h->bare);
    http_uv_close(h);
    http_mail_close(h);
}

static void clean_when_idle(struct http *h)
{
    if (!h->closing || h->calls || h->clean_due)
        return;
    h->clean_due = true;
    loop_defer(h->loop, clean, h); /* a caller further up may be reading from the multi handle */
}

/* curl begins a call anew when its kept connection turns out to be dead, and counts that in the handle until it is reset: the fifth
 * time it would give up. So a handle keeps its options only if nothing of the kind can have happened. */
static bool keeps_options(const struct http_call *c)
{
    long connects = 1;
    return c->plain && !c->moved && curl_easy_getinfo(c->easy, CURLINFO_NUM_CONNECTS, &connects) == CURLE_OK &&
           connects == 0;
}

static void call_free(struct http_call *c)
{
    struct http *h = c->http;
    bool keeps = c->easy && keeps_options(c);
    struct http_idle *idle = keeps ? &h->plain : &h->bare;
    if (c->easy && idle->n < HTTP_IDLE_MAX) {
        if (keeps)
            curl_easy_setopt(c->easy, CURLOPT_ERRORBUFFER, NULL); /* it is in the call, which goes */
        else
            curl_easy_reset(c->easy);
        idle->easy[idle->n++] = c->easy;
    } else if (c->easy) {
        curl_easy_cleanup(c->easy);
    }
    curl_slist_free_all(c->headers);
    curl_slist_free_all(c->rcpt);
    curl_slist_free_all(c->connect_to);
    for (size_t i = 0; i < c->n_refused; i++)
        free((char *)c->refused[i].why);
    free(c->refused);
    free(c->mail_text);
    free(c->body);
    free(c);
}

/* Tells the caller; nobody else has the call in hand any more. */
static void tell(struct http_call *c)
{
    struct http *h = c->http;
    char type[128] = "", error[CURL_ERROR_SIZE];
    struct http_result r = {.fault = c->fault,
                            .status = c->status,
                            .retry_after_ms = -1,
                            .content_type = type,
                            .call = c,
                            .refused = c->refused,
                            .n_refused = c->n_refused};
    if (c->easy && !c->mail) {
        long status = 0;
        char *text = NULL;
        struct curl_header *head;
        curl_easy_getinfo(c->easy, CURLINFO_RESPONSE_CODE, &status);
        r.status = (int)status;
        if (curl_easy_getinfo(c->easy, CURLINFO_CONTENT_TYPE, &text) == CURLE_OK && text)
            snprintf(type, sizeof type, "%s", text);
        if (c->has_retry_after && curl_easy_header(c->easy, "Retry-After", 0, CURLH_HEADER, -1, &head) == CURLHE_OK)
            r.retry_after_ms = http_retry_after(head->value, time(NULL));
        /* We never say that we understand an encoding, so nobody may use one. */
        if (r.fault == HTTP_OK && c->has_encoding &&
            curl_easy_header(c->easy, "Content-Encoding", 0, CURLH_HEADER, -1, &head) == CURLHE_OK &&
            strcasecmp(head->value, "identity") != 0) {
            r.fault = HTTP_BAD_ANSWER;
            snprintf(c->error, sizeof c->error, "the body has an encoding that was not asked for");
        }
    }
    if (r.fault == HTTP_OK)
        snprintf(error, sizeof error, "%s", c->mail ? c->refusal : "");
    else
        snprintf(error, sizeof error, "%s", c->error[0] ? c->error : http_fault_text(r.fault));
    error[strcspn(error, "\r\n")] = '\0';
    r.error = error;
    r.body = c->body ? c->body : "";
    r.len = c->body_len;
    r.total_ms = clock_mono_ms() - c->start_ms;
    r.first_byte_ms = c->first_byte_ms;
    if (r.fault != HTTP_OK)
        metric_add(&faults, 1);

    c->end_due = true; /* a cancel from inside done() is too late */
    c->done(c->ctx, &r);

    if (c->prev)
        c->prev->next = c->next;
    else
        h->calls = c->next;
    if (c->next)
        c->next->prev = c->prev;
    call_free(c);
    clean_when_idle(h);
}

static void leave_multi(struct http_call *c)
{
    if (c->in_multi)
        (void)curl_multi_remove_handle(c->http->multi, c->easy);
    c->in_multi = false;
}

static void tell_later(void *ctx)
{
    struct http_call *c = ctx;
    leave_multi(c);
    if (c->cancelled)
        c->fault = HTTP_CANCELLED;
    tell(c);
}

static void defer_end(struct http_call *c)
{
    if (c->end_due)
        return;
    c->end_due = true;
    loop_defer(c->http->loop, tell_later, c);
}

void http_ended(struct http_call *c, CURLcode code)
{
    if (c->easy) {
        curl_off_t t = 0;
        curl_easy_getinfo(c->easy, CURLINFO_PRETRANSFER_TIME_T, &t);
        c->connected = t > 0;
    }
    leave_multi(c);
    if (c->end_due) /* cancelled: tell_later is on its way */
        return;
    c->fault = c->cancelled ? HTTP_CANCELLED : http_verdict(c, code);
    if (c->too_large)
        snprintf(c->error, sizeof c->error, "the answer is larger than %zu bytes, or its head than %d",
                 c->max_response, HEAD_MAX);
    else if (c->forbidden && c->fault == HTTP_FORBIDDEN)
        snprintf(c->error, sizeof c->error, "the address is not a public one");
    else if (c->out_of_memory)
        snprintf(c->error, sizeof c->error, "out of memory");
    else if (!c->error[0] && code != CURLE_OK)
        snprintf(c->error, sizeof c->error, "%s", curl_easy_strerror(code));
    tell(c);
}

/* ---- the start of a call ---- */

static bool clean_text(const char *s)
{
    for (; *s; s++)
        if ((unsigned char)*s < 0x20 || *s == 0x7f)
            return false;
    return true;
}

/* Text that curl would pass on as it is may hold no line break: it would become a header or a command of its own. */
static const char *wrong_request(const struct http_request *r)
{
    if (!r->url || !r->url[0] || !clean_text(r->url))
        return "the URL is missing or holds a control character";
    if (r->method && (!r->method[0] || strspn(r->method, "ABCDEFGHIJKLMNOPQRSTUVWXYZ") != strlen(r->method)))
        return "the method must be of capital letters";
    for (size_t i = 0; r->headers && r->headers[i]; i++)
        if (!clean_text(r->headers[i]) || !strchr(r->headers[i], ':'))
            return "a header has no colon or holds a control character";
    if (r->unix_socket && r->public_only)
        return "a unix socket is no public address";
    if (r->mail && r->syslog)
        return "a mail is no syslog message";
    if (!r->mail)
        return NULL;
    if (!r->mail->from || !clean_text(r->mail->from) || strpbrk(r->mail->from, "<> "))
        return "the sender's address is missing or malformed";
    if (!r->mail->to || !r->mail->to[0])
        return "the mail has no recipient";
    for (size_t i = 0; r->mail->to[i]; i++)
        if (!r->mail->to[i][0] || !clean_text(r->mail->to[i]) || strpbrk(r->mail->to[i], "<> "))
            return "a recipient's address is malformed";
    return NULL;
}

static bool append(struct curl_slist **list, const char *text)
{
    struct curl_slist *more = curl_slist_append(*list, text);
    if (more)
        *list = more;
    return more != NULL;
}

static bool has_header(const struct http_request *r, const char *name)
{
    size_t n = strlen(name);
    for (size_t i = 0; r->headers && r->headers[i]; i++)
        if (strncasecmp(r->headers[i], name, n) == 0 && r->headers[i][n] == ':')
            return true;
    return false;
}

static void where_and_how_long(CURL *easy, const struct http_request *r)
{
    int64_t total = r->timeout_ms > 0 ? r->timeout_ms : TIMEOUT_MS;
    int64_t connect = r->connect_timeout_ms > 0 ? r->connect_timeout_ms : CONNECT_TIMEOUT_MS;
    curl_easy_setopt(easy, CURLOPT_URL, r->url);
    curl_easy_setopt(easy, CURLOPT_CONNECTTIMEOUT_MS, (long)(connect < total ? connect : total));
    curl_easy_setopt(easy, CURLOPT_TIMEOUT_MS, (long)total);
}

void http_common_options(CURL *easy, const struct http_request *r, const char *protocols)
{
    where_and_how_long(easy, r);
    curl_easy_setopt(easy, CURLOPT_PROTOCOLS_STR, protocols);
    curl_easy_setopt(easy, CURLOPT_FOLLOWLOCATION, 0L);
    curl_easy_setopt(easy, CURLOPT_PROXY, "");
    curl_easy_setopt(easy, CURLOPT_NOPROXY, "*");
    curl_easy_setopt(easy, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(easy, CURLOPT_QUICK_EXIT, 1L); /* a hanging resolver thread is left behind, not waited for */
    curl_easy_setopt(easy, CURLOPT_TCP_KEEPALIVE, 1L);
    /* The system's authorities are read once an hour, not for each handshake, which takes longer than the handshake: libcurl keeps those of a
     * bundle, but not if there is a directory beside it. */
    char *bundle = NULL;
    if (curl_easy_getinfo(easy, CURLINFO_CAINFO, &bundle) == CURLE_OK && bundle && *bundle)
        curl_easy_setopt(easy, CURLOPT_CAPATH, NULL);
    curl_easy_setopt(easy, CURLOPT_CA_CACHE_TIMEOUT, 3600L);
    if (r->user)
        curl_easy_setopt(easy, CURLOPT_USERNAME, r->user);
    if (r->password)
        curl_easy_setopt(easy, CURLOPT_PASSWORD, r->password);
}

/* Most calls are probes: a GET of a URL. Whatever else a request may hold makes it another sort, so that no option of one call is ever
 * left set for the next. */
static bool is_plain(const struct http_request *r)
{
    static const struct http_request none;
    struct http_request rest;
    memcpy(&rest, r, sizeof rest);
    rest.url = NULL;
    rest.connect_timeout_ms = rest.timeout_ms = 0;
    rest.max_response = 0;
    if (r->method && strcmp(r->method, "GET") == 0)
        rest.method = NULL;
    if (r->headers && !r->headers[0])
        rest.headers = NULL;
    if (r->body_len == 0)
        rest.body = NULL;
    return memcmp(&rest, &none, sizeof rest) == 0;
}

/* What differs from one plain call to the next. */
static void options_of_call(struct http_call *c)
{
    CURL *easy = c->easy;
    curl_easy_setopt(easy, CURLOPT_ERRORBUFFER, c->error);
    curl_easy_setopt(easy, CURLOPT_PRIVATE, c);
    curl_easy_setopt(easy, CURLOPT_HEADERDATA, c);
    curl_easy_setopt(easy, CURLOPT_WRITEDATA, c);
    curl_easy_setopt(easy, CURLOPT_MAXFILESIZE_LARGE, (curl_off_t)c->max_response);
}

static void options_of_all(struct http_call *c, const struct http_request *r)
{
    CURL *easy = c->easy;
    http_common_options(easy, r, "http,https");
    options_of_call(c);
    curl_easy_setopt(easy, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
    curl_easy_setopt(easy, CURLOPT_HTTPAUTH, (long)CURLAUTH_BASIC);
    curl_easy_setopt(easy, CURLOPT_HTTP_CONTENT_DECODING, 0L);
    curl_easy_setopt(easy, CURLOPT_USERAGENT, "redoubt/" REDOUBT_VERSION);
    curl_easy_setopt(easy, CURLOPT_HEADERFUNCTION, on_header);
    curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, on_body);
    curl_easy_setopt(easy, CURLOPT_CLOSESOCKETFUNCTION, on_close_socket);
    curl_easy_setopt(easy, CURLOPT_CLOSESOCKETDATA, c->http); /* a kept connection outlives the call */
}

static void begin_later(void *ctx);

/* NULL, or what could not be done. */
static const char *begin_http(struct http_call *c)
{
    CURLMcode m = curl_multi_add_handle(c->http->multi, c->easy);
    c->in_multi = m == CURLM_OK;
    if (m == CURLM_RECURSIVE_API_CALL) { /* started from inside a piece of another call: curl takes none then */
        loop_defer(c->http->loop, begin_later, c);
        return NULL;
    }
    return c->in_multi ? NULL : curl_multi_strerror(m);
}

static void begin_later(void *ctx)
{
    struct http_call *c = ctx;
    const char *wrong = c->end_due ? NULL : begin_http(c); /* cancelled meanwhile: its end comes behind this */
    if (!wrong)
        return;
    c->fault = HTTP_FAILED;
    snprintf(c->error, sizeof c->error, "%s", wrong);
    defer_end(c);
}

static const char *prepare_http(struct http_call *c, const struct http_request *r)
{
    struct http *h = c->http;
    c->plain = is_plain(r);
    if (c->plain && h->plain.n) {
        c->easy = h->plain.easy[--h->plain.n];
        where_and_how_long(c->easy, r);
        options_of_call(c);
        return begin_http(c);
    }
    CURL *easy = c->easy = h->bare.n ? h->bare.easy[--h->bare.n] : curl_easy_init();
    if (!easy)
        return "out of memory";
    options_of_all(c, r);
    if (c->plain) {
        curl_easy_setopt(easy, CURLOPT_TCP_KEEPALIVE,
                         0L); /* three system calls per connection, and short calls have their deadline */
        return begin_http(c);
    }
    for (size_t i = 0; r->headers && r->headers[i]; i++)
        if (!append(&c->headers, r->headers[i]))
            return "out of memory";
    if (!append(&c->headers, "Expect:")) /* never wait for a 100 */
        return "out of memory";
    if (r->body_len && !has_header(r, "Content-Type") &&
        !append(&c->headers, "Content-Type:")) /* curl would invent one */
        return "out of memory";
    curl_easy_setopt(easy, CURLOPT_HTTPHEADER, c->headers);
    if (r->fresh) {
        curl_easy_setopt(easy, CURLOPT_FRESH_CONNECT, 1L);
        curl_easy_setopt(easy, CURLOPT_FORBID_REUSE, 1L);
    }
    if (r->unix_socket)
        curl_easy_setopt(easy, CURLOPT_UNIX_SOCKET_PATH, r->unix_socket);
    if (r->public_only) {
        curl_easy_setopt(easy, CURLOPT_OPENSOCKETFUNCTION, on_open_socket);
        curl_easy_setopt(easy, CURLOPT_OPENSOCKETDATA, c);
        curl_easy_setopt(easy, CURLOPT_PREREQFUNCTION, on_before_request);
        curl_easy_setopt(easy, CURLOPT_PREREQDATA, c);
    }
    const char *wrong = r->tls ? http_tls_options(c->easy, c, r->tls) : NULL;
    if (wrong)
        return wrong;
    bool posts = r->body_len || (r->method && strcmp(r->method, "POST") == 0);
    if (posts) {
        curl_easy_setopt(easy, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)r->body_len);
        if (curl_easy_setopt(easy, CURLOPT_COPYPOSTFIELDS, r->body_len ? r->body : "") != CURLE_OK)
            return "out of memory";
    }
    if (r->method && strcmp(r->method, "HEAD") == 0)
        curl_easy_setopt(easy, CURLOPT_NOBODY, 1L);
    else if (r->method && strcmp(r->method, posts ? "POST" : "GET") != 0)
        curl_easy_setopt(easy, CURLOPT_CUSTOMREQUEST, r->method);
    return begin_http(c);
}

static const char *prepare_mail(struct http_call *c, const struct http_request *r)
{
    /* Bare line feeds become CRLF: SMTP knows no other end of a line. */
    const char *body = r->body ? r->body : "";
    c->mail_text = malloc(r->body_len * 2 + 1);
    if (!c->mail_text)
        return "out of memory";
    for (size_t i = 0; i < r->body_len; i++) {
        if (body[i] == '\n' && (i == 0 || body[i - 1] != '\r'))
            c->mail_text[c->mail_len++] = '\r';
        c->mail_text[c->mail_len++] = body[i];
    }
    for (size_t i = 0; r->mail->to[i]; i++, c->n_rcpt++)
        if (!append(&c->rcpt, r->mail->to[i]))
            return "out of memory";
    c->refused = calloc(c->n_rcpt, sizeof *c->refused);
    return c->refused ? http_mail_start(c->http, c, r) : "out of memory";
}

static const char *prepare_syslog(struct http_call *c, const struct http_request *r)
{
    c->mail_text = malloc(r->body_len + 1);
    if (!c->mail_text)
        return "out of memory";
    if (r->body_len)
        memcpy(c->mail_text, r->body, r->body_len);
    c->mail_len = r->body_len;
    return http_mail_start(c->http, c, r);
}

struct http_call *http_start(struct http *h, const struct http_request *r, http_piece piece, http_done done,
                             void *ctx)
{
    assert(!h->closing && done);
    struct http_call *c = calloc(1, sizeof *c);
    if (!c)
        abort(); /* a callback that could not be promised would hang its owner for ever */
    c->http = h;
    c->piece = piece;
    c->done = done;
    c->ctx = ctx;
    c->mail = r->mail != NULL;
    c->syslog = r->syslog;
    c->timeout_ms = r->timeout_ms > 0 ? r->timeout_ms : TIMEOUT_MS;
    c->public_only = r->public_only;
    c->max_response = r->max_response ? r->max_response : RESPONSE_MAX;
    c->start_ms = clock_mono_ms();
    c->first_byte_ms = -1;
    c->fd = CURL_SOCKET_BAD;
    c->next = h->calls;
    if (c->next)
        c->next->prev = c;
    h->calls = c;
    metric_add(&started, 1);

    const char *wrong = wrong_request(r);
    if (!wrong)
        wrong = c->mail ? prepare_mail(c, r) : c->syslog ? prepare_syslog(c, r) : prepare_http(c, r);
    if (wrong) {
        c->fault = HTTP_FAILED;
        snprintf(c->error, sizeof c->error, "%s", wrong);
        defer_end(c);
    }
    return c;
}

void http_cancel(struct http_call *c)
{
    if (c->cancelled)
        return;
    c->cancelled = true;
    if (!(c->mail || c->syslog) || http_mail_cancel(c))
        defer_end(c);
}

/* ---- life ---- */

static void global_init(void)
{
    (void)curl_global_init(CURL_GLOBAL_DEFAULT);
}

struct http *http_open(struct loop *l, struct err *e)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    (void)pthread_once(&once, global_init);
    struct http *h = calloc(1, sizeof *h);
    if (!h) {
        err_set(e, "http: out of memory");
        return NULL;
    }
    h->loop = l;
    if (http_uv_open(h, e) < 0) {
        free(h);
        return NULL;
    }
    return h;
}

void http_closed_part(struct http *h)
{
    if (!h->cleaned || !h->timer_closed || h->polls_open > 0 || h->mailer || h->soon)
        return;
    loop_cb done = h->close_done;
    void *ctx = h->close_ctx;
    free(h->polls);
    free(h);
    if (done)
        done(ctx);
}

void http_close(struct http *h, loop_cb done, void *ctx)
{
    assert(!h->closing);
    h->closing = true;
    h->close_done = done;
    h->close_ctx = ctx;
    for (struct http_call *c = h->calls; c; c = c->next)
        http_cancel(c);
    clean_when_idle(h);
}
