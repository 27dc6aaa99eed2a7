/* sim_link.c - a network link: passes TCP connections on to a server, and can be cut, slow, or swallow everything.
 *
 * Each connection has two sides. What is read on one is written to the other, in order; a side that is not read from any
 * more lets its sender wait, as a full network does. Memory per side is bounded. */
#include "cli/sim.h"
#include "cli/sim_core.h"
#include "common/hostport.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define PIECE_BYTES   65536
#define WAITING_BYTES (1u << 20) /* of one side; from there on it is not read from */

static const struct sim_mode modes[] = {
    {"ok", "passes everything on, both ways"},
    {"refuse", "the port is closed, connections are reset: the cable is out, and everybody notices"},
    {"cut", "connections are taken and reset at once"},
    {"blackhole", "connections stay, and nothing passes: nobody is told"},
    {"slow", "everything passes slow-ms later"},
    {NULL, NULL}};

struct piece {
    struct piece *next;
    struct side *from;
    uv_write_t write;
    int64_t due_ms;
    size_t len;
    char data[];
};
struct pair;
struct side {
    struct pair *pair;
    uv_tcp_t tcp;
    uv_timer_t timer; /* what was read here waits for it */
    bool reading, ended;
    struct piece *first, **last; /* read here, to be written over there */
    size_t waiting;              /* bytes of them, and of what the other side has not yet taken */
    char room[PIECE_BYTES];
};
struct pair {
    struct link *link;
    struct pair *prev, *next;
    struct side near, far; /* who has connected to us, and the server */
    uv_connect_t connect;
    bool connected, closing;
    int handles;
};
struct link {
    struct sim *sim;
    uv_tcp_t tcp;
    struct sockaddr_in to;
    struct pair *pairs;
};
/* Kept while the port is closed. */
struct counts {
    uint64_t connections, bytes;
    struct link *link; /* NULL while closed */
};

static struct counts *counts(struct sim *s)
{
    return s->state;
}

static bool mode_is(const struct link *l, const char *name)
{
    return strcmp(l->sim->mode->name, name) == 0;
}

static struct side *other(struct side *s)
{
    return s == &s->pair->near ? &s->pair->far : &s->pair->near;
}

/* ---- the end of a connection ---- */

static void forget_pieces(struct side *s)
{
    while (s->first) {
        struct piece *p = s->first;
        s->first = p->next;
        free(p);
    }
    s->last = &s->first;
}

static void on_closed(uv_handle_t *h)
{
    struct pair *p = h->data;
    if (--p->handles > 0)
        return;
    forget_pieces(&p->near);
    forget_pieces(&p->far);
    free(p);
}

/* With a reset, whoever waits on a cut connection notices. */
static void end(struct pair *p, bool reset)
{
    if (p->closing)
        return;
    p->closing = true;
    if (p->prev)
        p->prev->next = p->next;
    else
        p->link->pairs = p->next;
    if (p->next)
        p->next->prev = p->prev;
    struct side *sides[] = {&p->near, &p->far};
    for (int i = 0; i < 2; i++) {
        uv_close((uv_handle_t *)&sides[i]->timer, on_closed);
        if (!reset || uv_tcp_close_reset(&sides[i]->tcp, on_closed))
            uv_close((uv_handle_t *)&sides[i]->tcp, on_closed);
    }
}

/* ---- passing on ---- */

static void flow(struct side *s);
static void on_due(uv_timer_t *t);

static void on_written(uv_write_t *w, int status)
{
    struct piece *p = w->data;
    struct side *s = p->from;
    s->waiting -= p->len;
    free(p);
    if (status)
        end(s->pair, true); /* also after its end: nothing happens twice */
    else
        flow(s);
}

/* Writes over there what is due. */
static void pass_on(struct side *s)
{
    bool slow = mode_is(s->pair->link, "slow");
    int64_t now = (int64_t)uv_now(&s->pair->link->sim->loop);
    while (s->first && (!slow || s->first->due_ms <= now)) {
        struct piece *p = s->first;
        if (!(s->first = p->next))
            s->last = &s->first;
        uv_buf_t buf = uv_buf_init(p->data, (unsigned)p->len);
        p->write.data = p;
        if (uv_write(&p->write, (uv_stream_t *)&other(s)->tcp, &buf, 1, on_written)) {
            s->waiting -= p->len;
            free(p);
            end(s->pair, true);
            return;
        }
    }
    if (s->first) {
        int64_t left = s->first->due_ms - now;
        uv_timer_start(&s->timer, on_due, (uint64_t)left, 0);
    }
}

static void on_due(uv_timer_t *t)
{
    struct pair *p = t->data;
    flow(t == &p->near.timer ? &p->near : &p->far);
}

static void room(uv_handle_t *h, size_t wanted, uv_buf_t *buf)
{
    struct pair *p = h->data;
    struct side *s = h == (uv_handle_t *)&p->near.tcp ? &p->near : &p->far;
    (void)wanted;
    *buf = uv_buf_init(s->room, sizeof s->room);
}

static void on_read(uv_stream_t *h, ssize_t n, const uv_buf_t *buf)
{
    struct pair *pair = h->data;
    struct side *s = h == (uv_stream_t *)&pair->near.tcp ? &pair->near : &pair->far;
    struct sim *sim = pair->link->sim;
    if (n > 0) {
        struct piece *p = malloc(sizeof *p + (size_t)n);
        if (!p)
            abort();
        *p = (struct piece){.from = s, .len = (size_t)n, .due_ms = (int64_t)uv_now(&sim->loop) + sim->slow_ms};
        memcpy(p->data, buf->base, (size_t)n);
        *s->last = p;
        s->last = &p->next;
        s->waiting += p->len;
        counts(sim)->bytes += p->len;
    } else if (n == UV_EOF) {
        s->ended = true; /* what it has said still arrives */
    } else if (n < 0) {
        end(pair, true);
        return;
    }
    flow(s);
}

