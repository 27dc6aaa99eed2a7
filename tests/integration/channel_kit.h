/* channel_kit.h - one channel at a time without the rest of redoubt-alert: its settings, an attempt, how it ended. */
#ifndef REDOUBT_TESTS_CHANNEL_KIT_H
#define REDOUBT_TESTS_CHANNEL_KIT_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka wants those before it. */
#include "../harness.h"
#include "alert/alert_room.h"
#include "common/clock.h"
#include <arpa/inet.h>
#include <cmocka.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

struct attempt {
    bool done;
    enum alert_class class;
    struct alert_outcome outcome;
    char detail[400], refused[4][400];
    size_t n_refused;
    int64_t took_ms;
};
struct town {
    struct harness *h;
    struct harness_proc *nats;
    struct service s;
    struct service_desc desc;
    struct alert_room r;
    struct alert_channel *c;
    const char *dir;
    bool closed;
    void (*turn)(struct town *t); /* what the other side does meanwhile */
};

static inline void town_turn(struct town *t)
{
    bool never = false;
    if (t->turn)
        t->turn(t);
    if (t->c) {
        alert_channel_ref(t->c);
        (void)alert_channel_tick(t->c, clock_mono_ms());
        alert_channel_unref(t->c);
    }
    (void)loop_run_until(&t->s.loop, &never, 2);
}

