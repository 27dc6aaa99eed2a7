/* bus_priv.h - what the files of the bus share. */
#ifndef REDOUBT_BUS_PRIV_H
#define REDOUBT_BUS_PRIV_H

#include "common/bus.h"
#include "common/bus_link.h"
#include "common/subjects.h"
#include <jansson.h>
#include <uthash.h>
#include <utlist.h>

#define BUS_PREFIX_MAX 64
#define BUS_INBOX_MAX  160
#define BUS_OLD_MAX    8
#define BUS_NEVER      INT64_MAX

/* ---- bus_wait.c: whoever waits for a moment, for replies, or for both ---- */

struct bus_wait {
    void (*on_due)(struct bus_wait *w);
    void (*on_reply)(struct bus_wait *w, natsMsg *m); /* m is freed after the call */
    int64_t due_ms;
    size_t slot; /* in the heap, + 1; 0 = not in it */
    uint64_t id; /* of the inbox; 0 = none */
    UT_hash_handle hh;
};
struct bus_waits {
    struct bus_wait **heap;
    size_t n, cap;
    struct bus_wait *by_id;
    uint64_t last_id;
    int64_t armed_ms; /* the timer's moment; BUS_NEVER = not running */
    struct loop_timer timer;
};
void bus_waits_init(struct bus *b);
/* on_due is called once at due_ms (clock_mono_ms), never from inside the call; again = moved. BUS_NEVER = stop. */
void bus_wait_at(struct bus *b, struct bus_wait *w, int64_t due_ms);
/* Writes the subject whose messages go to on_reply until bus_wait_end(); the same at each call. */
const char *bus_wait_inbox(struct bus *b, struct bus_wait *w, char buf[static BUS_INBOX_MAX]);
void bus_wait_end(struct bus *b, struct bus_wait *w); /* neither on_due nor on_reply from here on */
bool bus_wait_dispatch(void *ctx, natsMsg *m);        /* ctx = bus; the feed of the inbox */
bool bus_wait_known(struct bus *b, uint64_t id);

/* ---- subscriptions (bus.c) ---- */

struct bus_sub {
    struct bus *b;
    struct bus_feed *feed; /* NULL while the link has none for it */
    char *subject, *queue;
    bus_handler fn;
    bus_feed_fn raw; /* instead of fn */
    void *ctx;
    uint64_t received;
    struct bus_sub *prev, *next;
};
struct bus_sub *bus_subscribe_raw(struct bus *b, const char *subject, const char *queue, bus_feed_fn raw, void *ctx);
/* As bus_unsubscribe(), but what is queued already goes to `rest` with the bus as its ctx. */
void bus_unsubscribe_rest(struct bus_sub *s, bus_feed_fn rest);

/* ---- messages (bus_msg.c) ---- */

struct bus_view {
    struct bus_msg m;
    char stream[256];
    /* JetStream sends what it is asked for (deliveries, messages read directly) to any subject that the asker names, with the server's own
     * rights: on a subject of the suite that is nobody's word, but a copy of somebody else's from another time. */
    bool delivered; /* by a consumer */
    bool copied;    /* from a stream, by a direct get; also where it was then stored again */
};
/* Valid as long as m is. */
void bus_view(struct bus_view *v, natsMsg *m);
/* The message with its headers; time_ms = wall clock of its ce-time. NULL if memory is out. */
natsMsg *bus_message(const struct bus *b, const struct bus_out *o, const char *reply, int64_t time_ms);
/* 0, or -1 with the reason in *e. */
int bus_out_check(const struct bus *b, const struct bus_out *o, struct err *e);
bool bus_subject_ok(const char *subject, bool wildcards);
bool bus_subject_match(const char *filter, const char *subject);
/* True if some subject may match both. */
bool bus_subject_overlap(const char *a, const char *b);

/* ---- the JetStream API (bus_api.c): one call at a time per struct ---- */

