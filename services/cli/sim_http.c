/* sim_http.c - HTTP for simulators, on the simulator's own loop. */
#include "cli/sim_http.h"
#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <time.h>
#include <unistd.h>

#define BODY_MAX    ((size_t)4 << 20)
#define HUGE_BYTES  ((uint64_t)8 << 20)
#define HELD_MAX_MS 600000 /* a request that hangs is cut after this: the other side has gone long since */

struct sim_http {
    struct sim *sim;
    struct MHD_Daemon *daemon;
    uv_poll_t poll;
    uv_timer_t timer; /* MHD's own time-outs */
    uv_timer_t due;   /* requests that are held */
    int handles;      /* not yet closed */
    unsigned in_hand; /* requests that are not completed */
    bool control_only, closing, quiet;
    struct sim_request *held;
};

static int64_t mono_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

/* ---- answers ---- */

const char *sim_header(const struct sim_request *r, const char *name)
{
    return MHD_lookup_connection_value(r->connection, MHD_HEADER_KIND, name);
}

static enum MHD_Result queue(struct sim_request *r, unsigned status, struct MHD_Response *a)
{
    enum MHD_Result ok = a ? MHD_queue_response(r->connection, status, a) : MHD_NO;
    if (a)
        MHD_destroy_response(a);
    return ok;
}

enum MHD_Result sim_answer(struct sim_request *r, unsigned status, const char *content_type, const char *body,
                           const char *retry_after)
{
    struct MHD_Response *a = MHD_create_response_from_buffer(strlen(body), (void *)body, MHD_RESPMEM_MUST_COPY);
    if (a)
        MHD_add_response_header(a, MHD_HTTP_HEADER_CONTENT_TYPE, content_type);
    if (a && retry_after)
        MHD_add_response_header(a, MHD_HTTP_HEADER_RETRY_AFTER, retry_after);
    return queue(r, status, a);
}

enum MHD_Result sim_answer_json(struct sim_request *r, unsigned status, json_t *body)
{
    char *text = json_dumps(body, JSON_COMPACT);
    json_decref(body);
    if (!text)
        return MHD_NO;
    enum MHD_Result ok = sim_answer(r, status, "application/json", text, NULL);
    free(text);
    return ok;
}

struct pieces {
    struct sim_request *r;
    char **list;
    size_t n, at, offset;
    enum sim_end end;
};

static enum MHD_Result hold(struct sim_request *r, int64_t ms, bool let_go);

static ssize_t next_piece(void *ctx, uint64_t pos, char *buf, size_t max)
{
    struct pieces *p = ctx;
    (void)pos;
    if (p->at == p->n && p->end == SIM_END_STALL && !p->r->let_go) {
        hold(p->r, HELD_MAX_MS, true);
        return 0;
    }
    if (p->at == p->n)
        return p->end != SIM_END_WELL ? MHD_CONTENT_READER_END_WITH_ERROR : MHD_CONTENT_READER_END_OF_STREAM;
    const char *piece = p->list[p->at] + p->offset;
    size_t len = strlen(piece) < max ? strlen(piece) : max;
    memcpy(buf, piece, len);
    p->offset += len;
    if (!p->list[p->at][p->offset]) {
        p->at++;
        p->offset = 0;
    }
    return (ssize_t)len;
}

static void free_pieces(void *ctx)
{
    struct pieces *p = ctx;
    for (size_t i = 0; i < p->n; i++)
        free(p->list[i]);
    free(p->list);
    free(p);
}

enum MHD_Result sim_answer_pieces(struct sim_request *r, const char *content_type, const char *const *pieces,
                                  uint64_t size, enum sim_end end)
{
    struct pieces *p = calloc(1, sizeof *p);
    size_t n = 0;
    while (pieces[n])
        n++;
    if (!p || !(p->list = calloc(n + 1, sizeof *p->list))) {
        free(p);
        return MHD_NO;
    }
    p->r = r;
    p->end = end;
    for (; p->n < n; p->n++)
        if (!(p->list[p->n] = strdup(pieces[p->n])))
            break;
    struct MHD_Response *a =
        MHD_create_response_from_callback(size ? size : MHD_SIZE_UNKNOWN, 4096, next_piece, p, free_pieces);
    if (!a) {
        free_pieces(p);
        return MHD_NO;
    }
    MHD_add_response_header(a, MHD_HTTP_HEADER_CONTENT_TYPE, content_type);
    return queue(r, 200, a);
}