#define TOWN_WAIT(t, cond)                                                                                           \
    do {                                                                                                             \
        int64_t end_ms_ = clock_mono_ms() + HARNESS_WAIT_MS;                                                         \
        while (!(cond)) {                                                                                            \
            if (clock_mono_ms() >= end_ms_)                                                                          \
                fail_msg("waited %d ms in vain for: %s", HARNESS_WAIT_MS, #cond);                                    \
            town_turn(t);                                                                                            \
        }                                                                                                            \
    } while (0)

static inline int town_setup(void **state)
{
    struct town *t = calloc(1, sizeof *t);
    struct err e = {""};
    signal(SIGPIPE, SIG_IGN);
    t->h = harness_open();
    t->dir = harness_dir(t->h);
    t->desc = (struct service_desc){.name = "alert"};
    t->s.desc = &t->desc;
    if (loop_init(&t->s.loop) || !(t->s.http = http_open(&t->s.loop, &e)))
        return -1;
    /* No shell: whoever looks at the room finds it busy, and the test turns the channel itself. */
    t->r = (struct alert_room){.service = &t->s, .settling = true, .refs = 1000};
    t->s.state = &t->r;
    *state = t;
    return 0;
}

static inline void town_closed(void *ctx)
{
    *(bool *)ctx = true;
}

static inline int town_teardown(void **state)
{
    struct town *t = *state;
    bool http = false, bus = !t->s.bus;
    t->turn = NULL;
    alert_channel_unref(t->c);
    t->c = NULL;
    if (t->s.bus)
        bus_close(t->s.bus, 1000, town_closed, &bus);
    http_close(t->s.http, town_closed, &http);
    TOWN_WAIT(t, http && bus);
    int refs = t->r.refs;
    loop_done(&t->s.loop);
    settings_free(t->s.settings);
    harness_close(t->h);
    free(t);
    return refs == 1000 ? 0 : -1; /* every channel is gone */
}

static inline void town_bus(struct town *t)
{
    struct err e;
    t->nats = harness_nats(t->h, "nats", NULL);
    struct bus_opts o = {.url = t->nats->url, .name = "test", .inbox_prefix = "_INBOX_alert"};
    t->s.bus = bus_open(&t->s.loop, &o, &e);
    assert_non_null(t->s.bus);
    TOWN_WAIT(t, bus_up(t->s.bus));
}

/* `yaml` is the inside of one channel's row; `alert` more of the section, or "". */
static inline void town_channel(struct town *t, const char *alert, const char *fmt, ...)
{
    char path[600], row[3000];
    struct conf_report report = {0};
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(row, sizeof row, fmt, ap);
    va_end(ap);
    snprintf(path, sizeof path, "%s/redoubt.yaml", t->dir);
    FILE *f = fopen(path, "we");
    assert_non_null(f);
    fprintf(f, "alert:\n%s  channels:\n    - { name: it, %s }\n", alert, row);
    fclose(f);
    alert_channel_unref(t->c);
    settings_free(t->s.settings);
    t->s.settings = settings_load(path, &report);
    if (!t->s.settings)
        fail_msg("settings: %s", report.n ? report.lines[0] : "?");
    conf_report_free(&report);
    t->c = alert_channel_new(&t->r, CONF_AT(t->s.settings->alert.channels, struct set_channel, 0));
    assert_non_null(t->c);
}

static inline PB(Alert) town_alert(const char *id)
{
    PB(Alert) a = REDOUBT__V1__ALERT__INIT;
    a.id = (char *)id;
    a.dedup_key = (char *)"llm/away";
    a.severity = REDOUBT__V1__SEVERITY__SEVERITY_HIGH;
    a.source = (char *)"test";
    a.summary = (char *)"größer <b> & ☂";
    a.raised_unix_ms = 1700000000123;
    return a;
}

static inline void town_ended(void *ctx, const struct alert_result *r)
{
    struct attempt *x = ctx;
    assert_false(x->done);
    x->done = true;
    x->outcome = r->outcome;
    snprintf(x->detail, sizeof x->detail, "%s", r->detail);
    x->n_refused = r->n_refused;
    for (size_t i = 0; i < r->n_refused && i < 4; i++)
        snprintf(x->refused[i], sizeof x->refused[i], "%s", r->refused[i]);
}

/* Starts one; it is waited for by town_end(). */
static inline void town_begin(struct town *t, struct attempt *x, const struct alert_message *m)
{
    *x = (struct attempt){0};
    int64_t ms = t->c->set.attempt_ms;
    x->took_ms = clock_mono_ms();
    assert_non_null(alert_channel_send(t->c, m, true, ms, clock_mono_ms() + ms, town_ended, x));
}

static inline void town_end(struct town *t, struct attempt *x)
{
    TOWN_WAIT(t, x->done);
    x->took_ms = clock_mono_ms() - x->took_ms;
    x->class = alert_classify(t->c->kind->proto, &x->outcome);
    if (getenv("VERBOSE"))
        fprintf(stderr, "%s: %s, status %d, class %d, %s\n", t->c->kind->name, alert_fault_text(x->outcome.fault),
                x->outcome.status, (int)x->class, x->detail);
}

static inline struct attempt town_tell(struct town *t, const char *id)
{
    struct attempt x;
    PB(Alert) a = town_alert(id);
    const PB(Alert) *one = &a;
    struct alert_message m = alert_message_one(&one, NULL);
    town_begin(t, &x, &m);
    town_end(t, &x);
    return x;
}

/* n alerts with long details in one message. */
static inline struct attempt town_tell_many(struct town *t, const char *id, size_t n)
{
    static PB(Alert) rows[ALERT_SHOWN_MAX];
    static const PB(Alert) * list[ALERT_SHOWN_MAX];
    static char ids[ALERT_SHOWN_MAX][16], detail[4001];
    struct attempt x;
    memset(detail, 'd', sizeof detail - 1);
    for (size_t i = 0; i < n; i++) {
        snprintf(ids[i], sizeof ids[i], "many%zu", i);
        rows[i] = town_alert(ids[i]);
        rows[i].detail = detail;
        list[i] = &rows[i];
    }
    struct alert_message m = alert_message_one(list, NULL);
    m.kind = ALERT_MESSAGE_DIGEST;
    m.id = id;
    m.n = n;
    m.total = n + 900;
    m.title = "many alerts waited";
    town_begin(t, &x, &m);
    town_end(t, &x);
    return x;
}

/* A script that may be run; returns its path. */
static inline const char *town_script(struct town *t, const char *name, const char *text)
{
    static char path[600];
    snprintf(path, sizeof path, "%s/%s", t->dir, name);
    FILE *f = fopen(path, "we");
    assert_non_null(f);
    fprintf(f, "#!/bin/sh\n%s", text);
    fclose(f);
    assert_int_equal(chmod(path, 0700), 0);
    return path;
}

/* What a file holds; static. */
static inline const char *town_file(struct town *t, const char *name)
{
    static char text[1 << 20];
    char path[600];
    snprintf(path, sizeof path, "%s%s%s", *name == '/' ? "" : t->dir, *name == '/' ? "" : "/", name);
    FILE *f = fopen(path, "re");
    size_t n = f ? fread(text, 1, sizeof text - 1, f) : 0;
    if (f)
        fclose(f);
    text[n] = 0;
    return text;
}

static inline int town_socket(int type, int *ret_port)
{
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof a;
    int fd = socket(AF_INET, type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0), small = 4096;
    (void)setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &small,
                     sizeof small); /* a receiver that does not read soon has no room */
    if (type == SOCK_DGRAM)
        small = 1 << 20;
    (void)setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &small, sizeof small);
    assert_int_equal(bind(fd, (struct sockaddr *)&a, len), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&a, &len), 0);
    if (type == SOCK_STREAM)
        assert_int_equal(listen(fd, 16), 0);
    *ret_port = ntohs(a.sin_port);
    return fd;
}

#endif
