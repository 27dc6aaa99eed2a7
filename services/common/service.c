/* service.c - the skeleton of every service: start, run, reload, drain. */
#include "common/service.h"
#include "common/clock.h"
#include "common/log.h"
#include "common/metric.h"
#include "common/notify_impl.h"
#include "common/reread.h"
#include "common/subjects.h"
#include "common/trim.h"
#include <assert.h>
#include <getopt.h>
#include <inttypes.h>
#include <signal.h>
#include <sodium.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { EXIT_OK, EXIT_FAILED, EXIT_USAGE };
#define DRAIN_MS       4000  /* what a service may take to hand back its work: compose kills after 10 s */
#define FLUSH_MS       1000  /* each for outbox and bus */
#define ADOPT_EVERY_MS 10000 /* how often dead replicas are looked for */
#define ADOPT_NEXT_MS  20    /* after one of them */
#define TRIM_AFTER_MS  5000
#define BAD_INPUT_MS   10000 /* one line per kind of bad input in this time */
#define BAD_KINDS_MAX  32
#define DEFAULT_CONFIG "/etc/redoubt/redoubt.yaml"

METRIC_DEFINE(bad_input, METRIC_COUNTER, "redoubt_bad_input_total",
              "Messages refused because they break the contract.");
METRIC_DEFINE(tilts, METRIC_COUNTER, "redoubt_tilts_total", "Times that this service did not trust its own clock.");
METRIC_DEFINE(adopted, METRIC_COUNTER, "redoubt_replicas_adopted_total",
              "Outboxes of dead replicas that were taken over.");
METRIC_DEFINE(reloads, METRIC_COUNTER, "redoubt_reloads_total", "Settings files taken over while running.");

/* A subscription or command with its row of the table. */
struct hook {
    struct service *s;
    const struct service_sub *sub; /* or */
    const struct service_cmd *cmd;
    struct bus_sub *handle;
    struct bus_watch *watch;
    bool synced;
};
struct timer {
    struct service *s;
    const struct service_timer *row;
    struct loop_timer t;
};
struct bad_kind {
    const char *what;
    struct log_limit limit;
};
enum { SIGNALS = 3 };
static const int signals[SIGNALS] = {SIGTERM, SIGINT, SIGHUP};

struct runtime {
    const char *config_path;
    struct reread reread;
    struct hook *hooks;
    size_t n_hooks;
    struct timer *timers;
    struct loop_timer beat, adopt, trim, drain_limit;
    int adopt_from; /* index of the sibling that is looked at next */
    uv_signal_t signal[SIGNALS];
    struct bad_kind bad[BAD_KINDS_MAX];
    struct log_limit bus_errors;
    struct bus_service micro;
    const char **endpoints;
    char micro_name[80];
    bool started; /* desc->start succeeded */
    bool drained;
};

static struct runtime *rt(struct service *s)
{
    return s->priv;
}

/* ---- incoming ---- */

void service_bad_input(struct service *s, const char *what, const struct bus_msg *m, const char *why)
{
    metric_add(&bad_input, 1);
    struct runtime *r = rt(s);
    struct bad_kind *k = NULL;
    for (size_t i = 0; i < BAD_KINDS_MAX && !k; i++)
        if (!r->bad[i].what || r->bad[i].what == what)
            k = &r->bad[i];
    if (!k)
        k = &r->bad[BAD_KINDS_MAX - 1]; /* more kinds than that share one limit */
    k->what = what;
    uint64_t held = 0;
    if (log_allowed(&k->limit, clock_mono_ms(), BAD_INPUT_MS, &held))
        log_warn("bad input", F_STR("what", what), F_STR("subject", m ? m->subject : ""), F_STR("why", why),
                 F_INT("bytes", m ? m->len : 0), F_INT("held_back", held));
}

static void on_message(void *ctx, const struct bus_msg *m)
{
    struct hook *h = ctx;
    struct service *s = h->s;
    if (!h->sub->desc) {
        h->sub->fn(s, NULL, m);
        return;
    }
    struct err e;
    void *message = wire_unpack(h->sub->desc, m->data, m->len, &e);
    if (!message) {
        service_bad_input(s, h->sub->subject, m, e.text);
        return;
    }
    h->sub->fn(s, message, m);
    wire_free(message);
}

