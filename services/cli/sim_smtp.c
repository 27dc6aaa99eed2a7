/* sim_smtp.c - a mail server: the SMTP dialogue (EHLO, AUTH, MAIL, RCPT, DATA, RSET, QUIT) and every way to fail in it. */
#include "cli/sim.h"
#include "cli/sim_http.h"
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <time.h>
#include <unistd.h>

#define LINE_MAX_BYTES 2048
#define MESSAGE_BYTES  ((size_t)10 << 20)
#define RCPT_MAX       100

static const struct sim_mode modes[] = {{"ok", "takes every mail"},
                                        {"refuse", "the port is closed: connection refused"},
                                        {"hang", "takes the connection and never says a word"},
                                        {"slow", "greets after slow-ms"},
                                        {"421", "421 instead of a greeting"},
                                        {"451", "451 to each RCPT"},
                                        {"550", "550 to each RCPT"},
                                        {"partial", "550 to RCPT of gone*, 451 to RCPT of later*, takes all others"},
                                        {"554", "554 after DATA"},
                                        {"535", "refuses every login"},
                                        {"cut", "the connection ends in the middle of DATA"},
                                        {"garbage", "greets with something that is not SMTP"},
                                        {NULL, NULL}};

enum phase { COMMAND, AUTH_USER, AUTH_PASSWORD, AUTH_PLAIN, DATA };
struct conn {
    struct mail_server *server;
    struct conn *prev, *next;
    uv_tcp_t tcp;
    uv_timer_t greet;
    int handles;
    const char *mode;
    enum phase phase;
    bool greeted, closing, authenticated;
    char line[LINE_MAX_BYTES];
    size_t line_len;
    bool line_too_long;
    char user[128];
    char *from;
    json_t *to;
    char *message;
    size_t message_len;
    bool message_too_large;
};
struct mail_server {
    struct sim *sim;
    uv_tcp_t tcp;
    struct conn *conns;
};

/* ---- connections ---- */

static void forget_mail(struct conn *c)
{
    free(c->from);
    free(c->message);
    json_decref(c->to);
    c->from = NULL;
    c->message = NULL;
    c->message_len = 0;
    c->message_too_large = false;
    c->to = NULL;
}

static void conn_closed(uv_handle_t *h)
{
    struct conn *c = h->data;
    if (--c->handles > 0)
        return;
    forget_mail(c);
    free(c);
}

static void conn_close(struct conn *c)
{
    if (c->closing)
        return;
    c->closing = true;
    if (c->prev)
        c->prev->next = c->next;
    else
        c->server->conns = c->next;
    if (c->next)
        c->next->prev = c->prev;
    uv_close((uv_handle_t *)&c->tcp, conn_closed);
    uv_close((uv_handle_t *)&c->greet, conn_closed);
}

struct reply {
    uv_write_t req;
    struct conn *c;
    bool last;
    char text[];
};

static void on_written(uv_write_t *w, int status)
{
    struct reply *r = (struct reply *)w;
    if ((status < 0 || r->last) && !r->c->closing)
        conn_close(r->c);
    free(r);
}

static void say_and(struct conn *c, const char *text, bool last)
{
    size_t len = strlen(text);
    struct reply *r = malloc(sizeof *r + len + 1);
    if (!r) {
        conn_close(c);
        return;
    }
    r->c = c;
    r->last = last;
    memcpy(r->text, text, len + 1);
    uv_buf_t b = uv_buf_init(r->text, (unsigned)len);
    if (uv_write(&r->req, (uv_stream_t *)&c->tcp, &b, 1, on_written)) {
        free(r);
        conn_close(c);
    }
}

static void say(struct conn *c, const char *text)
{
    say_and(c, text, false);
}

static bool is(const struct conn *c, const char *mode)
{
    return strcmp(c->mode, mode) == 0;
}

/* ---- the dialogue ---- */

static void log_in(struct conn *c, const char *user, const char *password)
{
    snprintf(c->user, sizeof c->user, "%s", user);
    c->phase = COMMAND;
    char both[512];
    snprintf(both, sizeof both, "%s:%s", user, password);
    const char *wanted = c->server->sim->values[0];
    if (is(c, "535") || (wanted && strcmp(both, wanted) != 0)) {
        say(c, "535 5.7.8 authentication credentials invalid\r\n");
        return;
    }
    c->authenticated = true;
    say(c, "235 2.7.0 authentication successful\r\n");
}

