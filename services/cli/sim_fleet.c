/* sim_fleet.c - many simulated agents in one process, on one connection and one loop. One JSON line per second on stdout.
 *
 * Each agent has a client_gate of its own (each epoch once, in growing order), acknowledges, sends heartbeats spread over the interval, and,
 * if asked to, reports calls and acts through the guard. SIGUSR1 prints a line at once and begins the figures anew. */
#include "cli/sim_fleet.h"
#include "common/clock.h"
#include <signal.h>
#include <sodium.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define TICK_MS   10
#define SECOND_MS 1000
#define CLOSE_MS  1000

static void set_true(void *ctx)
{
    *(bool *)ctx = true;
}

static void stop(void *ctx)
{
    struct fleet *f = ctx;
    f->stopping = true;
    loop_stop(&f->loop);
}

static void on_signal(uv_signal_t *h, int signum)
{
    struct fleet *f = h->data;
    if (signum == SIGUSR1) {
        fleet_print(f, "mark");
        fleet_mark(f);
    } else {
        stop(f);
    }
}

static void on_tick(void *ctx)
{
    struct fleet *f = ctx;
    if (!f->stopping)
        fleet_speak(f);
}

static void on_second(void *ctx)
{
    struct fleet *f = ctx;
    fleet_leases(f);
    fleet_print(f, "fleet");
}

static void on_up(void *ctx)
{
    fleet_up(ctx);
}

static void on_down(void *ctx)
{
    fleet_down(ctx);
}

static void on_turn(void *ctx)
{
    fleet_turn(ctx);
}

/* ---- start and end ---- */

static int gather(struct fleet *f)
{
    bool from_settings = !f->o->prefix_given;
    size_t have = from_settings ? f->settings->agents.n : (size_t)f->o->n;
    f->n = f->o->n > 0 && (size_t)f->o->n < have ? (size_t)f->o->n : have;
    if (f->n == 0)
        return cli_fail(f->c, CLI_USAGE, "no agents: the settings have none; or give --prefix and -n");
    if (f->o->n > 0 && f->n < (size_t)f->o->n)
        return cli_fail(f->c, CLI_USAGE, "the settings have only %zu agents", f->n);
    if (!(f->agents = calloc(f->n, sizeof *f->agents)))
        return cli_fail(f->c, CLI_FAILED, "out of memory");
    int64_t now = clock_mono_ms();
    for (size_t i = 0; i < f->n; i++) {
        struct fleet_agent *a = &f->agents[i], *other;
        if (from_settings)
            snprintf(a->name, sizeof a->name, "%s", CONF_AT(f->settings->agents, struct set_agent, i)->name);
        else
            fleet_name(f->o->prefix, i, a->name);
        HASH_FIND_STR(f->by_name, a->name, other);
        if (other || !name_token_ok(a->name))
            return cli_fail(f->c, CLI_USAGE, "`%s` is no name for an agent", a->name);
        a->posture = a->before = REDOUBT_FROZEN; /* until the first directive */
        client_gate_init(&a->gate, now);
        HASH_ADD_STR(f->by_name, name, a);
    }
    return CLI_OK;
}

static int start(struct fleet *f)
{
    struct err e = {""};
    uint64_t boot;
    if (sodium_init() < 0)
        return cli_fail(f->c, CLI_FAILED, "no source of randomness");
    randombytes_buf(&boot, sizeof boot);
    snprintf(f->boot, sizeof f->boot, "%016llx", (unsigned long long)boot);
    snprintf(f->instance, sizeof f->instance, "fleet-%d", (int)getpid());
    if (loop_init(&f->loop))
        return cli_fail(f->c, CLI_FAILED, "no event loop");
    static const int caught[3] = {SIGINT, SIGTERM, SIGUSR1};
    for (int i = 0; i < 3; i++) {
        uv_signal_init(&f->loop.uv, &f->signals[i]);
        f->signals[i].data = f;
        uv_signal_start(&f->signals[i], on_signal, caught[i]);
    }
    loop_timer_init(&f->loop, &f->tick, on_tick, f);
    loop_timer_init(&f->loop, &f->second, on_second, f);
    loop_timer_init(&f->loop, &f->limit, stop, f);
    const struct set_nats *n = f->settings ? &f->settings->nats : NULL;
    const char *env = getenv("REDOUBT_NATS");
    const struct bus_opts o = {.url = f->c->nats_url                      ? f->c->nats_url
                                      : !f->c->config_path && env && *env ? env
                                                                          : n->url,
                               .name = "redoubt sim fleet",
                               .user = n ? n->user : NULL,
                               .password = n ? n->password : NULL,
                               .token = n ? n->token : NULL,
                               .tls_ca_file = n ? n->tls_ca_file : NULL,
                               .inbox_prefix = "_INBOX_agent.fleet",
                               .guest = true,
                               .on_up = on_up,
                               .on_down = on_down,
                               .on_turn = on_turn,
                               .ctx = f};
    f->bus = bus_open(&f->loop, &o, &e);
    if (!f->bus)
        return cli_fail(f->c, CLI_USAGE, "%s", e.text);
    fleet_deeds_init(f);
    f->deeds.bus = f->bus;
    if (fleet_listen(f))
        return cli_fail(f->c, CLI_FAILED, "cannot watch directives: out of memory");
    f->began_ms = clock_mono_ms();
    fleet_mark(f);
    loop_timer_start(&f->tick, TICK_MS, TICK_MS);
    loop_timer_start(&f->second, SECOND_MS, SECOND_MS);
    if (f->o->for_ms > 0)
        loop_timer_start(&f->limit, f->o->for_ms, 0);
    return CLI_OK;
}

/* Also for a fleet that was only half started. */
static void end(struct fleet *f)
{
    bool closed = false;
    f->stopping = true;
    if (f->bus) {
        client_deeds_end(&f->deeds);
        bus_close(f->bus, CLOSE_MS, set_true, &closed);
        loop_run_until(&f->loop, &closed, 2 * CLOSE_MS);
        f->bus = NULL;
    }
    if (f->loop.priv)
        loop_done(&f->loop);
}

int cmd_sim_fleet(struct cli *c, const void *opts, int argc, char **argv)
{
    (void)argc;
    (void)argv;
    const struct opts_sim_fleet *o = opts;
    struct opts_sim_fleet own = *o;
    own.prefix_given = o->prefix != NULL;
    own.prefix = o->prefix ? o->prefix : "agent-";
    if (own.print_settings) {
        own.n = own.n ? own.n : 1000;
        return fleet_print_settings(c, &own);
    }
    if (own.prefix_given && own.n == 0)
        own.n = 1000;
    struct fleet *f = calloc(1, sizeof *f);
    if (!f)
        return cli_fail(c, CLI_FAILED, "out of memory");
    f->c = c;
    f->o = &own;
    const char *env = getenv("REDOUBT_NATS");
    bool url_known = c->nats_url || (!c->config_path && env && *env);
    int code = CLI_USAGE;
    if ((own.prefix_given && url_known) || (f->settings = cli_settings(c))) {
        code = gather(f);
        if (code == CLI_OK)
            code = start(f);
        if (code == CLI_OK)
            loop_run(&f->loop);
        end(f);
        if (code == CLI_OK)
            fleet_print(f, "end");
    }
    HASH_CLEAR(hh, f->by_name);
    settings_free(f->settings);
    free(f->agents);
    free(f->marked.ms);
    free(f);
    return code;
}
