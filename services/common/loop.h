/* loop.h - the one thread that owns a service's state: a libuv loop, timers, signals, tilt. */
#ifndef REDOUBT_LOOP_H
#define REDOUBT_LOOP_H

#include "common/clock.h"
#include <stdbool.h>
#include <stdint.h>
#include <uv.h>

struct loop {
    uv_loop_t uv;
    struct tilt tilt;
    bool stopping;
    void *priv;
};

/* Prepares the loop (no threads). 0 or -1. */
int loop_init(struct loop *l);
/* Runs until loop_stop() was called and every handle is closed. */
void loop_run(struct loop *l);
/* Runs handlers until `*done` is true or `timeout_ms` have passed; true if done. For tests and the command line. */
bool loop_run_until(struct loop *l, const bool *done, int64_t timeout_ms);
/* Asks loop_run() to return after the present callbacks. */
void loop_stop(struct loop *l);
/* Closes what is still open, and the loop. */
void loop_done(struct loop *l);

/* A timer that its owner embeds. Start again = re-arm. loop_timer_close() must be called before the memory goes
 * and the loop must turn once after it; `closed` (may be NULL) is called when the memory is free to go. */
typedef void (*loop_cb)(void *ctx);
struct loop_timer {
    uv_timer_t uv;
    loop_cb cb;
    void *ctx;
    loop_cb closed;
};
void loop_timer_init(struct loop *l, struct loop_timer *t, loop_cb cb, void *ctx);
void loop_timer_start(struct loop_timer *t, int64_t after_ms, int64_t repeat_ms); /* repeat 0 = once */
void loop_timer_stop(struct loop_timer *t);
bool loop_timer_active(const struct loop_timer *t);
void loop_timer_close(struct loop_timer *t, loop_cb closed);

/* Calls fn(ctx) once, later, on the loop thread, never from inside this call. Loop thread only. */
void loop_defer(struct loop *l, loop_cb fn, void *ctx);

#endif