static bool decode(const char *text, char *out, size_t room, size_t *ret_len)
{
    return sodium_base642bin((unsigned char *)out, room - 1, text, strlen(text), NULL, ret_len, NULL,
                             sodium_base64_VARIANT_ORIGINAL) == 0;
}

/* "authzid NUL user NUL password" */
static void auth_plain(struct conn *c, const char *text)
{
    char raw[512];
    size_t len;
    c->phase = COMMAND;
    if (!decode(text, raw, sizeof raw, &len)) {
        say(c, "501 5.5.2 cannot decode\r\n");
        return;
    }
    raw[len] = 0;
    const char *user = memchr(raw, 0, len);
    const char *password = user ? memchr(user + 1, 0, len - (size_t)(user + 1 - raw)) : NULL;
    if (!password)
        say(c, "501 5.5.2 expected authzid, user and password\r\n");
    else
        log_in(c, user + 1, password + 1);
}

static void auth_login(struct conn *c, const char *text)
{
    char raw[256];
    size_t len;
    if (!decode(text, raw, sizeof raw, &len)) {
        c->phase = COMMAND;
        say(c, "501 5.5.2 cannot decode\r\n");
        return;
    }
    raw[len] = 0;
    if (c->phase == AUTH_USER) {
        snprintf(c->user, sizeof c->user, "%.*s", (int)sizeof c->user - 1, raw);
        c->phase = AUTH_PASSWORD;
        say(c, "334 UGFzc3dvcmQ6\r\n");
        return;
    }
    char user[sizeof c->user];
    memcpy(user, c->user, sizeof user);
    log_in(c, user, raw);
}

static void cmd_auth(struct conn *c, const char *arg)
{
    if (strncasecmp(arg, "PLAIN ", 6) == 0) {
        auth_plain(c, arg + 6);
    } else if (strcasecmp(arg, "PLAIN") == 0) {
        c->phase = AUTH_PLAIN;
        say(c, "334 \r\n");
    } else if (strncasecmp(arg, "LOGIN ", 6) == 0) {
        c->phase = AUTH_USER;
        auth_login(c, arg + 6);
    } else if (strcasecmp(arg, "LOGIN") == 0) {
        c->phase = AUTH_USER;
        say(c, "334 VXNlcm5hbWU6\r\n");
    } else {
        say(c, "504 5.5.4 expected PLAIN or LOGIN\r\n");
    }
}

/* The address in `FROM:<a@b> ...`; malloc'ed, NULL if it is of another form. */
static char *address(const char *arg, const char *before)
{
    if (strncasecmp(arg, before, strlen(before)) != 0)
        return NULL;
    arg += strlen(before);
    arg += strspn(arg, " ");
    const char *end = strchr(arg, '>');
    return *arg == '<' && end ? strndup(arg + 1, (size_t)(end - arg - 1)) : NULL;
}

static void cmd_hello(struct conn *c, const char *arg)
{
    (void)arg;
    say(c,
        "250-sim.redoubt.invalid\r\n250-SIZE 10485760\r\n250-8BITMIME\r\n250-SMTPUTF8\r\n250 AUTH PLAIN LOGIN\r\n");
}

static void cmd_mail(struct conn *c, const char *arg)
{
    if (c->server->sim->values[0] && !c->authenticated) {
        say(c, "530 5.7.0 authentication required\r\n");
        return;
    }
    char *from = address(arg, "FROM:");
    if (!from) {
        say(c, "501 5.5.4 expected MAIL FROM:<address>\r\n");
        return;
    }
    forget_mail(c);
    c->from = from;
    c->to = json_array();
    say(c, "250 2.1.0 ok\r\n");
}

static void cmd_rcpt(struct conn *c, const char *arg)
{
    char *to = c->from ? address(arg, "TO:") : NULL;
    if (!c->from)
        say(c, "503 5.5.1 MAIL first\r\n");
    else if (!to || !*to)
        say(c, "501 5.5.4 expected RCPT TO:<address>\r\n");
    else if (is(c, "451"))
        say(c, "451 4.3.0 try again later\r\n");
    else if (is(c, "partial") && strncmp(to, "later", 5) == 0)
        say(c, "451 4.2.0 try again later\r\n");
    else if (is(c, "550") || (is(c, "partial") && strncmp(to, "gone", 4) == 0))
        say(c, "550 5.1.1 no such user here\r\n");
    else if (json_array_size(c->to) >= RCPT_MAX)
        say(c, "452 4.5.3 too many recipients\r\n");
    else if (json_array_append_new(c->to, json_string(to)))
        say(c, "501 5.1.3 not UTF-8\r\n");
    else
        say(c, "250 2.1.5 ok\r\n");
    free(to);
}

