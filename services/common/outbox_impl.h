/* outbox_impl.h - what the outbox*.c files share: records, segments, and the outbox itself. Private to them. */
#ifndef REDOUBT_OUTBOX_IMPL_H
#define REDOUBT_OUTBOX_IMPL_H

#include "common/log.h"
#include "common/outbox.h"
#include <stdbool.h>
#include <stdint.h>
#include <uthash.h>

/* ---- records (outbox_file.c) ----
 *
 * A segment is a file of records, one behind the other. A record: header, subject, id and type (each with its NUL), data,
 * then BLAKE2b-128 of all before. Numbers are little-endian. */
#define OUTBOX_HEADER     32
#define OUTBOX_SUM        16
#define OUTBOX_ID_MAX     128
#define OUTBOX_TYPE_MAX   128
#define OUTBOX_RECORD_MAX (1u << 17) /* more than any record holds */

enum outbox_kind {
    OUTBOX_ITEM = 1,
    OUTBOX_ACKS = 2,  /* subject: stream; data: pairs of (sequence here, sequence in the stream), 8 bytes each */
    OUTBOX_PROBE = 3, /* nothing: shows that the disk takes data again */
};

/* One record in memory. The strings point into it. */
struct outbox_record {
    enum outbox_kind kind;
    uint64_t seq;
    int64_t wall_ms;
    const char *subject, *id, *type;
    const void *data;
    size_t len;
};
size_t outbox_record_size(const struct outbox_record *r);
/* Writes outbox_record_size() bytes; all but the sum, which outbox_record_seal() adds together with the sequence. */
void outbox_record_write(unsigned char *to, const struct outbox_record *r);
void outbox_record_seal(unsigned char *record, size_t size, uint64_t seq);
/* Size of the undamaged record at `from`, with its parts in *ret; 0 if there is none. */
size_t outbox_record_read(const unsigned char *from, size_t len, struct outbox_record *ret);

/* ---- segments ---- */

enum outbox_state {
    OUTBOX_PENDING, /* to be published */
    OUTBOX_FLYING,  /* given to bus_store() */
    OUTBOX_REFUSED, /* the stream said no; to be tried again later */
    OUTBOX_ACKED,   /* stored at (stream, stream_seq); retained for a while */
    OUTBOX_GIVEN_UP,
};

/* What memory keeps of an item: 24 bytes. */
struct outbox_entry {
    uint64_t seq;
    uint64_t stream_seq;
    uint32_t offset;
    uint32_t len : 24;
    uint32_t stream : 5; /* index into outbox_shelf.streams */
    uint32_t state : 3;
};

struct outbox_segment {
    uint32_t number;
    int fd;        /* -1 until the file is there */
    uint64_t size; /* of what is durable */
    struct outbox_entry *entries;
    size_t n, room;
    size_t open;             /* entries neither ACKED nor GIVEN_UP */
    int64_t settled_mono_ms; /* when `open` last became 0 */
};

#define OUTBOX_STREAMS_MAX 16 /* 0 is "none"; the suite has six */
struct outbox_stream {
    char name[64];
    uint64_t top_seq; /* highest sequence that it acknowledged to us, and the id of that item; 0 = none */
    char top_id[OUTBOX_ID_MAX + 1];
    bool check_due, checking;
};

/* The segments of one directory, oldest first, with sequences that only grow. */
struct outbox_shelf {
    struct outbox_segment **segs;
    size_t n, room;
    uint64_t top_seq;    /* the greatest that was given out */
    uint32_t top_number; /* of a segment, likewise */
    size_t bytes;
    struct outbox_stream streams[OUTBOX_STREAMS_MAX];
    size_t damaged_places, damaged_bytes; /* found while loading */
};
/* Reads every segment below dir_fd; cuts damaged tails off unless `keep`. 0 or -1. */
int outbox_shelf_load(struct outbox_shelf *s, int dir_fd, const char *dir, bool keep, struct err *e);
void outbox_shelf_free(struct outbox_shelf *s);
struct outbox_segment *outbox_shelf_add(struct outbox_shelf *s, uint32_t number); /* NULL: out of memory */
/* Closes, frees and unlinks the segment at index i. */
void outbox_shelf_drop(struct outbox_shelf *s, size_t i, int dir_fd);
struct outbox_entry *outbox_shelf_find(struct outbox_shelf *s, uint64_t seq, struct outbox_segment **ret_seg);
bool outbox_segment_reserve(struct outbox_segment *g, size_t more);
void outbox_segment_name(uint32_t number, char buf[static 32]);
/* Index of a stream by name, known from now on; 0 if there are too many. */
unsigned outbox_shelf_stream(struct outbox_shelf *s, const char *name);
/* Moves an entry to ACKED, and the stream's top with it. id may be NULL: then the top's id is read later. */
void outbox_entry_acked(struct outbox_shelf *s, struct outbox_segment *g, struct outbox_entry *x, unsigned stream,
                        uint64_t stream_seq, const char *id, int64_t now_mono_ms);
