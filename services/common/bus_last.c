/* bus_last.c - one message of a stream: the last of a subject, or the next from a sequence on. */
#include "common/bus_priv.h"
#include "common/clock.h"
#include <assert.h>
#include <sodium.h>
#include <stdlib.h>
#include <string.h>

#define NO_MESSAGE_FOUND 10037

struct last {
    bus_reply_cb cb;
    void *ctx;
    bool next; /* that there is none is an answer, not a refusal */
};

/* base64 of a JSON string, decoded and NUL-terminated; NULL if it is not. */
static char *decode(const json_t *j, size_t *ret_len)
{
    const char *text = json_string_value(j);
    size_t len = text ? strlen(text) : 0;
    char *out = malloc(len + 1);
    assert(out && "out of memory for a message");
    *ret_len = 0;
    if (len > 0 && sodium_base642bin((unsigned char *)out, len, text, len, NULL, ret_len, NULL,
                                     sodium_base64_VARIANT_ORIGINAL) != 0) {
        free(out);
        return NULL;
    }
    out[*ret_len] = 0;
    return out;
}

/* "NATS/1.0\r\nkey: value\r\n...": cuts the block into strings. */
static void headers(char *block, struct bus_msg *m)
{
    char *save = NULL;
    const char *msg_id = NULL;
    strtok_r(block, "\r\n", &save);
    for (char *line; (line = strtok_r(NULL, "\r\n", &save));) {
        char *value = strchr(line, ':');
        if (!value)
            continue;
        *value++ = 0;
        value += strspn(value, " ");
        if (strcmp(line, "ce-id") == 0)
            m->id = value;
        else if (strcmp(line, "Nats-Msg-Id") == 0)
            msg_id = value;
        else if (strcmp(line, "ce-type") == 0)
            m->type = value;
        else if (strcmp(line, "ce-source") == 0)
            m->source = value;
        else if (strcmp(line, "traceparent") == 0)
            m->traceparent = value;
    }
    if (!m->id)
        m->id = msg_id;
}

static void on_answer(void *ctx, enum bus_status st, const struct bus_msg *reply)
{
    struct last *l = ctx;
    json_t *json = NULL;
    char *data = NULL, *hdrs = NULL;
    struct bus_msg m = {0};
    if (st == BUS_OK) {
        json = json_loadb(reply->data, reply->len, 0, NULL);
        const json_t *found = json_object_get(json, "message");
        size_t hdrs_len;
        m.subject = json_string_value(json_object_get(found, "subject"));
        m.stream_seq = (uint64_t)json_integer_value(json_object_get(found, "seq"));
        data = decode(json_object_get(found, "data"), &m.len);
        hdrs = decode(json_object_get(found, "hdrs"), &hdrs_len);
        if (hdrs)
            headers(hdrs, &m);
        m.data = data;
        bool none =
            json_integer_value(json_object_get(json_object_get(json, "error"), "err_code")) == NO_MESSAGE_FOUND;
        if (!m.subject || !data) {
            m.subject = NULL;
            if (!none || !l->next)
                st = BUS_REFUSED;
        }
    }
    l->cb(l->ctx, st, st == BUS_OK && m.subject ? &m : NULL);
    json_decref(json);
    free(data);
    free(hdrs);
    free(l);
}

/* Takes `body`. */
static void get(struct bus *b, const char *stream, json_t *body, bool next, int64_t timeout_ms, bus_reply_cb cb,
                void *ctx)
{
    struct last *l = calloc(1, sizeof *l);
    char api[SUBJECT_MAX_LEN];
    char *text = body ? json_dumps(body, JSON_COMPACT) : NULL;
    assert(l && text && "out of memory for a request");
    json_decref(body);
    *l = (struct last){.cb = cb, .ctx = ctx, .next = next};
    snprintf(api, sizeof api, "$JS.API.STREAM.MSG.GET.%s", stream);
    struct bus_out o = {.subject = api, .data = text, .len = strlen(text)};
    bus_request(b, &o, timeout_ms, on_answer, l);
    free(text);
}

void bus_last(struct bus *b, const char *stream, const char *subject, int64_t timeout_ms, bus_reply_cb cb, void *ctx)
{
    get(b, stream, json_pack("{s:s}", "last_by_subj", subject), false, timeout_ms, cb, ctx);
}

void bus_next(struct bus *b, const char *stream, const char *filter, uint64_t from_seq, int64_t timeout_ms,
              bus_reply_cb cb, void *ctx)
{
    /* JSON knows no number above 2^63: a stream ends long before. */
    json_int_t from = from_seq > INT64_MAX ? INT64_MAX : (json_int_t)from_seq;
    get(b, stream, json_pack("{s:I, s:s}", "seq", from, "next_by_subj", filter), true, timeout_ms, cb, ctx);
}
