/* cli_bus.c - one command's connection to the suite. */
#include "cli/cli_bus.h"
#include "cli/settings_brief.h"
#include "cli/status_model.h"
#include <signal.h>
#include <sodium.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define AGAIN_MS                                                                                                     \
    2000 /* a replica answers an order in milliseconds; a freeze that guards confirm may take longer: then both answers are the same */
#define CLOSE_MS 1000 /* for what was published to leave */

static void on_up(void *ctx)
{
    struct cli_link *k = ctx;
    k->up = k->was_up = true;
}

static void on_down(void *ctx)
{
    struct cli_link *k = ctx;
    k->up = false;
    k->downs++;
}

static void on_error(void *ctx, const char *what)
{
    struct cli_link *k = ctx;
    snprintf(k->trouble, sizeof k->trouble, "%s", what);
}

static void on_signal(uv_signal_t *h, int signum)
{
    (void)signum;
    ((struct cli_link *)h->data)->interrupted = true;
}

struct settings *cli_settings_of(const struct cli *c, const char *path)
{
    struct conf_report report = {0};
    struct settings *s = settings_load(path, &report);
    for (size_t i = 0; i < report.n; i++)
        fprintf(stderr, "%s\n", report.lines[i]);
    if (!s && report.n == 0)
        cli_fail(c, 0, "cannot read %s", path);
    conf_report_free(&report);
    return s;
}

struct settings *cli_settings(const struct cli *c)
{
    const char *path = cli_config_path(c);
    if (!c->config_path && access(path, R_OK) != 0) {
        cli_fail(c, 0, "no settings file %s; name one with -c FILE or $REDOUBT_CONFIG, or the bus with --nats URL",
                 path);
        return NULL;
    }
    return cli_settings_of(c, path);
}

/* The URL without a login that may be in it: for messages. */
static const char *shown(const char *url)
{
    const char *at = strrchr(url, '@');
    return at ? at + 1 : url;
}

/* Rights are given per user, replies included: who logs in as a service, as its container's health check does, has that service's inbox. */
static void inbox_of(const char *user, char *buf, size_t size)
{
    bool service = false;
    for (size_t i = 0; user && i < status_services_n; i++)
        service = service || strcmp(user, status_services[i]) == 0;
    snprintf(buf, size, "_INBOX_%s", service ? user : "cli");
}

static int open_link(struct cli_link *k, struct cli *c, bool brief)
{
    *k = (struct cli_link){.c = c};
    struct err e = {""};
    if (loop_init(&k->loop))
        return cli_fail(c, CLI_FAILED, "no event loop");
    const char *env = getenv("REDOUBT_NATS");
    k->url = c->nats_url ? c->nats_url : !c->config_path && env && *env ? env : NULL;
    if (!k->url || c->config_path) {
        k->settings = brief ? settings_brief(cli_config_path(c)) : NULL;
        if (!k->settings && !(k->settings = cli_settings(c)))
            return CLI_USAGE;
        if (!k->url)
            k->url = k->settings->nats.url;
    }
    if (sodium_init() < 0)
        return cli_fail(c, CLI_FAILED, "no source of randomness");
    const struct set_nats *n = k->settings ? &k->settings->nats : NULL;
    char prefix[40];
    inbox_of(n ? n->user : NULL, prefix, sizeof prefix);
    snprintf(k->inbox, sizeof k->inbox, "%s.%08x%08x", prefix, randombytes_random(), randombytes_random());
    static const int caught[2] = {SIGINT, SIGTERM};
    for (int i = 0; i < 2; i++) {
        uv_signal_init(&k->loop.uv, &k->signals[i]);
        k->signals[i].data = k;
        uv_signal_start(&k->signals[i], on_signal, caught[i]);
        uv_unref((uv_handle_t *)&k->signals[i]);
    }
    struct bus_opts o = {.url = k->url,
                         .name = "redoubt-cli",
                         .user = n ? n->user : NULL,
                         .password = n ? n->password : NULL,
                         .token = n ? n->token : NULL,
                         .tls_ca_file = n ? n->tls_ca_file : NULL,
                         .inbox_prefix = prefix,
                         .guest = true, /* streams are the services' business */
                         .on_up = on_up,
                         .on_down = on_down,
                         .on_error = on_error,
                         .ctx = k};
    if (!(k->bus = bus_open(&k->loop, &o, &e)))
        return cli_fail(c, CLI_USAGE, "%s", e.text);
    if (!loop_run_until(&k->loop, &k->up, c->timeout_ms))
        return cli_fail(c, CLI_UNREACHABLE, "no NATS server with JetStream answers at %s%s%s", shown(k->url),
                        *k->trouble ? ": " : "", k->trouble);
    return CLI_OK;
}

