/* sim_core.c - what every simulator shares: options, modes, control, signals, its port. */
#include "cli/sim_core.h"
#include "cli/sim_http.h"
#include <arpa/inet.h>
#include <errno.h>
#include <getopt.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define OWN 256 /* getopt's value for the first option of a kind */
enum { EXIT_OK, EXIT_FAILED, EXIT_USAGE };
#define REQUESTS_MAX 1000
#define SLOW_MS      3000
#define RETRY_S      2
#define LEAVE_MS     5000

/* ---- modes ---- */

const char *sim_take_mode(struct sim *s)
{
    const char *name = s->mode->name;
    if (s->count > 0 && --s->count == 0)
        sim_set_mode(s, "ok");
    return name;
}

bool sim_set_mode(struct sim *s, const char *name)
{
    for (const struct sim_mode *m = s->kind->modes; m->name; m++)
        if (strcmp(m->name, name) == 0) {
            s->mode = m;
            s->count = 0;
            return true;
        }
    return false;
}

void sim_apply(struct sim *s)
{
    uv_async_send(&s->apply);
}

void sim_received(struct sim *s, json_t *request)
{
    s->received++;
    json_array_append_new(s->requests, request);
    if (json_array_size(s->requests) > REQUESTS_MAX)
        json_array_remove(s->requests, 0);
}

/* ---- control ---- */

static json_t *complaint(const struct sim *s, const char *what, int *ret_status)
{
    json_t *modes = json_array();
    for (const struct sim_mode *m = s->kind->modes; m->name; m++)
        json_array_append_new(modes, json_string(m->name));
    *ret_status = 400;
    return json_pack("{s:s, s:o}", "error", what, "modes", modes);
}

static json_t *position(const struct sim *s)
{
    return json_pack("{s:s, s:s, s:b, s:i, s:I, s:I, s:I, s:I}", "sim", s->kind->name, "mode", s->mode->name, "open",
                     sim_wants_open(s), "port", s->port, "slow_ms", (json_int_t)s->slow_ms, "retry_after",
                     (json_int_t)s->retry_after_s, "count", (json_int_t)s->count, "received",
                     (json_int_t)s->received);
}

/* With what has become of it all. */
static json_t *full_position(struct sim *s)
{
    json_t *answer = position(s);
    if (s->kind->state) {
        json_t *more = s->kind->state(s);
        json_object_update(answer, more);
        json_decref(more);
    }
    return answer;
}

static json_t *set_mode(struct sim *s, const char *body, size_t len, int *ret_status)
{
    json_t *in = json_loadb(body, len, JSON_REJECT_DUPLICATES, NULL);
    const char *mode = NULL;
    json_int_t slow_ms = s->slow_ms, retry_after = s->retry_after_s, count = 0;
    json_t *answer;
    if (!in || json_unpack(in, "{s?s, s?I, s?I, s?I !}", "mode", &mode, "slow_ms", &slow_ms, "retry_after",
                           &retry_after, "count", &count))
        answer = complaint(s, "expected {\"mode\": NAME, \"slow_ms\"?, \"retry_after\"? (seconds), \"count\"?}",
                           ret_status);
    else if (slow_ms < 0 || retry_after < 0 || count < 0)
        answer = complaint(s, "slow_ms, retry_after and count must not be negative", ret_status);
    else if (mode && !sim_set_mode(s, mode))
        answer = complaint(s, "no such mode", ret_status);
    else {
        s->slow_ms = slow_ms;
        s->retry_after_s = retry_after;
        s->count = count;
        answer = position(s);
    }
    json_decref(in);
    return answer;
}

