/* store_uv.c - one Redis connection: a non-blocking hiredis context on a libuv loop. */
#include "common/store_uv.h"
#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

struct store_link {
    uv_poll_t poll;
    uv_idle_t flush; /* runs before the loop sleeps: one write for all commands of a turn */
    redisContext *redis;
    const struct store_link_events *ev;
    void *ctx;
    bool connected;
    bool writing; /* the socket is full: waiting for it to drain */
    bool over;    /* lost was said, or closed: no more events */
    int open_handles;
};

static void on_poll(uv_poll_t *h, int status, int events);

static void handle_closed(uv_handle_t *h)
{
    struct store_link *x = h->data;
    if (--x->open_handles > 0)
        return;
    const struct store_link_events *ev = x->ev;
    void *ctx = x->ctx;
    free(x);
    ev->closed(ctx);
}

static void lose(struct store_link *x, const char *why)
{
    if (x->over)
        return;
    char text[sizeof x->redis->errstr]; /* `why` may live in what the handler closes */
    snprintf(text, sizeof text, "%s", why);
    x->over = true;
    uv_poll_stop(&x->poll);
    uv_idle_stop(&x->flush);
    x->ev->lost(x->ctx, text);
}

static void watch(struct store_link *x)
{
    int events = x->connected ? UV_READABLE | (x->writing ? UV_WRITABLE : 0) : UV_WRITABLE;
    int r = uv_poll_start(&x->poll, events, on_poll);
    assert(r == 0);
    (void)r;
}

static void write_out(struct store_link *x)
{
    int done = 0;
    if (redisBufferWrite(x->redis, &done) != REDIS_OK) {
        lose(x, x->redis->errstr);
        return;
    }
    uv_idle_stop(&x->flush);
    if (x->writing != !done) {
        x->writing = !done;
        watch(x);
    }
}

static void on_flush(uv_idle_t *h)
{
    struct store_link *x = h->data;
    if (x->connected && !x->writing)
        write_out(x);
    else
        uv_idle_stop(&x->flush); /* on_poll writes when the socket is ready */
}

/* True if the attempt to connect has ended well; says lost if it has ended badly. */
static bool finish_connect(struct store_link *x)
{
    int error = 0;
    socklen_t len = sizeof error;
    if (getsockopt(x->redis->fd, SOL_SOCKET, SO_ERROR, &error, &len) < 0)
        error = errno;
    if (error) {
        lose(x, strerror(error));
        return false;
    }
    x->connected = true;
    watch(x);
    x->ev->connected(x->ctx);
    return !x->over;
}

static void read_in(struct store_link *x)
{
    if (redisBufferRead(x->redis) != REDIS_OK) {
        lose(x, x->redis->errstr);
        return;
    }
    while (!x->over) {
        void *reply = NULL;
        if (redisGetReplyFromReader(x->redis, &reply) != REDIS_OK) {
            lose(x, x->redis->errstr);
            return;
        }
        if (!reply)
            return;
#ifdef REDIS_REPLY_PUSH
        if (((redisReply *)reply)->type == REDIS_REPLY_PUSH) { /* never asked for (that is RESP3), and no answer */
            freeReplyObject(reply);
            continue;
        }
#endif
        x->ev->reply(x->ctx, reply);
        freeReplyObject(reply);
    }
}

static void on_poll(uv_poll_t *h, int status, int events)
{
    struct store_link *x = h->data;
    /* A poll error tells nothing by itself: take it as "ready for all that was asked", and let the socket say what it is. */
    if (status < 0)
        events = UV_READABLE | UV_WRITABLE;
    if (!x->connected) {
        (void)finish_connect(x);
        return;
    }
    if ((events & UV_WRITABLE) && x->writing)
        write_out(x);
    if ((events & UV_READABLE) && !x->over)
        read_in(x);
}

struct store_link *store_link_open(struct loop *l, const char *ip, int port, const struct store_link_events *ev,
                                   void *ctx, struct err *e)
{
    redisContext *redis = redisConnectNonBlock(ip, port);
    if (!redis || redis->err) {
        err_set(e, "%s port %d: %s", ip, port, redis ? redis->errstr : "out of memory");
        if (redis)
            redisFree(redis);
        return NULL;
    }
    struct store_link *x = calloc(1, sizeof *x);
    if (!x) {
        redisFree(redis);
        err_set(e, "%s port %d: out of memory", ip, port);
        return NULL;
    }
    int r = uv_poll_init(&l->uv, &x->poll, redis->fd);
    if (r < 0) { /* nothing was registered with the loop */
        err_set(e, "%s port %d: %s", ip, port, uv_strerror(r));
        redisFree(redis);
        free(x);
        return NULL;
    }
    /* Best effort: finds a peer that vanished while nothing was asked of it. */
    (void)redisEnableKeepAlive(redis);
    redis->err = 0;
    uv_idle_init(&l->uv, &x->flush);
    x->redis = redis;
    x->poll.data = x->flush.data = x;
    x->open_handles = 2;
    x->ev = ev;
    x->ctx = ctx;
    watch(x);
    return x;
}

int store_link_send(struct store_link *x, const char *cmd, size_t len)
{
    if (x->over || redisAppendFormattedCommand(x->redis, cmd, len) != REDIS_OK)
        return -1;
    if (!x->connected || x->writing)
        return 0; /* on_poll writes when the socket is ready */
    /* The first command of a turn leaves at once: somebody waits for it. Those that follow share one write at the turn's end. An error
     * stays in the context, and is met there. */
    int done = 1;
    if (!uv_is_active((uv_handle_t *)&x->flush) && redisBufferWrite(x->redis, &done) == REDIS_OK && !done) {
        x->writing = true;
        watch(x);
        return 0;
    }
    uv_idle_start(&x->flush, on_flush);
    return 0;
}

void store_link_pull(struct store_link *x)
{
    if (x->connected && !x->over)
        read_in(x);
}

void store_link_close(struct store_link *x)
{
    x->over = true;
    uv_close((uv_handle_t *)&x->poll, handle_closed); /* first: it takes the descriptor out of the poll set */
    uv_close((uv_handle_t *)&x->flush, handle_closed);
    redisFree(x->redis);
    x->redis = NULL;
}
