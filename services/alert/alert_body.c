/* alert_body.c - bodies by templates: one process per channel, asked on its stdin, which answers on its stdout.
 *
 * Work waits in order; one piece is with the process at a time, so that each has all of the time there is. The process is started with the first, and
 * anew after its end. A run without an end is ended by the kernel (the process counts its own CPU time) or by our timer; then the template is left
 * alone for a while, so that such a program costs a small share of one processor, and its channel is past by alerts like any that is broken. */
#include "alert/alert_body.h"
#include "alert/alert_json.h"
#include "alert/alert_room.h"
#include "alert/alert_template.h"
#include "alert/alert_text.h"
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define RUN_MS       10000 /* until a run is given up; of CPU time it has ALERT_TEMPLATE_CPU_S */
#define PAUSE_MS     60000 /* after a run that did not come to its end */
#define HEAD         5     /* of an answer */
#define ANSWER_MAX   (HEAD + ALERT_TEMPLATE_OUT_MAX)
#define ALERT_ID_MAX 64

struct runner;
struct work {
    struct alert_job *job;
    alert_body_cb send;
    char *json;
    size_t len;
    struct alert_body body; /* but for the text */
    char id[ALERT_ID_MAX + 1], title[ALERT_TITLE_MAX];
    struct work *next;
};
/* What a channel has, for as long as it is there. */
struct alert_maker {
    struct alert_channel *channel;
    struct work *first, **last; /* the first is with the runner if that is busy */
    struct runner *runner;      /* NULL = none */
    int64_t not_before_ms;
    char why[300]; /* until then */
};
/* A process. It outlives the channel until it has ended and its handles are closed. */
struct runner {
    struct alert_maker *maker; /* NULL = nobody waits for it any more */
    uv_process_t process;
    uv_pipe_t in, out;
    struct loop_timer limit;
    int handles; /* not yet closed */
    bool spawned, exited, closing, busy, late;
    size_t len;
    char answer[ANSWER_MAX];
};
struct sending {
    uv_write_t req;
    char data[];
};

static void run_next(struct alert_maker *m);

/* ---- the end of a piece of work ---- */

static void refuse(struct alert_job *j, const char *why)
{
    char detail[400];
    snprintf(detail, sizeof detail, "template: %.380s", why);
    alert_job_end(j, &(struct alert_outcome){ALERT_FAULT_SETTINGS, 0, -1}, detail);
}

/* With a body, or with what was wrong. The last job's end may be the channel's, and the maker's: callers hold the channel. */
static void end_first(struct alert_maker *m, const struct alert_body *b, const char *why)
{
    struct work *w = m->first;
    m->first = w->next;
    if (!m->first)
        m->last = &m->first;
    if (!b)
        refuse(w->job, why);
    else if (m->channel->room->closing)
        alert_job_end(w->job, &(struct alert_outcome){ALERT_FAULT_OTHER, 0, -1}, "shutting down");
    else
        w->send(w->job, b);
    free(w->json);
    free(w);
}

/* ---- the process ---- */

static void closed_one(void *ctx)
{
    struct runner *r = ctx;
    if (--r->handles == 0)
        free(r);
}

static void on_closed(uv_handle_t *h)
{
    closed_one(h->data);
}

/* Ends it. It is waited for, so that no zombie is left; not by a service that ends itself. */
static void runner_close(struct runner *r, bool at_once)
{
    if (r->closing)
        return;
    r->closing = true;
    r->maker = NULL;
    if (r->spawned && !r->exited)
        uv_process_kill(&r->process, SIGKILL);
    uv_close((uv_handle_t *)&r->in, on_closed);
    uv_close((uv_handle_t *)&r->out, on_closed);
    loop_timer_close(&r->limit, closed_one);
    if (!r->spawned || r->exited || at_once)
        uv_close((uv_handle_t *)&r->process, on_closed);
}

/* The run has not come to its end: neither would those behind it. */
static void give_up(struct runner *r, const char *why)
{
    struct alert_maker *m = r->maker;
    struct alert_channel *c = m->channel;
    m->runner = NULL;
    runner_close(r, false);
    m->not_before_ms = clock_mono_ms() + PAUSE_MS;
    snprintf(m->why, sizeof m->why, "%.200s; it is not run for %d s", why, PAUSE_MS / 1000);
    alert_channel_ref(c);
    while (m->first)
        end_first(m, NULL, m->why);
    alert_channel_unref(c);
}

