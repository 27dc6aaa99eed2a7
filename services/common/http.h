/* http.h - outward HTTP and SMTP by one curl multi handle on the loop: time-outs, size caps, no redirects.
 *
 * SMTP goes by a thread of its own for each mail (at most HTTP_MAILS_AT_ONCE, the others wait): libcurl says QUIT by a
 * blocking read, and a silent server would hold the loop. So does syslog. All callbacks come on the loop thread all the same. */
#ifndef REDOUBT_HTTP_H
#define REDOUBT_HTTP_H

#include "common/err.h"
#include "common/loop.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct http;
struct http_call;

/* How a call ended, finely enough to act upon. */
enum http_fault {
    HTTP_OK,      /* an answer came, whatever its status */
    HTTP_RESOLVE, /* name not found */
    HTTP_CONNECT, /* refused, no route */
    HTTP_TLS,
    HTTP_CERTIFICATE, /* the peer's certificate is not valid: http_cert_fault() says why */
    HTTP_TIMEOUT,     /* connect or total */
    HTTP_CUT,         /* connection ended in the middle */
    HTTP_TOO_LARGE,   /* more than max_response bytes */
    HTTP_BAD_ANSWER,  /* not HTTP/SMTP, weird encoding */
    HTTP_LOGIN,       /* SMTP or HTTP authentication refused by the library's own dialogue */
    HTTP_FORBIDDEN,   /* address not allowed (SSRF guard), protocol not allowed */
    HTTP_CANCELLED,
    HTTP_FAILED, /* anything else; text says what */
};
const char *http_fault_text(enum http_fault f);

/* Of mails and syslog messages. Who sends them bounds how many go to one place, so that one place that hangs takes no other's turn. */
#define HTTP_MAILS_AT_ONCE 32
/* Makes it SMTP: url is smtp:// or smtps://, body is the whole message with its headers (bare line feeds become CRLF). The result:
 * HTTP_OK with status 250 = taken over for at least one recipient (`refused` names the others, `error` is the last refusal);
 * HTTP_OK with 4yz or 5yz = refused, `error` is the server's line; a 4yz if any recipient was refused with one and none was taken, as
 * it may be taken later. HTTP_LOGIN = the login was refused. */
struct http_mail {
    const char *from;
    const char *const *to; /* NULL-terminated */
    bool starttls;         /* require STARTTLS */
};

/* A recipient that the server has refused, and its words: "550 5.1.1 no such user". */
struct http_refused {
    const char *to, *why;
};

/* How TLS is spoken, for https://, smtps:// and tls:// URLs, and after STARTTLS; paths may be NULL or "". */
struct http_tls {
    const char *ca_file; /* PEM; none = the system's authorities */
    const char *cert_file;
    const char *key_file; /* none = it is in cert_file, too */
    bool any_peer;        /* no certificate is refused */
    bool certs; /* the peer's certificates are kept for http_cert(): of a new connection; a kept one shows none */
    bool handshake_only; /* ends with HTTP_OK and status 0 after a handshake on a connection of its own */
    const char
        *connect_to; /* "name:port:host:port": who asks for the URL's name and port is connected to host and port */
};

struct http_request {
    const char *method; /* NULL = GET, or POST with a body */
    const char *url;
    const char *const *headers; /* "Name: value", NULL-terminated; may be NULL. Values may be secrets: never logged */
    const void *body;
    size_t body_len;
    const char *user; /* may be NULL */
    const char *password;
    int64_t connect_timeout_ms; /* 0 = 3,000 */
    int64_t timeout_ms;         /* total; 0 = 10,000 */
    size_t max_response;        /* 0 = 1 MiB */
    bool fresh;                 /* no kept connection */
    bool public_only;           /* refuse loopback, private and link-local addresses (for URLs that users supply) */
    const char *unix_socket;    /* may be NULL */
    const struct http_mail *mail;
    /* Makes it syslog: url is udp://, tcp:// or tls://host[:port], body is messages in frames by octet counting (RFC 6587, "17 <165>1 ..."),
     * which by UDP are a datagram each. Nothing answers: HTTP_OK with status 0 = written whole, and for TCP and TLS confirmed by the other
     * host's kernel on a connection that is still open. */
    bool syslog;
    const struct http_tls *tls; /* may be NULL */
};

struct http_result { /* valid only inside the callback */
    enum http_fault fault;
    int status;        /* HTTP or SMTP status; 0 if none */
    const char *error; /* one line; "" if none. Holds no header values and no user info of the URL */
    const char *body;  /* zero-terminated after len bytes; never NULL */
    size_t len;
    const char *content_type; /* "" if none */
    int64_t retry_after_ms;   /* from Retry-After (seconds or date); -1 = none */
    int64_t total_ms;
    int64_t first_byte_ms;              /* -1 = none came */
    const struct http_call *call;       /* for http_header() and http_cert() */
    const struct http_refused *refused; /* mail */
    size_t n_refused;
};
typedef void (*http_done)(void *ctx, const struct http_result *r);
/* Sees each piece of the body as it comes, with the time since the start; return false to end the call (HTTP_CANCELLED, with status
 * and body as far as they came). http_start and http_cancel may be called from inside; http_close may not. */
typedef bool (*http_piece)(void *ctx, const char *data, size_t len, int64_t at_ms);

struct http *http_open(struct loop *l, struct err *e);
/* Everything in the request is copied. The callback comes exactly once, also for a request that is wrong. */
struct http_call *http_start(struct http *h, const struct http_request *r, http_piece piece, http_done done,
                             void *ctx);
/* How many connections are kept for later calls, if the descriptors allow it; 64 without. */
void http_keep(struct http *h, size_t connections);
void http_cancel(struct http_call *c);                    /* done is called later with HTTP_CANCELLED */
void http_close(struct http *h, loop_cb done, void *ctx); /* cancels all */

/* ---- what else an ended call holds; only inside its callback ---- */

/* The nth value (from 0) that the answer has for a header; NULL = there are no more. */
const char *http_header(const struct http_call *c, const char *name, size_t nth);
/* Splits "Name: value"; false if it is of another form or holds a control character. */
bool http_header_split(const char *line, size_t *ret_name_len, const char **ret_value);

enum http_cert_fault { HTTP_CERT_OTHER, HTTP_CERT_OVER, HTTP_CERT_EARLY, HTTP_CERT_NAME, HTTP_CERT_AUTHORITY };
/* Why the certificate was refused, when the fault is HTTP_CERTIFICATE. */
enum http_cert_fault http_cert_fault(const struct http_call *c);
/* A certificate of the peer's chain, its own first. Texts are "" and times 0 if they cannot be read. */
struct http_cert {
    const char *subject, *issuer;
    const char *names;        /* "DNS:a.example, DNS:b.example" */
    int64_t begins_s, ends_s; /* wall clock */
};
bool http_cert(const struct http_call *c, size_t nth, struct http_cert *ret); /* false: there are no more */

#endif