static void cmd_data(struct conn *c, const char *arg)
{
    (void)arg;
    if (!c->from || json_array_size(c->to) == 0) {
        say(c, "503 5.5.1 MAIL and RCPT first\r\n");
        return;
    }
    c->phase = DATA;
    say(c, "354 end with <CR><LF>.<CR><LF>\r\n");
}

static void cmd_rset(struct conn *c, const char *arg)
{
    (void)arg;
    forget_mail(c);
    say(c, "250 2.0.0 ok\r\n");
}

static void cmd_noop(struct conn *c, const char *arg)
{
    (void)arg;
    say(c, "250 2.0.0 ok\r\n");
}

static void cmd_quit(struct conn *c, const char *arg)
{
    (void)arg;
    say_and(c, "221 2.0.0 bye\r\n", true);
}

static void command(struct conn *c)
{
    static const struct {
        const char *verb;
        void (*fn)(struct conn *, const char *);
    } rows[] = {{"EHLO", cmd_hello}, {"HELO", cmd_noop}, {"AUTH", cmd_auth}, {"MAIL", cmd_mail}, {"RCPT", cmd_rcpt},
                {"DATA", cmd_data},  {"RSET", cmd_rset}, {"NOOP", cmd_noop}, {"QUIT", cmd_quit}};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        if (strncasecmp(c->line, rows[i].verb, 4) == 0 && (c->line[4] == 0 || c->line[4] == ' ')) {
            const char *arg = c->line + 4;
            rows[i].fn(c, arg + strspn(arg, " "));
            return;
        }
    say(c, "500 5.5.2 unknown command\r\n");
}

static void take_message(struct conn *c)
{
    struct timespec t;
    clock_gettime(CLOCK_REALTIME, &t);
    /* Mail is bytes: what is not UTF-8 is kept as Latin-1, so that nothing of it is lost. */
    json_t *text = json_stringn(c->message ? c->message : "", c->message_len);
    if (!text) {
        char *wide = malloc(c->message_len * 2 + 1);
        size_t n = 0;
        for (size_t i = 0; wide && i < c->message_len; i++) {
            unsigned char b = (unsigned char)c->message[i];
            if (b >= 0x80)
                wide[n++] = (char)(0xc0 | b >> 6);
            wide[n++] = (char)(b >= 0x80 ? 0x80 | (b & 0x3f) : b);
        }
        text = wide ? json_stringn(wide, n) : NULL;
        free(wide);
    }
    sim_received(c->server->sim, json_pack("{s:s, s:O, s:s, s:I, s:s, s:o}", "from", c->from, "to", c->to, "user",
                                           c->user, "at_unix_ms", (json_int_t)t.tv_sec * 1000 + t.tv_nsec / 1000000,
                                           "mode", c->mode, "message", text ? text : json_null()));
}

static void data_line(struct conn *c)
{
    if (is(c, "cut")) {
        conn_close(c);
        return;
    }
    if (strcmp(c->line, ".") == 0) {
        c->phase = COMMAND;
        if (c->message_too_large) {
            say(c, "552 5.3.4 too large\r\n");
        } else if (is(c, "554")) {
            say(c, "554 5.6.0 contents refused\r\n");
        } else {
            take_message(c);
            say(c, "250 2.0.0 taken\r\n");
        }
        forget_mail(c);
        return;
    }
    const char *text = c->line[0] == '.' ? c->line + 1 : c->line;
    size_t len = c->line_len - (size_t)(text - c->line);
    if (c->message_len + len + 2 > MESSAGE_BYTES) {
        c->message_too_large = true;
        return;
    }
    char *more = realloc(c->message, c->message_len + len + 2);
    if (!more) {
        c->message_too_large = true;
        return;
    }
    memcpy(more + c->message_len, text, len);
    memcpy(more + c->message_len + len, "\r\n", 2);
    c->message = more;
    c->message_len += len + 2;
}

static void on_line(struct conn *c)
{
    if (c->line_too_long) {
        say(c, "500 5.5.2 line too long\r\n");
        return;
    }
    switch (c->phase) {
    case COMMAND:
        command(c);
        break;
    case AUTH_USER:
    case AUTH_PASSWORD:
        auth_login(c, c->line);
        break;
    case AUTH_PLAIN:
        auth_plain(c, c->line);
        break;
    case DATA:
        data_line(c);
        break;
    }
}