int cli_link_open(struct cli_link *k, struct cli *c)
{
    return open_link(k, c, false);
}

int cli_link_open_brief(struct cli_link *k, struct cli *c)
{
    return open_link(k, c, true);
}

static void set_true(void *ctx)
{
    *(bool *)ctx = true;
}

void cli_link_close(struct cli_link *k)
{
    if (k->bus) {
        bool closed = false;
        bus_close(k->bus, CLOSE_MS, set_true, &closed);
        loop_run_until(&k->loop, &closed, 2 * CLOSE_MS);
    }
    loop_done(&k->loop);
    settings_free(k->settings);
}

char *cli_inbox(struct cli_link *k, char buf[static SUBJECT_MAX_LEN])
{
    snprintf(buf, SUBJECT_MAX_LEN, "%s.%u", k->inbox, ++k->inboxes);
    return buf;
}

/* ---- asking ---- */

struct asked {
    bool done;
    enum bus_status status;
    PB(CommandReply) * reply;
    struct err e;
};

/* An answer to one of several askings, on an inbox of our own. */
static void on_answer(void *ctx, const struct bus_msg *m)
{
    struct asked *a = ctx;
    if (a->done)
        return;
    a->done = true;
    a->status = m->len > 0 ? BUS_OK : BUS_NO_RESPONDERS; /* what a server says of itself is empty */
    if (m->len > 0)
        a->reply = wire_unpack(PB_DESC(command_reply), m->data, m->len, &a->e);
}

/* Again and again until somebody answers: the replica that was asked first may be paused, or be dying. */
static void insist(struct cli_link *k, struct bus_out *o, struct asked *a)
{
    char inbox[SUBJECT_MAX_LEN];
    struct bus_sub *s = bus_subscribe(k->bus, cli_inbox(k, inbox), NULL, on_answer, a);
    int64_t until = clock_mono_ms() + k->c->answer_ms;
    o->reply = inbox;
    a->status = BUS_TIMEOUT;
    while (s && !a->done && !k->interrupted && clock_mono_ms() < until) {
        int64_t left = until - clock_mono_ms();
        if (bus_publish(k->bus, o, &a->e))
            break;
        loop_run_until(&k->loop, &a->done, left < AGAIN_MS ? left : AGAIN_MS);
    }
    bus_unsubscribe(s);
}

static void on_reply(void *ctx, enum bus_status st, const struct bus_msg *m)
{
    struct asked *a = ctx;
    a->done = true;
    a->status = st;
    if (st == BUS_OK)
        a->reply = wire_unpack(PB_DESC(command_reply), m->data, m->len, &a->e);
}

static int ask(struct cli_link *k, const char *service, const char *verb, const void *message, bool insists,
               PB(CommandReply) * *ret)
{
    char subject[SUBJECT_MAX_LEN];
    struct asked a = {0};
    size_t len;
    void *data = wire_pack(message, &len, &a.e);
    if (!data)
        return cli_fail(k->c, CLI_USAGE, "%s", a.e.text);
    snprintf(subject, sizeof subject, "%s%s.%s", SUBJECT_CMD, service, verb);
    struct bus_out o = {.subject = subject, .type = wire_type(message), .data = data, .len = len};
    if (insists)
        insist(k, &o, &a);
    else
        bus_request(k->bus, &o, k->c->answer_ms, on_reply, &a);
    /* The bus answers within answer_ms by itself; the extra time is only for its own timer. */
    bool ended = insists || loop_run_until(&k->loop, &a.done, k->c->answer_ms + CLOSE_MS);
    free(data);
    if (!ended || a.status == BUS_TIMEOUT)
        return cli_fail(k->c, CLI_UNREACHABLE,
                        "redoubt-%s did not answer in time: it is not known whether it was done; look with "
                        "`redoubt status`",
                        service);
    if (a.status == BUS_NO_RESPONDERS)
        return cli_fail(k->c, CLI_UNREACHABLE, "redoubt-%s does not run: nobody answers %s", service, subject);
    if (a.status != BUS_OK)
        return cli_fail(k->c, CLI_UNREACHABLE, "redoubt-%s: %s", service, bus_status_text(a.status));
    if (!a.reply)
        return cli_fail(k->c, CLI_FAILED, "redoubt-%s answered with something else than a CommandReply: %s", service,
                        a.e.text);
    *ret = a.reply;
    return CLI_OK;
}

