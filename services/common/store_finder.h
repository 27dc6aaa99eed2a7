/* store_finder.h - asks Sentinels for the primary, over one connection to one of them at a time. Private to the store. */
#ifndef REDOUBT_STORE_FINDER_H
#define REDOUBT_STORE_FINDER_H

#include "common/err.h"
#include "common/loop.h"
#include <stdbool.h>
#include <stdint.h>

struct store_finder;
/* None of them is called from inside a function below. */
struct store_finder_events {
    void (*named)(void *ctx, const char *host, int port); /* sought: one of them names this primary */
    void (*nobody)(void *ctx, const char *why);           /* sought: all were asked, none was of use */
    void (*moved)(void *ctx, const char *why);            /* watched: another server is the primary now */
    void (*closed)(void *ctx);                            /* the memory is gone */
};
struct store_finder_opts {
    const char *sentinels;       /* host:port[,host:port...] */
    const char *name;            /* what they call the primary */
    const char *user, *password; /* shown to a Sentinel that wants a login; may be NULL */
    int64_t timeout_ms;          /* of each step, at most a second */
};
/* Strings of `o` but `sentinels` are kept by reference. */
struct store_finder *store_finder_open(struct loop *l, const struct store_finder_opts *o,
                                       const struct store_finder_events *ev, void *ctx, struct err *e);
/* A round of questions begins: named or nobody follows. */
void store_finder_seek(struct store_finder *f);
/* What was named last is of no use: the next one is asked, and named or nobody follows. False: all were asked. */
bool store_finder_seek_on(struct store_finder *f);
/* host and port are in use: they are asked every second, and moved() is said once. */
void store_finder_watch(struct store_finder *f, const char *host, int port);
void store_finder_rest(struct store_finder *f); /* no more events */
void store_finder_close(struct store_finder *f);

#endif