static void on_bytes(struct conn *c, const char *data, size_t n)
{
    for (size_t i = 0; i < n && !c->closing; i++) {
        if (data[i] != '\n') {
            if (c->line_len + 1 < sizeof c->line)
                c->line[c->line_len++] = data[i];
            else
                c->line_too_long = true;
            continue;
        }
        if (c->line_len > 0 && c->line[c->line_len - 1] == '\r')
            c->line_len--;
        c->line[c->line_len] = 0;
        on_line(c);
        c->line_len = 0;
        c->line_too_long = false;
    }
}

/* ---- the server on the loop ---- */

static void on_alloc(uv_handle_t *h, size_t suggested, uv_buf_t *b)
{
    (void)h;
    b->base = malloc(suggested);
    b->len = b->base ? suggested : 0;
}

static void on_read(uv_stream_t *stream, ssize_t n, const uv_buf_t *b)
{
    struct conn *c = stream->data;
    if (n < 0)
        conn_close(c);
    else if (c->greeted)
        on_bytes(c, b->base, (size_t)n);
    free(b->base);
}

static void greet(struct conn *c)
{
    if (is(c, "421")) {
        say_and(c, "421 4.3.2 service not available\r\n", true);
    } else if (is(c, "garbage")) {
        say_and(c, "\x01\x02 this is not the protocol you are looking for\r\n", true);
    } else {
        c->greeted = true;
        say(c, "220 sim.redoubt.invalid ESMTP\r\n");
    }
}

static void on_greet(uv_timer_t *t)
{
    greet(t->data);
}

static void on_connection(uv_stream_t *server, int status)
{
    struct mail_server *m = server->data;
    struct conn *c = status < 0 ? NULL : calloc(1, sizeof *c);
    if (!c)
        return;
    c->server = m;
    c->handles = 2;
    uv_tcp_init(&m->sim->loop, &c->tcp);
    uv_timer_init(&m->sim->loop, &c->greet);
    c->tcp.data = c->greet.data = c;
    c->next = m->conns;
    if (c->next)
        c->next->prev = c;
    m->conns = c;
    c->mode = sim_take_mode(m->sim);
    if (uv_accept(server, (uv_stream_t *)&c->tcp) || uv_read_start((uv_stream_t *)&c->tcp, on_alloc, on_read))
        conn_close(c);
    else if (is(c, "slow"))
        uv_timer_start(&c->greet, on_greet, (uint64_t)m->sim->slow_ms, 0);
    else if (!is(c, "hang"))
        greet(c);
}

static int open_smtp(struct sim *s, int fd)
{
    struct mail_server *m = calloc(1, sizeof *m);
    if (!m) {
        close(fd);
        return -1;
    }
    m->sim = s;
    uv_tcp_init(&s->loop, &m->tcp);
    m->tcp.data = m;
    s->state = m;
    if (uv_tcp_open(&m->tcp, fd) || uv_listen((uv_stream_t *)&m->tcp, SOMAXCONN, on_connection)) {
        fprintf(stderr, "redoubt sim smtp: cannot listen\n");
        return -1;
    }
    return 0;
}

static void server_closed(uv_handle_t *h)
{
    free(h->data);
}

static void close_smtp(struct sim *s)
{
    struct mail_server *m = s->state;
    if (!m)
        return;
    s->state = NULL;
    while (m->conns)
        conn_close(m->conns);
    uv_close((uv_handle_t *)&m->tcp, server_closed);
}

/* Whoever hangs is let go as soon as the mode is another one. */
static void mode_changed(struct sim *s)
{
    struct mail_server *m = s->state;
    if (strcmp(s->mode->name, "hang") == 0)
        return;
    for (struct conn *c = m->conns, *next; c; c = next) {
        next = c->next;
        if (is(c, "hang"))
            conn_close(c);
    }
}

static const struct sim_kind kind = {
    .name = "smtp",
    .about = "a mail server",
    .modes = modes,
    .open = open_smtp,
    .close = close_smtp,
    .mode_changed = mode_changed,
    .options = {{"login", "USER:PASS", "asks for this login (default: none, any is taken)"}},
};

int sim_smtp_main(int argc, char **argv)
{
    return sodium_init() < 0 ? 1 : sim_run(&kind, argc, argv);
}
