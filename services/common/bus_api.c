/* bus_api.c - calls of the JetStream API as plain requests, their answers as JSON. */
#include "common/bus_priv.h"
#include "common/clock.h"
#include <assert.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

static void end(struct bus_api *a, const struct bus_answer *answer)
{
    bus_wait_end(a->b, &a->w);
    bus_api_cb cb = a->cb;
    a->cb = NULL; /* free for the next call, which cb may make */
    cb(a->ctx, answer);
}

static void on_due(struct bus_wait *w)
{
    struct bus_api *a = (struct bus_api *)w;
    end(a, &(struct bus_answer){.status = BUS_TIMEOUT, .error = "JetStream does not answer"});
}

static void on_reply(struct bus_wait *w, natsMsg *m)
{
    struct bus_api *a = (struct bus_api *)w;
    if (natsMsg_IsNoResponders(m)) {
        end(a, &(struct bus_answer){.status = BUS_NO_RESPONDERS, .error = "the server has no JetStream"});
        return;
    }
    json_error_t je;
    json_t *json = json_loadb(natsMsg_GetData(m), (size_t)natsMsg_GetDataLength(m), 0, &je);
    if (!json_is_object(json)) {
        end(a, &(struct bus_answer){.status = BUS_REFUSED, .error = "JetStream's answer is not a JSON object"});
        json_decref(json);
        return;
    }
    struct bus_answer answer = {.status = BUS_OK, .json = json};
    json_t *error = json_object_get(json, "error");
    if (error) {
        const char *text = json_string_value(json_object_get(error, "description"));
        answer.status = BUS_REFUSED;
        answer.err_code = (int)json_integer_value(json_object_get(error, "err_code"));
        answer.error = text ? text : "no reason given";
    }
    end(a, &answer);
    json_decref(json);
}

void bus_api_call(struct bus *b, struct bus_api *a, json_t *body, bus_api_cb cb, void *ctx, const char *subject_fmt,
                  ...)
{
    assert(!a->cb && "one call at a time");
    char subject[SUBJECT_MAX_LEN], inbox[BUS_INBOX_MAX];
    va_list ap;
    va_start(ap, subject_fmt);
    vsnprintf(subject, sizeof subject, subject_fmt, ap);
    va_end(ap);
    char *text = body ? json_dumps(body, JSON_COMPACT) : NULL;
    json_decref(body);
    *a = (struct bus_api){.b = b, .cb = cb, .ctx = ctx, .w = {.on_due = on_due, .on_reply = on_reply}};
    bus_wait_at(b, &a->w, clock_mono_ms() + BUS_API_MS);
    struct bus_out o = {.subject = subject, .data = text ? text : "", .len = text ? strlen(text) : 0};
    /* What cannot be sent now ends with the deadline, or is cancelled when the connection is lost. */
    struct err e;
    (void)bus_send_now(b, &o, bus_wait_inbox(b, &a->w, inbox), 0, &e);
    free(text);
}

void bus_api_cancel(struct bus_api *a)
{
    if (!a->cb)
        return;
    bus_wait_end(a->b, &a->w);
    a->cb = NULL;
}

bool bus_api_busy(const struct bus_api *a)
{
    return a->cb != NULL;
}

json_t *bus_json_ns(int64_t ms)
{
    return json_integer((json_int_t)ms * 1000000);
}
