/* channel_exec.c - tells people by a program: the message as JSON on its stdin, its exit code says whether it has taken it.
 *
 * No shell; program and arguments are the settings' alone. It runs in a process group of its own, with an environment of its own, and nothing
 * of that group outlives the attempt. */
#include "alert/alert_body.h"
#include "alert/alert_channel.h"
#include "alert/alert_json.h"
#include "alert/alert_program.h"
#include "alert/alert_room.h"
#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define SAFE_PATH "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
#define LINE_SIZE 256 /* of what it says, the first line */

struct line {
    uv_pipe_t pipe;
    char text[LINE_SIZE];
    size_t len;
    bool whole;
};
struct run {
    struct alert_channel *channel; /* held by the job */
    struct alert_job *job;         /* NULL: ended */
    struct run *prev, *next;       /* of its channel, while it has the job */
    uv_process_t process;
    uv_pipe_t in;
    uv_write_t write;
    struct line out, err;
    struct loop_timer limit;
    int handles; /* not yet closed */
    pid_t group; /* 0 = nothing was started */
    bool late, exited;
    char noise[4096];
    char *body;
};

/* ---- the end ---- */

static void closed_one(void *ctx)
{
    struct run *x = ctx;
    if (--x->handles > 0)
        return;
    free(x->body);
    free(x);
}

static void on_closed(uv_handle_t *h)
{
    closed_one(h->data);
}

static void close_one(uv_handle_t *h)
{
    if (!uv_is_closing(h))
        uv_close(h, on_closed);
}

/* The job is over; so is whatever is left of the group. The process itself is waited for, so that no zombie stays, unless the service ends. */
static void end(struct run *x, const struct alert_outcome *o, const char *detail)
{
    struct alert_job *j = x->job;
    struct run **first = (struct run **)&x->channel->priv;
    bool closing = x->channel->room->closing;
    if (x->prev)
        x->prev->next = x->next;
    else
        *first = x->next;
    if (x->next)
        x->next->prev = x->prev;
    x->job = NULL;
    if (x->group > 0)
        (void)kill(-x->group, SIGKILL);
    close_one((uv_handle_t *)&x->in);
    close_one((uv_handle_t *)&x->out.pipe);
    close_one((uv_handle_t *)&x->err.pipe);
    loop_timer_close(&x->limit, closed_one);
    if (x->exited || x->group == 0 || closing)
        close_one((uv_handle_t *)&x->process);
    alert_job_end(j, o, detail);
}

static void on_exit_of(uv_process_t *p, int64_t status, int signal_no)
{
    struct run *x = p->data;
    struct alert_outcome o = {ALERT_FAULT_NONE, (int)(status & 0xff), -1};
    char detail[LINE_SIZE + 64];
    x->exited = true;
    if (!x->job) {
        close_one((uv_handle_t *)p);
        return;
    }
    /* Its own words: what it complains of comes first, if it has failed. */
    const struct line *said = o.status != 0 && x->err.len > 0 ? &x->err : x->out.len > 0 ? &x->out : &x->err;
    if (x->late)
        o = (struct alert_outcome){ALERT_FAULT_TIMEOUT, 0, -1};
    else if (signal_no)
        o = (struct alert_outcome){ALERT_FAULT_CUT, 0, -1};
    const char *colon = said->len > 0 ? ": " : "";
    if (x->late)
        snprintf(detail, sizeof detail, "killed at its time limit%s%.*s", colon, (int)said->len, said->text);
    else if (signal_no)
        snprintf(detail, sizeof detail, "ended by signal %d%s%.*s", signal_no, colon, (int)said->len, said->text);
    else
        snprintf(detail, sizeof detail, "exit %d%s%.*s", o.status, colon, (int)said->len, said->text);
    end(x, &o, detail);
}

static void on_limit(void *ctx)
{
    struct run *x = ctx;
    x->late = true;
    (void)kill(-x->group, SIGKILL); /* its exit says the rest */
}

/* ---- what it says ---- */

static void on_room(uv_handle_t *h, size_t suggested, uv_buf_t *buf)
{
    struct run *x = h->data;
    (void)suggested;
    *buf = uv_buf_init(x->noise, sizeof x->noise);
}

/* The first line that is not empty is kept; the rest is read, so that nobody waits for it, and dropped. */
static void keep(struct line *l, const char *data, size_t n)
{
    for (size_t i = 0; i < n && !l->whole; i++) {
        if (data[i] == '\n')
            l->whole = l->len > 0;
        else if (l->len < sizeof l->text)
            l->text[l->len++] = data[i];
    }
}

static void on_output(uv_stream_t *stream, ssize_t n, const uv_buf_t *buf)
{
    struct run *x = stream->data;
    struct line *l = stream == (uv_stream_t *)&x->out.pipe ? &x->out : &x->err;
    if (n < 0)
        close_one((uv_handle_t *)stream);
    else
        keep(l, buf->base, (size_t)n);
}

static void on_written(uv_write_t *w, int status)
{
    struct run *x = w->data;
    (void)status; /* it need not read */
    close_one((uv_handle_t *)&x->in);
}

/* ---- the start ---- */

