/* channel_syslog.c - hands alerts to a syslog receiver by UDP, TCP or TLS. */
#include "alert/alert_channel.h"
#include "alert/alert_room.h"
#include "alert/alert_syslog.h"
#include <stdlib.h>
#include <unistd.h>

static void on_done(void *ctx, const struct http_result *r)
{
    struct alert_outcome o = alert_outcome_of(r);
    alert_job_end(ctx, &o, r->fault == HTTP_OK ? "handed over; syslog confirms nothing" : r->error);
}

static void send_syslog(struct alert_channel *c, struct alert_job *j)
{
    const struct set_channel *s = &c->set;
    char host[256] = "";
    size_t len = 0;
    (void)gethostname(host, sizeof host - 1);
    struct alert_syslog in = {.facility = (int)s->facility, .host = host, .pid = (long)getpid()};
    char *frames = alert_syslog_frames(j->message, &in, &len);
    if (!frames) {
        alert_job_end(j, &(struct alert_outcome){ALERT_FAULT_OTHER, 0, -1}, "out of memory");
        return;
    }
    struct http_tls tls = {.ca_file = s->ca_file, .cert_file = s->cert_file, .key_file = s->key_file};
    struct http_request r = {.url = s->url,
                             .body = frames,
                             .body_len = len,
                             .connect_timeout_ms = j->timeout_ms,
                             .timeout_ms = j->timeout_ms,
                             .syslog = true,
                             .tls = &tls};
    (void)http_start(c->room->service->http, &r, NULL, on_done, j);
    free(frames);
}

const struct alert_kind alert_kind_syslog = {
    .name = "syslog", .proto = ALERT_PROTO_HAND, .at_once = 2, .send = send_syslog};