static void on_command(void *ctx, const struct bus_msg *m)
{
    struct hook *h = ctx;
    struct service *s = h->s;
    if (!m->reply) {
        service_bad_input(s, "command without reply subject", m, "send commands as requests");
        return;
    }
    if (!h->cmd->desc) {
        h->cmd->fn(s, NULL, m);
        return;
    }
    struct err e;
    void *message = wire_unpack(h->cmd->desc, m->data, m->len, &e);
    if (!message) {
        service_bad_input(s, h->cmd->verb, m, e.text);
        service_reply(s, m->reply, REDOUBT__V1__COMMAND_STATUS__COMMAND_STATUS_INVALID, 0, "%s", e.text);
        return;
    }
    h->cmd->fn(s, message, m);
    wire_free(message);
}

static void on_synced(void *ctx)
{
    struct hook *h = ctx;
    struct runtime *r = rt(h->s);
    h->synced = true;
    for (size_t i = 0; i < r->n_hooks; i++)
        if (r->hooks[i].watch && !r->hooks[i].synced)
            return;
    if (h->s->desc->on_watch_synced)
        h->s->desc->on_watch_synced(h->s);
}

void service_reply_message(struct service *s, const char *reply_to, const void *message)
{
    struct err e;
    size_t len;
    void *data = wire_pack(message, &len, &e);
    if (!data) {
        log_error("own reply is not valid", F_STR("type", wire_type(message)), F_STR("why", e.text));
        return;
    }
    struct bus_out o = {.subject = reply_to, .type = wire_type(message), .data = data, .len = len};
    if (bus_publish(s->bus, &o, &e))
        log_warn("reply lost", F_STR("why", e.text));
    free(data);
}

void service_reply(struct service *s, const char *reply_to, int command_status, uint64_t epoch, const char *fmt, ...)
{
    char text[1024];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    PB(CommandReply) reply = REDOUBT__V1__COMMAND_REPLY__INIT;
    reply.status = (Redoubt__V1__CommandStatus)command_status;
    reply.epoch = epoch;
    reply.message = text;
    service_reply_message(s, reply_to, &reply);
}

/* ---- connections ---- */

static void on_bus_up(void *ctx)
{
    struct service *s = ctx;
    log_info("bus connected");
    if (s->desc->on_bus_up)
        s->desc->on_bus_up(s);
}

static void on_bus_down(void *ctx)
{
    struct service *s = ctx;
    struct runtime *r = rt(s);
    for (size_t i = 0; i < r->n_hooks; i++)
        r->hooks[i].synced = false;
    log_warn("bus lost", F_STR("next", "reconnecting; the outbox keeps what must not be lost"));
    if (s->desc->on_bus_down)
        s->desc->on_bus_down(s);
}

static void on_bus_turn(void *ctx)
{
    struct service *s = ctx;
    if (s->state)
        s->desc->on_bus_turn(s);
}

static void on_bus_error(void *ctx, const char *what)
{
    struct service *s = ctx;
    uint64_t held = 0;
    if (log_allowed(&rt(s)->bus_errors, clock_mono_ms(), BAD_INPUT_MS, &held))
        log_warn("bus trouble", F_STR("what", what), F_INT("held_back", held));
}

static void on_store_up(void *ctx)
{
    struct service *s = ctx;
    log_info("store connected");
    if (s->desc->on_store_up)
        s->desc->on_store_up(s);
}

static void on_store_down(void *ctx)
{
    struct service *s = ctx;
    log_warn("store lost", F_STR("next", "reconnecting; nothing gets looser meanwhile"));
    if (s->desc->on_store_down)
        s->desc->on_store_down(s);
}

/* ---- timers ---- */

bool service_tilted(const struct service *s)
{
    return tilt_on(&s->loop.tilt, clock_mono_ms());
}

static void on_beat(void *ctx)
{
    struct service *s = ctx;
    if (tilt_beat(&s->loop.tilt, clock_mono_ms(), clock_wall_ms(), s->settings->tilt_hold_ms)) {
        metric_add(&tilts, 1);
        clock_shared_anchor();
        log_warn("tilt: the clock jumped or the process stood still; watching on, but taking no action",
                 F_INT("hold_ms", s->settings->tilt_hold_ms));
    }
}