static void on_exit_of(uv_process_t *p, int64_t status, int signal_no)
{
    struct runner *r = p->data;
    struct alert_maker *m = r->maker;
    char why[160];
    r->exited = true;
    if (r->closing) {
        if (!uv_is_closing((uv_handle_t *)p))
            uv_close((uv_handle_t *)p, on_closed);
        return;
    }
    if (!r->busy) {
        m->runner = NULL;
        runner_close(r, false);
        return;
    }
    if (signal_no == SIGPROF)
        snprintf(why, sizeof why, "it was stopped after %d s of CPU time", ALERT_TEMPLATE_CPU_S);
    else if (r->late)
        snprintf(why, sizeof why, "it was stopped after %d s", RUN_MS / 1000);
    else if (signal_no == SIGABRT || signal_no == SIGSEGV)
        snprintf(why, sizeof why, "it needs more than the %d MiB of memory that it may have",
                 ALERT_TEMPLATE_MEMORY_MIB);
    else
        snprintf(why, sizeof why, "its process has ended: status %d, signal %d", (int)status, signal_no);
    give_up(r, why);
}

static void on_limit(void *ctx)
{
    struct runner *r = ctx;
    r->late = true;
    uv_process_kill(&r->process, SIGKILL); /* its exit says the rest */
}

static void on_room(uv_handle_t *h, size_t suggested, uv_buf_t *buf)
{
    struct runner *r = h->data;
    (void)suggested;
    *buf = uv_buf_init(r->answer + r->len, (unsigned)(sizeof r->answer - r->len));
}

static void on_answer(uv_stream_t *stream, ssize_t n, const uv_buf_t *buf)
{
    struct runner *r = stream->data;
    uint32_t size = 0;
    (void)buf;
    if (n < 0 || r->closing) {
        uv_read_stop(stream); /* the exit follows */
        return;
    }
    r->len += (size_t)n;
    if (r->len >= HEAD)
        memcpy(&size, r->answer + 1, sizeof size);
    if (r->len < HEAD || (size <= ALERT_TEMPLATE_OUT_MAX && r->len < HEAD + size))
        return;
    struct alert_maker *m = r->maker;
    if (!r->busy || size > ALERT_TEMPLATE_OUT_MAX || r->len > HEAD + size) {
        give_up(r, "its process answers nonsense");
        return;
    }
    /* The text is copied: the work's end may be the runner's. */
    char *text = malloc((size_t)size + 1), kind = r->answer[0];
    if (text) {
        memcpy(text, r->answer + HEAD, size);
        text[size] = 0;
    }
    r->len = 0;
    r->busy = false;
    loop_timer_stop(&r->limit);
    struct alert_body b = m->first->body;
    b.text = text;
    b.len = size;
    b.json = kind == ALERT_BODY_JSON;
    struct alert_channel *c = m->channel;
    alert_channel_ref(c);
    end_first(m, text && kind != ALERT_BODY_WRONG ? &b : NULL, text ? text : "out of memory");
    free(text);
    run_next(m);
    alert_channel_unref(c);
}

static void on_written(uv_write_t *req, int status)
{
    (void)status; /* a process that does not read ends, or is late */
    free(req->data);
}

/* -1 if memory is out. */
static int put(struct runner *r, const char *text, size_t len)
{
    struct sending *s = malloc(sizeof *s + sizeof(uint32_t) + len);
    uint32_t n = (uint32_t)len;
    if (!s)
        return -1;
    memcpy(s->data, &n, sizeof n);
    memcpy(s->data + sizeof n, text, len);
    s->req.data = s;
    uv_buf_t buf = uv_buf_init(s->data, (unsigned)(sizeof n + len));
    if (uv_write(&s->req, (uv_stream_t *)&r->in, &buf, 1, on_written) == 0)
        return 0;
    free(s);
    return -1;
}

