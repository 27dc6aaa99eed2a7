/* http_syslog.c - how syslog messages travel: UDP (RFC 5426), TCP (RFC 6587) and TLS (RFC 5425), in a thread of http_mail.c.
 *
 * libcurl resolves, connects and speaks TLS (CONNECT_ONLY); what is written is ours. Each call has a connection of its own, so that none is
 * written to that the other side has closed long ago. Syslog has no answer: a message counts as handed over when all of it is written and,
 * except by UDP, the other host's kernel has confirmed the last byte while the connection is still open. What happens to it behind that, nobody
 * tells. */
#include "common/clock.h"
#include "common/http_priv.h"
#include <errno.h>
#include <linux/sockios.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#define STEP_MS    50 /* a wait is no longer, so that a cancellation is seen */
#define CONFIRM_MS 2  /* between looks at what is not confirmed yet; nothing wakes us for it */
#define REFUSAL_MS 20 /* UDP: for the host's word that nobody listens on the port */

static const struct {
    const char *scheme, *as, *port;
} transports[] = {{"udp://", "http://", "514"}, {"tcp://", "http://", "601"}, {"tls://", "https://", "6514"}};

/* The URL as libcurl knows it, with a port. malloc'ed by libcurl; NULL if it is of another form. */
static char *url_for_curl(const char *url, bool *ret_datagrams)
{
    for (size_t i = 0; i < sizeof transports / sizeof *transports; i++) {
        size_t n = strlen(transports[i].scheme);
        char text[1024], *port = NULL, *out = NULL;
        if (strncasecmp(url, transports[i].scheme, n) != 0)
            continue;
        if (snprintf(text, sizeof text, "%s%s", transports[i].as, url + n) >= (int)sizeof text)
            return NULL;
        CURLU *u = curl_url();
        bool ok = u && curl_url_set(u, CURLUPART_URL, text, 0) == CURLUE_OK;
        if (ok && curl_url_get(u, CURLUPART_PORT, &port, 0) == CURLUE_NO_PORT)
            ok = curl_url_set(u, CURLUPART_PORT, transports[i].port, 0) == CURLUE_OK;
        if (ok && curl_url_get(u, CURLUPART_URL, &out, 0) != CURLUE_OK)
            out = NULL;
        curl_free(port);
        curl_url_cleanup(u);
        *ret_datagrams = i == 0;
        return out;
    }
    return NULL;
}

const char *http_syslog_options(CURL *easy, struct http_call *c, const struct http_request *r)
{
    char *url = url_for_curl(r->url, &c->datagrams);
    if (!url)
        return "the URL must be udp://, tcp:// or tls://host:port";
    http_common_options(easy, r, "http,https");
    curl_easy_setopt(easy, CURLOPT_URL, url);
    curl_free(url);
    curl_easy_setopt(easy, CURLOPT_CONNECT_ONLY, 1L);
    curl_easy_setopt(easy, CURLOPT_SSL_ENABLE_ALPN, 0L); /* it is no server of HTTP */
    return NULL;
}

static CURLcode over(char *error, CURLcode code, const char *what)
{
    snprintf(error, CURL_ERROR_SIZE, "%s", what);
    return code;
}

static bool wait_for(int fd, short events, int ms)
{
    struct pollfd p = {.fd = fd, .events = events};
    return poll(&p, 1, ms) > 0;
}

/* Looks whether the other side has closed, or has said by TLS that it will have none of it; what else it says does not matter. */
static CURLcode still_open(CURL *easy, char *error)
{
    char noise[512];
    for (;;) {
        size_t n = 0;
        CURLcode code = curl_easy_recv(easy, noise, sizeof noise, &n);
        if (code == CURLE_AGAIN)
            return CURLE_OK;
        if (code != CURLE_OK)
            return over(error, CURLE_RECV_ERROR, "the connection broke");
        if (n == 0)
            return over(error, CURLE_RECV_ERROR, "the other side has closed the connection");
    }
}