static void on_timer(void *ctx)
{
    struct timer *t = ctx;
    if (!t->s->draining)
        t->row->fn(t->s);
}

/* One at a time, so that the loop goes on in between; the next at once, for there may be many. One that cannot be taken over keeps no other from it. */
static void on_adopt(void *ctx)
{
    struct service *s = ctx;
    struct runtime *r = rt(s);
    struct replica dead;
    if (s->draining)
        return;
    if (!replica_find_dead(&s->replica, r->adopt_from, &dead)) {
        r->adopt_from = 0;
        loop_timer_start(&r->adopt, ADOPT_EVERY_MS, 0);
        return;
    }
    struct err e;
    if (outbox_adopt(s->outbox, dead.dir, &e)) {
        log_error("cannot take over the outbox of a dead replica", F_STR("dir", dead.dir), F_STR("why", e.text));
    } else {
        metric_add(&adopted, 1);
        log_info("took over the outbox of a dead replica", F_STR("dir", dead.dir));
    }
    replica_release(&dead);
    r->adopt_from = dead.index + 1;
    loop_timer_start(&r->adopt, ADOPT_NEXT_MS, 0);
}

static void on_trim(void *ctx)
{
    (void)ctx;
    trim_startup_pages();
}

/* ---- reload ---- */

static void print_report(const struct conf_report *r)
{
    for (size_t i = 0; i < r->n; i++)
        fprintf(stderr, "%s\n", r->lines[i]);
}

static struct settings *load_settings(const struct service_desc *d, const char *path, struct conf_report *report)
{
    struct settings *s = settings_load(path, report);
    if (s && d->check && !d->check(s, report)) {
        settings_free(s);
        return NULL;
    }
    return s;
}

static void reload(struct service *s)
{
    struct runtime *r = rt(s);
    struct conf_report report = {0};
    reread_note(&r->reread, r->config_path);
    struct settings *fresh = load_settings(s->desc, r->config_path, &report);
    if (!fresh || !conf_may_reload(&settings_schema, s->settings, fresh, &report)) {
        for (size_t i = 0; i < report.n; i++)
            log_error("settings not reloaded; the old ones stay", F_STR("problem", report.lines[i]));
        settings_free(fresh);
    } else {
        struct settings *was = s->settings;
        s->settings = fresh;
        log_init(s->desc->name, (enum log_level)fresh->log.level, (enum log_format)fresh->log.format);
        if (s->desc->on_reload)
            s->desc->on_reload(s, was);
        settings_free(was);
        metric_add(&reloads, 1);
        loop_timer_start(&r->trim, TRIM_AFTER_MS, 0); /* reading a big file takes many times the memory that stays */
        log_info("settings reloaded", F_STR("file", r->config_path));
    }
    conf_report_free(&report);
}

const char *service_config_path(const struct service *s)
{
    return ((const struct runtime *)s->priv)->config_path;
}

/* ---- the way down: drain, flush, close, each when the one before is done ---- */

static void bus_closed(void *ctx)
{
    struct service *s = ctx;
    s->bus = NULL;
    loop_stop(&s->loop);
}

static void store_closed(void *ctx)
{
    struct service *s = ctx;
    s->store = NULL;
    bus_close(s->bus, FLUSH_MS, bus_closed, s);
}

static void http_closed(void *ctx)
{
    struct service *s = ctx;
    s->http = NULL;
    if (s->store)
        store_close(s->store, store_closed, s);
    else
        store_closed(s);
}

static void alerts_closed(void *ctx)
{
    struct service *s = ctx;
    s->alerts = NULL;
    if (s->http)
        http_close(s->http, http_closed, s);
    else
        http_closed(s);
}

static void outbox_closed(void *ctx)
{
    struct service *s = ctx;
    struct runtime *r = rt(s);
    s->outbox = NULL;
    if (r->started && s->desc->stop)
        s->desc->stop(s);
    reread_close(&r->reread);
    for (size_t i = 0; i < r->n_hooks; i++) {
        bus_unsubscribe(r->hooks[i].handle);
        if (r->hooks[i].watch)
            bus_watch_close(r->hooks[i].watch);
    }
    notify_alerts_close(s->alerts, alerts_closed, s);
}