json_t *sim_control(struct sim *s, const char *method, const char *path, const char *body, size_t len,
                    int *ret_status)
{
    *ret_status = 200;
    bool get = strcmp(method, "GET") == 0;
    if (strcmp(path, "/sim/mode") == 0 && strcmp(method, "POST") == 0)
        return set_mode(s, body, len, ret_status);
    if (strcmp(path, "/sim/mode") == 0 && get)
        return position(s);
    if (strcmp(path, "/sim/requests") == 0 && get) {
        json_t *answer = full_position(s);
        json_object_set(answer, "requests", s->requests);
        return answer;
    }
    if (strcmp(path, "/sim/requests") == 0 && strcmp(method, "DELETE") == 0) {
        json_array_clear(s->requests);
        s->received = 0;
        return json_object();
    }
    if (strcmp(path, "/sim/state") == 0 && get)
        return full_position(s);
    if (s->kind->order) {
        json_t *in = json_loadb(body, len, JSON_REJECT_DUPLICATES, NULL);
        json_t *answer = s->kind->order(s, method, path, in, ret_status);
        json_decref(in);
        if (answer)
            return answer;
    }
    *ret_status = 404;
    return json_pack("{s:s}", "error",
                     "expected GET or POST /sim/mode, GET or DELETE /sim/requests, or GET /sim/state");
}

/* ---- the port ---- */

/* Bound, not listening. -1 on error. */
static int bound(const struct sim *s, int port, int *ret_port)
{
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0), one = 1;
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    socklen_t len = sizeof a;
    (void)inet_pton(AF_INET, s->address, &a.sin_addr); /* looked at among the options */
    if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one) ||
        bind(fd, (struct sockaddr *)&a, len) || getsockname(fd, (struct sockaddr *)&a, &len)) {
        fprintf(stderr, "redoubt sim: cannot bind %s:%d: %s\n", s->address, port, strerror(errno));
        if (fd >= 0)
            close(fd);
        return -1;
    }
    *ret_port = ntohs(a.sin_port);
    return fd;
}

static int listening(const struct sim *s, int port, int *ret_port)
{
    int fd = bound(s, port, ret_port);
    if (fd >= 0 && listen(fd, SOMAXCONN)) {
        fprintf(stderr, "redoubt sim: cannot listen on %s:%d: %s\n", s->address, port, strerror(errno));
        close(fd);
        return -1;
    }
    return fd;
}

bool sim_wants_open(const struct sim *s)
{
    return strcmp(s->mode->name, "refuse") != 0;
}

void sim_apply_now(struct sim *s)
{
    if (s->stopping)
        return;
    if (s->open && !sim_wants_open(s)) {
        s->kind->close(s);
        s->open = false;
    } else if (!s->open && sim_wants_open(s)) {
        int port, fd = listening(s, s->port, &port);
        if (fd < 0 || s->kind->open(s, fd)) {
            fprintf(stderr, "redoubt sim %s: the port stays closed\n", s->kind->name);
            return;
        }
        s->open = true;
    }
    if (s->open && s->kind->mode_changed)
        s->kind->mode_changed(s);
}

static void on_apply(uv_async_t *h)
{
    sim_apply_now(h->data);
}

static void close_any(uv_handle_t *h, void *ctx)
{
    (void)ctx;
    if (!uv_is_closing(h))
        uv_close(h, NULL);
}

static void on_leaving(uv_timer_t *h)
{
    struct sim *s = h->data;
    if (sim_http_in_hand(s) && (int64_t)uv_now(&s->loop) < s->leave_ms)
        return;
    s->stopping = true;
    uv_stop(&s->loop);
}

static void on_signal(uv_signal_t *h, int signum)
{
    struct sim *s = h->data;
    if (signum == SIGUSR1) {
        sim_set_mode(s, "ok");
        sim_apply(s);
        return;
    }
    if (s->kind->graceful && !s->leaving) {
        s->leaving = true;
        sim_http_quiesce(s);
        uv_update_time(&s->loop);
        s->leave_ms = (int64_t)uv_now(&s->loop) + LEAVE_MS;
        uv_timer_start(&s->leaving_timer, on_leaving, 0, 5);
        return;
    }
    s->stopping = true; /* at once; also when told for the second time */
    uv_stop(&s->loop);
}