static ssize_t more_y(void *ctx, uint64_t pos, char *buf, size_t max)
{
    (void)ctx;
    static const char head[] = "{\"x\":\"", tail[] = "\"}";
    if (pos >= HUGE_BYTES)
        return MHD_CONTENT_READER_END_OF_STREAM;
    size_t n = HUGE_BYTES - pos < max ? (size_t)(HUGE_BYTES - pos) : max;
    for (size_t i = 0; i < n; i++) {
        uint64_t at = pos + i, left = HUGE_BYTES - at;
        buf[i] = at < sizeof head - 1 ? head[at] : left <= sizeof tail - 1 ? tail[sizeof tail - 1 - left] : 'y';
    }
    return (ssize_t)n;
}

static enum MHD_Result huge(struct sim_request *r)
{
    struct MHD_Response *a = MHD_create_response_from_callback(HUGE_BYTES, 65536, more_y, NULL, NULL);
    if (a)
        MHD_add_response_header(a, MHD_HTTP_HEADER_CONTENT_TYPE, "application/json");
    return queue(r, 200, a);
}

/* Errors look like the OpenAI API's: others read no more than the status. */
static enum MHD_Result refusal(struct sim_request *r, unsigned status, const char *type, const char *text)
{
    char body[256], seconds[24];
    snprintf(body, sizeof body, "{\"error\":{\"message\":\"%s\",\"type\":\"%s\",\"param\":null,\"code\":null}}", text,
             type);
    snprintf(seconds, sizeof seconds, "%lld", (long long)r->sim->retry_after_s);
    return sim_answer(r, status, "application/json", body, status == 429 ? seconds : NULL);
}

bool sim_fail(struct sim_request *r, enum MHD_Result *ret)
{
    static const struct {
        const char *mode;
        unsigned status;
        const char *type, *text;
    } refusals[] = {
        {"401", 401, "invalid_request_error", "Incorrect API key provided."},
        {"404", 404, "invalid_request_error", "No such thing."},
        {"429", 429, "rate_limit_error", "Rate limit reached."},
        {"500", 500, "server_error", "The server had an error."},
        {"503", 503, "overloaded_error", "The server is overloaded."},
    };
    static const struct {
        const char *mode, *content_type, *body;
    } nonsense[] = {
        {"schema", "application/json", "{\"answer\":\"ok\",\"choices\":\"none\"}"},
        {"garbage", "application/json", "\x01\x02{{{ not json"},
        {"wrong-type", "text/html", "<html><body><h1>It works!</h1></body></html>"},
    };
    static const char *const half[] = {"{\"id\":\"cut\",\"choi", NULL};
    for (size_t i = 0; i < sizeof refusals / sizeof *refusals; i++)
        if (strcmp(r->mode, refusals[i].mode) == 0) {
            *ret = refusal(r, refusals[i].status, refusals[i].type, refusals[i].text);
            return true;
        }
    for (size_t i = 0; i < sizeof nonsense / sizeof *nonsense; i++)
        if (strcmp(r->mode, nonsense[i].mode) == 0) {
            *ret = sim_answer(r, 200, nonsense[i].content_type, nonsense[i].body, NULL);
            return true;
        }
    if (strcmp(r->mode, "huge") == 0)
        *ret = huge(r);
    else if (strcmp(r->mode, "cut") == 0)
        *ret = sim_answer_pieces(r, "application/json", half, 500, SIM_END_CUT);
    else
        return false;
    return true;
}

/* ---- requests ---- */

static void run(struct sim_http *h);

static void hold_due(struct sim_http *h);

static void on_due(uv_timer_t *t)
{
    struct sim_http *h = t->data;
    int64_t now = mono_ms();
    for (struct sim_request *r = h->held; r; r = r->next)
        if (r->held && now >= r->due_ms) {
            r->held = false;
            MHD_resume_connection(r->connection);
        }
    hold_due(h);
    run(h);
}

static void hold_due(struct sim_http *h)
{
    int64_t next = INT64_MAX, now = mono_ms();
    for (struct sim_request *r = h->held; r; r = r->next)
        if (r->held && r->due_ms < next)
            next = r->due_ms;
    if (next == INT64_MAX)
        uv_timer_stop(&h->due);
    else
        uv_timer_start(&h->due, on_due, next > now ? (uint64_t)(next - now) : 0, 0);
}