int cli_ask(struct cli_link *k, const char *service, const char *verb, const void *message, PB(CommandReply) * *ret)
{
    return ask(k, service, verb, message, false, ret);
}

int cli_ask_again(struct cli_link *k, const char *service, const char *verb, const void *message,
                  PB(CommandReply) * *ret)
{
    return ask(k, service, verb, message, true, ret);
}

int cli_said(struct cli_link *k, const PB(CommandReply) * r)
{
    char text[1100];
    int code = CLI_OK;
    term_clean(r->message ? r->message : "", 0, text, sizeof text);
    switch (r->status) {
    case REDOUBT__V1__COMMAND_STATUS__COMMAND_STATUS_OK:
        printf("%s\n", *text ? text : "done");
        break;
    case REDOUBT__V1__COMMAND_STATUS__COMMAND_STATUS_ALREADY:
        printf("%s\n", *text ? text : "it was so already: nothing happened");
        break;
    default:
        code = cli_fail(k->c, CLI_REFUSED, "refused: %s",
                        *text ? text : wire_enum_name(&redoubt__v1__command_status__descriptor, (int)r->status));
    }
    return code;
}

static int order(struct cli_link *k, const char *service, const char *verb, const void *message, bool insists)
{
    PB(CommandReply) *r = NULL;
    int code = ask(k, service, verb, message, insists, &r);
    if (code == CLI_OK)
        code = cli_said(k, r);
    wire_free(r);
    return code;
}

int cli_order(struct cli_link *k, const char *service, const char *verb, const void *message)
{
    return order(k, service, verb, message, false);
}

int cli_give(struct cli *c, const char *service, const char *verb, const void *message)
{
    struct cli_link link;
    int code = cli_link_open(&link, c);
    if (code == CLI_OK)
        code = cli_order(&link, service, verb, message);
    cli_link_close(&link);
    return code;
}

int cli_insist(struct cli_link *k, const char *service, const char *verb, const void *message)
{
    return order(k, service, verb, message, true);
}

/* ---- gathering ---- */

struct gather {
    bus_handler fn;
    void *ctx;
    bool any;
};

static void on_gathered(void *ctx, const struct bus_msg *m)
{
    struct gather *g = ctx;
    g->any = true;
    if (m->len > 0) /* a server's "no responders" is an empty message */
        g->fn(g->ctx, m);
}

void cli_gather(struct cli_link *k, const char *subject, int64_t quiet_ms, int64_t limit_ms, bus_handler fn,
                void *ctx)
{
    cli_gather_of(k, subject, NULL, "", 0, quiet_ms, limit_ms, fn, ctx);
}

void cli_gather_of(struct cli_link *k, const char *subject, const char *type, const void *data, size_t len,
                   int64_t quiet_ms, int64_t limit_ms, bus_handler fn, void *ctx)
{
    char inbox[SUBJECT_MAX_LEN];
    struct gather g = {.fn = fn, .ctx = ctx};
    struct bus_sub *s = bus_subscribe(k->bus, cli_inbox(k, inbox), NULL, on_gathered, &g);
    struct bus_out o = {.subject = subject, .reply = inbox, .type = type, .data = data, .len = len};
    int64_t until = clock_mono_ms() + limit_ms;
    if (s && bus_publish(k->bus, &o, NULL) == 0) {
        /* Answers come in a burst: the wait ends when a whole quiet_ms brought none. The first may take the limit. */
        do {
            bool was_any = g.any;
            g.any = false;
            int64_t left = until - clock_mono_ms();
            loop_run_until(&k->loop, &g.any, was_any && quiet_ms < left ? quiet_ms : left);
        } while (g.any && clock_mono_ms() < until && !k->interrupted);
    }
    bus_unsubscribe(s);
}
