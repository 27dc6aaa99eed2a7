/* http_mail.c - SMTP and syslog, each mail and each syslog message in a thread of its own.
 *
 * libcurl ends an SMTP connection with a blocking QUIT; on the loop a silent server would hold the whole service. A thread hands over
 * how its mail ended *before* it says QUIT, so that a hanging QUIT delays nobody. To cancel, the loop shuts the socket down:
 * whatever the thread waits for, it wakes up.
 *
 * Who owns what: `call` belongs to the thread from its start until it is put on `told`, and to the loop before and after. */
#include "common/http_priv.h"
#include <assert.h>
#include <netinet/in.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <unistd.h>

#define STACK_BYTES  (256 * 1024) /* curl with TLS needs well under 100 KiB */
#define QUITTING_MAX 8            /* threads that still say QUIT; then the oldest is cut off */
#define SOCKETS_MAX  4            /* of one mail at once: curl tries IPv6 and IPv4 side by side */

struct mail_thread {
    struct http_mailer *mailer;
    struct mail_thread *prev, *next; /* loop: all that are not joined, newest first */
    struct mail_thread *gone_next;
    uv_thread_t thread;
    CURL *easy;
    struct http_call *call; /* NULL once handed over */
    char error[CURL_ERROR_SIZE];
    _Atomic bool abort;
    pthread_mutex_t lock; /* of fds: opened and closed by the thread, shut down by the loop */
    int fds[SOCKETS_MAX];
    bool running, quitting; /* loop: started; its call was told */
};

struct http_mailer {
    struct http *http;
    uv_async_t wake;
    struct http_call *waiting; /* oldest first */
    struct mail_thread *threads;
    int n_sending, n_quitting;
    bool closing, wake_closing;
    pthread_mutex_t lock; /* of the two lists that threads add to */
    struct http_call *told;
    struct mail_thread *gone;
};

/* ---- in the thread ---- */

static size_t on_read(char *buf, size_t size, size_t n, void *ctx)
{
    struct http_call *c = ((struct mail_thread *)ctx)->call;
    size_t room = size * n;
    if (!c)
        return 0;
    size_t len = c->mail_len - c->mail_sent < room ? c->mail_len - c->mail_sent : room;
    memcpy(buf, c->mail_text + c->mail_sent, len);
    c->mail_sent += len;
    return len;
}

/* A line that refuses the recipient that was asked for last: its first line, if the answer has several. */
static void refuse(struct http_call *c, int code, const char *line)
{
    if (code < 500)
        c->refused_again = code;
    for (size_t i = 0; i < c->n_refused; i++)
        if (c->refused[i].to == c->asked->data)
            return;
    char *why = c->n_refused < c->n_rcpt ? strdup(line) : NULL;
    if (why)
        c->refused[c->n_refused++] = (struct http_refused){c->asked->data, why};
}

/* Each line that the server says. */
static size_t on_line(char *data, size_t size, size_t n, void *ctx)
{
    struct http_call *c = ((struct mail_thread *)ctx)->call;
    size_t len = size * n;
    for (size_t i = 0; i < 3; i++)
        if (len < 3 || data[i] < '0' || data[i] > '9')
            return len;
    if (!c)
        return len;
    int code = (data[0] - '0') * 100 + (data[1] - '0') * 10 + (data[2] - '0');
    if (code == 221) /* the farewell after a refusal says nothing about the mail */
        return len;
    c->status = code;
    if (code >= 400) {
        int keep = (int)(len < sizeof c->refusal - 1 ? len : sizeof c->refusal - 1);
        snprintf(c->refusal, sizeof c->refusal, "%.*s", keep, data);
        c->refusal[strcspn(c->refusal, "\r\n")] = 0;
        if (c->asked)
            refuse(c, code, c->refusal);
    }
    return len;
}

/* What libcurl does, of which only the commands that it sends are looked at: whose RCPT is it that the next lines answer? It asks for the
 * recipients in order, one after the other. */