void service_drained(struct service *s)
{
    struct runtime *r = rt(s);
    if (r->drained)
        return;
    r->drained = true;
    loop_timer_stop(&r->drain_limit);
    if (s->outbox)
        outbox_close(s->outbox, FLUSH_MS, outbox_closed, s);
    else
        outbox_closed(s);
}

static void drain_overdue(void *ctx)
{
    struct service *s = ctx;
    log_warn("work in hand after the drain limit; it is handed back by time-out", F_INT("limit_ms", DRAIN_MS));
    service_drained(s);
}

static void drain(struct service *s)
{
    struct runtime *r = rt(s);
    s->draining = true;
    log_info("draining");
    for (size_t i = 0; i < r->n_hooks; i++) {
        struct hook *h = &r->hooks[i];
        if (h->cmd || h->sub->kind == SERVICE_SUB_QUEUE) {
            bus_unsubscribe(h->handle);
            h->handle = NULL;
        }
    }
    loop_timer_start(&r->drain_limit, DRAIN_MS, 0);
    if (s->desc->drain)
        s->desc->drain(s);
    else
        service_drained(s);
}

/* A reload or an end that is asked for while the service starts waits until it can be heard: without a handler it would kill. */
static void hold_signals(int how)
{
    sigset_t set;
    sigemptyset(&set);
    for (int i = 0; i < SIGNALS; i++)
        sigaddset(&set, signals[i]);
    (void)sigprocmask(how, &set, NULL);
}

static void on_signal(uv_signal_t *h, int signum)
{
    struct service *s = h->data;
    if (signum == SIGHUP) {
        if (!s->draining)
            reload(s);
    } else if (!s->draining) {
        drain(s);
    } else {
        /* Nothing is lost: what was accepted is in files and in Redis. No tidying either: threads of the bus are still about. */
        log_warn("second signal: leaving at once");
        _exit(EXIT_FAILED);
    }
}

/* ---- the way up ---- */

static int open_connections(struct service *s, struct err *e)
{
    const struct settings *c = s->settings;
    char inbox[80], name[80];
    snprintf(inbox, sizeof inbox, "_INBOX_%s", s->desc->name);
    snprintf(name, sizeof name, "%s/%s", s->desc->name, s->instance);
    struct bus_opts bo = {.url = c->nats.url,
                          .name = name,
                          .user = c->nats.user,
                          .password = c->nats.password,
                          .token = c->nats.token,
                          .tls_ca_file = c->nats.tls_ca_file,
                          .inbox_prefix = inbox,
                          .queue_max = (size_t)c->nats.queue_max,
                          .stream_replicas = (int)c->nats.replicas,
                          .on_up = on_bus_up,
                          .on_down = on_bus_down,
                          .on_turn = s->desc->on_bus_turn ? on_bus_turn : NULL,
                          .on_error = on_bus_error,
                          .ctx = s};
    if (!(s->bus = bus_open(&s->loop, &bo, e)))
        return -1;
    if (s->desc->needs & SERVICE_STORE) {
        struct store_opts so = {.host = c->redis.host,
                                .port = (int)c->redis.port,
                                .sentinels = c->redis.sentinels,
                                .sentinel_master = c->redis.sentinel_master,
                                .user = c->redis.user,
                                .password = c->redis.password,
                                .db = (int)c->redis.db,
                                .command_timeout_ms = c->redis.timeout_ms,
                                .on_up = on_store_up,
                                .on_down = on_store_down,
                                .ctx = s};
        if (!(s->store = store_open(&s->loop, &so, e)))
            return -1;
    }
    if ((s->desc->needs & SERVICE_HTTP) && !(s->http = http_open(&s->loop, e)))
        return -1;
    if (s->desc->needs & SERVICE_OUTBOX) {
        struct outbox_opts oo = {.dir = s->replica.dir, .bus = s->bus};
        if (!(s->outbox = outbox_open(&s->loop, &oo, e)))
            return -1;
        if (!(s->alerts = notify_alerts_open(s)))
            return err_set(e, "out of memory");
    }
    return 0;
}