/* ---- start ---- */

static void usage(const struct sim_kind *k, FILE *out)
{
    fprintf(out,
            "redoubt sim %s - %s\n\n"
            "usage: redoubt sim %s [options]\n"
            "      --address ADDRESS     IPv4, to listen on (default: 127.0.0.1); 0.0.0.0 in a container\n"
            "      --port PORT           0 = a free one (default)\n"
            "      --control PORT        a second port for control, open in every mode; 0 = a free one (default)\n"
            "      --mode MODE           how to behave at first; see below (default: ok)\n"
            "      --slow-ms MS          delay of mode slow (default: %d)\n"
            "      --retry-after S       Retry-After of mode 429, where there is one (default: %d)\n"
            "      --count N             the mode holds for N requests only\n",
            k->name, k->about, k->name, SLOW_MS, RETRY_S);
    for (size_t i = 0; i < SIM_OPTIONS_MAX && k->options[i].name; i++)
        fprintf(out, "      --%s %-*s%s\n", k->options[i].name, (int)(19 - strlen(k->options[i].name)),
                k->options[i].arg ? k->options[i].arg : "", k->options[i].help);
    fprintf(out, "  -h, --help                this text\n\nmodes:\n");
    for (const struct sim_mode *m = k->modes; m->name; m++)
        fprintf(out, "  %-12s %s\n", m->name, m->help);
    fprintf(out,
            "\ncontrol%s:\n"
            "  POST /sim/mode            {\"mode\": \"429\", \"retry_after\": 2, \"slow_ms\": 100, \"count\": 3}\n"
            "  GET /sim/mode             what it does now\n"
            "  GET /sim/requests         what came, oldest first, the last %d, and /sim/state; DELETE forgets them\n"
            "  GET /sim/state            what has become of it\n%s\n"
            "Prints `listening ADDRESS:PORT`, then `control ADDRESS:PORT`. SIGUSR1: mode ok. SIGTERM, SIGINT: "
            "the end.\n"
            "exit codes: 0 ended as asked, 1 failed, 2 wrong usage.\n",
            k->http_control ? " (HTTP, on both ports)" : " (HTTP, on the control port)", REQUESTS_MAX,
            k->order_help ? k->order_help : "");
}

static bool number(const char *text, int64_t max, int64_t *ret)
{
    char *end;
    errno = 0;
    long long n = strtoll(text, &end, 10);
    if (errno || end == text || *end || n < 0 || n > max)
        return false;
    *ret = n;
    return true;
}

/* -1 = go on; otherwise the exit code. */
static int options(struct sim *s, int argc, char **argv, int64_t *ret_port, int64_t *ret_control)
{
    const struct sim_kind *k = s->kind;
    int takes[SIM_OPTIONS_MAX];
    for (size_t i = 0; i < SIM_OPTIONS_MAX; i++)
        takes[i] = k->options[i].arg ? required_argument : no_argument;
    struct in_addr address;
    const struct option rows[] = {{"address", required_argument, NULL, 'a'},
                                  {"port", required_argument, NULL, 'p'},
                                  {"control", required_argument, NULL, 'c'},
                                  {"mode", required_argument, NULL, 'm'},
                                  {"slow-ms", required_argument, NULL, 's'},
                                  {"retry-after", required_argument, NULL, 'r'},
                                  {"count", required_argument, NULL, 'n'},
                                  {"help", no_argument, NULL, 'h'},
                                  {k->options[0].name, takes[0], NULL, OWN},
                                  {k->options[0].name ? k->options[1].name : NULL, takes[1], NULL, OWN + 1},
                                  {k->options[1].name ? k->options[2].name : NULL, takes[2], NULL, OWN + 2},
                                  {k->options[2].name ? k->options[3].name : NULL, takes[3], NULL, OWN + 3},
                                  {0}};
    int64_t count = 0;
    bool ok = true;
    optind = 0; /* getopt may have run before in this process */
    for (int c; ok && (c = getopt_long(argc, argv, "h", rows, NULL)) != -1;) {
        switch (c) {
        case 'p':
            ok = number(optarg, 65535, ret_port);
            break;
        case 'c':
            ok = number(optarg, 65535, ret_control);
            break;
        case 'm':
            ok = sim_set_mode(s, optarg);
            break;
        case 's':
            ok = number(optarg, 86400000, &s->slow_ms);
            break;
        case 'r':
            ok = number(optarg, 86400, &s->retry_after_s);
            break;
        case 'n':
            ok = number(optarg, INT32_MAX, &count);
            break;
        case 'a':
            ok = inet_pton(AF_INET, optarg, &address) == 1;
            s->address = optarg;
            break;
        case OWN:
        case OWN + 1:
        case OWN + 2:
        case OWN + 3:
            s->values[c - OWN] = optarg ? optarg : "";
            break;
        case 'h':
            usage(k, stdout);
            return EXIT_OK;
        default:
            usage(k, stderr);
            return EXIT_USAGE;
        }
        if (!ok)
            fprintf(stderr, "redoubt sim %s: wrong value `%s`; see --help\n", k->name, optarg);
    }
    if (ok && optind < argc) {
        fprintf(stderr, "redoubt sim %s: unexpected argument `%s`; see --help\n", k->name, argv[optind]);
        ok = false;
    }
    s->count = count;
    return ok ? -1 : EXIT_USAGE;
}