/* A program is its own interpreter: this one, called again. The environment, which may hold secrets, stays here. */
static struct runner *runner_start(struct alert_maker *m, char *why, size_t room)
{
    struct service *s = m->channel->room->service;
    struct runner *r = calloc(1, sizeof *r);
    if (!r) {
        snprintf(why, room, "out of memory");
        return NULL;
    }
    uv_pipe_init(&s->loop.uv, &r->in, 0);
    uv_pipe_init(&s->loop.uv, &r->out, 0);
    loop_timer_init(&s->loop, &r->limit, on_limit, r);
    r->handles = 4;
    r->process.data = r->in.data = r->out.data = r;
    char *argv[] = {(char *)"redoubt-alert", (char *)ALERT_BODY_ARG, NULL}, *env[] = {NULL};
    uv_stdio_container_t io[] = {{.flags = UV_CREATE_PIPE | UV_READABLE_PIPE, .data.stream = (uv_stream_t *)&r->in},
                                 {.flags = UV_CREATE_PIPE | UV_WRITABLE_PIPE, .data.stream = (uv_stream_t *)&r->out},
                                 {.flags = UV_IGNORE}};
    uv_process_options_t o = {.exit_cb = on_exit_of,
                              .file = "/proc/self/exe",
                              .args = argv,
                              .env = env,
                              .cwd = "/",
                              .stdio_count = 3,
                              .stdio = io};
    int bad = uv_spawn(&s->loop.uv, &r->process, &o);
    r->spawned = bad == 0;
    if (!bad)
        bad = uv_read_start((uv_stream_t *)&r->out, on_room, on_answer);
    if (bad || put(r, m->channel->set.template, strlen(m->channel->set.template))) {
        snprintf(why, room, "its process cannot be started: %s", bad ? uv_strerror(bad) : "out of memory");
        runner_close(r, false);
        return NULL;
    }
    r->maker = m;
    return r;
}

/* ---- the work of a channel ---- */

/* Callers hold the channel. */
static void run_next(struct alert_maker *m)
{
    while (m->first && !(m->runner && m->runner->busy)) {
        char why[160] = "out of memory";
        if (clock_mono_ms() < m->not_before_ms) {
            end_first(m, NULL, m->why);
            continue;
        }
        if (!m->runner)
            m->runner = runner_start(m, why, sizeof why);
        if (!m->runner || put(m->runner, m->first->json, m->first->len)) {
            end_first(m, NULL, why);
            continue;
        }
        m->runner->busy = true;
        loop_timer_start(&m->runner->limit, RUN_MS, 0);
    }
}

static struct alert_maker *maker_of(struct alert_channel *c)
{
    if (!c->maker && (c->maker = calloc(1, sizeof *c->maker))) {
        c->maker->channel = c;
        c->maker->last = &c->maker->first;
    }
    return c->maker;
}

void alert_body_make(struct alert_job *j, alert_body_cb send)
{
    struct alert_channel *c = j->channel;
    size_t len = 0;
    char *json = alert_json(j->message, &len);
    bool template = *c->set.template != 0;
    struct alert_maker *m = json && template ? maker_of(c) : NULL;
    struct work *w = m ? malloc(sizeof *w) : NULL;
    if (!json || (template && !w)) {
        free(json);
        alert_job_end(j, &(struct alert_outcome){ALERT_FAULT_OTHER, 0, -1}, "out of memory");
        return;
    }
    char title[ALERT_TITLE_MAX];
    struct alert_body b = {.text = json,
                           .len = len,
                           .json = true,
                           .id = j->message->id,
                           .title = alert_text_headline(j->message, title),
                           .severity = j->message->severity,
                           .resolved = j->message->resolved};
    if (!template) {
        send(j, &b);
        free(json);
        return;
    }
    *w = (struct work){.job = j, .send = send, .json = json, .len = len, .body = b};
    snprintf(w->id, sizeof w->id, "%s", b.id);
    snprintf(w->title, sizeof w->title, "%s", title);
    w->body.id = w->id;
    w->body.title = w->title;
    w->body.template = true;
    *m->last = w;
    m->last = &w->next;
    alert_channel_ref(c);
    run_next(m);
    alert_channel_unref(c);
}

void alert_body_close(struct alert_channel *c)
{
    struct alert_maker *m = c->maker;
    c->maker = NULL;
    if (!m)
        return;
    /* Work holds its job, and a job its channel: there is none left. */
    if (m->runner)
        runner_close(m->runner, c->room->closing);
    free(m);
}
