/* cmd_sim_mode.c - redoubt sim mode: tells a running simulator how to behave, by its control port. */
#include "cli/cmd.h"
#include "common/hostport.h"
#include "common/http.h"
#include "common/loop.h"
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#define CLOSE_MS 1000

struct told {
    struct cli *c;
    bool done;
    int code;
};

/* "ok, 429, 500": what it could be told. */
static void list_modes(const json_t *modes, char *buf, size_t size)
{
    size_t i, len = 0;
    json_t *m;
    *buf = 0;
    json_array_foreach((json_t *)modes, i, m)
    {
        const char *name = json_string_value(m);
        if (name && len < size)
            len += (size_t)snprintf(buf + len, size - len, "%s%s", i ? ", " : "", name);
    }
}

static void on_answer(void *ctx, const struct http_result *r)
{
    struct told *t = ctx;
    json_t *j = r->fault == HTTP_OK ? json_loadb(r->body, r->len, 0, NULL) : NULL;
    const char *sim = json_string_value(json_object_get(j, "sim"));
    const char *mode = json_string_value(json_object_get(j, "mode"));
    const char *error = json_string_value(json_object_get(j, "error"));
    char modes[512];
    t->done = true;
    list_modes(json_object_get(j, "modes"), modes, sizeof modes);
    if (r->fault != HTTP_OK)
        t->code = cli_fail(t->c, CLI_UNREACHABLE, "%s", r->error);
    else if (r->status == 200 && sim && mode)
        printf("%s: %s\n", sim, mode);
    else
        t->code = cli_fail(t->c, CLI_REFUSED, "refused: %s%s%s",
                           error ? error : "that is no simulator's control port", *modes ? "; allowed: " : "", modes);
    json_decref(j);
}

static void set_true(void *ctx)
{
    *(bool *)ctx = true;
}

int cmd_sim_mode(struct cli *c, const void *opts, int argc, char **argv)
{
    (void)opts, (void)argc;
    char url[320], host[HOSTPORT_HOST_MAX];
    int port;
    struct err e = {""};
    struct told t = {.c = c};
    struct loop loop;
    if (hostport_split(argv[0], 0, host, &port) ||
        (size_t)snprintf(url, sizeof url, "http://%s/sim/mode", argv[0]) >= sizeof url)
        return cli_fail(c, CLI_USAGE, "found `%s`; allowed: HOST:PORT of a simulator's control", argv[0]);
    if (loop_init(&loop))
        return cli_fail(c, CLI_FAILED, "no event loop");
    json_t *order = json_pack("{s:s}", "mode", argv[1]);
    char *body = order ? json_dumps(order, JSON_COMPACT) : NULL;
    struct http *http = http_open(&loop, &e);
    json_decref(order);
    if (http && body) {
        struct http_request r = {.url = url, .body = body, .body_len = strlen(body), .timeout_ms = c->answer_ms};
        (void)http_start(http, &r, NULL, on_answer, &t);
        loop_run_until(&loop, &t.done, c->answer_ms + CLOSE_MS);
    } else {
        t.code = cli_fail(c, CLI_USAGE, "%s", *e.text ? e.text : "the mode is not text");
    }
    if (http) {
        bool closed = false;
        http_close(http, set_true, &closed);
        loop_run_until(&loop, &closed, CLOSE_MS);
    }
    loop_done(&loop);
    free(body);
    return t.code;
}