static int hook_up(struct service *s, struct err *e)
{
    const struct service_desc *d = s->desc;
    struct runtime *r = rt(s);
    r->hooks = calloc(d->n_subs + d->n_cmds + 1, sizeof *r->hooks);
    r->endpoints = calloc(d->n_subs + d->n_cmds + 1, sizeof *r->endpoints);
    if (!r->hooks || !r->endpoints)
        return err_set(e, "out of memory");
    for (size_t i = 0; i < d->n_subs + d->n_cmds; i++) {
        struct hook *h = &r->hooks[r->n_hooks++];
        char subject[SUBJECT_MAX_LEN];
        if (i < d->n_subs) {
            *h = (struct hook){.s = s, .sub = &d->subs[i]};
            snprintf(subject, sizeof subject, "%s", h->sub->subject);
        } else {
            *h = (struct hook){.s = s, .cmd = &d->cmds[i - d->n_subs]};
            snprintf(subject, sizeof subject, "%s%s.%s", SUBJECT_CMD, d->name, h->cmd->verb);
        }
        if (h->sub && h->sub->kind == SERVICE_SUB_WATCH) {
            h->watch = bus_watch(s->bus, subject, 0, on_message, on_synced, h);
        } else {
            const char *queue = h->cmd || h->sub->kind == SERVICE_SUB_QUEUE ? d->name : NULL;
            h->handle = bus_subscribe(s->bus, subject, queue, h->cmd ? on_command : on_message, h);
        }
        if (!h->watch && !h->handle)
            return err_set(e, "cannot subscribe to %s", subject);
        if (!(r->endpoints[i] = strdup(subject)))
            return err_set(e, "out of memory");
    }
    if (reread_open(&r->reread, s, reload, e))
        return -1;
    snprintf(r->micro_name, sizeof r->micro_name, "redoubt-%s", d->name);
    r->micro = (struct bus_service){.name = r->micro_name,
                                    .version = REDOUBT_VERSION,
                                    .description = d->description,
                                    .id = s->instance,
                                    .endpoints = r->endpoints};
    return bus_serve(s->bus, &r->micro);
}

static int start_timers(struct service *s, struct err *e)
{
    struct runtime *r = rt(s);
    r->timers = calloc(s->desc->n_timers + 1, sizeof *r->timers);
    if (!r->timers)
        return err_set(e, "out of memory");
    for (size_t i = 0; i < s->desc->n_timers; i++) {
        struct timer *t = &r->timers[i];
        *t = (struct timer){.s = s, .row = &s->desc->timers[i]};
        loop_timer_init(&s->loop, &t->t, on_timer, t);
        loop_timer_start(&t->t, t->row->every_ms, t->row->every_ms);
    }
    loop_timer_init(&s->loop, &r->beat, on_beat, s);
    loop_timer_start(&r->beat, 0, TILT_BEAT_MS); /* the first at once: a pause right after the start is one, too */
    loop_timer_init(&s->loop, &r->drain_limit, drain_overdue, s);
    loop_timer_init(&s->loop, &r->adopt, on_adopt, s);
    if (s->outbox)
        loop_timer_start(&r->adopt, ADOPT_EVERY_MS, 0);
    loop_timer_init(&s->loop, &r->trim, on_trim, s);
    loop_timer_start(&r->trim, TRIM_AFTER_MS, 0);
    for (int i = 0; i < SIGNALS; i++) {
        uv_signal_init(&s->loop.uv, &r->signal[i]);
        r->signal[i].data = s;
        uv_signal_start(&r->signal[i], on_signal, signals[i]);
    }
    hold_signals(SIG_UNBLOCK);
    return 0;
}

static void usage(const struct service_desc *d, FILE *out)
{
    fprintf(out,
            "redoubt-%s %s - %s\n\n"
            "usage: redoubt-%s [-c FILE] [--check]\n"
            "  -c, --config FILE  settings (default: $REDOUBT_CONFIG, then %s)\n"
            "      --check        read the settings, say what is wrong with them, and end\n"
            "      --version      the version\n"
            "  -h, --help         this text\n\n"
            "signals: SIGTERM and SIGINT drain and end, SIGHUP reads the settings again.\n"
            "exit codes: 0 drained, 1 failed, 2 wrong usage or settings.\n",
            d->name, REDOUBT_VERSION, d->description, d->name, DEFAULT_CONFIG);
}

