/* check_nats.c - requests and errors of a service that answers $SRV.STATS: of its instances whose version is the side's. */
#include "common/subjects.h"
#include "rollback/check_tally.h"
#include "rollback/rollback_check_kind.h"
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define QUIET_MS      300 /* after the last answer nobody else is waited for */
#define ANSWERS_MAX   4096
#define ENDPOINTS_MAX 256
#define COUNTER_MAX   INT64_C(9007199254740992)

struct own {
    struct service *s;
    const struct set_rb_check *set;
    unsigned inboxes;
    struct check_tally tally[2]; /* by side */
};
struct asked {
    struct own *own;
    check_done done;
    void *ctx;
    struct bus_sub *sub;
    struct loop_timer timer;
    int64_t until_ms;
    char version[ROLLBACK_ID], name[ROLLBACK_NAME], service[65];
    int side;
    unsigned answers, fit;
    uint64_t heard; /* answers and what is not one */
    bool cancelled, nobody, memory_out;
};

static int open_own(struct service *s, const struct set_rb_check *set, void **ret, struct err *e)
{
    if (set->service[strspn(set->service, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_")])
        return err_set(e, "service: found `%.64s`; allowed: letters, digits, - and _", set->service);
    struct own *o = calloc(1, sizeof *o);
    if (!o)
        return err_set(e, "out of memory");
    o->s = s;
    o->set = set;
    *ret = o;
    return 0;
}

static void close_own(void *p)
{
    struct own *o = p;
    for (int i = 0; o && i < 2; i++)
        check_tally_done(&o->tally[i]);
    free(o);
}

static int sample(const struct set_rb_check *set)
{
    (void)set;
    return ROLLBACK_COUNTS;
}

static bool each(const struct set_rb_check *set)
{
    (void)set;
    return false; /* all instances answer one question */
}

/* ---- answers ---- */

/* The protocol wants 1.2.3 where people write v1.2.3. */
static bool same_version(const char *said, const char *name)
{
    return strcmp(said, name) == 0 || (name[0] == 'v' && strcmp(said, name + 1) == 0);
}

static uint64_t counter(const json_t *endpoint, const char *key)
{
    json_int_t v = json_integer_value(json_object_get(endpoint, key));
    return v < 0 ? 0 : v > COUNTER_MAX ? (uint64_t)COUNTER_MAX : (uint64_t)v;
}

static void take(struct asked *x, const json_t *j)
{
    const char *name = json_string_value(json_object_get(j, "name")),
               *id = json_string_value(json_object_get(j, "id"));
    const char *version = json_string_value(json_object_get(j, "version"));
    const json_t *endpoints = json_object_get(j, "endpoints");
    if (!name || !id || !*id || !version || strcmp(name, x->service) != 0)
        return;
    x->answers++;
    if (!same_version(version, x->name) && strcmp(version, x->version) != 0)
        return;
    uint64_t bad = 0, all = 0;
    for (size_t i = 0, n = json_array_size(endpoints); i < n && i < ENDPOINTS_MAX; i++) {
        bad += counter(json_array_get(endpoints, i), "num_errors");
        all += counter(json_array_get(endpoints, i), "num_requests");
    }
    x->fit++;
    if (!check_tally_take(&x->own->tally[x->side], x->name, id, bad, all))
        x->memory_out = true;
}

static void on_gone(void *ctx)
{
    free(ctx);
}

static void finish(struct asked *x)
{
    struct check_answer a = {.said = CHECK_NOTHING};
    if (x->cancelled) {
        /* The settings may be gone. */
    } else if (x->memory_out) {
        check_say(&a, CHECK_NOTHING, "out of memory");
    } else if (x->fit > 0) {
        a.said = CHECK_COUNTED;
        a.bad = x->own->tally[x->side].bad;
        a.all = x->own->tally[x->side].all;
    } else if (x->answers > 0) {
        check_say(&a, CHECK_NOTHING, "%u instances of %s answer, none of version %.60s", x->answers, x->service,
                  x->name);
    } else {
        check_say(&a, CHECK_NOTHING, "no service %s answers on the bus", x->service);
    }
    bus_unsubscribe(x->sub);
    check_done done = x->done;
    void *of = x->ctx;
    loop_timer_close(&x->timer, on_gone);
    done(of, &a);
}

static void on_timer(void *ctx)
{
    finish(ctx);
}

static void on_answer(void *ctx, const struct bus_msg *m)
{
    struct asked *x = ctx;
    if (x->nobody || x->cancelled)
        return;
    if (m->len == 0 && x->heard == 0) { /* the server itself: nobody serves this */
        x->nobody = true;
        loop_timer_start(&x->timer, 0, 0);
        return;
    }
    if (++x->heard > ANSWERS_MAX)
        return;
    json_t *j = json_loadb(m->data, m->len, JSON_REJECT_DUPLICATES, NULL);
    take(x, j);
    json_decref(j);
    int64_t left = x->until_ms - clock_mono_ms();
    loop_timer_start(&x->timer, left < QUIET_MS ? (left > 0 ? left : 0) : QUIET_MS, 0);
}

/* ---- asking ---- */

static void *ask(void *p, const struct check_ask *q, check_done done, void *ctx)
{
    struct own *o = p;
    char inbox[SUBJECT_MAX_LEN], subject[SUBJECT_MAX_LEN];
    struct err e;
    struct asked *x = calloc(1, sizeof *x);
    if (!x)
        abort(); /* who asks is promised an answer */
    x->own = o;
    x->done = done;
    x->ctx = ctx;
    x->side = q->side->side ? 1 : 0;
    x->until_ms = clock_mono_ms() + o->set->timeout_ms;
    snprintf(x->version, sizeof x->version, "%s", q->side->version);
    snprintf(x->name, sizeof x->name, "%s", q->side->name);
    snprintf(x->service, sizeof x->service, "%s", o->set->service);
    loop_timer_init(&o->s->loop, &x->timer, on_timer, x);
    /* Checks of one service have inboxes of their own: below the service's prefix, by the check's place in memory. */
    snprintf(inbox, sizeof inbox, "_INBOX_%s.check.%s.%zx.%u", o->s->desc->name, o->s->boot_id, (size_t)o,
             ++o->inboxes);
    snprintf(subject, sizeof subject, "$SRV.STATS.%s", x->service);
    x->sub = bus_subscribe(o->s->bus, inbox, NULL, on_answer, x);
    bool sent = x->sub && bus_up(o->s->bus) &&
                bus_publish(o->s->bus, &(struct bus_out){.subject = subject, .reply = inbox, .data = ""}, &e) == 0;
    loop_timer_start(&x->timer, sent ? o->set->timeout_ms : 0, 0);
    return x;
}

static void cancel(void *handle)
{
    struct asked *x = handle;
    x->cancelled = true;
    loop_timer_start(&x->timer, 0, 0);
}

const struct check_kind check_nats = {open_own, close_own, sample, each, ask, cancel};
