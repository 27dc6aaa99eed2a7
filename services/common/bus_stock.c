/* bus_stock.c - what a stream holds: how many messages of each subject; and taking some out. */
#include "common/bus_priv.h"
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#define SEQUENCE_NOT_FOUND    10043
#define MESSAGE_DELETE_FAILED 10057

/* ---- taking one out ---- */

struct removal {
    bus_done_cb cb;
    void *ctx;
};

/* Is it gone, as far as this error says? Servers call that by several names. */
static bool says_gone(const json_t *error)
{
    json_int_t code = json_integer_value(json_object_get(error, "err_code"));
    const char *text = json_string_value(json_object_get(error, "description"));
    return code == SEQUENCE_NOT_FOUND ||
           (code == MESSAGE_DELETE_FAILED && text &&
            (strstr(text, "not found") || strstr(text, "EOF") || strstr(text, "deleted")));
}

static void on_removed(void *ctx, enum bus_status st, const struct bus_msg *reply)
{
    struct removal *r = ctx;
    if (st == BUS_OK) {
        json_t *json = json_loadb(reply->data, reply->len, 0, NULL);
        const json_t *error = json_object_get(json, "error");
        bool gone = error ? says_gone(error) : json_is_true(json_object_get(json, "success"));
        json_decref(json);
        if (!gone)
            st = BUS_REFUSED;
    }
    r->cb(r->ctx, st);
    free(r);
}

static void request(struct bus *b, const char *what, const char *stream, json_t *body, int64_t timeout_ms,
                    bus_reply_cb cb, void *ctx)
{
    char api[SUBJECT_MAX_LEN];
    char *text = body ? json_dumps(body, JSON_COMPACT) : NULL;
    assert(text && "out of memory for a request");
    json_decref(body);
    snprintf(api, sizeof api, "$JS.API.STREAM.%s.%s", what, stream);
    struct bus_out o = {.subject = api, .data = text, .len = strlen(text)};
    bus_request(b, &o, timeout_ms, cb, ctx);
    free(text);
}

void bus_remove(struct bus *b, const char *stream, uint64_t seq, int64_t timeout_ms, bus_done_cb cb, void *ctx)
{
    struct removal *r = malloc(sizeof *r);
    assert(r && "out of memory for a request");
    *r = (struct removal){cb, ctx};
    /* Its bytes need not be overwritten: that costs two writes more. */
    request(b, "MSG.DELETE", stream, json_pack("{s:I, s:b}", "seq", (json_int_t)seq, "no_erase", 1), timeout_ms,
            on_removed, r);
}

void bus_purge(struct bus *b, const char *stream, const char *filter, uint64_t up_to_seq, int64_t timeout_ms,
               bus_done_cb cb, void *ctx)
{
    struct removal *r = malloc(sizeof *r);
    assert(r && "out of memory for a request");
    *r = (struct removal){cb, ctx};
    /* The server's number is the first that stays. */
    json_int_t keep = up_to_seq < INT64_MAX ? (json_int_t)up_to_seq + 1 : INT64_MAX;
    request(b, "PURGE", stream, json_pack("{s:s, s:I}", "filter", filter, "seq", keep), timeout_ms, on_removed, r);
}

/* ---- counting ---- */

struct counting {
    struct bus *b;
    char *stream, *filter;
    int64_t timeout_ms;
    size_t offset;
    uint64_t subjects;
    bus_count_fn each;
    bus_stock_cb done;
    void *ctx;
};

static void ask(struct counting *c);

static void finish(struct counting *c, enum bus_status st, const struct bus_stock *stock)
{
    c->done(c->ctx, st, stock);
    free(c->stream);
    free(c->filter);
    free(c);
}

static uint64_t number(const json_t *in, const char *key)
{
    json_int_t n = json_integer_value(json_object_get(in, key));
    return n > 0 ? (uint64_t)n : 0;
}

static void on_page(void *ctx, enum bus_status st, const struct bus_msg *reply)
{
    struct counting *c = ctx;
    json_t *json = st == BUS_OK ? json_loadb(reply->data, reply->len, 0, NULL) : NULL;
    json_t *state = json_object_get(json, "state");
    if (!state) {
        json_decref(json);
        finish(c, st == BUS_OK ? BUS_REFUSED : st, NULL);
        return;
    }
    const char *subject;
    json_t *count, *subjects = json_object_get(state, "subjects");
    json_object_foreach(subjects, subject, count)
    {
        json_int_t n = json_integer_value(count);
        if (n > 0)
            c->each(c->ctx, subject, (uint64_t)n);
    }
    size_t came = json_object_size(subjects);
    c->subjects += came;
    c->offset += came;
    if (came > 0 && number(json, "total") > c->offset) {
        json_decref(json);
        ask(c);
        return;
    }
    struct bus_stock stock = {.messages = number(state, "messages"),
                              .bytes = number(state, "bytes"),
                              .subjects = c->subjects,
                              .max_bytes = (int64_t)number(json_object_get(json, "config"), "max_bytes"),
                              .last_seq = number(state, "last_seq")};
    json_decref(json);
    finish(c, BUS_OK, &stock);
}

static void ask(struct counting *c)
{
    request(c->b, "INFO", c->stream,
            json_pack("{s:s, s:I}", "subjects_filter", c->filter, "offset", (json_int_t)c->offset), c->timeout_ms,
            on_page, c);
}

void bus_counts(struct bus *b, const char *stream, const char *filter, int64_t timeout_ms, bus_count_fn each,
                bus_stock_cb done, void *ctx)
{
    struct counting *c = calloc(1, sizeof *c);
    char *s = strdup(stream), *f = strdup(filter);
    assert(c && s && f && "out of memory for a request");
    *c = (struct counting){
        .b = b, .stream = s, .filter = f, .timeout_ms = timeout_ms, .each = each, .done = done, .ctx = ctx};
    ask(c);
}
