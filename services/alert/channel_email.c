/* channel_email.c - tells people by mail (SMTP). */
#include "alert/alert_channel.h"
#include "alert/alert_mail.h"
#include "alert/alert_room.h"
#include "common/clock.h"
#include <stdio.h>
#include <stdlib.h>

struct mail_job {
    struct alert_job *job;
    size_t n_to;
};

static void on_done(void *ctx, const struct http_result *r)
{
    struct mail_job *m = ctx;
    struct alert_outcome o = alert_outcome_of(r);
    char line[400];
    bool taken = r->fault == HTTP_OK && r->status >= 200 && r->status <= 299;
    for (size_t i = 0; taken && i < r->n_refused; i++) {
        snprintf(line, sizeof line, "%s: %s", r->refused[i].to, r->refused[i].why);
        alert_job_refuse(m->job, line);
    }
    if (taken && r->n_refused > 0)
        snprintf(line, sizeof line, "taken for %zu of %zu receivers", m->n_to - r->n_refused, m->n_to);
    else if (r->fault == HTTP_OK && r->n_refused > 0 && r->n_refused == m->n_to)
        snprintf(line, sizeof line, "none of %zu receivers is taken; %s: %s", m->n_to, r->refused[0].to,
                 r->refused[0].why);
    else
        snprintf(line, sizeof line, "%s", r->error);
    alert_job_end(m->job, &o, line);
    free(m);
}

static void send_mail(struct alert_channel *c, struct alert_job *j)
{
    const struct set_channel *s = &c->set;
    const char *to[33] = {0}; /* the settings allow 32 */
    for (size_t i = 0; i < s->to.n && i < 32; i++)
        to[i] = *CONF_AT(s->to, char *, i);
    struct alert_mail in = {.channel = s->name, .from = s->from, .to = to, .now_unix_ms = clock_wall_ms()};
    size_t len = 0;
    char *message = alert_mail_compose(j->message, &in, &len);
    struct mail_job *m = message ? malloc(sizeof *m) : NULL;
    if (!m) {
        free(message);
        alert_job_end(j, &(struct alert_outcome){ALERT_FAULT_OTHER, 0, -1}, "out of memory");
        return;
    }
    *m = (struct mail_job){j, s->to.n < 32 ? s->to.n : 32};
    struct http_mail mail = {.from = s->from, .to = to, .starttls = s->starttls};
    struct http_tls tls = {.ca_file = s->ca_file, .cert_file = s->cert_file, .key_file = s->key_file};
    struct http_request r = {.url = s->url,
                             .body = message,
                             .body_len = len,
                             .user = *s->user ? s->user : NULL,
                             .password = *s->user ? s->password : NULL,
                             .connect_timeout_ms = j->timeout_ms,
                             .timeout_ms = j->timeout_ms,
                             .mail = &mail,
                             .tls = &tls};
    (void)http_start(c->room->service->http, &r, NULL, on_done, m);
    free(message);
}

const struct alert_kind alert_kind_email = {
    .name = "email", .proto = ALERT_PROTO_SMTP, .at_once = 2, .send = send_mail};
