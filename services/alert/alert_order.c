/* alert_order.c - a person's order: on the record before it holds, and answered once. */
#include "alert/alert_order.h"
#include "common/clock.h"
#include "common/log.h"
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define OK_         REDOUBT__V1__COMMAND_STATUS__COMMAND_STATUS_OK
#define INVALID     REDOUBT__V1__COMMAND_STATUS__COMMAND_STATUS_INVALID
#define UNAVAILABLE REDOUBT__V1__COMMAND_STATUS__COMMAND_STATUS_UNAVAILABLE
#define TEXT_MAX    1024

const char *alert_order_time(int64_t unix_ms, char *buf, size_t size)
{
    char full[CLOCK_TEXT_MAX];
    snprintf(buf, size, "%s", unix_ms > 0 ? clock_text(unix_ms, full) : "");
    return buf;
}

struct alert_order *alert_order_new(struct alert_room *r, const PB(AlertCommand) * c, const struct bus_msg *m,
                                    const char *action)
{
    struct service *s = r->service;
    const char *wrong = !c->by[0]                             ? "who does it is missing (by)"
                        : !c->reason[0]                       ? "why it is done is missing (reason)"
                        : strlen(m->reply) >= ALERT_REPLY_MAX ? "the reply subject is too long"
                                                              : NULL;
    if (wrong) {
        service_bad_input(s, "command", m, wrong);
        service_reply(s, m->reply, INVALID, 0, "%s", wrong);
        return NULL;
    }
    struct alert_order *o = calloc(1, sizeof *o);
    if (o) {
        *o = (struct alert_order){.room = r, .action = action, .by = strdup(c->by), .reason = strdup(c->reason)};
        snprintf(o->reply, sizeof o->reply, "%s", m->reply);
        alert_room_ref(r);
        if (o->by && o->reason)
            return o;
        alert_order_free(o);
    }
    service_reply(s, m->reply, UNAVAILABLE, 0, "out of memory");
    return NULL;
}

void alert_order_free(struct alert_order *o)
{
    struct alert_room *r = o->room;
    free(o->by);
    free(o->reason);
    free(o->subject);
    free(o->detail);
    wire_free(o->silence);
    free(o);
    alert_room_unref(r);
}

/* ---- the record ---- */

static void record(struct alert_order *o, bool strict, int outcome, outbox_cb done, void *ctx)
{
    char until[CLOCK_TEXT_MAX], subject[257];
    snprintf(subject, sizeof subject, "%s", o->subject ? o->subject : "");
    const char *const rows[][2] = {{"id", o->id},
                                   {"reason", o->reason},
                                   {"until", alert_order_time(o->until_ms, until, sizeof until)},
                                   {"matchers", o->detail ? o->detail : ""}};
    enum { ROWS = sizeof rows / sizeof *rows };
    PB(Label) labels[ROWS], *fields[ROWS];
    size_t n = 0;
    for (size_t i = 0; i < ROWS; i++) {
        if (!*rows[i][1])
            continue;
        labels[n] = (PB(Label))REDOUBT__V1__LABEL__INIT;
        labels[n].key = (char *)rows[i][0];
        labels[n].value = (char *)rows[i][1];
        fields[n] = &labels[n];
        n++;
    }
    PB(AuditRecord) r = REDOUBT__V1__AUDIT_RECORD__INIT;
    if (strict)
        r.audit_class = REDOUBT__V1__AUDIT_CLASS__AUDIT_CLASS_STRICT;
    r.action = (char *)o->action;
    r.actor = o->by;
    r.subject = subject;
    r.outcome = (PB(AuditOutcome))outcome;
    r.detail = o->reason;
    r.fields = fields;
    r.n_fields = n;
    service_audit(o->room->service, &r, done, ctx);
}

static void on_recorded(void *ctx, int status, const char *error)
{
    struct alert_order *o = ctx;
    if (status == 0 && !o->room->closing) {
        o->act(o);
        return;
    }
    if (!o->room->closing)
        service_reply(o->room->service, o->reply, UNAVAILABLE, 0,
                      "nothing was done, because the audit trail cannot record it: %s",
                      error && *error ? error : "unknown error");
    alert_order_free(o);
}

void alert_order_record(struct alert_order *o)
{
    record(o, true, REDOUBT__V1__AUDIT_OUTCOME__AUDIT_OUTCOME_INTENDED, on_recorded, o);
}

/* ---- the answer ---- */

void alert_reply_payload(struct service *s, const char *reply, const void *payload, const char *text)
{
    struct err e;
    size_t len = 0;
    /* A message of zeroes is an empty payload. */
    bool empty = protobuf_c_message_get_packed_size(payload) == 0;
    void *data = empty ? NULL : wire_pack(payload, &len, &e);
    if (!data && !empty) {
        log_error("own answer is not valid", F_STR("why", e.text));
        service_reply(s, reply, UNAVAILABLE, 0, "own answer is not valid: %s", e.text);
        return;
    }
    PB(CommandReply) r = REDOUBT__V1__COMMAND_REPLY__INIT;
    r.status = OK_;
    r.message = (char *)text;
    r.payload = (ProtobufCBinaryData){len, data};
    service_reply_message(s, reply, &r);
    free(data);
}

static void finish(struct alert_order *o, bool good)
{
    if (!o->room->closing)
        record(o, false,
               good ? REDOUBT__V1__AUDIT_OUTCOME__AUDIT_OUTCOME_DONE
                    : REDOUBT__V1__AUDIT_OUTCOME__AUDIT_OUTCOME_FAILED,
               NULL, NULL);
    alert_order_free(o);
}

void alert_order_end(struct alert_order *o, int command_status, uint64_t epoch, const char *fmt, ...)
{
    char text[TEXT_MAX];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    if (!o->room->closing)
        service_reply(o->room->service, o->reply, command_status, epoch, "%s", text);
    finish(o, command_status == OK_);
}

void alert_order_end_with(struct alert_order *o, const void *payload, const char *fmt, ...)
{
    char text[TEXT_MAX];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    if (!o->room->closing)
        alert_reply_payload(o->room->service, o->reply, payload, text);
    finish(o, true);
}
