/* client_kit.h - what the tests of an agent with libredoubt share: a NATS server, the suite's bus, users with their rights, and the agent's handle. */
#ifndef REDOUBT_TESTS_CLIENT_KIT_H
#define REDOUBT_TESTS_CLIENT_KIT_H

#include "../harness.h"
#include "client/redoubt.h"
#include "common/bus.h"
#include "common/clock.h"
#include "common/subjects.h"
#include "common/wire.h"
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define AGENT "mcp"

struct client_kit {
    struct harness *h;
    struct harness_proc *nats;
    struct loop loop;
    struct bus *bus; /* the suite's */
    bool up, stored, closed, users;
    pthread_mutex_t lock; /* of `r`, and of whatever else the library's thread fills in */
    redoubt *r;
};

/* Turns the test's loop until the expression is true; it may look at what the library's thread fills in. */
#define UNTIL(v, expr)                                                                                               \
    do {                                                                                                             \
        int64_t end_ = clock_mono_ms() + HARNESS_WAIT_MS;                                                            \
        bool never_ = false, ok_;                                                                                    \
        for (;;) {                                                                                                   \
            pthread_mutex_lock(&(v)->k.lock);                                                                        \
            ok_ = (expr);                                                                                            \
            pthread_mutex_unlock(&(v)->k.lock);                                                                      \
            if (ok_)                                                                                                 \
                break;                                                                                               \
            if (clock_mono_ms() > end_)                                                                              \
                fail_msg("waited in vain: %s", #expr);                                                               \
            (void)loop_run_until(&(v)->k.loop, &never_, 5);                                                          \
        }                                                                                                            \
    } while (0)

/* Of nats-server: the suite may do anything, the agent what it always needs and what is named here, each in quotes; `subscribe`
 * ends with a comma. `more` is a line of its permissions. */
#define CLIENT_KIT_USERS(publish, subscribe, more)                                                                   \
    "authorization { users: [\n"                                                                                     \
    "  {user: suite, password: s}\n"                                                                                 \
    "  {user: agent, password: a, permissions: {\n"                                                                  \
    "    publish: [\"redoubt.v1.heartbeat." AGENT "\", \"redoubt.v1.ack." AGENT "\", \"redoubt.v1.decision." AGENT   \
    "\",\n"                                                                                                          \
    "              " publish ",\n"                                                                                   \
    "              \"$JS.API.CONSUMER.CREATE.REDOUBT_STATE\", \"$JS.API.CONSUMER.INFO.REDOUBT_STATE.*\"]\n"          \
    "    subscribe: [\"redoubt.v1.directive." AGENT "\", \"redoubt.v1.breaker.>\", \"redoubt.v1.advice.>\",\n"       \
    "                " subscribe "\"_INBOX_agent." AGENT ".>\"]\n" more "}}\n"                                       \
    "] }\n"

static inline void client_kit_on_up(void *ctx)
{
    ((struct client_kit *)ctx)->up = true;
}

static inline void client_kit_on_down(void *ctx)
{
    ((struct client_kit *)ctx)->up = false;
}

static inline void client_kit_on_closed(void *ctx)
{
    ((struct client_kit *)ctx)->closed = true;
}

static inline void client_kit_on_stored(void *ctx, const struct bus_stored *r)
{
    assert_int_equal(r->status, BUS_OK);
    ((struct client_kit *)ctx)->stored = true;
}

/* The bus may be subscribed to before it is up. conf: users, or NULL for none. */
static inline void client_kit_open(struct client_kit *k, const char *conf)
{
    struct err e = {""};
    signal(SIGPIPE, SIG_IGN);
    k->h = harness_open();
    k->nats = harness_nats(k->h, "nats", conf);
    k->users = conf != NULL;
    pthread_mutex_init(&k->lock, NULL);
    loop_init(&k->loop);
    k->bus = bus_open(&k->loop,
                      &(struct bus_opts){.url = k->nats->url,
                                         .name = "suite",
                                         .inbox_prefix = "_INBOX_suite",
                                         .user = k->users ? "suite" : NULL,
                                         .password = k->users ? "s" : NULL,
                                         .on_up = client_kit_on_up,
                                         .on_down = client_kit_on_down,
                                         .ctx = k},
                      &e);
    assert_non_null(k->bus);
}

static inline void client_kit_up(struct client_kit *k)
{
    assert_true(loop_run_until(&k->loop, &k->up, HARNESS_WAIT_MS));
}

/* The options need neither server nor user nor name. */
static inline void client_kit_open_agent(struct client_kit *k, redoubt_options o)
{
    char error[256] = "";
    o.url = k->nats->url;
    o.user = k->users ? "agent" : NULL;
    o.password = k->users ? "a" : NULL;
    o.agent = AGENT;
    o.instance = "box-1";
    pthread_mutex_lock(&k->lock); /* its callbacks look, too */
    k->r = redoubt_open(&o, error);
    pthread_mutex_unlock(&k->lock);
    assert_string_equal(error, "");
    assert_non_null(k->r);
}

static inline void client_kit_close_agent(struct client_kit *k)
{
    redoubt_close(k->r);
    k->r = NULL;
}

static inline void client_kit_close(struct client_kit *k)
{
    client_kit_close_agent(k);
    bus_close(k->bus, 1000, client_kit_on_closed, k);
    assert_true(loop_run_until(&k->loop, &k->closed, HARNESS_WAIT_MS));
    loop_done(&k->loop);
    harness_close(k->h);
    pthread_mutex_destroy(&k->lock);
}

/* ---- what the suite says ---- */

/* Packed; the caller frees data. */
static inline struct bus_out client_kit_out(const char *subject, const char *id, const void *message)
{
    size_t len;
    struct err e = {""};
    void *data = wire_pack(message, &len, &e);
    if (!data)
        fail_msg("%s", e.text);
    return (struct bus_out){.subject = subject, .id = id, .type = wire_type(message), .data = data, .len = len};
}

/* id may be NULL. */
static inline void client_kit_say(struct client_kit *k, const char *subject, const char *id, const void *message)
{
    struct bus_out o = client_kit_out(subject, id, message);
    assert_int_equal(bus_publish(k->bus, &o, NULL), 0);
    free((void *)(uintptr_t)o.data);
}

/* On its stream when this returns. */
static inline void client_kit_store(struct client_kit *k, const char *subject, const char *id, const void *message)
{
    struct bus_out o = client_kit_out(subject, id, message);
    k->stored = false;
    bus_store(k->bus, &o, HARNESS_WAIT_MS, client_kit_on_stored, k);
    free((void *)(uintptr_t)o.data);
    assert_true(loop_run_until(&k->loop, &k->stored, HARNESS_WAIT_MS));
}

#endif
