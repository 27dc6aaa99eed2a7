/* recover_state.c - NATS' streams and Redis' keys saved and restored by a command that waits; and the record of it. */
#include "cli/cli_bus.h"
#include "cli/recover.h"
#include "common/hostport.h"
#include "common/store.h"
#include "continuity/backup_nats.h"
#include "continuity/backup_redis.h"
#include <sodium.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define PBE(x) REDOUBT__V1__##x

#define CONNECT_MS 5000
#define CLOSE_MS   5000
#define COMMAND_MS 30000
#define RECORD_MS  10000
#define FOR_EVER   (INT64_MAX / 2)

struct run {
    const struct recover_state *x;
    struct recover_state_end *ret;
    bool done;
};

static void on_end(void *ctx, const struct backup_copy_end *r)
{
    struct run *run = ctx;
    *run->ret = (struct recover_state_end){.ok = r->ok, .refused = r->refused, .sum = r->sum};
    snprintf(run->ret->text, sizeof run->ret->text, "%s", r->text);
    run->done = true;
}

static void on_say(void *ctx, const char *text)
{
    const struct run *run = ctx;
    if (run->x->say)
        printf("  %s\n", text);
}

static void set_true(void *ctx)
{
    *(bool *)ctx = true;
}

/* A link by the settings, or by the address alone. What it says on stderr is said by the caller, too: it names the step. */
static int open_link(struct cli_link *k, struct cli *copy, const struct recover_state *x)
{
    *copy = *x->c;
    copy->config_path = x->config;
    copy->nats_url = x->nats;
    copy->timeout_ms = CONNECT_MS;
    return cli_link_open(k, copy);
}

static const char *trouble(const struct cli_link *k)
{
    return *k->trouble ? k->trouble : "no NATS server with JetStream answers: start it, or name it with --nats";
}

void recover_nats(const struct recover_state *x, bool restore, struct recover_state_end *ret)
{
    struct cli_link k;
    struct cli copy;
    struct run run = {.x = x, .ret = ret};
    *ret = (struct recover_state_end){0};
    if (open_link(&k, &copy, x) != CLI_OK) {
        snprintf(ret->text, sizeof ret->text, "NATS: %.400s", trouble(&k));
        cli_link_close(&k);
        return;
    }
    struct backup_nats_opts o = {.loop = &k.loop, .bus = k.bus, .dir = x->dir, .force = x->force, .say = on_say};
    if (k.settings)
        o.replicas = (int)k.settings->nats.replicas;
    if (restore)
        (void)backup_nats_restore(&o, on_end, &run);
    else
        (void)backup_nats_save(&o, on_end, &run);
    (void)loop_run_until(&k.loop, &run.done, FOR_EVER);
    cli_link_close(&k);
}

static int address(const struct recover_state *x, const struct settings *s, char host[static HOSTPORT_HOST_MAX],
                   int *ret_port, struct err *e)
{
    *ret_port = s ? (int)s->redis.port : 6379;
    snprintf(host, HOSTPORT_HOST_MAX, "%s", s ? s->redis.host : "127.0.0.1");
    if (x->redis && hostport_split(x->redis, 6379, host, ret_port))
        return err_set(e, "--redis: found `%.100s`; allowed: HOST:PORT", x->redis);
    return x->redis || s ? 0 : err_set(e, "--redis HOST:PORT: no settings say where Redis is");
}