static int on_debug(CURL *easy, curl_infotype type, char *data, size_t len, void *ctx)
{
    struct http_call *c = ((struct mail_thread *)ctx)->call;
    (void)easy;
    if (!c || type != CURLINFO_HEADER_OUT)
        return 0;
    if (len >= 8 && strncasecmp(data, "RCPT TO:", 8) == 0)
        c->asked = c->asked ? c->asked->next : c->rcpt;
    else
        c->asked = NULL;
    return 0;
}

static curl_socket_t on_open_socket(void *ctx, curlsocktype purpose, struct curl_sockaddr *a)
{
    struct mail_thread *t = ctx;
    (void)purpose;
    if (t->call && t->call->public_only && !http_address_public(&a->addr)) {
        t->call->forbidden = true;
        return CURL_SOCKET_BAD;
    }
    if (t->call && t->call->datagrams) {
        a->socktype = SOCK_DGRAM;
        a->protocol = IPPROTO_UDP;
    }
    int fd = socket(a->family, a->socktype | SOCK_CLOEXEC, a->protocol);
    pthread_mutex_lock(&t->lock);
    int slot = 0;
    while (slot < SOCKETS_MAX && t->fds[slot] >= 0)
        slot++;
    bool keep = fd >= 0 && slot < SOCKETS_MAX && !atomic_load(&t->abort);
    if (keep)
        t->fds[slot] = fd;
    pthread_mutex_unlock(&t->lock);
    if (!keep && fd >= 0)
        close(fd);
    return keep ? fd : CURL_SOCKET_BAD;
}

static int on_close_socket(void *ctx, curl_socket_t fd)
{
    struct mail_thread *t = ctx;
    pthread_mutex_lock(&t->lock);
    for (int i = 0; i < SOCKETS_MAX; i++)
        if (t->fds[i] == fd)
            t->fds[i] = -1;
    int r = close(fd); /* under the lock: the loop must not shut down a number that is somebody else's by now */
    pthread_mutex_unlock(&t->lock);
    return r;
}

static int on_progress(void *ctx, curl_off_t dl, curl_off_t dl_now, curl_off_t ul, curl_off_t ul_now)
{
    (void)dl;
    (void)dl_now;
    (void)ul;
    (void)ul_now;
    return atomic_load(&((struct mail_thread *)ctx)->abort);
}

static void mail_main(void *arg)
{
    struct mail_thread *t = arg;
    struct http_mailer *m = t->mailer;
    struct http_call *c = t->call;
    c->code = c->syslog ? http_syslog_perform(t->easy, c, &t->abort, t->error) : curl_easy_perform(t->easy);
    curl_off_t connected = 0;
    curl_easy_getinfo(t->easy, CURLINFO_CONNECT_TIME_T, &connected);
    c->connected = connected > 0;
    /* Nobody was taken, and one of them may be later: so may the mail. */
    if (c->mail && c->n_refused == c->n_rcpt && c->refused_again)
        c->status = c->refused_again;
    snprintf(c->error, sizeof c->error, "%s", t->error);
    t->call = NULL;
    pthread_mutex_lock(&m->lock);
    c->mail_next = m->told;
    m->told = c;
    pthread_mutex_unlock(&m->lock);
    uv_async_send(&m->wake);

    curl_easy_cleanup(t->easy); /* QUIT */
    pthread_mutex_lock(&m->lock);
    t->gone_next = m->gone;
    m->gone = t;
    uv_async_send(&m->wake); /* under the lock: the mailer lives until this thread is joined, and that is after it */
    pthread_mutex_unlock(&m->lock);
}

/* ---- on the loop ---- */

static void cut_off(struct mail_thread *t)
{
    atomic_store(&t->abort, true);
    pthread_mutex_lock(&t->lock);
    for (int i = 0; i < SOCKETS_MAX; i++)
        if (t->fds[i] >= 0)
            (void)shutdown(t->fds[i], SHUT_RDWR);
    pthread_mutex_unlock(&t->lock);
}

static void start_waiting(struct http_mailer *m);

static void thread_free(struct mail_thread *t)
{
    struct http_mailer *m = t->mailer;
    if (t->prev)
        t->prev->next = t->next;
    else
        m->threads = t->next;
    if (t->next)
        t->next->prev = t->prev;
    pthread_mutex_destroy(&t->lock);
    free(t);
}

