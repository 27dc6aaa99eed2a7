/* bus_snapshot.c - a stream out of a server and into one, in pieces that the other side acknowledges.
 *
 * Out: SNAPSHOT is asked with a subject of its own for the pieces (to whom only a wildcard listens, the server waits 2 s); its answer (configuration and state) and the pieces come by different ways, so in any order. Each piece
 * carries a subject to be acknowledged on; its last tokens are size and number. An empty message is the end.
 * In: RESTORE is asked with configuration and state and answers with a subject; pieces go there one by one, each with the inbox that its
 * acknowledgement comes to. An empty piece ends it, and is answered with the stream, or with what is wrong. */
#include "common/bus_snapshot.h"
#include "common/bus_priv.h"
#include "common/clock.h"
#include <assert.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#define PIECE_BYTES  (64 * 1024)
#define WINDOW_BYTES (4 * 1024 * 1024) /* not yet acknowledged; servers before 2.12 have a window of their own */
#define ACK_PREFIX   "$JS.SNAPSHOT.ACK."

/* An answer of the API: NULL with the end filled in if it says no. */
static json_t *answer_of(natsMsg *m, struct bus_snapshot_end *end, char *text, size_t size)
{
    if (natsMsg_IsNoResponders(m)) {
        *end = (struct bus_snapshot_end){.status = BUS_NO_RESPONDERS, .error = "the server has no JetStream"};
        return NULL;
    }
    json_t *json = json_loadb(natsMsg_GetData(m), (size_t)natsMsg_GetDataLength(m), 0, NULL);
    const json_t *error = json_object_get(json, "error");
    if (json_is_object(json) && !error)
        return json;
    const char *said = json_string_value(json_object_get(error, "description"));
    snprintf(text, size, "%s", error ? said ? said : "no reason given" : "JetStream's answer is not a JSON object");
    *end = (struct bus_snapshot_end){.status = BUS_REFUSED,
                                     .error = text,
                                     .err_code = (int)json_integer_value(json_object_get(error, "err_code"))};
    json_decref(json);
    return NULL;
}

static void call(struct bus *b, const char *what, const char *stream, json_t *body, const char *inbox)
{
    char subject[SUBJECT_MAX_LEN];
    char *text = body ? json_dumps(body, JSON_COMPACT) : NULL;
    assert(text && "out of memory for a request");
    json_decref(body);
    snprintf(subject, sizeof subject, "$JS.API.STREAM.%s.%s", what, stream);
    struct bus_out o = {.subject = subject, .data = text, .len = strlen(text)};
    /* What cannot be sent now ends with the deadline. */
    struct err e;
    (void)bus_send_now(b, &o, inbox, 0, &e);
    free(text);
}

/* ---- out ---- */

struct bus_snapshot {
    struct bus_wait answer; /* first; its deadline is that of the whole */
    struct bus_sub *pieces;
    struct bus *b;
    int64_t silence_ms;
    bus_snapshot_piece piece;
    bus_snapshot_done done;
    void *ctx;
    json_t *said; /* the answer; NULL = not yet */
    uint64_t bytes, number;
    bool ended; /* all pieces are here */
};

void bus_snapshot_drop(struct bus_snapshot *s)
{
    if (!s)
        return;
    bus_unsubscribe(s->pieces);
    bus_wait_end(s->b, &s->answer);
    json_decref(s->said);
    free(s);
}

static void snapshot_end(struct bus_snapshot *s, const struct bus_snapshot_end *end)
{
    bus_unsubscribe(s->pieces);
    bus_wait_end(s->b, &s->answer);
    s->done(s->ctx, end);
    json_decref(s->said);
    free(s);
}

static void snapshot_fail(struct bus_snapshot *s, const char *error)
{
    snapshot_end(s, &(struct bus_snapshot_end){.status = BUS_REFUSED, .error = error});
}

static void on_snapshot_due(struct bus_wait *w)
{
    snapshot_end((struct bus_snapshot *)w,
                 &(struct bus_snapshot_end){.status = BUS_TIMEOUT, .error = "the server fell silent"});
}