static void unlist(struct sim_request *r)
{
    if (r->prev)
        r->prev->next = r->next;
    else if (r->http->held == r)
        r->http->held = r->next;
    if (r->next)
        r->next->prev = r->prev;
    r->prev = r->next = NULL;
}

static enum MHD_Result hold(struct sim_request *r, int64_t ms, bool let_go)
{
    struct sim_http *h = r->http;
    r->held = true;
    r->let_go = let_go;
    r->due_ms = mono_ms() + ms;
    r->next = h->held;
    if (h->held)
        h->held->prev = r;
    h->held = r;
    MHD_suspend_connection(r->connection);
    hold_due(h);
    return MHD_YES;
}

static enum MHD_Result add_header(void *ctx, enum MHD_ValueKind kind, const char *key, const char *value)
{
    (void)kind;
    char *name = strdup(key);
    if (!name)
        return MHD_NO;
    for (char *p = name; *p; p++)
        if (*p >= 'A' && *p <= 'Z')
            *p = (char)(*p + 'a' - 'A');
    /* What was a secret on the way in stays one here. */
    bool secret = strcmp(name, "authorization") == 0 || strcmp(name, "x-api-key") == 0;
    json_object_set_new(ctx, name, json_string(secret ? "***" : value ? value : ""));
    free(name);
    return MHD_YES;
}

static void record(struct sim_request *r)
{
    struct timespec t;
    clock_gettime(CLOCK_REALTIME, &t);
    json_t *headers = json_object(), *body = json_stringn(r->body, r->len);
    MHD_get_connection_values(r->connection, MHD_HEADER_KIND, add_header, headers);
    sim_received(r->sim, json_pack("{s:s, s:s, s:I, s:s, s:o, s:o}", "method", r->method, "path", r->path,
                                   "at_unix_ms", (json_int_t)t.tv_sec * 1000 + t.tv_nsec / 1000000, "mode", r->mode,
                                   "headers", headers, "body", body ? body : json_null()));
}

enum MHD_Result sim_wait(struct sim_request *r, int64_t ms)
{
    r->waited = true;
    return hold(r, ms, false);
}

static void stop_listening(struct sim_http *h)
{
    if (h->quiet)
        return;
    h->quiet = true;
    MHD_socket fd = MHD_quiesce_daemon(h->daemon);
    if (fd != MHD_INVALID_SOCKET)
        close(fd);
}

void sim_http_quiesce(struct sim *s)
{
    if (s->service)
        stop_listening(s->service);
}

unsigned sim_http_in_hand(const struct sim *s)
{
    return s->service ? s->service->in_hand : 0;
}

static enum MHD_Result whole(struct sim_request *r)
{
    if (r->too_large)
        return sim_answer(r, 413, "text/plain", "too large\n", NULL);
    if (!r->body && !(r->body = strdup("")))
        return MHD_NO;
    if (r->http->control_only || strncmp(r->path, "/sim/", 5) == 0) {
        int status;
        json_t *answer = sim_control(r->sim, r->method, r->path, r->body, r->len, &status);
        /* Whoever gets the answer finds it so. On its own port the rest waits until the answer is out. */
        if (r->http->control_only)
            sim_apply_now(r->sim);
        else if (!sim_wants_open(r->sim))
            stop_listening(r->http);
        return sim_answer_json(r, (unsigned)status, answer);
    }
    if (!r->mode) {
        r->mode = sim_take_mode(r->sim);
        r->json = json_loadb(r->body, r->len, JSON_ALLOW_NUL, NULL);
        record(r);
        if (strcmp(r->mode, "hang") == 0)
            return hold(r, HELD_MAX_MS, true);
        if (strcmp(r->mode, "slow") == 0)
            return hold(r, r->sim->slow_ms, false);
    } else {
        unlist(r);
        if (r->let_go)
            return MHD_NO;
    }
    return r->sim->kind->serve(r);
}

static enum MHD_Result on_request(void *ctx, struct MHD_Connection *c, const char *path, const char *method,
                                  const char *version, const char *data, size_t *len, void **state)
{
    struct sim_http *h = ctx;
    struct sim_request *r = *state;
    (void)version;
    if (!r) {
        if (!(r = calloc(1, sizeof *r)))
            return MHD_NO;
        *r = (struct sim_request){.sim = h->sim, .http = h, .connection = c, .path = path, .method = method};
        *state = r;
        h->in_hand++;
        return MHD_YES;
    }
    if (*len == 0)
        return whole(r);
    if (r->len + *len > BODY_MAX) {
        r->too_large = true;
    } else {
        char *more = realloc(r->body, r->len + *len + 1);
        if (!more)
            return MHD_NO;
        memcpy(more + r->len, data, *len);
        r->body = more;
        r->len += *len;
        r->body[r->len] = 0;
    }
    *len = 0;
    return MHD_YES;
}