static void wake_closed(uv_handle_t *w)
{
    struct http_mailer *m = w->data;
    struct http *h = m->http;
    pthread_mutex_destroy(&m->lock);
    free(m);
    h->mailer = NULL;
    http_closed_part(h);
}

static void close_when_idle(struct http_mailer *m)
{
    if (!m->closing || m->threads || m->wake_closing)
        return;
    m->wake_closing = true;
    uv_close((uv_handle_t *)&m->wake, wake_closed);
}

static void on_wake(uv_async_t *w)
{
    struct http_mailer *m = w->data;
    pthread_mutex_lock(&m->lock);
    struct http_call *told = m->told;
    struct mail_thread *gone = m->gone;
    m->told = NULL;
    m->gone = NULL;
    pthread_mutex_unlock(&m->lock);
    while (told) {
        struct http_call *c = told;
        told = c->mail_next;
        c->mail_next = NULL;
        c->thread->quitting = true;
        c->thread = NULL;
        m->n_sending--;
        m->n_quitting++;
        http_ended(c, c->code);
    }
    while (gone) {
        struct mail_thread *t = gone;
        gone = t->gone_next;
        uv_thread_join(&t->thread);
        m->n_quitting--;
        thread_free(t);
    }
    start_waiting(m);
    close_when_idle(m);
}

static struct http_mailer *mailer_open(struct http *h)
{
    struct http_mailer *m = calloc(1, sizeof *m);
    if (!m || uv_async_init(&h->loop->uv, &m->wake, on_wake) < 0) {
        free(m);
        return NULL;
    }
    m->http = h;
    m->wake.data = m;
    pthread_mutex_init(&m->lock, NULL);
    return m;
}

static struct mail_thread *thread_new(struct http_mailer *m, struct http_call *c)
{
    struct mail_thread *t = calloc(1, sizeof *t);
    if (!t)
        return NULL;
    t->easy = curl_easy_init();
    if (!t->easy) {
        free(t);
        return NULL;
    }
    t->mailer = m;
    t->call = c;
    for (int i = 0; i < SOCKETS_MAX; i++)
        t->fds[i] = -1;
    pthread_mutex_init(&t->lock, NULL);
    t->next = m->threads;
    if (t->next)
        t->next->prev = t;
    m->threads = t;
    return t;
}

static void set_mail_options(struct mail_thread *t, struct http_call *c, const struct http_request *r)
{
    CURL *easy = t->easy;
    http_common_options(easy, r, "smtp,smtps");
    int64_t total_s = (c->timeout_ms + 999) / 1000;
    curl_easy_setopt(easy, CURLOPT_SERVER_RESPONSE_TIMEOUT, (long)total_s); /* bounds the QUIT after a refusal */
    curl_easy_setopt(easy, CURLOPT_MAIL_FROM, r->mail->from);
    curl_easy_setopt(easy, CURLOPT_MAIL_RCPT, c->rcpt);
#if LIBCURL_VERSION_NUM >= 0x080200
    curl_easy_setopt(easy, CURLOPT_MAIL_RCPT_ALLOWFAILS, 1L);
#else
    curl_easy_setopt(easy, CURLOPT_MAIL_RCPT_ALLLOWFAILS, 1L);
#endif
    if (r->mail->starttls)
        curl_easy_setopt(easy, CURLOPT_USE_SSL, (long)CURLUSESSL_ALL);
    curl_easy_setopt(easy, CURLOPT_UPLOAD, 1L);
    curl_easy_setopt(easy, CURLOPT_INFILESIZE_LARGE, (curl_off_t)c->mail_len);
    curl_easy_setopt(easy, CURLOPT_READFUNCTION, on_read);
    curl_easy_setopt(easy, CURLOPT_READDATA, t);
    curl_easy_setopt(easy, CURLOPT_HEADERFUNCTION, on_line);
    curl_easy_setopt(easy, CURLOPT_HEADERDATA, t);
    curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, on_line); /* nothing comes this way today; never to stdout */
    curl_easy_setopt(easy, CURLOPT_WRITEDATA, t);
    curl_easy_setopt(easy, CURLOPT_DEBUGFUNCTION, on_debug); /* and so nothing of it goes to stderr */
    curl_easy_setopt(easy, CURLOPT_DEBUGDATA, t);
    curl_easy_setopt(easy, CURLOPT_VERBOSE, 1L);
}