/* Reads `len` bytes of a file whole; false with errno. */
bool outbox_read_at(int fd, void *to, size_t len, uint64_t at);
bool outbox_write_at(int fd, const void *from, size_t len, uint64_t at);
/* Copies every item of `from` into new segments of about segment_bytes below dir_fd, with new sequences; durable when this
 * returns 0. On -1 nothing is left of them. */
int outbox_shelf_copy(struct outbox_shelf *to, int dir_fd, const struct outbox_shelf *from, size_t segment_bytes,
                      struct err *e);
/* Removes what a copy left that was cut short. */
void outbox_shelf_clean(int dir_fd);

/* ---- the outbox (outbox.c, outbox_publish.c) ---- */

#define OUTBOX_WINDOW 256 /* items given to the bus and not yet acknowledged */

/* A record in memory: on its way to the disk, or from there to the bus. */
struct outbox_piece {
    struct outbox_piece *next;
    outbox_cb cb, stored; /* either may be NULL */
    void *ctx;
    uint64_t seq;
    size_t size;
    unsigned char record[];
};
struct outbox_queue {
    struct outbox_piece *first, **last;
    size_t n, bytes;
};
void outbox_queue_init(struct outbox_queue *q);
void outbox_queue_put(struct outbox_queue *q, struct outbox_piece *p);
struct outbox_piece *outbox_queue_take(struct outbox_queue *q); /* NULL if empty */

struct outbox_ack_note {
    uint64_t seq, stream_seq;
    unsigned stream;
};
struct outbox_ack_notes {
    struct outbox_ack_note *items;
    size_t n, room;
};

/* Somebody waits until the stream has an item. */
struct outbox_wish {
    uint64_t seq;
    outbox_cb stored;
    void *ctx;
    UT_hash_handle hh;
};

struct outbox_flight;
struct outbox_query;
struct outbox_job;
struct outbox_reading;

struct outbox {
    struct loop *loop;
    struct bus *bus;
    char *dir;
    int dir_fd;
    size_t max_bytes, segment_bytes;
    struct outbox_shelf shelf;
    struct outbox_segment *current; /* the one that is written to; NULL = the next write begins one */

    struct outbox_queue waiting; /* for the disk */
    struct outbox_ack_notes notes;
    struct outbox_job *job; /* the write in flight */
    bool ok;                /* the last sync succeeded */
    size_t backlog;

    struct outbox_queue hot; /* the first pending items, in order, with their bytes */
    size_t pending;          /* entries in PENDING, hot or not */
    size_t refused;
    int64_t refused_until_ms;
    size_t at_seg, at_entry; /* no PENDING entry lies before this one */
    struct outbox_reading *reading;
    struct outbox_flight *flights;
    size_t n_flights;
    struct outbox_query *queries;
    struct outbox_wish *wishes; /* by sequence */
    bool bus_was_up, bus_gone;
    int64_t next_check_ms;

    struct loop_timer tick, deadline;
    bool closing, overdue, freeing;
    loop_cb done;
    void *done_ctx;
    struct log_limit said_refused;
};

/* Publishes as many pending items as the window takes. */
void outbox_pump(struct outbox *b);
/* An item is durable: takes over or frees the piece. */
void outbox_publish_new(struct outbox *b, struct outbox_piece *p);
/* Looks for what time brings: the bus is back, a stream is to be checked, a refused item is to be tried again. */
void outbox_publish_tick(struct outbox *b, int64_t now_ms);
/* Lets go of everything that the bus still holds for us. */
void outbox_publish_detach(struct outbox *b);
/* Nobody need wait any more for item `seq`. */
void outbox_wish_end(struct outbox *b, uint64_t seq, int status, const char *error);
/* Remembers an acknowledgement for the next write. */
void outbox_note_ack(struct outbox *b, uint64_t seq, unsigned stream, uint64_t stream_seq);
/* Ends a close that waits, if nothing keeps it any more. */
void outbox_maybe_finish(struct outbox *b);

#endif