/* A child must not hold our connections open: not every library closes its own on exec. */
static void close_on_exec(void)
{
    DIR *d = opendir("/proc/self/fd");
    struct dirent *x;
    while (d && (x = readdir(d))) {
        int fd = atoi(x->d_name);
        if (fd > 2)
            (void)fcntl(fd, F_SETFD, FD_CLOEXEC);
    }
    if (d)
        closedir(d);
}

static int spawn(struct run *x, char **argv)
{
    const struct alert_job *j = x->job;
    char id[96], kind[48], severity[64], resolved[48], count[48], channel[128];
    snprintf(id, sizeof id, "REDOUBT_ALERT_ID=%s", j->id);
    snprintf(kind, sizeof kind, "REDOUBT_ALERT_KIND=%s", alert_json_kind(j->kind));
    snprintf(severity, sizeof severity, "REDOUBT_ALERT_SEVERITY=%s",
             wire_enum_name(&redoubt__v1__severity__descriptor, j->severity));
    snprintf(resolved, sizeof resolved, "REDOUBT_ALERT_RESOLVED=%s", j->resolved ? "true" : "false");
    snprintf(count, sizeof count, "REDOUBT_ALERT_COUNT=%zu", j->total);
    snprintf(channel, sizeof channel, "REDOUBT_CHANNEL=%s", x->channel->set.name);
    char *env[] = {
        (char *)"PATH=" SAFE_PATH, (char *)"LANG=C.UTF-8", id, kind, severity, resolved, count, channel, NULL};
    uv_stdio_container_t io[] = {
        {.flags = UV_CREATE_PIPE | UV_READABLE_PIPE, .data.stream = (uv_stream_t *)&x->in},
        {.flags = UV_CREATE_PIPE | UV_WRITABLE_PIPE, .data.stream = (uv_stream_t *)&x->out.pipe},
        {.flags = UV_CREATE_PIPE | UV_WRITABLE_PIPE, .data.stream = (uv_stream_t *)&x->err.pipe}};
    uv_process_options_t o = {.exit_cb = on_exit_of,
                              .file = argv[0],
                              .args = argv,
                              .env = env,
                              .cwd = "/",
                              .flags = UV_PROCESS_DETACHED, /* a session and a group of its own */
                              .stdio_count = 3,
                              .stdio = io};
    close_on_exec();
    int bad = uv_spawn(&x->channel->room->service->loop.uv, &x->process, &o);
    x->group = bad ? 0 : x->process.pid;
    return bad;
}

static void refuse(struct alert_job *j, enum alert_fault fault, const char *why)
{
    alert_job_end(j, &(struct alert_outcome){fault, 0, -1}, why);
}

static void run(struct alert_job *j, const struct alert_body *b)
{
    struct alert_channel *c = j->channel;
    struct service *s = c->room->service;
    char *argv[33] = {0}, why[300]; /* the settings allow 32 */
    for (size_t i = 0; i < c->set.command.n && i < 32; i++)
        argv[i] = *CONF_AT(c->set.command, char *, i);
    if (!alert_program_ok(argv[0], why, sizeof why)) {
        refuse(j, ALERT_FAULT_SETTINGS, why);
        return;
    }
    struct run *x = calloc(1, sizeof *x);
    char *body = x ? malloc(b->len + 1) : NULL;
    if (!body) {
        free(x);
        refuse(j, ALERT_FAULT_OTHER, "out of memory");
        return;
    }
    memcpy(body, b->text, b->len);
    body[b->len] = '\n';
    x->channel = c;
    x->job = j;
    x->body = body;
    x->next = c->priv;
    if (x->next)
        x->next->prev = x;
    c->priv = x;
    uv_pipe_init(&s->loop.uv, &x->in, 0);
    uv_pipe_init(&s->loop.uv, &x->out.pipe, 0);
    uv_pipe_init(&s->loop.uv, &x->err.pipe, 0);
    loop_timer_init(&s->loop, &x->limit, on_limit, x);
    x->handles = 5;
    x->process.data = x->in.data = x->out.pipe.data = x->err.pipe.data = x->write.data = x;
    int bad = spawn(x, argv);
    if (bad) {
        snprintf(why, sizeof why, "%.200s cannot be started: %s", argv[0], uv_strerror(bad));
        end(x, &(struct alert_outcome){ALERT_FAULT_SETTINGS, 0, -1}, why);
        return;
    }
    loop_timer_start(&x->limit, j->timeout_ms, 0);
    uv_read_start((uv_stream_t *)&x->out.pipe, on_room, on_output);
    uv_read_start((uv_stream_t *)&x->err.pipe, on_room, on_output);
    uv_buf_t buf = uv_buf_init(body, (unsigned)(b->len + 1));
    if (uv_write(&x->write, (uv_stream_t *)&x->in, &buf, 1, on_written))
        close_one((uv_handle_t *)&x->in);
}

static void send_exec(struct alert_channel *c, struct alert_job *j)
{
    (void)c;
    alert_body_make(j, run);
}

static void stop_exec(struct alert_channel *c)
{
    while (c->priv)
        end(c->priv, &(struct alert_outcome){ALERT_FAULT_OTHER, 0, -1}, "the service ends");
}

const struct alert_kind alert_kind_exec = {
    .name = "exec", .proto = ALERT_PROTO_EXEC, .at_once = 4, .send = send_exec, .stop = stop_exec};