static int serve(struct sim *s, int64_t port, int64_t control_port)
{
    int control_fd = -1;
    if ((s->guard_fd = bound(s, (int)port, &s->port)) < 0 ||
        (control_fd = listening(s, (int)control_port, &s->control_port)) < 0)
        return EXIT_FAILED;
    s->control = sim_http_open(s, control_fd, true);
    if (!s->control)
        return EXIT_FAILED;
    if (sim_wants_open(s)) {
        int fd = listening(s, s->port, &s->port);
        if (fd < 0 || s->kind->open(s, fd))
            return EXIT_FAILED;
        s->open = true;
    }
    static const int signums[] = {SIGTERM, SIGINT, SIGUSR1};
    for (size_t i = 0; i < 3; i++) {
        uv_signal_init(&s->loop, &s->signals[i]);
        s->signals[i].data = s;
        uv_signal_start(&s->signals[i], on_signal, signums[i]);
    }
    printf("listening %s:%d\ncontrol %s:%d\n", s->address, s->port, s->address, s->control_port);
    fflush(stdout);
    uv_run(&s->loop, UV_RUN_DEFAULT);
    return EXIT_OK;
}

int sim_run(const struct sim_kind *kind, int argc, char **argv)
{
    struct sim s = {.kind = kind,
                    .mode = kind->modes,
                    .address = "127.0.0.1",
                    .guard_fd = -1,
                    .slow_ms = SLOW_MS,
                    .retry_after_s = RETRY_S};
    int64_t port = 0, control_port = 0;
    int code = options(&s, argc, argv, &port, &control_port);
    if (code >= 0)
        return code;
    (void)signal(SIGPIPE, SIG_IGN);
    s.requests = json_array();
    if (!s.requests || uv_loop_init(&s.loop) || uv_async_init(&s.loop, &s.apply, on_apply)) {
        fprintf(stderr, "redoubt sim %s: no event loop\n", kind->name);
        json_decref(s.requests);
        return EXIT_FAILED;
    }
    s.apply.data = &s;
    uv_timer_init(&s.loop, &s.leaving_timer);
    s.leaving_timer.data = &s;
    code = serve(&s, port, control_port);
    s.stopping = true;
    kind->close(&s);
    sim_http_close(s.control);
    uv_walk(&s.loop, close_any, NULL);
    uv_run(&s.loop, UV_RUN_DEFAULT);
    uv_loop_close(&s.loop);
    if (s.guard_fd >= 0)
        close(s.guard_fd);
    json_decref(s.requests);
    return code;
}
