/* store_sentinel.h - which server is the primary, from what Sentinels and the server itself say. Pure: no I/O, no clock. Private to the store.
 *
 * Sentinels are asked in rounds: each once, beginning with the one that was of use last. While nothing is in use, the first that names a
 * primary is followed, and the round goes on if that one is none. While a primary is in use, another name alone moves nobody: a Sentinel
 * that was cut off names yesterday's. A second one has to say the same, unless no other answers. */
#ifndef REDOUBT_STORE_SENTINEL_H
#define REDOUBT_STORE_SENTINEL_H

#include "common/err.h"
#include "common/hostport.h"
#include <hiredis/hiredis.h>
#include <stdbool.h>
#include <stddef.h>

#define STORE_SENTINELS_MAX 16

struct store_place {
    char host[HOSTPORT_HOST_MAX];
    int port; /* 0 = none */
};
bool store_place_same(const struct store_place *a, const struct store_place *b);

struct store_sentinels {
    struct store_place each[STORE_SENTINELS_MAX];
    size_t n;
    size_t at;                  /* whose turn it is */
    size_t left;                /* of this round, the one whose turn it is included; 0 = the round is over */
    struct store_place present; /* the primary in use */
    struct store_place doubt;   /* what one of them said instead, in this round */
};
/* "host:port[,host:port...]", the port 26379 if it is left out. 0, or -1 with what is wrong. */
int store_sentinels_parse(struct store_sentinels *q, const char *list, struct err *e);
/* A round begins. */
void store_sentinels_begin(struct store_sentinels *q);
/* The one whose turn it is was of no use. True: the next one's turn; false: the round is over. */
bool store_sentinels_next(struct store_sentinels *q);

/* While `present` is in use: what one of them said (NULL = nothing of use), and what to do about it. */
enum store_sentinels_verdict {
    STORE_SENTINELS_STAY, /* the round is over */
    STORE_SENTINELS_ASK,  /* the one whose turn it is now */
    STORE_SENTINELS_MOVE, /* present is not the primary any more */
};
enum store_sentinels_verdict store_sentinels_heard(struct store_sentinels *q, const struct store_place *said);

/* The answer to SENTINEL GET-MASTER-ADDR-BY-NAME. */
enum store_sentinel_says {
    STORE_SENTINEL_NAMES,
    STORE_SENTINEL_LOGIN, /* it wants a login first */
    STORE_SENTINEL_NO,    /* does not know the name, refuses, or talks nonsense: text in *e */
};
enum store_sentinel_says store_sentinel_read(const redisReply *r, struct store_place *ret, struct err *e);

/* The answer to ROLE: 0 = it is the primary; -1 = it is not, or does not say so: text in *e. */
int store_role_read(const redisReply *r, struct err *e);

/* True if a server refused a command because it takes no writes now: it is a replica (READONLY), or has too few of them (NOREPLICAS).
 * Nothing was done then. */
bool store_no_writes(const char *error);

#endif
