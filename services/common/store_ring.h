/* store_ring.h - the store's queues: commands in flight, and callbacks that are due. Private to the store. */
#ifndef REDOUBT_STORE_RING_H
#define REDOUBT_STORE_RING_H

#include "common/store.h"

/* One command in flight, or one callback that is due. */
struct store_item {
    store_cb cb;
    void *ctx;
    int64_t sent_ms;
    size_t bytes;
    const char *greeting;        /* name of a command of our own greeting */
    struct store_script *script; /* LOAD, EVAL or EVALSHA of it */
    bool load;                   /* our own SCRIPT LOAD */
    char *evalsha;               /* the formatted command, kept until answered in case of NOSCRIPT */
    enum store_status st;        /* in `late` */
};
struct store_ring {
    struct store_item *at;
    size_t cap, first, n;
};

/* A zeroed place at the end; aborts if memory is out: a callback that could not be promised would hang its owner. */
struct store_item *store_ring_push(struct store_ring *r);
struct store_item store_ring_pop(struct store_ring *r); /* the oldest; the ring must not be empty */
void store_item_done(struct store_item *c);             /* frees what is kept for a repeat */

/* store_command.c: malloc'ed and ended by a NUL; lens NULL = strlen of each. NULL if memory is out. */
char *store_command(int argc, const char *const *argv, const size_t *lens, size_t *ret_len);
/* The EVAL of a script's whole text with the keys and arguments of a formatted EVALSHA. */
char *store_eval_command(const char *evalsha, size_t len, const char *body, size_t *ret_len);

#endif