static const char *set_options(struct mail_thread *t, struct http_call *c, const struct http_request *r)
{
    CURL *easy = t->easy;
    const char *wrong = NULL;
    if (c->mail)
        set_mail_options(t, c, r);
    else
        wrong = http_syslog_options(easy, c, r);
    if (!wrong && r->tls)
        wrong = http_tls_options(easy, c, r->tls);
    curl_easy_setopt(easy, CURLOPT_ERRORBUFFER, t->error);
    curl_easy_setopt(easy, CURLOPT_OPENSOCKETFUNCTION, on_open_socket);
    curl_easy_setopt(easy, CURLOPT_OPENSOCKETDATA, t);
    curl_easy_setopt(easy, CURLOPT_CLOSESOCKETFUNCTION, on_close_socket);
    curl_easy_setopt(easy, CURLOPT_CLOSESOCKETDATA, t);
    curl_easy_setopt(easy, CURLOPT_XFERINFOFUNCTION, on_progress);
    curl_easy_setopt(easy, CURLOPT_XFERINFODATA, t);
    curl_easy_setopt(easy, CURLOPT_NOPROGRESS, 0L);
    return wrong;
}

static void cut_oldest_quitting(struct http_mailer *m)
{
    struct mail_thread *oldest = NULL;
    for (struct mail_thread *t = m->threads; t; t = t->next)
        if (t->quitting)
            oldest = t;
    if (oldest)
        cut_off(oldest);
}

/* Takes back a mail whose thread does not run. */
static void detach(struct http_call *c)
{
    struct mail_thread *t = c->thread;
    c->thread = NULL;
    curl_easy_cleanup(t->easy);
    thread_free(t);
}

static void start_waiting(struct http_mailer *m)
{
    while (m->waiting && m->n_sending < HTTP_MAILS_AT_ONCE) {
        struct http_call *c = m->waiting;
        m->waiting = c->mail_next;
        c->mail_next = NULL;
        if (m->n_quitting >= QUITTING_MAX)
            cut_oldest_quitting(m);
        const uv_thread_options_t o = {.flags = UV_THREAD_HAS_STACK_SIZE, .stack_size = STACK_BYTES};
        c->thread->running = true;
        int r = uv_thread_create_ex(&c->thread->thread, &o, mail_main, c->thread);
        if (r < 0) {
            detach(c);
            snprintf(c->error, sizeof c->error, "no thread for the mail: %s", uv_strerror(r));
            http_ended(c, CURLE_FAILED_INIT);
        } else {
            m->n_sending++;
        }
    }
}

const char *http_mail_start(struct http *h, struct http_call *c, const struct http_request *r)
{
    if (!h->mailer)
        h->mailer = mailer_open(h);
    if (!h->mailer)
        return "out of memory";
    c->thread = thread_new(h->mailer, c);
    if (!c->thread)
        return "out of memory";
    const char *wrong = set_options(c->thread, c, r);
    if (wrong) {
        detach(c);
        return wrong;
    }
    struct http_call **end = &h->mailer->waiting;
    while (*end)
        end = &(*end)->mail_next;
    *end = c;
    uv_async_send(&h->mailer->wake); /* started from there: nothing may end inside this call */
    return NULL;
}

bool http_mail_cancel(struct http_call *c)
{
    struct http_mailer *m = c->http->mailer;
    if (!c->thread)
        return true;
    if (c->thread->running) {
        cut_off(c->thread);
        return false;
    }
    for (struct http_call **at = &m->waiting; *at; at = &(*at)->mail_next)
        if (*at == c) {
            *at = c->mail_next;
            break;
        }
    c->mail_next = NULL;
    detach(c);
    return true;
}

void http_mail_close(struct http *h)
{
    struct http_mailer *m = h->mailer;
    if (!m)
        return;
    m->closing = true;
    for (struct mail_thread *t = m->threads; t; t = t->next)
        cut_off(t);
    close_when_idle(m);
}