static void on_completed(void *ctx, struct MHD_Connection *c, void **state, enum MHD_RequestTerminationCode how)
{
    struct sim_http *h = ctx;
    struct sim_request *r = *state;
    (void)c;
    (void)how;
    if (!r)
        return;
    if (!h->closing && !h->control_only && strncmp(r->path, "/sim/", 5) == 0)
        sim_apply(h->sim);
    h->in_hand--;
    unlist(r);
    json_decref(r->json);
    free(r->body);
    free(r);
    *state = NULL;
}

/* ---- the daemon on the loop ---- */

static void on_timer(uv_timer_t *t)
{
    run(t->data);
}

static void on_ready(uv_poll_t *p, int status, int events)
{
    (void)status;
    (void)events;
    run(p->data);
}

static void run(struct sim_http *h)
{
    if (h->closing)
        return;
    MHD_run(h->daemon);
    MHD_UNSIGNED_LONG_LONG ms;
    if (MHD_get_timeout(h->daemon, &ms) == MHD_YES)
        uv_timer_start(&h->timer, on_timer, ms, 0);
    else
        uv_timer_stop(&h->timer);
}

struct sim_http *sim_http_open(struct sim *s, int fd, bool control_only)
{
    struct sim_http *h = calloc(1, sizeof *h);
    if (!h) {
        close(fd);
        return NULL;
    }
    *h = (struct sim_http){.sim = s, .control_only = control_only};
    h->daemon = MHD_start_daemon(MHD_USE_EPOLL | MHD_ALLOW_SUSPEND_RESUME, 0, NULL, NULL, on_request, h,
                                 MHD_OPTION_LISTEN_SOCKET, fd, MHD_OPTION_NOTIFY_COMPLETED, on_completed, h,
                                 MHD_OPTION_CONNECTION_LIMIT, 4096u, MHD_OPTION_END);
    const union MHD_DaemonInfo *info = h->daemon ? MHD_get_daemon_info(h->daemon, MHD_DAEMON_INFO_EPOLL_FD) : NULL;
    if (!info || uv_poll_init(&s->loop, &h->poll, info->epoll_fd)) {
        fprintf(stderr, "redoubt sim %s: cannot serve HTTP\n", s->kind->name);
        if (h->daemon)
            MHD_stop_daemon(h->daemon);
        else
            close(fd);
        free(h);
        return NULL;
    }
    uv_timer_init(&s->loop, &h->timer);
    uv_timer_init(&s->loop, &h->due);
    h->poll.data = h->timer.data = h->due.data = h;
    h->handles = 3;
    uv_poll_start(&h->poll, UV_READABLE, on_ready);
    return h;
}

static void on_closed(uv_handle_t *handle)
{
    struct sim_http *h = handle->data;
    if (--h->handles == 0)
        free(h);
}

void sim_http_close(struct sim_http *h)
{
    if (!h || h->closing)
        return;
    h->closing = true;
    for (struct sim_request *r = h->held; r; r = r->next)
        if (r->held) {
            r->held = false;
            r->let_go = true;
            MHD_resume_connection(r->connection);
        }
    uv_poll_stop(&h->poll); /* before the descriptor goes */
    MHD_stop_daemon(h->daemon);
    uv_close((uv_handle_t *)&h->poll, on_closed);
    uv_close((uv_handle_t *)&h->timer, on_closed);
    uv_close((uv_handle_t *)&h->due, on_closed);
}

int sim_http_serve(struct sim *s, int fd)
{
    s->service = sim_http_open(s, fd, false);
    return s->service ? 0 : -1;
}

void sim_http_stop(struct sim *s)
{
    sim_http_close(s->service);
    s->service = NULL;
}

/* Whoever hangs is let go as soon as the mode is another one. */
void sim_http_mode_changed(struct sim *s)
{
    struct sim_http *h = s->service;
    if (!h)
        return;
    for (struct sim_request *r = h->held; r; r = r->next)
        if (r->let_go && strcmp(r->mode, s->mode->name) != 0)
            r->due_ms = 0;
    hold_due(h);
}