/* json is NULL unless the status is BUS_OK or BUS_REFUSED; with BUS_REFUSED `error` and err_code say why. */
struct bus_answer {
    enum bus_status status;
    json_t *json;
    int err_code;
    const char *error;
};
typedef void (*bus_api_cb)(void *ctx, const struct bus_answer *a);
struct bus_api {
    struct bus_wait w;
    struct bus *b;
    bus_api_cb cb;
    void *ctx;
};
#define BUS_API_MS 2000
/* `body` is taken; NULL = empty. */
void bus_api_call(struct bus *b, struct bus_api *a, json_t *body, bus_api_cb cb, void *ctx, const char *subject_fmt,
                  ...) __attribute__((format(printf, 6, 7)));
void bus_api_cancel(struct bus_api *a);
bool bus_api_busy(const struct bus_api *a);
json_t *bus_json_ns(int64_t ms); /* milliseconds as JetStream's nanoseconds */

/* ---- stores (bus_store.c) ---- */

struct bus_stored_item;
struct bus_stores {
    struct bus_stored_item *queued; /* in order of call; the others wait for an answer or for their turn */
    struct bus_stored_item *others;
    struct bus_stored_item *latest; /* by subject, for streams that keep one message per subject */
    size_t n, in_flight, in_flight_bytes;
    uint64_t last_order;
};
void bus_stores_pump(struct bus *b);
void bus_stores_again(struct bus *b); /* whatever has no answer yet is sent again */
void bus_stores_fail(struct bus *b);  /* all end with BUS_CLOSED */

/* ---- the rest of the house ---- */

void bus_streams_connected(struct bus *b); /* ensure all streams; bus_went_up() when done */
void bus_streams_lost(struct bus *b);
void bus_streams_check(struct bus *b); /* somebody misses a stream: ensure them again, not too often */
const struct bus_stream *bus_stream_of(const char *subject);
void bus_consumers_up(struct bus *b);
void bus_consumers_down(struct bus *b);
void bus_watches_up(struct bus *b);
void bus_watches_down(struct bus *b);
void bus_serve_end(struct bus *b);

/* A publication or request that waits for the connection. */
struct bus_held {
    natsMsg *m;
    size_t bytes;
    uint64_t wait_id; /* of the request; not sent if nobody waits any more. 0 = none */
    struct bus_held *prev, *next;
};
struct bus_request {
    struct bus_wait w;
    struct bus *b;
    bus_reply_cb cb;
    void *ctx;
    enum bus_status due_status; /* told when due */
    struct bus_request *prev, *next;
};

struct bus {
    struct loop *l;
    struct bus_opts o; /* strings are copies */
    struct bus_link_events ev;
    struct bus_link *link;
    int64_t open_delay_ms; /* before the next link */
    struct bus_wait reopen;
    bool connected; /* the link is up */
    bool up;        /* and all streams are there */
    bool closing;
    uint64_t random; /* of this bus: makes its inboxes its own */
    char inbox[BUS_PREFIX_MAX + 20];
    struct bus_sub *inbox_sub; /* all answers */
    uint64_t watch_inboxes;
    int64_t max_payload;
    struct bus_waits waits;
    struct bus_sub *subs;
    struct bus_request *requests;
    struct bus_held *held;
    size_t held_bytes;
    struct bus_stores stores;
    struct {
        struct bus_api api;
        struct bus_wait retry;
        size_t i; /* row; bus_streams_n = done */
        int64_t delay_ms, done_ms;
        bool running, without_bytes, made; /* made: a stream was not there */
    } ensure;
    struct bus_consumer *consumers;
    struct bus_watch *watches;
    struct bus_serving *serving;
    /* closing: */
    int64_t close_by_ms;
    struct bus_wait close_due;
    struct bus_old {
        struct bus *b;
        struct bus_link *k;
    } old[BUS_OLD_MAX]; /* links that are being closed */
    bool finished;
    loop_cb done;
    void *done_ctx;
};
void bus_went_up(struct bus *b);
void bus_close_soon(struct bus *b); /* while closing: nothing is on its way any more */
void bus_error(struct bus *b, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* Sends now. 0; -1 = the connection is away; -2 = refused, text in *e. */
int bus_send_now(struct bus *b, const struct bus_out *o, const char *reply, int64_t time_ms, struct err *e);

#endif