static CURLcode write_stream(CURL *easy, int fd, const struct http_call *c, const _Atomic bool *abort, int64_t end_ms,
                             char *error)
{
    for (size_t at = 0; at < c->mail_len;) {
        size_t n = 0;
        CURLcode code = curl_easy_send(easy, c->mail_text + at, c->mail_len - at, &n);
        at += code == CURLE_OK ? n : 0;
        if (code != CURLE_OK && code != CURLE_AGAIN)
            return over(error, CURLE_SEND_ERROR, "the connection broke in the middle");
        if (atomic_load(abort))
            return CURLE_ABORTED_BY_CALLBACK;
        if (clock_mono_ms() >= end_ms)
            return over(error, CURLE_OPERATION_TIMEDOUT, "the other side takes nothing");
        if (code == CURLE_AGAIN)
            (void)wait_for(fd, POLLOUT | POLLIN, STEP_MS);
        code = still_open(easy, error);
        if (code != CURLE_OK)
            return code;
    }
    /* Until the last byte has come to the other host. */
    for (int left = 1;;) {
        if (ioctl(fd, SIOCOUTQ, &left) != 0)
            left = 0; /* cannot be asked here: written must do */
        CURLcode code = still_open(easy, error);
        if (code != CURLE_OK || left == 0)
            return code;
        if (atomic_load(abort))
            return CURLE_ABORTED_BY_CALLBACK;
        if (clock_mono_ms() >= end_ms)
            return over(error, CURLE_OPERATION_TIMEDOUT, "the other host confirms nothing");
        (void)wait_for(fd, POLLIN, CONFIRM_MS);
    }
}

/* A frame of "LENGTH BYTES"; false at the end, or if it is none. */
static bool next_frame(const struct http_call *c, size_t *at, const char **ret, size_t *ret_len)
{
    char *text = NULL;
    const char *from = c->mail_text + *at;
    size_t left = c->mail_len - *at;
    if (left == 0 || !memchr(from, ' ', left < 8 ? left : 8))
        return false;
    unsigned long len = strtoul(from, &text, 10);
    if (text == from || *text != ' ' || len > left - (size_t)(text + 1 - from))
        return false;
    *ret = text + 1;
    *ret_len = len;
    *at += (size_t)(text + 1 - from) + len;
    return true;
}

static CURLcode write_datagrams(int fd, const struct http_call *c, char *error)
{
    const char *frame;
    size_t len, at = 0;
    int bad = 0;
    socklen_t size = sizeof bad;
    while (next_frame(c, &at, &frame, &len)) {
        if (send(fd, frame, len, MSG_NOSIGNAL) >= 0)
            continue;
        if (errno == ECONNREFUSED) /* of the one before */
            return over(error, CURLE_COULDNT_CONNECT, "nobody listens on that port");
        snprintf(error, CURL_ERROR_SIZE, "cannot send: %s", strerror(errno));
        return CURLE_SEND_ERROR;
    }
    if (wait_for(fd, POLLIN, REFUSAL_MS) && getsockopt(fd, SOL_SOCKET, SO_ERROR, &bad, &size) == 0 && bad)
        return over(error, CURLE_COULDNT_CONNECT,
                    bad == ECONNREFUSED ? "nobody listens on that port" : strerror(bad));
    return CURLE_OK;
}

CURLcode http_syslog_perform(CURL *easy, const struct http_call *c, const _Atomic bool *abort,
                             char error[static CURL_ERROR_SIZE])
{
    int64_t end_ms = clock_mono_ms() + c->timeout_ms;
    curl_socket_t fd = CURL_SOCKET_BAD;
    CURLcode code = curl_easy_perform(easy);
    if (code == CURLE_OK)
        code = curl_easy_getinfo(easy, CURLINFO_ACTIVESOCKET, &fd);
    if (code == CURLE_OK && fd == CURL_SOCKET_BAD)
        code = over(error, CURLE_RECV_ERROR, "the other side has closed the connection");
    if (code != CURLE_OK)
        return code;
    return c->datagrams ? write_datagrams(fd, c, error) : write_stream(easy, fd, c, abort, end_ms, error);
}
