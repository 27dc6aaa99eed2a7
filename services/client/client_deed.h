/* client_deed.h - actions on their way: asked of the guard, asked again, answered. Loop thread only; for one agent or for many. */
#ifndef REDOUBT_CLIENT_DEED_H
#define REDOUBT_CLIENT_DEED_H

#include "client/client_try.h"
#include "client/redoubt.h"
#include "common/bus.h"
#include "common/loop.h"
#include "common/wire.h"

struct client_deed;
struct client_deeds {
    struct loop *loop;
    struct bus *bus;
    /* Where its agent stands now. */
    void (*where)(void *ctx, const struct client_deed *a, struct client_where *ret);
    /* It is over; a is freed afterwards. May add others. */
    void (*over)(void *ctx, struct client_deed *a, const redoubt_result *result);
    void *ctx;
    struct client_deed *first;
};
struct client_deed {
    PB(ActionRequest) * request; /* its epoch is that of the last sending */
    void *owner;                 /* the caller's */
    struct client_deeds *all;
    struct client_try try;
    struct loop_timer timer;
    struct client_sending *sendings;
    redoubt_result heard; /* what the last answer said besides its decision */
    struct client_deed *prev, *next;
};

/* A copy of what the agent asks for, with `key` if it names none; NULL if the contract would not take it, or memory is out. Any thread. */
struct client_deed *client_deed_new(const char *agent, const char *instance, const char *key,
                                    const redoubt_action *a);
void client_deed_free(struct client_deed *a); /* one that was never added; NULL is fine */
/* Takes it over and asks at once. deadline_ms is monotonic; `over` may come from inside. */
void client_deeds_add(struct client_deeds *all, struct client_deed *a, int64_t deadline_ms);
/* The position or the connection has changed: each looks again. */
void client_deeds_turn(struct client_deeds *all);
/* All end now: before the bus is closed. The loop must turn once more before its end. */
void client_deeds_end(struct client_deeds *all);

#endif
