/* store_lookup.h - the addresses of a name, looked up at each connect without blocking the loop. Private to the store. */
#ifndef REDOUBT_STORE_LOOKUP_H
#define REDOUBT_STORE_LOOKUP_H

#include "common/err.h"
#include "common/loop.h"
#include <stdbool.h>

#define STORE_LOOKUPS_MAX 2 /* on their way at once: hanging resolvers must not fill libuv's threads */
#define STORE_IP_MAX      64

struct store_lookup_request;
struct store_lookup {
    struct loop *l;
    void (*done)(void *ctx, const char *why); /* why: NULL = there are addresses. Never from inside a call */
    void *ctx;
    struct store_lookup_request *requests[STORE_LOOKUPS_MAX]; /* each outlives its owner if the resolver hangs */
    struct store_lookup_request *wanted;                      /* the one that done() will be called for */
    struct addrinfo *list, *next;
    char numeric[STORE_IP_MAX]; /* the name is an address; "" once taken */
};
void store_lookup_init(struct store_lookup *x, struct loop *l, void (*done)(void *ctx, const char *why), void *ctx);
/* What was looked up before is forgotten. 1: the addresses are there; 0: done() follows; -1: it could not be begun. */
int store_lookup_start(struct store_lookup *x, const char *host, struct err *e);
/* Takes the next address. False if there is none. */
bool store_lookup_next(struct store_lookup *x, char ip[static STORE_IP_MAX]);
bool store_lookup_more(const struct store_lookup *x);
/* Nobody waits any more: done() is not called. */
void store_lookup_cancel(struct store_lookup *x);
void store_lookup_free(struct store_lookup *x);

#endif
