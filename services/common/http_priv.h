/* http_priv.h - what the files of http share. Not for others. */
#ifndef REDOUBT_HTTP_PRIV_H
#define REDOUBT_HTTP_PRIV_H

#include "common/http.h"
#include <curl/curl.h>
#include <stdatomic.h>

#define HTTP_IDLE_MAX 32 /* easy handles kept for the next call */

struct http_poll;
struct http_mailer;
struct mail_thread;

struct http {
    struct loop *loop;
    CURLM *multi;
    struct loop_timer timer;
    struct http_call *calls; /* all whose end has not been told */
    struct http_idle {
        CURL *easy[HTTP_IDLE_MAX];
        int n;
    } plain, bare;            /* with the options of plain calls set; without any */
    struct http_poll **polls; /* by descriptor */
    size_t polls_cap;
    int polls_open;             /* uv handles not yet closed */
    struct http_mailer *mailer; /* made by the first mail */
    bool closing, clean_due, cleaned, timer_closed, soon;
    loop_cb close_done;
    void *close_ctx;
};

struct http_call {
    struct http *http;
    struct http_call *prev, *next;
    CURL *easy;       /* HTTP only; mails' belong to their threads */
    curl_socket_t fd; /* the last that curl asked to watch for it; CURL_SOCKET_BAD = none */
    bool moved;       /* it was another before */
    bool in_multi;
    struct curl_slist *headers, *rcpt, *connect_to;
    char *mail_text; /* mail and syslog only: curl copies the bodies of HTTP */
    size_t mail_len, mail_sent;
    bool mail, syslog, datagrams, public_only;
    int64_t timeout_ms;
    bool plain; /* a GET without anything special: the options of its handle stay for the next one */
    bool has_retry_after, has_encoding; /* headers worth looking up */
    size_t max_response;
    http_piece piece;
    http_done done;
    void *ctx;

    char *body;
    size_t body_len, body_cap, head_len;
    int64_t start_ms, first_byte_ms;
    char error[CURL_ERROR_SIZE];
    char refusal[160];            /* mail: the server's last line of 400 and above */
    int status;                   /* mail: code of the server's last line */
    struct http_refused *refused; /* mail: a place for each of rcpt */
    size_t n_refused, n_rcpt;
    const struct curl_slist *asked; /* mail: the recipient that the server is asked for now */
    int refused_again;              /* mail: the last 4yz for a recipient; 0 = none */
    bool connected;
    bool too_large, forbidden, ended_by_piece, out_of_memory;

    bool cancelled;
    bool end_due; /* its end is deferred: nobody else tells it */
    enum http_fault fault;

    struct mail_thread *thread;  /* while a mail is on its way */
    struct http_call *mail_next; /* in the mailer's queues */
    CURLcode code;
};

/* http.c */
void http_ended(struct http_call *c, CURLcode code); /* curl is done with it: tells the caller and frees it */
void http_closed_part(struct http *h);               /* one of what http_close waits for is gone */
/* What HTTP and mail have in common: time-outs, protocols, no proxy, TLS, who may be called. */
void http_common_options(CURL *easy, const struct http_request *r, const char *protocols);

/* http_tls.c. NULL, or what could not be done. */
const char *http_tls_options(CURL *easy, struct http_call *c, const struct http_tls *t);

/* http_uv.c: the multi handle on the loop */
int http_uv_open(struct http *h, struct err *e);
/* The call's connection is in use, or a connection's socket is about to be closed: in between it stays watched, from one call to the
 * next. */
void http_uv_answers(struct http_call *c);
void http_uv_closing(struct http *h, curl_socket_t fd);
void http_uv_close(struct http *h); /* all calls are gone */

/* http_mail.c */
/* Queues the mail; http_ended() comes later. Or what could not be done. */
const char *http_mail_start(struct http *h, struct http_call *c, const struct http_request *r);
/* True: it is out of the mailer's hands. False: http_ended() comes soon. */
bool http_mail_cancel(struct http_call *c);
void http_mail_close(struct http *h); /* all calls are gone, but threads may still say QUIT */

/* http_syslog.c: in a thread of http_mail.c. NULL, or what could not be done. */
const char *http_syslog_options(CURL *easy, struct http_call *c, const struct http_request *r);
/* Connects, writes, waits until it is through; text for people in error if curl has none. */
CURLcode http_syslog_perform(CURL *easy, const struct http_call *c, const _Atomic bool *abort,
                             char error[static CURL_ERROR_SIZE]);

/* http_verdict.c: pure */
enum http_fault http_verdict(const struct http_call *c, CURLcode code);
bool http_address_public(const struct sockaddr *a);
int64_t http_retry_after(const char *value, int64_t now_unix_s); /* ms; -1 = none */

#endif
