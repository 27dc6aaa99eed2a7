/* bus.h - NATS for one loop: subscribe, publish, request, and JetStream, all without blocking the loop thread.
 *
 * The library's delivery thread hands messages over a bounded queue to the loop; when the queue is full that thread
 * waits, so that the library's own limits and slow-consumer errors stay visible (counted). All functions below are
 * for the loop thread, and all callbacks run on it, never from inside the call that asked for them. */
#ifndef REDOUBT_BUS_H
#define REDOUBT_BUS_H

#include "common/err.h"
#include "common/loop.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct bus;

struct bus_opts {
    const char *url;         /* nats://host:port[,nats://...]; required */
    const char *name;        /* shown by the server */
    const char *user;        /* may be NULL */
    const char *password;    /* may be NULL */
    const char *token;       /* may be NULL */
    const char *tls_ca_file; /* NULL = no TLS unless the url says tls:// */
    /* "_INBOX_breaker", up to 64 bytes, required. Below it: replies (<prefix>.<random>.*), replays (<prefix>.watch.>), and
     * deliveries of durable consumers (<prefix>.deliver.<stream>.<durable>): replicas of one service have the same. */
    const char *inbox_prefix;
    size_t queue_max;           /* messages waiting for the loop; 0 = 65,536 */
    int stream_replicas;        /* 1 or 3; 0 = 1 */
    bool guest;                 /* an agent, that may not make streams: none is ensured, up means connected */
    void (*on_up)(void *ctx);   /* connected, or connected again; streams are ensured. May be NULL */
    void (*on_down)(void *ctx); /* connection lost. May be NULL */
    /* After each turn of messages: what their handlers have gathered may go now, once for all. May be NULL. */
    void (*on_turn)(void *ctx);
    /* What went wrong, one line for people; may come often: log it at a limited rate. May be NULL. */
    void (*on_error)(void *ctx, const char *what);
    void *ctx;
};

/* Connects in the background, for ever. NULL only for wrong options. */
struct bus *bus_open(struct loop *l, const struct bus_opts *o, struct err *e);
bool bus_up(const struct bus *b);
/* Waits for stores on their way, flushes, closes, all within timeout_ms, then calls done(ctx) on the loop; frees b. All handles
 * (subscriptions, consumers, watches) end with it and must not be used after this call, except holds: each of them still takes
 * its one bus_ack/bus_nak/bus_dead, which then only frees it. Requests and stores without an answer end with BUS_CLOSED. */
void bus_close(struct bus *b, int64_t timeout_ms, loop_cb done, void *ctx);

/* ---- messages ---- */

/* Valid only inside the handler. */
struct bus_msg {
    const char *subject;
    const char *reply; /* NULL if none */
    const void *data;
    size_t len;
    const char *id;          /* ce-id, or Nats-Msg-Id; NULL if none */
    const char *type;        /* ce-type; NULL if none */
    const char *source;      /* ce-source; NULL if none */
    const char *traceparent; /* NULL if none */
    /* JetStream only (0 otherwise): */
    uint64_t stream_seq;
    uint64_t deliveries; /* 1 = first */
    uint64_t pending;    /* left behind this one */
    const char *stream;  /* NULL otherwise */
    void *raw;           /* natsMsg *, for the rare caller that needs more headers */
};
typedef void (*bus_handler)(void *ctx, const struct bus_msg *m);

struct bus_sub;
/* queue NULL = every subscriber gets every message. Stays across reconnects. NULL on a wrong subject. */
struct bus_sub *bus_subscribe(struct bus *b, const char *subject, const char *queue, bus_handler fn, void *ctx);
void bus_unsubscribe(struct bus_sub *s); /* no call of fn after this returns; NULL is fine */

struct bus_out {
    const char *subject;
    const char *reply;       /* may be NULL */
    const char *id;          /* becomes ce-id and Nats-Msg-Id; NULL = none */
    const char *type;        /* ce-type; NULL = no ce-* headers */
    const char *traceparent; /* may be NULL */
    const void *data;
    size_t len;
};
/* Core NATS, fire and forget. 0, or -1 (not connected and the library's buffer is full, too large). */
int bus_publish(struct bus *b, const struct bus_out *o, struct err *e);

enum bus_status {
    BUS_OK,
    BUS_TIMEOUT,       /* unknown: it may have happened */
    BUS_NO_RESPONDERS, /* nobody serves that subject now */
    BUS_REFUSED,       /* the other side said no; text in the result */
    BUS_CLOSED,        /* the bus was closed meanwhile */
};
const char *bus_status_text(enum bus_status s);
typedef void (*bus_reply_cb)(void *ctx, enum bus_status st,
                             const struct bus_msg *reply); /* reply NULL unless BUS_OK */
void bus_request(struct bus *b, const struct bus_out *o, int64_t timeout_ms, bus_reply_cb cb, void *ctx);

/* ---- JetStream ---- */

/* Publishes to a stream and keeps at it: repeated with the same id after each timeout, lost connection or absent
 * JetStream, until acknowledged (BUS_OK), refused for good (BUS_REFUSED: text says why), given up after give_up_ms
 * (BUS_TIMEOUT; 0 = never) or the bus closes. o->id is required.
 *
 * On a stream that keeps one message per subject, an attempt is not repeated while a later store for the same subject is
 * pending, so that the older never overwrites the newer: it then ends together with the later one. */
