/* client.c - libredoubt's surface: options, the thread, and what any thread may ask. */
#include "client/client_priv.h"
#include "client/client_share.h"
#include "common/clock.h"
#include "common/utf8.h"
#include <assert.h>
#include <signal.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define HEARTBEAT_MS 1000
#define LEASE_MS     30000

static void bus_closed(void *ctx)
{
    redoubt *r = ctx;
    r->bus = NULL;
    loop_stop(&r->loop);
}

static void on_wake(uv_async_t *a)
{
    redoubt *r = a->data;
    pthread_mutex_lock(&r->lock);
    bool closing = r->closing;
    r->wake_pending = false;
    pthread_mutex_unlock(&r->lock);
    if (r->leaving)
        return;
    if (closing)
        client_action_end(r);
    else
        client_action_flush(r);
    if (r->gate.up) {
        client_report_flush(r);
        client_decision_flush(r);
        client_selftest_flush(r);
        client_work_flush(r);
        client_bus_ask_permits(r);
    }
    if (closing) {
        r->leaving = true;
        loop_timer_stop(&r->lease_timer);
        loop_timer_stop(&r->heartbeat_timer);
        loop_timer_stop(&r->restart.timer);
        client_monitor_stop(r);
        client_work_stop(r);
        bus_close(r->bus, CLIENT_CLOSE_MS, bus_closed, r);
    }
}

static void on_heartbeat(void *ctx)
{
    client_bus_heartbeat(ctx);
}

static void on_lease(void *ctx)
{
    client_bus_lease(ctx);
}

static void *thread_main(void *arg)
{
    redoubt *r = arg;
    loop_run(&r->loop);
    return NULL;
}

static const char *wrong_options(const redoubt_options *o)
{
    if (!o->url || !o->url[0])
        return "url is required, e.g. nats://127.0.0.1:4222";
    if (!o->agent || !name_token_ok(o->agent))
        return "agent must be 1 to 64 of [a-z0-9_-]";
    if (o->instance && (!o->instance[0] || strlen(o->instance) > 128))
        return "instance must be 1 to 128 bytes";
    if (o->heartbeat_ms && (o->heartbeat_ms < 100 || o->heartbeat_ms > 600000))
        return "heartbeat_ms must be 100 to 600,000, or 0 for 1,000";
    if (!o->deployment != !o->version)
        return "deployment and version are given together";
    if (o->deployment && !name_token_ok(o->deployment))
        return "deployment must be 1 to 64 of [a-z0-9_-]";
    if (o->version && (!o->version[0] || strlen(o->version) > 128 ||
                       utf8_valid_until(o->version, strlen(o->version)) != strlen(o->version)))
        return "version must be 1 to 128 bytes of UTF-8";
    if (!o->on_directive)
        return "on_directive is required: it is what the library is for";
    return NULL;
}

/* Strings of the options live as long as the client. */
static bool copy_strings(redoubt *r, const redoubt_options *o)
{
    const char *from[] = {o->url, o->user, o->password, o->token, o->tls_ca_file};
    const char **to[] = {&r->o.url, &r->o.user, &r->o.password, &r->o.token, &r->o.tls_ca_file};
    for (size_t i = 0; i < sizeof from / sizeof *from; i++) {
        r->text[i] = from[i] ? strdup(from[i]) : NULL;
        if (from[i] && !r->text[i])
            return false;
        *to[i] = r->text[i];
    }
    return true;
}

static void name_instance(redoubt *r, const redoubt_options *o)
{
    char host[100] = "";
    if (o->instance) {
        snprintf(r->instance, sizeof r->instance, "%s", o->instance);
        return;
    }
    if (gethostname(host, sizeof host - 1) < 0 || !host[0])
        snprintf(host, sizeof host, "unknown");
    snprintf(r->instance, sizeof r->instance, "%s-%d", host, (int)getpid());
}

static void client_free(redoubt *r)
{
    if (r->loop.priv)
        loop_done(&r->loop);
    client_table_done(&r->table);
    client_decision_done(r);
    client_selftest_done(r);
    client_action_done(r);
    client_monitor_done(r);
    pthread_mutex_destroy(&r->lock);
    for (size_t i = 0; i < sizeof r->text / sizeof *r->text; i++) {
        if (r->text[i])
            sodium_memzero(r->text[i], strlen(r->text[i]));
        free(r->text[i]);
    }
    free(r->waiting.at);
    free(r->last);
    free(r);
}