static void maybe_whole(struct bus_snapshot *s)
{
    if (s->ended && s->said)
        snapshot_end(s, &(struct bus_snapshot_end){.status = BUS_OK,
                                                   .error = "",
                                                   .config = json_object_get(s->said, "config"),
                                                   .state = json_object_get(s->said, "state"),
                                                   .bytes = s->bytes});
    else
        bus_wait_at(s->b, &s->answer, clock_mono_ms() + s->silence_ms);
}

static void on_snapshot_answer(struct bus_wait *w, natsMsg *m)
{
    struct bus_snapshot *s = (struct bus_snapshot *)w;
    struct bus_snapshot_end end;
    char text[256];
    if (s->said)
        return;
    if (!(s->said = answer_of(m, &end, text, sizeof text))) {
        snapshot_end(s, &end);
        return;
    }
    if (!json_is_object(json_object_get(s->said, "config")) || !json_is_object(json_object_get(s->said, "state"))) {
        snapshot_fail(s, "JetStream's answer names no configuration and state");
        return;
    }
    maybe_whole(s);
}

static bool on_piece(void *ctx, natsMsg *m)
{
    struct bus_snapshot *s = ctx;
    size_t len = (size_t)natsMsg_GetDataLength(m);
    const char *reply = natsMsg_GetReply(m), *status = NULL;
    struct err e = {""};
    if (s->ended)
        return false;
    if (natsMsgHeader_Get(m, "Status", &status) == NATS_OK && status && atoi(status) >= 400) { /* 2.10 and later */
        snprintf(e.text, sizeof e.text, "the server broke it off with %.20s", status);
        snapshot_fail(s, e.text);
        return false;
    }
    const char *number = reply && strncmp(reply, ACK_PREFIX, strlen(ACK_PREFIX)) == 0 ? strrchr(reply, '.') : NULL;
    if (number && strtoull(number + 1, NULL, 10) != s->number + 1) {
        snprintf(e.text, sizeof e.text, "piece %llu came in place of %llu: some were lost on the way",
                 strtoull(number + 1, NULL, 10), (unsigned long long)s->number + 1);
        snapshot_fail(s, e.text);
        return false;
    }
    if (len > 0) {
        s->number++;
        s->bytes += len;
        if (s->piece(s->ctx, natsMsg_GetData(m), len, &e)) {
            snapshot_fail(s, e.text);
            return false;
        }
    }
    if (reply) {
        struct bus_out o = {.subject = reply, .data = "", .len = 0};
        (void)bus_send_now(s->b, &o, NULL, 0, &e);
    }
    s->ended = len == 0;
    maybe_whole(s);
    return false;
}

struct bus_snapshot *bus_snapshot(struct bus *b, const char *stream, int64_t silence_ms, bus_snapshot_piece piece,
                                  bus_snapshot_done done, void *ctx)
{
    char inbox[BUS_INBOX_MAX];
    struct bus_snapshot *s = calloc(1, sizeof *s);
    assert(s && "out of memory for a snapshot");
    *s = (struct bus_snapshot){.answer = {.on_due = on_snapshot_due, .on_reply = on_snapshot_answer},
                               .b = b,
                               .silence_ms = silence_ms,
                               .piece = piece,
                               .done = done,
                               .ctx = ctx};
    snprintf(inbox, sizeof inbox, "%s.watch.%016" PRIx64 ".%" PRIu64, b->o.inbox_prefix, b->random,
             ++b->watch_inboxes);
    s->pieces = bus_subscribe_raw(b, inbox, NULL, on_piece, s);
    assert(s->pieces && "out of memory for a snapshot");
    json_t *body = json_pack("{s:s, s:b, s:i, s:i}", "deliver_subject", inbox, "no_consumers", 0, "chunk_size",
                             PIECE_BYTES, "window_size", WINDOW_BYTES);
    bus_wait_at(b, &s->answer, clock_mono_ms() + silence_ms);
    call(b, "SNAPSHOT", stream, body, bus_wait_inbox(b, &s->answer, inbox));
    return s;
}

/* ---- in ---- */

struct bus_restore {
    struct bus_wait w;
    struct bus *b;
    int64_t silence_ms, finish_ms;
    bus_restore_read read;
    bus_snapshot_done done;
    void *ctx;
    char to[SUBJECT_MAX_LEN]; /* where pieces go; "" = not known yet */
    uint64_t bytes;
    bool last; /* all are sent: the next answer is the stream's */
    char piece[PIECE_BYTES];
};