struct bus_stored {
    enum bus_status status;
    const char *stream;
    uint64_t seq;
    bool duplicate;
    const char *error; /* with BUS_REFUSED; "" with BUS_OK */
};
typedef void (*bus_stored_cb)(void *ctx, const struct bus_stored *r);
void bus_store(struct bus *b, const struct bus_out *o, int64_t give_up_ms, bus_stored_cb cb, void *ctx);

/* A durable push consumer shared by a deliver group, created if absent, with manual acknowledgement. The handler gets a
 * message with a hold; sooner or later exactly one of bus_ack/bus_nak/bus_dead must be called on it. While it is held, the
 * server is told every third of ack_wait_ms that work goes on. */
struct bus_consumer_opts {
    const char *stream;
    const char *durable; /* [A-Za-z0-9_-] */
    const char *filter;  /* subject, may hold wildcards */
    int64_t ack_wait_ms; /* 0 = 5,000 */
    int max_ack_pending; /* 0 = 1,000 */
    uint64_t dead_after; /* deliveries after which bus_nak turns into bus_dead; 0 = 10 */
};
struct bus_hold;
typedef void (*bus_consume_fn)(void *ctx, const struct bus_msg *m, struct bus_hold *h);
struct bus_consumer;
struct bus_consumer *bus_consume(struct bus *b, const struct bus_consumer_opts *o, bus_consume_fn fn, void *ctx);
void bus_ack(struct bus_hold *h);
void bus_nak(struct bus_hold *h, int64_t delay_ms, const char *reason); /* again after delay */
void bus_dead(struct bus_hold *h, const char *reason); /* to the dead letters; acknowledged when that is stored */
void bus_consumer_close(struct bus_consumer *c);       /* NULL is fine; holds are given back to the server */

/* Watches the present and the future of a filter of STATE, or of another of the suite's streams: on each connect the last
 * message of every subject is replayed from the stream, then `synced` is called; live messages come by core NATS at once. A message may come twice or
 * out of order: handlers go by epoch. Every resync_ms (0 = 60,000) the replay is done again, for messages lost on the way. */
struct bus_watch;
struct bus_watch *bus_watch(struct bus *b, const char *filter, int64_t resync_ms, bus_handler fn, loop_cb synced,
                            void *ctx);
void bus_watch_close(struct bus_watch *w);

/* Last message of one subject of a stream; cb gets BUS_OK with the message, or BUS_REFUSED if there is none. Only after on_up: nats-server
 * 2.9.10 dies of this request ($JS.API.STREAM.MSG.GET) while the stream is being created. */
void bus_last(struct bus *b, const char *stream, const char *subject, int64_t timeout_ms, bus_reply_cb cb, void *ctx);

/* The next message that matches `filter` (which may hold wildcards) from sequence from_seq on, read where it stands: no consumer, nothing
 * is acknowledged. cb gets BUS_OK with the message; BUS_OK with NULL = there is none; BUS_REFUSED = JetStream said no. Only after on_up,
 * as bus_last. */
void bus_next(struct bus *b, const char *stream, const char *filter, uint64_t from_seq, int64_t timeout_ms,
              bus_reply_cb cb, void *ctx);
/* Takes one message out of a stream. BUS_OK also if it is not there any more: asking again after BUS_TIMEOUT is safe. A server (2.9) that
 * is killed may forget what was taken out last: it stands there again, so whoever acts on messages knows them by their ids. */
typedef void (*bus_done_cb)(void *ctx, enum bus_status st);
void bus_remove(struct bus *b, const char *stream, uint64_t seq, int64_t timeout_ms, bus_done_cb cb, void *ctx);
/* Takes out all messages that match `filter` up to and with a sequence, at once. As bus_remove: asking again is safe, and a server that is
 * killed may forget. */
void bus_purge(struct bus *b, const char *stream, const char *filter, uint64_t up_to_seq, int64_t timeout_ms,
               bus_done_cb cb, void *ctx);
/* How many messages each subject that matches `filter` has, page by page in order of subject: each() per subject, then done() once, with
 * what the stream holds in all (NULL unless BUS_OK). Subjects that come and go meanwhile may be missed or said twice. timeout_ms is of each page. */
struct bus_stock {
    uint64_t messages, bytes, subjects;
    int64_t max_bytes; /* 0 = no limit */
    uint64_t last_seq;
};
typedef void (*bus_count_fn)(void *ctx, const char *subject, uint64_t messages);
typedef void (*bus_stock_cb)(void *ctx, enum bus_status st, const struct bus_stock *stock);
void bus_counts(struct bus *b, const char *stream, const char *filter, int64_t timeout_ms, bus_count_fn each,
                bus_stock_cb done, void *ctx);

/* The suite's streams as rows; bus ensures all of them on each connect (created, or updated where a setting differs,
 * never deleted). */
struct bus_stream {
    const char *name;
    const char *subjects[16];
    int64_t max_age_ms; /* 0 = for ever */
    int64_t max_bytes;
    int64_t max_per_subject; /* 0 = no limit */
    bool discard_new;        /* refuse when full instead of dropping the oldest */
    bool work_queue;
};
extern const struct bus_stream bus_streams[];
extern const size_t bus_streams_n;

/* ---- NATS service protocol (ADR-32): $SRV.PING, INFO, STATS ---- */
struct bus_service {
    const char *name; /* redoubt-breaker */
    const char *version;
    const char *description;
    const char *id;               /* instance */
    const char *const *endpoints; /* subjects served, NULL-terminated */
};
int bus_serve(struct bus *b,
              const struct bus_service *s); /* s is kept by reference. STATS carries all metrics in `data` */

#endif