static redoubt *client_new(const redoubt_options *o)
{
    redoubt *r = calloc(1, sizeof *r);
    if (!r)
        return NULL;
    pthread_mutex_init(&r->lock, NULL);
    r->decisions_end = &r->decisions;
    r->o = *o;
    r->o.heartbeat_ms = o->heartbeat_ms ? o->heartbeat_ms : HEARTBEAT_MS;
    r->o.lease_ms = o->lease_ms ? o->lease_ms : LEASE_MS;
    snprintf(r->agent, sizeof r->agent, "%s", o->agent);
    name_instance(r, o);
    uint64_t boot;
    randombytes_buf(&boot, sizeof boot);
    snprintf(r->boot, sizeof r->boot, "%016llx", (unsigned long long)boot);
    atomic_store(&r->posture, REDOUBT_FROZEN); /* until the first directive */
    client_usage_init(&r->usage);
    client_gate_init(&r->gate, clock_mono_ms());
    client_action_init(r);
    if (!copy_strings(r, o) || client_table_init(&r->table) < 0 || loop_init(&r->loop) < 0) {
        client_free(r);
        return NULL;
    }
    return r;
}

redoubt *redoubt_open(const redoubt_options *o, char error[256])
{
    struct err e = {"out of memory"};
    sigset_t all, was;
    const char *wrong = wrong_options(o);
    redoubt *r = wrong ? NULL : client_new(o);
    if (!r) {
        if (error)
            snprintf(error, 256, "redoubt: %.200s", wrong ? wrong : e.text);
        return NULL;
    }
    uv_async_init(&r->loop.uv, &r->wake, on_wake);
    r->wake.data = r;
    loop_timer_init(&r->loop, &r->lease_timer, on_lease, r);
    loop_timer_init(&r->loop, &r->heartbeat_timer, on_heartbeat, r);
    client_bus_init(r);
    client_monitor_init(r);
    client_work_init(r, o);
    loop_timer_start(&r->lease_timer, r->o.lease_ms, 0);
    loop_timer_start(&r->heartbeat_timer, r->o.heartbeat_ms, r->o.heartbeat_ms);
    /* Signals are the application's: no thread of ours takes one. */
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &was);
    int ok = client_bus_open(r, &e);
    if (ok == 0 && pthread_create(&r->thread, NULL, thread_main, r) != 0)
        ok = err_set(&e, "no thread");
    pthread_sigmask(SIG_SETMASK, &was, NULL);
    if (ok == 0)
        return r;
    if (error)
        snprintf(error, 256, "redoubt: %.200s", e.text);
    if (r->bus) { /* nobody runs the loop: do it here */
        bus_close(r->bus, 0, bus_closed, r);
        loop_run(&r->loop);
    }
    client_free(r);
    return NULL;
}

void redoubt_close(redoubt *r)
{
    if (!r)
        return;
    assert(!pthread_equal(pthread_self(), r->thread) && "redoubt_close() from a callback would wait for itself");
    pthread_mutex_lock(&r->lock);
    r->closing = true;
    pthread_mutex_unlock(&r->lock);
    uv_async_send(&r->wake);
    pthread_join(r->thread, NULL);
    client_free(r);
}

int redoubt_report(redoubt *r, const char *target, const redoubt_call *c)
{
    return client_report_queue(r, target, c);
}

int redoubt_decision(redoubt *r, const redoubt_decision_t *d)
{
    return client_decision_add(r, client_decision_copy(r, d), d->outcome);
}

redoubt_admission redoubt_admit(redoubt *r, const char *target)
{
    int touch = atomic_load_explicit(&r->touch, memory_order_relaxed);
    if (touch == CLIENT_NEVER || touch == CLIENT_OUT)
        return (redoubt_admission){.retry_after_ms = 1000};
    struct client_slot *s = client_table_find(&r->table, target);
    if (!s)
        return (redoubt_admission){.admitted = true};
    bool ask = false;
    redoubt_admission a = client_slot_admit(s, &ask);
    if (ask) {
        atomic_store(&r->permits_wanted, true);
        uv_async_send(&r->wake);
    }
    return a;
}

bool redoubt_load(redoubt *r)
{
    if (atomic_load_explicit(&r->posture, memory_order_relaxed) == REDOUBT_FROZEN)
        return false;
    uint32_t turn = atomic_fetch_add_explicit(&r->load_turn, 1, memory_order_relaxed);
    return client_share(turn, atomic_load_explicit(&r->load, memory_order_relaxed));
}

enum redoubt_posture redoubt_posture_now(const redoubt *r)
{
    return (enum redoubt_posture)atomic_load(&r->posture);
}

uint64_t redoubt_epoch_now(const redoubt *r)
{
    return atomic_load(&r->epoch);
}