/* Reads and writes as far as the mode and the other side allow. */
static void flow(struct side *s)
{
    struct pair *p = s->pair;
    if (p->closing || !p->connected)
        return; /* of a closing one the link may be gone */
    bool hole = mode_is(p->link, "blackhole");
    if (!hole)
        pass_on(s);
    if (p->closing)
        return;
    if (s->ended && s->waiting == 0) {
        end(p, false);
        return;
    }
    bool read = !hole && !s->ended && s->waiting < WAITING_BYTES;
    if (read && !s->reading)
        uv_read_start((uv_stream_t *)&s->tcp, room, on_read);
    else if (!read && s->reading)
        uv_read_stop((uv_stream_t *)&s->tcp);
    s->reading = read;
}

/* ---- connections ---- */

static void on_connected(uv_connect_t *c, int status)
{
    struct pair *p = c->data;
    if (p->closing)
        return;
    if (status) {
        end(p, true);
        return;
    }
    p->connected = true;
    flow(&p->near);
    flow(&p->far);
}

static void begin_side(struct pair *p, struct side *s)
{
    uv_loop_t *loop = &p->link->sim->loop;
    s->pair = p;
    s->last = &s->first;
    uv_tcp_init(loop, &s->tcp);
    uv_timer_init(loop, &s->timer);
    s->tcp.data = s->timer.data = p;
    p->handles += 2;
}

static void on_connection(uv_stream_t *server, int status)
{
    struct link *l = server->data;
    struct pair *p = status ? NULL : calloc(1, sizeof *p);
    if (!p)
        return;
    p->link = l;
    p->next = l->pairs;
    if (p->next)
        p->next->prev = p;
    l->pairs = p;
    begin_side(p, &p->near);
    begin_side(p, &p->far);
    p->connect.data = p;
    if (uv_accept(server, (uv_stream_t *)&p->near.tcp) || mode_is(l, "cut")) {
        end(p, true);
        return;
    }
    uv_tcp_nodelay(&p->near.tcp, 1);
    uv_tcp_nodelay(&p->far.tcp, 1);
    counts(l->sim)->connections++;
    if (uv_tcp_connect(&p->connect, &p->far.tcp, (const struct sockaddr *)&l->to, on_connected))
        end(p, true);
}

/* ---- the simulator ---- */

static int read_to(const struct sim *s, struct sockaddr_in *to)
{
    char host[HOSTPORT_HOST_MAX];
    int port;
    if (s->values[0] && hostport_split(s->values[0], 0, host, &port) == 0 && uv_ip4_addr(host, port, to) == 0)
        return 0;
    fprintf(stderr, "redoubt sim link: --to ADDRESS:PORT is required: an IPv4 address\n");
    return -1;
}

static int open_link(struct sim *s, int fd)
{
    struct sockaddr_in to;
    struct counts *c = s->state;
    if (read_to(s, &to)) {
        close(fd);
        return -1;
    }
    if (!c)
        s->state = c = calloc(1, sizeof *c);
    struct link *l = c ? calloc(1, sizeof *l) : NULL;
    if (!l) {
        close(fd);
        return -1;
    }
    *l = (struct link){.sim = s, .to = to};
    uv_tcp_init(&s->loop, &l->tcp);
    l->tcp.data = l;
    c->link = l;
    if (uv_tcp_open(&l->tcp, fd) || uv_listen((uv_stream_t *)&l->tcp, SOMAXCONN, on_connection)) {
        s->kind->close(s);
        return -1;
    }
    return 0;
}

static void free_link(uv_handle_t *h)
{
    free(h->data);
}

static void close_link(struct sim *s)
{
    struct counts *c = s->state;
    if (c && c->link) {
        while (c->link->pairs)
            end(c->link->pairs, true);
        uv_close((uv_handle_t *)&c->link->tcp, free_link);
        c->link = NULL;
    }
    if (c && s->stopping) {
        free(c);
        s->state = NULL;
    }
}

static void mode_changed(struct sim *s)
{
    struct link *l = counts(s)->link;
    for (struct pair *p = l->pairs, *next; p; p = next) {
        next = p->next;
        if (mode_is(l, "cut")) {
            end(p, true);
        } else {
            flow(&p->near);
            flow(&p->far);
        }
    }
}

static json_t *state(struct sim *s)
{
    const struct counts *c = s->state;
    size_t open = 0;
    for (const struct pair *p = c && c->link ? c->link->pairs : NULL; p; p = p->next)
        open++;
    return json_pack("{s:I, s:I, s:I}", "connections", (json_int_t)open, "accepted",
                     (json_int_t)(c ? c->connections : 0), "bytes", (json_int_t)(c ? c->bytes : 0));
}

static const struct sim_kind kind = {
    .name = "link",
    .about = "a network link to a server: passes connections on, until it is told not to",
    .modes = modes,
    .open = open_link,
    .close = close_link,
    .mode_changed = mode_changed,
    .state = state,
    .options = {{"to", "ADDRESS:PORT", "the server at its other end; required"}},
};

int sim_link_main(int argc, char **argv)
{
    return sim_run(&kind, argc, argv);
}