void recover_redis(const struct recover_state *x, bool restore, struct recover_state_end *ret)
{
    struct loop loop;
    struct run run = {.x = x, .ret = ret};
    struct cli copy = *x->c;
    struct settings *s = NULL;
    struct err e = {""};
    char host[HOSTPORT_HOST_MAX];
    int port;
    bool up = false, closed = false;
    *ret = (struct recover_state_end){0};
    copy.config_path = x->config;
    if (x->config && !(s = cli_settings(&copy))) {
        snprintf(ret->text, sizeof ret->text, "%.300s has mistakes", x->config);
        return;
    }
    if (address(x, s, host, &port, &e) || loop_init(&loop)) {
        snprintf(ret->text, sizeof ret->text, "%s", *e.text ? e.text : "no event loop");
        settings_free(s);
        return;
    }
    struct store *store = store_open(&loop,
                                     &(struct store_opts){.host = host,
                                                          .port = port,
                                                          .sentinels = x->redis || !s ? NULL : s->redis.sentinels,
                                                          .sentinel_master = s ? s->redis.sentinel_master : NULL,
                                                          .user = s ? s->redis.user : NULL,
                                                          .password = s ? s->redis.password : NULL,
                                                          .db = s ? (int)s->redis.db : 0,
                                                          .command_timeout_ms = COMMAND_MS,
                                                          .on_up = set_true,
                                                          .ctx = &up},
                                     &e);
    if (!store || !loop_run_until(&loop, &up, CONNECT_MS)) {
        bool sought = !x->redis && s && *s->redis.sentinels;
        char where[HOSTPORT_HOST_MAX + 8];
        snprintf(where, sizeof where, "%s:%d", host, port);
        if (sought)
            snprintf(where, sizeof where, "%s", s->redis.sentinels);
        snprintf(ret->text, sizeof ret->text, "no Redis answers %s %.100s: %.200s. Start it, or name it with --redis",
                 sought ? "by the Sentinels" : "at", where, store ? store_last_error(store) : e.text);
    } else {
        struct backup_redis_opts o = {.loop = &loop, .store = store, .dir = x->dir, .force = x->force};
        if (restore)
            (void)backup_redis_restore(&o, on_end, &run);
        else
            (void)backup_redis_save(&o, on_end, &run);
        (void)loop_run_until(&loop, &run.done, FOR_EVER);
    }
    if (store) {
        store_close(store, set_true, &closed);
        (void)loop_run_until(&loop, &closed, CLOSE_MS);
    }
    loop_done(&loop);
    settings_free(s);
}

/* ---- the record ---- */

struct stored {
    bool done, ok;
    struct err e;
};

static void on_stored(void *ctx, const struct bus_stored *r)
{
    struct stored *s = ctx;
    s->done = true;
    s->ok = r->status == BUS_OK;
    err_set(&s->e, "%s", *r->error ? r->error : bus_status_text(r->status));
}

int recover_record(const struct recover_state *x, const char *action, const char *by, const char *reason, bool ok,
                   const char *detail, struct err *e)
{
    struct cli_link k;
    struct cli copy;
    struct stored stored = {0};
    char id[48], host[64] = "";
    PB(AuditRecord) r = PB_INIT(AUDIT_RECORD);
    if (open_link(&k, &copy, x) != CLI_OK) {
        err_set(e, "%.400s", trouble(&k));
        cli_link_close(&k);
        return -1;
    }
    (void)gethostname(host, sizeof host - 1);
    snprintf(id, sizeof id, "cli-%08x%08x%08x%08x", randombytes_random(), randombytes_random(), randombytes_random(),
             randombytes_random());
    PB(Label) label = PB_INIT(LABEL), *fields = &label;
    label.key = (char *)"reason";
    label.value = (char *)reason;
    r.id = id;
    r.at_unix_ms = clock_wall_ms();
    r.at_mono_ns = clock_mono_ns();
    r.service = (char *)"cli";
    r.instance = host;
    r.audit_class = PBE(AUDIT_CLASS__AUDIT_CLASS_STRICT);
    r.action = (char *)action;
    r.actor = (char *)by;
    r.subject = (char *)"suite";
    r.outcome = ok ? PBE(AUDIT_OUTCOME__AUDIT_OUTCOME_DONE) : PBE(AUDIT_OUTCOME__AUDIT_OUTCOME_FAILED);
    r.detail = (char *)detail;
    r.fields = &fields;
    r.n_fields = *reason ? 1 : 0;
    size_t len;
    void *data = wire_pack(&r, &len, e);
    if (data) {
        struct bus_out o = {
            .subject = SUBJECT_AUDIT "cli", .id = id, .type = wire_type(&r), .data = data, .len = len};
        bus_store(k.bus, &o, RECORD_MS, on_stored, &stored);
        (void)loop_run_until(&k.loop, &stored.done, 2 * RECORD_MS);
        if (!stored.ok)
            err_set(e, "%s", stored.e.text);
    }
    free(data);
    cli_link_close(&k);
    return stored.ok ? 0 : -1;
}