/* -1 = go on; otherwise the exit code. */
static int parse_options(int argc, char **argv, const struct service_desc *d, struct runtime *r, bool *ret_check)
{
    static const struct option options[] = {{"config", required_argument, NULL, 'c'},
                                            {"check", no_argument, NULL, 'k'},
                                            {"version", no_argument, NULL, 'v'},
                                            {"help", no_argument, NULL, 'h'},
                                            {0}};
    r->config_path = getenv("REDOUBT_CONFIG");
    if (!r->config_path || !*r->config_path)
        r->config_path = DEFAULT_CONFIG;
    for (int c; (c = getopt_long(argc, argv, "c:h", options, NULL)) != -1;) {
        switch (c) {
        case 'c':
            r->config_path = optarg;
            break;
        case 'k':
            *ret_check = true;
            break;
        case 'v':
            printf("redoubt-%s %s\n", d->name, REDOUBT_VERSION);
            return EXIT_OK;
        case 'h':
            usage(d, stdout);
            return EXIT_OK;
        default:
            usage(d, stderr);
            return EXIT_USAGE;
        }
    }
    if (optind < argc) {
        fprintf(stderr, "redoubt-%s: unexpected argument %s\n", d->name, argv[optind]);
        usage(d, stderr);
        return EXIT_USAGE;
    }
    return -1;
}

static void free_runtime(struct service *s)
{
    struct runtime *r = rt(s);
    for (size_t i = 0; r->endpoints && r->endpoints[i]; i++)
        free((char *)r->endpoints[i]);
    free(r->endpoints);
    free(r->hooks);
    free(r->timers);
    settings_free(s->settings);
}

static int run(struct service *s)
{
    struct runtime *r = rt(s);
    struct err e = {""};
    if (replica_claim(&s->replica, s->settings->data_dir, s->desc->name, &e) ||
        (loop_init(&s->loop) && err_set(&e, "no event loop"))) {
        log_error("cannot start", F_STR("why", e.text));
        return EXIT_FAILED;
    }
    s->instance = s->replica.instance;
    log_instance(s->instance);
    clock_shared_anchor();
    if (open_connections(s, &e) || (s->desc->start && s->desc->start(s, &e)) || !(r->started = true) ||
        hook_up(s, &e) || start_timers(s, &e)) {
        /* Nothing was promised yet: the process ends, and the kernel closes what is open. */
        log_error("cannot start", F_STR("why", e.text));
        return EXIT_FAILED;
    }
    if (replica_say(&s->replica, s->desc->name, getenv("REDOUBT_INSTANCE_FILE"), &e))
        log_warn("cannot say who this is", F_STR("why", e.text));
    log_info("started", F_STR("version", REDOUBT_VERSION), F_STR("dir", s->replica.dir));
    loop_run(&s->loop);
    loop_done(&s->loop);
    replica_release(&s->replica);
    if (s->gap.lost)
        log_error("audit records are missing, and nothing got through that could say so",
                  F_INT("records", s->gap.lost), F_STR("why", s->gap.why));
    log_info("ended");
    return EXIT_OK;
}

int service_main(int argc, char **argv, const struct service_desc *d)
{
    struct runtime r = {0};
    struct service s = {.desc = d, .priv = &r, .replica.lock_fd = -1};
    bool check = false;
    int code = parse_options(argc, argv, d, &r, &check);
    if (code >= 0)
        return code;
    hold_signals(SIG_BLOCK);
    if (sodium_init() < 0) {
        fprintf(stderr, "redoubt-%s: no source of randomness\n", d->name);
        return EXIT_FAILED;
    }
    struct conf_report report = {0};
    reread_note(&r.reread, r.config_path);
    s.settings = load_settings(d, r.config_path, &report);
    print_report(&report);
    conf_report_free(&report);
    if (!s.settings || check) {
        code = s.settings ? EXIT_OK : EXIT_USAGE;
        settings_free(s.settings);
        return code;
    }
    (void)signal(SIGPIPE, SIG_IGN);
    (void)signal(SIGXFSZ, SIG_IGN); /* a limit on files is a write that fails, not the end */
    unsigned char raw[8];
    randombytes_buf(raw, sizeof raw);
    sodium_bin2hex(s.boot_id, sizeof s.boot_id, raw, sizeof raw);
    log_init(d->name, (enum log_level)s.settings->log.level, (enum log_format)s.settings->log.format);
    code = run(&s);
    free_runtime(&s);
    return code;
}
