/* store.h - Redis for one loop: hiredis async with reconnect, a deadline per command, and scripts.
 *
 * All functions are for the loop thread; every callback runs exactly once, on it, never from inside the call. */
#ifndef REDOUBT_STORE_H
#define REDOUBT_STORE_H

#include "common/err.h"
#include "common/loop.h"
#include <hiredis/hiredis.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct store;

struct store_opts {
    const char *host; /* name or address; required without sentinels */
    int port;         /* 0 = 6379 */
    /* "host:port[,host:port...]": Redis Sentinels that are asked for the primary, at each connect, instead of host and port. NULL or "" = none. */
    const char *sentinels;
    const char *sentinel_master; /* what they call it; required with sentinels */
    const char *user;            /* ACL login; may be NULL */
    const char *password;        /* may be NULL */
    int db;
    int64_t command_timeout_ms; /* 0 = 1,000 */
    void (*on_up)(void *ctx);
    void (*on_down)(void *ctx);
    void *ctx;
};
struct store *store_open(struct loop *l, const struct store_opts *o, struct err *e);
bool store_up(const struct store *s);
/* Why it is not up, or what went wrong last: for the log line of the caller. "" if nothing ever did. */
const char *store_last_error(const struct store *s);
/* Fails what is in flight with STORE_CLOSED, disconnects, calls done(ctx) (may be NULL) when the memory is gone. on_down is not
 * called; commands given meanwhile end with STORE_CLOSED. */
void store_close(struct store *s, loop_cb done, void *ctx);

enum store_status {
    STORE_OK,
    STORE_DOWN, /* not connected: nothing was sent; or the server takes no writes now (and is left): nothing was done */
    STORE_UNKNOWN, /* sent, but no answer came: it may have happened */
    STORE_ERROR,   /* Redis said no; text in reply->str */
    STORE_CLOSED,
};
const char *store_status_text(enum store_status st);
/* reply is valid only inside the callback; NULL unless STORE_OK or STORE_ERROR. */
typedef void (*store_cb)(void *ctx, enum store_status st, const redisReply *reply);

/* One command; arguments are copied. `lens` NULL = strlen of each. cb may be NULL. */
void store_cmd(struct store *s, store_cb cb, void *ctx, int argc, const char *const *argv, const size_t *lens);

/* A Lua script without policy. Until Redis has told its SHA (SCRIPT LOAD, sent along with the first EVAL), it goes by EVAL; then
 * by EVALSHA, and on NOSCRIPT once more by EVAL: never an extra round trip. All keys in `keys`. One per loop. */
struct store_script {
    const char *name; /* for messages */
    const char *body;
    char sha[41]; /* this and the next filled in by the store */
    enum { STORE_SHA_UNKNOWN, STORE_SHA_ASKED, STORE_SHA_KNOWN, STORE_SHA_REFUSED } sha_state;
};
void store_eval(struct store *s, struct store_script *script, store_cb cb, void *ctx, int n_keys,
                const char *const *keys, int n_args, const char *const *args, const size_t *arg_lens);

/* ---- documents: one protobuf per entity, written by compare-and-set ----
 *
 * A document is a hash: `doc` (bytes), `rev` (decimal, grows by one), `fence` (highest token seen), `pending` (1 until its
 * event is known to be on the stream). The indexes `redoubt:{<room>}:pending` etc. are the shells' own business. */
struct store_doc {
    bool found;
    uint64_t rev;
    const void *data;
    size_t len;
    bool pending;
    const char *error; /* "" unless STORE_ERROR: what Redis said, e.g. that the key holds something else */
};
enum store_cas {
    STORE_CAS_WON,
    STORE_CAS_LOST,   /* someone else was first: *current is theirs, decide again */
    STORE_CAS_FENCED, /* our lease is older than a writer's before us */
};
/* The documents given are never NULL, and valid only inside the callback; without STORE_OK they are empty. */
typedef void (*store_doc_cb)(void *ctx, enum store_status st, const struct store_doc *doc);
typedef void (*store_cas_cb)(void *ctx, enum store_status st, enum store_cas r, const struct store_doc *current);
void store_doc_get(struct store *s, const char *key, store_doc_cb cb, void *ctx);
/* Writes data with rev = expect_rev + 1 if the stored rev is expect_rev (0 = absent) and the stored fence <= fence.
 * WON also when the stored document is already this very one (a repeat after STORE_UNKNOWN). */
void store_doc_put(struct store *s, const char *key, uint64_t expect_rev, uint64_t fence, bool pending,
                   const void *data, size_t len, store_cas_cb cb, void *ctx);
/* The same, and in the same step plain fields for those who read only Redis: `fields` is name, value, name, value..., up to
 * STORE_FIELDS_MAX pairs, none of them a name of the four above. */
#define STORE_FIELDS_MAX 8
void store_doc_put_fields(struct store *s, const char *key, uint64_t expect_rev, uint64_t fence, bool pending,
                          const void *data, size_t len, size_t n_fields, const char *const fields[], store_cas_cb cb,
                          void *ctx);
/* Clears `pending` if rev is still `rev`. */
void store_doc_announced(struct store *s, const char *key, uint64_t rev, store_cb cb, void *ctx);

#endif