void bus_restore_drop(struct bus_restore *r)
{
    if (!r)
        return;
    bus_wait_end(r->b, &r->w);
    free(r);
}

static void restore_end(struct bus_restore *r, const struct bus_snapshot_end *end)
{
    bus_wait_end(r->b, &r->w);
    r->done(r->ctx, end);
    free(r);
}

static void on_restore_due(struct bus_wait *w)
{
    restore_end((struct bus_restore *)w,
                &(struct bus_snapshot_end){.status = BUS_TIMEOUT, .error = "the server fell silent"});
}

static void send_next(struct bus_restore *r)
{
    struct err e = {"it could not be read"};
    char inbox[BUS_INBOX_MAX];
    size_t size = sizeof r->piece;
    if (r->b->max_payload > 0 && (int64_t)size > r->b->max_payload)
        size = (size_t)r->b->max_payload;
    int64_t n = r->read(r->ctx, r->piece, size, &e);
    if (n < 0) { /* the server forgets what it has when nothing more comes */
        restore_end(r, &(struct bus_snapshot_end){.status = BUS_REFUSED, .error = e.text});
        return;
    }
    r->bytes += (uint64_t)n;
    r->last = n == 0;
    bus_wait_at(r->b, &r->w, clock_mono_ms() + (r->last ? r->finish_ms : r->silence_ms));
    struct bus_out o = {.subject = r->to, .data = r->piece, .len = (size_t)n};
    (void)bus_send_now(r->b, &o, bus_wait_inbox(r->b, &r->w, inbox), 0, &e);
}

static void on_restore_answer(struct bus_wait *w, natsMsg *m)
{
    struct bus_restore *r = (struct bus_restore *)w;
    struct bus_snapshot_end end;
    char text[256];
    if (*r->to && !r->last && !natsMsg_IsNoResponders(m)) { /* of a piece: empty, or -ERR '...' */
        int len = natsMsg_GetDataLength(m);
        if (len == 0) {
            send_next(r);
            return;
        }
        snprintf(text, sizeof text, "%.*s", len, natsMsg_GetData(m));
        restore_end(r, &(struct bus_snapshot_end){.status = BUS_REFUSED, .error = text});
        return;
    }
    json_t *json = answer_of(m, &end, text, sizeof text);
    if (!json) {
        if (*r->to && end.status == BUS_NO_RESPONDERS)
            end.error = "the server gave the restore up";
        restore_end(r, &end);
        return;
    }
    const char *to = json_string_value(json_object_get(json, "deliver_subject"));
    if (r->last) {
        restore_end(r, &(struct bus_snapshot_end){.status = BUS_OK,
                                                  .error = "",
                                                  .config = json_object_get(json, "config"),
                                                  .state = json_object_get(json, "state"),
                                                  .bytes = r->bytes});
    } else if (to && bus_subject_ok(to, false)) {
        snprintf(r->to, sizeof r->to, "%s", to);
        send_next(r);
    } else {
        restore_end(r, &(struct bus_snapshot_end){.status = BUS_REFUSED,
                                                  .error = "JetStream's answer names no place for the pieces"});
    }
    json_decref(json);
}

struct bus_restore *bus_restore(struct bus *b, const char *stream, const json_t *config, const json_t *state,
                                int64_t silence_ms, int64_t finish_ms, bus_restore_read read, bus_snapshot_done done,
                                void *ctx)
{
    char inbox[BUS_INBOX_MAX];
    struct bus_restore *r = calloc(1, sizeof *r);
    assert(r && "out of memory for a restore");
    r->w = (struct bus_wait){.on_due = on_restore_due, .on_reply = on_restore_answer};
    r->b = b;
    r->silence_ms = silence_ms;
    r->finish_ms = finish_ms;
    r->read = read;
    r->done = done;
    r->ctx = ctx;
    bus_wait_at(b, &r->w, clock_mono_ms() + silence_ms);
    json_t *body = json_pack("{s:o, s:o}", "config", json_deep_copy(config), "state", json_deep_copy(state));
    call(b, "RESTORE", stream, body, bus_wait_inbox(b, &r->w, inbox));
    return r;
}
